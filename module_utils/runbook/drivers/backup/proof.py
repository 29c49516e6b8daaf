"""Read what a restored database holds, so that ``rules/backup/proof.py`` can compare it with the manifest."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres import content_hash
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.proof import Found
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.content_hash import Content, Coverage, Method, Table

#: Seconds between two looks at the deadline while tables are being read.
_TICK_S = 0.1
#: Seconds until tables that were still being loaded are looked at again.
_AGAIN_S = 0.5
#: Smaller tables, empty ones among them, are not worth a second look.
_EARLY_BYTES = 1 << 20


@dataclass
class _Readings:
    """What the workers found so far; each entry is written by one of them."""

    contents: dict[QualifiedName, Content] = field(default_factory=dict)
    errors: dict[QualifiedName, str] = field(default_factory=dict)
    large_objects: Content | None = None
    large_objects_error: str = ""


class Early:
    """Reads what is loaded while other tables still are, with the core that would stand idle.

    A table is loaded when it holds rows and nobody is writing to it: ``pg_dump`` gives each table's rows in one COPY,
    and a COPY is one transaction.
    """

    def __init__(self, connect: Callable[[], Session], *, method: Method, coverage: Coverage) -> None:
        """Remember how to read; nothing is started yet."""
        self._connect, self._method, self._coverage = connect, method, coverage
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._session: Session | None = None
        self._thread: threading.Thread | None = None
        self._current: QualifiedName | None = None
        self.contents: dict[QualifiedName, Content] = {}

    def start(self) -> None:
        """Begin; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def stop(self) -> set[QualifiedName]:
        """Begin no further table; those that were read or are being read."""
        with self._lock:
            self._stop.set()
            return {*self.contents, *([self._current] if self._current else [])}

    def is_done(self) -> bool:
        """Whether the last table is through."""
        return self._thread is None or not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        if self._session is not None and not self.is_done():
            _cancel(self._session)

    def _work(self) -> None:
        # What fails here is read again when all is loaded, and then it counts.
        with suppress(psycopg2.Error, RunbookError), self._connect() as self._session:
            content_hash.settle(self._session)
            while not self._stop.is_set():
                before = len(self.contents)
                tables = [each for each in content_hash.read_tables(self._session) if each.size_bytes >= _EARLY_BYTES]
                for table in sorted(tables, key=lambda each: -each.size_bytes):
                    self._take(self._session, table)
                if len(self.contents) == before:
                    self._stop.wait(_AGAIN_S)

    def _take(self, session: Session, table: Table) -> None:
        with self._lock:
            if self._stop.is_set() or table.name in self.contents:
                return
            self._current = table.name
        content = None
        with suppress(psycopg2.errors.LockNotAvailable), session.transaction():
            session.query(
                sql.SQL("LOCK TABLE ONLY {} IN SHARE MODE NOWAIT").format(
                    sql.Identifier(table.name.schema, table.name.name)
                )
            )
            content = content_hash.hash_table(session, table, self._method, self._coverage)
        with self._lock:
            self._current = None
            if content and content.rows:
                self.contents[table.name] = content


def read(
    connect: Callable[[], Session],
    *,
    method: Method,
    coverage: Coverage,
    jobs: int,
    check: Callable[[], None],
    on_bytes: Callable[[int, int], None] | None = None,
    early: Early | None = None,
) -> Found:
    """Count and hash every table of a database, and its large objects, the biggest first; and read its sequences.

    :param connect: gives a new session in the database; it is called once a job, and the sessions are closed here
    :param method: how the manifest's server hashed; the same is asked of this one
    :param coverage: as in the manifest: a sample is compared with a sample
    :param jobs: tables that are read at the same time
    :param check: is called now and then; what it raises stops the reading
    :param on_bytes: is told how many bytes of tables are through, of how many
    :param early: has read some already
    :raises RunbookError: no connection
    """
    sessions: list[Session] = []
    try:
        for _ in range(max(1, jobs)):
            sessions.append(connect())
            content_hash.settle(sessions[-1])
        probe = content_hash.probe(sessions[0], method)
        sequences = None
        # What cannot be read is unknown.
        with suppress(psycopg2.Error):
            sequences = content_hash.read_sequences(sessions[0])
        tables = content_hash.read_tables(sessions[0])
        readings = _Readings()
        taken = early.stop() if early else set()
        # Large objects have no size that is cheap to ask for; in doubt they take long, so they go first.
        rest = sorted((each for each in tables if each.name not in taken), key=lambda each: -each.size_bytes)
        todo: deque[Table | None] = deque([None, *rest])
        total = sum(each.size_bytes for each in rest)
        done: list[int] = []
        stop = threading.Event()

        def work(session: Session) -> None:
            while todo and not stop.is_set():
                try:
                    table = todo.popleft()
                except IndexError:
                    return
                _read_one(session, table, method, coverage, readings)
                done.append(table.size_bytes if table else 0)

        threads = [threading.Thread(target=work, args=(session,), daemon=True) for session in sessions]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TICK_S)
                    check()
                    if on_bytes:
                        on_bytes(sum(done), total)
            if early:
                while not early.is_done():
                    check()
                    time.sleep(_TICK_S)
                readings.contents |= early.contents
                for table in (each for each in tables if each.name in taken - early.contents.keys()):
                    _read_one(sessions[0], table, method, coverage, readings)
        except BaseException:
            stop.set()
            for session in sessions:
                _cancel(session)
            for thread in threads:
                thread.join(5)
            raise
        return Found(
            contents=readings.contents,
            errors=readings.errors,
            large_objects=readings.large_objects,
            large_objects_error=readings.large_objects_error,
            method=method,
            probe=probe,
            sequences=sequences,
        )
    finally:
        for session in sessions:
            session.close()


def _read_one(session: Session, table: Table | None, method: Method, coverage: Coverage, readings: _Readings) -> None:
    """Read one table, or the large objects where ``table`` is None; what goes wrong is kept as a sentence."""
    try:
        if table is None:
            readings.large_objects = content_hash.hash_large_objects(session, method, coverage)
        else:
            readings.contents[table.name] = content_hash.hash_table(session, table, method, coverage)
        return
    except RunbookError as error:
        said = error.message
    except psycopg2.Error as error:
        said = f"it could not be read ({ServerError.of(error).reason})"
    if table is None:
        readings.large_objects_error = said
    else:
        readings.errors[table.name] = said


def _cancel(session: Session) -> None:
    """End what the session runs, so that its thread comes back."""
    try:
        session.connection.cancel()
    except psycopg2.Error:
        session.close()
