"""The monthly audit of monitoring: service levels, incidents, dashboards and alert rules."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import charts, wording
from ansible.module_utils.runbook.report.section import (
    Chart,
    Listing,
    Metric,
    Panel,
    Section,
    Table,
    each_panel,
    each_step,
    ended_s,
    lists,
    table,
)
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible.module_utils.runbook.report.section import Fact, Figures, Record, Step, Value

_LEVELS, _INCIDENTS, _DASHBOARDS = "sla_info", "incident_info", "dashboard_info"
#: What a person has to know of though the run is green. What is critical, the step itself says.
_TOLD = ("warning",)


def _checks(figures: Figures) -> list[dict[str, str]]:
    """Findings and what could not be judged, as a list with their states."""
    found = [
        {
            "name": str(each.get("id")),
            "status": str(each.get("severity")),
            "msg": " ".join(filter(None, (str(each.get("msg") or ""), str(each.get("risk") or "")))),
        }
        for each in lists(figures, "findings")
    ]
    return found + [
        {
            "name": str(each.get("kind")),
            "status": str(Status.UNKNOWN) if each.get("fixable") else "info",
            "msg": str(each.get("msg")),
        }
        for each in lists(figures, "unknown")
    ]


def _attention(step: Step) -> list[str]:
    return [str(each.get("msg")) for each in lists(step["figures"], "findings") if each.get("severity") in _TOLD]


# --- service levels ---------------------------------------------------------------------------------------------------


def _levels(step: Step) -> Panel:
    figures = step["figures"]
    known = lists(figures, "levels")
    head = [
        ("Service", ""), ("Promised", "num"), ("Available", "num"), ("With planned work", "num"), ("Coverage", "num"),
        ("Budget left", "num"), ("From", ""), ("Until", ""),
    ]  # fmt: skip
    rows = [
        [
            str(each.get("name")),
            *(
                _percent(each.get(key))
                for key in (
                    "objective_percent", "availability_percent", "with_planned_percent", "coverage_percent",
                    "budget_left_percent",
                )
            ),
            *(str(each.get(key))[:10] for key in ("from", "to")),
        ]
        for each in known
    ]  # fmt: skip
    tables = [Table("Service levels", head, rows, is_open=True)] if rows else []
    if planned := lists(figures, "planned"):
        tables.append(table("Planned maintenance", planned, {"begin": "From", "end": "Until"}))
    return Panel(
        "Service levels",
        msg=step["msg"],
        checks=_checks(figures),
        charts=[chart for each in known if each.get("first_sample_at") for chart in _of_level(each)],
        tables=[*tables, *(_numbers(each) for each in known if lists(each, "days"))],
        is_first=True,
    )


def _percent(value: object) -> str:
    return f"{value:.3f} %" if isinstance(value, (int, float)) else wording.NONE


def _of_level(level: Mapping[str, Any]) -> Iterator[Chart]:
    days, name, objective = lists(level, "days"), str(level.get("name")), float(level["objective_percent"])
    tones = [_tone(day, objective) for day in days]
    bad = [str(day["day"]) for day, tone in zip(days, tones, strict=True) if tone == "failed"]
    dark = sum(tone == "unknown" for tone in tones)
    said = f"{count(len(days), 'day')} of {name}: {some(bad) or 'none'} below {objective:g} %"
    yield Chart(
        "columns",
        f"{name}: availability by day",
        f"{said}, {count(dark, 'day')} with samples missing.",
        charts.columns(
            [
                (f"{day['day']}: {_percent(day.get('availability_percent'))}", 1.0, tone)
                for day, tone in zip(days, tones, strict=True)
            ],
            first=str(days[0]["day"]),
            last=str(days[-1]["day"]),
        ),
    )
    budget = level.get("budget")
    if not budget:
        return
    spent = 0.0
    points = []
    for day in days:
        spent += float(day.get("bad") or 0)
        points.append((float(date.fromisoformat(day["day"]).toordinal()), 100 * spent / budget))
    yield Chart(
        "fan",
        f"{name}: error budget spent",
        f"From {days[0]['day']} to {days[-1]['day']}, with planned maintenance; {points[-1][1]:.0f} % at the end.",
        charts.fan(points, [], lambda value: f"{value:.0f} %", limit=100.0),
    )


def _tone(day: Mapping[str, Any], objective: float) -> str:
    share, coverage = day.get("availability_percent"), day.get("coverage_percent")
    if share is not None and share < objective:
        return "failed"
    return "ok" if share is not None and (coverage or 0) >= 95 else "unknown"


def _numbers(level: Mapping[str, Any]) -> Table:
    columns = (("Day", ""), ("Available", "num"), ("Coverage", "num"), ("Bad", "num"))
    unit = level.get("unit")
    rows = [
        [
            str(day.get("day")), _percent(day.get("availability_percent")), _percent(day.get("coverage_percent")),
            wording.duration(day.get("bad") or 0) if unit == "s" else wording.number(round(day.get("bad") or 0)),
        ]
        for day in lists(level, "days")
    ]  # fmt: skip
    return Table(f"{level.get('name')}: days", columns, rows, is_numbers=True)


def _level_metrics(step: Step) -> dict[str, Value]:
    known = lists(step["figures"], "levels")
    # One that Prometheus did not answer for is not there at all.
    lost = {
        str(each.get("kind")): math.nan
        for each in lists(step["figures"], "unknown")
        if not str(each.get("kind")).endswith("_burn") and each.get("kind") != "planned_maintenance"
    }
    if not known and not lost:
        return {}

    def ratio(key: str) -> dict[str, float]:
        return {
            str(each["name"]): math.nan if each.get(key) is None else each[key] / 100 for each in known
        }  # fmt: skip

    return {
        "sla_availability_ratio": lost | ratio("availability_percent"),
        "sla_budget_left_ratio": lost | ratio("budget_left_percent"),
        "sla_coverage_ratio": lost | ratio("coverage_percent"),
        "sla_objective_ratio": ratio("objective_percent"),
        "sla_last_check_timestamp_seconds": ended_s(step),
    }


def _headline(record: Record) -> list[Fact]:
    shown: list[Fact] = []
    for of_host in record["hosts"].values():
        for step in of_host["steps"]:
            if short_name(step["module"]) == _LEVELS:
                shown += [
                    (f"{each['name']} available", _percent(each.get("availability_percent")))
                    for each in lists(step["figures"], "levels")
                ]
    return shown[:4]


# --- incidents --------------------------------------------------------------------------------------------------------


def _incidents(step: Step) -> Panel:
    figures = step["figures"]
    sources = lists(figures, "sources")
    columns = {
        "month": "Month", "incidents": "Incidents", "open": "Open", "mtta_median_s": "Acknowledged, median",
        "mtta_p90_s": "p90", "mttr_median_s": "Resolved, median", "mttr_p90_s": "p90",
    }  # fmt: skip
    tables = [table(f"By month, {each['source']}", lists(each, "months"), columns) for each in sources]
    if actions := lists(figures, "actions"):
        named = {"text": "To do", "owner": "Who", "due_date": "Until", "state": "State", "review": "Review"}
        tables.append(table("What reviews left to do", actions, named))
    return Panel(
        "Incidents", msg=step["msg"], checks=_checks(figures), charts=[_months(each) for each in sources], tables=tables
    )


def _months(source: Mapping[str, Any]) -> Chart:
    months = lists(source, "months")
    most = max(1, *(int(each["incidents"]) for each in months))
    drawn = [
        (f"{each['month']}: {count(each['incidents'], 'incident')}", each["incidents"] / most, "after")
        for each in months
    ]
    return Chart(
        "columns",
        f"Incidents a month, {source['source']}",
        f"{', '.join(title for title, _, _ in drawn)}.",
        charts.columns(drawn, first=months[0]["month"], last=months[-1]["month"], top=wording.number(most)),
    )


def _incident_metrics(step: Step) -> dict[str, Value]:
    now = {str(each["source"]): lists(each, "months")[-1] for each in lists(step["figures"], "sources")}
    found: dict[str, Value] = {"incidents": {source: float(each["incidents"]) for source, each in now.items()}}
    for name, key in (("mtta", "mtta_median_s"), ("mttr", "mttr_median_s")):
        # Of too few of them there is none.
        found[f"incidents_{name}_seconds"] = {
            source: math.nan if each.get(key) is None else each[key] for source, each in now.items()
        }
    return found | {"incidents_last_check_timestamp_seconds": ended_s(step)} if now else {}


# --- dashboards -------------------------------------------------------------------------------------------------------


def _with_findings(panel: Panel, figures: Figures) -> Panel:
    return Panel(panel.title, panel.msg, panel.grid, _checks(figures), panel.charts, panel.tables)


def _dashboard_metrics(step: Step) -> dict[str, Value]:
    if "dashboards" not in step["figures"]:
        return {}
    found = Counter(str(each.get("kind")) for each in lists(step["figures"], "findings"))
    kinds = ("panel_empty", "metric_gone", "alert_blind", "rule_failing", "service_unseen")
    return {
        "dashboards_findings": {kind: float(found[kind]) for kind in kinds},
        "dashboards_last_check_timestamp_seconds": ended_s(step),
    }


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    words = []
    for step in host["steps"]:
        figures, module = step["figures"], short_name(step["module"])
        if module == _LEVELS and (known := lists(figures, "levels")):
            judged = sum(not each.get("why_not") for each in known)
            words.append(f"{judged} of {count(len(known), 'service level')} judged")
        if module == _DASHBOARDS and (boards := lists(figures, "dashboards")):
            words.append(f"{count(sum(each['panels'] for each in boards), 'panel')} looked at")
    return words


SECTIONS = (
    Section(
        modules=(_LEVELS,),
        panels=each_panel(_levels),
        headline=_headline,
        attention=_attention,
        lasting=each_step(_level_metrics),
        metrics={
            "sla_availability_ratio": Metric(
                "Share of the last month that was good, without planned maintenance; NaN where that is not known.",
                "service",
            ),
            "sla_objective_ratio": Metric("Share that is promised.", "service"),
            "sla_budget_left_ratio": Metric(
                "Share of the error budget that was left, below 0 where more was spent; NaN where that is not known.",
                "service",
            ),
            "sla_coverage_ratio": Metric("Share of the samples that Prometheus had of it.", "service"),
            "sla_last_check_timestamp_seconds": Metric("When service levels were last looked at."),
        },
    ),
    Section(
        modules=(_INCIDENTS,),
        panels=each_panel(_incidents),
        attention=_attention,
        lasting=each_step(_incident_metrics),
        metrics={
            "incidents": Metric("Incidents of the last month that was looked at.", "source"),
            "incidents_mtta_seconds": Metric("Median until one was acknowledged; NaN of too few.", "source"),
            "incidents_mttr_seconds": Metric("Median until one was resolved; NaN of too few.", "source"),
            "incidents_last_check_timestamp_seconds": Metric("When incidents were last looked at."),
        },
    ),
    Section(
        modules=(_DASHBOARDS,),
        title="Dashboards and alert rules",
        figures=("rules", "metrics", "duration_s"),
        listings=(
            Listing(
                "dashboards",
                "Dashboards",
                {
                    "title": "Dashboard",
                    "panels": "Panels",
                    "queries": "Queries",
                    "empty": "Empty",
                    "unknown": "Unknown",
                },
            ),
        ),
        more=_with_findings,
        attention=_attention,
        lasting=each_step(_dashboard_metrics),
        metrics={
            "dashboards_findings": Metric("What is wrong with dashboards and alert rules, by kind.", "kind"),
            "dashboards_last_check_timestamp_seconds": Metric("When dashboards were last looked at."),
        },
    ),
    Section(modules=(_LEVELS, _DASHBOARDS), did=_did),
)
