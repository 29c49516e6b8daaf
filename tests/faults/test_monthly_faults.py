"""pg_reindex meets bad luck in the middle of a build: nothing is lost, nothing stays half built for long."""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Database, Outcome, module_process, run_module

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

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
