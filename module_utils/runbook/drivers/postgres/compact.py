"""Reads what the server knows about tables that may be compacted, and compacts them one after the other.

pg_repack is a program of its own: it is started, watched and, where it waits too long, stopped. What it left behind
when it was killed (a trigger on the table, a log, a half-filled copy) is taken away; the trigger matters most, because
it makes each write to the table slower, and fails it where the log is gone.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
from ansible.module_utils.runbook.drivers.child_process import ends_with_module
from ansible.module_utils.runbook.drivers.postgres import pgtools, postgres
from ansible.module_utils.runbook.drivers.postgres.archive_catalog import PUBLISHES_SCHEMAS
from ansible.module_utils.runbook.drivers.postgres.passes import TICK_S, Pass
from ansible.module_utils.runbook.drivers.postgres.postgres import cause
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.bloat import PAGE_BYTES, Bloat
from ansible.module_utils.runbook.rules.postgres.compact import (
    OWNER_VERSION,
    SUPERUSERS_ONLY,
    Leftover,
    Report,
    Sample,
    Table,
)
from ansible.module_utils.runbook.rules.supabase.managed import SUPERUSER
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.postgres.compact import State

POLL_S = 0.05
#: Others queue behind a statement that waits for an exclusive lock, so it waits this long at a time, then pauses.
SHORT_LOCK_TIMEOUT_MS = 150
SHORT_LOCK_PAUSE_S = 0.3
CLEAN_UP_TIMEOUT_S = 15.0
CLEAN_UP_ATTEMPTS = 3
#: How much of a table a sample reads.
SAMPLE_BYTES = 16 << 20
SAMPLE_TIMEOUT_MS = 10_000
#: Said where what a stopped pg_repack made could not be cleared away.
LEFT = "what pg_repack made for it is left, and the next run drops it"
OTHER_REPACK = "another pg_repack works on it"
EQUAL_KEYS = "rows with equal keys stand in the way; find and part them first"
#: First number of the advisory lock that pg_repack holds while it works on a table.
REPACK_LOCK = 16185446

_FACTS = """
SELECT c.oid::bigint AS oid, c.relkind = 'r' AND c.relpersistence = 'p' AND c.oid >= 16384 AS is_ordinary,
  pg_has_role(c.relowner, 'USAGE') AS is_owner, pg_get_userbyid(c.relowner) AS owner,
  {permitted} AND has_schema_privilege(n.oid, 'USAGE') AS permitted,
  EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND 0 <> ALL (i.indkey) AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid
      AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)) AS has_key
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND NOT (n.nspname = 'repack' AND EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_repack'))
"""
_IS_DATABASE_OWNER = (
    "NOT c.relisshared AND pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')"
)

_EXTENSION = """
SELECT e.extversion, has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE') AS usable
FROM pg_extension AS e JOIN pg_namespace AS n ON n.nspname = 'repack' WHERE e.extname = 'pg_repack'
"""
# Publications that take in every new table, pg_repack's own too, while somebody reads what they publish. A subscriber
# stops at the first row of a table that it lacks.
_FOLLOWED = """
SELECT p.pubname FROM pg_publication AS p WHERE p.pubinsert AND (p.puballtables OR {by_schema})
  AND EXISTS (SELECT FROM pg_replication_slots WHERE plugin = 'pgoutput' AND database = current_database())
ORDER BY p.pubname
"""
_BY_SCHEMA = (
    "EXISTS (SELECT FROM pg_publication_namespace AS s JOIN pg_namespace AS n ON n.oid = s.pnnspid"
    " WHERE s.pnpubid = p.oid AND n.nspname = 'repack')"
)
# The lock's second number is the table's oid, moved into the range of a signed number.
_LEFTOVERS = """
WITH found AS (
  SELECT t.tgrelid::bigint AS oid, 'trigger repack_trigger' AS object, 1 AS place FROM pg_trigger AS t
  JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_namespace AS n ON n.oid = p.pronamespace
  WHERE t.tgname = 'repack_trigger' AND n.nspname = 'repack'
  UNION ALL
  SELECT substring(c.relname FROM '[0-9]+$')::bigint, 'table repack.' || c.relname, 2 FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = 'repack' AND c.relkind = 'r' AND c.relname ~ '^(log|table)_[0-9]{1,10}$'
  UNION ALL
  SELECT substring(y.typname FROM '[0-9]+$')::bigint, 'type repack.' || y.typname, 3 FROM pg_type AS y
  JOIN pg_namespace AS n ON n.oid = y.typnamespace
  WHERE n.nspname = 'repack' AND y.typtype = 'c' AND y.typname ~ '^pk_[0-9]{1,10}$')
SELECT f.oid, s.nspname, c.relname, array_agg(f.object ORDER BY f.place, f.object) AS objects,
  coalesce(pg_has_role(c.relowner, 'USAGE'), true) AS is_owner
FROM found AS f LEFT JOIN pg_class AS c ON c.oid = f.oid::oid LEFT JOIN pg_namespace AS s ON s.oid = c.relnamespace
WHERE EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_repack')
  AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.classid = {lock}
  AND l.objid::bigint = (f.oid + 2147483648) % 4294967296 AND l.objsubid = 2
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
GROUP BY f.oid, s.nspname, c.relname, c.relowner
""".replace("{lock}", str(REPACK_LOCK))

# Who holds anything of the table. Autovacuum is among them: it would only give way to a longer wait for the lock than
# others should have to queue behind, and not even then where it prevents wraparound.
_LOCKS_OF_TABLE = """
SELECT l.virtualtransaction AS transaction FROM pg_locks AS l
WHERE l.granted AND l.relation = %(oid)s AND l.pid <> ALL (%(own)s)
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# "usable": before OWNER_VERSION, only for a superuser.
_OFFERED = """
SELECT default_version AS version,
  string_to_array(substring(default_version FROM '^[0-9]+(?:[.][0-9]+)*'), '.')::int[] >= %(first)s
  OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS usable,
  EXISTS (SELECT FROM pg_roles WHERE rolname = %(platform)s AND rolname <> current_user AND rolsuper) AS is_project
FROM pg_available_extensions WHERE name = 'pg_repack'
"""

# pg_repack waits for every transaction of the database that is open, VACUUM left out.
_OPEN_TRANSACTIONS = """
SELECT l.virtualtransaction AS transaction FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.pid <> ALL (%(own)s) AND (
  l.relation = %(oid)s AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  OR l.locktype = 'virtualxid' AND a.datname = current_database()
    AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
    AND a.query !~* '^\\s*vacuum\\s' AND a.application_name IS DISTINCT FROM 'pg_repack')
"""
# What pg_repack asks again and again while it waits for old transactions; and what it ends with after an error: that
# waits for the table's lock without a bound, and everybody who wants the table queues behind it.
_REPACK_WAITS = """
SELECT coalesce(bool_or(query LIKE 'SELECT pid FROM pg_locks WHERE locktype = ''virtualxid''%'), false) AS for_others,
  coalesce(bool_or(query LIKE '%repack.repack_drop(%' AND wait_event_type = 'Lock'), false) AS to_drop
FROM pg_stat_activity WHERE application_name = 'pg_repack' AND datname = current_database()
"""
# Its connections that hold something of the table, or its lock on it.
_REPACK_BACKENDS = """
SELECT a.pid FROM pg_stat_activity AS a WHERE a.application_name = 'pg_repack' AND a.datname = current_database()
  AND EXISTS (SELECT FROM pg_locks AS l LEFT JOIN pg_class AS c ON c.oid = l.relation WHERE l.pid = a.pid AND (
    l.relation = %(oid)s OR c.relname IN ('log_' || %(oid)s, 'table_' || %(oid)s)
    OR l.locktype = 'advisory' AND l.classid = {lock}
      AND l.objid::bigint = (%(oid)s::bigint + 2147483648) %% 4294967296))
""".replace("{lock}", str(REPACK_LOCK))
_PROGRESS = """
SELECT heap_blks_scanned AS done, heap_blks_total AS total FROM pg_stat_progress_cluster
WHERE pid = ANY (%(pids)s)
UNION ALL
SELECT heap_blks_scanned, heap_blks_total FROM pg_stat_progress_vacuum WHERE pid = ANY (%(pids)s)
"""


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """The program pg_repack, of the version that the extension has."""

    path: Path
    version: str


def read(session: Session, bloats: Mapping[int, Bloat]) -> list[Table]:
    """Every table and materialised view with pages of its own; takes no lock on any.

    :param bloats: of all relations, by oid
    """
    permitted = f"{_IS_DATABASE_OWNER} OR pg_has_role(c.relowner, 'USAGE')"
    if session.server_version >= 170000:
        permitted += " OR has_table_privilege(c.oid, 'MAINTAIN')"
    facts = {row["oid"]: row for row in session.query(_FACTS.replace("{permitted}", f"({permitted})"))}
    toasts: dict[int, Bloat] = {}
    indexes: dict[int, list[Bloat]] = {}
    for bloat in bloats.values():
        relation = bloat.relation
        if relation.kind == "t":
            toasts[relation.table_oid] = bloat
        elif relation.is_index:
            indexes.setdefault(relation.table_oid, []).append(bloat)
    found = []
    for oid, row in facts.items():
        heap = bloats.get(oid)
        if heap is None or heap.relation.access_method != "heap":
            continue
        of_table = indexes.get(oid, [])
        found.append(
            Table(
                oid=oid,
                name=heap.relation.name,
                heap=heap,
                toast=toasts.get(oid),
                index_bytes=sum(bloat.size_bytes or 0 for bloat in of_table),
                expected_index_bytes=sum(
                    (bloat.size_bytes or 0) if bloat.expected_bytes is None else bloat.expected_bytes
                    for bloat in of_table
                ),
                is_ordinary=row["is_ordinary"],
                has_key=row["has_key"],
                owner=row["owner"],
                is_owner=row["is_owner"],
                permitted=row["permitted"],
            )
        )
    return found


def is_superuser(session: Session) -> bool:
    """Whether the server would let this user do anything."""
    return bool(session.query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0]["rolsuper"])


