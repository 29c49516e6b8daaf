"""What a managed platform keeps for itself, and what goes where in a restore."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.supabase.managed import Project, ScriptFilter

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Project(
    owner="postgres",
    schemas={"auth", "storage", "cron", "extensions", "public"},
    extensions={"pg_cron", "pgcrypto"},
    publications={"supabase_realtime"},
    roles={"postgres", "anon"},
    triggers={"storage objects protect_objects_delete"},
    policies=set(),
    indexes={"auth users_pkey"},
    own=[],
    tables={("auth", "users"): False, ("storage", "objects"): False, ("auth", "schema_migrations"): True},
    sequences={("auth", "refresh_tokens_id_seq")},
    may_replicate=True,
)

LISTED = """\
;
; Archive created at 2026-11-28
;
14; 2615 16401 SCHEMA - auth supabase_admin
22; 2615 16410 SCHEMA - extensions postgres
25; 2615 17200 SCHEMA - app postgres
26; 0 0 ACL - SCHEMA app postgres
27; 0 0 ACL - SCHEMA cron supabase_admin
28; 0 0 ACL - SCHEMA public pg_database_owner
5; 3079 16692 EXTENSION - pg_cron@
6; 0 0 COMMENT - EXTENSION pg_cron@
7; 3079 16693 EXTENSION - hstore@
30; 1255 1 FUNCTION extensions pgrst_ddl_watch() supabase_admin
31; 1255 2 FUNCTION extensions of_ours(text, integer) postgres
40; 1259 3 TABLE auth users supabase_auth_admin
41; 1259 4 TABLE auth of_ours postgres
42; 1259 5 TABLE public notes postgres
43; 1259 6 TABLE auth log entries postgres
44; 0 0 ACL cron TABLE job supabase_admin
45; 0 0 USER MAPPING - USER MAPPING postgres SERVER far postgres
50; 1259 7 INDEX auth users_pkey supabase_auth_admin
51; 1259 8 INDEX auth users_by_us supabase_auth_admin
60; 2620 9 TRIGGER auth users on_new supabase_auth_admin
61; 2620 10 TRIGGER storage objects protect_objects_delete supabase_storage_admin
62; 3256 11 POLICY storage objects mine supabase_storage_admin
70; 6104 12 PUBLICATION - supabase_realtime postgres
71; 6106 13 PUBLICATION TABLE public supabase_realtime notes postgres
72; 826 14 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES postgres
73; 826 15 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES supabase_admin
80; 3466 16 EVENT TRIGGER - pgrst_ddl_watch supabase_admin
""".replace("@", " ")  # an extension has no owner: its line ends with a space


def numbers(entries: object) -> list[int]:
    """Numbers of entries."""
    assert isinstance(entries, list)
    return [int(each.line.partition(";")[0]) for each in entries]


def test_what_goes_into_a_project() -> None:
    """What the platform made is left alone, and what was added to its tables comes last."""
    chosen = managed.for_project(managed.read_list(LISTED, {"auth log"}), PROJECT)
    assert numbers(chosen.kept) == [25, 26, 28, 7, 31, 42, 43, 71, 72]
    assert [each.name for each in chosen.added] == ["trigger on_new on auth.users", "policy mine on storage.objects"]
    assert [each.name for each in chosen.left_out] == [
        "table auth.of_ours", "user mapping postgres SERVER far", "index auth.users_by_us",
    ]  # fmt: skip


def test_what_goes_onto_a_server_of_ones_own() -> None:
    """Everything, without extensions that act by themselves and what belongs to them."""
    entries = managed.read_list(LISTED)
    assert set(numbers(entries)) - set(numbers(managed.for_copy(entries, ("pg_cron",)))) == {27, 5, 6, 44, 45, 80}


SCRIPT = b"""\
SET statement_timeout = 0;
SET transaction_timeout = 0;
COPY auth.schema_migrations (version) FROM stdin;
1
2
\\.


