"""Module pg_cleanup against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from conftest import Database, module_process, run_module

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = 1500, 200
TABLES = (
    "CREATE TABLE public.sessions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, expires_at timestamptz)",
    f"INSERT INTO public.sessions (expires_at) SELECT now() - interval '30 days' FROM generate_series(1, {OLD})",
    f"INSERT INTO public.sessions (expires_at) SELECT now() FROM generate_series(1, {NEW})",
    "INSERT INTO public.sessions (expires_at) VALUES (NULL), ('-infinity')",
    "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, at timestamptz NOT NULL)",
    "CREATE TABLE public.notes (id bigint PRIMARY KEY, deleted_at timestamptz)",
    "INSERT INTO public.notes SELECT n FROM generate_series(1, 50) n",
    "UPDATE public.notes SET deleted_at = now() - interval '90 days' WHERE id <= 10",
)
SESSIONS = {"table": "public.sessions", "column": "expires_at", "older_than_days": 7}
NOTES = {"table": "public.notes", "column": "deleted_at", "older_than_days": 30}
AT_WORK = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runbook pg_cleanup'"
    " AND datname = current_database()"
)
#: Rows of another table that hang on notes.
CHILD = (
    "CREATE TABLE public.versions (note_id bigint REFERENCES public.notes {}, n int, PRIMARY KEY (note_id, n))",
    "INSERT INTO public.versions SELECT id, n FROM public.notes, generate_series(1, 3) n",
)


@pytest.fixture
def tables(database: Database) -> Database:
    database.run(*TABLES)
    return database


def clean(database: Database, *rules: dict[str, Any], **more: Any) -> Any:
    modes = {key: more.pop(key) for key in ("check", "diff") if key in more}
    return run_module("pg_cleanup", database.login | {"rules": list(rules or (SESSIONS, NOTES))} | more, **modes)


def left(database: Database) -> tuple[int, int]:
    return (
        database.one("SELECT count(*) FROM public.sessions"), database.one("SELECT count(*) FROM public.notes"),
    )  # fmt: skip


def test_what_is_over_goes_and_the_plan_says_the_same_before(tables):
    dry = clean(tables, check=True, diff=True).result
    assert left(tables) == (OLD + NEW + 2, 50)
    done = clean(tables, diff=True).result
    assert left(tables) == (NEW + 2, 40)
    for key in ("planned_rows", "cascaded_rows", "changed"):
        assert done[key] == dry[key]
    assert (done["deleted_rows"], dry["deleted_rows"]) == (OLD + 10, 0)
    assert "1,510 rows would be deleted (public.sessions 1,500, public.notes 10)" in dry["msg"]
    assert "delete 1,500 rows of public.sessions where expires_at < " in dry["diff"]["prepared"]
    again = clean(tables).result
    assert (again["changed"], again["msg"]) == (False, "No row is over.")


def test_a_cap_stops_all_rules(tables):
    refused = clean(tables, SESSIONS, NOTES | {"max_rows": 9}).result
    assert (
        "public.notes: 10 rows would be deleted, and max_rows admits 9; nothing was deleted anywhere" in refused["msg"]
    )
    assert left(tables) == (OLD + NEW + 2, 50)


def test_rows_that_a_foreign_key_takes_along_are_counted_and_capped(tables):
    tables.run(*(each.format("ON DELETE CASCADE") for each in CHILD))
    refused = clean(tables, NOTES | {"max_rows": 39}).result
    assert "40 rows would be deleted, 30 rows of public.versions included" in refused["msg"]
    done = clean(tables, NOTES | {"max_rows": 40}).result
    assert (done["deleted_rows"], done["cascaded_rows"]) == (10, 30)
    assert tables.one("SELECT count(*) FROM public.versions") == 120


@pytest.mark.parametrize("action", ["", "ON DELETE SET NULL"])
def test_a_foreign_key_that_takes_nothing_along_is_refused_with_its_table(tables, action):
    tables.run(*(each.format(action).replace("PRIMARY KEY (note_id, n)", "CHECK (true)") for each in CHILD))
    refused = clean(tables, SESSIONS, NOTES).result
    assert "rows of public.versions refer to it (versions_note_id_fkey, ON DELETE" in refused["msg"]
    assert left(tables) == (OLD + NEW + 2, 50)


@pytest.mark.parametrize(
    ("before", "rule", "more", "says"),
    [
        ([], {"table": "public.sesions"}, {}, "there is no such table; did you mean public.sessions?"),
        ([], {"column": "expired_at"}, {}, "there is no column 'expired_at'; did you mean expires_at?"),
        ([], {"column": "id"}, {}, "'id' is of type bigint; name a column of time"),
        ([], {"older_than_days": 0}, {}, "older_than_days: 0 is out of bounds"),
        ([], {"max_row": 1}, {}, "'max_row' is unknown here; did you mean max_rows?"),
        ([], {"table": "public.audit_log", "column": "at"}, {}, "is a record of who did what, which is archived"),
        ([], {"table": "auth.sessions"}, {}, "stands in schema 'auth', whose rows are not ours to delete"),
        ([], {}, {"kept": ["public.sessions"]}, "is kept by the inventory"),
        ([], {}, {"held": ["public.sesions"]}, "held: there is no table public.sesions, so this holds nothing"),
        ([], {}, {"kept": ["public.patients"]}, "kept: there is no table public.patients, so this keeps nothing"),
        ([], {}, {"archived": ["public.sessions"]}, "is kept by the inventory"),
        (
            ["CREATE TABLE hits (at date PRIMARY KEY) PARTITION BY RANGE (at)",
             "CREATE TABLE hits_1 PARTITION OF hits DEFAULT"],
            {"table": "public.hits_1", "column": "at"}, {"held": ["public.hits"]}, "rows are rows of public.hits, too",
        ),
        (
            ["CREATE TABLE hits (at date PRIMARY KEY) PARTITION BY RANGE (at)",
             "CREATE TABLE hits_1 PARTITION OF hits DEFAULT"],
            {"table": "public.hits", "column": "at"}, {"held": ["public.hits_1"]}, "are rows of public.hits_1, too",
        ),
        (["ALTER TABLE sessions DROP CONSTRAINT sessions_pkey"], {}, {}, "has no primary key"),
        (["CREATE RULE r AS ON DELETE TO sessions DO INSTEAD NOTHING"], {}, {}, "has r (tables that inherit"),
        (
            ["CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
             "CREATE TRIGGER tell BEFORE DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION t()"],
            {}, {}, "deleting fires triggers (tell)",
        ),
        (
            ["CREATE TABLE deep (id int REFERENCES sessions ON DELETE CASCADE, k int UNIQUE)",
             "CREATE TABLE deeper (k int REFERENCES deep (k) ON DELETE CASCADE)"],
            {}, {}, "and these would take others along or fire triggers or rules (public.deeper)",
        ),
        (
            ["CREATE TABLE audit_of_sessions (id bigint REFERENCES sessions ON DELETE CASCADE)"],
            {}, {}, "public.audit_of_sessions is a record of who did what",
        ),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_deleted(tables, before, rule, more, says):
    tables.run(*before)
    refused = clean(tables, NOTES, SESSIONS | rule, **more)
    assert refused.failed
    assert says in refused.result["msg"], refused.result["msg"]
    assert left(tables) == (OLD + NEW + 2, 50)


def test_a_legal_hold_leaves_its_table_alone(tables):
    done = clean(tables, held=["public.notes"]).result
    assert left(tables) == (NEW + 2, 50)
    assert done["held"] == ["public.notes"]
    assert done["msg"].endswith("Left alone under a legal hold: public.notes.")


def test_a_partitioned_table(tables):
    tables.run(
        "CREATE TABLE hits (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE hits_1 PARTITION OF hits FOR VALUES FROM (MINVALUE) TO ('2020-01-01')",
        "CREATE TABLE hits_2 PARTITION OF hits FOR VALUES FROM ('2020-01-01') TO (MAXVALUE)",
        "INSERT INTO hits SELECT n, now() - n * interval '1 day' FROM generate_series(1, 20) n",
        "INSERT INTO hits VALUES (1, '2019-01-01')",
    )
    done = clean(tables, {"table": "public.hits", "column": "at", "older_than_days": 10}).result
    assert done["deleted_rows"] == tables.one("SELECT 21 - count(*) FROM hits")
    assert tables.one("SELECT count(*) FROM hits") in {9, 10}


def test_least_privilege_and_rows_that_are_hidden(tables):
    user = f"cleaner_{tables.name}"
    tables.run(f"CREATE ROLE {user} LOGIN", "ALTER TABLE public.sessions ENABLE ROW LEVEL SECURITY")
    low = Database(tables.host, tables.port, tables.name, user)
    try:
        refused = clean(low, SESSIONS, check=True).result["msg"]
        assert "row security hides rows" in refused
        tables.run(f"CREATE POLICY all_rows ON public.sessions TO {user} USING (true)")
        refused = clean(low, SESSIONS, check=True).result["msg"]
        assert f"'{user}' lacks DELETE and SELECT (expires_at, id); run playbooks/db_roles.yml" in refused
        tables.run(f"GRANT SELECT (expires_at, id), DELETE ON public.sessions TO {user}")
        # A role whose policies show it a part of the rows must not take them for all.
        tables.run(f"ALTER POLICY all_rows ON public.sessions TO {user} USING (id > 100)")
        assert "row security hides rows" in clean(low, SESSIONS).result["msg"]
        tables.run(f"ALTER POLICY all_rows ON public.sessions TO {user} USING (true)")
        done = clean(low, SESSIONS)
        assert done.result.get("deleted_rows") == OLD, done.result
    finally:
        tables.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.long)])
def test_killed_in_the_middle_it_goes_on(tables, kills):
    tables.run(
        *(
            each.format("ON DELETE CASCADE").replace("notes", "sessions").replace("note_id", "session_id")
            for each in CHILD
        )
    )
    for number in range(kills):
        blocker = tables.connect()
        blocker.autocommit = False
        with blocker.cursor() as cursor:
            # The last of the old rows, so that batches before it are committed.
            cursor.execute(f"SELECT FROM public.sessions WHERE id = {OLD} FOR UPDATE")
            running = module_process("pg_cleanup", tables.login | {"rules": [SESSIONS], "target_batch_ms": 5})
            waits = f"{AT_WORK} AND query LIKE 'DELETE%'"
            while running.poll() is None and not tables.one(waits):
                pass
            running.kill()
            running.communicate()
            blocker.rollback()
        blocker.close()
        assert tables.one("SELECT count(*) FROM public.sessions") >= NEW + 2, number
        orphans = "SELECT count(*) FROM versions v WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.id = v.session_id)"
        assert tables.one(orphans) == 0
    done = clean(tables, SESSIONS)
    assert not done.failed, done.result
    assert tables.one("SELECT count(*) FROM public.sessions") == NEW + 2


def test_a_row_that_is_renewed_meanwhile_stays(tables):
    blocker = tables.connect()
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("UPDATE public.sessions SET expires_at = now() + interval '1 day' WHERE id = 1")
        running = module_process("pg_cleanup", tables.login | {"rules": [SESSIONS]})
        waits = f"{AT_WORK} AND wait_event_type = 'Lock'"
        while running.poll() is None and not tables.one(waits):
            pass
        blocker.commit()
    blocker.close()
    running.communicate()
    assert tables.one("SELECT count(*) FROM public.sessions WHERE id = 1") == 1


def test_the_playbook_cleans_and_gives_its_lease_back(tables: Database, tmp_path: Path):
    project = Project.for_database(tmp_path, tables, daily_cleanup_rules=[SESSIONS])
    ended = project.run("daily_cleanup.yml")
    assert ended.code == 0, ended.output
    assert ended.last("pg_cleanup")["deleted_rows"] == OLD
    assert tables.run("SELECT run_id FROM runbook.lease") == []
    assert ended.record is not None
    assert "1,500 rows" in (ended.record / "report.md").read_text()
