"""Pages of an application: scores with their spread, chunks of the bundle, heaps by turn, files and caches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import charts, wording
from ansible.module_utils.runbook.report.section import (
    Chart,
    Metric,
    Panel,
    Section,
    Table,
    Trend,
    each_panel,
    each_step,
    ended_s,
    lists,
    table,
)
from ansible.module_utils.runbook.rules.record import is_number
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web import lighthouse
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Figures, Step, Value

#: What a person has to know of though the run is green.
_TOLD = ("warning",)


def _checks(figures: Figures) -> list[dict[str, str]]:
    found = [
        {"name": str(each.get("id")), "status": str(each.get("severity")), "msg": str(each.get("msg"))}
        for each in lists(figures, "findings")
    ]
    for each in lists(figures, "unknown"):
        found.append({"name": str(each.get("kind")), "status": str(Status.UNKNOWN), "msg": str(each.get("msg"))})
    return found


def _attention(step: Step) -> list[str]:
    return [str(each.get("msg")) for each in lists(step["figures"], "findings") if each.get("severity") in _TOLD]


# Pages ----------------------------------------------------------------------------------------------------------------


def _pages(step: Step) -> Panel:
    figures = step["figures"]
    seen = [each for each in lists(figures, "pages") if isinstance(each.get("figures"), dict)]
    return Panel(
        "Pages",
        msg=step["msg"],
        grid=_since(figures),
        checks=_checks(figures),
        charts=[chart for name in lighthouse.BUDGETS if (chart := _spread(name, seen))] if seen else [],
        tables=_page_tables(seen),
        is_first=True,
    )


def _since(figures: Figures) -> list[Fact]:
    before = figures.get("compared_with")
    return [
        (
            "Compared with good runs until",
            wording.moment(str(before)) if before else "nothing yet: there was no good run",
        )
    ]


def _spread(name: str, seen: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The run in the middle of each page, with the least and the most; nothing where all pages have none of it."""
    rows = []
    for each in seen:
        value = each["figures"].get(name)
        low, high = (each.get("spread") or {}).get(name) or (value, value)
        if is_number(value) and is_number(low) and is_number(high):
            rows.append((str(each.get("name")), float(low), float(value), float(high)))
    if not any(high for *_, high in rows):
        return None
    title = "Score" if name == lighthouse.SCORE else wording.label(name.removesuffix("_ms"))
    said = "; ".join(f"{page} {lighthouse.text(name, value)}" for page, _, value, _ in rows)
    return Chart(
        "spread", title, f"The run in the middle, and the span from the least to the most: {said}.",
        charts.spread(rows, lambda value: lighthouse.text(name, value), most=1.0 if name == lighthouse.SCORE else None),
    )  # fmt: skip


def _page_tables(seen: Sequence[Mapping[str, Any]]) -> list[Table]:
    if not seen:
        return []
    columns = list(lighthouse.BUDGETS)
    # As wide as a page is: the charts above have the whole names.
    heads = [
        wording.label(name.removesuffix("_ms").replace("contentful_", "").removeprefix("cumulative_"))
        for name in columns
    ]
    head = [("Page", ""), *((each, "num") for each in heads), ("Runs", "num")]
    rows = [
        [
            str(each.get("name")),
            *(
                lighthouse.text(name, value) if is_number(value := each["figures"].get(name)) else wording.NONE
                for name in columns
            ),
            f"{each.get('good_runs')} of {each.get('runs')}",
        ]
        for each in seen
    ]
    slow = [
        {"page": each.get("name"), **cause, "of": ", ".join(map(str, cause.get("of") or []))}
        for each in seen
        for cause in lists(each, "causes")
    ]
    found = [Table("The run in the middle of each page", head, rows, is_open=True)]
    if slow:
        names = {"page": "Page", "title": "What costs time or bytes", "saved_ms": "Would save, ms"}
        found.append(table("What makes pages slow", slow, names | {"saved_bytes": "Would save", "of": "Files"}))
    return found


