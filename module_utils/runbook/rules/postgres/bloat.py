"""How much of a table or index is bloat: what it takes now, less what it would take if it were rewritten.

There are two ways to know. The *estimate* computes, from the planner's statistics and the documented layout of pages
("Database Page Layout", "B-Tree Implementation: Deduplication"), how many pages the live rows need; it reads nothing
but catalogs. The *measurement* looks at the pages with the extension pgstattuple. Both are about the size after a
rewrite with the fill factor that the relation has, so space that the fill factor keeps free is no bloat.

What cannot be told is unknown, with the reason, and never 0.

>>> text = Column(width_bytes=11, null_share=0, length=-1, align=4)
>>> number = Column(width_bytes=None, null_share=None, length=8, align=8, not_null=True)
>>> row_bytes([number, text])
(46.5, False)
>>> row_bytes([number])
(32.0, True)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Method = Literal["measured", "estimated", "at_least", "none"]
#: What would make an unknown bloat known: nothing, statistics, a right of this user, the end of somebody's lock.
Fix = Literal["", "analyze", "right", "wait"]

#: Of a standard build; the driver refuses a server whose pages are of another size.
PAGE_BYTES = 8192
PAGE_HEADER_BYTES = 24
ITEM_POINTER_BYTES = 4
#: What a heap row begins with, before its null bitmap.
ROW_HEADER_BYTES = 23
MAXALIGN = 8
#: A value of variable length that is longer than this carries an aligned header of four bytes.
SHORT_VALUE_BYTES = 127
#: A B-tree page ends with this; its entries begin with that.
BTREE_SPECIAL_BYTES = 16
BTREE_ENTRY_HEADER_BYTES = 8
BTREE_FILLFACTOR = 90
BTREE_INNER_FILLFACTOR = 70
#: Longest posting list that the build of an index makes: a tenth of a page, less its item pointer.
POSTING_BYTES = 812
TID_BYTES = 6
#: The free space map counts in 256ths of a page.
FREE_SPACE_STEP_BYTES = 32
#: TOAST cuts values so that four chunks fill a page.
TOAST_CHUNKS_PER_PAGE = 4

#: Likely error of a method, in percent of the relation's size. Of 120 tables and indexes of six shapes, with 0 to 80 %
#: of their rows deleted, nine of ten were within 5.2 %, compared with the size after VACUUM FULL.
ERROR_PERCENT: Mapping[Method, float | None] = {"measured": 6.0, "estimated": 10.0, "at_least": None, "none": None}


NOBODY = QualifiedName("", "")


@dataclass(frozen=True)
class Column:
    """What the planner knows of one column, as in ``pg_stats``; None where it has no statistics."""

    #: Mean width of the values that are not null.
    width_bytes: float | None
    null_share: float | None
    #: ``pg_attribute.attlen``: bytes of a fixed length, negative for a variable one.
    length: int
    #: Alignment in bytes.
    align: int
    not_null: bool = False
    #: ``pg_stats.n_distinct``: a count, or a negative share of the rows.
    distinct: float | None = None

    @property
    def known(self) -> bool:
        """Whether the space that it takes can be told."""
        return self.width_bytes is not None or (self.length > 0 and self.not_null)

    @property
    def nulls(self) -> float:
        """Share of rows in which it is null."""
        return 0.0 if self.null_share is None else self.null_share


@dataclass(frozen=True)
class Relation:
    """A table, TOAST table, materialised view or index that has pages of its own."""

    oid: int
    name: QualifiedName
    #: ``pg_class.relkind``: r table, m materialised view, t TOAST table, i index
    kind: str
    #: Access method: heap, btree, gin …
    access_method: str
    #: Bytes of its pages; None where a lock kept them from being counted.
    size_bytes: int | None
    #: Rows by the last VACUUM or ANALYZE; negative where neither ever ran.
    planner_rows: float
    #: What the server counts; of no worth where it has forgotten (``counted`` False).
    live_rows: int
    dead_rows: int
    counted: bool
    #: None: the default of its access method.
    fillfactor: int | None
    columns: tuple[Column, ...] = ()
    #: Of an index, its table; of a TOAST table, the table that it belongs to; else itself.
    table_oid: int = 0
    table: QualifiedName = NOBODY
    #: The partitioned table that its table is a partition of.
    parent_oid: int | None = None
    is_catalog: bool = False
    #: The server does not show its statistics to this user: no SELECT, or row-level security.
    hidden: bool = False
    #: Of an index.
    is_unique: bool = False
    is_partial: bool = False
    #: The build of the index may merge equal keys.
    deduplicates: bool = False

    @property
    def is_index(self) -> bool:
        """Whether it is an index."""
        return self.kind == "i"


@dataclass(frozen=True)
class HeapPages:
    """What ``pgstattuple_approx`` found."""

    size_bytes: int
    rows: float
    #: Of live rows; where it did not read a page because all of it is visible, with the page's overhead.
    live_bytes: float


@dataclass(frozen=True)
class BtreePages:
    """What ``pgstatindex`` found."""

    size_bytes: int
    leaf_pages: int
    inner_pages: int
    #: Mean percentage of a leaf page that is used; NaN, that is None, where there is no leaf.
    leaf_density_percent: float | None


@dataclass(frozen=True)
class Bloat:
    """The answer for one relation."""

    relation: Relation
    method: Method
    #: What a rewrite would leave; None: unknown.
    expected_bytes: int | None
    #: Why it is unknown; None where it is not.
    reason: str | None = None
    fix: Fix = ""

    @property
    def fixable(self) -> bool:
        """Whether a person can make it known."""
        return bool(self.fix)

    @property
    def size_bytes(self) -> int | None:
        """Bytes that it takes now."""
        return self.relation.size_bytes

    @property
    def bloat_bytes(self) -> int | None:
        """Bytes that a rewrite would win; None: unknown."""
        if self.expected_bytes is None or self.size_bytes is None:
            return None
        return max(self.size_bytes - self.expected_bytes, 0)

    @property
    def bloat_percent(self) -> float | None:
        """The same, as a percentage of the size."""
        if self.bloat_bytes is None or self.size_bytes is None:
            return None
        return round(100 * self.bloat_bytes / self.size_bytes, 1) if self.size_bytes else 0.0


def rows_of(relation: Relation) -> float | None:
    """Live rows; None where nobody has counted them.

    The server's running count is newer than the planner's, but it starts over after a crash; then the planner's holds.
    """
    if relation.counted:
        return float(relation.live_rows)
    if relation.planner_rows >= 0:
        return relation.planner_rows
    return float(relation.live_rows) if relation.live_rows > 0 else None


def _aligned(size: float) -> int:
    return math.ceil(size / MAXALIGN) * MAXALIGN


def _data_end(columns: Iterable[Column], start: float) -> tuple[float, bool]:
    """Where the data of a row that begin at ``start`` end on average, and whether each row is like the other.

    Where the place of a column varies from row to row, half of its alignment is lost on average.
    """
    place, same = start, True
    for column in columns:
        if column.nulls == 1:
            continue
        width = float(column.length) if column.length > 0 else column.width_bytes or 0.0
        align = column.align if column.length > 0 else 4 if width > SHORT_VALUE_BYTES else 1
        padding = (-place) % align if same else (align - 1) / 2
        place += (1 - column.nulls) * (padding + width)
        same = same and column.length > 0 and column.nulls == 0
    return place, same


def row_bytes(columns: Sequence[Column]) -> tuple[float, bool]:
    """Mean bytes of a heap row without its item pointer, and whether all rows are equally long."""
    empty = 1.0
    for column in columns:
        empty *= 1 - column.nulls
    bitmap = _aligned(ROW_HEADER_BYTES + math.ceil(len(columns) / 8)) - _aligned(ROW_HEADER_BYTES)
    start = _aligned(ROW_HEADER_BYTES) + bitmap * (1 - empty)
    end, same = _data_end(columns, start)
    return (float(_aligned(end)) if same else end + (MAXALIGN - 1) / 2), same


def _heap_pages(rows: float, row: float, *, same: bool, fillfactor: int) -> int:
    """Pages that ``rows`` of ``row`` bytes (item pointer included) need."""
    usable = PAGE_BYTES - PAGE_HEADER_BYTES - PAGE_BYTES * (100 - fillfactor) / 100
    per_page = max(usable // row if same else usable / row - 0.5, 1.0)
    return math.ceil(rows / per_page)


def _entry_bytes(columns: Sequence[Column]) -> float:
    """Mean bytes of a B-tree entry without its item pointer."""
    full = 1.0
    for column in columns:
        full *= 1 - column.nulls
    start = BTREE_ENTRY_HEADER_BYTES + MAXALIGN * (1 - full)
    end, same = _data_end(columns, start)
    return float(_aligned(end)) if same else end + (MAXALIGN - 1) / 2


def _distinct(columns: Sequence[Column], rows: float) -> float:
    """Different keys among ``rows``; columns are taken to be independent, which errs towards less bloat."""
    found = 1.0
    for column in columns:
        if column.distinct is None:
            return rows
        values = -column.distinct * rows if column.distinct < 0 else column.distinct
        found *= max(values + (1 if column.nulls and len(columns) > 1 else 0), 1.0)
    return min(found, rows)


def _leaf_bytes(rows: float, entry: float, distinct: float) -> float:
    """Bytes of all leaf entries; equal keys share one entry that lists their rows, up to its greatest length."""
    repeats = rows / distinct if distinct else 1.0
    if repeats < 1.5:
        return rows * (entry + ITEM_POINTER_BYTES)
    longest = max((POSTING_BYTES - entry) // TID_BYTES, 1)
    full, rest = divmod(repeats, longest)
    size = full * (_aligned(entry + TID_BYTES * longest) + ITEM_POINTER_BYTES)
    if rest > 0:
        size += _aligned(entry + (TID_BYTES * rest if rest > 1 else 0)) + ITEM_POINTER_BYTES
    return distinct * size


def _btree_pages(rows: float, relation: Relation) -> int:
    entry = _entry_bytes(relation.columns)
    if not relation.deduplicates:
        content = _leaf_bytes(rows, entry, rows)
    elif len(relation.columns) == 1:
        # All nulls are one key, and often most of the rows.
        nulls = rows * relation.columns[0].nulls
        content = _leaf_bytes(rows - nulls, entry, _distinct(relation.columns, rows))
        content += _leaf_bytes(nulls, BTREE_ENTRY_HEADER_BYTES + MAXALIGN, 1) if nulls else 0
    else:
        content = _leaf_bytes(rows, entry, _distinct(relation.columns, rows))
    fillfactor = relation.fillfactor or BTREE_FILLFACTOR
    room = PAGE_BYTES - PAGE_HEADER_BYTES - BTREE_SPECIAL_BYTES
    # One entry more on each page: its high key.
    usable = max(room - PAGE_BYTES * (100 - fillfactor) / 100 - entry - ITEM_POINTER_BYTES, entry + ITEM_POINTER_BYTES)
    level = math.ceil(content / usable)
    pages = level
    fanout = max(room * BTREE_INNER_FILLFACTOR / 100 / (entry + ITEM_POINTER_BYTES), 2.0)
    while level > 1:
        level = math.ceil(level / fanout)
        pages += level
    return pages + 1


def estimate(relation: Relation) -> Bloat:
    """From the planner's statistics."""
    rows = rows_of(relation)
    if relation.size_bytes is None:
        return Bloat(relation, "none", None, "somebody holds it locked", "wait")
    if relation.is_index and relation.access_method != "btree":
        return Bloat(relation, "none", None, f"no method tells for an index of type {relation.access_method}")
    if relation.size_bytes == 0:
        return Bloat(relation, "estimated", 0)
    if rows is None:
        return Bloat(relation, "none", None, "never vacuumed nor analysed", "analyze")
    if relation.kind == "t":
        return Bloat(relation, "at_least", math.ceil(rows / TOAST_CHUNKS_PER_PAGE) * PAGE_BYTES)
    if rows and not all(column.known for column in relation.columns):
        if relation.hidden:
            reason = "this user may not read its statistics (no SELECT, or row-level security)"
        else:
            reason = "no statistics of its columns: never analysed"
        # ANALYZE leaves pg_statistic itself out.
        fix: Fix = "" if relation.is_catalog else "right" if relation.hidden else "analyze"
        return Bloat(relation, "none", None, reason, fix)
    if relation.is_index:
        return Bloat(relation, "estimated", _btree_pages(rows, relation) * PAGE_BYTES)
    row, same = row_bytes(relation.columns)
    pages = _heap_pages(rows, row + ITEM_POINTER_BYTES, same=same, fillfactor=relation.fillfactor or 100)
    return Bloat(relation, "estimated", pages * PAGE_BYTES)


