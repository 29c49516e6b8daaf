#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_silence
short_description: Silence alerts for the time of a change
description:
  - One silence for each O(item) of a change, in Alertmanager or in Grafana's own. It ends by itself at O(until). The
    change's key with the item is the first word of its comment, by which it is found again, so that it is never
    doubled.
  - After it was made it is read back. One that is not active, since the clocks differ, is V(unknown).
options:
  state:
    description:
      - V(present) makes it, or brings its end and its matchers up to date. V(absent) removes all of the
        change's, whatever their items.
    type: str
    required: true
    choices: [present, absent]
  backend:
    description:
      - V(alertmanager), V(grafana), or V(none) where the inventory decided to silence nothing.
    type: str
    required: true
    choices: [alertmanager, grafana, none]
  matchers:
    description:
      - What an alert has to meet, all of it. At least one is a label with a plain value. Needed for O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the label.
        type: str
        required: true
      value:
        description:
          - Its value, or a regular expression that matches the whole of it.
        type: str
        required: true
      is_regex:
        description:
          - Whether O(matchers[].value) is a regular expression.
        type: bool
        default: false
      is_equal:
        description:
          - V(false) for alerts that do not match.
        type: bool
        default: true
  until:
    description:
      - When it ends by itself, with its time zone; within the next 24 hours. Needed for O(state=present).
    type: str
  comment:
    description:
      - Why, for people who look at it.
    type: str
    default: ""
  alertmanager_url:
    description:
      - Address of Alertmanager.
    type: str
  grafana_url:
    description:
      - Address of Grafana, version 9 or newer.
    type: str
  grafana_token:
    description:
      - Token of a service account that may read and write silences.
    type: str
extends_documentation_fragment:
  - runbook_alertmanager.access
  - runbook_change
  - runbook_state
attributes:
  check_mode:
    support: full
    description: The silence is looked for, and nothing is written.
  diff_mode:
    support: full
    description: Shows what would be silenced, in the same sentence.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Silence the database's alerts until the window ends
  change_silence:
    state: present
    item: silence
    backend: alertmanager
    alertmanager_url: http://alertmanager.example.com:9093
    matchers:
      - name: service
        value: mental_scribe
      - name: alertname
        value: Postgres.*
        is_regex: true
    until: "2026-11-29T04:00:00Z"
    comment: Weekly maintenance
    blocks: false
    state_bucket: mental-scribe-state

- name: Remove it
  change_silence:
    state: absent
    item: silence-removed
    backend: alertmanager
    alertmanager_url: http://alertmanager.example.com:9093
    blocks: false
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: Whether something was written, or would be.
  type: bool
  returned: always
msg:
  description: One sentence that says what is silenced and until when.
  type: str
  returned: always
status:
  description:
    - V(ok); V(unknown) where it is not active, where the service gave no answer, or where it failed and
      O(blocks=false); else V(breach).
  type: str
  returned: always
silence_id:
  description: Its id; null where check mode would make it.
  type: str
  returned: when it was set
until:
  description: When it ends by itself.
  type: str
  returned: when it was set
answers:
  description: The item of the checklists that was answered.
  type: str
  returned: when one was
proof:
  description: What proves it, such as an address, an id or a figure.
  type: str
  returned: when one was answered
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers.change import silences as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.drivers.observe import access
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.change import closing
from ansible.module_utils.runbook.rules.change import silence as rules
from ansible.module_utils.runbook.rules.change.backend import NONE, SKIPPED, check_options
from ansible.module_utils.runbook.rules.change.change import check_until, key
from ansible.module_utils.runbook.rules.change.note import note_key
from ansible.module_utils.runbook.rules.text import as_lines


def core(context: Context) -> dict[str, Any]:
    """Set the silence of this change, or remove it."""
    params, run = context.params, context.run
    context.require_bounds({"timeout_s": (1, 600)})
    check_options(params, rules.BACKENDS)
    note_key("", params["item"])
    is_present = params["state"] == "present"
    if is_present:
        matchers = rules.read_matchers(params["matchers"]) if params["backend"] != NONE else frozenset()
        until = check_until(moment.read("until", params["until"]), datetime.now(UTC))
    changes = Changes.from_params(params, run, is_end=closing.is_end("change_silence", params))
    change = changes.require_current()

    def act() -> Done:
        silences = driver.from_params(params, read_only=context.check_mode)
        where = silences.where if silences else ""
        if change is not None:
            change.require_place(driver.THING, params["backend"], where)
        if silences is None:
            return Done("Skipped: the inventory decided to silence nothing (backend none).", SKIPPED)
        fresh: dict[str, Any] = {"backend": params["backend"], "where": where, "key": key(changes.id)}
        noted = (change.opened.get(driver.THING) if change else None) or fresh
        if is_present:
            item_key = note_key(noted["key"], params["item"])
            return driver.open_silence(changes, silences, noted, item_key, matchers, until, params["comment"])
        done = driver.close(silences, noted)
        if change is not None and driver.THING in change.opened:
            changes.opened(driver.THING, None)
        return done

    done = changes.conduct(params["item"], act, blocks=params["blocks"])
    facts = dict(done.facts)
    if context.diff and facts.get("changed"):
        facts["diff"] = {"prepared": as_lines([done.msg])}
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **facts)


def main() -> None:
    """Run as an Ansible module."""
    matcher = {
        "name": {"type": "str", "required": True},
        "value": {"type": "str", "required": True},
        "is_regex": {"type": "bool", "default": False},
        "is_equal": {"type": "bool", "default": True},
    }
    spec = {
        "state": {"type": "str", "required": True, "choices": ["present", "absent"]},
        "backend": {"type": "str", "required": True, "choices": [*rules.BACKENDS, NONE]},
        "matchers": {"type": "list", "elements": "dict", "options": matcher},
        "until": {"type": "str"},
        "comment": {"type": "str", "default": ""},
        "alertmanager_url": {"type": "str"},
        **access.argument_spec("alertmanager"),
        "grafana_url": {"type": "str"},
        "grafana_token": {"type": "str", "no_log": True},
    }
    run_module(
        core,
        name="change_silence",
        argument_spec=argument_spec() | spec,
        required_if=[("state", "present", ["matchers", "until"])],
    )


if __name__ == "__main__":
    main()
