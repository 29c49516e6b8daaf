"""The second copy of uploaded files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import gauges, wording
from ansible.module_utils.runbook.report.section import (
    Gauge,
    Line,
    Listing,
    Metric,
    Section,
    Trend,
    each_step,
    ended_s,
    summed,
)
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Fact, Record, Step, Value


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    if "copied_bytes" not in totals or record["check_mode"]:
        return []
    return [
        ("Files copied", wording.number(totals.get("copied_objects"))),
        ("Bytes copied", wording.size(totals["copied_bytes"])),
    ]


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    copied = host["totals"].get("copied_objects")
    return [] if planned or copied is None else [f"{count(copied, 'file')} copied"]


def _lasting(step: Step) -> dict[str, Value]:
    return {"files_last_mirror_timestamp_seconds": ended_s(step)} if step["status"] == Status.OK else {}


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    return gauges.age(
        facts,
        "files_last_mirror_timestamp_seconds",
        now_s,
        "last complete",
        most_s=2 * gauges.DAY_S,
        late="Mirror them now.",
    )


SECTIONS = (
    Section(
        modules=("s3_mirror",),
        title="Second copy of files",
        figures=(
            "source", "destination", "copied_objects", "copied_bytes", "gone_objects", "failed_objects",
            "remaining_objects", "deleted_objects", "aborted_uploads", "duration_s", "rate_bytes_s",
            "source_versioning", "source_replication", "rows", "missing_rows", "recoverable_rows", "orphan_objects",
            "differing_rows",
        ),
        listings=(Listing("named", "Files that were found out", {"kind": "Kind", "name": "File", "error": "Why"}),),
        totals=summed("copied_objects", "copied_bytes"),
        headline=_headline,
        did=_did,
        trends=(Trend("Files copied", "copied_bytes", wording.size),),
        lasting=each_step(_lasting),
        metrics={
            "files_last_mirror_timestamp_seconds": Metric("When the second copy of uploaded files was last complete."),
        },
        gauge=Gauge("Second copy of files", "files_mirror.yml", _on_board, is_optional=True),
    ),
)  # fmt: skip
