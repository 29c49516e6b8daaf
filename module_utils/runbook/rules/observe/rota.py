"""Who is on call in the coming weeks: no hole, no two people where one is meant, nobody who has left or is away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import tzinfo

#: A shift of a rotation may be so long, in days.
_MOST_DAYS = 92


@dataclass(frozen=True)
class Shift:
    """A person on call."""

    schedule: str
    person: str
    begin: datetime
    end: datetime
    #: At PagerDuty; empty for a rota of the inventory.
    person_id: str = ""


@dataclass(frozen=True)
class Absence:
    """A holiday of everybody, or of one person."""

    name: str
    begin: datetime
    end: datetime
    #: Empty for everybody: whoever is on call then works, and a hole is worse than on another day.
    person: str = ""


def shifts_of(rota: Sequence[Mapping[str, Any]], *, begin: datetime, end: datetime, zone: tzinfo = UTC) -> list[Shift]:
    """The shifts of a rota of the inventory that overlap with a time.

    An entry is a shift of one ``person`` until ``end``, or a rotation of ``people``, each for ``every_days``. Of two
    entries of a schedule the later one in the list takes the place of the earlier one, so a swap is one more entry.

    :param zone: of times that name no offset; a rotation changes hands at the same time of its day, in summer too
    :raises RunbookError: names the entry and what is wrong
    """
    found: list[Shift] = []
    for number, entry in enumerate(rota, 1):
        added = list(_entry(f"rota: entry {number}", entry, begin, end, zone))
        for each in added:
            found = [left for one in found for left in _without(one, each)]
        found += added
    return sorted(found, key=lambda each: (each.begin, each.schedule))


def _entry(
    where: str, said: Mapping[str, Any], begin: datetime, end: datetime, zone: tzinfo
) -> Iterator[Shift]:  # fmt: skip
    schedule, first = str(said.get("schedule") or "on call"), moment(f"{where}: begin", said.get("begin"), zone)
    if said.get("person"):
        last = moment(f"{where}: end", said.get("end"), zone)
        if last <= first:
            raise RunbookError(f"{where}: its end {last:%Y-%m-%d %H:%M} is not after its begin; exchange them.")
        if first < end and last > begin:
            yield Shift(schedule, str(said["person"]), first.astimezone(UTC), last.astimezone(UTC))
        return
    people, days = [str(each) for each in said.get("people") or ()], said.get("every_days") or 0
    if not people or not 1 <= days <= _MOST_DAYS:
        raise RunbookError(
            f"{where}: give a person with begin and end; or people with begin and every_days, 1 to {_MOST_DAYS}."
        )
    length, until = timedelta(days=days), moment(f"{where}: end", said["end"], zone) if said.get("end") else end

    def hand_over(turn: int) -> datetime:
        # Days are added in the zone, where some of them have 23 hours.
        return (first + turn * length).astimezone(UTC)

    # One earlier, since such a day may lie between.
    turn = max(0, (begin - first) // length - 1)
    while hand_over(turn) < min(end, until):
        if hand_over(turn + 1) > begin:
            shift_end = min(hand_over(turn + 1), until.astimezone(UTC))
            yield Shift(schedule, people[turn % len(people)], hand_over(turn), shift_end)
        turn += 1


def _without(one: Shift, other: Shift) -> Iterator[Shift]:
    """What is left of a shift where another one takes its place."""
    if one.schedule != other.schedule or other.begin >= one.end or other.end <= one.begin:
        yield one
        return
    if one.begin < other.begin:
        yield Shift(one.schedule, one.person, one.begin, other.begin)
    if one.end > other.end:
        yield Shift(one.schedule, one.person, other.end, one.end)


def moment(where: str, said: object, zone: tzinfo = UTC) -> datetime:
    """A moment as ``2026-12-24`` or ``2026-12-24 09:00``, in a zone unless it names an offset.

    :raises RunbookError: it is none
    """
    try:
        found = datetime.fromisoformat(str(said))
    except ValueError:
        raise RunbookError(f"{where}: {said!r} is no moment; write it as '2026-12-24 09:00'.") from None
    return found if found.tzinfo else found.replace(tzinfo=zone)


def absences_of(said: Sequence[Mapping[str, Any]], *, zone: tzinfo = UTC) -> list[Absence]:
    """Holidays as the inventory has them: a ``name``, ``begin`` and ``end``, which is the last day, and ``person``.

    :raises RunbookError: names the entry and what is wrong
    """
    found = []
    for number, entry in enumerate(said, 1):
        where = f"holidays: entry {number}"
        begin, end = (moment(f"{where}: {edge}", entry.get(edge), zone) for edge in ("begin", "end"))
        if len(str(entry.get("end")).strip()) == len("2026-12-24"):
            end += timedelta(days=1)
        if end <= begin:
            raise RunbookError(f"{where}: its end is before its begin; exchange them.")
        found.append(
            Absence(
                str(entry.get("name") or "holiday"), begin.astimezone(UTC), end.astimezone(UTC),
                str(entry.get("person") or ""),
            )
        )  # fmt: skip
    return found


def judge(
    shifts: Sequence[Shift], schedules: Sequence[str], absences: Sequence[Absence], team: frozenset[str] | None,
    *, begin: datetime, end: datetime, may_overlap: bool,
) -> Iterator[Finding]:  # fmt: skip
    """What is wrong with a rota.

    :param schedules: those that have to be filled
    :param team: names, or ids at PagerDuty, of those who are in the team; None where nobody says it
    """
    holidays = [each for each in absences if not each.person]
    for schedule in schedules:
        mine = sorted((each for each in shifts if each.schedule == schedule), key=lambda each: (each.begin, each.end))
        for first, last in holes(mine, begin=begin, end=end):
            over = ", ".join(each.name for each in holidays if each.begin < last and each.end > first)
            yield Finding(
                id=finding_id("hole", schedule, f"{first:%Y-%m-%dT%H%M}"), kind="hole", severity="critical",
                object=schedule, evidence={"begin": first.isoformat(), "end": last.isoformat(), "holiday": over},
                msg=f"{schedule}: nobody is on call from {_said(first)} to {_said(last)}"
                f"{f', over {over}' if over else ''}.",
                risk="Put somebody in.",
            )  # fmt: skip
        if not may_overlap:
            yield from _overlaps(schedule, mine)
    yield from _of_people(shifts, absences, team)


def holes(mine: Sequence[Shift], *, begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Times without anybody.

    :param mine: shifts of one schedule in their order
    """
    known_until = begin
    for each in mine:
        if each.begin > known_until:
            yield known_until, min(each.begin, end)
        known_until = max(known_until, each.end)
        if known_until >= end:
            return
    if known_until < end:
        yield known_until, end


