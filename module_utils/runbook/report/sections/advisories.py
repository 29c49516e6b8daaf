"""Advisories that affect the packages of a project."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import gauges, wording
from ansible.module_utils.runbook.report.section import (
    Gauge,
    Line,
    Listing,
    Metric,
    Section,
    ended_s,
    lists,
    summed,
)
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Record, Step, Value

#: Those that wait for somebody.
_WAITING = ("open", "overdue", "undated")


def _lasting(steps: Sequence[Step]) -> dict[str, Value]:
    """By project. Moments, so that a deadline is missed in time though nobody looks again."""
    looked: dict[str, float] = {}
    due: dict[str, float] = {}
    waiting: dict[str, float] = {}
    for step in steps:
        project, at = step["figures"].get("project"), ended_s(step)
        if not isinstance(project, str) or at is None:
            continue
        looked[project] = at
        found = [each for each in lists(step["figures"], "advisories") if each.get("state") in _WAITING]
        # What a source did not answer may be any number.
        waiting[project] = math.nan if step["status"] == Status.UNKNOWN else float(len(found))
        moments = [moment for each in found if (moment := epoch_s(each.get("due_at"))) is not None]
        if moments:
            due[project] = min(moments)
    waived = {
        f"{each.get('id')} {each.get('package')}": moment
        for step in steps
        for each in lists(step["figures"], "advisories")
        if each.get("state") == "waived"
        and (moment := epoch_s(f"{each.get('waived_until')}T23:59:59+00:00")) is not None
    }
    if not looked:
        return {}
    return {
        "advisories_waiver_end_timestamp_seconds": waived,
        "advisories_waiting": waiting,
        "advisories_due_timestamp_seconds": due,
        "advisories_last_check_timestamp_seconds": looked,
    }


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    waiting, due = (gauges.by_label(facts, f"advisories_{name}") for name in ("waiting", "due_timestamp_seconds"))
    lines = []
    for project, number in sorted(waiting.items()):
        first = due.get(project)
        text = "none" if number == 0 else "unknown" if math.isnan(number) else count(number, "advisory", "advisories")
        text += f", due {gauges.day(first)}" if first is not None and number != 0 else ""
        status, msg = Status.OK, ""
        if math.isnan(number):
            status, msg = Status.UNKNOWN, "A source did not answer; see the report."
        elif number and first is not None and now_s >= first:
            status, msg = Status.BREACH, "The first of them is overdue; update it, or waive it with a reason."
        lines.append(Line(project, text, status, msg))
    for waiver, end_s in sorted(gauges.by_label(facts, "advisories_waiver_end_timestamp_seconds").items()):
        over = Line(f"waiver of {waiver}", f"until {gauges.day(end_s)}", Status.BREACH, "It is over: decide again.")
        lines.append(over if now_s >= end_s else Line(over.subject, over.text))
    return lines


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    if totals.get("overdue_advisories") is None:
        return []
    return [
        ("Advisories overdue", wording.number(totals["overdue_advisories"])),
        ("Advisories open", wording.number(totals["open_advisories"])),
    ]


def _remark(record: Record) -> str:
    totals = record["totals"]
    number = (totals.get("open_advisories") or 0) + (totals.get("overdue_advisories") or 0)
    return f"{count(number, 'advisory', 'advisories')} to deal with." if number else ""


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    packages = host["totals"].get("packages")
    return [] if packages is None else [f"{count(packages, 'package')} looked up"]


SECTIONS = (
    Section(
        modules=("security_advisories_info",),
        title="Advisories",
        named_by=("project",),
        figures=("packages", "overdue", "open", "waived", "next_due_at"),
        listings=(
            Listing(
                "advisories",
                "Advisories",
                {
                    "severity": "Severity", "package": "Package", "version": "Version", "id": "Advisory",
                    "state": "State", "due_on": "Due", "fixed": "Fixed in",
                },
            ),
            Listing(
                "wanted",
                "What to update",
                {"package": "Package", "from": "From", "to": "To", "step": "Step", "due_on": "Due"},
            ),
        ),
        totals=summed("packages", overdue_advisories="overdue", open_advisories="open"),
        headline=_headline,
        remark=_remark,
        did=_did,
        lasting=_lasting,
        metrics={
            "advisories_waiting": Metric(
                "Advisories that affect the project and are not waived; no number where a source did not answer.",
                "project",
            ),
            "advisories_due_timestamp_seconds": Metric("When the first of them is, or was, due.", "project"),
            "advisories_last_check_timestamp_seconds": Metric("When the project was last looked at.", "project"),
            "advisories_waiver_end_timestamp_seconds": Metric("When a waiver ends that is in use.", "advisory"),
        },
        gauge=Gauge("Advisories and waivers", "updates.yml -t security", _on_board, groups=("applications",)),
    ),
)  # fmt: skip
