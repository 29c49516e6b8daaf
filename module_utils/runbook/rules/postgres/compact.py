"""Which tables are rewritten to remove their bloat, in which way, and what is said about it.

A rewrite of a table writes its rows, its TOAST table and all its indexes into new files. pg_repack does that while
everybody works, and needs a key to find rows again. VACUUM FULL locks everybody out, so it is only done while the
application is in maintenance anyway. Pages that are empty at the end of a table are given back by a plain VACUUM, which
is the cheapest way where it is enough.

The smallest comes first, so that a deadline leaves the fewest undone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres import passes
from ansible.module_utils.runbook.rules.postgres.bloat import PAGE_BYTES
from ansible.module_utils.runbook.rules.postgres.reindex import (
    FIRST_RATE_BYTES_S,
    SPACE_FACTOR,
    UNPROVEN_BYTES,
    UNPROVEN_SHARE,
)
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase.managed import PLATFORM_OWNERS
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count, size, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ansible.module_utils.runbook.rules.identifiers import QualifiedName
    from ansible.module_utils.runbook.rules.postgres.bloat import Bloat

Action = Literal["clean_up", "truncate", "pg_repack", "vacuum_full", "none"]
State = Literal[
    "planned",
    "done",
    "locked",
    "no_space",
    "no_key",
    "needs_outage",
    "not_permitted",
    "failed",
    "not_reached",
    "gone",
]

#: VACUUM gives the end of a table back from so many empty pages on, or from this share (vacuumlazy.c).
TRUNCATE_PAGES = 1000
TRUNCATE_SHARE = 1 / 16
#: What a rewrite does, counted in bytes that the sample reads: it writes each byte that it keeps, and it reads, sorts
#: and writes each index. With these weights a VACUUM FULL of 250 MiB took 0.9 of its estimate, a pg_repack 0.5.
WRITE_WEIGHT = 2
INDEX_WEIGHT = 2
#: pg_repack also lets the clients work meanwhile, and applies what they wrote.
ONLINE_FACTOR = 2
#: First version of pg_repack that the owner of a table can use; before, its functions wanted a superuser.
OWNER_VERSION = (1, 5, 2)
#: States that leave something undone which another run could do.
UNDONE: tuple[State, ...] = ("locked", "no_space", "failed", "not_reached")
#: States that leave something for a person.
LEFT_TO_PEOPLE: tuple[State, ...] = ("no_key", "needs_outage", "not_permitted")


@dataclass(frozen=True)
class Table:
    """A table or materialised view with its TOAST table and indexes."""

    oid: int
    name: QualifiedName
    heap: Bloat
    toast: Bloat | None
    #: All its indexes now, and what is known of them after a rebuild.
    index_bytes: int
    expected_index_bytes: int
    #: A table that pg_repack takes: permanent, no catalog, no materialised view.
    is_ordinary: bool
    #: It has a primary key, or a unique index over columns that are NOT NULL.
    has_key: bool
    owner: str
    #: Has the owner's rights.
    is_owner: bool
    #: May VACUUM FULL it: the owner, and since PostgreSQL 17 who has MAINTAIN.
    permitted: bool

    @property
    def is_platforms(self) -> bool:
        """Whether a managed platform made it, which nobody else can compact while everybody works."""
        return self.owner in PLATFORM_OWNERS

    @property
    def size_bytes(self) -> int:
        """Pages of the table and its TOAST table."""
        return (self.heap.size_bytes or 0) + ((self.toast.size_bytes or 0) if self.toast else 0)

    @property
    def bloat_bytes(self) -> int | None:
        """What a rewrite would win of them, as far as it is known; None where nothing is."""
        known = [part.bloat_bytes for part in (self.heap, self.toast) if part and part.bloat_bytes is not None]
        return sum(known) if known else None

    @property
    def has_unknown(self) -> bool:
        """Whether the bloat of the table or of its TOAST table is unknown."""
        return any(part.bloat_bytes is None for part in (self.heap, self.toast) if part)

    @property
    def expected_bytes(self) -> int:
        """What a rewrite would leave of them; all where the bloat is unknown."""
        return self.size_bytes - (self.bloat_bytes or 0)

    def bloat_percent(self, without_bytes: int = 0) -> float | None:
        """Bloat in percent of the size, after ``without_bytes`` of it were given back."""
        if self.bloat_bytes is None:
            return None
        rest = self.size_bytes - without_bytes
        return round(100 * max(self.bloat_bytes - without_bytes, 0) / rest, 1) if rest > 0 else 0.0

    @property
    def space_bytes(self) -> int:
        """Disk that a rewrite needs meanwhile: the copy, and its indexes, which may be sorted on disk before."""
        return self.expected_bytes + SPACE_FACTOR * self.index_bytes


@dataclass(frozen=True)
class Sample:
    """What was found out by reading a few pages of a table."""

    #: Bytes of the table that are read in a second; None where nobody may read it.
    rate_bytes_s: float | None = None
    #: Bytes at its end that hold no row.
    trailing_bytes: int = 0


@dataclass(frozen=True)
class Leftover:
    """What a pg_repack that was killed left behind."""

    #: Of the table; it may be gone.
    oid: int
    #: None: the table was dropped since.
    name: QualifiedName | None
    #: What will be dropped, in words.
    objects: tuple[str, ...]
    is_owner: bool


@dataclass(frozen=True)
class Ways:
    """What can be used here."""

    #: Version of pg_repack, client and extension alike; None: it cannot be used.
    repack: str | None
    #: Why not.
    repack_refusal: str | None
    #: Who may use it: anybody who owns the table, or only a superuser.
    repack_needs_superuser: bool
    is_superuser: bool
    #: Seconds for which VACUUM FULL may still lock a table; None: not at all.
    outage_s: float | None


@dataclass
class Report:
    """One table, what is to be done with it, and what became of it."""

    oid: int
    name: QualifiedName | None
    action: Action
    reason: str
    state: State
    error: str | None = None
    table: Table | None = None
    #: Seconds that it is likely to take; None where that is not worth a thought.
    estimate_s: float | None = None
    size_before_bytes: int | None = None
    size_after_bytes: int | None = None
    duration_s: float | None = None

    @property
    def label(self) -> str:
        """The table's name, or what is known of it."""
        return str(self.name) if self.name is not None else f"table {self.oid}, which was dropped"

    @property
    def weight_bytes(self) -> int:
        """Bytes that it goes through, roughly; never 0."""
        if self.table is None or self.action == "clean_up":
            return 1
        return self.table.size_bytes + (self.table.index_bytes if self.action != "truncate" else 0) + 1


