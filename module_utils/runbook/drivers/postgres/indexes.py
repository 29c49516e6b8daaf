"""Reads what the server knows about its indexes, its tables and its own health; a dozen queries, however many tables.

Nothing here waits for a table that somebody has for himself, and nothing is written. HypoPG's indexes exist in this
session only.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers import records
from ansible.module_utils.runbook.drivers.postgres import bloat
from ansible.module_utils.runbook.drivers.postgres.postgres import table as identifier
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Estimate
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.health import SETTINGS, Key, Prepared, Server, Setting, Slot
from ansible.module_utils.runbook.rules.postgres.health import Session as OtherSession
from ansible.module_utils.runbook.rules.postgres.indexes import Catalog, ForeignKey, Index, Table
from ansible.module_utils.runbook.rules.supabase.managed import PLATFORM_OWNERS
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: A table that is dropped, or locked, between two of our queries makes one of them fail; then it is asked again.
ATTEMPTS = 6

# What the server, or an extension, made for itself is not ours to judge.
_OURS = """n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(temp|toast_temp)_'
  AND r.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass
    AND d.objid = r.oid AND d.deptype = 'e')"""
# Nor can anybody else alter what a managed platform made.
_ALTERABLE = f"{_OURS} AND pg_get_userbyid(r.relowner) NOT IN ({', '.join(map(repr, sorted(PLATFORM_OWNERS)))})"
_LOCKED = """
SELECT DISTINCT l.relation::bigint AS oid FROM pg_locks AS l
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
  AND l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_TABLES = """
SELECT r.oid::bigint AS oid, n.nspname, r.relname, r.relkind::text AS relkind, pg_get_userbyid(r.relowner) AS owner,
  CASE WHEN r.relispartition THEN h.inhparent::bigint END AS parent_oid, r.reltuples,
  pg_stat_get_live_tuples(r.oid) AS live_rows, pg_stat_get_numscans(r.oid) AS scans,
  pg_stat_get_tuples_returned(r.oid) AS returned,
  pg_stat_get_tuples_inserted(r.oid) + pg_stat_get_tuples_updated(r.oid) + pg_stat_get_tuples_deleted(r.oid) AS written,
  pg_stat_get_tuples_deleted(r.oid) AS deleted,
  greatest(CASE WHEN r.relfrozenxid <> '0' THEN age(r.relfrozenxid) END,
    CASE WHEN t.relfrozenxid <> '0' THEN age(t.relfrozenxid) END) AS xid_age,
  greatest(CASE WHEN r.relminmxid <> '0' THEN mxid_age(r.relminmxid) END,
    CASE WHEN t.relminmxid <> '0' THEN mxid_age(t.relminmxid) END) AS mxid_age
FROM pg_class AS r
JOIN pg_namespace AS n ON n.oid = r.relnamespace
LEFT JOIN pg_class AS t ON t.oid = r.reltoastrelid
LEFT JOIN pg_inherits AS h ON r.relispartition AND h.inhrelid = r.oid
WHERE r.relkind IN ('r', 'm', 'p') AND {ours}
"""
# Expressions and predicates are put into words by functions that open the table.
_INDEXES = """
SELECT c.oid::bigint AS oid, s.nspname, c.relname, c.relkind::text AS relkind, m.amname,
  i.indrelid::bigint AS table_oid, i.indnkeyatts,
  array_to_string(i.indkey, ',') AS keys, array_to_string(i.indclass, ',') AS classes,
  array_to_string(i.indcollation, ',') AS collations, array_to_string(i.indoption, ',') AS options,
  CASE WHEN i.indexprs IS NOT NULL THEN ARRAY(
    SELECT pg_get_indexdef(c.oid, k, false) FROM generate_series(1, i.indnkeyatts) AS k) END AS expressions,
  pg_get_expr(i.indpred, i.indrelid) AS predicate, i.indpred IS NOT NULL AS is_partial,
  i.indisunique, i.indisprimary, i.indimmediate, i.indisreplident,
  i.indisvalid AND i.indisready AND i.indislive AS is_valid,
  {nulls} AS nulls_not_distinct, k.conname, coalesce(k.referenced, false) AS referenced,
  h.inhparent::bigint AS parent_oid, pg_stat_get_numscans(c.oid) AS scans, {last_scan} AS last_scan,
  {created} AS created_at, pg_get_indexdef(c.oid) AS definition
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_namespace AS s ON s.oid = c.relnamespace
JOIN pg_am AS m ON m.oid = c.relam
LEFT JOIN pg_inherits AS h ON c.relispartition AND h.inhrelid = c.oid
LEFT JOIN (SELECT conindid, min(conname) FILTER (WHERE contype IN ('p', 'u', 'x')) AS conname,
    bool_or(contype = 'f') AS referenced
  FROM pg_constraint WHERE conindid <> 0 GROUP BY conindid) AS k ON k.conindid = c.oid
WHERE i.indrelid = ANY (%(tables)s::bigint[]::oid[])
"""
# Whose table is hidden from this user may be on any.
_BUILDING = "SELECT relid::bigint AS oid FROM pg_stat_progress_create_index WHERE datname = current_database()"
_FOREIGN_KEYS = """
SELECT k.oid::bigint AS oid, k.conname, k.conrelid::bigint AS table_oid, k.confrelid::bigint AS referenced_oid,
  nullif(k.conparentid, 0)::bigint AS parent_oid, k.conkey,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
    JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) AS names
FROM pg_constraint AS k WHERE k.contype = 'f'
"""
_COUNTED = """
SELECT now() AS now, coalesce(d.stats_reset, CASE WHEN %(created)s::timestamptz IS NOT NULL
    THEN greatest(%(created)s::timestamptz, g.stats_reset) END, ({evidence})) AS counted_since,
  (SELECT system_identifier FROM pg_control_system()) || '/' || d.datid || '/'
    || coalesce(extract(epoch FROM d.stats_reset)::text, '') || '/'
    || coalesce(extract(epoch FROM g.stats_reset)::text, '') AS counters_id,
  current_setting('track_counts')::boolean AS counts, pg_is_in_recovery() AS is_standby, d.blks_hit, d.blks_read,
  (SELECT count(*) FROM pg_stat_replication AS w
    LEFT JOIN pg_replication_slots AS s ON s.active_pid = w.pid AND s.slot_type = 'logical'
    WHERE s.slot_name IS NULL AND (w.state IS NULL OR w.state IN ('streaming', 'catchup'))
      AND coalesce(w.application_name, '') !~ '^(pg_receivewal|pg_basebackup|barman)') AS standbys
FROM pg_stat_database AS d CROSS JOIN pg_stat_bgwriter AS g WHERE d.datname = current_database()
"""
# Counters begin when the database is made or restored, when a crash loses them, or when somebody resets them. Of these,
# since version 15, only the last is written down for a database. The crash is written down for the background writer,
# and who may look at files sees when the database was made. For others: what the counters say to have happened long
# ago, they have counted since.
_EVIDENCE = """
SELECT min(least(pg_stat_get_last_vacuum_time(e.oid), pg_stat_get_last_autovacuum_time(e.oid),
  pg_stat_get_last_analyze_time(e.oid), pg_stat_get_last_autoanalyze_time(e.oid){last_scan}))
FROM pg_class AS e WHERE e.relkind IN ('r', 'm', 't', 'i') AND NOT e.relisshared
"""
_KEYS = """
SELECT n.nspname, r.relname, q.seqmin, q.seqmax, q.seqincrement, q.seqcycle, format_type(q.seqtypid, NULL) AS seqtype,
  has_sequence_privilege(r.oid, 'SELECT, USAGE') AS readable,
  CASE WHEN has_sequence_privilege(r.oid, 'SELECT, USAGE') THEN pg_sequence_last_value(r.oid) END AS last_value,
  tn.nspname AS table_schema, t.relname AS table_name, a.attname, format_type(a.atttypid, NULL) AS column_type
FROM pg_sequence AS q
JOIN pg_class AS r ON r.oid = q.seqrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
LEFT JOIN pg_depend AS o ON o.classid = 'pg_class'::regclass AND o.objid = r.oid AND o.objsubid = 0
  AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i') AND o.refobjsubid > 0
LEFT JOIN pg_class AS t ON t.oid = o.refobjid
LEFT JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
WHERE r.oid <> ALL (%(locked)s::bigint[]::oid[]) AND {ours}
  AND NOT (r.relpersistence = 'u' AND pg_is_in_recovery())
"""
# What no sequence fills is known from the planner's statistics: their last bound is the highest value seen. Who may not
# read the column may not read those either.
_FILLED_KEYS = """
SELECT n.nspname, r.relname, a.attname, format_type(a.atttypid, NULL) AS column_type,
  (s.histogram_bounds::text::bigint[])[array_upper(s.histogram_bounds::text::bigint[], 1)] AS last_value,
  has_column_privilege(r.oid, a.attnum, 'SELECT') OR EXISTS (SELECT FROM pg_depend AS o
    WHERE o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass AND o.refobjid = r.oid
    AND o.refobjsubid = a.attnum AND o.deptype IN ('a', 'i')) AS readable
FROM pg_index AS i
JOIN pg_class AS r ON r.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum = i.indkey[0] AND a.atttypid IN (21, 23)
-- OFFSET 0: looked up one by one. Joined by names, of whose number the planner has no idea, it would be quadratic.
LEFT JOIN LATERAL (SELECT p.histogram_bounds FROM pg_stats AS p WHERE p.schemaname = n.nspname
  AND p.tablename = r.relname AND p.attname = a.attname AND NOT p.inherited OFFSET 0) AS s ON true
WHERE i.indisunique AND i.indnkeyatts = 1 AND {ours}
"""
_SESSIONS = """
SELECT pid, backend_start::text AS started_at, usename, application_name, state,
  extract(epoch FROM clock_timestamp() - xact_start)::float AS transaction_s,
  extract(epoch FROM clock_timestamp() - state_change)::float AS state_s,
  query = '<insufficient privilege>' AS hidden
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') IN
  ('client backend', 'walsender')
"""
_PREPARED = """
SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float AS age_s FROM pg_prepared_xacts
WHERE database = current_database()
"""
_SLOTS = """
SELECT slot_name, slot_type, active, wal_status, pg_wal_lsn_diff(
  CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint
  AS retained_bytes
FROM pg_replication_slots WHERE NOT temporary
"""
_CHECKSUMS = """
SELECT CASE WHEN current_setting('data_checksums') IN ('on', 'true') THEN (
  SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database
  WHERE datid = 0 OR datname = current_database()) END AS failures,
  CASE WHEN has_database_privilege(current_database(), 'CONNECT') THEN pg_database_size(current_database()) END AS size
"""


