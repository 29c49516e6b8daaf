"""What a quantity will be: a middle forecast, and what it stays below nine times in ten.

The method is robust rather than clever. Five plain ways to go on from a series are combined, and how well each did at
moments of the past decides its weight:

* simple exponential smoothing, and Gardner's damped trend (Gardner, McKenzie 1985, *Management Science* 31);
* three lines by Theil's incomplete method (Theil 1950), through all points, the last half, and the last quarter.

Combining beats choosing; the weights are the inverse of the mean squared error (Bates, Granger 1969, *Operational
Research Quarterly* 20). The moments of the past are rolling origins (Tashman 2000, *International Journal of
Forecasting* 16). A season is taken out by classical decomposition where the test of the M4 competition finds one
(Makridakis, Spiliotis, Assimakopoulos 2020, same journal, 36). A step is no trend: its jump is taken out beforehand.
Where the logarithm of the series errs less, it is used. The spread comes from the errors that the same method would
have made in the past, at each distance, and from no assumed distribution (Hyndman, Athanasopoulos, *Forecasting:
Principles and Practice*, sections 5.5 and 5.10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean, linear_regression, median
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Points below which nothing is said.
LEAST = 10
#: A change is a jump from this many times the usual one on (median absolute deviation, as a standard deviation).
_JUMP = 8.0
_MAD_TO_SIGMA = 1.4826
#: Points on each side of a jump that have to confirm it.
_CONFIRM = 4
#: A series that jumps more often has no steps.
_MOST_STEPS = 2
#: Quantile of a normal distribution for the test of a season, one-sided 95 %.
_SEASONAL_Z = 1.645
#: What is tried for the smoothing of the level and of the trend.
_LEVELS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_TRENDS = (0.02, 0.05, 0.1, 0.2, 0.4)
_DAMPING = 0.95
#: Shares of the points that lines are put through.
_SHARES = (1.0, 0.5, 0.25)
#: Moments of the past that are tried, at most.
_ORIGINS = 40
#: Share of past errors, whatever their sign, that the spread covers. Measured over ``bench/forecast.py``, nine of ten
#: values then stay below it: errors of the future are larger than those that the weights were fitted to.
_COVERED = 0.9
#: Past errors at one distance that the spread needs.
_LEAST_ERRORS = 5


@dataclass(frozen=True)
class Forecast:
    """What is expected after the last point, one value a step."""

    p50: tuple[float, ...]
    p90: tuple[float, ...]
    #: Points in a season; 0 where none was found.
    season: int
    #: Indices of the points at which the level jumped.
    steps: tuple[int, ...]


def forecast(values: Sequence[float], horizon: int, season: int = 0) -> Forecast | None:
    """What the next values are; None where there are too few of them. What was never negative does not become so.

    :param values: one a step of time, finite, without gaps, the newest last
    :param horizon: steps ahead
    :param season: points in the season that there may be, such as 7 of days; 0 for none
    """
    if len(values) < LEAST:
        return None
    steps = jumps(values)
    level = without(values, steps)
    tried = [_model(level, horizon, season)]
    if min(level) > 0:
        tried.append(replace(_model([math.log(each) for each in level], horizon, season), is_log=True))
    best = min(tried, key=lambda each: fmean(map(abs, _all(past_errors(level, each, horizon)))))
    least = 0.0 if min(values) >= 0 else -math.inf
    p50 = [max(value, least) for value in best.ahead(level, horizon)]
    above = _spread(past_errors(level, best, horizon), horizon)
    found = len(best.season) if len(best.season) > 1 else 0
    return Forecast(tuple(p50), tuple(map(sum, zip(p50, above, strict=True))), found, tuple(steps))


class _Way(Protocol):
    """A way to go on from a series."""

    def ahead(self, values: Sequence[float], horizon: int) -> list[float]:
        """The next values."""


# What is taken out before -------------------------------------------------------------------------------------------


def jumps(values: Sequence[float]) -> list[int]:
    """Indices of the first points after a jump of the level that lasted.

    >>> jumps([1.0, 2.0, 3.0, 4.0, 5.0, 106.0, 107.0, 108.0, 109.0, 110.0])
    [5]
    >>> jumps([1.0, 2.0, 3.0, 4.0, 500.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    []
    """
    changes = _changes(values)
    usual = median(changes)
    spread = median(abs(each - usual) for each in changes) * _MAD_TO_SIGMA
    # Where nothing ever varies, any change would be a jump.
    spread = max(spread, 1e-3 * (abs(usual) or abs(median(values)) or 1.0))
    found = []
    for at, change in enumerate(changes, start=1):
        if abs(change - usual) <= _JUMP * spread or not _CONFIRM <= at <= len(values) - _CONFIRM:
            continue
        lasting = median(values[at : at + _CONFIRM]) - median(values[at - _CONFIRM : at]) - usual * _CONFIRM
        if abs(lasting) > abs(change) / 2 and lasting * change > 0:
            found.append(at)
    return found if len(found) <= _MOST_STEPS else []


def without(values: Sequence[float], steps: Sequence[int]) -> list[float]:
    """The series at the level of its end: what lies before a jump is moved by it.

    >>> without([1.0, 2.0, 103.0, 104.0], [2])
    [101.0, 102.0, 103.0, 104.0]
    """
    result = list(values)
    changes = _changes(values)
    usual = median(changes)
    for step in steps:
        by = changes[step - 1] - usual
        result[:step] = [value + by for value in result[:step]]
    return result


def is_seasonal(values: Sequence[float], season: int) -> bool:
    """Whether there is a season of that many points, in at least two and a half of them.

    The test of the M4 competition: the autocorrelation at the season's lag, against its standard error.
    """
    if season < 2 or len(values) < 2.5 * season:
        return False
    rest = _detrended(values, season)
    total = math.fsum(each * each for each in rest)
    if not total:
        return False
    lags = [math.fsum(a * b for a, b in zip(rest, rest[lag:], strict=False)) / total for lag in range(1, season + 1)]
    limit = _SEASONAL_Z * math.sqrt((1 + 2 * math.fsum(each * each for each in lags[:-1])) / len(rest))
    return lags[-1] > limit


def seasonal_indices(values: Sequence[float], season: int) -> list[float]:
    """What each point of the season adds, the mean of all being zero; classical decomposition, by the median.

    >>> [round(each, 6) for each in seasonal_indices([1.0, 2.0, 3.0] * 4, 3)]
    [-1.0, 0.0, 1.0]
    """
    half = season // 2
    rest = _detrended(values, season)
    found = [median(rest[(phase - half) % season :: season]) for phase in range(season)]
    mean = fmean(found)
    return [each - mean for each in found]


def _detrended(values: Sequence[float], season: int) -> list[float]:
    """The series without its centred moving mean over a season, where that can be told."""
    half = season // 2
    # Of an even season the two ends belong to the same point of it, and count half each.
    weights = [1.0] * season if season % 2 else [0.5, *[1.0] * (season - 1), 0.5]
    return [
        values[at] - math.fsum(map(float.__mul__, weights, map(float, values[at - half :]))) / season
        for at in range(half, len(values) - half)
    ]


def _changes(values: Sequence[float]) -> list[float]:
    return [b - a for a, b in pairwise(values)]


# Ways to go on ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Smoothing:
    """Exponential smoothing of a level and a trend; the trend of each next step is ``damping`` times the one before."""

    level: float
    trend: float
    #: 0 for simple exponential smoothing, without a trend.
    damping: float

    def run(self, values: Sequence[float]) -> tuple[float, float, float]:
        """The level and the trend at the end, and the squared errors of one step."""
        level, squares = values[0], 0.0
        trend = fmean(_changes(values[:7])) if self.damping else 0.0
        for value in values[1:]:
            expected = level + self.damping * trend
            error = value - expected
            squares += error * error
            level = expected + self.level * error
            trend = self.damping * trend + self.level * self.trend * error
        return level, trend, squares

    def ahead(self, values: Sequence[float], horizon: int) -> list[float]:
        """As :class:`_Way` says."""
        level, trend, _ = self.run(values)
        result, factor, total = [], 1.0, 0.0
        for _ in range(horizon):
            factor *= self.damping
            total += factor
            result.append(level + total * trend)
        return result


@dataclass(frozen=True)
class _Line:
    """A line through the last ``share`` of the points, which a few odd ones do not turn; it starts where they end.

    Its slope is the median of those of all pairs that lie half of the points apart.
    """

    share: float

    def ahead(self, values: Sequence[float], horizon: int) -> list[float]:
        """As :class:`_Way` says."""
        length = min(len(values), max(LEAST, round(len(values) * self.share)))
        recent = values[-length:]
        half = length // 2
        slope = median((b - a) / half for a, b in zip(recent, recent[half:], strict=False))
        last = recent[-max(3, length // 6) :]
        level = median(value + slope * (len(last) - 1 - at) for at, value in enumerate(last))
        return [level + slope * step for step in range(1, horizon + 1)]


@dataclass(frozen=True)
class _Mean:
    """Several ways, each with its weight."""

    parts: tuple[tuple[float, _Way], ...]

    def ahead(self, values: Sequence[float], horizon: int) -> list[float]:
        """As :class:`_Way` says."""
        each = [(weight, way.ahead(values, horizon)) for weight, way in self.parts]
        return [math.fsum(weight * found[at] for weight, found in each) for at in range(horizon)]


@dataclass(frozen=True)
class _Model:
    """A way for the series without its season, and the season."""

    way: _Way
    #: What each point of the season adds, the first to the first value.
    season: tuple[float, ...]
    #: All this of the logarithm.
    is_log: bool = False

    def ahead(self, values: Sequence[float], horizon: int) -> list[float]:
        """As :class:`_Way` says, of the values as they are."""
        inner = [math.log(each) for each in values] if self.is_log else values
        length, total = len(self.season), len(values)
        plain = [value - self.season[at % length] for at, value in enumerate(inner)]
        found = [
            value + self.season[at % length] for at, value in enumerate(self.way.ahead(plain, horizon), start=total)
        ]
        # Above 700 there is no such float.
        return [math.exp(min(each, 700.0)) for each in found] if self.is_log else found


def _model(values: Sequence[float], horizon: int, season: int) -> _Model:
    indices = seasonal_indices(values, season) if is_seasonal(values, season) else [0.0]
    plain = [value - indices[at % len(indices)] for at, value in enumerate(values)]
    ways: list[_Way] = [_smoothing(plain, 0.0, (0.0,)), _smoothing(plain, _DAMPING, _TRENDS), *map(_Line, _SHARES)]
    squares = [fmean(each * each for each in _all(past_errors(plain, way, horizon))) for way in ways]
    # One that never erred would take everything, and all that err alike share.
    floor = max(max(squares) * 1e-12, 1e-12)
    weights = [1 / max(each, floor) for each in squares]
    total = math.fsum(weights)
    return _Model(
        _Mean(tuple((weight / total, way) for weight, way in zip(weights, ways, strict=True))), tuple(indices)
    )


def _smoothing(values: Sequence[float], damping: float, trends: Iterable[float]) -> _Smoothing:
    tried = [_Smoothing(level, trend, damping) for level in _LEVELS for trend in trends]
    return min(tried, key=lambda each: each.run(values)[2])


# The past -----------------------------------------------------------------------------------------------------------


def past_errors(values: Sequence[float], way: _Way, horizon: int) -> dict[int, list[float]]:
    """By distance, how much what came was above what would have been said, at moments of the past."""
    total = len(values)
    # A third of the points, so that a way has something to go on from, and always at least one is left to compare.
    first = min(max(LEAST, total // 3), total - 1)
    found: dict[int, list[float]] = {}
    for origin in range(first, total, max(1, (total - first) // _ORIGINS)):
        for distance, said in enumerate(way.ahead(values[:origin], min(horizon, total - origin)), start=1):
            found.setdefault(distance, []).append(values[origin + distance - 1] - said)
    return found


def _all(errors: dict[int, list[float]]) -> Iterable[float]:
    return (each for of_distance in errors.values() for each in of_distance)


def _spread(errors: dict[int, list[float]], horizon: int) -> list[float]:
    """How far above the middle nine of ten outcomes stay, at each distance: errors grow by a power of it."""
    sizes = {distance: [abs(each) for each in found] for distance, found in errors.items()}
    usable = {distance: found for distance, found in sizes.items() if len(found) >= _LEAST_ERRORS} or sizes
    grown = [(math.log(distance), math.log(fmean(found))) for distance, found in usable.items() if any(found)]
    # By the root of the distance at least, as a random walk's, and no faster than it.
    power = 0.5
    if len(grown) >= 3:
        power = min(1.0, max(0.5, linear_regression(*zip(*grown, strict=True)).slope))
    scaled = sorted(error / distance**power for distance, found in usable.items() for error in found)
    quantile = scaled[min(len(scaled), math.ceil(_COVERED * (len(scaled) + 1))) - 1]
    return [quantile * distance**power for distance in range(1, horizon + 1)]
