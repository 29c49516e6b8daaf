"""A folder that one process at a time works in, and the time of one call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers import workspace
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from pathlib import Path


def test_one_at_a_time_and_closed_to_others(tmp_path: Path):
    folder = tmp_path / "work"
    with workspace.held(folder, option="path", holder="another restore"):
        assert folder.stat().st_mode & 0o777 == 0o700
        with (
            pytest.raises(RunbookError, match="path: another restore is at work in"),
            workspace.held(folder, option="path", holder="another restore"),
        ):
            pytest.fail("two were let in")
        with workspace.held(folder, option="path", holder="another restore", write=False):
            """Looking waits for nobody."""
    with workspace.held(folder, option="path", holder="another restore"):
        """It ended with its block."""


def test_what_is_no_folder_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunbookError, match=r"state_dir: .* is not a folder"),
        workspace.held(tmp_path / "file", option="state_dir", holder="another drill"),
    ):
        pytest.fail("a file was taken for a folder")


def test_a_note_is_kept_and_a_damaged_one_is_told_from_none(tmp_path: Path):
    note = tmp_path / "below" / "note.json"
    assert workspace.read_note(note) == {}
    workspace.write_note(note, {"state": "done"})
    assert workspace.read_note(note) == {"state": "done"}
    assert note.stat().st_mode & 0o777 == 0o600
    for damaged in ("", "{", json.dumps([1])):
        note.write_text(damaged)
        assert workspace.read_note(note) is None


def test_a_clock_ends_with_its_deadline():
    clock = Clock(60)
    assert not clock.is_over()
    clock.check()
    assert 0 < clock.left_s() <= 60
    clock.lap("check")
    assert list(clock.phases) == ["check"]
    over = Clock(0)
    assert over.is_over()
    assert over.sleep(5) == 0.0
    assert over.left_ms() == 1, "0 would be a statement_timeout without an end"
    with pytest.raises(RunbookError, match="deadline_s: the 0 s have passed; give it more time, and run again"):
        over.check()
