"""Which backups are kept, and how the others go.

Kept are the newest backup of each of the last so many days, weeks and months that have one. Days without a backup do
not count, so a week of failed nights does not eat up what is left.

A backup is deleted only if a **newer one is proven**: restored and found equal. The newest proven one and the newest
few stay always; so does what S3 locks or a person holds.

**A deletion is a decision that is written down.** First ``deletion.json`` says in the backup's folder who deletes it,
when and why. Then delete markers hide its objects, the manifest first, because it is the manifest that makes a backup.
The versions stay for some days, and are purged then. A backup that is hidden without such a document was deleted by
somebody else, most likely by mistake: its versions are all that is left of it, so nothing here purges them, and nothing
else is deleted while one stands like that.

**Time** is the S3 server's: of its answers (``now``) and of what it stores (``modified_at``). The clock of the machine
that runs this may be wrong by years.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_check import MAX_SKEW_S, span
from ansible.module_utils.runbook.rules.backup.manifest import (
    CLAIM_NAME,
    HOLD_PREFIX,
    MANIFEST_NAME,
    folder_name,
    is_backup_id,
    started_at,
)
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

#: Object of a backup's folder in which a retention wrote down that it deletes it.
DELETION_NAME = "deletion.json"
#: A larger one is none.
MAX_DELETION_BYTES = 1 << 16
_DELETION_SCHEMA = 1
#: Longest time between the document and the delete marker of the manifest, which is the next request.
_ONE_ACT = timedelta(hours=1)
#: Backups that a sentence names.
_NAMED = 3


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
    def was_complete(self) -> bool:
        """Its manifest is there, or was: a version or a delete marker of it tells."""
        return any(each.name == MANIFEST_NAME for each in self.versions)

    @property
    def has_manifest(self) -> bool:
        """A version of its manifest is there, be it hidden."""
        return any(each.name == MANIFEST_NAME and not each.is_delete_marker for each in self.versions)

    @property
    def has_claim(self) -> bool:
        """The object that says who makes it is there."""
        return any(each.name == CLAIM_NAME and each.is_latest and not each.is_delete_marker for each in self.versions)

    @property
    def is_empty(self) -> bool:
        """Nothing is left of it but delete markers and the document of its deletion."""
        return all(each.is_delete_marker or each.name == DELETION_NAME for each in self.versions)

    @property
    def deletion(self) -> Version | None:
        """The document by which this backup was deleted, be it hidden itself; None if nobody decided that.

        It counts only if the manifest was hidden right after it was written. One that a killed run left beside a whole
        backup does not excuse what somebody deletes weeks later.
        """
        markers = [each.modified_at for each in self.versions if each.name == MANIFEST_NAME and each.is_delete_marker]
        for each in sorted(self.documents, key=lambda one: one.modified_at, reverse=True):
            if not self.has_manifest and not markers:
                return each
            if any(timedelta() <= at - each.modified_at <= _ONE_ACT for at in markers):
                return each
        return None

    @property
    def holds(self) -> list[str]:
        """Names of the objects by which runs hold it."""
        return [
            each.name
            for each in self.versions
            if each.name.startswith(HOLD_PREFIX) and each.is_latest and not each.is_delete_marker
        ]

    @property
    def documents(self) -> list[Version]:
        """All versions of the document of a deletion."""
        return [each for each in self.versions if each.name == DELETION_NAME and not each.is_delete_marker]

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
class Deletion:
    """The document of a deletion: which backup, of which database, by which run, when (ISO 8601) and why."""

    backup_id: str
    database: str
    run_id: str
    decided_at: str
    reason: str

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return (json.dumps({"schema_version": _DELETION_SCHEMA, **asdict(self)}, indent=1) + "\n").encode()


def parse_deletion(text: bytes, *, backup_id: str, database: str) -> Deletion | None:
    """Read the document of a deletion; None if it is not one of this very backup."""
    try:
        said = json.loads(text)
        if said.pop("schema_version") != _DELETION_SCHEMA or not all(isinstance(each, str) for each in said.values()):
            return None
        found = Deletion(**said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found if (found.backup_id, found.database) == (backup_id, database) else None


@dataclass(frozen=True)
class Hold:
    """Why a backup is kept until when: a copy that was made from it waits to be swapped in."""

    reason: str
    #: ISO 8601.
    until: str
    run_id: str = ""

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def hold_name(what_for: str) -> str:
    """Name of the hold's object within the backup's folder."""
    return f"{HOLD_PREFIX}{folder_name(what_for)}.json"


def held(text: bytes, now: datetime) -> str:
    """Why a hold keeps its backup; empty where its time is over. One that cannot be read keeps it."""
    try:
        said = Hold(**json.loads(text))
        until = datetime.fromisoformat(said.until)
        if until.tzinfo is None:
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        return "it is held by an object that cannot be read"
    return f"it is held until {until:%Y-%m-%d %H:%M} UTC: {said.reason}" if until > now else ""


def deletions(texts: Mapping[str, bytes], *, database: str) -> dict[str, Deletion]:
    """The deletions that were decided, by the backup's name; a document that is none decides nothing."""
    found = {name: parse_deletion(text, backup_id=name, database=database) for name, text in texts.items()}
    return {name: each for name, each in found.items() if each is not None}


