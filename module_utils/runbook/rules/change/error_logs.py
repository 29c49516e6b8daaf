"""Errors in the logs after a change, compared with before: when they are more, and when nobody can tell.

What is compared is the number of errors in a minute. It varies by chance alone: errors that have nothing to do with
each other come as a Poisson process, whose standard deviation is the root of its mean. So after the work there may be
as many as the rate before times a factor gives, and two standard deviations more; and a handful in any case. With a
factor of 2 and a handful of 5, chance alone exceeds that in fewer than 5 of 100 changes, whatever the rate
(``tests/unit/change/test_error_logs_rules.py``).

Lines of a log can hold anything, health data too. Nothing here holds a line; figures are all that is kept.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.backend import Needs, check_options
from ansible.module_utils.runbook.rules.observe.access import Access
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.rules.change.change import Change

BACKENDS = {
    "prometheus": Needs(("prometheus_url", "prometheus_query"), Access.options("prometheus")),
    "loki": Needs(("loki_url", "loki_query", "loki_lines_query"), (*Access.options("loki"), "loki_tenant")),
    "supabase": Needs(("project_ref", "access_token", "supabase_sql"), ("api_url",)),
    "file": Needs(("file_path", "file_pattern")),
}
#: What stands for the span in a query, as Grafana has it.
RANGE = "$__range"
#: The item that has the count of before the work, after the name of the one that compares.
BEFORE = "_before"
#: The item that says when the work ended.
WORK = "work"
#: Seconds that a service cuts off a span, because it knows whole minutes only.
CUT_S = {"supabase": 120}
_PROOF = re.compile(r"(\d+) errors in (\d+) s(?: of (\d+) lines)?")
_DEVIATIONS = 2.0
#: Where a line says its time, it does so in its first characters.
_TIME_CHARS = 300
#: A time as most logs write it at the beginning of a line: ISO 8601, or with slashes as nginx does.
_TIME = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,6})\d*)?"
    r"\s?(Z\b|UTC\b|GMT\b|[+-]\d\d(?::?\d\d)?\b)?"
)
#: As loggers that write JSON have it, in seconds or milliseconds.
_EPOCH = re.compile(r'"(?:time|ts|timestamp)":\s?(\d{10})(?:\d{3})?\b')


@dataclass(frozen=True)
class Span:
    """From a moment until before another one, in UTC."""

    since: datetime
    until: datetime

    @property
    def s(self) -> int:
        """How many seconds."""
        return int((self.until - self.since).total_seconds())

    def __contains__(self, at: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.since <= at < self.until

    def whole_minutes(self) -> Span:
        """The whole minutes of it, of the last 24 hours at most: Supabase knows no others.

        :raises RunbookError: there is none
        """
        until = self.until.replace(second=0, microsecond=0)
        since = max(self.since, until - timedelta(hours=24)) + timedelta(minutes=1, microseconds=-1)
        made = Span(since.replace(second=0, microsecond=0), until)
        if made.s <= 0:
            raise _unknown("Supabase counts whole minutes, and none has passed yet; look at the logs.")
        return made


@dataclass(frozen=True)
class Count:
    """How many errors came in a span."""

    errors: int
    span_s: int
    #: Of how many lines; None where only errors are counted.
    lines: int | None = None

    @classmethod
    def of_row(cls, rows: Any, span: Span) -> Count:
        """Of the one row that ``supabase_sql`` has to give; ClickHouse writes large numbers as text.

        :raises RunbookError: it is something else, or there is no line at all
        """
        try:
            (row,) = rows
            found = cls(int(row["errors"]), span.s, int(row["lines"]))
        except (TypeError, ValueError, KeyError):
            raise RunbookError(
                "supabase_sql: it gave something else than one row with the numbers errors and lines; see the manual "
                "of change_error_logs."
            ) from None
        if not found.lines:
            raise _unknown("supabase_sql: there is no line at all in that time; see that it asks the right source.")
        return found

    @property
    def per_minute(self) -> float:
        """Errors in a minute."""
        return self.errors * 60 / self.span_s

    @property
    def proof(self) -> str:
        """As it stands in the change.

        >>> Count(12, 1800, 340).proof
        '12 errors in 1800 s of 340 lines'
        """
        return f"{self.errors} errors in {self.span_s} s{'' if self.lines is None else f' of {self.lines} lines'}"

    def __str__(self) -> str:
        """For the middle of a sentence."""
        minutes = f"{self.span_s / 60:.0f} min" if self.span_s >= 120 else f"{self.span_s} s"
        return f"{count(self.errors, 'error')} in {minutes} ({self.per_minute:.2g} a minute)"


def before(change: Change | None, item: str) -> Count | None:
    """What was counted before the work; None where nobody counted, or nobody could.

    :param item: the one that compares
    """
    found = change.items.get(item + BEFORE) if change else None
    read = _PROOF.fullmatch(found.proof) if found else None
    if read is None or not int(read[2]):
        return None
    return Count(int(read[1]), int(read[2]), int(read[3]) if read[3] else None)


def work_ended(change: Change) -> datetime:
    """When the work of a change ended; when it was opened, where nobody said so."""
    said = change.items.get(WORK)
    return datetime.fromisoformat(said.at).astimezone(UTC) if said else change.opened_at


@dataclass(frozen=True)
class Rule:
    """When errors are more than before."""

    #: How many times as many in a minute are the same still.
    max_ratio: float
    #: Fewer errors than this are no finding, whatever was before.
    min_errors: int
    #: A span after the work that is shorter says nothing.
    min_span_s: int

    def limit(self, earlier: Count, span_s: float) -> int:
        """How many errors there may be in a span.

        >>> Rule(2.0, 5, 300).limit(Count(60, 1800), 300)
        28
        """
        mean = self.max_ratio * earlier.errors * span_s / earlier.span_s
        return max(self.min_errors - 1, math.floor(mean + _DEVIATIONS * math.sqrt(mean)))

    def judge(self, earlier: Count | None, now: Count) -> Check:
        """Compare a count of after the work with the one of before."""
        if now.span_s < self.min_span_s:
            return Check.unknown(
                "error_logs",
                f"Only {now.span_s} s have been counted since the work ended, and {self.min_span_s} s are needed; "
                "look at the logs.",
            )
        if now.lines == 0 and (earlier is None or earlier.lines != earlier.errors):
            # A log of nothing but errors may be silent.
            return Check.unknown("error_logs", "Nothing at all was logged since the work ended; see that it still is.")
        if now.errors == 0:
            return Check.ok("error_logs", f"{now} after the work.")
        if earlier is None:
            return Check.unknown(
                "error_logs", f"{now} after the work, and nobody counted before it; look whether they are new."
            )
        said = f"{now} after the work, {earlier} before it"
        limit = self.limit(earlier, now.span_s)
        if now.errors > limit:
            return Check.breach(
                "error_logs",
                f"{said}; more than {limit} are no chance any more. Look at the logs, and go back by the change's "
                "rollback plan where the work is the cause.",
            )
        return Check.ok("error_logs", f"{said}.")


def check(params: Mapping[str, Any]) -> Rule:
    """The rule that the options of ``change_error_logs`` give, after they were looked at.

    :raises RunbookError: names the option and the fix
    """
    check_options(params, BACKENDS)
    if not params["max_ratio"] >= 1:
        raise RunbookError(f"max_ratio: {params['max_ratio']:g} would call fewer errors more; give 1 or more.")
    for name in ("prometheus_query", "loki_query", "loki_lines_query"):
        if params[name] and RANGE not in params[name]:
            raise RunbookError(
                f"{name}: it has no {RANGE}, the span that is counted; write it as [{RANGE}] where a duration stands."
            )
    return Rule(params["max_ratio"], params["min_errors"], params["min_span_s"])


@dataclass(frozen=True)
class Lines:
    """How the lines of a log are read."""

    #: Is found in one that is an error.
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, pattern: str) -> Lines:
        """As the module's option says.

        :raises RunbookError: it is no regular expression
        """
        try:
            return cls(re.compile(pattern))
        except re.error as error:
            raise RunbookError(f"file_pattern: {pattern!r} is no regular expression ({error}); correct it.") from None

    @staticmethod
    def time_of(line: str) -> datetime | None:
        """When a line was written; without a zone it is this machine's time. None where it does not say.

        >>> Lines.time_of("2026-11-29T02:00:00.5+01:00 ERROR").isoformat()
        '2026-11-29T01:00:00.500000+00:00'
        """
        found = _TIME.search(line[:_TIME_CHARS])
        if found is None:
            since_1970 = _EPOCH.search(line[:_TIME_CHARS])
            return datetime.fromtimestamp(int(since_1970[1]), UTC) if since_1970 else None
        zone = found[8] or ""
        if zone[:1] in ("+", "-"):
            digits = zone[1:].replace(":", "").ljust(4, "0")
            zone = f"{zone[0]}{digits[:2]}:{digits[2:]}"
        elif zone:
            zone = "+00:00"
        day, clock = "-".join(found.group(1, 2, 3)), ":".join(found.group(4, 5, 6))
        try:
            return datetime.fromisoformat(f"{day}T{clock}.{(found[7] or '').ljust(6, '0')}{zone}").astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def is_error(self, line: str) -> bool:
        """Whether a line is one."""
        return self.pattern.search(line) is not None


def _unknown(message: str) -> RunbookError:
    return RunbookError(message, status=Status.UNKNOWN)
