"""A misspelt variable ends a playbook before anything is reached, wherever it was set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import free_port

from playbooks import Ended, Project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An inventory of a database that does not answer."""
    host = {
        "db_login_host": "127.0.0.1",
        "db_login_port": free_port(),
        "db_login_user": "nobody",
        "db_login_db": "nothing",
        "preflight_system_identifier": "1",
    }
    settings = {
        "runbook_environment": "sandbox",
        "db_ssl_mode": "disable",
        "backup_bucket": "nothing",
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    return Project(tmp_path, {"db": host}, settings)


def refused(ended: Ended, name: str, nearest: str) -> None:
    assert ended.code != 0
    assert f"Unknown variable: '{name}' (did you mean {nearest}?)" in " ".join(ended.output.split())
    results: list[dict[str, Any]] = [one for found in ended.results.values() for one in found]
    assert "Cannot connect" not in ended.output
    failed = [one for one in results if one["state"] == "failed"]
    assert failed
    assert all(f"'{name}'" in one["msg"] for one in failed)
    assert not any(one["changed"] for one in results)


def test_of_a_host(project):
    project.hosts["db"]["db_maintenance_audit_retention_day"] = 30
    refused(project.run("weekly_db.yml"), "db_maintenance_audit_retention_day", "db_maintenance_audit_retention_days")


def test_of_a_folder_beside_the_inventory(project):
    folder = project.folder / "group_vars/databases"
    folder.mkdir(parents=True)
    (folder / "backup.yml").write_text("backup_prefx: elsewhere\n")
    refused(project.run("pitr.yml"), "backup_prefx", "backup_prefix")


def test_of_the_command_line(project):
    refused(project.run("performance.yml", perfomance_apply="x"), "perfomance_apply", "performance_apply")


def test_of_what_ansible_itself_misses_first(project):
    """A role's argument spec wants it, and a template reads it, before a module of ours is asked."""
    del project.hosts["db"]["db_login_user"]
    refused(project.run("weekly_db.yml", db_login_usr="x"), "db_login_usr", "db_login_user")
    project.hosts["db"] |= {"db_login_user": "x", "db_login_prot": project.hosts["db"].pop("db_login_port")}
    refused(project.run("lease.yml"), "db_login_prot", "db_login_port")


def test_where_no_database_is_asked_for(project):
    project.all_vars |= {"supabase_project_ref": "a" * 20, "supabase_project_name": "x", "supabase_access_token": "t"}
    refused(project.run("supabase_restore.yml", confrim="sandbox"), "confrim", "confirm")


def test_what_only_tasks_set(project):
    ended = project.run("lease.yml", preflight_result={"changed": False, "failed": False})
    assert ended.code != 0
    assert "preflight_result: the playbooks set it to what their tasks find" in " ".join(ended.output.split())
    assert "Cannot connect" not in ended.output


def test_helpers_of_the_inventory_are_left_alone(project):
    project.hosts["db"] |= {"backup_site": "eu", "backup_prefix": "copies-{{ backup_site }}"}
    # Also where -e replaces the value that reads them.
    for said in ({}, {"backup_prefix": "others"}):
        ended = project.run("lease.yml", **said)
        assert "Cannot connect" in ended.output
        assert "Unknown variable" not in ended.output
