"""How objects get from one S3 API to another: listings, copies, and a table of both on disk.

Any number of objects fits: what was listed lies in a nameless temporary database of SQLite, which the operating system
deletes with the process, and contents lie in memory piece by piece within a budget. Servers need not list in order.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from base64 import b64encode
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from hashlib import md5
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg2
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.mirror import MAX_COPY_BYTES, ORIGINS, SOURCE_ETAG, Entry, Row, State
from ansible.module_utils.runbook.rules.postgres.server_error import ServerError
from ansible.module_utils.runbook.rules.words import count
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session

#: Bytes of contents that are held in memory at one time, by all threads together.
MEMORY_BYTES = 128 << 20
#: How often an object, or a part of one, is tried; the client's own retries of a request come on top.
TRIES = 3
#: Pause after the first failed try, in seconds; it doubles.
PAUSE_S = 0.5
#: Objects that one request deletes.
DELETE_BATCH = 1000
#: Rows that are read from a table at a time.
BATCH = 1000
#: Objects that are looked at again at the same time.
_LOOKS = 8

#: What an object carries besides its content, and its copy too.
_KEPT = (
    "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Expires",
    "WebsiteRedirectLocation",
)  # fmt: skip
#: Answers after which no other object will do better.
_HOPELESS = {
    "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken", "ExpiredTokenException",
    "InvalidAccessKeyId", "InvalidToken", "NoSuchBucket", "PermanentRedirect", "QuotaExceeded", "RequestTimeTooSkewed",
    "SignatureDoesNotMatch", "TokenRefreshRequired", "XMinioStorageFull",
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
}  # fmt: skip
#: Answers about one object that a HEAD gives; its other codes are the server's.
_REFUSED = {"403", "AccessDenied", "400", "405", "MethodNotAllowed"}
_GONE = {"404", "NoSuchKey", "NoSuchVersion"}
_CHANGED = {"412", "PreconditionFailed"}
#: Answers with a status of 4xx that may be others the next time.
_PASSING = {
    "429", "BadDigest", "IncompleteBody", "InvalidDigest", "InvalidPart", "NoSuchUpload", "OperationAborted",
    "RequestTimeout", "SlowDown", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
}  # fmt: skip
_UNTOLD = {"AccessDenied", "403", "InvalidRequest"}
_NOT_KNOWN = {"NotImplemented", "MethodNotAllowed", "405", "501", "XNotImplemented", "UnsupportedOperation"}


class DamagedError(Exception):
    """What was read is not what its ETag says, or what was written is not what was sent."""


class ChangedError(Exception):
    """The object was replaced while it was read."""


class StoppedError(Exception):
    """The run is over."""


# --- the table --------------------------------------------------------------------------------------------------------


class Table:
    """Both listings, what is to be done, and the rows of ``storage.objects``: on disk, in one thread's hands."""

    def __init__(self) -> None:
        # Without a name it is a private file that is unlinked once open, so that a kill leaves nothing behind.
        self._db = sqlite3.connect("", isolation_level=None)
        listing = "(key TEXT PRIMARY KEY, size INT, etag TEXT) WITHOUT ROWID"
        work = "id INTEGER PRIMARY KEY, key TEXT UNIQUE, size INT, etag TEXT, ask INT, state TEXT"
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA cache_size = -16384",
            *(f"CREATE TABLE {name} {listing}" for name in ("source", "copy", "proof", "stored")),
            f"CREATE TABLE work ({work}, made_size INT, made_etag TEXT)",
        ):
            self._db.execute(statement)

    def close(self) -> None:
        """Throw everything away."""
        self._db.close()

    def add(self, table: str, entries: Iterable[Entry | Row]) -> int:
        """Put what was read into ``source``, ``copy``, ``proof`` or ``stored``; how many they were."""
        rows = [(each.key, each.size_bytes, each.etag) for each in entries]
        self._db.execute("BEGIN")
        # A key that slips from one page to the next is listed twice; the later one counts.
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608 - a name of ours
        self._db.execute("COMMIT")
        return len(rows)

    def one(self, query: str, *values: object) -> tuple[Any, ...]:
        """The single row that a query gives."""
        found: tuple[Any, ...] = self._db.execute(query, values).fetchone()
        return found

    def rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, one by one."""
        yield from self._db.execute(query, values)

    def pairs(self) -> Iterator[tuple[Entry, Entry | None]]:
        """Every object of the source, with its copy if there is one."""
        query = "SELECT s.key, s.size, s.etag, c.size, c.etag FROM source s LEFT JOIN copy c USING (key) ORDER BY s.key"
        for key, size, etag, copy_size, copy_etag in self.rows(query):
            yield Entry(key, size, etag), None if copy_etag is None else Entry(key, copy_size, copy_etag)

    def plan(self, entries: Iterable[tuple[Entry, bool]]) -> None:
        """Note the objects to copy; those with True are to be asked for first."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO work (key, size, etag, ask) VALUES (?, ?, ?, ?)",
            ((entry.key, entry.size_bytes, entry.etag, ask) for entry, ask in entries),
        )
        self._db.execute("COMMIT")

    def work(self, *, ask: bool) -> Iterator[Entry]:
        """Objects to ask for, or to copy; what became of them may be noted meanwhile."""
        last = 0
        query = "SELECT id, key, size, etag FROM work WHERE id > ? AND ask = ? AND state IS NULL ORDER BY id LIMIT ?"
        while batch := self._db.execute(query, (last, ask, BATCH)).fetchall():
            last = batch[-1][0]
            yield from (Entry(key, size, etag) for _, key, size, etag in batch)

    def asked(self, key: str, *, same: bool) -> None:
        """The copy was asked: there is nothing to do for it, or it is to be copied."""
        query = "DELETE FROM work WHERE key = ?" if same else "UPDATE work SET ask = 0 WHERE key = ?"
        self._db.execute(query, (key,))

    def forget(self, table: str, keys: list[str]) -> None:
        """Take keys out of ``source`` or ``stored``."""
        self._db.executemany(f"DELETE FROM {table} WHERE key = ?", [(key,) for key in keys])  # noqa: S608

    def done(self, key: str, state: str, made: Entry | None = None) -> None:
        """Note what became of one object."""
        self._db.execute(
            "UPDATE work SET state = ?, made_size = ?, made_etag = ? WHERE key = ?",
            (state, made and made.size_bytes, made and made.etag, key),
        )


