"""Watching a system after a change: when a metric is bad, when to stop early, and when nobody can tell.

The shape is that of the analysis of a canary: samples, a share of failed ones that is not exceeded, and a number of
samples below which nothing is said. What could not be measured is neither good nor failed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.vector import Vector
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["good", "failed", "unknown"]


@dataclass(frozen=True)
class Sample:
    """One look."""

    outcome: Outcome
    #: What was seen, where it was not good.
    said: str = ""


@dataclass(frozen=True)
class Metric:
    """A query in PromQL, whose values have to lie within bounds, each of them."""

    name: str
    query: str
    min: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Metric:
        """As a module's option says.

        :raises RunbookError: it has no bound
        """
        made = cls(**given)
        if made.min is None and made.max is None:
            raise RunbookError(
                f"metrics: {made.name}: it has neither min nor max, so nothing could be wrong; give one."
            )
        return made

    def judge(self, status: int, body: str) -> Sample:
        """What Prometheus answered to ``/api/v1/query``.

        An empty vector is no zero: the metric is gone, or its exporter. NaN is no number. With a warning the result may
        lack something.

        :raises RunbookError: the query is none
        """
        if status not in (200, 400):
            return Sample("unknown", f"Prometheus answered with {status}")
        try:
            said = json.loads(body)
            if status == 400:
                raise RunbookError(
                    f"metrics: {self.name}: Prometheus cannot read its query: {str(said['error'])[:200]}."
                )
            if said["status"] != "success":
                return Sample("unknown", f"Prometheus answered with {status}")
            found = Vector.of(said)
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            return Sample("unknown", f"Prometheus answered with {status} and something that is no result")
        if found.kind not in ("vector", "scalar"):
            raise RunbookError(
                f"metrics: {self.name}: its query gives a {found.kind}; give one with a value at each moment."
            )
        if found.warnings:
            return Sample("unknown", f"Prometheus warns: {found.warnings[0][:200]}")
        if not found.values:
            return Sample("unknown", "it has no value: the metric or its exporter is gone")
        wrong = [each for each in found.values if not math.isnan(each) and not self._is_within(each)]
        if wrong:
            return Sample("failed", f"its value was {wrong[0]:g}")
        if any(map(math.isnan, found.values)):
            return Sample("unknown", "its value was NaN")
        return Sample("good")

    def _is_within(self, value: float) -> bool:
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


@dataclass(frozen=True)
class Rule:
    """When a soak is red."""

    #: Share of failed samples, of those that could be measured, that may not be exceeded.
    abort_share: float
    #: Below this number of measured samples nothing is said.
    min_samples: int
    #: How many there are if the soak lasts its whole time.
    samples: int = 0

    @classmethod
    def of(cls, *, abort_share: float, min_samples: int, duration_s: float, interval_s: float) -> Rule:
        """As a module's options say.

        :raises RunbookError: the samples would never be enough, or the share is none
        """
        if not 0 <= abort_share < 1:
            raise RunbookError(
                f"abort_share: {abort_share:g} is no share; give a number from 0 to below 1, such as 0.1."
            )
        most = int(duration_s // interval_s) + 1
        if most < min_samples:
            raise RunbookError(
                f"min_samples: in {duration_s:g} s one every {interval_s:g} s gives {count(most, 'sample')}, fewer "
                f"than {min_samples}; watch for longer, or look more often."
            )
        return cls(abort_share, min_samples, most)


@dataclass
class Tally:
    """What one metric or page showed so far."""

    name: str
    good: int = 0
    failed: int = 0
    unknown: int = 0
    #: What the last one said that was not good.
    said: str = ""

    def add(self, sample: Sample) -> None:
        """Count one more."""
        setattr(self, sample.outcome, getattr(self, sample.outcome) + 1)
        self.said = sample.said or self.said

    def aborts(self, rule: Rule) -> bool:
        """Whether nothing is waited for any more: all failed, or too many whatever the rest will show.

        One bad sample among the first five is no reason to go back; it may be the only one of half an hour.
        """
        known = self.good + self.failed
        too_many = self.failed > rule.abort_share * max(known, rule.samples)
        return known >= rule.min_samples and (too_many or self.failed == known)

    def check(self, rule: Rule) -> Check:
        """The verdict at the end."""
        known = self.good + self.failed
        why = f"; {self.said}" if self.said else ""
        if known >= rule.min_samples and self.failed > rule.abort_share * known:
            return Check(
                "soak", Status.BREACH, f"{self.name}: {self.failed} of {count(known, 'sample')} failed{why}.", self.name
            )
        if known < rule.min_samples or self.unknown > known:
            least = f"{rule.min_samples} {agree(rule.min_samples, 'is', 'are')} needed"
            said = f"{self.name}: {known} of {count(known + self.unknown, 'sample')} could be measured, {least}{why}."
            return Check("soak", Status.UNKNOWN, said, self.name)
        return Check("soak", Status.OK, f"{self.name}: {self.good} of {count(known, 'sample')} good.", self.name)