def parse_version(text: str) -> tuple[int, ...] | None:
    """Numbers of ``pg_repack 1.4.8``; None where there are none.

    >>> parse_version("pg_repack 1.5.2"), parse_version("?")
    ((1, 5, 2), None)
    """
    word = text.strip().rpartition(" ")[2]
    parts = word.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else None


#: What is said of a version before that.
SUPERUSERS_ONLY = (
    f"works for superusers only; from {'.'.join(map(str, OWNER_VERSION))} on it works for the owners of tables"
)


def needs_superuser(version: str) -> bool:
    """Whether only a superuser can use this version of pg_repack.

    >>> needs_superuser("1.4.8"), needs_superuser("1.5.2"), needs_superuser("1.10")
    (True, False, False)
    """
    numbers = parse_version(version)
    return numbers is None or numbers < OWNER_VERSION


def outage(*, allow: bool, until: str | None, now: datetime) -> float | None:
    """Seconds for which tables may be locked against everybody; None where that is not allowed.

    :param allow: the option ``allow_exclusive_lock``
    :param until: the option ``maintenance_until``: when the application comes back
    :param now: the server's clock
    :raises RunbookError: one without the other, no time with its zone, or a time that has passed
    """
    if not allow and not until:
        return None
    if not until:
        raise RunbookError(
            "allow_exclusive_lock: true locks tables against everybody, so the application must be in maintenance; say "
            "in maintenance_until when it comes back."
        )
    if not allow:
        raise RunbookError(
            f"maintenance_until: {until} alone allows nothing; add allow_exclusive_lock: true, or leave it out."
        )
    try:
        end = datetime.fromisoformat(until)
    except ValueError:
        end = None
    if end is None or end.tzinfo is None:
        raise RunbookError(
            f"maintenance_until: {until!r} is no moment; write it with its zone, as in 2026-11-01T06:00:00Z."
        )
    left_s = (end - now).total_seconds()
    if left_s <= 0:
        raise RunbookError(
            f"maintenance_until: {until} has passed (the server's clock says {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} "
            "UTC); nothing was locked."
        )
    return left_s


