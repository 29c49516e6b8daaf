#!/usr/bin/python
"""Module pg_pitr_discard: stop the server that a restore made, and remove its folder."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pitr_discard
short_description: Stop and remove a server that was restored to a point in time
description:
  - Stops the server that M(pg_pitr_restore) created and deletes its directory. Also removes what a killed restore left.
  - Deletes nothing that was not created by a restore.
options:
  environment:
    description:
      - Environment of this run.
    type: str
    required: true
  restore_path:
    description:
      - Directory of the restore.
    type: path
    required: true
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
- name: Remove the restored server
  pg_pitr_discard:
    environment: production
    restore_path: /srv/restore
"""

RETURN = r"""
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Removed the restored server in /srv/restore.
status:
  description: V(ok), or V(breach) if it was refused.
  returned: always
  type: str
"""

import shutil
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import restored_server
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import recovery as rules
from ansible.module_utils.runbook.rules.text import as_lines


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return {"environment": {"type": "str", "required": True}, "restore_path": {"type": "path", "required": True}}


def core(context: Context) -> dict[str, Any]:
    """Remove a server that was restored."""
    permits.require_environment(context.run, context.params["environment"])
    restore_dir = restored_server.RestoreDir.named(context.params["restore_path"])
    rules.refuse_foreign(str(restore_dir.path), restore_dir.foreign())
    if not restore_dir.state():
        return {"changed": False, "msg": f"There is no restored server in {restore_dir.path}."}
    if not context.check_mode:
        with restore_dir.mine():
            restore_dir.clear()
        shutil.rmtree(restore_dir.path, ignore_errors=True)
    msg = f"{'Would remove' if context.check_mode else 'Removed'} the restored server in {restore_dir.path}."
    shown = {"diff": {"prepared": as_lines([msg])}} if context.diff else {}
    return shown | {"changed": True, "msg": msg}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_pitr_discard", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
