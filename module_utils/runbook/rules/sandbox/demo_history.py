"""Half a year of metrics that the sandbox's Prometheus begins with, so that there is something to forecast.

Invented, like the sandbox's rows, and the same every time: each series says so by its label. Among them are a week's
rhythm, growth by a share, a step, a counter whose process began again, and a gap.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DAYS = 180
#: As ``capacity_info`` asks, from midnight on.
STEP_H = 3
LABELS = '{origin="invented"}'
#: By weekday, Monday first, how busy it is.
_WEEK = (1.15, 1.2, 1.2, 1.15, 1.05, 0.65, 0.6)
_GAP = (70, 74)
_RESTART = 120


def _noise(day: float) -> float:
    """About between -1 and 1, another one each day; and what comes and goes over weeks."""
    whole = math.floor(day)
    return 0.4 * math.sin(12.9898 * whole) * math.cos(78.233 * whole) + 0.4 * math.sin(day / 9) + math.sin(day / 23) / 3


def _users(day: float) -> float:
    return 3_000 * math.exp(0.0022 * day) * (1 + 0.015 * _noise(day))


def _disk(day: float) -> float:
    # A migration copied a table on the hundredth day.
    return 4.4e9 + 13e6 * day + (6e8 if day >= 100 else 0) + 6e7 * _noise(day)


def openmetrics(now: datetime, more: Sequence[str] = ()) -> str:
    """The series in the form that ``promtool tsdb create-blocks-from openmetrics`` reads, until this midnight.

    :param more: lines of other series
    """
    end = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    levels: dict[str, Callable[[float], float]] = {"demo_users": _users, "demo_disk_bytes": _disk}
    counters = {"demo_api_requests": 42_000.0, "demo_function_runs": 30_000.0}
    lines: list[str] = []
    for name, value in levels.items():
        lines.append(f"# TYPE {name} gauge")
        lines += [f"{name}{LABELS} {value(day):.0f} {at.timestamp():.0f}" for day, at in _moments(end)]
    for name, a_day in counters.items():
        lines.append(f"# TYPE {name} counter")
        total = 0.0
        for day, at in _moments(end):
            if day == _RESTART:
                total = 0.0
            busy = _WEEK[at.weekday()] * (1 + 0.1 * _noise(day)) * (1 + 0.003 * day)
            lines.append(f"{name}_total{LABELS} {total:.0f} {at.timestamp():.0f}")
            total += a_day * busy * STEP_H / 24
    return "\n".join([*lines, *more, "# EOF", ""])


def _moments(end: datetime) -> Iterator[tuple[float, datetime]]:
    """Days since the beginning, and the moment."""
    begin = end - timedelta(days=DAYS)
    for step in range(DAYS * 24 // STEP_H):
        day = step * STEP_H / 24
        if not _GAP[0] <= day < _GAP[1]:
            yield day, begin + timedelta(hours=STEP_H * step)