def candidates(tables: Iterable[Table], *, min_bloat_percent: float, min_size_bytes: int) -> list[Table]:
    """Tables whose estimate would have them rewritten, or is unknown: worth a measurement."""
    return [
        table
        for table in tables
        if table.size_bytes >= min_size_bytes
        and (table.has_unknown or (table.bloat_percent() or 0) >= min_bloat_percent)
    ]


def needed(tables: Iterable[Table], *, min_bloat_percent: float, min_size_bytes: int) -> list[Table]:
    """Tables above both limits, the smallest first."""
    found = [
        table
        for table in tables
        if table.size_bytes >= min_size_bytes and (table.bloat_percent() or 0) >= min_bloat_percent
    ]
    return sorted(found, key=lambda table: (table.size_bytes, table.name))


def plan(
    tables: Iterable[Table],
    samples: Mapping[int, Sample],
    leftovers: Iterable[Leftover],
    ways: Ways,
    *,
    min_bloat_percent: float,
    deadline_s: float,
    free_bytes: int | None,
    database_bytes: int | None,
) -> list[Report]:
    """What is to be done, in the order in which it is started; what cannot be done is part of it, with the reason.

    :param tables: those that need it, in their order
    :param samples: what was found out about each, by oid
    :param free_bytes: of the server's disk; None: unknown, then only what is small beside the database is started
    """
    reports = [_clean_up(leftover) for leftover in sorted(leftovers, key=lambda one: one.oid)]
    rewrites = [
        _report(table, samples.get(table.oid, Sample()), ways, min_bloat_percent=min_bloat_percent) for table in tables
    ]
    # What is cheap goes first, and makes room for the rest.
    rewrites.sort(key=lambda report: report.action != "truncate")
    for report in rewrites:
        if report.state == "planned" and report.action != "truncate":
            _bound(report, ways, deadline_s=deadline_s, free_bytes=free_bytes, database_bytes=database_bytes)
    return reports + rewrites


def _clean_up(leftover: Leftover) -> Report:
    reason = f"left behind by a pg_repack that was killed: {', '.join(leftover.objects)}"
    return Report(leftover.oid, leftover.name, "clean_up", reason, "planned" if leftover.is_owner else "not_permitted")


def worth_truncating(heap_bytes: int, trailing_bytes: int) -> bool:
    """Whether VACUUM would give the end of the table back."""
    pages = trailing_bytes // PAGE_BYTES
    return pages > 0 and (pages >= TRUNCATE_PAGES or trailing_bytes >= heap_bytes * TRUNCATE_SHARE)


def _report(table: Table, sample: Sample, ways: Ways, *, min_bloat_percent: float) -> Report:
    reason = (
        f"{table.bloat_percent()} % of {size(table.size_bytes)} is bloat "
        f"({table.heap.method}, limit {min_bloat_percent:g} %)"
    )
    before = table.size_bytes + table.index_bytes
    report = Report(table.oid, table.name, "none", reason, "planned", table=table, size_before_bytes=before)
    report.action, report.state, report.error = _way(table, sample, ways, min_bloat_percent=min_bloat_percent)
    if report.action in ("pg_repack", "vacuum_full"):
        report.estimate_s = estimate_s(table, sample, online=report.action == "pg_repack")
    return report


