"""Figures in sentences."""

from __future__ import annotations

import doctest
import re

import conftest
from ansible.module_utils.runbook.rules import words


def test_doctests():
    assert doctest.testmod(words).failed == 0


def test_there_is_one_way_to_write_a_size():
    """Two units for one thing, MB and MiB, make a reader calculate."""
    wrong = re.compile(r"\} (?:kB|MB|GB|TB)\b|\"(?:kB|MB|GB)\"")
    code = [*(conftest.ROOT / "module_utils").rglob("*.py"), *(conftest.ROOT / "library").glob("*.py")]
    assert [path.name for path in code if wrong.search(path.read_text())] == []
