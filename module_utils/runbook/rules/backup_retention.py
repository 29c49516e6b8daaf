"""Which backups are kept, and in what order the others go.

Kept are the newest backup of each of the last so many days, weeks and months that have one. Days without a backup do
not count, so a week of failed nights does not eat up what is left. Nothing here depends on the bastion's clock but the
age of what was never finished.

A backup is deleted only if a **newer one is proven**: restored and found equal. The newest proven one and the newest
few stay always; so does what S3 locks or a person holds.

**Order.** Its manifest makes a backup, so the manifest goes first: in a bucket with versions it is hidden by a delete
marker, which is also the note that a deletion was begun. Then every version of every other object goes, then the
manifest's own versions, and the marker last. Killed in between, what is left has no manifest, so nobody takes it for a
backup, and the next run finds the marker and ends what was begun.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup_check import span
from ansible.module_utils.runbook.rules.manifest import MANIFEST_NAME, is_backup_id, started_at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime


@dataclass(frozen=True)
class Version:
    """One version of an object, or a delete marker, as S3 lists it; ``name`` is its key within the backup's folder."""

    name: str
    version_id: str | None
    size_bytes: int
    modified_at: datetime
    is_latest: bool
    is_delete_marker: bool


@dataclass(frozen=True)
class Folder:
    """All that lies in the folder of one backup."""

    backup_id: str
    versions: tuple[Version, ...]

    @property
    def is_complete(self) -> bool:
        """Its manifest is there."""
        return any(
            each.name == MANIFEST_NAME and each.is_latest and not each.is_delete_marker for each in self.versions
        )

    @property
    def is_being_deleted(self) -> bool:
        """A run hid its manifest and did not get further."""
        return any(each.name == MANIFEST_NAME and each.is_latest and each.is_delete_marker for each in self.versions)

    @property
    def started_at(self) -> datetime:
        """When the backup began, by its name."""
        started = started_at(self.backup_id)
        assert started is not None  # noqa: S101 - folders() takes no other name
        return started

    @property
    def touched_at(self) -> datetime:
        """When something was written there last."""
        return max(each.modified_at for each in self.versions)

    @property
    def size_bytes(self) -> int:
        """Bytes of all versions."""
        return sum(each.size_bytes for each in self.versions)

    @property
    def proofs(self) -> list[str]:
        """Names of its proofs, the newest first."""
        found = [
            each.name
            for each in self.versions
            if each.name.startswith("proof-") and each.name.endswith(".json") and each.is_latest
            and not each.is_delete_marker
        ]  # fmt: skip
        return sorted(found, reverse=True)


@dataclass(frozen=True)
class Policy:
    """How many are kept; ``hold`` names backups that a person keeps."""

    daily: int
    weekly: int
    monthly: int
    min_keep: int
    incomplete_after_s: int
    hold: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Decision:
    """What becomes of one backup: ``keep`` or ``delete``, and why."""

    backup_id: str
    action: str
    reason: str
    size_bytes: int


def check_policy(policy: Policy, max_delete: int) -> None:
    """Refuse numbers that would keep nothing.

    :raises RunbookError: a negative number, nothing kept, or a hold that names no backup
    """
    for name in ("daily", "weekly", "monthly"):
        if getattr(policy, name) < 0:
            raise RunbookError(f"keep_{name}: {getattr(policy, name)} is negative; give 0 or more.")
    if policy.min_keep < 1:
        raise RunbookError(f"min_keep: {policy.min_keep} would let the last backup go; give 1 or more.")
    if policy.daily + policy.weekly + policy.monthly == 0:
        raise RunbookError("keep_daily, keep_weekly, keep_monthly: all are 0, so nothing would be kept; set one.")
    if policy.incomplete_after_s < 3600:
        raise RunbookError(
            f"incomplete_after_s: {policy.incomplete_after_s} could delete a backup that is being made; give 3600 or "
            "more."
        )
    if max_delete < 0:
        raise RunbookError(f"max_delete: {max_delete} is negative; give 0 or more.")
    for one in sorted(policy.hold):
        if not is_backup_id(one):
            raise RunbookError(f"hold: {one!r} names no backup; write it like 2026-11-23T03-00-00Z.")


def folders(listed: Iterable[tuple[str, Version]]) -> list[Folder]:
    """Sort a listing into backups, the newest first; what does not look like a backup of ours is left out.

    :param listed: name of the folder below the database's, and what lies in it
    """
    found: dict[str, list[Version]] = {}
    for name, version in listed:
        if is_backup_id(name):
            found.setdefault(name, []).append(version)
    return [Folder(name, tuple(versions)) for name, versions in sorted(found.items(), reverse=True)]


