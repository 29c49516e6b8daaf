"""pg_reindex and pg_compact meet bad luck in the middle: nothing is lost, nothing stays half made for long."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2.errors
import pytest
from conftest import Database, Outcome, module_process, run_module
from repack import repack_cluster, repack_database

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["repack_cluster", "repack_database"]

ROWS = 5_000
#: Whoever builds an index over braked() waits while somebody holds this lock for himself.
BRAKE = 4711
OPTIONS = {"min_size_bytes": 20_000, "jobs": 1, "check_structure": False}
BUILDING = (
    "SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid WHERE l.locktype = 'advisory'"
    f" AND l.objid = {BRAKE} AND NOT l.granted AND a.datname = current_database() AND a.query LIKE 'REINDEX%'"
)


@pytest.fixture
def braked(database: Database) -> Database:
    """Table ``slow`` with an index whose build can be held up, and table ``other``; all of it bloated."""
    database.run(
        "CREATE FUNCTION public.braked(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({BRAKE}); RETURN i; END $$",
        f"CREATE TABLE slow AS SELECT i AS id, 0 AS n FROM generate_series(1, {ROWS}) AS i",
        "CREATE INDEX slow_id ON slow (braked(id))",
        # Bigger, so that it comes after the other.
        f"CREATE TABLE other AS SELECT i AS id FROM generate_series(1, {4 * ROWS}) AS i",
        "CREATE INDEX other_id ON other (id)",
        "DELETE FROM slow WHERE id % 5 <> 0",
        "DELETE FROM other WHERE id % 5 <> 0",
    )
    database.run("VACUUM ANALYZE")
    return database


@contextmanager
def brake(database: Database) -> Iterator[Any]:
    """The build waits; ``close()`` lets it go."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock({BRAKE})")
    try:
        yield connection
    finally:
        connection.close()


def start(database: Database, **options: Any) -> subprocess.Popen[str]:
    return module_process("pg_reindex", database.login | OPTIONS | options)


def finish(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=90)
    return Outcome(json.loads(out.splitlines()[-1]), err)


def again(database: Database, **options: Any) -> Outcome:
    return run_module("pg_reindex", database.login | OPTIONS | options)


