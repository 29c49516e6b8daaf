"""Schedules: which playbook runs unattended, how, and when.

The inventory's ``schedule_jobs`` is the one place for it. Timers, AWX's schedules, CI's workflows, the alerts for runs
that are missing, and what preflight accepts of an unattended run derive from it.

All times are UTC, so no clock change moves, skips or repeats one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import entries
from ansible.module_utils.runbook.rules.run import SAID_BY_JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

RHYTHMS = ("hourly", "daily", "weekly", "monthly", "quarterly")
EVERY_DAY = tuple(range(7))
#: The months in which a quarter begins.
QUARTERS = (1, 4, 7, 10)

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_PLAYBOOK = re.compile(r"[a-z][a-z0-9_]*\.yml")
_WORD = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ALWAYS = ("playbook", "hosts", "rhythm", "max_duration_min")
_OPTIONAL = ("tags", "variables", "grace_min", "disabled")
#: What a rhythm asks for, and what it may have besides.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hourly": (("minute",), ()),
    "daily": (("time",), ("except_weekday",)),
    "weekly": (("weekday", "time"), ("except_week",)),
    "monthly": (("week", "weekday", "time"), ()),
    "quarterly": (("week", "weekday", "time"), ()),
}
_GRACE_MIN = 60
#: The begin of a quarter: it has every weekday of every week of a month, and a month in which quarterly jobs are due.
_QUARTER = datetime(2027, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Schedule:
    """One job: a run of one playbook that needs nobody, at its times."""

    #: As ``-e preflight_job=`` names it.
    job: str
    #: The file's name.
    playbook: str
    #: Groups of the inventory for which the playbook runs.
    hosts: tuple[str, ...]
    rhythm: str
    #: When a run must be over, counted from its begin.
    max_duration: timedelta
    #: How long after that a missing success is a missed run.
    grace: timedelta
    tags: tuple[str, ...] = ()
    #: What ``-e`` says besides the job's name.
    variables: tuple[tuple[str, bool | int | str], ...] = ()
    #: Time of day; of an hourly one its minute counts.
    at: time = time()
    #: Days of the week on which it runs; 0 is Monday.
    weekdays: tuple[int, ...] = EVERY_DAY
    #: Only on this such day of the month, 1 to 4; 0 is on each.
    week: int = 0
    #: Not on this such day of the month; 0 leaves none out.
    except_week: int = 0
    #: Why it does not run by itself; empty where it does.
    disabled: str = ""

    @property
    def enabled(self) -> bool:
        """Whether it runs by itself."""
        return not self.disabled

    @property
    def extra_vars(self) -> dict[str, bool | int | str]:
        """What ``-e`` says of a run."""
        return {"preflight_job": self.job, **dict(self.variables)}

    @property
    def shown(self) -> str:
        """The run for people: playbook, tags, variables.

        >>> Schedule("pitr-backup", "pitr.yml", ("databases",), "daily", timedelta(), timedelta(),
        ...          variables=(("pitr_action", "backup"),)).shown
        'pitr.yml -e pitr_action=backup'
        """
        tags = f" -t {','.join(self.tags)}" if self.tags else ""
        return f"{self.playbook}{tags}" + "".join(f" -e {name}={said(value)}" for name, value in self.variables)

    @property
    def patience(self) -> timedelta:
        """How long after its time a run that has not succeeded counts as missed."""
        return self.max_duration + self.grace


def said(value: bool | int | str) -> str:
    """A variable's value as ``-e name=value`` takes it.

    >>> said(True), said(3590), said("backup")
    ('true', '3590', 'backup')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(given: Mapping[str, Any], playbooks: Sequence[str] = ()) -> dict[str, Schedule]:
    """The schedules of an inventory, by the names of their jobs.

    :param given: ``schedule_jobs``
    :param playbooks: the file names that there are; none are not compared
    :raises RunbookError: a mistake, in one sentence with the option, the value and the fix
    """
    return {job: _read(job, entry, playbooks) for job, entry in given.items()}


def _read(job: str, entry: Any, playbooks: Sequence[str]) -> Schedule:
    where = f"schedule_jobs: {job}"
    if not isinstance(job, str) or not _NAME.fullmatch(job):
        raise RunbookError(
            f"{where}: {job!r} is no name of a job; take small letters, digits and -, as in daily-backup."
        )
    if not isinstance(entry, dict):
        raise RunbookError(f"{where}: {entry!r} is no dictionary; give playbook, hosts, rhythm and time.")
    rhythm = entry.get("rhythm")
    entries.require(where, entry, ["rhythm"])
    if rhythm not in RHYTHMS:
        raise RunbookError(f"{where}: rhythm: {rhythm!r} is unknown; {entries.choose(rhythm, RHYTHMS)}")
    asked, possible = _KEYS[rhythm]
    entries.refuse_unknown(where, entry, (*_ALWAYS, *_OPTIONAL, *asked, *possible))
    entries.require(where, entry, (*_ALWAYS, *asked))
    weekdays: tuple[int, ...] = EVERY_DAY
    if "weekday" in entry:
        weekdays = (entries.weekday(where, entry["weekday"]),)
    elif "except_weekday" in entry:
        out = entries.weekday(where, entry["except_weekday"])
        weekdays = tuple(day for day in EVERY_DAY if day != out)
    return Schedule(
        job,
        _playbook(where, entry["playbook"], playbooks),
        _words(where, "hosts", entry["hosts"], "a list of groups of the inventory"),
        rhythm,
        timedelta(minutes=_number(where, "max_duration_min", entry["max_duration_min"], 1, 24 * 60)),
        timedelta(minutes=_number(where, "grace_min", entry.get("grace_min", _GRACE_MIN), 0, 7 * 24 * 60)),
        tags=_words(where, "tags", entry.get("tags", []), "a list of tags"),
        variables=_variables(where, entry.get("variables", {})),
        at=_at(where, entry),
        weekdays=weekdays,
        week=_number(where, "week", entry.get("week", 0), int("week" in entry), 4),
        except_week=_number(where, "except_week", entry.get("except_week", 0), int("except_week" in entry), 4),
        disabled=_disabled(where, entry.get("disabled", "")),
    )


