"""The way of an update to production: proven on staging, reviewed where a major version is in it, merged, seen live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.updates.proof import Staged
from conftest import Outcome, a_run, as_environ, run_module
from fakes.git_integration import ConnectedVercel
from fakes.http import Fault
from fakes.vercel import OPTIONS, Site
from git_remotes import Remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def lock(**versions: str) -> str:
    """A lock file of pnpm's with these packages."""
    asked = "".join(
        f"      {name}:\n        specifier: ^1.0.0\n        version: {of}\n" for name, of in versions.items()
    )
    packages = "".join(f"  {name}@{of}:\n    resolution: {{integrity: sha512-x}}\n" for name, of in versions.items())
    return f"lockfileVersion: '9.0'\n\nimporters:\n  .:\n    dependencies:\n{asked}\npackages:\n{packages}"


OLD = lock(a="1.0.0", b="1.0.0")
MINOR = lock(a="1.1.0", b="1.0.0")
MAJOR = lock(a="2.0.0", b="1.0.0")


class World:
    """A repository, Vercel that deploys what is pushed to it, and the sites of production and staging."""

    def __init__(self, folder: Path) -> None:
        self.remote = Remote.new(folder / "git", {"package.json": "{}", "pnpm-lock.yaml": OLD, "index.js": ""})
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.remote.push("staging", {}, onto="origin/main")
        self.vercel = ConnectedVercel(self.remote.path)
        self.live, self.staging = Site(self.vercel), Site(self.vercel, branch="staging")

    def branch(self, text: str, name: str = "runbook/updates") -> str:
        """A branch of updates as app_update leaves it."""
        return self.remote.push(name, {"pnpm-lock.yaml": text}, onto="origin/main")

    def run(
        self, module: str, *, check: bool = False, environ: dict[str, Any] | None = None, **options: Any
    ) -> Outcome:
        common = self.remote.options() | OPTIONS | {
            "api_url": self.vercel.url, "branch": "runbook/updates", "state_directory": str(self.state), "poll_s": 0.1,
            "deadline_s": 60,
        }  # fmt: skip
        return run_module(module, common | options, check=check, diff=True, **(environ or {}))

    def stage(self, **options: Any) -> Outcome:
        where = {"version_url": f"{self.staging.url}/version", "health_url": f"{self.staging.url}/health"}
        return self.run("app_update_stage", staging_branch="staging", **where | options)

    def deploy(self, **options: Any) -> Outcome:
        where = {"version_url": f"{self.live.url}/version"}
        return self.run("app_update_deploy", base_branch="main", **where | options)

    def review(self, by: str = "Ada Byron", *, check: bool = False, **options: Any) -> Outcome:
        given = {"branch": "runbook/updates", "base_branch": "main", "by": by, "state_directory": str(self.state)}
        return run_module("app_update_review", self.remote.options(**given | options), check=check)

    def served(self, site: Site) -> str:
        found = site.served()
        assert found
        return str(found["meta"]["githubCommitSha"])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.vercel, made.live, made.staging:
        yield made


def test_an_update_goes_by_staging_to_production(world: World):
    commit, main = world.branch(MINOR), world.remote.head("main")
    early = world.deploy()
    assert "was not proven on staging, and nothing goes to production that was not" in early.result["msg"]
    planned = world.stage(check=True).result
    assert (planned["changed"], world.remote.head("staging") == commit) == (True, False), planned
    staged = world.stage().result
    assert staged["changed"], staged
    assert world.remote.head("staging") == staged["staging_commit"]
    assert world.served(world.staging) == staged["staging_commit"]
    again = world.stage().result
    assert (again["changed"], again["deployment"]) == (False, staged["deployment"]), again
    dry = world.deploy(check=True).result
    assert (dry["changed"], dry["diff"]["prepared"]) == (True, "a 1.0.0 -> 1.1.0\n"), dry
    assert world.remote.head("main") == main
    done = world.deploy().result
    assert done["changed"], done
    assert world.remote.head("main") == done["merge_commit"] == world.served(world.live)
    assert world.remote("rev-parse", "main^1", "main^2").split() == [main, commit]
    assert world.remote.show("main", "pnpm-lock.yaml") == MINOR
    assert "a 1.0.0 -> 1.1.0" in world.remote("log", "-1", "--format=%B", "main")
    assert done["deployment"] == world.vercel.live != done["previous_deployment"]
    second = world.deploy().result
    assert (second["changed"], second["merge_commit"]) == (False, done["merge_commit"]), second


