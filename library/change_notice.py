#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_notice
short_description: Tell the team about a change, once
description:
  - One message for each item of a change's checklists, to Slack, Teams, by mail, or to a webhook. None of them can be
    asked what it got. So the item is noted in the change before the message is sent, and a message of which nobody
    knows whether it arrived is not sent a second time; its item stays V(unknown), and a person looks there.
  - A message that was certainly not sent (refused, no connection, too many requests) is sent when this runs again.
  - Long texts are cut to what the channel takes.
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
  backend:
    description:
      - V(slack) is an incoming webhook of Slack's. V(teams) is the webhook of a Workflows flow that posts a card; it
        belongs to a user, so give it a co-owner. V(webhook) is a C(POST) of C(event) (V(notice)), C(title) and C(text)
        with the header C(Idempotency-Key), and may come twice. V(none) where the inventory decided to tell nobody.
    type: str
    required: true
    choices: [slack, teams, email, webhook, none]
  announced_as:
    description:
      - Names the announcement of maintenance that a later run carries out, in place of this run's change. No change has
        to be open then, and a message that may have arrived is sent again.
    type: str
    default: ""
extends_documentation_fragment:
  - runbook_channel
  - runbook_change
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Says what would be sent. No service is asked anything.
  diff_mode:
    support: full
    description: Shows the message.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Tell the team that it begins
  change_notice:
    item: team-told
    backend: slack
    slack_url: "{{ vault_change_notice_slack_url }}"
    title: Weekly database maintenance begins
    text: From 02:00 to 04:00 UTC. Ticket OPS-17.
    blocks: false
    state_bucket: mental-scribe-state

- name: Tell the owner by mail
  change_notice:
    item: owner-told
    backend: email
    email_host: mail.example.com
    email_user: runbook
    email_password: "{{ vault_change_notice_email_password }}"
    email_from: runbook@example.com
    email_to: [owner@example.com]
    title: Weekly database maintenance is over
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether the message was sent, or would be.
  type: bool
  returned: always
msg:
  description: One sentence that says what became of the message.
  type: str
  returned: always
status:
  description:
    - V(ok); V(unknown) where it may have been sent, or where it failed and O(blocks=false); V(breach) where it was not.
  type: str
  returned: always
answers:
  description: The item of the checklists that was answered.
  type: str
  returned: when one was
proof:
  description: What proves it, such as an address, an id or a figure.
  type: str
  returned: when one was answered
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change import notices as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change.backend import NONE, SKIPPED, check_options
from ansible.module_utils.runbook.rules.change.change import key
from ansible.module_utils.runbook.rules.change.note import note_key
from ansible.module_utils.runbook.rules.change.notice import BACKENDS, Notice, check_mailboxes
from ansible.module_utils.runbook.rules.text import as_lines

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.change.change import Change


def core(context: Context) -> dict[str, Any]:
    """Note the message, and send it once."""
    params, item, backend = context.params, context.params["item"], context.params["backend"]
    context.require_bounds({"timeout_s": (1, 600), "email_port": (1, 65_535)})
    check_options(params, BACKENDS)
    check_mailboxes("email_from", [params["email_from"]] if params["email_from"] else [])
    check_mailboxes("email_to", params["email_to"] or [])
    changes = Changes.from_params(params, context.run, params["announced_as"])
    notice = Notice.of(note_key(key(changes.id), item), params["title"], params["text"])

    def tell(change: Change | None) -> Done:
        if backend == NONE:
            return Done("Skipped: the inventory decided to tell nobody (backend none).", SKIPPED)
        return driver.tell_once(
            changes, change, item, notice, params, whom="the team", may_double=bool(params["announced_as"]),
            read_only=context.check_mode,
        )  # fmt: skip

    change = changes.require_current()
    done = changes.conduct(item, partial(tell, change), blocks=params["blocks"], once_in=change)
    facts = dict(done.facts)
    if context.diff and facts.get("changed"):
        facts["diff"] = {"prepared": as_lines(f"+ {line}" for line in (notice.title, *notice.text.splitlines()))}
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **facts)


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "title": {"type": "str", "required": True},
        "text": {"type": "str", "default": ""},
        "announced_as": {"type": "str", "default": ""},
        "backend": {"type": "str", "required": True, "choices": [*BACKENDS, NONE]},
    }
    run_module(core, name="change_notice", argument_spec=argument_spec() | driver.argument_spec() | spec)


if __name__ == "__main__":
    main()
