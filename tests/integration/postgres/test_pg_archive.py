"""Module pg_archive against a real server."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster
from conftest import Database, free_port, module_process, run_module

SOURCE, ARCHIVE = "public.audit_log", "public.audit_log_archive"
TABLE = """
CREATE TABLE public.audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(),
  action text NOT NULL, details jsonb)
"""
INDEX = "CREATE INDEX audit_log_created_at_idx ON public.audit_log (created_at)"
KEPT = """
CREATE TABLE public.audit_log_archive (
  id bigint PRIMARY KEY, created_at timestamptz NOT NULL, action text NOT NULL, details jsonb,
  archived_at timestamptz NOT NULL DEFAULT now())
"""


def rows(count: int, days: float = 100, spread: str = "1 minute") -> str:
    """SQL for rows whose newest is ``days`` old."""
    return (
        "INSERT INTO public.audit_log (created_at, action, details) "
        f"SELECT now() - interval '{days} days' - n * interval '{spread}', 'a' || n, jsonb_build_object('n', n) "
        f"FROM generate_series(1, {count}) n"
    )


def slow(seconds: float) -> list[str]:
    """SQL that makes each row of the archive take so long."""
    body = f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$"
    return [
        f"CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS {body}",
        "CREATE TRIGGER slow BEFORE INSERT ON public.audit_log_archive FOR EACH ROW EXECUTE FUNCTION public.slow()",
    ]


def utc(database, expression: str) -> Any:
    """A timestamp of the archive as the module writes it."""
    return database.one(f"SET timezone = 'UTC'; SELECT ({expression})::text FROM public.audit_log_archive")


@pytest.fixture
def table(database):
    """audit_log with 3,000 old rows and 500 new ones."""
    database.run(TABLE, INDEX, rows(3000), rows(500, days=1))
    return database


def archive(database, *, check: bool = False, diff: bool = False, **options: Any):
    """Run the module; the connection, the tables and 90 days are given."""
    given = database.login | {"source": SOURCE, "archive": ARCHIVE, "older_than_days": 90}
    return run_module("pg_archive", given | options, check=check, diff=diff)


def refused(outcome, *words: str) -> dict[str, Any]:
    """The module failed with one sentence that holds the words, and changed nothing."""
    assert outcome.failed
    assert not outcome.result["changed"], outcome.result
    message = outcome.result["msg"]
    for word in words:
        assert word in message
    assert message.endswith(".")
    assert "\n" not in message
    assert "Traceback" not in outcome.stderr
    return dict(outcome.result)


def done(outcome) -> dict[str, Any]:
    """The module did its work."""
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["status"] == "ok"
    return dict(outcome.result)


def counts(database, source: str = SOURCE, target: str = ARCHIVE) -> tuple[int, int]:
    return database.one(f"SELECT count(*) FROM {source}"), database.one(f"SELECT count(*) FROM {target}")


def warnings(outcome) -> str:
    return json.dumps(outcome.result.get("warnings", []))


# --- rows -------------------------------------------------------------------------------------------------------------


def test_moves_old_rows_once(table):
    before = table.run(
        "SELECT id, created_at, action, details FROM public.audit_log WHERE created_at < now() - interval '90 days' "
        "ORDER BY id"
    )
    first = done(archive(table, target_batch_ms=5))
    assert first["changed"]
    assert first["archive_created"]
    assert (first["planned_rows"], first["moved_rows"], first["remaining_rows"]) == (3000, 3000, 0)
    assert first["batches"] > 1
    assert first["msg"].startswith(f"Moved 3,000 rows older than {first['cutoff'][:10]}")
    assert counts(table) == (500, 3000)
    assert before == table.run("SELECT id, created_at, action, details FROM public.audit_log_archive ORDER BY id")
    assert (
        table.one("SELECT count(*) FROM public.audit_log_archive WHERE archived_at > now() - interval '1 hour'") == 3000
    )
    assert first["oldest_moved"] == table.one(
        "SET timezone = 'UTC'; SELECT min(created_at)::text FROM public.audit_log_archive"
    )
    assert first["newest_moved"] == table.one(
        "SET timezone = 'UTC'; SELECT max(created_at)::text FROM public.audit_log_archive"
    )
    assert first["wal_bytes"] > 0

    second = done(archive(table))
    assert not second["changed"]
    assert second["plan"]["strategy"] == "nothing"
    assert second["executed_queries"] == []
    assert counts(table) == (500, 3000)


def test_the_archive_is_looked_up_by_its_key_and_never_read_as_a_whole(database):
    """Whatever the statistics say: of an archive that was made just now there are none."""
    database.run(TABLE, INDEX, KEPT)
    for grow in ([rows(20000)], ["ANALYZE public.audit_log"]):
        database.run(*grow)
        *_, copy, delete = done(archive(database, check=True))["executed_queries"]
        assert copy.startswith("INSERT")
        lines = database.run(
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
            "SET plan_cache_mode = force_generic_plan",
            f"PREPARE p (timestamptz, timestamptz) AS {delete}",
            "EXPLAIN EXECUTE p (now(), now())",
        )
        plan = "\n".join(line for (line,) in lines)
        assert "Index Cond: (id = s.id)" in plan
        assert "Nested Loop" not in plan


def test_made_archive_has_key_and_time_index(table):
    done(archive(table))
    indexes = [row[0] for row in table.run("SELECT indexdef FROM pg_indexes WHERE tablename = 'audit_log_archive'")]
    assert any("UNIQUE" in each and "(id)" in each for each in indexes)
    assert any("brin (created_at)" in each for each in indexes)
    assert (
        table.one(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.audit_log_archive'::regclass AND "
            "attidentity <> ''"
        )
        == 0
    )


def test_check_mode_plans_the_same_and_writes_nothing(table):
    def state():
        return table.run(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, (SELECT count(*) FROM pg_class),"
            " (SELECT md5(string_agg(a::text, ',' ORDER BY id)) FROM public.audit_log a)"
        )

    table.run("CHECKPOINT")
    before = state()
    planned = done(archive(table, check=True, diff=True))
    assert state() == before
    assert planned["changed"]
    assert planned["moved_rows"] == 0
    assert planned["remaining_rows"] == 3000
    real = done(archive(table, diff=True))
    assert real["plan"] == planned["plan"]
    assert real["executed_queries"] == planned["executed_queries"]
    assert real["planned_rows"] == planned["planned_rows"] == real["moved_rows"]
    assert "move 3,000 rows" in planned["diff"]["prepared"]
    strip = [line for line in planned["diff"]["prepared"].splitlines() if "older than" not in line]
    assert strip == [line for line in real["diff"]["prepared"].splitlines() if "older than" not in line]


def test_nothing_to_do_makes_no_archive(database):
    database.run(TABLE, INDEX, rows(10, days=1))
    result = done(archive(database))
    assert not result["changed"]
    assert database.one("SELECT to_regclass('public.audit_log_archive')") is None


def test_cutoff_is_the_servers_clock_less_the_days(table):
    now = table.one("SELECT now()")
    cutoff = table.one(f"SELECT '{done(archive(table, check=True))['cutoff']}'::timestamptz")
    assert 0 <= (cutoff - now).total_seconds() + 90 * 86400 < 60


def test_rows_of_one_moment_that_fill_many_batches(database):
    """Ties are split by place; NULL timestamps stay."""
    database.run(
        TABLE.replace("NOT NULL DEFAULT now()", ""),
        INDEX,
        "INSERT INTO public.audit_log (created_at, action) SELECT '2020-02-02 02:02:02+00', 't' FROM "
        "generate_series(1, 7000)",
        rows(100),
        "INSERT INTO public.audit_log (created_at, action) SELECT NULL, 'n' FROM generate_series(1, 12)",
        "INSERT INTO public.audit_log (created_at, action) SELECT '-infinity', 'i' FROM generate_series(1, 3000)",
        "INSERT INTO public.audit_log (created_at, action) VALUES ('infinity', 'i'), ('0044-03-15 BC', 'ides')",
    )
    outcome = archive(database, target_batch_ms=5)
    result = done(outcome)
    assert result["moved_rows"] == 10101
    assert result["batches"] > 3
    assert counts(database) == (13, 10101)
    assert "12 rows of public.audit_log have no created_at" in warnings(outcome)
    assert result["oldest_moved"] == "-infinity"


def test_without_index_block_by_block(database):
    database.run(TABLE, rows(5000), rows(500, days=1), "ANALYZE public.audit_log")
    outcome = archive(database, target_batch_ms=5)
    result = done(outcome)
    assert result["plan"]["walk"] == "blocks"
    assert "no btree index" in warnings(outcome)
    assert counts(database) == (500, 5000)
    assert result["oldest_moved"] == utc(database, "min(created_at)")


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date", "moment"])
def test_types_of_time(database, type_):
    """A timestamp is UTC, a date is old once its whole day is; whatever time zone role and database prefer."""
    database.run(
        f"ALTER DATABASE {database.name} SET timezone = 'Asia/Kathmandu'",
        f"ALTER DATABASE {database.name} SET datestyle = 'German'",
        "CREATE DOMAIN public.moment AS timestamptz",
        f"CREATE TABLE public.t (id int PRIMARY KEY, at {'public.moment' if type_ == 'moment' else type_})",
        "CREATE INDEX ON public.t (at)",
    )
    database.run(
        "SET timezone = 'UTC'",
        "INSERT INTO public.t SELECT n, now() - interval '90 days' + (n - 3) * interval '26 hours' FROM "
        "generate_series(1, 6) n",
    )
    result = done(archive(database, source="public.t", archive="public.a", timestamp_column="at"))
    # A date is cut off at midnight, so the rows 1 and 2, one and two days before the cutoff's day, are old.
    expected = 2 if type_ == "date" else 3
    if type_ != "date":
        # Row 3 lies before the module's own, slightly later clock.
        assert database.one("SELECT count(*) FROM public.a WHERE id = 3") == 1
    assert result["moved_rows"] == expected
    assert database.one("SELECT max(id) FROM public.a") == expected


def test_a_day_in_which_the_clocks_change(database):
    """Hours that exist twice, or not at all, in the role's time zone are moved like all others."""
    database.run(
        "ALTER ROLE postgres SET timezone = 'Europe/Berlin'", TABLE, INDEX,
        "SET timezone = 'UTC'",
        "INSERT INTO public.audit_log (created_at, action) SELECT t, 'x' FROM generate_series("
        "'2025-10-25 20:00+00'::timestamptz, '2025-10-26 06:00+00', '1 minute') t",
    )  # fmt: skip
    try:
        assert done(archive(database, target_batch_ms=5))["moved_rows"] == 601
    finally:
        database.run("ALTER ROLE postgres RESET timezone")


