"""The process that outlives a run, where it is stopped or gone."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
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


def test_it_ends_what_is_still_held_once_the_run_is_gone(tmp_path):
    said = tmp_path / "said"

    def bury(facts, _told):
        part = tmp_path / "part"
        part.write_text(json.dumps(facts))
        part.rename(said)

    run = os.fork()
    if run == 0:
        outliving = watchdog.Watchdog(lambda *_: None, bury)
        outliving.know({"run_id": "r", "ends": {}})
        for name in ("db1", "db2"):
            outliving.hold("leases", name, {"login_host": name})
        outliving.hold("leases", "db1", None)
        outliving.know({"ends": {"change_notice": {}}})
        os._exit(0)
    os.waitpid(run, 0)
    until = time.monotonic() + 60
    while not said.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert json.loads(said.read_text()) == {
        "run_id": "r", "ends": {"change_notice": {}}, "leases": {"db2": {"login_host": "db2"}},
    }  # fmt: skip
