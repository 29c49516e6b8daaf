"""rollback.yml as an operator runs it: to a backup, to a moment, the swap, the way back, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import run_module

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Database


DB = ("--tags", "db")


def databases(database: Database) -> set[str]:
    """Databases of this test."""
    rows = database.run("SELECT datname FROM pg_database")
    return {row[0] for row in rows if row[0].startswith(database.name)}


@pytest.fixture
def project(s3: S3, database: Database, tmp_path: Path) -> Iterator[Project]:
    """A database with rows that are dated, and a bucket."""
    database.run(
        "CREATE TABLE messages (id bigint PRIMARY KEY, body text, created_at timestamptz DEFAULT clock_timestamp())",
        "INSERT INTO messages SELECT n, 'message ' || n FROM generate_series(1, 500) n",
        "CREATE TABLE settings (name text PRIMARY KEY, value text)",
        "INSERT INTO settings VALUES ('colour', 'green')",
    )
    options = {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
    made = Project.for_database(tmp_path, database, **options, backup_prefix="logical")
    yield made
    admin = database.connect()
    for name in databases(database) - {database.name}:
        with admin.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.close()


@pytest.fixture
def backup(s3: S3, project: Project, database: Database) -> str:
    """The name of a backup of that database."""
    made = run_module(
        "pg_backup",
        database.login
        | s3.options(project.all_vars["backup_bucket"])
        | {"environment": "sandbox", "prefix": "logical"},
    )
    assert not made.failed, made.result["msg"]
    return str(made.result["backup_id"])


def test_to_a_backup_and_back(project: Project, database: Database, backup: str):
    """The plan, the copy, the swap, the undo: each its own command, as a person types them."""
    database.run(
        "INSERT INTO messages SELECT n, 'canary-content' FROM generate_series(501, 530) n",
        "DELETE FROM messages WHERE id <= 10",
        "UPDATE settings SET value = 'canary-content'",
        "CREATE TABLE fresh AS SELECT 1 AS id",
    )
    planned = project.run("rollback.yml", *DB, "--check", "--diff", db_rollback_backup="latest")
    assert planned.code == 0, planned.output
    assert databases(database) == {database.name}
    plan = planned.results["pg_rollback"][0]
    losses = {each["table"]: each for each in plan["losses"]}
    assert (losses["public.messages"]["newer_rows"], losses["public.messages"]["evidence"]) == (30, "column")
    assert losses["public.messages"]["columns"] == ["created_at"]
    assert (losses["public.fresh"]["newer_rows"], losses["public.fresh"]["evidence"]) == (1, "backup")
    assert plan["unknown_tables"] == ["public.settings"]
    assert "of 1 of 3 tables it is not known" in plan["msg"]

    made = project.run("rollback.yml", *DB, db_rollback_backup=backup)
    assert made.code == 0, made.output
    # What was planned is what was done; only time has passed.
    real = made.results["pg_rollback"][0]
    unlike = {"duration_s", "window_s", "msg", "database_bytes", "cluster_bytes", "free_bytes"}
    assert {key: real[key] for key in real.keys() - unlike} == {key: plan[key] for key in plan.keys() - unlike}
    copy = plan["replacement"]
    assert databases(database) == {database.name, copy}
    assert database.one("SELECT count(*) FROM messages") == 520
    assert made.results["pg_backup"][0]["backup_id"] > backup
    compared = next(each for each in made.results["pg_rollback"] if "differences" in each)
    assert {each["table"]: (each["status"], each["living_rows"], each["copy_rows"]) for each in compared["differences"]
            } == {
        "public.fresh": ("only_living", 1, None),
        "public.messages": ("differs", 520, 500),
        "public.settings": ("differs", 1, 1),
    }  # fmt: skip
    assert f"-e db_rollback_backup={backup} -e db_rollback_replace={database.name}" in made.output

    # Another point, while this one waits.
    other = project.run("rollback.yml", *DB, db_rollback_backup="latest")
    assert other.code != 0
    assert f"A rollback is pending: {copy}" in other.output

    # The swap alone: nothing is backed up or restored a second time.
    done = project.run("rollback.yml", *DB, db_rollback_backup=backup, db_rollback_replace=database.name)
    assert done.code == 0, done.output
    assert done.last("pg_backup")["state"] == "skipped"
    assert {each["state"] for each in done.results["pg_restore"]} == {"skipped"}
    assert database.one("SELECT count(*) FROM messages") == 500
    previous = done.last("pg_swap")["previous"]
    assert f"-e db_rollback_undo={previous}" in done.output

    undone = project.run("rollback.yml", *DB, db_rollback_undo=previous)
    assert undone.code == 0, undone.output
    assert database.one("SELECT count(*) FROM messages") == 520
    assert "canary-content" not in made.output + done.output + undone.output
    for record in project.records():
        assert "canary-content" not in (record / "journal.jsonl").read_text()
