"""A whole weekly run as a change, with every service around it: a fake over real HTTP each."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from fakes import alertmanager, github, statuspage, webhook
from fakes.application import MAINTENANCE, SWITCH, FakeApplication
from fakes.http import Fault

from playbooks import Ended, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from conftest import Database
    from fakes.http import Asked, FakeService, Reply

PLAYBOOK = "weekly_db.yml"
#: Every line but those that need a backup.
LINES = [
    "ticket", "rollback_plan", "health", "error_logs_before", "status_page", "team", "silence", "maintenance_mode",
    "work", "function", "soak",
]  # fmt: skip
#: What no output, record, report or process list may show.
CANARIES = (github.TOKEN, statuspage.TOKEN, webhook.TOKEN, webhook.PATH, SWITCH)
#: As users see the maintenance page, before the work; as maintenance mode is to be turned off, after the work; as the
#: soak has begun.
Moment = Literal["work", "end", "soak"]


#: What can be down; ``state`` is the state store, ``application`` its pages.
Service = Literal["ticket", "page", "team", "silence", "mode", "application", "state"]


@dataclass
class World:
    """A project whose changes have every service."""

    project: Project
    databases: list[Database]
    tickets: github.FakeGitHub
    page: statuspage.FakeStatuspage
    team: webhook.FakeReceiver
    alerts: alertmanager.FakeAlertmanager
    application: FakeApplication
    #: What happens once, and when.
    acts: dict[Moment, Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        answer = self.application.answer

        def watched(asked: Asked) -> Reply:
            if asked.path == SWITCH and not asked.body["on"]:
                self._come("end")
            reply = answer(asked)
            if asked.path == "/" and reply.status == 503:
                self._come("work")
            # It was looked at twice before: the mode's end, and the function.
            if 503 in self.application.seen and self.application.seen[-3:] == [200] * 3:
                self._come("soak")
            return reply

        self.application.answer = watched  # type: ignore[method-assign] # looks at what goes by

    def _come(self, moment: Moment) -> None:
        self.acts.pop(moment, lambda: None)()

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None, **variables: object) -> Ended:
        return self.project.run(PLAYBOOK, *arguments, environ=environ, **variables)

    def record(self, ended: Ended) -> dict[str, Any]:
        assert ended.record is not None, ended.output
        found: dict[str, Any] = json.loads((ended.record / "record.json").read_text())
        return found

    @property
    def state(self) -> Path:
        """Where the state store is."""
        return self.project.folder / "state"

    def open_changes(self) -> list[Path]:
        return list(self.state.rglob("changes/*.json"))

    @property
    def notices(self) -> list[dict[str, Any]]:
        """Maintenance on the status page."""
        return self.page.incidents

    def active(self) -> list[str]:
        """Silences that hold."""
        now = datetime.now(UTC)
        return [name for name, each in self.alerts.silences.items() if datetime.fromisoformat(each["endsAt"]) > now]

    def left(self) -> set[str]:
        """What is not as it was before: by the names of the services, and ``change`` for the store's document."""
        found = {
            "mode": self.application.until is not None,
            "silence": self.active(),
            "page": any(each["status"] != "completed" for each in self.notices),
            "change": self.open_changes(),
        }
        return {name for name, is_left in found.items() if is_left}

    def nothing_is_left(self) -> bool:
        """Whether users and alerts are as they were before."""
        return not self.left()

    def fail(self, service: Service) -> None:
        """Let a service be down from now on: each request gets a 500."""
        if service == "state":
            self.state.rename(self._away)
            self.state.write_text("")
            return
        fake, on = self._of(service)
        fake.faults.append(Fault(on, "status", times=1_000_000))

    def mend(self) -> None:
        """Let each service be there again."""
        if self._away.exists():
            self.state.unlink()
            self._away.rename(self.state)
        for fake in self.fakes:
            fake.faults.clear()

    @property
    def fakes(self) -> list[FakeService]:
        return [self.tickets, self.page, self.team, self.alerts, self.application]

    @property
    def _away(self) -> Path:
        return self.project.folder / "away"

    def _of(self, service: Service) -> tuple[FakeService, str]:
        fakes: dict[str, FakeService] = {
            "ticket": self.tickets, "page": self.page, "team": self.team, "silence": self.alerts,
        }  # fmt: skip
        only = {"mode": f" {SWITCH}", "application": " /(health)?$"}
        return fakes.get(service, self.application), only.get(service, ".")


@contextmanager
def a_world(database: Database, folder: Path) -> Iterator[World]:
    """A database with something to do, the services, and the inventory that names them."""
    database.run(
        "CREATE TABLE public.notes (id int)",
        "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL)",
    )
    state = folder / "state"
    state.mkdir(mode=0o700)
    with ExitStack() as stack:
        tickets = stack.enter_context(github.FakeGitHub())
        page = stack.enter_context(statuspage.FakeStatuspage())
        team = stack.enter_context(webhook.FakeReceiver())
        alerts = stack.enter_context(alertmanager.FakeAlertmanager())
        application = stack.enter_context(FakeApplication())
        project = Project.for_database(
            folder, database, state_directory=str(state),
            change_needs={PLAYBOOK: LINES},
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
            change_mode_probe_wait_s=2,
            change_health_pages=[{"name": "health", "url": f"{application.url}/health"}],
            change_function_pages=[{"name": "start", "url": f"{application.url}/", "text": "Welcome"}],
            change_smoke_queries=[{"name": "notes", "query": "SELECT count(*) + 1 FROM public.notes"}],
            change_soak_duration_s=2, change_soak_interval_s=1, change_soak_min_samples=1,
            change_probe_deadline_s=2,
        )  # fmt: skip
        yield World(project, [database], tickets, page, team, alerts, application)