@dataclass(frozen=True)
class Policy:
    """How many are kept; ``hold`` names backups that a person keeps."""

    daily: int
    weekly: int
    monthly: int
    min_keep: int
    incomplete_after_s: int
    hold: frozenset[str] = frozenset()
    #: Days that the versions of a deleted backup stay.
    keep_deleted_days: int = 7
    #: Hidden backups that a person gives up.
    give_up: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Decision:
    """What becomes of one backup, and why.

    ``keep``; ``delete``: it is hidden, and its versions stay for some days; ``purge``: it was deleted, and its versions
    go for good; ``remove``: it was never finished, and goes for good.
    """

    backup_id: str
    action: str
    reason: str
    size_bytes: int


def check_policy(policy: Policy, max_delete: int, max_delete_percent: int) -> None:
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
    for name, value, most in (
        ("max_delete", max_delete, 1_000_000),
        ("max_delete_percent", max_delete_percent, 100),
        ("keep_deleted_days", policy.keep_deleted_days, 36_500),
    ):
        if not 0 <= value <= most:
            raise RunbookError(f"{name}: {value} is out of bounds; give a number from 0 to {most}.")
    for name, named in (("hold", policy.hold), ("give_up", policy.give_up)):
        for one in sorted(named):
            if not is_backup_id(one):
                raise RunbookError(f"{name}: {one!r} names no backup; write it like 2026-11-23T03-00-00Z.")
    both = sorted(policy.hold & policy.give_up)
    if both:
        raise RunbookError(f"hold and give_up: {both[0]} stands in both; take it out of one.")


def folders(listed: Iterable[tuple[str, Version]]) -> list[Folder]:
    """Sort a listing into backups, the newest first; what does not look like a backup of ours is left out.

    :param listed: name of the folder below the database's, and what lies in it
    """
    found: dict[str, list[Version]] = {}
    for name, version in listed:
        if is_backup_id(name):
            found.setdefault(name, []).append(version)
    return [Folder(name, tuple(versions)) for name, versions in sorted(found.items(), reverse=True)]


def plan(
    found: Sequence[Folder],
    policy: Policy,
    *,
    newest_proven: str | None,
    now: datetime,
    decided: Mapping[str, Deletion] = MappingProxyType({}),
    busy_until: Mapping[str, datetime] = MappingProxyType({}),
    foreign: Mapping[str, str] = MappingProxyType({}),
    holds: Mapping[str, str] = MappingProxyType({}),
) -> list[Decision]:
    """Decide on every backup, the newest first. Locks of S3 are not known yet; see :func:`locked`.

    :param found: as :func:`folders` gives it
    :param newest_proven: the newest backup whose proof is ok; None if none is proven
    :param now: the S3 server's clock
    :param decided: what earlier runs wrote down, by the backup's name
    :param foreign: why a backup is not this database's, by its name; it is kept and not counted
    :param holds: why runs keep a backup, by its name
    :param busy_until: until when the run that makes a backup may still be at work, by the backup's name
    """
    present = [folder for folder in found if folder.backup_id not in foreign and not is_ahead(folder, now)]
    reasons = _kept([folder for folder in present if folder.is_complete], policy)
    decisions = []
    for folder in found:
        name = folder.backup_id
        if name in foreign:
            action, reason = "keep", foreign[name]
        elif is_ahead(folder, now):
            action, reason = "keep", "its name lies in the future, so a clock was wrong when it was made"
        elif folder.is_complete and name in holds:
            action, reason = "keep", holds[name]
        elif folder.is_complete:
            action, reason = _of_complete(folder, reasons.get(name), newest_proven, policy)
        elif name in decided:
            action, reason = _of_deleted(folder, decided[name], policy, now)
        elif folder.is_empty:
            action, reason = "keep", "nothing is left of it but delete markers"
        elif folder.was_complete and name in policy.give_up:
            action, reason = "delete", "it was hidden, and a person gave it up"
        elif folder.was_complete:
            action, reason = "keep", "its manifest is hidden, and no retention wrote down that it deleted it"
        else:
            action, reason = _of_unfinished(folder, busy_until.get(name), policy, now)
        decisions.append(Decision(name, action, reason, folder.size_bytes))
    return decisions


def is_ahead(folder: Folder, now: datetime) -> bool:
    """Whether a backup's name lies in the future: it is no newest one, whatever its name says."""
    return (folder.started_at - now).total_seconds() > MAX_SKEW_S


