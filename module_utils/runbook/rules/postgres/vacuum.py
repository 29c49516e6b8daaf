"""Which tables need VACUUM or ANALYZE, in which order, and what is said about it.

The limits follow PostgreSQL's documentation, "The Autovacuum Daemon": a table needs VACUUM when its dead rows exceed
``vacuum threshold + scale factor × rows``, and likewise for rows inserted since the last VACUUM and rows modified
since the last ANALYZE. The thresholds are PostgreSQL's; the scale factors are an option, and smaller than
autovacuum's, because a pass in quiet hours shall take work away from it. What a table's owner set for that table
(storage parameters ``autovacuum_*``) goes before both. ``autovacuum_enabled=off`` keeps autovacuum away, not this pass.

A table without statistics is not a table in order: after a crash, a failover or an upgrade the server has forgotten
how many dead rows there are, so such a table is vacuumed and analysed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.postgres import passes
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, size, some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime


Mode = Literal["needed", "all"]
Action = Literal["vacuum", "analyze", "vacuum_analyze", "freeze"]
State = Literal["planned", "done", "locked", "not_permitted", "failed", "not_reached", "gone"]

#: PostgreSQL's defaults of autovacuum_vacuum_threshold, autovacuum_analyze_threshold, autovacuum_vacuum_insert_*.
VACUUM_THRESHOLD = 50
ANALYZE_THRESHOLD = 50
VACUUM_INSERT_THRESHOLD = 1000
VACUUM_INSERT_SCALE_FACTOR = 0.2
#: Default of autovacuum_vacuum_max_threshold (PostgreSQL 18): a huge table does not wait for billions of dead rows.
VACUUM_MAX_THRESHOLD = 100_000_000
#: Share of autovacuum_freeze_max_age from which a table is frozen here, before autovacuum does it at a bad time. With
#: PostgreSQL's defaults that is vacuum_freeze_table_age (150 of 200 million).
FREEZE_FROM = 0.75
#: Share of autovacuum_freeze_max_age from which autovacuum has evidently failed, and somebody must be told.
FREEZE_OVERDUE = 1.1
#: Objects below this oid came with initdb (FirstNormalObjectId), which analysed them.
FIRST_NORMAL_OID = 16384
#: ANALYZE reads at most 300 blocks for each unit of default_statistics_target (100).
ANALYZE_BLOCKS = 30_000
BLOCK_BYTES = 8192
#: Reason of what is done only because everything is.
MODE_ALL = "mode all"
#: One row of the project's own, which preflight makes in the first real run and not in a dry one. So only its age is
#: looked at, and a dry run and the real one speak of the same tables.
LEASE = QualifiedName("runbook", "lease")
#: Where ANALYZE keeps its results; ANALYZE skips this one table without a word.
PG_STATISTIC = QualifiedName("pg_catalog", "pg_statistic")


class Priority(IntEnum):
    """What comes first; a partitioned parent comes late, because its figures come from its partitions."""

    WRAPAROUND = 1
    ON_DEMAND = 2
    DEAD_ROWS = 3
    INSERTED_ROWS = 4
    STATISTICS = 5
    REST = 6
    PARTITIONED = 7
    #: The catalog that ANALYZE itself fills with dead rows.
    PG_STATISTIC = 8


@dataclass(frozen=True)
class Part:
    """The heap of a table, or of its TOAST table: what the server knows about it."""

    #: Rows by the last VACUUM or ANALYZE; negative where neither ever ran.
    rows: float
    dead_rows: int
    inserted_rows: int
    #: Transactions since the oldest unfrozen one; None where the table has none.
    xid_age: int | None
    mxid_age: int | None
    #: Storage parameters as stored in pg_class.reloptions.
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One row of the catalog that VACUUM or ANALYZE may take."""

    oid: int
    name: QualifiedName
    #: ``pg_class.relkind``: r table, m materialised view, p partitioned table
    kind: str
    heap: Part
    toast: Part | None
    modified_rows: int
    live_rows: int
    columns: int
    #: Pages of the heap, and of heap, TOAST and indexes together, by the last VACUUM or ANALYZE.
    heap_pages: int
    total_pages: int
    last_vacuum: datetime | None
    last_analyze: datetime | None
    #: The last ANALYZE that autovacuum made.
    last_autoanalyze: datetime | None
    #: The partitioned table that this is a partition of.
    parent_oid: int | None
    #: Whether this user may vacuum and analyse it.
    permitted: bool

    @property
    def is_catalog(self) -> bool:
        """Whether it came with initdb."""
        return self.oid < FIRST_NORMAL_OID

    @property
    def xid_age(self) -> int | None:
        """Age of the oldest transaction id in heap and TOAST."""
        ages = [part.xid_age for part in (self.heap, self.toast) if part and part.xid_age is not None]
        return max(ages, default=None)


