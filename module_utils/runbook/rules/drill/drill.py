"""What a disaster-recovery drill proves: its figures, the judgement on them, and what is to be changed.

The terms are those of NIST SP 800-34 and of every cloud's manual. The recovery time objective (RTO) is how long the
service may be away; the recovery point objective (RPO) is how much of the latest work may be lost, counted in time. A
drill measures both. Its RTO goes from the declared outage to the verified service, with the pauses between the phases.
Its RPO comes from the restored copy itself: from the last acknowledged commit back to the last one up to which nothing
is missing. Dates of files say nothing about it.

What was not measured is ``unknown``, and a drill with an unknown is as red as one with a breach.

A drill is told as one document (a dict, see :func:`read`), which is kept as a file and shown in reports.

>>> judge(Objectives(14_400, 3600), Measured(rto_s=52.0, rpo_s=0.4), []).status.value
'ok'
>>> judge(Objectives(14_400, 3600), Measured(rto_s=52.0, rpo_s=None), []).status.value
'unknown'
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_check import span
from ansible.module_utils.runbook.rules.status import Check, Status, worst
from ansible.module_utils.runbook.rules.words import agree, all_ok, count, size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

SCHEMA_VERSION = 1
#: The phases of a recovery, in their order.
PHASES = ("detect", "decide", "provision", "restore", "verify", "switch")
#: What the pauses between the phases are called where the time to recovery is split.
BETWEEN = "between"
#: Production may be this many times as large as the copy. The fixed costs of a smaller copy outweigh its rate.
MOST_TIMES = 100

Way = Literal["dump", "pitr"]


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objectives:
    """What the business asked for, in seconds; ``rpo_s=0`` is "no data loss".

    :raises RunbookError: an objective that no recovery can have
    """

    rto_s: float
    rpo_s: float

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.rto_s <= 0:
            raise RunbookError(
                f"rto_s: {self.rto_s:g} is no recovery time objective; give seconds above 0, 14400 for four hours."
            )
        if self.rpo_s < 0:
            raise RunbookError(
                f"rpo_s: {self.rpo_s:g} is no recovery point objective; give seconds from 0 (no data loss) on, 3600 for"
                " one hour."
            )


@dataclass(frozen=True)
class Measured:
    """What a drill measured; None is not known.

    ``rto_s`` and ``rpo_s`` in seconds. ``acknowledged_rows`` are commits that clients were told of until the outage;
    ``surviving_rows`` are those of them that the restored copy holds; ``lost_rows`` are the others.
    """

    rto_s: float | None = None
    rpo_s: float | None = None
    acknowledged_rows: int | None = None
    surviving_rows: int | None = None
    lost_rows: int | None = None
    restored_bytes: int | None = None


@dataclass(frozen=True)
class Loss:
    """What became of the acknowledged commits; ``hole_rows`` are lost though a later commit survived."""

    acknowledged_rows: int
    surviving_rows: int
    lost_rows: int
    hole_rows: int
    rpo_s: float | None
    msg: str


def rto_s(outage_at: datetime | None, service_at: datetime | None) -> float | None:
    """Seconds from the declared outage to the verified service; None where one is missing, or the clock was set back.

    Both times must come from one clock.
    """
    if outage_at is None or service_at is None or service_at < outage_at:
        return None
    return (service_at - outage_at).total_seconds()


def loss(acknowledged: Mapping[int, float], surviving: Collection[int]) -> Loss:
    """Compare the ledger of acknowledged commits with what the restored copy holds.

    The RPO goes back from the last acknowledged commit to the last one before which none is missing. So a hole in the
    middle is not hidden by a later commit that survived.

    :param acknowledged: by the number of a commit, when its client was told, in seconds of the ledger's one clock
    :param surviving: numbers that the copy holds, also of commits whose clients were never told

    >>> loss({1: 10.0, 2: 11.0, 3: 12.5}, {1, 2}).rpo_s
    1.5
    >>> loss({1: 10.0, 2: 11.0, 3: 12.5}, {1, 3}).hole_rows
    1
    """
    ledger = sorted(acknowledged.items(), key=lambda item: (item[1], item[0]))
    there = surviving if isinstance(surviving, (set, frozenset)) else set(surviving)
    lost = [(number, at) for number, at in ledger if number not in there]
    kept = [(number, at) for number, at in ledger if number in there]
    last = ledger[-1][1] if ledger else None
    before = [at for _, at in kept if not lost or at < lost[0][1]]
    until = before[-1] if before else None
    holes = sum(1 for _, at in lost if kept and at < kept[-1][1])
    known = None
    if last is not None and not lost:
        known = 0.0
    elif last is not None and until is not None:
        known = last - until
    return Loss(len(ledger), len(kept), len(lost), holes, known, _loss_sentence(ledger, lost, known, holes))


def _loss_sentence(
    ledger: Sequence[tuple[int, float]], lost: Sequence[tuple[int, float]], known: float | None, holes: int
) -> str:
    if not ledger:
        return "No commit was acknowledged before the outage, so nothing says what was lost."
    if not lost:
        return f"Every acknowledged commit is there ({len(ledger):,})."
    whole = f"{len(lost):,} of {count(len(ledger), 'acknowledged commit')} {agree(len(lost), 'is', 'are')} lost"
    if known is None:
        least = _time(ledger[-1][1] - lost[0][1])
        return f"{whole}, the first of all among them, at least {least} of work."
    hole = f" {holes} of them are older than the last commit that is there." if holes else ""
    return f"{whole}, {_time(known)} of work.{hole}"


def split_rto(
    phases: Iterable[Mapping[str, Any]], outage_at: datetime | None, service_at: datetime | None
) -> dict[str, float] | None:
    """The time to recovery by phase, in seconds, and what lay :data:`BETWEEN` them; the sum is the RTO.

    What of a phase lies outside the outage does not count.

    :param phases: ``phases`` of a drill's document
    :return: None where the RTO is not known
    """
    whole = rto_s(outage_at, service_at)
    if whole is None or outage_at is None or service_at is None:
        return None
    parts: dict[str, float] = {}
    for phase in phases:
        begun, ended = moment(phase.get("started_at")), moment(phase.get("finished_at"))
        if begun is not None and ended is not None:
            inside = (min(ended, service_at) - max(begun, outage_at)).total_seconds()
            parts[phase["name"]] = parts.get(phase["name"], 0.0) + max(0.0, inside)
    return {**parts, BETWEEN: max(0.0, whole - sum(parts.values()))}


def moment(stamp: object) -> datetime | None:
    """A time of a document, with its zone; None for what is none."""
    if not isinstance(stamp, str):
        return None
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return when if when.tzinfo is not None else None


# --- judgement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """The drill's ``status``, one sentence, and each objective as a check of its own (``rto``, ``rpo``)."""

    status: str
    msg: str
    objectives: tuple[Check, ...]