def hidden(found: Sequence[Folder], decided: Collection[str]) -> list[str]:
    """Backups that somebody hid without a retention's decision, the newest first.

    :param decided: names of backups whose deletion was decided
    """
    return [
        folder.backup_id
        for folder in found
        if folder.was_complete and not folder.is_complete and not folder.is_empty and folder.backup_id not in decided
    ]


def hidden_sentence(database: str, names: Sequence[str]) -> str:
    """What is wrong and the way on, where backups are hidden.

    >>> hidden_sentence("shop", ["2026-11-23T03-00-00Z"])[:69]
    '1 backup of shop is hidden by delete markers (2026-11-23T03-00-00Z), '
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    which = count(len(names), "backup")
    return (
        f"{which} of {database} {'is' if len(names) == 1 else 'are'} hidden by delete markers "
        f"({', '.join(names[:_NAMED])}{more}), and no retention decided that: somebody deleted from the bucket. "
        "The versions are still there, and nothing was purged. Bring them back with playbooks/backup_undelete.yml, and "
        "find out who it was."
    )


def _of_deleted(folder: Folder, decided: Deletion, policy: Policy, now: datetime) -> tuple[str, str]:
    """A backup whose deletion was decided and begun."""
    if folder.backup_id in policy.hold:
        return "keep", "its deletion was decided, and now it is held; playbooks/backup_undelete.yml brings it back"
    if folder.has_manifest:
        # The document may be older than the deletion; the marker is the deletion.
        since = max(
            each.modified_at for each in folder.versions
            if each.name == DELETION_NAME or (each.name == MANIFEST_NAME and each.is_delete_marker)
        )  # fmt: skip
        until = since + timedelta(days=policy.keep_deleted_days)
        if now < until:
            return "keep", f"it is deleted ({decided.reason}); its versions stay until {until:%Y-%m-%d %H:%M} UTC"
    return "purge", f"it was deleted by run {decided.run_id or '?'} on {decided.decided_at[:10]} ({decided.reason})"


def _of_unfinished(folder: Folder, busy_until: datetime | None, policy: Policy, now: datetime) -> tuple[str, str]:
    """A folder that never had a manifest."""
    age = (now - max(folder.touched_at, folder.started_at)).total_seconds()
    reason = f"it was never finished, {span(max(age, 0))} ago"
    if folder.backup_id in policy.hold:
        return "keep", f"{reason}, and is held"
    if busy_until is not None and now <= busy_until:
        return "keep", f"{reason}, and its run may be at work until {busy_until:%Y-%m-%d %H:%M} UTC"
    return ("remove" if age > policy.incomplete_after_s else "keep"), reason


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
    for kind, wanted, form in kinds:
        seen: set[str] = set()
        for folder in complete:
            slot = folder.started_at.strftime(form)
            if slot in seen or len(seen) >= wanted:
                continue
            seen.add(slot)
            reasons.setdefault(folder.backup_id, []).append(kind)
    return {name: ", ".join(why) for name, why in reasons.items()}


def check_cap(
    decisions: Sequence[Decision], complete: Collection[str], *, max_delete: int, max_delete_percent: int
) -> None:
    """A list of deletions that is far too long is a mistake somewhere else.

    What an earlier run decided was counted then, and is not counted again when it is purged.

    :param complete: names of the complete backups
    :raises RunbookError: more backups would go than may go in one run, by their number or by their share
    """
    going = sum(each.action == "delete" and each.backup_id in complete for each in decisions)
    every = sum(each.action in ("delete", "remove") for each in decisions)
    look = (
        "nothing was deleted; look at the plan with --check --diff, and raise backup_retention_{} once if it is right."
    )
    if every > max_delete:
        raise RunbookError(
            f"max_delete: {count(every, 'backup')} would be deleted, and at most {max_delete} may be in one run; "
            + look.format("max_delete")
        )
    if going * 100 > len(complete) * max_delete_percent:
        raise RunbookError(
            f"max_delete_percent: {going} of {count(len(complete), 'complete backup')} would be deleted, and at most "
            f"{max_delete_percent} % may be in one run; " + look.format("max_delete_percent")
        )


def locked(decision: Decision, locks: Collection[str]) -> Decision:
    """The decision when S3 locks are known: what is locked is kept."""
    if decision.action != "keep" and locks:
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


def purge_order(folder: Folder) -> list[list[Version]]:
    """All versions of a folder in steps, so that a run that is killed in between leaves a state that tells itself.

    The versions of the objects go first, then the manifest's, then the delete markers, because a marker that went
    before what it hides would bring a manifest back whose objects are gone. The document of the deletion goes last.
    """
    steps: list[list[Version]] = [[], [], [], []]
    for each in folder.versions:
        if each.name == DELETION_NAME:
            step = 3
        elif each.is_delete_marker:
            step = 2
        else:
            step = int(each.name == MANIFEST_NAME)
        steps[step].append(each)
    return [step for step in steps if step]
