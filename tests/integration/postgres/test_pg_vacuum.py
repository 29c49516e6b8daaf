"""Module pg_vacuum against a real server."""

from __future__ import annotations

import itertools
import json
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.postgres import lease
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target
from ansible.module_utils.runbook.rules.run import Run
from conftest import Database, Outcome, free_port, hold_lease, module_process, run_module, this_run
from psycopg2 import sql

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

BIG = "SELECT i, repeat('x', 100) AS t FROM generate_series(1, 20000) AS i"


def vacuum(database: Database, *, check: bool = False, diff: bool = False, **options: Any) -> Outcome:
    return run_module("pg_vacuum", database.login | options, check=check, diff=diff)


def state(outcome: Outcome) -> dict[str, str]:
    return {entry["table"]: entry["state"] for entry in outcome.result["tables"]}


def actions(outcome: Outcome) -> dict[str, str]:
    return {entry["table"]: entry["action"] for entry in outcome.result["tables"]}


def entry(outcome: Outcome, table: str) -> dict[str, Any]:
    return next(found for found in outcome.result["tables"] if found["table"] == table)


def version(database: Database) -> int:
    return int(database.one("SHOW server_version_num"))


def settle(database: Database, *statements: str) -> None:
    """Run statements, each VACUUM in a session of its own, and wait until the server has counted what they did.

    A session reports its rows when it ends, at the latest; reported after a VACUUM, they would count as new ones.
    """
    late = version(database) < 150000
    for vacuums, group in itertools.groupby(statements, lambda statement: statement.startswith("VACUUM")):
        for batch in [[statement] for statement in group] if vacuums else [list(group)]:
            database.run(*batch)
            wait_for(
                database,
                "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND application_name = '' AND backend_type = 'client backend')",
            )
        if late:
            time.sleep(0.6)


@contextmanager
def holding(database: Database, *statements: str) -> Iterator[Any]:
    """An open transaction that has executed ``statements``."""
    connection = database.connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    try:
        yield connection
    finally:
        connection.close()


def wait_for(database: Database, query: str) -> Any:
    """The first row that ``query`` gives."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        rows = database.run(query)
        if rows:
            return rows[0]
        time.sleep(0.02)
    raise AssertionError(f"never true: {query}")


def finish(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=60)
    return Outcome(json.loads(out.splitlines()[-1]), err)


def slow(database: Database) -> None:
    """From now on a new session's VACUUM creeps."""
    database.run(
        f"ALTER DATABASE {database.name} SET vacuum_cost_delay = 100",
        f"ALTER DATABASE {database.name} SET vacuum_cost_limit = 1",
    )


def fast(database: Database) -> None:
    database.run(
        f"ALTER DATABASE {database.name} RESET vacuum_cost_delay",
        f"ALTER DATABASE {database.name} RESET vacuum_cost_limit",
    )


#: A worker's VACUUM or ANALYZE that runs now.
WORKING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'runbook vacuum' AND state = 'active'"
    " AND query ~ '^(VACUUM|ANALYZE)' AND datname = current_database()"
)
#: All workers; the session that watches them holds the writer's lock.
WORKERS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'runbook vacuum' AND datname = current_database()"
    " AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid IS NOT NULL)"
)
WAITING = WORKING + " AND wait_event_type = 'Lock'"


@pytest.fixture
def lively(database: Database) -> Database:
    """A database in which every need occurs."""
    hold_lease(this_run(), database)
    settle(
        database,
        f"CREATE TABLE dead AS {BIG}",
        f"CREATE TABLE stale AS {BIG}",
        f"CREATE TABLE idle AS {BIG}",
        "CREATE TABLE toasted (i int PRIMARY KEY, t text)",
        "ALTER TABLE toasted ALTER t SET STORAGE EXTERNAL",
        "INSERT INTO toasted SELECT i, repeat('x', 9000) FROM generate_series(1, 300) AS i",
        f"CREATE MATERIALIZED VIEW seen AS {BIG}",
        "CREATE TABLE parts (i int, t text) PARTITION BY RANGE (i)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (9000)",
        "INSERT INTO parts SELECT i, 'x' FROM generate_series(1, 2000) AS i",
        "CREATE VIEW glance AS SELECT 1",
        "VACUUM ANALYZE",
        "VACUUM pg_statistic",
        f"CREATE TABLE never AS {BIG}",
        "DELETE FROM dead WHERE i % 2 = 0",
        "INSERT INTO stale SELECT i, 'y' FROM generate_series(1, 1500) AS i",
        "UPDATE toasted SET t = repeat('y', 9000)",
        "UPDATE parts_1 SET t = 'y'",
    )
    return database


