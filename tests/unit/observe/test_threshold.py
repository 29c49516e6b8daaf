"""Comparisons found in expressions, replays of rules, and thresholds that miss no incident."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.observe import threshold
from ansible.module_utils.runbook.rules.observe.firings import Firing, Span
from ansible.module_utils.runbook.rules.observe.series import Rule, Series
from ansible.module_utils.runbook.rules.observe.threshold import Past, Simple, replay

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.observe.acts import Act

ABOVE, BELOW = Simple("m", ">", 10.0), Simple("m", "<", 10.0)


@pytest.mark.parametrize(
    ("query", "left", "operator", "number"),
    [
        ("up < 1", "up", "<", 1.0),
        ("  m{a='x>3', b=`}`} >= -1.5e3 ", "m{a='x>3', b=`}`}", ">=", -1500.0),
        ('a{b="\\">"} > .5', 'a{b="\\">"}', ">", 0.5),
        ("sum by (a) (rate(b[5m] offset 1h)) / on(a) c * 100 > 5", "sum by (a) (rate(b[5m] offset 1h)) / on(a) c * 100",
         ">", 5.0),
        ("count(m > 3) > 2", "count(m > 3)", ">", 2.0),
    ],
)  # fmt: skip
def test_the_outermost_comparison(query: str, left: str, operator: str, number: float):
    assert threshold.split(query) == Simple(left, operator, number)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("absent(up)", "compares nothing"),
        ("a > 1 and b > 2", "'and' between"),
        ("a > 1 OR b", "'OR' between"),
        ("a unless b > 1", "'unless' between"),
        ("a > b", "plain number"),
        ("a > bool 1", "plain number"),
        ("1 < a", "plain number"),
        ("a > 1 * 2", "plain number"),
        ("a > 5m", "plain number"),
        ("1 < a < 3", "more than once"),
        ("a == 0", "has no threshold"),
        ("a > 1 # more than one", "has a comment"),
        ("(a > 1)", "compares nothing"),
        ("", "compares nothing"),
    ],
)
def test_what_is_not_beyond_doubt_is_refused(query: str, why: str):
    with pytest.raises(RunbookError, match=why):
        threshold.split(query)


def values(*given: float | None) -> list[tuple[float, float]]:
    return [(60.0 * at, value) for at, value in enumerate(given) if value is not None]


def spans(
    *given: float | None, simple: Simple = ABOVE, for_s: float = 0, keep_s: float = 0
) -> list[tuple[float, float]]:
    found = replay(values(*given), simple, simple.number, for_s=for_s, keep_s=keep_s, step_s=60)
    return [(each.begin_s / 60, each.end_s / 60) for each in found]


def test_a_replay_fires_as_prometheus_does():
    assert spans(5, 11, 12, 5, 11) == [(1, 3), (4, 5)]
    assert spans(5, 9, 10, simple=BELOW) == [(0, 2)]
    # It has to hold for three steps.
    assert spans(5, 11, 11, 5, 11, 11, 11, 11, 5, for_s=180) == [(7, 8)]
    # NaN is no value above anything; without a sample it ends.
    assert spans(11, math.nan, 11) == [(0, 1), (2, 3)]
    assert spans(11, 11, None, None, 11) == [(0, 2), (4, 5)]
    assert spans(math.inf) == [(0, 1)]
    assert spans() == []
    # It goes on firing for a while.
    assert spans(11, 5, 11, 5, 5, 5, keep_s=60) == [(0, 4)]


def test_the_strength_of_a_firing_is_the_lowest_value_that_held_long_enough():
    series = values(5, 12, 14, 20, 16, 13, 5)
    assert threshold.strength(series, Span(60, 360), ABOVE, for_s=0) == 20
    assert threshold.strength(series, Span(180, 360), ABOVE, for_s=120) == 14
    low = values(20, 8, 3, 4, 20)
    assert threshold.strength(low, Span(60, 240), BELOW, for_s=0) == 3
    assert threshold.strength(low, Span(120, 240), BELOW, for_s=60) == 4


RULE = Rule("alerting", "Slow", "m > 10", "g", "f.yml", 60.0, labels={"severity": "page"})
LABELS = {"__name__": "m", "host": "a"}
KEY = (("alertname", "Slow"), ("host", "a"), ("severity", "page"))


def past(peaks: list[float], acts: list[Act], *, rest: float = 1.0) -> Past:
    """A peak of two steps every ten minutes, each of which fired."""
    points: list[float] = []
    fired = []
    for peak in peaks:
        begin = 60.0 * (len(points) + 8)
        points += [rest] * 8 + [peak, peak]
        fired.append(Firing("Slow", KEY, begin, begin + 120))
    points.append(rest)
    return Past([Series(LABELS, tuple(values(*points)))], fired, acts, 0, 60.0 * len(points), 60.0)


def test_the_threshold_keeps_every_incident_and_removes_the_rest():
    given = past([12, 50, 13, 14, 40], ["not_acted", "acted", "not_acted", "not_acted", "acted"])
    offered = threshold.propose(RULE, given, min_samples=5)
    assert (offered.number, offered.before, offered.after, offered.removed) == (30.0, 5, 2, 3)
    assert (offered.incidents, offered.delay_s, offered.query) == (2, 0, "m > 30")
    below = replace(RULE, query="m < 10")
    down = past([8, 2, 7, 6, 3], ["not_acted", "acted", "not_acted", "not_acted", "acted"], rest=20)
    assert threshold.propose(below, down, min_samples=5).query == "m < 4"


def test_what_nobody_knows_is_an_incident_too():
    given = past([12, 50, 13, 14, 40, 13.5], ["not_acted", "acted", "not_acted", "not_acted", "acted", "unknown"])
    offered = threshold.propose(RULE, given, min_samples=5)
    # The fourth false positive is stronger than what nobody knows, and stays.
    assert (13 <= offered.number < 13.5, offered.removed, offered.incidents) == (True, 2, 3)


@pytest.mark.parametrize(
    ("peaks", "acts", "why"),
    [
        ([12, 50, 13, 14, 40], ["acted"] * 5, "no firing is known on which nobody acted"),
        ([12, 50, 13, 14, 40], ["not_acted"] * 5, "is it needed at all"),
        ([12, 50], ["not_acted", "acted"], "and 5 are needed"),
        (
            [50, 12, 50, 50, 50],
            ["not_acted", "acted", "not_acted", "not_acted", "not_acted"],
            "no threshold lies between",
        ),
    ],
)
def test_no_threshold_without_a_reason(peaks: list[float], acts: list[Act], why: str):
    with pytest.raises(RunbookError, match=why):
        threshold.propose(RULE, past(peaks, acts), min_samples=5)


def test_a_replay_that_is_not_what_was_says_nothing():
    given = past([12, 50, 13, 14, 40], ["not_acted", "acted", "not_acted", "not_acted", "acted"])
    changed = replace(RULE, query="m > 13.5")
    with pytest.raises(RunbookError, match="fired 3 times in the replay and 5 times in truth"):
        threshold.propose(changed, given, min_samples=5)


def test_files_name_what_changes_and_test_it():
    given = past([12, 50, 13, 14, 40], ["not_acted", "acted", "not_acted", "not_acted", "acted"])
    offered = threshold.propose(replace(RULE, annotations={"summary": '{{ $value }} is "slow"'}), given, min_samples=5)
    assert threshold.is_plain(offered)
    rules = threshold.rule_file([(offered.rule, offered.query)], "Rules.")
    assert '        expr: "m > 30"' in rules
    assert '          summary: "{{ $value }} is \\"slow\\""' in rules
    tests = threshold.test_file([offered], rule_file_name="r.yml", step_s=60, replayed=False)
    assert tests.count("exp_samples: []") == 5
    assert 'series: "m{host=\\"a\\"}"' in tests
    assert not threshold.is_plain(replace(offered, simple=Simple("rate(m[5m])", ">", 10.0)))
    assert "groups: []" in threshold.rule_file([], "None.")
