"""The modules of schedules: what is due, and the files of an engine in a folder."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from conftest import a_window, job, run_module

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

JOBS = {"daily-backup": job("backup.yml"), "servers": job("updates.yml", hosts=["servers"])}
WHERE: dict[str, Any] = {
    "engine": "systemd",
    "groups": {"databases": ["db"], "servers": []},
    "project": "/srv/runbook",
    "inventory": "inventories/staging",
}


def test_what_is_due_and_how_each_engine_says_it():
    found = run_module("schedule_info", {"schedules": JOBS, "groups": WHERE["groups"]}).result
    assert found["msg"].startswith("1 job, 1 of them enabled; daily-backup is due next, ")
    assert found["left_out"] == ["servers"]
    (each,) = found["jobs"]
    assert each["rrule"] == "DTSTART;TZID=Etc/UTC:20260101T030000 RRULE:FREQ=DAILY;INTERVAL=1"
    assert each["extra_vars"] == {"preflight_job": "daily-backup"}
    assert each["last_due"] < each["next_due"]


def test_files_come_change_and_go(tmp_path):
    def made(jobs: dict[str, Any], **more: Any) -> Any:
        return run_module("schedule_files", WHERE | {"path": str(tmp_path), "schedules": jobs}, **more).result

    dry = made(JOBS, check=True, diff=True)
    assert dry["changed"]
    assert list(tmp_path.iterdir()) == []
    first = made(JOBS, diff=True)
    assert (first["written"], first["diff"]) == (dry["written"], dry["diff"])
    assert sorted(path.name for path in tmp_path.iterdir()) == first["written"]
    assert len(first["written"]) == 3
    assert "servers" in first["msg"]
    assert made(JOBS)["changed"] is False
    # Somebody edited one.
    timer = tmp_path / "runbook-daily-backup.timer"
    timer.write_text(timer.read_text().replace("03:00", "05:00"))
    again = made(JOBS, diff=True)
    assert again["written"] == [timer.name]
    assert "05:00" in again["diff"][0]["before"]
    assert "05:00" not in timer.read_text()
    # A job that is gone, and files of others, and of another engine.
    run_module("schedule_files", WHERE | {"path": str(tmp_path), "schedules": JOBS, "engine": "github"})
    run_module("schedule_files", WHERE | {"path": str(tmp_path), "schedules": JOBS, "engine": "gitlab"})
    (tmp_path / "sshd.service").write_text("[Unit]\n")
    gone = made({"capacity": job("capacity.yml")})
    assert gone["removed"] == ["runbook-daily-backup.service", "runbook-daily-backup.timer"]
    left = {path.name for path in tmp_path.iterdir()}
    assert {"sshd.service", "runbook-schedules.yml", "runbook.gitlab-ci.yml"} <= left


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"user": "root"}, "user: scheduled jobs do not run as root"),
        ({"project": "/srv/run book"}, "project: '/srv/run book' cannot stand in a unit"),
        ({"inventory": "x; rm -rf /"}, "inventory: 'x; rm -rf /' cannot stand in a unit"),
        ({"path": "/nowhere"}, "path: /nowhere cannot be read (No such file or directory)"),
        ({"schedules": {"x": {"rhythm": "dayly"}}}, "rhythm: 'dayly' is unknown; did you mean daily?"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, changed, says):
    refused = run_module("schedule_files", WHERE | {"path": str(tmp_path), "schedules": JOBS} | changed)
    assert says in refused.result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_alerts_of_two_environments_are_not_put_into_one_folder(tmp_path):
    where = WHERE | {"path": str(tmp_path), "schedules": JOBS, "engine": "prometheus"}
    assert run_module("schedule_files", where).result["changed"]
    alerts = tmp_path / "schedules.yml"
    theirs = re.sub(r'environment="\w+"', 'environment="elsewhere"', alerts.read_text())
    alerts.write_text(theirs)
    assert f"the jobs in {tmp_path} are those of elsewhere, and" in run_module("schedule_files", where).result["msg"]
    assert alerts.read_text() == theirs


def test_nothing_is_started_where_each_run_would_fail(tmp_path):
    """Systemd takes such units, and they fail at night, without a record."""
    units, project, said = (tmp_path / name for name in ("units", "project", "environment"))
    units.mkdir()
    project.mkdir()
    where = WHERE | {
        "path": str(units), "schedules": JOBS, "start": True, "project": str(project),
        "environment_file": str(said), "user": "daemon",
    }  # fmt: skip

    def refused(**more: Any) -> str:
        return str(run_module("schedule_files", where | more).result["msg"])

    assert "there is no user nosuchuser on this machine" in refused(user="nosuchuser")
    assert "environment_file: " in refused()
    said.write_text("ANSIBLE_VAULT_PASSWORD_FILE=/etc/runbook/vault_password\n")
    assert f"user: {project}/runs is not there" in refused()
    (project / "runs").mkdir()
    assert f"user: {project}/runs belongs to user " in refused()
    assert list(units.iterdir()) == []
    said.write_text("RUNBOOK_RUNS_DIR=/srv/records\n")
    assert run_module("schedule_files", where).result["changed"]


def test_a_file_of_somebody_else_is_not_written_over(tmp_path):
    (tmp_path / "runbook-schedules.yml").write_text("name: mine\n")
    refused = run_module(
        "schedule_files", WHERE | {"engine": "github", "path": str(tmp_path), "schedules": JOBS}
    ).result
    assert "was not made by this project" in refused["msg"]
    assert (tmp_path / "runbook-schedules.yml").read_text() == "name: mine\n"


@pytest.mark.parametrize(
    ("inventory", "named"),
    [
        ("/srv/runbook/inventories/acme", "inventories/acme"),
        ("/etc/inventory", "/etc/inventory"),
        ("/srv/runbook-2/inventories/acme", "/srv/runbook-2/inventories/acme"),
    ],
)
def test_an_inventory_of_the_project_is_named_from_its_root(tmp_path, inventory, named):
    run_module("schedule_files", WHERE | {"path": str(tmp_path), "schedules": JOBS, "inventory": inventory})
    assert f" -i {named} playbooks/" in (tmp_path / "runbook-daily-backup.service").read_text()


@pytest.mark.parametrize("engine", ["systemd", "github", "gitlab"])
def test_jobs_of_another_inventory_are_not_replaced(tmp_path, engine):
    where = WHERE | {"engine": engine, "path": str(tmp_path), "schedules": JOBS}
    production = where | {"inventory": "inventories/production"}
    assert run_module("schedule_files", production).result["changed"]
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    refused = run_module("schedule_files", where).result
    assert "are those of inventories/production, and would be lost" in refused["msg"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert run_module("schedule_files", production).result["changed"] is False


def test_the_playbook_makes_units_of_the_inventory(tmp_path: Path, database):
    units = tmp_path / "units"
    units.mkdir()
    jobs = JOBS | {"timers": job("schedules.yml"), "tagged": job("schedules.yml", tags=["some"])}
    where = {"schedule_start": False, "schedule_path": str(units)}
    project = Project.for_database(tmp_path, database, schedule_jobs=jobs, **where)
    # Not the run that is scheduled: what Ansible's command line says reaches preflight.
    for more, says in (
        (("-e", "preflight_job=tagged"), "as schedules.yml -t some, and this run has no tag; run it with those tags"),
        (("-e", "preflight_job=timers", "-e", "schedule_user=me"), "and this run also says schedule_user with -e"),
    ):
        refused = project.run("schedules.yml", *more)
        assert refused.code != 0
        assert says in " ".join(refused.output.split()), refused.output
    # Playbooks that only look have no preflight, and a run that begins in its middle does not come to it.
    for playbook, options, says in (
        ("doctor.yml", [], "the inventory schedules timers as schedules.yml, not for doctor.yml"),
        ("schedules.yml", ["--start-at-task", "Make the files"], "timers is run as a whole"),
    ):
        refused = project.run(playbook, "-e", "preflight_job=timers", *options)
        assert refused.code != 0
        assert says in " ".join(refused.output.split()), refused.output
        assert refused.record is not None
        assert not (refused.record.parent / "metrics/sandbox-job-timers.prom").exists()
    assert list(units.iterdir()) == []
    ended = project.run("schedules.yml", "-e", "preflight_job=timers")
    assert ended.code == 0, ended.output
    assert ended.record is not None
    done = ended.record.parent / "metrics/sandbox-job-timers.prom"
    assert (
        'last_success_timestamp_seconds{environment="sandbox",schedule="timers",host="db",inventory='
        in done.read_text()
    )
    assert ended.last("schedule_files")["left_out"] == ["servers"]
    assert (units / "runbook-daily-backup.timer").exists()
    # The inventory of this run, however its folder is called.
    service = (units / "runbook-daily-backup.service").read_text()
    assert f"ansible-playbook -i {project.inventory} playbooks/backup.yml" in service


def test_a_job_that_a_freeze_refuses_is_red_by_itself_and_not_on_the_board(tmp_path: Path, database):
    calendar = a_window(-2, 2)
    frozen = {key: a_window(-3, 3)["windows"][0][key] for key in ("begin", "end")}
    freeze = {"id": "audit", "scope": "all", "reason": "an audit", "owner": "Jo Doe"} | frozen
    project = Project.for_database(
        tmp_path, database, schedule_jobs={"weekly": job("weekly_db.yml")},
        maintenance_calendar=calendar | {"freezes": [freeze]},
    )  # fmt: skip
    refused = project.run("weekly_db.yml", "-e", "preflight_job=weekly")
    assert refused.code != 0
    assert "the freeze audit holds until" in " ".join(refused.output.split())
    (place,) = json.loads((tmp_path / "runs/board.json").read_text())["places"].values()
    (row,) = [each for each in place["operations"] if each["job"] == "weekly"]
    # It never ran, and nobody could have seen it run.
    assert (row["state"], row["recent"], row["last_run_id"]) == ("never run", ["skipped"], None)
    assert [path.name for path in (tmp_path / "runs/metrics").iterdir()] == ["board.prom"]
    # What a person asked for, and was refused, says nothing of the job.
    assert project.run("weekly_db.yml").code != 0
    (place,) = json.loads((tmp_path / "runs/board.json").read_text())["places"].values()
    assert [each["state"] for each in place["operations"] if each["job"] == "weekly"] == ["never run"]
