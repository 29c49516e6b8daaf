"""When a certificate has to be renewed.

A fixed number of days fits no longer. The CA/Browser Forum (ballot SC-081v3, Baseline Requirements 6.3.2) cuts the
longest lifetime of a public certificate from 398 days to 200 (since 2026-03-15), 100 (2027-03-15) and 47 (2029-03-15),
and Let's Encrypt goes to 45 days by itself: such a certificate would be red for most of its life under a limit of 30
days. What renews by itself does so when a third of the lifetime is left. So the fraction decides:

- less than a third left: due. Renewal should have happened, and there is time to see why it did not;
- less than a sixth left: critical.

A certificate that was issued for longer than 200 days counts as one of 200 days, so 66 and 33 days: it comes from a
private authority, and nobody wants to hear of one of ten years for the last three of them.

The floor, a number of days, is for certificates that people renew by hand: those are due when fewer days are left, even
if that is more than a third. It does not count for lifetimes under 90 days, which the fraction alone can judge. With
the runbook's 30 days it therefore adds nothing to a third of 90 days and more; a larger one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: A longer lifetime counts as this one.
LONGEST = timedelta(days=200)
#: Under this lifetime the floor does not count.
SHORT = timedelta(days=90)


class Renewal(StrEnum):
    """Where a certificate stands in its life."""

    NOT_YET_VALID = "not_yet_valid"
    CURRENT = "current"
    DUE = "due"
    CRITICAL = "critical"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Lifetime:
    """A certificate's lifetime.

    >>> from datetime import UTC
    >>> begin = datetime(2026, 1, 1, tzinfo=UTC)
    >>> ninety = Lifetime(begin, begin + timedelta(days=90))
    >>> [ninety.renewal(begin + timedelta(days=day)).value for day in (-1, 60, 61, 76, 91)]
    ['not_yet_valid', 'current', 'due', 'critical', 'expired']
    """

    not_before: datetime
    not_after: datetime
    floor_days: int = 30

    @property
    def due_at(self) -> datetime:
        """From when on it has to be renewed."""
        left = self._counted / 3
        if self.not_after - self.not_before >= SHORT:
            left = max(left, timedelta(days=self.floor_days))
        return self.not_after - left

    @property
    def critical_at(self) -> datetime:
        """From when on nothing else matters."""
        return self.not_after - self._counted / 6

    def days_left(self, now: datetime) -> float:
        """Days until its end; negative after it."""
        return (self.not_after - now) / timedelta(days=1)

    def fraction_left(self, now: datetime) -> float:
        """Of the whole lifetime, what is left; 0 after its end, 1 before its beginning."""
        whole = self.not_after - self.not_before
        return min(max((self.not_after - now) / whole, 0.0), 1.0) if whole > timedelta(0) else 0.0

    def renewal(self, now: datetime) -> Renewal:
        """Where it stands; at the limit itself it is still well."""
        if now > self.not_after:
            return Renewal.EXPIRED
        if now < self.not_before:
            return Renewal.NOT_YET_VALID
        if now > self.critical_at:
            return Renewal.CRITICAL
        return Renewal.DUE if now > self.due_at else Renewal.CURRENT

    @property
    def _counted(self) -> timedelta:
        return min(max(self.not_after - self.not_before, timedelta(0)), LONGEST)
