"""A restore to a point in time: what must be so before it begins, how the server recovers, and what its end means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.backup import defects
from ansible.module_utils.runbook.rules.backup.wal_archive import (
    S3_TIME_STEP,
    Archive,
    Segment,
    Window,
    parse_lsn,
    windows,
    windows_in_words,
)
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime


# What to restore ------------------------------------------------------------------------------------------------------


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
            f"The end of the archive cannot be reached; what can be restored is {windows_in_words(found)}.{why} "
            "Give a target_time inside that."
        )
    raise RunbookError(f"{option}: {target} cannot be reached; what can be restored is {windows_in_words(found)}.{why}")


def _leads_to(archive: Archive, each: Window, target: Target) -> bool:
    if target.time:
        # The server has the last word: in the end's own second it may be reached or not.
        return each.start <= target.time < each.end + S3_TIME_STEP
    if target.lsn is not None:
        return each.backup.end_lsn <= target.lsn and (target.lsn - 1) // archive.segment_bytes <= each.last
    # Everything, or a restore point that may stand anywhere.
    return not each.gaps


# Before ---------------------------------------------------------------------------------------------------------------


def refuse_foreign(path: str, foreign: Sequence[str]) -> None:
    """Leave a folder alone that holds what no restore put there.

    :raises RunbookError: it does
    """
    if foreign:
        raise RunbookError(
            f"restore_path: {path} holds {', '.join(foreign[:3])}, which no restore of this project put there; name a "
            "folder that is missing or empty."
        )


def refuse_done(path: str, state: str) -> None:
    """Never restore over a server that was restored.

    :param state: what the folder's note says; empty where there is none
    :raises RunbookError: it is done
    """
    if state == "done":
        raise RunbookError(
            f"restore_path: {path} holds a server that was restored, and a restore never overwrites one; remove it "
            "with pg_pitr_discard, or name another folder."
        )


def check_copy(window: Window, *, tablespaces: Collection[str], bindir: str, found_major: int) -> None:
    """Whether the base backup can be unpacked and started with what there is.

    :param tablespaces: names of those that get a new folder
    :param found_major: major version of PostgreSQL's programs in ``bindir``
    :raises RunbookError: a tablespace has no folder, or the programs are of another version
    """
    unmapped = [name for name, _ in window.backup.tablespaces if name not in tablespaces]
    if unmapped:
        raise RunbookError(
            f"tablespaces: the backup has {', '.join(unmapped)}; give each a new folder, because its old one may be in "
            "use."
        )
    wanted = window.backup.server_version_num // 10_000
    if wanted and wanted != found_major:
        raise RunbookError(
            f"bindir: the backup is of PostgreSQL {wanted}, and {bindir} holds {found_major}; name the programs of "
            f"{wanted}."
        )


def check_room(*, free_bytes: int, least_bytes: int) -> None:
    """Whether the base backup fits.

    :param least_bytes: its size as it lies in the bucket, compressed
    :raises RunbookError: it does not
    """
    if free_bytes < least_bytes:
        raise RunbookError(
            f"restore_path: {free_bytes:,} bytes are free there, and the base backup has {least_bytes:,} before it is "
            "unpacked; make room, or name a folder on another disk."
        )


def settings(
    target: Target,
    *,
    restore_command: str,
    port: int,
    timeline: int | None,
    action: str,
    more: Mapping[str, object],
) -> dict[str, str]:
    """Configuration parameters of the server that recovers.

    :param timeline: the one to follow; None for the newest
    :param action: ``promote`` or ``pause``
    :param more: what the operator sets, which wins
    """
    chosen = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        # Archives nothing, and keeps its WAL: if this server is to take over, the setup lets it out, none missing.
        "archive_mode": "on",
        "archive_command": "",
        "hot_standby": "on",
        "restore_command": restore_command,
        "recovery_target_timeline": str(timeline or "latest"),
        "recovery_target_action": action,
    }
    if target.time:
        chosen["recovery_target_time"] = target.time.isoformat()
    elif target.lsn is not None:
        chosen["recovery_target_lsn"] = f"{target.lsn >> 32:X}/{target.lsn & 0xFFFFFFFF:X}"
    elif target.name:
        chosen["recovery_target_name"] = target.name
    return chosen | {name: str(value) for name, value in more.items()}


# After ----------------------------------------------------------------------------------------------------------------


def could_not_fetch(fatal: str) -> bool:
    """Whether a server ended because S3 did not give it a segment, by its log's last words: a new start may help."""
    return "could not restore file" in fatal or "has wrong size" in fatal


def unreached(
    target: Target, *, log: str, fatal: str, last_commit: datetime | None, trouble: str, has_ended: bool
) -> RunbookError:
    """The error of a recovery that did not get to its target.

    :param log: path of the server's log
    :param fatal: why the server ended, from its log
    :param last_commit: time of the last commit that was replayed
    :param trouble: the sentence of the error that ended the wait
    :param has_ended: whether the server ended by itself
    """
    if "recovery ended before configured recovery target was reached" in fatal:
        at = (
            f"the last commit that could be replayed is of {last_commit:%Y-%m-%d %H:%M:%S.%f} UTC"
            if last_commit
            else "no commit could be replayed"
        )
        return RunbookError(
            f"The target, {target}, was not reached: {at}. Either nothing later was archived, or the WAL after it is "
            f"damaged; restore without a target to get all there is. See {log}.",
            code=defects.WAL_DAMAGED,
        )
    said = f"The restored server ended: {fatal}; see {log}." if has_ended else f"{trouble} See {log}."
    return RunbookError(said, **({"code": defects.WAL_DAMAGED} if could_not_fetch(fatal) else {}))


def check_reached(archive: Archive, window: Window, target: Target, *, system_identifier: str, lsn: str | None) -> None:
    """Whether what was restored is what was asked for.

    :param system_identifier: of the restored server
    :param lsn: up to where it replayed
    :raises RunbookError: it is another cluster, or not all there is though that was asked for
    """
    if system_identifier != window.backup.system_identifier:
        raise RunbookError(
            "What was restored is another cluster than the base backup's; do not use it.", status=Status.UNKNOWN
        )
    if target == Target() and lsn and (parse_lsn(lsn) - 1) // archive.segment_bytes < window.last:
        raise RunbookError(
            f"The recovery ended at {lsn}, and the archive reaches to "
            f"{Segment(window.timeline, window.last).file(archive.segment_bytes)}: the WAL after that position is "
            "damaged. What was restored is not all there is; restore to a target_time before it, if that will do.",
            code=defects.WAL_DAMAGED,
        )
