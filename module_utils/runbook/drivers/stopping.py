"""How a module comes to its end before its time: by a signal, or because its ansible-playbook is gone.

Python handles a signal only between two of its own steps, and a module that waits for a server is inside libpq: VACUUM
of a big table would go on for an hour. So a thread notices the signal at once and cancels what the servers do for this
module. The same thread looks whether the ansible-playbook that began it all still lives: after ``kill -9`` there is
nobody who would tell a module.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.process import Process

#: Seconds between two looks at the controller.
LOOK_S = 1.0
#: Seconds that a module has to roll back once its controller is gone; then it ends as it stands.
GRACE_S = 60.0


class Interruptible(Protocol):
    """Something that waits for others, and can be told to stop waiting from another thread."""

    def interrupt(self) -> None:
        """Stop waiting; must not raise, and may come when there is nothing to stop."""


#: Set once this process was told to stop: nothing of its run comes after it.
told = threading.Event()

_waiting: weakref.WeakSet[Interruptible] = weakref.WeakSet()


def register(waiter: Interruptible) -> None:
    """Interrupt ``waiter`` when this process is told to stop; forgotten with the object."""
    _waiting.add(waiter)


def watch(controller: Process | None) -> None:
    """Begin to watch, from the main thread of a module's process.

    :param controller: the process whose end is the end of this one too; None where there is none
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_look, args=(reader, controller), daemon=True, name="stopping").start()


def _look(reader: int, controller: Process | None) -> None:
    gone_at: float | None = None
    while True:
        if select.select([reader], [], [], LOOK_S)[0]:
            if {signal.SIGTERM, signal.SIGINT} & set(os.read(reader, 64)):
                # Before the main thread knows it: what is cancelled below was not cancelled by somebody else.
                told.set()
            for waiter in list(_waiting):
                with suppress(Exception):  # whatever it is, the others must hear of the stop too
                    waiter.interrupt()
        elif controller is not None and controller.life() == "dead":
            if gone_at is None:
                gone_at = time.monotonic()
                os.kill(os.getpid(), signal.SIGTERM)
            elif time.monotonic() - gone_at > GRACE_S:
                os._exit(1)
