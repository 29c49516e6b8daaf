#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_preflight
short_description: Verify the identity of a database and take its lease
description:
  - Verifies that a database is the one that the inventory names, then takes its lease, so that two runs never work on
    it at the same time. Run M(runbook_preflight) first in the same run.
  - Runs these checks in order and stops at the first that fails.
  - C(target) - the connection options name a database in full.
  - C(connection) - the server answers, and there is no transaction pooler in between.
  - C(identity) - cluster and database are those of the inventory.
  - C(mark) - the database is marked as one of this environment.
  - C(primary) - the server is not a standby.
  - C(clock) - the clocks of server and bastion agree.
  - C(lease) - no other run holds the lease.
  - Records the result in the folder of the run. Modules that write refuse a target that has not passed in the same run,
    so no order of tasks, tag or command-line option can bypass these checks.
  - The lease is a row of the table C(runbook.lease) in the database. It expires after 15 minutes. Modules renew it
    while they work, and M(pg_lease) releases it.
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_lease
options:
  system_identifier:
    description:
      - Identifier of the cluster, as C(pg_control_system()) returns it. If it is empty, the module fails and names the
        value that it found.
    type: str
    default: ''
  max_clock_skew_s:
    description:
      - Largest accepted difference between the clocks of server and bastion, in seconds.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Runs all checks. Reads the lease without taking it, and fails if another run holds it.
  diff_mode:
    support: none
    description: Writes nothing but the lease.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Verify the database and take its lease
  pg_preflight:
    system_identifier: "7395012345678901234"
    login_host: db.example.com
    login_user: runbook_maintain_login
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
    ssl_mode: verify-full
"""

RETURN = r"""
changed:
  description:
    - Whether the table of the lease had to be created. Taking the lease does not count as a change.
  type: bool
  returned: always
msg:
  description: What was verified, or which check failed and the fix, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), V(breach) if a check failed, or V(unknown) if a server did not answer.
  type: str
  returned: always
checks:
  description: The checks that ran, in order, each with C(name), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: always
target:
  description:
    - The verified target, with C(kind) (V(database)), C(place) (identifier of the cluster), C(name) and C(environment)
      (its mark).
  type: dict
  returned: success
database:
  description: Name of the database.
  type: str
  returned: success
system_identifier:
  description: Identifier of the cluster.
  type: str
  returned: success
server_version:
  description: PostgreSQL's C(server_version_num).
  type: int
  returned: success
is_managed_project:
  description: Whether the server is a managed platform's (Supabase), and O(login_user) is not its superuser.
  type: bool
  returned: success
database_size_bytes:
  description: Size of the database.
  type: int
  returned: success
clock_skew_s:
  description: Seconds by which the clock of the server is ahead of the bastion's, less half a round trip.
  type: float
  returned: success
lease:
  description:
    - C(run_id), C(decision) (V(acquire), V(renew), V(take_over); V(none) without O(take_lease)) and C(expires_at). In
      check mode C(decision) is what the real run would do, and C(expires_at) is null.
  type: dict
  returned: success
executed_queries:
  description: Statements that changed something, or would in check mode.
  type: list
  elements: str
  returned: success
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import lease_wait, permits
from ansible.module_utils.runbook.drivers.postgres import environment_mark as marks
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.drivers.supabase import platform
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import environment_mark
from ansible.module_utils.runbook.rules import preflight as rules
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.words import count

LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000


def look_at(session: postgres.Session) -> tuple[rules.Server, float, datetime]:
    """What the server says about itself, how far its clock is ahead in seconds, and the bastion's clock."""
    sent_at = datetime.now(UTC)
    clock = session.query("SELECT clock_timestamp() AS now")[0]["now"]
    received_at = datetime.now(UTC)
    identifier, database = postgres.cluster_and_database(session)
    found = session.query(
        "SELECT pg_is_in_recovery() AS in_recovery, pg_database_size(current_database()) AS size_bytes"
    )[0]
    server = rules.Server(database, identifier, clock=clock.astimezone(UTC), **found)
    return server, rules.clock_skew_s(server.clock, sent_at=sent_at, received_at=received_at), received_at