def measured(relation: Relation, found: HeapPages | BtreePages) -> Bloat:
    """From what the relation's pages hold."""
    if isinstance(found, BtreePages):
        return _measured_btree(relation, found)
    pages = 0
    if found.rows > 0:
        # Rows of mixed lengths fill gaps, long rows of one length do not; the statistics know which they are.
        same = row_bytes(relation.columns)[1] if relation.columns else False
        # Of a page that it did not read it knows the free space, in steps of 32 bytes; the page's header is not a row.
        overhead = found.size_bytes / PAGE_BYTES * (PAGE_HEADER_BYTES + FREE_SPACE_STEP_BYTES / 2)
        mean = max(found.live_bytes - overhead, found.live_bytes / 2) / found.rows
        pages = _heap_pages(found.rows, mean, same=same, fillfactor=relation.fillfactor or 100)
        pages = min(pages, math.ceil(found.size_bytes / PAGE_BYTES))
    return Bloat(_resized(relation, found.size_bytes), "measured", pages * PAGE_BYTES)


def _measured_btree(relation: Relation, found: BtreePages) -> Bloat:
    room = PAGE_BYTES - PAGE_HEADER_BYTES - BTREE_SPECIAL_BYTES
    fillfactor = relation.fillfactor or BTREE_FILLFACTOR
    pages = 1
    if found.leaf_density_percent is not None and found.leaf_pages:
        used = found.leaf_pages * room * found.leaf_density_percent / 100
        if relation.counted and relation.dead_rows and relation.live_rows >= 0:
            # Entries of dead rows look used until VACUUM has taken them out.
            used *= relation.live_rows / max(relation.live_rows + relation.dead_rows, 1)
        leaves = math.ceil(used / (room - PAGE_BYTES * (100 - fillfactor) / 100))
        pages += leaves + math.ceil(found.inner_pages * leaves / found.leaf_pages)
    return Bloat(_resized(relation, found.size_bytes), "measured", min(pages * PAGE_BYTES, found.size_bytes))


