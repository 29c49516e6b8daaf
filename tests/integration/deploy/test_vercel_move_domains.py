"""The production domains are led to another deployment once, whatever Vercel answers, and are seen from outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.change.documents import Documents
from conftest import ENVIRONMENTS, Outcome, a_run, approve, as_environ, run_module, this_run
from fakes.http import Fault
from fakes.vercel import OPTIONS, PROJECT, TEAM, TOKEN, FakeVercel, Site, commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASK = "POST .*/(rollback|promote)/"


@pytest.fixture
def api() -> Iterator[FakeVercel]:
    with FakeVercel() as fake:
        yield fake


@pytest.fixture
def site(api: FakeVercel) -> Iterator[Site]:
    with Site(api) as made:
        yield made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def move(api: FakeVercel, site: Site, state: Path) -> Any:
    def act(kind: str = "rollback", *, check: bool = False, **options: Any) -> Outcome:
        common = OPTIONS | {
            "api_url": api.url, "act": kind, "environment": "staging", "version_url": f"{site.url}/version",
            "state_directory": str(state), "poll_s": 0.01, "wait_timeout_s": 30, "served_timeout_s": 1,
        }  # fmt: skip
        return run_module("vercel_move_domains", common | options, check=check)

    return act


def ids(api: FakeVercel) -> list[str]:
    return list(api.deployments)


def asked(api: FakeVercel) -> int:
    return len([line for line in api.requests if "/rollback/" in line or "/promote/dpl" in line])


def test_back_and_forth(api, move):
    first, second, third = ids(api)
    planned = move(check=True)
    assert (planned.result["changed"], planned.result["deployment"]["id"]) == (True, second)
    assert (asked(api), api.live) == (0, third)
    done = move(reason="the start page is blank")
    assert not done.failed, done.result
    assert [check["status"] for check in done.result["checks"]] == ["ok", "ok"]
    assert (api.live, api.auto_assigns) == (second, False)
    (left,) = done.result["follow_ups"]
    assert "does not go live since the rollback of" in left
    assert commit(3)[:12] in left
    assert TOKEN not in str(done.result)
    # A second run does not go back further.
    again = move()
    assert (again.failed, again.result["changed"], api.live, asked(api)) == (False, False, second, 1)
    assert done.result["bad_commit"] == again.result["bad_commit"] == commit(3)
    assert again.result["follow_ups"]
    # The fix is built and not live, until it is promoted.
    fixed = api.pushed("main", commit(4), build=["READY"])
    assert api.live == second
    assert move("promote", deployment=fixed, check=True).result["changed"]
    promoted = move("promote", deployment=fixed)
    assert (promoted.result["changed"], promoted.result["follow_ups"], api.live) == (True, [], fixed)
    assert promoted.result["bad_commit"] == ""
    assert not move("promote", deployment=fixed).result["changed"]
    # What was bad is not gone back to, although it is the newest before.
    assert move(check=True).result["deployment"]["id"] == second
    assert move(check=True, deployment=first).result["deployment"]["id"] == first


def test_no_candidate(api, move):
    for each in api.deployments.values():
        each["candidate"] = False
    refused = move()
    assert "There is no deployment to roll back to" in refused.result["msg"]
    assert asked(api) == 0


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (402, "the plan does not allow it, or the account has to be paid"),
        (409, "another act on the project is under way"),
        (422, "with 422"),
    ],
)
def test_a_refusal_is_told_and_nothing_was_changed(api, move, status, says):
    api.faults = [Fault(ASK, "status", status, body={"error": {"code": "x", "message": "No"}})]
    refused = move()
    assert refused.failed
    assert says in refused.result["msg"]
    assert "Nothing was changed: the domains lead to" in refused.result["msg"]
    assert (refused.result["changed"], refused.result["status"], asked(api)) == (False, "breach", 1)


@pytest.mark.parametrize("fault", [Fault(ASK, "lost"), Fault(ASK, "slow", wait_s=2)])
def test_an_answer_after_the_time_out_is_not_asked_for_twice(api, move, fault):
    api.faults = [fault]
    done = move(timeout_s=1)
    assert not done.failed, done.result
    assert (done.result["changed"], asked(api), api.live) == (True, 1, ids(api)[1])
    assert "It is not sent again" in done.stderr + str(done.result)


def test_a_request_that_came_to_nothing_is_unknown(api, move):
    api.faults = [Fault(ASK, "reset")]
    lost = move(wait_timeout_s=1)
    assert (lost.failed, lost.result["status"], lost.result["code"]) == (True, "unknown", "move_slow")
    assert asked(api) == 1


@pytest.mark.parametrize(
    ("moves", "status"), [(["pending"], "unknown"), (["pending", "failed"], "breach"), (["skipped"], "breach")]
)
def test_a_rollback_that_is_stuck_or_fails(api, move, moves, status):
    api.moves = moves
    stuck = move(wait_timeout_s=1)
    assert (stuck.failed, stuck.result["status"], api.live) == (True, status, ids(api)[2])
    if status == "unknown":
        # The next run waits for it, and asks for no other one.
        api.alias_request["coming"] = ["succeeded"]
        done = move()
        assert (done.failed, asked(api), api.live) == (False, 1, ids(api)[1])


def test_one_that_is_on_its_way_elsewhere_is_in_the_way(api, move):
    api.moves = ["pending"]
    assert move(wait_timeout_s=1, deployment=ids(api)[0]).failed
    refused = move(deployment=ids(api)[1])
    assert "wait for its end" in refused.result["msg"]
    assert asked(api) == 1


def test_another_deployment_that_is_served_is_red(api, move):
    api.serves = ids(api)[2]
    wrong = move()
    assert (wrong.failed, wrong.result["status"], wrong.result["changed"]) == (True, "breach", True)
    assert f"says that {ids(api)[2]} is served, and not {ids(api)[1]}" in wrong.result["msg"]
    # What was done is remembered all the same, and looked at again.
    api.serves = ""
    assert not move().failed


def test_what_nobody_looked_at_is_unknown(move):
    assert "set app_version_url" in move(version_url="").result["msg"]
    assert move(version_url="http://127.0.0.1:9/version").result["status"] == "unknown"


def test_a_deployment_with_a_retired_key_is_refused(api, move, state):
    run = this_run()
    approve(run, *ENVIRONMENTS)
    documents = Documents.from_params({"state_directory": str(state)}, run)
    rotation = {
        "env_names": ["SERVICE_KEY"], "at": {}, "dead_before": (datetime.now(UTC) - timedelta(days=2)).isoformat(),
    }  # fmt: skip
    # Another application's key of the same name, and then this one's own.
    documents.update("keys/prj_other-server", lambda _found: rotation)
    assert not move(check=True).failed
    documents.update(f"keys/{PROJECT}-server", lambda _found: rotation)
    for options in ({}, {"deployment": ids(api)[0]}):
        refused = move(**options)
        assert "was built with keys that are retired since (SERVICE_KEY)" in refused.result["msg"]
    documents.update(f"keys/{PROJECT}-server", lambda _found: {"damaged": True})
    assert move().result["status"] == "unknown"
    assert asked(api) == 0


def test_it_asks_preflight_and_refuses_what_makes_no_sense(api, move, state, tmp_path):
    bare = OPTIONS | {"api_url": api.url, "act": "rollback", "environment": "staging", "state_directory": str(state)}
    refused = run_module("vercel_move_domains", bare, permitted=False, **as_environ(a_run(directory=tmp_path)))
    assert "has not passed preflight" in refused.result["msg"]
    assert "name the deployment that is to be promoted" in move("promote").result["msg"]
    assert "state_bucket, state_directory: neither is set" in move(state_directory=None).result["msg"]
    assert "an address without them" in move(version_url="https://a.example/?token=1").result["msg"]
    assert "out of bounds" in move(wait_timeout_s=0).result["msg"]
    api.live = ""
    assert "no deployment in production" in move(team_id=TEAM).result["msg"]
