"""What the benchmarks share: a cluster on disk with production's durability, clients that work meanwhile, a stopwatch.

Clients are ``pgbench`` at a fixed rate: its latency counts from the moment at which a transaction was due, so a client
that has to wait cannot hide the wait by sending less.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

import psycopg2  # noqa: E402 - the import path above comes first
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Settings of a small production server; fsync stays on, autovacuum off so that every variant starts from one state.
SETTINGS: dict[str, object] = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": 60,
    "autovacuum": "off",
    "maintenance_work_mem": "256MB",
    "shared_preload_libraries": "",
}
CLIENTS = 8
CLIENT_RATE = 400  # transactions a second, all clients together

#: What a client does: it reads a conversation, adds a message and writes its audit row.
CLIENT_SCRIPT = r"""
\set id random(1, :conversations)
BEGIN;
SELECT count(*), max(created_at) FROM public.messages WHERE conversation_id = :id;
INSERT INTO public.messages (conversation_id, author, body, tokens, created_at)
  VALUES (:id, 'user', 'A message of the benchmark', 5, now());
UPDATE public.conversations SET updated_at = now(), message_count = message_count + 1 WHERE id = :id;
INSERT INTO public.audit_log (action, entity, details, ip)
  VALUES ('message.create', 'conversation', '{"agent": "bench"}', '192.0.2.1');
COMMIT;
SELECT id, action FROM public.audit_log ORDER BY created_at DESC LIMIT 20;
"""


@dataclass
class Clients:
    """pgbench in the background, and the waits that it saw."""

    waits_ms: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def longest_ms(self) -> float:
        """Longest wait of any client, in milliseconds."""
        return max(self.waits_ms, default=0.0)

    @property
    def p99_ms(self) -> float:
        """99th percentile of the waits, in milliseconds."""
        return statistics.quantiles(self.waits_ms, n=100)[98] if len(self.waits_ms) > 100 else self.longest_ms


class Server:
    """A cluster on disk, recreated from a template for each measurement.

    The whole data folder is copied, not the database: PostgreSQL's statistics (dead rows, last analyse), from which
    every way of vacuuming decides, do not come along with ``CREATE DATABASE … TEMPLATE``.
    """

    def __init__(self, folder: Path, port: int = 54999) -> None:
        self.folder = folder
        self.cluster = Cluster(find_bindir(os.environ.get("PG_BINDIR")), folder / "live" / "data", port)

    @property
    def login(self) -> dict[str, Any]:
        """The database's address, as options of a module."""
        return {
            "login_host": "127.0.0.1",
            "login_port": self.cluster.port,
            "login_user": self.cluster.superuser,
            "login_db": "postgres",
        }

    def connect(self) -> Any:
        """A connection with autocommit on."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.cluster.port, user=self.cluster.superuser, dbname="postgres"
        )
        connection.autocommit = True
        return connection

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def template(self, name: str, build: Callable[[], None], base: str | None = None) -> None:
        """Make template ``name``, unless it is there: ``build`` fills an empty cluster, or a copy of ``base``."""
        kept = self.folder / name
        if kept.exists():
            return
        print(f"building {name} …", flush=True)
        self.stop()
        shutil.rmtree(self.folder / "live", ignore_errors=True)
        if base:
            self.fresh(base)
        else:
            self.cluster.init()
            self.cluster.start(**SETTINGS)
        build()
        self.stop()
        (self.folder / "live").rename(kept)

    def fresh(self, template: str, *, warm: bool = True) -> None:
        """Start from ``template`` again, and let the disk settle.

        :param warm: read the large tables first, the same for every variant
        """
        self.stop()
        shutil.rmtree(self.folder / "live", ignore_errors=True)
        subprocess.run(
            ["cp", "-a", "--reflink=auto", str(self.folder / template), str(self.folder / "live")], check=True
        )
        os.sync()
        self.cluster.start(**SETTINGS)
        if warm:
            self.run("SELECT count(*) FROM public.audit_log", "SELECT count(*) FROM public.messages")

    def stop(self) -> None:
        """Stop the server if it runs; a clean stop keeps the statistics."""
        if (self.cluster.data / "PG_VERSION").exists() and self.cluster.is_running():
            self.cluster.stop("fast")

    def wal_bytes(self) -> int:
        """How far the write-ahead log is."""
        return int(self.run("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])

    @contextmanager
    def clients(self) -> Iterator[Clients]:
        """Let the clients work for the block (and two seconds before it)."""
        seen = Clients()
        with tempfile.TemporaryDirectory(prefix="bench-clients-") as folder:
            script = Path(folder) / "client.sql"
            script.write_text(CLIENT_SCRIPT)
            (conversations,) = self.run("SELECT max(id) FROM public.conversations")[0]
            process = subprocess.Popen(
                [
                    str(self.cluster.bindir / "pgbench"),
                    "--no-vacuum",
                    f"--client={CLIENTS}",
                    "--jobs=1",
                    f"--rate={CLIENT_RATE}",
                    "--time=3600",
                    "--log",
                    f"--log-prefix={folder}/log",
                    f"--define=conversations={conversations}",
                    f"--file={script}",
                    "--host=127.0.0.1",
                    f"--port={self.cluster.port}",
                    f"--username={self.cluster.superuser}",
                    "postgres",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
            )
            time.sleep(2)
            started = time.time()
            try:
                yield seen
            finally:
                ended = time.time()
                time.sleep(1)
                process.terminate()
                errors = process.communicate()[1]
                seen.failed = errors.count("aborted")
                for log in Path(folder).glob("log.*"):
                    for line in log.read_text().splitlines():
                        parts = line.split()
                        if len(parts) >= 6 and parts[2].isdigit():
                            at = int(parts[4]) + int(parts[5]) / 1e6
                            if started <= at <= ended + 0.5:
                                seen.waits_ms.append(int(parts[2]) / 1000)


@dataclass(frozen=True)
class Sample:
    """One measurement of one variant."""

    variant: str
    wall_s: float
    longest_wait_ms: float | None = None
    p99_wait_ms: float | None = None
    wal_bytes: int | None = None
    memory_bytes: int | None = None
    note: str = ""


def peak_memory(process: subprocess.Popen[str], into: list[int]) -> threading.Thread:
    """Watch the peak resident memory of a process in the background (Linux)."""

    def watch() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                for line in status.read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        into[0] = max(into[0], int(line.split()[1]) * 1024)
            except OSError:
                return
            time.sleep(0.05)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def module(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run one of our modules in a process of its own; its result and its peak memory in bytes."""
    # The tests run modules as Ansible does, and this is how.
    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import module_process

    memory = [0]
    process = module_process(name, options)
    watcher = peak_memory(process, memory)
    out, err = process.communicate()
    watcher.join()
    result = json.loads([line for line in out.splitlines() if line.startswith("{")][-1])
    if result.get("failed"):
        raise SystemExit(f"{name}: {result['msg']}\n{err}")
    return result, memory[0]


