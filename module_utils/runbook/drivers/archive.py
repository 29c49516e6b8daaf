"""What pg_archive asks the server, and how it makes archives and hands over whole partitions.

What is decided, is decided in ``rules/archive.py``. No row ever comes to the client, only counts, and timestamps as
text, since the server's range of dates is wider than Python's.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres import table as identifier
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.archive import (
    STAMP,
    Column,
    Count,
    Counted,
    ForeignKey,
    Index,
    Partition,
    Schema,
    Table,
)
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres import Session

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


class TooSlowError(RunbookError):
    """A statement was cancelled, as a rule because of ``statement_timeout_ms``."""

    def __init__(self) -> None:
        super().__init__("A statement ran into statement_timeout_ms, or was cancelled; raise it, and run again.")


@contextmanager
def told_apart() -> Iterator[None]:
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


class Clock:
    """The run's time: what has passed, what is left."""

    def __init__(self, deadline_s: int) -> None:
        self.deadline_s = deadline_s
        self._started = time.monotonic()

    def passed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline_s - self.passed_s()

    def check(self) -> None:
        """Stop where the deadline has passed.

        :raises RunbookError: it has
        """
        if self.left_s() <= 0:
            raise RunbookError(
                f"deadline_s: the {self.deadline_s} s have passed; run again to go on, or give it more time."
            )

    def sleep(self, seconds: float) -> float:
        """Sleep, but not beyond the deadline; the seconds slept."""
        span = max(0.0, min(seconds, self.left_s()))
        time.sleep(span)
        return span

    def patiently(self, act: Callable[[], Done], what: object) -> Done:
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
                if tried_s > LOCK_PATIENCE_S or self.left_s() <= 0:
                    raise RunbookError(
                        f"{what} is locked by somebody else, and in {tried_s:.1f} s no lock was to be had; "
                        "end the holder, which pg_locks shows, and run again."
                    ) from None
            except TooSlowError:
                raise RunbookError(
                    f"statement_timeout_ms: a statement on {what} took longer, or was cancelled; raise it, run again."
                ) from None
            self.sleep(random.uniform(0.5, 1.0) * pause_s)  # noqa: S311 - jitter, not a secret
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


def server_now(session: Session) -> datetime:
    """The server's clock.

    :raises RunbookError: the server is a standby
    """
    row = session.query("SELECT now() AS now, pg_is_in_recovery() AS standby")[0]
    if row["standby"]:
        raise RunbookError(f"{session.target} is a standby that only reads; connect to the primary.")
    now: datetime = row["now"]
    return now


def read_table(session: Session, name: QualifiedName, *, event: Literal["INSERT", "DELETE"]) -> Table | None:
    """What the catalog says about a table; None where there is none of that name. Partitions are read apart.

    :param event: what will be done to its rows; triggers of other events do not matter
    """
    found = session.query(
        """
        SELECT c.oid, c.relkind, c.relpersistence, pg_get_userbyid(c.relowner) AS owner,
               pg_has_role(c.relowner, 'USAGE') AS owned, row_security_active(c.oid) AS row_security,
               coalesce(p.partstrat, '') AS strategy, coalesce(p.partdefid, 0) <> 0 AS has_default,
               (SELECT array_agg(coalesce(a.attname::text, '') ORDER BY k.place)
                  FROM unnest(p.partattrs::int2[]) WITH ORDINALITY AS k (number, place)
                  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number) AS partition_columns,
               rn.nspname AS root_schema, r.relname AS root_name,
               has_schema_privilege(c.relnamespace, 'USAGE') AS usage,
               (SELECT array_agg(right_name) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS right_name
                 WHERE has_table_privilege(c.oid, right_name)) AS rights
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
          LEFT JOIN pg_class r ON r.oid = pg_partition_root(c.oid)
          LEFT JOIN pg_namespace rn ON rn.oid = r.relnamespace
         WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        """,
        tuple(name),
    )
    if not found:
        return None
    row = found[0]
    oid = row["oid"]
    children = session.query(
        "SELECT inhrelid::regclass::text AS name, relkind, relispartition FROM pg_inherits"
        " JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = %s ORDER BY 1",
        (oid,),
    )
    foreign = session.query(
        "SELECT relid::regclass::text AS name FROM pg_partition_tree(%s) JOIN pg_class ON oid = relid"
        " WHERE relkind = 'f' ORDER BY 1",
        (oid,),
    )
    named = session.query(
        """
        SELECT 'trigger' AS what, tgname AS name FROM pg_trigger
         WHERE tgrelid = %(oid)s AND NOT tgisinternal AND tgenabled IN ('O', 'A')
           AND tgtype & %(event)s <> 0
        UNION ALL SELECT 'rule', rulename FROM pg_rewrite WHERE ev_class = %(oid)s AND rulename <> '_RETURN'
         ORDER BY 1, 2
        """,
        {"oid": oid, "event": {"INSERT": 4, "DELETE": 8}[event]},
    )
    keys = session.query(
        """
        SELECT conname, conrelid::regclass::text AS referrer,
               CASE confdeltype WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE'
                    WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END AS on_delete
          FROM pg_constraint WHERE contype = 'f' AND confrelid = %s AND conparentid = 0 ORDER BY 2, 1
        """,
        (oid,),
    )
    rights = set(row["rights"] or ()) | ({"USAGE"} if row["usage"] else set())
    root = QualifiedName(row["root_schema"], row["root_name"]) if row["root_name"] is not None else None
    return Table(
        name=name,
        kind=row["relkind"],
        persistence=row["relpersistence"],
        owner=row["owner"],
        owned=row["owned"],
        columns=_columns(session, oid),
        indexes=_indexes(session, oid),
        rights=frozenset(rights),
        row_security=row["row_security"],
        triggers=tuple(each["name"] for each in named if each["what"] == "trigger"),
        rules=tuple(each["name"] for each in named if each["what"] == "rule"),
        foreign_keys=tuple(ForeignKey(each["conname"], each["referrer"], each["on_delete"]) for each in keys),
        children=tuple(each["name"] for each in children if not each["relispartition"]),
        root=root,
        partitioned_by=row["strategy"],
        partition_columns=tuple(row["partition_columns"] or ()),
        has_default_partition=row["has_default"],
        foreign_partitions=tuple(each["name"] for each in foreign),
    )


