"""Ask the catalogue what ``pg_dump`` will leave out of a backup: see ``rules/backup/backup_gaps.py``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg2.errors
from ansible.module_utils.runbook.rules.backup.backup_gaps import MOST_ROWS, Gap
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: Longest count of one extension's table, in milliseconds.
_COUNT_TIMEOUT_MS = 30_000
#: OIDs below it are of initdb.
_FIRST_OWN_OID = 16384

_CATALOGUE = """
    WITH me AS (SELECT rolsuper AS is_superuser FROM pg_roles WHERE rolname = current_user),
         here AS (SELECT oid FROM pg_database WHERE datname = current_database())
    SELECT 'subscription' AS kind, subname::text AS name FROM pg_subscription, here, me
    WHERE subdbid = here.oid AND NOT is_superuser
    UNION ALL
    SELECT 'mapping', format('%s for %s', m.srvname, m.usename) FROM pg_user_mappings m
    JOIN pg_foreign_server s ON s.oid = m.srvid, me
    -- The view shows null for options that this user may not see, as for none.
    WHERE NOT is_superuser AND m.umoptions IS NULL AND NOT (
        m.umuser <> 0 AND m.usename = current_user
        AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE'))
        OR m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE'))
    UNION ALL
    SELECT 'foreign', format('%s.%s', n.nspname, c.relname) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f'
    UNION ALL
    SELECT 'system', format('%s.%s', n.nspname, c.relname) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname IN ('information_schema', 'pg_catalog') AND c.oid >= {first}
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid)
    UNION ALL
    SELECT 'prepared', count(*)::text FROM pg_prepared_xacts WHERE database = current_database() HAVING count(*) > 0
    ORDER BY 1, 2
"""

#: Tables of extensions, with the condition under which ``pg_dump`` takes their rows; null where it takes none.
_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name, e.xmin::text AS made, d.xmin::text AS joined, c.relkind AS kind,
           (SELECT e.extcondition[k] FROM generate_subscripts(e.extconfig, 1) k
            WHERE e.extconfig[k] = c.oid) AS condition
    FROM pg_depend d
    JOIN pg_extension e ON e.oid = d.refobjid
    JOIN pg_class c ON c.oid = d.objid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass
      AND d.objsubid = 0 AND c.relkind IN ('r', 'S') AND c.relpersistence <> 't'
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""


def read(session: Session) -> list[Gap]:
    """What a backup by this user, of what this session sees, will be without.

    The session may be in a transaction, which is left as it was.
    """
    found = [Gap(**row) for row in session.query(sql.SQL(_CATALOGUE).format(first=sql.Literal(_FIRST_OWN_OID)))]
    return [*found, *_extension_rows(session)]


def _holds(session: Session, table: sql.Composable, condition: str, *, is_sequence: bool) -> bool:
    """Whether pg_dump takes anything of an extension's table or sequence."""
    rows = sql.SQL("SELECT FROM ONLY {} ").format(table) + sql.SQL("WHERE is_called" if is_sequence else condition)
    return bool(session.query(sql.SQL("SELECT EXISTS ({}) AS found").format(rows))[0]["found"])


@contextmanager
def _tentatively(session: Session) -> Iterator[None]:
    """For a query that may be refused or last too long: the transaction around it, if there is one, goes on."""
    in_transaction = not session.connection.autocommit
    bound = session.query("SELECT current_setting('statement_timeout') AS bound")[0]["bound"]
    if in_transaction:
        session.query("SAVEPOINT asking")
    session.query("SELECT set_config('statement_timeout', %s, false)", (str(_COUNT_TIMEOUT_MS),))
    try:
        yield
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.QueryCanceled):
        if in_transaction:
            session.query("ROLLBACK TO SAVEPOINT asking")
        session.query("SELECT set_config('statement_timeout', %s, false)", (bound,))
        raise
    session.query("SELECT set_config('statement_timeout', %s, false)", (bound,))


def _extension_rows(session: Session) -> Iterator[Gap]:
    for row in session.query(_TABLES):
        name = QualifiedName(row["schema"], row["name"])
        table = sql.Identifier(name.schema, name.name)
        try:
            if row["condition"] is not None:
                with _tentatively(session):
                    holds = _holds(session, table, row["condition"], is_sequence=row["kind"] == "S")
                if holds:
                    yield Gap("configuration", str(name))
            if row["condition"] == "" or row["kind"] == "S":
                continue
            # What the extension's own script wrote comes back with it: those rows are of the transaction that made it.
            own = sql.Literal(row["made"] if row["made"] == row["joined"] else "0")
            rows = sql.SQL("SELECT ctid FROM ONLY {} AS t WHERE t.xmin <> {}::xid").format(table, own)
            if row["condition"]:
                # As pg_dump puts it behind the table's name; it is the extension's, not a user's.
                rows += sql.SQL(" EXCEPT SELECT ctid FROM ONLY {} ").format(table) + sql.SQL(row["condition"])
            count = sql.SQL("SELECT count(*) AS rows FROM ({} LIMIT {}) AS counted").format(
                rows, sql.Literal(MOST_ROWS + 1)
            )
            with _tentatively(session):
                many = int(session.query(count)[0]["rows"])
        except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.QueryCanceled):
            yield Gap("unread", str(name))
        else:
            if many:
                yield Gap("extension", str(name), many)
