"""Whether a connection has a server session of its own.

Session settings, session-level advisory locks and VACUUM need one server session from beginning to end. A connection
pooler may take it away: in transaction mode PgBouncer and Supavisor give a client another server session with every
transaction, so a lock is taken in one session and looked for in another, and a ``search_path`` that was set for us
stays behind for whoever comes next.

A pooler gives itself away: it tells the client a process id of its own invention when the connection starts, so libpq's
process id differs from ``pg_backend_pid()``.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.extensions
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable

Connection = psycopg2.extensions.connection

#: How often two idle clients are asked for the process that serves them. Where sessions are shared, one of them shows
#: the other's process, or another one than before, at the first or second look; the rest is for pools under load.
LOOKS = 5
#: A pooler whose pool is exhausted keeps a client waiting; longer than this nobody waits for a probe.
PROBE_TIMEOUT_S = 10
#: Poolers that were seen to be in session mode. A second look would cost each further session one more of the pool.
_in_session_mode: set[str] = set()


def is_pooled(connection: Connection) -> bool:
    """Whether somebody stands between this connection and the server's process.

    :param connection: with autocommit on
    """
    return _server_pid(connection) != connection.get_backend_pid()


def require_session(connection: Connection, connect: Callable[[], Connection], target: str) -> None:
    """Refuse a connection that has no server session of its own; a direct one costs a single statement.

    Nothing is set on any server session meanwhile, because a transaction pooler would hand it on to an application.

    :param connection: with autocommit on, and idle
    :param connect: opens one more client of the same target
    :param target: how the target is named in the error
    :raises RunbookError: it goes through a pooler in transaction or statement mode, or through one that has no second
        session to give
    :raises psycopg2.Error: the connection failed
    """
    first = _server_pid(connection)
    if first == connection.get_backend_pid() or target in _in_session_mode:
        return
    if _shares(connection, first, connect, target):
        raise RunbookError(
            f"{target} is a connection pooler in transaction mode, which gives every transaction another server "
            "session: locks, settings and VACUUM need one session. Use the server's own address, or the pooler in "
            "session mode (Supabase: the direct host or the session pooler on port 5432 instead of 6543; PgBouncer: a "
            "database entry with pool_mode=session)."
        )
    _in_session_mode.add(target)


def _server_pid(connection: Connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_backend_pid()")
        return int(cursor.fetchall()[0][0])


def _shares(
    connection: Connection,
    first: int,
    connect: Callable[[], Connection],
    target: str,
) -> bool:
    """Whether an idle client's server session is handed to another client, or changes under its feet."""
    other, second = _probe(connect, target)
    try:
        return first == second or any(
            _server_pid(connection) != first or _server_pid(other) != second for _ in range(LOOKS)
        )
    finally:
        other.close()


def _probe(connect: Callable[[], Connection], target: str) -> tuple[Connection, int]:
    """One more client and the process id that serves it, within :data:`PROBE_TIMEOUT_S`."""
    answers: queue.Queue[tuple[Connection, int] | Exception] = queue.Queue()
    late = threading.Event()

    def ask() -> None:
        try:
            made = connect()
            made.autocommit = True
            answer = (made, _server_pid(made))
        except Exception as error:
            answers.put(error)
            return
        answers.put(answer)
        if late.is_set():
            with contextlib.suppress(psycopg2.Error):
                made.close()

    # libpq offers no bound for a client that the pooler keeps waiting, so the wait is left to a thread.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PROBE_TIMEOUT_S)
    except queue.Empty:
        late.set()
        raise RunbookError(
            f"{target} is a connection pooler that gave no second session within {PROBE_TIMEOUT_S} s; raise its "
            "pool size, or use the server's own address."
        ) from None
    if isinstance(answer, Exception):
        if isinstance(answer, (psycopg2.Error, RunbookError)):
            raise RunbookError(
                f"{target} is a connection pooler that gave no second session; raise its pool size, or use the "
                "server's own address."
            ) from None
        raise answer
    return answer
