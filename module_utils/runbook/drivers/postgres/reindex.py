"""Reads what the server knows about its indexes, and rebuilds them concurrently over several connections."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.passes import TICK_S, Pass
from ansible.module_utils.runbook.drivers.postgres.postgres import cause
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.bloat import PAGE_BYTES, Bloat
from ansible.module_utils.runbook.rules.postgres.reindex import Index, Report, Work
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: Said where what a failed statement made could not be cleared away.
LEFT = "its half-built copy is left, and the next run drops it"
#: Longest statement that clears away a half-built index after the deadline.
CLEAN_UP_TIMEOUT_MS = 30_000
CLEAN_UP_ATTEMPTS = 3

_OUTDATED = """
SELECT l.oid::bigint AS oid, n.nspname, l.collname FROM pg_collation AS l
JOIN pg_namespace AS n ON n.oid = l.collnamespace
WHERE l.collversion IS NOT NULL AND l.collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))
  AND l.collversion IS DISTINCT FROM pg_collation_actual_version(l.oid)
"""
# 100 is DEFAULT_COLLATION_OID: columns whose collation is the database's own.
_OUTDATED_DATABASE = """
SELECT 100::bigint AS oid, NULL AS nspname, 'default' AS collname FROM pg_database
WHERE datname = current_database() AND datcollversion IS NOT NULL
  AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
"""

_INDEXES = """
SELECT c.oid::bigint AS oid, n.nspname, c.relname, r.oid::bigint AS table_oid, s.nspname AS table_schema,
  r.relname AS table_name, m.amname, c.relpages, r.relpages AS table_pages, r.oid < 16384 AS is_catalog,
  i.indisvalid AND i.indisready AND i.indislive AS is_valid, i.indisunique, i.indisexclusion,
  array_to_string(i.indcollation, ',') AS collations,
  {permitted} AND has_schema_privilege(n.oid, 'USAGE') AS permitted, pg_has_role(c.relowner, 'USAGE') AS is_owner,
  pg_get_userbyid(r.relowner) AS owner,
  NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
    AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid)
    AND EXISTS (SELECT FROM pg_index AS t JOIN pg_class AS tc ON tc.oid = t.indexrelid
      WHERE t.indrelid = i.indrelid AND t.indexrelid <> i.indexrelid AND t.indisvalid AND tc.relam = c.relam
        AND t.indisunique = i.indisunique AND t.indnkeyatts = i.indnkeyatts AND t.indkey::text = i.indkey::text
        AND t.indclass::text = i.indclass::text AND t.indcollation::text = i.indcollation::text
        AND t.indoption::text = i.indoption::text
        AND pg_get_expr(t.indexprs, t.indrelid) IS NOT DISTINCT FROM pg_get_expr(i.indexprs, i.indrelid)
        AND pg_get_expr(t.indpred, t.indrelid) IS NOT DISTINCT FROM pg_get_expr(i.indpred, i.indrelid))
    AS is_leftover
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_class AS r ON r.oid = i.indrelid
JOIN pg_namespace AS s ON s.oid = r.relnamespace
JOIN pg_am AS m ON m.oid = c.relam
WHERE c.relkind = 'i' AND c.relpersistence <> 't'
"""

_PROGRESS = """
SELECT pid, phase, blocks_done, blocks_total, tuples_done, tuples_total
FROM pg_stat_progress_create_index WHERE pid = ANY (%(pids)s)
"""
# Transactions that hold a lock on the table or an old snapshot. VACUUM waits for nobody, and nobody for VACUUM.
_IN_THE_WAY = """
SELECT l.virtualtransaction AS transaction FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.pid <> ALL (%(own)s) AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
  AND (l.relation = %(oid)s AND l.mode <> 'AccessShareLock'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    OR l.locktype = 'virtualxid' AND a.backend_xmin IS NOT NULL AND a.datname = current_database())
"""
QUIET_POLL_S = 0.05
#: Share of a build that is through when a phase begins; what is unknown stands still.
PHASES = (
    ("building index: scanning table", 0.05, 0.35),
    ("building index: sorting live tuples", 0.35, 0.4),
    ("building index: loading tuples", 0.4, 0.7),
    ("index validation: scanning index", 0.7, 0.75),
    ("index validation: scanning table", 0.8, 0.95),
)


def outdated_collations(session: Session) -> dict[int, QualifiedName | None]:
    """Collations of another version than their indexes were built with, by oid; None stands for the database's own."""
    rows = session.query(_OUTDATED)
    if session.server_version >= 150000:
        rows += session.query(_OUTDATED_DATABASE)
    return {row["oid"]: QualifiedName(row["nspname"], row["collname"]) if row["nspname"] else None for row in rows}


