"""The lease in the database, and the lock that fences it.

Two things keep runs apart. The lease (a row in ``runbook.lease``) is held by a run from preflight to its end. The
writer's lock (a session-level advisory lock) is held by a module while it writes: the server drops it with the
connection, so a module that outlives its killed run still keeps the next run out.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers import permits, process, stopping
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.lease import HELD, Lease, decide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.lease import Decision, Life
    from ansible.module_utils.runbook.rules.run import Run

#: Advisory lock of whoever writes: the bytes of "runbook", read as a number.
WRITER_LOCK = int.from_bytes(b"runbook", "big")
#: Advisory lock of whoever makes the table, because CREATE … IF NOT EXISTS fails when two do it at once.
_MAKER_LOCK = WRITER_LOCK + 1
#: Seconds until a lease ends by itself. Modules renew it while they work; between two modules pass seconds.
LEASE_TTL_S = 900

#: What makes the lease's table; ``playbooks/db_roles.yml`` gives runbook_maintain its rights on it. Unlogged, because a
#: publication FOR ALL TABLES would tell subscribers of its rows, and one that lacks the table stops. What a crash
#: empties was the lease of modules whose sessions it ended.
DDL = (
    "CREATE SCHEMA IF NOT EXISTS runbook",
    (
        "CREATE UNLOGGED TABLE IF NOT EXISTS runbook.lease ("
        "one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row), run_id text NOT NULL, controller text NOT NULL,"
        " machine text NOT NULL, purpose text NOT NULL, acquired_at timestamptz NOT NULL,"
        " expires_at timestamptz NOT NULL)"
    ),
)
RELEASE = "DELETE FROM runbook.lease WHERE run_id = %s"


def life(lease: Lease) -> Life:
    """What is known of the process that holds ``lease``."""
    holder = process.parse(lease.machine)
    return holder.life() if holder else "unknown"


def read(session: Session) -> Lease | None:
    """The lease as it stands; None where nobody holds one, or where the table is not there yet.

    :raises RunbookError: this user may not read it, or somebody keeps it locked
    """
    try:
        with _bounded(session):
            rows = session.query(
                "SELECT run_id, controller, machine, purpose, acquired_at, expires_at FROM runbook.lease"
            )
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        return None
    except psycopg2.errors.InsufficientPrivilege:
        raise _no_rights(session, "read") from None
    return Lease(**rows[0]) if rows else None


def writer(session: Session) -> int | None:
    """Process number on the server of the connection that holds the writer's lock; None if nobody does."""
    rows = session.query(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32) | objid::bigint = %s",
        (WRITER_LOCK,),
    )
    return int(rows[0]["pid"]) if rows else None


def prepare(session: Session, *, check_mode: bool = False) -> list[str]:
    """Make schema ``runbook`` and its table if they are missing, and see that this user may hold a lease.

    :param check_mode: make nothing
    :returns: the statements that made, or would make, them; empty if all is there
    :raises RunbookError: this user may not make them, or may not write to what is there
    """
    # In the catalogue, because to_regclass() fails where this user may not look into the schema.
    found = session.query(
        "SELECT has_database_privilege(current_database(), 'CREATE') AS may_make_schema, n.oid AS schema,"
        " has_schema_privilege(n.oid, 'USAGE') AS may_use, has_schema_privilege(n.oid, 'CREATE') AS may_make_table,"
        ' c.oid AS "table", (SELECT bool_and(has_table_privilege(c.oid, p))'
        " FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p) AS may_write"
        " FROM (SELECT 1) AS always LEFT JOIN pg_namespace n ON n.nspname = 'runbook'"
        " LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'lease'"
    )[0]
    if found["schema"] is not None and not found["may_use"]:
        raise _no_rights(session, "use")
    if found["table"] is not None:
        if not found["may_write"]:
            raise _no_rights(session, "write to")
        return []
    if not (found["may_make_schema"] if found["schema"] is None else found["may_make_table"]):
        raise _no_rights(session, "create")
    statements = list(DDL if found["schema"] is None else DDL[1:])
    if not check_mode:
        with _bounded(session), session.transaction():
            session.query("SELECT pg_advisory_xact_lock(%s)", (_MAKER_LOCK,))
            for statement in statements:
                session.execute(statement)
    return statements


