"""A folder that one process at a time works in, with a note of how far it came.

The lock ends with the process that holds it; the note outlives it, so that the next run finds what a killed one left.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.folders import closed
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: Name of the file that is locked.
LOCK = "lock"


@contextmanager
def held(folder: Path, *, option: str, holder: str, write: bool = True) -> Iterator[None]:
    """Hold ``folder`` for the block; it is made where it is missing, and closed to others.

    :param option: the module's option that named it
    :param holder: who else may be at work in it, as ``another restore``
    :param write: False for a block that only looks: nothing is made and nothing is locked
    :raises RunbookError: somebody is at work in it, or it cannot be made, read or written to
    """
    try:
        if not write:
            yield
            return
        closed(folder)
        with (folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunbookError(f"{option}: {holder} is at work in {folder}; wait until it is through.") from None
            yield
    except PermissionError as error:
        raise RunbookError(
            f"{option}: {error.filename or folder} belongs to another user; run this as the user who made {folder}, or "
            "name a folder of this user."
        ) from None
    except (FileExistsError, NotADirectoryError):
        raise RunbookError(f"{option}: {folder} is not a folder; name another one.") from None


def read_note(path: Path) -> dict[str, Any] | None:
    """What :func:`write_note` wrote; empty where there is no such file, None where it is damaged."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def write_note(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` down in one move, readable by the owner alone."""
    write_text(path, json.dumps(facts, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in one move, readable by the owner alone; its folder is made where it is missing."""
    closed(path.parent)
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one move, readable by the owner alone, into a folder that is there."""
    draft = path.with_name(path.name + ".tmp")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_bytes(data)
    draft.replace(path)