def test_exotic_types_and_columns_arrive_unchanged(database):
    database.run(
        "CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'happy')",
        "CREATE DOMAIN public.small AS int CHECK (VALUE < 100)",
        "CREATE TYPE public.pair AS (a int, b text)",
        """CREATE TABLE public.t (
          id uuid PRIMARY KEY, created_at timestamptz NOT NULL, j json, jb jsonb, a text[], aa int[][], b bytea,
          r tstzrange, m public.mood, ms public.mood[], d public.small, p public.pair, n numeric(12,3), f float8,
          i inet,
          v varchar(5), c char(7), bits bit varying(9), iv interval, ts tsvector, pt point, o oid,
          dropped int, big text, g text GENERATED ALWAYS AS (lower(v)) STORED, s int GENERATED ALWAYS AS IDENTITY)""",
        "ALTER TABLE public.t DROP COLUMN dropped",
        "ALTER TABLE public.t ADD COLUMN later int DEFAULT 7",
        "ALTER TABLE public.t ALTER big SET STORAGE EXTERNAL",
        "CREATE INDEX ON public.t (created_at)",
        """INSERT INTO public.t
          SELECT gen_random_uuid(), now() - interval '100 days', '{"a":  1, "a": 2}', '{"a": 1.10}',
          ARRAY['x', NULL, '{'], ARRAY[[1,2],[3,NULL]], '\\x00ff', '[2020-01-01,)', 'ok', ARRAY['sad']::public.mood[],
          42, '(1,x)', 1.100, 'NaN', '::1', 'ABC', 'x', B'101', '1 mon 2 days', 'a:1 b:2', '(1,2)', n, repeat('é', 5000)
          FROM generate_series(1, 300) n""",
    )  # fmt: skip
    # A server that was built without libxml has the type, and no values of it.
    with suppress(psycopg2.errors.FeatureNotSupported):
        database.run("ALTER TABLE public.t ADD COLUMN x xml", "UPDATE public.t SET x = '<a>1</a>'")
    before = database.one("SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM public.t")
    result = done(archive(database, source="public.t", archive="public.a"))
    assert result["moved_rows"] == 300
    columns = database.one(
        "SELECT string_agg(quote_ident(attname), ',' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = 'public.t'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    after = database.one(f"SELECT md5(string_agg(ROW({columns})::text, '|' ORDER BY id)) FROM public.a")
    assert after == before
    assert (
        database.one("SELECT attstorage FROM pg_attribute WHERE attrelid = 'public.a'::regclass AND attname = 'big'")
        == "e"
    )


def test_archive_with_generated_and_identity_columns(database):
    """An archive made with LIKE … INCLUDING ALL, as many have one."""
    database.run(
        TABLE.replace("details jsonb", "details jsonb, size int GENERATED ALWAYS AS (length(action)) STORED"), INDEX,
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log INCLUDING ALL)", rows(50),
    )  # fmt: skip
    result = done(archive(database))
    assert (result["moved_rows"], result["archive_created"]) == (50, False)
    assert database.one("SELECT count(*) FROM public.audit_log_archive WHERE size = length(action)") == 50


@pytest.mark.parametrize(
    "name",
    [
        'he said "hi"',
        "x; DROP TABLE users; --",
        "with space",
        "Ünïcødé 表",
        "ü" * 31 + "x",
        "%s %(x)s {0}",
        "sel'ect",
        "dot.ted",
    ],
)
def test_names_are_names_and_nothing_else(database, name):
    quoted = '"' + name.replace('"', '""') + '"'
    database.run(
        f"CREATE SCHEMA {quoted}",
        f"CREATE TABLE {quoted}.{quoted} (id int, {quoted} timestamptz, PRIMARY KEY (id))",
        f"CREATE INDEX ON {quoted}.{quoted} ({quoted})",
        f"INSERT INTO {quoted}.{quoted} SELECT n, now() - interval '100 days' FROM generate_series(1, 2500) n",
    )
    result = done(archive(database, source=f"{quoted}.{quoted}", archive=f"{quoted}.a", timestamp_column=name))
    assert result["moved_rows"] == 2500
    assert counts(database, f"{quoted}.{quoted}", f"{quoted}.a") == (0, 2500)


# --- rows that the archive knows --------------------------------------------------------------------------------------


def test_rows_that_the_archive_holds_are_not_doubled(table):
    """What the runbook leaves behind when it is cut off between its INSERT and its DELETE."""
    table.run(
        KEPT,
        "INSERT INTO public.audit_log_archive (id, created_at, action, details) SELECT * FROM "
        "public.audit_log WHERE id % 3 = 0",
    )
    expected = table.one(
        "SELECT count(*) FROM public.audit_log WHERE id % 3 = 0 AND created_at < now() - interval '90 days'"
    )
    result = done(archive(table, target_batch_ms=5))
    assert result["already_archived_rows"] == expected
    assert result["moved_rows"] == 3000 - expected
    assert table.one("SELECT count(*) FROM public.audit_log WHERE created_at < now() - interval '90 days'") == 0
    assert table.one("SELECT count(DISTINCT id) = count(*) FROM public.audit_log_archive")


def test_everything_is_there_already_and_many_rows_share_a_moment(database):
    database.run(
        TABLE, INDEX, KEPT,
        "INSERT INTO public.audit_log (created_at, action) SELECT '2020-02-02', 't' FROM generate_series(1, 4000)",
        "INSERT INTO public.audit_log_archive (id, created_at, action, details) SELECT * FROM "
        "public.audit_log WHERE id < 3900",
    )  # fmt: skip
    result = done(archive(database))
    assert (result["moved_rows"], result["already_archived_rows"]) == (101, 3899)
    assert counts(database) == (0, 4000)


@pytest.mark.parametrize("index", [INDEX, "SELECT 1"])
def test_other_content_under_the_same_key_stays_and_is_told(table, index):
    table.run("DROP INDEX public.audit_log_created_at_idx", index, KEPT)
    table.run(
        "INSERT INTO public.audit_log_archive (id, created_at, action, details) "
        "SELECT id, created_at, 'secret ' || action, details FROM public.audit_log WHERE id IN (5, 700, 2999)",
        "INSERT INTO public.audit_log_archive (id, created_at, action, details) "
        "SELECT * FROM public.audit_log WHERE id IN (6, 701)",
    )
    outcome = archive(table)
    assert outcome.failed
    result = outcome.result
    assert result["status"] == "breach"
    assert result["changed"]
    assert (result["moved_rows"], result["already_archived_rows"]) == (2995, 2)
    assert (result["remaining_rows"], result["conflicting_rows"]) == (3, 3)
    assert "3 rows stay in public.audit_log" in result["msg"]
    assert "by id" in result["msg"]
    assert "secret" not in json.dumps(result)
    assert table.run("SELECT id FROM public.audit_log WHERE id IN (5, 700, 2999) ORDER BY 1") == [(5,), (700,), (2999,)]
    assert table.one("SELECT count(*) FROM public.audit_log_archive WHERE action LIKE 'secret%'") == 3


