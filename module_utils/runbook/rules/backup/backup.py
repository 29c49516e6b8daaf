"""What a logical backup is made of: who dumps what, its manifest, and what is said about it.

The dump is divided into streams, one ``pg_dump`` each, all of one snapshot. Stream 0 takes everything that no other
stream was given, so that nothing can fall between two of them: large objects, sequences, tables made a moment ago.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.backup_gaps import sentences, without
from ansible.module_utils.runbook.rules.backup.manifest import (
    SCHEMA_VERSION,
    HashInfo,
    LargeObjects,
    Manifest,
    SequenceEntry,
    TableEntry,
    Tools,
)
from ansible.module_utils.runbook.rules.postgres.connection_failure import ConnectionFailure
from ansible.module_utils.runbook.rules.postgres.content_hash import Content
from ansible.module_utils.runbook.rules.postgres.server_error import told
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count
from ansible.module_utils.runbook.rules.words import size as size_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.rules.backup.backup_gaps import Gap
    from ansible.module_utils.runbook.rules.backup.manifest import Extension, Object, Source
    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.content_hash import Table

Encryption = Literal["none", "age", "gpg"]

#: A smaller table is not worth a place of its own.
LEAST_TABLE_BYTES = 1 << 20
#: Tables that are named on a command line at most; all the others are stream 0's.
MOST_NAMED = 400


def divide(tables: Sequence[Table], jobs: int) -> list[list[Table]]:
    """Spread the biggest tables over ``jobs`` streams, the largest first to whoever has least.

    :returns: for the streams from 1 on, the tables of each, biggest first; everything else is stream 0's. Shorter than
        ``jobs - 1`` where there are too few tables worth it.
    """
    by_size = sorted(tables, key=lambda table: (-table.size_bytes, table.name))
    candidates = [table for table in by_size if table.size_bytes >= LEAST_TABLE_BYTES][:MOST_NAMED]
    streams: list[list[Table]] = [[] for _ in range(jobs)]
    loads = [0] * jobs
    loads[0] = sum(table.size_bytes for table in by_size) - sum(table.size_bytes for table in candidates)
    for table in candidates:
        lightest = loads.index(min(loads))
        streams[lightest].append(table)
        loads[lightest] += table.size_bytes
    return [stream for stream in streams[1:] if stream]


@dataclass(frozen=True)
class Selection:
    """The tables of a database, and how the streams share those whose rows are backed up."""

    tables: Sequence[Table]
    streams: Sequence[Sequence[Table]]
    without_rows: frozenset[QualifiedName]

    @classmethod
    def of(cls, tables: Sequence[Table], jobs: int, without_rows: frozenset[QualifiedName]) -> Self:
        """Divide the tables, except ``without_rows``, among ``jobs`` streams."""
        return cls(tables, divide([each for each in tables if each.name not in without_rows], jobs), without_rows)

    @property
    def filled(self) -> list[Table]:
        """Tables whose rows are backed up."""
        return [table for table in self.tables if table.name not in self.without_rows]


def pattern(name: QualifiedName) -> str:
    """A name as pg_dump's patterns take it to the letter.

    >>> from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    >>> pattern(QualifiedName("public", 'say "hi" *'))
    '"public"."say ""hi"" *"'
    """
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in name)


def dump_options(
    what: Literal["schema", "data"],
    *,
    snapshot: str,
    lock_timeout_ms: int,
    stream: int = 0,
    streams: Sequence[Sequence[Table]] = (),
    without_rows: Iterable[QualifiedName] = (),
) -> list[str]:
    """Options of pg_dump for the schema, or for one data stream.

    :param streams: what :func:`divide` gave
    :param without_rows: tables that no stream takes rows of
    """
    options = ["--format=custom", "--compress=0", f"--snapshot={snapshot}", f"--lock-wait-timeout={lock_timeout_ms}"]
    if what == "schema":
        # Not --schema-only: that leaves out the definitions of large objects.
        return [*options, "--section=pre-data", "--section=post-data"]
    options.append("--section=data")
    if stream:
        return options + [f"--table={pattern(table.name)}" for table in streams[stream - 1]]
    elsewhere = [*(table.name for each in streams for table in each), *without_rows]
    return options + [f"--exclude-table-data={pattern(name)}" for name in elsewhere]


class Part(NamedTuple):
    """One thing to dump."""

    what: Literal["globals", "schema", "data"]
    stream: int
    #: The program and its options.
    words: list[str]

    @property
    def program(self) -> str:
        """Name of the program, for people."""
        return "pg_dumpall" if self.what == "globals" else "pg_dump"

    def object_name(self, encryption: Encryption, number: int) -> str:
        """Name of one of its objects within the backup."""
        return key(self.what, encryption, stream=self.stream, part=number)


def parts(
    streams: Sequence[Sequence[Table]],
    *,
    snapshot: str,
    lock_timeout_ms: int,
    without_rows: Iterable[QualifiedName],
    dump: Sequence[str],
    dump_all: Sequence[str],
) -> list[Part]:
    """What is dumped, the longest first.

    :param streams: what :func:`divide` gave
    :param dump: pg_dump with the words that connect it; ``dump_all`` likewise
    """
    without = sorted(without_rows)

    def words(what: Literal["schema", "data"], number: int) -> list[str]:
        options = dump_options(
            what, snapshot=snapshot, lock_timeout_ms=lock_timeout_ms, stream=number,
            streams=streams if what == "data" else (), without_rows=without if what == "data" else (),
        )  # fmt: skip
        return [*dump, *options]

    return [
        *(Part("data", number, words("data", number)) for number in range(len(streams) + 1)),
        Part("schema", 0, words("schema", 0)),
        Part("globals", 0, [*dump_all, "--globals-only", "--no-role-passwords"]),
    ]


def entries(
    tables: Iterable[Table],
    contents: Mapping[QualifiedName, Content],
    *,
    coverage: str,
    without_rows: Collection[QualifiedName],
) -> tuple[TableEntry, ...]:
    """Tables as the manifest keeps them, with their rows and digests unless nothing was hashed."""

    def counted(table: Table) -> tuple[int | None, str | None]:
        if coverage == "none":
            return None, None
        # A restored one is empty, and equal to that.
        content = Content(0, "0") if table.name in without_rows else contents[table.name]
        return content.rows, content.digest

    return tuple(TableEntry(table.name.schema, table.name.name, *counted(table), table.size_bytes) for table in tables)


def sequences(
    before: Mapping[QualifiedName, str] | None, after: Mapping[QualifiedName, str] | None
) -> tuple[SequenceEntry, ...] | None:
    """Sequences that were there all the while; None where they could not be read.

    :param before: as they stood when the dump began; ``after``: when it was through
    """
    if before is None or after is None:
        return None
    return tuple(SequenceEntry(*name, before[name], after[name]) for name in sorted(before.keys() & after.keys()))


def plan(tables: Sequence[Table], filled: Iterable[Table], streams: Sequence[Sequence[Table]]) -> dict[str, Any]:
    """The division as a module's result shows it."""
    named = {table.name for each in streams for table in each}
    rest = [table for table in filled if table.name not in named]
    return {
        "tables": len(tables),
        "table_bytes": sum(table.size_bytes for table in tables),
        "streams": [
            {"tables": len(each), "table_bytes": sum(table.size_bytes for table in each)} for each in [rest, *streams]
        ],
    }


