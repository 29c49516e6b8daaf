"""Every module is what its documentation says; and the check finds one that is not."""

from __future__ import annotations

from pathlib import Path

import architecture
import module_docs
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "library").glob("*.py"))


def test_there_are_modules():
    assert MODULES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_module_is_documented(path):
    assert list(module_docs.check_module(path, ROOT / "doc_fragments")) == []


def test_tasks_use_options_that_exist():
    tasks = [*architecture.role_tasks(ROOT), *architecture.play_tasks(ROOT)]
    assert sum(bool({path.stem for path in MODULES} & task.keys()) for _, task in tasks) > 3
    assert list(module_docs.check_tasks(iter(tasks), ROOT / "library")) == []


GOOD = '''
from ansible.module_utils.runbook.drivers.postgres.postgres import argument_spec
from ansible.module_utils.runbook.module import run_module

DOCUMENTATION = r"""
module: good
short_description: A module
description: [It is good.]
extends_documentation_fragment: runbook_postgresql
options:
  older_than_days: {type: int, default: 90, description: [Age.]}
  mode: {type: str, required: true, choices: [need, all], description: [Which.]}
  columns:
    type: list
    elements: dict
    description: [Columns.]
    suboptions:
      name: {type: str, required: true, description: [Name.]}
"""
EXAMPLES = r"""
- name: Do it
  good:
    mode: all
    older_than_days: 30
"""
RETURN = r"""
changed: {type: bool, returned: always, description: x}
msg: {type: str, returned: always, description: x}
status: {type: str, returned: always, description: x}
"""
SPEC = argument_spec() | {
    "older_than_days": {"type": "int", "default": 90},
    "mode": {"type": "str", "required": True, "choices": ["need", "all"]},
    "columns": {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}}},
}
run_module(lambda context: {}, name="good", argument_spec=SPEC)
'''


def check(folder: Path, source: str) -> list[str]:
    (folder / "good.py").write_text(source)
    return list(module_docs.check_module(folder / "good.py", ROOT / "doc_fragments"))


def test_good_module_passes(tmp_path):
    assert check(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('"default": 90', '"default": 91', "older_than_days: default"),
        ('"default": 90', '"default": "90"', "older_than_days: default"),
        ('"type": "int"', '"type": "float"', "older_than_days: type"),
        ('"choices": ["need", "all"]', '"choices": ["need"]', "mode: choices"),
        ('"required": True, "choices"', '"choices"', "mode: required"),
        ('"elements": "dict", ', "", "columns: elements"),
        ('{"name": {"type": "str", "required": True}}', '{"name": {"type": "str"}}', "columns.name: required"),
        ('    "older_than_days":', '    "older_days":', "older_than_days is documented"),
        ('    "older_than_days":', '    "older_days":', "older_days is not documented"),
        ("extends_documentation_fragment: runbook_postgresql", "", "login_host is not documented"),
        ("    older_than_days: 30", "    older_days: 30", "EXAMPLES use older_days"),
        ("    mode: all", "", "EXAMPLES leave out mode"),
        ("  good:\n", "  other:\n", "EXAMPLES show no task"),
        ("module: good", "module: other", "DOCUMENTATION says"),
        ('name="good"', 'name="other"', "told the name"),
        ("status:", "state:", "RETURN does not tell of status"),
        ("RETURN =", "RESULT =", "missing"),
        ("description: [Age.]", "description: []", "no description"),
    ],
)
def test_bad_module_is_found(old, new, word, tmp_path):
    assert old in GOOD
    found = check(tmp_path, GOOD.replace(old, new, 1))
    assert any(word in text for text in found), found


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"mode": "all"}, ""),
        ({"mode": "all", "mood": 1}, "no option mood"),
        ({"login_db": "x"}, "needs the option mode"),
    ],
)
def test_bad_task_is_found(options, word, tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    found = list(module_docs.check_tasks(iter([(Path("r.yml"), {"name": "X", "good": options})]), tmp_path))
    assert [word in text for text in found] == ([True] if word else [])
