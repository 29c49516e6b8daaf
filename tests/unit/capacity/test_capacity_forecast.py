"""The forecast on series whose future is known."""

from __future__ import annotations

import random

import pytest
from ansible.module_utils.runbook.rules.capacity.forecast import LEAST, Forecast
from ansible.module_utils.runbook.rules.capacity.forecast import forecast as made

WEEK = (0, 4, 6, 5, 3, -8, -10)


def _line(length, slope=2.0, noise=0.0, start=100.0):
    draw = random.Random(1)  # noqa: S311 - a series for a test
    return [start + slope * at + draw.gauss(0, noise) for at in range(length)]


def forecast(values, horizon, season=0) -> Forecast:
    """A forecast, where there is one."""
    found = made(values, horizon, season)
    assert found is not None
    return found


def test_too_few_points_are_no_forecast():
    assert made(_line(3), 30) is None
    assert made(_line(LEAST - 1), 30) is None
    assert made(_line(LEAST), 30) is not None


def test_a_straight_line_goes_on_and_is_certain_of_it():
    found = forecast(_line(60), 90, season=7)
    assert found.p50[-1] == pytest.approx(100 + 2 * 149, rel=0.01)
    assert found.p90[-1] == pytest.approx(found.p50[-1], rel=0.02)


def test_what_never_changes_stays():
    found = forecast([7.0] * 30, 10, season=7)
    assert found.p50 == pytest.approx([7.0] * 10)
    assert found.p90 == pytest.approx([7.0] * 10)


def test_zero_stays_zero():
    assert forecast([0.0] * 30, 5).p90 == (0.0,) * 5


def test_a_season_is_found_and_repeated():
    values = [value + WEEK[at % 7] for at, value in enumerate(_line(70, noise=0.5))]
    found = forecast(values, 14, season=7)
    assert found.season == 7
    truth = [100 + 2 * at + WEEK[at % 7] for at in range(70, 84)]
    assert max(abs(a - b) for a, b in zip(found.p50, truth, strict=True)) < 4
    assert forecast(_line(70, noise=0.5), 14, season=7).season == 0


def test_a_step_is_no_trend():
    values = [value + (500 if at >= 40 else 0) for at, value in enumerate(_line(60, slope=1.0, noise=0.5))]
    found = forecast(values, 30)
    assert found.steps == (40,)
    assert found.p50[-1] == pytest.approx(100 + 89 + 500, rel=0.03)


def test_a_single_odd_point_is_no_step():
    values = _line(60, slope=1.0, noise=0.5)
    values[30] = 900.0
    found = forecast(values, 30)
    assert found.steps == ()
    assert found.p50[-1] == pytest.approx(189, rel=0.05)


def test_growth_by_a_share_bends_upwards():
    values = [100 * 1.01**at for at in range(90)]
    assert forecast(values, 60).p50[-1] == pytest.approx(100 * 1.01**149, rel=0.05)


def test_what_shrinks_does_not_become_negative():
    found = forecast(_line(60, slope=-1.5), 90)
    assert min(found.p50) == 0.0
    assert found.p50[0] == pytest.approx(10, abs=2)


def test_what_was_negative_may_be():
    assert forecast(_line(40, slope=-2.0, start=0.0), 10).p50[-1] < -90


def test_noise_widens_with_the_distance():
    found = forecast(_line(120, slope=0.0, noise=10.0), 60)
    near, far = (found.p90[at] - found.p50[at] for at in (0, -1))
    assert 0 < near < far
