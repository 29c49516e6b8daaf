"""The SQL roles: weekly_db runs with runbook_maintain, and nobody may do more than that."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psycopg2
import psycopg2.errors
import pytest
from ansible.module_utils.runbook.drivers.postgres import postgres, roles
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.postgres.roles import HAS_LARGE_OBJECT_DEFAULTS
from conftest import Database, run_module

from playbooks import Project

#: A schema as Mental Scribe has it: the application owns its tables.
APPLICATION = (
    "CREATE ROLE app NOLOGIN",
    "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, action text)",
    "CREATE INDEX ON public.audit_log (created_at)",
    "CREATE TABLE public.audit_log_archive (LIKE public.audit_log INCLUDING INDEXES, archived_at timestamptz)",
    "CREATE TABLE public.messages (id bigint PRIMARY KEY, content text)",
    'CREATE SCHEMA "Odd ""schema"""',
    'CREATE TABLE "Odd ""schema""".notes (id bigint)',
    "INSERT INTO audit_log SELECT i, now() - make_interval(hours => 24 * i - 12), 'x' FROM generate_series(1, 180) i",
    "INSERT INTO public.messages SELECT i, 'secret' FROM generate_series(1, 1000) i",
    "DELETE FROM public.messages WHERE id <= 500",
    "ALTER TABLE public.audit_log OWNER TO app",
    "ALTER TABLE public.audit_log_archive OWNER TO app",
    "ALTER TABLE public.messages OWNER TO app",
    'ALTER TABLE "Odd ""schema""".notes OWNER TO app',
)
USERS = {"bastion_m": "maintain", "bastion_r": "read", "bastion_b": "backup", "bastion_x": "restore"}
SANDBOX = {"environment": "sandbox"}
CANARY = "c4n4ry-p4ssw0rd"
ARCHIVES = [{"source": "public.audit_log", "archive": "public.audit_log_archive"}]
GROUPS = ["runbook_read", "runbook_maintain", "runbook_backup", "runbook_restore"]
ROLES = [*GROUPS, *USERS, "app"]


@pytest.fixture
def application(database: Database):
    """The application's tables; the roles are gone afterwards, because they belong to the whole cluster."""
    database.run(*APPLICATION)
    yield database
    database.run(f"ALTER DATABASE {database.name} OWNER TO {database.user}")
    for role in ROLES:
        if database.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):
            database.run(f"DROP OWNED BY {role} CASCADE")
    for role in ROLES:
        database.run(f"DROP ROLE IF EXISTS {role}")


def login(database: Database, user: str):
    connection = psycopg2.connect(host=database.host, port=database.port, dbname=database.name, user=user)
    connection.autocommit = True
    return connection


def may(database: Database, user: str, statement: str) -> bool:
    """Whether the server lets the user run the statement."""
    connection = login(database, user)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.errors.InsufficientPrivilege:
        return False
    finally:
        connection.close()
    return True


def login_count(database: Database, user: str, table: str) -> int:
    """Rows of a table that the user sees."""
    connection = login(database, user)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            return int(cursor.fetchone()[0])
    finally:
        connection.close()


def project(folder, database):
    users = [{"name": name, "role": role, "password": CANARY} for name, role in USERS.items()]
    return Project.for_database(
        folder,
        database,
        db_roles_admin_user=database.user,
        db_roles_users=users,
        db_roles_archives=ARCHIVES,
    )


