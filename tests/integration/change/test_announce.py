"""Windows that lie ahead are announced once, and the proof is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import run_module
from fakes.http import Fault
from fakes.statuspage import COMPONENTS, PAGE, FakeStatuspage
from fakes.statuspage import TOKEN as PAGE_TOKEN
from fakes.webhook import TOKEN as HOOK_TOKEN
from fakes.webhook import FakeReceiver

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
QUARTER = {
    "id": "quarter-1", "kind": "quarterly", "begin": f"{TODAY + timedelta(days=15, hours=2):%Y-%m-%d %H:%M}",
    "end": f"{TODAY + timedelta(days=15, hours=8):%Y-%m-%d %H:%M}", "announced_at": f"{TODAY:%Y-%m-%d}",
}  # fmt: skip
NAME = f"quarter-1-{TODAY + timedelta(days=15):%Y-%m-%d}"


@pytest.fixture
def page() -> Iterator[FakeStatuspage]:
    with FakeStatuspage() as made:
        yield made


@pytest.fixture
def team() -> Iterator[FakeReceiver]:
    with FakeReceiver() as made:
        yield made


def test_people_are_told_once_and_the_proof_is_kept(tmp_path: Path, page: FakeStatuspage, team: FakeReceiver):
    (tmp_path / "state").mkdir(mode=0o700)
    common: dict[str, Any] = {
        "runbook_environment": "sandbox", "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}", "state_directory": str(tmp_path / "state"),
        "maintenance_calendar": {"windows": [QUARTER]},
        "change_status_page_backend": "statuspage", "change_status_page_statuspage_page": PAGE,
        "change_status_page_statuspage_token": PAGE_TOKEN, "change_status_page_statuspage_api_url": page.base,
        "change_status_page_components": [COMPONENTS[0]],
        "change_notice_backend": "webhook", "change_notice_webhook_url": team.hook,
        "change_notice_webhook_token": HOOK_TOKEN,
    }  # fmt: skip
    project = Project(tmp_path, {"db": {}, "other": {}}, common)
    path = tmp_path / "state" / "sandbox" / "announcements" / f"{NAME}.json"

    dry = project.run("announce.yml", "--check")
    assert dry.code == 0, dry.output
    assert "would be announced now" in dry.output
    assert (page.incidents, team.events, path.exists()) == ([], {}, False)

    # The page refuses, and the team is told all the same.
    page.faults = [Fault("POST", "status", 422, times=9)]
    down = project.run("announce.yml")
    assert down.code != 0, down.output
    assert "is not announced as it has to be" in " ".join(down.output.split())
    assert (len(page.incidents), len(team.events)) == (0, 1)

    page.faults = []
    told = project.run("announce.yml")
    assert told.code == 0, told.output
    assert "was announced" in told.output
    (incident,) = page.incidents
    assert incident["status"] == "scheduled"
    assert [each["id"] for each in incident["components"]] == [COMPONENTS[0]]
    assert datetime.fromisoformat(incident["scheduled_for"]) == TODAY + timedelta(days=15, hours=2)
    items = json.loads(path.read_text())["body"]["items"]
    assert [(items[each]["status"], bool(items[each]["proof"])) for each in ("status_page", "team")] == [
        ("ok", True)
    ] * 2

    again = project.run("announce.yml")
    assert again.code == 0, again.output
    assert "changed=0" in again.output
    assert (len(page.incidents), len(team.came)) == (1, 1)
    assert told.record is not None
    # The calendar says so too, and of a window that is moved.
    shown = run_module(
        "maintenance_calendar_info",
        {"environment": "sandbox", "calendar": {"windows": [QUARTER]}, "state_directory": common["state_directory"]},
    ).result
    assert [(each["announced_as"], each["status"]) for each in shown["announcements"]] == [(NAME, "ok")]
    assert "was announced, and the calendar has it no more" in str(
        run_module("maintenance_calendar_info", {
            "environment": "sandbox", "calendar": {}, "state_directory": common["state_directory"],
        }).result["warnings"]
    )  # fmt: skip


def test_whether_a_window_was_announced_is_unknown_without_a_state_store():
    asked = {"environment": "sandbox", "calendar": {"windows": [QUARTER]}}
    shown = run_module("maintenance_calendar_info", asked)
    assert (shown.failed, shown.result["status"]) == (False, "ok")
    (found,) = shown.result["announcements"]
    assert (found["status"], found["is_due"]) == ("unknown", True)
    assert "as the inventory names no state store" in found["msg"]
    refused = run_module("maintenance_calendar_info", asked | {"require_announced": True})
    assert "state_bucket, state_directory: neither is set" in refused.result["msg"]


def test_a_window_that_nobody_announced_is_red(tmp_path: Path):
    (tmp_path / "state").mkdir(mode=0o700)
    asked = {
        "environment": "sandbox", "calendar": {"windows": [QUARTER]}, "require_announced": True,
        "state_directory": str(tmp_path / "state"),
    }  # fmt: skip
    red = run_module("maintenance_calendar_info", asked)
    assert (red.failed, red.result["status"]) == (True, "breach")
    assert "and nobody was told; run playbooks/announce.yml" in red.result["msg"]
    # Check mode says what the real run will.
    assert run_module("maintenance_calendar_info", asked, check=True).result["status"] == "breach"
    by = asked | {"announced_by": ["none", "slack"]}
    assert run_module("maintenance_calendar_info", by, check=True).result["status"] == "ok"


def test_who_was_told_nothing_is_told_once_there_is_a_channel(tmp_path: Path, team: FakeReceiver):
    """That an announcement was skipped is no announcement."""
    (tmp_path / "state").mkdir(mode=0o700)
    common: dict[str, Any] = {
        "runbook_environment": "sandbox", "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}", "state_directory": str(tmp_path / "state"),
        "maintenance_calendar": {"windows": [QUARTER]},
    }  # fmt: skip
    for check in (["--check"], []):
        nobody = Project(tmp_path, {"db": {}}, common).run("announce.yml", *check)
        assert nobody.code != 0, nobody.output
        assert "and nobody was told" in " ".join(nobody.output.split())
    channel = {
        "change_notice_backend": "webhook", "change_notice_webhook_url": team.hook,
        "change_notice_webhook_token": HOOK_TOKEN,
    }  # fmt: skip
    told = Project(tmp_path, {"db": {}}, common | channel).run("announce.yml")
    assert told.code == 0, told.output
    assert len(team.events) == 1
