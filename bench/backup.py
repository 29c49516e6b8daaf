"""Backup and restore, side by side: the runbook's commands, what people use instead, and this project.

``python -m bench.backup`` fills the tables of bench/README.md; it takes about an hour, 40 GB, and nothing else should
run meanwhile. The S3 server is SeaweedFS on loopback, on the same machine and the same two cores as everything else:
its own ceiling stands in the table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import ROOT, Server, aws_cli, module
from bench.weekly import build_plain, limits, write_tables

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET = "bench-backups"
#: The database of the template, and the one that is restored into.
SOURCE, COPY = "postgres", "restored"
#: A file that no disk slows down.
IN_MEMORY = Path("/dev/shm/bench-ceiling")  # noqa: S108 - nothing secret lies there
#: Looks at the temporary folder, per second.
WATCHES = 20


@dataclass(frozen=True)
class Sample:
    """One measurement of one way; sizes in bytes."""

    wall_s: float
    object_bytes: int | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None
    note: str = ""


class Bench:
    """The cluster, the S3 server, the AWS command line, and a folder for temporary files."""

    def __init__(self, folder: Path) -> None:
        from ansible.module_utils.runbook.drivers.sandbox.s3_server import S3Server

        self.there = Server(folder)
        self.scratch = folder / "scratch"
        self.folder = folder
        (folder / "s3").mkdir(parents=True, exist_ok=True)
        self.s3 = S3Server.new(folder / "s3")

    def start(self) -> None:
        """Start the S3 server, and install the AWS command line into an environment of its own."""
        self.s3 = self.s3.launch()
        self.s3.wait()
        self.s3.make_buckets([BUCKET], "sandbox")
        self.aws = aws_cli(self.folder)

    def stop(self) -> None:
        """End both servers; the objects go, the templates stay."""
        self.there.stop()
        with suppress(OSError):
            self.s3.stop()
        for name in ("s3", "scratch", "live"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @property
    def environ(self) -> dict[str, str]:
        """Environment of the shell commands."""
        return os.environ | {
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_ENDPOINT_URL": self.s3.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.there.cluster.port),
            "PGUSER": self.there.cluster.superuser,
            "PATH": f"{self.there.cluster.bindir}:{self.aws.parent}:{os.environ['PATH']}",
        }

    @property
    def options(self) -> dict[str, Any]:
        """Target and bucket, as options of a module."""
        return self.there.login | {
            "bucket": BUCKET,
            "prefix": "bench",
            "region": "us-east-1",
            "endpoint_url": self.s3.endpoint_url,
            "access_key": self.s3.access_key,
            "secret_key": self.s3.secret_key,
            "environment": "sandbox",
            "bindir": str(self.there.cluster.bindir),
        }

    def shell(self, *commands: str) -> None:
        """Run commands one after the other in the scratch folder, as the runbook's reader would type them."""
        for command in commands:
            subprocess.run(
                ["bash", "-o", "pipefail", "-ec", command],
                cwd=self.scratch, env=self.environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def objects_bytes(self, prefix: str) -> int:
        """What lies in the bucket below ``prefix``."""
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sum(item["Size"] for page in pages for item in page.get("Contents", []))

    def measure(self, name: str, act: Callable[[], tuple[str, int | None]], prefix: str | None) -> Sample:
        """Run ``act`` with an empty scratch folder, and watch how much is in that folder at most."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        os.sync()
        most, over = [0], threading.Event()

        def watch() -> None:
            while not over.wait(1 / WATCHES):
                with suppress(OSError):
                    most[0] = max(most[0], sum(f.stat().st_blocks * 512 for f in self.scratch.rglob("*")))

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        try:
            note, memory = act()
        finally:
            wall = time.perf_counter() - started
            over.set()
            watcher.join()
        sample = Sample(wall, self.objects_bytes(prefix) if prefix else None, most[0], memory, note)
        print(f"  {name}: {wall:.1f} s {note}", flush=True)
        return sample

    # --- ways ---

    def typed(self, *commands: str) -> Callable[[], tuple[str, int | None]]:
        """Shell commands."""

        def act() -> tuple[str, int | None]:
            self.shell(*commands)
            return "", None

        return act

    def ours_backup(self, **options: Any) -> Callable[[], tuple[str, int | None]]:
        """Module pg_backup; its temporary files, if it had any, would lie in the scratch folder."""

        def act() -> tuple[str, int | None]:
            os.environ["TMPDIR"] = str(self.scratch)
            result, memory = module("pg_backup", self.options | options)
            phases = ", ".join(f"{key.removesuffix('_s')} {value:.1f} s" for key, value in result["phases"].items())
            return phases, memory

        return act

    def ours_restore(self, **options: Any) -> Callable[[], tuple[str, int | None]]:
        """Module pg_restore."""

        def act() -> tuple[str, int | None]:
            os.environ["TMPDIR"] = str(self.scratch)
            more = {"database": SOURCE, "backup": "latest", "target_database": COPY}
            result, memory = module("pg_restore", self.options | more | options)
            phases = ", ".join(f"{key.removesuffix('_s')} {value:.1f} s" for key, value in result["phases"].items())
            return phases, memory

        return act

    def ceiling(self, size: int) -> Callable[[], tuple[str, int | None]]:
        """The S3 server alone: the AWS command line uploads as many bytes as the backup has, from memory."""
        with IN_MEMORY.open("wb") as out:
            for _ in range(size // 2**22):
                out.write(os.urandom(2**22))
        return self.typed(f"aws s3 cp {IN_MEMORY} s3://{BUCKET}/ceiling/object")

    def backups(self) -> list[tuple[str, Callable[[], tuple[str, int | None]], str | None]]:
        """Ways to make a backup, with the prefix below which their objects lie."""
        to = f"s3://{BUCKET}"
        return [
            ("pg_dump > /dev/null (the limit)", self.typed(f"pg_dump {SOURCE} > /dev/null"), None),
            (
                "runbook: pg_dump > file, gzip, aws s3 cp",
                self.typed(
                    f"pg_dump {SOURCE} > backup.sql", "gzip backup.sql", f"aws s3 cp backup.sql.gz {to}/runbook/"
                ),
                "runbook/",
            ),
            (
                "pg_dump -Fc, aws s3 cp",
                self.typed(f"pg_dump -Fc {SOURCE} > backup.dump", f"aws s3 cp backup.dump {to}/custom/"),
                "custom/",
            ),
            (
                "pg_dump -Fc -Z0 | zstd -3 -T0 | aws s3 cp -",
                self.typed(f"pg_dump -Fc -Z0 {SOURCE} | zstd -q -3 -T0 | aws s3 cp - {to}/streamed/backup.dump.zst"),
                "streamed/",
            ),
            ("pg_backup, without hashes", self.ours_backup(prefix="bench-plain", hash="none"), "bench-plain/"),
            ("pg_backup", self.ours_backup(), "bench/"),
        ]

    def restores(self) -> list[tuple[str, Callable[[], tuple[str, int | None]], str | None]]:
        """Ways to restore what the ways above have left in the bucket."""
        source = f"s3://{BUCKET}"
        return [
            (
                "runbook: aws s3 cp, gunzip, psql <",
                self.typed(
                    f"createdb {COPY}",
                    f"aws s3 cp {source}/runbook/backup.sql.gz .",
                    "gunzip backup.sql.gz",
                    f"psql -q {COPY} < backup.sql",
                ),
                None,
            ),
            (
                "aws s3 cp, pg_restore -j2",
                self.typed(
                    f"createdb {COPY}",
                    f"aws s3 cp {source}/custom/backup.dump .",
                    f"pg_restore -j2 -d {COPY} backup.dump",
                ),
                None,
            ),
            ("pg_restore (module), without proof", self.ours_restore(prove=False), None),
            ("pg_restore (module)", self.ours_restore(), None),
        ]


def table(title: str, names: list[str], samples: dict[str, list[Sample]], limit: str | None) -> list[str]:
    """One table in Markdown; ratios to the runbook's own way and to the limit, in the same run."""

    def wall(name: str) -> float:
        return statistics.median(sample.wall_s for sample in samples[name])

    base = wall(next(name for name in names if name.startswith("runbook")))
    lines = [
        f"### {title}",
        "",
        f"| way | wall s | × runbook |{' × limit |' if limit else ''} object MB | temporary disk MB | memory MB | |",
        f"|---|---|---|{'---|' if limit else ''}---|---|---|---|",
    ]
    for name in names:
        last = samples[name][-1]
        cells = [
            name.replace("|", "\\|"),
            f"{wall(name):.1f}",
            f"{wall(name) / base:.2f}",
            *([f"{wall(name) / wall(limit):.2f}"] if limit else []),
            *(
                f"{size / 1e6:,.0f}" if size is not None else "–"
                for size in (last.object_bytes, last.disk_bytes, last.memory_bytes)
            ),
            last.note,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=50.0, help="size of the database (50: 2.6 GB of plain text)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; the tables show medians")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench", help="where everything lies (40 GB)")
    parser.add_argument("--print", action="store_true", help="print the tables instead of writing them")
    parser.add_argument("--match", default="", help="only ways whose name contains this, or the runbook's and limits")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments.folder)
    samples: dict[str, list[Sample]] = defaultdict(list)

    def wanted(name: str) -> bool:
        return arguments.match in name

    try:
        bench.start()
        build_plain(bench.there, arguments.scale)
        bench.there.fresh("plain")
        (version,) = bench.there.run("SELECT current_setting('server_version')")[0]
        backups = [way for way in bench.backups() if wanted(way[0])]
        restores = [way for way in bench.restores() if wanted(way[0])]
        for _ in range(arguments.repeat):
            for name, act, prefix in backups:
                samples[name].append(bench.measure(name, act, prefix))
        name = "aws s3 cp of a file in memory, as large as our backup (the S3 server's limit)"
        size = samples["pg_backup"][-1].object_bytes
        if size and not arguments.match:
            act = bench.ceiling(size // arguments.repeat)
            samples[name] = [bench.measure(name, act, "ceiling/") for _ in range(arguments.repeat)]
            backups.append((name, act, None))
        for _ in range(arguments.repeat):
            for name, act, _prefix in restores:
                bench.there.run(f"DROP DATABASE IF EXISTS {COPY}", "CHECKPOINT")
                samples[name].append(bench.measure(name, act, None))
        bench.there.run(f"DROP DATABASE IF EXISTS {COPY}")
    finally:
        bench.stop()
        IN_MEMORY.unlink(missing_ok=True)
    if arguments.match:
        return
    runs = "one run" if arguments.repeat == 1 else f"medians of {arguments.repeat} runs"
    report = [
        f"PostgreSQL {version}, SeaweedFS on loopback; {limits(arguments.folder)}; {runs}.",
        "",
        *table("Backup", [name for name, _, _ in backups], samples, "pg_dump > /dev/null (the limit)"),
        *table("Restore", [name for name, _, _ in restores], samples, None),
    ]
    if arguments.print:
        print("\n".join(report))
    else:
        write_tables("backup", report)


if __name__ == "__main__":
    main()