def quoter(session: Session) -> Callable[..., str]:
    """A function that quotes an identifier, or several that are joined by dots."""
    return lambda *parts: str(sql.Identifier(*parts).as_string(session.connection))


def _asked(session: Session, statement: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows of a query; asked again where a table was dropped or locked between two looks.

    :raises RunbookError: that happened each time
    """
    for _attempt in range(ATTEMPTS):
        try:
            return session.query(statement, values)
        except (
            psycopg2.errors.LockNotAvailable,
            psycopg2.errors.UndefinedTable,
            psycopg2.errors.UndefinedObject,
            # "could not open relation", where it went between two system caches.
            psycopg2.errors.InternalError_,
        ):
            continue
    raise RunbookError(
        f"{session.target}: tables were locked or dropped while the catalogs were read, {ATTEMPTS} times over; run "
        "again when nobody changes the schema."
    )


def read(session: Session, directory: str | None = None) -> Catalog:
    """Tables, indexes and foreign keys with their counters; what is exclusively locked is named and left out.

    :param directory: folder of this run's record, beside which an earlier run may have known more of the same counters
    """
    tables = [_table(row) for row in _asked(session, _TABLES.format(ours=_OURS))]
    locked = {row["oid"] for row in session.query(_LOCKED)}
    named = {table.oid: table for table in tables}
    free = [oid for oid in named if oid not in locked]
    version = session.server_version
    commits = session.query("SELECT current_setting('track_commit_timestamp')::boolean AS kept")[0]["kept"]
    # Asked before and after, for one that begins, and one that ends meanwhile.
    building = session.query(_BUILDING)
    rows = _asked(
        session,
        _INDEXES.format(
            nulls="i.indnullsnotdistinct" if version >= 150000 else "false",
            last_scan="pg_stat_get_lastscan(c.oid)" if version >= 160000 else "NULL::timestamptz",
            created="pg_xact_commit_timestamp(c.xmin)" if commits else "NULL::timestamptz",
        ),
        {"tables": free},
    )
    building += session.query(_BUILDING)
    tables_at_work = {row["oid"] for row in building}
    sizes = bloat.sizes(session, [oid for oid in free if named[oid].kind != "p"])
    sizes |= bloat.sizes(session, [row["oid"] for row in rows if row["relkind"] == "i"])
    counted = _counted(session, directory)
    keys = [
        ForeignKey(
            oid=row["oid"],
            name=row["conname"],
            table_oid=row["table_oid"],
            referenced_oid=row["referenced_oid"],
            columns=tuple(zip(row["conkey"], row["names"], strict=True)),
            parent_oid=row["parent_oid"],
        )
        for row in _asked(session, _FOREIGN_KEYS)
        # One that is being dropped has lost a column's name already.
        if row["table_oid"] in named and row["table_oid"] not in locked and len(row["conkey"]) == len(row["names"])
    ]
    return Catalog(
        tables={oid: _sized(table, sizes) for oid, table in named.items()},
        # What was dropped meanwhile has no definition any more.
        indexes=[
            _index(row, sizes, tables_at_work)
            for row in rows
            if row["definition"] and row["is_partial"] == bool(row["predicate"])
        ],
        foreign_keys=keys,
        now=counted["now"],
        counted_since=counted["counted_since"],
        counters_id=counted["counters_id"],
        counts=counted["counts"],
        is_standby=counted["is_standby"],
        standbys=counted["standbys"],
        locked=sorted(str(named[oid].name) for oid in locked if oid in named),
    )


def _counted(session: Session, directory: str | None = None) -> dict[str, Any]:
    """The counters of the whole database, and since when they count.

    :param directory: folder of this run's record, beside which an earlier run may have known more of the same counters
    """
    created = None
    # Asked by itself: a function that may not be executed may not stand in a statement either.
    if session.query("SELECT has_function_privilege('pg_stat_file(text, boolean)', 'EXECUTE') AS may")[0]["may"]:
        created = session.query(
            "SELECT (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification AS created FROM pg_database"
            " WHERE datname = current_database()"
        )[0]["created"]
    last_scan = ", pg_stat_get_lastscan(e.oid)" if session.server_version >= 160000 else ""
    statement = _COUNTED.format(evidence=_EVIDENCE.format(last_scan=last_scan))
    counted = session.query(statement, {"created": created})[0]
    for _run, figures in records.earlier(directory, "pg_index_info"):
        if figures.get("counters_id") == counted["counters_id"] and figures.get("counted_since"):
            known = [datetime.fromisoformat(figures["counted_since"]), counted["counted_since"]]
            counted["counted_since"] = min(moment for moment in known if moment is not None)
            break
    return counted


def _table(row: dict[str, Any]) -> Table:
    return Table(
        oid=row["oid"],
        name=QualifiedName(row["nspname"], row["relname"]),
        kind=row["relkind"],
        owner=row["owner"],
        size_bytes=None,
        live_rows=max(int(row["reltuples"]), row["live_rows"] or 0, 0),
        parent_oid=row["parent_oid"],
        sequential_scans=row["scans"] or 0,
        sequential_rows=row["returned"] or 0,
        written_rows=row["written"] or 0,
        deleted_rows=row["deleted"] or 0,
        xid_age=row["xid_age"],
        mxid_age=row["mxid_age"],
    )


def _sized(table: Table, sizes: dict[int, int]) -> Table:
    return Table(**(vars(table) | {"size_bytes": sizes.get(table.oid)}))


def _index(row: dict[str, Any], sizes: dict[int, int], tables_at_work: set[int | None]) -> Index:
    columns = row["keys"].split(",")
    width = row["indnkeyatts"]
    words = row["expressions"]
    named = [words[place] if number == "0" else number for place, number in enumerate(columns[:width])]
    parts = [[int(one) for one in row[key].split(",")] for key in ("classes", "collations", "options")]
    return Index(
        oid=row["oid"],
        name=QualifiedName(row["nspname"], row["relname"]),
        table_oid=row["table_oid"],
        kind=row["relkind"],
        access_method=row["amname"],
        size_bytes=sizes.get(row["oid"]),
        keys=tuple(zip(named, *parts, strict=True)),
        included=frozenset(columns[width:]),
        predicate=row["predicate"],
        is_unique=row["indisunique"],
        nulls_not_distinct=row["nulls_not_distinct"],
        is_deferrable=not row["indimmediate"],
        is_valid=row["is_valid"],
        is_building=not row["is_valid"] and bool(tables_at_work & {row["table_oid"], None}),
        is_primary=row["indisprimary"],
        is_replica_identity=row["indisreplident"],
        constraint=row["conname"],
        is_referenced=row["referenced"],
        parent_oid=row["parent_oid"],
        scans=row["scans"] or 0,
        last_scan=row["last_scan"],
        created_at=row["created_at"],
        definition=row["definition"],
    )


def read_server(session: Session) -> Server:
    """What the health of the database is judged by."""
    locked = [row["oid"] for row in session.query(_LOCKED)]
    counted, whole = _counted(session), session.query(_CHECKSUMS)[0]
    return Server(
        database=session.target.database,
        databases=[
            (row["datname"], row["xid_age"], row["mxid_age"])
            for row in session.query(
                "SELECT datname, age(datfrozenxid) AS xid_age, mxid_age(datminmxid) AS mxid_age FROM pg_database"
            )
        ],
        keys=_keys(session, locked),
        sessions=[_session(session, row) for row in session.query(_SESSIONS)],
        prepared=[
            Prepared(row["gid"], round(row["age_s"], 1), _rendered(session, "ROLLBACK PREPARED {}", row["gid"]))
            for row in session.query(_PREPARED)
        ],
        slots=[
            Slot(
                row["slot_name"],
                row["slot_type"],
                row["active"],
                row["wal_status"],
                row["retained_bytes"],
                _rendered(session, "SELECT pg_drop_replication_slot({})", row["slot_name"]),
            )
            for row in session.query(_SLOTS)
        ],
        settings={
            row["name"]: Setting(row["setting"], row["source"])
            for row in session.query(
                "SELECT name, setting, source FROM pg_settings WHERE name = ANY (%s)", (list(SETTINGS),)
            )
        },
        database_bytes=whole["size"],
        hit_pages=counted["blks_hit"],
        read_pages=counted["blks_read"],
        checksum_failures=whole["failures"],
    )


def _rendered(session: Session, statement: str, *values: object) -> str:
    composed = sql.SQL(statement).format(*(sql.Literal(value) for value in values))
    return str(composed.as_string(session.connection))


def _session(session: Session, row: dict[str, Any]) -> OtherSession:
    # The start belongs to it: the number alone may be another session's by the time somebody reads this.
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {} AND backend_start = {}"
    return OtherSession(
        pid=row["pid"],
        started_at=row["started_at"],
        user=row["usename"],
        application=row["application_name"],
        state=row["state"],
        transaction_s=None if row["transaction_s"] is None else round(row["transaction_s"], 1),
        state_s=None if row["state_s"] is None else round(row["state_s"], 1),
        terminate=_rendered(session, terminate, row["pid"], row["started_at"]),
        hidden=row["hidden"],
    )


def _keys(session: Session, locked: Sequence[int]) -> list[Key]:
    keys = []
    for row in _asked(session, _KEYS.format(ours=_ALTERABLE), {"locked": list(locked)}):
        up = row["seqincrement"] > 0
        owned = row["attname"] is not None
        keys.append(
            Key(
                sequence=QualifiedName(row["nspname"], row["relname"]),
                table=QualifiedName(row["table_schema"], row["table_name"]) if owned else None,
                column=row["attname"],
                data_type=row["column_type"] if owned else row["seqtype"],
                last_value=row["last_value"],
                first=row["seqmin"] if up else row["seqmax"],
                limit=row["seqmax"] if up else row["seqmin"],
                cycles=row["seqcycle"],
                readable=row["readable"],
            )
        )
    keys += [
        Key(
            sequence=None,
            table=QualifiedName(row["nspname"], row["relname"]),
            column=row["attname"],
            data_type=row["column_type"],
            last_value=row["last_value"],
            readable=bool(row["readable"]),
        )
        for row in _asked(session, _FILLED_KEYS.format(ours=_ALTERABLE))
    ]
    return keys


def hypopg(session: Session) -> str | None:
    """Schema of the extension HypoPG; None where it is missing or this user may not execute its functions."""
    rows = session.query(
        "SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace"
        " JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid"
        " AND d.classid = 'pg_proc'::regclass JOIN pg_proc AS p ON p.oid = d.objid"
        " WHERE e.extname = 'hypopg' AND p.proname = 'hypopg_create_index'"
        " AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')"
    )
    return rows[0]["nspname"] if rows else None


def hypothetical(session: Session, schema: str, table: QualifiedName, columns: Sequence[str]) -> Estimate | None:
    """What the planner says of the look-up that a foreign key makes, without and with an index on ``columns``.

    The look-up is the one with which PostgreSQL finds the rows that refer to a deleted one, planned for any value.

    :param schema: where HypoPG is
    :returns: None where this user may not read the table, or it is gone
    """
    names = [sql.Identifier(column) for column in columns]
    wanted = sql.SQL(" AND ").join(
        sql.SQL("{} = ${}").format(name, sql.SQL(str(number))) for number, name in enumerate(names, 1)
    )
    prepare = sql.SQL("PREPARE runbook_lookup AS SELECT 1 FROM {} WHERE {}").format(identifier(table), wanted)
    nulls = sql.SQL(", ").join([sql.SQL("NULL")] * len(names))
    explain = sql.SQL("EXPLAIN (FORMAT JSON) EXECUTE runbook_lookup ({})").format(nulls)
    create = sql.SQL("CREATE INDEX ON {} ({})").format(identifier(table), sql.SQL(", ").join(names))

    def cost() -> float:
        # Prepared again each time, since a plan is kept that was made without the index.
        session.query(prepare)
        try:
            plan = session.query(explain)[0]["QUERY PLAN"]
        finally:
            session.query("DEALLOCATE ALL")
        return float(plan[0]["Plan"]["Total Cost"])

    try:
        session.query("SELECT set_config('plan_cache_mode', 'force_generic_plan', false)")
        session.query(sql.SQL("SELECT {}()").format(sql.Identifier(schema, "hypopg_reset")))
        before = cost()
        session.query(
            sql.SQL("SELECT * FROM {}(%s)").format(sql.Identifier(schema, "hypopg_create_index")),
            (create.as_string(session.connection),),
        )
        after = cost()
    except psycopg2.Error as error:
        if session.connection.closed or error.pgcode is None:
            raise
        return None
    return Estimate(before, after)
