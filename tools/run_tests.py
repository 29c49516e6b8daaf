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
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tools.system_packages import missing_packages

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    def step(self, name: str, words: list[str]) -> None:
        """Run one program in the project's folder with its output shown."""
        print(f"\n=== {name}: {' '.join(words)}", flush=True)
        started = time.monotonic()
        self._add(name, subprocess.run(words, cwd=ROOT, check=False).returncode, started)

    def at_once(self, steps: Mapping[str, list[str]]) -> None:
        """Run programs beside each other, of which none uses more than a core; each is shown when it has ended."""
        print(f"\n=== at once: {', '.join(steps)}", flush=True)
        started = time.monotonic()
        with ExitStack() as stack:
            running = {}
            for name, words in steps.items():
                output = stack.enter_context(tempfile.TemporaryFile())
                running[name] = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT), output
            while running:
                time.sleep(0.1)
                for name in [name for name, (process, _) in running.items() if process.poll() is not None]:
                    process, output = running.pop(name)
                    output.seek(0)
                    print(f"\n=== {name}: {' '.join(steps[name])}", flush=True)
                    shutil.copyfileobj(output, sys.stdout.buffer)
                    sys.stdout.flush()
                    self._add(name, process.returncode, started)

    def _add(self, name: str, code: int, started: float) -> None:
        self.rows.append((name, "ok" if code == 0 else f"FAILED ({code})", time.monotonic() - started))

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


def molecule(report: Report) -> dict[str, list[str]]:
    """What runs the Molecule scenarios; nothing where no container can be run here."""
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
        return {}
    # Molecule believes in what an aborted run wrote down, so each run starts without that.
    state = ROOT / ".cache" / "molecule"
    shutil.rmtree(state, ignore_errors=True)
    os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] = str(state)
    return {"molecule": ["molecule", "test", "--all"]}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["lint", "molecule", "pytest"], help="run one part")
    only = parser.parse_args().only
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    report = Report()
    steps = LINT if only in (None, "lint") else {}
    if only in (None, "molecule"):
        steps = steps | molecule(report)
    report.at_once(steps)
    if only in (None, "pytest"):
        pytest(report)
    return report.show()


if __name__ == "__main__":
    sys.exit(main())