@dataclass(frozen=True)
class Standing:
    """What a run that wants the lease meets."""

    decision: Decision
    current: Lease | None
    now: datetime


def stand(session: Session, *, run_id: str) -> Standing:
    """Judge the lease as it stands, without touching it.

    :raises RunbookError: another run holds it, or a module of another run still writes
    """
    current = read(session)
    now = session.query("SELECT clock_timestamp() AS now")[0]["now"]
    writer_pid = writer(session)
    decision = decide(
        current,
        run_id=run_id,
        now=now,
        holder="unknown" if current is None else life(current),
        is_written_to=writer_pid is not None,
    )
    if decision == "refuse":
        raise _refusal(session, current, now, writer_pid)
    return Standing(decision, current, now)


def acquire(session: Session, run: Run, *, purpose: str) -> Decision:
    """Take the lease for :data:`LEASE_TTL_S` seconds, or renew it if this run holds it.

    :param run: whose ``ansible-playbook`` is the holder: a module's own process is gone in a moment
    :raises RunbookError: another run holds it, or a module of a killed run still writes
    """
    if run.id is None:
        raise RunbookError("RUNBOOK_RUN_ID is not set, so no run could hold the lease; start ansible-playbook.")
    prepare(session)
    with _bounded(session), session.transaction():
        session.execute("LOCK TABLE runbook.lease IN SHARE ROW EXCLUSIVE MODE")
        standing = stand(session, run_id=run.id)
        session.execute(
            "INSERT INTO runbook.lease AS held (run_id, controller, machine, purpose, acquired_at, expires_at)"
            " VALUES (%(run)s, %(holder)s, %(machine)s, %(purpose)s, %(now)s, %(now)s + make_interval(secs => %(ttl)s))"
            " ON CONFLICT (one_row) DO UPDATE SET run_id = excluded.run_id, controller = excluded.controller,"
            " machine = excluded.machine, purpose = excluded.purpose, expires_at = excluded.expires_at,"
            " acquired_at = CASE held.run_id WHEN excluded.run_id THEN held.acquired_at ELSE excluded.acquired_at END",
            {
                "run": run.id,
                "holder": run.controller or "unknown",
                "machine": run.process or "",
                "purpose": purpose,
                "now": standing.now,
                "ttl": LEASE_TTL_S,
            },
        )
    return standing.decision


def release(session: Session, *, run_id: str) -> bool:
    """Give the lease back; False where this run did not hold it (any more)."""
    if read(session) is None:
        return False
    try:
        with _bounded(session):
            return session.execute(RELEASE, (run_id,)) > 0
    except psycopg2.errors.InsufficientPrivilege:
        raise _no_rights(session, "write to") from None


def describe(lease: Lease) -> str:
    """Who holds a lease, in words."""
    return f"run {lease.run_id} ({lease.purpose}, {lease.controller})"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _no_rights(session: Session, verb: str) -> RunbookError:
    """What helps where a right is missing: the database's owner gives none on what somebody else made."""
    others: list[dict[str, Any]] = []
    # A transaction that failed answers nothing more.
    with suppress(psycopg2.errors.InFailedSqlTransaction):
        others = session.query(
            "SELECT 1 FROM pg_database d, pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid"
            " AND c.relname = 'lease' WHERE d.datname = current_database() AND n.nspname = 'runbook'"
            " AND EXISTS (SELECT 1 FROM pg_roles r WHERE r.oid IN (n.nspowner, c.relowner) AND r.oid <> d.datdba"
            " AND (r.rolsuper OR pg_has_role(d.datdba, 'USAGE')))"
        )
    told = " and which the database's owner did not make" if others else ""
    who = " (db_roles_admin_user)" if others else ", or as the database's owner with CREATEROLE"
    return RunbookError(
        f"{session.target}: user {session.target.user!r} may not {verb} the schema runbook, which holds the lease"
        f"{told}; run playbooks/db_roles.yml once as a superuser{who}."
    )


