"""The module change_ticket, as a playbook calls it: options, check mode, what the change keeps, and secrets."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.change.changes import Changes
from ansible.module_utils.runbook.drivers.state_store import Folder
from ansible.module_utils.runbook.rules.change.change import Change
from ansible.module_utils.runbook.rules.status import Status
from conftest import Outcome, a_run, approve, as_environ, run_module
from fakes import github, webhook
from fakes.http import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.rules.run import Run

TEXT = "Vacuums on Sunday."


class Project:
    """A run with an open change, and the repository that has its ticket."""

    def __init__(self, fake: github.FakeGitHub, run: Run, root: Path) -> None:
        self.fake, self.run, self.root = fake, run, root
        self.changes = Changes(Folder(root, "sandbox"), run)

    def __call__(self, state: str, item: str, *, check: bool = False, diff: bool = False, **options: Any) -> Outcome:
        common = {
            "state": state, "item": item, "backend": "github", "github_repository": github.REPOSITORY,
            "github_token": github.TOKEN, "github_api_url": self.fake.url, "state_directory": str(self.root),
        }  # fmt: skip
        given = {name: value for name, value in (common | options).items() if value is not None}
        return run_module("change_ticket", given, check=check, diff=diff, permitted=False, **as_environ(self.run))

    @property
    def change(self) -> Change:
        """What the store has of it."""
        found = self.changes.current()
        assert found is not None
        return found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root, directory = tmp_path / "state", tmp_path / "run"
    root.mkdir(mode=0o700)
    directory.mkdir()
    run = a_run("20261129T020000Z-weekly_db-1a2b", directory=directory)
    approve(run, "sandbox")
    now = datetime.now(UTC)
    with github.FakeGitHub() as fake:
        made = Project(fake, run, root)
        made.changes.open(
            Change(
                str(run.id), "weekly_db.yml", "weekly", ("database a",), str(run.process), now, now + timedelta(hours=2)
            )
        )
        yield made


def test_a_ticket_is_kept_by_the_change_until_it_is_closed(project, tmp_path):
    opened = project("opened", "ticket", title="Weekly\nmaintenance", text=TEXT).result
    assert (opened["status"], opened["changed"], opened["msg"]) == ("ok", True, "Ticket 1 was opened.")
    assert project.fake.issues[0]["title"] == "Weekly maintenance"
    assert project.change.opened["ticket"]["id"] == opened["ticket_id"] == "1"
    assert project.change.items["ticket"].proof == opened["ticket_url"]
    asked = len(project.fake.requests)
    again = project("opened", "ticket", title="Weekly", text=TEXT).result
    assert (again["changed"], again["msg"]) == (False, "Done already: Ticket 1 was opened.")
    assert len(project.fake.requests) == asked
    report = tmp_path / "report.md"
    missing = project("closed", "end", report=str(report))
    assert missing.result["status"] == "breach"
    assert f"report: {report} cannot be read" in missing.result["msg"]
    report.write_text("# weekly_db.yml: ok\n")
    assert project("closed", "end", text="Over.", report=str(report)).result["msg"] == "Ticket 1 was closed."
    assert "# weekly_db.yml: ok" in project.fake.comments[1][0]["body"]
    assert project.change.opened == {}
    assert {name: item.status for name, item in project.change.items.items()} == dict.fromkeys(
        ("ticket", "end"), Status.OK
    )


def test_check_mode_shows_the_plan_before_there_is_a_change(project):
    project.changes.close(str(project.run.id))
    dry = dataclasses.replace(project.run, check_mode=True)
    assert dry.check_mode
    opened = project("opened", "ticket", check=True, diff=True, title="Weekly", text=TEXT).result
    assert (opened["changed"], opened["msg"]) == (True, "Would open the ticket 'Weekly'.")
    assert opened["diff"] == {"prepared": f"+ Weekly\n+ {TEXT}\n"}
    assert project("commented", "step", check=True, text="x").result["changed"] is True
    assert project("closed", "end", check=True).result["changed"] is True
    assert {line.split()[0] for line in project.fake.requests} == {"GET"}
    assert project.changes.current() is None
    real = project("opened", "ticket", title="Weekly", text=TEXT)
    assert real.failed
    assert "is not open; run the playbook from its beginning" in real.result["msg"]
    assert project.fake.issues == []


def test_a_service_that_is_down_blocks_or_makes_the_item_unknown(project):
    project.fake.faults = [Fault(".", "status", 500, times=2)]
    red = project("opened", "ticket", title="Weekly", text=TEXT)
    assert red.failed
    assert red.result["status"] == "unknown"
    later = project("commented", "step", text="x", blocks=False)
    assert not later.failed
    assert (later.result["status"], later.result["changed"]) == ("unknown", False)
    assert [item.status for item in project.change.items.values()] == [Status.UNKNOWN] * 2
    # What was not done is done when it is asked for again.
    assert project("opened", "ticket", title="Weekly", text=TEXT).result["changed"] is True
    assert project("commented", "step", text="x").result["changed"] is True


def test_none_is_an_answer(project):
    skipped = project(
        "opened", "ticket", backend="none", github_repository=None, github_token=None, github_api_url=None,
        title="Weekly", text=TEXT,
    ).result  # fmt: skip
    assert (skipped["status"], skipped["changed"]) == ("ok", False)
    assert "backend none" in project.change.items["ticket"].msg
    assert project.fake.requests == []


@pytest.mark.parametrize(("state", "options", "says"), [
    ("opened", {"text": "x"}, "title: a ticket has one when it is opened"),
    ("commented", {"title": "x", "text": "x"}, "title: a ticket has one when it is opened, and only then"),
    ("commented", {}, "text: it is empty"),
    ("commented", {"text": "x", "report": "r.md"}, "report: state commented has no use"),
    ("closed", {"item": "a b"}, "item: 'a b' is no name"),
    ("closed", {"github_repository": "operations"}, "github_repository: 'operations' names none"),
    ("closed", {"github_token": None}, "github_token: it is not set, and backend github needs it"),
    ("closed", {"jira_url": "https://jira.example.net"}, "jira_url: it is set, and backend github has no use"),
    ("closed", {"timeout_s": 0}, "timeout_s: 0 is out of bounds"),
    ("closed", {"state_directory": None}, "state_bucket, state_directory: neither is set"),
    ("closed", {"github_api_url": "http://github.example.net"}, "would send github_token unencrypted"),
    ("closed", {"github_api_url": "https://github.example.net?a=b"}, "github_api_url: its value (not repeated here)"),
])  # fmt: skip
def test_bad_input_is_one_sentence_before_anything_is_asked(project, state, options, says):
    outcome = project(state, **({"item": "x"} | options))
    assert outcome.failed
    assert says in outcome.result["msg"]
    assert project.fake.requests == []


def test_no_secret_leaves_the_module(project):
    """In no result, no warning, no diff and no document; also where the receiver repeats what it was sent."""
    outcomes = [project("opened", "a", diff=True, title="T", text=TEXT, github_token="wr0ng-c4n4ry")]
    with webhook.FakeReceiver() as fake:
        hook = {
            "backend": "webhook", "webhook_url": f"{fake.url}{webhook.PATH}?sig=c4n4ry-query",
            "webhook_token": "c4n4ry", "github_repository": None, "github_token": None, "github_api_url": None,
        }  # fmt: skip
        outcomes.append(project("opened", "b", diff=True, title="T", text=TEXT, **hook))
        outcomes.append(project("opened", "c", diff=True, blocks=False, title="T", text=TEXT, **hook))
        hook["webhook_token"] = webhook.TOKEN
        outcomes.append(project("opened", "d", diff=True, title="T", text=TEXT, **hook))
    assert [outcome.failed for outcome in outcomes] == [True, True, False, False]
    documents = "".join(path.read_text() for path in project.root.rglob("*.json"))
    said = "".join(json.dumps(outcome.result) + outcome.stderr for outcome in outcomes)
    assert "c4n4ry" not in said + documents


def test_a_ticket_is_closed_only_where_it_was_opened(project):
    project("opened", "ticket", title="Weekly", text=TEXT)
    noted = project.change.opened["ticket"]
    unset = dict.fromkeys(("github_repository", "github_token", "github_api_url"))
    with webhook.FakeReceiver() as other:
        elsewhere: list[dict[str, Any]] = [
            unset | {"backend": "webhook", "webhook_url": other.hook, "webhook_token": webhook.TOKEN},
            {"github_repository": "mental-scribe/other"}, unset | {"backend": "none"},
        ]  # fmt: skip
        for given in elsewhere:
            for state in ("closed", "opened"):
                refused = project(state, "elsewhere", title="Weekly" if state == "opened" else None, text=TEXT, **given)
                assert refused.failed, refused.result
                assert "this change opened its ticket at github" in refused.result["msg"]
                assert project.change.opened["ticket"] == noted
        assert other.requests == []
    assert project("closed", "end").result["changed"] is True
    assert project.fake.issues[0]["state"] == "closed"
    assert project.change.opened == {}
