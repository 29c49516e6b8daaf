"""From a program's output into a bucket, through compression and encryption, without a file in between.

Data is pulled: the uploading thread asks for the next part, and everything before it gives as much as is asked for. So
memory holds a few parts, however long the stream is. When this process dies, the programs die with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard
from ansible.module_utils.runbook.drivers.child_process import ends_with_module
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.s3.s3 import Readable

#: What is read from a pipe at once, and what the kernel keeps of one.
PIPE_BYTES = 1 << 20
#: A program's last words that are kept.
_STDERR_BYTES = 16 << 10
#: Seconds that a program gets to end once its output has.
_END_TIMEOUT_S = 30
#: Code of the error that a program was refused something.
NOT_PERMITTED = "not_permitted"


class Programs:
    """The programs that are running; :meth:`kill` ends them all, and whoever waits for their output wakes up."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stopped = False
        #: Standard error of those that ended well: warnings may be among it.
        self.said: list[str] = []

    def start(self, words: Sequence[str], *, stdin: int, stderr: IO[bytes], env: Mapping[str, str] | None) -> Any:
        """Start a program whose output is read through a pipe; the calling thread waits for its end.

        :raises RunbookError: it is not there, or all were told to end
        """
        with self._lock:
            if self._stopped:
                raise RunbookError("The backup was stopped.")
            if shutil.which(words[0]) is None:
                raise RunbookError(f"{words[0]} is not there; install it on this machine.")
            process = subprocess.Popen(
                ends_with_module(words), stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=env, bufsize=0,
                pipesize=PIPE_BYTES,
            )  # fmt: skip
            self._running.append(process)
        return process

    def kill(self) -> None:
        """End them all at once; none is started any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                if process.poll() is None:
                    process.kill()


class Output:
    """What a program writes, read as a stream; its exit code is looked at before the end is told.

    So a consumer never takes the output of a program that failed for whole.
    """

    def __init__(
        self,
        programs: Programs,
        words: Sequence[str],
        *,
        explain: Callable[[str, int | None, str], str],
        env: Mapping[str, str] | None = None,
        source: Readable | None = None,
    ) -> None:
        """Start the program.

        :param explain: makes the sentence for a failure, of the program's name, exit code and last words
        :param source: what it reads; nothing where it is None
        """
        self._programs = programs
        self._words = words
        self._explain = explain
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        self._ended = False
        self._feed_error: BaseException | None = None
        self.bytes_read = 0
        self._process = programs.start(
            words, stdin=subprocess.PIPE if source else subprocess.DEVNULL, stderr=self._stderr, env=env
        )
        self._feeder = None
        if source is not None:
            self._feeder = threading.Thread(target=self._feed, args=(source,), daemon=True)
            self._feeder.start()

    def _feed(self, source: Readable) -> None:
        try:
            with suppress(BrokenPipeError):
                while piece := source.read(PIPE_BYTES):
                    view = memoryview(piece)
                    while view:
                        view = view[self._process.stdin.write(view) :]
        except BaseException as error:  # raised again where the output is read
            self._feed_error = error
            # Its output would look whole: it never sees that its input was cut.
            self._process.kill()
        finally:
            with suppress(OSError):
                self._process.stdin.close()

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none once the program has ended well.

        :raises RunbookError: it ended badly
        """
        data = os.read(self._process.stdout.fileno(), PIPE_BYTES if size < 0 else size) if not self._ended else b""
        self.bytes_read += len(data)
        if not data and size != 0:
            self._end()
        return data

    def _end(self) -> None:
        if self._ended:
            return
        try:
            code = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._feeder is not None:
            self._feeder.join()
        self._ended = True
        self._process.stdout.close()
        with self._stderr as stderr:
            stderr.seek(0)
            said = stderr.read(_STDERR_BYTES).decode(errors="replace")
        if self._feed_error is not None:
            raise self._feed_error
        if code != 0:
            why = {"code": NOT_PERMITTED} if "permission denied" in said else {}
            raise RunbookError(self._explain(Path(self._words[0]).name, code, said), **why)
        self._programs.said.append(said)


def compressed(source: Readable, level: int) -> Readable:
    """``source`` as one zstd frame with a checksum."""
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
    return cast("Readable", compressor.stream_reader(cast("IO[bytes]", source), read_size=PIPE_BYTES, closefd=False))


def encrypted(programs: Programs, source: Readable, kind: str, recipients: Sequence[str]) -> Readable:
    """``source`` for the eyes of the recipients alone, made by ``age`` or ``gpg``.

    :raises RunbookError: the program is not installed; while reading: it does not know a recipient
    """
    program = shutil.which(kind)
    if program is None:
        raise RunbookError(f"encryption: {kind} is not installed on this machine; install it.")
    words = [program]
    if kind == "age":
        words += ["--encrypt", *(word for each in recipients for word in ("--recipient", each))]
    else:
        words += ["--batch", "--no-tty", "--trust-model", "always", "--compress-algo", "none", "--encrypt"]
        words += [word for each in recipients for word in ("--recipient", each)]

    def explain(name: str, code: int | None, stderr: str) -> str:
        first = next((line.strip() for line in stderr.splitlines() if line.strip()), f"it ended with {code}")
        return f"encryption: {name} failed: {first}; check recipients."

    return Output(programs, words, explain=explain, source=source)


class Segment:
    """A piece of a stream, cut off at ``most_bytes``, with its size and SHA-256."""

    def __init__(self, source: Readable, first: bytes, most_bytes: int) -> None:
        self._source = source
        self._pending = first
        self._left = most_bytes
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """Exactly ``size`` bytes but for the end: S3 refuses parts that are too small."""
        wanted = self._left if size < 0 else min(size, self._left)
        if wanted == 0:
            return b""
        data = b"" if self._pending else self._source.read(wanted)
        if self._pending or 0 < len(data) < wanted:
            pieces = [self._pending or data]
            self._pending = b""
            have = len(pieces[0])
            while have < wanted and (more := self._source.read(wanted - have)):
                pieces.append(more)
                have += len(more)
            data = b"".join(pieces)
        self._left -= len(data)
        self.size_bytes += len(data)
        self._sha256.update(data)
        return data

    @property
    def sha256(self) -> str:
        """Of what was read so far, as hexadecimal digits."""
        return self._sha256.hexdigest()


def segments(source: Readable, most_bytes: int) -> Iterator[Segment]:
    """Cut a stream; each segment must be read to its end before the next one. The first may be empty."""
    first = b""
    while True:
        yield Segment(source, first, most_bytes)
        first = source.read(1)
        if not first:
            return