def test_content_is_compared_for_types_without_equality(database):
    database.run(
        "CREATE TABLE public.t (id int PRIMARY KEY, created_at timestamptz, j json, x point)",
        "CREATE INDEX ON public.t (created_at)",
        "INSERT INTO public.t SELECT n, '2020-01-01', '{\"a\": 1}', '(1,2)' FROM generate_series(1, 3) n",
        "CREATE TABLE public.a (LIKE public.t INCLUDING INDEXES)",
        "INSERT INTO public.a VALUES (1, '2020-01-01', '{\"a\": 1}', '(1,2)'), (2, '2020-01-01', '{\"a\":1}', '(1,2)')",
    )  # fmt: skip
    outcome = archive(database, source="public.t", archive="public.a")
    assert outcome.failed
    assert (outcome.result["already_archived_rows"], outcome.result["conflicting_rows"]) == (1, 1)
    assert outcome.result["moved_rows"] == 1


def test_archive_without_key_gets_one(table):
    table.run("CREATE TABLE public.audit_log_archive (LIKE public.audit_log)")
    planned = done(archive(table, check=True))
    assert planned["plan"]["make_key"]
    result = done(archive(table))
    assert result["executed_queries"][0] == 'CREATE UNIQUE INDEX ON "public"."audit_log_archive" ("id")'
    assert result["executed_queries"] == planned["executed_queries"]
    assert counts(table) == (500, 3000)


def test_an_archive_whose_key_may_be_null_gets_one_index(table):
    table.run(KEPT.replace("id bigint PRIMARY KEY", "id bigint"))
    assert done(archive(table))["plan"]["make_key"]
    table.run(rows(10, days=95))
    assert not done(archive(table))["plan"]["make_key"]


def test_archive_that_holds_doubles_is_refused(table):
    table.run("CREATE TABLE public.audit_log_archive (LIKE public.audit_log)")
    table.run(*["INSERT INTO public.audit_log_archive SELECT * FROM public.audit_log WHERE id = 1"] * 2)
    refused(archive(table), "holds rows twice under the same id", "delete the doubles")
    assert counts(table) == (3500, 2)


def test_another_unique_index_of_the_archive(table):
    table.run(KEPT, "CREATE UNIQUE INDEX odd_one ON public.audit_log_archive (action)")
    table.run(
        "INSERT INTO public.audit_log_archive (id, created_at, action, details) SELECT -1, created_at, action, details "
        "FROM public.audit_log ORDER BY created_at LIMIT 1"
    )
    outcome = archive(table)
    assert outcome.failed
    assert "odd_one" in outcome.result["msg"]
    assert sum(counts(table)) == 3501


def test_source_without_key_is_moved_with_a_warning(database):
    database.run(TABLE.replace("PRIMARY KEY", ""), INDEX, rows(100))
    outcome = archive(database)
    assert done(outcome)["moved_rows"] == 100
    assert "no primary key" in warnings(outcome)


# --- refused ----------------------------------------------------------------------------------------------------------


def test_refuses_bad_options(table):
    refused(archive(table, older_than_days=0), "older_than_days: 0")
    refused(archive(table, older_than_days=10**7), "older_than_days: 10000000")
    refused(archive(table, target_batch_ms=0), "target_batch_ms: 0")
    refused(archive(table, deadline_s=0), "deadline_s: 0")
    refused(archive(table, lock_timeout_ms=0), "lock_timeout_ms: 0")
    refused(archive(table, max_rows=0), "max_rows: 0")
    refused(archive(table, source="audit_log"), "source: 'audit_log'", "schema.table")
    refused(archive(table, archive="a.b.c"), "archive: 'a.b.c'")
    refused(archive(table, login_host=""), "login_host")
    assert table.one("SELECT count(*) FROM public.audit_log") == 3500


def test_refuses_what_is_not_there(table):
    refused(archive(table, source="public.nope"), "no table public.nope")
    refused(archive(table, archive="nope.a"), "no schema 'nope'")
    refused(archive(table, timestamp_column="createdat"), "no column 'createdat'", "created_at")
    refused(archive(table, timestamp_column="action"), "is of type text")
    refused(archive(table, archive=SOURCE), "is the source itself")


def test_refuses_more_rows_than_the_cap(table):
    refused(archive(table, max_rows=2999), "3,000 rows", "2,999", "max_rows")
    assert table.one("SELECT to_regclass('public.audit_log_archive')") is None
    assert done(archive(table, max_rows=3000))["moved_rows"] == 3000


def test_refuses_views_and_inheritance(table):
    table.run(
        "CREATE VIEW public.v AS SELECT * FROM public.audit_log",
        "CREATE TABLE public.child () INHERITS (public.audit_log)",
        "CREATE TABLE public.ok (LIKE public.audit_log)",
    )
    refused(archive(table, source="public.v"), "a view")
    refused(archive(table, source="public.ok", archive="public.v"), "not a table")
    refused(archive(table), "tables inherit from public.audit_log", "child")


def test_refuses_a_source_that_foreign_keys_point_at(table):
    table.run(
        "CREATE TABLE public.notes (id int, audit_id bigint CONSTRAINT notes_fk REFERENCES public.audit_log "
        "ON DELETE CASCADE)",
        "CREATE TABLE public.more (audit_id bigint CONSTRAINT more_fk REFERENCES public.audit_log)",
    )
    refused(archive(table), "notes_fk of public.notes ON DELETE CASCADE", "more_fk of public.more ON DELETE NO ACTION")


def test_refuses_drift_with_its_columns(table):
    table.run(
        "CREATE TABLE public.audit_log_archive (id int PRIMARY KEY, created_at timestamptz(3), action text "
        'COLLATE "C", extra int)'
    )
    refused(
        archive(table), "lacks details", "only the archive has extra", "id is bigint in the source and integer",
        "timestamp(3) with time zone", 'COLLATE pg_catalog."C"',
    )  # fmt: skip


def test_refuses_an_unlogged_archive_and_rules(table):
    table.run("CREATE UNLOGGED TABLE public.u (LIKE public.audit_log INCLUDING INDEXES)")
    refused(archive(table, archive="public.u"), "unlogged")
    table.run(KEPT, "CREATE RULE hush AS ON INSERT TO public.audit_log_archive DO INSTEAD NOTHING")
    refused(archive(table), "hush")
    table.run(
        "DROP RULE hush ON public.audit_log_archive",
        "CREATE RULE keep AS ON DELETE TO public.audit_log DO INSTEAD NOTHING",
    )
    refused(archive(table), "keep")
    assert counts(table) == (3500, 0)


def test_trigger_that_drops_rows_costs_no_row(table):
    table.run(
        KEPT,
        "CREATE FUNCTION public.drop_some() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF NEW.id % 100 = 0 THEN RETURN NULL; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER lossy BEFORE INSERT ON public.audit_log_archive FOR EACH ROW EXECUTE FUNCTION "
        "public.drop_some()",
    )
    outcome = archive(table)
    refused(outcome, "lossy", "rolled back")
    assert "lossy" in warnings(outcome)
    assert counts(table) == (3500, 0)


def test_trigger_that_keeps_rows_keeps_them(table):
    table.run(
        "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF OLD.id % 1000 = 0 THEN RETURN NULL; END IF; RETURN OLD; END $$",
        "CREATE TRIGGER keeper BEFORE DELETE ON public.audit_log FOR EACH ROW EXECUTE FUNCTION public.keep()",
    )
    refused(archive(table), "fires triggers (keeper)", "allow_triggers")
    outcome = archive(table, allow_triggers=["keeper"])
    assert outcome.failed
    assert outcome.result["moved_rows"] == 2997
    assert "3 rows stay" in outcome.result["msg"]
    assert "keeper" in warnings(outcome)
    assert counts(table) == (503, 2997)


def test_constraint_of_the_archive_forbids_rows(table):
    table.run(KEPT, "ALTER TABLE public.audit_log_archive ADD CONSTRAINT no_a7 CHECK (action <> 'a7')")
    outcome = archive(table)
    assert outcome.failed
    assert "no_a7" in outcome.result["msg"]
    assert "a7'" not in outcome.result["msg"]
    assert sum(counts(table)) == 3500


# --- equality ---------------------------------------------------------------------------------------------------------


def trigger(name: str, body: str, when: str, *, each: str = "ROW", table: str = ARCHIVE, deferred: bool = False) -> str:
    """SQL for a trigger function and its trigger."""
    kind = "CONSTRAINT TRIGGER" if deferred else "TRIGGER"
    return (
        f"CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; "
        f"CREATE {kind} {name} {when} ON {table} {'DEFERRABLE INITIALLY DEFERRED' if deferred else ''} "
        f"FOR EACH {each} EXECUTE FUNCTION public.{name}()"
    )