def check_without_rows(
    wanted: Sequence[QualifiedName],
    tables: Sequence[Table],
    references: Iterable[tuple[QualifiedName, QualifiedName]],
) -> frozenset[QualifiedName]:
    """Tables that are backed up without their rows.

    :param references: foreign keys: the table that has one, and the table that it refers to
    :raises RunbookError: one is not there, or others' rows refer to its rows, so that no restore could end well
    """
    chosen = frozenset(wanted)
    for name in wanted:
        if name not in {table.name for table in tables}:
            raise RunbookError(
                f"without_rows: there is no table {name} with rows of its own; correct it, or take it out."
            )
    for child, parent in references:
        if parent in chosen and child not in chosen:
            raise RunbookError(
                f"without_rows: rows of {child} refer to {parent}, and could not be restored without it; name {child} "
                f"too, or take {parent} out."
            )
    return chosen


#: What the server says of a value, or a row, that is too large to be written as text.
_TOO_LARGE = re.compile(
    r"invalid memory alloc request size \d{10,}|Cannot enlarge string buffer|string buffer exceeds maximum allowed"
)


def too_large(table: str) -> str:
    """What is to be done about a row that no dump can carry."""
    return (
        f"A row of {table} takes more than 1 GiB as text (bytea doubles), and PostgreSQL cannot write it; keep the "
        "value in pieces or as a large object, name the table in db_backup_without_rows, or make base backups "
        "(playbooks/pitr.yml), which take it as it is"
    )


