"""What a run opened for its change is ended with the run, whatever its end is."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from conftest import ROOT
from fakes import alertmanager, github
from fakes.http import Fault

from playbooks import Project

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

TASKS = """
- name: A change
  hosts: databases
  gather_facts: false
  environment:
    RUNBOOK_HOST: "{{ inventory_hostname }}"
  vars:
    preflight_playbook: weekly_db.yml
  tasks:
    - name: Ask
      ansible.builtin.import_role:
        name: preflight
        tasks_from: approval.yml

    - name: Open
      change_open:
        reason: A test
        state_directory: "{{ state_directory }}"

    - name: Ticket
      change_ticket:
        state: opened
        item: ticket
        title: A test
        text: A test.
        backend: github
        github_repository: "{{ github_repository }}"
        github_token: "{{ github_token }}"
        github_api_url: "{{ github_api_url }}"
        state_directory: "{{ state_directory }}"

    - name: Silence
      change_silence:
        state: present
        item: silence
        backend: alertmanager
        alertmanager_url: "{{ alertmanager_url }}"
        matchers:
          - {name: service, value: mental_scribe}
        until: "{{ silenced_until }}"
        state_directory: "{{ state_directory }}"

    - name: Work
      maintenance_calendar_info:
        calendar: {}
        environment: sandbox

    - name: Wait
      ansible.builtin.command: sleep {{ work_s }}
      changed_when: false

    - name: Break
      ansible.builtin.fail:
        msg: It broke.
      when: broken | bool
"""


@pytest.fixture
def tickets() -> Iterator[github.FakeGitHub]:
    with github.FakeGitHub() as made:
        yield made


@pytest.fixture
def alerts() -> Iterator[alertmanager.FakeAlertmanager]:
    with alertmanager.FakeAlertmanager() as made:
        yield made


@pytest.fixture
def project(
    tmp_path: Path, tickets: github.FakeGitHub, alerts: alertmanager.FakeAlertmanager
) -> Iterator[tuple[Project, str]]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    until = datetime.now(UTC) + timedelta(hours=1)
    made = Project(
        tmp_path,
        {"db": {}},
        {
            "runbook_environment": "sandbox", "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}", "state_directory": str(state),
            "github_repository": github.REPOSITORY, "github_token": github.TOKEN, "github_api_url": tickets.url,
            "alertmanager_url": alerts.url, "silenced_until": until.isoformat(), "work_s": 0, "broken": False,
        },
    )  # fmt: skip
    playbook = ROOT / "playbooks" / f"own-change-{os.getpid()}.yml"
    playbook.write_text(TASKS)
    yield made, playbook.name
    playbook.unlink()


def record_of(project: Project) -> dict[str, Any]:
    (path,) = (project.folder / "runs").glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def ends(record: dict[str, Any]) -> list[tuple[str, str]]:
    """The steps of the run's end that no task made, and how they stand."""
    steps = record["hosts"]["db"]["steps"]
    first = next(number for number, step in enumerate(steps) if step["task"] == "Work")
    return [(step["module"], step["status"]) for step in steps[first + 1 :] if step["module"].startswith("change_")]


def active(alerts: alertmanager.FakeAlertmanager) -> list[str]:
    now = datetime.now(UTC)
    return [name for name, each in alerts.silences.items() if datetime.fromisoformat(each["endsAt"]) > now]


def open_changes(project: Project) -> list[Path]:
    return list((project.folder / "state").rglob("changes/*.json"))


@pytest.mark.parametrize("broken", [False, True])
def test_a_run_that_ends_leaves_nothing_open_but_a_red_ones_ticket(project, tickets, alerts, broken):
    made, playbook = project
    ended = made.run(playbook, broken=broken)
    record = record_of(made)
    assert ended.code == (2 if broken else 0), ended.output
    assert record["status"] == ("failed" if broken else "ok")
    assert ends(record) == [("change_silence", "ok"), ("change_ticket", "ok"), ("change_close", "ok")]
    assert (active(alerts), open_changes(made)) == ([], [])
    (issue,) = tickets.issues
    assert issue["state"] == ("open" if broken else "closed")
    (comment,) = tickets.comments[1]
    assert record["run_id"] in comment["body"]
    assert not list((made.folder / "state").rglob("leases/*.json"))
    assert not list((made.folder / "runs").glob("*/permits.jsonl"))


