"""Whether archiving is healthy, and whether an archive is this server's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.wal_archive import Archive, Fork, Segment, windows, windows_in_words
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count


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
                f"Can be restored: {windows_in_words(found)}"
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
