"""What we write is not open to others, whatever the umask, and however open a folder was that is there already."""

from __future__ import annotations

import os
import signal
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.folders import closed, temporary
from ansible.module_utils.runbook.report import board, places, render
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


def test_metrics_can_be_read_by_others_whatever_the_umask(tmp_path: Path):
    """A timer runs with 0077, and node_exporter is another user."""
    os.umask(0o077)
    runs = tmp_path / "new" / "runs"
    places.make_directory(runs, "20260301T020000Z-a")
    board.renew(runs, datetime(2026, 3, 1, tzinfo=UTC))
    assert [mode(each) for each in (tmp_path / "new", runs, runs / "metrics")] == [0o755] * 3
    assert mode(runs / "metrics" / board.METRICS) == 0o644
    assert mode(runs / board.PAGE) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give something away")
def test_what_root_leaves_in_a_folder_of_another_user_is_that_users(tmp_path: Path):
    """Timers are installed with sudo, and their runs replace these files."""
    runs = tmp_path / "runs"
    runs.mkdir()
    os.chown(runs, 4711, 4712)
    folder = places.make_directory(runs, "20260301T020000Z-schedules")
    Journal(folder / "journal.jsonl", lambda: 0.0).append("run_started")
    render.write_whole(folder / "record.json", "{}")
    (runs / board.ELSEWHERE).mkdir(mode=0o700)
    (runs / board.ELSEWHERE / "20260301T020000Z-a-0.json").write_text("{}")
    board.renew(runs, datetime(2026, 3, 1, tzinfo=UTC))
    left = {str(path.relative_to(runs)): (path.stat().st_uid, path.stat().st_gid) for path in runs.rglob("*")}
    assert left == dict.fromkeys(left, (4711, 4712))
    assert {".board.lock", "metrics/board.prom", "board-index.json", f"{folder.name}/journal.jsonl"} <= left.keys()


def test_what_a_killed_run_left_goes_with_the_next_and_nothing_else_does(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = os.fork()
    if not child:
        with temporary("runbook-barman-") as folder:
            (folder / "pgpass").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    assert (left / "pgpass").exists()
    kept = tmp_path / "kept"
    for folder in (kept, tmp_path / "runbook-barman-without-a-lock", tmp_path / "runbook-barman-with-a-pipe"):
        folder.mkdir()
    (kept / "lock").touch()
    (tmp_path / "runbook-barman-a-link").symlink_to(kept)
    # Somebody else's trap: who opens it waits for a writer.
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "runbook-barman-with-a-pipe" / "lock").symlink_to("../pipe")
    before = {each.name for each in tmp_path.iterdir()} - {left.name}
    with temporary("runbook-barman-") as one, temporary("runbook-barman-") as other:
        assert mode(other) == 0o700
        assert {each.name for each in tmp_path.iterdir()} == before | {one.name, other.name}
    assert {each.name for each in tmp_path.iterdir()} == before
