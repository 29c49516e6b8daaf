"""Read what a restored database holds, so that ``rules/proof.py`` can compare it with the manifest."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg2
from ansible.module_utils.runbook.drivers import content_hash
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.proof import Found

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.postgres import Session
    from ansible.module_utils.runbook.rules.content_hash import Content, Coverage, Method, Table
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

#: Seconds between two looks at the deadline while tables are being read.
_TICK_S = 0.1


@dataclass
class _Readings:
    """What the workers found so far; each entry is written by one of them."""

    contents: dict[QualifiedName, Content] = field(default_factory=dict)
    errors: dict[QualifiedName, str] = field(default_factory=dict)
    large_objects: Content | None = None
    large_objects_error: str = ""


def read(
    connect: Callable[[], Session],
    *,
    method: Method,
    coverage: Coverage,
    jobs: int,
    check: Callable[[], None],
    on_bytes: Callable[[int, int], None] | None = None,
) -> Found:
    """Count and hash every table of a database, and its large objects, the biggest first.

    :param connect: gives a new session in the database; it is called once a job, and the sessions are closed here
    :param method: how the manifest's server hashed; the same is asked of this one
    :param coverage: as in the manifest: a sample is compared with a sample
    :param jobs: tables that are read at the same time
    :param check: is called now and then; what it raises stops the reading
    :param on_bytes: is told how many bytes of tables are through, of how many
    :raises RunbookError: no connection
    """
    sessions: list[Session] = []
    try:
        for _ in range(max(1, jobs)):
            sessions.append(connect())
            content_hash.settle(sessions[-1])
        probe = content_hash.probe(sessions[0], method)
        tables = content_hash.read_tables(sessions[0])
        readings = _Readings()
        # Large objects have no size that is cheap to ask for; in doubt they take long, so they go first.
        todo: deque[Table | None] = deque([None, *sorted(tables, key=lambda each: -each.size_bytes)])
        total = sum(each.size_bytes for each in tables)
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
        # Its class only: the text may hold a value of a row.
        said = f"it could not be read ({type(error).__name__})"
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
