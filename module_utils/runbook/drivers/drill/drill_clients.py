"""Clients that write while a disaster happens, and the ledger of what they were told is committed.

Each client inserts rows into ``runbook.heartbeat`` and writes a line into the ledger on this machine after the server
has acknowledged the commit. So the ledger knows what must not be lost, by one clock. The clients are a process of their
own that outlives the module which started it, and ends by itself after a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
from ansible.module_utils.runbook.drivers.backup import heartbeat
from ansible.module_utils.runbook.drivers.process import own, parse
from ansible.module_utils.runbook.drivers.sandbox.sandbox import end_process
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.postgres.postgres import Target
    from ansible.module_utils.runbook.drivers.process import Process

#: Numbers of one client's rows; another client's begin behind them.
_NUMBERS = 1_000_000_000
#: Pause between two commits of one client, and between two attempts to connect.
_PAUSE_S = 0.01
_RETRY_S = 0.05


@dataclass(frozen=True)
class Acknowledged:
    """One line of the ledger: a commit, by whom it was taken, and when the client was told."""

    #: Which service took it: 0 the one before the outage, 1 the restored one.
    service: int
    id: int
    #: What was written, in microseconds since 1970.
    beat_us: int
    acknowledged_s: float


class Clients:
    """The clients of one drill, by its folder."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / "service.json"
        self._lock = folder / "clients.lock"
        self._ledger = folder / "ledger.txt"

    def direct(self, target: Target | None, service: int) -> None:
        """Tell the clients where the service is now; None takes it away from them."""
        where = {"host": target.host, "port": target.port, "dbname": target.database} if target else None
        draft = self._place.with_suffix(".tmp")
        draft.write_text(json.dumps({"service": service, "where": where}))
        draft.replace(self._place)

    def process(self) -> Process | None:
        """The process; None where it does not run.

        :raises RunbookError: it runs, and its file does not say where
        """
        try:
            with self._lock.open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found = parse(lock.read())
                    if found is None:
                        raise RunbookError(f"The drill's clients run, and {self._lock} does not name them.") from None
                    return found
        except FileNotFoundError:
            pass
        return None

    def end(self) -> bool:
        """End the process; whether it ran.

        :raises RunbookError: it runs on another machine, or in another container
        """
        found = self.process()
        if found is None:
            return False
        if found.life() == "unknown":
            raise RunbookError(
                f"state_dir: the clients of a drill that began in another container or machine are at work in "
                f"{self._lock.parent}; end that drill there, or name another state_dir."
            )
        end_process(found.pid, signal.SIGKILL, still_there=lambda: found.life() == "alive")
        return True

    def acknowledged(self) -> list[Acknowledged]:
        """The ledger so far."""
        try:
            lines = self._ledger.read_text().split("\n")
        except FileNotFoundError:
            return []
        # The last one may be half written.
        words = [line.split() for line in lines[:-1]]
        return [Acknowledged(int(each[0]), int(each[1]), int(each[2]), float(each[3])) for each in words]

    def wait_for(self, service: int, *, after: int = 0, deadline_s: float) -> Acknowledged:
        """Wait until the service of that number took a commit, and ``after`` more.

        :raises RunbookError: it took none in that time
        """
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            found = [each for each in self.acknowledged() if each.service == service]
            if len(found) > after:
                return found[after]
            time.sleep(0.02)
        raise RunbookError(f"The clients got no commit acknowledged within {deadline_s:.0f} s.")

    def start(self, target: Target, *, clients: int, most_s: float) -> None:
        """Start the process, detached.

        :param most_s: it ends by itself after that time
        """
        self._ledger.touch(mode=0o600)
        self._lock.touch(mode=0o600)
        self.direct(target, 0)
        if os.fork() == 0:
            # Whatever goes wrong in here must never come back into the module.
            try:
                os.setsid()
                if os.fork() == 0:
                    self._live(target, clients, most_s)
            finally:
                os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.wait()
        self.wait_for(0, deadline_s=30)

    def _live(self, target: Target, clients: int, most_s: float) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        # Among the rest is the folder's lock, which ends with the module.
        os.closerange(3, 65_536)
        with self._lock.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(str(own() or ""))
            lock.flush()
            ledger = os.open(self._ledger, os.O_WRONLY | os.O_APPEND)
            until = time.monotonic() + most_s
            threads = [
                threading.Thread(target=self._write, args=(target, number, ledger, until), daemon=True)
                for number in range(1, clients + 1)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _now(self) -> tuple[int, dict[str, Any] | None]:
        found = json.loads(self._place.read_text())
        return found["service"], found["where"]

    def _write(self, target: Target, client: int, ledger: int, until: float) -> None:
        number = client * _NUMBERS
        while time.monotonic() < until:
            connection = None
            try:
                place = self._now()
                service, where = place
                if where is None:
                    time.sleep(_RETRY_S)
                    continue
                connection = psycopg2.connect(
                    **where,
                    user=target.user,
                    password=target.password,
                    sslmode=target.ssl_mode,
                    sslrootcert=target.ca_cert,
                    connect_timeout=2,
                    application_name=f"drill client {client}",
                    options="-c statement_timeout=5000",
                )
                connection.autocommit = True
                with connection.cursor() as cursor:
                    while time.monotonic() < until and self._now() == place:
                        number += 1
                        us = time.time_ns() // 1000
                        cursor.execute(heartbeat.BEAT, (number, heartbeat.moment(us)))
                        os.write(ledger, f"{service} {number} {us} {time.time():.6f}\n".encode())
                        time.sleep(_PAUSE_S)
            except (psycopg2.Error, OSError, ValueError):
                time.sleep(_RETRY_S)
            finally:
                if connection is not None:
                    connection.close()
