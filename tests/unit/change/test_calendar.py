"""Windows and freezes: read strictly, and held against an oracle that looks at every hour of ten years."""

from __future__ import annotations

import calendar as months
import doctest
import random
import re
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import calendar as rules
from ansible.module_utils.runbook.rules.entries import WEEKDAYS
from conftest import ROOT

WEEKLY = {"id": "weekly", "kind": "weekly", "weekday": "sunday", "begin": "02:00", "end": "04:00"}
MONTHLY = WEEKLY | {"id": "monthly", "kind": "monthly", "week": 1, "end": "06:00"}
QUARTERLY = {
    "id": "q1", "kind": "quarterly", "begin": "2027-01-17 01:00", "end": "2027-01-17 07:00",
    "announced_at": "2027-01-03",
}  # fmt: skip
ONCE = {"id": "move", "kind": "once", "begin": "2026-12-09 20:00", "end": "2026-12-09 22:00"}
FREEZE = {
    "id": "year-end", "begin": "2026-12-19 00:00", "end": "2027-01-04 00:00", "scope": "all",
    "reason": "holidays", "owner": "Jo Doe",
}  # fmt: skip
NEW_YORK, TOKYO = "America/New_York", "Asia/Tokyo"
#: A Saturday; the first Sunday of December comes a week later.
SATURDAY = datetime(2026, 11, 28, 14, 3, tzinfo=UTC)


def a_calendar(
    *windows: dict[str, Any], freezes: list[dict[str, Any]] | None = None, operations: dict[str, str] | None = None
):  # fmt: skip
    return rules.read({"windows": list(windows), "freezes": freezes or []}, operations or {})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def stand(calendar, moment: str, need: str = "weekly"):
    return rules.stand(calendar, {"weekly": "weekly_db.yml", "monthly": "monthly_db.yml"}[need], need, at(moment))