def test_weekly_db_runs_as_maintain_and_may_no_more(application, tmp_path):
    database = application
    modern = database.one("SELECT current_setting('server_version_num')::int") >= 170000
    made = project(tmp_path, database)

    dry = made.run("db_roles.yml", "--check", "--diff")
    assert dry.code == 0, dry.output
    assert database.run("SELECT 1 FROM pg_roles WHERE rolname LIKE 'runbook%' OR rolname LIKE 'bastion%'") == []
    assert database.one("SELECT to_regnamespace('runbook')") is None
    assert 'GRANT USAGE ON SCHEMA "Odd ""schema""" TO "runbook_maintain"' in dry.output

    # The names of the inventory do not exist yet; the playbook logs in as the administrator.
    made.hosts["db"] |= {"db_login_user": "bastion_m"}
    real = made.run("db_roles.yml", "-vvv")
    assert real.code == 0, real.output
    assert CANARY not in real.output
    assert CANARY not in (real.record / "record.json").read_text()
    assert "SCRAM-SHA-256" not in real.output
    planned, done = dry.last("pg_roles"), real.last("pg_roles")
    # The dry run also plans the lease's table, which the real run's preflight made.
    assert [query for query in planned["executed_queries"] if "runbook.lease" not in query][1:] == done[
        "executed_queries"
    ]
    assert done["created_roles"] == [*GROUPS, *USERS]
    assert made.run("db_roles.yml").last("pg_roles")["changed"] is False
    stored = database.one("SELECT rolpassword FROM pg_authid WHERE rolname = 'bastion_m'")
    assert stored.startswith("SCRAM-SHA-256$")

    # The weekly run as the least user.
    weekly = made.run("weekly_db.yml", db_maintenance_vacuum_tables=["public.messages"])
    assert weekly.code == 0, weekly.output
    assert weekly.last("pg_archive")["moved_rows"] == 90
    assert weekly.last("pg_vacuum")["not_permitted"] == []
    assert database.one("SELECT count(*) FROM audit_log") == 90
    assert database.one("SELECT count(*) FROM audit_log_archive") == 90
    assert database.one("SELECT last_vacuum IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'messages'")

    beat = run_module("pg_heartbeat", database.login | {"login_user": "bastion_m"})
    assert not beat.failed, beat.result["msg"]
    for statement in (
        "UPDATE audit_log SET action = 'forged'", "UPDATE audit_log_archive SET action = 'forged'",
        "DELETE FROM audit_log_archive", "TRUNCATE audit_log", "DROP TABLE audit_log", "SELECT * FROM messages",
        "DELETE FROM messages", "CREATE SCHEMA mine", "DROP TABLE runbook.lease", "DROP SCHEMA runbook",
        "UPDATE runbook.heartbeat SET beat_at = now()", "CREATE ROLE mine", "CREATE DATABASE mine",
        "ALTER ROLE bastion_m CREATEDB",
    ):  # fmt: skip
        # Before PostgreSQL 17 whoever may vacuum a table owns it, and may do all of this to it.
        owned = not modern and any(table in statement for table in ("audit_log", "messages", "runbook."))
        if not owned:
            assert not may(database, "bastion_m", statement), statement
    if not modern:
        assert any("has to be a member of app, and" in text for text in real.output.splitlines())

    assert may(database, "bastion_r", "SELECT * FROM runbook.lease")
    for statement in (
        "DELETE FROM runbook.lease", "UPDATE runbook.lease SET run_id = 'mine'", "SELECT * FROM messages",
        "SELECT * FROM audit_log", "INSERT INTO audit_log_archive SELECT *, now() FROM audit_log",
        "DELETE FROM audit_log", "CREATE TABLE runbook.mine ()", "DELETE FROM runbook.heartbeat",
    ):  # fmt: skip
        assert not may(database, "bastion_r", statement), statement

    assert may(database, "bastion_x", "CREATE DATABASE restored")
    assert may(database, "bastion_x", "DROP DATABASE restored")
    # What is restored is given to those who own it, so it may do what they may, and no more.
    assert may(database, "bastion_x", "SELECT * FROM messages")
    for statement in (
        "ALTER DATABASE postgres RENAME TO gone",
        "CREATE ROLE another",
        "ALTER SYSTEM SET work_mem = 64",
    ):
        assert not may(database, "bastion_x", statement), statement
    victim = login(database, "bastion_r")
    assert may(database, "bastion_x", f"SELECT pg_terminate_backend({victim.info.backend_pid}, 5000)")


