#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vercel_deployment_info
short_description: Show what a Vercel project serves, and to which deployments it can go back
description:
  - Looks which deployment the production domains lead to, and whether O(version_url) says that it is served.
  - Lists the deployments of before, each with what speaks against going back to it.
  - What a rollback left to people is a V(breach) until it is done.
options:
  environment:
    description:
      - Environment of this run, V(sandbox), V(staging) or V(production).
    type: str
    required: true
  version_url:
    description:
      - Page of the application, as users reach it, that says which deployment is served, as
        M(vercel_move_domains) has it.
    type: str
    default: ''
  most:
    description:
      - How many deployments are listed, the newest first, 1 to 100.
    type: int
    default: 20
extends_documentation_fragment:
  - runbook_vercel
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look
  vercel_deployment_info:
    environment: production
    version_url: https://app.example.com/api/version
    project_id: prj_1a2b3c4d5e
    project_name: mental-scribe
    team_id: team_1a2b3c
    access_token: "{{ vercel_access_token }}"
    state_bucket: mental-scribe-state-production
"""

RETURN = r"""
msg:
  description: What is live, and what is not as it must be, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) while something is left to do or something else is served, or V(unknown).
  type: str
  returned: always
checks:
  description: The checks, C(served) and C(follow_up), each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: success
live:
  description: The deployment that is live, with C(id), C(url), C(commit), C(branch) and C(created_at).
  type: dict
  returned: success
deployments:
  description: The newest deployments, with the same fields, and C(objection), which is empty for one to go back to.
  type: list
  elements: dict
  returned: success
rolled_back:
  description: Whether the project is rolled back, so that pushes do not go live.
  type: bool
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.deploy.served import look
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
from ansible.module_utils.runbook.drivers.deploy.vercel import argument_spec as shared_options
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.deploy import deployments, rollback
from ansible.module_utils.runbook.rules.status import Check, sentence


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        shared_options()
        | state_store.argument_spec()
        | {
            "environment": {"type": "str", "required": True},
            "version_url": {"type": "str", "default": ""},
            "most": {"type": "int", "default": 20},
        }
    )


def core(context: Context) -> dict[str, Any]:
    """Look at the project, and at the page from outside."""
    params = context.params
    context.require_bounds({"most": (1, 100), "timeout_s": (1, 600)})
    if params["version_url"]:
        check_address("version_url", params["version_url"])
    permits.require_environment(context.run, params["environment"])
    api = Vercel.from_params(params, read_only=True)
    documents = Documents.from_params(params, context.run)
    project = api.project()
    deployments.check_identity(project, api.place, params["project_name"] or "")
    if not project.live_id:
        raise RunbookError("The project has no deployment in production, so nothing is served.")
    live = api.deployment(project.live_id)
    found = documents.read(rollback.document_name(params["project_id"])).document
    body = found.body if found else None
    keys = [documents.read(name).document for name in documents.names(rollback.rotations(params["project_id"]))]
    rotated = [rollback.Rotated.read(each.name, each.body) for each in keys if each is not None]
    bad = rollback.rolled_back_from(body, project)
    newest = api.deployments(state=deployments.READY, most=params["most"])[: params["most"]]
    served = look(params["version_url"], params["ca_cert"], lambda status, text: rollback.lacks(status, text, live))
    left = rollback.follow_ups(project, live, body)
    checks = [
        served,
        *(Check.breach("follow_up", each) for each in left),
        *(() if left else (Check.ok("follow_up", "No rollback left anything to do."),)),
    ]
    return context.conclude(
        checks,
        msg=sentence(f"Live is {live}", checks),
        fail_on_breach=False,
        fail_on_unknown=False,
        live=live.result(),
        rolled_back=rollback.is_rolled_back(project),
        deployments=[
            each.result() | {"objection": rollback.objection(each, live, rotated, bad)} for each in newest
        ],
    )  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="vercel_deployment_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
