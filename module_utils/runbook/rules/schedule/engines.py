"""A schedule in the language of each engine: calendar events of systemd, RRULEs of AWX, cron in CI.

What cron cannot say, such as a first Sunday, a line of shell says before the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.entries import WEEKDAYS
from ansible.module_utils.runbook.rules.schedule.schedule import EVERY_DAY, QUARTERS

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.schedule.schedule import Schedule

#: Days of the month, from the first of them to the last.
_MONTH = range(1, 32)


def days_of(schedule: Schedule) -> tuple[int, ...]:
    """The days of the month on which a job may be due; all of them where its week is not said."""
    within = _week(schedule.week) if schedule.week else _MONTH
    out = _week(schedule.except_week) if schedule.except_week else ()
    return tuple(day for day in within if day not in out)


def _week(number: int) -> range:
    return range(7 * number - 6, 7 * number + 1)


def _spans(days: tuple[int, ...]) -> str:
    """Days as systemd writes them.

    >>> _spans((1, 2, 3, 15, 16))
    '01..03,15..16'
    """
    begins = [day for day in days if day - 1 not in days]
    ends = [day for day in days if day + 1 not in days]
    return ",".join(f"{begin:02}..{end:02}" for begin, end in zip(begins, ends, strict=True))


def calendar_event(schedule: Schedule) -> str:
    """``OnCalendar=`` of a timer, as systemd.time(7) describes it."""
    if schedule.rhythm == "hourly":
        return f"*-*-* *:{schedule.at.minute:02}:00 UTC"
    days = days_of(schedule)
    months = ",".join(f"{month:02}" for month in QUARTERS) if schedule.rhythm == "quarterly" else "*"
    date = f"*-{months}-{'*' if len(days) == len(_MONTH) else _spans(days)}"
    weekdays = ",".join(WEEKDAYS[day][:3].capitalize() for day in schedule.weekdays)
    return f"{weekdays + ' ' if schedule.weekdays != EVERY_DAY else ''}{date} {schedule.at:%H:%M}:00 UTC"


def rrule(schedule: Schedule) -> str:
    """The rule of a schedule in AWX, which asks for an INTERVAL, and takes BYSETPOS and EXRULE, but not BYDAY=1SU.

    It begins in a January, from which the months of a quarter are counted.
    """
    hour = 0 if schedule.rhythm == "hourly" else schedule.at.hour
    start = f"DTSTART;TZID=Etc/UTC:20260101T{hour:02}{schedule.at.minute:02}00"
    by_day = ",".join(WEEKDAYS[day][:2].upper() for day in schedule.weekdays)
    nth = "FREQ=MONTHLY;INTERVAL={};BYDAY={};BYSETPOS={}"
    if schedule.rhythm == "hourly":
        rule = "FREQ=HOURLY;INTERVAL=1"
    elif schedule.week:
        rule = nth.format(3 if schedule.rhythm == "quarterly" else 1, by_day, schedule.week)
    elif schedule.weekdays == EVERY_DAY:
        rule = "FREQ=DAILY;INTERVAL=1"
    else:
        rule = f"FREQ=WEEKLY;INTERVAL=1;BYDAY={by_day}"
    out = f" EXRULE:{nth.format(1, by_day, schedule.except_week)}" if schedule.except_week else ""
    return f"{start} RRULE:{rule}{out}"


@dataclass(frozen=True)
class Cron:
    """A time of cron, in UTC."""

    expression: str
    #: Days of the month on which the run goes on; empty where cron says all.
    days: tuple[int, ...]


def cron(schedule: Schedule) -> Cron:
    """The five fields of cron, which joins day of month and day of week with *or*, so that only one of them is said."""
    if schedule.rhythm == "hourly":
        return Cron(f"{schedule.at.minute} * * * *", ())
    months = ",".join(map(str, QUARTERS)) if schedule.rhythm == "quarterly" else "*"
    # 0 is Sunday there.
    weekdays = "*" if schedule.weekdays == EVERY_DAY else ",".join(str((day + 1) % 7) for day in schedule.weekdays)
    days = days_of(schedule)
    return Cron(
        f"{schedule.at.minute} {schedule.at.hour} * {months} {weekdays}", () if len(days) == len(_MONTH) else days
    )
