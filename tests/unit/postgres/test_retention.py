"""The cutoff: a span counted back from the server's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.retention import cutoff


def test_cutoff_is_a_span_not_a_date():
    now = datetime(2026, 11, 23, 2, 3, 4, 567890, tzinfo=UTC)
    assert cutoff(now, 90) == datetime(2026, 8, 25, 2, 3, 4, 567890, tzinfo=UTC)
    assert cutoff(now, 1) == now - timedelta(hours=24)


def test_cutoff_knows_no_summer_time():
    """On 2026-10-25 Berlin's day has 25 hours; the age of a row is counted in real hours all the same."""
    now = datetime(2026, 10, 26, 1, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert now.astimezone(UTC) - cutoff(now, 2) == timedelta(hours=48)


def test_cutoff_is_in_utc_wherever_the_clock_stands():
    here = datetime(2026, 3, 1, 5, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert cutoff(here, 10).utcoffset() == timedelta(0)
    assert cutoff(here, 10) == cutoff(here.astimezone(UTC), 10)


def test_cutoff_over_a_leap_day():
    assert cutoff(datetime(2028, 3, 1, tzinfo=UTC), 1) == datetime(2028, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize("days", [0, -1, -90])
def test_cutoff_refuses_less_than_a_day(days):
    with pytest.raises(RunbookError, match=rf"older_than_days: {days} .*1 or more"):
        cutoff(datetime(2026, 1, 1, tzinfo=UTC), days)


@pytest.mark.parametrize("days", [800_000, 10**9, 10**30])
def test_cutoff_refuses_what_no_calendar_has(days):
    with pytest.raises(RunbookError, match="smaller number"):
        cutoff(datetime(2026, 1, 1, tzinfo=UTC), days)
