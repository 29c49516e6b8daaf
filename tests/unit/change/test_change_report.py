"""The report of a change: its checklists and its timeline, also of a run that stopped in the middle."""

from __future__ import annotations

from typing import Any

import record_samples as samples
from ansible.module_utils.runbook.report import render, terminal
from ansible.module_utils.runbook.report.sections import change

WAY_BACK = "ansible-playbook playbooks/rollback.yml -e db_rollback_before=2026-03-01T02:00:00Z"
OPENED = {
    "status": "ok", "change_id": "20260301T020000Z-weekly_db-abc123", "answers": "rollback_plan", "proof": WAY_BACK,
    "rollback_plan": WAY_BACK,
    "items": ["ticket", "rollback_plan", "health:db1", "health:db2", "team", "maintenance_mode", "work",
              "maintenance_mode_off", "soak"],
}  # fmt: skip
TICKET = "https://github.com/clinic/operations/issues/7"


def said(sample: samples.Sample, task: str, module: str, answers: str, host: str = "db1", **more: Any) -> None:
    figures = {"answers": answers, "proof": more.pop("proof", ""), "status": more.pop("status", "ok")}
    sample.step(task, module, host, more.pop("state", "ok"), figures=figures | more.pop("figures", {}), **more)


def begun(**facts: Any) -> samples.Sample:
    """A run on two databases, up to its work."""
    sample = samples.Sample(**facts)
    # What a dead run left is ended before; that is no answer of this change.
    said(sample, "Maintenance mode: off", "maintenance_mode", "maintenance_mode_end", msg="Of a dead run.")
    sample.step("Open the change", "change_open", "db1", figures=OPENED, msg="The change was opened.")
    said(sample, "Ticket: open it", "change_ticket", "ticket", msg="Ticket 7 was opened.", proof=TICKET,
         figures={"ticket_url": TICKET, "ticket_id": "7"})  # fmt: skip
    for host in ("db1", "db2"):
        said(sample, "Application: does it work", "change_probe", f"health:{host}", host, msg="All checks are ok.")
    said(sample, "Team: tell them", "change_notice", "team", msg="Skipped: …", proof="skipped by the inventory")
    said(sample, "Maintenance mode: on", "maintenance_mode", "maintenance_mode", msg="Turned on.")
    return sample


def folded(sample: samples.Sample, **failures: int) -> dict[str, Any]:
    record = samples.fold(sample.end(**{host: {"failures": number} for host, number in failures.items()}).events)
    samples.VALIDATOR.validate(record)
    return record


def stopped() -> dict[str, Any]:
    """The work failed, and the end of the run turned maintenance mode off."""
    sample = begun()
    sample.step(
        "Vacuum and analyze", "pg_vacuum", "db2", "failed", figures={"status": "breach"}, msg="A table is gone."
    )
    said(sample, "End maintenance mode", "maintenance_mode", "maintenance_mode_end", msg="Turned off.")
    return folded(sample, db1=0, db2=1)


def words(record: dict[str, Any]) -> dict[str, str]:
    (panel,) = change.of_run(record)
    return {
        f"{line.name}:{line.host}" if line.host else line.name: line.word
        for lines in panel.content.lists.values()
        for line in lines
    }


def test_a_run_that_stopped_in_the_middle_has_no_answer_to_what_it_did_not_come_to():
    record = stopped()
    assert words(record) == {
        "ticket": "done", "rollback_plan": "done", "health:db1": "done", "health:db2": "done", "team": "skipped",
        "maintenance_mode": "done", "work": "unknown", "maintenance_mode_off": "done", "soak": "unknown",
    }  # fmt: skip
    (panel,) = change.of_run(record)
    assert panel.content.summary == "6 of 8 lines done; 1 skipped by the inventory; unknown: work, soak."
    assert list(panel.content.lists) == ["Before", "During", "After"]
    rows = [(event.task, list(event.hosts), event.tone) for event in panel.content.events]
    # The same of two databases is one row; what is of the run names none.
    assert rows[2:4] == [("Ticket: open it", [], "ok"), ("Application: does it work", ["db1", "db2"], "ok")]
    assert rows[-2:] == [("Vacuum and analyze", ["db2"], "failed"), ("End maintenance mode", [], "ok")]


