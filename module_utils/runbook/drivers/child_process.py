"""A program that ends with the module that started it, however that ends: nothing goes on writing after a ``kill -9``.

The kernel does it (Linux, ``prctl(2)``, PR_SET_PDEATHSIG), through ``setpriv`` of util-linux. It goes by the thread
that started the program, so that thread waits for its end. Elsewhere a program ends when it next uses its pipe to the
module.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Told that the module is gone, this ends the whole group, itself too; else it ends as the program does.
_GROUP = 'trap "kill -KILL 0" TERM; "$@" & wait $!'


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
