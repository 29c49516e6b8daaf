"""What we write is not open to others, whatever the umask, and however open a folder was that is there already."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.report import places, render
from ansible.module_utils.runbook.report.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The most careless of all."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_folder_is_closed_and_nobody_may_replace_it(tmp_path: Path):
    closed(tmp_path / "a" / "b")
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o755, 0o700)


@pytest.mark.parametrize(("before", "most", "after"), [
    (0o777, 0o700, 0o700), (0o755, 0o700, 0o700), (0o777, 0o755, 0o755), (0o700, 0o755, 0o700), (0o500, 0o700, 0o500),
])  # fmt: skip
def test_one_that_is_there_loses_what_is_too_much(tmp_path: Path, before: int, most: int, after: int):
    path = tmp_path / "there"
    path.mkdir(mode=before)
    closed(path, most)
    assert mode(path) == after


def test_the_record_of_a_run_is_its_users(tmp_path: Path):
    runs = tmp_path / "runs"
    runs.mkdir(mode=0o777)
    folder = places.make_directory(runs, "20260301T020000Z-a")
    Journal(folder / "journal.jsonl", lambda: 0.0).append("run_started")
    render.write_whole(folder / "record.json", "{}")
    assert (mode(runs), mode(folder)) == (0o755, 0o700)
    assert {mode(each) for each in folder.iterdir()} == {0o600}
