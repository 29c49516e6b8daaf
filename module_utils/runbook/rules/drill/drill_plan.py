"""What a disaster-recovery drill does: its scenarios and planted faults, what it refuses, and the way that it chooses.

Judgement on the figures is :mod:`ansible.module_utils.runbook.rules.drill.drill`; here is all that is decided before
them.

In the sandbox the outage is real: a primary of the drill's own is killed while clients write to it. Elsewhere nothing
is killed; the backups of that environment are restored to a target that is proven to be another cluster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_check import span
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Way = Literal["dump", "pitr"]
WAYS: tuple[Way, ...] = ("dump", "pitr")
#: Where an outage may be made, and a fault planted.
SANDBOX = "sandbox"
#: Clocks that are further apart, in seconds, are said to be so.
CLOCK_STEP_S = 1.0


@dataclass(frozen=True)
class Scenario:
    """One disaster of the catalogue."""

    title: str
    #: The server and its data are gone; else it runs on, and what it holds is wrong.
    kills: bool = True
    #: Backups that are made before it, in the sandbox.
    backups: int = 1
    #: Restore from the bucket in the second region.
    replica: bool = False
    #: The newest backup is made unusable, in the sandbox; to pass it over is what the drill is about.
    newest_bad: bool = False


SCENARIOS: dict[str, Scenario] = {
    "database_lost": Scenario("the server and its data are gone"),
    "table_dropped": Scenario("a table was dropped by mistake", kills=False),
    "corruption_noticed_late": Scenario("rows were overwritten, and it was noticed later", kills=False),
    "region_lost": Scenario("the region is gone, server and bucket", replica=True),
    "newest_backup_bad": Scenario("the server is gone, and the newest backup is bad", backups=2, newest_bad=True),
}

#: Faults that can be planted, with the ways in which each makes sense.
PLANTS: dict[str, tuple[Way, ...]] = {
    "flipped_byte": ("dump", "pitr"),
    "missing_object": ("dump", "pitr"),
    "truncated_object": ("dump",),
    "truncated_wal": ("pitr",),
    "wrong_database": ("dump", "pitr"),
    "older_schema": ("dump", "pitr"),
}

#: Words of which a red drill must use one to have named the fault.
NAMES: dict[str, tuple[str, ...]] = {
    "flipped_byte": ("SHA-256", "is damaged", "messages"),
    "missing_object": ("missing",),
    "truncated_object": ("instead of",),
    "truncated_wal": ("has wrong size", "could not restore file", "WAL after"),
    "wrong_database": ("cluster",),
    "older_schema": ("older schema",),
}


def nothing_to_do() -> dict[str, Any]:
    """The result in check mode of each act but the first."""
    return {"changed": False, "msg": "Check mode begins no drill, so there is nothing to do."}


def check_request(*, environment: str, scenario: str, way: str, plant: str | None) -> None:
    """Refuse what makes no sense together.

    :raises RunbookError: a fault is to be planted elsewhere than in the sandbox, or where it cannot be
    """
    if not plant:
        return
    if environment != SANDBOX:
        raise RunbookError(
            f"plant: {plant} would damage backups of {environment}; faults are planted in the sandbox alone."
        )
    if scenario != "database_lost":
        raise RunbookError(f"plant: {plant} goes with scenario database_lost, not {scenario}; leave one of them out.")
    if way not in PLANTS[plant]:
        raise RunbookError(f"way: {plant} can be planted for {' or '.join(PLANTS[plant])}, not for {way}; name one.")


def check_announcement(announcement: Mapping[str, Any], *, min_days: int, now: datetime) -> str:
    """See that the people concerned were told in time.

    :param announcement: ``announced_at``, a date or time in ISO 8601, and ``announced_by``
    :param min_days: how many days before the drill they have to be told; 0 asks for nothing
    :raises RunbookError: nobody was told, or too late
    """
    if min_days == 0:
        return "No announcement is asked for."
    how = "write {announced_at: 2026-01-31, announced_by: name} when you have told everybody"
    who, stamp = str(announcement.get("announced_by") or ""), str(announcement.get("announced_at") or "")
    if not who or not stamp:
        raise RunbookError(
            f"announcement: the drill was not announced; it has to be {count(min_days, 'day')} before: {how}."
        )
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        raise RunbookError(f"announcement: announced_at {stamp!r} is no date; {how}.") from None
    at = at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
    if at > now:
        raise RunbookError(f"announcement: announced_at {stamp} is still to come; {how}.")
    if now - at < timedelta(days=min_days):
        raise RunbookError(
            f"announcement: it was announced by {who} {span((now - at).total_seconds())} ago, and "
            f"{count(min_days, 'day is', 'days are')} "
            f"asked for; drill on {at + timedelta(days=min_days):%Y-%m-%d} or later."
        )
    return f"Announced by {who} on {at:%Y-%m-%d}."


def check_target(
    *, found: str, pinned: str, production: Collection[str], database: str, databases: Collection[str]
) -> str:
    """See that the target of a drill is not what the drill is about.

    :param found: the target's system identifier, as it answered
    :param pinned: the one that the inventory means; empty if it does not say
    :param production: system identifiers of what must not be touched
    :param database: name of the database to be restored there
    :param databases: names of those that are there
    :raises RunbookError: it is production, not the server that is meant, or not empty
    """
    if found in {each for each in production if each}:
        raise RunbookError(
            f"target_login_host: cluster {found} answered, which is the one that the drill is about; name another "
            "server, because a drill never restores onto production."
        )
    if not any(production):
        raise RunbookError(
            "system_identifier: the inventory does not say which cluster the living one is, so the target cannot be "
            "told from it; pin it in preflight_system_identifier."
        )
    if not pinned or pinned != found:
        raise RunbookError(
            f"target_system_identifier: {pinned or 'nothing'} is pinned, and cluster {found} answered; pin that one if "
            "it is the target that is meant."
        )
    if database in databases:
        raise RunbookError(
            f"target_database: {database!r} is there already on the target, and a drill restores into an empty place; "
            "drop it, or name another one."
        )
    return f"The target is cluster {found}, another one than the living."


# --- the best recovery point ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A backup that could be restored, and the moment that it leads to; ``problem`` says why it cannot."""

    way: Way
    backup_id: str
    #: The last moment that it can give back, at most the one that is wanted; None where not even that is known.
    point: datetime | None
    size_bytes: int = 0
    problem: str = ""
    #: The end of the archive cannot be reached, so the point has to be named as the target.
    is_cut: bool = False
    #: Nothing was ever backed up this way, which is no fault where the other way serves.
    is_absent: bool = False