LATER = f"UPDATE {ARCHIVE} SET action = 'gone' WHERE id = NEW.id; RETURN NULL;"
ALL_LATER = f"UPDATE {ARCHIVE} SET action = 'gone'; RETURN NULL;"
CHANGES = {
    "empties": ("details", trigger("scrub", "NEW.details := NULL; RETURN NEW;", "BEFORE INSERT")),
    "rounds": (
        "created_at",
        trigger("scrub", "NEW.created_at := date_trunc('day', NEW.created_at); RETURN NEW;", "BEFORE INSERT"),
    ),
    # Equal as jsonb counts, and not the same.
    "rewrites": ("details", trigger("scrub", "NEW.details := '{\"n\": 1.0}'; RETURN NEW;", "BEFORE INSERT")),
    "one row": (
        "action",
        trigger("scrub", "IF NEW.id = 2500 THEN NEW.action := 'x'; END IF; RETURN NEW;", "BEFORE INSERT"),
    ),
    "after a row": ("action", trigger("scrub", LATER, "AFTER INSERT")),
    "after all rows": ("action", trigger("scrub", ALL_LATER, "AFTER INSERT", each="STATEMENT")),
    "at the end": ("action", trigger("scrub", LATER, "AFTER INSERT", deferred=True)),
}


@pytest.mark.parametrize(
    ("change", "key"), [(each, "PRIMARY KEY") for each in CHANGES] + [("one row", ""), ("rewrites", "")]
)
def test_a_row_that_the_archive_changes_is_not_deleted(database, change, key):
    """Whatever changes rows on their way, and with a key to find them by or without one."""
    column, statement = CHANGES[change]
    database.run(TABLE.replace("PRIMARY KEY", key), INDEX, rows(3000), KEPT.replace("PRIMARY KEY", key), statement)
    if "AFTER" in statement:
        refused(archive(database), "scrub", "allow_triggers")
    outcome = archive(database, allow_triggers=["scrub"])
    assert outcome.failed
    result = outcome.result
    assert f"something else in {column} than public.audit_log" in result["msg"]
    assert "rolled back" in result["msg"]
    assert "scrub" in result["msg"]
    assert sum(counts(database)) == 3000
    assert result["moved_rows"] == counts(database)[1]
    assert result["moved_rows"] == 0 or change == "one row"
    assert database.one("SELECT count(*) FROM public.audit_log WHERE id = 2500") == 1
    assert database.one(f"SELECT count(*) FROM {ARCHIVE} WHERE action IN ('x', 'gone') OR details IS NULL") == 0


def test_a_column_that_the_archive_generates_otherwise(database):
    """A function may call itself immutable and change: what was stored is not what is stored again."""
    database.run(
        "CREATE FUNCTION public.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'old ' || $1 $$",
        TABLE.replace("details jsonb", "details text GENERATED ALWAYS AS (public.f(action)) STORED"), INDEX,
        "INSERT INTO public.audit_log (created_at, action) SELECT '2020-01-01', 'a' FROM generate_series(1, 10)",
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log INCLUDING ALL)",
        "CREATE OR REPLACE FUNCTION public.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'new ' || $1 $$",
    )  # fmt: skip
    refused(archive(database), "something else in details", "DROP EXPRESSION")
    assert counts(database) == (10, 0)


def test_a_trigger_that_is_made_while_rows_move(database):
    database.run(TABLE, INDEX, rows(4000), KEPT)
    options = {"source": SOURCE, "archive": ARCHIVE, "older_than_days": 90}
    process = module_process("pg_archive", database.login | options | {"max_wal_bytes_s": 300_000, "deadline_s": 20})
    while database.one(f"SELECT count(*) FROM {ARCHIVE}") == 0:
        time.sleep(0.01)
    database.run(CHANGES["empties"][1])
    result = json.loads(process.communicate(timeout=60)[0].splitlines()[-1])
    assert result["failed"]
    assert "something else in details" in result["msg"]
    assert counts(database) == (4000 - result["moved_rows"], result["moved_rows"])
    assert database.one(f"SELECT count(*) FROM {ARCHIVE} WHERE details IS NULL") == 0


def test_rows_that_others_hold_are_compared_too(table):
    """Where rows are left out one by one, another statement moves them."""
    table.run(KEPT, CHANGES["one row"][1])
    held = Holder(table, "SELECT FROM public.audit_log WHERE id = 2600 FOR UPDATE")
    outcome = archive(table, lock_timeout_ms=20)
    held.release()
    assert outcome.failed
    assert "something else in action" in outcome.result["msg"]
    assert sum(counts(table)) == 3500
    assert table.one(f"SELECT count(*) FROM {ARCHIVE} WHERE action = 'x'") == 0


# --- the whole tree ---------------------------------------------------------------------------------------------------


EVIDENCE = "CREATE TABLE public.evidence (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES {} ON DELETE {})"


def test_a_foreign_key_to_a_partition_is_refused(database):
    parted(database)
    for action in ("CASCADE", "SET NULL", "NO ACTION"):
        database.run("DROP TABLE IF EXISTS public.evidence", EVIDENCE.format("public.audit_log_p0", action))
        refused(archive(database), "public.evidence", f"ON DELETE {action}")
    assert database.one("SELECT count(*) FROM public.audit_log") == 4320


def test_what_is_tied_to_the_table_above_is_refused(database):
    """The source is itself a partition; the key and the publication are of the table above."""
    parted(database)
    leaf, there = "public.audit_log_p0", "public.a"
    database.run("CREATE PUBLICATION told FOR TABLE public.audit_log", "CREATE TABLE public.a (LIKE public.audit_log)")
    assert "told" in warnings(archive(database, check=True, source=leaf, archive=there))
    database.run(EVIDENCE.format("public.audit_log", "CASCADE"))
    refused(archive(database, source=leaf, archive=there), "public.evidence", "ON DELETE CASCADE")


def test_a_trigger_of_a_partition_is_refused(database):
    parted(database)
    database.run(
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log, PRIMARY KEY (id, created_at))",
        "CREATE TABLE public.evidence AS SELECT id FROM public.audit_log",
    )
    purge = "DELETE FROM public.evidence WHERE id = OLD.id; RETURN OLD;"
    database.run(trigger("purge", purge, "AFTER DELETE", table="public.audit_log_p0"))
    refused(archive(database), "purge of public.audit_log_p0", "allow_triggers")
    database.run("ALTER TABLE public.audit_log_p0 ENABLE ALWAYS TRIGGER purge")
    refused(archive(database), "purge of public.audit_log_p0")
    # This one fires for statements that name the partition itself; nothing does.
    database.run(
        "DROP TRIGGER purge ON public.audit_log_p0",
        "CREATE TRIGGER other AFTER DELETE ON public.audit_log_p0 FOR EACH STATEMENT EXECUTE FUNCTION public.purge()",
    )
    assert not archive(database, check=True).failed
    database.run("CREATE TRIGGER whole AFTER DELETE ON public.audit_log EXECUTE FUNCTION public.purge()")
    refused(archive(database), "triggers (whole)")
    # A partition that is moved whole fires none.
    database.run("DROP TABLE public.audit_log_archive")
    assert len(done(archive(database))["detached_partitions"]) == 3
    assert database.one("SELECT count(*) FROM public.evidence") == 4320


def test_what_is_tied_to_the_archive_is_refused(table):
    table.run(
        "CREATE TABLE public.users (id bigint PRIMARY KEY)",
        KEPT.replace("id bigint PRIMARY KEY", "id bigint PRIMARY KEY REFERENCES public.users ON DELETE CASCADE"),
    )
    refused(archive(table), "to public.users ON DELETE CASCADE", "drop them")
    table.run(
        "ALTER TABLE public.audit_log_archive DROP CONSTRAINT audit_log_archive_id_fkey,"
        " ADD FOREIGN KEY (id) REFERENCES public.users ON UPDATE CASCADE"
    )
    refused(archive(table), "ON UPDATE CASCADE", "drop them")
    table.run("DROP TABLE public.audit_log_archive", KEPT, "CREATE TABLE public.child () INHERITS (audit_log_archive)")
    refused(archive(table), "inherit from public.audit_log_archive", "child")
    table.run(
        "DROP TABLE public.audit_log_archive CASCADE",
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log)",
        "ALTER TABLE public.audit_log INHERIT public.audit_log_archive",
    )
    refused(archive(table), "in one tree")
    table.run(
        "ALTER TABLE public.audit_log NO INHERIT public.audit_log_archive",
        "DROP TABLE public.audit_log_archive CASCADE",
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log) PARTITION BY RANGE (created_at)",
        "CREATE FOREIGN DATA WRAPPER nowhere",
        "CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere",
        "CREATE FOREIGN TABLE public.far PARTITION OF public.audit_log_archive DEFAULT SERVER nowhere",
    )
    refused(archive(table), "foreign tables", "far")
    table.run(
        "DROP FOREIGN TABLE public.far", "CREATE UNLOGGED TABLE public.far PARTITION OF audit_log_archive DEFAULT"
    )
    refused(archive(table), "unlogged")
    assert counts(table) == (3500, 0)


