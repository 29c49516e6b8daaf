"""Queries: nothing that may be a value is shown, differences of two looks are right, and what is slow is named."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.rules.postgres import queries
from ansible.module_utils.runbook.rules.postgres.queries import Counters, Look

NOW = datetime(2026, 3, 8, 2, 0, tzinfo=UTC)
RESET = NOW - timedelta(days=20)


def look(statements: dict[str, Counters], *, days_ago: int = 0, reset_at: datetime | None = RESET) -> Look:
    return Look("1/5", NOW - timedelta(days=days_ago), reset_at, statements)


def test_doctests():
    assert doctest.testmod(queries).failed == 0


@pytest.mark.parametrize(
    "text",
    [
        "ALTER ROLE app PASSWORD 'CANARY'",
        "ALTER ROLE app PASSWORD E'it\\'s CANARY'",
        "ALTER ROLE app PASSWORD 'it''s CANARY'",
        "ALTER ROLE app PASSWORD 'back\\'CANARY'",
        "ALTER ROLE app PASSWORD U&'\\0041CANARY' VALID UNTIL 'CANARY'",
        "DO $$ BEGIN PERFORM 'CANARY'; END $$",
        "DO $tag$ x $$ CANARY $tag$",
        "DO $äö$ CANARY $äö$",
        "DO $$ CANARY",
        "SELECT 1 -- CANARY",
        "SELECT /* CANARY /* CANARY */ CANARY */ 1",
        "SELECT /* CANARY",
        "SELECT 'CANARY",
        "SET app.token = CANARY",
        "SET SESSION app.token TO CANARY, CANARY",
        "ALTER ROLE app IN DATABASE x SET app.token TO CANARY",
        "set local app.token to CANARY",
        "SELECT x'CANARY', b'CANARY', n'CANARY', date'CANARY'",
        "PREPARE TRANSACTION 'CANARY'",
        "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'x', password 'CANARY')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=x password=CANARY' PUBLICATION p",
        "SELECT 'a\\\\', 'CANARY'",
        "NOTIFY c, 'CANARY'",
        "SELECT 'a\\' || 'CANARY'",
    ],
)
def test_no_value_is_shown(text: str) -> None:
    shown = queries.masked(text)
    assert "CANARY" not in shown
    assert shown.split()[0].lower() == text.split(maxsplit=1)[0].lower()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT $1, $2 FROM t", "SELECT $1, $2 FROM t"),
        (
            "SELECT a1, b_2 FROM t3 WHERE x>4.5e-7 AND y=.5 AND z=-1",
            "SELECT a1, b_2 FROM t3 WHERE x>? AND y=? AND z=-?",
        ),
        ("SELECT 0x1F, 1_000, 12.", "SELECT ?, ?, ?"),
        ('SELECT "it\'s ""4""", \'x\'', 'SELECT "it\'s ""4""", ?'),
        ("SELECT  a,\n\t b", "SELECT a, b"),
        ("SELECT 'a' 'b' || 'c'", "SELECT ? ? || ?"),
        ("SELECT a/*x*/b", "SELECT a b"),
        ("UPDATE t SET a = b WHERE c = $1", "UPDATE t SET a = b WHERE c = $1"),
        ("CREATE TABLE t (a numeric(10,2) DEFAULT 5)", "CREATE TABLE t (a numeric(?,?) DEFAULT ?)"),
        ("SELECT a - -1", "SELECT a - -?"),
        ("", ""),
    ],
)
def test_the_rest_stays_as_it_is(text: str, shown: str) -> None:
    assert queries.masked(text) == shown


def test_a_long_text_is_cut():
    assert len(queries.masked("SELECT " + "a, " * 5000)) < queries.MAX_TEXT + 10


@pytest.mark.parametrize(
    "text", ["SELECT 1", " (select 1)", "with x as (select 1) table x", "MERGE INTO t", "delete from t"]
)
def test_what_a_query_is(text: str) -> None:
    assert queries.is_query(text)


@pytest.mark.parametrize(
    "text", ["VACUUM t", "COPY t TO STDOUT", "CREATE TABLE x AS SELECT 1", "REFRESH x", "SELECTED", ""]
)
def test_what_no_query_is(text: str) -> None:
    assert not queries.is_query(text)


def test_without_an_earlier_look_it_is_since_the_reset():
    window = queries.window(look({"1": Counters(3, 30.0)}), None)
    assert (window.since, window.compared, window.was_reset) == (RESET, False, False)
    assert window.statements["1"].calls == 3


