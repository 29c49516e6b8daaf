"""Reading a backup back from its bucket, all of it, with memory that stays flat."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ansible.module_utils.runbook.drivers.s3.s3 import Store
    from ansible.module_utils.runbook.rules.backup.manifest import Object

_READ_BYTES = 1 << 20
#: Compressed bytes that are unpacked at once. A run of equal bytes shrinks ten thousand times, so little goes far.
_UNPACK_BYTES = 8 << 10


@dataclass(frozen=True)
class Read:
    """What reading one object gave; ``error`` says why it could not be read to its end."""

    key: str
    size_bytes: int
    sha256: str
    error: str = ""


@dataclass(frozen=True)
class StreamRead:
    """What reading a stream gave, which is one object or several that continue each other.

    ``is_whole`` says whether it unpacks as zstd frames that end where it ends; None where that was not tried.
    """

    objects: tuple[Read, ...]
    is_whole: bool | None


class _Frames:
    """Unpacks zstd frames and forgets what comes out."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_fresh = True
        self._is_broken = False

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the stream."""
        view = memoryview(piece)
        while view and not self._is_broken:
            chunk, view = bytes(view[:_UNPACK_BYTES]), view[_UNPACK_BYTES:]
            while chunk:
                try:
                    self._frame.decompress(chunk)
                except zstandard.ZstdError:
                    self._is_broken = True
                    return
                self._is_fresh = False
                chunk = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                    self._is_fresh = True

    @property
    def is_whole(self) -> bool:
        """The last frame ended, and none was damaged."""
        return self._is_fresh and not self._is_broken


def read_all(
    store: Store, streams: Sequence[Sequence[Object]], *, jobs: int, unpack: bool, tick: Callable[[int], None]
) -> list[StreamRead]:
    """Read streams to their ends, several at a time.

    :param streams: objects that continue each other, in order; each is read in the version that the manifest names
    :param unpack: whether they are zstd frames to be unpacked; encrypted ones cannot be
    :param tick: told how many bytes came in, from any thread; it may raise to stop
    """
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting = [pool.submit(_read_stream, store, each, unpack=unpack, tick=tick) for each in streams]
        try:
            return [each.result() for each in waiting]
        except BaseException:
            for each in waiting:
                each.cancel()
            raise


def _read_stream(store: Store, objects: Sequence[Object], *, unpack: bool, tick: Callable[[int], None]) -> StreamRead:
    """Read a stream, and once more where it is not what it should be: bits flip on the way too."""
    first = _read_once(store, objects, unpack=unpack, tick=tick)
    if any(each.error for each in first.objects):
        # The store has asked again and again already.
        return first
    as_wanted = [(each.size_bytes, each.sha256) for each in objects]
    if first.is_whole is not False and [(each.size_bytes, each.sha256) for each in first.objects] == as_wanted:
        return first
    return _read_once(store, objects, unpack=unpack, tick=tick)


def _read_once(store: Store, objects: Sequence[Object], *, unpack: bool, tick: Callable[[int], None]) -> StreamRead:
    frames = _Frames() if unpack else None
    done: list[Read] = []
    for each in objects:
        digest, size, error = hashlib.sha256(), 0, ""
        try:
            for piece in _pieces(store, each):
                digest.update(piece)
                size += len(piece)
                if frames:
                    frames.feed(piece)
                tick(len(piece))
        except RunbookError as failed:
            if "stop" in failed.context:
                raise
            error = failed.message
        done.append(Read(each.key, size, digest.hexdigest(), error))
    return StreamRead(tuple(done), frames.is_whole if frames else None)


def _pieces(store: Store, each: Object) -> Iterator[bytes]:
    with store.open(each.key, each.version_id) as body:
        while piece := body.read(_READ_BYTES):
            yield piece