def aws_cli(folder: Path) -> Path:
    """The AWS command line, in an environment of its own below ``folder``; it is installed if it is not there."""
    program = folder / "awscli" / "bin" / "aws"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "awscli")], check=True)
        subprocess.run([str(program.with_name("pip")), "install", "--quiet", "awscli"], check=True)
    return program


def program(server_: Server, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs against the copy."""
    subprocess.run(
        [
            str(server_.cluster.bindir / name),
            "--host=127.0.0.1",
            f"--port={server_.cluster.port}",
            f"--username={server_.cluster.superuser}",
            *arguments,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def measure(server_: Server, variant: str, act: Callable[[], tuple[str, int | None]], template: str) -> Sample:
    """Run ``act`` on a fresh copy while clients work; ``act`` returns a note and the module's memory."""
    server_.fresh(template)
    with server_.clients() as clients:
        wal = server_.wal_bytes()
        started = time.perf_counter()
        note, memory = act()
        wall = time.perf_counter() - started
        wal = server_.wal_bytes() - wal
    if clients.failed:
        note += f"; {clients.failed} clients failed"
    sample = Sample(variant, wall, clients.longest_ms, clients.p99_ms, wal, memory, note)
    print(
        f"  {variant}: {wall:.1f} s, longest wait {clients.longest_ms:.0f} ms, WAL {wal / 1e6:.0f} MB {note}",
        flush=True,
    )
    return sample
