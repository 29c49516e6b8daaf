#!/usr/bin/python
"""Module emergency_contact_confirm: a person gave back the code of a test message."""

from __future__ import annotations

DOCUMENTATION = r"""
module: emergency_contact_confirm
short_description: Note that test messages to emergency contacts arrived
description:
  - A code that a person gave back proves the channel that its message went to, see M(emergency_contact_test). Which
    contact that is, the code says by itself. Where the channel was changed meanwhile, it proves nothing.
  - A code that was given before changes nothing.
options:
  codes:
    description:
      - Codes as people gave them; capitals, blanks and dashes make no difference.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - runbook_contacts
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Says which contacts would be proven.
  diff_mode:
    support: none
    description: There is a code or there is none.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: The security team read its message
  emergency_contact_confirm:
    contacts: "{{ emergency_contacts }}"
    codes: [D1JP-RV3F]
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether a contact is proven now that was not before, or would be.
  type: bool
  returned: always
msg:
  description: Which contacts are proven, or which code is of no message.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where a code is of no message, or V(unknown) where the state store gave no answer.
  type: str
  returned: always
checks:
  description: What became of each code, with C(status), C(msg) and C(subject), the role.
  type: list
  elements: dict
  returned: always
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change.contacts import argument_spec, proofs_of
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import contacts as rules
from ansible.module_utils.runbook.rules.status import Check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.drivers.state_store import Reading


def confirm(documents: Documents, role: str, contact: Mapping[str, Any], code: str) -> tuple[bool, bool]:
    """Whether a code is of a message to this contact, and whether that was not known before."""
    known: list[bool] = []

    def act(found: Reading) -> dict[str, Any] | None:
        proofs = None if found.document is None else proofs_of(found).confirmed(contact, code, found.now)
        known[:] = [proofs is not None]
        return proofs.body() if proofs else None

    changed = documents.update(rules.Proofs.document_name(role), act)
    return known[0], changed


def core(context: Context) -> dict[str, Any]:
    """Find the message of each code."""
    given, changed = context.params["contacts"], False
    documents = Documents.from_params(context.params, context.run)
    if not context.params["codes"]:
        raise RunbookError("codes: it is empty; give the codes that people gave back.")
    complete = [role for role, problem in rules.problems(given).items() if not problem]
    checks = []
    for number, code in enumerate(context.params["codes"], 1):
        for role in complete:
            is_of, is_new = confirm(documents, role, given[role], code)
            changed |= is_new
            if is_of:
                who = f"{given[role]['name']} ({rules.ROLES[role]})"
                verb = "would be" if context.check_mode and is_new else "is" if is_new else "was already"
                checks.append(Check.ok("code", f"{who} {verb} proven by {given[role]['backend']}.", role))
                break
        else:
            checks.append(
                Check.breach(
                    "code",
                    f"codes: number {number} belongs to no message to a contact as the inventory has it now; look at "
                    "what was typed, or send a test message again.",
                )
            )
    return context.conclude(checks, msg=" ".join(each.msg for each in checks), changed=changed)


def main() -> None:
    """Run as an Ansible module."""
    spec = {"codes": {"type": "list", "elements": "str", "required": True, "no_log": True}}
    run_module(core, name="emergency_contact_confirm", argument_spec=argument_spec() | spec)


if __name__ == "__main__":
    main()
