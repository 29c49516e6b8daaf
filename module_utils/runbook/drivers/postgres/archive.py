"""What pg_archive asks the server, and how it makes archives and hands over whole partitions.

What is decided, is decided in ``rules/postgres/archive_*.py``. No row ever comes to the client, only counts, and
timestamps as text, since the server's range of dates is wider than Python's.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres import archive_access as access
from ansible.module_utils.runbook.drivers.postgres.postgres import table as identifier
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.archive_plan import Count, Counted
from ansible.module_utils.runbook.rules.postgres.archive_tables import STAMP
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Column, Partition, Table
    from ansible.module_utils.runbook.rules.postgres.archive_words import Difference

Done = TypeVar("Done")

#: Constraint that proves to ATTACH PARTITION that it need not read the rows.
BOUNDS_CONSTRAINT = "runbook_bounds"
#: Longest time that one lock is tried for, in seconds; a deadline may end it sooner.
LOCK_PATIENCE_S = 60.0
#: Longest wait between two tries, in seconds.
LONGEST_PAUSE_S = 2.0


class LockedError(RunbookError):
    """Somebody else holds a lock for longer than this session waits."""

    def __init__(self) -> None:
        super().__init__("Somebody else holds a lock for longer than lock_timeout_ms; see pg_locks, and run again.")


class KeyTakenError(RunbookError):
    """The archive holds a row with the key of one that was to be moved."""

    def __init__(self, index: str | None) -> None:
        super().__init__(f"A row with the same key is there already ({index}).")
        self.index = index


class MismatchError(RunbookError):
    """The archive did not hold what was taken from the source, so the batch was rolled back."""

    def __init__(self, found: Difference) -> None:
        super().__init__("The archive did not hold what was taken from the source, so the batch was rolled back.")
        self.found = found


class TooSlowError(RunbookError):
    """A statement was cancelled, as a rule because of ``statement_timeout_ms``."""

    def __init__(self) -> None:
        super().__init__("A statement ran into statement_timeout_ms, or was cancelled; raise it, and run again.")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn psycopg2's errors into those that the module can act on, and all others into one clear sentence.

    The server's own message is not passed on where it could hold the content of a row.
    """
    try:
        yield
    except (
        psycopg2.errors.LockNotAvailable,
        psycopg2.errors.DeadlockDetected,
        psycopg2.errors.SerializationFailure,
    ) as error:
        raise LockedError from error
    except psycopg2.errors.QueryCanceled as error:
        raise TooSlowError from error
    except psycopg2.errors.UniqueViolation as error:
        raise KeyTakenError(ServerError.of(error).constraint) from error
    except psycopg2.errors.IntegrityError as error:
        raise RunbookError(_refused(error)) from None
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if error.pgcode is None or error.pgcode.startswith(("57P", "08")):
            raise RunbookError(
                "The connection to the server was lost. Each batch is one transaction, so no row is lost or doubled; "
                "run again, and the next run goes on."
            ) from None
        raise RunbookError(_unexpected(error)) from None
    except psycopg2.Error as error:
        raise RunbookError(_unexpected(error)) from None


def _refused(error: psycopg2.errors.IntegrityError) -> str:
    said = ServerError.of(error)
    if isinstance(error, psycopg2.errors.CheckViolation) and said.objects and not said.constraint:
        return (
            f"{said.objects[-1]} has no partition for some of the rows; create it, and run again. The batch was rolled "
            "back."
        )
    if not said.objects:
        return _unexpected(error)
    return (
        f"{' of '.join(said.objects)} forbids to move some of the rows ({said.condition}); the batch was rolled back. "
        "Correct the rows, or drop the constraint."
    )


def _unexpected(error: psycopg2.Error) -> str:
    return (
        f"The server refused a statement: {ServerError.of(error).reason}. What was under way was rolled back; see to "
        "that, and run again."
    )


