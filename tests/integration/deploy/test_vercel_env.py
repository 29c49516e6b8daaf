"""The set of environment variables: kept, restored as a whole, built into what is live; killed, refused, in part."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.change.documents import Documents
from ansible.module_utils.runbook.drivers.deploy.seal import Seal
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy.fingerprint import fingerprint
from conftest import Outcome, a_run, approve, as_environ, run_module, this_run
from fakes.http import Fault
from fakes.vercel import OPTIONS, PROJECT, FakeVercel, Site, commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = base64.b64encode(b"k" * 32).decode()
OLD, SECRET = "sb_secret_c4n4ry_" + "a" * 30, "c4n4ry-sensitive-" + "b" * 30
WRITES = ("POST", "PATCH", "DELETE")


@pytest.fixture
def api() -> Iterator[FakeVercel]:
    with FakeVercel() as fake:
        fake.put_env("MAIL_KEY", SECRET, type="sensitive", comment=f"key a {fingerprint('MAIL_KEY', SECRET)}")
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
def act(api: FakeVercel, site: Site, state: Path) -> Any:
    def run(module: str, *, check: bool = False, **options: Any) -> Outcome:
        common: dict[str, Any] = OPTIONS | {"api_url": api.url, "environment": "staging"}
        common |= {"state_directory": str(state)}
        if module == "redeploy":
            common |= {"version_url": f"{site.url}/version", "poll_s": 0.01, "served_timeout_s": 1}
        elif module == "deployment_info":
            common |= {"version_url": f"{site.url}/version"}
        else:
            common |= {"snapshot_key": KEY}
        done = run_module(f"vercel_{module}", common | options, check=check)
        said = json.dumps(done.result) + done.stderr
        assert OLD not in said
        assert SECRET not in said
        assert KEY not in said
        return done

    return run


def value(api: FakeVercel, name: str) -> str | None:
    return next((each["value"] for each in api.variables.values() if each["key"] == name), None)


def writes(api: FakeVercel) -> list[str]:
    return [line for line in api.requests if line.startswith(WRITES)]


def changed(api: FakeVercel) -> None:
    """Somebody changes, removes and adds variables."""
    api.put_env("SERVICE_KEY", "n" * 40)
    api.put_env("MAIL_KEY", "m" * 40, type="sensitive", comment="")
    api.put_env("ADDED", "1", type="plain")
    api.variables = {name: each for name, each in api.variables.items() if each["key"] != "PUBLIC_NAME"}


def test_a_set_is_kept_restored_and_built_in(api, act, state):
    assert act("env_snapshot", check=True).result["changed"]
    assert list(state.rglob("env/*.json")) == []
    taken = act("env_snapshot", reason="before a change")
    name = taken.result["snapshot"]
    assert (taken.result["variables"], taken.result["without_value"]) == (3, ["MAIL_KEY"])
    (document,) = state.rglob("env/*.json")
    assert OLD not in document.read_text()
    # The same set is not kept twice.
    assert not act("env_snapshot").result["changed"]
    changed(api)
    assert "app_config_values has none" in act("env_restore", snapshot=name).result["msg"]
    values = {"MAIL_KEY": SECRET}
    planned = act("env_restore", snapshot=name, values=values, check=True)
    assert [(row["name"], row["act"]) for row in planned.result["rows"]] == [
        ("MAIL_KEY", "changed back"), ("PUBLIC_NAME", "made again"), ("SERVICE_KEY", "changed back"),
        ("ADDED", "removed"),
    ]  # fmt: skip
    assert writes(api) == []
    done = act("env_restore", snapshot=name, values=values)
    assert not done.failed, done.result
    assert [value(api, each) for each in ("SERVICE_KEY", "MAIL_KEY", "PUBLIC_NAME", "ADDED")] == [
        OLD, SECRET, "Mental Scribe", None,
    ]  # fmt: skip
    before = writes(api)
    assert not act("env_restore", snapshot=name, values=values).result["changed"]
    assert writes(api) == before
    # Until it is built, what is live has the variables of its own time.
    was = api.live
    assert act("redeploy", check=True).result["changed"]
    built = act("redeploy")
    assert not built.failed, built.result
    assert (built.result["deployment"]["id"], api.live != was) == (api.live, True)
    assert api.deployments[api.live]["env"]["MAIL_KEY"] == SECRET
    assert not act("redeploy").result["changed"]


def test_a_kept_set_is_opened_with_its_own_key_only(api, act):
    name = act("env_snapshot").result["snapshot"]
    other = base64.b64encode(b"o" * 32).decode()
    assert "sealed with another key" in act("env_restore", snapshot=name, snapshot_key=other).result["msg"]
    assert "no key of 32 bytes" in act("env_snapshot", snapshot_key="short").result["msg"]
    assert "snapshot_key: it is not set" in act("env_snapshot", snapshot_key="").result["msg"]
    # With a new key there is a new snapshot.
    assert act("env_snapshot", snapshot_key=other, check=True).result["changed"]
    seal = Seal(KEY)
    with pytest.raises(RunbookError, match="sealed with another key, or is damaged"):
        seal.open(seal.close("value", "one"), "other")
    assert "the newest are" in act("env_restore").result["msg"]
    assert writes(api) == []


def test_only_the_newest_snapshots_are_kept(api, act, state):
    for number in range(3):
        act("env_snapshot", keep=2)
        api.put_env("NUMBER", str(number), type="plain")
        for path in sorted(state.rglob("env/*.json")):
            # A second later.
            body = json.loads(path.read_text())
            new = path.with_name(path.name.replace("T", f"T0{number}", 1).replace("Z", "", 1)[:40] + "Z.json")
            body["name"] = f"env/{new.stem}"
            path.unlink()
            new.write_text(json.dumps(body))
    assert len(list(state.rglob("env/*.json"))) == 2


@pytest.mark.parametrize("fault", ["lost", "status"])
@pytest.mark.parametrize("on", ["PATCH .*/env/", "DELETE .*/env/", "POST .*/env$"])
def test_a_restore_that_is_stopped_anywhere_goes_on(api, act, on, fault):
    name = act("env_snapshot").result["snapshot"]
    changed(api)
    body = {"error": {"code": "x", "message": f"bad value {OLD}"}}
    api.faults = [Fault(on, "lost")] if fault == "lost" else [Fault(on, "status", 403, body=body)]
    first = act("env_restore", snapshot=name, values={"MAIL_KEY": SECRET})
    if fault == "status":
        assert "run the same command again" in first.result["msg"]
        first = act("env_restore", snapshot=name, values={"MAIL_KEY": SECRET})
    assert not first.failed, first.result
    assert (value(api, "SERVICE_KEY"), value(api, "PUBLIC_NAME"), value(api, "ADDED")) == (OLD, "Mental Scribe", None)


def test_a_set_that_is_written_in_part_is_red(api, act):
    name = act("env_snapshot").result["snapshot"]
    changed(api)
    api.refused = {"PUBLIC_NAME"}
    partly = act("env_restore", snapshot=name, values={"MAIL_KEY": SECRET})
    assert (partly.failed, partly.result["code"]) == (True, "env_partly_written")
    assert partly.result["refused"] == ["PUBLIC_NAME (BAD_REQUEST)"]
    api.refused = set()
    assert not act("env_restore", snapshot=name, values={"MAIL_KEY": SECRET}).failed


def test_a_key_that_was_rotated_since_is_left_as_it_is(api, act, state):
    name = act("env_snapshot").result["snapshot"]
    run = this_run()
    approve(run, "staging")
    at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    rotation = {"env_names": ["SERVICE_KEY"], "at": {"written": at}, "dead_before": None}
    Documents.from_params({"state_directory": str(state)}, run).update(
        f"keys/{PROJECT}-server", lambda _found: rotation
    )
    api.put_env("SERVICE_KEY", "n" * 40)
    done = act("env_restore", snapshot=name)
    assert (done.result["changed"], value(api, "SERVICE_KEY")) == (False, "n" * 40)
    assert done.result["rows"][0]["why"] == f"keys/{PROJECT}-server was rotated since"


def test_a_build_that_fails_changes_nothing_and_is_made_again(api, act):
    was = api.live
    api.put_env("PUBLIC_NAME", "x", type="plain")
    api.build = ["BUILDING", "ERROR"]
    failed = act("redeploy")
    assert (failed.failed, failed.result["code"], api.live) == (True, "deployment_failed", was)
    api.build = ["BUILDING"]
    slow = act("redeploy", build_timeout_s=1)
    assert (slow.result["status"], slow.result["code"]) == ("unknown", "deployment_slow")
    # The next run waits for that one.
    list(api.deployments.values())[-1]["states"] = ["READY"]
    count = len(api.deployments)
    assert not act("redeploy").failed
    assert (len(api.deployments), api.live) == (count, list(api.deployments)[-1])


def test_a_project_that_is_rolled_back_stays_so(api, act, state):
    older = list(api.deployments)[1]
    api.alias_request = None
    api.live, api.auto_assigns = older, False
    api.put_env("PUBLIC_NAME", "x", type="plain")
    done = act("redeploy")
    assert not done.failed, done.result
    assert (done.result["deployment"]["commit"], api.auto_assigns) == (commit(2), False)
    assert api.live == done.result["deployment"]["id"]
    assert "held" not in json.loads(next(state.rglob("rollbacks/*.json")).read_text())["body"]


def test_a_run_that_died_before_it_turned_automatic_domains_off_is_found(api, act):
    older = list(api.deployments)[1]
    api.alias_request = None
    api.live, api.auto_assigns = older, False
    api.put_env("PUBLIC_NAME", "x", type="plain")
    api.faults = [Fault(f"PATCH /v9/projects/{PROJECT}", "status", 403)]
    assert act("redeploy").failed
    assert (api.live != older, api.auto_assigns) == (True, True)
    found = act("deployment_info").result
    (left,) = [each["msg"] for each in found["checks"] if each["name"] == "follow_up"]
    assert (found["status"], "goes live, also what was rolled back from" in left) == ("breach", True), found
    planned, count = act("redeploy", check=True), len(api.deployments)
    assert (planned.result["changed"], api.auto_assigns) == (True, True)
    mended = act("redeploy")
    assert (mended.result["changed"], api.auto_assigns, len(api.deployments)) == (True, False, count), mended.result
    assert "automatic domains are off" in act("deployment_info").result["msg"]
    assert not act("redeploy").result["changed"]


def test_another_deployment_that_is_served_after_the_build_is_red(api, act):
    api.serves = api.live
    api.put_env("PUBLIC_NAME", "x", type="plain")
    assert act("redeploy").result["status"] == "breach"


@pytest.mark.parametrize("module", ["env_snapshot", "env_restore", "redeploy"])
def test_preflight_is_asked_first(api, state, tmp_path, module):
    options = OPTIONS | {"api_url": api.url, "environment": "staging", "state_directory": str(state)}
    if module != "redeploy":
        options |= {"snapshot_key": KEY}
    refused = run_module(f"vercel_{module}", options, permitted=False, **as_environ(a_run(directory=tmp_path)))
    assert "has not passed preflight" in refused.result["msg"]
    assert [line for line in api.requests if PROJECT in line] == []
