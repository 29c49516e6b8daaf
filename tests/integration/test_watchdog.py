"""The process that outlives a run, where it is stopped or gone."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import psutil
import pytest
from ansible.module_utils.runbook.drivers import watchdog


def end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stopped(monkeypatch):
    """One that does nothing any more; whoever would wait for it for good is let go after a minute."""
    monkeypatch.setattr(watchdog, "ANSWER_S", 0.1)
    monkeypatch.setattr(watchdog, "PATIENCE_S", 0.1)
    outliving = watchdog.Watchdog(lambda *_: None, lambda *_: None)
    os.kill(outliving._pid, signal.SIGSTOP)
    rescue = threading.Timer(60, end, [outliving._pid])
    rescue.start()
    yield outliving
    assert rescue.is_alive(), "The run waited for a process that does nothing."
    rescue.cancel()
    assert not psutil.pid_exists(outliving._pid)


def test_the_end_of_a_run_does_not_wait_for_one_that_is_stopped(stopped):
    stopped.dismiss()


def test_an_order_that_nobody_takes_is_given_up(stopped):
    assert stopped.ask("copy", {"record": "x" * (1 << 20)}) is None
    stopped.dismiss()


def test_a_worker_does_not_wait_for_one_that_is_stopped(stopped):
    for _ in range(20):
        watchdog.tell("toy", "x" * 100_000)
    stopped.dismiss()