def snapshot(database: Database) -> list[tuple[Any, ...]]:
    """Whatever a VACUUM or ANALYZE leaves behind, and the next transaction id."""
    return database.run(
        "SELECT c.oid, c.relfrozenxid::text, c.relpages, c.reltuples, pg_relation_filenode(c.oid),"
        " pg_stat_get_vacuum_count(c.oid), pg_stat_get_analyze_count(c.oid),"
        " pg_snapshot_xmax(pg_current_snapshot())::text FROM pg_class AS c WHERE relkind IN ('r', 'm', 'p', 't')"
        " ORDER BY c.oid"
    )


def test_the_plan_is_what_runs_and_a_second_run_finds_nothing(lively: Database) -> None:
    before = snapshot(lively)
    planned = vacuum(lively, check=True, diff=True)
    assert snapshot(lively) == before
    assert planned.result["changed"] is True
    assert set(state(planned).values()) == {"planned"}
    assert planned.result["msg"].startswith("Would vacuum ")
    assert planned.result["done_tables"] == 0

    done = vacuum(lively, diff=True)
    assert not done.failed, done.result["msg"]
    assert done.result["diff"] == planned.result["diff"]
    assert actions(done) == actions(planned)
    assert set(planned.result["executed_queries"]) <= set(done.result["executed_queries"])
    assert any(query.endswith('"public"."dead"') for query in planned.result["executed_queries"])
    assert set(state(done).values()) == {"done"}
    expected = {
        "public.dead": "vacuum_analyze",
        "public.toasted": "vacuum_analyze",
        "public.stale": "analyze",
        "public.never": "vacuum_analyze",
        "public.parts": "analyze",
    }
    assert expected.items() <= actions(done).items()
    assert "public.idle" not in actions(done)
    assert "public.seen" not in actions(done)
    dead = entry(done, "public.dead")
    assert dead["before"]["dead_rows"] == 10000
    assert dead["after"]["dead_rows"] == 0
    assert dead["after"]["live_rows"] == 10000
    assert dead["after"]["size_bytes"] == lively.one("SELECT pg_total_relation_size('dead')")
    assert done.result["dead_rows_after"] == 0
    assert (
        lively.one("SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'never' AND last_analyze IS NOT NULL") == 1
    )
    assert lively.one("SELECT count(*) FROM pg_stats WHERE tablename = 'parts' AND inherited") == 2

    second = vacuum(lively)
    assert second.result["changed"] is False, second.result["tables"]
    assert second.result["tables"] == []
    assert second.result["executed_queries"] == []
    assert second.result["msg"].startswith("Nothing to do")


def test_mode_all_takes_everything_that_vacuum_analyze_takes(lively: Database) -> None:
    outcome = vacuum(lively, mode="all", jobs=3)
    assert not outcome.failed, outcome.result["msg"]
    # All but the lease of the run itself.
    others = "IS DISTINCT FROM to_regclass('runbook.lease')"
    every = lively.one(f"SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'm', 'p') AND oid {others}")
    # Before version 18 the ANALYZE of a partitioned table is that of its partitions too, and each is in the list.
    assert len(outcome.result["tables"]) == every
    assert (
        lively.one(
            "SELECT count(*) FROM pg_stat_all_tables WHERE last_vacuum IS NULL AND relid IN"
            f" (SELECT oid FROM pg_class WHERE relkind IN ('r', 'm') AND oid {others})"
        )
        == 0
    )
    assert lively.one(f"SELECT count(*) FROM pg_stat_user_tables WHERE last_analyze IS NULL AND relid {others}") == 0
    assert "public.glance" not in state(outcome)


