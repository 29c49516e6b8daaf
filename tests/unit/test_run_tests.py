"""The summary of ``make test`` leaves nothing out."""

from __future__ import annotations

import sys

import pytest

from tools import run_tests, system_packages


def test_a_failed_step_fails_the_whole_and_later_steps_still_run(capfd):
    report = run_tests.Report()
    assert not report.step("bad", [sys.executable, "-c", "raise SystemExit(7)"])
    assert report.step("good", [sys.executable, "-c", ""])
    assert report.show() == 1
    shown = capfd.readouterr().out
    assert "FAILED (7)" in shown
    assert "Everything was run." in shown


def test_what_was_not_run_is_listed(capfd):
    report = run_tests.Report(not_run=["Molecule: no engine"])
    assert report.show() == 0
    assert "COULD NOT BE RUN HERE (1):\n  - Molecule: no engine" in capfd.readouterr().out


def test_skipped_tests_are_listed_by_reason(tmp_path):
    junit = tmp_path / "pytest.xml"
    cases = "".join(f'<testcase name="t{n}"><skipped message="no pgbouncer"/></testcase>' for n in range(4))
    junit.write_text(f'<testsuites><testsuite>{cases}<testcase name="ran"/></testsuite></testsuites>')
    assert run_tests.skipped(junit) == ["4 of the tests (t0, t1, t2 …): no pgbouncer"]


def test_the_time_of_each_kind_of_test_and_of_the_slowest_files_is_told(tmp_path, capfd):
    junit = tmp_path / "pytest.xml"
    times = {"tests.unit.test_a": (0.5, 0.5), "tests.faults.drill.test_b": (9.0,), "tests.faults.test_c": (4.0, 2.0)}
    cases = "".join(f'<testcase classname="{name}" time="{each}"/>' for name, some in times.items() for each in some)
    junit.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    found = run_tests.slowest(junit, files=2)
    assert found == [
        ("tests/faults/", 15.0),
        ("tests/unit/", 1.0),
        ("tests/faults/drill/test_b.py", 9.0),
        ("tests/faults/test_c.py", 6.0),
    ]
    run_tests.Report(slowest=found).show()
    assert "tests/faults/drill/test_b.py" in capfd.readouterr().out
    assert run_tests.slowest(tmp_path / "none.xml") == []


def test_a_report_that_is_missing_is_said(tmp_path):
    assert run_tests.skipped(tmp_path / "none.xml") == [
        "pytest wrote no report, so nobody knows which tests were skipped"
    ]


@pytest.mark.parametrize(("uid", "why"), [(1000, "only root may install packages"), (0, "neither Debian nor Ubuntu")])
def test_missing_packages_say_why_and_what_is_lost(monkeypatch, uid, why):
    monkeypatch.setattr(
        system_packages, "NEEDS", (system_packages.Need("no-such-program", "no-such-package", "tests of it"),)
    )
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setenv("PATH", "")
    [line] = system_packages.missing_packages()
    assert line.startswith("no-such-program is missing (")
    assert why in line
    assert line.endswith("install no-such-package): without it there are no tests of it")
