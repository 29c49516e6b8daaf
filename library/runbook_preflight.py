#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runbook_preflight
short_description: Refuse a run that should not touch this environment
description:
  - What must be true before a run may write, whatever it writes to. No server is asked.
  - The checks run in this order and stop at the first one that is not met, C(record) (the run's journal is being
    written, with room for it), C(inventory) (exactly one), C(environment) (the inventory says what it is), C(approval)
    (production was confirmed, this is one of its scheduled jobs, or an emergency), C(calendar) (a maintenance window is
    open that the playbook may run in, and no freeze holds), C(change) (the inventory names lines of checklists that
    there are, and has what they need, so that no ticket is opened for a run that is refused after it).
  - What passed is written down in the run's folder, with the time at which the window ends or a freeze begins. From
    then on no module of the run begins to write. A module with an option O(ignore:deadline_s) has until then at most,
    whatever that option says.
  - The modules that prove a target, such as M(pg_preflight), look for
    it, and so do modules that write.
options:
  environment:
    description:
      - What the inventory is, V(sandbox), V(staging) or V(production). Empty is refused.
    type: str
    required: true
  inventory_sources:
    description:
      - The inventories of this run, as Ansible's variable C(ansible_inventory_sources).
      - Ansible merges several silently, so that the last one wins; more than one is refused.
    type: list
    elements: str
    required: true
  playbook:
    description:
      - File name of the playbook that runs; of one with several actions, with the action behind a blank, as
        V(pitr.yml backup). It is compared with O(scheduled_jobs), and is the purpose of the run's leases.
    type: str
    required: true
  confirm:
    description:
      - The environment that a person confirmed. Production needs it; another environment's name is refused everywhere.
      - It counts only where C(-e confirm=) said it in this run. A value from an inventory is refused.
    type: str
    default: ''
  job:
    description:
      - Name of the scheduled job that this run is. It stands in for O(confirm) if O(scheduled_jobs) lists it for this
        playbook, with the tags and variables of this run and no others. It counts only where C(-e preflight_job=) said
        it in this run.
    type: str
    default: ''
  scheduled_jobs:
    description:
      - The jobs that may run unattended, as C(schedule_jobs) of the inventory has them; the role C(schedule) describes
        the keys.
    type: dict
    default: {}
  calendar:
    description:
      - Maintenance windows and freezes, as M(maintenance_calendar_info) describes them. Empty is no calendar, so that
        every hour is open; production refuses that for a playbook that needs a window.
      - A mistake in it is refused; a playbook that needs no window warns of it and goes on.
    type: dict
    default: {}
  operations:
    description:
      - Which window a playbook needs, by what it gives as O(playbook), V(weekly), V(monthly), V(quarterly) or V(none).
        A larger window serves a smaller need, and one with its own date (V(once)) serves all.
      - Only what differs from the project's own choice, and playbooks of your own. Production refuses a playbook that
        nobody decided about; elsewhere it needs no window.
    type: dict
    default: {}
  window_override:
    description:
      - Why this run does not wait for its window, in an emergency. It lifts window, freeze and end of the run, and goes
        into the record.
      - >-
        It counts only where the command line of this run said it, as C(-e '{"window_override": "the disk is full"}'),
        and is refused when it is empty. Ansible splits C(name=value) at blanks; a C(-e) of which words were lost so, or
        that sets other variables beside it, is refused.
    type: str
    default: ''
  change_needs:
    description:
      - Which lines of the three checklists of a change a playbook has to do, by what it gives as O(playbook), in place
        of the project's own choice. An empty list is the decision that it is not run as a change. docs/howto/change.md
        has the lines and that choice.
      - Where there is one, no module of the run writes before M(change_open) opened the change.
    type: dict
    default: {}
  change_lacks:
    description:
      - What the inventory lacks for these lines, each one sentence with the fix. The action plugin fills it in.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description:
      - All checks run, and a look is free at any hour; what the calendar would say to the real run is a warning. What
        passed permits other modules of this run nothing but a look.
  diff_mode:
    support: none
    description: Nothing is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Check what needs no target
  runbook_preflight:
    environment: "{{ runbook_environment }}"
    inventory_sources: "{{ ansible_inventory_sources }}"
    playbook: weekly_db.yml
    confirm: "{{ confirm | default('') }}"
    calendar: "{{ maintenance_calendar }}"
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where a check was not met.
  type: str
  returned: always
checks:
  description: The checks that ran, in order, each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: always
environment:
  description: What the inventory is.
  type: str
  returned: success
operation:
  description: What ran, as O(playbook) says it.
  type: str
  returned: success
job:
  description: The scheduled job that this run is; empty where a person started it.
  type: str
  returned: success
code:
  description: V(frozen) where a freeze of the calendar refused the run.
  type: str
  returned: failure