def judge(
    objectives: Objectives,
    measured: Measured,
    checks: Iterable[Mapping[str, Any]],
    *,
    elapsed_s: float | None = None,
) -> Judgement:
    """Say whether a drill was passed: both objectives met, and every check ok.

    :param checks: ``checks`` of a drill's document: ``name``, ``status``, ``msg``
    :param elapsed_s: seconds since the outage while the service is not back; beyond the objective that is a breach,
        before it nobody knows
    """
    made = [Check(str(each["name"]), Status(each["status"]), str(each.get("msg") or "")) for each in checks]
    judged = (_judge_rto(objectives, measured.rto_s, elapsed_s), _judge_rpo(objectives, measured))
    bad = [check for check in (*judged, *made) if check.status != Status.OK]
    if not bad:
        more = f" {all_ok(len(made))}" if made else ""
        return Judgement(Status.OK, f"{judged[0].msg} {judged[1].msg}{more}", judged)
    bad.sort(key=lambda check: check.status != Status.BREACH)
    named = (f"{check.name} ({check.status}): {check.msg}" for check in bad)
    said = " ".join(text if text.endswith(".") else f"{text}." for text in named)
    return Judgement(worst(each.status for each in (*judged, *made)), said, judged)


def _judge_rto(objectives: Objectives, known: float | None, elapsed_s: float | None) -> Check:
    asked = f"RTO {_time(objectives.rto_s)}"
    if known is not None:
        met = known <= objectives.rto_s
        verb = "was back, verified," if met else "was back and verified only"
        return Check("rto", Status.OK if met else Status.BREACH, f"The service {verb} after {_time(known)} ({asked}).")
    if elapsed_s is not None and elapsed_s > objectives.rto_s:
        return Check.breach("rto", f"The service was not back after {_time(elapsed_s)} ({asked}).")
    return Check.unknown(
        "rto", f"The service did not come back verified, so its time to recovery is unknown ({asked})."
    )


