"""What a mirror of a bucket decides: which objects are copied, in which parts, and what its findings mean.

Two listings are all that a run over unchanged objects needs. An ETag is the MD5 sum of what was uploaded in one piece,
and a sum over the sums of the parts of what was uploaded in parts. So a copy that is uploaded as the original was has
the same ETag. Where that cannot be (another kind of encryption, parts too large), the copy carries its source's ETag in
its metadata, and is asked for it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.address import is_loopback
from ansible.module_utils.runbook.rules.status import Check
from ansible.module_utils.runbook.rules.words import agree, count, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MIB = 2**20
#: Metadata of a copy: the ETag of the object that it was made from.
SOURCE_ETAG = "runbook-source-etag"
#: Objects up to this size are copied in one piece; it is also the size of a part where nothing says otherwise.
PIECE_BYTES = 16 * MIB
#: The largest part that is held in memory to keep an ETag equal.
MAX_PART_BYTES = 64 * MIB
#: S3's limits: the least size of a part that is not the last, parts of an upload, bytes of a key, bytes of one copy.
MIN_PART_BYTES = 5 * MIB
MAX_PARTS = 10_000
MAX_KEY_BYTES = 1024
MAX_COPY_BYTES = 5 * 2**30
#: Sizes of parts that S3 clients use when nobody says otherwise.
USUAL_PART_BYTES = tuple(MIB * n for n in (5, 6, 8, 10, 15, 16, 20, 25, 32, 50, 64))
#: Objects that a result names, of each kind.
NAMED = 20

Verdict = Literal["same", "copy", "ask"]
State = Literal["on", "off", "unknown"]

_MD5 = re.compile(r"[0-9a-f]{32}")
_PARTS = re.compile(r"[0-9a-f]{32}-(\d+)")


def bare_etag(text: str) -> str:
    """An ETag without its quotes and the mark of a weak one.

    >>> bare_etag('W/"9b2c"')
    '9b2c'
    """
    return text.removeprefix("W/").strip('"')


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it; ``key`` is without the destination's prefix, ``etag`` without quotes."""

    key: str
    size_bytes: int
    etag: str

    @property
    def is_md5(self) -> bool:
        """Whether the ETag has the form of an MD5 sum of the whole content."""
        return _MD5.fullmatch(self.etag) is not None

    @property
    def parts(self) -> int | None:
        """How many parts it was uploaded in; None for an object that was uploaded in one piece.

        >>> Entry("a", 1, "58ec8620569c397e2b6282e6d0a70255-5").parts
        5
        """
        found = _PARTS.fullmatch(self.etag)
        return int(found[1]) if found else None

    @property
    def whole(self) -> bool:
        """Whether it is read and written in one piece."""
        return self.size_bytes == 0 or (self.parts is None and self.size_bytes <= PIECE_BYTES)

    def part_bytes(self, first_part_bytes: int | None = None) -> int:
        """Size of the parts to copy it in: as it was uploaded, if that can be known and is not too large.

        :param first_part_bytes: size of its first part, where the source's server tells it

        >>> Entry("a", 21 * MIB, "58ec8620569c397e2b6282e6d0a70255-5").part_bytes() == 5 * MIB
        True
        """
        if self.parts is not None:
            told: tuple[int, ...] = () if first_part_bytes is None else (first_part_bytes,)
            for candidate in (*told, *USUAL_PART_BYTES):
                enough = candidate >= MIN_PART_BYTES or self.parts == 1
                if enough and candidate <= MAX_PART_BYTES and -(-self.size_bytes // candidate) == self.parts:
                    return candidate
        return max(PIECE_BYTES, -(-self.size_bytes // MAX_PARTS))

    def ranges(self, first_part_bytes: int | None = None) -> list[tuple[int, int]]:
        """First and last byte of each part.

        >>> Entry("a", 20 * MIB, "").ranges()
        [(0, 16777215), (16777216, 20971519)]
        """
        part, size = self.part_bytes(first_part_bytes), self.size_bytes
        return [(start, min(start + part, size) - 1) for start in range(0, size, part)]


def compare(source: Entry, copy: Entry | None) -> Verdict:
    """Whether ``copy`` is what ``source`` is now; ``ask`` where only the copy's own metadata can tell."""
    if copy is None or copy.size_bytes != source.size_bytes:
        return "copy"
    # Times are not compared: the two servers' clocks may differ, and asking costs less than copying.
    return "same" if copy.etag == source.etag else "ask"


@dataclass
class Plan:
    """What there is and what is to be done."""

    source_objects: int = 0
    source_bytes: int = 0
    unchanged_objects: int = 0
    copy_objects: int = 0
    copy_bytes: int = 0
    #: Objects of the destination that the source does not hold any more.
    extra_objects: int = 0
    delete_objects: int = 0

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.copy_objects or self.delete_objects)


def refuse(
    plan: Plan, *, max_objects: int | None, max_bytes: int | None, max_delete: int, max_delete_percent: int
) -> None:
    """Refuse a plan that is larger than its caps, or that looks like a wrong source.

    :raises RunbookError: before anything is written
    """
    if max_objects is not None and plan.copy_objects > max_objects:
        raise RunbookError(
            f"max_objects: {count(plan.copy_objects, 'object is', 'objects are')} to be copied, and {max_objects:,} "
            f"may be; nothing was. "
            "Check source_bucket and prefix, or raise max_objects."
        )
    if max_bytes is not None and plan.copy_bytes > max_bytes:
        raise RunbookError(
            f"max_bytes: {plan.copy_bytes:,} bytes are to be copied, and {max_bytes:,} may be; nothing was. "
            "Check source_bucket and prefix, or raise max_bytes."
        )
    if not plan.source_objects and plan.extra_objects:
        raise RunbookError(
            f"source_bucket: the source lists no object, and its mirror holds {plan.extra_objects:,}; nothing was "
            "changed. Check source_bucket and source_prefix; if the source was emptied on purpose, mirror it to "
            "another prefix."
        )
    if plan.delete_objects > max_delete:
        raise RunbookError(
            f"max_delete: {count(plan.delete_objects, 'object is', 'objects are')} gone from the source, and "
            f"{max_delete:,} may be deleted "
            "from the mirror; nothing was changed. See why they are gone, or raise max_delete."
        )
    held = plan.extra_objects + plan.source_objects
    if plan.delete_objects * 100 > held * max_delete_percent:
        raise RunbookError(
            f"max_delete_percent: {plan.delete_objects:,} of {count(held, 'object')} "
            f"{agree(plan.delete_objects, 'is', 'are')} gone from the source, and at most "
            f"{max_delete_percent} % may be deleted from the mirror at once; nothing was changed. See why they are "
            "gone, or raise max_delete_percent."
        )


def refuse_overlap(*, same_endpoint: bool, source_bucket: str, source_prefix: str, bucket: str, prefix: str) -> None:
    """Refuse a mirror whose source and destination share keys, and a prefix that would reach beyond its folder.

    :raises RunbookError: the copies would be copied, or the sources taken for old copies
    """
    if prefix and not prefix.endswith("/"):
        raise RunbookError(f"prefix: {prefix!r} does not end with a slash, so it would stand for other folders too.")
    shared = prefix.startswith(source_prefix) or source_prefix.startswith(prefix)
    if same_endpoint and source_bucket == bucket and shared:
        raise RunbookError(
            f"bucket: {bucket!r} is the source too, and prefix {prefix!r} and source_prefix {source_prefix!r} share "
            "keys, so that copies would be copied; give another bucket or prefix."
        )


#: Folder of the destination with one document for each prefix that is mirrored into. It is no file of anybody's.
ORIGINS = ".runbook-mirror/"
MAX_ORIGIN_BYTES = 1 << 16


def origin_key(prefix: str) -> str:
    """Where it is written down whose files lie below a prefix of the destination.

    >>> origin_key("files/avatars/")
    '.runbook-mirror/files%2Favatars%2F.json'
    """
    return f"{ORIGINS}{quote(prefix, safe='')}.json"


def source_name(endpoint_url: str | None, bucket: str, prefix: str) -> str:
    """A source by the name under which the next run knows it again.

    A bucket's name is unique within AWS; elsewhere the server belongs to it. Of loopback the port is left out, since
    it is whoever's comes first.

    >>> source_name(None, "uploads", ""), source_name("https://s3.example.com/v1", "uploads", "a/")
    ('s3://uploads/', 's3.example.com/v1/uploads/a/')
    """
    if not endpoint_url:
        return f"s3://{bucket}/{prefix}"
    parts = urlsplit(endpoint_url)
    host = parts.hostname if is_loopback(parts.hostname) else parts.netloc.rpartition("@")[2]
    return f"{host}{parts.path.rstrip('/')}/{bucket}/{prefix}"


def origin_document(prefix: str, source: str) -> bytes:
    """What is written down."""
    return (json.dumps({"prefix": prefix, "source": source}) + "\n").encode()


def check_origins(documents: Iterable[bytes], *, prefix: str, source: str, previous: Sequence[str], where: str) -> str:
    """Refuse to write or delete where another source's copies lie, or where its mirror would see ours as old ones.

    :param documents: all that :func:`origin_document` wrote in this bucket
    :param source: the one that is copied now, as :func:`source_name` names it
    :param previous: those in whose place it is
    :returns: the source whose copies lie there now; empty where nobody wrote it down
    :raises RunbookError: they are another source's, or a prefix lies within the other
    """
    here = ""
    for text in documents:
        try:
            said = json.loads(text)
            other, of = str(said["prefix"]), str(said["source"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RunbookError(
                f"prefix: a document in {where}{ORIGINS} cannot be read, so it is not known whose files lie where; "
                "restore an earlier version of it."
            ) from None
        if other == prefix:
            here = of
            if of not in {source, *previous}:
                raise RunbookError(
                    f"prefix: {where}{prefix} holds the copies of {of}, and the source is {source}. If they are two, "
                    "give each a file_mirror_prefix of its own. If this one took the other's place, set "
                    f"file_mirror_previous_sources: ['{of}']."
                )
        elif (other.startswith(prefix) and of != source + other.removeprefix(prefix)) or (
            prefix.startswith(other) and source != of + prefix.removeprefix(other)
        ):
            raise RunbookError(
                f"prefix: {where}{prefix} and {where}{other}, which holds the copies of {of}, lie within one another, "
                "so one mirror would take the other's files for its own; give another file_mirror_prefix."
            )
    return here


def too_long(key: str, prefix: str) -> bool:
    """Whether the copy's key would be longer than S3 admits."""
    return len((prefix + key).encode()) > MAX_KEY_BYTES


def name_of(key: str, *, show: bool) -> str:
    """How a result names an object: by its key, or by a digest of it, since file names may name people.

    >>> name_of("avatars/jane.png", show=False)
    'sha256:495f3805ed7087b4'
    """
    # Lone surrogates stand for bytes that are not UTF-8.
    return key if show else f"sha256:{sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]}"


@dataclass(frozen=True)
class Row:
    """A row of Supabase's ``storage.objects``; size and ETag are None where its metadata does not say."""

    key: str
    size_bytes: int | None
    etag: str | None

    @classmethod
    def of(cls, key: str, size: str | None, etag: str | None) -> Row:
        """Read a row; what its metadata holds in another form than Supabase writes it, is not compared.

        >>> Row.of("a.png", "12", '"9b2c"')
        Row(key='a.png', size_bytes=12, etag='9b2c')
        """
        return cls(key, int(size) if size and size.isdecimal() else None, bare_etag(etag) if etag else None)


@dataclass
class Seen:
    """What was seen besides the objects to copy; None where there was nothing to compare with."""

    versioning: State = "unknown"
    replication: State = "unknown"
    rows: int | None = None
    missing_rows: int | None = None
    recoverable_rows: int | None = None
    orphan_objects: int | None = None
    differing_rows: int | None = None
    #: Why the rows of storage.objects could not be read, in one sentence; empty where they were, or nobody asked.
    unread: str = ""


def judge(found: Seen, *, expect_versioning: bool, expect_replication: bool) -> list[Check]:
    """What a mirror that was brought up to date demands of its source."""
    checks = []
    for what, state, expected in (
        ("versioning", found.versioning, expect_versioning),
        ("replication", found.replication, expect_replication),
    ):
        if not expected:
            continue
        if state == "unknown":
            msg = (
                f"The source's server does not tell whether its bucket has {what}; ask its provider, and set "
                f"expect_source_{what} to false if it cannot be checked."
            )
            checks.append(Check.unknown(f"source_{what}", msg))
        elif state == "off":
            msg = f"The source bucket has no {what}; switch it on, or set expect_source_{what} to false."
            checks.append(Check.breach(f"source_{what}", msg))
        else:
            checks.append(Check.ok(f"source_{what}", f"The source bucket has {what}."))
    if found.missing_rows:
        msg = (
            f"{count(found.missing_rows, 'row')} of storage.objects have no object in the source; the mirror "
            f"still holds {found.recoverable_rows or 0:,} of them."
        )
        checks.append(Check.breach("missing_rows", msg))
    elif found.missing_rows is not None:
        checks.append(Check.ok("missing_rows", "Every row of storage.objects has its object in the source."))
    if found.differing_rows:
        msg = f"{count(found.differing_rows, 'row')} of storage.objects tell another size or ETag than the object."
        checks.append(Check.breach("differing_rows", msg))
    if found.unread:
        checks.append(Check.unknown("rows", f"Nothing was compared with the rows of storage.objects. {found.unread}"))
    return checks


def require_versions(bucket: str, state: State) -> None:
    """Refuse a destination in which something overwritten would be lost.

    :raises RunbookError: it keeps no versions, or does not tell
    """
    if state == "off":
        raise RunbookError(f"bucket: {bucket} keeps no versions, so nothing is written to it; switch versioning on.")
    if state == "unknown":
        raise RunbookError(
            f"bucket: the server does not tell whether {bucket} keeps versions, so nothing is written to it; let the "
            "credentials read its versioning, or name another bucket."
        )


def describe(plan: Plan, source: str, destination: str) -> str:
    """The plan as a diff shows it."""
    return (
        f"{source} -> {destination}\n"
        f"  source     {count(plan.source_objects, 'object')}, {plan.source_bytes:,} bytes\n"
        f"  unchanged  {count(plan.unchanged_objects, 'object')}\n"
        f"  copy       {count(plan.copy_objects, 'object')}, {plan.copy_bytes:,} bytes\n"
        f"  delete     {plan.delete_objects:,} of {count(plan.extra_objects, 'object')} that the source does not hold\n"
    )


def sentence(figures: Mapping[str, Any], *, check_mode: bool) -> str:
    """What was done, or in check mode would be, in one sentence."""
    plan, way = figures["plan"], f"from {figures['source']} to {figures['destination']}"
    rest = f"{plan['unchanged_objects']:,} unchanged"
    if check_mode:
        return (
            f"Would copy {count(plan['copy_objects'], 'object')} ({size(plan['copy_bytes'])}) {way} and delete "
            f"{plan['delete_objects']:,}; {rest}."
        )
    deleted = f" and deleted {figures['deleted_objects']:,}" if figures["deleted_objects"] else ""
    return (
        f"Copied {count(figures['copied_objects'], 'object')} ({size(figures['copied_bytes'])}) {way}{deleted} in "
        f"{figures['duration_s']:.1f} s; {rest}."
    )


def judge_copied(figures: Mapping[str, Any], *, hopeless: str, late: bool, deadline_s: int) -> Check:
    """Every object is copied; else what was left undone, and why."""
    remaining, failed = figures["remaining_objects"], figures["failed_objects"]
    if not remaining:
        return Check.ok("copied", "Every object of the source has its copy.")
    reasons = "; ".join(
        f"{error} {count:,}{': ' + OWN_FIXES[error] if error in OWN_FIXES else ''}"
        for error, count in sorted(figures["errors"].items())
    )
    if hopeless:
        said = f"Stopped after {hopeless}, because others would fail too: {FIXES.get(hopeless, 'look at the server')}."
    elif late:
        said = f"Stopped after deadline_s, {deadline_s}; run again, or raise it."
    else:
        said = f"{count(failed, 'object')} could not be copied ({reasons}); the result names some."
    return Check.breach(
        "copied", f"{said} {count(remaining, 'object')} still to copy; run again, and the next run goes on."
    )


#: What to do about an answer that concerns one object.
OWN_FIXES = {
    "InvalidObjectState": "they are archived, so bring them back with aws s3api restore-object first",
    "AccessDenied": "let the credentials read the source and write the destination",
    "KMS.DisabledException": "their KMS key is disabled",
    "KMS.AccessDeniedException": "let the credentials use the KMS key",
    "KeyTooLongError": "shorten the destination's prefix, or their names",
}
#: What to do about an answer that ends a run.
FIXES = {
    "ExpiredToken": "give the run credentials that outlive it",
    "ExpiredTokenException": "give the run credentials that outlive it",
    "AccessDenied": "let the credentials read the source and write the destination",
    "NoSuchBucket": "check source_bucket and bucket",
    "QuotaExceeded": "make room at the destination",
    "SlowDown": "lower jobs",
}
