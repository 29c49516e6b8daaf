"""rotate_keys.yml as an operator runs it: look, rotate as a change, look again, retire."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fakes.supabase import REF
from fakes.supabase import TOKEN as SUPABASE_TOKEN
from fakes.vercel import OPTIONS
from git_remotes import Remote
from keys import DATABASE, ROLES, SERVER, Work, a_world, knows_password, login_roles

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Database

LINES = ["rollback_plan", "work", "function"]


@pytest.fixture
def world(tmp_path: Path, sound_database: Database) -> Iterator[tuple[Work, Project]]:
    with a_world(tmp_path, (SERVER, DATABASE)) as work, login_roles(sound_database) as password:
        sound_database.run("CREATE EXTENSION pg_stat_statements")
        work.vercel.build, work.vercel.moves = ["READY"], ["pending", "succeeded"]
        work.deploy(DATABASE_URL=f"postgresql://{ROLES[0]}:{password}@db.example.com/app")
        remote = Remote.new(tmp_path / "git", {".env.example": "PUBLIC_NAME=\n"})
        project = Project.for_application(
            tmp_path, app_repository=str(remote.path), app_repository_root=remote.root, app_branch="main",
            app_committer_email="ops@example.test", state_directory=str(work.folder),
            key_rotation_keys=[SERVER, DATABASE],
            change_needs={f"rotate_keys.yml {action}": LINES for action in ("create", "retire")},
            **{f"vercel_{name}": value for name, value in OPTIONS.items()}, vercel_api_url=work.vercel.url,
            supabase_project_ref=REF, supabase_project_name="mental-scribe", supabase_access_token=SUPABASE_TOKEN,
            supabase_api_url=work.supabase.url, app_keys_url=f"{work.site.url}/keys", key_rotation_poll_s=1,
            key_rotation_database="db", change_probe_deadline_s=2, app_config_snapshot_key=f"{'k' * 43}=",
            change_function_pages=[{"name": "start", "url": f"{work.site.url}/", "text": "Welcome"}],
        )  # fmt: skip
        project.hosts = Project.for_database(tmp_path, sound_database).hosts
        project.hosts["db"] |= {"db_ssl_mode": "prefer", "db_roles_admin_user": sound_database.user}
        yield work, project


def let_the_grace_be_over(work: Work) -> None:
    for path in (work.folder / "sandbox" / "keys").glob("*.json"):
        document: dict[str, Any] = json.loads(path.read_text())
        document["body"]["retire_after"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        if document["body"]["sample"]:
            # The count of statements is the same since yesterday.
            document["body"]["sample"]["since"] = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
        path.write_text(json.dumps(document))


def test_from_a_finding_to_retired_keys(world: tuple[Work, Project], sound_database: Database):
    work, project = world
    old, old_url = work.live(), work.live("DATABASE_URL")
    refused = project.run("rotate_keys.yml", key_rotation_action="create", key_rotation_grace_days=-1)
    assert "key_rotation_grace_days: -1" in refused.output, refused.output
    assert "change_open" not in refused.results
    planned = project.run("rotate_keys.yml", "--check", "--diff", key_rotation_action="create")
    assert planned.code == 0, planned.output
    assert planned.last("key_rotate")["msg"] == "Would rotate server, database."
    assert work.phase() == ""
    rotated = project.run("rotate_keys.yml", key_rotation_action="create", environ={"ANSIBLE_VERBOSITY": "3"})
    assert rotated.code == 0, rotated.output
    assert [work.phase("server"), work.phase("database")] == ["proven", "proven"]
    assert {each["status"] for each in rotated.last("change_check")["checks"]} == {"ok"}
    named = rotated.last("env_example_update")
    assert (named["pushed_to"], "DATABASE_URL" in named["added"]) == ("runbook/env-example", True)
    assert rotated.last("vercel_env_snapshot")["changed"]
    new, new_url = work.live(), work.live("DATABASE_URL")
    assert new_url.startswith(f"postgresql://{ROLES[1]}:")
    assert all(map(work.supabase.accepts, (old, new)))
    assert all(knows_password(sound_database, url) for url in (old_url, new_url))
    # No value of a key is anywhere in what the run said or kept.
    assert rotated.record is not None
    kept = [path.read_text(errors="replace") for path in rotated.record.rglob("*") if path.is_file()]
    password = new_url.partition(f"{ROLES[1]}:")[2].partition("@")[0]
    for secret in (old, new, password):
        assert not any(secret in text for text in (rotated.output, *kept))
    looked = project.run("rotate_keys.yml")
    assert looked.code == 0, looked.output
    assert looked.record is not None
    metrics = (looked.record / "metrics.prom").read_text()
    for key in ("server", "database"):
        where = f'{{environment="sandbox",playbook="rotate_keys",host="app",key="{key}"}}'
        assert f"runbook_key_created_timestamp_seconds{where}" in metrics, metrics
        assert f"runbook_key_rotation_ok{where} 1" in metrics, metrics
    let_the_grace_be_over(work)
    work.supabase.key_uses = {new: 7}
    retired = project.run("rotate_keys.yml", key_rotation_action="retire")
    assert retired.code == 0, retired.output
    assert retired.last("key_retire")["retired"] == ["server", "database"]
    assert (work.supabase.accepts(old), knows_password(sound_database, old_url)) == (False, False)
    assert (work.supabase.accepts(new), knows_password(sound_database, new_url)) == (True, True)


def test_what_leads_nowhere_is_refused_before_anything_is_asked(tmp_path: Path):
    project = Project.for_application(tmp_path, key_rotation_keys=[DATABASE], key_rotation_database="elsewhere")
    refused = project.run("rotate_keys.yml")
    assert refused.code != 0
    assert "key_rotation_database: 'elsewhere' is no host of the group databases" in refused.output
    refused = project.run("rotate_keys.yml", key_rotation_action="rotate")
    assert "key_rotation_action: rotate is no action; take look, create or retire." in refused.output
