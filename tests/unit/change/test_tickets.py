"""One ticket for each change, whatever the network does; on fakes of the ticket systems and a folder as state store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.change import tickets as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done
from ansible.module_utils.runbook.drivers.http import api_client
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.change import Change, key
from ansible.module_utils.runbook.rules.change.note import Note, note_key
from ansible.module_utils.runbook.rules.change.ticket import closing
from ansible.module_utils.runbook.rules.run import Run
from ansible.module_utils.runbook.rules.status import Status
from fakes import github, jira, webhook
from fakes.http import FakeService, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUN_ID = "20261129T020000Z-weekly_db-1a2b"
KEY = key(RUN_ID)
NOTED = {"backend": "x", "key": KEY}
OPENING = Note(note_key(KEY, "ticket"), "Vacuums on Sunday.\n\nRollback: none is needed.")
STEP = Note(note_key(KEY, "vacuum"), "Vacuumed 12 tables of a_b.")
LAST = Note(note_key(KEY, "closed"), "All was verified.", "# weekly_db.yml: ok\n\n| a | b |\n| --- | --- |\n")
#: Each ticket system that can be asked, and Jira as Cloud and as Data Center.
ASKED = ("github", "cloud", "data_center")


class Place:
    """A fake with the options that name it."""

    def __init__(self, kind: str, fake: Any) -> None:
        self.kind = kind
        self.fake: Any = fake
        self.options: dict[str, Any] = {
            "github": {"backend": "github", "github_repository": github.REPOSITORY, "github_token": github.TOKEN,
                       "github_api_url": fake.url},
            "cloud": {"backend": "jira", "jira_url": fake.url, "jira_user": jira.USER, "jira_token": jira.TOKEN,
                      "jira_project": "OPS"},
            "data_center": {"backend": "jira", "jira_url": fake.url, "jira_token": jira.TOKEN, "jira_project": "OPS"},
            "webhook": {"backend": "webhook", "webhook_url": f"{fake.url}{webhook.PATH}",
                        "webhook_token": webhook.TOKEN},
        }[kind]  # fmt: skip

    def tickets(self, *, read_only: bool = False, timeout_s: float = 30, **options: Any) -> driver.Tickets:
        unset = dict.fromkeys((
            "github_repository", "github_token", "github_api_url", "jira_url", "jira_user", "jira_token",
            "jira_project", "jira_issue_type", "jira_transition", "webhook_url", "webhook_token", "ca_cert",
        ))  # fmt: skip
        params = unset | {"timeout_s": timeout_s} | self.options | options
        made = driver.from_params(params, closing, read_only=read_only)
        assert made is not None
        return made

    @property
    def count(self) -> int:
        """How many tickets there are."""
        return len(self.fake.issues)

    def comments(self, number: int = 1) -> list[str]:
        """The texts of a ticket's comments, as they lie there."""
        there = self.fake.comments.get(number if self.kind == "github" else f"OPS-{number}", [])
        return [json.dumps(each["body"], ensure_ascii=False) for each in there]

    @property
    def creating(self) -> str:
        return r"POST .*/issues?$"

    @property
    def commenting(self) -> str:
        return r"POST .*/comments?$"

    @property
    def ending(self) -> str:
        return r"PATCH" if self.kind == "github" else r"POST .*/transitions$"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it takes here, where nothing changes between two looks."""
    monkeypatch.setattr(api_client, "_LOOKS_S", (0.01, 0.01))
    monkeypatch.setattr(api_client, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(api_client, "_SILENCE_S", 0.2)


@pytest.fixture(params=ASKED)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    fake: FakeService = github.FakeGitHub() if request.param == "github" else jira.FakeJira()
    with fake:
        yield Place(request.param, fake)


@pytest.fixture
def changes(tmp_path: Path) -> Changes:
    root = tmp_path / "state"
    root.mkdir(mode=0o700)
    own = str(process.own())
    made = Changes(Folder(root, "sandbox"), Run(RUN_ID, None, "bastion/1", own))
    now = datetime.now(UTC)
    made.open(Change(RUN_ID, "weekly_db.yml", "weekly", ("database a",), own, now, now + timedelta(hours=2)))
    return made


def noted(changes: Changes) -> dict[str, Any]:
    """What the change has of its ticket; empty if it has none."""
    change = changes.current()
    assert change is not None
    return dict(change.opened.get("ticket", {}))


def test_a_ticket_from_its_opening_to_its_end_and_each_act_again(place, changes):
    tickets = place.tickets()
    others = (
        [place.fake.issue(f"other {number}", "", "runbook") for number in range(3)] if place.kind == "github" else []
    )
    opened = driver.open_ticket(changes, tickets, NOTED, "Weekly maintenance", OPENING)
    assert opened.facts["changed"] is True
    known = noted(changes)
    assert known == NOTED | {"id": opened.facts["ticket_id"], "url": opened.proof}
    assert opened.proof.startswith("http")
    number = len(others) + 1
    assert place.comments(number) == []
    for what in (known, NOTED):
        assert driver.open_ticket(changes, tickets, what, "Again", OPENING).facts["changed"] is False
    steps: list[tuple[Callable[..., Any], Note]] = [
        (driver.comment, STEP), (driver.comment, Note(note_key(KEY, "other"), "More.")), (driver.close, LAST)
    ]  # fmt: skip
    for act, note in steps:
        for expected in (True, False):
            assert act(tickets, known, note).facts["changed"] is expected, note
    # By the key alone, as whoever comes after a run that was killed before it knew the number.
    assert driver.close(tickets, NOTED, LAST).facts["changed"] is False
    assert place.count == number
    assert len(place.comments(number)) == 3
    assert "Vacuumed 12 tables" in place.comments(number)[0]
    assert "weekly_db.yml: ok" in place.comments(number)[2]


def test_accepted_and_the_answer_lost_makes_one_ticket_and_one_comment(place, changes):
    place.fake.faults = [Fault(on, "lost") for on in (place.creating, place.commenting, place.ending)]
    tickets = place.tickets()
    done = driver.open_ticket(changes, tickets, NOTED, "Weekly maintenance", OPENING)
    assert (done.status, done.facts["changed"]) == (Status.OK, True)
    assert driver.comment(tickets, NOTED, STEP).facts["changed"] is True
    assert driver.close(tickets, NOTED, LAST).facts["changed"] is True
    assert place.count == 1
    assert len(place.comments()) == 2
    assert driver.close(tickets, NOTED, LAST).msg.endswith("is closed already.")
    assert not [fault for fault in place.fake.faults if fault.times]


def test_accepted_with_an_empty_body_is_looked_for(place, changes):
    place.fake.faults = [Fault(place.creating, "status", 201)]
    with pytest.raises(RunbookError, match="not there to be found") as error:
        driver.open_ticket(changes, place.tickets(), NOTED, "Weekly maintenance", OPENING)
    assert error.value.status is Status.UNKNOWN
    # It may still come: the change says so, and the next run looks first.
    assert noted(changes) == NOTED
    assert driver.open_ticket(changes, place.tickets(), NOTED, "Weekly maintenance", OPENING).facts["changed"] is True
    assert place.count == 1


def test_a_refusal_does_not_hide_that_an_earlier_attempt_may_have_opened_one(place, changes):
    for fault, says in ((Fault("POST", "status", 500), "not made again"), (Fault("GET", "status", 401), "with 401")):
        place.fake.faults = [fault]
        with pytest.raises(RunbookError, match=says):
            driver.open_ticket(changes, place.tickets(), NOTED, "Weekly maintenance", OPENING)
    assert noted(changes) == NOTED


def test_a_search_that_lags_makes_no_second_ticket(changes):
    with jira.FakeJira() as fake:
        place = Place("cloud", fake)
        fake.faults = [Fault(place.creating, "lost")]
        fake.lag = 2
        assert driver.open_ticket(changes, place.tickets(), NOTED, "Weekly", OPENING).facts["ticket_id"] == "OPS-1"
        assert place.count == 1


@pytest.mark.parametrize(("fault", "status", "says"), [
    (Fault(".", "status", 500, {}, {"message": "boom"}, times=9), "unknown", "refused GET .* with 500: boom"),
    (Fault(".", "slow", wait_s=0.5, times=9), "unknown", "did not answer GET"),
    (Fault("POST", "status", 500, times=9), "unknown", "was not made again"),
    (Fault("POST", "status", 502, times=9), "unknown", "was not made again"),
    (Fault(".", "status", 502, times=2), None, ""),
    (Fault("POST", "status", 429, {"Retry-After": "0.01"}), None, ""),
    (Fault("POST", "status", 429), None, ""),
    (Fault("POST", "status", 403, {"Retry-After": "0.01"}), None, ""),
    (Fault("GET", "reset"), None, ""),
    (Fault("GET", "early"), None, ""),
    (Fault("POST", "status", 403, {}, {"message": "Resource not accessible"}), "breach", "lacks the right"),
    (Fault("GET", "status", 200, {}, {"surprise": 1}), "unknown", "no (list|issues)"),
    (Fault("GET", "status", 200, {"Content-Type": "text/html"}, b"<html>Log in"), "unknown", "no JSON"),
], ids=["500", "slow", "500 to a write", "502 to a write", "502 twice",
        "429 with a time", "429", "secondary limit", "reset", "early",
        "403", "shape", "page"])  # fmt: skip
def test_a_service_that_fails_is_told_in_one_sentence(place, changes, fault, status, says):
    place.fake.faults = [Fault(**vars(fault))]
    tickets = place.tickets(timeout_s=0.2 if fault.kind == "slow" else 30)

    def act() -> Done:
        return driver.open_ticket(changes, tickets, NOTED, "Weekly maintenance", OPENING)

    if status is None:
        assert act().facts["changed"] is True
    else:
        with pytest.raises(RunbookError, match=says) as error:
            act()
        assert error.value.status == status
        assert "\n" not in error.value.message
        # What was refused, or never asked for, is not there; what is unknown may be.
        may_be = not isinstance(error.value, api_client.ApiError) or error.value.uncertain
        assert noted(changes) == (NOTED if may_be else {})
        assert may_be is (status == "unknown" and (fault.on == "POST" or "no issues" in error.value.message))
    assert place.count == (status is None)


def test_a_failure_blocks_or_is_unknown(place, changes):
    place.fake.faults = [Fault(".", "status", 500, times=2)]

    def act() -> Done:
        return driver.comment(place.tickets(), NOTED, STEP)

    with pytest.raises(RunbookError, match="with 500"):
        changes.conduct("vacuum", act, blocks=True)
    assert changes.conduct("vacuum", act, blocks=False).status is Status.UNKNOWN
    change = changes.current()
    assert change is not None
    assert change.items["vacuum"].status is Status.UNKNOWN


def test_a_wrong_token_is_no_service_that_is_down_and_is_not_repeated(place, changes, capfd):
    wrong = dict.fromkeys(("github_token", "jira_token"), "wr0ng-c4n4ry")
    with pytest.raises(RunbookError, match="with 401") as error:
        driver.open_ticket(changes, place.tickets(**wrong), NOTED, "Weekly maintenance", OPENING)
    assert error.value.status is Status.BREACH
    assert len(place.fake.requests) == 1
    assert "wr0ng" not in error.value.message + repr(error.value.context) + "".join(capfd.readouterr())
    assert noted(changes) == {}


def test_check_mode_writes_nothing_and_says_what_it_would_do(place, changes):
    tickets = place.tickets(read_only=True)
    assert driver.open_ticket(changes, tickets, NOTED, "Weekly", OPENING).msg == "Would open the ticket 'Weekly'."
    assert driver.comment(tickets, NOTED, STEP).facts == {"changed": True}
    assert driver.close(tickets, NOTED, LAST).facts == {"changed": True}
    assert driver.leave_open(tickets, NOTED, LAST).facts == {"changed": True}
    assert noted(changes) == {}
    driver.open_ticket(changes, place.tickets(), NOTED, "Weekly", OPENING)
    assert "would get the note" in driver.comment(tickets, NOTED, STEP).msg
    assert "would be closed" in driver.close(tickets, NOTED, LAST).msg
    assert place.comments() == []
    assert {line.split()[0] for line in place.fake.requests} == {"GET", "POST"}
    assert sum(line.startswith("POST") for line in place.fake.requests) == 1


def test_a_ticket_that_was_closed_or_deleted_meanwhile(place, changes):
    tickets = place.tickets()
    driver.open_ticket(changes, tickets, NOTED, "Weekly", OPENING)
    known = noted(changes)
    driver.close(tickets, known, Note(LAST.key, ""))
    assert place.comments() == []
    with pytest.raises(RunbookError, match="was closed meanwhile; open it again"):
        driver.open_ticket(changes, tickets, known, "Weekly", OPENING)
    place.fake.issues.clear()
    gone = driver.close(tickets, known, LAST)
    assert (gone.status, gone.facts) == (Status.OK, {})
    with pytest.raises(RunbookError, match="has no ticket"):
        driver.comment(tickets, known, STEP)


def test_a_ticket_that_is_left_open_has_the_reason_and_is_open(place, changes):
    tickets = place.tickets()
    driver.open_ticket(changes, tickets, NOTED, "Weekly", OPENING)
    done = driver.leave_open(tickets, NOTED, Note(note_key(KEY, "end"), "The error logs were not compared."))
    assert done.msg.endswith("It stays open for a person.")
    found = tickets.find(KEY, "")
    assert found is not None
    assert found.is_open
    assert "error logs" in place.comments()[0]


def test_a_ticket_that_is_gone_is_nobodys_to_leave_open(place):
    tickets = place.tickets()
    done = driver.leave_open(tickets, NOTED, LAST)
    assert (done.status, done.msg) == (Status.OK, "The change has no ticket, so nothing was written on one.")


def test_who_quotes_the_key_is_not_the_note(changes):
    with github.FakeGitHub() as fake:
        place = Place("github", fake)
        fake.issue("A person quotes", f"> <!-- {KEY} -->", "runbook")
        tickets = place.tickets()
        assert driver.open_ticket(changes, tickets, NOTED, "Weekly", OPENING).facts["ticket_id"] == "2"
        fake.comments[2] = [{"id": 1, "body": f"On <!-- {STEP.key} --> I say"}]
        assert driver.comment(tickets, NOTED, STEP).facts["changed"] is True


def test_a_report_that_is_too_long_is_shortened_to_what_the_service_takes(place, changes):
    tickets = place.tickets()
    driver.open_ticket(changes, tickets, NOTED, "Weekly", OPENING)
    driver.close(tickets, NOTED, Note(LAST.key, LAST.text, "| a row of a table |\n" * 10_000))
    (said,) = place.comments()
    assert "left out" in said
    # What the vendors take, less what JSON adds to line feeds here.
    assert len(json.loads(said) if place.kind != "cloud" else said.replace("\\n", "\n")) <= (
        65_536 if place.kind == "github" else 32_767
    )
    assert LAST.key in said


# --- a receiver of somebody's own -------------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Iterator[Place]:
    with webhook.FakeReceiver() as fake:
        yield Place("webhook", fake)


def test_a_receiver_is_told_each_event_once(hook, changes):
    hook.fake.faults = [Fault("POST", "lost"), Fault("POST", "status", 503)]
    tickets = hook.tickets()
    done = driver.open_ticket(changes, tickets, NOTED, "Weekly", OPENING)
    assert done.proof == "https://tickets.example.net/7"
    known = noted(changes)
    assert driver.open_ticket(changes, tickets, known, "Weekly", OPENING).facts["changed"] is False
    driver.comment(tickets, known, STEP)
    driver.comment(tickets, known, STEP)
    driver.close(tickets, known, LAST)
    assert [(name.removeprefix(KEY), event["event"]) for name, event in hook.fake.events.items()] == [
        ("", "opened"), ("#vacuum", "commented"), ("#closed", "commented"), ("#close", "closed"),
    ]  # fmt: skip
    assert {event["ticket"] for event in hook.fake.events.values()} == {KEY}
    # The lost answer and the comment that came again were known by their keys; who says 503 has no key yet.
    assert [hook.fake.came.count(name) for name in hook.fake.events] == [2, 2, 1, 1]


def test_a_receiver_in_check_mode_hears_nothing(hook, changes):
    tickets = hook.tickets(read_only=True)
    driver.open_ticket(changes, tickets, NOTED, "Weekly", OPENING)
    driver.comment(tickets, NOTED | {"id": KEY}, STEP)
    driver.close(tickets, NOTED | {"id": KEY}, LAST)
    assert hook.fake.requests == []


@pytest.mark.parametrize("reply", [None, [], "ok", {"url": None}, b"<html>"])
def test_a_receiver_may_answer_anything(hook, changes, reply):
    hook.fake.reply = reply
    assert driver.open_ticket(changes, hook.tickets(), NOTED, "Weekly", OPENING).proof == KEY


def test_the_address_of_a_receiver_is_in_no_error(hook, changes):
    with pytest.raises(RunbookError, match="with 401") as error:
        driver.open_ticket(changes, hook.tickets(webhook_token="wr0ng-c4n4ry"), NOTED, "Weekly", OPENING)
    assert "c4n4ry" not in error.value.message
    hook.fake.__exit__()
    with pytest.raises(RunbookError, match="did not answer POST") as error:
        driver.open_ticket(changes, hook.tickets(), NOTED, "Weekly", OPENING)
    assert "c4n4ry" not in error.value.message
