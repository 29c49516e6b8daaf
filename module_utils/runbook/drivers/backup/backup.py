"""What a logical backup does on the server: one snapshot for everybody, facts, hashes; and where its programs are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from ansible.module_utils.runbook.drivers.postgres import content_hash, pgtools, postgres
from ansible.module_utils.runbook.drivers.s3.stream import PIPE_BYTES
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.manifest import Extension, Source
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres.content_hash import Content
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from ansible.module_utils.runbook.rules.words import count
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
    from ansible.module_utils.runbook.rules.postgres.content_hash import Coverage, Method, Table

PROGRAMS = ("pg_dump", "pg_dumpall")
#: Tables that one LOCK TABLE names.
_LOCK_BATCH = 500
#: Tables that a session hashes in one transaction.
_HASH_BATCH = 50
#: Tables that are named where the statement is shown.
_NAMED = 20
#: How often the tables are read again because one was dropped before it was locked.
_LOCK_ROUNDS = 5


# Programs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """PostgreSQL's client programs of one version."""

    bindir: Path
    #: As pg_dump says it, such as ``18.6``.
    version: str

    @property
    def major(self) -> int:
        """The major version."""
        return int(re.split(r"\D", self.version)[0])

    def path(self, program: str) -> str:
        """Where a program lies."""
        return str(self.bindir / program)

    def dumping(self) -> list[str]:
        """Words that start pg_dump, its output buffer as large as the pipe: by itself it writes 4 KiB at a time."""
        stdbuf = shutil.which("stdbuf")
        return [*([stdbuf, f"--output={PIPE_BYTES}"] if stdbuf else []), self.path("pg_dump")]


def find_client(explicit: str | None, server_version: int, *, ssl_mode: str) -> Client:
    """Client programs for a server: those of its own major version, or else the newest.

    Archives of the server's own version can be read by most programs.

    :param explicit: folder to take them from
    :param server_version: PostgreSQL's ``server_version_num``
    :param ssl_mode: how the server is reached; programs without TLS count only where none can do better
    :raises RunbookError: ``explicit`` does not hold them, none were found, or none speaks TLS as ``ssl_mode`` asks
    """
    if explicit:
        found = _client(Path(explicit))
        if found is None:
            raise RunbookError(f"bindir: {explicit} does not hold {', '.join(PROGRAMS)}; name the folder that does.")
        clients = [found]
    else:
        folders = [*pgtools.bindirs()]
        on_path = shutil.which("pg_dump")
        if on_path:
            folders.append(Path(on_path).parent)
        clients = [client for client in map(_client, dict.fromkeys(folders)) if client is not None]
    if not clients:
        raise RunbookError("bindir: pg_dump was not found; install PostgreSQL's client programs, or name their folder.")
    server_major = server_version // 10000
    able = [client for client in clients if not pgtools.refuses(client.bindir, ssl_mode)]
    best = max(
        clients,
        key=lambda client: (
            client in able and client.major >= server_major, client.major == server_major, client.major,
        ),
    )  # fmt: skip
    if best not in able:
        raise pgtools.no_tls(best.bindir, ssl_mode)
    return best


def _client(bindir: Path) -> Client | None:
    if not all((bindir / program).exists() for program in PROGRAMS):
        return None
    try:
        said = subprocess.run(
            [str(bindir / "pg_dump"), "--version"], capture_output=True, text=True, check=False, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\) (\d+\S*)", said)
    return Client(bindir, version.group(1)) if version else None


def connection_words(target: Target) -> list[str]:
    """The target as options of pg_dump; the password is not among them."""
    parameters: dict[str, Any] = {
        "host": target.host,
        "port": target.port,
        "dbname": target.database,
        "user": target.user,
        "sslmode": target.ssl_mode,
        "sslrootcert": target.ca_cert,
        "connect_timeout": postgres.CONNECT_TIMEOUT_S,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "application_name": f"{postgres.APPLICATION_NAME} pg_dump",
    }
    more = {name: value for name, value in target.extra if name not in {"sslpassword", "options"}}
    given = {name: value for name, value in (parameters | more).items() if value is not None}
    return ["--dbname", str(psycopg2.extensions.make_dsn(**given)), "--no-password"]