@dataclass(frozen=True)
class Settings:
    """What the options and the server say."""

    vacuum_scale_factor: float
    analyze_scale_factor: float
    autovacuum_freeze_max_age: int
    autovacuum_multixact_freeze_max_age: int
    #: As PostgreSQL's ``server_version_num``.
    server_version: int

    @property
    def analyzes_parents_only(self) -> bool:
        """Whether ``ANALYZE ONLY`` exists; before PostgreSQL 18 a parent's ANALYZE takes all partitions again."""
        return self.server_version >= 180000

    @property
    def records_parents(self) -> bool:
        """Whether the server keeps the time of a partitioned parent's last ANALYZE."""
        return self.server_version >= 140000


class Work(NamedTuple):
    """One table, and what is to be done with it."""

    table: Table
    action: Action
    reason: str
    priority: Priority
    #: autovacuum should have frozen this long ago.
    overdue: bool = False

    @property
    def vacuums(self) -> bool:
        """Whether it is a VACUUM (with or without ANALYZE)."""
        return self.action != "analyze"

    @property
    def analyzes(self) -> bool:
        """Whether it gives new statistics; freezing reads the whole table anyway, so it does too."""
        return self.action != "vacuum" and self.table.name != PG_STATISTIC

    @property
    def needed(self) -> bool:
        """Whether there is a reason beyond ``mode: all``."""
        return self.reason != MODE_ALL

    @property
    def weight_bytes(self) -> int:
        """Roughly the bytes that it reads, for order and progress; never 0."""
        table = self.table
        pages = table.total_pages if self.vacuums else min(table.heap_pages, ANALYZE_BLOCKS)
        return max(pages, 1) * BLOCK_BYTES


def plan(tables: Iterable[Table], *, mode: Mode, wanted: Collection[QualifiedName], settings: Settings) -> list[Work]:
    """What is to be done, in the order in which it is started: by priority, the bigger table first, then by name.

    Tables that the user may not touch are part of it, so that what is left undone has a name. Of the server's own
    catalogs only what is overdue is: autovacuum keeps them, and where only a superuser may, whom a platform keeps for
    itself, a line each week is noise.

    :param mode: ``needed``: what passes a limit; ``all``: every table is vacuumed and analysed
    :param wanted: done in any case; a partitioned table stands for all its partitions
    :raises RunbookError: a wanted table is not there, or may not be touched
    """
    by_oid = {table.oid: table for table in tables}
    named = {table.name: table for table in by_oid.values()}
    demanded = _demanded(by_oid, named, wanted)
    children: dict[int, list[Table]] = {}
    for table in by_oid.values():
        if table.parent_oid is not None:
            children.setdefault(table.parent_oid, []).append(table)
    works: dict[int, Work] = {}
    for table in by_oid.values():
        work = None if table.kind == "p" else _need(table, mode=mode, demanded=table.oid in demanded, settings=settings)
        if work is not None:
            works[table.oid] = work
    for parent in _bottom_up([table for table in by_oid.values() if table.kind == "p"], by_oid):
        reason = _parent_need(
            parent,
            children.get(parent.oid, []),
            works,
            "on demand" if parent.oid in demanded else MODE_ALL if mode == "all" else None,
            settings,
        )
        if reason is not None:
            works[parent.oid] = Work(parent, "analyze", reason, Priority.PARTITIONED)
    if not settings.analyzes_parents_only:
        _leave_to_parents(works, by_oid)
    _sweep_statistics(works, named.get(PG_STATISTIC), settings)
    return sorted(
        (work for work in works.values() if work.table.permitted or work.overdue or not work.table.is_catalog),
        key=lambda work: (work.priority, work.table.is_catalog, -work.weight_bytes, work.table.name, work.table.oid),
    )


