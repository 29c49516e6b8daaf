"""What a database holds, the live one and the restored one, as a drill compares them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2
from ansible.module_utils.runbook.drivers.backup import proof
from ansible.module_utils.runbook.drivers.drill.folder import now
from ansible.module_utils.runbook.drivers.drill.servers import connect
from ansible.module_utils.runbook.drivers.postgres import integrity
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres import postgres
    from ansible.module_utils.runbook.rules.postgres.content_hash import Method
    from ansible.module_utils.runbook.rules.postgres.integrity import SequenceUse
    from ansible.module_utils.runbook.rules.status import Check

First = TypeVar("First")
Second = TypeVar("Second")


def server_clock(session: postgres.Session) -> tuple[datetime, datetime, datetime]:
    """When the server was asked, what its clock said, when the answer came."""
    asked = now()
    said = session.query("SELECT clock_timestamp() AS now")[0]["now"]
    return asked, said, now()


_COLUMNS = """
SELECT n.nspname || '.' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) AS name
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'runbook') ORDER BY 1
"""


def columns(session: postgres.Session) -> list[str]:
    """Columns that the application sees, as ``schema.table.column type``."""
    return [str(row["name"]) for row in session.query(_COLUMNS)]


def contents(target: postgres.Target, method: Method) -> dict[str, tuple[Any, ...]]:
    """Rows and hash of each table but the project's own; a table that cannot be read has None and the sentence why."""
    found = proof.read(lambda: connect(target), method=method, coverage="all", jobs=2, check=lambda: None)
    read: dict[str, tuple[Any, ...]] = {str(name): (each.rows, each.digest) for name, each in found.contents.items()}
    read |= {str(name): (None, why) for name, why in found.errors.items()}
    return {name: each for name, each in read.items() if not name.startswith("runbook.")}


def heartbeats(session: postgres.Session) -> dict[int, int]:
    """What clients wrote and a database holds: microseconds since 1970 by number; empty where there is no table.

    :raises RunbookError: it cannot be read
    """
    if not session.query("SELECT 1 FROM pg_tables WHERE schemaname = 'runbook' AND tablename = 'heartbeat'"):
        return {}
    try:
        rows = session.query("SELECT id, (extract(epoch FROM beat_at) * 1000000)::bigint AS us FROM runbook.heartbeat")
    except psycopg2.Error as error:
        raise RunbookError(
            f"runbook.heartbeat of {session.target} cannot be read: {ServerError.of(error).reason}."
        ) from None
    return {int(row["id"]): int(row["us"]) for row in rows}


def last_replayed(session: postgres.Session) -> datetime | None:
    """Time of the last commit that a recovery replayed; None on a server that did not recover."""
    at: datetime | None = session.query("SELECT pg_last_xact_replay_timestamp() AS at")[0]["at"]
    return at


def sizes(session: postgres.Session) -> int:
    """Bytes of the database."""
    return int(session.query("SELECT pg_database_size(current_database()) AS bytes")[0]["bytes"])


def integrity_findings(
    target: postgres.Target,
    smoke: Sequence[dict[str, Any]],
    judge: Callable[[SequenceUse], Check],
    check: Callable[[], None],
) -> list[Check]:
    """Everything that M(pg_integrity) asks, amcheck too.

    :param check: is called now and then; what it raises stops the asking
    """
    with connect(target) as session:
        findings, questions = integrity.questions(
            session, ["sequences", "foreign_keys", "indexes", "amcheck", "smoke"], smoke, judge
        )
    asked = integrity.Inquiry(target, jobs=2, deadline_s=3600, lock_timeout_ms=5_000)
    return findings + asked.ask(questions, lambda _done, _of: check())


def side_by_side(first: Callable[[Callable[[], None]], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Do two things at once, so that neither leaves a core idle at its end.

    :param first: runs in a thread of its own; it calls its argument now and then, which raises once ``second`` failed
    """
    failed = threading.Event()

    def check() -> None:
        if failed.is_set():
            raise RunbookError("Stopped.")

    with ThreadPoolExecutor(max_workers=1) as pool:
        begun = pool.submit(first, check)
        try:
            done = second()
        except BaseException:
            failed.set()
            raise
        return begun.result(), done
