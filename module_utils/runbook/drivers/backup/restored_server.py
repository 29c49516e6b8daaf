"""A server that is restored to a point in time: its folder, its settings, its start, and how far it is."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from ansible.module_utils.runbook.drivers import workspace
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, command_line, pids_naming, unprivileged
from ansible.module_utils.runbook.drivers.sandbox.sandbox import end_process
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.backup.barman import Engine
    from ansible.module_utils.runbook.drivers.clock import Clock


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


@dataclass
class RestoreDir:
    """The folder that a restore has for itself: data folder, spool, logs, and a note of how far it came."""

    path: Path

    @classmethod
    def named(cls, restore_path: str) -> RestoreDir:
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
    restore_dir: RestoreDir,
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
        [*words, backup_id, str(restore_dir.data)], deadline_s=deadline_s,
        before=unprivileged(bindir / "postgres", restore_dir.path),
    )  # fmt: skip
    restore_dir.data.chmod(0o700)


def restore_command(restore_dir: RestoreDir, line: str, histories: Sequence[str]) -> str:
    """What brings one file. Most segments come from the spool, since a process of the engine fetches many at once.

    PostgreSQL asks for history files that nobody wrote; the answer is known, and costs no process. That the archive
    does not hold a segment ends the recovery in good order; any other trouble must stop it, because PostgreSQL would
    take it for the end of the WAL.

    :param histories: names of the history files that the archive holds
    """
    spool = shlex.quote(str(restore_dir.spool)).replace("%", "%%")
    known = f"{'|'.join(histories)}) ;; " if histories else ""
    return (
        f'case %f in {known}*.history) exit 1 ;; esac; mv -f {spool}/%f "%p" 2>/dev/null && exit 0; '
        f"{line}; c=$?; [ $c -le 1 ] || exit 255; exit $c"
    )


def restore_words(engine: Engine, restore_dir: RestoreDir, jobs: int) -> list[str]:
    """The engine's program for that."""
    return engine.words(
        "barman-cloud-wal-restore", "--no-partial", f"--parallel={jobs}", f"--spool-dir={restore_dir.spool}"
    )


def configure(restore_dir: RestoreDir, control: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Make the new data folder one that recovers, on its own, and archives nothing."""
    data = restore_dir.data
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
    restore_dir.spool.mkdir(exist_ok=True)
    owner = data.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in [
            restore_dir.spool,
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


def start_over(restore_dir: RestoreDir) -> None:
    """Forget what was fetched ahead, and why the last start ended."""
    shutil.rmtree(restore_dir.spool, ignore_errors=True)
    restore_dir.spool.mkdir()
    owner = restore_dir.data.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(restore_dir.spool, owner.st_uid, owner.st_gid)
    restore_dir.log.rename(restore_dir.path / "server.log.1")


def fatal_line(restore_dir: RestoreDir) -> str:
    """Why the server ended, from its log."""
    try:
        lines = restore_dir.log.read_text(errors="replace").splitlines()
    except OSError:
        return "its log is missing"
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    return re.sub(r"^.*?(FATAL|PANIC):\s*", "", fatal[0]) if fatal else "its log names no reason"


def last_commit(restore_dir: RestoreDir) -> datetime | None:
    """Time of the last commit that was replayed, from the server's log in UTC; None where it names none."""
    try:
        text = restore_dir.log.read_text(errors="replace")
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
