"""Logs: what was rotated, archived, deleted, verified and found."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import charts, gauges, wording
from ansible.module_utils.runbook.report.section import (
    Chart,
    Gauge,
    Line,
    Listing,
    Metric,
    Section,
    Trend,
    each_step,
    ended_s,
    lists,
    summed,
)
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Fact, Figures, Panel, Record, Step, Value

_STREAMS = Listing(
    "streams",
    "By stream",
    {
        "stream": "Stream", "class": "Class", "archives": "Archives", "lines": "Lines", "content_bytes": "Bytes",
        "size_bytes": "Compressed", "first_at": "From", "last_at": "To",
    },
)  # fmt: skip
_FIGURES = ("archives", "lines", "content_bytes", "size_bytes")


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    if not totals.get("log_lines") or record["check_mode"]:
        return []
    return [
        ("Log lines archived", wording.number(totals["log_lines"])),
        ("Logs archived", wording.size(totals.get("log_bytes"))),
    ]


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    lines = host["totals"].get("log_lines")
    return [] if planned or not lines else [f"{count(lines, 'log line')} archived"]


def _archived(step: Step) -> dict[str, Value]:
    return {"logs_last_archive_timestamp_seconds": ended_s(step)} if step["status"] == Status.OK else {}


def _verified(step: Step) -> dict[str, Value]:
    figures = step["figures"]
    if "archives" not in figures:
        return {}
    return {
        "logs_verified": 1.0 if step["status"] == Status.OK else 0.0,
        "logs_last_verification_timestamp_seconds": ended_s(step),
        "logs_newest_archive_timestamp_seconds": epoch_s(figures.get("last_archive_at")),
        "logs_archived_bytes": {
            str(each.get("stream")): float(each.get("size_bytes") or 0) for each in lists(figures, "streams")
        },
    }


#: As monitoring/alerts/logs.yml has it: verified each week.
_MOST_AGE_S = 8 * gauges.DAY_S


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    newest = gauges.age(
        facts, "logs_newest_archive_timestamp_seconds", now_s, "newest archive", most_s=math.inf, late=""
    )
    looked = gauges.age(
        facts,
        "logs_last_verification_timestamp_seconds",
        now_s,
        "verified",
        most_s=_MOST_AGE_S,
        late="Verify it again.",
    )
    if facts.get("logs_verified") == 0:
        looked = [
            Line("verified", "not as written", Status.BREACH, "Its chain or an archive is broken; see the report.")
        ]
    return [*newest, *looked]


def _by_stream(panel: Panel, figures: Figures) -> Panel:
    """A chart of each stream before and after compression."""
    found = [
        (str(each["stream"]), float(each.get("content_bytes") or 0), float(each.get("size_bytes") or 0))
        for each in lists(figures, "streams")
    ]
    if not found:
        return panel
    drawn = Chart(
        "pairs", "Before and after compression", "Bytes of the lines of each stream, and of its archives.",
        charts.pairs(found, wording.size),
    )  # fmt: skip
    return replace(panel, charts=[*panel.charts, drawn])


SECTIONS = (
    # All kinds of logs together.
    Section(
        modules=("log_archive", "log_table_archive", "supabase_log_archive"),
        totals=summed(log_lines="lines", log_bytes="content_bytes"),
        headline=_headline,
        did=_did,
        trends=(Trend("Log lines archived", "log_lines", wording.number),),
    ),
    Section(modules=("log_rotate",), title="Rotation of log files", figures=("rotated_files",)),
    Section(
        modules=("log_archive",),
        title="Archived log files",
        figures=(*_FIGURES, "deleted_files", "deleted_bytes", "duration_s"),
        listings=(_STREAMS,),
        lasting=each_step(_archived),
        metrics={
            "logs_last_archive_timestamp_seconds": Metric("When the rotated log files were last archived."),
        },
    ),
    Section(
        modules=("log_table_archive",),
        title="Archived rows of log tables",
        figures=(*_FIGURES, "old_rows", "deleted_rows", "voided", "cutoff", "duration_s"),
        listings=(_STREAMS,),
    ),
    Section(
        modules=("supabase_log_archive",),
        title="Logs that Supabase keeps",
        figures=(*_FIGURES, "fetched_until", "duration_s"),
        listings=(_STREAMS,),
    ),
    Section(
        modules=("log_archive_expire",),
        title="Log archives whose time is over",
        figures=(
            "expired_archives", "expired_bytes", "kept_archives", "held_archives", "leftovers", "aborted_uploads",
        ),
        listings=(Listing("expired", "Deleted", {"seq": "Link", "stream": "Stream", "reason": "Why"}),),
    ),
    Section(
        modules=("log_archive_verify",),
        title="Log archives, verified",
        figures=(
            "links", *_FIGURES, "read_archives", "read_bytes", "unlinked_objects", "last_archive_at",
        ),
        listings=(_STREAMS,),
        more=_by_stream,
        lasting=each_step(_verified),
        metrics={
            "logs_verified": Metric("1 if the host's log archives are all there, in order and as written, 0 if not."),
            "logs_last_verification_timestamp_seconds": Metric("When the log archives were last verified."),
            "logs_newest_archive_timestamp_seconds": Metric("When the newest log archive was made."),
            "logs_archived_bytes": Metric("Bytes of the log archives in the bucket.", "stream"),
        },
        gauge=Gauge("Log archives", "logs.yml -t verify", _on_board, is_optional=True),
    ),
    Section(
        modules=("log_find",),
        title="Lines out of the archive",
        figures=("found_lines", "read_lines", "read_bytes", "dest"),
        listings=(
            Listing(
                "archives_read",
                "Archives that were read",
                {"seq": "Link", "stream": "Stream", "lines": "Lines", "first_at": "From", "last_at": "To"},
            ),
        ),
    ),
)  # fmt: skip
