"""A whole weekly run as a change, with every service around it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from fakes import alertmanager, github, statuspage, webhook
from fakes.application import MAINTENANCE, FakeApplication

from playbooks import Ended, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Database

#: Every line but those that need a backup.
LINES = [
    "ticket", "rollback_plan", "health", "error_logs_before", "status_page", "team", "silence", "maintenance_mode",
    "work", "function", "soak",
]  # fmt: skip


@dataclass
class World:
    """A project whose changes have every service."""

    project: Project
    tickets: github.FakeGitHub
    page: statuspage.FakeStatuspage
    team: webhook.FakeReceiver
    alerts: alertmanager.FakeAlertmanager
    application: FakeApplication

    def run(self, *arguments: str) -> Ended:
        return self.project.run("weekly_db.yml", *arguments)

    def record(self, ended: Ended) -> dict[str, Any]:
        assert ended.record is not None, ended.output
        found: dict[str, Any] = json.loads((ended.record / "record.json").read_text())
        return found

    def open_changes(self) -> list[Path]:
        return list((self.project.folder / "state").rglob("changes/*.json"))

    @property
    def notices(self) -> list[dict[str, Any]]:
        """Maintenance on the status page."""
        return self.page.incidents

    def active(self) -> list[str]:
        """Silences that hold."""
        now = datetime.now(UTC)
        return [name for name, each in self.alerts.silences.items() if datetime.fromisoformat(each["endsAt"]) > now]

    def nothing_is_left(self) -> bool:
        """Whether users and alerts are as they were before."""
        return (
            self.application.until is None
            and not self.active()
            and all(each["status"] == "completed" for each in self.notices)
            and not self.open_changes()
        )


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    database.run(
        "CREATE TABLE public.notes (id int)",
        "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL)",
    )
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with ExitStack() as stack:
        tickets = stack.enter_context(github.FakeGitHub())
        page = stack.enter_context(statuspage.FakeStatuspage())
        team = stack.enter_context(webhook.FakeReceiver())
        alerts = stack.enter_context(alertmanager.FakeAlertmanager())
        application = stack.enter_context(FakeApplication())
        project = Project.for_database(
            tmp_path, database, state_directory=str(state),
            change_needs={"weekly_db.yml": LINES},
            change_ticket_backend="github", change_ticket_github_repository=github.REPOSITORY,
            change_ticket_github_token=github.TOKEN, change_ticket_github_api_url=tickets.url,
            change_status_page_backend="statuspage", change_status_page_statuspage_page=statuspage.PAGE,
            change_status_page_statuspage_token=statuspage.TOKEN,
            change_status_page_statuspage_api_url=f"{page.url}/v1",
            change_status_page_components=[statuspage.COMPONENTS[0]],
            change_notice_backend="webhook", change_notice_webhook_url=team.hook,
            change_notice_webhook_token=webhook.TOKEN,
            change_silence_backend="alertmanager", change_silence_alertmanager_url=alerts.url,
            change_silence_matchers=[{"name": "service", "value": "mental_scribe"}],
            change_mode_backend="webhook", change_mode_webhook_url=application.switch,
            change_mode_probe_url=f"{application.url}/", change_mode_probe_text=MAINTENANCE,
            change_health_pages=[{"name": "health", "url": f"{application.url}/health"}],
            change_function_pages=[{"name": "start", "url": f"{application.url}/", "text": "Welcome"}],
            change_smoke_queries=[{"name": "notes", "query": "SELECT count(*) + 1 FROM public.notes"}],
            change_soak_duration_s=2, change_soak_interval_s=1, change_soak_min_samples=1,
            change_probe_deadline_s=2,
        )  # fmt: skip
        yield World(project, tickets, page, team, alerts, application)


def test_a_change_from_announcement_to_closed_ticket(world):
    ended = world.run()
    assert ended.code == 0, ended.output
    record = world.record(ended)
    assert record["status"] == "ok"
    (issue,) = world.tickets.issues
    assert issue["state"] == "closed"
    assert "db_rollback_before=" in issue["body"].replace("\\", "")
    steps, report = world.tickets.comments[1]
    for text in (issue["body"], steps["body"]):
        # Paragraphs, not the letters that mean one.
        assert "\n\n" in text
        assert r"\n" not in text
    assert "Vacuum" in steps["body"]
    assert record["run_id"] in report["body"]
    (notice,) = world.notices
    assert notice["status"] == "completed"
    assert len(world.team.events) == 1
    assert len(world.alerts.silences) == 1
    assert 503 in world.application.seen
    assert world.application.seen[-1] == 200
    assert world.nothing_is_left()
    checked = ended.last("change_check")
    assert {each["name"] for each in checked["checks"]} >= {"work", "health:db", "function:db", "maintenance_mode_off"}
    assert {each["status"] for each in checked["checks"]} == {"ok"}


def test_an_inventory_that_is_not_ready_is_told_before_anything_is_opened(world, database):
    """What the first Sunday after an upgrade says: all of it at once, and nobody was told of a change."""
    project, environment = world.project, "production"
    database.mark(environment)
    project.all_vars = {
        name: value for name, value in project.all_vars.items()
        if not name.startswith("change_") or name.startswith("change_ticket_")
    } | {"runbook_environment": environment}  # fmt: skip
    del project.all_vars["state_directory"]
    ended = project.run("weekly_db.yml", confirm=environment, window_override="a test")
    assert ended.code == 2
    (said,) = [each["msg"] for each in ended.results["runbook_preflight"]]
    for sentence in (
        "weekly_db.yml is run as a change, and the inventory lacks what that needs.",
        "state_bucket, state_directory: neither is set",
        "backup_bucket: it is not set",
        "change_health_pages, change_smoke_queries: both are empty",
    ):
        assert sentence in said
    assert "pg_preflight" not in ended.results
    assert world.tickets.issues == []
    assert not database.one("SELECT to_regclass('runbook.lease') IS NOT NULL")
    project.all_vars["change_needs"] = {"weekly_db.yml": []}
    without = project.run("weekly_db.yml", confirm=environment, window_override="a test")
    assert without.code == 0, without.output
