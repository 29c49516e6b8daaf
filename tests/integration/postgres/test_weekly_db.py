"""The whole weekly playbook, run as an operator runs it, against a real server."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster
from conftest import ROOT, Database, a_window, free_port, job

from playbooks import Ended, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 18_000  # one every 864 seconds, so 180 days of records
OLD = 9_000  # of which 90 days are to be moved

APPLICATION = (
    "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, detail jsonb)",
    "CREATE INDEX ON public.audit_log (created_at)",
    "CREATE TABLE public.conversations (id bigint PRIMARY KEY, title text)",
    "CREATE TABLE public.messages (id bigint PRIMARY KEY, conversation_id bigint REFERENCES conversations, body text)",
    "INSERT INTO audit_log SELECT i, now() - make_interval(secs => (i - 0.5) * 864) FROM generate_series(1, 18000) i",
    "UPDATE audit_log SET detail = jsonb_build_object('n', id)",
    "INSERT INTO public.conversations SELECT i, 'c' FROM generate_series(1, 100) i",
    "INSERT INTO public.messages SELECT i, 1 + i % 100, repeat('x', 100) FROM generate_series(1, 5000) i",
    "DELETE FROM public.messages WHERE id % 3 = 0",
)


@pytest.fixture
def application(database: Database) -> Database:
    database.run(*APPLICATION)
    return database


@pytest.fixture
def project(application: Database, tmp_path: Path) -> Project:
    return Project.for_database(tmp_path, application)


def contents(database: Database) -> str:
    """A hash over every table of people, its columns, and what there is of schemas."""
    digest = hashlib.sha256()
    tables = database.run(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )
    for (table,) in tables:
        rows = database.one(f"SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM {table} t")
        digest.update(f"{table} {rows}".encode())
    digest.update(str(database.run("SELECT nspname FROM pg_namespace ORDER BY 1")).encode())
    return digest.hexdigest()


def written(database: Database) -> tuple[Any, ...]:
    """What moves when anything is written: transactions that got an id, and files of tables and indexes."""
    transactions = database.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    return transactions, tuple(database.run("SELECT oid, relfilenode, relpages, reltuples FROM pg_class ORDER BY 1"))


def ids(database: Database) -> list[int]:
    """Keys of all records, wherever they are."""
    return [
        row[0] for row in database.run("SELECT id FROM audit_log UNION ALL SELECT id FROM audit_log_archive ORDER BY 1")
    ]


def red(ended: Ended, says: str) -> None:
    assert ended.code != 0, ended.output
    assert says in " ".join(ended.output.split()), ended.output


def lease_is_free(database: Database) -> bool:
    return database.one("SELECT to_regclass('runbook.lease')") is None or not database.run(
        "SELECT 1 FROM runbook.lease"
    )


def test_dry_run_real_run_second_run(application, project):
    before, untouched = contents(application), written(application)
    dry = project.run("weekly_db.yml", "--check", "--diff")
    assert dry.code == 0, dry.output
    assert contents(application) == before
    assert written(application) == untouched

    real = project.run("weekly_db.yml", "--diff")
    assert real.code == 0, real.output
    moved = real.last("pg_archive")
    assert moved["moved_rows"] == OLD
    assert moved["remaining_rows"] == 0
    assert ids(application) == list(range(1, ROWS + 1))
    assert application.one("SELECT count(*) FROM audit_log_archive") == OLD
    assert application.one("SELECT min(created_at) > now() - interval '90 days 1 hour' FROM audit_log")
    assert lease_is_free(application)

    # The plan of the dry run is what the real run then did.
    planned = dry.last("pg_archive")
    assert planned["planned_rows"] == moved["planned_rows"] == OLD
    assert planned["moved_rows"] == 0
    assert planned["plan"]["strategy"] == moved["plan"]["strategy"]
    assert planned["changed"] is moved["changed"] is True
    wanted = {table["table"]: table["action"] for table in dry.last("pg_vacuum")["tables"]}
    done = {table["table"]: table["action"] for table in real.last("pg_vacuum")["tables"] if table["state"] == "done"}
    assert wanted["public.messages"] == done["public.messages"] == "vacuum_analyze"
    assert wanted["public.audit_log"] == done["public.audit_log"] == "vacuum_analyze"
    assert set(wanted) <= set(done)
    # What the real run made in between: not the lease's table, which preflight made.
    assert set(done) - set(wanted) == {"public.audit_log_archive"}
    assert real.last("pg_vacuum")["considered_tables"] == dry.last("pg_vacuum")["considered_tables"] + 1
    assert dry.last("pg_preflight")["executed_queries"] == real.last("pg_preflight")["executed_queries"]
    for shown in ("public.audit_log_archive", "public.messages"):
        assert shown in dry.output

    after = contents(application)
    again = project.run("weekly_db.yml")
    assert again.code == 0, again.output
    assert again.last("pg_archive")["moved_rows"] == 0
    assert [task["module"] for task in changed_tasks(again)] == []
    assert contents(application) == after

    everything = project.run("weekly_db.yml", db_maintenance_vacuum_mode="all")
    assert everything.code == 0, everything.output
    assert everything.last("pg_vacuum")["mode"] == "all"


def changed_tasks(ended: Ended) -> list[dict[str, Any]]:
    return [
        result | {"module": module} for module, all_ in ended.results.items() for result in all_ if result["changed"]
    ]


def test_a_failed_archive_stays_red_and_the_vacuum_runs_all_the_same(application, project):
    """The cap is below what is due: nothing moves, the tables are vacuumed, the host is red, the lease is free."""
    ended = project.run("weekly_db.yml", db_maintenance_archive_max_rows=OLD - 1)
    red(ended, "max_rows")
    assert ended.last("pg_archive")["state"] == "failed"
    assert ended.last("pg_vacuum")["state"] == "changed"
    assert ended.last("pg_lease")["released"] is True
    assert application.one("SELECT count(*) FROM audit_log") == ROWS
    assert lease_is_free(application)
    assert json.loads((ended.record / "record.json").read_text())["status"] != "ok"


def test_a_wrong_table_or_column_is_named(application, project):
    before = contents(application)
    right = project.hosts.pop("db")
    project.hosts["table"] = right | {"db_maintenance_audit_source": "public.audit"}
    project.hosts["column"] = right | {"db_maintenance_audit_timestamp_column": "created"}
    ended = project.run("weekly_db.yml", "--check")
    said = {result["host"]: result for result in ended.results["pg_archive"]}
    red(ended, said["table"]["msg"])
    assert "public.audit" in said["table"]["msg"]
    assert "created" in said["column"]["msg"]
    assert {result["state"] for result in said.values()} == {"failed"}
    assert [result["state"] for result in ended.results["pg_vacuum"]] == ["changed", "changed"]
    assert contents(application) == before


def test_a_table_that_somebody_keeps_locked_is_waited_for_in_bounds(application, project):
    other = application.connect()
    other.autocommit = False
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE public.audit_log IN ACCESS EXCLUSIVE MODE")
    ended = project.run("weekly_db.yml", db_maintenance_archive_deadline_s=5, db_maintenance_vacuum_lock_timeout_ms=500)
    red(ended, "audit_log")
    assert "locked by somebody else" in ended.last("pg_archive")["msg"]
    tables = {table["table"]: table["state"] for table in ended.last("pg_vacuum")["tables"]}
    assert tables["public.messages"] == "done"
    assert tables["public.audit_log"] == "locked"
    other.close()
    assert lease_is_free(application)
    healed = project.run("weekly_db.yml")
    assert healed.code == 0, healed.output
    assert ids(application) == list(range(1, ROWS + 1))


def test_one_of_two_databases_is_refused_and_the_other_is_done(application, project):
    """A refused host is red, gets no vacuum and no release, and holds nobody else back."""
    project.hosts["stranger"] = project.hosts["db"] | {"preflight_system_identifier": "42"}
    ended = project.run("weekly_db.yml")
    red(ended, "the inventory means cluster 42")
    modules = {
        module: [result["host"] for result in all_ if result["state"] != "skipped"]
        for module, all_ in ended.results.items()
    }
    assert modules["pg_archive"] == modules["pg_vacuum"] == modules["pg_lease"] == ["db"]
    assert application.one("SELECT count(*) FROM audit_log_archive") == OLD


def test_limit(project):
    project.hosts["stranger"] = project.hosts["db"] | {"preflight_system_identifier": "42"}
    ended = project.run("weekly_db.yml", "--check", "--limit", "db")
    assert ended.code == 0, ended.output


def test_no_host_matched_is_red(project):
    red(project.run("weekly_db.yml", "--limit", "db:!db"), "")
    project.hosts.clear()
    red(project.run("weekly_db.yml"), "")


def test_two_inventories_are_refused(project, tmp_path):
    second = tmp_path / "second.yml"
    second.write_text("all: {vars: {runbook_environment: sandbox}}\n")
    ended = project.run("weekly_db.yml", "-i", str(second))
    red(ended, "2 inventories were named")
    assert "pg_archive" not in ended.results
    assert "pg_vacuum" not in ended.results


def test_a_journal_that_cannot_be_written_stops_the_run(application, project, tmp_path):
    before = contents(application)
    blocked = tmp_path / "file"
    blocked.touch()
    ended = project.run("weekly_db.yml", environ={"RUNBOOK_RUNS_DIR": str(blocked / "runs")})
    red(ended, "The run's record cannot be written")
    assert contents(application) == before


def test_production_by_hand_and_by_schedule(application, project):
    project.all_vars["runbook_environment"] = "production"
    application.mark("production")
    project.all_vars["schedule_jobs"] = {"weekly-maintenance": job("weekly_db.yml")}
    red(project.run("weekly_db.yml"), "add -e confirm=production")
    assert application.one("SELECT count(*) FROM audit_log") == ROWS
    project.all_vars["maintenance_calendar"] = a_window(1, 2)
    by_hand = project.run("weekly_db.yml", "--check", "-e", "confirm=production")
    assert by_hand.code == 0, by_hand.output
    assert "A real run would be refused now" in " ".join(by_hand.output.split())
    red(project.run("weekly_db.yml", "-e", "preflight_job=weekly-maintenance"), "the next window begins")
    assert application.one("SELECT count(*) FROM audit_log") == ROWS
    project.all_vars["maintenance_calendar"] = a_window(-1, 1)
    scheduled = project.run("weekly_db.yml", "-e", "preflight_job=weekly-maintenance")
    assert scheduled.code == 0, scheduled.output
    assert "Maintenance window" in (scheduled.record / "report.md").read_text()
    project.all_vars["maintenance_calendar"] = a_window(1, 2)
    urgent = project.run("weekly_db.yml", confirm="production", window_override="the disk is full")
    assert urgent.code == 0, urgent.output
    for told in (urgent.output, (urgent.record / "report.md").read_text(), (urgent.record / "record.json").read_text()):
        assert "the disk is full" in " ".join(told.split())
    assert application.one("SELECT count(*) FROM audit_log_archive") == OLD


def test_names_with_quotes_and_semicolons(application, project):
    application.run(
        """ALTER TABLE public.audit_log RENAME TO "odd'"" name; DROP TABLE messages; --" """,
        """ALTER TABLE public."odd'"" name; DROP TABLE messages; --" RENAME COLUMN created_at TO "at""; --" """,
    )
    ended = project.run(
        "weekly_db.yml",
        db_maintenance_audit_source="""public."odd'"" name; DROP TABLE messages; --" """.strip(),
        db_maintenance_audit_archive='public."its archived"'.replace("its", "it's"),
        db_maintenance_audit_timestamp_column='at"; --',
    )
    assert ended.code == 0, ended.output
    assert ended.last("pg_archive")["moved_rows"] == OLD
    assert application.one("""SELECT count(*) FROM "it's archived" """) == OLD
    assert application.one("SELECT to_regclass('public.messages') IS NOT NULL")


CANARY = "c4n4ry-p4ssw0rd"


@pytest.fixture
def guarded(cluster: Cluster, tmp_path: Path) -> Iterator[Project]:
    """A server of its own that asks for a password, and a database on it to maintain."""
    made = Cluster(cluster.bindir, tmp_path / "pg" / "data", free_port())
    made.init(password=CANARY)
    made.start(fsync="off")
    target: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": made.port,
        "user": made.superuser,
        "dbname": "postgres",
        "password": CANARY,
    }
    connection = psycopg2.connect(**target)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in (*APPLICATION, "ALTER DATABASE postgres SET runbook.environment = 'sandbox'"):
            cursor.execute(statement)
        cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
        host = {"db_login_host": "127.0.0.1", "db_login_port": made.port, "db_login_user": made.superuser}
        host |= {"db_login_db": "postgres", "db_login_password": CANARY}
        host["preflight_system_identifier"] = cursor.fetchone()[0]
    connection.close()
    common = {"runbook_environment": "sandbox", "db_ssl_mode": "prefer", "ansible_connection": "local"}
    common["ansible_python_interpreter"] = "{{ ansible_playbook_python }}"
    yield Project(tmp_path, {"db": host}, common)
    made.stop("immediate")


def holds(ended: Ended, secret: str) -> list[str]:
    """Where a secret can be read after a run: its output and every file of its record."""
    assert ended.record is not None
    places = {str(path): path.read_text(errors="replace") for path in ended.record.rglob("*") if path.is_file()}
    return [place for place, text in (places | {"output": ended.output}).items() if secret in text]


def test_a_password_is_shown_nowhere_whether_right_or_wrong(guarded):
    right = guarded.run("weekly_db.yml", "-vvv", "--diff")
    assert right.code == 0, right.output
    assert right.last("pg_archive")["moved_rows"] == OLD
    assert holds(right, CANARY) == []

    wrong = CANARY + "-wrong"
    guarded.hosts["db"]["db_login_password"] = wrong
    refused = guarded.run("weekly_db.yml", "-vvv", "--diff")
    red(refused, "wrong user or password; check db_login_user and db_login_password")
    assert "check login_user" not in refused.output
    assert holds(refused, wrong) == []
    # The journal knows the refusal and nothing after it.
    assert "pg_archive" not in refused.results


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_inventories_to_be_copied(environment, tmp_path):
    """Secrets can be decrypted with the documented password; what is not filled in is refused."""
    password = tmp_path / "password"
    password.write_text("example-only")
    assert "`example-only`" in (ROOT / "inventories" / "README.md").read_text()
    done = subprocess.run(
        [
            "ansible", "-i", f"inventories/{environment}", "--vault-id", f"{environment}@{password}", "databases",
            "-m", "ansible.builtin.debug", "-a", "msg={{ [db_login_password, db_roles_admin_password, db_ssl_mode] }}",
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"example-bastion-{environment}" in done.stdout
    assert f"example-admin-{environment}" in done.stdout
    assert "verify-full" in done.stdout
