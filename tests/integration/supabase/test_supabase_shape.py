"""On a database of Supabase's shape, as its owner, who is no superuser.

What has to hold there, and the tests that hold it; those without a file are here.

1.  A user is named ``role.project``, and a pooler in transaction mode (port 6543) is refused: ``test_1_…``;
    ``test_pooler.py``: ``test_a_transaction_pooler_is_refused_with_the_fix``.
2.  Timeouts are set by SET and outlive those of a role: ``test_2_…``; ``test_session_settings.py`` has every setting.
3.  A backup by the owner is complete, and who lacks BYPASSRLS is told so: ``test_a_full_backup_by_the_owner_is_green``,
    ``test_3_…``.
4.  Roles of least privilege are made by the owner, with a warning of what a backup reads: ``test_4_…``.
5.  A backup survives a partition that is dropped meanwhile: ``test_5_…``.
6.  A fresh project gets its rows back, equal by two comparisons: ``test_6_…``, and what may not happen otherwise:
    ``test_a_restore_that_fails_…``, ``test_a_kill_in_the_middle_…``, ``test_a_project_that_is_not_fresh_…``.
7.  The platform's owners, privileges and event triggers are as they were: ``test_7_…``.
8.  Triggers, policies and publications on the platform's tables are back: both of ``test_8_…``.
9.  Jobs go through functions; nothing acts by itself, in a project or in a copy elsewhere: both of ``test_9_…``.
10. The vault is never called recovered: ``test_10_…``.
11. Roles, settings, passwords are back or named: ``test_11_…``.
12. No row of the platform is deleted by SQL: ``test_12_…``.
13. Maintenance does what version and rights allow, and says why not: ``test_13_…``.
14. pg_repack from 1.5.2 on, for the owner's tables, and an older one not: both of ``test_14_…``; where its remains are
    dropped: ``test_pg_compact.py``.
15. Nobody may more than before, in both eras of default privileges: ``test_15_nobody_…``, ``test_8_a_policy_…``; files
    are matched by key, size and ETag, before and after a restore: ``test_15_files_…``.

``test_every_playbook_in_a_row_as_the_owner`` runs them all as an operator does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.backup import backup as backup_driver
from ansible.module_utils.runbook.drivers.postgres import doctor, postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import find_bindir
from ansible.module_utils.runbook.drivers.sandbox.demo_database import fill
from ansible.module_utils.runbook.drivers.supabase import project as driver
from ansible.module_utils.runbook.rules.sandbox import demo_database, demo_project
from ansible.module_utils.runbook.rules.supabase import managed
from conftest import ROOT, S3, Database, Outcome, disposable, module_process, run_module
from supabase_shape import MAJORS, Shape, shape

from playbooks import SMALL, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster


@pytest.fixture(scope="module", params=MAJORS)
def supabase(request: pytest.FixtureRequest) -> Iterator[Shape]:
    """A server of the shape, of each version that Supabase offers and this machine has."""
    with shape(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def elsewhere(supabase: Shape) -> Iterator[Shape]:
    """Another one, where nobody made a project yet."""
    with shape(supabase.major, filled=False) as made:
        yield made


@pytest.fixture(scope="module")
def plain(supabase: Shape) -> Iterator[Cluster]:
    """A server of one's own, of the same version; its superuser is not called postgres."""
    with disposable(supabase.cluster.bindir, superuser="root", fsync="off", autovacuum="off") as made:
        yield made


class Backup:
    """A project with an application in it, and its backup."""

    def __init__(self, project: Database, s3: S3) -> None:
        self.project = project
        self.options = s3.options(s3.bucket()) | {"environment": "sandbox"}
        self.made = run_module("pg_backup", project.login | self.options)
        self.cluster = project.one("SELECT system_identifier::text FROM pg_control_system()")

    def restoring(self, into: Database) -> dict[str, Any]:
        """Options of a restore, on the server of ``into``."""
        return into.login | self.options | {"database": self.project.name, "from_cluster": self.cluster}

    def restore(self, into: Database, **options: Any) -> Outcome:
        """Run pg_restore_project on the server of ``into``."""
        check = options.pop("check", False)
        return run_module("pg_restore_project", self.restoring(into) | options, check=check, diff=check)

    def restore_beside(self, into: Database, **options: Any) -> Outcome:
        """Run pg_restore on the server of ``into``."""
        return run_module("pg_restore", self.restoring(into) | options)


@pytest.fixture(scope="module")
def backup(supabase: Shape, s3: S3) -> Iterator[Backup]:
    """The backup of a project, made by its owner."""
    with supabase.project(filled=True) as project:
        project.run(f"ALTER DATABASE {project.name} SET work_mem = '5MB'")
        # Of another owner: it would run with other rights.
        supabase.run_as_platform(
            project,
            "INSERT INTO cron.job (jobname, schedule, command, username) VALUES ('x', '* * * * *', '', 'app_reader')",
        )
        yield Backup(project, s3)


def wait_until(comes_true: Callable[[], bool]) -> None:
    """Wait for what must come, long enough for a machine under load."""
    end = time.monotonic() + 120
    while not comes_true():
        assert time.monotonic() < end
        time.sleep(0.1)


