"""A proof: a restored database is compared, table by table, with what the manifest says was backed up.

Its sequences likewise, as far as anybody can know what the dump carries of them.

Only a comparison of row counts and content hashes of all tables makes a proof. What could not be compared is unknown,
and a proof with an unknown table proves nothing.

The outcome is written beside the backup as ``proof-<UTC time>.json``; :class:`Document` and :func:`parse` are its
two ends. It holds names and figures, no row.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, get_args

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_gaps import without
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import content_hash
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest, SequenceEntry
    from ansible.module_utils.runbook.rules.postgres.content_hash import Content

SCHEMA_VERSION = 1
MAX_DOCUMENT_BYTES = 64 << 20
#: How the large objects are called among the tables.
LARGE_OBJECTS = "large objects"
#: Names in a sentence; the result has them all.
_NAMED = 5

#: What the comparison of one table came to.
Verdict = Literal[Status.OK, Status.UNKNOWN, "differs"]


@dataclass(frozen=True)
class Found:
    """What the restored database holds: contents by table, or the sentence why one could not be read."""

    contents: Mapping[QualifiedName, Content]
    errors: Mapping[QualifiedName, str]
    large_objects: Content | None
    large_objects_error: str
    #: How this server hashes.
    method: str
    probe: str
    #: Each sequence as ``(last_value,is_called)``; None where they could not be read.
    sequences: Mapping[QualifiedName, str] | None = None


@dataclass(frozen=True)
class TableResult:
    """One table's comparison."""

    #: ``schema.table``, ``schema.sequence``, or ``large objects``.
    table: str
    status: Verdict
    #: Rows in the backup and in the restored database; None where they were not counted.
    expected_rows: int | None
    found_rows: int | None
    #: Why it is not ``ok``; empty if it is.
    reason: str = ""


@dataclass(frozen=True)
class Proof:
    """All comparisons together."""

    tables: tuple[TableResult, ...] = field(default=())
    #: What the backup is known to be without, and so is not compared.
    missing: tuple[str, ...] = ()
    #: Sequences that agree.
    sequences: int = 0

    def named(self, status: str) -> list[str]:
        """Names of the tables of that status."""
        return [each.table for each in self.tables if each.status == status]

    @property
    def status(self) -> Status:
        """``breach`` if a table differs, else ``unknown`` if one could not be compared, else ``ok``."""
        return Status.of(breach=self.named("differs"), unknown=self.named(Status.UNKNOWN) or not self.tables)

    @property
    def rows(self) -> int:
        """Rows that were compared and found equal."""
        return sum(each.found_rows or 0 for each in self._equal() if each.table != LARGE_OBJECTS)

    @property
    def large_objects(self) -> int:
        """Large objects that were compared and found equal."""
        return sum(each.found_rows or 0 for each in self._equal() if each.table == LARGE_OBJECTS)

    def _equal(self) -> list[TableResult]:
        return [each for each in self.tables if each.status == Status.OK]

    def figures(self) -> dict[str, Any]:
        """The outcome as a module's result has it."""
        return {
            "status": self.status,
            "compared": len(self.tables),
            "ok": len(self.named(Status.OK)),
            "differs": self.named("differs"),
            "unknown": self.named(Status.UNKNOWN),
            "reasons": {each.table: each.reason for each in self.tables if each.reason},
        }

    def sentence(self) -> str:
        """The outcome in one sentence, the first tables named."""
        total = len(self.tables)
        if self.status is Status.OK:
            sequences = f" and {count(self.sequences, 'sequence')}" if self.sequences else ""
            objects = f", {count(self.large_objects, 'large object')}" if self.large_objects else ""
            compared = f"All {count(total, 'comparison')}{sequences} agree with the backup"
            return f"{compared} ({count(self.rows, 'row')}{objects}).{without(self.missing)}"
        kind: Verdict = "differs" if self.status is Status.BREACH else Status.UNKNOWN
        worst = [each for each in self.tables if each.status == kind]
        shown = "; ".join(f"{each.table}: {each.reason}" for each in worst[:_NAMED])
        more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        verb = (
            f"{agree(len(worst), 'differs', 'differ')} from the backup"
            if kind == "differs"
            else "could not be compared"
        )
        return f"{len(worst)} of {count(total, 'comparison')} {verb}: {shown or 'there is nothing to compare'}{more}."


