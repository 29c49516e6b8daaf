"""Reads what the server knows about its tables, and runs VACUUM and ANALYZE over several connections."""

from __future__ import annotations

import collections
import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.passes import Pass
from ansible.module_utils.runbook.drivers.postgres.postgres import cause
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.vacuum import (
    BLOCK_BYTES,
    Figures,
    Part,
    Priority,
    Report,
    Settings,
    Table,
    Work,
)
from ansible.module_utils.runbook.rules.words import count
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.vacuum import State

#: The first attempt waits no longer than this for a lock; the table is tried again when all others are done.
QUICK_LOCK_TIMEOUT_MS = 200
#: What figures wait for a lock before they stay unknown.
FIGURES_LOCK_TIMEOUT_MS = 20
#: Pauses before a lost connection is opened again; then this connection gives up.
RECONNECT_AFTER_S = (0.5, 1.0, 2.0)
#: Before version 15 the server's statistics arrive late; longer than this nobody waits for them.
STATISTICS_TIMEOUT_S = 3.0

# The functions are those behind pg_stat_all_tables, whose own grouping by index is slow over many tables. None of it
# takes a lock on a table, so a locked one does not hold up the plan.
_TABLES = """
SELECT c.oid::bigint AS oid, n.nspname, c.relname, c.relkind::text AS relkind,
  h.inhparent::bigint AS parent_oid, c.relnatts,
  c.reltuples, c.relpages, c.relpages + coalesce(t.relpages, 0) + coalesce(x.pages, 0) AS total_pages,
  c.reloptions, t.oid::bigint AS toast_oid, t.reltuples AS toast_reltuples, t.reloptions AS toast_reloptions,
  CASE WHEN c.relfrozenxid <> '0' THEN age(c.relfrozenxid) END AS xid_age,
  CASE WHEN c.relminmxid <> '0' THEN mxid_age(c.relminmxid) END AS mxid_age,
  CASE WHEN t.relfrozenxid <> '0' THEN age(t.relfrozenxid) END AS toast_xid_age,
  CASE WHEN t.relminmxid <> '0' THEN mxid_age(t.relminmxid) END AS toast_mxid_age,
  pg_stat_get_live_tuples(c.oid) AS live_rows, pg_stat_get_dead_tuples(c.oid) AS dead_rows,
  pg_stat_get_ins_since_vacuum(c.oid) AS inserted_rows, pg_stat_get_mod_since_analyze(c.oid) AS modified_rows,
  pg_stat_get_dead_tuples(t.oid) AS toast_dead_rows, pg_stat_get_ins_since_vacuum(t.oid) AS toast_inserted_rows,
  greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS last_vacuum,
  greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS last_analyze,
  pg_stat_get_last_autoanalyze_time(c.oid) AS last_autoanalyze,
  {permitted} AS permitted
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
LEFT JOIN (SELECT i.indrelid, sum(k.relpages) AS pages FROM pg_index AS i JOIN pg_class AS k ON k.oid = i.indexrelid
  GROUP BY i.indrelid) AS x ON x.indrelid = c.oid
LEFT JOIN pg_inherits AS h ON c.relispartition AND h.inhrelid = c.oid
WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
  AND (%(oids)s::bigint[] IS NULL OR c.oid = ANY (%(oids)s::bigint[]::oid[]))
"""

# Rights as the server checks them: the owner of the database, of the table, or MAINTAIN since version 17. VACUUM skips
# a table that it may not touch with nothing but a warning.
_IS_DATABASE_OWNER = (
    "NOT c.relisshared AND pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')"
)
_IS_OWNER = f"({_IS_DATABASE_OWNER} OR pg_has_role(c.relowner, 'USAGE'))"
_MAY_MAINTAIN = f"({_IS_DATABASE_OWNER} OR has_table_privilege(c.oid, 'MAINTAIN'))"

# Sizes need a lock on the table, if the weakest one; a table that somebody has, or wants, for himself is left out.
_SIZES = """
SELECT c.oid::bigint AS oid, pg_total_relation_size(c.oid) AS size_bytes
FROM pg_class AS c
WHERE c.oid = ANY (%(oids)s::bigint[]::oid[]) AND NOT EXISTS (
  SELECT FROM pg_locks AS l WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = c.oid
    AND l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
"""

