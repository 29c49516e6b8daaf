#!/usr/bin/python
"""Ansible module oncall_rota_info: who is on call in the coming weeks, and what is wrong with that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: oncall_rota_info
short_description: Look for holes, overlaps and leavers in the coming weeks on call
description:
  - Asks PagerDuty for every shift of its schedules in the next O(weeks), and reads the rota of the inventory beside it.
  - A time without anybody, a person who is not in the team, and one who is away are critical findings, and make the
    result a breach. Two people at once are a warning, unless O(may_overlap).
  - A schedule that no escalation policy uses pages nobody, and is empty at PagerDuty.
  - Changes nothing.
options:
  weeks:
    description: How many weeks ahead are looked at, 1 to 12.
    type: int
    default: 4
  schedules:
    description: Schedules at PagerDuty that have to be filled.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Its id.
        type: str
        required: true
      name:
        description: Its name there, by which the result calls it.
        type: str
        required: true
  rota:
    description:
      - The rota where there is no PagerDuty. An entry is a shift of one person until its end, or a rotation of people.
        The later one of two entries takes the place of the earlier, so a swap is one more entry.
    type: list
    elements: dict
    default: []
    suboptions:
      schedule:
        description: What it is a rota of.
        type: str
        default: on call
      person:
        description: Who.
        type: str
      people:
        description: Who, one after the other.
        type: list
        elements: str
      every_days:
        description: How long each of O(rota[].people) is on call, in days.
        type: int
      begin:
        description: When it begins, as C(2026-12-07 09:00), in O(timezone) unless it names an offset.
        type: str
        required: true
      end:
        description: When it ends; a rotation may go on.
        type: str
  team:
    description:
      - Names of those who may be on call. Without them they are the users that PagerDuty has; a rota without either
        leaves it V(unknown) whether somebody has left.
    type: list
    elements: str
    default: []
  holidays:
    description: Days on which a hole is told with their name; of one person, on which that person is away.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is called.
        type: str
        required: true
      begin:
        description: Its first day, or moment.
        type: str
        required: true
      end:
        description: Its last day, or moment.
        type: str
        required: true
      person:
        description: Who is away; nobody for a holiday of all.
        type: str
  timezone:
    description:
      - Of the times and days of O(rota) and O(holidays), as C(Europe/Berlin). A rotation changes hands at the same time
        of its day, in summer too.
    type: str
    default: UTC
  may_overlap:
    description: Whether two people may be on call at once.
    type: bool
    default: false
  timeout_s:
    description: Longest wait for one answer of PagerDuty, in seconds, 1 to 600.
    type: int
    default: 60
extends_documentation_fragment: runbook_pagerduty
attributes:
  check_mode:
    description: The same in check mode, since it only reads.
    support: full
  diff_mode:
    description: Nothing changes.
    support: none
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look at the next weeks at PagerDuty
  oncall_rota_info:
    pagerduty_api_token: "{{ pagerduty_api_token }}"
    schedules:
      - {id: PI7DH85, name: Primary}
    holidays:
      - {name: Christmas, begin: "2026-12-24", end: "2026-12-26"}

- name: Look at a rota of the inventory
  oncall_rota_info:
    rota:
      - {people: [Ada Byron, Grace Murray], begin: "2026-11-02 09:00", every_days: 7}
      - {person: Ada Byron, begin: "2026-12-24 09:00", end: "2026-12-27 09:00"}
    team: [Ada Byron, Grace Murray]
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
status:
  description: V(breach) with a critical finding, V(unknown) where something cannot be known, else V(ok).
  type: str
  returned: always
findings:
  description: Holes, overlaps, leavers and people who are away, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: What could not be judged, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
shifts:
  description: All shifts with C(schedule), C(person), C(begin) and C(end).
  type: list
  elements: dict
  returned: always
on_call_now:
  description: Who is on call at this moment.
  type: list
  elements: str
  returned: always
hours:
  description: How many hours each person is on call in that time.
  type: list
  elements: dict
  returned: always
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.drivers.observe import pagerduty
from ansible.module_utils.runbook.drivers.observe.pagerduty import PagerDuty
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings, moment
from ansible.module_utils.runbook.rules.findings import Unknown
from ansible.module_utils.runbook.rules.observe import rota

BOUNDS = {"weeks": (1, 12), "timeout_s": (1, 600)}


def core(context: Context) -> dict[str, Any]:
    """Read, then judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    # What comes now is judged to the minute.
    begin = datetime.now(UTC).replace(second=0, microsecond=0)
    end = begin + timedelta(weeks=params["weeks"])
    zone = moment.zone("timezone", params["timezone"])
    absences = rota.absences_of(params["holidays"], zone=zone)
    shifts = rota.shifts_of(params["rota"], begin=begin, end=end, zone=zone)
    schedules = [*dict.fromkeys(each["schedule"] for each in params["rota"])]
    team = frozenset(params["team"]) or None
    unknown: list[Unknown] = []
    people: dict[str, str] = {}
    if not (params["schedules"] or params["rota"]):
        unknown.append(
            Unknown("rota", "Neither a schedule at PagerDuty nor a rota is named, so nobody knows who is on call.")
        )
    if params["schedules"]:
        found, schedules_read, people, missing = _of_account(params, begin, end)
        shifts, schedules, unknown = [*shifts, *found], [*schedules, *schedules_read], [*unknown, *missing]
        if team is None and not params["rota"]:
            team = frozenset(people) or None
    if team is None and shifts and not any(each.kind == "team" for each in unknown):
        unknown.append(Unknown("team", "Who is in the team is not said (team), so somebody on call may have left."))
    if params["team"] or people:
        names = {*params["team"], *(each.person for each in shifts), *people.values()}
        unknown += rota.unheard(absences, names, begin=begin, end=end)
    found_wrong = rota.judge(
        shifts, schedules, absences, team, begin=begin, end=end, may_overlap=params["may_overlap"]
    )  # fmt: skip
    result = findings.results(found_wrong, unknown, of=rota.summary(shifts, schedules, params["weeks"]))
    result |= {
        "shifts": [
            {
                "schedule": each.schedule, "person": each.person, "begin": each.begin.isoformat(),
                "end": each.end.isoformat(),
            }
            for each in sorted(shifts, key=lambda one: (one.begin, one.schedule))
        ],
        "on_call_now": sorted({each.person for each in shifts if each.begin <= begin < each.end}),
        "hours": rota.hours(shifts, begin=begin, end=end),
    }  # fmt: skip
    critical = [each["msg"] for each in result["findings"] if each["severity"] == "critical"]
    # What a person has to hear at once; the report has the rest.
    result["msg"] = " ".join([result["msg"], *critical[:3]])
    return context.conclude(result["status"], fail_on_breach=False, fail_on_unknown=False, **result)


