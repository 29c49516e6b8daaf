"""Module pg_index_info against a real server: each injected defect is named, and a sound database has none."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extras
import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, bindirs
from conftest import Database, Outcome, disposable, free_port, run_module
from record_samples import Sample, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ODD = 'say "hi".  ' + "ä" * 26


def index_info(database: Database, *, check: bool = False, run_dir: Path | None = None, **options: Any) -> Outcome:
    environ: dict[str, Any] = {} if run_dir is None else {"RUNBOOK_RUN_DIR": str(run_dir)}
    given = database.login | {"unused_after_days": 0, "min_size_bytes": 0} | options
    outcome = run_module("pg_index_info", given, check=check, **environ)
    assert not outcome.failed, outcome.result["msg"]
    return outcome


def of_kind(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    return [found for found in outcome.result["findings"] if found["kind"] == kind]


def ids(outcome: Outcome) -> list[str]:
    return [found["id"] for found in outcome.result["findings"]]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another session is about to do or to report."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that within a minute"
        time.sleep(0.05)


@contextlib.contextmanager
def session(database: Database, *statements: str) -> Iterator[Any]:
    """Another session, in a transaction in which it ran the statements."""
    connection = database.connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    yield connection
    connection.close()


@pytest.fixture
def shop(sound_database: Database) -> Database:
    """A sound database: keys, foreign keys with indexes, all of them used."""
    sound_database.run(
        "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE)",
        "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users,"
        " state text, at timestamptz NOT NULL DEFAULT now())",
        "CREATE INDEX orders_user_idx ON orders (user_id)",
        "INSERT INTO users (email) SELECT 'u' || i FROM generate_series(1, 300) AS i",
        "INSERT INTO orders (user_id, state) SELECT 1 + i % 300, 'open' FROM generate_series(1, 5000) AS i",
        "VACUUM ANALYZE",
    )
    return sound_database


def test_a_sound_database_has_no_finding(shop: Database) -> None:
    outcome = index_info(shop)
    assert ids(outcome) == []
    assert outcome.result["status"] == "ok"
    assert outcome.result["changed"] is False
    assert (outcome.result["tables"], outcome.result["indexes"]) == (2, 4)
    assert outcome.result["index_size_bytes"] == shop.one("SELECT pg_indexes_size('users') + pg_indexes_size('orders')")
    assert not [one for one in outcome.result["unknown"] if one["kind"] != "checksum_failures"]


def test_each_injected_defect_is_named_once_and_the_fix_fixes(shop: Database) -> None:
    shop.run(
        "CREATE INDEX orders_old_idx ON orders (at)",
        "CREATE INDEX users_email_copy ON users (email)",
        "CREATE UNIQUE INDEX orders_user_at_key ON orders (user_id, at, id)",
        "CREATE TABLE payments (id int PRIMARY KEY, order_id bigint REFERENCES orders)",
        "INSERT INTO payments SELECT i, i FROM generate_series(1, 4000) AS i",
        "CREATE TABLE tickets (id serial PRIMARY KEY)",
        "SELECT setval('tickets_id_seq', 1975684956)",
        "CREATE TABLE imported (id int PRIMARY KEY)",
        "INSERT INTO imported SELECT 2040109460 + i FROM generate_series(1, 1000) AS i",
        "VACUUM ANALYZE",
    )
    with contextlib.suppress(psycopg2.Error):
        shop.run("CREATE UNIQUE INDEX CONCURRENTLY orders_state_key ON orders (state)")
    outcome = index_info(shop)
    assert sorted(ids(outcome)) == [
        "duplicate_index:public.users.users_email_copy",
        "invalid_index:public.orders.orders_state_key",
        "key_near_end:public.imported.id",
        "key_near_end:public.tickets.id",
        "missing_foreign_key_index:public.payments.order_id",
        "unused_index:public.orders.orders_old_idx",
        "unused_index:public.orders.orders_user_idx",
    ]
    # As long as nobody can tell that it is unused, it is redundant.
    assert "redundant_index:public.orders.orders_user_idx" in ids(index_info(shop, unused_after_days=30))
    assert [(key["severity"], key["evidence"]["used_percent"]) for key in of_kind(outcome, "key_near_end")] == [
        ("critical", 95.0),
        ("warning", 92.0),
    ]
    # Not that of the invalid one, which stands for rows that are equal; the keys have none.
    for found in outcome.result["findings"]:
        assert found["msg"].endswith(".")
        assert found["risk"].endswith(".")
        if found["kind"] != "invalid_index":
            shop.run(*found["ddl"])
    left = ids(index_info(shop))
    assert left == [
        "key_near_end:public.imported.id",
        "invalid_index:public.orders.orders_state_key",
        "key_near_end:public.tickets.id",
    ]


def test_check_mode_is_the_same_and_nothing_is_written(shop: Database) -> None:
    shop.run("CREATE INDEX users_email_copy ON users (email)")
    before = shop.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    real, checked = index_info(shop), index_info(shop, check=True)
    assert shop.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == before
    assert real.result["findings"] == checked.result["findings"]
    assert len(real.result["findings"]) == 1


def test_what_the_counters_do_not_cover_is_not_judged(shop: Database) -> None:
    shop.run("CREATE INDEX orders_old_idx ON orders (at)", "VACUUM ANALYZE")
    outcome = index_info(shop, unused_after_days=30)
    assert not of_kind(outcome, "unused_index")
    [unknown] = [one for one in outcome.result["unknown"] if one["kind"] == "unused_index"]
    assert not unknown["fixable"]
    assert outcome.result["status"] == "ok"


def test_a_used_index_is_none(shop: Database) -> None:
    shop.run("CREATE INDEX orders_at_idx ON orders (at)", "VACUUM ANALYZE")
    assert len(of_kind(index_info(shop), "unused_index")) == 1
    shop.run("SET enable_seqscan = off", "SELECT count(*) FROM orders WHERE at < '2000-01-01'")
    until(lambda: bool(shop.one("SELECT pg_stat_get_numscans('orders_at_idx'::regclass)")))
    assert not of_kind(index_info(shop), "unused_index")


def test_a_session_that_idles_in_a_transaction_is_named_and_can_be_ended(shop: Database) -> None:
    with session(shop, "SELECT 1") as other:
        pid = other.info.backend_pid
        until(lambda: shop.one(f"SELECT now() - state_change > interval '1 s' FROM pg_stat_activity WHERE pid = {pid}"))
        assert not of_kind(index_info(shop), "idle_transaction")
        [found] = of_kind(index_info(shop, idle_transaction_s=1), "idle_transaction")
        assert found["id"] == f"idle_transaction:{pid}"
        shop.run(*found["ddl"])
        until(lambda: not shop.one(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"))


def test_a_forgotten_prepared_transaction_is_named_and_can_be_rolled_back(shop: Database) -> None:
    with session(shop, "INSERT INTO users (email) VALUES ('x')", "PREPARE TRANSACTION 'the  gid''s'"):
        pass
    until(lambda: shop.one("SELECT now() - prepared > interval '1 s' FROM pg_prepared_xacts"))
    [found] = of_kind(index_info(shop, idle_transaction_s=1), "prepared_transaction")
    shop.run(*found["ddl"])
    assert shop.one("SELECT count(*) FROM pg_prepared_xacts") == 0


def test_a_slot_that_holds_wal_is_named_and_can_be_dropped(shop: Database) -> None:
    name = f"forgotten_{shop.name}"
    shop.run(f"SELECT pg_create_physical_replication_slot('{name}', true)", "INSERT INTO users (email) VALUES ('w')")
    [found] = of_kind(index_info(shop, slot_wal_bytes=1), "replication_slot")
    assert found["id"] == f"replication_slot:{name}"
    assert found["evidence"]["retained_bytes"] >= 1
    assert not of_kind(index_info(shop), "replication_slot")
    shop.run(*found["ddl"])
    assert not of_kind(index_info(shop, slot_wal_bytes=1), "replication_slot")


def test_a_table_near_a_simulated_wraparound(shop: Database) -> None:
    shop.run("VACUUM FREEZE")
    shop.run("CREATE TABLE old (i int)", *["SELECT txid_current()"] * 300)
    shop.run("VACUUM FREEZE users", "VACUUM FREEZE orders")
    outcome = index_info(shop, max_xid_age=250)
    assert [found["object"] for found in of_kind(outcome, "wraparound")] == ["public.old"]
    shop.run(*of_kind(outcome, "wraparound")[0]["ddl"])
    assert not of_kind(index_info(shop, max_xid_age=250), "wraparound")


def test_settings_that_hurt(shop: Database) -> None:
    shop.run(f"ALTER DATABASE {shop.name} SET enable_indexscan = off")
    [found] = index_info(shop).result["findings"]
    assert found["id"] == "setting:enable_indexscan"
    shop.run(*found["ddl"])
    assert ids(index_info(shop)) == []


def test_a_test_server_that_may_lose_data_says_so(database: Database) -> None:
    outcome = index_info(database)
    assert ids(outcome) == ["setting:autovacuum", "setting:fsync"]
    assert outcome.result["status"] == "breach"


def test_big_tables_read_from_end_to_end(shop: Database) -> None:
    shop.run("CREATE TABLE log AS SELECT i FROM generate_series(1, 100000) AS i", "VACUUM ANALYZE log")
    shop.run("SET max_parallel_workers_per_gather = 0", *["SELECT count(*) FROM log"] * 30)
    until(lambda: shop.one("SELECT pg_stat_get_numscans('log'::regclass)") >= 30)
    [found] = of_kind(index_info(shop), "sequential_scans")
    assert found["object"] == "public.log"
    assert found["ddl"] == []
    assert not of_kind(index_info(shop, min_size_bytes=1 << 30), "sequential_scans")


def test_odd_names_are_quoted_and_their_ids_can_be_typed(shop: Database) -> None:
    odd = ODD.replace('"', '""')
    shop.run(
        f'CREATE TABLE "{odd}" (i bigint PRIMARY KEY, "a ""b" bigint REFERENCES orders)',
        f'INSERT INTO "{odd}" SELECT i, i FROM generate_series(1, 2000) AS i',
        f'CREATE INDEX "{odd[:-1]}1" ON "{odd}" (i)',
        "VACUUM ANALYZE",
    )
    outcome = index_info(shop)
    assert {found["kind"] for found in outcome.result["findings"]} == {"duplicate_index", "missing_foreign_key_index"}
    for found in outcome.result["findings"]:
        assert found["id"].replace(":", "").replace(".", "").replace("_", "").replace("-", "").isalnum()
        assert found["id"].isascii()
        shop.run(*found["ddl"])
    assert ids(index_info(shop)) == []


def test_a_foreign_key_of_a_partitioned_table(shop: Database) -> None:
    shop.run(
        "CREATE TABLE events (at int, user_id bigint REFERENCES users) PARTITION BY RANGE (at)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (at)",
        "CREATE TABLE events_1a PARTITION OF events_1 FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20)",
        "INSERT INTO events SELECT i % 5, 1 + i % 300 FROM generate_series(1, 3000) AS i",
        "VACUUM ANALYZE",
    )
    [found] = index_info(shop, min_size_bytes=8192).result["findings"]
    assert found["id"] == "missing_foreign_key_index:public.events.user_id"
    assert found["evidence"]["partitions"] == 2
    shop.run(*found["ddl"])
    assert shop.one("SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid::regclass::text LIKE 'events%'")
    assert ids(index_info(shop, min_size_bytes=1 << 20)) == []


def test_hypopg_is_asked_where_it_is() -> None:
    chosen = [Path(os.environ["PG_BINDIR"])] if os.environ.get("PG_BINDIR") else []
    there = [one for one in [*chosen, *bindirs()] if next((one.parent / "lib").rglob("hypopg.so"), None)]
    if not there:
        pytest.skip("NO TEST OF HypoPG: no PostgreSQL server here has it; install postgresql-15-hypopg")
    with disposable(there[0], fsync="off") as cluster:
        postgres = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
        postgres.run(
            "CREATE EXTENSION hypopg",
            "CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 5000) AS i",
            "ALTER TABLE orders ADD PRIMARY KEY (id)",
            'CREATE TABLE "pay  ments" (id bigint PRIMARY KEY, "order  id" int REFERENCES orders, filler text)',
            "INSERT INTO \"pay  ments\" SELECT i, 1 + i % 5000, repeat('x', 100) FROM generate_series(1, 20000) AS i",
            "CREATE TABLE refunds (id bigint PRIMARY KEY, order_id int REFERENCES orders)",
            "INSERT INTO refunds SELECT i, 1 FROM generate_series(1, 20000) AS i",
            "CREATE ROLE reader LOGIN IN ROLE pg_read_all_stats",
            "VACUUM ANALYZE",
        )
        outcome = index_info(postgres)
        assert outcome.result["hypopg"] is True
        found = {one["object"]: one for one in of_kind(outcome, "missing_foreign_key_index")}
        wins = found["public.pay  ments"]["estimated"]
        assert wins["cost_after"] < wins["cost_before"] / 10
        # All rows refer to one: no plan for any value is better with an index.
        assert "would not use" in found["public.refunds"]["msg"]
        assert postgres.one("SELECT count(*) FROM pg_indexes WHERE tablename = 'pay  ments'") == 1
        # Who may not read the table may not ask the planner either; the finding stands without.
        unread = of_kind(index_info(postgres, login_user="reader"), "missing_foreign_key_index")
        assert [one["estimated"] for one in unread] == [None, None]


def test_beside_a_standby_and_on_it_nobody_knows_what_is_unused(
    shop: Database, sound_cluster: Cluster, tmp_path: Path
) -> None:
    shop.run(
        "CREATE EXTENSION pg_stat_statements",
        "CREATE INDEX orders_old_idx ON orders (at)",
        "CREATE INDEX users_email_copy ON users (email)",
    )
    copy = Cluster(sound_cluster.bindir, tmp_path / "data", free_port())
    source = ["--host=127.0.0.1", f"--port={shop.port}", f"--username={shop.user}"]
    copy._run("pg_basebackup", *source, f"--pgdata={copy.data}", "--checkpoint=fast", "--no-sync")
    # By hand, for a newer pg_basebackup writes parameters that an older server does not know.
    (copy.data / "standby.signal").touch()
    primary = f"host=127.0.0.1 port={shop.port} user={shop.user}"
    copy.start(
        primary_conninfo=primary,
        shared_preload_libraries="pg_stat_statements",
        max_connections=60,
        max_prepared_transactions=5,
    )
    try:
        until(lambda: bool(shop.one("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")))
        there = Database("127.0.0.1", copy.port, shop.name, shop.user)
        outcomes = {place.port: index_info(place) for place in (shop, there)}
        assert run_module("pg_query_info", there.login).result["status"] == "ok"
    finally:
        copy.stop("immediate")
        # The server is other tests' too.
        until(lambda: not shop.one("SELECT count(*) FROM pg_stat_replication"))
    for port, outcome in outcomes.items():
        assert ids(outcome) == ["duplicate_index:public.users.users_email_copy"]
        assert [one["kind"] for one in outcome.result["unknown"] if one["kind"] != "checksum_failures"] == [
            "unused_index"
        ]
        assert outcome.result["is_standby"] is (port == copy.port)
        assert outcome.result["standbys"] == (0 if port == copy.port else 1)


def test_tables_come_and_go_meanwhile(shop: Database) -> None:
    """Somebody makes, locks and drops tables with all that hangs on them, without a pause."""
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shop.run(
                f"CREATE TABLE g{number} (id serial PRIMARY KEY, u bigint REFERENCES users, t text)",
                f"CREATE INDEX ON g{number} (lower(t)) WHERE u > 0",
                f"DROP TABLE g{number}",
            )

    threads = [threading.Thread(target=change)]
    for thread in threads:
        thread.start()
    try:
        outcomes = [index_info(shop) for _ in range(3)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(outcome.result["tables"] in (2, 3) for outcome in outcomes)


def test_since_when_the_counters_count(shop: Database, tmp_path: Path) -> None:
    def since(*, days: int = 0, run: str = "", **options: Any) -> tuple[datetime, str]:
        """As the module says; with a name, its record is kept, as if it had known of more days."""
        result = index_info(shop, run_dir=tmp_path / "20260308T020000Z-now", **options).result
        moment = datetime.fromisoformat(result["counted_since"])
        if run:
            sample = Sample()
            earlier = result | {"counted_since": (moment - timedelta(days=days)).isoformat()}
            sample.result(sample.task("Look", "pg_index_info"), "db1", figures=earlier)
            (tmp_path / run).mkdir()
            (tmp_path / run / "record.json").write_text(json.dumps(fold(sample.events)))
        return moment, result["counters_id"]

    shop.run("CREATE ROLE reader LOGIN")
    try:
        made, number = since()
        assert made == shop.one(
            "SELECT date_trunc('second', (pg_stat_file('base/' || oid || '/PG_VERSION')).modification) FROM pg_database"
            " WHERE datname = current_database()"
        )
        # Who may not look at files knows what the counters remember.
        remembered, _ = since(login_user="reader", days=40, run="20260301T020000Z-performance")
        assert made <= remembered
        # Who has an earlier record knows what was known then.
        assert since(login_user="reader") == (remembered - timedelta(days=40), number)
        asked = "SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()"
        # Before PostgreSQL 15 there is one from the beginning, and a reset is seen a moment later.
        before = shop.one(asked)
        shop.run("SELECT pg_stat_reset()")
        until(lambda: shop.one(asked) != before)
        reset = shop.one(asked)
        assert since(login_user="reader")[0] == reset.replace(microsecond=0)
        assert since()[1] != number
    finally:
        shop.run("DROP ROLE reader")


def test_without_rights_it_is_unknown(shop: Database) -> None:
    user = f"nobody_{shop.name}"
    shop.run("CREATE SEQUENCE hidden", "CREATE TABLE plain (id int PRIMARY KEY)", f"CREATE ROLE {user} LOGIN")
    try:
        with session(shop, "SELECT 1"):
            outcome = index_info(shop, login_user=user)
            assert outcome.result["status"] == "unknown"
            unknown = {one["kind"]: one["msg"] for one in outcome.result["unknown"] if one["fixable"]}
            assert "pg_read_all_stats" in unknown["idle_transaction"]
            assert "public.hidden" in unknown["key_near_end"]
            assert "public.plain.id" in unknown["key_near_end"]
            shop.run(
                f"GRANT pg_read_all_stats TO {user}",
                f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {user}",
                f"GRANT SELECT ON plain TO {user}",
            )
            assert index_info(shop, login_user=user).result["status"] == "ok"
    finally:
        shop.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_a_locked_table_is_not_waited_for(shop: Database) -> None:
    shop.run("CREATE INDEX users_email_copy ON users (email)", "CREATE INDEX part ON orders ((id + 1)) WHERE id > 0")
    with session(shop, "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE"):
        outcome = index_info(shop)
    assert [one["msg"] for one in outcome.result["unknown"] if "public.orders" in one["msg"]]
    assert "duplicate_index:public.users.users_email_copy" in ids(outcome)
    assert outcome.result["status"] == "unknown"


def test_an_index_that_is_being_built_is_none(shop: Database) -> None:
    holder = shop.connect()
    holder.autocommit = False
    with holder.cursor() as cursor:
        cursor.execute("INSERT INTO orders (user_id) VALUES (1)")
    builder = psycopg2.connect(host=shop.host, port=shop.port, dbname=shop.name, user=shop.user, async_=True)
    try:
        psycopg2.extras.wait_select(builder)
        cursor = builder.cursor()
        cursor.execute("CREATE INDEX CONCURRENTLY orders_at_idx ON orders (at)")
        until(lambda: bool(shop.one("SELECT count(*) FROM pg_index WHERE NOT indisvalid")))
        assert not of_kind(index_info(shop), "invalid_index")
    finally:
        holder.close()
        psycopg2.extras.wait_select(builder)
        builder.close()


def test_two_thousand_tables_take_a_dozen_queries(shop: Database) -> None:
    shop.run(
        *(
            f"DO $$ BEGIN FOR i IN {first}..{first + 199} LOOP EXECUTE format('CREATE TABLE many_%s"
            " (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users)', i); END LOOP; END $$"
            for first in range(1, 2000, 200)
        )
    )
    shop.run("CREATE EXTENSION pg_stat_statements")
    cost = "SELECT sum({}) FROM pg_stat_statements WHERE query NOT LIKE '%FROM pg_stat_statements%'"
    calls, pages = shop.one(cost.format("calls")), shop.one(cost.format("shared_blks_hit"))
    outcome = index_info(shop, min_size_bytes=1)
    assert outcome.result["tables"] == 2002
    assert shop.one(cost.format("calls")) - calls < 40
    # Whatever looks at each table for each table would take millions.
    assert shop.one(cost.format("shared_blks_hit")) - pages < 500_000
    assert len(json.dumps(outcome.result)) < 100_000


@pytest.mark.parametrize(
    ("option", "value"),
    [("unused_after_days", -1), ("max_key_percent", 101), ("max_xid_age", 0), ("idle_transaction_s", 0)],
)
def test_bad_options_are_refused_in_one_sentence(shop: Database, option: str, value: Any) -> None:
    outcome = run_module("pg_index_info", shop.login | {option: value})
    assert outcome.failed
    assert outcome.result["msg"].startswith(f"{option}: {value} is out of bounds")
