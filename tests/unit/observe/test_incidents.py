"""Incidents: medians of enough of them, months beside months, what came back, and what reviews left to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.observe.pagerduty import analysed
from ansible.module_utils.runbook.rules.change.review import Action, Closing, Review
from ansible.module_utils.runbook.rules.observe import incidents
from ansible.module_utils.runbook.rules.observe.incidents import Incident

MONTH = (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
SPANS = incidents.months(MONTH)
REVIEW = Review(
    "2026-10-02T03-00-00Z-emergency-1a2b", "corruption", "Rows were lost", datetime(2026, 10, 2, 3, tzinfo=UTC),
    "Ada Byron", date(2026, 10, 9), "", (
        {"at": "2026-10-02T03:10:00+00:00", "item": "snapshot:db1", "status": "ok", "msg": "Done."},
        {"at": "2026-10-02T04:00:00+00:00", "item": "function", "status": "ok", "msg": "Done."},
    ),
)  # fmt: skip


def incident(day: int, *, month: int = 10, title: str = "Down", **more: Any) -> Incident:
    given = {"acknowledge_s": 60.0, "resolve_s": 600.0} | more
    return Incident("pagerduty", f"P{month}{day}", title, "site", datetime(2026, month, day, tzinfo=UTC), **given)


def judged(*found: Incident) -> list[str]:
    return [each.kind for each in incidents.judge("pagerduty", incidents.periods(found, SPANS))]


def test_months_before_are_whole_months():
    assert [f"{begin:%m-%d}" for begin, _ in SPANS] == ["04-01", "05-01", "06-01", "07-01", "08-01", "09-01", "10-01"]
    assert all(end == following for (_, end), (following, _) in pairwise(SPANS))


def test_an_incident_counts_in_the_month_in_which_it_began():
    known = incidents.periods([incident(1), replace(incident(1), begin=MONTH[1]), incident(30, month=9)], SPANS)
    assert [len(each.incidents) for each in known] == [0, 0, 0, 0, 0, 1, 1]


def test_a_test_of_delivery_is_no_incident():
    tests = [incident(day, title=f"[FIRING:1] RunbookDeliveryTest (RT{day} page)") for day in range(1, 9)]
    (known,) = incidents.periods([*tests, incident(9)], [MONTH])
    assert [each.title for each in known.incidents] == ["Down"]


def test_of_too_few_nothing_is_told():
    (few,) = incidents.periods([incident(day, title=f"T{day}x") for day in range(1, 5)], [MONTH])
    assert few.result() | {"month": ""} == {
        "month": "", "incidents": 4, "open": 0, "acknowledged": 4, "mtta_median_s": None, "mtta_p90_s": None,
        "resolved": 4, "mttr_median_s": None, "mttr_p90_s": None,
    }  # fmt: skip
    (ten,) = incidents.periods([incident(day, resolve_s=float(day)) for day in range(1, 11)], [MONTH])
    assert (ten.result()["mttr_median_s"], ten.result()["mttr_p90_s"]) == (5.5, 9.0)


def test_what_nobody_took_and_what_is_open_has_no_time():
    (known,) = incidents.periods([incident(1, acknowledge_s=None, resolve_s=None, is_open=True)], [MONTH])
    assert (known.times("acknowledge_s"), known.times("resolve_s"), known.result()["open"]) == ([], [], 1)


def test_the_same_title_three_times_came_back():
    assert judged(incident(1, title="Disk of db-1 at 91%"), incident(2, title="disk of db-2 at 95%"),
                  incident(3, title="Disk of db-3 at 99%")) == ["incident_repeats"]  # fmt: skip
    assert judged(incident(1), incident(2)) == []


def test_more_than_chance_would_make_is_more():
    usual = [incident(day, month=month, title=f"{day}x{month}a") for month in range(4, 10) for day in (1, 9, 17, 25)]
    named = [incident(day, title="abcdefghijk"[: day + 1]) for day in range(1, 10)]
    assert judged(*usual, *named[:8]) == []
    assert judged(*usual, *named[:8], incident(20, title="z")) == ["incidents_more"]
    # One or two after months without any are no trend.
    assert judged(*named[:4]) == []
    assert judged(*named[:5]) == ["incidents_more"]


def test_a_median_half_as_long_again_is_longer():
    before = [incident(day, month=8, title=f"{'b' * day}") for day in range(1, 9)]
    now = [incident(day, title="c" * day, resolve_s=1_000.0) for day in range(1, 6)]
    found = list(incidents.judge("pagerduty", incidents.periods([*before, *now], SPANS)))
    assert [each.id for each in found if each.kind == "incidents_longer"] == ["incidents_longer:pagerduty.resolved"]
    assert "not resolved within 17 min; before it was 10 min" in found[-1].msg


def test_an_emergency_is_an_incident_that_was_over_with_the_last_thing_done():
    found = incidents.of_review(REVIEW)
    assert (found.resolve_s, found.acknowledge_s, found.service) == (3_600.0, None, "corruption")
    assert incidents.of_review(replace(REVIEW, timeline=())).resolve_s is None


def test_actions_over_their_date_are_asked_for():
    actions = (Action("Add a check", "Ada Byron", "2026-10-20"), Action("Drill it", "database_admin", "2026-12-01"))
    closed = replace(REVIEW, closed_at=REVIEW.opened_at + timedelta(days=3), closing=Closing("Ada", "x", "", actions))
    listed, late = incidents.actions([closed, REVIEW], date(2026, 10, 21))
    assert [each["state"] for each in listed] == ["over its date", "ahead"]
    assert [(each.kind, each.severity) for each in late] == [("action_due", "info")]
    assert incidents.actions([closed], date(2026, 10, 20))[1] == []


def test_what_pagerduty_says_is_read_by_utc():
    said = {
        "id": "P1", "description": "Down", "service_name": "Site", "created_at": "2026-10-31T23:59:59",
        "seconds_to_first_ack": None, "seconds_to_resolve": 90, "status": "resolved",
        "resolved_at": "2026-11-01T00:01:29",
    }  # fmt: skip
    found = analysed(said)
    assert found.begin == datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    assert (found.acknowledge_s, found.resolve_s, found.is_open) == (None, 90.0, False)
    still = analysed(said | {"status": "triggered", "resolved_at": None})
    assert (still.resolve_s, still.is_open) == (None, True)
    with pytest.raises(KeyError):
        analysed({})
