"""The weekly work: the runbook's way, what people use instead, and this project, side by side in one run.

``make bench`` builds a database of three gigabytes once, and writes the tables of bench/README.md. Ratios are what
counts: absolute times are those of one small machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shutil
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness import ROOT, Sample, Server, measure, module, program

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE, ARCHIVE, DAYS = "public.audit_log", "public.audit_log_archive", 90
#: Of the 180 days of history, only the oldest week is older than this: what a weekly run finds week after week.
WEEK_DAYS = 173
Act = tuple[str, "Callable[[], tuple[str, int | None]]", str]


# --- data -------------------------------------------------------------------------------------------------------------


def build_plain(there: Server, scale: float) -> None:
    """Make the template of the churned database."""
    from ansible.module_utils.runbook.rules.sandbox import demo_database

    there.template("plain", lambda: void(there.run(*demo_database.statements(scale=scale, seed=1))))


def build(there: Server, scale: float) -> None:
    """Make the templates: the churned database, its twin with a partitioned audit_log, and one with little to do."""
    build_plain(there, scale)
    there.template("parts", lambda: void(there.run(*partitioned(there))), base="plain")
    there.template("tidy", lambda: void(there.run("VACUUM ANALYZE")), base="plain")


def void(_anything: object) -> None:
    """Throw a result away."""


def partitioned(there: Server) -> list[str]:
    """SQL that turns audit_log of the twin into one partition a month-sized range, with the same rows."""
    (today,) = there.run("SELECT current_date")[0]
    bounds = [today.toordinal() - 90 - 30 * n for n in range(6, -5, -1)]
    day = type(today).fromordinal
    parts = [
        f"CREATE TABLE public.audit_log_{day(low):%Y%m%d} PARTITION OF public.audit_log "
        f"FOR VALUES FROM ('{day(low)}') TO ('{day(high)}')"
        for low, high in itertools.pairwise(bounds)
    ]
    return [
        "ALTER TABLE public.audit_log RENAME TO audit_log_plain",
        "DROP TABLE IF EXISTS public.audit_log_archive",
        """CREATE TABLE public.audit_log (LIKE public.audit_log_plain INCLUDING DEFAULTS INCLUDING IDENTITY)
           PARTITION BY RANGE (created_at)""",
        "ALTER TABLE public.audit_log ADD PRIMARY KEY (id, created_at)",
        "CREATE INDEX ON public.audit_log (created_at)",
        *parts,
        "INSERT INTO public.audit_log OVERRIDING SYSTEM VALUE SELECT * FROM public.audit_log_plain",
        "SELECT setval(pg_get_serial_sequence('public.audit_log', 'id'), (SELECT max(id) FROM public.audit_log))",
        "DROP TABLE public.audit_log_plain",
        "VACUUM ANALYZE public.audit_log",
    ]


# --- ways -------------------------------------------------------------------------------------------------------------


def sql(there: Server, *statements: str) -> Callable[[], tuple[str, int | None]]:
    """Statements, each a transaction, as psql would run them."""

    def act() -> tuple[str, int | None]:
        there.run(*statements)
        return "", None

    return act


def columns(there: Server) -> str:
    """The source's columns, since an archive with archived_at does not take the runbook's ``SELECT *``."""
    rows = there.run(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'public.audit_log'::regclass AND attnum > 0 "
        "AND NOT attisdropped ORDER BY attnum"
    )
    return ", ".join(name for (name,) in rows)


def runbook_archive(there: Server, days: int = DAYS) -> list[str]:
    """The runbook's two statements."""
    cols = columns(there)
    old = f"created_at < now() - interval '{days} days'"
    return [
        f"INSERT INTO {ARCHIVE} ({cols}) SELECT {cols} FROM {SOURCE} WHERE {old}",
        f"DELETE FROM {SOURCE} WHERE {old}",
    ]


RUNBOOK_VACUUM = ["VACUUM ANALYZE", *(f"VACUUM ANALYZE public.{t}" for t in ("audit_log", "conversations", "messages"))]


def ctid_batches(there: Server) -> Callable[[], tuple[str, int | None]]:
    """What people commonly write instead: 5,000 rows a statement, picked by ctid."""
    cols = columns(there)
    picked = f"SELECT ctid FROM {SOURCE} WHERE created_at < now() - interval '90 days' LIMIT 5000"
    statement = (
        f"WITH moved AS (DELETE FROM {SOURCE} WHERE ctid = ANY (ARRAY({picked})) RETURNING {cols}) "
        f"INSERT INTO {ARCHIVE} ({cols}) SELECT {cols} FROM moved"
    )

    def act() -> tuple[str, int | None]:
        connection = there.connect()
        with connection.cursor() as cursor:
            cursor.execute(statement)
            while cursor.rowcount:
                cursor.execute(statement)
        connection.close()
        return "", None

    return act


