"""Schedules: what is read, when a job is due, and that the inventories' own can be read."""

from __future__ import annotations

import calendar
import doctest
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import calendar as windows
from ansible.module_utils.runbook.rules.schedule import schedule
from conftest import ROOT, job

PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
SUNDAY = {"weekday": "sunday", "rhythm": "weekly"}
MONDAY = {"weekday": "monday", "rhythm": "weekly"}
ENVIRONMENTS = ("sandbox", "sandbox_supabase", "staging", "production")
BEGIN, END = datetime(2027, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)


def one(**said: Any):
    """A daily job but for what is said; None takes a key out."""
    entry = {key: value for key, value in (job("backup.yml") | said).items() if value is not None}
    return schedule.read({"x": entry})["x"]


def inventory(environment):
    folder = ROOT / "inventories" / environment / "group_vars/all"
    return yaml.safe_load((folder / "schedules.yml").read_text())["schedule_jobs"]


def test_doctests():
    assert doctest.testmod(schedule).failed == 0


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_schedules_of_an_inventory_can_be_read(environment):
    found = schedule.read(inventory(environment), PLAYBOOKS)
    assert found
    for each in found.values():
        text = (ROOT / "playbooks" / each.playbook).read_text()
        assert all(re.search(rf"tags: \[.*\b{tag}\b", text) for tag in each.tags), each.job


def test_the_runbooks_jobs_are_at_the_runbooks_times():
    found = schedule.read(inventory("production"))
    at = {name: (each.playbook, each.rhythm, f"{each.at:%H:%M}", each.week) for name, each in found.items()}
    assert at["weekly-maintenance"] == ("weekly_db.yml", "weekly", "02:00", 0)
    assert at["monthly-optimization"] == ("monthly_db.yml", "monthly", "02:00", 1)
    assert at["log-rotation"] == ("logs.yml", "daily", "00:00", 0)
    assert at["backup-verification"] == ("backup_verify.yml", "daily", "04:00", 0)
    assert at["daily-backup"] == ("backup.yml", "daily", "03:00", 0)


def test_first_sundays_by_another_way_of_counting():
    monthly = one(rhythm="monthly", week=1, weekday="sunday", time="02:00")
    other = one(**SUNDAY, except_week=1, time="02:00")
    first, rest = [], []
    for year in (2027, 2028):  # the second is a leap year
        for month in range(1, 13):
            sundays = [week[6] for week in calendar.monthcalendar(year, month) if week[6]]
            days = [datetime(year, month, day, 2, tzinfo=UTC) for day in sundays]
            first.append(days[0])
            rest += days[1:]
    assert schedule.occurrences(monthly, BEGIN, END) == first
    assert schedule.occurrences(other, BEGIN, END) == rest


def test_every_other_rhythm():
    def due(**said: Any):
        return schedule.occurrences(one(**said), BEGIN, END)

    assert len(due()) == 365 + 366
    assert date(2028, 2, 29) in {each.date() for each in due()}
    assert len(due(rhythm="hourly", minute=20, time=None)) == (365 + 366) * 24
    assert {each.minute for each in due(rhythm="hourly", minute=20, time=None)} == {20}
    assert {each.weekday() for each in due(except_weekday="sunday")} == set(range(6))
    quarters = due(rhythm="quarterly", week=2, weekday="tuesday")
    assert {each.month for each in quarters} == {1, 4, 7, 10}
    assert {each.day // 7 for each in quarters} <= {1, 2}
    assert len(quarters) == 8


def test_the_border_belongs_to_the_begin():
    daily = one(time="02:00")
    at = datetime(2027, 3, 28, 2, tzinfo=UTC)
    assert schedule.occurrences(daily, at, at) == []
    assert schedule.occurrences(daily, at, at + timedelta(seconds=1)) == [at]
    assert schedule.occurrences(daily, at - timedelta(hours=24), at) == [at - timedelta(hours=24)]
    assert schedule.last_due(daily, at) == at
    assert schedule.next_due(daily, at) == at + timedelta(days=1)
    assert daily.patience == timedelta(minutes=60 + 60)


def test_on_a_sunday_the_backup_comes_before_the_maintenance_and_the_verification_after_it():
    found = schedule.read(inventory("production"))
    for sunday in (datetime(2027, 1, 3, tzinfo=UTC), datetime(2027, 1, 10, tzinfo=UTC)):
        due = {
            name: times[0]
            for name, each in found.items()
            if (times := schedule.occurrences(each, sunday, sunday + timedelta(days=1)))
        }
        assert "daily-backup" not in due
        maintenance = {"weekly-maintenance", "monthly-optimization"} & due.keys()
        assert len(maintenance) == 1
        assert due["sunday-backup"] < due[maintenance.pop()] < due["backup-verification"]


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"rhythm": "dayly"}, "schedule_jobs: x: rhythm: 'dayly' is unknown; did you mean daily?"),
        ({"rhythm": None}, "x: rhythm is missing; add it."),
        ({"time": None}, "x: time is missing; add it."),
        ({"time": 120}, 'YAML read 120, a number; put the time in quotes: time: "02:00".'),
        ({"time": "24:00"}, "time: '24:00' is no time of day"),
        ({"tme": "02:00"}, "x: 'tme' is unknown here; did you mean time?"),
        ({"weekday": "sunday"}, "x: 'weekday' is unknown here; did you mean except_weekday?"),
        (SUNDAY | {"weekday": "sonntag"}, "weekday: 'sonntag' is no day of the week"),
        (SUNDAY | {"except_week": 5}, "except_week: 5 is out of bounds; give a whole number from 1 to 4."),
        (
            {"rhythm": "hourly", "time": None, "minute": 60},
            "minute: 60 is out of bounds; give a whole number from",
        ),
        ({"playbook": "backup"}, "playbook: 'backup' is no file name of a playbook; write it as backup.yml."),
        ({"hosts": []}, "hosts: it is empty; name at least one group"),
        ({"hosts": "databases"}, "hosts: 'databases' is not a list of groups of the inventory; write it in"),
        ({"tags": ["a b"]}, "tags: \\['a b'\\] is not a list of tags"),
        ({"max_duration_min": 0}, "max_duration_min: 0 is out of bounds"),
        (
            {"variables": {"pitr_acton": "x"}},
            "a job cannot say 'pitr_acton'; did you mean pitr_action, or set it",
        ),
        ({"variables": {"pitr_action": "a b"}}, "pitr_action: 'a b' is neither a word nor a number"),
        ({"disabled": True}, "disabled: True does not say why"),
    ],
)
def test_a_mistake_is_one_sentence(said, says):
    with pytest.raises(RunbookError, match=says.replace("(", r"\(")) as refused:
        one(**said)
    assert "\n" not in refused.value.message


