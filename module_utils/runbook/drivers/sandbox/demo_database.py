"""Makes and fills the demonstration database on a server; see ``rules/sandbox/demo_database.py`` for what is in it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions
from ansible.module_utils.runbook.drivers.postgres.postgres import Session
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.swap import Marker
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Target
    from ansible.module_utils.runbook.rules.sandbox.demo_database import Step

#: Key of the mark in the database's comment. Only a database that bears it is ever dropped.
MARK = "runbook_demo"
_COUNTS_QUERIES = """
SELECT 1 FROM pg_settings AS s JOIN pg_available_extensions AS e ON e.name = 'pg_stat_statements'
WHERE s.name = 'shared_preload_libraries' AND s.setting LIKE '%pg_stat_statements%'
"""

_STATEMENTS = """
SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
"""


def look(session: Session, name: str) -> dict[str, Any] | None:
    """What the mark of database ``name`` says: fingerprint, scale, seed, ready; None where there is no such database.

    Empty where a backup was restored into it, or it took the place of the one that was made here.

    :raises RunbookError: the database is there and was not made here
    """
    found = session.query(
        "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = %s", (name,)
    )
    if not found:
        return None
    if Marker.read(found[0]["comment"]):
        return {}
    try:
        mark = json.loads(found[0]["comment"] or "")[MARK]
    except (ValueError, TypeError, KeyError):
        raise RunbookError(
            f"name: database {name!r} on {session.target} was not made by this module, so it is left alone; "
            "name another database, or drop it yourself."
        ) from None
    return dict(mark)


@dataclass(frozen=True)
class Contents:
    """What is made on a server and in the database. Each is done by the superuser, where nothing else is said."""

    #: Who may do what the owner of the tables may, and logs in with a password.
    owner: str
    steps: Sequence[Step]
    #: What people ask of it once it is filled.
    traffic: Sequence[Step]
    #: Once on a server, unless ``owner`` is there.
    roles: Sequence[Step] = ()
    #: Before ``steps``. Where there is something, ``owner`` does the rest.
    platform: Sequence[Step] = ()


def make(
    session: Session,
    name: str,
    *,
    mark: dict[str, Any],
    contents: Contents,
    password: str | None,
    on_step: Callable[[str, int, int], None],
) -> None:
    """Recreate database ``name`` and fill it. A build that was cut short bears no ``ready`` and is made again.

    :param session: connected to another database of the same server, as a superuser
    :param mark: kept in the database's comment
    :param password: with which the owner of ``contents`` logs in
    :param on_step: called with label, steps done, steps in all
    :raises RunbookError: the server refused a step
    """
    identifier = sql.Identifier(name)
    comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
    where = replace(session.target, database=name)
    try:
        if not session.query("SELECT 1 FROM pg_roles WHERE rolname = %s", (contents.owner,)):
            fill(session.connection, contents.roles, on_step)
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        session.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(identifier))
        session.execute(comment.format(identifier, sql.Literal(json.dumps({MARK: mark | {"ready": False}}))))
        with ExitStack() as stack:
            making = stack.enter_context(_session(where))
            fill(making.connection, contents.platform, on_step)
            # For the review of its performance, where the server has loaded the library and shows that it has.
            counts = bool(making.query(_COUNTS_QUERIES))
            if counts:
                making.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public")
            filling = making
            if contents.platform:
                _let_log_in(making, contents.owner, password)
                filling = stack.enter_context(_session(replace(where, user=contents.owner, password=password)))
            fill(filling.connection, contents.steps, on_step)
            if not contents.platform:
                _let_log_in(making, contents.owner, password)
            if counts:
                # The making of the rows is nobody's query.
                reset = sql.SQL("SELECT {}.pg_stat_statements_reset()")
                making.query(reset.format(sql.Identifier(making.query(_STATEMENTS)[0]["nspname"])))
            fill(filling.connection, contents.traffic, on_step)
        session.execute(comment.format(identifier, sql.Literal(json.dumps({MARK: mark | {"ready": True}}))))
    except psycopg2.Error as error:
        why = ServerError.of(error).reason
        raise RunbookError(f"Database {name!r} on {session.target} could not be made: {why}.", changed=True) from None


def _session(target: Target) -> Session:
    return Session(target, lock_timeout_ms=5_000, statement_timeout_ms=3_600_000, purpose="demo database")


def _let_log_in(session: Session, role: str, password: str | None) -> None:
    """Let ``role`` log in with ``password``, if there is one; the server gets no more than the password's verifier."""
    if password:
        verifier = psycopg2.extensions.encrypt_password(
            password, role, scope=session.connection, algorithm="scram-sha-256"
        )
        statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD %s").format(sql.Identifier(role))
        session.query(statement, (str(verifier),))


def fill(connection: Any, steps: Sequence[Step], on_step: Callable[[str, int, int], None] = lambda *_: None) -> None:
    """Run ``steps`` on one psycopg2 connection, which is in autocommit already."""
    with connection.cursor() as cursor:
        for number, step in enumerate(steps):
            on_step(step.label, number, len(steps))
            cursor.execute(step.sql)
    on_step("done", len(steps), len(steps))
