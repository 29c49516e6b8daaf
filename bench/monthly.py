"""The monthly work: the runbook's way, what people do by hand instead, and this project, side by side in one run.

It needs a PostgreSQL server that has pg_repack (``PG_BINDIR`` names it; without it, one is looked for). ``python -m
bench.monthly`` builds a bloated database once, and writes the tables of bench/README.md; ``--scale 0.2 --tables 50``
tries it all in a minute.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.errors

from bench.harness import ROOT, Sample, Server, measure, module, program
from bench.weekly import limits, median, quiet, void, write_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    Act = Callable[[], tuple[str, int | None]]

#: What the runbook rewrites each month.
TABLES = ("messages", "conversations")
#: Each version of a row that an UPDATE leaves is room that nobody uses once it is vacuumed.
CHURN = tuple(
    statement
    for _ in range(2)
    for statement in (
        "UPDATE public.messages SET tokens = tokens + 1",
        "UPDATE public.conversations SET message_count = message_count + 1",
        "VACUUM public.messages",
        "VACUUM public.conversations",
    )
)
EXTENSIONS = ("pg_repack", "pgstattuple", "amcheck")
#: Relations below this are not judged: a page more or less is much of them.
JUDGED_BYTES = 1 << 20


def find_server() -> None:
    """Let the harness use a server that has pg_repack."""
    from ansible.module_utils.runbook.drivers.postgres.pgtools import bindirs

    if os.environ.get("PG_BINDIR"):
        return
    for folder in bindirs():
        if all((folder / name).exists() for name in ("postgres", "pg_repack")):
            os.environ["PG_BINDIR"] = str(folder)
            return
    raise SystemExit("No PostgreSQL server of this machine has pg_repack; install postgresql-15-repack.")


def build(there: Server, scale: float) -> None:
    """Make the bloated database."""
    from ansible.module_utils.runbook.rules.sandbox import demo_database

    there.template(
        "bloated",
        lambda: void(
            there.run(
                *demo_database.statements(scale=scale, seed=1),
                *CHURN,
                *(f"CREATE EXTENSION {name}" for name in EXTENSIONS),
                "VACUUM ANALYZE",
            )
        ),
    )


# --- ways -------------------------------------------------------------------------------------------------------------


def runbook(there: Server) -> Act:
    """The runbook's statements; one that falls to a deadlock with a client is sent again, as a person would."""

    def act() -> tuple[str, int | None]:
        todo = ["REINDEX DATABASE postgres", *(f"VACUUM FULL public.{table}" for table in TABLES)]
        deadlocks = 0
        while todo:
            try:
                there.run(todo[0])
            except psycopg2.errors.DeadlockDetected:
                deadlocks += 1
                continue
            todo.pop(0)
        return f"{deadlocks} deadlocks" if deadlocks else "", None

    return act


def by_hand(there: Server) -> Act:
    """What a careful administrator types: pg_repack of the same tables, then all indexes concurrently."""

    def act() -> tuple[str, int | None]:
        tables = [f"--table=public.{table}" for table in TABLES]
        program(there, "pg_repack", "--no-order", "--jobs=2", *tables, "--dbname=postgres")
        program(there, "reindexdb", "--concurrently", "--jobs=2", "--schema=public", "--dbname=postgres")
        return "", None

    return act


def ours(there: Server) -> Act:
    """Modules pg_compact and pg_reindex with their defaults, as monthly_db.yml calls them."""

    def act() -> tuple[str, int | None]:
        compacted, most = module("pg_compact", there.login)
        rebuilt, more = module("pg_reindex", there.login)
        note = f"{compacted['compacted_tables']} tables, {rebuilt['rebuilt_indexes']} indexes"
        return note, max(most, more)

    return act


def database_bytes(there: Server) -> int:
    """Size of the database."""
    return int(there.run("SELECT pg_database_size(current_database())")[0][0])


def weighed(there: Server, act: Act, won: list[int]) -> Act:
    """``act``, with the bytes that the database shrank by noted in ``won``."""

    def acts() -> tuple[str, int | None]:
        before = database_bytes(there)
        found = act()
        won.append(before - database_bytes(there))
        return found

    return acts


def ways(there: Server) -> list[tuple[str, Act]]:
    """Every way, the runbook's first."""
    return [
        ("no maintenance", quiet(20)),
        ("runbook: REINDEX DATABASE, VACUUM FULL of two tables", runbook(there)),
        ("by hand: pg_repack of two tables, reindexdb --concurrently -j2", by_hand(there)),
        ("pg_compact, then pg_reindex", ours(there)),
    ]