def _overlaps(schedule: str, mine: Sequence[Shift]) -> Iterator[Finding]:
    before: Shift | None = None
    for each in mine:
        if before is not None and each.begin < before.end and each.person != before.person:
            yield Finding(
                id=finding_id("overlap", schedule, f"{each.begin:%Y-%m-%dT%H%M}"), kind="overlap", severity="warning",
                object=schedule,
                evidence={"begin": each.begin.isoformat(), "end": min(each.end, before.end).isoformat()},
                msg=f"{schedule}: {before.person} and {each.person} are both on call from {_said(each.begin)} to "
                f"{_said(min(each.end, before.end))}.",
                risk="Say who of them it is, or that two are meant.",
            )  # fmt: skip
        if before is None or each.end > before.end:
            before = each


def _of_people(shifts: Iterable[Shift], absences: Sequence[Absence], team: frozenset[str] | None) -> Iterator[Finding]:
    gone: dict[str, Shift] = {}
    for each in shifts:
        if team is not None and not {each.person, each.person_id} & team:
            gone.setdefault(each.person, each)
        for away in absences:
            if away.person == each.person and away.begin < each.end and away.end > each.begin:
                first, last = max(away.begin, each.begin), min(away.end, each.end)
                yield Finding(
                    id=finding_id("away", each.schedule, each.person, f"{first:%Y-%m-%dT%H%M}"), kind="away",
                    severity="critical", object=each.schedule,
                    evidence={"begin": first.isoformat(), "end": last.isoformat(), "person": each.person},
                    msg=f"{each.schedule}: {each.person} is on call from {_said(first)} to {_said(last)}, and away: "
                    f"{away.name}.",
                    risk="Exchange the shift.",
                )  # fmt: skip
    for person, each in gone.items():
        yield Finding(
            id=finding_id("leaver", each.schedule, person), kind="leaver", severity="critical", object=each.schedule,
            evidence={"person": person, "begin": each.begin.isoformat()},
            msg=f"{each.schedule}: {person} is on call from {_said(each.begin)}, and is not in the team.",
            risk="Take the shift over, or add the person to the team.",
        )  # fmt: skip


def unheard(
    absences: Sequence[Absence], known: Iterable[str], *, begin: datetime, end: datetime
) -> Iterator[Unknown]:  # fmt: skip
    """Absences of that time that keep nobody off a shift, since nobody has that name.

    :param known: names of the team and of all who are on call
    """
    names = set(known)
    for each in absences:
        if each.person and each.person not in names and each.begin < end and each.end > begin:
            yield Unknown(
                "absence",
                f"holidays: {each.name} is of {each.person}, who is neither in the team nor on call; correct the name.",
            )  # fmt: skip


def hours(shifts: Sequence[Shift], *, begin: datetime, end: datetime) -> list[dict[str, Any]]:
    """How long each person is on call in that time, the longest first."""
    by_person: dict[str, float] = {}
    for each in shifts:
        length = min(each.end, end) - max(each.begin, begin)
        by_person[each.person] = by_person.get(each.person, 0.0) + max(0.0, length.total_seconds() / 3_600)
    return [
        {"person": person, "hours": round(value, 1)}
        for person, value in sorted(by_person.items(), key=lambda item: (-item[1], item[0]))
    ]


def summary(shifts: Sequence[Shift], schedules: Sequence[str], weeks_ahead: int) -> str:
    """What was looked at, with its figures."""
    return f"{count(len(shifts), 'shift')} of {count(len(schedules), 'schedule')} in {count(weeks_ahead, 'week')}"


def _said(at: datetime) -> str:
    return f"{at:%a %Y-%m-%d %H:%M} UTC"
