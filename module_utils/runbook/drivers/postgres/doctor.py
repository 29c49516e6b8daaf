"""What a user of a database may do, looked up without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.backup import swap
from ansible.module_utils.runbook.drivers.postgres import archive_catalog as catalog
from ansible.module_utils.runbook.drivers.postgres import bloat, cleanup, lease, queries, roles, vacuum
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.restore_rights import Owned
from ansible.module_utils.runbook.rules.environment_mark import SETTING
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.roles import HAS_MAINTAIN, HAS_PARAMETERS, MAKER_JOINS
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.cleanup import Rule

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


def lacking(
    session: Session, user: str, *, archives: tuple[QualifiedName, QualifiedName] | None, cleaned: Sequence[Rule],
    beats: bool, swaps: bool,
) -> tuple[list[str], str]:  # fmt: skip
    """What a user's playbooks ask for that this session's lacks, and how it gets that.

    :param user: what it is for: ``maintain``, ``backup``, ``review``, ``restore`` or ``admin``
    :param archives: source and archive of the rows that are moved; None: there are none
    :param cleaned: what is cleaned up each night
    :param beats: it writes heartbeats
    :param swaps: a copy may take the database's place; not where the platform keeps the name of a project's database
    """
    if user == "maintain":
        lacks, fix = _maintain(session)
        lacks += _archive(session, *archives) if archives else []
        lacks += [each for rule in cleaned for each in _clean_up(session, rule)]
        return lacks + (_beat(session, QualifiedName("runbook", "heartbeat")) if beats else []), fix
    if user in ("restore", "admin"):
        return {"restore": _restore, "admin": _administer}[user](session, swaps=swaps)
    return {"backup": _back_up, "review": _review}[user](session)


def _maintain(session: Session) -> tuple[list[str], str]:
    fix = "Run playbooks/db_roles.yml, and log in as a member of runbook_maintain."
    tables = [
        str(table.name)
        for table in vacuum.read_tables(session)
        if not table.permitted and not table.name.schema.startswith("pg_") and table.name.schema != "information_schema"
    ]
    if tables and session.server_version < HAS_MAINTAIN and any(owner.superuser for owner in roles.owners(session)):
        fix += " Before PostgreSQL 17 nobody else vacuums a superuser's tables: give them to another role."
    return _lease(session) + ([f"VACUUM of {some(tables)}"] if tables else []), fix


def _archive(session: Session, source: QualifiedName, archive: QualifiedName) -> list[str]:
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


def _clean_up(session: Session, rule: Rule) -> list[str]:
    table = catalog.read_table(session, rule.table, event="DELETE")
    if table is None or table.column(rule.column) is None:
        return [f"a table {rule.table} with a column {rule.column} to clean up"]
    lacks = []
    for need in cleanup.needs(session, rule, table):
        seen = catalog.read_table(session, need.table, event="DELETE")
        if seen is not None:
            said = need.lacking(seen) + (["a policy that opens every row"] if seen.row_security else [])
            lacks += [f"{', '.join(said)} on {need.table}"] if said else []
    return lacks


def _beat(session: Session, table: QualifiedName) -> list[str]:
    if not roles.table_exists(session, table):
        return [f"the table {table}"]
    return _lacks(session, table, ("SELECT", "INSERT", "DELETE"))


def _back_up(session: Session) -> tuple[list[str], str]:
    unread, hidden = _unseen(session)
    lacks = _lease(session)
    lacks += [f"SELECT on {some(unread)}"] if unread else []
    lacks += [f"BYPASSRLS for {some(hidden)}"] if hidden else []
    return lacks, "Run playbooks/db_roles.yml, and log in as a member of runbook_backup."


def _unseen(session: Session) -> tuple[list[str], list[str]]:
    """Tables that this user cannot read; and those that hide rows from it."""
    rows = session.query(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, row_security_active(c.oid) AS hides,"
        " has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS reads"
        + _USER_TABLES
        + " ORDER BY 1"
    )
    unread = [row["name"] for row in rows if not row["reads"]]
    return unread, [row["name"] for row in rows if row["reads"] and row["hides"]]


def unseen(session: Session) -> list[str]:
    """Tables whose statistics are hidden from this user: it may not read them, or not all of their rows."""
    return [name for names in _unseen(session) for name in names]


def _review(session: Session) -> tuple[list[str], str]:
    fix = "docs/howto/performance.md says how to set it up."
    may = session.query("SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS may")[0]["may"]
    reason = queries.read(session).reason
    lacks = [] if may else ["pg_read_all_stats"]
    lacks += [f"pg_stat_statements ({reason.rstrip('.')})"] if reason else []
    measuring, closed = bloat.measuring(session), unseen(session)
    if measuring.fix and closed:
        lacks.append(f"pgstattuple, so that the bloat of {some(closed)} is unknown")
        fix += f" For pgstattuple {measuring.fix}."
    return lacks, fix


def roles_and_own(session: Session) -> tuple[set[str], set[str]]:
    """Every role of the server, and those that this user can give objects to."""
    gives = " AND pg_has_role(oid, 'SET')" if session.server_version >= MAKER_JOINS else ""
    rows = session.query(f"SELECT rolname, pg_has_role(oid, 'USAGE'){gives} AS may FROM pg_roles")  # noqa: S608 - words of ours
    return {row["rolname"] for row in rows}, {row["rolname"] for row in rows if row["may"]}


def _mark_not_carried(session: Session) -> str | None:
    """What this user lacks for a copy to get the mark that the database carries as a setting; None where it can."""
    if session.server_version < HAS_PARAMETERS or roles.may_carry_mark(session) or roles.may_share_mark(session):
        return None
    settings = swap.databases(session)[session.target.database].settings
    if all(each.name != SETTING for each in settings):
        return None
    return f"SET ON PARAMETER {SETTING} WITH GRANT OPTION, which runbook_restore needs for a swap"


def _restore(session: Session, *, swaps: bool) -> tuple[list[str], str]:
    """Who restores gives each object back to its owner, and the copy the settings of the live database."""
    given = "Run playbooks/db_roles.yml, and name a member of runbook_restore in db_restore_login_user."
    (me,) = session.query(
        "SELECT rolsuper, rolcreatedb, rolbypassrls, pg_has_role('pg_signal_backend', 'USAGE') AS signals,"
        " (SELECT count(*) FROM pg_class WHERE relrowsecurity AND relforcerowsecurity) AS forced"
        " FROM pg_roles WHERE rolname = current_user"
    )
    if me["rolsuper"]:
        return [], ""
    owners = roles.everybody(session)
    lacks = _lease(session)
    lacks += [] if me["rolcreatedb"] else ["CREATEDB"]
    lacks += [] if me["signals"] else ["pg_signal_backend"]
    lacks += [] if me["rolbypassrls"] or not me["forced"] else [f"BYPASSRLS for {count(me['forced'], 'table')}"]
    foreign = [each.name for each in owners if not each.superuser and not roles.may_become(session, each.name)]
    lacks += [f"membership in {some(foreign)}"] if foreign else []
    # Said only of what it helps against.
    fixes = [given] if lacks else []
    if swaps:
        unset, more = _carry_settings(session, given)
        lacks, fixes = lacks + unset, list(dict.fromkeys([*fixes, *more]))
    keeper = roles.database_owner(session)
    owned = roles.of_superusers(session)
    superusers = sorted({each.name for each in [*owners, keeper] if each.superuser})
    if superusers:
        lacks.append(f"the rights of {some(superusers)}{f', for {Owned.tell(owned)}' if owned else ''}")
        fixes.append("What a superuser owns only superusers restore: run ALTER … OWNER TO a role that is none.")
    return lacks, " ".join(fixes)


def _carry_settings(session: Session, given: str) -> tuple[list[str], list[str]]:
    """What a swap lacks for the copy to get the settings of the live database, and what helps.

    :param given: how one comes to have what ``playbooks/db_roles.yml`` gives, which is the right to set the mark
    """
    settings = swap.databases(session)[session.target.database]
    lacks, fixes = [f"SET ON PARAMETER {name}" for name in settings.forbidden], []
    if settings.forbidden and session.server_version < HAS_PARAMETERS:
        fixes.append("Before PostgreSQL 15 only a superuser sets a parameter of a database: name one for a swap.")
    elif settings.forbidden:
        rest = [name for name in settings.forbidden if name != SETTING]
        fixes += [given] if SETTING in settings.forbidden else []
        fixes += [f"As a superuser GRANT SET ON PARAMETER {', '.join(rest)} TO runbook_restore."] if rest else []
    if settings.others:
        lacks.append(f"the right to carry over what ALTER ROLE … IN DATABASE set here for {some(settings.others)}")
        fixes.append("db_roles.yml does not give that right: for a swap name a superuser in db_restore_login_user.")
    return lacks, fixes


def _administer(session: Session, *, swaps: bool) -> tuple[list[str], str]:
    fix = "In db_roles_admin_user name a superuser, or the database's owner with CREATEDB and CREATEROLE."
    row = session.query(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database"
        " WHERE datname = current_database()) AS owns FROM pg_roles WHERE rolname = current_user"
    )[0]
    wanted = {
        "CREATEDB": row["rolcreatedb"],
        "CREATEROLE": row["rolcreaterole"],
        "ownership of the database": row["owns"],
    }
    lacks = [name for name, held in wanted.items() if not held and not row["rolsuper"]]
    carried = _mark_not_carried(session) if swaps else None
    if carried:
        lacks.append(carried)
        fix += f" As a superuser GRANT SET ON PARAMETER {SETTING} TO runbook_restore."
    return lacks, fix
