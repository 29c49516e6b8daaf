"""How rows get from a table to its archive: the statements, and the walk through the table.

Every batch is one transaction that deletes rows and inserts the same ones. Rows never come to the client. That they are
the same ones is not concluded from their number: each row is compared with what the archive made of it, byte by byte
(``*=``), which works for every type, and does not take 1.10 for 1.1 as equality would. One difference undoes the batch.

The batches of the main walk copy the rows, and then delete those of which the archive holds the same bytes under the
same key, in one REPEATABLE READ transaction: both statements see one snapshot, and a row that somebody changes in
between fails the transaction. All else (no key, rows that others hold, keys that are taken, triggers of the source) is
done by ``DELETE … RETURNING``, which hands its rows to the ``INSERT`` and is compared with what that returns.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import psycopg2
from ansible.module_utils.runbook.drivers.postgres.archive import (
    LOCK_PATIENCE_S,
    KeyTakenError,
    LockedError,
    MismatchError,
    TooSlowError,
    retry_on_lock,
    translate_errors,
)
from ansible.module_utils.runbook.drivers.postgres.postgres import table as identifier
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres.archive_tables import STAMP
from ansible.module_utils.runbook.rules.postgres.archive_words import Difference
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Column, Table

#: Blocks that one step of a walk without an index looks at: 8 MiB.
STEP_BLOCKS = 1024
#: Before every timestamp and date.
BEGINNING = "-infinity"
#: Longest count of what is left once a run was stopped, in milliseconds.
SOON_MS = 3000
#: Where rows are locked and cannot be left out one by one, this many are left out with them.
FEW_ROWS = 50
#: Tries of a batch whose key the archive took meanwhile.
KEY_TRIES = 3


@dataclass(frozen=True)
class Moved:
    """What one batch did."""

    rows: int
    oldest: str | None
    newest: str | None
    #: Of the scope ``ahead``: where it ended, exclusively. None at the cutoff; the start itself where more rows than
    #: the limit share that moment, and none was moved.
    edge: str | None = None


#: Which rows a statement is about: the next ones in the order of time, a span of time, all of one moment, a span of
#: blocks.
Scope = Literal["ahead", "span", "moment", "blocks"]
#: Which of them: all, those whose key the archive does not hold, those that it holds with the same content.
Choice = Literal["all", "fresh", "same"]


class Mover:
    """Prepared statements that move rows of one source to one archive.

    Parameters of each: ``$1`` and ``$2`` limit the scope, ``$3`` is the largest number of rows, ``$4`` the cutoff.
    """

    def __init__(self, session: Session, source: Table, archive: Table, column: Column, cutoff: datetime) -> None:
        """Set up the session for many short batches."""
        self._session = session
        self._source = source
        self._archive = archive
        self._column = column
        self._type = sql.SQL(column.base_type)
        asked = sql.SQL("SELECT {}::timestamptz::{}::text AS high").format(sql.Literal(cutoff.isoformat()), self._type)
        #: The cutoff as the upper limit of a scope, in the column's own type.
        self.high = str(session.query(asked)[0]["high"])
        self._old = self._until("s", self.high)
        #: Rows that others hold can be left out one by one; the server asks for UPDATE to lock a row.
        self.may_skip_locked = "UPDATE" in source.rights
        self._prepared: set[str] = set()
        self._set_up(session)

    @classmethod
    def statements(cls, source: Table, archive: Table, column: Column, scope: Scope) -> list[sql.Composed]:
        """The statements of one batch of the main walk, with ``$1`` to ``$4`` in them."""
        if scope == "ahead" and cls._reads_back(source):
            return [cls._copy(source, archive, column), cls._delete(source, archive, column)]
        return [cls.statement(source, archive, column, scope)]

    @staticmethod
    def _reads_back(source: Table) -> bool:
        """Whether a row can be found again in the archive, and no trigger decides which rows are deleted."""
        return bool(source.key) and not source.triggers

    @staticmethod
    def _fields(source: Table, archive: Table, column: Column) -> dict[str, sql.Composable]:
        names = [each.name for each in source.columns]
        # A column that the archive generates is filled by the archive.
        filled = [place for place, name in enumerate(names) if not archive.named(name).generated]
        stamp = archive.stamped and not source.stamped
        stamped = [sql.SQL("now()")] if stamp else []
        places = [sql.Identifier(f"c{place}") for place in range(len(names))]
        of_source = [sql.Identifier("s", name) for name in names]
        return {
            "source": identifier(source.name),
            "archive": identifier(archive.name),
            "column": sql.Identifier(column.name),
            "join": _same_key(source, "s"),
            "same": _same_content(source, "s"),
            "into": _list([*(sql.Identifier(names[place]) for place in filled), *([sql.Identifier(STAMP)] * stamp)]),
            "overriding": sql.SQL(" OVERRIDING SYSTEM VALUE" if any(each.identity for each in archive.columns) else ""),
            "copied": _list([*(of_source[place] for place in filled), *stamped]),
            # Within a statement that holds both tables, columns go by their places.
            "places": _list(places),
            "values": _list([*(places[place] for place in filled), *stamped]),
            "returned": _list(of_source),
            "stored": _list([sql.Identifier(name) for name in names]),
            "moment": places[names.index(column.name)],
            "differs": _differs(names),
        }

    @classmethod
    def _copy(cls, source: Table, archive: Table, column: Column) -> sql.Composed:
        text = "INSERT INTO {archive} ({into}){overriding} SELECT {copied} FROM {source} AS s WHERE {scope}"
        return sql.SQL(text).format(**cls._fields(source, archive, column), scope=_scope("span", column, "s"))

    @classmethod
    def _delete(cls, source: Table, archive: Table, column: Column) -> sql.Composed:
        """Deletes the rows of which the archive holds the same bytes, and no others."""
        # No join: the planner knows nothing of an archive that was made just now, and might read all of it each time.
        text = "DELETE FROM {source} AS s WHERE {scope} AND (SELECT {same} FROM {archive} AS a WHERE {join})"
        return sql.SQL(text).format(**cls._fields(source, archive, column), scope=_scope("span", column, "s"))

    @classmethod
    def _remaining(cls, source: Table, archive: Table, column: Column) -> sql.Composed:
        """Query for what :meth:`_delete` left: rows that the archive lacks, and columns in which it holds others."""
        fields = cls._fields(source, archive, column)
        fields["found"] = sql.SQL(", ").join(
            sql.SQL("bool_or(NOT {}::record *= {}::record) AS {}").format(
                _row("s", [each.name]), _row("a", [each.name]), sql.Identifier(f"c{place}")
            )
            for place, each in enumerate(source.columns)
        )
        fields["key"] = sql.Identifier("a", source.key[0])
        text = (
            "SELECT count(*) AS rows, count(*) FILTER (WHERE {key} IS NULL) AS missing, {found}"
            " FROM {source} AS s LEFT JOIN {archive} AS a ON {join} WHERE {scope}"
        )
        return sql.SQL(text).format(**fields, scope=_scope("span", column, "s"))

    @staticmethod
    def _limits(source: Table, column: Column) -> sql.Composed:
        """Query for the end of the next batch, and for its oldest and newest row."""
        text = (
            "WITH edge AS MATERIALIZED (SELECT e.{column} AS moment FROM {source} AS e WHERE e.{column} >= $1"
            " AND e.{column} < $4 ORDER BY e.{column} OFFSET $3 LIMIT 1)"
            " SELECT (SELECT moment::text FROM edge) AS edge,"
            " (SELECT s.{column}::text FROM {source} AS s WHERE s.{column} >= $1"
            " AND s.{column} < coalesce((SELECT moment FROM edge), $4) ORDER BY s.{column} LIMIT 1) AS oldest,"
            " (SELECT s.{column}::text FROM {source} AS s WHERE s.{column} >= $1"
            " AND s.{column} < coalesce((SELECT moment FROM edge), $4) ORDER BY s.{column} DESC LIMIT 1) AS newest"
        )
        return sql.SQL(text).format(column=sql.Identifier(column.name), source=identifier(source.name))

    @classmethod
    def statement(
        cls,
        source: Table,
        archive: Table,
        column: Column,
        scope: Scope,
        choice: Choice = "all",
        *,
        skip_locked: bool = False,
    ) -> sql.Composed:
        """The text of one ``DELETE … RETURNING`` statement, with ``$1`` to ``$4`` in it."""
        fields = cls._fields(source, archive, column)
        if scope == "ahead":
            # The end of the batch is found and used in one go: no way to the client and back in between.
            delete = (
                "edge AS MATERIALIZED (SELECT e.{column} AS moment FROM {source} AS e WHERE e.{column} >= $1"
                " AND e.{column} < $4 ORDER BY e.{column} OFFSET $3 LIMIT 1), moved ({places}) AS ("
                "DELETE FROM {source} AS s WHERE s.{column} >= $1 AND s.{column} < coalesce((SELECT moment FROM edge),"
                " $4) RETURNING {returned})"
            )
            edge = "(SELECT moment::text FROM edge)"
        else:
            fields["picked"] = cls._pick(source, archive, column, scope, choice, skip_locked=skip_locked)
            delete = (
                "moved ({places}) AS (DELETE FROM {source} AS s USING ({picked}) AS picked"
                " WHERE s.ctid = picked.row_id AND s.tableoid = picked.table_id RETURNING {returned})"
            )
            edge = "NULL"
        if choice == "same":
            insert, found = "", "count(*) AS rows, count(*) AS put, 0 AS differing, NULL AS differs"
            rows = "(SELECT {moment} AS moment FROM moved) AS compared"
        else:
            insert = (
                ", inserted ({places}) AS ("
                "INSERT INTO {archive} ({into}){overriding} SELECT {values} FROM moved RETURNING {stored})"
            )
            found = "count(taken) AS rows, count(put) AS put, count(differs) AS differing, max(differs) AS differs"
            # Rows come back in the order in which they were put in. A full join never compares each with each.
            rows = (
                "(SELECT m.n AS taken, i.n AS put, m.{moment} AS moment, {differs} AS differs"
                " FROM (SELECT row_number() OVER () AS n, moved.* FROM moved) AS m FULL JOIN"
                " (SELECT row_number() OVER () AS n, inserted.* FROM inserted) AS i ON m.n = i.n) AS compared"
            )
        tail = f"min(moment)::text AS oldest, max(moment)::text AS newest FROM {rows}"
        return sql.SQL(f"WITH {delete}{insert} SELECT {found}, {edge} AS edge, {tail}").format(**fields)

    @classmethod
    def _pick(
        cls, source: Table, archive: Table, column: Column, scope: Scope, choice: Choice, *, skip_locked: bool
    ) -> sql.Composed:
        """The subquery that names rows by their place."""
        fields: dict[str, sql.Composable] = {
            "source": identifier(source.name),
            "archive": identifier(archive.name),
            "scope": _scope(scope, column, "p"),
            "lock": sql.SQL(" FOR UPDATE OF p SKIP LOCKED" if skip_locked else ""),
            "join": _same_key(source, "p"),
            "same": _same_content(source, "p"),
        }
        text = "SELECT p.tableoid AS table_id, p.ctid AS row_id FROM {source} AS p"
        if choice == "same":
            text += " WHERE {scope} AND (SELECT {same} FROM {archive} AS a WHERE {join})"
        elif choice == "fresh":
            text += " WHERE {scope} AND NOT EXISTS (SELECT FROM {archive} AS a WHERE {join})"
        else:
            text += " WHERE {scope}"
        return sql.SQL(text + " LIMIT $3{lock}").format(**fields)

    def _prepare(self, name: str, text: sql.Composable, scope: Scope) -> None:
        bound = sql.SQL("tid") if scope == "blocks" else self._type
        self._session.query(
            sql.SQL("PREPARE {} ({bound}, {bound}, bigint, {type}) AS {}").format(
                sql.Identifier(name), text, bound=bound, type=self._type
            )
        )
        self._prepared.add(name)

    def _execute(self, name: str, low: str, high: str, limit: int) -> list[dict[str, Any]]:
        return self._session.query(
            sql.SQL("EXECUTE {} (%s, %s, %s, %s)").format(sql.Identifier(name)), (low, high, limit, self.high)
        )

    def _until(self, alias: str, high: str) -> sql.Composed:
        """Condition: before a moment.

        The value stands in the text, quoted by the driver: a column's name may hold a per cent sign, which psycopg2
        takes for a placeholder where values are bound.
        """
        return sql.SQL("{}.{} < {}::{}").format(
            sql.Identifier(alias), sql.Identifier(self._column.name), sql.Literal(high), self._type
        )

    @staticmethod
    def _set_up(session: Session) -> None:
        settings = {
            # A batch deletes and inserts in one transaction. If a crash loses its commit, it loses both: the rows are
            # where they were. So nobody need wait for the disk, until flush() makes all of it durable at the end.
            "synchronous_commit": "off",
            # The rows of a batch wait in memory, not in a temporary file.
            "work_mem": "64MB",
            # One plan for all batches, by the index, whatever the statistics say about a half-emptied table.
            "plan_cache_mode": "force_generic_plan",
            # Likewise for the archive: looked up by its key, never read as a whole.
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "max_parallel_workers_per_gather": "0",
        }
        for name, value in settings.items():
            session.query("SELECT set_config(%s, %s, false)", (name, value))
        for method in ("lz4", "zstd"):
            # Fewer bytes of WAL. Often not permitted, or not built in; pglz is left out because it costs too much CPU.
            try:
                session.query("SELECT set_config('wal_compression', %s, false)", (method,))
            except psycopg2.Error:
                continue
            break

    def boundary(self, low: str, size: int) -> str | None:
        """The timestamp of the row that stands ``size`` rows after ``low``; None where fewer are left."""
        name = "runbook_boundary"
        if name not in self._prepared:
            text = sql.SQL(
                "SELECT s.{column}::text AS found FROM {source} AS s WHERE s.{column} >= $1 AND s.{column} < $4"
                " ORDER BY s.{column} OFFSET $3 LIMIT 1"
            ).format(column=sql.Identifier(self._column.name), source=identifier(self._source.name))
            self._prepare(name, text, "span")
        with translate_errors():
            rows = self._execute(name, low, low, size)
        return rows[0]["found"] if rows else None

    def after(self, moment: str) -> str | None:
        """The next timestamp after ``moment`` that is older than the cutoff."""
        with translate_errors():
            row = self._session.query(
                sql.SQL(
                    "SELECT min(s.{column})::text AS found FROM {source} AS s"
                    " WHERE s.{column} > {moment}::{type} AND {old}"
                ).format(
                    column=sql.Identifier(self._column.name),
                    source=identifier(self._source.name),
                    moment=sql.Literal(moment),
                    type=self._type,
                    old=self._old,
                )
            )
        return None if row[0]["found"] is None else str(row[0]["found"])

    def blocks(self) -> int:
        """Blocks of the source, of its largest partition where it has some."""
        row = self._session.query(
            "SELECT max(pg_relation_size(leaf.oid)) / current_setting('block_size')::int AS blocks"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " CROSS JOIN LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) AS leaf (oid)"
            " WHERE n.nspname = %s AND c.relname = %s",
            tuple(self._source.name),
        )
        return int(row[0]["blocks"])

    def move(
        self, scope: Scope, low: str, high: str, limit: int, *, choice: Choice = "all", skip_locked: bool = False
    ) -> Moved:
        """Move rows in one transaction, which fails if the archive does not hold the same afterwards.

        :param high: end of the scope; not used where that is ``ahead``
        :param limit: most rows
        :raises LockedError: rows or the table are held by somebody else
        :raises KeyTakenError: the archive holds one of their keys
        :raises TooSlowError: the statement timed out
        :raises MismatchError: the archive dropped or changed rows; nothing of the batch was moved
        """
        if scope == "ahead" and self._reads_back(self._source):
            return self._copy_and_delete(low, limit)
        name = f"runbook_{scope}_{choice}_{'skip' if skip_locked else 'wait'}"
        with translate_errors(), self._session.transaction():
            if name not in self._prepared:
                text = self.statement(self._source, self._archive, self._column, scope, choice, skip_locked=skip_locked)
                self._prepare(name, text, scope)
                self._note(text)
            row = self._execute(name, low, high, limit)[0]
            if row["put"] != row["rows"] or row["differing"]:
                columns = tuple(filter(None, (row["differs"] or "").split("\n")))
                raise MismatchError(Difference(row["rows"], row["rows"] - row["put"], columns))
        return Moved(row["rows"], row["oldest"], row["newest"], row["edge"])

    def _copy_and_delete(self, low: str, limit: int) -> Moved:
        """Move the next rows in the order of time; both statements see the same rows, or nothing is done."""
        source, archive, column = self._source, self._archive, self._column
        if "runbook_limits" not in self._prepared:
            copy, delete = self._copy(source, archive, column), self._delete(source, archive, column)
            self._prepare("runbook_limits", self._limits(source, column), "span")
            self._prepare("runbook_copy", copy, "span")
            self._prepare("runbook_delete", delete, "span")
            self._prepare("runbook_remaining", self._remaining(source, archive, column), "span")
            self._note(copy, delete)
        with translate_errors(), self._session.transaction():
            self._session.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            limits = self._execute("runbook_limits", low, low, limit)[0]
            if limits["oldest"] is None:
                return Moved(0, None, None, limits["edge"])
            high = limits["edge"] or self.high
            copied = self._touched("runbook_copy", low, high, limit)
            # What a deferred trigger does to the rows has to be done before they are compared.
            self._session.query("SET CONSTRAINTS ALL IMMEDIATE")
            deleted = self._touched("runbook_delete", low, high, limit)
            # A trigger may drop a row from the copy: then the numbers are equal, and the row is still here.
            doubtful = deleted != copied or archive.triggers
            left = self._execute("runbook_remaining", low, high, limit)[0] if doubtful else {"rows": 0}
            if left["rows"]:
                columns = [each.name for place, each in enumerate(source.columns) if left[f"c{place}"]]
                raise MismatchError(Difference(deleted + left["rows"], left["missing"], tuple(columns)))
            if deleted != copied:
                raise MismatchError(Difference(deleted, deleted - copied))
        return Moved(deleted, limits["oldest"], limits["newest"], limits["edge"])

    def _touched(self, name: str, low: str, high: str, limit: int) -> int:
        """Run a prepared statement; the number of rows that it wrote."""
        with self._session.connection.cursor() as cursor:
            text = sql.SQL("EXECUTE {} (%s, %s, %s, %s)").format(sql.Identifier(name))
            cursor.execute(text, (low, high, limit, self.high))
            return int(cursor.rowcount)

    def _note(self, *texts: sql.Composed) -> None:
        """Write statements down, once each."""
        for text in texts:
            rendered = self._session.render(text)
            if rendered not in self._session.executed_queries:
                self._session.executed_queries.append(rendered)

    def left(self) -> int:
        """Rows that are older than the cutoff and still in the source."""
        with translate_errors():
            row = self._session.query(
                sql.SQL("SELECT count(*) AS rows FROM {} AS s WHERE {}").format(
                    identifier(self._source.name), self._old
                )
            )
        return int(row[0]["rows"])

    def left_soon(self) -> int | None:
        """As :meth:`left`, for a run that must come to its end; None where counting takes too long."""
        self._session.query("SELECT set_config('statement_timeout', %s, false)", (str(SOON_MS),))
        try:
            return self.left()
        except (LockedError, TooSlowError):
            return None

    def conflicts(self) -> int:
        """Old rows whose key the archive holds with other content."""
        with translate_errors():
            row = self._session.query(
                sql.SQL(
                    "SELECT count(*) AS rows FROM {source} AS s JOIN {archive} AS a ON {join}"
                    " WHERE {old} AND NOT {same}"
                ).format(
                    source=identifier(self._source.name),
                    archive=identifier(self._archive.name),
                    join=_same_key(self._source, "s"),
                    old=self._old,
                    same=_same_content(self._source, "s"),
                )
            )
        return int(row[0]["rows"])

    def flush(self) -> None:
        """Wait until all that was committed is on disk (and on synchronous standbys, where there are some)."""
        with translate_errors():
            self._session.query("SELECT set_config('synchronous_commit', 'on', false)")
            # A commit waits for the disk only if its transaction wrote something; a message in the WAL is the least.
            self._session.query("SELECT pg_logical_emit_message(true, 'runbook', 'archived')")


def _scope(scope: Scope, column: Column, alias: str) -> sql.Composed:
    text = {
        "span": "{alias}.{column} >= $1 AND {alias}.{column} < $2",
        "moment": "{alias}.{column} >= $1 AND {alias}.{column} <= $2",
        "blocks": "{alias}.ctid >= $1 AND {alias}.ctid < $2 AND {alias}.{column} < $4",
    }[scope]
    return sql.SQL(text).format(alias=sql.Identifier(alias), column=sql.Identifier(column.name))


def _list(parts: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _row(alias: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL("ROW({})").format(_list([sql.Identifier(alias, name) for name in names]))


def _same_key(source: Table, alias: str) -> sql.Composed:
    """Condition: the same key as row ``a`` of the archive."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("a", name), sql.Identifier(alias, name)) for name in source.key
    )