def test_what_a_password_is_checked_with_stays_in_no_log(sound_cluster, sound_database):
    """Neither in the server's log nor in its statistics, though both keep every statement; a dry run sends it not."""
    database = sound_database
    database.run(
        "CREATE EXTENSION pg_stat_statements",
        *(
            f"ALTER DATABASE {database.name} SET {name} = {value}"
            for name, value in {
                "log_statement": "'all'",
                "log_min_duration_statement": 0,
                "log_transaction_sample_rate": 1,
                "pg_stat_statements.track": "'all'",
            }.items()
        ),
    )
    options = SANDBOX | database.login | {"users": [{"name": "bastion_r", "role": "read", "password": CANARY}]}
    log = sound_cluster.data.parent / "server.log"
    known = log.stat().st_size
    try:
        dry, real = (run_module("pg_roles", options, check=check) for check in (True, False))
        assert not real.failed, real.result["msg"]
        assert dry.result["executed_queries"] == real.result["executed_queries"]
        written = log.read_bytes()[known:].decode()
        assert 'CREATE ROLE "bastion_r"' in written
        assert 'GRANT "runbook_read" TO "bastion_r"' in written
        assert "SCRAM-SHA-256" not in written
        kept = "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%SCRAM-SHA-%' AND query NOT LIKE '%count%'"
        assert database.one(kept) == 0
        assert database.one("SELECT rolpassword FROM pg_authid WHERE rolname = 'bastion_r'").startswith(
            "SCRAM-SHA-256$"
        )
    finally:
        for role in ("bastion_r", *GROUPS):
            if database.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):
                database.run(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_backup_runs_as_backup_and_may_no_more(application, s3):
    """Rows that a policy hides are in the backup too; the user of the backup changes none."""
    database = application
    database.run(
        "ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON public.messages USING (false)",
    )
    options = SANDBOX | database.login | {"users": [{"name": "bastion_b", "role": "backup"}]}
    assert not run_module("pg_roles", options).failed
    assert run_module("pg_roles", options).result["changed"] is False
    made = run_module(
        "pg_backup", database.login | s3.options(s3.bucket()) | {"login_user": "bastion_b", "environment": "sandbox"}
    )
    assert not made.failed, made.result["msg"]
    assert made.result["rows"] == 180 + 500 + len(["the lease"])

    for statement in (
        "DELETE FROM public.messages", "UPDATE audit_log SET action = 'forged'", "TRUNCATE audit_log",
        "CREATE SCHEMA mine", "CREATE DATABASE mine", "DROP TABLE runbook.lease",
    ):  # fmt: skip
        assert not may(database, "bastion_b", statement), statement
    # What the application makes later is closed before PostgreSQL 18; it is said before anything is dumped.
    database.run("SET ROLE app; SELECT lo_create(4711)")
    asked = database.login | s3.options(s3.bucket()) | {"login_user": "bastion_b", "environment": "sandbox"}
    planned = run_module("pg_backup", asked, check=True)
    if database.one("SELECT current_setting('server_version_num')::int") < HAS_LARGE_OBJECT_DEFAULTS:
        assert "1 large object of app may not be read by user 'bastion_b'" in planned.result["msg"]
        assert "run playbooks/db_roles.yml again" in planned.result["msg"]
        assert run_module("pg_backup", asked).result["msg"] == planned.result["msg"]
        assert "GRANT SELECT ON LARGE OBJECT" in str(run_module("pg_roles", options).result["executed_queries"])
        planned = run_module("pg_backup", asked, check=True)
    assert not planned.failed, planned.result["msg"]
    assert run_module("pg_roles", options).result["changed"] is False
    database.run("SELECT lo_unlink(4711)")

    # Of somebody else, and older than the roles.
    database.run("SELECT lo_create(4712)")
    assert "1 large object of postgres" in run_module("pg_backup", asked, check=True).result["msg"]
    assert len(run_module("pg_roles", options, check=True).result["executed_queries"]) == 1
    assert len(run_module("pg_roles", options).result["executed_queries"]) == 1
    assert not run_module("pg_backup", asked, check=True).failed
    assert run_module("pg_roles", options).result["changed"] is False
    database.run("SELECT lo_unlink(4712)")

    database.run("ALTER ROLE bastion_b NOBYPASSRLS")
    assert run_module("pg_roles", options).result["executed_queries"] == ['ALTER ROLE "bastion_b" BYPASSRLS']


@pytest.mark.parametrize("forced", ["", ", FORCE ROW LEVEL SECURITY"])
def test_rows_under_row_level_security_are_moved_and_no_more_is_open(application, forced):
    """The policy opens the source and its archive to the one role, and only them."""
    database = application
    for table in ("audit_log", "audit_log_archive", "messages"):
        database.run(
            f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY{forced}",
            f"CREATE POLICY few ON public.{table} USING (id < 3)",
        )
    move = {"source": "public.audit_log", "archive": "public.audit_log_archive", "timestamp_column": "created_at"}
    move |= database.login | {"login_user": "bastion_m", "older_than_days": 90}
    options = SANDBOX | database.login | {"archives": ARCHIVES, "users": [{"name": "bastion_m", "role": "maintain"}]}
    assert not run_module("pg_roles", options).failed
    moved = run_module("pg_archive", move)
    assert not moved.failed, moved.result["msg"]
    assert (moved.result["moved_rows"], database.one("SELECT count(*) FROM audit_log_archive")) == (90, 90)
    assert run_module("pg_roles", options).result["changed"] is False
    assert database.one("SELECT rolbypassrls FROM pg_roles WHERE rolname = 'bastion_m'") is False
    # Before 17 it has the owner's rights, and who owns a table may look past its policies.
    if forced or database.one("SELECT current_setting('server_version_num')::int") >= 170000:
        database.run("GRANT SELECT ON messages TO PUBLIC")
        assert login_count(database, "bastion_m", "messages") < 3
        # A policy that restricts takes rows away again.
        database.run("CREATE POLICY less ON public.audit_log AS RESTRICTIVE USING (id < 3)")
        assert "one that restricts" in run_module("pg_archive", move).result["msg"]


#: Notes of the application, each with versions; both under row-level security that is forced upon their owner.
NOTES = (
    "CREATE TABLE public.notes (id bigint PRIMARY KEY, code text UNIQUE NOT NULL, body text, deleted_at timestamptz)",
    "CREATE TABLE versions (id bigint PRIMARY KEY, body text, note text REFERENCES notes (code) ON DELETE CASCADE)",
    "INSERT INTO notes SELECT n, n::text, 'secret', now() - n * interval '1 day' FROM generate_series(1, 60) n",
    "INSERT INTO versions SELECT n, 'secret', n::text FROM generate_series(1, 60) n",
    *(
        statement.format(table)
        for table in ("notes", "versions")
        for statement in (
            "ALTER TABLE {0} OWNER TO app", "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "CREATE POLICY mine ON {0} USING (false)",
        )
    ),
)  # fmt: skip
OVER = {"table": "public.notes", "column": "deleted_at", "older_than_days": 30}


def test_a_cleanup_by_maintain_deletes_all_that_is_over_and_reads_no_text(application):
    """Of tables that it does not own and whose rows policies hide, those included that a foreign key takes along."""
    database = application
    database.run(*NOTES)
    options = SANDBOX | database.login | {"cleanup_rules": [OVER], "users": [{"name": "bastion_m", "role": "maintain"}]}
    for wrong, says in (
        ({"column": "deletd_at"}, "cleanup_rules: public.notes: there is no column 'deletd_at'; did you mean deleted"),
        ({"table": "auth.users"}, "cleanup_rules: auth.users stands in schema 'auth'"),
    ):
        assert says in run_module("pg_roles", options | {"cleanup_rules": [OVER | wrong]}).result["msg"]
    # Somebody else's table: its owner is told what to run, and the rest is done.
    foreign = [OVER, {"table": "public.theirs", "column": "gone_at", "older_than_days": 1}]
    database.run(
        "CREATE TABLE theirs (id bigint PRIMARY KEY, gone_at timestamptz)", "ALTER ROLE app LOGIN CREATEROLE CREATEDB"
    )
    database.run(f"ALTER DATABASE {database.name} OWNER TO app")
    as_owner = run_module("pg_roles", options | {"cleanup_rules": foreign, "login_user": "app"}, check=True).result
    grant = 'GRANT SELECT ("gone_at", "id") ON TABLE "public"."theirs" TO "runbook_maintain"'
    assert "app has not the rights of postgres, who owns public.theirs" in str(as_owner.get("warnings")), as_owner
    assert grant in str(as_owner["warnings"])
    assert not any("theirs" in each for each in as_owner.get("executed_queries", [])), as_owner
    assert not run_module("pg_roles", options | {"cleanup_rules": []}).failed
    clean = database.login | {"login_user": "bastion_m", "rules": [OVER]}
    refused = run_module("pg_cleanup", clean)
    assert "row security hides rows from 'bastion_m'" in refused.result["msg"]
    assert "run playbooks/db_roles.yml" in refused.result["msg"]
    planned = run_module("pg_roles", options, check=True).result["executed_queries"]
    assert run_module("pg_roles", options).result["executed_queries"] == planned
    assert run_module("pg_roles", options).result["changed"] is False
    before_17 = database.one("SELECT current_setting('server_version_num')::int") < 170000
    if not before_17:
        assert 'GRANT SELECT ("code", "deleted_at", "id") ON TABLE "public"."notes" TO "runbook_maintain"' in planned
        for statement in ("SELECT body FROM notes", "SELECT body FROM versions", "DELETE FROM versions",
                          "UPDATE notes SET deleted_at = now()", "TRUNCATE notes"):  # fmt: skip
            assert not may(database, "bastion_m", statement), statement
    dry, done = run_module("pg_cleanup", clean, check=True).result, run_module("pg_cleanup", clean).result
    assert (dry["planned_rows"], dry["cascaded_rows"], done["deleted_rows"]) == (31, 31, 31), done["msg"]
    assert "CREATE INDEX CONCURRENTLY ON public.versions (note)" in str(done["warnings"])
    assert database.run("SELECT count(*), max(id) FROM notes") == [(29, 29)]
    assert database.one("SELECT count(*) FROM versions") == 29


def test_the_fix_of_a_role_that_made_the_archive_itself(application):
    """Whoever archived first owns the archive; then a membership in the owners would be a circle."""
    database = application
    options = SANDBOX | database.login | {"archives": ARCHIVES, "users": [{"name": "bastion_m", "role": "maintain"}]}
    assert not run_module("pg_roles", options | {"archives": []}).failed
    database.run("ALTER TABLE audit_log_archive OWNER TO bastion_m", "ALTER TABLE messages OWNER TO bastion_m")
    dry = run_module("pg_roles", options, check=True)
    assert not dry.failed, dry.result["msg"]
    real = run_module("pg_roles", options)
    assert not real.failed, real.result["msg"]
    assert real.result["executed_queries"] == dry.result["executed_queries"]
    assert 'ALTER TABLE "public"."audit_log_archive" OWNER TO "app"' in real.result["executed_queries"]
    assert run_module("pg_roles", options).result["changed"] is False


def test_a_role_that_was_there_gets_what_it_lacks(application):
    """NOINHERIT keeps a membership's rights away, NOLOGIN the user, a past date everybody."""
    database = application
    database.run(
        "CREATE ROLE runbook_maintain NOLOGIN NOINHERIT",
        "CREATE ROLE bastion_m NOLOGIN NOINHERIT CREATEROLE BYPASSRLS",
        "CREATE ROLE bastion_x LOGIN VALID UNTIL '2001-01-01'",
    )
    users = [{"name": "bastion_m", "role": "maintain"}, {"name": "bastion_x", "role": "restore"}]
    options = SANDBOX | database.login | {"archives": ARCHIVES, "users": users}
    made = run_module("pg_roles", options)
    assert not made.failed, made.result["msg"]
    said = " ".join(map(str, made.result["warnings"]))
    assert 'ALTER ROLE "bastion_m" NOCREATEROLE NOBYPASSRLS' in said
    assert "its VALID UNTIL has passed; ALTER ROLE bastion_x VALID UNTIL 'infinity'" in said
    assert may(database, "bastion_m", "SELECT * FROM runbook.lease")
    assert may(database, "bastion_m", "DELETE FROM audit_log WHERE id = 0")
    assert database.one("SELECT rolcreatedb FROM pg_roles WHERE rolname = 'bastion_x'")
    assert run_module("pg_roles", options).result["changed"] is False


def test_no_application_waits_behind_a_dry_run_and_a_real_one_gives_way(application, monkeypatch):
    """A policy needs a table alone, and whoever asks for the table behind it waits as well."""
    database = application
    database.run("ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY")
    options = SANDBOX | database.login | {"archives": ARCHIVES}
    with contextlib.closing(database.connect()) as reader, reader.cursor() as cursor:
        cursor.execute("BEGIN; SELECT count(*) FROM audit_log")
        dry = run_module("pg_roles", options, check=True)
        assert not dry.failed, dry.result["msg"]
        assert "Not tried, since it locks a table that is in use: CREATE POLICY" in str(dry.result["warnings"])

        monkeypatch.setattr(roles, "ATTEMPTS", 2)
        monkeypatch.setattr(roles, "PAUSE_S", 0.0)
        target = postgres.Target(database.host, database.port, database.name, database.user, None)
        policy = f"CREATE POLICY late ON {ARCHIVES[0]['source']}"
        # What locks a table comes last, and where that is in vain nothing is left of the rest.
        steps = [roles.Step(policy, shuts=True), roles.Step("CREATE TABLE public.early ()")]
        with postgres.Session(target, lock_timeout_ms=100, statement_timeout_ms=30_000) as session:
            with pytest.raises(RunbookError, match="another session keeps what CREATE POLICY late"):
                roles.apply(session, steps, keep=True)
            assert database.one("SELECT to_regclass('public.early')") is None
            # It gives way, and comes when the reader has gone.
            monkeypatch.setattr(roles, "time", SimpleNamespace(sleep=lambda _s: cursor.execute("ROLLBACK")))
            done, _ = roles.apply(session, steps, keep=True)
            assert done == ["CREATE TABLE public.early ()", policy]
    database.run("DROP TABLE public.early")
    made = run_module("pg_roles", options)
    assert not made.failed, made.result["msg"]
    assert made.result["executed_queries"] == dry.result["executed_queries"]


def test_what_subscribers_need_is_said(application):
    """Who follows a publication FOR ALL TABLES stops at the first row of a table that it lacks."""
    application.run("CREATE PUBLICATION every FOR ALL TABLES")
    with application.following("told"):
        made = run_module("pg_roles", SANDBOX | application.login | {"archives": ARCHIVES}, check=True)
    said = " ".join(map(str, made.result["warnings"]))
    assert "every publishes every table, runbook.heartbeat, public.audit_log_archive among them" in said


def test_a_dry_run_meets_the_refusals_of_the_real_one(application):
    """A circle of memberships, and an owner who may not do it all: the same sentence, and nothing was changed."""
    database = application
    database.run("CREATE ROLE runbook_read", "CREATE ROLE bastion_r LOGIN", "GRANT runbook_read TO bastion_r")
    database.run("CREATE ROLE runbook_maintain", "GRANT runbook_maintain TO runbook_read")
    options = SANDBOX | database.login | {"users": [{"name": "bastion_r", "role": "read"}]}
    said = [run_module("pg_roles", options, check=check).result["msg"] for check in (True, False)]
    assert said[0] == said[1]
    assert 'the server refuses GRANT "runbook_read" TO "runbook_maintain"' in said[0]
    database.run("REVOKE runbook_maintain FROM runbook_read")
    assert not run_module("pg_roles", options).failed

    if database.one("SELECT current_setting('server_version_num')::int") < 160000:
        return  # there CREATEROLE may grant any role but superusers
    database.run("DROP SCHEMA runbook CASCADE", "ALTER ROLE app LOGIN CREATEROLE")
    database.run(f"ALTER DATABASE {database.name} OWNER TO app")
    owner = options | {"login_user": "app", "users": [{"name": "bastion_m", "role": "maintain"}]}
    said = [run_module("pg_roles", owner, check=check).result["msg"] for check in (True, False)]
    assert said[0] == said[1]
    assert "Nothing was changed" in said[0]
    assert database.run("SELECT 1 FROM pg_roles WHERE rolname = 'bastion_m'") == []


def test_a_database_bears_the_mark_of_its_environment(application):
    database = application
    options = SANDBOX | database.login
    database.run(f"ALTER DATABASE {database.name} RESET runbook.environment")
    statement = f"ALTER DATABASE \"{database.name}\" SET runbook.environment = 'sandbox'"
    assert statement in run_module("pg_roles", options, check=True, diff=True).result["diff"]["prepared"]
    assert statement in run_module("pg_roles", options).result["executed_queries"]
    refused = run_module("pg_roles", options | {"environment": "production"})
    assert refused.failed
    assert "says production" in refused.result["msg"]
    assert "carries the mark 'sandbox'" in refused.result["msg"]


def test_who_is_no_superuser_marks_the_database_too(application):
    """On a managed platform nobody may set the parameter; the schema's comment says it there."""
    database = application
    database.run(f"ALTER DATABASE {database.name} RESET runbook.environment")
    database.run(f"ALTER DATABASE {database.name} OWNER TO app", "ALTER ROLE app LOGIN CREATEROLE CREATEDB")
    for role in ("pg_monitor", "pg_signal_backend", "pg_read_all_data"):
        database.run(f"GRANT {role} TO app WITH ADMIN OPTION")
    database.run('ALTER SCHEMA "Odd ""schema""" OWNER TO app', "GRANT ALL ON SCHEMA public TO app WITH GRANT OPTION")
    owner = SANDBOX | database.login | {"login_user": "app", "archives": ARCHIVES}
    owner["users"] = [{"name": name, "role": role, "password": CANARY} for name, role in USERS.items()]
    database.run(f"ALTER DATABASE {database.name} SET log_statement = 'ddl'")
    dry = run_module("pg_roles", owner, check=True)
    made = run_module("pg_roles", owner)
    assert not made.failed, made.result["msg"]
    assert made.result["executed_queries"] == dry.result["executed_queries"]
    said = " ".join(map(str, made.result["warnings"]))
    assert 'app may not ALTER ROLE "bastion_b" BYPASSRLS' in said
    assert "The extension pgstattuple is missing" in said
    assert "app may not set log_statement, so the SCRAM verifiers" in said
    assert "COMMENT ON SCHEMA runbook IS 'runbook.environment=sandbox'" in made.result["executed_queries"]
    again = run_module("pg_roles", owner)
    assert again.result["changed"] is False, again.result
    assert run_module("pg_roles", owner | {"environment": "staging"}).failed
    if database.one("SELECT current_setting('server_version_num')::int") >= 170000:
        # pg_maintain cannot be granted, so each table is.
        assert 'GRANT MAINTAIN ON TABLE "public"."messages" TO "runbook_maintain"' in made.result["executed_queries"]
        assert may(database, "bastion_m", "VACUUM public.messages")


def test_an_archive_that_is_missing_is_made_for_its_sources_owner(application):
    """With row security as the source, and nothing for those whom default privileges would give all."""
    database = application
    database.run(
        "DROP TABLE audit_log_archive",
        "CREATE POLICY own ON public.audit_log TO app USING (audit_log.id < 100)",
        "ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC",
    )
    options = SANDBOX | database.login | {"archives": ARCHIVES, "users": [{"name": "bastion_m", "role": "maintain"}]}
    wrong = run_module("pg_roles", options | {"archives": [ARCHIVES[0] | {"timestamp_column": "at"}]})
    assert "archives[0].timestamp_column: public.audit_log has no column 'at'" in wrong.result["msg"]
    dry = run_module("pg_roles", options, check=True)
    made = run_module("pg_roles", options)
    assert not made.failed, made.result["msg"]
    assert made.result["executed_queries"] == dry.result["executed_queries"]
    assert run_module("pg_roles", options).result["changed"] is False
    kept = "'public.audit_log_archive'::regclass"
    assert database.one(f"SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = {kept}") == "app"
    assert database.one(f"SELECT relrowsecurity FROM pg_class WHERE oid = {kept}")
    assert database.run(f"SELECT polname FROM pg_policy WHERE polrelid = {kept} ORDER BY 1") == [
        ("own",),
        ("runbook_maintain",),
    ]
    assert not database.one(f"SELECT has_table_privilege('public'::name, {kept}, 'SELECT')")
    move = {"source": "public.audit_log", "archive": "public.audit_log_archive", "older_than_days": 90}
    moved = run_module("pg_archive", database.login | move | {"login_user": "bastion_m"})
    assert not moved.failed, moved.result["msg"]
    assert moved.result["moved_rows"] == 90


def test_an_archive_that_this_user_may_not_make_is_told(application):
    """Its owner's own statements are named; nothing else stops."""
    application.run(
        "DROP TABLE audit_log_archive", "CREATE ROLE bastion_x LOGIN CREATEROLE",
        f"ALTER DATABASE {application.name} OWNER TO bastion_x",
    )  # fmt: skip
    options = SANDBOX | application.login | {"archives": ARCHIVES, "login_user": "bastion_x"}
    said = json.dumps(run_module("pg_roles", options, check=True).result.get("warnings", []))
    assert "bastion_x may not make it for app" in said
    assert "CREATE TABLE" in said


def test_what_the_databases_owner_may_not_give_is_told_and_the_rest_is_given(application):
    """Schemas and tables of others, whose owners it has not joined: a GRANT of his is an error, or does nothing."""
    application.run(
        "CREATE ROLE bastion_x LOGIN NOINHERIT CREATEROLE CREATEDB",
        "CREATE SCHEMA closed", "CREATE TABLE closed.one (id int)",
        "CREATE SCHEMA shown", "CREATE TABLE shown.two (id int)", "GRANT USAGE ON SCHEMA shown TO bastion_x",
        "ALTER TABLE closed.one OWNER TO app", "ALTER TABLE shown.two OWNER TO app",
        "ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY", "GRANT pg_monitor TO bastion_x WITH ADMIN OPTION",
        "GRANT pg_read_all_data, pg_signal_backend TO bastion_x WITH ADMIN OPTION",
        "GRANT app TO bastion_x WITH ADMIN OPTION",
        f"ALTER DATABASE {application.name} OWNER TO bastion_x",
    )  # fmt: skip
    options = SANDBOX | application.login | {"archives": ARCHIVES, "users": [], "login_user": "bastion_x"}
    planned, made = run_module("pg_roles", options, check=True).result, run_module("pg_roles", options).result
    assert not made.get("failed"), made["msg"]
    assert planned["executed_queries"] == made["executed_queries"]
    for result in (planned, made):
        said = json.dumps(result["warnings"])
        for what in ('SCHEMA \\"closed\\"', 'SCHEMA \\"shown\\"', "CREATE POLICY"):
            assert what in said, (what, said)
    assert not [text for text in made["executed_queries"] if "closed" in text or "shown" in text]
    again = run_module("pg_roles", options).result
    assert again["changed"] is False
    assert "all their rights" not in again["msg"]


def test_what_a_superuser_owns_is_named(application):
    """But what this run itself gives to somebody else."""
    application.run("CREATE SCHEMA IF NOT EXISTS runbook", "ALTER SCHEMA runbook OWNER TO postgres")
    options = SANDBOX | application.login | {"users": [{"name": "bastion_x", "role": "restore"}]}
    before = json.dumps(run_module("pg_roles", options, check=True).result["warnings"])
    assert "postgres is a superuser and owns 1 schema (" in before
    application.run("CREATE SCHEMA of_postgres")
    said = json.dumps(run_module("pg_roles", options, check=True).result["warnings"])
    assert "postgres is a superuser and owns 2 schemas (" in said


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"archives": [{"source": "public.nothing", "archive": "public.x"}]}, "there is no table public.nothing"),
        ({"archives": [{"source": "audit_log", "archive": "public.x"}]}, "'audit_log' is not a qualified name"),
        ({"users": [{"name": "postgres", "role": "read"}]}, "role postgres is a superuser"),
    ],
)
def test_refused_before_anything_changed(application, changed, says):
    outcome = run_module("pg_roles", SANDBOX | application.login | changed)
    assert outcome.failed
    assert says in outcome.result["msg"]
    assert application.run("SELECT 1 FROM pg_roles WHERE rolname LIKE 'runbook%'") == []


