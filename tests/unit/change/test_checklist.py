"""Which lines of the checklists an operation needs, and what its steps say of them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import calendar, checklist, opening, steps
from ansible.module_utils.runbook.rules.status import Status

from tools import render_checklists


def test_what_is_begun_is_ended_too():
    needs = checklist.needed("weekly_db.yml", "staging", {"weekly_db.yml": ["maintenance_mode", "ticket"]})
    assert needs == ("ticket", "maintenance_mode", "maintenance_mode_off")


def test_a_sandbox_has_a_change_only_where_its_inventory_says_so():
    assert checklist.needed("weekly_db.yml", "sandbox", {}) == ()
    assert checklist.needed("weekly_db.yml", "sandbox", {"weekly_db.yml": ["work"]}) == ("work",)
    assert "ticket" in checklist.needed("weekly_db.yml", "production", {})
    assert checklist.needed("weekly_db.yml", "production", {"weekly_db.yml": []}) == ()
    assert checklist.needed("doctor.yml", "production", {}) == ()


@pytest.mark.parametrize(("said", "sentence"), [
    ({"weekly.yml": []}, r"weekly.yml: it is not run as a change; did you mean weekly_db.yml\?"),
    ({"weekly_db.yml": ["tickets"]}, r"weekly_db.yml: 'tickets' is no line; did you mean ticket\?"),
    # What comes with another line is not asked for by itself.
    ({"weekly_db.yml": ["maintenance_mode_off"]}, r"'maintenance_mode_off' is no line; did you mean maintenance_mode"),
    ({"weekly_db.yml": ["contact"]}, r"'contact' is no line"),
    ({"emergency.yml": []}, r"emergency.yml: what it needs is fixed"),
    ({"weekly_db.yml": "ticket"}, r"'ticket' is no list"),
    ({"weekly_db.yml": None}, r"None is no list"),
    ({"weekly_db.yml": [7]}, r"weekly_db.yml: 7 is no line"),
])  # fmt: skip
def test_a_word_that_is_none_is_refused(said, sentence):
    with pytest.raises(RunbookError, match=f"change_needs: .*{sentence}"):
        checklist.needed("weekly_db.yml", "staging", said)


def test_the_inventory_decides_what_blocks():
    assert checklist.blocking("weekly_db.yml", {})["ticket"] is True
    assert checklist.blocking("weekly_db.yml", {})["team"] is False
    said = checklist.blocking("weekly_db.yml", {"team": True, "ticket": False})
    assert (said["team"], said["ticket"], said["backup"]) == (True, False, True)
    with pytest.raises(RunbookError, match=r"change_blocks: 'teem' is no line; did you mean team\?"):
        checklist.blocking("weekly_db.yml", {"teem": True})
    with pytest.raises(RunbookError, match="change_blocks: team: 'sometimes' is neither true nor false"):
        checklist.blocking("weekly_db.yml", {"team": "sometimes"})


def test_an_emergency_waits_for_no_service_and_skips_no_record():
    needs = checklist.needed("emergency.yml", "sandbox", {})
    assert {"snapshot", "review", "work", "contact", "maintenance_mode_off", "incident_resolved"} <= set(needs)
    blocks = checklist.blocking("emergency.yml", {})
    assert (blocks["ticket"], blocks["maintenance_mode"], blocks["snapshot"]) == (False, False, True)
    assert [each for each in checklist.per_host(needs, ["db"]) if each.startswith("contact:")] == [
        "contact:engineering_lead", "contact:database_admin", "contact:security_team", "contact:devops_sre",
    ]  # fmt: skip


def test_the_page_that_people_read_has_these_checklists():
    page = render_checklists.PAGE.read_text()
    assert render_checklists.rendered(page) == page, "run .venv/bin/python tools/render_checklists.py"
    assert all(f"`{name}`" in page for name in (*checklist.LINES, *checklist.OPERATIONS))


def test_each_database_answers_for_itself():
    assert checklist.per_host(("ticket", "backup"), ["db1", "db2"]) == ("ticket", "backup:db1", "backup:db2")


def test_every_operation_that_is_run_as_a_change_is_known_to_the_calendar():
    assert set(checklist.OPERATIONS) <= set(calendar.OPERATIONS)


@pytest.mark.parametrize("operation", checklist.OPERATIONS)
def test_a_way_back_that_is_a_command_has_no_sentence_behind_it(operation):
    """Production's confirmation is added to it."""
    rollback = checklist.OPERATIONS[operation].rollback
    assert not rollback.startswith("ansible-playbook") or not rollback.endswith(".")
    if operation == "rotate_keys.yml create":
        # What a rollback takes by itself is of another commit than the live one.
        assert "-e app_rollback_deployment=" in rollback


