"""No module of a change shows its secrets: not with ``-vvv --diff``, in no file, to no list of processes."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
import pytest
from changes import open_change, options
from conftest import ROOT, run_module
from fakes.http import Asked, FakeService, Reply

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

USER = "runbook@example.com"


class Moved(FakeService):
    """Is elsewhere, or knows nobody."""

    service: ClassVar[str] = "moved"
    status: int

    def answer(self, asked: Asked) -> Reply:
        del asked
        return Reply(self.status, b"", {"Location": "https://elsewhere.example.com/"})


class Gossip(FakeService):
    """Refuses everything, and repeats all that it was sent."""

    service: ClassVar[str] = "gossip"

    def answer(self, asked: Asked) -> Reply:
        said = f"{asked.path}?{asked.query} {dict(asked.headers)} {asked.body}"
        return Reply(401, {"message": said, "error": said, "errors": [said], "errorMessages": [said]})


def tasks(url: str) -> list[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Each module with each service of its, and the names of its options that are secret."""
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    hook: dict[str, Any] = {"backend": "webhook", "webhook_url": f"{url}/hooks/", "webhook_token": ""}
    of_hook = ("webhook_url", "webhook_token")
    ticket = {"state": "opened", "title": "A test", "text": "A test."}
    page = {"state": "maintenance_scheduled", "until": until}
    silence = {"state": "present", "until": until, "matchers": [{"name": "service", "value": "a"}]}
    return [
        ("change_ticket", ticket | {
            "backend": "github", "github_repository": "a/b", "github_token": "", "github_api_url": url,
        }, ("github_token",)),
        ("change_ticket", ticket | {
            "backend": "jira", "jira_url": url, "jira_project": "OPS", "jira_user": USER, "jira_token": "",
        }, ("jira_token",)),
        ("change_ticket", ticket | hook, of_hook),
        ("change_status_page", page | {
            "backend": "statuspage", "statuspage_page": "abc", "statuspage_token": "", "statuspage_api_url": url,
        }, ("statuspage_token",)),
        ("change_status_page", page | {"backend": "cachet", "cachet_url": url, "cachet_token": ""}, ("cachet_token",)),
        ("change_status_page", page | {
            "backend": "upptime", "upptime_repository": "a/b", "upptime_token": "", "upptime_api_url": url,
        }, ("upptime_token",)),
        ("change_status_page", page | hook, of_hook),
        ("change_silence", {
            "state": "absent", "backend": "grafana", "grafana_url": url, "grafana_token": "",
        }, ("grafana_token",)),
        ("change_silence", silence | {
            "backend": "alertmanager", "alertmanager_url": url, "alertmanager_token": "",
        }, ("alertmanager_token",)),
        ("change_silence", silence | {
            "backend": "alertmanager", "alertmanager_url": url, "alertmanager_user": USER, "alertmanager_password": "",
        }, ("alertmanager_password",)),
        ("change_notice", {"title": "A", "backend": "slack", "slack_url": f"{url}/services/"}, ("slack_url",)),
        ("change_notice", {"title": "A", "backend": "teams", "teams_url": f"{url}/flows/"}, ("teams_url",)),
        ("change_notice", {"title": "A"} | hook, of_hook),
        ("change_notice", {
            "title": "A", "backend": "email", "email_host": "127.0.0.1", "email_port": 1, "email_security": "none",
            "email_user": "runbook", "email_password": "", "email_from": USER, "email_to": [USER],
        }, ("email_password",)),
        ("maintenance_mode", {"state": "on", "until": until} | hook, of_hook),
        ("maintenance_mode", {
            "state": "on", "until": until, "backend": "vercel", "vercel_url": url, "vercel_config_id": "ecfg_1",
            "vercel_token": "",
        }, ("vercel_token",)),
        ("change_soak", {
            "duration_s": 1, "min_samples": 1, "interval_s": 1, "prometheus_url": url, "prometheus_token": "",
            "metrics": [{"name": "errors", "query": "up", "max": 0.5}],
        }, ("prometheus_token",)),
        ("change_soak", {
            "duration_s": 1, "min_samples": 1, "interval_s": 1, "prometheus_url": url, "prometheus_user": USER,
            "prometheus_password": "",
            "metrics": [{"name": "errors", "query": "up", "max": 0.5}],
        }, ("prometheus_password",)),
        ("change_error_logs", {
            "state": "before", "backend": "loki", "loki_url": url, "loki_user": USER, "loki_password": "",
            "loki_query": "a[$__range]", "loki_lines_query": "a[$__range]",
        }, ("loki_password",)),
        ("change_error_logs", {
            "state": "before", "backend": "prometheus", "prometheus_url": url, "prometheus_token": "",
            "prometheus_query": "errors[$__range]",
        }, ("prometheus_token",)),
        ("change_error_logs", {
            "state": "before", "backend": "loki", "loki_url": url, "loki_token": "", "loki_query": "a[$__range]",
            "loki_lines_query": "a[$__range]",
        }, ("loki_token",)),
        ("change_error_logs", {
            "state": "before", "backend": "supabase", "api_url": url, "project_ref": "abcdefghijklmnopqrst",
            "access_token": "", "supabase_sql": "select 1",
        }, ("access_token",)),
    ]  # fmt: skip


