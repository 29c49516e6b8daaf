#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_backup_info
short_description: Check Supabase's own backups of a project
description:
  - Reads the backups and the window of point-in-time recovery (PITR) from the Management API of Supabase, and compares
    them with the options.
  - Fails if a check is not V(ok). Values of the API that the module does not know are V(unknown).
  - C(pitr) - PITR is enabled.
  - C(age) - the newest point in time that can be restored is recent enough.
  - C(retention) - the oldest one is old enough, as far as the age of the project allows.
  - C(states) - no backup has failed since the last good one.
extends_documentation_fragment: runbook_supabase
options:
  pitr:
    description:
      - Whether PITR must be enabled.
    type: bool
    default: true
  max_age_s:
    description:
      - Largest accepted age of the newest point in time that can be restored, in seconds. With PITR this is the end of
        its window, without PITR the newest complete backup, which Supabase makes daily.
    type: int
    default: 3600
  retention_days:
    description:
      - Number of days to which the project must be restorable.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
    description: Writes nothing, so it does the same.
  diff_mode:
    support: none
    description: Writes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Check the backups of Supabase
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
  description: Result of all checks, in one sentence.
  type: str
  returned: always
status:
  description: Worst status of the checks, V(ok), V(breach) or V(unknown).
  type: str
  returned: always
checks:
  description: The checks, each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when the API answered
project_status:
  description: Status of the project.
  type: str
  returned: when the API answered
pitr_enabled:
  description: Whether PITR is enabled.
  type: bool
  returned: when the API answered
earliest:
  description: Earliest point in time that can be restored; null if there is none.
  type: str
  returned: when the API answered
latest:
  description: Latest point in time that can be restored; null if there is none.
  type: str
  returned: when the API answered
age_s:
  description: Age of C(latest), in seconds; null if there is none.
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