def test_doctests():
    assert doctest.testmod(rules).failed == 0


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "freezes", "operations", "says"),
    [
        ([WEEKLY | {"wekday": "sunday"}], [], {}, r"windows: weekly: 'wekday' is unknown here; did you mean weekday\?"),
        ([WEEKLY | {"weekday": "sonday"}], [], {}, r"weekday: 'sonday' is no day of the week; did you mean sunday\?"),
        ([WEEKLY | {"kind": "dayly"}], [], {}, "weekly: kind: 'dayly' is unknown"),
        ([WEEKLY | {"end": "01:00"}], [], {}, "end: 01:00 is not after begin, 02:00; correct it, or add ends_next_day"),
        ([WEEKLY | {"ends_next_day": True}], [], {}, "from 02:00 to 04:00 of the next day is longer than a day"),
        ([WEEKLY | {"begin": 1320, "end": "23:00"}], [], {}, r'begin: YAML read 1320, a number; .* begin: "22:00"'),
        ([WEEKLY | {"begin": "2:00"}], [], {}, 'begin: \'2:00\' is no time of day; write it as "02:00"'),
        ([WEEKLY | {"end": "24:00"}], [], {}, "end: '24:00' is no time of day; .* to 23:59"),
        ([WEEKLY | {"timezone": "Mars/Olympus"}], [], {}, "timezone: 'Mars/Olympus' is no time zone of this machine"),
        ([WEEKLY | {"timezone": "localtime"}], [], {}, "timezone: 'localtime' is no time zone of this machine"),
        ([WEEKLY | {"timezone": ["UTC"]}], [], {}, r"timezone: \['UTC'\] is no time zone of this machine"),
        ([WEEKLY | {"kind": ["weekly"]}], [], {}, r"kind: \['weekly'\] is unknown; did you mean weekly"),
        ([WEEKLY | {"weekday": ["sunday"]}], [], {}, r"weekday: \['sunday'\] is no day of the week"),
        ([ONCE | {"begin": "0001-01-01 00:00", "timezone": TOKYO}], [], {}, "begin: '0001-01-01 00:00' is out of"),
        ([ONCE | {"end": "9999-12-31 23:59", "timezone": NEW_YORK}], [], {}, "give a year from 2000 to 9000"),
        ([WEEKLY], [FREEZE | {"end": "9999-12-31 23:59", "timezone": NEW_YORK}], {}, "end: '9999-12-31 23:59' is out"),
        ([WEEKLY], [FREEZE | {"scope": [["weekly_db.yml"]]}], {}, r"scope: \['weekly_db.yml'\] is no operation"),
        ([WEEKLY], [FREEZE | {"scope": [{"weekly_db.yml": None}]}], {}, "scope: .* is no operation"),
        ([WEEKLY], [], {"weekly_db.yml": ["weekly"]}, r"weekly_db.yml: \['weekly'\] is unknown"),
        ([WEEKLY | {"timezone": "../etc/passwd"}], [], {}, "is no time zone of this machine"),
        ([WEEKLY | {"announced_at": "2026-01-01"}], [], {}, "'announced_at' is unknown here"),
        ([MONTHLY | {"week": 5}], [], {}, "week: 5 is not 1 to 4 or last"),
        ([{k: v for k, v in MONTHLY.items() if k != "week"}], [], {}, "windows: monthly: week is missing; add it"),
        ([WEEKLY, MONTHLY | {"id": "weekly"}], [], {}, "the id 'weekly' is given twice"),
        ([WEEKLY], [FREEZE | {"id": "weekly"}], {}, "the id 'weekly' is given twice"),
        ([WEEKLY | {"id": ""}], [], {}, "windows, entry 1: id: '' is no name"),
        (["weekly"], [], {}, "windows: .* is no list of dictionaries; begin each entry with '- id:'"),
        ([{k: v for k, v in QUARTERLY.items() if k != "announced_at"}], [], {}, "announced_at is missing, and a quart"),
        ([QUARTERLY | {"announced_at": "2027-01-04"}], [], {}, "2027-01-04 is 13 days before the window, and 14 are"),
        ([QUARTERLY | {"announced_at": "soon"}], [], {}, "announced_at: 'soon' is no date; write it as"),
        ([ONCE | {"end": "2026-12-09 19:00"}], [], {}, "end: 2026-12-09 19:00 is not after begin, 2026-12-09 20:00"),
        ([ONCE | {"begin": "2026-12-09"}], [], {}, "begin: '2026-12-09' is no date and time; write it as"),
        ([ONCE | {"begin": "2026-12-09T20:00+01:00"}], [], {}, "has an offset of its own; leave it out, and name"),
        ([ONCE | {"end": "2027-12-09 19:00"}], [], {}, "longer than 31 days"),
        ([WEEKLY], [{k: v for k, v in FREEZE.items() if k != "owner"}], {}, "freezes: year-end: owner is missing"),
        ([WEEKLY], [FREEZE | {"owner": " "}], {}, "owner: ' ' says nothing; say who may lift it"),
        ([WEEKLY], [FREEZE | {"end": "2026-01-01 00:00"}], {}, "year-end: end: 2026-01-01 00:00 is not after begin"),
        ([WEEKLY], [FREEZE | {"scope": ["wekly_db.yml"]}], {}, r"scope: 'wekly_db.yml' .* mean weekly_db.yml\?"),
        ([WEEKLY], [FREEZE | {"scope": ["backup.yml"]}], {}, "backup.yml needs no window, so no freeze holds it"),
        ([WEEKLY], [FREEZE | {"scope": "some"}], {}, "scope: 'some' is neither all nor a list"),
        ([], [FREEZE], {}, "there are freezes and no windows"),
        ([WEEKLY], [], {"weekly_db.yml": "wekly"}, r"operations: weekly_db.yml: 'wekly' .* did you mean weekly\?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(windows, freezes, operations, says):
    with pytest.raises(RunbookError, match=says) as raised:
        rules.read({"windows": windows, "freezes": freezes}, operations)
    assert raised.value.message.count(". ") == 0
    assert "?." not in raised.value.message


def test_an_unknown_key_of_the_calendar_is_refused():
    with pytest.raises(RunbookError, match=r"calendar: 'window' is unknown here; did you mean windows\?"):
        rules.read({"window": []}, {})


def test_every_playbook_has_its_decision():
    named = set()
    for path in (ROOT / "playbooks").glob("*.yml"):
        for play in yaml.safe_load(path.read_text()):
            found = [
                play,
                *play.get("tasks", []),
                *(t for task in play.get("tasks", []) for t in task.get("block", [])),
            ]
            named |= {
                each["vars"]["preflight_playbook"] for each in found if "preflight_playbook" in each.get("vars", {})
            }
    of_actions = {name for name in named if "{{" in name}
    assert len(of_actions) == 3, "pitr.yml, rollback.yml and rotate_keys.yml name their action"
    assert named - of_actions <= set(rules.OPERATIONS)
    assert {name.partition(" ")[0] for name in rules.OPERATIONS} == {
        name.partition(" ")[0] for name in named - of_actions
    } | {"pitr.yml", "rollback.yml", "rotate_keys.yml"}
    assert set(rules.OPERATIONS.values()) <= set(rules.NEEDS)


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "need", "is_open", "says"),
    [
        ("2026-11-29 01:59", "weekly", False, "no maintenance window is open now, Sun 2026-11-29 01:59 UTC; the next"),
        ("2026-11-29 02:00", "weekly", True, "window weekly, until Sun 2026-11-29 04:00 UTC: 2 h left."),
        ("2026-11-29 03:59", "weekly", True, ": 1 min left."),
        ("2026-11-29 04:00", "weekly", False, "the next window begins Sun 2026-12-06 02:00 UTC"),
        ("2026-11-29 03:00", "monthly", False, "no monthly maintenance window is open now"),
        ("2026-12-06 05:00", "weekly", True, "window monthly, until Sun 2026-12-06 06:00 UTC: 1 h left."),
        ("2026-12-06 05:00", "monthly", True, "window monthly"),
        ("2026-12-09 21:00", "monthly", True, "window move"),
        ("2026-12-20 03:00", "weekly", False, r"year-end holds until Mon 2027-01-04 00:00 UTC \(holidays; owner"),
        ("2026-12-20 03:00", "weekly", False, "the next window begins Sun 2027-01-10 02:00 UTC"),
        ("2027-01-17 01:30", "monthly", True, "window q1, until Sun 2027-01-17 07:00 UTC"),
    ],
)  # fmt: skip
def test_what_holds_now(moment, need, is_open, says):
    calendar = a_calendar(WEEKLY, MONTHLY, QUARTERLY, ONCE, freezes=[FREEZE])
    standing = stand(calendar, moment, need)
    assert standing.is_open is is_open
    assert re.search(says, standing.msg), standing.msg


