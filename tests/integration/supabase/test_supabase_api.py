"""The Supabase modules against a fake of the API, over real HTTP on loopback, with what goes wrong there."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Outcome, a_run, approve, as_environ, run_module
from fakes.http import Fault
from fakes.supabase import REF, TOKEN, FakeSupabase

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

PITR = f"POST /v1/projects/{REF}/database/backups/restore-pitr"
PROJECT = f"GET /v1/projects/{REF}$"


@pytest.fixture
def api() -> Iterator[FakeSupabase]:
    with FakeSupabase() as fake:
        yield fake


def info(api: FakeSupabase, **options: Any) -> Outcome:
    return run_module(
        "supabase_backup_info", {"project_ref": REF, "access_token": TOKEN, "api_url": api.url, **options}
    )


def test_backups_of_another_project_are_not_judged(api):
    assert "pin it: supabase_project_name: 'mental-scribe'" in info(api, project_name="").result["msg"]
    other = info(api, project_name="another")
    assert other.failed
    assert "the inventory means project 'another'" in other.result["msg"]
    assert "checks" not in other.result


def project(api: FakeSupabase) -> dict[str, Any]:
    """Options that name the project."""
    return {"project_ref": REF, "project_name": "mental-scribe", "access_token": TOKEN, "api_url": api.url}


def restore(api: FakeSupabase, *, check: bool = False, **options: Any) -> Outcome:
    """Restore to ten minutes ago, unless the options say otherwise."""
    common = project(api) | {
        "environment": "staging", "overwrite": REF,
        "recovery_time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() - 600))}Z",
        "poll_s": 0.1, "start_timeout_s": 1, "wait_timeout_s": 30,
    }  # fmt: skip
    return run_module("supabase_restore", common | options, check=check)


def test_backups_are_as_promised(api):
    outcome = info(api)
    assert not outcome.failed, outcome.result
    assert outcome.result["status"] == "ok"
    assert {check["name"] for check in outcome.result["checks"]} == {"pitr", "age", "retention", "states"}
    assert 80 < outcome.result["age_s"] < 200
    assert TOKEN not in json.dumps(outcome.result)


def test_seven_days_are_not_thirty(api):
    api.backups["physical_backup_data"]["earliest_physical_backup_date_unix"] = int(time.time()) - 7 * 86400
    outcome = info(api)
    assert outcome.failed
    assert outcome.result["status"] == "breach"
    assert "One can go back 7.0 days, where 30 days are wanted" in outcome.result["msg"]


def test_a_state_nobody_knows_is_not_green(api):
    strange = {"id": 1, "status": "TELEPORTED", "is_physical_backup": True, "inserted_at": "2026-01-01T00:00:00Z"}
    api.faults = [Fault("backups", "status", 200, body=api.backups | {"backups": [strange]})]
    outcome = info(api)
    assert outcome.failed
    assert outcome.result["status"] == "unknown"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("backups", "status", 429, {"x-ratelimit-reset": "1"}, {"message": "Too many requests"}),
        Fault("backups", "status", 429, {"Retry-After": "1"}, {"message": "Too many requests"}),
        Fault("backups", "status", 503, {}, b"<html>no</html>"),
        Fault("backups", "reset"),
        Fault("backups", "early"),
        Fault("backups", "slow", wait_s=2),
    ],
    ids=["429", "429-retry-after", "503", "reset", "early", "slow"],
)
def test_reading_is_repeated(api, fault):
    api.faults = [fault]
    outcome = info(api, timeout_s=1)
    assert not outcome.failed, outcome.result
    assert sum("backups" in line for line in api.requests) == 2


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (Fault(".", "status", 500, {}, {"message": "Internal error"}), "unknown", "with 500: Internal error."),
        (Fault(".", "status", 403, {}, {"message": "Forbidden"}), "breach", "the access token lacks the right"),
        (Fault(".", "status", 302, {"Location": "http://127.0.0.1:1/"}, None), "breach", "it moved: check api_url"),
        (Fault(".", "status", 429, {"x-ratelimit-reset": "999"}, None), "breach", "come back in 999 s"),
        (Fault(".", "status", 200, {}, b"<html>"), "unknown", "something that is no JSON"),
        (Fault(".", "status", 200, {}, {"surprise": 1}), "unknown", "has no field ref"),
    ],
    ids=["500", "403", "302", "429-long", "html", "shape"],
)
def test_reading_fails_with_one_sentence(api, fault, status, says):
    api.faults = [fault]
    outcome = info(api)
    assert outcome.failed
    assert outcome.result["status"] == status
    assert says in outcome.result["msg"]
    assert "\n" not in outcome.result["msg"]
    assert len(api.requests) == 1


def test_a_wrong_token_is_not_shown(api):
    outcome = info(api, access_token="sbp_wr0ng")
    assert outcome.failed
    assert "check the access token" in outcome.result["msg"]
    shown = {key: value for key, value in outcome.result.items() if key != "invocation"}
    assert "wr0ng" not in json.dumps(shown) + outcome.stderr


def test_a_token_with_a_line_feed_is_not_shown(api):
    outcome = info(api, access_token="sbp_wr0ng\n")
    assert "access_token: it holds a line feed" in outcome.result["msg"]
    shown = {key: value for key, value in outcome.result.items() if key != "invocation"}
    assert "wr0ng" not in json.dumps(shown) + outcome.stderr
    assert api.requests == []


def test_an_unencrypted_address_is_refused():
    outcome = run_module(
        "supabase_restore_info", {"project_ref": REF, "access_token": TOKEN, "api_url": "http://api.example.com"}
    )
    assert "would send the access token unencrypted" in outcome.result["msg"]


def test_list_shows_the_window(api):
    outcome = run_module("supabase_restore_info", project(api))
    assert not outcome.failed
    assert outcome.result["changed"] is False
    assert "it can go back between" in outcome.result["msg"]
    assert api.posted == []


def test_restore_to_a_time(api):
    dry = restore(api, check=True)
    assert api.posted == []
    real = restore(api)
    assert not real.failed, real.result
    assert real.result["changed"] is dry.result["changed"] is True
    assert real.result["plan"].startswith("to 20")
    [(verb, body)] = api.posted
    assert verb == "restore-pitr"
    assert list(body) == ["recovery_time_target_unix"]
    assert abs(body["recovery_time_target_unix"] - time.time()) > 500
    assert {check["status"] for check in real.result["checks"]} == {"ok"}
    assert real.result["project_status"] == "ACTIVE_HEALTHY"


def test_restore_of_a_backup(api):
    api.backups |= {"pitr_enabled": False, "physical_backup_data": {}}
    api.backups["backups"] = [
        {"id": 7, "status": "COMPLETED", "is_physical_backup": True, "inserted_at": "2026-01-01T00:00:00Z"},
        {"id": 8, "status": "COMPLETED", "is_physical_backup": False, "inserted_at": "2026-01-02T00:00:00Z"},
    ]
    assert "there are: 7" in restore(api, recovery_time=None, backup_id=8).result["msg"]
    assert "name a backup_id" in restore(api).result["msg"]
    assert api.posted == []
    assert not restore(api, recovery_time=None, backup_id=7).failed
    assert api.posted == [("restore", {"id": 7})]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"overwrite": ""}, f"add -e supabase_restore_overwrite={REF}"),
        ({"overwrite": "tsrqponmlkjihgfedcba"}, "was said"),
        ({"project_name": ""}, "pin it: supabase_project_name: 'mental-scribe'"),
        ({"project_name": "other"}, "the inventory means project 'other'"),
        ({"recovery_time": None}, "name exactly one of them"),
        ({"backup_id": 3}, "name exactly one of them"),
        ({"recovery_time": "2020-01-01T00:00:00Z"}, "name one between"),
        ({"recovery_time": "2036-01-01T00:00:00Z"}, "is still to come"),
        ({"recovery_time": "2026-01-01T00:00:00"}, "in which time zone"),
        ({"poll_s": 0}, "poll_s: 0"),
        ({"project_ref": "../x"}, "twenty lower-case letters"),
    ],
)
def test_refusals(api, options, says):
    outcome = restore(api, **({"overwrite": options["project_ref"]} if "project_ref" in options else {}) | options)
    assert outcome.failed
    assert says in outcome.result["msg"]
    assert outcome.result["changed"] is False
    assert api.posted == []


def test_check_mode_refuses_too(api):
    outcome = restore(api, check=True, recovery_time="2020-01-01T00:00:00Z")
    assert outcome.failed
    assert "name one between" in outcome.result["msg"]


@pytest.mark.parametrize(("state", "status"), [("PAUSING", "breach"), ("UPGRADING", "breach"), ("DANCING", "unknown")])
def test_a_project_in_another_state_is_left_alone(api, state, status):
    api.faults = [Fault(PROJECT, "status", 200, body=api.project | {"status": state}, times=9)]
    outcome = restore(api)
    assert outcome.failed
    assert outcome.result["status"] == status
    assert api.posted == []


def test_a_restore_that_is_on_its_way_is_waited_for(api):
    api.project["status"] = "RESTORING"
    api._coming = ["RESTORING", "RESTORING", "ACTIVE_HEALTHY"]
    outcome = restore(api)
    assert not outcome.failed, outcome.result
    assert outcome.result["changed"] is False
    assert api.posted == []


def test_the_api_refuses(api):
    api.faults = [Fault(PITR, "status", 400, {}, {"message": "PITR is not enabled for this project."})]
    outcome = restore(api)
    assert outcome.failed
    assert outcome.result["changed"] is False
    assert "PITR is not enabled for this project. Nothing was started." in outcome.result["msg"]


@pytest.mark.parametrize("kind", ["lost", "slow"])
def test_an_answer_that_is_lost_is_found_out_not_asked_for_again(api, kind):
    """The restore began and nobody said so."""
    api.faults = [Fault(PITR, kind, wait_s=2)]
    # Where the answer is slow, the restore begins while the state is already being read.
    outcome = restore(api, timeout_s=1, start_timeout_s=12)
    assert not outcome.failed, outcome.result
    assert outcome.result["changed"] is True
    assert api.requests.count(PITR) == 1
    assert len(api.posted) == 1


@pytest.mark.parametrize(
    "fault", [Fault(PITR, "reset"), Fault(PITR, "status", 502), Fault(PITR, "status", 504)], ids=["reset", "502", "504"]
)
def test_a_restore_that_may_have_begun_is_unknown_and_asked_for_once(api, fault):
    api.faults = [fault]
    outcome = restore(api)
    assert outcome.failed
    assert outcome.result["status"] == "unknown"
    assert "it was not asked twice" in outcome.result["msg"]
    assert api.requests.count(PITR) == 1


def test_too_many_requests_begin_nothing(api):
    api.faults = [Fault(PITR, "status", 429, {"x-ratelimit-reset": "33"}, {"message": "Too many requests"})]
    outcome = restore(api)
    assert "come back in 33 s" in outcome.result["msg"]
    assert "Nothing was started" in outcome.result["msg"]
    assert api.requests.count(PITR) == 1


def test_a_restore_that_fails_is_red(api):
    api.after_restore = ["RESTORING", "RESTORE_FAILED"]
    outcome = restore(api)
    assert outcome.failed
    assert outcome.result["status"] == "breach"
    assert "is RESTORE_FAILED" in outcome.result["msg"]
    # From there another restore may be started, and the old failure is not taken for its end.
    api.after_restore = ["RESTORE_FAILED", "RESTORING", "ACTIVE_HEALTHY"]
    assert not restore(api).failed


def test_a_project_that_never_says_restoring_is_unknown(api):
    api.after_restore = ["ACTIVE_HEALTHY"]
    outcome = restore(api)
    assert outcome.failed
    assert outcome.result["status"] == "unknown"
    assert "whether it was restored is not known" in outcome.result["msg"]


def test_waiting_has_an_end(api):
    api.after_restore = ["RESTORING"]
    outcome = restore(api, wait_timeout_s=1)
    assert outcome.failed
    assert outcome.result["status"] == "unknown"
    assert "go on waiting with -e supabase_restore_action=wait" in outcome.result["msg"]
    assert outcome.result["project_status"] == "RESTORING"
    api._coming = ["RESTORING", "RESTORING", "ACTIVE_HEALTHY"]
    waited = run_module("supabase_restore_wait", project(api) | {"poll_s": 0.1})
    assert not waited.failed, waited.result["msg"]
    assert waited.result["changed"] is False


def test_an_api_that_stumbles_while_one_waits(api):
    api.after_restore = ["RESTORING", "RESTORING", "COMING_UP", "ACTIVE_HEALTHY"]
    # The first look at the project comes before the restore.
    api.faults = [Fault(PITR, "slow"), Fault("health", "status", 503)]
    assert not restore(api).failed


def test_not_well_after_the_restore_is_red(api):
    api.health = {"rest": "UNHEALTHY"}
    outcome = restore(api)
    assert outcome.failed
    assert outcome.result["changed"] is True
    assert "rest (breach): rest is UNHEALTHY." in outcome.result["msg"]


def test_verify_alone(api):
    assert not run_module("supabase_project_check", project(api)).failed
    services = [{"name": "db", "healthy": True, "status": "SINGING"}]
    api.faults = [Fault("health", "status", 200, body=services)]
    assert run_module("supabase_project_check", project(api)).result["status"] == "unknown"


# --- the proof of a project -------------------------------------------------------------------------------------------


def test_a_project_proves_itself_and_no_other_one_is_restored(api, tmp_path):
    run = a_run(directory=tmp_path)

    def prove(**options: Any) -> Outcome:
        common = {"project_ref": REF, "project_name": "mental-scribe", "access_token": TOKEN, "api_url": api.url}
        return run_module("supabase_preflight", common | options, **as_environ(run))

    def restored(**options: Any) -> str:
        common = project(api) | {"environment": "staging", "overwrite": REF, "backup_id": 1}
        outcome = run_module("supabase_restore", common | options, check=True, permitted=False, **as_environ(run))
        return str(outcome.result["msg"])

    assert "This run has not passed preflight" in prove().result["msg"]
    assert api.requests == []
    approve(run, "staging")
    assert "the inventory means project 'another'" in prove(project_name="another").result["msg"]
    assert "pin it: supabase_project_name: 'mental-scribe'" in prove(project_name="").result["msg"]
    assert f"has not passed preflight for Supabase project {REF} of {api.url}" in restored()
    proven = prove()
    named = {"kind": "supabase_project", "place": api.url, "name": REF, "environment": "staging"}
    assert proven.result["target"] == named
    assert proven.result["region"] == "us-east-1"
    other = "zyxwvutsrqponmlkjihg"
    assert f"has not passed preflight for Supabase project {other}" in restored(project_ref=other, overwrite=other)
    assert "has not passed preflight for production" in restored(environment="production")
    assert "has not passed preflight" not in restored()
    assert not [each for each in api.requests if each.startswith("POST")]


def test_the_playbook_proves_the_project_and_asks_no_database(api, tmp_path):
    host = {
        "supabase_project_ref": REF, "supabase_project_name": "mental-scribe", "supabase_access_token": TOKEN,
        "supabase_api_url": api.url, "supabase_restore_poll_s": 0.1,
    }  # fmt: skip
    common = {
        "runbook_environment": "production", "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        # Its window is another test's subject.
        "maintenance_operations": {"supabase_restore.yml restore": "none"},
    }  # fmt: skip
    project = Project(tmp_path, {"db": host}, common)
    api.backups["pitr_enabled"] = False
    api.backups["backups"] = [
        {"id": 7, "is_physical_backup": True, "status": "COMPLETED", "inserted_at": "2026-01-04T02:00:00Z"}
    ]
    ask: dict[str, Any] = {
        "supabase_restore_action": "restore",
        "supabase_restore_backup_id": 7,
        "supabase_restore_overwrite": REF,
    }
    for words in ((), ("--start-at-task", "List, restore, wait or verify")):
        refused = project.run("supabase_restore.yml", *words, **ask)
        assert refused.code != 0
        assert not [each for each in api.requests if each.startswith("POST")]
    assert "add -e confirm=production" in project.run("supabase_restore.yml", **ask).last("runbook_preflight")["msg"]
    done = project.run("supabase_restore.yml", "-e", "confirm=production", **ask)
    assert done.code == 0, done.output
    assert done.record is not None
    (written,) = json.loads((done.record / "record.json").read_text())["hosts"].values()
    assert [(each["kind"], each["name"]) for each in written["targets"]] == [("supabase_project", REF)]
