"""The table ``runbook.heartbeat``: rows that say when they were written, by the clock of this machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import psycopg2.errors

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

TABLE = (
    "CREATE SCHEMA IF NOT EXISTS runbook",
    "CREATE TABLE IF NOT EXISTS runbook.heartbeat (id bigint PRIMARY KEY, beat_at timestamptz NOT NULL)",
)
BEAT = "INSERT INTO runbook.heartbeat (id, beat_at) VALUES (%s, %s)"
REMOVE = "DELETE FROM runbook.heartbeat WHERE beat_at < %s"
STATEMENTS = (REMOVE, BEAT)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ensure(session: Session) -> Literal["missing", "closed"] | None:
    """See that this user may write to the table, and make it if it is missing; None, or what stands in the way."""
    found = session.query(
        "SELECT has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'SELECT')"
        " AND has_table_privilege(c.oid, 'DELETE') AND has_schema_privilege(n.oid, 'USAGE') AS open"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'runbook' AND c.relname = 'heartbeat'"
    )
    if found:
        return None if found[0]["open"] else "closed"
    there = session.query("SELECT 1 FROM pg_namespace WHERE nspname = 'runbook'")
    try:
        with session.transaction():
            for statement in TABLE[1:] if there else TABLE:
                session.execute(statement)
    except psycopg2.errors.InsufficientPrivilege:
        return "missing"
    return None


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a time, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def beat(session: Session) -> datetime:
    """Write one row, in microseconds since 1970; its time."""
    us = time.time_ns() // 1000
    at = moment(us)
    session.execute(BEAT, (us, at))
    return at


def remove_before(session: Session, at: datetime) -> int:
    """Remove older rows; how many."""
    return session.execute(REMOVE, (at,))