def _judge_rpo(objectives: Objectives, measured: Measured) -> Check:
    asked = f"RPO {_time(objectives.rpo_s)}" if objectives.rpo_s else "RPO 0, no data loss"
    if measured.rpo_s is None:
        lost = "It is unknown"
        if measured.lost_rows:
            lost = f"{count(measured.lost_rows, 'acknowledged commit is', 'acknowledged commits are')} lost, and"
        tail = "the span that they cover is unknown" if measured.lost_rows else "how much was lost"
        return Check.unknown("rpo", f"{lost} {tail} ({asked}).")
    commits = "" if measured.lost_rows is None else f", {count(measured.lost_rows, 'commit')},"
    if measured.rpo_s > objectives.rpo_s:
        return Check.breach("rpo", f"{_time(measured.rpo_s)} of acknowledged work{commits} was lost ({asked}).")
    if measured.rpo_s == 0 and not measured.lost_rows:
        return Check.ok("rpo", f"Nothing that was acknowledged was lost ({asked}).")
    return Check.ok("rpo", f"{_time(measured.rpo_s)} of acknowledged work{commits} was lost, as was allowed ({asked}).")


def _time(seconds: float) -> str:
    """A time in words; a loss of half a second is not one of nothing.

    >>> _time(0.4), _time(52), _time(3_600), _time(14_400)
    ('400 ms', '52 s', '1 h', '4 h')
    """
    if seconds >= 3600 and seconds % 3600 == 0:
        return f"{seconds / 3600:,.0f} h"
    return f"{seconds * 1000:.0f} ms" if 0 < seconds < 1 else span(seconds).replace(".0 ", " ")


# --- what the set-up can promise --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attainable:
    """The RPO that the present set-up can promise, in the worst case; None: none at all, or not known.

    A document keeps it as ``attainable``.
    """

    way: Way | None
    rpo_s: float | None
    msg: str


def attainable(
    *,
    backup_interval_s: float | None = None,
    backup_duration_s: float | None = None,
    archive_timeout_s: float | None = None,
    archive_delay_s: float | None = None,
) -> Attainable:
    """The worst loss that the present set-up allows, whatever a single drill had the luck to measure.

    A dump holds the moment at which it began, and helps only once it is complete: shortly before that, everything since
    the beginning of the one before is lost. With WAL archiving, what is not in a finished segment is lost:
    ``archive_timeout`` closes a segment after that time (PostgreSQL's documentation, "archive_timeout"), and the
    archiver needs a moment more to store it.

    :param backup_interval_s: from one dump to the next; None: there are none
    :param backup_duration_s: how long a dump takes; None: not one is known that is good, so dumps promise nothing
    :param archive_timeout_s: the server's setting; None: WAL is not archived; 0: only full segments are
    :param archive_delay_s: how long the archiver takes for a segment; None: it is not known, and the sentence says so
    """
    found: list[Attainable] = []
    if archive_timeout_s:
        worst = archive_timeout_s + (archive_delay_s or 0.0)
        said = f"Point-in-time recovery loses at most {_time(worst)} (archive_timeout"
        said += ")." if archive_delay_s is not None else "), and what the archiver takes, which is unknown."
        found.append(Attainable("pitr", worst, said))
    if backup_interval_s is not None and backup_duration_s is not None:
        worst = backup_interval_s + backup_duration_s
        said = f"A dump every {_time(backup_interval_s)}, which takes {_time(backup_duration_s)}, can lose up to"
        found.append(Attainable("dump", worst, f"{said} {_time(worst)}."))
    if found:
        return min(found, key=lambda each: each.rpo_s or 0.0)
    if archive_timeout_s == 0:
        return Attainable(
            "pitr", None, "archive_timeout is 0: WAL waits until its segment is full, so the loss has no bound."
        )
    return Attainable(None, None, "There are neither good dumps at a known interval nor an archive of WAL.")