def ours_archive(there: Server, days: int = DAYS) -> Callable[[], tuple[str, int | None]]:
    """Module pg_archive with its defaults."""

    def act() -> tuple[str, int | None]:
        result, memory = module(
            "pg_archive", there.login | {"source": SOURCE, "archive": ARCHIVE, "older_than_days": days}
        )
        note = f"{result['moved_rows']:,} rows, {result['batches']} batches"
        if result["detached_partitions"]:
            note = f"{len(result['detached_partitions'])} partitions"
        return note, memory

    return act


def ours_vacuum(there: Server, mode: str) -> Callable[[], tuple[str, int | None]]:
    """Module pg_vacuum with two jobs."""

    def act() -> tuple[str, int | None]:
        result, memory = module("pg_vacuum", there.login | {"mode": mode, "jobs": 2})
        return f"{result['done_tables']} tables", memory

    return act


def vacuumdb(there: Server) -> Callable[[], tuple[str, int | None]]:
    """PostgreSQL's own program with two jobs."""

    def act() -> tuple[str, int | None]:
        program(there, "vacuumdb", "-j2", "--analyze", "--dbname=postgres")
        return "", None

    return act


def both(*acts: Callable[[], tuple[str, int | None]]) -> Callable[[], tuple[str, int | None]]:
    """One act after the other."""

    def act() -> tuple[str, int | None]:
        done = [each() for each in acts]
        return ", ".join(note for note, _ in done if note), max((m for _, m in done if m is not None), default=None)

    return act


def quiet(seconds: float) -> Callable[[], tuple[str, int | None]]:
    """No maintenance at all: the clients' own longest wait."""

    def act() -> tuple[str, int | None]:
        time.sleep(seconds)
        return "", None

    return act


def groups(there: Server) -> dict[str, tuple[str, list[Act]]]:
    """Every table of the report: title, and its ways with the template that each starts from."""
    statements = runbook_archive(there)
    cols = columns(there)
    single = (
        f"WITH moved AS (DELETE FROM {SOURCE} WHERE created_at < now() - interval '90 days' RETURNING {cols}) "
        f"INSERT INTO {ARCHIVE} ({cols}) SELECT {cols} FROM moved"
    )
    plain, parts, tidy = "plain", "parts", "tidy"
    return {
        "archive": (
            "Archive of the rows older than 90 days",
            [
                ("no maintenance", quiet(15), plain),
                ("runbook: two bare statements", sql(there, *statements), plain),
                ("one DELETE … RETURNING statement", sql(there, single), plain),
                ("batches of 5,000 by ctid", ctid_batches(there), plain),
                ("pg_archive", ours_archive(there), plain),
                ("pg_archive, whole partitions", ours_archive(there), parts),
            ],
        ),
        "vacuum": (
            "Vacuum and statistics of the whole database",
            [
                ("no maintenance", quiet(10), plain),
                ("runbook: VACUUM ANALYZE, and three tables again", sql(there, *RUNBOOK_VACUUM), plain),
                ("vacuumdb -j2 --analyze", vacuumdb(there), plain),
                ("pg_vacuum, mode all", ours_vacuum(there, "all"), plain),
                ("pg_vacuum, mode needed", ours_vacuum(there, "needed"), plain),
                ("vacuumdb -j2 --analyze, little to do", vacuumdb(there), tidy),
                ("pg_vacuum, mode needed, little to do", ours_vacuum(there, "needed"), tidy),
            ],
        ),
        "weekly": (
            "The whole weekly work",
            [
                ("no maintenance", quiet(20), plain),
                (
                    "runbook: vacuum, three tables again, archive, ANALYZE",
                    sql(there, *RUNBOOK_VACUUM, *statements, "ANALYZE"),
                    plain,
                ),
                ("pg_archive, then pg_vacuum", both(ours_archive(there), ours_vacuum(there, "needed")), plain),
            ],
        ),
        "steady": (
            "The whole weekly work, week after week: a week's rows to archive",
            [
                ("no maintenance", quiet(10), plain),
                (
                    "runbook: vacuum, three tables again, archive, ANALYZE",
                    sql(there, *RUNBOOK_VACUUM, *runbook_archive(there, WEEK_DAYS), "ANALYZE"),
                    plain,
                ),
                (
                    "pg_archive, then pg_vacuum",
                    both(ours_archive(there, WEEK_DAYS), ours_vacuum(there, "needed")),
                    plain,
                ),
            ],
        ),
    }


