"""Content hashes on a real server: blind to the order of rows and to settings, and to nothing else."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.postgres import content_hash, postgres
from ansible.module_utils.runbook.rules.postgres import content_hash as rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Database

METHODS = ("dumped-hash64-sum", "dumped-md5-sum")


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


#: Two ways to one value of ``public.t`` that a dump does not tell apart; what only the table's own bytes say.
SAME = {
    "dropped column": (
        ("CREATE TABLE t (gone int, a int)", "INSERT INTO t VALUES (5, 1)", "ALTER TABLE t DROP COLUMN gone"),
        ("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)"),
    ),
    "generated column": (
        ("CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a + 1) STORED)", "INSERT INTO t VALUES (1)"),
        ("CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a + 2) STORED)", "INSERT INTO t VALUES (1)"),
    ),
    "order of inherited columns": (
        ("CREATE TABLE p (a int)", "CREATE TABLE t (own int) INHERITS (p)", "ALTER TABLE p ADD later text DEFAULT 'x'",
         "INSERT INTO t (a, own) VALUES (1, 2)"),
        ("CREATE TABLE p (a int, later text DEFAULT 'x')", "CREATE TABLE t (own int) INHERITS (p)",
         "INSERT INTO t (a, own) VALUES (1, 2)"),
    ),
    "column added with a default": (
        ("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)", "ALTER TABLE t ADD b text DEFAULT 'x'"),
        ("CREATE TABLE t (a int, b text DEFAULT 'x')", "INSERT INTO t VALUES (1)"),
    ),
    "compression": (
        ("CREATE TABLE t (a text)", "ALTER TABLE t ALTER a SET STORAGE EXTERNAL",
         "INSERT INTO t VALUES (repeat('x', 99999))"),
        ("CREATE TABLE t (a text)", "INSERT INTO t VALUES (repeat('x', 99999))"),
    ),
    "sign of a NaN": (
        ("CREATE TABLE t (a float8, b float4, c point)",
         "INSERT INTO t SELECT x - x, (x - x)::float4, point(x - x, 0) FROM (SELECT 'Infinity'::float8 x) i"),
        ("CREATE TABLE t (a float8, b float4, c point)", "INSERT INTO t VALUES ('NaN', 'NaN', '(NaN,0)')"),
    ),
    "bitmap of nulls in an array": (
        ("CREATE TABLE t (a int[])", "INSERT INTO t VALUES ('{1,NULL}')", "UPDATE t SET a[2] = 2"),
        ("CREATE TABLE t (a int[])", "INSERT INTO t VALUES ('{1,2}')"),
    ),
    "shape of a tsquery": (
        ("CREATE TABLE t (a tsquery)", "INSERT INTO t VALUES ('a'::tsquery && ('b'::tsquery && 'c'::tsquery))"),
        ("CREATE TABLE t (a tsquery)", "INSERT INTO t VALUES ('a & b & c')"),
    ),
    "dropped attribute of a type": (
        ("CREATE TYPE pair AS (a int, gone int, b text)", "CREATE TABLE t (a pair)", "INSERT INTO t VALUES ('(1,2,x)')",
         "ALTER TYPE pair DROP ATTRIBUTE gone"),
        ("CREATE TYPE pair AS (a int, b text)", "CREATE TABLE t (a pair)", "INSERT INTO t VALUES ('(1,x)')"),
    ),
    "number of a relation": (
        ("CREATE TABLE aim ()", "CREATE TABLE t (a regclass, b regtype)", "INSERT INTO t VALUES ('aim', 'aim')"),
        ("CREATE TABLE aim ()", "CREATE TABLE t (a regclass, b regtype)", "INSERT INTO t VALUES ('aim', 'aim')"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("digest", METHODS[:1], indirect=True)
def test_what_a_dump_does_not_carry_says_nothing(database, digest, kind):
    found = []
    for statements in SAME[kind]:
        database.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", *statements)
        found.append(digest())
    assert found[0] == found[1]
    assert found[0].rows == 1


@pytest.mark.parametrize("digest", METHODS[:1], indirect=True)
def test_a_cast_to_text_has_no_say(database, digest):
    """One that says the same of every value would make the hash blind, and one that reads a table would need it."""
    database.run(
        "CREATE TYPE mood AS ENUM ('low', 'high')",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN short AS text",
        "CREATE TABLE secret (a text)",
        "CREATE FUNCTION hide(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '***' $$",
        "CREATE FUNCTION hide(pair) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT a FROM secret); END $$",
        "CREATE CAST (mood AS text) WITH FUNCTION hide(mood) AS IMPLICIT",
        "CREATE CAST (pair AS text) WITH FUNCTION hide(pair) AS ASSIGNMENT",
        "CREATE TABLE t (a mood, b pair, c mood[], d short)",
        "INSERT INTO t VALUES ('low', '(1,x)', '{low}', 'a')",
    )
    before = digest()
    for change in ("a = 'high'", "b = '(1,y)'", "c = '{high}'", "d = 'b'"):
        database.run(f"UPDATE t SET {change}")
        after = digest()
        assert after != before, change
        before = after


@pytest.mark.parametrize(
    ("encoding", "name", "values"),
    [
        ("SQL_ASCII", "t", (r"E'\xc3\xa4'", r"E'\xa4\xa2'", r"E'\xff\xfe'")),
        ("LATIN1", "\u00e4", (r"E'\xc3\xa4'", r"E'\xff\xfe'")),
        ("EUC_JP", "\u8868", (r"E'\xa4\xa2'", r"E'\xa4\xa4'")),
    ],
)
def test_a_database_of_another_encoding_is_hashed(database, encoding, name, values):
    """SQL_ASCII holds what is no text in any encoding."""
    other = dataclasses.replace(database, name=f"{database.name}_{encoding.lower()}")
    database.run(f"CREATE DATABASE {other.name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        target = postgres.Target(other.host, other.port, other.name, other.user, None)
        table_name = name if name == "t" else f'U&"\\{ord(name):04x}"'
        found = []
        for value in values:
            other.run(
                f"SET client_encoding = '{'LATIN1' if encoding == 'SQL_ASCII' else encoding}'",
                f"DROP TABLE IF EXISTS {table_name}",
                f"CREATE TABLE {table_name} (a text, b text[])",
                f"INSERT INTO {table_name} VALUES ({value}, ARRAY[{value}])",
            )
            with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
                content_hash.settle(session)
                table = content_hash.read_tables(session)[0]
                assert table.name.name == name
                found.append(content_hash.hash_table(session, table, rules.method(session.server_version)))
        assert len(set(found)) == len(found) > 1
    finally:
        database.run(f"DROP DATABASE {other.name} WITH (FORCE)")


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
