"""Programs that end with who started them, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from ansible.module_utils.runbook.drivers import child_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows who an orphan belongs to")

#: One that leaves the session, one that leaves it twice, and one whose parent is gone at once.
LEAVES = "setsid sleep 3600 & echo $! > 1; setsid setsid -f sh -c 'echo $$ > 2; sleep 3600'; (sleep 3600 & echo $! > 3)"
#: Until all three have said their number.
KNOWN = "while [ ! -s 1 ] || [ ! -s 2 ] || [ ! -s 3 ]; do sleep 0.05; done"


def alive(folder: Path) -> list[int]:
    """Those of the three that are there still, and no zombies."""
    found = []
    for name in ("1", "2", "3"):
        number = int((folder / name).read_text())
        with suppress(OSError):
            if b") Z " not in Path(f"/proc/{number}/stat").read_bytes():
                found.append(number)
    return found


def run(folder: Path, script: str, timeout_s: float = 60) -> child_process.Finished:
    """Run a shell that is not trusted."""
    environ = {"PATH": os.environ["PATH"]}
    return child_process.run(["sh", "-c", script], env=environ, cwd=folder, timeout_s=timeout_s, trusted=False)


def test_what_leaves_its_session_ends_with_the_program(tmp_path: Path):
    done = run(tmp_path, f"{LEAVES}; {KNOWN}; echo said; echo wrong >&2; exit 3")
    assert (done.code, done.stdout, done.stderr) == (3, b"said\n", b"wrong\n")
    assert alive(tmp_path) == []


def test_so_it_does_where_the_program_does_not_end_or_kills_its_own_group(tmp_path: Path):
    assert run(tmp_path, f"{LEAVES}; {KNOWN}; sleep 3600", timeout_s=3).code is None
    assert alive(tmp_path) == []
    assert run(tmp_path, f"{LEAVES}; {KNOWN}; kill -KILL 0").code == 128 + signal.SIGKILL
    assert alive(tmp_path) == []


def test_so_it_does_where_who_started_it_is_killed(tmp_path: Path):
    source = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "from ansible.module_utils.runbook.drivers import child_process\n"
        "child_process.run(['sh', '-c', sys.argv[2]], env=dict(os.environ), cwd='.', timeout_s=600, trusted=False)\n"
    )
    tests = str(Path(__file__).parents[1])
    script = f"{LEAVES}; {KNOWN}; touch known; sleep 3600"
    process = subprocess.Popen([sys.executable, "-c", source, tests, script], cwd=tmp_path)
    try:
        while not (tmp_path / "known").exists():
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    until = time.monotonic() + 60
    while alive(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert alive(tmp_path) == []
