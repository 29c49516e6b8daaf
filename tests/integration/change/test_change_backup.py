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


def test_what_a_swap_refuses_opens_no_change(project, database):
    """Neither the team nor the users are told of a swap that can be seen to be impossible."""
    project.all_vars["change_needs"] = {"restore_swap.yml": ["work"], "rollback.yml replace": ["work"]}
    project.run("backup.yml")
    copy = project.run("restore.yml").last("pg_restore")["target_database"]
    refused = project.run("restore_swap.yml", db_restore_replacement=f"{copy}_misspelt")
    assert refused.code == 2
    assert "there is no database" in refused.output
    assert "change_open" not in refused.results
    swapped = project.run("restore_swap.yml", db_restore_replacement=copy)
    assert swapped.code == 0, swapped.output
    assert {each["name"]: each["status"] for each in swapped.last("change_check")["checks"]} == {"work": "ok"}
    previous = swapped.last("pg_swap")["previous"]
    database.run(f"""ALTER DATABASE "{previous}" SET runbook.environment = 'staging'""")
    undo = {"db_rollback_undo": previous, "db_rollback_replace": database.name}
    refused = project.run("rollback.yml", "--tags", "db", **undo)
    assert refused.code == 2
    assert "is marked as 'staging'" in " ".join(refused.output.split())
    assert "change_open" not in refused.results
    database.run(f"""ALTER DATABASE "{previous}" SET runbook.environment = 'sandbox'""")
    undone = project.run("rollback.yml", "--tags", "db", **undo)
    assert undone.code == 0, undone.output
    assert "change_open" in undone.results
