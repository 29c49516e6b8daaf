"""rollback.yml to a moment: a server is restored beside the live one, and its database takes that one's place."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.rules.run import Run
from conftest import Database, run_module
from pitr_primary import PASSWORD, Primary, end, make_primary

from playbooks import Ended, Project

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from conftest import S3

DB = ("--tags", "db")


@pytest.fixture
def primary(s3: S3) -> Iterator[Primary]:
    """A server that keeps commit timestamps and archives its WAL, with one base backup."""
    made = make_primary(s3)
    made.database.run("ALTER SYSTEM SET track_commit_timestamp = on", "CREATE DATABASE app")
    for action, more in (("setup", {"allow_restart": True}), ("backup", {})):
        outcome = made.pitr(action, **more)
        assert not outcome.failed, outcome.result["msg"]
    yield made
    end(made)


@pytest.fixture
def app(primary: Primary) -> Database:
    """The live database."""
    made = Database("127.0.0.1", primary.cluster.port, "app", "postgres")
    made.run(
        "CREATE TABLE note (id int PRIMARY KEY, body text)",
        "INSERT INTO note SELECT n, 'before' FROM generate_series(1, 100) n",
    )
    return made


@pytest.fixture
def project(primary: Primary, app: Database, tmp_path: Path) -> Project:
    """An inventory with that server."""
    options = {f"backup_{name}": value for name, value in primary.s3.options(primary.bucket).items()}
    return Project.for_database(
        tmp_path,
        app,
        **options,
        db_login_password=PASSWORD,
        pitr_server="main",
        pitr_bindir=str(primary.cluster.bindir),
        db_rollback_restore_path=str(primary.folder / "restore"),
    )


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is there, as long as the playbook runs."""
    until = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.long
def test_to_a_moment_after_a_kill(primary: Primary, app: Database, project: Project):
    """Planned, killed while the restored server runs, and then run again to its end."""
    # Another machine's run was at work at that moment, and its lease is not over yet.
    target = postgres.Target(app.host, app.port, app.name, app.user, PASSWORD)
    with postgres.Session(target, lock_timeout_ms=5000, statement_timeout_ms=5000) as session:
        lease.acquire(session, Run("weekly", None, "elsewhere/1"), purpose="weekly_db.yml")
        moment = app.one("SELECT clock_timestamp()::text")
        lease.release(session, run_id="weekly")
    app.run(
        "INSERT INTO note SELECT n, 'after' FROM generate_series(101, 107) n",
        "DELETE FROM note WHERE id <= 50",
        "UPDATE note SET body = 'after' WHERE id = 60",
    )
    options = {"db_rollback_target_time": moment}

    login = {"login_password": PASSWORD, "restore_path": project.all_vars["db_rollback_restore_path"]}
    asked = app.login | login | primary.s3.options(primary.bucket) | {"target_time": moment}
    planned = run_module("pg_rollback_plan", asked, check=True)
    plan = planned.result
    (loss,) = plan["losses"]
    assert (loss["newer_rows"], loss["evidence"], loss["at_least"]) == (8, "commit_timestamp", False)
    assert plan["executed_queries"] == []
    assert not (primary.folder / "restore").exists()
    assert objects(primary) == []

    note = Path(plan["restore_path"]) / "restore.json"
    process = project.start("rollback.yml", *DB, **options)
    wait_for(lambda: note.exists() and '"done"' in note.read_text(), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert app.one("SELECT count(*) FROM note") == 57

    done = project.run("rollback.yml", *DB, **options)
    assert done.code == 0, done.output
    # First everything that may refuse, then the snapshot, then the rest; what the killed run left goes before the way.
    assert acted(done) == [
        "assert", "assert", "pg_rollback_plan", "pg_pitr_restore", "pg_backup",
        "pg_pitr_discard", "pg_pitr_restore", "pg_rollback_take_lease", "pg_backup", "pg_restore",
        "pg_rollback_compare", "pg_integrity", "pg_pitr_discard", "pg_rollback_remove_copies", "pg_lease",
    ]  # fmt: skip
    assert done.results["pg_pitr_restore"][0]["msg"].startswith("Would restore to ")
    assert done.results["pg_pitr_discard"][0]["msg"].startswith("Removed the restored server")
    real = done.last("pg_rollback_plan")
    assert {key: real[key] for key in ("method", "point", "replacement", "steps", "losses", "restore_path")} == {
        key: plan[key] for key in ("method", "point", "replacement", "steps", "losses", "restore_path")
    }
    # Nothing is replaced unasked; the copy stands beside it, and the command for the next step is said.
    copy = replace(app, name=plan["replacement"])
    assert copy.run("SELECT count(*), min(body), max(body) FROM note") == [(100, "before", "before")]
    assert app.one("SELECT count(*) FROM note") == 57
    compared = done.last("pg_rollback_compare")
    assert [(each["table"], each["live_rows"], each["copy_rows"]) for each in compared["differences"]] == [
        ("public.note", 57, 100)
    ]
    assert f"-e db_rollback_target_time={plan['point']} -e db_rollback_replace=app" in done.output
    # Nothing is left on the way, of the killed run neither.
    assert not list((primary.folder / "restore").glob("*"))
    assert objects(primary) == []
    others = app.run("SELECT datname FROM pg_database WHERE datname LIKE 'app%'")
    assert {row[0] for row in others} == {"app", copy.name}
    assert PASSWORD not in done.output


def acted(done: Ended) -> list[str]:
    """The modules that did something, in order, but for the proofs of what they work on."""
    assert done.record is not None
    modules, found = {}, []
    for line in (done.record / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "task_start":
            modules[event["task"]] = event["module"].rpartition(".")[2]
        elif event["event"] == "result" and event["state"] != "skipped":
            found.append(modules[event["task"]])
    return [each for each in found if each not in {"debug", "validate_argument_spec"} and "preflight" not in each]


def objects(primary: Primary) -> list[str]:
    """What lies in the bucket on the way from a restored server, in any version."""
    found = primary.s3.client().list_object_versions(Bucket=primary.bucket, Prefix="rollback/")
    return [each["Key"] for kind in ("Versions", "DeleteMarkers") for each in found.get(kind, [])]