def _same_content(source: Table, alias: str) -> sql.Composed:
    """Row by row the same bytes, which also compares types that have no equality (json, xml)."""
    names = [column.name for column in source.columns]
    return sql.SQL("{}::record *= {}::record").format(_row(alias, names), _row("a", names))


def _differs(names: Sequence[str]) -> sql.Composed:
    """Names of the columns in which a row ``m`` that was taken and the row ``i`` that was put in differ, or NULL."""
    places = [f"c{place}" for place in range(len(names))]
    each = sql.SQL(" || ").join(
        sql.SQL("CASE WHEN {}::record *= {}::record THEN '' ELSE {} END").format(
            _row("m", [place]), _row("i", [place]), sql.Literal(f"{name}\n")
        )
        for place, name in zip(places, names, strict=True)
    )
    return sql.SQL("CASE WHEN {}::record *= {}::record THEN NULL ELSE {} END").format(
        _row("m", places), _row("i", places), each
    )


class Pace(Protocol):
    """How the module wants a walk to go. It decides on sizes and waits, counts, and tells who watches."""

    #: Most rows of the next batch.
    size: int

    def batch(self, scope: Scope, low: str, high: str, choice: Choice, *, skip_locked: bool) -> Moved:
        """Move one batch with :meth:`Mover.move`."""


