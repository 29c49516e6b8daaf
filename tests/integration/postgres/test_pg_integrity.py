"""Module pg_integrity against a real server: what is broken is found, what cannot be seen is not called whole."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.backup import restored_server
from ansible.module_utils.runbook.drivers.postgres import postgres
from conftest import Database, run_module

ALL = ["sequences", "foreign_keys", "indexes", "amcheck", "smoke"]


@pytest.fixture
def shop(database: Database) -> Database:
    """A small database of which everything is in order."""
    database.run(
        "CREATE EXTENSION amcheck",
        "CREATE TABLE public.person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)",
        'CREATE SCHEMA "odd ""schema"""',
        'CREATE TABLE "odd ""schema"""."visit; --" (id serial PRIMARY KEY, '
        '  "who is" bigint CONSTRAINT "knows %" REFERENCES public.person, at timestamptz DEFAULT now())',
        "INSERT INTO public.person (name) SELECT 'n' || g FROM generate_series(1, 500) g",
        'INSERT INTO "odd ""schema"""."visit; --" ("who is") SELECT g FROM generate_series(1, 500) g',
        'INSERT INTO "odd ""schema"""."visit; --" ("who is") VALUES (NULL)',
    )
    return database


def ask(database: Database, **options: Any) -> dict[str, Any]:
    """What the module says, its checks by name."""
    result = run_module("pg_integrity", database.login | {"checks": ALL} | options).result
    result["by_name"] = {check["name"]: check for check in result.get("checks", [])}
    return result


def test_whole(shop: Database) -> None:
    result = ask(
        shop,
        smoke_queries=[
            {"name": "people", "query": "SELECT count(*) FROM public.person", "expect": "500"},
            {"name": "true", "query": "SELECT true"},
        ],
    )
    assert not result.get("failed"), result["msg"]
    assert (result["status"], result["changed"]) == ("ok", False)
    counts = result["objects"]
    assert counts["sequences"] == 2
    assert counts["foreign_keys"] == 1
    assert counts["smoke"] == 2
    assert counts["amcheck"] > 50  # the catalogs too


def test_sequence_behind(shop: Database) -> None:
    shop.run("SELECT setval('public.person_id_seq', 499)")
    result = ask(shop)
    assert result["failed"]
    assert "public.person_id_seq gives 500 next, and public.person.id already holds 500" in result["msg"]
    assert result["by_name"]["foreign_keys"]["status"] == "ok"


def test_sequence_used_by_a_default(shop: Database) -> None:
    """A sequence that nobody owns counts too."""
    shop.run(
        "CREATE SEQUENCE public.shared",
        "CREATE TABLE public.ticket (n int DEFAULT nextval('public.shared') PRIMARY KEY)",
        "INSERT INTO public.ticket VALUES (7)",
    )
    assert ask(shop)["by_name"]["sequences"]["status"] == "breach"


def test_orphans(shop: Database) -> None:
    shop.run("SET session_replication_role = replica", "DELETE FROM public.person WHERE id IN (3, 4)")
    result = ask(shop)
    assert result["failed"]
    assert "knows % has 2 rows without what they point at" in result["msg"]


def test_key_that_is_not_validated(shop: Database) -> None:
    shop.run(
        "CREATE TABLE public.note (person bigint)",
        "ALTER TABLE public.note ADD CONSTRAINT later FOREIGN KEY (person) REFERENCES public.person NOT VALID",
    )
    assert "public.note.later is NOT VALID" in ask(shop)["by_name"]["foreign_keys"]["msg"]


def test_composite_key_over_partitions(shop: Database) -> None:
    shop.run(
        "CREATE TABLE public.place (a int, b text, PRIMARY KEY (a, b)) PARTITION BY LIST (a)",
        "CREATE TABLE public.place_1 PARTITION OF public.place FOR VALUES IN (1)",
        "CREATE TABLE public.trip (a int, b text, FOREIGN KEY (a, b) REFERENCES public.place)",
        "INSERT INTO public.place VALUES (1, 'x')",
        "INSERT INTO public.trip VALUES (1, 'x'), (1, NULL)",
    )
    check = ask(shop)["by_name"]["foreign_keys"]
    assert (check["status"], check["msg"]) == ("ok", "2 foreign keys. Every row finds the one it points at.")


def test_invalid_index(shop: Database) -> None:
    shop.run(
        "CREATE INDEX half ON public.person (name)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.half'::regclass",
    )
    assert "public.half is invalid" in ask(shop)["by_name"]["indexes"]["msg"]