@dataclass(frozen=True)
class Choice:
    """What is restored, and what was better and could not be used."""

    chosen: Candidate
    passed_over: tuple[Candidate, ...]
    #: Ways that were open, and in which nothing was ever backed up.
    absent: tuple[Candidate, ...] = ()

    @property
    def costs_s(self) -> float:
        """Seconds of work that the better ones would have given back too."""
        points = [each.point for each in self.passed_over if each.point]
        if not points or not self.chosen.point:
            return 0.0
        return max(0.0, (max(points) - self.chosen.point).total_seconds())

    def sentence(self) -> str:
        """The choice, and what it costs."""
        point = f" up to {self.chosen.point:%Y-%m-%d %H:%M:%S} UTC" if self.chosen.point else ""
        said = f"{self.chosen.way} {self.chosen.backup_id}{point}."
        if self.passed_over:
            bad = "; ".join(
                f"{each.way} {each.backup_id}: {str(each.problem).rstrip('.')}" for each in self.passed_over
            )
            cost = f"which costs {span(self.costs_s)} of work" if self.costs_s else "which costs no work"
            said += f" Skipped, {cost}: {bad}."
        said += "".join(f" Not by {each.way}, because {each.problem.rstrip('.')}." for each in self.absent)
        return said


def choose(candidates: Iterable[Candidate], *, way: str, failed: Mapping[str, str]) -> Choice:
    """The candidate that gives back most; where two give back as much, the newer backup and PITR before a dump.

    :param way: ``dump``, ``pitr`` or ``best``
    :param failed: by ``way/backup_id``, why an attempt with it failed
    :raises RunbookError: none is good; the sentence says what is wrong with each
    """
    wanted = [each for each in candidates if way in ("best", each.way)]
    judged = [replace(each, problem=each.problem or failed.get(f"{each.way}/{each.backup_id}", "")) for each in wanted]
    # A backup whose point is not known was made to be the newest one.
    judged.sort(key=lambda each: (each.point is None, each.point, each.way == "pitr", each.backup_id), reverse=True)
    good = next((number for number, each in enumerate(judged) if not each.problem and each.point), None)
    if good is None:
        bad = "; ".join(f"{each.way} {each.backup_id}: {each.problem or 'leads to no point'}" for each in judged)
        raise RunbookError(f"No backup is good, so nothing can be restored. {bad or 'There is none.'}")
    better = judged[:good]
    return Choice(
        judged[good],
        tuple(each for each in better if not each.is_absent),
        tuple(each for each in better if each.is_absent),
    )


