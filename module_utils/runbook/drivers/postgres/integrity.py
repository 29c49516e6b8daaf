"""Looks into a database for what is broken: sequences, foreign keys, indexes, damaged pages. It only reads."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.integrity import Kind, SequenceUse
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target

#: Schemas that belong to PostgreSQL.
_USER_SCHEMAS = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
#: Rows without a counterpart are counted up to here: one is bad enough.
_ORPHANS = 1000

_SEQUENCES = f"""
WITH used AS (
  -- by serial or identity, and by a default that calls nextval()
  SELECT objid AS sequence, refobjid AS relation, refobjsubid AS attnum FROM pg_depend
   WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
     AND refobjsubid > 0
  UNION
  SELECT d.refobjid, a.adrelid, a.adnum FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid
   WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid = 0
)
SELECT s.seqrelid AS oid, n.nspname AS schema, c.relname AS name, tn.nspname AS table_schema, t.relname AS table_name,
       a.attname AS column, s.seqincrement AS increment, s.seqcycle AS cycles, t.relpages AS pages
  FROM used u JOIN pg_sequence s ON s.seqrelid = u.sequence JOIN pg_class c ON c.oid = s.seqrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class t ON t.oid = u.relation AND t.relkind IN ('r', 'p')
  JOIN pg_namespace tn ON tn.oid = t.relnamespace
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attnum AND NOT a.attisdropped
 WHERE {_USER_SCHEMAS} AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
 ORDER BY 1
"""  # noqa: S608 - the text is ours

_FOREIGN_KEYS = f"""
SELECT o.conname AS name, n.nspname AS schema, c.relname AS table_name, pn.nspname AS parent_schema,
       p.relname AS parent, o.convalidated AS validated, c.relpages AS pages,
       (SELECT jsonb_agg(jsonb_build_array(a.attname, pa.attname, opn.nspname, op.oprname) ORDER BY k.ordinality)
          FROM unnest(o.conkey, o.confkey, o.conpfeqop) WITH ORDINALITY AS k(own, theirs, operator, ordinality)
          JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.own
          JOIN pg_attribute pa ON pa.attrelid = o.confrelid AND pa.attnum = k.theirs
          JOIN pg_operator op ON op.oid = k.operator
          JOIN pg_namespace opn ON opn.oid = op.oprnamespace) AS pairs
  FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class p ON p.oid = o.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
 WHERE o.contype = 'f' AND o.conparentid = 0 AND {_USER_SCHEMAS}
 ORDER BY o.oid
"""  # noqa: S608 - the text is ours

_INDEXES = f"""
SELECT n.nspname AS schema, c.relname AS name, i.indisvalid AND i.indisready AND i.indislive AS good
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE {_USER_SCHEMAS} OR n.nspname = 'pg_toast'
"""  # noqa: S608 - the text is ours

_EXTENSION = """
SELECT n.nspname AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'
"""

#: Tables and B-trees, PostgreSQL's catalogs among them: those are damaged like all others.
_RELATIONS = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, c.relpages AS pages
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am m ON m.oid = c.relam
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relpersistence = 'p' AND (
   (c.relkind IN ('r', 'm', 't') AND m.amname = 'heap') OR (c.relkind = 'i' AND m.amname = 'btree' AND i.indisvalid))
"""


@dataclass(frozen=True)
class Question:
    """Something to find out; ``ask`` may raise psycopg2's errors, which make the answer unknown.

    ``pages`` is how large it is by the last count: to ask the file system would need a lock.
    """

    kind: Kind
    object: str
    pages: int
    ask: Callable[[Session], Check]


def sequences(session: Session, judge: Callable[[SequenceUse], Check]) -> list[Question]:
    """A question for every column that takes its values from a sequence; ``judge`` answers it."""
    return [_sequence(row, judge) for row in session.query(_SEQUENCES)]


def _sequence(row: dict[str, Any], judge: Callable[[SequenceUse], Check]) -> Question:
    name = QualifiedName(row["schema"], row["name"])
    table = QualifiedName(row["table_schema"], row["table_name"])

    def ask(session: Session) -> Check:
        state = session.query(sql.SQL("SELECT last_value, is_called FROM {}").format(postgres.table(name)))[0]
        extreme = session.query(
            sql.SQL("SELECT {}({}) AS value FROM {}").format(
                sql.SQL("max" if row["increment"] > 0 else "min"), sql.Identifier(row["column"]), postgres.table(table)
            )
        )[0]["value"]
        return judge(
            SequenceUse(name, table, row["column"], row["increment"], cycles=row["cycles"], extreme=extreme, **state)
        )

    return Question("sequences", str(name), row["pages"], ask)


