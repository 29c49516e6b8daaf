"""What leaves a module: no content of a row, no password, no character that commands a terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from conftest import free_port, run_module
from restored import made

if TYPE_CHECKING:
    from conftest import Database, Outcome
    from restored import Backup

CANARY = "ssn 078-05-1120"
#: Raises with what a row holds, in every field and under a code of the caller's choice.
BLAB = """
CREATE FUNCTION public.blab(said text, code text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  RAISE EXCEPTION '%', said USING ERRCODE = code, DETAIL = said, HINT = said, CONSTRAINT = said, COLUMN = said,
    TABLE = said, SCHEMA = said, DATATYPE = said;
END $$"""
#: Codes whose text is passed on where it is the server's own, and one that is nobody's.
CODES = ("42501", "XX001", "23505", "57P01", "ZZ999")


def silent(outcome: Outcome) -> dict[str, Any]:
    said = json.dumps(outcome.result) + outcome.stderr
    assert CANARY not in said
    assert "078-05" not in said
    assert "foreseen" not in said
    return outcome.result


@pytest.mark.parametrize("code", CODES)
def test_a_trigger_that_quotes_a_row(database: Database, code: str) -> None:
    columns = "id bigint PRIMARY KEY, created_at timestamptz NOT NULL, said text"
    database.run(
        BLAB,
        f"CREATE TABLE public.audit ({columns})",
        f"CREATE TABLE public.kept ({columns}, archived_at timestamptz NOT NULL DEFAULT now())",
        f"INSERT INTO public.audit SELECT n, now() - interval '1 year', '{CANARY}' FROM generate_series(1, 5) n",
        f"""CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM public.blab(NEW.said, '{code}'); RETURN NEW; END $$""",
        "CREATE TRIGGER tell BEFORE INSERT ON public.kept FOR EACH ROW EXECUTE FUNCTION public.tell()",
    )
    options = {"source": "public.audit", "archive": "public.kept", "older_than_days": 90, "deadline_s": 3}
    outcome = run_module("pg_archive", database.login | options)
    assert outcome.failed
    silent(outcome)


@pytest.mark.parametrize("code", ["42501", "XX001"])
def test_an_index_whose_function_quotes_a_row(database: Database, code: str) -> None:
    database.run(
        BLAB,
        "CREATE TABLE public.people (said text)",
        f"INSERT INTO public.people VALUES ('{CANARY}')",
        f"""CREATE FUNCTION public.quiet(said text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            IF current_setting('application_name') LIKE 'runbook%' THEN RETURN public.blab(said, '{code}'); END IF;
            RETURN true; END $$""",
        "CREATE INDEX people_idx ON public.people (public.quiet(said))",
    )
    silent(run_module("pg_vacuum", database.login | {"mode": "all"}))
    silent(run_module("pg_reindex", database.login | {"mode": "all"}))
    query = [{"name": "q", "query": f"SELECT public.blab(said, '{code}') FROM public.people"}]
    silent(run_module("pg_integrity", database.login | {"smoke_queries": query, "database": database.name}))


def test_a_cast_that_fails_quotes_no_value(database: Database) -> None:
    columns = "id bigint PRIMARY KEY, created_at timestamptz NOT NULL, said text"
    database.run(
        f"CREATE TABLE public.audit ({columns})",
        f"CREATE TABLE public.kept ({columns})",
        f"INSERT INTO public.audit VALUES (1, now() - interval '1 year', '{CANARY}')",
        """CREATE FUNCTION public.convert() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.id := NEW.said::int; RETURN NEW; END $$""",
        "CREATE TRIGGER convert BEFORE INSERT ON public.kept FOR EACH ROW EXECUTE FUNCTION public.convert()",
    )
    options = {"source": "public.audit", "archive": "public.kept", "older_than_days": 90}
    outcome = run_module("pg_archive", database.login | options)
    assert outcome.failed
    assert "invalid_text_representation (SQLSTATE 22P02)" in silent(outcome)["msg"]


@pytest.fixture
def unrestorable(database: Database, s3: Any) -> Any:
    """Its check, its index and its column's type say what a row holds wherever another session looks."""
    yield from made(
        database,
        s3,
        (
            BLAB,
            "CREATE TABLE public.people (id int PRIMARY KEY, said text)",
            f"INSERT INTO public.people VALUES (1, '{CANARY}')",
            """CREATE FUNCTION public.quiet(said text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
               IF current_setting('application_name') LIKE 'runbook restoring%' THEN
                 RETURN public.blab(said, '42501'); END IF; RETURN true; END $$""",
        ),
    )


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE public.people ADD CHECK (public.quiet(said))",
        "CREATE MATERIALIZED VIEW public.seen AS SELECT public.quiet(said) FROM public.people",
    ],
)
def test_what_a_restore_evaluates_quotes_no_row(unrestorable: Backup, statement: str) -> None:
    unrestorable.database.run(statement)
    unrestorable.make()
    outcome = unrestorable.restore()
    assert outcome.failed
    assert "the server's log" in silent(outcome)["msg"]


