"""alert_delivery_test through a real Alertmanager to a webhook, a fake of PagerDuty, and to nobody."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.request import Request, urlopen

import pytest
from ansible.module_utils.runbook.drivers.sandbox.services import Alertmanager
from conftest import Outcome, module_process, run_module
from fakes.http import Asked, FakeService, Reply
from fakes.pagerduty import ROUTING_KEY, SERVICE, TOKEN, FakePagerDuty
from servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALWAYS = {"weekdays": ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], "begin": "00:00",
          "end": "23:59"}  # fmt: skip


class Team(FakeService):
    """A webhook that shows what it got."""

    service: ClassVar[str] = "webhook"

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def answer(self, asked: Asked) -> Reply:
        if asked.method == "POST":
            self.got.append(asked.body)
            return Reply(200)
        return Reply(200, json.dumps(self.got).encode(), {"Content-Type": "text/plain"})


class Place:
    """Everything that a test alert meets."""

    def __init__(self, url: str, team: Team, pagerduty: FakePagerDuty) -> None:
        self.url, self.team, self.pagerduty = url, team, pagerduty
        pagerduty.shifts = [{"person": 0, "begin": time.time() - 3_600, "end": time.time() + 3_600}]

    def options(self, *receivers: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "alertmanager_urls": [self.url], "receivers": list(receivers), "hours": ALWAYS, "wait_s": 60,
            "pagerduty_api_url": self.pagerduty.url, "pagerduty_api_token": TOKEN, "pagerduty_from": "a@example.com",
        } | more  # fmt: skip

    def run(self, *receivers: dict[str, Any], check: bool = False, **more: Any) -> Outcome:
        return run_module("alert_delivery_test", self.options(*receivers, **more), check=check, diff=True)

    @property
    def to_team(self) -> dict[str, Any]:
        return {"name": "team", "labels": {"severity": "info"}, "proof": "page", "url": self.team.url}

    @property
    def to_pager(self) -> dict[str, Any]:
        return {"name": "pager", "labels": {"severity": "page"}, "proof": "pagerduty", "services": [SERVICE]}

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = Request(self.url + path, data, {"Content-Type": "application/json"})  # noqa: S310 - loopback
        with urlopen(asked, timeout=20) as answer:  # noqa: S310 - loopback
            return json.loads(answer.read() or b"null")

    def grouped(self) -> list[str]:
        """Alerts that are in groups."""
        return [alert["labels"]["alertname"] for each in self.ask("/api/v2/alerts/groups") for alert in each["alerts"]]

    def firing(self) -> list[str]:
        """Tests that have not ended."""
        return [
            each["labels"]["runbook_test"] for each in self.ask("/api/v2/alerts") if "runbook_test" in each["labels"]
        ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Team() as team, FakePagerDuty() as pagerduty:
        made = Alertmanager(
            tmp_path_factory.mktemp("alertmanager"), webhook_url=team.url, pagerduty=(pagerduty.url, ROUTING_KEY)
        )
        with running(made) as started:
            yield Place(started.url, team, pagerduty)


def checks(outcome: Outcome) -> dict[str, str]:
    return {each["subject"]: each["status"] for each in outcome.result["checks"]}


def test_it_arrives_at_each_receiver_and_is_ended(place: Place) -> None:
    dry = place.run(place.to_team, place.to_pager, check=True)
    assert (dry.result["changed"], place.team.got, place.pagerduty.incidents) == (True, [], [])
    assert "Would send a test alert to team, pager; PagerDuty tells Ada Byron." in dry.result["msg"]

    outcome = place.run(place.to_team, place.to_pager)
    # The mailbox is configured without an integration.
    assert checks(outcome) == {"team": "ok", "pager": "ok", "on-call": "ok"}, outcome.result["msg"]
    assert (outcome.result["status"], outcome.result["on_call"]) == ("ok", ["Ada Byron"])
    codes = {each["receiver"]: each["code"] for each in outcome.result["sent"]}
    assert codes["team"] in json.dumps(place.team.got[0])
    assert codes["pager"] not in json.dumps(place.team.got)
    assert f"TEST {codes['team']}: nothing is wrong" in json.dumps(place.team.got[0])
    (incident,) = place.pagerduty.incidents
    assert codes["pager"] in incident["title"]
    assert incident["end"] is not None
    assert place.firing() == []
    assert TOKEN not in json.dumps(outcome.result)


def test_accepted_and_not_delivered_is_red(place: Place) -> None:
    """200 is no arrival: to another receiver, kept back by a silence, to a receiver that does not show it."""
    elsewhere = place.run(place.to_team | {"labels": {"severity": "page"}})
    assert checks(elsewhere)["team"] == "breach"
    assert "goes to pager" in elsewhere.result["msg"]
    # Nobody tried the other one.
    assert checks(elsewhere)["pager"] == "unknown"

    now = datetime.now(UTC)
    matcher = {"name": "severity", "value": "info", "isRegex": False, "isEqual": True}
    silence = place.ask("/api/v2/silences", {
        "matchers": [matcher], "startsAt": now.isoformat(), "endsAt": (now + timedelta(minutes=2)).isoformat(),
        "createdBy": "grace", "comment": "x",
    })["silenceID"]  # fmt: skip
    try:
        silenced = place.run(place.to_team)
        assert "kept back by a silence" in silenced.result["msg"]
    finally:
        urlopen(Request(f"{place.url}/api/v2/silence/{silence}", method="DELETE"), timeout=20).close()  # noqa: S310

    other = Team()
    with other:
        lost = place.run(place.to_team | {"url": other.url}, wait_s=5)
    assert checks(lost)["team"] == "breach"
    assert "did not arrive within 5 s" in lost.result["msg"]
    # What follows the path of a page may be a secret.
    blind = place.run(place.to_team | {"url": f"{other.url}/?token=c4n4ry"}, wait_s=5)
    assert (checks(blind)["team"], "c4n4ry" in str(blind.result["checks"]) + blind.result["msg"]) == ("unknown", False)
    assert place.firing() == []


def test_an_incident_that_a_real_alert_is_in_is_not_resolved_for_a_test(tmp_path: Path) -> None:
    """A route that groups by severity puts both into one message, and so into one incident."""

    class Shared(Alertmanager):
        def files(self) -> dict[str, str]:
            return {name: text.replace("alertname", "severity") for name, text in super().files().items()}

    class Busy(FakePagerDuty):
        """As soon as the test is an incident a real alert joins it."""

        def _event(self, event: dict[str, Any]) -> Reply:
            reply = super()._event(event)
            if event["event_action"] == "trigger" and "DiskFull" not in shared.grouped():
                end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
                shared.ask("/api/v2/alerts", [{"labels": {"alertname": "DiskFull", "severity": "page"}, "endsAt": end}])
                until = time.monotonic() + 60
                while "DiskFull" not in shared.grouped() and time.monotonic() < until:
                    time.sleep(0.05)
            return reply

    with Team() as team, Busy() as pagerduty:
        made = Shared(tmp_path, pagerduty=(pagerduty.url, ROUTING_KEY))
        with running(made) as started:
            shared = Place(started.url, team, pagerduty)
            first = shared.run(shared.to_pager)
            (incident,) = pagerduty.incidents
            again = shared.run(shared.to_pager, wait_s=5)
    code = first.result["sent"][0]["code"]
    assert checks(first)["pager"] == "unknown", first.result["checks"]
    assert f"{code} was left to Alertmanager, as it may be of other alerts too" in first.result["msg"]
    assert incident["end"] is None
    # Its code is in no title.
    assert checks(again)["pager"] == "unknown"
    assert "was sent in one message with 1 other alert" in again.result["msg"]


def test_what_no_machine_sees_is_unknown_and_names_its_code(place: Place) -> None:
    outcome = place.run(place.to_team | {"proof": "none", "url": None})
    assert (outcome.failed, outcome.result["status"]) == (False, "unknown")
    code = outcome.result["sent"][0]["code"]
    assert f"test {code} was sent" in outcome.result["msg"]
    # Of one that ends within group_wait nobody would be told.
    assert place.firing() == [code]
    (labels,) = [each["labels"] for each in place.ask("/api/v2/alerts") if each["labels"].get("runbook_test") == code]
    now = datetime.now(UTC)
    place.ask("/api/v2/alerts", [{
        "labels": labels, "startsAt": (now - timedelta(hours=1)).isoformat(), "endsAt": now.isoformat(),
    }])  # fmt: skip


def test_of_no_receiver_nobody_knows_whether_alerts_arrive(place: Place) -> None:
    outcome = place.run()
    assert (outcome.failed, outcome.result["status"], outcome.result["changed"]) == (False, "unknown", False)
    assert "receivers: none is named" in outcome.result["msg"]


def test_outside_of_the_hours_nobody_is_told(place: Place) -> None:
    before = len(place.team.got)
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%A}".lower()
    outcome = place.run(place.to_team, hours={"weekdays": [yesterday]})
    assert (outcome.result["status"], outcome.result["changed"]) == ("unknown", False)
    assert "Nothing was sent" in outcome.result["msg"]
    assert len(place.team.got) == before


def test_nothing_is_sent_where_something_is_missing(place: Place) -> None:
    for options, why in (
        ({"alertmanager_urls": []}, "alertmanager_urls: it is empty"),
        ({"pagerduty_from": ""}, "pagerduty_from: it is empty"),
        ({"pagerduty_api_token": ""}, "pagerduty_api_token: it is empty"),
        ({"wait_s": 4}, "wait_s: 4 is out of bounds"),
    ):
        outcome = place.run(place.to_pager, **options)
        assert (outcome.failed, why in outcome.result["msg"]) == (True, True), outcome.result["msg"]
    unread = place.run(place.to_team | {"ca_cert": "/none.pem"})
    assert "ca_cert: /none.pem cannot be read" in unread.result["msg"]
    assert (unread.failed, place.firing()) == (True, [])
    refused = run_module("alert_delivery_test", place.options(place.to_team), permitted=False)
    assert "has not passed preflight" in refused.result["msg"]


def test_a_test_that_is_stopped_ends_its_alert(place: Place) -> None:
    with Team() as other:
        process = module_process("alert_delivery_test", place.options(place.to_team | {"url": other.url}, wait_s=600))
        until = time.monotonic() + 120
        while not place.firing():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    # Whether the signal came in a look or between two.
    assert json.loads(said)["msg"].startswith("Stopped")
    assert place.firing() == []
