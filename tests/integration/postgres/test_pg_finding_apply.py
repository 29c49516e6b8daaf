"""Module pg_finding_apply against a real server."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from conftest import Database, Outcome, hold_lease, module_process, run_module, this_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMITS: dict[str, Any] = {"unused_after_days": 0, "min_size_bytes": 8192, "min_bloat_bytes": 65_536}
FOREIGN_KEY = "missing_foreign_key_index:public.message.person_id"


def apply(database: Database, finding: str, *, check: bool = False, **options: Any) -> Outcome:
    return run_module("pg_finding_apply", database.login | LIMITS | {"finding": finding} | options, check=check)


def indexes(database: Database) -> dict[str, bool]:
    """Every index of a user, and whether it is valid."""
    return dict(
        database.run(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indexrelid >= 16384"
            " AND indrelid::regclass::text NOT LIKE 'pg_toast%' ORDER BY 1"
        )
    )


@contextlib.contextmanager
def holding(database: Database, *statements: str) -> Iterator[int]:
    """An open transaction that has executed ``statements``; its process number on the server."""
    connection = database.connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    try:
        yield connection.info.backend_pid
    finally:
        connection.close()


def until(condition: Callable[[], Any], *, within_s: float = 60) -> Any:
    """Wait until something is true; what it gave."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
    return found


@pytest.fixture
def defects(database: Database) -> Database:
    """Every defect that has a fix, each once."""
    hold_lease(this_run(), database)
    database.run(
        "CREATE TABLE person (id int PRIMARY KEY)",
        "INSERT INTO person SELECT generate_series(1, 100)",
        "CREATE TABLE message (id int PRIMARY KEY, person_id int REFERENCES person, body text, at int, kind int)",
        "INSERT INTO message SELECT i, i % 100 + 1, 'b' || i, i, i % 7 FROM generate_series(1, 10000) AS i",
        "CREATE INDEX message_body_idx ON message (body)",
        "CREATE INDEX message_at_idx ON message (at)",
        "CREATE INDEX message_at_twin ON message (at)",
        "CREATE INDEX message_kind_idx ON message (kind)",
        "CREATE INDEX message_wide_idx ON message (kind, body)",
        "ANALYZE",
    )
    return database


FIXED = [
    (
        FOREIGN_KEY,
        'CREATE INDEX CONCURRENTLY "message_person_id_idx" ON "public"."message" ("person_id")',
        {"message_person_id_idx"},
        set(),
    ),
    (
        "unused_index:public.message.message_body_idx",
        'DROP INDEX CONCURRENTLY "public"."message_body_idx"',
        set(),
        {"message_body_idx"},
    ),
    (
        "duplicate_index:public.message.message_at_twin",
        'DROP INDEX CONCURRENTLY "public"."message_at_twin"',
        set(),
        {"message_at_twin"},
    ),
    (
        "redundant_index:public.message.message_kind_idx",
        'DROP INDEX CONCURRENTLY "public"."message_kind_idx"',
        set(),
        {"message_kind_idx"},
    ),
]


@pytest.mark.parametrize(("finding", "statement", "made", "dropped"), FIXED, ids=[one[0] for one in FIXED])
def test_a_fix_is_applied_once(defects: Database, finding: str, statement: str, made: set[str], dropped: set[str]):
    # Those that overlap are unused as well, and one of them would be told as that, if anybody could tell.
    days = 3650 if finding.startswith("redundant") else 0
    before = indexes(defects)
    planned = apply(defects, finding, check=True, unused_after_days=days)
    assert not planned.failed, planned.result["msg"]
    assert planned.result["state"] == "planned"
    assert planned.result["changed"] is True
    assert indexes(defects) == before

    done = apply(defects, finding, unused_after_days=days)
    assert not done.failed, done.result["msg"]
    assert done.result["state"] == "done"
    assert done.result["executed_queries"] == planned.result["executed_queries"] == [statement]
    assert done.result["finding"]["ddl"] == [statement]
    assert indexes(defects) == {name: True for name in before if name not in dropped} | dict.fromkeys(made, True)
    assert (done.result["size_after_bytes"] or 0) > 0 or not made

    again = apply(defects, finding, unused_after_days=days)
    assert again.failed
    assert again.result["msg"].startswith("Not applied: ")
    assert (again.result["state"], again.result["changed"]) == ("not_standing", False)
    assert again.result["executed_queries"] == []