def own(plain: Cluster) -> Database:
    """The database that a restore on a server of one's own connects to."""
    return Database("127.0.0.1", plain.port, "postgres", plain.superuser)


def test_a_full_backup_by_the_owner_is_green(backup: Backup) -> None:
    """Who may read everything, but is no superuser."""
    assert not backup.made.failed, backup.made.result["msg"]
    assert backup.made.result["tables"] > 20


def test_the_proof_on_a_server_of_ones_own_agrees_and_leaves_nothing(backup: Backup, plain: Cluster) -> None:
    """Roles of the platform are made for it, without login, and are gone again afterwards."""
    there = own(plain)
    before = there.run("SELECT rolname FROM pg_roles ORDER BY 1")
    outcome = backup.restore_beside(there, scratch=True, record_proof=True)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"
    assert "extension pg_cron" in outcome.result["left_out"]
    assert there.run("SELECT rolname FROM pg_roles ORDER BY 1") == before
    assert there.run("SELECT datname FROM pg_database WHERE datname LIKE '%proof%'") == []


def acls(database: Database) -> dict[str, Any]:
    """Privileges of everything in public, of its columns, and those that new objects get."""
    return {
        "objects": database.run(
            "SELECT c.relname, a.grantee::regrole::text, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a"
            " WHERE c.relnamespace = 'public'::regnamespace AND a.grantee <> c.relowner"
            " UNION ALL SELECT p.proname, a.grantee::regrole::text, a.privilege_type FROM pg_proc p,"
            " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a"
            " WHERE p.pronamespace = 'public'::regnamespace AND a.grantee <> p.proowner"
            " UNION ALL SELECT c.relname || '.' || t.attname, a.grantee::regrole::text, a.privilege_type"
            " FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid, aclexplode(t.attacl) a"
            " UNION ALL SELECT nspname, a.grantee::regrole::text, a.privilege_type FROM pg_namespace,"
            " aclexplode(nspacl) a WHERE nspname = 'public' ORDER BY 1, 2, 3"
        ),
        "defaults": database.run(
            "SELECT defaclnamespace::regnamespace::text, defaclobjtype, a.grantee::regrole::text, a.privilege_type"
            " FROM pg_default_acl, aclexplode(defaclacl) a WHERE defaclrole = 'postgres'::regrole ORDER BY 1, 2, 3, 4"
        ),
    }


@pytest.fixture(scope="module")
def restored(elsewhere: Shape, backup: Backup) -> Iterator[tuple[Database, Outcome]]:
    """A fresh project that the backup was restored into."""
    with elsewhere.project(backup.project.name) as fresh:
        with elsewhere.supautils():
            outcome = backup.restore(replace(fresh, name="postgres"))
        yield fresh, outcome


PLATFORM_OBJECTS = """
    SELECT 'class', c.oid::regclass::text, c.relowner::regrole::text, c.relacl::text, c.relrowsecurity::text
    FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('auth', 'storage', 'realtime', 'vault', 'cron', 'net')
    UNION ALL SELECT 'function', p.oid::regprocedure::text, p.proowner::regrole::text, p.proacl::text, md5(p.prosrc)
    FROM pg_proc p WHERE p.proowner::regrole::text ~ '^supabase' AND p.pronamespace <> 'pg_catalog'::regnamespace
    UNION ALL SELECT 'schema', nspname, nspowner::regrole::text, nspacl::text, '' FROM pg_namespace
    WHERE nspname NOT IN ('public', 'supabase_migrations', 'runbook') AND nspname !~ '^pg_'
    UNION ALL SELECT 'event trigger', evtname, evtowner::regrole::text, evtenabled::text, '' FROM pg_event_trigger
    UNION ALL SELECT 'publication', pubname, pubowner::regrole::text, '', '' FROM pg_publication
    UNION ALL SELECT 'extension', extname, extowner::regrole::text, extversion, '' FROM pg_extension
    UNION ALL SELECT 'defaults', defaclnamespace::regnamespace::text, defaclrole::regrole::text, defaclacl::text, ''
    FROM pg_default_acl WHERE defaclrole::regrole::text ~ '^supabase'
    ORDER BY 1, 2, 3, 4
"""
ADDED = """
    SELECT c.oid::regclass::text, tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
    WHERE NOT tgisinternal
    UNION ALL SELECT polrelid::regclass::text, polname, polroles::regrole[]::text
    || coalesce(pg_get_expr(polqual, polrelid), '') FROM pg_policy
    UNION ALL SELECT prrelid::regclass::text, pubname, ''
    FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid
    ORDER BY 1, 2, 3
"""
ROWS = {
    "auth.users": "id", "auth.identities": "id", "auth.sessions": "id", "auth.refresh_tokens": "id",
    "auth.audit_log_entries": "id", "storage.buckets": "id", "storage.objects": "id", "public.profiles": "id",
    "public.notes": "id", "public.totals": "profile", "supabase_migrations.schema_migrations": "version",
}  # fmt: skip


