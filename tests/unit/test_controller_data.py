"""What awx.yml makes in AWX, compared with the playbooks that there are."""

from __future__ import annotations

import re
from pathlib import Path

import architecture
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DATA = yaml.safe_load((ROOT / "roles/controller/files/templates.yml").read_text())
TEMPLATES = {each["playbook"]: each for each in DATA["templates"]}
#: What makes no sense in AWX: a sandbox or a bastion's timers would end with the container, and AWX does not describe
#: itself.
LEFT_OUT = {"awx.yml", "sandbox.yml", "schedules.yml"}


def test_every_playbook_has_its_template():
    names = {path.name for path in architecture.playbooks(ROOT)}
    assert len(TEMPLATES) == len(DATA["templates"])
    assert TEMPLATES.keys() == names - LEFT_OUT


def test_what_replaces_something_live_needs_an_approval():
    assert set(DATA["workflows"]) <= TEMPLATES.keys()
    assert {"emergency.yml", "rollback.yml", "restore_swap.yml", "supabase_restore.yml"} <= set(DATA["workflows"])


@pytest.mark.parametrize("playbook", TEMPLATES)
def test_its_questions_are_of_variables_that_it_reads(playbook):
    questions = [DATA["confirm"], *TEMPLATES[playbook]["questions"]]
    folders = ("roles/*/defaults", "roles/*/meta", "roles/*/tasks", "playbooks", "playbooks/tasks")
    texts = [path.read_text() for folder in folders for path in ROOT.glob(f"{folder}/*.yml")]
    for question in questions:
        assert question["required"] is False
        # AWX passes a default on, and a scheduled job that says more with -e than its schedule is refused.
        assert "default" not in question
        word = re.compile(rf"\b{question['variable']}\b")
        assert any(word.search(text) for text in texts), question["variable"]
