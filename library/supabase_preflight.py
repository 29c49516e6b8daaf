#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_preflight
short_description: Lets a Supabase project prove that it is the one which the inventory means
description:
  - The proof of a project, once M(runbook_preflight) has passed in the same run. The project that the Management API
    knows under O(project_ref) must bear the name that is pinned in the inventory. Its database is not asked, and may be
    gone.
  - What passed is written down in the run's folder. Modules that write to a project look for it, and refuse one that
    has not passed in this very run.
extends_documentation_fragment: runbook_supabase
attributes:
  check_mode:
    support: full
    description: The check runs. What passed permits other modules of this run nothing but a look.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Let the project prove itself
  supabase_preflight:
    project_ref: abcdefghijklmnopqrst
    project_name: mental-scribe
    access_token: "{{ supabase_access_token }}"
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where another project answers, V(unknown) where the API does not say enough.
  type: str
  returned: always
checks:
  description: The one check, C(identity), with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: when this run passed M(runbook_preflight)
target:
  description:
    - What was proven, C(kind) (V(supabase_project)), C(place) (the API's address), C(name) (the reference), and the
      C(environment) for which this run is approved.
  type: dict
  returned: success
project_name:
  description: The project's name.
  type: str
  returned: success
region:
  description: Where the project lies.
  type: str
  returned: success
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase, argument_spec
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.supabase import supabase as rules


def core(context: Context) -> dict[str, Any]:
    """Compare the project with the inventory, and write down what passed."""
    params, checks = context.params, preflight.Checks()
    environment = permits.require_approval(context.run).environment
    with checks.named("identity") as check:
        api = Supabase(
            api_url=rules.check_api_url(params["api_url"]),
            project_ref=rules.check_ref(params["project_ref"]),
            access_token=params["access_token"],
            ca_cert=params["ca_cert"],
            timeout_s=params["timeout_s"],
            read_only=True,
        )
        project = rules.parse_project(api.project())
        check["msg"] = rules.check_identity(project, ref=params["project_ref"], name=params["project_name"] or "")
    permits.grant(context.run, api.target)
    return {
        "changed": False,
        "msg": checks.done[-1]["msg"],
        "status": "ok",
        "target": asdict(api.target) | {"environment": environment},
        "project_name": project.name,
        "region": project.region,
        "checks": checks.done,
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="supabase_preflight", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