def retry_on_lock(clock: Clock, act: Callable[[], Done], what: object) -> Done:
    """Do what needs a lock that others may hold; try again, with longer and longer pauses, within bounds.

    :param what: the table that may be locked
    :raises RunbookError: no lock was to be had, or a statement timed out
    """
    begun, pause_s = time.monotonic(), 0.05
    while True:
        try:
            return act()
        except LockedError:
            tried_s = time.monotonic() - begun
            if tried_s > LOCK_PATIENCE_S or clock.is_over():
                raise RunbookError(
                    f"{what} is locked by somebody else, and in {tried_s:.1f} s no lock was to be had; "
                    "end the holder, which pg_locks shows, and run again."
                ) from None
        except TooSlowError:
            raise RunbookError(
                f"statement_timeout_ms: a statement on {what} took longer, or was cancelled; raise it, run again."
            ) from None
        clock.sleep(random.uniform(0.5, 1.0) * pause_s)  # noqa: S311 - jitter, not a secret
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


def settle(session: Session, *, read_only: bool) -> None:
    """Set up the session: times in UTC, no surprises from defaults of the role or the database.

    :param read_only: the server itself then refuses every write; check mode asks for this
    """
    settings = {
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on" if read_only else "off",
        # A policy that hides rows raises an error instead.
        "row_security": "off",
        "jit": "off",
    }
    for name, value in settings.items():
        session.query("SELECT set_config(%s, %s, false)", (name, value))
    if session.query("SELECT current_setting('session_replication_role') AS role")[0]["role"] != "origin":
        # Foreign keys and triggers would sleep. Only some may set it, so it is not set where it is right.
        with translate_errors():
            session.query("SELECT set_config('session_replication_role', 'origin', false)")


def follow_policies(session: Session) -> None:
    """Let policies choose the rows, once it is known that they leave none out."""
    session.query("SELECT set_config('row_security', 'on', false)")


def server_now(session: Session) -> datetime:
    """The server's clock.

    :raises RunbookError: the server is a standby
    """
    session.require_primary()
    now: datetime = session.query("SELECT now() AS now")[0]["now"]
    return now


def require_deletable(session: Session, source: Table) -> None:
    """Ask the server whether it would delete rows of a table that is published. EXPLAIN looks, and deletes nothing.

    :raises RunbookError: a partition of it has no replica identity, or one that the publication's filter goes beyond
    """
    if not any(each.deletes for each in source.publications):
        return
    try:
        session.query(sql.SQL("EXPLAIN DELETE FROM {}").format(identifier(source.name)))
    except (psycopg2.errors.ObjectNotInPrerequisiteState, psycopg2.errors.InvalidColumnReference) as error:
        said = ServerError.of(error).reason
        published = ", ".join(each.name for each in source.publications if each.deletes)
        raise RunbookError(
            f"source: {source.name} is published by {published}, and the server refuses ({said}); give that table a "
            "primary key or ALTER TABLE … REPLICA IDENTITY …, or leave delete out of the publication's list publish."
        ) from None


def count(session: Session, source: Table, column: Column, cutoff: datetime) -> Counted:
    """Count the rows that are older than the cutoff, and those without a timestamp.

    :raises LockedError: somebody else holds the table
    :raises TooSlowError: counting took longer than the statement timeout
    """
    names = {
        "source": identifier(source.name),
        "column": sql.Identifier(column.name),
        "type": sql.SQL(column.base_type),
    }
    # Only a partitioned table has more than one tableoid. Each row is grouped once; the total is made of the groups.
    by_table = sql.SQL("tableoid" if source.partitioned_by else "NULL::oid")
    grouped = sql.SQL("GROUP BY s.tableoid" if source.partitioned_by else "")
    with translate_errors():
        rows = session.query(
            sql.SQL(
                "SELECT table_id, coalesce(sum(rows), 0)::bigint AS rows,"
                " min(oldest)::text AS oldest, max(newest)::text AS newest FROM ("
                "SELECT {by_table} AS table_id, count(*) AS rows, min(s.{column}) AS oldest, max(s.{column}) AS newest"
                " FROM {source} AS s WHERE s.{column} < {cutoff}::timestamptz::{type} {grouped}"
                ") AS found GROUP BY GROUPING SETS ((), (table_id))"
            ).format(
                **names,
                by_table=by_table,
                grouped=grouped,
                cutoff=sql.Literal(cutoff.isoformat()),
            )
        )
        null_rows = 0
        if not column.not_null:
            null_rows = session.query(
                sql.SQL("SELECT count(*) AS rows FROM {source} AS s WHERE s.{column} IS NULL").format(**names)
            )[0]["rows"]
        leaves = session.query(
            "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = ANY(%s::oid[])",
            ([row["table_id"] for row in rows if row["table_id"]],),
        )
    named = {leaf["oid"]: QualifiedName(leaf["nspname"], leaf["relname"]) for leaf in leaves}
    counts = {row["table_id"]: Count(row["rows"], row["oldest"], row["newest"]) for row in rows}
    return Counted(
        total=counts.pop(None),
        null_rows=null_rows,
        by_partition={named[table_id]: found for table_id, found in counts.items()},
    )


