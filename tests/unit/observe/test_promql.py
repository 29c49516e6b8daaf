"""Selectors and variables in queries, as people write them."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.rules.observe import promql
from ansible.module_utils.runbook.rules.observe.promql import Selector


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", set()),
        ("up", {"up"}),
        ("1 + 2 * inf", set()),
        ("sum(rate(a_total[5m])) by (job, b) / ignoring(c) group_left(d) e_total offset 5m", {"a_total", "e_total"}),
        ("sum by(job)(a) > bool 3 and on(x) b unless c or d", {"a", "b", "c", "d"}),
        ("histogram_quantile(0.9, sum without (pod) (rate(d_bucket{le!=\"+Inf\"}[5m:1m])))", {"d_bucket"}),
        ('{__name__="named",job="x"}', {"named"}),
        ('{__name__=~"many.*"}', set()),
        ('count_values("version", build_info) # not_this one\n+ other', {"build_info", "other"}),
        ("label_replace(a, \"b\", \"$1\", 'c', `d{e`)", {"a"}),
        ("job:requests:rate5m{job=\"a{b}c\"} @ start()", {"job:requests:rate5m"}),
        ("sum(a{x=\"}\"}) by", {"a"}),
        ("topk(5, a) > 1e3", {"a"}),
        ("a[$__range] + b{", {"a", "b"}),
    ],
)  # fmt: skip
def test_metrics_are_found_wherever_they_stand(query, found):
    assert promql.metrics(query) == found


def test_a_selector_takes_what_its_matchers_say():
    (selector,) = promql.selectors('a{job=~"api|web",code!="500", x!~"(", y="\\"q\\""}')
    assert selector == Selector(
        "a", (("job", "=~", "api|web"), ("code", "!=", "500"), ("x", "!~", "("), ("y", "=", '"q"'))
    )
    assert selector.may_take({"job": "api", "other": "anything"})
    assert not selector.may_take({"job": "apis"})
    assert not selector.may_take({"code": "500"})
    # What only RE2 understands says nothing.
    assert selector.may_take({"x": "5"})
    assert selector.with_labels({"job": 'a"b'}) == 'a{code!="500",x!~"(",y="\\"q\\"",job="a\\"b"}'


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("absent(up)", True), ("absent_over_time(up[5m]) > 0", True), ('up{a="absent(x)"}', False),
        ("absently_total", False),
    ],
)  # fmt: skip
def test_a_rule_about_absence_is_told_from_others(query, found):
    assert promql.is_of_absence(query) is found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("a > 1", True), ("a == 0", True), ("a > bool 1", False), ('a{b="1 > 2"}', False), ("a unless b", True),
        ('a{b!="c"}', False), ("a <= 2", True), ("rate(a[5m])", False), ('{b=~"x", c!~"y"}', False),
    ],
)  # fmt: skip
def test_a_query_that_keeps_only_some_values_may_be_empty(query, found):
    assert promql.filters(query) is found


def test_variables_in_all_of_their_spellings():
    text, missing = promql.expand('a{b="$b",c="${c:regex}",d="[[d]]"}[$__interval] $e', {"b": "1", "c": "2", "d": "3"})
    assert text == 'a{b="1",c="2",d="3"}[$__interval] $e'
    assert missing == ["__interval", "e"]