def test_tables_on_demand(lively: Database) -> None:
    vacuum(lively)
    outcome = vacuum(lively, tables=["public.idle", "public.parts"])
    found = actions(outcome)
    assert found["public.idle"] == "vacuum_analyze"
    assert {"public.parts_1", "public.parts_2", "public.parts"} <= set(found)
    assert entry(outcome, "public.idle")["reason"] == "on demand"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tables": ["public.nowhere"]}, "tables: there is no table public.nowhere in this database"),
        ({"tables": ["public.glance"]}, "tables: there is no table public.glance in this database"),
        ({"tables": ["dead"]}, "tables: 'dead' is not a qualified name"),
        ({"tables": ["public.dead; DROP TABLE dead"]}, "tables: there is no table public.dead; DROP TABLE dead in"),
        ({"jobs": 0}, "jobs: 0 is too small; give at least 1."),
        ({"lock_timeout_ms": 0}, "lock_timeout_ms: 0 is too small"),
        ({"deadline_s": -5}, "deadline_s: -5 is too small"),
        ({"vacuum_scale_factor": -0.1}, "vacuum_scale_factor: -0.1 is no share"),
        ({"login_db": ""}, "login_db is empty"),
        ({"login_db": "nowhere"}, "there is no database of that name"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(lively: Database, options: dict[str, Any], sentence: str) -> None:
    before = snapshot(lively)
    outcome = vacuum(lively, **options)
    assert outcome.failed
    assert sentence in outcome.result["msg"]
    assert snapshot(lively) == before


def test_a_table_that_stays_locked_is_reported_and_holds_up_no_other(lively: Database) -> None:
    with holding(lively, "LOCK TABLE dead IN ACCESS EXCLUSIVE MODE"):
        planned = vacuum(lively, check=True)
        assert not planned.failed
        assert entry(planned, "public.dead")["before"]["size_bytes"] is None
        outcome = vacuum(lively, lock_timeout_ms=300)
    assert outcome.failed
    assert outcome.result["changed"] is True
    assert outcome.result["status"] == "breach"
    found = state(outcome)
    assert found.pop("public.dead") == "locked"
    assert set(found.values()) == {"done"}
    assert "1 table stayed locked: public.dead (held by session " in outcome.result["msg"]
    assert ", idle in transaction)." in outcome.result["msg"]
    assert entry(outcome, "public.dead")["after"]["dead_rows"] is None
    again = vacuum(lively)
    assert state(again)["public.dead"] == "done"


def test_a_table_whose_lock_is_given_back_is_done_at_the_end(lively: Database) -> None:
    with holding(lively, "LOCK TABLE dead IN ACCESS EXCLUSIVE MODE") as lock:
        process = module_process("pg_vacuum", lively.login)
        # Everything else is done, and the second attempt waits.
        wait_for(lively, WAITING + " AND query LIKE '%\"dead\"%' AND clock_timestamp() - query_start > '0.3 s'")
        assert (
            lively.one("SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'never' AND last_analyze IS NOT NULL")
            == 1
        )
        lock.rollback()
        outcome = finish(process)
    assert not outcome.failed, outcome.result["msg"]
    assert set(state(outcome).values()) == {"done"}


def test_a_table_that_is_dropped_meanwhile_is_gone_and_no_failure(lively: Database) -> None:
    with holding(lively, "DROP TABLE dead") as drop:
        process = module_process("pg_vacuum", lively.login)
        wait_for(lively, WAITING)
        drop.commit()
        outcome = finish(process)
    assert not outcome.failed, outcome.result["msg"]
    found = state(outcome)
    assert found.pop("public.dead") == "gone"
    assert set(found.values()) == {"done"}
    assert "1 table dropped meanwhile: public.dead" in outcome.result["msg"]


def test_a_table_that_cannot_be_analysed_fails_alone_and_tells_no_row(lively: Database) -> None:
    lively.run(
        "CREATE TABLE broken (t text)",
        "CREATE FUNCTION moody(t text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
        " $$ BEGIN IF current_setting('application_name') LIKE 'runbook%' THEN RETURN t::int; END IF; RETURN 1; END $$",
        "INSERT INTO broken SELECT 'canary-of-a-patient' FROM generate_series(1, 2000)",
        "CREATE INDEX ON broken (public.moody(t))",
    )
    outcome = vacuum(lively)
    assert outcome.failed
    found = state(outcome)
    assert found.pop("public.broken") == "failed"
    assert set(found.values()) == {"done"}
    assert "SQLSTATE 22P02" in entry(outcome, "public.broken")["error"]
    assert "canary" not in json.dumps(outcome.result)
    assert "canary" not in outcome.stderr


ODD_NAMES = ['say "hi"', "semi;colon", "ümläut ☃", "Upper", "dot.ted", "x" * 63, "per%cent %s", "é" * 31, "{brace}"]


def test_odd_names(database: Database) -> None:
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier('odd "schema"; x')))
        for name in ODD_NAMES:
            cursor.execute(sql.SQL("CREATE TABLE {} AS SELECT 1 AS i").format(sql.Identifier('odd "schema"; x', name)))
    connection.close()
    outcome = vacuum(database, tables=['"odd ""schema""; x"."say ""hi"""', '"odd ""schema""; x"."dot.ted"'])
    assert not outcome.failed, outcome.result["msg"]
    assert len(outcome.result["tables"]) == len(ODD_NAMES)
    assert set(state(outcome).values()) == {"done"}
    left = (
        "SELECT relname FROM pg_stat_user_tables WHERE schemaname <> 'runbook'"
        " AND (last_vacuum IS NULL OR last_analyze IS NULL)"
    )
    assert database.run(left) == []
    assert vacuum(database).result["changed"] is False


