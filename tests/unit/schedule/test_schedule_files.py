"""The files of each engine can be read by it, hold no secret, and are those that lie in the project."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.report.metrics import successes
from ansible.module_utils.runbook.rules.schedule import alerts, files, schedule
from conftest import ROOT, job

PRODUCTION = yaml.safe_load((ROOT / "inventories/production/group_vars/all/schedules.yml").read_text())["schedule_jobs"]
ALL = schedule.read(PRODUCTION)
PLACE = files.Place("/srv/runbook", "inventories/production", "production")


def test_systemd_is_content_with_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian's package systemd)")
    program = tmp_path / ".venv/bin/ansible-playbook"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "docs/howto").mkdir(parents=True)
    place = files.Place(str(tmp_path), "inventories/production", "production", user="daemon")
    made = files.units([*ALL.values()], place)
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in made]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "LC_ALL": "C"},
    )  # fmt: skip
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "runbook" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


def test_a_service_and_a_timer_for_each_job_that_is_enabled_and_none_for_the_others():
    made = files.files("systemd", ALL, PLACE)
    assert not any("dr-drill" in name for name in made)
    assert all(f"Wants={name}" in made[files.TARGET] for name in made if name.endswith(".timer"))
    service = made["runbook-weekly-maintenance.service"]
    assert "weekly_db.yml -e preflight_job=weekly-maintenance\nTimeoutStartSec=7200\n" in service
    assert "User=runbook\n" in service
    assert "Persistent=true" in made["runbook-weekly-maintenance.timer"]
    proof = files.units([ALL["backup-proof"]], PLACE)["runbook-backup-proof.service"]
    assert "-e preflight_job=backup-proof -e backup_verify_proof=true" in proof


def test_workflows_are_yaml_and_run_what_the_schedule_says():
    found = yaml.safe_load(files.github([each for each in ALL.values() if each.enabled], PLACE))
    assert set(found["jobs"]) == {name for name, each in ALL.items() if each.enabled}
    monthly = found["jobs"]["monthly-optimization"]
    assert monthly["if"].endswith("github.event.schedule == '0 2 * * 0'")
    run = next(step["run"] for step in monthly["steps"] if "playbook" in step.get("run", ""))
    assert 'case " 1 2 3 4 5 6 7 " in' in run
    assert run.strip().endswith("playbooks/monthly_db.yml -e preflight_job=monthly-optimization")
    found = yaml.safe_load(files.gitlab([each for each in ALL.values() if each.enabled], PLACE))
    assert found["capacity"]["rules"] == [{"if": '$RUNBOOK_JOB == "capacity"'}]


@pytest.mark.parametrize(("day", "goes_on"), [("01", True), ("07", True), ("08", False), ("31", False)])
def test_the_line_of_shell_ends_a_run_on_other_days(day, goes_on):
    (text,) = [line for line in files.gitlab([ALL["monthly-optimization"]], PLACE).splitlines() if "case" in line]
    # The shell's own date, on a day of our choice.
    line = text.replace("$(date -u +%-d)", f"$(date -u -d 2027-01-{day} +%-d)").strip()
    done = subprocess.run(["sh", "-c", f"{line}\necho runs"], capture_output=True, text=True, check=True,
                          env={"CI_PIPELINE_SOURCE": "schedule", "PATH": "/usr/bin:/bin"})  # fmt: skip
    assert (done.stdout == "runs\n") is goes_on


def test_the_alerts_of_the_project_are_those_of_its_schedules():
    wanted = files.files("prometheus", ALL, PLACE)["schedules.yml"]
    assert (ROOT / "monitoring/alerts/schedules.yml").read_text() == wanted, (
        "run playbooks/schedules.yml with -e schedule_engine=prometheus -e schedule_path=$PWD/monitoring/alerts"
    )
    assert alerts.METRIC in wanted


def run(status, ended, hosts=("db1",), **more: Any):
    return {
        "schedule": "daily-backup", "check_mode": False, "ended_at": f"2027-01-{ended:02}T03:10:00.000Z",
        "hosts": {host: {"status": status} for host in hosts}, "environment": "production", "environments": [],
        "inventory": ["inventories/production"], "limit": None,
    } | more  # fmt: skip


def test_a_success_stays_until_the_next_one():
    first = successes(run("ok", 1, ("db1", "db2")), "")
    assert len(re.findall('schedule="daily-backup"', first)) == 2
    assert successes(run("failed", 2, ("db1", "db2")), first) == first
    limited = successes(run("ok", 3), first)
    at = {line.split('host="')[1][:3]: line.split()[-1] for line in limited.splitlines() if line[0] != "#"}
    assert float(at["db1"]) - float(at["db2"]) == 2 * 86400
    assert successes(run("ok", 4) | {"ended_at": None}, first) == first
    assert successes(run("failed", 1), "") == ""


def test_a_success_says_its_environment_and_a_host_that_left_the_inventory_is_forgotten():
    hosts = ("db1", "db2")
    first = successes(run("ok", 1, hosts), "", hosts)
    assert 'environment="production",schedule="daily-backup",host="db2",inventory="production"} ' in first
    for keeps in (
        successes(run("ok", 2, limit="db1"), first, ["db1"]),
        # A slice of a job sees a slice of the inventory.
        successes(run("ok", 2), first, None),
        successes(run("ok", 2, inventory=["inventories/production-us"]), first, ["db1"]),
    ):
        assert 'host="db2"' in keeps
        assert keeps.count('host="db1"') == 1
    assert 'host="db2"' not in successes(run("ok", 2), first, ["db1"])
    assert successes(run("failed", 2), first, []) == ""


def test_a_job_whose_groups_have_no_host_is_left_out():
    two = schedule.read({"a": job("backup.yml"), "b": job("x.yml", hosts=["servers"])})
    kept, left_out = schedule.with_hosts(two, {"databases": ["db1"], "servers": []})
    assert (list(kept), left_out) == (["a"], ["b"])
