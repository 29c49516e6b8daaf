#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_retention
short_description: Delete logical backups that the retention policy does not keep
description:
  - Keeps the newest backup of each of the last O(keep_daily) days, O(keep_weekly) weeks and O(keep_monthly) months that
    have one, and always the newest O(min_keep) and the newest one that is proven. The rest is deleted.
  - A backup is deleted only if a newer one is proven, which means restored and found equal (M(pg_restore) with
    C(prove)). Otherwise it is kept, and the module says so.
  - What a legal hold or a retention of S3 Object Lock protects is kept, and so is what O(hold) names, and what
    M(pg_restore) holds for a copy that waits to be swapped in.
  - A deletion is written down first, in C(deletion.json) beside the backup. Then the objects are hidden by delete
    markers, the manifest first, because it makes the backup. Their versions stay for O(keep_deleted_days), in which
    M(pg_backup_undelete) brings the backup back; then they are purged. In a bucket without versions a deletion is for
    good.
  - A backup that is hidden and has no such document was deleted by somebody else. The module then fails, deletes
    nothing at all, and says how to bring it back.
  - What was never finished is deleted for good when it is older than O(incomplete_after_s), and its run cannot be at
    work any more. Uploads that were never ended are aborted at the same age.
  - A run that is killed leaves nothing that looks like a backup and is none; the next run ends what was started.
extends_documentation_fragment:
  - runbook_s3
  - runbook_backups
  - runbook_backups.database
  - runbook_backups.environment
  - runbook_backups.clusters
options:
  system_identifier:
    description:
      - The cluster that the database is on. Backups of others in the same folder are kept and not counted. If it is
        empty, and the folder holds backups of several clusters, the module refuses.
    type: str
    default: ''
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
  give_up:
    description:
      - Hidden backups that cannot be brought back, or need not be, by their names. A person decides that; it is written
        down as every deletion is.
    type: list
    elements: str
    default: []
  keep_deleted_days:
    description:
      - Days that the versions of a deleted backup stay before they are purged. V(0) purges them in the run after.
      - A lifecycle rule for noncurrent versions may purge them earlier. Object Lock may keep them longer.
    type: int
    default: 7
  max_delete:
    description:
      - If more backups than this would be deleted, nothing is. A wrong prefix or a wrong number looks like that.
    type: int
    default: 10
  max_delete_percent:
    description:
      - If a larger share of the complete backups than this would be deleted, nothing is.
    type: int
    default: 50
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
  description:
    - V(ok), V(breach) where something was refused or a backup is hidden, or
      V(unknown) where a server gave no answer.
  type: str
  returned: always
plan:
  description:
    - Every backup, the newest first, with C(backup_id), C(action), C(reason) and C(size_bytes). Actions are V(keep);
      V(delete), which hides it for O(keep_deleted_days); V(purge), which ends an earlier deletion; and V(remove) for
      what was never finished.
  type: list
  elements: dict
  returned: when the bucket could be read
kept:
  description: Number of complete backups that stay.
  type: int
  returned: when the bucket could be read
deleted:
  description: Names of the backups that were hidden, or would be in check mode.
  type: list
  elements: str
  returned: when the bucket could be read
purged:
  description: Names of the backups whose versions were purged, or would be; those that were never finished too.
  type: list
  elements: str
  returned: when the bucket could be read
hidden:
  description: Names of the backups that are hidden and that no retention deleted.
  type: list
  elements: str
  returned: when the bucket could be read
withdrawn:
  description: Names of the backups whose deletion an earlier run decided and did not start, and that are kept now.
  type: list
  elements: str
  returned: when the bucket could be read
aborted_uploads:
  description: Number of unfinished uploads that were aborted, or would be.
  type: int
  returned: when the bucket could be read
deleted_objects:
  description: Objects that were hidden, and versions and delete markers that were purged; 0 in check mode.
  type: int
  returned: when the bucket could be read
freed_bytes:
  description: Bytes of what was purged, or would be in check mode.
  type: int
  returned: when the bucket could be read
newest_proven:
  description: The newest backup that is proven, null if none is.
  type: str
  returned: when the bucket could be read