def test_hundreds_of_tables(database: Database) -> None:
    settle(
        database,
        "DO $$ BEGIN FOR i IN 1..600 LOOP EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY, b text, c text)', i);"
        " EXECUTE format('INSERT INTO t%s VALUES (1, 2, 3)', i); COMMIT; END LOOP; END $$",
    )
    outcome = vacuum(database)
    assert not outcome.failed, outcome.result["msg"]
    user = [found for found in outcome.result["tables"] if found["table"].startswith("public.")]
    assert len(user) == 600
    assert {found["state"] for found in user} == {"done"}
    second = vacuum(database)
    assert second.result["changed"] is False, second.result["tables"]


@pytest.fixture
def roles(lively: Database) -> Iterator[Database]:
    """``lively`` with a role that owns one table, and one that owns nothing."""
    lively.run(
        "CREATE ROLE vacuum_owner LOGIN",
        "CREATE ROLE vacuum_nobody LOGIN",
        "ALTER TABLE dead OWNER TO vacuum_owner",
    )
    yield lively
    lively.run(
        f"ALTER DATABASE {lively.name} OWNER TO {lively.user}",
        "DROP OWNED BY vacuum_owner, vacuum_nobody CASCADE",
        "DROP ROLE vacuum_owner, vacuum_nobody",
    )


def test_who_owns_some_tables_does_those_and_hears_of_the_others(roles: Database) -> None:
    outcome = vacuum(roles, login_user="vacuum_owner")
    assert not outcome.failed, outcome.result["msg"]
    assert state(outcome)["public.dead"] == "done"
    assert "public.never" in outcome.result["not_permitted"]
    assert state(outcome)["public.never"] == "not_permitted"
    assert entry(outcome, "public.never")["duration_s"] is None
    assert '"never"' not in " ".join(outcome.result["executed_queries"])
    assert "public.never" in json.dumps(outcome.result["warnings"])
    # pg_statistic is not theirs, and no reason to bother them.
    assert [name for name in outcome.result["not_permitted"] if name.startswith("pg_catalog")] == []
    second = vacuum(roles, login_user="vacuum_owner")
    assert second.result["changed"] is False


def test_who_may_touch_nothing_is_told(roles: Database) -> None:
    outcome = vacuum(roles, login_user="vacuum_nobody")
    assert not outcome.failed
    assert outcome.result["changed"] is False
    assert {"public.dead", "public.never"} <= set(outcome.result["not_permitted"])
    assert outcome.result["msg"].startswith("Nothing done: this user may vacuum none of the tables in need; ")
    refused = vacuum(roles, login_user="vacuum_nobody", tables=["public.idle"])
    assert refused.failed
    assert refused.result["msg"].startswith("tables: this user may not vacuum public.idle; run playbooks/db_roles.yml")