def take_lease(session: postgres.Session, context: Context, purpose: str) -> tuple[dict[str, Any], list[str]]:
    """Take the lease, or in check mode say what taking it would do; with the statements that made its table."""
    run_id = context.run.id
    if run_id is None:
        raise RunbookError("RUNBOOK_RUN_ID is not set, so no run could hold the lease; start ansible-playbook.")
    made = lease.prepare(session, check_mode=context.check_mode)
    if context.check_mode:
        decision = lease.stand(session, run_id=run_id).decision
        return {"run_id": run_id, "decision": decision, "expires_at": None}, made
    decision = lease.acquire(session, context.run, purpose=purpose)
    held = lease.read(session)
    expires_at = held.expires_at.astimezone(UTC).isoformat() if held else None
    return {"run_id": run_id, "decision": decision, "expires_at": expires_at}, made


def core(context: Context) -> dict[str, Any]:
    """Check, then take the lease."""
    params, checks = context.params, rules.Checks()
    context.require_bounds(lease_wait.BOUNDS)
    approval = permits.require_approval(context.run)
    with checks.named("target") as check:
        rules.check_filled_in({name: params[name] for name in ("login_host", "login_user", "login_db")})
        # Without the pin: who answered is a check of its own, below.
        login = postgres.Target.from_params(params | {"system_identifier": None})
        check["msg"] = f"The target is {login}."
    with checks.named("connection") as check:
        session = postgres.Session(
            login, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS, purpose="preflight"
        )
        check["msg"] = f"Connected to PostgreSQL {session.server_version // 10000}."
    held: dict[str, Any] = {"run_id": context.run.id, "decision": "none", "expires_at": None}
    made: list[str] = []
    with session:
        with checks.named("identity") as check:
            server, skew_s, bastion_clock = look_at(session)
            check["msg"] = rules.check_identity(
                server, system_identifier=params["system_identifier"], database=login.database
            )
        with checks.named("mark") as check:
            check["msg"] = environment_mark.check(
                environment_mark.parse(marks.settings(session, server.database)),
                environment=approval.environment,
                database=server.database,
                playbook=approval.playbook,
            )
        with checks.named("primary") as check:
            check["msg"] = rules.check_primary(server)
        with checks.named("clock") as check:
            check["msg"] = rules.check_clock(
                skew_s, server_clock=server.clock, bastion_clock=bastion_clock, max_skew_s=params["max_clock_skew_s"]
            )
        if params["take_lease"]:
            with checks.named("lease") as check:
                held, made = lease_wait.wait_for(
                    lambda: take_lease(session, context, approval.playbook), params, context.progress.update
                )
                check["msg"] = f"Run {held['run_id']} {'may take' if context.check_mode else 'holds'} the lease."
        is_project = platform.is_project(session)
        target = Target("database", server.system_identifier, server.database)
        permits.grant(context.run, target)
    return context.conclude(
        checks.done,
        msg=f"{count(len(checks.done), 'check')} passed for {login} ({approval.environment}).",
        changed=bool(made),
        target=target.proven(approval.environment),
        database=server.database,
        system_identifier=server.system_identifier,
        server_version=session.server_version,
        is_managed_project=is_project,
        database_size_bytes=server.size_bytes,
        clock_skew_s=round(skew_s, 3),
        lease=held,
        executed_queries=made,
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_preflight",
        argument_spec=postgres.argument_spec()
        | {
            "system_identifier": {"type": "str", "default": ""},
            "max_clock_skew_s": {"type": "int", "default": 10},
        }
        | lease_wait.argument_spec(),
    )


if __name__ == "__main__":
    main()
