#!/usr/bin/python
"""Ansible module supabase_advisors_info: what Supabase's own advisors say of a project."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_advisors_info
short_description: Read what Supabase's own advisors report about a project
description:
  - Reads the lints of Supabase's advisors through the Management API, and returns them as findings, in the same form as
    the other modules do.
  - The deprecated endpoint of version 1 is asked, and where it is gone its successor of version 2.
  - A lint that says that a check could not run is no finding; then the result is V(unknown).
  - Nothing is written. A finding of Supabase's never carries a statement to be run, and cannot be applied.
options:
  categories:
    description:
      - Which advisors are asked.
    type: list
    elements: str
    choices: [performance, security]
    default: [performance]
extends_documentation_fragment: runbook_supabase
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
- name: Read what Supabase's advisors say
  supabase_advisors_info:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"

- name: Read what they say of the project's security too
  supabase_advisors_info:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"
    categories: [performance, security]
"""

RETURN = r"""
changed:
  description: Always false.
  type: bool
  returned: always
msg:
  description: One sentence with the figures.
  type: str
  returned: always
status:
  description:
    - V(ok), V(breach) with a critical finding, or V(unknown) where an advisor could not check, or the API did not
      answer as it should.
  type: str
  returned: always
findings:
  description: What the advisors found, the worst first.
  type: list
  elements: dict
  returned: when the API answered
  contains:
    id:
      description: Names the finding, the same in each run.
      type: str
    kind:
      description: C(supabase_) and the name of the lint.
      type: str
    severity:
      description: V(critical) for Supabase's ERROR, V(warning) for WARN, V(info) for INFO.
      type: str
    object:
      description: Schema and name of what it is about, or C(the project).
      type: str
    evidence:
      description: Title, level and cache_key, as Supabase has them.
      type: dict
    msg:
      description: What Supabase says of this object.
      type: str
    ddl:
      description: Always empty.
      type: list
      elements: str
    risk:
      description: Where Supabase names the fix.
      type: str
    estimated:
      description: Always null.
      type: dict
findings_left_out:
  description: How many findings of which kind were left out, so that a kind does not fill the list.
  type: dict
  returned: when the API answered
unknown:
  description: What could not be checked, with C(kind), C(msg) and C(fixable).
  type: list
  elements: dict
  returned: when the API answered
"""

from typing import Any

from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase, argument_spec
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.postgres import findings
from ansible.module_utils.runbook.rules.supabase import advisors as rule
from ansible.module_utils.runbook.rules.supabase import supabase as rules


def core(context: Context) -> dict[str, Any]:
    """Ask each advisor once."""
    params = context.params
    context.require_bounds({"timeout_s": (1, 600)})
    api = Supabase.from_params(params, read_only=True)
    if params["project_name"] is not None:
        rules.check_identity(rules.parse_project(api.project()), ref=params["project_ref"], name=params["project_name"])
    lints = [
        lint
        for category in dict.fromkeys(params["categories"])
        for lint in rule.parse(api.advisors(category, rule.LINTS[category]))
    ]
    result = findings.results(rule.findings(lints), rule.unknown(lints), of="what Supabase's advisors looked at")
    return {"changed": False} | result


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="supabase_advisors_info",
        argument_spec={
            **argument_spec(),
            "categories": {
                "type": "list",
                "elements": "str",
                "choices": ["performance", "security"],
                "default": ["performance"],
            },
        },
    )


if __name__ == "__main__":
    main()