def environment(target: Target, options: str) -> dict[str, str]:
    """The environment of pg_dump: this process's without PostgreSQL's variables, and the password.

    :param options: the settings of its session, of :meth:`Session.tool_options`
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    more = {"PGPASSWORD": target.password, "PGOPTIONS": options}
    return environ | {name: value for name, value in more.items() if value} | {"LC_ALL": "C", "LC_MESSAGES": "C"}


# Facts --------------------------------------------------------------------------------------------------------------


def read_source(session: Session) -> Source:
    """What the manifest says about the database, as of the session's snapshot."""
    row = session.query(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,"
        " d.datname AS database, current_setting('server_version') AS server_version,"
        " current_setting('server_version_num')::int AS server_version_num,"
        " pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,"
        " coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') AS provider,"
        " coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS icu_locale,"
        " to_jsonb(d) ->> 'daticurules' AS icu_rules,"
        " pg_get_userbyid(d.datdba) AS owner, statement_timestamp() AS snapshot_at,"
        " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS lsn,"
        " pg_database_size(d.oid) AS size_bytes"
        " FROM pg_database d WHERE d.datname = current_database()"
    )[0]
    provider = {"c": "libc", "i": "icu", "b": "builtin", "d": "default"}.get(row.pop("provider"), "unknown")
    snapshot_at = row.pop("snapshot_at").astimezone(UTC).isoformat()
    return Source(locale_provider=provider, snapshot_at=snapshot_at, **row)


def read_extensions(session: Session) -> tuple[Extension, ...]:
    """Installed extensions, by name."""
    return tuple(
        Extension(**row)
        for row in session.query(
            "SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema"
            " FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname"
        )
    )


def read_roles(session: Session) -> dict[str, None]:
    """Names of roles that own something in the database, are granted something or stand in a policy.

    Owners of extensions are not among them: a dump does not say who they are, and whoever restores becomes it.
    """
    rows = session.query(
        "WITH here AS (SELECT oid, datdba FROM pg_database WHERE datname = current_database())"
        " SELECT DISTINCT r.rolname FROM pg_roles r WHERE r.oid IN ("
        "  SELECT d.refobjid FROM pg_shdepend d, here WHERE d.refclassid = 'pg_authid'::regclass"
        "   AND (d.dbid = here.oid OR (d.classid = 'pg_database'::regclass AND d.objid = here.oid))"
        "   AND NOT (d.deptype = 'o' AND d.classid = 'pg_extension'::regclass)"
        "  UNION ALL SELECT datdba FROM here"
        # The superuser that initdb made is left out of pg_shdepend.
        "  UNION ALL SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        "   WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
        "  UNION ALL SELECT p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        "   WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
        "  UNION ALL SELECT nspowner FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')"
    )
    return dict.fromkeys(row["rolname"] for row in rows)


def read_tables(session: Session) -> list[Table]:
    """Tables as :func:`content_hash.read_tables` gives them, before they are locked.

    :raises RunbookError: somebody keeps one of them locked, so that its size cannot be told
    """
    try:
        return content_hash.read_tables(session)
    except psycopg2.errors.LockNotAvailable:
        blocked = _blocked(session, None)
        raise RunbookError(
            f"lock_timeout_ms: {blocked} in that time; look at pg_locks, and start again when that session is through."
        ) from None


def read_references(session: Session) -> list[tuple[QualifiedName, QualifiedName]]:
    """Foreign keys: the table that has one, and the table that it refers to."""
    return [
        (QualifiedName(row["schema"], row["name"]), QualifiedName(row["to_schema"], row["to_name"]))
        for row in session.query(
            "SELECT n.nspname AS schema, c.relname AS name, pn.nspname AS to_schema, p.relname AS to_name"
            " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace"
            " WHERE k.contype = 'f' ORDER BY 1, 2"
        )
    ]


def read_sequences(target: Target) -> dict[QualifiedName, str] | None:
    """Sequences as they stand now: see :func:`content_hash.read_sequences`; None where they cannot be read.

    The session is one of its own, so that nobody waits for a lock that it holds.
    """
    with (
        suppress(psycopg2.Error),
        postgres.Session(target, lock_timeout_ms=10_000, statement_timeout_ms=60_000, purpose="pg_backup") as session,
    ):
        content_hash.settle(session)
        return content_hash.read_sequences(session)
    return None


def server_now(session: Session) -> Any:
    """The server's clock, in UTC."""
    return session.query("SELECT clock_timestamp() AS now")[0]["now"].astimezone(UTC)


def check(session: Session, what: str) -> None:
    """See that a session still lives.

    :param what: what it did, for the sentence
    :raises RunbookError: it has ended
    """
    try:
        session.query("SELECT 1")
    except psycopg2.Error:
        raise RunbookError(
            f"{session.target}: the session that {what} has ended (the server was stopped, or somebody ended it); "
            "start again."
        ) from None


