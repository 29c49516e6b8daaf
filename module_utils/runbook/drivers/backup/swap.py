"""Exchange the names of two databases, in one transaction of the server."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.swap import Connected, Database, Grant, Setting
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: Seconds between two rounds of ending sessions.
_ROUND_S = 0.05

# What a role may set for its own sessions alone needs no right: all but what only superusers set, and what no running
# server knows (a placeholder, such as the mark of the environment).
_DATABASES = """
    SELECT d.datname AS name, d.oid::bigint AS oid, r.rolname AS owner, d.datconnlimit AS connection_limit,
      pg_has_role(d.datdba, 'USAGE') AS is_mine, shobj_description(d.oid, 'pg_database') AS comment,
      (SELECT json_agg(json_build_array(g.rolname, a.privilege_type, a.is_grantable) ORDER BY 1, 2)
         FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a LEFT JOIN pg_roles g ON g.oid = a.grantee
      ) AS grants,
      (SELECT json_agg(json_build_array(s.rolname, s.setting) ORDER BY s.rolname, s.setting) FROM (
         SELECT g.rolname, unnest(c.setconfig) AS setting FROM pg_db_role_setting c
         LEFT JOIN pg_roles g ON g.oid = c.setrole WHERE c.setdatabase = d.oid) s
      ) AS settings,
      (SELECT json_agg(DISTINCT s.name) FROM (
         SELECT split_part(unnest(c.setconfig), '=', 1) AS name FROM pg_db_role_setting c
         WHERE c.setdatabase = d.oid AND c.setrole = 0) s LEFT JOIN pg_settings p ON lower(p.name) = lower(s.name)
         WHERE coalesce(p.context, 'superuser') IN ('superuser', 'superuser-backend') AND NOT {may_set}
      ) AS forbidden,
      (SELECT json_agg(DISTINCT g.rolname) FROM pg_db_role_setting c JOIN pg_roles g ON g.oid = c.setrole
         JOIN pg_roles me ON me.rolname = current_user AND NOT me.rolsuper AND g.oid <> me.oid
         WHERE c.setdatabase = d.oid AND NOT (me.rolcreaterole AND NOT g.rolsuper AND {may_alter})
      ) AS others,
      (SELECT json_agg(p.gid) FROM pg_prepared_xacts p WHERE p.database = d.datname) AS prepared,
      (SELECT count(*) FROM pg_subscription s WHERE s.subdbid = d.oid AND s.subenabled) AS subscriptions,
      (SELECT json_agg(s.slot_name) FROM pg_replication_slots s WHERE s.datoid = d.oid) AS slots
    FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
"""


def extensions(session: Session) -> dict[str, str]:
    """Extensions of this database, each with the statement that makes it."""
    rows = session.query(
        "SELECT e.extname AS name, format('CREATE EXTENSION %I SCHEMA %I', e.extname, n.nspname) AS statement"
        " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1"
    )
    return {row["name"]: row["statement"] for row in rows}


def databases(session: Session) -> dict[str, Database]:
    """Every database of the server, by name."""
    may_set = "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
    if session.server_version >= 150000:
        may_set = "has_parameter_privilege(s.name, 'SET')"
    # A role with CREATEROLE alters those that it may grant; before 16 every one that is no superuser.
    may_alter = "pg_has_role(g.oid, 'MEMBER WITH ADMIN OPTION')" if session.server_version >= 160000 else "true"
    found = {}
    for row in session.query(_DATABASES.replace("{may_set}", may_set).replace("{may_alter}", may_alter)):
        settings = []
        for role, setting in row["settings"] or []:
            name, _, value = setting.partition("=")
            settings.append(Setting(role, name, value))
        found[row["name"]] = Database(
            **row
            | {
                "grants": tuple(Grant(*each) for each in row["grants"] or []),
                "settings": tuple(settings),
                "forbidden": tuple(row["forbidden"] or []),
                "others": tuple(row["others"] or []),
                "prepared": tuple(row["prepared"] or []),
                "slots": tuple(row["slots"] or []),
            }
        )
    return found


def connected(session: Session) -> Connected:
    """Who we are here."""
    return Connected(
        **session.query(
            "SELECT current_database() AS database, rolname AS role, rolsuper AS is_superuser,"
            " rolcreatedb AS may_create, pg_is_in_recovery() AS in_recovery FROM pg_roles WHERE rolname = current_user"
        )[0]
    )


def server_now(session: Session) -> datetime:
    """The server's clock, in UTC."""
    now: datetime = session.query("SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now")[0]["now"]
    return now


def is_busy(session: Session, oid: int) -> bool:
    """Whether a transaction runs in this database, or may: what others do, not everybody may know."""
    found = session.query(
        "SELECT 1 FROM pg_stat_activity WHERE datid = %s AND usesysid IS NOT NULL"
        " AND coalesce(backend_type, 'client backend') = 'client backend' AND state IS DISTINCT FROM 'idle' LIMIT 1",
        (oid,),
    )
    return bool(found)