def _refusal(session: Session, current: Lease | None, now: datetime, writer_pid: int | None) -> RunbookError:
    """Why this run may not have the lease, and what to do about it."""
    if current is not None and current.expires_at > now and life(current) != "dead":
        return RunbookError(
            f"{session.target}: {describe(current)} holds the lease until {_utc(current.expires_at)}; wait for it, or, "
            "when that run is surely dead, release its lease with playbooks/lease.yml.",
            code=HELD,
            lease_holder=current.run_id,
        )
    whose = f"a module of {describe(current)}, which has ended," if current else "another module"
    if writer_pid is None:
        return RunbookError(
            f"{session.target}: {whose} wrote until this moment; start again.", code=HELD, lease_holder=None
        )
    return RunbookError(
        f"{session.target}: {whose} still writes (server process {writer_pid}); wait until it is done, or end it with "
        f"SELECT pg_terminate_backend({writer_pid}).",
        code=HELD,
        lease_holder=current.run_id if current else None,
    )


@contextmanager
def _bounded(session: Session) -> Iterator[None]:
    """Turn a wait that reached its bound into a sentence."""
    try:
        yield
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled):
        raise RunbookError(
            f"{session.target}: another session keeps runbook.lease locked; look for it in pg_stat_activity, "
            "and start again."
        ) from None
    except psycopg2.OperationalError:
        if not session.connection.closed:
            raise
        raise RunbookError(
            f"{session.target}: the connection was lost while the lease was taken or given back; the lease ends by "
            "itself, start again when the server answers."
        ) from None


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
        with _bounded(self._session):
            renewed = self._session.execute(
                "UPDATE runbook.lease SET expires_at = clock_timestamp() + make_interval(secs => %s) WHERE run_id = %s",
                (self._ttl_s, self._run_id),
            )
        if not renewed:
            current = read(self._session)
            whose = f"{describe(current)} holds it now" if current else "nobody holds it now"
            raise RunbookError(
                f"{self._session.target}: this run lost its lease, {whose}; this run stops, start it again."
            )
        self._renewed = time.monotonic()


@contextmanager
def writing(session: Session, run: Run, *, ttl_s: int = LEASE_TTL_S) -> Iterator[Guard]:
    """Hold the writer's lock on ``session`` for the block: the guard of every module that writes under the lease.

    ``session`` must stay open meanwhile and must not go through a transaction pooler. The lease is renewed through the
    guard. A module that was told to stop gives the lease back as well: nothing of its run comes after it.

    :raises RunbookError: this run has not passed preflight here or holds no lease, or another module holds the
        writer's lock
    """
    locked = session.query("SELECT pg_try_advisory_lock(%s) AS locked", (WRITER_LOCK,))[0]["locked"]
    try:
        current = read(session)
        own = current is not None and current.run_id == run.id and bool(permits.of(run))
        if not locked:
            now = session.query("SELECT clock_timestamp() AS now")[0]["now"]
            raise _refusal(session, None if own else current, now, writer(session))
        if not own:
            raise _without_lease(session, current)
        yield Guard(session, run.id, ttl_s)
    finally:
        if stopping.told.is_set():
            with suppress(psycopg2.Error, RunbookError):
                release(session, run_id=str(run.id))
        if locked:
            # Of a connection that was lost the server has freed the lock, and the reason is on its way already.
            with suppress(psycopg2.Error):
                session.query("SELECT pg_advisory_unlock(%s)", (WRITER_LOCK,))


def _without_lease(session: Session, current: Lease | None) -> RunbookError:
    """Why a module may not write though no other one does."""
    now = session.query("SELECT clock_timestamp() AS now")[0]["now"]
    if current is not None and current.expires_at > now and life(current) != "dead":
        return _refusal(session, current, now, None)
    return RunbookError(f"{session.target}: this run has not passed preflight and holds no lease; {permits.AGAIN}.")
