"""The module change_open: one change at a time, known before anything is opened for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.drivers.state_store import Folder
from conftest import Outcome, a_run, approve, as_environ, run_module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ansible.module_utils.runbook.rules.run import Run

REASON = "Weekly maintenance of the database"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[[str], Run]:
    def make(run_id: str) -> Run:
        directory = tmp_path / run_id
        directory.mkdir()
        run = a_run(run_id, directory=directory)
        approve(run, "sandbox", playbook="weekly_db.yml")
        return run

    return make


def opened(root: Path, run: Run, *, check: bool = False, **options: Any) -> Outcome:
    given = {"reason": REASON, "state_directory": str(root)} | options
    return run_module("change_open", given, check=check, permitted=False, **as_environ(run))


def test_a_change_is_opened_once_and_found_again(root: Path, new_run: Callable[[str], Run]):
    run = new_run("one")
    planned = opened(root, run, check=True).result
    assert (planned["changed"], list(root.rglob("*.json"))) == (True, [])
    first = opened(root, run).result
    assert (first["status"], first["changed"], first["change_id"]) == ("ok", True, "one")
    assert first["lease"]["name"] == "leases/change-sandbox"
    assert planned["msg"].split(" until")[0] == first["msg"].split(" until")[0]
    again = opened(root, run, reason="another").result
    assert (again["changed"], again["until"]) == (False, first["until"])
    found = Changes(Folder(root, "sandbox"), run).current()
    assert found is not None
    assert (found.playbook, found.reason, found.machine) == ("weekly_db.yml", REASON, run.process)


def test_two_changes_at_once_are_one(root: Path, new_run: Callable[[str], Run]):
    one, two = new_run("one"), new_run("two")
    assert not opened(root, one).failed
    refused = opened(root, two)
    assert refused.failed
    assert "leases/change-sandbox is held by run one" in refused.result["msg"]
    assert [each.change.id for each in Changes(Folder(root, "sandbox"), two).all()] == ["one"]


def test_what_a_dead_run_left_open_is_in_the_way(root: Path, new_run: Callable[[str], Run]):
    dead, two = new_run("dead"), new_run("two")
    assert not opened(root, dead).failed
    changes = Changes(Folder(root, "sandbox"), dead)
    gone = " ".join([*str(dead.process).split()[:3], "1"])
    changes.update("dead", lambda change: replace(change, machine=gone))
    (root / "sandbox/leases/change-sandbox.json").unlink()
    refused = opened(root, two)
    assert refused.failed
    assert "Change dead (Weekly maintenance of the database, until " in refused.result["msg"]
    assert [each["status"] for each in refused.result["checks"]] == ["ok", "breach"]


@pytest.mark.parametrize(("options", "words"), [
    ({"reason": " \n"}, "reason: it is empty"),
    ({"most_s": 59}, "most_s: 59 is out of bounds"),
    ({"state_directory": ""}, "neither is set, and what has to be known after this run has no place"),
])  # fmt: skip
def test_what_is_asked_for_wrongly_changes_nothing(root: Path, new_run: Callable[[str], Run], options, words):
    refused = opened(root, new_run("one"), **options)
    assert refused.failed
    assert words in refused.result["msg"]
    assert list(root.rglob("*.json")) == []


def test_a_run_without_preflight_opens_nothing(root: Path, tmp_path: Path):
    refused = opened(root, a_run("one", directory=tmp_path))
    assert "has not passed preflight" in refused.result["msg"]
