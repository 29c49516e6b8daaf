"""Rollbacks of applications, killed while Vercel has not answered: nothing is asked twice, and all comes to its end."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from conftest import run_module
from fakes.vercel import OPTIONS, FakeVercel, Site
from killing import kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def api() -> Iterator[FakeVercel]:
    with FakeVercel() as fake:
        yield fake


@pytest.fixture
def given(api: FakeVercel, tmp_path: Path) -> Iterator[dict[str, Any]]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with Site(api) as site:
        yield OPTIONS | {
            "api_url": api.url, "environment": "staging", "state_directory": str(state),
            "version_url": f"{site.url}/version", "poll_s": 0.01, "served_timeout_s": 2,
        }  # fmt: skip


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return partial(kill, monkeypatch)


def test_a_rollback_is_asked_for_once(api, given, killed):
    newest, older = list(api.deployments)[-1], list(api.deployments)[-2]
    asked = given | {"act": "rollback"}
    killed("vercel_move_domains", asked, api, "POST .*/rollback/")
    again = run_module("vercel_move_domains", asked)
    assert not again.failed, again.result
    assert (api.live, len([line for line in api.requests if "/rollback/" in line])) == (older, 1)
    # The killed run wrote nothing down; what was bad is known all the same.
    fixed = api.pushed("main", "f" * 40, build=["READY"])
    assert not run_module("vercel_move_domains", given | {"act": "promote", "deployment": fixed}).failed
    planned = run_module("vercel_move_domains", asked, check=True)
    assert planned.result["deployment"]["id"] not in (newest, fixed)


def test_what_is_live_is_built_again_once(api, given, killed):
    api.put_env("PUBLIC_NAME", "x", type="plain")
    killed("vercel_redeploy", given, api, "POST /v13/deployments")
    again = run_module("vercel_redeploy", given)
    assert not again.failed, again.result
    assert (api.live, api.requests.count("POST /v13/deployments")) == (list(api.deployments)[-1], 1)


@pytest.mark.parametrize("on", ["PATCH", "DELETE", "POST"])
def test_a_set_of_variables_is_restored_to_its_end(api, given, killed, on):
    asked = {name: value for name, value in given.items() if name not in ("version_url", "poll_s", "served_timeout_s")}
    asked |= {"snapshot_key": KEY}
    kept = run_module("vercel_env_snapshot", asked)
    before = {(each["key"], each["value"]) for each in api.variables.values()}
    api.put_env("PUBLIC_NAME", "x", type="plain")
    api.put_env("ADDED", "x", type="plain")
    api.variables = {name: each for name, each in api.variables.items() if each["key"] != "SERVICE_KEY"}
    asked |= {"snapshot": kept.result["snapshot"]}
    killed("vercel_env_restore", asked, api, on)
    again = run_module("vercel_env_restore", asked)
    assert not again.failed, again.result
    assert {(each["key"], each["value"]) for each in api.variables.values()} == before
    assert not run_module("vercel_env_restore", asked).result["changed"]
