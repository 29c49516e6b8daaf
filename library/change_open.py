#!/usr/bin/python
"""Module change_open: begin a change, so that all that it opens is known and ended even where its run dies."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_open
short_description: Open the change that this run makes
description:
  - Writes the change into the state store, before anything is opened for it. What modules open for it later (a ticket,
    a scheduled maintenance, silences, maintenance mode) is noted there, so that the next run can end it where this run
    dies.
  - An environment has one open change at a time, which the run holds as a lease in the state store. It is renewed while
    the run lives and given back at its end.
  - A change that a dead run left open is in the way until it was closed.
  - Run again in the same run, it finds the change and does nothing.
extends_documentation_fragment: runbook_state
options:
  reason:
    description:
      - Why the change is made, in one sentence for the ticket and the report.
    type: str
    required: true
  most_s:
    description:
      - When everything that the change opens has to be over at the latest, in seconds from now, 60 to 86400.
        Maintenance mode, silences and a scheduled maintenance end by themselves then.
    type: int
    default: 14400
  lease_wait_s:
    description:
      - How long to wait for another change that is open, in seconds, 0 to 86400. V(0) refuses at once.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Looks for another change, and writes nothing.
  diff_mode:
    support: none
    description: The plan is the sentence.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Open the change
  change_open:
    reason: Weekly maintenance of the database
    most_s: 7200
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg:
  description: Which change is open, and until when.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where another change is open, or V(unknown) where the state store gave no answer.
  type: str
  returned: always
checks:
  description: The lease and earlier changes, each with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: always
change_id:
  description: Names the change; the run's own id.
  type: str
  returned: success
key:
  description: What is written into tickets, incidents and silences, and by which they are found again.
  type: str
  returned: success
until:
  description: When everything that it opens is over, in ISO 8601.
  type: str
  returned: success
target:
  description: The environment whose change it is, with C(kind), C(place), C(name) and C(environment).
  type: dict
  returned: success
lease:
  description: C(name), C(decision) and C(expires_at) of the lease, as M(s3_preflight) returns it.
  type: dict
  returned: success
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.drivers import lease_wait, permits, state_lease, state_store
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.change.change import Change, key
from ansible.module_utils.runbook.rules.target import Target

BOUNDS = lease_wait.BOUNDS | {"most_s": (60, 86_400)}


def core(context: Context) -> dict[str, Any]:
    """Take the lease, look for what dead runs left, and write the change."""
    params, run, checks = context.params, context.run, preflight.Checks()
    context.require_bounds(BOUNDS)
    reason = " ".join(params["reason"].split())
    if not reason:
        raise RunbookError("reason: it is empty; say in one sentence why the change is made.")
    approval = permits.require_approval(run)
    changes = Changes.from_params(params, run)
    target = Target("change", "", approval.environment)
    with checks.named("lease") as check:
        held = lease_wait.wait_for(
            lambda: state_lease.take(params, run, target, approval), params, context.progress.update
        )
        check["msg"] = f"This run {'may open' if context.check_mode else 'holds'} the change of {target.name}."
    with checks.named("earlier") as check:
        own = changes.current()
        left = [each.change for each in changes.all() if each.change.id != run.id]
        if left:
            raise RunbookError(
                f"{left[0].describe()} was left open by a run that is gone; end it with playbooks/change_close.yml."
            )
        check["msg"] = "No other change is open."
    now = datetime.now(UTC)
    change = own or Change(
        str(run.id), approval.playbook, reason, tuple(str(each.target) for each in permits.of(run)),
        run.process or "", now, now + timedelta(seconds=params["most_s"]),
    )  # fmt: skip
    if own is None and not context.check_mode:
        changes.open(change)
    verb = "is" if own else "would be" if context.check_mode else "was"
    return context.conclude(
        checks.done, msg=f"{change.describe()} {verb} open{'' if own else 'ed'}.", changed=own is None,
        change_id=change.id, key=key(change.id), until=change.until.isoformat(timespec="seconds"),
        target=target.proven(approval.environment), lease=held,
    )  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="change_open",
        argument_spec={
            **state_store.argument_spec(),
            "reason": {"type": "str", "required": True},
            "most_s": {"type": "int", "default": 14_400},
            "lease_wait_s": lease_wait.argument_spec()["lease_wait_s"],
        },
    )


if __name__ == "__main__":
    main()
