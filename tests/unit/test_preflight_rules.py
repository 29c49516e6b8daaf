"""The rules of preflight and of the lease, without a database."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import environment_mark as mark
from ansible.module_utils.runbook.rules import lease, preflight
from ansible.module_utils.runbook.rules.lease import Lease
from ansible.module_utils.runbook.rules.preflight import Journal, Server
from conftest import ROOT, job
from jinja2 import Environment

NOW = datetime(2026, 1, 4, 2, 0, tzinfo=UTC)
SERVER = Server("mental_scribe", "7395012345678901234", in_recovery=False, clock=NOW)


def test_doctests():
    assert doctest.testmod(preflight).failed == 0


@pytest.mark.parametrize(
    ("journal", "says"),
    [
        (Journal(None, "No space left on device in /var/runs.", False, 0), "No space left on device in /var/runs."),
        (Journal(None, None, False, 0), "RUNBOOK_RUN_DIR is not set"),
        (Journal("/var/runs/x", None, False, 10**12), "/var/runs/x/journal.jsonl is missing or cannot be appended to"),
        (Journal("/var/runs/x", None, True, 1000), "33,554,432 bytes free in /var/runs/x and finds 1,000"),
    ],
)
def test_no_record_no_run(journal, says):
    with pytest.raises(RunbookError, match=says.replace("/", "\\/")):
        preflight.check_record(journal)


def test_a_journal_with_room_is_enough():
    assert "/var/runs/x" in preflight.check_record(Journal("/var/runs/x", None, True, 10**9))


@pytest.mark.parametrize(
    ("sources", "says"), [([], "no inventory"), ([""], "no inventory"), (["a", "b"], r"2 inventories .*\(a, b\)")]
)
def test_exactly_one_inventory(sources, says):
    with pytest.raises(RunbookError, match=says):
        preflight.check_inventory(sources)


@pytest.mark.parametrize(
    ("environment", "source", "says"),
    [
        ("", "/x/hosts.yml", "does not say what it is"),
        ("prod", "/x/hosts.yml", "'prod' is unknown"),
        ("sandbox", "/srv/inventories/production", "folder named 'production'"),
        ("staging", "/srv/production/inventories/sandbox/hosts.yml", "folder named 'sandbox'"),
    ],
)
def test_environment_is_said_and_consistent(environment, source, says):
    with pytest.raises(RunbookError, match=says):
        preflight.check_environment(environment, source)


@pytest.mark.parametrize("source", ["/runner/inventory/hosts", "/srv/production/inventories/staging", "host,"])
def test_environment_without_contradiction(source):
    assert preflight.check_environment("staging", source)


JOBS = {
    "weekly-maintenance": job("weekly_db.yml"),
    "pitr-backup": job("pitr.yml", variables={"pitr_action": "backup"}),
    "log-rotation": job("logs.yml", tags=["rotate"]),
    "x-drill": job("dr_drill.yml", disabled="until it is announced"),
}


def approve(
    environment, *, confirm="", job="", playbook="weekly_db.yml", said=None, tags=(), skip_tags=(), **more: Any
):
    """As it is where the command line said it.

    :param more: other variables of the command line
    """
    said = {"confirm": confirm, "preflight_job": job, **more} if said is None else said
    return preflight.check_approval(
        environment=environment, confirm=confirm, job=job, scheduled_jobs=JOBS, playbook=playbook, said=said,
        tags=(tags, skip_tags),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "said", "says"),
    [
        ("production", {}, "add -e confirm=production"),
        ("production", {"confirm": "staging"}, "'staging' was confirmed, but this inventory is production"),
        ("production", {"confirm": "yes"}, "'yes' was confirmed"),
        ("sandbox", {"confirm": "production"}, "'production' was confirmed, but this inventory is sandbox"),
        ("production", {"job": "monthly-optimization"}, r"not among the scheduled jobs .*\(log-rotation, "),
        ("staging", {"job": "monthly-optimization"}, "not among the scheduled jobs"),
        ("production", {"job": "weekly-maintenance", "playbook": "lease.yml"}, "weekly_db.yml, not for lease.yml"),
        ("production", {"job": "weekly-maintenance", "tags": ["x"]}, "as weekly_db.yml, and this run has -t x; run it"),
        ("production", {"job": "weekly-maintenance", "skip_tags": ["x"]}, "this run has --skip-tags x; run it with"),
        ("production", {"job": "log-rotation", "playbook": "logs.yml"}, "logs.yml -t rotate, and this run has no tag"),
        ("staging", {"job": "log-rotation", "playbook": "logs.yml", "tags": ["archive"]}, "this run has -t archive"),
        ("production", {"job": "pitr-backup", "playbook": "pitr.yml"}, "lacks it; add -e pitr_action=backup"),
        ("production", {"job": "pitr-backup", "playbook": "pitr.yml", "pitr_action": "setup"}, "says pitr_action"),
        ("production", {"job": "weekly-maintenance", "playbook": "weekly_db.yml apply"}, "not for weekly_db.yml apply"),
        ("production", {"job": "weekly-maintenance", "backup_bucket": ""}, "also says backup_bucket with -e"),
        ("production", {"job": "weekly-maintenance", "confirm": "staging"}, "'staging' was confirmed"),
        ("production", {"job": "x-drill", "playbook": "dr_drill.yml"}, "x-drill is disabled .*until it is announced"),
    ],
)
def test_not_approved(environment, said, says):
    with pytest.raises(RunbookError, match=says):
        approve(environment, **said)


@pytest.mark.parametrize(
    ("variables", "said", "says"),
    [
        ({"confirm": "production"}, {}, "confirm: 'production' comes from an inventory.* say -e confirm=production"),
        ({"job": "weekly-maintenance"}, {}, "preflight_job: 'weekly-maintenance' comes from an inventory"),
        ({"confirm": "production"}, {"confirm": "staging"}, "confirm: 'production' comes from an inventory"),
        ({"confirm": "production"}, {"preflight_confirm": ""}, "confirm: 'production' comes from an inventory"),
        ({}, {"runbook_environment": ""}, "runbook_environment: it was set with -e"),
        ({}, {"preflight_system_identifier": ""}, "preflight_system_identifier: it was set with -e"),
        ({}, {"schedule_jobs": ""}, "schedule_jobs: it was set with -e"),
        ({}, {"preflight_approved": ""}, "preflight_approved: it was set with -e"),
        ({}, {"change_opened": ""}, "change_opened: it was set with -e"),
        ({}, {"change_reason": "", "change_ticket_backend": "none"}, "change_ticket_backend: it was set with -e"),
        ({}, {"preflight_take_lease": ""}, "preflight_take_lease: it was set with -e"),
        ({}, {"state_bucket": ""}, "state_bucket: it was set with -e"),
        (
            {},
            {"_raw_params": "a and b"},
            "-e: Ansible .* made a and b of one -e; write a value with blanks as -e .{.<name>",
        ),
    ],
)
def test_what_counts_only_from_the_command_line_and_what_never_does(variables, said, says):
    for environment in ("sandbox", "staging", "production"):
        with pytest.raises(RunbookError, match=says):
            approve(environment, **variables, said=said)


def test_a_database_says_to_which_environment_it_belongs():
    def check(found, environment="production", playbook="weekly_db.yml"):
        return mark.check(found, environment=environment, database='the "one"', playbook=playbook)

    assert mark.parse(["work_mem=4MB", "runbook.environment=production"]) == "production"
    assert mark.parse([]) is None
    assert "carries the mark production" in check("production")
    assert "sets it to production" in check(None, playbook="db_roles.yml")
    with pytest.raises(RunbookError, match=r'ALTER DATABASE "the ""one""" SET runbook\.environment'):
        check(None)
    for playbook in ("weekly_db.yml", "db_roles.yml"):
        with pytest.raises(RunbookError, match=r"says staging, and database .* carries the mark 'production'"):
            check("production", environment="staging", playbook=playbook)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ("production", {"confirm": "production"}),
        ("production", {"job": "weekly-maintenance"}),
        ("staging", {}),
        ("sandbox", {"confirm": "sandbox"}),
    ],
)
def test_approved(environment, said):
    assert approve(environment, **said)


