#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_lease
short_description: Release the lease of a run, and show which run holds it
description:
  - Gives back the lease that M(pg_preflight) took. Where the run does not hold it, nothing happens.
  - With O(run_id) it releases the lease of another run that is surely dead. Whoever asks must name that run exactly.
  - Either way the result shows who held the lease, and whether a module writes.
extends_documentation_fragment: runbook_postgresql
options:
  run_id:
    description:
      - The run whose lease to release. Without it, the lease of this run.
      - Refused when another run holds the lease, when the run is alive on this machine, or when one of its modules
        still writes.
    type: str
attributes:
  check_mode:
    support: full
    description: Nothing is released; the result says what would be.
  diff_mode:
    support: none
    description: Nothing but the lease is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Give this run's lease back
  pg_lease:
    login_host: db.example.com
    login_user: runbook_maintain_login
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe

- name: Release the lease of a run that is surely dead
  pg_lease:
    run_id: 20260104T020000Z-weekly_db-4f1c
    login_host: db.example.com
    login_user: runbook_maintain_login
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
"""

RETURN = r"""
changed:
  description:
    - Whether the lease of another run was released. A run that gives its own lease back changes nothing that lasts.
  type: bool
  returned: always
msg:
  description: One sentence that says who held the lease, and whether it was released.
  type: str
  returned: always
status:
  description: V(ok), V(breach) where the release was refused, or V(unknown) where a server gave no answer.
  type: str
  returned: always
released:
  description: Whether a lease was released, or would be in check mode.
  type: bool
  returned: success
holder:
  description:
    - The lease as it was found, with C(run_id), C(controller), C(purpose), C(acquired_at), C(expires_at) and
      C(expired); null if nobody held one.
  type: dict
  returned: success
writer_pid:
  description: Process on the server of the module that writes now; null if none does.
  type: int
  returned: success
executed_queries:
  description: Statements that changed something, or would in check mode.
  type: list
  elements: str
  returned: success
"""

from datetime import UTC
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.lease import check_release, told

LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000


def core(context: Context) -> dict[str, Any]:
    """Release the lease that is asked for, and say who held it."""
    wanted, own = context.params["run_id"], context.run.id
    target = postgres.Target.from_params(context.params)
    timeouts = {"lock_timeout_ms": LOCK_TIMEOUT_MS, "statement_timeout_ms": STATEMENT_TIMEOUT_MS}
    with postgres.Session(target, **timeouts, purpose="lease") as session:
        current, writer_pid = lease.read(session), lease.writer(session)
        now = session.query("SELECT clock_timestamp() AS now")[0]["now"]
        if wanted and current is not None:
            permits.require_database(context.run, session, may_be_frozen=True)
            check_release(current, run_id=wanted, holder=lease.life(current), writer_pid=writer_pid)
        run_id = wanted or own or ""
        released = current is not None and current.run_id == run_id
        if released and not context.check_mode:
            released = lease.release(session, run_id=run_id)
        queries = list(session.executed_queries)
    if released and context.check_mode:
        queries = [lease.RELEASE]
    holder = None
    msg = f"{target}: nobody holds the lease."
    if current is not None:
        holder = {
            "run_id": current.run_id,
            "controller": current.controller,
            "purpose": current.purpose,
            "acquired_at": current.acquired_at.astimezone(UTC).isoformat(),
            "expires_at": current.expires_at.astimezone(UTC).isoformat(),
            "expired": current.expires_at <= now,
        }
        if released:
            done = "would give the lease back" if context.check_mode else "gave the lease back"
        else:
            done = told(current, now=now, holder=lease.life(current))
        msg = f"{target}: {lease.describe(current)} {done}."
    return {
        "changed": bool(released and wanted and wanted != own),
        "msg": msg,
        "released": released,
        "holder": holder,
        "writer_pid": writer_pid,
        "executed_queries": queries,
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_lease",
        argument_spec=postgres.argument_spec() | {"run_id": {"type": "str"}},
        needs_record=False,
    )


if __name__ == "__main__":
    main()
