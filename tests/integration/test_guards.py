"""Nobody gets around preflight: not by a task to start at, a module by itself, a copy, a variable, a shell's past."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import permits, process
from ansible.module_utils.runbook.drivers.postgres import lease
from ansible.module_utils.runbook.report.sections.preflight import PREFLIGHT
from ansible.module_utils.runbook.rules.target import Target
from conftest import ROOT, S3, Database, a_run, approve, as_environ, give_lease_back, run_module, this_run
from fakes.supabase import REF

from playbooks import Ended, Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = 300
#: As a snapshot of variables is encrypted with.
KEY = "k" * 43 + "="
#: An application with one key.
KEYS: dict[str, Any] = {
    "keys": [{"name": "server", "kind": "supabase_secret", "env": [{"name": "SERVICE_KEY"}]}],
    "vercel": {"project_id": "prj_1a2b", "access_token": "x", "api_url": "http://127.0.0.1:1"},
    "supabase": {"project_ref": REF, "access_token": "x", "api_url": "http://127.0.0.1:1"},
}
GO_ON = "start the playbook from its beginning"


@pytest.fixture
def application(database: Database) -> Database:
    """Audit rows of which all are due."""
    database.run(
        "CREATE TABLE public.audit_log (id int PRIMARY KEY, created_at timestamptz NOT NULL)",
        f"INSERT INTO public.audit_log SELECT n, now() - interval '1 year' FROM generate_series(1, {ROWS}) n",
    )
    return database


@pytest.fixture
def project(application: Database, tmp_path: Path) -> Project:
    return Project.for_database(tmp_path, application)


def untouched(database: Database) -> bool:
    """Whether nothing was moved, made or taken."""
    return bool(
        database.one("SELECT count(*) FROM public.audit_log") == ROWS
        and database.one("SELECT to_regclass('public.audit_log_archive') IS NULL")
    )


def refused(ended: Ended, database: Database, *sentences: str) -> None:
    assert ended.code != 0, ended.output
    text = " ".join(ended.output.split())
    for sentence in sentences:
        assert sentence in text, ended.output
    assert untouched(database)


def test_a_task_to_start_at_leads_nowhere(application, project):
    started = project.run("weekly_db.yml", "--start-at-task", "Archive old records")
    refused(started, application, "has not passed preflight", GO_ON)
    dry = project.run("weekly_db.yml", "--start-at-task", "Archive old records", "--check")
    refused(dry, application, "has not passed preflight", GO_ON)


@pytest.mark.parametrize("frozen", ["DATABASE {0}", "ROLE {1}", "ROLE {1} IN DATABASE {0}"])
def test_what_a_person_froze_is_not_written_to(application: Database, s3: S3, frozen: str):
    user = f"froze_{application.name}"
    whom = f"ALTER {frozen.format(application.name, user)}"
    application.run(f"CREATE ROLE {user} SUPERUSER LOGIN", f"{whom} SET default_transaction_read_only = on")
    login = application.login | {"login_user": user}
    rows = {"source": "public.audit_log", "archive": "public.audit_log_archive", "older_than_days": 90}
    try:
        for module, options, check in (
            ("pg_archive", rows, True), ("pg_archive", rows, False), ("pg_vacuum", {}, False),
            ("pg_heartbeat", {"interval_s": 1, "duration_s": 0}, False),
        ):  # fmt: skip
            outcome = run_module(module, login | options, check=check)
            assert outcome.failed, module
            assert "somebody froze it" in outcome.result["msg"]
            fix = outcome.result["msg"].partition("written to again, run ")[2].removesuffix(".")
            assert fix.replace('"', "") == f"{whom} RESET default_transaction_read_only"
        assert untouched(application)
        bucket = s3.bucket()
        backed_up = run_module("pg_backup", login | s3.options(bucket) | {"environment": "sandbox", "prefix": "p"})
        assert not backed_up.failed, backed_up.result["msg"]
        application.run("SET default_transaction_read_only = off", fix)
        assert not run_module("pg_archive", login | rows).failed
    finally:
        application.run("SET default_transaction_read_only = off", f"REASSIGN OWNED BY {user} TO CURRENT_USER",
                        f"DROP OWNED BY {user}", f"DROP ROLE {user}")  # fmt: skip


def test_tags_that_lead_to_no_work_are_red(application, project):
    misspelt = project.run("weekly_db.yml", "--tags", "vacum")
    refused(misspelt, application, "Nothing was done", "--tags vacum")
    assert misspelt.results == {}
    # Of several, too: what the others ask for is not done alone.
    refused(project.run("logs.yml", "--tags", "verify,rotat"), application, "--tags rotat names no step of logs.yml")
    ended = project.run("rollback.yml", "--skip-tags", "db")
    assert ended.code != 0
    assert "the tags that exist are app, config, db" in " ".join(ended.output.split()), ended.output
    (metrics,) = (project.folder / "runs").glob("*rollback*/metrics.prom")
    assert re.search(r"^runbook_run_success\S* 0", metrics.read_text(), re.MULTILINE), metrics.read_text()


def test_a_module_called_by_itself_leads_nowhere(application, project):
    command = ["ansible", "-i", str(project.inventory), "databases"]
    options = " ".join(f"{name}={value}" for name, value in application.login.items())
    archive = f"{options} source=public.audit_log archive=public.audit_log_archive older_than_days=90"
    for words in (
        [*command, "-m", "pg_archive", "-a", archive],
        [*command, "-m", "ansible.builtin.include_role", "-a", "name=db_maintenance"],
    ):
        done = subprocess.run(
            words, cwd=ROOT, env=project.environ(), capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode != 0, done.stdout
        assert GO_ON in " ".join(done.stdout.split() + done.stderr.split()), done.stdout
        assert untouched(application)


def test_a_playbook_of_ones_own_leads_nowhere_without_preflight(application, project):
    own = project.folder / "own.yml"
    own.write_text(
        "- hosts: databases\n  gather_facts: false\n  roles: [db_maintenance]\n"
        "- hosts: databases\n  gather_facts: false\n  roles: [db_maintenance]\n  strategy: free\n"
    )
    done = subprocess.run(
        ["ansible-playbook", "-i", str(project.inventory), str(own)],
        cwd=ROOT, env=project.environ(ANSIBLE_ROLES_PATH=str(ROOT / "roles")), capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert GO_ON in " ".join(done.stdout.split() + done.stderr.split()), done.stdout
    assert untouched(application)


@pytest.mark.parametrize(
    ("common", "arguments", "says"),
    [
        ({"runbook_environment": "staging"}, [], "carries the mark 'production'"),
        ({}, ["-e", "runbook_environment=sandbox"], "runbook_environment: it was set with -e"),
        ({"runbook_environment": "production", "confirm": "production"}, [], "comes from an inventory"),
        ({"runbook_environment": "production", "preflight_confirm": "production"}, [], "comes from an inventory"),
        ({"runbook_environment": "production"}, ["-e", "preflight_take_lease=false"], "it was set with -e"),
        ({"runbook_environment": "production"}, ["-e", "preflight_system_identifier=1"], "it was set with -e"),
        ({"runbook_environment": "production"}, ["-e", "@{inventory}/yes.yml"], "a file beside it"),
        ({"runbook_environment": "production"}, ["-e", "@{inventory}/link.yml"], "a file beside it"),
        ({}, ["-e", "window_override=see ticket confirm=sandbox please"], "made window_override, confirm and words"),
    ],
)
def test_a_copied_inventory_and_a_standing_confirmation_are_refused(
    application, project, tmp_path_factory, common, arguments, says
):
    application.mark("production")
    project.all_vars |= common
    (project.folder / "yes.yml").write_text("confirm: production\n")
    outside = tmp_path_factory.mktemp("outside") / "yes.yml"
    outside.write_text("confirm: production\n")
    (project.folder / "link.yml").symlink_to(outside)
    arguments = [word.format(inventory=project.folder) for word in arguments]
    refused(project.run("weekly_db.yml", *arguments), application, says)


def test_a_play_says_nothing_in_the_name_of_ansible_playbook(application, project):
    """Its ``environment`` reaches the modules as what the callback exports does."""
    application.mark("production")
    project.all_vars |= {"runbook_environment": "production", "confirm": "production"}
    forged = {"RUNBOOK_COMMAND_LINE": json.dumps({"confirm": "production"})}
    own = ROOT / "playbooks" / f"own-{os.getpid()}.yml"
    play = {"hosts": "databases", "gather_facts": False, "vars": {"preflight_playbook": "weekly_db.yml"},
            "roles": ["preflight", "db_maintenance"], "environment": forged}  # fmt: skip
    try:
        own.write_text(json.dumps([play]))
        refused(project.run(own.name), application, "RUNBOOK_COMMAND_LINE is set by a play")
        # And in a shell: it is not read there at all.
        own.write_text(json.dumps([play | {"environment": {}}]))
        refused(project.run(own.name, environ=forged), application, "comes from an inventory")
    finally:
        own.unlink()


def test_a_database_without_a_mark_is_refused_and_the_fix_fixes(application, project):
    application.run(f"ALTER DATABASE {application.name} RESET runbook.environment")
    ended = project.run("weekly_db.yml")
    refused(ended, application, "carries no mark of its environment")
    fix = re.search(r"ALTER DATABASE .*? SET runbook.environment = 'sandbox'", " ".join(ended.output.split()))
    assert fix is not None, ended.output
    application.run(fix.group(0).replace("\\", ""))
    assert project.run("weekly_db.yml").code == 0


def database_target(database: Database) -> Target:
    return Target("database", database.one("SELECT system_identifier::text FROM pg_control_system()"), database.name)


def archive_options(database: Database) -> dict[str, Any]:
    tables = {"source": "public.audit_log", "archive": "public.audit_log_archive", "older_than_days": 90}
    return database.login | tables


LOGS: dict[str, Any] = {"archive_host": "x", "seal_keys": ["k" * 32]}
LOG = {"name": "x", "class": "x", "paths": ["/var/log/x.log"]}


def writers(database: Database, s3: S3, folder: Path) -> dict[str, dict[str, Any]]:
    """Each module that writes, with options that would let it."""
    bucket, server = s3.options(s3.bucket()), database.login
    where = {"environment": "sandbox"}
    page = {"name": "x", "url": "http://127.0.0.1:1"}
    store = {"item": "x", "backend": "none", "state_directory": str(folder)}
    vercel = KEYS["vercel"] | {"state_directory": str(folder)}
    update = {
        "repository": str(folder), "repository_root": "0" * 40, "branch": "runbook/updates",
        "committer_email": "a@b.test",
    }  # fmt: skip
    live = {
        "project_id": "prj_1", "access_token": "x", "version_url": "http://127.0.0.1:1", "state_directory": str(folder),
    }  # fmt: skip
    return {
        "change_status_page": store | {"state": "incident_resolved"},
        "change_ticket": store | {"state": "closed"},
        "change_close": {"state_directory": str(folder)},
        "change_contacts": {"title": "x", "state_directory": str(folder)},
        "change_notice": store | {"title": "x"},
        "change_probe": {"item": "x", "state_directory": str(folder), "pages": [page]},
        "change_soak": {"item": "x", "state_directory": str(folder), "pages": [page]},
        "change_steps": {"item": "work", "state_directory": str(folder)},
        "change_error_logs": store | {"state": "before"},
        "change_silence": store | {"state": "absent"},
        "apt_proof": {"hostname": "x", "machine_id": "x", "state_directory": str(folder)},
        "apt_updates_check": {"state_directory": str(folder)},
        "apt_upgrade": {"hostname": "x", "machine_id": "x"},
        "app_update": update | {"base_branch": "main", "scripts": ["test"]},
        "app_update_deploy": update | live | {"base_branch": "main"},
        "app_update_review": update | {"base_branch": "main", "by": "Ada", "state_directory": str(folder)},
        "app_update_stage": update | live | {"staging_branch": "staging"},
        "alert_delivery_test": {
            "alertmanager_urls": ["http://127.0.0.1:1"],
            "receivers": [{"name": "team", "labels": {}}],
        },
        "emergency_contact_confirm": {"codes": ["x"], "state_directory": str(folder)},
        "emergency_contact_test": {"state_directory": str(folder)},
        "incident_review": {
            "state": "closed",
            "change_id": "x",
            "by": "Ada",
            "text": "It rained.",
            "actions": [{"text": "Roof it", "owner": "Bo", "due_date": "2026-12-31"}],
            "state_directory": str(folder),
        },
        "incident_review_remind": {"backend": "none", "state_directory": str(folder)},
        "repository_revert": where
        | {"branch": "main", "good": "a" * 40, "bad": "b" * 40, "repository": str(folder), "repository_root": "a" * 40},
        "vercel_env_restore": where | vercel | {"snapshot": "prj_1a2b-20261128T020000Z", "snapshot_key": KEY},
        "web_baseline": {"name": "app", "pages": {}, "bundle": {}, "state_directory": str(folder)},
        "vercel_env_snapshot": where | vercel | {"snapshot_key": KEY},
        "vercel_move_domains": where | vercel | {"act": "rollback"},
        "vercel_redeploy": where | KEYS["vercel"],
        "env_example_update": {
            "vercel": KEYS["vercel"],
            "branch": "main",
            "repository": str(folder),
            "repository_root": "a" * 40,
        },
        "key_retire": KEYS | {"state_directory": str(folder)},
        "key_rotate": KEYS
        | {
            "state_directory": str(folder),
            "error_logs": {"backend": "none"},
            "fingerprint_url": "http://127.0.0.1:1/keys",
        },
        "log_archive": LOGS | bucket | where | {"files": [LOG], "classes": {}, "state_directory": str(folder)},
        "log_archive_expire": LOGS | bucket | where | {"classes": {}, "state_directory": str(folder)},
        "log_rotate": where | {"files": [LOG]},
        "log_table_archive": LOGS
        | bucket
        | where
        | server
        | {
            "stream": "x",
            "retention_class": "x",
            "source": "public.audit_log",
            "older_than_days": 90,
            "state_directory": str(folder),
        },
        "maintenance_mode": store | {"state": "off"},
        "pg_archive": archive_options(database),
        "pg_cleanup": database.login
        | {"rules": [{"table": "public.audit_log", "column": "created_at", "older_than_days": 1}]},
        "pg_backup": server | bucket | where,
        "pg_backup_retention": bucket | where | {"database": database.name},
        "pg_backup_undelete": bucket | where | {"database": database.name},
        "pg_compact": server,
        "pg_finding_apply": server | {"finding": "unused_index:public.messages.messages_old_idx"},
        "pg_heartbeat": server,
        "pg_pitr_backup": server | bucket | where | {"server": "x"},
        "pg_pitr_discard": where | {"restore_path": str(folder)},
        "pg_pitr_restore": bucket
        | where
        | {
            "server": "x",
            "restore_path": str(folder),
            "login_user": "x",
            "login_db": "x",
        },
        "pg_pitr_retention": bucket | where | {"server": "x"},
        "pg_pitr_setup": server | bucket | where | {"server": "x", "state_dir": str(folder)},
        "pg_reindex": server,
        "pg_restore": server | bucket | {"database": database.name},
        "pg_restore_project": server | bucket | {"database": database.name},
        "pg_roles": server | where,
        "pg_rollback_plan": server | bucket | {"target_time": "2020-01-01T00:00:00Z", "restore_path": str(folder)},
        "pg_rollback_remove_copies": bucket | where | {"database": database.name},
        "pg_copy_cleanup": server,
        "pg_swap": server | {"database": database.name, "replacement": "other"},
        "pg_vacuum": server,
        "s3_mirror": bucket | where | {"source_bucket": "a"},
        "dr_drill_begin": server | bucket | where | {"state_dir": str(folder), "host": "x"},
        "dr_drill_outage": bucket | where | {"state_dir": str(folder), "server": "x"},
        "dr_drill_decide": bucket | where | {"state_dir": str(folder), "server": "x"},
        "dr_drill_verify": where | {"state_dir": str(folder)},
        "dr_drill_skip": where | {"state_dir": str(folder), "reason": "x"},
        "dr_drill_tear_down": bucket | where | {"state_dir": str(folder)},
        "dr_drill_judge": where | {"state_dir": str(folder)},
        "tls_certificate_install": {"directory": str(folder), "state": "loaded", "reload_command": ["true"]},
        "tls_certificate_request": {"directory": str(folder), "names": ["x.example"]},
        "supabase_log_archive": LOGS
        | bucket
        | where
        | {
            "project_ref": REF,
            "access_token": "x",
            "log": "postgres_logs",
            "retention_class": "x",
            "state_directory": str(folder),
        },
        "schedule_files": {
            "engine": "systemd",
            "path": str(folder),
            "schedules": {},
            "groups": {},
            "project": "/srv",
            "inventory": "x",
        },
        "evidence_archive": {
            "environment": "sandbox",
            "quarter": "2026Q4",
            "dest": str(folder),
            "signing_key": "x",
            "runbook": "x",
        },
        "supabase_restore": where | {"project_ref": REF, "overwrite": REF, "access_token": "x", "backup_id": 1},
    }


def test_each_module_that_writes_asks_for_a_permit_of_its_run(application, s3, tmp_path):
    """In check mode too: it shows what the real run would do, which is nothing."""
    dead = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    gone = str(process.find(dead.pid))
    dead.communicate()
    past = a_run("past", directory=tmp_path)
    approve(past, "sandbox")
    permits.grant(past, database_target(application))
    left_in_a_shell = as_environ(past) | {"RUNBOOK_PROCESS": gone}
    # In a fork, as the playbooks run them: 48 Pythons would take a minute to start.
    spec = importlib.util.spec_from_file_location("forked", ROOT / "playbooks/action_plugins/forked_module.py")
    assert spec is not None
    assert spec.loader is not None
    forked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(forked)
    for name, options in writers(application, s3, tmp_path / "folder").items():
        module = forked.load(name)
        for environ, check in (({}, False), (left_in_a_shell, False), (left_in_a_shell, True)):
            given = json.dumps({"ANSIBLE_MODULE_ARGS": options | {"_ansible_check_mode": check}}).encode()
            done = forked.in_fork(module, given, environ)
            if environ and not done["stdout"]:
                # Its ansible-playbook is gone, and it noticed that as it told its refusal.
                assert "Stopped by SIGTERM" in done["stderr"], (name, check, done)
                continue
            result = json.loads(done["stdout"])
            assert result["failed"], (name, check, result)
            # A module whose ansible-playbook is gone ends by itself too, and may notice that first.
            says = ("has not passed preflight", "Stopped by SIGTERM") if environ else ("has not passed preflight",)
            assert any(sentence in result["msg"] for sentence in says), (name, check, result["msg"])
            assert result["status"] == "breach"
    assert untouched(application)


def test_no_module_that_writes_is_forgotten(application, s3, tmp_path):
    """A module is known to write by what its documentation says of check mode: it would change nothing otherwise."""
    reads = {
        "pg_backup_verify", "pg_bloat_info", "pg_index_info", "pg_integrity", "pg_query_info",
        "pg_rollback_compare", "s3_bucket_check",
        "supabase_advisors_info", "supabase_backup_info", "supabase_project_check",
        "supabase_restore_info", "supabase_restore_wait", "runbook_doctor", "maintenance_calendar_info",
        "change_check", "change_left_info", "key_info", "emergency_contact_check", "incident_review_info",
        "oncall_rota_info", "alert_review_info", "app_updates_info", "capacity_info", "vercel_deployment_info",
        "log_archive_verify", "log_find", "security_advisories_info",
        "sla_info", "incident_info", "dashboard_info",
        "tls_certificate_info", "tls_certificate_renewal_plan", "tls_certificate_served",
        "tls_certificate_stored_info", "schedule_info", "evidence_verify", "app_script_info", "asset_info",
        "bundle_info", "cdn_cache_info", "controller_left_info", "heap_growth_info", "lighthouse_info",
        "state_lease_info",
    }  # fmt: skip
    other = {
        *PREFLIGHT,  # what gives permits
        "pg_lease",  # it gives back what its run holds, or what a dead run held
        "pg_pitr_check",  # it asks before it ends a segment; the next test
        "pg_rollback_take_lease",  # it asks once it knows that the server is the restored one; test_rollback_pitr.py
        "sandbox_database", "sandbox_postgres", "sandbox_s3",  # what they make bears a mark of theirs
        "board_collect",  # copies records beside those of this machine
        "sandbox_application", "sandbox_services",  # it starts programs of its own
    }  # fmt: skip
    known = {path.stem for path in (ROOT / "library").glob("*.py")}
    assert known - reads - other == set(writers(application, s3, tmp_path))


def test_a_check_that_writes_asks_too(application, s3):
    options = application.login | s3.options(s3.bucket()) | {"environment": "sandbox", "server": "x"}
    asks = run_module("pg_pitr_check", options | {"switch_wal": True}, permitted=False)
    assert "has not passed preflight" in asks.result["msg"]
    assert "there is no archive" in run_module("pg_pitr_check", options, permitted=False).result["msg"]


def test_what_passed_in_check_mode_permits_no_write(application, tmp_path):
    run = a_run("dry", directory=tmp_path)
    looked = dataclasses.replace(run, check_mode=True)
    approve(looked, "sandbox")
    permits.grant(looked, database_target(application))
    environ = as_environ(run)
    assert not run_module("pg_heartbeat", application.login, check=True, permitted=False, **environ).failed
    real = run_module("pg_heartbeat", application.login, permitted=False, **environ)
    assert "has not passed preflight" in real.result["msg"]


def test_no_module_writes_for_a_change_that_is_not_open(application, tmp_path):
    run = a_run(directory=tmp_path)
    permits.approve(run, "sandbox", "weekly_db.yml", needs=["ticket"])
    permits.grant(run, database_target(application))
    early = run_module("pg_vacuum", application.login, **as_environ(run))
    assert "weekly_db.yml is run as a change, and none was opened" in early.result["msg"]
    assert "executed_queries" not in early.result
    # A look is free, and does not count as an opened change.
    assert not run_module("pg_vacuum", application.login, check=True, **as_environ(run)).failed
    permits.begin_change(dataclasses.replace(run, check_mode=True))
    assert run_module("pg_vacuum", application.login, **as_environ(run)).failed
    permits.begin_change(run)
    assert "lease" in run_module("pg_vacuum", application.login, **as_environ(run)).result["msg"]


def test_the_lease_of_another_run_is_released_under_preflight_alone(application):
    application.run(*lease.DDL, "INSERT INTO runbook.lease VALUES (true, 'dead', 'x/1', '', 'x', now(), now())")
    released = run_module("pg_lease", application.login | {"run_id": "dead"}, permitted=False)
    assert "has not passed preflight" in released.result["msg"]
    assert application.one("SELECT count(*) FROM runbook.lease") == 1
    assert run_module("pg_lease", application.login | {"run_id": "dead"}).result["released"] is True


def test_a_run_that_forgot_its_lease_gives_it_back(application, project):
    own = ROOT / "playbooks" / f"own-{os.getpid()}.yml"
    own.write_text(
        "- hosts: databases\n  gather_facts: false\n  vars: {preflight_playbook: weekly_db.yml}\n"
        "  roles: [preflight, db_maintenance]\n"
    )
    try:
        ended = project.run(own.name)
    finally:
        own.unlink()
    assert ended.code == 0, ended.output
    assert application.run("SELECT run_id FROM runbook.lease") == []


# --- the end before its time ------------------------------------------------------------------------------------------


def stopped(project: Project, database: Database, how: Callable[[subprocess.Popen[str]], None]) -> tuple[str, int]:
    """Stop a run while it archives; its output and its code."""
    blocker = database.connect()
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE public.audit_log IN ACCESS EXCLUSIVE MODE")
    running = project.start("weekly_db.yml")
    # It waits for the lock, a little while each time, as long as its deadline allows.
    waits = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runbook pg_archive'"
        " AND datname = current_database()"
    )
    until = time.monotonic() + 90
    while not database.one(waits):
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)
    how(running)
    output, _ = running.communicate(timeout=90)
    while database.one(waits):
        assert time.monotonic() < until
        time.sleep(0.05)
    blocker.close()
    return " ".join(output.split()), running.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_what_was_done_and_gives_its_lease_back(application, project, number):
    output, code = stopped(project, application, lambda running: running.send_signal(number))
    assert code not in (0, None)
    assert "Report:" in output
    # Ansible passes SIGINT on to what it runs, whichever it got.
    # By the worker that waits for it, or by Ansible itself, whoever comes first; on a busy machine by neither in time.
    assert any(each in output for each in ("Stopped with its run", "Stopped by SIGTERM", "A module was still at work"))
    assert "SIGINT" not in output
    assert f"was stopped by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'} before its end" in output
    assert application.run("SELECT run_id FROM runbook.lease") == []
    (record,) = (project.folder / "runs").glob("*/record.json")
    assert json.loads(record.read_text())["status"] == "unknown"
    assert not list((project.folder / "runs").glob("*/permits.jsonl"))


def test_a_module_ends_when_its_ansible_playbook_was_killed(application, project):
    _, code = stopped(project, application, lambda running: os.kill(running.pid, signal.SIGKILL))
    assert code == -signal.SIGKILL
    # What outlives it gives the lease back, and makes the report.
    until = time.monotonic() + 90
    while not (records := list((project.folder / "runs").glob("*/record.json"))):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "ansible-playbook was killed before its end" in json.loads(records[0].read_text())["verdict"]
    assert application.run("SELECT run_id FROM runbook.lease") == []
    # And the next run goes on at once.
    assert project.run("weekly_db.yml").code == 0
    assert application.one("SELECT count(*) FROM public.audit_log") == 0


def test_a_process_is_known_by_more_than_its_number():
    child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1)
    assert child.stdout is not None
    child.stdout.readline()
    found = process.find(child.pid)
    assert found is not None
    assert found.life() == "alive"
    assert process.parse(str(found)) == found
    # The number is there, and was given to another process, or to one of another container.
    assert process.Process(found.machine, found.pid, "1").life() == "dead"
    elsewhere = process.Process("other pid:[1]", found.pid, found.started)
    assert elsewhere.life() == "unknown"
    assert not elsewhere.send(signal.SIGKILL)
    assert child.poll() is None
    assert [each.pid for each in process.children(os.getpid()) if each.pid == child.pid] == [child.pid]
    assert found.send(signal.SIGKILL)
    child.wait()
    assert found.life() == "dead"
    assert process.parse("host/123") is None


def test_the_lease_of_the_tests_own_run_is_given_back(application):
    """What stands in for preflight in the other tests does what preflight does, and no more."""
    assert not run_module("pg_archive", archive_options(application)).failed
    assert application.run("SELECT run_id FROM runbook.lease") == [(this_run().id,)]
    give_lease_back(application)
    assert application.run("SELECT run_id FROM runbook.lease") == []
