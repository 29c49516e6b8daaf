"""Advisories that affect the packages of a project."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import (
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
    if not looked:
        return {}
    return {
        "advisories_waiting": waiting,
        "advisories_due_timestamp_seconds": due,
        "advisories_last_check_timestamp_seconds": looked,
    }


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
        },
    ),
)  # fmt: skip