def test_a_run_that_does_not_see_what_was_left_out_is_red(project, tickets):
    made, playbook = project
    made.all_vars["change_needs"] = {"weekly_db.yml": ["ticket", "work"]}
    ended = made.run(playbook)
    assert ended.code == 1, ended.output
    assert "work (unknown): Nobody did it" in ended.output
    assert tickets.issues[0]["state"] == "open"
    assert open_changes(made) == []


def wait_for(what: Callable[[], object], running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not what():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_from_outside_leaves_nothing_open_but_its_ticket(project, tickets, alerts, number):
    made, playbook = project
    running = made.start(playbook, work_s=600)
    wait_for(lambda: active(alerts), running)
    until = time.monotonic() + 120
    os.kill(running.pid, number)
    running.communicate(timeout=120)
    while not list((made.folder / "runs").glob("*/record.json")) or open_changes(made):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert active(alerts) == []
    (issue,) = tickets.issues
    assert issue["state"] == "open"
    (comment,) = tickets.comments[1]
    assert ("was killed" if number == signal.SIGKILL else "was stopped by SIGTERM") in comment["body"]
    assert not list((made.folder / "state").rglob("leases/*.json"))


#: An action whose worker has the lock of Ansible's queue of results as it is killed.
HOLDER = """
import time
from ansible.executor.process import worker
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        worker.current_worker._final_q._wlock.acquire()
        open({path!r}, "w").close()
        time.sleep(600)
"""


@pytest.mark.long
def test_a_worker_that_dies_with_a_lock_of_ansibles_does_not_hold_the_end_up(project, tickets, alerts, tmp_path):
    made, playbook = project
    held, plugins = tmp_path / "held", tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "hold.py").write_text(HOLDER.format(path=str(held)))
    path = ROOT / "playbooks" / playbook
    path.write_text(TASKS.replace("ansible.builtin.command: sleep {{ work_s }}", "hold: {}"))
    running = made.start(playbook, environ={"ANSIBLE_ACTION_PLUGINS": str(plugins)})
    wait_for(held.exists, running)
    running.terminate()
    running.communicate(timeout=120)
    assert active(alerts) == []
    assert "was stopped by SIGTERM" in tickets.comments[1][0]["body"]


@pytest.mark.long
def test_a_ticket_whose_end_is_unknown_keeps_its_change_open_and_the_run_red(project, tickets):
    made, playbook = project
    tickets.faults.append(Fault(on="PATCH", kind="reset", times=9))
    ended = made.run(playbook)
    record = record_of(made)
    assert ended.code == 1, ended.output
    assert record["status"] == "failed"
    assert [status for _, status in ends(record)] == ["ok", "unknown", "breach"]
    assert len(open_changes(made)) == 1


def test_what_even_the_last_process_did_not_end_is_ended_by_a_playbook(project, tickets, alerts):
    made, playbook = project
    running = made.start(playbook, work_s=600)
    wait_for(lambda: active(alerts), running)
    everything = [*psutil.Process(running.pid).children(recursive=True), psutil.Process(running.pid)]
    for process in everything:
        with suppress(psutil.NoSuchProcess):  # a worker that was through
            process.kill()
    running.communicate(timeout=120)
    psutil.wait_procs(everything, timeout=60)
    assert (len(active(alerts)), len(open_changes(made))) == (1, 1)
    made.all_vars |= {
        "change_ticket_backend": "github", "change_ticket_github_repository": github.REPOSITORY,
        "change_ticket_github_token": github.TOKEN, "change_ticket_github_api_url": tickets.url,
        "change_silence_backend": "alertmanager", "change_silence_alertmanager_url": alerts.url,
    }  # fmt: skip
    looked = made.run("change_close.yml", "--check")
    assert looked.code == 0, looked.output
    assert (len(active(alerts)), len(open_changes(made))) == (1, 1)
    ended = made.run("change_close.yml")
    assert ended.code == 0, ended.output
    assert (active(alerts), open_changes(made)) == ([], [])
    (issue,) = tickets.issues
    assert (issue["state"], len(tickets.comments[1])) == ("open", 1)
    assert "The run of this change is gone" in tickets.comments[1][0]["body"]
    assert github.TOKEN not in ended.output
    again = made.run("change_close.yml")
    assert again.code == 0, again.output
    assert len(tickets.comments[1]) == 1
