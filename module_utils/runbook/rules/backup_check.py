"""What makes backups good: each demand is one check, and what could not be judged is never green.

A check takes what was found and what is wanted, and says ``ok``, ``breach`` or ``unknown`` with one sentence. Nothing
here reads a bucket or a clock.

>>> overall([Check("age", "ok", ""), Check("lock", "unknown", "")])
'unknown'
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

OK, BREACH, UNKNOWN = "ok", "breach", "unknown"


@dataclass(frozen=True)
class Check:
    """One demand: its name, ``ok``, ``breach`` or ``unknown``, and the sentence for the person on duty."""

    name: str
    status: str
    msg: str


def overall(checks: Iterable[Check]) -> str:
    """The worst of all: a breach before an unknown before ok. Nothing checked is unknown."""
    found = {check.status for check in checks}
    return next((status for status in (BREACH, UNKNOWN, OK) if status in found), UNKNOWN)


def sentence(subject: str, checks: Iterable[Check]) -> str:
    """One sentence on all checks: what is wrong first, or how many are well.

    >>> sentence("Backups", [Check("age", "breach", "The newest is 3 days old."), Check("lock", "ok", "")])
    'Backups: 1 of 2 checks are not ok. age (breach): The newest is 3 days old.'
    """
    made = list(checks)
    bad = [check for check in made if check.status != OK]
    if not made:
        return f"{subject}: nothing was checked."
    if not bad:
        return f"{subject}: all {len(made)} checks are ok."
    named = " ".join(f"{check.name} ({check.status}): {check.msg}" for check in sorted(bad, key=_worst_first))
    return f"{subject}: {len(bad)} of {len(made)} checks are not ok. {named}"


def as_results(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """The checks as a module returns them."""
    return [asdict(check) for check in checks]


def span(seconds: float) -> str:
    """A span in words, exact enough to act on.

    >>> span(59), span(7200), span(93_600), span(864_000)
    ('59 s', '120 min', '26.0 h', '10.0 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 3 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def age_s(moment: datetime, now: datetime) -> float:
    """Seconds from ``moment`` to ``now``; negative for a moment that is still to come."""
    return (now - moment).total_seconds()


def _worst_first(check: Check) -> int:
    return (BREACH, UNKNOWN, OK).index(check.status)
