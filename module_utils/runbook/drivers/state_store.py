"""The state store: a bucket whose server keeps conditions, or a folder where there is one bastion only.

Both keep the same promises. A write happens only where the document is as the writer read it, and of two writers at
once one wins, and the other is told who. A write whose answer was lost is read back, and known by its token. What
cannot be read raises an error whose status is ``unknown``: ``None`` means that the store answered, and has no such
document. Every act ends within :data:`ACT_S`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.state import (
    MAX_BYTES,
    SUFFIX,
    Document,
    check_name,
    check_prefix,
    name_of,
    parse,
    serialise,
)
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_T = TypeVar("_T")

#: Seconds after which an act is given up, whatever it waits for: a name server, a disk that is gone, a crawling body.
ACT_S = 45.0
#: Seconds that one request may stay without an answer.
_ANSWER_S = 5
#: Seconds to wait for another process that writes to the folder.
_LOCK_S = 10.0
#: How often a write is tried again that met another one and found the document unchanged.
_ATTEMPTS = 5
#: A version that no document has.
_NEVER = '"00000000000000000000000000000000"'


@dataclass(frozen=True)
class Reading:
    """What the store said."""

    #: None where there is no such document.
    document: Document | None
    #: Names these very bytes; empty where there is no document.
    version: str
    #: The store's clock as it answered.
    now: datetime


class ConflictError(RunbookError):
    """The document is not as the writer read it; nothing was written. ``current`` is what is there now."""

    def __init__(self, name: str, current: Reading) -> None:
        found = current.document
        what = "it is gone" if found is None else f"{found.writer} wrote it at {found.written_at}"
        super().__init__(
            f"State store: {name} was changed meanwhile, {what}; nothing was written. Read it again, and decide again.",
            code="state_conflict",
        )
        self.current = current


class StateStore(Protocol):
    """What both stores can do."""

    def read(self, name: str) -> Reading:
        """A document, or that there is none.

        :raises RunbookError: the store cannot be asked, or the document cannot be read; the status is ``unknown``
        """

    def create(self, document: Document) -> str:
        """Write a document that is not there yet; its version.

        :raises ConflictError: it is there
        :raises RunbookError: whether it was written is unknown, or it may not be
        """

    def replace(self, document: Document, version: str) -> str:
        """Write a document in the place of one that is unchanged; its new version.

        :raises ConflictError: it is changed, or gone
        :raises RunbookError: whether it was written is unknown, or it may not be
        """

    def delete(self, name: str, version: str) -> None:
        """Remove a document that is unchanged; one that is gone already is no error.

        :raises ConflictError: it is changed
        :raises RunbookError: whether it was removed is unknown, or it may not be
        """

    def names(self, prefix: str) -> list[str]:
        """Names of the documents that begin with ``prefix``, in order; what is not ours is left out.

        :raises RunbookError: the store cannot be asked
        """


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that name the store; documented in ``doc_fragments/runbook_state.py``."""
    store = {f"state_{name}": {**spec, "required": False} for name, spec in s3.argument_spec().items()}
    return store | {"state_prefix": {"type": "str"}, "state_directory": {"type": "path"}}


def from_settings(settings: Mapping[str, Any], environment: str) -> StateStore | None:
    """The store that an inventory names by its variables ``state_…``; None where it names none.

    :param environment: the inventory's ``runbook_environment``
    :raises RunbookError: it names two, or one that is not there
    """
    given = {name: value for name, value in settings.items() if value not in (None, "")}
    bucket, directory = given.pop("state_bucket", None), given.pop("state_directory", None)
    if bucket and directory:
        raise RunbookError("state_bucket and state_directory: both are set; set one of them.")
    if not bucket and not directory:
        return None
    if not environment:
        raise RunbookError("runbook_environment: it is empty; the state store has to know whose documents it holds.")
    if directory:
        if given:
            raise RunbookError(f"{', '.join(sorted(given))}: of no use beside state_directory; take it out.")
        return Folder(Path(str(directory)), environment)
    prefix = str(given.pop("state_prefix", "")).strip("/")
    options = {name: given.get(f"state_{name}") for name in s3.argument_spec()} | {"bucket": bucket}
    return Bucket(s3.Store.from_params(options, connections=2, answer_s=_ANSWER_S), prefix, environment)


def _bounded(what: str, act: Callable[[], _T]) -> _T:
    """The result of an act, which is given up after :data:`ACT_S`.

    A thread of its own, because neither a look-up of a name nor a call to a dead disk can be ended from outside.
    """
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(act())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name="state store", daemon=True)
    thread.start()
    thread.join(ACT_S)
    if failure:
        raise failure[0]
    if not outcome:
        raise _unknown(what, f"no answer came within {ACT_S:.0f} s; look at the store and at the way to it")
    return outcome[0]


def _unknown(what: str, why: str) -> RunbookError:
    return UnreachableError(
        f"State store: {what} failed: {why}. What became of it is unknown.", code="state_unreachable"
    )


