"""Security updates of servers: playbooks over Ansible's connection, with the real apt-get and dpkg."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.updates import apt as driver
from debian import MACHINE_ID, Debian

from playbooks import Ended, Project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def debian(tmp_path) -> Debian:
    """A server with two packages, for one of which there is a security update."""
    made = Debian(tmp_path / "debian")
    made.install(made.package("main", "libfoo", "1.0-1"), made.package("main", "bar", "2.0-1"))
    made.package("main", "bar", "2.1-1")
    # Nothing may take it for a secret.
    made.install(made.package("main", "base-passwd", "3.6.1"))
    made.package("security", "base-passwd", "3.6.1+deb12u1")
    made.package("security", "libfoo", "1.0-1+deb12u1", depends="libnew")
    made.package("main", "libnew", "0.1")
    return made


def project(folder: Path, environment: str = "sandbox", **variables: Any) -> Project:
    """An inventory with this machine as its one server."""
    (folder / "state").mkdir(exist_ok=True, mode=0o700)
    name = os.uname().nodename
    return Project(
        folder,
        {},
        {
            "runbook_environment": environment,
            "ansible_connection": "local",
            "state_directory": str(folder / "state"),
            "change_needs": {"updates.yml servers": []},
            "maintenance_operations": {"updates.yml servers": "none"},
        }
        | variables,
        servers={"web1": {"server_hostname": name, "server_machine_id": MACHINE_ID}},
    )


def run(project: Project, debian: Debian, tag: str, *arguments: str, **variables: object) -> Ended:
    """Run updates.yml with a tag."""
    return project.run("updates.yml", "--tags", tag, *arguments, environ=debian.environ, **variables)


def test_security_updates_are_looked_for_installed_and_proven(tmp_path, debian):
    here = project(tmp_path)
    debian.needrestart("NEEDRESTART-VER: 3.6", "NEEDRESTART-KSTA: 1", "NEEDRESTART-SVC: nginx.service")
    looked = run(here, debian, "security")
    found = looked.last("apt_updates_check")
    assert [(each["kind"], each["name"], each["state"]) for each in found["waiting"]] == [
        ("update", "base-passwd 3.6.1+deb12u1", "open"),
        ("update", "libfoo 1.0-1+deb12u1", "open"),
        ("restart", "nginx.service", "open"),
    ], looked.output
    assert (looked.code, found["packages"]) == (0, 3)
    planned = run(here, debian, "servers", "--check", "--diff")
    assert [(each["package"], each["to"]) for each in planned.last("apt_upgrade")["upgraded"]] == [
        ("base-passwd", "3.6.1+deb12u1"),
        ("libfoo", "1.0-1+deb12u1"),
        ("libnew", "0.1"),
    ], planned.output
    assert debian.installed() == {"base-passwd": "3.6.1", "libfoo": "1.0-1", "bar": "2.0-1"}
    done = run(here, debian, "servers")
    assert done.code == 0, done.output
    # What is no security update stays.
    after = {"base-passwd": "3.6.1+deb12u1", "libfoo": "1.0-1+deb12u1", "libnew": "0.1", "bar": "2.0-1"}
    assert debian.installed() == after
    assert done.last("apt_upgrade")["services"] == []
    proof = json.loads(next((tmp_path / "state/sandbox/updates").glob("proof-*.json")).read_text())["body"]
    assert dict(proof["packages"]) == after
    # A kernel that does not run yet is proven by nothing.
    debian.needrestart("NEEDRESTART-VER: 3.6", "NEEDRESTART-KSTA: 3", "NEEDRESTART-KEXP: 6.1.0-42-amd64")
    written = min((tmp_path / "state/sandbox/updates").glob("proof-*.json")).stat().st_mtime_ns
    again = run(here, debian, "servers")
    assert (again.last("apt_upgrade")["changed"], again.last("apt_proof")["status"]) == (False, "breach"), again.output
    assert "(a newer kernel, 6.1.0-42-amd64, is installed): what runs is not" in again.last("apt_proof")["msg"]
    assert min((tmp_path / "state/sandbox/updates").glob("proof-*.json")).stat().st_mtime_ns == written
    assert debian.folders()
    assert [each for each in debian.folders() if each.exists()] == [], "a folder was left"


def test_an_application_that_is_red_hides_no_server(tmp_path, debian):
    here = project(tmp_path, security_updates_own_files=[])
    here.applications = {
        "app": {"app_repository": str(tmp_path / "gone"), "app_branch": "main", "app_repository_root": "f" * 40}
    }
    looked = run(here, debian, "security")
    assert looked.code != 0
    assert looked.last("apt_updates_check")["security_updates"] == 2, looked.output


def test_a_server_that_knows_no_security_archive_is_not_clean(tmp_path, debian):
    sources = debian.root / "etc/apt/sources.list"
    sources.write_text("".join(sources.read_text().splitlines(keepends=True)[:1]))
    looked = run(project(tmp_path), debian, "security")
    assert looked.last("apt_updates_check")["status"] == "unknown", looked.output
    assert "knows no archive of security updates" in looked.last("apt_updates_check")["msg"]


@pytest.mark.skipif(not driver.own_machine_id(), reason="this machine has no id in /etc/machine-id")
def test_the_bastion_is_not_looked_at_in_the_place_of_a_server(tmp_path, debian):
    (debian.bin / "cat").unlink()
    looked = run(project(tmp_path, "staging"), debian, "security")
    assert looked.code != 0, looked.output
    assert "the machine that answers is this bastion itself" in looked.last("apt_updates_check")["msg"]


@pytest.mark.long
def test_production_installs_what_staging_worked_with_and_nothing_else(tmp_path, debian):
    production = project(tmp_path, "production", server_updates_proof_environment="staging")
    refused = run(production, debian, "servers", confirm="production")
    result = refused.last("apt_upgrade")
    assert debian.installed()["libfoo"] == "1.0-1", refused.output
    assert [each["package"] for each in result["unproven"]] == ["base-passwd", "libfoo"]
    assert "run updates.yml --tags servers on staging first" in result["msg"]
    # What the inventory says is no reason.
    standing = project(
        tmp_path, "production", server_updates_proof_environment="staging", server_updates_unproven_reason="CVE-1"
    )
    assert "counts only where the command line" in run(standing, debian, "servers", confirm="production").output
    open_ = run(production, debian, "servers", confirm="production", server_updates_proof_environment="")
    assert "nothing would have to be proven before production" in open_.output
    assert debian.installed()["libfoo"] == "1.0-1"
    # As a change, whose lines are answered on the bastion.
    staging = project(tmp_path, "staging", change_needs={"updates.yml servers": ["rollback_plan", "work"]})
    other = Debian(tmp_path / "other")
    other.install(other.package("main", "libfoo", "1.0-1+deb12u1"), other.package("main", "libnew", "0.1"))
    changed = run(staging, other, "servers")
    assert changed.code == 0, changed.output
    assert changed.last("change_check")["status"] == "ok"
    production = project(tmp_path, "production", server_updates_proof_environment="staging")
    done = run(production, debian, "servers", confirm="production")
    assert (done.code, debian.installed()["libfoo"]) == (0, "1.0-1+deb12u1"), done.output
    # What staging does not have waits.
    assert debian.installed()["base-passwd"] == "3.6.1"
