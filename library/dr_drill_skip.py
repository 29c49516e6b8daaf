#!/usr/bin/python
"""Module dr_drill_skip: note that a drill's restore failed, so that the next decision skips its backup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill_skip
short_description: Skip a backup that a disaster-recovery drill could not restore
description:
  - Notes why the restore failed that M(dr_drill_decide) asked for. The next one chooses another backup.
  - Where the reason names the log of a server that M(pg_pitr_restore) restored, the lines of it that tell of the
    recovery are kept below O(state_dir), without statements and rows.
options:
  reason:
    description:
      - Why the restore failed.
    type: str
    required: true
  code:
    description:
      - The C(code) of the restore's result, if it has one.
    type: str
    default: ""
extends_documentation_fragment:
  - runbook_drill
attributes:
  check_mode:
    description: Does nothing, as no drill is started in check mode.
    support: full
  diff_mode:
    description: Nothing is shown.
    support: none
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Note why the restore failed
  dr_drill_skip:
    state_dir: /srv/runbook/drill
    environment: sandbox
    reason: "{{ ansible_failed_result.msg }}"
    code: "{{ ansible_failed_result.code | default('') }}"
"""

RETURN = r"""
msg:
  description: What failed, and why.
  type: str
  returned: always
status:
  description: V(ok).
  type: str
  returned: always
drill_id:
  description: Name of the drill.
  type: str
  returned: when a drill is under way
recovered:
  description: V(false).
  type: bool
  returned: except in check mode
duration_s:
  description: Seconds that it took.
  type: float
  returned: except in check mode
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits, workspace
from ansible.module_utils.runbook.drivers.drill import drill
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.drill import scenarios, server_log
from ansible.module_utils.runbook.rules.drill.points import Problem
from ansible.module_utils.runbook.rules.status import Status


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return drill.argument_spec() | {
        "reason": {"type": "str", "required": True},
        "code": {"type": "str", "default": ""},
    }


def core(context: Context) -> dict[str, Any]:
    """Note why the restore failed."""
    permits.require_environment(context.run, context.params["environment"])
    if context.check_mode:
        return scenarios.nothing_to_do()
    with drill.resumed(context.params) as current:
        chosen = current.state.chosen
        if chosen is None:
            raise RunbookError("state_dir: nothing was chosen to be restored yet; run the playbook dr_drill.yml.")
        reason = keep_log(current, chosen.backup_id, context.params["reason"])
        code = context.params["code"]
        current.keep(current.state.with_failed(Problem(reason, (code,) if code else ())))
        current.phase("restore", chosen.begun_at, Status.BREACH, reason)
        return current.told(f"The restore of {chosen.attempt} failed: {reason}", recovered=False)


def keep_log(current: drill.Drill, backup_id: str, reason: str) -> str:
    """Keep what the restored server's log says where the tear-down does not reach; the reason, naming that place."""
    log = Path(current.state.restore_path) / "server.log"
    if str(log) not in reason or not log.exists():
        return reason
    kept = current.folder.logs / f"{current.state.drill_id}-{backup_id}.log"
    workspace.write_text(kept, server_log.log_without_rows(log.read_text(errors="replace")))
    return reason.replace(str(log), str(kept))


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill_skip", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
