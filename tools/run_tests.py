"""Runs every check of the project, and ends with a table that leaves nothing out (``python -m tools.run_tests``).

Each step runs even if an earlier one failed. The last lines say what failed, and what could not be run and why: tests
that skipped themselves, system packages that are missing, containers that this machine cannot run. Exit code 1 if
anything failed; what could not be run does not fail, and is never silent.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tools.system_packages import missing_packages

ROOT = Path(__file__).resolve().parent.parent
JUNIT = ROOT / ".cache" / "pytest.xml"
#: A file to each process, each with servers of its own. One process more than cores, up to four, because for a quarter
#: of their time tests wait.
#: In the order of the folders: the long files come first, and the short ones of tests/unit fill up the end. By default
#: the files with the most tests come first, and those with one long test last, one after the other.
SPREAD = [f"--numprocesses={min(4, (os.cpu_count() or 1) + 1)}", "--dist=loadfile", "--no-loadscope-reorder"]
#: The long runs are those of ``make faults``.
SHORT = ["-m", "not long"]
LINT = {
    "ruff": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "yamllint": ["yamllint", "--strict", "."],
    "ansible-lint": ["ansible-lint"],
}


@dataclass
class Report:
    """What was run, and what was not."""

    rows: list[tuple[str, str, float]] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    slowest: list[tuple[str, float]] = field(default_factory=list)

    def step(self, name: str, words: list[str]) -> bool:
        """Run one program in the project's folder with its output shown; whether it ended well."""
        print(f"\n=== {name}: {' '.join(words)}", flush=True)
        started = time.monotonic()
        done = subprocess.run(words, cwd=ROOT, check=False)
        self.rows.append(
            (name, "ok" if done.returncode == 0 else f"FAILED ({done.returncode})", time.monotonic() - started)
        )
        return done.returncode == 0

    def show(self) -> int:
        """Print the table; the exit code."""
        failed = [row for row in self.rows if row[1] != "ok"]
        print("\n=== Summary")
        for name, outcome, seconds in self.rows:
            print(f"  {name:<28} {outcome:<14} {seconds:7.1f} s")
        if self.slowest:
            print("\n  Where the seconds of pytest went, added up over all of its processes:")
        for name, seconds in self.slowest:
            print(f"  {name:<56} {seconds:7.1f} s")
        if self.not_run:
            print(f"\n  COULD NOT BE RUN HERE ({len(self.not_run)}):")
            for line in self.not_run:
                print(f"  - {line}")
        else:
            print("\n  Everything was run.")
        if self.slowest:
            print("  Not part of this: the long runs of make faults, and the PostgreSQL versions of make matrix.")
        return 1 if failed else 0


def lint(report: Report) -> None:
    """Run every linter."""
    for name, words in LINT.items():
        report.step(name, words)


def pytest(report: Report) -> None:
    """Run all tests, and collect what they skipped."""
    report.not_run += missing_packages()
    JUNIT.parent.mkdir(parents=True, exist_ok=True)
    JUNIT.unlink(missing_ok=True)
    report.step("pytest", [sys.executable, "-m", "pytest", "tests", *SHORT, *SPREAD, f"--junitxml={JUNIT}"])
    report.not_run += skipped(JUNIT)
    report.slowest = slowest(JUNIT)


def skipped(junit: Path) -> list[str]:
    """One line for each reason why tests skipped themselves, read from pytest's report in JUnit's format."""
    if not junit.exists():
        return ["pytest wrote no report, so nobody knows which tests were skipped"]
    reasons: dict[str, list[str]] = {}
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        for mark in case.findall("skipped"):
            reasons.setdefault(mark.get("message") or "no reason given", []).append(case.get("name") or "?")
    return [
        f"{len(names)} of the tests ({', '.join(names[:3])}{' …' if len(names) > 3 else ''}): {reason}"
        for reason, names in reasons.items()
    ]


def slowest(junit: Path, files: int = 12) -> list[tuple[str, float]]:
    """Seconds of each kind of test, then those of the slowest files: where a minute can be saved."""
    if not junit.exists():
        return []
    kinds: defaultdict[str, float] = defaultdict(float)
    spent: defaultdict[str, float] = defaultdict(float)
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        parts = (case.get("classname") or "").split(".")
        seconds = float(case.get("time") or 0)
        kinds["/".join(parts[:2]) + "/"] += seconds
        spent["/".join(parts) + ".py"] += seconds
    worst = sorted(spent.items(), key=lambda each: each[1], reverse=True)[:files]
    return [*sorted(kinds.items(), key=lambda each: each[1], reverse=True), *worst]


def molecule(report: Report) -> None:
    """Run the Molecule scenarios, if a container can be run here."""
    engine = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "container_engine.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if engine.returncode != 0:
        lines = engine.stderr.strip().splitlines()
        report.not_run.append(f"Molecule: {lines[-1] if lines else 'tools/container_engine.py failed without a word'}")
        return
    # Molecule believes in what an aborted run wrote down, so each run starts without that.
    state = ROOT / ".cache" / "molecule"
    shutil.rmtree(state, ignore_errors=True)
    os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] = str(state)
    report.step("molecule", ["molecule", "test", "--all"])


def main() -> int:
    """Entry point."""
    parts = {"lint": lint, "pytest": pytest, "molecule": molecule}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(parts), help="run one part")
    only = parser.parse_args().only
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    report = Report()
    for name, part in parts.items():
        if only in (None, name):
            part(report)
    return report.show()


if __name__ == "__main__":
    sys.exit(main())
