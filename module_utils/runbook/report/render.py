"""From a run's journal to its record and reports."""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import journal as journals
from ansible.module_utils.runbook.rules.record import fold

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def render_run(directory: Path) -> dict[str, Any]:
    """Make ``record.json`` and the reports of the run in ``directory`` from its journal.

    :return: the record
    :raises OSError: the journal could not be read, or a file could not be written
    :raises RunbookError: the journal holds no run
    """
    events, torn = journals.read(directory / journals.FILE_NAME)
    record = fold(events, torn_lines=torn)
    write_whole(directory / "record.json", json.dumps(record, indent=1) + "\n")
    return record
