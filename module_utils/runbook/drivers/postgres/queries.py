"""Reads pg_stat_statements, and finds in a result what an earlier run has read of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.rules.postgres.queries import Counters, Look
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: Version of the extension, not of the server, that first has what is read here: PostgreSQL 13's.
OLDEST = (1, 8)
#: First version that tells when it was reset, and what it threw out.
WITH_INFO = (1, 9)

_COUNTERS = """
SELECT queryid::text AS query_id, sum(calls)::bigint AS calls, sum(total_exec_time)::float AS total_ms,
  sum(rows)::bigint AS rows, sum(shared_blks_hit)::bigint AS hit_pages, sum(shared_blks_read)::bigint AS read_pages,
  sum(temp_blks_written)::bigint AS temp_pages, sum(wal_bytes)::bigint AS wal_bytes
FROM {statements}(false)
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY queryid
"""
_TEXTS = """
SELECT queryid::text AS query_id, min(query) AS query FROM {statements}(true)
WHERE queryid = ANY (%(ids)s::bigint[]) AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY queryid
"""
_CALLS_OF = """
SELECT coalesce(sum(calls), 0)::bigint AS calls FROM {statements}(false)
WHERE userid = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""
#: Whether the server counts no statements, at all or of a role.
_UNCOUNTED = """
SELECT current_setting('pg_stat_statements.track', true) = 'none' OR current_setting('compute_query_id', true) = 'off'
  OR EXISTS (
    SELECT FROM pg_db_role_setting AS s, unnest(s.setconfig) AS one
    WHERE s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = %s))
      AND lower(one) IN ('pg_stat_statements.track=none', 'compute_query_id=off')
  ) AS uncounted
"""
_FOUND = """
SELECT n.nspname, e.extversion, pg_has_role('pg_read_all_stats', 'USAGE') AS may_read,
  has_schema_privilege(n.oid, 'USAGE') AS may_use
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'
"""


@dataclass(frozen=True)
class Reading:
    """One look, and what it could not see."""

    look: Look | None
    #: Why there is none, in one sentence with the fix.
    reason: str | None
    schema: str = ""
    #: Statements of others that this user may not see.
    hidden: int = 0
    #: How often statements were thrown out because there was no room; None: nobody knows.
    evicted: int | None = None


def read(session: Session) -> Reading:
    """Counters of this database; or why there are none."""
    rows = session.query(_FOUND)
    if not rows:
        return Reading(None, "The extension is missing: CREATE EXTENSION pg_stat_statements in this database.")
    schema, version = rows[0]["nspname"], tuple(int(part) for part in rows[0]["extversion"].split("."))
    if version < OLDEST:
        return Reading(
            None,
            f"The extension's version {rows[0]['extversion']} is too old: ALTER EXTENSION pg_stat_statements UPDATE.",
        )
    if not rows[0]["may_use"]:
        return Reading(None, f"This user may not use the schema of pg_stat_statements: GRANT USAGE ON SCHEMA {schema}.")
    info: dict[str, Any] = {"dealloc": None, "stats_reset": None}
    try:
        found = session.query(_named(schema, _COUNTERS))
        if version >= WITH_INFO:
            view = sql.SQL("SELECT dealloc, stats_reset FROM {}").format(
                sql.Identifier(schema, "pg_stat_statements_info")
            )
            info = session.query(view)[0]
    except psycopg2.errors.ObjectNotInPrerequisiteState:
        return Reading(
            None,
            "The library is not loaded: add pg_stat_statements to shared_preload_libraries, and restart the server.",
        )
    except psycopg2.errors.InsufficientPrivilege:
        return Reading(None, "This user may not execute pg_stat_statements: GRANT pg_read_all_stats to it.")
    identity = session.query(
        "SELECT now() AS now, current_database() AS name, (SELECT system_identifier FROM pg_control_system())::text"
        " || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) AS identity"
    )[0]
    statements = {
        row["query_id"]: Counters(**{key: value for key, value in row.items() if key != "query_id"})
        for row in found
        if row["query_id"] is not None
    }
    hidden = 0 if rows[0]["may_read"] else sum(row["calls"] for row in found if row["query_id"] is None)
    look = Look(identity["identity"], identity["now"], info["stats_reset"], statements)
    return Reading(look, None, schema, hidden, info["dealloc"])


def calls_of(session: Session, role: str) -> tuple[dict[str, Any] | None, str]:
    """How many statements a role has run in all databases since the counters began; or None, and why.

    Of somebody else's statements each user may see that they ran, and how often. Two counts say that it ran none in
    between only if they are the same in each figure: what is thrown out for lack of room (``evicted``) or reset is
    counted from the beginning, and may come to the same ``calls``.
    """
    reading = read(session)
    if reading.look is None:
        return None, reading.reason or ""
    if session.query(_UNCOUNTED, (role,))[0]["uncounted"]:
        return None, (
            "The server does not count its statements: let no pg_stat_statements.track be none, and no "
            "compute_query_id be off."
        )
    calls = int(session.query(_named(reading.schema, _CALLS_OF), (role,))[0]["calls"])
    reset_at = reading.look.reset_at
    return {"calls": calls, "evicted": reading.evicted, "reset_at": reset_at.isoformat() if reset_at else None}, ""


def _named(schema: str, statement: str) -> sql.Composed:
    return sql.SQL(statement).format(statements=sql.Identifier(schema, "pg_stat_statements"))


def texts(session: Session, schema: str, query_ids: Sequence[str]) -> dict[str, str]:
    """What the statements say, as the server keeps it: not fit to be shown."""
    rows = session.query(_named(schema, _TEXTS), {"ids": [int(one) for one in query_ids]})
    return {row["query_id"]: row["query"] or "" for row in rows}


def look_of(figures: dict[str, Any]) -> Look | None:
    """The look that a result was made from; None where it holds none."""
    try:
        reset_at = figures["reset_at"]
        statements = {key: Counters.unpacked(value) for key, value in figures["counters"].items()}
        return Look(
            figures["identity"],
            datetime.fromisoformat(figures["at"]),
            None if reset_at is None else datetime.fromisoformat(reset_at),
            {key: value for key, value in statements.items() if value is not None},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
