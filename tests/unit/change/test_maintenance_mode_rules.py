"""Until when maintenance mode is on: names of flag files against a clock, two changes at once, what a page shows."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.change import maintenance_mode as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import maintenance_mode as rules
from ansible.module_utils.runbook.rules.change.change import Change, check_until
from ansible.module_utils.runbook.rules.change.maintenance_mode import Flags

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 11, 29, 2, tzinfo=UTC)
MODE = {"backend": "nginx", "where": "/flags"}


def is_on(flags: Flags, second: int) -> bool:
    """As nginx asks: a file named after the first 10, 9, 8 or 7 digits of its clock."""
    return any(str(second)[:digits] in flags.names for digits in (10, 9, 8, 7))


def test_flags_are_on_up_to_the_second_and_not_beyond():
    drawn = random.Random(1)  # noqa: S311 - no secret
    for _ in range(200):
        now = drawn.randrange(1_700_000_000, 1_900_000_000)
        until = now + drawn.choice((1, 7, 60, 999, 1000, 7200, 86_400))
        flags = Flags.lasting(now, until)
        seconds = {now, until - 1, *(drawn.randrange(now, until) for _ in range(50))}
        assert all(is_on(flags, second) for second in seconds), (now, until)
        assert not any(is_on(flags, second) for second in range(until, until + 1200)), (now, until)
        assert len(flags.names) < 150
        assert flags.hold(now, until)
        assert flags.end(now) == until
        later = drawn.randrange(now, until)
        assert flags.hold(later, until)
        assert not flags.hold(later, until + 1)
        assert not flags.hold(later, until - 1) or later == until - 1
        assert flags.end(until) is None


def test_flags_with_a_gap_do_not_hold():
    flags = Flags.lasting(1_764_381_595, 1_764_385_000)
    for name in sorted(flags.names):
        assert not Flags(flags.names - {name}).hold(1_764_381_595, 1_764_385_000)
    assert Flags(frozenset({"README", "12", "9" * 30})).end(1_764_381_595) is None
    assert Flags(frozenset()).hold(5, 5) is False


@pytest.mark.parametrize("seconds", [0, -1, 24 * 3600 + 1])
def test_an_end_that_is_past_or_days_away_is_refused(seconds: int):
    words = "is over, so nothing is opened any more" if seconds <= 0 else "is not within the next 24 hours"
    with pytest.raises(RunbookError, match=f"until: .* {words}"):
        check_until(NOW + timedelta(seconds=seconds), NOW)


def test_an_end_is_a_whole_second():
    assert check_until(NOW + timedelta(seconds=1.5), NOW) == NOW + timedelta(seconds=1)
    assert check_until(NOW + timedelta(hours=24), NOW) == NOW + timedelta(hours=24)


def change(change_id: str, minutes: int, **noted: str) -> Change:
    until = NOW + timedelta(minutes=minutes)
    made = Change(change_id, "p.yml", "r", (), "m", NOW, until)
    return made.with_opened("mode", MODE | {"until": until.isoformat()} | noted)


def test_the_change_that_needs_the_mode_longest_counts():
    changes = [change("a", 10), change("b", 30), change("c", -1), change("d", 90, where="/other")]
    without = replace(changes[0], id="e", opened={})
    assert rules.furthest([*changes, without], MODE, NOW) == NOW + timedelta(minutes=30)
    assert rules.furthest([changes[2], changes[3], without], MODE, NOW) is None


@pytest.mark.parametrize(
    ("answer", "is_on", "lacks"),
    [
        ((503, "120", "We are back soon"), True, ""),
        ((503, None, "We are back soon"), True, "without the header Retry-After"),
        ((503, "120", "upstream is down"), True, "does not hold probe_text"),
        ((200, None, "We are back soon"), True, "answers with 200 instead of 503"),
        ((200, None, "Welcome"), False, ""),
        ((200, None, "We are back soon"), False, "still shows the maintenance page"),
        ((503, "120", "We are back soon"), False, "answers with 503 instead of 200"),
        ((302, None, ""), False, "answers with 302 instead of 200"),
    ],
)
def test_what_a_page_shows(answer: tuple[int, str | None, str], is_on: bool, lacks: str):
    said = rules.lacks(*answer, is_on=is_on, text="back soon")
    assert lacks in said
    assert bool(lacks) == bool(said)


class Flag:
    """A flag in memory."""

    where = "memory"

    def __init__(self, until: datetime | None) -> None:
        self.until = until
        self.written: list[datetime | None] = []

    def stands(self, until: datetime | None) -> bool:
        return self.until == until

    def write(self, until: datetime | None) -> None:
        self.until = until
        self.written.append(until)


def notes(*said: datetime | None) -> tuple[Flag, Sequence[datetime | None]]:
    """A flag, off at the beginning, after the notes said these things one after the other."""
    left, flag = list(said), Flag(None)
    driver.settle(flag, lambda: left.pop(0) if len(left) > 1 else left[0])
    return flag, flag.written


def test_a_flag_follows_what_is_noted_while_it_is_written():
    early, late = NOW, NOW + timedelta(hours=1)
    assert notes(None)[1] == []
    assert notes(early)[1] == [early]
    # Somebody else noted that he needs it longer after our look, and before our write.
    assert notes(early, late)[1] == [early, late]
    flag = Flag(early)
    said: list[datetime | None] = [None, late, late]
    assert driver.settle(flag, lambda: said.pop(0))
    assert flag.until == late


def test_notes_that_never_rest_are_given_up():
    moments = iter(NOW + timedelta(minutes=number) for number in range(99))
    with pytest.raises(RunbookError, match="run this again"):
        driver.settle(Flag(None), lambda: next(moments))


def test_check_mode_writes_no_flag():
    flag = Flag(None)
    assert driver.settle(flag, lambda: NOW, check_mode=True)
    assert not driver.settle(flag, lambda: None, check_mode=True)
    assert flag.written == []
