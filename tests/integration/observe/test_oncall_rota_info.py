"""oncall_rota_info against PagerDuty's lists in pages, and on a rota of the inventory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Outcome, run_module
from fakes.http import Fault
from fakes.pagerduty import SCHEDULE, TOKEN, FakePagerDuty

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime.now(UTC).timestamp()
WEEK_S = 604_800
PRIMARY = {"id": SCHEDULE, "name": "Primary"}


@pytest.fixture
def pagerduty() -> Iterator[FakePagerDuty]:
    with FakePagerDuty() as fake:
        fake.shifts = [
            {"person": week % 2, "begin": NOW + (week - 0.5) * WEEK_S, "end": NOW + (week + 0.5) * WEEK_S}
            for week in range(6)
        ]
        yield fake


def look(fake: FakePagerDuty, **options: Any) -> Outcome:
    account = {"pagerduty_api_url": fake.url, "pagerduty_api_token": TOKEN}
    return run_module("oncall_rota_info", account | {"schedules": [PRIMARY]} | options)


def ids(outcome: Outcome) -> list[str]:
    return [each["id"].partition("-20")[0].partition(".20")[0] for each in outcome.result["findings"]]


def test_each_shift_of_each_page_is_there_once(pagerduty: FakePagerDuty) -> None:
    outcome = look(pagerduty)
    assert (outcome.failed, outcome.result["status"], ids(outcome)) == (False, "ok", []), outcome.result["msg"]
    people = [each["person"] for each in outcome.result["shifts"]]
    # Of four weeks five shifts, though two policies tell of each, in pages of two.
    assert people == ["Ada Byron", "Grace Murray", "Ada Byron", "Grace Murray", "Ada Byron"]
    assert outcome.result["on_call_now"] == ["Ada Byron"]
    # What is asked for only once would be each person's first shift.
    assert not [each for each in pagerduty.requests if "earliest" in each]


def test_a_hole_over_a_holiday_a_leaver_and_an_overlap(pagerduty: FakePagerDuty) -> None:
    gone = pagerduty.shifts.pop(2)
    pagerduty.shifts[1]["person"] = {"id": "PGONE", "name": "Gone Again"}
    pagerduty.shifts.append({"person": 1, "begin": NOW, "end": NOW + 3_600})
    day = datetime.fromtimestamp(gone["begin"] + WEEK_S / 2, UTC)
    holiday = {"name": "New Year", "begin": f"{day:%Y-%m-%d}", "end": f"{day:%Y-%m-%d}"}
    outcome = look(pagerduty, holidays=[holiday])
    assert outcome.result["status"] == "breach"
    assert [each["kind"] for each in outcome.result["findings"]] == ["hole", "leaver", "overlap"]
    hole = outcome.result["findings"][0]
    assert hole["evidence"]["holiday"] == "New Year"
    assert abs(datetime.fromisoformat(hole["evidence"]["end"]).timestamp() - gone["end"]) < 1
    assert ids(look(pagerduty, may_overlap=True, team=["Ada Byron", "Gone Again", "Grace Murray"])) == ["hole:Primary"]


def test_what_pagerduty_refuses_or_nobody_names_is_unknown(pagerduty: FakePagerDuty) -> None:
    pagerduty.faults.append(Fault("GET /oncalls", "status", 403, body={"error": {"message": "no"}}))
    refused = look(pagerduty).result
    assert (refused["status"], refused["unknown"][0]["kind"]) == ("unknown", "schedules")
    assert "GET /oncalls with 403" in refused["unknown"][0]["msg"]
    assert "pagerduty_api_token is empty" in look(pagerduty, pagerduty_api_token="").result["unknown"][0]["msg"]
    pagerduty.faults.append(Fault("GET /oncalls", "status", 200, body={"oncalls": [{"user": None}], "more": False}))
    assert "does not say who is on call" in look(pagerduty).result["unknown"][0]["msg"]
    nothing = look(pagerduty, schedules=[]).result
    assert (nothing["status"], nothing["unknown"][0]["kind"]) == ("unknown", "rota")


def test_a_key_that_may_not_list_users_hides_no_hole(pagerduty: FakePagerDuty) -> None:
    pagerduty.shifts.pop(2)
    pagerduty.faults.append(Fault("GET /users", "status", 403, body={"error": {"message": "no"}}))
    outcome = look(pagerduty)
    assert (outcome.result["status"], ids(outcome)) == ("breach", ["hole:Primary"])
    assert {each["kind"] for each in outcome.result["unknown"]} == {"team"}


def test_an_empty_schedule_is_a_hole_from_now_on(pagerduty: FakePagerDuty) -> None:
    pagerduty.shifts.clear()
    outcome = look(pagerduty)
    assert (outcome.result["status"], ids(outcome)) == ("breach", ["hole:Primary"])


def test_a_rota_of_the_inventory_needs_no_pagerduty(pagerduty: FakePagerDuty) -> None:
    begin = f"{datetime.now(UTC) - timedelta(days=10):%Y-%m-%d %H:%M}"
    turns = {"people": ["Ada Byron", "Grace Murray"], "begin": begin, "every_days": 7}
    quiet = look(pagerduty, schedules=[], rota=[turns], team=["Ada Byron", "Grace Murray"])
    assert (quiet.result["status"], quiet.result["on_call_now"]) == ("ok", ["Grace Murray"])
    assert pagerduty.requests == []
    unknown = look(pagerduty, schedules=[], rota=[turns])
    assert [each["kind"] for each in unknown.result["unknown"]] == ["team"]
    wrong = look(pagerduty, schedules=[], rota=[turns | {"every_days": 0}])
    assert wrong.failed
    assert "rota: entry 1" in wrong.result["msg"]
