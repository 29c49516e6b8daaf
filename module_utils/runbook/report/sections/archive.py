"""Rows that were moved into an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import Column, Section, Trend, summed
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Figures, Record

_MOVED = (
    "archive", "cutoff", "planned_rows", "moved_rows", "already_archived_rows", "remaining_rows", "oldest_moved",
    "newest_moved", "duration_s", "rate_rows_s", "batches", "longest_batch_s", "throttled_s", "wal_bytes",
    "detached_partitions", "archive_created",
)  # fmt: skip
#: Of a run that moved nothing, as in check mode, the rest is a row of zeros.
_NOTHING_MOVED = (
    "archive", "cutoff", "planned_rows", "already_archived_rows", "remaining_rows", "duration_s", "archive_created",
)  # fmt: skip


def _figures(figures: Figures) -> Sequence[str]:
    return _MOVED if figures.get("moved_rows") else _NOTHING_MOVED


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    if "moved_rows" not in totals:
        return []
    if record["check_mode"]:
        return [("Rows to move", wording.number(totals.get("planned_rows")))]
    left = wording.number(totals.get("remaining_rows"))
    return [("Rows moved", wording.number(totals["moved_rows"])), ("Rows left to move", left)]


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    totals = host["totals"]
    if planned and "planned_rows" in totals:
        return [f"would move {count(totals['planned_rows'], 'row')}"]
    return [f"{count(totals['moved_rows'], 'row')} moved"] if "moved_rows" in totals else []


SECTIONS = (
    Section(
        modules=("pg_archive",),
        title="Archive",
        named_by=("source",),
        figures=_figures,
        totals=summed("moved_rows", "remaining_rows", "planned_rows", "wal_bytes"),
        columns=(
            Column("Moved", lambda totals: wording.number(totals.get("moved_rows"))),
            Column("Left", lambda totals: wording.number(totals.get("remaining_rows"))),
        ),
        headline=_headline,
        did=_did,
        trends=(Trend("Rows moved", "moved_rows", wording.number),),
    ),
)
