#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_preflight
short_description: Refuses a run that should not touch this database, then takes the lease
description:
  - One call checks everything that must be true before a run may write to a database, and then takes the lease, so that
    two runs never meet.
  - The checks run in this order and stop at the first one that is not met, C(record) (the run's journal is being
    written, with room for it), C(inventory) (exactly one), C(environment) (the inventory says what it is), C(approval)
    (production was confirmed, or this is one of its scheduled jobs), C(target) (the database is named in full),
    C(connection) (it answers, and no transaction pooler stands in between), C(identity) (the server proves that it is
    the cluster and database which the inventory means), C(mark) (the database says itself that it belongs to this
    environment), C(primary) (not a standby), C(clock) (server and bastion agree on the time), C(lease).
  - What passed is written down in the run's folder. Modules that write look for it, and refuse a target that has not
    passed in this very run; so no order of tasks, tag or option of the command line leads around these checks.
  - A mistake on the command line never reaches a server, because the checks that need no connection stand first.
  - The lease is a row in the table C(runbook.lease) of the database. It ends by itself after 15 minutes; modules renew
    it while they work. M(pg_lease) gives it back.
extends_documentation_fragment: runbook_postgresql
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
        V(pitr.yml backup). It is the lease's purpose, and is compared with O(scheduled_jobs).
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
        playbook. It counts only where C(-e preflight_job=) said it in this run.
    type: str
    default: ''
  scheduled_jobs:
    description:
      - The jobs that may run unattended, each with its O(playbook).
    type: dict
    default: {}
  system_identifier:
    description:
      - The cluster that the inventory means, as C(pg_control_system()) tells it. Empty is refused, with the value that
        was found.
    type: str
    default: ''
  max_clock_skew_s:
    description:
      - Largest difference between the clocks of server and bastion that is accepted, in seconds.
    type: int
    default: 300
  lease_wait_s:
    description:
      - How long to wait for another run that holds the lease, in seconds, 0 to 86400. V(0) refuses at once.
    type: int
    default: 0
  take_lease:
    description:
      - Whether to take the lease after all checks. A playbook sets V(false) that writes nothing to the database, or
        looks after the lease itself. Modules that write under the lease refuse without it.
    type: bool
    default: true
  target:
    description:
      - V(database) checks the database and takes its lease. V(none) ends after C(approval), for playbooks whose
        database may be gone, or that work on something else, which proves itself to its own module.
    type: str
    choices: [database, none]
    default: database
attributes:
  check_mode:
    support: full
    description: All checks run. The lease is read, not taken; one that is held is refused as in the real run.
  diff_mode:
    support: none
    description: Nothing but the lease is written.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Check, then take the lease
  pg_preflight:
    environment: "{{ runbook_environment }}"
    inventory_sources: "{{ ansible_inventory_sources }}"
    playbook: weekly_db.yml
    confirm: "{{ confirm | default('') }}"
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
    - Whether the lease's table had to be made. Taking a lease is bookkeeping of the run and does not count as a change.
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
  description: The checks that ran, in order, each with C(name), C(status) and C(msg).
  type: list
  elements: dict
  returned: always
environment:
  description: What the inventory is.
  type: str
  returned: success
database:
  description: Name of the database.
  type: str
  returned: success and O(target) is V(database)
system_identifier:
  description: Identifier of the cluster.
  type: str
  returned: success and O(target) is V(database)
server_version:
  description: PostgreSQL's C(server_version_num).
  type: int
  returned: success
database_size_bytes:
  description: Size of the database, which the record follows from run to run.
  type: int
  returned: success
clock_skew_s:
  description: How far the server's clock is ahead of the bastion's, in seconds, beyond the doubt of half a round trip.
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

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import journal, permits
from ansible.module_utils.runbook.drivers.postgres import environment_mark as marks
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import environment_mark
from ansible.module_utils.runbook.rules import preflight as rules
from ansible.module_utils.runbook.rules.run import Permit
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000
#: Seconds between two looks at a lease that another run holds.
LEASE_POLL_S = 2.0
MOST_LEASE_WAIT_S = 86_400


@dataclass
class Checks:
    """The checks so far; the first that is not met ends the run, and is kept with the others."""

    done: list[dict[str, str]] = field(default_factory=list)

    @contextmanager
    def named(self, name: str) -> Iterator[dict[str, str]]:
        """One check; the block puts its sentence into ``msg``, or raises."""
        entry = {"name": name, "status": "ok", "msg": ""}
        self.done.append(entry)
        try:
            yield entry
        except RunbookError as error:
            entry |= {"status": str(error.status), "msg": error.message}
            error.context["checks"] = self.done
            raise


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


def wait_for_lease(session: postgres.Session, context: Context) -> tuple[dict[str, Any], list[str]]:
    """:func:`take_lease`, tried again for as long as another run holds the lease and ``lease_wait_s`` allows."""
    longest_s = context.params["lease_wait_s"]
    begun = time.monotonic()
    while True:
        try:
            return take_lease(session, context)
        except RunbookError as error:
            waited_s = time.monotonic() - begun
            if "lease_holder" not in error.context or waited_s >= longest_s:
                raise
            context.progress.update("wait for the lease", round(waited_s), longest_s, "s")
            time.sleep(min(LEASE_POLL_S, longest_s - waited_s))


