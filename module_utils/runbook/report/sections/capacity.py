"""How quantities grow: a chart with its forecast for each, when limits are met, what it costs, and alerts as files."""

from __future__ import annotations

import math
from datetime import date
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import charts, gauges, wording
from ansible.module_utils.runbook.report.section import (
    Chart,
    Gauge,
    Line,
    Metric,
    Page,
    Panel,
    Section,
    Table,
    each_panel,
    each_step,
    ended_s,
    lists,
    table,
)
from ansible.module_utils.runbook.rules.record import epoch_s, short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Figures, Record, Step, Value

_MODULE = "capacity_info"
_TOO_YOUNG = "Its history is too short; it grows by itself where capacity.yml runs every day."
#: What stands in the run's folder: the lists of lines in a result, and the files that they are.
_FILES = {
    "alerts_file_text": ("capacity_alerts.yml", "alert rules that are offered"),
    "alerts_test_text": ("capacity_alerts_test.yml", ""),
    "alerts_diff": ("capacity_alerts.diff", "how they differ from those in use"),
}
#: What a person has to know of though the run is green. What is critical, the step itself says.
_TOLD = ("warning",)


def _panel(step: Step) -> Panel:
    figures = step["figures"]
    known = lists(figures, "quantities")
    return Panel(
        "Capacity",
        msg=step["msg"],
        grid=_grid(figures),
        checks=[
            *(
                {"name": str(each.get("id")), "status": str(each.get("severity")), "msg": _advice(each)}
                for each in lists(figures, "findings")
            ),
            *(
                {
                    "name": str(each.get("kind")),
                    "status": str(Status.UNKNOWN),
                    "msg": _without(str(each.get("msg")), str(each.get("kind"))),
                }
                for each in lists(figures, "unknown")
            ),
        ],
        charts=[_chart(each) for each in known if len(lists_of(each, "shown")) > 1],
        tables=[*_tables(figures, known)],
        is_first=True,
    )


def _without(msg: str, name: str) -> str:
    """A sentence without the name that stands before it already."""
    return msg.removeprefix(f"{name}: ")


def _advice(finding: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (str(finding.get("msg") or ""), str(finding.get("risk") or ""))))


def _grid(figures: Figures) -> list[Fact]:
    currency = str(figures.get("currency") or "")
    if figures.get("cost_now") is None:
        return []
    costs = {"A month costs now": "cost_now", "In a quarter, p50": "cost_p50", "In a quarter, p90": "cost_p90"}
    return [
        *((title, f"{figures[key]:,.2f} {currency}") for title, key in costs.items() if figures.get(key) is not None),
        ("Prices of", str(figures.get("prices_dated"))),
    ]


def lists_of(quantity: Mapping[str, Any], key: str) -> list[list[Any]]:
    """Points of a quantity: lists that begin with a day."""
    found = quantity.get(key)
    return [each for each in found if isinstance(each, list)] if isinstance(found, list) else []


def _text(quantity: Mapping[str, Any]) -> Callable[[float], str]:
    """How values of a quantity are written."""
    return wording.size if quantity.get("unit") == "bytes" else lambda value: wording.number(round(value))


def _month(quantity: Mapping[str, Any]) -> list[str]:
    return [] if quantity.get("kind") == "level" else ["a month"]


def _cell(quantity: Mapping[str, Any], key: str) -> str:
    value = quantity.get(key)
    return wording.NONE if value is None else _text(quantity)(value)


def _chart(quantity: Mapping[str, Any]) -> Chart:
    text = _text(quantity)
    shown, ahead = lists_of(quantity, "shown"), lists_of(quantity, "forecast")
    limit = quantity.get("limit")
    name, unit = wording.label(str(quantity.get("name"))), str(quantity.get("unit"))
    said = f"From {shown[0][0]} to {shown[-1][0]}, {text(shown[0][1])} to {text(shown[-1][1])}"
    if ahead:
        last, p50, p90 = ahead[-1]
        said += f"; then until {last} to {text(p50)} in the middle, and below {text(p90)} nine times in ten"
    if limit is not None:
        said += f"; limit {text(limit)} ({quantity.get('limit_of')})"
    return Chart(
        "fan",
        ", ".join([name, *([] if unit == "bytes" or unit in name.lower() else [unit]), *_month(quantity)]),
        f"{said}.",
        charts.fan(
            [(_ordinal(day), value) for day, value in shown],
            [(_ordinal(day), p50, p90) for day, p50, p90 in ahead],
            text,
            limit=limit,
            binary=unit == "bytes",
        ),
    )


