"""When a metric is bad, when to stop early, and when nobody can tell; and what a page has to answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.change import soak as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.probe import Page
from ansible.module_utils.runbook.rules.change.soak import Metric, Rule, Sample, Tally
from ansible.module_utils.runbook.rules.status import Status

ERRORS = Metric("errors", "up", max=0.02)


def vector(*values: str, **more: Any) -> str:
    result = [{"metric": {}, "value": [1.5, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}} | more)


@pytest.mark.parametrize(
    ("status", "body", "sample"),
    [
        (200, vector("0.02"), Sample("good")),
        (200, vector("0.021"), Sample("failed", "its value was 0.021")),
        (200, vector("0", "1"), Sample("failed", "its value was 1")),
        (200, vector("+Inf"), Sample("failed", "its value was inf")),
        (200, vector("-Inf"), Sample("good")),
        (200, vector("NaN"), Sample("unknown", "its value was NaN")),
        (200, vector("NaN", "1"), Sample("failed", "its value was 1")),
        (200, vector(), Sample("unknown", "it has no value: the metric or its exporter is gone")),
        (
            200,
            vector("0", warnings=["no data from shard 2"]),
            Sample("unknown", "Prometheus warns: no data from shard 2"),
        ),
        (
            200,
            '{"status":"success","data":{"resultType":"scalar","result":[1,"0.5"]}}',
            Sample("failed", "its value was 0.5"),
        ),
        (503, "{}", Sample("unknown", "Prometheus answered with 503")),
        (200, "<html>", Sample("unknown", "Prometheus answered with 200 and something that is no result")),
        (200, "{}", Sample("unknown", "Prometheus answered with 200 and something that is no result")),
        (200, vector("many"), Sample("unknown", "Prometheus answered with 200 and something that is no result")),
    ],
)
def test_what_prometheus_says(status: int, body: str, sample: Sample):
    assert ERRORS.judge(status, body) == sample


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [(400, '{"status":"error","error":"parse error: unexpected )"}', "cannot read its query: parse error"),
     (200, '{"status":"success","data":{"resultType":"matrix","result":[]}}', "gives a matrix")],
)  # fmt: skip
def test_a_query_that_is_none_is_refused(status: int, body: str, says: str):
    with pytest.raises(RunbookError, match=says):
        ERRORS.judge(status, body)


def test_a_least_value_counts_too():
    assert Metric("up", "up", min=1).judge(200, vector("0")).outcome == "failed"
    assert Metric("up", "up", min=1).judge(200, vector("1")).outcome == "good"
    with pytest.raises(RunbookError, match="neither min nor max"):
        Metric.of({"name": "up", "query": "up", "min": None, "max": None})


RULE = Rule(abort_share=0.1, min_samples=5)


@pytest.mark.parametrize(
    ("good", "failed", "unknown", "aborts", "status"),
    [
        (5, 0, 0, False, Status.OK),
        (4, 0, 0, False, Status.UNKNOWN),
        (0, 0, 9, False, Status.UNKNOWN),
        (0, 4, 0, False, Status.UNKNOWN),
        (0, 5, 0, True, Status.BREACH),
        (9, 1, 0, False, Status.OK),
        (8, 1, 0, True, Status.BREACH),
        (5, 0, 5, False, Status.OK),
        (5, 0, 6, False, Status.UNKNOWN),
    ],
)
def test_the_verdict(good: int, failed: int, unknown: int, aborts: bool, status: Status):
    tally = Tally("errors", good, failed, unknown)
    assert tally.aborts(RULE) is aborts
    assert tally.check(RULE).status is status
    assert tally.check(RULE).msg.startswith("errors: ")


def test_one_failure_is_too_much_where_none_may_fail():
    assert Tally("errors", 99, 1).aborts(Rule(0, 5))
    assert not Tally("errors", 3, 1).aborts(Rule(0, 5))


@pytest.mark.parametrize(("good", "failed", "aborts"), [
    (4, 1, False),  # the only one of half an hour, for all that is known
    (0, 4, False),
    (0, 5, True),  # nothing but failures
    (10, 12, False),
    (10, 13, True),  # of 121 samples, whatever the rest will show
])  # fmt: skip
def test_a_soak_ends_early_only_where_it_is_lost(good, failed, aborts):
    rule = Rule.of(abort_share=0.1, min_samples=5, duration_s=1800, interval_s=15)
    assert Tally("errors", good, failed).aborts(rule) is aborts


@pytest.mark.parametrize(
    ("given", "says"),
    [({"min_samples": 12}, "in 10 s one every 1 s gives 11 samples"),
     ({"abort_share": 1}, "abort_share: 1 is no share"),
     ({"abort_share": -0.1}, "is no share"), ({"abort_share": float("nan")}, "is no share")],
)  # fmt: skip
def test_a_rule_that_could_never_be_met_is_refused(given: dict[str, Any], says: str):
    with pytest.raises(RunbookError, match=says):
        Rule.of(**{"abort_share": 0.1, "min_samples": 5, "duration_s": 10, "interval_s": 1} | given)


class Time:
    """A clock that goes on by sleeping, and by looks that take their time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(driver, "time", made)
    return made