# --- listings ---------------------------------------------------------------------------------------------------------


def pages(store: s3.Store, prefix: str) -> Iterator[list[Entry]]:
    """Objects whose keys begin with ``prefix``, a page at a time; their keys are what follows it."""
    token: dict[str, str] = {}
    while True:
        with s3.explained(f"Listing {store}"):
            found = store.client.list_objects_v2(Bucket=store.bucket, Prefix=prefix, **token)
        yield [
            Entry(each["Key"].removeprefix(prefix), int(each["Size"]), _bare(each.get("ETag", "")))
            for each in found.get("Contents", [])
            # The prefix itself may be an object: the mark of an empty folder. What a mirror notes is no file.
            if each["Key"] != prefix and not each["Key"].startswith(ORIGINS)
        ]
        if not found.get("IsTruncated"):
            return
        following = found.get("NextContinuationToken")
        if not following or following == token.get("ContinuationToken"):
            raise RunbookError(f"Listing {store} failed: the server does not say how its listing goes on.")
        token = {"ContinuationToken": following}


def list_into(table: Table, listings: dict[str, Iterator[list[Entry]]], tell: Callable[[int], None]) -> None:
    """Read several listings at the same time, each into its table; ``tell`` gets the number of objects so far."""
    seen = 0
    with ThreadPoolExecutor(len(listings)) as pool:
        waiting = {pool.submit(next, listing, None): name for name, listing in listings.items()}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                name, page = waiting.pop(future), future.result()
                if page is not None:
                    # The next page is fetched while this one is written down.
                    waiting[pool.submit(next, listings[name], None)] = name
                    seen += table.add(name, page)
                    tell(seen)


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def look(store: s3.Store, key: str) -> dict[str, Any] | None:
    """S3's HeadObject answer; None where there is no such object. An error does not name it: keys may name people."""
    with s3.explained(f"Asking {store} for an object"):
        try:
            found: dict[str, Any] = store.client.head_object(Bucket=store.bucket, Key=key)
        except ClientError as error:
            if s3.code(error) in _GONE:
                return None
            raise
    return found