def offered_repack(session: Session) -> str | None:
    """The version of pg_repack whose files the server has, installed or not; None where it has none."""
    rows = session.query(_OFFERED, {"first": list(OWNER_VERSION), "platform": SUPERUSER})
    return rows[0]["version"] if rows else None


def repack_client(session: Session) -> tuple[Client | None, str | None]:
    """pg_repack's program of the extension's version, or why it cannot be used.

    Program, extension and its library must be of one version, or pg_repack refuses to work.
    """
    rows = session.query(_EXTENSION)
    if not rows:
        return None, f"the extension pg_repack is not installed{_how_to_install(session)}"
    if not rows[0]["usable"]:
        user = session.render(sql.Identifier(session.target.user))
        return None, f"pg_repack needs more rights; as a superuser GRANT USAGE, CREATE ON SCHEMA repack TO {user}"
    by_schema = _BY_SCHEMA if session.server_version >= PUBLISHES_SCHEMAS else "false"
    followed = session.query(_FOLLOWED.format(by_schema=by_schema))
    if followed:
        return None, (
            f"publication {', '.join(row['pubname'] for row in followed)} would publish the tables that pg_repack "
            "works with, and a subscriber stops at a table that it lacks; replace it by one that names its tables"
        )
    try:
        wanted = {
            text.rpartition(" ")[2]
            for text in session.query("SELECT repack.version() AS library, repack.version_sql() AS script")[0].values()
        }
    except psycopg2.Error as error:
        return None, f"the extension pg_repack does not work ({cause(error)})"
    if len(wanted) != 1:
        return None, (
            f"the extension pg_repack is of version {rows[0]['extversion']}, and its library of another one "
            f"({', '.join(sorted(wanted))}); ALTER EXTENSION pg_repack UPDATE, or recreate it"
        )
    (version,) = wanted
    found = _clients()
    for client in found:
        if client.version == version:
            return client, None
    if not found:
        return None, f"there is no program pg_repack on this machine; install version {version}"
    there = ", ".join(sorted({client.version for client in found}))
    return None, f"the extension pg_repack is of version {version}, and the program on this machine of {there}"


