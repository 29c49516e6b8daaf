"""Figures in sentences: one way to write a size and a number of things, in messages and reports alike."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(value: float | None) -> str:
    """Bytes in steps of 1024, with the units of IEC 80000-13; PostgreSQL's ``MB`` is this ``MiB``.

    >>> size(87), size(1536), size(450 * 1024**2), size(-2048), size(None)
    ('87 B', '1.5 KiB', '450 MiB', '-2.0 KiB', 'unknown')
    """
    if value is None:
        return "unknown"
    scaled, unit = float(value), 0
    while abs(scaled) >= 1024 and unit < len(_UNITS) - 1:
        scaled /= 1024
        unit += 1
    return f"{scaled:,.0f} {_UNITS[unit]}" if unit == 0 or abs(scaled) >= 100 else f"{scaled:,.1f} {_UNITS[unit]}"


def to_second(stamp: str) -> str:
    """A moment as a server or a program writes it, to the second, in UTC where it says its zone.

    >>> to_second("2026-06-01 23:31:25.716673+02"), to_second("2026-06-01 23:31:25.7"), to_second("-infinity")
    ('2026-06-01 21:31:25 UTC', '2026-06-01 23:31:25', '-infinity')
    """
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{when:%Y-%m-%d %H:%M:%S}" if when.tzinfo is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def count(number: float, noun: str, plural: str = "") -> str:
    """A number of things.

    :param plural: where it is not made by an s

    >>> count(1, "row"), count(0, "row"), count(1_200, "index", "indexes")
    ('1 row', '0 rows', '1,200 indexes')
    """
    return f"{number:,.0f} {noun if number == 1 else plural or noun + 's'}"


def agree(number: float, one: str, many: str) -> str:
    """The form of a word that goes with a number, which need not stand beside it.

    >>> f"2 of 3 {agree(2, 'is', 'are')} ok, 1 {agree(1, 'waits', 'wait')}"
    '2 of 3 are ok, 1 waits'
    """
    return one if number == 1 else many


def all_ok(checks: int) -> str:
    """The sentence where nothing is wrong.

    >>> all_ok(1), all_ok(5)
    ('The one check is ok.', 'All 5 checks are ok.')
    """
    return "The one check is ok." if checks == 1 else f"All {count(checks, 'check')} are ok."


def some(names: Iterable[str], most: int = 5) -> str:
    """The first names, and how many more there are; those of PostgreSQL's own schemas come last.

    >>> some(["a", "b"]), some("abcdefg")
    ('a, b', 'a, b, c, d, e and 2 more')
    >>> some(["pg_catalog.pg_class", "public.notes"], most=1)
    'public.notes and 1 more'
    """
    found = sorted(names, key=lambda name: name.startswith(("pg_catalog.", "pg_toast.")))
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


#: An address in a sentence: its user; its query and its fragment.
_USER = re.compile(r"(?<=://)[^\s/?#@\"'<>]*@")
_BEHIND = re.compile(r"(https?://[^\s?#\"'<>]*)[?#][^\s\"'<>]*")


def without_secrets(text: str) -> str:
    """Somebody else's text, its addresses without user, query and fragment, where a token or a state would be.

    >>> without_secrets("https://u:p@app.example.com/sso?nonce=1#a leads on to https://id.example.com/?state=2.")
    'https://app.example.com/sso leads on to https://id.example.com/'
    """
    return _BEHIND.sub(r"\1", _USER.sub("", text))
