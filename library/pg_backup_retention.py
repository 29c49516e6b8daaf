#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_retention
short_description: Deletes the logical backups whose time is over
description:
  - Keeps the newest backup of each of the last O(keep_daily) days, O(keep_weekly) weeks and O(keep_monthly) months that
    have one, and always the newest O(min_keep) and the newest one that is proven. The rest is deleted.
  - A backup is deleted only if a newer one is proven, which means restored and found equal (M(pg_restore) with
    C(prove)). Otherwise it is kept, and the module says so.
  - What a legal hold or a retention of S3 Object Lock protects is kept, and so is what O(hold) names.
  - What was never finished is deleted when it is older than O(incomplete_after_s).
  - The manifest goes first, because it makes the backup. A run that is killed leaves nothing that looks like a backup,
    and the next run ends what was begun. In a bucket with versions all versions are deleted.
extends_documentation_fragment: runbook_s3
options:
  prefix:
    description:
      - Where the backups lie in the bucket.
    type: str
    default: ''
  database:
    description:
      - Name of the database whose backups these are.
    type: str
    required: true
  environment:
    description:
      - What the inventory is. The bucket's tag C(runbook-environment) must say the same.
    type: str
    required: true
  keep_daily:
    description:
      - Days of which the newest backup is kept. 31 nightly backups reach back 30 days.
    type: int
    default: 31
  keep_weekly:
    description:
      - ISO weeks of which the newest backup is kept.
    type: int
    default: 8
  keep_monthly:
    description:
      - Months of which the newest backup is kept.
    type: int
    default: 12
  min_keep:
    description:
      - The newest backups that are kept whatever else is said.
    type: int
    default: 3
  hold:
    description:
      - Backups that a person keeps, by their names.
    type: list
    elements: str
    default: []
  incomplete_after_s:
    description:
      - Age at which a backup that was never finished is deleted, in seconds; at least 3600.
    type: int
    default: 86400
  max_delete:
    description:
      - If more backups than this would be deleted, nothing is. A wrong prefix or a wrong number looks like that.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Nothing is deleted; the plan is that of the real run.
  diff_mode:
    support: full
    description: Shows the backups that go.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Delete the backups whose time is over
  pg_backup_retention:
    bucket: mental-scribe-backups
    region: us-east-1
    prefix: logical
    database: mental_scribe
    environment: production
    keep_daily: 31
    hold: [2026-10-21T03-00-00Z]
"""

RETURN = r"""
changed:
  description: Whether a backup was deleted, or would be in check mode.
  type: bool
  returned: always
msg:
  description: One sentence with the figures.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where something was refused.
  type: str
  returned: always
plan:
  description:
    - Every backup, the newest first, with C(backup_id), C(action) (V(keep) or V(delete)), C(reason) and C(size_bytes).
  type: list
  elements: dict
  returned: when the bucket could be read
kept:
  description: Number of complete backups that stay.
  type: int
  returned: when the bucket could be read
deleted:
  description: Names of the backups that were deleted, or would be in check mode.
  type: list
  elements: str
  returned: when the bucket could be read
deleted_objects:
  description: Versions and delete markers that were deleted; 0 in check mode.
  type: int
  returned: when the bucket could be read
freed_bytes:
  description: Bytes of the backups that were deleted, or would be in check mode.
  type: int
  returned: when the bucket could be read
newest_proven:
  description: The newest backup that is proven, null if none is.
  type: str
  returned: when the bucket could be read
