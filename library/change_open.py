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
  - From then on modules of the run may write, where preflight said that the operation is run as a change.
  - Run again in the same run, it finds the change and does nothing.
extends_documentation_fragment: runbook_state
options:
  reason:
    description:
      - Why the change is made, in one sentence for the ticket and the report. Left out, it is what the playbook does.
    type: str
  most_s:
    description:
      - When everything that the change opens has to be over at the latest, in seconds from now, 60 to 86400.
        Maintenance mode, silences and a scheduled maintenance end by themselves then, or with the maintenance window
        where that ends before.
    type: int
    default: 14400
  hosts:
    description:
      - The databases that the run works on, as Ansible's variable C(ansible_play_hosts). Some items have to be answered
        for each.
    type: list
    elements: str
    default: []
  inventory:
    description:
      - The inventory of this run, as the way back names it.
    type: path
    default: inventories/<environment>
  rollback_plan:
    description:
      - How what is changed is undone, a playbook with its arguments, in place of the operation's own. V({inventory}),
        V({hosts}) and V({opened_at}) are filled in.
    type: str
    default: ''
  blocks:
    description:
      - Lines of the checklists, and whether nothing goes on where they fail, in place of the project's own choice.
        Where it does go on, the line is unknown, and the run ends red.
    type: dict
    default: {}
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
    hosts: "{{ ansible_play_hosts }}"
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
needs:
  description: Lines of the checklists that the change has to do, as preflight approved it.
  type: list
  elements: str
  returned: success
items:
  description: What has to be answered, a line of RV(needs), or for each database one, as C(health:db1).
  type: list
  elements: str
  returned: success
answers:
  description: The line that this module answers itself, C(rollback_plan).
  type: str
  returned: when there is a way back
proof:
  description: The way back.
  type: str
  returned: when there is one
blocks:
  description: By each line of the checklists, whether nothing goes on where it fails.
  type: dict
  returned: success
title:
  description: What is done and where, in one line.
  type: str
  returned: success
ticket_text:
  description: What stands on the ticket from its beginning, a paragraph each.
  type: list
  elements: str
  returned: success
notice_text:
  description: What the team is told.
  type: str
  returned: success
rollback_plan:
  description: How it is undone, as O(rollback_plan) says; empty where nobody says it.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import lease_wait, permits, state_lease, state_store
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.change import checklist, opening
from ansible.module_utils.runbook.rules.change.change import Change, key
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.target import Target

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.run import Approval

BOUNDS = lease_wait.BOUNDS | {"most_s": (60, 86_400)}


def core(context: Context) -> dict[str, Any]:
    """Take the lease, look for what dead runs left, and write the change."""
    params, run, checks = context.params, context.run, preflight.Checks()
    context.require_bounds(BOUNDS)
    approval = permits.require_approval(run)
    blocks, reason = (
        checklist.blocking(approval.playbook, params["blocks"]),
        _reason(params["reason"], approval.playbook),
    )
    changes = Changes.from_params(params, run)
    target = Target("change", "", approval.environment)
    with checks.named("lease") as check:
        held = lease_wait.wait_for(
            lambda: state_lease.take(params, run, target, approval), params, context.progress.update
        )
        check["msg"] = f"This run {'may open' if context.check_mode else 'holds'} the change of {target.name}."
    with checks.named("earlier") as check:
        own = changes.current()
        # An emergency takes over from one whose fix failed: that one is ended once users are kept out by this one.
        left = [
            each.change
            for each in changes.all()
            if each.change.id != run.id and not (approval.playbook == checklist.EMERGENCY and each.is_abandoned)
        ]
        if left:
            raise RunbookError(f"{left[0].describe()} was left open by a run that is gone; {opening.way_out(left[0])}.")
        check["msg"] = "No other change is open."
    change = own or _new(context, approval, reason)
    plan = opening.rollback_plan(
        approval.playbook, params["rollback_plan"], environment=approval.environment,
        inventory=_shown(params["inventory"]), hosts=params["hosts"] or ["<database>"],
        opened_at=f"{change.opened_at:%Y-%m-%dT%H:%M:%SZ}",
    )  # fmt: skip
    needs = approval.needs
    if "rollback_plan" in needs and not plan:
        raise RunbookError(
            f"change_rollback_plan: it is empty, and {approval.playbook} has no way back of its own; name a playbook "
            "with its arguments."
        )
    if own is None and not context.check_mode:
        changes.open(change)
        if plan:
            changes.answer("rollback_plan", Status.OK, f"The way back is named: {plan}", plan)
    permits.begin_change(run)
    answered: dict[str, Any] = {"answers": "rollback_plan", "proof": plan} if plan else {}
    verb = "is" if own else "would be" if context.check_mode else "was"
    return context.conclude(
        checks.done, msg=f"{change.describe()} {verb} open{'' if own else 'ed'}.", changed=own is None,
        change_id=change.id, key=key(change.id), until=change.until.isoformat(timespec="seconds"), needs=list(needs),
        items=list(change.needs), rollback_plan=plan, blocks=blocks, title=opening.title(change, approval.environment),
        ticket_text=opening.ticket_text(change, plan, needs, permits.said(run).get("window_override", "")),
        notice_text=opening.notice_text(change), target=target.proven(approval.environment), lease=held,
        **answered,
    )  # fmt: skip


def _shown(inventory: str) -> str:
    """The path of an inventory as a person types it in the project."""
    path, project = Path(inventory), Path.cwd()
    return str(path.relative_to(project) if path.is_relative_to(project) else path)


def _reason(said: str | None, operation: str) -> str:
    """Why the change is made.

    :raises RunbookError: nobody says it
    """
    known = checklist.OPERATIONS.get(operation)
    reason = " ".join((known.title if said is None and known else said or "").split())
    if not reason:
        raise RunbookError("reason: it is empty; say in one sentence why the change is made.")
    return reason


def _new(context: Context, approval: Approval, reason: str) -> Change:
    """The change that this run would make."""
    params, run = context.params, context.run
    now = datetime.now(UTC)
    ends = [now + timedelta(seconds=params["most_s"]), permits.ends_at(run)]
    targets = tuple(f"{each.host} ({each.target})" for each in permits.of(run))
    return Change(
        str(run.id), approval.playbook, reason, targets, run.process or "", now,
        min(end for end in ends if end), needs=checklist.per_host(approval.needs, params["hosts"]),
    )  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="change_open",
        argument_spec={
            **state_store.argument_spec(),
            "reason": {"type": "str"},
            "most_s": {"type": "int", "default": 14_400},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "inventory": {"type": "path", "default": "inventories/<environment>"},
            "rollback_plan": {"type": "str", "default": ""},
            "blocks": {"type": "dict", "default": {}},
            "lease_wait_s": lease_wait.argument_spec()["lease_wait_s"],
        },
    )


if __name__ == "__main__":
    main()
