"""Roles and rights of a database: what is there, and the statements that add what is missing."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from ansible.module_utils.runbook.drivers.postgres import environment_mark
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.restore_rights import Owned
from ansible.module_utils.runbook.rules.environment_mark import SETTING
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.roles import (
    BACKUP,
    HAS_PARAMETERS,
    MAINTAIN,
    MAKER_JOINS,
    READ,
    RESTORE,
    SAMPLED,
    UNLOGGED,
    Admin,
    Default,
    Grant,
    Membership,
    Owner,
    User,
)
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from ansible.module_utils.runbook.rules.supabase.managed import PLATFORM_OWNERS
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: Tables of people, of all kinds that can be vacuumed.
_TABLES = (
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner"
    " WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'"
    " AND n.nspname NOT IN ('information_schema', 'runbook') AND n.nspname NOT LIKE 'pg\\_%'"
    # What a managed platform made it keeps in order itself, and nobody can become a member of its roles.
    f" AND r.rolname NOT IN ({', '.join(map(repr, sorted(PLATFORM_OWNERS)))}) ORDER BY 1"
)
# Whether a role is runbook_maintain or becomes one of its members' members; false where that is not there yet.
_OURS = (
    "coalesce((SELECT pg_has_role(r.oid, g.oid, 'MEMBER') FROM pg_roles g WHERE g.rolname = 'runbook_maintain'), false)"
)
_IN_RESTORE = _OURS.replace(MAINTAIN, RESTORE)

#: What pg_dump gives an owner, by catalogue: the owner's column, and what tells kinds apart there.
_OWNERS = {
    "pg_class": ("relowner", "relkind"), "pg_proc": ("proowner", "prokind"), "pg_type": ("typowner", "''"),
    "pg_namespace": ("nspowner", "''"), "pg_largeobject_metadata": ("lomowner", "''"),
    "pg_operator": ("oprowner", "''"), "pg_opclass": ("opcowner", "''"), "pg_opfamily": ("opfowner", "''"),
    "pg_collation": ("collowner", "''"), "pg_conversion": ("conowner", "''"), "pg_ts_dict": ("dictowner", "''"),
    "pg_ts_config": ("cfgowner", "''"), "pg_language": ("lanowner", "''"), "pg_statistic_ext": ("stxowner", "''"),
    "pg_foreign_data_wrapper": ("fdwowner", "''"), "pg_foreign_server": ("srvowner", "''"),
    "pg_event_trigger": ("evtowner", "''"), "pg_publication": ("pubowner", "''"),
    "pg_default_acl": ("defaclrole", "''"),
}  # fmt: skip
_NOT_OF_INITDB = "oid >= 16384"
_NARROWED = {
    "pg_class": f"{_NOT_OF_INITDB} AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'",
    "pg_namespace": f"{_NOT_OF_INITDB} AND nspname <> 'public' AND nspname !~ '^pg_'",
    # Whoever makes one may choose its oid.
    "pg_largeobject_metadata": "true",
}
_EACH = " UNION ALL ".join(
    f"SELECT {owner} AS owner, '{name.removesuffix('_metadata')}'::regclass AS classid, oid AS objid,"  # noqa: S608 - words of ours
    f" {kind}::text AS kind FROM {name} WHERE {_NARROWED.get(name, _NOT_OF_INITDB)}"
    for name, (owner, kind) in _OWNERS.items()
)
#: Objects that come with no other: not the rows of a table, an array, what an extension or initdb made. pg_shdepend
#: would not do: it says nothing of the superuser that initdb made.
_OF_SUPERUSERS = (
    "SELECT r.rolname AS owner, i.type AS kind, o.count, i.identity AS example FROM ("  # noqa: S608 - words of ours
    f"SELECT owner, classid, kind, count(*) AS count, min(objid) AS objid FROM ({_EACH}) AS each"
    " WHERE owner IN (SELECT oid FROM pg_roles WHERE rolsuper) AND NOT EXISTS (SELECT FROM pg_depend d"
    " WHERE d.classid = each.classid AND d.objid = each.objid AND d.objsubid = 0 AND d.deptype IN ('e', 'i'))"
    " AND NOT (classid = 'pg_namespace'::regclass AND objid IN (SELECT oid FROM pg_namespace"
    " WHERE nspname = 'runbook' AND cardinality(%(handed)s::text[]) > 0))"
    " AND NOT (classid = 'pg_class'::regclass AND objid IN (SELECT oid FROM pg_class"
    " WHERE relnamespace = to_regnamespace('runbook') AND relname = ANY (%(handed)s)))"
    " GROUP BY 1, 2, 3) AS o JOIN pg_roles r ON r.oid = o.owner"
    " CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) AS i"
    # Nobody else restores what is a managed platform's.
    f" WHERE r.rolname NOT IN ({', '.join(map(repr, sorted(PLATFORM_OWNERS)))}) ORDER BY 1, 2"
)


#: So often, and so many seconds apart, all statements are tried where another session holds a lock.
ATTEMPTS = 20
PAUSE_S = 2.0


@dataclass(frozen=True)
class Step:
    """One statement that adds something."""

    statement: str | sql.Composed
    values: tuple[str, ...] = ()
    #: Said where the server refuses it for lack of rights, and the rest goes on; None: then nothing is done at all.
    otherwise: str | None = None
    #: It carries what a password is checked with: no log of the server gets it, and no dry run sends it.
    secret: bool = False
    #: It shuts a table that others work with, until the transaction ends: it comes last, and no dry run sends it.
    shuts: bool = False
    #: What it grants. A GRANT of who may grant nothing is no error of the server's, only a warning; and where a
    #: membership of this run gives the same, nothing is missing.
    grant: Grant | None = None


def admin(session: Session) -> Admin:
    """What this user may."""
    row = session.query("SELECT rolname AS name, rolsuper AS superuser FROM pg_roles WHERE rolname = current_user")[0]
    may = row["superuser"] or session.query(
        "SELECT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') AS may FROM pg_roles WHERE rolname = 'pg_maintain'"
    ) == [{"may": True}]
    return Admin(**row, grants_maintain=may)


def existing(session: Session, names: Iterable[str]) -> dict[str, User]:
    """Those of ``names`` that are roles."""
    rows = session.query(
        "SELECT rolname AS name, rolsuper AS superuser, rolcanlogin AS login, rolcreatedb AS createdb,"
        " rolinherit AS inherit, rolbypassrls AS bypassrls,"
        " array_remove(ARRAY[CASE WHEN rolcreaterole THEN 'CREATEROLE' END,"
        " CASE WHEN rolreplication THEN 'REPLICATION' END], NULL) AS extra,"
        " CASE WHEN rolvaliduntil <= now()"
        " THEN 'its VALID UNTIL has passed; ALTER ROLE ' || quote_ident(rolname) || ' VALID UNTIL ''infinity'''"
        " WHEN rolconnlimit = 0"
        " THEN 'its CONNECTION LIMIT is 0; ALTER ROLE ' || quote_ident(rolname) || ' CONNECTION LIMIT -1'"
        " ELSE '' END AS shut"
        " FROM pg_roles WHERE rolname = ANY(%s)",
        (list(names),),
    )
    return {row["name"]: User(**row | {"extra": tuple(row["extra"])}) for row in rows}


def owners(session: Session) -> list[Owner]:
    """Everybody who owns a table of this database that can be vacuumed."""
    # From 16 on default privileges are set by who has the owner's rights without a SET ROLE.
    way = "USAGE" if session.server_version >= MAKER_JOINS else "MEMBER"
    rows = session.query(
        f"SELECT DISTINCT r.rolname AS name, r.rolsuper AS superuser, {_OURS} AS ours,"
        f" pg_has_role(r.oid, '{way}') AS obeys" + _TABLES
    )
    return [Owner(**row) for row in rows]


def everybody(session: Session) -> list[Owner]:
    """Everybody who owns something in this database, and its owner.

    Of superusers only those who own more than extensions, of which each server has some.
    """
    rows = session.query(
        f"SELECT r.rolname AS name, r.rolsuper AS superuser, {_IN_RESTORE} AS ours FROM pg_roles r WHERE NOT r.rolsuper"  # noqa: S608 - words of ours
        " AND r.oid IN (SELECT s.refobjid FROM pg_shdepend s WHERE s.deptype = 'o' AND s.dbid = ("
        "SELECT oid FROM pg_database WHERE datname = current_database()) AND s.refclassid = 'pg_authid'::regclass"
        " UNION ALL SELECT datdba FROM pg_database WHERE datname = current_database())"
        f" AND r.rolname NOT IN ({', '.join(map(repr, sorted(PLATFORM_OWNERS)))}) ORDER BY 1"
    )
    superusers = sorted({each.owner for each in of_superusers(session)})
    return [*(Owner(**row) for row in rows), *(Owner(name, superuser=True) for name in superusers)]


def of_superusers(session: Session, handed: Sequence[str] = ()) -> list[Owned]:
    """What superusers own in this database, and only superusers restore therefore.

    :param handed: tables of the schema ``runbook`` that are about to be given away, and the schema with them
    """
    return [Owned(**row) for row in session.query(_OF_SUPERUSERS, {"handed": list(handed)})]


def restores_without_superuser(session: Session) -> bool:
    """Whether somebody who is no superuser is to restore: a login of ``runbook_restore``."""
    members = (
        "SELECT 1 FROM pg_roles r JOIN pg_roles g ON g.rolname = %s"
        " WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'MEMBER') LIMIT 1"
    )
    return bool(session.query(members, (RESTORE,)))


def may_become(session: Session, role: str) -> bool:
    """Whether this user has the rights of ``role`` and can give it objects."""
    # From 16 on a membership says whether it lets its member SET ROLE.
    gives = " AND pg_has_role(oid, 'SET')" if session.server_version >= MAKER_JOINS else ""
    rows = session.query(f"SELECT pg_has_role(oid, 'USAGE'){gives} AS may FROM pg_roles WHERE rolname = %s", (role,))  # noqa: S608 - words of ours
    return bool(rows and rows[0]["may"])


def database_owner(session: Session) -> Owner:
    """Who owns the database."""
    rows = session.query(
        "SELECT rolname AS name, rolsuper AS superuser FROM pg_roles r JOIN pg_database d ON d.datdba = r.oid"
        " WHERE d.datname = current_database()"
    )
    return Owner(**rows[0])


def schema_owner(session: Session, schema: str) -> Owner:
    """Who owns a schema, or will when this user makes it."""
    rows = session.query(
        "SELECT rolname AS name, rolsuper AS superuser FROM pg_roles WHERE oid = coalesce((SELECT nspowner"
        " FROM pg_namespace WHERE nspname = %s), current_user::regrole)",
        (schema,),
    )
    return Owner(**rows[0])


def may_carry_mark(session: Session) -> bool:
    """Whether ``runbook_restore`` may give a database the mark of the one whose place it takes."""
    rows = session.query(
        "SELECT 1 FROM pg_roles WHERE rolname = %s AND has_parameter_privilege(oid, %s, 'SET')", (RESTORE, SETTING)
    )
    return bool(rows)


def may_share_mark(session: Session) -> bool:
    """Whether this user may let ``runbook_restore`` do so; PostgreSQL 15 or newer."""
    may = "SELECT has_parameter_privilege(%s, 'SET WITH GRANT OPTION') AS may"
    return bool(session.query(may, (SETTING,))[0]["may"])


def owner(session: Session, name: QualifiedName) -> Owner:
    """Who owns a table, or will when this user makes it."""
    rows = session.query(
        f"SELECT rolname AS name, rolsuper AS superuser, {_OURS} AS ours"  # noqa: S608 - words of ours
        " FROM pg_roles r WHERE oid = coalesce((SELECT c.relowner"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s), current_user::regrole)",
        tuple(name),
    )
    return Owner(**rows[0])


def tables(session: Session) -> list[tuple[QualifiedName, bool]]:
    """Every table that can be vacuumed, and whether this user has its owner's rights."""
    rows = session.query("SELECT n.nspname, c.relname, pg_has_role(c.relowner, 'USAGE') AS owned" + _TABLES)
    return [(QualifiedName(row["nspname"], row["relname"]), row["owned"]) for row in rows]


