"""Ask a live database what it would lose, and how much room there is for a copy of it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres.postgres import Session
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.rollback import Counted, Restored, Room
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres.postgres import Target
    from ansible.module_utils.runbook.rules.postgres.content_hash import Column, Table


LOCK_TIMEOUT_MS = 5_000
STATEMENT_TIMEOUT_MS = 60_000


def connect(target: Target, purpose: str, *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> Session:
    """A session with bounds, named for the module that opens it."""
    return Session(target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=statement_timeout_ms, purpose=purpose)


@dataclass(frozen=True)
class Facts:
    """The server and the live database."""

    now: datetime
    system_identifier: str
    database_bytes: int
    cluster_bytes: int
    #: Whether rows bear the time of their commit.
    has_commit_timestamps: bool
    #: Whether WAL is archived, and this user may end a segment.
    archives: bool
    may_switch_wal: bool
    #: When the newest segment was archived; None where none was.
    last_archived_at: datetime | None


def read_facts(session: Session) -> Facts:
    """What the server says about itself; the size of databases that this user may not connect to is left out."""
    return Facts(
        **session.query(
            "SELECT clock_timestamp() AS now, (SELECT system_identifier::text FROM pg_control_system()),"
            " pg_database_size(current_database()) AS database_bytes,"
            " (SELECT sum(pg_database_size(oid))::bigint FROM pg_database"
            "  WHERE has_database_privilege(oid, 'CONNECT')) AS cluster_bytes,"
            " current_setting('track_commit_timestamp')::bool AS has_commit_timestamps,"
            " current_setting('archive_mode') <> 'off' AND"
            " (current_setting('archive_command') NOT IN ('', '(disabled)')"
            " OR coalesce(current_setting('archive_library', true), '') <> '') AS archives,"
            " has_function_privilege('pg_switch_wal()', 'EXECUTE') AS may_switch_wal,"
            " (SELECT last_archived_time FROM pg_stat_archiver) AS last_archived_at"
        )[0]
    )


def read_room(session: Session, *, data_free_bytes: int | None, path: str) -> Room:
    """Free bytes for the copy and for the restored server.

    :param data_free_bytes: as the restore's driver found it; None where the server is another machine
    :param path: folder of the restored server; it need not exist yet. Empty where it lies on another machine
    """
    if not path:
        return Room(data_free_bytes, None)
    there = Path(path)
    try:
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        is_shared = False
        if data_free_bytes is not None:
            data = session.query("SELECT current_setting('data_directory') AS path")[0]["path"]
            is_shared = Path(data).stat().st_dev == there.stat().st_dev
    except OSError:
        # The folders belong to another user, who may look.
        return Room(data_free_bytes, None)
    return Room(data_free_bytes, free, is_shared)


def read_restored(session: Session) -> Restored:
    """What a server says of its data folder, and of the time that it was restored to."""
    row = session.query(
        "SELECT current_setting('data_directory') AS data_dir, current_setting('recovery_target_time') AS target_time"
    )[0]
    return Restored(**row)


@contextmanager
def unlocked(session: Session) -> Iterator[None]:
    """Turn a wait for a table's lock that reached its bound into a sentence that names who holds it.

    :raises RunbookError: a table is locked against reading
    """
    try:
        yield
    except psycopg2.errors.LockNotAvailable:
        held = session.query(
            "SELECT n.nspname AS schema, c.relname AS name, l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.granted AND l.mode = 'AccessExclusiveLock'"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " ORDER BY c.relkind = 'r' DESC, l.pid LIMIT 1"
        )
        what = f"{held[0]['schema']}.{held[0]['name']}" if held else "a table"
        pid = held[0]["pid"] if held else "<pid>"
        raise RunbookError(
            f"{session.target.database}: {what} is locked against reading (server process {pid}), "
            f"so it can be neither backed up nor compared; wait, or end it with SELECT pg_terminate_backend({pid})."
        ) from None


# What is lost ---------------------------------------------------------------------------------------------------------


def _dated(column: Column) -> sql.Composed:
    """A column's value with its time zone; a time without one is taken for UTC."""
    zone = " AT TIME ZONE 'UTC'" if column.type_name == "timestamp" else ""
    return sql.SQL("(t.{}{})").format(sql.Identifier(column.name), sql.SQL(zone))


def statement(table: Table, columns: Sequence[Column], *, has_commit_timestamps: bool) -> sql.Composed:
    """One pass over a table: its rows, and how many are newer than the bound time."""
    by_column: sql.Composable = sql.SQL("NULL::bigint")
    if columns:
        newest = sql.SQL("greatest({})").format(sql.SQL(", ").join(map(_dated, columns)))
        by_column = sql.SQL("count(*) FILTER (WHERE {} > %(point)s)").format(newest)
    commits = sql.SQL("NULL::bigint AS by_commit, NULL::timestamptz AS oldest_commit")
    if has_commit_timestamps:
        commits = sql.SQL(
            "count(*) FILTER (WHERE pg_xact_commit_timestamp(t.xmin) > %(point)s) AS by_commit,"
            " min(pg_xact_commit_timestamp(t.xmin)) AS oldest_commit"
        )
    return sql.SQL("SELECT count(*) AS rows, {} AS by_column, {} FROM ONLY {} AS t").format(
        by_column, commits, sql.Identifier(table.name.schema, table.name.name)
    )


def count(
    session: Session, table: Table, columns: Sequence[Column], *, point: datetime, has_commit_timestamps: bool,
    left_s: float,
) -> Counted:  # fmt: skip
    """Count a table's rows and those that are newer than ``point``; what keeps it from being counted is a sentence."""
    names = tuple(column.name for column in columns)
    if left_s <= 0:
        return Counted(str(table.name), None, names, error="there was no time left to count it (deadline_s)")
    try:
        session.query("SELECT set_config('statement_timeout', %s, false)", (str(max(1, int(left_s * 1000))),))
        query = statement(table, columns, has_commit_timestamps=has_commit_timestamps)
        found: dict[str, Any] = session.query(query, {"point": point})[0]
    except psycopg2.errors.QueryCanceled:
        return Counted(str(table.name), None, names, error="counting it took longer than deadline_s leaves")
    except psycopg2.errors.LockNotAvailable:
        return Counted(str(table.name), None, names, error="another session keeps it locked")
    except psycopg2.errors.InsufficientPrivilege as error:
        hidden = "row-level security" in str(error)
        why = "row-level security hides rows of it from this user" if hidden else "this user may not read it"
        return Counted(str(table.name), None, names, error=why)
    except psycopg2.OperationalError:
        # The connection is gone; what comes next would fail too.
        raise
    except psycopg2.Error as error:
        why = ServerError.of(error).reason
        return Counted(str(table.name), None, names, error=f"it could not be counted ({why})")
    return Counted(
        str(table.name), int(found["rows"]), names, found["by_column"], found["by_commit"], found["oldest_commit"]
    )
