"""Reads what the catalogs know about the space of tables and indexes, and measures pages with pgstattuple."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.bloat import PAGE_BYTES, Bloat, BtreePages, Column, HeapPages, Relation
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

# Nothing here takes a lock on a table: sizes do, and come from a query of their own.
_RELATIONS = """
SELECT c.oid::bigint AS oid, n.nspname, c.relname, c.relkind::text AS relkind, m.amname,
  c.reltuples, c.relpages, substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=(\\d+)')::int AS fillfactor,
  o.oid::bigint AS table_oid, o.relname AS table_name, p.nspname AS table_schema,
  h.inhparent::bigint AS parent_oid, o.oid < 16384 AS is_catalog,
  -- As the view pg_stats does; statistics of an expression belong to the index, and only its owner sees them.
  NOT has_table_privilege(r.oid, 'SELECT') OR row_security_active(r.oid)
    OR i.indexprs IS NOT NULL AND NOT pg_has_role(r.relowner, 'USAGE') AS hidden,
  coalesce(i.indisunique, false) AS is_unique, i.indpred IS NOT NULL AS is_partial,
  pg_stat_get_live_tuples(r.oid) AS live_rows, pg_stat_get_dead_tuples(r.oid) AS dead_rows, r.reltuples AS table_rows,
  coalesce(pg_stat_get_last_vacuum_time(r.oid), pg_stat_get_last_autovacuum_time(r.oid),
    pg_stat_get_last_analyze_time(r.oid), pg_stat_get_last_autoanalyze_time(r.oid)) IS NOT NULL AS counted,
  current_setting('server_version_num')::int >= 130000 AND m.amname = 'btree' AND NOT i.indisunique
    AND i.indnatts = i.indnkeyatts AND NOT 'deduplicate_items=off' = ANY (coalesce(c.reloptions, '{}'))
    AND NOT EXISTS (
      SELECT FROM unnest(i.indclass) AS k JOIN pg_opclass AS q ON q.oid = k WHERE NOT EXISTS (
        SELECT FROM pg_amproc AS a WHERE a.amprocfamily = q.opcfamily AND a.amprocnum = 4
          AND a.amproclefttype = q.opcintype AND a.amprocrighttype = q.opcintype))
    AND NOT EXISTS (SELECT FROM pg_collation AS l WHERE l.oid = ANY (i.indcollation) AND NOT l.collisdeterministic)
    AS deduplicates
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_am AS m ON m.oid = c.relam
LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
-- r: where its rows are; o: the table that people know it by.
JOIN pg_class AS r ON r.oid = coalesce(i.indrelid, c.oid)
LEFT JOIN pg_class AS w ON r.relkind = 't' AND w.reltoastrelid = r.oid
JOIN pg_class AS o ON o.oid = coalesce(w.oid, r.oid)
JOIN pg_namespace AS p ON p.oid = o.relnamespace
LEFT JOIN pg_inherits AS h ON o.relispartition AND h.inhrelid = o.oid
WHERE c.relkind IN ('r', 'm', 't', 'i') AND c.relpersistence <> 't'
"""

_PARENTS = """
SELECT c.oid::bigint AS oid, n.nspname, c.relname, h.inhparent::bigint AS parent_oid
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits AS h ON c.relispartition AND h.inhrelid = c.oid
WHERE c.relkind = 'p'
"""

# A table that somebody has for himself is left out, or the size would be waited for.
_SIZES = """
SELECT c.oid::bigint AS oid, pg_relation_size(c.oid) AS size_bytes
FROM pg_class AS c
WHERE c.oid = ANY (%(oids)s::bigint[]::oid[]) AND NOT EXISTS (
  SELECT FROM pg_locks AS l WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = c.oid
    AND l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
"""
SIZES_LOCK_TIMEOUT_MS = 20

# A dropped column is a null in every row written since.
_TABLE_COLUMNS = """
SELECT a.attrelid::bigint AS oid, a.attlen, a.attalign::text AS attalign, a.attnotnull,
  CASE WHEN a.attisdropped THEN 0 ELSE s.avg_width END AS avg_width,
  CASE WHEN a.attisdropped THEN 1 ELSE s.null_frac END AS null_frac, s.n_distinct
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_stats AS s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
  AND NOT s.inherited
WHERE a.attrelid = ANY (%(oids)s::bigint[]::oid[]) AND a.attnum > 0
ORDER BY a.attrelid, a.attnum
"""

# Of a plain column the table's statistics hold, of an expression the index's own.
_INDEX_COLUMNS = """
SELECT a.attrelid::bigint AS oid, a.attlen, a.attalign::text AS attalign,
  coalesce(t.attnotnull, false) OR r.relkind = 't' AS attnotnull,
  s.avg_width, s.null_frac, s.n_distinct
FROM pg_attribute AS a
JOIN pg_index AS i ON i.indexrelid = a.attrelid
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_class AS r ON r.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
LEFT JOIN pg_attribute AS t ON t.attrelid = i.indrelid AND t.attnum = i.indkey[a.attnum - 1]
  AND i.indkey[a.attnum - 1] <> 0
LEFT JOIN pg_stats AS s ON s.schemaname = n.nspname AND NOT s.inherited
  AND s.tablename = CASE WHEN i.indkey[a.attnum - 1] = 0 THEN c.relname ELSE r.relname END
  AND s.attname = coalesce(t.attname, a.attname)
WHERE a.attrelid = ANY (%(oids)s::bigint[]::oid[]) AND a.attnum > 0
ORDER BY a.attrelid, a.attnum
"""

_ALIGN_BYTES = {"c": 1, "s": 2, "i": 4, "d": 8}


@dataclass(frozen=True)
class Catalog:
    """What was read."""

    relations: list[Relation]
    #: Name and own parent of each partitioned table, by oid.
    parents: dict[int, tuple[QualifiedName, int | None]]


def read(session: Session, *, min_size_bytes: int) -> Catalog:
    """Every relation with pages of its own; columns only of those that have at least ``min_size_bytes``.

    :raises RunbookError: the server was built with pages of another size
    """
    page = session.query("SELECT current_setting('block_size')::int AS page")[0]["page"]
    if page != PAGE_BYTES:
        raise RunbookError(
            f"{session.target} was built with pages of {page:,} bytes; bloat is only known how to tell for "
            f"{PAGE_BYTES:,}."
        )
    rows = session.query(_RELATIONS)
    found = sizes(session, [row["oid"] for row in rows])
    relations = [_relation(row, found.get(row["oid"])) for row in rows]
    relevant = [r for r in relations if r.size_bytes is not None and r.size_bytes >= max(min_size_bytes, 1)]
    columns = _columns(session, _TABLE_COLUMNS, [r.oid for r in relevant if r.kind in ("r", "m")])
    columns |= _columns(session, _INDEX_COLUMNS, [r.oid for r in relevant if r.access_method == "btree"])
    parents = {
        row["oid"]: (QualifiedName(row["nspname"], row["relname"]), row["parent_oid"])
        for row in session.query(_PARENTS)
    }
    return Catalog([replace(r, columns=columns.get(r.oid, ())) for r in relations], parents)


def _relation(row: dict[str, Any], size_bytes: int | None) -> Relation:
    # An index that leaves no row out has as many entries as its table has rows, which is counted more often.
    rows_of_table = row["relkind"] == "i" and not row["is_partial"]
    return Relation(
        oid=row["oid"],
        name=QualifiedName(row["nspname"], row["relname"]),
        kind=row["relkind"],
        access_method=row["amname"],
        size_bytes=size_bytes,
        planner_rows=row["table_rows"] if rows_of_table else row["reltuples"],
        live_rows=0 if row["is_partial"] else row["live_rows"] or 0,
        dead_rows=0 if row["is_partial"] else row["dead_rows"] or 0,
        counted=row["counted"] and not row["is_partial"],
        fillfactor=row["fillfactor"],
        table_oid=row["table_oid"],
        table=QualifiedName(row["table_schema"], row["table_name"]),
        parent_oid=row["parent_oid"],
        is_catalog=row["is_catalog"],
        hidden=bool(row["hidden"]),
        is_unique=row["is_unique"],
        is_partial=row["is_partial"],
        deduplicates=bool(row["deduplicates"]),
    )


def sizes(session: Session, oids: Sequence[int]) -> dict[int, int]:
    """Sizes of the main forks; a table that would have to be waited for is left out."""
    usual = session.query(
        "SELECT current_setting('lock_timeout') AS usual, set_config('lock_timeout', %s, false)",
        (f"{SIZES_LOCK_TIMEOUT_MS}ms",),
    )[0]["usual"]
    found: dict[int, int] = {}
    pending = [list(oids)]
    while pending:
        batch = pending.pop()
        try:
            rows = session.query(_SIZES, {"oids": batch}) if batch else []
            found |= {row["oid"]: row["size_bytes"] for row in rows if row["size_bytes"] is not None}
        except psycopg2.errors.LockNotAvailable:
            # Somebody waits for a lock of his own; halves find out on which table.
            if len(batch) > 1:
                middle = len(batch) // 2
                pending += [batch[:middle], batch[middle:]]
    session.query("SELECT set_config('lock_timeout', %s, false)", (usual,))
    return found


def _columns(session: Session, statement: str, oids: Sequence[int]) -> dict[int, tuple[Column, ...]]:
    found: dict[int, list[Column]] = {}
    for row in session.query(statement, {"oids": list(oids)}) if oids else []:
        found.setdefault(row["oid"], []).append(
            Column(
                width_bytes=row["avg_width"],
                null_share=row["null_frac"],
                length=row["attlen"],
                align=_ALIGN_BYTES[row["attalign"]],
                not_null=row["attnotnull"],
                distinct=row["n_distinct"],
            )
        )
    return {oid: tuple(columns) for oid, columns in found.items()}


@dataclass(frozen=True)
class Measuring:
    """Whether this user can have pages measured."""

    #: Where the extension pgstattuple is; None: it cannot be used.
    schema: str | None
    #: What is missing, and the statement that mends it; empty where nothing is.
    fix: str = ""


def measuring(session: Session) -> Measuring:
    """Look for the extension pgstattuple, and for the rights on it."""
    user = session.render(sql.Identifier(session.target.user))
    rows = session.query(
        "SELECT n.nspname AS schema, has_schema_privilege(n.oid, 'USAGE') AS usable, 2 = ("
        "SELECT count(DISTINCT p.proname) FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid"
        " AND d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid"
        " WHERE p.proname IN ('pgstattuple_approx', 'pgstatindex') AND p.proargtypes[0] = 'regclass'::regtype"
        " AND has_function_privilege(p.oid, 'EXECUTE')) AS executable"
        " FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pgstattuple'"
    )
    grants = []
    if not rows:
        offered = session.query("SELECT 1 FROM pg_available_extensions WHERE name = 'pgstattuple'")
        install = "" if offered else "install the server's contrib package, then "
        # As db_roles.yml has it.
        grants = [
            "CREATE SCHEMA IF NOT EXISTS runbook", "CREATE EXTENSION pgstattuple SCHEMA runbook",
            f"GRANT USAGE ON SCHEMA runbook TO {user}",
        ]  # fmt: skip
        grants.append(f"GRANT pg_stat_scan_tables TO {user}")
        return Measuring(None, f"{install}run playbooks/db_roles.yml, or as a superuser {'; '.join(grants)}")
    row = rows[0]
    if not row["usable"]:
        grants.append(f"GRANT USAGE ON SCHEMA {session.render(sql.Identifier(row['schema']))} TO {user}")
    if not row["executable"]:
        grants.append(f"GRANT pg_stat_scan_tables TO {user}")
    if grants:
        return Measuring(None, f"run playbooks/db_roles.yml, or as a superuser {'; '.join(grants)}")
    return Measuring(row["schema"])


def measure(
    session: Session,
    schema: str,
    bloats: Iterable[Bloat],
    *,
    deadline: float,
    tick: Callable[[int, Relation], None] = lambda _done, _relation: None,
) -> dict[int, HeapPages | BtreePages]:
    """What pgstattuple finds in each relation, by oid; one that is locked, gone or broken is left out.

    :param schema: where the extension is
    :param deadline: of ``time.monotonic()``; what it would cut is left out
    :param tick: called before each relation, with how many were looked at
    """
    found: dict[int, HeapPages | BtreePages] = {}
    usual = session.query("SELECT current_setting('statement_timeout') AS usual")[0]["usual"]
    for done, bloat in enumerate(bloats):
        relation = bloat.relation
        left_ms = int((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            break
        tick(done, relation)
        try:
            session.query("SELECT set_config('statement_timeout', %s, false)", (str(left_ms),))
            found[relation.oid] = _measure(session, schema, relation)
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled):
            continue
        except psycopg2.Error as error:
            if session.connection.closed or error.pgcode is None:
                raise
            # Gone meanwhile, another access method, or damaged: the estimate stays.
            continue
    session.query("SELECT set_config('statement_timeout', %s, false)", (usual,))
    return found


def _measure(session: Session, schema: str, relation: Relation) -> HeapPages | BtreePages:
    if relation.is_index:
        row = session.query(
            sql.SQL(
                "SELECT index_size, leaf_pages, internal_pages, nullif(avg_leaf_density, 'NaN') AS density"
                " FROM {}(%s::bigint::oid::regclass)"
            ).format(sql.Identifier(schema, "pgstatindex")),
            (relation.oid,),
        )[0]
        return BtreePages(row["index_size"], row["leaf_pages"], row["internal_pages"], row["density"])
    row = session.query(
        sql.SQL(
            "SELECT table_len, approx_tuple_count AS rows, approx_tuple_len FROM {}(%s::bigint::oid::regclass)"
        ).format(sql.Identifier(schema, "pgstattuple_approx")),
        (relation.oid,),
    )[0]
    return HeapPages(row["table_len"], row["rows"], row["approx_tuple_len"])


def fix(bloat: Bloat) -> sql.Composed:
    """The statement that rewrites a bloated relation: an index while everybody works, a table under a lock.

    TOAST has no name of its own in such a statement; it is written with its table.
    """
    relation = bloat.relation
    text = "REINDEX INDEX CONCURRENTLY {}" if relation.is_index else "VACUUM (FULL, ANALYZE) {}"
    return sql.SQL(text).format(postgres.table(relation.table if relation.kind == "t" else relation.name))