def _how_to_install(session: Session) -> str:
    """What follows on "it is not installed"; empty where the server does not offer it."""
    rows = session.query(_OFFERED, {"first": list(OWNER_VERSION), "platform": SUPERUSER})
    if not rows:
        return ""
    offered = rows[0]
    if not offered["usable"]:
        return f", and version {offered['version']}, which the server offers, {SUPERUSERS_ONLY}"
    if offered["is_project"]:
        return "; switch it on in the project's dashboard"
    return "; as a superuser CREATE EXTENSION pg_repack"


def _clients() -> list[Client]:
    """Each pg_repack of this machine that says its version."""
    # The one on the PATH comes last: Debian's is a script that picks a version by itself.
    named = shutil.which("pg_repack")
    places = [*(folder / "pg_repack" for folder in pgtools.bindirs()), *([Path(named)] if named else [])]
    found = []
    for path in dict.fromkeys(place for place in places if place.is_file()):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            said = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=False, timeout=10)
            match = re.search(r"pg_repack (\d+(?:\.\d+)*)", said.stdout)
            if match:
                found.append(Client(path, match[1]))
    return found


def leftovers(session: Session) -> list[Leftover]:
    """What killed runs of pg_repack left; not what one is using now, which holds its lock on the table."""
    return [
        Leftover(
            oid=row["oid"],
            name=QualifiedName(row["nspname"], row["relname"]) if row["relname"] else None,
            objects=tuple(row["objects"]),
            is_owner=row["is_owner"],
        )
        for row in session.query(_LEFTOVERS)
    ]


