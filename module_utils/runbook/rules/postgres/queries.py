"""Which queries cost the server most: by all time together, by the mean call, by temporary files, by WAL.

The figures are those of pg_stat_statements. They add up since its last reset; what happened since an earlier look is
the difference of two looks, as long as nothing was reset between them.

No literal is ever shown. pg_stat_statements puts ``$1`` in its place in queries, but not in other statements (before
PostgreSQL 16 in none of them), nor in comments, nor where it has lost the query's tree. So :func:`masked` takes out of
every text what may be a value.

>>> masked("ALTER ROLE app PASSWORD 'hunter2' -- for Anna")
'ALTER ROLE app PASSWORD ?'
>>> masked('SELECT "a b" FROM t1 WHERE x = $1 LIMIT 10')
'SELECT "a b" FROM t1 WHERE x = $1 LIMIT ?'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.rules.findings import Finding, finding_id
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

Measure = Literal["total", "mean", "temp", "wal"]

MAX_TEXT = 2000
#: What is called less often is a job, and nobody waits for it.
MIN_CALLS = 10
#: A query that writes this much to temporary files in each call would be helped by more work_mem.
SPILL_BYTES = 64 << 20
#: Statements of less than this share of all time are not kept for the next look, and not more than so many.
KEPT_SHARE = 0.0001
KEPT = 1000
PAGE_BYTES = 8192

_VALUE = re.compile(
    r"""
    (?P<kept>\$\d+ | "(?:[^"]|"")*(?:"|$))
  | (?P<comment>--[^\n]*|/\*)
  | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$)
  | (?P<text>(?:\b[uU]&|\b[eEbBxXnN])?')
  | (?P<number>(?<![\w$.])\.?\d[\w.]*(?:(?<=[eE])[+-]\d+)?)
    """,
    re.VERBOSE,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
#: ``SET name TO value``, where a value needs no quotes; in ALTER ROLE and the like too.
_ASSIGNED = re.compile(
    r"""(?P<head>\bSET\s+(?:(?:SESSION|LOCAL)\s+)?(?:[\w.]|"[^"]*")+\s*(?:=|\bTO\b)\s*)[^;]*""", re.IGNORECASE
)
_SETTING = re.compile(r"\s*(SET|ALTER|CREATE)\b", re.IGNORECASE)
_QUERY = re.compile(r"[\s(]*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|TABLE)\b", re.IGNORECASE)


def masked(text: str) -> str:
    """The statement without any literal or comment, in one line, cut after 2,000 characters.

    Where the end of a literal is not certain, all that follows is taken for a part of it.
    """
    parts, position = [], 0
    while True:
        match = _VALUE.search(text, position)
        if match is None:
            parts.append(text[position:])
            break
        parts.append(text[position : match.start()])
        position = match.end()
        if match["kept"]:
            parts.append(match["kept"])
        elif match["comment"]:
            position = position if match["comment"] != "/*" else _comment_end(text, position)
            parts.append(" ")
        else:
            if match["dollar"]:
                end = text.find(match["dollar"], position)
                position = len(text) if end < 0 else end + len(match["dollar"])
            elif match["text"]:
                position = _literal_end(text, position, escapes=match["text"][0] in "eE")
            parts.append("?")
    plain = " ".join("".join(parts).split())
    if _SETTING.match(plain):
        plain = _ASSIGNED.sub(r"\g<head>?", plain)
    return plain if len(plain) <= MAX_TEXT else f"{plain[:MAX_TEXT]} …"


def _comment_end(text: str, position: int) -> int:
    """Where a comment that was opened before ``position`` ends; comments may hold comments."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, position)
        if edge is None:
            return len(text)
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position


def _literal_end(text: str, position: int, *, escapes: bool) -> int:
    r"""Where a literal in single quotes ends whose first character is at ``position``.

    :param escapes: ``\'`` belongs to it for certain (E''); else that depends on a setting, and nobody knows
    """
    while position < len(text):
        if text[position] == "\\":
            if text[position + 1 : position + 2] == "'" and not escapes:
                return len(text)
            position += 2
        elif text.startswith("''", position):
            position += 2
        elif text[position] == "'":
            return position + 1
        else:
            position += 1
    return len(text)


def is_query(text: str) -> bool:
    """Whether it reads or writes rows, and is no utility statement."""
    return _QUERY.match(text) is not None


@dataclass(frozen=True)
class Counters:
    """What pg_stat_statements has counted of one statement, added up over users and nesting."""

    calls: int = 0
    total_ms: float = 0.0
    rows: int = 0
    hit_pages: int = 0
    read_pages: int = 0
    temp_pages: int = 0
    wal_bytes: int = 0

    def since(self, earlier: Counters | None) -> Counters:
        """What was added since; all of it, where an entry was thrown out meanwhile and started over."""
        if earlier is None or any(getattr(self, one.name) < getattr(earlier, one.name) - 1e-3 for one in fields(self)):
            return self
        return Counters(**{one.name: getattr(self, one.name) - getattr(earlier, one.name) for one in fields(self)})

    def plus(self, other: Counters) -> Counters:
        """Both together."""
        return Counters(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})

    @property
    def mean_ms(self) -> float:
        """Milliseconds of a call."""
        return self.total_ms / self.calls if self.calls else 0.0

    @property
    def temp_bytes(self) -> int:
        """Bytes written to temporary files."""
        return self.temp_pages * PAGE_BYTES

    def packed(self) -> list[float]:
        """As numbers in the order of the fields, for the record."""
        return [round(getattr(self, one.name), 3) for one in fields(self)]

    @classmethod
    def unpacked(cls, numbers: Sequence[float]) -> Counters | None:
        """The reverse of :meth:`packed`; None for what is not such a list."""
        names = [one.name for one in fields(cls)]
        if len(numbers) != len(names) or not all(isinstance(number, (int, float)) for number in numbers):
            return None
        return cls(**dict(zip(names, numbers, strict=True)))  # type: ignore[arg-type] # fields are int and float


@dataclass(frozen=True)
class Look:
    """The counters at one moment."""

    #: Of the server, and name of the database.
    identity: str
    at: datetime
    #: When pg_stat_statements was reset last; None: nobody knows.
    reset_at: datetime | None
    #: By queryid.
    statements: Mapping[str, Counters]


@dataclass(frozen=True)
class Window:
    """What happened between two looks, or since the last reset."""

    statements: Mapping[str, Counters]
    #: Since when; None: nobody knows.
    since: datetime | None
    compared: bool
    #: Whether counters were reset between the looks.
    was_reset: bool

    def whole(self) -> Counters:
        """All statements together."""
        whole = Counters()
        for counters in self.statements.values():
            whole = whole.plus(counters)
        return whole


def window(now: Look, earlier: Look | None) -> Window:
    """What happened since the earlier look; since the last reset, where there is no look or it came in between."""
    if earlier is None:
        return Window(now.statements, now.reset_at, compared=False, was_reset=False)
    if now.reset_at != earlier.reset_at:
        return Window(now.statements, now.reset_at, compared=False, was_reset=True)
    statements = {}
    for query_id, counters in now.statements.items():
        added = counters.since(earlier.statements.get(query_id))
        if added.calls:
            statements[query_id] = added
    return Window(statements, earlier.at, compared=True, was_reset=False)


def kept(look: Look) -> dict[str, list[float]]:
    """Counters for the next look. What is left out is too little to matter, and counts as nothing then."""
    whole = sum(counters.total_ms for counters in look.statements.values())
    heavy = sorted(look.statements.items(), key=lambda item: -item[1].total_ms)[:KEPT]
    return {query_id: counters.packed() for query_id, counters in heavy if counters.total_ms >= KEPT_SHARE * whole}


_MEASURES: Mapping[Measure, Callable[[Counters], float]] = {
    "total": lambda one: one.total_ms,
    "mean": lambda one: one.mean_ms,
    "temp": lambda one: one.temp_pages,
    "wal": lambda one: one.wal_bytes,
}


def heaviest(of: Window, top: int) -> dict[Measure, list[str]]:
    """The ``top`` queryids by each measure, the heaviest first; what is 0 is not among them."""
    found: dict[Measure, list[str]] = {}
    for measure, value in _MEASURES.items():
        weighed = sorted(of.statements, key=lambda one: (-value(of.statements[one]), one))
        found[measure] = [one for one in weighed[:top] if value(of.statements[one]) > 0]
    return found


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def describe(query_id: str, text: str, counters: Counters, whole: Counters) -> dict[str, Any]:
    """One statement with its share of the whole.

    :param text: masked
    """
    pages = counters.hit_pages + counters.read_pages
    return {
        "query_id": query_id,
        "query": text,
        "calls": counters.calls,
        "total_ms": round(counters.total_ms, 3),
        "total_percent": _percent(counters.total_ms, whole.total_ms),
        "mean_ms": round(counters.mean_ms, 3),
        "rows_per_call": round(counters.rows / counters.calls, 1) if counters.calls else 0.0,
        "cache_hit_percent": _percent(counters.hit_pages, pages) if pages else None,
        "read_bytes": counters.read_pages * PAGE_BYTES,
        "temp_bytes": counters.temp_bytes,
        "temp_percent": _percent(counters.temp_pages, whole.temp_pages),
        "wal_bytes": counters.wal_bytes,
        "wal_percent": _percent(counters.wal_bytes, whole.wal_bytes),
    }


def judge(entries: Iterable[Mapping[str, Any]], *, slow_ms: int) -> list[Finding]:
    """Queries for which people wait too long, and those that sort on disk.

    :param entries: as :func:`describe` gives them
    :param slow_ms: mean milliseconds of a call from which a query is slow
    """
    found = []
    for entry in entries:
        if entry["calls"] < MIN_CALLS or not is_query(entry["query"]):
            continue
        temp_bytes = entry["temp_bytes"] / entry["calls"]
        spills = f" It writes {size(temp_bytes)} of temporary files in each call." if temp_bytes >= PAGE_BYTES else ""
        query_id = entry["query_id"]
        evidence = dict(entry) | {"temp_bytes_per_call": round(temp_bytes)}
        if entry["mean_ms"] >= slow_ms:
            found.append(
                Finding(
                    finding_id("slow_query", query_id),
                    "slow_query",
                    "warning",
                    f"query {query_id}",
                    evidence,
                    f"Query {query_id} takes {entry['mean_ms']:,.1f} ms on average (limit {slow_ms:,} ms) in "
                    f"{count(entry['calls'], 'call')}, {entry['total_percent']:g} % of all time.{spills}",
                    (),
                    "Look at its plan with EXPLAIN (ANALYZE, BUFFERS) and real values; no statement fixes every query.",
                )
            )
        elif temp_bytes >= SPILL_BYTES:
            found.append(
                Finding(
                    finding_id("query_spills", query_id),
                    "query_spills",
                    "info",
                    f"query {query_id}",
                    evidence,
                    f"Query {query_id} writes {size(temp_bytes)} of temporary files in each call ({entry['calls']:,}).",
                    (),
                    "More work_mem for its role would keep it in memory; each sort of each session may take that much.",
                )
            )
    return found
