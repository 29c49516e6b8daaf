"""What a disaster-recovery drill makes, breaks and takes away: a primary of its own, buckets, and a note of it all.

Everything lies in one folder of the control node. ``drill.json`` in it says how far the drill is, so that the next one
finds what a killed one left. Nothing outside of that folder, and of the buckets that bear the drill's name, is ever
killed or removed.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2
from ansible.module_utils.runbook.drivers import process, workspace
from ansible.module_utils.runbook.drivers.backup import heartbeat, pitr, proof
from ansible.module_utils.runbook.drivers.drill.drill_clients import Clients
from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.drivers.postgres import integrity, postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, command_line
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.drivers.sandbox.demo_database import fill
from ansible.module_utils.runbook.drivers.sandbox.sandbox import choose_port, end_process
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from botocore.exceptions import BotoCoreError, ClientError
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ansible.module_utils.runbook.rules.postgres.content_hash import Method
    from ansible.module_utils.runbook.rules.postgres.integrity import Finding, SequenceUse
    from ansible.module_utils.runbook.rules.sandbox.demo_database import Step

First = TypeVar("First")
Second = TypeVar("Second")

#: A bucket of a drill bears this name and the drill's; no other is ever removed.
BUCKET = "runbook-drill-"
_MARK = "runbook-drill"
_SETTINGS = {
    "wal_level": "replica",
    "autovacuum": "off",
    "max_wal_size": "2GB",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_PARTS = ("primary", "lost", "target", "keys")


#: Seconds between two looks of a drill's guard.
_GUARD_LOOK_S = 1.0
#: Open files of a module are below it.
_MOST_FILES = 4096


def connect(target: postgres.Target, *, statement_timeout_ms: int = 600_000) -> postgres.Session:
    """A session for the drill."""
    return postgres.Session(
        target, lock_timeout_ms=10_000, statement_timeout_ms=statement_timeout_ms, purpose="dr_drill"
    )


class Folder:
    """The drill's folder on the control node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path / "drill.json"
        self.history = path / "history"
        self.lessons = path / "lessons"
        self.logs = path / "logs"
        self.clients = Clients(path)

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Hold the folder for the block.

        :raises RunbookError: another drill's module is at work in it, or it cannot be made
        """
        with workspace.held(self.path, option="state_dir", holder="another drill"):
            yield

    def read(self) -> dict[str, Any]:
        """The note; empty where there is none.

        :raises RunbookError: it is damaged
        """
        found = workspace.read_note(self.note)
        if found == {}:
            return found
        if found is None or "drill_id" not in found:
            raise RunbookError(
                f"state_dir: {self.note} is damaged; see that no server of a drill runs in {self.path}, and remove it."
            )
        return found

    def write(self, state: dict[str, Any]) -> None:
        """Write the note, in one move."""
        workspace.write_note(self.note, state)

    def foreign(self) -> list[str]:
        """What lies where a drill would put its servers, though no note says that one did."""
        if self.note.exists():
            return []
        return [name for name in _PARTS if (self.path / name).exists()]

    def documents(self) -> list[tuple[str, str]]:
        """Names and texts of earlier drills' documents, oldest first."""
        return [(each.name, each.read_text()) for each in sorted(self.history.glob("*.json"))]

    def lesson_texts(self) -> list[tuple[str, str]]:
        """Names and texts of the files of lessons, oldest first."""
        return [(each.name, each.read_text(errors="replace")) for each in sorted(self.lessons.glob("*.toml"))]

    def stop(self) -> list[str]:
        """End the clients and servers of a drill, but for the one that was restored; what there was. Folders stay."""
        found = ["clients"] if self.clients.end() else []
        return found + [
            f"server {name}" for name in ("primary", "lost", "target") if end_server(self.path / name / "data")
        ]

    def clear(self, restore_path: Path) -> list[str]:
        """End every process of a drill and remove its servers; what there was."""
        found = self.stop()
        workshop = pitr.Workshop(restore_path)
        if workshop.state():
            with workshop.mine():
                workshop.clear()
            shutil.rmtree(workshop.path, ignore_errors=True)
            found.append("restored server")
        for name in _PARTS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in ("service.json", "service.tmp", "clients.lock", "ledger.txt"):
            (self.path / name).unlink(missing_ok=True)
        return found