def has_vault(session: Session) -> bool:
    """Whether a managed platform keeps secrets in a table of this database."""
    return bool(
        session.query(
            "SELECT 1 AS found FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'vault' AND c.relname = 'secrets'"
        )
    )


def schemas(session: Session) -> list[str]:
    """Schemas that hold tables."""
    rows = session.query("SELECT DISTINCT n.nspname" + _TABLES)
    return [row["nspname"] for row in rows]


def table_exists(session: Session, name: QualifiedName) -> bool:
    """Whether there is a table of this name."""
    found = session.query(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
        tuple(name),
    )
    return bool(found)


def is_granted(session: Session, grant: Grant) -> bool:
    """Whether an existing grantee has all of the privileges already, by itself or through others."""
    function = {
        "DATABASE": "has_database_privilege",
        "SCHEMA": "has_schema_privilege",
        "TABLE": "has_table_privilege",
    }[grant.kind]
    # Names are looked up in the catalogue: the functions would read a text as SQL, quotes and all.
    by_name = {
        "DATABASE": "SELECT oid FROM pg_database WHERE datname = %s",
        "SCHEMA": "SELECT oid FROM pg_namespace WHERE nspname = %s",
        "TABLE": "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
    }[grant.kind]
    of, columns = "", []
    if grant.columns:
        function, of, columns = "has_column_privilege", ", unnest(%s::text[]) AS c", [list(grant.columns)]
    rows = session.query(
        f"SELECT bool_and({function}(r.oid, ({by_name}){', c' if of else ''}, p)) AS granted"  # noqa: S608 - words of ours
        f" FROM pg_roles r, unnest(%s::text[]) AS p{of} WHERE r.rolname = %s",
        (*grant.name, list(grant.privileges), *columns, grant.grantee),
    )
    return bool(rows[0]["granted"])


