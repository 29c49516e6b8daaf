"""Disaster recovery, side by side: the runbook's commands on a new server, and the sandbox's drill, proof included.

``python -m bench.drill`` fills its table of bench/README.md; it takes about half an hour and 25 GB, and nothing else
should run meanwhile. Every way restores the same database from the same S3 server, SeaweedFS on loopback, to a server
with the same settings. The runbook's way has no phases before the restore and no proof after it: nobody has to notice
the outage, and nobody looks at what came back.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import ROOT, aws_cli
from bench.weekly import disk_rate, write_tables

DATABASE, BUCKET = "mental_scribe", "mental-scribe-backups"
RUNBOOK = "runbook"
#: Scenario and way of each drill.
DRILLS = (
    ("database_lost", "pitr"),
    ("database_lost", "dump"),
    ("table_dropped", "pitr"),
    ("corruption_noticed_late", "pitr"),
    ("region_lost", "best"),
    ("newest_backup_bad", "best"),
)
PHASES = ("detect", "decide", "provision", "restore", "verify", "switch", "between")


@dataclass(frozen=True)
class Sample:
    """One recovery; times in seconds, None where a way does not know it."""

    rto_s: float | None
    phases: dict[str, float] = field(default_factory=dict)
    rpo_s: float | None = None
    database_bytes: int | None = None
    status: str = "ok"
    way: str = ""
    msg: str = ""


class Bench:
    """A sandbox of its own, and the AWS command line."""

    def __init__(self, folder: Path, scale: float, write_s: int) -> None:
        self.folder, self.scale, self.write_s = folder, scale, write_s
        self.scratch = folder / "scratch"
        self.aws = aws_cli(folder)

    def playbook(self, name: str, *options: str, may_fail: bool = False) -> Path:
        """Run a playbook on the sandbox; the folder of its record."""
        before = set((self.folder / "runs").glob("2*"))
        done = subprocess.run(
            [
                "ansible-playbook", "-i", "inventories/sandbox", f"playbooks/{name}",
                "-e", f"sandbox_directory={self.folder / 'sandbox'}",
                *(word for option in options for word in ("-e", option)),
            ],
            cwd=ROOT, env=os.environ | {"RUNBOOK_RUNS_DIR": str(self.folder / "runs")}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode and not may_fail:
            raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        (made,) = {path for path in (self.folder / "runs").glob("2*") if path not in before}
        return made

    def start(self) -> None:
        """Start the sandbox; its own database is not what is drilled, and stays small."""
        self.playbook("sandbox.yml", "sandbox_scale=0.05")

    def stop(self) -> None:
        """End the sandbox, and remove everything but the AWS command line."""
        try:
            self.playbook("sandbox.yml", "sandbox_state=stopped")
        finally:
            for name in ("sandbox", "scratch", "runs"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    # --- the runbook's way ---

    def shell(self, port: int, *commands: str) -> None:
        """Run commands one after the other in the scratch folder, as the runbook's reader would type them."""
        state = json.loads((self.folder / "sandbox" / "s3" / "state.json").read_text())
        environ = os.environ | {
            "AWS_ACCESS_KEY_ID": state["access_key"], "AWS_SECRET_ACCESS_KEY": state["secret_key"],
            "AWS_ENDPOINT_URL": state["endpoint_url"], "AWS_DEFAULT_REGION": "us-east-1", "PGHOST": "127.0.0.1",
            "PGPORT": str(port), "PGUSER": "postgres", "PATH": f"{self.bindir}:{self.aws.parent}:{os.environ['PATH']}",
        }  # fmt: skip
        for command in commands:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-ec", command],
                cwd=self.scratch, env=environ, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")

    @property
    def bindir(self) -> Path:
        """PostgreSQL's programs, those of the sandbox."""
        from ansible.module_utils.runbook.drivers.postgres.pgtools import find_bindir

        return find_bindir(os.environ.get("PG_BINDIR"))

    def dump(self) -> None:
        """Make the runbook's backup of a database like the drill's; nobody measures it."""
        from ansible.module_utils.runbook.drivers.drill import servers
        from ansible.module_utils.runbook.drivers.postgres.postgres import Target
        from ansible.module_utils.runbook.rules.sandbox import demo_database

        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        source = servers.make_server(self.scratch / "source", self.bindir, None)
        try:
            admin = Target("127.0.0.1", source.port, "postgres", source.superuser, None)
            steps = demo_database.steps(scale=self.scale, seed=1)
            servers.fill_primary(admin, DATABASE, steps, lambda *_: None)
            self.shell(
                source.port, f"pg_dump {DATABASE} > backup.sql", "gzip backup.sql",
                f"aws s3 cp backup.sql.gz s3://{BUCKET}/runbook/backup.sql.gz",
            )  # fmt: skip
        finally:
            source.stop("immediate")
            shutil.rmtree(self.scratch)

    def runbook(self) -> Sample:
        """A new server, and the runbook's three commands."""
        from ansible.module_utils.runbook.drivers.drill import servers
        from ansible.module_utils.runbook.drivers.postgres.postgres import Target

        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        os.sync()
        started = time.perf_counter()
        target = servers.make_server(self.scratch / "target", self.bindir, None)
        made = time.perf_counter()
        try:
            self.shell(
                target.port, f"createdb {DATABASE}", f"aws s3 cp s3://{BUCKET}/runbook/backup.sql.gz .",
                "gunzip backup.sql.gz", f"psql -q -v ON_ERROR_STOP=1 {DATABASE} < backup.sql",
            )  # fmt: skip
            ended = time.perf_counter()
            with servers.connect(Target("127.0.0.1", target.port, DATABASE, target.superuser, None)) as session:
                size = session.query("SELECT pg_database_size(current_database()) AS bytes")[0]["bytes"]
        finally:
            target.stop("immediate")
            shutil.rmtree(self.scratch)
        return Sample(
            ended - started, {"provision": made - started, "restore": ended - made}, None, int(size), way="dump"
        )

    # --- ours ---

    def drill(self, scenario: str, way: str) -> Sample:
        """One drill, as an operator runs it."""
        from ansible.module_utils.runbook.report import drill as report
        from ansible.module_utils.runbook.rules.drill import figures

        made = self.playbook(
            "dr_drill.yml", f"dr_drill_scenario={scenario}", f"dr_drill_way={way}", f"dr_drill_scale={self.scale}",
            f"dr_drill_write_s={self.write_s}", may_fail=True,
        )  # fmt: skip
        found, broken = report.documents(json.loads((made / "record.json").read_text()))
        if not found:
            raise SystemExit(f"The drill left no document; see {made}. {' '.join(broken)}")
        document = found[-1]
        parts = figures.split_rto(
            document["phases"], figures.moment(document["outage_at"]), figures.moment(document["service_at"])
        )
        measured = document["measured"]
        return Sample(
            measured["rto_s"], parts or {}, measured["rpo_s"], measured["database_bytes"], document["status"],
            (document["recovery"] or {}).get("way") or way, document["msg"],
        )  # fmt: skip


