"""Rows that are over: counted with those that foreign keys take along, and deleted in batches by their key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.postgres.archive import translate_errors
from ansible.module_utils.runbook.drivers.postgres.postgres import table as identifier
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.cleanup import Need
from psycopg2 import sql

if TYPE_CHECKING:
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.archive_tables import ForeignKey, Table
    from ansible.module_utils.runbook.rules.postgres.cleanup import Rule


def tables(session: Session) -> list[str]:
    """The tables that people made, as ``schema.table``."""
    rows = session.query(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema$' ORDER BY 1, 2"
    )
    return [str(QualifiedName(row["nspname"], row["relname"])) for row in rows]


def referring(session: Session, table: Table, key: ForeignKey) -> tuple[QualifiedName, list[tuple[str, str]]]:
    """The table that a foreign key belongs to, and its columns, each with the one that it refers to."""
    rows = session.query(
        "SELECT n.nspname, c.relname, a.attname AS own, b.attname AS other"
        " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN unnest(k.conkey, k.confkey) AS pair (own, other)"
        " JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = pair.own"
        " JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = pair.other"
        # Compared as text: the other way round the server asks for USAGE on the schema.
        " WHERE k.contype = 'f' AND k.conname = %s AND k.conrelid::regclass::text = %s"
        " AND k.confrelid = ANY(%s::oid[])",
        (key.name, key.table, list(table.tree)),
    )
    return QualifiedName(rows[0]["nspname"], rows[0]["relname"]), [(row["own"], row["other"]) for row in rows]


def needs(session: Session, rule: Rule, table: Table) -> list[Need]:
    """What a rule asks for: of its own table first, then of those whose rows foreign keys take along, key by key."""
    own, along = {*table.key, rule.column}, []
    for key in table.referencing_keys:
        child, columns = referring(session, table, key)
        own |= {other for _, other in columns}
        along.append(Need(child, tuple(each for each, _ in columns), deletes=False))
    return [Need(rule.table, tuple(sorted(own)), deletes=True), *along]


def related(session: Session, name: QualifiedName) -> list[QualifiedName]:
    """The tables that a table's rows stand in too: its partitions, what it is a partition of, and so by inheritance."""
    rows = session.query(
        "WITH RECURSIVE own AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s),"
        " below AS (SELECT oid FROM own UNION SELECT inhrelid FROM pg_inherits JOIN below ON oid = inhparent),"
        " above AS (SELECT oid FROM own UNION SELECT inhparent FROM pg_inherits JOIN above ON oid = inhrelid)"
        " SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid IN (SELECT oid FROM below UNION SELECT oid FROM above) AND c.oid NOT IN (SELECT oid FROM own)"
        " ORDER BY 1, 2",
        tuple(name),
    )
    return [QualifiedName(row["nspname"], row["relname"]) for row in rows]


class Rows:
    """The rows of one table whose time is before a moment."""

    def __init__(self, session: Session, table: Table, column: str, cutoff: datetime) -> None:
        self.session, self.table = session, table
        kind = table.named(column).base_type
        # -infinity is no time at which anything was over.
        self._over = sql.SQL("t.{column} < {cutoff}::timestamptz::{kind} AND isfinite(t.{column})").format(
            column=sql.Identifier(column), cutoff=sql.Literal(cutoff.isoformat()), kind=sql.SQL(kind)
        )
        self._order = sql.Identifier(column)

    def count(self) -> int:
        """How many there are now."""
        query = sql.SQL("SELECT count(*) AS rows FROM {} AS t WHERE {}").format(identifier(self.table.name), self._over)
        with translate_errors():
            return int(self.session.query(query)[0]["rows"])

    def count_along(self, child: QualifiedName, columns: list[tuple[str, str]]) -> int:
        """Rows of another table that refer to them."""
        joined = sql.SQL(" AND ").join(
            sql.SQL("r.{} = t.{}").format(sql.Identifier(own), sql.Identifier(other)) for own, other in columns
        )
        query = sql.SQL("SELECT count(*) AS rows FROM {} AS r JOIN {} AS t ON {} WHERE {}").format(
            identifier(child), identifier(self.table.name), joined, self._over
        )
        with translate_errors():
            return int(self.session.query(query)[0]["rows"])

    def statement(self, most_rows: int) -> sql.Composable:
        """Deletes the oldest rows. One that somebody renewed meanwhile is looked at again by the server, and stays."""
        key = sql.SQL(", ").join(map(sql.Identifier, self.table.key))
        same = sql.SQL(" AND ").join(
            sql.SQL("t.{0} = o.{0}").format(sql.Identifier(column)) for column in self.table.key
        )
        return sql.SQL(
            "DELETE FROM {table} AS t"
            " USING (SELECT {key} FROM {table} AS t WHERE {over} ORDER BY t.{order} LIMIT {rows}) AS o"
            " WHERE {same} AND {over}"
        ).format(
            table=identifier(self.table.name), key=key, over=self._over, order=self._order,
            rows=sql.Literal(most_rows), same=same,
        )  # fmt: skip

    def delete(self, most_rows: int) -> int:
        """One batch in a transaction of its own; how many rows it took."""
        with translate_errors(), self.session.transaction(), self.session.connection.cursor() as cursor:
            cursor.execute(self.statement(most_rows))
            return int(cursor.rowcount)