@pytest.mark.parametrize(
    ("pinned", "database", "says"),
    [
        ("", "mental_scribe", "pin it: preflight_system_identifier: '7395012345678901234'"),
        ("  ", "mental_scribe", "pin it"),
        ("FILL ME IN", "mental_scribe", "'FILL ME IN' is not a system identifier"),
        ("1", "mental_scribe", "means cluster 1, and cluster 7395012345678901234 answered"),
        ("7395012345678901234", "other", "means database 'other', and 'mental_scribe' answered"),
    ],
)
def test_identity(pinned, database, says):
    with pytest.raises(RunbookError, match=says):
        preflight.check_identity(SERVER, system_identifier=pinned, database=database)


def test_a_standby_is_refused():
    with pytest.raises(RunbookError, match="standby"):
        preflight.check_primary(Server("a", "1", in_recovery=True, clock=NOW))


@pytest.mark.parametrize(
    ("ahead_s", "round_trip_s", "skew_s"),
    [(0, 0, 0), (10, 2, 8), (-10, 2, -10), (1, 4, 0), (7201, 2, 7199)],
)
def test_skew_is_what_is_certain(ahead_s, round_trip_s, skew_s):
    received_at = NOW + timedelta(seconds=round_trip_s)
    found = preflight.clock_skew_s(NOW + timedelta(seconds=ahead_s), sent_at=NOW, received_at=received_at)
    assert found == skew_s


