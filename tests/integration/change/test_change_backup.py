"""A change stands on a backup that was read back, or on a snapshot of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3, Database


@pytest.fixture
def project(s3: S3, database: Database, tmp_path: Path) -> Project:
    database.run(
        "CREATE TABLE public.notes (id int)",
        "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL)",
    )
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    made = Project.for_database(tmp_path, database, state_directory=str(state), backup_prefix="logical")
    made.all_vars |= {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
    made.all_vars |= {"backup_bucket_tls_only": False, "backup_verify_retention_days": 0}
    return made


def test_without_a_backup_that_is_whole_nothing_begins(project):
    project.all_vars["change_needs"] = {"weekly_db.yml": ["backup", "work"]}
    refused = project.run("weekly_db.yml")
    assert refused.code == 2, refused.output
    assert "pg_vacuum" not in refused.results
    assert refused.last("change_steps")["answers"] == "backup:db"
    # It may be the inventory's decision to go on; the run is red all the same, and says so.
    project.all_vars["change_blocks"] = {"backup": False}
    went_on = project.run("weekly_db.yml")
    assert went_on.code != 0, went_on.output
    assert went_on.last("pg_vacuum")["status"] == "ok"
    assert {each["name"]: each["status"] for each in went_on.last("change_check")["checks"]}["backup:db"] == "breach"


def test_a_snapshot_is_the_backup_that_is_read_back(project):
    project.all_vars["change_needs"] = {"weekly_db.yml": ["snapshot", "backup", "rollback_plan", "work"]}
    ended = project.run("weekly_db.yml")
    assert ended.code == 0, ended.output
    proofs = {each["name"]: each["proof"] for each in ended.last("change_check")["items"]}
    assert proofs["snapshot:db"] == proofs["backup:db"] == ended.last("pg_backup")["backup_id"]
    assert "db_rollback_before=" in proofs["rollback_plan"]


def test_a_rollback_is_a_change_where_it_replaces_the_live_database(project, database):
    project.all_vars |= {
        "change_needs": {"rollback.yml replace": ["rollback_plan", "health", "work", "function"]},
        "change_smoke_queries": [{"name": "notes", "query": "SELECT count(*) + 1 FROM public.notes"}],
    }
    backup = project.run("backup.yml").last("pg_backup")["backup_id"]
    copied = project.run("rollback.yml", "--tags", "db", db_rollback_backup=backup)
    assert copied.code == 0, copied.output
    assert "change_open" not in copied.results
    refused = project.run("rollback.yml", "--tags", "db", db_rollback_backup=backup, db_rollback_replace="other")
    assert refused.code == 2
    assert "change_open" not in refused.results, "a refused plan opens no change"
    done = project.run("rollback.yml", "--tags", "db", db_rollback_backup=backup, db_rollback_replace=database.name)
    assert done.code == 0, done.output
    answers = {each["name"]: each["status"] for each in done.last("change_check")["checks"]}
    assert answers == {"rollback_plan": "ok", "health:db": "ok", "work": "ok", "function:db": "ok"}
    # Before the work, before the swap, and after it.
    looked = [each["answers"] for each in done.results["change_probe"] if each["state"] != "skipped"]
    assert looked == ["health:db", "health:db", "function:db"]