class Bucket:
    """Documents as objects. Two requests at once are told apart by the server, with If-None-Match and If-Match."""

    def __init__(self, store: s3.Store, prefix: str, environment: str) -> None:
        self._store = store
        self._prefix = f"{prefix}/" if prefix else ""
        self._environment = environment
        #: What this server was seen to keep conditions for.
        self._proven: set[str] = set()

    def __str__(self) -> str:
        return self._store.url(self._prefix)

    def read(self, name: str) -> Reading:
        """As :meth:`StateStore.read`."""
        key = self._key(name)
        return _bounded(f"reading {name}", lambda: self._read(name, key))

    def create(self, document: Document) -> str:
        """As :meth:`StateStore.create`."""
        return self._write(document, None)

    def replace(self, document: Document, version: str) -> str:
        """As :meth:`StateStore.replace`."""
        return self._write(document, version)

    def delete(self, name: str, version: str) -> None:
        """As :meth:`StateStore.delete`."""
        key = self._key(name)

        def act() -> None:
            self._prove("delete")
            try:
                self._request("delete_object", Key=key, IfMatch=version)
            except s3.ERRORS as error:
                found = self._after(f"removing {name}", name, key, error)
                if found.document is None:
                    return
                if found.version != version:
                    raise ConflictError(name, found) from None
                raise _unknown(f"removing {name}", s3.reason(error)) from None

        _bounded(f"removing {name}", act)

    def names(self, prefix: str) -> list[str]:
        """As :meth:`StateStore.names`."""
        wanted = check_prefix(prefix)

        def act() -> list[str]:
            try:
                found = [each.key for each in self._store.entries(self._prefix + wanted)]
            except RunbookError as error:
                raise _unknown(f"listing {wanted}", error.message.rstrip(".")) from None
            named = (name_of(key.removeprefix(self._prefix)) for key in found)
            return sorted(name for name in named if name is not None)

        return _bounded(f"listing {wanted}", act)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{check_name(name)}{SUFFIX}"

    def _request(self, operation: str, **wanted: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self._store.client, operation)(Bucket=self._store.bucket, **wanted)
        return answer

    def _read(self, name: str, key: str) -> Reading:
        try:
            answer = self._request("get_object", Key=key)
            if int(answer["ContentLength"]) > MAX_BYTES:
                answer["Body"].close()
                data = bytes(MAX_BYTES + 1)  # the rule refuses it by its length
            else:
                data = answer["Body"].read()
        except ClientError as error:
            # A bucket that is gone is no document that is absent.
            # Nor is what another web server does not have.
            if s3.code(error) != "NoSuchKey":
                raise _unknown(f"reading {name}", s3.reason(error)) from None
            return Reading(None, "", _server_time(error.response, name))
        except (*s3.ERRORS, OSError) as error:
            raise _unknown(f"reading {name}", s3.reason(error)) from None
        return Reading(parse(name, data), str(answer["ETag"]), _server_time(answer, name))

    def _write(self, document: Document, version: str | None) -> str:
        name, data = document.name, serialise(document)
        key = self._key(name)
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        what = f"writing {name}"

        def act() -> str:
            self._prove("put")
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    answer = self._request(
                        "put_object", Key=key, Body=data, ContentType="application/json", **condition
                    )
                    return str(answer["ETag"])
                except s3.ERRORS as error:
                    found = self._after(what, name, key, error)
                    if found.document is not None and found.document.token == document.token:
                        return found.version
                    if found.version != (version or ""):
                        raise ConflictError(name, found) from None
                    # Another write was under way and came to nothing: S3 asks to try again.
                    busy = isinstance(error, ClientError) and s3.code(error) in s3.TAKEN
                    if not busy or attempt == _ATTEMPTS:
                        raise _unknown(what, s3.reason(error)) from None
                    time.sleep(0.1 * 2**attempt)
            raise AssertionError

        return _bounded(what, act)

    def _after(self, what: str, name: str, key: str, error: Exception) -> Reading:
        """What is there after a write that failed, or whose answer was lost.

        :raises RunbookError: that cannot be known either; it says what failed first
        """
        try:
            return self._read(name, key)
        except RunbookError as second:
            if second.code == "state_unreachable":
                raise _unknown(what, s3.reason(error)) from None
            raise

    def _prove(self, act: str) -> None:
        """See that the bucket is this environment's, and that its server keeps conditions.

        A server that does not know them would let both of two writers win. So it is asked for a write that a server
        which keeps them refuses.
        """
        if act in self._proven:
            return
        try:
            self._store.require_environment(self._environment)
        except RunbookError as error:
            if "s3_code" in error.context:
                raise _unknown("asking for the bucket's tag", error.message.rstrip(".")) from None
            raise
        key = f"{self._prefix}condition-probe"
        try:
            if act == "put":
                self._request("put_object", Key=key, Body=b"", IfMatch=_NEVER)
            else:
                self._request("delete_object", Key=key, IfMatch=_NEVER)
        except ClientError as error:
            if s3.code(error) in (*s3.TAKEN, "NoSuchKey"):
                self._proven.add(act)
                return
            raise _unknown("asking whether the server keeps conditions", s3.reason(error)) from None
        except s3.ERRORS as error:
            raise _unknown("asking whether the server keeps conditions", s3.reason(error)) from None
        with suppress(*s3.ERRORS):
            self._request("delete_object", Key=key)
        raise RunbookError(
            f"state_bucket: the server of {self} does not keep If-Match, so two writers at once would both win; name a "
            "bucket of a server that does, or a state_directory where there is one bastion only.",
            code="state_no_conditions",
        )