def original(store: s3.Store, prefix: str, key: str) -> Entry | None:
    """A copy as it is now, with the ETag of the object that it was made from; None where there is none."""
    head = look(store, prefix + key)
    if head is None:
        return None
    etag = head.get("Metadata", {}).get(SOURCE_ETAG) or _bare(head["ETag"])
    return Entry(key, int(head["ContentLength"]), etag)


# --- one object -------------------------------------------------------------------------------------------------------


class Budget:
    """Bytes that may be held in memory. One who asks for more than all of it is served alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until ``size`` bytes are free, and take them."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self._limit)
            self._used += size

    def give(self, size: int) -> None:
        """Give them back."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()


class Digest:
    """MD5 sum of an object whose parts come in any order; a part waits for the ones before it."""

    def __init__(self) -> None:
        self._whole = md5(usedforsecurity=False)
        self._next = 0
        self._broken = False
        self._changed = threading.Condition()

    def add(self, index: int, data: bytearray) -> None:
        """Take a part in.

        :raises StoppedError: a part before it never came
        """
        with self._changed:
            self._changed.wait_for(lambda: self._next == index or self._broken)
            if self._broken:
                raise StoppedError
            self._whole.update(data)
            self._next += 1
            self._changed.notify_all()

    def give_up(self) -> None:
        """Let those who wait go."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def hexdigest(self) -> str:
        """The sum so far."""
        return self._whole.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What became of one object."""

    key: str
    #: ``copied``, ``gone`` (deleted from the source meanwhile) or ``failed``.
    state: str
    made: Entry | None = None
    #: S3's code, or the name of what happened; never the object's name.
    error: str = ""
    #: No other object will do better.
    hopeless: bool = False
    #: The error is this object's own: archived, encrypted with a key that refuses, not for these credentials, vanished,
    #: with a name that the destination does not take. It says nothing of the server.
    own: bool = False