def judge_attainable(objectives: Objectives, found: Attainable) -> Check:
    """Whether the set-up can promise the RPO, though a lucky drill may have met it, or an unlucky one missed it."""
    asked = _time(objectives.rpo_s) if objectives.rpo_s else "0 (no data loss)"
    if found.rpo_s is not None and found.rpo_s <= objectives.rpo_s:
        return Check.ok("attainable RPO", f"{found.msg} RPO {asked} can be promised.")
    if objectives.rpo_s == 0:
        return Check.breach(
            "attainable RPO",
            f"{found.msg} No backup can promise RPO {asked}: that takes a synchronous standby.",
        )
    return Check.breach("attainable RPO", f"{found.msg} RPO {asked} cannot be promised.")


@dataclass(frozen=True)
class Extrapolation:
    """How long production's restore would take at the measured rate: an estimate."""

    production_bytes: int
    rate_bytes_per_s: float
    restore_s: float
    msg: str


def extrapolate(
    restored_bytes: int | None, restore_s: float | None, production_bytes: int | None
) -> Extrapolation | None:
    """Estimate production's restore from the drill's rate; None where one of the three is not known or not above 0.

    :param restored_bytes: what the drill restored
    :param restore_s: in how many seconds
    :param production_bytes: size of production, counted the same way
    """
    if (
        not restored_bytes
        or not restore_s
        or not production_bytes
        or min(restored_bytes, restore_s, production_bytes) < 0
    ):
        return None
    rate = restored_bytes / restore_s
    estimate = production_bytes / rate
    small = "" if is_telling(restored_bytes, production_bytes) else f" {_SMALL}"
    return Extrapolation(
        production_bytes,
        rate,
        estimate,
        f"Estimate: at the measured {size(rate)}/s, restoring the {size(production_bytes)} of production takes"
        f" {_time(estimate)}.{small}",
    )


_SMALL = "The copy was less than a hundredth of that, and its fixed costs count in full: it tells little."


def is_telling(restored_bytes: int | None, production_bytes: int) -> bool:
    """Whether the copy was large enough for an estimate that somebody may act on."""
    return restored_bytes is not None and production_bytes <= MOST_TIMES * restored_bytes


# --- what to change ---------------------------------------------------------------------------------------------------

#: The scenario that makes a backup unusable: to pass it over is what it is about.
_PASSES_OVER = "newest_backup_bad"
#: What shortens a phase.
_SHORTEN = {
    "detect": "let an alert declare the outage instead of a person",
    "decide": "write down beforehand who decides, and which way is taken in which scenario",
    "provision": "keep the target's server ready instead of making it",
    "restore": "restore with more jobs or on a faster disk, make base backups more often, or keep a standby",
    "verify": "verify the tables that the service needs first, and the rest when it runs again",
    "switch": "let clients reach the database by a name or a pooler that one command turns",
    BETWEEN: "take out what the recovery waits for between its phases",
}


def advice(document: Mapping[str, Any], found: Attainable | None = None) -> list[str]:
    """What to change, one sentence each, the most urgent first; nothing for a drill that has nothing to teach.

    :param document: a drill's document; ``advice`` itself is not looked at
    :param found: what the set-up can promise
    """
    objectives = Objectives(**document["objectives"])
    measured = document["measured"]
    said = [*_on_checks(document), *_on_rto(document, objectives)]
    recovery = document.get("recovery") or {}
    lost = measured.get("rpo_s")
    if lost is None:
        if measured["rto_s"] is not None:  # else nothing came back that could tell
            said.append(
                "RPO is unknown: see that the heartbeat is written to the database until the outage (heartbeat.yml),"
                " and that the backup holds its table."
            )
    elif lost > objectives.rpo_s:
        said.append(_on_lost_work(lost, objectives, recovery))
    if found is not None and (check := judge_attainable(objectives, found)).status != Status.OK:
        said.append(f"{check.msg} {_on_no_promise(objectives, found)}")
    passed_over = recovery.get("passed_over") or []
    if passed_over and document["scenario"] != _PASSES_OVER:
        names = ", ".join(str(each["backup_id"]) for each in passed_over)
        cost = recovery.get("costs_s")
        price = f", which cost {_time(cost)} of work" if cost else ""
        said.append(
            f"{names} could not be used{price}: run backup_verify.yml every day, so that a bad"
            " backup is found before it is needed."
        )
    estimate = document.get("extrapolation")
    if estimate and estimate["restore_s"] > objectives.rto_s:
        said.append(_on_production(estimate, measured["restored_bytes"], objectives))
    tear_down = document.get("tear_down") or {"status": Status.OK}
    if tear_down["status"] != Status.OK and not _is_said(tear_down["msg"], said):
        said.append(f"What the drill had made is not all gone: {tear_down['msg']}")
    failed = [
        f"Phase {phase['name']} ended {phase['status']}: {phase['msg']}"
        for phase in document["phases"]
        if phase["status"] != Status.OK
        and phase.get("msg")
        and not _is_said(phase["msg"], [*said, *_reasons(passed_over)])
    ]
    return list(dict.fromkeys([*failed, *said]))


