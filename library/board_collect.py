#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: board_collect
short_description: Fetch records of other places that the board does not know yet
description:
  - Copies records of runs from the state store into the folder C(elsewhere) beside the runs of this machine. The board,
    which each run renews at its end, reads them there.
  - A run puts what it knows into the state store by itself, so this finds those that could not.
options:
  environment:
    description: What the inventory is.
    type: str
    required: true
extends_documentation_fragment: runbook_state
attributes:
  check_mode:
    support: full
    description: It says how many it would copy.
  diff_mode:
    support: none
    description: It changes nothing but the board.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Fetch what the board does not know yet
  board_collect:
    environment: production
    state_bucket: mental-scribe-state-production
    state_region: eu-central-1
"""

RETURN = r"""
msg: {description: One sentence with the figures., returned: always, type: str}
status: {description: "V(ok), or V(unknown) where a record cannot be read.", returned: always, type: str}
checks: {description: Each record that cannot be read., returned: always, type: list}
collected: {description: "Records that were copied, or would be.", returned: always, type: int}
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import folders, state_store, workspace
from ansible.module_utils.runbook.drivers.board import records
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count

#: As module_utils/runbook/report/board.py has it.
ELSEWHERE = "elsewhere"


def core(context: Context) -> dict[str, Any]:
    """Copy what is not known."""
    settings = {name: value for name, value in context.params.items() if name.startswith("state_")}
    store = state_store.from_settings(settings, context.params["environment"])
    if store is None or context.run.directory is None:
        why = "the inventory names no state store" if store is None else "no record is being written"
        return context.conclude(Status.OK, msg=f"Only runs of this machine: {why}.", collected=0)
    runs = Path(context.run.directory).parent
    place, collected, checks = runs / ELSEWHERE, 0, []
    if not context.check_mode:
        folders.closed(place)
    for run_id, found in records.stored(store, records.known_runs(runs, ELSEWHERE)):
        if isinstance(found, str):
            checks.append(Check.unknown("record", f"{run_id}: {found}", run_id))
            continue
        collected += 1
        if not context.check_mode:
            workspace.write_text(place / f"{run_id}.json", json.dumps(found))
        context.progress.update("Fetch records", collected, None, "records")
    verb = "would be" if context.check_mode else "was" if collected == 1 else "were"
    return context.conclude(
        checks or Status.OK, msg=f"{count(collected, 'record')} {verb} fetched from {store}.", collected=collected,
        changed=bool(collected),
    )  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    spec = {"environment": {"type": "str", "required": True}, **state_store.argument_spec()}
    run_module(core, name="board_collect", argument_spec=spec)


if __name__ == "__main__":
    main()
