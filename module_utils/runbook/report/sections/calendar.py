"""The calendar of changes: in the report, and as a table for the end of a terminal's output."""

from __future__ import annotations

import textwrap
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report.section import Listing, Section, lists
from ansible.module_utils.runbook.rules.record import short_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Record

_MODULE = "maintenance_calendar_info"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _day(moment: datetime) -> str:
    return f"{_DAYS[moment.weekday()]} {moment:%Y-%m-%d}"


def _span(entry: Mapping[str, Any]) -> str:
    """Begin and end, in UTC; the day of the end only where it is another one."""
    begin, end = (datetime.fromisoformat(str(entry[key])) for key in ("begin", "end"))
    after = f"{end:%H:%M}" if begin.date() == end.date() else f"{_day(end)} {end:%H:%M}"
    return f"{_day(begin)}  {begin:%H:%M}-{after}"


def lines(record: Record, host: str, width: int) -> list[str]:
    """The coming windows, then what closes or crosses them; none where nobody looked."""
    found = [step for step in record["hosts"][host]["steps"] if short_name(step["module"]) == _MODULE]
    told: list[str] = []
    # A playbook that announces looks before and after it.
    for step in found[-1:]:
        figures = step["figures"]
        upcoming, freezes = lists(figures, "upcoming"), lists(figures, "freezes")
        if upcoming:
            told.append("  Maintenance windows, UTC:")
        for each in upcoming:
            frozen = f"  frozen: {', '.join(each['frozen_by'])}" if each["frozen_by"] else ""
            kind = "" if each["kind"] == each["id"] else f" ({each['kind']})"
            told.append(f"  {_span(each)}  {each['id']}{kind}{frozen}")
        if freezes:
            told.append("  No changes, UTC:")
        for each in freezes:
            told.append(f"  {_span(each)}  {each['id']}: {each['reason']} ({each['owner']}; {each['scope']})")
        known = {each["id"] for each in freezes}
        told += [f"  {each['msg']}" for each in lists(figures, "collisions") if each["other"] not in known]
        told += [f"  {each['msg']}" for each in lists(figures, "announcements") if each["is_near"]]
        told.append(f"  {step['msg']}")
    return [
        part
        for line in told
        for part in textwrap.wrap(line, width, initial_indent="", subsequent_indent="      ", break_on_hyphens=False)
    ]


SECTIONS = (
    Section(
        modules=(_MODULE,),
        title="Calendar of changes",
        figures=("open", "left_s", "next_at"),
        listings=(
            Listing("upcoming", "Windows", {"begin": "Begin", "end": "End", "id": "Window", "kind": "Kind"}),
            Listing(
                "freezes",
                "Freezes",
                {"begin": "Begin", "end": "End", "id": "Freeze", "reason": "Why", "owner": "Owner"},
            ),
            Listing(
                "announcements", "Announcements", {"begin": "Begin", "announced_as": "Announced as", "msg": "Whether"}
            ),
            Listing("collisions", "Collisions", {"begin": "Begin", "msg": "What"}),
            Listing(
                "operations", "What needs a window", {"operation": "Playbook", "needs": "Needs", "next_at": "Next"}
            ),
        ),
        lines=lines,
    ),
)
