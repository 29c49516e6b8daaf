"""incident_info over HTTP and on a state store: pages, refusals, what is damaged, and who knows nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.rules.change.review import Action, Closing, Review
from ansible.module_utils.runbook.rules.state import Document
from conftest import Outcome, run_module
from fakes.http import Fault
from fakes.pagerduty import TOKEN, FakePagerDuty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

END = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
BEGIN = (END - timedelta(days=1)).replace(day=1)


@pytest.fixture
def pagerduty() -> Iterator[FakePagerDuty]:
    with FakePagerDuty() as made:
        made.history = [past(day, end_s=600.0 * day, person=day % 2) for day in range(1, 8)]
        # Before the month, after it, and one that nobody took and that is not over.
        made.history += [
            past(-3, end_s=60.0), past(40, end_s=60.0), past(9, end_s=None, title="Queue is long"),
        ]  # fmt: skip
        yield made


def past(day: int, *, end_s: float | None, title: str = "", person: int | None = None) -> dict[str, Any]:
    begin = (BEGIN + timedelta(days=day)).timestamp()
    return {
        "id": f"PPAST{day + 50}", "title": title or f"Disk of db-{day} is {90 + day}% full", "begin": begin,
        "end": None if end_s is None else begin + end_s, "person": person,
    }  # fmt: skip


def look(fake: FakePagerDuty | None = None, **options: Any) -> Outcome:
    account = {} if fake is None else {"pagerduty_api_url": fake.url, "pagerduty_api_token": TOKEN}
    return run_module("incident_info", {"environment": "sandbox", "timeout_s": 5} | account | options)


def keep(folder: Path, *reviews: Review) -> dict[str, Any]:
    """A state store with these reviews."""
    folder.mkdir(mode=0o700)
    store = Folder(folder, "sandbox")
    for review in reviews:
        name = Review.document_name(review.id)
        store.create(Document(name, review.body(), "r", "bastion/1", END.isoformat(), "t"))
    return {"state_directory": str(folder)}


def emergency(day: int, *actions: Action) -> Review:
    at = BEGIN + timedelta(days=day)
    closing = Closing("Ada Byron", "A check was missing", "", actions) if actions else None
    done = {"at": (at + timedelta(hours=1)).isoformat(), "item": "function", "status": "ok", "msg": "Done."}
    return Review(f"{at:%Y-%m-%dT%H-%M-%S}Z-emergency-1a2b", "corruption", "Rows were lost", at, "Ada Byron",
                  at.date() + timedelta(days=5), "", (done,), at if actions else None, closing)  # fmt: skip


def test_a_month_of_pagerduty_page_by_page(pagerduty: FakePagerDuty) -> None:
    outcome = look(pagerduty)
    assert (outcome.failed, outcome.result["status"]) == (False, "ok"), outcome.result["msg"]
    (source,) = outcome.result["sources"]
    month, before = source["months"][-1], source["months"][-2]
    assert (month["month"], month["incidents"], month["open"], month["resolved"]) == (f"{BEGIN:%Y-%m}", 8, 1, 7)
    assert (month["acknowledged"], month["mtta_median_s"], month["mttr_median_s"]) == (7, 120.0, 2_400.0)
    assert (month["mttr_p90_s"], before["incidents"]) == (None, 1)
    kinds = {each["kind"] for each in outcome.result["findings"]}
    assert kinds == {"incident_repeats", "incidents_more"}
    assert pagerduty.requests.count("POST /analytics/raw/incidents") > 2


def test_emergencies_and_what_their_reviews_left_to_do(tmp_path: Path) -> None:
    late = Action("Add a check", "Ada Byron", BEGIN.date().isoformat())
    store = keep(tmp_path / "state", emergency(3, late), emergency(5))
    (tmp_path / "state/sandbox/reviews/torn.json").write_text("{")
    outcome = look(**store)
    (source,) = outcome.result["sources"]
    assert source["source"] == "emergency"
    assert (source["months"][-1]["incidents"], source["months"][-1]["resolved"]) == (2, 2)
    assert [each["state"] for each in outcome.result["actions"]] == ["over its date"]
    assert [each["kind"] for each in outcome.result["findings"]] == ["action_due"]
    assert (outcome.result["status"], [each["kind"] for each in outcome.result["unknown"]]) == (
        "unknown",
        ["emergency"],
    )


def test_a_source_that_does_not_answer_hides_no_other(pagerduty: FakePagerDuty, tmp_path: Path) -> None:
    pagerduty.faults.append(Fault("POST /analytics", "status", 403, body={"error": {"message": "no"}}, times=9))
    outcome = look(pagerduty, **keep(tmp_path / "state", emergency(3)))
    assert (outcome.failed, outcome.result["status"]) == (False, "unknown")
    assert [each["source"] for each in outcome.result["sources"]] == ["emergency"]
    assert "with 403" in outcome.result["unknown"][0]["msg"]
    assert TOKEN not in json.dumps(outcome.result)


def test_an_answer_without_its_end_is_unknown(pagerduty: FakePagerDuty) -> None:
    pagerduty.faults.append(Fault("POST /analytics", "status", 200, body={"data": [], "more": True, "last": ""}))
    outcome = look(pagerduty)
    assert outcome.result["status"] == "unknown"
    assert "where its list of incidents ends" in outcome.result["unknown"][0]["msg"]


def test_without_a_source_nobody_knows(tmp_path: Path) -> None:
    outcome = look()
    assert (outcome.failed, outcome.result["status"], outcome.result["sources"]) == (False, "unknown", [])
    assert "Nobody knows of incidents" in outcome.result["unknown"][0]["msg"]
    assert "not over yet" in look(month="2100-01", state_directory=str(tmp_path)).result["msg"]
