"""Module pg_heartbeat: rows by which a drill tells the loss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from conftest import run_module

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Database


def test_rows_are_written_and_old_ones_removed(database: Database):
    planned = run_module("pg_heartbeat", database.login | {"duration_s": 2, "interval_s": 1}, check=True)
    assert planned.result["beats"] == 3
    assert database.one("SELECT count(*) FROM pg_namespace WHERE nspname = 'runbook'") == 0

    done = run_module("pg_heartbeat", database.login | {"duration_s": 2, "interval_s": 1})
    assert not done.failed, done.result["msg"]
    assert done.result["beats"] == planned.result["beats"]
    newest = database.one("SELECT max(beat_at) FROM runbook.heartbeat")
    assert newest == datetime.fromisoformat(done.result["last_beat_at"])
    assert database.one("SELECT count(*) FROM runbook.heartbeat") == 3

    old = datetime.now(UTC) - timedelta(days=8)
    database.run(f"INSERT INTO runbook.heartbeat VALUES (1, '{old.isoformat()}')")
    again = run_module("pg_heartbeat", database.login)
    assert (again.result["beats"], again.result["removed_rows"]) == (1, 1)


def test_who_may_not_write_is_told_the_sql(database: Database):
    database.run("DROP ROLE IF EXISTS beater", "CREATE ROLE beater LOGIN")
    user = database.login | {"login_user": "beater"}
    missing = run_module("pg_heartbeat", user)
    assert missing.failed
    assert "CREATE TABLE runbook.heartbeat" in missing.result["msg"]
    run_module("pg_heartbeat", database.login)
    closed = run_module("pg_heartbeat", user)
    assert "GRANT SELECT, INSERT, DELETE ON runbook.heartbeat" in closed.result["msg"]
    database.run(
        "GRANT USAGE ON SCHEMA runbook TO beater", "GRANT SELECT, INSERT, DELETE ON runbook.heartbeat TO beater"
    )
    assert not run_module("pg_heartbeat", user).failed
    database.run("DROP OWNED BY beater", "DROP ROLE beater")
    refused = run_module("pg_heartbeat", database.login | {"interval_s": 10, "duration_s": 5})
    assert "interval_s: 10 is longer than duration_s" in refused.result["msg"]


def test_the_playbook_writes_one(database: Database, tmp_path: Path):
    project = Project.for_database(tmp_path, database)
    ended = project.run("heartbeat.yml")
    assert ended.code == 0, ended.output
    assert database.one("SELECT count(*) FROM runbook.heartbeat") == 1
