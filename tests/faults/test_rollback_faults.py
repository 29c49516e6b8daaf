"""Bad luck while a database is rolled back: the living database keeps its name, and nothing passes for done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.rules.swap import Marker
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


def others(database: Database) -> dict[str, str]:
    """Databases beside the living one, and what their comments say."""
    rows = database.run("SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database")
    return {name: said for name, said in rows if name.startswith(f"{database.name}_")}


def test_no_snapshot_no_rollback_and_what_is_not_whole_replaces_nothing(
    s3: S3, proxy: FaultyS3, database: Database, tmp_path: Path
):
    database.run(
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (id int)",
        "INSERT INTO child VALUES (1)",
        "ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES parent NOT VALID",
    )
    options = s3.options(s3.bucket())
    backup = run_module("pg_backup", database.login | options | {"environment": "sandbox"}).result["backup_id"]
    database.run("UPDATE child SET id = NULL")
    inventory = {f"backup_{name}": value for name, value in (options | {"endpoint_url": proxy.endpoint_url}).items()}
    project = Project.for_database(tmp_path, database, **inventory)
    wanted = {"db_rollback_backup": backup, "db_rollback_replace": database.name}

    proxy.add(Fault("status", method="PUT", status=403, code="AccessDenied", times=0))
    red = project.run("rollback.yml", *DB, **wanted)
    assert red.code != 0
    assert f"No backup of {database.name} was made" in red.output
    assert others(database) == {}
    assert database.one("SELECT count(*) FROM runbook.lease") == 0
    proxy.faults.clear()

    # The copy equals its backup, and the backup holds a row that points at nothing.
    broken = project.run("rollback.yml", *DB, **wanted)
    assert broken.code != 0
    assert "1 of 1 foreign key not in order" in broken.output
    ((copy, said),) = others(database).items()
    marker = Marker.read(said)
    assert marker
    assert marker.state == "proven"
    assert database.one("SELECT count(id) FROM child") == 0
    database.run(f'DROP DATABASE "{copy}"')
