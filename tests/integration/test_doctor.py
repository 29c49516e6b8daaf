"""playbooks/doctor.yml with users of least privilege: green where all is well, and all faults at once where not."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.postgres import doctor, postgres
from ansible.module_utils.runbook.rules.postgres.roles import HAS_PARAMETERS
from conftest import S3, Database, free_port, job, run_module
from fakes.vercel import OPTIONS, FakeVercel
from git_remotes import Remote

from playbooks import Ended, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "c4n4ry-s3cr3t"
GROUPS = ["runbook_read", "runbook_maintain", "runbook_backup", "runbook_restore"]
OVER = [{"table": "public.messages", "column": "deleted_at", "older_than_days": 30}]
USERS = {"doctor_m": "maintain", "doctor_b": "backup", "doctor_x": "restore"}
TABLES = (
    "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL)",
    "CREATE TABLE public.audit_log_archive (LIKE public.audit_log INCLUDING INDEXES, archived_at timestamptz)",
    "CREATE TABLE public.messages (id bigint PRIMARY KEY, content text, deleted_at timestamptz)",
    "ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY",
    "CREATE EXTENSION pg_stat_statements",
    # A superuser's tables could be vacuumed by nobody else before PostgreSQL 17.
    "CREATE ROLE doctor_app NOLOGIN",
    "ALTER TABLE public.audit_log OWNER TO doctor_app",
    "ALTER TABLE public.audit_log_archive OWNER TO doctor_app",
    "ALTER TABLE public.messages OWNER TO doctor_app",
    "ALTER TABLE public.messages FORCE ROW LEVEL SECURITY",
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO doctor_app', current_database()); END $$",
)


@pytest.fixture
def inventory(tmp_path: Path, sound_database: Database, s3: S3) -> Iterator[Project]:
    """An inventory in which everything is as it should be."""
    database = sound_database
    database.run(*TABLES)
    made = run_module(
        "pg_roles",
        database.login
        | {
            "environment": "sandbox",
            "archives": [{"source": "public.audit_log", "archive": "public.audit_log_archive"}],
            "cleanup_rules": OVER,
            "users": [{"name": name, "role": role, "password": CANARY} for name, role in USERS.items()],
        },
    )
    assert not made.failed, made.result
    bucket = s3.options(s3.bucket())
    project = Project.for_database(
        tmp_path,
        database,
        db_login_password=CANARY,
        db_backup_login_user="doctor_b",
        db_backup_login_password=CANARY,
        db_restore_login_user="doctor_x",
        db_restore_login_password=CANARY,
        db_roles_admin_user=database.user,
        db_roles_admin_password=CANARY,
        schedule_jobs={
            "night": job("backup.yml"),
            "week": job("weekly_db.yml"),
            "beat": job("heartbeat.yml"),
            "cleanup": job("daily_cleanup.yml"),
        },
        daily_cleanup_rules=OVER,
        **{f"backup_{key}": value for key, value in bucket.items()},
        backup_bucket_tls_only=False,
        backup_bucket_block_public_access=False,
        backup_bucket_encryption="none",
        backup_bucket_abort_multipart_days=0,
    )
    project.hosts["db"]["db_login_user"] = "doctor_m"
    # As a test writes them; a person would have them encrypted.
    for name in [name for name in project.all_vars if "password" in name or "_key" in name]:
        project.all_vars[f"vault_{name}"] = ["", project.all_vars[name]]
        project.all_vars[name] = f"{{{{ vault_{name}[1] }}}}"
    yield project
    database.run(f"ALTER DATABASE {database.name} OWNER TO {database.user}")
    for role in [*USERS, *GROUPS, "doctor_app"]:
        database.run(f"DROP OWNED BY {role} CASCADE")
    for role in [*USERS, *GROUPS, "doctor_app"]:
        database.run(f"DROP ROLE {role}")


def lines(ended: Ended) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in ended.last("runbook_doctor")["checks"]}


def test_where_all_is_well_it_is_green_and_writes_nothing(inventory: Project, sound_database: Database):
    looked = "SELECT xact_commit >= 0, tup_inserted + tup_updated + tup_deleted FROM pg_stat_database"
    before = sound_database.run("SELECT count(*) FROM runbook.lease", f"{looked} WHERE datname = current_database()")
    ended = inventory.run("doctor.yml")
    found = lines(ended)
    bad = {name: check["msg"] for name, check in found.items() if check["status"] != "ok"}
    if sound_database.one("SELECT current_setting('server_version_num')::int") < HAS_PARAMETERS:
        assert "Before PostgreSQL 15 only a superuser sets a parameter" in bad.pop("rights restore")
    assert bad == {}
    assert (ended.code == 0) is (found["rights restore"]["status"] == "ok")
    expected = {
        "rights maintain",
        "rights backup",
        "rights restore",
        "rights review",
        "rights admin",
        "database identity",
        "bucket",
    }
    assert expected <= found.keys()
    assert sound_database.run(f"{looked} WHERE datname = current_database()") == before
    assert CANARY not in ended.output
    shown = ended.output[ended.output.index("PLAY RECAP") :]
    assert all(f"  {name} " in shown for name in found)
    assert max(len(line) for line in shown.splitlines() if line.startswith("  ")) < 80


def test_one_fault_hides_no_other(inventory: Project, sound_database: Database):
    sound_database.run(
        "REVOKE pg_read_all_data FROM runbook_backup",
        "ALTER ROLE doctor_b NOBYPASSRLS",
        "ALTER ROLE doctor_x NOBYPASSRLS NOCREATEDB",
        "REVOKE doctor_app FROM runbook_restore",
        "DROP EXTENSION pg_stat_statements",
        "DROP EXTENSION pgstattuple",
        "REVOKE pg_maintain FROM runbook_maintain"
        if sound_database.one("SELECT current_setting('server_version_num')::int >= 170000")
        else "REVOKE doctor_app FROM runbook_maintain",
        "REVOKE DELETE ON public.audit_log FROM runbook_maintain",
        "REVOKE SELECT (deleted_at) ON public.messages FROM runbook_maintain",
        "DROP POLICY runbook_maintain ON public.messages",
        "DROP TABLE public.audit_log_archive, runbook.heartbeat",
        f"ALTER DATABASE {sound_database.name} RESET runbook.environment",
    )
    folder = inventory.folder / "group_vars"
    folder.mkdir()
    (folder / "databses.yml").write_text("db_backup_jobs: 3\n")
    secret = subprocess.run(
        ["ansible-vault", "encrypt_string", "--name", "vault_of_mine", "--vault-password-file", "/dev/stdin", CANARY],
        input="example-only",
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    ).stdout
    (folder / "all.yml").write_text(secret)
    inventory.all_vars |= {
        "backup_prefx": "elsewhere",
        "supabase_access_token": "{{ vault_of_mine }}",
        "pitr_bindir": "{{ nobody_said_this }}",
        "db_restore_bindir": "<folder>",
        "change_error_logs_loki_query": 'sum(count_over_time({app="a"} | pattern "<method> <_>" [$__range]))',
        "backup_replica_bucket": "nowhere",
        "backup_replica_access_key": "{{ backup_access_key }}",
        "backup_replica_secret_key": "{{ backup_secret_key }}",
        "backup_replica_endpoint_url": f"http://127.0.0.1:{free_port()}",
        "backup_proof_login_host": "127.0.0.1",
        "backup_proof_login_port": free_port(),
        "backup_proof_login_user": "nobody",
        "backup_bucket_object_lock": "COMPLIANCE",
        "preflight_system_identifier": "",
        "schedule_jobs": inventory.all_vars["schedule_jobs"] | {"typo": job("weekly.yml")},
        "db_ssl_mode": "verify-full",
        "db_ca_cert": "/nowhere/ca.pem",
    }
    inventory.all_vars["db_roles_admin_password"] = CANARY
    inventory.all_vars["change_needs"] |= {"weekly_db.yml": ["work"]}
    hook = {"name": "[Contact]", "backend": "webhook", "webhook_url": f"https://pager.clinic.eu/{CANARY}"}
    inventory.all_vars["emergency_contacts"] = {"devops_sre": hook | {"webhook_tokn": CANARY}, "security_team": hook}
    del inventory.hosts["db"]["preflight_system_identifier"]
    ended = inventory.run("doctor.yml")
    found = lines(ended)
    assert ended.code != 0
    expected = {
        "variables": "'backup_prefx' (did you mean backup_prefix?)",
        "jobs": "typo: playbook: there is no weekly.yml",
        "settings": "pitr_bindir",
        "examples": "db_restore_bindir",
        "files": "group_vars/databses.yml",
        "contacts": "security_team: name: '[Contact]' is a placeholder",
        "change": "state_bucket, state_directory: neither is set",
        "vault": "do not open vault_of_mine",
        "database ca_cert": "/nowhere/ca.pem cannot be read",
        "replica": "no server answers there",
        "proof": "no server answers there",
        "bucket object_lock": "",
    }
    for name, says in expected.items():
        status = "unknown" if says == "no server answers there" else "breach"
        assert found[name]["status"] == status, (name, found.get(name))
        assert says in found[name]["msg"]
    assert "loki" not in found["examples"]["msg"]
    assert "db_roles_admin_password" in found["vault"]["msg"]
    assert "Everybody knows the password of vault_of_mine" in found["vault"]["msg"]
    assert "webhook_tokn is no option of a contact; did you mean webhook_token?" in found["contacts"]["msg"]
    assert CANARY not in ended.output

    # What a server without TLS hides behind it.
    inventory.all_vars |= {"db_ssl_mode": "disable", "backup_proof_ssl_mode": "disable"}
    inventory.all_vars |= {"backup_proof_login_port": sound_database.port, "backup_proof_login_user": "doctor_x"}
    sound_database.run("ALTER DATABASE postgres RESET runbook.environment")
    try:
        ended = inventory.run("doctor.yml")
    finally:
        dataclasses.replace(sound_database, name="postgres").mark("sandbox")
    found = lines(ended)
    assert "pin it: preflight_system_identifier: '" in found["database identity"]["msg"]
    lacking = {
        "database mark": "carries no mark of its environment",
        "proof mark": "database 'postgres' carries no mark of its environment",
        "rights backup": "SELECT on public.audit_log, public.messages",
        "rights restore": "CREATEDB; BYPASSRLS for 1 table; membership in doctor_app",
        "rights review": "pgstattuple, so that the bloat of public.messages",
        "proof roles": "doctor_x cannot give objects to doctor_app",
        "rights maintain": "DELETE on public.audit_log; the archive public.audit_log_archive, which the owner of"
        " public.audit_log has to make; SELECT (deleted_at), a policy that opens every row on public.messages;"
        " the table runbook.heartbeat",
    }
    assert "CREATE EXTENSION pgstattuple SCHEMA runbook;" in found["rights review"]["msg"]
    for name, says in lacking.items():
        assert found[name]["status"] == "breach", found[name]
        assert says in found[name]["msg"]


@pytest.mark.usefixtures("inventory")
def test_only_what_helps_is_recommended(sound_database: Database):
    """What db_roles.yml cannot give, running it does not mend."""
    if sound_database.one("SELECT current_setting('server_version_num')::int") < HAS_PARAMETERS:
        pytest.skip("before PostgreSQL 15 who restores cannot set the mark either")

    def lacking() -> tuple[list[str], str]:
        target = postgres.Target(
            sound_database.host, sound_database.port, sound_database.name, "doctor_x", None, "disable"
        )
        with postgres.Session(target, lock_timeout_ms=1_000, statement_timeout_ms=10_000) as session:
            return doctor.lacking(session, "restore", archives=None, cleaned=[], beats=False, swaps=True)

    assert lacking() == ([], "")
    name = sound_database.name
    sound_database.run(f"ALTER ROLE doctor_m IN DATABASE {name} SET work_mem = '8MB'")
    lacks, fix = lacking()
    assert lacks == ["the right to carry over what ALTER ROLE … IN DATABASE set here for doctor_m"]
    assert fix == "db_roles.yml does not give that right: for a swap name a superuser in db_restore_login_user."
    sound_database.run(f"ALTER DATABASE {name} SET log_min_duration_statement = '1s'")
    lacks, fix = lacking()
    assert lacks[0] == "SET ON PARAMETER log_min_duration_statement"
    assert fix.startswith("As a superuser GRANT SET ON PARAMETER log_min_duration_statement TO runbook_restore.")
    assert "playbooks/db_roles.yml" not in fix
    sound_database.run("REVOKE runbook_restore FROM doctor_x")
    assert lacking()[1].startswith("Run playbooks/db_roles.yml, and name a member of runbook_restore")


def test_another_cluster_is_asked_nothing(inventory: Project):
    inventory.hosts["db"]["preflight_system_identifier"] = "42"
    found = lines(inventory.run("doctor.yml", "--check"))
    assert "the inventory means cluster 42" in found["database identity"]["msg"]
    for user in ("maintain", "backup", "restore", "review", "admin"):
        assert found[f"rights {user}"]["status"] == "unknown"
    assert found["bucket"]["status"] == "ok"


def test_an_application_is_looked_at_and_nothing_is_written(tmp_path: Path):
    remote = Remote.new(tmp_path / "git", {"package.json": "{}\n"})
    with FakeVercel() as api:
        project = Project.for_application(
            tmp_path, state_directory=str(tmp_path / "state"), app_repository=str(remote.path), app_branch="main",
            app_repository_root=remote.root, vercel_api_url=api.url, change_needs={"rollback.yml app": []},
            **{f"vercel_{name}": value for name, value in OPTIONS.items()},
        )  # fmt: skip
        ended = project.run("doctor.yml")
        checks = {each["name"]: each for each in ended.last("runbook_doctor")["checks"]}
        wanted = ("vercel", "rights vercel", "repository", "rights repository")
        assert {name: checks[name]["status"] for name in wanted} == dict.fromkeys(wanted, "ok"), ended.output
        assert "database" not in checks
        written = [line for line in api.requests if not line.startswith("GET ")]
        assert (written, remote.head("runbook/doctor")) == ([], "")
        given = {"environment": "sandbox", "vercel": OPTIONS | {"api_url": api.url, "access_token": "another"},
                 "repository": {"repository": str(remote.path), "repository_root": "f" * 40}}  # fmt: skip
        wrong = run_module("runbook_doctor", {"settings": given}, permitted=False)
    bad = {each["name"]: each["msg"] for each in wrong.result["checks"] if each["status"] != "ok"}
    assert {"vercel", "repository"} <= bad.keys()
    assert "check the token's rights and vercel_team_id" in bad["vercel"]
