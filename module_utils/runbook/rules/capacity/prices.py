"""Plans and their prices as data: what quantities cost now and at the end of the quarter, and the next size that fits.

A file of prices (``roles/capacity/files/supabase.yml`` is one) says when and where they were read, and has *tracks*:
what is chosen independently of each other, such as the plan and the size of the server. A track's steps go from small
to large; each has a price of a month, *limits*, which hold, and *usage*, what is included and what more costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import typed
from ansible.module_utils.runbook.rules.capacity.outlook import QUARTER_DAYS, Limit
from ansible.module_utils.runbook.rules.findings import Finding, finding_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.rules.capacity.outlook import Outlook

#: Prices that were looked at longer ago are not believed.
FRESH_DAYS = 190
#: A smaller step is proposed only where so many times the need fits into it.
_ROOM = 1.25


@dataclass(frozen=True)
class Usage:
    """What a step includes of a quantity, and what more costs a month."""

    included: float
    per: float
    price: float

    def cost(self, value: float) -> float:
        """What a value costs beyond what is included."""
        return max(0.0, value - self.included) / self.per * self.price


@dataclass(frozen=True)
class Step:
    """One choice of a track."""

    name: str
    month: float
    limits: dict[str, float] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    #: What is taken off the other tracks' prices.
    credit: float = 0.0


@dataclass(frozen=True)
class Prices:
    """A file of prices, and what is chosen of it."""

    dated: str
    source: str
    currency: str
    tracks: dict[str, tuple[Step, ...]]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Prices:
        """As the module's option has it.

        :raises RunbookError: says what of it is wrong
        """
        try:
            made: Prices = typed.read(cls, dict(given), "prices")
            date.fromisoformat(made.dated)
        except typed.FieldError as error:
            raise RunbookError(f"{error}; see roles/capacity/files for the form of a file of prices.") from None
        except ValueError:
            raise RunbookError(f"prices: dated is {given['dated']!r}; write the day as 2026-11-29.") from None
        for name, steps in made.tracks.items():
            for step in steps:
                if any(each.per <= 0 for each in step.usage.values()):
                    raise RunbookError(
                        f"prices: {name} {step.name} has a usage with per 0; give the amount that a price is for."
                    )
        return made

    def choice(self, chosen: Mapping[str, Any]) -> dict[str, Step]:
        """The steps that are chosen.

        :raises RunbookError: there is no such track or step, or a track without a choice
        """
        wrong = sorted(chosen.keys() ^ self.tracks.keys())
        if wrong:
            raise RunbookError(
                f"chosen: name one step of each of {', '.join(self.tracks)}; {wrong[0]} has none or is no track."
            )
        found = {}
        for track, name in chosen.items():
            step = next((each for each in self.tracks[track] if each.name == str(name)), None)
            if step is None:
                names = ", ".join(each.name for each in self.tracks[track])
                raise RunbookError(f"chosen: {track} is {name!r}; the file of prices has {names}.")
            found[track] = step
        return found

    def why_stale(self, today: date) -> str:
        """Why the prices are not to be believed, in a sentence; empty where they are."""
        age = (today - date.fromisoformat(self.dated)).days
        if age <= FRESH_DAYS:
            return ""
        return (
            f"The prices are of {self.dated}, {age} days old; compare them with {self.source}, and date the file again."
        )


def limit_of(name: str, choice: Mapping[str, Step]) -> Limit | None:
    """The lowest limit that what is chosen sets a quantity."""
    found = [Limit(step.limits[name], f"{track} {step.name}") for track, step in choice.items() if name in step.limits]
    return min(found, key=lambda each: each.value, default=None)


def cost(choice: Mapping[str, Step], values: Mapping[str, float]) -> float:
    """What a month costs.

    :param values: of the quantities that are known; what is not known counts as within what is included
    """
    credit = sum(step.credit for step in choice.values())
    fixed = [step.month for step in choice.values() if not step.credit]
    plans = [step.month for step in choice.values() if step.credit]
    usage = sum(
        each.cost(values[name]) for step in choice.values() for name, each in step.usage.items() if name in values
    )
    return sum(plans) + max(0.0, sum(fixed) - credit) + usage


@dataclass(frozen=True)
class Bill:
    """What a month costs now, and at the end of the quarter."""

    now: float
    p50: float
    p90: float
    #: With what is chosen now; with the steps that fit then.
    steps: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]


def bill(prices: Prices, choice: Mapping[str, Step], outlooks: Sequence[Outlook]) -> Bill:
    """Cost, and the steps that fit the quarter's needs."""
    now = {each.quantity.name: each.now for each in outlooks if each.now is not None}
    ahead = {each.quantity.name: found for each in outlooks if (found := each.ahead(QUARTER_DAYS))}
    then = {share: now | {name: both[at] for name, both in ahead.items()} for at, share in enumerate(("p50", "p90"))}
    needed = dict(choice)
    steps: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for track, step in choice.items():
        larger = _first(prices.tracks[track], then["p90"], 1.0)
        at = prices.tracks[track].index(step)
        if larger is None or larger > at:
            fits = prices.tracks[track][larger] if larger is not None else None
            needed[track] = fits or step
            steps.append(_step(track, step, fits, outlooks, prices.currency))
            continue
        smaller = _first(prices.tracks[track], then["p90"], _ROOM)
        # What nobody could measure may be why the larger one was chosen.
        known = set(step.limits) <= ahead.keys() and step.limits
        if smaller is not None and smaller < at and known:
            findings.append(_oversized(track, step, prices.tracks[track][smaller], prices.currency))
    return Bill(
        round(cost(choice, now), 2),
        round(cost(needed, then["p50"]), 2),
        round(cost(needed, then["p90"]), 2),
        tuple(steps),
        tuple(findings),
    )


def _first(steps: Sequence[Step], values: Mapping[str, float], room: float) -> int | None:
    """The smallest step that has room for what is known; None where none has."""
    return next(
        (
            at
            for at, step in enumerate(steps)
            if all(values[name] * room < most for name, most in step.limits.items() if name in values)
        ),
        None,
    )


def _step(track: str, step: Step, fits: Step | None, outlooks: Sequence[Outlook], currency: str) -> dict[str, Any]:
    """A line of the table of steps: what has to be chosen by when, and why."""
    by = [
        (met, each.quantity.name)
        for each in outlooks
        if each.quantity.name in step.limits and (met := each.meets(step.limits[each.quantity.name], "p90"))
    ]
    when, why = min(by, default=(None, ""))
    return {
        "track": track,
        "from": step.name,
        "to": fits.name if fits else "larger than the file of prices has",
        "by": when.isoformat() if when else None,
        "because_of": why,
        "month_now": step.month,
        "month_then": fits.month if fits else None,
        "currency": currency,
    }


def _oversized(track: str, step: Step, smaller: Step, currency: str) -> Finding:
    saved = step.month - smaller.month
    return Finding(
        finding_id("oversized_plan", track),
        "oversized_plan",
        "info",
        track,
        {"chosen": step.name, "fits": smaller.name, "saved_a_month": saved, "currency": currency},
        f"{track} {smaller.name} has room for the quarter's needs and a quarter more; {step.name} costs {saved:g} "
        f"{currency} a month more.",
        (),
        "Limits are all that was compared; memory and CPU were not.",
    )
