"""Preflight: what is refused before a target is asked, and what a database has to prove; in which words."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster
from ansible.module_utils.runbook.rules.target import Target
from conftest import (
    ROOT,
    Database,
    Outcome,
    a_run,
    a_window,
    approve,
    as_environ,
    free_port,
    hold_lease,
    job,
    run_module,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ansible.module_utils.runbook.rules.run import Run

RUN = "20260104T020000Z-weekly_db-1"
INVENTORY = {
    "environment": "staging",
    "inventory_sources": ["/srv/inventories/staging"],
    "playbook": "weekly_db.yml",
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "journal.jsonl").touch()
    return tmp_path


# --- without a target -------------------------------------------------------------------------------------------------


@pytest.fixture
def inventory(run_dir: Path) -> Callable[..., Outcome]:
    """Run runbook_preflight with some options changed."""

    def run(*, environ: dict[str, Any] | None = None, check: bool = False, **changed: Any) -> Outcome:
        said = {"confirm": changed.get("confirm", ""), "preflight_job": changed.get("job", "")}
        said |= {key: changed[key] for key in ("window_override",) if key in changed}
        announced = as_environ(a_run(RUN, directory=run_dir, said=said))
        return run_module("runbook_preflight", INVENTORY | changed, check=check, **announced | (environ or {}))

    return run


def told(outcome: Outcome, check: str, status: str = "breach") -> str:
    """The sentence of a refusal: one line, of the check that was meant."""
    assert outcome.failed
    assert outcome.result["changed"] is False
    assert outcome.result["status"] == status
    assert outcome.result["checks"][-1] == {
        "name": check,
        "status": status,
        "msg": outcome.result["msg"],
        "subject": "",
    }
    assert all(one["status"] == "ok" for one in outcome.result["checks"][:-1])
    assert "\n" not in outcome.result["msg"]
    return str(outcome.result["msg"])


def test_what_needs_no_target_is_checked_in_one_place(inventory):
    passed = inventory()
    names = [one["name"] for one in passed.result["checks"]]
    assert names == ["record", "inventory", "environment", "approval", "calendar", "change"]
    assert passed.result["environment"] == "staging"


@pytest.mark.parametrize(
    ("check", "changed", "says"),
    [
        ("inventory", {"inventory_sources": ["/a", "/b"]}, "2 inventories were named (/a, /b)"),
        ("environment", {"environment": ""}, "set runbook_environment"),
        ("environment", {"environment": "production"}, "folder named 'staging'"),
        ("approval", {"confirm": "production"}, "'production' was confirmed, but this inventory is staging"),
        ("approval", {"job": "nightly"}, "not among the scheduled jobs of this inventory (none)"),
        ("calendar", {"calendar": {"windws": []}}, "calendar: 'windws' is unknown here; did you mean windows?"),
        ("calendar", {"calendar": a_window(1, 2)}, "no maintenance window is open now"),
        ("calendar", {"window_override": " "}, "window_override: it is empty"),
        ("change", {"change_needs": {"weekly_db.yml": ["tiket"]}}, "'tiket' is no line; did you mean ticket?"),
    ],
)
def test_an_inventory_is_refused_in_one_sentence(inventory, check, changed, says):
    assert says in told(inventory(**changed), check)


def test_production_wants_a_confirmation_or_a_scheduled_job(inventory):
    production: dict[str, Any] = {
        "environment": "production",
        "inventory_sources": ["/srv/production"],
        "scheduled_jobs": {"weekly-maintenance": job("weekly_db.yml"), "daily-cleanup": job("daily_cleanup.yml")},
    }
    assert "add -e confirm=production" in told(inventory(**production), "approval")
    other = inventory(**production, job="daily-cleanup")
    assert "schedules daily-cleanup as daily_cleanup.yml, not for weekly_db.yml" in told(other, "approval")
    for approved in ({"confirm": "production"}, {"job": "weekly-maintenance"}):
        assert not inventory(**production, **approved, calendar=a_window(-1, 1)).failed
        assert "this inventory has no calendar" in told(inventory(**production, **approved), "calendar")
        assert not inventory(**production, **approved, operations={"weekly_db.yml": "none"}).failed


def test_the_window_of_a_run_goes_into_its_permit(inventory, run_dir):
    assert "A real run would be refused now" in str(inventory(calendar=a_window(1, 2), check=True).result["warnings"])
    passed = inventory(calendar=a_window(-1, 1))
    window = passed.result["window"]
    assert window["names"] == ["tonight"]
    assert 0 < window["left_s"] <= 3600
    announced = a_run(RUN)
    run = replace(announced, directory=str(run_dir))
    assert permits.ends_at(run) == datetime.fromisoformat(window["ends_at"])


def test_a_mistake_in_the_calendar_stops_no_backup(inventory):
    """What needs no window asks the calendar nothing."""
    mistake = {"windows": [], "freezes": [{"id": "visit"}]}
    for operations in ({}, {"weekly_db.yml": "wekly"}):
        passed = inventory(calendar=mistake, operations=operations, playbook="backup.yml")
        assert not passed.failed, passed.result["msg"]
        assert "backup.yml needs no window, and goes on." in str(passed.result["warnings"])
        told(inventory(calendar=mistake, operations=operations), "calendar")
    told(inventory(calendar=mistake, operations={"backup.yml": "weekly"}, playbook="backup.yml"), "calendar")
    assert not inventory(calendar=mistake, operations={"weekly_db.yml": "none"}).failed


def test_an_override_is_recorded_with_its_reason(inventory):
    lifted = inventory(calendar=a_window(1, 2), window_override="the disk is full")
    assert not lifted.failed
    assert lifted.result["window"] == {
        "names": [], "ends_at": None, "left_s": None, "override": "the disk is full", "announced_as": ""
    }  # fmt: skip
    said = {one["name"]: one["msg"] for one in lifted.result["checks"]}
    assert "The calendar was overridden: the disk is full." in said["calendar"]
    assert "the disk is full" in str(lifted.result["warnings"])


def test_when_the_window_is_over_no_module_begins_to_write(database, tmp_path):
    database.run("CREATE TABLE public.notes (id int PRIMARY KEY)")
    run = a_run(directory=tmp_path)
    end = datetime.now(UTC) - timedelta(seconds=1)
    permits.approve(run, "sandbox", "weekly_db.yml", end)
    late = run_module("pg_vacuum", database.login, **as_environ(run))
    assert late.failed
    assert f"The maintenance window of this run ended at {end:%Y-%m-%d %H:%M:%S} UTC" in late.result["msg"]
    assert "executed_queries" not in late.result
    # Another preflight in the same run makes it no longer.
    permits.approve(run, "sandbox", "weekly_db.yml", end + timedelta(hours=1))
    assert run_module("pg_vacuum", database.login, **as_environ(run)).failed
    assert run_module("pg_preflight", database.login, **as_environ(run)).failed


def test_another_host_of_the_run_gets_no_other_end_and_no_permit(database, tmp_path):
    """A second play, without RUNBOOK_HOST or on another host that reaches the same server."""
    database.run("CREATE TABLE public.notes (id int PRIMARY KEY)")
    first = replace(a_run(directory=tmp_path), host="db")
    hold_lease(first, database)
    cluster = database.one("SELECT system_identifier::text FROM pg_control_system()")
    permits.grant(first, Target("database", cluster, database.name))
    permits.approve(first, "sandbox", "weekly_db.yml", datetime.now(UTC) + timedelta(hours=1))
    for host in ("", "other"):
        foreign = run_module("pg_vacuum", database.login, **as_environ(first), RUNBOOK_HOST=host)
        assert "This run has not passed preflight" in foreign.result["msg"]
    # The other host passed too, and nothing bounds what it said it would do.
    for host in ("", "other"):
        permits.approve(replace(first, host=host), "sandbox", "backup.yml")
        permits.approve(first, "sandbox", "weekly_db.yml", datetime.now(UTC) - timedelta(seconds=1))
        late = run_module("pg_vacuum", database.login, **as_environ(first), RUNBOOK_HOST=host)
        assert "The maintenance window of this run ended" in late.result["msg"]


def test_the_end_of_the_window_is_no_reason_for_what_failed_at_once(database, tmp_path):
    run = a_run(directory=tmp_path)
    permits.approve(run, "sandbox", "weekly_db.yml", datetime.now(UTC) + timedelta(seconds=600))
    wrong = database.login | {"source": "public.none", "archive": "public.other", "older_than_days": 90}
    # What failed at once did not fail for want of time; tests/unit/test_module_window.py has what did.
    missing = run_module("pg_archive", wrong | {"deadline_s": 3600}, **as_environ(run))
    assert "has not passed preflight" in missing.result["msg"]
    assert "maintenance window" not in missing.result["msg"]


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RUNBOOK_RUN_DIR": ""}, "RUNBOOK_RUN_DIR is not set"),
        ({"RUNBOOK_RUN_DIR": "/nonexistent"}, "/nonexistent/journal.jsonl is missing"),
        ({"RUNBOOK_RUN_DIR": "", "RUNBOOK_JOURNAL_ERROR": "No space left on /var."}, "No space left on /var."),
    ],
)
def test_no_record_no_run(inventory, environ, says):
    assert says in told(inventory(environ=environ), "record")


def test_no_run_no_permit(inventory):
    assert "RUNBOOK_RUN_ID is not set" in inventory(environ={"RUNBOOK_RUN_ID": ""}).result["msg"]


# --- a database -------------------------------------------------------------------------------------------------------


@pytest.fixture
def options(database: Database) -> dict[str, Any]:
    """Options with which every check passes."""
    database.mark("staging")
    return database.login | {
        "system_identifier": database.one("SELECT system_identifier::text FROM pg_control_system()")
    }


@pytest.fixture
def run(run_dir: Path) -> Run:
    """A run that passed what needs no target."""
    made = a_run(RUN, directory=run_dir)
    approve(made, "staging", playbook="weekly_db.yml")
    return made


@pytest.fixture
def preflight(options: dict[str, Any], run: Run) -> Callable[..., Outcome]:
    """Run pg_preflight with some options changed, in this run or in another one."""

    def call(*, check: bool = False, run_id: str = RUN, **changed: Any) -> Outcome:
        mine = replace(run, id=run_id)
        approve(mine, "staging", playbook="weekly_db.yml")
        announced = as_environ(mine) | {"RUNBOOK_CONTROLLER": "far/1"}
        return run_module("pg_preflight", options | changed, check=check, **announced)

    return call


def leases(database: Database) -> list[tuple[Any, ...]]:
    if database.one("SELECT to_regclass('runbook.lease')") is None:
        return []
    return database.run("SELECT run_id, controller, purpose FROM runbook.lease")


def refused(outcome: Outcome, database: Database, check: str, status: str = "breach") -> str:
    """As :func:`told`, and nothing was written."""
    assert leases(database) == []
    return told(outcome, check, status)


def test_all_checks_pass_and_the_lease_is_held(database, preflight):
    dry = preflight(check=True)
    assert leases(database) == []
    assert database.one("SELECT to_regnamespace('runbook')") is None
    real = preflight()
    assert leases(database) == [(RUN, "far/1", "weekly_db.yml")]
    names = ["target", "connection", "identity", "mark", "primary", "clock"]
    assert [one["name"] for one in real.result["checks"]] == [*names, "lease"]
    assert dry.result["executed_queries"] == real.result["executed_queries"]
    assert dry.result["changed"] is real.result["changed"] is True
    assert dry.result["lease"] == {"run_id": RUN, "decision": "acquire", "expires_at": None}
    assert real.result["lease"]["decision"] == "acquire"
    assert real.result["lease"]["expires_at"]
    assert real.result["database"] == database.name
    cluster = database.one("SELECT system_identifier::text FROM pg_control_system()")
    named = {"kind": "database", "place": cluster, "name": database.name, "environment": "staging"}
    assert dry.result["target"] == real.result["target"] == named
    assert abs(real.result["clock_skew_s"]) < 1

    again = preflight()
    assert again.result["lease"]["decision"] == "renew"
    assert again.result["changed"] is False
    assert again.result["executed_queries"] == []


def test_a_lease_of_another_run_is_refused_in_check_mode_too(database, preflight):
    assert not preflight().failed
    held = leases(database)
    for check in (True, False):
        second = preflight(check=check, run_id="run-2")
        assert second.failed
        assert f"run {RUN} (weekly_db.yml, far/1) holds the lease until" in second.result["msg"]
        assert "playbooks/lease.yml" in second.result["msg"]
        assert leases(database) == held


def test_without_a_lease_nothing_is_written(database, preflight):
    outcome = preflight(take_lease=False)
    assert not outcome.failed
    assert outcome.result["lease"]["decision"] == "none"
    assert database.one("SELECT to_regnamespace('runbook')") is None


@pytest.mark.parametrize(
    ("check", "changed", "says"),
    [
        ("target", {"login_host": "", "login_db": ""}, "login_host and login_db are empty"),
        ("connection", {"login_db": "nowhere"}, "there is no database of that name"),
        ("connection", {"login_user": "nobody"}, "there is no role of that name"),
        ("identity", {"system_identifier": ""}, "pin it: preflight_system_identifier: '"),
        ("identity", {"system_identifier": "42"}, "the inventory means cluster 42, and cluster"),
    ],
)
def test_a_refusal_is_one_sentence_and_writes_nothing(database, preflight, check, changed, says):
    assert says in refused(preflight(**changed), database, check)


def test_without_an_approval_no_database_is_asked(options, run_dir):
    announced = as_environ(a_run("unapproved", directory=run_dir))
    for check in (True, False):
        outcome = run_module("pg_preflight", options | {"login_port": free_port()}, check=check, **announced)
        assert "This run has not passed preflight" in outcome.result["msg"]


def test_a_database_of_another_environment_is_refused(database, preflight):
    database.mark("production")
    assert "carries the mark 'production'" in refused(preflight(), database, "mark")


def test_no_server(database, preflight):
    assert "no server answers there" in refused(preflight(login_port=free_port()), database, "connection", "unknown")


def test_a_server_that_never_answers_is_waited_for_in_bounds(database, preflight):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        outcome = preflight(dsn=f"host=127.0.0.1 port={port} user=app dbname=app connect_timeout=2")
    assert "no answer in time" in refused(outcome, database, "connection", "unknown")


def test_a_clock_that_is_off_by_two_hours(database, options, run):
    """The bastion's clock is moved, the server's is not."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("faketime is not installed, so the clock was NOT tested; apt-get install faketime")
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1] + '/tests'); from conftest import run_module;"
        "print(json.dumps(run_module('pg_preflight', json.loads(sys.argv[2]), permitted=False).result))"
    )
    for shift in ("+2h", "-2h"):
        done = subprocess.run(
            [faketime, "-f", shift, sys.executable, "-c", code, str(ROOT), json.dumps(options)],
            env=os.environ | as_environ(run),
            capture_output=True,
            text=True,
            check=True,
        )
        msg = refused(Outcome(json.loads(done.stdout), ""), database, "clock")
        assert "s apart where 10 s are accepted" in msg
        assert "7,200 s apart" in msg or "7,199 s apart" in msg