def test_6_a_fresh_project_gets_its_rows_back(restored: tuple[Database, Outcome], backup: Backup) -> None:
    """By our own proof, and by PostgreSQL's own comparison; sequences go on where they were."""
    fresh, outcome = restored
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"
    for table, key in ROWS.items():
        rows = f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY {key})) FROM {table} t"
        assert fresh.run(rows) == backup.project.run(rows), table
    for sequence in ("public.case_number", "public.notes_id_seq", "auth.refresh_tokens_id_seq"):
        value = f"SELECT last_value, is_called FROM {sequence}"
        assert fresh.run(value) == backup.project.run(value), sequence


def test_7_the_platforms_own_is_as_it_was(restored: tuple[Database, Outcome], elsewhere: Shape) -> None:
    """Owners, privileges, event triggers, publications, extensions: as in a project that nothing was restored into."""
    with elsewhere.project() as untouched:
        assert restored[0].run(PLATFORM_OBJECTS) == untouched.run(PLATFORM_OBJECTS)


def test_8_what_was_added_to_the_platforms_tables_is_back(restored: tuple[Database, Outcome], backup: Backup) -> None:
    """A trigger on auth.users, policies on storage.objects and realtime.messages, tables of supabase_realtime."""
    fresh, outcome = restored
    webhook = ("auth.users", "call_out")
    assert fresh.run(ADDED) == [row for row in backup.project.run(ADDED) if row[:2] != webhook]
    said = "trigger call_out on auth.users, a webhook, which could not be switched off there"
    assert said in outcome.result["left_out"]


def test_8_a_policy_that_is_refused_is_named_and_the_rest_is_there(elsewhere: Shape, backup: Backup) -> None:
    with elsewhere.project(open_by_default=False) as fresh:
        outcome = backup.restore(replace(fresh, name="postgres"), target_database=fresh.name)
        assert not outcome.failed, outcome.result["msg"]
        (said,) = [each for each in outcome.result["left_out"] if "policy mine" in each]
        assert said == "policy mine on storage.objects (must be owner of table objects)"
        assert "Without policy" in outcome.result["msg"]
        assert fresh.one("SELECT count(*) FROM pg_trigger WHERE tgname = 'on_auth_user_created'") == 1
        # 15: in the era in which nothing is everybody's by default, that stays so.
        assert acls(fresh)["objects"] == acls(backup.project)["objects"]
        assert [row for row in acls(fresh)["defaults"] if row[2] in {"anon", "authenticated", "-"}] == []


def test_9_nothing_acts_by_itself_until_it_is_told_to(restored: tuple[Database, Outcome], backup: Backup) -> None:
    """Jobs came through the functions of pg_cron, paused; webhooks are off; no user of a foreign server."""
    fresh, outcome = restored
    jobs = "SELECT jobname, schedule, command, username FROM cron.job WHERE username = 'postgres' ORDER BY jobname"
    assert fresh.run(jobs) == backup.project.run(jobs)
    assert fresh.one("SELECT count(*) FROM cron.job WHERE active OR username <> 'postgres'") == 0
    assert "job 3 of pg_cron, which is of role app_reader" in outcome.result["left_out"]
    assert fresh.one("SELECT tgenabled FROM pg_trigger WHERE tgname = 'tell'") == "D"
    assert fresh.one("SELECT count(*) FROM pg_user_mapping") == 0
    assert fresh.one("SELECT count(*) FROM net.http_request_queue") == 0
    assert len(outcome.result["to_arm"]) == 2
    fresh.run(*outcome.result["to_arm"])
    assert fresh.run("SELECT jobname FROM cron.job WHERE active") == [("nightly",)]
    assert fresh.one("SELECT tgenabled FROM pg_trigger WHERE tgname = 'tell'") == "O"


def test_9_a_copy_on_a_server_of_ones_own_acts_on_nothing_either(backup: Backup, plain: Cluster) -> None:
    """No jobs, no users of foreign servers, webhooks off; roles of the platform cannot log in."""
    there = own(plain)
    before = {name for (name,) in there.run("SELECT rolname FROM pg_roles")}
    there.run("CREATE ROLE app_reader")
    try:
        outcome = backup.restore_beside(there, target_database="copy")
        assert not outcome.failed, outcome.result["msg"]
        copy = replace(there, name="copy")
        assert copy.one("SELECT to_regclass('cron.job') IS NULL AND to_regnamespace('net') IS NULL")
        webhooks = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgname IN ('tell', 'call_out') ORDER BY 1"
        assert copy.run(webhooks) == [("call_out", "D"), ("tell", "D")]
        assert (
            copy.one("SELECT count(*) FROM pg_user_mapping") == copy.one("SELECT count(*) FROM pg_event_trigger") == 0
        )
        assert copy.run("SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname !~ '^pg_'") == [(there.user,)]
        assert acls(copy)["objects"] == acls(backup.project)["objects"]
    finally:
        there.run("DROP DATABASE IF EXISTS copy WITH (FORCE)")
        made = {name for (name,) in there.run("SELECT rolname FROM pg_roles")} - before
        there.run(*(f'DROP ROLE "{name}"' for name in made))


def test_10_the_vault_is_never_called_recovered(restored: tuple[Database, Outcome]) -> None:
    fresh, outcome = restored
    assert fresh.one("SELECT count(*) FROM vault.secrets") == 0
    assert any("secret of the vault" in each for each in outcome.result["left_out"])
    assert "secret of the vault" in outcome.result["msg"]


