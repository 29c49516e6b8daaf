#!/usr/bin/python
"""Module supabase_restore_wait: wait for a restore that a Supabase project is at."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_restore_wait
short_description: Wait for the end of a Supabase restore
description:
  - Waits for the end of a restore that M(supabase_restore) or the dashboard started, then checks the health of the
    project. Starts no restore.
extends_documentation_fragment: runbook_supabase
options:
  wait_timeout_s:
    description:
      - Longest time to wait for the end of the restore, in seconds.
    type: int
    default: 7200
  poll_s:
    description:
      - Seconds between two requests for the status of the project.
    type: float
    default: 15.0
attributes:
  check_mode:
    support: full
    description: Writes nothing, so it waits all the same.
  diff_mode:
    support: none
    description: Writes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Wait for the end of the restore
  supabase_restore_wait:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    project_name: mental-scribe
"""

RETURN = r"""
msg:
  description: Health of the project, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach), or V(unknown) if the API did not say enough or the time limit was reached.
  type: str
  returned: always
project_status:
  description: Last known status of the project.
  type: str
  returned: when the API answered
checks:
  description: Health of the project and its services, each with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: after the wait
duration_s:
  description: Time that the module waited for the restore, in seconds.
  type: float
  returned: when the API answered
"""

from typing import Any

from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase
from ansible.module_utils.runbook.drivers.supabase.supabase import argument_spec as shared_options
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import sentence
from ansible.module_utils.runbook.rules.supabase import supabase as rules


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return shared_options() | {
        "wait_timeout_s": {"type": "int", "default": 7200},
        "poll_s": {"type": "float", "default": 15.0},
    }


def core(context: Context) -> dict[str, Any]:
    """Wait, and check the project."""
    params = context.params
    rules.check_seconds({name: params[name] for name in ("wait_timeout_s", "poll_s", "timeout_s")})
    api = Supabase.from_params(params, read_only=True)
    project = rules.parse_project(api.project())
    rules.check_identity(project, ref=params["project_ref"], name=params["project_name"] or "")
    facts: dict[str, Any] = {"project_status": project.status}

    def tell(state: str, waited_s: float) -> None:
        facts.update({"duration_s": round(waited_s, 1)} | ({"project_status": state} if state else {}))
        context.progress.update(f"project is {state or 'silent'}", waited_s, None, "s")

    waiting = rules.Waiting(project, params["wait_timeout_s"])
    try:
        api.wait(rules.parse_project, waiting.is_over, poll_s=params["poll_s"], tell=tell)
    except RunbookError as error:
        raise RunbookError(error.message, **(facts | error.context)) from None
    project = rules.parse_project(api.project())
    checks = rules.judge_health(project, api.health(rules.SERVICES))
    msg = sentence(f"Project {project.name}", checks)
    return context.conclude(checks, msg=msg, **(facts | {"project_status": project.status}))


def main() -> None:
    """Entry point."""
    run_module(core, name="supabase_restore_wait", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
