"""Alerts: which fired and on which people acted, who is on call, and whether they arrive; thresholds as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import (
    Chart,
    Page,
    Panel,
    Section,
    Table,
    checks,
    each_panel,
    lists,
    table,
)
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Figures, Record, Step

_REVIEW, _ROTA, _DELIVERY = "alert_review_info", "oncall_rota_info", "alert_delivery_test"
#: What stands in the run's folder: the lists of lines in a result, and the files that they are.
_FILES = {
    "rules_text": ("alert_rules.yml", "alert rules that are offered"),
    "rules_test_text": ("alert_rules_test.yml", ""),
    "replay_text": ("alert_rules_replay.yml", ""),
    "replay_test_text": ("alert_rules_replay_test.yml", ""),
    "rules_diff": ("alert_rules.diff", "how they differ from those in use"),
}
#: What a person has to know of though the run is green. What is critical, the step itself says.
_TOLD = ("warning",)
_BARS = 20


def _findings(figures: Figures) -> list[Mapping[str, str]]:
    found = [
        {"name": str(each.get("id")), "status": str(each.get("severity")), "msg": _advice(each)}
        for each in lists(figures, "findings")
    ]
    unknown = [
        {"name": str(each.get("kind")), "status": str(Status.UNKNOWN), "msg": str(each.get("msg"))}
        for each in lists(figures, "unknown")
    ]
    return [*found, *unknown]


def _advice(finding: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (str(finding.get("msg") or ""), str(finding.get("risk") or ""))))


def _percent(value: Any) -> str:
    return wording.NONE if value is None else f"{value * 100:.0f} %"


def _review(step: Step) -> Panel:
    figures = step["figures"]
    fired = lists(figures, "alerts")
    coverage = figures.get("coverage")
    grid: list[Fact] = [
        ("From", wording.moment(figures.get("begin"))),
        ("To", wording.moment(figures.get("end"))),
        ("Watched", wording.NONE if coverage is None else f"{coverage * 100:.1f} %"),
        ("Alerts with rules", wording.number(figures.get("rules"))),
        ("Fired", wording.number(len(fired))),
    ]
    return Panel(
        "Alerts",
        msg=step["msg"],
        grid=grid,
        checks=_findings(figures),
        charts=[_chart(fired)] if fired else [],
        tables=[*_tables(figures, fired)],
        is_first=True,
    )


def _chart(fired: Sequence[Mapping[str, Any]]) -> Chart:
    """How often each fired; the colour says whether people acted."""
    most = max(each.get("firings") or 0 for each in fired) or 1
    shown = [
        {
            "label": wording.shortened(str(each.get("alert")), 90),
            "short": wording.shortened(str(each.get("alert")), 34),
            "title": str(each.get("alert")),
            "value": wording.things(each.get("firings"), "firing"),
            "word": _word(each),
            "x": 0,
            "width": max(100 * (each.get("firings") or 0) / most, 0.4),
            "tone": _tone(each),
        }
        for each in fired[:_BARS]
    ]
    left = len(fired) - len(shown)
    title = f"Firings per alert{f', the {_BARS} most frequent of {len(fired)}' if left else ''}"
    return Chart("bars", title, "One bar for each alert; the numbers are in the table below.", shown)


def _word(alert: Mapping[str, Any]) -> str:
    precision = alert.get("precision")
    if precision is None:
        return "unknown whether people acted"
    return f"acted on {_percent(precision)}"


def _tone(alert: Mapping[str, Any]) -> str:
    precision = alert.get("precision")
    return "unknown" if precision is None else "ok" if precision >= 0.5 else "failed"


def _tables(figures: Figures, fired: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    if offered := lists(figures, "thresholds"):
        columns = {
            "alert": "Alert", "today": "Threshold today", "offered": "Offered",
            "firings_before": "Firings now", "firings_after": "Then",
            "incidents": "Incidents kept", "incidents_missed": "Missed", "delay_s": "Later by",
        }  # fmt: skip
        yield table("Thresholds that are offered", offered, columns)
    if refused := lists(figures, "no_threshold"):
        yield table("Alerts without a better threshold", refused, {"alert": "Alert", "why": "Why"})
    if fired:
        head = [
            ("Alert", ""), ("Severity", ""), ("Firings", "num"), ("Longest", "num"), ("Mean", "num"),
            ("Now", "num"), ("Acted on", "num"), ("Not", "num"), ("Unknown", "num"), ("Precision", "num"),
        ]  # fmt: skip
        counts = ("fires_now", "acted_on", "not_acted_on", "acted_on_unknown")
        rows = [
            [
                str(each.get("alert")), str(each.get("severity") or wording.NONE), wording.number(each.get("firings")),
                wording.duration(each.get("longest_s")), wording.duration(each.get("mean_s")),
                *(wording.number(each.get(key)) for key in counts),
                _percent(each.get("precision")),
            ]
            for each in fired
        ]  # fmt: skip
        yield Table("Alerts that fired", head, rows, is_open=len(rows) <= _BARS)


def _rota(step: Step) -> Panel:
    figures = step["figures"]
    now = figures.get("on_call_now") or []
    columns = {"schedule": "Schedule", "person": "On call", "begin": "From", "end": "To"}
    shifts = [
        dict(each) | {key: wording.moment(each.get(key)) for key in ("begin", "end")}
        for each in lists(figures, "shifts")
    ]
    return Panel(
        "On call",
        msg=step["msg"],
        grid=[("On call now", ", ".join(now) or "nobody")],
        checks=_findings(figures),
        tables=[table("Shifts", shifts, columns)] if shifts else [],
        is_first=True,
    )


def _delivery(step: Step) -> Panel:
    figures = step["figures"]
    on_call = figures.get("on_call") or []
    sent = lists(figures, "sent")
    columns = {"receiver": "Receiver", "code": "Code", "proof": "Proof", "arrived_s": "Arrived after"}
    return Panel(
        "Delivery of alerts",
        msg="",
        grid=[("On call for it", ", ".join(on_call))] if on_call else [],
        checks=checks(figures),
        tables=[table("Test alerts", sent, columns)] if sent else [],
        is_first=True,
    )


def _attention(step: Step) -> list[str]:
    return [_advice(each) for each in lists(step["figures"], "findings") if each.get("severity") in _TOLD]


def _of_run(record: Record, module: str) -> Iterator[tuple[str, Figures]]:
    """Each host's last look."""
    for host, of_host in record["hosts"].items():
        looked = [step["figures"] for step in of_host["steps"] if short_name(step["module"]) == module]
        if looked:
            yield host, looked[-1]


