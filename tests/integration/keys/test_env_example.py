"""env_example_update with a real repository."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from conftest import run_module
from fakes.vercel import OPTIONS, FakeVercel
from git_remotes import Remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = "runbook/env-example"


@pytest.fixture
def api() -> Iterator[FakeVercel]:
    with FakeVercel() as fake:
        yield fake


def options(api: FakeVercel, remote: Remote) -> dict[str, Any]:
    return remote.options(branch="main", vercel=OPTIONS | {"api_url": api.url})


def test_new_names_come_as_a_branch_and_only_once(api: FakeVercel, tmp_path: Path):
    remote = Remote.new(tmp_path, {".env.example": "PUBLIC_NAME=Mental Scribe\nGONE=\n"})
    planned = run_module("env_example_update", options(api, remote), check=True, diff=True).result
    assert (planned["changed"], planned["added"], remote.head(OWN)) == (True, ["SERVICE_KEY"], "")
    assert planned["diff"]["prepared"] == "SERVICE_KEY=\n"
    done = run_module("env_example_update", options(api, remote)).result
    assert (done["pushed_to"], done["unknown_names"]) == (OWN, ["GONE"])
    text = remote("show", f"{remote.head(OWN)}:.env.example")
    assert text.splitlines()[-1] == "SERVICE_KEY="
    first = remote.head(OWN)
    again = run_module("env_example_update", options(api, remote)).result
    assert (again["changed"], remote.head(OWN)) == (False, first)
    assert "An earlier run named" in again["msg"]
    # Meanwhile the branch moved on: ours is made again on top of it.
    remote.push("main", {"page.txt": "new\n"})
    assert run_module("env_example_update", options(api, remote)).result["changed"]
    assert remote.head(OWN) != first
    remote.push("main", {".env.example": text + "\n"})
    merged = run_module("env_example_update", options(api, remote)).result
    assert (merged["changed"], merged["added"]) == (False, [])
    # No value of the project was asked for, or is anywhere.
    secret = next(each["value"] for each in api.variables.values() if each["key"] == "SERVICE_KEY")
    assert secret not in json.dumps([planned, done, again])


def test_a_value_that_looks_alive_stops_it(api: FakeVercel, tmp_path: Path):
    secret = "sb_secret_" + "0123456789abcdef" * 2
    remote = Remote.new(tmp_path, {".env.example": f"A=\nSERVICE_KEY={secret}\n"})
    red = run_module("env_example_update", options(api, remote))
    assert red.failed
    assert "SERVICE_KEY (line 2)" in red.result["msg"]
    assert secret not in json.dumps(red.result)
    assert remote.head(OWN) == ""


def test_it_asks_for_a_permit_of_its_repository(api: FakeVercel, tmp_path: Path):
    remote = Remote.new(tmp_path, {".env.example": "A=\n"})
    refused = run_module("env_example_update", options(api, remote), permitted=False)
    assert "has not passed preflight" in refused.result["msg"]