def _of_pages(steps: Sequence[Step]) -> dict[str, float]:
    scores = [
        100 * each["figures"]["score"]
        for step in steps
        for each in lists(step["figures"], "pages")
        if isinstance(each.get("figures"), dict) and is_number(each["figures"].get("score"))
    ]
    return {"web_lowest_score": min(scores)} if scores else {}


def _pages_lasting(step: Step) -> dict[str, Value]:
    figures = step["figures"]
    seen = lists(figures, "pages")
    if not seen:
        return {}
    bad = {str(each.get("object")) for each in lists(figures, "findings") if each.get("severity") == "critical"}
    waiting = {str(each.get("kind")).partition(":")[2] for each in lists(figures, "unknown")}
    names = [str(each.get("name")) for each in seen]
    measured = {str(each.get("name")): each["figures"] for each in seen if isinstance(each.get("figures"), dict)}
    return {
        "web_page_ok": {name: 0.0 if name in bad else math.nan if name in waiting else 1.0 for name in names},
        # A page that was not measured must not keep the score of an earlier run.
        "web_page_score": {name: measured.get(name, {}).get("score", math.nan) for name in names},
        "web_page_largest_contentful_paint_seconds": {
            name: measured[name]["largest_contentful_paint_ms"] / 1000 if name in measured else math.nan
            for name in names
        },
        "web_pages_last_check_timestamp_seconds": ended_s(step),
    }


# Bundle ---------------------------------------------------------------------------------------------------------------


def _bundle(step: Step) -> Panel:
    figures = step["figures"]
    chunks = lists(figures, "chunks")
    sums = figures.get("sums") or {}
    grid: list[Fact] = [
        (
            wording.label(name),
            f"{wording.size(each.get('gzip_bytes'))} gzip, {wording.size(each.get('brotli_bytes'))} brotli",
        )
        for name, each in sums.items()
    ]
    pairs = [(str(each.get("name")), float(each["raw_bytes"]), float(each["gzip_bytes"])) for each in chunks]
    drawn = [
        Chart("pairs", "Chunks before and after gzip", "Bytes of each chunk as it is, and with gzip.",
              charts.pairs(pairs, wording.size))
    ] if pairs else []  # fmt: skip
    told = [dict(each) | {"when": "at once" if each.get("is_initial") else "later"} for each in chunks]
    columns = {
        "name": "Chunk", "when": "Loaded", "raw_bytes": "Raw", "gzip_bytes": "gzip", "brotli_bytes": "brotli",
        "grown_bytes": "Grown, gzip",
    }  # fmt: skip
    tables = [table("Chunks", told, columns)] if told else []
    if figures.get("gone"):
        grid.append(("Gone since the last good run", wording.figure("", figures["gone"])))
    return Panel(
        "Bundle", msg=step["msg"], grid=[*_since(figures), *grid], checks=_checks(figures), charts=drawn, tables=tables
    )


def _of_bundle(steps: Sequence[Step]) -> dict[str, float]:
    found: list[Any] = [(step["figures"].get("sums") or {}).get("total", {}).get("gzip_bytes") for step in steps]
    return {"web_bundle_gzip_bytes": float(found[-1])} if found and is_number(found[-1]) else {}


def _bundle_lasting(step: Step) -> dict[str, Value]:
    sums = step["figures"].get("sums") or {}
    at_once = [(sums.get(name) or {}).get("gzip_bytes") for name in ("initial_script", "initial_style")]
    total: Any = (sums.get("total") or {}).get("gzip_bytes")
    if not is_number(total):
        return {}
    return {
        "web_bundle_bytes": {"initial": float(sum(filter(None, at_once))), "total": float(total)},
        "web_bundle_ok": 0.0 if step["status"] == Status.BREACH else math.nan if step["status"] != Status.OK else 1.0,
    }


# Memory ---------------------------------------------------------------------------------------------------------------


