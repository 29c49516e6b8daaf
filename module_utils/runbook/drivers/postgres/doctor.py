"""What a user of a database may do, looked up without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.backup import swap
from ansible.module_utils.runbook.drivers.postgres import lease, roles, vacuum
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.environment_mark import SETTING
from ansible.module_utils.runbook.rules.postgres.roles import HAS_MAINTAIN, HAS_PARAMETERS, MAKER_JOINS
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

_USER_TABLES = (
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm')"
    " AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
)


def _lease(session: Session) -> list[str]:
    try:
        lease.prepare(session, check_mode=True)
    except RunbookError:
        return ["the lease, runbook.lease"]
    return []


def _lacks(session: Session, name: QualifiedName, privileges: tuple[str, ...]) -> list[str]:
    """Privileges that this user lacks on a table; none where there is no such table."""
    rows = session.query(
        "SELECT p FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest(%s::text[]) AS p"
        " WHERE n.nspname = %s AND c.relname = %s"
        " AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, p))",
        (list(privileges), *name),
    )
    return [f"{', '.join(row['p'] for row in rows)} on {name}"] if rows else []


def may_maintain(session: Session) -> tuple[list[str], list[str]]:
    """What the lease asks for that this user lacks; and the tables that it may not vacuum."""
    tables = [
        str(table.name)
        for table in vacuum.read_tables(session)
        if not table.permitted and not table.name.schema.startswith("pg_") and table.name.schema != "information_schema"
    ]
    return _lease(session), tables


def only_superusers_vacuum(session: Session) -> bool:
    """Whether there are tables that no right lets anybody else vacuum."""
    return session.server_version < HAS_MAINTAIN and any(owner.superuser for owner in roles.owners(session))


def may_archive(session: Session, source: QualifiedName, archive: QualifiedName) -> list[str]:
    """What moving rows asks for that this user lacks."""
    if not roles.table_exists(session, source):
        return [f"a table {source} to archive from"]
    lacks = _lacks(session, source, ("SELECT", "DELETE"))
    if roles.table_exists(session, archive):
        return lacks + _lacks(session, archive, ("SELECT", "INSERT"))
    # It is made for the source's owner, so only who may act as that one can make it.
    may = session.query(
        "SELECT pg_has_role(c.relowner, 'USAGE') AS may FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        tuple(source),
    )[0]["may"]
    return lacks if may else [*lacks, f"the archive {archive}, which the owner of {source} has to make"]


def may_beat(session: Session, table: QualifiedName) -> list[str]:
    """What a heartbeat asks for that this user lacks."""
    if not roles.table_exists(session, table):
        return [f"the table {table}"]
    return _lacks(session, table, ("SELECT", "INSERT", "DELETE"))


def may_back_up(session: Session) -> tuple[list[str], list[str], list[str]]:
    """What the lease asks for that this user lacks; tables that it cannot read; and those that hide rows from it."""
    rows = session.query(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, row_security_active(c.oid) AS hides,"
        " has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS reads"
        + _USER_TABLES
        + " ORDER BY 1"
    )
    unread = [row["name"] for row in rows if not row["reads"]]
    return _lease(session), unread, [row["name"] for row in rows if row["reads"] and row["hides"]]


def unseen(session: Session) -> list[str]:
    """Tables whose statistics are hidden from this user: it may not read them, or not all of their rows."""
    _, unread, hidden = may_back_up(session)
    return [*unread, *hidden]


def roles_and_own(session: Session) -> tuple[set[str], set[str]]:
    """Every role of the server, and those that this user can give objects to."""
    gives = " AND pg_has_role(oid, 'SET')" if session.server_version >= MAKER_JOINS else ""
    rows = session.query(f"SELECT rolname, pg_has_role(oid, 'USAGE'){gives} AS may FROM pg_roles")  # noqa: S608 - words of ours
    return {row["rolname"] for row in rows}, {row["rolname"] for row in rows if row["may"]}


def mark_not_carried(session: Session) -> str | None:
    """What this user lacks for a copy to get the mark that the database carries as a setting; None where it can."""
    if session.server_version < HAS_PARAMETERS or roles.may_carry_mark(session) or roles.may_share_mark(session):
        return None
    settings = swap.databases(session)[session.target.database].settings
    if all(each.name != SETTING for each in settings):
        return None
    return f"SET ON PARAMETER {SETTING} WITH GRANT OPTION, which runbook_restore needs for a swap"


def may_see_all(session: Session) -> bool:
    """Whether this user sees the statistics of others."""
    return bool(session.query("SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS may")[0]["may"])


def may_restore(session: Session) -> tuple[list[str], list[str]]:
    """What restoring, swapping and rolling back asks for that this user lacks; and superusers who own tables.

    Who restores gives each object back to its owner, and the copy the settings of the living database.
    """
    (me,) = session.query(
        "SELECT rolsuper, rolcreatedb, rolbypassrls, pg_has_role('pg_signal_backend', 'USAGE') AS signals,"
        " (SELECT count(*) FROM pg_class WHERE relrowsecurity AND relforcerowsecurity) AS forced"
        " FROM pg_roles WHERE rolname = current_user"
    )
    if me["rolsuper"]:
        return [], []
    owners = roles.everybody(session)
    lacks = _lease(session)
    lacks += [] if me["rolcreatedb"] else ["CREATEDB"]
    lacks += [] if me["signals"] else ["pg_signal_backend"]
    lacks += [] if me["rolbypassrls"] or not me["forced"] else [f"BYPASSRLS for {count(me['forced'], 'table')}"]
    foreign = [each.name for each in owners if not each.superuser and not roles.may_become(session, each.name)]
    lacks += [f"membership in {some(foreign)}"] if foreign else []
    settings = swap.databases(session)[session.target.database]
    lacks += [f"SET ON PARAMETER {name}" for name in settings.forbidden]
    lacks += [f"what is set for {some(settings.others)} in this database"] if settings.others else []
    keeper = roles.database_owner(session)
    return lacks, sorted({each.name for each in [*owners, keeper] if each.superuser})


def may_administer(session: Session) -> list[str]:
    """What making roles asks for that this user lacks."""
    row = session.query(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database"
        " WHERE datname = current_database()) AS owns FROM pg_roles WHERE rolname = current_user"
    )[0]
    if row["rolsuper"]:
        return []
    wanted = {
        "CREATEDB": row["rolcreatedb"],
        "CREATEROLE": row["rolcreaterole"],
        "ownership of the database": row["owns"],
    }
    return [name for name, held in wanted.items() if not held]
