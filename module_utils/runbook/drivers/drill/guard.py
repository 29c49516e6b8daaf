"""A process that ends a drill's servers where its ansible-playbook is gone, and nobody else would."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.backup import restored_server
from ansible.module_utils.runbook.drivers.drill.servers import end_server
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.drill.folder import Folder
    from ansible.module_utils.runbook.rules.drill.state import State

#: Seconds between two looks.
_LOOK_S = 1.0
#: Open files of a module are below it.
_MOST_FILES = 4096


def leave(folder: Folder, state: State) -> None:
    """Start the guard of a drill.

    Servers outlive the modules that start them. After ``kill -9`` of ansible-playbook nothing of it is left that could
    end them, and the next drill may be months away. Folders and state stay for that one. The guard ends with the drill,
    whose state it looks at.
    """
    controller = process.parse(state.process)
    if controller is None:
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        # No child of the module any more, which ends long before it, nor of its terminal; and it holds nothing open
        # that somebody waits for: the pipe to Ansible, the lock by which the callback knows a module at work.
        os.setsid()
        if os.fork() == 0:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(nowhere, standard)
            os.closerange(3, _MOST_FILES)
            _keep(folder, state, controller)
    finally:
        os._exit(0)


def _keep(folder: Folder, state: State, controller: process.Process) -> None:
    while _is_under_way(folder, state):
        if controller.life() == "dead":
            # A module that was told to end holds the folder until it has; then it is asked again.
            with suppress(RunbookError), folder.mine():
                if _is_under_way(folder, state):
                    folder.stop()
                    end_server(restored_server.RestoreDir(Path(state.restore_path)).data)
                return
        time.sleep(_LOOK_S)


def _is_under_way(folder: Folder, state: State) -> bool:
    found = folder.read()
    return found is not None and found.drill_id == state.drill_id