def take_lease(session: postgres.Session, context: Context) -> tuple[dict[str, Any], list[str]]:
    """Take the lease, or in check mode say what taking it would do; with the statements that made its table."""
    run_id = context.run.id
    if run_id is None:
        raise RunbookError("RUNBOOK_RUN_ID is not set, so no run could hold the lease; start ansible-playbook.")
    made = lease.prepare(session, check_mode=context.check_mode)
    if context.check_mode:
        decision = lease.stand(session, run_id=run_id).decision
        return {"run_id": run_id, "decision": decision, "expires_at": None}, made
    decision = lease.acquire(session, context.run, purpose=context.params["playbook"])
    held = lease.read(session)
    expires_at = held.expires_at.astimezone(UTC).isoformat() if held else None
    return {"run_id": run_id, "decision": decision, "expires_at": expires_at}, made


def permit(context: Context, server: rules.Server | None = None) -> None:
    """Let this run's modules write to what passed."""
    run_id = context.run.id
    if run_id is None:
        raise RunbookError("RUNBOOK_RUN_ID is not set, so no run could be permitted anything; start ansible-playbook.")
    proven = {"system_identifier": server.system_identifier, "database": server.database} if server else {}
    environment = context.params["environment"]
    permits.grant(context.run, Permit(run_id, context.run.host, environment, **proven, check_mode=context.check_mode))


def without_database(context: Context, checks: Checks) -> dict[str, Any]:
    """The end of the checks where there is no database to look at."""
    permit(context)
    return {
        "changed": False,
        "msg": f"{count(len(checks.done), 'check')} passed ({context.params['environment']}); no database was asked.",
        "status": "ok",
        "environment": context.params["environment"],
        "checks": checks.done,
        "executed_queries": [],
    }


def core(context: Context) -> dict[str, Any]:
    """Check, then take the lease."""
    params, checks = context.params, Checks()
    context.require_bounds({"lease_wait_s": (0, MOST_LEASE_WAIT_S)})
    with checks.named("record") as check:
        check["msg"] = rules.check_record(journal.inspect())
    with checks.named("inventory") as check:
        check["msg"] = rules.check_inventory(params["inventory_sources"])
    with checks.named("environment") as check:
        check["msg"] = rules.check_environment(params["environment"], params["inventory_sources"][0])
    with checks.named("approval") as check:
        asked = {key: params[key] for key in ("environment", "confirm", "job", "scheduled_jobs", "playbook")}
        check["msg"] = rules.check_approval(**asked, said=permits.said(context.run))
    if params["target"] == "none":
        return without_database(context, checks)
    # The maintenance window and the freeze calendar belong here; until they come, no check claims to have seen them.
    with checks.named("target") as check:
        # Without the pin: who answered is a check of its own, below.
        target = postgres.Target.from_params(params | {"system_identifier": None})
        check["msg"] = f"The target is {target}."
    with checks.named("connection") as check:
        session = postgres.Session(
            target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS, purpose="preflight"
        )
        check["msg"] = f"Connected to PostgreSQL {session.server_version // 10000}."
    held: dict[str, Any] = {"run_id": context.run.id, "decision": "none", "expires_at": None}
    made: list[str] = []
    with session:
        with checks.named("identity") as check:
            server, skew_s, bastion_clock = look_at(session)
            check["msg"] = rules.check_identity(
                server, system_identifier=params["system_identifier"], database=target.database
            )
        with checks.named("mark") as check:
            check["msg"] = environment_mark.check(
                environment_mark.parse(marks.settings(session, server.database)),
                environment=params["environment"],
                database=server.database,
                playbook=params["playbook"],
            )
        with checks.named("primary") as check:
            check["msg"] = rules.check_primary(server)
        with checks.named("clock") as check:
            check["msg"] = rules.check_clock(
                skew_s, server_clock=server.clock, bastion_clock=bastion_clock, max_skew_s=params["max_clock_skew_s"]
            )
        if params["take_lease"]:
            with checks.named("lease") as check:
                held, made = wait_for_lease(session, context)
                check["msg"] = f"Run {held['run_id']} {'may take' if context.check_mode else 'holds'} the lease."
        permit(context, server)
    return {
        "changed": bool(made),
        "msg": f"{count(len(checks.done), 'check')} passed for {target} ({params['environment']}).",
        "status": "ok",
        "environment": params["environment"],
        "database": server.database,
        "system_identifier": server.system_identifier,
        "server_version": session.server_version,
        "database_size_bytes": server.size_bytes,
        "clock_skew_s": round(skew_s, 3),
        "lease": held,
        "checks": checks.done,
        "executed_queries": made,
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_preflight",
        # It looks at the record itself, as one of its checks.
        needs_record=False,
        argument_spec=postgres.argument_spec()
        | {
            "environment": {"type": "str", "required": True},
            "inventory_sources": {"type": "list", "elements": "str", "required": True},
            "playbook": {"type": "str", "required": True},
            "confirm": {"type": "str", "default": ""},
            "job": {"type": "str", "default": ""},
            "scheduled_jobs": {"type": "dict", "default": {}},
            "system_identifier": {"type": "str", "default": ""},
            "max_clock_skew_s": {"type": "int", "default": 300},
            "lease_wait_s": {"type": "int", "default": 0},
            "take_lease": {"type": "bool", "default": True},
            "target": {"type": "str", "default": "database", "choices": ["database", "none"]},
        },
    )


if __name__ == "__main__":
    main()
