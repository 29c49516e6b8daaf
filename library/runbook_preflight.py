#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runbook_preflight
short_description: Refuse a run that should not touch this environment
description:
  - What must be true before a run may write, whatever it writes to. No server is asked.
  - The checks run in this order and stop at the first one that is not met, C(record) (the run's journal is being
    written, with room for it), C(inventory) (exactly one), C(environment) (the inventory says what it is), C(approval)
    (production was confirmed, or this is one of its scheduled jobs).
  - What passed is written down in the run's folder. The modules that prove a target, such as M(pg_preflight), look for
    it, and so do modules that write.
options:
  environment:
    description:
      - What the inventory is, V(sandbox), V(staging) or V(production). Empty is refused.
    type: str
    required: true
  inventory_sources:
    description:
      - The inventories of this run, as Ansible's variable C(ansible_inventory_sources).
      - Ansible merges several silently, so that the last one wins; more than one is refused.
    type: list
    elements: str
    required: true
  playbook:
    description:
      - File name of the playbook that runs; of one with several actions, with the action behind a blank, as
        V(pitr.yml backup). It is compared with O(scheduled_jobs), and is the purpose of the run's leases.
    type: str
    required: true
  confirm:
    description:
      - The environment that a person confirmed. Production needs it; another environment's name is refused everywhere.
      - It counts only where C(-e confirm=) said it in this run. A value from an inventory is refused.
    type: str
    default: ''
  job:
    description:
      - Name of the scheduled job that this run is. It stands in for O(confirm) if O(scheduled_jobs) lists it for this
        playbook. It counts only where C(-e preflight_job=) said it in this run.
    type: str
    default: ''
  scheduled_jobs:
    description:
      - The jobs that may run unattended, each with its O(playbook).
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: All checks run. What passed permits other modules of this run nothing but a look.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Check what needs no target
  runbook_preflight:
    environment: "{{ runbook_environment }}"
    inventory_sources: "{{ ansible_inventory_sources }}"
    playbook: weekly_db.yml
    confirm: "{{ confirm | default('') }}"
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
  description: V(ok), or V(breach) where a check was not met.
  type: str
  returned: always
checks:
  description: The checks that ran, in order, each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: always
environment:
  description: What the inventory is.
  type: str
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import journal, permits
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight as rules
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """Check, and write down what passed."""
    params, checks = context.params, rules.Checks()
    with checks.named("record") as check:
        check["msg"] = rules.check_record(journal.inspect())
    with checks.named("inventory") as check:
        check["msg"] = rules.check_inventory(params["inventory_sources"])
    with checks.named("environment") as check:
        check["msg"] = rules.check_environment(params["environment"], params["inventory_sources"][0])
    with checks.named("approval") as check:
        asked = {key: params[key] for key in ("environment", "confirm", "job", "scheduled_jobs", "playbook")}
        check["msg"] = rules.check_approval(**asked, said=permits.said(context.run))
    # The maintenance window and the freeze calendar belong here; until they come, no check claims to have seen them.
    permits.approve(context.run, params["environment"], params["playbook"])
    msg = f"{count(len(checks.done), 'check')} passed for {params['environment']}."
    return context.conclude(checks.done, msg=msg, environment=params["environment"])


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="runbook_preflight",
        # It looks at the record itself, as one of its checks.
        needs_record=False,
        argument_spec={
            "environment": {"type": "str", "required": True},
            "inventory_sources": {"type": "list", "elements": "str", "required": True},
            "playbook": {"type": "str", "required": True},
            "confirm": {"type": "str", "default": ""},
            "job": {"type": "str", "default": ""},
            "scheduled_jobs": {"type": "dict", "default": {}},
        },
    )


if __name__ == "__main__":
    main()
