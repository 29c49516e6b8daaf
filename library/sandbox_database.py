#!/usr/bin/python
"""Fill a demonstration database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_database
short_description: Create the synthetic Mental Scribe database of the sandbox
description:
  - Creates a database and fills it with synthetic data in the shape of Mental Scribe's. It has audit logs and messages
    of 180 days, about 25 smaller tables, TOASTed texts, and free space and dead rows from updates and deletes.
  - The comment of the database holds a mark of the options. A database with the same mark is not changed, whatever
    happened to its rows. One with another mark is dropped and created again.
  - A database without a mark, or one into which a backup was restored, is never changed.
options:
  name:
    description:
      - Name of the database.
    type: str
    required: true
  scale:
    description:
      - Size of the data. V(1) is about 60,000 audit rows and as many messages, V(50) is 3 million of each.
    type: float
    default: 1
  seed:
    description:
      - Seed of the random data. The same seed gives the same rows.
    type: int
    default: 1
  profile:
    description:
      - V(self_hosted) is the database of a self-managed server. C(mental_scribe_owner) owns the tables.
      - V(supabase) is the same application in the shape of a Supabase project, where C(postgres) is the owner and not a
        superuser. It has the roles, schemas, event triggers and privileges of the platform, with users, files, jobs and
        a secret. The extensions of the platform are replaced by stubs. Requires PostgreSQL 15 or later, and
        C(supabase_admin) as superuser.
      - V(fresh_supabase) is such a project without the application, as the target of a restore.
    type: str
    choices: [self_hosted, supabase, fresh_supabase]
    default: self_hosted
  owner_password:
    description:
      - Password of C(mental_scribe_migrations), which has the rights of the table owner; in a Supabase project, of
        C(postgres). Set only when the database is created. Without it the role cannot log in with a password.
    type: str
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    support: full
    description: Reports whether the database would be created.
author: Mental Scribe operations (@mental-scribe)
"""

EXAMPLES = r"""
- name: Fill the sandbox
  sandbox_database:
    login_host: 127.0.0.1
    login_port: 54321
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: postgres
    name: mental_scribe

- name: Create a fresh project in the shape of Supabase
  sandbox_database:
    login_host: 127.0.0.1
    login_port: 54321
    login_user: supabase_admin
    login_password: "{{ sandbox_superuser_password }}"
    login_db: postgres
    name: fresh
    profile: fresh_supabase
    owner_password: "{{ db_login_password }}"
"""

RETURN = r"""
msg:
  description: What was done, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(unknown) if the server did not answer in check mode.
  type: str
  returned: always
audit_rows:
  description: Number of rows created in C(audit_log).
  type: int
  returned: success
message_rows:
  description: Number of rows created in C(messages). Some are deleted again to leave free space.
  type: int
  returned: success
duration_s:
  description: Duration in seconds.
  type: float
  returned: success
executed_queries:
  description: Statements on the database itself, without those that fill it.
  type: list
  elements: str
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import environment_mark
from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target, argument_spec
from ansible.module_utils.runbook.drivers.sandbox import demo_database as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.environment_mark import parse
from ansible.module_utils.runbook.rules.sandbox import demo_database as rules
from ansible.module_utils.runbook.rules.sandbox import demo_project
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count

ENVIRONMENT = "sandbox"


def contents(profile: str, *, scale: float, seed: int) -> driver.Contents:
    """What a profile makes."""
    if profile == "self_hosted":
        return driver.Contents(rules.MIGRATIONS, rules.steps(scale=scale, seed=seed), rules.traffic())
    filled = profile == "supabase"
    return driver.Contents(
        managed.OWNER,
        steps=demo_project.steps(scale=scale, seed=seed) if filled else (),
        traffic=rules.traffic() if filled else (),
        roles=demo_project.roles(),
        platform=demo_project.platform(),
    )


def mark_environment(session: Session, names: list[str]) -> bool:
    """Let each of the server's databases say that it belongs to the sandbox; whether that had to be said."""
    missing = [name for name in names if parse(environment_mark.settings(session, name)) != ENVIRONMENT]
    for name in missing:
        session.execute(environment_mark.statement(name, ENVIRONMENT))
    return bool(missing)