def _way(table: Table, sample: Sample, ways: Ways, *, min_bloat_percent: float) -> tuple[Action, State, str | None]:
    if not table.permitted:
        return "none", "not_permitted", f"owned by {table.owner}"
    truncates = worth_truncating(table.heap.size_bytes or 0, sample.trailing_bytes)
    if truncates and (table.bloat_percent(sample.trailing_bytes) or 0) < min_bloat_percent:
        return "truncate", "planned", None
    refusal = _repack_refusal(table, ways)
    if refusal is None:
        return "pg_repack", "planned", None
    if ways.outage_s is not None:
        return "vacuum_full", "planned", None
    if truncates:
        return "truncate", "planned", None
    state: State = "no_key" if ways.repack is not None and table.is_ordinary and not table.has_key else "needs_outage"
    return "none", state, f"{refusal}; or allow VACUUM FULL with allow_exclusive_lock and maintenance_until"


def _repack_refusal(table: Table, ways: Ways) -> str | None:
    """Why pg_repack does not take the table; None where it does."""
    if ways.repack is None:
        return ways.repack_refusal or "there is no pg_repack"
    if not table.is_ordinary:
        return "pg_repack takes only permanent tables that are no system catalogs"
    if not table.has_key:
        return (
            "pg_repack needs a primary key, or a unique index over columns that are NOT NULL; give it one, so that it "
            "can be compacted while everybody works"
        )
    if ways.is_superuser:
        return None
    if ways.repack_needs_superuser:
        return (
            f"pg_repack {ways.repack} works for superusers only; install {'.'.join(map(str, OWNER_VERSION))} or newer "
            "here and in the database, which works for the owner of the table too"
        )
    if not table.is_owner and table.is_platforms:
        return f"owned by {table.owner}, and pg_repack works for the owner only"
    if not table.is_owner:
        return (
            f'pg_repack works for the owner of the table only; GRANT "{table.owner}" TO this user, who may then do '
            "all that the owner may"
        )
    return None


def estimate_s(table: Table, sample: Sample, *, online: bool) -> float:
    """Seconds that a rewrite is likely to take, by the pace at which a sample of the table was read.

    Where nobody may read it, by a pace that a small server manages.
    """
    weight = table.size_bytes + WRITE_WEIGHT * table.expected_bytes + INDEX_WEIGHT * table.expected_index_bytes
    seconds = weight / (sample.rate_bytes_s or FIRST_RATE_BYTES_S)
    return round(max(seconds * (ONLINE_FACTOR if online else 1), 0.1), 1)


def _bound(
    report: Report, ways: Ways, *, deadline_s: float, free_bytes: int | None, database_bytes: int | None
) -> None:
    """Refuse what does not fit into the disk or into the time."""
    assert report.table is not None  # noqa: S101 - a rewrite has one; this tells the type checker
    need = report.table.space_bytes
    if free_bytes is None:
        if need > max(UNPROVEN_BYTES, int((database_bytes or 0) * UNPROVEN_SHARE)):
            report.state = "no_space"
            report.error = f"may need {size(need)}, and nobody knows the free disk; say it in free_disk_bytes"
            return
    elif need > free_bytes:
        report.state, report.error = "no_space", f"may need {size(need)}, and {size(free_bytes)} of disk are free"
        return
    limit_s, what = deadline_s, "deadline_s leaves"
    if report.action == "vacuum_full" and ways.outage_s is not None and ways.outage_s < deadline_s:
        limit_s, what = ways.outage_s, "maintenance_until leaves"
    if (report.estimate_s or 0) > limit_s:
        report.state = "not_reached"
        report.error = f"would take about {math.ceil(report.estimate_s or 0):,} s, and {what} {math.floor(limit_s):,} s"