# --- report -----------------------------------------------------------------------------------------------------------


def disk_rate(folder: Path) -> float:
    """Bytes a second that this machine's disk takes, written to directly: 1 GiB with fsync."""
    target = folder / "limit.bin"
    size = 2**30
    block = os.urandom(2**22)
    started = time.perf_counter()
    with target.open("wb") as out:
        for _ in range(size // len(block)):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    rate = size / (time.perf_counter() - started)
    target.unlink()
    return rate


def limits(folder: Path) -> str:
    """What this machine can do at most: its disk and its cores."""
    rate = disk_rate(folder)
    return f"{os.cpu_count()} cores, {platform.system()}, disk writes {rate / 1e6:,.0f} MB/s (1 GiB with fsync)"


def median(samples: list[Sample], field: str) -> float | None:
    """Median of one figure; None where the variant does not have it."""
    values = [getattr(sample, field) for sample in samples if getattr(sample, field) is not None]
    return statistics.median(values) if values else None


def table(title: str, ways: list[Act], samples: dict[str, list[Sample]]) -> list[str]:
    """One table in Markdown; the ratio is to the runbook's own way, in the same run."""
    lines = [
        f"### {title}",
        "",
        "| way | wall s | × runbook | longest client wait ms | p99 ms | WAL MB | module's peak memory MB | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = next((median(samples[name], "wall_s") for name, _, _ in ways if name.startswith("runbook")), None)
    for name, _, _ in ways:
        mine = samples[name]
        wall, longest, p99, wal, memory = (
            median(mine, field) for field in ("wall_s", "longest_wait_ms", "p99_wait_ms", "wal_bytes", "memory_bytes")
        )
        without = name == "no maintenance"
        ratio = "–" if without or not base or wall is None else f"{wall / base:.2f}"
        worst = max(s.longest_wait_ms or 0 for s in mine)
        cells = [
            name,
            "–" if without else f"{wall:.1f}",
            ratio,
            f"{longest:.0f} (worst {worst:.0f})",
            f"{p99:.0f}",
            "–" if without or wal is None else f"{wal / 1e6:.0f}",
            f"{memory / 1e6:.0f}" if memory else "–",
            mine[-1].note,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def write_tables(name: str, report: list[str]) -> None:
    """Put ``report`` into bench/README.md, between the two comments that bear ``name``."""
    readme = ROOT / "bench" / "README.md"
    head, begin, rest = readme.read_text().partition(f"<!-- measured: {name} -->\n")
    _, end, tail = rest.partition("<!-- end -->\n")
    readme.write_text(head + begin + "\n".join(report) + end + tail)


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=50.0, help="size of the database (50: 3 M audit rows, 3 M messages)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each variant; the table shows medians")
    parser.add_argument(
        "--only", nargs="*", choices=["archive", "vacuum", "weekly", "steady"], help="these tables only"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench", help="where the clusters lie (30 GB)")
    arguments = parser.parse_args()
    there = Server(arguments.folder)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    report: list[str] = []
    try:
        build(there, arguments.scale)
        there.fresh("plain")
        (version, size, rows) = there.run(
            """SELECT current_setting('server_version'), pg_size_pretty(pg_database_size(current_database())),
                 (SELECT count(*) FROM public.audit_log WHERE created_at < now() - interval '90 days')"""
        )[0]
        machine = limits(arguments.folder)
        data = f"PostgreSQL {version}, database of {size}, {rows:,} audit rows to archive"
        runs = "one run" if arguments.repeat == 1 else f"medians of {arguments.repeat} runs"
        report += [f"{data}; {machine}; {runs}.", ""]
        for key, (title, ways) in groups(there).items():
            if arguments.only and key not in arguments.only:
                continue
            print(title, flush=True)
            samples: dict[str, list[Sample]] = defaultdict(list)
            for _ in range(arguments.repeat):
                for name, act, template in ways:
                    samples[name].append(measure(there, name, act, template))
            report += table(title, ways, samples)
    finally:
        there.stop()
        shutil.rmtree(arguments.folder / "live", ignore_errors=True)
    if arguments.only:
        print("\n".join(report))
    else:
        write_tables("weekly", report)


if __name__ == "__main__":
    main()
