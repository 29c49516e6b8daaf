"""The lease in the database, and the lock that fences it.

Two things keep runs apart. The lease (a row in ``runbook.lease``) is held by a run from preflight to its end. The
writer's lock (a session-level advisory lock) is held by a module while it writes: the server drops it with the
connection, so a module that outlives its killed run still keeps the next run out.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg2.errors
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.lease import Lease, decide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.runbook.drivers.postgres import Session
    from ansible.module_utils.runbook.rules.lease import Decision

#: Advisory lock of whoever writes: the bytes of "runbook", read as a number.
WRITER_LOCK = int.from_bytes(b"runbook", "big")
LEASE_TTL_S = 900


def controller() -> str:
    """This process, as it is named in a lease where no run was announced."""
    return f"{socket.gethostname()}/{os.getpid()}"


def is_dead(holder: str) -> bool:
    """Whether ``<host>/<pid>`` is of this machine and gone; False where that cannot be known."""
    host, _, pid = holder.rpartition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def read(session: Session) -> Lease | None:
    """The lease as it stands; None where nobody holds one, or where the table is not there yet."""
    try:
        rows = session.query("SELECT run_id, controller, purpose, acquired_at, expires_at FROM runbook.lease")
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        return None
    return Lease(**rows[0]) if rows else None


def prepare(session: Session) -> None:
    """Make schema ``runbook`` and its table if they are missing.

    :raises RunbookError: they are missing, and this user may not make them
    """
    if session.query("SELECT to_regclass('runbook.lease') AS found")[0]["found"] is not None:
        return
    try:
        with session.transaction():
            session.execute("CREATE SCHEMA IF NOT EXISTS runbook")
            session.execute(
                "CREATE TABLE IF NOT EXISTS runbook.lease ("
                " one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row), run_id text NOT NULL,"
                " controller text NOT NULL, purpose text NOT NULL, acquired_at timestamptz NOT NULL,"
                " expires_at timestamptz NOT NULL)"
            )
    except psycopg2.errors.InsufficientPrivilege:
        raise RunbookError(
            f"{session.target}: user {session.target.user!r} may not create the schema runbook that holds the lease; "
            "run playbooks/db_roles.yml once as the database's owner."
        ) from None


def acquire(session: Session, *, run_id: str, holder: str, purpose: str, ttl_s: int = LEASE_TTL_S) -> Decision:
    """Take the lease, or renew it if this run holds it.

    :param ttl_s: seconds until it ends by itself
    :raises RunbookError: another run holds it, or a module of a killed run still writes
    """
    prepare(session)
    with session.transaction():
        session.execute("LOCK TABLE runbook.lease IN SHARE ROW EXCLUSIVE MODE")
        current = read(session)
        now = session.query("SELECT clock_timestamp() AS now")[0]["now"]
        decision = decide(
            current, run_id=run_id, now=now, holder_is_dead=current is not None and is_dead(current.controller)
        )
        if decision == "refuse":
            raise RunbookError(_held(session, current, f"{current.expires_at:%Y-%m-%d %H:%M:%S %Z}"))
        session.execute(
            "INSERT INTO runbook.lease AS held (run_id, controller, purpose, acquired_at, expires_at)"
            " VALUES (%(run)s, %(holder)s, %(purpose)s, %(now)s, %(now)s + make_interval(secs => %(ttl)s))"
            " ON CONFLICT (one_row) DO UPDATE SET run_id = excluded.run_id, controller = excluded.controller,"
            " purpose = excluded.purpose, expires_at = excluded.expires_at,"
            " acquired_at = CASE WHEN held.run_id = excluded.run_id THEN held.acquired_at ELSE excluded.acquired_at END",
            {"run": run_id, "holder": holder, "purpose": purpose, "now": now, "ttl": ttl_s},
        )
    return decision


def release(session: Session, *, run_id: str) -> bool:
    """Give the lease back; False where this run did not hold it (any more)."""
    if read(session) is None:
        return False
    return session.execute("DELETE FROM runbook.lease WHERE run_id = %s", (run_id,)) > 0


def _held(session: Session, current: Lease | None, until: str) -> str:
    holder = f"run {current.run_id} ({current.purpose}, {current.controller})" if current else "another run"
    return (
        f"{session.target}: {holder} holds the lease until {until}; wait for it, or, when that run is surely dead, "
        "release its lease with playbooks/lease.yml."
    )


class Guard:
    """Proof that this module alone writes; :meth:`renew` keeps the run's lease alive meanwhile."""

    def __init__(self, session: Session, run_id: str | None, ttl_s: int) -> None:
        self._session = session
        self._run_id = run_id
        self._ttl_s = ttl_s
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Renew the lease when a third of its time has gone; cheap to call after every batch.

        :raises RunbookError: the lease is no longer this run's
        """
        if self._run_id is None or time.monotonic() - self._renewed < self._ttl_s / 3:
            return
        renewed = self._session.execute(
            "UPDATE runbook.lease SET expires_at = clock_timestamp() + make_interval(secs => %s) WHERE run_id = %s",
            (self._ttl_s, self._run_id),
        )
        if not renewed:
            raise RunbookError(_held(self._session, read(self._session), "its own end") + " This run stops.")
        self._renewed = time.monotonic()


@contextmanager
def writing(session: Session, *, run_id: str | None, ttl_s: int = LEASE_TTL_S) -> Iterator[Guard]:
    """Hold the writer's lock on ``session`` for the block.

    ``session`` must stay open meanwhile and must not go through a transaction pooler. A run that holds the lease
    renews it through the guard; without a run (``run_id`` None: an ad-hoc call) only a foreign lease is looked for.

    :raises RunbookError: another run holds the lease, or another module holds the writer's lock
    """
    if not session.query("SELECT pg_try_advisory_lock(%s) AS locked", (WRITER_LOCK,))[0]["locked"]:
        raise RunbookError(_held(session, read(session), "its module ends"))
    try:
        current = read(session)
        now = session.query("SELECT clock_timestamp() AS now")[0]["now"]
        if current is not None and current.run_id != run_id and current.expires_at > now and not is_dead(current.controller):
            raise RunbookError(_held(session, current, f"{current.expires_at:%Y-%m-%d %H:%M:%S %Z}"))
        held = run_id if current is not None and current.run_id == run_id else None
        yield Guard(session, held, ttl_s)
    finally:
        if not session.connection.closed:
            session.query("SELECT pg_advisory_unlock(%s)", (WRITER_LOCK,))