@pytest.mark.parametrize("operation", checklist.OPERATIONS)
def test_every_operation_names_its_way_back(operation):
    plan = opening.rollback_plan(
        operation, "", environment="staging", inventory="inventories/staging", hosts=["db1", "db2"],
        opened_at="2026-11-29T02:00:00Z",
    )  # fmt: skip
    assert plan
    assert "{" not in plan


def step(status: str, module: str = "pg_vacuum", state: str = "ok", **more: Any) -> dict[str, Any]:
    figures = {"status": status} if module.startswith(("pg_", "change_")) else {}
    return {"task": "Vacuum", "module": module, "state": state, "status": status, "handled": False,
            "started_at": "2026-11-29T02:05:00Z",
            "msg": f"It is {status}.", "figures": figures} | more  # fmt: skip


@pytest.mark.parametrize(("found", "expected"), [
    ({}, Status.UNKNOWN),
    ({"db": [step("ok")]}, Status.OK),
    ({"db": [step("ok", state="skipped")]}, Status.UNKNOWN),
    ({"db": [step("ok")], "db2": [step("breach", state="failed")]}, Status.BREACH),
    ({"db": [step("ok"), step("unknown")]}, Status.UNKNOWN),
    # What was rescued is no fault, and a ticket is no work.
    ({"db": [step("ok"), step("breach", state="failed", handled=True)]}, Status.OK),
    ({"db": [step("ok", "change_ticket")]}, Status.UNKNOWN),
    # A person's step was waited for.
    ({"db": [step("ok", "ansible.builtin.pause")]}, Status.OK),
    # Of a module that is not ours only a failure counts.
    ({"db": [step("ok", "ansible.builtin.debug")]}, Status.UNKNOWN),
    ({"db": [step("ok"), step("breach", "ansible.builtin.command", state="failed")]}, Status.BREACH),
])  # fmt: skip
def test_the_steps_of_a_run_answer_for_its_work(found, expected):
    assert steps.judge(steps.chosen(found, [], "")) is expected


def test_what_stands_before_the_work_is_none():
    before = step("breach", "pg_backup_verify", state="failed", started_at="2026-11-29T02:00:00Z")
    told = step("ok", "change_notice", started_at="2026-11-29T02:01:00Z", figures={"status": "ok", "answers": "team"})
    assert steps.judge(steps.chosen({"db": [before, told]}, [], "")) is Status.UNKNOWN
    assert steps.judge(steps.chosen({"db": [before, told, step("ok")]}, [], "")) is Status.OK


def test_a_look_between_two_parts_of_the_work_hides_no_part_of_it():
    looks = [
        step("ok", "change_probe", started_at=f"2026-11-29T02:{minute}:00Z",
             figures={"status": "ok", "answers": "health:db"})
        for minute in ("01", "10")
    ]  # fmt: skip
    found = {"db": [looks[0], step("breach", "pg_archive", state="failed"), looks[1]]}
    assert steps.judge(steps.chosen(found, [], "")) is Status.BREACH


def test_only_the_steps_of_one_host_and_of_some_modules_count():
    found = {
        "db1": [step("ok", "pg_backup_verify", figures={"status": "ok", "backups": ["b1", "b0"]})],
        "db2": [step("breach", "pg_backup_verify", state="failed"), step("ok")],
    }
    assert steps.judge(steps.chosen(found, ["pg_backup_verify"], "db1")) is Status.OK
    assert steps.proof(steps.chosen(found, ["pg_backup_verify"], "db1")) == "b1"
    assert steps.judge(steps.chosen(found, ["pg_backup_verify"], "db2")) is Status.BREACH
    assert steps.judge(steps.chosen(found, ["pg_backup"], "db1")) is Status.UNKNOWN
