"""The manifest of a logical backup: what was backed up, from where, and how to tell that it is all there.

A backup is a folder of objects, ``<prefix>/<database>/<backup_id>/``. ``manifest.json`` is written last: a folder
without it is no backup. The manifest names every object with its size and SHA-256, and every table with its rows and
content hash, and carries a SHA-256 of itself, so that an edited one is noticed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import typed

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
#: Object that says whose a folder is; written first, and only if it is not there.
CLAIM_NAME = "started.json"
MAX_CLAIM_BYTES = 1 << 16
#: Objects of a backup's folder by which a run keeps it: ``hold-<what for>.json``.
HOLD_PREFIX = "hold-"
#: A larger one is refused before it is read: a table costs some 200 bytes.
MAX_MANIFEST_BYTES = 256 << 20

_ID_FORMAT = "%Y-%m-%dT%H-%M-%SZ"
_ID = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")


@dataclass(frozen=True)
class Source:
    """The database that was backed up, and the moment of the snapshot."""

    system_identifier: str
    database: str
    server_version: str
    server_version_num: int
    encoding: str
    collate: str
    ctype: str
    locale_provider: str
    icu_locale: str | None
    owner: str
    #: ISO 8601, UTC, by the server's clock.
    snapshot_at: str
    lsn: str | None
    size_bytes: int
    #: Rules by which an ICU locale is made to sort otherwise, from PostgreSQL 16 on.
    icu_rules: str | None = None


@dataclass(frozen=True)
class Tools:
    """What made the backup."""

    pg_dump: str
    project: str
    #: ``zstd:<level>``.
    compression: str
    #: ``none``, ``age`` or ``gpg``: what the objects are wrapped in, outside the compression.
    encryption: str


@dataclass(frozen=True)
class Extension:
    """An installed extension."""

    name: str
    version: str
    schema: str


@dataclass(frozen=True)
class Object:
    """One object of the backup: ``key`` is whole, ``size_bytes`` and ``sha256`` are of what is stored."""

    key: str
    kind: Literal["globals", "schema", "data"]
    #: Number of the data stream; 0 for the others.
    stream: int
    #: Number of the segment within its stream, from 0.
    part: int
    size_bytes: int
    sha256: str
    version_id: str | None


@dataclass(frozen=True)
class TableEntry:
    """One table; ``hash`` is a decimal number as text, None where hashing was switched off."""

    schema: str
    name: str
    rows: int | None
    hash: str | None
    size_bytes: int


@dataclass(frozen=True)
class SequenceEntry:
    """One sequence, as ``(last_value,is_called)``: when the dump began, and when it was through.

    A sequence is in no transaction, and no snapshot shows it: what the dump carries is one of the two, or lies between.
    """

    schema: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class LargeObjects:
    """All large objects together."""

    count: int
    hash: str | None


@dataclass(frozen=True)
class HashInfo:
    """How tables were hashed; ``probe`` tells whether another server hashes in the same way."""

    method: str
    coverage: Literal["all", "sampled", "none"]
    probe: str


@dataclass(frozen=True)
class Manifest:
    """Everything that ``manifest.json`` says, but for its own digest."""

    schema_version: int
    backup_id: str
    kind: Literal["logical"]
    started_at: str
    finished_at: str
    duration_s: float
    source: Source
    tools: Tools
    #: Roles that own something or are granted something.
    roles: tuple[str, ...]
    extensions: tuple[Extension, ...]
    objects: tuple[Object, ...]
    tables: tuple[TableEntry, ...]
    large_objects: LargeObjects
    hash: HashInfo
    #: Bytes that pg_dump gave, before compression.
    dump_bytes: int
    #: What a reader should know: what the programs warned of, what could not be removed.
    warnings: tuple[str, ...] = ()
    #: What is known not to be in it, one phrase each, as :func:`~..backup_gaps.sentences` says it.
    missing: tuple[str, ...] = ()
    #: Tables, as ``schema.table``, that it was told to leave the rows of.
    without_rows: tuple[str, ...] = ()
    #: None where they were not read.
    sequences: tuple[SequenceEntry, ...] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all objects as they are stored."""
        return sum(each.size_bytes for each in self.objects)

    def data_streams(self) -> dict[int, list[Object]]:
        """Segments of every data stream, in order."""
        streams: dict[int, list[Object]] = {}
        for each in sorted(self.objects, key=lambda found: (found.stream, found.part)):
            if each.kind == "data":
                streams.setdefault(each.stream, []).append(each)
        return streams

    def one(self, kind: Literal["globals", "schema"]) -> Object | None:
        """The single object of that kind; None where there is none."""
        return next((each for each in self.objects if each.kind == kind), None)

    def to_bytes(self) -> bytes:
        """The manifest as it is stored, with its own digest in ``sha256``."""
        content = dataclasses.asdict(self)
        return (json.dumps(content | {"sha256": self_digest(content)}, indent=1, ensure_ascii=False) + "\n").encode()


