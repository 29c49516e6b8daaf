"""A restore to a point in time: what must be so before it begins, how the server recovers, and what its end means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.pitr import Segment, Target, parse_lsn
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.rules.backup.pitr import Archive, Window


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
) -> str:
    """One sentence for a recovery that did not get to its target.

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
        return (
            f"The target, {target}, was not reached: {at}. Either nothing later was archived, or the WAL after it is "
            f"damaged; restore without a target to get all there is. See {log}."
        )
    return f"The restored server ended: {fatal}; see {log}." if has_ended else f"{trouble} See {log}."


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
            "damaged. What was restored is not all there is; restore to a target_time before it, if that will do."
        )