def _resized(relation: Relation, size_bytes: int) -> Relation:
    return Relation(**(vars(relation) | {"size_bytes": size_bytes}))


def worth_measuring(bloats: Iterable[Bloat], *, min_size_bytes: int, top: int) -> list[Bloat]:
    """The relations that matter most: by bloat, as far as it is estimated, ``top`` of each kind.

    And all that no statistics tell of: where a user may not read tables, that is all that can be known of them.
    """
    big = [
        bloat
        for bloat in bloats
        if bloat.size_bytes is not None
        and bloat.size_bytes >= min_size_bytes
        and bloat.relation.access_method in ("heap", "btree")
    ]
    big.sort(key=order)
    chosen = []
    for index in (False, True):
        of_kind = [bloat for bloat in big if bloat.relation.is_index is index]
        chosen += of_kind[:top] + [bloat for bloat in of_kind[top:] if bloat.bloat_bytes is None]
    return chosen


def order(bloat: Bloat) -> tuple[int, int, QualifiedName]:
    """Sorts the worst first: the most bytes that are, or may be, bloat."""
    size = bloat.size_bytes or 0
    return (-(size if bloat.bloat_bytes is None else bloat.bloat_bytes), -size, bloat.relation.name)


def describe(bloat: Bloat) -> dict[str, Any]:
    """One relation, as in a module's result."""
    return {
        "relation": str(bloat.relation.name),
        "table": str(bloat.relation.table),
        "kind": {"r": "table", "m": "materialized_view", "t": "toast", "i": "index"}[bloat.relation.kind],
        "access_method": bloat.relation.access_method,
        "size_bytes": bloat.size_bytes,
        "expected_bytes": bloat.expected_bytes,
        "bloat_bytes": bloat.bloat_bytes,
        "bloat_percent": bloat.bloat_percent,
        "method": bloat.method,
        "error_percent": ERROR_PERCENT[bloat.method],
        "unknown_because": bloat.reason,
    }


