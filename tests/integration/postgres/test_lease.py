"""The lease against a real server: one holder at a time, whatever happens to him."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers import permits, stopping
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.drivers.process import find, own
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.run import Run
from ansible.module_utils.runbook.rules.target import Target
from conftest import ROOT, Database, a_run, approve, as_environ, module_process, run_module, this_run

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RACERS = 6


def test_no_subscriber_is_told_of_the_lease(database: Database, connect: Callable[[], postgres.Session]) -> None:
    """It would stop, because it lacks the table."""
    database.run("CREATE PUBLICATION every FOR ALL TABLES")
    lease.prepare(connect())
    assert database.run("SELECT tablename FROM pg_publication_tables WHERE schemaname = 'runbook'") == []


@pytest.fixture
def connect(database: Database) -> Iterator[Callable[[], postgres.Session]]:
    """Open sessions; they are closed at the end."""
    made: list[postgres.Session] = []

    def session() -> postgres.Session:
        params = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | database.login
        made.append(
            postgres.Session(postgres.Target.from_params(params), lock_timeout_ms=200, statement_timeout_ms=5000)
        )
        return made[-1]

    yield session
    for one in made:
        one.close()


def run_of(run_id: str, process: str | None = None, folder: Path | None = None) -> Run:
    """A run that is under way here; with ``process``, one of that process, which need not live."""
    run = dataclasses.replace(this_run(), id=run_id, controller="far/1")
    if folder is not None:
        run = dataclasses.replace(run, directory=str(folder))
    return run if process is None else dataclasses.replace(run, process=process)


def permitted(run_id: str) -> Run:
    """A run that lives and passed preflight."""
    run = run_of(run_id)
    permits.grant(run, Target("database", "any", "any"))
    return run


def take(session: postgres.Session, run_id: str, process: str = "") -> str:
    return lease.acquire(session, run_of(run_id, process), purpose="weekly_db.yml")


def let_it_end(database: Database) -> None:
    database.run("UPDATE runbook.lease SET expires_at = clock_timestamp() - interval '1 second'")


@pytest.fixture
def dead_controller() -> str:
    """A process that ended, as the lease names it."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    named = str(find(process.pid))
    process.communicate()
    return named


def holder_of(database: Database) -> str | None:
    rows = database.run("SELECT run_id FROM runbook.lease")
    return rows[0][0] if rows else None


def test_of_many_at_once_exactly_one_wins(database):
    """All start on a database that has no table for leases yet, so they also race for making it."""
    options = database.login | {
        "system_identifier": database.one("SELECT system_identifier::text FROM pg_control_system()"),
    }
    runs = [a_run(f"run-{number}") for number in range(RACERS)]
    for run in runs:
        approve(run, "sandbox", playbook="weekly_db.yml")
    racers = [module_process("pg_preflight", options, **as_environ(run)) for run in runs]
    said = []
    for racer in racers:
        out, err = racer.communicate(timeout=60)
        assert out, err
        said.append(json.loads(out))
    winners = [result for result in said if not result.get("failed")]
    assert len(winners) == 1
    assert holder_of(database) == winners[0]["lease"]["run_id"]
    losers = [result["msg"] for result in said if result.get("failed")]
    assert all(f"run {holder_of(database)} (weekly_db.yml" in msg for msg in losers)