def plan(found: Sequence[Folder], policy: Policy, *, newest_proven: str | None, now: datetime) -> list[Decision]:
    """Decide on every backup, the newest first. Locks of S3 are not known yet; see :func:`locked`.

    :param found: as :func:`folders` gives it
    :param newest_proven: the newest backup whose proof is ok; None if none is proven
    :param now: the bastion's clock; judges what was never finished
    """
    complete = [folder for folder in found if folder.is_complete]
    reasons = _kept(complete, policy)
    decisions = []
    for folder in found:
        if folder.is_complete:
            action, reason = _of_complete(folder, reasons.get(folder.backup_id), newest_proven, policy)
        elif folder.is_being_deleted:
            action, reason = "delete", "its deletion was begun before"
        else:
            age = (now - max(folder.touched_at, folder.started_at)).total_seconds()
            old = age > policy.incomplete_after_s
            held = folder.backup_id in policy.hold
            action = "delete" if old and not held else "keep"
            reason = f"it was never finished, {span(max(age, 0))} ago" + (", and is held" if held else "")
        decisions.append(Decision(folder.backup_id, action, reason, folder.size_bytes))
    return decisions


def _of_complete(folder: Folder, kept: str | None, newest_proven: str | None, policy: Policy) -> tuple[str, str]:
    if folder.backup_id in policy.hold:
        return "keep", "it is held"
    if kept:
        return "keep", kept
    if newest_proven is None:
        return "keep", "no backup is proven"
    if folder.backup_id == newest_proven:
        return "keep", "it is the newest that is proven"
    if folder.backup_id > newest_proven:
        return "keep", "no newer backup is proven"
    return "delete", f"its time is over, and {newest_proven} is proven"


def _kept(complete: Sequence[Folder], policy: Policy) -> dict[str, str]:
    """Why the rules keep a backup; those that they do not keep are missing.

    :param complete: the newest first
    """
    reasons: dict[str, list[str]] = {}
    for folder in complete[: policy.min_keep]:
        reasons.setdefault(folder.backup_id, []).append(f"one of the newest {policy.min_keep}")
    kinds = (
        ("daily", policy.daily, "%Y-%m-%d"),
        ("weekly", policy.weekly, "%G-W%V"),
        ("monthly", policy.monthly, "%Y-%m"),
    )
    for kind, count, form in kinds:
        seen: set[str] = set()
        for folder in complete:
            slot = folder.started_at.strftime(form)
            if slot in seen or len(seen) >= count:
                continue
            seen.add(slot)
            reasons.setdefault(folder.backup_id, []).append(kind)
    return {name: ", ".join(why) for name, why in reasons.items()}


def check_cap(decisions: Sequence[Decision], max_delete: int) -> None:
    """A list of deletions that is far too long is a mistake somewhere else.

    :raises RunbookError: more complete backups would go than ``max_delete``
    """
    going = [each for each in decisions if each.action == "delete"]
    if len(going) > max_delete:
        raise RunbookError(
            f"max_delete: {len(going)} backups would be deleted, and at most {max_delete} may be in one run; look at "
            "the plan with --check, and raise backup_retention_max_delete once if it is right."
        )


def locked(decision: Decision, locks: Collection[str]) -> Decision:
    """The decision when S3 locks are known: what is locked is kept."""
    if decision.action == "delete" and locks:
        return Decision(decision.backup_id, "keep", f"S3 locks it: {min(locks)}", decision.size_bytes)
    return decision


def lock_reason(legal_hold: bool, retain_until: datetime | None, now: datetime) -> str | None:
    """Why S3 lets a version not be deleted; None if it may be."""
    if legal_hold:
        return "a legal hold"
    if retain_until is not None and retain_until > now:
        return f"retention until {retain_until:%Y-%m-%d %H:%M} UTC"
    return None


def as_results(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """The decisions as a module returns them."""
    return [asdict(each) for each in decisions]


def deletion_order(folder: Folder) -> tuple[list[Version], list[Version], list[Version]]:
    """What goes once the manifest is hidden, in three steps: all else, the manifest's versions, its delete markers.

    A delete marker that went before what it hides would bring a manifest back whose objects are gone.
    """
    rest = [each for each in folder.versions if each.name != MANIFEST_NAME]
    manifest = [each for each in folder.versions if each.name == MANIFEST_NAME]
    return (
        rest,
        [each for each in manifest if not each.is_delete_marker],
        [each for each in manifest if each.is_delete_marker],
    )