def core(context: Context) -> dict[str, Any]:
    """Compare the mark with what is wanted; make the database where they differ."""
    params = context.params
    name, scale, seed = params["name"], params["scale"], params["seed"]
    fresh = params["profile"] == "fresh_supabase"
    rows = rules.sizes(scale)
    if fresh:
        rows = dict.fromkeys(rows, 0)
    wanted = contents(params["profile"], scale=scale, seed=seed)
    target = Target.from_params(params)
    if wanted.platform and target.user != managed.SUPERUSER:
        raise RunbookError(
            f"login_user: {target.user!r} cannot make a Supabase project; name {managed.SUPERUSER!r}, whom initdb has "
            "to make the server."
        )
    result: dict[str, Any] = {
        "changed": False,
        "audit_rows": rows["audit"],
        "message_rows": rows["messages"],
        "duration_s": 0.0,
        "executed_queries": [],
    }
    size = (
        f"{count(rows['audit'], 'audit row')} and {count(rows['messages'], 'message')} (scale {scale:g}, seed {seed})"
    )
    if wanted.platform:
        size = "nothing but what a Supabase project comes with" if fresh else f"{size} in a Supabase project"
    try:
        session = Session(target, lock_timeout_ms=5_000, statement_timeout_ms=60_000, purpose="sandbox_database")
    except RunbookError as error:
        if not context.check_mode:
            raise
        msg = f"Would make database {name!r} with {size}, as far as can be told: {error}"
        return context.conclude(
            Status.UNKNOWN, msg=msg, fail_on_breach=False, fail_on_unknown=False, **(result | {"changed": True})
        )
    with session:
        owner = parse(environment_mark.settings(session, target.database))
        if owner not in (None, ENVIRONMENT):
            raise RunbookError(
                f"login_host: the server's database {target.database!r} carries the mark of environment {owner!r}; a "
                "sandbox is made on no server of another environment, name the sandbox's own."
            )
        every = [*wanted.roles, *wanted.platform, *wanted.steps, *wanted.traffic]
        mark = {"fingerprint": rules.fingerprint(every), "scale": scale, "seed": seed}
        found = driver.look(session, name)
        if found in ({}, mark | {"ready": True}):
            if not context.check_mode:
                result["changed"] = mark_environment(session, [target.database, name])
            whence = f"made with {size}" if found else "and a backup was restored into it, so it is left as it is"
            return result | {"msg": f"Database {name!r} is there, {whence}."}
        if found is None:
            why = ""
        elif not found["ready"]:
            why = " again, because its making was cut short,"
        else:
            why = f" again instead of the one with scale {found['scale']:g} and seed {found['seed']}"
        result |= {"changed": True, "diff": {"prepared": as_lines([f"make database {name}{why} with {size}"])}}
        if context.check_mode:
            return result | {"msg": f"Would make database {name!r}{why} with {size}."}
        started = time.monotonic()

        def show(label: str, done: int, total: int) -> None:
            context.progress.update(label, done, total, "steps", final=done == total)

        driver.make(session, name, mark=mark, contents=wanted, password=params["owner_password"], on_step=show)
        mark_environment(session, [target.database, name])
        duration = round(time.monotonic() - started, 1)
        return result | {
            "msg": f"Made database {name!r}{why} with {size} in {duration} s.",
            "duration_s": duration,
            "executed_queries": session.executed_queries,
        }


def main() -> None:
    """Entry point."""
    run_module(
        core,
        name="sandbox_database",
        argument_spec=argument_spec()
        | {
            "name": {"type": "str", "required": True},
            "scale": {"type": "float", "default": 1},
            "seed": {"type": "int", "default": 1},
            "profile": {
                "type": "str",
                "default": "self_hosted",
                "choices": ["self_hosted", "supabase", "fresh_supabase"],
            },
            "owner_password": {"type": "str", "no_log": True},
        },
    )


if __name__ == "__main__":
    main()
