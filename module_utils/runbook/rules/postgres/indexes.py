"""Which indexes are missing, unused, said twice, or invalid; and which big tables are read from end to end.

An index is *unused* if no query of this server has scanned it for a number of days that the statistics cover, and
nothing else hangs on it: a constraint, uniqueness, the replica identity, a foreign key. On a standby other queries run,
so beside one, or on one, nobody can tell. It is a *duplicate* if another index has the same columns in the same order,
and *redundant* if another one begins with all of its columns. A foreign key *lacks an index* if each DELETE in the
table that it refers to reads the whole table (PostgreSQL's documentation, "Foreign Keys").

Partitions are judged together with the partitioned table that they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.identifiers import MAX_IDENTIFIER_BYTES, QualifiedName
from ansible.module_utils.runbook.rules.supabase.managed import PLATFORM_OWNERS
from ansible.module_utils.runbook.rules.words import agree, count, size, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.rules.findings import Estimate, Severity

    #: Quotes an identifier, or several that are joined by dots.
    Quote = Callable[..., str]

#: A table is read from end to end too often if that happens every hour, and each time this many rows are read.
SCANS_A_DAY = 24
ROWS_A_SCAN = 100_000
#: The planner would use a proposed index if the query costs no more than this share of what it costs now.
USEFUL_SHARE = 0.9


@dataclass(frozen=True)
class Table:
    """An ordinary or partitioned table, or a materialised view."""

    oid: int
    name: QualifiedName
    #: ``pg_class.relkind``: r table, p partitioned table, m materialised view
    kind: str
    owner: str
    #: None where a lock kept it from being counted.
    size_bytes: int | None
    live_rows: int
    #: The partitioned table that it is a partition of.
    parent_oid: int | None = None
    #: Since the statistics began.
    sequential_scans: int = 0
    sequential_rows: int = 0
    written_rows: int = 0
    deleted_rows: int = 0
    #: In transactions and in multixacts, TOAST included; None where it has no rows of its own.
    xid_age: int | None = None
    mxid_age: int | None = None

    @property
    def is_platforms(self) -> bool:
        """Whether a managed platform made it: then nobody else can alter it, and advice on it is noise."""
        return self.owner in PLATFORM_OWNERS


@dataclass(frozen=True)
class Index:
    """An index of a table, or a partitioned one."""

    oid: int
    name: QualifiedName
    table_oid: int
    #: ``pg_class.relkind``: i index, I partitioned index
    kind: str
    access_method: str
    #: None where a lock kept it from being counted.
    size_bytes: int | None
    #: Of each key column what makes its order: column number or expression, operator class, collation, options.
    keys: tuple[tuple[str, int, int, int], ...]
    #: Columns that are only carried along (INCLUDE).
    included: frozenset[str] = frozenset()
    predicate: str | None = None
    is_unique: bool = False
    nulls_not_distinct: bool = False
    #: Its constraint may wait for the end of the transaction.
    is_deferrable: bool = False
    is_valid: bool = True
    #: Somebody is building it right now.
    is_building: bool = False
    is_primary: bool = False
    is_replica_identity: bool = False
    #: The constraint that it enforces.
    constraint: str | None = None
    #: A foreign key refers to it.
    is_referenced: bool = False
    #: The partitioned index that it is a part of.
    parent_oid: int | None = None
    scans: int = 0
    #: Known since PostgreSQL 16.
    last_scan: datetime | None = None
    #: Known where the server keeps the times of commits.
    created_at: datetime | None = None
    #: As CREATE INDEX would make it again.
    definition: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """Numbers of its key columns, and its expressions."""
        return frozenset(key[0] for key in self.keys)

    @property
    def is_bound(self) -> bool:
        """Whether something else than queries needs it."""
        return self.is_unique or self.constraint is not None or self.is_replica_identity or self.is_referenced


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, of a partition too."""

    oid: int
    name: str
    table_oid: int
    referenced_oid: int
    #: Number and name of each referring column.
    columns: tuple[tuple[int, str], ...]
    #: The foreign key of the partitioned table that this one comes from.
    parent_oid: int | None = None


