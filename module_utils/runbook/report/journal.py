"""The journal: one JSON object a line, appended as things happen."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report.places import give
from ansible.module_utils.runbook.rules.record import parse_journal, redact, timestamp
from ansible.module_utils.runbook.rules.text import all_visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE_NAME = "journal.jsonl"


class Journal:
    """Appends events to a file; each is one ``write()``, so that ``kill -9`` can tear the last line only.

    The file is locked (``flock``) while its run lives: whoever can take the lock knows that the run is over.
    ``secrets`` may be replaced during the run; they are blotted out in every event.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.secrets: frozenset[str] = frozenset()
        self._clock = clock
        self._lock = threading.Lock()
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give(self._handle, path.parent)
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, event: str, *, at_s: float | None = None, sync: bool = False, **fields: Any) -> None:
        """Write one event.

        :param at_s: when it happened, in seconds since 1970; now, if it is not given
        :param sync: wait until the disk has it
        :raises OSError: it could not be written; the file may then end in a torn line
        """
        stamp = timestamp(self._clock() if at_s is None else at_s)
        said = all_visible(redact(fields, self.secrets))
        line = json.dumps({"event": event, "ts": stamp} | said, default=str).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._handle, line) :]
            if sync:
                os.fsync(self._handle)

    def close(self) -> None:
        """Give the file and its lock back."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Events of the journal at ``path``, and the number of lines that could not be read."""
    return parse_journal(path.read_text(encoding="utf-8", errors="replace"))


def is_alive(path: Path) -> bool:
    """Whether the run that writes this journal is still there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