def totals(bloats: Sequence[Bloat], *, min_size_bytes: int) -> dict[str, Any]:
    """Sums over tables (TOAST among them) and indexes.

    A sum leaves out what is unknown; ``unknown_bytes`` says how much that is. ``status`` is ``unknown`` where rights,
    statistics or a lock are missing for a relation of at least ``min_size_bytes``.
    """
    result: dict[str, Any] = {}
    for what, index in (("table", False), ("index", True)):
        chosen = [bloat for bloat in bloats if bloat.relation.is_index is index]
        result[f"{what}_size_bytes"] = sum(bloat.size_bytes or 0 for bloat in chosen)
        known = [bloat for bloat in chosen if bloat.bloat_bytes is not None]
        result[f"{what}_bloat_bytes"] = sum(bloat.bloat_bytes or 0 for bloat in known) if known or not chosen else None
    known_bytes = sum(bloat.size_bytes or 0 for bloat in bloats if bloat.bloat_bytes is not None)
    sums = [result["table_bloat_bytes"], result["index_bloat_bytes"]]
    nothing_known = bool(bloats) and all(bloat.bloat_bytes is None for bloat in bloats)
    total = None if nothing_known else sum(value or 0 for value in sums)
    fixable = [
        bloat for bloat in bloats if bloat.fixable and (bloat.size_bytes is None or bloat.size_bytes >= min_size_bytes)
    ]
    return result | {
        "bloat_bytes": total,
        "bloat_percent": None if total is None else round(100 * total / known_bytes, 1) if known_bytes else 0.0,
        "unknown_bytes": sum(bloat.size_bytes or 0 for bloat in bloats if bloat.bloat_bytes is None),
        "methods": {
            method: sum(bloat.method == method for bloat in bloats)
            for method in ("measured", "estimated", "at_least", "none")
        },
        "unknown": [str(bloat.relation.name) for bloat in sorted(fixable, key=order)],
        "status": Status.of(unknown=fixable),
    }