def test_a_freeze_that_begins_in_the_window_ends_the_run():
    freeze = FREEZE | {"begin": "2026-11-29 03:00", "end": "2026-11-29 03:30"}
    calendar = a_calendar(WEEKLY, freezes=[freeze])
    before = stand(calendar, "2026-11-29 02:30")
    assert before.ends_at == at("2026-11-29 03:00")
    assert "when the freeze year-end begins: 30 min left" in before.msg
    assert stand(calendar, "2026-11-29 03:10").next_at == at("2026-11-29 03:30")
    after = stand(calendar, "2026-11-29 03:45")
    assert (after.is_open, after.ends_at) == (True, at("2026-11-29 04:00"))


def test_a_freeze_holds_whom_it_names():
    calendar = a_calendar(WEEKLY, MONTHLY, freezes=[FREEZE | {"scope": ["monthly_db.yml"], "end": "2027-01-05 00:00"}])
    assert stand(calendar, "2027-01-03 03:00").is_open
    assert not stand(calendar, "2027-01-03 03:00", "monthly").is_open


def test_windows_that_touch_are_one_span():
    later = ONCE | {"begin": "2026-11-29 04:00", "end": "2026-11-29 08:00"}
    assert stand(a_calendar(WEEKLY, later), "2026-11-29 03:00").ends_at == at("2026-11-29 08:00")


def test_nothing_opens_any_more():
    standing = stand(a_calendar(ONCE), "2027-06-01 00:00")
    assert standing.next_at is None
    assert "no window opens within 400 days" in standing.msg


def test_what_collides():
    overlapping = ONCE | {"begin": "2026-12-20 03:00", "end": "2026-12-20 05:00"}
    calendar = a_calendar(WEEKLY, MONTHLY, overlapping, freezes=[FREEZE | {"begin": "2026-12-20 03:30"}])
    found = rules.collisions(calendar, SATURDAY, at("2026-12-21 00:00"))
    assert [each.msg for each in found] == [
        "weekly and move overlap from Sun 2026-12-20 03:00 UTC.",
        "move on Sun 2026-12-20 03:00 UTC: the freeze year-end closes a part of it (Jo Doe).",
        "weekly on Sun 2026-12-20 02:00 UTC: the freeze year-end closes a part of it (Jo Doe).",
    ]
    # The monthly window takes the weekly one's place, so these two do not collide.
    assert not rules.collisions(a_calendar(WEEKLY, MONTHLY), SATURDAY, at("2026-12-21 00:00"))