def end_sessions(session: Session, oids: Sequence[int]) -> tuple[int, list[str]]:
    """End every session in these databases; how many were told to, and the users of those that we may not end."""
    ended, refused = 0, []
    for row in session.query(
        "SELECT pid, coalesce(usename, backend_type) AS who FROM pg_stat_activity"
        " WHERE datid = ANY(%s::oid[]) AND pid <> pg_backend_pid()",
        (list(oids),),
    ):
        try:
            ended += session.query("SELECT pg_terminate_backend(%s) AS told", (row["pid"],))[0]["told"]
        except psycopg2.errors.InsufficientPrivilege:
            refused.append(row["who"])
    return ended, refused


class SessionTerminator:
    """Ends the sessions of some databases again and again, while another session waits to rename them.

    The waiting session holds the databases' lock already, so nobody new comes in meanwhile: connections wait for it,
    and nothing of this outlives our own connections. If we are killed, the server undoes the renaming by itself.
    """

    def __init__(self, connect: Callable[[], Session], oids: Sequence[int]) -> None:
        self._session = connect()
        self._oids = oids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.ended = 0
        self.refused: set[str] = set()

    def _work(self) -> None:
        told_at_all = False
        while not self._stop.wait(_ROUND_S if told_at_all else 0.0):
            try:
                ended, refused = end_sessions(self._session, self._oids)
            except psycopg2.Error:
                return
            # A session that was told and is still on its way out is not counted twice by the first round.
            self.ended += 0 if told_at_all else ended
            told_at_all = True
            self.refused |= set(refused)

    def __enter__(self) -> SessionTerminator:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._session.close()


def copy_properties(live: Database, new: Database, values: Callable[[str, str], list[str]]) -> list[sql.Composable]:
    """Statements that give ``new`` the owner, privileges, settings and limits of ``live``.

    :param values: splits a setting into its literals
    """
    name = sql.Identifier(new.name)
    statements: list[sql.Composable] = []
    if new.owner != live.owner:
        statements.append(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, sql.Identifier(live.owner)))
    if set(new.grants) != set(live.grants):
        for grantee in sorted({each.grantee for each in new.grants}, key=str):
            statements.append(sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(name, _grantee(grantee)))
        statements += [
            sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                sql.SQL(each.privilege), name, _grantee(each.grantee),
                sql.SQL(" WITH GRANT OPTION" if each.grantable else ""),
            )
            for each in live.grants
        ]  # fmt: skip
    if set(new.settings) != set(live.settings):
        for role in sorted({each.role for each in new.settings}, key=str):
            statements.append(_scope(name, role) + sql.SQL(" RESET ALL"))
        statements += [
            _scope(name, each.role)
            + sql.SQL(" SET {} TO {}").format(
                # A parameter of an extension is two names with a dot between them.
                sql.SQL(".").join(map(sql.Identifier, each.name.split("."))),
                sql.SQL(", ").join(map(sql.Literal, values(each.name, each.value))),
            )
            for each in live.settings
        ]
    if new.connection_limit != live.connection_limit:
        statements.append(
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, sql.Literal(live.connection_limit))
        )
    return statements


def _grantee(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _scope(database: sql.Identifier, role: str | None) -> sql.Composable:
    if role is None:
        return sql.SQL("ALTER DATABASE {}").format(database)
    return sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)


def rename(old: str, new: str) -> sql.Composable:
    """The statement that renames a database."""
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))


def comment(database: str, text: str | None) -> sql.Composable:
    """The statement that sets a database's comment; None takes it away."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(database), sql.Literal(text))


@contextmanager
def explained() -> Iterator[None]:
    """Turn the refusals of the server that can be foreseen here into sentences.

    :raises RunbookError: with what the server said; nothing was changed, since all of it was one transaction
    """
    try:
        yield
    except psycopg2.errors.LockNotAvailable:
        raise RunbookError(
            "Another session holds the lock of one of the databases (CREATE DATABASE, or a rename); no name was "
            "changed, run again when it is through."
        ) from None
    except psycopg2.errors.InsufficientPrivilege as error:
        raise RunbookError(
            f"login_user: the server refuses ({ServerError.of(error).reason}), and no name was changed; connect as a "
            "superuser."
        ) from None
    except (psycopg2.errors.InvalidCatalogName, psycopg2.errors.DuplicateDatabase) as error:
        raise RunbookError(
            f"A database was renamed or dropped meanwhile ({ServerError.of(error).reason}); no name was changed, run "
            "again."
        ) from None


def exchange(session: Session, statements: Sequence[sql.Composable], terminator: SessionTerminator) -> float:
    """Run the statements in one transaction while ``terminator`` ends all sessions; seconds that nobody could connect.

    :raises RunbookError: sessions are left that would not go; nothing was changed
    """
    begun = time.monotonic()
    try:
        with session.transaction(), terminator:
            for statement in statements:
                session.execute(statement)
    except psycopg2.errors.ObjectInUse as error:
        # Two reasons have this code; the second names a current database, which the module has refused before.
        named = ", ".join(sorted(terminator.refused)) or "the application"
        raise RunbookError(
            f"Sessions of {named} did not go ({ServerError.of(error).reason}), so no name was changed; end them, or "
            "connect as a superuser or a member of pg_signal_backend, and run again."
        ) from None
    return time.monotonic() - begun
