#!/usr/bin/python
"""Module supabase_project_check: whether a Supabase project and its services are well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_project_check
short_description: Check the health of a Supabase project and its services
description:
  - Reads the status of the project and the health of its services. Fails if one is not healthy or is V(unknown).
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
- name: Check that the project is healthy
  supabase_project_check:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    project_name: mental-scribe
"""

RETURN = r"""
msg:
  description: Result of all checks, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach), or V(unknown) if the API did not say enough.
  type: str
  returned: always
project_status:
  description: Status of the project.
  type: str
  returned: when the API answered
checks:
  description: Health of the project and its services, each with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: when the API answered
"""

from typing import Any

from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase, argument_spec
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import sentence
from ansible.module_utils.runbook.rules.supabase import supabase as rules


def core(context: Context) -> dict[str, Any]:
    """Judge the project's health."""
    params = context.params
    rules.check_seconds({"timeout_s": params["timeout_s"]})
    api = Supabase.from_params(params, read_only=True)
    project = rules.parse_project(api.project())
    rules.check_identity(project, ref=params["project_ref"], name=params["project_name"] or "")
    checks = rules.judge_health(project, api.health(rules.SERVICES))
    msg = sentence(f"Project {project.name}", checks)
    return context.conclude(checks, msg=msg, project_status=project.status)


def main() -> None:
    """Entry point."""
    run_module(core, name="supabase_project_check", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
