"""Where errors of a log are counted. What a service or a file says beside the figures stays there, errors included."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.observe import access
from ansible.module_utils.runbook.drivers.supabase.supabase import API_URL, Supabase
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.backend import NONE
from ansible.module_utils.runbook.rules.change.error_logs import BACKENDS, RANGE, Count, Lines, Span
from ansible.module_utils.runbook.rules.change.vector import Vector
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase.supabase import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ansible.module_utils.runbook.drivers.http.api_client import ApiClient

#: More is not read of a log.
_MOST_BYTES = 512 * 1024 * 1024
#: Of a longer line the rest is not looked at.
_LINE_BYTES = 8 * 1024
#: How much of the end of a file is looked at first.
_FIRST_BYTES = 1024 * 1024
#: Lines without a time, of a stack trace for instance, that are skipped when a file's beginning is looked for.
_UNTIMED_LINES = 1_000
_COMPRESSED: Mapping[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Where errors are counted; documented in ``library/change_error_logs.py``."""
    return {
        "backend": {"type": "str", "required": True, "choices": [*BACKENDS, NONE]},
        "prometheus_url": {"type": "str"},
        **access.argument_spec("prometheus"),
        "prometheus_query": {"type": "str"},
        "loki_url": {"type": "str"},
        **access.argument_spec("loki"),
        "loki_tenant": {"type": "str"},
        "loki_query": {"type": "str"},
        "loki_lines_query": {"type": "str"},
        "project_ref": {"type": "str"},
        "access_token": {"type": "str", "no_log": True},
        "api_url": {"type": "str"},
        "supabase_sql": {"type": "str"},
        "file_path": {"type": "path"},
        "file_pattern": {"type": "str"},
    }


class Source(Protocol):
    """Somewhere errors can be counted."""

    def count(self, span: Span) -> Count:
        """How many there were in a span, which may be shorter than what was asked for.

        :raises RunbookError: ``unknown`` where nobody can say it
        """


class Query:
    """A query of Prometheus, or of Loki, which has the same API below a path of its own.

    :param lines_query: counts all lines: where there are some, and none of errors, that is a zero
    """

    def __init__(self, api: ApiClient, path: str, query: str, lines_query: str, *, unit: str) -> None:
        self._api, self._path, self._unit = api, path, unit
        self._query, self._lines_query = query, lines_query

    def count(self, span: Span) -> Count:
        """As :class:`Source` says."""
        if not self._lines_query:
            return Count(self._ask(self._query, span).total(), span.s)
        lines = self._ask(self._lines_query, span).total(empty=0)
        if not lines:
            raise _unknown(
                f"loki_lines_query: Loki has no line at all of the last {span.s} s; see that logs arrive, and that the "
                "query is right."
            )
        return Count(self._ask(self._query, span).total(empty=0), span.s, lines)

    def _ask(self, query: str, span: Span) -> Vector:
        at = f"{span.until.timestamp():.0f}{self._unit}"
        asked = (("query", query.replace(RANGE, f"{span.s}s")), ("time", at))
        said = _quietly(lambda: self._api.get(self._path, asked))
        try:
            return Vector.of(said)
        except (AttributeError, LookupError, TypeError, ValueError):
            raise _unknown("The service answered with something that is no result of a query.") from None


class SupabaseLogs:
    """The logs of a project, which Supabase keeps in ClickHouse."""

    def __init__(self, project: Supabase, sql: str) -> None:
        self._project, self._sql = project, sql

    def count(self, span: Span) -> Count:
        """As :class:`Source` says."""
        minutes = span.whole_minutes()
        said = _quietly(lambda: self._project.logs(self._sql, minutes.since, minutes.until))
        # It says that it failed with a status that says yes.
        if not isinstance(said, dict) or said.get("error") or not isinstance(said.get("result"), list):
            raise _unknown("Supabase could not run supabase_sql; try it in the Logs Explorer, and run this again.")
        return Count.of_row(said["result"], minutes)


