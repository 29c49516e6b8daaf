#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance_calendar_info
short_description: Maintenance windows and freezes, now and in the coming months
description:
  - Reads the calendar of an inventory, and says which window is open, what is left of it, when the next one begins,
    what collides, and which playbook may run now. It writes nothing.
  - Where the options name a state store, it says of each window ahead that people have to be told of (quarterly and
    single ones) whether they were told, when and where.
  - A mistake in the calendar is refused in one sentence, with the fix.
  - M(runbook_preflight) is what refuses a run outside of its window.
options:
  calendar:
    description:
      - Windows and freezes. Empty is no calendar, so that every hour is open; in production it is refused.
      - C(windows) is a list. Each has a C(kind) and an C(id) (small letters, digits, - and _; no two share one).
      - A C(weekly) window has C(weekday), C(begin) and C(end), times in quotes such as V("02:00"). A C(monthly) one has
        C(week) too, which such day of the month it is, V(1) to V(4) or V(last). C(ends_next_day=true) lets one run over
        midnight.
      - A C(quarterly) window has C(begin) and C(end) with their dates, V("2027-01-17 02:00"), and C(announced_at), the
        day on which people were told; at least 14 days before. One of kind C(once) has C(begin) and C(end) alone.
      - C(timezone) is the name of a time zone, such as V(Europe/Berlin); UTC where it is left out. A time that a clock
        change skips counts as if the clock had not been changed yet; of one that happens twice the first counts
        (RFC 5545, 3.3.5).
      - On one day the larger recurring window takes the place of the smaller, C(quarterly) before C(monthly) before
        C(weekly). A window serves what needs its kind or a smaller one; C(once) serves all, and takes nobody's place.
      - C(freezes) is a list of spans in which nothing is changed, whatever window is open. Each has C(id), C(begin) and
        C(end) with their dates, C(scope) (V(all), which is every playbook that needs a window, or a list of playbooks),
        C(reason), C(owner) (who may lift it), and may have a C(timezone).
    type: dict
    default: {}
  operations:
    description:
      - Which window a playbook needs, where that differs from the project's own choice; as in M(runbook_preflight). A
        name that looks like a misspelt one is a warning.
    type: dict
    default: {}
  environment:
    description:
      - What the inventory is, V(sandbox), V(staging) or V(production); a part of what the events are called.
    type: str
    required: true
  days:
    description:
      - How many days it looks ahead from the last midnight in UTC, 1 to 366.
    type: int
    default: 92
  require_announced:
    description:
      - Whether it is V(breach) that a window was to be announced by now and was not, or a quarterly one less than 14
        days before. It needs the state store.
    type: bool
    default: false
  announced_by:
    description:
      - Backends of the status page and of the team. Where all are V(none), the real run tells nobody, and check mode
        says so.
    type: list
    elements: str
    default: []
extends_documentation_fragment: runbook_state
attributes:
  check_mode:
    support: full
    description: It only reads. With O(require_announced) it says what the real run would announce.
  diff_mode:
    support: none
    description: It changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look at the coming quarter
  maintenance_calendar_info:
    environment: production
    calendar:
      windows:
        - {id: weekly, kind: weekly, weekday: sunday, begin: "02:00", end: "04:00"}
        - {id: monthly, kind: monthly, week: 1, weekday: sunday, begin: "02:00", end: "06:00"}
        - id: quarter-1
          kind: quarterly
          begin: "2027-01-17 02:00"
          end: "2027-01-17 08:00"
          announced_at: "2027-01-02"
      freezes:
        - id: year-end
          begin: "2026-12-19 00:00"
          end: "2027-01-04 00:00"
          scope: all
          reason: holidays
          owner: Jo Doe
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: One sentence, whether a window is open now, until when, or when the next begins.
  type: str
  returned: always
status:
  description:
    - V(ok), or V(breach) where the calendar has a mistake, or production has none. With O(require_announced) also that
      of the announcements, V(unknown) where the state store gives no answer.
  type: str
  returned: always
now:
  description: The bastion's clock; this and all moments below are ISO 8601 in UTC.
  type: str
  returned: success
open:
  description: Names of the windows that are open now.
  type: list
  elements: str
  returned: success
left_s:
  description: Seconds until the smallest work must be over, at the end of the window or at the begin of a freeze. Null
    where no window is open, or a freeze of all holds.
  type: int
  returned: success
next_at:
  description: When the next window begins that no freeze of all closes; null where one is open, or none begins within
    400 days.
  type: str
  returned: success
upcoming:
  description: Windows in the time that was looked at, each with C(id), C(kind), C(begin), C(end), and as C(frozen_by)
    the freezes that close it in part or whole. One that a larger window replaces is left out.
  type: list
  elements: dict
  returned: success
freezes:
  description: Freezes in that time, each with C(id), C(begin), C(end), C(scope), C(reason) and C(owner).
  type: list
  elements: dict
  returned: success
announcements:
  description:
    - Windows ahead that people have to be told of. Each has C(announced_as) (by which the announcement is found),
      C(id), C(kind), C(begin), C(end), C(title) and C(text) (for the team), C(is_due) (they are to be told by now),
      C(is_near) (it is due, or the window begins within 21 days), and as a check C(status) and C(msg).
  type: list
  elements: dict
  returned: success
checks:
  description: The same of the windows that are near, each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when O(require_announced)
collisions:
  description: What wants the same time, a window and a freeze or two windows, each with C(begin), C(end), C(what),
    C(other) and C(msg).
  type: list
  elements: dict
  returned: success
