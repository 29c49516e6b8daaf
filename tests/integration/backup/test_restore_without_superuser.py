"""A user that db_roles.yml made, and that is no superuser, restores and swaps what belongs to others."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible.module_utils.runbook.drivers.postgres import doctor, lease, postgres
from conftest import Database, run_module
from restored import Backup, as_text, made

FOREIGN = (
    "CREATE ROLE keeper",
    "CREATE ROLE guest",
    "CREATE ROLE reader",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO keeper', current_database()); END $$",
    "CREATE SCHEMA clinic AUTHORIZATION keeper",
    "GRANT USAGE ON SCHEMA clinic TO reader",
    # A guest owns a table where it may make none any more.
    "GRANT CREATE, USAGE ON SCHEMA clinic TO guest",
    "SET ROLE guest",
    "CREATE TABLE clinic.visits AS SELECT g AS id, 'visit ' || g AS what FROM generate_series(1, 500) g",
    "ALTER TABLE clinic.visits ADD PRIMARY KEY (id)",
    "CREATE SEQUENCE clinic.numbers START 41",
    "CREATE FUNCTION clinic.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n'",
    "CREATE INDEX ON clinic.visits (clinic.twice(id))",
    "GRANT SELECT, REFERENCES ON clinic.visits TO keeper",
    "RESET ROLE",
    "REVOKE CREATE ON SCHEMA clinic FROM guest",
    # Row-level security keeps the owner out, too.
    "SET ROLE keeper",
    "CREATE TABLE clinic.notes (id int PRIMARY KEY, visit int REFERENCES clinic.visits, note text)",
    "INSERT INTO clinic.notes SELECT g, g, repeat('n', g) FROM generate_series(1, 100) g",
    "ALTER TABLE clinic.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY nobody ON clinic.notes USING (false)",
    "GRANT SELECT ON clinic.notes TO reader",
    "CREATE MATERIALIZED VIEW clinic.figures AS SELECT count(*) FROM clinic.visits",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA clinic GRANT SELECT ON TABLES TO reader",
    "RESET ROLE",
)
ROLES = (
    "restorer",
    "runbook_restore",
    "runbook_backup",
    "runbook_maintain",
    "runbook_read",
    "reader",
    "guest",
    "keeper",
)


@pytest.fixture
def foreign(database: Database, s3):
    """A database of several owners, none of them a superuser, with the roles of db_roles.yml."""
    try:
        for backup in made(database, s3, FOREIGN):
            options = {"environment": "sandbox", "users": [{"name": "restorer", "role": "restore"}]}
            roles = run_module("pg_roles", database.login | options)
            assert not roles.failed, roles.result["msg"]
            assert not run_module("pg_roles", database.login | options).result["changed"]
            yield backup
    finally:
        database.run(
            f'ALTER DATABASE "{database.name}" OWNER TO postgres',
            *(f"REASSIGN OWNED BY {role} TO postgres" for role in ROLES if exists(database, role)),
            *(f"DROP OWNED BY {role} CASCADE" for role in ROLES if exists(database, role)),
            *(f"DROP ROLE IF EXISTS {role}" for role in ROLES),
        )


def exists(database: Database, role: str) -> bool:
    return bool(database.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"))


def is_old(database: Database) -> bool:
    """Whether a new database's schema public is a superuser's, and parameters know no privileges."""
    return int(database.one("SHOW server_version_num")) < 150000


def without_runbook(lines: list[str]) -> list[str]:
    """What a dump says, but for the lease's row."""
    return [line for line in lines if "20260104T020000Z-test" not in line]


def test_it_restores_what_belongs_to_others_and_swaps_it_in(foreign: Backup):
    database = foreign.database
    if is_old(database):
        foreign.make()
        outcome = foreign.restore(login_user="restorer")
        assert (
            "before PostgreSQL 15 the schema public of a new database belongs to a superuser" in outcome.result["msg"]
        )
        assert not foreign.others()
        proof = foreign.restore(login_user="restorer", scratch=True)
        assert not proof.failed, proof.result["msg"]
        assert "the acl of the schema public" in proof.result["left_out"]
        return
    before = without_runbook(as_text(database))
    foreign.make()
    planned = foreign.restore(login_user="restorer", check=True)
    assert not planned.failed, planned.result["msg"]
    assert not foreign.others()
    outcome = foreign.restore(login_user="restorer")
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"
    copy = replace(database, name=outcome.result["target_database"])
    after = without_runbook(as_text(copy))
    # An extension that only a superuser makes is said, with how it is made.
    assert [line for line in before if line not in after and "pgstattuple" not in line] == []
    assert [line for line in after if line not in before] == []
    if any("pgstattuple" in line for line in before):
        assert "extension pgstattuple" in outcome.result["left_out"]
        assert 'CREATE EXTENSION "pgstattuple" SCHEMA "runbook"' in str(outcome.result["warnings"])
    swap = foreign.swap_options | {"login_user": "restorer", "replacement": copy.name}
    swapped = run_module("pg_swap", swap)
    assert not swapped.failed, swapped.result["msg"]
    assert without_runbook(as_text(database)) == after
    assert database.one("SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()") == "keeper"


