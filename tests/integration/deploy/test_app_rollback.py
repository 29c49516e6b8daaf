"""rollback.yml of an application: as a change, what was bad taken back in git, and what is left until it is done."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from fakes.vercel import OPTIONS, TOKEN, FakeVercel, Site
from git_remotes import Remote

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = ["rollback_plan", "work", "function"]
KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def api() -> Iterator[FakeVercel]:
    with FakeVercel() as fake:
        fake.deployments.clear()
        yield fake


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote.new(tmp_path, {"page.txt": "good\n"})


@pytest.fixture
def project(tmp_path: Path, api: FakeVercel, remote: Remote) -> Iterator[tuple[Project, Site]]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with Site(api) as site:
        made = Project.for_application(
            tmp_path, state_directory=str(state), change_needs={"rollback.yml app": LINES},
            **{f"vercel_{name}": value for name, value in OPTIONS.items()}, vercel_api_url=api.url,
            app_version_url=f"{site.url}/version", app_repository=str(remote.path), app_repository_root=remote.root,
            app_branch="main", app_committer_email="ops@example.test", app_rollback_revert="branch",
            change_function_pages=[{"name": "start", "url": f"{site.url}/", "text": "Welcome"}],
            change_probe_deadline_s=2,
        )  # fmt: skip
        yield made, site


def test_a_bad_deployment_is_rolled_back_from_and_taken_back(project, api, remote):
    made, site = project
    good = api.pushed("main", remote.head("main"), build=["READY"])
    bad_commit = remote.push("main", {"page.txt": "bad\n"})
    bad = api.pushed("main", bad_commit, build=["READY"])
    site.broken = {bad_commit}
    planned = made.run("rollback.yml", "--tags", "app", "--check", "--diff")
    assert planned.code == 0, planned.output
    assert (api.live, "POST" in str(api.requests), remote.head(f"runbook/revert-{bad_commit[:12]}")) == (bad, False, "")
    assert planned.last("repository_revert")["changed"]
    done = made.run("rollback.yml", "--tags", "app", app_rollback_reason="the start page is blank")
    assert done.code == 0, done.output
    assert (api.live, site.served()["id"]) == (good, good)
    assert remote.show(f"runbook/revert-{bad_commit[:12]}", "page.txt") == "good\n"
    assert done.record is not None
    assert f"-e app_rollback_act=promote -e app_rollback_deployment={bad}" in done.last("change_open")["rollback_plan"]
    record = json.loads((done.record / "record.json").read_text())
    assert [each["kind"] for each in record["hosts"]["app"]["targets"]][:2] == ["vercel_project", "repository"]
    report = (done.record / "report.html").read_text()
    assert "does not go live since the rollback of" in report
    for name in ("record.json", "report.html", "report.md", "journal.jsonl"):
        assert TOKEN not in (done.record / name).read_text()
    # It stays a finding until the fix is promoted.
    looked = made.run("deployments.yml")
    assert looked.last("vercel_deployment_info")["status"] == "breach"
    fixed = api.pushed("main", remote.push("main", {"page.txt": "better\n"}), build=["READY"])
    promoted = made.run("rollback.yml", "--tags", "app", app_rollback_act="promote", app_rollback_deployment=fixed)
    assert (promoted.code, api.live) == (0, fixed), promoted.output


def test_variables_are_restored_as_a_set_and_built_in(project, api, remote):
    made, site = project
    api.pushed("main", remote.head("main"), build=["READY"])
    made.applications["app"] |= {"app_config_snapshot_key": KEY, "change_needs": {"rollback.yml config": LINES}}
    kept = made.run("deployments.yml")
    assert kept.code == 0, kept.output
    snapshot = kept.last("vercel_env_snapshot")["snapshot"]
    api.put_env("PUBLIC_NAME", "wrong", type="plain")
    done = made.run("rollback.yml", "--tags", "config", app_config_snapshot=snapshot)
    assert done.code == 0, done.output
    assert site.served()["env"]["PUBLIC_NAME"] == "Mental Scribe"
    # What was there before is kept, so that this can be undone.
    assert done.last("vercel_env_snapshot")["snapshot"] != snapshot
    assert done.last("change_open")["items"] == ["rollback_plan", "work", "function:app"]
    assert done.record is not None
    for name in ("record.json", "report.html", "report.md", "journal.jsonl"):
        text = (done.record / name).read_text()
        assert KEY not in text
        assert "sb_secret_c4n4ry" not in text


def test_only_what_is_named_is_rolled_back(tmp_path):
    """Without a tag that is the database; the checks of a role's variables, which have every tag, run for it alone."""
    made = Project(tmp_path, {"db": {}}, {"ansible_connection": "local"}, {"app": {}})
    wanted = {"config": "app", "": "db"}
    for tag, host in wanted.items():
        ended = made.run("rollback.yml", *(("--tags", tag) if tag else ()))
        said = [line.split()[0] for line in ended.output.splitlines() if "failed=1" in line]
        assert said == [host], ended.output
    # Of two, one would be left out, or be done on what the other changed.
    for tags, hosts in (("db,app", ["db"]), ("app,config", ["app"])):
        ended = made.run("rollback.yml", "--tags", tags)
        said = [line.split()[0] for line in ended.output.splitlines() if "failed=1" in line]
        assert said == hosts, ended.output
        assert "asks for more than one rollback" in ended.output
