"""Many databases in one run: who goes first, where it stops, and what is said of those that it did not come to."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules.run import PERMITS
from conftest import a_run, as_environ, permit, run_module
from fleets import OLD, fleet, left, mistake, take_down
from fleets import database as fleets_database
from record_samples import VALIDATOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Database

    from playbooks import Ended, Project


def statuses(ended: Ended) -> dict[str, str]:
    """What a run's record says of each host, by the end of its name."""
    return {name[-1]: host["status"] for name, host in record(ended)["hosts"].items()}


def record(ended: Ended) -> dict[str, Any]:
    assert ended.record is not None, ended.output
    found: dict[str, Any] = json.loads((ended.record / "record.json").read_text())
    VALIDATOR.validate(found)
    return found


@pytest.fixture
def project(database: Database, tmp_path: Path) -> Iterator[Project]:
    with fleet(database, tmp_path, 6) as made:
        yield made


def test_a_run_stops_after_failures_and_says_what_was_not_run(project):
    """One canary, then three of which two are broken, then nobody; and a run of two of them keeps what is known."""
    mistake(project, "db002")
    take_down(project, "db004")
    project.all_vars |= {"preflight_batches": {"weekly_db.yml": [1, 3, "100%"]}, "preflight_stop_after_failures": 2}
    ended = project.run("weekly_db.yml")
    assert ended.code != 0
    expected = {"1": "ok", "2": "failed", "3": "ok", "4": "failed", "5": "not_run", "6": "not_run"}
    assert statuses(ended) == expected, ended.output
    assert [left(project, host) for host in project.hosts] == [0, OLD, 0, OLD, OLD, OLD]

    lines = " ".join(ended.output.split())
    assert "6 hosts in 3 batches of 1, 3 and 2; no further batch begins once 2 hosts failed." in lines
    end = lines.partition("Report: ")[2]
    assert "2 of 6 hosts failed: db002, db004. 2 of 6 hosts were not run: db005, db006." in end
    assert "db002, Let the database prove itself, then take its lease, failed: preflight_system_identifier:" in end
    assert "db004, Let the database prove itself, then take its lease, failed, unknown: Cannot connect" in end
    assert "db005, db006: Not run: 2 hosts before it failed (db002, db004), and preflight_stop_after_failures is 2" in (
        end
    )
    report = (ended.record / "report.md").read_text()
    assert [line.split(" | ")[:2] for line in report.splitlines() if line.startswith("| db0")] == [
        ["| db002", "failed"], ["| db004", "failed"], ["| db005", "not run"], ["| db006", "not run"],
        ["| db001", "ok"], ["| db003", "ok"],
    ]  # fmt: skip

    project.all_vars["preflight_batches"] = []
    some = project.run("weekly_db.yml", "--limit", "db005,db003")
    assert (some.code, statuses(some)) == (0, {"3": "ok", "5": "ok"}), some.output
    metrics = (project.folder / "runs/metrics/sandbox-weekly_db.prom").read_text()
    success = {number: int(number in "135") for number in "123456"}
    for number, value in success.items():
        assert (
            f'runbook_run_host_success{{environment="sandbox",playbook="weekly_db",host="db00{number}"}} {value}\n'
            in metrics
        )
    assert 'runbook_run_host_not_run{environment="sandbox",playbook="weekly_db",host="db006"} 1\n' in metrics
    assert 'runbook_run_host_not_run{environment="sandbox",playbook="weekly_db",host="db005"} 0\n' in metrics
    assert metrics.count("# TYPE runbook_run_host_success ") == 1

    assert record(some)["left_out"] == ["db001", "db002", "db004", "db006"]

    wrong = project.run("weekly_db.yml", "--limit", "db006,!db0004")
    assert (wrong.code, left(project, "db006")) == (1, OLD), wrong.output
    assert record(wrong)["verdict"] == (
        "--limit db006,!db0004: '!db0004' matches no host of the inventory; did you mean db004?"
    )


def test_a_dry_run_tells_the_batches_and_a_canary_that_fails_is_the_last(project):
    take_down(project, "db001")
    ended = project.run("weekly_db.yml", "--check", preflight_batches="1,50%")
    assert "6 hosts in 3 batches of 1, 3 and 2; no further batch begins once 1 host failed." in ended.output
    assert statuses(ended) == {"1": "failed"} | dict.fromkeys("23456", "not_run")
    assert "every host of a batch before it failed" in ended.output
    for variables, said in (
        ({"preflight_batches": [0]}, "preflight_batches: '0' is no size of a batch"),
        ({"preflight_batches": {"weekly.yml": [1]}}, "preflight_batches: 'weekly.yml' is no playbook; did you mean"),
        ({"preflight_stop_after_failures": "two"}, "preflight_stop_after_failures: 'two' is no number of hosts"),
    ):
        refused = project.run("weekly_db.yml", **variables)
        assert refused.code == 1
        assert said in " ".join(refused.output.split())
        assert "TASK" not in refused.output


