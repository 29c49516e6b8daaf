#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: key_info
short_description: How old the keys of an application are, and what is to be rotated or retired
description:
  - Judges the age of each key, and whether its last rotation came to its end. It reads the state store, and asks each
    service when its keys were made. No value of a key is asked for.
  - Run M(runbook_preflight) first in the same run.
options:
  names:
    description:
      - Keys that are to be rotated whether they are due or not. Empty is all that are due.
    type: list
    elements: str
    default: []
  judge:
    description:
      - Whether the ages become checks. V(false) before a rotation, which is there because a key is too old.
    type: bool
    default: true
extends_documentation_fragment:
  - runbook_keys
  - runbook_state
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: Changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look at the ages of the keys
  key_info:
    keys:
      - name: server
        kind: supabase_secret
        env: [{name: SUPABASE_SECRET_KEY}]
    vercel:
      project_id: prj_1a2b3c4d5e
      team_id: team_1a2b3c
      access_token: "{{ vercel_access_token }}"
    supabase:
      project_ref: abcdefghijklmnopqrst
      access_token: "{{ supabase_access_token }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: How it stands with the keys, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if a key is too old or a rotation was left, V(unknown) if an age is not known.
  type: str
  returned: always
checks:
  description: A check C(age) for each key, with its C(name), C(status), C(msg) and C(subject), the name of the key.
  type: list
  elements: dict
  returned: with O(judge)
rotations:
  description:
    - Each key with C(name), C(kind), C(env_names), C(created_at), C(due_at) and C(age_days) of the one in use,
      C(max_age_days), C(phase) of its last rotation, C(deployment) that was built with the newest one, and
      C(retire_after), until when the old one is valid.
  type: list
  elements: dict
  returned: success
to_create:
  description: Names of the keys that a run with C(key_rotation_action=create) would rotate, or go on with.
  type: list
  elements: str
  returned: success
to_retire:
  description: Names of the keys whose old key may be retired by now.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.keys import options
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.keys import definition, rotation
from ansible.module_utils.runbook.rules.status import Check, Status, sentence


def core(context: Context) -> dict[str, Any]:
    """Look at each key; one that cannot be looked at hides no other."""
    params = context.params
    keys = definition.parse(params["keys"])
    if not keys:
        raise RunbookError(
            "keys: it is empty, so nobody looks at a key; list those of the application (docs/howto/keys.md).",
            status=Status.UNKNOWN,
        )
    documents = Documents.from_params(params, context.run)
    application, _, _ = options.application(
        params, documents, keys, context.hide, lambda _what, _s: None, read_only=True
    )
    states, checks = [], []
    for key in keys:
        try:
            states.append(application.state(key))
            checks.append(states[-1].check())
        except RunbookError as error:
            if not params["judge"]:
                raise
            checks.append(Check("age", error.status, error.message, key.name))
    to_create = rotation.wanted(states, params["names"])
    if not params["judge"]:
        application.check(to_create)
    return context.conclude(
        checks if params["judge"] else Status.OK,
        msg=sentence("The keys", checks) if params["judge"] else rotation.told(states),
        fail_on_breach=False,
        fail_on_unknown=False,
        rotations=[state.figures() for state in states],
        to_create=[key.name for key in to_create],
        to_retire=[key.name for key in application.unretired(keys)],
    )


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "names": {"type": "list", "elements": "str", "default": []},
        "judge": {"type": "bool", "default": True},
    }
    run_module(core, name="key_info", argument_spec=options.argument_spec() | spec)


if __name__ == "__main__":
    main()
