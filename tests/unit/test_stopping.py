"""Who is cancelled by a stop of this module knows that it is one."""

from __future__ import annotations

import os
import signal
import threading

from ansible.module_utils.runbook.drivers import stopping


class Waiter:
    """Notes what was known when it was interrupted."""

    def __init__(self) -> None:
        self.knew = False
        self.interrupted = threading.Event()

    def interrupt(self) -> None:
        self.knew = stopping.told.is_set()
        self.interrupted.set()


def test_a_stop_is_known_before_anything_is_cancelled(monkeypatch):
    monkeypatch.setattr(stopping, "told", threading.Event())
    waiter = Waiter()
    stopping.register(waiter)
    # Both ends stay open: the thread reads until this process ends.
    reader, writer = os.pipe()
    threading.Thread(target=stopping._look, args=(reader, None), daemon=True).start()
    os.write(writer, bytes([signal.SIGTERM]))
    assert waiter.interrupted.wait(30)
    assert waiter.knew