@dataclass
class Copier:
    """Copies single objects; many threads use it at a time."""

    source: s3.Store
    target: s3.Store
    source_prefix: str
    prefix: str
    #: Both are one server with the same credentials, so that it can copy by itself.
    server_side: bool
    jobs: int
    #: Bytes that went over so far, those of tries that failed included.
    bytes_done: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._memory = Budget(MEMORY_BYTES)
        self._lock = threading.Lock()
        # Apart from the threads that copy objects, because those wait for these.
        self._parts = ThreadPoolExecutor(self.jobs, thread_name_prefix="part")
        # Sums of objects that did not fit their ETags at the first reading.
        self._unlike: dict[str, str] = {}
        # Whether this server's copies have another ETag than their source, as with SSE-KMS.
        self._renames = False

    def _key(self, entry: Entry) -> str:
        return self.source_prefix + entry.key

    def close(self) -> None:
        """Let what is under way end, and begin nothing more."""
        self.stopped.set()
        self._parts.shutdown(cancel_futures=True)

    def same(self, entry: Entry) -> bool:
        """Ask the copy whether it was made from this very object; one that may not be asked is recreated.

        :raises RunbookError: the server cannot be asked
        """
        try:
            head = look(self.target, self.prefix + entry.key)
        except RunbookError as error:
            if error.context.get("s3_code") in _REFUSED:
                return False
            raise
        return head is not None and head.get("Metadata", {}).get(SOURCE_ETAG) == entry.etag

    def copy(self, entry: Entry) -> Outcome:
        """Copy one object, trying again what may pass. It raises for no error of S3's."""
        why, own = "", False
        for turn in range(TRIES):
            if turn and self.stopped.wait(_pause_s(turn)):
                break
            try:
                made = self._by_server(entry) if self.server_side else self._by_stream(entry)
            except ChangedError:
                why, own = "ChangedMeanwhile", True
            except StoppedError:
                why = why or "Stopped"
                break
            except (DamagedError, OSError, *s3.ERRORS) as error:
                why = s3.code(error) if isinstance(error, ClientError) else type(error).__name__
                own = isinstance(error, DamagedError) or not _passes(error, why)
                if why in _HOPELESS:
                    return Outcome(entry.key, "failed", error=why, hopeless=True)
                if why not in _GONE and not _passes(error, why):
                    break
            else:
                return Outcome(entry.key, "copied", made)
            # Another version of it may be there now, or none; the destination too says that something is not there.
            if why == "ChangedMeanwhile" or why in _GONE:
                fresh = self._now(entry)
                if fresh is not None:
                    entry = fresh
                elif self._is_listed(entry):
                    why = "ListedButNotFound"
                else:
                    return Outcome(entry.key, "gone")
        return Outcome(entry.key, "failed", error=why, own=own)

    def _now(self, entry: Entry) -> Entry | None:
        """The object as it is now; as it was where nothing can be learned."""
        try:
            head = look(self.source, self._key(entry))
        except RunbookError:
            return entry
        return None if head is None else Entry(entry.key, int(head["ContentLength"]), _bare(head["ETag"]))

    def _is_listed(self, entry: Entry) -> bool:
        """Whether the source's listing still holds what it says is not there; assumed where it cannot be asked."""
        try:
            found = self.source.client.list_objects_v2(Bucket=self.source.bucket, Prefix=self._key(entry))
        except s3.ERRORS:
            return True
        return any(each["Key"] == self._key(entry) for each in found.get("Contents", []))

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes_done += size

    # By the server itself ---------------------------------------------------------------------------------------------

    def _by_server(self, entry: Entry) -> Entry:
        origin = {"Bucket": self.source.bucket, "Key": self._key(entry)}
        if entry.size_bytes and (entry.parts is not None or entry.size_bytes > MAX_COPY_BYTES):
            return self._by_parts(entry)
        extra: dict[str, Any] = {}
        for _ in range(2):
            if self._renames:
                head = self._head(entry)
                extra = _carried(head, entry) | {"MetadataDirective": "REPLACE"}
            answer = _changes(
                self.target.client.copy_object,
                Bucket=self.target.bucket, Key=self.prefix + entry.key, CopySource=origin,
                CopySourceIfMatch=f'"{entry.etag}"', **extra,
            )  # fmt: skip
            made = Entry(entry.key, entry.size_bytes, _bare(answer["CopyObjectResult"]["ETag"]))
            if made.etag == entry.etag or extra:
                break
            # From now on copies are told their source's ETag; this one too.
            self._renames = True
        self._count(entry.size_bytes)
        return made

    # Through this process ---------------------------------------------------------------------------------------------

    def _by_stream(self, entry: Entry) -> Entry:
        if not entry.whole:
            return self._by_parts(entry)
        self._memory.take(entry.size_bytes)
        try:
            answer = _changes(
                self.source.client.get_object,
                Bucket=self.source.bucket, Key=self._key(entry), IfMatch=f'"{entry.etag}"',
            )  # fmt: skip
            data = self._content(answer)
            digest = md5(data, usedforsecurity=False)
            if len(data) != entry.size_bytes or (entry.is_md5 and _plain(answer) and digest.hexdigest() != entry.etag):
                raise DamagedError
            written = self.target.client.put_object(
                Bucket=self.target.bucket, Key=self.prefix + entry.key, Body=data,
                ContentMD5=b64encode(digest.digest()).decode(), **_carried(answer, entry),
                **self._tags(entry, answer.get("TagCount", 0)),
            )  # fmt: skip
        finally:
            self._memory.give(entry.size_bytes)
        made = Entry(entry.key, len(data), _bare(written["ETag"]))
        if made.is_md5 and _plain(written) and made.etag != digest.hexdigest():
            raise DamagedError
        self._count(len(data))
        return made

    def _by_parts(self, entry: Entry) -> Entry:
        head = self._head(entry)
        where = {"Bucket": self.target.bucket, "Key": self.prefix + entry.key}
        digest = Digest()
        tags = self._tags(entry, head.get("TagCount", 1))
        upload = self.target.client.create_multipart_upload(
            **where, **s3.checksum(self.target.client), **_carried(head, entry), **tags
        )
        where["UploadId"] = upload["UploadId"]
        under_way: list[Future[tuple[dict[str, Any], bytes]]] = []
        try:
            for index, (first, last) in enumerate(entry.ranges(self._first_part_bytes(entry))):
                size = 0 if self.server_side else last - first + 1
                # Taken here and in order: a part that holds memory waits only for parts that hold theirs already.
                self._memory.take(size)
                part = self._parts.submit(self._part, entry, where, digest, index, first, last)
                part.add_done_callback(lambda _, size=size: self._memory.give(size))  # type: ignore[misc] # lambda
                under_way.append(part)
                if self.stopped.is_set() or any(each.done() and each.exception() for each in under_way[-self.jobs :]):
                    break
            made = [part.result() for part in under_way]
            if self.stopped.is_set():
                raise StoppedError
            if not self.server_side and _plain(head):
                self._prove(entry, digest, [sum_ for _, sum_ in made])
            parts = [part for part, _ in made]
            done = self.target.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except BaseException:
            digest.give_up()
            for part in under_way:
                part.cancel()
            wait(under_way)
            with suppress(*s3.ERRORS):
                self.target.client.abort_multipart_upload(**where)
            raise
        return Entry(entry.key, entry.size_bytes, _bare(done["ETag"]))

    def _part(
        self, entry: Entry, where: dict[str, Any], digest: Digest, index: int, first: int, last: int
    ) -> tuple[dict[str, Any], bytes]:
        """Copy one part; what S3 wants to hear of it at the end, and its MD5 sum."""
        number = index + 1
        span = f"bytes={first}-{last}"
        sum_ = b""
        if self.server_side:
            answer = _changes(
                self.target.client.upload_part_copy,
                **where, PartNumber=number, CopySource={"Bucket": self.source.bucket, "Key": self._key(entry)},
                CopySourceRange=span, CopySourceIfMatch=f'"{entry.etag}"',
            )["CopyPartResult"]  # fmt: skip
        else:
            try:
                data = self._read(entry, span, last - first + 1)
                if entry.is_md5:
                    digest.add(index, data)
            except BaseException:
                digest.give_up()
                raise
            sum_ = md5(data, usedforsecurity=False).digest()
            answer = self.target.client.upload_part(
                **where, PartNumber=number, Body=data, **s3.checksum(self.target.client),
                ContentMD5=b64encode(sum_).decode(),
            )  # fmt: skip
        self._count(last - first + 1)
        checksum = {"ChecksumCRC32": answer["ChecksumCRC32"]} if "ChecksumCRC32" in answer else {}
        return {"PartNumber": number, "ETag": answer["ETag"], **checksum}, sum_

    def _prove(self, entry: Entry, digest: Digest, sums: list[bytes]) -> None:
        """Compare what was read with the source's ETag.

        Where the parts were cut in another way than the source's, the sums differ without any harm: then a second
        reading must give what the first one gave.
        """
        if entry.is_md5:
            if digest.hexdigest() != entry.etag:
                raise DamagedError
            return
        found = f"{md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(sums)}"
        if found != entry.etag and len(sums) == entry.parts and self._unlike.get(entry.key) != found:
            self._unlike[entry.key] = found
            raise DamagedError

    def _read(self, entry: Entry, span: str, size: int) -> bytearray:
        """A range of an object; a connection that breaks in the middle of it is asked again."""
        for turn in range(TRIES):
            if self.stopped.is_set() or (turn and self.stopped.wait(_pause_s(turn))):
                raise StoppedError
            try:
                answer = _changes(
                    self.source.client.get_object,
                    Bucket=self.source.bucket, Key=self._key(entry), Range=span, IfMatch=f'"{entry.etag}"',
                )  # fmt: skip
                data = self._content(answer)
                if len(data) != size:
                    raise DamagedError
            except ClientError:
                raise
            except (DamagedError, OSError, *s3.ERRORS):
                if turn + 1 == TRIES:
                    raise
            else:
                return data
        raise StoppedError

    def _content(self, answer: dict[str, Any]) -> bytearray:
        """The body of an answer, once in memory; a slow one does not keep the run from stopping."""
        content = bytearray()
        with answer["Body"] as body:
            while piece := body.read(1 << 20):
                if self.stopped.is_set():
                    raise StoppedError
                content += piece
        return content

    def _head(self, entry: Entry, **more: Any) -> dict[str, Any]:
        wanted = {"Bucket": self.source.bucket, "Key": self._key(entry), "IfMatch": f'"{entry.etag}"'}
        head: dict[str, Any] = _changes(self.source.client.head_object, **wanted, **more)
        return head

    def _first_part_bytes(self, entry: Entry) -> int | None:
        """Size of the first part that the source was uploaded in, where its server tells."""
        if entry.parts is None:
            return None
        try:
            return int(self._head(entry, PartNumber=1)["ContentLength"])
        except (ChangedError, ClientError):
            # Not every server knows parts of finished objects.
            return None

    def _tags(self, entry: Entry, count: int) -> dict[str, str]:
        """Tags of the source, as a parameter of an upload; ``count`` is how many it has, as far as is known."""
        if not count:
            return {}
        try:
            found = self.source.client.get_object_tagging(Bucket=self.source.bucket, Key=self._key(entry))["TagSet"]
        except ClientError as error:
            if s3.code(error) in _NOT_KNOWN or s3.code(error).startswith("NoSuchTagSet"):
                return {}
            raise
        encoded = urlencode([(tag["Key"], tag["Value"]) for tag in found])
        return {"Tagging": encoded} if encoded else {}


