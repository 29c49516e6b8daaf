"""Recovery to a point in time: which moments can be restored, from which base backup, and whether archiving is healthy.

A base backup is a copy of the data folder while the server runs. The WAL since its start makes it whole, and carries it
on to any later moment, as far as no segment is missing. A server that was restored goes on in a timeline of its own; a
history file says from where.

Times are what the archive knows: a base backup's end, and the moment at which S3 took a segment. What a segment holds
is older than that moment. So a target inside the window may still lie behind the last commit; PostgreSQL says so.

>>> parse_segment("000000010000000000000028", 1 << 24)
Segment(timeline=1, number=40)
>>> Segment(1, 40).file(1 << 24)
'000000010000000000000028'
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
#: What the engine puts behind the name of a file that it compressed.
SUFFIXES = (".zst", ".gz", ".bz2", ".xz", ".snappy", ".lz4")
#: Names under which an archive may stand in the bucket: they become part of commands that PostgreSQL hands to a shell.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

#: Size of a segment unless initdb was told another.
DEFAULT_SEGMENT_BYTES = 1 << 24

#: S3 tells when it took an object in whole seconds (``LastModified``), rounded down.
S3_TIME_STEP = timedelta(seconds=1)


# --- WAL --------------------------------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """One WAL segment; ``number`` counts from the cluster's beginning."""

    timeline: int
    number: int

    def file(self, segment_bytes: int) -> str:
        """The name that PostgreSQL gives the file."""
        log, part = divmod(self.number, (1 << 32) // segment_bytes)
        return f"{self.timeline:08X}{log:08X}{part:08X}"


def parse_segment(name: str, segment_bytes: int) -> Segment | None:
    """The segment that a file name stands for; None for history files, backup labels, partial segments and others."""
    if not _SEGMENT.fullmatch(name):
        return None
    log, part = int(name[8:16], 16), int(name[16:], 16)
    per_log = (1 << 32) // segment_bytes
    return Segment(int(name[:8], 16), log * per_log + part) if part < per_log else None


class ArchivedFile(NamedTuple):
    """The file that a server archived last: a segment, or a history file, a label of a backup, a partial segment."""

    name: str

    def covers(self, segment: str) -> bool:
        """Whether the segment with this file name is archived, because segments go in their order.

        Only a segment of the same timeline tells. As texts, the history file of a later timeline comes after all
        segments of this one, and the label of a backup after the segment in which that began.

        >>> ArchivedFile("000000010000000000000029").covers("000000010000000000000028")
        True
        >>> ArchivedFile("00000002.history").covers("000000010000000000000028")
        False
        """
        return bool(_SEGMENT.fullmatch(self.name)) and self.name[:8] == segment[:8] and self.name >= segment


def plain_name(key: str) -> str:
    """File name of an object, without the suffix of its compression.

    >>> plain_name("pitr/main/wals/0000000100000000/000000010000000000000028.zst")
    '000000010000000000000028'
    """
    name = key.rpartition("/")[2]
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def history_timeline(name: str) -> int | None:
    """The timeline whose history file this is; None for another file."""
    found = _HISTORY.fullmatch(name)
    return int(found[1], 16) if found else None


def parse_lsn(text: str, *, option: str = "target_lsn") -> int:
    """A position in the WAL, as PostgreSQL writes it, in bytes.

    :raises RunbookError: the text is no such position

    >>> parse_lsn("0/3000148")
    50331976
    """
    found = re.fullmatch(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", text.strip())
    if not found:
        raise RunbookError(
            f"{option}: {text!r} is no position in the WAL; write it as pg_current_wal_lsn() does, 0/3000148."
        )
    return (int(found[1], 16) << 32) + int(found[2], 16)


@dataclass(frozen=True)
class Fork:
    """A stretch of history: ``timeline`` was left at ``end_lsn`` (bytes) for the next one."""

    timeline: int
    end_lsn: int


def parse_history(text: str) -> tuple[Fork, ...]:
    """Read a history file: the ancestors of a timeline, oldest first.

    :raises RunbookError: a line is not one of a history file
    """
    forks = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) < 2 or not words[0].isdigit():
            raise RunbookError("A history file in the archive is damaged; look at the archive's *.history objects.")
        forks.append(Fork(int(words[0]), parse_lsn(words[1], option="history file")))
    return tuple(forks)


@dataclass(frozen=True)
class Backup:
    """A base backup that is complete."""

    backup_id: str
    timeline: int
    #: Positions in bytes; what lies between them is needed to make the copy whole.
    begin_lsn: int
    end_lsn: int
    begun_at: datetime
    ended_at: datetime
    system_identifier: str
    server_version_num: int
    #: Names and places of its tablespaces.
    tablespaces: tuple[tuple[str, str], ...] = ()


def parse_backup(found: Mapping[str, Any]) -> Backup | None:
    """A base backup of the engine's list; None where it is not complete."""
    if found.get("status") != "DONE" or not found.get("end_xlog"):
        return None
    return Backup(
        backup_id=str(found["backup_id"]),
        timeline=int(found["timeline"]),
        begin_lsn=parse_lsn(str(found["begin_xlog"]), option="backup.info"),
        end_lsn=parse_lsn(str(found["end_xlog"]), option="backup.info"),
        begun_at=datetime.fromisoformat(found["begin_time_iso"]),
        ended_at=datetime.fromisoformat(found["end_time_iso"]),
        system_identifier=str(found.get("systemid") or ""),
        server_version_num=int(found.get("version") or 0),
        tablespaces=tuple((str(each[0]), str(each[2])) for each in found.get("tablespaces") or ()),
    )


@dataclass(frozen=True)
class Archive:
    """What lies in the bucket."""

    segment_bytes: int
    #: When S3 took each segment.
    segments: Mapping[Segment, datetime]
    #: For each timeline but the first, its ancestors.
    histories: Mapping[int, tuple[Fork, ...]]
    backups: Sequence[Backup]
    #: Identifiers of base backups that were started and not ended.
    incomplete: Sequence[str] = ()

    def newest_timeline(self) -> int:
        """The highest timeline that is known; 1 where nothing is."""
        return max([1, *self.histories, *(segment.timeline for segment in self.segments)])


def gather(
    listed: Sequence[Mapping[str, Any]],
    objects: Iterable[tuple[str, datetime, int]],
    history: Callable[[str], str],
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> Archive:
    """Put together what the bucket holds.

    :param listed: the engine's list of base backups
    :param objects: key of each object of the WAL, when S3 took it, its size in bytes
    :param history: gives the text of a history file by its key
    :param segment_bytes: size of a segment where no base backup says it
    """
    sizes = [int(each["xlog_segment_size"]) for each in listed if each.get("xlog_segment_size")]
    size = sizes[-1] if sizes else segment_bytes
    segments, histories = {}, {}
    for key, taken_at, _ in objects:
        name = plain_name(key)
        segment, timeline = parse_segment(name, size), history_timeline(name)
        if segment:
            segments[segment] = taken_at
        elif timeline:
            histories[timeline] = parse_history(history(key))
    parsed = [(str(each["backup_id"]), parse_backup(each)) for each in listed]
    return Archive(
        size, segments, histories,
        [backup for _, backup in parsed if backup],
        [name for name, backup in parsed if not backup],
    )  # fmt: skip


@dataclass(frozen=True)
class Window:
    """The moments to which one base backup can be carried on, along one timeline."""

    backup: Backup
    timeline: int
    #: Number of the last segment before the first gap.
    last: int
    start: datetime
    end: datetime
    #: Missing segments behind ``last``, as the first and last file name of each gap.
    gaps: tuple[tuple[str, str], ...] = ()

    def describe(self) -> dict[str, Any]:
        """As a module's result shows it."""
        return {
            "backup_id": self.backup.backup_id,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "timeline": self.timeline,
        }


def _stretches(archive: Archive, timeline: int) -> list[tuple[int, int, int | None]]:
    """Timelines that lead to ``timeline``, each with its first segment and its last (None: open), oldest first."""
    forks = archive.histories.get(timeline, ())
    starts = [0, *(fork.end_lsn // archive.segment_bytes for fork in forks)]
    ends: list[int | None] = [*starts[1:], None]
    return list(zip([*(fork.timeline for fork in forks), timeline], starts, ends, strict=True))


def window(archive: Archive, backup: Backup, timeline: int) -> Window | None:
    """How far ``backup`` can be carried on along ``timeline``; None where it does not lead there, or not even whole."""
    stretches = _stretches(archive, timeline)
    mine = next((index for index, stretch in enumerate(stretches) if stretch[0] == backup.timeline), None)
    if mine is None:
        return None
    forks = archive.histories.get(timeline, ())
    if mine < len(forks) and backup.end_lsn > forks[mine].end_lsn:
        return None
    size = archive.segment_bytes

    def there(number: int) -> datetime | None:
        # A segment in which a timeline was left stands there twice; the newer one holds all of the older one.
        times = [
            archive.segments[Segment(name, number)]
            for name, start, end in reversed(stretches)
            if number >= start and (end is None or number <= end) and Segment(name, number) in archive.segments
        ]
        return times[0] if times else None

    first = backup.begin_lsn // size
    reach = {name: (start, end) for name, start, end in stretches}
    # What a timeline wrote after it was left belongs to another story.
    newest = first - 1
    for each in archive.segments:
        start, end = reach.get(each.timeline, (0, -1))
        if start <= each.number and (end is None or each.number <= end):
            newest = max(newest, each.number)
    missing = [number for number in range(first, newest + 1) if there(number) is None]
    last = missing[0] - 1 if missing else newest
    # The end's position is the first byte after what is needed.
    if last < (backup.end_lsn - 1) // size:
        return None
    taken_at = there(last)
    if taken_at is None:
        return None
    return Window(
        backup, timeline, last, backup.ended_at, max(taken_at, backup.ended_at), _gaps(missing, stretches, size)
    )


def _gaps(
    missing: Sequence[int], stretches: Sequence[tuple[int, int, int | None]], size: int
) -> tuple[tuple[str, str], ...]:
    """Missing numbers as stretches of file names."""

    def name(number: int) -> str:
        timeline = next(each for each, start, _ in reversed(stretches) if number >= start)
        return Segment(timeline, number).file(size)

    found: list[tuple[int, int]] = []
    for number in missing:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple((name(first), name(last)) for first, last in found)


def windows(archive: Archive, timeline: int | None = None) -> list[Window]:
    """What can be restored along ``timeline`` (None: the newest), oldest base backup first."""
    chosen = timeline or archive.newest_timeline()
    found = [window(archive, backup, chosen) for backup in sorted(archive.backups, key=lambda each: each.ended_at)]
    return [each for each in found if each is not None]


def before_gap(archive: Archive, each: Window) -> datetime:
    """A moment before the first gap of a window for which the WAL that is there surely holds a later commit.

    What the last segment holds is older than the moment at which it was archived, so that one may not be reached. A
    server that writes all the time has commits in it that are newer than the archiving of the segment before.
    """
    taken_at = archive.segments.get(Segment(each.timeline, each.last - 1))
    return max(taken_at, each.start) if taken_at else each.start


def spans(found: Iterable[Window]) -> list[tuple[datetime, datetime]]:
    """The same as stretches of time, those that touch put together, oldest first."""
    merged: list[tuple[datetime, datetime]] = []
    for each in sorted(found, key=lambda one: one.start):
        if merged and each.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], each.end))
        else:
            merged.append((each.start, each.end))
    return merged


def _spoken(found: Sequence[Window]) -> str:
    said = [f"{_utc(start)} to {_utc(end)}" for start, end in spans(found)]
    return " and ".join(said) if said else "nothing, because no base backup is complete with its WAL"


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


# --- what to restore --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """The point to recover to; at most one field is set, none means all that there is."""

    time: datetime | None = None
    lsn: int | None = None
    name: str | None = None

    def __str__(self) -> str:
        if self.time:
            return self.time.isoformat()
        if self.lsn is not None:
            return f"LSN {self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:08X}"
        return f"restore point {self.name!r}" if self.name else "the end of the archive"


def parse_target(time: str | None, lsn: str | None, name: str | None) -> Target:
    """Read the options of a target.

    :raises RunbookError: more than one is set, or one cannot be read
    """
    if sum(1 for each in (time, lsn, name) if each) > 1:
        raise RunbookError(
            "target_time, target_lsn and target_name: more than one is set; set one, or none for the newest."
        )
    if lsn:
        return Target(lsn=parse_lsn(lsn))
    if not time:
        return Target(name=name or None)
    return Target(time=moment.read("target_time", time))


def choose(archive: Archive, target: Target, *, timeline: int | None, backup_id: str | None) -> Window:
    """The base backup to begin with: the newest one that leads to the target.

    :raises RunbookError: nothing leads there; the sentence says what can be restored
    """
    if timeline is not None and timeline > archive.newest_timeline():
        raise RunbookError(
            f"target_timeline: {timeline} is not in the archive; the newest is {archive.newest_timeline()}."
        )
    found = windows(archive, timeline)
    if backup_id:
        known = [each.backup_id for each in archive.backups]
        if backup_id not in known:
            raise RunbookError(
                f"backup_id: there is no complete base backup {backup_id!r}; there are {', '.join(known) or 'none'}."
            )
        found = [each for each in found if each.backup.backup_id == backup_id]
    fitting = [each for each in found if _leads_to(archive, each, target)]
    if fitting:
        return fitting[-1]
    broken = [f"{first} to {last}" if first != last else first for each in found for first, last in each.gaps]
    why = f" The WAL is broken: {', '.join(dict.fromkeys(broken))} missing." if broken else ""
    option = "target_time" if target.time else "target_lsn" if target.lsn is not None else "target_name"
    if target.time is None and target.lsn is None and not target.name:
        raise RunbookError(
            f"The end of the archive cannot be reached; what can be restored is {_spoken(found)}.{why} "
            "Give a target_time inside that."
        )
    raise RunbookError(f"{option}: {target} cannot be reached; what can be restored is {_spoken(found)}.{why}")


def _leads_to(archive: Archive, each: Window, target: Target) -> bool:
    if target.time:
        # The server has the last word: in the end's own second it may be reached or not.
        return each.start <= target.time < each.end + S3_TIME_STEP
    if target.lsn is not None:
        return each.backup.end_lsn <= target.lsn and (target.lsn - 1) // archive.segment_bytes <= each.last
    # Everything, or a restore point that may stand anywhere.
    return not each.gaps


# --- health -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archiver:
    """What the server says about its archiving."""

    archive_mode: str
    archived_count: int
    failed_count: int
    last_archived_wal: str | None
    last_archived_at: datetime | None
    last_failed_wal: str | None
    last_failed_at: datetime | None
    #: Segments that wait to be archived, and how long the oldest has waited.
    ready_segments: int = 0
    oldest_ready_s: float = 0.0
    #: Neither a command nor a library is set, so segments wait for one.
    is_idle: bool = False

    @property
    def archives(self) -> bool:
        """Whether a segment that ends is handed to anybody."""
        return self.archive_mode != "off" and not self.is_idle

    def failing(self) -> bool:
        """Whether the last attempt failed."""
        if self.last_failed_at is None:
            return False
        return self.last_archived_at is None or self.last_failed_at > self.last_archived_at


@dataclass
class Limits:
    """What the operator demands."""

    max_lag_s: int
    max_backup_age_s: int
    #: None: any oldest moment will do.
    recovery_window_days: int | None = None


def _ready(archiver: Archiver) -> str:
    return count(archiver.ready_segments, "segment waits", "segments wait")


def _waiting(archiver: Archiver) -> str:
    return f"{_ready(archiver)}, the oldest for {archiver.oldest_ready_s:.0f} s"


def _stopped(archiver: Archiver) -> Check | None:
    """Why no WAL leaves the server; None where it does."""
    if archiver.archive_mode == "off":
        return Check("archiver", Status.BREACH, "archive_mode is off, so nothing is archived; run the setup.")
    if archiver.is_idle:
        return Check(
            "archiver", Status.BREACH,
            "archive_command is empty, so WAL is kept until the server's disk is full, and none is archived; run the "
            "setup.",
        )  # fmt: skip
    if archiver.failing():
        return Check(
            "archiver", Status.BREACH,
            f"Archiving fails: {archiver.last_failed_wal} was refused {count(archiver.failed_count, 'time')}; "
            f"{_waiting(archiver)}. "
            "Nothing is lost while the disk has room; the server's log says why.",
        )  # fmt: skip
    return None


def require_archiving(archiver: Archiver) -> None:
    """Refuse a base backup whose WAL nobody would archive.

    :raises RunbookError: archiving is off, idle or failing
    """
    stopped = _stopped(archiver)
    if stopped is not None:
        raise RunbookError(f"A base backup needs the WAL that is written meanwhile. {stopped.msg}")


def judge_archiver(archiver: Archiver, limits: Limits) -> Check:
    """Whether WAL leaves the server in time."""
    stopped = _stopped(archiver)
    if stopped is not None:
        return stopped
    if archiver.oldest_ready_s > limits.max_lag_s:
        return Check(
            "archiver", Status.BREACH,
            f"Archiving is behind: {_waiting(archiver)}, and max_lag_s is {limits.max_lag_s}.",
        )  # fmt: skip
    if archiver.last_archived_at is None:
        return Check("archiver", Status.UNKNOWN, "Nothing was archived since the server's statistics began.")
    return Check("archiver", Status.OK, f"Archiving works; {_ready(archiver)}.")


def judge_proof(segment: str, archived_s: float | None, limits: Limits) -> Check:
    """Whether a segment that was ended arrived.

    :param archived_s: seconds until it lay in the bucket; None where it did not within ``max_lag_s``
    """
    if archived_s is None:
        return Check(
            "proof", Status.BREACH,
            f"Segment {segment} did not arrive within {limits.max_lag_s} s (max_lag_s); the server's log says why.",
        )  # fmt: skip
    return Check("proof", Status.OK, f"Segment {segment} arrived after {archived_s:.1f} s.")


def judge_archive(archive: Archive, limits: Limits, now: datetime) -> list[Check]:
    """Whether what lies in the bucket can be restored."""
    found = windows(archive)
    timeline = archive.newest_timeline()
    findings = []
    if not found:
        findings.append(
            Check("window", Status.BREACH, f"Nothing can be restored on timeline {timeline}; make a base backup.")
        )
        return findings
    oldest, newest = found[0], found[-1]
    age_s = (now - newest.backup.ended_at).total_seconds()
    findings.append(
        Check(
            "backup_age",
            Status.of(breach=age_s > limits.max_backup_age_s),
            f"The newest base backup, {newest.backup.backup_id}, is {age_s / 3600:.1f} h old; "
            f"{limits.max_backup_age_s / 3600:.1f} h are allowed.",
        )
    )
    broken = list(dict.fromkeys(f"{first} to {last}" for each in found for first, last in each.gaps))
    findings.append(
        Check(
            "gaps",
            Status.BREACH,
            f"WAL is missing: {', '.join(broken)}; make a base backup now, and look for the files.",
        )
        if broken
        else Check("gaps", Status.OK, f"No WAL is missing since {oldest.backup.backup_id}.")
    )
    if limits.recovery_window_days is not None:
        wanted = now - timedelta(days=limits.recovery_window_days)
        # An archive that is younger than its window cannot reach back that far.
        reaches = oldest.start <= wanted
        findings.append(
            Check(
                "window",
                Status.OK,
                f"Can be restored: {_spoken(found)}"
                + ("." if reaches else f"; the window of {count(limits.recovery_window_days, 'day')} is not full yet."),
            )
        )
    return findings


def judge_timeline(archive: Archive, timeline: int) -> Check:
    """Whether the server that was asked is the one whose WAL the archive goes on with."""
    newest = archive.newest_timeline()
    if newest > timeline:
        return Check(
            "timeline",
            Status.BREACH,
            f"The archive went on in timeline {newest}, and this server is still in timeline {timeline}: another one "
            "took its place. Stop this one, or give it another server name or prefix.",
        )
    return Check("timeline", Status.OK, f"Server and archive are in timeline {timeline}.")


def judge_owner(marked: str | None, wanted: str | None, *, where: str) -> Check | None:
    """What is wrong with whose archive this is; None where nothing is.

    :param marked: the system identifier that the archive was marked with; None where it is not marked
    :param wanted: the cluster that is meant; None where nobody says
    """
    if marked is None:
        return Check(
            "archive", Status.BREACH, f"server: there is no archive {where}; run the setup, or correct server."
        )
    if wanted and marked != wanted:
        return Check("archive", Status.BREACH, _foreign(marked, wanted, where))
    return None


def require_owner(marked: str | None, wanted: str | None, *, where: str) -> str:
    """The cluster whose archive this is.

    :raises RunbookError: it is not set up, or belongs to another cluster than ``wanted``
    """
    wrong = judge_owner(marked, wanted, where=where)
    if marked is None or wrong is not None:
        raise RunbookError(wrong.msg if wrong else where)
    return marked


@dataclass
class Figures:
    """What a check measured; None where that could not be."""

    #: What can be restored, from each base backup.
    windows: list[dict[str, Any]] = field(default_factory=list)
    oldest_restorable: str | None = None
    newest_restorable: str | None = None
    newest_wal: str | None = None
    newest_wal_age_s: float | None = None
    backup_age_s: float | None = None
    gaps: list[tuple[str, str]] = field(default_factory=list)
    ready_segments: int | None = None
    oldest_ready_s: float | None = None
    archive_proof_s: float | None = None

    def of_archive(self, archive: Archive, now: datetime) -> None:
        """Note what lies in the bucket."""
        found = windows(archive)
        self.windows = [each.describe() for each in found]
        if not found:
            return
        newest = max(found, key=lambda each: each.end)
        self.oldest_restorable = min(each.start for each in found).isoformat()
        self.newest_restorable = newest.end.isoformat()
        self.newest_wal = Segment(newest.timeline, newest.last).file(archive.segment_bytes)
        self.newest_wal_age_s = round((now - newest.end).total_seconds(), 1)
        self.backup_age_s = round((now - found[-1].backup.ended_at).total_seconds(), 1)
        self.gaps = sorted({gap for each in found for gap in each.gaps})

    def of_archiver(self, archiver: Archiver) -> None:
        """Note what the server says."""
        self.ready_segments = archiver.ready_segments
        self.oldest_ready_s = round(archiver.oldest_ready_s, 1)


# --- setting up -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """The server whose WAL is archived."""

    system_identifier: str
    in_recovery: bool
    data_directory: str
    segment_bytes: int
    #: File name of the segment that is being written; None on a standby.
    segment: str | None
    is_superuser: bool
    #: Folder of its own programs; empty where this user may not ask.
    bindir: str = ""

    @property
    def timeline(self) -> int | None:
        """Timeline in which it writes; None on a standby."""
        return int(self.segment[:8], 16) if self.segment else None


def require_primary(server: Server, *, user: str) -> None:
    """Refuse a server of which no base backup can be made by this user.

    :raises RunbookError: it is a standby, or the user is no superuser
    """
    if server.in_recovery:
        raise RunbookError("login_host: this server is a standby; name the primary.")
    if not server.is_superuser:
        raise RunbookError(f"login_user: {user!r} is no superuser; setup and backup need one.")


def require_here(server: Server, found: str | None) -> None:
    """Refuse a server whose files lie elsewhere.

    :param found: the system identifier of the data folder of that name on this machine; None where there is none
    :raises RunbookError: it is another cluster's
    """
    if found != server.system_identifier:
        raise RunbookError(
            f"login_host: the data folder {server.data_directory} of that server is not on this machine, where the "
            "engine must read it; run this task on the server's machine."
        )


def require_outside(state_dir: PurePath, data_directory: str) -> None:
    """Refuse a folder for keys that base backups would hold.

    :raises RunbookError: it lies in the data folder
    """
    data = PurePath(data_directory)
    if state_dir == data or data in state_dir.parents:
        raise RunbookError(
            f"state_dir: {state_dir} lies in the data folder {data}, and base backups would hold the keys; name a "
            "folder outside."
        )


@dataclass(frozen=True)
class Place:
    """Where an archive lies in its bucket."""

    prefix: str
    server: str

    @classmethod
    def named(cls, prefix: str, server: str) -> Place:
        """The place with these names, without slashes at the ends of the prefix.

        :raises RunbookError: one of them holds what may not stand in a command or in an address of S3
        """
        return cls(check_prefix(prefix), check_name(server, "server"))


def check_name(value: str, option: str) -> str:
    """A name that may stand in a command and in an address of S3.

    :raises RunbookError: it is empty or holds other characters
    """
    if not _PLAIN_NAME.fullmatch(value):
        raise RunbookError(
            f"{option}: {value!r} is no plain name; use letters, digits, dots, dashes and underscores, at most 63."
        )
    return value


def check_prefix(value: str) -> str:
    """A prefix in the bucket, without slashes at its ends.

    :raises RunbookError: a part of it is empty or holds other characters
    """
    for part in value.strip("/").split("/"):
        check_name(part, "prefix")
    return value.strip("/")


def shell_line(environ: Mapping[str, str], words: Sequence[str], *, placeholders: Sequence[str]) -> str:
    """A command for PostgreSQL's ``archive_command`` or ``restore_command``.

    Each word is quoted for the shell, and a percent sign in it doubled, so that PostgreSQL leaves it alone.

    :param placeholders: PostgreSQL's own, ``%p`` or ``%f``, put at the end as they are

    >>> shell_line({"A": "x y"}, ["/bin/tool", "100%"], placeholders=["%p"])
    "env A='x y' /bin/tool 100%% %p"
    """
    quoted = ["env", *(shlex.quote(f"{key}={value}").replace(f"'{key}=", f"{key}='") for key, value in environ.items())]
    quoted += [shlex.quote(word) for word in words]
    return " ".join(
        [word.replace("%", "%%") for word in quoted] + [f'"{each}"' if " " in each else each for each in placeholders]
    )


@dataclass(frozen=True)
class Setting:
    """A configuration parameter as the server has it."""

    #: What is in effect.
    value: str
    #: What ``ALTER SYSTEM`` wrote; None where it wrote nothing.
    written: str | None
    #: As ``pg_settings.source``.
    source: str


@dataclass(frozen=True)
class Change:
    """A configuration parameter that is to be set."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class SetupPlan:
    """What the setup does."""

    changes: tuple[Change, ...] = ()
    #: Parameters that take effect only when the server starts again.
    restart_for: tuple[str, ...] = field(default=())


def plan_setup(settings: Mapping[str, Setting], archive_command: str, archive_timeout_s: int) -> SetupPlan:
    """What must be set so that each segment is archived within ``archive_timeout_s``.

    :raises RunbookError: the server's command line, or ``archive_library``, would win over what is set here
    """
    wanted = {
        "archive_mode": "on" if settings["archive_mode"].value != "always" else "always",
        "wal_level": settings["wal_level"].value
        if settings["wal_level"].value in ("replica", "logical")
        else "replica",
        "archive_command": archive_command,
        "archive_timeout": str(archive_timeout_s),
    }
    if settings.get("archive_library", Setting("", None, "default")).value:
        raise RunbookError("archive_library is set, and would be used in place of archive_command; unset it first.")
    changes, restart = [], []
    for name, value in wanted.items():
        now = settings[name]
        # The server shows no command while archiving is off.
        effective = now.written if name == "archive_command" and now.value == "(disabled)" else now.value
        if effective == value:
            continue
        if now.source == "command line":
            raise RunbookError(
                f"{name}: the server was started with {name}={now.value} on its command line, which wins over "
                "ALTER SYSTEM; start it without."
            )
        if now.written != value:
            changes.append(Change(name, now.value, value))
        if name in ("archive_mode", "wal_level"):
            restart.append(name)
    return SetupPlan(tuple(changes), tuple(restart))


def expired(printed: str, known: Iterable[str]) -> list[str]:
    """Of the base backups that are ``known``, those which the engine's dry run would delete."""
    return sorted(set(known) & set(re.findall(r"\d{8}T\d{6}", printed)))


def check_removal(gone: Collection[str], known: Collection[str], *, max_delete: int, max_delete_percent: int) -> None:
    """Refuse a retention that would take more than is expected: a wrong window, or a clock that is wrong.

    :param gone: base backups that would be deleted, of those that are ``known``
    :raises RunbookError: they are too many, by their number or by their share; nothing was deleted
    """
    look = "see recovery_window_days, and if it is meant raise it for this run: -e pitr_{0}=<number>."
    if len(gone) > max_delete:
        raise RunbookError(
            f"max_delete: {count(len(gone), 'base backup')} would be deleted, and at most {max_delete} may be in one "
            "run; " + look.format("max_delete")
        )
    if len(gone) * 100 > len(known) * max_delete_percent:
        raise RunbookError(
            f"max_delete_percent: {len(gone)} of {count(len(known), 'base backup')} would be deleted, and at most "
            f"{max_delete_percent} % may be in one run; " + look.format("max_delete_percent")
        )


def check_timeline(archive: Archive, current: Segment, own: tuple[Fork, ...] | None) -> None:
    """See that nobody else went on in this server's place: two servers in one timeline overwrite each other's WAL.

    :param current: the segment that the server writes now
    :param own: the server's own history; None on the first timeline
    :raises RunbookError: the archive holds WAL of this timeline that is not this server's
    """
    succession = judge_timeline(archive, current.timeline)
    if succession.status is not Status.OK:
        raise RunbookError(f"server: {succession.msg}")
    newest = max((each.number for each in archive.segments if each.timeline == current.timeline), default=-1)
    theirs = archive.histories.get(current.timeline)
    if newest > current.number or (theirs is not None and own is not None and theirs != own):
        raise RunbookError(
            f"server: the archive holds WAL of timeline {current.timeline} that this server did not write, so it is a "
            "copy beside the one that went on. If this one shall go on, give it another server name or prefix."
        )


def check_identity(marked: str | None, found: str, *, where: str, occupied: bool) -> bool:
    """Whether an archive may take this cluster's WAL; True where it must be marked as the cluster's first.

    :param marked: the system identifier that the archive was marked with; None where it is not marked
    :param found: the cluster's own
    :param occupied: whether anything lies there already
    :raises RunbookError: it is another cluster's
    """
    if marked is not None and marked != found:
        raise RunbookError(_foreign(marked, found, where))
    if marked is None and occupied:
        raise RunbookError(
            f"server: {where} holds WAL or backups that this project did not put there; give another server or prefix."
        )
    return marked is None


def _foreign(marked: str, found: str, where: str) -> str:
    return (
        f"server: {where} is the archive of cluster {marked}, and this is cluster {found}; "
        "two clusters in one archive would overwrite each other's WAL. Give another server or prefix."
    )
