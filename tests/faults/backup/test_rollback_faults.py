"""Bad luck while a database is rolled back: the live database keeps its name, and nothing passes for done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import run_module
from s3_faults import Fault, FaultyS3

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Database

DB = ("--tags", "db")


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyS3]:
    with FaultyS3(s3.endpoint_url) as made:
        yield made


@pytest.mark.long
def test_no_snapshot_no_rollback(s3: S3, proxy: FaultyS3, database: Database, tmp_path: Path):
    database.run("CREATE TABLE note (id int PRIMARY KEY)", "INSERT INTO note VALUES (1)")
    options = s3.options(s3.bucket())
    backup = run_module("pg_backup", database.login | options | {"environment": "sandbox"}).result["backup_id"]
    database.run("INSERT INTO note VALUES (2)")
    inventory = {f"backup_{name}": value for name, value in (options | {"endpoint_url": proxy.endpoint_url}).items()}
    project = Project.for_database(tmp_path, database, **inventory)

    proxy.add(Fault("status", method="PUT", status=403, code="AccessDenied", times=0))
    red = project.run("rollback.yml", *DB, db_rollback_backup=backup, db_rollback_replace=database.name)
    assert red.code != 0
    assert f"No backup of {database.name} was made" in red.output
    assert database.run("SELECT id FROM note ORDER BY id") == [(1,), (2,)]
    found = [name for (name,) in database.run("SELECT datname FROM pg_database") if name.startswith(database.name)]
    assert found == [database.name]
    assert database.one("SELECT count(*) FROM runbook.lease") == 0
