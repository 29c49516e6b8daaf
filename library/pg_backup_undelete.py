#!/usr/bin/python
"""Module pg_backup_undelete: brings backups back that somebody hid by delete markers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_undelete
short_description: Bring deleted backups back while their object versions exist
description:
  - Whoever deletes objects in a bucket with versions only hides them, by delete markers. This module deletes the
    markers of backups, so that the backups are there again. It touches nothing else.
  - Without O(backups), all backups of the database are brought back that are hidden and that no retention deleted.
  - A backup is brought back only if the right version of every object that its manifest names is still there. The
    manifest's own marker goes last, so a run that is killed leaves nothing that looks whole and is not; run it again.
  - Afterwards each manifest is read as everybody reads it, and every object that it names is asked for.
extends_documentation_fragment:
  - runbook_s3
  - runbook_backups
  - runbook_backups.database
  - runbook_backups.environment
options:
  backups:
    description:
      - Names of the backups to bring back. One that a retention deleted comes back only if it stands here; a retention
        deletes it again unless it is held.
    type: list
    elements: str
    default: []
  max_backups:
    description:
      - If more backups than this would be brought back, none is.
    type: int
    default: 200
attributes:
  check_mode:
    support: full
    description: Nothing is brought back; the plan is that of the real run.
  diff_mode:
    support: full
    description: Shows the backups that come back.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Bring back what was deleted by mistake
  pg_backup_undelete:
    bucket: mental-scribe-backups
    region: us-east-1
    prefix: production
    database: mental_scribe
    environment: production

- name: Bring back a backup that retention deleted
  pg_backup_undelete:
    bucket: mental-scribe-backups
    region: us-east-1
    prefix: production
    database: mental_scribe
    environment: production
    backups: [2026-10-21T03-00-00Z]
"""