def judge(manifest: Manifest, found: Found) -> Proof:
    """Compare what was found with the manifest: its tables, those that it does not know, the large objects."""
    comparable = manifest.hash.method in get_args(content_hash.Method) and content_hash.are_comparable(
        wanted_method=manifest.hash.method,
        wanted_probe=manifest.hash.probe,
        found_method=found.method,
        found_probe=found.probe,
    )
    why = ""
    if manifest.hash.coverage == "none":
        why = "the backup was made without content hashes, and counts alone prove nothing"
    elif manifest.hash.method not in get_args(content_hash.Method):
        why = (
            f"the backup was hashed as {manifest.hash.method}, which this version of the project does not compute; its "
            "rows were counted alone: make a new backup to have one that can be proven"
        )
    elif not comparable:
        why = "this server hashes differently from the one that was backed up"
    elif manifest.hash.coverage == "sampled":
        why = "the backup holds the hash of a sample only, which agrees"
    results = []
    known = set()
    for entry in manifest.tables:
        name = QualifiedName(entry.schema, entry.name)
        known.add(name)
        wanted = content_hash.Content(entry.rows, entry.hash) if entry.rows is not None else None
        results.append(
            _compare(
                str(name), wanted, found.contents.get(name), found.errors.get(name, ""), why, comparable=comparable
            )
        )
    for name in sorted({*found.contents, *found.errors} - known):
        rows = found.contents[name].rows if name in found.contents else None
        results.append(TableResult(str(name), "differs", None, rows, "the backup knows no such table"))
    large = content_hash.Content(manifest.large_objects.count, manifest.large_objects.hash)
    results.append(
        _compare(LARGE_OBJECTS, large, found.large_objects, found.large_objects_error, why, comparable=comparable)
    )
    if manifest.sequences is None:
        return Proof(tuple(results), (*manifest.missing, "the values of its sequences, which the backup does not tell"))
    wrong = [each for each in map(_sequence, manifest.sequences, repeat(found.sequences)) if each]
    return Proof((*results, *wrong), manifest.missing, len(manifest.sequences) - len(wrong))


def _sequence(wanted: SequenceEntry, found: Mapping[QualifiedName, str] | None) -> TableResult | None:
    """What is wrong with a sequence; None where it is one of the two values that were read, or lies between."""
    name = QualifiedName(wanted.schema, wanted.name)

    def result(status: Verdict, reason: str) -> TableResult:
        return TableResult(str(name), status, None, None, reason)

    if found is None:
        return result(Status.UNKNOWN, "the sequences of this database could not be read")
    if name not in found:
        return result("differs", "the sequence is not there")
    before, after, got = (_position(each) for each in (wanted.before, wanted.after, found[name]))
    if min(before, after) <= got <= max(before, after):
        return None
    if before == after:
        return result("differs", f"the sequence is at {_at(got)} instead of {_at(before)}")
    # It may have been set back, or started over, in between.
    return result(
        Status.UNKNOWN,
        f"the sequence is at {_at(got)}, and went from {_at(before)} to {_at(after)} while it was backed up",
    )


def _position(state: str) -> tuple[int, bool]:
    """``(last_value,is_called)`` as a pair; one whose value was never given out comes before it.

    >>> _position("(1,f)"), _position("(-7,t)")
    ((1, False), (-7, True))
    """
    value, _, called = state.strip("()").partition(",")
    return int(value), called == "t"


def _at(position: tuple[int, bool]) -> str:
    return f"{position[0]}{'' if position[1] else ' (not given out)'}"