# --- all of them ------------------------------------------------------------------------------------------------------


def run_queue(
    entries: Iterator[Entry],
    act: Callable[[Entry], Any],
    *,
    jobs: int,
    done: Callable[[Entry, Any], bool],
    clock: Clock,
    stopped: threading.Event,
    tell: Callable[[], None],
) -> None:
    """Have ``act`` done to every entry, ``jobs`` at a time; ``done`` gets each result in this thread.

    It begins nothing more once ``done`` said False or the time is over, and what is under way is told to stop.
    """
    with ThreadPoolExecutor(jobs, thread_name_prefix="object") as pool:
        waiting: dict[Future[Any], Entry] = {}
        try:
            goes_on, more = True, True
            while more or waiting:
                while goes_on and more and len(waiting) < 2 * jobs:
                    entry = next(entries, None)
                    if entry is None:
                        more = False
                    else:
                        waiting[pool.submit(act, entry)] = entry
                for future in wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED).done:
                    goes_on = done(waiting.pop(future), future.result()) and goes_on
                tell()
                if not goes_on or clock.is_over():
                    goes_on = more = False
                    stopped.set()
                    for future in [each for each in waiting if each.cancel()]:
                        del waiting[future]
        finally:
            # Also when a signal ended the wait: objects under way see this and leave.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def delete(store: s3.Store, keys: Iterator[str]) -> Iterator[int]:
    """Delete objects, which in a bucket with versions only hides them; how many so far, batch by batch.

    :raises RunbookError: some were refused; ``deleted_objects`` in its context says how many were deleted
    """
    deleted = 0
    while batch := [{"Key": key} for _, key in zip(range(DELETE_BATCH), keys, strict=False)]:
        with s3.explained(f"Deleting from {store}"):
            answer = store.client.delete_objects(Bucket=store.bucket, Delete={"Objects": batch, "Quiet": True})
        errors = answer.get("Errors", [])
        deleted += len(batch) - len(errors)
        if errors:
            raise RunbookError(
                f"{store} refused to delete {count(len(errors), 'object')} ({errors[0].get('Code', '?')}); see its "
                f"policy.",
                deleted_objects=deleted,
            )
        yield deleted


