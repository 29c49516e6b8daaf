"""The module that CONTRIBUTING.md tells people to copy: its files are made as they stand there, and run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.module_utils.runbook.rules.postgres as room
import conftest
import module_docs
import pytest
import yaml
from conftest import ROOT, Outcome, module_process

if TYPE_CHECKING:
    from conftest import Database

#: A file's path in a line of its own, and the fenced text below it.
_FILE = re.compile(r"^`([\w/.]+)`[^\n]*\n\n```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME = "pg_connection_check"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files by their path; a copy of the project that has them stands in for the project."""
    found = dict(_FILE.findall((ROOT / "CONTRIBUTING.md").read_text()))
    shutil.copytree(ROOT / "module_utils", tmp_path / "module_utils", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in found.items():
        if path.startswith(("library/", "module_utils/")):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path / "module_utils/runbook/rules/postgres")])
    monkeypatch.setattr(conftest, "ROOT", tmp_path)
    return found


def run_module(name: str, options: dict[str, Any]) -> Outcome:
    """As in conftest, in a process that imports the copy."""
    out, error = module_process(name, options).communicate()
    return Outcome(json.loads(out.splitlines()[-1]), error)


def test_its_tests_pass(files: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "run_module", run_module)
    ran = 0
    for path in sorted(path for path in files if path.startswith("tests/")):
        names: dict[str, Any] = {}
        exec(compile(files[path], path, "exec"), names)  # noqa: S102 - the project's own text
        for name in [name for name in names if name.startswith("test_")]:
            names[name](*([database] if "integration" in path else []))
            ran += 1
    assert ran == 2


def test_its_manual_task_section_and_row_fit(files: dict[str, str], tmp_path: Path) -> None:
    module = tmp_path / "library" / f"{NAME}.py"
    assert list(module_docs.check_module(module, ROOT / "doc_fragments")) == []
    tasks = yaml.safe_load(files["roles/db_health/tasks/main.yml"])
    assert [task[NAME] for task in tasks]
    assert list(module_docs.check_tasks(((Path("main.yml"), task) for task in tasks), module.parent)) == []
    names: dict[str, Any] = {}
    exec(files["module_utils/runbook/report/sections/connections.py"], names)  # noqa: S102 - the project's own text
    (section,) = names["SECTIONS"]
    assert section.modules == (NAME,)
    assert set(section.figures) <= module_docs.documentation(module, ROOT / "doc_fragments")["returndocs"].keys()
    row = [cell.strip() for cell in files["docs/runbook.md"].strip().strip("|").split("|")]
    assert len(row) == 6
    assert {cell.strip("`") for cell in row if "/" in cell} <= files.keys()