def test_a_dead_runs_mode_is_no_answer_of_this_change():
    assert words(folded(begun(), db1=0, db2=0))["maintenance_mode_off"] == "unknown"


def test_what_warns_only_is_unknown_and_what_blocks_has_failed():
    sample = begun()
    said(sample, "Team: tell them", "change_notice", "team", msg="No answer.", status="unknown")
    said(sample, "Soak", "change_soak", "soak", msg="Too many failed.", status="breach", state="failed")
    found = words(folded(sample, db1=1, db2=0))
    assert (found["team"], found["soak"]) == ("unknown", "failed")


def test_each_contact_has_its_line_and_the_last_look_counts_for_what_no_step_showed():
    sample = samples.Sample()
    items = ["contact:security_team", "contact:devops_sre", "review", "work"]
    sample.step("Open the change", "change_open", "db1", figures=OPENED | {"items": items}, msg="Opened.")
    checks = [{"name": "told", "status": status, "msg": f"{role}.", "subject": role}
              for role, status in (("security_team", "ok"), ("devops_sre", "unknown"))]  # fmt: skip
    sample.step("Contacts", "change_contacts", "db1", figures={"status": "unknown", "checks": checks}, msg="Told.")
    looked = [{"name": name, "status": "ok", "msg": "Opened.", "at": "", "proof": "due"} for name in ("review", "work")]
    said(sample, "Steps: the work", "change_steps", "work", msg="A step is not ok.", status="breach", state="failed")
    sample.step("See that nothing was left out", "change_check", "db1", figures={"status": "ok", "items": looked})
    assert words(folded(sample, db1=1)) == {
        "contact:security_team": "done", "contact:devops_sre": "unknown", "review": "done", "work": "failed"
    }  # fmt: skip


def test_check_mode_shows_a_plan():
    record = folded(begun(check_mode=True), db1=0, db2=0)
    assert words(record)["ticket"] == "planned"
    assert change.of_run(record)[0].content.summary.startswith("5 of 8 lines planned")


def test_the_report_is_of_the_run_and_stands_before_its_hosts():
    record = stopped()
    page, ticket = render.html(record, [], []), render.markdown(record, [], [])
    for text in (page, ticket):
        assert text.index("Vacuum and analyze") < text.index("The change") < text.index("db1 ")
        assert "Skipped by the inventory" in text
        assert text.count("Open a ticket") == 1
    assert f'<a href="{TICKET}">' in page
    assert ticket.index("| Before | Status | Proof |") < ticket.index("| UTC | Timeline |") < ticket.index("## Hosts")
    assert "(db2) | done |" in ticket


def test_an_address_that_is_none_is_no_link():
    sample = samples.Sample()
    sample.step("Open the change", "change_open", "db1", figures=OPENED | {"items": ["ticket"]}, msg="Opened.")
    said(sample, "Ticket: open it", "change_ticket", "ticket", proof="javascript:alert(1)", msg="<b>Opened</b>")
    page = render.html(folded(sample, db1=0), [], [])
    assert 'href="javascript' not in page
    assert "<b>Opened</b>" not in page


def test_the_terminal_names_ticket_and_way_back_where_a_person_has_to_look():
    lines = terminal.summary_lines(stopped(), 79)
    told = " ".join(line.strip() for line in lines)
    assert "Change: 6 of 8 lines done" in told
    assert f"Ticket: {TICKET}" in told
    assert f"Way back: {WAY_BACK}" in told
    assert max(map(len, lines)) <= 79
    # Once, and not for each database.
    assert told.count("Change:") == 1
    good = begun()
    for host in ("db1", "db2"):
        good.step("Vacuum and analyze", "pg_vacuum", host, figures={"status": "ok"}, msg="Vacuumed.")
    for item in ("work", "maintenance_mode_off", "soak"):
        said(good, item, "change_steps", item, msg="Done.")
    fine = " ".join(terminal.summary_lines(folded(good, db1=0, db2=0), 79))
    assert "Change: 8 of 8 lines done" in fine
    assert "Way back" not in fine