def _columns(session: Session, oid: int) -> tuple[Column, ...]:
    rows = session.query(
        """
        WITH RECURSIVE base (type, bottom) AS (
            SELECT t.oid, t.oid FROM pg_type t
             WHERE t.oid IN (SELECT atttypid FROM pg_attribute WHERE attrelid = %(oid)s)
            UNION ALL
            SELECT base.type, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.bottom WHERE t.typtype = 'd'
        )
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, format_type(b.bottom, NULL) AS base,
               CASE WHEN a.attcollation <> 0 THEN (SELECT format('%%I.%%I', n.nspname, c.collname) FROM pg_collation c
                      JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END AS collation,
               a.attnotnull, a.attidentity <> '' AS identity,
               CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) ELSE '' END AS generated
          FROM pg_attribute a
          JOIN base b ON b.type = a.atttypid
          JOIN pg_type t ON t.oid = b.bottom AND t.typtype <> 'd'
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum
        """,
        {"oid": oid},
    )
    return tuple(
        Column(
            name=row["attname"],
            type=row["type"],
            base_type=row["base"],
            collation=row["collation"],
            not_null=row["attnotnull"],
            generated=row["generated"],
            identity=row["identity"],
        )
        for row in rows
    )


#: All that ATTACH PARTITION compares, as one text.
SIGNATURE = """
    json_build_array(am.amname, i.indisunique, i.indisprimary, i.indclass::text, i.indcollation::text,
        i.indoption::text, pg_get_expr(i.indpred, i.indrelid),
        (SELECT json_agg(pg_get_indexdef(i.indexrelid, number, false) ORDER BY number)
           FROM generate_series(1, i.indnatts) AS number))::text
"""


def _indexes(session: Session, oid: int) -> tuple[Index, ...]:
    rows = session.query(
        f"""
        SELECT c.relname, i.indisprimary, am.amname = 'btree' AND i.indpred IS NULL AS ordered,
               i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                 AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                    WHERE k.place <= i.indnkeyatts AND NOT a.attnotnull) AS is_key,
               (SELECT array_agg(coalesce(a.attname::text, '') ORDER BY k.place)
                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                  LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND a.attnum > 0
                 WHERE k.place <= i.indnkeyatts) AS columns,
               {SIGNATURE} AS signature
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
         WHERE i.indrelid = %s AND i.indisvalid AND i.indisready ORDER BY c.relname
        """,  # noqa: S608 - a constant of this file is put in
        (oid,),
    )
    return tuple(
        Index(
            name=row["relname"],
            columns=tuple(row["columns"]),
            is_key=row["is_key"],
            primary=row["indisprimary"],
            ordered=row["ordered"],
            signature=row["signature"],
        )
        for row in rows
    )


