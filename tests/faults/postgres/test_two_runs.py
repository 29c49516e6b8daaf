"""Two runs of the weekly playbook meet, or one is killed: nobody writes beside anybody, no row is lost or doubled."""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import Popen

    from conftest import Database

ROWS = 40_000
OLD = 20_000


@pytest.fixture
def application(database: Database) -> Database:
    database.run(
        "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, detail text)",
        "CREATE INDEX ON public.audit_log (created_at)",
        "INSERT INTO audit_log SELECT i, now() - make_interval(secs => (i - 0.5) * 388.8), repeat('x', 200)"
        f" FROM generate_series(1, {ROWS}) i",
    )
    return database


@pytest.fixture
def brake(application: Database) -> Callable[[], None]:
    """Holds a run in the middle of its archive, in the second batch, until it is let go."""
    application.run(
        "CREATE TABLE public.brake AS SELECT 1",
        "CREATE SEQUENCE public.batch",
        "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('public.batch') > 1 THEN WHILE EXISTS (SELECT 1 FROM public.brake) LOOP"
        " PERFORM pg_sleep(0.02); END LOOP; END IF; RETURN NULL; END $$",
        "CREATE TRIGGER brake AFTER DELETE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION public.wait()",
    )

    def let_go() -> None:
        application.run("DELETE FROM public.brake")

    return let_go


@pytest.fixture
def project(application: Database, tmp_path: Path) -> Project:
    return Project.for_database(tmp_path, application, db_maintenance_archive_allow_triggers=["brake"])


def until(true: Callable[[], bool]) -> None:
    """Wait for something, for a minute at most."""
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("It did not happen within a minute.")


def writing(database: Database) -> bool:
    """Whether a module holds the writer's lock and moved rows already."""
    return (
        bool(database.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"))
        and database.one("SELECT count(*) FROM audit_log") < ROWS
    )


def kill(process: Popen[str], *, group: bool) -> None:
    """Kill -9 of ansible-playbook, alone or with everything that it started."""
    # Ansible's workers have sessions of their own, so a signal to the process group does not reach the module.
    started = psutil.Process(process.pid).children(recursive=True) if group else []
    process.kill()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def all_there(database: Database) -> None:
    tables = "SELECT id FROM audit_log"
    if database.one("SELECT to_regclass('public.audit_log_archive') IS NOT NULL"):
        tables += " UNION ALL SELECT id FROM audit_log_archive"
    found = database.run(f"{tables} ORDER BY 1")
    assert [row[0] for row in found] == list(range(1, ROWS + 1))


def test_the_second_run_is_refused_while_the_first_one_works(application, project, brake):
    first = project.start("weekly_db.yml")
    until(lambda: writing(application))
    known = project.records()
    second = project.run("weekly_db.yml")
    assert second.code != 0
    assert "holds the lease until" in second.output
    assert "pg_archive" not in second.results
    assert application.one("SELECT count(*) FROM runbook.lease") == 1
    brake()
    ended = project.ended(first, project.records() - known)
    assert ended.code == 0, ended.output
    assert application.one("SELECT count(*) FROM audit_log_archive") == OLD
    assert application.one("SELECT count(*) FROM runbook.lease") == 0
    all_there(application)


def test_after_kill_9_the_next_run_takes_over_and_goes_on(application, project, brake):
    """Everything of the first run is gone at once, its module too: nobody waits for the lease to end."""
    first = project.start("weekly_db.yml")
    until(lambda: writing(application))
    kill(first, group=True)
    brake()
    until(lambda: not application.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
    assert application.one("SELECT count(*) FROM runbook.lease WHERE expires_at > now()") == 1
    ended = project.run("weekly_db.yml")
    assert ended.code == 0, ended.output
    assert ended.last("pg_preflight")["lease"]["decision"] == "take_over"
    assert application.one("SELECT count(*) FROM audit_log_archive") == OLD
    all_there(application)


def test_a_module_that_outlives_its_killed_run_keeps_the_next_one_out(application, project, brake):
    """Only ansible-playbook is killed, and its module cannot notice it yet: the next run must not write beside it."""
    first = project.start("weekly_db.yml")
    until(lambda: writing(application))
    frozen = psutil.Process(first.pid).children(recursive=True)
    for child in frozen:
        child.suspend()
    kill(first, group=False)
    refused = project.run("weekly_db.yml")
    assert refused.code != 0
    assert "which has ended, still writes (server process" in " ".join(refused.output.split()), refused.output
    assert "pg_archive" not in refused.results
    for child in frozen:
        child.resume()
    # It ends by itself, in the middle of its batch.
    until(lambda: not application.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
    brake()
    ended = project.run("weekly_db.yml")
    assert ended.code == 0, ended.output
    assert application.one("SELECT count(*) FROM audit_log_archive") == OLD
    all_there(application)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_runs_killed_at_random_moments_and_one_that_ends(application, project, kills):
    """Every other one is killed while it moves rows, the others anywhere between start and end."""
    chance = random.Random()  # noqa: S311 - other moments in every test run
    # So that a run moves rows for seconds, in many small batches.
    slow = {"db_maintenance_archive_max_wal_bytes_s": 500_000, "db_maintenance_archive_target_batch_ms": 5}
    seen = []
    for number in range(kills):
        process = project.start("weekly_db.yml", **slow)
        if number % 2:
            before = application.one("SELECT count(*) FROM audit_log")
            until(lambda: process.poll() is not None or application.one("SELECT count(*) FROM audit_log") < before)  # noqa: B023 - called at once
            time.sleep(chance.uniform(0, 0.3))
        else:
            time.sleep(chance.uniform(0.3, 4))
        if process.poll() is not None:
            raise AssertionError(f"Run {number} ended before it was killed:\n{process.communicate()[0]}")
        kill(process, group=True)
        until(lambda: not application.run("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        all_there(application)
        seen.append(application.one("SELECT count(*) FROM audit_log"))
    assert any(OLD < left < ROWS for left in seen), seen
    ended = project.run("weekly_db.yml")
    assert ended.code == 0, ended.output
    assert application.one("SELECT count(*) FROM audit_log_archive") == OLD
    all_there(application)
