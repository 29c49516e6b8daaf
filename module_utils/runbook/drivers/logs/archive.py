"""Where log archives lie: objects of one bucket, and the chain of links that says what they hold.

Below ``<prefix>/<host>/`` there are ``data/…`` with the lines, compressed by zstd, and ``chain/<number>.json``. An
archive counts from the moment its link is written, which is after its content was read back. What a killed run left
behind has no link, and counts for nothing.
"""

from __future__ import annotations

import hashlib
import queue
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard
from ansible.module_utils.runbook.drivers import permits, state_store
from ansible.module_utils.runbook.drivers.change.documents import Documents, store_of
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.drivers.s3.stream import PIPE_BYTES, Segment, compressed
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.logs.chain import MAX_LINK_BYTES, Content, Head, Keys, Link
from ansible.module_utils.runbook.rules.logs.streams import Place
from ansible.module_utils.runbook.rules.logs.times import Bounds
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.s3.s3 import Body, Readable
    from ansible.module_utils.runbook.rules.run import Run

#: zstd's level: as small as gzip's default, ten times as fast.
LEVEL = 1
#: Pieces that wait between whoever reads and whoever compresses.
_WAITING = 4
#: Links that are read at the same time.
_AT_ONCE = 16


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every module on the archive; documented in ``doc_fragments/runbook_logs.py``."""
    return (
        s3.argument_spec()
        | state_store.argument_spec()
        | {
            "prefix": {"type": "str", "default": "logs"},
            "archive_host": {"type": "str", "required": True},
            "environment": {"type": "str", "required": True},
            "seal_keys": {"type": "list", "elements": "str", "required": True, "no_log": True},
        }
    )


class Measured:
    """A stream that is read ahead by a thread of its own, which measures what goes by."""

    def __init__(self, source: Readable, bounds: Bounds) -> None:
        self._source, self._bounds = source, bounds
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_WAITING)
        self._sha256 = hashlib.sha256()
        self._left, self._ended, self._stopped = b"", False, threading.Event()
        self._last = b"\n"
        self._newlines = 0
        self.size_bytes = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while piece := self._source.read(PIPE_BYTES):
                self._sha256.update(piece)
                self._bounds.add(piece)
                self._newlines += piece.count(b"\n")
                self._last = piece[-1:]
                self.size_bytes += len(piece)
                self._put(piece)
            self._put(b"")
        except BaseException as error:  # raised again where it is read
            self._put(error)

    def _put(self, piece: bytes | BaseException) -> None:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=0.2)
                return

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end.

        :raises BaseException: what reading the source raised
        """
        if not self._left and not self._ended:
            piece = self._pieces.get()
            if isinstance(piece, BaseException):
                self._ended = True
                raise piece
            self._left, self._ended = piece, not piece
        if size < 0:
            size = len(self._left)
        data, self._left = self._left[:size], self._left[size:]
        return data

    def stop(self) -> None:
        """Read no further."""
        self._stopped.set()
        self._thread.join(5)

    @property
    def lines(self) -> int:
        """Lines so far; one that lacks its end is one."""
        return self._newlines + (self._last != b"\n")

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._sha256.hexdigest()


class Lines:
    """The content of an archive as it comes back, decompressed and measured."""

    def __init__(self, body: Body) -> None:
        self._segment = Segment(body, b"", body.size_bytes)
        self._reader = zstandard.ZstdDecompressor().stream_reader(
            cast("IO[bytes]", self._segment), read_size=PIPE_BYTES, read_across_frames=True, closefd=False
        )
        self._content = hashlib.sha256()
        self.size_bytes = 0

    def pieces(self) -> Iterator[bytes]:
        """All of it.

        :raises RunbookError: it is no zstd, or was damaged
        """
        try:
            while piece := self._reader.read(PIPE_BYTES):
                self._content.update(piece)
                self.size_bytes += len(piece)
                yield piece
            # What zstd did not ask for is no part of the archive, and changes its hash.
            while self._segment.read(PIPE_BYTES):
                pass
        except zstandard.ZstdError:
            raise RunbookError("it is no zstd, or damaged", code="log_archive_damaged") from None

    def differs(self, content: Content) -> str:
        """What is not as the link says; empty where all is."""
        if (self._segment.size_bytes, self._segment.sha256) != (content.size_bytes, content.sha256):
            return "its bytes are not those that were written"
        if (self.size_bytes, self._content.hexdigest()) != (content.content_bytes, content.content_sha256):
            return "its lines are not those that were archived"
        return ""