# --- clock changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "begin", "end", "day", "opens"),
    [
        # New York, 14 March 2027: 02:00 to 03:00 does not happen. 7 November: 01:00 to 02:00 happens twice.
        ("America/New_York", "01:00", "04:00", "2027-03-14", ("06:00", "08:00")),
        ("America/New_York", "02:30", "04:00", "2027-03-14", ("07:30", "08:00")),
        ("America/New_York", "01:30", "02:30", "2027-03-14", ("06:30", "07:30")),
        ("America/New_York", "02:30", "03:15", "2027-03-14", None),
        ("America/New_York", "01:00", "04:00", "2027-11-07", ("05:00", "09:00")),
        ("America/New_York", "01:30", "02:30", "2027-11-07", ("05:30", "07:30")),
        ("America/New_York", "00:30", "01:30", "2027-11-07", ("04:30", "05:30")),
        # Lord Howe Island changes by half an hour; 4 April 2027: 01:30 to 02:00 happens twice.
        ("Australia/Lord_Howe", "01:00", "03:00", "2027-04-04", ("14:00", "16:30")),
    ],
)
def test_clock_changes(zone, begin, end, day, opens):
    window = WEEKLY | {"begin": begin, "end": end, "timezone": zone}
    found = [
        (f"{each.begin:%H:%M}", f"{each.end:%H:%M}")
        for each in rules.occurrences(a_calendar(window), at("2027-01-01"), at("2028-01-01"))
        if each.day == date.fromisoformat(day)
    ]
    assert found == ([opens] if opens else [])


# --- the oracle -------------------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
#: These change their clocks between 01:00 and 03:59 or not at all, by whole hours, so no window below begins or ends
#: in such an hour; what happens there is the table above.
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Australia/Sydney")


