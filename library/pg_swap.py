#!/usr/bin/python
"""Module pg_swap: a restored database takes the name of the live one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_swap
short_description: Let a restored database take the place of the live one
description:
  - Renames the live database to C(<database>_before_<time>), and the restored one to the live one's name, in one
    transaction. So there is never a moment without a live database, and a run that is killed leaves either both old
    names or both new ones.
  - Sessions of both databases are ended, and new ones wait for the fraction of a second that the renaming takes. An
    application that connects again by itself meets the restored database.
  - Owner, privileges, settings, connection limit and comment of the live database are carried over.
  - The database that was swapped out is kept, whole. To undo, call the module again with that one as O(replacement).
  - Only a database that M(pg_restore) proved equal to its backup is accepted, or one that a swap replaced. One
    that was restored without the rows of some tables, or without an extension, needs O(accept_without).
options:
  database:
    description:
      - Name of the live database.
    type: str
    required: true
  replacement:
    description:
      - Name of the database that takes its place.
    type: str
    required: true
  grace_s:
    description:
      - Wait at most this long for a moment in which no transaction runs in the live database, in seconds, 0 to 3600.
        Then sessions are ended, whatever they do.
    type: int
    default: 10
  accept_without:
    description:
      - What the replacement may be without - tables, as C(schema.table), that its backup was told to leave the rows of
        (C(without_rows) of M(pg_backup)), and extensions that its restore left out. All of them have to be named.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - runbook_postgresql
attributes:
  check_mode:
    description: All checks run, and the result holds the statements of the real run.
    support: full
  diff_mode:
    description: Shows which name goes where, and what is carried over.
    support: full
notes:
  - O(login_db) is a third database, as a rule V(postgres), because a database cannot be renamed over a connection to
    itself. For the same reason it does not work where the live database is C(postgres) itself, as on Supabase.
  - Needs a superuser, or the owner of both databases with CREATEDB, who is a member of C(pg_signal_backend).
    The owner also needs C(SET ON PARAMETER) (PostgreSQL 15 and later) for each parameter of the live database that
    only superusers set; C(runbook.environment), its mark, is one.
  - What M(pg_restore) put into the restored database is not touched, but for the lease in C(runbook.lease), which
    belonged to the run that made the backup.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: The restored database takes the place of the live one
  pg_swap:
    login_host: db.example.com
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: postgres
    database: mental_scribe
    replacement: mental_scribe_restore_2026-11-23T03-00-00Z

- name: Undo it
  pg_swap:
    login_host: db.example.com
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: postgres
    database: mental_scribe
    replacement: mental_scribe_before_2026-11-23T09-12-44Z
"""