change_needs:
  description:
    - Lines of the checklists that this operation has to do; empty where it is not run as a change, or where this run's
      change is open already.
  type: list
  elements: str
  returned: success
batch:
  description:
    - Which part of the play's hosts this run works on now, with C(number) and C(of), from C(preflight_batches), and
      C(is_last).
  type: dict
  returned: success
window:
  description:
    - C(names) (windows that are open), C(ends_at) (when the run must be over; ISO 8601, null where nothing bounds it),
      C(left_s) (seconds until then), C(override) (why the calendar was overridden; empty where it was not),
      C(announced_as) (by what M(change_status_page) finds the announcement of this window; empty for one that returns
      each week or month).
  type: dict
  returned: success
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import journal, permits
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight as rules
from ansible.module_utils.runbook.rules.change import calendar, checklist, emergency, readiness
from ansible.module_utils.runbook.rules.fleet import BATCHES
from ansible.module_utils.runbook.rules.words import count


def core(context: Context) -> dict[str, Any]:
    """Check, and write down what passed."""
    params, checks = context.params, rules.Checks()
    batch = permits.batch(context.run)
    permits.require_batch(context.run)
    with checks.named("record") as check:
        check["msg"] = rules.check_record(journal.inspect())
    with checks.named("inventory") as check:
        check["msg"] = rules.check_inventory(params["inventory_sources"])
    with checks.named("environment") as check:
        check["msg"] = rules.check_environment(params["environment"], params["inventory_sources"][0])
    with checks.named("approval") as check:
        asked = {key: params[key] for key in ("environment", "confirm", "job", "scheduled_jobs", "playbook")}
        said = permits.said(context.run)
        urgent = emergency.read(permits.started(context.run), said)
        check["msg"] = rules.check_approval(
            **asked, said=said, tags=permits.tags(context.run), emergency=str(urgent or "")
        )
    with checks.named("calendar") as check:
        now = datetime.now(UTC)
        calendar.check_override(params["window_override"], said)
        known, mistake = calendar.read_for(params["playbook"], params["calendar"], params["operations"])
        admitted = calendar.admit(
            known,
            environment=params["environment"],
            operation=params["playbook"],
            override=params["window_override"] or str(urgent or ""),
            now=now,
            check_mode=context.check_mode,
        )
        check["msg"] = admitted.msg
        for warning in filter(None, (mistake, admitted.warning)):
            context.warn(warning)
    with checks.named("change") as check:
        needs = checklist.needed(params["playbook"], params["environment"], params["change_needs"])
        check["msg"] = f"{params['playbook']} is run as a change." if needs else "It is not run as a change."
        begun = permits.begun(context.run)
        if needs and batch.of > 1 and "maintenance_mode" in needs:
            raise RunbookError(
                f"{BATCHES}: {params['playbook']} keeps users out while it works, and one batch after the other would"
                " do so for long; take it out there, or run it for one host with --limit."
            )
        # Hosts of a later batch do what each host does in that change.
        if needs and begun is not None and (batch.number == 1 or begun.play != batch.play):
            needs, check["msg"] = (), "The change of this run is open already."
        if needs and params["change_lacks"]:
            raise RunbookError(readiness.refusal(params["playbook"], params["change_lacks"]))
    permits.approve(context.run, params["environment"], params["playbook"], admitted.ends_at, needs)
    return context.conclude(
        checks.done,
        msg=f"{count(len(checks.done), 'check')} passed for {params['environment']}.",
        environment=params["environment"],
        operation=params["playbook"],
        job=params["job"],
        change_needs=list(needs),
        batch={"number": batch.number, "of": batch.of, "is_last": batch.number == batch.of},
        window={
            "names": list(admitted.windows),
            "ends_at": admitted.ends_at.isoformat() if admitted.ends_at else None,
            "left_s": int((admitted.ends_at - now).total_seconds()) if admitted.ends_at else None,
            "override": admitted.override,
            "announced_as": admitted.announced_as,
        },
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="runbook_preflight",
        # It looks at the record itself, as one of its checks.
        needs_record=False,
        argument_spec={
            "environment": {"type": "str", "required": True},
            "inventory_sources": {"type": "list", "elements": "str", "required": True},
            "playbook": {"type": "str", "required": True},
            "confirm": {"type": "str", "default": ""},
            "job": {"type": "str", "default": ""},
            "scheduled_jobs": {"type": "dict", "default": {}},
            "calendar": {"type": "dict", "default": {}},
            "operations": {"type": "dict", "default": {}},
            "window_override": {"type": "str", "default": ""},
            "change_needs": {"type": "dict", "default": {}},
            "change_lacks": {"type": "list", "elements": "str", "default": []},
        },
    )


if __name__ == "__main__":
    main()
