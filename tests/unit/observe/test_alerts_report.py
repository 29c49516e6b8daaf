"""What the report says of alerts, of the rota and of test alerts."""

from __future__ import annotations

from typing import Any

import record_samples as samples
from ansible.module_utils.runbook.report import sections
from ansible.module_utils.runbook.report.sections.observe import SECTIONS

REVIEW = SECTIONS[0]
ALERT: dict[str, Any] = {
    "alert": "Latency", "severity": "page", "firings": 13, "longest_s": 5_160, "mean_s": 1_818, "fires_now": 0,
    "acted_on": 3, "not_acted_on": 10, "acted_on_unknown": 0, "precision": 0.231,
}  # fmt: skip
FIGURES: dict[str, Any] = {
    "begin": "2026-11-01T00:00:00+00:00", "end": "2026-11-08T00:00:00+00:00", "days": 7, "coverage": 0.98, "rules": 40,
    "alerts": [ALERT, ALERT | {"alert": "Queue", "firings": 2, "precision": None}],
    "findings": [
        {"id": "false_positives:Latency", "severity": "warning", "msg": "Nobody acted.", "risk": "Judge each."},
        {"id": "broken_rule:Disk", "severity": "critical", "msg": "It cannot fire."},
    ],
    "unknown": [{"kind": "history", "msg": "98.0 % of it.", "fixable": True}],
    "thresholds": [{"alert": "Latency", "today": 0.5, "offered": 1.0, "firings_before": 13, "firings_after": 3,
                    "incidents": 3, "incidents_missed": 0, "delay_s": 0}],
    "rules_text": ["groups: []"], "rules_test_text": ["rule_files:", "  - alert_rules.yml"], "rules_diff": ["+a"],
    "replay_text": [], "replay_test_text": [],
}  # fmt: skip


def record(module: str, *hosts: str, **figures: Any) -> dict[str, Any]:
    sample = samples.Sample(playbook="monitoring")
    for host in hosts:
        sample.result(sample.task("Look", module), host, msg="Looked.", figures=figures)
    return samples.fold(sample.events)


def test_each_alert_has_a_bar_and_a_row():
    (panel,) = [each for each in sections.panels(record("alert_review_info", "m", **FIGURES), "m") if each.charts]
    (chart,) = panel.charts
    assert [(row["label"], row["width"], row["tone"]) for row in chart.drawn] == [
        ("Latency", 100.0, "failed"), ("Queue", 100 * 2 / 13, "unknown"),
    ]  # fmt: skip
    assert chart.drawn[0]["word"] == "acted on 23 %"
    assert ("Watched", "98.0 %") in panel.grid
    assert [(each["name"], each["status"]) for each in panel.checks] == [
        ("false_positives:Latency", "warning"), ("broken_rule:Disk", "critical"), ("history", "unknown"),
    ]  # fmt: skip
    assert [table.title for table in panel.tables] == ["Thresholds that are offered", "Alerts that fired"]
    assert panel.tables[1].rows[0] == [
        "Latency", "page", "13", "1 h 26 min", "30 min 18 s", "0", "3", "10", "0", "23 %",
    ]  # fmt: skip


def test_files_lie_beside_it_each_host_with_its_own():
    assert REVIEW.pages is not None
    one = {page.name: page for page in REVIEW.pages(record("alert_review_info", "m", **FIGURES), [])}
    assert list(one) == ["alert_rules.yml", "alert_rules_test.yml", "alert_rules.diff"]
    two = {page.name: page for page in REVIEW.pages(record("alert_review_info", "a", "b", **FIGURES), [])}
    assert "  - b-alert_rules.yml" in two["b-alert_rules_test.yml"].text


def test_the_terminal_and_the_headline_say_what_came_of_it():
    made = record("alert_review_info", "m", **FIGURES)
    assert REVIEW.headline is not None
    assert REVIEW.did is not None
    assert REVIEW.headline(made) == [("Firings in 7 days", "15"), ("Better thresholds", "1")]
    assert REVIEW.did(made["hosts"]["m"], False) == ["15 firings, 1 better threshold"]
    assert REVIEW.attention is not None
    assert REVIEW.attention(made["hosts"]["m"]["steps"][0]) == ["Nobody acted. Judge each."]
    nothing = record("alert_review_info", "m")
    assert (REVIEW.headline(nothing), REVIEW.did(nothing["hosts"]["m"], False)) == ([], [])
    sent = {"sent": [{"arrived_s": 1.0}, {"arrived_s": None}]}
    assert REVIEW.did(record("alert_delivery_test", "m", **sent)["hosts"]["m"], False) == ["1 of 2 test alerts arrived"]


def test_who_is_on_call_and_what_arrived():
    shift = {"schedule": "Primary", "person": "Ada", "begin": "2026-11-30T09:00:00+00:00",
             "end": "2026-12-07T09:00:00+00:00"}  # fmt: skip
    hole = {"id": "hole:Primary", "severity": "critical", "msg": "Nobody.", "risk": "Put somebody in."}
    rota = record("oncall_rota_info", "m", shifts=[shift], on_call_now=["Ada"], findings=[hole], unknown=[])
    (panel,) = [each for each in sections.panels(rota, "m") if each.title == "On call"]
    assert panel.grid == [("On call now", "Ada")]
    assert panel.checks[0]["msg"] == "Nobody. Put somebody in."
    assert panel.tables[0].rows[0][:2] == ["Primary", "Ada"]
    check = {"name": "delivery", "status": "breach", "msg": "It did not arrive.", "subject": "pager"}
    sent = [{"receiver": "pager", "code": "RT1", "proof": "pagerduty", "arrived_s": None}]
    delivery = record("alert_delivery_test", "m", checks=[check], on_call=["Ada"], sent=sent)
    (panel,) = [each for each in sections.panels(delivery, "m") if each.title == "Delivery of alerts"]
    assert panel.grid == [("On call for it", "Ada")]
    assert panel.tables[0].rows == [["pager", "RT1", "pagerduty"]]
