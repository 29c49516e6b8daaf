"""How old rows get from a table to its archive: what forbids it, how they move, how large a batch is.

A row moves in one transaction that deletes it from the source and inserts it into the archive, so it is always in
exactly one of the two. Rows move in batches whose size adapts to a target time. Partitions that are old as a whole are
detached from the source and attached to the archive instead.

In order: what the catalog says (:class:`Table` and its parts), what is refused (:func:`refuse`), how the rows move
(:func:`route`), the plan (:func:`plan`), what was done (:class:`Tally`), and how large the next batch is
(:func:`next_batch`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, count, to_second

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.archive_access import Right

#: The one column that the archive may have and the source need not: when the row was moved.
STAMP = "archived_at"
TIME_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")

FIRST_BATCH_ROWS = 500
MAX_BATCH_ROWS = 50_000
#: One batch may be at most this many times as large as the one before it.
GROWTH = 2.0


@dataclass(frozen=True)
class Column:
    """A column; ``type`` is PostgreSQL's own text of it, such as ``numeric(10,2)``."""

    name: str
    type: str
    #: The type beneath any domains, without a modifier.
    base_type: str
    collation: str | None = None
    not_null: bool = False
    #: The expression of a generated column, empty for others.
    generated: str = ""
    identity: bool = False


@dataclass(frozen=True)
class Index:
    """An index; ``columns`` is empty where it is over expressions."""

    name: str
    columns: tuple[str, ...]
    #: Unique, at once, of all rows.
    unique: bool = False
    #: Identifies a row for certain: unique, over columns that are never null.
    is_key: bool = False
    primary: bool = False
    #: A btree over all rows, so rows can be read in its order.
    ordered: bool = False
    #: Everything that makes two indexes the same for ATTACH PARTITION.
    signature: str = ""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, and the table at its other end."""

    name: str
    table: str
    on_delete: str
    on_update: str = "NO ACTION"

    @property
    def actions(self) -> str:
        """Its ON DELETE clause, and its ON UPDATE clause where that changes rows."""
        update = "" if self.on_update in {"NO ACTION", "RESTRICT"} else f" ON UPDATE {self.on_update}"
        return f"ON DELETE {self.on_delete}{update}"


@dataclass(frozen=True)
class Trigger:
    """A trigger that fires on the rows that are moved."""

    name: str
    #: The partition that has it; empty where it is the named table itself.
    table: str = ""
    #: It is BEFORE … FOR EACH ROW: what it does to a row shows in the row that is stored.
    before_row: bool = False

    def __str__(self) -> str:
        return f"{self.name} of {self.table}" if self.table else self.name


@dataclass(frozen=True)
class Publication:
    """A publication that a table belongs to, and which changes of its rows it publishes."""

    name: str
    inserts: bool
    deletes: bool
    #: It leaves out some of the rows or columns.
    filtered: bool = False
    #: A replication slot holds what subscribers have not read yet.
    followed: bool = False


@dataclass(frozen=True)
class Brought:
    """What a partition has of its own and leaves behind when it moves to the archive; names, except for the rights."""

    owner: str
    #: Those inherited from the source too: a partition keeps them when it is detached.
    foreign_keys: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    publications: tuple[str, ...] = ()
    #: Rights on it that its new owner's table does not give.
    rights: tuple[Right, ...] = ()
    #: The archive has row security and this partition has not; likewise for its owner.
    bare: bool = False
    unforced: bool = False
    #: Publications that this role may not drop it from.
    stuck: tuple[str, ...] = ()
    unlogged: bool = False

    def __str__(self) -> str:
        kinds = {
            "foreign keys": self.foreign_keys,
            "triggers": self.triggers,
            "rules": self.rules,
            "policies": self.policies,
            "publications": self.publications,
            "rights": self.rights,
        }
        return ", ".join(f"{kind} ({_names(names)})" for kind, names in kinds.items() if names)


@dataclass(frozen=True)
class Partition:
    """A partition of the source. ``bounds`` and ``constraint`` are the server's own text of its limits."""

    name: QualifiedName
    bounds: str
    constraint: str
    #: It is a table of its own rows, and the connected role may alter it.
    movable: bool
    #: Its upper limit is not after the cutoff.
    is_old: bool
    rows: int = 0
    oldest: str | None = None
    newest: str | None = None
    signatures: frozenset[str] = frozenset()
    brought: Brought | None = None


