"""Updates of an application's packages: real pnpm, a real registry, real git repositories."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import child_process
from ansible.module_utils.runbook.drivers.sandbox.npm_registry import PNPM, VERDACCIO, Registry, fetched
from ansible.module_utils.runbook.errors import RunbookError
from conftest import ROOT, Outcome, run_module
from git_remotes import Remote

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD = "2026-01-01T00:00:00.000Z"
CACHE = ROOT / ".cache" / "npm"
CHANGELOG = "# Changelog\n\n## 2.0.0\n\n### Breaking changes\n\n- The first argument is gone.\n\n## 1.0.0\n\n- First.\n"
#: As npm of before 2026 had it, with a lock file that pnpm of today wrote.
MANIFEST = {
    "name": "web",
    "version": "1.0.0",
    "private": True,
    "scripts": {
        "test": "node -e \"if (!require('ranged').startsWith('1.')) process.exit(1)\"",
        "red": "node -e \"console.log('it is red'); process.exit(1)\"",
        "strict": "node -e \"if (require('ranged') !== '1.0.0') {console.log('needs 1.0.0'); process.exit(1)}\"",
    },
    "dependencies": {"ranged": "^1.0.0", "leaps": "^1.0.0", "outer": "^1.0.0", "pinned": "1.0.0"},
}


@pytest.fixture(scope="module")
def pnpm() -> Path:
    try:
        return fetched(CACHE, *PNPM)
    except RunbookError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry in which each package has newer versions."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-npm-"))
    try:
        made = Registry(folder, verdaccio=fetched(CACHE, *VERDACCIO))
    except RunbookError as error:
        pytest.skip(error.message)
    made = made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def first_lock(registry: Registry, pnpm: Path) -> str:
    """The lock file of the application, of the time in which each package had one version."""
    for name in ("ranged", "leaps", "inner", "pinned"):
        registry.publish(name, "1.0.0", OLD)
    registry.publish("outer", "1.0.0", OLD, dependencies={"inner": "^1.0.0"})
    folder = Path(tempfile.mkdtemp(prefix="runbook-npm-app-"))
    (folder / "package.json").write_text(json.dumps(MANIFEST))
    (folder / ".npmrc").write_text(f"registry={registry.url}/\n")
    home = {"HOME": str(folder), "PATH": os.environ["PATH"], "CI": "true"}
    done = child_process.run([str(pnpm), "install", "--lockfile-only"], env=home, cwd=folder, timeout_s=60)
    assert done.code == 0, done.stderr
    lock = (folder / "pnpm-lock.yaml").read_text()
    shutil.rmtree(folder)
    registry.publish("ranged", "1.1.0", OLD)
    registry.publish("ranged", "1.2.0", datetime.now(UTC).isoformat())
    registry.publish(
        "leaps", "2.0.0", OLD, {"CHANGELOG.md": CHANGELOG}, repository={"url": "https://example.org/leaps"}
    )
    registry.publish("inner", "1.0.1", OLD)
    registry.publish("pinned", "1.1.0", OLD)
    return lock


@pytest.fixture
def remote(tmp_path: Path, registry: Registry, first_lock: str) -> Remote:
    """The application as its developers left it."""
    return Remote.new(
        tmp_path / "git",
        {
            "package.json": json.dumps(MANIFEST, indent=2) + "\n",
            "pnpm-lock.yaml": first_lock,
            ".npmrc": f"registry={registry.url}/\n",
            "index.js": "",
        },
    )


def update(remote: Remote, program: Path, *, check: bool = False, diff: bool = False, **options: Any) -> Outcome:
    common = {"base_branch": "main", "branch": "runbook/updates", "scripts": ["test"], "pnpm": str(program)}
    return run_module("app_update", remote.options(**common | options), check=check, diff=diff)


def info(remote: Remote, pnpm: Path, **options: Any) -> Outcome:
    return run_module("app_updates_info", remote.options(branch="main", pnpm=str(pnpm), **options))


def lock_of(remote: Remote, commit: str) -> str:
    return remote.show(commit, "pnpm-lock.yaml")


def test_what_is_outdated_is_listed(remote: Remote, pnpm: Path):
    said = info(remote, pnpm).result
    assert (said["status"], said["outdated_packages"]) == ("ok", 3), said
    assert {each["package"]: (each["latest"], each["step"]) for each in said["outdated"]} == {
        "leaps": ("2.0.0", "major"), "pinned": ("1.1.0", "minor"), "ranged": ("1.1.0", "minor"),
    }  # fmt: skip
    assert said["majors"] == [{"package": "leaps", "from": "1.0.0", "to": "2.0.0", "branch": "runbook/major-leaps"}]


def test_packages_are_updated_within_their_ranges_on_a_branch(remote: Remote, pnpm: Path):
    main = remote.head("main")
    planned = update(remote, pnpm, check=True, diff=True).result
    assert planned["changed"], planned
    assert not remote.head("runbook/updates")
    assert "ranged 1.0.0 -> 1.1.0" in planned["diff"]["prepared"]
    done = update(remote, pnpm).result
    assert done["changed"], done
    assert [planned[key] for key in ("updates", "held_back")] == [done[key] for key in ("updates", "held_back")]
    assert [(each["package"], each["to"], each["is_direct"]) for each in done["updates"]] == [
        ("ranged", "1.1.0", True), ("inner", "1.0.1", False),
    ]  # fmt: skip
    held = {each["package"]: each["why"] for each in done["held_back"]}
    assert held["leaps"].startswith("a major version")
    assert held["pinned"] == "package.json asks for 1.0.0"
    assert held["ranged"].startswith("published ")
    assert (done["commit"], done["scripts"]) == (remote.head("runbook/updates"), ["test"])
    assert remote("rev-parse", "runbook/updates^") == main == remote.head("main")
    assert remote("diff", "--name-only", "main", "runbook/updates").split() == ["package.json", "pnpm-lock.yaml"]
    assert "ranged@1.1.0" in lock_of(remote, "runbook/updates")
    message = remote("log", "-1", "--format=%B", "runbook/updates")
    assert message.startswith("Update ranged from 1.0.0 to 1.1.0")
    assert "Tested with: test" in message
    again = update(remote, pnpm).result
    assert (again["changed"], again["commit"]) == (False, done["commit"]), again["msg"]
    # The branch that is updated moved on: so does the update.
    moved = remote.push("main", {"index.js": "//\n"})
    later = update(remote, pnpm).result
    assert later["changed"]
    assert remote("rev-parse", "runbook/updates^") == moved


def test_a_branch_on_which_somebody_else_works_is_not_replaced(remote: Remote, pnpm: Path):
    assert update(remote, pnpm).result["changed"]
    theirs = remote.push("runbook/updates", {"index.js": "// adapted\n"})
    remote.push("main", {"index.js": "//\n"})
    refused = update(remote, pnpm)
    assert "somebody else has committed to runbook/updates" in refused.result["msg"]
    assert remote.head("runbook/updates") == theirs
    remote("update-ref", "-d", "refs/heads/runbook/updates")
    assert update(remote, pnpm).result["changed"]


def test_a_major_version_with_what_breaks_in_it(remote: Remote, pnpm: Path):
    done = update(
        remote, pnpm, branch="runbook/major-leaps", packages=[{"package": "leaps", "to": "2.0.0"}]
    ).result  # fmt: skip
    assert done["changed"], done
    assert [(each["package"], each["step"]) for each in done["updates"]] == [("leaps", "major")]
    assert done["changelogs"] == [
        {
            "package": "leaps", "from": "1.0.0", "to": "2.0.0", "source": "https://example.org/leaps",
            "lines": ["## 2.0.0", "### Breaking changes", "", "- The first argument is gone."],
        }
    ]  # fmt: skip
    assert done["held_back"] == []
    assert '"leaps": "^2.0.0"' in remote.show("runbook/major-leaps", "package.json")


def test_a_package_that_comes_with_another_one_is_updated(remote: Remote, pnpm: Path):
    done = update(remote, pnpm, branch="runbook/security", packages=[{"package": "inner", "to": "1.0.1"}]).result
    assert [(each["package"], each["to"]) for each in done["updates"]] == [("inner", "1.0.1")], done
    stuck = update(remote, pnpm, branch="runbook/security", packages=[{"package": "inner", "to": "2.0.0"}]).result
    assert "inner 1.0.1 stays in the lock file, because another package's range" in stuck["msg"]
    absent = update(remote, pnpm, packages=[{"package": "never", "to": "2.0.0"}]).result
    assert absent["msg"].startswith("packages: the lock file has no never")


@pytest.mark.parametrize(
    ("script", "because", "said"),
    [
        ("red", "it is red without the update too", "it is red"),
        ("strict", "it is green without the update", "needs 1.0.0"),
    ],
)
def test_red_tests_keep_the_update_back(remote: Remote, pnpm: Path, script: str, because: str, said: str):
    red = update(remote, pnpm, scripts=["test", script])
    assert red.failed
    assert because in red.result["msg"]
    assert red.result["scripts"] == ["test"]
    assert said in red.result["output"]
    assert not remote.head("runbook/updates")
    # With other updates to come the task goes on, and is not ok.
    told = update(remote, pnpm, scripts=["test", script], blocks=False)
    assert (told.failed, told.result["status"], told.result["code"]) == (False, "breach", "tests_red")
    assert told.result["branch"] == "runbook/updates"
    assert not update(remote, pnpm, blocks=False, scripts=["red"], committer_email="").result.get("code")


def test_scripts_of_the_application_get_nothing_of_ours(remote: Remote, pnpm: Path, tmp_path: Path):
    out = tmp_path / "environment.json"
    write = f"node -e \"require('fs').writeFileSync('{out}', JSON.stringify(process.env))\""
    manifest = MANIFEST | {"scripts": {"env": write}}
    remote.push("main", {"package.json": json.dumps(manifest)})
    done = run_module(
        "app_update",
        remote.options(
            base_branch="main", branch="runbook/updates", scripts=["env"], pnpm=str(pnpm),
            repository_token="c4n4ry-t0ken",
        ),
        AWS_SECRET_ACCESS_KEY="c4n4ry-s3cret",
        SSH_AUTH_SOCK="/c4n4ry",
    )  # fmt: skip
    assert done.result["changed"], done.result
    found = out.read_text()
    assert "c4n4ry" not in found
    assert "RUNBOOK_" not in found
    assert "c4n4ry" not in json.dumps(done.result)


def test_a_package_that_vanished_from_the_registry_is_unknown(remote: Remote, pnpm: Path, registry: Registry):
    kept = registry.storage / "pinned"
    aside = registry.folder / "aside"
    kept.rename(aside)
    try:
        for done in (info(remote, pnpm), update(remote, pnpm)):
            assert done.failed
            assert done.result["status"] == "unknown"
            assert "pnpm outdated: no result (ERR_PNPM_" in done.result["msg"]
    finally:
        aside.rename(kept)
    assert not remote.head("runbook/updates")


def test_a_lock_file_of_conflicts_is_named(remote: Remote, pnpm: Path):
    lock = lock_of(remote, "main")
    remote.push("main", {"pnpm-lock.yaml": f"<<<<<<< HEAD\n{lock}=======\n{lock}>>>>>>> other\n"})
    refused = update(remote, pnpm)
    assert refused.failed
    assert "is no YAML from line" in refused.result["msg"], refused.result["msg"]
    remote.push("main", {"pnpm-lock.yaml": None})
    assert "pnpm-lock.yaml: the application has none" in update(remote, pnpm).result["msg"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 10.15.0", "pnpm 10.15.0 gives no result that can be relied on"),
        ("exit 1", "pnpm here gives no result"),
        ('[ "$1" = --version ] && echo 11.0.0 && exit; echo "{broken"; exit 1', "no result (exit code 1)"),
        ('[ "$1" = --version ] && echo 11.0.0 && exit; echo "410 Gone"; exit 1', "no result (exit code 1)"),
        ('[ "$1" = --version ] && echo 11.0.0 && exit; sleep 600', "did not end in the time that was left"),
    ],
)
def test_a_pnpm_that_gives_no_result_is_unknown(remote: Remote, tmp_path: Path, script: str, says: str):
    program = tmp_path / "pnpm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    said = info(remote, program, deadline_s=1 if "sleep" in script else 300)
    assert said.failed
    assert (said.result["status"], says in said.result["msg"]) == ("unknown", True), said.result["msg"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pnpm": "/nowhere/pnpm"}, "pnpm: /nowhere/pnpm is not there"),
        ({"scripts": []}, "scripts: it is empty"),
        ({"scripts": ["lint"]}, "scripts: package.json has no script lint"),
        ({"branch": "main"}, "branch: 'main' is no branch of updates"),
        ({"base_branch": "a..b"}, "base_branch: 'a..b' is not the name of a branch"),
        ({"deadline_s": 0}, "deadline_s: 0 is out of bounds"),
        ({"committer_email": ""}, "committer_email: it is not set"),
    ],
)
def test_bad_input_is_named(remote: Remote, pnpm: Path, options: dict[str, Any], says: str):
    refused = update(remote, pnpm, **options)
    assert refused.failed
    assert says in refused.result["msg"], refused.result["msg"]
    assert not remote.head("runbook/updates")
