#!/usr/bin/python
"""Module supabase_restore_info: to where a Supabase project can go back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_restore_info
short_description: Show the points in time to which a Supabase project can be restored
description:
  - Reads the backups of the project and its window of point-in-time recovery. To check them, use
    M(supabase_backup_info).
extends_documentation_fragment: runbook_supabase
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
- name: Show what can be restored
  supabase_restore_info:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    project_name: mental-scribe
"""

RETURN = r"""
msg:
  description: Status of the project and its recovery window, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if it is another project, or V(unknown) if the API did not say enough.
  type: str
  returned: always
project_status:
  description: Status of the project.
  type: str
  returned: success
earliest:
  description: Earliest point in time that can be restored; null if there is none.
  type: str
  returned: success
latest:
  description: Latest point in time that can be restored; null if there is none.
  type: str
  returned: success
backups:
  description: The daily backups, newest first, each with C(id), C(status), C(is_physical) and C(inserted_at).
  type: list
  elements: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase, argument_spec
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.supabase import supabase as rules


def core(context: Context) -> dict[str, Any]:
    """Say what can be restored."""
    params = context.params
    rules.check_seconds({"timeout_s": params["timeout_s"]})
    api = Supabase.from_params(params, read_only=True)
    project = rules.parse_project(api.project())
    rules.check_identity(project, ref=params["project_ref"], name=params["project_name"] or "")
    backups = rules.parse_backups(api.backups())
    return rules.as_figures(backups) | {
        "changed": False,
        "msg": rules.window_sentence(project, backups),
        "project_status": project.status,
    }


def main() -> None:
    """Entry point."""
    run_module(core, name="supabase_restore_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