COPY auth.users (id, email) FROM stdin;
1\t\\.
2\tCOPY auth.schema_migrations (version) FROM stdin;
\\.

COPY cron.job (jobid, schedule) FROM stdin;
1\t* * * * *
\\.

COPY vault.secrets (id) FROM stdin;
\\.

COPY public."odd ""one"" x" (id) FROM stdin;
SELECT pg_catalog.setval('net.x', 1, true);
\\.

COPY public.empty  FROM stdin;

\\.

SELECT pg_catalog.setval('auth.refresh_tokens_id_seq', 5, true);
SELECT pg_catalog.setval('net.http_request_queue_id_seq', 5, true);
SELECT pg_catalog.setval('public.notes_id_seq', 5, true);
-- the end"""
LEFT = b"""\
SET statement_timeout = 0;


COPY auth.users (id, email) FROM stdin;
1\t\\.
2\tCOPY auth.schema_migrations (version) FROM stdin;
\\.

CREATE TEMPORARY TABLE pg_temp.runbook_jobs (jobid text, schedule text) ON COMMIT DROP;
COPY pg_temp.runbook_jobs (jobid, schedule) FROM stdin;
1\t* * * * *
\\.


COPY public."odd ""one"" x" (id) FROM stdin;
SELECT pg_catalog.setval('net.x', 1, true);
\\.

COPY public.empty  FROM stdin;

\\.

SELECT pg_catalog.setval('auth.refresh_tokens_id_seq', 5, true);
SELECT pg_catalog.setval('public.notes_id_seq', 5, true);
-- the end"""


def into_project() -> Callable[[str, str], str]:
    """Where rows go in a project."""
    return lambda schema, table: managed.rows_go(schema, table, PROJECT)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_rows_that_do_not_go_there_are_taken_out(size: int) -> None:
    """Whatever the pieces are that the script comes in; a row is never taken for a statement."""
    script_filter = ScriptFilter(into_project(), sequences=PROJECT.sequences, server_version=150000)
    out = (
        b"".join(script_filter.feed(SCRIPT[at : at + size]) for at in range(0, len(SCRIPT), size)) + script_filter.end()
    )
    assert out == LEFT
    assert script_filter.held == {("auth", "schema_migrations"): 2, ("cron", "job"): 1}


def test_a_newer_servers_setting_stays() -> None:
    script_filter = ScriptFilter(lambda *_: "keep", sequences=None, server_version=170000)
    assert script_filter.feed(SCRIPT) + script_filter.end() == SCRIPT


GLOBALS = """\
CREATE ROLE anon;
ALTER ROLE anon WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE "odd ""role"" x";
ALTER ROLE "odd ""role"" x" WITH NOSUPERUSER NOINHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION BYPASSRLS;
CREATE ROLE supabase_admin;
ALTER ROLE supabase_admin WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS;
ALTER ROLE anon SET statement_timeout TO '3s';
ALTER ROLE "odd ""role"" x" SET work_mem TO '1GB';
ALTER ROLE supabase_auth_admin SET search_path TO 'auth';
ALTER ROLE postgres SET search_path TO 'x';
GRANT anon TO "odd ""role"" x" WITH INHERIT TRUE GRANTED BY supabase_admin;
GRANT anon TO authenticator;
"""


def test_roles_of_ones_own_are_made_and_what_cannot_be_is_named() -> None:
    found = managed.roles(GLOBALS, PROJECT)
    assert found.made == [
        'CREATE ROLE "odd ""role"" x" NOINHERIT CREATEDB LOGIN;', 'GRANT "odd ""role"" x" TO CURRENT_USER;',
    ]  # fmt: skip
    assert found.undone == ['REVOKE "odd ""role"" x" FROM CURRENT_USER;']
    assert found.tried == [
        ('GRANT anon TO "odd ""role"" x"', 'GRANT anon TO "odd ""role"" x";'),
        ("role anon: its setting statement_timeout", "ALTER ROLE anon SET statement_timeout TO '3s';"),
        ('role "odd ""role"" x": its setting work_mem', 'ALTER ROLE "odd ""role"" x" SET work_mem TO \'1GB\';'),
    ]
    assert found.listed == ['role "odd ""role"" x": BYPASSRLS', 'role "odd ""role"" x": its password']


def test_settings_of_a_database_go_to_the_new_one_but_for_its_mark() -> None:
    """Their names are told where they are refused, never their values."""
    script = """ALTER DATABASE old OWNER TO postgres;
