"""Sections of the report: what is shown of each module, of one that no section knows, and what needs a person."""

from __future__ import annotations

import re
from typing import Any

import pytest
import record_samples as samples
from ansible.module_utils.runbook.report import attention, metrics, render, sections, terminal, view
from ansible.module_utils.runbook.report.section import MAX_ROWS
from conftest import ROOT

#: What would be lost by a rollback, as pg_rollback_plan says it.
PLAN: dict[str, Any] = {
    "status": "ok", "method": "backup", "point": "2026-03-01T01:00:00+00:00", "backup_id": "2026-03-01T01-00-00Z",
    "newer_rows": 1300, "unknown_tables": ["public.notes"],
    "next_step": "clinic is as it was. To replace it: the same command with -e db_rollback_replace=clinic",
    "losses": [
        {"table": "public.audit_log", "rows": 9000, "newer_rows": 300, "evidence": "column",
         "columns": ["created_at"], "at_least": True, "reason": ""},
        {"table": "public.messages", "rows": 5000, "newer_rows": 1000, "evidence": "commit_timestamp", "columns": [],
         "at_least": False, "reason": ""},
        {"table": "public.notes", "rows": 7, "newer_rows": None, "evidence": "none", "columns": [], "at_least": False,
         "reason": "no column says when a row was written"},
        {"table": "public.tags", "rows": 3, "newer_rows": 0, "evidence": "column", "columns": [], "at_least": False,
         "reason": ""},
    ],
}  # fmt: skip
LOST = (
    "At least 1,300 rows are newer than that point, and the rollback loses them: public.messages 1,000, "
    "public.audit_log 300. What it loses is not known of 1 table: public.notes. clinic is as it was. To replace it: "
    "the same command with -e db_rollback_replace=clinic."
)


def a_run(module: str, figures: dict[str, Any], state: str = "ok", **more: Any) -> dict[str, Any]:
    sample = samples.Sample(playbook="p", check_mode=more.pop("check_mode", False))
    sample.step("Look", module, "db1", state, figures=figures, **{"msg": "Looked.", **more})
    record = samples.fold(sample.end(db1={"failures": int(state == "failed")}).events)
    samples.VALIDATOR.validate(record)
    return record