def _compare(
    name: str, wanted: Content | None, got: Content | None, error: str, why: str, *, comparable: bool
) -> TableResult:
    wanted_rows, got_rows = wanted.rows if wanted else None, got.rows if got else None
    if got is None:
        status: Verdict = Status.UNKNOWN if error else "differs"
        return TableResult(name, status, wanted_rows, None, error or "it is not there")
    if wanted is None:
        return TableResult(name, Status.UNKNOWN, None, got_rows, "the backup did not count its rows")
    if wanted.rows != got.rows:
        return TableResult(
            name, "differs", wanted.rows, got.rows, f"{count(got.rows, 'row')} instead of {wanted.rows:,}"
        )
    if not comparable or wanted.digest is None or got.digest is None:
        return TableResult(name, Status.UNKNOWN, wanted.rows, got.rows, why or "its content was not hashed")
    if content_hash.compare(wanted, got) == "differs":
        reason = f"the content of its {count(got.rows, 'row')} is not that of the backup"
        return TableResult(name, "differs", wanted.rows, got.rows, reason)
    return TableResult(name, Status.UNKNOWN if why else Status.OK, wanted.rows, got.rows, why)


# The document ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Circumstances:
    """What each proof says of the run that made it."""

    #: UTC.
    now: datetime
    run_id: str
    server_version_num: int
    duration_s: float
    manifest_sha256: str


@dataclass(frozen=True)
class Document:
    """What ``proof-<UTC time>.json`` says."""

    schema_version: int
    backup_id: str
    database: str
    #: ISO 8601, UTC: when the comparison was through.
    proven_at: str
    status: Status
    msg: str
    run_id: str
    #: Where it was restored, PostgreSQL's ``server_version_num``.
    server_version_num: int
    duration_s: float
    #: SHA-256 that the manifest carries of itself, so that the proof is of this very backup.
    manifest_sha256: str
    compared: int
    ok: int
    #: Those that are not ``ok``, each with ``table``, ``status``, ``expected_rows``, ``found_rows``, ``reason``.
    tables: Sequence[Mapping[str, Any]] = ()
    #: What the backup was known to be without.
    missing: Sequence[str] = ()

    @classmethod
    def of(cls, proof: Proof, manifest: Manifest, made: Circumstances) -> Document:
        """The proof as it is written beside the backup."""
        return cls(
            schema_version=SCHEMA_VERSION,
            backup_id=manifest.backup_id,
            database=manifest.source.database,
            proven_at=f"{made.now:%Y-%m-%dT%H:%M:%SZ}",
            status=proof.status,
            msg=proof.sentence(),
            run_id=made.run_id,
            server_version_num=made.server_version_num,
            duration_s=round(made.duration_s, 3),
            manifest_sha256=made.manifest_sha256,
            compared=len(proof.tables),
            ok=len(proof.named(Status.OK)),
            tables=tuple(asdict(each) for each in proof.tables if each.status != Status.OK),
            missing=proof.missing,
        )

    @classmethod
    def of_failure(cls, manifest: Manifest, msg: str, made: Circumstances, *, is_damaged: bool) -> Document:
        """A proof that came to no comparison, as it is written beside the backup.

        :param msg: what happened instead
        :param is_damaged: whether that is the backup's fault, as far as can be told
        """
        return replace(cls.of(Proof(), manifest, made), status=Status.of(breach=is_damaged, unknown=True), msg=msg)

    @property
    def name(self) -> str:
        """Name of the object, ``proof-<UTC time>.json``; names sort by time."""
        return f"proof-{self.proven_at.replace(':', '-')}.json"

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()


def parse(text: bytes | str, *, where: str) -> Document:
    """Read a proof.

    :param where: how the sentence calls it: the object's address
    :raises RunbookError: it is not one, or of a future schema_version
    """
    try:
        content = json.loads(text)
        version = content["schema_version"]
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise RunbookError(
                f"{where} has schema_version {version!r}, this project reads up to {SCHEMA_VERSION}; use the newer "
                "version of the project that wrote it."
            )
        wanted = [each.name for each in fields(Document) if each.name in content or each.default is MISSING]
        read = Document(**{name: content[name] for name in wanted})
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RunbookError(f"{where} is no proof of a backup; prove the backup again.") from None
    if read.status not in tuple(Status):
        raise RunbookError(f"{where} has status {read.status!r}, which means nothing; prove the backup again.")
    return replace(read, status=Status(read.status))