def test_what_was_added_between_two_looks():
    before = look({"1": Counters(3, 30.0, 5), "2": Counters(7, 1.0)}, days_ago=7)
    after = look({"1": Counters(5, 80.0, 6), "2": Counters(7, 1.0), "3": Counters(1, 2.0)})
    window = queries.window(after, before)
    assert (window.since, window.compared) == (NOW - timedelta(days=7), True)
    assert window.statements == {"1": Counters(2, 50.0, 1), "3": Counters(1, 2.0)}
    assert window.whole() == Counters(3, 52.0, 1)


def test_a_statement_that_was_thrown_out_starts_over():
    window = queries.window(look({"1": Counters(2, 9.0)}), look({"1": Counters(300, 5000.0)}, days_ago=7))
    assert window.statements == {"1": Counters(2, 9.0)}


@pytest.mark.parametrize("reset_at", [NOW - timedelta(days=1), None])
def test_a_reset_between_is_noticed(reset_at: datetime | None) -> None:
    window = queries.window(look({"1": Counters(4, 9.0)}, reset_at=reset_at), look({"1": Counters(1, 1.0)}, days_ago=7))
    assert (window.since, window.compared, window.was_reset) == (reset_at, False, True)
    assert window.statements["1"].calls == 4


def test_what_is_kept_can_be_read_again_and_is_bounded():
    many = {str(number): Counters(1, float(number), 2, 3, 4, 5, 6) for number in range(queries.KEPT + 200)}
    packed = queries.kept(look(many | {"light": Counters(9, 0.001)}))
    assert len(packed) == queries.KEPT
    assert "light" not in packed
    assert Counters.unpacked(packed["1100"]) == many["1100"]
    assert Counters.unpacked([1, 2]) is None
    assert Counters.unpacked(["x"] * 7) is None  # type: ignore[list-item] # what a damaged record may hold


def test_the_heaviest_by_each_measure():
    window = queries.window(
        look({
            "often": Counters(1000, 500.0),
            "slow": Counters(1, 400.0),
            "sorts": Counters(2, 3.0, temp_pages=9),
            "writes": Counters(3, 3.0, wal_bytes=77),
        }),
        None,
    )  # fmt: skip
    assert queries.heaviest(window, 2) == {
        "total": ["often", "slow"],
        "mean": ["slow", "sorts"],
        "temp": ["sorts"],
        "wal": ["writes"],
    }
    assert queries.heaviest(queries.window(look({}), None), 2) == {"total": [], "mean": [], "temp": [], "wal": []}


def entry(text: str = "SELECT a", calls: int = 10, mean_ms: float = 500, temp_pages: int = 0) -> dict[str, Any]:
    counters = Counters(calls, calls * mean_ms, calls, 3, 1, temp_pages, 10)
    return queries.describe("-7", text, counters, Counters(calls, 2 * calls * mean_ms, 0, 0, 0, 0, 40))


def test_shares():
    described = entry(calls=4, mean_ms=2.5)
    assert (described["mean_ms"], described["total_percent"], described["wal_percent"]) == (2.5, 50.0, 25.0)
    assert (described["cache_hit_percent"], described["temp_percent"], described["read_bytes"]) == (75.0, 0.0, 8192)
    nothing = queries.describe("1", "x", Counters(), Counters())
    assert (nothing["mean_ms"], nothing["total_percent"], nothing["cache_hit_percent"]) == (0.0, 0.0, None)


@pytest.mark.parametrize(
    ("described", "kinds"),
    [
        (entry(), ["slow_query"]),
        (entry(mean_ms=499.9), []),
        (entry(calls=9), []),
        (entry("VACUUM t"), []),
        (entry(mean_ms=1, temp_pages=10 * 8192), ["query_spills"]),
        (entry(mean_ms=1, temp_pages=10 * 8191), []),
        (entry(temp_pages=10 * 8192), ["slow_query"]),
    ],
)
def test_what_is_a_finding(described: dict[str, Any], kinds: list[str]) -> None:
    found = queries.judge([described], slow_ms=500)
    assert [one.kind for one in found] == kinds
    assert all(one.id.endswith(":-7") for one in found)


def test_a_slow_query_that_spills_says_so():
    [found] = queries.judge([entry(temp_pages=10 * 8192)], slow_ms=500)
    assert "64.0 MiB of temporary files" in found.msg
