"""How long the board takes at the end of a run, over many records and many databases.

    .venv/bin/python -m bench.board --records 10000 --databases 100

Records that never were are put beside each other, and the board is made of them: once without an index, as after it was
damaged, then as each run's end does it, with one record more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from bench.harness import ROOT
from bench.weekly import write_tables  # isort: split

from ansible.module_utils.runbook.report import board

sys.path.insert(0, str(ROOT / "tests"))
from board_samples import NOW, plan, preflight, record, stamp, step

PLAYBOOKS = ("backup", "backup_verify", "weekly_db", "capacity", "certificates", "performance", "logs", "doctor")


def put(runs: Path, number: int, databases: int) -> None:
    """One record; each tenth is of all databases, the others of one."""
    at = NOW - timedelta(minutes=50 * number)
    names = range(1, databases + 1) if number % 10 == 0 else [number % databases + 1]
    playbook = PLAYBOOKS[number % len(PLAYBOOKS)]
    made = step("pg_backup", {"manifest": "m", "snapshot_at": stamp(at), "size_bytes": 7, "tables": list(range(200))})
    hosts = {f"db{name}": [preflight(f"{playbook}.yml"), made] for name in names}
    folder = runs / f"{at:%Y%m%dT%H%M%SZ}-{playbook}"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record(playbook, at, hosts, number=number), indent=1))


def main() -> None:
    """Make the records, then the board."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--databases", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, known = Path(folder), ("production", plan(NOW, databases=given.databases))
        for number in range(1, given.records):
            put(runs, number, given.databases)
        began, began_cpu = time.perf_counter(), time.process_time()
        board.renew(runs, NOW, plan=known, patience_s=None)
        whole_wall_s, whole_s = time.perf_counter() - began, time.process_time() - began_cpu
        put(runs, 0, given.databases)
        wall, cpu = [], []
        for _ in range(7):
            began, began_cpu = time.perf_counter(), time.process_time()
            board.renew(runs, NOW, plan=known)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
        sizes = {name: (runs / name).stat().st_size for name in (board.INDEX, board.PAGE, board.DATA)}
    write_tables(
        "board",
        [
            f"{given.records:,} records of {given.databases:,} databases; the last row is the median of seven.",
            "",
            "| what | wall s | CPU s |",
            "|---|---|---|",
            f"| made of all records, without an index | {whole_wall_s:.1f} | {whole_s:.1f} |",
            f"| renewed at a run's end | {statistics.median(wall):.2f} | {statistics.median(cpu):.2f} |",
            "",
            f"Sizes: {', '.join(f'{name} {size / 1024:,.0f} KiB' for name, size in sizes.items())}.",
            "",
            "",
        ],
    )


if __name__ == "__main__":
    main()
