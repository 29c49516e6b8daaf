"""Samples on a grid: gaps in time, counters that start again, values that are none."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import pytest
from ansible.module_utils.runbook.rules.capacity import series
from ansible.module_utils.runbook.rules.capacity.series import DAY, WEEK, Series

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
FIRST = date(2026, 11, 1)


def _days(values, *, step=1):
    return {FIRST + timedelta(days=step * at): value for at, value in enumerate(values) if value is not None}


def on_grid(days, *, is_amount=False) -> Series:
    """A series, where there is one."""
    found = series.on_grid(days, is_amount=is_amount)
    assert found is not None
    return found


def test_a_day_keeps_its_peak_and_no_value_that_is_none():
    samples = [(NOON, 3.0), (NOON + timedelta(hours=3), 9.0), (NOON + timedelta(hours=5), math.inf)]
    assert series.peaks([*samples, (NOON + timedelta(days=1), math.nan)]) == {FIRST: 9.0}


def test_a_moment_belongs_to_the_day_that_it_is_in_utc():
    late = datetime(2026, 11, 1, 23, tzinfo=UTC).astimezone(tz=None)
    assert list(series.peaks([(late, 1.0)])) == [FIRST]


def test_only_whole_days_of_an_amount_count():
    hours = [(NOON + timedelta(hours=hour), 1.0) for hour in range(60)]
    assert series.amounts(hours, since=NOON, until=NOON + timedelta(hours=60)) == {
        date(2026, 11, 2): 24.0,
        date(2026, 11, 3): 24.0,
    }


def test_a_counter_that_starts_again_loses_no_day():
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    values = [100, 110, 120, 5, 15]
    found = series.increases([(midnight + timedelta(hours=12 * at), float(value)) for at, value in enumerate(values)])
    assert found == {date(2026, 11, 1): 20.0, date(2026, 11, 2): 15.0}


def test_a_counter_of_which_days_are_missing_says_nothing_of_them():
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    samples = [(midnight + timedelta(days=day), 10.0 * day) for day in (0, 1, 5, 6)]
    assert list(series.increases(samples)) == [date(2026, 11, 1), date(2026, 11, 6)]


def test_a_gap_is_filled_by_a_straight_line():
    assert on_grid(_days([1.0, 2.0, None, None, 5.0, 6.0])) == Series(FIRST, DAY, (1, 2, 3, 4, 5, 6), filled=2)


def test_a_gap_over_a_weekend_keeps_the_rhythm_of_the_week():
    week = [10.0, 10, 10, 10, 10, 2, 2]
    known = _days([None if 7 <= at < 13 else value for at, value in enumerate(week * 4)])
    assert on_grid(known) == Series(FIRST, DAY, tuple(week * 4), filled=6)


def test_what_lies_before_a_long_gap_is_forgotten():
    gap = [None] * 15
    assert on_grid(_days([1.0, 2.0, *gap, 7.0, 8.0])).first == FIRST + timedelta(days=17)


def test_samples_of_each_week_are_a_series_of_weeks_counted_back_from_the_last():
    found = on_grid(_days([1.0, 2.0, 3.0], step=7))
    assert found == Series(FIRST, WEEK, (1.0, 2.0, 3.0))
    assert (found.days, found.day(3)) == (14, FIRST + timedelta(days=21))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, *[None] * 60, 2.0]])
def test_too_few_values_are_no_series(values):
    assert series.on_grid(_days(values)) is None


def test_a_month_of_an_amount_goes_by_the_last_seven_days():
    found = series.monthly(on_grid(_days([70.0, 0, 0, 0, 0, 0, 0, 70.0]), is_amount=True))
    assert found == Series(FIRST + timedelta(days=6), DAY, (304.375, 304.375))
    assert series.monthly(Series(FIRST, WEEK, (10.0,))).values == (304.375,)
