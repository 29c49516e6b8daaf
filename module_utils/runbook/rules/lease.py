"""Who may work on a database now.

A run holds a lease: a row that names the run, its purpose and an expiry. The server's clock decides, so two bastions
with different clocks agree. While modules work they renew it, so the time to live stays short, and the lease of a run
that was killed ends by itself. If the run was started on this very machine and its process is gone, nobody needs to
wait for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Lease:
    """One row of ``runbook.lease``."""

    run_id: str
    controller: str
    purpose: str
    acquired_at: datetime
    expires_at: datetime


Decision = Literal["acquire", "renew", "take_over", "refuse"]


def decide(current: Lease | None, *, run_id: str, now: datetime, holder_is_dead: bool) -> Decision:
    """What a run does that wants the lease.

    :param current: the lease as it stands, None if nobody holds one
    :param now: the server's clock
    :param holder_is_dead: the holder ran on this machine and its process is gone; False where that is not known
    """
    if current is None:
        return "acquire"
    if current.run_id == run_id:
        return "renew"
    if current.expires_at <= now or holder_is_dead:
        return "take_over"
    return "refuse"