def unread_sequences(session: Session) -> list[str]:
    """Schemas with sequences whose last number is hidden from ``runbook_read``, and which this user may show it."""
    rows = session.query(
        # Of the functions each row may be asked, sequence or not, and they fail on a table; so they stand in a CASE.
        "SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND CASE WHEN c.relkind = 'S' THEN"
        " has_sequence_privilege(c.oid, 'SELECT WITH GRANT OPTION') AND NOT coalesce((SELECT"
        " has_sequence_privilege(r.oid, c.oid, 'SELECT') FROM pg_roles r WHERE r.rolname = %s), false) END ORDER BY 1",
        (READ,),
    )
    return [row["nspname"] for row in rows]


_CLOSED = (
    "FROM pg_largeobject_metadata m WHERE NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a LEFT JOIN pg_roles r"
    f" ON r.oid = a.grantee WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR r.rolname = '{BACKUP}'))"
)
_MAY_OPEN = "pg_has_role(m.lomowner, 'USAGE')"


def closed_large_objects(session: Session) -> dict[str, tuple[int, bool]]:
    """For each owner how many large objects ``runbook_backup`` cannot read, and whether this user may let it."""
    rows = session.query(
        f"SELECT pg_get_userbyid(m.lomowner) AS owner, {_MAY_OPEN} AS may, count(*) AS closed {_CLOSED}"
        " GROUP BY m.lomowner ORDER BY 1"
    )
    return {row["owner"]: (row["closed"], row["may"]) for row in rows}


