"""Test alerts: within which hours, with which labels, and what is proven by what was seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.observe import delivery
from ansible.module_utils.runbook.rules.observe.delivery import Hours, Receiver, Sent

HOURS = {"weekdays": ["monday", "friday"], "begin": "09:00", "end": "17:00", "timezone": "Europe/Berlin"}
PAGE: dict[str, Any] = {
    "name": "team",
    "labels": {"severity": "info"},
    "proof": "page",
    "url": "http://a/",
    "services": None,
}


@pytest.mark.parametrize(
    ("at", "may"),
    [
        ("2026-11-30T08:00", True),
        ("2026-11-30T07:59", False),
        ("2026-11-30T16:00", False),
        ("2026-11-30T15:59", True),
        ("2026-12-01T12:00", False),
        # Summer time: two hours ahead.
        ("2026-07-03T07:00", True),
    ],
)
def test_only_within_the_hours(at: str, may: bool):
    refusal = Hours.of(HOURS).refusal(datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert (refusal == "") is may
    assert may or "monday, friday from 09:00 to 17:00" in refusal


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"timezone": "Berlin"}, "'Berlin' is no time zone"),
        ({"begin": "9:00"}, "'9:00' is no time of day"),
        ({"begin": 540}, "540 is no time of day"),
        ({"end": "25:00"}, "'25:00' is no time of day"),
        ({"end": "08:00"}, "not after its begin"),
    ],
)
def test_hours_that_are_none(more: dict[str, Any], why: str):
    with pytest.raises(RunbookError, match=why):
        Hours.of(HOURS | more)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"url": None}, "url is empty"),
        ({"url": "https://u:c4n4ry@a/"}, "url: its value .not repeated here. has a user"),
        ({"proof": "pagerduty"}, "services is empty"),
        ({"labels": {"runbook_test": "x"}}, "set by the test itself"),
    ],
)
def test_a_receiver_without_what_its_proof_needs(more: dict[str, Any], why: str):
    with pytest.raises(RunbookError, match=f"receivers: team.*{why}"):
        Receiver.of(PAGE | more)


def test_nobody_takes_a_test_for_a_real_alert():
    labels, annotations = Receiver.of(PAGE).alert("RT1", "staging")
    assert labels == {"alertname": "RunbookDeliveryTest_RT1", "severity": "info", "runbook_test": "RT1"}
    assert annotations["summary"] == "TEST RT1: nothing is wrong, and nobody has to do anything."


GOES = {"receivers": ["team"], "silenced": False, "inhibited": False}


@pytest.mark.parametrize(
    ("seen", "status", "said"),
    [
        ({"arrived_s": 3.2, "route": GOES}, "ok", "arrived after 3 s"),
        ({"route": GOES}, "breach", "did not arrive within 60 s"),
        ({"route": GOES, "beside": 0}, "breach", "did not arrive within 60 s"),
        ({"route": GOES, "beside": 2}, "unknown", "in one message with 2 other alerts"),
        ({"route": GOES, "blind": "the page is gone"}, "unknown", "nobody could look there: the page is gone"),
        ({"route": GOES | {"silenced": True}}, "breach", "kept back by a silence"),
        ({"route": GOES | {"inhibited": True}}, "breach", "kept back by another alert"),
        ({"route": GOES | {"receivers": ["other"]}}, "breach", "goes to other"),
        ({"route": None}, "breach", "is not among Alertmanager's alerts"),
        ({"taken": False}, "breach", "taken by no Alertmanager"),
    ],
)
def test_what_is_proven(seen: dict[str, Any], status: str, said: str):
    test = Sent(Receiver.of(PAGE), "RT1", **({"taken": True} | seen))
    check = test.check(wait_s=60)
    assert (check.status, said in check.msg) == (status, True), check.msg
    # It is waited for only where it may still come.
    assert test.is_over is not any(
        words in said for words in ("did not arrive", "is not among", "look there", "one message")
    )  # fmt: skip


def test_what_no_machine_can_see_is_unknown():
    test = Sent(Receiver.of(PAGE | {"proof": "none"}), "RT1", taken=True, route=GOES)
    assert (test.is_over, test.check(wait_s=60).status) == (True, "unknown")


@pytest.mark.parametrize(
    ("proof", "route", "on"),
    [
        ("none", GOES, True),
        # Nobody is to be told by these.
        ("none", GOES | {"receivers": ["other"]}, False),
        ("none", GOES | {"silenced": True}, False),
        ("none", None, False),
        # It arrived, or its time is over.
        ("page", GOES, False),
    ],
)
def test_what_no_machine_sees_fires_on_until_its_group_was_waited_for(proof: str, route: Any, on: bool):
    assert Sent(Receiver.of(PAGE | {"proof": proof}), "RT1", taken=True, route=route).ends_by_itself is on


def test_receivers_that_only_one_side_knows():
    configured = {"team": ["webhook"], "pager": ["pagerduty"], "nobody": [], "mute": []}
    wanted = [Receiver.of(PAGE), Receiver.of(PAGE | {"name": "gone"}), Receiver.of(PAGE | {"name": "mute"})]
    assert {each.subject: str(each.status) for each in delivery.beside(configured, wanted)} == {
        "pager": "unknown", "nobody": "ok", "gone": "breach", "mute": "breach",
    }  # fmt: skip