_PROGRESS = """
SELECT pid, 'vacuum' AS command, relid::bigint AS oid, heap_blks_scanned AS done, heap_blks_total AS total
FROM pg_stat_progress_vacuum WHERE pid = ANY (%(pids)s)
UNION ALL
SELECT pid, 'analyze', relid::bigint, sample_blks_scanned, sample_blks_total
FROM pg_stat_progress_analyze WHERE pid = ANY (%(pids)s)
"""
#: How far a VACUUM (ANALYZE) is when the table itself, and when its TOAST table too, is through: a bar that never goes
#: back is worth more than an exact one.
TABLE_SHARE, TOAST_SHARE = 0.8, 0.9


def read_settings(session: Session, *, vacuum_scale_factor: float, analyze_scale_factor: float) -> Settings:
    """The options, and what the server adds to them."""
    row = session.query(
        "SELECT current_setting('autovacuum_freeze_max_age')::bigint AS xids,"
        " current_setting('autovacuum_multixact_freeze_max_age')::bigint AS mxids"
    )[0]
    return Settings(
        vacuum_scale_factor=vacuum_scale_factor,
        analyze_scale_factor=analyze_scale_factor,
        autovacuum_freeze_max_age=row["xids"],
        autovacuum_multixact_freeze_max_age=row["mxids"],
        server_version=session.server_version,
    )


def read_tables(session: Session, oids: Collection[int] | None = None) -> list[Table]:
    """Everything that VACUUM or ANALYZE may take, system catalogs included; no lock on a table is waited for.

    Left out are foreign tables, whose ANALYZE would fetch rows from elsewhere, and temporary tables of others.

    :param oids: only these; None: all
    """
    permitted = _MAY_MAINTAIN if session.server_version >= 170000 else _IS_OWNER
    # Without USAGE its name cannot be looked up.
    permitted += " AND has_schema_privilege(n.oid, 'USAGE')"
    statement = sql.SQL(_TABLES.replace("{permitted}", permitted))
    tables = [_table(row) for row in session.query(statement, {"oids": None if oids is None else list(oids)})]
    # Where VACUUM and ANALYZE never ran, the catalog holds no size, and the biggest tables would seem the smallest.
    new = [table.oid for table in tables if table.heap_pages == 0 and table.last_vacuum is None and table.kind != "p"]
    sizes = _sizes(session, new)
    pages = {oid: size // BLOCK_BYTES for oid, size in sizes.items() if size}
    return [
        replace(table, heap_pages=pages[table.oid], total_pages=pages[table.oid]) if table.oid in pages else table
        for table in tables
    ]


def _table(row: dict[str, Any]) -> Table:
    options = _options(row["reloptions"])
    toast = None
    if row["toast_oid"] is not None:
        toast = Part(
            rows=row["toast_reltuples"],
            dead_rows=row["toast_dead_rows"] or 0,
            inserted_rows=row["toast_inserted_rows"] or 0,
            xid_age=row["toast_xid_age"],
            mxid_age=row["toast_mxid_age"],
            # As autovacuum does: those of the main table where the TOAST table has none.
            options=_options(row["toast_reloptions"]) or options,
        )
    return Table(
        oid=row["oid"],
        name=QualifiedName(row["nspname"], row["relname"]),
        kind=row["relkind"],
        heap=Part(
            rows=row["reltuples"],
            dead_rows=row["dead_rows"] or 0,
            inserted_rows=row["inserted_rows"] or 0,
            xid_age=row["xid_age"],
            mxid_age=row["mxid_age"],
            options=options,
        ),
        toast=toast,
        modified_rows=row["modified_rows"] or 0,
        live_rows=row["live_rows"] or 0,
        columns=row["relnatts"],
        heap_pages=row["relpages"],
        total_pages=int(row["total_pages"]),
        last_vacuum=row["last_vacuum"],
        last_analyze=row["last_analyze"],
        last_autoanalyze=row["last_autoanalyze"],
        parent_oid=row["parent_oid"],
        permitted=row["permitted"],
    )


def _options(stored: list[str] | None) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in stored or [] if "=" in entry)


def figures(session: Session, tables: Sequence[Table]) -> dict[int, Figures]:
    """Size, rows and age of each table; a size that cannot be had without waiting stays None."""
    sizes = _sizes(session, [table.oid for table in tables])
    return {
        table.oid: Figures(
            size_bytes=sizes.get(table.oid),
            dead_rows=table.heap.dead_rows if table.kind != "p" else None,
            live_rows=table.live_rows if table.kind != "p" else None,
            xid_age=table.xid_age,
        )
        for table in tables
    }


