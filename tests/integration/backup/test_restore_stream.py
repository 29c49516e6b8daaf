"""A stream into pg_restore: of two reasons for a failure, the damaged object is told."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.backup import restore
from ansible.module_utils.runbook.errors import RunbookError

COMPLAINT = "pg_restore: error: COPY failed for table"


class Source:
    """An object whose damage is known at its end alone."""

    bytes_read = 0

    def __init__(self, pieces: int, *, damaged: bool) -> None:
        self.left, self.damaged = pieces, damaged

    def read(self) -> bytes:
        self.left -= 1
        time.sleep(0.01)
        if self.left > 0:
            return bytes(1 << 16)
        if self.damaged:
            raise RunbookError("it does not have the SHA-256 of its manifest")
        return b""


def stream(code: str, source: Any) -> Any:
    """A program in pg_restore's place that reads a little, and ends as ``code`` says."""
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 - the program's, as long as it is asked for
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os, sys; os.read(0, 1000); {code}"], stdin=subprocess.PIPE, stderr=stderr
    )
    return restore._Stream(source, restore.Program(process, stderr, list, []))


def wait(stream_: Any) -> None:
    deadline = time.monotonic() + 30
    while not stream_.is_done():
        assert time.monotonic() < deadline, "it never ended"
        time.sleep(0.01)


COMPLAINS = f"sys.stderr.write({COMPLAINT!r}); sys.stderr.flush(); sys.exit(1)"


def test_a_damaged_object_is_the_better_reason():
    with pytest.raises(RunbookError, match="SHA-256"):
        wait(stream(COMPLAINS, Source(60, damaged=True)))


def test_of_a_sound_object_the_complaint_is_told():
    with pytest.raises(restore.Failed) as failed:
        wait(stream(COMPLAINS, Source(60, damaged=False)))
    assert failed.value.said == [COMPLAINT]


def test_a_program_that_was_killed_waits_for_no_object():
    killed = stream("os.kill(os.getpid(), 9)", Source(10_000_000, damaged=False))
    with pytest.raises(restore.Failed):
        wait(killed)