def key(what: Literal["globals", "schema", "data"], encryption: Encryption, *, stream: int = 0, part: int = 0) -> str:
    """Name of an object within its backup.

    >>> key("data", "age", stream=1, part=2)
    'data-01.dump.zst.age.0002'
    """
    name = {"globals": "globals.sql", "schema": "schema.dump", "data": f"data-{stream:02}.dump"}[what] + ".zst"
    return name + (f".{encryption}" if encryption != "none" else "") + (f".{part:04}" if part else "")


def check_client(client_version: int, server_version: int, *, bindir: str) -> None:
    """Refuse client programs that do not know the server.

    :param client_version: major version of pg_dump
    :param server_version: PostgreSQL's ``server_version_num``
    :raises RunbookError: they are older than the server
    """
    if client_version < server_version // 10000:
        raise RunbookError(
            f"bindir: pg_dump in {bindir} is of PostgreSQL {client_version}, older than the server's "
            f"{server_version // 10000}; install the client programs of {server_version // 10000} or newer."
        )


def began(server: datetime, bucket: datetime) -> datetime:
    """When a backup began, which is its name.

    The earlier of two clocks: a name that lies in the future would be the newest backup for ever, and one that lies in
    the past is noticed by the check of its age.
    """
    return min(server, bucket)


@dataclass(frozen=True)
class Settings:
    """What the inventory chose for the objects."""

    jobs: int
    compression_level: int
    encryption: Encryption
    recipients: tuple[str, ...]

    def tools(self, *, pg_dump: str, project: str) -> Tools:
        """As the manifest says it."""
        return Tools(pg_dump, project, f"zstd:{self.compression_level}", self.encryption)

    def check(self) -> None:
        """Refuse what contradicts itself.

        :raises RunbookError: encryption without recipients, recipients without encryption, one that is an option
        """
        if self.encryption != "none" and not self.recipients:
            raise RunbookError(
                f"recipients: they are empty, and encryption is {self.encryption}; name at least one public key."
            )
        if self.encryption == "none" and self.recipients:
            raise RunbookError("recipients: they are set, and encryption is none; set encryption to age or gpg.")
        for recipient in self.recipients:
            if recipient.startswith("-") or not recipient.strip():
                raise RunbookError(f"recipients: {recipient!r} is no public key; name a key or its fingerprint.")
            if recipient.upper().startswith("AGE-SECRET-KEY"):
                raise RunbookError("recipients: a secret key of age stands there; name the public one (age1…).")


# The manifest -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What the snapshot's session says of the database, besides its rows."""

    source: Source
    roles: tuple[str, ...]
    extensions: tuple[Extension, ...]
    hash: HashInfo


