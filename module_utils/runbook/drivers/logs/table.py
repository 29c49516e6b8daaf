"""Rows of a log table: read as a stream, and deleted by the very transaction that read them.

A slice of rows is copied, archived and deleted under one ``REPEATABLE READ`` snapshot. What the snapshot does not
show is not deleted, and a row that somebody changed meanwhile fails the transaction. The link of the archive holds
the number of the transaction, and the server knows what became of it (``pg_xact_status``), so a run that was killed
in between leaves no doubt whether the rows of its archive are in the table still.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg2
from ansible.module_utils.runbook.drivers.postgres.archive import translate_errors
from ansible.module_utils.runbook.drivers.postgres.postgres import table as identifier
from psycopg2 import sql

if TYPE_CHECKING:
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Column, Table

#: The server ends a session that is idle in its transaction for longer, in seconds: an archive is read back meanwhile.
_IDLE_S = 900


@dataclass(frozen=True)
class Slice:
    """Rows from a moment on and before another one, as the server writes moments."""

    since: str
    until: str


class Rows:
    """The rows of one table that are older than a moment."""

    def __init__(self, session: Session, source: Table, column: Column, cutoff: datetime) -> None:
        self.session, self.source, self.column = session, source, column
        self._names = {"source": identifier(source.name), "column": sql.Identifier(column.name),
                       "type": sql.SQL(column.base_type), "cutoff": sql.Literal(cutoff.isoformat())}  # fmt: skip

    def next(self, most_rows: int) -> Slice | None:
        """The oldest slice of about ``most_rows``; None where there is no old row any more.

        Rows of one moment are not parted. Those of no moment, or of an infinite one, stay.
        """
        with translate_errors():
            found = self.session.query(
                sql.SQL(
                    "WITH old AS (SELECT {column} AS at FROM {source} WHERE {column} < {cutoff}::timestamptz::{type}"
                    " AND isfinite({column})),"
                    " low AS (SELECT min(at) AS at FROM old)"
                    " SELECT low.at::text AS since, coalesce("
                    "(SELECT old.at FROM old WHERE old.at > low.at ORDER BY old.at OFFSET %s LIMIT 1),"
                    " {cutoff}::timestamptz::{type})::text AS until FROM low WHERE low.at IS NOT NULL"
                ).format(**self._names),
                (most_rows - 1,),
            )
        return Slice(**found[0]) if found else None

    def _within(self, part: Slice) -> sql.Composable:
        return sql.SQL("{column} >= {since}::{type} AND {column} < {until}::{type}").format(
            since=sql.Literal(part.since), until=sql.Literal(part.until), **self._names
        )

    def count(self, part: Slice) -> int:
        """Rows of a slice that are there now."""
        statement = sql.SQL("SELECT count(*) AS rows FROM {} WHERE {}").format(
            self._names["source"], self._within(part)
        )
        with translate_errors():
            return int(self.session.query(statement)[0]["rows"])

    def begin(self) -> str:
        """Begin the transaction of a slice; its number. To be called inside of ``Session.transaction``."""
        self.session.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.session.query(f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_S}s'")
        return str(self.session.query("SELECT pg_current_xact_id()::text AS id")[0]["id"])

    def copy(self, part: Slice) -> CopyOut:
        """The rows of a slice in PostgreSQL's text format, by their time: one line a row, ready for ``COPY FROM``."""
        columns = sql.SQL(", ").join(sql.Identifier(each.name) for each in self.source.columns)
        return CopyOut(
            self.session,
            sql.SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY {}) TO STDOUT").format(
                columns, self._names["source"], self._within(part), self._names["column"]
            ),
        )

    def delete(self, part: Slice) -> int:
        """Delete the rows of a slice that the transaction's snapshot shows; how many they were."""
        statement = sql.SQL("DELETE FROM {} WHERE {}").format(self._names["source"], self._within(part))
        with translate_errors():
            return self.session.execute(statement)


class CopyOut:
    """What a COPY writes, as a stream; a failure of the server comes out where it is read."""

    def __init__(self, session: Session, statement: sql.Composable) -> None:
        self._session = session
        self._reader, writer = os.pipe()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._work, args=(statement, writer), daemon=True)
        self._thread.start()

    def _work(self, statement: sql.Composable, writer: int) -> None:
        try:
            with os.fdopen(writer, "wb", buffering=1 << 20) as file, self._session.connection.cursor() as cursor:
                cursor.copy_expert(statement, file)
        except BaseException as error:  # raised again where it is read
            self._failure.append(error)

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end.

        :raises RunbookError: the server ended the COPY
        """
        data = os.read(self._reader, 1 << 20 if size < 0 else size)
        if not data:
            self._thread.join()
            if self._failure:
                with translate_errors():
                    raise self._failure[0]
        return data

    def close(self) -> None:
        """End the COPY, whole or not."""
        with suppress(OSError):
            os.close(self._reader)
        if self._thread.is_alive():
            with suppress(psycopg2.Error):
                self._session.interrupt()
            self._thread.join()


def outcome(session: Session, xid: str) -> Literal["committed", "aborted", "in progress", "forgotten"]:
    """What became of a transaction; the server forgets it after some hundred million others."""
    try:
        found: Any = session.query("SELECT pg_xact_status(%s::xid8) AS status", (xid,))[0]["status"]
    except psycopg2.Error:
        # A transaction that this server has not seen yet: it was restored to an earlier moment.
        return "forgotten"
    return found or "forgotten"
