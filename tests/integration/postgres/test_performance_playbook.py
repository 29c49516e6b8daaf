"""The performance review against a real server: ten injected defects are named, a clean database has none."""

from __future__ import annotations

import contextlib
import html
import time
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.postgres import lease
from fakes.supabase import REF, TOKEN, FakeSupabase, lint

from playbooks import Ended, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Database

#: Small enough for a test, large enough for a clean database to have no finding.
LIMITS: dict[str, Any] = {
    "db_performance_unused_after_days": 0, "db_performance_min_size_bytes": 65_536,
    "db_performance_min_bloat_bytes": 262_144, "db_performance_slow_ms": 100, "db_performance_idle_transaction_s": 1,
}  # fmt: skip
FOREIGN_KEY = "missing_foreign_key_index:public.messages.user_id"


def until(condition: Callable[[], Any]) -> None:
    """Wait for what the server is about to do or to report."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that within a minute"
        time.sleep(0.05)


def review(project: Project, *arguments: str, **more: Any) -> Ended:
    return project.run("performance.yml", *arguments, **(LIMITS | more))


def found(ended: Ended) -> dict[str, dict[str, Any]]:
    """All findings of a run, by id."""
    return {
        one["id"]: one
        for results in ended.results.values()
        for result in results
        for one in result.get("findings") or []
    }


@pytest.fixture
def clean(sound_database: Database) -> Database:
    """Tables with keys, used indexes, statistics, and a day's queries behind them."""
    sound_database.run(
        "CREATE EXTENSION pg_stat_statements",
        "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)",
        "CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users,"
        " body text)",
        "CREATE INDEX messages_user_id_key ON messages (user_id)",
        "INSERT INTO users (name) SELECT 'n' || i FROM generate_series(1, 200) AS i",
        "INSERT INTO messages (user_id, body) SELECT 1 + i % 200, repeat('b', 100) FROM generate_series(1, 20000) AS i",
    )
    sound_database.run("VACUUM ANALYZE")
    sound_database.run("SET enable_seqscan = off", "SELECT count(*) FROM messages WHERE user_id = 3")
    until(lambda: sound_database.one("SELECT pg_stat_get_numscans('messages_user_id_key'::regclass)"))
    sound_database.run("SELECT pg_stat_statements_reset()")
    return sound_database


@pytest.fixture
def injected(clean: Database) -> Iterator[dict[str, str]]:
    """Ten defects; what each is called, by what it is."""
    clean.run(
        "CREATE INDEX messages_old_idx ON messages (body)",
        "CREATE INDEX messages_user_id_copy ON messages (user_id)",
        "CREATE TABLE notes (id bigint PRIMARY KEY, message_id bigint REFERENCES messages, state int)",
        "INSERT INTO notes SELECT i, i, 1 FROM generate_series(1, 5000) AS i",
        "CREATE TABLE tickets (id serial PRIMARY KEY)",
        "SELECT setval('tickets_id_seq', 1975684956)",
        "CREATE TABLE fat (id bigint, body text)",
        "INSERT INTO fat SELECT i, repeat('f', 300) FROM generate_series(1, 10000) AS i",
        "DELETE FROM fat WHERE id % 5 <> 0",
        "CREATE TABLE grown (id bigint PRIMARY KEY, at bigint)",
        "INSERT INTO grown SELECT i, i FROM generate_series(1, 60000) AS i",
        "DELETE FROM grown WHERE id % 5 <> 0",
    )
    clean.run("VACUUM ANALYZE")
    with contextlib.suppress(psycopg2.errors.UniqueViolation):
        clean.run("CREATE UNIQUE INDEX CONCURRENTLY notes_state_key ON notes (state)")
    for _call in range(12):
        clean.run("SELECT pg_sleep(0.15)")
    clean.run("SET enable_seqscan = off", "SELECT count(*) FROM messages WHERE user_id = 3")
    idle = clean.connect()
    idle.autocommit = False
    with idle.cursor() as cursor:
        cursor.execute("SELECT 1")
    pid = idle.info.backend_pid
    until(lambda: clean.one(f"SELECT now() - state_change > interval '1.5 s' FROM pg_stat_activity WHERE pid = {pid}"))
    query = clean.one("SELECT queryid FROM pg_stat_statements WHERE query LIKE 'SELECT pg_sleep%'")
    yield {
        "unused index": "unused_index:public.messages.messages_old_idx",
        "duplicate index": "duplicate_index:public.messages.messages_user_id_copy",
        "missing foreign-key index": "missing_foreign_key_index:public.notes.message_id",
        "int4 key at 92 %": "key_near_end:public.tickets.id",
        "bloated table": "bloated_table:public.fat",
        "bloated index": "bloated_index:public.grown_pkey",
        "invalid index": "invalid_index:public.notes.notes_state_key",
        "slow query": f"slow_query:{query}",
        "idle transaction": f"idle_transaction:{pid}",
    }
    idle.close()


