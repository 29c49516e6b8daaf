#!/usr/bin/python
"""Module pg_rollback_remove_copies: remove from the bucket what a rollback put there on its way."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_rollback_remove_copies
short_description: Remove from the bucket what a rollback put there on its way
description:
  - A database that was restored to a moment on a server of its own comes to the live server as a backup below
    C(rollback) in the bucket. This removes that backup, all versions of its objects and its uploads.
  - Where a version may not be removed, it says so, and the rollback goes on.
extends_documentation_fragment:
  - runbook_s3
  - runbook_backups
  - runbook_backups.database
  - runbook_backups.environment
attributes:
  check_mode:
    description: Counts what would be removed, and removes nothing.
    support: full
  diff_mode:
    description: The change is one sentence.
    support: none
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Remove from the bucket what lay there on the way
  pg_rollback_remove_copies:
    database: mental_scribe
    environment: production
    bucket: mental-scribe-backups
    region: eu-central-1
    prefix: production
"""

RETURN = r"""
msg:
  description: What was removed, in a few words.
  returned: always
  type: str
status:
  description: V(ok), or V(unknown) where something is left.
  returned: always
  type: str
removed_objects:
  description: Versions of objects that were removed, or would be.
  returned: success
  type: int
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import rollback as rules
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import agree, count


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return s3.argument_spec() | {
        "prefix": {"type": "str", "default": ""},
        "database": {"type": "str", "required": True},
        "environment": {"type": "str", "required": True},
    }


def core(context: Context) -> dict[str, Any]:
    """Remove from the bucket what lay there on the way; where a version may not be removed, it is said."""
    params = context.params
    store = s3.Store.from_params(params)
    permits.require_bucket(context.run, store, params["environment"])
    home = manifests.database_folder(rules.copies_prefix(params["prefix"]), params["database"])
    found, status = list(store.versions(home)), Status.OK
    removed = len(found)
    were = ("would be",) * 2 if context.check_mode else ("was", "were")
    said = f"{count(removed, 'version')} of objects in {store.url(home)} {agree(removed, *were)} removed."
    if not context.check_mode:
        for key, upload_id, _begun in store.uploads(home):
            store.abort_upload(key, upload_id)
        try:
            store.delete(found)
        except RunbookError as error:
            removed, status = int(str(error.context.get("deleted", 0))), Status.UNKNOWN
            left = count(len(found) - removed, "version is", "versions are")
            said = f"Of the copy in {store.url(home)} {left} left. {error.message}"
            context.warn(said)
    return context.conclude(
        status, msg=said, fail_on_breach=False, fail_on_unknown=False, changed=bool(removed), removed_objects=removed
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_rollback_remove_copies", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