def _sizes(session: Session, oids: Sequence[int]) -> dict[int, int | None]:
    if not oids:
        return {}
    usual = session.query(
        "SELECT current_setting('lock_timeout') AS usual, set_config('lock_timeout', %s, false)",
        (str(FIGURES_LOCK_TIMEOUT_MS),),
    )[0]["usual"]
    sizes: dict[int, int | None] = {}
    try:
        sizes = {row["oid"]: row["size_bytes"] for row in session.query(_SIZES, {"oids": list(oids)})}
    except psycopg2.errors.LockNotAvailable:
        for oid in oids:
            try:
                sizes |= {row["oid"]: row["size_bytes"] for row in session.query(_SIZES, {"oids": [oid]})}
            except psycopg2.errors.LockNotAvailable:
                continue
    session.query("SELECT set_config('lock_timeout', %s, false)", (usual,))
    return sizes


def statement(work: Work, server_version: int) -> sql.Composed:
    """The command for one table; it is refused, not skipped, when the lock cannot be had within lock_timeout."""
    table = postgres.table(work.table.name)
    if work.action == "analyze":
        only = work.table.kind == "p" and server_version >= 180000
        return sql.SQL("ANALYZE {} {}" if only else "ANALYZE {}{}").format(sql.SQL("ONLY" if only else ""), table)
    options = {"vacuum": [], "vacuum_analyze": ["ANALYZE"], "freeze": ["FREEZE", "ANALYZE"]}[work.action]
    if server_version >= 160000:
        # Otherwise each VACUUM reads the whole of pg_class once more; close_pass() does it once for all.
        options.append("SKIP_DATABASE_STATS")
    return sql.SQL("VACUUM {}{}").format(sql.SQL(f"({', '.join(options)}) " if options else ""), table)


