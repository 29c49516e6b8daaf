#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_roles
short_description: Create the least-privilege SQL roles of the project
description:
  - Creates the group roles C(runbook_read), C(runbook_maintain), C(runbook_backup) and C(runbook_restore), grants each
    the privileges that it needs and no more, and creates login users as members of them.
  - Adds what is missing, in one transaction. Leaves all other privileges alone.
  - Where row-level security keeps rows from C(runbook_maintain), and where an archive changes its owner, the table is
    locked until the end of the transaction. So these statements come last, and wait at most half a second for a lock;
    then everything is rolled back and tried again, 20 times in all.
  - C(runbook_read) can read statistics, page density, the last value of each sequence, and the lease.
  - C(runbook_maintain) can in addition move rows between the tables of O(archives), vacuum, analyze and reindex every
    table, hold the lease, and write the heartbeat of M(pg_heartbeat), whose table is created.
  - C(runbook_backup) can read every table (PostgreSQL 14 and later) and hold the lease. Its users get C(BYPASSRLS),
    because a backup must not leave rows out.
  - C(runbook_restore) can create databases and end sessions. It is a member of every role that owns something in the
    database, because only a member can assign restored objects to an owner. Its users get C(BYPASSRLS), because the
    proof of a restore compares every row.
  - On PostgreSQL 17 and later, C(runbook_maintain) becomes a member of C(pg_maintain). If this user may not grant that
    role, it gets C(MAINTAIN) on each table instead. On earlier versions only owners may vacuum, so it becomes a member
    of the owners of the tables, with a warning. It never becomes a member of a superuser.
  - If a table of O(archives) has row-level security, a policy named C(runbook_maintain) lets that role see all rows. An
    archive that was created by one of the project's own users is assigned to the owner of its source.
  - Default privileges of the table owners give C(runbook_read) their future sequences, C(runbook_maintain) their future
    schemas, and on PostgreSQL 18 and later C(runbook_backup) their future large objects, as far as this user may set
    them. C(runbook_backup) gets C(SELECT) on existing large objects, at most 5,000 in one run (100,000 before
    PostgreSQL 18).
  - If the extension C(pg_repack) is installed, C(runbook_maintain) gets C(USAGE) and C(CREATE) on its schema.
  - Creates the extension C(pgstattuple) in the schema C(runbook) unless it is installed. It reveals no row, and
    measures the page density of tables that C(runbook_maintain) may not read.
  - If a superuser created the schema C(runbook) and its tables, they are assigned to the owner of the database, or to
    C(runbook_restore) if that owner is a superuser. Otherwise only a superuser could restore them. Before PostgreSQL 17
    the tables are then assigned to C(runbook_maintain), which could not vacuum them otherwise; that owner may still
    hold the lease, so that it can run this later.
  - Marks the database with its environment (C(ALTER DATABASE … SET runbook.environment)), and refuses a database that
    is marked with another one. If only a superuser may do that and this user is none, the comment of the schema
    C(runbook) holds the mark.
extends_documentation_fragment: runbook_postgresql
options:
  environment:
    description:
      - Environment that the database belongs to.
    type: str
    required: true
  archives:
    description:
      - Tables between which M(pg_archive) moves rows.
      - Creates an archive that does not exist, with no more access than its source, because C(runbook_maintain) may not
        create one for the owner of the source. If this user may not either, skips it with a warning that names the
        statements to run as the owner.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Table to move rows from, as C(schema.table).
        type: str
        required: true
      archive:
        description: Table to move rows to, as C(schema.table).
        type: str
        required: true
      timestamp_column:
        description: Column with the age of a row. A new archive gets an index on it.
        type: str
        default: created_at
  cleanup_rules:
    description:
      - Rules of M(pg_cleanup). On their tables C(runbook_maintain) gets C(DELETE), and C(SELECT) on keys and times
        only; on tables whose rows foreign keys take along, C(SELECT) on the columns of the keys. Where row-level
        security is on, the policy as above.
      - What an earlier rule needed stays granted, as all other privileges do.
    type: list
    elements: dict
    default: []
  users:
    description:
      - Login users to create.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      role:
        description: Group role of the user, without the prefix C(runbook_).
        type: str
        required: true
        choices: [read, maintain, backup, restore]
      password:
        description:
          - Password, set only when the user is created. To change it later, use C(\password) of psql.
          - Only its SCRAM verifier is sent to the server, and not in check mode. Neither the server's log nor
            C(pg_stat_statements) keeps it, as far as this user may set that. A warning says where it may not. Without a
            password the user needs another way to log in.
        type: str