def test_a_standby_is_refused(cluster, preflight, tmp_path):
    copy = Cluster(cluster.bindir, tmp_path / "standby" / "data", free_port())
    copy.data.parent.mkdir()
    Database("127.0.0.1", cluster.port, "postgres", cluster.superuser).run("CHECKPOINT")
    copy._run(
        "pg_basebackup", "-h", "127.0.0.1", "-p", str(cluster.port), "-U", cluster.superuser, "-D", str(copy.data),
        "--checkpoint=fast", "--write-recovery-conf", "--no-sync",
    )  # fmt: skip
    copy.start(fsync="off", max_connections=60, primary_conninfo="")
    try:
        outcome = preflight(login_port=copy.port)
    finally:
        copy.stop("immediate")
    assert outcome.failed
    assert "standby" in outcome.result["msg"]
    assert outcome.result["checks"][-1]["name"] == "primary"


def test_a_user_without_rights_on_the_lease(database, preflight):
    database.run(
        f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC",
        "DROP ROLE IF EXISTS weak", "CREATE ROLE weak LOGIN", f"GRANT CONNECT ON DATABASE {database.name} TO weak",
    )  # fmt: skip
    try:
        for check in (True, False):
            outcome = preflight(login_user="weak", check=check)
            assert "user 'weak' may not create the schema runbook" in refused(outcome, database, "lease")
        assert not preflight(run_id="owner").failed
        outcome = preflight(login_user="weak")
        assert "user 'weak' may not use the schema runbook" in outcome.result["msg"]
        assert "playbooks/db_roles.yml" in outcome.result["msg"]
        database.run("GRANT USAGE ON SCHEMA runbook TO weak", "GRANT SELECT ON runbook.lease TO weak")
        assert "may not write to the schema runbook" in preflight(login_user="weak").result["msg"]
    finally:
        database.run("DROP OWNED BY weak", "DROP ROLE weak")


def test_secrets_stay_secret(preflight):
    """A canary in every place a secret can be given; nothing that is printed holds it."""
    canary = "c4n4ry-s3cr3t"
    for changed in (
        {"login_password": canary, "login_db": "nowhere"},
        {"login_password": canary},
        {"dsn": f"postgresql://app:{canary}@127.0.0.1:1/x"},
        {"dsn": f"postgresql://app:{canary}@@@:::"},
    ):
        outcome = preflight(**changed)
        assert canary not in str(outcome.result)
        assert canary not in outcome.stderr


def test_a_held_lease_is_waited_for(database, preflight):
    assert not preflight(run_id="other").failed
    assert "holds the lease" in preflight(lease_wait_s=1).result["msg"]
    timer = threading.Timer(1.0, database.run, ["DELETE FROM runbook.lease"])
    timer.start()
    assert preflight(lease_wait_s=60).result["lease"]["decision"] == "acquire"
    timer.join()
    assert leases(database)[0][0] == RUN
    assert "out of bounds" in preflight(lease_wait_s=-1).result["msg"]
