#!/usr/bin/python
"""Module dr_drill_tear_down: remove everything that a drill made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill_tear_down
short_description: Remove everything that a disaster-recovery drill made
description:
  - Ends its processes and removes its servers, buckets and databases. What could not be removed makes the drill red, by
    M(dr_drill_judge), which needs nothing of them.
options:
  failure:
    description:
      - Why the drill ended early.
    type: str
    default: ''
extends_documentation_fragment:
  - runbook_s3
  - runbook_drill
  - runbook_drill.target
attributes:
  check_mode:
    description: Does nothing, as no drill is started in check mode.
    support: full
  diff_mode:
    description: Nothing is shown.
    support: none
requirements:
  - psycopg2
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Tear down
  dr_drill_tear_down:
    state_dir: /srv/runbook/drill
    environment: sandbox
    bucket: mental-scribe-backups
    endpoint_url: http://127.0.0.1:8333
    access_key: "{{ backup_access_key }}"
    secret_key: "{{ backup_secret_key }}"
"""

RETURN = r"""
msg:
  description: What was removed, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where something is left.
  type: str
  returned: always
drill_id:
  description: Name of the drill.
  type: str
  returned: when a drill is under way
duration_s:
  description: Seconds that it took.
  type: float
  returned: except in check mode
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.drill import drill
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.drill import scenarios
from ansible.module_utils.runbook.rules.status import Check


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    own: dict[str, dict[str, Any]] = {"failure": {"type": "str", "default": ""}}
    return s3.argument_spec() | drill.argument_spec() | drill.target() | own


def core(context: Context) -> dict[str, Any]:
    """Remove everything that the drill made; what could not be removed is judged later."""
    params = context.params
    permits.require_environment(context.run, params["environment"])
    if context.check_mode:
        return scenarios.nothing_to_do()
    with drill.resumed(params) as current:
        state = replace(current.state, failure=current.state.failure or params["failure"])
        current.keep(state)
        # The ledger is not needed any more: its figures are in the state.
        try:
            found = Check.ok("tear_down", f"Removed {drill.remove(current.folder, state, params)}.")
        except RunbookError as error:
            found = Check.breach("tear_down", error.message)
        current.keep(replace(state, tear_down=found))
        return context.conclude(found.status, fail_on_breach=False, fail_on_unknown=False, **current.told(found.msg))


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill_tear_down", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
