"""A server that a play names, through the connection that Ansible has to it.

Our modules run on the bastion, where their guard, their record and their lease are. What has to be done on a server is
a few plain commands, sent through Ansible's own connection, with its user, its keys and its become. The server needs a
shell, and no Python.

``playbooks/action_plugins/forked_module.py`` hands the connection over, in the fork that becomes the module.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from ansible.module_utils.runbook.errors import RunbookError, UnreachableError

#: A command line of a POSIX shell, and what became of it: its exit code, its output, and its errors. Without a
#: connection the code is None, and the last one says why.
Send = Callable[[str], tuple[int | None, str, str]]
#: Seconds beyond a command's own limit, for the way there and back.
_WAY_S = 30
#: Of ``timeout``: the command was ended.
_TIMED_OUT = (124, 137)
_connections: list[Send] = []


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    stdout: str
    stderr: str

    @property
    def why(self) -> str:
        """The last words, for a sentence."""
        lines = [line.strip() for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        # Of apt the errors, not the warnings behind them.
        errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
        return " ".join(errors or lines[-2:] or [f"exit code {self.code}"])[:400].rstrip(". ")


def connect(send: Send) -> None:
    """Let :func:`run` reach the server of this module's task."""
    _connections[:] = [send]


def run(words: Sequence[str], *, timeout_s: int, **environ: str) -> Said:
    """Run a command on the server, in the C locale; it is ended there when its time is over.

    :raises UnreachableError: no connection, or no end in time
    """
    variables = [f"{name}={value}" for name, value in {"LC_ALL": "C", **environ}.items()]
    return shell(shlex.join(["env", *variables, "timeout", "-k", "10", str(timeout_s), *words]), timeout_s=timeout_s)


def shell(line: str, *, timeout_s: int) -> Said:
    """Run a line of a POSIX shell on the server.

    :raises UnreachableError: no connection, or no end in time
    """
    if not _connections:
        raise RunbookError("This module works on a server; call it in a play on the inventory's group servers.")
    with _bounded(timeout_s + _WAY_S):
        code, stdout, stderr = _connections[0](line)
    if code is None:
        raise UnreachableError(f"The server gave no answer: {' '.join(stderr.split())[:300].rstrip('. ')}.")
    if code in _TIMED_OUT:
        raise UnreachableError(f"{_named(line)} did not end within {timeout_s} s on the server, and was ended there.")
    return Said(code, stdout, stderr)


def _named(line: str) -> str:
    """The program of a command line, for a sentence."""
    words = [word for word in shlex.split(line) if "=" not in word]
    return next((word for word in words if word not in ("env", "timeout", "-k") and not word.isdigit()), "The command")


@contextmanager
def _bounded(limit_s: int) -> Iterator[None]:
    """End the wait for a connection that neither answers nor breaks."""

    def late(_signum: int, _frame: object) -> NoReturn:
        raise UnreachableError(f"The server gave no answer within {limit_s} s; see that this machine may reach it.")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