"""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import bucket as driver
from ansible.module_utils.runbook.drivers import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import backup_retention as rules
from ansible.module_utils.runbook.rules import manifest as manifests
from ansible.module_utils.runbook.rules import proof as proofs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Retention:
    """One call of the module."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        self.policy = rules.Policy(
            daily=params["keep_daily"],
            weekly=params["keep_weekly"],
            monthly=params["keep_monthly"],
            min_keep=params["min_keep"],
            incomplete_after_s=params["incomplete_after_s"],
            hold=frozenset(params["hold"]),
        )
        rules.check_policy(self.policy, params["max_delete"])
        if not params["database"]:
            raise RunbookError("database: it is empty; name the database whose backups these are.")
        self.store = s3.Store.from_params(params)
        self.root = manifests.database_folder(params["prefix"], params["database"])
        self.now = datetime.now(UTC)

    def run(self) -> dict[str, Any]:
        """Plan, then delete; the result of the module."""
        self.store.require_environment(self.params["environment"])
        found = rules.folders(self._listed())
        proven = self._newest_proven(found)
        by_name = {folder.backup_id: folder for folder in found}
        planned = rules.plan(found, self.policy, newest_proven=proven, now=self.now)
        lockable = any(each.action == "delete" for each in planned) and driver.has_object_lock(self.store)
        decisions = [
            rules.locked(each, self._locks(by_name[each.backup_id])) if lockable and each.action == "delete" else each
            for each in planned
        ]
        rules.check_cap(decisions, self.params["max_delete"])
        going = [each for each in decisions if each.action == "delete"]
        facts: dict[str, Any] = {
            "changed": bool(going),
            "status": "ok",
            "plan": rules.as_results(decisions),
            "kept": sum(by_name[each.backup_id].is_complete for each in decisions if each.action == "keep"),
            "deleted": [each.backup_id for each in going],
            "deleted_objects": 0,
            "freed_bytes": sum(each.size_bytes for each in going),
            "newest_proven": proven,
        }
        if self.context.diff:
            facts["diff"] = {"prepared": "".join(f"delete {each.backup_id}: {each.reason}\n" for each in going)}
        self._warn(decisions)
        if not self.context.check_mode:
            self._delete([by_name[each.backup_id] for each in reversed(going)], facts)
        verb = "would be deleted" if self.context.check_mode else "deleted"
        return facts | {
            "msg": f"Backups of {self.params['database']}: {len(going)} {verb} ({facts['freed_bytes']:,} bytes), "
            f"{facts['kept']} complete ones kept; {'the newest proven is ' + proven if proven else 'none is proven'}."
        }

    def _listed(self) -> Iterator[tuple[str, rules.Version]]:
        for each in self.store.versions(self.root):
            name, _, rest = each.key.removeprefix(self.root).partition("/")
            yield (
                name,
                rules.Version(
                    name=rest,
                    version_id=each.version_id,
                    size_bytes=each.size_bytes,
                    modified_at=each.modified_at,
                    is_latest=each.is_latest,
                    is_delete_marker=each.is_delete_marker,
                ),
            )

    def _newest_proven(self, found: Sequence[rules.Folder]) -> str | None:
        """The newest backup whose newest proof is ok, and is of this very manifest."""
        for folder in found:
            if not folder.is_complete or not folder.proofs:
                continue
            base = f"{self.root}{folder.backup_id}/"
            try:
                key = base + folder.proofs[0]
                text = self.store.read(key, most_bytes=proofs.MAX_DOCUMENT_BYTES)
                document = proofs.parse(text, where=self.store.url(key))
                key = base + manifests.MANIFEST_NAME
                content = self.store.read(key, most_bytes=manifests.MAX_MANIFEST_BYTES)
                manifests.parse(content, where=self.store.url(key))
            except RunbookError as error:
                if "s3_code" in error.context:
                    raise
                self.context.warn(f"{error.message} It counts as not proven.")
                continue
            own = json.loads(content)["sha256"]
            if document.status == "ok" and (document.backup_id, document.manifest_sha256) == (folder.backup_id, own):
                return folder.backup_id
        return None

    def _locks(self, folder: rules.Folder) -> set[str]:
        found = set()
        for each in folder.versions:
            if each.is_delete_marker:
                continue
            lock = driver.lock_of(self.store, f"{self.root}{folder.backup_id}/{each.name}", _id(each))
            reason = rules.lock_reason(lock.legal_hold, lock.retain_until, self.now)
            if reason:
                found.add(reason)
        return found

    def _warn(self, decisions: Sequence[rules.Decision]) -> None:
        waiting = [each for each in decisions if each.reason in ("no backup is proven", "no newer backup is proven")]
        if waiting:
            self.context.warn(
                f"{len(waiting)} backups whose time is over are kept, because no newer one is proven; run "
                "playbooks/backup_verify.yml with -e backup_verify_proof=true."
            )

    def _delete(self, folders: Sequence[rules.Folder], facts: dict[str, Any]) -> None:
        gone: list[str] = []
        for number, folder in enumerate(folders):
            try:
                facts["deleted_objects"] += self._delete_one(folder)
            except RunbookError as error:
                done = facts | {
                    "status": "breach",
                    "deleted": gone,
                    "changed": bool(gone or error.context.get("deleted")),
                }
                raise RunbookError(
                    f"{error.message} {len(gone)} of {len(folders)} backups were deleted, {folder.backup_id} was not.",
                    **done,
                ) from None
            gone.append(folder.backup_id)
            self.context.progress.update("deleting backups", number + 1, len(folders), "backups")

    def _delete_one(self, folder: rules.Folder) -> int:
        base = f"{self.root}{folder.backup_id}/"
        rest, manifest, markers = rules.deletion_order(folder)
        marker = None
        if folder.is_complete:
            marker = driver.hide(self.store, base + manifests.MANIFEST_NAME)
        try:
            done = self.store.delete(self._entries(base, rest))
        except RunbookError as error:
            if marker and not error.context.get("deleted"):
                driver.unhide(self.store, base + manifests.MANIFEST_NAME, marker)
            raise
        done += self.store.delete(self._entries(base, manifest))
        done += self.store.delete(self._entries(base, markers))
        if marker:
            driver.unhide(self.store, base + manifests.MANIFEST_NAME, marker)
            done += 1
        return done

    @staticmethod
    def _entries(base: str, versions: Sequence[rules.Version]) -> list[s3.Entry]:
        return [
            s3.Entry(base + each.name, each.size_bytes, "", each.modified_at, _id(each), each.is_latest)
            for each in versions
        ]


def _id(version: rules.Version) -> str | None:
    """In a bucket that never had versions, S3 calls the only one ``null``."""
    return None if version.version_id == "null" else version.version_id


def core(context: Context) -> dict[str, Any]:
    """Plan and delete."""
    return Retention(context).run()


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="pg_backup_retention",
        argument_spec={
            **s3.argument_spec(),
            "prefix": {"type": "str", "default": ""},
            "database": {"type": "str", "required": True},
            "environment": {"type": "str", "required": True},
            "keep_daily": {"type": "int", "default": 31},
            "keep_weekly": {"type": "int", "default": 8},
            "keep_monthly": {"type": "int", "default": 12},
            "min_keep": {"type": "int", "default": 3},
            "hold": {"type": "list", "elements": "str", "default": []},
            "incomplete_after_s": {"type": "int", "default": 86_400},
            "max_delete": {"type": "int", "default": 10},
        },
    )


if __name__ == "__main__":
    main()
