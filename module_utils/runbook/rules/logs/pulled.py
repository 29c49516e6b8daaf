"""Which spans of a provider's log are fetched next, and what its rows look like as lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The longest span that Supabase answers for, in whole minutes.
WINDOW = timedelta(hours=24)
#: The logs of a project, by the values of the column ``source`` (supabase.com/docs/guides/telemetry/logs).
SUPABASE = (
    "auth_logs", "edge_logs", "function_edge_logs", "function_logs", "pg_cron_logs", "pgbouncer_logs", "postgres_logs",
    "postgrest_logs", "realtime_logs", "storage_logs", "supavisor_logs",
)  # fmt: skip
#: Rows that are asked for at once.
PAGE = 1000


@dataclass(frozen=True)
class Window:
    """From a minute on until before another one, in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True)
class Plan:
    """What is fetched, and what cannot be any more."""

    windows: tuple[Window, ...]
    #: Lines of this span are lost: the provider keeps them no more.
    gap: Window | None


def plan(fetched_until: datetime | None, now: datetime, *, kept_days: int, settle_s: int) -> Plan:
    """What to fetch next: from where the last fetch ended until a moment that no line comes late for.

    :param fetched_until: None where nothing was fetched yet; then all that the provider still has
    :param kept_days: how long the provider keeps lines
    :param settle_s: how late a line may come

    >>> from datetime import datetime, UTC
    >>> now = datetime(2026, 6, 3, 0, 10, 30, tzinfo=UTC)
    >>> [f"{w.since:%d %H:%M}" for w in plan(None, now, kept_days=1, settle_s=300).windows]
    ['02 00:11', '03 00:00']
    """
    end = _minute(now - timedelta(seconds=settle_s))
    oldest = _minute(now - timedelta(days=kept_days)) + timedelta(minutes=1)
    begin = max(fetched_until or oldest, oldest)
    gap = Window(fetched_until, oldest) if fetched_until is not None and fetched_until < oldest else None
    windows = []
    while begin < end:
        # Cut at midnight too, so that an archive is of one day.
        midnight = begin.replace(hour=0, minute=0) + timedelta(days=1)
        until = min(end, midnight, begin + WINDOW)
        windows.append(Window(begin, until))
        begin = until
    return Plan(tuple(windows), gap)


def _minute(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(second=0, microsecond=0)


def count_sql(log: str, window: Window) -> str:
    """How many lines a window has, in ClickHouse's SQL."""
    return f"select count() as lines from logs where {_where(log, window)}"  # noqa: S608 - names of ours, and times


def page_sql(log: str, window: Window, offset: int) -> str:
    """Some of them, in an order that stays."""
    return (
        "select id, timestamp, severity_text, event_message, log_attributes from logs "  # noqa: S608 - as above
        f"where {_where(log, window)} order by timestamp, id limit {PAGE} offset {offset}"
    )


def _where(log: str, window: Window) -> str:
    if log not in SUPABASE:
        raise RunbookError(f"log: {log!r} is none; name one of {', '.join(SUPABASE)}.")
    times = " and ".join(
        f"timestamp {sign} toDateTime64('{at:%Y-%m-%d %H:%M:%S}', 6, 'UTC')"
        for sign, at in ((">=", window.since), ("<", window.until))
    )
    return f"source = '{log}' and {times}"


def rows(said: Any) -> list[Mapping[str, Any]]:
    """The rows of an answer. The service says that it failed with a status that says yes.

    :raises RunbookError: there are none; what it says of the reason may quote a line, and is not told
    """
    found = said.get("result") if isinstance(said, dict) and not said.get("error") else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise RunbookError(
            "Supabase answered with something that is no result of a query on logs; try one in its Logs Explorer, and "
            "run again.",
            status=Status.UNKNOWN,
        )
    return found


def lines(found: list[Mapping[str, Any]]) -> Iterator[bytes]:
    """Rows as lines of JSON, with their time first."""
    for row in found:
        at = row.get("timestamp")
        if isinstance(at, (int, float)):
            # Microseconds since 1970.
            at = datetime.fromtimestamp(at / 1e6, UTC).isoformat()
        said = {"timestamp": at} | {key: row[key] for key in sorted(row) if key != "timestamp"}
        yield json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
