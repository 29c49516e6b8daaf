"""How many requests a cache before the application answers by itself, for each class of path.

A rate over a handful of requests says nothing, so there is a least number. Where the answers came from is told by
Vercel's measurements, by a log, or by the headers of pages that are asked for twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

#: Answers that did not ask the application while somebody waited.
#: https://vercel.com/docs/edge-network/caching, https://nginx.org/en/docs/http/ngx_http_upstream_module.html
#: ($upstream_cache_status), https://developers.cloudflare.com/cache/concepts/cache-responses/
HITS = frozenset({"HIT", "STALE", "PRERENDER", "UPDATING", "REVALIDATED"})
#: Answers that asked it.
MISSES = frozenset({"MISS", "EXPIRED", "BYPASS", "DYNAMIC", "SCARCE", "NONE", "ERROR"})
#: A line of a log in the form that nginx calls combined, with the cache's status as a word of its own behind it:
#: ``log_format cached '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
#: '"$http_referer" "$http_user_agent" $upstream_cache_status';``
LINE = (
    r'"(?:GET|HEAD) (?P<path>\S+)[^"]*" (?P<status>\d{3}) (?P<bytes>\d+|-)'
    r'(?: "[^"]*" "[^"]*")? (?P<cache>[A-Z]+|-)'
)
#: The same where nobody asks what the cache did.
REQUEST = LINE.removesuffix(r" (?P<cache>[A-Z]+|-)")
#: What Vercel is asked for, and how it names that: https://vercel.com/docs/cli/metrics
REQUESTS, PATH, RESULT = "vercel.request.count", "request_path", "cache_result"
REQUESTS_COLUMN = "vercel_request_count_sum"
#: Groups that Vercel is asked for; what is beyond them is paths that hardly anybody asks for.
MOST_ROWS = 10_000
#: Whatever else a log or a service says in that place; it may be anything, and so it is not repeated.
OTHER = "OTHER"
#: Headers that say it, the surest first.
_HEADERS = ("x-vercel-cache", "cf-cache-status", "x-cache-status", "x-cache")
#: Cache's status, requests.
Counts = Counter[str]


@dataclass(frozen=True)
class PathClass:
    """Paths that should be cached equally well."""

    name: str
    pattern: re.Pattern[str]
    #: Share of requests, 0 to 1.
    least: float


@dataclass
class Seen:
    """What one class was asked for."""

    counts: Counts = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """Requests whose answer is known to be of the cache or not."""
        return self.hits + sum(number for status, number in self.counts.items() if status in MISSES)

    @property
    def hits(self) -> int:
        """Those that the cache answered."""
        return sum(number for status, number in self.counts.items() if status in HITS)

    @property
    def rate(self) -> float | None:
        """Share of hits; None without requests."""
        return self.hits / self.requests if self.requests else None


def classes(option: str, given: Sequence[Mapping[str, Any]]) -> list[PathClass]:
    """Classes as an inventory names them.

    :raises RunbookError: a name comes twice, a pattern is none, a rate is no share
    """
    found: list[PathClass] = []
    for each in given:
        name, least = str(each["name"]), float(each["min_hit_rate"])
        if name in {known.name for known in found}:
            raise RunbookError(f"{option}: {name} is there twice; give each class a name of its own.")
        if not 0 <= least <= 1:
            raise RunbookError(f"{option}: min_hit_rate of {name} is {least:g}; give a share, 0 to 1.")
        try:
            found.append(PathClass(name, re.compile(str(each["pattern"])), least))
        except re.error as error:
            raise RunbookError(f"{option}: pattern of {name} is no regular expression ({error}).") from None
    return found


def line_pattern(option: str, text: str, groups: frozenset[str] = frozenset({"path", "cache"})) -> re.Pattern[str]:
    """The pattern of a log's lines.

    :param groups: what has to be told of a line
    :raises RunbookError: it is no regular expression, or lacks a group
    """
    try:
        found = re.compile(text)
    except re.error as error:
        raise RunbookError(f"{option}: it is no regular expression ({error}).") from None
    if missing := groups - set(found.groupindex):
        raise RunbookError(f"{option}: it has no group {' and no group '.join(sorted(missing))}; write (?P<path>…).")
    return found


def status_of(headers: Mapping[str, str]) -> str:
    """What an answer's headers say of a cache; empty where they say nothing.

    :param headers: by names in small letters

    >>> status_of({"x-vercel-cache": "HIT"}), status_of({"x-cache": "Hit from cloudfront"}), status_of({"age": "12"})
    ('HIT', 'HIT', 'HIT')
    >>> status_of({"age": "0"})
    ''
    """
    for name in _HEADERS:
        words = headers.get(name, "").replace(",", " ").split()
        # The last of several caches is the nearest one.
        known = [word.upper() for word in words if word.upper() in HITS | MISSES]
        if known:
            return known[-1]
    # A cache says how old its answer is (RFC 9111, 5.1).
    age = headers.get("age", "")
    return "HIT" if age.isdigit() and int(age) > 0 else ""


def sort(rows: Iterable[tuple[str, str, int]], of: Sequence[PathClass]) -> dict[str, Seen]:
    """Requests by class; the first whose pattern is found in a path has it.

    :param rows: path, the cache's status, number of requests
    """
    found = {each.name: Seen() for each in of}
    for path, status, number in rows:
        name = next((each.name for each in of if each.pattern.search(path)), None)
        if name is None:
            continue
        known = status.upper()
        found[name].counts[known if known in HITS | MISSES else OTHER] += number
    return found


def question(project_id: str, team_id: str, begin: datetime, end: datetime) -> dict[str, Any]:
    """What Vercel is asked: requests in production by path and by the cache's result."""
    return {
        "metric": REQUESTS,
        "scope": {"type": "project", "ownerId": team_id, "projectIds": [project_id]},
        "aggregation": "sum",
        "groupBy": [PATH, RESULT],
        "filter": "environment eq 'production'",
        "limit": MOST_ROWS,
        "startTime": begin.isoformat(timespec="seconds"),
        "endTime": end.isoformat(timespec="seconds"),
    }


