#!/usr/bin/python
"""Module controller_left_info: what AWX has and the inventory does not."""

from __future__ import annotations

DOCUMENTATION = r"""
module: controller_left_info
short_description: Find what AWX has of an environment beyond the inventory
description:
  - Reads the job templates, workflows and schedules of AWX, and names what the inventory does not have. Nothing is
    removed there, so a job that left the inventory starts on, and so does a template under the name that it had before.
  - A template, or a workflow, counts where its name begins with the environment's and it belongs to the project or is
    named as C(roles/controller) names them. A schedule counts where it starts a template of the project, or such a
    workflow, a person's own too. One that is disabled or over starts nothing and does not count.
  - The task fails where there is anything.
options:
  controller_url:
    description: Address of AWX.
    type: str
    required: true
  controller_token:
    description: Token of a user who may administrate the organization. Keep it in Ansible Vault.
    type: str
    required: true
  controller_validate_certs:
    description: Whether the certificate of AWX has to be good.
    type: bool
    default: true
  environment:
    description: The environment that the names begin with.
    type: str
    required: true
  organization:
    description: Number of the organization in AWX.
    type: int
    required: true
  project:
    description: Number of the environment's project in AWX.
    type: int
    required: true
  wanted_templates:
    description: Numbers in AWX of the job templates and workflows that the inventory has.
    type: list
    elements: int
    required: true
  wanted_schedules:
    description: Numbers in AWX of the schedules that the inventory has.
    type: list
    elements: int
    required: true
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look for what AWX has beyond the inventory
  controller_left_info:
    controller_url: https://awx.example.com
    controller_token: "{{ vault_controller_token }}"
    environment: staging
    organization: 2
    project: 8
    wanted_templates: [11, 12]
    wanted_schedules: [5]
"""

RETURN = r"""
msg:
  description: What there is, who made it, and what to do with it, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where there is anything, or V(unknown) where AWX gave no answer.
  type: str
  returned: always
checks:
  description: The check, with its C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when AWX answered
left:
  description: The things, each in a few words.
  type: list
  elements: str
  returned: when AWX answered
"""

from typing import Any

from ansible.module_utils.runbook.drivers.schedule import controller
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.schedule import leftovers


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return controller.argument_spec() | {
        "environment": {"type": "str", "required": True},
        "organization": {"type": "int", "required": True},
        "project": {"type": "int", "required": True},
        "wanted_templates": {"type": "list", "elements": "int", "required": True},
        "wanted_schedules": {"type": "list", "elements": "int", "required": True},
    }


def core(context: Context) -> dict[str, Any]:
    """Read, then compare."""
    params = context.params
    api = controller.client(params)
    left = leftovers.beyond(
        controller.templates(api, params["organization"]),
        controller.schedules(api),
        environment=params["environment"],
        project=params["project"],
        wanted_templates=frozenset(params["wanted_templates"]),
        wanted_schedules=frozenset(params["wanted_schedules"]),
    )
    check = leftovers.judge(left)
    return context.conclude([check], msg=check.msg, left=left)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="controller_left_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
