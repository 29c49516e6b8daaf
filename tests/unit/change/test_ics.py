"""The calendar as iCalendar: read back by a parser that is not ours, and held to the letter of RFC 5545."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime
from typing import Any

import icalendar
import pytest
from ansible.module_utils.runbook.rules.change import calendar as rules
from ansible.module_utils.runbook.rules.change import ics

SINCE, UNTIL = datetime(2026, 11, 28, tzinfo=UTC), datetime(2027, 2, 28, tzinfo=UTC)
REASON = 'Ärzte; "Praxis", \\\\ Urlaub ' + "ß€😀" * 30 + "\nzweite Zeile"
SAID: dict[str, Any] = {
    "windows": [
        {"id": "weekly", "kind": "weekly", "weekday": "sunday", "begin": "02:00", "end": "04:00"},
        {"id": "monthly", "kind": "monthly", "week": 1, "weekday": "sunday", "begin": "22:00", "end": "03:00",
         "ends_next_day": True, "timezone": "America/New_York"},
        {"id": "q1", "kind": "quarterly", "begin": "2027-01-17 01:00", "end": "2027-01-17 07:00",
         "announced_at": "2027-01-02"},
    ],
    "freezes": [
        {"id": "year-end", "begin": "2026-12-19 00:00", "end": "2027-01-04 00:00", "scope": ["weekly_db.yml"],
         "reason": REASON, "owner": "Jo Doe"},
    ],
}  # fmt: skip


@pytest.fixture
def calendar() -> rules.Calendar:
    return rules.read(SAID, {})


def written(calendar: rules.Calendar, since: datetime = SINCE) -> str:
    return "".join(f"{line}\r\n" for line in ics.lines(calendar, environment="production", since=since, until=UNTIL))


def events(text: str) -> dict[str, Any]:
    """By their UIDs."""
    parsed = icalendar.Calendar.from_ical(text.encode())
    assert not parsed.errors
    found = {str(event["UID"]): event for event in parsed.walk("VEVENT")}
    assert all(not event.errors for event in found.values())
    assert len(found) == text.count("BEGIN:VEVENT"), "a UID is there twice"
    return found


def test_doctests():
    assert doctest.testmod(ics).failed == 0


def test_a_parser_reads_every_window_and_freeze(calendar):
    found = events(written(calendar))
    expected = {
        (f"{each.id}-{each.day:%Y%m%d}" if each.kind != "quarterly" else each.id) + "@production": (
            each.begin,
            each.end,
        )
        for each in rules.occurrences(calendar, SINCE, UNTIL)
    }
    freeze = calendar.freezes[0]
    expected["year-end@production"] = (freeze.begin, freeze.end)
    assert {uid: (event.decoded("DTSTART"), event.decoded("DTEND")) for uid, event in found.items()} == expected
    # New York is five hours behind in December: 22:00 there is the next day in UTC.
    assert found["monthly-20261206@production"].decoded("DTSTART") == datetime(2026, 12, 7, 3, 0, tzinfo=UTC)
    assert all(event.decoded("DTSTAMP") == SINCE for event in found.values())


def test_text_comes_back_as_it_was(calendar):
    found = events(written(calendar))
    assert str(found["year-end@production"]["DESCRIPTION"]) == (f"{REASON}. Owner: Jo Doe. Only: weekly_db.yml.")
    assert "No changes while year-end holds." in str(found["weekly-20261220@production"]["DESCRIPTION"])


def test_lines_end_and_are_folded_as_the_standard_says(calendar):
    text = written(calendar)
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "")
    assert "\r" not in text.replace("\r\n", "")
    assert max(len(line.encode()) for line in text.split("\r\n")) == 75
    for name in ("VERSION:2.0", "PRODID:", "UID:", "DTSTAMP:", "DTSTART:", "DTEND:"):
        assert name in text
    assert icalendar.Calendar.from_ical(text).to_ical().count(b"BEGIN:VEVENT") == text.count("BEGIN:VEVENT")


def test_the_same_day_gives_the_same_file_and_another_the_same_uids(calendar):
    assert written(calendar) == written(calendar)
    later = events(written(calendar, since=datetime(2026, 12, 1, tzinfo=UTC)))
    assert set(later) < set(events(written(calendar)))


def test_a_single_window_that_is_moved_keeps_its_uid(calendar):
    moved = SAID | {"windows": [SAID["windows"][2] | {"begin": "2027-01-18 01:00", "end": "2027-01-18 07:00"}]}
    assert "q1@production" in events(written(rules.read(moved, {})))
    assert "q1@production" in events(written(calendar))