def foreign_keys(session: Session) -> list[Question]:
    """A question for every foreign key; those of partitions belong to their parent's."""
    return [_foreign_key(row) for row in session.query(_FOREIGN_KEYS)]


def _foreign_key(row: dict[str, Any]) -> Question:
    table = QualifiedName(row["schema"], row["table_name"])
    name = f"{table}.{row['name']}"

    def ask(session: Session) -> Check:
        # A key that is not validated is a promise for new rows alone; the others are looked at all the same, since
        # damage does not ask for permission.
        there = [sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(own)) for own, _, _, _ in row["pairs"]]
        equal = [
            sql.SQL("p.{} OPERATOR({}.{}) c.{}").format(
                sql.Identifier(theirs), sql.Identifier(schema), sql.SQL(operator), sql.Identifier(own)
            )
            for own, theirs, schema, operator in row["pairs"]
        ]
        query = sql.SQL(
            "SELECT count(*) AS orphans FROM (SELECT FROM {child} c WHERE {there} AND NOT EXISTS"
            " (SELECT FROM {parent} p WHERE {equal}) LIMIT {most}) o"
        ).format(
            child=postgres.table(table),
            parent=postgres.table(QualifiedName(row["parent_schema"], row["parent"])),
            there=sql.SQL(" AND ").join(there),
            equal=sql.SQL(" AND ").join(equal),
            most=sql.Literal(_ORPHANS),
        )
        orphans = session.query(query)[0]["orphans"]
        if orphans:
            rows = count(orphans, "row") + (" or more" if orphans == _ORPHANS else "")
            return Check.breach("foreign_keys", f"has {rows} without what they point at", name)
        if not row["validated"]:
            return Check.breach("foreign_keys", "is NOT VALID, so nobody promises that it holds", name)
        return Check.ok("foreign_keys", subject=name)

    return Question("foreign_keys", name, row["pages"], ask)


def indexes(session: Session) -> list[Check]:
    """Which indexes are not valid: left behind by a build that was interrupted, and of no use to any query."""
    return [
        Check(
            "indexes",
            Status.of(breach=not row["good"]),
            "" if row["good"] else "is invalid",
            str(QualifiedName(row["schema"], row["name"])),
        )
        for row in session.query(_INDEXES)
    ]


def amcheck(session: Session) -> list[Question] | Check:
    """A question for every table and B-tree; one finding where the extension is missing."""
    rows = session.query(_EXTENSION)
    if not rows:
        return Check.unknown("amcheck", "is not installed in this database", "extension amcheck")
    schema = rows[0]["schema"]
    heaps = session.server_version >= 140000
    return [_relation(row, schema) for row in session.query(_RELATIONS) if row["kind"] == "i" or heaps]


def _relation(row: dict[str, Any], schema: str) -> Question:
    name = str(QualifiedName(row["schema"], row["name"]))

    def ask(session: Session) -> Check:
        try:
            if row["kind"] == "i":
                # heapallindexed: every row of the table must have its entry.
                session.query(
                    sql.SQL("SELECT {}.bt_index_check(%s, true)").format(sql.Identifier(schema)), (row["oid"],)
                )
                return Check.ok("amcheck", subject=name)
            bad = session.query(
                sql.SQL("SELECT count(*) AS bad, min(blkno) AS block FROM {}.verify_heapam(%s)").format(
                    sql.Identifier(schema)
                ),
                (row["oid"],),
            )[0]
            text = f"has {count(bad['bad'], 'damaged place')}, the first in block {bad['block']}" if bad["bad"] else ""
            return Check("amcheck", Status.of(breach=bad["bad"]), text, name)
        except psycopg2.errors.UndefinedTable:
            return Check.ok("amcheck", subject=name)  # dropped meanwhile
        except (psycopg2.errors.DataCorrupted, psycopg2.errors.IndexCorrupted) as error:
            return Check.breach("amcheck", f"is damaged: {ServerError.of(error).reason}", name)
        except psycopg2.errors.InternalError_ as error:
            return Check.breach("amcheck", f"cannot be read: {type(error).__name__}", name)

    return Question("amcheck", name, row["pages"], ask)


