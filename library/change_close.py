#!/usr/bin/python
"""Module change_close: forget a change, once all that it opened is over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_close
short_description: Close a change whose things are all over
description:
  - Removes the change from the state store, so that another one can be opened. It refuses while something is open that
    the change opened; the modules that opened it end it, each by its own O(change_id). What ends by itself, such as a
    silence, is over once its time is, whatever its service says.
  - The history of a change is in its ticket and in the records of its runs.
  - C(ansible-playbook) calls it at the end of a run that opened a change, after the ticket has its report.
extends_documentation_fragment: runbook_state
options:
  change_id:
    description:
      - The change of a run that is gone. Left out, it is this run's own.
    type: str
attributes:
  check_mode:
    support: full
    description: Says what has to be ended before.
  diff_mode:
    support: none
    description: The change is gone or not.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Close what a dead run left open, after its things were ended
  change_close:
    change_id: 20261129T020000Z-weekly_db-1a2b3c
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg:
  description: That the change is closed, or what is open still.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where something is open still, or V(unknown) where the state store gave no answer.
  type: str
  returned: always
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Status


def core(context: Context) -> dict[str, Any]:
    """See that nothing is open, and remove the document."""
    changes = Changes.from_params(context.params, context.run)
    change = changes.current()
    if change is None:
        return context.conclude(Status.OK, msg=f"Change {changes.id} is not open.")
    left = ", ".join(change.lasting(datetime.now(UTC)))
    if left and context.check_mode:
        return context.conclude(
            Status.OK, msg=f"{change.describe()} would be closed, once this is ended: {left}.", changed=True
        )
    if change.keeps_mode and set(change.opened) <= {"mode", "incident"} and changes.id == context.run.id:
        raise RunbookError(
            f"{change.describe()} stays open, and users are kept out until then. Run the fix again with "
            "playbooks/emergency.yml, or end it with playbooks/change_close.yml."
        )
    if left:
        raise RunbookError(
            f"{change.describe()} is not closed, since this is open still: {left}. End it with "
            "playbooks/change_close.yml."
        )
    if not context.check_mode:
        changes.close(change.id)
    verb = "would be" if context.check_mode else "was"
    return context.conclude(Status.OK, msg=f"{change.describe()} {verb} closed.", changed=True)


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="change_close",
        argument_spec={**state_store.argument_spec(), "change_id": {"type": "str"}},
    )


if __name__ == "__main__":
    main()
