#!/usr/bin/python
"""Module change_status_page: what patients read of a change."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_status_page
short_description: Announce, update and end maintenance or an incident on a status page
description:
  - A change has one notice of maintenance, and one of an incident. It bears a reference, a digest of the change's key,
    and is looked for by it before it is made, so that neither a lost answer nor a second run makes another one. An
    update is not said again whose text, phase, level and end are there.
  - Maintenance is announced with its end, and ends by itself then, whatever became of the run. An incident does not.
    What was opened is noted in the change, which is a document of the state store, where the next run finds it.
  - An item that the change has as V(ok) already is not done again.
  - The page is public. The texts of this module name no server, table, playbook or run; neither should O(title) and
    O(text).
  - "A webhook is sent C(POST) with C({schema: runbook-status-page, schema_version: 1, event, kind, notice, phase,
    title, text, components, level, starts_at, until, notify}). C(event) is C(opened), C(updated) or C(components),
    C(kind) is C(maintenance) or C(incident), C(notice) is the same in each event of a notice. The receiver ends
    maintenance at C(until) by itself. The header C(Idempotency-Key) names the event: what comes again with the same key
    must be answered, and do nothing. Any status below 300 is a yes; the answer to C(opened) may be C({url})."
extends_documentation_fragment:
  - runbook_change
  - runbook_state
options:
  state:
    description:
      - V(maintenance_scheduled) announces maintenance. It begins and ends by itself. With O(announced_as) it takes over
        what was announced by that name, with its times.
      - V(maintenance_announced) announces maintenance that a later run carries out. No change has to be open; the
        answer is kept with the announcement, in the state store, and nothing is ended with this run.
      - V(maintenance_started) begins it, unless it has begun by itself. V(maintenance_updated) says more, and moves its
        end. V(maintenance_ended) ends it, with its components in operation; it is ok where it is over or gone.
      - V(incident_opened), V(incident_updated) and V(incident_resolved) do the same for an incident.
      - V(components_set) sets O(components) to O(level), whatever there is to read.
    type: str
    choices:
      - maintenance_announced
      - maintenance_scheduled
      - maintenance_started
      - maintenance_updated
      - maintenance_ended
      - incident_opened
      - incident_updated
      - incident_resolved
      - components_set
    required: true
  backend:
    description:
      - The status page. V(none) is the inventory's decision to have none; the item is then skipped.
      - V(upptime) measures its components itself. O(components) are then the slugs of sites that are expected to be
        down.
    type: str
    choices: [statuspage, cachet, upptime, webhook, none]
    required: true
  title:
    description:
      - Title of the notice. Left out, it is C(Scheduled maintenance) or C(Service disruption).
    type: str
    default: ''
  text:
    description:
      - What patients read, at most 25,000 letters. It may be left out but for V(maintenance_updated) and
        V(incident_updated).
    type: str
    default: ''
  starts_at:
    description:
      - When maintenance begins, as ISO 8601 with its time zone. Left out, it begins now.
    type: str
  until:
    description:
      - When maintenance ends by itself, as ISO 8601 with its time zone. Needed where O(state=maintenance_scheduled) or
        V(maintenance_announced), which needs O(starts_at) too.
    type: str
  components:
    description:
      - Ids of the components of the page that are affected.
    type: list
    elements: str
    default: []
  level:
    description:
      - How the components do. Needed where O(state=incident_opened) or V(components_set).
    type: str
    choices: [operational, degraded, partial_outage, major_outage, maintenance]
  phase:
    description:
      - How far the work on an incident is. Needed where O(state=incident_updated).
    type: str
    choices: [investigating, identified, monitoring]
  announced_as:
    description:
      - Names maintenance that one run announces and another carries out, as C(quarter-1-2027-01-17). Both runs give the
        same; M(maintenance_calendar_info) and M(runbook_preflight) say what it is. Needed where
        O(state=maintenance_announced).
    type: str
    default: ''
  notify:
    description:
      - Whether subscribers are told.
    type: bool
    default: true
  statuspage_page:
    description:
      - Id of the page at Atlassian Statuspage.
    type: str
  statuspage_token:
    description:
      - API key. Keep it in Ansible Vault.
    type: str
  statuspage_api_url:
    description:
      - Address of the API. Left out, it is C(https://api.statuspage.io/v1).
    type: str
  cachet_url:
    description:
      - Address of Cachet 3, with the path under which it is installed. Its time zone has to be UTC.
    type: str
  cachet_token:
    description:
      - API token with the abilities to manage schedules, incidents, their updates, and components. Keep it in Ansible
        Vault.
    type: str
  upptime_repository:
    description:
      - Upptime's repository on GitHub, as C(owner/name).
    type: str
  upptime_token:
    description:
      - Token with the right to read and write issues of O(upptime_repository). Keep it in Ansible Vault.
    type: str
  upptime_api_url:
    description:
      - Address of the API of GitHub Enterprise Server. Left out, it is C(https://api.github.com).
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
    description: The page is asked, and nothing is written.
  diff_mode:
    support: full
    description: Shows what would be read on the page.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Announce the maintenance
  change_status_page:
    state: maintenance_scheduled
    item: users-told
    backend: statuspage
    statuspage_page: abcdefghijkl
    statuspage_token: "{{ vault_change_status_page_token }}"
    starts_at: "2026-11-29T02:00:00Z"
    until: "2026-11-29T04:00:00Z"
    components: [9qnvr23zmzn]
    state_bucket: mental-scribe-state

- name: Announce what a later run carries out
  change_status_page:
    state: maintenance_announced
    announced_as: quarter-1-2027-01-17
    item: status_page
    backend: statuspage
    statuspage_page: abcdefghijkl
    statuspage_token: "{{ vault_change_status_page_token }}"
    starts_at: "2027-01-17T02:00:00Z"
    until: "2027-01-17T08:00:00Z"
    state_bucket: mental-scribe-state

- name: End it
  change_status_page:
    state: maintenance_ended
    item: status-page-updated
    backend: statuspage
    statuspage_page: abcdefghijkl
    statuspage_token: "{{ vault_change_status_page_token }}"
    blocks: false
    state_bucket: mental-scribe-state

- name: Say how far the work on an incident is
  change_status_page:
    state: incident_updated
    item: incident-identified
    backend: webhook
    webhook_url: "{{ vault_change_status_page_webhook_url }}"
    phase: identified
    text: We found the cause, and are working on it. Your data is safe.
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether something was written, or would be in check mode.
  type: bool
  returned: always
msg:
  description: One sentence that says what became of the notice.
  type: str
  returned: always
status:
  description: V(ok); V(unknown) where the status page failed and O(blocks=false), or gave no answer; else V(breach).
  type: str
  returned: always
notice_id:
  description: By which the page knows the notice.
  type: str
  returned: when there is one
notice_url:
  description: Where people read it; empty where the service does not say.
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

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers.change import status_pages as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import closing
from ansible.module_utils.runbook.rules.change import status_page as rules
from ansible.module_utils.runbook.rules.change.backend import NONE, SKIPPED
from ansible.module_utils.runbook.rules.change.change import key
from ansible.module_utils.runbook.rules.change.note import note_key, title_of
from ansible.module_utils.runbook.rules.text import as_lines


class Notices:
    """One act on the notice of this run's change."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.params = params = context.params
        context.require_bounds({"timeout_s": (1, 600)})
        rules.check(params)
        note_key("", params["item"])
        self.state = params["state"]
        self.act = rules.STATES[self.state]
        starts_at, until = rules.times(params, datetime.now(UTC))
        self.announces = self.state == rules.ANNOUNCED
        self.changes = Changes.from_params(
            params, context.run, params["announced_as"] if self.announces else "",
            is_end=closing.is_end("change_status_page", params),
        )  # fmt: skip
        self.change = self.changes.require_current()
        self.kind: rules.Kind = self.act.kind or "incident"
        named = key(params["announced_as"] or self.changes.id)
        self.notice = rules.Notice(
            self.kind, rules.reference(named), title_of(params["title"] or self.act.title),
            rules.text_of(self.state, params["text"], starts_at, until), tuple(params["components"]),
            rules.Level(params["level"] or "maintenance"), starts_at, until, notify=params["notify"],
            item=params["item"],
        )  # fmt: skip

    def noted(self, where: str) -> dict[str, Any]:
        """What the change knows of its notice; what it will know where that is nothing.

        :raises RunbookError: it has one elsewhere, or by another name
        """
        backend, announced_as = self.params["backend"], self.params["announced_as"]
        if self.change is not None and not self.announces:
            self.change.require_place(self.kind, backend, where)
            noted = self.change.opened.get(self.kind)
            if noted is not None:
                if announced_as and noted["reference"] != self.notice.reference:
                    raise RunbookError(
                        f"announced_as: {announced_as} is not the {self.kind} that this change has on the page; end "
                        "that first, or give the name that it was begun with."
                    )
                # It may have been begun by another name, which whoever ends it need not know.
                self.notice = replace(self.notice, reference=str(noted["reference"]))
                return dict(noted)
        return {
            "backend": backend, "where": where, "kind": self.kind, "reference": self.notice.reference,
            "components": self.params["components"],
        }  # fmt: skip

    def note(self, noted: dict[str, Any] | None) -> None:
        """Let the change know of the notice, or (None) that it is over."""
        if not self.context.check_mode:
            self.changes.opened(self.kind, noted)

    def do(self) -> Done:
        """What the item asks for."""
        page = driver.from_params(self.params, read_only=self.context.check_mode)
        noted = self.noted(page.where if page else "") if self.act.kind else {}
        if page is None:
            return Done("Skipped: the inventory decided to have no status page (backend none).", SKIPPED)
        if self.act.kind is None:
            return driver.set_components(page, self.params["components"], self.notice.level)
        if self.state in rules.ENDING:
            done = driver.end(page, noted, self.notice.text, notify=self.notice.notify)
            self.note(None)
            return done
        if self.act.title:
            # What another run carries out is not this one's to end.
            return driver.announce(
                None if self.announces else self.changes, page, noted, self.notice,
                may_differ=bool(self.params["announced_as"]),
            )  # fmt: skip
        # Whoever ends it has to know of each component that was touched.
        touched = sorted({*noted["components"], *self.params["components"]})
        if self.state != "maintenance_updated":
            self.note(noted | {"components": touched})
        phase = rules.Phase(self.params["phase"]) if self.params["phase"] else self.act.phase
        return driver.tell(page, noted, self.notice, phase)

    def result(self) -> dict[str, Any]:
        """Do it once, and say what became of it."""
        done = self.changes.conduct(
            self.params["item"], self.do, blocks=self.params["blocks"], once_in=self.change
        )  # fmt: skip
        facts = dict(done.facts)
        if self.context.diff and facts.get("changed"):
            said = [self.notice.title, *self.notice.text.splitlines(), *self.notice.components]
            facts["diff"] = {"prepared": as_lines(f"+ {line}" for line in said if line)}
        return self.context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **facts)


