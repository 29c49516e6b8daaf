"""A calendar as iCalendar (RFC 5545), to be subscribed to by calendar programs.

Each window and freeze is an event of its own with its times in UTC: no recurrence rules and no time zones, so that a
window that another replaces is simply not there, and every program shows the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.change.calendar import RECURRING, occurrences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.runbook.rules.change.calendar import Calendar

#: A line is at most so long in octets, without its end; what continues one begins with a space (RFC 5545, 3.1).
_MAX_OCTETS = 75


def lines(calendar: Calendar, *, environment: str, since: datetime, until: datetime) -> list[str]:
    """The events between two moments, as the lines of a file; CR LF ends each.

    A program knows an event again by its UID: of a recurring window by its id and day, of anything else by its id
    alone, so that one which is moved moves there as well.

    :param environment: part of each UID and of each summary
    :param since: UTC; also the time at which the file says it was made, so that a whole day or hour gives a file that a
        second run leaves alone
    """
    unfolded = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Mental Scribe//Runbook as Code//EN",
        "CALSCALE:GREGORIAN",
        f"X-WR-CALNAME:{_text(f'Maintenance ({environment})')}",
        *_events(calendar, environment, since, until),
        "END:VCALENDAR",
    ]
    return [folded for line in unfolded for folded in _fold(line)]


def _events(calendar: Calendar, environment: str, since: datetime, until: datetime) -> Iterator[str]:
    for each in occurrences(calendar, since, until):
        # A single window is one event, wherever it is moved to.
        uid = f"{each.id}-{each.day:%Y%m%d}" if each.kind in RECURRING else each.id
        told = [
            f"No changes while {freeze.id} holds."
            for freeze in calendar.freezes
            if freeze.begin < each.end and freeze.end > each.begin
        ]
        summary = f"Maintenance window: {each.id} ({environment})"
        yield from _event(f"{uid}@{environment}", since, each.begin, each.end, summary, " ".join(told))
    for freeze in calendar.freezes:
        if freeze.begin < until and freeze.end > since:
            summary = f"No changes: {freeze.id} ({environment})"
            whom = "" if freeze.scope is None else f" Only: {', '.join(freeze.scope)}."
            why = f"{freeze.reason}. Owner: {freeze.owner}.{whom}"
            yield from _event(f"{freeze.id}@{environment}", since, freeze.begin, freeze.end, summary, why)


def _event(uid: str, made: datetime, begin: datetime, end: datetime, summary: str, description: str) -> Iterator[str]:
    yield "BEGIN:VEVENT"
    yield f"UID:{uid}"
    yield f"DTSTAMP:{_stamp(made)}"
    yield f"DTSTART:{_stamp(begin)}"
    yield f"DTEND:{_stamp(end)}"
    yield f"SUMMARY:{_text(summary)}"
    if description:
        yield f"DESCRIPTION:{_text(description)}"
    # Nobody is busy because of it.
    yield "TRANSP:TRANSPARENT"
    yield "END:VEVENT"


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _text(said: str) -> str:
    r"""A value of type TEXT (RFC 5545, 3.3.11).

    >>> print(_text("a;b, c\\d" + chr(10) + "e"))
    a\;b\, c\\d\ne
    """
    said = said.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return "\\n".join(said.splitlines())


def _fold(line: str) -> Iterator[str]:
    """Parts of a line, none longer than allowed; no letter is cut in two."""
    part, octets = "", 0
    for letter in line:
        size = len(letter.encode())
        if octets + size > _MAX_OCTETS:
            yield part
            part, octets = " ", 1
        part, octets = part + letter, octets + size
    yield part