def after_move(tables: Iterable[Table], source: QualifiedName, archive: QualifiedName, rows: int) -> list[Table]:
    """The tables as they are once so many rows were moved, which a dry run only plans.

    A partitioned table has no rows of its own, and which partitions give them is not known here.
    """
    moved = {source: {"dead_rows": rows}, archive: {"inserted_rows": rows}}
    return [
        replace(
            table,
            heap=replace(table.heap, **{name: getattr(table.heap, name) + more for name, more in change.items()}),
            modified_rows=table.modified_rows + rows,
        )
        if (change := moved.get(table.name)) and table.kind != "p"
        else table
        for table in tables
    ]


def _sweep_statistics(works: dict[int, Work], catalog: Table | None, settings: Settings) -> None:
    """Vacuum pg_statistic at the end of a pass that replaces many of its rows, one for each column analysed.

    Otherwise each pass would leave the next one something to do.
    """
    replaced = sum(work.table.columns for work in works.values() if work.analyzes and work.table.permitted)
    if catalog is None or not catalog.permitted:
        return
    work = works.get(catalog.oid)
    if work is not None and work.priority is Priority.WRAPAROUND:
        return
    after = replace(
        catalog.heap,
        dead_rows=catalog.heap.dead_rows + replaced,
        inserted_rows=catalog.heap.inserted_rows + replaced,
    )
    if work is not None:
        works[catalog.oid] = work._replace(priority=Priority.PG_STATISTIC)
    elif _over("dead", [after], settings) or _over("inserted", [after], settings):
        reason = f"this pass replaces about {replaced:,} of its rows"
        works[catalog.oid] = Work(catalog, "vacuum", reason, Priority.PG_STATISTIC)


def _demanded(
    by_oid: Mapping[int, Table], named: Mapping[QualifiedName, Table], wanted: Collection[QualifiedName]
) -> set[int]:
    """Oids of the wanted tables and of all partitions below them."""
    found: set[int] = set()
    for name in wanted:
        table = named.get(name)
        if table is None:
            raise RunbookError(
                f"tables: there is no table {name} in this database that can be vacuumed (views, foreign tables and "
                "other sessions' temporary tables cannot); correct the name, in exact upper and lower case."
            )
        found.add(table.oid)
    grown = bool(found)
    while grown:
        more = {table.oid for table in by_oid.values() if table.parent_oid in found} - found
        found |= more
        grown = bool(more)
    refused = sorted(str(by_oid[oid].name) for oid in found if not by_oid[oid].permitted)
    if refused:
        raise RunbookError(
            f"tables: this user may not vacuum {some(refused)}; run playbooks/db_roles.yml again, which gives "
            "runbook_maintain that right, or connect as the owner of the table."
        )
    return found


def _bottom_up(parents: Sequence[Table], by_oid: Mapping[int, Table]) -> list[Table]:
    """Partitioned tables, the deepest first."""

    def depth(table: Table) -> int:
        steps = 0
        above = by_oid.get(table.parent_oid) if table.parent_oid is not None else None
        while above is not None:
            steps += 1
            above = by_oid.get(above.parent_oid) if above.parent_oid is not None else None
        return steps

    return sorted(parents, key=lambda table: (-depth(table), table.oid))