def large_objects_statement(most: int) -> sql.Composed:
    """SELECT on so many of the large objects that ``runbook_backup`` cannot read yet, as SQL.

    There is no GRANT for all of them.
    """
    return sql.SQL(
        "DO $$ DECLARE closed oid; BEGIN FOR closed IN SELECT m.oid "
        f"{_CLOSED} AND {_MAY_OPEN} LIMIT {{most}}"
        " LOOP EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO {backup}', closed); END LOOP; END $$"
    ).format(most=sql.Literal(most), backup=sql.Identifier(BACKUP))


def is_default(session: Session, default: Default) -> bool:
    """Whether an owner's later objects grant this already."""
    rows = session.query(
        "SELECT 1 FROM pg_default_acl d CROSS JOIN aclexplode(d.defaclacl) AS a JOIN pg_roles o ON o.oid = d.defaclrole"
        " JOIN pg_roles g ON g.oid = a.grantee WHERE d.defaclnamespace = 0 AND o.rolname = %s"
        " AND d.defaclobjtype = %s AND a.privilege_type = %s AND g.rolname = %s",
        (
            default.owner,
            {"TABLES": "r", "SEQUENCES": "S", "SCHEMAS": "n", "LARGE OBJECTS": "L"}[default.kind],
            default.privilege,
            default.grantee,
        ),
    )
    return bool(rows)