class LogFile:
    """A log on this machine, with what was rotated away beside it."""

    def __init__(self, path: Path, form: Lines) -> None:
        self._path, self._form = path, form
        self._left_bytes = _MOST_BYTES

    def count(self, span: Span) -> Count:
        """As :class:`Source` says."""
        errors = lines = 0
        self._left_bytes = _MOST_BYTES
        try:
            for file, told in self._files(span.since):
                of_errors, of_lines = self._of(file, span)
                if told is not None and not of_lines and told in span:
                    raise _unknown(
                        f"{self._path} was written to at {told:%H:%M:%S} UTC, and no line of it says that it is of "
                        "that time; each has to begin with a date and a time, with its zone or in this machine's."
                    )
                errors, lines = errors + of_errors, lines + of_lines
        except (OSError, EOFError, lzma.LZMAError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise _unknown(
                f"file_path: {self._path} cannot be read ({reason}); give the runbook's user the right to."
            ) from None
        return Count(errors, span.s, lines)

    def _files(self, since: datetime) -> Iterator[tuple[IO[bytes], datetime | None]]:
        """The log, with when it was written to last unless it is empty; then what was rotated away since."""
        with _open(self._path) as log:
            # What is open stays the same file whoever renames it meanwhile.
            told = os.fstat(log.fileno())
            yield log, _moment(told.st_mtime) if told.st_size else None
            for beside in sorted(self._path.parent.iterdir()):
                if not _is_rotated(beside.name, self._path) or _moment(beside.stat().st_mtime) < since:
                    continue
                with _open(beside) as rotated:
                    if not os.path.samestat(told, os.fstat(rotated.fileno())):
                        yield rotated, None

    def _of(self, file: IO[bytes], span: Span) -> tuple[int, int]:
        """Errors and lines of one file."""
        unpack = _COMPRESSED.get(Path(file.name).suffix)
        if unpack is None:
            self._seek(file, span.since)
        reader = unpack(file) if unpack else file
        errors = lines = 0
        at = None
        is_start = True
        while piece := reader.readline(_LINE_BYTES):
            self._left_bytes -= len(piece)
            self._check_size()
            if is_start:
                text = piece.decode(errors="replace")
                # A line without a time belongs to the one before it.
                at = self._form.time_of(text) or at
                if at is not None and at in span:
                    lines += 1
                    errors += self._form.is_error(text)
            is_start = piece.endswith(b"\n")
        return errors, lines

    def _seek(self, file: IO[bytes], since: datetime) -> None:
        """Go to a line that was written before then, or to the beginning."""
        size, back = os.fstat(file.fileno()).st_size, _FIRST_BYTES
        while back < size:
            file.seek(size - back)
            file.readline(_LINE_BYTES)
            begin = file.tell()
            for _ in range(_UNTIMED_LINES):
                at = self._form.time_of(file.readline(_LINE_BYTES).decode(errors="replace"))
                if at is not None:
                    break
            if at is not None and at < since:
                file.seek(begin)
                return
            if back > self._left_bytes:
                self._left_bytes = -1
                self._check_size()
            back *= 4
        file.seek(0)

    def _check_size(self) -> None:
        if self._left_bytes < 0:
            raise _unknown(
                f"{self._path} has more than {_MOST_BYTES // 1024**2} MiB of that time, and so much is not read; let a "
                "service count it."
            )


def from_params(params: Mapping[str, Any]) -> Source | None:
    """Where a module's options, which are checked, let errors be counted; None where nobody is to count.

    :raises RunbookError: as :func:`access.client`; the reference of a project or a regular expression is none
    """
    backend = params["backend"]
    if backend == NONE:
        return None
    if backend == "file":
        return LogFile(Path(params["file_path"]), Lines.of(params["file_pattern"]))
    if backend == "supabase":
        place = Place.named(params["api_url"] or API_URL, params["project_ref"])
        project = Supabase(
            api_url=place.api_url, project_ref=place.project_ref, access_token=params["access_token"],
            ca_cert=params["ca_cert"], timeout_s=params["timeout_s"], read_only=True,
        )  # fmt: skip
        return SupabaseLogs(project, params["supabase_sql"])
    tenant = params["loki_tenant"] or ""
    api = access.client(
        backend, params, timeout_s=params["timeout_s"], headers={"X-Scope-OrgID": tenant} if tenant else {}
    )  # fmt: skip
    if backend == "prometheus":
        return Query(api, "/api/v1/query", params["prometheus_query"], "", unit="")
    # Loki takes a number for nanoseconds.
    return Query(api, "/loki/api/v1/query", params["loki_query"], params["loki_lines_query"], unit="0" * 9)


def _quietly(ask: Callable[[], Any]) -> Any:
    """Ask a service. What it says of an error may quote a line of a log, so only its status is told."""
    try:
        return ask()
    except ApiError as error:
        if error.http_status is None:
            raise
        wrong = "correct the query" if error.http_status == 400 else "try the query in its own page"
        said = error.fix or wrong
        raise RunbookError(
            f"The service that counts errors answered with {error.http_status}; {said}.", status=error.status
        ) from None


def _open(path: Path) -> IO[bytes]:
    """Open a file that is one: a pipe would wait for its writer."""

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115 - Path.open takes no opener; the caller closes
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is no plain file")


def _unknown(message: str) -> RunbookError:
    return RunbookError(message, status=Status.UNKNOWN)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _is_rotated(name: str, path: Path) -> bool:
    """Whether a file is an older part of a log: ``app.log.1``, ``app.log-20261129.gz``, ``app.1.log``.

    >>> [_is_rotated(name, Path("app.log")) for name in ("app.log.1", "app-2026-11-29.log.gz", "app.log", "app-b.log")]
    [True, True, False, False]
    """
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    number = r"[.\-_](?:\d[\d\-_T]*|old)"
    form = rf"{stem}(?:{suffix}{number}|{number}{suffix})(?:\.(?:gz|bz2|xz|zst))?"
    return re.fullmatch(form, name) is not None
