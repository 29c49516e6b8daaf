"""A program that ends with the module that started it, however that ends: nothing goes on writing after a ``kill -9``.

The kernel does it (Linux, ``prctl(2)``, PR_SET_PDEATHSIG), through ``setpriv`` of util-linux. It goes by the thread
that started the program, so that thread waits for its end. Elsewhere a program ends when it next uses its pipe to the
module.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Told that the module is gone, this ends the whole group, itself too; else it ends as the program does.
_GROUP = 'trap "kill -KILL 0" TERM; "$@" & wait $!'
#: Seconds that the keeper of what is not trusted has to end it.
_KEEPER_S = 15.0


def ends_with_module(words: Sequence[str]) -> list[str]:
    """The command line under which a program without children of its own ends with this process."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *words] if setpriv else list(words)


def group_ends_with_module(words: Sequence[str]) -> list[str]:
    """Likewise for a program that starts others; it must be started in a session of its own."""
    setpriv, shell = shutil.which("setpriv"), shutil.which("sh")
    if not (setpriv and shell):
        return list(words)
    return [setpriv, "--pdeathsig", "TERM", "--", shell, "-c", _GROUP, "runbook", *words]


def _kept(words: Sequence[str]) -> list[str]:
    """The command line of a program that is not trusted: ``keeper.py`` ends all that it leaves behind."""
    text = resources.files("ansible.module_utils.runbook.drivers").joinpath("keeper.py").read_text()
    kept = [sys.executable, "-I", "-S", "-c", text, *words]
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *kept] if setpriv else kept


@dataclass(frozen=True)
class Finished:
    """How a program ended."""

    #: None where it was still running when its time was over.
    code: int | None
    stdout: bytes
    stderr: bytes


def run(words: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout_s: float, trusted: bool = True) -> Finished:
    """Run a program and all that it starts, in a process group that ends with it, and with this process.

    :param env: its whole environment: it inherits nothing
    :param timeout_s: then the group is killed
    :param trusted: if not, what leaves the group is killed too
    :raises OSError: it cannot be started
    """
    # What a program prints goes to files: a child of its that lives on would hold a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            group_ends_with_module(words) if trusted else _kept(words),
            env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        code: int | None = None
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if not trusted:
                # The keeper has something to do before it ends.
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_KEEPER_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read())
    return Finished(code, *said)
