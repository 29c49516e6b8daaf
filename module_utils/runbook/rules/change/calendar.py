"""Maintenance windows and freezes: when a change may be made.

A *window* is a span of time that was agreed on for changes: each week, once a month, once a quarter (announced two
weeks before), or a single one. A *freeze* is a span in which no change is made, with a reason and an owner; a freeze
always wins. An *operation* is what ``preflight_playbook`` names, and needs a window of a certain kind or none: a
smaller operation may run in a larger window, not the other way round, and a single window takes everything.

On one day the larger recurring window takes the place of the smaller: quarterly, monthly, weekly. Both days are read in
their windows' own time zones. A single window takes nobody's place.

Times are local to the window's time zone. Where a clock change makes a time of day happen never or twice, it is read as
RFC 5545, 3.3.5, says: one that is skipped counts as if the clock had not been changed yet (02:30 is 03:30), of one that
is repeated the first counts. A window that would end before it begins on such a night is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import entries, moment
from ansible.module_utils.runbook.rules.run import OVERRIDE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import tzinfo

#: The smaller first.
KINDS = ("weekly", "monthly", "quarterly", "once")
RECURRING = ("weekly", "monthly")
#: What an operation may need; a window of this kind or a larger one.
NEEDS = ("weekly", "monthly", "quarterly", "none")
#: Days between a quarterly window's announcement and its begin.
ANNOUNCE_DAYS = 14
#: Code of the refusal of a run because a freeze holds.
FROZEN = "frozen"
#: How far ahead the next window is looked for.
HORIZON = timedelta(days=400)
#: No window is longer, so that one which holds now began at most so long ago.
MOST_LENGTH = timedelta(days=31)
#: What lies outside is a mistake, and near the ends of the calendar there is no time in UTC.
FIRST_YEAR, LAST_YEAR = 2000, 9000
#: Local days and UTC days differ by at most one, and a window may run over midnight.
_PAD = timedelta(days=2)

#: What each operation of the project needs, by the name that its playbook gives to preflight. The runbook puts the
#: weekly and the monthly work into their windows. What replaces the live database, restarts the server or changes an
#: index is a planned change: in an emergency the override says why. Backups, checks, copies, restores beside the live
#: database and drills change nothing that users see, and a backup must not wait for a window. An application that was
#: taken back within seconds is taken forward as fast, and what is broken must not wait for Sunday.
OPERATIONS = {
    "weekly_db.yml": "weekly",
    "monthly_db.yml": "monthly",
    "performance.yml apply": "weekly",
    "pitr.yml setup": "weekly",
    "restore_swap.yml": "weekly",
    "rollback.yml": "weekly",
    "rollback.yml replace": "weekly",
    "rotate_keys.yml create": "weekly",
    "rotate_keys.yml retire": "weekly",
    "supabase_restore.yml restore": "weekly",
    "certificates_renew.yml": "weekly",
    "updates.yml servers": "weekly",
    "updates.yml deploy": "weekly",
    "announce.yml": "none",
    "awx.yml": "none",
    "backup.yml": "none",
    "backup_bucket.yml": "none",
    "backup_undelete.yml": "none",
    "backup_verify.yml": "none",
    "change_close.yml": "none",
    "contacts.yml": "none",
    "deployments.yml": "none",
    "daily_cleanup.yml": "none",
    "db_roles.yml": "none",
    "dr_drill.yml": "none",
    "emergency.yml": "none",
    "evidence.yml": "none",
    "files_mirror.yml": "none",
    "heartbeat.yml": "none",
    "lease.yml": "none",
    "logs.yml": "none",
    "monitoring.yml": "none",
    "performance.yml weekly": "none",
    "pitr.yml": "none",
    "pitr.yml backup": "none",
    "pitr.yml discard": "none",
    "pitr.yml restore": "none",
    "pitr.yml retention": "none",
    "restore.yml": "none",
    "reviews.yml": "none",
    "rollback.yml app": "none",
    "rollback.yml config": "none",
    "schedules.yml": "none",
    "updates.yml": "none",
    "rotate_keys.yml": "none",
    "updates.yml monthly": "none",
    "updates.yml review": "none",
    "updates.yml stage": "none",
    "updates.yml weekly": "none",
}


@dataclass(frozen=True)
class Window:
    """A window as the inventory says it; a recurring one, or one with its dates."""

    id: str
    kind: str
    zone: tzinfo
    #: Of a recurring one: 0 is Monday.
    weekday: int = 0
    #: Of a monthly one: which such day of the month, 1 to 4, or -1 for the last.
    week: int = 0
    begin: time = time()
    end: time = time()
    ends_next_day: bool = False
    #: Of one with its dates: begin and end, local to the zone.
    dates: tuple[datetime, datetime] | None = None
    #: Of a quarterly one: the local day on which people are told.
    announced_on: date | None = None


@dataclass(frozen=True)
class Freeze:
    """A span in which nothing is changed."""

    id: str
    begin: datetime
    end: datetime
    #: Operations; None is all that need a window.
    scope: tuple[str, ...] | None
    reason: str
    owner: str

    def holds(self, operation: str) -> bool:
        """Whether it freezes an operation; an empty one stands for any that needs a window."""
        return self.scope is None or operation in self.scope


@dataclass(frozen=True)
class Calendar:
    """Windows and freezes, and what each operation needs."""

    windows: tuple[Window, ...]
    freezes: tuple[Freeze, ...]
    operations: Mapping[str, str]


@dataclass(frozen=True, order=True)
class Occurrence:
    """One time that a window is open; moments are UTC."""

    begin: datetime
    end: datetime
    id: str
    kind: str
    #: The local day on which it begins.
    day: date

    @property
    def announced_as(self) -> str:
        """By which its announcement is found again; another date is another announcement. Empty where there is none.

        >>> Occurrence(datetime.min, datetime.max, "quarter-1", "quarterly", date(2027, 1, 17)).announced_as
        'quarter-1-2027-01-17'
        """
        return f"{self.id}-{self.day}" if self.kind not in RECURRING else ""


@dataclass(frozen=True)
class Standing:
    """How it stands with one operation at one moment; moments are UTC."""

    is_open: bool
    #: One sentence: until when, or why not and when next.
    msg: str
    #: Ids of the windows that hold now.
    windows: tuple[str, ...] = ()
    #: When it must be over: the end of the window, or the begin of a freeze. None where nothing bounds it.
    ends_at: datetime | None = None
    #: When it may begin, where it may not now; None where that is not within :data:`HORIZON`.
    next_at: datetime | None = None
    #: By what the window that holds now was announced; empty for one that returns each week or month.
    announced_as: str = ""
    #: A freeze holds now.
    is_frozen: bool = False


# --- reading ----------------------------------------------------------------------------------------------------------

_ID = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KEYS = {
    "weekly": {"weekday", "begin", "end", "ends_next_day"},
    "monthly": {"weekday", "week", "begin", "end", "ends_next_day"},
    "quarterly": {"begin", "end", "announced_at"},
    "once": {"begin", "end"},
}
_OPTIONAL = {"ends_next_day", "timezone"}
_FREEZE_KEYS = {"id", "begin", "end", "scope", "reason", "owner"}


def read(said: Mapping[str, Any], operations: Mapping[str, Any]) -> Calendar:
    """The calendar of an inventory.

    :param said: ``windows`` and ``freezes``, each a list; empty is a calendar without any
    :param operations: where the inventory decides otherwise than :data:`OPERATIONS`, or for a playbook of its own
    :raises RunbookError: a mistake, in one sentence with the option, the value and the fix
    """
    for operation, need in operations.items():
        if need not in NEEDS:
            raise RunbookError(f"operations: {operation}: {need!r} is unknown; {entries.choose(need, NEEDS)}")
    needs = OPERATIONS | dict(operations)
    entries.refuse_unknown("calendar", said, {"windows", "freezes"})
    windows = tuple(_window(where, entry) for where, entry in _entries(said, "windows"))
    freezes = tuple(_freeze(where, entry, needs) for where, entry in _entries(said, "freezes"))
    seen: set[str] = set()
    for name in [*(each.id for each in windows), *(each.id for each in freezes)]:
        if name in seen:
            raise RunbookError(f"calendar: the id {name!r} is given twice; give each window and freeze its own.")
        seen.add(name)
    if freezes and not windows:
        raise RunbookError("calendar: there are freezes and no windows; add the windows, or nothing may be changed.")
    return Calendar(windows, freezes, needs)


def read_for(operation: str, said: Mapping[str, Any], operations: Mapping[str, Any]) -> tuple[Calendar, str]:
    """The calendar as an operation needs it, and what it is warned of.

    A backup asks the calendar nothing, so that a mistake in a freeze must not stop it.

    :raises RunbookError: as :func:`read`, for an operation that may need a window
    """
    try:
        return read(said, operations), ""
    except RunbookError as error:
        if operations.get(operation, OPERATIONS.get(operation)) != "none":
            raise
        return Calendar((), (), {operation: "none"}), f"{error.message} {operation} needs no window, and goes on."


def _entries(said: Mapping[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    listed = said.get(key) or []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise RunbookError(f"calendar: {key}: {listed!r} is no list of dictionaries; begin each entry with '- id:'.")
    for number, entry in enumerate(listed, 1):
        name = entry.get("id")
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise RunbookError(
                f"calendar: {key}, entry {number}: id: {name!r} is no name; give small letters, digits, - and _."
            )
        yield f"calendar: {key}: {name}", entry


def _window(where: str, entry: Mapping[str, Any]) -> Window:
    kind = entry.get("kind")
    if kind not in KINDS:
        raise RunbookError(f"{where}: kind: {kind!r} is unknown; {entries.choose(kind, KINDS)}")
    keys = _KEYS[kind]
    entries.refuse_unknown(where, entry, keys | {"id", "kind", "timezone"})
    if kind == "quarterly":
        entries.require(
            where, entry, ["announced_at"], f", and a quarterly window is announced {ANNOUNCE_DAYS} days before"
        )
    entries.require(where, entry, keys - _OPTIONAL)
    zone = moment.zone(f"{where}: timezone", entry.get("timezone", "UTC"))
    if kind not in RECURRING:
        begin, end = (_moment(where, key, entry[key]) for key in ("begin", "end"))
        _check_order(where, begin, end, zone)
        announced = _announced(where, entry["announced_at"], begin) if kind == "quarterly" else None
        return Window(entry["id"], kind, zone, dates=(begin, end), announced_on=announced)
    begins, ends = (entries.time_of_day(where, key, entry[key]) for key in ("begin", "end"))
    next_day = entry.get("ends_next_day", False)
    if not isinstance(next_day, bool):
        raise RunbookError(f"{where}: ends_next_day: {next_day!r} is neither true nor false; say one of them.")
    if ends <= begins and not next_day:
        raise RunbookError(
            f"{where}: end: {ends:%H:%M} is not after begin, {begins:%H:%M}; correct it, or add ends_next_day: true."
        )
    if ends > begins and next_day:
        raise RunbookError(
            f"{where}: ends_next_day: from {begins:%H:%M} to {ends:%H:%M} of the next day is longer than a day; leave "
            "it out, or correct end."
        )
    return Window(
        entry["id"],
        kind,
        zone,
        weekday=entries.weekday(where, entry["weekday"]),
        week=entries.week(where, entry["week"]) if kind == "monthly" else 0,
        begin=begins,
        end=ends,
        ends_next_day=next_day,
    )


def _freeze(where: str, entry: Mapping[str, Any], operations: Mapping[str, str]) -> Freeze:
    entries.refuse_unknown(where, entry, _FREEZE_KEYS | {"timezone"})
    entries.require(where, entry, _FREEZE_KEYS)
    for key in ("reason", "owner"):
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise RunbookError(f"{where}: {key}: {entry[key]!r} says nothing; {_ASKED[key]}.")
    zone = moment.zone(f"{where}: timezone", entry.get("timezone", "UTC"))
    begin, end = (_moment(where, key, entry[key]) for key in ("begin", "end"))
    _check_order(where, begin, end, zone, most=None)
    scope = entry["scope"]
    if scope != "all":
        if not isinstance(scope, list) or not scope:
            raise RunbookError(f"{where}: scope: {scope!r} is neither all nor a list of playbooks; say one of them.")
        bound = sorted(name for name, need in operations.items() if need != "none")
        for name in scope:
            if not isinstance(name, str) or name not in operations:
                raise RunbookError(f"{where}: scope: {name!r} is no operation; {entries.choose(name, bound)}")
            if name not in bound:
                raise RunbookError(
                    f"{where}: scope: {name} needs no window, so no freeze holds it; take it out, or say in "
                    "maintenance_operations which window it needs."
                )
    return Freeze(
        entry["id"],
        in_utc(begin, zone),
        in_utc(end, zone),
        None if scope == "all" else tuple(scope),
        entry["reason"].strip(),
        entry["owner"].strip(),
    )


_ASKED = {"reason": "say why nothing may be changed", "owner": "say who may lift it"}


def _moment(where: str, key: str, value: object) -> datetime:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or len(str(value)) <= len("2027-01-17"):
        raise RunbookError(f'{where}: {key}: {value!r} is no date and time; write it as "2027-01-17 02:00".')
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise RunbookError(f"{where}: {key}: {value!r} is out of bounds; give a year from {FIRST_YEAR} to {LAST_YEAR}.")
    if found.tzinfo is not None:
        raise RunbookError(
            f"{where}: {key}: {value!r} has an offset of its own; leave it out, and name the zone in timezone."
        )
    return found


def _check_order(
    where: str, begin: datetime, end: datetime, zone: tzinfo, *, most: timedelta | None = MOST_LENGTH
) -> None:  # fmt: skip
    length = in_utc(end, zone) - in_utc(begin, zone)
    if length <= timedelta():
        raise RunbookError(
            f"{where}: end: {end:%Y-%m-%d %H:%M} is not after begin, {begin:%Y-%m-%d %H:%M}; correct it."
        )
    if most is not None and length > most:
        raise RunbookError(f"{where}: end: the window is longer than {most.days} days; correct it.")


def _announced(where: str, value: object, begin: datetime) -> date:
    try:
        announced = date.fromisoformat(str(value))
    except ValueError:
        raise RunbookError(f"{where}: announced_at: {value!r} is no date; write it as 2027-01-02.") from None
    days = (begin.date() - announced).days
    if days < ANNOUNCE_DAYS:
        raise RunbookError(
            f"{where}: announced_at: {announced} is {days} days before the window, and {ANNOUNCE_DAYS} are asked for; "
            "choose a later window."
        )
    return announced


# --- time -------------------------------------------------------------------------------------------------------------


def in_utc(local: datetime, zone: tzinfo) -> datetime:
    """A local time in UTC; how a clock change is read stands at the top.

    >>> from zoneinfo import ZoneInfo
    >>> new_york = ZoneInfo("America/New_York")
    >>> in_utc(datetime(2027, 3, 14, 2, 30), new_york).isoformat()
    '2027-03-14T07:30:00+00:00'
    """
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def occurrences(calendar: Calendar, since: datetime, until: datetime) -> list[Occurrence]:
    """When windows are open between two moments, in order; one that a larger window replaces is left out."""
    found = [
        each
        for window in calendar.windows
        for each in _of(window, (since - MOST_LENGTH - _PAD).date(), (until + _PAD).date())
    ]
    largest: dict[date, int] = {}
    for each in found:
        if each.kind != "once":
            largest[each.day] = max(largest.get(each.day, 0), KINDS.index(each.kind))
    return sorted(
        each
        for each in found
        if each.begin < until and each.end > since and KINDS.index(each.kind) >= largest.get(each.day, 0)
    )


def _of(window: Window, first: date, last: date) -> Iterator[Occurrence]:
    """Occurrences of one window that begin from ``first`` to ``last``, local days."""
    if window.dates is not None:
        spans = [window.dates]
    else:
        ahead = first + timedelta(days=(window.weekday - first.weekday()) % 7)
        days = [ahead + timedelta(days=7 * number) for number in range((last - ahead).days // 7 + 1)]
        spans = [
            (
                datetime.combine(day, window.begin),
                datetime.combine(day + timedelta(days=window.ends_next_day), window.end),
            )
            for day in days
            if window.kind == "weekly" or entries.is_week(day, window.week)
        ]
    for begin, end in spans:
        begin_utc, end_utc = in_utc(begin, window.zone), in_utc(end, window.zone)
        if begin_utc < end_utc:
            yield Occurrence(begin_utc, end_utc, window.id, window.kind, begin.date())


def spans(
    calendar: Calendar, operation: str, need: str, since: datetime, until: datetime
) -> list[tuple[datetime, datetime]]:  # fmt: skip
    """When an operation may run, as spans that do not touch: its windows together, less its freezes.

    :param operation: empty stands for any that needs a window, held by the freezes of all
    :param need: of :data:`NEEDS`, not ``none``
    """
    merged: list[tuple[datetime, datetime]] = []
    for each in occurrences(calendar, since, until):
        if KINDS.index(each.kind) < KINDS.index(need):
            continue
        if merged and each.begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], each.end))
        else:
            merged.append((each.begin, each.end))
    for freeze in calendar.freezes:
        if freeze.holds(operation):
            # What lies before the freeze, and what lies behind it.
            merged = [
                part
                for begin, end in merged
                for part in ((begin, min(end, freeze.begin)), (max(begin, freeze.end), end))
                if part[0] < part[1]
            ]
    return sorted((begin, end) for begin, end in merged if begin < until and end > since)


def stand(calendar: Calendar, operation: str, need: str, now: datetime) -> Standing:
    """Whether an operation may run at a moment, until when, or when next.

    :param operation: empty stands for any that needs a window
    :param need: of :data:`NEEDS`, not ``none``
    """
    found = spans(calendar, operation, need, now, now + HORIZON)
    holding = [
        each
        for each in occurrences(calendar, now, now + timedelta(microseconds=1))
        if KINDS.index(each.kind) >= KINDS.index(need)
    ]
    names = tuple(each.id for each in holding)
    if found and found[0][0] <= now:
        ends_at = found[0][1]
        frozen = next((each for each in calendar.freezes if each.begin == ends_at and each.holds(operation)), None)
        why = f", when the freeze {frozen.id} begins" if frozen else ""
        msg = (
            f"Inside the maintenance window {' and '.join(names)}, until {said_at(ends_at)}{why}: "
            f"{said_left(ends_at - now)} left."
        )
        announced_as = max((each.announced_as for each in holding), default="")
        return Standing(is_open=True, msg=msg, windows=names, ends_at=ends_at, announced_as=announced_as)
    next_at = found[0][0] if found else None
    when = f"the next window begins {said_at(next_at)}" if next_at else f"no window opens within {HORIZON.days} days"
    frozen = next((each for each in calendar.freezes if each.begin <= now < each.end and each.holds(operation)), None)
    if frozen:
        why = f"the freeze {frozen.id} holds until {said_at(frozen.end)} ({frozen.reason}; owner: {frozen.owner})"
    else:
        larger = "" if need == "weekly" else f" {need}"
        why = f"no{larger} maintenance window is open now, {said_at(now)}"
    head = f"{operation}: {why}" if operation else why[0].upper() + why[1:]
    return Standing(
        is_open=False, msg=f"{head}; {when}.", windows=names, next_at=next_at, is_frozen=frozen is not None
    )  # fmt: skip


def has_window(calendar: Calendar, operation: str, moment: datetime) -> bool:
    """Whether an operation needs a window, and one that serves it would be open at a moment but for freezes.

    :param operation: what ``preflight_playbook`` names
    """
    need = calendar.operations.get(operation, "none")
    return need != "none" and any(
        KINDS.index(each.kind) >= KINDS.index(need)
        for each in occurrences(calendar, moment, moment + timedelta(microseconds=1))
    )


def closed_by(calendar: Calendar, operation: str, moment: datetime) -> Freeze | None:
    """The freeze that closes the window in which an operation could begin at a moment; None where none does.

    A freeze closes nothing for what needs no window, nor where no window that the operation needs would be open.

    :param operation: what ``preflight_playbook`` names
    """
    frozen = [each for each in calendar.freezes if each.begin <= moment < each.end and each.holds(operation)]
    if not frozen or not has_window(calendar, operation, moment):
        return None
    return max(frozen, key=lambda each: each.end)


def operation_named(calendar: Calendar, playbook: str, words: Sequence[str]) -> str:
    """The operation that a run of a playbook is: with the words of its action or its tags where the calendar knows it.

    >>> calendar = Calendar((), (), OPERATIONS)
    >>> operation_named(calendar, "rotate_keys.yml", ["create"]), operation_named(calendar, "updates.yml", ["security"])
    ('rotate_keys.yml create', 'updates.yml')
    """
    whole = " ".join([playbook, *words])
    return whole if whole in calendar.operations else playbook


def check(said: Mapping[str, Any], operations: Mapping[str, Any], *, environment: str, now: datetime) -> str:
    """Whether the calendar can be read, and is there where it has to be.

    :raises RunbookError: it has a mistake, or production has none
    """
    calendar = read(said, operations)
    if calendar.windows:
        return stand(calendar, "", "weekly", now).msg
    if environment == "production":
        raise RunbookError(
            "calendar: production has none, so what needs a maintenance window is refused; set maintenance_calendar."
        )
    return "There is no calendar, so every hour is open."


def misspelt(operations: Mapping[str, Any]) -> list[str]:
    """Of what an inventory decides, names that look like one of :data:`OPERATIONS`, each in one sentence.

    It may be a playbook of its own, so nothing is refused.
    """
    return [
        f"operations: {name} is no playbook of this project, so {close[0]} needs what it needed before; correct the "
        "name, unless it is a playbook of your own."
        for name in operations
        if name not in OPERATIONS
        for close in [get_close_matches(name, OPERATIONS, 1, 0.9)]
        if close
    ]


def said_at(moment: datetime) -> str:
    """A moment for people, in UTC.

    >>> said_at(datetime(2026, 12, 6, 2, 0, tzinfo=UTC))
    'Sun 2026-12-06 02:00 UTC'
    """
    moment = moment.astimezone(UTC)
    return f"{entries.WEEKDAYS[moment.weekday()][:3].capitalize()} {moment:%Y-%m-%d %H:%M} UTC"


def said_left(span: timedelta) -> str:
    """Time that is left, rounded down.

    >>> said_left(timedelta(hours=1, minutes=23, seconds=59)), said_left(timedelta(seconds=59))
    ('1 h 23 min', '59 s')
    """
    seconds = int(span.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0))


@dataclass(frozen=True)
class Collision:
    """Two entries that want the same time; moments are UTC."""

    begin: datetime
    end: datetime
    what: str
    other: str
    msg: str


def collisions(calendar: Calendar, since: datetime, until: datetime) -> list[Collision]:
    """Windows that a freeze closes, in part or whole, and windows that overlap, between two moments."""
    found = []
    listed = occurrences(calendar, since, until)
    for number, one in enumerate(listed):
        for freeze in calendar.freezes:
            begin, end = max(one.begin, freeze.begin), min(one.end, freeze.end)
            if begin < end:
                whom = "it" if freeze.scope is None else f"it for {', '.join(freeze.scope)}"
                how = "the whole of" if (begin, end) == (one.begin, one.end) else "a part of"
                told = f"{one.id} on {said_at(one.begin)}: the freeze {freeze.id} closes {how} {whom} ({freeze.owner})."
                found.append(Collision(begin, end, one.id, freeze.id, told))
        for other in listed[number + 1 :]:
            begin, end = other.begin, min(one.end, other.end)
            if begin < end:
                told = f"{one.id} and {other.id} overlap from {said_at(begin)}."
                found.append(Collision(begin, end, one.id, other.id, told))
    return sorted(found, key=lambda each: (each.begin, each.what, each.other))


# --- the decision of a run --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Admission:
    """What the calendar lets a run do."""

    msg: str
    #: When the run must be over, UTC; None where nothing bounds it.
    ends_at: datetime | None = None
    windows: tuple[str, ...] = ()
    #: Why it runs outside of the calendar, as the command line said.
    override: str = ""
    #: What a person should see: the override, and in check mode what the real run would be told now.
    warning: str = ""
    #: By what the window was announced; empty for one that returns each week or month.
    announced_as: str = ""


def check_override(override: str, said: Mapping[str, str]) -> None:
    """The override counts only as it was said on the command line, with a reason.

    :param override: the variable ``window_override``; empty if it is not set
    :param said: the variables that the command line set, as ``rules.run.command_line`` gives them
    :raises RunbookError: it came from elsewhere, or says nothing
    """
    if override and said.get("window_override") != override:
        raise RunbookError(
            f"window_override: {override!r} comes from an inventory, a file beside it or a playbook, where it would "
            f"lift every window; take it out there, and say {OVERRIDE} on the command line of the run that is meant."
        )
    if not override.strip() and (override or "window_override" in said):
        raise RunbookError(
            "window_override: it is empty; say why this run cannot wait for its window, or leave it out."
        )


def admit(
    calendar: Calendar,
    *,
    environment: str,
    operation: str,
    override: str,
    now: datetime,
    check_mode: bool,
) -> Admission:
    """Whether a run may begin now, and until when.

    :param operation: what ``preflight_playbook`` names
    :param override: the reason that the command line gave; empty if it gave none
    :param now: the bastion's clock, UTC; the proof of a database compares it with the server's
    :param check_mode: a look is free at any time, and is told what the real run would be
    :raises RunbookError: it may not, with the time of the next window; its code is :data:`FROZEN` where a freeze
        holds
    """
    need = calendar.operations.get(operation)
    refusal = ""
    if need is None:
        if environment != "production":
            return Admission(
                f"No window is asked for: maintenance_operations does not name {operation}.", override=override
            )
        refusal = (
            f"operations: nothing says which window {operation} needs, and production asks; add '{operation}: ' with "
            f"one of {', '.join(NEEDS)}."
        )
    elif need == "none":
        return Admission(f"{operation} needs no maintenance window.", override=override)
    elif not calendar.windows:
        if environment != "production":
            return Admission("This inventory has no calendar, so every hour is open.", override=override)
        refusal = (
            f"calendar: {operation} needs a maintenance window, and this inventory has no calendar; add its windows."
        )
    standing = Standing(is_open=False, msg=refusal) if refusal else stand(calendar, operation, need or "", now)
    if override:
        msg = f"The calendar was overridden: {override.strip()}. {standing.msg}"
        return Admission(msg, None, standing.windows, override, msg, standing.announced_as)
    if standing.is_open:
        return Admission(
            standing.msg, standing.ends_at, standing.windows, announced_as=standing.announced_as
        )  # fmt: skip
    if check_mode:
        msg = f"A real run would be refused now: {standing.msg}"
        return Admission(msg, warning=msg)
    code = {"code": FROZEN} if standing.is_frozen else {}
    raise RunbookError(f"{standing.msg} In an emergency say why with {OVERRIDE}.", **code)