def _memory(step: Step) -> Panel:
    figures = step["figures"]
    flows = [each for each in lists(figures, "flows") if len(each.get("heap_bytes") or []) > 2]
    drawn = [
        Chart(
            "line", f"Heap after each turn: {each.get('name')}",
            f"Bytes that are left after the garbage was collected, {each.get('warm_up')} turns of warming up first.",
            charts.line(list(enumerate(map(float, each["heap_bytes"]), start=1)), wording.size, binary=True)
            | {"first": "turn 1", "last": f"turn {len(each['heap_bytes'])}"},
        )
        for each in flows
    ]  # fmt: skip
    columns = {
        "name": "Flow", "turns": "Turns", "growth_bytes": "Growth by turn", "growth_low_bytes": "At least, 95 %",
        "growth_high_bytes": "At most, 95 %",
    }  # fmt: skip
    return Panel(
        "Memory", msg=step["msg"], checks=_checks(figures), charts=drawn,
        tables=[table("Growth of the heap", flows, columns)] if flows else [],
    )  # fmt: skip


def _memory_lasting(step: Step) -> dict[str, Value]:
    figures = step["figures"]
    bad = {str(each.get("object")) for each in lists(figures, "findings")}
    waiting = {str(each.get("kind")).partition(":")[2] for each in lists(figures, "unknown")}
    names = {*bad, *waiting, *(str(each.get("name")) for each in lists(figures, "flows"))}
    if not names:
        return {}
    return {
        "web_heap_ok": {name: 0.0 if name in bad else math.nan if name in waiting else 1.0 for name in sorted(names)}
    }


# Files and caches -----------------------------------------------------------------------------------------------------


def _assets(step: Step) -> Panel:
    figures = step["figures"]
    known = lists(figures, "assets")
    pairs = [
        (str(each.get("path")), float(each["cost_bytes"]), float(each["cost_bytes"] - each["saved_bytes"]))
        for each in known
        if each.get("cost_bytes")
    ]
    drawn = [
        Chart("pairs", "Bytes times requests, before and after re-encoding",
              "What each file costs, and what it would cost in the smallest form that was tried.",
              charts.pairs(pairs, wording.size))
    ] if pairs else []  # fmt: skip
    told = [
        dict(each)
        | {"smaller": f"{each['best_form']} {wording.size(each['best_bytes'])}" if each.get("best_form") else ""}
        for each in known
    ]
    columns = {
        "path": "File", "served_bytes": "Served", "encoding": "Compressed", "requests": "Requests",
        "cost_bytes": "In all", "smaller": "Smaller as", "saved_bytes": "Saves in all",
        "cache_control": "Cache-Control",
    }  # fmt: skip
    return Panel(
        "Files", msg=step["msg"], checks=_checks(figures), charts=drawn,
        tables=[table("Files, the dearest first", told, columns)] if known else [],
    )  # fmt: skip


def _assets_lasting(step: Step) -> dict[str, Value]:
    saved = step["figures"].get("saved_bytes")
    return {"web_assets_wasted_bytes": float(saved)} if is_number(saved) else {}


def _cache(step: Step) -> Panel:
    figures = step["figures"]
    classes = lists(figures, "classes")
    told = [
        {
            "name": each.get("name"), "rate_percent": _percent(each.get("hit_rate")),
            "least_percent": _percent(each.get("min_hit_rate")), "requests": each.get("requests"),
            "hits": each.get("hits"),
            "statuses": ", ".join(f"{name} {number:,}" for name, number in (each.get("by_status") or {}).items()),
        }
        for each in classes
    ]  # fmt: skip
    columns = {
        "name": "Paths", "rate_percent": "Hit rate", "least_percent": "At least", "requests": "Requests",
        "hits": "Hits", "statuses": "Answers of the cache",
    }  # fmt: skip
    return Panel(
        "Cache", msg=step["msg"], grid=[("Told by", str(figures.get("source") or "nothing"))], checks=_checks(figures),
        tables=[table("Hit rates", told, columns)] if told else [],
    )  # fmt: skip


def _percent(share: object) -> float | None:
    return round(100 * share, 1) if isinstance(share, (int, float)) else None


