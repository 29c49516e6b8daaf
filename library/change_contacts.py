#!/usr/bin/python
"""Module change_contacts: tell the emergency contacts about a change, each once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_contacts
short_description: Tell each emergency contact about a change, once
description:
  - Sends one message to each of the four contacts, to all at the same time, as M(change_notice) sends one to the team.
    Each is an item of the change, C(contact:) and the role.
  - Nothing stops because of a contact. One that is incomplete, or that a message did not reach for certain, is
    V(unknown), hides no other, and the run is not green.
  - Where no contacts are named, and the environment is not production, nobody is told.
options:
  title:
    description:
      - What happens, in one line of at most 150 characters.
    type: str
    required: true
  text:
    description:
      - The rest, in plain lines.
    type: str
    default: ""
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
    description: Says who would be told. No service is asked anything.
  diff_mode:
    support: full
    description: Shows the message.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Tell the emergency contacts
  change_contacts:
    contacts: "{{ emergency_contacts }}"
    title: "Emergency maintenance: data are corrupt"
    text: The site goes into maintenance mode now.
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether a message was sent, or would be.
  type: bool
  returned: always
msg:
  description: Who was told, and who perhaps was not.
  type: str
  returned: always
status:
  description: V(ok), or V(unknown) where somebody was perhaps not told.
  type: str
  returned: always
checks:
  description: What became of each message, with C(status), C(msg) and C(subject), the role.
  type: list
  elements: dict
  returned: always
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.change import contacts as driver
from ansible.module_utils.runbook.drivers.change import notices
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import contacts as rules
from ansible.module_utils.runbook.rules.change.change import key
from ansible.module_utils.runbook.rules.change.note import note_key
from ansible.module_utils.runbook.rules.change.notice import Notice
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.text import as_lines

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.change.change import Change


class Round:
    """One message to each."""

    def __init__(self, context: Context) -> None:
        self.context, self.params = context, context.params
        # In any case it is found out before somebody is told half.
        self.notice = Notice.of("", context.params["title"], context.params["text"])
        self.changes = Changes.from_params(context.params, context.run)
        self.change: Change | None = self.changes.require_current()
        self.changed = False

    def tell(self, known: Check) -> Check:
        """Tell one of them; what was found out about that contact before counts too."""
        item = f"contact:{known.subject}"
        try:
            act = partial(self._act, item, known)
            done = self.changes.conduct(item, act, blocks=False, once_in=self.change)
        except RunbookError as error:
            return Check.unknown("told", f"{known.subject}: {error.message}", known.subject)
        self.changed |= bool(done.facts.get("changed"))
        return Check("told", done.status, done.msg, known.subject)

    def _act(self, item: str, known: Check) -> Done:
        if known.status is not Status.OK:
            raise RunbookError(known.msg, status=known.status)
        contact = self.params["contacts"][known.subject]
        whom = f"{contact['name']} ({rules.ROLES[known.subject]})"
        notice = Notice.of(note_key(key(self.changes.id), item), self.params["title"], self.params["text"])
        channel = driver.channel_of(contact, self.params)
        try:
            return notices.tell_once(
                self.changes, self.change, item, notice, channel, whom=whom, read_only=self.context.check_mode
            )
        except RunbookError as error:
            raise RunbookError(f"{whom} by {contact['backend']}: {error.message}", status=error.status) from None


def core(context: Context) -> dict[str, Any]:
    """Tell all at once."""
    context.require_bounds({"timeout_s": (1, 600)})
    told = Round(context)
    environment = permits.require_approval(context.run, may_be_late=True).environment
    known = rules.judge_filled(context.params["contacts"], environment)
    if not any(each.subject for each in known):
        for role in rules.ROLES:
            told.changes.conduct(f"contact:{role}", lambda: Done(known[0].msg), blocks=False, once_in=told.change)
        return context.conclude(known, msg=known[0].msg)
    with ThreadPoolExecutor(len(known)) as pool:
        checks = list(pool.map(told.tell, known))
    facts: dict[str, Any] = {"changed": told.changed}
    if context.diff and told.changed:
        lines = (told.notice.title, *told.notice.text.splitlines())
        facts["diff"] = {"prepared": as_lines(f"+ {line}" for line in lines)}
    return context.conclude(
        checks, msg=" ".join(each.msg for each in checks), fail_on_breach=False, fail_on_unknown=False, **facts
    )


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "title": {"type": "str", "required": True},
        "text": {"type": "str", "default": ""},
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
    }
    run_module(core, name="change_contacts", argument_spec=driver.argument_spec() | spec)


if __name__ == "__main__":
    main()
