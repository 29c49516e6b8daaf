#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: state_lease_info
short_description: Show which runs hold leases in the state store
description:
  - Lists the leases of work that has no database, such as that on a bucket or on a project of Vercel - whose they are,
    since when and until when, and whether they are over. It writes nothing.
  - The lease of a run that was killed ends by itself; until another run needs it, it is listed as expired.
  - The state store's clock decides what is over.
options:
  environment:
    description: What the inventory is.
    type: str
    required: true
extends_documentation_fragment: runbook_state
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look at the leases
  state_lease_info:
    environment: production
    state_bucket: mental-scribe-state-production
    state_region: eu-central-1
"""

RETURN = r"""
msg:
  description: One sentence with the numbers.
  type: str
  returned: always
status:
  description: V(ok), or V(unknown) where a lease cannot be read.
  type: str
  returned: always
checks:
  description: Each lease, as a check; one that cannot be read is V(unknown).
  type: list
  elements: dict
  returned: always
leases:
  description:
    - Each lease with C(target), C(run_id), C(controller), C(purpose) (its playbook), C(acquired_at), C(expires_at)
      (ISO 8601 in UTC), C(expired), and C(msg), which says all of that in one sentence, and what becomes of it.
  type: list
  elements: dict
  returned: always
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import process, state_store
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import lease as rules
from ansible.module_utils.runbook.rules.state import lease_of, leased
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import count, to_second

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.state_store import StateStore


def core(context: Context) -> dict[str, Any]:
    """List them."""
    settings = {name: value for name, value in context.params.items() if name.startswith("state_")}
    store = state_store.from_settings(settings, context.params["environment"])
    if store is None:
        msg = "The inventory names no state store, so there are no leases but those of databases."
        return context.conclude(Status.OK, msg=msg, leases=[], checks=[])
    leases, checks = [], []
    for name in store.names("leases/"):
        try:
            found = _lease(store, name)
        except RunbookError as error:
            checks.append(Check.unknown("lease", error.message, leased(name)))
            continue
        if found is not None:
            leases.append(found)
            checks.append(Check.ok("lease", found["msg"], found["target"]))
    over = sum(each["expired"] for each in leases)
    unread = len(checks) - len(leases)
    parts = [count(len(leases) - over, "lease is held", "leases are held")]
    parts += [count(over, "is over", "are over")] if over else []
    parts += [f"{unread} cannot be read"] if unread else []
    msg = " ".join([f"{', '.join(parts)} in {store}.", *(each.msg for each in checks if each.status is Status.UNKNOWN)])
    # That there is none is known: the store was asked.
    return context.conclude(checks or Status.OK, msg=msg, leases=leases, checks=[each.result() for each in checks])


def _lease(store: StateStore, name: str) -> dict[str, Any] | None:
    """One lease; None where it was given back meanwhile.

    :raises RunbookError: it cannot be read
    """
    found = store.read(name)
    if found.document is None:
        return None
    lease = lease_of(found.document)
    holder = process.parse(lease.machine)
    told = rules.told(lease, now=found.now, holder=holder.life() if holder else "unknown")
    since = to_second(lease.acquired_at.isoformat())
    return {
        "target": leased(name),
        "run_id": lease.run_id,
        "controller": lease.controller,
        "purpose": lease.purpose,
        "acquired_at": lease.acquired_at.isoformat(),
        "expires_at": lease.expires_at.isoformat(),
        "expired": lease.expires_at <= found.now,
        "msg": f"{leased(name)}: run {lease.run_id} ({lease.purpose}, {lease.controller}), since {since}, {told}.",
    }


def main() -> None:
    """Run as an Ansible module."""
    spec = {"environment": {"type": "str", "required": True}, **state_store.argument_spec()}
    run_module(core, name="state_lease_info", argument_spec=spec, needs_record=False)


if __name__ == "__main__":
    main()