def test_what_a_subscription_fills_is_refused(table):
    """Its publisher would change, delete or send again what was moved."""
    table.run(KEPT, "CREATE SUBSCRIPTION sub CONNECTION '' PUBLICATION p WITH (connect = false, slot_name = NONE)")
    try:
        for filled in (SOURCE, ARCHIVE):
            table.run(
                "SET allow_system_table_mods = on", "DELETE FROM pg_subscription_rel",
                f"INSERT INTO pg_subscription_rel SELECT oid, '{filled}'::regclass, 'r' FROM pg_subscription",
            )  # fmt: skip
            refused(archive(table), f"{filled} or its tree is filled by a subscription (sub)")
    finally:
        table.run("DROP SUBSCRIPTION sub")
    assert done(archive(table))["moved_rows"] == 3000


# --- publications -----------------------------------------------------------------------------------------------------


def test_a_published_source_without_replica_identity_is_refused(database):
    parted(database)
    expected = old(database)
    database.run(
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log, PRIMARY KEY (id, created_at))",
        "ALTER TABLE public.audit_log_p1 REPLICA IDENTITY NOTHING",
        "CREATE PUBLICATION out FOR TABLE public.audit_log WITH (publish_via_partition_root)",
    )
    planned = refused(archive(database, check=True), "published by out", '"audit_log_p1"', "REPLICA IDENTITY")
    assert planned["msg"] == refused(archive(database))["msg"]
    database.run("ALTER TABLE public.audit_log_p1 REPLICA IDENTITY DEFAULT")
    outcome = archive(database)
    assert done(outcome)["moved_rows"] == expected
    assert "published by out" in warnings(outcome)


def test_an_archive_that_is_published_where_its_source_is_not(table):
    table.run(KEPT, "CREATE PUBLICATION told FOR TABLE public.audit_log_archive")
    refused(archive(table), "told would publish", "public.audit_log_archive")
    if table.one("SHOW server_version_num") >= "150000":
        table.run("ALTER PUBLICATION told ADD TABLE public.audit_log WHERE (id > 5)")
        refused(archive(table), "does not publish all of public.audit_log")
        table.run("CREATE SCHEMA kept", "CREATE PUBLICATION kept FOR TABLES IN SCHEMA kept")
        refused(archive(table, archive="kept.a"), "kept would publish", "kept.a")
    table.run("DROP PUBLICATION told", "DROP TABLE public.audit_log_archive")
    table.run("CREATE PUBLICATION every FOR ALL TABLES")
    assert done(archive(table))["moved_rows"] == 3000


def test_nobody_is_told_of_rows_of_a_table_that_they_cannot_have(table):
    """A subscriber stops at them, and the server keeps all its WAL for it."""
    table.run("CREATE PUBLICATION every FOR ALL TABLES")
    with table.following("told"):
        planned = refused(archive(table, check=True), "every would publish", "db_roles.yml", "on each subscriber")
        assert refused(archive(table))["msg"] == planned["msg"]
        table.run(KEPT)
        outcome = archive(table)
        assert done(outcome)["moved_rows"] == 3000
        assert "a subscriber that lacks the table stops" in warnings(outcome)


# --- rights -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def role(table):
    """A role that may do nothing yet; options to connect as it."""
    name = f"least_{table.name}"
    table.run(f"CREATE ROLE {name} LOGIN")
    yield name
    table.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_least_privilege(table, role):
    table.run(KEPT)
    refused(archive(table, login_user=role), "lacks", "SELECT", "DELETE")
    table.run(f"GRANT SELECT, DELETE ON public.audit_log TO {role}")
    refused(archive(table, login_user=role), "audit_log_archive", "INSERT")
    table.run(f"GRANT SELECT, INSERT ON public.audit_log_archive TO {role}")
    assert done(archive(table, login_user=role))["moved_rows"] == 3000


def test_archive_cannot_be_made_or_given_a_key(table, role):
    table.run(f"REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT SELECT, DELETE ON public.audit_log TO {role}")
    refused(archive(table, login_user=role), "may not make it for postgres", "CREATE TABLE")
    table.run(
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log)",
        f"GRANT SELECT, INSERT ON public.audit_log_archive TO {role}",
    )
    refused(archive(table, login_user=role), "no unique index on id")
    assert counts(table) == (3500, 0)


def test_row_security_is_refused(table, role):
    table.run(
        KEPT, f"GRANT ALL ON public.audit_log, public.audit_log_archive TO {role}",
        "ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON public.audit_log USING (id < 100)",
    )  # fmt: skip
    refused(archive(table, login_user=role), "row security", "BYPASSRLS")
    assert counts(table) == (3500, 0)


# --- who may read the archive -----------------------------------------------------------------------------------------


@pytest.fixture
def people(table):
    """Roles of an application, and a source with row security: the owner sees all rows, others their own."""
    app, anon, robot = names = [f"{kind}_{table.name}" for kind in ("app", "anon", "robot")]
    table.run(
        *(f"CREATE ROLE {name} LOGIN" for name in names),
        f"GRANT CREATE, USAGE ON SCHEMA public TO {app}; GRANT USAGE ON SCHEMA public TO {anon}",
        f"ALTER TABLE public.audit_log OWNER TO {app}",
        f"GRANT SELECT, INSERT ON public.audit_log TO {anon}",
        f"GRANT SELECT (id) ON public.audit_log TO {robot}",
        "CREATE TABLE public.members (name text, action text)",
        "GRANT SELECT ON public.members TO PUBLIC",
        "ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY",
        f"""CREATE POLICY own ON public.audit_log FOR SELECT TO {anon} USING (EXISTS (SELECT FROM public.members m
            WHERE m.name = current_user AND m.action = audit_log.action)) """,
        "CREATE POLICY no_7 ON public.audit_log AS RESTRICTIVE USING (action <> 'a7') WITH CHECK (action <> '%s {x}')",
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {anon}, {robot}, PUBLIC",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {anon}",
    )
    yield app, anon, robot
    table.run(
        f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {anon}, {robot}, PUBLIC",
        f"DROP OWNED BY {', '.join(names)} CASCADE",
        f"DROP ROLE {', '.join(names)}",
    )


def seen(database, user: str, column: str = "id", table: str = ARCHIVE) -> list[int]:
    """What a user reads."""
    return [row[0] for row in replace(database, user=user).run(f"SELECT {column} FROM {table} ORDER BY 1")]


def test_a_made_archive_is_no_more_open_than_its_source(table, people):
    app, anon, robot = people
    # A grant option stays with the source, and what was given on by it is given once.
    table.run(
        f"GRANT SELECT ON public.audit_log TO {anon} WITH GRANT OPTION; SET ROLE {anon}",
        f"GRANT SELECT (id) ON public.audit_log TO {robot}",
    )
    planned = done(archive(table, check=True))
    result = done(archive(table))
    assert result["executed_queries"] == planned["executed_queries"]
    assert not table.one(f"SELECT has_table_privilege('{anon}', '{ARCHIVE}', 'SELECT WITH GRANT OPTION')")
    assert len(seen(table, app)) == 3000
    assert seen(table, anon) == []
    table.run(f"INSERT INTO public.members VALUES ('{anon}', 'a7'), ('{anon}', 'a8')")
    assert len(seen(table, anon)) == 1
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        seen(table, robot, "action")
    for right in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"):
        for name in (anon, robot):
            assert not table.one(f"SELECT has_table_privilege('{name}', '{ARCHIVE}', '{right}')")
    clauses = "polcmd, polpermissive, polroles, polqual IS NULL, pg_get_expr(polwithcheck, polrelid)"
    policies = "SELECT polname, {} FROM pg_policy WHERE polrelid = '{}'::regclass ORDER BY 1"
    assert table.run(policies.format(clauses, ARCHIVE)) == table.run(policies.format(clauses, SOURCE))
    assert not done(archive(table))["changed"]


def test_force_is_copied_and_whole_partitions_stay_closed(database):
    parted(database)
    database.run(
        "ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE public.audit_log FORCE ROW LEVEL SECURITY",
    )
    assert done(archive(database))["plan"]["strategy"] == "partitions"
    forced = f"SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = '{ARCHIVE}'::regclass"
    assert database.one(forced)


