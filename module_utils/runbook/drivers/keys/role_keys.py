"""Passwords of a database: two login roles with the same rights take turns, so that two passwords are valid at once."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.keys.provider import Known, Made
from ansible.module_utils.runbook.drivers.postgres import postgres, queries
from ansible.module_utils.runbook.drivers.postgres import roles as driver
from ansible.module_utils.runbook.drivers.postgres.roles import Step
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.keys.rotation import Use
from ansible.module_utils.runbook.rules.postgres.roles import Membership
from ansible.module_utils.runbook.rules.words import count, some, to_second
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
    from ansible.module_utils.runbook.rules.keys.definition import Key
    from ansible.module_utils.runbook.rules.keys.rotation import Rotation
    from ansible.module_utils.runbook.rules.run import Run

#: Bytes of chance in a password; as text it has four thirds as many characters, none of which an address escapes.
_PASSWORD_BYTES = 32
_TIMEOUTS = {"lock_timeout_ms": 5_000, "statement_timeout_ms": 30_000}
#: Settings that hold a list. The catalogue keeps each item of it quoted, and quoting the whole would make it one item.
_LISTS = frozenset({"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"})
_ROLE = (
    "SELECT rolname AS name, rolcanlogin AS login, rolconnlimit AS most, rolinherit AS inherit, rolbypassrls AS bypass,"
    " rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication AS is_strong FROM pg_roles WHERE rolname = ANY(%s)"
)
#: What is a role's own, so that a second role would lack it: objects, privileges, policies.
_OWN = (
    "SELECT count(*) AS own FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass"
    " AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s) AND deptype IN ('o', 'a', 'r')"
)
_GROUPS = (
    "SELECT g.rolname AS name, m.admin_option AS admin FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
    " JOIN pg_roles u ON u.oid = m.member WHERE u.rolname = %s ORDER BY 1"
)
_SETTINGS = (
    "SELECT d.datname AS database, unnest(s.setconfig) AS setting FROM pg_db_role_setting s"
    " LEFT JOIN pg_database d ON d.oid = s.setdatabase"
    " WHERE s.setrole = (SELECT oid FROM pg_roles WHERE rolname = %s) ORDER BY 1 NULLS FIRST, 2"
)
_SESSIONS = "SELECT count(*) AS sessions FROM pg_stat_activity WHERE usename = %s"


class RoleKeys:
    """The login roles of one database's server.

    :param hide: keeps a value out of everything that is printed
    """

    def __init__(self, target: Target, hide: Callable[[str], None]) -> None:
        self._target, self._hide = target, hide

    def _session(self) -> AbstractContextManager[Session]:
        return postgres.Session(self._target, purpose="keys", **_TIMEOUTS)

    def require(self, run: Run, environment: str) -> None:
        """As ``Provider.require``."""
        del environment
        with self._session() as session:
            permits.require_database(run, session)
            session.require_primary()

    def current(self, key: Key) -> Known:
        """As ``Provider.current``. When a password was set nobody knows."""
        if key.in_use and key.in_use not in key.roles:
            raise RunbookError(f"{key.name}: in_use: {key.in_use} is none of its roles; name {' or '.join(key.roles)}.")
        with self._session() as session:
            found = self._roles(session, key)
        login = [name for name, role in found.items() if role["login"]]
        if key.in_use in found:
            return Known(key.in_use)
        if key.in_use or len(login) != 1:
            said = f"{' and '.join(login)} may log in" if login else f"neither {' nor '.join(key.roles)} may log in"
            raise RunbookError(
                f"{key.name}: {said} at {self._target}, and it is not known which one is in use; name it in in_use of "
                "this key, or make it."
            )
        return Known(login[0])

    def created_at(self, key: Key, key_id: str) -> datetime | None:
        """As ``Provider.created_at``: a server does not say when a password was set."""
        del key, key_id
        return None

    def make(self, key: Key, rotation: Rotation) -> Made:
        """As ``Provider.make``: the other role, with the rights of this one and a new password."""
        new = next(name for name in key.roles if name != rotation.old)
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        self._hide(password)
        with self._session() as session:
            self._hide(driver.verifier(session, new, password))
            steps = [*self._same_rights(session, key, rotation.old, new), driver.password_step(session, new, password)]
            driver.apply(session, steps, keep=True)
        return Made(new, {"user": new, "password": password})

    def reveal(self, key: Key, key_id: str) -> Made | None:
        """As ``Provider.reveal``: a server keeps no password."""
        del key, key_id
        return None

    def use(self, key: Key, rotation: Rotation, now: datetime) -> Use:
        """As ``Provider.use``: by its sessions, and by the statements that the server counted for it since a look."""
        del key
        with self._session() as session:
            sessions = session.query(_SESSIONS, (rotation.old,))[0]["sessions"]
            counted, reason = queries.calls_of(session, rotation.old)
        if sessions:
            return Use(f"{rotation.old} has {count(sessions, 'session')} at {self._target}.", is_used=True)
        if counted is None:
            return Use(f"Nobody can say whether {rotation.old} was used at {self._target}. {reason}")
        sample = {**counted, "since": now.isoformat()}
        if {**rotation.sample, "since": ""} != {**sample, "since": ""}:
            said = f"{rotation.old} has no session, and its statements are counted from now on"
            more = f"{counted['calls']} so far"
            if rotation.sample.get("evicted", counted["evicted"]) != counted["evicted"]:
                more += "; some statements were thrown out since the last look: raise pg_stat_statements.max"
            return Use(f"{said} ({more}).", unused_since=now, sample=sample)
        since = datetime.fromisoformat(str(rotation.sample["since"]))
        said = f"{rotation.old} has no session, and ran no statement since {to_second(since.isoformat())}."
        return Use(said, unused_since=since, sample=rotation.sample)

    def retire(self, key: Key, rotation: Rotation) -> None:
        """As ``Provider.retire``: the role stays, without login and password, for the next turn."""
        del key
        with self._session() as session:
            if session.query("SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin", (rotation.old,)):
                driver.apply(
                    session, [Step(driver.alter_statement(rotation.old, "NOLOGIN", "PASSWORD NULL"))], keep=True
                )

    def discard(self, key: Key, rotation: Rotation) -> None:
        """As ``Provider.discard``: its turn comes at once, with another password."""

    @staticmethod
    def _roles(session: Session, key: Key) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in session.query(_ROLE, (list(key.roles),))}

    def _same_rights(self, session: Session, key: Key, old: str, new: str) -> Iterator[Step]:
        """What makes the new role, or lets it log in again, with all that the old one may.

        :raises RunbookError: the old one has rights that cannot be handed on by a membership
        """
        found = self._roles(session, key)
        model = found.get(old)
        if model is None:
            raise RunbookError(f"{key.name}: there is no role {old} at {self._target}; correct roles of this key.")
        own = session.query(_OWN, (old,))[0]["own"]
        groups = session.query(_GROUPS, (old,))
        why = ""
        if model["is_strong"] or any(each["admin"] for each in groups):
            why = "may more than an application needs (superuser, CREATEROLE, CREATEDB, REPLICATION, or ADMIN OPTION)"
        elif own:
            why = f"owns objects, or has privileges or policies of its own ({own})"
        elif not groups:
            why = "is a member of no role"
        if why:
            raise RunbookError(
                f"{key.name}: {old} {why}, and a second role would not have the same rights. Let both be members of "
                f"one role that has them: REASSIGN OWNED BY {old} TO that role, GRANT to it what {old} was granted, "
                f"DROP OWNED BY {old}, GRANT that role TO {old}."
            )
        words = ["LOGIN", f"CONNECTION LIMIT {int(model['most'])}", "VALID UNTIL 'infinity'"]
        words += ["INHERIT" if model["inherit"] else "NOINHERIT"]
        if new not in found:
            yield Step(driver.create_statement(new, login=True, createdb=False))
        if (found.get(new) or {"bypass": False})["bypass"] != model["bypass"]:
            words += ["BYPASSRLS" if model["bypass"] else "NOBYPASSRLS"]
        yield Step(driver.alter_statement(new, *words))
        yield from self._memberships(session, {each["name"] for each in groups}, old, new)
        yield Step(driver.alter_statement(new, "RESET ALL"))
        for row in session.query(_SETTINGS, (old,)):
            yield Step(_setting_statement(new, row["database"], row["setting"]))

    def _memberships(self, session: Session, wanted: set[str], old: str, new: str) -> Iterator[Step]:
        there = {each["name"] for each in session.query(_GROUPS, (new,))}
        more = there - wanted
        if more:
            raise RunbookError(
                f"{new} is a member of {some(sorted(more))}, and {old} is not; REVOKE that, or GRANT it to both."
            )
        for group in sorted(wanted - there):
            for statement in driver.membership_statements(session, Membership(group, new), None):
                yield Step(statement)


def _setting_statement(role: str, database: str | None, setting: str) -> sql.Composed:
    name, _, value = setting.partition("=")
    where = sql.SQL(" IN DATABASE {}").format(sql.Identifier(database)) if database else sql.SQL("")
    return sql.SQL("ALTER ROLE {}{} SET {} TO {}").format(
        sql.Identifier(role), where, sql.SQL(".").join(map(sql.Identifier, name.split("."))),
        sql.SQL(value) if name in _LISTS else sql.Literal(value),
    )  # fmt: skip
