"""A drill's document in a real run of ansible-playbook: its report lies beside the run's own, also where it is red."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import drill_samples
import pytest
from conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

#: Tells of a drill that never was, as the real module does: a red one in its failure.
TOLD = """#!/usr/bin/python
import json
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import run_module


def core(context):
    with open(context.params["document"]) as file:
        drill = json.load(file)
    if drill["status"] != "ok":
        raise RunbookError(drill["msg"], status=drill["status"], drill=drill)
    return {"changed": True, "msg": drill["msg"], "status": "ok", "drill": drill}


if __name__ == "__main__":
    run_module(core, name="dr_drill_judge", argument_spec={"document": {"type": "path", "required": True}})
"""
PLAY = [
    {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "tasks": [{"name": "Judge", "dr_drill_judge": {"document": "{{ playbook_dir }}/document.json"}}],
    }
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/dr_drill_judge.py").write_text(TOLD)
    (tmp_path / "dr_drill.yml").write_text(json.dumps(PLAY))  # JSON is YAML
    return tmp_path


def hold(folder: Path, **changes: Any) -> tuple[int, str, Path]:
    """Run the playbook; its exit code, its output, and the folder of its record."""
    (folder / "document.json").write_text(json.dumps(drill_samples.drill(**changes)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNBOOK_", "ANSIBLE_"))}
    own = {
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LIBRARY": str(folder / "library"),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "playbooks/callback_plugins"),
        "RUNBOOK_RUNS_DIR": str(folder / "runs"),
    }
    before = set((folder / "runs").glob("2*"))
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", str(folder / "dr_drill.yml")],
        cwd=ROOT, env=kept | own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    made = set((folder / "runs").glob("2*")) - before
    assert made, done.stdout + done.stderr
    return done.returncode, done.stdout, made.pop()


def test_a_report_that_cannot_be_made_ends_the_run_red(folder: Path):
    code, said, made = hold(folder, started_at="0001-01-01T00:00:00+14:00")  # before all times in UTC
    assert code != 0, said
    assert (made / "record.json").exists()
    assert not (made / "report.html").exists()


def test_a_drill_leaves_its_report_and_its_figures_whether_it_is_green_or_red(folder: Path):
    code, said, first = hold(folder)
    assert code == 0, said
    assert f"{first.name}/drill.html" in said
    assert (first / "drill.md").read_text().startswith("# Disaster-recovery drill")

    code, said, second = hold(
        folder, drill_id="2026-03-02T02-00-00Z", status="breach", msg="rpo (breach): 2 h of work was lost."
    )
    assert code != 0
    assert f"{second.name}/drill.html" in said
    page = (second / "drill.html").read_text()
    assert "rpo (breach): 2 h of work was lost." in page
    assert f"../{first.name}/drill.html" in page, "the one before it"
    latest = (folder / "runs/metrics/dr_drill.prom").read_text()
    assert 'runbook_drill_last_success{playbook="dr_drill",host="localhost"} 0.0' in latest
    assert "runbook_drill_last_success_timestamp_seconds" in latest, "of the drill before"