def wait_for(database: Database, query: str) -> Any:
    """The first row that ``query`` gives."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        rows = database.run(query)
        if rows:
            return rows[0]
        time.sleep(0.02)
    raise AssertionError(f"never true: {query}")


def ended(database: Database, pid: int) -> None:
    wait_for(database, f"SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")


def states(outcome: Outcome) -> dict[str, str]:
    return {one["index"]: one["state"] for one in outcome.result["indexes"]}


def half_built(database: Database) -> list[str]:
    return [row[0] for row in database.run("SELECT relname FROM pg_class WHERE relname ~ '_cc(new|old)[0-9]*$'")]


def whole(database: Database) -> None:
    """Nothing is left over, and each index is valid and knows each row."""
    assert half_built(database) == []
    assert database.run("SELECT indexrelid FROM pg_index WHERE NOT indisvalid") == []
    for table, where, rows in (("slow", "braked(id) > 0", ROWS // 5), ("other", "id > 0", 4 * ROWS // 5)):
        found = database.run("SET enable_seqscan = off", f"SELECT count(*) FROM {table} WHERE {where}")
        assert found == [(rows,)]


def test_kill_9_leaves_a_copy_that_the_next_run_drops(braked: Database) -> None:
    with brake(braked):
        process = start(braked)
        (pid,) = wait_for(braked, BUILDING)
        process.kill()
        process.communicate(timeout=10)
        # The server's statement outlives its client; a crash of the server's process ends it.
        braked.run(f"SELECT pg_terminate_backend({pid})")
        ended(braked, pid)
    assert half_built(braked) == ["slow_id_ccnew"]
    outcome = again(braked)
    assert not outcome.failed, outcome.result["msg"]
    assert states(outcome) == dict.fromkeys(("public.slow_id_ccnew", "public.slow_id", "public.other_id"), "done")
    assert outcome.result["dropped_indexes"] == 1
    whole(braked)
    assert again(braked).result["changed"] is False


def test_the_next_run_does_not_tear_down_what_a_dead_run_still_builds(braked: Database) -> None:
    with brake(braked) as held:
        process = start(braked)
        (pid,) = wait_for(braked, BUILDING)
        process.kill()
        process.communicate(timeout=10)
        # The killed client's session holds the table, and may end well yet.
        outcome = again(braked, lock_timeout_ms=300)
        assert outcome.failed
        # Its snapshot is one that every concurrent build of this database has to wait for.
        assert states(outcome) == dict.fromkeys(("public.slow_id_ccnew", "public.slow_id", "public.other_id"), "locked")
        assert f"held by session {pid}" in outcome.result["msg"]
        assert half_built(braked) == ["slow_id_ccnew"]
        held.close()
        ended(braked, pid)
    assert not again(braked).failed
    whole(braked)


def test_sigterm_ends_it_and_clears_away(braked: Database) -> None:
    with brake(braked):
        process = start(braked)
        wait_for(braked, BUILDING)
        process.send_signal(signal.SIGTERM)
        outcome = finish(process)
    assert outcome.failed
    assert "Stopped by SIGTERM" in outcome.result["msg"]
    assert states(outcome) == {"public.slow_id": "not_reached", "public.other_id": "not_reached"}
    assert outcome.result["changed"] is False
    whole(braked)


def test_the_deadline_ends_what_runs_and_clears_away(braked: Database) -> None:
    with brake(braked):
        outcome = finish(start(braked, deadline_s=3))
    assert outcome.failed
    assert states(outcome)["public.slow_id"] == "not_reached"
    assert "deadline" in outcome.result["msg"]
    whole(braked)


def test_a_lost_connection_is_told_and_the_rest_is_done(braked: Database) -> None:
    with brake(braked):
        process = start(braked)
        (pid,) = wait_for(braked, BUILDING)
        braked.run(f"SELECT pg_terminate_backend({pid})")
        outcome = finish(process)
    assert outcome.failed
    assert states(outcome) == {"public.slow_id": "failed", "public.other_id": "done"}
    assert "half-built copy is left" in outcome.result["msg"]
    assert not again(braked).failed
    whole(braked)


def test_a_statement_that_somebody_cancels_is_cleared_away(braked: Database) -> None:
    with brake(braked):
        process = start(braked)
        (pid,) = wait_for(braked, BUILDING)
        braked.run(f"SELECT pg_cancel_backend({pid})")
        outcome = finish(process)
    assert outcome.failed
    assert states(outcome) == {"public.slow_id": "failed", "public.other_id": "done"}
    assert "cancelled by somebody else" in outcome.result["msg"]
    whole(braked)


def test_without_the_writers_lock_the_pass_ends(braked: Database) -> None:
    with brake(braked):
        process = start(braked)
        (pid,) = wait_for(braked, BUILDING)
        braked.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runbook reindex'"
            f" AND datname = current_database() AND pid <> {pid}"
        )
        outcome = finish(process)
    assert outcome.failed
    assert "the connection that holds the writer's lock failed" in outcome.result["msg"]
    assert states(outcome)["public.other_id"] == "not_reached"
    whole(braked)


def test_a_transaction_that_comes_in_the_middle_is_bounded_and_named(braked: Database) -> None:
    with brake(braked) as held:
        process = start(braked, lock_timeout_ms=1500)
        wait_for(braked, BUILDING)
        late = braked.connect()
        late.autocommit = False
        with late.cursor() as cursor:
            cursor.execute("UPDATE slow SET n = 1 WHERE false", None)
            cursor.execute("LOCK TABLE slow IN ROW EXCLUSIVE MODE")
        held.close()
        outcome = finish(process)
    assert outcome.failed
    assert states(outcome) == {"public.slow_id": "locked", "public.other_id": "done"}
    assert f"held by session {late.info.backend_pid}, idle in transaction" in outcome.result["msg"]
    assert "half-built copy is left, and the next run drops it" in outcome.result["msg"]
    assert half_built(braked) == ["slow_id_ccnew"]
    late.close()
    assert not again(braked).failed
    whole(braked)


def test_a_table_dropped_meanwhile_is_gone_and_no_failure(braked: Database) -> None:
    with brake(braked) as held:
        process = start(braked)
        wait_for(braked, BUILDING)
        braked.run("DROP TABLE other")
        held.close()
        outcome = finish(process)
    assert not outcome.failed, outcome.result["msg"]
    assert states(outcome) == {"public.slow_id": "done", "public.other_id": "gone"}


def test_no_secret_leaves_the_module(braked: Database) -> None:
    canary = "canary-7f3a"
    outcome = again(braked, login_password=canary)
    assert canary not in json.dumps({key: value for key, value in outcome.result.items() if key != "invocation"})
    assert canary not in outcome.stderr


# --- pg_compact -------------------------------------------------------------------------------------------------------

COMPACT = {"min_size_bytes": 100_000, "jobs": 1}
REPACKING = (
    "SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid WHERE l.locktype = 'advisory'"
    f" AND l.objid = {BRAKE} AND NOT l.granted AND a.datname = current_database()"
    " AND a.application_name = 'pg_repack'"
)


def bloat_two_tables(database: Database) -> Database:
    """Table ``slow`` with an index whose build can be held up, and the bigger ``other``; both of them bloated."""
    database.run(
        "CREATE FUNCTION public.braked(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({BRAKE}); RETURN i; END $$",
        "CREATE TABLE slow (id int PRIMARY KEY, n text)",
        "CREATE TABLE other (id int PRIMARY KEY, n text)",
        f"INSERT INTO slow SELECT i, repeat('x', 60) FROM generate_series(1, {ROWS}) AS i",
        f"INSERT INTO other SELECT i, repeat('x', 60) FROM generate_series(1, {4 * ROWS}) AS i",
        "CREATE INDEX slow_id ON slow (public.braked(id))",
        "DELETE FROM slow WHERE id % 5 <> 0",
        "DELETE FROM other WHERE id % 5 <> 0",
    )
    database.run("VACUUM ANALYZE")
    return database


@pytest.fixture
def repacked(repack_database: Database) -> Database:
    return bloat_two_tables(repack_database)


def compacting(database: Database, **options: Any) -> subprocess.Popen[str]:
    return module_process("pg_compact", database.login | COMPACT | options)


def compact_again(database: Database, **options: Any) -> Outcome:
    return run_module("pg_compact", database.login | COMPACT | options)


def table_states(outcome: Outcome) -> dict[str, tuple[str, str]]:
    return {one["table"]: (one["action"], one["state"]) for one in outcome.result["tables"]}


def made_by_repack(database: Database) -> list[str]:
    """What a pg_repack that did not end well leaves."""
    return [
        row[0]
        for row in database.run(
            "SELECT tgname::text FROM pg_trigger WHERE tgname = 'repack_trigger'"
            " UNION ALL SELECT relname FROM pg_class WHERE relname ~ '^(log|table|pk)_[0-9]+$' ORDER BY 1"
        )
    ]


def all_rows_are_there(database: Database) -> None:
    assert database.one("SELECT count(*) FROM slow") == ROWS // 5
    assert database.one("SELECT count(*) FROM other") == 4 * ROWS // 5


def until_cancelled(connection: Any, statement: str) -> None:
    with connection.cursor() as cursor, suppress(psycopg2.errors.QueryCanceled):
        cursor.execute(statement)


BOTH_DONE = {"public.slow": ("pg_repack", "done"), "public.other": ("pg_repack", "done")}


def test_kill_9_of_everything_leaves_what_the_next_run_drops(repacked: Database) -> None:
    with brake(repacked):
        process = compacting(repacked)
        (pid,) = wait_for(repacked, REPACKING)
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=10)
        # What it started ends with it.
        _gone, alive = psutil.wait_procs(started, timeout=30)
        assert started
        assert not alive
        # The server notices that its client is gone, or is told so.
        repacked.run(f"SELECT pg_terminate_backend({pid})")
        wait_for(
            repacked,
            "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pg_repack'"
            " AND datname = current_database())",
        )
        assert "repack_trigger" in made_by_repack(repacked)
        # Nobody is kept from writing meanwhile.
        repacked.run("UPDATE slow SET n = 'y' WHERE id = 5")
    outcome = compact_again(repacked)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["cleaned_tables"] == 1
    assert [(one["action"], one["state"]) for one in outcome.result["tables"]] == [
        ("clean_up", "done"), ("pg_repack", "done"), ("pg_repack", "done"),
    ]  # fmt: skip
    assert made_by_repack(repacked) == []
    assert repacked.one("SELECT n FROM slow WHERE id = 5") == "y"
    all_rows_are_there(repacked)
    assert compact_again(repacked).result["changed"] is False


def test_the_next_run_leaves_a_pg_repack_alone_that_still_works(repacked: Database) -> None:
    with brake(repacked):
        process = compacting(repacked)
        wait_for(repacked, REPACKING)
        (program,) = psutil.Process(process.pid).children(recursive=True)
        words, environ = program.cmdline(), program.environ()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        by_hand = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(repacked, REPACKING)
        # Its transactions are some that every other pg_repack of this database has to wait for.
        outcome = compact_again(repacked, lock_timeout_ms=1000)
        assert outcome.failed
        assert table_states(outcome)["public.slow"] == ("pg_repack", "locked")
        assert "another pg_repack works on it" in outcome.result["msg"]
        assert outcome.result["cleaned_tables"] == 0
        assert "repack_trigger" in made_by_repack(repacked)
    assert by_hand.wait(timeout=60) == 0
    assert not compact_again(repacked).failed
    assert made_by_repack(repacked) == []
    all_rows_are_there(repacked)


def test_sigterm_ends_pg_repack_and_clears_away(repacked: Database) -> None:
    with brake(repacked):
        process = compacting(repacked)
        wait_for(repacked, REPACKING)
        process.send_signal(signal.SIGTERM)
        outcome = finish(process)
        assert made_by_repack(repacked) == []
    assert outcome.failed
    assert "Stopped by SIGTERM" in outcome.result["msg"]
    assert table_states(outcome) == dict.fromkeys(("public.slow", "public.other"), ("pg_repack", "not_reached"))
    assert outcome.result["changed"] is False
    all_rows_are_there(repacked)


def test_the_deadline_ends_pg_repack_and_clears_away(repacked: Database) -> None:
    with brake(repacked):
        outcome = finish(compacting(repacked, deadline_s=4))
        assert made_by_repack(repacked) == []
    assert outcome.failed
    assert "deadline" in outcome.result["msg"]
    assert table_states(outcome)["public.slow"] == ("pg_repack", "not_reached")
    all_rows_are_there(repacked)


def test_a_transaction_that_was_there_before_is_bounded_and_named(repacked: Database) -> None:
    late = repacked.connect()
    late.autocommit = False
    with late.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM slow")
    outcome = compact_again(repacked, lock_timeout_ms=500)
    assert outcome.failed
    assert table_states(outcome) == dict.fromkeys(("public.slow", "public.other"), ("pg_repack", "locked"))
    assert f"held by session {late.info.backend_pid}, idle in transaction" in outcome.result["msg"]
    assert made_by_repack(repacked) == []
    late.close()
    assert table_states(compact_again(repacked)) == BOTH_DONE


def test_a_vacuum_of_the_table_is_waited_for_before_anybody_queues(repacked: Database) -> None:
    vacuum = repacked.connect()
    pid = vacuum.info.backend_pid
    with vacuum.cursor() as cursor:
        cursor.execute("SET vacuum_cost_delay = 100")
        cursor.execute("SET vacuum_cost_limit = 1")
    slow = threading.Thread(target=until_cancelled, args=(vacuum, "VACUUM (DISABLE_PAGE_SKIPPING) slow"))
    slow.start()
    try:
        wait_for(repacked, f"SELECT 1 FROM pg_locks WHERE pid = {pid} AND relation = 'slow'::regclass AND granted")
        outcome = compact_again(repacked, lock_timeout_ms=500)
    finally:
        repacked.run(f"SELECT pg_cancel_backend({pid})")
        slow.join()
        vacuum.close()
    assert outcome.failed
    assert table_states(outcome) == BOTH_DONE | {"public.slow": ("pg_repack", "locked")}
    assert f"held by session {pid}, active" in outcome.result["msg"]
    assert table_states(compact_again(repacked)) == {"public.slow": ("pg_repack", "done")}


def test_a_transaction_that_blocks_the_swap_is_bounded_and_named(repacked: Database) -> None:
    with brake(repacked) as held:
        process = compacting(repacked, lock_timeout_ms=1000)
        wait_for(repacked, REPACKING)
        late = repacked.connect()
        late.autocommit = False
        with late.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM slow")
        held.close()
        outcome = finish(process)
    assert outcome.failed
    assert table_states(outcome)["public.slow"] == ("pg_repack", "locked")
    assert f"held by session {late.info.backend_pid}, idle in transaction" in outcome.result["msg"]
    # Who reads the table keeps even the trigger from being dropped.
    assert "what pg_repack made for it is left, and the next run drops it" in outcome.result["msg"]
    late.close()
    again_ = compact_again(repacked)
    assert not again_.failed, again_.result["msg"]
    assert again_.result["cleaned_tables"] == 1
    assert made_by_repack(repacked) == []
    all_rows_are_there(repacked)


def test_what_somebody_does_to_pg_repack_is_told_and_the_rest_is_done(repacked: Database) -> None:
    with brake(repacked):
        process = compacting(repacked)
        (pid,) = wait_for(repacked, REPACKING)
        repacked.run(f"SELECT pg_terminate_backend({pid})")
        outcome = finish(process)
    assert outcome.failed
    assert table_states(outcome) == BOTH_DONE | {"public.slow": ("pg_repack", "failed")}
    assert made_by_repack(repacked) == []
    assert not compact_again(repacked).failed
    all_rows_are_there(repacked)


def test_the_module_loses_its_own_connection(repacked: Database) -> None:
    with brake(repacked):
        process = compacting(repacked)
        wait_for(repacked, REPACKING)
        repacked.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runbook compact'"
            " AND datname = current_database()"
        )
        outcome = finish(process)
        assert made_by_repack(repacked) == []
    assert outcome.failed
    assert "public.slow" in outcome.result["msg"]
    assert not compact_again(repacked).failed
    all_rows_are_there(repacked)


def test_rows_with_equal_keys_are_told(repacked: Database) -> None:
    repacked.run(
        "CREATE INDEX broken ON slow ((1 + id % 2 * 0))", "UPDATE pg_index SET indisunique = true"
        " WHERE indexrelid = 'broken'::regclass",
    )  # fmt: skip
    outcome = compact_again(repacked)
    assert outcome.failed
    assert table_states(outcome) == BOTH_DONE | {"public.slow": ("pg_repack", "failed")}
    assert "rows with equal keys stand in the way" in outcome.result["msg"]
    assert made_by_repack(repacked) == []


def test_a_table_dropped_meanwhile_is_gone(repacked: Database) -> None:
    with brake(repacked) as held:
        process = compacting(repacked)
        wait_for(repacked, REPACKING)
        repacked.run("DROP TABLE other")
        held.close()
        outcome = finish(process)
    assert not outcome.failed, outcome.result["msg"]
    assert table_states(outcome) == BOTH_DONE | {"public.other": ("pg_repack", "gone")}


FULL = {"allow_exclusive_lock": True, "maintenance_until": "2090-01-01T00:00:00Z"}
BOTH_FULL = {"public.slow": ("vacuum_full", "done"), "public.other": ("vacuum_full", "done")}
FULLY = BUILDING.replace("REINDEX%", "VACUUM (FULL%")


def test_vacuum_full_waits_in_bounds_and_names_who_reads(database: Database) -> None:
    bloat_two_tables(database)
    reader = database.connect()
    reader.autocommit = False
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM slow")
    outcome = compact_again(database, **FULL, lock_timeout_ms=500)
    assert outcome.failed
    assert table_states(outcome) == BOTH_FULL | {"public.slow": ("vacuum_full", "locked")}
    assert f"held by session {reader.info.backend_pid}, idle in transaction" in outcome.result["msg"]
    reader.close()
    assert table_states(compact_again(database, **FULL)) == {"public.slow": ("vacuum_full", "done")}
    all_rows_are_there(database)


@pytest.mark.parametrize("by", ["SIGKILL", "SIGTERM", "deadline"])
def test_vacuum_full_that_is_interrupted_changes_nothing(database: Database, by: str) -> None:
    bloat_two_tables(database)
    before = database.one("SELECT relfilenode FROM pg_class WHERE relname = 'slow'")
    with brake(database):
        process = compacting(database, **FULL, **({"deadline_s": 3} if by == "deadline" else {}))
        (pid,) = wait_for(database, FULLY)
        if by != "deadline":
            process.send_signal(getattr(signal, by))
        if by == "SIGKILL":
            process.communicate(timeout=10)
            database.run(f"SELECT pg_terminate_backend({pid})")
        else:
            assert table_states(finish(process)) == dict.fromkeys(BOTH_FULL, ("vacuum_full", "not_reached"))
        ended(database, pid)
    assert database.one("SELECT relfilenode FROM pg_class WHERE relname = 'slow'") == before
    assert table_states(compact_again(database, **FULL)) == BOTH_FULL
    all_rows_are_there(database)