def sample(session: Session, table: Table) -> Sample:
    """How fast the table is read, and how much of its end is empty; changes nothing.

    Rows are put together wholly, TOAST included, as a rewrite does.
    """
    name = postgres.table(table.name)
    usual = session.query(
        "SELECT current_setting('statement_timeout') AS usual, set_config('statement_timeout', %s, false),"
        # Rows that a policy hides would look like empty pages.
        " set_config('row_security', 'off', false)",
        (str(SAMPLE_TIMEOUT_MS),),
    )[0]["usual"]
    rate, trailing = None, 0
    try:
        if session.server_version >= 140000:
            trailing = _trailing_bytes(session, name, table.heap.size_bytes or 0)
        share = min(100.0, 100 * SAMPLE_BYTES / max(table.size_bytes, 1))
        started = time.monotonic()
        session.query(
            sql.SQL("SELECT sum(octet_length(t::text)) AS read FROM {} AS t TABLESAMPLE SYSTEM ({})").format(
                name, sql.Literal(share)
            )
        )
        rate = table.size_bytes * share / 100 / max(time.monotonic() - started, 0.001)
    except psycopg2.Error as error:
        # Locked, not readable for this user, a row too long for a text: then nobody knows the pace.
        if session.connection.closed or error.pgcode is None:
            raise
    session.query("SELECT set_config('statement_timeout', %s, false)", (usual,))
    return Sample(rate, trailing)


def _trailing_bytes(session: Session, name: sql.Composable, heap_bytes: int) -> int:
    """Bytes at the end that hold no row that anybody sees; looked for in steps that double, then halve.

    Before version 14 the server would read the whole table for each step.
    """
    pages = heap_bytes // PAGE_BYTES

    def used(start: int, end: int) -> bool:
        statement = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE ctid >= {}::tid AND ctid < {}::tid) AS used")
        bounds = (sql.Literal(f"({page},0)") for page in (start, end))
        return bool(session.query(statement.format(name, *bounds))[0]["used"])

    # All pages from `empty` on are empty; the last row lies on page `full` or later.
    empty, full, step = pages, 0, 1
    while empty > 0:
        start = max(empty - step, 0)
        if used(start, empty):
            full = start
            break
        empty, step = start, 2 * step
    while empty - full > 1:
        middle = (empty + full) // 2
        if used(middle, empty):
            full = middle
        else:
            empty = middle
    return (pages - empty) * PAGE_BYTES


def statement(report: Report, server_version: int) -> sql.Composed:
    """The SQL for one table that is done by SQL."""
    assert report.name is not None  # noqa: S101 - only what is cleaned up may have lost its table
    options = {"truncate": "TRUNCATE true", "vacuum_full": "FULL, ANALYZE"}[report.action]
    if report.action == "truncate" and server_version >= 160000:
        options += ", SKIP_DATABASE_STATS"
    return sql.SQL("VACUUM ({}) {}").format(sql.SQL(options), postgres.table(report.name))


def clean_up_statements(leftover: Leftover) -> list[sql.Composed]:
    """What takes away what pg_repack left on one table: the trigger first, because writers meet it."""
    statements = []
    for kind, _, name in (one.partition(" ") for one in leftover.objects):
        if kind == "trigger":
            assert leftover.name is not None  # noqa: S101 - a trigger has a table
            statements.append(
                sql.SQL("DROP TRIGGER IF EXISTS repack_trigger ON {}").format(postgres.table(leftover.name))
            )
        else:
            template = "DROP TABLE IF EXISTS {}" if kind == "table" else "DROP TYPE IF EXISTS {}"
            statements.append(sql.SQL(template).format(sql.Identifier("repack", name.partition(".")[2])))
    return statements


def repack_words(report: Report, *, lock_timeout_ms: int, jobs: int, superuser: bool) -> list[str]:
    """The command line of pg_repack for one table; where to connect stands in the environment."""
    assert report.name is not None  # noqa: S101 - as above
    quoted = ".".join('"{}"'.format(part.replace('"', '""')) for part in report.name)
    return [
        "pg_repack", "--no-order", "--no-kill-backend", f"--wait-timeout={max(1, math.ceil(lock_timeout_ms / 1000))}",
        *([f"--jobs={jobs}"] if jobs > 1 else []), *([] if superuser else ["--no-superuser-check"]),
        "--no-password", f"--table={quoted}",
    ]  # fmt: skip


