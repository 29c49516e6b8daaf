"""From a bucket into a new database, through PostgreSQL's own pg_restore, without a file in between.

Data is pulled through a chain: S3, a SHA-256 on the way, decryption, decompression, the input of pg_restore. Memory
holds a few pieces of 1 MiB, whatever the size. Only the schema goes through a temporary file, because pg_restore wants
to jump about in it when it makes indexes side by side.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import zstandard
from ansible.module_utils.runbook.drivers import folders
from ansible.module_utils.runbook.drivers.postgres import pgtools, postgres
from ansible.module_utils.runbook.drivers.postgres.postgres import APPLICATION_NAME, Session
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.drivers.s3.stream import PIPE_BYTES, Output, Programs
from ansible.module_utils.runbook.drivers.supabase.platform import is_project
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.defects import DAMAGED
from ansible.module_utils.runbook.rules.backup.restore import LATEST, Server
from ansible.module_utils.runbook.rules.backup.restore_rights import SERVICE_ADMINS
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ansible.module_utils.runbook.drivers.postgres.postgres import Target
    from ansible.module_utils.runbook.drivers.s3.s3 import Body, Readable, Store
    from ansible.module_utils.runbook.rules.backup.manifest import Manifest, Object
    from ansible.module_utils.runbook.rules.backup.swap import Marker
    from ansible.module_utils.runbook.rules.supabase.managed import Entry

LOCK_TIMEOUT_MS = 30_000
CHECK_TIMEOUT_MS = 60_000
#: What one index may use while it is made, unless the server gives more.
MAINTENANCE_MEMORY_MB = 256
#: Seconds between two looks at the programs that run.
_TICK_S = 0.05
_STDERR_BYTES = 64 << 10
#: Seconds that the rest of an object is read for its SHA-256, after pg_restore complained of what is in it.
_VERDICT_S = 60


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every restore of a backup."""
    return (
        postgres.argument_spec()
        | s3.argument_spec()
        | {
            "prefix": {"type": "str", "default": ""},
            "database": {"type": "str", "required": True},
            "source_cluster": {"type": "str"},
            "previous_clusters": {"type": "list", "elements": "str", "default": []},
            "from_cluster": {"type": "str"},
            "backup": {"type": "str", "default": LATEST},
            "before": {"type": "str"},
            "target_database": {"type": "str"},
            "jobs": {"type": "int", "default": 2},
            "prove": {"type": "bool", "default": True},
            "record_proof": {"type": "bool", "default": False},
            "environment": {"type": "str"},
            "identity_file": {"type": "path"},
            "bindir": {"type": "path"},
            "deadline_s": {"type": "int", "default": 14400},
            "hold_days": {"type": "int", "default": 0},
            "keep_failed": {"type": "bool", "default": False},
            "scratch": {"type": "bool", "default": False},
            "without_extensions": {"type": "list", "elements": "str", "default": []},
        }
    )


# The server -----------------------------------------------------------------------------------------------------------


def connect(target: Target, *, statement_timeout_ms: int = 0) -> Session:
    """A session under the name by which a restore at work is known to other runs."""
    return Session(
        target, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=statement_timeout_ms, purpose="pg_restore"
    )


#: That name.
PURPOSE = f"{APPLICATION_NAME} pg_restore"


#: First server version where a membership says whether its member may SET ROLE.
SAYS_SET = 160000
#: Extensions that no more than CREATE on the database does not suffice for; none to the admin of a managed service.
_UNTRUSTED = """
    SELECT e.name FROM pg_available_extensions e JOIN pg_available_extension_versions v
      ON v.name = e.name AND v.version = e.default_version
    WHERE v.superuser AND NOT v.trusted AND NOT EXISTS (
      SELECT FROM pg_roles WHERE rolname = ANY (%s) AND pg_has_role(oid, 'MEMBER'))
"""


