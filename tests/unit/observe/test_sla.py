"""Service levels: gaps, resets, maintenance, budgets, burn rates, and what is not asked for rightly."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.observe import sla
from ansible.module_utils.runbook.rules.observe.sla import Amount, Objective

NOW = datetime(2026, 11, 29, 14, 20, tzinfo=UTC)
BEGIN, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
SITE = Objective("site", 0.999, 0, probe='probe_success{job="site"}')
API = Objective("api", 0.99, 0, good="good_total", total="all_total")


#: When each piece ends.
ENDS = [BEGIN.timestamp() + sla.PIECE_S * (at + 1) for at in range(31 * 288)]


def answers(good: float = 5.0, total: float = 5.0) -> dict[str, dict[float, float]]:
    return {key: dict.fromkeys(ENDS, value) for key, value in (("good", good), ("total", total), ("samples", 5.0))}


def with_(key: str, changed: dict[int, Any]) -> dict[str, dict[float, float]]:
    """The same for each piece, but for those of these numbers; None is no answer."""
    found = answers()
    for number, value in changed.items():
        found[key].pop(ENDS[number]) if value is None else found[key].update({ENDS[number]: value})
    return found


def look(
    objective: Objective = SITE, *, spans: Any = (), found: dict[str, dict[float, float]] | None = None
) -> sla.Level:
    return sla.level(objective, BEGIN, END, found or answers(), spans=spans, least_coverage=0.95)


def kinds(level: sla.Level) -> tuple[list[str], list[str]]:
    findings, unknown = sla.judge([level])
    return [each.kind for each in findings], [each.kind for each in unknown]


def test_a_month_without_a_gap_is_whole():
    level = look()
    assert (level.coverage, level.unplanned.share, level.budget_left) == (1.0, 1.0, 1.0)
    assert level.allowed == pytest.approx(31 * 86_400 * 0.001)
    assert (len(level.days), level.days[0]["day"], level.days[-1]["day"]) == (31, "2026-10-01", "2026-10-31")
    assert kinds(level) == ([], [])


def test_half_an_hour_down_is_within_a_budget_and_an_hour_is_not():
    half = look(found=with_("good", dict.fromkeys(range(100, 106), 0.0)))
    assert half.bad == pytest.approx(1_800)
    assert half.budget_left == pytest.approx(1 - 1_800 / 2_678.4)
    assert kinds(half) == ([], [])
    hour = look(found=with_("good", dict.fromkeys(range(100, 112), 0.0)))
    findings, _ = sla.judge([hour])
    assert [each.id for each in findings] == ["sla_missed:site"]
    assert findings[0].msg == (
        "site was available 99.865 % of the time, and 99.9 % are promised; of the error budget 60 min of 44.6 min are "
        "spent."
    )


def test_what_is_gone_is_no_time_down_but_a_lack_of_coverage():
    kept = {at: value for number, at in enumerate(ENDS) if (value := 5.0) and number >= len(ENDS) // 2}
    level = look(found={"good": kept, "total": kept, "samples": kept})
    assert level.coverage == pytest.approx(0.5)
    assert "50.0 % of the samples" in level.why_not
    assert "the first is of 2026-10-16 12:00 UTC, before which Prometheus kept none" in level.why_not
    assert level.result()["availability_percent"] is None
    assert kinds(level) == ([], ["site"])


def test_a_level_that_is_missed_whatever_happened_in_the_gap_is_missed():
    kept = {at: 5.0 for number, at in enumerate(ENDS) if number >= len(ENDS) // 2}
    bad = kept | dict.fromkeys(ENDS[-24:], 0.0)
    level = look(found={"good": bad, "total": kept, "samples": kept})
    findings, unknown = sla.judge([level])
    assert ([each.kind for each in findings], unknown) == (["sla_missed"], [])
    assert "even if all was well where samples are missing" in findings[0].msg


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_no_number_is_no_answer(value):
    few = dict.fromkeys(range(900), value)
    level = look(found=with_("total", few))
    assert level.coverage == pytest.approx(1 - 900 / len(ENDS))
    assert level.days[0]["availability_percent"] is None
    assert kinds(level) == ([], ["site"])


def test_nothing_at_all_names_what_was_asked():
    level = look(found={"good": {}, "total": {}, "samples": {}})
    assert 'no sample of probe_success{job="site"}' in level.why_not
    assert (level.coverage, level.first_at, kinds(level)) == (0.0, None, ([], ["site"]))


def test_half_of_the_samples_of_each_piece_of_a_day_is_a_lack_of_coverage():
    level = look(found=with_("samples", dict.fromkeys(range(288), 2.5)))
    assert level.days[0]["coverage_percent"] == 50.0
    assert level.coverage == pytest.approx(1 - 0.5 / 31)


def test_planned_maintenance_is_told_both_ways_and_only_where_it_was_done():
    night = (ENDS[99], ENDS[111])
    found = with_("good", dict.fromkeys(range(100, 112), 0.0))
    windows = [(ENDS[90], ENDS[114])]
    runs = [night, (ENDS[500], ENDS[520])]
    spans = sla.planned(windows, runs)
    assert spans == [night]
    level = look(found=found, spans=spans)
    assert (level.planned_s, level.unplanned.share) == (3_600, 1.0)
    assert level.result()["with_planned_percent"] < 99.9
    findings, _ = sla.judge([level])
    assert [(each.kind, each.severity) for each in findings] == [("sla_met_without_planned", "info")]
    assert sla.planned(windows, []) == []


def test_requests_weigh_as_many_as_they_were():
    level = look(API, found=with_("good", {0: 0.0}))
    assert level.unplanned == Amount(5.0 * (len(ENDS) - 1), 5.0 * len(ENDS))
    assert level.objective.unit == "requests"


def test_no_request_is_no_failure_and_no_good_one_among_some_is_unknown():
    quiet = with_("total", dict.fromkeys(range(1_000), 0.0))
    for number in range(1_000):
        del quiet["good"][ENDS[number]]
    assert look(API, found=quiet).coverage == 1.0
    lacking = with_("good", dict.fromkeys(range(1_000), None))
    level = look(API, found=lacking)
    assert "in 1,000 pieces of five minutes good gave nothing where total did" in level.why_not
    none = look(API, found=answers(good=0.0, total=0.0))
    assert "not one request" in none.why_not


def test_more_good_than_all_is_a_mistake_in_the_queries():
    level = look(API, found=answers(good=9.0))
    assert "more was good than there was in all" in level.why_not
    assert kinds(level) == ([], ["api"])


def test_a_budget_that_is_nearly_spent_is_a_warning():
    level = look(found=with_("good", dict.fromkeys(range(100, 107), 0.0)))
    assert kinds(level) == (["sla_budget_low"], [])


# --- burn rates -------------------------------------------------------------------------------------------------------


def burns(**amounts: Amount | None) -> list[sla.Burn]:
    named = {name.removeprefix("w"): value for name, value in amounts.items()}
    return [sla.burn(SITE, 30, pair, named) for pair in sla.BURNS]


def test_burn_rates_are_those_of_the_workbook():
    assert [pair.limit for pair in burns()] == [14.4, 6.0, 1.0]


def test_a_pair_burns_only_where_both_windows_do():
    bad, good = Amount(98.0, 100.0), Amount(100.0, 100.0)
    assert burns(w1h=bad, w5m=bad)[0].burns is True
    assert burns(w1h=bad, w5m=good)[0].burns is False
    assert burns(w1h=bad, w5m=None)[0].burns is None
    assert burns(w1h=good, w5m=None)[0].burns is False
    assert burns(w1h=bad, w5m=Amount(0.0, 0.0))[0].burns is None


def test_a_burning_budget_is_a_finding_and_a_silent_one_is_told():
    level = sla.level(SITE, BEGIN, END, answers(), spans=(), least_coverage=0.9, burns=burns(
        w1h=Amount(90.0, 100.0), w5m=Amount(90.0, 100.0), w30m=Amount(90.0, 100.0),
    ))  # fmt: skip
    findings, unknown = sla.judge([level])
    assert [(each.id, each.severity) for each in findings] == [("sla_burning:site.1h", "critical")]
    assert [(each.kind, each.fixable) for each in unknown] == [("site_burn", False)]


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_months_begin_and_end_at_midnight_in_utc():
    assert sla.window(SITE, None, NOW) == (BEGIN, END)
    assert sla.window(SITE, "2026-02", NOW)[1] == datetime(2026, 3, 1, tzinfo=UTC)
    # Still October in New York.
    assert sla.window(SITE, None, datetime(2026, 11, 1, 0, 5, tzinfo=UTC)) == (BEGIN, END)
    first = sla.window(Objective("site", 0.9, 28, probe="up"), None, NOW)
    assert first == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC))


@pytest.mark.parametrize(
    ("month", "said"), [("2026-11", "not over yet"), ("october", "is no month"), ("2026-13", "is no month")]
)
def test_a_month_that_is_none_is_refused(month, said):
    with pytest.raises(RunbookError, match=said):
        sla.window(SITE, month, NOW)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Site!"}, "is no name"),
        ({"objective_percent": 100}, "leaves no error budget"),
        ({"objective_percent": 0}, "leaves no error budget"),
        ({"window_days": 400}, "window_days: 400"),
        ({"probe": ""}, "either probe, or both good and total"),
        ({"good": "a"}, "either probe, or both good and total"),
        ({"probe": "", "good": "a"}, "either probe, or both good and total"),
        ({"probe": "rate(up[5m])"}, "is no selector"),
        ({"probe": "up or down"}, "is no selector"),
        ({"probe": "up[5m]"}, "is no selector"),
    ],
)
def test_what_is_no_objective_is_refused_in_one_sentence(changed, said):
    with pytest.raises(RunbookError, match=said):
        sla.objectives([{"name": "site", "objective_percent": 99.9, "probe": "up"} | changed])


def test_selectors_may_hold_anything_in_their_texts():
    (found,) = sla.objectives([{"name": "a", "objective_percent": 99.9, "probe": 'up{path=~"/a{2}[b]|(c)"}'}])
    assert found.probe == 'up{path=~"/a{2}[b]|(c)"}'
    with pytest.raises(RunbookError, match="given twice"):
        sla.objectives([{"name": "a", "objective_percent": 99.9, "probe": "up"}] * 2)


def test_runs_that_changed_something_in_their_window_are_planned():
    record: dict[str, Any] = {
        "playbook": "weekly_db", "check_mode": False, "started_at": "2026-10-04T02:00:00+00:00", "duration_s": 60.0,
        "hosts": {"db": {"steps": [{"state": "ok"}, {"state": "changed"}]}},
    }  # fmt: skip
    playbooks = frozenset({"weekly_db.yml"})
    begin = datetime(2026, 10, 4, 2, tzinfo=UTC).timestamp()
    assert sla.run_span(record, playbooks, "production") == (begin, begin + 60)
    for other in (
        {"check_mode": True}, {"playbook": "backup"}, {"hosts": {"db": {"steps": [{"state": "ok"}]}}},
        {"duration_s": None}, {"hosts": None}, {"started_at": "soon"},
    ):  # fmt: skip
        assert sla.run_span(record | other, playbooks, "production") is None
    # Records of all environments lie in one folder.
    of_staging = {"db": {"environment": "staging", "steps": [{"state": "changed"}]}}
    assert sla.run_span(record | {"hosts": of_staging}, playbooks, "production") is None
    assert sla.run_span(record | {"hosts": of_staging}, playbooks, "staging") == (begin, begin + 60)
    assert timedelta(seconds=sla.PIECE_S) == timedelta(minutes=5)
