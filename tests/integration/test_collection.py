"""The modules as a collection: built, installed elsewhere, run by their full names."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT

from tools import collection

if TYPE_CHECKING:
    from pathlib import Path


def _run(*command: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    return subprocess.run(command, cwd=cwd, env=known | environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    built = collection.build(folder / "dist")
    place = folder / "collections"
    done = _run("ansible-galaxy", "collection", "install", str(built), "--no-deps", "-p", str(place), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_module_by_its_full_name(database, installed):
    """It reads; and what writes refuses, because no run of the project permits it."""
    play = [{
        "hosts": "localhost", "gather_facts": False, "connection": "local",
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "tasks": [
            {"name": "Read", "mental_scribe.runbook.pg_bloat_info": database.login, "register": "read"},
            {
                "name": "Write", "mental_scribe.runbook.pg_vacuum": database.login, "register": "written",
                "ignore_errors": True,
            },
            {
                "name": "Keep",
                "ansible.builtin.copy": {"dest": "said.json", "content": "{{ [read, written] | to_json }}"},
            },
        ],
    }]  # fmt: skip
    (installed / "play.yml").write_text(json.dumps(play))
    done = _run(
        "ansible-playbook", "-i", "localhost,", "play.yml", cwd=installed,
        ANSIBLE_COLLECTIONS_PATH=str(installed / "collections"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    read, written = json.loads((installed / "said.json").read_text())
    assert (read["failed"], read["changed"]) == (False, False), read
    assert written["failed"]
    assert "preflight" in written["msg"]


def test_its_version_is_the_project_s(installed):
    (tarball,) = (installed / "dist").glob("*.tar.gz")
    assert tarball.name == f"mental_scribe-runbook-{collection.version()}.tar.gz"
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changes