attributes:
  check_mode:
    support: full
    description:
      - Runs the statements in a transaction and rolls it back, so that the refusals of the real run show.
      - Does not send a password, nor what would lock a table that is in use (C(CREATE POLICY), C(ALTER TABLE … OWNER)).
        A warning names each of the latter.
  diff_mode:
    support: full
    description: Shows the statements.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Create the roles, and the users for the bastion
  pg_roles:
    environment: production
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
  description: Whether something was missing.
  type: bool
  returned: always
msg:
  description: What was created or granted, in one sentence.
  type: str
  returned: always
status:
  description: V(ok).
  type: str
  returned: always
created_roles:
  description: Groups and users that were created, or would be in check mode.
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

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import heartbeat
from ansible.module_utils.runbook.drivers.postgres import archive_access as access
from ansible.module_utils.runbook.drivers.postgres import archive_catalog as catalog
from ansible.module_utils.runbook.drivers.postgres import cleanup, lease, postgres
from ansible.module_utils.runbook.drivers.postgres import environment_mark as marks
from ansible.module_utils.runbook.drivers.postgres import roles as driver
from ansible.module_utils.runbook.drivers.postgres.roles import Step
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import environment_mark
from ansible.module_utils.runbook.rules.backup.restore_rights import Owned
from ansible.module_utils.runbook.rules.identifiers import QualifiedName, parse_qualified
from ansible.module_utils.runbook.rules.postgres import cleanup as cleanup_rules
from ansible.module_utils.runbook.rules.postgres import roles as rules
from ansible.module_utils.runbook.rules.postgres.archive_tables import with_subscribers
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, some

#: An application that asks for the same table waits as long; driver.apply tries again.
LOCK_TIMEOUT_MS = 500
#: A dry run holds nobody up.
DRY_LOCK_TIMEOUT_MS = 50
STATEMENT_TIMEOUT_MS = 30_000
#: What measures how full pages are, and shows no row.
MEASURES = "pgstattuple"
#: What rewrites a table while everybody works; all of it lies in the schema ``repack``.
REPACKS = "pg_repack"


def find_archives(
    session: postgres.Session, context: Context
) -> tuple[list[tuple[QualifiedName, QualifiedName]], list[QualifiedName], list[Step]]:
    """The pairs of tables; the archives among them that are not there yet; and what makes those."""
    pairs, made, steps = [], [], []
    for position, pair in enumerate(context.params["archives"]):
        option = f"archives[{position}]"
        source = parse_qualified(pair["source"], option=f"{option}.source")
        archive = parse_qualified(pair["archive"], option=f"{option}.archive")
        if not driver.table_exists(session, source):
            raise RunbookError(f"{option}.source: there is no table {source} in {session.target}; correct it.")
        if not driver.table_exists(session, archive):
            making = archive_making(session, context, source, archive, (option, pair["timestamp_column"]))
            if not making:
                continue
            steps += making
            made.append(archive)
        pairs.append((source, archive))
    return pairs, made, steps