def test_11_roles_of_ones_own_are_back_or_named(restored: tuple[Database, Outcome], backup: Backup) -> None:
    """Settings and memberships too; a password is in no backup, and nothing of one is told."""
    fresh, outcome = restored
    role = "SELECT rolcanlogin, rolconfig FROM pg_roles WHERE rolname = 'app_reader'"
    assert fresh.run(role) == backup.project.run(role)
    where = "SELECT setconfig FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase WHERE "
    for settings in (
        f"{where} setrole = 'authenticator'::regrole",
        f"{where} setrole = 0 AND datname = current_database()",
    ):
        assert fresh.run(settings) == backup.project.run(settings) != []
    members = "SELECT pg_has_role('app_reader', 'pg_monitor', 'MEMBER')"
    assert fresh.run(members) == backup.project.run(members)
    assert "role app_reader: its password" in outcome.result["left_out"]
    assert "canary" not in str(outcome.result)


def test_15_nobody_may_more_than_before(restored: tuple[Database, Outcome], backup: Backup) -> None:
    """Where everything new is everybody's by default: privileges of tables, columns, functions, and the defaults."""
    assert acls(restored[0]) == acls(backup.project)


def test_a_project_that_is_not_fresh_is_left_alone(
    restored: tuple[Database, Outcome], elsewhere: Shape, backup: Backup
) -> None:
    """And the one that has it all already says so."""
    fresh, _ = restored
    again = backup.restore(replace(fresh, name="postgres"))
    assert not again.failed, again.result["msg"]
    assert again.result["changed"] is False
    with elsewhere.project() as used:
        server = replace(used, name="postgres")
        used.run("CREATE TABLE public.mine (id int)")
        refused = backup.restore(server, target_database=used.name)
        assert refused.failed
        assert "it is not fresh: there are public.mine" in refused.result["msg"]
        used.run("DROP TABLE public.mine", "INSERT INTO storage.buckets (id, name) VALUES ('x', 'x')")
        assert "storage.buckets" in backup.restore(server, target_database=used.name).result["msg"]


def test_each_restore_refuses_what_is_the_others(backup: Backup, elsewhere: Shape, plain: Cluster) -> None:
    """By the server and by the backup, with the name of the other module; a superuser's is the one beside."""
    with elsewhere.project() as fresh:
        project = replace(fresh, name="postgres")
        refused = backup.restore_beside(project)
        assert "this server is a managed project" in refused.result["msg"]
        assert "pg_restore_project restores it" in refused.result["msg"]
        for check in (True, False):
            rehearsal = backup.restore(project, target_database=fresh.name, scratch=True, check=check)
            assert rehearsal.result["msg"].startswith("scratch: a project's own database is filled and stays")
            assert rehearsal.result["changed"] is False
        platform = backup.restore(replace(project, user="supabase_admin"))
        own_server = backup.restore(own(plain))
        for each in (platform, own_server):
            assert "pg_restore restores into a new database there" in each.result["msg"]
        assert not any(each.result["changed"] for each in (refused, platform, own_server))


def test_a_restore_that_fails_leaves_the_project_as_it_was(elsewhere: Shape, backup: Backup) -> None:
    """All or nothing: there is no database to drop and recreate."""
    with elsewhere.project() as fresh:
        server = replace(fresh, name="postgres")
        before = fresh.run(PLATFORM_OBJECTS)
        elsewhere.run_as_platform(fresh, "ALTER TABLE storage.objects DROP COLUMN version")
        outcome = backup.restore(server, target_database=fresh.name)
        assert outcome.failed
        assert 'column "version" of relation "objects" does not exist' in outcome.result["msg"]
        assert outcome.result["msg"].endswith("is as it was before.")
        assert fresh.run(PLATFORM_OBJECTS) == before
        assert fresh.one("SELECT count(*) FROM auth.users") == 0
        assert fresh.one("SELECT to_regclass('public.notes') IS NULL")
        # Check mode plans, and changes nothing.
        planned = backup.restore(server, target_database=fresh.name, check=True)
        assert planned.result["changed"] is True
        assert fresh.run(PLATFORM_OBJECTS) == before


#: With each definition that is made, the platform writes down how its transaction will commit.
TELL_HOW_IT_COMMITS = (
    "CREATE TABLE auth.seen (commits text)",
    """CREATE FUNCTION auth.see() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
       $$ BEGIN INSERT INTO auth.seen VALUES (current_setting('synchronous_commit')); END $$""",
    "CREATE EVENT TRIGGER see ON ddl_command_end EXECUTE FUNCTION auth.see()",
)