RETURN = r"""
changed:
  description: Whether a backup was brought back, or would be in check mode.
  type: bool
  returned: always
msg:
  description: One sentence with the figures.
  type: str
  returned: always
status:
  description:
    - V(ok), V(breach) where a backup cannot be brought back whole, or
      V(unknown) where a server gave no answer.
  type: str
  returned: always
restored:
  description: Names of the backups that were brought back, or would be, the newest first.
  type: list
  elements: str
  returned: when the bucket could be read
lost:
  description: Backups of which something is missing for good, with C(backup_id) and C(reason).
  type: list
  elements: dict
  returned: when the bucket could be read
removed_markers:
  description: Delete markers that were deleted, or would be; documents of deletions too.
  type: int
  returned: when the bucket could be read
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.s3 import bucket as driver
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup_check
from ansible.module_utils.runbook.rules.backup import backup_retention as retention
from ansible.module_utils.runbook.rules.backup import backup_undelete as rules
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.backup.manifest import Manifest


class Undelete:
    """One call of the module."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        context.require_bounds({"max_backups": (1, 1_000_000)})
        if not params["database"]:
            raise RunbookError("database: it is empty; name the database whose backups these are.")
        self.store = s3.Store.from_params(params)
        self.root = driver.home(self.store, manifests.database_folders(params["prefix"], params["database"]))

    def run(self) -> dict[str, Any]:
        """Plan, then bring back; the result of the module."""
        permits.require_bucket(self.context.run, self.store, self.params["environment"])
        found = retention.folders(driver.listed(self.store, self.root))
        decided = retention.deletions(
            driver.deletion_documents(self.store, self.root, found), database=self.params["database"]
        )
        hidden = retention.hidden(found, decided)
        names = rules.choose(found, hidden, decided, self.params["backups"])
        if len(names) > self.params["max_backups"]:
            raise RunbookError(
                f"max_backups: {count(len(names), 'backup')} would be brought back, and at most "
                f"{self.params['max_backups']} "
                "may be; name some in backups, or raise it."
            )
        by_name = {folder.backup_id: folder for folder in found}
        whole: list[tuple[retention.Folder, Manifest]] = []
        lost = []
        for name in names:
            made = self._judged(by_name[name])
            if isinstance(made, str):
                lost.append({"backup_id": name, "reason": made})
            else:
                whole.append((by_name[name], made))
        facts: dict[str, Any] = {
            "changed": bool(whole),
            "restored": [folder.backup_id for folder, _made in whole],
            "lost": lost,
            "removed_markers": sum(rules.steps(folder).count for folder, _made in whole),
        }
        if self.context.diff:
            lines = [
                f"bring back {folder.backup_id}: delete {count(rules.steps(folder).count, 'delete marker')}\n"
                for folder, _made in whole
            ] + [f"cannot bring back {each['backup_id']}: {each['reason']}\n" for each in lost]
            facts["diff"] = {"prepared": "".join(lines)}
        if not self.context.check_mode:
            self._act(whole, facts)
        again = sorted(set(facts["restored"]) & set(decided))
        if again:
            self.context.warn(
                f"{', '.join(again)}: a retention deleted it, and will again; name it in backup_retention_hold."
            )
        would = "would be " if self.context.check_mode else ""
        msg = f"Backups of {self.params['database']}: {len(facts['restored'])} {would}brought back."
        if lost:
            msg += (
                f" {len(lost)} cannot be: {lost[0]['backup_id']} {lost[0]['reason']}. Look for a copy in the "
                "second region; give up what is lost with backup_retention_give_up."
            )
        return self.context.conclude(Status.of(breach=lost), msg=msg, **facts)

    def _judged(self, folder: retention.Folder) -> Manifest | str:
        """The manifest of a backup that can be brought back whole, or why it cannot be."""
        version = rules.newest_manifest(folder)
        if version is None:
            return "has no version of its manifest any more"
        base = f"{self.root}{folder.backup_id}/"
        key = base + manifests.MANIFEST_NAME
        text = self.store.read(key, version.version_id, most_bytes=manifests.MAX_MANIFEST_BYTES)
        try:
            made = manifests.parse(text, where=self.store.url(key))
        except RunbookError as error:
            return f"has a manifest that is not to be trusted ({error.message.rstrip('.')})"
        own = backup_check.judge_manifest(
            made, backup_id=folder.backup_id, root=self.root, database=self.params["database"], clusters=frozenset()
        )
        if own.status != Status.OK:
            return f"has a manifest that is not its own ({own.msg.rstrip('.')})"
        gone = rules.missing(folder, made, base)
        return f"lacks {len(gone)} of {count(len(made.objects), 'object')}, such as {gone[0]}" if gone else made

    def _act(self, whole: list[tuple[retention.Folder, Manifest]], facts: dict[str, Any]) -> None:
        facts.update(restored=[], removed_markers=0, changed=False)
        for number, (folder, made) in enumerate(whole):
            base = f"{self.root}{folder.backup_id}/"
            todo = rules.steps(folder)
            try:
                for step in (todo.documents, todo.markers, todo.manifest_markers):
                    facts["removed_markers"] += self.store.delete([
                        s3.Entry(base + each.name, 0, "", each.modified_at, each.version_id) for each in step
                    ])  # fmt: skip
                    facts["changed"] = facts["changed"] or bool(step)
                self._prove(folder.backup_id, made)
            except RunbookError as error:
                raise RunbookError(
                    f"{error.message} {number} of {count(len(whole), 'backup')} {agree(number, 'was', 'were')} brought "
                    f"back, {folder.backup_id} was not; "
                    "run again, and the next run goes on.",
                    **(facts | {"status": error.status}),
                ) from None
            facts["restored"].append(folder.backup_id)
            self.context.progress.update("bringing back", number + 1, len(whole), "backups")

    def _prove(self, backup_id: str, made: Manifest) -> None:
        """See that everybody can read the manifest again, and that its objects are there.

        :raises RunbookError: they are not
        """
        key = f"{self.root}{backup_id}/{manifests.MANIFEST_NAME}"
        text = self.store.read(key, most_bytes=manifests.MAX_MANIFEST_BYTES)
        if manifests.parse(text, where=self.store.url(key)) != made:
            raise RunbookError(f"{self.store.url(key)} is not the manifest that was hidden.")
        for each in made.objects:
            answer = self.store.head(each.key)
            if answer is None or int(answer["ContentLength"]) != each.size_bytes:
                raise RunbookError(f"{self.store.url(each.key)} is still not there as it was written.")


def core(context: Context) -> dict[str, Any]:
    """Plan and bring back."""
    return Undelete(context).run()


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="pg_backup_undelete",
        argument_spec={
            **s3.argument_spec(),
            "prefix": {"type": "str", "default": ""},
            "database": {"type": "str", "required": True},
            "environment": {"type": "str", "required": True},
            "backups": {"type": "list", "elements": "str", "default": []},
            "max_backups": {"type": "int", "default": 200},
        },
    )


if __name__ == "__main__":
    main()
