"""Module pg_query_info against a real server: shares, differences between runs, and no literal ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules import record
from conftest import Database, Outcome, run_module
from record_samples import Sample, fold

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "hunter2canary"


def query_info(database: Database, *, check: bool = False, run_dir: Path | None = None, **options: Any) -> Outcome:
    environ: dict[str, Any] = {} if run_dir is None else {"RUNBOOK_RUN_DIR": str(run_dir)}
    outcome = run_module("pg_query_info", database.login | options, check=check, **environ)
    assert not outcome.failed, outcome.result["msg"]
    return outcome


def entry(outcome: Outcome, part: str) -> dict[str, Any]:
    return next(one for one in outcome.result["queries"] if part in one["query"])


def keep(runs: Path, name: str, outcome: Outcome) -> None:
    """Write the record of a run that had this result, as the callback makes it."""
    sample = Sample()
    figures = record.redact(record.figures(outcome.result, own=True))
    sample.result(sample.task("Look at queries", "pg_query_info"), "db1", figures=figures)
    (runs / name).mkdir()
    (runs / name / "record.json").write_text(json.dumps(fold(sample.events)))


@pytest.fixture
def watched(sound_database: Database) -> Database:
    sound_database.run("CREATE EXTENSION pg_stat_statements", "CREATE TABLE t AS SELECT 1 AS i, 'x' AS name")
    return sound_database


def test_the_heaviest_with_their_shares_and_a_slow_query(watched: Database) -> None:
    watched.run(*["SELECT pg_sleep(0.03), name FROM t WHERE name <> 'secret' /* trace 4711 */"] * 10)
    watched.run(
        "SET work_mem = '64kB'", "SELECT count(*) FROM (SELECT i FROM generate_series(1, 50000) i ORDER BY -i) x"
    )
    watched.run("INSERT INTO t SELECT i, 'y' FROM generate_series(1, 5000) AS i")
    outcome = query_info(watched, slow_ms=25)
    slow = entry(outcome, "pg_sleep")
    assert slow["query"] == "SELECT pg_sleep($1), name FROM t WHERE name <> $2"
    assert slow["calls"] == 10
    assert slow["mean_ms"] >= 30
    assert 0 < slow["total_percent"] <= 100
    heaviest = outcome.result["heaviest"]
    assert slow["query_id"] in heaviest["total"]
    assert entry(outcome, "ORDER BY")["query_id"] == heaviest["temp"][0]
    assert entry(outcome, "INSERT INTO t")["query_id"] in heaviest["wal"]
    assert entry(outcome, "INSERT INTO t")["wal_bytes"] > 100_000
    [found] = outcome.result["findings"]
    assert found["id"] == f"slow_query:{slow['query_id']}"
    assert found["evidence"]["query"] == slow["query"]
    assert outcome.result["status"] == "ok"
    assert outcome.result["compared_with"] is None
    assert query_info(watched).result["findings"] == []


def test_no_literal_is_shown_whatever_the_statement(watched: Database) -> None:
    role = f"canary_{watched.name}"
    watched.run(
        f"CREATE ROLE {role} PASSWORD '{CANARY}'",
        f"ALTER ROLE {role} PASSWORD E'it\\'s {CANARY}'",
        f"SET app.token = {CANARY}",
        f"DO $body$ BEGIN PERFORM '{CANARY}'; END $body$",
        f"COMMENT ON TABLE t IS '{CANARY}' -- {CANARY}",
        f"SELECT '{CANARY}' /* {CANARY} */",
        f"PREPARE look AS SELECT * FROM t WHERE name = '{CANARY}'",
        f"CREATE VIEW v AS SELECT '{CANARY}'::text AS x",
        f"DROP ROLE {role}",
    )
    outcome = query_info(watched, top=100)
    assert CANARY in str(watched.run("SELECT query FROM pg_stat_statements"))
    assert CANARY not in json.dumps(outcome.result) + outcome.stderr
    assert entry(outcome, "ALTER ROLE")["query"] == f"ALTER ROLE {role} PASSWORD ?"


def test_a_later_run_tells_what_happened_between(watched: Database, tmp_path: Path) -> None:
    watched.run(*["SELECT count(*) FROM t"] * 7)
    keep(tmp_path, "20260301T020000Z-performance", query_info(watched))
    (tmp_path / "20260302T020000Z-backup").mkdir()
    (tmp_path / "20260303T020000Z-torn").mkdir()
    (tmp_path / "20260303T020000Z-torn" / "record.json").write_text('{"hosts": {"a": {"steps": [{"pg_query_info"')
    now = tmp_path / "20260308T020000Z-performance"
    now.mkdir()
    watched.run(*["SELECT count(*) FROM t"] * 3)
    outcome = query_info(watched, run_dir=now, min_window_s=0)
    assert outcome.result["compared_with"] == "20260301T020000Z-performance"
    assert entry(outcome, "count(*) FROM t")["calls"] == 3
    # Too young to be compared with.
    assert entry(query_info(watched, run_dir=now), "count(*) FROM t")["calls"] == 10
    assert query_info(watched, run_dir=now, check=True).result["compared_with"] is None


def test_a_reset_is_noticed(watched: Database, tmp_path: Path) -> None:
    watched.run(*["SELECT count(*) FROM t"] * 7)
    keep(tmp_path, "20260301T020000Z-performance", query_info(watched))
    watched.run("SELECT pg_stat_statements_reset()", *["SELECT count(*) FROM t"] * 9)
    outcome = query_info(watched, run_dir=tmp_path / "20260308T020000Z-performance", min_window_s=0)
    assert outcome.result["was_reset"] is True
    assert outcome.result["compared_with"] is None
    assert entry(outcome, "count(*) FROM t")["calls"] == 9
    assert outcome.result["window_s"] < 3600


def test_another_database_is_not_compared_with(watched: Database, tmp_path: Path) -> None:
    first = query_info(watched)
    first.result["identity"] = "1/1"
    keep(tmp_path, "20260301T020000Z-performance", first)
    outcome = query_info(watched, run_dir=tmp_path / "20260308T020000Z-performance", min_window_s=0)
    assert outcome.result["compared_with"] is None


def test_without_the_extension_it_is_unknown(sound_database: Database) -> None:
    outcome = query_info(sound_database)
    assert outcome.result["status"] == "unknown"
    assert "CREATE EXTENSION" in outcome.result["unknown"][0]["msg"]
    assert outcome.result["queries"] == []


def test_without_the_library_it_is_unknown(database: Database) -> None:
    database.run("CREATE EXTENSION pg_stat_statements")
    outcome = query_info(database)
    assert outcome.result["status"] == "unknown"
    assert "shared_preload_libraries" in outcome.result["unknown"][0]["msg"]


def test_an_extension_of_an_older_version(sound_database: Database) -> None:
    sound_database.run("CREATE EXTENSION pg_stat_statements VERSION '1.8'")
    outcome = query_info(sound_database)
    assert (outcome.result["status"], outcome.result["reset_at"], outcome.result["evicted"]) == ("ok", None, None)
    assert outcome.result["queries"]
    sound_database.run("DROP EXTENSION pg_stat_statements", "CREATE EXTENSION pg_stat_statements VERSION '1.7'")
    outcome = query_info(sound_database)
    assert outcome.result["status"] == "unknown"
    assert "ALTER EXTENSION pg_stat_statements UPDATE" in outcome.result["unknown"][0]["msg"]


def test_without_rights_it_is_unknown(watched: Database) -> None:
    user = f"nobody_{watched.name}"
    watched.run(f"CREATE ROLE {user} LOGIN", "SELECT count(*) FROM t")
    try:
        outcome = query_info(watched, login_user=user)
        assert outcome.result["status"] == "unknown"
        assert "pg_read_all_stats" in outcome.result["unknown"][0]["msg"]
        watched.run(f"GRANT pg_read_all_stats TO {user}")
        assert query_info(watched, login_user=user).result["status"] == "ok"
        watched.run("CREATE SCHEMA ext; ALTER EXTENSION pg_stat_statements SET SCHEMA ext")
        assert "GRANT USAGE ON SCHEMA ext" in query_info(watched, login_user=user).result["unknown"][0]["msg"]
        assert query_info(watched).result["status"] == "ok"
    finally:
        watched.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


@pytest.mark.parametrize(("option", "value"), [("top", 0), ("slow_ms", 0), ("min_window_s", -1)])
def test_bad_options_are_refused_in_one_sentence(watched: Database, option: str, value: Any) -> None:
    outcome = run_module("pg_query_info", watched.login | {option: value})
    assert outcome.failed
    assert outcome.result["msg"].startswith(f"{option}: {value} is out of bounds")
