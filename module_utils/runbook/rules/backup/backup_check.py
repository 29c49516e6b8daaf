"""What makes backups good: each demand is one check, and what could not be judged is never green.

A check takes what was found and what is wanted, and says ``ok``, ``breach`` or ``unknown`` with one sentence. Nothing
here reads a bucket or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.manifest import HOLD_PREFIX, MANIFEST_NAME, is_backup_id, started_at
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest
    from ansible.module_utils.runbook.rules.backup.proof import Document

#: Clocks of this machine and of the one that made the backup may differ by so much, in seconds.
MAX_SKEW_S = 300
#: Objects that a sentence names; the result has them all.
_NAMED = 3


def span(seconds: float) -> str:
    """A span in words, exact enough to act on.

    >>> span(59), span(7200), span(93_600), span(864_000)
    ('59 s', '120 min', '26.0 h', '10.0 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 3 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def age_s(moment: datetime, now: datetime) -> float:
    """Seconds from ``moment`` to ``now``; negative for a moment that is still to come."""
    return (now - moment).total_seconds()


# What lies in the bucket ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """Backups of one database as a listing shows them: sizes by the object's name, by backup, the newest first."""

    backups: Mapping[str, Mapping[str, int]]

    @property
    def complete(self) -> list[str]:
        """Names of those that have a manifest, the newest first."""
        return [name for name, objects in self.backups.items() if MANIFEST_NAME in objects]

    @property
    def incomplete(self) -> list[str]:
        """Names of those that have none and are newer than every complete one, the newest first."""
        complete = self.complete
        return [name for name in self.backups if name not in complete and (not complete or name > complete[0])]

    def proofs(self, backup_id: str) -> list[str]:
        """Names of a backup's proofs, the newest first."""
        found = [
            name for name in self.backups.get(backup_id, {}) if name.startswith("proof-") and name.endswith(".json")
        ]
        return sorted(found, reverse=True)


def is_proof(name: str) -> bool:
    """Whether an object of a backup's folder is the outcome of a proof."""
    return name.startswith("proof-") and name.endswith(".json")


def stored(listed: Iterable[tuple[str, int]], root: str, begun: Iterable[str] = ()) -> Stored:
    """Sort a listing into backups; what does not look like a backup of ours is left out.

    :param listed: key and size of all objects below the database's folder
    :param root: that folder, with its slash
    :param begun: keys of uploads that are not finished
    """
    found: dict[str, dict[str, int]] = {}
    for key, size in [*listed, *((key, -1) for key in begun)]:
        name, _, rest = key.removeprefix(root).partition("/")
        if is_backup_id(name):
            objects = found.setdefault(name, {})
            if size >= 0:
                objects[rest] = size
    return Stored({name: found[name] for name in sorted(found, reverse=True)})


def is_running(backups: Stored, now: datetime, max_age_s: int, dead: Collection[str] = ()) -> bool:
    """Whether a backup newer than every complete one may still be at work.

    :param dead: backups whose process is known to have ended
    """
    started = [started_at(name) for name in backups.incomplete if name not in dead]
    return any(begun is not None and age_s(begun, now) <= max_age_s for begun in started)


def judge_age(backups: Stored, now: datetime, max_age_s: int) -> Check:
    """The newest complete backup is young enough."""
    begun = started_at(backups.complete[0]) if backups.complete else None
    if begun is None:
        return Check.breach("age", "There is no complete backup; run playbooks/backup.yml.")
    age = age_s(begun, now)
    if age < -MAX_SKEW_S:
        return Check.unknown("age", f"The newest backup is {span(-age)} ahead of this clock; set the clock right.")
    if age > max_age_s:
        return Check.breach(
            "age", f"The newest complete backup is {span(age)} old, where {span(max_age_s)} are accepted."
        )
    return Check.ok("age", f"The newest complete backup is {span(max(age, 0))} old.")


def judge_complete(backups: Stored, waited_s: float, dead: Collection[str] = ()) -> Check:
    """No backup was started after the newest complete one and left unfinished.

    :param dead: backups whose process is known to have ended
    """
    left = backups.incomplete
    if not left:
        return Check.ok("complete", "No backup was left unfinished.")
    waited = f" after waiting {span(waited_s)}" if waited_s >= 1 else ""
    if left[0] in dead:
        waited = ", and the process that made it has ended"
    return Check.breach(
        "complete", f"Backup {left[0]} was started and has no manifest{waited}; look at the record of its run."
    )


def judge_count(backups: Stored, min_backups: int) -> Check:
    """There are as many complete backups as were promised."""
    found = len(backups.complete)
    status = Status.OK if found >= min_backups else Status.BREACH
    return Check("count", status, f"{count(found, 'complete backup')} found, {min_backups} wanted.")


def judge_retention(backups: Stored, now: datetime, days: int, since: datetime | None) -> Check:
    """One can go back as far as was promised, or to where backups began.

    :param since: when backups began; None if that is not said
    """
    begun = started_at(backups.complete[-1]) if backups.complete else None
    if begun is None:
        return Check.breach("retention", "There is no complete backup to go back to.")
    wanted = now - timedelta(days=days)
    if since is not None:
        wanted = max(wanted, since + timedelta(days=1))
    reach = span(max(age_s(begun, now), 0))
    if begun <= wanted:
        return Check.ok("retention", f"One can go back {reach}, as {count(days, 'day is', 'days are')} wanted.")
    young = "" if since else "; if backups have not been made for so long, say since when (backup_verify_since)"
    return Check.breach(
        "retention",
        f"One can go back {reach}, where {count(days, 'day is', 'days are')} wanted{young}.",
    )


def parse_since(text: str) -> datetime | None:
    """The day on which backups began, as ``2026-11-23``; None for an empty text.

    :raises RunbookError: it is no day
    """
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise RunbookError(f"since: {text!r} is no day; write it like 2026-11-23.") from None


# What one backup says and holds ---------------------------------------------------------------------------------------


def judge_manifest(manifest: Manifest, *, backup_id: str, root: str, database: str, clusters: Collection[str]) -> Check:
    """A manifest, which is well-formed, is that of this backup of this database.

    :param clusters: those whose backups these may be; empty if that is not compared
    """
    wrong = ""
    if manifest.backup_id != backup_id:
        wrong = f"is that of {manifest.backup_id}"
    elif manifest.source.database != database:
        wrong = f"is of database {manifest.source.database!r}, not of {database!r}"
    elif clusters and manifest.source.system_identifier not in clusters:
        wrong = f"is of cluster {manifest.source.system_identifier}, not of {', '.join(sorted(clusters))}"
    elif any(not each.key.startswith(f"{root}{backup_id}/") for each in manifest.objects):
        wrong = "names objects of another backup"
    if wrong:
        return Check.breach("manifest", f"The manifest in {backup_id} {wrong}; find out who put it there.")
    return Check.ok("manifest", f"The manifest of {backup_id} is valid.")


def judge_objects(manifest: Manifest, found: Mapping[str, tuple[int, str | None] | None]) -> Check:
    """Every object is there, has its size, and is still the version that was written.

    :param found: size and current version of each object; None where there is none
    """
    wrong = []
    for each in manifest.objects:
        now = found.get(each.key)
        if now is None:
            wrong.append(f"{each.key} is missing")
        elif now[0] != each.size_bytes:
            wrong.append(f"{each.key} has {now[0]:,} bytes instead of {each.size_bytes:,}")
        elif each.version_id and now[1] and now[1] != each.version_id:
            wrong.append(f"{each.key} was overwritten later")
    if wrong:
        return Check.breach("objects", f"In {manifest.backup_id} {_some(wrong)}.")
    return Check.ok("objects", f"All {count(len(manifest.objects), 'object')} of {manifest.backup_id} are there.")


def judge_content(
    manifest: Manifest, read: Mapping[str, tuple[int, str, str]], whole: Mapping[str, bool | None], where: str = ""
) -> Check:
    """Every object, read to its end, has the SHA-256 of the manifest, and unpacks.

    :param read: size, SHA-256 and error by key
    :param whole: by the first key of a stream, whether it unpacks to its end; None where it is encrypted
    :param where: which copy was read, as ``" in the second region"``
    """
    name = "replica_content" if where else "content"
    broken, silent = [], []
    for each in manifest.objects:
        size, digest, error = read.get(each.key, (0, "", "it was not read"))
        if error:
            silent.append(f"{each.key} could not be read ({error.rstrip('.')})")
        elif (size, digest) != (each.size_bytes, each.sha256):
            broken.append(f"{each.key} is not what was written (its SHA-256 differs)")
        elif whole.get(each.key) is False:
            broken.append(f"{each.key} does not unpack")
    if broken:
        return Check.breach(name, f"Of {manifest.backup_id}{where} {_some(broken)}; take another backup now.")
    if silent:
        return Check.unknown(name, f"Of {manifest.backup_id}{where} {_some(silent)}.")
    how = "" if manifest.tools.encryption == "none" else ", still encrypted,"
    return Check.ok(
        name, f"All {manifest.size_bytes:,} bytes of {manifest.backup_id}{where}{how} are what was written."
    )


def judge_replica(here: Stored, there: Stored, now: datetime, max_lag_s: int, manifests_differ: Sequence[str]) -> Check:
    """The second region holds what the first one holds.

    :param max_lag_s: a younger backup may still be on its way
    :param manifests_differ: backups whose manifest is another one there
    """
    wrong = [f"the manifest of {name} is another one" for name in manifests_differ]
    young = 0
    for name in here.complete:
        begun = started_at(name)
        copied = there.backups.get(name, {})
        # A proof or a hold is written later than its backup, and may be on its way for itself.
        own = {
            each: size
            for each, size in here.backups[name].items()
            if not is_proof(each) and not each.startswith(HOLD_PREFIX)
        }
        lacking = [each for each, size in own.items() if copied.get(each) != size]
        if not lacking:
            continue
        if begun is not None and age_s(begun, now) <= max_lag_s:
            young += 1
        else:
            wrong.append(f"{name} lacks {len(lacking)} of {count(len(own), 'object')}, such as {lacking[0]}")
    if wrong:
        return Check.breach("replica", f"In the second region {_some(wrong)}; look at the replication.")
    held = len(here.complete) - young
    if held == 0:
        return Check.unknown("replica", "No backup is old enough to be expected in the second region.")
    way = f"; {young} may still be on the way" if young else ""
    return Check.ok("replica", f"The second region holds the same {count(held, 'backup')}{way}.")


def judge_proof(newest: Document | None, now: datetime, max_proof_age_s: int) -> Check:
    """A backup was restored and compared, not too long ago, and was equal."""
    if newest is None:
        return Check.breach(
            "proof",
            "No backup was ever proven; run this playbook with -e backup_verify_proof=true, on production with "
            "-e confirm=production too.",
        )
    at = proven_at(newest)
    if newest.status != Status.OK:
        status = Status.of(breach=newest.status == Status.BREACH, unknown=True)
        return Check("proof", status, f"The last proof, of {newest.backup_id}, is {newest.status}: {newest.msg}")
    if at is None:
        return Check.unknown("proof", f"The last proof, of {newest.backup_id}, does not say when it was made.")
    age = age_s(at, now)
    if age > max_proof_age_s:
        return Check.breach("proof", f"The last proof is {span(age)} old, where {span(max_proof_age_s)} are accepted.")
    return Check.ok("proof", f"Backup {newest.backup_id} was proven {span(max(age, 0))} ago.")


def proven_at(document: Document) -> datetime | None:
    """When a proof was made; None where it does not say."""
    try:
        moment = datetime.fromisoformat(document.proven_at)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _some(wrong: Sequence[str]) -> str:
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return "; ".join(wrong[:_NAMED]) + more
