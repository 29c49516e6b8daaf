"""Module pg_bloat_info against a real server: its figures beside the truth, and what it cannot tell."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import Database, Outcome, run_module

ROWS = 20_000
SHAPES = {
    "numbers": "i AS id, i % 100 AS a, i::bigint AS b",
    "texts": "i AS id, repeat('x', i % 200) AS a, now() + i * interval '1 s' AS b",
    "nulls": "i AS id, CASE WHEN i % 3 = 0 THEN 'abc' || i END AS a, CASE WHEN i % 2 = 0 THEN i END AS b",
    "mixed": "i AS id, gen_random_uuid() AS a, 'status ' || i % 5 AS b, i % 7 = 0 AS c, (i % 50)::smallint AS d",
}
ODD = 'say "hi". ' + "ä" * 26


def has_pgstattuple(database: Database) -> bool:
    return bool(database.one("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgstattuple'"))


def bloat(database: Database, *, check: bool = False, **options: Any) -> Outcome:
    return run_module("pg_bloat_info", database.login | {"top": 500, "min_size_bytes": 0} | options, check=check)


def entry(outcome: Outcome, relation: str) -> dict[str, Any]:
    return next(found for found in outcome.result["relations"] if found["relation"] == relation)


@pytest.fixture
def shapes(database: Database) -> Database:
    """Tables of several shapes, whole and with half of their rows deleted, vacuumed and analysed."""
    for name, columns in SHAPES.items():
        for deleted in (0, 50):
            table = f"{name}_{deleted}"
            database.run(
                f"CREATE TABLE {table} AS SELECT {columns} FROM generate_series(1, {ROWS}) AS i",
                f"CREATE UNIQUE INDEX {table}_id ON {table} (id)",
                f"CREATE INDEX {table}_a ON {table} (a)",
                f"CREATE INDEX {table}_b_a ON {table} (b, a)",
                f"CREATE INDEX {table}_part ON {table} (b) WHERE id % 2 = 0",
                f"CREATE INDEX {table}_expr ON {table} ((id % 10))",
                f"DELETE FROM {table} WHERE (hashint4(id)::bigint & 1023) < {deleted * 1024 // 100}",
            )
    database.run("VACUUM ANALYZE")
    return database


@pytest.mark.parametrize("measure", [False, True])
def test_the_figures_are_near_the_truth(shapes: Database, measure: bool) -> None:
    if measure and not has_pgstattuple(shapes):
        pytest.skip("this server has no pgstattuple")
    if measure:
        shapes.run("CREATE EXTENSION pgstattuple")
    said = bloat(shapes, measure=measure)
    assert not said.failed, said.result["msg"]
    assert said.result["pgstattuple"] is measure
    for name in SHAPES:
        shapes.run(f"VACUUM FULL {name}_0", f"VACUUM FULL {name}_50")
    truth = dict(
        shapes.run(
            "SELECT 'public.' || relname, pg_relation_size(oid) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
        )
    )
    found = {one["relation"]: one for one in said.result["relations"] if one["relation"] in truth}
    assert len(found) == 2 * len(SHAPES) * 6
    assert {one["method"] for one in found.values()} == {"measured" if measure else "estimated"}
    off = sorted(100 * abs(one["expected_bytes"] - truth[name]) / one["size_bytes"] for name, one in found.items())
    assert off[len(off) // 2] < 3
    assert off[len(off) * 9 // 10] < 12
    half = [one["bloat_percent"] for name, one in found.items() if name.endswith("_50")]
    assert all(30 < percent < 65 for percent in half), half


def test_check_mode_is_the_same_and_nothing_is_written(shapes: Database) -> None:
    before = shapes.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    real, checked = bloat(shapes), bloat(shapes, check=True)
    assert shapes.one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == before
    assert real.result["changed"] is False
    assert real.result["status"] == "ok"
    assert checked.result["relations"] == real.result["relations"]
    assert checked.result["tables"] == real.result["tables"]


def test_sizes_are_those_of_the_server(shapes: Database) -> None:
    outcome = bloat(shapes, measure=False)
    numbers = next(one for one in outcome.result["tables"] if one["table"] == "public.numbers_50")
    assert numbers["heap_bytes"] == shapes.one("SELECT pg_relation_size('numbers_50')")
    assert numbers["indexes_bytes"] == shapes.one("SELECT pg_indexes_size('numbers_50')")
    assert numbers["total_bytes"] == numbers["heap_bytes"] + numbers["indexes_bytes"]
    assert outcome.result["database_size_bytes"] == shapes.one("SELECT pg_database_size(current_database())")


def test_toast_is_counted_and_at_least_so_much(database: Database) -> None:
    database.run(
        "CREATE TABLE notes (id int PRIMARY KEY, body text)",
        "ALTER TABLE notes ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO notes SELECT i, repeat('x', 7900) FROM generate_series(1, 400) AS i",
        "DELETE FROM notes WHERE id % 2 = 0",
    )
    # A session reports what it did when it ends; reported after the VACUUM, the rows would count as new.
    until = time.monotonic() + 60
    while True:
        database.run("VACUUM ANALYZE notes")
        outcome = bloat(database, measure=False)
        toast = next(
            one for one in outcome.result["relations"] if one["table"] == "public.notes" and one["kind"] == "toast"
        )
        # An ANALYZE of autovacuum's may see the rows yet, and then they stay.
        if toast["bloat_percent"] or time.monotonic() > until:
            break
    assert toast["method"] == "at_least"
    assert toast["error_percent"] is None
    assert 45 < toast["bloat_percent"] < 55
    notes = next(one for one in outcome.result["tables"] if one["table"] == "public.notes")
    assert notes["toast_bytes"] == toast["size_bytes"]
    assert notes["bloat_bytes"] >= toast["bloat_bytes"]


def test_partitions_are_rolled_up(database: Database) -> None:
    database.run(
        "CREATE TABLE events (i int PRIMARY KEY, t text) PARTITION BY RANGE (i)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (6000) PARTITION BY RANGE (i)",
        "CREATE TABLE events_1a PARTITION OF events_1 FOR VALUES FROM (0) TO (3000)",
        "CREATE TABLE events_1b PARTITION OF events_1 FOR VALUES FROM (3000) TO (6000)",
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (6000) TO (9001)",
        "INSERT INTO events SELECT i, repeat('x', 100) FROM generate_series(1, 9000) AS i",
        "DELETE FROM events WHERE i % 2 = 0",
        "VACUUM ANALYZE",
    )
    outcome = bloat(database, measure=False)
    events = next(one for one in outcome.result["tables"] if one["table"] == "public.events")
    assert events["partitions"] == 3
    assert events["heap_bytes"] == database.one(
        "SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('events') WHERE isleaf"
    )
    assert not [one for one in outcome.result["tables"] if one["table"].startswith("public.events_")]


def test_a_table_that_was_never_analysed_is_unknown(database: Database) -> None:
    database.run("CREATE TABLE fresh AS SELECT i, 'x' AS t FROM generate_series(1, 5000) AS i")
    outcome = bloat(database, measure=False, min_size_bytes=100_000)
    assert outcome.result["status"] == "unknown"
    assert outcome.result["unknown"] == ["public.fresh"]
    assert entry(outcome, "public.fresh")["bloat_bytes"] is None
    assert "ANALYZE" in outcome.result["msg"]
    assert bloat(database, measure=False, min_size_bytes=500_000).result["status"] == "ok"


def test_without_rights_it_is_unknown(shapes: Database) -> None:
    user = f"nobody_{shapes.name}"
    shapes.run(f"CREATE ROLE {user} LOGIN")
    try:
        outcome = bloat(shapes, login_user=user, measure=True)
        assert not outcome.failed, outcome.result["msg"]
        assert outcome.result["status"] == "unknown"
        assert entry(outcome, "public.texts_50")["unknown_because"].startswith("this user may not")
        shapes.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        # Statistics of an expression belong to the index, and only its owner may read them.
        assert entry(bloat(shapes, login_user=user), "public.texts_50")["bloat_bytes"] > 0
    finally:
        shapes.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_a_locked_table_is_not_waited_for(shapes: Database) -> None:
    connection = shapes.connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE texts_50 IN ACCESS EXCLUSIVE MODE")
    outcome = bloat(shapes)
    connection.close()
    assert not outcome.failed, outcome.result["msg"]
    locked = entry(outcome, "public.texts_50")
    assert (locked["size_bytes"], locked["bloat_bytes"]) == (None, None)
    assert "locked" in locked["unknown_because"]
    assert outcome.result["status"] == "unknown"
    assert entry(outcome, "public.numbers_50")["bloat_bytes"] > 0


def test_an_index_of_another_type_is_unknown_without_reproach(database: Database) -> None:
    database.run(
        "CREATE TABLE tags AS SELECT i, ARRAY[i % 7, i % 11] AS t FROM generate_series(1, 5000) AS i",
        "CREATE INDEX tags_t ON tags USING gin (t)",
        "VACUUM ANALYZE",
    )
    outcome = bloat(database, measure=False, min_size_bytes=8192)
    assert "type gin" in entry(outcome, "public.tags_t")["unknown_because"]
    assert outcome.result["status"] == "ok"


def test_odd_names_and_dropped_columns(database: Database) -> None:
    odd = ODD.replace('"', '""')
    database.run(
        f'CREATE TABLE "{odd}" AS SELECT i AS "a ""b", repeat(\'x\', 50) AS gone, i::text AS c'
        " FROM generate_series(1, 5000) AS i",
        f'ALTER TABLE "{odd}" DROP gone',
        f'CREATE INDEX "{odd[:-1]}ö" ON "{odd}" ("a ""b")',
        f'VACUUM FULL "{odd}"',
        "VACUUM ANALYZE",
    )
    outcome = bloat(database, measure=False)
    table = next(one for one in outcome.result["relations"] if "hi" in one["relation"] and one["kind"] == "table")
    assert table["bloat_percent"] < 5


def test_two_thousand_tables_cost_little(database: Database) -> None:
    database.run(
        *(
            f"DO $$ BEGIN FOR i IN {first}..{first + 199} LOOP"
            " EXECUTE format('CREATE TABLE many_%s (id int, t text)', i); END LOOP; END $$"
            for first in range(1, 2000, 200)
        ),
    )
    outcome = bloat(database, measure=False)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["methods"]["estimated"] > 4000


@pytest.mark.parametrize(("option", "value"), [("top", 0), ("min_size_bytes", -1), ("deadline_s", 0)])
def test_bad_options_are_refused_in_one_sentence(database: Database, option: str, value: Any) -> None:
    outcome = run_module("pg_bloat_info", database.login | {option: value})
    assert outcome.failed
    assert outcome.result["msg"].startswith(f"{option}: {value} is too small")
