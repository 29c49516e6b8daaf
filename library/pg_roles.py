#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_roles
short_description: Makes the least-privilege SQL roles of the project
description:
  - Makes the groups C(runbook_read), C(runbook_maintain), C(runbook_backup) and C(runbook_restore), gives them the
    rights that they need and no more, and makes login users that are members of them.
  - C(runbook_read) sees statistics and the lease. C(runbook_maintain) also moves rows between the tables of
    O(archives), vacuums and analyzes every table, holds the lease, and writes the heartbeat of M(pg_heartbeat), whose
    table is made. C(runbook_backup) reads every table (from PostgreSQL 14 on) and holds the lease; its users get
    C(BYPASSRLS), since a backup that leaves rows out is none. C(runbook_restore) makes databases and ends sessions.
  - On PostgreSQL 17 and later C(runbook_maintain) vacuums as a member of C(pg_maintain). Before, only owners may
    vacuum, so it becomes a member of the tables' owners, with a warning. It never becomes a member of a superuser.
  - It adds what is missing, in one transaction. Rights that were granted otherwise are left alone.
extends_documentation_fragment: runbook_postgresql
options:
  archives:
    description:
      - The tables between which rows are moved, as M(pg_archive) takes them. An archive that does not exist yet is left
        out, with a warning.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: The table that rows are moved from, as C(schema.table).
        type: str
        required: true
      archive:
        description: The table that they are moved to, as C(schema.table).
        type: str
        required: true
  users:
    description:
      - The users who log in.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      role:
        description: The group it belongs to, without its prefix.
        type: str
        required: true
        choices: [read, maintain, backup, restore]
      password:
        description:
          - Set when the user is made, and not touched afterwards; change it with psql's C(\password). Only its
            SCRAM verifier is sent to the server. Without it the user needs another way to log in.
        type: str
attributes:
  check_mode:
    support: full
    description: Nothing is changed; the plan is the same.
  diff_mode:
    support: full
    description: The diff shows the statements.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Make the roles, and the user that the bastion logs in as
  pg_roles:
    archives:
      - source: public.audit_log
        archive: public.audit_log_archive
    users:
      - name: runbook_bastion
        role: maintain
        password: "{{ vault_runbook_bastion_password }}"
      - name: runbook_dumper
        role: backup
        password: "{{ vault_runbook_dumper_password }}"
    login_host: db.example.com
    login_user: postgres
    login_password: "{{ vault_admin_password }}"
    login_db: mental_scribe
    ssl_mode: verify-full
"""

RETURN = r"""
changed:
  description: Whether anything was missing.
  type: bool
  returned: always
msg:
  description: One sentence.
  type: str
  returned: always
status:
  description: V(ok).
  type: str
  returned: always
created_roles:
  description: Groups and users that were made, or would be in check mode.
  type: list
  elements: str
  returned: success
executed_queries:
  description: Statements that changed something, or would in check mode. They hold no password.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.runbook.drivers import heartbeat, lease, postgres
from ansible.module_utils.runbook.drivers import roles as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import roles as rules
from ansible.module_utils.runbook.rules.identifiers import QualifiedName, parse_qualified
from ansible.module_utils.runbook.rules.text import as_lines

LOCK_TIMEOUT_MS = 10_000
STATEMENT_TIMEOUT_MS = 30_000


def find_archives(session: postgres.Session, context: Context) -> list[tuple[QualifiedName, QualifiedName]]:
    """The pairs of tables that are there."""
    found = []
    for position, pair in enumerate(context.params["archives"]):
        source = parse_qualified(pair["source"], option=f"archives[{position}].source")
        archive = parse_qualified(pair["archive"], option=f"archives[{position}].archive")
        if not driver.table_exists(session, source):
            raise RunbookError(
                f"archives[{position}].source: there is no table {source} in {session.target}; correct it."
            )
        if driver.table_exists(session, archive):
            found.append((source, archive))
        else:
            context.warn(
                f"There is no archive {archive} yet, so {rules.MAINTAIN} gets no right to move rows out of {source}; "
                "let the owner run weekly_db.yml once, which makes the archive, and then this playbook again."
            )
    return found


