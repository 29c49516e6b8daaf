"""How long rows stay where they are.

>>> from datetime import datetime, timezone
>>> cutoff(datetime(2026, 11, 23, 2, 0, tzinfo=timezone.utc), 90).isoformat()
'2026-08-25T02:00:00+00:00'
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ansible.module_utils.runbook.errors import RunbookError


def cutoff(now: datetime, days: int) -> datetime:
    """The moment before which rows are old: ``now`` less ``days`` times 24 hours, in UTC.

    Days are not rounded to midnight and know no summer time: the age of a row is a span, not a date.

    :param now: the server's clock, with its time zone
    :param days: at least 1
    :raises RunbookError: fewer than one day, or a span that reaches before the year 1
    """
    if days < 1:
        raise RunbookError(f"older_than_days: {days} would take rows of today; give a number of 1 or more.")
    try:
        return now.astimezone(UTC) - timedelta(days=days)
    except OverflowError:
        raise RunbookError(f"older_than_days: {days} reaches back before the year 1; give a smaller number.") from None
