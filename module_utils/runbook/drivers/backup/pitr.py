"""Barman's cloud programs, which do the work of recovery to a point in time, and the server that they serve.

The programs run as processes of their own. Credentials reach them through a file that only its owner may read, named in
their environment; a password for PostgreSQL likewise. Neither stands in an argument.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg2
import zstandard
from ansible.module_utils.runbook.drivers import workspace
from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.drivers.leash import leashed_group
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, command_line, pids_naming, unprivileged
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.drivers.sandbox.sandbox import end_process
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.pitr import ArchivedFile, Archiver, Place, Server, Setting
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.s3.s3 import Store

#: The object that says whose archive this is.
IDENTITY = "runbook-identity.json"
#: A look at the bucket takes seconds; a dead connection ends by itself.
SHORT_S = 120
#: What the archiver may spend on one segment before it begins anew.
ARCHIVE_ATTEMPT_S = 60
READ_TIMEOUT_S = 20
#: Between two looks at whether a segment is archived.
_POLL_S = 0.1


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every module that works on an archive; documented in ``doc_fragments/runbook_pitr.py``."""
    return s3.argument_spec() | {
        "environment": {"type": "str", "required": True},
        "server": {"type": "str", "required": True},
        "prefix": {"type": "str", "default": "pitr"},
        "system_identifier": {"type": "str"},
        "engine_bindir": {"type": "path"},
    }


def connect(target: postgres.Target, purpose: str) -> postgres.Session:
    """A session with the server whose WAL is archived, named for the module that opens it."""
    return postgres.Session(target, lock_timeout_ms=5_000, statement_timeout_ms=60_000, purpose=purpose)


def programs_folder(explicit: str | None) -> Path:
    """Folder of the engine's programs: ``explicit``, else that of this Python, else what PATH names.

    :raises RunbookError: they are not there
    """
    found = shutil.which("barman-cloud-wal-archive")
    places = [Path(explicit)] if explicit else [Path(sys.executable).parent, *([Path(found).parent] if found else [])]
    for place in places:
        if (place / "barman-cloud-wal-archive").exists():
            return place
    raise RunbookError(
        f"engine_bindir: {', '.join(str(place) for place in places)} does not hold barman-cloud-wal-archive; install "
        "the package barman with boto3 there (make setup does), or name its folder."
    )