def look(session: Session) -> Server:
    """What the server has and may."""
    who = session.query(
        "SELECT rolname AS role, rolsuper AS is_superuser, rolcreatedb AS may_create,"
        " pg_is_in_recovery() AS in_recovery FROM pg_roles WHERE rolname = current_user"
    )[0]
    databases = session.query("SELECT datname, shobj_description(oid, 'pg_database') AS comment FROM pg_database")
    collations = session.query(
        "SELECT DISTINCT collcollate AS name, collprovider AS provider FROM pg_collation"
        " WHERE collprovider IN ('c', 'i')"
    )
    # From 16 on a membership says whether it lets its member give objects to the role.
    gives = " AND pg_has_role(oid, 'SET')" if session.server_version >= SAYS_SET else ""
    members_of = session.query(f"SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'USAGE'){gives}")  # noqa: S608 - words of ours
    untrusted = [] if who["is_superuser"] else session.query(_UNTRUSTED, (list(SERVICE_ADMINS),))
    roles = session.query("SELECT rolname, rolsuper FROM pg_roles")
    used = session.query("SELECT datcollate AS name FROM pg_database UNION SELECT datctype FROM pg_database")
    return Server(
        **who,
        version=session.server_version,
        databases={row["datname"]: row["comment"] for row in databases},
        roles={row["rolname"] for row in roles},
        superusers={row["rolname"] for row in roles if row["rolsuper"]},
        extensions={
            row["name"]: row["default_version"] or ""
            for row in session.query("SELECT name, default_version FROM pg_available_extensions")
        },
        locales={row["name"] for row in [*collations, *used] if row["name"]},
        has_icu=any(row["provider"] == "i" for row in collations),
        free_bytes=_free_bytes(session),
        members_of={row["rolname"] for row in members_of},
        untrusted={row["name"] for row in untrusted},
        is_project=is_project(session),
    )


def _free_bytes(session: Session) -> int | None:
    """Room where the server keeps its data; None where it is another machine, or does not say."""
    host = session.target.host
    if not (host.startswith("/") or host in {"127.0.0.1", "::1", "localhost"}):
        return None
    try:
        data = Path(session.query("SELECT current_setting('data_directory') AS path")[0]["path"])
        # Behind a tunnel the server is elsewhere; then this file is missing, or is that of another port.
        lines = (data / "postmaster.pid").read_text().splitlines()
        return shutil.disk_usage(data).free if lines[3:4] == [str(session.target.port)] else None
    except (psycopg2.Error, OSError):
        return None


def marking(name: str, marker: Marker) -> sql.Composable:
    """The statement that says in the database's comment what it is."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(str(marker)))


def now() -> str:
    """The bastion's clock, for people who read a mark."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def analyze(session: Session) -> None:
    """Gather the planner's statistics, since a restored database has none."""
    session.execute("ANALYZE")


# The programs ---------------------------------------------------------------------------------------------------------


def find_clients(bindir: str | None, *, ssl_mode: str) -> dict[str, int]:
    """Every folder with a pg_restore that can reach the server, and its major version.

    :param bindir: look only there
    :param ssl_mode: how the server is reached
    :raises RunbookError: there is none in ``bindir``, or none speaks TLS as ``ssl_mode`` asks
    """
    if bindir:
        folders = [Path(bindir)]
        if not (folders[0] / "pg_restore").exists():
            raise RunbookError(
                f"bindir: {bindir} holds no pg_restore; name the folder of PostgreSQL's client programs."
            )
    else:
        on_path = shutil.which("pg_restore")
        folders = [*pgtools.bindirs(), *([Path(on_path).parent] if on_path else [])]
    found: dict[str, int] = {}
    plain = None
    for folder in folders:
        with suppress(OSError, subprocess.TimeoutExpired):
            said = subprocess.run(
                [str(folder / "pg_restore"), "--version"], capture_output=True, text=True, check=False, timeout=30
            ).stdout
            version = re.search(r"\) (\d+)", said)
            if version and pgtools.refuses(folder, ssl_mode):
                plain = plain or folder
            elif version:
                found[str(folder)] = int(version[1])
    if plain and not found:
        raise pgtools.no_tls(plain, ssl_mode)
    return found


def listed(path: Path, entries: Sequence[Entry]) -> str:
    """The word that makes pg_restore take these entries of an archive, by a file."""
    path.write_text("".join(f"{each.line}\n" for each in entries))
    return f"--use-list={path}"