@dataclass(frozen=True)
class Catalog:
    """What was read of a database."""

    tables: Mapping[int, Table]
    indexes: Sequence[Index]
    foreign_keys: Sequence[ForeignKey]
    now: datetime
    #: When the counters began; None: nobody knows.
    counted_since: datetime | None
    counts: bool
    is_standby: bool
    #: Standbys that are connected.
    standbys: int
    #: The same as long as nothing has made the counters start over.
    counters_id: str = ""
    #: Tables that somebody has for himself; their indexes are not among those read.
    locked: Sequence[str] = ()

    def days_counted(self) -> float | None:
        """How many days the counters cover."""
        if self.counted_since is None:
            return None
        return round(max((self.now - self.counted_since).total_seconds(), 0) / 86_400, 2)


@dataclass(frozen=True)
class Proposal:
    """A finding that proposes an index on one table, so that the planner can be asked what it would win."""

    finding: Finding
    table: QualifiedName
    columns: tuple[str, ...]


def _id(kind: str, table: QualifiedName, *rest: str) -> str:
    return finding_id(kind, *table, *rest)


def _rights(table: Table) -> str:
    return f"It needs the rights of {table.owner}."


class Indexes:
    """The indexes of a catalog, by what a judgement needs."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.children: dict[int, list[Index]] = {}
        #: Those that stand for themselves, by table; a partition's part of a partitioned index does not.
        self.roots: dict[int, list[Index]] = {}
        #: All that queries can use, by table.
        self.usable: dict[int, list[Index]] = {}
        for index in catalog.indexes:
            if index.table_oid not in catalog.tables or catalog.tables[index.table_oid].is_platforms:
                continue
            if index.parent_oid is not None:
                self.children.setdefault(index.parent_oid, []).append(index)
            elif index.is_valid:
                self.roots.setdefault(index.table_oid, []).append(index)
            if index.is_valid:
                self.usable.setdefault(index.table_oid, []).append(index)

    def parts(self, index: Index) -> list[Index]:
        """The index itself, or the parts of a partitioned one."""
        if index.kind != "I":
            return [index]
        return [part for child in self.children.get(index.oid, []) for part in self.parts(child)]

    def scans(self, index: Index) -> int:
        """How often it was scanned."""
        return sum(part.scans for part in self.parts(index))

    def last_scan(self, index: Index) -> datetime | None:
        """When it was scanned last, where the server knows."""
        return max((part.last_scan for part in self.parts(index) if part.last_scan is not None), default=None)

    def size_bytes(self, index: Index) -> int:
        """What it takes, as far as it is known."""
        return sum(part.size_bytes or 0 for part in self.parts(index))

    def serves(self, index: Index, columns: Sequence[tuple[int, str]]) -> bool:
        """Whether the server finds with it the rows of a foreign key.

        A predicate that only leaves out nulls does no harm: a null refers to nothing.
        """
        if index.access_method not in ("btree", "hash") or not index.is_valid:
            return False
        names = [name for _, name in columns]
        names += ['"{}"'.format(name.replace('"', '""')) for name in names]
        if index.predicate is not None and index.predicate not in {f"({name} IS NOT NULL)" for name in names}:
            return False
        return {key[0] for key in index.keys[: len(columns)]} == {str(number) for number, _ in columns}

    def drop(self, index: Index, quote: Quote) -> tuple[tuple[str, ...], str]:
        """How it is dropped, and what that costs."""
        table = self.catalog.tables[index.table_oid]
        back = "CREATE INDEX makes it again, as evidence.definition says"
        if index.constraint is not None:
            statement = f"ALTER TABLE {quote(*table.name)} DROP CONSTRAINT {quote(index.constraint)}"
            return (statement,), f"Takes an ACCESS EXCLUSIVE lock on the table for a moment. {_rights(table)}"
        if index.kind == "I":
            statement = f"DROP INDEX {quote(*index.name)}"
            return (
                (statement,),
                f"Takes an ACCESS EXCLUSIVE lock on all partitions for a moment; {back}. {_rights(table)}",
            )
        risk = f"A query that does use it gets slower; {back}. {_rights(table)}"
        if not all(column.isdecimal() for column in index.columns):
            risk = f"The planner loses the statistics of its expressions, which count no scan. {risk}"
        return (f"DROP INDEX CONCURRENTLY {quote(*index.name)}",), risk


def duplicates(indexes: Indexes, quote: Quote) -> list[Finding]:
    """Indexes beside which another one has the same columns in the same order, for the same rows."""
    found = []
    for table_oid, of_table in indexes.usable.items():
        table = indexes.catalog.tables[table_oid]
        alike: dict[tuple[object, ...], list[Index]] = {}
        for index in of_table:
            if not index.is_building:
                # Of other types storage parameters say what the index can do: BRIN's ranges, a signature's length.
                rest = "" if index.access_method == "btree" else index.definition.partition(" USING ")[2]
                signature = (index.access_method, index.keys, index.included, index.predicate, index.kind, rest)
                alike.setdefault(signature, []).append(index)
        for group in alike.values():
            kept, *others = sorted(
                group,
                key=lambda one: (
                    one.parent_oid is None,
                    not one.is_primary,
                    not one.is_referenced,
                    not one.is_replica_identity,
                    one.constraint is None,
                    not one.is_unique,
                    # Not by OID, which a restore changes; a copy often bears the longer name.
                    len(one.name.name),
                    one.name,
                ),
            )
            for index in others:
                if index.is_referenced or index.is_replica_identity or index.parent_oid is not None:
                    continue
                # One that enforces something is dropped only beside one that enforces the same.
                if index.is_unique and _enforced(index) != _enforced(kept):
                    continue
                if index.constraint is not None and not index.is_unique:
                    continue
                found.append(_twin("duplicate_index", "warning", indexes, table, index, kept, quote))
    return found


def _enforced(index: Index) -> tuple[bool, bool, bool]:
    return index.is_unique, index.nulls_not_distinct, index.is_deferrable


def redundant(indexes: Indexes, quote: Quote, *, without: Iterable[str] = ()) -> list[Finding]:
    """B-tree indexes all of whose columns another one begins with, for the same rows.

    :param without: names of indexes that are findings already
    """
    found = []
    known = set(without)
    for table_oid, of_table in indexes.usable.items():
        btrees = [one for one in of_table if one.access_method == "btree" and not one.is_building]
        for index in btrees:
            if index.is_bound or index.parent_oid is not None or str(index.name) in known:
                continue
            wider = [
                one
                for one in btrees
                if len(one.keys) > len(index.keys)
                and str(one.name) not in known
                and one.kind == index.kind
                and one.keys[: len(index.keys)] == index.keys
                and one.predicate == index.predicate
                and index.included <= (one.included | one.columns)
            ]
            if wider:
                better = min(wider, key=lambda one: (len(one.keys), indexes.size_bytes(one), one.name))
                table = indexes.catalog.tables[table_oid]
                found.append(_twin("redundant_index", "info", indexes, table, index, better, quote))
    return found


def _twin(
    kind: str, severity: Severity, indexes: Indexes, table: Table, index: Index, other: Index, quote: Quote
) -> Finding:
    statements, risk = indexes.drop(index, quote)
    bytes_ = indexes.size_bytes(index)
    said = "has the same columns as" if kind == "duplicate_index" else "has only columns that lead"
    return Finding(
        _id(kind, table.name, index.name.name),
        kind,
        severity,
        str(index.name),
        {
            "table": str(table.name),
            "size_bytes": bytes_,
            "scans": indexes.scans(index),
            "other_index": str(other.name),
            "other_size_bytes": indexes.size_bytes(other),
            "other_scans": indexes.scans(other),
            "table_written_rows": table.written_rows,
            "definition": index.definition,
        },
        f"{index.name} ({size(bytes_)}) {said} {other.name} ({size(indexes.size_bytes(other))}); each write of "
        f"{table.name} keeps both.",
        statements,
        risk,
    )


def unused(
    indexes: Indexes, quote: Quote, *, after_days: int, min_size_bytes: int, without: Iterable[str] = ()
) -> tuple[list[Finding], list[Unknown]]:
    """Indexes that no query has scanned for ``after_days`` days.

    :param min_size_bytes: a smaller one costs little
    :param without: names of indexes that are findings already
    """
    catalog, known = indexes.catalog, set(without)
    longest = timedelta(days=after_days)
    keys: dict[int, list[ForeignKey]] = {}
    for key in catalog.foreign_keys:
        keys.setdefault(key.table_oid, []).append(key)

    def idle(index: Index) -> bool:
        if index.is_bound or index.is_building or str(index.name) in known or not indexes.parts(index):
            return False
        if indexes.size_bytes(index) < min_size_bytes:
            return False
        last = indexes.last_scan(index)
        if indexes.scans(index) and (not after_days or last is None or catalog.now - last < longest):
            return False
        # Its foreign key would lack an index without it, though no row was deleted there yet.
        others = [one for one in indexes.usable.get(index.table_oid, []) if one.oid != index.oid]
        return not any(
            indexes.serves(index, key.columns) and not any(indexes.serves(one, key.columns) for one in others)
            for key in keys.get(index.table_oid, [])
        )

    candidates = [index for of_table in indexes.roots.values() for index in of_table if idle(index)]
    if not candidates:
        return [], []
    reason, fixable = _untold(catalog, after_days)
    if reason:
        return [], [
            Unknown(
                "unused_index",
                f"{count(len(candidates), 'index was', 'indexes were')} not scanned, but {reason}",
                fixable,
            )
        ]
    found = []
    for index in candidates:
        if index.created_at is not None and catalog.now - index.created_at < longest:
            continue
        table = catalog.tables[index.table_oid]
        statements, risk = indexes.drop(index, quote)
        bytes_, last = indexes.size_bytes(index), indexes.last_scan(index)
        found.append(
            Finding(
                _id("unused_index", table.name, index.name.name),
                "unused_index",
                "info",
                str(index.name),
                {
                    "table": str(table.name),
                    "size_bytes": bytes_,
                    "scans": indexes.scans(index),
                    "last_scan_at": None if last is None else last.isoformat(timespec="seconds"),
                    "counted_days": catalog.days_counted(),
                    "table_written_rows": table.written_rows,
                    "definition": index.definition,
                },
                f"No query has used {index.name} ({size(bytes_)}) "
                f"{'for ' + count(after_days, 'day') if after_days else 'since the counters began'}; "
                f"{count(table.written_rows, 'row')} of {table.name} {agree(table.written_rows, 'was', 'were')} "
                f"written since then, and it was kept up to date.",
                statements,
                f"{risk} An index that is younger than the statistics looks the same.",
            )
        )
    return found, []


def _untold(catalog: Catalog, after_days: int) -> tuple[str | None, bool]:
    """Why nobody can tell which indexes are unused, and whether somebody could change that."""
    if not catalog.counts:
        return "the server counts nothing: set track_counts = on.", True
    if catalog.is_standby:
        return "this is a standby, and the primary's queries are others: ask there too.", False
    if catalog.standbys:
        standbys = count(catalog.standbys, "standby", "standbys")
        return f"{standbys} may use them, which the counters here do not see: ask there before.", False
    days = catalog.days_counted()
    if after_days and (catalog.counted_since is None or days is None):
        return "nobody knows since when the server counts.", False
    if catalog.counted_since is not None and days is not None and days < after_days:
        from_then = catalog.counted_since + timedelta(days=after_days)
        covered = f"{days:g} of {count(after_days, 'day')}"
        return f"the statistics cover only {covered}: ask again from {from_then:%Y-%m-%d} on.", False
    return None, False


def invalid(indexes: Indexes, quote: Quote) -> list[Finding]:
    """Indexes that no query uses, because their building did not come to its end."""
    found = []
    for index in indexes.catalog.indexes:
        if index.is_valid or index.is_building or index.kind == "I" or index.table_oid not in indexes.catalog.tables:
            continue
        table = indexes.catalog.tables[index.table_oid]
        if table.is_platforms:
            continue
        base = index.name.name.rstrip("0123456789")
        twin = any(one.keys == index.keys for one in indexes.usable.get(index.table_oid, []))
        if base.endswith(("_ccnew", "_ccold")) and twin and index.constraint is None:
            statement = f"DROP INDEX CONCURRENTLY {quote(*index.name)}"
            said = "was left behind by an interrupted REINDEX CONCURRENTLY"
            risk = f"None: a valid index does its work. {_rights(table)}"
        else:
            statement = f"REINDEX INDEX CONCURRENTLY {quote(*index.name)}"
            said = "is invalid"
            risk = f"Reads the table twice, and waits for old transactions. {_rights(table)}"
            if index.is_unique:
                risk = f"Fails as long as rows with equal keys are there. {risk}"
        found.append(
            Finding(
                _id("invalid_index", table.name, index.name.name),
                "invalid_index",
                "warning",
                str(index.name),
                {"table": str(table.name), "size_bytes": index.size_bytes, "definition": index.definition},
                f"{index.name} ({size(index.size_bytes)}) {said}: no query uses it, and each write of {table.name} "
                "keeps it up to date all the same.",
                (statement,),
                risk,
            )
        )
    return found


def missing_foreign_key_indexes(indexes: Indexes, quote: Quote, *, min_size_bytes: int) -> list[Proposal]:
    """Foreign keys without an index on the referring columns, where the table is not small.

    :param min_size_bytes: a smaller table is read in no time
    """
    catalog = indexes.catalog
    by_oid = {key.oid: key for key in catalog.foreign_keys}
    lacking: dict[tuple[int, tuple[str, ...]], tuple[ForeignKey, list[Table]]] = {}
    named = [(catalog.tables[key.table_oid], key) for key in catalog.foreign_keys if key.table_oid in catalog.tables]
    for table, key in sorted(named, key=lambda pair: (pair[0].name, pair[1].name)):
        if table.kind != "r" or table.is_platforms:
            continue
        if any(indexes.serves(index, key.columns) for index in indexes.usable.get(table.oid, [])):
            continue
        top = key
        while top.parent_oid is not None and top.parent_oid in by_oid:
            top = by_oid[top.parent_oid]
        group = lacking.setdefault((top.table_oid, tuple(name for _, name in key.columns)), (top, []))
        if table not in group[1]:
            group[1].append(table)
    names = [one.name for one in catalog.tables.values()] + [one.name for one in catalog.indexes]
    taken = {(name.schema, name.name) for name in names}
    found = []
    for (table_oid, columns), (key, parts) in lacking.items():
        bytes_ = sum(part.size_bytes or 0 for part in parts)
        if bytes_ < min_size_bytes or table_oid not in catalog.tables:
            continue
        table = catalog.tables[table_oid]
        referenced = catalog.tables.get(key.referenced_oid)
        target = str(referenced.name) if referenced else "a table that was dropped meanwhile"
        deleted = referenced.deleted_rows if referenced else 0
        rows = sum(part.live_rows for part in parts)
        said = f"each row deleted there reads {size(bytes_)}"
        found.append(
            Proposal(
                Finding(
                    _id("missing_foreign_key_index", table.name, *columns),
                    "missing_foreign_key_index",
                    "warning" if deleted else "info",
                    str(table.name),
                    {
                        "columns": list(columns),
                        "constraint": key.name,
                        "references": target,
                        "size_bytes": bytes_,
                        "live_rows": rows,
                        "partitions": len(parts) if table.kind == "p" else 0,
                        "referenced_deleted_rows": deleted,
                    },
                    f"{table.name} refers to {target} by {', '.join(columns)} without an index: {said}, and "
                    f"{count(deleted, 'row was', 'rows were')} deleted since the statistics began.",
                    _create(catalog, table, columns, taken, quote)[1],
                    "Reads the table twice while everybody works, and waits for old transactions; each write gets a "
                    f"little slower. {_rights(table)}",
                ),
                table.name,
                columns,
            )
        )
    return found


def _create(
    catalog: Catalog, table: Table, columns: Sequence[str], taken: set[tuple[str, str]], quote: Quote
) -> tuple[str, list[str]]:
    """Name of a new index, and how it is made while everybody works; of a partitioned table, part by part."""
    listed = ", ".join(quote(column) for column in columns)
    name = _free_name(table.name, columns, taken)
    if table.kind != "p":
        return name, [f"CREATE INDEX CONCURRENTLY {quote(name)} ON {quote(*table.name)} ({listed})"]
    # An index on ONLY the parent is invalid until each partition's has been attached.
    statements = [f"CREATE INDEX {quote(name)} ON ONLY {quote(*table.name)} ({listed})"]
    for part in sorted(catalog.tables.values(), key=lambda one: one.name):
        if part.parent_oid == table.oid:
            below, made = _create(catalog, part, columns, taken, quote)
            attach = f"ALTER INDEX {quote(table.name.schema, name)} ATTACH PARTITION {quote(part.name.schema, below)}"
            statements += [*made, attach]
    return name, statements


def _free_name(table: QualifiedName, columns: Sequence[str], taken: set[tuple[str, str]]) -> str:
    """A name like PostgreSQL's own, ``table_column_idx``, that nothing in the schema bears."""
    number = 0
    while True:
        tail = f"_idx{number or ''}"
        stem = "_".join([table.name, *columns]).encode()[: MAX_IDENTIFIER_BYTES - len(tail)]
        name = stem.decode(errors="ignore") + tail
        if (table.schema, name) not in taken:
            taken.add((table.schema, name))
            return name
        number += 1


