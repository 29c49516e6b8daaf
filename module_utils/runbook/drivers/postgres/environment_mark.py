"""Reads and sets the mark by which a database says to which environment it belongs (``rules/environment_mark.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.environment_mark import SETTING
from psycopg2 import sql

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session


def settings(session: Session, database: str) -> list[str]:
    """What says where ``database`` belongs: settings that hold for all roles, as ``name=value``, then a comment.

    The comment, of the schema ``runbook``, is seen in the database alone that the session is connected to.
    """
    rows = session.query(
        "SELECT unnest(setconfig) AS setting FROM pg_db_role_setting WHERE setrole = 0"
        " AND setdatabase = (SELECT oid FROM pg_database WHERE datname = %(database)s)"
        " UNION ALL SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace"
        " WHERE nspname = 'runbook' AND current_database() = %(database)s"
        " AND obj_description(oid, 'pg_namespace') IS NOT NULL",
        {"database": database},
    )
    return [row["setting"] for row in rows]


def statement(database: str, environment: str) -> sql.Composed:
    """The statement that marks ``database``, for whoever may run it (``rules/environment_mark.py``)."""
    return sql.SQL("ALTER DATABASE {} SET {} = {}").format(
        sql.Identifier(database), sql.SQL(SETTING), sql.Literal(environment)
    )