def _on_production(estimate: Mapping[str, Any], restored_bytes: int | None, objectives: Objectives) -> str:
    if not is_telling(restored_bytes, estimate["production_bytes"]):
        enough = size(estimate["production_bytes"] / MOST_TIMES)
        return f"Restore a copy of at least {enough}, for an estimate of production's restore that tells more."
    return (
        f"At the measured rate, restoring production alone would take {_time(estimate['restore_s'])}, beyond RTO"
        f" {_time(objectives.rto_s)} (an estimate): {_SHORTEN['restore']}."
    )


def _on_no_promise(objectives: Objectives, found: Attainable) -> str:
    if objectives.rpo_s == 0:
        return "Or ask for an RPO above zero."
    if found.way == "pitr":
        return "Lower archive_timeout, or ask for an RPO that it can keep."
    return "Point-in-time recovery can promise one of minutes."


def _is_said(text: str | None, said: Iterable[str]) -> bool:
    return any(str(text) in sentence for sentence in said)


def _reasons(passed_over: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(each.get("reason") or "") for each in passed_over]


def _on_checks(document: Mapping[str, Any]) -> list[str]:
    made = [check for check in document["checks"] if check["status"] != Status.OK]
    made.sort(key=lambda check: check["status"] != Status.BREACH)
    return [
        f"Fix what check {check['name']} found: {check['msg']}"
        if check["status"] == Status.BREACH
        else f"Make check {check['name']} able to judge: {check['msg']}"
        for check in made
    ]


def _on_rto(document: Mapping[str, Any], objectives: Objectives) -> list[str]:
    known = document["measured"].get("rto_s")
    if known is None:
        what = "RTO and RPO are" if document["measured"]["rpo_s"] is None else "RTO is"
        return [f"{what} unknown: the service did not come back verified. Fix what is named above, and drill again."]
    if known <= objectives.rto_s:
        return []
    parts = split_rto(document["phases"], moment(document["outage_at"]), moment(document["service_at"])) or {}
    if not parts:
        return [f"RTO was missed by {_time(known - objectives.rto_s)}."]
    name = max(parts, key=lambda key: parts[key])
    where = "the pauses between the phases" if name == BETWEEN else f"phase {name}"
    cure = _SHORTEN.get(name, "look at what it waited for")
    return [f"RTO was missed by {_time(known - objectives.rto_s)}; {where} took longest, {_time(parts[name])}: {cure}."]


def _on_lost_work(lost: float, objectives: Objectives, recovery: Mapping[str, Any]) -> str:
    missed = f"RPO {_time(objectives.rpo_s)} was missed: {_time(lost)} of work was lost"
    if objectives.rpo_s == 0:
        return f"{missed}. No data loss takes a synchronous standby; a backup always loses the last moments."
    if recovery.get("way") == "dump":
        return f"{missed}. Dumps alone lose everything since the last one: set up point-in-time recovery (pitr.yml)."
    return f"{missed}. See why WAL was not archived in time (pitr.yml, check), and lower archive_timeout."


# --- lessons ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """What a person wrote down after a drill; a field that is empty is still missing."""

    text: str
    owner: str
    due_date: date | None
    done_date: date | None


_LESSON_KEYS = ("text", "owner", "due_date", "done_date")


def lessons_template(document: Mapping[str, Any]) -> str:
    """The file (TOML) that people fill in after a drill: one lesson for each advice, or an empty one."""
    head = (
        f"# Lessons of the drill {document['drill_id']} ({document['scenario']}, {document['status']}).\n"
        "# Each lesson needs text, owner and due_date; the next drill asks for what is empty. Write dates as\n"
        "# 2026-01-31. Set done_date when it is done. A drill that taught nothing says so in a text of its own.\n"
    )
    blocks = [
        f'\n[[lessons]]\ntext = {_quoted(text)}\nowner = ""\ndue_date = ""\ndone_date = ""\n'
        for text in list(document["advice"]) or [""]
    ]
    return head + "".join(blocks)


