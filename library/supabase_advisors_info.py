#!/usr/bin/python
"""Ansible module supabase_advisors_info: what Supabase's own advisors say of a project."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supabase_advisors_info
short_description: Read the findings of Supabase's advisors
description:
  - Reads the lints of the Supabase advisors from the Management API, and returns them as findings in the form of the
    project's other modules.
  - Uses the deprecated v1 endpoint, and v2 if that is gone.
  - If an advisor reports that a check could not run, the result is V(unknown).
  - Findings of Supabase contain no statement, and M(pg_finding_apply) cannot apply them.
options:
  categories:
    description:
      - Advisors to read.
    type: list
    elements: str
    choices: [performance, security]
    default: [performance]
extends_documentation_fragment: runbook_supabase
attributes:
  check_mode:
    support: full
    description: Writes nothing, so it does the same.
  diff_mode:
    support: none
    description: Writes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Read the findings on performance
  supabase_advisors_info:
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ supabase_access_token }}"

- name: Read the findings on performance and security
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
    - V(ok), V(breach) if there is a critical finding, or V(unknown) if an advisor could not check or the API did not
      answer as expected.
  type: str
  returned: always
findings:
  description: Findings, the most severe first.
  type: list
  elements: dict
  returned: when the API answered
  contains:
    id:
      description: Identifier of the finding, the same in each run.
      type: str
    kind:
      description: C(supabase_) and the name of the lint.
      type: str
    severity:
      description: V(critical) for Supabase's ERROR, V(warning) for WARN, V(info) for INFO.
      type: str
    object:
      description: Schema and name of the object, or C(the project).
      type: str
    evidence:
      description: Title, level and C(cache_key) of Supabase.
      type: dict
    msg:
      description: What Supabase says of this object.
      type: str
    ddl:
      description: Always empty.
      type: list
      elements: str
    risk:
      description: Where Supabase describes the fix.
      type: str
    estimated:
      description: Always null.
      type: dict
findings_left_out:
  description: Number of findings of each kind that were left out to keep the list short.
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
from ansible.module_utils.runbook.rules import findings
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
    return context.conclude(result["status"], fail_on_breach=False, fail_on_unknown=False, **result)


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
