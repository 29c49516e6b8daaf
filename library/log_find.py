#!/usr/bin/python
"""Module log_find: find lines in the archive of logs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_find
short_description: Find lines in the archive of logs
description:
  - Streams the archives back that may hold lines of the time that is asked for, and writes those that match into a file
    on this machine, which nobody else may read. No line is in a result, a log or a report.
  - A line without a time belongs to the line before it. A time without a zone is taken for UTC.
  - Writes no file at all where more than O(max_lines) match, or an archive is not as it was written.
options:
  since:
    description:
      - From when on, as ISO 8601 with its time zone.
    type: str
    required: true
  until:
    description:
      - Until when, likewise; that moment is not among it.
    type: str
    required: true
  pattern:
    description:
      - Regular expression of Python that is found in the line. Every line, if it is empty.
    type: str
    default: ''
  streams:
    description:
      - Names of the streams to look in. All of O(archive_host), if it is empty.
    type: list
    elements: str
    default: []
  dest:
    description:
      - File to write, which is not there yet. With several streams each line begins with the name of its stream and a
        tab.
    type: path
    required: true
  max_lines:
    description:
      - Most lines, 1 to 10,000,000.
    type: int
    default: 1000
  deadline_s:
    description:
      - Time limit in seconds, 1 to 604,800.
    type: int
    default: 3600
extends_documentation_fragment: [runbook_logs, runbook_s3, runbook_state]
attributes:
  check_mode: {support: full, description: "Says which archives would be read. Writes no file."}
  diff_mode: {support: none, description: Shows no line.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Find the failed logins of an hour
  log_find:
    bucket: mental-scribe-logs
    region: eu-central-1
    archive_host: web
    environment: production
    seal_keys: "{{ logs_seal_keys }}"
    state_bucket: mental-scribe-state
    since: "2026-11-01T02:00:00Z"
    until: "2026-11-01T03:00:00Z"
    pattern: 'POST /login .* 401 '
    streams: [nginx-access]
    dest: /srv/case-17.log
"""

RETURN = r"""
msg: {description: "How many lines were found where, or what is wrong and the fix.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
found_lines:
  description:
    - Lines that match; where there are too many, one more than O(max_lines).
  returned: when the chain could be read
  type: int
read_lines: {description: "Lines that were looked at.", returned: when the chain could be read, type: int}
read_bytes: {description: "Bytes of the archives that were read.", returned: when the chain could be read, type: int}
archives_read:
  description:
    - The archives that were read, or would be, with C(seq), C(stream), C(first_at), C(last_at) and C(lines).
  returned: when the chain could be read
  type: list
  elements: dict
dest:
  description:
    - The file that was written; null where there is none.
  returned: when the chain could be read
  type: str
"""

import os
import re
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.logs import archive as driver
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.logs import chain, search
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS = {"max_lines": (1, 10_000_000), "deadline_s": (1, 604_800)}
#: So long before a line was written no archive can hold it; clocks differ.
SLACK = timedelta(days=1)