def test_an_archive_that_is_more_open_than_its_source_is_refused(table, people):
    _, anon, robot = people
    done(archive(table))
    table.run(rows(10, days=95))
    opened = {
        f"GRANT SELECT, UPDATE ON {ARCHIVE} TO PUBLIC": ("everybody may SELECT, UPDATE", "REVOKE SELECT, UPDATE ON"),
        f"GRANT SELECT ON {ARCHIVE} TO {robot}": (f"{robot} may SELECT",),
        f"GRANT SELECT (action) ON {ARCHIVE} TO {robot}": (f"{robot} may SELECT (action)",),
        f"GRANT SELECT ON {ARCHIVE} TO {anon} WITH GRANT OPTION": (f"{anon} may grant SELECT to others",),
        f"GRANT SELECT ON {ARCHIVE} TO {anon} WITH GRANT OPTION;"
        f" SET ROLE {anon}; GRANT SELECT ON {ARCHIVE} TO {robot}": (f"{robot} may SELECT, granted by {anon}",),
        f"ALTER TABLE {ARCHIVE} DISABLE ROW LEVEL SECURITY": ("row security is off", "ENABLE ROW LEVEL SECURITY"),
        f"CREATE POLICY wide ON {ARCHIVE} USING (true)": ("policy wide", "DROP POLICY"),
        f"DROP POLICY no_7 ON {ARCHIVE}": ("policy no_7", "CREATE POLICY"),
        f"ALTER TABLE {ARCHIVE} OWNER TO {robot}": (f"belongs to {robot}", "OWNER TO"),
    }
    for statement, words in opened.items():
        table.run(statement)
        result = refused(archive(table), "more open than public.audit_log", *words)
        assert result["status"] == "breach"
        assert refused(archive(table, check=True))["msg"] == result["msg"]
        table.run(*result["msg"].partition("as its owner: ")[2].removesuffix(".").split("; "))
        assert not archive(table, check=True).failed
    assert done(archive(table))["moved_rows"] == 10


def test_least_privilege_makes_no_archive_that_others_could_read(table, people):
    """A role that is not the owner's says what the owner has to run; with that it goes on by itself."""
    app, _, robot = people
    table.run(
        f"ALTER ROLE {robot} BYPASSRLS; GRANT SELECT, DELETE ON public.audit_log TO {robot}",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {robot}",
    )
    said = refused(archive(table, login_user=robot), "may not make it", "db_roles.yml", app, "CREATE TABLE", "own")[
        "msg"
    ]
    statements = said.partition(" run once: ")[2].removesuffix(".").split("; ")
    replace(table, user=app).run(*statements, f"GRANT SELECT, INSERT ON {ARCHIVE} TO {robot}")
    assert done(archive(table, login_user=robot))["moved_rows"] == 3000
    assert len(seen(table, app)) == 3000


def test_an_owner_who_cannot_read_its_own_history_is_told(table, people):
    """An archive that an earlier run made for whoever ran it."""
    app = people[0]
    table.run("ALTER TABLE public.audit_log DISABLE ROW LEVEL SECURITY", KEPT, f"REVOKE ALL ON {ARCHIVE} FROM PUBLIC")
    table.run(*(f"REVOKE ALL ON {ARCHIVE} FROM {name}" for name in people))
    outcome = archive(table)
    assert done(outcome)["moved_rows"] == 3000
    assert f"belongs to postgres, and {app}" in warnings(outcome)


def test_what_a_platform_keeps_for_itself_is_left_to_it(table):
    roles = ("supabase_admin", "supabase_auth_admin")
    table.run(
        *(f"CREATE ROLE {name}" for name in roles),
        "CREATE SCHEMA auth",
        "CREATE TABLE auth.audit_log_entries (LIKE public.audit_log INCLUDING ALL)",
        "ALTER TABLE auth.audit_log_entries OWNER TO supabase_auth_admin",
    )
    try:
        refused(archive(table, source="auth.audit_log_entries"), "is the platform's", "supabase_auth_admin")
        refused(archive(table, archive="auth.a"), "'auth' for itself", "archive.a")
    finally:
        table.run("DROP SCHEMA auth CASCADE", *(f"DROP ROLE {name}" for name in roles))


# --- locks and time ---------------------------------------------------------------------------------------------------


class Holder:
    """A second session that holds something."""

    def __init__(self, database, statement: str) -> None:
        self.connection = database.connect()
        self.connection.autocommit = False
        self.connection.cursor().execute(statement)

    def release_in(self, seconds: float) -> None:
        threading.Timer(seconds, self.release).start()

    def release(self) -> None:
        self.connection.rollback()
        self.connection.close()


def test_rows_that_others_hold_are_left_and_told(table):
    held = Holder(table, "SELECT FROM public.audit_log WHERE id IN (10, 2000) FOR UPDATE")
    outcome = archive(table, lock_timeout_ms=20)
    held.release()
    assert outcome.failed
    result = outcome.result
    assert result["status"] == "breach"
    assert (result["moved_rows"], result["remaining_rows"], result["conflicting_rows"]) == (2998, 2, 0)
    assert "2 were locked" in result["msg"]
    assert done(archive(table))["moved_rows"] == 2
    assert counts(table) == (500, 3000)


def test_rows_that_are_let_go_meanwhile_are_moved(table):
    held = Holder(table, "SELECT FROM public.audit_log WHERE id = 10 FOR UPDATE")
    held.release_in(1.5)
    assert done(archive(table, lock_timeout_ms=20))["moved_rows"] == 3000


def test_rows_that_others_hold_without_the_right_to_skip_them(table, role):
    table.run(
        KEPT, f"GRANT SELECT, DELETE ON public.audit_log TO {role}", f"GRANT SELECT, INSERT ON {ARCHIVE} TO {role}"
    )
    held = Holder(table, "SELECT FROM public.audit_log WHERE id = 10 FOR UPDATE")
    outcome = archive(table, login_user=role, lock_timeout_ms=20)
    held.release()
    assert outcome.failed
    assert outcome.result["moved_rows"] > 0
    assert sum(counts(table)) == 3500
    assert table.one("SELECT count(*) FROM public.audit_log WHERE id = 10") == 1


def test_a_locked_table_is_waited_for(table):
    held = Holder(table, "LOCK TABLE public.audit_log IN ACCESS EXCLUSIVE MODE")
    held.release_in(1.0)
    assert done(archive(table, lock_timeout_ms=20))["moved_rows"] == 3000


@pytest.mark.parametrize("locked", [SOURCE, ARCHIVE])
def test_a_table_that_stays_locked_ends_at_the_deadline(table, locked):
    table.run(KEPT)
    held = Holder(table, f"LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE")
    outcome = archive(table, lock_timeout_ms=20, deadline_s=2)
    held.release()
    assert outcome.failed
    assert not outcome.result["changed"]
    assert "lock" in outcome.result["msg"] or "deadline_s" in outcome.result["msg"]
    assert counts(table) == (3500, 0)


def test_the_deadline_keeps_what_was_done(database):
    database.run(TABLE, INDEX, rows(4000), KEPT)
    database.run(*slow(0.001))
    outcome = archive(database, deadline_s=3, target_batch_ms=100)
    assert outcome.failed
    result = outcome.result
    assert result["changed"]
    assert 0 < result["moved_rows"] < 4000
    assert result["remaining_rows"] == 4000 - result["moved_rows"]
    assert "deadline_s: the 3 s have passed" in result["msg"]
    assert counts(database) == (result["remaining_rows"], result["moved_rows"])


def test_a_statement_timeout_makes_batches_smaller(database):
    database.run(TABLE, INDEX, rows(700), KEPT)
    database.run(*slow(0.003))
    # A first batch of 500 rows takes more than the second that it has.
    result = done(archive(database, statement_timeout_ms=1000, target_batch_ms=100))
    assert result["moved_rows"] == 700


def test_wal_limit_slows_down(table):
    result = done(archive(table, max_wal_bytes_s=1_000_000, target_batch_ms=5))
    assert result["throttled_s"] > 0
    assert result["moved_rows"] == 3000


def test_replication_lag_that_nobody_may_see_is_refused_only_with_a_standby(table):
    assert done(archive(table, max_replication_lag_bytes=1))["moved_rows"] == 3000


def test_sigterm_ends_cleanly_and_the_next_run_goes_on(database):
    database.run(TABLE, INDEX, rows(4000), KEPT)
    database.run(*slow(0.001))
    process = module_process(
        "pg_archive",
        database.login | {"source": SOURCE, "archive": ARCHIVE, "older_than_days": 90, "target_batch_ms": 20},
    )
    while database.one("SELECT count(*) FROM public.audit_log_archive") == 0:
        time.sleep(0.02)
    process.terminate()
    result = json.loads(process.communicate(timeout=60)[0].splitlines()[-1])
    assert result["failed"]
    assert "SIGTERM" in result["msg"]
    assert counts(database) == (4000 - result["moved_rows"], result["moved_rows"])
    assert result["remaining_rows"] == 4000 - result["moved_rows"]
    database.run("DROP TRIGGER slow ON public.audit_log_archive")
    done(archive(database))
    assert counts(database) == (0, 4000)


