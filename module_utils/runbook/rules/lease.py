"""Who may work on a database now.

A run holds a lease: a row that names the run, its purpose and an expiry. The server's clock decides, so two bastions
with different clocks agree. While modules work they renew it, so the time to live stays short, and the lease of a run
that was killed ends by itself. If the run was started on this very machine and its process is gone, nobody needs to
wait for that.

A lease alone does not stop a module that outlives its killed run. So whoever writes also holds the writer's lock, which
the server drops with the connection: while it is held, nobody takes the lease over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from datetime import datetime


#: Code of the error that somebody else holds the lease, or writes.
HELD = "lease_held"


@dataclass(frozen=True)
class Lease:
    """One row of ``runbook.lease``."""

    run_id: str
    #: ``<host>/<pid>`` of the run's ansible-playbook.
    controller: str
    #: The same process, as ``drivers/process.py`` names it; empty where that is not known.
    machine: str
    purpose: str
    acquired_at: datetime
    expires_at: datetime


#: What is known of the process that holds a lease. ``unknown``: it runs, or ran, somewhere else.
Life = Literal["alive", "dead", "unknown"]

Decision = Literal["acquire", "renew", "take_over", "refuse"]


def decide(current: Lease | None, *, run_id: str, now: datetime, holder: Life, is_written_to: bool) -> Decision:
    """What a run does that wants the lease.

    :param current: the lease as it stands, None if nobody holds one
    :param now: the server's clock
    :param holder: what is known of the holder's process
    :param is_written_to: a module holds the writer's lock
    """
    if current is not None and current.run_id == run_id:
        return "renew"
    if is_written_to:
        return "refuse"
    if current is None:
        return "acquire"
    if current.expires_at <= now or holder == "dead":
        return "take_over"
    return "refuse"


def told(current: Lease, *, now: datetime, holder: Life) -> str:
    """How it stands with a lease, and what becomes of it, behind the name of whoever holds it.

    :param now: the clock of where the lease lies
    :param holder: what is known of the holder's process
    """
    until = to_second(current.expires_at.isoformat())
    if current.expires_at <= now:
        return f"had the lease until {until}; it keeps nobody away, and the next run takes it over"
    if holder == "dead":
        return f"holds the lease until {until}; its process is dead, and the next run on this machine takes it at once"
    return f"holds the lease until {until}, and renews it while it lives"


def check_release(current: Lease, *, run_id: str, holder: Life, writer_pid: int | None) -> None:
    """Whether somebody may release the lease of a run that is said to be dead.

    :param run_id: the run that was named
    :param writer_pid: process on the server of whoever holds the writer's lock, None if nobody does
    :raises RunbookError: another run holds the lease, or that run is not dead
    """
    if current.run_id != run_id:
        raise RunbookError(
            f"run_id: {run_id!r} does not hold the lease, {current.run_id} ({current.purpose}, "
            f"{current.controller}) does; name that run if it is surely dead."
        )
    if holder == "alive":
        raise RunbookError(
            f"run_id: run {run_id} is alive on this machine ({current.controller}); stop that ansible-playbook first, "
            "with SIGTERM to the process whose number stands behind the slash."
        )
    if writer_pid is not None:
        raise RunbookError(
            f"run_id: a module still writes in the name of run {run_id} (server process {writer_pid}); wait until it "
            f"is done, or end it with SELECT pg_terminate_backend({writer_pid})."
        )