def test_a_bloated_index_is_rebuilt(database: Database):
    database.run(
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 30000) AS i",
        "CREATE INDEX t_i ON t (i)",
        "DELETE FROM t WHERE i % 5 <> 0",
    )
    database.run("VACUUM ANALYZE t")
    done = apply(database, "bloated_index:public.t_i")
    assert not done.failed, done.result["msg"]
    assert done.result["executed_queries"] == ['REINDEX INDEX CONCURRENTLY "public"."t_i"']
    assert done.result["size_after_bytes"] < done.result["size_before_bytes"] / 2
    assert apply(database, "bloated_index:public.t_i").result["state"] == "not_standing"


def test_a_finding_that_no_longer_stands_is_not_applied(defects: Database):
    finding = "unused_index:public.message.message_body_idx"
    assert apply(defects, finding, check=True).result["state"] == "planned"
    defects.run("SET enable_seqscan = off", "SELECT 1 FROM message WHERE body = 'b1'")
    until(lambda: defects.one("SELECT pg_stat_get_numscans('message_body_idx'::regclass)"))
    before = indexes(defects)
    outcome = apply(defects, finding)
    assert outcome.failed
    assert (outcome.result["state"], outcome.result["status"]) == ("not_standing", "breach")
    assert not outcome.result["changed"]
    assert indexes(defects) == before


def test_what_nobody_can_tell_is_not_applied(defects: Database):
    before = indexes(defects)
    outcome = apply(defects, "unused_index:public.message.message_body_idx", unused_after_days=30)
    assert outcome.failed
    assert outcome.result["status"] == "unknown"
    assert "nobody can tell now" in outcome.result["msg"]
    with holding(defects, "LOCK TABLE message"):
        outcome = apply(defects, FOREIGN_KEY)
        assert outcome.result["status"] == "unknown"
        assert "public.message" in outcome.result["msg"]
    assert indexes(defects) == before


@pytest.mark.parametrize(
    ("finding", "says"),
    [
        ("message_body_idx", "is no id of a finding"),
        ("unused_index:", "is no id of a finding"),
        ("bloated_table:public.message", "playbooks/monthly_db.yml compacts tables"),
        ("slow_query:42", "its fix is for a person to choose"),
        ("supabase:unused_index_x", "Supabase's page"),
    ],
)
def test_what_is_not_applied_is_refused_in_one_sentence(defects: Database, finding: str, says: str):
    before = indexes(defects)
    outcome = apply(defects, finding)
    assert outcome.failed
    assert outcome.result["msg"].startswith("finding: ")
    assert says in outcome.result["msg"]
    assert indexes(defects) == before


def test_a_slip_of_the_pen_is_told(defects: Database):
    before = indexes(defects)
    outcome = apply(defects, "unused_index:public.message.message_body_ix")
    assert (outcome.result["state"], outcome.result["changed"]) == ("not_standing", False)
    assert "The nearest that stands is unused_index:public.message.message_body_idx." in outcome.result["msg"]
    assert indexes(defects) == before


def test_a_constraint_s_index_is_left_to_a_person(defects: Database):
    defects.run("ALTER TABLE person ADD CONSTRAINT person_again UNIQUE (id)")
    outcome = apply(defects, "duplicate_index:public.person.person_again")
    assert outcome.failed
    assert "stands, but its statements lock people out" in outcome.result["msg"]
    assert "ACCESS EXCLUSIVE" in outcome.result["msg"]
    assert indexes(defects)["person_again"]


@pytest.mark.parametrize("finding", [one[0] for one in FIXED[:2]])
def test_a_long_transaction_is_named_and_nothing_is_left(defects: Database, finding: str):
    before = indexes(defects)
    with holding(defects, "UPDATE message SET at = 0 WHERE id = 1") as pid:
        outcome = apply(defects, finding, lock_timeout_ms=300)
        assert outcome.failed
        assert outcome.result["state"] == "locked"
        assert f"held by session {pid}" in outcome.result["msg"]
        assert indexes(defects) == before
    assert apply(defects, finding).result["state"] == "done"


def test_a_drop_that_was_stopped_half_way_is_finished(defects: Database):
    finding = "unused_index:public.message.message_body_idx"
    # What a DROP INDEX CONCURRENTLY leaves that is stopped while it waits.
    defects.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'message_body_idx'::regclass")
    done = apply(defects, finding)
    assert not done.failed, done.result["msg"]
    assert done.result["executed_queries"] == ['DROP INDEX CONCURRENTLY "public"."message_body_idx"']
    assert "message_body_idx" not in indexes(defects)


