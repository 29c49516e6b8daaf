"""A server that has pg_repack, extension and program: the one under test, or another of this machine."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, bindirs
from conftest import Database, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = (
    "NO TEST OF pg_repack: no PostgreSQL server of this machine has it; install postgresql-15-repack (or that of "
    "another version)"
)
_numbers = itertools.count()


def _bindir() -> Path | None:
    """Folder of a server that has the program pg_repack beside it."""
    chosen = [Path(os.environ["PG_BINDIR"])] if os.environ.get("PG_BINDIR") else []
    there = (one for one in [*chosen, *bindirs()] if all((one / name).exists() for name in ("postgres", "pg_repack")))
    return next(there, None)


@pytest.fixture(scope="session")
def repack_cluster() -> Iterator[Cluster]:
    """A disposable cluster that has pg_repack; the tests are skipped, and the run says so, where there is none."""
    bindir = _bindir()
    if bindir is None:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="runbook-repack-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made = Cluster(bindir, folder / "data", free_port())
    try:
        made.init()
        made.start(fsync="off", max_connections=60, autovacuum="off", wal_level="logical")
        try:
            offered = Database("127.0.0.1", made.port, "postgres", made.superuser).one(
                "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_repack'"
            )
            if not offered:
                pytest.skip(MISSING)
            yield made
        finally:
            made.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def repack_database(repack_cluster: Cluster) -> Iterator[Database]:
    """An empty database with the extension, dropped afterwards."""
    admin = Database("127.0.0.1", repack_cluster.port, "postgres", repack_cluster.superuser)
    made = Database("127.0.0.1", repack_cluster.port, f"test_{next(_numbers)}", repack_cluster.superuser)
    admin.run(f"CREATE DATABASE {made.name}")
    made.run("CREATE EXTENSION pg_repack")
    yield made
    admin.run(f"DROP DATABASE IF EXISTS {made.name} WITH (FORCE)")