def test_what_was_approved_for_another_step_merges_nothing(world: World):
    world.branch(MINOR)
    assert not world.stage().failed
    main, run = world.remote.head("main"), a_run()
    options = world.remote.options()
    permits.approve(run, "sandbox", "updates.yml stage")
    permits.grant(run, Target("repository", options["repository"], options["repository_root"]))
    refused = world.deploy(environ=as_environ(run))
    assert "has not passed preflight for updates.yml deploy" in refused.result["msg"], refused.result
    assert world.remote.head("main") == main


def test_a_major_version_goes_nowhere_before_somebody_read_of_it(world: World):
    world.branch(MAJOR)
    assert not world.stage().failed
    refused = world.deploy()
    assert "nobody said that the changelog was read: a 1.0.0 -> 2.0.0" in refused.result["msg"]
    assert "is a placeholder" in world.review("TBD").result["msg"]
    assert world.review(check=True).result["changed"]
    assert "nobody said" in world.deploy().result["msg"]
    read = world.review().result
    assert (read["changed"], read["read"]) == (True, ["a 1.0.0 -> 2.0.0"]), read
    assert not world.review().result["changed"]
    done = world.deploy().result
    assert done["reviewed"].startswith("reviewed by Ada Byron at "), done
    assert "reviewed by Ada Byron" in world.remote("log", "-1", "--format=%B", "main")


def test_a_review_and_a_proof_are_of_one_commit(world: World):
    world.branch(MAJOR)
    assert not world.stage().failed
    assert not world.review().failed
    # Somebody adapts the application on the branch: what was read still holds, and yet it is another commit.
    world.remote.push("runbook/updates", {"index.js": "//\n"})
    assert "was not proven on staging" in world.deploy().result["msg"]
    assert not world.stage().failed
    assert "nobody said that the changelog was read" in world.deploy().result["msg"]
    world.branch(MINOR, "runbook/minor")
    assert "brings no major version" in world.review(branch="runbook/minor").result["msg"]


def test_what_production_would_get_must_be_what_was_proven(world: World):
    world.branch(MINOR)
    assert not world.stage().failed
    main = world.remote.push("main", {"pnpm-lock.yaml": lock(a="1.0.5", b="1.0.0")})
    conflict = world.deploy()
    assert "main and runbook/updates changed the same lines (pnpm-lock.yaml)" in conflict.result["msg"]
    assert "run the update again" in conflict.result["msg"]
    main = world.remote.push("main", {"pnpm-lock.yaml": OLD.replace("importers", "# a comment\n\nimporters")})
    differs = world.deploy()
    assert "main has other versions in pnpm-lock.yaml by now" in differs.result["msg"]
    assert world.remote.head("main") == main
    # Code that changed meanwhile does no harm.
    world.remote.push("main", {"pnpm-lock.yaml": OLD, "index.js": "//\n"})
    assert not world.deploy().failed


def test_staging_that_has_other_packages_proves_nothing(world: World):
    world.branch(MINOR)
    world.remote.push("staging", {"pnpm-lock.yaml": OLD.replace("importers", "# a comment\n\nimporters")})
    refused = world.stage()
    assert "staging has other versions in pnpm-lock.yaml than the branch" in refused.result["msg"]
    world.remote.push("staging", {"pnpm-lock.yaml": MAJOR})
    conflict = world.stage()
    assert "staging has other versions in pnpm-lock.yaml than the branch" in conflict.result["msg"]
    assert not list(world.state.rglob("staged-*"))


