"""rollback.yml to a moment: a server is restored beside the living one, and its database takes that one's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import Database
from pitr_primary import PASSWORD, Primary, end, make_primary

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3

DB = ("--tags", "db")


@pytest.fixture
def primary(s3: S3) -> Iterator[Primary]:
    """A server that keeps commit timestamps and archives its WAL, with one base backup."""
    made = make_primary(s3)
    made.database.run("ALTER SYSTEM SET track_commit_timestamp = on", "CREATE DATABASE app")
    for action, more in (("setup", {"allow_restart": True}), ("backup", {})):
        outcome = made.pitr(action, **more)
        assert not outcome.failed, outcome.result["msg"]
    yield made
    end(made)


@pytest.fixture
def app(primary: Primary) -> Database:
    """The living database."""
    made = Database("127.0.0.1", primary.cluster.port, "app", "postgres")
    made.run(
        "CREATE TABLE note (id int PRIMARY KEY, body text)",
        "INSERT INTO note SELECT n, 'before' FROM generate_series(1, 100) n",
    )


@pytest.fixture
def project(primary: Primary, app: Database, tmp_path: Path) -> Project:
    """An inventory with that server."""
    options = {f"backup_{name}": value for name, value in primary.s3.options(primary.bucket).items()}
    return Project.for_database(
        tmp_path,
        app,
        **options,
        db_login_password=PASSWORD,
        pitr_server="main",
        pitr_bindir=str(primary.cluster.bindir),
        db_rollback_restore_path=str(primary.folder / "restore"),
    )


def test_to_a_moment(primary: Primary, app: Database, project: Project):
    moment = app.one("SELECT pg_sleep(0.1)::text || clock_timestamp()::text")
    app.run(
        "INSERT INTO note SELECT n, 'after' FROM generate_series(101, 107) n",
        "DELETE FROM note WHERE id <= 50",
        "UPDATE note SET body = 'after' WHERE id = 60",
    )
    done = project.run("rollback.yml", *DB, db_rollback_target_time=moment, db_rollback_replace="app")
    assert done.code == 0, done.output
    (loss,) = done.results["pg_rollback"][0]["losses"]
    assert (loss["newer_rows"], loss["evidence"], loss["at_least"]) == (8, "commit_timestamp", False)
    assert app.run("SELECT count(*), min(body), max(body) FROM note") == [(100, "before", "before")]
    aside = Database(app.host, app.port, done.last("pg_swap")["previous"], app.user)
    assert aside.one("SELECT count(*) FROM note") == 57
    # Nothing is left on the way.
    assert not list((primary.folder / "restore").glob("*"))
    versions = primary.s3.client().list_object_versions(Bucket=primary.bucket, Prefix="rollback/")
    assert "Versions" not in versions