def archive_making(
    session: postgres.Session,
    context: Context,
    source: QualifiedName,
    archive: QualifiedName,
    named: tuple[str, str],
) -> list[Step]:
    """What makes an archive, no more open than its source; nothing, and a warning, where this user may not.

    :param named: the option, for an error's sentence, and its column of time
    """
    option, column = named
    table = catalog.read_table(session, source, event="DELETE")
    if table is None or table.column(column) is None:
        raise RunbookError(f"{option}.timestamp_column: {source} has no column {column!r}; name the one that it has.")
    if not catalog.read_schema(session, archive.schema).exists:
        raise RunbookError(f"{option}.archive: there is no schema {archive.schema!r}; create it, or name another.")
    parted = table.partitioned_by == "r" and table.partition_columns == (column,)
    statements = access.statements(session, table, archive, column, partitioned=parted)
    if not access.may_make(session, table.owner, archive.schema):
        texts = [session.render(statement) for statement in statements]
        context.warn(
            f"There is no archive {archive} yet, {session.target.user} may not make it for {table.owner}, and "
            f"{rules.MAINTAIN} gets no right to move rows out of {source} without it; have {table.owner} run this, and "
            f"run this playbook again: {'; '.join(texts)}."
        )
        return []
    return [Step(statement) for statement in statements]


def check_users(context: Context, existing: dict[str, rules.User]) -> None:
    """Refuse names that cannot be what they are meant for."""
    for name, user in existing.items():
        if user.superuser:
            raise RunbookError(
                f"users: role {name} is a superuser, so limits mean nothing to it; ALTER ROLE it NOSUPERUSER first."
            )
    for position, user in enumerate(context.params["users"]):
        if user["name"] in rules.GROUPS or user["name"].startswith("pg_"):
            raise RunbookError(
                f"users[{position}].name: {user['name']} is a group's name, and nobody logs in as a group; name "
                "another one."
            )


def tell_of_passwords(session: postgres.Session, context: Context, existing: dict[str, rules.User]) -> None:
    """Warn where the server would keep what the new passwords are checked with."""
    new = [user["name"] for user in context.params["users"] if user["password"] and user["name"] not in existing]
    kept = rules.keepers_of_passwords(*driver.logging_settings(session)) if new else {}
    if kept:
        context.warn(rules.passwords_told(session.target.user, new, kept))


def user_steps(session: postgres.Session, context: Context, existing: dict[str, rules.User]) -> list[Step]:
    """What makes the login users, and gives those that are there what they lack."""
    steps, seen = [], set(existing)
    for user in context.params["users"]:
        name, role = user["name"], user["role"]
        if name not in seen:
            seen.add(name)
            steps.append(Step(driver.create_statement(name, login=True, createdb=role == "restore")))
            steps += [driver.password_step(session, name, user["password"])] if user["password"] else []
        elif name in existing:
            lacks = rules.attributes(existing[name], role=role)
            steps += [Step(driver.alter_statement(name, *lacks))] if lacks else []
            for text in rules.unsafe_attributes(existing[name], role=role):
                context.warn(text)
        if role in {"backup", "restore"} and not (name in existing and existing[name].bypassrls):
            hurt = "a backup stops at the first table with row-level security"
            if role == "restore":
                hurt = "a proof cannot compare tables whose row-level security is forced upon their owner"
            why = (
                f'{session.target.user} may not ALTER ROLE "{name}" BYPASSRLS (before PostgreSQL 16 only a superuser '
                f"may, since then who has it and CREATEROLE), so {hurt}; let somebody run that who may."
            )
            steps.append(Step(driver.alter_statement(name, "BYPASSRLS"), otherwise=why))
    return steps


def archive_steps(
    session: postgres.Session,
    context: Context,
    archives: list[tuple[QualifiedName, QualifiedName]],
    made: list[QualifiedName],
) -> list[Step]:
    """Archives to those who own their source, and policies for the rows that are moved."""
    steps: list[Step] = []
    owned = dict(driver.tables(session))
    for source, archive in archives:
        if archive in made:
            # It has its source's owner, row security, and the policies that the source has by now.
            both = (source, archive) if driver.closed_to_maintain(session, source) else ()
            steps += [Step(driver.policy_statement(name), shuts=True) for name in both]
            continue
        keeper, own = driver.owner(session, source), driver.owner(session, archive)
        if own.ours and own.name != keeper.name:
            context.warn(f"{archive} belongs to {own.name}, who made it; it goes to {keeper.name}, as {source} does.")
            steps.append(Step(driver.owner_statement(archive, keeper.name), shuts=True))
        for name in (source, archive):
            if not driver.closed_to_maintain(session, name):
                continue
            policy = driver.policy_statement(name)
            if owned.get(name):
                steps.append(Step(policy, shuts=True))
            else:
                context.warn(
                    f"{session.target.user} has not the rights of {driver.owner(session, name).name}, who owns {name}, "
                    f"so row-level security hides its rows from {rules.MAINTAIN}; have the owner run "
                    f"{session.render(policy)}."
                )
    return steps


