"""What lies in an archive of WAL and base backups, and which moments can be restored from it.

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
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
#: What the engine puts behind the name of a file that it compressed.
SUFFIXES = (".zst", ".gz", ".bz2", ".xz", ".snappy", ".lz4")
#: Size of a segment unless initdb was told another.
DEFAULT_SEGMENT_BYTES = 1 << 24
#: S3 tells when it took an object in whole seconds (``LastModified``), rounded down.
S3_TIME_STEP = timedelta(seconds=1)


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


def windows_in_words(found: Sequence[Window]) -> str:
    """The stretches of time that can be restored, in words."""
    said = [f"{utc(start)} to {utc(end)}" for start, end in spans(found)]
    return " and ".join(said) if said else "nothing, because no base backup is complete with its WAL"


def utc(moment: datetime) -> str:
    """A moment as an operator reads it, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