def _quoted(text: str) -> str:
    """A basic string of TOML (v1.0.0, "String"): backslash, quotation mark and control characters escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char >= " " and char != "\x7f" else f"\\u{ord(char):04X}" for char in escaped) + '"'


def parse_lessons(text: str, *, source: str) -> list[Lesson]:
    """Read a file of lessons.

    :param source: what an error calls the file
    :raises RunbookError: it is no TOML, or holds something else than lessons
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RunbookError(f"{source}: not readable as TOML: {error}. Mend that line.") from None
    entries = found.pop("lessons", [])
    if found or not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise RunbookError(f"{source}: only blocks [[lessons]] belong into it; take out the rest.")
    return [_lesson(entry, number, source) for number, entry in enumerate(entries, 1)]


def _lesson(entry: Mapping[str, Any], number: int, source: str) -> Lesson:
    strange = sorted(set(entry) - set(_LESSON_KEYS))
    if strange:
        raise RunbookError(f"{source}: lesson {number} has {strange[0]!r}; it may have {', '.join(_LESSON_KEYS)}.")
    dates: dict[str, date | None] = {}
    for key in ("due_date", "done_date"):
        value = entry.get(key, "")
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value.strip()) if value.strip() else None
            except ValueError:
                value = False
        elif isinstance(value, datetime):
            value = value.date()
        if value is not None and not isinstance(value, date):
            raise RunbookError(f"{source}: {key} of lesson {number} is no date; write it as 2026-01-31.")
        dates[key] = value
    texts = {}
    for key in ("text", "owner"):
        if not isinstance(entry.get(key, ""), str):
            raise RunbookError(f"{source}: {key} of lesson {number} is no text; put it in quotation marks.")
        texts[key] = entry.get(key, "").strip()
    return Lesson(texts["text"], texts["owner"], dates["due_date"], dates["done_date"])


def missing(lessons: Sequence[Lesson], *, today: date) -> list[str]:
    """What people still owe, by lesson; empty when all is filled in, and nothing is overdue.

    >>> missing([Lesson("Test the alert.", "", None, None)], today=date(2026, 3, 1))
    ['lesson 1: owner, due_date']
    """
    said = []
    for number, lesson in enumerate(lessons or [Lesson("", "", None, None)], 1):
        empty = [key for key in _LESSON_KEYS[:3] if not getattr(lesson, key)]
        if empty:
            said.append(f"lesson {number}: {', '.join(empty)}")
        if lesson.due_date is not None and lesson.done_date is None and lesson.due_date < today:
            said.append(
                f"lesson {number}: done_date (was due {lesson.due_date.isoformat()}, {lesson.owner or 'nobody'})"
            )
    return said


def owed(text: str | None, *, source: str, today: date) -> list[str]:
    """:func:`missing` for a file's contents in one sentence, or nothing; a file that cannot be read is owed as a whole.

    :param text: None: there is no file
    """
    if text is None:
        return [f"{source}: the file is gone"]
    try:
        found = missing(parse_lessons(text, source=source), today=today)
    except RunbookError as error:
        return [error.message]
    return [f"{source}: {'; '.join(found)}"] if found else []


# --- the document -----------------------------------------------------------------------------------------------------