def core(context: Context) -> dict[str, Any]:
    """Do what the item asks for, once."""
    return Notices(context).result()


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="change_status_page",
        argument_spec={
            **argument_spec(),
            "state": {"type": "str", "required": True, "choices": list(rules.STATES)},
            "backend": {"type": "str", "required": True, "choices": [*rules.BACKENDS, NONE]},
            "title": {"type": "str", "default": ""},
            "text": {"type": "str", "default": ""},
            "starts_at": {"type": "str"},
            "until": {"type": "str"},
            "components": {"type": "list", "elements": "str", "default": []},
            "level": {"type": "str", "choices": [str(level) for level in rules.Level]},
            "phase": {"type": "str", "choices": [str(phase) for phase in rules.UPDATES]},
            "announced_as": {"type": "str", "default": ""},
            "notify": {"type": "bool", "default": True},
            "statuspage_page": {"type": "str"},
            "statuspage_token": {"type": "str", "no_log": True},
            "statuspage_api_url": {"type": "str"},
            "cachet_url": {"type": "str"},
            "cachet_token": {"type": "str", "no_log": True},
            "upptime_repository": {"type": "str"},
            "upptime_token": {"type": "str", "no_log": True},
            "upptime_api_url": {"type": "str"},
            "webhook_url": {"type": "str", "no_log": True},
            "webhook_token": {"type": "str", "no_log": True},
        },
    )


if __name__ == "__main__":
    main()
