"""A playbook that the tests fork off a warm process is what an operator's is: same output, code, record and end."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from playbooks import Ended, Project

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Database

VOLATILE = re.compile(r"\d{8}T\d{6}Z|\b[\d.]+ s\b|\*{3,}")


def told(ended: Ended) -> tuple[int, str]:
    return ended.code, VOLATILE.sub("…", ended.output)


def recorded(ended: Ended) -> tuple[dict[str, Any], set[str]]:
    """What a record says whenever it is made, and the files beside it."""
    assert ended.record is not None
    record = json.loads((ended.record / "record.json").read_text())
    kept = ("playbook", "status", "check_mode", "environment", "command", "user", "ansible_version")
    return {name: record.get(name) for name in kept}, {path.name for path in ended.record.iterdir()}


def started(project: Project, playbook: str, **variables: Any) -> Ended:
    known = project.records()
    return project.ended(project.start(playbook, **variables), known)


@pytest.mark.parametrize("variables", [{}, {"db_maintenance_archve": []}], ids=["works", "is refused"])
def test_it_is_what_a_process_of_its_own_is(database: Database, tmp_path: Path, variables: dict[str, Any]) -> None:
    project = Project.for_database(tmp_path, database)
    forked, usual = project.run("lease.yml", **variables), started(project, "lease.yml", **variables)
    assert told(forked) == told(usual)
    assert recorded(forked) == recorded(usual)
    assert forked.results.keys() == usual.results.keys()
    # Both have run their handlers of the end.
    assert list((tmp_path / "tmp").iterdir()) == []


def test_it_is_killed_where_it_does_not_end(database: Database, tmp_path: Path) -> None:
    project = dataclasses.replace(Project.for_database(tmp_path, database), patience_s=0.01)
    with pytest.raises(AssertionError, match="did not end"):
        project.run("lease.yml")
