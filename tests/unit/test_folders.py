"""Temporary folders, and what a killed run leaves of them."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

from ansible.module_utils.runbook.drivers import folders


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_that_is_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = os.fork()
    if child == 0:
        with folders.temporary("runbook-x-") as mine:
            (mine / "profile").mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    with folders.temporary("runbook-x-") as first, folders.temporary("runbook-x-") as second:
        assert not left.exists()
        assert first.is_dir()
        assert {path.stat().st_mode & 0o777 for path in (first, second)} == {0o700}
    assert list(Path(tmp_path).iterdir()) == []
