"""The lease of work that has no database: taken by a proof, renewed and given back by ansible-playbook."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import lease_wait, permits, state_lease, state_store
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.run import Approval
from ansible.module_utils.runbook.rules.target import Target
from conftest import S3, a_run, approve, as_environ, run_module

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ansible.module_utils.runbook.rules.run import Run

TARGET = Target("bucket", "AWS", "files")
NAME = "leases/bucket-files"
APPROVAL = Approval("", "sandbox", "files_mirror.yml")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """A state store of one bastion."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return {"state_directory": str(folder), "lease_wait_s": 0}


@pytest.fixture
def store(options: dict[str, Any]) -> state_store.StateStore:
    made = state_lease.store_of(options, "sandbox")
    assert made is not None
    return made


@pytest.fixture
def take(options: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    def call(run: Run, **more: Any) -> dict[str, Any]:
        params = options | more
        return lease_wait.wait_for(
            lambda: state_lease.take(params, run, TARGET, APPROVAL), params, lambda *_progress: None
        )

    return call


def expire(store: state_store.StateStore) -> None:
    """Let the lease be one that nobody renewed."""
    found = store.read(NAME)
    assert found.document is not None
    then = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    store.replace(replace(found.document, body=found.document.body | {"expires_at": then}, token="x"), found.version)


def test_one_run_has_it_until_it_ends_or_dies(take, store):
    one, two = a_run("one"), a_run("two")
    assert take(replace(one, check_mode=True)) == {"name": NAME, "decision": "acquire", "expires_at": None}
    assert store.read(NAME).document is None
    assert take(one)["decision"] == "acquire"
    # Another host of the same run.
    assert take(one)["decision"] == "renew"
    for run in (two, replace(two, check_mode=True)):
        with pytest.raises(RunbookError, match=r"bucket-files is held by run one \(files_mirror.yml, ") as refused:
            take(run)
        assert refused.value.code == "lease_held"
    expire(store)
    assert take(two)["decision"] == "take_over"
    assert not state_lease.release(store, "one", NAME)
    assert state_lease.release(store, "two", NAME)
    assert take(one)["decision"] == "acquire"


def test_it_is_taken_at_once_from_a_dead_process_of_this_machine(take):
    one = a_run("one")
    boot = str(one.process).rpartition(" ")[0].rpartition(" ")[0]
    take(replace(one, process=f"{boot} 4194304 1"))
    assert take(a_run("two"))["decision"] == "take_over"
    take(replace(one, id="two", process="another-boot pid:[1] 1 1"))
    with pytest.raises(RunbookError, match="is held by run two"):
        take(a_run("three"))


def test_it_is_waited_for_in_bounds(take, store):
    take(a_run("one"))
    timer = threading.Timer(0.5, state_lease.release, [store, "one", NAME])
    timer.start()
    assert take(a_run("two"), lease_wait_s=60)["decision"] == "acquire"
    timer.join()
    with pytest.raises(RunbookError, match="is held"):
        take(a_run("three"), lease_wait_s=1)


def test_of_many_at_once_one_has_it(take):
    runs = [a_run(f"run-{number}") for number in range(4)]
    together, won, lost = threading.Barrier(4), [], []

    def work(run: Run) -> None:
        together.wait(60)
        try:
            won.append(take(run)["name"])
        except RunbookError as error:
            lost.append(error.code)

    threads = [threading.Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), lost) == (1, ["lease_held"] * 3)


def test_it_is_renewed_while_the_run_lives_and_given_back_at_its_end(take, store):
    run = a_run("one")
    said: list[str] = []
    take(run)
    expire(store)
    renewed = threading.Event()
    keeper = state_lease.Keeper(run, said.append, every_s=0.01)
    keeper.hold(NAME, _watched(store, renewed), TARGET)
    assert renewed.wait(60)
    with pytest.raises(RunbookError, match="is held by run one"):
        take(a_run("two"))
    keeper.stop()
    assert state_lease.give_back(store, "one", NAME) == ""
    assert store.read(NAME).document is None
    assert said == []


def test_what_cannot_be_given_back_is_said(take, tmp_path):
    run = a_run("one")
    take(run)
    gone = state_store.Folder(tmp_path / "gone", "sandbox")
    assert f"{NAME} was not given back, and ends by itself" in state_lease.give_back(gone, "one", NAME)


def test_a_run_that_lost_it_permits_no_more_writes(take, store):
    run = a_run("one")
    approve(run, "sandbox")
    permits.grant(run, TARGET)
    take(run)
    expire(store)
    take(a_run("two"))
    told = threading.Event()
    said: list[str] = []

    def complain(text: str) -> None:
        said.append(text)
        told.set()

    permits.require(run, TARGET, "sandbox")
    keeper = state_lease.Keeper(run, complain, every_s=0.01)
    keeper.hold(NAME, store, TARGET)
    assert told.wait(60)
    keeper.stop()
    assert "this run lost its lease, run two on " in said[0]
    with pytest.raises(RunbookError, match="has not passed preflight for bucket files"):
        permits.require(run, TARGET, "sandbox")
    # What is another run's stays there.
    assert store.read(NAME).document is not None


