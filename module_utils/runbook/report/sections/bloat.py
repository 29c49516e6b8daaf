"""The monthly work: bloat before and after, and each table and index that was rewritten."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import charts, wording
from ansible.module_utils.runbook.report.section import (
    MAX_ROWS,
    OPEN_ROWS,
    Chart,
    Panel,
    Section,
    Table,
    Trend,
    lists,
)
from ansible.module_utils.runbook.rules.record import is_number, short_name
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Figures, Record, Step

_BLOAT = ("bloat_bytes", "bloat_percent", "table_bloat_bytes", "index_bloat_bytes", "unknown_bytes")
_HEAD = (("Table or index", ""), ("Action", ""), ("Reason", ""), ("State", "state"), ("Size", "num"), ("Time", "num"))
#: By module: what it rewrites, and the words of it.
_REWRITTEN = {
    "pg_compact": ("table", "tables", "compact", "compacted"),
    "pg_reindex": ("index", "indexes", "rebuild", "rebuilt"),
}
_SNAPSHOT = "pg_bloat_info"


def _snapshots(steps: Sequence[Step]) -> list[Figures]:
    return [step["figures"] for step in steps if short_name(step["module"]) == _SNAPSHOT]


def panels(steps: Sequence[Step], *_: object) -> list[Panel]:
    """One for a whole run: it looks, works, and looks again."""
    snapshots = _snapshots(steps)
    works = [
        {"name": str(item.get(kind)), **item}
        for module, (kind, plural, *_) in _REWRITTEN.items()
        for step in steps
        if short_name(step["module"]) == module
        for item in lists(step["figures"], plural)
    ]
    sizes = [
        (work["name"], float(work["size_before_bytes"]), float(work["size_after_bytes"]))
        for work in works
        if work.get("size_before_bytes") is not None and work.get("size_after_bytes") is not None
    ]
    drawn = [
        Chart(
            "pairs", "Bloat per table",
            "Two bars for each table with its TOAST table and indexes, before and after, the largest first. A table "
            "that is not among the worst afterwards counts as none.",
            charts.pairs(_bloat_pairs(snapshots), wording.size),
        ),
        Chart(
            "pairs", "Size of what was rewritten",
            "Two bars for each table and index, before and after, the largest first; the table below has the numbers.",
            charts.pairs(sizes, wording.size),
        ),
    ]  # fmt: skip
    rows = [_row(work) for work in works[:MAX_ROWS]]
    left_out = len(works) - len(rows)
    title = count(len(works), "table or index", "tables and indexes")
    return [
        Panel(
            "Bloat",
            grid=_grid(snapshots),
            charts=[chart for chart in drawn if chart.drawn],
            tables=[Table(title, _HEAD, rows, left_out, len(rows) <= OPEN_ROWS)] if rows else [],
        )
    ]


def _grid(snapshots: Sequence[Figures]) -> list[Fact]:
    """Bloat of the last snapshot, and of the first where there are two."""
    if not snapshots:
        return []
    first, last = snapshots[0], snapshots[-1]
    rows = []
    for key in _BLOAT:
        before, after = first.get(key), last.get(key)
        if key != "unknown_bytes" or before or after:
            rows.append((wording.label(key), wording.change(before, after, partial(wording.figure, key))))
    return rows


def _bloat_pairs(snapshots: Sequence[Figures]) -> list[tuple[str, float, float]]:
    """Bloat of each table with all that belongs to it, before and after.

    A snapshot lists the worst tables. One that is not among them after the run has less than the least of them.
    """
    if len(snapshots) < 2:
        return []
    after = {str(one.get("table")): float(one.get("bloat_bytes") or 0) for one in lists(snapshots[-1], "tables")}
    return [
        (str(one.get("table")), float(one["bloat_bytes"]), after.get(str(one.get("table")), 0.0))
        for one in lists(snapshots[0], "tables")
        if one.get("bloat_bytes") is not None
    ]


def _row(work: Mapping[str, Any]) -> list[str]:
    reason = str(work.get("reason") or wording.NONE)
    return [
        work["name"],
        str(work.get("action") or wording.NONE).replace("_", " "),
        f"{reason}; {work['error']}" if work.get("error") else reason,
        str(work.get("state") or "unknown").replace("_", " "),
        wording.change(work.get("size_before_bytes"), work.get("size_after_bytes"), wording.size),
        wording.duration(work.get("duration_s")),
    ]


def totals(steps: Sequence[Step]) -> dict[str, float]:
    """Bloat before and after, and what was given back in between; bloat that is unknown is left out."""
    told = [figures.get("bloat_bytes") for figures in _snapshots(steps)]
    named = zip(("bloat_before_bytes", "bloat_after_bytes"), told[:1] + told[1:][-1:], strict=False)
    found: dict[str, Any] = {name: value for name, value in named if is_number(value)}
    for step in steps:
        before, after = (step["figures"].get(f"size_{when}_bytes") for when in ("before", "after"))
        if short_name(step["module"]) in _REWRITTEN and is_number(before) and is_number(after):
            found["freed_bytes"] = found.get("freed_bytes", 0) + before - after
    return found


def headline(record: Record) -> list[Fact]:
    """The two figures of the monthly work."""
    found, shown = record["totals"], []
    if "bloat_before_bytes" in found:
        both = found["bloat_before_bytes"], found.get("bloat_after_bytes")
        shown.append(("Bloat", wording.change(*both, wording.size)))
    if "freed_bytes" in found:
        shown.append(("Space given back", wording.size(found["freed_bytes"])))
    return shown


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    parts = []
    for module, (noun, plural, verb, done) in _REWRITTEN.items():
        key = f"planned_{plural}" if planned else f"{done}_{plural}"
        of_module = [step["figures"] for step in host["steps"] if short_name(step["module"]) == module]
        if many := sum(each.get(key) or 0 for each in of_module):
            what = count(many, noun, plural)
            parts.append(f"would {verb} {what}" if planned else f"{what} {done}")
    if host["totals"].get("freed_bytes") and not planned:
        parts.append(f"{wording.size(host['totals']['freed_bytes'])} given back")
    return parts


SECTIONS = (
    Section(
        modules=(_SNAPSHOT, *_REWRITTEN),
        panels=panels,
        totals=totals,
        headline=headline,
        did=_did,
        trends=(
            Trend("Bloat before the run", "bloat_before_bytes", wording.size),
            Trend("Bloat after the run", "bloat_after_bytes", wording.size),
            Trend("Space given back", "freed_bytes", wording.size),
        ),
    ),
)
