"""Runs a program that is not trusted, and ends all that it leaves behind, also what went into a session of its own.

It is run by itself, as ``python -c``, with nothing but the standard library. On Linux it is the *subreaper* of what it
starts (``prctl(2)``): a process whose parent has ended becomes its child, and not that of init, so it finds every one.
Elsewhere it ends the program's own session alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_CHILD_SUBREAPER = 36
#: Seconds for what is killed to be gone; only what the kernel itself holds takes longer.
_PATIENCE_S = 10.0


def children() -> list[int]:
    """The processes whose parent this one is, those too that have ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            # proc(5): behind the name in brackets stand the state and the parent.
            if int(stat.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def end_all(session: int) -> None:
    """Kill whatever is left, until nothing is: each that ends may leave its own children to this process."""
    until = time.monotonic() + _PATIENCE_S
    with suppress(OSError):
        os.killpg(session, signal.SIGKILL)
    while time.monotonic() < until:
        for each in children():
            with suppress(OSError):
                os.kill(each, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def main(words: list[str]) -> NoReturn:
    """Run the program, end what it leaves, and end as it did."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    session = 0

    def stop(_number: int, _frame: Any) -> None:
        end_all(session)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    process = subprocess.Popen(words, start_new_session=True)
    session = process.pid
    signal.signal(signal.SIGTERM, stop)
    code = process.wait()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_all(session)
    # As a shell says it.
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1:])
