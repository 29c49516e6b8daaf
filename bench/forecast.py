"""How far forecasts of a quarter are off: those of this project, and what people do by eye instead.

``python -m bench.forecast`` fills its table of bench/README.md, in about half a minute. Generated series have 270
days, of which the last 90 are held out. The public ones (``forecast_series.json``) are examples of R's package
*datasets* (GPL-2 or GPL-3), where each has this name; of those several stretches are held out, one after the other.
The error is in units of the usual change from one step to the next, so that series of all sizes can be averaged.
"""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from bench.harness import ROOT
from bench.weekly import write_tables  # isort: split

from ansible.module_utils.runbook.rules.capacity.forecast import forecast

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DAYS, HELD_OUT, WEEK, SEEDS = 270, 90, 7, 12
WAYS = ("this project", "last slope", "slope of 30 points", "seasonal naive")
SERIES = ROOT / "bench/forecast_series.json"


def generated(kind: str, draw: random.Random) -> list[float]:
    """One series of a kind that quantities of a service show."""
    slope, step = draw.uniform(0.1, 1), draw.randrange(DAYS // 4, DAYS)
    week = [draw.gauss(0, 5) for _ in range(WEEK)]
    walked = 100.0
    values = []
    for day in range(DAYS):
        walked += slope * 0.3 + draw.gauss(0, 1)
        noise = draw.gauss(0, 1)
        values.append(
            {
                "linear": 100 + slope * day + noise,
                "week": 100 + slope * day + week[day % WEEK] + noise,
                "step": 100 + slope * day + (60 if day >= step else 0) + noise,
                "random walk": walked,
                "exponential": 100 * math.exp(0.004 * slope * day) + noise,
                "saturating": 100 + 80 * (1 - math.exp(-day / 60)) + noise,
                "cleaned up monthly": 100 + slope * day - day % 30 * 0.5 + noise / 2,
                "flat": 100 + 3 * noise,
                "shrinking": 300 - slope * day + 2 * noise,
                "three times as fast from one day on": 100
                + slope * min(day, step)
                + 3 * slope * max(0, day - step)
                + noise,
            }[kind]
        )
    return values


KINDS = (
    "linear", "week", "step", "random walk", "exponential", "saturating", "cleaned up monthly", "flat", "shrinking",
    "three times as fast from one day on",
)  # fmt: skip


def held_out() -> Iterator[tuple[str, list[float], int, int]]:
    """Each series with its name, how many of its last points are held out, and its season."""
    for kind in KINDS:
        for seed in range(SEEDS):
            yield kind, generated(kind, random.Random(f"{kind}{seed}")), HELD_OUT, WEEK  # noqa: S311 - no secret
    for name, each in json.loads(SERIES.read_text()).items():
        values, horizon = each["values"], each["horizon"]
        for cut in range(0, 3 * horizon, max(1, horizon // 2)):
            if len(values) - cut >= 4 * horizon:
                yield f"R: {name}", values[: len(values) - cut], horizon, each["season"]


def errors(values: Sequence[float], horizon: int, season: int) -> list[float]:
    """Of each way the mean error; then how much of what came was below our p90."""
    past, future = values[:-horizon], values[-horizon:]
    usual = fmean(abs(b - a) for a, b in pairwise(past))
    ours = forecast(past, horizon, season)
    if ours is None:
        raise AssertionError("a series of the benchmark is too short")
    points, repeat = min(len(past), 30), season or WEEK

    def line(slope: float) -> list[float]:
        return [past[-1] + slope * step for step in range(1, horizon + 1)]

    said = (
        ours.p50,
        line(past[-1] - past[-2]),
        line((past[-1] - past[-points]) / (points - 1)),
        [past[-repeat + step % repeat] for step in range(horizon)],
    )
    off = [fmean(abs(a - b) for a, b in zip(future, each, strict=True)) / usual for each in said]
    return [*off, fmean(a <= b for a, b in zip(future, ours.p90, strict=True))]


def table(measured: dict[str, list[list[float]]]) -> list[str]:
    """The table of bench/README.md."""
    every = [row for rows in measured.values() for row in rows]
    lines = [f"| series | n | {' | '.join(WAYS)} | below p90, % |", f"|---|{'---|' * (len(WAYS) + 2)}"]
    for name, rows in [*measured.items(), ("**all**", every)]:
        *off, below = (fmean(column) for column in zip(*rows, strict=True))
        lines.append(f"| {name} | {len(rows)} | {' | '.join(f'{each:.1f}' for each in off)} | {100 * below:.0f} |")
    return [*lines, ""]


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    measured: dict[str, list[list[float]]] = {}
    for name, values, horizon, season in held_out():
        measured.setdefault(name, []).append(errors(values, horizon, season))
    write_tables("forecast", ["", *table(measured)])


if __name__ == "__main__":
    main()
