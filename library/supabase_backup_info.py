#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_backup_info
short_description: Check the backups that Supabase itself keeps of a project
description:
  - Reads backups and the window of point-in-time recovery (PITR) through Supabase's Management API, and compares them
    with what is wanted. Nothing is written.
  - The checks are C(pitr) (switched on), C(age) (the newest moment that can be restored is young enough), C(retention)
    (one can go back far enough; a younger project may not), C(states) (no failed backup since the last good one).
  - The module fails when a check is not V(ok). What the API says in words that are not known is V(unknown), and
    V(unknown) fails too.
extends_documentation_fragment: runbook_supabase
options:
  pitr:
    description:
      - Whether point-in-time recovery must be on.
    type: bool
    default: true
  max_age_s:
    description:
      - Largest age of the newest moment that can be restored, in seconds. With PITR that is the end of its window,
        without it the newest complete backup; Supabase makes one a day.
    type: int
    default: 3600
  retention_days:
    description:
      - How far back one wants to be able to go, in days.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
    description: Nothing is written anyway.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Supabase's own backups are as promised
  supabase_backup_info:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    retention_days: 30
    max_age_s: 3600
"""

RETURN = r"""
changed:
  description: Always false.
  type: bool
  returned: always
msg:
  description: One sentence on all checks.
  type: str
  returned: always
status:
  description: The worst of all checks, V(ok), V(breach) or V(unknown).
  type: str
  returned: always
checks:
  description: Each check with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when the API answered
project_status:
  description: State of the project.
  type: str
  returned: when the API answered
pitr_enabled:
  description: Whether point-in-time recovery is on.
  type: bool
  returned: when the API answered
earliest:
  description: The oldest moment that can be restored, null if there is none.
  type: str
  returned: when the API answered
latest:
  description: The newest moment that can be restored, null if there is none.
  type: str
  returned: when the API answered
age_s:
  description: Age of the newest moment that can be restored, in seconds; null if there is none.
  type: float
  returned: when the API answered
backups:
  description: The daily backups, newest first, each with C(id), C(status), C(is_physical) and C(inserted_at).
  type: list
  elements: dict
  returned: when the API answered
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase, argument_spec
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup_check
from ansible.module_utils.runbook.rules.status import sentence
from ansible.module_utils.runbook.rules.supabase import supabase as rules


def core(context: Context) -> dict[str, Any]:
    """Read, judge, and fail where the judgement is not ok."""
    params = context.params
    for name in ("max_age_s", "retention_days", "timeout_s"):
        if params[name] < 1:
            raise RunbookError(f"{name}: {params[name]} is not possible; give a number of 1 or more.")
    api = Supabase.from_params(params, read_only=True)
    project = rules.parse_project(api.project())
    if params["project_name"] is not None:
        rules.check_identity(project, ref=params["project_ref"], name=params["project_name"])
    backups = rules.parse_backups(api.backups())
    now = datetime.now(UTC)
    checks = rules.judge(
        backups,
        created_at=project.created_at,
        now=now,
        pitr=params["pitr"],
        max_age_s=params["max_age_s"],
        retention_days=params["retention_days"],
    )
    earliest, latest = rules.oldest(backups), rules.newest(backups)
    return context.conclude(
        checks,
        msg=sentence(f"Supabase's backups of {project.name}", checks),
        project_status=project.status,
        pitr_enabled=backups.pitr_enabled,
        earliest=earliest and earliest.isoformat(),
        latest=latest and latest.isoformat(),
        age_s=latest and round(backup_check.age_s(latest, now), 1),
        backups=rules.as_results(backups),
    )


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="supabase_backup_info",
        argument_spec={
            **argument_spec(),
            "pitr": {"type": "bool", "default": True},
            "max_age_s": {"type": "int", "default": 3600},
            "retention_days": {"type": "int", "default": 30},
        },
    )


if __name__ == "__main__":
    main()