def collation_label(name: QualifiedName | None) -> str:
    """How a collation is called in results."""
    return "the database's default" if name is None else str(name)


def read(session: Session, bloats: Mapping[int, Bloat], outdated: Mapping[int, QualifiedName | None]) -> list[Index]:
    """Every index with pages of its own; takes no lock on any."""
    maintain = "has_table_privilege(r.oid, 'MAINTAIN')" if session.server_version >= 170000 else "false"
    statement = _INDEXES.replace("{permitted}", f"(pg_has_role(r.relowner, 'USAGE') OR {maintain})")
    found = []
    for row in session.query(statement):
        bloat = bloats.get(row["oid"])
        sized = bloat.size_bytes if bloat is not None else None
        collations = [int(oid) for oid in row["collations"].split(",") if oid]
        found.append(
            Index(
                oid=row["oid"],
                name=QualifiedName(row["nspname"], row["relname"]),
                table_oid=row["table_oid"],
                table=QualifiedName(row["table_schema"], row["table_name"]),
                access_method=row["amname"],
                size_bytes=row["relpages"] * PAGE_BYTES if sized is None else sized,
                table_bytes=row["table_pages"] * PAGE_BYTES,
                is_valid=row["is_valid"],
                is_unique=row["indisunique"],
                is_exclusion=row["indisexclusion"],
                is_catalog=row["is_catalog"],
                is_leftover=row["is_leftover"],
                outdated_collations=tuple(
                    dict.fromkeys(collation_label(outdated[oid]) for oid in collations if oid in outdated)
                ),
                owner=row["owner"],
                permitted=row["is_owner"] if row["is_leftover"] else row["permitted"],
                bloat=bloat,
            )
        )
    return found


def statement(work: Work) -> sql.Composed:
    """The command for one index."""
    if work.action == "create":
        return sql.Composed([sql.SQL(work.ddl)])
    text = "DROP INDEX CONCURRENTLY {}" if work.action == "drop" else "REINDEX INDEX CONCURRENTLY {}"
    return sql.SQL(text).format(postgres.table(work.index.name))


def refresh(session: Session, name: QualifiedName | None) -> bool:
    """Confirm that nothing depends on a collation's old version any more; False where only its owner may."""
    if name is None:
        text, identifier = "ALTER DATABASE {} REFRESH COLLATION VERSION", sql.Identifier(session.target.database)
    else:
        text, identifier = "ALTER COLLATION {} REFRESH VERSION", postgres.table(name)
    try:
        session.execute(sql.SQL(text).format(identifier))
    except psycopg2.errors.InsufficientPrivilege:
        return False
    return True


def amcheck(session: Session) -> str | None:
    """Schema of the extension amcheck; None where it is missing or this user may not execute its functions."""
    rows = session.query(
        "SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace"
        " JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid"
        " AND d.classid = 'pg_proc'::regclass JOIN pg_proc AS p ON p.oid = d.objid"
        " WHERE e.extname = 'amcheck' AND p.proname = 'bt_index_check' AND p.pronargs = 1"
        " AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')"
    )
    return rows[0]["nspname"] if rows else None


def database_bytes(session: Session) -> int | None:
    """Size of the database; None where this user may not ask."""
    found: int | None = session.query(
        "SELECT CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END AS size"
        " FROM pg_database WHERE datname = current_database()"
    )[0]["size"]
    return found


def free_disk(session: Session) -> int | None:
    """Free bytes of the disk with the data folder, where that is on this machine; None where nobody can tell.

    The folder is believed only if its pg_control bears the server's number: a tunnel looks like this machine too.
    """
    try:
        row = session.query(
            "SELECT current_setting('data_directory') AS folder,"
            " (SELECT system_identifier FROM pg_control_system()) AS number"
        )[0]
        folder = Path(row["folder"])
        with (folder / "global/pg_control").open("rb") as control:
            number = struct.unpack("=Q", control.read(8))[0]
        if number != int(row["number"]) % (1 << 64):
            return None
        disk = os.statvfs(folder)
    except (psycopg2.Error, OSError, struct.error):
        return None
    return disk.f_bavail * disk.f_frsize