operations:
  description: Every playbook that needs a window, with C(operation), C(needs), C(is_open) (whether it may run now),
    C(until) and C(next_at).
  type: list
  elements: dict
  returned: success
ics:
  description: The same windows and freezes as the lines of an iCalendar file (RFC 5545), without the CR LF that ends
    each. It says that it was made at the last midnight in UTC, so that it is the same all day.
  type: list
  elements: str
  returned: success
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change.documents import store_of
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import announcement, ics
from ansible.module_utils.runbook.rules.change import calendar as rules
from ansible.module_utils.runbook.rules.change.backend import NONE
from ansible.module_utils.runbook.rules.change.change import Change
from ansible.module_utils.runbook.rules.status import Status, sentence


def core(context: Context) -> dict[str, Any]:
    """Answer everything."""
    params, now = context.params, datetime.now(UTC)
    context.require_bounds({"days": (1, 366)})
    calendar = rules.read(params["calendar"], params["operations"])
    msg = rules.check(params["calendar"], params["operations"], environment=params["environment"], now=now)
    for warning in rules.misspelt(params["operations"]):
        context.warn(warning)
    # All day the same, so that a second run changes no file.
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    until = today + timedelta(days=params["days"])
    any_change = rules.stand(calendar, "", "weekly", now)
    collisions = rules.collisions(calendar, now, until)
    windows = announcement.planned(calendar, now)
    found, untold = _announced(context, windows, now)
    has_to = params["require_announced"]
    would = has_to and context.check_mode and bool(set(params["announced_by"]) - {NONE})
    checks = announcement.judge(windows, found, now, would_announce=would)
    answers: dict[str, Any] = {
        "now": now.isoformat(timespec="seconds"),
        "open": list(any_change.windows),
        "left_s": int((any_change.ends_at - now).total_seconds()) if any_change.ends_at else None,
        "next_at": _iso(any_change.next_at),
        "upcoming": [
            {
                "id": each.id,
                "kind": each.kind,
                "begin": _iso(each.begin),
                "end": _iso(each.end),
                "frozen_by": [
                    freeze.id for freeze in calendar.freezes if freeze.begin < each.end and freeze.end > each.begin
                ],
            }
            for each in rules.occurrences(calendar, now, until)
        ],
        "freezes": [
            {
                "id": each.id,
                "begin": _iso(each.begin),
                "end": _iso(each.end),
                "scope": "all" if each.scope is None else ", ".join(each.scope),
                "reason": each.reason,
                "owner": each.owner,
            }
            for each in calendar.freezes
            if each.begin < until and each.end > now
        ],
        "collisions": [
            {
                "begin": _iso(each.begin),
                "end": _iso(each.end),
                "what": each.what,
                "other": each.other,
                "msg": each.msg,
            }
            for each in collisions
        ],
        "operations": [_of(calendar, name, need, now) for name, need in calendar.operations.items() if need != "none"],
        "announcements": [_planned(each, found, untold, now, would) for each in windows],
        "ics": ics.lines(calendar, environment=params["environment"], since=today, until=until),
    }
    told = sentence("Announcements", checks) if has_to else msg
    return context.conclude(checks if has_to else Status.OK, msg=told, **answers)


def _announced(
    context: Context, windows: list[announcement.Planned], now: datetime
) -> tuple[dict[str, Change | None], str]:  # fmt: skip
    """What the state store has of announcements, by id; or why nobody knows it."""
    params = context.params
    if not params["require_announced"] and not (params["state_bucket"] or params["state_directory"]):
        return {}, "the inventory names no state store"
    try:
        store = store_of(params, params["environment"])
        for warning in announcement.gone(store.names(announcement.FOLDER), windows, now):
            context.warn(warning)
        documents = {each.id: store.read(f"{announcement.FOLDER}{each.id}").document for each in windows}
    except RunbookError as error:
        if params["require_announced"]:
            raise
        return {}, error.message
    return {name: Change.of(document) if document else None for name, document in documents.items()}, ""


def _planned(
    planned: announcement.Planned, found: dict[str, Change | None], untold: str, now: datetime, would: bool
) -> dict[str, Any]:  # fmt: skip
    window = planned.window
    check = planned.judge(found.get(planned.id), now, would_announce=would)
    if untold and planned.is_due(now):
        check = planned.unknown(untold)
    return check.result() | {
        "announced_as": planned.id,
        "id": window.id,
        "kind": window.kind,
        "begin": _iso(window.begin),
        "end": _iso(window.end),
        "title": planned.title,
        "text": planned.text,
        "is_due": planned.is_due(now),
        "is_near": planned.is_near(now),
    }


def _of(calendar: rules.Calendar, operation: str, need: str, now: datetime) -> dict[str, Any]:
    standing = rules.stand(calendar, operation, need, now)
    return {
        "operation": operation,
        "needs": need,
        "is_open": standing.is_open,
        "until": _iso(standing.ends_at),
        "next_at": _iso(standing.next_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="maintenance_calendar_info",
        argument_spec={
            "calendar": {"type": "dict", "default": {}},
            "operations": {"type": "dict", "default": {}},
            "environment": {"type": "str", "required": True},
            "days": {"type": "int", "default": 92},
            "require_announced": {"type": "bool", "default": False},
            "announced_by": {"type": "list", "elements": "str", "default": []},
            **state_store.argument_spec(),
        },
    )


if __name__ == "__main__":
    main()
