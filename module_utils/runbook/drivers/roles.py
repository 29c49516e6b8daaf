"""Roles and rights of a database: what is there, and the statements that add what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2.errors
import psycopg2.extensions
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.roles import Grant, Membership, Owner
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible.module_utils.runbook.drivers.postgres import Session
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName

#: Tables of people, of all kinds that can be vacuumed.
_TABLES = (
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner"
    " WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('information_schema', 'runbook')"
    " AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1"
)


def existing(session: Session, names: Iterable[str]) -> dict[str, bool]:
    """Those of ``names`` that are roles, each with whether it is a superuser."""
    rows = session.query("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = ANY(%s)", (list(names),))
    return {row["rolname"]: row["rolsuper"] for row in rows}


def owners(session: Session) -> list[Owner]:
    """Everybody who owns a table of this database that can be vacuumed."""
    rows = session.query("SELECT DISTINCT r.rolname AS name, r.rolsuper AS superuser" + _TABLES)
    return [Owner(**row) for row in rows]


def own_table_owner(session: Session, name: str) -> Owner:
    """Who owns a table of the project's own, or will when this user makes it."""
    rows = session.query(
        "SELECT rolname AS name, rolsuper AS superuser FROM pg_roles WHERE oid = coalesce((SELECT c.relowner"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'runbook' AND c.relname = %s), current_user::regrole)",
        (name,),
    )
    return Owner(**rows[0])


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
    rows = session.query(
        f"SELECT bool_and({function}(r.oid, ({by_name}), p)) AS granted FROM pg_roles r, unnest(%s::text[]) AS p"  # noqa: S608 - words of ours
        " WHERE r.rolname = %s",
        (*grant.name, list(grant.privileges), grant.grantee),
    )
    return bool(rows[0]["granted"])


def is_member(session: Session, membership: Membership) -> bool:
    """Whether the membership stands, directly."""
    rows = session.query(
        "SELECT 1 FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member"
        " WHERE r.rolname = %s AND u.rolname = %s",
        (membership.role, membership.member),
    )
    return bool(rows)


def grant_statement(grant: Grant) -> sql.Composed:
    """The grant as SQL."""
    return sql.SQL("GRANT {} ON {} {} TO {}").format(
        sql.SQL(", ").join(map(sql.SQL, grant.privileges)),
        sql.SQL(grant.kind),
        sql.Identifier(*grant.name),
        sql.Identifier(grant.grantee),
    )


def membership_statement(membership: Membership) -> sql.Composed:
    """The membership as SQL."""
    return sql.SQL("GRANT {} TO {}").format(sql.Identifier(membership.role), sql.Identifier(membership.member))


def hand_over_statement(name: str, owner: str) -> sql.Composed:
    """A new owner for a table of the project's own, as SQL."""
    return sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier("runbook", name), sql.Identifier(owner))


def see_all_rows(session: Session, names: Iterable[str]) -> set[str]:
    """Those of ``names`` that row-level security hides nothing from."""
    rows = session.query("SELECT rolname FROM pg_roles WHERE rolbypassrls AND rolname = ANY(%s)", (list(names),))
    return {row["rolname"] for row in rows}


def bypass_statement(name: str) -> sql.Composed:
    """Lift row-level security for a role, as SQL; it is an attribute, so no membership hands it on."""
    return sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(name))


def create_statement(name: str, *, login: bool, createdb: bool, password: bool) -> sql.Composed:
    """A new role as SQL; with ``password``, its verifier is bound as the only value."""
    words = ["LOGIN" if login else "NOLOGIN", *(["CREATEDB"] if createdb else [])]
    text = sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), sql.SQL(" ".join(words)))
    return text + sql.SQL(" PASSWORD %s") if password else text


def verifier(session: Session, user: str, password: str) -> str:
    """What the server keeps of a password. Made here, so that the password itself never reaches a server's log."""
    return str(
        psycopg2.extensions.encrypt_password(password, user, scope=session.connection, algorithm="scram-sha-256")
    )


def apply(session: Session, statements: Iterable[tuple[str | sql.Composed, tuple[str, ...]]]) -> None:
    """Run all statements in one transaction.

    :raises RunbookError: this user may not
    """
    with session.transaction():
        for statement, values in statements:
            try:
                session.execute(statement, values or None)
            except psycopg2.errors.InsufficientPrivilege:
                raise RunbookError(
                    f"{session.target}: user {session.target.user!r} may not run {session.render(statement)}; "
                    "run this playbook as a superuser, or as a role with CREATEROLE that owns the database and may "
                    "grant that role (WITH ADMIN OPTION)."
                ) from None