_TEXT, _NUMBER, _LIST, _DICT = (str,), (int, float), (list,), (dict,)
_MAYBE = (type(None),)
#: Keys of a document, and of its parts, with their types; a part that is a list has the keys of one entry.
_KEYS: dict[str, tuple[type, ...]] = {
    "schema_version": (int,), "drill_id": _TEXT, "environment": _TEXT, "host": _TEXT, "scenario": _TEXT,
    "planted": _TEXT + _MAYBE, "started_at": _TEXT, "outage_at": _TEXT + _MAYBE, "service_at": _TEXT + _MAYBE,
    "finished_at": _TEXT + _MAYBE, "status": _TEXT, "msg": _TEXT, "phases": _LIST, "recovery": _DICT + _MAYBE,
    "objectives": _DICT, "measured": _DICT, "checks": _LIST, "extrapolation": _DICT + _MAYBE, "advice": _LIST,
    "lessons": _DICT + _MAYBE, "tear_down": _DICT + _MAYBE,
}  # fmt: skip
_PART_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "phases": {
        "name": _TEXT, "started_at": _TEXT, "finished_at": _TEXT + _MAYBE, "duration_s": _NUMBER + _MAYBE,
        "status": _TEXT, "msg": _TEXT + _MAYBE,
    },
    "recovery": {
        "way": _TEXT + _MAYBE, "backup_id": _TEXT + _MAYBE, "point": _TEXT + _MAYBE, "passed_over": _LIST,
        "costs_s": _NUMBER + _MAYBE,
    },
    "objectives": {"rto_s": _NUMBER, "rpo_s": _NUMBER},
    "measured": {
        "rto_s": _NUMBER + _MAYBE, "rpo_s": _NUMBER + _MAYBE, "acknowledged_rows": (int, *_MAYBE),
        "surviving_rows": (int, *_MAYBE), "lost_rows": (int, *_MAYBE), "restored_bytes": (int, *_MAYBE),
    },
    "checks": {"name": _TEXT, "status": _TEXT, "msg": _TEXT + _MAYBE},
    "extrapolation": {
        "production_bytes": (int,), "rate_bytes_per_s": _NUMBER, "restore_s": _NUMBER, "msg": _TEXT,
    },
    "lessons": {"path": _TEXT + _MAYBE, "missing": _LIST},
    "tear_down": {"status": _TEXT, "msg": _TEXT + _MAYBE},
    "files": {"asked": (bool,), "msg": _TEXT},
    "attainable": {"way": _TEXT + _MAYBE, "rpo_s": _NUMBER + _MAYBE, "msg": _TEXT},
}  # fmt: skip
_PASSED_OVER_KEYS = {"backup_id": _TEXT, "reason": _TEXT}
_STATUSES = tuple(Status)
_TIMES = ("started_at", "outage_at", "service_at", "finished_at")


def read(found: object, *, source: str) -> dict[str, Any]:
    """A drill's document, as it was parsed from a file or came with a result. Keys that nobody knows are let through.

    :param source: what an error calls it
    :raises RunbookError: it is no such document, or another version's; the sentence names the key
    """
    if not isinstance(found, dict):
        raise RunbookError(f"{source}: not a drill's document; move the file away.")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise RunbookError(
            f"{source}: schema_version is {found.get('schema_version')!r}, and {SCHEMA_VERSION} is known here; move the"
            " file away, or read it with the version that wrote it."
        )
    _hold(found, _KEYS, "", source)
    for part, keys in _PART_KEYS.items():
        inside = found.get(part)  # attainable and files came later, and may be missing
        for number, entry in enumerate(inside if isinstance(inside, list) else [inside]):
            if entry is not None:
                _hold(entry, keys, f"{part}[{number}]." if isinstance(inside, list) else f"{part}.", source)
    for number, entry in enumerate((found["recovery"] or {}).get("passed_over", [])):
        _hold(entry, _PASSED_OVER_KEYS, f"recovery.passed_over[{number}].", source)
    for key in _TIMES:
        if found[key] is not None and moment(found[key]) is None:
            raise RunbookError(f"{source}: {key} is {found[key]!r}, not a time with its zone; the document is damaged.")
    Objectives(**{key: found["objectives"][key] for key in ("rto_s", "rpo_s")})
    return found


def _hold(found: object, keys: Mapping[str, tuple[type, ...]], where: str, source: str) -> None:
    if not isinstance(found, dict):
        raise RunbookError(f"{source}: {where.rstrip('.')} is no mapping; the document is damaged.")
    for key, types in keys.items():
        if key not in found:
            raise RunbookError(f"{source}: {where}{key} is missing; the document is damaged.")
        value = found[key]
        strange = (isinstance(value, bool) and bool not in types) or (
            isinstance(value, float) and not math.isfinite(value)
        )
        if strange or not isinstance(value, types):
            raise RunbookError(f"{source}: {where}{key} is {value!r}; the document is damaged.")
        if key == "status" and value not in _STATUSES:
            raise RunbookError(f"{source}: {where}{key} is {value!r}, none of {', '.join(_STATUSES)}.")