def test_index_that_misses_rows(shop: Database) -> None:
    """The index was built when its function answered otherwise: just what a changed collation does."""
    shop.run(
        "CREATE FUNCTION public.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$",
        "CREATE INDEX twisted ON public.person (public.f(name))",
        "CREATE OR REPLACE FUNCTION public.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT reverse($1) $$",
    )
    result = ask(shop)
    assert result["failed"]
    assert "public.twisted is damaged" in result["by_name"]["amcheck"]["msg"]


@pytest.mark.parametrize(
    ("query", "expect", "text"),
    [
        ("SELECT count(*) FROM public.person", "499", "gave another value"),
        ("SELECT name FROM public.person WHERE id = -1", None, "gave nothing"),
        ("SELECT 0", None, "gave nothing"),
        ("SELECT 1 FROM public.missing", None, "failed: relation"),
        ("DELETE FROM public.person", None, "failed: cannot execute DELETE"),
    ],
)
def test_smoke_query_that_fails(shop: Database, query: str, expect: str | None, text: str) -> None:
    result = ask(shop, smoke_queries=[{"name": "canary", "query": query, "expect": expect}])
    assert result["failed"]
    assert f"canary {text}" in result["msg"]
    assert shop.one("SELECT count(*) FROM public.person") == 500


def test_without_the_extension(database: Database) -> None:
    result = ask(database)
    assert not result.get("failed")
    assert result["status"] == "unknown"
    assert "extension amcheck is not installed in this database" in result["msg"]


def test_locked_table_is_unknown(shop: Database) -> None:
    blocker = shop.connect()
    blocker.autocommit = False
    blocker.cursor().execute("LOCK TABLE public.person IN ACCESS EXCLUSIVE MODE")
    try:
        result = ask(shop, checks=["sequences", "foreign_keys"], lock_timeout_ms=50)
    finally:
        blocker.close()
    assert result["status"] == "unknown"
    assert "public.person_id_seq is locked by somebody else" in result["msg"]


def test_no_time_left_is_unknown(shop: Database) -> None:
    result = ask(
        shop,
        checks=["smoke"],
        deadline_s=1,
        smoke_queries=[{"name": f"slow {n}", "query": "SELECT pg_sleep(30)"} for n in range(4)],
    )
    assert result["status"] == "unknown"
    assert result["objects"] == {"smoke": 4}


def test_no_rights_are_unknown(shop: Database) -> None:
    shop.run("DROP ROLE IF EXISTS outsider", "CREATE ROLE outsider LOGIN")
    result = run_module("pg_integrity", shop.login | {"login_user": "outsider", "checks": ["sequences"]}).result
    assert result["status"] == "unknown"
    assert "may not be read by 'outsider'" in result["msg"]
    shop.run("DROP ROLE outsider")


@pytest.mark.parametrize(("option", "value"), [("jobs", 0), ("deadline_s", 0), ("lock_timeout_ms", 0)])
def test_bad_option(shop: Database, option: str, value: int) -> None:
    result = run_module("pg_integrity", shop.login | {option: value}).result
    assert result["failed"]
    assert result["msg"].startswith(f"{option}: {value} is out of bounds")


def test_no_check_named(shop: Database) -> None:
    assert "checks: the list is empty" in run_module("pg_integrity", shop.login | {"checks": []}).result["msg"]


def test_no_event_trigger_fires_in_what_is_only_looked_at(shop: Database) -> None:
    """A restored copy stays as it was, whatever fires at a login (PostgreSQL 17)."""
    shop.run("CREATE TABLE public.fired (who text)", "CREATE ROLE looks LOGIN", "GRANT pg_read_all_data TO looks")
    if shop.one("SELECT current_setting('server_version_num')::int") >= postgres.SILENCES_EVENT_TRIGGERS:
        shop.run(
            """CREATE FUNCTION public.fire() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
               $$ BEGIN INSERT INTO public.fired VALUES (current_setting('application_name')); END $$""",
            "CREATE EVENT TRIGGER entered ON login EXECUTE FUNCTION public.fire()",
            "ALTER EVENT TRIGGER entered ENABLE ALWAYS",
        )
    try:
        assert ask(shop)["status"] == "ok"
        assert restored_server.look(postgres.Target(shop.host, shop.port, shop.name, shop.user, None)) is not None
        assert shop.run("SELECT who FROM public.fired WHERE who ~ 'pg_integrity|pg_pitr'") == []
        # Who may not set it is let in all the same.
        assert ask(shop, login_user="looks", checks=["indexes"])["status"] == "ok"
    finally:
        shop.run("DROP OWNED BY looks", "DROP ROLE looks")
