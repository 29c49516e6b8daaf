"""Content hashes of tables, computed by the server: see ``rules/postgres/content_hash.py`` for what they are.

Every function expects a session that :func:`settle` pinned, since the text of a value depends on settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2.errors
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.content_hash import SAMPLE_ONE_IN, Column, Content, Table
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.content_hash import Coverage, Method

#: Settings that the text of a value, or the set of rows that is seen, depends on.
_PINNED = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "xmloption": "content",
    # Rows that a policy hides would be missing in silence; the server refuses instead.
    "row_security": "off",
    "jit": "off",
    "synchronize_seqscans": "off",
}

#: Sequences that one query reads.
_SEQUENCE_BATCH = 200

#: First server version that tells who may read a large object.
_HAS_LARGE_OBJECT_PRIVILEGE = 180000

#: A piece of a large object that is hashed at once, in bytes.
_PIECE_BYTES = 1 << 20

_TABLES = """
    SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, pg_get_userbyid(c.relowner) AS owner,
           pg_table_size(c.oid) AS size_bytes,
           coalesce(json_agg(json_build_array(a.attname, tn.nspname, t.typname) ORDER BY a.attname COLLATE "C")
                    FILTER (WHERE a.attnum IS NOT NULL), '[]') AS columns
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    LEFT JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.objsubid = 0)
    GROUP BY c.oid, n.nspname, c.relname, c.relowner
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""


def settle(session: Session) -> None:
    """Pin every setting that a hash depends on, for the life of the session."""
    if session.query("SELECT current_setting('server_encoding') AS name")[0]["name"] == "SQL_ASCII":
        # It may hold what is no text in any encoding. The server converts nothing there, and lets any byte pass as
        # Latin 1; the driver is not told, so that it goes on to read and write names as UTF-8.
        session.query("SELECT set_config('client_encoding', 'LATIN1', false)")
    session.query(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS pinned(name, value)",
        (list(_PINNED), list(_PINNED.values())),
    )


def read_tables(session: Session) -> list[Table]:
    """Tables whose rows a logical backup holds, by schema and name.

    Leaves of partitioned tables are among them. Left out: what holds no rows of its own (views, partitioned parents,
    foreign tables), what is computed again at a restore (materialized views), temporary tables, tables of extensions.
    """
    return [
        Table(
            oid=row["oid"],
            name=QualifiedName(row["schema"], row["name"]),
            size_bytes=row["size_bytes"],
            columns=tuple(Column(*column) for column in row["columns"]),
            owner=row["owner"],
        )
        for row in session.query(_TABLES)
        # The size of one that was dropped this moment is NULL.
        if row["size_bytes"] is not None
    ]


def read_sequences(session: Session) -> dict[QualifiedName, str]:
    """The state of each sequence that a dump carries, as ``(last_value,is_called)``.

    It is that of this moment, whatever the session's snapshot.

    :raises psycopg2.Error: this user may not read one of them, or it is locked or gone
    """
    names = [
        QualifiedName(**row)
        for row in session.query(
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence <> 't'"
            " AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass"
            " AND d.objid = c.oid AND d.objsubid = 0) ORDER BY 1, 2"
        )
    ]
    found: dict[QualifiedName, str] = {}
    for first in range(0, len(names), _SEQUENCE_BATCH):
        batch = names[first : first + _SEQUENCE_BATCH]
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {} AS number, ROW(s.last_value, s.is_called)::text AS state FROM {} AS s").format(
                sql.Literal(number), sql.Identifier(*name)
            )
            for number, name in enumerate(batch)
        )
        found |= {batch[row["number"]]: row["state"] for row in session.query(query)}
    return found


def _digest(values: Iterable[sql.Composable], method: Method, server_version: int) -> sql.Composed:
    """The 64-bit hash of one row of ``values``."""
    row = sql.SQL("record_send(ROW({}))").format(sql.SQL(", ").join(values))
    if method == "dumped-md5-sum":
        return sql.SQL("('x' || left(md5({}), 16))::bit(64)::bigint").format(row)
    # Two names of one figure; 18 gives its name to SQL, before it can only be had for a row of that one value.
    name = "hashbyteaextended({}, 0)" if server_version >= 180000 else "hash_record_extended(ROW({}), 0)"
    return sql.SQL(name).format(row)


def _value(column: Column) -> sql.Composed:
    # format() calls the type's output function, where a cast to text may be anybody's; %L tells a null from ''.
    form = sql.SQL("t.{}" if column.form == "binary" else "format('%L', t.{})")
    return form.format(sql.Identifier(column.name))


def statement(table: Table, method: Method, coverage: Coverage, server_version: int) -> sql.Composed:
    """The query that counts and hashes a table in one pass: columns ``rows`` and ``digest`` (text)."""
    digest: sql.Composable = sql.SQL("sum({})").format(_digest(map(_value, table.columns), method, server_version))
    if coverage == "sampled" and table.sample_column is not None:
        key = _digest([_value(table.sample_column)], method, server_version)
        digest = sql.SQL("{} FILTER (WHERE {} & {} = 0)").format(digest, key, sql.Literal(SAMPLE_ONE_IN - 1))
    if coverage == "none":
        digest = sql.SQL("NULL")
    return sql.SQL("SELECT count(*) AS rows, ({})::text AS digest FROM ONLY {} AS t").format(
        digest, sql.Identifier(table.name.schema, table.name.name)
    )