@dataclass
class Engine:
    """The engine, one archive in one bucket, and the folder for its credentials."""

    programs: Path
    store: Store
    prefix: str
    server: str
    #: Folder for the credentials of the programs that PostgreSQL starts; those that we start get a file of their own.
    state: Path
    params: Mapping[str, Any] = field(repr=False)
    #: Is told the name of each program that ended well, and its standard error: warnings may be among it.
    heard: Callable[[str, str], None] = field(repr=False)

    @classmethod
    def from_params(
        cls, params: Mapping[str, Any], *, heard: Callable[[str, str], None], state: str | os.PathLike[str] = ""
    ) -> Engine:
        """The engine, as a module's options say.

        :param state: folder for the credentials, for what PostgreSQL starts by itself
        :raises RunbookError: an option is wrong, or the engine's programs are not there
        """
        place = Place.named(params["prefix"], params["server"])
        return cls(
            programs=programs_folder(params["engine_bindir"]),
            store=s3.Store.from_params(params),
            prefix=place.prefix,
            server=place.server,
            state=Path(state).resolve(),
            params=params,
            heard=heard,
        )

    @property
    def where(self) -> str:
        """Its address, for people."""
        return self.store.url(self.root)

    @property
    def url(self) -> str:
        """Where the archive lies."""
        return f"s3://{self.store.bucket}/{self.prefix}"

    @property
    def root(self) -> str:
        """Prefix of all its objects."""
        return f"{self.prefix}/{self.server}/"

    @property
    def credentials(self) -> Path:
        """The file with the keys."""
        return self.state / "aws-credentials"

    def credentials_text(self) -> str:
        """Its content; empty where the keys come from elsewhere."""
        if not self.params["access_key"]:
            return ""
        lines = ["[default]", f"aws_access_key_id = {self.params['access_key']}"]
        lines.append(f"aws_secret_access_key = {self.params['secret_key']}")
        if self.params["session_token"]:
            lines.append(f"aws_session_token = {self.params['session_token']}")
        return "\n".join(lines) + "\n"

    def credentials_differ(self) -> bool:
        """Whether the file is not what it should be."""
        text = self.credentials_text()
        try:
            return bool(text) and (
                self.credentials.read_text() != text or self.credentials.stat().st_mode & 0o777 != 0o600
            )
        except OSError:
            return True

    def write_credentials(self, like: Path | None = None) -> None:
        """Write the file for the user who owns ``like``, the data folder, in one move."""
        text = self.credentials_text()
        try:
            # The server's user enters it too; nobody else may put another file there.
            closed(self.state, 0o755)
            if not text:
                return
            draft = self.credentials.with_suffix(".tmp")
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            draft.write_text(text)
            if like is not None and os.geteuid() == 0 and like.stat().st_uid != 0:
                for path in (self.state, draft):
                    os.chown(path, like.stat().st_uid, like.stat().st_gid)
            draft.replace(self.credentials)
        except OSError as error:
            raise RunbookError(
                f"state_dir: {error.filename or self.state} cannot be written ({error.strerror}); run this as the "
                "user who owns the server's data folder, and name a folder of that user."
            ) from None

    def environ(self) -> dict[str, str]:
        """What the programs need in their environment; no secret is in it."""
        # A hidden user file of the server's must not send the WAL elsewhere.
        chosen = {"AWS_CONFIG_FILE": os.devnull, "AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "3"}
        if self.params["access_key"]:
            chosen["AWS_SHARED_CREDENTIALS_FILE"] = str(self.credentials)
        elif self.params["profile"]:
            del chosen["AWS_CONFIG_FILE"]
        if self.params["region"]:
            chosen["AWS_DEFAULT_REGION"] = self.params["region"]
        if self.params["aws_ca_bundle"]:
            chosen["AWS_CA_BUNDLE"] = self.params["aws_ca_bundle"]
        host = urlsplit(self.params["endpoint_url"] or "").hostname
        if host in ("127.0.0.1", "localhost", "::1"):
            # A proxy of the environment is not meant for this machine itself.
            chosen |= {"NO_PROXY": host, "no_proxy": host}
        return chosen

    def words(self, program: str, *options: str) -> list[str]:
        """A program with the options that say where S3 is; the archive's address goes behind them."""
        where = [str(self.programs / program), f"--read-timeout={READ_TIMEOUT_S}"]
        if self.params["endpoint_url"]:
            where += [f"--endpoint-url={self.params['endpoint_url']}", "--addressing-style=path"]
        if self.params["profile"]:
            where.append(f"--aws-profile={self.params['profile']}")
        return [*where, *options, self.url, self.server]

    def archive_words(self) -> list[str]:
        """What archives one segment, bounded; PostgreSQL puts the path behind it."""
        bound = shutil.which("timeout")
        return [*([bound, str(ARCHIVE_ATTEMPT_S)] if bound else []), *self.words("barman-cloud-wal-archive", "--zstd")]

    def run(
        self,
        words: Sequence[str],
        *,
        deadline_s: float,
        environ: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> str:
        """Run one of the programs to its end; what it printed.

        :param environ: more for its environment
        :param before: words to put before it, which make it another user's
        :raises RunbookError: it failed, or did not end in time
        """
        own = bool(self.params["access_key"])
        # Credentials of the environment are what was asked for where no keys are given; else they would only confuse.
        hidden = ("PG", "AWS_") if own else ("PG",)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        name = Path(words[0]).name
        with (
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
            tempfile.NamedTemporaryFile("w", prefix="runbook-") as keys,
        ):
            # The file is made with mode 0600, and ends with the program.
            keys.write(self.credentials_text())
            keys.flush()
            chosen = self.environ() | ({"AWS_SHARED_CREDENTIALS_FILE": keys.name} if own else {}) | dict(environ or {})
            process = subprocess.Popen(
                leashed_group([*before, *words]), env=clean | chosen, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(timeout=max(deadline_s, 1))
            except subprocess.TimeoutExpired:
                raise RunbookError(
                    f"{name} did not end within {deadline_s:.0f} s and was stopped; raise deadline_s."
                ) from None
            finally:
                _end_group(process)
            err.seek(0)
            said = self._hidden(err.read())
            if code != 0:
                raise RunbookError(f"{name} ended with {code}: {self.reason(said)}", exit_code=code)
            self.heard(name, said)
            out.seek(0)
            return out.read()

    def reason(self, text: str) -> str:
        """The last complaint of a program, in one line."""
        lines = [line.partition(" ERROR: ")[2] or line for line in text.splitlines() if line.strip()]
        errors = [line for line in text.splitlines() if "ERROR" in line]
        last = (errors[-1].partition("ERROR")[2].lstrip(": ") if errors else lines[-1]) if lines else "it said nothing"
        return " ".join(last.split())[:400]

    def _hidden(self, text: str) -> str:
        """The text without a key."""
        for option in ("secret_key", "session_token", "access_key"):
            if self.params[option]:
                text = text.replace(self.params[option], "***")
        return text

    # What lies in the bucket.

    def identity(self) -> str | None:
        """The system identifier that the archive was marked with; None where it is not marked."""
        key = f"{self.root}{IDENTITY}"
        if self.store.head(key) is None:
            return None
        try:
            return str(json.loads(self.store.read(key, most_bytes=4096))["system_identifier"])
        except (ValueError, KeyError):
            raise RunbookError(
                f"{self.store.url(key)} is damaged; it must hold the cluster's system_identifier."
            ) from None

    def mark(self, system_identifier: str) -> None:
        """Say whose archive this is; a second mark is refused by S3 itself."""
        text = json.dumps({"system_identifier": system_identifier, "engine": "barman-cloud"}) + "\n"
        self.store.put(f"{self.root}{IDENTITY}", text.encode(), if_absent=True)

    def occupied(self) -> bool:
        """Whether anything but the mark lies there."""
        return any(not entry.key.endswith(IDENTITY) for entry in self.store.entries(self.root))

    def wal_objects(self) -> list[tuple[str, datetime, int]]:
        """Keys of the archived WAL, when S3 took each, and its size in bytes."""
        return [(entry.key, entry.modified_at, entry.size_bytes) for entry in self.store.entries(f"{self.root}wals/")]

    def history(self, key: str) -> str:
        """Text of a history file."""
        data = self.store.read(key, most_bytes=1 << 20)
        if key.endswith(".zst"):
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        elif key.endswith(".gz"):
            data = gzip.decompress(data)
        return data.decode(errors="replace")

    def backups(self) -> list[dict[str, Any]]:
        """The engine's own list of base backups."""
        listed = self.run(self.words("barman-cloud-backup-list", "--format=json"), deadline_s=SHORT_S)
        found: list[dict[str, Any]] = json.loads(listed)["backups_list"] if listed.strip() else []
        return found

    def own_history(self, data: Path, timeline: int) -> str | None:
        """The history file of a server's own timeline; None where it has none, as on the first."""
        try:
            return (data / "pg_wal" / f"{timeline:08X}.history").read_text()
        except FileNotFoundError:
            return None

    def stored_bytes(self, backup_id: str) -> int:
        """Size of a base backup as it lies in the bucket, compressed."""
        return sum(entry.size_bytes for entry in self.store.entries(f"{self.root}base/{backup_id}/"))

    # What changes something.

    def make_backup(self, target: postgres.Target, tool_options: str, *, jobs: int, deadline_s: float) -> None:
        """Make a base backup of the server at ``target``, whose data folder lies on this machine.

        :param tool_options: the settings of its session, of :meth:`Session.tool_options`
        """
        options = ["--lz4", f"--jobs={jobs}", "--immediate-checkpoint"]
        options += [
            f"--host={target.host}",
            f"--port={target.port}",
            f"--user={target.user}",
            f"--dbname={target.database}",
        ]
        with password_file(target) as environ:
            environ |= {"PGOPTIONS": tool_options}
            self.run(self.words("barman-cloud-backup", *options), deadline_s=deadline_s, environ=environ)

    def delete_backup(self, backup_id: str) -> None:
        """Remove one base backup, an incomplete one for example."""
        self.run(self.words("barman-cloud-backup-delete", f"--backup-id={backup_id}"), deadline_s=SHORT_S)

    def expire(self, *, window_days: int, minimum: int, dry_run: bool, deadline_s: float) -> str:
        """Let the engine delete what the recovery window does not need; what it printed."""
        options = [f"--retention-policy=RECOVERY WINDOW OF {window_days} DAYS", f"--minimum-redundancy={minimum}"]
        if dry_run:
            options.append("--dry-run")
        return self.run(self.words("barman-cloud-backup-delete", *options), deadline_s=deadline_s)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children, which it starts to upload."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
        return


@contextmanager
def password_file(target: postgres.Target) -> Iterator[dict[str, str]]:
    """Environment for a program of libpq: how to connect, and a file with the password that ends with the block."""
    environ = {"PGSSLMODE": target.ssl_mode, "PGCONNECT_TIMEOUT": str(postgres.CONNECT_TIMEOUT_S)}
    if target.ca_cert:
        environ["PGSSLROOTCERT"] = target.ca_cert
    if not target.password:
        yield environ
        return
    with tempfile.NamedTemporaryFile("w", prefix="runbook-") as file:
        # The file is made with mode 0600.
        parts = (target.host, str(target.port), "*", target.user, target.password)
        file.write(":".join("*" if part == "*" else re.sub(r"([:\\])", r"\\\1", part) for part in parts) + "\n")
        file.flush()
        yield environ | {"PGPASSFILE": file.name}


# --- the server -------------------------------------------------------------------------------------------------------

NAMES = ("archive_mode", "wal_level", "archive_command", "archive_timeout", "archive_library")


def read_server(session: postgres.Session) -> Server:
    """Identity of the cluster, its data folder, and its size of a segment in bytes."""
    row = session.query(
        "SELECT system_identifier::text, pg_is_in_recovery() AS in_recovery,"
        " current_setting('data_directory') AS data_directory,"
        " pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,"
        " CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END AS segment,"
        " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser FROM pg_control_system()"
    )[0]
    if row["is_superuser"]:
        row["bindir"] = session.query("SELECT setting FROM pg_config WHERE name = 'BINDIR'")[0]["setting"]
    return Server(**row)


def identifier_here(server: Server) -> str | None:
    """System identifier of the data folder with the name of the server's on this machine; None where there is none."""
    data = Path(server.data_directory)
    if not (data / "PG_VERSION").exists():
        return None
    return control_data(Path(server.bindir), data)["Database system identifier"]


def read_settings(session: postgres.Session) -> dict[str, Setting]:
    """The parameters that matter to archiving; ``archive_library`` is missing before PostgreSQL 15."""
    files = session.query(
        "SELECT name, setting FROM pg_file_settings WHERE right(sourcefile, 20) = 'postgresql.auto.conf' ORDER BY seqno"
    )
    written = {row["name"]: row["setting"] for row in files}
    rows = session.query("SELECT name, setting, source FROM pg_settings WHERE name = ANY(%s)", (list(NAMES),))
    return {row["name"]: Setting(row["setting"], written.get(row["name"]), row["source"]) for row in rows}


def set_parameter(session: postgres.Session, name: str, value: str) -> None:
    """``ALTER SYSTEM``: takes effect at the next reload or start."""
    session.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))


def reload(session: postgres.Session) -> None:
    """Let the server read its configuration again."""
    session.executed_queries.append("SELECT pg_reload_conf()")
    session.query("SELECT pg_reload_conf()")


def restart(bindir: Path, data: Path, log: Path, *, deadline_s: int) -> None:
    """Restart the server of ``data`` with the options that it was started with.

    :raises RunbookError: it does not come back
    """
    words = [*unprivileged(bindir / "postgres", data), str(bindir / "pg_ctl"), "restart", "--wait", "--mode=fast"]
    words += [f"--timeout={deadline_s}", f"--pgdata={data}", f"--log={log}"]
    with tempfile.TemporaryFile() as out:
        # To a file, not a pipe: the server inherits it, and a pipe would stay open as long as the server runs.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
        out.seek(0)
        tail = " ".join(out.read().decode(errors="replace").split()[-40:])
    if done.returncode != 0:
        raise RunbookError(f"The server does not come back from its restart: {tail}; see {log}.")


def read_archiver(session: postgres.Session) -> Archiver:
    """What the server says about its archiving."""
    row = session.query(
        "SELECT current_setting('archive_mode') AS mode,"
        # As the server itself says where nothing is set. The library is of PostgreSQL 15 and later.
        " current_setting('archive_command') IN ('', '(disabled)')"
        " AND coalesce(current_setting('archive_library', true), '') = '' AS is_idle,"
        " archived_count, last_archived_wal, last_archived_time, failed_count, last_failed_wal, last_failed_time"
        " FROM pg_stat_archiver"
    )[0]
    ready = session.query(
        "SELECT count(*) AS segments, coalesce(extract(epoch FROM clock_timestamp() - min(modification)), 0)::float8"
        " AS oldest_s FROM pg_ls_archive_statusdir() WHERE name LIKE %s",
        ("%.ready",),
    )[0]
    return Archiver(
        archive_mode=row["mode"], is_idle=row["is_idle"], archived_count=row["archived_count"],
        failed_count=row["failed_count"],
        last_archived_wal=row["last_archived_wal"], last_archived_at=row["last_archived_time"],
        last_failed_wal=row["last_failed_wal"], last_failed_at=row["last_failed_time"],
        ready_segments=int(ready["segments"]), oldest_ready_s=max(float(ready["oldest_s"]), 0.0),
    )  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A WAL segment that was ended; ``archived_s`` is the seconds until it was archived, None where it was not."""

    segment: str
    archived_s: float | None


def archive_until_now(
    session: postgres.Session, *, wait_s: float, arrived: Callable[[str], bool] = lambda _segment: True
) -> Ended:
    """End the WAL segment behind a commit, and wait until it is archived, for at most ``wait_s`` seconds.

    :param arrived: asked about the segment too, once the server says that it is archived
    """
    name = _switch_wal(session)
    begun = time.monotonic()
    while True:
        if _is_archived(session, name) and arrived(name):
            return Ended(name, round(time.monotonic() - begun, 3))
        if time.monotonic() - begun > wait_s:
            return Ended(name, None)
        time.sleep(_POLL_S)


def _is_archived(session: postgres.Session, segment: str) -> bool:
    row = session.query(
        "SELECT coalesce(last_archived_wal, '') AS name,"
        " has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS may_look FROM pg_stat_archiver"
    )[0]
    if ArchivedFile(row["name"]).covers(segment):
        return True
    # A label of a backup may have followed it by now.
    done = f"{segment}.done"
    return row["may_look"] and bool(session.query("SELECT FROM pg_ls_archive_statusdir() WHERE name = %s", (done,)))


def _switch_wal(session: postgres.Session) -> str:
    """Write a commit and end the segment with it; the segment's file name.

    The commit matters: PostgreSQL stops at a time only where a later commit shows that the time was reached.
    """
    with session.transaction():
        session.query("SELECT txid_current()")
    name = session.query("SELECT pg_walfile_name(pg_current_wal_lsn()) AS name")[0]["name"]
    session.executed_queries.append("SELECT pg_switch_wal()")
    session.query("SELECT pg_switch_wal()")
    return str(name)


# --- a restore --------------------------------------------------------------------------------------------------------


@dataclass
class Workshop:
    """The folder that a restore has for itself: data folder, spool, logs, and a note of how far it came."""

    path: Path

    @classmethod
    def named(cls, restore_path: str) -> Workshop:
        """The folder that the option names.

        :raises RunbookError: it is empty
        """
        if not restore_path:
            raise RunbookError("restore_path: it is empty; name the folder that the restore may have for itself.")
        return cls(Path(restore_path).resolve())

    @property
    def data(self) -> Path:
        """The new data folder."""
        return self.path / "data"

    @property
    def spool(self) -> Path:
        """WAL that the engine fetched ahead."""
        return self.path / "spool"

    @property
    def log(self) -> Path:
        """What the restored server says."""
        return self.path / "server.log"

    @property
    def note(self) -> Path:
        """What this folder is, and how far the restore came."""
        return self.path / "restore.json"

    def state(self) -> dict[str, Any]:
        """The note; empty where there is none."""
        found = workspace.read_note(self.note)
        return {"state": "damaged"} if found is None else found

    def write(self, **facts: Any) -> None:
        """Write the note, in one move."""
        workspace.write_note(self.note, facts)

    def free_bytes(self) -> int:
        """Room for what is restored."""
        place = self.path
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    def foreign(self) -> list[str]:
        """What lies there though no restore of ours put it there."""
        if not self.path.exists():
            return []
        if not self.path.is_dir():
            return [self.path.name]
        there = sorted(each.name for each in self.path.iterdir())
        return [] if self.state() else [name for name in there if name != workspace.LOCK]

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Hold the folder for the block.

        :raises RunbookError: another restore is at work in it, or it cannot be made
        """
        with workspace.held(self.path, option="restore_path", holder="another restore"):
            yield

    def clear(self) -> bool:
        """Remove what a restore left that did not end, its processes first; whether there was anything."""
        left = False
        # By name, because a kill may come before any number is written down.
        for pid in pids_naming("barman-cloud"):
            if f"{self.path}/" in command_line(pid):
                left = True
                end_process(
                    pid, signal.SIGKILL, still_there=functools.partial(lambda one: command_line(one) != "", pid)
                )
        cluster = Cluster(Path(), self.data, 0)
        server = cluster.pid()
        if server is not None:
            end_process(server, signal.SIGQUIT, still_there=cluster.is_running)
        for name in (
            "data",
            "spool",
            "restore.json",
            "restore.json.tmp",
            "server.log",
            "server.log.1",
            "commands.log",
        ):
            there = self.path / name
            if there.is_dir() and not there.is_symlink():
                shutil.rmtree(there)
            elif there.exists():
                there.unlink()
            else:
                continue
            left = True
        return left


def fetch_backup(
    engine: Engine,
    workshop: Workshop,
    bindir: Path,
    backup_id: str,
    tablespaces: Mapping[str, str],
    *,
    deadline_s: float,
) -> None:
    """Bring a base backup into the new data folder."""
    words = engine.words(
        "barman-cloud-restore", *(f"--tablespace={name}:{place}" for name, place in tablespaces.items())
    )
    # Files must belong to the user as whom the server will run.
    engine.run(
        [*words, backup_id, str(workshop.data)], deadline_s=deadline_s,
        before=unprivileged(bindir / "postgres", workshop.path),
    )  # fmt: skip
    workshop.data.chmod(0o700)


def restore_command(workshop: Workshop, line: str, histories: Sequence[str]) -> str:
    """What brings one file. Most segments come from the spool, since a process of the engine fetches many at once.

    PostgreSQL asks for history files that nobody wrote; the answer is known, and costs no process. That the archive
    does not hold a segment ends the recovery in good order; any other trouble must stop it, because PostgreSQL would
    take it for the end of the WAL.

    :param histories: names of the history files that the archive holds
    """
    spool = shlex.quote(str(workshop.spool)).replace("%", "%%")
    known = f"{'|'.join(histories)}) ;; " if histories else ""
    return (
        f'case %f in {known}*.history) exit 1 ;; esac; mv -f {spool}/%f "%p" 2>/dev/null && exit 0; '
        f"{line}; c=$?; [ $c -le 1 ] || exit 255; exit $c"
    )


def restore_words(engine: Engine, workshop: Workshop, jobs: int) -> list[str]:
    """The engine's program for that."""
    return engine.words(
        "barman-cloud-wal-restore", "--no-partial", f"--parallel={jobs}", f"--spool-dir={workshop.spool}"
    )


def major_version(bindir: Path) -> int:
    """Major version of the PostgreSQL programs in a folder."""
    done = subprocess.run([str(bindir / "postgres"), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)", done.stdout)
    return int(found[1]) if found else 0


def control_data(bindir: Path, data: Path) -> dict[str, str]:
    """What ``pg_controldata`` says about a data folder.

    :raises RunbookError: the program is missing, or it is no data folder of this version
    """
    if not (bindir / "pg_controldata").exists():
        raise RunbookError(f"{bindir} holds no pg_controldata; install all of that server's programs.")
    words = [*unprivileged(bindir / "postgres", data), str(bindir / "pg_controldata"), str(data)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    pairs = [line.partition(":") for line in done.stdout.splitlines()]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if done.returncode != 0 or "Database system identifier" not in found:
        raise RunbookError(
            f"{data} is no data folder that {bindir}/pg_controldata can read; name the programs of the server's own "
            "version."
        )
    return found


#: Parameters that a server in recovery needs at least as large as the one whose WAL it replays.
_AT_LEAST = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


#: What must not come from the server that was backed up.
_OVERRULED = re.compile(r"\s*(recovery_target|restore_command|archive_|primary_|port\b|listen_addresses\b)")


def configure(workshop: Workshop, control: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Make the new data folder one that recovers, on its own, and archives nothing."""
    data = workshop.data
    chosen = {name: control[shown] for shown, name in _AT_LEAST.items() if shown in control} | dict(settings)
    auto = data / "postgresql.auto.conf"
    # A target of an earlier recovery, or the command that archives, came along with the copy.
    kept = [line for line in auto.read_text().splitlines() if not _OVERRULED.match(line)] if auto.exists() else []
    for name, value in chosen.items():
        escaped = value.replace("'", "''")
        kept.append(f"{name} = '{escaped}'")
    auto.write_text("\n".join(kept) + "\n")
    for name, text in {
        # Where the distribution keeps them elsewhere, the copy has none.
        "postgresql.conf": "",
        "pg_hba.conf": "host all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n",
        "pg_ident.conf": "",
    }.items():
        if not (data / name).exists():
            (data / name).write_text(text)
    (data / "recovery.signal").touch()
    (data / "standby.signal").unlink(missing_ok=True)
    workshop.spool.mkdir(exist_ok=True)
    owner = data.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in [
            workshop.spool,
            *(data / name for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf", "recovery.signal")),
        ]:
            os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def patient_start(seconds: float) -> Iterator[None]:
    """Let ``pg_ctl`` wait that long, since a server in recovery answers late."""
    before = os.environ.get("PGCTLTIMEOUT")
    os.environ["PGCTLTIMEOUT"] = str(int(max(seconds, 1)))
    try:
        yield
    finally:
        os.environ.pop("PGCTLTIMEOUT")
        if before is not None:
            os.environ["PGCTLTIMEOUT"] = before


def start_over(workshop: Workshop) -> None:
    """Forget what was fetched ahead, and why the last start ended."""
    shutil.rmtree(workshop.spool, ignore_errors=True)
    workshop.spool.mkdir()
    owner = workshop.data.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(workshop.spool, owner.st_uid, owner.st_gid)
    workshop.log.rename(workshop.path / "server.log.1")


def fatal_line(workshop: Workshop) -> str:
    """Why the server ended, from its log."""
    try:
        lines = workshop.log.read_text(errors="replace").splitlines()
    except OSError:
        return "its log is missing"
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    return re.sub(r"^.*?(FATAL|PANIC):\s*", "", fatal[0]) if fatal else "its log names no reason"


def last_commit(workshop: Workshop) -> datetime | None:
    """Time of the last commit that was replayed, from the server's log in UTC; None where it names none."""
    try:
        text = workshop.log.read_text(errors="replace")
    except OSError:
        return None
    found = re.findall(r"last completed transaction was at log time (\S+ \S+)\+00", text)
    return datetime.fromisoformat(found[-1]).replace(tzinfo=UTC) if found else None


class EndedError(RunbookError):
    """The server that recovers is gone; its log says why."""


def start(cluster: Cluster, *, deadline_s: float) -> None:
    """Start the server in recovery; ends when it answers.

    :raises EndedError: it does not start
    """
    with patient_start(deadline_s):
        try:
            # The log is read here: it says how the recovery went.
            cluster.start(log_timezone="UTC", log_destination="stderr", logging_collector="off", lc_messages="C")
        except RunbookError as error:
            if "log" not in error.context:
                raise
            raise EndedError(error.message, **error.context) from None


@dataclass(frozen=True)
class Reached:
    """Where a recovery stands."""

    in_recovery: bool
    paused: bool
    lsn: str | None
    last_commit_at: datetime | None
    timeline: int
    system_identifier: str


def look(target: postgres.Target) -> Reached | None:
    """Ask a server in recovery how far it is; None where it does not answer yet.

    :raises RunbookError: it answers, and does not let this user in
    """
    try:
        with postgres.Session(
            postgres.silenced(target), lock_timeout_ms=5_000, statement_timeout_ms=10_000, purpose="pg_pitr_restore"
        ) as session:
            row = session.query(
                "SELECT pg_is_in_recovery() AS in_recovery,"
                " CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused,"
                " pg_last_wal_replay_lsn()::text AS lsn, pg_last_xact_replay_timestamp() AS at,"
                " (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,"
                " (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline"
            )[0]
            if not row["in_recovery"]:
                # The control file tells the new timeline only after a checkpoint; the current segment's name at once.
                row["timeline"] = int(
                    session.query("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS hex")[0]["hex"], 16
                )
    except RunbookError as error:
        if error.context.get("connection") in ("refused", "tls"):
            raise
        return None
    except psycopg2.Error:
        return None
    return Reached(row["in_recovery"], row["paused"], row["lsn"], row["at"], row["timeline"], row["system_identifier"])


def wait(cluster: Cluster, target: postgres.Target, *, clock: Clock, report: Callable[[Reached], None]) -> Reached:
    """Wait until a recovery ended or paused.

    :param report: called with each :class:`Reached`
    :raises EndedError: the server ended
    :raises RunbookError: the time is over, or the server does not let this user in
    """
    while True:
        found = look(target)
        if found is not None:
            report(found)
            if not found.in_recovery or found.paused:
                return found
        if not cluster.is_running():
            raise EndedError("The server ended during its recovery.")
        if clock.is_over():
            raise RunbookError("The recovery did not end within deadline_s; it was stopped. Raise deadline_s.")
        time.sleep(0.2)
