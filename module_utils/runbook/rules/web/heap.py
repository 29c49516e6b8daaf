"""Whether a page's heap grows with each turn of a flow: a slope, and how sure it is.

After each turn the garbage is collected, so what remains is held by somebody. One measurement says nothing, because
caches fill and code is compiled; so the first turns are left out, and the slope is Theil's and Sen's: the median of the
slopes between all pairs of turns, which a single leap does not move. Its interval is Sen's, from the variance of
Kendall's S (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63, 1968; R. O. Gilbert,
"Statistical Methods for Environmental Pollution Monitoring", 1987, 16.5).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95
#: With fewer points Sen's interval has no end, or is all there is.
LEAST_TURNS = 6


@dataclass(frozen=True)
class Slope:
    """Growth by turn, with the ends of its interval."""

    middle: float
    low: float
    high: float


def slope(values: Sequence[float], confidence: float = CONFIDENCE) -> Slope:
    """How fast values grow from turn to turn.

    :param values: at least three, one a turn

    >>> slope([10, 12, 14, 16, 18, 20, 22, 24])
    Slope(middle=2.0, low=2.0, high=2.0)
    """
    slopes = sorted(
        (values[later] - values[earlier]) / (later - earlier)
        for earlier in range(len(values))
        for later in range(earlier + 1, len(values))
    )
    turns = len(values)
    ties = sum(number * (number - 1) * (2 * number + 5) for number in Counter(values).values())
    deviation = math.sqrt(max(turns * (turns - 1) * (2 * turns + 5) - ties, 0) / 18)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * deviation
    pairs = len(slopes)
    # Gilbert counts ranks from one, and takes the value between two of them; the wider neighbour is the safe one.
    low = math.floor((pairs - half) / 2) - 1
    high = math.ceil((pairs + half) / 2)
    return Slope(median(slopes), slopes[max(low, 0)], slopes[min(high, pairs - 1)])


@dataclass(frozen=True)
class Flow:
    """What was measured of one flow: the heap after each turn, in bytes, the turns that warm it up included."""

    name: str
    heap_bytes: Sequence[int]
    warm_up: int
    #: Elements and listeners that the page holds after each turn.
    nodes: Sequence[int] = ()
    listeners: Sequence[int] = ()

    @property
    def counted(self) -> Sequence[int]:
        """The heap of the turns that count."""
        return self.heap_bytes[self.warm_up :]

    def slope(self) -> Slope | None:
        """Growth by turn; None where there were too few turns."""
        return slope(self.counted) if len(self.counted) >= LEAST_TURNS else None

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        found = self.slope()
        return {
            "name": self.name, "turns": len(self.counted), "warm_up": self.warm_up, "heap_bytes": list(self.heap_bytes),
            "nodes": list(self.nodes), "listeners": list(self.listeners),
            "growth_bytes": None if found is None else round(found.middle),
            "growth_low_bytes": None if found is None else round(found.low),
            "growth_high_bytes": None if found is None else round(found.high),
        }  # fmt: skip


def judge(flow: Flow, most_bytes: int) -> tuple[list[Finding], list[Unknown]]:
    """Whether a flow leaks.

    It does where even the low end of the interval is above ``most_bytes``, and does not where the high end is below it.
    Between the two nobody knows.

    :param most_bytes: growth by turn that is no leak
    """
    found = flow.slope()
    if found is None:
        msg = (
            f"{flow.name}: {count(len(flow.counted), 'turn')} counted, and {LEAST_TURNS} are needed; let it have more."
        )
        return [], [Unknown(f"heap:{flow.name}", msg)]
    told = (
        f"{_signed(found.middle)} a turn, {_signed(found.low)} to {_signed(found.high)} at {CONFIDENCE:.0%}, over "
        f"{count(len(flow.counted), 'turn')}"
    )
    if found.low > most_bytes:
        grown = [
            f"{label} {slope(values[flow.warm_up :]).middle:+,.0f}"
            for label, values in (("elements", flow.nodes), ("listeners", flow.listeners))
            if len(values) == len(flow.heap_bytes) and slope(values[flow.warm_up :]).low > 0
        ]
        held = f" With each turn it holds {' and '.join(grown)}." if grown else ""
        return [
            Finding(
                finding_id("heap_growth", flow.name), "heap_growth", "critical", flow.name,
                {
                    "growth_bytes": round(found.middle), "growth_low_bytes": round(found.low),
                    "growth_high_bytes": round(found.high), "turns": len(flow.counted), "most_bytes": most_bytes,
                },
                f"{flow.name} leaks: {told}.{held} Compare two heap snapshots of it in Chromium's developer tools.",
            )
        ], []  # fmt: skip
    if found.high > most_bytes:
        msg = f"{flow.name}: the heap moves too much to say whether it grows ({told}); give more turns."
        return [], [Unknown(f"heap:{flow.name}", msg)]
    return [], []


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{size(abs(value))}"
