"""What the sandbox's servers have in common: a folder of their own, a state file in it, a lock, a port that is kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import workspace
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATE_FILE = "state.json"
_RESET = "recreate it with playbooks/sandbox.yml -e sandbox_state=reset"


class Home:
    """The folder of one server."""

    def __init__(self, path: str) -> None:
        """Resolve ``path``.

        :raises RunbookError: it is empty
        """
        if not path.strip():
            raise RunbookError("path: is empty; name the folder that the server may have for itself.")
        self.path = Path(path).resolve()

    @contextmanager
    def mine(self, *, write: bool) -> Iterator[None]:
        """Hold the folder for the block; with ``write`` it is made, closed to others and locked against a second run.

        :raises RunbookError: it belongs to another user, or another run is at work in it
        """
        with workspace.held(self.path, option="path", holder="another run", write=write):
            yield

    def read(self) -> dict[str, Any]:
        """What the last run wrote down; empty where there was none.

        :raises RunbookError: the file is there, and is not what was written
        """
        state = workspace.read_note(self.path / STATE_FILE)
        if state is None:
            raise RunbookError(f"path: {self.path / STATE_FILE} is damaged; {_RESET}.")
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Write ``state`` down for the next run and for the inventory, in one move, readable by the owner alone."""
        workspace.write_note(self.path / STATE_FILE, state)

    def refuse_strangers(self, *names: str) -> None:
        """Leave a folder alone that holds one of ``names`` and was not made by us.

        :raises RunbookError: one of them is there, and no state was written down
        """
        there = [name for name in names if (self.path / name).exists()]
        if there and not (self.path / STATE_FILE).exists():
            raise RunbookError(
                f"path: {self.path} holds {', '.join(there)} but no {STATE_FILE}, so it may be somebody else's "
                "and is left alone; remove it yourself if nobody wants it, or name another folder."
            )

    def remove(self, *names: str) -> None:
        """Remove ``names`` and the state, and the folder if nothing else is in it."""
        # The state goes last, so that a removal that was cut short is still known for what it is.
        for name in (*names, workspace.LOCK, STATE_FILE):
            child = self.path / name
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # Connections that were closed a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def choose_port(wanted: int | None, kept: int | None) -> int:
    """The port to listen on: the one asked for, else the one of the last time if it is still free, else any.

    :raises RunbookError: the one asked for is out of range or taken
    """
    if wanted is not None:
        if not 1024 <= wanted <= 65535:
            raise RunbookError(f"port: {wanted} is out of range; give 1024 to 65535, or none to have one chosen.")
        if not is_free(wanted):
            raise RunbookError(f"port: {wanted} is taken on 127.0.0.1; free it, or leave port out to have one chosen.")
        return wanted
    if kept is not None and is_free(kept):
        return kept
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_process(pid: int, number: signal.Signals, *, still_there: Callable[[], bool], wait_s: float = 10) -> None:
    """Send a signal and wait for the end of the process; after ``wait_s`` seconds it is killed.

    :raises RunbookError: it is still there after that
    """
    for chosen in (number, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, chosen)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not still_there():
                return
            time.sleep(0.05)
    raise RunbookError(f"Process {pid} does not end, not even by SIGKILL; look at it with ps.")


def wants_reset(error: RunbookError) -> RunbookError:
    """The same error, with the fix that always works here."""
    return RunbookError(f"{error.message.rstrip('.')}; {_RESET}.", **error.context)


def socket_folder(path: Path) -> Path:
    """Folder for a Unix socket below ``path``, or below the temporary folder where that name would be too long.

    A socket's address holds 107 bytes on Linux and 103 on macOS.

    :raises RunbookError: the folder is there and belongs to somebody else
    """
    folder = path / "socket"
    if len(os.fsencode(folder / ".s.PGSQL.65535")) > 103:
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"runbook-{os.geteuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise RunbookError(f"path: the socket's folder {folder} belongs to another user; remove it.")
    return folder