def _leave_to_parents(works: dict[int, Work], by_oid: Mapping[int, Table]) -> None:
    """Take away each ANALYZE that a parent's ANALYZE repeats: the parent's takes all its partitions along."""
    for oid, work in list(works.items()):
        above = by_oid.get(work.table.parent_oid) if work.table.parent_oid is not None else None
        covered = False
        while above is not None and not covered:
            covered = above.oid in works and above.permitted
            above = by_oid.get(above.parent_oid) if above.parent_oid is not None else None
        if not covered or not work.table.permitted:
            continue
        if work.action == "analyze":
            del works[oid]
        elif work.action == "vacuum_analyze":
            works[oid] = work._replace(action="vacuum")


def _need(table: Table, *, mode: Mode, demanded: bool, settings: Settings) -> Work | None:
    """What one table with rows of its own needs."""
    parts = [part for part in (table.heap, table.toast) if part is not None]
    wraparound, overdue = _wraparound(parts, settings)
    dead = _over("dead", parts, settings)
    inserted = _over("inserted", parts, settings)
    stale = _stale_statistics(table, settings)
    unknown = table.last_vacuum is None and table.last_analyze is None and not table.is_catalog
    if unknown:
        stale = "no statistics: never vacuumed nor analysed, or the server has lost its count"
    if table.name == LEASE:
        dead = inserted = stale = None
        mode = "needed"

    reasons = [reason for reason in (wraparound, "on demand" if demanded else None, dead, inserted, stale) if reason]
    if mode == "all" and not reasons:
        reasons = [MODE_ALL]
    if not reasons:
        return None
    action: Action = "vacuum_analyze"
    if wraparound:
        action = "freeze"
    elif mode == "needed" and not demanded and not unknown:
        action = "analyze" if not (dead or inserted) else "vacuum_analyze" if stale else "vacuum"
    if table.name == PG_STATISTIC and not wraparound:
        action = "vacuum"
    ranks = (
        (wraparound, Priority.WRAPAROUND),
        (demanded, Priority.ON_DEMAND),
        (dead, Priority.DEAD_ROWS),
        (inserted, Priority.INSERTED_ROWS),
        (stale, Priority.STATISTICS),
    )
    priority = next((rank for reason, rank in ranks if reason), Priority.REST)
    return Work(table, action, ", ".join(reasons), priority, overdue)


def _wraparound(parts: Iterable[Part], settings: Settings) -> tuple[str | None, bool]:
    """Why the table must be frozen now, and whether that is overdue."""
    worst, reason = 0.0, None
    for part in parts:
        for age, option in (
            (part.xid_age, "autovacuum_freeze_max_age"),
            (part.mxid_age, "autovacuum_multixact_freeze_max_age"),
        ):
            if age is None:
                continue
            limit = _freeze_limit(part, option, settings)
            share = age / limit
            if share >= FREEZE_FROM and share > worst:
                worst, reason = share, f"age {age:,} is {share:.0%} of {option}"
    return reason, worst >= FREEZE_OVERDUE


def _over(what: Literal["dead", "inserted"], parts: Sequence[Part], settings: Settings) -> str | None:
    """Which part has more dead or inserted rows than its limit."""
    for part, place in zip(parts, ("", " in TOAST"), strict=False):
        rows = max(part.rows, 0)
        if what == "dead":
            count = part.dead_rows
            limit = vacuum_limit(part, settings)
        else:
            count = part.inserted_rows
            threshold = _option(part, "autovacuum_vacuum_insert_threshold", VACUUM_INSERT_THRESHOLD)
            if threshold < 0:
                continue
            limit = threshold + rows * _option(
                part, "autovacuum_vacuum_insert_scale_factor", VACUUM_INSERT_SCALE_FACTOR
            )
        if count > limit:
            said = "dead rows" if what == "dead" else "rows inserted since the last vacuum"
            return f"{count:,} {said}{place} (limit {limit:,.0f})"
    return None


