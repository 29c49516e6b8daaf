#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vercel_preflight
short_description: Verify the identity of a Vercel project and take its lease
description:
  - Verifies that the project O(project_id) has the name and the team that the inventory pins. Run M(runbook_preflight)
    first in the same run.
  - Takes the lease if the inventory names a state store. C(ansible-playbook) renews and releases it.
  - Records the result in the folder of the run. Modules that write to a project refuse one that has not passed in the
    same run.
extends_documentation_fragment:
  - runbook_vercel
  - runbook_state
  - runbook_lease
attributes:
  check_mode:
    support: full
    description:
      - Runs the checks. Reads the lease without taking it, and fails if another run holds it. Other modules of the run
        may then only read.
  diff_mode:
    support: none
    description: Writes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Verify the project
  vercel_preflight:
    project_id: prj_1a2b3c4d5e
    project_name: mental-scribe
    team_id: team_1a2b3c
    access_token: "{{ vercel_access_token }}"
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: What was verified, or which check failed and the fix, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if it is another project, V(unknown) if the API does not say enough.
  type: str
  returned: always
checks:
  description: The checks, C(identity) and C(lease), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when this run passed M(runbook_preflight)
target:
  description:
    - The verified target, with C(kind) (V(vercel_project)), C(place) (URL of the API), C(name) (ID of the project) and
      C(environment) (of this run).
  type: dict
  returned: success
lease:
  description:
    - C(name), C(decision) (V(acquire), V(renew), V(take_over); V(none) without a state store or O(take_lease)) and
      C(expires_at). In check mode C(decision) is what the real run would do, and C(expires_at) is null.
  type: dict
  returned: success
project_name:
  description: Name of the project.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import lease_wait, permits, state_lease
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel, argument_spec
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.deploy import deployments


def core(context: Context) -> dict[str, Any]:
    """Compare the project with the inventory, and write down what passed."""
    params, checks = context.params, preflight.Checks()
    context.require_bounds(lease_wait.BOUNDS)
    approval = permits.require_approval(context.run)
    with checks.named("identity") as check:
        preflight.check_filled_in({
            name: params[name] for name in ("project_id", "project_name", "team_id", "api_url")
        })  # fmt: skip
        api = Vercel.from_params(params, read_only=True)
        project = api.project()
        check["msg"] = deployments.check_identity(project, api.place, params["project_name"] or "")
    admitted = state_lease.admit(params, context.run, api.target, approval, checks, context.progress.update)
    return context.conclude(checks.done, msg=checks.done[0].msg, project_name=project.name, **admitted)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="vercel_preflight", argument_spec=argument_spec() | state_lease.argument_spec())


if __name__ == "__main__":
    main()
