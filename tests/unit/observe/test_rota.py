"""Rotas: rotations and swaps as plain data, holes over a holiday, overlaps, leavers, people who are away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.observe import rota
from ansible.module_utils.runbook.rules.observe.rota import Shift

BEGIN = datetime(2026, 12, 14, tzinfo=UTC)
END = BEGIN + timedelta(weeks=4)
TURNS = {"schedule": "primary", "people": ["Ada", "Grace"], "begin": "2026-11-30 09:00", "every_days": 7}
CHRISTMAS = {"name": "Christmas", "begin": "2026-12-24", "end": "2026-12-26"}


def shifts(*entries: dict[str, Any]) -> list[Shift]:
    return rota.shifts_of(entries, begin=BEGIN, end=END)


def found(
    some: list[Shift], *, team: set[str] | None = None, holidays: tuple[dict[str, Any], ...] = (), **more: Any
) -> dict[str, str]:
    return {
        each.id: each.msg
        for each in rota.judge(
            some, ["primary"], rota.absences_of(holidays), frozenset(team) if team else None, begin=BEGIN, end=END,
            may_overlap=more.get("may_overlap", False),
        )
    }  # fmt: skip


def test_a_rotation_goes_round_and_a_later_entry_takes_its_place():
    turns = shifts(TURNS)
    assert [(each.person, f"{each.begin:%m-%d}") for each in turns] == [
        ("Grace", "12-07"), ("Ada", "12-14"), ("Grace", "12-21"), ("Ada", "12-28"),
        ("Grace", "01-04"),
    ]  # fmt: skip
    assert found(turns) == {}
    swapped = shifts(
        TURNS, {"schedule": "primary", "person": "Linus", "begin": "2026-12-22 09:00", "end": "2026-12-23 09:00"}
    )
    assert [each.person for each in swapped] == ["Grace", "Ada", "Grace", "Linus", "Grace", "Ada", "Grace"]
    assert found(swapped) == {}


def test_a_rotation_changes_hands_at_nine_in_summer_and_in_winter():
    """On the last Sunday of October a day has 25 hours."""
    begin, berlin = datetime(2026, 10, 12, tzinfo=UTC), ZoneInfo("Europe/Berlin")
    told = TURNS | {"begin": "2026-03-02 09:00"}
    turns = rota.shifts_of([told], begin=begin, end=begin + timedelta(weeks=4), zone=berlin)
    assert [f"{each.begin:%m-%d %H:%M}" for each in turns] == [
        "10-05 07:00", "10-12 07:00", "10-19 07:00", "10-26 08:00", "11-02 08:00",
    ]  # fmt: skip
    assert all(one.end == two.begin for one, two in pairwise(turns))
    (day,) = rota.absences_of([CHRISTMAS], zone=berlin)
    assert (day.begin, day.end) == (datetime(2026, 12, 23, 23, tzinfo=UTC), datetime(2026, 12, 26, 23, tzinfo=UTC))


def test_a_hole_over_a_holiday_is_named():
    holed = [
        *shifts(TURNS | {"end": "2026-12-24 18:00"}),
        *shifts(TURNS | {"begin": "2026-12-27 09:00"}),
    ]
    (said,) = found(holed, holidays=(CHRISTMAS,)).values()
    assert "primary: nobody is on call from Thu 2026-12-24 18:00 UTC to Sun 2026-12-27 09:00 UTC" in said
    assert said.endswith("over Christmas.")
    assert list(found([])) == ["hole:primary.2026-12-14T0000"]


def test_two_at_once_unless_two_are_meant():
    both = [*shifts(TURNS), Shift("primary", "Linus", BEGIN, BEGIN + timedelta(days=1))]
    assert [each.partition(":")[0] for each in found(both)] == ["overlap", "overlap"]
    assert found(both, may_overlap=True) == {}
    # The same person twice is one person.
    assert found([*shifts(TURNS), Shift("primary", "Ada", BEGIN + timedelta(days=1), BEGIN + timedelta(days=2))]) == {}


def test_a_leaver_and_one_who_is_away():
    said = found(shifts(TURNS), team={"Ada"})
    assert list(said) == ["leaver:primary.Grace"]
    assert found(shifts(TURNS), team={"Ada", "Grace"}) == {}
    away = found(shifts(TURNS), holidays=(CHRISTMAS | {"person": "Grace"},))
    assert "Grace is on call from Thu 2026-12-24 00:00 UTC to Sun 2026-12-27 00:00 UTC, and away: Christmas." in next(
        iter(away.values())
    )
    assert found(shifts(TURNS), holidays=(CHRISTMAS | {"person": "Ada"},)) == {}


def test_a_holiday_of_nobody_that_there_is_is_said():
    """A misspelt name takes nobody off a shift."""
    leave = rota.absences_of([CHRISTMAS | {"person": "Graze"}, CHRISTMAS | {"person": "Grace"}, CHRISTMAS])
    (unknown,) = rota.unheard(leave, ["Ada", "Grace"], begin=BEGIN, end=END)
    assert "is of Graze, who is neither in the team nor on call" in unknown.msg
    # What is over may name somebody who has left.
    assert list(rota.unheard(leave, ["Ada"], begin=END, end=END + timedelta(days=1))) == []


def test_hours_of_each():
    hours = {each["person"]: each["hours"] for each in rota.hours(shifts(TURNS), begin=BEGIN, end=END)}
    assert sum(hours.values()) == 4 * 7 * 24


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"person": "Ada", "begin": "tomorrow"}, "'tomorrow' is no moment"),
        ({"person": "Ada", "begin": "2026-12-24", "end": "2026-12-23"}, "not after its begin"),
        ({"begin": "2026-12-24"}, "give a person with begin and end; or people"),
        ({"people": ["Ada"], "begin": "2026-12-24"}, "every_days, 1 to 92"),
        ({"people": ["Ada"], "every_days": 0, "begin": "2026-12-24"}, "every_days, 1 to 92"),
    ],
)
def test_what_cannot_be_read_is_named(entry: dict[str, Any], why: str):
    with pytest.raises(RunbookError, match=f"rota: entry 1.*{why}"):
        shifts(entry)
    with pytest.raises(RunbookError, match="holidays: entry 1: end"):
        rota.absences_of([{"name": "x", "begin": "2026-12-24", "end": "later"}])