def abort_leftovers(store: s3.Store, prefix: str, *, older_than_s: int) -> int:
    """Free the parts that dead runs left behind; how many uploads they were."""
    aborted = 0
    for key, upload_id, begun_at in store.uploads(prefix):
        if time.time() - begun_at.timestamp() > older_than_s:
            store.abort_upload(key, upload_id)
            aborted += 1
    return aborted


# --- what surrounds them ----------------------------------------------------------------------------------------------


def versioning(store: s3.Store) -> State:
    """Whether the bucket keeps versions; unknown where its server does not say."""
    try:
        status = store.client.get_bucket_versioning(Bucket=store.bucket).get("Status")
    except s3.ERRORS as error:
        return _unknown(error, f"Asking {store} for its versioning")
    return "on" if status == "Enabled" else "off"


def replication(store: s3.Store) -> State:
    """Whether the bucket has a rule of replication that is switched on; unknown where its server does not say."""
    try:
        found = store.client.get_bucket_replication(Bucket=store.bucket)["ReplicationConfiguration"]
    except ClientError as error:
        if s3.code(error) == "ReplicationConfigurationNotFoundError":
            return "off"
        return _unknown(error, f"Asking {store} for its replication")
    except s3.ERRORS as error:
        return _unknown(error, f"Asking {store} for its replication")
    return "on" if any(rule.get("Status") == "Enabled" for rule in found.get("Rules", [])) else "off"


