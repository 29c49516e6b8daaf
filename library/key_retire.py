#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: key_retire
short_description: End the old keys of an application after their days of grace
description:
  - Ends an old key when the days of grace are over, the live deployment was built with the new one, the variables hold
    the new one still, and the old one was certainly not used for 24 hours.
  - A key of Supabase is deleted, which is final. An access key of AWS is deactivated, and deleted by the next rotation.
    A role of a database gets NOLOGIN and no password, and keeps its place for the next turn.
  - Of use, AWS and the logs of Supabase's gateway tell. PostgreSQL counts statements by role (C(pg_stat_statements)),
    and does not date them, so each run notes what it sees. Run it daily.
options:
  retire:
    description:
      - Whether old keys are ended. V(false) notes what is seen of their use, and ends none.
    type: bool
    default: true
extends_documentation_fragment:
  - runbook_keys
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Says which keys would be retired. Nothing is written.
  diff_mode:
    support: full
    description: Names each key.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Retire what nobody uses any more
  key_retire:
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
  description: Whether a key was retired, or would be.
  type: bool
  returned: always
msg:
  description: What was retired, and what was not and why.
  type: str
  returned: always
status:
  description:
    - V(ok), V(breach) if an old key is used after its days of grace, V(unknown) if nobody can say whether it is.
  type: str
  returned: always
checks:
  description: A check C(use) for each key whose days of grace are over, with C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when the days of grace of a key are over
retired:
  description: Names of the keys whose old key was retired, or would be.
  type: list
  elements: str
  returned: success
rotations:
  description: As M(key_rotate) returns it.
  type: list
  elements: dict
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.keys import options
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.keys import definition
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import some


def core(context: Context) -> dict[str, Any]:
    """Retire what may be retired; one that may not hides no other."""
    params = context.params
    keys = definition.parse(params["keys"])
    documents = Documents.from_params(params, context.run)
    application, project, services = options.application(
        params, documents, keys, context.hide, lambda _what, _s: None, read_only=context.check_mode
    )
    due = application.unretired(keys) if params["retire"] else ()
    application.look([key for key in keys if key not in due])
    checks = [application.may_be_retired(key) for key in due]
    ready = [key for key, check in zip(due, checks, strict=True) if check.status is Status.OK]
    if ready:
        permits.require(context.run, project.target, documents.environment)
        for kind in {key.kind for key in ready}:
            services[kind].require(context.run, documents.environment)
    for key in ready if not context.check_mode else ():
        application.retire(key)
    names = [key.name for key in ready]
    verb = "Would retire" if context.check_mode else "Retired"
    said = [f"{verb} the old key of {some(names)}."] if names else []
    said += [check.msg for check in checks if check.status is not Status.OK]
    told: dict[str, Any] = {"changed": bool(ready), "retired": names}
    if context.diff:
        told["diff"] = {"prepared": as_lines(f"retire the old key of {name}" for name in names)}
    return context.conclude(
        checks or Status.OK,
        msg=" ".join(said) or "No old key is to be retired.",
        rotations=[application.state(key).figures() for key in keys],
        **told,
    )


def main() -> None:
    """Run as an Ansible module."""
    spec = {"retire": {"type": "bool", "default": True}}
    run_module(core, name="key_retire", argument_spec=options.argument_spec() | spec)


if __name__ == "__main__":
    main()