def test_the_owner_of_the_database_may_do_all_but_shared_catalogs(roles: Database) -> None:
    roles.run(f"ALTER DATABASE {roles.name} OWNER TO vacuum_owner")
    outcome = vacuum(roles, login_user="vacuum_owner", mode="all")
    assert not outcome.failed, outcome.result["msg"]
    shared = {
        row[0] for row in roles.run("SELECT 'pg_catalog.' || relname FROM pg_class WHERE relisshared AND relkind = 'r'")
    }
    assert set(state(outcome).values()) == {"done"}
    assert not shared & set(state(outcome))
    # Only a superuser may vacuum them, and autovacuum does.
    assert outcome.result["not_permitted"] == []
    assert "warnings" not in outcome.result
    assert "not permitted" not in outcome.result["msg"]


def test_maintain_is_enough_since_17(roles: Database) -> None:
    if version(roles) < 170000:
        pytest.skip("MAINTAIN came with PostgreSQL 17")
    roles.run("GRANT MAINTAIN ON never TO vacuum_nobody")
    outcome = vacuum(roles, login_user="vacuum_nobody")
    assert state(outcome)["public.never"] == "done"
    assert state(outcome)["public.dead"] == "not_permitted"


def test_a_warning_of_the_server_is_not_taken_for_work_done(roles: Database) -> None:
    with holding(roles, f"ALTER TABLE dead OWNER TO {roles.user}") as change:
        process = module_process("pg_vacuum", roles.login | {"login_user": "vacuum_owner"})
        wait_for(roles, WAITING)
        change.commit()
        outcome = finish(process)
    assert outcome.failed
    assert outcome.result["changed"] is False
    assert state(outcome)["public.dead"] == "failed"
    assert "public.dead (the server warned instead of doing it" in outcome.result["msg"]


def test_a_locked_partition_keeps_back_itself_and_its_parent_only(lively: Database) -> None:
    with holding(lively, "LOCK TABLE ONLY parts_1 IN ACCESS EXCLUSIVE MODE"):
        outcome = vacuum(lively, lock_timeout_ms=300)
    assert outcome.failed
    assert {name for name, found in state(outcome).items() if found == "locked"} == {"public.parts_1", "public.parts"}
    assert "failed" not in state(outcome).values()
    assert set(state(vacuum(lively)).values()) == {"done"}


def test_foreign_and_temporary_tables_are_left_alone(database: Database) -> None:
    database.run(
        "CREATE EXTENSION IF NOT EXISTS file_fdw",
        "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE far (t text) SERVER files OPTIONS (filename '/nowhere')",
        "CREATE UNLOGGED TABLE quick AS SELECT 1 AS i",
    )
    with holding(database, "CREATE TEMP TABLE mine AS SELECT 1 AS i") as connection:
        connection.commit()
        outcome = vacuum(database)
    assert not outcome.failed, outcome.result["msg"]
    assert state(outcome) == {"public.quick": "done"}


def test_the_deadline_ends_what_runs_and_names_what_it_did_not_reach(lively: Database) -> None:
    slow(lively)
    outcome = vacuum(lively, deadline_s=1, jobs=1)
    assert outcome.failed
    assert "stopped: the deadline has passed" in outcome.result["msg"]
    assert "not reached" in outcome.result["msg"]
    assert "not_reached" in state(outcome).values()
    assert outcome.result["status"] == "breach"
    assert lively.run(WORKING) == []
    fast(lively)
    assert not vacuum(lively).failed


def test_sigterm_cancels_and_reports(lively: Database) -> None:
    slow(lively)
    process = module_process("pg_vacuum", lively.login | {"jobs": 1})
    wait_for(lively, WORKING)
    process.send_signal(signal.SIGTERM)
    outcome = finish(process)
    assert outcome.failed
    assert "Stopped by SIGTERM" in outcome.result["msg"]
    assert "not_reached" in state(outcome).values()
    assert lively.run(WORKING) == []
    fast(lively)
    assert not vacuum(lively).failed