def plan(session: postgres.Session, context: Context) -> tuple[list[str], list[tuple[Any, tuple[str, ...]]]]:
    """Roles to make, and all statements with their values, in order."""
    users = context.params["users"]
    existing = driver.existing(session, [*rules.GROUPS, *(user["name"] for user in users)])
    for name in (name for name, superuser in existing.items() if superuser):
        raise RunbookError(
            f"users: role {name} is a superuser, so limits mean nothing to it; ALTER ROLE it NOSUPERUSER first."
        )
    statements: list[tuple[Any, tuple[str, ...]]] = []
    created = [name for name in rules.GROUPS if name not in existing]
    for name in created:
        statements.append(
            (driver.create_statement(name, login=False, createdb=name == rules.RESTORE, password=False), ())
        )
    owners = driver.owners(session)
    for text in rules.warnings(session.server_version, owners):
        context.warn(text)
    memberships = rules.memberships(session.server_version, owners)
    for user in users:
        restores = user["role"] == "restore"
        if user["name"] not in existing:
            values = (driver.verifier(session, user["name"], user["password"]),) if user["password"] else ()
            statement = driver.create_statement(user["name"], login=True, createdb=restores, password=bool(values))
            statements.append((statement, values))
            created.append(user["name"])
        memberships.append(rules.Membership(f"runbook_{user['role']}", user["name"]))
    reading = [user["name"] for user in users if user["role"] == "backup"]
    blind = set(reading) - driver.see_all_rows(session, reading)
    statements += [(driver.bypass_statement(name), ()) for name in reading if name in blind]
    statements += [(driver.membership_statement(m), ()) for m in memberships if not driver.is_member(session, m)]
    if not driver.table_exists(session, QualifiedName("runbook", "heartbeat")):
        # Who is granted the rights on it need not make it.
        statements.append((heartbeat.TABLE[1], ()))
    wanted = rules.grants(
        database=session.target.database, schemas=driver.schemas(session), archives=find_archives(session, context)
    )
    statements += [
        (driver.grant_statement(g), ()) for g in wanted if g.grantee in created or not driver.is_granted(session, g)
    ]
    statements += [
        (driver.hand_over_statement(name, rules.MAINTAIN), ())
        for name in rules.TABLES
        if rules.hands_over(session.server_version, driver.own_table_owner(session, name))
    ]
    return created, statements


def core(context: Context) -> dict[str, Any]:
    """Add what is missing."""
    target = postgres.Target.from_params(context.params)
    timeouts = {"lock_timeout_ms": LOCK_TIMEOUT_MS, "statement_timeout_ms": STATEMENT_TIMEOUT_MS}
    with postgres.Session(target, **timeouts, purpose="roles") as session:
        made = lease.prepare(session, check_mode=context.check_mode)
        created, statements = plan(session, context)
        queries = made + [session.render(statement) for statement, _ in statements]
        if not context.check_mode:
            driver.apply(session, statements)
    could = "would be" if context.check_mode else "were"
    done = f"{len(created)} roles {could} made, {len(queries) - len(created)} other statements {could} run"
    result = {
        "changed": bool(queries),
        "msg": f"{target}: {done if queries else 'the roles have all their rights'}.",
        "status": "ok",
        "created_roles": created,
        "executed_queries": queries,
    }
    return result | ({"diff": {"prepared": as_lines(queries)}} if context.diff else {})


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_roles",
        argument_spec=postgres.argument_spec()
        | {
            "archives": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "source": {"type": "str", "required": True},
                    "archive": {"type": "str", "required": True},
                },
            },
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "role": {"type": "str", "required": True, "choices": ["read", "maintain", "backup", "restore"]},
                    "password": {"type": "str", "no_log": True},
                },
            },
        },
    )


if __name__ == "__main__":
    main()
