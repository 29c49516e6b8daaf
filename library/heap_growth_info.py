#!/usr/bin/python
"""Ansible module heap_growth_info: whether a page's heap grows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: heap_growth_info
short_description: Tell whether a page's heap grows with use
description:
  - Goes through a flow of a page again and again in Chromium, collects the garbage after each turn, and measures what
    is left. The growth by turn is told with an interval of 95 % (Theil and Sen).
  - A flow leaks (V(breach)) where even the low end of the interval is above O(max_growth_bytes), and does not where the
    high end is below it. Between them it is V(unknown).
  - Changes nothing, unless the flow does.
options:
  flows:
    description:
      - What is done. After its last step a flow must be where it began, with nothing more on the page.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Its name.
        type: str
        required: true
      url:
        description:
          - Where it begins.
        type: str
        required: true
      steps:
        description:
          - What is done in each turn; each step has one key.
        type: list
        elements: dict
        required: true
        suboptions:
          click:
            description:
              - Selector of what is clicked. It is waited for.
            type: str
          wait_for:
            description:
              - Selector of what is waited for.
            type: str
          open:
            description:
              - Address or path that is opened.
            type: str
          back:
            description:
              - Goes one step back in the history.
            type: bool
          wait_ms:
            description:
              - Waits so many milliseconds, 1 to 60000.
            type: int
  turns:
    description:
      - Turns that count, 6 to 500. More turns make the interval smaller.
    type: int
    default: 20
  warm_up:
    description:
      - Turns before these, in which caches fill and code is compiled, 0 to 100.
    type: int
    default: 5
  max_growth_bytes:
    description:
      - Growth by turn that is no leak, in bytes, 0 to 1000000000.
    type: int
    default: 4096
extends_documentation_fragment: runbook_browser
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look for leaks
  heap_growth_info:
    tools_path: /opt/runbook-web
    flows:
      - name: open and close a note
        url: https://app.example.com/demo
        steps:
          - click: "#first-note"
          - wait_for: .editor
          - click: .close
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where a flow leaks or cannot be gone through, V(unknown) where nobody can tell.
  type: str
  returned: always
findings:
  description: What is wrong, in the form of M(pg_index_info); C(heap_growth), C(flow_broken).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: Flows of which nobody can tell, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
flows:
  description:
    - Each flow with C(name), C(turns), C(warm_up), C(heap_bytes), C(nodes) and C(listeners) after each turn, and
      C(growth_bytes), C(growth_low_bytes) and C(growth_high_bytes) by turn.
  type: list
  elements: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

from typing import Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.web import browser
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.web import heap
from ansible.module_utils.runbook.rules.words import count

BOUNDS = browser.BOUNDS | {
    "turns": (heap.LEAST_TURNS, 500),
    "warm_up": (0, 100),
    "max_growth_bytes": (0, 1_000_000_000),
}


def core(context: Context) -> dict[str, Any]:
    """Go through each flow, then judge."""
    params = context.params
    context.require_bounds(BOUNDS)
    flows = [asked(each) for each in params["flows"]]
    if not flows:
        raise RunbookError("flows: it is empty; name at least one flow with its name, url and steps.")
    clock = Clock(params["deadline_s"])
    tools = browser.Tools(params, clock)
    seen: list[heap.Flow] = []
    found: list[Finding] = []
    unknown: list[Unknown] = []
    for number, each in enumerate(flows):
        context.progress.update(each["name"], number, len(flows), "flows")
        try:
            said = tools.turns(each | {"turns": params["turns"] + params["warm_up"]})
        except RunbookError as error:
            if error.code == "step":
                found.append(_broken(each["name"], error.message))
            else:
                unknown.append(Unknown(f"heap:{each['name']}", error.message))
            continue
        flow = heap.Flow(each["name"], said["heap_bytes"], params["warm_up"], said["nodes"], said["listeners"])
        seen.append(flow)
        some_found, some_unknown = heap.judge(flow, params["max_growth_bytes"])
        found += some_found
        unknown += some_unknown
    said = findings.results(found, unknown, of=count(len(flows), "flow"))
    return context.conclude(
        Status(said.pop("status")),
        **said,
        flows=[each.result() for each in seen],
        duration_s=round(clock.passed_s(), 1),
    )


def _broken(name: str, why: str) -> Finding:
    return Finding(
        finding_id("flow_broken", name), "flow_broken", "critical", name, {},
        f"{why.rstrip('.')}; mend the page, or the flow's steps in the inventory.",
    )  # fmt: skip


def asked(flow: dict[str, Any]) -> dict[str, Any]:
    """A flow as tools/web/heap_turns.mjs takes it.

    :raises RunbookError: its address is none, or a step does not say one thing
    """
    check_address("flows", flow["url"])
    steps = [{key: value for key, value in step.items() if value is not None} for step in flow["steps"]]
    if not steps:
        raise RunbookError(f"flows: {flow['name']} has no steps; name what is done in each turn.")
    for number, step in enumerate(steps, start=1):
        if len(step) != 1 or step.get("back") is False or not all(step.values()):
            raise RunbookError(
                f"flows: step {number} of {flow['name']} says {', '.join(step) or 'nothing'}; a step has one of click, "
                "wait_for, open, back: true, wait_ms."
            )
        if not 1 <= step.get("wait_ms", 1) <= 60_000:
            raise RunbookError(f"flows: wait_ms of step {number} of {flow['name']} is out of bounds; give 1 to 60000.")
    return {"name": flow["name"], "url": flow["url"], "steps": steps}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    text = {"type": "str"}
    step = {"click": text, "wait_for": text, "open": text, "back": {"type": "bool"}, "wait_ms": {"type": "int"}}
    flow = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "steps": {"type": "list", "elements": "dict", "required": True, "options": step},
    }
    return browser.argument_spec() | {
        "flows": {"type": "list", "elements": "dict", "required": True, "options": flow},
        "turns": {"type": "int", "default": 20},
        "warm_up": {"type": "int", "default": 5},
        "max_growth_bytes": {"type": "int", "default": 4096},
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="heap_growth_info", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