class Archive:
    """The archive of one inventory host."""

    def __init__(self, store: s3.Store, documents: Documents, keys: Keys, place: Place, run_id: str) -> None:
        self.store, self.keys = store, keys
        self._documents, self._root, self._run_id = documents, place.folder, run_id
        self.document = f"logs/{place.host}"
        #: The newest link, and the one that the state store knows.
        self._head: Head | None = None
        self._stored: Head | None = None
        #: The S3 server's clock.
        self.now: datetime = bucket.clock(store)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], run: Run, *, writes: bool, hide: Callable[[str], None]) -> Archive:
        """The archive, as a module's options name it.

        :param writes: the module writes to the bucket
        :param hide: keeps the keys out of everything that is printed
        :raises RunbookError: an option is none, or this run may not write there
        """
        for key in params["seal_keys"]:
            hide(key)
        keys = Keys(params["seal_keys"])
        place = Place.of(params["prefix"], params["archive_host"])
        store = s3.Store.from_params(params, connections=_AT_ONCE)
        if writes:
            permits.require_bucket(run, store, params["environment"])
        else:
            store.require_environment(params["environment"])
        documents = Documents(store_of(params, params["environment"]), run, params["environment"])
        return cls(store, documents, keys, place, str(run.id))

    @property
    def url(self) -> str:
        """How a sentence calls it."""
        return self.store.url(self._root)

    # The chain

    def _key(self, seq: int) -> str:
        return f"{self._root}chain/{seq:010d}.json"

    def known_head(self) -> Head | None:
        """What the state store says; None where it has no word of this chain."""
        found = self._documents.read(self.document).document
        return None if found is None else Head(int(found.body["seq"]), str(found.body["seal"]))

    def _remember(self, head: Head) -> None:
        self._documents.update(self.document, lambda _found: {"seq": head.seq, "seal": head.seal})
        self._head = self._stored = head

    def head(self) -> Head:
        """The newest link: that of the state store, or the one behind it where a run died before it told.

        :raises RunbookError: the chain is broken at its end, or the state store does not know one that is there
        """
        if self._head is not None:
            return self._head
        head = self._stored = self.known_head()
        if head is None:
            if next(self.store.entries(f"{self._root}chain/"), None) is not None:
                raise RunbookError(
                    f"State store: {self.document} is gone, and {self.url} has a chain, whose end nobody can tell now; "
                    "bring the document back from the versions of the store's bucket or its backup.",
                    status=Status.UNKNOWN,
                )
            head = Head()
        elif head.seq and self.link(head.seq).seal != head.seal:
            raise RunbookError(f"Link {head.seq} is not the one that the state store knows; run logs.yml -t verify.")
        while self.store.head(self._key(head.seq + 1)) is not None:
            link = self.link(head.seq + 1)
            why = link.stands_off(head)
            if why:
                raise RunbookError(f"{why} Run logs.yml -t verify.", code="log_chain_broken")
            head = Head(link.seq, link.seal)
        self._head = head
        return head

    def link(self, seq: int) -> Link:
        """One link.

        :raises RunbookError: it is missing, or was edited
        """
        data = self.store.read(self._key(seq), most_bytes=MAX_LINK_BYTES)
        return Link.parse(seq, data, self.keys)

    def links(self, since: datetime | None = None) -> list[Link]:
        """The chain in its order, or its end: all links that were made since, and perhaps some before.

        :raises RunbookError: a link is missing or was edited
        """
        found: list[Link] = []
        last = self.head().seq
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while last > 0 and not (since and found and found[0].at < since):
                first = max(1, last - 4 * _AT_ONCE + 1)
                found = [*pool.map(self.link, range(first, last + 1)), *found]
                last = first - 1
        for before, link in pairwise(found):
            why = link.stands_off(Head(before.seq, before.seal))
            if why:
                raise RunbookError(f"{why} Run logs.yml -t verify.", code="log_chain_broken")
        return found

    def everything(self) -> list[tuple[int, Link | str]]:
        """Every place of the chain that holds something, in order: its link, or why it is none."""

        def judged(seq: int) -> tuple[int, Link | str]:
            try:
                return seq, self.link(seq)
            except RunbookError as error:
                if error.code != "log_chain_broken":
                    raise
                return seq, error.message

        places = []
        for each in self.store.entries(f"{self._root}chain/"):
            name = each.key.rpartition("/")[2].removesuffix(".json")
            if name.isdigit():
                places.append(int(name))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(judged, sorted(places)))

    def add(self, **said: Any) -> Link:
        """Write the next link.

        :raises RunbookError: somebody else wrote one, or whether it was written is unknown
        """
        head = self.head()
        # Before the first link: a chain that the state store has no word of is one whose document is gone.
        if head != self._stored:
            self._remember(head)
        link = self.keys.sealed(Link(seq=head.seq + 1, at=self.now, run_id=self._run_id, previous=head.seal, **said))
        try:
            self.store.put(self._key(link.seq), link.serialised(), if_absent=True)
        except RunbookError as error:
            if error.context.get("s3_code") in s3.TAKEN:
                raise RunbookError(
                    f"{self.url}: another run wrote link {link.seq} this moment; run again when it is over."
                ) from None
            raise
        self._remember(Head(link.seq, link.seal))
        return link

    # What it holds

    def keep(self, stream: str, source: Readable, origin: Mapping[str, Any], written: datetime) -> Content:
        """Compress and upload a stream; it counts for nothing yet.

        :param origin: where its lines come from
        :param written: when its last line was written, for times that lack their year
        """
        # Nobody ever writes to the key of another one's archive.
        key = f"{self._root}data/{stream}/{self.now:%Y/%m/%dT%H%M%SZ}-{secrets.token_hex(8)}.zst"
        bounds = Bounds(written)
        measured = Measured(source, bounds)
        segment = Segment(compressed(measured, LEVEL), b"", s3.MAX_STREAM_BYTES)
        try:
            uploaded = self.store.upload(key, segment)
        finally:
            measured.stop()
        first, last = bounds.result()
        return Content(
            key, uploaded.version_id, segment.size_bytes, segment.sha256, measured.size_bytes, measured.sha256,
            measured.lines, first, last, dict(origin),
        )  # fmt: skip

    def open(self, content: Content) -> Body:
        """An archive's object, the very version of it that was written."""
        return self.store.open(content.key, content.version_id)

    def read_back(self, content: Content) -> None:
        """Read an archive from the bucket, and compare it with what was archived.

        :raises RunbookError: it is not there, or not the same
        """
        with self.open(content) as body:
            lines = Lines(body)
            try:
                for _piece in lines.pieces():
                    pass
                why = lines.differs(content)
            except RunbookError as error:
                if error.code != "log_archive_damaged":
                    raise
                why = error.message
        if why:
            raise RunbookError(
                f"{self.store.url(content.key)} was read back, and {why}; nothing was deleted for it. Run again, and "
                "look at the S3 server.",
                code="log_archive_damaged",
            )

    def objects(self) -> Iterator[s3.Entry]:
        """Objects of archives, those too that no link knows."""
        return self.store.entries(f"{self._root}data/")

    def dead_uploads(self, *, begun_before: datetime, warn: Callable[[str], None]) -> list[tuple[str, str]] | None:
        """Uploads of archives that were begun before a moment and never ended: see :func:`bucket.dead_uploads`."""
        return bucket.dead_uploads(self.store, f"{self._root}data/", begun_before=begun_before, warn=warn)

    def is_there(self, content: Content) -> bool:
        """Whether the object of an archive is in the bucket still, with its size."""
        found = self.store.head(content.key, content.version_id)
        return found is not None and int(found["ContentLength"]) == content.size_bytes