def test_kill_9_harms_nothing_and_the_next_run_goes_on(lively: Database) -> None:
    slow(lively)
    process = module_process("pg_vacuum", lively.login | {"jobs": 2})
    (pid,) = wait_for(lively, WORKING)
    process.kill()
    process.communicate(timeout=10)
    fast(lively)
    # The server's VACUUM outlives its client; whoever waits for it may end it.
    lively.run(f"SELECT pg_terminate_backend(pid) FROM ({WORKING}) AS left_over")
    wait_for(lively, f"SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
    outcome = vacuum(lively)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["changed"] is True
    assert vacuum(lively).result["changed"] is False


def test_a_lost_connection_is_opened_again_and_its_table_done(lively: Database) -> None:
    slow(lively)
    process = module_process("pg_vacuum", lively.login | {"jobs": 1})
    (pid,) = wait_for(lively, WORKING)
    fast(lively)
    lively.run(f"SELECT pg_terminate_backend({pid})")
    outcome = finish(process)
    assert not outcome.failed, outcome.result["msg"]
    assert set(state(outcome).values()) == {"done"}


def test_a_statement_that_somebody_cancels_fails_alone(lively: Database) -> None:
    slow(lively)
    process = module_process("pg_vacuum", lively.login | {"jobs": 1})
    (pid,) = wait_for(lively, WORKING)
    # The rest of this session would creep as well.
    lively.run(f"SELECT pg_cancel_backend({pid})")
    wait_for(lively, f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND query_start > now() - interval '1 h'")
    fast(lively)
    time.sleep(0.2)
    lively.run(f"SELECT pg_terminate_backend({pid})")
    outcome = finish(process)
    assert outcome.failed
    assert list(state(outcome).values()).count("failed") == 1
    assert "cancelled by somebody else" in outcome.result["msg"]


def test_without_the_writers_lock_the_pass_ends(lively: Database) -> None:
    slow(lively)
    process = module_process("pg_vacuum", lively.login | {"jobs": 1})
    wait_for(lively, WORKING)
    lively.run(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    outcome = finish(process)
    assert outcome.failed
    assert "stopped: the connection that holds the writer's lock failed" in outcome.result["msg"]
    assert "not_reached" in state(outcome).values()
    assert lively.run(WORKING) == []


def test_two_passes_never_meet(lively: Database) -> None:
    with holding(lively, f"SELECT pg_advisory_lock({lease.WRITER_LOCK})"):
        outcome = vacuum(lively)
        assert vacuum(lively, check=True).result["changed"] is True
    assert outcome.failed
    assert outcome.result["changed"] is False
    assert (
        lively.one("SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'never' AND last_analyze IS NOT NULL") == 0
    )


def test_fewer_free_connections_than_jobs(roles: Database) -> None:
    roles.run("ALTER TABLE never OWNER TO vacuum_owner", "ALTER ROLE vacuum_owner CONNECTION LIMIT 2")
    outcome = vacuum(roles, login_user="vacuum_owner", jobs=4, tables=["public.dead", "public.never"])
    assert not outcome.failed, outcome.result["msg"]
    assert "gave only 1 of 4 connections" in json.dumps(outcome.result["warnings"])
    # A server process ends a moment after its client, and counts until then.
    for _ in range(100):
        if roles.one("SELECT count(*) FROM pg_stat_activity WHERE usename = 'vacuum_owner'") == 0:
            break
        time.sleep(0.1)
    roles.run("ALTER ROLE vacuum_owner CONNECTION LIMIT 1")
    refused = vacuum(roles, login_user="vacuum_owner", jobs=2, tables=["public.dead"])
    assert refused.failed
    assert state(refused)["public.dead"] == "not_reached"
    assert "Cannot connect" in refused.result["msg"]


def test_dead_rows_that_a_snapshot_keeps_are_told_with_who_keeps_them(lively: Database) -> None:
    with holding(lively, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1"):
        lively.run("DELETE FROM idle WHERE i % 2 = 0")
        if version(lively) < 150000:
            time.sleep(1)
        outcome = vacuum(lively)
    assert not outcome.failed, outcome.result["msg"]
    assert entry(outcome, "public.idle")["after"]["dead_rows"] == 10000
    warning = json.dumps(outcome.result["warnings"])
    assert "could not be removed from public.idle" in warning
    assert "the oldest snapshot belongs to session " in warning


def age(database: Database) -> None:
    """Let 80,000 transactions pass."""
    database.run(
        "SET synchronous_commit = off",
        "DO $$ BEGIN FOR i IN 1..80000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$",
    )


def test_a_freeze_that_a_snapshot_keeps_from_working_is_no_success(lively: Database) -> None:
    lively.run("ALTER TABLE idle SET (autovacuum_freeze_max_age = 100000)")
    with holding(lively, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1"):
        age(lively)
        outcome = vacuum(lively)
    assert outcome.failed
    assert state(outcome)["public.idle"] == "failed"
    assert "public.idle (frozen, but its age is still " in outcome.result["msg"]
    warning = json.dumps(outcome.result["warnings"])
    assert "public.idle could not be frozen; the oldest snapshot belongs to session " in warning


def test_a_table_close_to_its_freeze_age_is_frozen_first(lively: Database) -> None:
    lively.run("ALTER TABLE idle SET (autovacuum_freeze_max_age = 100000)")
    age(lively)
    outcome = vacuum(lively)
    assert not outcome.failed, outcome.result["msg"]
    first = outcome.result["tables"][0]
    assert (first["table"], first["action"], first["state"]) == ("public.idle", "freeze", "done")
    assert first["before"]["xid_age"] > 75000
    assert first["after"]["xid_age"] < 1000
    assert vacuum(lively).result["changed"] is False


def test_the_storage_parameters_of_a_table_are_heeded(database: Database) -> None:
    settle(
        database,
        f"CREATE TABLE lax WITH (autovacuum_vacuum_scale_factor = 0.9, autovacuum_analyze_scale_factor = 0.9) AS {BIG}",
        f"CREATE TABLE off WITH (autovacuum_enabled = off) AS {BIG}",
        "VACUUM ANALYZE",
        "VACUUM pg_statistic",
        "DELETE FROM lax WHERE i % 2 = 0",
        "DELETE FROM off WHERE i % 2 = 0",
    )
    assert set(actions(vacuum(database, check=True))) == {"public.off"}


def test_progress_is_told_in_bytes(lively: Database, tmp_path: Path) -> None:
    told = tmp_path / "progress.jsonl"
    told.touch()
    slow(lively)
    process = module_process(
        "pg_vacuum", lively.login | {"jobs": 1}, RUNBOOK_PROGRESS_FILE=str(told), RUNBOOK_HOST="db1"
    )
    wait_for(lively, WORKING)
    until = time.monotonic() + 20
    while not told.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    fast(lively)
    lively.run(f"SELECT pg_terminate_backend(pid) FROM ({WORKERS}) AS creeping")
    assert not finish(process).failed
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert {(event["host"], event["module"], event["unit"]) for event in events} == {("db1", "pg_vacuum", "bytes")}
    assert events[0]["label"].startswith("vacuum 1 job: public.")
    assert events[-1]["final"] is True
    assert events[-1]["done"] == events[-1]["total"] > 0
    assert all(0 <= event["done"] <= event["total"] for event in events)


def test_a_read_only_standby_is_refused(tmp_path: Path) -> None:
    standby = Cluster(find_bindir(), tmp_path / "data", free_port())
    standby.init()
    (standby.data / "standby.signal").touch()
    standby.start(fsync="off", hot_standby="on")
    try:
        database = Database("127.0.0.1", standby.port, "postgres", standby.superuser)
        outcome = vacuum(database)
        assert outcome.failed
        assert "read-only standby" in outcome.result["msg"]
        assert "name the primary" in outcome.result["msg"]
    finally:
        standby.stop("immediate")


def test_the_own_lease_is_no_obstacle(lively: Database) -> None:
    target = Target(lively.host, lively.port, lively.name, lively.user, None, "disable")
    with Session(target, lock_timeout_ms=1000, statement_timeout_ms=1000) as session:
        lease.release(session, run_id=str(this_run().id))
        lease.acquire(session, Run("this", None, "elsewhere/1"), purpose="weekly_db")
    outcome = run_module("pg_vacuum", lively.login, RUNBOOK_RUN_ID="this")
    assert not outcome.failed, outcome.result["msg"]
    assert set(state(outcome).values()) == {"done"}


def test_the_lease_of_another_run_is_respected(lively: Database) -> None:
    target = Target(lively.host, lively.port, lively.name, lively.user, None, "disable")
    with Session(target, lock_timeout_ms=1000, statement_timeout_ms=1000) as session:
        lease.release(session, run_id=str(this_run().id))
        lease.acquire(session, Run("other", None, "elsewhere/1"), purpose="weekly_db")
    before = snapshot(lively)
    outcome = vacuum(lively)
    assert outcome.failed
    assert "other" in outcome.result["msg"]
    assert [row[:7] for row in snapshot(lively)] == [row[:7] for row in before]