def test_who_may_not_make_roles_is_told_what_is_missing(application):
    application.run("CREATE ROLE bastion_r LOGIN", f"GRANT CREATE ON DATABASE {application.name} TO bastion_r")
    outcome = run_module("pg_roles", SANDBOX | application.login | {"login_user": "bastion_r"})
    assert outcome.failed
    assert "user 'bastion_r' may not run CREATE ROLE" in outcome.result["msg"]
    assert application.run("SELECT 1 FROM pg_roles WHERE rolname LIKE 'runbook%'") == []


def test_names_are_quoted(application):
    """A user called with quotes and a semicolon is a user, and no statement."""
    name = 'odd"; DROP TABLE public.messages; --'
    outcome = run_module("pg_roles", SANDBOX | application.login | {"users": [{"name": name, "role": "read"}]})
    try:
        assert not outcome.failed
        assert application.one("SELECT count(*) FROM messages") == 500
        assert application.run("SELECT 1 FROM pg_roles WHERE rolname = 'odd\"; DROP TABLE public.messages; --'")
    finally:
        application.run('DROP ROLE "odd""; DROP TABLE public.messages; --"')


def test_another_database_of_the_cluster_makes_the_same_role_meanwhile(application):
    """Roles belong to the cluster: db_roles.yml works on all of its databases at once."""
    options = application.login | SANDBOX | {"archives": [], "users": []}
    other = Database(application.host, application.port, "postgres", application.user).connect()
    other.autocommit = False
    with other.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("CREATE ROLE runbook_read NOLOGIN")
        made = pool.submit(run_module, "pg_roles", options)
        until = time.monotonic() + 60
        while not application.one("SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"):
            assert time.monotonic() < until
            assert not made.done(), made.result().result
            time.sleep(0.02)
        other.commit()
        result = made.result().result
    other.close()
    assert not result.get("failed"), result
    assert result["created_roles"] == GROUPS[1:]
    assert run_module("pg_roles", options).result["changed"] is False