def _environment(session: Session) -> dict[str, str]:
    """Where pg_repack connects, as libpq's variables: its command line can be read by anybody on the machine."""
    target = session.target
    extra = {key: value for key, value in target.extra if key != "options"}
    named = {
        "PGHOST": target.host, "PGPORT": str(target.port), "PGUSER": target.user, "PGDATABASE": target.database,
        "PGPASSWORD": target.password, "PGSSLMODE": target.ssl_mode, "PGSSLROOTCERT": target.ca_cert,
        "PGCONNECT_TIMEOUT": str(postgres.CONNECT_TIMEOUT_S), "PGOPTIONS": session.tool_options(), "LC_ALL": "C",
    }  # fmt: skip
    more = {f"PG{key.replace('_', '').upper()}": value for key, value in extra.items()}
    return (
        {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        | more
        | {key: value for key, value in named.items() if value}
    )


def total_bytes(session: Session, oid: int) -> int | None:
    """Size of a table with TOAST and indexes; None where it is locked or gone."""
    try:
        found: int | None = session.query("SELECT pg_total_relation_size(%s::bigint::oid) AS size", (oid,))[0]["size"]
    except psycopg2.errors.LockNotAvailable:
        return None
    return found


# --- working ----------------------------------------------------------------------------------------------------------


class _StoppedError(Exception):
    """The pass was told to end."""


class Compaction(Pass):
    """One pass over the planned tables, one after the other: two rewrites at once would only share the disk."""

    def __init__(
        self,
        reports: Sequence[Report],
        cleaning: Iterable[Leftover],
        *,
        connect: Callable[[], Session],
        fits: Callable[[Report, float, float], bool],
        client: Client | None,
        superuser: bool,
        jobs: int,
        lock_timeout_ms: int,
        deadline_s: float,
        outage_s: float | None,
    ) -> None:
        """Nothing runs yet.

        :param reports: what is planned, in the order in which it is started; they are filled in
        :param cleaning: the leftovers among them
        :param connect: opens the session that works
        :param fits: whether work is likely to end in the seconds left, at this run's pace (1: as estimated)
        :param client: the program, where a report needs it
        :param jobs: indexes of one table that pg_repack builds at the same time
        :param lock_timeout_ms: longest wait for a lock, or for somebody's open transaction
        :param deadline_s: seconds from now after which what runs is stopped
        :param outage_s: seconds from now for which VACUUM FULL may hold its lock
        """
        super().__init__(list(reports), deadline_s=deadline_s)
        #: What pg_repack said of each table: warnings may be among it, though it ended well.
        self.said: list[tuple[str, str]] = []
        self._cleaning = {leftover.oid: leftover for leftover in cleaning}
        self._connect = connect
        self._fits = fits
        self._client = client
        self._superuser = superuser
        self._jobs = jobs
        self._lock_timeout_ms = lock_timeout_ms
        self._outage_end = None if outage_s is None else time.monotonic() + outage_s
        self._session: Session | None = None
        self._own: list[int] = []
        self._running: Report | None = None
        self._again: list[Report] = []
        #: Tables on which a pg_repack of this run has left something.
        self._left: set[int] = set()
        self._pace = 1.0
        self._share = 0.0
        self._clearing = False

    def planned_queries(self, session: Session) -> list[str]:
        """The statements and commands that :meth:`run` would send, in their order."""
        queries: list[str] = []
        for report in self._reports:
            if report.action == "clean_up":
                queries += [session.render(one) for one in clean_up_statements(self._cleaning[report.oid])]
            elif report.action == "pg_repack":
                queries.append(" ".join(self._words(report)))
            else:
                queries.append(session.render(statement(report, session.server_version)))
        return queries

    def _words(self, report: Report) -> list[str]:
        return repack_words(report, lock_timeout_ms=self._lock_timeout_ms, jobs=self._jobs, superuser=self._superuser)

    def progress(self, session: Session | None) -> tuple[str, int, int]:
        """What runs now, and how many bytes of how many are through.

        :param session: where the server is asked how far the running statement is
        """
        running = self._running
        total = sum(report.weight_bytes for report in self._reports)
        done = sum(one.weight_bytes for one in self._reports if one.state != "planned" and one is not running)
        if running is None:
            return "compact", done, total
        if session is not None:
            self._share = max(self._share, self._part(session, running))
        return f"{running.action} {running.label}", done + int(running.weight_bytes * self._share), total

    def _part(self, session: Session, report: Report) -> float:
        """Share of the running work that is through; half of a rewrite is the table, the rest its indexes."""
        if report.action == "pg_repack" and report.table is not None:
            with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                copied = session.query(
                    "SELECT coalesce(sum(pg_relation_size(c.oid)), 0) AS size FROM pg_class AS c"
                    " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'repack' AND c.relname = %s",
                    (f"table_{report.oid}",),
                )[0]["size"]
                return min(float(copied) / max(report.table.heap.expected_bytes or 0, PAGE_BYTES), 1.0) / 2
            return 0.0
        rows = session.query(_PROGRESS, {"pids": self._own})
        parts = [min(row["done"] / row["total"], 1.0) for row in rows if row["total"]]
        return max(parts, default=0.0) * (0.5 if report.action == "vacuum_full" else 1.0)

    def _work_through(self, tick: Callable[[], None]) -> None:
        self._together([self._work], tick)

    def _busy(self) -> list[Session]:
        return [] if self._session is None or self._clearing else [self._session]

    def _opened(self) -> list[Session]:
        return [] if self._session is None else [self._session]

    # --- the thread that works --------------------------------------------------------------------------------------

    def _work(self) -> None:
        todo = list(self._reports)
        while (todo or self._again) and not self._is_ending:
            # What stayed locked is tried once more, after all others.
            final = not todo
            report = todo.pop(0) if todo else self._again.pop(0)
            session = self._reached()
            if session is None:
                return
            self._one(session, report, final=final)

    def _reached(self) -> Session | None:
        if self._session is None or self._session.connection.closed:
            try:
                self._session = self._connect()
                self._session.executed_queries = self.executed_queries
                self._own = [self._session.query("SELECT pg_backend_pid() AS pid")[0]["pid"]]
            except (RunbookError, psycopg2.Error) as error:
                self._trouble = error.message.rstrip(".") if isinstance(error, RunbookError) else cause(error)
                return None
        return self._session

    def _one(self, session: Session, report: Report, *, final: bool) -> None:
        started = time.monotonic()
        self._running, self._share, report.error = report, 0.0, None
        try:
            self._perform(session, report)
        except _StoppedError:
            report.state = "not_reached"
        except psycopg2.errors.LockNotAvailable:
            report.state, report.error = "locked", self._holders(session, report)
        except psycopg2.errors.DeadlockDetected:
            report.state, report.error = "locked", "deadlock with another session"
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
            report.state = "gone"
        except psycopg2.errors.QueryCanceled:
            late = self._is_ending or time.monotonic() >= self._limit(report) - 0.05
            report.state, report.error = ("not_reached", None) if late else ("failed", "cancelled by somebody else")
        except psycopg2.Error as error:
            report.state, report.error = "failed", cause(error)
        finally:
            if report.oid in self._left:
                report.error = f"{report.error}; {LEFT}" if report.error else LEFT
            spent = time.monotonic() - started
            report.duration_s = round((report.duration_s or 0) + spent, 3)
            self._running, self._clearing = None, False
        if report.state == "done" and report.estimate_s:
            self._pace = max(self._pace, spent / report.estimate_s)
        if report.state == "locked" and not final and not self._is_ending:
            self._again.append(report)

    def _limit(self, report: Report) -> float:
        """Until when it may go on."""
        if report.action == "vacuum_full" and self._outage_end is not None:
            return min(self._deadline, self._outage_end)
        return self._deadline

    def _perform(self, session: Session, report: Report) -> None:
        left_s = self._limit(report) - time.monotonic()
        if not self._fits(report, left_s, self._pace):
            report.state = "not_reached"
            return
        _bound(session, self._lock_timeout_ms, left_s)
        if report.action == "clean_up":
            self._clean_up(session, report)
            return
        if not self._unchanged(session, report):
            report.state = "gone"
            return
        # A second try of what stayed locked begins as if it were the first.
        report.state = "planned"
        if report.action == "truncate":
            self._truncate(session, report)
        elif self._quiet(session, report, left_s):
            act = self._repack if report.action == "pg_repack" else self._vacuum_full
            act(session, report)
        else:
            report.state, report.error = "locked", self._holders(session, report, repack_too=True)

    def _unchanged(self, session: Session, report: Report) -> bool:
        """Whether the name still means the table that was planned."""
        return bool(
            session.query(
                "SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
                " WHERE c.oid = %s AND n.nspname = %s AND c.relname = %s",
                (report.oid, *(report.name or ("", ""))),
            )
        )

    def _quiet(self, session: Session, report: Report, left_s: float) -> bool:
        """Wait, within the bounds, until transactions have ended that the work would have to wait for.

        Waiting before anything is made holds nobody up and leaves nothing to be cleared away.
        """
        until = time.monotonic() + min(self._lock_timeout_ms / 1000, left_s)
        query = _OPEN_TRANSACTIONS if report.action == "pg_repack" else _LOCKS_OF_TABLE
        seen: set[str] | None = None
        while True:
            rows = session.query(query, {"oid": report.oid, "own": self._own})
            now = {row["transaction"] for row in rows}
            seen = now if seen is None else seen & now
            if not seen:
                return True
            if self._stop.wait(POLL_S):
                raise _StoppedError
            if time.monotonic() >= until:
                return False

    def _truncate(self, session: Session, report: Report) -> None:
        """A plain VACUUM; it gives the end of the table back unless somebody else keeps the table's lock."""
        session.execute(statement(report, session.server_version))
        report.size_after_bytes = total_bytes(session, report.oid)
        if report.size_after_bytes is None or report.size_after_bytes >= (report.size_before_bytes or 0):
            report.state, report.error = "locked", "others kept it busy, so VACUUM did not give its end back"
        else:
            report.state = "done"

    def _vacuum_full(self, session: Session, report: Report) -> None:
        before = self._files(session, report)
        session.execute(statement(report, session.server_version))
        if self._files(session, report) == before:
            report.state, report.error = "failed", "the server skipped it; its log says why"
            return
        report.state, report.size_after_bytes = "done", total_bytes(session, report.oid)

    def _files(self, session: Session, report: Report) -> Any:
        return session.query("SELECT relfilenode FROM pg_class WHERE oid = %s", (report.oid,))

    # --- pg_repack --------------------------------------------------------------------------------------------------

    def _repack(self, session: Session, report: Report) -> None:
        assert self._client is not None  # noqa: S101 - the plan has this action only where there is one
        if report.oid in self._left:
            self._clear(session, report, killed=False)
            if report.oid in self._left:
                raise psycopg2.errors.LockNotAvailable
        words = self._words(report)
        before = self._files(session, report)
        self.executed_queries.append(" ".join(words))
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            # It ends with this process: nobody would bound its last lock, or keep the next run from its table.
            process = subprocess.Popen(
                ends_with_module([str(self._client.path), *words[1:]]),
                env=_environment(session),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            blocked = None
            try:
                blocked = self._watch(session, report, process)
            finally:
                self._clearing = True
                killed = process.poll() is None
                if killed:
                    # It would clear away by itself, but wait for the table's lock without a bound.
                    process.kill()
                    process.wait()
                self._clear(session, report, killed=killed)
            text = _read(said)
        self.said.append((f"pg_repack of {report.label}", text))
        if self._files(session, report) != before:
            report.state, report.size_after_bytes = "done", total_bytes(session, report.oid)
        elif blocked is not None:
            report.state, report.error = "locked", blocked
        else:
            report.state, why = _explained(text, process.returncode)
            report.error = why or (self._holders(session, report) if report.state == "locked" else None)

    def _watch(self, session: Session, report: Report, process: subprocess.Popen[Any]) -> str | None:
        """Wait for pg_repack to end; who holds it up, where that lasted longer than the bound.

        :raises _StoppedError: the pass ends, or the deadline has come
        """
        waits_since: float | None = None
        while process.poll() is None:
            if self._stop.wait(TICK_S / 4) or time.monotonic() >= self._deadline:
                raise _StoppedError
            waits = session.query(_REPACK_WAITS)[0]
            if waits["to_drop"]:
                return self._holders(session, report)
            if not waits["for_others"]:
                waits_since = None
            elif waits_since is None:
                waits_since = time.monotonic()
            elif time.monotonic() - waits_since > self._lock_timeout_ms / 1000:
                return self._holders(session, report)
        return None

    def _clear(self, session: Session, report: Report, *, killed: bool) -> None:
        """Take away what a pg_repack that ended early did not take away itself."""
        for _attempt in range(CLEAN_UP_ATTEMPTS):
            try:
                with contextlib.ExitStack() as stack:
                    if session.connection.closed:
                        session = stack.enter_context(self._connect())
                    if killed:
                        self._end_backends(session, report.oid)
                    for leftover in (one for one in leftovers(session) if one.oid == report.oid):
                        self._drop(session, leftover)
            except psycopg2.errors.QueryCanceled:
                # A cancellation that was meant for the statement before, and came late.
                continue
            except (RunbookError, psycopg2.Error):
                break
            else:
                self._left.discard(report.oid)
                return
        self._left.add(report.oid)

    def _end_backends(self, session: Session, oid: int) -> None:
        """End what a killed pg_repack still does in the server, and wait until it has ended."""
        until = time.monotonic() + CLEAN_UP_TIMEOUT_S
        while rows := session.query(_REPACK_BACKENDS, {"oid": oid}):
            if time.monotonic() >= until:
                raise psycopg2.errors.LockNotAvailable
            for row in rows:
                session.query("SELECT pg_terminate_backend(%s)", (row["pid"],))
            time.sleep(POLL_S)

    def _clean_up(self, session: Session, report: Report) -> None:
        # What was planned may be gone, or be in use again.
        now = {leftover.oid: leftover for leftover in leftovers(session)}
        if report.oid not in now:
            report.state = "gone"
            return
        self._drop(session, now[report.oid])
        report.state = "done"

    def _drop(self, session: Session, leftover: Leftover) -> None:
        """Drop it in one transaction, under the lock that pg_repack itself works under; short waits, several times.

        :raises psycopg2.errors.LockNotAvailable: the table, or that lock, could not be had
        """
        until = time.monotonic() + min(self._lock_timeout_ms / 1000, CLEAN_UP_TIMEOUT_S)
        key = (REPACK_LOCK, _lock_key(leftover.oid))
        while True:
            try:
                _bound(session, min(SHORT_LOCK_TIMEOUT_MS, self._lock_timeout_ms), CLEAN_UP_TIMEOUT_S)
                with session.transaction():
                    if not session.query("SELECT pg_try_advisory_xact_lock(%s, %s) AS locked", key)[0]["locked"]:
                        raise psycopg2.errors.LockNotAvailable
                    for one in clean_up_statements(leftover):
                        session.execute(one)
            except psycopg2.errors.LockNotAvailable:
                if time.monotonic() >= until:
                    raise
                time.sleep(SHORT_LOCK_PAUSE_S)
            else:
                return

    def _holders(self, session: Session, report: Report, *, repack_too: bool = False) -> str:
        """Who stands in the way: a lock on the table, or the oldest open transaction.

        :param repack_too: a pg_repack that works on the table is not ours, and may be named
        """
        rows = session.query(
            "SELECT l.pid, a.state, a.backend_type, a.application_name = 'pg_repack' AS is_repack,"
            " extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS age_s"
            " FROM (SELECT pid, 1 AS place FROM pg_locks WHERE granted AND relation = %(oid)s"
            "  UNION SELECT pid, 2 FROM pg_locks WHERE granted AND locktype = 'virtualxid') AS l"
            " JOIN pg_stat_activity AS a ON a.pid = l.pid"
            " WHERE a.pid <> ALL (%(own)s) AND a.datname = current_database() AND a.pid <> pg_backend_pid()"
            " AND (a.application_name <> 'pg_repack' OR %(repack_too)s AND l.place = 1)"
            " AND (a.backend_type = 'client backend' OR l.place = 1)"
            " ORDER BY l.place, a.xact_start NULLS LAST LIMIT 1",
            {"oid": report.oid, "own": self._own, "repack_too": repack_too},
        )
        if not rows:
            return "nobody holds it any more"
        if rows[0]["is_repack"]:
            return f"{OTHER_REPACK}, session {rows[0]['pid']}"
        state = rows[0]["state"] or "state hidden from this user"
        if rows[0]["backend_type"] == "autovacuum worker":
            state = "autovacuum"
        since = f" for {rows[0]['age_s']} s" if rows[0]["age_s"] is not None else ""
        return f"held by session {rows[0]['pid']}, {state}{since}"


def _lock_key(oid: int) -> int:
    return oid - (1 << 31)


def _bound(session: Session, lock_timeout_ms: int, statement_timeout_s: float) -> None:
    session.query(
        "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
        (str(lock_timeout_ms), str(max(int(statement_timeout_s * 1000), 1))),
    )


def _read(said: IO[str]) -> str:
    said.seek(0)
    return said.read(1 << 20)


def _explained(text: str, code: int) -> tuple[State, str]:
    """State and reason from what pg_repack said, which is not quoted: a server's message may hold a row."""
    known: tuple[tuple[str, State, str], ...] = (
        (r"due to timeout|do not cancel conflicting", "locked", ""),
        (r"Another pg_repack command may be running", "locked", OTHER_REPACK),
        (r"deadlock detected", "locked", "deadlock with another session"),
        (r"could not create unique index|duplicate key", "failed", EQUAL_KEYS),
        (r"No space left on device|could not extend file", "failed", "the server's disk is full"),
        (r"must be superuser|must be owner|permission denied", "failed", "this user may not use pg_repack on it"),
        (r"does not exist", "gone", ""),
        (r"trigger conflict|already has a trigger", "failed", "a trigger named repack_trigger is in the way"),
        (r"terminating connection|server closed the connection|could not connect|connection to server", "failed",
         "its connection was lost"),
        (r"canceling statement", "failed", "cancelled by somebody else"),
    )  # fmt: skip
    for pattern, state, why in known:
        if re.search(pattern, text):
            return state, why
    return "failed", f"pg_repack ended with exit code {code} without rewriting it; the server's log has the details"
