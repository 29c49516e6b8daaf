"""Rows that a cleanup deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import Section, Trend, summed
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Fact, Record


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    if "deleted_rows" not in totals:
        return []
    return [("Rows deleted", wording.number(totals["deleted_rows"]))]


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    totals = host["totals"]
    if "deleted_rows" not in totals:
        return []
    if planned:
        return [f"would delete {count(totals.get('rows_to_delete', 0), 'row')}"]
    return [f"{count(totals['deleted_rows'], 'row')} deleted"]


SECTIONS = (
    Section(
        modules=("pg_cleanup",),
        title="Cleanup",
        figures=("planned_rows", "deleted_rows", "cascaded_rows", "duration_s"),
        totals=summed("deleted_rows", rows_to_delete="planned_rows"),
        headline=_headline,
        did=_did,
        trends=(Trend("Rows deleted", "deleted_rows", wording.number),),
    ),
)
