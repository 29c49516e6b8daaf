"""What a rollback went back from is taken back in real repositories: merges, conflicts, protected branches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import Outcome, a_run, as_environ, run_module
from git_remotes import Remote

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote.new(tmp_path, {"a.txt": "one\n", "b.txt": "one\n"})


def revert(remote: Remote, good: str, bad: str, *, check: bool = False, **options: Any) -> Outcome:
    common = {"branch": "main", "good": good, "bad": bad, "environment": "staging"}
    return run_module("repository_revert", remote.options() | common | options, check=check)


def test_commits_and_merges_are_taken_back_on_a_branch_once(remote: Remote):
    good = remote.head("main")
    remote.push("main", {"a.txt": "bad\n"})
    remote.push("feature", {"b.txt": "bad\n"})
    bad = remote.merge("main", "feature")
    head = remote.push("main", {"c.txt": "later\n"})
    own = f"runbook/revert-{bad[:12]}"
    planned = revert(remote, good, bad, check=True)
    assert (planned.result["changed"], planned.result["pushed_to"]) == (True, own)
    assert "Would take back 2 commits" in planned.result["msg"]
    done = revert(remote, good, bad)
    assert not done.failed, done.result
    assert len(done.result["reverted"]) == 2
    assert "Open a pull request" in done.result["follow_ups"][0]
    assert [remote.show(own, name) for name in ("a.txt", "b.txt", "c.txt")] == ["one\n", "one\n", "later\n"]
    assert remote.head("main") == head
    again = revert(remote, good, bad)
    assert (again.failed, again.result["changed"]) == (False, False)
    assert "An earlier run took back" in again.result["msg"]


def test_it_is_pushed_where_the_inventory_allows_it(remote: Remote):
    good = remote.head("main")
    bad = remote.push("main", {"a.txt": "bad\n"})
    done = revert(remote, good, bad, direct=True)
    assert (done.result["pushed_to"], done.result["follow_ups"]) == ("main", [])
    assert remote.show("main", "a.txt") == "one\n"
    again = revert(remote, good, bad, direct=True)
    assert (again.failed, again.result["changed"]) == (False, False)
    assert "taken back already" in again.result["msg"]


def test_a_protected_branch_gets_a_branch_beside_it(remote: Remote):
    good = remote.head("main")
    bad = remote.push("main", {"a.txt": "bad\n"})
    refuse = 'echo "GH006: Protected branch update failed" >&2; exit 1'
    remote.hook("pre-receive", f'while read old new ref; do [ "$ref" != refs/heads/main ] || {{ {refuse}; }}; done')
    done = revert(remote, good, bad, direct=True)
    assert not done.failed, done.result
    assert done.result["pushed_to"] == f"runbook/revert-{bad[:12]}"
    assert "the branch is protected" in done.stderr + str(done.result)
    assert remote.head("main") == bad


def test_a_conflict_pushes_nothing_and_names_the_files(remote: Remote):
    good = remote.head("main")
    bad = remote.push("main", {"a.txt": "bad\n"})
    remote.push("main", {"a.txt": "later\n"})
    for check in (True, False):
        refused = revert(remote, good, bad, check=check)
        assert (refused.failed, refused.result["status"], refused.result["conflicts"]) == (True, "breach", ["a.txt"])
    assert remote("branch", "--list", "runbook/*").strip() == ""


def test_commits_that_are_not_one_after_the_other(remote: Remote, tmp_path: Path):
    good = remote.head("main")
    bad = remote.push("main", {"a.txt": "bad\n"})
    aside = remote.push("feature", {"b.txt": "x\n"})
    assert "is on no branch that was fetched" in revert(remote, aside, bad).result["msg"]
    assert f"Commit {bad[:12]} is not in commit {good[:12]}" in revert(remote, bad, good).result["msg"]
    assert "is not the full id of a commit" in revert(remote, good[:7], bad).result["msg"]
    refused = run_module(
        "repository_revert",
        remote.options() | {"branch": "main", "good": good, "bad": bad, "environment": "staging"},
        permitted=False, **as_environ(a_run(directory=tmp_path)),
    )  # fmt: skip
    assert "has not passed preflight" in refused.result["msg"]