def unusable(candidates: Iterable[Candidate], failed: Mapping[str, str]) -> list[dict[str, str]]:
    """What is known to be bad, for the drill's document."""
    reasons = [
        (each.backup_id, each.problem or failed.get(f"{each.way}/{each.backup_id}", ""))
        for each in candidates
        if not each.is_absent
    ]
    return [{"backup_id": name, "reason": reason} for name, reason in reasons if reason]


def check_room(*, needed_bytes: int, free_bytes: int | None, where: str) -> None:
    """See that the restored data has room, before any of it moves.

    :param free_bytes: None where it cannot be known from here
    :raises RunbookError: it has not
    """
    if free_bytes is not None and free_bytes < needed_bytes:
        raise RunbookError(
            f"The backup needs at least {needed_bytes:,} bytes and {free_bytes:,} are free in {where}; make room before"
            " the restore begins."
        )


# --- a server's log ---------------------------------------------------------------------------------------------------

#: Before its text PostgreSQL writes a severity, a colon and two spaces, after whatever log_line_prefix says (elog.c).
_SEVERITY = re.compile(r"\b([A-Z]+):  (.*)")
#: How a server begins what it says of its start and its recovery (xlog.c, xlogrecovery.c, postmaster.c). Nothing else
#: of LOG is kept: log_statement, log_duration and extensions write statements as LOG too.
_OF_RECOVERY = (
    "starting ", "listening on", "database system ", "redo ", "consistent recovery", "recovery ", "restored log file",
    "last completed transaction", "selected new timeline", "archive recovery", "completed backup recovery", "pausing ",
    "unexpected pageaddr", "invalid ", "incorrect ", "record with ", "startup process", "terminating any other",
    "shutting down", "aborting startup",
)  # fmt: skip
_KEPT_LINES = 200


def log_without_rows(text: str) -> str:
    r"""The last lines of a server's log, of those in which it says how its recovery went: no statement and no row.

    >>> log_without_rows("LOG:  redo starts\nERROR:  bad: 'Jane'\nSTATEMENT:  SELECT\nFATAL:  no WAL\n")
    'LOG:  redo starts\nFATAL:  no WAL\n'
    """
    kept = []
    for line in text.splitlines():
        # What begins with a tab goes on with the line before.
        found = None if line.startswith("\t") else _SEVERITY.search(line)
        if found and (found[1] in ("FATAL", "PANIC") or (found[1] == "LOG" and found[2].startswith(_OF_RECOVERY))):
            kept.append(line)
    return "".join(f"{line}\n" for line in kept[-_KEPT_LINES:])


# --- verification -----------------------------------------------------------------------------------------------------


def judge_contents(wanted: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[Any]]) -> Check:
    """Compare tables that nobody wrote to: rows and hash of each, before and after.

    :param wanted: by table, its rows and its digest
    :param found: the same of the copy; a table that could not be read has the sentence why in place of its digest and
        no rows
    """
    wrong = []
    for table, (rows, digest) in sorted(wanted.items()):
        if table not in found:
            wrong.append(f"{table} is not there")
            continue
        there, other = found[table]
        if there is None:
            wrong.append(f"{table} cannot be read ({other})")
        elif there != rows:
            wrong.append(f"{table} has {count(there, 'row')} instead of {rows:,}")
        elif other != digest:
            wrong.append(f"{table} has other contents")
    if not wanted:
        return Check.unknown("contents", "Nothing is known that the copy could be compared with.")
    if wrong:
        return Check.breach(
            "contents",
            f"{len(wrong)} of {count(len(wanted), 'table')} {agree(len(wrong), 'differs', 'differ')}: "
            f"{'; '.join(wrong[:5])}.",
        )
    rows = sum(int(each[0]) for each in wanted.values())
    return Check.ok("contents", f"All tables ({len(wanted):,}) are as they were, {count(rows, 'row')}.")