def test_two_runs_at_once(table):
    holder = table.connect()
    try:
        holder.cursor().execute("SELECT pg_advisory_lock(%s)", (int.from_bytes(b"runbook", "big"),))
        refused(archive(table), "still writes")
        assert not archive(table, check=True).failed
    finally:
        holder.close()
    assert done(archive(table))["moved_rows"] == 3000


def test_progress_is_told(table, tmp_path):
    progress = tmp_path / "progress"
    progress.touch()
    options = table.login | {"source": SOURCE, "archive": ARCHIVE, "older_than_days": 90, "target_batch_ms": 5}
    done(run_module("pg_archive", options, RUNBOOK_PROGRESS_FILE=str(progress), RUNBOOK_HOST="db1"))
    events = [json.loads(line) for line in progress.read_text().splitlines()]
    assert events[-1]["final"]
    assert events[-1]["host"] == "db1"
    assert (events[-1]["done"], events[-1]["total"], events[-1]["unit"]) == (3000, 3000, "rows")


# --- partitions -------------------------------------------------------------------------------------------------------


def parted(database, *, key: str = "id, created_at", subs: str = "") -> None:
    """audit_log in months that are 30 days long: p0 to p2 are old, p3 partly, p4 and p5 are new."""
    database.run(
        "CREATE TABLE public.audit_log (id bigint GENERATED BY DEFAULT AS IDENTITY, created_at timestamptz NOT NULL, "
        "action text NOT NULL DEFAULT 'x', size int GENERATED ALWAYS AS (length(action)) STORED, "
        f"PRIMARY KEY ({key})) PARTITION BY RANGE (created_at)",
        INDEX,
    )
    for n in range(6):
        low, high = (f"date_trunc('day', now()) - interval '{days} days'" for days in (195 - 30 * n, 165 - 30 * n))
        database.run(
            f"DO $$ BEGIN EXECUTE format('CREATE TABLE public.audit_log_p{n} PARTITION OF public.audit_log "
            f"FOR VALUES FROM (%L) TO (%L) {subs}', {low}, {high}); END $$"
        )
        if subs:
            database.run(f"CREATE TABLE public.audit_log_p{n}_all PARTITION OF public.audit_log_p{n} DEFAULT")
    database.run(
        "INSERT INTO public.audit_log (created_at) SELECT date_trunc('day', now()) - interval '195 days' + n "
        "* interval '1 hour' "
        "FROM generate_series(0, 4319) n"
    )


def old(database, table: str = SOURCE) -> int:
    return int(database.one(f"SELECT count(*) FROM {table} WHERE created_at < now() - interval '90 days'"))


def test_old_partitions_are_handed_over_whole(database):
    parted(database)
    before = database.run("SELECT id, created_at, action, size FROM public.audit_log ORDER BY id, created_at")
    partly = old(database) - 3 * 720
    assert partly > 0
    planned = done(archive(database, check=True, diff=True))
    result = done(archive(database, diff=True))
    assert result["plan"] == planned["plan"]
    assert result["executed_queries"] == planned["executed_queries"]
    assert result["plan"]["strategy"] == "partitions"
    assert result["detached_partitions"] == [f"public.audit_log_p{n}" for n in range(3)]
    assert result["moved_rows"] == 3 * 720
    assert result["remaining_rows"] == result["plan"]["staying_rows"] == partly
    assert "until their whole partition is old" in result["msg"]
    assert counts(database) == (4320 - 3 * 720, 3 * 720)
    both = (
        "SELECT id, created_at, action, size FROM public.audit_log UNION ALL SELECT id, created_at, action, size FROM "
        + ARCHIVE
    )
    assert database.run(f"{both} ORDER BY id, created_at") == before
    assert (
        database.one("SELECT count(*) FROM public.audit_log_archive WHERE archived_at > now() - interval '1 hour'")
        == 2160
    )
    assert database.one("SELECT count(*) FROM pg_constraint WHERE conname = 'runbook_bounds'") == 0
    # New rows of the partition's past have nowhere to go in the source, and the archive takes them as a table does.
    database.run(
        "INSERT INTO public.audit_log_archive (id, created_at, action) SELECT -1, min(created_at), 'late' FROM "
        + ARCHIVE
    )
    second = done(archive(database))
    assert not second["changed"]
    assert second["remaining_rows"] == partly


def test_a_partition_leaves_behind_what_is_its_own(database):
    """Archived rows must not vanish with a user, nor be shown, told of or changed by what their partition brought."""
    parted(database)
    other = f"other_{database.name}"
    cascade = "FOREIGN KEY (action) REFERENCES public.users ON DELETE CASCADE"
    database.run(
        "CREATE TABLE public.users (action text PRIMARY KEY)",
        "INSERT INTO public.users VALUES ('x')",
        f"ALTER TABLE public.audit_log ADD CONSTRAINT who {cascade}",
        f"ALTER TABLE public.audit_log_p0 ADD CONSTRAINT own {cascade}",
        trigger("stop", "RETURN NULL;", "BEFORE UPDATE", table="public.audit_log_p0"),
        "CREATE RULE hush AS ON UPDATE TO public.audit_log_p0 DO INSTEAD NOTHING",
        "CREATE POLICY wide ON public.audit_log_p1 USING (true)",
        "CREATE PUBLICATION told FOR TABLE public.audit_log_p1",
        f"CREATE ROLE {other}",
        f"GRANT SELECT, UPDATE ON public.audit_log_p1 TO {other}",
        f"GRANT INSERT (action) ON public.audit_log_p2 TO {other}",
        f"GRANT DELETE ON public.audit_log TO {other}",
        f"GRANT DELETE ON public.audit_log_p2 TO {other} WITH GRANT OPTION",
        "ALTER TABLE public.audit_log ENABLE ROW LEVEL SECURITY",
    )
    planned = done(archive(database, check=True, diff=True))
    for words in ("(own, who)", "(stop)", "(hush)", "(wide)", "(told)", "may SELECT, UPDATE", "may INSERT (action)"):
        assert words in planned["diff"]["prepared"]
    result = done(archive(database))
    assert result["executed_queries"] == planned["executed_queries"]
    assert len(result["detached_partitions"]) == 3
    leaves = "conrelid::regclass::text ~ '^audit_log_p[012]$'"
    assert database.one(f"SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND {leaves}") == 0
    assert database.one("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.audit_log_p0'::regclass") == 0
    assert database.one("SELECT count(*) FROM pg_rules WHERE tablename = 'audit_log_p0'") == 0
    assert database.one("SELECT count(*) FROM pg_policies") == 0
    assert database.one("SELECT count(*) FROM pg_publication_tables") == 0
    for leaf in ("audit_log_p1", "audit_log_p2"):
        assert not database.one(
            f"SELECT has_any_column_privilege('{other}', 'public.{leaf}', 'SELECT, INSERT, UPDATE')"
        )
    assert database.one("SELECT bool_and(relrowsecurity) FROM pg_class WHERE relname ~ '^audit_log_p[012]$'")
    archived = counts(database)[1]
    database.run("DELETE FROM public.users", f"DROP OWNED BY {other}", f"DROP ROLE {other}")
    assert counts(database) == (0, archived)
    assert not archive(database, check=True).failed


def test_partitions_that_cannot_leave_behind_what_is_theirs_are_refused(database):
    parted(database)
    database.run("ALTER TABLE public.audit_log_p1 SET UNLOGGED")
    refused(archive(database), "public.audit_log_p1 is unlogged", "SET LOGGED")
    owner = f"owner_{database.name}"
    database.run(
        "ALTER TABLE public.audit_log_p1 SET LOGGED",
        "CREATE PUBLICATION told FOR TABLE public.audit_log_p1",
        f"CREATE ROLE {owner} LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO {owner}",
        f"ALTER TABLE public.audit_log OWNER TO {owner}",
        *(f"ALTER TABLE public.audit_log_p{n} OWNER TO {owner}" for n in range(6)),
    )
    refused(archive(database, login_user=owner), "public.audit_log_p1 is published by itself (told)")
    between = f"between_{database.name}"
    leaf = "public.audit_log_p1"
    database.run(
        "DROP PUBLICATION told",
        f"CREATE ROLE {between}",
        f"GRANT SELECT ON {leaf} TO {between} WITH GRANT OPTION; SET ROLE {between}; GRANT SELECT ON {leaf} TO PUBLIC",
    )
    refused(archive(database, login_user=owner), f"everybody may SELECT, granted by {between}", "REVOKE it first")
    database.run(f"SET ROLE {between}", f"REVOKE SELECT ON {leaf} FROM PUBLIC")
    assert len(done(archive(database, login_user=owner))["detached_partitions"]) == 3
    assert not database.one(f"SELECT has_table_privilege('{between}', '{leaf}', 'SELECT')")
    database.run(f"DROP OWNED BY {owner}", f"DROP ROLE {owner}, {between}")