RETURN = r"""
msg:
  description: What has which name now, and how to undo it.
  returned: always
  type: str
status:
  description: V(ok), V(breach) where it was refused, or V(unknown) where a server gave no answer.
  returned: always
  type: str
database:
  description: Name of the live database.
  returned: success
  type: str
replacement:
  description: Name that the new live database had before.
  returned: success
  type: str
previous:
  description: Name that the former live database has now.
  returned: success
  type: str
ended_sessions:
  description: Sessions that were ended.
  returned: success
  type: int
closed_s:
  description: Seconds during which new sessions had to wait.
  returned: success
  type: float
executed_queries:
  description: SQL that ran, or would run.
  returned: success
  type: list
  elements: str
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import swap as driver
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import swap as rules

if TYPE_CHECKING:
    from datetime import datetime

    from ansible.module_utils.runbook.rules.run import Run

LOCK_TIMEOUT_MS = 5_000
#: The server itself waits 5 s for sessions that were told to end.
STATEMENT_TIMEOUT_MS = 30_000
MAX_GRACE_S = 3_600


def session(target: postgres.Target) -> postgres.Session:
    """A connection with bounds."""
    return postgres.Session(
        target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS, purpose="pg_swap"
    )


def statements(plan: rules.Plan, now: datetime, run_id: str) -> list[Any]:
    """What the one transaction is made of."""
    live, new = plan.live, plan.replacement
    aside = rules.Marker("previous", live.name, f"{now:%Y-%m-%dT%H:%M:%SZ}", run=run_id, replaced_by=new.name)
    return [
        *driver.copy_properties(live, new, rules.setting_values),
        driver.rename(live.name, plan.previous_name),
        driver.rename(new.name, live.name),
        driver.comment(plan.previous_name, str(aside)),
        driver.comment(live.name, live.comment),
    ]


def lost_extensions(target: postgres.Target, plan: rules.Plan) -> list[str]:
    """What to say of extensions of the live database that the replacement lacks: its restore left them out."""
    with session(replace(target, database=plan.live.name)) as live:
        wanted = driver.extensions(live)
    with session(replace(target, database=plan.replacement.name)) as new:
        there = driver.extensions(new)
    statements = "; ".join(statement for name, statement in wanted.items() if name not in there)
    if not statements:
        return []
    lacks = f"{plan.replacement.name} lacks extensions that {plan.live.name} has"
    return [f"{lacks}; before or after the swap, run in it as a superuser: {statements}."]


def leave_leases(target: postgres.Target, plan: rules.Plan, run: Run) -> None:
    """Give back the lease of this run, which no connection to that database could give back afterwards.

    :raises RunbookError: this run does not hold it
    """
    with session(replace(target, database=plan.live.name)) as live:
        with lease.writing(live, run):
            pass
        lease.release(live, run_id=str(run.id))
    with session(replace(target, database=plan.replacement.name)) as new:
        left = lease.read(new)
        if left is not None:
            lease.release(new, run_id=left.run_id)


def core(context: Context) -> dict[str, Any]:
    """Exchange the names."""
    params, run_id = context.params, context.run.id
    context.require_bounds({"grace_s": (0, MAX_GRACE_S)})
    for option in ("database", "replacement"):
        if not params[option]:
            raise RunbookError(
                f"{option}: it is empty; name the {'live' if option == 'database' else 'restored'} database"
                f"{' (-e db_restore_replacement=…)' if option == 'replacement' else ''}."
            )
    target = postgres.Target.from_params(params)
    with session(target) as connection, driver.explained():
        permits.require_database(context.run, connection, database=params["database"])
        databases = driver.databases(connection)
        previous = rules.done_before(databases, params["database"], params["replacement"])
        if previous:
            message = f"{params['replacement']} is {params['database']} already; the one before is {previous}."
            names = {"database": params["database"], "replacement": params["replacement"], "previous": previous}
            figures = {"ended_sessions": 0, "closed_s": 0.0, "executed_queries": []}
            return {"changed": False, "msg": message} | names | figures
        now = driver.server_now(connection)
        plan = rules.plan(
            databases,
            driver.connected(connection),
            live=params["database"],
            replacement=params["replacement"],
            now=now,
            accept_without=params["accept_without"],
        )
        for warning in [*plan.warnings, *lost_extensions(target, plan)]:
            context.warn(warning)
        todo = statements(plan, now, run_id or "")
        shown = {"diff": {"prepared": rules.describe(plan)}} if context.diff else {}
        said = shown | rules.result(plan) | {"executed_queries": [connection.render(each) for each in todo]}
        if context.check_mode:
            message = (
                f"{plan.replacement.name} would become {plan.live.name}, and the one before be kept as "
                f"{plan.previous_name}."
            )
            return {"changed": True, "msg": message, "ended_sessions": 0, "closed_s": 0.0} | said
        leave_leases(target, plan, context.run)
        until = time.monotonic() + params["grace_s"]
        while driver.is_busy(connection, plan.live.oid) and time.monotonic() < until:
            time.sleep(0.1)
        terminator = driver.SessionTerminator(lambda: session(target), [plan.live.oid, plan.replacement.oid])
        closed_s = driver.exchange(connection, todo, terminator)
        return {
            "changed": True,
            "msg": rules.sentence(plan, ended=terminator.ended, closed_s=closed_s),
            "ended_sessions": terminator.ended,
            "closed_s": round(closed_s, 3),
        } | said


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_swap",
        argument_spec=postgres.argument_spec()
        | {
            "database": {"type": "str", "required": True},
            "replacement": {"type": "str", "required": True},
            "grace_s": {"type": "int", "default": 10},
            "accept_without": {"type": "list", "elements": "str", "default": []},
        },
    )


if __name__ == "__main__":
    main()
