"""A second copy of uploaded files, side by side: ``aws s3 sync``, which people use for it, and this project.

``python -m bench.mirror`` fills its table of bench/README.md; it takes about a quarter of an hour and 10 GB. Both S3
servers are SeaweedFS on loopback, on the same cores as everything else, so that they bound both ways.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import ROOT, aws_cli, module
from bench.weekly import write_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.sandbox.s3_server import S3Server

SOURCE = "bench-files"
#: Sizes of the files, in bytes: avatars and documents, and a few recordings.
SMALL_BYTES = (2_000, 8_000, 30_000, 120_000)
LARGE_BYTES = 96 << 20
MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One measurement of one way."""

    wall_s: float
    again_s: float
    memory_bytes: int | None
    disk_bytes: int


class Bench:
    """Two S3 servers, one of them full of files, and the AWS command line."""

    def __init__(self, folder: Path, objects: int, large: int) -> None:
        self.folder = folder
        self.objects = objects
        self.large = large
        self.scratch = folder / "scratch"
        self.numbers = iter(range(1_000_000))

    def start(self) -> None:
        """Start both servers, fill the first, install the AWS command line into an environment of its own."""
        from ansible.module_utils.runbook.drivers.sandbox.s3_server import S3Server

        self.servers: list[S3Server] = []
        for name in ("here", "there"):
            (self.folder / name).mkdir(parents=True)
            server = S3Server.new(self.folder / name).launch()
            server.wait()
            self.servers.append(server)
        self.servers[0].make_buckets([SOURCE], "sandbox")
        client = self.servers[0].client()

        def put(number: int) -> None:
            size = SMALL_BYTES[number % len(SMALL_BYTES)]
            client.put_object(Bucket=SOURCE, Key=f"{number % 97:02}/{number:06}.bin", Body=os.urandom(size))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(self.objects)))
        for number in range(self.large):
            with (self.folder / "large.bin").open("wb") as file:
                file.writelines(os.urandom(MIB) for _ in range(LARGE_BYTES // MIB))
            client.upload_file(str(self.folder / "large.bin"), SOURCE, f"large/{number}.bin")
        self.aws = aws_cli(self.folder.parent)

    def stop(self) -> None:
        """End both servers; their files go."""
        for server in getattr(self, "servers", []):
            with suppress(OSError):
                server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sync(self, server: S3Server, source: str, target: str) -> None:
        """Run ``aws s3 sync`` against one server."""
        environ = os.environ | {
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        command = [str(self.aws), "--endpoint-url", server.endpoint_url, "s3", "sync", "--only-show-errors"]
        subprocess.run([*command, source, target], env=environ, check=True)

    def aws_one(self, bucket: str) -> None:
        """``aws s3 sync`` from bucket to bucket of one server."""
        self.sync(self.servers[0], f"s3://{SOURCE}", f"s3://{bucket}")

    def aws_two(self, bucket: str) -> None:
        """It cannot go from one server to another, so it goes over a folder."""
        self.sync(self.servers[0], f"s3://{SOURCE}", str(self.scratch))
        self.sync(self.servers[1], str(self.scratch), f"s3://{bucket}")

    def ours(self, target: S3Server, bucket: str) -> int:
        """Run the module; its peak memory."""

        def reach(server: S3Server) -> dict[str, Any]:
            return {
                "region": "us-east-1", "endpoint_url": server.endpoint_url,
                "access_key": server.access_key, "secret_key": server.secret_key,
            }  # fmt: skip

        source = {f"source_{name}": value for name, value in reach(self.servers[0]).items()}
        wanted = source | reach(target) | {"source_bucket": SOURCE, "bucket": bucket, "environment": "sandbox"}
        return module("s3_mirror", wanted)[1]

    def measure(self, name: str, target: S3Server, act: Callable[[str], int | None]) -> Sample:
        """Run ``act`` into an empty bucket, and once more."""
        bucket = f"bench-{next(self.numbers)}"
        target.make_buckets([bucket], "sandbox")
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        started = time.perf_counter()
        memory = act(bucket)
        wall = time.perf_counter() - started
        disk = sum(file.stat().st_size for file in self.scratch.rglob("*") if file.is_file())
        started = time.perf_counter()
        act(bucket)
        again = time.perf_counter() - started
        print(f"  {name}: {wall:.1f} s, again {again:.1f} s", flush=True)
        return Sample(wall, again, memory, disk)


def table(samples: dict[str, list[Sample]]) -> list[str]:
    """The rows, medians of all runs; each pair of ways is compared with its first."""
    lines = ["| way | wall s | × sync | again, nothing changed, s | × sync | our peak memory MB | on disk MB |"]
    lines.append("|---|---|---|---|---|---|---|")
    base: tuple[float, float] = (0.0, 0.0)
    for name, found in samples.items():
        wall, again = (statistics.median(getattr(each, key) for each in found) for key in ("wall_s", "again_s"))
        if name.startswith("aws"):
            base = wall, again
        memory = max((each.memory_bytes or 0 for each in found), default=0)
        lines.append(
            f"| {name} | {wall:.1f} | {wall / base[0]:.2f} | {again:.1f} | {again / base[1]:.2f} "
            f"| {f'{memory / MIB:.0f}' if memory else '–'} | {max(each.disk_bytes for each in found) / 1e6:.0f} |"
        )
    return lines


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000, help="small files")
    parser.add_argument("--large", type=int, default=8, help="files of 96 MiB")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; the table shows medians")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench", help="where everything lies (10 GB)")
    parser.add_argument("--print", action="store_true", help="print the table instead of writing it")
    arguments = parser.parse_args()
    bench = Bench(arguments.folder / "mirror", arguments.objects, arguments.large)
    shutil.rmtree(bench.folder, ignore_errors=True)
    samples: dict[str, list[Sample]] = defaultdict(list)
    try:
        bench.start()
        here, there = bench.servers
        ways: tuple[tuple[str, S3Server, Callable[[str], int | None]], ...] = (
            ("aws s3 sync, on one server", here, bench.aws_one),
            ("s3_mirror, on one server", here, lambda bucket: bench.ours(here, bucket)),
            ("aws s3 sync down, aws s3 sync up, two servers", there, bench.aws_two),
            ("s3_mirror, two servers", there, lambda bucket: bench.ours(there, bucket)),
        )
        for _ in range(arguments.repeat):
            for name, target, act in ways:
                samples[name].append(bench.measure(name, target, act))
    finally:
        bench.stop()
    size = sum(SMALL_BYTES[n % len(SMALL_BYTES)] for n in range(arguments.objects)) + arguments.large * LARGE_BYTES
    files = f"{arguments.objects:,} small files and {arguments.large} of 96 MiB, {size / 1e9:.1f} GB"
    report = [
        f"{files}; {os.cpu_count()} cores, SeaweedFS on loopback; medians of {arguments.repeat} runs.",
        "",
        *table(samples),
        "",
    ]  # fmt: skip
    if arguments.print:
        print("\n".join(report))
    else:
        write_tables("mirror", report)


if __name__ == "__main__":
    main()
