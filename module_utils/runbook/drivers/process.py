"""One way to know a process, so that no other is taken for it.

A process number alone says little: it is given again, and in another container it means another process. So a process
is known by four things: the kernel's boot, the PID namespace, the number, and the moment it started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal

    from ansible.module_utils.runbook.rules.lease import Life

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process, and where its number means something. ``str()`` of it can be read back by :func:`parse`."""

    #: Boot of the kernel and PID namespace, one word each.
    machine: str
    pid: int
    #: When it started: clock ticks after boot on Linux, a date elsewhere. One word.
    started: str

    def __str__(self) -> str:
        return f"{self.machine} {self.pid} {self.started}"

    def life(self) -> Life:
        """What can be said of it from here: ``alive``, ``dead``, or ``unknown`` where it belongs to another machine."""
        if self.machine != _machine():
            return "unknown"
        return "alive" if _started(self.pid) == self.started else "dead"

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; False where it is not there any more, or is not of this machine."""
        if self.life() != "alive":
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
            return True
        return False


def find(pid: int) -> Process | None:
    """The process that has the number ``pid`` here and now; None where there is none."""
    machine, started = _machine(), _started(pid)
    return Process(machine, pid, started) if machine and started else None


def own() -> Process | None:
    """This process; None where the system does not tell enough of it."""
    return find(os.getpid())


def children(parent: int) -> list[Process]:
    """The processes that ``parent`` started, as far as they live; empty where the system does not tell."""
    found = []
    for entry in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            fields = _stat(int(entry.name))
            if fields and int(fields[1]) == parent:
                each = find(int(entry.name))
                found += [each] if each else []
    return found


def parse(text: str) -> Process | None:
    """Read what ``str()`` of a process gave; None where that is not in ``text``."""
    words = text.split()
    if len(words) != 4 or not words[2].isdigit():
        return None
    return Process(" ".join(words[:2]), int(words[2]), words[3])


def _machine() -> str:
    """Boot and PID namespace; empty where that cannot be said."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        # macOS knows no namespaces; the moment of its boot tells one machine from another well enough.
        return f"{_said('sysctl', '-n', 'kern.boottime')} -" if os.uname().sysname == "Darwin" else ""


def _started(pid: int) -> str:
    """When the process started; empty where there is none, or where it has ended and only waits to be noticed."""
    try:
        fields = _stat(pid)
    except OSError:
        if (_PROC / "self").exists():
            return ""
        return _said("ps", "-o", "lstart=", "-p", str(pid))
    return fields[19].decode() if fields else ""


def _stat(pid: int) -> list[bytes]:
    """What the kernel tells of a process, from its state on; empty where it has ended.

    proc(5): behind the name in brackets, which may hold anything, stand the state (field 3), the parent (4) and the
    start (22).
    """
    stat = (_PROC / str(pid) / "stat").read_bytes()
    fields = stat[stat.rindex(b")") + 2 :].split()
    return [] if fields[0] in (b"Z", b"X") else fields


def _said(program: str, *arguments: str) -> str:
    """What a program of the system says, as one word."""
    shown = subprocess.run([shutil.which(program) or program, *arguments], capture_output=True, text=True, check=False)
    return "_".join(shown.stdout.split())
