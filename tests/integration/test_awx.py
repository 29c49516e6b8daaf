"""awx.yml against AWX as the modules of awx.awx see it: what is made, made once, and refused."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import yaml
from ansible.module_utils.runbook.rules.schedule import schedule
from conftest import ROOT
from dateutil.rrule import rrulestr
from fakes import awx

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 900
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ansible_collections") is None
        or importlib.util.find_spec("ansible_collections.awx") is None,
        reason="the collection awx.awx is in the environment of Python 3.11 alone",
    ),
    # Two runs, each of which starts a hundred modules.
    pytest.mark.timeout(2 * PATIENCE_S + 100),
]
SECRET = "c4n4ry-vault-password"
JOBS = {
    "weekly-maintenance": {
        "playbook": "weekly_db.yml", "hosts": ["awx"], "rhythm": "weekly", "weekday": "sunday", "except_week": 1,
        "time": "02:00", "max_duration_min": 120,
    },
    "dr-drill": {
        "playbook": "rollback.yml", "tags": ["db"], "hosts": ["awx"], "rhythm": "quarterly", "week": 2,
        "weekday": "tuesday", "time": "14:00", "max_duration_min": 300, "disabled": "until it is announced",
    },
}  # fmt: skip
DATA = yaml.safe_load((ROOT / "roles/controller/files/templates.yml").read_text())


@pytest.fixture
def controller():
    with awx.FakeAWX() as fake:
        yield fake


def a_project(folder: Path, controller: awx.FakeAWX, **variables: object) -> Project:
    """An inventory with that AWX, and two templates that stand for all."""
    chosen = [each for each in DATA["templates"] if each["playbook"] in ("weekly_db.yml", "rollback.yml")]
    common = {
        "runbook_environment": "sandbox", "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}", "ansible_pipelining": True,
        "controller_url": controller.url, "controller_token": awx.TOKEN, "controller_install_uuid": awx.INSTALL_UUID,
        "controller_project_url": "https://git.example.com/runbook.git", "controller_image": "example/runbook:1",
        "controller_templates": chosen, "controller_workflows": ["rollback.yml"], "schedule_jobs": JOBS,
        "controller_credentials": [
            {"name": "vault", "type": "Vault", "inputs": {"vault_id": "sandbox", "vault_password": SECRET}}
        ],
        "controller_notifications": [
            {
                "name": "operations", "type": "webhook",
                "configuration": {"url": "https://chat.example.com/hook", "http_method": "POST", "headers": {}},
            }
        ],
    }  # fmt: skip
    return Project(folder, all_vars=common | variables, awx={"controller": {}}, patience_s=PATIENCE_S)


@pytest.mark.long
def test_what_is_made_and_made_once(tmp_path, controller):
    project = a_project(tmp_path, controller)
    made = project.run("awx.yml")
    assert made.code == 0, made.output
    assert SECRET not in made.output
    assert set(controller.named("job_templates")) == {"sandbox weekly_db.yml", "sandbox rollback.yml"}
    template = controller.named("job_templates")["sandbox rollback.yml"]
    assert (template["allow_simultaneous"], template["ask_variables_on_launch"]) == (False, True)
    asked = [each["variable"] for each in controller.surveys["job_templates", template["id"]]["spec"]]
    assert asked[0] == "confirm"
    assert "db_rollback_replace" in asked
    by_identifier = {each["identifier"]: each for each in controller.things["workflow_job_template_nodes"].values()}
    assert by_identifier["run"]["unified_job_template"] == template["id"]
    then = controller.associated["workflow_job_template_nodes", by_identifier["approve"]["id"], "success_nodes"]
    assert then == [by_identifier["run"]["id"]]
    assert controller.named("workflow_approval_templates")["Approve sandbox rollback.yml"]["timeout"] == 3600
    weekly = controller.named("schedules")["sandbox weekly-maintenance"]
    assert weekly["extra_data"] == {"preflight_job": "weekly-maintenance"}
    assert weekly["unified_job_template"] == controller.named("job_templates")["sandbox weekly_db.yml"]["id"]
    drill = controller.named("schedules")["sandbox dr-drill"]
    assert (drill["enabled"], drill["job_tags"], drill["description"]) == (False, "db", "until it is announced")
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    for job, found in (("weekly-maintenance", weekly), ("dr-drill", drill)):
        rule = rrulestr(awx.as_lines(found["rrule"]))
        due = schedule.occurrences(schedule.read(JOBS)[job], begin, begin + timedelta(days=730))
        assert [each.replace(tzinfo=UTC) for each in rule.between(
            begin.replace(tzinfo=None), (begin + timedelta(days=730)).replace(tzinfo=None), inc=True
        )] == due  # fmt: skip

    controller.writes.clear()
    again = project.run("awx.yml")
    assert again.code == 0, again.output
    assert "changed=0" in again.output
    assert controller.writes == []


@pytest.mark.long
def test_what_starts_on_beyond_the_inventory_is_red(tmp_path, controller):
    """A template that was deleted is made again with its schedule; one that was renamed starts on beside a new one."""
    project = a_project(tmp_path, controller)
    assert project.run("awx.yml").code == 0
    controller.delete("job_templates", "sandbox rollback.yml")
    weekly = controller.named("job_templates")["sandbox weekly_db.yml"]
    weekly["name"] = "by hand"
    project.all_vars["schedule_jobs"] = {"dr-drill": JOBS["dr-drill"], "moved": JOBS["weekly-maintenance"]}
    ended = project.run("awx.yml")
    assert ended.code != 0
    said = ended.last("controller_left_info")
    assert [each.split(" next at ")[0] for each in said["left"]] == [
        'schedule "sandbox weekly-maintenance" of runbook, which starts job template "by hand"'
    ]
    assert said["msg"] in ended.output
    made = controller.named("job_templates")
    schedules = controller.named("schedules")
    assert schedules["sandbox moved"]["unified_job_template"] == made["sandbox weekly_db.yml"]["id"] != weekly["id"]
    assert schedules["sandbox dr-drill"]["unified_job_template"] == made["sandbox rollback.yml"]["id"]
    run = next(
        each for each in controller.things["workflow_job_template_nodes"].values() if each["identifier"] == "run"
    )
    assert run["unified_job_template"] == made["sandbox rollback.yml"]["id"]

    controller.writes.clear()
    looked = project.run("awx.yml", "--check")
    assert looked.code != 0
    assert looked.last("controller_left_info")["left"] == said["left"]
    assert controller.writes == []

    schedules["sandbox weekly-maintenance"]["enabled"] = False
    ended = project.run("awx.yml")
    assert ended.code == 0, ended.output


def test_another_awx_is_refused(tmp_path, controller):
    project = a_project(tmp_path, controller, controller_install_uuid="")
    ended = project.run("awx.yml")
    assert ended.code != 0
    assert awx.INSTALL_UUID in ended.output
    assert controller.writes == []


@pytest.mark.long
@pytest.mark.parametrize(
    "wrong",
    [
        {"controller_credentials": [{"name": "v", "type": "Vaultt", "inputs": {"vault_password": SECRET}}]},
        {"controller_notifications": [{"name": "n", "type": "webhok", "configuration": {"url": SECRET}}]},
    ],
)
def test_what_awx_refuses_is_said_without_its_secrets(tmp_path, controller, wrong):
    ended = a_project(tmp_path, controller, **wrong).run("awx.yml", "-v")
    assert ended.code != 0
    assert SECRET not in ended.output
    assert ended.record is not None
    assert not [path for path in ended.record.rglob("*") if path.is_file() and SECRET in path.read_text()]


@pytest.mark.long
def test_a_dry_run_writes_nothing(tmp_path, controller):
    project = a_project(tmp_path, controller)
    assert project.run("awx.yml").code == 0
    controller.named("job_templates")["sandbox rollback.yml"]["description"] = "by hand"
    controller.writes.clear()
    planned = project.run("awx.yml", "--check")
    assert planned.code == 0, planned.output
    assert "changed=1" in planned.output
    assert controller.writes == []


@pytest.mark.long
def test_every_template(tmp_path, controller):
    """All that production has."""
    project = a_project(tmp_path, controller)
    for name in ("controller_templates", "controller_workflows"):
        del project.all_vars[name]
    for changed in (True, False):
        controller.writes.clear()
        ended = project.run("awx.yml")
        assert ended.code == 0, ended.output
        assert bool(controller.writes) is changed
    assert len(controller.named("job_templates")) == len(DATA["templates"])
