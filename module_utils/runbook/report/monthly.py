"""What the report shows of the monthly work: bloat before and after, and each table and index that was written anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ansible.module_utils.runbook.report import charts, wording
from ansible.module_utils.runbook.rules.record import short_name

MODULES = frozenset({"pg_bloat_info", "pg_compact", "pg_reindex"})
#: Longer tables are in record.json.
MAX_ROWS = 500

_BLOAT = ("bloat_bytes", "bloat_percent", "table_bloat_bytes", "index_bloat_bytes", "unknown_bytes")
_TONES = {"done": "ok", "planned": "handled", "gone": "handled", "failed": "failed", "corrupt": "failed"}


def of_host(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The monthly part of one host's report; None where its run did nothing of the kind."""

    def of(module: str) -> list[Mapping[str, Any]]:
        return [step["figures"] for step in steps if short_name(step["module"]) == module and step["figures"]]

    snapshots = of("pg_bloat_info")
    works = [
        {"kind": kind, "name": str(item.get(kind)), **item}
        for module, kind in (("pg_compact", "table"), ("pg_reindex", "index"))
        for figures in of(module)
        for item in _list(figures, "tables" if kind == "table" else "indexes")
    ]
    if not snapshots and not works:
        return None
    return {
        "grid": _grid(snapshots),
        "bloat": charts.pairs(_bloat_pairs(snapshots), wording.size),
        "sizes": charts.pairs(
            [
                (work["name"], float(work["size_before_bytes"]), float(work["size_after_bytes"]))
                for work in works
                if work.get("size_before_bytes") is not None and work.get("size_after_bytes") is not None
            ],
            wording.size,
        ),
        "works": [_row(work) for work in works[:MAX_ROWS]],
        "left_out": max(0, len(works) - MAX_ROWS),
    }


def _list(figures: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = figures.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, Sequence) else []


def _grid(snapshots: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
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


def _bloat_pairs(snapshots: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float]]:
    """Bloat of each table with all that belongs to it, before and after.

    A snapshot lists the worst tables. One that is not among them after the run has less than the least of them.
    """
    if len(snapshots) < 2:
        return []
    after = {str(one.get("table")): float(one.get("bloat_bytes") or 0) for one in _list(snapshots[-1], "tables")}
    return [
        (str(one.get("table")), float(one["bloat_bytes"]), after.get(str(one.get("table")), 0.0))
        for one in _list(snapshots[0], "tables")
        if one.get("bloat_bytes") is not None
    ]


def _row(work: Mapping[str, Any]) -> dict[str, str]:
    state = str(work.get("state") or "unknown")
    reason = str(work.get("reason") or wording.NONE)
    return {
        "name": work["name"],
        "action": str(work.get("action") or wording.NONE).replace("_", " "),
        "reason": f"{reason}; {work['error']}" if work.get("error") else reason,
        "state": state.replace("_", " "),
        "tone": _TONES.get(state, "unknown"),
        "size": wording.change(work.get("size_before_bytes"), work.get("size_after_bytes"), wording.size),
        "duration": wording.duration(work.get("duration_s")),
    }


def headline(totals: Mapping[str, float]) -> list[tuple[str, str]]:
    """The two figures of the monthly work."""
    shown = []
    if "bloat_before_bytes" in totals:
        both = totals["bloat_before_bytes"], totals.get("bloat_after_bytes")
        shown.append(("Bloat", wording.change(*both, wording.size)))
    if "freed_bytes" in totals:
        shown.append(("Space given back", wording.size(totals["freed_bytes"])))
    return shown