def _at(where: str, entry: Mapping[str, Any]) -> time:
    if "minute" in entry:
        return time(minute=_number(where, "minute", entry["minute"], 0, 59))
    return entries.time_of_day(where, "time", entry["time"])


def _playbook(where: str, value: object, playbooks: Sequence[str]) -> str:
    if not isinstance(value, str) or not _PLAYBOOK.fullmatch(value):
        raise RunbookError(f"{where}: playbook: {value!r} is no file name of a playbook; write it as backup.yml.")
    if playbooks and value not in playbooks:
        raise RunbookError(f"{where}: playbook: there is no {value}; {entries.choose(value, sorted(playbooks))}")
    return value


def _words(where: str, key: str, value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and _WORD.fullmatch(one) for one in value):
        raise RunbookError(f"{where}: {key}: {value!r} is not {what}; write it in brackets, with commas.")
    if key == "hosts" and not value:
        raise RunbookError(f"{where}: {key}: it is empty; name at least one group of the inventory.")
    return tuple(value)


def _variables(where: str, value: object) -> tuple[tuple[str, bool | int | str], ...]:
    if not isinstance(value, dict):
        raise RunbookError(f"{where}: variables: {value!r} is no dictionary; write it as {{pitr_action: backup}}.")
    for name, each in value.items():
        if name not in SAID_BY_JOBS:
            raise RunbookError(
                f"{where}: variables: a job cannot say {name!r}; {entries.choose(name, SAID_BY_JOBS)[:-1]}, or set it "
                "in the inventory."
            )
        if not isinstance(each, (bool, int, str)) or not re.fullmatch(r"[\w.-]+", str(each)):
            raise RunbookError(f"{where}: variables: {name}: {each!r} is neither a word nor a number; correct it.")
    return tuple(sorted(value.items()))