def self_digest(content: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything but the digest itself."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def parse(text: bytes | str, *, where: str) -> Manifest:
    """Read a manifest and refuse whatever is not exactly one.

    :param where: how the sentence calls it: the object's address
    :raises RunbookError: no JSON, a future schema_version, a wrong digest, a missing or ill-typed key, an empty or
        doubled object
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise RunbookError(f"{where} is no JSON object, so this is no backup; take another one.")
    version = content.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RunbookError(f"{where}: schema_version is {version!r}, not a number; take another backup.")
    if version > SCHEMA_VERSION:
        raise RunbookError(
            f"{where} has schema_version {version}, this project reads up to {SCHEMA_VERSION}; use the newer version "
            "of the project that wrote it."
        )
    if content.get("sha256") != self_digest(content):
        raise RunbookError(
            f"{where} does not match its own SHA-256, so it was edited or damaged; restore an earlier version of the "
            "object, or take another backup."
        )
    try:
        manifest = typed.read(Manifest, {key: value for key, value in content.items() if key != "sha256"}, "manifest")
    except typed.FieldError as error:
        raise RunbookError(f"{where}: {error}; take another backup.") from None
    assert isinstance(manifest, Manifest)  # noqa: S101 - read gives what it was asked for
    problem = _problem(manifest)
    if problem:
        raise RunbookError(f"{where}: {problem}; take another backup.")
    return manifest


def _problem(manifest: Manifest) -> str | None:
    """What contradicts itself in a manifest whose every field is well-formed."""
    if not is_backup_id(manifest.backup_id):
        return f"backup_id {manifest.backup_id!r} is no UTC time"
    keys = [each.key for each in manifest.objects]
    if len(set(keys)) != len(keys):
        return "an object stands in it twice"
    names = [(each.schema, each.name) for each in manifest.tables]
    if len(set(names)) != len(names):
        return "a table stands in it twice"
    if manifest.one("schema") is None or not manifest.data_streams():
        return "it names no schema or no data"
    for stream, segments in manifest.data_streams().items():
        if [each.part for each in segments] != list(range(len(segments))):
            return f"data stream {stream} lacks a segment"
    if any(f"/{manifest.backup_id}/" not in f"/{key}" for key in keys):
        return "an object of another backup stands in it"
    return None


# Claims -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """What the run that makes a backup says of itself before it begins.

    ``token`` tells two claims apart that are equal otherwise.
    """

    run_id: str = ""
    token: str = ""
    #: Seconds after which the run has ended, one way or the other.
    deadline_s: int = 0
    #: The database that is backed up.
    system_identifier: str = ""
    database: str = ""
    #: The process that makes the backup, as ``drivers/process.py`` names one.
    process: str = ""

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return (json.dumps(dataclasses.asdict(self)) + "\n").encode()


_CLAIM_WORDS = ("run_id", "token", "system_identifier", "database", "process")


def parse_claim(text: bytes | str) -> Claim:
    """Read a claim; what it does not say, or says in another form, is empty: older ones said less."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return Claim()
    words = {name: said[name] for name in _CLAIM_WORDS if isinstance(said.get(name), str)}
    deadline_s = said.get("deadline_s")
    return Claim(**words, deadline_s=deadline_s if isinstance(deadline_s, int) and deadline_s > 0 else 0)


# Names --------------------------------------------------------------------------------------------------------------


def backup_id(started: datetime) -> str:
    """Name of a backup: the UTC time when it began.

    >>> from datetime import UTC, datetime
    >>> backup_id(datetime(2026, 11, 23, 3, 0, 0, tzinfo=UTC))
    '2026-11-23T03-00-00Z'
    """
    return started.astimezone(UTC).strftime(_ID_FORMAT)


def is_backup_id(text: str) -> bool:
    """Whether ``text`` names a backup."""
    return started_at(text) is not None


def started_at(text: str) -> datetime | None:
    """When the backup of that name began; None where the text names none."""
    if not _ID.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, _ID_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def folder_name(database: str) -> str:
    """A database's name as a part of a key; ``urllib.parse.unquote`` gives the name back.

    Encoded as in a URL is what an S3 server, a proxy or a client may take for something else: the slash and the percent
    sign, a backslash, what cannot be seen, blanks at the ends, names of dots alone (which are folders of a path), and
    letters in a form that some file systems write in another one (``e`` and a combining accent).

    >>> folder_name("mental_scribe"), folder_name(".."), folder_name("a/b "), folder_name("100%")
    ('mental_scribe', '%2E%2E', 'a%2Fb%20', '100%25')
    """
    composed = unicodedata.is_normalized("NFC", database)
    inner = database.strip()
    first = database.find(inner)
    dots = not database.strip(".")

    def encoded(position: int, letter: str) -> bool:
        if letter.isascii() and letter.isprintable():
            at_end = not first <= position < first + len(inner)
            return letter in "%/\\" or at_end or dots
        return not (composed and letter.isprintable())

    return "".join(
        "".join(f"%{byte:02X}" for byte in letter.encode(errors="surrogateescape")) if encoded(position, letter)
        else letter
        for position, letter in enumerate(database)
    )  # fmt: skip


def database_folder(prefix: str, database: str) -> str:
    """Where all backups of a database lie: ``<prefix>/<database>/``, the name as :func:`folder_name` writes it."""
    return "/".join(part for part in (prefix.strip("/"), folder_name(database)) if part) + "/"


def database_folders(prefix: str, database: str) -> list[str]:
    r"""Where they may lie, the right place first; then where earlier versions of this project put them.

    >>> database_folders("p", "shop"), database_folders("p", "a\\b")[0]
    (['p/shop/'], 'p/a%5Cb/')
    """
    right = database_folder(prefix, database)
    earlier = "/".join(
        part for part in (prefix.strip("/"), database.replace("%", "%25").replace("/", "%2F")) if part
    ) + "/"  # fmt: skip
    # A folder that was called . or .. lay wherever the server's path led.
    return [right] if earlier == right or not database.strip(".") else [right, earlier]


def folder(prefix: str, database: str, backup: str) -> str:
    """Where one backup lies: ``<prefix>/<database>/<backup_id>/``."""
    return f"{database_folder(prefix, database)}{backup}/"