def cleanup_steps(session: postgres.Session, context: Context) -> tuple[list[rules.Grant], list[Step]]:
    """What the rules of a cleanup need: rights on columns, and policies for the rows."""
    given, option = context.params["cleanup_rules"], "cleanup_rules"
    if not given:
        return [], []
    names, owned = cleanup.tables(session), dict(driver.tables(session))
    needs = []
    for rule in cleanup_rules.read(given, kept=[], held=[], option=option)[0]:
        table = catalog.read_table(session, rule.table, event="DELETE")
        roles = catalog.read_schema(session, rule.table.schema).platform_roles
        table = cleanup_rules.require(rule, table, names, roles, option=option)
        own, *along = cleanup.needs(session, rule, table)
        taken = [n for n, key in zip(along, table.referencing_keys, strict=True) if key.on_delete == "CASCADE"]
        needs += [own, *(each for each in taken if not cleanup_rules.never_cleaned(each.table))]
    grants: list[rules.Grant] = []
    steps = []
    for name in dict.fromkeys(each.table for each in needs):
        wanted = [grant for need in needs if need.table == name for grant in rules.cleanup_grants(need)]
        policy = [driver.policy_statement(name)] if driver.closed_to_maintain(session, name) else []
        if owned.get(name):
            grants += wanted
            steps += [Step(statement, shuts=True) for statement in policy]
            continue
        missing = [each for each in dict.fromkeys(wanted) if not driver.is_granted(session, each)]
        if texts := [session.render(each) for each in [*map(driver.grant_statement, missing), *policy]]:
            context.warn(
                f"{session.target.user} has not the rights of {driver.owner(session, name).name}, who owns {name}, so "
                f"{rules.MAINTAIN} may not clean up there; have the owner run {'; '.join(texts)}."
            )
    return list(dict.fromkeys(grants)), steps


def measuring_steps(session: postgres.Session) -> list[Step]:
    """The extension by which the bloat of tables is known that this project's users may not read."""
    if driver.extension_schema(session, MEASURES) is not None:
        return []
    how = f"CREATE EXTENSION {MEASURES} SCHEMA runbook"
    if not driver.offers_extension(session, MEASURES):
        how = f"install the server's contrib package, then {how}"
    why = (
        f"The extension {MEASURES} is missing, so {rules.MAINTAIN} cannot know the bloat of tables that it may not "
        f"read, and monthly_db.yml says so; as a superuser: {how}."
    )
    return [Step(driver.extension_statement(MEASURES), otherwise=why)]


def refused_join(session: postgres.Session, membership: rules.Membership) -> str:
    """What is said where this user may not let those who restore join an owner; all else goes on."""
    return (
        f"{session.target.user} may not GRANT {membership.role} TO {rules.RESTORE}, so {rules.RESTORE} cannot restore "
        f"what {membership.role} owns; let somebody run that who may, or name {membership.role} in "
        "db_restore_login_user."
    )


def handing_over(session: postgres.Session) -> tuple[list[Step], set[str]]:
    """What gives the project's own objects to somebody who is no superuser, and who they are."""
    version, database_owner = session.server_version, driver.database_owner(session)
    steps, keepers = [], set()
    own = [QualifiedName("runbook", each) for each in rules.TABLES]
    for name, owner in [(None, driver.schema_owner(session, "runbook")), *((n, driver.owner(session, n)) for n in own)]:
        keeper = rules.keeper(version, owner, database_owner=database_owner, is_table=name is not None)
        if keeper is not None:
            keepers.add(keeper)
            steps.append(
                Step(driver.owner_statement(name, keeper) if name else driver.schema_owner_statement("runbook", keeper))
            )
    return steps, keepers