def _headline(record: Record) -> list[Fact]:
    shown: list[Fact] = []
    for _, figures in _of_run(record, _REVIEW):
        if figures.get("alerts") is not None:
            firings = sum(each.get("firings") or 0 for each in lists(figures, "alerts"))
            shown.append((f"Firings in {count(figures.get('days') or 0, 'day')}", wording.number(firings)))
            shown.append(("Better thresholds", wording.number(len(lists(figures, "thresholds")))))
    return shown


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    said = []
    for step in host["steps"]:
        figures, name = step["figures"], short_name(step["module"])
        if name == _REVIEW and figures.get("alerts") is not None:
            firings = sum(each.get("firings") or 0 for each in lists(figures, "alerts"))
            offered = len(lists(figures, "thresholds"))
            said.append(f"{count(firings, 'firing')}, {count(offered, 'better threshold')}")
        elif name == _ROTA and figures.get("shifts") is not None:
            said.append(f"{count(len(lists(figures, 'findings')), 'finding')} in the rota")
        elif name == _DELIVERY and (sent := lists(figures, "sent")):
            arrived = sum(each.get("arrived_s") is not None for each in sent)
            said.append(f"{arrived} of {count(len(sent), 'test alert')} arrived")
    return said


def _pages(record: Record, _history: Sequence[Mapping[str, Any]]) -> list[Page]:
    """The files of each host; with its name before them where there are several."""
    looked = list(_of_run(record, _REVIEW))
    found = []
    for host, figures in looked:
        before = f"{host}-" if len(looked) > 1 else ""
        for key, (name, link) in _FILES.items():
            if lines := figures.get(key):
                text = "\n".join(lines) + "\n"
                # The tests name the files of rules.
                for rules in ("alert_rules.yml", "alert_rules_replay.yml"):
                    text = text.replace(rules, before + rules)
                found.append(Page(before + name, text, link=f"{host}: {link}" if before and link else link))
    return found


SECTIONS = (
    Section(
        modules=(_REVIEW,),
        panels=each_panel(_review),
        headline=_headline,
        did=_did,
        attention=_attention,
        pages=_pages,
    ),
    Section(modules=(_ROTA,), panels=each_panel(_rota), attention=_attention),
    Section(modules=(_DELIVERY,), panels=each_panel(_delivery)),
)