def by_table(bloats: Iterable[Bloat], parents: Mapping[int, tuple[QualifiedName, int | None]]) -> list[dict[str, Any]]:
    """A row for each table, with its TOAST and indexes, partitions rolled up into their topmost parent.

    :param parents: name and own parent of each partitioned table, by oid
    """
    groups: dict[int, list[Bloat]] = {}
    names: dict[int, QualifiedName] = {}
    for bloat in bloats:
        oid, name, above = bloat.relation.table_oid, bloat.relation.table, bloat.relation.parent_oid
        while above is not None and above in parents:
            oid, (name, above) = above, parents[above]
        groups.setdefault(oid, []).append(bloat)
        names[oid] = name
    rows = []
    for oid, members in groups.items():
        sizes = {"r": 0, "t": 0, "i": 0}
        for member in members:
            sizes["r" if member.relation.kind == "m" else member.relation.kind] += member.size_bytes or 0
        known = [member.bloat_bytes for member in members if member.bloat_bytes is not None]
        rows.append(
            {
                "table": str(names[oid]),
                "partitions": len({m.relation.table_oid for m in members}) if oid in parents else 0,
                "total_bytes": sum(sizes.values()),
                "heap_bytes": sizes["r"],
                "toast_bytes": sizes["t"],
                "indexes_bytes": sizes["i"],
                "bloat_bytes": sum(known) if known else None,
                "unknown_bytes": sum(m.size_bytes or 0 for m in members if m.bloat_bytes is None),
            }
        )
    return sorted(rows, key=lambda row: (-(row["bloat_bytes"] or 0), -row["total_bytes"], row["table"]))


def unknown_because(bloats: Iterable[Bloat], *, measuring: str) -> str:
    """Which bloat is unknown, why, and what makes it known; empty where nothing can be done, or need be.

    :param bloats: those that count
    :param measuring: what this user lacks to measure pages, as :func:`drivers.bloat.measuring` says it; empty: nothing
    """
    right = measuring or "they were not measured before deadline_s ended; raise it"
    fixes: dict[Fix, str] = {
        "right": f"this user may not read their statistics; {right}",
        "analyze": "they have no statistics; ANALYZE them",
        "wait": "somebody holds them locked; run again",
    }
    found = []
    fixable = sorted((bloat for bloat in bloats if bloat.fixable), key=order)
    for fix, text in fixes.items():
        names = [str(bloat.relation.name) for bloat in fixable if bloat.fix == fix]
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            found.append(f"of {', '.join(names[:3])}{more}, because {text}")
    return "; ".join(found)


def message(result: Mapping[str, Any], *, relations: int, unknown: str) -> str:
    """One sentence with the figures.

    :param unknown: of :func:`unknown_because`
    """
    methods = result["methods"]
    if result["bloat_bytes"] is None:
        text = f"The bloat of {count(relations, 'relation')} is unknown"
    else:
        text = (
            f"{size(result['bloat_bytes'])} of bloat ({result['bloat_percent']} %) in {count(relations, 'relation')}: "
            f"{size(result['table_bloat_bytes'])} in tables, {size(result['index_bloat_bytes'])} in indexes; "
            f"{methods['measured']:,} measured, {methods['estimated'] + methods['at_least']:,} estimated"
        )
    if result["unknown_bytes"]:
        text += f"; unknown for {size(result['unknown_bytes'])}"
    return f"{text}; unknown {unknown}." if unknown else f"{text}."
