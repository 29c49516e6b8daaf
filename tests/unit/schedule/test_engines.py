"""Two years of dates: what each engine makes of a schedule, and what the schedule says."""

from __future__ import annotations

import doctest
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from ansible.module_utils.runbook.rules.schedule import engines, schedule
from conftest import ROOT, job
from dateutil.rrule import rrulestr

#: The second is a leap year.
BEGIN, END = datetime(2027, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
#: An hourly one has dates enough in a month.
SHORT = datetime(2027, 2, 1, tzinfo=UTC)
PRODUCTION = yaml.safe_load((ROOT / "inventories/production/group_vars/all/schedules.yml").read_text())
MORE = {
    "third-friday": job("a.yml", rhythm="monthly", week=3, weekday="friday"),
    "all-but-the-second-monday": job("a.yml", rhythm="weekly", weekday="monday", except_week=2),
    "fourth-thursdays": job("a.yml", rhythm="quarterly", week=4, weekday="thursday", time="23:59"),
}
ALL = schedule.read(PRODUCTION["schedule_jobs"] | MORE)


def expected(each: schedule.Schedule) -> list[datetime]:
    return schedule.occurrences(each, BEGIN, end_of(each))


def end_of(each: schedule.Schedule) -> datetime:
    return SHORT if each.rhythm == "hourly" else END


def test_doctests():
    assert doctest.testmod(engines).failed == 0


@pytest.mark.parametrize("name", ALL)
def test_systemd_means_the_same(name):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian's package systemd)")
    dates = expected(ALL[name])
    done = subprocess.run(
        ["systemd-analyze", "calendar", f"--iterations={len(dates)}", "--base-time=2026-12-31 23:59:59 UTC",
         engines.calendar_event(ALL[name])],
        capture_output=True, text=True, check=True, env={"TZ": "UTC", "LC_ALL": "C"},
    )  # fmt: skip
    said = [
        line.partition(":")[2].split()
        for line in done.stdout.splitlines()
        if "elapse:" in line or line.strip().startswith("Iter")
    ]
    found = [datetime.strptime(f"{day} {at}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) for _, day, at, *_ in said]
    assert found == dates


@pytest.mark.parametrize("name", ALL)
def test_awx_means_the_same(name):
    rule = engines.rrule(ALL[name])
    assert "INTERVAL=" in rule
    found = rrulestr(rule.replace(" ", "\n"), forceset=True).between(
        BEGIN - timedelta(seconds=1), end_of(ALL[name]) - timedelta(seconds=1)
    )
    assert [each.astimezone(UTC) for each in found] == expected(ALL[name])


def fits(field: str, value: int) -> bool:
    """As cron reads the fields that are written here: a star, a number, or a list of numbers."""
    return field == "*" or value in {int(each) for each in field.split(",")}


@pytest.mark.parametrize("name", ALL)
def test_cron_and_its_line_of_shell_mean_the_same(name):
    said = engines.cron(ALL[name])
    minute, hour, day, month, weekday = said.expression.split()
    # With both, cron takes days that fit either.
    assert day == "*"
    begin, step = BEGIN + timedelta(minutes=int(minute)), timedelta(hours=1)
    hours = (begin + step * number for number in range(int((end_of(ALL[name]) - BEGIN) / step)))
    found = [
        each
        for each in hours
        if fits(hour, each.hour) and fits(month, each.month) and fits(weekday, each.isoweekday() % 7)
    ]
    assert [each for each in found if not said.days or each.day in said.days] == expected(ALL[name])


def test_first_sundays_and_the_others_as_awx_and_systemd_were_seen_to_take_them():
    monthly, weekly = ALL["monthly-optimization"], ALL["weekly-maintenance"]
    assert engines.calendar_event(monthly) == "Sun *-*-01..07 02:00:00 UTC"
    assert engines.calendar_event(weekly) == "Sun *-*-08..31 02:00:00 UTC"
    assert engines.calendar_event(ALL["dr-drill"]) == "Tue *-01,04,07,10-08..14 14:00:00 UTC"
    first = "FREQ=MONTHLY;INTERVAL=1;BYDAY=SU;BYSETPOS=1"
    assert engines.rrule(monthly).endswith(f" RRULE:{first}")
    assert engines.rrule(weekly).endswith(f" RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY=SU EXRULE:{first}")
