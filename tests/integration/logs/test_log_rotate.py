"""log_rotate, by a real logrotate."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import S3, run_module
from log_archives import Place, lines

LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
pytestmark = pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed (Debian's package logrotate)")


@pytest.fixture
def place(tmp_path, s3: S3) -> Place:
    """Logs, and a folder for logrotate's files."""
    made = Place.make(tmp_path, s3)
    (tmp_path / "logrotate.d").mkdir()
    # logrotate takes no log out of a folder that others may write to.
    (tmp_path / "log").chmod(0o755)
    return made


def configured(place: Place) -> list[str]:
    """Files of the folder of configurations."""
    return [path.name for path in (place.folder / "logrotate.d").iterdir()]


def rotate(place: Place, *, check: bool = False, **more: object):
    options = {
        "files": place.files()["files"], "config": str(place.folder / "logrotate.d/runbook-logs"), "force": True,
        "state_file": str(place.folder / "state-of-logrotate"), "environment": "sandbox",
    }  # fmt: skip
    return run_module("log_rotate", options | more, check=check, diff=check)


def test_a_log_is_rotated_under_a_name_of_its_own_and_archived(place):
    log = place.folder / "log/app.log"
    log.write_bytes(lines(10))
    planned = rotate(place, check=True)
    assert not planned.failed, planned.result
    assert (planned.failed, planned.result["configured"], configured(place)) == (False, True, [])
    assert str(log) in planned.result["diff"]["after"]
    done = rotate(place)
    assert (done.failed, done.result["rotated_files"], log.exists()) == (False, 1, False), done.result
    assert re.fullmatch(r".*/app\.log-\d{8}-\d{10}", done.result["rotated"][0])
    log.write_bytes(lines(5, word="PUT /"))
    # Two rotations within a second would have one name; logrotate then leaves the log where it is.
    deadline = time.monotonic() + 60
    while rotate(place).result["rotated_files"] == 0:
        assert time.monotonic() < deadline
    archived = place.archive()
    assert (archived.failed, archived.result["lines"]) == (False, 15)
    assert place.archived() == lines(10) + lines(5, word="PUT /")
    again = rotate(place)
    assert (again.failed, again.result["changed"]) == (False, False)


def test_what_the_host_says_for_all_logs_takes_no_line_away(place):
    log = place.folder / "log/app.log"
    old = place.rotated(lines(3), days=60)
    log.write_bytes(lines(10))
    shown = rotate(place, check=True).result["diff"]["after"]
    config = place.folder / "logrotate.conf"
    config.write_text(f"maxage 30\ncopytruncate\nmail root\n{shown}")
    config.chmod(0o644)
    state = str(place.folder / "state-of-logrotate")
    subprocess.run([str(LOGROTATE), "--force", "--state", state, str(config)], check=True, timeout=60)
    assert old.read_bytes() == lines(3)
    # Renamed, not copied.
    assert not log.exists()


def test_postrotate_lets_the_writer_open_its_log_again(place):
    log, told = place.folder / "log/app.log", place.folder / "told"
    log.write_bytes(lines(1))
    stream = place.files()["files"][0] | {"postrotate": f"touch {told}\n"}
    if os.geteuid() == 0:
        stream["create"] = "0640 root root"
    done = rotate(place, files=[stream])
    assert (done.failed, told.exists()) == (False, True), done.result
    if os.geteuid() == 0:
        assert stat.S_IMODE(log.stat().st_mode) == 0o640


def test_a_log_that_another_entry_rotates_is_refused_before_anything_is_written(place):
    log = place.folder / "log/app.log"
    log.write_bytes(lines(1))
    (place.folder / "logrotate.d/nginx").write_text(f"{log} {{\n    daily\n    rotate 7\n}}\n")
    (place.folder / "logrotate.d/nginx").chmod(0o644)
    done = rotate(place)
    assert (done.failed, log.exists()) == (True, True)
    assert "duplicate log entry" in done.result["msg"]
    assert configured(place) == ["nginx"]


def test_another_logrotate_is_waited_for(place):
    log, state = place.folder / "log/app.log", place.folder / "state-of-logrotate"
    log.write_bytes(lines(1))
    state.touch(mode=0o600)
    with state.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = rotate(place, deadline_s=1)
        assert (done.failed, done.result["status"], log.exists()) == (True, "unknown", True), done.result
        assert "another logrotate is at work" in done.result["msg"]
        threading.Timer(1, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        done = rotate(place, deadline_s=60)
    assert (done.failed, done.result["rotated_files"]) == (False, 1)


def test_files_of_another_host_come_over_ssh(place, tmp_path):
    # A program in ssh's place that runs, as sshd does, what it is given through a shell.
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        f'#!/bin/sh\nPATH="{Path(sys.executable).parent}:/usr/sbin:$PATH"\necho "$@" | head -c 300 > {tmp_path}/said\n'
        'while [ "$1" != "--" ]; do shift; done\n'
        'shift; host=$1; shift\n[ "$host" = web ] || exit 255\nexec sh -c "$*"\n'
    )
    ssh.chmod(0o755)
    path = f"{ssh.parent}:{os.environ['PATH']}"
    log = place.folder / "log/app.log"
    log.write_bytes(lines(10, word='it\'s "quoted" $HOME'))
    options = {
        "files": place.files()["files"], "config": str(place.folder / "logrotate.d/runbook-logs"), "force": True,
        "state_file": str(place.folder / "state-of-logrotate"), "environment": "sandbox", "ssh": "web",
    }  # fmt: skip
    done = run_module("log_rotate", options, PATH=path)
    assert (done.failed, done.result["rotated_files"]) == (False, 1), done.result
    assert "StrictHostKeyChecking=yes" in (tmp_path / "said").read_text()
    done = run_module("log_archive", place.options() | place.files() | {"ssh": "web"}, PATH=path)
    assert (done.failed, done.result["lines"]) == (False, 10), done.result
    assert place.archived() == lines(10, word='it\'s "quoted" $HOME')
    gone = run_module("log_archive", place.options() | place.files() | {"ssh": "elsewhere"}, PATH=path)
    assert (gone.failed, gone.result["status"]) == (True, "unknown")