# Making the archive, and moving whole partitions


def key_creation(source: Table, archive: QualifiedName) -> sql.Composable:
    """Statement that gives an archive without a key the source's. Readers of the archive are not held up by it."""
    return sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(
        identifier(archive), sql.SQL(", ").join(map(sql.Identifier, source.key))
    )


def make(
    session: Session, statements: Sequence[sql.Composable], *, require: Callable[[], object] | None = None
) -> None:
    """Run statements in one transaction.

    :param require: looks at what was made, and raises to undo it
    :raises LockedError: a lock was not to be had
    :raises KeyTakenError: rows stand in the way of a unique index
    """
    with translate_errors(), session.transaction():
        for statement in statements:
            session.query(statement)
        if require:
            require()


def proof(partition: Partition) -> list[sql.Composable]:
    """Statements that let a partition be attached elsewhere without being read under a lock.

    The constraint repeats the partition's own limits in the server's own words. It is checked by reading the
    partition once, while everybody goes on reading and writing.
    """
    name, constraint = identifier(partition.name), sql.Identifier(BOUNDS_CONSTRAINT)
    return [
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}, ADD CONSTRAINT {} CHECK ({}) NOT VALID").format(
            name, constraint, constraint, sql.SQL(partition.constraint)
        ),
        sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(name, constraint),
    ]


def move_partition(source: Table, archive: Table, partition: Partition) -> list[sql.Composable]:
    """Statements that take a partition off the source and hang it into the archive; to be run in one transaction."""
    name = identifier(partition.name)
    detach = sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(identifier(source.name), name)
    statements: list[sql.Composable] = [detach]
    stamp = None if source.stamped else archive.column(STAMP)
    if stamp is not None:
        # A default that is the same for all rows is kept in the catalog; no row is rewritten.
        statements.append(
            sql.SQL("ALTER TABLE {} ADD COLUMN {} {} {}DEFAULT now()").format(
                name,
                sql.Identifier(STAMP),
                sql.SQL(stamp.type),
                sql.SQL("NOT NULL " if stamp.not_null else ""),
            )
        )
    if partition.local_objects is not None:
        statements += access.left_behind(partition.name, partition.local_objects, archive.owner)
    return [
        *statements,
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(
            identifier(archive.name), name, sql.SQL(partition.bounds)
        ),
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, sql.Identifier(BOUNDS_CONSTRAINT)),
    ]


def wal_position(session: Session) -> str:
    """Where the server's WAL stands."""
    return str(session.query("SELECT pg_current_wal_insert_lsn()::text AS lsn")[0]["lsn"])


def wal_bytes_since(session: Session, position: str) -> int:
    """WAL that the whole server wrote since it stood at ``position``."""
    with translate_errors():
        row = session.query("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::bigint AS bytes", (position,))
    return int(row[0]["bytes"])


def replication_lag_bytes(session: Session) -> int:
    """How far the slowest connected standby is behind in replaying; 0 where there is none.

    :raises RunbookError: this role may not see it
    """
    row = session.query(
        "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint AS lag,"
        " coalesce(bool_or(state IS NULL), false) AS hidden FROM pg_stat_replication"
    )[0]
    if row["hidden"]:
        raise RunbookError(
            f"max_replication_lag_bytes: {session.target.user!r} may not see how far the standbys are; "
            "grant it the role pg_monitor, or set no limit."
        )
    return int(row["lag"])