SECRET = "hunter2secret"


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("pg_vacuum", {"login_host": f"postgresql://app:{SECRET}@db.example.com/app"}),
        ("pg_vacuum", {"login_host": f"app:{SECRET}@db.example.com"}),
        ("pg_vacuum", {"login_db": f"host=x password={SECRET} dbname=y"}),
        ("pg_vacuum", {"dsn": f"postgresql://app:p@{SECRET}@127.0.0.1/app"}),
        ("pg_vacuum", {"dsn": f"postgresql://app:{SECRET}@"}),
        ("pg_vacuum", {"login_user": f"postgresql://app:{SECRET}@x"}),
        ("s3_bucket_check", {"endpoint_url": f"https://app:{SECRET}@s3.example.com"}),
        ("s3_bucket_check", {"bucket": f"https://app:{SECRET}@s3.example.com/bucket"}),
        ("supabase_backup_info", {"api_url": f"https://app:{SECRET}@api.example.com"}),
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(module: str, options: dict[str, str]) -> None:
    base: dict[str, dict[str, Any]] = {
        "pg_vacuum": {"login_host": "127.0.0.1", "login_port": free_port(), "login_user": "u", "login_db": "d"},
        "s3_bucket_check": {"bucket": "b", "endpoint_url": f"http://127.0.0.1:{free_port()}", "region": "x",
                            "access_key": "k", "secret_key": "s", "environment": "sandbox"},
        "supabase_backup_info": {"project_ref": "a" * 20, "access_token": "t", "environment": "sandbox"},
    }  # fmt: skip
    given = base[module] | options
    outcome = run_module(module, given)
    assert outcome.failed
    assert next(iter(options)) in outcome.result["msg"]
    assert SECRET not in json.dumps(outcome.result) + outcome.stderr


#: A clear screen, a title, a carriage return, a forged line, a reversed reading, what cannot be seen.
NASTY = "a\x1b[2J\x1b]0;owned\x07\r\n+ok: all well\u202egnp\u200b\u2066\u009b1m\u2028\ufeff"
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def clean(outcome: Outcome) -> None:
    """No text of the result holds such a character; lines are only in a diff, and each begins as ours do."""

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for item in value.items() for text in texts(list(item))]
        return [text for item in value for text in texts(item)] if isinstance(value, list) else [str(value)]

    diff = outcome.result.pop("diff", {}).get("prepared", "")
    outcome.result.pop("invocation", None)
    assert not HIDDEN.search(diff)
    assert "\n+ok" not in diff
    for text in texts(outcome.result):
        assert not HIDDEN.search(text), text
        assert "\n" not in text, text


def test_names_reach_nobody_raw(sound_database: Database, s3: Any) -> None:
    database = sound_database
    name = '"' + NASTY + '"'
    database.run(
        f"CREATE SCHEMA {name}",
        f"CREATE TABLE {name}.{name} (id int PRIMARY KEY, {name} int, created_at timestamptz NOT NULL)",
        f"INSERT INTO {name}.{name} SELECT n, n, now() - interval '1 year' FROM generate_series(1, 20000) n",
        f"CREATE INDEX ON {name}.{name} ({name})",
        f"CREATE INDEX ON {name}.{name} ({name})",
        f"DELETE FROM {name}.{name} WHERE id % 10 > 1",
        f"CREATE ROLE {name}",
        f"ALTER TABLE {name}.{name} OWNER TO {name}",
    )
    table = f"{name}.{name}"
    backup = s3.options(s3.bucket()) | {"environment": "sandbox"}
    archive = {"source": table, "archive": f'{name}."x\x1b[31m"', "older_than_days": 90, "column": "created_at"}
    for module, options in (
        ("pg_vacuum", {"mode": "all"}),
        ("pg_reindex", {"mode": "all"}),
        ("pg_compact", {}),
        ("pg_bloat_info", {}),
        ("pg_index_info", {}),
        ("pg_archive", archive),
        ("pg_backup", backup),
        ("pg_archive", archive | {"source": f"{name}.\"gone\x1b[31m\""}),
    ):  # fmt: skip
        for check in (True, False):
            outcome = run_module(module, database.login | options, check=check, diff=True)
            assert "foreseen" not in outcome.result["msg"]
            clean(outcome)
    database.run(f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")
