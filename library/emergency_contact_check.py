#!/usr/bin/python
"""Module emergency_contact_check: whether everybody who has to be told in an emergency can be reached."""

from __future__ import annotations

DOCUMENTATION = r"""
module: emergency_contact_check
short_description: Check that the emergency contacts are complete, and that messages reach them
description:
  - Each of the four roles has a name and a channel without a placeholder; and a person gave back the code of a test
    message that M(emergency_contact_test) sent to that very channel not more than 90 days ago.
  - One contact hides no other, and where the state store gives no answer only the proofs are V(unknown).
  - Only production has to name contacts. Where none are named elsewhere, all is well.
options:
  blocks:
    description:
      - Whether the playbook stops where a contact is not as it should be. With V(false) it goes on, and the run is not
        green.
    type: bool
    default: true
extends_documentation_fragment:
  - runbook_contacts
  - runbook_state
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
- name: Can everybody be told in an emergency
  emergency_contact_check:
    contacts: "{{ emergency_contacts }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg:
  description: That all can be reached, or what is not ok and the fix.
  type: str
  returned: always
status:
  description: V(ok), V(breach), or V(unknown) where the state store gave no answer.
  type: str
  returned: always
checks:
  description:
    - Of each role C(complete), and C(proven) where it is complete, with C(status), C(msg) and C(subject), the role.
  type: list
  elements: dict
  returned: always
"""

from typing import Any

from ansible.module_utils.runbook.drivers.change.contacts import argument_spec, proofs_of
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import contacts as rules
from ansible.module_utils.runbook.rules.status import Check, Status


def core(context: Context) -> dict[str, Any]:
    """Judge each contact, and its proof where it is complete."""
    given = context.params["contacts"]
    documents = Documents.from_params(context.params, context.run)
    checks: list[Check] = []
    for each in rules.judge_filled(given, documents.environment):
        checks.append(each)
        if each.status is not Status.OK or each.subject not in rules.ROLES:
            continue
        try:
            found = documents.read(rules.Proofs.document_name(each.subject))
            checks.append(rules.judge_proof(each.subject, given[each.subject], proofs_of(found), found.now))
        except RunbookError as error:
            checks.append(Check("proven", error.status, error.message, each.subject))
    blocks = context.params["blocks"]
    return context.conclude(checks, msg=rules.summary(checks), fail_on_breach=blocks, fail_on_unknown=blocks)


def main() -> None:
    """Run as an Ansible module."""
    spec = {"blocks": {"type": "bool", "default": True}}
    run_module(core, name="emergency_contact_check", argument_spec=argument_spec() | spec)


if __name__ == "__main__":
    main()
