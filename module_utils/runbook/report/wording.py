"""Figures as people read them. A figure's name ends in its unit, and that is all that is known about it here.

>>> figure("wal_bytes", 5 * 1024**2), figure("moved_rows", 117000), figure("duration_s", 75.2)
('5.0 MiB', '117,000', '1 min 15 s')
>>> label("longest_batch_s"), label("moved_rows")
('Longest batch', 'Moved rows')
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules import words
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable

_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
#: What is no word of its own.
_NAMES = {
    "api": "API", "aws": "AWS", "ca": "CA", "id": "ID", "s3": "S3", "sql": "SQL", "tls": "TLS", "url": "URL",
    "wal": "WAL", "xid": "XID",
}  # fmt: skip
NONE = "–"


def things(value: float | None, noun: str) -> str:
    """``1 call``, ``117,000 calls``, or a dash and the noun."""
    return f"{NONE} {noun}s" if value is None else count(value, noun)


def number(value: float | None) -> str:
    """``117,000``; at most one decimal, and only below a hundred."""
    if value is None:
        return NONE
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}"


def compact(value: float | None) -> str:
    """Three or four characters for where there is no room.

    >>> compact(7), compact(38_249), compact(1_234_567)
    ('7', '38k', '1.2M')
    """
    if value is None:
        return NONE
    for unit, power in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if abs(value) >= power:
            return f"{value / power:.1f}{unit}" if abs(value) < 10 * power else f"{value / power:.0f}{unit}"
    return number(value)


def size(value: float | None) -> str:
    """Bytes as everywhere; a dash for none."""
    return NONE if value is None else words.size(value)


def change(before: float | None, after: float | None, text: Callable[[float | None], str]) -> str:
    """A figure before and after, or once where the two read the same.

    >>> change(5, 3, number), change(1_048_577, 1_048_580, size), change(5, None, number)
    ('5 → 3', '1.0 MiB', '5')
    """
    was, now = text(before), text(after)
    return was if after is None or was == now else f"{was} → {now}"


def duration(value: float | None) -> str:
    """Seconds: ``87 ms``, ``0.4 s``, ``34 s``, ``1 min 15 s``, ``2 h 5 min``."""
    if value is None:
        return NONE
    if value == 0:
        return "0 s"
    if 0 < value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    seconds = round(value)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(stamp: str | None) -> str:
    """An ISO 8601 time in UTC, to the second."""
    if not stamp:
        return NONE
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return (when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)).strftime("%Y-%m-%d %H:%M:%S UTC")


def label(name: str) -> str:
    """A figure's name as words, without its unit where the value shows it."""
    words = re.sub(r"_(rows_s|bytes_s|s|ms|bytes)$", "", name).split("_")
    text = " ".join(_NAMES.get(word, word) for word in words if word)
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    """A label inside of a sentence; a short form such as WAL stays.

    >>> lower_first("Moved rows"), lower_first("WAL")
    ('moved rows', 'WAL')
    """
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


#: How a figure is written, by the end of its name; the first that fits.
_BY_UNIT: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("_bytes", size),
    ("bytes_s", lambda value: f"{size(value)}/s"),
    ("rows_s", lambda value: f"{number(round(value) if value >= 10 else value)}/s"),
    ("_percent", lambda value: f"{number(value)} %"),
    ("_ms", lambda value: f"{number(value)} ms"),
    ("_s", duration),
)


def figure(name: str, value: object) -> str:
    """A figure's value, written after the unit in its name."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return next((text(value) for end, text in _BY_UNIT if name.endswith(end)), number(value))
    if isinstance(value, str):
        return moment(value) if _STAMP.match(value) else value
    if isinstance(value, (list, tuple)):
        return ", ".join(figure("", item) for item in value) if value else "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {figure(str(key), item)}" for key, item in value.items())
    return str(value)


def shortened(text: str, limit: int) -> str:
    """``text``, cut in the middle so that both ends can be read."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
