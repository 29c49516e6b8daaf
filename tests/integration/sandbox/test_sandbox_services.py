"""sandbox_services with the real programs, as far as this machine has them, and with what can go wrong around them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.change.maintenance_mode import FlagFolder
from ansible.module_utils.runbook.drivers.sandbox import services as driver
from ansible.module_utils.runbook.drivers.sandbox.sandbox import Home
from conftest import ROOT, run_module

PATHS = {"nginx_path": str(ROOT / "docs" / "howto" / "nginx"), "fakes_path": str(ROOT / "tests")}
CANARY = "c4n4ry-of-the-caller"


class Sandbox:
    """sandbox_services on one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, state: str = "started", *, check: bool = False) -> dict[str, Any]:
        given = PATHS | {"path": str(self.path), "state": state}
        return run_module("sandbox_services", given, check=check, diff=True, AWS_SECRET_ACCESS_KEY=CANARY).result

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "state.json").read_text()))

    def process(self, name: str) -> process.Process:
        found = process.parse(self.state["processes"][name]["process"])
        assert found is not None
        return found

    def lives(self, name: str) -> bool:
        return self.process(name).life() == "alive"

    def open_ticket(self, title: str) -> None:
        how = self.state["services"]["ticket"]
        asked = urllib.request.Request(  # noqa: S310 - http, from the sandbox
            f"{how['github_api_url']}/repos/{how['github_repository']}/issues",
            data=json.dumps({"title": title, "body": "<b>It</b> <!-- key --> begins."}).encode(),
            headers={"Authorization": f"Bearer {how['github_token']}"},
        )
        assert json.loads(fetch(asked))["html_url"].startswith(how["page"])

    def page(self, name: str) -> str:
        return fetch(self.state["services"][name]["page"])


def fetch(asked: Any) -> str:
    with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310 - http, from the sandbox
        return str(answer.read().decode())


@pytest.fixture
def sandbox(tmp_path):
    made = Sandbox(tmp_path / "with space" / "services")
    yield made
    made.run("absent")


def test_started_stopped_started_absent(sandbox):
    plan = sandbox.run(check=True)
    assert plan["changed"]
    assert plan["msg"].startswith("Would start fakes of outside services")
    assert not sandbox.path.exists()

    first = sandbox.run()
    assert first["changed"], first
    assert plan["running"] == first["running"]
    state = sandbox.state
    assert {"ticket", "status_page", "chat"} <= state["services"].keys()
    # Each of the others is there, or it is said why not.
    assert len(state["services"].keys() & {"mail", "application", "prometheus", "alertmanager"}) == 4 - len(
        first["missing"]
    )
    assert stat.S_IMODE((sandbox.path / "state.json").stat().st_mode) == 0o600
    assert state["services"]["ticket"]["github_token"] not in json.dumps(first)
    for name in state["processes"]:
        there = sandbox.process(name)
        assert os.getsid(there.pid) == there.pid
        if Path("/proc/self/environ").exists():
            assert CANARY not in Path(f"/proc/{there.pid}/environ").read_text()
    sandbox.open_ticket("A ticket")
    assert "#1 A ticket (open)" in sandbox.page("ticket")
    assert "&lt;b&gt;It&lt;/b&gt;  begins." in sandbox.page("ticket")
    for check in (True, False):
        again = sandbox.run(check=check)
        assert (again["changed"], again["running"]) == (False, first["running"])
    assert sandbox.state == state

    assert sandbox.run("stopped", check=True)["changed"]
    assert sandbox.lives("outside")
    assert sandbox.run("stopped")["changed"]
    assert (sandbox.state["state"], sandbox.state["services"]) == ("stopped", {})
    assert not any(map(sandbox.lives, state["processes"]))
    assert not sandbox.run("stopped")["changed"]

    # Where they were, and with what they held.
    assert sandbox.run()["changed"]
    assert sandbox.state["services"] == state["services"]
    assert "#1 A ticket (open)" in sandbox.page("ticket")

    assert sandbox.run("absent", check=True)["changed"]
    assert sandbox.lives("outside")
    ended = [sandbox.process(name) for name in state["processes"]]
    assert sandbox.run("absent")["changed"]
    assert not sandbox.path.exists()
    assert [each.life() for each in ended] == ["dead"] * len(ended)
    assert not sandbox.run("absent")["changed"]


