"""What becomes of a quantity: when it meets its limit, and what the next quarter needs.

A limit is met when the quantity is at or above it. Nothing is said of a quantity whose history is shorter than a third
of the quarter, since a forecast much longer than what it is made from is none; and nothing of what lies further ahead
than three times the history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.capacity.forecast import LEAST, Forecast, forecast
from ansible.module_utils.runbook.rules.capacity.series import DAY, WEEK, Series, monthly, on_grid
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from ansible.module_utils.runbook.rules.capacity.quantity import Quantity

#: Days of a quarter, and how far ahead the date of a limit is looked for.
QUARTER_DAYS = 92
AHEAD_DAYS = 2 * QUARTER_DAYS
#: How many times its history a forecast may be long.
_TIMES = 3
#: Of a history more is not kept.
KEPT_DAYS = 800
#: Points of a chart.
_POINTS = 180
#: A year has no season that fewer than two and a half of them could show; a week has.
_SEASONS = {DAY: 7, WEEK: 52}
#: A last value that is older is not of now.
_STALE_DAYS = 10


@dataclass(frozen=True)
class Limit:
    """What a quantity may be at most."""

    value: float
    #: Who says so: the inventory, the server, a plan.
    of: str


@dataclass(frozen=True)
class Outlook:
    """A quantity with its history, its forecast and its limit."""

    quantity: Quantity
    #: As read and as earlier runs kept it.
    days: Mapping[date, float]
    series: Series | None
    forecast: Forecast | None
    limit: Limit | None
    #: Why there is no forecast, in a sentence; empty where there is one.
    why_not: str = ""
    #: Whether somebody can do something about that; where only time can, False.
    fixable: bool = False
    cold_bytes: int | None = None

    @property
    def now(self) -> float | None:
        """The newest value, of an amount a month's; None where nobody knows it."""
        if self.series is None:
            return None if self.quantity.is_amount or not self.days else self.days[max(self.days)]
        return self.series.values[-1]

    @property
    def at(self) -> date | None:
        """The day of that value."""
        if self.now is None:
            return None
        return max(self.days) if self.series is None else self.series.day(len(self.series.values) - 1)

    def ahead(self, days: int) -> tuple[float, float] | None:
        """p50 and p90 after so many days; None beyond the forecast."""
        if self.series is None or self.forecast is None:
            return None
        index = max(1, math.ceil(days / self.series.step_days)) - 1
        return (self.forecast.p50[index], self.forecast.p90[index]) if index < len(self.forecast.p50) else None

    def reached(self, share: str) -> date | None:
        """When p50 or p90 meets the limit first; None where it does not within the forecast, or without a limit."""
        return self.meets(self.limit.value, share) if self.limit else None

    def meets(self, most: float, share: str) -> date | None:
        """When p50 or p90 meets a value first; None where it does not within the forecast."""
        if self.now is None:
            return None
        if self.now >= most:
            return self.at
        if self.series is None or self.forecast is None:
            return None
        values: tuple[float, ...] = getattr(self.forecast, share)
        # A line that meets it on a day may be a last digit below it.
        index = next((index for index, value in enumerate(values) if value >= most * (1 - 1e-9)), None)
        return None if index is None else self.series.day(len(self.series.values) + index)

    def result(self) -> dict[str, Any]:
        """As the module returns it, and the next run reads its history."""
        quarter = self.ahead(QUARTER_DAYS)
        series, made = self.series, self.forecast
        met = {share: self.reached(share) for share in ("p50", "p90")}
        return {
            "name": self.quantity.name,
            "source": self.quantity.source,
            "unit": self.quantity.unit,
            "kind": self.quantity.kind,
            "options": dict(self.quantity.options),
            "now": self.now,
            "at": _iso(self.at),
            "p50": quarter[0] if quarter else None,
            "p90": quarter[1] if quarter else None,
            "limit": self.limit.value if self.limit else None,
            "limit_of": self.limit.of if self.limit else None,
            "limit_p50_on": _iso(met["p50"]),
            "limit_p90_on": _iso(met["p90"]),
            "history_days": series.days if series else 0,
            "filled": series.filled if series else 0,
            "step_days": series.step_days if series else None,
            "season": made.season if made else None,
            "steps": [series.day(index).isoformat() for index in made.steps] if series and made else [],
            "why_not": self.why_not,
            "history": [[day.isoformat(), value] for day, value in sorted(self.days.items())[-KEPT_DAYS:]],
            "shown": _shown(series) if series else [],
            "forecast": _drawn(series, made) if series and made else [],
        }