def random_calendar(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A weekly, a monthly, a quarterly and a single window and two freezes, on whole hours."""
    chance = random.Random(seed)  # noqa: S311 - a seed that repeats
    windows: list[dict[str, Any]] = []
    for kind in ("weekly", "monthly"):
        begin, end = chance.choice([(0, 5), (4, 9), (20, 23), (22, 5), (23, 0), (5, 4)])
        windows.append({
            "id": kind, "kind": kind, "weekday": chance.choice(WEEKDAYS), "begin": f"{begin:02}:00",
            "end": f"{end:02}:00", "ends_next_day": end < begin, "timezone": chance.choice(ZONES),
        })  # fmt: skip
    windows[0]["weekday"] = chance.choice([windows[0]["weekday"], windows[1]["weekday"]])
    windows[1]["week"] = chance.choice([1, 2, 3, 4, "last"])
    freezes: list[dict[str, Any]] = []
    # Over a leap day, and over the end of a year.
    for number, start in enumerate(("2028-02-28 23:00", "2030-12-31 20:00")):
        begins = datetime.fromisoformat(start)
        dated = {
            "begin": str(begins),
            "end": str(begins + chance.randint(5, 60) * HOUR),
            "timezone": chance.choice(ZONES),
        }
        kind = ("quarterly", "once")[number]
        more = {"announced_at": "2027-12-01"} if kind == "quarterly" else {}
        windows.append({"id": kind, "kind": kind} | dated | more)
        frozen = {"begin": str(begins + 9 * HOUR), "end": str(begins + chance.randint(10, 2000) * HOUR)}
        freezes.append(FREEZE | frozen | {"id": f"freeze-{number}", "timezone": chance.choice(ZONES)})
    return windows, freezes


class Oracle:
    """Whether a moment lies in a window and in no freeze, by looking at the wall clock of each window's zone."""

    def __init__(self, windows: list[dict[str, Any]], freezes: list[dict[str, Any]], least: int) -> None:
        self.windows, self.freezes = [dict(each) for each in windows], freezes
        self.wanted = [each for each in self.windows if rules.KINDS.index(each["kind"]) >= least]
        self.zones = {each["timezone"]: ZoneInfo(each["timezone"]) for each in [*windows, *freezes]}
        self.hours = {each["id"]: (int(each["begin"][:2]), int(each["end"][:2])) for each in windows}
        self.dates = {
            each["id"]: (datetime.fromisoformat(each["begin"]), datetime.fromisoformat(each["end"]))
            for each in [*windows, *freezes]
            if "weekday" not in each
        }
        self.open_days: dict[tuple[str, date], bool] = {}

    def begins_on(self, window: dict[str, Any], day: date) -> bool:
        if window["kind"] in ("quarterly", "once"):
            return bool(window["begin"][:10] == day.isoformat())
        if WEEKDAYS[day.weekday()] != window["weekday"]:
            return False
        if window["kind"] == "weekly":
            return True
        weeks = [week[day.weekday()] for week in months.monthcalendar(day.year, day.month) if week[day.weekday()]]
        return bool(weeks[-1 if window["week"] == "last" else window["week"] - 1] == day.day)

    def is_open(self, window: dict[str, Any], day: date) -> bool:
        """Whether a window begins on a day, and no larger one takes its place."""
        known = self.open_days.get((window["id"], day))
        if known is None:
            size = rules.KINDS.index(window["kind"])
            larger = [
                each
                for each in self.windows
                if each["kind"] != "once" and window["kind"] != "once" and rules.KINDS.index(each["kind"]) > size
            ]
            known = self.begins_on(window, day) and not any(self.begins_on(each, day) for each in larger)
            self.open_days[window["id"], day] = known
        return known

    def holds(self, moment: datetime) -> bool:
        wall = {name: moment.astimezone(zone).replace(tzinfo=None) for name, zone in self.zones.items()}
        if any(self.lies_in(each, wall[each["timezone"]]) for each in self.freezes):
            return False
        return any(self.is_in(each, wall[each["timezone"]]) for each in self.wanted)

    def lies_in(self, dated: dict[str, Any], wall: datetime) -> bool:
        begin, end = self.dates[dated["id"]]
        return begin <= wall < end

    def is_in(self, window: dict[str, Any], wall: datetime) -> bool:
        if window["kind"] in ("quarterly", "once"):
            return self.lies_in(window, wall)
        begin, end = self.hours[window["id"]]
        if not window["ends_next_day"]:
            return begin <= wall.hour < end and self.is_open(window, wall.date())
        return (wall.hour >= begin and self.is_open(window, wall.date())) or (
            wall.hour < end and self.is_open(window, wall.date() - timedelta(days=1))
        )


@pytest.mark.parametrize("seed", range(3))
def test_ten_years_hour_by_hour(seed, monkeypatch):
    windows, freezes = random_calendar(seed)
    need = ("weekly", "monthly")[seed % 2]
    calendar = a_calendar(*windows, freezes=freezes)
    since, until = at("2026-01-01"), at("2036-01-01")
    monkeypatch.setenv("TZ", ("America/New_York", "Australia/Lord_Howe", "UTC")[seed % 3])
    time.tzset()
    try:
        found = rules.spans(calendar, "weekly_db.yml", need, since, until)
    finally:
        monkeypatch.undo()
        time.tzset()
    oracle = Oracle(windows, freezes, rules.KINDS.index(need))
    expected: list[list[datetime]] = []
    moment, was = since, False
    while moment < until:
        holds = oracle.holds(moment)
        if holds and not was:
            expected.append([moment, until])
        elif was and not holds:
            expected[-1][1] = moment
        moment, was = moment + HOUR, holds
    inside = [(max(begin, since), min(end, until)) for begin, end in found]
    assert inside == [tuple(each) for each in expected], (windows, freezes)


@pytest.mark.parametrize("seed", range(3))
def test_a_question_agrees_with_the_spans(seed):
    """What is asked at one moment is what the list of ten years says of it."""
    windows, freezes = random_calendar(seed)
    calendar = a_calendar(*windows, freezes=freezes)
    listed = rules.spans(calendar, "weekly_db.yml", "weekly", at("2026-01-01"), at("2036-01-01"))
    chance = random.Random(seed)  # noqa: S311 - a seed that repeats
    moments = [edge + chance.choice([-1, 0, 1]) * timedelta(seconds=1) for span in listed for edge in span]
    for moment in chance.sample([each for each in moments if each.year < 2034], 60):
        standing = rules.stand(calendar, "weekly_db.yml", "weekly", moment)
        inside = next((span for span in listed if span[0] <= moment < span[1]), None)
        assert standing.is_open == (inside is not None)
        assert standing.ends_at == (inside[1] if inside else None)
        if inside is None:
            assert standing.next_at == next(begin for begin, _ in listed if begin > moment)


# --- the decision of a run --------------------------------------------------------------------------------------------


def admit(calendar, moment: datetime = SATURDAY, **more: Any):
    asked: dict[str, Any] = {
        "environment": "production",
        "operation": "weekly_db.yml",
        "override": "",
        "check_mode": False,
    }
    return rules.admit(calendar, now=moment, **(asked | more))


def test_outside_of_a_window_a_run_is_refused_with_the_next():
    with pytest.raises(
        RunbookError, match=r"the next window begins Sun 2026-11-29 02:00 UTC\. In an emergency say why"
    ):
        admit(a_calendar(WEEKLY))


def test_that_a_freeze_refused_a_run_is_told_by_a_code():
    with pytest.raises(RunbookError) as refused:
        admit(a_calendar(WEEKLY))
    assert refused.value.code == ""
    with pytest.raises(RunbookError, match=r"the freeze .* holds") as refused:
        admit(a_calendar(WEEKLY, freezes=[FREEZE]), at(FREEZE["begin"]))
    assert refused.value.code == rules.FROZEN


def test_inside_it_gets_an_end():
    assert admit(a_calendar(WEEKLY), at("2026-11-29 03:00")).ends_at == at("2026-11-29 04:00")


def test_a_look_is_free_and_is_told():
    looked = admit(a_calendar(WEEKLY), check_mode=True)
    assert "A real run would be refused now: weekly_db.yml: no maintenance window is open" in looked.msg
    assert looked.warning


def test_an_override_lifts_window_and_end():
    for moment in (SATURDAY, at("2026-11-29 03:00")):
        lifted = admit(a_calendar(WEEKLY), moment, override="the disk is full")
        assert lifted.ends_at is None
        assert lifted.msg.startswith("The calendar was overridden: the disk is full. ")
        assert lifted.override == "the disk is full"


@pytest.mark.parametrize(
    ("override", "said", "says"),
    [
        ("why", {}, "window_override: 'why' comes from an inventory"),
        ("why", {"window_override": "other"}, "comes from an inventory"),
        ("", {"window_override": ""}, "window_override: it is empty; say why"),
        ("  ", {"window_override": "  "}, "window_override: it is empty"),
    ],
)
def test_an_override_is_said_on_the_command_line_with_a_reason(override, said, says):
    with pytest.raises(RunbookError, match=says):
        rules.check_override(override, said)


def test_no_override_or_a_reason_is_well():
    rules.check_override("", {})
    rules.check_override("why", {"window_override": "why"})


def test_production_needs_a_decision_and_a_calendar():
    with pytest.raises(
        RunbookError, match=r"nothing says which window own\.yml needs, and production asks; add 'own.yml: '"
    ):
        admit(a_calendar(WEEKLY), operation="own.yml")
    with pytest.raises(
        RunbookError, match=r"weekly_db\.yml needs a maintenance window, and this inventory has no calendar"
    ):
        admit(a_calendar())
    for environment in ("staging", "sandbox"):
        assert admit(a_calendar(), environment=environment).ends_at is None
        assert admit(a_calendar(WEEKLY), environment=environment, operation="own.yml").ends_at is None
    with pytest.raises(RunbookError, match="no maintenance window is open now"):
        admit(a_calendar(WEEKLY), environment="staging")


def test_the_doctor_asks_for_a_calendar_in_production():
    assert "every hour is open" in rules.check({}, {}, environment="staging", now=SATURDAY)
    said = rules.check({"windows": [WEEKLY]}, {}, environment="production", now=SATURDAY)
    assert said.startswith("No maintenance window is open now")
    for wrong in ({}, {"windows": [WEEKLY | {"end": "01:00"}]}):
        with pytest.raises(RunbookError, match=r"^calendar: "):
            rules.check(wrong, {}, environment="production", now=SATURDAY)


def test_what_needs_no_window_is_let_in_at_any_hour():
    assert "needs no maintenance window" in admit(a_calendar(), operation="backup.yml").msg
    own = a_calendar(WEEKLY, operations={"own.yml": "none", "weekly_db.yml": "monthly"})
    assert admit(own, operation="own.yml").ends_at is None
    with pytest.raises(RunbookError, match="no monthly maintenance window"):
        admit(own, at("2026-11-29 03:00"))
