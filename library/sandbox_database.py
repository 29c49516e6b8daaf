#!/usr/bin/python
"""Fill a demonstration database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sandbox_database
short_description: Make and fill the Mental Scribe database of the sandbox
description:
  - Makes a database and fills it with synthetic data that looks like Mental Scribe's. There are audit logs and messages
    over 180 days, some 25 smaller tables, texts stored out of line, free space and dead rows from updates and deletes.
  - The database bears a mark in its comment. A database with the same mark is left as it is, whatever was done to its
    rows since. One with another mark is dropped and recreated. One without a mark is never touched, and
    one that a backup was restored into is left as it is.
options:
  name:
    description:
      - Database to make.
    type: str
    required: true
  scale:
    description:
      - Size. V(1) is some 60,000 audit rows and as many messages, V(50) is 3 million of each.
    type: float
    default: 1
  seed:
    description:
      - Another seed gives other rows; the same seed gives the same ones.
    type: int
    default: 1
  profile:
    description:
      - V(self_hosted) is a server of one's own, whose tables belong to C(mental_scribe_owner).
      - V(supabase) is the same application in a database of the shape of a Supabase project, whose owner logs in as
        C(postgres) and is no superuser. Roles, schemas, event triggers and privileges of the platform are there; users,
        files, jobs and a secret are in them. The platform's extensions are stand-ins. The server's superuser has to be
        C(supabase_admin), and the server PostgreSQL 15 or newer.
      - V(fresh_supabase) is such a project without an application, to restore one into.
    type: str
    choices: [self_hosted, supabase, fresh_supabase]
    default: self_hosted
  owner_password:
    description:
      - Password of who may do what the owner of all tables may, C(mental_scribe_migrations), or in a Supabase project
        C(postgres). Set when the database is made. Without it that role cannot log in with one.
    type: str
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    support: full
    description: Says whether the database would be made.
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

- name: A fresh project of the shape that Supabase gives it
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
  description: One sentence that says what was done.
  type: str
  returned: always
status:
  description: V(ok), or V(unknown) where check mode met no server.
  type: str
  returned: always
audit_rows:
  description: Rows made in C(audit_log).
  type: int
  returned: success
message_rows:
  description: Rows made in C(messages), some of which were deleted again to leave free space.
  type: int
  returned: success
duration_s:
  description: Seconds that the making took.
  type: float
  returned: success
executed_queries:
  description: Statements on the database as a whole; those that fill it are not listed.
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
        return result | {
            "changed": True,
            "status": Status.UNKNOWN,
            "msg": f"Would make database {name!r} with {size}, as far as can be told: {error}",
        }
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
