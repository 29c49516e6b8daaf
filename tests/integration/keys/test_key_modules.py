"""The modules of keys over real HTTP: what they plan, do, refuse, and never say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.rules.target import Target
from conftest import ENVIRONMENTS, a_run, approve, as_environ, run_module
from fakes.http import Fault
from fakes.loki import FakeLoki
from fakes.supabase import REF
from fakes.supabase import TOKEN as SUPABASE_TOKEN
from fakes.vercel import OPTIONS, PROJECT
from keys import SERVER, Work, a_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Outcome


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    with a_world(tmp_path) as made:
        # The one that run_module approves last.
        made.environment = ENVIRONMENTS[-1]
        yield made


def options(work: Work, *keys: dict[str, Any]) -> dict[str, Any]:
    return {
        "keys": list(keys) or [SERVER],
        "vercel": OPTIONS | {"api_url": work.vercel.url},
        "supabase": {"project_ref": REF, "access_token": SUPABASE_TOKEN, "api_url": work.supabase.url},
        "state_directory": str(work.folder),
    }


def rotate(work: Work, *keys: dict[str, Any], check: bool = False, permitted: bool = True, **more: Any) -> Outcome:
    watched = {"fingerprint_url": f"{work.site.url}/keys", "error_logs": {"backend": "none"}, "poll_s": 1}
    work.vercel.build, work.vercel.moves = ["READY"], ["pending", "succeeded"]
    environ = {name: more.pop(name) for name in list(more) if name.isupper()}
    return run_module(
        "key_rotate", options(work, *keys) | watched | more, check=check, diff=True, permitted=permitted, **environ
    )


def document(work: Work, name: str = "server") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((work.folder / work.environment / "keys" / f"{PROJECT}-{name}.json").read_text())
    return found


def later(work: Work, days: int = 8) -> None:
    """Let the days of grace be over: they began earlier."""
    path = work.folder / work.environment / "keys" / f"{PROJECT}-server.json"
    found = document(work)
    found["body"]["retire_after"] = (datetime.now(UTC) - timedelta(days=days - 7)).isoformat()
    path.write_text(json.dumps(found))


def test_from_a_key_that_is_too_old_to_one_that_is_retired(work: Work):
    old = work.live()
    info = run_module("key_info", options(work)).result
    assert (info["status"], info["to_create"], info["to_retire"]) == ("breach", ["server"], [])
    assert info["rotations"][0]["age_days"] == 100
    planned = rotate(work, check=True).result
    assert (planned["changed"], planned["msg"]) == (True, "Would rotate server.")
    assert "SUPABASE_SECRET_KEY" in planned["diff"]["prepared"]
    assert len(work.supabase.api_keys) == 2
    assert not (work.folder / work.environment / "keys").exists()

    done = rotate(work)
    assert not done.failed, done.result["msg"]
    assert done.result["msg"] == "Rotated server."
    new = work.live()
    assert new != old
    assert work.supabase.accepts(old)
    assert work.supabase.accepts(new)
    again = rotate(work).result
    assert (again["changed"], again["msg"]) == (False, "No key is due.")
    # No value of a key is anywhere but where it belongs.
    said = json.dumps([done.result, done.stderr, document(work)])
    assert not any(value in said for value in (old, new))

    early = run_module("key_retire", options(work)).result
    assert (early["changed"], early["msg"]) == (False, "No old key is to be retired.")
    later(work)
    work.supabase.key_uses = {old: 3, new: 9}
    used = run_module("key_retire", options(work))
    assert used.failed
    assert "3 requests" in used.result["msg"]
    assert work.supabase.accepts(old)
    work.supabase.key_uses = {}
    silent = run_module("key_retire", options(work))
    assert (silent.result["status"], work.supabase.accepts(old)) == ("unknown", True)
    work.supabase.key_uses = {new: 9}
    would = run_module("key_retire", options(work), check=True).result
    assert (would["retired"], work.supabase.accepts(old)) == (["server"], True)
    retired = run_module("key_retire", options(work)).result
    assert (retired["status"], retired["retired"]) == ("ok", ["server"])
    assert not work.supabase.accepts(old)
    assert work.supabase.accepts(work.live())
    body = document(work)["body"]
    assert body["retired_at"]
    assert body["dead_before"] == body["at"]["written"]
    assert run_module("key_info", options(work)).result["status"] == "ok"


def test_applications_that_call_their_keys_the_same_have_a_rotation_each(work: Work):
    assert not rotate(work).failed
    assert replace(work, project_id="prj_other").phase() == ""
    assert work.phase() == "proven"


def test_an_application_that_does_not_get_the_new_key_goes_back_by_itself(work: Work):
    old, before = work.live(), work.vercel.live
    # The new deployment goes live, and users are served the old one all the same: a cache.
    work.vercel.serves = before
    went = rotate(work, fingerprint_wait_s=1)
    assert went.failed
    assert went.result["status"] == "breach"
    assert "Went back: the domains lead to " + before in went.result["msg"]
    assert (work.vercel.live, work.live(), work.set()) == (before, old, old)
    assert document(work)["body"]["phase"] == "gone_back"
    assert "one is promoted" in went.result["follow_ups"][0]
    info = run_module("key_info", options(work)).result
    assert "went back" in info["checks"][0]["msg"]
    # The next run makes a new key, and promotes what it built.
    work.vercel.serves = ""
    done = rotate(work)
    assert not done.failed, done.result["msg"]
    assert work.supabase.accepts(work.live())
    assert len([key for key in work.supabase.api_keys if key["type"] == "secret"]) == 2
    assert work.vercel.auto_assigns


def test_what_a_person_rolled_back_from_does_not_come_back_with_new_keys(work: Work):
    work.vercel.auto_assigns, old = False, work.live()
    done = rotate(work)
    assert not done.failed, done.result["msg"]
    assert (work.live() != old, work.vercel.auto_assigns) == (True, False)
    (said,) = (work.folder / work.environment / "rollbacks").glob("*.json")
    assert "held" not in json.loads(said.read_text())["body"]


@pytest.mark.parametrize(
    ("fault", "says", "phase"),
    [
        (
            Fault("POST /v1/projects/.*/api-keys", "status", 403, body={"message": "Forbidden"}),
            "lacks the right",
            "begun",
        ),
        (
            Fault("POST /v10/projects/.*/env", "status", 400, body={"error": {"code": "x"}}),
            "refused to write",
            "created",
        ),
        (Fault("POST /v13/deployments", "status", 402, body={"error": {"code": "x"}}), "paid", "written"),
        (Fault("GET /v9/projects", "status", 500), "refused", ""),
    ],
)
def test_a_service_that_refuses_leaves_the_old_key_in_use(work: Work, fault: Fault, says: str, phase: str):
    old = work.live()
    fake = work.supabase if "api-keys" in fault.on else work.vercel
    fake.faults.append(fault)
    red = rotate(work)
    assert red.failed
    assert says in red.result["msg"]
    assert work.phase() == phase
    assert work.live() == old
    assert not rotate(work).failed
    assert work.live() != old


def test_a_lost_answer_makes_no_second_key_and_no_second_deployment(work: Work):
    for on, fake in (("POST /v1/projects/.*/api-keys", work.supabase), ("POST /v13/deployments", work.vercel)):
        fake.faults.append(Fault(on, "lost"))
    deployments = len(work.vercel.deployments)
    done = rotate(work)
    assert not done.failed, done.result["msg"]
    assert len([key for key in work.supabase.api_keys if key["type"] == "secret"]) == 2
    assert len(work.vercel.deployments) == deployments + 1


def test_variables_that_are_written_in_part_are_written_whole_by_the_next_run(work: Work):
    two = SERVER | {"env": [{"name": "SUPABASE_SECRET_KEY"}, {"name": "SUPABASE_SECRET_KEY_COPY"}]}
    work.vercel.refused = {"SUPABASE_SECRET_KEY_COPY"}
    red = rotate(work, two)
    assert red.failed
    assert "SUPABASE_SECRET_KEY_COPY (BAD_REQUEST)" in red.result["msg"]
    assert work.phase() == "created"
    work.vercel.refused = set()
    assert not rotate(work, two).failed
    assert work.live() == work.live("SUPABASE_SECRET_KEY_COPY")


def test_a_build_that_fails_leaves_the_old_deployment_live_and_is_tried_again(work: Work):
    old = work.live()
    watched = {"fingerprint_url": f"{work.site.url}/keys", "error_logs": {"backend": "none"}, "poll_s": 1}
    work.vercel.build = ["ERROR"]
    red = run_module("key_rotate", options(work) | watched)
    assert red.failed
    assert "look at its build log" in red.result["msg"].lower()
    assert (work.live(), work.phase()) == (old, "written")
    assert not rotate(work).failed
    assert work.live() != old


def test_what_cannot_be_rotated_is_refused_before_a_key_is_made(work: Work):
    work.supabase.add_key("other")
    many = rotate(work)
    assert "does not say which one is in use" in many.result["msg"]
    assert "other" in many.result["msg"]
    assert not rotate(work, SERVER | {"in_use": "default"}, check=True).failed
    legacy = rotate(work, SERVER | {"kind": "supabase_legacy"})
    assert "Migrate first" in legacy.result["msg"]
    jwt = rotate(work, SERVER | {"in_use": "anon"})
    assert "JWT" in jwt.result["msg"]
    preview = SERVER | {
        "in_use": "default",
        "env": [{"name": "SUPABASE_SECRET_KEY", "targets": ["production", "preview"]}],
    }
    assert "let the two agree" in rotate(work, preview).result["msg"]
    none = run_module("key_info", options(work) | {"keys": []}).result
    assert (none["status"], none["msg"][:22]) == ("unknown", "keys: it is empty, so ")
    unset = run_module("key_info", options(work) | {"supabase": None})
    assert "supabase: it is not set" in unset.result["checks"][0]["msg"] if not unset.failed else unset.result["msg"]
    assert len(work.supabase.api_keys) == 3


def test_more_errors_than_chance_explains_take_the_old_key_back(work: Work, tmp_path: Path):
    old, log = work.live(), tmp_path / "app.log"
    # Whatever the clock says when the deployment is live, these come after it.
    stamps = (datetime.now(UTC) + timedelta(seconds=second) for second in range(120))
    log.write_text("".join(f"{stamp:%Y-%m-%dT%H:%M:%SZ} ERROR permission denied\n" * 20 for stamp in stamps))
    counted = {"backend": "file", "file_path": str(log), "file_pattern": "ERROR", "min_span_s": 2}
    went = rotate(work, error_logs=counted)
    assert went.failed
    assert "no chance any more" in went.result["msg"]
    assert work.live() == old


def test_errors_are_counted_at_a_prometheus_that_asks_for_a_password(work: Work):
    with FakeLoki() as fake:
        fake.asks, fake.values = "Basic cnVuYm9vazpjNG40cnk=", {"errors": [0]}
        counted = {
            "backend": "prometheus", "prometheus_url": fake.url, "prometheus_query": "errors[$__range]",
            "prometheus_user": "runbook", "prometheus_password": "c4n4ry", "min_span_s": 1,
        }  # fmt: skip
        both = rotate(work, error_logs=counted | {"prometheus_token": "c4n4ry"})
        assert "prometheus_user: prometheus_token is given too" in both.result["msg"]
        assert (both.failed, len(work.supabase.api_keys), fake.requests) == (True, 2, [])
        denied = rotate(work, error_logs=counted | {"prometheus_password": "c4n4ry-0000"})
        assert "check prometheus_token, or prometheus_user and prometheus_password" in denied.result["msg"]
        done = rotate(work, error_logs=counted)
        assert (done.failed, len(fake.asked)) == (False, 2), done.result
    assert "c4n4ry" not in json.dumps([[each.result, each.stderr] for each in (both, denied, done)])


def test_nothing_is_retired_that_the_live_deployment_has_in_it(work: Work):
    before = work.vercel.live
    assert not rotate(work).failed
    later(work)
    work.vercel.live = before
    red = run_module("key_retire", options(work))
    assert red.failed
    assert "was built before the new key" in red.result["msg"]
    assert work.supabase.accepts(work.live())


@pytest.mark.parametrize("proven", ["nothing", "vercel_project", "supabase_project"])
def test_both_projects_have_to_prove_themselves(work: Work, tmp_path: Path, proven: str):
    run = a_run(directory=tmp_path / "state")
    approve(run, work.environment)
    names = {"vercel_project": (work.vercel.url, OPTIONS["project_id"]), "supabase_project": (work.supabase.url, REF)}
    if proven in names:
        permits.grant(run, Target(proven, *names[proven]))
    refused = rotate(work, permitted=False, **as_environ(run))
    assert refused.failed
    assert "has not passed preflight for " in refused.result["msg"]
    assert len(work.supabase.api_keys) == 2


def test_the_account_has_to_be_the_pinned_one(moto):
    login = {"endpoint_url": moto.endpoint_url, "access_key": "moto", "secret_key": "moto"}
    assert not run_module("aws_preflight", login | {"account_id": "123456789012"}).failed
    for pinned, says in (("210987654321", "means 210987654321"), ("", "pins none")):
        other = run_module("aws_preflight", login | {"account_id": pinned})
        assert other.failed
        assert says in other.result["msg"]
        assert "123456789012" in other.result["msg"]
