"""Vacuum and statistics: dead rows and sizes, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import charts, wording
from ansible.module_utils.runbook.report.section import (
    MAX_ROWS,
    OPEN_ROWS,
    Chart,
    Column,
    Panel,
    Section,
    Table,
    Trend,
    each_panel,
    grid,
    lists,
    summed,
)
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Fact, Record, Step

_FIGURES = (
    "mode", "jobs", "planned_tables", "done_tables", "dead_rows_before", "dead_rows_after", "size_before_bytes",
    "size_after_bytes", "duration_s", "not_permitted",
)  # fmt: skip
_HEAD = (
    ("Table", ""), ("Action", ""), ("Reason", ""), ("State", "state"), ("Dead rows", "num"), ("Size", "num"),
    ("Time", "num"),
)  # fmt: skip
_BARS = "Two bars for each table, the largest first; the numbers are in the table below."


def _panel(step: Step) -> Panel:
    tables = lists(step["figures"], "tables")

    def both(key: str) -> list[tuple[str, float, float]]:
        return [
            (str(table.get("table")), float(table["before"][key] or 0), float(table["after"][key] or 0))
            for table in tables
            if (table.get("before") or {}).get(key) is not None and (table.get("after") or {}).get(key) is not None
        ]

    drawn = [
        Chart("pairs", title, f"{title} per table, before and after. {_BARS}", charts.pairs(both(key), text))
        for title, key, text in (("Dead rows", "dead_rows", wording.number), ("Size", "size_bytes", wording.size))
    ]
    rows = [_row(table) for table in tables[:MAX_ROWS]]
    left_out = len(tables) - len(rows) + step["figures"].get("tables_left_out", 0)
    listed = Table(count(len(rows) + left_out, "table"), _HEAD, rows, left_out, len(rows) <= OPEN_ROWS)
    return Panel(
        "Vacuum and statistics",
        step["msg"],
        grid(step["figures"], _FIGURES),
        charts=[chart for chart in drawn if chart.drawn],
        tables=[listed] if rows else [],
    )


def _row(table: Mapping[str, Any]) -> list[str]:
    before, after = table.get("before") or {}, table.get("after") or {}
    return [
        str(table.get("table")),
        str(table.get("action") or wording.NONE).replace("_", " + "),
        str(table.get("reason") or wording.NONE),
        str(table.get("state") or "unknown").replace("_", " "),
        wording.change(before.get("dead_rows"), after.get("dead_rows"), wording.number),
        wording.change(before.get("size_bytes"), after.get("size_bytes"), wording.size),
        wording.duration(table.get("duration_s")),
    ]


def cleared(totals: Mapping[str, float]) -> float | None:
    """Dead rows that VACUUM removed; None where they were not counted before and after."""
    if "dead_rows_before" not in totals or "dead_rows_after" not in totals:
        return None
    return max(0, totals["dead_rows_before"] - totals["dead_rows_after"])


def _headline(record: Record) -> list[Fact]:
    totals, shown = record["totals"], []
    if "planned_tables" in totals:
        planned = wording.number(totals["planned_tables"])
        done = f"{wording.number(totals.get('done_tables'))} of {planned}"
        shown.append(("Tables to treat", planned) if record["check_mode"] else ("Tables treated", done))
    gone = cleared(totals)
    return shown if gone is None else [*shown, ("Dead rows cleared", wording.number(gone))]


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    totals = host["totals"]
    if planned and "planned_tables" in totals:
        return [f"would treat {count(totals['planned_tables'], 'table')}"]
    return [f"{count(totals['done_tables'], 'table')} treated"] if "done_tables" in totals else []


SECTIONS = (
    Section(
        modules=("pg_vacuum",),
        panels=each_panel(_panel),
        totals=summed(
            "planned_tables", "done_tables", "size_before_bytes", "size_after_bytes", "dead_rows_before",
            "dead_rows_after",
        ),
        columns=(
            Column("Tables", lambda totals: wording.number(totals.get("done_tables"))),
            Column("Dead rows cleared", lambda totals: wording.number(cleared(totals))),
        ),
        headline=_headline,
        did=_did,
        trends=(Trend("Dead rows found", "dead_rows_before", wording.number),),
    ),
)  # fmt: skip
