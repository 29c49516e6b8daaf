"""A clock that can be moved, for this process and all that it starts: servers, programs, ansible-playbook.

The product has no clock that somebody could move to get around a window; what moves here is what the C library says to
a process (``clock.c``). Whoever wants to be moved is started again by :func:`enter`. A program that asks the kernel
without the C library, as one written in Go does, is not moved.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

_FILE, _LIBRARY = "QUARTER_CLOCK", "clock.so"


def missing() -> str:
    """What this machine lacks for it; empty where it has all."""
    if not sys.platform.startswith("linux"):
        return "a clock is moved by the loader of Linux, and this is another system"
    return "" if shutil.which("cc") else "there is no C compiler (Debian: gcc, libc6-dev)"


def is_moved() -> bool:
    """Whether this process was started by :func:`enter`."""
    return _FILE in os.environ


def enter(folder: Path, moment: datetime) -> None:
    """Start this program again, with the same arguments, under a clock that says ``moment``; does not come back."""
    library, file = folder / _LIBRARY, folder / "clock"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    file.write_bytes(struct.pack("=q", round((moment.timestamp() - time.time()) * 1e9)))
    environ = os.environ | {"LD_PRELOAD": str(library), _FILE: str(file)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - this program itself


def now() -> datetime:
    """What all of them say it is."""
    return datetime.now(UTC)


def jump(moment: datetime) -> None:
    """Let it be that time, for all of them at once. It never goes back: where it is later already, nothing happens."""
    ahead_ns = round((moment.timestamp() - time.time()) * 1e9)
    if ahead_ns <= 0:
        return
    with Path(os.environ[_FILE]).open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        (moved_ns,) = struct.unpack("=q", shared[:])
        # Eight bytes that are aligned are written at once.
        shared[:] = struct.pack("=q", moved_ns + ahead_ns)
