#!/usr/bin/python
"""Module change_check: whether each item that a change needs is done, and proven."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_check
short_description: Check that every item a change needs is done
description:
  - Reads the answers that the modules of the change wrote into it, and compares them with what the operation needs, as
    M(change_open) wrote it down. An item without an answer is V(unknown), and fails the task as one that was not done
    does, so that the ticket stays open.
extends_documentation_fragment: runbook_state
options: {}
attributes:
  check_mode:
    support: full
    description: Nothing is opened in check mode, so nothing is judged.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: See that nothing was left out
  change_check:
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg:
  description: How many items are done, and which are not.
  type: str
  returned: always
status:
  description: The worst of the items.
  type: str
  returned: always
checks:
  description: The items, each with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: always
items:
  description: What was answered, each with C(name), C(status), C(at), C(proof) and C(msg), the earliest first.
  type: list
  elements: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Status, sentence


def core(context: Context) -> dict[str, Any]:
    """Judge the items."""
    change = Changes.from_params(context.params, context.run).require_current()
    if change is None:
        return context.conclude(Status.OK, msg="A change in check mode has no items.", items=[])
    checks = change.checks()
    if not checks:
        return context.conclude(Status.OK, msg="This change needs no item.", items=[])
    answered = sorted(change.items.items(), key=lambda each: each[1].at)
    return context.conclude(
        checks,
        msg=sentence("Change", checks),
        items=[
            {"name": name, "status": str(item.status), "at": item.at, "proof": item.proof, "msg": item.msg}
            for name, item in answered
        ],
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="change_check", argument_spec=state_store.argument_spec())


if __name__ == "__main__":
    main()