def judge_schema(wanted: Collection[str], found: Collection[str]) -> Check:
    """Compare the columns that the application expects with those of the copy.

    :param wanted: as ``schema.table.column type``
    """
    missing = sorted(set(wanted) - set(found))
    if missing:
        return Check.breach(
            "schema",
            f"The copy has an older schema than the application expects: {', '.join(missing[:5])} missing"
            f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}.",
        )
    return Check.ok("schema", f"Every column that the application expects is there ({len(wanted):,}).")


def judge_altered(altered: int, surviving: int) -> Check:
    """Whether commits that survived hold what was written."""
    commits = count(surviving, "surviving commit")
    if altered:
        return Check.breach("ledger", f"{altered:,} of {commits} {agree(altered, 'is', 'are')} not what was sent.")
    return Check("ledger", Status.OK if surviving else Status.UNKNOWN, f"{commits}, each as it was sent.")


def judge_clock(skew_s: float) -> Check:
    """How far the copy's clock is from the one by which the drill measures; it changes no figure."""
    if abs(skew_s) < CLOCK_STEP_S:
        return Check.ok("clock", "The restored server's clock agrees with that of the drill.")
    side = "ahead of" if skew_s > 0 else "behind"
    return Check.ok(
        "clock",
        f"The restored server's clock is {abs(skew_s):,.0f} s {side} the drill's. RTO and RPO are taken from the "
        "drill's clock alone; set the server's right.",
    )


@dataclass(frozen=True)
class Files:
    """What a comparison of ``storage.objects`` with the second copy of the files found, of all buckets together."""

    rows: int = 0
    missing_rows: int = 0
    orphan_objects: int = 0
    differing_rows: int = 0
    #: Rows that were not compared, by bucket: the inventory names no copy for them.
    unasked_rows: Mapping[str, int] = field(default_factory=dict)
    #: Some of what differs: ``kind`` (missing, orphan, differing) and ``name``.
    named: Sequence[Mapping[str, str]] = ()


def files_not_asked(bucket: str, buckets: Collection[str], columns: Collection[str] | None) -> str:
    """Why files are no part of a drill; empty where they are.

    :param bucket: the bucket with the second copy of the files
    :param buckets: the buckets of which it holds copies
    :param columns: those of the living database, as ``schema.table.column type``; None if they are not known
    """
    if not bucket or not buckets:
        return "No file storage is named in the inventory, so files were not part of this drill."
    if columns is not None and not any(each.startswith("storage.objects.") for each in columns):
        return "The database has no storage.objects to compare files with, so files were not part of this drill."
    return ""


def judge_files(found: Files) -> Check:
    """Whether each row of the restored ``storage.objects`` has its file in the second copy.

    As in a mirror's run, files without a row are named and are no fault: after a recovery to an earlier moment they are
    those that came later.
    """

    def some(kind: str) -> str:
        names = [each["name"] for each in found.named if each["kind"] == kind][:3]
        return f" ({', '.join(names)})" if names else ""

    wrong = []
    if found.missing_rows:
        wrong.append(
            f"{found.missing_rows:,} of {count(found.rows, 'row')} of storage.objects "
            f"{agree(found.missing_rows, 'has', 'have')} no file in the second copy"
            f"{some('missing')}."
        )
    if found.differing_rows:
        wrong.append(
            f"{count(found.differing_rows, 'row')} of storage.objects tell another size or ETag than their file"
            f"{some('differing')}."
        )
    unasked = [
        f"{count(rows, 'row')} of bucket {name} were not compared: the inventory names no copy of its files."
        for name, rows in sorted(found.unasked_rows.items())
    ]
    later = (
        f" {count(found.orphan_objects, 'file has', 'files have')} no row{some('orphan')}."
        if found.orphan_objects
        else ""
    )
    if wrong or unasked:
        return Check("files", Status.BREACH if wrong else Status.UNKNOWN, " ".join([*wrong, *unasked]) + later)
    return Check.ok("files", f"Every row of storage.objects has its file in the second copy ({found.rows:,}).{later}")


def names_fault(plant: str, document: Mapping[str, Any]) -> bool:
    """Whether a red drill told what was planted.

    :param document: a drill's document
    """
    recovery = document.get("recovery") or {}
    said = [
        str(document.get("msg") or ""),
        *(str(each["msg"]) for each in document["checks"] if each["status"] != Status.OK),
    ]
    said += [str(each["msg"]) for each in document["phases"] if each["status"] != Status.OK]
    said += [str(each["reason"]) for each in recovery.get("passed_over") or []]
    text = " ".join(said)
    return document["status"] != Status.OK and any(word in text for word in NAMES[plant])