# --- report -----------------------------------------------------------------------------------------------------------


def table(samples: dict[str, list[Sample]], disk_bytes_s: float) -> list[str]:
    """The table in Markdown: medians; ratios to the runbook's own way in the same run, and to the disk."""

    def median(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if len(known) == len(values) and known else None

    def text(value: float | None, form: str = ".1f") -> str:
        return "–" if value is None else format(value, form)

    base = median([sample.rto_s for sample in samples[RUNBOOK]]) if RUNBOOK in samples else None
    lines = [
        f"| scenario | way | RTO s | × runbook | {' | '.join(PHASES)} | RPO s | restored MB | MB/s | × disk | drill |",
        "|---|---|" + "---|" * (len(PHASES) + 7),
    ]
    for name, mine in samples.items():
        rto = median([sample.rto_s for sample in mine])
        restore = median([sample.phases.get("restore") for sample in mine])
        size = median([sample.database_bytes for sample in mine])
        rate = size / restore if size and restore else None
        cells = [
            name.partition("/")[0].replace("_", " "),
            mine[-1].way,
            text(rto),
            text(rto / base, ".2f") if rto and base else "–",
            *(text(median([sample.phases.get(phase) for sample in mine])) for phase in PHASES),
            "up to a day" if name == RUNBOOK else text(median([sample.rpo_s for sample in mine]), ".2f"),
            text(size / 1e6 if size else None, ",.0f"),
            text(rate / 1e6 if rate else None, ",.0f"),
            text(rate / disk_bytes_s if rate else None, ".2f"),
            "no proof" if name == RUNBOOK else ", ".join(sorted({sample.status for sample in mine})),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    names = [RUNBOOK, *(f"{scenario}/{way}" for scenario, way in DRILLS)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=28.0, help="size of the database (28: 2 GB)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; the table shows medians")
    parser.add_argument("--only", nargs="*", choices=names, default=names, help="these rows only; they are printed")
    parser.add_argument("--print", action="store_true", help="print the table instead of writing it")
    parser.add_argument("--write-s", type=int, default=60, help="seconds for which clients write before the outage")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench-drill", help="where all lies (25 GB)")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, arguments.scale, arguments.write_s)
    samples: dict[str, list[Sample]] = defaultdict(list)
    try:
        bench.start()
        if RUNBOOK in arguments.only:
            bench.dump()
        for _ in range(arguments.repeat):
            for name in names:
                if name in arguments.only:
                    scenario, _slash, way = name.partition("/")
                    sample = bench.runbook() if name == RUNBOOK else bench.drill(scenario, way)
                    samples[name].append(sample)
                    print(
                        f"  {name}: RTO {sample.rto_s} s, RPO {sample.rpo_s} s, {sample.status} {sample.msg}",
                        flush=True,
                    )
        rate = disk_rate(folder)
    finally:
        bench.stop()
    runs = "one run" if arguments.repeat == 1 else f"medians of {arguments.repeat} runs"
    machine = f"{os.cpu_count()} cores, disk writes {rate / 1e6:,.0f} MB/s (1 GiB with fsync)"
    report = [
        f"SeaweedFS on loopback; {machine}; {runs}.",
        "",
        *table(samples, rate),
    ]
    if arguments.print or len(arguments.only) < len(names):
        print("\n".join(report))
    else:
        write_tables("drill", report)


if __name__ == "__main__":
    main()