def test_attach_reads_and_builds_nothing_under_the_lock(database):
    """No index of a handed-over partition is new, and no file of it was rewritten."""
    parted(database)
    files = "SELECT oid, relname, relfilenode FROM pg_class WHERE relname ~ '^audit_log_p[0-5]' ORDER BY 1"
    before = database.run(files)
    done(archive(database))
    assert database.run(files) == before


def test_partitions_into_an_archive_that_is_there(database):
    parted(database)
    done(archive(database))
    low = database.one("SELECT min(created_at)::date::text FROM public.audit_log_archive")
    database.run(
        f"CREATE TABLE public.earlier PARTITION OF public.audit_log FOR VALUES FROM ('2001-01-01') TO ('{low}')",
        "INSERT INTO public.audit_log (created_at) SELECT '2001-01-02' FROM generate_series(1, 10)",
    )
    result = done(archive(database))
    assert result["detached_partitions"] == ["public.earlier"]
    assert result["moved_rows"] == 10
    assert not result["archive_created"]


def test_partitions_that_the_archive_overlaps_are_left_whole(database):
    parted(database)
    done(archive(database, check=True))
    database.run(
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log INCLUDING GENERATED INCLUDING INDEXES) "
        "PARTITION BY RANGE (created_at)",
        "CREATE TABLE public.wide PARTITION OF public.audit_log_archive FOR VALUES FROM ('2000-01-01') TO "
        "('2099-01-01')",
    )
    outcome = archive(database)
    assert outcome.failed
    assert "overlap" in outcome.result["msg"]
    assert outcome.result["detached_partitions"] == []
    assert counts(database) == (4320, 0)


def test_partitioned_source_with_a_plain_archive_goes_row_by_row(database):
    parted(database)
    expected = old(database)
    database.run(
        "CREATE TABLE public.audit_log_archive (id bigint, created_at timestamptz, action text, size int, "
        "PRIMARY KEY (id, created_at))"
    )
    outcome = archive(database)
    result = done(outcome)
    assert result["moved_rows"] == expected
    assert "row by row" in warnings(outcome)
    assert old(database) == 0
    assert database.one("SELECT count(*) FROM public.audit_log_p0") == 0


def test_partitioned_source_row_by_row_with_held_rows_ties_and_known_rows(database):
    """The statements that pick rows by their place meet the same places in several partitions."""
    parted(database)
    database.run(
        "INSERT INTO public.audit_log (created_at) SELECT (SELECT min(created_at) FROM public.audit_log) "
        "FROM generate_series(1, 5000)",
        "CREATE TABLE public.audit_log_archive (id bigint, created_at timestamptz, action text, size int, "
        "PRIMARY KEY (id, created_at))",
        "INSERT INTO public.audit_log_archive SELECT id, created_at, action, size FROM public.audit_log "
        "WHERE id % 7 = 0 "
        "AND created_at < now() - interval '90 days'",
    )
    total = database.one("SELECT count(*) FROM public.audit_log")
    known, expected = database.one("SELECT count(*) FROM " + ARCHIVE), old(database)
    held = Holder(database, "SELECT FROM public.audit_log WHERE id IN (1, 800) FOR UPDATE")
    held.release_in(1.0)
    result = done(archive(database, lock_timeout_ms=20))
    assert (result["moved_rows"], result["already_archived_rows"]) == (expected - known, known)
    assert counts(database) == (total - expected, expected)
    assert database.one(f"SELECT count(DISTINCT id) = count(*) FROM {ARCHIVE}")


def test_other_ways_to_partition_go_row_by_row(database):
    database.run(
        "CREATE TABLE public.audit_log (id bigint, created_at timestamptz NOT NULL, PRIMARY KEY (id)) "
        "PARTITION BY HASH (id)",
        "CREATE TABLE public.h0 PARTITION OF public.audit_log FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE public.h1 PARTITION OF public.audit_log FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "INSERT INTO public.audit_log SELECT n, now() - interval '100 days' FROM generate_series(1, 2000) n",
        "INSERT INTO public.audit_log SELECT n, now() FROM generate_series(3001, 3100) n",
    )
    result = done(archive(database))
    assert (result["plan"]["strategy"], result["plan"]["walk"]) == ("rows", "blocks")
    assert counts(database) == (100, 2000)


def test_partitions_of_partitions_go_row_by_row(database):
    parted(database, subs="PARTITION BY LIST (action)", key="id, created_at, action")
    expected = old(database)
    outcome = archive(database)
    assert done(outcome)["moved_rows"] == expected
    assert "has partitions of its own" in warnings(outcome)


def test_partitioned_archive_without_room_is_told(database):
    database.run(
        TABLE, INDEX, rows(10),
        "CREATE TABLE public.audit_log_archive (LIKE public.audit_log) PARTITION BY RANGE (created_at)",
        "ALTER TABLE public.audit_log_archive ADD PRIMARY KEY (created_at, id)",
        "ALTER TABLE public.audit_log DROP CONSTRAINT audit_log_pkey, ADD PRIMARY KEY (id, created_at)",
    )  # fmt: skip
    refused(archive(database), "has no partition for some of the rows")


def test_a_locked_partitioned_table_is_waited_for(database):
    parted(database)
    held = Holder(database, "SELECT FROM public.audit_log_p5 LIMIT 1")
    held.connection.cursor().execute("LOCK TABLE public.audit_log IN SHARE UPDATE EXCLUSIVE MODE")
    held.release_in(1.0)
    assert len(done(archive(database, lock_timeout_ms=20))["detached_partitions"]) == 3


def test_a_partitioned_table_that_stays_locked_is_left_whole(database):
    parted(database)
    held = Holder(database, "LOCK TABLE public.audit_log IN ACCESS SHARE MODE")
    outcome = archive(database, lock_timeout_ms=20, deadline_s=2)
    held.release()
    assert outcome.failed
    assert outcome.result["detached_partitions"] == []
    assert "locked by somebody else" in outcome.result["msg"]
    result = done(archive(database))
    assert len(result["detached_partitions"]) == 3


def test_unknown_server_is_one_sentence(table):
    refused(archive(table, login_port=1), "no server answers")
    with pytest.raises(psycopg2.Error):
        psycopg2.connect(host=table.host, port=1, dbname="x", user="y")


# --- standbys ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def standby(cluster, tmp_path_factory):
    """A hot standby of the session's server."""
    folder = tmp_path_factory.mktemp("standby")
    copy = Cluster(cluster.bindir, folder / "data", free_port())
    source = ["--host=127.0.0.1", f"--port={cluster.port}", f"--username={cluster.superuser}"]
    copy._run("pg_basebackup", *source, f"--pgdata={copy.data}", "--checkpoint=fast", "--no-sync")
    # By hand, for a newer pg_basebackup writes parameters that an older server does not know.
    (copy.data / "standby.signal").touch()
    primary = f"host=127.0.0.1 port={cluster.port} user={cluster.superuser}"
    copy.start(primary_conninfo=primary, fsync="off", max_connections=60)
    yield copy
    copy.stop("immediate")


def test_a_standby_slows_down_and_is_refused_itself(table, standby):
    there = Database("127.0.0.1", standby.port, table.name, standby.superuser)
    refused(archive(there), "is a read-only standby", "name the primary in login_host")
    there.run("SELECT pg_wal_replay_pause()")
    table.run("CREATE TABLE public.noise AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
    outcome = archive(table, max_replication_lag_bytes=500_000, deadline_s=2)
    assert outcome.failed
    assert "deadline_s" in outcome.result["msg"]
    assert outcome.result["throttled_s"] > 0
    assert outcome.result["moved_rows"] < 3000
    there.run("SELECT pg_wal_replay_resume()")
    assert done(archive(table, max_replication_lag_bytes=500_000))["remaining_rows"] == 0


def test_a_role_that_may_not_see_the_lag_is_refused(table, role, standby):
    table.run(
        KEPT,
        f"GRANT SELECT, DELETE ON public.audit_log TO {role}",
        f"GRANT SELECT, INSERT ON public.audit_log_archive TO {role}",
    )
    assert standby.is_running()
    refused(archive(table, login_user=role, max_replication_lag_bytes=1), "max_replication_lag_bytes", "pg_monitor")
    table.run(f"GRANT pg_monitor TO {role}")
    assert done(archive(table, login_user=role, max_replication_lag_bytes=10**9))["moved_rows"] == 3000