def test_a_kill_in_the_middle_leaves_the_project_as_it_was(elsewhere: Shape, backup: Backup) -> None:
    """A kill -9 while rows are loaded; the next run starts over. Its commit waits for the disk."""
    with elsewhere.project() as fresh:
        server = replace(fresh, name="postgres")
        elsewhere.run_as_platform(fresh, *TELL_HOW_IT_COMMITS)
        options = backup.restoring(server) | {"target_database": fresh.name}
        before = fresh.run(PLATFORM_OBJECTS)
        blocker = replace(fresh, user="supabase_admin").connect()
        blocker.autocommit = False
        blocker.cursor().execute("LOCK TABLE storage.objects IN SHARE MODE")
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runbook restoring'"
            " AND wait_event_type = 'Lock'"
        )
        process = module_process("pg_restore_project", options)
        wait_until(lambda: server.one(waiting) == 1)
        process.kill()
        process.communicate()
        blocker.close()
        wait_until(lambda: server.one(waiting.partition(" AND wait_event_type")[0]) == 0)
        assert fresh.run(PLATFORM_OBJECTS) == before
        assert fresh.one("SELECT to_regclass('public.notes') IS NULL")
        assert fresh.one("SELECT count(*) FROM auth.users") == 0
        again = backup.restore(server, target_database=fresh.name)
        assert not again.failed, again.result["msg"]
        as_platform = replace(fresh, user="supabase_admin")
        assert as_platform.run("SELECT DISTINCT commits FROM auth.seen") == [("on",)]


def test_3_who_lacks_bypassrls_is_told_so(supabase: Shape, backup: Backup) -> None:
    """A backup that row-level security hides rows from is none."""
    supabase.platform.run("CREATE ROLE dumper LOGIN", "GRANT pg_read_all_data TO dumper")
    supabase.run_as_platform(
        backup.project,
        "CREATE SCHEMA IF NOT EXISTS runbook AUTHORIZATION postgres",
        "GRANT USAGE, CREATE ON SCHEMA runbook TO dumper",
        "GRANT ALL ON ALL TABLES IN SCHEMA runbook TO dumper",
    )
    try:
        outcome = run_module("pg_backup", replace(backup.project, user="dumper").login | backup.options)
        assert outcome.failed
        assert "BYPASSRLS" in outcome.result["msg"]
    finally:
        supabase.run_as_platform(backup.project, "DROP OWNED BY dumper", "DROP ROLE dumper")


def test_4_the_roles_of_least_privilege_are_made_by_the_owner(supabase: Shape, s3: S3) -> None:
    """They join none of the platform's roles. From 16 on the owner may let a user of theirs back everything up."""
    users = [{"name": "p_dumper", "role": "backup"}, {"name": "p_keeper", "role": "maintain"}]
    over = {"table": "public.visits", "column": "left_at", "older_than_days": 30}
    with supabase.project(filled=True) as project:
        project.run(
            # A page's visitors, whose times have no zone; every table is told to the platform's realtime service.
            "CREATE TABLE public.visits (id bigint PRIMARY KEY, left_at timestamp, profile uuid REFERENCES profiles)",
            "INSERT INTO visits SELECT n, timezone('UTC', now()) - n * interval '1 day' FROM generate_series(1, 40) n",
            "ALTER TABLE visits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "CREATE POLICY own ON visits USING (profile = auth.uid())",
            "ALTER PUBLICATION supabase_realtime ADD TABLE visits",
            f"ALTER ROLE postgres IN DATABASE {project.name} SET TimeZone = 'Pacific/Kiritimati'",
        )
        try:
            made = run_module(
                "pg_roles", project.login | {"environment": "sandbox", "users": users, "cleanup_rules": [over]}
            )
            assert not made.failed, made.result["msg"]
            # 12: by whoever it is, no row of the platform goes; the application's go, all that are over.
            for login in (project.login, replace(project, user="p_keeper").login):
                for theirs in ({"table": "auth.sessions", "column": "created_at"},
                               {"table": "storage.objects", "column": "created_at"}):  # fmt: skip
                    refused = run_module("pg_cleanup", login | {"rules": [over, over | theirs]})
                    assert "whose rows are not ours to delete" in refused.result["msg"]
            planned = run_module("pg_cleanup", project.login | {"rules": [over]}, check=True)
            cleaned = run_module("pg_cleanup", replace(project, user="p_keeper").login | {"rules": [over]})
            assert (planned.result["planned_rows"], cleaned.result["deleted_rows"]) == (11, 11), cleaned.result["msg"]
            assert "hashes of passwords in auth.users and pg_authid" in str(made.result["warnings"])
            joined = project.run(
                "SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
                " JOIN pg_roles u ON u.oid = m.member WHERE u.rolname ~ '^(runbook|p)_' AND r.rolname ~ '^supabase'"
            )
            assert joined == []
            # Nothing is swapped there, so nobody has to carry over what only a superuser sets: the mark, as a setting.
            replace(project, user=managed.SUPERUSER).mark("sandbox")
            target = postgres.Target(project.host, project.port, project.name, project.user, None)
            with postgres.Session(target, lock_timeout_ms=1_000, statement_timeout_ms=30_000) as session:
                swaps = not managed.is_platform(backup_driver.read_roles(session))
                for user in ("admin", "restore"):
                    lacks, _ = doctor.lacking(session, user, archives=None, cleaned=[], beats=False, swaps=swaps)
                    assert not any("ON PARAMETER" in each for each in lacks), lacks
            vacuumed = run_module("pg_vacuum", replace(project, user="p_keeper").login)
            assert not vacuumed.failed, vacuumed.result["msg"]
            options = s3.options(s3.bucket()) | {"environment": "sandbox"}
            dumped = run_module("pg_backup", replace(project, user="p_dumper").login | options)
            assert dumped.failed == (supabase.major < 16)
            assert not dumped.failed or "BYPASSRLS" in dumped.result["msg"]
        finally:
            names = "p_dumper, p_keeper, runbook_read, runbook_maintain, runbook_backup, runbook_restore"
            supabase.run_as_platform(project, f"DROP OWNED BY {names}", f"DROP ROLE {names}")


