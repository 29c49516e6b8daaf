#!/usr/bin/python
"""Module change_left_info: changes whose runs are gone, and what they left open."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_left_info
short_description: Find changes that dead runs left open
description:
  - Reads every open change of the environment. One is left where its C(ansible-playbook) is gone, or where that ran on
    another machine and the end of the change has passed. A change of a run that may be at work is not among them.
extends_documentation_fragment: runbook_state
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
- name: What did dead runs leave open
  change_left_info:
    state_bucket: mental-scribe-state
  register: left
"""

RETURN = r"""
msg:
  description: How many changes are left.
  type: str
  returned: always
status:
  description: V(ok), or V(unknown) where the state store gave no answer.
  type: str
  returned: always
left:
  description:
    - The changes, the oldest first, each with C(change_id), C(playbook), C(reason), C(opened_at), C(until), C(holder)
      (V(dead), or V(unknown) on another machine) and C(opened), names of what it opened.
  type: list
  elements: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """List them."""
    found = [each for each in Changes.from_params(context.params, context.run).all() if each.is_abandoned]
    left = [
        {
            "change_id": each.change.id,
            "playbook": each.change.playbook,
            "reason": each.change.reason,
            "opened_at": each.change.opened_at.isoformat(),
            "until": each.change.until.isoformat(),
            "holder": each.holder,
            "opened": sorted(each.change.opened),
        }
        for each in found
    ]
    msg = f"Dead runs left {count(len(left), 'change')} open." if left else "No dead run left a change open."
    return context.conclude(Status.OK, msg=msg, left=left)


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="change_left_info", argument_spec=state_store.argument_spec())


if __name__ == "__main__":
    main()
