"""What the state store holds: small JSON documents that outlive the process that wrote them.

A document has a name, a body, who wrote it, and a token of its own. Because of the token no two writes have the same
bytes: whoever reads its own token back knows that its write happened, although the answer was lost, and a version (a
hash of the bytes) never returns once it was replaced.

Nothing here reads a clock. What ends by itself is judged by the store's clock, which every reader shares.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.lease import HELD, Lease, Life, decide
from ansible.module_utils.runbook.rules.record import redact, secret_values
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible.module_utils.runbook.rules.target import Target

#: By which a document is known as one of ours.
SCHEMA = "runbook-state"
SCHEMA_VERSION = 1
#: Of a document whose body is compressed, as it would be larger than :data:`MAX_BYTES`.
_COMPRESSED_VERSION = 2
#: A document is small. The record of a long run has some hundred kilobytes, that of a run on many hosts a few kilobytes
#: for each.
MAX_BYTES = 4 << 20
#: What a body may have once it is no more compressed: a bomb is none of ours.
MAX_BODY_BYTES = 128 << 20
#: Codes of what is wrong with a document that is to be written, and not with the store.
REFUSED = ("state_secret", "state_json", "state_too_large")
#: The kinds of documents; each is a folder in the store.
KINDS = (
    "announcements",
    "boards",
    "changes",
    "contacts",
    "env",
    "keys",
    "leases",
    "logs",
    "records",
    "reviews",
    "rollbacks",
    "updates",
    "web",
)
SUFFIX = ".json"
#: The lease of a run that renews it no more ends by itself after this time.
LEASE_TTL_S = 900

#: No dot or dash at the beginning, no slash: a name cannot leave its folder, and no program takes it for an option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PREFIX = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,127})?")
#: As Ansible and the record write what they blotted out.
_HIDDEN = frozenset({"********", "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"})


@dataclass(frozen=True)
class Document:
    """One document, as it is or will be in the store."""

    #: ``<kind>/<name>``.
    name: str
    body: dict[str, Any]
    #: The run that wrote it, and where that run was started: ``<host>/<pid>``.
    run_id: str
    controller: str
    #: By the clock of the machine that wrote it; for people, nothing is decided by it.
    written_at: str
    #: Drawn for this one write.
    token: str

    @property
    def writer(self) -> str:
        """Who wrote it, for a sentence."""
        return f"run {self.run_id} on {self.controller}"


def check_name(name: str) -> str:
    """The name of a document, if it is one.

    :raises RunbookError: it is of no known kind, or could lead out of the store

    >>> check_name("leases/vercel-production")
    'leases/vercel-production'
    """
    kind, _, rest = name.partition("/")
    if kind not in KINDS or not _NAME.fullmatch(rest):
        raise RunbookError(
            f"name: {name!r} is no document of the state store; it is {' or '.join(KINDS)}, a slash, and at most 128 "
            "letters, digits, dots, dashes and underscores, a letter or digit first.",
            code="state_name",
        )
    return name


def check_prefix(prefix: str) -> str:
    """The beginning of names to list: a kind, a slash, and as much of a name as is known.

    :raises RunbookError: it is none
    """
    kind, slash, rest = prefix.partition("/")
    if kind not in KINDS or not slash or not _PREFIX.fullmatch(rest):
        raise RunbookError(
            f"prefix: {prefix!r} begins no name in the state store; give {' or '.join(f'{kind}/' for kind in KINDS)}, "
            "and the beginning of a name behind it.",
            code="state_name",
        )
    return prefix


def name_of(key: str) -> str | None:
    """The document that a file or object is, by its path in the store; None for one that is not ours.

    >>> name_of("records/a.json"), name_of("records/.a.json.new"), name_of("readme.txt")
    ('records/a', None, None)
    """
    name = key.removesuffix(SUFFIX)
    kind, _, rest = name.partition("/")
    return name if key.endswith(SUFFIX) and kind in KINDS and _NAME.fullmatch(rest) else None


def serialise(document: Document) -> bytes:
    """A document as it is written.

    :raises RunbookError: its name is none, it holds a secret, it is too large, or it is no JSON
    """
    check_name(document.name)
    found = next(secret_places(document.body), None)
    if found is not None:
        raise RunbookError(
            f"{document.name}: {found} looks like a secret, and the state store holds none; leave it out.",
            code="state_secret",
        )
    envelope: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "name": document.name,
        "run_id": document.run_id,
        "controller": document.controller,
        "written_at": document.written_at,
        "token": document.token,
        "body": document.body,
    }
    try:
        data = json.dumps(envelope, allow_nan=False, indent=1).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise RunbookError(f"{document.name}: cannot be written as JSON: {error}.", code="state_json") from None
    size_bytes = len(data)
    if MAX_BYTES < size_bytes <= MAX_BODY_BYTES:
        packed = gzip.compress(json.dumps(envelope.pop("body")).encode(), mtime=0)
        envelope |= {"schema_version": _COMPRESSED_VERSION, "body_gzip": base64.b64encode(packed).decode()}
        data = json.dumps(envelope, indent=1).encode() + b"\n"
    if len(data) > MAX_BYTES:
        raise RunbookError(
            f"{document.name}: has {size_bytes} bytes, and a document of the state store at most {MAX_BYTES}, "
            "compressed; run the playbook for a part of the hosts at a time, with --limit.",
            code="state_too_large",
        )
    return data


def body_of(envelope: Mapping[str, Any]) -> Any:
    """The body of a document as it was written; None where there is none.

    :raises ValueError: it is compressed, and damaged or too large
    """
    packed = envelope.get("body_gzip")
    if packed is None:
        return envelope.get("body")
    reader = zlib.decompressobj(wbits=31)
    try:
        data = reader.decompress(base64.b64decode(packed, validate=True), MAX_BODY_BYTES)
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from None
    if not reader.eof:
        raise ValueError("it is truncated, or too large")
    return json.loads(data)


def parse(name: str, data: bytes) -> Document:
    """The document that was read under a name.

    What cannot be read is unknown, and never the same as absent: nothing may be written in its place.

    :raises RunbookError: it is truncated or damaged, somebody else's, of a newer version, or of another name
    """
    if len(data) > MAX_BYTES:
        raise _unreadable(name, "state_too_large", f"is larger than {MAX_BYTES} bytes", "look at what it is")
    try:
        found = json.loads(data)
    except ValueError:
        raise _unreadable(
            name,
            "state_truncated",
            f"is truncated or damaged ({len(data)} bytes that are no JSON)",
            "restore or remove it",
        ) from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise _unreadable(name, "state_foreign", "is not this project's", "remove it, or name another store")
    version = found.get("schema_version")
    if isinstance(version, int) and version > _COMPRESSED_VERSION:
        raise _unreadable(
            name,
            "state_newer",
            f"has version {version}, and this project knows {_COMPRESSED_VERSION}",
            "update the project here",
        )
    fields = {key: found.get(key) for key in ("name", "run_id", "controller", "written_at", "token")}
    try:
        body = body_of(found)
    except ValueError:
        body = None
    known = _COMPRESSED_VERSION if "body_gzip" in found else SCHEMA_VERSION
    if version != known or not isinstance(body, dict) or not all(isinstance(v, str) for v in fields.values()):
        raise _unreadable(name, "state_damaged", "lacks what each document has", "restore or remove it")
    if fields["name"] != name:
        raise _unreadable(name, "state_damaged", f"was written as {fields['name']!r}", "put it back to its place")
    return Document(body=body, **{key: str(value) for key, value in fields.items()})


def _unreadable(name: str, code: str, found: str, fix: str) -> RunbookError:
    return RunbookError(
        f"State store: the document {name} {found}; {fix}. Until then what it says is unknown.",
        code=code,
        status=Status.UNKNOWN,
    )


def secret_places(value: object, path: str = "body") -> Iterator[str]:
    """Where in a body something looks like a secret."""
    if isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}"
            if isinstance(item, str) and item not in _HIDDEN and secret_values({key: item}):
                yield here
            else:
                yield from secret_places(item, here)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from secret_places(item, f"{path}[{number}]")
    elif isinstance(value, str) and redact(value) != value:
        yield path


# --- the lease of work that has no database ---------------------------------------------------------------------------


def lease_name(target: Target) -> str:
    """Under which name the lease of a target lies.

    The place is left out: one server may have two addresses, and of two buckets of one name one waits too often.

    >>> from ansible.module_utils.runbook.rules.target import Target
    >>> lease_name(Target("bucket", "AWS", "mental-scribe-files"))
    'leases/bucket-mental-scribe-files'
    """
    return check_name(f"leases/{target.kind}-{target.name}")


def claim(
    current: Document | None, *, name: str, run_id: str, machine: str, purpose: str, holder: Life,
    now: datetime, ttl_s: int = LEASE_TTL_S,
) -> dict[str, Any]:  # fmt: skip
    """The body with which a run takes or renews a lease; the rules are those of the lease in a database.

    The caller writes it conditionally: as a new document where ``current`` is None, else in the place of the version
    that it read. Of two runs that claim at once one is refused by the store.

    :param current: the lease as the store has it
    :param holder: what is known of the process that holds it
    :param now: the store's clock, at the moment of reading
    :raises RunbookError: another run holds it, or what is there is no lease
    """
    held = None if current is None else lease_of(current)
    decision = decide(held, run_id=run_id, now=now, holder=holder, is_written_to=False)
    if held is not None and decision == "refuse":
        raise RunbookError(
            f"{name} is held by run {held.run_id} ({held.purpose}, {held.controller}) until "
            f"{held.expires_at:%Y-%m-%d %H:%M:%S} UTC; wait for it. The lease of a dead run ends by itself then.",
            code=HELD,
        )
    since = held.acquired_at if held is not None and decision == "renew" else now
    return {
        "machine": machine,
        "purpose": purpose,
        "acquired_at": since.isoformat(),
        "expires_at": (now + timedelta(seconds=ttl_s)).isoformat(),
    }


def lease_of(document: Document) -> Lease:
    """The lease that a document is.

    :raises RunbookError: it is none
    """
    body: Mapping[str, Any] = document.body
    try:
        return Lease(
            run_id=document.run_id,
            controller=document.controller,
            machine=str(body["machine"]),
            purpose=str(body["purpose"]),
            acquired_at=datetime.fromisoformat(body["acquired_at"]).astimezone(UTC),
            expires_at=datetime.fromisoformat(body["expires_at"]).astimezone(UTC),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _unreadable(document.name, "state_damaged", "is no lease", "restore or remove it") from None


def leased(name: str) -> str:
    """The target whose lease lies under a name; its place is not in the name.

    >>> leased("leases/bucket-mental-scribe-files"), leased("leases/supabase_project-abcdefghijklmnopqrst")
    ('bucket mental-scribe-files', 'supabase project abcdefghijklmnopqrst')
    """
    kind, _, target = name.partition("/")[2].partition("-")
    return f"{kind.replace('_', ' ')} {target}"


# --- copies of records ------------------------------------------------------------------------------------------------


def record_name(run_id: str) -> str:
    """Under which name the copy of a run's record lies; names sort by time."""
    return check_name(f"records/{run_id}")


def board_name(place: str) -> str:
    """Under which name lies what the board knows of an inventory."""
    return check_name(f"boards/{re.sub(r'[^A-Za-z0-9_.-]+', '-', place).strip('.-') or 'inventory'}")