def test_what_it_may_not_restore_is_said_before_anything_is_made(foreign: Backup):
    database = foreign.database
    database.run(
        "CREATE TABLE public.mine AS SELECT 1 AS id",
        "CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "ALTER FUNCTION public.watch() OWNER TO keeper",
        "CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION public.watch()",
        "SELECT lo_create(4711), lo_create(4712)",
        "CREATE FUNCTION public.owned() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE public.mood AS ENUM ('fine')",
        "CREATE SCHEMA attic",
    )
    kinds = ("1 table (public.mine)", "1 function (public.owned())", "1 schema (attic)")
    taken = foreign.make()
    warned = str(taken["warnings"])
    assert "Only a superuser can restore this backup, because the superuser postgres owns " in warned
    said = " ".join(json.loads(foreign.read(taken["manifest"]))["warnings"])
    login = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | database.login
    with postgres.Session(
        postgres.Target.from_params(login | {"login_user": "restorer"}), lock_timeout_ms=1000, statement_timeout_ms=9000
    ) as own:
        lacks, fix = doctor.lacking(own, "restore", archives=None, cleaned=[], beats=False, swaps=True)
    assert "the rights of postgres, for " in "; ".join(lacks)
    assert "ALTER … OWNER TO" in fix
    for kind in (*kinds, "2 large objects (4711 …)", "1 event trigger (watching)", "1 type (public.mood)"):
        assert kind in warned, warned
        assert kind in said
        assert kind in "; ".join(lacks)
    for check in (True, False):
        outcome = foreign.restore(login_user="restorer", check=check, hold_days=14, environment="sandbox")
        assert outcome.failed
        assert "cannot give objects to the superuser postgres, who owns " in outcome.result["msg"]
        assert [kind for kind in kinds if kind not in outcome.result["msg"]] == [], outcome.result["msg"]
        assert "db_roles.yml" not in outcome.result["msg"]
        assert "only a superuser can make event trigger watching" in outcome.result["msg"]
        assert not foreign.others()
        assert not any("hold-" in key for key in foreign.objects())
    # Without a membership it is the same, with what gives it.
    database.run(
        "DROP EVENT TRIGGER watching", "DROP TABLE public.mine", "SELECT lo_unlink(4711), lo_unlink(4712)",
        "DROP FUNCTION public.owned()", "DROP TYPE public.mood", "DROP SCHEMA attic",
    )  # fmt: skip
    assert "Only a superuser" not in str(foreign.make().get("warnings"))
    database.run("REVOKE guest FROM runbook_restore, runbook_maintain")
    foreign.make()
    outcome = foreign.restore(login_user="restorer", scratch=True, record_proof=True, environment="sandbox")
    assert "cannot give objects to guest, who owns" in outcome.result["msg"]
    assert "db_roles.yml" in outcome.result["msg"]
    assert not foreign.others()
    # A proof that could not be made is remembered.
    assert outcome.result["proof_key"] in foreign.objects()


def test_a_setting_of_one_role_in_the_database_is_refused_before_a_session_ends(foreign: Backup):
    database = foreign.database
    if is_old(database):
        pytest.skip("before PostgreSQL 15 a superuser restores")
    foreign.make()
    outcome = foreign.restore(login_user="restorer")
    assert not outcome.failed, outcome.result["msg"]
    database.run(f'ALTER ROLE reader IN DATABASE "{database.name}" SET work_mem = 64')
    swap = foreign.swap_options | {"login_user": "restorer", "replacement": outcome.result["target_database"]}
    swapped = run_module("pg_swap", swap)
    assert swapped.failed
    assert "'restorer' may not carry over" in swapped.result["msg"]
    assert "reader" in swapped.result["msg"]
    assert database.one("SELECT count(*) FROM clinic.visits") == 500


@pytest.mark.parametrize("maker", ["pg_roles", "another module"])
def test_what_a_superuser_made_the_databases_owner_goes_on_with(database: Database, maker: str):
    """The lease's table among it, which before PostgreSQL 17 goes to runbook_maintain."""
    database.run(
        "CREATE ROLE landlord LOGIN CREATEROLE CREATEDB", f'ALTER DATABASE "{database.name}" OWNER TO landlord'
    )
    common = database.login | {"environment": "sandbox"}
    try:
        if maker != "pg_roles":
            database.run(*lease.DDL)
            refused = run_module("pg_roles", common | {"login_user": "landlord"})
            assert refused.result["msg"].endswith(
                "which holds the lease and which the database's owner did not make; run playbooks/db_roles.yml once as "
                "a superuser (db_roles_admin_user)."
            )
        made = run_module("pg_roles", common)
        assert not made.failed, made.result["msg"]
        assert not run_module("pg_roles", common).result["changed"]
        again = run_module("pg_roles", common | {"login_user": "landlord"})
        assert not again.failed, again.result["msg"]
    finally:
        there = [role for role in (*ROLES, "landlord") if exists(database, role)]
        database.run(
            f'ALTER DATABASE "{database.name}" OWNER TO postgres',
            *(f"DROP OWNED BY {role} CASCADE" for role in there),
            *(f"DROP ROLE {role}" for role in there),
        )


def test_an_admin_who_may_not_grant_an_owner_makes_the_rest_and_says_so(database: Database):
    database.run(
        "CREATE ROLE keeper",
        "CREATE ROLE landlord LOGIN CREATEROLE CREATEDB",
        f'ALTER DATABASE "{database.name}" OWNER TO landlord',
        *(f"GRANT {role} TO landlord WITH ADMIN OPTION" for role in ("pg_monitor", "pg_signal_backend")),
        "GRANT pg_read_all_data TO landlord WITH ADMIN OPTION",
        "CREATE SCHEMA clinic AUTHORIZATION keeper",
    )
    try:
        made = run_module("pg_roles", database.login | {"login_user": "landlord", "environment": "sandbox"})
        assert not made.failed, made.result["msg"]
        if int(database.one("SHOW server_version_num")) >= 160000:
            assert "may not GRANT keeper TO runbook_restore" in str(made.result["warnings"])
    finally:
        there = [role for role in (*ROLES, "landlord") if exists(database, role)]
        database.run(
            f'ALTER DATABASE "{database.name}" OWNER TO postgres',
            *(f"DROP OWNED BY {role} CASCADE" for role in there),
            *(f"DROP ROLE {role}" for role in there),
        )
