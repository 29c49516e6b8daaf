"""Content hashes on a real server: blind to the order of rows and to settings, and to nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers import content_hash, postgres
from ansible.module_utils.runbook.rules import content_hash as rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Database

METHODS = ("record_send-hash64-sum", "record_send-md5-sum")


@pytest.fixture(params=METHODS)
def digest(database: Database, request: pytest.FixtureRequest) -> Iterator[Callable[..., rules.Content]]:
    """Hash ``public.t`` as it now is."""
    target = postgres.Target(database.host, database.port, database.name, database.user, None)
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
        content_hash.settle(session)

        def now(coverage: rules.Coverage = "all") -> rules.Content:
            table = next(each for each in content_hash.read_tables(session) if each.name.name == "t")
            return content_hash.hash_table(session, table, request.param, coverage)

        yield now


#: A type, and two values that a sloppy hash takes for one.
TWINS = (
    ("numeric", "1.5", "1.50"),
    ("float8", "0", "-0"),
    ("text", "a", "a "),
    ("varchar(9)", "", "NULL"),
    ("bytea", r"\x00", r"\x0000"),
    ("interval", "1 mon", "30 days"),
    ("interval", "1 day", "24:00:00"),
    ("bigint", "1", "4294967296"),
    ("timestamptz", "2026-01-01 00:00:00+00", "2026-01-01 00:00:00.000001+00"),
    ("jsonb", '{"a": 1.0}', '{"a": 1.00}'),
    ("json", '{"a":1}', '{"a": 1}'),
    ("int[]", "{1,2}", "{2,1}"),
    ("int[]", "{1,2}", "[0:1]={1,2}"),
    ("int4range", "[1,5)", "[1,6)"),
    ("inet", "10.0.0.1", "10.0.0.1/8"),
    ("bit varying", "1", "10"),
    ("public.mood", "low", "high"),
    ("public.pair", "(1,)", '(1,"")'),
    ("public.short", "a", "a "),
)


@pytest.mark.parametrize("digest", METHODS[:1], indirect=True)
def test_values_that_look_alike_are_told_apart(database, digest):
    database.run(
        "CREATE TYPE public.mood AS ENUM ('low', 'high')",
        "CREATE TYPE public.pair AS (a int, b text)",
        "CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 9)",
    )
    for kind, one, other in TWINS:
        found = []
        for value in (one, other, one):
            literal = "NULL" if value == "NULL" else f"'{value}'"
            database.run("DROP TABLE IF EXISTS t", f"CREATE TABLE t (a {kind})", f"INSERT INTO t VALUES ({literal})")
            found.append(digest())
        assert found[0] == found[2], kind
        assert found[0] != found[1], kind


def test_the_order_of_rows_says_nothing(database, digest):
    database.run("CREATE TABLE t (a int, b text)", "INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 999) i")
    forward = digest()
    database.run("TRUNCATE t", "INSERT INTO t SELECT i, 'x' || i FROM generate_series(999, 1, -1) i")
    assert digest() == forward
    assert forward.rows == 999


def test_a_backup_of_an_older_server_can_be_compared_on_a_newer_one(database):
    """From 18 on the hash has a name of its own; the figures stay those of 14 to 17."""
    database.run("CREATE TABLE t (a int, b text)", "INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 999) i")
    target = postgres.Target(database.host, database.port, database.name, database.user, None)
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
        content_hash.settle(session)
        table = content_hash.read_tables(session)[0]
        method = rules.method(session.server_version)
        versions = {140000, session.server_version}
        found = {
            str(session.query(content_hash.statement(table, method, "all", version))[0]["digest"])
            for version in versions
        }
    # PostgreSQL 15.20 and 18.6 agree on it, on a little-endian machine.
    assert found == {"-77603754111256747579"}


def test_two_rows_that_exchange_a_value_are_noticed(database, digest):
    """A sum of PostgreSQL's own hashes of rows would not notice: that hash is a sum over columns."""
    database.run("CREATE TABLE t (a int, b text)", "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    before = digest()
    database.run("UPDATE t SET b = CASE b WHEN 'x' THEN 'y' ELSE 'x' END")
    after = digest()
    assert after.rows == before.rows
    assert after.digest != before.digest


def test_two_columns_that_exchange_their_values_are_noticed(database, digest):
    database.run("CREATE TABLE t (a text, b text)", "INSERT INTO t VALUES ('x', NULL), ('ab', 'c')")
    before = digest()
    database.run("UPDATE t SET a = b, b = a")
    assert digest() != before
    database.run("TRUNCATE t", "INSERT INTO t VALUES ('x', NULL), ('a', 'bc')")
    assert digest() != before


def test_settings_of_database_and_role_say_nothing(database):
    kinds = "a timestamptz, b interval, c float8, d bytea, e money, f public.stamp, g timestamptz[]"
    database.run(
        "CREATE DOMAIN public.stamp AS timestamptz",
        f"CREATE TABLE t ({kinds})",
        r"INSERT INTO t VALUES ('2026-01-02 03:04+00', '1 mon 2 days', 0.1, '\x00ff', 1.5, '2026-01-02 03:04+00',"
        " ARRAY['2026-01-02 03:04+00'::timestamptz])",
    )
    found = []
    for settings in ((), ("DateStyle TO 'German'", "IntervalStyle TO 'iso_8601'", "TimeZone TO 'Asia/Tokyo'",
                          "extra_float_digits TO -5", "bytea_output TO 'escape'")):  # fmt: skip
        database.run("SELECT 1", *(f"ALTER DATABASE {database.name} SET {each}" for each in settings))
        target = postgres.Target(database.host, database.port, database.name, database.user, None)
        with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
            content_hash.settle(session)
            table = content_hash.read_tables(session)[0]
            method = rules.method(session.server_version)
            found.append((content_hash.hash_table(session, table, method), content_hash.probe(session, method)))
    assert found[0] == found[1]


def test_a_dropped_column_says_nothing_and_a_generated_one_does(database, digest):
    database.run("CREATE TABLE t (gone int, a int)", "INSERT INTO t VALUES (5, 1)", "ALTER TABLE t DROP COLUMN gone")
    before = digest()
    database.run("DROP TABLE t", "CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
    assert digest() == before
    database.run("ALTER TABLE t ADD COLUMN b int GENERATED ALWAYS AS (a + 1) STORED")
    assert digest() != before


def test_samples_count_all_and_hash_some(database, digest):
    database.run("CREATE TABLE t (a int, b text)", "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 4000) i")
    whole, sample = digest(), digest("sampled")
    assert (sample.rows, digest("none")) == (4000, rules.Content(4000, None))
    assert sample.digest not in ("0", whole.digest)
    database.run("UPDATE t SET b = 'y'")
    assert digest("sampled") != sample


def test_tables_without_rows_or_columns(database, digest):
    database.run("CREATE TABLE t ()")
    assert digest() == rules.Content(0, "0")
    database.run("INSERT INTO t DEFAULT VALUES")
    assert digest().digest != "0"
    database.run("DROP TABLE t", "CREATE TABLE t (a int)")
    assert digest() == rules.Content(0, "0")


def test_what_holds_no_rows_of_its_own_is_left_out(database):
    database.run(
        "CREATE TABLE parted (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE leaf PARTITION OF parted DEFAULT",
        "CREATE VIEW seen AS SELECT 1 AS a",
        "CREATE MATERIALIZED VIEW stored AS SELECT 1 AS a",
        "CREATE EXTENSION pg_stat_statements",
    )
    target = postgres.Target(database.host, database.port, database.name, database.user, None)
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
        session.query("CREATE TEMPORARY TABLE passing (a int)")
        assert [each.name.name for each in content_hash.read_tables(session)] == ["leaf"]