def may_live(controller: str) -> bool:
    """Whether the ansible-playbook that ``drivers/process.py`` named so still runs, as far as can be told from here."""
    found = process.parse(controller)
    return found is not None and found.life() != "dead"


def end_server(data: Path) -> bool:
    """End the server of a data folder at once; whether it ran."""
    cluster = Cluster(Path(), data, 0)
    pid = cluster.pid()
    if pid is not None:
        end_process(pid, signal.SIGQUIT, still_there=cluster.is_running)
    return pid is not None


def leave_a_guard(folder: Folder, drill_id: str, controller: process.Process | None, restore_path: Path) -> None:
    """Start a process that ends a drill's servers where its ansible-playbook is gone, and nobody else would.

    Servers outlive the modules that start them. After ``kill -9`` of ansible-playbook nothing of it is left that could
    end them, and the next drill may be months away. Folders and note stay for that one. The guard ends with the drill,
    whose note it looks at.
    """
    if controller is None:
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        # No child of the module any more, which ends long before it, nor of its terminal; and it holds nothing open
        # that somebody waits for: the pipe to Ansible, the lock by which the callback knows a module at work.
        os.setsid()
        if os.fork() == 0:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(nowhere, standard)
            os.closerange(3, _MOST_FILES)
            _keep_guard(folder, drill_id, controller, restore_path)
    finally:
        os._exit(0)


def _keep_guard(folder: Folder, drill_id: str, controller: process.Process, restore_path: Path) -> None:
    while folder.read().get("drill_id") == drill_id:
        if controller.life() == "dead":
            # A module that was told to end holds the folder until it has; then it is asked again.
            with suppress(RunbookError), folder.mine():
                if folder.read().get("drill_id") == drill_id:
                    folder.stop()
                    end_server(pitr.Workshop(restore_path).data)
                return
        time.sleep(_GUARD_LOOK_S)


# --- servers ----------------------------------------------------------------------------------------------------------


def make_server(folder: Path, bindir: Path, password: str | None) -> Cluster:
    """Make and start a cluster in a folder."""
    cluster = Cluster(bindir, folder / "data", choose_port(None, None))
    cluster.init(password=password)
    cluster.start(**_SETTINGS)
    return cluster


def begin_archiving(cluster: Cluster) -> None:
    """Restart a server of :func:`make_server` so that its WAL can be archived from now on.

    What filled it is not archived: a base backup would wait for those hundreds of segments.
    """
    cluster.stop("fast")
    cluster.start(**_SETTINGS, archive_mode="on")


def fill_primary(
    admin: postgres.Target, database: str, steps: Sequence[Step], on_step: Callable[[str, int, int], None]
) -> postgres.Target:
    """Make the drill's database: what the application has, and the table that clients write to."""
    target = replace(admin, database=database)
    with connect(admin) as session:
        session.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(database))
        )
    with connect(target) as session:
        fill(session.connection, steps, on_step)
        for statement in heartbeat.TABLE:
            session.execute(statement)
        if session.query("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'"):
            session.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")
        session.execute("CHECKPOINT")
    return target


def identity(session: postgres.Session) -> str:
    """The cluster's system identifier."""
    return str(session.query("SELECT system_identifier::text AS id FROM pg_control_system()")[0]["id"])