def test_5_a_backup_outlives_the_end_of_a_partition(supabase: Shape, backup: Backup) -> None:
    """The platform drops partitions of realtime.messages whenever it likes: before, or after they were dumped."""
    with supabase.project(filled=True) as project:
        janitor = replace(project, user="supabase_admin")
        process = module_process("pg_backup", project.login | backup.options)
        rounds = 0
        while process.poll() is None or rounds == 0:
            rounds += 1
            with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                janitor.run(
                    "SET lock_timeout = '50ms'",
                    "CREATE TABLE IF NOT EXISTS realtime.messages_2020_01_01 PARTITION OF realtime.messages"
                    " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')",
                )
            with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                janitor.run("SET lock_timeout = '50ms'", "DROP TABLE IF EXISTS realtime.messages_2020_01_01")
            # It looks for its tables again where one is gone, though not for ever.
            time.sleep(0.3)
        out, err = process.communicate()
        result = json.loads([line for line in out.splitlines() if line.startswith("{")][-1])
        assert not result.get("failed"), result["msg"] + err


def test_12_nothing_of_ours_deletes_rows_of_the_platform(backup: Backup) -> None:
    """The trigger of storage refuses it, and no code of the project says that it may."""
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        backup.project.run("DELETE FROM storage.objects WHERE false")
    folders = ("library", "module_utils", "roles", "playbooks")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    # The shape's own description is the platform's part.
    texts = [
        path.read_text() for path in sources if path.suffix in {".py", ".yml", ".j2"} and path.name != "demo_project.py"
    ]
    assert len(texts) > 100
    assert not any("allow_delete_query" in text for text in texts)
    assert not any(re.search(r"(DELETE FROM|TRUNCATE)\s+(storage|auth|realtime)\.", text) for text in texts)


def test_1_a_user_may_be_called_as_the_pooler_calls_it(supabase: Shape, backup: Backup) -> None:
    """Role and project, with a dot between them; test_pooler.py has the refusal of transaction mode."""
    user = "postgres.abcdefghijklmnopqrst"
    supabase.platform.run(
        f'CREATE ROLE "{user}" LOGIN BYPASSRLS IN ROLE postgres, pg_read_all_data',
        f'ALTER ROLE "{user}" SET role = postgres',
    )
    try:
        outcome = run_module("pg_backup", replace(backup.project, user=user).login | backup.options)
        assert not outcome.failed, outcome.result["msg"]
    finally:
        replace(backup.project, user="supabase_admin").run(f'DROP OWNED BY "{user}"')
        supabase.platform.run(f'DROP ROLE "{user}"')


def test_2_timeouts_of_a_role_do_not_end_our_work(supabase: Shape, backup: Backup) -> None:
    """They are set by SET once the session stands, since poolers drop what a client asks for at the start."""
    params = {name: spec.get("default") for name, spec in postgres.argument_spec().items()} | backup.project.login
    supabase.platform.run("ALTER ROLE postgres SET statement_timeout = '2min'")
    try:
        with postgres.Session(
            postgres.Target.from_params(params), lock_timeout_ms=5000, statement_timeout_ms=0, purpose="test"
        ) as session:
            assert session.query("SHOW statement_timeout") == [{"statement_timeout": "0"}]
            assert session.query("SHOW lock_timeout") == [{"lock_timeout": "5s"}]
    finally:
        supabase.platform.run("ALTER ROLE postgres RESET statement_timeout")
    assert driver.before()[0] == "SET statement_timeout = 0;"


def test_13_maintenance_does_what_this_version_lets_the_owner_do(supabase: Shape) -> None:
    """Vacuum everywhere, and indexes of the platform's tables where the owner was given MAINTAIN, from 17 on."""
    with supabase.project(filled=True) as project:
        supabase.run_as_platform(
            project,
            "INSERT INTO auth.audit_log_entries (id, payload)"
            " SELECT gen_random_uuid(), '{}' FROM generate_series(1, 9000)",
            "DELETE FROM auth.audit_log_entries",
        )
        # Dead rows in catalogs of the whole server, which the platform alone can vacuum, and autovacuum does.
        supabase.platform.run(
            "DO $$ BEGIN FOR n IN 1..300 LOOP CREATE ROLE passing; GRANT ALL ON SCHEMA public TO passing;"
            " DROP OWNED BY passing; DROP ROLE passing; END LOOP; END $$"
        )
        dead = "SELECT n_dead_tup FROM pg_stat_all_tables WHERE relname = 'pg_authid'"
        wait_until(lambda: supabase.platform.one(dead) > 99)
        needed = run_module("pg_vacuum", project.login)
        assert not needed.failed, needed.result["msg"]
        assert not needed.result.get("warnings")
        assert "pg_authid" not in str(needed.result)
        vacuumed = run_module("pg_vacuum", project.login | {"mode": "all"})
        assert not vacuumed.failed, vacuumed.result["msg"]
        states = {each["table"]: each["state"] for each in vacuumed.result["tables"]}
        assert states["auth.audit_log_entries"] == states["storage.migrations"] == "done"
        rebuilt = run_module("pg_reindex", project.login | {"mode": "all"})
        assert not rebuilt.failed, rebuilt.result["msg"]
        assert not rebuilt.result.get("warnings")
        states = {each["index"]: each["state"] for each in rebuilt.result["indexes"]}
        assert states["public.notes_pkey"] == "done"
        assert states["auth.users_pkey"] == ("done" if supabase.major >= 17 else "not_permitted")
        assert states["vault.secrets_pkey"] == "not_permitted"
        (theirs,) = [each for each in rebuilt.result["indexes"] if each["index"] == "vault.secrets_pkey"]
        assert theirs["error"] == "owned by supabase_admin"