def sizes_after(session: Session, reports: Sequence[Report]) -> None:
    """Fill in what became of the sizes; by name, because a rebuilt index has another oid."""
    for report in reports:
        if report.state == "done" and report.work.action != "drop":
            name = report.work.index.name
            with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                rows = session.query(
                    "SELECT pg_relation_size(c.oid) AS size FROM pg_class AS c JOIN pg_namespace AS n"
                    " ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
                    name,
                )
                report.size_after_bytes = rows[0]["size"] if rows else None


class Rebuild(Pass):
    """One pass over the planned indexes by several connections, never two on the same table.

    Two concurrent builds on one table wait for each other; on different tables they do not.
    """

    def __init__(
        self,
        reports: Sequence[Report],
        *,
        connect: Callable[[], Session],
        fits: Callable[[Work, float, float | None], bool],
        jobs: int,
        lock_timeout_ms: int,
        deadline_s: float,
        check_schema: str | None,
    ) -> None:
        """Nothing runs yet.

        :param reports: one for each piece of work, in the order in which it is started; they are filled in
        :param connect: opens a session of its own for a job
        :param fits: whether work is likely to end in the seconds left, at a rate in bytes a second (None: unknown)
        :param lock_timeout_ms: longest single wait for a lock, or for a transaction of somebody else to end
        :param deadline_s: seconds from now after which what runs is cancelled
        :param check_schema: where amcheck is; None: structures are not checked
        """
        super().__init__(reports, deadline_s=deadline_s)
        self._todo = list(reports)
        self._connect = connect
        self._fits = fits
        self._lock_timeout_ms = lock_timeout_ms
        self._check_schema = check_schema
        self._jobs = max(1, min(jobs, len({report.work.index.table_oid for report in reports})))
        self._sessions: dict[int, Session] = {}
        self._pids: dict[int, int] = {}
        self._running: dict[int, Report] = {}
        self._shares: dict[int, float] = {}
        self._again: set[int] = set()
        self._clearing: set[int] = set()
        #: What attempts of this run left half built, by report.
        self._left: dict[int, set[int]] = {}
        self._done_bytes = 0
        self._busy_s = 0.0
        self._changed = threading.Condition()

    def progress(self, session: Session | None) -> tuple[str, int, int]:
        """What runs now, and how many bytes of how many are through.

        :param session: where the server is asked how far the running statements are
        """
        running = dict(self._running)
        total = sum(report.work.weight_bytes for report in self._reports)
        busy = {id(report) for report in running.values()}
        done = sum(r.work.weight_bytes for r in self._reports if r.state != "planned" and id(r) not in busy)
        if running and session is not None:
            pids = {pid: running[slot] for slot, pid in dict(self._pids).items() if slot in running}
            for row in session.query(_PROGRESS, {"pids": list(pids)}):
                self._advance(pids[row["pid"]], row)
        for report in running.values():
            done += int(report.work.weight_bytes * self._shares.get(id(report), 0.0))
        names = ", ".join(str(report.work.index.name) for report in list(running.values())[:2])
        return f"reindex {names}", done, total

    def _advance(self, report: Report, row: Mapping[str, Any]) -> None:
        for phase, start, end in PHASES:
            if row["phase"] == phase:
                kind = "tuples" if row["tuples_total"] else "blocks"
                part = min(row[f"{kind}_done"] / row[f"{kind}_total"], 1.0) if row[f"{kind}_total"] else 0.0
                share = start + (end - start) * part
                self._shares[id(report)] = max(self._shares.get(id(report), 0.0), share)

    def _work_through(self, tick: Callable[[], None]) -> None:
        self._together([partial(self._work, slot) for slot in range(self._jobs)], tick)

    def _busy(self) -> list[Session]:
        running = dict(self._running).items()
        return [self._sessions[slot] for slot, report in running if slot in self._sessions
                and id(report) not in self._clearing]  # fmt: skip

    def _opened(self) -> list[Session]:
        return list(self._sessions.values())

    def _stopping(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # --- a job ------------------------------------------------------------------------------------------------------

    def _work(self, slot: int) -> None:
        while not self._is_ending:
            session = self._sessions.get(slot)
            if session is None or session.connection.closed:
                try:
                    session = self._open(slot)
                except (RunbookError, psycopg2.Error) as error:
                    self._trouble = error.message.rstrip(".") if isinstance(error, RunbookError) else cause(error)
                    return
            report = self._take(slot)
            if report is None:
                return
            started = time.monotonic()
            try:
                self._perform(session, report)
            except psycopg2.Error as error:
                # The end of the pass cancels whatever runs, a question before the statement too.
                ended = self._is_ending and isinstance(error, psycopg2.errors.QueryCanceled)
                report.state, report.error = ("not_reached", None) if ended else ("failed", cause(error))
            finally:
                spent = time.monotonic() - started
                report.duration_s = round((report.duration_s or 0) + spent, 3)
                with self._changed:
                    if report.state == "done" and report.work.action == "rebuild":
                        self._done_bytes += report.work.weight_bytes
                        self._busy_s += spent
                    self._running.pop(slot, None)
                    self._changed.notify_all()

    def _open(self, slot: int) -> Session:
        session = self._connect()
        session.executed_queries = self.executed_queries
        self._pids[slot] = session.query("SELECT pg_backend_pid() AS pid")[0]["pid"]
        self._sessions[slot] = session
        return session

    def _take(self, slot: int) -> Report | None:
        """The next report whose table nobody else of us works on; None when there is none left."""
        with self._changed:
            while self._todo and not self._is_ending:
                busy = {report.work.index.table_oid for report in self._running.values()}
                for report in self._todo:
                    if report.work.index.table_oid not in busy:
                        self._todo.remove(report)
                        self._running[slot] = report
                        return report
                self._changed.wait(TICK_S)
        return None

    def _prepare(self, session: Session, report: Report) -> set[int] | None:
        """Half-built indexes of others on the table, if the statement may be sent; else None, and the report says why.

        Drops what an earlier attempt of this run has left.
        """
        work = report.work
        left_s = self._deadline - time.monotonic()
        if not self._fits(work, left_s, self._done_bytes / self._busy_s if self._busy_s else None):
            report.state = "not_reached"
            return None
        _bound(session, self._lock_timeout_ms, max(int(left_s * 1000), 1))
        if not self._unchanged(session, work):
            report.state = "gone"
            return None
        left = self._left.get(id(report), set())
        known = self._half_built(session, work) - left
        quiet = self._quiet(session, work, left_s)
        if self._is_ending:
            report.state, report.error = "not_reached", LEFT if left else None
            return None
        report.error = None
        if quiet and left:
            self._clean_up(session, report, known)
            _bound(session, self._lock_timeout_ms, max(int((self._deadline - time.monotonic()) * 1000), 1))
        if not quiet or self._left.get(id(report)):
            holders = self._holders(session, work)
            report.state, report.error = "locked", f"{holders}; {LEFT}" if self._left.get(id(report)) else holders
            self._later(report)
            return None
        return known

    def _perform(self, session: Session, report: Report) -> None:
        work = report.work
        known = self._prepare(session, report)
        if known is None:
            return
        try:
            if work.checks and self._check_schema is not None:
                session.query(
                    sql.SQL("SELECT {}(%s::bigint::oid::regclass)").format(
                        sql.Identifier(self._check_schema, "bt_index_check")
                    ),
                    (work.index.oid,),
                )
                report.checked = True
            session.execute(statement(work))
            report.state = "done"
            report.error = None
            return
        except (psycopg2.errors.IndexCorrupted, psycopg2.errors.DataCorrupted) as error:
            report.state, report.error = "corrupt", ServerError.of(error).reason
            return
        except psycopg2.errors.LockNotAvailable:
            report.state, report.error = "locked", self._holders(session, work)
        except psycopg2.errors.DeadlockDetected:
            report.state, report.error = "locked", "deadlock with another session"
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedObject, psycopg2.errors.InvalidSchemaName):
            report.state = "gone"
            return
        except psycopg2.errors.DuplicateTable:
            # Somebody made it this moment, so there is nothing of ours to clear away.
            report.state, report.error = "failed", "there is something of that name by now"
            return
        except psycopg2.errors.UniqueViolation:
            report.state, report.error = "failed", "rows with equal keys stand in the way; find and part them first"
        except psycopg2.errors.QueryCanceled:
            late = self._is_ending or time.monotonic() >= self._deadline - 0.05
            report.state, report.error = ("not_reached", None) if late else ("failed", "cancelled by somebody else")
        except psycopg2.Error as error:
            report.state, report.error = "failed", cause(error)
        if work.action != "drop":
            self._clean_up(session, report, known)
        if report.state == "locked":
            self._later(report)

    def _later(self, report: Report) -> None:
        """Once more, after all others."""
        if id(report) in self._again or self._is_ending:
            return
        self._again.add(id(report))
        with self._changed:
            report.state = "planned"
            self._todo.append(report)

    def _quiet(self, session: Session, work: Work, left_s: float) -> bool:
        """Wait, within the bounds, until transactions have ended that the statement would wait for.

        Waiting before anything is made leaves nothing to be cleared away, which would have to wait just as long.
        """
        until = time.monotonic() + min(self._lock_timeout_ms / 1000, left_s)
        values = {"oid": work.index.table_oid, "own": [*self._pids.values()]}
        seen: set[str] | None = None
        while True:
            now = {row["transaction"] for row in session.query(_IN_THE_WAY, values)}
            seen = now if seen is None else seen & now
            if not seen:
                return True
            if self._stop.wait(QUIET_POLL_S) or time.monotonic() >= until:
                return False

    def _unchanged(self, session: Session, work: Work) -> bool:
        """Whether the name still means the index that was planned; of one to be created, its table.

        A drop that was stopped half-way has made its index invalid, and is to be finished.
        """
        if work.action == "create":
            return bool(
                session.query(
                    "SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
                    " WHERE c.oid = %s AND n.nspname = %s AND c.relname = %s",
                    (work.index.table_oid, *work.index.table),
                )
            )
        return bool(
            session.query(
                "SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_index AS i"
                " ON i.indexrelid = c.oid WHERE c.oid = %s AND n.nspname = %s AND c.relname = %s"
                " AND (i.indisvalid = %s OR %s AND NOT i.indisvalid)",
                (work.index.oid, *work.index.name, work.index.is_valid, work.action == "drop"),
            )
        )

    def _half_built(self, session: Session, work: Work) -> set[int]:
        rows = session.query(
            "SELECT c.oid::bigint AS oid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = %s AND NOT i.indisvalid"
            " AND CASE WHEN %s THEN c.relname = %s ELSE c.relname ~ '_cc(new|old)[0-9]*$' END",
            (work.index.table_oid, work.action == "create", work.index.name.name),
        )
        return {row["oid"] for row in rows}

    def _clean_up(self, session: Session, report: Report, known: set[int]) -> None:
        """Drop the invalid indexes that a failed statement left; say so where that fails too.

        While a name that ends in ``_ccnew`` is being built by somebody else, his lock on the table keeps this out.

        :param known: those that were there before
        """
        self._clearing.add(id(report))
        self._left[id(report)] = set()
        cleared = False
        for _attempt in range(CLEAN_UP_ATTEMPTS):
            try:
                _bound(session, self._lock_timeout_ms, CLEAN_UP_TIMEOUT_MS)
                self._left[id(report)] = self._half_built(session, report.work) - known
                for oid in sorted(self._left[id(report)]):
                    self._drop(session, oid)
                    self._left[id(report)].discard(oid)
                cleared = True
                break
            except psycopg2.errors.QueryCanceled:
                # A cancellation that was meant for the statement before, and came late.
                if not self._stop.is_set():
                    break
            except psycopg2.Error:
                break
        if not cleared:
            report.error = f"{report.error}; {LEFT}" if report.error else LEFT
        self._clearing.discard(id(report))

    def _drop(self, session: Session, oid: int) -> None:
        for row in session.query(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.oid = %s",
            (oid,),
        ):
            name = postgres.table(QualifiedName(row["nspname"], row["relname"]))
            session.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(name))

    def _holders(self, session: Session, work: Work) -> str:
        """Who stands in the way: a lock on the table, or an old transaction."""
        rows = session.query(
            "SELECT l.pid, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS age_s"
            " FROM (SELECT pid FROM pg_locks WHERE granted AND relation = %(oid)s AND pid <> pg_backend_pid()"
            "  UNION SELECT pid FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
            "  AND backend_type = 'client backend') AS l"
            " JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE a.pid <> ALL (%(own)s)"
            " ORDER BY a.xact_start NULLS LAST LIMIT 1",
            {"oid": work.index.table_oid, "own": list(self._pids.values())},
        )
        if not rows:
            return "nobody holds it any more"
        state = rows[0]["state"] or "state hidden from this user"
        since = f" for {rows[0]['age_s']} s" if rows[0]["age_s"] is not None else ""
        return f"held by session {rows[0]['pid']}, {state}{since}"


def _bound(session: Session, lock_timeout_ms: int, statement_timeout_ms: int) -> None:
    session.query(
        "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
        (str(lock_timeout_ms), str(statement_timeout_ms)),
    )