def test_a_module_does_not_write_for_a_host_whose_batch_does_not_begin(project, tmp_path):
    """However it came to its permit."""
    one = fleets_database(project, "db001")
    run = a_run("20261129T020000Z-weekly_db-1a2b3c", directory=tmp_path)
    options = one.login | {"source": "public.audit_log", "archive": "public.audit_log_archive", "older_than_days": 90}
    permit(run, options, take_lease=True)
    with (tmp_path / PERMITS).open("a") as file:
        held = {"play": "a", "number": 2, "of": 3, "held": "Not run: a host before it failed."}
        file.write(json.dumps({"run_id": run.id, "batch": held}) + "\n")
    refused = run_module("pg_archive", options, permitted=False, **as_environ(run))
    assert refused.failed
    assert (refused.result["code"], refused.result["msg"]) == ("not_run", "Not run: a host before it failed.")
    assert left(project, "db001") == OLD


def test_after_ctrl_c_in_the_second_batch_the_rest_is_not_run(project):
    project.all_vars["preflight_batches"] = [2]
    blocker = fleets_database(project, "db003").connect()
    cursor = blocker.cursor()
    cursor.execute("BEGIN; LOCK TABLE public.audit_log")
    process = project.start("weekly_db.yml")
    deadline = time.monotonic() + 60
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.audit_log'::regclass"
    while not fleets_database(project, "db003").one(waiting):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    ended = project.ended(process, set())
    blocker.close()
    assert ended.code != 0
    found = statuses(ended)
    assert {number: found[number] for number in "1256"} == {"1": "ok", "2": "ok", "5": "not_run", "6": "not_run"}
    assert found["3"] != "ok", ended.output
    assert "Not run: the run was stopped before it came to it." in " ".join(ended.output.split())


def test_a_change_is_one_for_all_batches(project, tmp_path):
    """Each host answers for itself, and what is done once is done with the first batch, or with the last."""
    (tmp_path / "state").mkdir(mode=0o700)
    project.hosts = {name: project.hosts[name] for name in ("db001", "db002", "db003")}
    project.all_vars |= {
        "state_directory": str(tmp_path / "state"), "change_smoke_queries": [{"name": "one", "query": "SELECT 1"}],
        "change_needs": {"weekly_db.yml": ["rollback_plan", "health", "work", "function"]},
        "preflight_batches": [1],
    }  # fmt: skip
    (tmp_path / "state/sandbox").mkdir(mode=0o700)
    ended = project.run("weekly_db.yml")
    assert ended.code == 0, ended.output
    assert [left(project, host) for host in project.hosts] == [0, 0, 0]
    done = {module: [each for each in said if each["state"] != "skipped"] for module, said in ended.results.items()}
    assert [len(done[module]) for module in ("change_steps", "change_check")] == [1, 1]
    assert sorted(each["name"] for each in done["change_check"][0]["items"]) == [
        *(f"function:{host}" for host in project.hosts), *(f"health:{host}" for host in project.hosts),
        "rollback_plan", "work",
    ]  # fmt: skip
    project.all_vars["change_needs"] = {"weekly_db.yml": ["maintenance_mode"]}
    refused = project.run("weekly_db.yml")
    assert "keeps users out while it works" in refused.output


@pytest.mark.long
@pytest.mark.timeout(1_900)
def test_a_hundred_databases_of_which_three_are_broken_end_in_one_report(database, tmp_path):
    with fleet(database, tmp_path, 100) as project:
        project.patience_s = 1_800
        mistake(project, "db017")
        take_down(project, "db058")
        project.hosts["db093"]["db_maintenance_archive_deadline_s"] = 5
        blocker = fleets_database(project, "db093").connect()
        with blocker.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE public.audit_log")
            ended = project.run("weekly_db.yml")
        blocker.close()
        hosts = record(ended)["hosts"]
        assert [name for name, host in hosts.items() if host["status"] != "ok"] == ["db017", "db058", "db093"]
        assert [host for host in project.hosts if left(project, host)] == ["db017", "db058", "db093"]
    assert len(hosts) == 100
    assert ended.record is not None
    end = ended.output.partition("PLAY RECAP")[2].partition("\n\n")[2]
    assert "97 hosts ok: db001, db002, db003, db004 and 93 more hosts" in end
    assert "3 of 100 hosts failed: db017, db058, db093." in end
    report = (ended.record / "report.md").read_text()
    assert len(report) <= 60_000
    assert "97 hosts' steps" in report
    for name, why in (
        ("db017", "the inventory means cluster 7000000000000000001"), ("db058", "no server answers there"),
        ("db093", "public.audit_log"),
    ):  # fmt: skip
        said = " ".join(line for line in report.splitlines() if line.startswith(f"- **{name}**"))
        assert why in said.replace("\\", "")
        assert name in end.partition("Report: ")[2]