def read_schema(session: Session, name: str) -> Schema:
    """Whether a schema is there, and whether this role may create tables in it."""
    rows = session.query(
        "SELECT has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE') AS may"
        " FROM pg_namespace WHERE nspname = %s",
        (name,),
    )
    return Schema(exists=bool(rows), may_create=bool(rows) and rows[0]["may"])


def read_partitions(session: Session, source: Table, column: Column, cutoff: datetime) -> tuple[Partition, ...]:
    """The partitions of a table that is partitioned by ranges of one column, in the order of their names.

    The default partition is left out: it has no limits, so it is never old as a whole.
    """
    rows = session.query(
        f"""
        SELECT n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds,
               pg_get_partition_constraintdef(c.oid) AS constraint,
               c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE') AS movable,
               ARRAY(SELECT {SIGNATURE} FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
                       JOIN pg_am am ON am.oid = ic.relam WHERE i.indrelid = c.oid AND i.indisvalid) AS signatures
          FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE h.inhparent = (SELECT pc.oid FROM pg_class pc JOIN pg_namespace pn ON pn.oid = pc.relnamespace
                               WHERE pn.nspname = %s AND pc.relname = %s)
           AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
         ORDER BY 1, 2
        """,  # noqa: S608 - a constant of this file is put in
        tuple(source.name),
    )
    partitions = []
    for row in rows:
        upper = row["bounds"].rpartition(" TO (")[2].removesuffix(")")
        is_old = False
        if upper.startswith("'"):
            # The literal is the server's own text of the limit, in UTC as this session is.
            old = session.query(
                sql.SQL("SELECT {upper}::{type} <= %s::timestamptz::{type} AS old").format(
                    upper=sql.SQL(upper), type=sql.SQL(column.base_type)
                ),
                (cutoff.isoformat(),),
            )
            is_old = old[0]["old"]
        partitions.append(
            Partition(
                name=QualifiedName(row["nspname"], row["relname"]),
                bounds=row["bounds"],
                constraint=row["constraint"],
                movable=row["movable"],
                is_old=is_old,
                signatures=frozenset(row["signatures"]),
            )
        )
    return tuple(partitions)


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
    with told_apart():
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


def creation(
    source: Table, archive: QualifiedName, column: str, *, partitioned: bool, server_version: int
) -> list[sql.Composable]:
    """Statements that make the archive.

    The same columns with the same storage, and the time of the move. Defaults, identities and foreign keys stay
    behind: rows bring their values along, and an archive depends on nothing. Its key is the source's, so that a row
    is never doubled. Rows arrive in the order of time, for which a BRIN index is enough: it costs next to nothing to
    fill and finds a span of time as well as a btree would. A partitioned archive takes the source's indexes instead,
    because its partitions bring just these along.
    """
    options = [sql.SQL("INCLUDING STORAGE")]
    if server_version >= 140000:
        options.append(sql.SQL("INCLUDING COMPRESSION"))
    if partitioned:
        options += [sql.SQL("INCLUDING GENERATED"), sql.SQL("INCLUDING INDEXES")]
    parts: list[sql.Composable] = [sql.SQL("LIKE {} {}").format(identifier(source.name), sql.SQL(" ").join(options))]
    if source.column(STAMP) is None:
        parts.append(sql.SQL("{} timestamptz NOT NULL DEFAULT now()").format(sql.Identifier(STAMP)))
    if source.key and not partitioned:
        parts.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, source.key))))
    made: list[sql.Composable] = [
        sql.SQL("CREATE TABLE {} ({}){}").format(
            identifier(archive),
            sql.SQL(", ").join(parts),
            sql.SQL(" PARTITION BY RANGE ({})").format(sql.Identifier(column)) if partitioned else sql.SQL(""),
        )
    ]
    if not partitioned:
        made.append(sql.SQL("CREATE INDEX ON {} USING brin ({})").format(identifier(archive), sql.Identifier(column)))
    return made


def key_creation(source: Table, archive: QualifiedName) -> sql.Composable:
    """Statement that gives an archive without a key the source's. Readers of the archive are not held up by it."""
    return sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(
        identifier(archive), sql.SQL(", ").join(map(sql.Identifier, source.key))
    )


def make(session: Session, statements: Sequence[sql.Composable]) -> None:
    """Run statements in one transaction.

    :raises LockedError: a lock was not to be had
    :raises KeyTakenError: rows stand in the way of a unique index
    """
    with told_apart(), session.transaction():
        for statement in statements:
            session.query(statement)


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


def hand_over(source: Table, archive: Table, partition: Partition) -> list[sql.Composable]:
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
    with told_apart():
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