def _cache_lasting(step: Step) -> dict[str, Value]:
    figures = step["figures"]
    classes = lists(figures, "classes")
    if not classes:
        return {}
    waiting = {str(each.get("kind")) for each in lists(figures, "unknown")}
    bad = {str(each.get("object")) for each in lists(figures, "findings")}
    names = [str(each.get("name")) for each in classes]

    def answer(name: str) -> float:
        if name in bad:
            return 0.0
        return math.nan if waiting & {"hit_rate", f"hit_rate:{name}"} else 1.0

    return {
        "web_cache_ok": {name: answer(name) for name in names},
        "web_cache_hit_rate": {
            name: each["hit_rate"] if is_number(each.get("hit_rate")) else math.nan
            for name, each in zip(names, classes, strict=True)
        },
        "web_cache_last_check_timestamp_seconds": ended_s(step),
    }


# Scripts --------------------------------------------------------------------------------------------------------------


def _scripts(panel: Panel, figures: Figures) -> Panel:
    said = figures.get("output")
    rows = [[str(name), str(line)] for name, lines in said.items() for line in lines] if isinstance(said, dict) else []
    if not rows:
        return panel
    return Panel(
        panel.title, panel.msg, panel.grid, panel.checks, panel.charts,
        [*panel.tables, Table("What they said last", (("Script", ""), ("Line", "")), rows)],
    )  # fmt: skip


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    found = []
    for step in host["steps"]:
        pages = lists(step["figures"] or {}, "pages")
        if step["module"].endswith("lighthouse_info") and pages:
            good = sum(isinstance(each.get("figures"), dict) for each in pages)
            found.append(f"{good} of {count(len(pages), 'page')} measured")
    return found


SECTIONS = (
    Section(
        modules=("app_script_info",), title="The application's own scripts", figures=("commit", "missing_scripts"),
        more=_scripts,
    ),
    Section(
        modules=("lighthouse_info",),
        panels=each_panel(_pages),
        did=_did,
        attention=_attention,
        totals=_of_pages,
        trends=(Trend("Lowest score of a page", "web_lowest_score", lambda value: f"{value:.0f}"),),
        lasting=each_step(_pages_lasting),
        metrics={
            "web_page_ok": Metric("1 if the page keeps its budgets and got no worse, 0 if not.", "page"),
            "web_page_score": Metric("Score of the run in the middle, 0 to 1.", "page"),
            "web_page_largest_contentful_paint_seconds": Metric("When the largest part of the page is seen.", "page"),
            "web_pages_last_check_timestamp_seconds": Metric("When the pages were last measured."),
        },
    ),
    Section(
        modules=("bundle_info",),
        panels=each_panel(_bundle),
        attention=_attention,
        totals=_of_bundle,
        trends=(Trend("Bundle, gzip", "web_bundle_gzip_bytes", wording.size),),
        lasting=each_step(_bundle_lasting),
        metrics={
            "web_bundle_ok": Metric("1 if the bundle keeps its budgets and grew no more than it may, 0 if not."),
            "web_bundle_bytes": Metric("Bytes with gzip: what is loaded at once (initial), and all (total).", "part"),
        },
    ),
    Section(
        modules=("heap_growth_info",),
        panels=each_panel(_memory),
        attention=_attention,
        lasting=each_step(_memory_lasting),
        metrics={"web_heap_ok": Metric("1 if the heap does not grow with use, 0 if it does.", "flow")},
    ),
    Section(modules=("web_baseline",), title="Kept for the next run", figures=("kept_pages", "kept_chunks")),
    Section(
        modules=("asset_info",),
        panels=each_panel(_assets),
        attention=_attention,
        lasting=each_step(_assets_lasting),
        metrics={"web_assets_wasted_bytes": Metric("Bytes times requests that other forms of files would save.")},
    ),
    Section(
        modules=("cdn_cache_info",),
        panels=each_panel(_cache),
        attention=_attention,
        lasting=each_step(_cache_lasting),
        metrics={
            "web_cache_ok": Metric("1 if the cache answers as large a share as it should, 0 if not.", "paths"),
            "web_cache_hit_rate": Metric("Share of requests that the cache answered, 0 to 1.", "paths"),
            "web_cache_last_check_timestamp_seconds": Metric("When hit rates were last looked at."),
        },
    ),
)  # fmt: skip
