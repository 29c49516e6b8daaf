"""What may be kept of a server's log."""

from __future__ import annotations

import re

#: Before its text PostgreSQL writes a severity, a colon and two spaces, after whatever log_line_prefix says (elog.c).
_SEVERITY = re.compile(r"\b([A-Z]+):  (.*)")
#: How a server begins what it says of its start and its recovery (xlog.c, xlogrecovery.c, postmaster.c). Nothing else
#: of LOG is kept: log_statement, log_duration and extensions write statements as LOG too.
_OF_RECOVERY = (
    "starting ", "listening on", "database system ", "redo ", "consistent recovery", "recovery ", "restored log file",
    "last completed transaction", "selected new timeline", "archive recovery", "completed backup recovery", "pausing ",
    "unexpected pageaddr", "invalid ", "incorrect ", "record with ", "startup process", "terminating any other",
    "shutting down", "aborting startup",
)  # fmt: skip
_KEPT_LINES = 200


def log_without_rows(text: str) -> str:
    r"""The last lines of a server's log, of those in which it says how its recovery went: no statement and no row.

    >>> log_without_rows("LOG:  redo starts\nERROR:  bad: 'Jane'\nSTATEMENT:  SELECT\nFATAL:  no WAL\n")
    'LOG:  redo starts\nFATAL:  no WAL\n'
    """
    kept = []
    for line in text.splitlines():
        # What begins with a tab goes on with the line before.
        found = None if line.startswith("\t") else _SEVERITY.search(line)
        if found and (found[1] in ("FATAL", "PANIC") or (found[1] == "LOG" and found[2].startswith(_OF_RECOVERY))):
            kept.append(line)
    return "".join(f"{line}\n" for line in kept[-_KEPT_LINES:])