@pytest.mark.parametrize(
    ("states", "says", "status"),
    [
        (["BUILDING", "ERROR"], "is ERROR", "breach"),
        (["QUEUED"], "is QUEUED after", "unknown"),
    ],
)
def test_a_build_on_staging_that_comes_to_nothing(world: World, states: list[str], says: str, status: str):
    world.branch(MINOR)
    world.vercel.builds["staging"] = states
    failed = world.stage(deadline_s=2)
    assert failed.failed
    assert says in failed.result["msg"]
    assert failed.result["status"] == status
    assert not list(world.state.rglob("staged-*"))
    assert "was not proven on staging" in world.deploy().result["msg"]


def test_staging_that_does_not_work_proves_nothing(world: World):
    commit = world.branch(MINOR)
    world.remote("update-ref", "refs/heads/staging", commit)
    world.staging.broken.add(commit)
    broken = world.stage(deadline_s=3)
    assert "/health answers with 500 instead of 200" in broken.result["msg"]
    assert not list(world.state.rglob("staged-*"))


def test_a_merge_whose_build_fails_names_the_way_back_and_is_gone_on_with(world: World):
    world.branch(MINOR)
    assert not world.stage().failed
    before = world.vercel.live
    world.vercel.builds["main"] = ["ERROR"]
    failed = world.deploy(deadline_s=5)
    assert failed.failed
    assert "playbooks/rollback.yml --tags app" in failed.result["msg"]
    assert failed.result["merge_commit"] == world.remote.head("main")
    assert world.vercel.live == before
    # Somebody built it once more at Vercel.
    world.vercel.builds.clear()
    world.vercel.pushed("main", world.remote.head("main"))
    assert not world.deploy().failed


def test_a_deployment_that_is_not_served_is_not_live(world: World):
    world.branch(MINOR)
    assert not world.stage().failed
    world.vercel.serves = world.vercel.live
    stale = world.deploy(deadline_s=5)
    assert "serves version" in stale.result["msg"]
    assert stale.result["status"] == "breach"
    world.vercel.serves = ""
    assert not world.deploy().failed


def test_after_a_rollback_nothing_is_merged(world: World):
    world.branch(MINOR)
    assert not world.stage().failed
    main, world.vercel.auto_assigns = world.remote.head("main"), False
    assert "Pushes do not go live at Vercel, as after a rollback" in world.deploy().result["msg"]
    world.vercel.auto_assigns, world.vercel.branch = True, "release"
    assert "Vercel builds production from 'release'" in world.deploy().result["msg"]
    assert world.remote.head("main") == main


def test_a_push_that_vercel_does_not_notice_is_unknown(world: World):
    world.branch(MINOR)
    world.vercel.listens = False
    missed = world.stage(deadline_s=2)
    assert "Vercel has made no deployment of commit" in missed.result["msg"]
    assert missed.result["status"] == "unknown"
    world.vercel.listens = True
    assert not world.stage().failed


def test_a_protected_branch_is_told(world: World):
    world.branch(MINOR)
    assert not world.stage().failed
    world.remote.hook("update", 'if [ "$1" = refs/heads/main ]; then echo "protected branch"; exit 1; fi')
    refused = world.deploy()
    assert "pushing main: the branch is protected" in refused.result["msg"]


def test_what_vercel_does_not_say_is_unknown(world: World):
    world.branch(MINOR)
    assert not world.stage().failed
    main = world.remote.head("main")
    world.vercel.faults = [Fault("projects", "status", 500, times=9)]
    refused = world.deploy()
    assert (refused.failed, refused.result["status"]) == (True, "unknown")
    assert world.remote.head("main") == main


def test_a_note_that_cannot_be_read_is_unknown(world: World):
    commit = world.branch(MINOR)
    assert not world.stage().failed
    path = next(world.state.rglob(f"{Staged.document_name(commit).partition('/')[2]}.json"))
    path.write_text("{")
    refused = world.deploy()
    assert (refused.failed, refused.result["status"]) == (True, "unknown")