def _number(where: str, key: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RunbookError(f"{where}: {key}: {value!r} is out of bounds; give a whole number from {least} to {most:,}.")
    return value


def _disabled(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise RunbookError(
            f"{where}: disabled: {value!r} does not say why; write the reason, or leave it out for a job that runs."
        )
    return value.strip()


def refuse_doubles(schedules: Iterable[Schedule]) -> None:
    """Refuse enabled jobs that are the same run on the same day: the second does again what the first one did.

    Jobs with one run on different days, such as a backup that is earlier on Sundays, are none.

    :raises RunbookError: two are, with the first day
    """
    known: dict[tuple[Any, ...], list[Schedule]] = {}
    for each in schedules:
        if each.enabled:
            known.setdefault((each.playbook, frozenset(each.tags), each.variables), []).append(each)
    for same in known.values():
        for first, second in combinations(same, 2):
            if both := _days_of(first) & _days_of(second):
                raise RunbookError(
                    f"schedule_jobs: {first.job} and {second.job} are the same run, {first.shown}, on the same days "
                    f"({min(both)} is the first of 2027); take one of them out, or say in disabled why it does not run."
                )


def _days_of(schedule: Schedule) -> set[date]:
    return {at.date() for at in occurrences(schedule, _QUARTER, _QUARTER + timedelta(days=92))}


# --- time -------------------------------------------------------------------------------------------------------------


def occurrences(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    """When a job is due from ``begin`` on and before ``end``, in UTC and in order, whether it is enabled or not.

    :param begin: with a time zone, like ``end``

    >>> weekly = Schedule("w", "weekly_db.yml", ("databases",), "weekly", timedelta(), timedelta(), at=time(2),
    ...                   weekdays=(6,), except_week=1)
    >>> [f"{one:%d %H:%M}" for one in occurrences(weekly, datetime(2026, 3, 1, tzinfo=UTC),
    ...                                           datetime(2026, 4, 1, tzinfo=UTC))]
    ['08 02:00', '15 02:00', '22 02:00', '29 02:00']
    """
    begin, end = begin.astimezone(UTC), end.astimezone(UTC)
    days = _days(begin.date(), end.date())
    if schedule.rhythm == "hourly":
        due = [datetime.combine(day, time(hour, schedule.at.minute), UTC) for day in days for hour in range(24)]
    else:
        due = [datetime.combine(day, schedule.at, UTC) for day in days if _is_due(schedule, day)]
    return [each for each in due if begin <= each < end]


def _is_due(schedule: Schedule, day: date) -> bool:
    return (
        day.weekday() in schedule.weekdays
        and (not schedule.week or entries.is_week(day, schedule.week))
        and not (schedule.except_week and entries.is_week(day, schedule.except_week))
        and (schedule.rhythm != "quarterly" or day.month in QUARTERS)
    )


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def always(_: datetime) -> bool:
    """That an occurrence counts, whenever it is."""
    return True


def last_due(
    schedule: Schedule, now: datetime, counts: Callable[[datetime], bool] = always
) -> datetime | None:  # fmt: skip
    """The newest occurrence that counts and is not later than ``now``; None where there was none for a year."""
    due = occurrences(schedule, now - timedelta(days=366), now + timedelta(microseconds=1))
    return next(filter(counts, reversed(due)), None)


def next_due(
    schedule: Schedule, now: datetime, counts: Callable[[datetime], bool] = always
) -> datetime | None:  # fmt: skip
    """The first occurrence that counts and is later than ``now``; None where there is none for a year."""
    due = occurrences(schedule, now + timedelta(microseconds=1), now + timedelta(days=366))
    return next(filter(counts, due), None)


# --- what preflight accepts -------------------------------------------------------------------------------------------


def listed(given: Mapping[str, Any], job: str) -> Schedule:
    """The job of that name.

    :param given: ``schedule_jobs``
    :raises RunbookError: there is none, or a mistake in one of them
    """
    found = read(given).get(job)
    if found is None:
        close = get_close_matches(job, list(given), 1)
        raise RunbookError(
            f"job: {job!r} is not among the scheduled jobs of this inventory ({', '.join(sorted(given)) or 'none'}); "
            + (f"did you mean {close[0]}?" if close else "add it to schedule_jobs, or leave preflight_job out.")
        )
    return found


def is_name(text: str) -> bool:
    """Whether a job may be called so; a file is named after it.

    >>> is_name("daily-backup"), is_name("../daily-backup")
    (True, False)
    """
    return bool(_NAME.fullmatch(text))


def check_run(
    schedule: Schedule, *, playbook: str, tags: Sequence[str], skip_tags: Sequence[str], said_there: Mapping[str, str]
) -> None:
    """Refuse a run that is not the job as it is scheduled, or is disabled.

    As it is scheduled means the same playbook, the same tags, and the same variables.

    :param playbook: the playbook that runs, with or without the action behind a blank
    :param said_there: the variables that the command line set, as ``rules.run.command_line`` gives them
    :raises RunbookError: it is another run, with what it should be
    """
    job = schedule.job
    if schedule.disabled:
        raise RunbookError(
            f"job: {job} is disabled in schedule_jobs ({schedule.disabled}), so no run of it is approved unattended; "
            "take disabled out there, or leave preflight_job out and confirm the run as a person does."
        )
    runs = f"the inventory schedules {job} as {schedule.shown}"
    wanted = {name: said(value) for name, value in schedule.variables}
    file, _, action = playbook.partition(" ")
    # An inventory may say the action, too, and would make another run of the job.
    if file != schedule.playbook or (action and action not in {*schedule.tags, *wanted.values()}):
        raise RunbookError(f"job: {runs}, not for {playbook}; run that one, or correct schedule_jobs.")
    if sorted(tags) != sorted(schedule.tags) or skip_tags:
        options = (("-t", tags), ("--skip-tags", skip_tags))
        found = " ".join(f"{option} {','.join(names)}" for option, names in options if names)
        raise RunbookError(f"job: {runs}, and this run has {found or 'no tag'}; run it with those tags, and no others.")
    for name, value in wanted.items():
        if name not in said_there:
            raise RunbookError(f"job: {runs}, and this run lacks it; add -e {name}={value}.")
        if said_there[name].lower() != value.lower():
            raise RunbookError(f"job: {runs}, and this run says {name}={said_there[name]}; say {value}.")
    more = [name for name in said_there if name not in {*wanted, *_NAMED} and not name.startswith(_FREE)]
    if more:
        raise RunbookError(
            f"job: {runs}, and this run also says {', '.join(sorted(more))} with -e; leave that out, or confirm the "
            "run as a person does, without preflight_job."
        )


#: What names the run; a confirmation is compared with the environment. The artifacts of a job come as ``runbook`` into
#: the next one of a workflow of AWX, and no playbook reads them.
_NAMED = ("preflight_job", "confirm", "runbook")
#: What a scheduler adds of its own, and secrets, which the inventory names.
_FREE = ("awx_", "tower_", "vault_")


def with_hosts(
    schedules: Mapping[str, Schedule], groups: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Schedule], list[str]]:
    """The jobs whose groups have a host, and the names of the others, which would be an error each time."""
    kept = {job: each for job, each in schedules.items() if any(groups.get(name) for name in each.hosts)}
    return kept, [job for job in schedules if job not in kept]