def test_a_clean_database_has_no_finding(clean: Database, tmp_path: Path) -> None:
    ended = review(Project.for_database(tmp_path, clean))
    assert found(ended) == {}
    assert ended.code == 0, ended.output
    assert ended.record is not None
    assert "No findings" in (ended.record / "report.html").read_text()


def test_each_injected_defect_is_named_with_its_fix(clean: Database, injected: dict[str, str], tmp_path: Path) -> None:
    ended = review(Project.for_database(tmp_path, clean))
    by_id = found(ended)
    assert {what: finding in by_id for what, finding in injected.items()} == dict.fromkeys(injected, True)
    # The table whose rows were deleted is as bloated as its index.
    assert set(by_id) - set(injected.values()) == {"bloated_table:public.grown"}
    assert ended.record is not None
    page = html.unescape((ended.record / "report.html").read_text())
    statements = (ended.record / "findings.sql").read_text()
    for finding in by_id.values():
        assert finding["id"] in page
        assert finding["msg"] in page
        for statement in finding["ddl"]:
            assert statement in page
            assert statement in statements
    assert "pg_sleep" in page


def test_near_wraparound_by_a_simulated_threshold(clean: Database, tmp_path: Path) -> None:
    clean.run("CREATE TABLE old (id bigint PRIMARY KEY)", "INSERT INTO old VALUES (1)")
    for number in range(2, 12):
        clean.run(f"INSERT INTO old VALUES ({number})")
    clean.run("VACUUM (FREEZE) users, messages")
    age = clean.one("SELECT age(relfrozenxid) FROM pg_class WHERE relname = 'old'")
    ended = review(Project.for_database(tmp_path, clean), db_performance_max_xid_age=age)
    assert "wraparound:public.old" in found(ended)


def test_one_finding_is_applied_as_the_dry_run_said(clean: Database, tmp_path: Path) -> None:
    clean.run("DROP INDEX messages_user_id_key")
    project = Project.for_database(tmp_path, clean)
    planned = review(project, "--check", performance_apply=FOREIGN_KEY)
    assert planned.code == 0, planned.output
    assert planned.last("pg_finding_apply")["msg"].startswith(f"Would apply {FOREIGN_KEY}: CREATE INDEX CONCURRENTLY")
    done = review(project, performance_apply=FOREIGN_KEY)
    assert done.code == 0, done.output
    assert done.last("pg_finding_apply")["msg"].startswith(f"Applied {FOREIGN_KEY} in ")
    assert {one["state"] for one in done.results["pg_index_info"]} == {"skipped"}
    assert clean.one("SELECT count(*) FROM pg_indexes WHERE indexname = 'messages_user_id_idx'") == 1
    assert clean.one("SELECT count(*) FROM runbook.lease") == 0


def test_the_owner_of_the_tables_applies_what_the_bastion_s_user_may_not(clean: Database, tmp_path: Path) -> None:
    clean.run("DROP ROLE IF EXISTS app_owner", "CREATE ROLE app_owner LOGIN IN ROLE pg_read_all_stats")
    for table in ("users", "messages"):
        clean.run(f"ALTER TABLE {table} OWNER TO app_owner")
    clean.run("DROP INDEX messages_user_id_key")
    project = Project.for_database(tmp_path, clean, db_performance_login_user="app_owner")
    try:
        clean.run(*lease.DDL, "GRANT USAGE ON SCHEMA runbook TO app_owner", "GRANT ALL ON runbook.lease TO app_owner")
        clean.run("GRANT CREATE ON SCHEMA public TO app_owner")
        assert FOREIGN_KEY in found(review(project))
        done = review(project, performance_apply=FOREIGN_KEY)
        assert done.code == 0, done.output
        assert clean.one("SELECT count(*) FROM pg_indexes WHERE indexname = 'messages_user_id_idx'") == 1
    finally:
        clean.run("REASSIGN OWNED BY app_owner TO CURRENT_USER", "DROP OWNED BY app_owner", "DROP ROLE app_owner")


def test_supabase_s_advisors_are_merged_in_and_what_is_missing_is_red(database: Database, tmp_path: Path) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    with FakeSupabase() as api:
        api.lints = [lint("no_primary_key", table="letters")]
        project = Project.for_database(
            tmp_path,
            database,
            supabase_project_ref=REF,
            supabase_project_name="mental-scribe",
            supabase_access_token=TOKEN,
            supabase_api_url=api.url,
        )
        ended = review(project)
    assert "supabase:no_primary_key_public_letters" in found(ended)
    # Without pg_stat_statements nobody knows which queries are slow.
    assert ended.last("pg_query_info")["status"] == "unknown"
    assert ended.code != 0
    assert ended.record is not None
    assert all(TOKEN not in path.read_text() for path in ended.record.iterdir())
