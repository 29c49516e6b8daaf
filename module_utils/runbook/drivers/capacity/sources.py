"""Where quantities are read: a database, Supabase's API, Prometheus, a bucket. Everything here only reads.

A source that gives nothing says why in a sentence, as ``unknown``.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg2
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.observe.prometheus import SILENT
from ansible.module_utils.runbook.drivers.postgres.postgres import cause, table
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import parse_qualified
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible.module_utils.runbook.drivers.observe.prometheus import Prometheus
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.drivers.s3.s3 import Store
    from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase

#: Seconds between two samples of Prometheus: a day has eight, and a history of 400 days is within its 11,000.
STEP_S = 3 * 3600

_CONNECTIONS = """
SELECT (SELECT sum(numbackends) FROM pg_stat_database WHERE datname IS NOT NULL)::float AS used,
  sum(CASE WHEN name = 'max_connections' THEN setting::int ELSE -setting::int END)::float AS most
FROM pg_settings WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
"""
_TABLES = """
SELECT n.nspname || '.' || c.relname AS name, pg_total_relation_size(c.oid) AS size_bytes
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 2 DESC NULLS LAST, 1 LIMIT %s
"""


# A database ---------------------------------------------------------------------------------------------------------


def database_size(session: Session) -> float:
    """Bytes of the database."""
    return _number(session, "SELECT pg_database_size(current_database())")


def table_size(session: Session, name: str) -> float:
    """Bytes of a table with its indexes and TOAST.

    :raises RunbookError: there is no such table
    """
    quoted = table(parse_qualified(name)).as_string(session.connection)
    return _number(session, "SELECT pg_total_relation_size(to_regclass(%s))", [quoted], f"there is no table {name}")


def connections(session: Session) -> tuple[float, float]:
    """Connections just now, and how many there may be without those that are kept for superusers."""
    (row,) = _rows(session, _CONNECTIONS)
    return row["used"], row["most"]


def of_query(session: Session, query: str) -> float:
    """The one number that a query of the inventory gives; it can change nothing."""
    with session.transaction():
        session.query("SET TRANSACTION READ ONLY")
        return _number(session, sql.SQL(query))


def tables(session: Session, most: int) -> list[dict[str, Any]]:
    """The largest tables with their bytes."""
    return _rows(session, _TABLES, [most])


def _number(session: Session, query: Any, values: list[Any] | None = None, nothing: str = "it gave no number") -> float:
    rows = _rows(session, query, values)
    value = next(iter(rows[0].values()), None) if len(rows) == 1 and len(rows[0]) == 1 else None
    try:
        found = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise _unknown(f"{nothing}; it has to give one row with one number")
    return found


def _rows(session: Session, query: Any, values: list[Any] | None = None) -> list[dict[str, Any]]:
    try:
        return session.query(query, values)
    except psycopg2.Error as error:
        raise _unknown(f"the server refused it: {cause(error)}") from None


# Prometheus ---------------------------------------------------------------------------------------------------------


def over_time(service: Prometheus, query: str, *, days: int, now: datetime) -> list[list[tuple[datetime, float]]]:
    """Samples of each series of a query, as far back as Prometheus has them."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        found = service.over_time(query, begin=midnight - timedelta(days=days), end=now, step_s=STEP_S)
    except RunbookError as error:
        raise _unknown(error.message.rstrip("."), **({"code": error.code} if error.code else {})) from None
    if not found:
        asked = f"{count(days, 'day')}, of which each {STEP_S // 3600} hours were asked for"
        fix = "see whether its metric is newer than that, has another name now, or lost its exporter"
        raise _unknown(f"the query gave no sample of {asked}; {fix}")
    return [[(datetime.fromtimestamp(at, UTC), value) for at, value in each.points] for each in found]


# Supabase -----------------------------------------------------------------------------------------------------------


def requests(project: Supabase) -> Iterator[tuple[datetime, float]]:
    """Requests to its APIs in the last seven days, hour by hour."""
    for row in _result(_asked(lambda: project.usage("usage.api-counts", interval="7day"))):
        counts = [
            float(value) for name, value in row.items() if name.startswith("total_") and name.endswith("_requests")
        ]
        if not counts:
            raise _unknown("Supabase answered with no number of requests")
        yield _moment(row.get("timestamp")), sum(counts)


def function_runs(project: Supabase) -> float:
    """Runs of all edge functions in the last 24 hours."""
    functions = _asked(project.functions)
    if not isinstance(functions, list) or not all(isinstance(each, dict) and "id" in each for each in functions):
        raise _unknown("Supabase answered with no list of functions")
    total = 0.0
    for each in functions:
        asked = partial(project.usage, "functions.combined-stats", interval="1day", function_id=str(each["id"]))
        for row in _result(_asked(asked)):
            if not isinstance(row.get("requests_count"), (int, float)):
                raise _unknown("Supabase answered with no requests_count of a function")
            total += row["requests_count"]
    return total


def disk(project: Supabase) -> tuple[float, float]:
    """Bytes of the project's disk that are used, and that there are."""
    said = _asked(project.disk)
    try:
        metrics = said["metrics"]
        return float(metrics["fs_used_bytes"]), float(metrics["fs_size_bytes"])
    except (LookupError, TypeError, ValueError):
        raise _unknown("Supabase answered with no use of its disk") from None


def _result(said: Any) -> list[dict[str, Any]]:
    # It says that it failed with a status that says yes.
    if not isinstance(said, dict) or said.get("error") or not isinstance(said.get("result"), list):
        raise _unknown("Supabase could not count")
    return [row for row in said["result"] if isinstance(row, dict)]


def _moment(value: object) -> datetime:
    """When a row begins: ISO 8601, or microseconds since 1970."""
    try:
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value / 1e6, UTC)
        found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        raise _unknown("Supabase answered with a time that is none") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# Files ---------------------------------------------------------------------------------------------------------------


def text_of(path: str) -> str:
    """A file on this machine, as much of it as a file of rules has."""
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - read with a bound
        return file.read(1 << 20)


# A bucket -----------------------------------------------------------------------------------------------------------


def stored(store: Store, prefix: str, *, cold_before: datetime, tick: Callable[[int], None]) -> tuple[float, int]:
    """Bytes of the objects below a prefix; and of those in the class STANDARD that are older than a moment.

    :param tick: is told how many objects were counted, and may raise
    """
    total = cold = 0
    try:
        for number, entry in enumerate(store.entries(prefix), start=1):
            total += entry.size_bytes
            if entry.modified_at < cold_before and entry.storage_class == "STANDARD":
                cold += entry.size_bytes
            tick(number)
    except RunbookError as error:
        raise _unknown(error.message.rstrip(".")) from None
    return float(total), cold


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except ApiError as error:
        silent = error.http_status is None or error.http_status >= 500
        raise _unknown(error.message.rstrip("."), **({"code": SILENT} if silent else {})) from None


def _unknown(message: str, **context: str) -> RunbookError:
    return RunbookError(message, status=Status.UNKNOWN, **context)