def _unknown(error: Exception, what: str) -> State:
    """An answer that says that the server does not know, or will not tell; others are errors."""
    if isinstance(error, ClientError) and (s3.code(error) in _NOT_KNOWN or s3.code(error) in _UNTOLD):
        return "unknown"
    with s3.explained(what):
        raise error


class StorageRows:
    """Supabase's table ``storage.objects``, as far as it is about one bucket."""

    def __init__(self, session: Session, bucket_id: str) -> None:
        self._session = session
        self._bucket_id = bucket_id

    def are_there(self) -> bool:
        """Whether there is such a table.

        :raises RunbookError: it may not be read, or not all of its rows
        """
        user = self._session.target.user
        if not self._session.query("SELECT 1 AS there FROM pg_namespace WHERE nspname = 'storage'"):
            return False
        if not self._session.query("SELECT has_schema_privilege('storage', 'USAGE') AS may")[0]["may"]:
            raise RunbookError(f"storage.objects: user {user!r} may not look; grant USAGE on schema storage.")
        found = self._session.query(
            "SELECT has_table_privilege(c.oid, 'SELECT') AS may, row_security_active(c.oid) AS hidden FROM pg_class c"
            " WHERE c.oid = to_regclass('storage.objects')"
        )
        if not found:
            return False
        if not found[0]["may"]:
            raise RunbookError(f"storage.objects: user {user!r} may not read it; grant SELECT on it.")
        if found[0]["hidden"]:
            raise RunbookError(
                f"storage.objects: row-level security hides rows from user {user!r}, so no comparison would be whole; "
                "let a user with BYPASSRLS do it."
            )
        return True

    def buckets(self) -> dict[str, int]:
        """How many rows there are, by the bucket that they are of; all buckets, not this one alone."""
        query = "SELECT bucket_id, count(*) AS rows FROM storage.objects GROUP BY bucket_id"
        with explained_rows():
            return {str(row["bucket_id"]): int(row["rows"]) for row in self._session.query(query)}

    def all(self) -> Iterator[list[Row]]:
        """All rows, in batches."""
        yield from self._read("")

    def some(self, keys: list[str]) -> Iterator[list[Row]]:
        """The rows of these names, as they are now."""
        yield from self._read(" AND name = ANY(%s)", keys)

    def _read(self, condition: str, *values: object) -> Iterator[list[Row]]:
        query = "SELECT name, metadata ->> 'size', metadata ->> 'eTag' FROM storage.objects WHERE bucket_id = %s"
        with (
            explained_rows(),
            self._session.transaction(),
            self._session.connection.cursor(name="runbook_storage_objects") as cursor,
        ):
            cursor.itersize = BATCH
            cursor.execute(query + condition, (self._bucket_id, *values))
            while rows := cursor.fetchmany(BATCH):
                yield [Row.of(*row) for row in rows]


@contextmanager
def explained_rows() -> Iterator[None]:
    """Turn psycopg2's errors into one sentence."""
    try:
        yield
    except psycopg2.Error as error:
        raise RunbookError(
            f"Reading storage.objects failed: {ServerError.of(error).reason}; see to that, and run again."
        ) from None


