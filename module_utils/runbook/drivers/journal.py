"""Whether the record of this run is being written: a look at the bastion's disk."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.runbook.rules.preflight import Journal


def inspect() -> Journal:
    """Look for the journal that the callback ``run_record`` announced; nothing is written."""
    directory = os.environ.get("RUNBOOK_RUN_DIR") or None
    appendable, free_bytes = False, 0
    if directory is not None:
        try:
            with (Path(directory) / "journal.jsonl").open("r+b"):
                appendable = True
            room = os.statvfs(directory)
            free_bytes = room.f_bavail * room.f_frsize
        except OSError:
            appendable = False
    return Journal(directory, os.environ.get("RUNBOOK_JOURNAL_ERROR") or None, appendable, free_bytes)