def test_two_jobs_that_are_the_same_run_on_the_same_day_are_refused():
    early, late = job("monitoring.yml", tags=["alerts"]) | MONDAY, job("monitoring.yml", tags=["alerts"]) | MONDAY
    with pytest.raises(RunbookError, match=r"early and late are the same run, monitoring.yml -t alerts, on"):
        schedule.refuse_doubles(schedule.read({"early": early, "late": late | {"time": "10:00"}}).values())
    for other in (
        {"tags": ["audit"]}, {"disabled": "until later"}, {"weekday": "tuesday"},
        {"variables": {"pitr_action": "backup"}},
    ):  # fmt: skip
        schedule.refuse_doubles(schedule.read({"early": early, "late": late | other}).values())
    first = MONDAY | {"rhythm": "monthly", "week": 1}
    with pytest.raises(RunbookError, match="2027-01-04 is the first"):
        schedule.refuse_doubles(schedule.read({"early": early, "late": late | first}).values())
    schedule.refuse_doubles(schedule.read({"early": early | {"except_week": 1}, "late": late | first}).values())


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_inventory_schedules_a_run_twice(environment):
    schedule.refuse_doubles(schedule.read(inventory(environment)).values())


def test_a_job_that_is_disabled_approves_nobody():
    given = {"x": job("backup.yml") | {"disabled": "until it is announced"}}
    run: dict[str, Any] = {
        "playbook": "backup.yml", "tags": [], "skip_tags": [], "said_there": {"preflight_job": "x"},
    }  # fmt: skip
    with pytest.raises(RunbookError, match=r"job: x is disabled in schedule_jobs \(until it is announced\), so no run"):
        schedule.check_run(schedule.listed(given, "x"), **run)
    del given["x"]["disabled"]
    schedule.check_run(schedule.listed(given, "x"), **run)


def test_names_that_are_not_there():
    with pytest.raises(RunbookError, match=r"there is no bakup.yml; did you mean backup.yml\?"):
        schedule.read({"x": job("bakup.yml")}, PLAYBOOKS)
    with pytest.raises(RunbookError, match=r"'weekly-maintenence' is not .*; did you mean weekly-maintenance\?"):
        schedule.listed(inventory("production"), "weekly-maintenence")
    with pytest.raises(RunbookError, match="'Daily Backup' is no name of a job"):
        schedule.read({"Daily Backup": job("backup.yml")})


def test_what_needs_a_window_is_scheduled_in_one():
    """By its begin; the run itself asks the calendar again."""
    said = yaml.safe_load((ROOT / "inventories/production/group_vars/all/main.yml").read_text())["maintenance_calendar"]
    known = windows.read(said, {})
    for each in schedule.read(inventory("production")).values():
        action = "".join(f" {value}" for name, value in each.variables if name.endswith("_action"))
        operation = " ".join([f"{each.playbook}{action}", *each.tags])
        need = windows.OPERATIONS.get(operation, windows.OPERATIONS.get(each.playbook, "none"))
        for due in schedule.occurrences(each, BEGIN, BEGIN + timedelta(days=40)) if need != "none" else ():
            assert windows.stand(known, operation, need, due).is_open, (each.job, due)
