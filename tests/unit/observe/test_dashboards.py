"""Panels of dashboards as Grafana saves them, old and new, and which signals their queries show."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.rules.observe import dashboards
from ansible.module_utils.runbook.rules.observe.series import Rule


def queries(*panels: dict[str, Any], variables: tuple[dict[str, Any], ...] = (), **more: Any) -> list[dashboards.Query]:
    return dashboards.queries({"title": "D", "panels": list(panels), "templating": {"list": list(variables)}} | more)


def panel(expr: str, **more: Any) -> dict[str, Any]:
    return {"id": 7, "title": "P", "type": "graph", "targets": [{"refId": "A", "expr": expr} | more]}


def test_panels_are_found_in_rows_old_and_new():
    found = queries(
        panel("a"), {"type": "row", "panels": [panel("b")]}, {"type": "text", "targets": [{"expr": "t"}]},
        {"type": "stat", "targets": None}, rows=[{"panels": [panel("c")]}],
    )  # fmt: skip
    assert [each.text for each in found] == ["c", "a", "b"]
    assert found[0].where == "D / P"
    assert queries(panel("a", hide=True)) == []


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ({"type": "custom", "current": {"value": "api"}}, "api"),
        ({"type": "custom", "multi": True, "current": {"value": ["api", "web"]}}, "api|web"),
        ({"type": "query", "includeAll": True}, ".*"),
        ({"type": "query", "includeAll": True, "allValue": "a.+", "current": {"value": "$__all"}}, "a.+"),
        ({"type": "constant", "query": "7"}, "7"),
        ({"type": "interval", "query": "1m,5m", "current": {"value": "$__auto_interval_x"}}, "1m"),
        ({"type": "textbox", "query": "t", "current": {"value": ""}}, "t"),
    ],
)
def test_variables_have_the_value_that_was_saved(variable, text):
    (found,) = queries(panel('a{b=~"$x"}'), variables=({"name": "x"} | variable,))
    assert (found.text, found.why_not) == (f'a{{b=~"{text}"}}', "")


@pytest.mark.parametrize(
    ("query", "variable", "said"),
    [
        ("a$x", {"type": "query"}, "the variable x has no value"),
        ("a$y", {"type": "query"}, "the variable y has no value"),
        ('a{b="${x}"}', {"type": "query", "includeAll": True}, "is compared by '='"),
        ("a[$__from]", {"type": "query"}, "__from has no value"),
    ],
)
def test_a_query_that_nobody_can_ask_as_grafana_would_is_not_asked(query, variable, said):
    (found,) = queries(panel(query), variables=({"name": "x"} | variable,))
    assert said in found.why_not
    assert found.fixable


def test_other_data_sources_and_library_panels_are_named():
    found = queries(
        panel("a", datasource={"type": "loki"}), panel(""), {"title": "L", "libraryPanel": {"uid": "u"}},
        panel("b", datasource="Prometheus"),
    )  # fmt: skip
    assert [bool(each.why_not) for each in found] == [True, True, True, False]
    assert [each.fixable for each in found] == [False, False, True, True]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("rate(http_requests_total[5m])", ["rate"]),
        ('rate(http_requests_total{code=~"5.."}[5m])', ["errors"]),
        ("increase(job_failures_total[1h])", ["errors"]),
        ("histogram_quantile(0.9, rate(http_bucket[5m]))", ["duration"]),
        (
            "rate(http_duration_seconds_sum[5m]) / rate(http_duration_seconds_count[5m])",
            ["duration", "duration", "rate"],
        ),
        ("http_requests_total", []),
        ("up", []),
    ],
)
def test_signals_of_a_service_by_what_its_queries_ask(query, found):
    assert [signal for signal, _ in dashboards.signals(query)] == found


def test_each_rule_of_an_alert_may_be_blind():
    """A warning and a page of one name are two rules."""
    listed = [
        Rule("alerting", "Slow", query, "g", "f", 60.0)
        for query in ("gone_seconds > 1", "there_seconds > 2", "absent(up)")
    ]
    assert dashboards.alert_metrics(listed) == {"gone_seconds", "there_seconds"}
    assert dashboards.blind(listed, frozenset({"gone_seconds"})) == {"Slow": {"gone_seconds"}}
    one_of_two = [Rule("alerting", "Disk", "linux_free < 1 or windows_free < 1", "g", "f", 60.0)]
    assert dashboards.blind(one_of_two, frozenset({"windows_free"})) == {}
    assert list(dashboards.blind(one_of_two, frozenset({"linux_free", "windows_free"}))) == ["Disk"]