class Walk:
    """Goes through the source, and moves what it finds."""

    def __init__(self, mover: Mover, pace: Pace, clock: Clock, source: Table) -> None:
        self._mover = mover
        self._pace = pace
        self._clock = clock
        self._source = source
        self._merging = False
        #: The archive held keys of rows that were to be moved, so there may be conflicts.
        self.met_taken_keys = False

    def by_index(self) -> None:
        """Go through the old rows in the order of time. What lies behind is not read again."""
        low: str | None = BEGINNING
        while low is not None:
            try:
                low = self._step(low)
            except TooSlowError:
                self._shrink()

    def by_blocks(self) -> None:
        """Go through the source block by block."""
        first, blocks = 0, self._mover.blocks()
        while first < blocks:
            try:
                self._take("blocks", f"({first},0)", f"({first + STEP_BLOCKS},0)")
                first += STEP_BLOCKS
            except TooSlowError:
                self._shrink()

    def _step(self, low: str) -> str | None:
        """Move the rows that follow ``low``; where to go on, None at the end."""
        mover, locked = self._mover, False
        if not self._merging:
            try:
                edge = self._pace.batch("ahead", low, low, "all", skip_locked=False).edge
                if edge != low:
                    return edge
            except KeyTakenError as taken:
                self._merge(taken)
            except LockedError:
                locked = True
                if not mover.may_skip_locked and self._pace.size > FEW_ROWS:
                    # Close in on the rows that somebody holds, so that few others stay with them.
                    self._shrink()
                    return low
        edge = retry_on_lock(self._clock, partial(mover.boundary, low, self._pace.size), self._source.name)
        if edge == low:
            # More rows of one moment than fit into a batch.
            self._take("moment", low, low, locked=locked)
            return retry_on_lock(self._clock, partial(mover.after, low), self._source.name)
        self._take("span", low, edge or mover.high, locked=locked)
        return edge

    def _shrink(self) -> None:
        """Make batches much smaller."""
        if self._pace.size == 1:
            raise RunbookError(
                f"statement_timeout_ms: it is too short to move a single row of {self._source.name}; "
                "raise it, or look for a slow trigger."
            )
        self._pace.size = max(1, self._pace.size // 8)

    def _merge(self, taken: KeyTakenError) -> None:
        """From now on, look which rows the archive holds."""
        if not self._source.key:
            raise self._cannot_tell(taken)
        self._merging = self.met_taken_keys = True

    def _cannot_tell(self, taken: KeyTakenError) -> RunbookError:
        return RunbookError(
            f"archive: its index {taken.index} forbids rows with values that it already holds, and the key of "
            f"{self._source.name} does not tell which; drop that index, or delete those rows on one side."
        )

    def _take(self, scope: Scope, low: str, high: str, *, locked: bool = False) -> None:
        """Move all rows of a scope but those that somebody else holds, and those whose key is taken.

        :param locked: somebody else holds some
        """
        skip_locked = locked and self._mover.may_skip_locked
        key_tries, locked_since = 0, 0.0
        while True:
            try:
                if self._merging:
                    same = self._take_pieces(scope, low, high, "same", skip_locked=skip_locked)
                    self._take_pieces(scope, low, high, "fresh", skip_locked=skip_locked)
                    self._merging = same > 0
                else:
                    self._take_pieces(scope, low, high, "all", skip_locked=skip_locked)
            except KeyTakenError as taken:
                key_tries += 1
                if key_tries > KEY_TRIES:
                    raise self._cannot_tell(taken) from None
                self._merge(taken)
            except LockedError:
                if skip_locked:
                    # Rows are left out one by one, so it is the whole table that is locked.
                    locked_since = locked_since or time.monotonic()
                    if time.monotonic() - locked_since > LOCK_PATIENCE_S:
                        return
                    self._clock.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter, not a secret
                elif self._mover.may_skip_locked:
                    skip_locked = True
                elif self._pace.size > FEW_ROWS:
                    self._shrink()
                else:
                    return
            else:
                return

    def _take_pieces(self, scope: Scope, low: str, high: str, choice: Choice, *, skip_locked: bool) -> int:
        """Move the rows of a scope a batch at a time, until a batch finds fewer than it may take; how many."""
        total = 0
        while True:
            asked = self._pace.size
            taken = self._pace.batch(scope, low, high, choice, skip_locked=skip_locked).rows
            total += taken
            if taken < asked:
                return total