@pytest.mark.parametrize("skew_s", [-301.0, 301.0])
def test_clocks_that_disagree(skew_s):
    bastion = NOW - timedelta(seconds=skew_s)
    with pytest.raises(RunbookError, match="301 s apart where 300 s are accepted") as refused:
        preflight.check_clock(skew_s, server_clock=NOW, bastion_clock=bastion, max_skew_s=300)
    assert f"{NOW:%Y-%m-%d %H:%M:%S}" in refused.value.message
    assert f"{bastion:%Y-%m-%d %H:%M:%S}" in refused.value.message


def test_clocks_that_agree():
    assert preflight.check_clock(-300.0, server_clock=NOW, bastion_clock=NOW, max_skew_s=300)


# --- the lease --------------------------------------------------------------------------------------------------------

HELD = Lease("run-1", "bastion/1", "m", "weekly_db.yml", NOW, NOW + timedelta(minutes=15))
AFTER = NOW + timedelta(minutes=15)


@pytest.mark.parametrize(
    ("current", "run_id", "now", "holder", "is_written_to", "decision"),
    [
        (None, "run-2", NOW, "unknown", False, "acquire"),
        (None, "run-2", NOW, "unknown", True, "refuse"),
        (HELD, "run-1", NOW, "alive", False, "renew"),
        (HELD, "run-1", NOW, "alive", True, "renew"),
        (HELD, "run-2", NOW, "alive", False, "refuse"),
        (HELD, "run-2", NOW, "unknown", False, "refuse"),
        (HELD, "run-2", NOW, "dead", False, "take_over"),
        (HELD, "run-2", NOW, "dead", True, "refuse"),
        (HELD, "run-2", AFTER, "unknown", False, "take_over"),
        (HELD, "run-2", AFTER, "alive", False, "take_over"),
        (HELD, "run-2", AFTER, "unknown", True, "refuse"),
    ],
)
def test_who_gets_the_lease(*, current, run_id, now, holder, is_written_to, decision):
    found = lease.decide(current, run_id=run_id, now=now, holder=holder, is_written_to=is_written_to)
    assert found == decision


@pytest.mark.parametrize(
    ("run_id", "holder", "writer_pid", "says"),
    [
        ("run-2", "dead", None, "'run-2' does not hold the lease, run-1"),
        ("run-1", "alive", None, "alive on this machine"),
        ("run-1", "dead", 4711, r"still writes .*pg_terminate_backend\(4711\)"),
    ],
)
def test_a_release_that_is_refused(run_id, holder, writer_pid, says):
    with pytest.raises(RunbookError, match=says):
        lease.check_release(HELD, run_id=run_id, holder=holder, writer_pid=writer_pid)


@pytest.mark.parametrize("holder", ["dead", "unknown"])
def test_a_release_that_is_granted(holder):
    lease.check_release(HELD, run_id="run-1", holder=holder, writer_pid=None)


@pytest.mark.parametrize(
    ("playbook", "variables", "approves"),
    [
        ("pitr.yml", {}, "pitr.yml"),
        ("pitr.yml", {"pitr_action": "check"}, "pitr.yml"),
        ("pitr.yml", {"pitr_action": "retention"}, "pitr.yml retention"),
        ("performance.yml", {}, "performance.yml apply"),
        ("supabase_restore.yml", {}, "supabase_restore.yml restore"),
    ],
)
def test_a_job_approves_one_action(playbook, variables, approves):
    """What writes is asked for under another name than what looks."""
    play = yaml.safe_load((ROOT / "playbooks" / playbook).read_text())[0]
    asked = Environment(autoescape=False).from_string(play["vars"]["preflight_playbook"]).render(variables)  # noqa: S701 - no page
    assert asked == approves


@pytest.mark.parametrize(
    ("value", "is_example"),
    [
        ("db.example.com", True),
        ("https://s3.Example.org/x", True),
        ("<project-ref>", True),
        ("db.<project-ref>.supabase.co", True),
        ("changeme", True),
        ("TODO", True),
        ({"a": ["b", {"c": "x.example.net"}]}, True),
        ("db.clinic.eu", False),
        ("counterexample.community", False),
        ("SELECT 1 WHERE a < 3 AND b > 2", False),
        ("", False),
        (5432, False),
        (None, False),
    ],
)
def test_values_of_the_examples_are_known(value, is_example):
    assert preflight.is_example(value) is is_example


def test_a_target_that_nobody_filled_in_is_refused():
    preflight.check_filled_in({"login_host": "db.clinic.eu", "login_db": None})
    with pytest.raises(RunbookError, match=r"login_host: 'db\.example\.com' is what the example of the inventory says"):
        preflight.check_filled_in({"login_db": "notes", "login_host": "db.example.com"})
