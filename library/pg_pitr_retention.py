#!/usr/bin/python
"""Module pg_pitr_retention: delete base backups and WAL that the recovery window does not need."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pitr_retention
short_description: Delete base backups and WAL outside of the recovery window
description:
  - Deletes base backups that the recovery window no longer needs, and the WAL before them, with Barman.
  - Aborts uploads that a killed base backup left, when they are eight days old, which no base backup lasts.
  - Runs on any host; the database server is not needed.
options:
  recovery_window_days:
    description:
      - Recovery window in days. Everything that is needed to restore any point in time in it is kept.
    type: int
    default: 30
  minimum_backups:
    description:
      - Number of base backups to keep in any case.
    type: int
    default: 2
  max_delete:
    description:
      - Fail and delete nothing if more base backups than this would be deleted.
    type: int
    default: 10
  max_delete_percent:
    description:
      - Fail and delete nothing if more than this percentage of the base backups would be deleted.
    type: int
    default: 50
  deadline_s:
    description:
      - Time limit for one call of Barman, in seconds.
    type: int
    default: 3600
extends_documentation_fragment:
  - runbook_s3
  - runbook_pitr
attributes:
  check_mode:
    description: Returns the plan of the real run. Deletes nothing.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Keep a recovery window of a month
  pg_pitr_retention:
    recovery_window_days: 31
    environment: production
    server: mental-scribe
    bucket: mental-scribe-backups
    region: eu-central-1
"""

RETURN = r"""
msg:
  description: What was done or found, in one sentence.
  returned: always
  type: str
  sample: Deleted 1 base backup and the WAL before them; 3 remain for the window of 30 days.
status:
  description: V(ok), V(breach) if it was refused, or V(unknown) if a server did not answer.
  returned: always
  type: str
duration_s:
  description: Duration in seconds.
  returned: always
  type: float
removed:
  description: Base backups that were deleted, or would be.
  returned: success
  type: list
  elements: str
aborted_uploads:
  description: Unfinished uploads that were aborted, or would be; null where they may not be listed.
  returned: success
  type: int
"""

from datetime import timedelta
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import barman
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.s3 import bucket
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import archiving, pitr_retention
from ansible.module_utils.runbook.rules.backup.tool_warnings import passed_on
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, count

#: One day more than the longest deadline of a base backup.
UPLOADS_AFTER = timedelta(days=8)
#: Options whose value must lie between two bounds.
BOUNDS = {
    "recovery_window_days": (1, 3_650),
    "minimum_backups": (1, 1_000),
    "max_delete": (0, 1_000_000),
    "max_delete_percent": (0, 100),
    "deadline_s": (10, 604_800),
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return barman.argument_spec() | {
        "recovery_window_days": {"type": "int", "default": 30},
        "minimum_backups": {"type": "int", "default": 2},
        "max_delete": {"type": "int", "default": 10},
        "max_delete_percent": {"type": "int", "default": 50},
        "deadline_s": {"type": "int", "default": 3600},
    }


def core(context: Context) -> dict[str, Any]:
    """Delete what the recovery window does not need."""
    params = context.params
    context.require_bounds(BOUNDS)
    permits.require_environment(context.run, params["environment"])
    clock = Clock(params["deadline_s"])
    engine = barman.Engine.from_params(params, heard=passed_on(context.warn))
    permits.require_bucket(context.run, engine.store, params["environment"])
    archiving.require_owner(engine.identity(), params["system_identifier"], where=engine.where)
    before = [str(each["backup_id"]) for each in engine.backups()]

    def expire(*, dry_run: bool) -> str:
        return engine.expire(
            window_days=params["recovery_window_days"], minimum=params["minimum_backups"], dry_run=dry_run,
            deadline_s=max(1.0, clock.left_s()),
        )  # fmt: skip

    gone = pitr_retention.expired(expire(dry_run=True), before)
    pitr_retention.check_removal(
        gone, before, max_delete=params["max_delete"], max_delete_percent=params["max_delete_percent"]
    )
    dead = bucket.dead_uploads(
        engine.store, engine.root, begun_before=bucket.clock(engine.store) - UPLOADS_AFTER, warn=context.warn
    )
    for each in [] if context.check_mode else dead or []:
        engine.store.abort_upload(*each)
    if gone and not context.check_mode:
        expire(dry_run=False)
        gone = sorted(set(before) - {str(each["backup_id"]) for each in engine.backups()})
    kept = len(before) - len(gone)
    did = "Would delete" if context.check_mode else "Deleted"
    msg = (
        f"{did} {count(len(gone), 'base backup')} and the WAL before them; {kept} {agree(kept, 'remains', 'remain')} "
        f"for the window of {count(params['recovery_window_days'], 'day')}."
    )
    lines = [msg, *(f"abort upload {key}" for key, _id in dead or ())]
    shown = {"diff": {"prepared": as_lines(lines)}} if context.diff else {}
    return shown | {
        "changed": bool(gone or dead), "removed": gone, "aborted_uploads": None if dead is None else len(dead),
        "msg": msg, "duration_s": round(clock.passed_s(), 3),
    }  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_pitr_retention", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
