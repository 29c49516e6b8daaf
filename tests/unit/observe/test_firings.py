"""Firings out of samples: gaps of Prometheus, what began before, what goes on, flapping; and what people did."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.silence import Matcher
from ansible.module_utils.runbook.rules.observe import alert_review, firings
from ansible.module_utils.runbook.rules.observe.acts import Incident, Known, Silenced, acted
from ansible.module_utils.runbook.rules.observe.alert_review import Limits
from ansible.module_utils.runbook.rules.observe.firings import Firing, Span
from ansible.module_utils.runbook.rules.observe.series import Rule, Series

DAY_S = 86_400.0
LABELS = {"__name__": "ALERTS", "alertname": "Disk", "alertstate": "firing", "host": "db1"}
KEY = (("alertname", "Disk"), ("host", "db1"))
LIMITS = Limits(min_samples=3, flap_times=4, flap_window_s=3_600, stuck_s=2 * DAY_S)


def at(*moments: float) -> list[Series]:
    return [Series(LABELS, tuple((moment, 1.0) for moment in moments))] if moments else []


def found(
    begun: list[Series], ended: list[Series], *, before: bool = False, blind: list[Span] | None = None
) -> list[Firing]:
    return firings.firings(
        at(0) if before else [], begun, ended, blind or [], begin_s=0, end_s=10_000, step_s=60
    )  # fmt: skip


def test_what_began_before_and_what_goes_on_are_firings_too():
    one, two, three = found(at(300, 9_000), at(120, 600), before=True)
    assert (one.begin_s, one.end_s, one.began_before, one.goes_on) == (0, 120, True, False)
    assert (two.begin_s, two.end_s, two.began_before) == (300, 600, False)
    assert (three.begin_s, three.end_s, three.goes_on) == (9_000, 10_000, True)
    assert {each.labels for each in (one, two, three)} == {KEY}


def test_what_fires_all_the_time_has_neither_begin_nor_end():
    (only,) = found([], [], before=True)
    assert (only.length_s, only.began_before, only.goes_on) == (10_000, True, True)
    # A begin at the very first moment is the same firing.
    (same,) = found(at(0), [], before=True)
    assert same == only


def test_an_end_without_a_begin_is_nothing():
    assert found([], at(500)) == []


def test_a_firing_over_a_gap_of_prometheus_is_one():
    gap = Span(2_000, 4_000)
    (joined,) = found(at(1_000, 4_060), at(2_000, 6_000), blind=[gap])
    assert (joined.begin_s, joined.end_s) == (1_000, 6_000)
    # Without a gap, or with one elsewhere, they are two.
    assert len(found(at(1_000, 4_060), at(2_000, 6_000))) == 2
    assert len(found(at(1_000, 4_060), at(2_000, 6_000), blind=[Span(7_000, 8_000)])) == 2
    # It ended well before the gap.
    assert len(found(at(1_000, 4_060), at(1_200, 6_000), blind=[gap])) == 2


def test_gaps_and_coverage():
    blind = [Series({}, tuple((moment, 1.0) for moment in (60, 120, 180, 600)))]
    gaps = firings.gaps(blind, step_s=60)
    assert gaps == [Span(60, 240), Span(600, 660)]
    assert firings.coverage(gaps, begin_s=0, end_s=1_000) == pytest.approx(0.76)
    assert firings.coverage(gaps, begin_s=100, end_s=200) == 0
    assert firings.gaps([], step_s=60) == []


def firing(begin_s: float, length_s: float = 60, **more: bool) -> Firing:
    return Firing("Disk", KEY, begin_s, begin_s + length_s, **more)


def test_flapping_begins_late_and_ends_later():
    quick = [firing(600 * number) for number in range(4)]
    (flap,) = firings.flapping(quick, most=4, window_s=3_600)
    assert (flap.times, flap.begin_s, flap.end_s) == (4, 0, 1_800)
    assert firings.flapping(quick[:3], most=4, window_s=3_600) == []
    # Two in a window go on with it, one ends it.
    (longer,) = firings.flapping([*quick, firing(5_300), firing(30_000)], most=4, window_s=3_600)
    assert longer.times == 5
    other = [Firing("Disk", (("host", str(number)),), 0, 60) for number in range(9)]
    assert firings.flapping(other, most=4, window_s=3_600) == []


def test_acted_not_acted_and_unknown():
    mine = firing(1_000, 600)
    title = "[FIRING:1] Disk (db1)"

    def said(*incidents: Incident, silences: tuple[Silenced, ...] | None = None) -> tuple[str, str]:
        return acted(mine, Known(incidents, silences).of(mine.alert))

    assert said(Incident("1", title, 1_030, 1_700, ("Ada",))) == ("acted", "Ada")
    assert said(Incident("1", title, 1_030, 1_700)) == ("not_acted", "")
    # Still open, of another alert, of another time, or from before the log.
    assert said(Incident("1", title, 1_030)) == ("unknown", "")
    assert said(Incident("1", "[FIRING:1] DiskSoon (db1)", 1_030, 1_700)) == ("unknown", "")
    assert said(Incident("1", title, 9_000, 9_900)) == ("unknown", "")
    assert acted(mine, Known([Incident("1", title, 400, 1_700)], None, since_s=500)) == ("unknown", "")
    assert acted(mine, Known(None, None)) == ("unknown", "")
    # One of two incidents that a person touched is enough.
    assert said(Incident("1", title, 1_030, 1_700), Incident("2", title, 1_300, 1_700, ("Ada",)))[0] == "acted"


@pytest.mark.parametrize(
    ("matcher", "begin_s", "act"),
    [
        (Matcher("host", "db1"), 1_200, "acted"),
        (Matcher("host", "db[0-9]", is_regex=True), 1_200, "acted"),
        (Matcher("host", "db2", is_equal=False), 1_200, "acted"),
        (Matcher("host", "db2"), 1_200, "unknown"),
        # It was there before, so nobody decided anything.
        (Matcher("host", "db1"), 900, "unknown"),
        (Matcher("host", "(", is_regex=True), 1_200, "unknown"),
    ],
)
def test_a_silence_set_while_it_fires_is_an_act(matcher: Matcher, begin_s: float, act: str):
    silence = Silenced(frozenset({matcher}), "grace", begin_s)
    assert acted(firing(1_000, 600), Known([], [silence]))[0] == act


def test_a_silence_names_labels_that_prometheus_adds_on_the_way():
    """External labels are in no series, and in what Alertmanager has."""
    silence = Silenced(frozenset({Matcher("cluster", "eu"), Matcher("host", "db1")}), "grace", 1_200)
    assert acted(firing(1_000, 600), Known([], [silence], external={"cluster": "eu"}))[0] == "acted"
    assert acted(firing(1_000, 600), Known([], [silence], external={"cluster": "us"}))[0] == "unknown"


def test_replicas_of_prometheus_are_asked_as_one():
    assert firings.begun_query(60) == f"{firings.FIRING} unless {firings.FIRING} offset 60s"
    assert firings.ended_query(60, ["replica", "az"]) == (
        f"max without (replica, az) ({firings.FIRING} offset 60s) unless max without (replica, az) ({firings.FIRING})"
    )
    with pytest.raises(RunbookError, match="replica_labels: 'a-b' is no name of a label"):
        firings.query(["a-b"])


def rule(**more: Any) -> Rule:
    said: dict[str, Any] = {
        "kind": "alerting", "name": "Disk", "query": "d > 1", "group": "g", "file": "f.yml", "interval_s": 60.0,
        "health": "ok",
    }  # fmt: skip
    return Rule(**(said | more))


def judged(rules: list[Rule], some: list[Firing], known: Known, **more: Any) -> dict[str, str]:
    looked = alert_review.alerts(rules, some, known, LIMITS)
    options: dict[str, Any] = {"days": 7, "fired_before": frozenset({"Disk"}), "empty": {}} | more
    return {each.id: each.severity for each in alert_review.judge(looked, LIMITS, **options)}


def test_false_positives_need_enough_that_is_known():
    some = [firing(DAY_S * number, 600) for number in range(4)]
    title = "[FIRING:1] Disk"
    incidents = [Incident(str(number), title, each.begin_s + 30, each.end_s + 60) for number, each in enumerate(some)]
    assert judged([rule()], some, Known(incidents, None)) == {"false_positives:Disk": "warning"}
    assert judged([rule()], some, Known(incidents[:2], None)) == {}
    assert judged([rule()], some, Known(None, None)) == {}
    half = [
        *incidents[:2],
        *(Incident(f"b{each.id}", title, each.begin_s, each.end_s, ("Ada",)) for each in incidents[2:]),
    ]
    assert judged([rule()], some, Known(half, None)) == {}


def test_a_watchdog_is_meant_to_fire_for_ever():
    ever = [Firing("Disk", KEY, 0, 3 * DAY_S, goes_on=True)]
    assert judged([rule()], ever, Known(None, None)) == {"fires_for_ever:Disk": "warning"}
    assert judged([rule(query="vector(1)")], ever, Known(None, None)) == {}


def test_rules_that_cannot_fire_and_alerts_that_never_end():
    assert judged([rule(health="err", last_error="many-to-many")], [], Known(None, None)) == {
        "broken_rule:Disk": "critical"
    }
    assert judged([rule()], [], Known(None, None), fired_before=frozenset()) == {"never_fired:Disk": "info"}
    assert judged([rule()], [], Known(None, None), fired_before=None) == {}
    assert judged([rule()], [], Known(None, None), fired_before=frozenset(), empty={"Disk": "d"}) == {
        "no_series:Disk": "warning"
    }
    stuck = firing(0, 3 * DAY_S, goes_on=True)
    assert judged([rule()], [stuck], Known(None, None)) == {"fires_for_ever:Disk": "warning"}
    assert judged([rule()], [firing(0, 3 * DAY_S)], Known(None, None)) == {}


def test_an_alert_without_a_rule_is_looked_at_too():
    (only,) = alert_review.alerts([], [firing(0)], Known(None, None), LIMITS)
    assert only.result(min_samples=3, begin_s=0) | {"people": None} == {
        "alert": "Disk", "severity": "", "firings": 1, "instances": 1, "firing_s": 60, "longest_s": 60, "mean_s": 60,
        "fires_now": 0, "ended_by_itself": None, "acted_on": 0, "not_acted_on": 0, "acted_on_unknown": 1,
        "people": None, "precision": None, "flapped": 0, "by_day": [1],
    }  # fmt: skip


def test_each_rule_of_an_alert_may_have_no_series():
    quiet = [rule(query="a > 1"), rule(query="b > 2"), rule(name="Other", query="b > 3")]
    looked = alert_review.alerts(quiet, [], Known(None, None), LIMITS)
    assert alert_review.compared(looked) == {"a": ["Disk"], "b": ["Disk", "Other"]}
    # Of what compares nothing nobody can tell, and what fired can fire.
    assert alert_review.compared(alert_review.alerts([rule(query="absent(up)")], [], Known(None, None), LIMITS)) == {}
    assert alert_review.compared(alert_review.alerts(quiet[:2], [firing(0)], Known(None, None), LIMITS)) == {}