def vacuum_limit(part: Part, settings: Settings) -> float:
    """Dead rows that are left alone."""
    limit = _option(part, "autovacuum_vacuum_threshold", VACUUM_THRESHOLD) + max(part.rows, 0) * _option(
        part, "autovacuum_vacuum_scale_factor", settings.vacuum_scale_factor
    )
    highest = _option(part, "autovacuum_vacuum_max_threshold", VACUUM_MAX_THRESHOLD)
    return limit if highest < 0 else min(limit, highest)


def _stale_statistics(table: Table, settings: Settings) -> str | None:
    if table.last_analyze is None and not table.is_catalog:
        return "never analysed"
    if table.name == PG_STATISTIC:
        return None
    limit = _option(table.heap, "autovacuum_analyze_threshold", ANALYZE_THRESHOLD) + max(table.heap.rows, 0) * _option(
        table.heap, "autovacuum_analyze_scale_factor", settings.analyze_scale_factor
    )
    if table.modified_rows > limit:
        return f"{count(table.modified_rows, 'row')} modified since the last analyze (limit {limit:,.0f})"
    return None


def _parent_need(
    parent: Table, children: Iterable[Table], works: Mapping[int, Work], demand: str | None, settings: Settings
) -> str | None:
    """Why a partitioned parent must be analysed: autovacuum never does it."""
    if demand:
        return demand
    if settings.records_parents and parent.last_analyze is None:
        return "never analysed (autovacuum leaves partitioned tables out)"
    if any(child.oid in works and works[child.oid].analyzes for child in children):
        return "partitions get new statistics"
    if parent.last_analyze is not None and any(
        child.last_autoanalyze is not None and child.last_autoanalyze > parent.last_analyze for child in children
    ):
        return "autovacuum has given partitions new statistics"
    return None


def _option(part: Part, name: str, otherwise: float) -> float:
    value = part.options.get(name)
    return otherwise if value is None else float(value)


def judge(reports: Iterable[Report], settings: Settings) -> None:
    """Call a freeze failed that left the table as old as before: the danger is still there."""
    for report in reports:
        age = report.after.xid_age
        if report.state != "done" or report.work.action != "freeze" or age is None:
            continue
        parts = [part for part in (report.work.table.heap, report.work.table.toast) if part is not None]
        limit = min(_freeze_limit(part, "autovacuum_freeze_max_age", settings) for part in parts)
        if age >= FREEZE_FROM * limit:
            report.state, report.error = "failed", f"frozen, but its age is still {age:,}"


def _freeze_limit(part: Part, option: str, settings: Settings) -> int:
    """A table's own limit may only be lower than the server's."""
    server: int = getattr(settings, option)
    return min(server, int(_option(part, option, server)))


def held_back(reports: Sequence[Report], settings: Settings) -> str | None:
    """Say what VACUUM could not clear away, if anything: a snapshot still needs it."""
    kept = [
        report
        for report in reports
        if report.state == "done"
        and report.work.vacuums
        and report.after.dead_rows is not None
        and report.after.dead_rows > vacuum_limit(report.work.table.heap, settings)
    ]
    old = [
        str(report.work.table.name) for report in reports if report.work.action == "freeze" and report.state == "failed"
    ]
    said = []
    if kept:
        rows = total(report.after.dead_rows for report in kept)
        names = some([str(report.work.table.name) for report in kept])
        said.append(f"{count(rows or 0, 'dead row')} could not be removed from {names}")
    if old:
        said.append(f"{some(old)} could not be frozen")
    return " and ".join(said) or None


@dataclass(frozen=True)
class Figures:
    """Of one table at one moment; None: not known."""

    size_bytes: int | None = None
    dead_rows: int | None = None
    live_rows: int | None = None
    xid_age: int | None = None


