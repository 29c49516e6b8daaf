"""One notice for each change, whatever the network does, and gone when it should be; on fakes of the status pages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.change import status_pages as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.drivers.http import api_client
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.change import Change
from ansible.module_utils.runbook.rules.change.status_page import BACKENDS, Level, Notice, Phase
from ansible.module_utils.runbook.rules.run import Run
from ansible.module_utils.runbook.rules.status import Status
from fakes import cachet, github, statuspage, webhook
from fakes.http import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime.now(UTC).replace(microsecond=0)
MAINTENANCE = Notice(
    "maintenance", "e2b4d0adb21d", "Scheduled maintenance", "We will carry out maintenance.", (), Level.MAINTENANCE,
    NOW + timedelta(hours=1), NOW + timedelta(hours=3),
)  # fmt: skip
INCIDENT = Notice("incident", "e2b4d0adb21d", "Service disruption", "We look into it.", (), Level.PARTIAL_OUTAGE)
#: The pages that can be asked.
ASKED = ("statuspage", "cachet", "upptime")


class Place:
    """A fake with the options that name it, and what is on its page."""

    def __init__(self, kind: str, fake: Any) -> None:
        self.kind = kind
        self.fake: Any = fake
        self.options: dict[str, Any] = {
            "statuspage": lambda: {"statuspage_page": statuspage.PAGE, "statuspage_token": statuspage.TOKEN,
                                   "statuspage_api_url": fake.base},
            "cachet": lambda: {"cachet_url": fake.base, "cachet_token": cachet.TOKEN},
            "upptime": lambda: {"upptime_repository": github.REPOSITORY, "upptime_token": github.TOKEN,
                                "upptime_api_url": fake.url},
            "webhook": lambda: {"webhook_url": fake.hook, "webhook_token": webhook.TOKEN},
        }[kind]()  # fmt: skip
        self.components = {"statuspage": statuspage.COMPONENTS, "cachet": ("1", "2")}.get(kind, ("web-app",))

    def page(self, *, read_only: bool = False, timeout_s: float = 30, **options: Any) -> driver.StatusPage:
        unset = dict.fromkeys(frozenset().union(*(needs.all for needs in BACKENDS.values())))
        params = unset | {"backend": self.kind, "ca_cert": None, "timeout_s": timeout_s} | self.options | options
        made = driver.from_params(params, read_only=read_only)
        assert made is not None
        return made

    def notice(self, made: Notice = MAINTENANCE, **changed: Any) -> Notice:
        """With this page's components."""
        return replace(made, **{"components": self.components, **changed})

    def noted(self, notice: Notice) -> dict[str, Any]:
        """What a change knows before anything is there."""
        return {
            "backend": self.kind, "kind": notice.kind, "reference": notice.reference,
            "components": list(notice.components),
        }  # fmt: skip

    def count(self, kind: str = "maintenance") -> int:
        """How many notices there are."""
        if self.kind == "cachet":
            return len(self.fake.schedules if kind == "maintenance" else self.fake.incidents)
        return len(self.fake.issues if self.kind == "upptime" else self.fake.incidents)

    def said(self) -> str:
        """All that is on the page."""
        fake = self.fake
        if self.kind == "statuspage":
            return json.dumps(fake.incidents)
        if self.kind == "cachet":
            return json.dumps([fake.schedules, fake.incidents, list(fake.updates.values())])
        return json.dumps([fake.issues, fake.comments])

    def levels(self) -> set[Any]:
        """How the components do, where the page has them."""
        if self.kind == "statuspage":
            return {each["status"] for each in self.fake.components.values()}
        return set(self.fake.components.values()) if self.kind == "cachet" else set()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it takes here, where nothing changes between two looks."""
    monkeypatch.setattr(api_client, "_LOOKS_S", (0.01, 0.01))
    monkeypatch.setattr(api_client, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(api_client, "_SILENCE_S", 0.2)


@pytest.fixture(params=ASKED)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    fakes = {"statuspage": statuspage.FakeStatuspage, "cachet": cachet.FakeCachet, "upptime": github.FakeGitHub}
    with fakes[request.param]() as fake:
        yield Place(request.param, fake)


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    root = tmp_path / "state"
    root.mkdir(mode=0o700)
    own = str(process.own())
    made = Changes(Folder(root, "sandbox"), Run("run-1", None, "bastion/1", own))
    made.open(Change("run-1", "weekly_db.yml", "weekly", ("database a",), own, NOW, NOW + timedelta(hours=2)))
    return made


def known(changes: Changes, kind: str = "maintenance") -> dict[str, Any]:
    """What the change has of its notice; empty if it has none."""
    change = changes.current()
    assert change is not None
    return dict(change.opened.get(kind, {}))


def test_maintenance_from_its_announcement_to_its_end_and_each_act_again(place, changes):
    page, notice = place.page(), place.notice()
    noted = place.noted(notice)
    for number in range(3):  # lists have more than one page
        page.open(replace(notice, reference=f"other-{number}"))
    done = driver.announce(changes, page, noted, notice)
    assert done.facts["changed"] is True
    assert done.proof.startswith("http")
    noted_now = known(changes)
    assert noted_now == noted | {"id": done.facts["notice_id"], "url": done.facts["notice_url"]}
    for what in (noted_now, noted):
        assert driver.announce(changes, page, what, notice).facts["changed"] is False
    begun = place.notice(text="It has begun.", starts_at=None, until=None)
    for expected in (True, False):
        assert driver.tell(page, noted_now, begun, Phase.IN_PROGRESS).facts["changed"] is expected
    found = page.find("maintenance", notice.reference, noted_now["id"])
    assert found is not None
    assert (found.phase, found.until) == (Phase.IN_PROGRESS, notice.until)
    later = place.notice(text="It takes longer.", starts_at=None, until=NOW + timedelta(hours=5))
    for expected in (True, False):
        assert driver.tell(page, noted_now, later, None).facts["changed"] is expected
    found = page.find("maintenance", notice.reference, noted_now["id"])
    assert found is not None
    assert found.until == later.until
    for expected in (True, False):
        assert driver.end(page, noted_now, "It is over.").facts["changed"] is expected
    assert place.count() == 4
    for text in ("We will carry out maintenance.", "It has begun.", "It takes longer.", "It is over."):
        assert place.said().count(text) == (4 if text.startswith("We") else 1) or place.kind == "statuspage"
    assert place.levels() in (set(), {"operational"}, {1})
    with pytest.raises(RunbookError, match="is over on the status page; announce it first"):
        driver.tell(page, noted_now, begun, Phase.IN_PROGRESS)


def test_an_incident_from_its_opening_to_its_end(place, changes):
    page, notice = place.page(), place.notice(INCIDENT)
    driver.announce(changes, page, place.noted(notice), notice)
    noted = known(changes, "incident")
    if place.kind == "statuspage":
        assert place.levels() == {"partial_outage"}
    update = replace(notice, text="We know what it is.", components=())
    for expected in (True, False):
        assert driver.tell(page, noted, update, Phase.IDENTIFIED).facts["changed"] is expected
    for expected in (True, False):
        assert driver.end(page, noted, "It is solved.").facts["changed"] is expected
    assert place.count("incident") == 1
    assert place.levels() in (set(), {"operational"}, {1})


def test_what_is_worse_or_later_is_shown_with_the_same_text_too(place, changes):
    page, notice = place.page(), place.notice(INCIDENT)
    driver.announce(changes, page, place.noted(notice), notice)
    noted = known(changes, "incident")
    for level, phase in (
        (Level.DEGRADED, Phase.IDENTIFIED), (Level.MAJOR_OUTAGE, Phase.IDENTIFIED),
        (Level.MAJOR_OUTAGE, Phase.MONITORING), (Level.DEGRADED, Phase.MONITORING),
    ):  # fmt: skip
        update = place.notice(INCIDENT, text="Working.", level=level)
        for expected in (True, False):
            assert driver.tell(page, noted, update, phase).facts["changed"] is expected, (level, phase)
        if place.kind == "upptime":
            continue
        shown = page.find("incident", notice.reference, noted["id"])
        assert shown is not None
        assert shown.phase is phase
        words: set[Any] = {"degraded_performance", 2} if level is Level.DEGRADED else {"major_outage", 4}
        assert place.levels() <= words
        if place.kind == "statuspage":
            assert place.fake.incidents[0]["impact"] == ("minor" if level is Level.DEGRADED else "critical")
    driver.end(page, noted, "It is solved.")
    assert place.levels() in (set(), {"operational"}, {1})


def test_whoever_comes_after_a_kill_ends_it_by_the_reference_alone(place, changes):
    for notice in (place.notice(), place.notice(INCIDENT)):
        page = place.page()
        noted = place.noted(notice)
        driver.announce(changes, page, noted, notice)
        assert driver.end(place.page(), noted, "Over.").facts["changed"] is True
        gone = driver.end(place.page(), noted, "Over.")
        assert (gone.status, gone.facts) == (Status.OK, {})


def test_another_end_is_not_taken_for_announced(place, changes):
    page, notice = place.page(), place.notice()
    driver.announce(changes, page, place.noted(notice), notice)
    with pytest.raises(
        RunbookError, match=r"until: the maintenance is announced already, until .* maintenance_updated"
    ):
        driver.announce(changes, page, known(changes), place.notice(until=NOW + timedelta(hours=9)))


def test_maintenance_that_nobody_ends_is_over_by_itself(place):
    notice = place.notice(starts_at=NOW - timedelta(hours=2), until=NOW - timedelta(seconds=1))
    page, noted = place.page(), place.noted(place.notice())
    page.open(notice)
    assert page.find("maintenance", notice.reference, "") is None
    assert driver.end(page, noted, "Over.").facts == {}
    found = page.find("maintenance", notice.reference, "1" if place.kind != "statuspage" else "p31zjtct2j0")
    assert found is not None
    assert found.phase is Phase.COMPLETED


def test_a_page_that_began_by_itself_is_not_told_to_begin(place, changes):
    notice = place.notice(starts_at=NOW - timedelta(seconds=1))
    page, noted = place.page(), place.noted(notice)
    driver.announce(changes, page, noted, notice)
    writes = len(place.fake.requests)
    begun = place.notice(text="It has begun.", starts_at=None, until=None)
    assert driver.tell(page, noted, begun, Phase.IN_PROGRESS).facts["changed"] is False
    assert {line.split()[0] for line in place.fake.requests[writes:]} == {"GET"}


def test_accepted_and_the_answer_lost_makes_one_notice_and_one_update(place, changes):
    updating = {"statuspage": "PATCH", "cachet": "POST .*/updates", "upptime": "POST .*/comments"}[place.kind]
    place.fake.faults = [Fault(r"POST .*/(incidents|schedules|issues)$", "lost"), Fault(updating, "lost", times=2)]
    page, notice = place.page(), place.notice()
    noted = place.noted(notice)
    assert driver.announce(changes, page, noted, notice).facts["changed"] is True
    begun = place.notice(text="It has begun.", starts_at=None, until=None)
    assert driver.tell(page, noted, begun, Phase.IN_PROGRESS).facts["changed"] is True
    assert driver.end(page, known(changes), "It is over.").facts["changed"] is True
    assert place.count() == 1
    assert place.said().count('"It has begun.') == 1
    assert not [fault for fault in place.fake.faults if fault.times]


@pytest.mark.parametrize(("fault", "status", "says"), [
    (Fault(".", "status", 500, {}, {"message": "boom"}, times=9), "unknown", "refused GET .* with 500: boom"),
    (Fault(".", "slow", wait_s=0.5, times=9), "unknown", "did not answer GET"),
    (Fault("POST", "status", 500, times=9), "unknown", "was not made again"),
    (Fault("POST", "status", 502, times=9), "unknown", "was not made again"),
    (Fault(".", "status", 502, times=2), None, ""),
    (Fault("POST", "status", 201), "unknown", "not there to be found"),
    (Fault("POST", "status", 420), None, ""),
    (Fault("POST", "status", 429, {"Retry-After": "0.01"}), None, ""),
    (Fault("GET", "status", 420, times=2), None, ""),
    (Fault("GET", "status", 429, {"Retry-After": "Sun, 29 Nov 2020 02:00:00 GMT"}), None, ""),
    (Fault("GET", "reset"), None, ""),
    (Fault("POST", "status", 422, {}, {"message": "name is invalid"}), "breach", "with 422: name is invalid"),
    (Fault("GET", "status", 200, {}, {"surprise": 1}), "unknown", "no list"),
    (Fault("GET", "status", 200, {"Content-Type": "text/html"}, b"<html>Log in"), "unknown", "no JSON"),
], ids=["500", "slow", "500 to a write", "502 to a write", "502 twice",
        "empty 201", "420", "429", "420 to a list", "429 with a date", "reset", "422",
        "shape", "page"])  # fmt: skip
def test_a_service_that_fails_is_told_in_one_sentence(place, changes, fault, status, says):
    place.fake.faults = [Fault(**vars(fault))]
    page, notice = place.page(timeout_s=0.2 if fault.kind == "slow" else 30), place.notice()
    noted = place.noted(notice)
    if status is None:
        assert driver.announce(changes, page, noted, notice).facts["changed"] is True
    else:
        with pytest.raises(RunbookError, match=says) as error:
            driver.announce(changes, page, noted, notice)
        assert error.value.status == status
        assert "\n" not in error.value.message
        # What was refused, or never asked for, is not there; what is unknown may be.
        may_be = not isinstance(error.value, api_client.ApiError) or error.value.uncertain
        assert known(changes) == (noted if may_be else {})
        assert may_be is (status == "unknown" and (fault.on == "POST" or "no issues" in error.value.message))
    assert place.count() == (status is None)


def test_a_refusal_does_not_hide_that_an_earlier_attempt_may_have_announced_it(place, changes):
    page, notice = place.page(), place.notice()
    noted = place.noted(notice)
    for fault, says in ((Fault("POST", "status", 500), "not made again"), (Fault("GET", "status", 401), "with 401")):
        place.fake.faults = [fault]
        with pytest.raises(RunbookError, match=says):
            driver.announce(changes, page, noted, notice)
    assert known(changes) == noted


def test_a_wrong_token_is_told_once_and_repeated_nowhere(place, changes):
    wrong = dict.fromkeys(("statuspage_token", "cachet_token", "upptime_token"), "wr0ng-c4n4ry")
    with pytest.raises(RunbookError, match="with 401") as error:
        driver.announce(changes, place.page(**wrong), place.noted(place.notice()), place.notice())
    assert error.value.status is Status.BREACH
    assert "c4n4ry" not in error.value.message + repr(error.value.context)
    assert len(place.fake.requests) == 1


def test_check_mode_writes_nothing_and_says_what_it_would_do(place, changes):
    page, notice = place.page(read_only=True), place.notice()
    noted = place.noted(notice)
    said = driver.announce(changes, page, noted, notice)
    assert (said.msg, said.facts) == ("Would announce on the status page: Scheduled maintenance.", {"changed": True})
    assert driver.tell(page, noted, notice, Phase.IN_PROGRESS).facts == {"changed": True}
    assert driver.end(page, noted, "Over.").facts == {"changed": True}
    assert known(changes) == {}
    driver.announce(changes, place.page(), noted, notice)
    assert "would be told" in driver.tell(page, noted, place.notice(text="New."), Phase.IN_PROGRESS).msg
    assert "would be ended" in driver.end(page, noted, "Over.").msg
    assert sum(not line.startswith("GET") for line in place.fake.requests) == 1


def test_what_another_run_carries_out_is_not_noted(place, changes):
    notice = place.notice()
    driver.announce(None, place.page(), place.noted(notice), notice)
    assert known(changes) == {}
    assert place.count() == 1


def test_a_component_is_set_once(place):
    page = place.page()
    if place.kind == "upptime":
        with pytest.raises(RunbookError, match="measures web-app itself"):
            driver.set_components(page, place.components, Level.DEGRADED)
        return
    assert driver.set_components(place.page(read_only=True), place.components, Level.DEGRADED).facts == {
        "changed": True
    }
    assert place.levels() in ({"operational"}, {1})
    for expected in (True, False):
        assert driver.set_components(page, place.components, Level.DEGRADED).facts == {"changed": expected}
    assert place.levels() in ({"degraded_performance"}, {2})
    with pytest.raises(RunbookError, match="with 404"):
        driver.set_components(page, ["77"], Level.DEGRADED)


def test_the_end_of_maintenance_hides_no_incident_and_the_other_way_round(changes):
    with statuspage.FakeStatuspage() as fake:
        place = Place("statuspage", fake)
        page, first, second = place.page(), *statuspage.COMPONENTS
        maintenance = place.notice(starts_at=NOW - timedelta(seconds=1))
        incident = place.notice(INCIDENT, components=(first,))
        for notice in (maintenance, incident):
            driver.announce(changes, page, place.noted(notice), notice)
        fake.components[second]["status"] = "under_maintenance"  # as it is set at the beginning
        driver.end(page, known(changes), "It is over.")
        assert [fake.components[name]["status"] for name in (first, second)] == ["partial_outage", "operational"]
        fake.components[first]["status"] = "under_maintenance"
        driver.end(page, known(changes, "incident"), "It is solved.")
        assert fake.components[first]["status"] == "under_maintenance"


def test_nothing_on_the_page_names_the_run(place, changes):
    notice = place.notice()
    driver.announce(changes, place.page(), place.noted(notice), notice)
    assert "weekly_db" not in place.said()
    assert "run-1" not in place.said()


def test_upptime_reads_what_is_written():
    with github.FakeGitHub() as fake:
        place = Place("upptime", fake)
        place.page().open(place.notice())
        assert fake.issues[0]["labels"][0]["name"] == "maintenance"
        # As Upptime does: the first comment, line by line, at the first colon.
        comment = fake.issues[0]["body"].split("<!--")[1].split("-->")[0]
        read = dict(line.split(": ", 1) for line in comment.strip().splitlines())
        assert datetime.fromisoformat(read["start"]) == MAINTENANCE.starts_at
        assert datetime.fromisoformat(read["end"]) == MAINTENANCE.until
        assert read["expectedDown"] == "web-app"


def test_a_receiver_is_told_each_event_once(changes):
    with webhook.FakeReceiver() as fake:
        place = Place("webhook", fake)
        fake.faults = [Fault("POST", "lost"), Fault("POST", "status", 503)]
        page, notice = place.page(), place.notice()
        noted = place.noted(notice)
        driver.announce(changes, page, noted, notice)
        begun = place.notice(text="It has begun.", starts_at=None, until=None)
        for _ in range(2):
            driver.tell(page, noted, begun, Phase.IN_PROGRESS)
            driver.end(page, known(changes), "It is over.")
        driver.set_components(page, place.components, Level.DEGRADED)
        said = [(event["event"], event.get("phase"), event.get("level")) for event in fake.events.values()]
        assert said == [
            ("opened", "scheduled", "maintenance"), ("updated", "in_progress", "maintenance"),
            ("updated", "completed", "operational"), ("components", None, "degraded"),
        ]  # fmt: skip
        assert {event["notice"] for event in fake.events.values() if "notice" in event} == {notice.reference}
        assert len(fake.came) == 7
        count = len(fake.requests)
        dry = place.page(read_only=True)
        driver.announce(changes, dry, noted, notice)
        driver.end(dry, noted, "x")
        driver.set_components(dry, place.components, Level.DEGRADED)
        assert len(fake.requests) == count


def test_a_receiver_that_keeps_the_contract_misses_nothing(changes):
    with webhook.FakeReceiver() as fake:
        place = Place("webhook", fake)
        page, notice = place.page(), place.notice(INCIDENT)
        driver.announce(changes, page, place.noted(notice), notice)
        noted = known(changes, "incident")
        steps: list[dict[str, Any]] = [
            {"level": Level.DEGRADED}, {"level": Level.MAJOR_OUTAGE}, {"components": ("other",)},
            {"until": NOW + timedelta(hours=4)}, {"until": NOW + timedelta(hours=5)},
            {"level": Level.DEGRADED, "item": "again"},
        ]  # fmt: skip
        for step in steps:
            for _ in range(2):
                driver.tell(page, noted, place.notice(INCIDENT, text="Working.", **step), Phase.IDENTIFIED)
        driver.tell(page, noted, place.notice(INCIDENT, text="Working.", **steps[0]), Phase.MONITORING)
        assert len(fake.events) == 1 + len(steps) + 1
        assert len(fake.came) == 1 + 2 * len(steps) + 1