class Finder:
    """One search."""

    def __init__(self, context: Context) -> None:
        params = context.params
        context.require_bounds(BOUNDS)
        self.context, self.most = context, params["max_lines"]
        try:
            pattern = re.compile(params["pattern"].encode()) if params["pattern"] else None
        except re.error as error:
            raise RunbookError(f"pattern: it is no regular expression ({error}); correct it.") from None
        self.wanted = search.Wanted(
            moment.read("since", params["since"]), moment.read("until", params["until"]), pattern
        )
        if not params["dest"]:
            raise RunbookError("dest: it is empty; name the file, or with logs_find.yml the folder (logs_find_to).")
        self.dest = Path(params["dest"])
        if self.dest.exists() or self.dest.is_symlink():
            raise RunbookError(f"dest: {self.dest} is there already; name a new file.")
        if not self.dest.parent.is_dir():
            raise RunbookError(f"dest: there is no folder {self.dest.parent}; make it, or name another.")
        self.archive = driver.Archive.from_params(context.params, context.run, writes=False, hide=context.hide)
        self.clock = Clock(params["deadline_s"])
        self.found = self.read_lines = self.read_bytes = 0

    def run(self) -> dict[str, Any]:
        """Choose the archives, read them, write the lines."""
        params = self.context.params
        recent = self.archive.links(self.wanted.since - SLACK)
        self._require_streams(params["streams"], recent)
        links = chain.standing(recent)
        chosen = [link for link in links if link.content and self._may_hold(link, params["streams"])]
        chosen.sort(key=lambda link: (link.stream, link.seq))
        if self.context.check_mode:
            return self._facts(chosen) | {
                "msg": f"Would read {count(len(chosen), 'archive')} "
                f"({size(sum(link.content.size_bytes for link in chosen if link.content))}) of {self.archive.url}."
            }
        name = ""
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.dest.name}.", dir=self.dest.parent)
            with os.fdopen(handle, "wb") as file:
                for link in chosen:
                    self._search(link, file, named=len({each.stream for each in chosen}) > 1)
                    self.context.progress.update("search archives", self.read_bytes, None, "bytes")
            if self.found:
                # A link, unlike a rename, takes no other file's place.
                os.link(name, self.dest)
        except OSError as error:
            raise RunbookError(
                f"dest: {self.dest} cannot be written: {error.strerror}; look at its folder and its disk.",
                **self._facts(chosen),
            ) from None
        except RunbookError as error:
            raise RunbookError(
                error.message, **(error.context | self._facts(chosen) | {"status": error.status})
            ) from None
        finally:
            if name:
                with suppress(FileNotFoundError):
                    Path(name).unlink()
        where = f"in {self.dest}" if self.found else "so no file was written"
        return self._facts(chosen) | {
            "changed": bool(self.found),
            "dest": str(self.dest) if self.found else None,
            "msg": f"{count(self.found, 'line')} of {self.read_lines:,} in {count(len(chosen), 'archive')} match, "
            f"{where}.",
        }

    def _require_streams(self, streams: Sequence[str], recent: Sequence[chain.Link]) -> None:
        if set(streams) <= {link.stream for link in recent}:
            return
        known = {link.stream for link in self.archive.links() if link.kind == "archive"}
        strange = sorted(set(streams) - known)
        if strange:
            raise RunbookError(
                f"streams: {self.archive.url} has no {strange[0]!r}; it has {', '.join(sorted(known)) or 'no archive'}."
            )

    def _may_hold(self, link: chain.Link, streams: Sequence[str]) -> bool:
        return (
            (not streams or link.stream in streams) and link.content is not None and self.wanted.may_be_in(link.content)
        )

    def _search(self, link: chain.Link, file: IO[bytes], *, named: bool) -> None:
        content = link.content
        if content is None:
            return
        self.clock.check("ask for less, or raise it, and run again")
        reader = search.Reader(self.wanted, content)
        with self.archive.open(content) as body:
            lines = driver.Lines(body)
            try:
                for piece in lines.pieces():
                    self._write(reader.add(piece), link.stream if named else "", file)
                self._write(reader.end(), link.stream if named else "", file)
                why = lines.differs(content)
            except RunbookError as error:
                if error.code != "log_archive_damaged":
                    raise
                why = error.message
        if why:
            raise RunbookError(
                f"Archive {link.seq} of {link.stream} is not as it was written: {why}; run logs.yml -t verify. No file "
                "was written."
            )
        self.read_lines += reader.read_lines
        self.read_bytes += content.size_bytes

    def _write(self, lines: Sequence[bytes], stream: str, file: IO[bytes]) -> None:
        self.found += len(lines)
        if self.found > self.most:
            raise RunbookError(
                f"max_lines: more than {count(self.most, 'line')} match, so no file was written; narrow the time or "
                "the pattern, or raise it."
            )
        for line in lines:
            file.write((f"{stream}\t".encode() if stream else b"") + line + b"\n")

    def _facts(self, chosen: Sequence[chain.Link]) -> dict[str, Any]:
        return {
            "changed": False,
            "found_lines": min(self.found, self.most + 1),
            "read_lines": self.read_lines,
            "read_bytes": self.read_bytes,
            "archives_read": [
                {
                    "seq": link.seq, "stream": link.stream, "lines": link.content.lines,
                    "first_at": link.content.first_at.isoformat() if link.content.first_at else None,
                    "last_at": link.content.last_at.isoformat() if link.content.last_at else None,
                }
                for link in chosen if link.content
            ],
            "dest": None,
        }  # fmt: skip


def core(context: Context) -> dict[str, Any]:
    """Search."""
    return Finder(context).run()


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="log_find",
        argument_spec=driver.argument_spec()
        | {
            "since": {"type": "str", "required": True},
            "until": {"type": "str", "required": True},
            "pattern": {"type": "str", "default": ""},
            "streams": {"type": "list", "elements": "str", "default": []},
            "dest": {"type": "path", "required": True},
            "max_lines": {"type": "int", "default": 1000},
            "deadline_s": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