def outlook(
    quantity: Quantity,
    days: Mapping[date, float],
    limit: Limit | None,
    *,
    today: date,
    why_not: str = "",
    cold_bytes: int | None = None,
) -> Outlook:
    """Look ahead.

    :param days: what is known of each day
    :param why_not: why its source gave nothing this time, if so
    """  # fmt: skip

    def without(sentence: str, *, fixable: bool = False, series: Series | None = None) -> Outlook:
        return Outlook(quantity, days, series, None, limit, sentence, fixable, cold_bytes)

    series = on_grid(days, is_amount=quantity.is_amount)
    if series is not None and quantity.is_amount:
        series = monthly(series) if len(series.values) >= WEEK // series.step_days else None
    if why_not:
        return without(why_not, fixable=True, series=series)
    needed = math.ceil(QUARTER_DAYS / _TIMES)
    short = (
        f"{quantity.name}: {{}} of history, and a forecast of a quarter needs {needed}; it comes by itself if "
        "capacity.yml runs every day."
    )
    if series is None:
        if len(days) < LEAST:
            return without(short.format(count(len(days), "day")))
        return without(f"{quantity.name}: its history has larger gaps than days; see that capacity.yml runs every day.")
    last = series.day(len(series.values) - 1)
    if (today - last).days > _STALE_DAYS:
        return without(
            f"{quantity.name}: its newest value is of {last}; see why its source has none since.",
            fixable=True,
            series=series,
        )
    if len(series.values) < LEAST or series.days < needed:
        return without(short.format(count(series.days, "day")), series=series)
    horizon = min(AHEAD_DAYS, _TIMES * series.days) // series.step_days
    made = forecast(series.values, horizon, _SEASONS[series.step_days])
    return Outlook(quantity, days, series, made, limit, cold_bytes=cold_bytes)


def judge(found: Outlook, *, today: date, lead_days: int) -> list[Finding]:
    """Whether its limit is passed or near.

    It is critical where the limit is passed, or is met by p50 within the days that making room takes; a warning
    where p90 meets it within the quarter.

    :param lead_days: how long it takes to make room
    """
    limit, now = found.limit, found.now
    if limit is None or now is None:
        return []
    quantity = found.quantity
    name, of = quantity.name, f"its limit of {quantity.text(limit.value)} ({limit.of})"
    p50, p90 = found.reached("p50"), found.reached("p90")
    evidence = {"now": now, "limit": limit.value, "limit_of": limit.of, "p50_on": _iso(p50), "p90_on": _iso(p90)}
    risk = "Make room, or raise the limit."
    if now >= limit.value:
        said = f"{name} is at {quantity.text(now)}, and has passed {of}."
        return [
            Finding(finding_id("capacity_passed", name), "capacity_passed", "critical", name, evidence, said, (), risk)
        ]
    early = p90 or p50
    if early is None or (early - today).days > QUARTER_DAYS:
        return []
    is_near = p50 is not None and (p50 - today).days <= lead_days
    when = [f"on {p50} (p50)"] if p50 else []
    when += [f"one time in ten by {early} (p90)"] if early != p50 else []
    said = f"{name} is at {quantity.text(now)}, and meets {of} {', '.join(when)}."
    return [
        Finding(
            finding_id("capacity_limit", name), "capacity_limit", "critical" if is_near else "warning", name, evidence,
            said, (), risk,
        )
    ]  # fmt: skip


def unknown(found: Outlook) -> list[Unknown]:
    """What could not be forecast."""
    return [Unknown(found.quantity.name, found.why_not, fixable=found.fixable)] if found.why_not else []


def _shown(series: Series) -> list[list[Any]]:
    return [[series.day(at).isoformat(), round(series.values[at], 3)] for at in _some(len(series.values))]


def _drawn(series: Series, made: Forecast) -> list[list[Any]]:
    begin = len(series.values)
    return [
        [series.day(begin + at).isoformat(), round(made.p50[at], 3), round(made.p90[at], 3)]
        for at in _some(len(made.p50))
    ]


def _some(length: int) -> list[int]:
    """Indices of as many points as a chart has room for, the last one among them.

    >>> _some(3), len(_some(1000)), _some(1000)[-1]
    ([0, 1, 2], 167, 999)
    """
    stride = max(1, math.ceil(length / _POINTS))
    return [*range((length - 1) % stride, length, stride)]


def _iso(day: date | None) -> str | None:
    return day.isoformat() if day else None
