"""A rotated log into the archive, side by side: ``gzip`` and ``aws s3 cp``, the runbook's way, and this project.

``python -m bench.logs`` fills its table of bench/README.md; it takes some minutes and 3 GB. The S3 server is SeaweedFS
on loopback, on the same cores as everything else.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import ROOT, aws_cli, module
from bench.weekly import write_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.sandbox.s3_server import S3Server

MIB = 1 << 20
PATHS = ("/", "/login", "/api/notes", "/api/sessions", "/static/app.js")


@dataclass(frozen=True)
class Sample:
    """One measurement of one way."""

    wall_s: float
    memory_bytes: int | None
    object_bytes: int


def write(path: Path, size_bytes: int) -> None:
    """A log of an application: requests with ids, so that it does not compress to nothing."""
    chance = random.Random(1)  # noqa: S311 - a sample
    at = datetime(2026, 6, 1, tzinfo=UTC)
    with path.open("w") as file:
        while file.tell() < size_bytes:
            for _ in range(20_000):
                at += timedelta(milliseconds=chance.randrange(50))
                file.write(
                    f"{at.isoformat(timespec='milliseconds')} INFO request id={chance.getrandbits(64):016x} "
                    f"user={chance.randrange(90_000)} path={chance.choice(PATHS)} status=200 "
                    f"duration_ms={chance.randrange(900)}\n"
                )


class Bench:
    """An S3 server, a log, and the AWS command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = iter(range(1_000_000))

    def start(self, sizes: list[int]) -> None:
        """Start the server, write the logs, install the AWS command line into an environment of its own."""
        from ansible.module_utils.runbook.drivers.sandbox.s3_server import S3Server

        (self.folder / "s3").mkdir(parents=True)
        self.server: S3Server = S3Server.new(self.folder / "s3").launch()
        self.server.wait()
        for size in sizes:
            write(self.log(size), size)
        self.aws = aws_cli(self.folder.parent)

    def log(self, size: int) -> Path:
        """The log of a size, as logrotate names it."""
        return self.folder / f"app-{size}.log-20260601-1780272000"

    def by_hand(self, size: int, bucket: str) -> int | None:
        """``gzip``, then ``aws s3 cp``; nothing is read back."""
        packed = self.folder / "packed.gz"
        with packed.open("wb") as file:
            subprocess.run(["gzip", "-c", str(self.log(size))], stdout=file, check=True)
        environ = os.environ | {
            "AWS_ACCESS_KEY_ID": self.server.access_key, "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        command = [str(self.aws), "--endpoint-url", self.server.endpoint_url, "s3", "cp", "--only-show-errors"]
        subprocess.run([*command, str(packed), f"s3://{bucket}/app.log.gz"], env=environ, check=True)
        packed.unlink()
        return None

    def ours(self, size: int, bucket: str) -> int:
        """The module, which reads back what it uploaded; its peak memory."""
        state = self.folder / f"state-{next(self.numbers)}"
        state.mkdir(mode=0o700)
        options: dict[str, Any] = {
            "bucket": bucket, "region": "us-east-1", "endpoint_url": self.server.endpoint_url,
            "access_key": self.server.access_key, "secret_key": self.server.secret_key, "archive_host": "bench",
            "environment": "sandbox", "seal_keys": ["k" * 32], "state_directory": str(state),
            "files": [{"name": "app", "class": "operational", "paths": [str(self.folder / f"app-{size}.log")]}],
            "classes": {"operational": {"hot_days": 36500, "archive_days": 36500}},
        }  # fmt: skip
        return module("log_archive", options)[1]

    def measure(self, name: str, size: int, act: Callable[[int, str], int | None]) -> Sample:
        """Run ``act`` into an empty bucket."""
        bucket = f"bench-{next(self.numbers)}"
        self.server.make_buckets([bucket], "sandbox")
        started = time.perf_counter()
        memory = act(size, bucket)
        wall = time.perf_counter() - started
        objects = self.server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
        print(f"  {name}, {size / MIB:.0f} MiB: {wall:.1f} s", flush=True)
        return Sample(wall, memory, sum(each["Size"] for each in objects))


def table(samples: dict[tuple[int, str], list[Sample]]) -> list[str]:
    """The rows, medians of all runs; ours are compared with the runbook's of the same size."""
    lines = ["| log MiB | way | wall s | × runbook | object MB | our peak memory MB |", "|---|---|---|---|---|---|"]
    base = 0.0
    for (size, name), found in samples.items():
        wall = statistics.median(each.wall_s for each in found)
        base = wall if name.startswith("gzip") else base
        memory = max((each.memory_bytes or 0 for each in found), default=0)
        lines.append(
            f"| {size / MIB:,.0f} | {name} | {wall:.1f} | {wall / base:.2f} | {found[0].object_bytes / 1e6:.0f} "
            f"| {f'{memory / MIB:.0f}' if memory else '–'} |"
        )
    return lines


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, nargs="*", default=[256, 1024], help="sizes of the log")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; the table shows medians")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench", help="where everything lies (3 GB)")
    parser.add_argument("--print", action="store_true", help="print the table instead of writing it")
    arguments = parser.parse_args()
    bench = Bench(arguments.folder / "logs")
    shutil.rmtree(bench.folder, ignore_errors=True)
    samples: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    sizes = [mib * MIB for mib in arguments.mib]
    try:
        bench.start(sizes)
        ways: tuple[tuple[str, Callable[[int, str], int | None]], ...] = (
            ("gzip, aws s3 cp", bench.by_hand),
            ("log_archive, read back and compared", bench.ours),
        )
        for _ in range(arguments.repeat):
            for size in sizes:
                for name, act in ways:
                    samples[size, name].append(bench.measure(name, size, act))
    finally:
        if hasattr(bench, "server"):
            bench.server.stop()
        shutil.rmtree(bench.folder, ignore_errors=True)
    report = [
        f"{os.cpu_count()} cores, SeaweedFS on loopback; medians of {arguments.repeat} runs.".replace(
            "medians of 1 runs", "one run"
        ),
        "",
        *table(samples),
        "",
        "",
    ]
    if arguments.print:
        print("\n".join(report))
    else:
        write_tables("logs", report)


if __name__ == "__main__":
    main()
