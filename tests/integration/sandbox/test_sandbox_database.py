"""sandbox_database on a real server: what it makes, and what it leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible.module_utils.runbook.rules.backup.swap import Marker
from ansible.module_utils.runbook.rules.supabase.managed import OWNER, SUPERUSER
from conftest import Database, disposable, run_module

SMALL = {"scale": 0.02}


@pytest.fixture
def options(database):
    """A server to make databases on, and the name of one; dropped afterwards."""
    name = f'{database.name} "demo"; x'
    yield database.login | {"name": name} | SMALL
    database.run('DROP DATABASE IF EXISTS "{}" WITH (FORCE)'.format(name.replace('"', '""')))


def made(database: Database, options: dict[str, Any]) -> Database:
    return Database(database.host, database.port, options["name"], database.user)


def test_made_once_then_left_alone(database, options):
    first = run_module("sandbox_database", options).result
    assert first["changed"], first
    assert first["audit_rows"] == 1200
    demo = made(database, options)
    demo.run("DELETE FROM public.audit_log WHERE id % 2 = 0")
    left = demo.one("SELECT count(*) FROM public.audit_log")
    second = run_module("sandbox_database", options).result
    assert not second["changed"]
    assert second["executed_queries"] == []
    assert demo.one("SELECT count(*) FROM public.audit_log") == left


def test_looks_like_mental_scribe(database, options):
    """History, archive, keys, texts out of line, free space and dead rows."""
    assert run_module("sandbox_database", options | {"scale": 0.2}).result["changed"]
    demo = made(database, options)
    total, old, oldest, future = demo.run(
        "SELECT count(*), count(*) FILTER (WHERE created_at < now() - interval '90 days'),"
        " extract(day FROM now() - min(created_at)), count(*) FILTER (WHERE created_at > now()) FROM public.audit_log"
    )[0]
    assert total == 12_000
    assert 0.45 < old / total < 0.55
    assert 175 < oldest <= 180
    assert future == 0
    assert demo.one("SELECT count(*) FROM public.audit_log_archive") == 1000
    # The next row of the identity column does not meet an old one.
    demo.run("INSERT INTO public.audit_log (action, entity) VALUES ('test', 'test')")
    assert demo.one("SELECT count(*) FROM public.audit_log a JOIN public.audit_log_archive b USING (id)") == 0
    # The archive is the source's columns and one more, in the same order.
    columns = (
        "SELECT array_agg(attname::text || ' ' || atttypid::regtype::text ORDER BY attnum) FROM pg_attribute"
        " WHERE attrelid = 'public.{}'::regclass AND attnum > 0"
    )
    source, archive = demo.one(columns.format("audit_log")), demo.one(columns.format("audit_log_archive"))
    assert archive == [*source, "archived_at timestamp with time zone"]
    out_of_line = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'public.messages'::regclass"
    assert demo.one(out_of_line) > 1_000_000
    assert demo.one("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND NOT convalidated") == 0
    assert demo.one("SELECT count(*) FROM pg_constraint WHERE contype = 'f'") >= 20
    assert demo.one("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'") >= 25
    # Half of a page is what the dead rows of job_queue alone would need many times over.
    per_row = "SELECT pg_relation_size('public.job_queue') / (SELECT count(*) FROM public.job_queue)"
    assert demo.one(per_row) > 1000


def test_same_seed_same_rows(database, options):
    digest = "SELECT md5(string_agg(concat_ws('|', id, actor, action, details), ',' ORDER BY id)) FROM public.audit_log"
    seen = []
    for seed in (1, 2, 1):
        assert run_module("sandbox_database", options | {"seed": seed}).result["changed"]
        seen.append(made(database, options).one(digest))
    assert seen[0] == seen[2] != seen[1]


def test_check_mode_says_what_it_would_do(database, options):
    plan = run_module("sandbox_database", options, check=True, diff=True).result
    assert plan["changed"]
    assert "1,200 audit rows" in plan["diff"]["prepared"]
    assert (
        database.one(
            "SELECT count(*) FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE '%runbook_demo%'"
        )
        == 0
    )


def test_check_mode_without_a_server_is_not_sure(options):
    plan = run_module("sandbox_database", options | {"login_port": 1}, check=True).result
    assert plan["changed"]
    assert plan["status"] == "unknown"
    assert run_module("sandbox_database", options | {"login_port": 1}).failed


def test_a_making_that_was_cut_short_is_made_again(database, options):
    run_module("sandbox_database", options)
    quoted = '"{}"'.format(options["name"].replace('"', '""'))
    mark = json.loads(
        database.one("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname LIKE '%demo%'")
    )
    mark["runbook_demo"]["ready"] = False
    database.run(f"COMMENT ON DATABASE {quoted} IS '{json.dumps(mark)}'")
    made(database, options).run("DROP TABLE public.messages CASCADE")
    again = run_module("sandbox_database", options).result
    assert "cut short" in again["msg"]
    assert made(database, options).one("SELECT count(*) FROM public.messages") > 0


@pytest.mark.parametrize("comment", [None, "ours", "[1]", '{"other": 1}'])
def test_somebody_elses_database_is_left_alone(database, comment):
    database.run("CREATE TABLE public.precious AS SELECT 1 AS one")
    if comment:
        database.run(f"COMMENT ON DATABASE {database.name} IS '{comment}'")
    admin = database.login | {"login_db": "postgres", "name": database.name} | SMALL
    refused = run_module("sandbox_database", admin)
    assert refused.failed
    assert "was not made by this module" in refused.result["msg"]
    assert database.one("SELECT one FROM public.precious") == 1


def test_bad_scale_is_refused_before_anything(options):
    refused = run_module("sandbox_database", options | {"scale": 0})
    assert refused.failed
    assert refused.result["msg"].startswith("scale: 0 is out of range")


def test_a_database_that_a_backup_was_restored_into_is_left_alone(database):
    """It may have taken the place of the one that was made here."""
    restored = Marker("proven", database.name, "2026-11-23T03:00:00Z")
    database.run(f"COMMENT ON DATABASE {database.name} IS '{restored}'")
    outcome = run_module("sandbox_database", database.login | {"login_db": "postgres", "name": database.name} | SMALL)
    assert not outcome.failed, outcome.result
    assert outcome.result["msg"].endswith("a backup was restored into it, so it is left as it is.")


def test_a_project_of_the_shape_of_supabase_and_a_fresh_one():
    """Its owner is no superuser and may log in; the platform's things are the platform's."""
    bindir = os.environ.get("PG_BINDIR")
    with disposable(Path(bindir) if bindir else None, superuser=SUPERUSER, fsync="off", autovacuum="off") as cluster:
        server = Database("127.0.0.1", cluster.port, "template1", SUPERUSER)
        if int(server.one("SHOW server_version_num")) < 150_000:
            pytest.skip("Supabase offers no PostgreSQL older than 15")
        options = server.login | {"name": "shop", "profile": "supabase", "owner_password": "p"} | SMALL
        fresh = options | {"name": "fresh", "profile": "fresh_supabase"}
        for each in (options, fresh):
            plan = run_module("sandbox_database", each, check=True)
            assert (plan.failed, plan.result["changed"]) == (False, True)
            made = run_module("sandbox_database", each)
            assert not made.failed, made.result
            again = run_module("sandbox_database", each).result
            assert (again["changed"], again["executed_queries"]) == (False, [])
        project = Database(server.host, server.port, "shop", OWNER)
        assert (
            project.one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = 'postgres'") > 25
        )
        assert project.one("SELECT count(*) FROM public.users") == project.one("SELECT count(*) FROM auth.users") > 0
        assert project.one("SELECT bool_or(rolsuper) FROM pg_roles WHERE rolname IN ('postgres', 'anon')") is False
        assert server.one("SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'").startswith("SCRAM-SHA-256$")
        # Everybody's is nothing of it, though new tables are.
        assert not project.one(
            "SELECT bool_or(has_table_privilege('anon', oid, 'SELECT')) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        )
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            project.run("CREATE TABLE auth.mine (id int)")
        empty = Database(server.host, server.port, "fresh", OWNER)
        assert empty.run("SELECT FROM pg_tables WHERE schemaname = 'public'") == []
        assert empty.one("SELECT count(*) FROM auth.users") == 0


def test_a_project_wants_the_platforms_superuser(options):
    refused = run_module("sandbox_database", options | {"profile": "supabase"})
    assert refused.failed
    assert refused.result["msg"].startswith(
        "login_user: 'postgres' cannot make a Supabase project; name 'supabase_admin'"
    )
