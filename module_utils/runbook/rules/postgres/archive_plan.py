"""How old rows get from a table to its archive: by whole partitions or in batches, and all that a run is to do.

A row moves in one transaction that deletes it from the source and inserts it into the archive, so it is always in
exactly one of the two. Partitions that are old as a whole are detached from the source and attached to the archive
instead. :func:`route` chooses between the two, and :func:`plan` says what there is to do.

What the catalog says stands in ``archive_tables.py``, what is refused in ``archive_refusals.py``, how large a batch is
in ``archive_batches.py``, and how it is said in ``archive_words.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres.archive_tables import (
    STAMP,
    Column,
    Table,
    names_of,
    publishing_deletes,
    with_subscribers,
)
from ansible.module_utils.runbook.rules.postgres.archive_words import in_utc
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Partition

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
        return f"{names_of(unmovable)} cannot be altered by this role, or has partitions of its own"
    if archive is not None:
        needed = frozenset(index.signature for index in archive.indexes)
        lacking = [str(each.name) for each in source.partitions if each.is_old and not needed <= each.signatures]
        if lacking:
            return f"{names_of(lacking)} lacks an index that {archive.name} has, which would be built under a lock"
    return ""


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
            f"max_rows: {count(rows, 'row')} of {source.name} are older than {in_utc(cutoff)}, and {max_rows:,} are "
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


def _with_count(partition: Partition, counted: Counted) -> Partition:
    found = counted.by_partition.get(partition.name, Count(0, None, None))
    return replace(partition, rows=found.rows, oldest=found.oldest, newest=found.newest)


def cautions(source: Table, archive: Table | None, way: Route, null_rows: int) -> list[str]:
    """Warnings: what is allowed, and what the person on duty should still know."""
    said: list[str] = []
    if way.walk and source.triggers:
        said.append(
            f"{source.name} has triggers ({names_of(source.triggers)}) that fire on the rows taken "
            "out of it; a row that they keep is left where it is."
        )
    if way.walk and archive and archive.triggers:
        said.append(
            f"{archive.name} has triggers ({names_of(archive.triggers)}) that fire on the rows put "
            "into it; a batch of which they drop or change a row is rolled back."
        )
    hearing = with_subscribers(archive.publications) if way.walk and archive else ""
    if archive and hearing:
        said.append(
            f"{archive.name} is published by {hearing}: a subscriber that lacks the table stops at its first row. Make "
            "it there before."
        )
    telling = names_of(publishing_deletes(source))
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


def made(source: Table, name: QualifiedName) -> Table:
    """The archive as it will be once it is made."""
    columns = tuple(replace(column, identity=False, generated="") for column in source.columns)
    if source.column(STAMP) is None:
        columns += (Column(STAMP, "timestamp with time zone", "timestamp with time zone", not_null=True),)
    return Table(name=name, kind="r", columns=columns, owner=source.owner)
