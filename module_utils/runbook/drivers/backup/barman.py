"""Barman's cloud programs, which do the work of recovery to a point in time, and what they keep in a bucket.

The programs run as processes of their own. Credentials reach them through a file that only its owner may read, named in
their environment; a password for PostgreSQL likewise. Neither stands in an argument.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import zstandard
from ansible.module_utils.runbook.drivers import folders, workspace
from ansible.module_utils.runbook.drivers.child_process import group_ends_with_module
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.pitr_setup import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.s3.s3 import Store


#: The object that says whose archive this is.
IDENTITY = "runbook-identity.json"
#: A look at the bucket takes seconds; a dead connection ends by itself.
SHORT_S = 120
#: What the archiver may spend on one segment before it starts over.
ARCHIVE_ATTEMPT_S = 60
READ_TIMEOUT_S = 20


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every module that works on an archive; documented in ``doc_fragments/runbook_pitr.py``."""
    return s3.argument_spec() | {
        "environment": {"type": "str", "required": True},
        "server": {"type": "str", "required": True},
        "prefix": {"type": "str", "default": "pitr"},
        "system_identifier": {"type": "str"},
        "engine_bindir": {"type": "path"},
    }


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
            folders.closed(self.state, 0o755)
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
            folders.temporary("runbook-barman-") as folder,
        ):
            keys = folder / "credentials"
            workspace.write_text(keys, self.credentials_text())
            chosen = self.environ() | ({"AWS_SHARED_CREDENTIALS_FILE": str(keys)} if own else {}) | dict(environ or {})
            process = subprocess.Popen(
                group_ends_with_module([*before, *words]), env=clean | chosen, stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, start_new_session=True,
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
    with folders.temporary("runbook-barman-") as folder:
        parts = (target.host, str(target.port), "*", target.user, target.password)
        line = ":".join("*" if part == "*" else re.sub(r"([:\\])", r"\\\1", part) for part in parts)
        workspace.write_text(folder / "pgpass", f"{line}\n")
        yield environ | {"PGPASSFILE": str(folder / "pgpass")}