class Vacuuming(Pass):
    """One pass over the planned tables, by several connections that take the next table from one queue.

    A table that is locked, or whose connection was lost, is tried a second time when all others are done.
    """

    def __init__(
        self,
        reports: Sequence[Report],
        *,
        connect: Callable[[], Session],
        jobs: int,
        lock_timeout_ms: int,
        deadline_s: float,
    ) -> None:
        """Nothing runs yet.

        :param reports: one for each piece of work, in the order in which it is started; they are filled in
        :param connect: opens a session of its own for a job
        :param lock_timeout_ms: longest wait for one table's lock
        :param deadline_s: seconds from now after which what runs is cancelled
        """
        super().__init__(reports, deadline_s=deadline_s)
        self._connect = connect
        self._lock_timeout_ms = lock_timeout_ms
        self._sessions: list[Session | None] = [None] * max(1, min(jobs, len(reports)))
        self._pids: dict[int, int] = {}
        self._running: dict[int, Report] = {}
        self._shares: dict[int, float] = {}
        self._again: list[Report] = []

    def _work_through(self, tick: Callable[[], None]) -> None:
        late = (Priority.PARTITIONED, Priority.PG_STATISTIC)
        first = [report for report in self._reports if report.work.priority not in late]
        self._phase(first, tick, lock_timeout_ms=min(QUICK_LOCK_TIMEOUT_MS, self._lock_timeout_ms), final=False)
        # Parents after their partitions, whose ANALYZE a parent's may repeat.
        parents = [report for report in self._reports if report.work.priority is Priority.PARTITIONED]
        self._phase([*parents, *self._again], tick, lock_timeout_ms=self._lock_timeout_ms, final=True)
        swept = [report for report in self._reports if report.work.priority is Priority.PG_STATISTIC]
        if swept and not self._is_late:
            self._report_statistics()
        self._phase(swept, tick, lock_timeout_ms=self._lock_timeout_ms, final=True)

    def _busy(self) -> list[Session]:
        return [session for slot in list(self._running) if (session := self._sessions[slot]) is not None]

    def _opened(self) -> list[Session]:
        return [session for session in self._sessions if session is not None]

    def progress(self, session: Session | None) -> tuple[str, int, int]:
        """What runs now, and how many bytes of how many are through.

        :param session: where the server is asked how far the running statements are
        """
        running = dict(self._running)
        total = sum(report.work.weight_bytes for report in self._reports)
        busy = {id(report) for report in running.values()}
        through = [report for report in self._reports if report.state != "planned" and id(report) not in busy]
        done = sum(report.work.weight_bytes for report in through)
        if running and session is not None:
            pids = {pid: running[slot] for slot, pid in dict(self._pids).items() if slot in running}
            for row in session.query(_PROGRESS, {"pids": list(pids)}):
                report = pids[row["pid"]]
                part = min((row["done"] or 0) / row["total"], 1.0) if row["total"] else 0.0
                if report.work.action != "analyze":
                    if row["command"] == "analyze":
                        part = TOAST_SHARE + (1 - TOAST_SHARE) * part
                    elif row["oid"] == report.work.table.oid:
                        part *= TABLE_SHARE
                    else:
                        part = TABLE_SHARE + (TOAST_SHARE - TABLE_SHARE) * part
                self._shares[id(report)] = max(self._shares.get(id(report), 0.0), part)
        for report in running.values():
            done += int(report.work.weight_bytes * self._shares.get(id(report), 0.0))
        names = ", ".join(str(report.work.table.name) for report in list(running.values())[:2])
        return f"vacuum {len(running)} {'job' if len(running) == 1 else 'jobs'}: {names}", done, total

    @property
    def jobs(self) -> int:
        """Connections that really worked."""
        return len(self._pids)

    def _report_statistics(self) -> None:
        """Let the jobs report what they did to pg_statistic, or the server counts its dead rows after their removal."""
        for slot, session in enumerate(self._sessions):
            if session is None or session.connection.closed:
                continue
            if session.server_version >= 150000:
                # A lost connection is noticed, and opened again, by its job.
                with contextlib.suppress(psycopg2.Error):
                    session.query("SELECT pg_stat_force_next_flush()")
            else:
                # It reports when it ends.
                session.close()
                self._sessions[slot] = None

    def _phase(self, reports: Iterable[Report], tick: Callable[[], None], *, lock_timeout_ms: int, final: bool) -> None:
        queue = collections.deque(reports)
        if not queue or self._is_late:
            return
        job = partial(self._work, queue=queue, lock_timeout_ms=lock_timeout_ms, final=final)
        self._together([partial(job, slot) for slot in range(len(self._sessions))], tick)

    def _work(self, slot: int, *, queue: collections.deque[Report], lock_timeout_ms: int, final: bool) -> None:
        session = self._sessions[slot]
        fresh = True
        while not self._is_ending:
            if session is None or session.connection.closed:
                session = self._open(slot)
                if session is None:
                    return
                fresh = True
            try:
                report = queue.popleft()
            except IndexError:
                return
            self._running[slot] = report
            started = time.monotonic()
            try:
                self._perform(session, report, bound_ms=lock_timeout_ms if fresh else None, final=final)
            finally:
                fresh = False
                report.duration_s = round((report.duration_s or 0) + time.monotonic() - started, 3)
                self._running.pop(slot, None)

    def _open(self, slot: int) -> Session | None:
        """A session for this job; the first job's, and a lost one, are asked for a few times, then the job gives up."""
        lost = slot == 0 or self._sessions[slot] is not None
        trouble = None
        for pause in (*RECONNECT_AFTER_S, None) if lost else (None,):
            if self._is_ending:
                return None
            try:
                session = self._connect()
                session.executed_queries = self.executed_queries
                # Behind a session pooler it is not the process id that libpq knows.
                self._pids[slot] = session.query("SELECT pg_backend_pid() AS pid")[0]["pid"]
            except (RunbookError, psycopg2.Error) as error:
                trouble = error.message.rstrip(".") if isinstance(error, RunbookError) else cause(error)
                if pause is not None:
                    self._stop.wait(pause)
                continue
            self._sessions[slot] = session
            return session
        self._trouble = trouble
        return None

    def _bound(self, session: Session, lock_timeout_ms: int) -> None:
        """Let the server itself end what outlives us."""
        left_ms = max(int((self._deadline - time.monotonic()) * 1000), 1)
        session.query(
            "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
            (str(lock_timeout_ms), str(left_ms)),
        )

    def _perform(self, session: Session, report: Report, *, bound_ms: int | None, final: bool) -> None:
        notices = session.connection.notices
        try:
            if bound_ms is not None:
                self._bound(session, bound_ms)
            del notices[:]
            session.execute(statement(report.work, session.server_version))
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            self._later(report, "locked", None, final=final)
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            report.state = "gone"
        except psycopg2.errors.QueryCanceled:
            if self._is_ending or time.monotonic() >= self._deadline - 0.05:
                report.state = "not_reached"
            else:
                report.state, report.error = "failed", "cancelled by somebody else"
        except psycopg2.Error as error:
            if session.connection.closed:
                self._later(report, "failed", cause(error), final=final)
            else:
                report.state, report.error = "failed", cause(error)
        else:
            # A warning may mean that nothing was done. Its text stays in the log: a function can put a row into it.
            report.state = "done"
            report.error = "the server warned instead of doing it; its log has the details" if notices else None

    def _later(self, report: Report, state: State, error: str | None, *, final: bool) -> None:
        report.state, report.error = state, error
        if not final:
            self._again.append(report)