def hash_table(session: Session, table: Table, method: Method, coverage: Coverage = "all") -> Content:
    """Count and hash a table.

    An empty table, and a sample that happens to be empty, has digest "0".

    :raises RunbookError: this user may not read it, or row-level security would hide rows, or it is gone
    """
    user = session.target.user
    try:
        row = session.query(statement(table, method, coverage, session.server_version))[0]
    except psycopg2.errors.InsufficientPrivilege as error:
        if "row-level security" in str(error):
            raise RunbookError(
                f"{table.name}: row-level security would hide rows from user {user!r}; use the table's owner, or a "
                "role with BYPASSRLS."
            ) from None
        raise RunbookError(
            f"{table.name}: user {user!r} may not read it; grant pg_read_all_data to that user."
        ) from None
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn, psycopg2.errors.InvalidSchemaName):
        raise RunbookError(f"{table.name}: it was dropped or altered meanwhile; run again.") from None
    return Content(int(row["rows"]), None if coverage == "none" else row["digest"] or "0")


def unread_large_objects(session: Session) -> dict[str, int]:
    """How many large objects of each owner this user may not read; pg_read_all_data is no right on them."""
    if session.server_version >= _HAS_LARGE_OBJECT_PRIVILEGE:
        reads = "has_largeobject_privilege(m.oid, 'SELECT')"
    else:
        reads = (
            "pg_has_role(m.lomowner, 'USAGE') OR EXISTS (SELECT FROM aclexplode(m.lomacl) AS x"
            " WHERE x.privilege_type = 'SELECT' AND CASE WHEN x.grantee = 0 THEN true"
            " ELSE pg_has_role(x.grantee, 'USAGE') END)"
        )
    rows = session.query(
        "SELECT pg_get_userbyid(m.lomowner) AS owner, count(*) AS unread FROM pg_largeobject_metadata AS m"  # noqa: S608 - a constant
        f" WHERE NOT ({reads}) AND current_setting('lo_compat_privileges') = 'off' GROUP BY m.lomowner ORDER BY 1"
    )
    return {row["owner"]: row["unread"] for row in rows}


def hash_large_objects(session: Session, method: Method, coverage: Coverage = "all") -> Content:
    """Count and hash all large objects; they are read in pieces of 1 MiB, so none is too large.

    :raises RunbookError: this user may not read one of them
    """
    if coverage == "none":
        return Content(session.query("SELECT count(*) AS rows FROM pg_largeobject_metadata")[0]["rows"], None)

    def pieces(number: sql.SQL, source: sql.SQL) -> sql.Composed:
        return sql.SQL(
            "SELECT o.oid, {number} AS n, octet_length(p.data) AS bytes, {digest} AS digest FROM {source} AS o,"
            " LATERAL (SELECT lo_get(o.oid, ({number}) * {most}, {most}) AS data) AS p"
        ).format(
            number=number,
            source=source,
            most=sql.Literal(_PIECE_BYTES),
            digest=_digest([sql.SQL("o.oid"), number, sql.SQL("p.data")], method, session.server_version),
        )

    first = pieces(sql.SQL("0::bigint"), sql.SQL("pg_largeobject_metadata"))
    following = pieces(sql.SQL("o.n + 1"), sql.SQL("pieces"))
    try:
        row = session.query(
            sql.SQL(
                "WITH RECURSIVE pieces AS ({} UNION ALL {} WHERE o.bytes = {})"
                " SELECT count(*) FILTER (WHERE n = 0) AS rows, sum(digest)::text AS digest FROM pieces"
            ).format(first, following, sql.Literal(_PIECE_BYTES))
        )[0]
    except psycopg2.errors.InsufficientPrivilege:
        raise RunbookError(
            f"A large object may not be read by user {session.target.user!r}; as its owner GRANT SELECT ON LARGE "
            "OBJECT … to that user."
        ) from None
    return Content(int(row["rows"]), row["digest"] or "0")


def probe(session: Session, method: Method) -> str:
    """The hash of known values of many types: two servers that differ in it hash differently."""
    sent = (
        "1::int2", "-2::int4", "3000000000::int8", "true", "'text'::text", "'c'::\"char\"", "1.500::numeric",
        "'2026-11-23 03:00:00.000001+00'::timestamptz", "'2026-11-23'::date", "'\\x00ff'::bytea", "'ab'::char(4)",
        "'6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid", "NULL::text",
    )  # fmt: skip
    written = (
        "'NaN'::float8", "0.1::float4", "'1 mon 2 days 3.5 s'::interval", "'{1,NULL,3}'::int4[]", "'[1,5)'::int4range",
        "'{\"a\": [1, 2.0]}'::jsonb", "'a b:2A'::tsvector", "'10.0.0.1/8'::inet", "NULL::float8",
    )  # fmt: skip
    values = [*sent, *(f"format('%L', {value})" for value in written)]
    digest = _digest([sql.SQL(value) for value in values], method, session.server_version)
    query = sql.SQL("SELECT ({})::text AS digest").format(digest)
    return str(session.query(query)[0]["digest"])