def has_rights_of(session: Session, membership: Membership) -> bool:
    """Whether the member has the rights of the role without a SET ROLE, by whatever way."""
    rows = session.query(
        "SELECT pg_has_role(u.oid, r.oid, 'USAGE') AS has FROM pg_roles r, pg_roles u"
        " WHERE r.rolname = %s AND u.rolname = %s",
        (membership.role, membership.member),
    )
    return bool(rows and rows[0]["has"])


def closed_to_maintain(session: Session, name: QualifiedName) -> bool:
    """Whether row-level security is on for a table, and no policy opens all of it to ``runbook_maintain``."""
    rows = session.query(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relrowsecurity AND NOT EXISTS ("
        "SELECT FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles) WHERE p.polrelid = c.oid"
        " AND r.rolname = %s AND p.polpermissive AND p.polcmd = '*' AND pg_get_expr(p.polqual, c.oid) = 'true')",
        (*name, MAINTAIN),
    )
    return bool(rows)


def extension_schema(session: Session, name: str) -> str | None:
    """Where an extension is; None where it is not."""
    rows = session.query(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = %s",
        (name,),
    )
    return rows[0]["nspname"] if rows else None


def offers_extension(session: Session, name: str) -> bool:
    """Whether the server has the extension's files."""
    return bool(session.query("SELECT 1 FROM pg_available_extensions WHERE name = %s", (name,)))


def mark_statement(session: Session, environment: str) -> sql.Composed:
    """Mark the database, as SQL: by its setting, or, where this user may not, by the schema's comment."""
    setting = environment_mark.statement(session.target.database, environment)
    comment = sql.SQL("COMMENT ON SCHEMA runbook IS {}").format(sql.Literal(f"{SETTING}={environment}"))
    may = "SELECT rolsuper AS may FROM pg_roles WHERE rolname = current_user"
    if session.server_version >= 150000:
        may = f"SELECT has_parameter_privilege('{SETTING}', 'SET') AS may"
    return setting if session.query(may)[0]["may"] else comment


def extension_statement(name: str) -> sql.Composed:
    """The extension among the project's own objects, as SQL."""
    return sql.SQL("CREATE EXTENSION {} SCHEMA runbook").format(sql.Identifier(name))


def grant_statement(grant: Grant) -> sql.Composed:
    """The grant as SQL."""
    columns = sql.SQL(", ").join(map(sql.Identifier, grant.columns))
    of = sql.SQL(" ({})").format(columns) if grant.columns else sql.SQL("")
    return sql.SQL("GRANT {} ON {} {} TO {}").format(
        sql.SQL(", ").join(sql.SQL(each) + of for each in grant.privileges),
        sql.SQL(grant.kind),
        sql.Identifier(*grant.name),
        sql.Identifier(grant.grantee),
    )


def grant_step(session: Session, grant: Grant) -> Step:
    """The grant as a step. All else goes on without a right on what is the application's, and who owns it is told."""
    statement = grant_statement(grant)
    if grant.kind == "DATABASE" or grant.name[0] == "runbook":
        return Step(statement, grant=grant)
    keeper = (
        schema_owner(session, grant.name[0]) if grant.kind == "SCHEMA" else owner(session, QualifiedName(*grant.name))
    )
    why = (
        f"{session.target.user} may not give {grant.grantee} what it needs on {grant.kind.lower()} "
        f"{'.'.join(grant.name)}; have {keeper.name}, who owns it, or a superuser run {session.render(statement)}."
    )
    return Step(statement, otherwise=why, grant=grant)


def sequences_statement(schema: str) -> sql.Composed:
    """All sequences of a schema for ``runbook_read``, as SQL."""
    return sql.SQL("GRANT SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}").format(
        sql.Identifier(schema), sql.Identifier(READ)
    )


def default_statement(default: Default) -> sql.Composed:
    """What one owner's later objects grant, as SQL."""
    return sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT {} ON {} TO {}").format(
        sql.Identifier(default.owner),
        sql.SQL(default.privilege),
        sql.SQL(default.kind),
        sql.Identifier(default.grantee),
    )