# Snapshot -----------------------------------------------------------------------------------------------------------


class Snapshot:
    """A session that locks every table against being altered, and holds the snapshot that all others use.

    The locks come first: a table that is truncated or rewritten between snapshot and lock would look empty.
    """

    def __init__(self, target: Target, *, lock_timeout_ms: int, purpose: str) -> None:
        """Connect; nothing is locked yet.

        :param lock_timeout_ms: longest wait for the lock of one table, in milliseconds
        """
        self.session = postgres.Session(
            target, lock_timeout_ms=lock_timeout_ms, statement_timeout_ms=0, purpose=purpose
        )
        self.lock_timeout_ms = lock_timeout_ms
        self.id = ""
        self.tables: list[Table] = []

    def take(self) -> None:
        """Lock, then take and export the snapshot; :attr:`tables` are those it shows.

        :raises RunbookError: somebody keeps a table locked, this user may not read one, or the server's lock table is
            too small
        """
        session = self.session
        content_hash.settle(session)
        # The session waits for the dump to end; the module's deadline bounds it.
        session.query("SELECT set_config('idle_in_transaction_session_timeout', '0', false)")
        for _ in range(_LOCK_ROUNDS):
            names = _lockable(session)
            try:
                session.connection.autocommit = False
                session.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                self._lock(names)
                self.id = session.query("SELECT pg_export_snapshot() AS id")[0]["id"]
                # What was made between the two looks is in the snapshot and not locked yet.
                locked = set(names)
                self._lock([name for name in _lockable(session) if name not in locked])
                self.tables = content_hash.read_tables(session)
                return
            except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName, psycopg2.errors.WrongObjectType):
                # Dropped before it was locked: what is there now is asked for again.
                session.connection.rollback()
                session.connection.autocommit = True
        raise RunbookError(
            f"{session.target}: tables are dropped faster than they can be locked; start again when that is over."
        )

    @property
    def executed_queries(self) -> list[str]:
        """What :meth:`take` ran."""
        return self.preview(self.tables)

    @staticmethod
    def preview(tables: Sequence[Table]) -> list[str]:
        """What :meth:`take` runs, with the names of the first few tables."""
        names = [str(table.name) for table in tables[:_NAMED]] + ["…"] * (len(tables) > _NAMED)
        lock = [f"LOCK TABLE ONLY {', ONLY '.join(names)} IN ACCESS SHARE MODE"] if tables else []
        return ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", *lock, "SELECT pg_export_snapshot()"]

    def _lock(self, names: Sequence[QualifiedName]) -> None:
        session = self.session
        for first in range(0, len(names), _LOCK_BATCH):
            batch = names[first : first + _LOCK_BATCH]
            try:
                session.query(
                    sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(
                        sql.SQL(", ONLY ").join(map(postgres.table, batch))
                    )
                )
            except psycopg2.errors.LockNotAvailable:
                raise RunbookError(
                    f"lock_timeout_ms: {_blocked(session, batch)} within {self.lock_timeout_ms} ms; look at pg_locks, "
                    "and start again when that session is through."
                ) from None
            except psycopg2.errors.InsufficientPrivilege as error:
                table = re.search(r"permission denied for (?:table|schema) (\S+)", str(error))
                raise RunbookError(
                    f"{session.target}: user {session.target.user!r} may not read {table.group(1) if table else 'all'}"
                    "; grant pg_read_all_data to that user."
                ) from None
            except psycopg2.errors.OutOfMemory:
                raise RunbookError(
                    f"{session.target}: the server's lock table is too small for {count(len(names), 'table')}; raise "
                    "max_locks_per_transaction on the server and restart it."
                ) from None

    def check(self) -> None:
        """See that the snapshot is still held.

        :raises RunbookError: its session has ended
        """
        check(self.session, "held the snapshot")

    def close(self) -> None:
        """Let the snapshot and the locks go."""
        self.session.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _blocked(session: Session, names: Sequence[QualifiedName] | None) -> str:
    """Which table could not be locked, as far as another session can see it.

    :param names: those that were wanted; None for all
    """
    with (
        suppress(psycopg2.Error, RunbookError),
        postgres.Session(
            session.target, lock_timeout_ms=1_000, statement_timeout_ms=10_000, purpose="pg_backup"
        ) as other,
    ):
        rows = other.query(
            "SELECT n.nspname AS schema, c.relname AS name, l.pid FROM pg_locks l JOIN pg_class c ON c.oid ="
            " l.relation JOIN pg_namespace n ON n.oid = c.relnamespace WHERE l.granted AND l.database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.mode = 'AccessExclusiveLock'"
        )
        for row in rows:
            name = QualifiedName(row["schema"], row["name"])
            if names is None or name in names:
                return f"{name} is locked by server process {row['pid']}, which did not give it free"
    return "a table is locked by another session, which did not give it free"


