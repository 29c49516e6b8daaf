"""Vercel's API through the driver and the proof of a project: what is lost, slow, refused or answered in part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel, argument_spec
from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.deploy.deployments import Setting
from conftest import Outcome, a_run, approve, as_environ, run_module
from fakes.http import Fault
from fakes.vercel import OPTIONS, PROJECT, TOKEN, FakeVercel, Site, commit

if TYPE_CHECKING:
    from collections.abc import Iterator

REDEPLOY = "POST /v13/deployments"
ENV = f"POST /v10/projects/{PROJECT}/env"


@pytest.fixture
def api() -> Iterator[FakeVercel]:
    with FakeVercel() as fake:
        yield fake


def driver(api: FakeVercel, *, read_only: bool = False, **options: Any) -> Vercel:
    params = {name: spec.get("default") for name, spec in argument_spec().items()}
    return Vercel.from_params(params | OPTIONS | {"api_url": api.url} | options, read_only=read_only)


def quiet(_state: str, _waited_s: float) -> None:
    pass


# --- deployments ------------------------------------------------------------------------------------------------------


def test_deployments_come_whole_and_the_newest_first(api, monkeypatch):
    monkeypatch.setattr("ansible.module_utils.runbook.drivers.deploy.vercel._PAGE", 2)
    api.pushed("feature", commit(9), build=["READY"])
    vercel = driver(api)
    found = vercel.deployments()
    assert [each.commit for each in found] == [commit(3), commit(2), commit(1)]
    assert len([line for line in api.requests if line == "GET /v7/deployments"]) == 2
    assert len(vercel.deployments(most=2)) == 2
    assert [each.commit for each in vercel.deployments(since=found[1].created_at)] == [commit(3)]
    assert [each.branch for each in vercel.deployments("", commit=commit(9))] == ["feature"]
    assert vercel.project().live_id == found[0].id


def test_a_redeployment_whose_answer_was_lost_is_not_made_twice(api):
    vercel = driver(api)
    source = vercel.deployment(api.live)
    api.faults = [Fault(REDEPLOY, "lost")]
    made = vercel.redeploy(source, "rotation-1")
    assert made.made
    assert made.found is not None
    assert api.requests.count(REDEPLOY) == 1
    assert vercel.redeploy(source, "rotation-1").made is False
    assert len(api.deployments) == 4
    ready = vercel.wait_ready(made.found.id, timeout_s=60, tell=quiet, poll_s=0.01)
    assert (ready.commit, api.live) == (source.commit, ready.id)
    # Another key is another redeployment, and one that failed is no answer to the next.
    api.build = ["BUILDING", "ERROR"]
    broken = vercel.redeploy(ready, "rotation-2")
    assert broken.found is not None
    with pytest.raises(RunbookError, match=r"is ERROR: Command .* exited with 1; the domains lead") as failed:
        vercel.wait_ready(broken.found.id, timeout_s=60, tell=quiet, poll_s=0.01)
    assert failed.value.code == "deployment_failed"
    assert vercel.redeploy(ready, "rotation-2").made
    assert driver(api, read_only=True).redeploy(ready, "rotation-3").found is None


def test_a_build_that_does_not_end_is_unknown(api):
    api.build = ["BUILDING"]
    slow = api.pushed("main", commit(4))
    with pytest.raises(UnreachableError, match=r"is BUILDING after .* not made a second time") as error:
        driver(api).wait_ready(slow, timeout_s=0, tell=quiet)
    assert error.value.code == "deployment_slow"


def test_a_rollback_is_asked_for_once_and_its_end_is_seen(api):
    vercel = driver(api)
    newest, older, _ = vercel.deployments()
    before = vercel.project().alias_request
    api.faults = [Fault("POST .*/rollback/", "lost")]
    with pytest.raises(ApiError) as lost:
        vercel.rollback(older.id, "a bug")
    assert lost.value.uncertain
    project = vercel.wait_moved(older.id, before, timeout_s=60, tell=quiet, poll_s=0.01)
    assert (project.live_id, project.auto_assigns) == (older.id, False)
    assert len([line for line in api.requests if "/rollback/" in line]) == 1
    # What is pushed meanwhile is built and does not go live, until somebody promotes.
    pushed = api.pushed("main", commit(4), build=["READY"])
    assert api.live == older.id
    vercel.promote(pushed)
    project = vercel.wait_moved(pushed, project.alias_request, timeout_s=60, tell=quiet, poll_s=0.01)
    assert (project.live_id, project.auto_assigns) == (pushed, True)
    assert newest.id != pushed


@pytest.mark.parametrize(
    ("moves", "code"),
    [(["pending", "failed"], "move_failed"), (["pending"], "move_slow"), (["skipped"], "move_failed")],
)
def test_domains_that_are_not_moved(api, moves, code):
    vercel = driver(api)
    older = vercel.deployments()[1]
    api.moves = moves
    vercel.rollback(older.id, "a bug")
    with pytest.raises(RunbookError) as error:
        vercel.wait_moved(older.id, None, timeout_s=0 if code == "move_slow" else 60, tell=quiet, poll_s=0.01)
    assert error.value.code == code
    assert ("app.example.org" in error.value.message) == (moves[-1] == "failed")


def test_another_move_that_takes_the_place_of_ours_is_told(api):
    vercel = driver(api)
    _, older, oldest = vercel.deployments()
    vercel.rollback(oldest.id, "somebody else")
    with pytest.raises(RunbookError, match="Somebody else asked for a rollback"):
        vercel.wait_moved(older.id, None, timeout_s=60, tell=quiet, poll_s=0.01)


@pytest.mark.parametrize("act", ["rollback", "promote"])
def test_nothing_is_moved_in_check_mode(api, act):
    vercel = driver(api, read_only=True)
    with pytest.raises(RunbookError, match="in check mode"):
        vercel.promote(api.live) if act == "promote" else vercel.rollback(api.live, "")


# --- environment variables --------------------------------------------------------------------------------------------


def test_variables_are_written_as_a_set_and_a_deployment_keeps_those_of_its_time(api):
    vercel = driver(api)
    before = {each.name: each for each in vercel.env()}
    api.faults = [Fault(ENV, "lost")]
    vercel.set_env([
        Setting("SERVICE_KEY", "n" * 40, "sensitive", ("production", "preview")),
        Setting("PUBLIC_NAME", "Mental Scribe 2", "plain", ("production", "preview")),
        Setting("NEW", "1", "encrypted", ("preview",)),
    ])  # fmt: skip
    after = {each.name: each for each in vercel.env()}
    assert set(after) - set(before) == {"NEW"}
    assert after["SERVICE_KEY"].id == before["SERVICE_KEY"].id
    assert after["SERVICE_KEY"].updated_at != before["SERVICE_KEY"].updated_at
    assert vercel.value(after["SERVICE_KEY"].id) is None
    assert vercel.value(after["PUBLIC_NAME"].id) == "Mental Scribe 2"
    assert vercel.value(after["NEW"].id) == "1"
    assert api.deployments[api.live]["env"]["PUBLIC_NAME"] == "Mental Scribe"
    vercel.delete_env(after["NEW"].id)
    vercel.delete_env(after["NEW"].id)
    assert "NEW" not in {each.name for each in vercel.env()}


def test_no_value_is_in_what_is_said_of_a_failure(api):
    vercel = driver(api)
    secret = "c4n4ry" * 5
    wanted = [Setting(name, secret, "encrypted", ("production",)) for name in ("ONE", "TWO")]
    api.refused = {"TWO"}
    with pytest.raises(RunbookError, match=r"did not write TWO \(BAD_REQUEST\)") as partly:
        vercel.set_env(wanted)
    api.faults = [Fault(ENV, "status", 400, body={"error": {"code": "bad_request", "message": f"no {secret}"}})]
    with pytest.raises(RunbookError, match="with 400; look at their names") as wholly:
        vercel.set_env(wanted)
    for error in (partly.value, wholly.value):
        assert secret not in f"{error.message} {error.context}"


# --- the site ---------------------------------------------------------------------------------------------------------


def test_the_site_serves_what_is_live(api):
    with Site(api) as site:
        pages = ApiClient(service="site", base_url=site.url, headers={}, secrets={}, read_only=True)
        found = {path: pages.look(path) for path in ("/", "/health", "/version", "/keys", "/none")}
        assert [answer.status for answer in found.values()] == [200, 200, 200, 200, 404]
        assert pages.get("/version") == {"commit": commit(3), "deployment": api.live}
        site.broken = {commit(3)}
        assert pages.look("/health").status == 500


# --- the proof of a project -------------------------------------------------------------------------------------------


def test_a_project_proves_itself(api, tmp_path):
    run = a_run(directory=tmp_path)

    def prove(**options: Any) -> Outcome:
        return run_module("vercel_preflight", OPTIONS | {"api_url": api.url} | options, **as_environ(run))

    assert "This run has not passed preflight" in prove().result["msg"]
    assert api.requests == []
    approve(run, "staging")
    assert "the inventory means project 'another'" in prove(project_name="another").result["msg"]
    assert "pin it: vercel_project_name: 'mental-scribe'" in prove(project_name="").result["msg"]
    assert "check the token's rights and vercel_team_id" in prove(team_id="team_2").result["msg"]
    assert "is what the example of the inventory says" in prove(project_id="<project-id>").result["msg"]
    proven = prove()
    named = {"kind": "vercel_project", "place": api.url, "name": PROJECT, "environment": "staging"}
    assert proven.result["target"] == named
    assert TOKEN not in str(proven.result)
    api.faults = [Fault("GET", "status", 500, times=9)]
    assert prove().result["status"] == "unknown"