def kill(cluster: Cluster, admin: postgres.Target, lost: Path) -> None:
    """The disaster: SIGKILL to every process of the server, and its data folder is gone.

    :raises RunbookError: a process is still there
    """
    pid = cluster.pid()
    if pid is None:
        raise RunbookError(f"The server in {cluster.data} has no process here; it may run in another container.")
    with connect(admin) as session:
        pids = {int(row["pid"]) for row in session.query("SELECT pid FROM pg_stat_activity")}
    # What the server says of itself may be the numbers of another container.
    here = [each for each in map(process.find, sorted(pids)) if each and "postgres" in command_line(each.pid)]
    family = process.children(pid) or here
    postmaster = process.find(pid)
    for each in [*([postmaster] if postmaster else []), *family]:
        each.send(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(each.life() == "alive" for each in family) or cluster.is_running():
        if time.monotonic() > deadline:
            raise RunbookError(f"The server in {cluster.data} does not end, not even by SIGKILL.")
        time.sleep(0.01)
    closed(lost)
    cluster.data.rename(lost / "data")


def answers(target: postgres.Target, question: sql.Composed | str) -> bool:
    """Whether a server answers a question as the application would ask it."""
    try:
        connection = psycopg2.connect(
            host=target.host,
            port=target.port,
            dbname=target.database,
            user=target.user,
            password=target.password,
            sslmode=target.ssl_mode,
            connect_timeout=2,
            options="-c statement_timeout=2000",
        )
    except psycopg2.Error:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            row = cursor.fetchone()
        return bool(row and row[0])
    except psycopg2.Error:
        return False
    finally:
        connection.close()


def server_clock(session: postgres.Session) -> tuple[datetime, datetime, datetime]:
    """When the server was asked, what its clock said, when the answer came."""
    asked = datetime.now(UTC)
    said = session.query("SELECT clock_timestamp() AS now")[0]["now"]
    return asked, said, datetime.now(UTC)


def archive_delay_s(session: postgres.Session) -> float | None:
    """How long the archiver took for the last file, in seconds, of which a part is counted as one.

    The server notes when a file is ready to be archived, and when the last one was.

    :returns: None where nothing was archived, that note is gone with its segment, or the user may not see it
    """
    may = session.query("SELECT has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS may")
    if not may[0]["may"]:
        return None
    found = session.query(
        "SELECT extract(epoch FROM a.last_archived_time - d.modification)::float8 AS delay_s"
        " FROM pg_stat_archiver a JOIN pg_ls_archive_statusdir() d ON d.name = a.last_archived_wal || '.done'"
    )
    return max(0.0, float(found[0]["delay_s"])) if found else None


def archive_now(session: postgres.Session, *, deadline_s: float) -> None:
    """End the WAL segment and wait until it is archived.

    :raises RunbookError: it was not, in that time
    """
    ended = pitr.archive_until_now(session, wait_s=deadline_s)
    if ended.archived_s is None:
        raise RunbookError(
            f"Segment {ended.segment} was not archived within {deadline_s:.0f} s; the server's log says why."
        )


# --- what a database holds --------------------------------------------------------------------------------------------

_COLUMNS = """
SELECT n.nspname || '.' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) AS name
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'runbook') ORDER BY 1
"""


def columns(session: postgres.Session) -> list[str]:
    """Columns that the application sees, as ``schema.table.column type``."""
    return [str(row["name"]) for row in session.query(_COLUMNS)]


def contents(target: postgres.Target, method: Method) -> dict[str, list[Any]]:
    """Rows and hash of each table but the project's own; a table that cannot be read has None and the sentence why."""
    found = proof.read(lambda: connect(target), method=method, coverage="all", jobs=2, check=lambda: None)
    read: dict[str, list[Any]] = {str(name): [each.rows, each.digest] for name, each in found.contents.items()}
    read |= {str(name): [None, why] for name, why in found.errors.items()}
    return {name: each for name, each in read.items() if not name.startswith("runbook.")}


def heartbeats(session: postgres.Session) -> dict[int, int]:
    """What clients wrote and a database holds: microseconds since 1970 by number; empty where there is no table.

    :raises RunbookError: it cannot be read
    """
    if not session.query("SELECT 1 FROM pg_tables WHERE schemaname = 'runbook' AND tablename = 'heartbeat'"):
        return {}
    try:
        rows = session.query("SELECT id, (extract(epoch FROM beat_at) * 1000000)::bigint AS us FROM runbook.heartbeat")
    except psycopg2.Error as error:
        raise RunbookError(
            f"runbook.heartbeat of {session.target} cannot be read: {ServerError.of(error).reason}."
        ) from None
    return {int(row["id"]): int(row["us"]) for row in rows}


def last_replayed(session: postgres.Session) -> datetime | None:
    """Time of the last commit that a recovery replayed; None on a server that did not recover."""
    at: datetime | None = session.query("SELECT pg_last_xact_replay_timestamp() AS at")[0]["at"]
    return at


def sizes(session: postgres.Session) -> int:
    """Bytes of the database."""
    return int(session.query("SELECT pg_database_size(current_database()) AS bytes")[0]["bytes"])


def integrity_findings(
    target: postgres.Target,
    smoke: Sequence[dict[str, Any]],
    judge: Callable[[SequenceUse], Finding],
    check: Callable[[], None],
) -> list[Finding]:
    """Everything that M(pg_integrity) asks, amcheck too.

    :param check: is called now and then; what it raises stops the asking
    """
    with connect(target) as session:
        findings, questions = integrity.questions(
            session, ["sequences", "foreign_keys", "indexes", "amcheck", "smoke"], smoke, judge
        )
    asked = integrity.Inquiry(target, jobs=2, deadline_s=3600, lock_timeout_ms=5_000)
    return findings + asked.ask(questions, lambda _done, _of: check())


def side_by_side(first: Callable[[Callable[[], None]], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Do two things at once, so that neither leaves a core idle at its end.

    :param first: runs in a thread of its own; it calls its argument now and then, which raises once ``second`` failed
    """
    failed = threading.Event()

    def check() -> None:
        if failed.is_set():
            raise RunbookError("Stopped.")

    with ThreadPoolExecutor(max_workers=1) as pool:
        begun = pool.submit(first, check)
        try:
            done = second()
        except BaseException:
            failed.set()
            raise
        return begun.result(), done


# --- buckets ----------------------------------------------------------------------------------------------------------


def make_bucket(store: s3.Store, environment: str) -> None:
    """Make a bucket of the drill's own, marked as such."""
    with s3.explained(f"Making {store}"):
        store.client.create_bucket(Bucket=store.bucket)
        tags = [{"Key": "runbook-environment", "Value": environment}, {"Key": _MARK, "Value": "true"}]
        store.client.put_bucket_tagging(Bucket=store.bucket, Tagging={"TagSet": tags})


def copy_bucket(source: s3.Store, copy: s3.Store) -> int:
    """What replication between two regions does: every object is there too; how many."""
    number = 0
    for entry in source.entries():
        with s3.explained(f"Copying {source.url(entry.key)}"):
            copy.client.copy_object(
                Bucket=copy.bucket, Key=entry.key, CopySource={"Bucket": source.bucket, "Key": entry.key}
            )
        number += 1
    return number


def remove_bucket(store: s3.Store) -> bool:
    """Remove a bucket of a drill with all that is in it; whether it was there.

    :raises RunbookError: it is not one of a drill
    """
    if not store.bucket.startswith(BUCKET):
        raise RunbookError(f"bucket: {store.bucket} is not one that a drill made; it is left alone.")
    try:
        store.client.head_bucket(Bucket=store.bucket)
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and s3.code(error) in ("404", "NoSuchBucket"):
            return False
        with s3.explained(f"Removing {store}"):
            raise
    if _MARK not in store.tags():
        raise RunbookError(f"bucket: {store.bucket} bears no tag {_MARK}, so no drill made it; it is left alone.")
    # What was being archived when the server was killed may still arrive.
    for attempt in range(5):
        for key, upload_id, _ in store.uploads(""):
            store.abort_upload(key, upload_id)
        store.delete(store.entries())
        try:
            store.client.delete_bucket(Bucket=store.bucket)
            return True
        except ClientError as error:
            if s3.code(error) not in ("BucketNotEmpty", "409") or attempt == 4:
                with s3.explained(f"Removing {store}"):
                    raise
        time.sleep(0.2)
    return True


# --- planted faults ---------------------------------------------------------------------------------------------------


def flip_byte(store: s3.Store, key: str) -> None:
    """Flip one bit in the middle of an object."""
    data = bytearray(_get(store, key))
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))


def truncate(store: s3.Store, key: str) -> None:
    """Cut the second half of an object off."""
    data = _get(store, key)
    store.put(key, data[: len(data) // 2])


def _get(store: s3.Store, key: str) -> bytes:
    return store.read(key, most_bytes=1 << 31)


def row_place(session: postgres.Session, table: sql.Identifier) -> tuple[str, int, int]:
    """A living row of a table: the file below the data folder, its block, its line pointer."""
    path = session.query(sql.SQL("SELECT pg_relation_filepath({}::regclass) AS path").format(_literal(session, table)))
    row = session.query(sql.SQL("SELECT ctid::text AS place FROM {} ORDER BY id LIMIT 1").format(table))[0]
    block, line = str(row["place"]).strip("()").split(",")
    return str(path[0]["path"]), int(block), int(line)


def _literal(session: postgres.Session, table: sql.Identifier) -> sql.Composable:
    return sql.Literal(table.as_string(session.connection))


def flip_row(store: s3.Store, key: str, place: tuple[str, int, int]) -> None:
    """Flip one bit of one row in a base backup, as a disk or a memory does, and leave the archive itself whole.

    A page begins with a header of 24 bytes; then come line pointers of 4 bytes, of which the lowest 15 bits are the
    row's offset and the highest 15 its length (PostgreSQL's bufpage.h and itemid.h).
    """
    import lz4.frame  # noqa: PLC0415 - nothing but this planted fault needs it

    name, block, line = place
    source = io.BytesIO(lz4.frame.decompress(_get(store, key)))
    with tarfile.open(fileobj=source) as archive:
        member = next((each for each in archive if each.name.removeprefix("./").endswith(name)), None)
        if member is None:
            raise RunbookError(f"{store.url(key)} holds no {name}, so no byte of it can be flipped.")
        start = member.offset_data
    data = bytearray(source.getvalue())
    page = start + block * 8192
    pointer = int.from_bytes(data[page + 24 + 4 * (line - 1) : page + 24 + 4 * line], "little")
    offset, length = pointer & 0x7FFF, pointer >> 17
    data[page + offset + length - 8] ^= 1
    store.put(key, lz4.frame.compress(bytes(data)))


# --- mistakes ---------------------------------------------------------------------------------------------------------


def mistakes(scenario: str, table: sql.Identifier) -> list[sql.Composed]:
    """What somebody does by mistake in a scenario that leaves the server running."""
    if scenario == "table_dropped":
        return [sql.SQL("DROP TABLE {} CASCADE").format(table)]
    return [sql.SQL("UPDATE {} SET body = '' WHERE id % 2 = 0").format(table)]


def healthy(table: sql.Identifier) -> sql.Composed:
    """The question by which a monitor sees that the application's table is there and well."""
    return sql.SQL("SELECT count(*) > 0 AND count(*) FILTER (WHERE body = '') = 0 FROM {}").format(table)


def migration(table: sql.Identifier) -> sql.Composed:
    """A change of the schema that the application relies on from then on."""
    return sql.SQL("ALTER TABLE {} ADD COLUMN migrated_at timestamptz").format(table)


def drop_database(admin: postgres.Target, name: str) -> bool:
    """Drop a database of a drill; whether it was there."""
    with connect(admin) as session:
        if not session.query("SELECT 1 FROM pg_database WHERE datname = %s", (name,)):
            return False
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    return True