def _of_account(
    params: dict[str, Any], begin: datetime, end: datetime
) -> tuple[list[rota.Shift], list[str], dict[str, str], list[Unknown]]:
    """What PagerDuty tells: shifts, the schedules that it told, its users by their ids, and what it did not tell.

    Schedules are called as the inventory calls them. One that is refused hides no other.
    """
    account = PagerDuty.from_params(params, timeout_s=params["timeout_s"])
    if account is None:
        said = "What PagerDuty's schedules say is not known: pagerduty_api_token is empty; give a key of its REST API."
        return [], [], {}, [Unknown("schedules", said)]
    shifts: list[rota.Shift] = []
    told: list[str] = []
    people: dict[str, str] = {}
    unknown: list[Unknown] = []
    for each in params["schedules"]:
        try:
            shifts += account.on_call(each["id"], each["name"], begin=begin, end=end)
            told.append(each["name"])
        except RunbookError as error:
            unknown.append(Unknown("schedules", f"Who is on call by {each['name']} is not known: {error.message}"))
    try:
        people = account.people()
    except RunbookError as error:
        unknown.append(Unknown("team", f"Whom PagerDuty has as users is not known: {error.message}"))
    return shifts, told, people, unknown


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="oncall_rota_info", argument_spec=argument_spec())


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    schedule = {"id": {"type": "str", "required": True}, "name": {"type": "str", "required": True}}
    entry = {
        "schedule": {"type": "str", "default": "on call"},
        "person": {"type": "str"},
        "people": {"type": "list", "elements": "str"},
        "every_days": {"type": "int"},
        "begin": {"type": "str", "required": True},
        "end": {"type": "str"},
    }
    holiday = {
        "name": {"type": "str", "required": True},
        "begin": {"type": "str", "required": True},
        "end": {"type": "str", "required": True},
        "person": {"type": "str"},
    }
    return pagerduty.argument_spec() | {
        "weeks": {"type": "int", "default": 4},
        "schedules": {"type": "list", "elements": "dict", "default": [], "options": schedule},
        "rota": {"type": "list", "elements": "dict", "default": [], "options": entry},
        "team": {"type": "list", "elements": "str", "default": []},
        "holidays": {"type": "list", "elements": "dict", "default": [], "options": holiday},
        "timezone": {"type": "str", "default": "UTC"},
        "may_overlap": {"type": "bool", "default": False},
        "timeout_s": {"type": "int", "default": 60},
    }


if __name__ == "__main__":
    main()
