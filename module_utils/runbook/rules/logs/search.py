"""Which lines of an archive are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.logs.streams import ZONES
from ansible.module_utils.runbook.rules.logs.times import of_line

if TYPE_CHECKING:
    import re
    from datetime import datetime

    from ansible.module_utils.runbook.rules.logs.chain import Content


@dataclass(frozen=True)
class Wanted:
    """A search: from ``since`` on, before ``until``, and matching ``pattern`` where there is one."""

    since: datetime
    until: datetime
    pattern: re.Pattern[bytes] | None

    def __post_init__(self) -> None:
        if self.until <= self.since:
            raise RunbookError(
                f"until: {self.until.isoformat()} is not after since ({self.since.isoformat()}); exchange them."
            )

    def may_be_in(self, content: Content) -> bool:
        """Whether an archive may hold such a line; one whose lines say no times may."""
        if content.first_at is None or content.last_at is None:
            return True
        return content.first_at - ZONES < self.until and content.last_at + ZONES >= self.since


class Reader:
    """Picks the lines of one archive out of its pieces."""

    def __init__(self, wanted: Wanted, content: Content) -> None:
        self._wanted, self._content = wanted, content
        #: Of a row of a table, the column that says its time.
        column = content.source.get("column_index")
        self._column = int(column) if column is not None else None
        self._written = content.last_at or wanted.until
        self._at: datetime | None = None
        self._rest = b""
        self.read_lines = 0

    def add(self, piece: bytes) -> list[bytes]:
        """Lines of the next piece that are asked for."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        return [line for line in whole if self._matches(line)]

    def end(self) -> list[bytes]:
        """A last line that lacks its end, if it is asked for."""
        line, self._rest = self._rest, b""
        return [line] if line and self._matches(line) else []

    def _matches(self, line: bytes) -> bool:
        self.read_lines += 1
        said = line
        if self._column is not None:
            fields = line.split(b"\t")
            said = fields[self._column] if self._column < len(fields) else b""
        # A line without a time belongs to the one before it.
        self._at = of_line(said, self._written) or self._at
        if self._at is not None and not self._wanted.since <= self._at < self._wanted.until:
            return False
        return self._wanted.pattern is None or self._wanted.pattern.search(line) is not None
