"""Maintenance mode: until when it has to be on, what shows it from outside, and how nginx can know the time.

The mode always carries the moment at which it is over, and whoever reads it (nginx, the application) compares that with
its own clock. So it ends by itself when everything that could turn it off is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.change.backend import Needs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible.module_utils.runbook.rules.change.change import Change

BACKENDS = {
    "nginx": Needs(("nginx_flag_dir",)),
    "vercel": Needs(
        ("vercel_config_id", "vercel_token"),
        ("vercel_team_id", "vercel_item", "vercel_path", "vercel_url"),
    ),
    "sql": Needs(
        ("sql_table",),
        ("sql_column", "dsn", "login_host", "login_user", "login_password", "login_db", "system_identifier"),
    ),
    "webhook": Needs(("webhook_url",), ("webhook_token",)),
}


def furthest(changes: Iterable[Change], mode: Mapping[str, Any], now: datetime) -> datetime | None:
    """Until when a mode has to be on for all changes that noted it; None where none needs it any more.

    :param changes: those somebody works on
    :param mode: what names it: ``backend`` and ``where``
    """
    ends = [
        datetime.fromisoformat(str(noted["until"])).astimezone(UTC)
        for noted in (change.opened.get("mode", {}) for change in changes)
        if all(noted.get(name) == mode[name] for name in ("backend", "where"))
    ]
    return max((end for end in ends if end > now), default=None)


def lacks(status: int, retry_after: str | None, body: str, *, is_on: bool, text: str) -> str:
    """What an answer from outside lacks to show that the mode is on, or off; empty where it shows it.

    :param text: stands on the maintenance page, and on no other
    """
    if not is_on:
        if status != 200:
            return f"answers with {status} instead of 200"
        return "still shows the maintenance page" if text and text in body else ""
    if status != 503:
        return f"answers with {status} instead of 503"
    if retry_after is None:
        return "answers with 503 and without the header Retry-After"
    return "" if text in body else "answers with 503, and its page does not hold probe_text"


# --- nginx ------------------------------------------------------------------------------------------------------------

#: How many digits of Unix time a flag file's name may lack at its end, as spans in seconds, the longest first.
_SPANS_S = (1000, 100, 10, 1)


@dataclass(frozen=True)
class Flags:
    """Names of flag files, by which nginx knows the time without being able to compare numbers.

    A name is the beginning of a Unix time in seconds, and holds for every second that begins so: ``176438159`` for ten
    seconds. nginx looks for files named after the first 10, 9, 8 and 7 digits of its own clock; when the last one has
    passed it finds none. A span of hours is some dozens of files, exact to the second.

    >>> sorted(Flags.lasting(1764381595, 1764381720).names)
    ['1764381595', '1764381596', '1764381597', '1764381598', '1764381599', '17643816', '176438170', '176438171']
    """

    names: frozenset[str]

    @classmethod
    def lasting(cls, now: int, until: int) -> Flags:
        """As few as hold from ``now`` up to, and without, ``until``."""
        names, at = set(), now
        while at < until:
            span = next(each for each in _SPANS_S if at % each == 0 and at + each <= until)
            names.add(str(at // span))
            at += span
        return cls(frozenset(names))

    def end(self, now: int) -> int | None:
        """The moment after which none of them holds any more; None where that is past."""
        ends = (
            (int(name) + 1) * span
            for name in self.names
            for span in _SPANS_S
            if name.isascii() and name.isdigit() and len(name) == 11 - len(str(span))
        )
        return max((end for end in ends if end > now), default=None)

    def hold(self, now: int, until: int) -> bool:
        """Whether they hold from now on without a gap, and until then."""
        at = now
        while at < until:
            span = next((each for each in _SPANS_S if str(at // each) in self.names), 0)
            if not span:
                return False
            at += span - at % span
        return self.end(now) == until