def membership_statements(session: Session, membership: Membership, member: User | None) -> list[sql.Composed]:
    """The membership as SQL, with what makes its rights count without a SET ROLE.

    :param member: the member where it is there already; it may have been made NOINHERIT
    """
    text = sql.SQL("GRANT {} TO {}").format(sql.Identifier(membership.role), sql.Identifier(membership.member))
    if member is None or member.inherit:
        return [text]
    if session.server_version >= 160000:
        return [text + sql.SQL(" WITH INHERIT TRUE")]
    return [text, alter_statement(membership.member, "INHERIT")]


def schema_owner_statement(schema: str, owner: str) -> sql.Composed:
    """A new owner for a schema, as SQL."""
    return sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(schema), sql.Identifier(owner))


def mark_carrier_statement() -> sql.Composed:
    """Let ``runbook_restore`` carry the mark of a database over, as SQL; PostgreSQL 15 or newer."""
    return sql.SQL("GRANT SET ON PARAMETER {} TO {}").format(sql.SQL(SETTING), sql.Identifier(RESTORE))


def owner_statement(name: QualifiedName, owner: str) -> sql.Composed:
    """A new owner for a table, as SQL."""
    return sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(*name), sql.Identifier(owner))


def policy_statement(name: QualifiedName) -> sql.Composed:
    """All rows of one table for ``runbook_maintain``, as SQL; what it may do to them its grants say."""
    return sql.SQL("CREATE POLICY {role} ON {table} TO {role} USING (true) WITH CHECK (true)").format(
        role=sql.Identifier(MAINTAIN), table=sql.Identifier(*name)
    )


def alter_statement(name: str, *attributes: str) -> sql.Composed:
    """Attributes of a role, as SQL; no membership hands them on."""
    return sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(name), sql.SQL(" ".join(attributes)))


def create_statement(name: str, *, login: bool, createdb: bool) -> sql.Composed:
    """A new role as SQL."""
    words = ["LOGIN" if login else "NOLOGIN", *(["CREATEDB"] if createdb else [])]
    return sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), sql.SQL(" ".join(words)))


def password_step(session: Session, name: str, password: str) -> Step:
    """A password for a role of this run; of its own, so that what the server refuses, and logs, is the rest."""
    statement = sql.SQL("ALTER ROLE {} PASSWORD %s").format(sql.Identifier(name))
    return Step(statement, (verifier(session, name, password),), secret=True)


def logging_settings(session: Session) -> tuple[dict[str, str], set[str]]:
    """What the server has of the settings that keep statements' text, and those that this user may set."""
    may = "context = 'user' OR current_setting('is_superuser') = 'on'"
    if session.server_version >= HAS_PARAMETERS:
        may = "has_parameter_privilege(name, 'SET')"
    rows = session.query(
        f"SELECT name, current_setting(name) AS value, {may} AS may FROM pg_settings WHERE name = ANY(%s)",  # noqa: S608 - words of ours
        (list(UNLOGGED),),
    )
    return {row["name"]: row["value"] for row in rows}, {row["name"] for row in rows if row["may"]}


_SET = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted(name, value)"


@contextmanager
def _unlogged(session: Session) -> Iterator[None]:
    """Neither the server's log nor its statistics keep the block's statements, as far as this user may choose that."""
    found, may = logging_settings(session)
    names = [name for name in found if name in may]
    session.query(_SET, (names, [UNLOGGED[name] for name in names]))
    yield
    # What failed is rolled back, and these with it.
    session.query(_SET, (names, [found[name] for name in names]))


def verifier(session: Session, user: str, password: str) -> str:
    """What the server keeps of a password. Made here, so that the password itself never reaches a server's log."""
    return str(
        psycopg2.extensions.encrypt_password(password, user, scope=session.connection, algorithm="scram-sha-256")
    )


#: What two databases of a cluster, to which roles belong, make each other meet; the last one is "tuple concurrently
#: updated".
_MOVED = (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation, psycopg2.errors.InternalError_)


class _LockedError(RunbookError):
    """Another session holds a lock."""


class MovedError(RunbookError):
    """Another session, of another database of the cluster, made the same role or membership meanwhile."""


