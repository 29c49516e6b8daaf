"""The application of the sandbox: made, started, stopped and removed."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest
from ansible.module_utils.runbook.drivers.sandbox.npm_registry import PNPM, VERDACCIO, fetched
from ansible.module_utils.runbook.errors import RunbookError
from conftest import ROOT, Outcome, run_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CACHE = ROOT / ".cache" / "npm"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    try:
        for program in (PNPM, VERDACCIO):
            fetched(CACHE, *program)
    except RunbookError as error:
        pytest.skip(error.message)
    yield tmp_path / "application"
    application(tmp_path / "application", state="absent")


def application(home: Path, *, check: bool = False, **options: Any) -> Outcome:
    common = {"path": str(home), "fakes_path": str(ROOT / "tests"), "cache_path": str(CACHE)}
    return run_module("sandbox_application", common | options, check=check)


def test_the_application_of_the_sandbox(home: Path):
    planned = application(home, check=True).result
    assert (planned["changed"], home.exists()) == (True, False), planned
    made = application(home).result
    assert made["changed"], made
    state = json.loads((home / "state.json").read_text())
    known = state["services"]
    repository = known["application"]["repository"]
    shown = subprocess.run(
        ["git", "-C", repository, "show", "main:pnpm-lock.yaml"], capture_output=True, text=True, check=True
    ).stdout
    assert "note-markup@1.2.0" in shown
    with urlopen(f"{known['application']['registry']}/note-markup") as answer:  # noqa: S310 - on loopback
        assert list(json.load(answer)["versions"]) == ["1.2.0", "1.2.1"]
    with urlopen(f"{known['live']['url']}/health") as answer:  # noqa: S310
        assert answer.status == 200
    # What is deployed can be rolled back from in git.
    commits = subprocess.run(["git", "-C", repository, "rev-list", "--all"], capture_output=True, text=True, check=True)
    vercel = known["vercel"]
    query = f"projectId={vercel['project_id']}&teamId={vercel['team_id']}"
    asked = Request(  # noqa: S310 - on loopback
        f"{vercel['url']}/v7/deployments?{query}", headers={"Authorization": f"Bearer {vercel['access_token']}"}
    )
    with urlopen(asked) as answer:  # noqa: S310
        deployed = {each["meta"]["githubCommitSha"] for each in json.load(answer)["deployments"]}
    assert deployed
    assert deployed <= set(commits.stdout.split())
    assert not application(home).result["changed"]
    assert application(home, state="stopped").result["changed"]
    assert not application(home, state="stopped").result["changed"]
    # What was pushed meanwhile is deployed when it comes back.
    again = application(home).result
    assert again["changed"], again
    assert (
        json.loads((home / "state.json").read_text())["services"]["application"]["root"] == known["application"]["root"]
    )
    assert application(home, state="absent").result["changed"]
    assert not home.exists()


def test_a_machine_without_npm_is_told(home: Path, tmp_path: Path):
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("git", "sh", "setpriv"):
        if shutil.which(name):
            (bare / name).symlink_to(str(shutil.which(name)))
    told = run_module(
        "sandbox_application",
        {"path": str(home), "fakes_path": str(ROOT / "tests"), "cache_path": str(tmp_path / "cache")},
        PATH=str(bare),
    )
    assert told.failed
    assert "pnpm is fetched by npm, which is not installed" in told.result["msg"]