def test_racers_in_one_process(database, connect):
    """The same race without the start of a process in between, many times over."""
    sessions = [connect() for _ in range(RACERS)]
    for lap in range(10):
        start = threading.Barrier(RACERS)
        won: list[str] = []

        def race(number: int, lap: int = lap, start: threading.Barrier = start, won: list[str] = won) -> None:
            start.wait()
            try:
                take(sessions[number], f"run-{lap}-{number}")
            except RunbookError:
                return
            won.append(f"run-{lap}-{number}")

        threads = [threading.Thread(target=race, args=(number,)) for number in range(RACERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [holder_of(database)]
        let_it_end(database)


def test_a_lease_ends_by_itself(database, connect):
    first, second = connect(), connect()
    assert take(first, "run-1") == "acquire"
    assert take(first, "run-1") == "renew"
    with pytest.raises(RunbookError, match=r"run run-1 \(weekly_db.yml, far/1\) holds the lease until .* UTC"):
        take(second, "run-2")
    let_it_end(database)
    assert take(second, "run-2") == "take_over"
    with pytest.raises(RunbookError, match="run run-2"):
        take(first, "run-1")
    assert lease.release(first, run_id="run-1") is False
    assert holder_of(database) == "run-2"
    assert lease.release(second, run_id="run-2") is True
    assert take(first, "run-1") == "acquire"


def test_the_server_s_clock_decides(database, connect):
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("faketime is not installed, so the clock was NOT tested; apt-get install faketime")
    take(connect(), "run-1")
    run = a_run("run-2")
    approve(run, "sandbox", playbook="weekly_db.yml")
    options = database.login | {
        "system_identifier": database.one("SELECT system_identifier::text FROM pg_control_system()"),
        "max_clock_skew_s": 100_000,
    }
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1] + '/tests'); from conftest import run_module;"
        "print(json.dumps(run_module('pg_preflight', json.loads(sys.argv[2]), permitted=False).result))"
    )
    done = subprocess.run(
        [faketime, "-f", "+2h", sys.executable, "-c", code, str(ROOT), json.dumps(options)],
        env=os.environ | as_environ(run),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "run run-1 (weekly_db.yml, far/1) holds the lease" in json.loads(done.stdout)["msg"]
    assert holder_of(database) == "run-1"


def test_a_run_whose_process_is_gone_is_not_waited_for(connect, dead_controller):
    take(connect(), "run-1", dead_controller)
    assert take(connect(), "run-2") == "take_over"


def test_a_process_number_of_another_machine_says_nothing(database, connect, dead_controller):
    take(connect(), "run-1", dead_controller)
    database.run("UPDATE runbook.lease SET machine = 'elsewhere pid:[1] 1 1'")
    with pytest.raises(RunbookError, match="holds the lease until"):
        take(connect(), "run-2")
    database.run("UPDATE runbook.lease SET machine = ''")
    with pytest.raises(RunbookError, match="holds the lease until"):
        take(connect(), "run-2")


def test_a_module_that_outlives_its_run_keeps_the_next_one_out(database, connect, dead_controller):
    """Its ansible-playbook was killed, the module goes on: nobody may write beside it."""
    outlived, next_run = connect(), connect()
    take(outlived, "run-1", str(own()))
    with lease.writing(outlived, permitted("run-1")) as guard:
        database.run(f"UPDATE runbook.lease SET machine = '{dead_controller}'")
        pid = outlived.query("SELECT pg_backend_pid() AS pid")[0]["pid"]
        with pytest.raises(
            RunbookError, match=rf"still writes \(server process {pid}\).*pg_terminate_backend\({pid}\)"
        ):
            take(next_run, "run-2")
        let_it_end(database)
        with pytest.raises(RunbookError, match="still writes"):
            take(next_run, "run-2")
        with (
            pytest.raises(RunbookError, match="which has ended, still writes"),
            lease.writing(next_run, permitted("run-2")),
        ):
            pass
        guard.renew()
    assert take(next_run, "run-2") == "take_over"


def test_the_server_frees_the_lock_of_a_writer_that_is_gone(database, connect, dead_controller):
    outlived = connect()
    take(outlived, "run-1", dead_controller)
    next_run = connect()

    def write() -> None:
        with lease.writing(outlived, permitted("run-1")):
            database.run(f"SELECT pg_terminate_backend({lease.writer(next_run)}, 5000)")
            outlived.query("SELECT 1")

    with pytest.raises(psycopg2.OperationalError):
        write()
    assert take(next_run, "run-2") == "take_over"


def test_a_writer_of_another_run_is_refused(connect):
    take(connect(), "run-1")
    for run in (permitted("run-2"), Run(None, None, None)):
        with pytest.raises(RunbookError, match="run run-1"), lease.writing(connect(), run):
            pass
    with lease.writing(connect(), permitted("run-1")):
        pass


def test_without_preflight_and_a_lease_nobody_writes(connect, dead_controller, tmp_path):
    """Not without a lease, not with the name of a run that holds one, not after a run that is gone."""
    lease.prepare(connect())
    refused = "has not passed preflight and holds no lease; start the playbook from its beginning"
    for run in (Run(None, None, None), permitted("run-1")):
        with pytest.raises(RunbookError, match=refused), lease.writing(connect(), run):
            pass
    # Variables that are left in somebody's shell: the lease bears this run's name, and its folder is there.
    take(connect(), "run-1", dead_controller)
    with pytest.raises(RunbookError, match=refused), lease.writing(connect(), run_of("run-1", dead_controller)):
        pass
    # A run that lives and was never permitted anything.
    (tmp_path / "permits.jsonl").touch()
    with pytest.raises(RunbookError, match=refused), lease.writing(connect(), run_of("run-1", None, tmp_path)):
        pass


def test_a_module_that_was_told_to_stop_gives_the_lease_back(database, connect, monkeypatch):
    take(connect(), "run-1", str(own()))
    with lease.writing(connect(), permitted("run-1")):
        pass
    assert holder_of(database) == "run-1"
    monkeypatch.setattr(stopping, "told", threading.Event())
    stopping.told.set()
    with lease.writing(connect(), permitted("run-1")):
        pass
    assert holder_of(database) is None


def test_two_modules_of_one_run_do_not_write_side_by_side(connect):
    take(connect(), "run-1")
    second = lease.writing(connect(), permitted("run-1"))
    with lease.writing(connect(), permitted("run-1")), pytest.raises(RunbookError, match="another module"), second:
        pass


def test_work_renews_the_lease_and_stops_when_it_is_lost(database, connect):
    session = connect()
    take(session, "run-1")
    let_it_end(database)
    with lease.writing(session, permitted("run-1"), ttl_s=0) as guard:
        guard.renew()
        assert database.one("SELECT expires_at > clock_timestamp() - interval '1 second' FROM runbook.lease")
        database.run("UPDATE runbook.lease SET run_id = 'run-2'")
        with pytest.raises(RunbookError, match=r"lost its lease, run run-2 .* holds it now"):
            guard.renew()
        database.run("DELETE FROM runbook.lease")
        with pytest.raises(RunbookError, match="nobody holds it now"):
            guard.renew()


def test_a_locked_table_is_waited_for_in_bounds(database, connect):
    session, other = connect(), database.connect()
    take(session, "run-1")
    other.autocommit = False
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE runbook.lease IN ACCESS EXCLUSIVE MODE")
    for act in (
        lambda: take(session, "run-1"),
        lambda: lease.stand(session, run_id="run-1"),
        lambda: lease.release(session, run_id="run-1"),
    ):
        with pytest.raises(RunbookError, match="another session keeps"):
            act()
    other.close()
    assert take(session, "run-1") == "renew"


# --- the module, and its playbook -------------------------------------------------------------------------------------


def test_the_module_gives_back_what_its_run_holds_and_nothing_else(database, connect):
    assert "nobody holds the lease" in run_module("pg_lease", database.login, RUNBOOK_RUN_ID="run-1").result["msg"]
    take(connect(), "run-1")
    other = run_module("pg_lease", database.login, RUNBOOK_RUN_ID="run-2")
    assert other.result["released"] is False
    assert other.result["holder"]["run_id"] == "run-1"
    assert holder_of(database) == "run-1"
    dry = run_module("pg_lease", database.login, check=True, RUNBOOK_RUN_ID="run-1")
    assert dry.result["released"] is True
    assert holder_of(database) == "run-1"
    real = run_module("pg_lease", database.login, RUNBOOK_RUN_ID="run-1")
    assert real.result["executed_queries"] == dry.result["executed_queries"]
    assert real.result["changed"] is dry.result["changed"] is False
    assert holder_of(database) is None


def named(database: Database, run_id: str, **flags: Any) -> dict[str, Any]:
    return run_module("pg_lease", database.login | {"run_id": run_id}, RUNBOOK_RUN_ID="run-9", **flags).result


def test_whoever_releases_another_run_names_it_and_it_is_dead(database, connect, dead_controller):
    session = connect()
    take(session, "run-1", str(own()))
    assert "'run-2' does not hold the lease, run-1" in named(database, "run-2")["msg"]
    assert "alive on this machine" in named(database, "run-1")["msg"]
    take(session, "run-1", dead_controller)
    with lease.writing(session, permitted("run-1")):
        assert "still writes in the name of run run-1" in named(database, "run-1")["msg"]
    assert holder_of(database) == "run-1"
    assert named(database, "run-1", check=True)["changed"] is True
    assert holder_of(database) == "run-1"
    released = named(database, "run-1")
    assert released["changed"] is True
    assert released["released"] is True
    assert holder_of(database) is None
    again = named(database, "run-1")
    assert again["changed"] is False
    assert not again.get("failed")


def test_of_a_dead_run_on_this_machine_it_says_that_the_next_one_takes_its_lease(database, connect, dead_controller):
    take(connect(), "run-1", dead_controller)
    said = run_module("pg_lease", database.login, RUNBOOK_RUN_ID="run-9").result["msg"]
    assert said.endswith(" UTC; its process is dead, and the next run on this machine takes it at once.")


def test_the_playbook_shows_and_releases(database, connect, tmp_path):
    take(connect(), "run-1")
    project = Project.for_database(tmp_path, database, runbook_environment="production")
    database.mark("production")
    # Production confirms what writes; to look at the lease at night needs nothing.
    shown = project.run("lease.yml")
    assert shown.code == 0, shown.output
    held = r"run run-1 .* holds the lease until [\d-]+ [\d:]+ UTC, and renews it while it lives\."
    assert re.search(held, " ".join(shown.output.split()))
    refused = project.run("lease.yml", preflight_lease_run_id="run-1")
    assert refused.code != 0
    assert "-e confirm=production" in refused.output
    assert holder_of(database) == "run-1"
    released = project.run("lease.yml", preflight_lease_run_id="run-1", confirm="production")
    assert released.code == 0, released.output
    assert released.last("pg_lease")["changed"] is True
    assert holder_of(database) is None
