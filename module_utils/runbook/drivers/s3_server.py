"""moto's server as a process of its own: an S3 API on loopback that keeps objects in memory."""

from __future__ import annotations

import http.client
import importlib.util
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.pgtools import command_line
from ansible.module_utils.runbook.drivers.sandbox import end_process
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from pathlib import Path

#: The server imports a great deal before it answers, and the machine may be busy.
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class S3Server:
    """A server on one port; ``pid`` is the process that was noted down, 0 for none."""

    port: int
    pid: int = 0

    @property
    def endpoint_url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def _words(self) -> list[str]:
        return ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def is_running(self) -> bool:
        """Whether the process is there and is this server, not another one that inherited its number."""
        return self.pid > 0 and command_line(self.pid).endswith(" ".join(self._words))

    def answers(self) -> bool:
        """Whether the API answers on its port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/moto-api/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def start(self, log: Path) -> S3Server:
        """Start it in a session of its own, so that it outlives Ansible, and wait until it answers.

        :raises RunbookError: moto is not installed, or the server ended, or gave no answer in time
        """
        if importlib.util.find_spec("moto") is None:
            raise RunbookError(f"moto is not installed in {sys.prefix}; run make setup.")
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, *self._words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            if self.answers() and process.poll() is None:
                return S3Server(self.port, process.pid)
            time.sleep(0.1)
        said = " ".join(log.read_text(errors="replace").split()[-40:])
        ended = process.poll()
        if ended is None:
            process.kill()
        why = f"gave no answer within {START_TIMEOUT_S} s" if ended is None else f"ended with {ended}"
        raise RunbookError(f"The S3 server on port {self.port} {why}: {said}", log=str(log))

    def stop(self) -> None:
        """End it; what it held in memory is gone."""
        end_process(self.pid, signal.SIGTERM, still_there=self.is_running)