class Intake:
    """Takes one stream after the other in: while one is read back, the next one is uploaded.

    Links are written in the order of the streams, each after its own archive was read back.
    """

    def __init__(self, archive: Archive, tell: Callable[[int], None]) -> None:
        self._archive, self._tell = archive, tell
        self._pool = ThreadPoolExecutor(1)
        self._waiting: tuple[Future[None], str, str, Content, Callable[[Link], None] | None] | None = None
        self.links: list[Link] = []
        self.content_bytes = 0

    def take(
        self, stream: str, retention_class: str, source: Readable, origin: Mapping[str, Any], written: datetime,
        then: Callable[[Link], None] | None = None,
    ) -> Content:  # fmt: skip
        """Archive a stream.

        :param then: is called once its link is written
        :raises RunbookError: this one, or the one before it, could not be archived
        """
        try:
            content = self._archive.keep(stream, source, origin, written)
        except BaseException:
            with suppress(RunbookError):
                self.finish()
            raise
        self.finish()
        done = self._pool.submit(self._archive.read_back, content)
        self._waiting = (done, stream, retention_class, content, then)
        self.content_bytes += content.content_bytes
        self._tell(self.content_bytes)
        return content

    def finish(self) -> None:
        """Wait for what is being read back, and let it count."""
        if self._waiting is None:
            return
        (done, stream, retention_class, content, then), self._waiting = self._waiting, None
        done.result()
        link = self._archive.add(kind="archive", stream=stream, retention_class=retention_class, content=content)
        self.links.append(link)
        if then is not None:
            then(link)

    def close(self) -> None:
        """Let the thread go."""
        self._pool.shutdown(cancel_futures=True)
