#!/usr/bin/python
"""Module change_steps: answer an item of a change with what the steps of this run found."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_steps
short_description: Answer an item of a change with what the steps of this run found
description:
  - Reads the journal of this run, and judges the steps that were carried out until now. Nobody says of work that it is
    done but the work itself.
  - Of an item that each database has to answer, only the steps of this host count.
extends_documentation_fragment:
  - runbook_change
  - runbook_state
options:
  modules:
    description:
      - The modules whose steps count. Left out, it is whatever is not done around the work, such as tickets and
        silences.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: It looks, and answers no item.
  diff_mode:
    support: none
    description: Nothing is written but the item's answer.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: See that every step was carried out
  change_steps:
    item: work
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: How many steps there were, and what was not ok.
  type: str
  returned: always
status:
  description: The worst of the steps; V(unknown) where there is none, which fails the task too, or one was not ok and
    O(blocks=false).
  type: str
  returned: always
text:
  description: One line a step, for the ticket.
  type: list
  elements: str
  returned: success
answers:
  description: The item of the checklists that was answered.
  type: str
  returned: when one was
proof:
  description: What proves it, such as an address, an id or a figure.
  type: str
  returned: when one was answered
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import checklist
from ansible.module_utils.runbook.rules.change import steps as rules
from ansible.module_utils.runbook.rules.record import parse_journal, steps
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """Read the journal, and judge."""
    params, run = context.params, context.run
    changes = Changes.from_params(params, run)
    changes.require_current()
    line = checklist.LINES.get(params["item"])
    host = run.host if line is not None and line.is_per_host else ""

    def act() -> Done:
        found = rules.chosen(steps(_events(run.directory or "")), params["modules"], host)
        if not found and context.check_mode:
            return Done("No step of it is carried out in check mode.")
        status, said = rules.judge(found), rules.sentence(found)
        if status is Status.BREACH or not found:
            raise RunbookError(said, status=status, text=rules.lines(found))
        return Done(said, rules.proof(found) or count(len(found), "step"), {"text": rules.lines(found)}, status)

    done = changes.conduct(params["item"], act, blocks=params["blocks"])
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **done.facts)


def _events(directory: str) -> list[dict[str, Any]]:
    path = Path(directory) / "journal.jsonl"
    try:
        return parse_journal(path.read_text(encoding="utf-8", errors="replace"))[0]
    except OSError as error:
        raise RunbookError(
            f"The journal of this run cannot be read ({path}: {error.strerror}), so what was done is unknown.",
            status=Status.UNKNOWN,
        ) from None


def main() -> None:
    """Run as an Ansible module."""
    spec = {"modules": {"type": "list", "elements": "str", "default": []}}
    run_module(core, name="change_steps", argument_spec=argument_spec() | spec)


if __name__ == "__main__":
    main()
