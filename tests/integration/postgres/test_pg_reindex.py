"""Module pg_reindex against a real server."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.postgres import lease
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from conftest import Database, Outcome, free_port, hold_lease, run_module, this_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 30_000
LIMITS = {"min_size_bytes": 100_000}


def reindex(database: Database, *, check: bool = False, diff: bool = False, **options: Any) -> Outcome:
    return run_module("pg_reindex", database.login | LIMITS | options, check=check, diff=diff)


def states(outcome: Outcome) -> dict[str, str]:
    return {one["index"]: one["state"] for one in outcome.result["indexes"]}


def entry(outcome: Outcome, index: str) -> dict[str, Any]:
    return next(one for one in outcome.result["indexes"] if one["index"] == index)


def files(database: Database) -> list[tuple[Any, ...]]:
    """What a rebuild would change, and the next transaction id."""
    return database.run(
        "SELECT c.oid, c.relname, c.relfilenode, i.indisvalid, pg_snapshot_xmax(pg_current_snapshot())::text"
        " FROM pg_class AS c JOIN pg_index AS i ON i.indexrelid = c.oid ORDER BY 1"
    )


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


def has(database: Database, extension: str) -> bool:
    return bool(database.one(f"SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'"))


@pytest.fixture
def bloated(database: Database) -> Database:
    """Table ``t``: indexes of which 80 % is bloat; table ``clean``: none."""
    hold_lease(this_run(), database)
    for table in ("t", "clean"):
        database.run(
            f"CREATE TABLE {table} AS SELECT i AS id, i % 100 AS a, 'n' || i AS n FROM generate_series(1, {ROWS}) AS i",
            f"ALTER TABLE {table} ADD PRIMARY KEY (id)",
            f"CREATE INDEX {table}_a ON {table} (a, id)",
            f'CREATE INDEX {table}_n ON {table} (n COLLATE "C") WHERE id > 0',
        )
    database.run("DELETE FROM t WHERE id % 5 <> 0")
    database.run("VACUUM ANALYZE")
    return database


ALL_OF_T = {"public.t_pkey", "public.t_a", "public.t_n"}


@pytest.mark.parametrize("extension", [False, True])
def test_the_plan_is_what_runs_and_a_second_run_finds_nothing(bloated: Database, extension: bool) -> None:
    if extension:
        for name in ("pgstattuple", "amcheck"):
            if not has(bloated, name):
                pytest.skip(f"this server has no {name}")
            bloated.run(f"CREATE EXTENSION {name}")
    before = files(bloated)
    planned = reindex(bloated, check=True, diff=True)
    assert files(bloated) == before
    assert not planned.failed, planned.result["msg"]
    assert states(planned) == dict.fromkeys(ALL_OF_T, "planned")
    assert planned.result["changed"] is True
    assert planned.result["structure_checked"] is extension

    done = reindex(bloated, diff=True)
    assert not done.failed, done.result["msg"]
    assert done.result["status"] == "ok"
    assert done.result["diff"] == planned.result["diff"]
    assert states(done) == dict.fromkeys(ALL_OF_T, "done")
    assert sorted(done.result["executed_queries"]) == sorted(planned.result["executed_queries"])
    assert {one["checked"] for one in done.result["indexes"]} == {True if extension else None}
    assert done.result["size_after_bytes"] < 0.35 * done.result["size_before_bytes"]
    for one in done.result["indexes"]:
        assert one["size_after_bytes"] == bloated.one(f"SELECT pg_relation_size('{one['index']}')")
    kept = [row for row in before if not row[1].startswith("t_")]
    assert [row[:4] for row in files(bloated) if not row[1].startswith("t_")] == [row[:4] for row in kept]

    again = reindex(bloated)
    assert again.result["changed"] is False
    assert again.result["status"] == "ok"
    assert again.result["msg"].startswith("Nothing to do")


def test_clients_go_on_meanwhile(bloated: Database) -> None:
    stop, failed, written = threading.Event(), [], [0]

    def write() -> None:
        connection = bloated.connect()
        with connection.cursor() as cursor:
            while not stop.is_set():
                try:
                    cursor.execute("INSERT INTO t SELECT 100000 + %s, 1, 'new' || %s", (written[0], written[0]))
                    cursor.execute("UPDATE t SET a = a + 1 WHERE id = 5")
                    written[0] += 1
                except Exception as error:
                    failed.append(str(error))
                    break
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    outcome = reindex(bloated, jobs=3)
    stop.set()
    thread.join()
    assert not outcome.failed, outcome.result["msg"]
    assert failed == []
    assert written[0] > 0
    bloated.run("SET enable_seqscan = off", "SELECT 1")
    assert bloated.run("SET enable_seqscan = off", "SELECT count(*) FROM t WHERE id >= 100000") == [(written[0],)]


def test_all_takes_every_index_that_can_be(bloated: Database) -> None:
    bloated.run(
        "CREATE TABLE slots (r int4range, EXCLUDE USING gist (r WITH &&))",
        "CREATE TABLE parts (i int PRIMARY KEY) PARTITION BY RANGE (i)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE tags AS SELECT ARRAY[1, 2] AS t",
        "CREATE INDEX tags_t ON tags USING gin (t)",
    )
    before = {row[1]: row[2] for row in files(bloated)}
    outcome = reindex(bloated, mode="all")
    assert not outcome.failed, outcome.result["msg"]
    assert set(states(outcome).values()) == {"done"}
    rebuilt = {name for name in before if before[name] != {row[1]: row[2] for row in files(bloated)}[name]}
    expected = {"t_pkey", "t_a", "t_n", "clean_pkey", "clean_a", "clean_n", "parts_1_pkey", "tags_t"}
    assert expected <= rebuilt
    assert "slots_r_excl" not in rebuilt
    assert not [name for name in rebuilt if name.startswith("pg_") and not name.startswith("pg_toast")]


def test_an_invalid_index_is_rebuilt(bloated: Database) -> None:
    bloated.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'clean_a'::regclass")
    outcome = reindex(bloated, min_bloat_percent=100)
    assert not outcome.failed, outcome.result["msg"]
    assert states(outcome) == {"public.clean_a": "done"}
    assert bloated.one("SELECT indisvalid FROM pg_index WHERE indexrelid = 'clean_a'::regclass") is True


def leave_behind(database: Database, table: str, index: str, columns: str) -> None:
    """What an interrupted REINDEX CONCURRENTLY leaves."""
    database.run(
        f"CREATE INDEX {index} ON {table} ({columns})",
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass",
    )


def test_what_an_interrupted_run_left_is_dropped_and_nothing_else(bloated: Database) -> None:
    leave_behind(bloated, "clean", "clean_a_ccnew", "a, id")
    leave_behind(bloated, "clean", "clean_a_ccold1", "a, id")
    # No valid twin: it was somebody's own.
    leave_behind(bloated, "clean", "lonely_ccnew", "n, a")
    bloated.run("CREATE INDEX valid_ccnew ON clean (a, id)")
    planned = reindex(bloated, check=True, min_bloat_percent=100)
    assert planned.result["msg"].endswith("and drop 2 left behind.")
    outcome = reindex(bloated, min_bloat_percent=100)
    assert not outcome.failed, outcome.result["msg"]
    actions = {one["index"]: one["action"] for one in outcome.result["indexes"]}
    assert actions == {
        "public.clean_a_ccnew": "drop",
        "public.clean_a_ccold1": "drop",
        "public.lonely_ccnew": "rebuild",
    }
    names = {row[1] for row in files(bloated)}
    assert {"clean_a", "lonely_ccnew", "valid_ccnew"} <= names
    assert not {"clean_a_ccnew", "clean_a_ccold1"} & names
    assert outcome.result["dropped_indexes"] == 2


def test_a_changed_collation_is_rebuilt_and_confirmed(bloated: Database) -> None:
    if not bloated.one("SELECT count(*) FROM pg_collation WHERE collname = 'de-x-icu' AND collversion IS NOT NULL"):
        pytest.skip("this server was built without ICU")
    bloated.run(
        'CREATE COLLATION public."odd ""one" (provider = icu, locale = \'de\')',
        'CREATE INDEX clean_de ON clean (n COLLATE public."odd ""one")',
        "UPDATE pg_collation SET collversion = '0' WHERE collname = 'odd \"one'",
    )
    planned = reindex(bloated, check=True, min_bloat_percent=100)
    assert states(planned) == {"public.clean_de": "planned"}
    assert bloated.one("SELECT collversion FROM pg_collation WHERE collname = 'odd \"one'") == "0"
    outcome = reindex(bloated, min_bloat_percent=100)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["refreshed_collations"] == ['public."odd ""one"']
    assert reindex(bloated, min_bloat_percent=100).result["changed"] is False


def test_a_corrupt_index_is_told_and_left_as_evidence(tmp_path: Path) -> None:
    own = Cluster(find_bindir(os.environ.get("PG_BINDIR")), tmp_path / "data", free_port())
    own.init()
    own.start(fsync="off", autovacuum="off")
    try:
        database = Database("127.0.0.1", own.port, "postgres", own.superuser)
        if not has(database, "amcheck"):
            pytest.skip("this server has no amcheck")
        for table in ("hurt", "whole"):
            database.run(
                f"CREATE TABLE {table} AS SELECT i AS id FROM generate_series(1, {ROWS}) AS i",
                f"CREATE INDEX {table}_id ON {table} (id)",
                f"DELETE FROM {table} WHERE id % 5 <> 0",
            )
        database.run("CREATE EXTENSION amcheck", "VACUUM ANALYZE")
        path = own.data / database.one("SELECT pg_relation_filepath('hurt_id')")
        # Stopped, so that no page is in the server's memory.
        own.stop()
        with path.open("r+b") as handle:
            handle.seek(8192)
            page = bytearray(handle.read(8192))
            # Two item pointers change places: the entries are sound, their order is not.
            page[28:32], page[60:64] = page[60:64], page[28:32]
            handle.seek(8192)
            handle.write(page)
        own.start(fsync="off", autovacuum="off")
        before = database.one("SELECT relfilenode FROM pg_class WHERE relname = 'hurt_id'")
        outcome = reindex(database)
        assert outcome.failed
        assert states(outcome) == {"public.hurt_id": "corrupt", "public.whole_id": "done"}
        assert "CORRUPT" in outcome.result["msg"]
        assert database.one("SELECT relfilenode FROM pg_class WHERE relname = 'hurt_id'") == before
    finally:
        own.stop("immediate")


def test_equal_keys_are_told_and_the_half_built_index_is_gone(bloated: Database) -> None:
    bloated.run(
        "CREATE TABLE twins AS SELECT 1 AS id FROM generate_series(1, 3)",
        "CREATE TABLE once (id int)",
    )
    connection = bloated.connect()
    with connection.cursor() as cursor, pytest.raises(Exception, match="could not create unique index"):
        cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY twins_id ON twins (id)")
    connection.close()
    outcome = reindex(bloated, min_bloat_percent=100)
    assert outcome.failed
    assert states(outcome) == {"public.twins_id": "failed"}
    assert "equal keys" in outcome.result["msg"]
    assert [row[1] for row in files(bloated) if "twins" in row[1]] == ["twins_id"]


def test_an_old_transaction_is_waited_for_within_bounds_and_named(bloated: Database) -> None:
    before = [row[:4] for row in files(bloated)]
    with holding(bloated, "UPDATE t SET a = 1 WHERE id = 5") as connection:
        pid = connection.info.backend_pid
        outcome = reindex(bloated, lock_timeout_ms=200)
        assert outcome.failed
        assert outcome.result["changed"] is False
        assert set(states(outcome).values()) == {"locked"}
        assert f"held by session {pid}, idle in transaction" in outcome.result["msg"]
        # It waited before it made anything.
        assert [row[:4] for row in files(bloated)] == before
    assert not reindex(bloated).failed


def test_an_old_snapshot_is_waited_for_before_anything_is_made(bloated: Database) -> None:
    before = [row[:4] for row in files(bloated)]
    with holding(bloated, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1") as connection:
        outcome = reindex(bloated, lock_timeout_ms=200)
        assert f"held by session {connection.info.backend_pid}, idle in transaction" in outcome.result["msg"]
    assert outcome.failed
    assert [row[:4] for row in files(bloated)] == before


def test_a_table_under_lock_and_key_does_not_stop_the_others(bloated: Database) -> None:
    bloated.run("DELETE FROM clean WHERE id % 5 <> 0")
    bloated.run("VACUUM ANALYZE clean")
    with holding(bloated, "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"):
        outcome = reindex(bloated, lock_timeout_ms=200)
    assert outcome.failed
    rest = ("public.clean_pkey", "public.clean_a", "public.clean_n")
    assert states(outcome) == dict.fromkeys(ALL_OF_T, "locked") | dict.fromkeys(rest, "done")
    assert "3 indexes stayed locked" in outcome.result["msg"]


def test_too_little_disk_is_told_before(bloated: Database) -> None:
    before = files(bloated)
    outcome = reindex(bloated, free_disk_bytes=1000)
    assert outcome.failed
    assert set(states(outcome).values()) == {"no_space"}
    assert files(bloated) == before


def test_the_free_disk_of_this_machine_is_found_out(bloated: Database, cluster: Cluster) -> None:
    disk = os.statvfs(cluster.data)
    found = reindex(bloated, check=True).result["free_disk_bytes"]
    assert abs(found - disk.f_bavail * disk.f_frsize) < 1 << 30


def test_a_deadline_that_is_too_close_begins_nothing(bloated: Database) -> None:
    bloated.run("UPDATE pg_class SET relpages = 10000000 WHERE relname = 't'")
    outcome = reindex(bloated, deadline_s=5)
    assert outcome.failed
    assert set(states(outcome).values()) == {"not_reached"}
    assert "deadline" in outcome.result["msg"]
    assert outcome.result["changed"] is False


def test_who_does_not_own_the_table_may_not(bloated: Database) -> None:
    user = f"other_{bloated.name}"
    bloated.run(f"CREATE ROLE {user} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
    try:
        outcome = reindex(bloated, login_user=user)
        assert not outcome.failed, outcome.result["msg"]
        assert set(states(outcome).values()) == {"not_permitted"}
        # Before PostgreSQL 17 there is no MAINTAIN to grant.
        has_maintain = bloated.one("SELECT current_setting('server_version_num')::int >= 170000")
        fix = "run playbooks/db_roles.yml again, or GRANT" if has_maintain else "connect as a superuser, who owns them"
        assert fix in json.dumps(outcome.result["warnings"])
        bloated.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'clean_a'::regclass")
        assert reindex(bloated, login_user=user).failed
        bloated.run(f"ALTER TABLE t OWNER TO {user}", f"ALTER TABLE clean OWNER TO {user}")
        done = reindex(bloated, login_user=user)
        assert not done.failed, done.result["msg"]
        assert set(states(done).values()) == {"done"}
    finally:
        bloated.run(f"REASSIGN OWNED BY {user} TO postgres", f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_odd_names(database: Database) -> None:
    odd = 'say ""hi"". ' + "ä" * 26
    database.run(
        f'CREATE SCHEMA "{odd}"',
        f'CREATE TABLE "{odd}"."{odd}" AS SELECT i AS id FROM generate_series(1, {ROWS}) AS i',
        f'CREATE INDEX "{odd[:-1]}ö" ON "{odd}"."{odd}" (id)',
        f'DELETE FROM "{odd}"."{odd}" WHERE id % 5 <> 0',
    )
    database.run("VACUUM ANALYZE")
    outcome = reindex(database)
    assert not outcome.failed, outcome.result["msg"]
    assert list(states(outcome).values()) == ["done"]


def test_two_runs_never_meet(bloated: Database) -> None:
    before = files(bloated)
    with holding(bloated, f"SELECT pg_advisory_lock({lease.WRITER_LOCK})"):
        outcome = reindex(bloated)
        assert reindex(bloated, check=True).result["changed"] is True
    assert outcome.failed
    assert [row[:4] for row in files(bloated)] == [row[:4] for row in before]


def test_a_read_only_standby_is_refused(tmp_path: Path) -> None:
    standby = Cluster(find_bindir(os.environ.get("PG_BINDIR")), tmp_path / "data", free_port())
    standby.init()
    (standby.data / "standby.signal").touch()
    standby.start(fsync="off", hot_standby="on")
    try:
        database = Database("127.0.0.1", standby.port, "postgres", standby.superuser)
        assert "read-only standby" in run_module("pg_compact", database.login).result["msg"]
        outcome = reindex(database)
        assert outcome.failed
        assert "read-only standby" in outcome.result["msg"]
    finally:
        standby.stop("immediate")


@pytest.mark.parametrize(
    ("option", "value"),
    [("jobs", 0), ("deadline_s", 0), ("lock_timeout_ms", 0), ("min_bloat_percent", 0), ("min_bloat_percent", 101)],
)
def test_bad_options_are_refused_in_one_sentence(database: Database, option: str, value: Any) -> None:
    outcome = run_module("pg_reindex", database.login | {option: value})
    assert outcome.failed
    assert outcome.result["msg"].startswith(f"{option}: {value} is ")
