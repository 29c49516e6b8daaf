"""A PostgreSQL of a test's own that archives to S3, for recovery to a point in time."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from conftest import S3, Database, free_port, run_module

if TYPE_CHECKING:
    from conftest import Outcome

PASSWORD = "canary-password-7f3a"


@dataclass
class Primary:
    """A cluster that archives, and where; ``stores`` replaces options of the module for a while."""

    folder: Path
    cluster: Cluster
    s3: S3
    bucket: str
    stores: dict[str, Any] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        return Database("127.0.0.1", self.cluster.port, "postgres", "postgres")

    def options(self, act: str, **more: Any) -> dict[str, Any]:
        """Options of the module ``pg_pitr_<act>``."""
        login = {"login_user": "postgres", "login_password": PASSWORD, "login_db": "postgres"}
        server = login | {"login_host": "127.0.0.1", "login_port": self.cluster.port}
        archive = {"environment": "sandbox", "server": "main"} | self.s3.options(self.bucket) | self.stores
        own: dict[str, dict[str, Any]] = {
            "setup": archive | server | {"state_dir": str(self.folder / "state")},
            "backup": archive | server | {"deadline_s": 120},
            "check": archive | server,
            "restore": archive | login | {"deadline_s": 120, "bindir": str(self.cluster.bindir)},
            "discard": {"environment": "sandbox"},
            "retention": archive | {"deadline_s": 120},
        }
        return own[act] | more

    def pitr(self, act: str, *, check: bool = False, **more: Any) -> Outcome:
        return run_module(f"pg_pitr_{act}", self.options(act, **more), check=check)

    def restore(self, name: str, *, check: bool = False, **more: Any) -> Outcome:
        return self.pitr("restore", check=check, restore_path=str(self.folder / name), **more)

    def rows(self, port: int) -> list[int]:
        """What the table holds, on the server at ``port``."""
        return [
            row[0] for row in Database("127.0.0.1", port, "postgres", "postgres").run("SELECT id FROM note ORDER BY id")
        ]

    def add(self, number: int) -> datetime:
        """One commit; a moment behind it, and before the next."""
        self.database.run(f"INSERT INTO note VALUES ({number})")
        time.sleep(0.02)
        return datetime.fromisoformat(str(self.database.one("SELECT clock_timestamp()::text")))

    def keys(self, part: str) -> list[str]:
        found = self.s3.client().list_objects_v2(Bucket=self.bucket, Prefix=f"pitr/main/{part}").get("Contents", [])
        return [each["Key"] for each in found]


def make_primary(s3: S3) -> Primary:
    """A cluster in a folder whose name a shell and PostgreSQL could misread, and a bucket."""
    bindir = find_bindir(os.environ.get("PG_BINDIR"))
    # The server names its own folder, and only a program of its version reads its data.
    if not (bindir / "postgres").resolve().with_name("pg_controldata").exists():
        pytest.skip("this server comes without pg_controldata")
    folder = Path(tempfile.mkdtemp(prefix="runbook pitr%-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    cluster = Cluster(bindir, folder / "primary" / "data", free_port())
    cluster.init(password=PASSWORD)
    cluster.start(fsync="off", max_connections=30, autovacuum="off", max_wal_size="1GB")
    # For the tests' own connections; the module hides it from what it starts.
    os.environ["PGPASSWORD"] = PASSWORD
    return Primary(folder, cluster, s3, s3.bucket())


def end(primary: Primary) -> None:
    """Stop all servers of the folder and remove it."""
    for data in primary.folder.glob("*/data"):
        there = Cluster(primary.cluster.bindir, data, 0)
        if there.is_running():
            there.stop("immediate")
    shutil.rmtree(primary.folder, ignore_errors=True)