@dataclass(frozen=True)
class Shortcomings:
    """What is known before the dump of what a restore will lack, or will stumble over."""

    gaps: tuple[Gap, ...] = ()
    warnings: tuple[str, ...] = ()
    #: What nobody can change, so that it is no warning.
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dumped:
    """What the programs and the hashing sessions have given so far."""

    objects: tuple[Object, ...] = ()
    dump_bytes: int = 0
    contents: Mapping[QualifiedName, Content] = field(default_factory=dict)
    large_objects: Content = field(default_factory=lambda: Content(0, None))
    #: Seconds that the hashing sessions worked, added up.
    hash_s: float = 0.0
    gaps: tuple[Gap, ...] = ()
    warnings: tuple[str, ...] = ()


def manifest(
    backup_id: str,
    *,
    started: datetime,
    finished: datetime,
    facts: Facts,
    tools: Tools,
    selection: Selection,
    shortcomings: Shortcomings,
    dumped: Dumped,
    sequences: tuple[SequenceEntry, ...] | None,
) -> Manifest:
    """The manifest of a backup whose objects are all in the bucket."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        backup_id=backup_id,
        kind="logical",
        started_at=started.isoformat(),
        finished_at=finished.isoformat(),
        duration_s=round((finished - started) / timedelta(seconds=1), 3),
        source=facts.source,
        tools=tools,
        roles=facts.roles,
        extensions=facts.extensions,
        objects=tuple(sorted(dumped.objects, key=lambda each: each.key)),
        tables=entries(
            selection.tables, dumped.contents, coverage=facts.hash.coverage, without_rows=selection.without_rows
        ),
        large_objects=LargeObjects(dumped.large_objects.rows, dumped.large_objects.digest),
        hash=facts.hash,
        dump_bytes=dumped.dump_bytes,
        warnings=(*shortcomings.warnings, *dumped.warnings),
        missing=sentences([*shortcomings.gaps, *dumped.gaps]),
        without_rows=tuple(map(str, sorted(selection.without_rows))),
        sequences=sequences,
    )


# What is said -------------------------------------------------------------------------------------------------------

#: Messages of the server that hold no row's content, and the fix.
_KNOWN = (
    (r"permission denied for (?:large object|\w+) \S+", "grant pg_read_all_data to the user"),
    (
        r"query would be affected by row-level security policy for table \S+",
        "use a role with BYPASSRLS, or the table's owner",
    ),
    (
        r"out of shared memory",
        "raise max_locks_per_transaction on the server, because a backup locks every table, and restart it",
    ),
    (r"canceling statement due to lock timeout", "somebody holds a lock on a table; look at pg_locks, and start again"),
    (r"canceling statement due to statement timeout", "take statement_timeout from the role, and start again"),
    (r"canceling statement due to conflict with recovery", "raise max_standby_streaming_delay, or back up the primary"),
    (r"terminating connection due to administrator command", "the server was stopped; start again when it answers"),
    (r"server closed the connection unexpectedly", "the server was stopped; start again when it answers"),
    (r"SSL SYSCALL error\S*|SSL connection has been closed unexpectedly", "the connection broke; start again"),
    (r"could not receive data from server\S*|could not connect to server", "the connection broke; start again"),
    (r"relation \S+ does not exist", "it was dropped meanwhile; start again"),
    (r"missing chunk number \d+ for toast value \d+", "the table is damaged; restore it, and check the server's disks"),
    (r"could not read blocks? [\d.]+ in file \S+", "the table is damaged; check the server's disks"),
    (r"invalid page in block \d+", "the table is damaged; check the server's disks"),
    (r"snapshot \S+ does not exist|invalid snapshot identifier", "the session that held it ended; start again"),
    (r"server version mismatch", "install client programs at least as new as the server"),
    (r"no space left on device", "the server's disk is full; make room, and start again"),
)


_SERVER = re.compile(r"(?:ERROR|FATAL|PANIC):\s+(.*)")


def explain_tool(program: str, code: int | None, stderr: str) -> str:
    """One sentence for a program of PostgreSQL that failed. Of the server's words only those are kept that hold no row.

    :param code: its exit code, negative for a signal
    """
    failure = ConnectionFailure.of_program(stderr)
    if failure is not None:
        return f"{program} cannot connect: {failure}."
    if _TOO_LARGE.search(stderr):
        table = re.search(r'[Cc]ontents of table ("[^"\n]+") failed', stderr)
        return f"{program} failed: {too_large(table.group(1) if table else 'a table')}."
    # What the server said is taken apart first; the program's own words quote no row.
    servers = _SERVER.findall(stderr)
    text = " ".join(told(said) for said in servers) if servers else " ".join(stderr.split())
    for known, fix in _KNOWN:
        found = re.search(known, text, re.IGNORECASE)
        if found:
            return f"{program} failed: {found.group(0)}; {fix}."
    if code is not None and code < 0:
        return f"{program} was killed by signal {-code}; look who did that (memory?), and start again."
    first = re.search(r"^pg_\w+: error: (.*)$", stderr, re.MULTILINE)
    # What the server said stands behind a further colon, and may hold a row.
    own = re.split(r":\s|\bERROR\b|\bDETAIL\b", first.group(1) if first else "")[0].strip().rstrip(".")
    own = re.sub(r"'[^']*'|\([^)]*\)", "…", own)[:200]
    return f"{program} ended with {code}{': ' + own if own else ''}; see the server's log for more."


@dataclass(frozen=True)
class Figures:
    """What a backup came to."""

    tables: int
    rows: int | None
    dump_bytes: int
    size_bytes: int
    duration_s: float
    coverage: str
    #: What it is known to be without.
    missing: Sequence[str] = ()


def sentence(database: str, where: str, figures: Figures) -> str:
    """What was backed up, to where, in what time."""
    rows = "uncounted rows" if figures.rows is None else count(figures.rows, "row")
    proof = {"all": "every table hashed", "sampled": "a sample of the rows hashed", "none": "nothing hashed"}
    rate = figures.dump_bytes / figures.duration_s if figures.duration_s > 0 else 0.0
    return (
        f"Backed up {database}, {count(figures.tables, 'table')} with {rows}, to {where} in "
        f"{figures.duration_s:.1f} s: {size_text(figures.dump_bytes)} at {size_text(rate)}/s, "
        f"{size_text(figures.size_bytes)} stored, {proof[figures.coverage]}.{without(figures.missing)}"
    )


def promise(database: str, where: str, tables: Sequence[Table], streams: Sequence[Sequence[Table]]) -> str:
    """What would be backed up."""
    size = size_text(sum(table.size_bytes for table in tables))
    return (
        f"Would back up {database}, {count(len(tables), 'table')} of {size}, to {where} in {len(streams) + 1} "
        f"stream{'s' if streams else ''}."
    )


def describe(database: str, tables: Sequence[Table], streams: Sequence[Sequence[Table]]) -> str:
    """The plan as lines, for a diff."""
    named = {table.name for stream in streams for table in stream}
    rest = [table for table in tables if table.name not in named]
    lines = [f"database {database}: {count(len(tables), 'table')}"]
    for number, stream in enumerate([rest, *streams]):
        size = size_text(sum(table.size_bytes for table in stream))
        biggest = ", ".join(str(table.name) for table in sorted(stream, key=lambda table: -table.size_bytes)[:5])
        lines.append(f"stream {number}: {count(len(stream), 'table')}, {size}{': ' + biggest if biggest else ''}")
    return as_lines(lines)


def roles_of(found: Mapping[str, object]) -> tuple[str, ...]:
    """Roles that a restore needs, without PostgreSQL's own (which every server has)."""
    return tuple(sorted(name for name in found if not name.startswith("pg_")))