def test_a_soak_takes_as_long_as_it_shall_and_ends_early_where_it_is_bad(clock: Time):
    good = ("good", lambda: Sample("good"))
    watched = driver.watch([good], RULE, duration_s=60, interval_s=7, tell=lambda _s: None)
    assert (clock.now, watched.watched_s, watched.aborted) == (1060, 60, False)
    assert watched.tallies[0].good == 9
    samples = iter(["good", "good", "unknown", "good", "failed", "failed"])
    bad = ("bad", lambda: Sample(next(samples)))  # type: ignore[arg-type] # of these words
    watched = driver.watch([good, bad], RULE, duration_s=60, interval_s=7, tell=lambda _s: None)
    assert (watched.watched_s, watched.aborted) == (35, True)
    assert [each.check(RULE).status for each in watched.tallies] == [Status.OK, Status.BREACH]


def test_looks_that_take_longer_than_the_pause_are_left_out(clock: Time):
    def slow() -> Sample:
        clock.now += 9
        return Sample("good")

    watched = driver.watch([("slow", slow)], RULE, duration_s=60, interval_s=5, tell=lambda _s: None)
    assert (watched.watched_s, watched.tallies[0].good) == (69, 7)
    watched = driver.watch([("slow", slow)], RULE, duration_s=0, interval_s=5, tell=lambda _s: None)
    assert watched.tallies[0].good == 1


PAGE = {"name": "health", "url": "https://app.example.com/health"}


@pytest.mark.parametrize(
    ("given", "answer", "lacks"),
    [
        ({}, (200, {}, "Welcome"), ""),
        ({}, (503, {}, "Welcome"), "answers with 503 instead of 200"),
        ({"status": 401}, (401, {}, ""), ""),
        ({"text": "Sign in"}, (200, {}, "Welcome"), "does not hold the text"),
        ({"version": "2", "version_header": "X-Version"}, (200, {"x-version": "2"}, ""), ""),
        (
            {"version": "2", "version_header": "X-Version"},
            (200, {"x-version": "1"}, ""),
            "serves version '1' instead of '2'",
        ),
        ({"version": "2", "version_header": "X-Version"}, (200, {}, ""), "does not say its version in X-Version"),
        ({"version": "2", "version_field": "build.id"}, (200, {}, '{"build":{"id":2}}'), ""),
        (
            {"version": "2", "version_field": "build.id"},
            (200, {}, '{"build":7}'),
            "does not say its version in build.id",
        ),
        ({"version": "2", "version_field": "build.id"}, (200, {}, "<html>"), "does not say its version in build.id"),
    ],
)
def test_what_a_page_has_to_answer(given: dict[str, Any], answer: tuple[int, dict[str, str], str], lacks: str):
    said = Page.of(PAGE | given).lacks(*answer)
    assert lacks in said
    assert bool(lacks) == bool(said)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"url": "app.example.com"}, "pages: health: url: 'app.example.com' is no address"),
     ({"version": "2"}, "a version needs version_header or version_field"),
     ({"version_field": "v"}, "either of them a version"),
     ({"version": "2", "version_field": "v", "version_header": "v"}, "one of them")],
)  # fmt: skip
def test_a_page_that_nobody_can_judge_is_refused(given: dict[str, Any], says: str):
    with pytest.raises(RunbookError, match=says):
        Page.of(PAGE | given)