def test_no_secret_is_shown_at_the_highest_verbosity_whatever_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    variables: dict[str, Any] = {
        "runbook_environment": "sandbox", "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }  # fmt: skip
    store = {"state_directory": str(state)}
    secrets: list[str] = []
    steps: list[dict[str, Any]] = [
        {"name": "Ask", "ansible.builtin.import_role": {"name": "preflight", "tasks_from": "approval.yml"}},
        {"name": "Open", "change_open": {"reason": "A test"} | store},
    ]
    with Gossip() as fake:
        given = tasks(fake.url)
        for number, (module, options, hidden) in enumerate(given):
            for option in hidden:
                canary = f"c4n4ry{number}{option.replace('_', '')}"
                secrets.append(canary)
                variables[f"secret_{number}_{option}"] = f"{options[option]}{canary}"
            read = {option: f"{{{{ secret_{number}_{option} }}}}" for option in hidden}
            step = {"name": f"Step {number}", module: {"item": f"item_{number}"} | options | read | store}
            steps.append(step | {"ignore_errors": True})
            if "jira_token" in hidden or options.keys() & {"prometheus_user", "loki_user", "alertmanager_user"}:
                secrets.append(base64.b64encode(f"{USER}:{secrets[-1]}".encode()).decode())
        play = {
            "name": "A change", "hosts": "databases", "gather_facts": False,
            "environment": {"RUNBOOK_HOST": "{{ inventory_hostname }}"},
            "vars": {"preflight_playbook": "weekly_db.yml"}, "tasks": steps,
        }  # fmt: skip
        playbook = ROOT / "playbooks" / f"own-secrets-{os.getpid()}.yml"
        playbook.write_text(json.dumps([play]))
        output, words = tmp_path / "output", set[str]()
        project = Project(tmp_path, {"db": {}}, variables)
        try:
            command = project.command(playbook.name, "-vvv", "--diff")
            with (
                output.open("w") as file,
                psutil.Popen(command, cwd=ROOT, env=project.environ(), stdout=file, stderr=file) as running,
            ):
                while running.poll() is None:
                    for each in psutil.process_iter(["cmdline"]):
                        words.update(each.info["cmdline"] or ())
        finally:
            playbook.unlink()
        asked = len(fake.requests)
    said = output.read_text()
    results = said.count("fatal: [db]") + said.count("changed: [db]") + said.count("ok: [db]")
    assert results >= len(given), said
    assert asked >= len(given) - 1, said
    assert "should have foreseen" not in said
    files = [path for folder in ("state", "runs") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert [path for path in files if path.parent.name == "changes" or "changes" in str(path)]
    kept = {str(path): path.read_bytes().decode(errors="replace") for path in files}
    for secret in secrets:
        assert secret not in said
        assert [name for name, text in kept.items() if secret in text] == []
        assert not [word for word in words if secret in word]


@pytest.mark.parametrize("status", [301, 401])
def test_who_is_elsewhere_or_refuses_is_told_with_the_options_to_check(tmp_path: Path, status: int) -> None:
    wrong: list[str] = []
    with Moved() as fake:
        fake.status = status
        for number, (module, given, hidden) in enumerate(tasks(fake.url)):
            address = [name for name, value in given.items() if str(value).startswith(fake.url)]
            if not address:
                continue
            secrets = {name: f"{given[name]}c4n4ry{number}" for name in hidden}
            folder = tmp_path / str(number)
            folder.mkdir()
            open_change(folder)
            said = run_module(module, options(folder) | given | secrets).result["msg"]
            wanted = address[0] if status == 301 else hidden[-1].replace("access_token", "the access token")
            if wanted not in said.partition("check ")[2]:
                wrong.append(f"{module}, {wanted}: {said}")
    assert wrong == []