def test_what_is_gone_is_started_again_and_the_rest_stays(sandbox):
    sandbox.run()
    sandbox.open_ticket("A ticket")
    before = sandbox.state
    there = sandbox.process("outside")
    there.send(signal.SIGKILL)
    while there.life() == "alive":
        time.sleep(0.02)
    again = sandbox.run()
    assert again["msg"].startswith("Started fakes of outside services; ")
    assert sandbox.state["services"] == before["services"]
    assert "#1 A ticket (open)" in sandbox.page("ticket")
    others = before["processes"].keys() - {"outside"}
    assert all(sandbox.state["processes"][name] == before["processes"][name] for name in others)


def test_a_killed_run_left_processes_that_are_known(sandbox):
    """It wrote each process down before it waited; the inventory does not use what did not come up."""
    sandbox.run()
    left = sandbox.state
    (sandbox.path / "state.json").write_text(json.dumps(left | {"state": "starting", "services": {}}))
    done = sandbox.run()
    assert done["running"], done
    assert sandbox.state == left


def test_what_is_not_installed_is_left_out_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    home = Home(str(tmp_path / "services"))
    made = driver.Services(home)
    try:
        made.start(*map(Path, PATHS.values()), history="", pagerduty={}, would=False)
        assert made.started == ["fakes of outside services"]
        said = "\n".join(made.missing)
        assert "Prometheus is not installed, so there is no metric to watch; on Debian: apt-get install prom" in said
        assert (
            "nginx is not installed, so there is no maintenance mode and no page to look at; on Debian: apt-g" in said
        )
        assert "Alertmanager is not installed, so there is no silence; on Debian: apt-get install prom" in said
        assert not home.read()["services"].keys() & {"application", "prometheus", "alertmanager"}
    finally:
        made.stop()


def test_folders_that_hold_nothing_of_ours_are_refused(sandbox):
    wrong = run_module("sandbox_services", PATHS | {"path": str(sandbox.path), "nginx_path": str(sandbox.path.parent)})
    assert wrong.result["msg"].startswith(f"nginx_path: {sandbox.path.parent} holds no server.conf")
    wrong = run_module("sandbox_services", PATHS | {"path": str(sandbox.path), "fakes_path": str(ROOT / "docs")})
    assert wrong.result["msg"].startswith(f"fakes_path: {ROOT / 'docs'} holds no fakes/serve.py")
    assert not (sandbox.path / "state.json").exists()


def test_an_alert_reaches_the_mailbox(sandbox):
    """The application answers with 503, Prometheus sees it, Alertmanager mails it."""
    missing = sandbox.run()["missing"]
    if missing:
        pytest.skip(missing[0])
    FlagFolder(Path(sandbox.state["services"]["application"]["flag_dir"])).write(datetime.now(UTC) + timedelta(hours=1))
    until = time.monotonic() + 120
    while "[firing] ApplicationDown" not in sandbox.page("mail"):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "Mental Scribe does not answer as it should." in sandbox.page("mail")


def test_the_inventories_use_what_runs_and_nothing_else(sandbox):
    """The names that this machine does not have are none, and without services nothing is run as a change."""
    shown = (
        "{{ [change_needs.keys() | list, change_ticket_backend, change_silence_backend, change_mode_backend,"
        " change_health_pages | length, sandbox_services] }}"
    )

    def seen(inventory: str) -> Any:
        words = [
            "ansible",
            "-i",
            str(ROOT / "inventories" / inventory),
            "databases",
            "-m",
            "debug",
            "-a",
            f"msg={shown}",
        ]
        extra = json.dumps({"sandbox_directory": str(sandbox.path.parent)})
        asked = subprocess.run([*words, "-e", extra], cwd=ROOT, capture_output=True, text=True, check=True)
        return json.loads(asked.stdout.partition("=> ")[2])["msg"]

    assert seen("sandbox") == [[], "none", "none", "none", 0, False]
    sandbox.run()
    state = sandbox.state
    known = {"ticket": state["services"]["ticket"], "application": {"url": "http://127.0.0.1:1/"}}
    (sandbox.path / "state.json").write_text(json.dumps(state | {"services": known}))
    operations = ["weekly_db.yml", "monthly_db.yml", "restore_swap.yml"]
    assert seen("sandbox_supabase") == [operations, "github", "none", "nginx", 1, True]