def words(page: str) -> str:
    """The text of a page, each run of white space as one space."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


# --- all sections -----------------------------------------------------------------------------------------------------


def test_each_section_is_of_modules_that_there_are():
    modules = {path.stem for path in (ROOT / "library").glob("*.py")}
    named = {module for section in sections.SECTIONS for module in (*section.modules, *section.covers)}
    assert named <= modules


def test_each_metric_is_explained_once():
    named = [name for section in sections.SECTIONS for name in section.metrics]
    assert len(named) == len(set(named)) == len(sections.METRICS)


# --- a module that no section knows -----------------------------------------------------------------------------------


def test_of_a_module_without_a_section_everything_is_shown():
    figures = {
        "status": "ok", "size_bytes": 0, "is_open": False, "names": ["a", "b"], "nothing": None, "none": [],
        "holder": {"run_id": "r1", "purpose": None, "since_s": 75},
        "checks": [{"name": "chain", "status": "ok", "msg": "It is whole."}],
        "hosts": [{"host": "a.example", "days_left": 12, "names": ["x", "y"]}, {"host": "b.example", "more": {"k": 1}}],
        "executed_queries": ["SELECT 1"],
    }  # fmt: skip
    record = a_run("a.collection.of_tomorrow", figures)
    (panel,) = sections.panels(record, "db1")
    assert (panel.title, panel.msg) == ("Look", "Looked.")
    assert panel.grid == [
        ("Size", "0 B"), ("Is open", "no"), ("Names", "a, b"), ("Holder: run ID", "r1"),
        ("Holder: since", "1 min 15 s"),
    ]  # fmt: skip
    assert panel.checks == [{"name": "chain", "status": "ok", "msg": "It is whole."}]
    (table,) = panel.tables
    assert (table.title, table.is_open) == ("Hosts", False)
    assert table.head == [("Host", ""), ("Days left", "num"), ("Names", ""), ("More", "")]
    assert table.rows == [["a.example", "12", "x, y", "–"], ["b.example", "–", "–", "k: 1"]]
    for text in (words(render.html(record, [], [])), render.markdown(record, [], [])):
        assert "It is whole." in text
        assert "a.example" in text


def test_entries_that_are_no_checks_are_not_lost_among_them():
    (panel,) = sections.panels(a_run("of_tomorrow", {"checks": [{"code": 7}], "findings": [{"id": "x"}]}), "db1")
    assert [(table.title, table.rows) for table in panel.tables] == [("Checks", [["7"]]), ("Findings", [["x"]])]


def test_of_a_long_list_the_report_says_how_much_is_left_out():
    listed = {"hosts": [{"host": f"h{number}"} for number in range(600)], "hosts_left_out": 5}
    (panel,) = sections.panels(a_run("of_tomorrow", listed), "db1")
    assert (len(panel.tables[0].rows), panel.tables[0].count) == (MAX_ROWS, 605)


# --- what was in no report --------------------------------------------------------------------------------------------


def test_what_a_rollback_would_lose_is_shown_table_by_table():
    record = a_run("pg_rollback_plan", PLAN)
    (panel,) = sections.panels(record, "db1")
    (table,) = panel.tables
    assert [row[:4] for row in table.rows] == [
        ["public.audit_log", "9,000", "300", "yes"],
        ["public.messages", "5,000", "1,000", "no"],
        ["public.notes", "7", "–", "no"],
        ["public.tags", "3", "0", "no"],
    ]
    page, text = words(render.html(record, [], [])), render.markdown(record, [], [])
    assert "What would be lost, table by table (4)" in page
    assert "| public.messages | 5,000 | 1,000 |" in text
    assert "no column says when a row was written" in page


def test_how_a_copy_differs_is_shown_table_by_table():
    differences = [
        {"table": "public.notes", "status": "differs", "live_rows": 5, "copy_rows": 4, "reason": ""},
        {"table": "public.tags", "status": "unknown", "live_rows": None, "copy_rows": None, "reason": "too big"},
    ]
    page = words(render.html(a_run("pg_rollback_compare", {"differences": differences, "differing": 2}), [], []))
    assert "public.notes differs 5 4" in page
    assert "public.tags unknown – – too big" in page


@pytest.mark.parametrize(
    ("module", "title"), [("pg_integrity", "Integrity"), ("supabase_restore", "Restore by Supabase")]
)
def test_checks_are_shown(module, title):
    checks = [
        {"name": "sequences", "status": "ok", "msg": "12 sequences are ahead."},
        {"name": "foreign_keys", "status": "breach", "msg": "3 rows of <b> have no parent.", "subject": "public.tags"},
    ]
    record = a_run(module, {"status": "breach", "checks": checks}, "failed")
    page = words(render.html(record, [], []))
    assert f"{title} Looked." in page
    assert "12 sequences are ahead." in page
    assert "3 rows of &lt;b&gt; have no parent." in page
    assert "foreign_keys: public.tags" in page
    assert "| foreign\\_keys: public.tags | breach |" in render.markdown(record, [], [])


# --- what needs a person ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_would_be_lost_stands_at_the_top_and_last_on_the_terminal(check_mode):
    record = a_run("pg_rollback_plan", PLAN, check_mode=check_mode, warnings=["An extension is missing."])
    assert record["status"] == "ok"
    last = terminal.last_warnings(record)
    assert last == ["db1: An extension is missing.", f"db1, Look: {LOST}"]
    page = words(render.html(record, [], []))
    assert "1 point needs a person." in page
    assert page.index(LOST) < page.index("Warnings and notes") < page.index("Time per step")
    assert render.markdown(record, [], []).index("What it loses is not known") < 600
    wrapped = terminal.last_warnings(record, 79)[-1]
    assert max(map(len, f"[WARNING]: {wrapped}".splitlines())) <= 79


def test_a_rollback_that_loses_nothing_needs_nobody():
    nothing = PLAN | {"losses": PLAN["losses"][-1:], "newer_rows": 0, "unknown_tables": []}
    record = a_run("pg_rollback_plan", nothing)
    assert attention.needs(record) == []
    assert view.report(record, [])["verdict"] == "All well."


def test_a_rollback_that_failed_ends_with_why():
    sample = samples.Sample()
    sample.step("Plan", "pg_rollback_plan", "db1", figures=PLAN)
    sample.step("Restore", "pg_restore", "db1", "failed", msg="The disk is full; make room.")
    record = samples.fold(sample.end(db1={"failures": 1}).events)
    assert terminal.last_words(record) == ["db1, Restore, failed: The disk is full; make room."]
    assert [need["tone"] for need in attention.needs(record)] == ["failed", "handled"]


def test_red_stands_before_unknown_and_both_are_told():
    sample = samples.Sample()
    sample.step("Ask", "pg_backup_verify", "db1", msg="Asked.", figures={"status": "unknown"}, warnings=["Grant it."])
    sample.step("Look", "s3_bucket_check", "db1", "changed", msg="1 of 2 checks is not ok.", figures={
        "status": "breach",
        "checks": [{"name": "versioning", "status": "breach", "msg": "Switch it on."},
                   {"name": "acl", "status": "unknown", "msg": "Nobody may read it."}],
    })  # fmt: skip
    record = samples.fold(sample.end(db1={}).events)
    told = ["db1, Look, breach: 1 of 2 checks is not ok. Switch it on.", "db1, Ask, unknown: Asked. Grant it."]
    assert terminal.last_words(record) == told
    page = words(render.html(record, [], []))
    assert page.index("Switch it on.") < page.index("Asked. Grant it.") < page.index("Time per step")


def test_a_host_that_failed_twice_in_the_same_words_is_named_once():
    sample = samples.Sample()
    for _ in range(2):
        sample.step("Tell", "pg_bloat_info", "db1", "failed", msg="It broke.")
    record = samples.fold(sample.end(db1={"failures": 1}).events)
    assert terminal.last_words(record) == ["db1, Tell, failed: It broke."]


def test_a_dry_run_of_a_cleanup_would_delete_and_moves_nothing():
    figures = {"planned_rows": 120, "deleted_rows": 0, "cascaded_rows": 0}
    (line,) = terminal.summary_lines(a_run("pg_cleanup", figures, "changed", check_mode=True), None)
    assert "would delete 120 rows" in line
    assert "move" not in line
    (line,) = terminal.summary_lines(a_run("pg_copy_cleanup", {"removed_databases": ["app_left"]}, "changed"), None)
    assert "1 copy of the database dropped" in line


def test_a_run_that_checked_several_things_says_all_of_it():
    sample = samples.Sample()
    checks = [{"name": "age", "status": "ok", "msg": "", "subject": ""}]
    for module, msg in (("pg_backup_verify", "The backups are good."), ("s3_bucket_info", "The bucket is good.")):
        sample.step("Check", module, "db1", msg=msg, figures={"status": "ok", "checks": checks})
    (line,) = terminal.summary_lines(samples.fold(sample.end(db1={}).events), None)
    assert line.endswith("The backups are good. The bucket is good.")


def test_the_doctors_report_ends_with_what_is_not_ok_and_says_first_what_to_do():
    checks = [
        {"name": "disk", "status": "breach", "msg": "Make room.", "subject": ""},
        {"name": "clock", "status": "unknown", "msg": "Start chrony.", "subject": ""},
        {"name": "python", "status": "ok", "msg": "It is 3.12.", "subject": ""},
    ]
    figures = {"status": "breach", "checks": checks}
    record = a_run("runbook_doctor", figures, "failed", msg="2 of 3 checks are not ok: disk, clock.")
    text = render.markdown(record, [], [])
    order = [text.index(word) for word in ("clock.", "Make room. Start chrony.", "It is 3.12.")]
    assert order == sorted(order)
    assert text.rindex("Make room.") > text.index("It is 3.12.")
    assert "Make room." not in " ".join(terminal.last_words(record))


@pytest.mark.parametrize(("ends_at", "shown"), [
    ("2026-03-01T08:00:00+00:00", "until 08:00 UTC"),
    ("2026-03-02T01:30:00+01:00", "until 2 Mar 00:30 UTC"),
])  # fmt: skip
def test_the_end_of_the_maintenance_window_fits_into_its_card(ends_at, shown):
    record = a_run("runbook_preflight", {"status": "ok", "window": {"ends_at": ends_at}})
    assert ("Maintenance window", shown) in view.report(record, [record])["headline"]


def test_what_the_playbook_handled_needs_nobody():
    assert attention.needs(a_run("pg_archive", {"status": "breach"}, "failed", ignored=True)) == []


# --- lasting metrics --------------------------------------------------------------------------------------------------


def test_of_two_subjects_that_know_the_same_the_later_step_counts():
    proof = {"status": "ok", "proof_key": "k", "proof": {"status": "ok"}}
    verified = {"status": "ok", "last_proof": {"status": "breach", "proven_at": None}}
    for order, success in ((("pg_restore", "pg_backup_verify"), 0.0), (("pg_backup_verify", "pg_restore"), 1.0)):
        sample = samples.Sample()
        for module in order:
            sample.step("Act", module, "db1", figures=proof if module == "pg_restore" else verified)
        facts = sections.lasting(samples.fold(sample.end(db1={}).events))
        assert facts["db1"]["backup_last_proof_success"] == success


def test_a_metric_with_a_label_has_a_value_for_each():
    record = a_run("pg_index_info", {"findings": [], "unknown": [], "status": "ok"})
    text = metrics.metrics(record, sections.lasting(record))
    assert 'runbook_findings{playbook="p",host="db1",severity="critical"} 0' in text


# --- updates of an application ----------------------------------------------------------------------------------------


def test_what_breaks_in_a_major_version_stands_first():
    record = a_run(
        "app_update",
        {
            "status": "ok", "branch": "runbook/major-next", "updated_packages": 1,
            "updates": [{"package": "next", "from": "14.2.3", "to": "15.0.1", "step": "major", "is_direct": True}],
            "changelogs": [
                {"package": "next", "from": "14.2.3", "to": "15.0.1", "lines": ["## 15.0.0", "- <b>gone</b>"],
                 "source": "https://example.com/next"},
                {"package": "pg", "from": "1.0.0", "to": "2.0.0", "lines": [], "source": "https://example.com/pg"},
            ],
        },
    )  # fmt: skip
    page = render.html(record, [], [])
    text = words(page)
    assert text.index("next 14.2.3 -&gt; 15.0.1: what breaks") < text.index("What changes")
    assert "- &lt;b&gt;gone&lt;/b&gt;" in page
    assert "It ships no changelog that tells it; read https://example.com/pg" in text


def test_outdated_packages_are_metrics_by_how_far_they_are():
    figures = {"status": "ok", "outdated_packages": 3, "outdated": [{"step": "major"}, {"step": "patch"}, {"step": ""}]}
    known = sections.lasting(a_run("app_updates_info", figures))["db1"]
    assert known["packages_outdated"] == {"major": 1, "minor": 0, "patch": 1}
    unknown = a_run("app_updates_info", {"status": "unknown"}, state="failed", status="unknown")
    assert "packages_outdated" not in sections.lasting(unknown).get("db1", {})
