"""doctor.yml on servers, on what watches, on log files, and where Lighthouse should be: each fault is a line."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from conftest import free_port, job
from debian import MACHINE_ID, Debian
from fakes.alertmanager import FakeAlertmanager
from fakes.http import Asked, FakeService, Reply

from playbooks import Ended, Project

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "c4n4ry-p4ssw0rd"
LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class FakePrometheus(FakeService):
    """One that answers any query, and asks for a token."""

    service: ClassVar[str] = "prometheus"

    def answer(self, asked: Asked) -> Reply:
        if asked.headers.get("Authorization") != f"Bearer {CANARY}":
            return Reply(401, {"status": "error", "error": "Unauthorized"})
        return Reply(200, {"status": "success", "data": {"resultType": "vector", "result": []}})


class GuardedAlertmanager(FakeAlertmanager):
    token: ClassVar[str] = CANARY


def looked(ended: Ended) -> dict[str, dict[str, str]]:
    """The lines of the last table."""
    return {each["name"]: each for each in ended.last("runbook_doctor")["checks"]}


def states(found: dict[str, dict[str, str]], *names: str) -> dict[str, str]:
    return {name: found[name]["status"] for name in names}


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    made = Debian(tmp_path / "debian")
    made.install(made.package("main", "bar", "2.0-1"))
    return made


def a_server(folder: Path, **server: Any) -> Project:
    (folder / "state").mkdir(exist_ok=True, mode=0o700)
    common = {
        "runbook_environment": "sandbox", "ansible_connection": "local", "state_directory": str(folder / "state"),
        "schedule_jobs": {"security": job("updates.yml", hosts=["servers"], tags=["security"])},
    }  # fmt: skip
    name = {"server_hostname": os.uname().nodename, "server_machine_id": MACHINE_ID}
    return Project(folder, all_vars=common, servers={"web1": name | server})


def of_server(debian: Debian, project: Project) -> dict[str, dict[str, str]]:
    ended = project.run("doctor.yml", environ=debian.environ)
    assert CANARY not in ended.output
    return looked(ended)


def test_a_server_is_asked_what_an_update_needs(tmp_path, debian):
    before = sorted(debian.root.rglob("*"))
    found = of_server(debian, a_server(tmp_path))
    names = ("server", "server identity", "server packages", "server proof", "options")
    assert states(found, *names) == dict.fromkeys(names, "ok"), found
    assert (found["rights server"]["status"] == "ok") is (os.geteuid() == 0)
    assert "logs" not in found
    assert sorted(debian.root.rglob("*")) == before


def test_each_fault_of_a_server_is_a_line(tmp_path, debian):
    debian.needrestart("")
    project = a_server(
        tmp_path, server_machine_id="", server_updates_deadline_days=40, server_updates_proof_days="x",
        state_secret_key="{{ nobody_said_this }}",
    )  # fmt: skip
    found = of_server(debian, project)
    says = f"server_machine_id: it is empty, and {os.uname().nodename} says {MACHINE_ID}"
    assert says in found["server identity"]["msg"]
    assert found["server needrestart"]["status"] == "unknown"
    assert "server_updates_deadline_days: 40 is out of bounds; give a number from 1 to" in found["options"]["msg"]
    assert "server_updates_proof_days" in found["options"]["msg"]
    assert "state_secret_key ('nobody_said_this' is undefined)" in found["settings"]["msg"]


def test_another_server_is_asked_nothing_and_one_that_is_away_is_unknown(tmp_path, debian):
    found = of_server(debian, a_server(tmp_path, server_machine_id="f" * 32))
    assert found["server identity"]["status"] == "breach"
    assert found["server packages"]["status"] == "unknown"
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": free_port()}
    found = of_server(debian, a_server(tmp_path, **away))
    assert states(found, "server", "server identity", "rights server") == {
        "server": "unknown", "server identity": "unknown", "rights server": "unknown",
    }  # fmt: skip
    assert found["inventory"]["status"] == "ok"


def test_a_password_that_sudo_asks_for_is_said(tmp_path, debian):
    sudo = debian.bin / "sudo"
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    sudo.chmod(0o755)
    found = of_server(debian, a_server(tmp_path, ansible_become=True, ansible_become_user="nobody"))
    assert found["server"]["status"] == "breach"
    assert "sudo: a password is required. Let its user do that without a password" in found["server"]["msg"]


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed (Debian's package logrotate)")
def test_log_files_are_looked_at_where_logs_are_scheduled(tmp_path, debian, s3):
    bucket = s3.protected_bucket()
    logs = {
        "logs_bucket": bucket, "logs_region": s3.region, "logs_endpoint_url": s3.endpoint_url,
        "logs_access_key": s3.access_key, "logs_secret_key": s3.secret_key, "logs_seal_keys": ["k" * 32],
        "logs_bucket_tls_only": False, "logs_bucket_block_public_access": False,
        "logs_config": str(tmp_path / "runbook-logs"), "logs_state_file": str(tmp_path / "state-of-logrotate"),
        "logs_files": [{"name": "app", "class": "operational", "paths": [str(tmp_path / "app.log")]}],
    }  # fmt: skip
    project = a_server(tmp_path, **logs)
    assert "logs" not in of_server(debian, project)
    project.all_vars["schedule_jobs"]["rotate"] = job("logs.yml", hosts=["servers"], tags=["rotate"])
    found = of_server(debian, project)
    assert states(found, "logs", "logs bucket", "options") == dict.fromkeys(("logs", "logs bucket", "options"), "ok")
    assert not (tmp_path / "runbook-logs").exists()
    project.servers["web1"] |= {
        "logs_ssh": "nobody@127.0.0.1", "logs_become": True, "logs_seal_keys": [CANARY], "logs_deadline_s": 0,
    }  # fmt: skip
    del project.servers["web1"]["logs_bucket"]
    found = of_server(debian, project)
    assert found["logs keys"]["msg"].startswith("logs_seal_keys: a key has fewer than 32 characters")
    assert found["logs"]["status"] == "unknown"
    assert "missing required arguments: logs_bucket" in found["options"]["msg"]
    assert "logs_deadline_s: 0 is out of bounds" in found["options"]["msg"]


def test_what_watches_answers_us(tmp_path):
    with FakePrometheus() as prometheus, GuardedAlertmanager() as manager:
        hosts: dict[str, Any] = {
            "monitoring_prometheus_url": prometheus.url, "monitoring_prometheus_token": "{{ vault_token[0] }}",
            "monitoring_alertmanager_urls": [manager.url], "monitoring_alertmanager_token": "{{ vault_token[0] }}",
            "vault_token": [CANARY],
        }  # fmt: skip
        project = Project(
            tmp_path,
            all_vars={"runbook_environment": "sandbox", "ansible_connection": "local"},
            monitoring={"watch": hosts},
        )
        ended = project.run("doctor.yml")
        names = ("prometheus", "alertmanager", "options")
        assert states(looked(ended), *names) == dict.fromkeys(names, "ok"), ended.output
        assert not [line for line in (*prometheus.requests, *manager.requests) if not line.startswith("GET ")]
        hosts |= {"vault_token": ["another"], "monitoring_alerts_days": 0, "monitoring_alerts_wieks": 3}
        hosts["monitoring_alertmanager_urls"].append(f"http://127.0.0.1:{free_port()}")
        found = looked(project.run("doctor.yml"))
    assert "check monitoring_prometheus_token" in found["prometheus"]["msg"]
    assert found["prometheus"]["status"] != "ok"
    assert found["alertmanager"]["status"] != "ok"
    assert "monitoring_alerts_days: 0 is out of bounds" in found["options"]["msg"]
    assert "did you mean monitoring_alerts_weeks?" in found["variables"]["msg"]


def test_a_password_in_an_address_is_named_and_hides_nothing_else(tmp_path):
    with GuardedAlertmanager() as manager:
        hosts: dict[str, Any] = {
            "monitoring_prometheus_url": f"https://ops:{CANARY}@prometheus.example.com",
            "monitoring_alertmanager_urls": [manager.url], "monitoring_alertmanager_token": "{{ vault_token[0] }}",
            "vault_token": [CANARY],
        }  # fmt: skip
        project = Project(
            tmp_path,
            all_vars={"runbook_environment": "sandbox", "ansible_connection": "local"},
            monitoring={"watch": hosts},
        )
        ended = project.run("doctor.yml", "-vvv")
    found = looked(ended)
    assert "monitoring_prometheus_url: it holds a password (not repeated here)" in found["options"]["msg"]
    assert states(found, "prometheus", "alertmanager") == {"prometheus": "breach", "alertmanager": "ok"}
    assert CANARY not in ended.output + json.dumps(ended.results)


def test_lighthouse_is_looked_for_where_pages_are_scheduled(tmp_path):
    audit = job("performance.yml", hosts=["applications"], tags=["weekly"])
    project = Project.for_application(
        tmp_path, web_performance_tools_path=str(tmp_path), schedule_jobs={"audit": audit},
        web_performance_pages=[{"name": "home", "url": "https://app.clinic.eu/", "budgts": {}}],
        web_performance_runs=99,
    )  # fmt: skip
    found = looked(project.run("doctor.yml"))
    assert found["web tools"]["status"] == "unknown"
    assert "web_performance_tools_path" in found["web tools"]["msg"]
    assert "python -m tools.web_tools" in found["web tools"]["msg"]
    assert "budgts" in found["options"]["msg"]
    project.applications["app"]["schedule_jobs"]["audit"]["disabled"] = "until Lighthouse is here"
    project.applications["app"]["schedule_jobs"]["night"] = job("backup.yml")
    assert "web tools" not in looked(project.run("doctor.yml"))


def test_a_group_that_is_all_red_hides_no_other(tmp_path, debian):
    project = a_server(tmp_path, server_machine_id="")
    project.monitoring = {"watch": {"monitoring_prometheus_url": f"http://127.0.0.1:{free_port()}"}}
    project.applications = {"app": {}}
    ended = project.run("doctor.yml", environ=debian.environ)
    tables = [{each["name"] for each in result["checks"]} for result in ended.results["runbook_doctor"]]
    assert len(tables) == 3, ended.output
    assert any("server identity" in names for names in tables)
    assert any("prometheus" in names for names in tables)