ALTER DATABASE old SET "app.settings.key" TO 'canary';
ALTER DATABASE old SET "runbook.environment" TO 'production';
ALTER ROLE anon IN DATABASE old SET statement_timeout TO '9s';
ALTER ROLE anon IN DATABASE old SET work_mem TO '5MB';
ALTER ROLE app IN DATABASE old SET work_mem TO '5MB';
"""
    assert managed.settings(script, database='"new one"') == [
        (
            'the database\'s setting "app.settings.key"',
            'ALTER DATABASE "new one" SET "app.settings.key" TO \'canary\';',
        ),
        (
            "role anon: its setting statement_timeout here",
            "ALTER ROLE anon IN DATABASE \"new one\" SET statement_timeout TO '9s';",
        ),
        ("role app: its setting work_mem here", "ALTER ROLE app IN DATABASE \"new one\" SET work_mem TO '5MB';"),
    ]


#: By pg_net, the extension http, and dblink.
CALLING = (
    'NET.HTTP_DELETE(1)', '"net"."http_get"(1)', "extensions.http_post (1)", "extensions.http((1))", "http_get(1)",
    "dblink_exec(1)", "extensions.dblink(1)",
)  # fmt: skip


def test_a_trigger_that_calls_another_server_is_known_by_its_function() -> None:
    definitions = """
-- Name: quiet(); Type: FUNCTION
CREATE FUNCTION public.quiet() RETURNS trigger AS 'BEGIN RETURN NEW; END';
-- Name: loud(); Type: FUNCTION
CREATE FUNCTION public.loud() RETURNS trigger AS 'BEGIN PERFORM net.http_post(''x''); RETURN NEW; END';
"""
    trigger = "CREATE TRIGGER t AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION {}();"
    assert not managed.calls_out(trigger.format("public.quiet"), definitions)
    assert managed.calls_out(trigger.format("public.loud"), definitions)
    assert managed.calls_out(trigger.format("supabase_functions.http_request"), definitions)
    for text in CALLING:
        assert managed.calls_out(trigger.format("public.loud"), definitions.replace("net.http_post(''x'')", text)), text
    for text in ("public.internet.http_only", "public.my_http_posts", "note ''http''", "public.dblinks"):
        assert not managed.calls_out(trigger.format("public.loud"), definitions.replace("net.http_post(''x'')", text))
    assert not managed.calls_out("CREATE POLICY mine ON storage.objects;", definitions)


@pytest.mark.parametrize(
    ("table", "where"),
    [
        (("public", "notes"), "keep"), (("auth", "users"), "keep"), (("auth", "schema_migrations"), "drop"),
        (("auth", "new_one"), "miss"), (("realtime", "messages_2026_11_28"), "drop"), (("net", "queue"), "drop"),
        (("cron", "job"), "cron"), (("cron", "job_run_details"), "drop"), (("vault", "secrets"), "vault"),
        (("supabase_migrations", "schema_migrations"), "keep"), (("runbook", "lease"), "keep"),
    ],
)  # fmt: skip
def test_where_rows_go_in_a_project(table: tuple[str, str], where: str) -> None:
    assert managed.rows_go(*table, PROJECT) == where
    if table[0] == "runbook":
        there = replace(PROJECT, schemas={*PROJECT.schemas, "runbook"})
        assert managed.rows_go(*table, there) == "drop"
