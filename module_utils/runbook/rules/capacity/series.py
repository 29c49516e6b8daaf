"""Samples as they come, put on a grid of days or weeks: what a forecast needs.

A quantity is either a *level* (bytes, users, connections), of which a day keeps the largest sample, since limits are
met by peaks; or an *amount* of something that is done (requests, runs), of which a day keeps the sum. Only whole days
count for an amount. Of a counter, which only grows until its process starts again, the amounts are the differences, as
Prometheus' ``increase`` has it.

A gap is filled by a straight line; between days, from weekday to weekday, so that a week's rhythm makes no dent. A
series with more filled values than measured ones says nothing, and before a long gap it is another one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DAY, WEEK = 1, 7
#: Days of a month in the mean: the limits of plans are for a month.
MONTH_DAYS = 30.4375
#: Steps without a value from which on the series before is forgotten.
_MOST_GAP = {DAY: 14, WEEK: 5}
#: Share of the grid that has to be measured.
_LEAST_MEASURED = 0.5

#: A moment, with its zone, and a value.
Sample = tuple[datetime, float]


@dataclass(frozen=True)
class Series:
    """Values at equal steps, without gaps."""

    #: The day of the first value.
    first: date
    step_days: int
    values: tuple[float, ...]
    #: How many of them nobody measured.
    filled: int = 0

    @property
    def days(self) -> int:
        """How long it is."""
        return (len(self.values) - 1) * self.step_days

    def day(self, index: int) -> date:
        """The day of a value; after the last one for those of a forecast."""
        return self.first + timedelta(days=index * self.step_days)


def peaks(samples: Iterable[Sample]) -> dict[date, float]:
    """The largest sample of each day, in UTC; what is no finite number is left out.

    >>> peaks([(datetime(2026, 11, 1, 2, tzinfo=UTC), 5.0), (datetime(2026, 11, 1, 4, tzinfo=UTC), math.nan)])
    {datetime.date(2026, 11, 1): 5.0}
    """
    found: dict[date, float] = {}
    for at, value in samples:
        if math.isfinite(value):
            day = at.astimezone(UTC).date()
            found[day] = max(value, found.get(day, value))
    return dict(sorted(found.items()))


def amounts(samples: Iterable[Sample], *, since: datetime, until: datetime) -> dict[date, float]:
    """The sum of each whole day of a span; a day without any sample is not known to be zero.

    :param samples: what was done from each moment on
    """
    found: dict[date, float] = {}
    for at, value in samples:
        day = at.astimezone(UTC).date()
        if math.isfinite(value) and _midnight(day) >= since and _midnight(day + timedelta(days=1)) <= until:
            found[day] = found.get(day, 0.0) + value
    return dict(sorted(found.items()))


def increases(samples: Iterable[Sample]) -> dict[date, float]:
    """What a counter grew by on each whole day. Where it fell, its process began again at zero.

    Between two samples it grows evenly. Where they are more than two days apart, nobody knows when.
    """
    known = sorted((at, value) for at, value in samples if math.isfinite(value))
    found: dict[date, float] = {}
    covered: dict[date, float] = {}
    for (begin, before), (end, after) in pairwise(known):
        grown, span_s = (after - before if after >= before else after), (end - begin).total_seconds()
        if not 0 < span_s <= 2 * 86_400:
            continue
        at = begin.astimezone(UTC)
        while at < end:
            until = min(end, _midnight(at.date() + timedelta(days=1)))
            share = (until - at).total_seconds()
            found[at.date()] = found.get(at.date(), 0.0) + grown * share / span_s
            covered[at.date()] = covered.get(at.date(), 0.0) + share
            at = until
    return {day: value for day, value in found.items() if covered[day] >= 86_400 - 1}


def added(parts: Iterable[Mapping[date, float]]) -> dict[date, float]:
    """The days of several series together; a process that began later adds to the days that it knows.

    >>> added([{date(2026, 11, 1): 1.0}, {date(2026, 11, 1): 2.0, date(2026, 11, 2): 5.0}])[date(2026, 11, 1)]
    3.0
    """
    found: dict[date, float] = {}
    for part in parts:
        for day, value in part.items():
            found[day] = found.get(day, 0.0) + value
    return found


def on_grid(days: Mapping[date, float], *, is_amount: bool = False) -> Series | None:
    """Values of days at equal steps: of days where most are known, else of weeks; None where there are too few.

    Of a week's level the largest counts, of its amount the mean of a day.
    """
    known = sorted(days.items())
    for step in (DAY, WEEK):
        # Weeks are counted back from the last day, so that none is cut at the end.
        grouped: dict[int, list[float]] = {}
        for day, value in known:
            grouped.setdefault(-((known[-1][0] - day).days // step), []).append(value)
        points = {at: fmean(each) if is_amount else max(each) for at, each in grouped.items()}
        kept = _since_gap(sorted(points), _MOST_GAP[step])
        if len(kept) >= 2 and len(kept) >= _LEAST_MEASURED * (kept[-1] - kept[0] + 1):
            values = _filled({at: points[at] for at in kept}, WEEK if step == DAY else 1)
            first = known[-1][0] + timedelta(days=kept[0] * step)
            return Series(first, step, tuple(values), len(values) - len(kept))
    return None


def monthly(series: Series) -> Series:
    """An amount as a month's, at the pace of the seven days that end with each point.

    >>> monthly(Series(date(2026, 11, 1), DAY, (10.0,) * 8)).values
    (304.375, 304.375)
    """
    width = WEEK // series.step_days
    values = series.values
    return Series(
        series.day(width - 1),
        series.step_days,
        tuple(MONTH_DAYS * fmean(values[at : at + width]) for at in range(len(values) - width + 1)),
        series.filled,
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _since_gap(steps: Sequence[int], most: int) -> list[int]:
    """The steps after the last long gap."""
    begin = max((at for at, (a, b) in enumerate(pairwise(steps), start=1) if b - a > most + 1), default=0)
    return list(steps[begin:])


def _filled(points: Mapping[int, float], rhythm: int) -> list[float]:
    """A value at each step.

    :param rhythm: steps between two that are alike; where there are no such ones on both sides, the next ones count

    >>> _filled({0: 1.0, 1: 9.0, 4: 3.0, 5: 11.0}, 2)
    [1.0, 9.0, 2.0, 10.0, 3.0, 11.0]
    """
    first, last = min(points), max(points)

    def between(at: int, stride: int) -> float | None:
        before = next((each for each in range(at, first - 1, -stride) if each in points), None)
        after = next((each for each in range(at, last + 1, stride) if each in points), None)
        if before is None or after is None:
            return None
        share = (at - before) / ((after - before) or 1)
        return points[before] + (points[after] - points[before]) * share

    values = []
    for at in range(first, last + 1):
        alike = between(at, rhythm)
        # The first and the last are known, so there is always a next one.
        values.append(between(at, 1) or 0.0 if alike is None else alike)
    return values
