"""The summary of ``make test`` leaves nothing out."""

from __future__ import annotations

import sys

import pytest

from tools import run_tests, system_packages


def test_a_failed_step_fails_the_whole_and_later_steps_still_run(capfd):
    report = run_tests.Report()
    bad = [sys.executable, "-c", "print('bad is shown'); raise SystemExit(7)"]
    good = [sys.executable, "-c", "print('good is shown')"]
    report.step("bad", bad)
    report.at_once({"worse": bad, "better": good})
    report.step("good", good)
    assert [(name, outcome) for name, outcome, _ in sorted(report.rows)] == [
        ("bad", "FAILED (7)"), ("better", "ok"), ("good", "ok"), ("worse", "FAILED (7)"),
    ]  # fmt: skip
    assert report.show() == 1
    shown = capfd.readouterr().out
    assert [line for line in shown.splitlines() if line.endswith("is shown")].count("bad is shown") == 2
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


@pytest.mark.parametrize("servers", [True, False])
def test_only_ci_installs_what_serves(monkeypatch, servers):
    plain = system_packages.Need("no-such-program", "no-such-package", "tests of it")
    server = system_packages.Need("no-such-server", "no-such-package-either", "tests of it", serves=True)
    installed: list[system_packages.Need] = []

    def install(needs: list[system_packages.Need]) -> str:
        installed.extend(needs)
        return ""

    monkeypatch.setattr(system_packages, "NEEDS", (plain, server))
    monkeypatch.setattr(system_packages, "install", install)
    lines = system_packages.missing_packages(servers=servers)
    assert installed == ([plain, server] if servers else [plain])
    assert len(lines) == 2
    assert ("only .ci/run installs it" in lines[1]) != servers


@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_started_by_its_installation_and_the_machine_is_left_as_it_was(monkeypatch, tmp_path, there):
    policy = tmp_path / "policy-rc.d"
    if there:
        policy.write_text("#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(system_packages, "POLICY", policy)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with system_packages.nothing_begins_to_serve():
        assert ("exit 101" in policy.read_text()) != there
    assert policy.exists() == there