def fits(report: Report, *, left_s: float, pace: float) -> bool:
    """Whether it is likely to end in the seconds that are left.

    :param pace: how many times longer than their estimates this run's rewrites took; 1 before the first
    """
    return left_s > 0 and (report.estimate_s or 0) * pace <= left_s


def describe(reports: Iterable[Report]) -> str:
    """The plan, a line a table."""
    return as_lines(
        f"{report.action} {report.label}: {report.reason}"
        f"{f', about {math.ceil(report.estimate_s):,} s' if report.estimate_s else ''}"
        f"{'' if report.state == 'planned' else f' ({report.state.upper()})'}"
        for report in reports
    )


class Summary(passes.Summary):
    """The whole pass."""

    def result(self) -> dict[str, Any]:
        """The figures; ``breach`` where work was left undone that another run could do."""
        counted = self.in_state("planned") if self.check_mode else self.in_state("done")
        compacted = [report for report in counted if report.action != "clean_up"]
        known = compacted if self.check_mode else [one for one in compacted if one.size_after_bytes is not None]
        return {
            "changed": bool(counted),
            "status": Status.of(breach=self.in_state(*UNDONE) or self.stopped),
            "considered_tables": self.considered,
            "planned_tables": len(self.reports) - len(self.in_state(*LEFT_TO_PEOPLE)),
            "compacted_tables": 0 if self.check_mode else len(compacted),
            "cleaned_tables": 0 if self.check_mode else len(counted) - len(compacted),
            "size_before_bytes": sum(report.size_before_bytes or 0 for report in known),
            "size_after_bytes": None if self.check_mode else sum(report.size_after_bytes or 0 for report in known),
            "tables": [_entry(report) for report in self.reports],
        }

    def message(self, result: Mapping[str, Any]) -> str:
        """One sentence with the figures.

        :param result: with ``duration_s``
        """
        if not self.reports:
            text = f"Nothing to do: none of {count(self.considered, 'table')} needs to be compacted"
        elif self.check_mode:
            planned = self.in_state("planned")
            cleaned = sum(report.action == "clean_up" for report in planned)
            text = f"Would compact {len(planned) - cleaned:,} of {count(self.considered, 'table')}"
            text += f" ({size(result['size_before_bytes'])})"
            text += f" and clean up after a killed pg_repack on {cleaned:,}" if cleaned else ""
        else:
            text = (
                f"Compacted {result['compacted_tables']:,} of {count(self.considered, 'table')} in "
                f"{result['duration_s']:.1f} s"
            )
            if result["compacted_tables"]:
                text += f"; {size(result['size_before_bytes'])} are now {size(result['size_after_bytes'])}"
            if result["cleaned_tables"]:
                text += f"; cleaned up after a killed pg_repack on {result['cleaned_tables']:,}"
        if self.stopped:
            text += f"; stopped: {self.stopped}"
        for state, said in (
            ("locked", "stayed locked"),
            ("failed", "failed"),
            ("no_space", "not started for lack of disk"),
            ("not_reached", "not reached"),
            ("no_key", "not possible without a key"),
            ("needs_outage", "not possible without an outage"),
            ("not_permitted", "not permitted to this user"),
            ("gone", "dropped meanwhile"),
        ):
            reports = self.in_state(state)
            # Tables with the same reason are told together.
            told = [
                some([report.label for report in reports if report.error == error]) + (f" ({error})" if error else "")
                for error in dict.fromkeys(report.error for report in reports)
            ]
            if reports:
                text += f"; {count(len(reports), 'table')} {said}: {'; '.join(told[:5])}"
        return text + "."


def _entry(report: Report) -> dict[str, Any]:
    return {
        "table": report.label,
        "action": report.action,
        "reason": report.reason,
        "state": report.state,
        "error": report.error,
        "estimate_s": report.estimate_s,
        "size_before_bytes": report.size_before_bytes,
        "size_after_bytes": report.size_after_bytes,
        "duration_s": report.duration_s,
    }