def _server_time(answer: Mapping[str, Any], name: str) -> datetime:
    """The clock of the server that answered; what expires is judged by it, and by no bastion's."""
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        found = parsedate_to_datetime(said)
    except ValueError:
        raise _unknown(f"reading {name}", "the server does not say what time it is (header Date)") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


class Folder:
    """Documents as files, for one bastion: a lock keeps writers apart, a rename makes a write whole.

    The folder is made by a person, once: a disk that is not mounted must not look like a store without documents. The
    environment is a folder below it, as a bucket carries a tag.
    """

    def __init__(self, root: Path, environment: str) -> None:
        self._root = root
        self._base = root / environment

    def __str__(self) -> str:
        return str(self._base)

    def read(self, name: str) -> Reading:
        """As :meth:`StateStore.read`."""
        path = self._path(name)

        def act() -> Reading:
            with _explained(f"reading {name}"):
                self._require_root()
                return self._read(name, path)

        return _bounded(f"reading {name}", act)

    def create(self, document: Document) -> str:
        """As :meth:`StateStore.create`."""
        return self._write(document, "")

    def replace(self, document: Document, version: str) -> str:
        """As :meth:`StateStore.replace`."""
        return self._write(document, version)

    def delete(self, name: str, version: str) -> None:
        """As :meth:`StateStore.delete`."""
        path = self._path(name)

        def act() -> None:
            with _explained(f"removing {name}"), self._locked():
                found = self._read(name, path)
                if found.document is None:
                    return
                if found.version != version:
                    raise ConflictError(name, found)
                path.unlink()
                _sync(path.parent)

        _bounded(f"removing {name}", act)

    def names(self, prefix: str) -> list[str]:
        """As :meth:`StateStore.names`."""
        kind = check_prefix(prefix).partition("/")[0]

        def act() -> list[str]:
            with _explained(f"listing {prefix}"):
                self._require_root()
                try:
                    files = [path.name for path in (self._base / kind).iterdir()]
                except FileNotFoundError:
                    return []
            named = (name_of(f"{kind}/{file}") for file in files)
            return sorted(name for name in named if name is not None and name.startswith(prefix))

        return _bounded(f"listing {prefix}", act)

    def _path(self, name: str) -> Path:
        return self._base / f"{check_name(name)}{SUFFIX}"

    def _require_root(self) -> None:
        try:
            found = self._root.lstat()
        except FileNotFoundError:
            raise _unknown(
                "opening it", f"state_directory {self._root} is not there; mount it, or make it with mkdir -m 700"
            ) from None
        if not stat.S_ISDIR(found.st_mode):
            raise RunbookError(f"state_directory: {self._root} is no folder; name one.", code="state_folder")
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise RunbookError(
                f"state_directory: {self._root} is open to others than its user (mode {found.st_mode & 0o777:o}, user "
                f"{found.st_uid}); make it this user's alone with chown and chmod 700.",
                code="state_folder",
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only writer; the kernel gives the lock back when a process dies."""
        self._require_root()
        handle = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            until = time.monotonic() + _LOCK_S
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise _unknown(
                            "waiting for its lock", f"another process holds {self._root}/.lock for {_LOCK_S:.0f} s"
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(handle)

    def _read(self, name: str, path: Path) -> Reading:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return Reading(None, "", datetime.now(UTC))
        with os.fdopen(handle, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        return Reading(parse(name, data), _version(data), datetime.now(UTC))

    def _write(self, document: Document, version: str) -> str:
        name, data = document.name, serialise(document)
        path = self._path(name)

        def act() -> str:
            with _explained(f"writing {name}"), self._locked():
                found = self._read(name, path)
                if found.version != version:
                    raise ConflictError(name, found)
                for folder in (self._base, path.parent):
                    folder.mkdir(mode=0o700, exist_ok=True)
                # One name for every write: what a killed writer left behind is overwritten, under the lock.
                new = path.with_name(f".{path.name}.new")
                with suppress(FileNotFoundError):
                    new.unlink()
                handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(path)
                _sync(path.parent)
            return _version(data)

        return _bounded(f"writing {name}", act)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync(folder: Path) -> None:
    """Have the disk know which files are in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or type(error).__name__
        raise _unknown(what, f"{why} ({error.filename}); look at the folder, its rights and its disk") from None