def _lockable(session: Session) -> list[QualifiedName]:
    return [
        QualifiedName(**row)
        for row in session.query(
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'"
            " AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass"
            " AND d.objid = c.oid AND d.objsubid = 0) ORDER BY c.oid"
        )
    ]


# Hashes -------------------------------------------------------------------------------------------------------------


class Hasher:
    """Sessions that hash tables of one snapshot, the biggest first."""

    def __init__(
        self, target: Target, snapshot: str, *, method: Method, coverage: Coverage, too_large: Callable[[str], str]
    ) -> None:
        """Remember how to hash.

        :param too_large: says of a table that one of its rows is too large to be hashed, and what is to be done
        """
        self._target = target
        self._too_large = too_large
        self._snapshot = snapshot
        self._method: Method = method
        self._coverage: Coverage = coverage
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self._stopped = False
        self._queue: Iterator[Table] = iter(())
        self.contents: dict[QualifiedName, Content] = {}
        self.large_objects = Content(0, None)
        #: Seconds that the sessions worked, added up.
        self.busy_s = 0.0

    def queue(self, tables: Sequence[Table]) -> None:
        """What is to be hashed; the biggest goes first, so that none is left over at the end."""
        self._queue = iter(sorted(tables, key=lambda table: -table.size_bytes))

    def work(self, *, large_objects: bool) -> None:
        """Hash until nothing is left; several threads may do so at once.

        :param large_objects: whether this one hashes those too
        :raises RunbookError: a table cannot be read, or :meth:`stop` was called
        """
        with self._lock:
            if self._stopped:
                return
            session = postgres.Session(self._target, lock_timeout_ms=60_000, statement_timeout_ms=0, purpose="pg_hash")
            self._sessions.append(session)
        begun = time.monotonic()
        table, hashed = None, 0
        try:
            self._join(session)
            if large_objects:
                self.large_objects = content_hash.hash_large_objects(session, self._method, self._coverage)
            while True:
                with self._lock:
                    table = next(self._queue, None)
                if table is None or self._stopped:
                    return
                content = content_hash.hash_table(session, table, self._method, self._coverage)
                with self._lock:
                    self.contents[table.name] = content
                hashed += 1
                if hashed % _HASH_BATCH == 0:
                    # Locks of tables, their indexes and TOAST tables add up, and the server's table of locks is small.
                    session.connection.rollback()
                    self._import(session)
        except psycopg2.Error as error:
            is_limit = isinstance(error, psycopg2.errors.ProgramLimitExceeded) or "memory alloc" in str(error)
            if table is not None and is_limit:
                raise RunbookError(f"{self._target}: {self._too_large(str(table.name))}.") from None
            if isinstance(error, psycopg2.errors.OutOfMemory):
                fix = "raise max_locks_per_transaction on the server and restart it"
            else:
                fix = "start again, and look at the server's log if that does not help"
            raise RunbookError(
                f"{self._target}: hashing was interrupted: {ServerError.of(error).reason}; {fix}."
            ) from None
        finally:
            with self._lock:
                self.busy_s += time.monotonic() - begun
            session.close()

    def _join(self, session: Session) -> None:
        """Take over the snapshot."""
        content_hash.settle(session)
        if session.server_version >= 140000:
            # A server process whose client has died does not scan on for minutes.
            with suppress(psycopg2.Error):
                session.query("SELECT set_config('client_connection_check_interval', '2s', false)")
        session.connection.autocommit = False
        self._import(session)

    def _import(self, session: Session) -> None:
        """Begin a transaction that sees the snapshot."""
        session.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            session.query(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self._snapshot)))
        except psycopg2.Error:
            raise RunbookError(
                f"{self._target}: the snapshot is gone, because the session that held it has ended; start again."
            ) from None

    def stop(self) -> None:
        """Cancel what runs."""
        with self._lock:
            self._stopped = True
            for session in self._sessions:
                with suppress(psycopg2.Error):
                    session.connection.cancel()


def probe(target: Target, method: Method) -> str:
    """The probe of this server: see :func:`content_hash.probe`."""
    with postgres.Session(target, lock_timeout_ms=10_000, statement_timeout_ms=60_000, purpose="pg_backup") as session:
        content_hash.settle(session)
        return content_hash.probe(session, method)