@dataclass(frozen=True)
class Table:
    """What the catalog says about the source or the archive."""

    name: QualifiedName
    #: pg_class.relkind: r table, p partitioned table, v view, m materialized view, f foreign table
    kind: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...] = ()
    #: pg_class.relpersistence: p permanent, u unlogged, t temporary
    persistence: str = "p"
    owner: str = ""
    #: The connected role may alter it.
    owned: bool = True
    rights: frozenset[str] = frozenset({"USAGE", "SELECT", "INSERT", "UPDATE", "DELETE"})
    #: Row-level security hides rows from the connected role, or may.
    row_security: bool = False
    #: Row-level security is active for it, and a policy opens every row.
    by_policy: bool = False
    #: Enabled triggers that fire when rows are moved, those of partitions too.
    triggers: tuple[Trigger, ...] = ()
    rules: tuple[str, ...] = ()
    #: Foreign keys that point at it, or at a table of its tree.
    referrers: tuple[ForeignKey, ...] = ()
    #: Foreign keys of its own that delete or change its rows when others are deleted or changed elsewhere.
    vanishing: tuple[ForeignKey, ...] = ()
    #: Subscriptions that fill it, or a table of its tree.
    subscriptions: tuple[str, ...] = ()
    publications: tuple[Publication, ...] = ()
    #: Tables that inherit from it; partitions are not meant.
    children: tuple[str, ...] = ()
    #: Object ids of all tables that stand in one tree with it, of partitions or of inheritance.
    tree: frozenset[int] = frozenset()
    #: pg_partitioned_table.partstrat: r range, l list, h hash; empty where it is not partitioned
    partitioned_by: str = ""
    partition_columns: tuple[str, ...] = ()
    has_default_partition: bool = False
    foreign_partitions: tuple[str, ...] = ()
    partitions: tuple[Partition, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of that name, None if there is none."""
        return next((column for column in self.columns if column.name == name), None)

    def named(self, name: str) -> Column:
        """The column of that name, which must exist."""
        return next(column for column in self.columns if column.name == name)

    @property
    def stamped(self) -> bool:
        """Whether it has the column that says when a row was moved."""
        return self.column(STAMP) is not None

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row: of the primary key, else of the first unique index that does; or none."""
        keys = sorted((index for index in self.indexes if index.is_key), key=lambda index: not index.primary)
        return keys[0].columns if keys else ()

    def has_key_on(self, columns: Sequence[str]) -> bool:
        """Whether a unique index stands over just these columns, in any order; that of an archive may let nulls in."""
        return any(index.unique and sorted(index.columns) == sorted(columns) for index in self.indexes)

    def ordered_by(self, column: str) -> bool:
        """Whether an index gives the rows in the order of ``column``."""
        return any(index.ordered and index.columns[:1] == (column,) for index in self.indexes)


@dataclass(frozen=True)
class Schema:
    """The schema in which the archive is to be made."""

    exists: bool
    #: Those of a managed platform's roles that the server has.
    platform_roles: tuple[str, ...] = ()
    #: Publications of all its tables.
    publications: tuple[Publication, ...] = ()


def _names(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


def refuse(
    source: Table,
    archive: Table | None,
    schema: Schema,
    archive_name: QualifiedName,
    column: str,
) -> None:
    """Refuse what must not be moved, before anything is.

    :raises RunbookError: one sentence that names what was found, and the fix
    """
    found = _refuse_managed(source, schema, archive_name) or _refuse_source(source, column)
    if found is None and archive is None:
        found = _refuse_making(source, schema, archive_name)
    elif found is None and archive is not None:
        found = _refuse_archive(source, archive) or _refuse_drift(source, archive)
    if found is not None:
        raise RunbookError(found)


def refuse_triggers(source: Table, archive: Table | None, allowed: Sequence[str] = ()) -> None:
    """Refuse triggers whose work is not seen by comparing rows: they may do anything to anything.

    They fire where rows are moved one by one; a partition that is moved whole fires none.

    :param allowed: names of triggers that somebody has looked at, and that may fire
    :raises RunbookError: others would fire
    """
    unseen = [each for each in source.triggers if each.name not in allowed]
    if unseen:
        raise RunbookError(
            f"source: taking rows out of {source.name} fires triggers ({_names(unseen)}), and what they do elsewhere "
            "is not seen here; look at them, then name them in allow_triggers or disable them."
        )
    after = [each for each in archive.triggers if not each.before_row] if archive else []
    unseen = [each for each in after if each.name not in allowed]
    if archive and unseen:
        raise RunbookError(
            f"archive: rows put into {archive.name} fire triggers ({_names(unseen)}) once they are stored, and what "
            "they do then is not seen here; look at them, then name them in allow_triggers or disable them."
        )


def _refuse_managed(source: Table, schema: Schema, archive: QualifiedName) -> str | None:
    if not managed.is_platform(schema.platform_roles):
        return None
    if source.owner in managed.PLATFORM_OWNERS or source.name.schema in managed.SCHEMAS:
        return (
            f"source: {source.name} is the platform's ({source.owner} owns it), which alters and empties its own "
            "tables; name a table of your own, and keep what you need of this one by a job that copies it there."
        )
    if archive.schema in managed.SCHEMAS:
        return (
            f"archive: the platform keeps schema {archive.schema!r} for itself; put the archive into a schema of your "
            f"own, as archive.{archive.name} after CREATE SCHEMA archive."
        )
    return None


def _refuse_source(source: Table, column: str) -> str | None:
    if source.kind not in "rp":
        kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
        return f"source: {source.name} is {kinds.get(source.kind, 'no table')}; name the table that holds the rows."
    if source.children:
        return (
            f"source: tables inherit from {source.name} ({_names(source.children)}), and their rows would go along; "
            "archive each of them by itself, or make it a partitioned table."
        )
    if source.foreign_partitions:
        return (
            f"source: partitions of {source.name} are foreign tables ({_names(source.foreign_partitions)}), "
            "which cannot be moved in one transaction; detach them first."
        )
    if source.rules:
        return f"source: {source.name} has rules ({_names(source.rules)}) that rewrite what is done; drop them first."
    if source.row_security:
        return (
            f"source: row security hides rows of {source.name} from this role, so old rows would be left out unseen; "
            "run playbooks/db_roles.yml, which gives runbook_maintain a policy of its own there (one that restricts "
            "has to go first), or connect as a role with BYPASSRLS."
        )
    missing = sorted({"USAGE", "SELECT", "DELETE"} - source.rights)
    if missing:
        return _missing_right("source", source.name, missing)
    found = source.column(column)
    if found is None:
        return (
            f"timestamp_column: {source.name} has no column {column!r}; "
            f"it has {_names([each.name for each in source.columns])}."
        )
    if found.base_type not in TIME_TYPES:
        return (
            f"timestamp_column: {column!r} of {source.name} is of type {found.type}; "
            "name a column of type timestamptz, timestamp or date."
        )
    return _refuse_source_ties(source)


def _refuse_source_ties(source: Table) -> str | None:
    if source.referrers:
        keys = _names([f"{key.name} of {key.table} {key.actions}" for key in source.referrers])
        return (
            f"source: foreign keys point at {source.name} or its tree ({keys}), so rows that are taken out of it would "
            "be missed, or take others with them; archive the referring tables first and drop those keys."
        )
    if source.subscriptions:
        return (
            f"source: {source.name} or its tree is filled by a subscription ({_names(source.subscriptions)}): its "
            "publisher keeps the rows, changes them without the archive, and sends them again when the subscription is "
            "refreshed; archive them at the publisher, or drop the subscription first."
        )
    return None


def _refuse_wider_publishing(archive: QualifiedName, source: Table, publications: Sequence[Publication]) -> str | None:
    of_source = {each.name for each in source.publications if each.inserts and not each.filtered}
    wider = [each.name for each in publications if each.inserts and each.name not in of_source]
    if not wider:
        return None
    return (
        f"archive: {_names(wider)} would publish what is put into {archive}, and does not publish all of "
        f"{source.name}, so subscribers would get rows that they were never to have; leave the archive out of it."
    )


def _missing_right(option: str, name: QualifiedName, missing: Sequence[str]) -> str:
    if "USAGE" in missing:
        return f"{option}: this role lacks USAGE on the schema of {name}; grant it."
    return f"{option}: this role lacks {_names(missing)} on {name}; grant it."


def _refuse_making(source: Table, schema: Schema, name: QualifiedName) -> str | None:
    if not schema.exists:
        return f"archive: there is no schema {name.schema!r} for {name}; create it, or name another."
    return _refuse_wider_publishing(name, source, schema.publications)


def _refuse_archive(source: Table, archive: Table) -> str | None:
    return (
        _refuse_place(source, archive)
        or _refuse_ties(archive)
        or _refuse_wider_publishing(archive.name, source, archive.publications)
        or _refuse_rights(source, archive)
    )


def _refuse_place(source: Table, archive: Table) -> str | None:
    if archive.name == source.name:
        return f"archive: {archive.name} is the source itself; name another table."
    if archive.kind not in "rp":
        return f"archive: {archive.name} is not a table; name a table, or a name that is still free."
    if archive.tree & source.tree:
        return (
            f"archive: {archive.name} and {source.name} stand in one tree of partitions or inheritance; "
            "name a table outside it."
        )
    if archive.persistence != "p" and source.persistence == "p":
        return (
            f"archive: {archive.name} is unlogged, so a crash of the server would empty it; "
            "ALTER TABLE … SET LOGGED first."
        )
    return None


def _refuse_ties(archive: Table) -> str | None:
    if archive.children:
        return (
            f"archive: tables inherit from {archive.name} ({_names(archive.children)}), and rows in them would be "
            "taken for its own; name a table that nothing inherits from."
        )
    if archive.foreign_partitions:
        return (
            f"archive: partitions of {archive.name} are foreign tables ({_names(archive.foreign_partitions)}), "
            "which cannot be written in one transaction with it; detach them first."
        )
    if archive.vanishing:
        keys = _names([f"{key.name} to {key.table} {key.actions}" for key in archive.vanishing])
        return (
            f"archive: foreign keys of {archive.name} ({keys}) delete or change what is archived when the row that "
            "they point at is deleted or gets another key; drop them first."
        )
    if archive.subscriptions:
        return (
            f"archive: {archive.name} or its tree is filled by a subscription ({_names(archive.subscriptions)}), so "
            "its publisher may change, delete or truncate what is archived; name a table that no subscription fills."
        )
    if archive.rules:
        return (
            f"archive: {archive.name} has rules ({_names(archive.rules)}) that rewrite what is done; drop them first."
        )
    return None


def _refuse_rights(source: Table, archive: Table) -> str | None:
    if archive.row_security:
        return (
            f"archive: row security is active on {archive.name} for this role; run playbooks/db_roles.yml, which gives "
            "runbook_maintain a policy of its own there, or connect as a role with BYPASSRLS."
        )
    missing = sorted({"USAGE", "SELECT", "INSERT"} - archive.rights)
    if missing:
        return _missing_right("archive", archive.name, missing)
    if source.key and not archive.has_key_on(source.key) and not archive.owned:
        return (
            f"archive: {archive.name} has no unique index on {_names(source.key)}, so rows that it already holds could "
            f"not be told, and this role may not make one; CREATE UNIQUE INDEX as its owner {archive.owner!r}."
        )
    return None


def _refuse_drift(source: Table, archive: Table) -> str | None:
    there = {column.name: column for column in archive.columns}
    here = {column.name: column for column in source.columns}
    drift: list[str] = []
    missing = [name for name in here if name not in there]
    if missing:
        drift.append(f"the archive lacks {_names(missing)}")
    extra = [name for name in there if name not in here and name != STAMP]
    if extra:
        drift.append(f"only the archive has {_names(extra)}")
    for name, column in here.items():
        other = there.get(name)
        if other is None:
            continue
        if (column.type, column.collation) != (other.type, other.collation):
            drift.append(f"{name} is {_typed(column, other)} in the source and {_typed(other, column)} in the archive")
        elif other.not_null and not column.not_null:
            drift.append(f"{name} may be null in the source and not in the archive")
        elif other.generated and other.generated != column.generated:
            drift.append(f"{name} is generated in the archive and not the same way in the source")
    stamp = there.get(STAMP)
    if stamp and STAMP not in here and stamp.base_type not in TIME_TYPES:
        drift.append(f"{STAMP} of the archive is {stamp.type} and not a timestamptz")
    if not drift:
        return None
    return (
        f"archive: the columns of {archive.name} differ from those of {source.name}: {'; '.join(drift)}; "
        "alter the archive so that it has the same columns."
    )


def _typed(column: Column, other: Column) -> str:
    if column.type == other.type and column.collation != other.collation:
        return f"{column.type} COLLATE {column.collation}"
    return column.type


def followed(publications: Sequence[Publication]) -> str:
    """Names of the publications that have a subscriber for inserted rows; a subscriber stops if it lacks the table."""
    return _names(each.name for each in publications if each.inserts and each.followed)


def refuse_untold(plan: Plan, schema: Schema, archive: QualifiedName) -> None:
    """Refuse to make an archive and fill it in one go where subscribers would be told of its rows.

    :raises RunbookError: they cannot have the table yet, and would stop; the server then keeps all WAL for them
    """
    telling = followed(schema.publications)
    if telling and plan.make_archive and plan.walk:
        raise RunbookError(
            f"archive: {telling} would publish {archive}, which is not there yet, and a subscriber stops at the first "
            "row of a table that it lacks; make it with playbooks/db_roles.yml, make it on each subscriber, and run "
            "again."
        )


def told_of_deletes(source: Table) -> list[str]:
    """Names of the publications whose subscribers repeat every DELETE on the source."""
    return [each.name for each in source.publications if each.deletes]


def cautions(source: Table, archive: Table | None, way: Route, null_rows: int) -> list[str]:
    """Warnings: what is allowed, and what the person on duty should still know."""
    said: list[str] = []
    if way.walk and source.triggers:
        said.append(
            f"{source.name} has triggers ({_names(source.triggers)}) that fire on the rows taken "
            "out of it; a row that they keep is left where it is."
        )
    if way.walk and archive and archive.triggers:
        said.append(
            f"{archive.name} has triggers ({_names(archive.triggers)}) that fire on the rows put "
            "into it; a batch of which they drop or change a row is rolled back."
        )
    hearing = followed(archive.publications) if way.walk and archive else ""
    if archive and hearing:
        said.append(
            f"{archive.name} is published by {hearing}: a subscriber that lacks the table stops at its first row. Make "
            "it there before."
        )
    telling = _names(told_of_deletes(source))
    if telling:
        said.append(
            f"{source.name} is published by {telling}: subscribers are told of every row that is deleted from it, and "
            "delete it too; of partitions that are moved whole they are told nothing. To keep the rows there, leave "
            "delete out of the publication's list publish."
        )
    if not source.key:
        said.append(
            f"{source.name} has no primary key or unique index over columns that are never null, "
            "so rows that the archive already holds cannot be told; moves themselves neither lose nor double a row."
        )
    if null_rows:
        said.append(f"{count(null_rows, 'row')} of {source.name} have no {way.column}; they are never moved.")
    return said


Strategy = Literal["rows", "partitions"]
Walk = Literal["index", "blocks", ""]


@dataclass(frozen=True)
class Route:
    """How rows move. ``reason`` says why whole partitions cannot move, or why a walk is slow; else it is empty."""

    strategy: Strategy
    walk: Walk
    column: str
    reason: str = ""


def route(source: Table, archive: Table | None, column: str, server_version: int) -> Route:
    """Choose how the rows move.

    Whole partitions need both sides partitioned by ranges of the timestamp column (an archive that is still missing
    is made so), and the right to alter them. Everything else moves row by row: in the order of an index on the
    timestamp column, or block by block where there is none.

    :raises RunbookError: no index, and a server too old to read a table by ranges of blocks
    """
    why_not = _why_not_partitions(source, archive, column) if source.partitioned_by else ""
    if source.partitioned_by and not why_not:
        return Route("partitions", "", column)
    reason = f"Partitions of {source.name} are not moved whole, but row by row: {why_not}." if why_not else ""
    if source.ordered_by(column):
        return Route("rows", "index", column, reason)
    if server_version < 140000:
        raise RunbookError(
            f"timestamp_column: {source.name} has no index on {column!r}, and PostgreSQL before 14 cannot read a table "
            f"by ranges of blocks; create an index on {column!r}."
        )
    slow = (
        f"{source.name} has no btree index that begins with {column!r}, so it is read as a whole, block by block; "
        f"create one to make this faster."
    )
    return Route("rows", "blocks", column, f"{reason} {slow}".strip())


def _why_not_partitions(source: Table, archive: Table | None, column: str) -> str:
    if source.partitioned_by != "r" or source.partition_columns != (column,):
        return f"they are not ranges of {column!r} alone"
    if archive is not None:
        if archive.partitioned_by != "r" or archive.partition_columns != (column,):
            return f"{archive.name} is not partitioned by ranges of {column!r}"
        if archive.has_default_partition:
            return f"{archive.name} has a default partition, which would be read under a lock"
        if not archive.owned:
            return f"this role may not alter {archive.name}"
    if not source.owned:
        return f"this role may not alter {source.name}"
    unmovable = [str(partition.name) for partition in source.partitions if partition.is_old and not partition.movable]
    if unmovable:
        return f"{_names(unmovable)} cannot be altered by this role, or has partitions of its own"
    if archive is not None:
        needed = frozenset(index.signature for index in archive.indexes)
        lacking = [str(each.name) for each in source.partitions if each.is_old and not needed <= each.signatures]
        if lacking:
            return f"{_names(lacking)} lacks an index that {archive.name} has, which would be built under a lock"
    return ""


def refuse_brought(partitions: Iterable[Partition]) -> None:
    """Refuse partitions that have something which they cannot leave behind.

    :raises RunbookError: one sentence that names the partition and the fix
    """
    for name, brought in ((each.name, each.brought) for each in partitions):
        if brought and brought.stuck:
            raise RunbookError(
                f"source: partition {name} is published by itself ({_names(brought.stuck)}), would stay so in the "
                "archive, and this role may not end it; ALTER PUBLICATION … DROP TABLE it first."
            )
        given = [str(right) for right in brought.rights if right.by] if brought else []
        if given:
            raise RunbookError(
                f"source: on partition {name} {_names(given)}, which the archive does not give, and its owner may not "
                "revoke what others granted; have them REVOKE it first."
            )
        if brought and brought.unlogged:
            raise RunbookError(
                f"source: partition {name} is unlogged, so a crash of the server would empty it in the archive too; "
                "ALTER TABLE … SET LOGGED first."
            )


@dataclass(frozen=True)
class Plan:
    """What a run does. Check mode returns the same."""

    strategy: Strategy | Literal["nothing"]
    walk: Walk
    cutoff: datetime
    rows: int
    #: Rows older than the cutoff that stay, because their partition is not old as a whole.
    staying_rows: int = 0
    oldest: str | None = None
    newest: str | None = None
    make_archive: bool = False
    make_key: bool = False
    partitions: tuple[Partition, ...] = ()
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Count:
    """Rows older than the cutoff. Times are the server's own text, since its range of dates is wider than Python's."""

    rows: int
    oldest: str | None
    newest: str | None


@dataclass(frozen=True)
class Counted:
    """What there is to move: in all, and in each partition that holds any."""

    total: Count
    #: Rows that have no timestamp.
    null_rows: int = 0
    by_partition: Mapping[QualifiedName, Count] = field(default_factory=dict)


def _with_count(partition: Partition, counted: Counted) -> Partition:
    found = counted.by_partition.get(partition.name, Count(0, None, None))
    return replace(partition, rows=found.rows, oldest=found.oldest, newest=found.newest)


def plan(
    source: Table,
    archive: Table | None,
    way: Route,
    *,
    cutoff: datetime,
    counted: Counted,
    max_rows: int | None,
) -> Plan:
    """Put the plan together from what was counted.

    :param max_rows: the cap; None for none
    :raises RunbookError: more rows than the cap
    """
    partitions: tuple[Partition, ...] = ()
    rows = counted.total.rows
    if way.strategy == "partitions":
        partitions = tuple(_with_count(each, counted) for each in source.partitions if each.is_old)
        rows = sum(partition.rows for partition in partitions)
    if max_rows is not None and rows > max_rows:
        raise RunbookError(
            f"max_rows: {count(rows, 'row')} of {source.name} are older than {text(cutoff)}, and {max_rows:,} are "
            "allowed; check older_than_days, and raise max_rows if so many are meant."
        )
    work = bool(partitions) if way.strategy == "partitions" else rows > 0
    said = cautions(source, archive, way, counted.null_rows)
    return Plan(
        strategy=way.strategy if work else "nothing",
        walk=way.walk if work else "",
        cutoff=cutoff,
        rows=rows,
        staying_rows=counted.total.rows - rows,
        oldest=counted.total.oldest,
        newest=counted.total.newest,
        make_archive=work and archive is None,
        make_key=work and archive is not None and bool(source.key) and not archive.has_key_on(source.key),
        partitions=partitions,
        warnings=(*said, way.reason) if work and way.reason else tuple(said),
    )


def describe(plan: Plan, source: Table, archive: QualifiedName) -> str:
    """The plan as lines of text, for a diff."""
    lines = [f"archive rows of {source.name} older than {text(plan.cutoff)} to {archive}"]
    if plan.strategy == "nothing":
        lines.append("nothing to move")
    else:
        if plan.make_archive:
            lines.append(f"create table {archive}")
        if plan.make_key:
            lines.append(f"create a unique index on {archive} ({_names(source.key)})")
        lines.append(
            f"move {count(plan.rows, 'row')}, from {to_second(str(plan.oldest))} to {to_second(str(plan.newest))}"
        )
        way = {
            "index": "in batches, in the order of time",
            "blocks": "in batches, block by block",
            "": "as whole partitions:",
        }
        lines.append(way[plan.walk])
        if plan.walk and told_of_deletes(source):
            lines.append(f"subscribers of {_names(told_of_deletes(source))} delete the same rows")
        for partition in plan.partitions:
            left = f", without its {partition.brought}" if str(partition.brought or "") else ""
            lines.append(f"  {partition.name}: {count(partition.rows, 'row')}{left}")
    if plan.staying_rows:
        lines.append(f"{_staying(plan)}, because their partition is not old as a whole")
    return as_lines(lines)


def made(source: Table, name: QualifiedName) -> Table:
    """The archive as it will be once it is made."""
    columns = tuple(replace(column, identity=False, generated="") for column in source.columns)
    if source.column(STAMP) is None:
        columns += (Column(STAMP, "timestamp with time zone", "timestamp with time zone", not_null=True),)
    return Table(name=name, kind="r", columns=columns, owner=source.owner)


def moment_key(moment: str) -> tuple[bool, str]:
    """Sorts timestamps that the server wrote, of one type and before the year 10000, by time.

    >>> sorted(["2026-01-02", "-infinity", "0044-03-15 BC", "2026-01-01"], key=moment_key)
    ['-infinity', '0044-03-15 BC', '2026-01-01', '2026-01-02']
    """
    return (moment != "-infinity" and not moment.endswith(" BC"), moment)


def text(moment: datetime) -> str:
    """A moment in UTC, as a sentence shows it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


@dataclass
class Tally:
    """What was done so far."""

    moved: int = 0
    #: Deleted from the source because the archive held the same.
    already: int = 0
    batches: int = 0
    oldest: str | None = None
    newest: str | None = None
    longest_s: float = 0.0
    throttled_s: float = 0.0
    wal_bytes: int = 0
    #: Old rows that are still in the source; None as long as nobody counted them.
    remaining: int | None = None
    #: Those of them whose key the archive holds with other content.
    conflicts: int = 0
    partitions: list[str] = field(default_factory=list)
    created: bool = False
    #: The archive was made, or got its key.
    altered: bool = False

    def add(self, rows: int, took_s: float, oldest: str | None, newest: str | None) -> None:
        """Note one transaction that moved rows."""
        self.moved += rows
        self.batches += 1
        self.longest_s = max(self.longest_s, took_s)
        self.oldest = min((each for each in (self.oldest, oldest) if each is not None), key=moment_key, default=None)
        self.newest = max((each for each in (self.newest, newest) if each is not None), key=moment_key, default=None)


def _staying(plan: Plan) -> str:
    return count(plan.staying_rows, "old row stays", "old rows stay")


def promise(plan: Plan, source: Table, archive: QualifiedName) -> str:
    """What check mode says; also what a run says that has nothing to do."""
    stay = f"; {_staying(plan)} until their whole partition is old" if plan.staying_rows else ""
    if plan.strategy == "nothing":
        return f"Nothing in {source.name} to move to {archive} is older than {text(plan.cutoff)}{stay}."
    way = f"as {count(len(plan.partitions), 'whole partition')}" if plan.partitions else "in batches"
    older = f"{count(plan.rows, 'row')} older than {text(plan.cutoff)}"
    return f"Would move {older} from {source.name} to {archive}, {way}{stay}."


def sentence(tally: Tally, plan: Plan, source: Table, archive: QualifiedName, seconds: float) -> str:
    """What was moved, and what remains.

    :param seconds: since the start
    """
    older = f"{count(tally.moved, 'row')} older than {text(plan.cutoff)}"
    rate = f"{tally.moved / seconds:,.0f} rows/s" if seconds > 0 else "at once"
    said = f"Moved {older} from {source.name} to {archive} in {seconds:.1f} s ({rate})"
    if tally.partitions:
        said += f", as {count(len(tally.partitions), 'whole partition')}"
    if tally.already:
        said += f"; {tally.already:,} more {agree(tally.already, 'was', 'were')} in the archive already"
    if tally.batches and not tally.partitions and told_of_deletes(source):
        said += f"; subscribers of {_names(told_of_deletes(source))} were told to delete them too"
    left = "how many remain could not be counted" if tally.remaining is None else f"{tally.remaining:,} remain"
    if tally.remaining and tally.remaining == plan.staying_rows:
        left += " until their whole partition is old"
    return f"{said}; {left}."


def undone(tally: Tally, plan: Plan, source: Table) -> str | None:
    """Why old rows remain that should not, and what to do about it; None where all is done."""
    left = (tally.remaining or 0) - plan.staying_rows
    if left <= 0:
        return None
    reasons = []
    if tally.conflicts:
        reasons.append(
            f"of {tally.conflicts:,} the archive holds the key with other content (compare both tables by "
            f"{_names(source.key)}, and correct or delete one side)"
        )
    if left > tally.conflicts:
        reasons.append(
            f"{left - tally.conflicts:,} were locked by others, kept by a trigger, or came in late (run again)"
        )
    return f"{count(left, 'row stays', 'rows stay')} in {source.name}: {'; '.join(reasons)}."


@dataclass(frozen=True)
class Difference:
    """How the archive's rows differed from those that a batch deleted from the source."""

    rows: int
    #: Rows that the archive did not take in; negative where it took in more.
    missing: int
    #: Columns of which the archive held something else.
    columns: tuple[str, ...] = ()


def difference(source: Table, archive: Table, found: Difference) -> str:
    """Why a batch was rolled back, and the fix. It names columns and triggers, never the content of a row."""
    if found.missing:
        took = "fewer" if found.missing > 0 else "more"
        what = f"took in {took} rows than left {source.name}"
    elif found.columns:
        what = f"held something else in {_names(found.columns)} than {source.name} did"
    else:
        what = f"did not hold the rows of {source.name}"
    if archive.triggers:
        named = _names(archive.triggers)
        fix = f"Look at its triggers ({named}), and drop or disable the one that does it."
    elif any(archive.named(name).generated for name in found.columns):
        fix = "It generates that column again; ALTER COLUMN … DROP EXPRESSION keeps what was there."
    else:
        fix = "Look for a trigger or a rule that was made just now, and run again."
    return f"archive: {archive.name} {what}, so the batch of {count(found.rows, 'row')} was rolled back. {fix}"


def next_batch(asked: int, moved: int, duration_ms: float, target_ms: int) -> int:
    """How many rows the next batch takes, from how long the last one took.

    The rate of the last batch says how many rows fit into the target time. A batch grows to at most :data:`GROWTH`
    times the last one, since one lucky batch says little; it shrinks at once as far as it must, since a long batch
    is what users feel, but to no less than an eighth, so that one stalled disk write does not stop the run.

    :param asked: rows that the last batch was to take
    :param moved: rows that it took; less than half of ``asked`` says nothing about the rate
    """
    if duration_ms <= 0 or moved < asked / 2:
        fits = float(asked if duration_ms <= target_ms else asked / 2)
    else:
        fits = moved * target_ms / duration_ms
    return max(1, min(MAX_BATCH_ROWS, int(max(asked / 8, min(asked * GROWTH, fits)))))


def pause_s(duration_ms: float, target_ms: int) -> float:
    """Seconds to pause after a batch that overshot its target, so that waiting users get their turn.

    A batch of up to twice the target time needs no pause. Beyond that the pause is as long as the overshoot, but no
    longer than the target time: a machine that is slow as a whole does not get faster by waiting.
    """
    return min(target_ms, max(0.0, duration_ms - 2 * target_ms)) / 1000


def wal_pause_s(wal_bytes: int, elapsed_s: float, max_wal_bytes_s: int | None) -> float:
    """Seconds to wait until the server's WAL since the start is within the allowed mean rate; None allows any rate."""
    if not max_wal_bytes_s:
        return 0.0
    return max(0.0, wal_bytes / max_wal_bytes_s - elapsed_s)