def close_pass(session: Session) -> None:
    """Bring datfrozenxid up to date, once for all tables (version 16 and later; earlier ones did it with each)."""
    if session.server_version >= 160000:
        session.execute("VACUUM (ONLY_DATABASE_STATS)")


def confirm(session: Session, reports: Sequence[Report], *, since: Any) -> None:
    """Fill in the figures after the pass, and believe a statement that gave a warning only if the server counted it.

    :param since: the server's clock before the pass
    """
    locked = [report for report in reports if report.state == "locked"]
    holders = _holders(session, [report.work.table.oid for report in locked])
    for report in locked:
        report.error = holders.get(report.work.table.oid)
    done = [report for report in reports if report.state == "done"]
    if not done:
        return
    counts = session.query("SELECT current_setting('track_counts')::boolean AS counts")[0]["counts"]
    until = time.monotonic() + STATISTICS_TIMEOUT_S
    while True:
        tables = {table.oid: table for table in read_tables(session, [report.work.table.oid for report in done])}
        late = [report for report in done if not _counted(report.work, tables.get(report.work.table.oid), since)]
        waiting = [report for report in late if report.work.table.oid in tables and _is_recorded(report.work, session)]
        if not waiting or not counts or time.monotonic() >= until:
            break
        time.sleep(0.1)
    after = figures(session, list(tables.values()))
    for report in done:
        oid = report.work.table.oid
        if oid not in tables:
            report.state = "gone"
            continue
        report.after = after[oid]
        if report in late:
            report.after = replace(report.after, dead_rows=None, live_rows=None)
            if report.error is not None:
                report.state = "failed"
                continue
        report.error = None


def _holders(session: Session, oids: Sequence[int]) -> dict[int, str]:
    """Who holds a lock now that keeps VACUUM out, for each table that has such a holder."""
    if not oids:
        return {}
    rows = session.query(
        "SELECT l.relation::bigint AS oid, string_agg(DISTINCT CASE WHEN l.pid IS NULL THEN 'a prepared transaction'"
        " WHEN a.backend_type = 'autovacuum worker' THEN 'autovacuum'"
        " ELSE 'session ' || l.pid || coalesce(', ' || a.state, '') END, ' and ') AS holder"
        " FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid"
        " WHERE l.granted AND l.locktype = 'relation' AND l.relation = ANY (%(oids)s::bigint[]::oid[])"
        " AND l.database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))"
        " AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock') GROUP BY l.relation",
        {"oids": list(oids)},
    )
    return {row["oid"]: f"held by {row['holder']}" for row in rows}


def _is_recorded(work: Work, session: Session) -> bool:
    return work.table.kind != "p" or session.server_version >= 140000


def _counted(work: Work, table: Table | None, since: Any) -> bool:
    if table is None:
        return False
    stamps = [table.last_vacuum] if work.vacuums else []
    stamps += [table.last_analyze] if work.analyzes else []
    return all(stamp is not None and stamp >= since for stamp in stamps)


def oldest_snapshot(session: Session) -> str | None:
    """Who keeps dead rows from being removed: the oldest snapshot that this user may see.

    A replication slot and a prepared transaction hold on as well, and longer than any session.
    """
    rows = session.query(
        "SELECT what, age FROM ("
        " SELECT 'session ' || pid AS what, age(backend_xmin) AS age FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'"
        " UNION ALL SELECT 'replication slot ' || slot_name, age(xmin) FROM pg_replication_slots"
        " UNION ALL SELECT 'prepared transaction ' || gid, age(transaction) FROM pg_prepared_xacts"
        " WHERE database = current_database()) AS holders WHERE age IS NOT NULL ORDER BY age DESC LIMIT 1"
    )
    return f"{rows[0]['what']} ({count(rows[0]['age'], 'transaction')} old)" if rows else None
