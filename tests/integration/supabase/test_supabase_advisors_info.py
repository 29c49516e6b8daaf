"""Supabase's advisors against a fake of the API, over real HTTP on loopback, in both versions of the endpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Outcome, run_module
from fakes.http import Fault
from fakes.supabase import REF, TOKEN, FakeSupabase, lint

if TYPE_CHECKING:
    from collections.abc import Iterator

V1 = f"GET /v1/projects/{REF}/advisors/performance"
V2 = f"POST /v2/projects/{REF}/advisors/run"


@pytest.fixture
def api() -> Iterator[FakeSupabase]:
    with FakeSupabase() as fake:
        yield fake


def ask(api: FakeSupabase, *, check: bool = False, **options: Any) -> Outcome:
    common = {"project_ref": REF, "access_token": TOKEN, "api_url": api.url}
    return run_module("supabase_advisors_info", common | options, check=check)


def test_another_project_is_asked_nothing(api):
    outcome = ask(api, project_name="another")
    assert outcome.failed
    assert "the inventory means project 'another'" in outcome.result["msg"]
    assert not ask(api, project_name="mental-scribe").failed


def test_lints_are_findings_the_worst_first(api):
    api.lints = [
        lint("unused_index", level="INFO"),
        lint("unindexed_foreign_keys"),
        lint("rls_disabled_in_public", categories=["SECURITY"], level="ERROR"),
    ]
    outcome = ask(api)
    assert not outcome.failed, outcome.result
    assert outcome.result["status"] == "ok"
    assert [one["kind"] for one in outcome.result["findings"]] == [
        "supabase_unindexed_foreign_keys",
        "supabase_unused_index",
    ]
    first = outcome.result["findings"][0]
    assert first["id"] == "supabase:unindexed_foreign_keys_public_messages"
    assert (first["severity"], first["object"], first["ddl"]) == ("warning", "public.messages", [])
    assert first["msg"] == "Table public.messages has something."
    assert "database-linter?lint=unindexed_foreign_keys" in first["risk"]
    assert TOKEN not in json.dumps(outcome.result)
    assert api.requests == [V1]


def test_both_categories_in_check_mode(api):
    api.lints = [lint("no_primary_key"), lint("rls_disabled_in_public", categories=["SECURITY"], level="ERROR")]
    outcome = ask(api, check=True, categories=["performance", "security"])
    assert [one["severity"] for one in outcome.result["findings"]] == ["critical", "warning"]
    assert outcome.result["status"] == "breach"
    assert "2 findings (1 critical, 1 warning)" in outcome.result["msg"]


def test_the_successor_is_asked_where_the_old_endpoint_is_gone(api):
    api.has_v1_advisors = False
    api.lints = [lint("duplicate_index"), lint("rls_disabled_in_public", categories=["SECURITY"])]
    api.faults = [Fault("v2", "status", 503)]
    outcome = ask(api)
    assert [one["kind"] for one in outcome.result["findings"]] == ["supabase_duplicate_index"]
    assert api.requests == [V1, V2, V2]


@pytest.mark.parametrize("has_v1", [True, False])
def test_what_could_not_be_checked_is_unknown(api, has_v1):
    api.has_v1_advisors = has_v1
    api.lints = [lint("advisor_check_unavailable", metadata={})]
    if has_v1:
        # Its description does not know this lint.
        api.faults = [Fault(V1, "status", 200, body={"lints": api.lints})]
    outcome = ask(api)
    assert outcome.result["status"] == "unknown"
    assert outcome.result["findings"] == []
    assert [one["kind"] for one in outcome.result["unknown"]] == ["supabase_advisor_check_unavailable"]
    assert "not judged: supabase_advisor_check_unavailable" in outcome.result["msg"]


def test_a_clean_project(api):
    outcome = ask(api)
    assert outcome.result["status"] == "ok"
    assert outcome.result["msg"] == "No findings in what Supabase's advisors looked at."


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (Fault(".", "status", 403, {}, {"message": "Forbidden"}), "breach", "the access token lacks the right"),
        (Fault(".", "status", 200, {}, {"surprise": 1}), "unknown", "has no field lints"),
        (Fault(".", "status", 200, {}, {"lints": [{"name": "x"}]}), "unknown", "has no field title"),
        (Fault(".", "status", 200, {}, {"data": {"attributes": None}}), "unknown", "has no field lints"),
        (Fault(".", "status", 404, {}, {"message": "Project not found"}, times=2), "breach", "with 404"),
    ],
    ids=["403", "shape", "lint", "data", "404"],
)
def test_it_fails_with_one_sentence(api, fault, status, says):
    api.faults = [fault]
    outcome = ask(api)
    assert outcome.failed
    assert outcome.result["status"] == status
    assert says in outcome.result["msg"]
    assert "\n" not in outcome.result["msg"]
    assert TOKEN not in json.dumps({key: value for key, value in outcome.result.items() if key != "invocation"})


def test_a_timeout_of_nothing_is_refused(api):
    outcome = ask(api, timeout_s=0)
    assert "timeout_s: 0 is out of bounds" in outcome.result["msg"]
    assert api.requests == []
