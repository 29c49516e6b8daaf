#!/usr/bin/python
"""Module emergency_contact_test: send emergency contacts a message that asks for an answer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: emergency_contact_test
short_description: Send a test message to emergency contacts
description:
  - The message carries a code of its own for each role. That a service took it proves nothing; the proof is that a
    person gives the code back, see M(emergency_contact_confirm). So the code is in no result and in no record.
  - One contact hides no other. Where nobody knows whether a message arrived, the contact is V(unknown), and its code
    counts if it comes back.
options:
  roles:
    description:
      - Who gets a message.
    type: list
    elements: str
    choices: [all, engineering_lead, database_admin, security_team, devops_sre]
    default: [all]
  interval_h:
    description:
      - A contact whose channel got a test message within so many hours gets none, 0 to 2160.
    type: int
    default: 24
  ca_cert:
    description:
      - File with the certificate authorities that are trusted instead of the system's.
    type: path
  timeout_s:
    description:
      - Longest wait for one answer of a service, in seconds, 1 to 600.
    type: int
    default: 30
extends_documentation_fragment:
  - runbook_contacts
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Says who would get a message. No service is asked anything.
  diff_mode:
    support: none
    description: The message carries the code.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Ask all emergency contacts for an answer
  emergency_contact_test:
    contacts: "{{ emergency_contacts }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether a message was sent, or would be.
  type: bool
  returned: always
msg:
  description: Who was sent a message, or what went wrong.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where a message was not sent, or V(unknown) where it may have been.
  type: str
  returned: always
checks:
  description: What became of the message to each role, with C(status), C(msg) and C(subject), the role.
  type: list
  elements: dict
  returned: always
"""

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change import contacts as driver
from ansible.module_utils.runbook.drivers.change import notices
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import contacts as rules
from ansible.module_utils.runbook.rules.change.change import key
from ansible.module_utils.runbook.rules.change.note import note_key
from ansible.module_utils.runbook.rules.change.notice import Notice
from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.state_store import Reading

CHOICES = ("all", *rules.ROLES)


class Tests:
    """The messages, one after the other."""

    def __init__(self, context: Context) -> None:
        self.context, self.params = context, context.params
        self.documents = Documents.from_params(context.params, context.run)
        self.changed = False

    def test(self, role: str) -> Check:
        """Note a code, and send it; a message that was certainly not sent leaves no note."""
        contact = self.params["contacts"][role]
        name, code = rules.Proofs.document_name(role), rules.code(secrets.token_bytes(5))
        self.context.hide(code)
        before: list[Reading] = []

        def note(found: Reading) -> dict[str, Any] | None:
            before[:] = [found]
            proofs = driver.proofs_of(found)
            if proofs.was_sent_since(contact, found.now - timedelta(hours=self.params["interval_h"])):
                return None
            return proofs.with_sent(contact, code, found.now).body()

        who = f"{contact['name']} ({rules.ROLES[role]}) by {contact['backend']}"
        if not self.documents.update(name, note):
            since = f"less than {self.params['interval_h']} h ago"
            said = f"{who}: a test message was sent {since}, or may have been; interval_h=0 sends another."
            return Check.ok("test", said, role)
        self.changed = True
        if self.context.check_mode:
            return Check.ok("test", f"{who} would get a test message.", role)
        title, text = rules.message(role, contact, self.documents.environment, code)
        once = note_key(key(str(self.context.run.id)), f"contact_test.{role}.{secrets.token_hex(4)}")
        try:
            channel = notices.from_params(driver.channel_of(contact, self.params), read_only=False)
            channel.send(Notice.of(once, title, text))
        except RunbookError as error:
            if error.status is Status.BREACH:
                proofs = driver.proofs_of(before[0])
                self.documents.update(name, lambda _: proofs.body())
            raise
        return Check.ok("test", f"{who} was sent a test message; ask for its code.", role)


def core(context: Context) -> dict[str, Any]:
    """Send to each role, whatever becomes of the others."""
    context.require_bounds({"timeout_s": (1, 600), "interval_h": (0, 2160)})
    tests, asked = Tests(context), context.params["roles"]
    problems = rules.problems(context.params["contacts"])
    checks = []
    for role in rules.ROLES if "all" in asked else dict.fromkeys(asked):
        if problems[role]:
            checks.append(Check.breach("test", problems[role], role))
            continue
        try:
            checks.append(tests.test(role))
        except RunbookError as error:
            left = "" if error.status is Status.BREACH else " It may have arrived; its code counts if it comes back."
            checks.append(Check("test", error.status, f"{role}: {error.message}{left}", role))
    if not checks:
        raise RunbookError("roles: it is empty; name those who are to get a message, or all.")
    return context.conclude(checks, msg=" ".join(each.msg for each in checks), changed=tests.changed)


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "roles": {"type": "list", "elements": "str", "choices": list(CHOICES), "default": ["all"]},
        "interval_h": {"type": "int", "default": 24},
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
    }
    run_module(core, name="emergency_contact_test", argument_spec=driver.argument_spec() | spec)


if __name__ == "__main__":
    main()