def weighed(finding: Finding, estimate: Estimate | None) -> Finding:
    """The finding with what the planner says of the index that it proposes; less severe where it would not use it."""
    if estimate is None:
        return finding
    if estimate.cost_after > USEFUL_SHARE * estimate.cost_before:
        said = f"{finding.msg.removesuffix('.')}; yet the planner would not use an index today."
        return replace(finding, estimated=estimate, severity="info", msg=said)
    return replace(finding, estimated=estimate)


def sequential_scans(indexes: Indexes, *, min_size_bytes: int) -> list[Finding]:
    """Big tables that are read from end to end all the time; a backup once a day is no such thing."""
    days = indexes.catalog.days_counted() or 0
    found = []
    for table in indexes.catalog.tables.values():
        if table.is_platforms or not table.sequential_scans or (table.size_bytes or 0) < min_size_bytes:
            continue
        per_scan = table.sequential_rows / table.sequential_scans
        per_day = table.sequential_scans / max(days, 1)
        if per_day < SCANS_A_DAY or per_scan < ROWS_A_SCAN:
            continue
        by_index = sum(one.scans for one in indexes.usable.get(table.oid, []))
        found.append(
            Finding(
                _id("sequential_scans", table.name),
                "sequential_scans",
                "warning",
                str(table.name),
                {
                    "size_bytes": table.size_bytes,
                    "live_rows": table.live_rows,
                    "sequential_scans": table.sequential_scans,
                    "rows_per_scan": round(per_scan),
                    "index_scans": by_index,
                    "counted_days": days,
                },
                f"{table.name} ({size(table.size_bytes)}) was read from end to end "
                f"{count(table.sequential_scans, 'time')} in "
                f"{days:g} {agree(days, 'day', 'days')}, {count(round(per_scan), 'row')} each time.",
                (),
                "Which index would serve depends on the queries; look for this table among the heaviest.",
            )
        )
    return found


def judge(
    catalog: Catalog, quote: Quote, *, unused_after_days: int, min_size_bytes: int
) -> tuple[list[Finding], list[Proposal], list[Unknown]]:
    """Everything about indexes: findings, those that propose one, and what could not be judged.

    :param quote: quotes an identifier, or several that are joined by dots
    :param unused_after_days: days without a scan that make an index unused
    :param min_size_bytes: smaller tables need no index, and smaller indexes need no reproach for being unused
    """
    indexes = Indexes(catalog)
    found = duplicates(indexes, quote)
    idle, unknown = unused(
        indexes,
        quote,
        after_days=unused_after_days,
        min_size_bytes=min_size_bytes,
        without=[one.object for one in found],
    )
    found += idle
    # Not beside one that is to go itself: both statements together would leave no index at all.
    found += redundant(indexes, quote, without=[one.object for one in found])
    found += invalid(indexes, quote) + sequential_scans(indexes, min_size_bytes=min_size_bytes)
    if catalog.locked:
        unknown.append(
            Unknown("locked_tables", f"{some(list(catalog.locked))}: exclusively locked, so nobody looked. Run again.")
        )
    return found, missing_foreign_key_indexes(indexes, quote, min_size_bytes=min_size_bytes), unknown