def repacking_steps(session: postgres.Session) -> list[Step]:
    """Rights in the schema of pg_repack, where the extension is; its tables' owners it becomes by other means."""
    if driver.extension_schema(session, REPACKS) is None:
        return []
    grant = rules.Grant(("USAGE", "CREATE"), "SCHEMA", ("repack",), rules.MAINTAIN)
    if driver.is_granted(session, grant):
        return []
    statement = driver.grant_statement(grant)
    why = (
        f"{session.target.user} may not {session.render(statement)}, so monthly_db.yml does not use {REPACKS}; let a "
        "superuser run that."
    )
    return [Step(statement, otherwise=why)]


def opening_steps(session: postgres.Session, context: Context) -> list[Step]:
    """Large objects for those who back up, which no role opens."""
    opened, said = rules.large_objects(session.server_version, driver.closed_large_objects(session))
    for text in said:
        context.warn(text)
    return [Step(driver.large_objects_statement(opened))] if opened else []


def owned_by_superusers(session: postgres.Session, handed: tuple[str, ...]) -> dict[str, str]:
    """What each superuser owns in this database, in words; not what this run gives away."""
    found = driver.of_superusers(session, handed)
    return {each.owner: Owned.tell([one for one in found if one.owner == each.owner]) for each in found}


def plan(session: postgres.Session, context: Context) -> tuple[list[str], list[Step]]:
    """Roles to make, and all that is missing, in order."""
    users, version = context.params["users"], session.server_version
    existing = driver.existing(session, [*rules.GROUPS, *(user["name"] for user in users)])
    check_users(context, existing)
    found = environment_mark.parse(marks.settings(session, session.target.database))
    environment = context.params["environment"]
    environment_mark.check(found, environment=environment, database=session.target.database, playbook="db_roles.yml")
    admin, owners = driver.admin(session), driver.owners(session)
    archives, missing, making = find_archives(session, context)
    for text in rules.warnings(version, owners, admin):
        context.warn(text)
    if driver.has_vault(session) and any(user["role"] == "backup" for user in users):
        context.warn(
            f"{rules.BACKUP} reads everything, and so do its users: hashes of passwords in auth.users and pg_authid, "
            "and the ciphertext of vault.secrets; guard their passwords as you guard the owner's."
        )
    created = [name for name in [*rules.GROUPS, *dict.fromkeys(user["name"] for user in users)] if name not in existing]
    steps = [
        Step(driver.create_statement(name, login=False, createdb=name == rules.RESTORE))
        for name in created
        if name in rules.GROUPS
    ]
    tell_of_passwords(session, context, existing)
    steps += user_steps(session, context, existing)
    memberships = rules.memberships(version, owners, admin)
    handed, keeping = handing_over(session) if admin.superuser else ([], set())
    everybody = driver.everybody(session)
    if rules.MAINTAIN in keeping and rules.MAINTAIN not in {each.name for each in everybody}:
        everybody.append(rules.Owner(rules.MAINTAIN, superuser=False))
    joined, said = rules.restored_for(
        version, everybody, admin, owned_by_superusers(session, rules.TABLES if handed else ())
    )
    memberships += joined
    if any(user["role"] == "restore" for user in users):
        for text in said:
            context.warn(text)
    memberships += [rules.Membership(f"runbook_{user['role']}", user["name"]) for user in users]
    steps += [
        Step(statement, otherwise=refused_join(session, membership) if membership in joined else None)
        for membership in memberships
        if not driver.has_rights_of(session, membership)
        for statement in driver.membership_statements(session, membership, existing.get(membership.member))
    ]
    if not driver.table_exists(session, QualifiedName("runbook", "heartbeat")):
        # Who is granted the rights on it need not make it.
        steps.append(Step(heartbeat.TABLE[1]))
    telling = with_subscribers(catalog.read_schema(session, "runbook").publications)
    if telling:
        named = ", ".join(map(str, ["runbook.heartbeat", *dict.fromkeys(archive for _, archive in archives)]))
        context.warn(
            f"{telling} publishes every table, {named} among them: a subscriber stops at the first row of a table that "
            "it lacks. Make them on each subscriber, before weekly_db.yml or heartbeat.yml runs."
        )
    steps += [] if found else [Step(driver.mark_statement(session, environment))]
    if version >= rules.HAS_PARAMETERS and driver.may_share_mark(session) and not driver.may_carry_mark(session):
        steps.append(Step(driver.mark_carrier_statement()))
    steps += measuring_steps(session) + repacking_steps(session)
    cleaning, opening = cleanup_steps(session, context)
    steps += making + archive_steps(session, context, archives, missing) + opening
    wanted = rules.grants(
        database=session.target.database, database_owner=driver.database_owner(session),
        schemas=driver.schemas(session), archives=archives,
    )  # fmt: skip
    tables, foreign = rules.maintained(
        version, [*driver.tables(session), *((archive, True) for archive in missing)], admin
    )
    if foreign:
        context.warn(
            f"{session.target.user} may grant neither pg_maintain nor MAINTAIN on {some(foreign)}, so "
            f"{rules.MAINTAIN} does not vacuum them; let their owner GRANT MAINTAIN ON them TO {rules.MAINTAIN}."
        )
    schema = driver.extension_schema(session, MEASURES)
    if schema is not None:
        wanted.append(rules.Grant(("USAGE",), "SCHEMA", (schema,), rules.READ))
    steps += [
        driver.grant_step(session, g)
        for g in [*wanted, *cleaning, *tables]
        if g.grantee in created or not driver.is_granted(session, g)
    ]
    steps += [Step(driver.sequences_statement(schema)) for schema in driver.unread_sequences(session)]
    steps += opening_steps(session, context)
    steps += [
        Step(driver.default_statement(default))
        for default in rules.defaults(version, owners, admin)
        if not driver.is_default(session, default)
    ]
    return created, steps + handed