def test_14_pg_repack_that_is_too_old_is_not_run(supabase: Shape) -> None:
    """It works for superusers only; nothing of it is left behind."""
    with supabase.project(filled=True) as project:
        if not project.run("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_repack'"):
            pytest.skip("pg_repack is not installed for this server")
        supabase.run_as_platform(project, "CREATE EXTENSION pg_repack", "GRANT ALL ON SCHEMA repack TO postgres")
        project.run(
            "ALTER TABLE public.notes DISABLE TRIGGER tell",
            "INSERT INTO public.notes (body) SELECT repeat('x', 500) FROM generate_series(1, 20000)",
            "DELETE FROM public.notes WHERE id % 10 <> 0",
            "VACUUM ANALYZE public.notes",
        )
        outcome = run_module("pg_compact", project.login)
        (notes,) = [each for each in outcome.result["tables"] if each["table"] == "public.notes"]
        assert notes["state"] == "needs_outage"
        assert "pg_repack 1.4.8" in notes["error"]
        assert "superuser" in notes["error"]
        left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'repack'::regnamespace AND relkind = 'r'"
        assert project.one(left) == 0
        assert project.one("SELECT count(*) FROM pg_replication_slots") == 0


#: Stands for the program: it writes down how it was called, and rewrites the table in its own way.
PROGRAM = """#!/bin/sh
test "$1" = --version && echo "pg_repack 1.5.2" && exit
echo "$@" >> {log}
for word in "$@"; do case "$word" in --table=*) exec {psql} -qc "VACUUM FULL ${{word#--table=}}"; esac; done
exit 1
"""
#: Stands for the extension.
EXTENSION = """
CREATE SCHEMA repack;
CREATE FUNCTION repack.version() RETURNS text LANGUAGE sql AS $$ SELECT 'pg_repack 1.5.2' $$;
CREATE FUNCTION repack.version_sql() RETURNS text LANGUAGE sql AS $$ SELECT 'pg_repack 1.5.2' $$;
GRANT ALL ON SCHEMA repack TO postgres;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
  SELECT pg_nextoid('pg_extension', 'oid', 'pg_extension_oid_index'), 'pg_repack', current_user::regrole, oid, false,
    '1.5.2' FROM pg_namespace WHERE nspname = 'repack';
"""


def test_14_the_owner_compacts_tables_of_their_own(supabase: Shape, tmp_path: Path) -> None:
    """By a pg_repack that needs no superuser, and is told so; the platform's tables are left, without a warning."""
    log, program = tmp_path / "log", tmp_path / "pg_repack"
    program.write_text(PROGRAM.format(log=log, psql=find_bindir() / "psql"))
    program.chmod(0o755)
    with supabase.project(filled=True) as project:
        supabase.run_as_platform(
            project,
            "SET allow_system_table_mods = on",
            EXTENSION,
            "INSERT INTO auth.audit_log_entries (id, payload)"
            " SELECT gen_random_uuid(), json_build_object('x', repeat('x', 500)) FROM generate_series(1, 9000)",
            "DELETE FROM auth.audit_log_entries",
            "VACUUM ANALYZE auth.audit_log_entries",
        )
        project.run(
            "ALTER TABLE public.notes DISABLE TRIGGER tell",
            "INSERT INTO public.notes (body) SELECT repeat('x', 500) FROM generate_series(1, 20000)",
            "DELETE FROM public.notes WHERE id % 10 <> 0",
            "VACUUM ANALYZE public.notes",
        )
        outcome = run_module(
            "pg_compact", project.login | {"min_size_bytes": 65_536}, PATH=f"{tmp_path}:{os.environ['PATH']}"
        )
        assert not outcome.failed, outcome.result["msg"]
        states = {each["table"]: each["state"] for each in outcome.result["tables"]}
        assert states["public.notes"] == "done"
        assert states.get("auth.audit_log_entries") != "done"
        assert not outcome.result.get("warnings")
        (called,) = log.read_text().splitlines()
        assert "--no-superuser-check" in called
        assert "auth." not in called