def _conninfo(target: Target) -> str:
    """Where a program connects to, without the password: it is shown by ps."""
    named: dict[str, Any] = {
        "host": target.host, "port": target.port, "dbname": target.database, "user": target.user,
        "sslmode": target.ssl_mode, "connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10,
        "keepalives_count": 3,
    }  # fmt: skip
    if target.ca_cert:
        named["sslrootcert"] = target.ca_cert
    hidden = {"options", "passfile", "sslpassword", "application_name"}
    named |= {key: value for key, value in target.extra if key not in hidden}
    return str(psycopg2.extensions.make_dsn(**named))


#: Of the sessions of pg_restore.
MEMORY = {"maintenance_work_mem": f"{MAINTENANCE_MEMORY_MB}MB"}
#: Into a new database. Lost in a crash of the server is only what a new restore brings back.
FILLING = MEMORY | {"synchronous_commit": "off"}


def _environment(target: Target, options: str) -> dict[str, str]:
    """The environment of a program that writes to the new database."""
    secrets = {"PGPASSWORD": target.password, "PGPASSFILE": dict(target.extra).get("passfile")}
    return (
        {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        | {"PGAPPNAME": "runbook restoring", "PGOPTIONS": options, "LC_ALL": "C"}
        | {key: value for key, value in secrets.items() if value}
    )


class Failed(Exception):  # noqa: N818 - it is caught where it becomes a RunbookError
    """A program of PostgreSQL failed; its last words."""

    def __init__(self, said: Sequence[str]) -> None:
        super().__init__("a program failed")
        self.said = said


class Program:
    """One pg_restore that runs."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stderr: IO[bytes],
        errors: Callable[[Sequence[str]], list[str]],
        said: list[str],
    ) -> None:
        self.process = process
        self._said = said
        self._stderr = stderr
        self._errors = errors

    def is_done(self) -> bool:
        """Whether it ended well.

        :raises Failed: it ended badly
        """
        code = self.process.poll()
        if code is None:
            return False
        said = self.said()
        # It ends with 1 for harmless errors too, where it was told to go on after them.
        if self._errors(said) or code not in {0, 1} or (code == 1 and not said):
            raise Failed(said or [f"pg_restore: error: it was ended by signal {-code}" if code < 0 else ""])
        # Its count of errors is of those that mean nothing.
        self._said += [line for line in said if "errors ignored on restore" not in line]
        return True

    def said(self) -> list[str]:
        """Its words so far."""
        self._stderr.seek(0)
        return self._stderr.read(_STDERR_BYTES).decode(errors="replace").splitlines()


class Filler:
    """Starts pg_restore for one new database, and ends all that was started when something goes wrong."""

    def __init__(
        self, target: Target, *, folder: str, client_version: int, server_version: int, options: str,
        errors: Callable[[Sequence[str]], list[str]],
    ) -> None:  # fmt: skip
        """Remember what every pg_restore needs.

        :param target: the new database
        :param folder: where pg_restore is
        :param options: the settings of its sessions, of :meth:`Session.tool_options`
        :param errors: picks the errors that matter out of what a program said
        """
        self.programs = Programs()
        self._target = target
        self._folder = folder
        self.errors = errors
        # A client from 17 on sets a parameter that older servers do not know, and would stop at that.
        self._stop_at_errors = [] if client_version >= 17 and server_version < 170000 else ["--exit-on-error"]
        self._environment = _environment(target, options)

    def aim(self, target: Target) -> None:
        """Fill another database of the same server."""
        self._target = target

    def start(self, section: str, *words: str, fed: bool = False) -> Program:
        """Start pg_restore for one section of an archive; from the main thread, whose end it does not survive.

        :param fed: the archive comes through its input
        """
        return self._start("pg_restore", f"--section={section}", *self._stop_at_errors, *words, fed=fed)

    def start_sql(self) -> Program:
        """Start psql, which runs what it is given and stops at the first error; from the main thread too."""
        words = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=on", "--set=VERBOSITY=terse", "--file=-")
        return self._start("psql", *words, "--output=/dev/null", fed=True)

    def _start(self, program: str, *words: str, fed: bool) -> Program:
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process's object
        command = [
            self.path(program), "--no-password", f"--dbname={_conninfo(self._target)}", *words,
        ]  # fmt: skip
        stdin = subprocess.PIPE if fed else subprocess.DEVNULL
        process = self.programs.start(command, stdin=stdin, stderr=stderr, env=self._environment)
        return Program(process, stderr, self.errors, self.programs.said)

    def path(self, program: str) -> str:
        """Where a program lies."""
        return str(Path(self._folder) / program)

    def run(self, section: str, *words: str, check: Callable[[], None]) -> None:
        """Run pg_restore to its end."""
        program = self.start(section, *words)
        while not program.is_done():
            check()
            time.sleep(_TICK_S)


# The objects ----------------------------------------------------------------------------------------------------------


#: What S3 says of a version that it does not have: another bucket's copy of the object has versions of its own.
_NO_VERSION = frozenset({"NoSuchVersion", "NoSuchKey", "InvalidArgument", "404", "400"})


def _open(store: Store, wanted: Object) -> Body:
    """The version that the manifest names, or, in a copy of the bucket, the one that is there: its SHA-256 decides."""
    try:
        return store.open(wanted.key, wanted.version_id)
    except RunbookError as error:
        if not wanted.version_id or error.context.get("s3_code") not in _NO_VERSION:
            raise
    return store.open(wanted.key)


def sizes(store: Store, manifest: Manifest) -> Mapping[str, int | None]:
    """Size of each object of a backup as S3 says, None where it is missing."""
    found: dict[str, int | None] = {}
    for each in manifest.objects:
        answer = None
        try:
            answer = store.head(each.key, each.version_id)
        except RunbookError as error:
            if not each.version_id or error.context.get("s3_code") not in _NO_VERSION:
                raise
        answer = answer or store.head(each.key)
        found[each.key] = int(answer["ContentLength"]) if answer else None
    return found


class Verified:
    """Objects one after the other as one stream, each held to the size and SHA-256 that the manifest gives."""

    def __init__(self, store: Store, objects: Sequence[Object]) -> None:
        self._pieces = self._read(store, objects)

    @staticmethod
    def _read(store: Store, objects: Sequence[Object]) -> Iterator[bytes]:
        for each in objects:
            digest, size = hashlib.sha256(), 0
            with _open(store, each) as body:
                if body.size_bytes != each.size_bytes:
                    raise RunbookError(
                        f"{store.url(each.key)} has {body.size_bytes:,} bytes and the manifest says "
                        f"{each.size_bytes:,}; it was cut or replaced: take another backup.",
                        code=DAMAGED,
                    )
                while piece := body.read(PIPE_BYTES):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
            if size != each.size_bytes or digest.hexdigest() != each.sha256:
                raise RunbookError(
                    f"{store.url(each.key)} does not have the SHA-256 of its manifest; it was damaged or replaced: "
                    "take another backup, or an earlier version of the object.",
                    code=DAMAGED,
                )

    def read(self, size: int = -1, /) -> bytes:  # noqa: ARG002 - a reader may get less than it asked for
        """The next piece; none at the end."""
        return next(self._pieces, b"")


class Unpacked:
    """Objects as pg_dump wrote them: verified, decrypted, decompressed."""

    def __init__(self, store: Store, objects: Sequence[Object], programs: Programs, decrypt: Sequence[str]) -> None:
        self._name = store.url(objects[0].key)
        source: Readable = Verified(store, objects)
        if decrypt:
            source = Output(programs, decrypt, explain=self._explain, source=source)
        self._source = source
        reader: Any = zstandard.ZstdDecompressor()
        self._reader = reader.stream_reader(source, read_size=PIPE_BYTES, read_across_frames=True, closefd=False)
        self.bytes_read = 0

    def _explain(self, program: str, code: int | None, _said: str) -> str:
        return (
            f"{self._name} could not be decrypted ({program} ended with {code}); check identity_file, and that it "
            "belongs to the key that the backup was made for."
        )

    def read(self) -> bytes:
        """The next piece; none at the end.

        :raises RunbookError: the object is not what the manifest says, or cannot be unpacked
        """
        try:
            piece: bytes = self._reader.read(PIPE_BYTES)
        except zstandard.ZstdError:
            raise RunbookError(
                f"{self._name} cannot be decompressed, so it is damaged; take another backup, or an earlier version of "
                "the object.",
                code=DAMAGED,
            ) from None
        self.bytes_read += len(piece)
        if not piece:
            # zstd is content with the end of its frame; the digest is only judged at the end of the object.
            while self._source.read(PIPE_BYTES):
                pass
        return piece


def decryption(kind: str, identity_file: str | None) -> list[str]:
    """The command that decrypts an object; empty where none is encrypted.

    :raises RunbookError: the program or the identity is missing
    """
    if kind == "none":
        return []
    program = shutil.which(kind)
    if program is None:
        raise RunbookError(f"The backup is encrypted with {kind}, which is not installed on this machine; install it.")
    if kind == "gpg":
        return [program, "--batch", "--no-tty", "--quiet", "--decrypt"]
    if not identity_file:
        raise RunbookError(
            "identity_file: it is not set, and the backup is encrypted with age; name the secret key's file."
        )
    if not os.access(identity_file, os.R_OK):
        raise RunbookError(f"identity_file: {identity_file} cannot be read; check its path and its rights.")
    return [program, "--decrypt", "--identity", identity_file]


def workspace() -> AbstractContextManager[Path]:
    """A folder for the schema's file that only this user may read."""
    return folders.temporary("runbook-restore-")


def fetch(source: Unpacked, path: Path, check: Callable[[], None]) -> int:
    """Write an unpacked object to a file that only this user may read; its size in bytes."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:  # noqa: PTH123 - with its mode
        while piece := source.read():
            out.write(piece)
            check()
    return path.stat().st_size


class Feed(Protocol):
    """What a program is fed with."""

    @property
    def bytes_read(self) -> int:
        """Bytes of the stream so far."""

    def read(self) -> bytes:
        """The next piece; none at the end."""


class _Stream:
    """One data stream on its way into one pg_restore."""

    def __init__(self, source: Feed, program: Program) -> None:
        self.source = source
        self.program = program
        self.error: BaseException | None = None
        self._failed_at: float | None = None
        self.thread = threading.Thread(target=self._feed, daemon=True)
        self.thread.start()

    def _feed(self) -> None:
        stdin: Any = self.program.process.stdin
        try:
            try:
                while piece := self.source.read():
                    view = memoryview(piece)
                    while view:
                        view = view[stdin.write(view) :]
            except BrokenPipeError:
                # The program ended first, and says itself why; what it had no need of is held to its SHA-256 all the
                # same.
                if self.program.process.wait() in {0, 1}:
                    while self.source.read():
                        pass
        except BaseException as error:
            # Raised again by is_done.
            self.error = error
            # It must not take the end of its input for the end of the data.
            self.program.process.kill()
        finally:
            with suppress(OSError):
                stdin.close()

    def is_done(self) -> bool:
        try:
            ended = self.program.is_done()
        except Failed:
            self._failed_at = self._failed_at or time.monotonic()
            # A damaged object is often complained of by the server, before all of it was read.
            may_say = self.thread.is_alive() and self.program.process.returncode == 1
            if may_say and time.monotonic() - self._failed_at < _VERDICT_S:
                return False
            # The feeder says why before it ends the program: its reason is the better one.
            if self.error is not None:
                raise self.error from None
            raise
        if not ended or self.thread.is_alive():
            return False
        if self.error is not None:
            raise self.error
        return True


def fill(
    streams: Sequence[Sequence[Object]],
    start: Callable[[Sequence[Object]], tuple[Feed, Program]],
    *,
    jobs: int,
    check: Callable[[], None],
    on_bytes: Callable[[int], None],
    on_idle: Callable[[], None],
) -> int:
    """Load data streams side by side, at most ``jobs`` at a time; bytes that were loaded, unpacked.

    :param start: opens a stream, and starts the program that it is fed to
    :param check: is called again and again; what it raises stops the loading
    :param on_bytes: is told how many bytes are through
    :param on_idle: is called again and again once fewer than ``jobs`` streams are left
    :raises Failed: pg_restore failed
    :raises RunbookError: an object is not what the manifest says
    """
    waiting = list(streams)
    running: list[_Stream] = []
    done = 0
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_Stream(*start(waiting.pop(0))))
        for stream in list(running):
            if stream.is_done():
                done += stream.source.bytes_read
                running.remove(stream)
        if len(running) < jobs and not waiting:
            on_idle()
        on_bytes(done + sum(stream.source.bytes_read for stream in running))
        check()
        time.sleep(_TICK_S)
    return done