class _OnlyTried(Exception):  # noqa: N818 - it takes back what was done, and is no error
    """All statements went through; nothing of them is to stay."""


def apply(session: Session, steps: Sequence[Step], *, keep: bool) -> tuple[list[str], list[str]]:
    """Run all statements in one transaction: what was run, and what is to be said of the rest.

    Whoever asks for a table behind one that waits for its lock waits as well. So each wait is short (the session's
    lock_timeout), and where one was in vain all is rolled back, so that no lock is held, and tried again.

    :param keep: False takes all of it back at the end, so that a dry run meets every refusal of the real one
    :raises RunbookError: the server refuses one of them; nothing was changed
    """
    for _ in range(ATTEMPTS - 1 if keep else 0):
        try:
            return _apply(session, steps, keep=keep)
        except _LockedError:
            time.sleep(PAUSE_S)
    return _apply(session, steps, keep=keep)


def _apply(session: Session, steps: Sequence[Step], *, keep: bool) -> tuple[list[str], list[str]]:
    """One attempt of :func:`apply`."""
    done: list[str] = []
    said: list[str] = []
    planned = sorted(steps, key=lambda step: step.shuts)
    if keep and any(step.secret for step in planned) and SAMPLED in logging_settings(session)[1]:
        # Whether a transaction is sampled is decided when it begins.
        session.query(_SET, ([SAMPLED], [UNLOGGED[SAMPLED]]))
    try:
        with session.transaction():
            for step in planned:
                if not keep and (step.secret or step.shuts):
                    done.append(session.render(step.statement))
                    if step.shuts:
                        said.append(f"Not tried, since it locks a table that is in use: {done[-1]}.")
                    continue
                session.query("SAVEPOINT step")
                try:
                    with _unlogged(session) if step.secret else nullcontext():
                        session.query(step.statement, step.values or None)
                except psycopg2.Error as error:
                    if isinstance(error, psycopg2.errors.InsufficientPrivilege) and step.otherwise is not None:
                        session.query("ROLLBACK TO SAVEPOINT step")
                        if step.grant is None or not is_granted(session, step.grant):
                            said.append(step.otherwise)
                        continue
                    raise _refusal(session, step, error) from None
                if step.grant is not None and not is_granted(session, step.grant):
                    if step.otherwise is None:
                        raise RunbookError(_may_not_run(session, step, "it may grant nothing there"))
                    session.query("ROLLBACK TO SAVEPOINT step")
                    said.append(step.otherwise)
                    continue
                done.append(session.render(step.statement))
            if not keep:
                raise _OnlyTried
    except _OnlyTried:
        pass
    return done, said


def _may_not_run(session: Session, step: Step, reason: str) -> str:
    """Why nothing goes on without a statement that this user may not run."""
    return (
        f"{session.target}: user {session.target.user!r} may not run {session.render(step.statement)} ({reason}); "
        "run this playbook as a superuser, or as a role with CREATEROLE that owns the database and may "
        "grant that role (WITH ADMIN OPTION). Nothing was changed."
    )


def _refusal(session: Session, step: Step, error: psycopg2.Error) -> RunbookError:
    """Why the server took none of it, and what to do about it."""
    statement = session.render(step.statement)
    reason = ServerError.of(error).reason
    if isinstance(error, psycopg2.errors.InsufficientPrivilege):
        return RunbookError(_may_not_run(session, step, reason))
    if isinstance(error, psycopg2.errors.InvalidGrantOperation):
        return RunbookError(
            f"{session.target}: the server refuses {statement} ({reason}); REVOKE the membership that leads the other "
            "way, and run this playbook again. Nothing was changed."
        )
    if isinstance(error, _MOVED):
        return MovedError(f"{session.target}: the server refuses {statement}: {reason}. Nothing was changed.")
    if isinstance(error, psycopg2.errors.LockNotAvailable | psycopg2.errors.QueryCanceled):
        family = _LockedError if isinstance(error, psycopg2.errors.LockNotAvailable) else RunbookError
        return family(
            f"{session.target}: another session keeps what {statement} needs; look for it in pg_stat_activity, and run "
            "this playbook again. Nothing was changed."
        )
    return RunbookError(f"{session.target}: the server refuses {statement}: {reason}. Nothing was changed.")
