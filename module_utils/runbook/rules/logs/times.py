"""When the lines of a log were written, by what they say themselves.

A line says its time before anything else that looks like one: what a request or a message quotes is no time of the
line. A line without a time, of a stack trace for instance, belongs to the line before it. A time without a zone is
taken for UTC, and one without a year for the newest that is not after the log was last written to. What is later than
that by more than a day, or before 1971, is no time: whoever is logged can write any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where a line says its time, it does so in its first characters.
TIME_BYTES = 400
#: Lines of each piece that are looked at to find out in which forms a log says its times.
_LOOKED_AT = 200
_MONTHS = {name: number for number, name in enumerate(
    b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1
)}  # fmt: skip
#: Clocks and zones differ by less.
_DAY = timedelta(days=1)
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
#: More than the longest time has bytes.
_OVERLAP = 64
#: So much of a piece's beginning and end is looked at for zones.
_ENDS = 8192
_ZONE = rb"\s?(Z|UTC|GMT|[+-]\d\d:?\d\d)?"


def _offset(zone: bytes) -> timezone:
    """UTC where there is none.

    >>> _offset(b"+0130").utcoffset(None)
    datetime.timedelta(seconds=5400)
    """
    if zone[:1] not in (b"+", b"-"):
        return UTC
    digits = zone[1:].replace(b":", b"")
    span = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
    return timezone(-span if zone[:1] == b"-" else span)


def _iso(minute: bytes, _written: datetime) -> datetime:
    year, month, day, hour, minutes = (int(minute[a:b]) for a, b in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16)))
    return datetime(year, month, day, hour, minutes, tzinfo=UTC)


def _common(minute: bytes, _written: datetime) -> datetime:
    return datetime(
        int(minute[7:11]), _MONTHS[minute[3:6]], int(minute[:2]), int(minute[12:14]), int(minute[15:17]), tzinfo=UTC
    )


def _syslog(minute: bytes, written: datetime) -> datetime:
    month, day, clock = minute.split()
    # Clocks differ, so a day more is not yet the year before.
    for year in (written.year + 1, written.year, written.year - 1):
        try:
            at = datetime(year, _MONTHS[month], int(day), int(clock[:2]), int(clock[3:]), tzinfo=UTC)
        except ValueError:  # 29 February
            continue
        if at <= written + _DAY:
            return at
    raise ValueError


def _epoch(seconds: bytes, _written: datetime) -> datetime:
    return datetime.fromtimestamp(int(seconds[-10:]), UTC)


@dataclass(frozen=True)
class Form:
    """One way in which a log says its times."""

    #: The time to the minute, without groups.
    minute: re.Pattern[bytes]
    #: What may stand behind it, with the zone as its group.
    rest: re.Pattern[bytes]
    read: Callable[[bytes, datetime], datetime]

    def zone(self, text: bytes, end: int) -> bytes:
        """The zone of a time whose minute ends there; empty where it says none."""
        found = self.rest.match(text, end)
        return (found[1] or b"") if found else b""

    def zones(self, text: bytes) -> set[bytes]:
        """Zones of the times in a few lines."""
        return {self.zone(text, found.end()) for found in self.minute.finditer(text)}

    def at(self, minute: bytes, zone: bytes, written: datetime) -> datetime | None:
        """The minute in UTC; None where there is no such time."""
        try:
            at = (self.read(minute, written) - (_offset(zone).utcoffset(None) or timedelta())).astimezone(UTC)
        except (KeyError, ValueError, OverflowError):
            return None
        return at if _EARLIEST <= at <= written + _DAY else None


#: ISO 8601 (in JSON too), with slashes as nginx's error log has it, the common log format, syslog's of RFC 3164, and
#: seconds since 1970, of which loggers that write JSON are fond.
FORMS = (
    Form(re.compile(rb"20\d\d[-/]\d\d[-/]\d\d[T ]\d\d:\d\d"), re.compile(rb"(?::\d\d(?:[.,]\d+)?)?" + _ZONE), _iso),
    Form(re.compile(rb"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d"), re.compile(rb":\d\d" + _ZONE), _common),
    Form(re.compile(rb"(?<![A-Za-z])[A-Z][a-z]{2} [ ]?\d{1,2} \d\d:\d\d(?=:\d\d)"), re.compile(b"()"), _syslog),
    Form(
        re.compile(rb'(?:"(?:time|ts|timestamp)":\s?|^)\d{10}(?=[.,]?\d{0,9}\b)', re.MULTILINE),
        re.compile(b"()"),
        _epoch,
    ),
)
#: Seconds of a time, and their fraction, right behind its minute.
_SECONDS = re.compile(rb":(\d\d)(?:[.,](\d{1,6}))?")


def _forms(start: bytes) -> list[tuple[Form, re.Match[bytes]]]:
    """What looks like a time at the beginning of a line, the leftmost first."""
    found: list[tuple[Form, re.Match[bytes]]] = []
    for form in FORMS:
        if match := form.minute.search(start):
            found.append((form, match))
            if match.start() == 0:
                break
    return sorted(found, key=lambda each: each[1].start())


def of_line(line: bytes, written: datetime) -> datetime | None:
    """When a line was written; None where it does not say.

    :param written: when its log was last written to

    >>> of_line(b"2026-11-29T02:00:07.5+01:00 ERROR", datetime(2026, 12, 1, tzinfo=UTC)).isoformat()
    '2026-11-29T01:00:07.500000+00:00'
    >>> of_line(b'10.0.0.1 - - [29/Nov/2026:02:00:07 +0000] "GET /"', datetime(2026, 12, 1, tzinfo=UTC)).isoformat()
    '2026-11-29T02:00:07+00:00'
    >>> of_line(b"Dec 31 23:59:58 web app: x", datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
    '2025-12-31T23:59:58+00:00'
    >>> of_line(b"    at handler (app.js:3)", datetime(2026, 1, 1, tzinfo=UTC))
    """
    start = line[:TIME_BYTES]
    for form, found in _forms(start):
        minute = form.at(found[0], form.zone(start, found.end()), written)
        if minute is None:
            continue
        said = _SECONDS.match(start, found.end())
        if said is None:
            return minute
        return minute + timedelta(seconds=min(int(said[1]), 59), microseconds=int((said[2] or b"").ljust(6, b"0")))
    return None


class Bounds:
    """The earliest and the latest minute that a log's lines say: every line is looked at.

    The forms of the times are those of the first lines of each piece. What other times a line holds widens the bounds,
    which costs a search some reading, and no line.
    """

    def __init__(self, written: datetime) -> None:
        self._written = written
        #: Minutes and zones, by the form that says them.
        self._seen: dict[Form, set[tuple[bytes, bytes]]] = {}
        self._rest = b""

    def add(self, piece: bytes) -> None:
        """Take the next piece of the log in; it need not end with a line."""
        for line in (self._rest + piece).split(b"\n", _LOOKED_AT)[:_LOOKED_AT]:
            for form, _found in _forms(line[:TIME_BYTES])[:1]:
                self._seen.setdefault(form, set())
        # Zones change twice a year, so those of a piece are those of its beginning and its end; of both, where it did.
        ends = (self._rest + piece[:_ENDS], piece[-_ENDS:])
        for form, seen in self._seen.items():
            zones = set().union(*(form.zones(each) for each in ends)) or {b""}
            # A time that the end of a piece cuts is whole in the first of these two.
            minutes = {*form.minute.findall(ends[0]), *form.minute.findall(piece)}
            seen.update((minute, zone) for minute in minutes for zone in zones)
        self._rest = piece[-_OVERLAP:]

    def result(self) -> tuple[datetime | None, datetime | None]:
        """The minute of the earliest, and the end of the minute of the latest; None where no line says its time."""
        found = [
            at
            for form, seen in self._seen.items()
            for minute, zone in seen
            if (at := form.at(minute, zone, self._written))
        ]
        return (min(found), max(found) + timedelta(minutes=1)) if found else (None, None)
