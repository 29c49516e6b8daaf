"""What the catalog says of the source and the archive of pg_archive, as far as its rules ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.archive_access import Right

#: The one column that the archive may have and the source need not: when the row was moved.
STAMP = "archived_at"
TIME_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")


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
    #: The connected role may read it; no property of the table's.
    readable: bool = field(default=True, compare=False)


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
    has_subscribers: bool = False


@dataclass(frozen=True)
class LocalObjects:
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
    lacks_row_security: bool = False
    lacks_forced_row_security: bool = False
    #: Publications that this role may not drop it from.
    undroppable_publications: tuple[str, ...] = ()
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
        return ", ".join(f"{kind} ({names_of(names)})" for kind, names in kinds.items() if names)


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
    local_objects: LocalObjects | None = None


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
    referencing_keys: tuple[ForeignKey, ...] = ()
    #: Foreign keys of its own that delete or change its rows when others are deleted or changed elsewhere.
    cascading_keys: tuple[ForeignKey, ...] = ()
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


def with_subscribers(publications: Sequence[Publication]) -> str:
    """Names of the publications that have a subscriber for inserted rows; a subscriber stops if it lacks the table."""
    return names_of(each.name for each in publications if each.inserts and each.has_subscribers)


def publishing_deletes(source: Table) -> list[str]:
    """Names of the publications whose subscribers repeat every DELETE on the source."""
    return [each.name for each in source.publications if each.deletes]


def names_of(things: Iterable[object]) -> str:
    """Things by their names, as a sentence lists them."""
    return ", ".join(map(str, things))