def of_vercel(body: object) -> list[tuple[str, str, int]]:
    """Rows of Vercel's answer to a question by path and by the cache's result, as :func:`sort` takes them.

    :raises RunbookError: it is another answer
    """
    rows = body.get("summary") or body.get("data") if isinstance(body, Mapping) else None
    found = []
    for row in rows if isinstance(rows, list) else [None]:
        if not isinstance(row, Mapping) or not isinstance(number := row.get(REQUESTS_COLUMN), (int, float)):
            raise RunbookError(f"Vercel answered with no {REQUESTS_COLUMN}", status=Status.UNKNOWN)
        found.append((str(row.get(PATH)), str(row.get(RESULT) or "NONE"), int(number)))
    return found


def judge(
    seen: Mapping[str, Seen], of: Sequence[PathClass], *, source: str, min_requests: int
) -> tuple[list[Finding], list[Unknown]]:
    """Classes whose rate is too low, and those of which too little is known.

    No path is told: what people asked for may name them.
    """
    findings, unknown = [], []
    for each in of:
        found = seen[each.name]
        rate = found.rate
        if rate is None or found.requests < min_requests:
            what = count(found.requests, "request")
            msg = f"{each.name}: {what} in the {source}, and {min_requests:,} are needed to tell a rate."
            unknown.append(Unknown(f"hit_rate:{each.name}", msg, fixable=found.requests == 0))
        elif 2 * found.counts[OTHER] > found.counts.total():
            msg = (
                f"{each.name}: of {found.counts[OTHER]:,} of {count(found.counts.total(), 'request')} the {source} "
                "does not say what the cache did, so the others tell no rate; let the cache see them, or narrow its "
                "pattern."
            )
            unknown.append(Unknown(f"hit_rate:{each.name}", msg))
        elif rate < each.least:
            statuses = ", ".join(f"{status} {number:,}" for status, number in found.counts.most_common())
            findings.append(
                Finding(
                    finding_id("hit_rate", each.name), "hit_rate", "critical", each.name,
                    {"hit_rate": round(rate, 4), "min_hit_rate": each.least, "requests": found.requests},
                    f"{each.name}: {rate:.1%} of {count(found.requests, 'request')} were answered by the cache, at "
                    f"least {each.least:.0%} should be ({statuses}).",
                )
            )  # fmt: skip
    if of and len(unknown) == len(of) and not any(one.fixable for one in unknown):
        msg = "No class has enough requests for a rate; wait for more, or lower min_requests."
        unknown.append(Unknown("hit_rate", msg))
    return findings, unknown