#: Objects of the destination that the source does not hold; copies that are not there as they were written.
EXTRA = "FROM copy c LEFT JOIN source s USING (key) WHERE s.key IS NULL"
LOST = (
    "FROM work w LEFT JOIN proof p USING (key) WHERE w.state = 'copied'"
    " AND (p.key IS NULL OR p.size <> w.made_size OR p.etag <> w.made_etag)"
)
#: Rows of storage.objects whose object is not there; objects without a row; both, and they differ.
MISSING = "FROM stored r LEFT JOIN source s USING (key) WHERE s.key IS NULL"
ORPHAN = "FROM source s LEFT JOIN stored r USING (key) WHERE r.key IS NULL"
RECOVERABLE = f"FROM copy WHERE key IN (SELECT key {MISSING})"
DIFFERING = "FROM stored r JOIN source s USING (key) WHERE r.size <> s.size OR r.etag <> s.etag"
DIFFERENCES = {"missing": MISSING, "orphan": ORPHAN, "differing": DIFFERING}


def store_rows(table: Table, batches: Iterable[list[Row]], prefix: str) -> None:
    """Note rows whose names begin with ``prefix``, under what follows it."""
    for rows in batches:
        found = (row for row in rows if row.key.startswith(prefix) and row.key != prefix)
        table.add("stored", (replace(row, key=row.key.removeprefix(prefix)) for row in found))


def look_again(table: Table, keys: Iterable[str], look_at: Callable[[str], Entry | None]) -> None:
    """Put objects as they are now in the place of what the listing said of them."""
    doubts = list(keys)
    with ThreadPoolExecutor(_LOOKS) as pool:
        fresh = [found for found in pool.map(look_at, doubts) if found]
    table.forget("source", doubts)
    table.add("source", fresh)


def differences(table: Table) -> dict[str, int]:
    """How ``source`` and the rows of ``storage.objects`` differ: numbers, as a :class:`Seen` names them."""
    return {
        name: int(table.one(f"SELECT count(*) {where}")[0])
        for name, where in (
            ("rows", "FROM stored"),
            ("missing_rows", MISSING),
            ("recoverable_rows", RECOVERABLE),
            ("orphan_objects", ORPHAN),
            ("differing_rows", DIFFERING),
        )
    }


def differing_keys(table: Table, most: int) -> Iterator[tuple[str, str]]:
    """What differs, as kind and key, the first ``most`` of each kind."""
    for kind, where in DIFFERENCES.items():
        for (key,) in table.rows(f"SELECT key {where} ORDER BY key LIMIT {most}"):
            yield kind, key


# --- small things -----------------------------------------------------------------------------------------------------


def _changes(call: Callable[..., Any], **wanted: Any) -> Any:
    """Call S3 with a condition on the ETag.

    :raises ChangedError: the condition does not hold any more
    """
    try:
        return call(**wanted)
    except ClientError as error:
        if s3.code(error) in _CHANGED:
            raise ChangedError from None
        raise


def _carried(answer: dict[str, Any], entry: Entry) -> dict[str, Any]:
    """What an object's copy is given besides the content: its headers, its metadata, its source's ETag."""
    kept = {name: answer[name] for name in _KEPT if answer.get(name)}
    if "ExpiresString" in answer:
        # botocore hands the header over as it was; the parsed one is lost where it is no date.
        kept.pop("Expires", None)
        with suppress(ValueError, TypeError):
            kept["Expires"] = parsedate_to_datetime(answer["ExpiresString"])
    return kept | {"Metadata": answer.get("Metadata", {}) | {SOURCE_ETAG: entry.etag}}


def _plain(answer: dict[str, Any]) -> bool:
    """Whether the ETag is one of the content, and not of its encrypted form."""
    return not answer.get("SSECustomerAlgorithm") and answer.get("ServerSideEncryption") in (None, "AES256")


def _passes(error: Exception, name: str) -> bool:
    """Whether it is worth another try."""
    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return name in _PASSING or not 400 <= status < 500
    return name != "ParamValidationError"


def _pause_s(turn: int) -> float:
    return PAUSE_S * float(2 ** (turn - 1)) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter is no secret