"""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.s3 import bucket as driver
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import backup_retention as rules
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import proof as proofs
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, count, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


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
            keep_deleted_days=params["keep_deleted_days"],
            give_up=frozenset(params["give_up"]),
        )
        rules.check_policy(self.policy, params["max_delete"], params["max_delete_percent"])
        if not params["database"]:
            raise RunbookError("database: it is empty; name the database whose backups these are.")
        self.clusters = origins.accepted(params["system_identifier"], params["previous_clusters"])
        self.store = s3.Store.from_params(params)
        self.root = driver.home(self.store, manifests.database_folders(params["prefix"], params["database"]))

    def run(self) -> dict[str, Any]:
        """Plan, then delete; the result of the module."""
        permits.require_bucket(self.context.run, self.store, self.params["environment"])
        self.now = driver.clock(self.store)
        found = rules.folders(driver.listed(self.store, self.root))
        documents = driver.deletion_documents(self.store, self.root, found)
        decided = rules.deletions(documents, database=self.params["database"])
        hidden = rules.hidden(found, decided.keys() | self.policy.give_up)
        foreign = self._foreign(found)
        proven = self._newest_proven([each for each in found if each.backup_id not in foreign])
        by_name = {folder.backup_id: folder for folder in found}
        decisions = self._decisions(found, foreign, proven, decided)
        acts = {
            action: [by_name[each.backup_id] for each in reversed(decisions) if each.action == action]
            for action in ("delete", "purge", "remove")
        }
        uploads = self._dead_uploads(found)
        withdrawn = [
            each.backup_id for each in found if each.is_complete and each.documents and each not in acts["delete"]
        ]
        facts: dict[str, Any] = {
            "changed": any(acts.values()) or bool(uploads or withdrawn),
            "plan": rules.as_results(decisions),
            "kept": sum(folder.is_complete and folder not in acts["delete"] for folder in found),
            "deleted": [each.backup_id for each in reversed(acts["delete"])],
            "purged": [each.backup_id for each in reversed(acts["purge"] + acts["remove"])],
            "hidden": hidden,
            "withdrawn": withdrawn,
            "aborted_uploads": len(uploads),
            "deleted_objects": 0,
            "freed_bytes": sum(each.size_bytes for each in acts["purge"] + acts["remove"]),
            "newest_proven": proven,
        }
        if self.context.diff:
            lines = [
                f"{each.action} {each.backup_id}: {each.reason}" for each in decisions if each.action != "keep"
            ] + [f"abort upload {key}" for key, _id in uploads]
            facts["diff"] = {"prepared": as_lines(lines)}
        if hidden:
            raise RunbookError(
                rules.hidden_sentence(self.params["database"], hidden),
                **(facts | {"changed": False, "deleted": [], "purged": [], "aborted_uploads": 0,
                            "freed_bytes": 0}),
            )  # fmt: skip
        rules.check_cap(
            decisions,
            {folder.backup_id for folder in found if folder.is_complete},
            max_delete=self.params["max_delete"],
            max_delete_percent=self.params["max_delete_percent"],
        )
        self._warn(decisions)
        if not self.context.check_mode:
            self._act(acts, {each.backup_id: each for each in decisions}, uploads, facts)
        would = "would be " if self.context.check_mode else ""
        freed = f" ({size(facts['freed_bytes'])})" if facts["freed_bytes"] else ""
        return facts | {
            "msg": f"Backups of {self.params['database']}: {len(facts['deleted'])} {would}deleted, "
            f"{len(facts['purged'])} {would}purged{freed}, {count(facts['kept'], 'complete backup')} {would}kept; "
            f"{'the newest proven is ' + proven if proven else 'none is proven'}."
        }

    # Plan

    def _foreign(self, found: Sequence[rules.Folder]) -> dict[str, str]:
        """Why a backup is not this database's to delete, by its name."""
        # What is deleted was judged then; what has no claim says nothing, and has no manifest that would say more.
        asked = [each.backup_id for each in found if each.is_complete or (each.has_claim and not each.was_complete)]
        whose = driver.origins(self.store, self.root, asked, origins.read)
        if not self.clusters:
            origins.check_one(whose.values(), where=self.store.url(self.root))
        complete = {each.backup_id for each in found if each.is_complete}
        return {
            name: f"it is of database {each.database!r} on cluster {each.system_identifier}, which is another one"
            if each
            else "it does not say of which cluster it is"
            for name, each in whose.items()
            if (each is None and name in complete)
            or (
                each is not None
                and (
                    each.database != self.params["database"]
                    or (self.clusters and each.system_identifier not in self.clusters)
                )
            )
        }

    def _decisions(
        self,
        found: Sequence[rules.Folder],
        foreign: Mapping[str, str],
        proven: str | None,
        decided: Mapping[str, rules.Deletion],
    ) -> list[rules.Decision]:
        unfinished = [each for each in found if not each.was_complete and each.backup_id not in decided]
        planned = rules.plan(
            found,
            self.policy,
            newest_proven=proven,
            now=self.now,
            decided=decided,
            busy_until={each.backup_id: until for each in unfinished if (until := self._busy_until(each))},
            foreign=foreign,
            holds={each.backup_id: why for each in found if each.is_complete and (why := self._held(each))},
        )
        by_name = {folder.backup_id: folder for folder in found}
        lockable = any(each.action != "keep" for each in planned) and driver.has_object_lock(self.store)
        return [
            rules.locked(each, self._locks(by_name[each.backup_id])) if lockable and each.action != "keep" else each
            for each in planned
        ]

    def _held(self, folder: rules.Folder) -> str:
        """Why a run holds a backup; empty where none does."""
        for name in folder.holds:
            text = self.store.read(f"{self.root}{folder.backup_id}/{name}", most_bytes=rules.MAX_DELETION_BYTES)
            why = rules.held(text, self.now)
            if why:
                return why
        return ""

    def _busy_until(self, folder: rules.Folder) -> datetime | None:
        """Until when the run that makes a backup may be at work, as it said itself; None where it did not say."""
        claims = [each for each in folder.versions if each.name == manifests.CLAIM_NAME and not each.is_delete_marker]
        if not claims:
            return None
        claim = max(claims, key=lambda each: each.modified_at)
        key = f"{self.root}{folder.backup_id}/{manifests.CLAIM_NAME}"
        said = manifests.parse_claim(self.store.read(key, claim.version_id, most_bytes=manifests.MAX_CLAIM_BYTES))
        return claim.modified_at + timedelta(seconds=said.deadline_s)

    def _dead_uploads(self, found: Sequence[rules.Folder]) -> list[tuple[str, str]]:
        """Uploads of backups that were never ended and whose run cannot be at work any more."""
        by_name = {folder.backup_id: folder for folder in found}
        dead = []
        for key, upload_id, begun in self.store.uploads(self.root):
            name = key.removeprefix(self.root).partition("/")[0]
            if not manifests.is_backup_id(name):
                continue
            until = begun + timedelta(seconds=self.policy.incomplete_after_s)
            if name in by_name and not by_name[name].is_complete:
                until = max(until, self._busy_until(by_name[name]) or until)
            if self.now > until:
                dead.append((key, upload_id))
        return dead

    def _newest_proven(self, found: Sequence[rules.Folder]) -> str | None:
        """The newest backup whose newest proof is ok, and is of this very manifest."""
        for folder in found:
            if not folder.is_complete or not folder.proofs or rules.is_ahead(folder, self.now):
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
            same = (document.backup_id, document.manifest_sha256) == (folder.backup_id, own)
            if same and document.status is Status.OK:
                return folder.backup_id
        return None

    def _locks(self, folder: rules.Folder) -> set[str]:
        found = set()
        for each in folder.versions:
            if each.is_delete_marker:
                continue
            lock = driver.lock_of(self.store, f"{self.root}{folder.backup_id}/{each.name}", each.version_id)
            reason = rules.lock_reason(lock.legal_hold, lock.retain_until, self.now)
            if reason:
                found.add(reason)
        return found

    def _warn(self, decisions: Sequence[rules.Decision]) -> None:
        waiting = [each for each in decisions if each.reason in ("no backup is proven", "no newer backup is proven")]
        if waiting:
            self.context.warn(
                f"{count(len(waiting), 'backup')} whose time is over {agree(len(waiting), 'is', 'are')} kept, because "
                "no newer one is proven; run playbooks/backup_verify.yml with -e backup_verify_proof=true, on "
                "production with -e confirm=production too."
            )

    # Act

    def _act(
        self,
        acts: dict[str, list[rules.Folder]],
        decisions: dict[str, rules.Decision],
        uploads: Sequence[tuple[str, str]],
        facts: dict[str, Any],
    ) -> None:
        """Carry the plan out, the oldest first; what was done stands in ``facts`` also where it fails."""
        total = sum(len(each) for each in acts.values())
        facts.update(deleted=[], purged=[], freed_bytes=0, aborted_uploads=0, changed=False)
        try:
            for key, upload_id in uploads:
                self.store.abort_upload(key, upload_id)
                facts.update(aborted_uploads=facts["aborted_uploads"] + 1, changed=True)
            for name in facts["withdrawn"]:
                self._withdraw(name)
                facts["changed"] = True
            for action in ("purge", "remove", "delete"):
                for folder in acts[action]:
                    if action == "delete":
                        self._delete(folder, decisions[folder.backup_id].reason, facts)
                    else:
                        self._purge(folder, action, facts)
                    done = len(facts["deleted"]) + len(facts["purged"])
                    self.context.progress.update("deleting backups", done, total, "backups")
        except RunbookError as error:
            gone = len(facts["deleted"]) + len(facts["purged"])
            changed = facts["changed"] or bool(error.context.get("deleted"))
            raise RunbookError(
                f"{error.message} {gone} of {count(total, 'backup')} {agree(gone, 'was', 'were')} deleted; run again, "
                f"and the next run goes on.",
                **(facts | {"status": error.status, "changed": changed, "s3_code": error.context.get("s3_code")}),
            ) from None

    def _delete(self, folder: rules.Folder, reason: str, facts: dict[str, Any]) -> None:
        """Write the decision down, then hide the backup, its manifest first.

        Where the rest cannot be hidden, the backup is brought back, and the decision withdrawn.
        """
        base = f"{self.root}{folder.backup_id}/"
        decision = rules.Deletion(
            folder.backup_id, self.params["database"], self.context.run.id or "", self.now.isoformat(), reason
        )
        document = self.store.put(base + rules.DELETION_NAME, decision.to_bytes())
        marker = None
        kept = (manifests.MANIFEST_NAME, rules.DELETION_NAME)
        try:
            marker = driver.hide(self.store, base + manifests.MANIFEST_NAME)
            rest = [each for each in self.store.entries(base) if each.key.removeprefix(base) not in kept]
            facts["deleted_objects"] += 1 + self.store.delete(rest)
        except RunbookError as error:
            if marker and not error.context.get("deleted"):
                driver.unhide(self.store, base + manifests.MANIFEST_NAME, marker)
                driver.unhide(self.store, base + rules.DELETION_NAME, document.version_id)
            raise
        facts["changed"] = True
        facts["deleted"].insert(0, folder.backup_id)
        left = driver.folder_now(self.store, self.root, folder.backup_id)
        if not left.has_manifest:
            # In a bucket without versions there is nothing to come back to.
            facts["deleted_objects"] += self._purge_versions(left)
            facts["freed_bytes"] += folder.size_bytes

    def _withdraw(self, backup_id: str) -> None:
        """Take back the document of a deletion that was decided, not started, and is not wanted any more."""
        for each in driver.folder_now(self.store, self.root, backup_id).documents:
            driver.unhide(self.store, f"{self.root}{backup_id}/{rules.DELETION_NAME}", each.version_id)

    def _purge(self, folder: rules.Folder, action: str, facts: dict[str, Any]) -> None:
        """Delete all versions of a folder for good, if it is still what it was when that was decided."""
        now = driver.folder_now(self.store, self.root, folder.backup_id)
        still = bool(now.deletion) if action == "purge" else not now.was_complete
        if now.is_complete or not still:
            raise RunbookError(f"Backup {folder.backup_id} changed meanwhile, so nothing of it was purged.")
        try:
            facts["deleted_objects"] += self._purge_versions(now)
        except RunbookError as error:
            if error.context.get("s3_code") != "AccessDenied":
                raise
            self.context.warn(
                f"The versions of {folder.backup_id}, which is deleted, could not be purged: these credentials lack "
                "s3:DeleteObjectVersion. Grant it, or let a lifecycle rule purge noncurrent versions."
            )
            return
        facts["changed"] = True
        facts["freed_bytes"] += now.size_bytes
        facts["purged"].insert(0, folder.backup_id)

    def _purge_versions(self, folder: rules.Folder) -> int:
        base = f"{self.root}{folder.backup_id}/"
        return sum(
            self.store.delete([
                s3.Entry(base + each.name, each.size_bytes, "", each.modified_at, each.version_id, each.is_latest)
                for each in step
            ])
            for step in rules.purge_order(folder)
        )  # fmt: skip


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
            "system_identifier": {"type": "str", "default": ""},
            "previous_clusters": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "str", "required": True},
            "keep_daily": {"type": "int", "default": 31},
            "keep_weekly": {"type": "int", "default": 8},
            "keep_monthly": {"type": "int", "default": 12},
            "min_keep": {"type": "int", "default": 3},
            "hold": {"type": "list", "elements": "str", "default": []},
            "incomplete_after_s": {"type": "int", "default": 86_400},
            "give_up": {"type": "list", "elements": "str", "default": []},
            "keep_deleted_days": {"type": "int", "default": 7},
            "max_delete": {"type": "int", "default": 10},
            "max_delete_percent": {"type": "int", "default": 50},
        },
    )


if __name__ == "__main__":
    main()
