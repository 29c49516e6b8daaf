#!/usr/bin/python
"""Module change_ticket: the ticket of a change, from its opening to its end."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_ticket
short_description: Open, comment and close the ticket of a change
description:
  - A change has one ticket. It bears the change's key, and is looked for by it before it is opened, so that neither a
    lost answer nor a second run opens another one. A comment is kept from being doubled in the same way, by
    O(item).
  - What was opened is noted in the change, which is a document of the state store. Whoever comes after a run that was
    killed finds it there.
  - An item that the change has as V(ok) already is not done again.
  - GitHub shows text as it is given; names in it call nobody, and marks in it are no format. Jira shows O(report) as a
    block of Markdown. What is longer than the service takes is shortened at the end of O(report), and says so.
  - "A webhook is sent C(POST) with C({schema: runbook-ticket, schema_version: 1, event, ticket, title, text, report}).
    C(event) is C(opened), C(commented) or C(closed), C(ticket) is the same in each event of a change. The header
    C(Idempotency-Key) names the event: what comes again with the same key must be answered, and do nothing. Any status
    below 300 is a yes; the answer to C(opened) may be C({url})."
extends_documentation_fragment:
  - runbook_change
  - runbook_state
options:
  state:
    description:
      - V(opened) opens the ticket, or finds it.
      - V(commented) writes O(text) on it.
      - V(closed) writes O(text) and O(report) on it, and closes it. It is ok where the ticket is closed or gone.
      - V(left_open) writes O(text) and O(report) on it, and leaves it to a person. The change knows of it no more.
    type: str
    choices: [opened, commented, closed, left_open]
    required: true
  backend:
    description:
      - The ticket system. V(none) is the inventory's decision to have none; the item is then skipped.
    type: str
    choices: [github, jira, webhook, none]
    required: true
  title:
    description:
      - Title of the ticket, where O(state=opened). It is put on one line, and shortened to 255 characters.
    type: str
    default: ''
  text:
    description:
      - Plain text, whose paragraphs are parted by an empty line. It may be empty where O(state=closed).
    type: str
    default: ''
  report:
    description:
      - File of Markdown that is written below O(text), as the C(report.md) of a run. Not for O(state=opened) and
        V(commented).
    type: path
  github_repository:
    description:
      - The repository whose issues are tickets, as C(owner/name).
    type: str
  github_token:
    description:
      - Token with the right to read and write issues of O(github_repository). Keep it in Ansible Vault.
    type: str
  github_api_url:
    description:
      - Address of the API of GitHub Enterprise Server. Left out, it is C(https://api.github.com).
    type: str
  jira_url:
    description:
      - Address of Jira, as people open it.
    type: str
  jira_project:
    description:
      - Key of the project, as in C(MS-12), without the number.
    type: str
  jira_token:
    description:
      - API token of O(jira_user) on Jira Cloud, personal access token on Data Center. Keep it in Ansible Vault.
    type: str
  jira_user:
    description:
      - E-mail address of the user on Jira Cloud. Leave it out on Data Center.
    type: str
  jira_issue_type:
    description:
      - Type of the ticket by its name. Left out, it is C(Task).
    type: str
  jira_transition:
    description:
      - Name of the transition that closes the ticket. Left out, it is the one that leads to a state of the category
        Done; needed where there are several.
    type: str
  webhook_url:
    description:
      - Address that takes the events. It is treated as a secret. Keep it in Ansible Vault.
      - A user and a password in it (C(https://user:password@host/path)) are sent as basic auth.
    type: str
  webhook_token:
    description:
      - Sent as C(Authorization Bearer), where the receiver wants it. Keep it in Ansible Vault.
    type: str
attributes:
  check_mode:
    support: full
    description: The ticket is looked for, and nothing is written.
  diff_mode:
    support: full
    description: Shows what would be written on the ticket.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Open the ticket
  change_ticket:
    state: opened
    item: ticket
    backend: github
    github_repository: mental-scribe/operations
    github_token: "{{ vault_change_ticket_github_token }}"
    title: Weekly database maintenance
    text: |
      Vacuums and archives on Sunday from 02:00 to 04:00 UTC.

      Rollback: none is needed, each step is a transaction.
    state_bucket: mental-scribe-state

- name: Write down what a step did
  change_ticket:
    state: commented
    item: step-vacuum
    backend: jira
    jira_url: https://mental-scribe.example.net
    jira_user: operations@mental-scribe.example.net
    jira_token: "{{ vault_change_ticket_jira_token }}"
    jira_project: OPS
    text: Vacuumed 12 tables.
    blocks: false
    state_bucket: mental-scribe-state

- name: Close it with the report
  change_ticket:
    state: closed
    item: ticket-closed
    backend: webhook
    webhook_url: "{{ vault_change_ticket_webhook_url }}"
    text: The maintenance is over, and everything was verified.
    report: "{{ change_report }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether something was written, or would be in check mode.
  type: bool
  returned: always
msg:
  description: One sentence that says what became of the ticket.
  type: str
  returned: always
status:
  description: V(ok); V(unknown) where the ticket system failed and O(blocks=false), or gave no answer; else V(breach).
  type: str
  returned: always
ticket_id:
  description: Number or key of the ticket.
  type: str
  returned: when there is one
ticket_url:
  description: Where people find it; empty where the service does not say.
  type: str
  returned: when there is one
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

from ansible.module_utils.runbook.drivers.change import tickets as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import closing
from ansible.module_utils.runbook.rules.change import note as notes
from ansible.module_utils.runbook.rules.change import ticket as rules
from ansible.module_utils.runbook.rules.change.backend import NONE, SKIPPED
from ansible.module_utils.runbook.rules.change.change import key
from ansible.module_utils.runbook.rules.text import as_lines


def read(path: str | None) -> str:
    """The report.

    :raises RunbookError: it cannot be read
    """
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError as error:
        raise RunbookError(f"report: {path} cannot be read ({error.strerror}); leave it out, or make it.") from None


def core(context: Context) -> dict[str, Any]:
    """Do what the item asks for, once."""
    params, state = context.params, context.params["state"]
    context.require_bounds({"timeout_s": (1, 600)})
    rules.check(params)
    changes = Changes.from_params(params, context.run, is_end=closing.is_end("change_ticket", params))
    note = notes.Note(notes.note_key(key(changes.id), params["item"]), params["text"].strip())
    change = changes.require_current()

    def act() -> Done:
        tickets = driver.from_params(params, rules.closing, read_only=context.check_mode)
        where = tickets.where if tickets else ""
        if change is not None:
            change.require_place(driver.THING, params["backend"], where)
        if tickets is None:
            return Done("Skipped: the inventory decided to have no ticket system (backend none).", SKIPPED)
        noted = (change.opened.get(driver.THING) if change else None) or {
            "backend": params["backend"], "where": where, "key": key(changes.id)
        }  # fmt: skip
        if state == "opened":
            return driver.open_ticket(changes, tickets, noted, notes.title_of(params["title"]), note)
        if state == "commented":
            return driver.comment(tickets, noted, note)
        last = notes.Note(note.key, note.text, read(params["report"]))
        done = (driver.close if state == "closed" else driver.leave_open)(tickets, noted, last)
        if not context.check_mode:
            changes.opened(driver.THING, None)
        return done

    done = changes.conduct(params["item"], act, blocks=params["blocks"], once_in=change)
    facts = dict(done.facts)
    if context.diff and facts.get("changed") and params["backend"] != NONE:
        facts["diff"] = {
            "prepared": as_lines(f"+ {line}" for line in [params["title"], *note.text.splitlines()] if line)
        }
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **facts)


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="change_ticket",
        argument_spec={
            **argument_spec(),
            "state": {"type": "str", "required": True, "choices": ["opened", "commented", "closed", "left_open"]},
            "backend": {"type": "str", "required": True, "choices": [*rules.BACKENDS, NONE]},
            "title": {"type": "str", "default": ""},
            "text": {"type": "str", "default": ""},
            "report": {"type": "path"},
            "github_repository": {"type": "str"},
            "github_token": {"type": "str", "no_log": True},
            "github_api_url": {"type": "str"},
            "jira_url": {"type": "str"},
            "jira_project": {"type": "str"},
            "jira_token": {"type": "str", "no_log": True},
            "jira_user": {"type": "str"},
            "jira_issue_type": {"type": "str"},
            "jira_transition": {"type": "str"},
            "webhook_url": {"type": "str", "no_log": True},
            "webhook_token": {"type": "str", "no_log": True},
        },
    )


if __name__ == "__main__":
    main()