def test_killed_in_the_middle_the_next_run_goes_on(defects: Database):
    """What a CREATE INDEX CONCURRENTLY leaves whose server process and module both die is built to its end."""
    ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'runbook apply' AND datname = current_database()"
    with holding(defects, "UPDATE message SET at = 0 WHERE id = 1") as first:
        process = module_process("pg_finding_apply", defects.login | LIMITS | {"finding": FOREIGN_KEY})
        # It waits for the first to end; the second, which began later, is in the way of the statement itself.
        until(lambda: defects.run(f"{ours} AND query LIKE '%virtualxid%'"))
        with holding(defects, "UPDATE message SET at = 0 WHERE id = 2"):
            defects.run(f"SELECT pg_terminate_backend({first})")
            until(lambda: False in indexes(defects).values())
            process.kill()
            process.communicate()
            defects.run(f"SELECT pg_terminate_backend(pid) FROM ({ours}) AS a")
            until(lambda: not defects.run(ours))
    assert indexes(defects)["message_person_id_idx"] is False
    done = apply(defects, FOREIGN_KEY)
    assert not done.failed, done.result["msg"]
    assert done.result["executed_queries"] == ['REINDEX INDEX CONCURRENTLY "public"."message_person_id_idx"']
    assert set(indexes(defects).values()) == {True}
    assert apply(defects, FOREIGN_KEY).result["state"] == "not_standing"


def test_an_invalid_index_is_rebuilt(defects: Database):
    defects.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'message_wide_idx'::regclass")
    done = apply(defects, "invalid_index:public.message.message_wide_idx")
    assert not done.failed, done.result["msg"]
    assert indexes(defects)["message_wide_idx"]


def test_rows_with_equal_keys_stand_in_the_way(defects: Database):
    with contextlib.suppress(psycopg2.errors.UniqueViolation):
        defects.run("CREATE UNIQUE INDEX CONCURRENTLY message_person_key ON message (person_id)")
    before = indexes(defects)
    outcome = apply(defects, "invalid_index:public.message.message_person_key")
    assert outcome.failed
    assert outcome.result["state"] == "failed"
    assert "rows with equal keys stand in the way" in outcome.result["msg"]
    assert indexes(defects) == before


@pytest.mark.parametrize(
    ("options", "state"), [({"free_disk_bytes": 1000}, "no_space"), ({"free_disk_bytes": 1 << 40}, "planned")]
)
def test_the_disk_is_looked_at_first(defects: Database, options: dict[str, int], state: str):
    assert apply(defects, FOREIGN_KEY, check=True, **options).result["state"] == state


def test_another_run_s_lease_is_respected(defects: Database):
    before = indexes(defects)
    defects.run("UPDATE runbook.lease SET run_id = 'other', controller = 'elsewhere/1', machine = 'm'")
    outcome = apply(defects, FOREIGN_KEY)
    assert outcome.failed
    assert "run other" in outcome.result["msg"]
    assert indexes(defects) == before


def test_names_of_63_bytes_with_quotes(database: Database):
    column, table = 'c"' + "ü" * 30, 't"; x' + "y" * 58
    quoted = {name: '"{}"'.format(name.replace('"', '""')) for name in (column, table)}
    database.run(
        "CREATE TABLE one (id int PRIMARY KEY)",
        "INSERT INTO one VALUES (1)",
        f"CREATE TABLE {quoted[table]} ({quoted[column]} int REFERENCES one)",
        f"INSERT INTO {quoted[table]} SELECT 1 FROM generate_series(1, 1000)",
        "ANALYZE",
    )
    found = run_module("pg_index_info", database.login | {"min_size_bytes": 8192})
    wanted = [one for one in found.result["findings"] if one["kind"] == "missing_foreign_key_index"]
    assert len(wanted) == 1
    done = apply(database, wanted[0]["id"])
    assert not done.failed, done.result["msg"]
    assert done.result["executed_queries"] == wanted[0]["ddl"]
    assert apply(database, wanted[0]["id"]).result["state"] == "not_standing"


def test_no_rights_change_nothing(defects: Database):
    defects.run(
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    try:
        before = indexes(defects)
        for finding, *_ in FIXED[:2]:
            outcome = apply(defects, finding, login_user="reader")
            assert outcome.failed
            assert outcome.result["state"] in ("not_permitted", "failed")
            assert indexes(defects) == before
    finally:
        defects.run("DROP OWNED BY reader", "DROP ROLE reader")


def test_a_secret_is_in_no_result(defects: Database):
    outcome = apply(defects, FOREIGN_KEY, login_password="c4n4ry-secret")
    said = {key: value for key, value in outcome.result.items() if key != "invocation"}
    assert "c4n4ry" not in json.dumps(said) + outcome.stderr