def smoke(queries: Iterable[dict[str, Any]]) -> list[Question]:
    """The application's own questions: each gives one value, which is compared as text, or must be true."""

    def question(item: dict[str, Any]) -> Question:
        name, expect = str(item["name"]), item.get("expect")

        def ask(session: Session) -> Check:
            try:
                rows = session.query(item["query"])
            except (psycopg2.ProgrammingError, psycopg2.errors.ReadOnlySqlTransaction) as error:
                return Check.breach("smoke", f"failed: {ServerError.of(error).reason}", name)
            value = next(iter(rows[0].values()), None) if rows else None
            if expect is None:
                good = bool(rows) and value not in (None, False, 0)
                return Check("smoke", Status.of(breach=not good), "" if good else "gave nothing, zero or false", name)
            good = _as_text(value) == _as_text(expect)
            # The value may be a row's content, so it is not told.
            return Check("smoke", Status.of(breach=not good), "" if good else "gave another value", name)

        return Question("smoke", name, 0, ask)

    return [question(item) for item in queries]


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def questions(
    session: Session,
    wanted: Sequence[str],
    smoke_queries: Sequence[dict[str, Any]],
    judge: Callable[[SequenceUse], Check],
) -> tuple[list[Check], list[Question]]:
    """What is known at once, and what has to be asked.

    :param wanted: kinds of checks
    :param judge: answers the question for a sequence
    """
    findings: list[Check] = []
    asked: list[Question] = []
    if "sequences" in wanted:
        asked += sequences(session, judge)
    if "foreign_keys" in wanted:
        asked += foreign_keys(session)
    if "indexes" in wanted:
        findings += indexes(session)
    if "amcheck" in wanted:
        pages = amcheck(session)
        if isinstance(pages, Check):
            findings.append(pages)
        else:
            asked += pages
    if "smoke" in wanted:
        asked += smoke(smoke_queries)
    return findings, asked


class Inquiry:
    """Asks questions over several sessions, the biggest first, until the deadline."""

    def __init__(self, target: Target, *, jobs: int, deadline_s: float, lock_timeout_ms: int) -> None:
        """Nothing is asked yet.

        :param deadline_s: seconds from now after which what runs is cancelled, and what remains is unknown
        """
        self._target = target
        self._jobs = jobs
        self._deadline = time.monotonic() + deadline_s
        self._lock_timeout_ms = lock_timeout_ms
        self._lock = threading.Lock()
        self._queue: deque[Question] = deque()
        self._findings: list[Check] = []
        self._trouble: RunbookError | None = None

    def ask(self, questions: Sequence[Question], tick: Callable[[int, int], None]) -> list[Check]:
        """The answers, in no order.

        :param tick: called in this thread every half second with the numbers of questions answered and asked
        :raises RunbookError: no session can be had; or what ``tick`` raises, after everything has been stopped
        """
        self._queue = deque(sorted(questions, key=lambda each: -each.pages))
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(self._jobs, len(questions)))]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.5 / len(threads))
                tick(len(self._findings), len(questions))
        except BaseException:
            with self._lock:
                self._queue.clear()
            raise
        if self._trouble is not None and not self._findings:
            raise self._trouble
        for question in self._queue:
            self._findings.append(Check.unknown(question.kind, "was not reached", question.object))
        return self._findings

    def _left_ms(self) -> int:
        return int((self._deadline - time.monotonic()) * 1000)

    def _work(self) -> None:
        session: Session | None = None
        try:
            while True:
                with self._lock:
                    if not self._queue or self._left_ms() <= 0 or self._trouble is not None:
                        return
                    question = self._queue.popleft()
                if session is None or session.connection.closed:
                    session = self._session()
                finding = self._answer(session, question)
                with self._lock:
                    self._findings.append(finding)
        except RunbookError as error:
            with self._lock:
                self._trouble = error
        finally:
            if session is not None:
                session.close()

    def _session(self) -> Session:
        session = postgres.Session(
            self._target, lock_timeout_ms=self._lock_timeout_ms, statement_timeout_ms=60_000, purpose="pg_integrity"
        )
        session.query("SELECT set_config('default_transaction_read_only', 'on', false)")
        return session

    def _answer(self, session: Session, question: Question) -> Check:
        try:
            session.query("SELECT set_config('statement_timeout', %s, false)", (str(max(1, self._left_ms())),))
            return question.ask(session)
        except psycopg2.errors.QueryCanceled:
            text = "took too long"
        except psycopg2.errors.LockNotAvailable:
            text = "is locked by somebody else"
        except psycopg2.errors.InsufficientPrivilege:
            text = f"may not be read by {self._target.user!r}"
        except psycopg2.Error as error:
            text = f"could not be looked at ({ServerError.of(error).reason})"
            if session.connection.closed:
                with suppress(psycopg2.Error):
                    session.close()
        return Check.unknown(question.kind, text, question.object)