def test_15_files_are_matched_by_key_size_and_etag(backup: Backup, restored: tuple[Database, Outcome], s3: S3) -> None:
    """Their bytes are in no backup. After a restore the mirror's copies are those that the restored rows speak of."""
    files, copies, back = s3.bucket(), s3.bucket(), s3.bucket()
    for number in range(1, 80):
        # The second one has another ETag, the 80th is not there.
        body = b"x" * number if number != 2 else b"yy"
        s3.client().put_object(Bucket=files, Key=f"folder/{number}.pdf", Body=body)

    def mirror(source: str, to: str, database: Database) -> dict[str, Any]:
        names = {f"source_{name}": value for name, value in s3.options(source).items()}
        wanted = {"environment": "sandbox", "storage_bucket_id": "files", "show_keys": True}
        return run_module("s3_mirror", names | s3.options(to) | database.login | wanted).result

    found = mirror(files, copies, backup.project)
    assert {(each["kind"], each["name"]) for each in found["named"]} == {
        ("differing", "folder/2.pdf"), ("missing", "folder/80.pdf")
    }  # fmt: skip
    for number in (2, 80):
        s3.client().put_object(Bucket=files, Key=f"folder/{number}.pdf", Body=b"x" * number)
    counts = ("status", "rows", "missing_rows", "orphan_objects", "differing_rows")
    for result in (mirror(files, copies, backup.project), mirror(copies, back, restored[0])):
        assert [result[name] for name in counts] == ["ok", 80, 0, 0, 0], result["msg"]


#: Warnings that somebody can follow: on 15 the members of a role that vacuums, and bloat that waits for pg_repack.
# A green run repeats its warnings at the end, with the host.
ADVICE = re.compile(
    r"(db: )?(PostgreSQL 15 lets only owners vacuum|Not compacted: .*the extension pg_repack is not installed)"
)


@pytest.mark.parametrize(
    "supabase", [*(pytest.param(each, marks=pytest.mark.long) for each in MAJORS[:-1]), MAJORS[-1]], indirect=True
)
def test_every_playbook_in_a_row_as_the_owner(
    supabase: Shape, elsewhere: Shape, plain: Cluster, s3: S3, tmp_path: Path
) -> None:
    """In the one database that a project has, proven on a server of one's own, restored into another fresh project.

    The playbooks run in one process, as one that imports them all would have them.
    """
    connection = supabase.first.connect()
    fill(connection, [*demo_project.steps(scale=0.1, seed=1), *demo_database.traffic()])
    connection.close()
    proof = own(plain)
    options = {
        "backup_bucket": s3.protected_bucket(), "backup_region": s3.region, "backup_endpoint_url": s3.endpoint_url,
        "backup_prefix": "first", "backup_verify_proof": True, "backup_proof_login_host": proof.host,
        "backup_proof_login_port": proof.port, "backup_proof_login_user": proof.user, "backup_proof_ssl_mode": "prefer",
        "backup_proof_system_identifier": proof.one("SELECT system_identifier::text FROM pg_control_system()"),
        "db_roles_admin_user": managed.OWNER, "db_login_user": managed.OWNER,
        # For restores; a proof has a name of its own.
        "db_restore_target_database": supabase.first.name,
        "daily_cleanup_rules": [{"table": "public.invitations", "column": "expires_at", "older_than_days": 7}],
    }  # fmt: skip
    environ = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    here = Project.for_database(tmp_path, supabase.platform, **options, **SMALL)
    there = Project.for_database(tmp_path, elsewhere.platform, **options, **SMALL)
    # Nobody can set a parameter of a project's database: db_roles.yml marks its schema runbook.
    supabase.platform.run("ALTER DATABASE postgres RESET runbook.environment")
    for each in (here, there):
        del each.hosts["db"]["db_login_user"]
    rest = ("daily_cleanup", "weekly_db", "monthly_db", "backup", "backup_verify", "performance", "doctor")
    ended = here.run("db_roles.yml", *(str(ROOT / "playbooks" / f"{name}.yml") for name in rest), environ=environ)
    assert ended.code == 0, ended.output
    restored = there.run(
        "restore.yml", environ=environ, db_restore_from_cluster=here.hosts["db"]["preflight_system_identifier"]
    )
    assert restored.code == 0, restored.output
    said = ended.output + restored.output
    assert "should have foreseen" not in said
    warnings = re.findall(r"\[WARNING\]: (.*)", said)
    assert [each for each in warnings if not ADVICE.match(each)] == []
    assert "as a superuser" not in said
    assert ended.results["pg_archive"][0]["moved_rows"] > 2000
    assert ended.results["pg_cleanup"][0]["deleted_rows"] > 0
    assert ended.results["pg_copy_cleanup"][0]["copies"] == []
    findings = [*ended.last("pg_index_info")["findings"], *ended.last("pg_query_info")["findings"]]
    assert {"missing_foreign_key_index:public.conversations.template_id"} <= {each["id"] for each in findings}
    assert not [each["id"] for each in findings if each["id"].partition(":")[2].partition(".")[0] in managed.SCHEMAS]
    assert restored.last("pg_restore_project")["proof"]["status"] == "ok"
    looked = {each["name"]: each["msg"] for each in ended.last("runbook_doctor")["checks"]}
    # Not even its owner can rename the one database: nobody but the platform ends the sessions of its services.
    assert "restore_swap.yml" not in looked["rights restore"]
    assert "restore into a fresh project" in looked["restore_swap"]
    people = "SELECT count(*) FROM auth.users"
    assert elsewhere.first.one(people) == supabase.first.one(people) > 0