def test_a_proof_takes_it_before_it_permits_anything(s3: S3, options, tmp_path):
    bucket, one, two = s3.bucket(), a_run("one"), a_run("two")
    given = s3.options(bucket) | options
    for run in (one, two):
        approve(run, "sandbox", playbook="files_mirror.yml")
    taken = run_module("s3_preflight", given, **as_environ(one))
    assert taken.result["lease"]["decision"] == "acquire"
    assert taken.result["checks"][-1]["msg"] == f"This run holds leases/bucket-{bucket} in the state store."
    refused = run_module("s3_preflight", given, **as_environ(two))
    assert "is held by run one (files_mirror.yml, " in refused.result["msg"]
    assert permits.of(two) == []
    elsewhere = run_module("s3_preflight", given | {"take_lease": False}, **as_environ(two))
    assert elsewhere.result["lease"]["decision"] == "none"
    gone = given | {"state_directory": str(tmp_path / "gone")}
    down = run_module("s3_preflight", gone, **as_environ(two))
    assert (down.failed, down.result["status"]) == (True, "unknown")
    nowhere = run_module("s3_preflight", s3.options(bucket), **as_environ(two))
    assert "No state store is named" in json.dumps(nowhere.result["checks"])


def _watched(store: state_store.StateStore, renewed: threading.Event) -> Any:
    """The store, which tells when something in it was replaced."""

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def replace(self, *given: Any) -> str:
            version = store.replace(*given)
            renewed.set()
            return version

    return Watched()


def test_who_holds_leases_is_shown_and_which_are_over(take, store, options, tmp_path):
    take(a_run("dead"))
    expire(store)
    params = options | {"lease_wait_s": 0}
    state_lease.take(params, a_run("alive"), replace(TARGET, kind="vercel_project", name="prj_1"), APPROVAL)
    asked = {"environment": "sandbox", "state_directory": options["state_directory"]}
    shown = run_module("state_lease_info", asked).result
    assert shown["msg"] == f"1 lease is held, 1 is over in {store}."
    over, held = shown["leases"]
    assert (over["target"], over["run_id"], over["purpose"], over["expired"]) == (
        "bucket files", "dead", "files_mirror.yml", True,
    )  # fmt: skip
    assert re.fullmatch(
        r"bucket files: run dead \(files_mirror\.yml, .*\), since [\d-]+ [\d:]+ UTC, had the lease until [\d-]+ [\d:]+ "
        r"UTC; it keeps nobody away, and the next run takes it over\.",
        over["msg"],
    )
    assert (held["target"], held["expired"]) == ("vercel project prj_1", False)
    # One that is damaged is unknown, and hides no other.
    path = tmp_path / "state/sandbox/leases/repository-x.json"
    path.write_text("{torn")
    damaged = run_module("state_lease_info", asked)
    assert (damaged.failed, damaged.result["status"]) == (True, "unknown")
    assert damaged.result["msg"].startswith("1 lease is held, 1 is over, 1 cannot be read in ")
    assert [check["subject"] for check in damaged.result["checks"] if check["status"] == "unknown"] == ["repository x"]
    path.unlink()
    project = Project.for_application(tmp_path)
    none = project.run("lease.yml")
    assert none.code == 0, none.output
    assert "names no state store" in " ".join(none.output.split())
    project.all_vars["state_directory"] = options["state_directory"]
    ended = project.run("lease.yml")
    assert ended.code == 0, ended.output
    assert over["msg"] in " ".join(ended.output.split())


def test_a_state_store_without_a_lease_is_well_and_one_that_is_not_there_is_unknown(options, tmp_path):
    asked = {"environment": "sandbox", "state_directory": options["state_directory"]}
    empty = run_module("state_lease_info", asked)
    assert (empty.failed, empty.result["status"], empty.result["leases"]) == (False, "ok", [])
    assert empty.result["msg"].startswith("0 leases are held in ")
    gone = run_module("state_lease_info", asked | {"state_directory": str(tmp_path / "gone")})
    assert (gone.failed, gone.result["status"]) == (True, "unknown")


def test_a_database_that_does_not_answer_hides_no_lease_of_the_state_store(take, options, tmp_path):
    take(a_run("alive"))
    project = Project.for_application(tmp_path)
    project.all_vars["state_directory"] = options["state_directory"]
    gone = {"db_login_host": "127.0.0.1", "db_login_port": 1, "db_login_user": "u", "db_login_db": "d"}
    project.hosts = {
        name: gone | {"db_ssl_mode": "prefer", "preflight_system_identifier": "7"} for name in ("db1", "db2")
    }
    project.applications = {}
    ended = project.run("lease.yml")
    assert ended.code != 0
    shown = [each["leases"] for each in ended.results["state_lease_info"] if "leases" in each]
    assert [[each["purpose"] for each in leases] for leases in shown] == [["files_mirror.yml"]], ended.output
    path = tmp_path / "state/sandbox/leases/repository-x.json"
    path.write_text("{torn")
    ended = project.run("lease.yml", "--limit", "db2")
    # What is damaged is named, and hides no other.
    said = " ".join(ended.output.split())
    assert "bucket files: run alive (files_mirror.yml" in said, ended.output
    assert "repository-x" in said
