"""Which indexes are rebuilt, in which order, and what is said about it.

An index is rebuilt because it is invalid, because the version of its collation has changed (its order may be wrong
then), or because it is bloated. What a ``REINDEX CONCURRENTLY`` that was interrupted left behind is dropped first: an
invalid index named ``…_ccnew`` or ``…_ccold`` beside a valid one with the same definition (PostgreSQL's documentation,
"REINDEX: Rebuilding Indexes Concurrently").

What repairs comes before what saves space; then the smallest first, so that a deadline leaves the fewest undone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.rules.postgres import passes
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase.managed import PLATFORM_OWNERS
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, size, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.bloat import Bloat

Mode = Literal["needed", "all"]
Action = Literal["rebuild", "drop", "create"]
State = Literal[
    "planned",
    "done",
    "locked",
    "corrupt",
    "no_space",
    "not_concurrent",
    "not_permitted",
    "failed",
    "not_reached",
    "gone",
]

#: A build writes the index, and may sort it on disk before.
SPACE_FACTOR = 2
#: Without knowledge of the disk, only what needs no more than this, or this share of the database, is rebuilt.
UNPROVEN_BYTES = 1 << 30
UNPROVEN_SHARE = 0.1
#: Bytes a second of table and index that a build is taken to get through, until one has shown its pace.
FIRST_RATE_BYTES_S = 20 * (1 << 20)
#: States that leave something undone.
UNDONE: tuple[State, ...] = ("locked", "corrupt", "no_space", "failed", "not_reached")
MODE_ALL = "mode all"


class Priority(IntEnum):
    """What comes first."""

    LEFTOVER = 1
    INVALID = 2
    COLLATION = 3
    BLOAT = 4
    REST = 5


@dataclass(frozen=True)
class Index:
    """An index with pages of its own."""

    oid: int
    name: QualifiedName
    table_oid: int
    table: QualifiedName
    access_method: str
    size_bytes: int
    #: Bytes of the table's own pages, which a build reads.
    table_bytes: int
    is_valid: bool
    is_unique: bool
    is_exclusion: bool
    is_catalog: bool
    #: Invalid, named ``…_ccnew`` or ``…_ccold``, in no constraint, and with a valid twin on the same table.
    is_leftover: bool
    #: Names of its collations whose version has changed.
    outdated_collations: tuple[str, ...]
    permitted: bool
    bloat: Bloat | None
    #: Of its table.
    owner: str = ""

    @property
    def is_platforms(self) -> bool:
        """Whether a managed platform made it."""
        return self.owner in PLATFORM_OWNERS


@dataclass(frozen=True)
class Work:
    """One index, and what is to be done with it."""

    index: Index
    action: Action
    reason: str
    priority: Priority
    #: Of an index that is to be created: the statement. Then the index has no oid yet, and an expected size.
    ddl: str = ""

    @property
    def checks(self) -> bool:
        """Whether its structure should be sound before it is rebuilt: corruption is to be told, not to be swept away.

        An invalid index, or one whose order is another one now, is known not to be.
        """
        sound = self.priority in (Priority.BLOAT, Priority.REST)
        return self.action == "rebuild" and sound and self.index.access_method == "btree"

    @property
    def weight_bytes(self) -> int:
        """What it reads and writes, roughly; never 0."""
        return self.index.table_bytes + 2 * self.index.size_bytes + 1 if self.action != "drop" else 1

    @property
    def space_bytes(self) -> int:
        """Disk that it needs meanwhile, in the worst case."""
        if self.action == "drop":
            return 0
        bloat = self.index.bloat
        expected = bloat.expected_bytes if bloat is not None else None
        return SPACE_FACTOR * (expected if expected is not None else self.index.size_bytes)


@dataclass
class Report:
    """What became of one piece of work."""

    work: Work
    state: State
    error: str | None = None
    #: True: its structure was sound; None: nobody looked.
    checked: bool | None = None
    size_after_bytes: int | None = None
    duration_s: float | None = None


def candidates(bloats: Iterable[Bloat], *, min_bloat_percent: float, min_size_bytes: int) -> list[Bloat]:
    """B-tree indexes that the estimate would have rebuilt, or that it knows nothing of: worth a measurement."""
    return [
        bloat
        for bloat in bloats
        if bloat.relation.access_method == "btree"
        and (bloat.size_bytes or 0) >= min_size_bytes
        and (bloat.bloat_percent is None or bloat.bloat_percent >= min_bloat_percent)
    ]


def plan(indexes: Iterable[Index], *, mode: Mode, min_bloat_percent: float, min_size_bytes: int) -> list[Work]:
    """What is to be done, in the order in which it is started.

    What cannot be done concurrently, or not by this user, is part of it, so that what is left undone has a name.

    :param mode: ``needed``: for a reason; ``all``: every index of a user's table, as REINDEX DATABASE does
    :param min_bloat_percent: share of an index from which its bloat is a reason
    :param min_size_bytes: bloat of a smaller index is none
    """
    works = []
    for index in indexes:
        work = _need(index, mode=mode, min_bloat_percent=min_bloat_percent, min_size_bytes=min_size_bytes)
        if work is not None:
            works.append(work)
    return sorted(works, key=lambda work: (work.priority, work.index.size_bytes, work.index.name))


def _need(index: Index, *, mode: Mode, min_bloat_percent: float, min_size_bytes: int) -> Work | None:
    if index.is_leftover:
        return Work(index, "drop", "left behind by an interrupted REINDEX CONCURRENTLY", Priority.LEFTOVER)
    if not index.is_valid:
        return Work(index, "rebuild", "invalid: no query uses it", Priority.INVALID)
    if index.outdated_collations:
        names = ", ".join(index.outdated_collations)
        return Work(index, "rebuild", f"the version of its collation {names} has changed", Priority.COLLATION)
    bloat = index.bloat
    if (
        bloat is not None
        and bloat.bloat_percent is not None
        and bloat.bloat_percent >= min_bloat_percent
        and index.size_bytes >= min_size_bytes
    ):
        reason = (
            f"{bloat.bloat_percent} % of {size(index.size_bytes)} is bloat "
            f"({bloat.method}, limit {min_bloat_percent:g} %)"
        )
        return Work(index, "rebuild", reason, Priority.BLOAT)
    if mode == "all" and not index.is_catalog and not index.is_exclusion:
        return Work(index, "rebuild", MODE_ALL, Priority.REST)
    return None


def first_state(
    work: Work, *, jobs: int, free_bytes: int | None, database_bytes: int | None
) -> tuple[State, str | None]:
    """``planned``, or why it cannot be done, with the fix.

    :param free_bytes: of the disk; None: unknown, then only what is small beside the database is started
    """
    index = work.index
    if not index.permitted:
        return "not_permitted", f"owned by {index.owner}" if index.owner else None
    if work.action == "rebuild" and index.is_exclusion:
        return "not_concurrent", "PostgreSQL rebuilds the index of an exclusion constraint only under a lock"
    if work.action == "rebuild" and index.is_catalog:
        return "not_concurrent", "PostgreSQL rebuilds the index of a system catalog only under a lock"
    need = work.space_bytes * jobs
    if free_bytes is None:
        unproven = max(UNPROVEN_BYTES, int((database_bytes or 0) * UNPROVEN_SHARE))
        if need > unproven:
            return "no_space", f"may need {size(need)}, and nobody knows the free disk; say it in free_disk_bytes"
    elif need > free_bytes:
        return "no_space", f"may need {size(need)}, and {size(free_bytes)} of disk are free"
    return "planned", None


def fits(work: Work, *, left_s: float, rate_bytes_s: float | None) -> bool:
    """Whether it is likely to end before the deadline.

    :param rate_bytes_s: what this run has got through in a second so far; None before the first is done
    """
    if work.action == "drop":
        return left_s > 0
    return work.weight_bytes / (rate_bytes_s or FIRST_RATE_BYTES_S) <= left_s


def refreshable(reports: Iterable[Report]) -> list[str]:
    """Collations whose new version may be confirmed: every index that depends on it has been rebuilt.

    :param reports: of all works, those too that could not be done
    """
    wanted: dict[str, bool] = {}
    for report in reports:
        for name in report.work.index.outdated_collations:
            wanted[name] = wanted.get(name, True) and report.state in ("done", "gone")
    return [name for name, done in wanted.items() if done]


def describe(reports: Iterable[Report]) -> str:
    """The plan, a line an index."""
    return as_lines(
        f"{report.work.action} {report.work.index.name}: {report.work.reason}"
        f"{'' if report.state == 'planned' else f' ({report.state.upper()})'}"
        for report in reports
    )


@dataclass(frozen=True)
class Summary(passes.Summary):
    """The whole pass."""

    refreshed: Sequence[str] = field(default_factory=tuple)

    def result(self) -> dict[str, Any]:
        """The figures; ``breach`` where work was left undone, or a repair must be made by somebody else."""
        counted = self.in_state("planned") if self.check_mode else self.in_state("done")
        rebuilt = [report for report in counted if report.work.action == "rebuild"]
        known = [report for report in rebuilt if report.size_after_bytes is not None]
        repair = any(
            report.work.priority in (Priority.INVALID, Priority.COLLATION)
            for report in self.in_state("not_permitted", "not_concurrent")
        )
        after = sum(report.size_after_bytes or 0 for report in known)
        return {
            "changed": bool(counted or self.refreshed),
            "status": Status.of(breach=self.in_state(*UNDONE) or self.stopped or repair),
            "considered_indexes": self.considered,
            "planned_indexes": len(self.reports) - len(self.in_state("not_permitted", "not_concurrent")),
            "rebuilt_indexes": 0 if self.check_mode else len(rebuilt),
            "dropped_indexes": 0 if self.check_mode else len(counted) - len(rebuilt),
            "size_before_bytes": sum(r.work.index.size_bytes for r in (rebuilt if self.check_mode else known)),
            "size_after_bytes": None if self.check_mode else after,
            "indexes": [_entry(report) for report in self.reports],
            "refreshed_collations": list(self.refreshed),
        }

    def message(self, result: Mapping[str, Any]) -> str:
        """One sentence with the figures.

        :param result: with ``duration_s``
        """
        if not self.reports:
            text = f"Nothing to do: none of {count(self.considered, 'index', 'indexes')} needs to be rebuilt"
        elif self.check_mode:
            planned = self.in_state("planned")
            drops = sum(report.work.action == "drop" for report in planned)
            text = f"Would rebuild {len(planned) - drops:,} of {count(self.considered, 'index', 'indexes')}"
            text += f" ({size(result['size_before_bytes'])})" + (f" and drop {drops:,} left behind" if drops else "")
        else:
            text = (
                f"Rebuilt {result['rebuilt_indexes']:,} of {count(self.considered, 'index', 'indexes')} in "
                f"{result['duration_s']:.1f} s"
            )
            if result["rebuilt_indexes"]:
                text += f"; {size(result['size_before_bytes'])} are now {size(result['size_after_bytes'])}"
            if result["dropped_indexes"]:
                text += f"; dropped {result['dropped_indexes']:,} left behind by interrupted runs"
        if self.refreshed:
            text += f"; confirmed the version of {some(list(self.refreshed))}"
        if self.stopped:
            text += f"; stopped: {self.stopped}"
        said = (
            ("corrupt", "CORRUPT, left as it is"),
            ("locked", "stayed locked"),
            ("failed", "failed"),
            ("no_space", "not started for lack of disk"),
            ("not_reached", "not reached"),
            ("not_concurrent", "not possible without an outage"),
            ("not_permitted", "not permitted to this user"),
            ("gone", "dropped meanwhile"),
        )
        told = [
            (str(report.work.index.name), report)
            for report in self.reports
            if report.state != "not_permitted" or report.work.reason != MODE_ALL
        ]
        return text + passes.left(told, said, "index", "indexes") + "."


def _entry(report: Report) -> dict[str, Any]:
    work = report.work
    return {
        "index": str(work.index.name),
        "table": str(work.index.table),
        "action": work.action,
        "reason": work.reason,
        "state": report.state,
        "error": report.error,
        "checked": report.checked,
        "size_before_bytes": work.index.size_bytes,
        "size_after_bytes": report.size_after_bytes,
        "duration_s": report.duration_s,
    }
