"""The module change_status_page, as a playbook calls it: options, check mode, what the change keeps, and secrets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.rules.change.change import Change
from ansible.module_utils.runbook.rules.status import Status
from conftest import Outcome, a_run, approve, as_environ, run_module
from fakes import statuspage
from fakes.http import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime.now(UTC).replace(microsecond=0)
COMPONENT = statuspage.COMPONENTS[0]
SOON = (NOW + timedelta(hours=1)).isoformat()
UNTIL = (NOW + timedelta(hours=2)).isoformat()
LATER = (NOW + timedelta(hours=4)).isoformat()


class Project:
    """A run with an open change, and the page that tells of it."""

    def __init__(self, fake: statuspage.FakeStatuspage, root: Path, directory: Path, run_id: str) -> None:
        self.fake, self.root = fake, root
        directory.mkdir()
        self.run = a_run(run_id, directory=directory)
        approve(self.run, "sandbox")
        self.changes = Changes(Folder(root, "sandbox"), self.run)
        self.changes.open(
            Change(run_id, "weekly_db.yml", "weekly", ("database a",), str(self.run.process), NOW, NOW + timedelta(1))
        )

    def __call__(
        self, state: str, item: str = "", *, check: bool = False, diff: bool = False, **options: Any
    ) -> Outcome:
        common = {
            "state": state, "item": item or state, "backend": "statuspage", "statuspage_page": statuspage.PAGE,
            "statuspage_token": statuspage.TOKEN, "statuspage_api_url": self.fake.base,
            "state_directory": str(self.root),
        }  # fmt: skip
        given = {name: value for name, value in (common | options).items() if value is not None}
        return run_module("change_status_page", given, check=check, diff=diff, permitted=False, **as_environ(self.run))

    @property
    def change(self) -> Change:
        """What the store has of it."""
        found = self.changes.current()
        assert found is not None
        return found


@pytest.fixture
def page() -> Iterator[statuspage.FakeStatuspage]:
    with statuspage.FakeStatuspage() as fake:
        yield fake


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def project(page: statuspage.FakeStatuspage, root: Path, tmp_path: Path) -> Project:
    return Project(page, root, tmp_path / "run", "20261129T020000Z-weekly_db-1a2b")


def test_maintenance_is_kept_by_the_change_until_it_ends(project, page):
    first, second = statuspage.COMPONENTS
    opened = project("maintenance_scheduled", starts_at=SOON, until=UNTIL, components=[first, second]).result
    assert (opened["status"], opened["changed"]) == ("ok", True)
    assert page.incidents[0]["scheduled_auto_completed"] is True
    assert project.change.opened["maintenance"]["id"] == opened["notice_id"]
    asked = len(page.requests)
    again = project("maintenance_scheduled", until=LATER, components=[first]).result
    assert (again["changed"], again["msg"][:13]) == (False, "Done already:")
    assert len(page.requests) == asked
    assert project("maintenance_started").result["changed"] is True
    assert {each["status"] for each in page.components.values()} == {"under_maintenance"}
    assert project("maintenance_updated", text="It takes longer.", until=LATER).result["changed"] is True
    assert datetime.fromisoformat(page.incidents[0]["scheduled_until"]) == datetime.fromisoformat(LATER)
    assert project("maintenance_ended").result["msg"] == "The maintenance was ended on the status page."
    assert {each["status"] for each in page.components.values()} == {"operational"}
    assert project.change.opened == {}
    assert {item.status for item in project.change.items.values()} == {Status.OK}
    assert len(page.incidents) == 1


def test_an_incident_with_its_components(project, page):
    first, second = statuspage.COMPONENTS
    assert project("incident_opened", level="degraded", components=[first]).result["changed"] is True
    update: dict[str, Any] = {
        "phase": "identified",
        "text": "We know what it is.",
        "components": [second],
        "level": "major_outage",
    }
    assert project("incident_updated", **update).result["changed"] is True
    assert [each["status"] for each in page.components.values()] == ["degraded_performance", "major_outage"]
    assert project("components_set", components=[first], level="partial_outage").result["changed"] is True
    assert project("incident_resolved").result["changed"] is True
    assert {each["status"] for each in page.components.values()} == {"operational"}
    assert page.incidents[0]["status"] == "resolved"
    assert project.change.opened == {}


def test_one_run_announces_and_another_carries_out(project, page, root, tmp_path):
    options: dict[str, Any] = {"announced_as": "quarterly-2026-12-06"}
    project.changes.close(str(project.run.id))
    announcing = {"starts_at": SOON, "until": UNTIL, "components": [COMPONENT]} | options
    announced = project("maintenance_announced", **announcing)
    assert announced.result["changed"] is True
    assert project.changes.current() is None
    again = project("maintenance_announced", **announcing)
    assert (again.result["changed"], again.result["msg"][:12]) == (False, "Done already")
    other = Project(page, root, tmp_path / "other", "20261206T020000Z-quarterly-3c4d")
    # It takes over what is there, with the times that were announced.
    carried = other("maintenance_scheduled", until=LATER, components=[COMPONENT], **options)
    assert (carried.result["status"], carried.result["changed"]) == ("ok", False)
    assert other.change.opened["maintenance"]["id"] == page.incidents[0]["id"]
    assert other("maintenance_started").result["changed"] is True
    assert other("maintenance_ended").result["changed"] is True
    assert [each["status"] for each in page.incidents] == ["completed"]
    assert page.components[COMPONENT]["status"] == "operational"


def test_check_mode_shows_the_plan_before_there_is_a_change(project, page):
    project.changes.close(str(project.run.id))
    opened = project("maintenance_scheduled", check=True, diff=True, until=UNTIL, text="We will be back.").result
    assert opened["diff"] == {"prepared": "+ Scheduled maintenance\n+ We will be back.\n"}
    for state in ("maintenance_started", "maintenance_ended", "incident_resolved"):
        assert project(state, check=True).result["changed"] is True
    assert {line.split()[0] for line in page.requests} == {"GET"}
    assert project.changes.current() is None
    real = project("maintenance_scheduled", until=UNTIL)
    assert "is not open; run the playbook from its beginning" in real.result["msg"]
    assert page.incidents == []


def test_a_page_that_is_down_blocks_or_makes_the_item_unknown(project, page):
    page.faults = [Fault(".", "status", 500, times=2)]
    red = project("maintenance_scheduled", until=UNTIL)
    assert red.failed
    assert red.result["status"] == "unknown"
    # It was not even asked for one.
    assert project.change.opened == {}
    later = project("maintenance_scheduled", "b", until=UNTIL, blocks=False)
    assert not later.failed
    assert later.result["status"] == "unknown"
    assert {item.status for item in project.change.items.values()} == {Status.UNKNOWN}
    assert project("maintenance_scheduled", until=UNTIL).result["changed"] is True


def test_none_is_an_answer(project, page):
    unset = dict.fromkeys(("statuspage_page", "statuspage_token", "statuspage_api_url"))
    skipped = project("maintenance_scheduled", until=UNTIL, backend="none", **unset).result
    assert (skipped["status"], skipped["changed"]) == ("ok", False)
    assert "backend none" in project.change.items["maintenance_scheduled"].msg
    assert page.requests == []


@pytest.mark.parametrize(("state", "options", "says"), [
    ("maintenance_scheduled", {}, "until: it is not set"),
    ("maintenance_scheduled", {"until": "2026-01-01T00:00:00"}, "until: '2026-01-01T00:00:00' does not say in which"),
    ("maintenance_scheduled", {"until": "2020-01-01T00:00:00Z"}, "give a later end"),
    ("maintenance_ended", {"item": "a b"}, "item: 'a b' is no name"),
    ("maintenance_ended", {"cachet_url": "https://status.example.net"}, "backend statuspage has no use for it"),
    ("maintenance_ended", {"timeout_s": 601}, "timeout_s: 601 is out of bounds"),
    ("maintenance_ended", {"statuspage_api_url": "http://status.example.net"}, "send statuspage_token unencrypted"),
])  # fmt: skip
def test_bad_input_is_one_sentence_before_anything_is_asked(project, page, state, options, says):
    outcome = project(state, **options)
    assert outcome.failed
    assert says in outcome.result["msg"]
    assert page.requests == []


def test_no_secret_leaves_the_module(project):
    wrong = project("maintenance_scheduled", diff=True, until=UNTIL, statuspage_token="wr0ng-c4n4ry")
    right = project("maintenance_scheduled", diff=True, until=UNTIL)
    assert [wrong.failed, right.failed] == [True, False]
    documents = "".join(path.read_text() for path in project.root.rglob("*.json"))
    assert "c4n4ry" not in json.dumps([wrong.result, right.result]) + wrong.stderr + right.stderr + documents


def test_maintenance_is_ended_only_where_it_was_announced(project, page, root, tmp_path):
    project("maintenance_scheduled", starts_at=SOON, until=UNTIL, components=[COMPONENT])
    noted = project.change.opened["maintenance"]
    unset = dict.fromkeys(("statuspage_page", "statuspage_token", "statuspage_api_url"))
    elsewhere: list[tuple[dict[str, Any], str]] = [
        ({"statuspage_page": "otherpage000"}, "opened its maintenance at statuspage"),
        (unset | {"backend": "none"}, "opened its maintenance at statuspage"),
        ({"announced_as": "quarterly"}, "announced_as: quarterly is not the maintenance that this change has"),
    ]
    for given, says in elsewhere:
        refused = project("maintenance_ended", **given)
        assert refused.failed, refused.result
        assert says in refused.result["msg"]
        assert project.change.opened["maintenance"] == noted
    assert project("maintenance_ended").result["changed"] is True
    # By whatever name it was begun.
    other = Project(page, root, tmp_path / "other", "20261206T020000Z-quarterly-3c4d")
    other("maintenance_scheduled", starts_at=SOON, until=UNTIL, announced_as="quarterly")
    other("maintenance_started", announced_as="quarterly")
    assert other("maintenance_ended").result["changed"] is True
    assert [each["status"] for each in page.incidents] == ["completed", "completed"]
    assert other.change.opened == {}
