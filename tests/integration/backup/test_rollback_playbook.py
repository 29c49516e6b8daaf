"""rollback.yml as an operator runs it: to a backup, to a moment, the swap, the way back, and what is refused."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import psycopg2
import pytest
from ansible.module_utils.runbook.rules.backup.swap import Marker
from conftest import run_module
from fakes.supabase import REF, TOKEN, FakeSupabase

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Database


DB = ("--tags", "db")


class Application:
    """Writes rows one by one, and connects again when its session is ended; a context manager."""

    def __init__(self, database: Database) -> None:
        self.database = database
        #: Rows whose commit was acknowledged.
        self.written: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._next = itertools.count(1000)

    def _run(self) -> None:
        while not self._stop.is_set():
            with (
                suppress(psycopg2.Error),
                closing(self.database.connect()) as connection,
                connection.cursor() as cursor,
            ):
                while not self._stop.is_set():
                    number = next(self._next)
                    cursor.execute("INSERT INTO messages (id) VALUES (%s)", (number,))
                    self.written.add(number)
                    self._stop.wait(0.02)

    def write_more(self) -> None:
        """Wait for ten more rows."""
        wanted, until = len(self.written) + 10, time.monotonic() + 60
        while len(self.written) < wanted:
            assert time.monotonic() < until, "it does not come back"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        self._thread.start()
        self.write_more()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()


def databases(database: Database) -> set[str]:
    """Databases of this test."""
    rows = database.run("SELECT datname FROM pg_database")
    return {row[0] for row in rows if row[0].startswith(database.name)}


@pytest.fixture
def project(s3: S3, database: Database, tmp_path: Path) -> Iterator[Project]:
    """A database with rows that are dated, and a bucket."""
    database.run(
        "CREATE TABLE messages (id bigint PRIMARY KEY, body text, created_at timestamptz DEFAULT clock_timestamp())",
        "INSERT INTO messages SELECT n, 'message ' || n FROM generate_series(1, 500) n",
        "CREATE TABLE settings (name text PRIMARY KEY, value text)",
        "INSERT INTO settings VALUES ('colour', 'green')",
        # A row that points at nothing, which the backup will hold too.
        "ALTER TABLE settings ADD FOREIGN KEY (value) REFERENCES settings (name) NOT VALID",
    )
    options = {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
    made = Project.for_database(tmp_path, database, **options, backup_prefix="logical")
    yield made
    admin = database.connect()
    for name in databases(database) - {database.name}:
        with admin.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.close()


@pytest.fixture
def backup(s3: S3, project: Project, database: Database) -> str:
    """The name of a backup of that database."""
    made = run_module(
        "pg_backup",
        database.login
        | s3.options(project.all_vars["backup_bucket"])
        | {"environment": "sandbox", "prefix": "logical"},
    )
    assert not made.failed, made.result["msg"]
    return str(made.result["backup_id"])


def test_to_a_backup_and_back(project: Project, database: Database, backup: str):
    """The plan, a copy that is not whole, its swap all the same, the undo: as a person types them."""
    database.run(
        "INSERT INTO messages SELECT n, 'canary-content' FROM generate_series(501, 530) n",
        "DELETE FROM messages WHERE id <= 10",
        "UPDATE settings SET value = NULL",
        "CREATE TABLE fresh AS SELECT 1 AS id",
    )
    planned = project.run(
        "rollback.yml", *DB, "--check", "--diff", db_rollback_backup="latest", db_rollback_replace=database.name
    )
    assert planned.code == 0, planned.output
    assert databases(database) == {database.name}
    plan = planned.last("pg_rollback_plan")
    losses = {each["table"]: each for each in plan["losses"]}
    assert (losses["public.messages"]["newer_rows"], losses["public.messages"]["evidence"]) == (30, "column")
    assert losses["public.messages"]["columns"] == ["created_at"]
    assert (losses["public.fresh"]["newer_rows"], losses["public.fresh"]["evidence"]) == (1, "backup")
    assert plan["unknown_tables"] == ["public.settings"]
    assert "of 1 of 3 tables it is not known" in plan["msg"]

    # The copy equals its backup, and that was not whole: even where it was asked for, nothing is replaced.
    asked: dict[str, Any] = {"db_rollback_backup": backup, "db_rollback_replace": database.name}
    made = project.run("rollback.yml", *DB, **asked)
    assert made.code != 0
    assert "1 of 1 foreign key not in order" in made.output
    # What was planned is what was done; only time has passed.
    real = made.last("pg_rollback_plan")
    unlike = {"duration_s", "window_s", "msg", "database_bytes", "cluster_bytes", "free_bytes"}
    assert {key: real[key] for key in real.keys() - unlike} == {key: plan[key] for key in plan.keys() - unlike}
    copy = plan["replacement"]
    assert databases(database) == {database.name, copy}
    assert database.one("SELECT count(*) FROM messages") == 520
    assert made.results["pg_backup"][0]["backup_id"] > backup
    compared = made.last("pg_rollback_compare")
    assert {each["table"]: (each["status"], each["live_rows"], each["copy_rows"]) for each in compared["differences"]
            } == {
        "public.fresh": ("only_live", 1, None),
        "public.messages": ("differs", 520, 500),
        "public.settings": ("differs", 1, 1),
    }  # fmt: skip

    # What the steps set themselves is not to be set from outside.
    misled = project.run("rollback.yml", *DB, db_rollback_backup=backup, db_restore_backup="2026-01-01T00-00-00Z")
    assert misled.code != 0
    assert "rollback.yml sets it itself" in misled.output
    assert "pg_preflight" not in misled.results

    # The swap alone, while an application goes on writing: nothing is backed up or restored a second time.
    with Application(database) as application:
        done = project.run("rollback.yml", *DB, **asked, db_rollback_checks=["sequences", "indexes"])
        assert done.code == 0, done.output
        application.write_more()
    assert done.last("pg_backup")["state"] == "skipped"
    assert {each["state"] for each in done.results["pg_restore"]} == {"skipped"}
    assert database.one("SELECT count(*) FROM messages WHERE id < 1000") == 500
    previous = done.last("pg_swap")["previous"]
    assert f"-e db_rollback_undo={previous}" in done.output
    # Each row that was acknowledged is in one of the two.
    aside = replace(database, name=previous)
    kept = {row[0] for each in (database, aside) for row in each.run("SELECT id FROM messages WHERE id >= 1000")}
    assert application.written <= kept

    undone = project.run("rollback.yml", *DB, db_rollback_undo=previous)
    assert undone.code == 0, undone.output
    assert database.one("SELECT count(*) FROM messages WHERE id < 1000") == 520
    assert "canary-content" not in made.output + done.output + undone.output
    for record in project.records():
        assert "canary-content" not in (record / "journal.jsonl").read_text()


def test_what_cannot_be_done_is_refused_in_one_sentence(s3: S3, project: Project, database: Database, backup: str):
    """The module alone, because each refusal comes before any other step."""
    bucket = project.all_vars["backup_bucket"]
    options = database.login | s3.options(bucket) | {"prefix": "logical"}
    before = s3.client().list_objects_v2(Bucket=bucket)["KeyCount"]
    waiting = f"{database.name}_rollback_2026-11-20T03-00-00Z"
    for given, words in (
        ({"target_time": "2999-01-01T00:00:00Z"}, "lies in the future"),
        ({"backup": "2026-01-01T00-00-00Z"}, "there is no 2026-01-01T00-00-00Z; there are " + backup),
        ({"before": "2026-01-01T00:00:00Z"}, "no backup began before 2026-01-01 00:00:00 UTC"),
        ({"backup": backup, "replace": "app"}, f"what would be replaced is '{database.name}'"),
        ({"undo": "nothing"}, f"is no database that was swapped out for '{database.name}'; none is"),
        ({"backup": backup, "deadline_s": 0}, "deadline_s: 0 is out of bounds"),
    ):
        refused = run_module("pg_rollback_plan", options | given)
        assert refused.failed, given
        assert words in refused.result["msg"], given
        assert refused.result["status"] == "breach"
        assert not refused.result["changed"]
    marker = Marker("proven", database.name, "2026-11-20T03:10:00Z", backup_id="2026-11-20T03-00-00Z")
    database.run(f'CREATE DATABASE "{waiting}"', f"""COMMENT ON DATABASE "{waiting}" IS '{marker}'""")
    pending = run_module("pg_rollback_plan", options | {"backup": backup})
    assert f"A rollback is pending: {waiting}" in pending.result["msg"]
    assert f"-e db_rollback_backup=2026-11-20T03-00-00Z -e db_rollback_replace={database.name}" in pending.result["msg"]
    assert s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] == before


def test_what_cannot_be_read_is_unknown_or_named(s3: S3, project: Project, database: Database, backup: str):
    options = database.login | s3.options(project.all_vars["backup_bucket"])
    options |= {"prefix": "logical", "backup": backup}
    # A column of the application's own.
    database.run("ALTER TABLE settings ADD touched timestamp DEFAULT (clock_timestamp() AT TIME ZONE 'UTC')")
    named = run_module("pg_rollback_plan", options | {"timestamp_columns": ["touched", "created_at"]})
    losses = {each["table"]: each["newer_rows"] for each in named.result["losses"]}
    assert losses == {"public.messages": 0, "public.settings": 1}

    # A newer backup that is not complete is skipped, and not in silence.
    begun = f"logical/{database.name}/2099-01-01T00-00-00Z/"
    s3.client().put_object(Bucket=project.all_vars["backup_bucket"], Key=f"{begun}schema.zst", Body=b"half")
    newest = run_module("pg_rollback_plan", options | {"backup": "latest"})
    assert newest.result["backup_id"] == backup
    assert f"{begun} has no manifest" in str(newest.result["warnings"])

    # The owner of a database need not be the one of its tables.
    owner = f"owner_of_{database.name}"
    database.run(f"CREATE ROLE {owner} LOGIN CREATEDB", f"ALTER DATABASE {database.name} OWNER TO {owner}")
    try:
        # But it may not give the copy the mark, and that is said before there is a copy.
        refused = run_module("pg_rollback_plan", options | {"login_user": owner})
        assert f"{owner!r} may not set runbook.environment" in refused.result["msg"]
        database.run(f"ALTER DATABASE {database.name} RESET runbook.environment")
        planned = run_module("pg_rollback_plan", options | {"login_user": owner})
    finally:
        database.run(f"ALTER DATABASE {database.name} OWNER TO {database.user}", f"DROP ROLE {owner}")
    assert not planned.failed, planned.result["msg"]
    assert planned.result["unknown_tables"] == ["public.messages", "public.settings"]
    assert {each["reason"] for each in planned.result["losses"]} == {"this user may not read it"}

    # A table that nobody can read cannot be backed up either.
    with closing(database.connect()) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        locked = run_module("pg_rollback_plan", options)
        assert locked.failed
        pid = f"pg_terminate_backend({holder.get_backend_pid()})"
        assert "public.messages is locked against reading" in locked.result["msg"]
        assert pid in locked.result["msg"]


def test_at_supabase_the_project_is_replaced_in_place(s3: S3, project: Project, database: Database):
    """Its own backups bring it back; without the project's reference typed out the plan ends before that."""
    moment = database.one("SELECT (clock_timestamp() - interval '10 min')::text")
    options = database.login | s3.options(project.all_vars["backup_bucket"])
    options |= {"target_time": moment, "project_ref": REF}
    planned = run_module("pg_rollback_plan", options)
    steps = [step for step, todo in planned.result["steps"].items() if todo]
    assert steps == ["snapshot", "supabase"]
    assert "-e db_rollback_replace=<reference of the project>" in planned.result["next_step"]
    with FakeSupabase() as api:
        project.hosts["db"] |= {
            "supabase_project_ref": REF, "supabase_project_name": "mental-scribe", "supabase_access_token": TOKEN,
            "supabase_api_url": api.url, "supabase_restore_poll_s": 0.1,
        }  # fmt: skip
        done = project.run("rollback.yml", *DB, db_rollback_target_time=moment, db_rollback_replace=REF)
        assert done.code == 0, done.output
        # Looked at, backed up, then asked for once.
        assert len([each for each in api.requests if each.startswith("POST")]) == 1
    assert done.results["pg_backup"][0]["backup_id"]
    assert [each["state"] for each in done.results["supabase_restore"]] == ["changed", "changed"]
    assert TOKEN not in done.output