def _ordinal(day: str) -> float:
    return float(date.fromisoformat(day).toordinal())


def _tables(figures: Figures, known: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    head = [
        ("Quantity", ""), ("Now", "num"), ("In a quarter, p50", "num"), ("p90", "num"), ("Limit", "num"), ("Of", ""),
        ("Met, p50", ""), ("Met, p90", ""), ("Days known", "num"),
    ]  # fmt: skip
    rows = [
        [
            ", ".join([str(each.get("name")), *_month(each)]),
            *(_cell(each, key) for key in ("now", "p50", "p90", "limit")),
            str(each.get("limit_of") or wording.NONE),
            *(_met(each, share) for share in ("p50", "p90")),
            wording.number(each.get("history_days")),
        ]
        for each in known
    ]
    yield Table("What the next quarter needs", head, rows, is_open=True)
    listings = (
        (
            "steps",
            "Steps that are needed by the quarter's end",
            {
                "track": "Of", "from": "From", "to": "To", "by": "Needed by", "because_of": "Because of",
                "month_now": "A month costs", "month_then": "Then", "currency": "In",
            },
        ),
        ("alerts", "Alerts that are offered", {"alert": "Alert", "quantity": "Quantity", "said": "Fires above"}),
        ("tables", "Largest tables", {"name": "Table", "size_bytes": "Size", "grown_bytes": "Grown since"}),
    )  # fmt: skip
    for key, title, columns in listings:
        if found := lists(figures, key):
            yield table(title, found, columns)


def _met(quantity: Mapping[str, Any], share: str) -> str:
    if quantity.get("limit") is None or quantity.get("p50") is None:
        return wording.NONE
    return str(quantity.get(f"limit_{share}_on") or "not in sight")


def _attention(step: Step) -> list[str]:
    return [_advice(each) for each in lists(step["figures"], "findings") if each.get("severity") in _TOLD]


def _of_run(record: Record) -> Iterator[tuple[str, Figures]]:
    """Each host's last look."""
    for host, of_host in record["hosts"].items():
        looked = [step["figures"] for step in of_host["steps"] if short_name(step["module"]) == _MODULE]
        if looked and looked[-1].get("quantities"):
            yield host, looked[-1]


def _headline(record: Record) -> list[Fact]:
    known = [each for _, figures in _of_run(record) for each in lists(figures, "quantities")]
    if not known:
        return []
    first = min(
        ((str(each["limit_p90_on"]), str(each["name"])) for each in known if each.get("limit_p90_on")), default=None
    )
    shown: list[Fact] = [("First limit, p90", f"{first[1]}, {first[0]}" if first else "none in sight")]
    for _, figures in _of_run(record):
        if figures.get("cost_now") is not None:
            costs = (f"{figures[key]:,.0f}" for key in ("cost_now", "cost_p50"))
            shown.append(("A month's cost", f"{' → '.join(costs)} {figures.get('currency')}"))
    return shown


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    for step in host["steps"]:
        if short_name(step["module"]) == _MODULE and (known := lists(step["figures"], "quantities")):
            ahead = sum(each.get("p50") is not None for each in known)
            return [f"{ahead} of {count(len(known), 'quantity', 'quantities')} forecast"]
    return []


def _pages(record: Record, _history: Sequence[Mapping[str, Any]]) -> list[Page]:
    """The files of each host; with its name before them where there are several."""
    looked = list(_of_run(record))
    rules = _FILES["alerts_file_text"][0]
    found = []
    for host, figures in looked:
        before = f"{host}-" if len(looked) > 1 else ""
        for key, (name, link) in _FILES.items():
            if figures.get("alerts") and (lines := figures.get(key)):
                # The tests name the file of rules.
                text = "\n".join(lines).replace(rules, before + rules) + "\n"
                found.append(Page(before + name, text, link=f"{host}: {link}" if before and link else link))
    return found


def _lasting(step: Step) -> dict[str, Value]:
    known = {str(each.get("name")): each for each in lists(step["figures"], "quantities")}
    if not known:
        return {}
    waiting = {each.get("kind"): each.get("fixable") for each in lists(step["figures"], "unknown")}
    passed = {each.get("object") for each in lists(step["figures"], "findings") if each.get("severity") == "critical"}
    found: dict[str, Value] = {
        # What only has no history yet is neither.
        "capacity_ok": {
            name: 0.0 if name in passed else math.nan if waiting.get(name) else 1.0
            for name in known
            if name in passed or waiting.get(name) is not False
        },
        "capacity_value": {name: each["now"] for name, each in known.items() if each.get("now") is not None},
        "capacity_limit": {name: each["limit"] for name, each in known.items() if each.get("limit") is not None},
        "capacity_last_check_timestamp_seconds": ended_s(step),
    }
    for share in ("p50", "p90"):
        # A limit that is no more in sight must not keep the date of an earlier run.
        moments = {
            name: _moment(each.get(f"limit_{share}_on"))
            for name, each in known.items()
            if each.get("limit") is not None and name not in waiting
        }
        found[f"capacity_limit_{share}_timestamp_seconds"] = moments
    return {name: value for name, value in found.items() if value}


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    """When limits are met, the nearest first."""
    well, first, middle = (
        gauges.by_label(facts, f"capacity_{name}")
        for name in ("ok", "limit_p90_timestamp_seconds", "limit_p50_timestamp_seconds")
    )
    waiting = sorted(gauges.by_label(facts, "capacity_value").keys() - {*well, *first})
    lines = []
    for name in sorted({*well, *first}, key=lambda name: (first.get(name, math.inf), name)):
        met, likely = first.get(name, math.inf), middle.get(name, math.inf)
        text = "no limit in sight" if math.isinf(met) else f"limit met {gauges.day(met)} at the earliest"
        text += f", {gauges.day(likely)} likely" if not math.isinf(likely) else ""
        status, msg = Status.OK, ""
        if well.get(name) == 0 or now_s >= met:
            status, msg = Status.BREACH, "Its limit is passed or near; see the steps in the report."
        elif math.isnan(well.get(name, 1.0)):
            status, msg = Status.UNKNOWN, "A source gave nothing; see the report."
        lines.append(Line(name, text, status, msg))
    return lines + [Line(name, "no forecast yet", Status.UNKNOWN, _TOO_YOUNG) for name in waiting]


def _moment(day: object) -> float:
    found = epoch_s(f"{day}T00:00:00+00:00") if day else None
    return math.inf if found is None else found


SECTIONS = (
    Section(
        modules=(_MODULE,),
        panels=each_panel(_panel),
        headline=_headline,
        did=_did,
        attention=_attention,
        pages=_pages,
        lasting=each_step(_lasting),
        metrics={
            "capacity_ok": Metric("1 if its limit is neither passed nor near, 0 if it is.", "quantity"),
            "capacity_value": Metric("The newest value; of what is counted, a month's.", "quantity"),
            "capacity_limit": Metric("What the quantity may be at most.", "quantity"),
            "capacity_limit_p50_timestamp_seconds": Metric(
                "When the limit is met by p50; infinite: not in sight.", "quantity"
            ),
            "capacity_limit_p90_timestamp_seconds": Metric(
                "When the limit is met by p90; infinite: not in sight.", "quantity"
            ),
            "capacity_last_check_timestamp_seconds": Metric("When quantities were last looked at."),
        },
        gauge=Gauge("Capacity", "capacity.yml", _on_board, groups=("databases",)),
    ),
)