def compare(there: Server, repeat: int) -> list[str]:
    """The table of the ways."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    won: dict[str, list[int]] = defaultdict(list)
    for _ in range(repeat):
        for name, act in ways(there):
            samples[name].append(measure(there, name, weighed(there, act, won[name]), "bloated"))
    lines = [
        "### The whole monthly work",
        "",
        "| way | wall s | × runbook | longest client wait ms | p99 ms | WAL MB | space won MB | of the runbook's | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    base_s = base_won = None
    for name, mine in samples.items():
        wall, longest, p99, wal = (
            median(mine, field) or 0.0 for field in ("wall_s", "longest_wait_ms", "p99_wait_ms", "wal_bytes")
        )
        space = statistics.median(won[name])
        worst = max(sample.longest_wait_ms or 0 for sample in mine)
        cells = [name, "–", "–", f"{longest:.0f} (worst {worst:.0f})", f"{p99:.0f}", "–", "–", "–", mine[-1].note]
        if name != "no maintenance":
            base_s, base_won = base_s or wall, base_won or space
            cells[1:3] = [f"{wall:.1f}", f"{wall / base_s:.2f}"]
            cells[5:8] = [f"{wal / 1e6:.0f}", f"{space / 1e6:.0f}", f"{100 * space / base_won:.0f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


# --- the figures of bloat ---------------------------------------------------------------------------------------------


def truth(there: Server) -> dict[str, int]:
    """Size of each relation, by schema and name; after VACUUM FULL, what the estimates were about."""
    rows = there.run(
        "SELECT n.nspname || '.' || c.relname, pg_relation_size(c.oid) FROM pg_class AS c"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm', 't', 'i')"
    )
    return {str(name): int(size) for name, size in rows}


def accuracy(there: Server) -> list[str]:
    """How far pg_bloat_info is off, per method and kind, against the size after VACUUM FULL of the whole database."""
    there.fresh("bloated")
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    before = truth(there)
    for measured in (False, True):
        options = {"measure": measured, "top": 100_000, "min_size_bytes": JUDGED_BYTES}
        result, _ = module("pg_bloat_info", there.login | options)
        for one in result["relations"]:
            if one["expected_bytes"] is not None and not one["relation"].startswith("pg_catalog."):
                found[one["method"], one["kind"]][one["relation"]] = one["expected_bytes"]
    there.run("VACUUM FULL")
    after = truth(there)
    lines = [
        "### Bloat, as it is told and as it is",
        "",
        "The error is that of the size after a rewrite, in percent of the size now.",
        "",
        "| method | of | relations | median error % | nine of ten within % |",
        "|---|---|---|---|---|",
    ]
    for (method, kind), expected in sorted(found.items()):
        errors = sorted(
            100 * abs(size - after[name]) / before[name]
            for name, size in expected.items()
            if after.get(name) is not None
        )
        if errors:
            ninth = errors[min(int(0.9 * len(errors)), len(errors) - 1)]
            lines.append(f"| {method} | {kind} | {len(errors)} | {statistics.median(errors):.1f} | {ninth:.1f} |")
    return [*lines, ""]


def cost(there: Server, tables: int, repeat: int) -> list[str]:
    """What pg_bloat_info costs where there are many tables."""
    there.fresh("bloated")
    there.run(
        f"DO $$ BEGIN FOR n IN 1..{tables} LOOP EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, a text,"
        " b timestamptz, c int)', n); EXECUTE format('INSERT INTO many_%s SELECT i, ''n'' || i, now(), i FROM"
        " generate_series(1, 200) AS i', n); IF n % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$",
        "ANALYZE",
    )
    lines = [
        f"### What pg_bloat_info costs on {tables:,} more tables",
        "",
        "| what is looked at | seconds | memory MB |",
        "|---|---|---|",
    ]
    for name, options in (
        ("sizes of all, bloat of what has 1 MiB (the default), 20 + 20 relations measured", {}),
        ("the same, nothing measured", {"measure": False}),
        ("bloat of all, nothing measured", {"measure": False, "min_size_bytes": 0}),
    ):
        runs = [module("pg_bloat_info", there.login | options) for _ in range(repeat)]
        seconds = statistics.median(result["duration_s"] for result, _ in runs)
        lines.append(f"| {name} | {seconds:.2f} | {max(memory for _, memory in runs) / 1e6:.0f} |")
    return [*lines, ""]


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=30.0, help="size of the database (30: 1.8 M messages, 2 GB)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; the table shows medians")
    parser.add_argument("--tables", type=int, default=2000, help="tables for the cost of pg_bloat_info")
    parser.add_argument("--only", nargs="*", choices=["ways", "accuracy", "cost"], help="these tables only")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".cache" / "bench-monthly", help="where the clusters lie (15 GB)"
    )
    arguments = parser.parse_args()
    find_server()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    there = Server(arguments.folder)
    report: list[str] = []
    try:
        build(there, arguments.scale)
        there.fresh("bloated")
        version, size = there.run(
            "SELECT current_setting('server_version'), pg_size_pretty(pg_database_size(current_database()))"
        )[0]
        repack = subprocess.run(
            [str(there.cluster.bindir / "pg_repack"), "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        machine = f"PostgreSQL {version}, {repack}, database of {size}; {limits(arguments.folder)}"
        report += [f"{machine}; medians of {arguments.repeat} runs.", ""]
        parts: dict[str, Callable[[], list[str]]] = {
            "ways": lambda: compare(there, arguments.repeat),
            "accuracy": lambda: accuracy(there),
            "cost": lambda: cost(there, arguments.tables, arguments.repeat),
        }
        for name, part in parts.items():
            if not arguments.only or name in arguments.only:
                report += part()
    finally:
        there.stop()
        shutil.rmtree(arguments.folder / "live", ignore_errors=True)
    if arguments.only or arguments.scale < 1:
        print("\n".join(report))
    else:
        write_tables("monthly", report)


if __name__ == "__main__":
    main()
