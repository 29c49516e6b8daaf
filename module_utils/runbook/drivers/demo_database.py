"""Makes and fills the demonstration database on a server; see ``rules/demo_database.py`` for what is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions
from ansible.module_utils.runbook.drivers.postgres import Session
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible.module_utils.runbook.rules.demo_database import Step

#: Key of the mark in the database's comment. Only a database that bears it is ever dropped.
MARK = "runbook_demo"
_COUNTS_QUERIES = """
SELECT 1 FROM pg_settings AS s JOIN pg_available_extensions AS e ON e.name = 'pg_stat_statements'
WHERE s.name = 'shared_preload_libraries' AND s.setting LIKE '%pg_stat_statements%'
"""


def look(session: Session, name: str) -> dict[str, Any] | None:
    """What the mark of database ``name`` says: fingerprint, scale, seed, ready; None where there is no such database.

    :raises RunbookError: the database is there and was not made here
    """
    found = session.query(
        "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = %s", (name,)
    )
    if not found:
        return None
    try:
        mark = json.loads(found[0]["comment"] or "")[MARK]
    except (ValueError, TypeError, KeyError):
        raise RunbookError(
            f"name: database {name!r} on {session.target} was not made by this module, so it is left alone; "
            "name another database, or drop it yourself."
        ) from None
    return dict(mark)


def make(
    session: Session,
    name: str,
    *,
    mark: dict[str, Any],
    steps: Sequence[Step],
    traffic: Sequence[Step],
    migrations: tuple[str, str] | None,
    on_step: Callable[[str, int, int], None],
) -> None:
    """Make database ``name`` anew and fill it. A build that was cut short bears no ``ready`` and is made again.

    :param session: connected to another database of the same server, as a role that may create databases
    :param mark: kept in the database's comment
    :param traffic: what people ask of it once it is filled
    :param migrations: the role that may do what the owner may, and the password with which it logs in
    :param on_step: called with label, steps done, steps in all
    :raises RunbookError: the server refused a step
    """
    identifier = sql.Identifier(name)
    comment = sql.SQL("COMMENT ON DATABASE {} IS {}")
    try:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        session.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(identifier))
        session.execute(comment.format(identifier, sql.Literal(json.dumps({MARK: mark | {"ready": False}}))))
        with Session(
            replace(session.target, database=name),
            lock_timeout_ms=5_000,
            statement_timeout_ms=3_600_000,
            purpose="demo database",
        ) as filling:
            # For the review of its performance, where the server has loaded the library and shows that it has.
            counts = bool(filling.query(_COUNTS_QUERIES))
            if counts:
                filling.execute("CREATE EXTENSION pg_stat_statements SCHEMA public")
            fill(filling.connection, steps, on_step)
            if migrations:
                filling.query(*_with_login(filling, *migrations))
            if counts:
                # The making of the rows is nobody's query.
                filling.query("SELECT public.pg_stat_statements_reset()")
            fill(filling.connection, traffic, on_step)
        session.execute(comment.format(identifier, sql.Literal(json.dumps({MARK: mark | {"ready": True}}))))
    except psycopg2.Error as error:
        why = ServerError.of(error).reason
        raise RunbookError(f"Database {name!r} on {session.target} could not be made: {why}.", changed=True) from None


def _with_login(session: Session, role: str, password: str) -> tuple[sql.Composed, tuple[str]]:
    """The statement that lets ``role`` log in; the server gets no more than the password's verifier."""
    verifier = psycopg2.extensions.encrypt_password(password, role, scope=session.connection, algorithm="scram-sha-256")
    return sql.SQL("ALTER ROLE {} LOGIN PASSWORD %s").format(sql.Identifier(role)), (str(verifier),)


def fill(connection: Any, steps: Sequence[Step], on_step: Callable[[str, int, int], None] = lambda *_: None) -> None:
    """Run ``steps`` on one psycopg2 connection, which is in autocommit already."""
    with connection.cursor() as cursor:
        for number, step in enumerate(steps):
            on_step(step.label, number, len(steps))
            cursor.execute(step.sql)
    on_step("done", len(steps), len(steps))
