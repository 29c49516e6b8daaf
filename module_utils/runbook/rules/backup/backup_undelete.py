"""Which hidden backups can be brought back, and in what order.

What somebody deleted in a bucket with versions is not gone: a delete marker hides it. A backup is brought back by
deleting the markers, the manifest's last, because it is the manifest that makes a backup. It is brought back only if a
version of every object that its manifest names is still there: half a backup that looks whole is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_retention import DELETION_NAME, Folder, Version
from ansible.module_utils.runbook.rules.backup.manifest import MANIFEST_NAME, is_backup_id

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest


def choose(
    found: Sequence[Folder], hidden: Collection[str], deleted: Collection[str], named: Sequence[str]
) -> list[str]:
    """Backups to bring back, the newest first: those that were named, or else all that nobody decided to delete.

    :param hidden: those that are hidden without a retention's decision
    :param deleted: those that a retention deleted and whose versions are still there
    :raises RunbookError: one that was named is no backup, or there is nothing of it to bring back
    """
    if not named:
        return sorted(hidden, reverse=True)
    present = {folder.backup_id for folder in found if folder.is_complete}
    for name in named:
        if not is_backup_id(name):
            raise RunbookError(f"backups: {name!r} names no backup; write it like 2026-11-23T03-00-00Z.")
        if name not in present and name not in hidden and name not in deleted:
            raise RunbookError(f"backups: of {name} no version is left there, so it cannot be brought back.")
    return sorted(set(named) - present, reverse=True)


def newest_manifest(folder: Folder) -> Version | None:
    """The version of the manifest that the markers hide; None where none is left."""
    found = [each for each in folder.versions if each.name == MANIFEST_NAME and not each.is_delete_marker]
    return max(found, key=lambda each: each.modified_at, default=None)


def missing(folder: Folder, manifest: Manifest, base: str) -> list[str]:
    """Objects that the manifest names and of which the right version is not there any more.

    :param base: the backup's folder, with its slash
    """
    there = {(each.name, each.version_id): each.size_bytes for each in folder.versions if not each.is_delete_marker}
    sizes: dict[str, set[int]] = {}
    for (name, _version), size in there.items():
        sizes.setdefault(name, set()).add(size)
    lost = []
    for each in manifest.objects:
        name = each.key.removeprefix(base)
        exact = there.get((name, each.version_id))
        if exact != each.size_bytes and (each.version_id or each.size_bytes not in sizes.get(name, ())):
            lost.append(name)
    return lost


@dataclass(frozen=True)
class Steps:
    """What is deleted to bring one backup back, in this order."""

    #: Versions of the document by which a retention decided its deletion.
    documents: tuple[Version, ...]
    #: Delete markers, the manifest's apart.
    markers: tuple[Version, ...]
    manifest_markers: tuple[Version, ...]

    @property
    def count(self) -> int:
        """How many versions they are."""
        return len(self.documents) + len(self.markers) + len(self.manifest_markers)


def steps(folder: Folder) -> Steps:
    """Delete markers that hide something of a backup, and nothing else.

    The document of a deletion goes first: from then on nobody purges what is still hidden.
    """
    newest = {
        each.name: each
        for each in sorted(folder.versions, key=lambda one: one.modified_at)
        if not each.is_delete_marker
    }
    markers = [
        each for each in folder.versions
        if each.is_delete_marker and each.name in newest and each.modified_at >= newest[each.name].modified_at
        and each.name != DELETION_NAME
    ]  # fmt: skip
    return Steps(
        tuple(each for each in folder.versions if each.name == DELETION_NAME),
        tuple(each for each in markers if each.name != MANIFEST_NAME),
        tuple(each for each in markers if each.name == MANIFEST_NAME),
    )