def add(session: postgres.Session, context: Context) -> tuple[list[str], list[str], list[str]]:
    """Plan and run what is missing: roles, statements, and what is to be said of those that were not run.

    Another database of the cluster may make the same roles at the same time. Then all is planned again, which ends, as
    there is less to do each time.
    """
    for left in reversed(range(driver.ATTEMPTS)):
        # In one transaction with the rest, so that a dry run can take it back.
        tables = [Step(statement) for statement in lease.prepare(session, check_mode=True)]
        created, steps = plan(session, context)
        try:
            return created, *driver.apply(session, tables + steps, keep=not context.check_mode)
        except driver.MovedError:
            if not left:
                raise
    raise AssertionError  # the last attempt raises


def core(context: Context) -> dict[str, Any]:
    """Add what is missing."""
    target = postgres.Target.from_params(context.params)
    lock_timeout_ms = DRY_LOCK_TIMEOUT_MS if context.check_mode else LOCK_TIMEOUT_MS
    timeouts = {"lock_timeout_ms": lock_timeout_ms, "statement_timeout_ms": STATEMENT_TIMEOUT_MS}
    with postgres.Session(target, **timeouts, purpose="roles") as session:
        permits.require_database(context.run, session)
        created, queries, said = add(session, context)
    for text in said:
        context.warn(text)
    could = "to make, {} to run" if context.check_mode else "made, {} run"
    rest = "this user may give no more; the warnings say what is missing" if said else "the roles have all their rights"
    done = f"{count(len(created), 'role')} {could.format(count(len(queries) - len(created), 'other statement'))}"
    result = {
        "changed": bool(queries),
        "msg": f"{target}: {done if queries else rest}.",
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
            "environment": {"type": "str", "required": True},
            "archives": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "source": {"type": "str", "required": True},
                    "archive": {"type": "str", "required": True},
                    "timestamp_column": {"type": "str", "default": "created_at"},
                },
            },
            "cleanup_rules": {"type": "list", "elements": "dict", "default": []},
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