@dataclass
class Report:
    """What became of one piece of work."""

    work: Work
    state: State
    before: Figures
    after: Figures = field(default_factory=Figures)
    duration_s: float | None = None
    error: str | None = None

    @property
    def had_no_effect(self) -> bool:
        """Whether there is need, and this user may not."""
        return self.state == "not_permitted" and self.work.needed


def describe(works: Iterable[Work]) -> str:
    """The plan, a line a table."""
    return as_lines(
        f"{work.action} {work.table.name}: {work.reason}{'' if work.table.permitted else ' (NOT PERMITTED)'}"
        for work in works
    )


def total(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def result(reports: Sequence[Report], *, tables: int, check_mode: bool, stopped: str | None) -> dict[str, Any]:
    """The figures of the whole pass; ``breach`` where work was left undone, or must be done by somebody else.

    :param tables: how many were looked at
    :param stopped: why the pass ended early
    """
    permitted = [report for report in reports if report.state != "not_permitted"]
    counted = permitted if check_mode else [report for report in reports if report.state == "done"]
    undone = any(report.state in ("locked", "failed", "not_reached") for report in reports)
    overdue = any(report.state == "not_permitted" and report.work.overdue for report in reports)
    figures: dict[str, Any] = {
        "changed": bool(counted),
        "status": Status.of(breach=undone or overdue or stopped),
        "considered_tables": tables,
        "planned_tables": len(permitted),
        "done_tables": sum(report.state == "done" for report in reports),
        "not_permitted": [str(report.work.table.name) for report in reports if report.state == "not_permitted"],
    }
    for what, before, after in (
        ("size_bytes", "size_before_bytes", "size_after_bytes"),
        ("dead_rows", "dead_rows_before", "dead_rows_after"),
    ):
        pairs = [(getattr(report.before, what), getattr(report.after, what)) for report in counted]
        known = [pair for pair in pairs if pair[0] is not None and (check_mode or pair[1] is not None)]
        figures[before] = total(pair[0] for pair in known)
        figures[after] = None if check_mode else total(pair[1] for pair in known)
    return figures


def message(reports: Sequence[Report], *, tables: int, duration_s: float, check_mode: bool, stopped: str | None) -> str:
    """One sentence with the figures.

    :param tables: how many were looked at
    :param stopped: why the pass ended early
    """
    permitted = [report for report in reports if report.state != "not_permitted"]
    if not permitted and any(report.had_no_effect for report in reports):
        text = "Nothing done: this user may vacuum none of the tables in need"
    elif not permitted:
        text = f"Nothing to do: none of {count(tables, 'table')} needs vacuum or analyze"
    elif check_mode:
        bytes_ = total(report.before.size_bytes for report in permitted)
        vacuums, analyzes = _counts(permitted)
        text = f"Would vacuum {vacuums} and analyse {analyzes} of {count(tables, 'table')}"
        text += f" ({size(bytes_)})" if bytes_ is not None else ""
    else:
        done = [report for report in reports if report.state == "done"]
        vacuums, analyzes = _counts(done)
        text = f"Vacuumed {vacuums} and analysed {analyzes} of {count(tables, 'table')} in {duration_s:.1f} s"
        known = [report for report in done if report.work.vacuums and report.after.dead_rows is not None]
        before = total(report.before.dead_rows for report in known)
        if before:
            after = total(report.after.dead_rows for report in known)
            text += f"; {count(before, 'dead row is', 'dead rows are')} now {after:,}"
    if stopped:
        text += f"; stopped: {stopped}"
    said = (
        ("locked", "stayed locked"),
        ("failed", "failed"),
        ("not_reached", "not reached"),
        ("gone", "dropped meanwhile"),
        ("not_permitted", "in need, but not permitted"),
    )
    told = [
        (str(report.work.table.name), report)
        for report in reports
        if report.state != "not_permitted" or report.had_no_effect
    ]
    return text + passes.left(told, said, "table") + "."


def _counts(reports: Sequence[Report]) -> tuple[int, int]:
    return sum(report.work.vacuums for report in reports), sum(report.work.analyzes for report in reports)
