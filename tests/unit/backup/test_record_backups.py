"""Backups in the record: what is shown of them, and what outlasts the run that found it out."""

from __future__ import annotations

from typing import Any

import pytest
import record_samples as samples
from ansible.module_utils.runbook.report import render, section, sections, view
from ansible.module_utils.runbook.rules import record as rules

DAY_S = 86_400
#: The figures of a good backup, as pg_backup returns them.
BACKUP: dict[str, Any] = {
    "backup_id": "2026-03-01T02-00-01Z", "folder": "sandbox/mental_scribe/2026-03-01T02-00-01Z/",
    "manifest": "sandbox/mental_scribe/2026-03-01T02-00-01Z/manifest.json", "bucket": "backups",
    "database": "mental_scribe", "size_bytes": 450_000_000, "dump_bytes": 1_900_000_000, "tables": 21,
    "rows": 6_000_000, "duration_s": 19.0, "rate_bytes_s": 1e8, "hash_s": 11.5, "objects": 4,
    "snapshot_at": "2026-03-01T02:00:02+00:00", "hash_coverage": "all", "status": "ok", "plan": {"tables": 21},
}  # fmt: skip
VERIFIED: dict[str, Any] = {
    "checks": [
        {"name": "age", "status": "ok", "msg": "The newest complete backup is 1 h old."},
        {"name": "lock", "status": "unknown", "msg": "The server does not tell."},
    ],
    "backups": ["2026-03-01T02-00-01Z"], "age_s": 3600.0, "size_bytes": 450_000_000,
    "last_good_backup": "2026-03-01T02:00:01+00:00",
    "last_proof": {
        "backup_id": "2026-02-28T02-00-01Z", "proven_at": "2026-02-28T05:00:00Z", "status": "ok", "age_s": 75_600.0,
    },
    "read_bytes": 450_000_000, "rate_bytes_s": 200_000_000, "waited_s": 0.0, "status": "unknown",
}  # fmt: skip
RESTORED: dict[str, Any] = {
    "backup_id": "2026-03-01T02-00-01Z", "database": "mental_scribe", "target_database": "proof_1", "tables": 3,
    "rows": 6_000_000, "size_bytes": 450_000_000, "restored_bytes": 1_900_000_000, "duration_s": 44.0,
    "rate_bytes_s": 4.3e7, "proof_key": "sandbox/mental_scribe/2026-03-01T02-00-01Z/proof-1.json",
    "proof": {
        "status": "breach", "compared": 3, "ok": 1, "differs": ["public.audit_log"], "unknown": ["public.notes"],
        "reasons": {"public.audit_log": "hash differs <b>", "public.notes": "no hash"},
    },
    "status": "breach",
}  # fmt: skip


def run(module: str, figures: dict[str, Any], start_s: float = samples.START_S, **more: Any) -> samples.Sample:
    """A run of one step."""
    sample = samples.Sample(
        start_s, playbook="backup", **{key: more.pop(key) for key in ("check_mode",) if key in more}
    )
    sample.step("Act", module, "db1", more.pop("state", "changed"), figures=figures, msg="Done.", **more)
    return sample.end(db1={"changed": 1})


def folded(*arguments: Any, **more: Any) -> dict[str, Any]:
    return samples.fold(run(*arguments, **more).events)


def test_a_good_backup_outlasts_its_run():
    assert sections.lasting(folded("pg_backup", BACKUP)) == {
        "db1": {
            "backup_last_good_timestamp_seconds": rules.epoch_s(BACKUP["snapshot_at"]),
            "backup_size_bytes": 450_000_000,
            "backup_dump_bytes": 1_900_000_000,
            "backup_duration_seconds": 19.0,
        }
    }


@pytest.mark.parametrize(
    ("figures", "more"),
    [
        (BACKUP | {"status": "breach"}, {"state": "failed"}),
        (BACKUP | {"status": "unknown"}, {}),
        (BACKUP | {"manifest": ""}, {}),
        (BACKUP, {"check_mode": True}),
    ],
    ids=["failed", "unknown", "without manifest", "check mode"],
)
def test_what_is_no_backup_is_not_taken_for_one(figures, more):
    assert sections.lasting(folded("pg_backup", figures, **more)) == {}


def test_a_verification_knows_the_last_good_backup_and_the_last_proof_even_when_it_is_red():
    facts = sections.lasting(folded("pg_backup_verify", VERIFIED, state="failed"))["db1"]
    assert facts == {
        "backup_last_good_timestamp_seconds": rules.epoch_s("2026-03-01T02:00:01+00:00"),
        "backup_last_proof_timestamp_seconds": rules.epoch_s("2026-02-28T05:00:00+00:00"),
        "backup_last_proof_success": 1.0,
    }
    nothing = VERIFIED | {"last_good_backup": None, "last_proof": None}
    assert sections.lasting(folded("pg_backup_verify", nothing)) == {}


def test_a_proof_that_failed_is_no_proof():
    assert sections.lasting(folded("pg_restore", RESTORED, state="failed")) == {
        "db1": {"backup_last_proof_success": 0.0}
    }
    good = RESTORED | {"proof": RESTORED["proof"] | {"status": "ok"}, "status": "ok"}
    facts = sections.lasting(folded("pg_restore", good))["db1"]
    assert facts["backup_last_proof_success"] == 1.0
    assert facts["backup_last_proof_timestamp_seconds"] >= samples.START_S
    assert sections.lasting(folded("pg_restore", good | {"proof_key": None})) == {}


def test_recovery_and_files_outlast_their_runs():
    found = {
        "checks": [], "oldest_restorable": "2026-02-20T00:00:00+00:00", "newest_restorable": None,
        "backup_age_s": 100.0, "oldest_ready_s": 7.0, "gaps": [["a", "b"]],
    }  # fmt: skip
    facts = sections.lasting(folded("pg_pitr_check", found))["db1"]
    at = facts["pitr_last_check_timestamp_seconds"]
    assert facts["pitr_last_base_backup_timestamp_seconds"] == at - 100
    assert facts["pitr_gaps"] == 1
    assert facts["pitr_oldest_ready_seconds"] == 7
    assert "pitr_newest_restorable_timestamp_seconds" not in facts
    assert sections.lasting(folded("pg_pitr_check", {"msg": "refused"})) == {}
    assert sections.lasting(folded("pg_pitr_setup", {"checks": []})) == {}, "it looked at no archive"
    assert "files_last_mirror_timestamp_seconds" in sections.lasting(folded("s3_mirror", {"status": "ok"}))["db1"]
    assert sections.lasting(folded("s3_mirror", {"status": "unknown"})) == {}


def test_a_failed_run_leaves_the_last_good_backup_where_it_was(tmp_path):
    for day, (state, figures) in enumerate((("changed", BACKUP), ("failed", {"status": "breach"}))):
        start = samples.START_S + day * DAY_S
        name = f"{rules.timestamp(start)[:19].replace('-', '').replace(':', '')}Z-backup"
        last = run("pg_backup", figures, start, state=state).write(tmp_path / name)
        render.render_run(last, publish=True)
    text = (tmp_path / "metrics/backup.prom").read_text()
    moment = rules.epoch_s(BACKUP["snapshot_at"])
    assert f'runbook_backup_last_good_timestamp_seconds{{playbook="backup",host="db1"}} {moment!r}' in text
    assert 'runbook_run_success{playbook="backup"} 0' in text


def test_the_report_shows_a_backup_with_its_trends():
    history = [
        view.point(folded("pg_backup", BACKUP | {"size_bytes": 10**8 * n, "duration_s": float(n)},
                            samples.START_S + n * DAY_S), f"run{n}")
        for n in range(1, 5)
    ]  # fmt: skip
    shown = view.report(folded("pg_backup", BACKUP), history)
    assert {"Backup size", "Backup duration", "Backup rate"} <= {each["title"] for each in shown["trends"]}
    assert "Rows moved" not in {each["title"] for each in shown["trends"]}
    assert ("Backup", "429 MiB") in shown["headline"]
    (panel,) = shown["hosts"][0]["panels"]
    grid = dict(panel.grid)
    assert grid["Rate"] == "95.4 MiB/s"
    assert grid["Size"] == "429 MiB"
    assert all(len(each["cells"]) == len(shown["trends"]) for each in shown["history"])


def test_a_step_that_was_skipped_has_no_heading_of_its_own():
    skipped = {"skip_reason": "Conditional result was False", "false_condition": "steps.backup"}
    shown = view.report(folded("pg_backup", skipped, state="skipped"), [])
    assert shown["hosts"][0]["panels"] == []


def test_a_backup_that_failed_is_not_drawn_as_a_small_one():
    point = view.point(folded("pg_backup", BACKUP | {"size_bytes": 0, "status": "breach"}, state="failed"), None)
    assert point["backup_bytes"] is None


def test_the_report_names_the_tables_that_a_proof_could_not_confirm():
    record = folded("pg_restore", RESTORED, state="failed")
    page = render.html(record, [], [])
    assert "public.audit_log" in page
    assert "hash differs &lt;b&gt;" in page
    assert "<b>" not in page.replace("<body>", "")
    text = render.markdown(record, [], [])
    assert "| public.audit\\_log | differs | hash differs \\<b\\> |" in text
    assert "| Table | State | Why |\n| --- | --- | --- |\n|" in text


def test_the_report_shows_checks_and_what_retention_does():
    verified = view.report(folded("pg_backup_verify", VERIFIED), [])["hosts"][0]["panels"][0]
    assert [check["status"] for check in verified.checks] == ["ok", "unknown"]
    assert dict(verified.grid)["Last proof"] == "everything agrees, 2026-02-28 05:00:00 UTC"
    plan = [{"backup_id": f"b{n}", "action": "keep", "reason": "daily", "size_bytes": 5} for n in range(600)]
    kept = view.report(folded("pg_backup_retention", {"plan": plan, "kept": 600}), [])["hosts"][0]["panels"][0]
    assert kept.tables[0].count == 600
    assert len(kept.tables[0].rows) == section.MAX_ROWS
    assert "585 more in report.html" in render.markdown(folded("pg_backup_retention", {"plan": plan}), [], [])


@pytest.mark.parametrize("module", sorted(module for each in sections.SECTIONS for module in each.modules))
def test_each_module_is_shown_whatever_it_found(module):
    for figures in ({"status": "unknown"}, {"status": "breach", "checks": None, "proof": None, "plan": {"a": 1}}):
        record = folded(module, figures, state="failed")
        assert "Done." in render.html(record, [], [])
        assert "Done." in render.markdown(record, [], [])


def test_bytes_over_time_are_drawn_for_the_longer_of_two_courses():
    sample = samples.Sample(playbook="restore")
    task = sample.task("Restore", "pg_restore", "db_restore")
    sample.start(task, "db1")
    for label, count in (("restore x", 20), ("prove x", 5)):
        for number in range(count):
            sample.add("progress", after_s=1.0, task=task, host="db1", label=label, done=number * 10**6, total=10**8,
                       unit="bytes", rate=1.0)  # fmt: skip
    sample.result(task, "db1", "changed", figures=RESTORED)
    record = samples.fold(sample.end(db1={}).events)
    drawn, numbers = section.course(record["hosts"]["db1"]["steps"][0])
    assert [chart.title for chart in drawn] == ["Bytes over time", "Bytes per second"]
    assert drawn[0].description.startswith("restore x: ")
    assert numbers[0].count == 20
    assert "Bytes per second" in render.html(record, [], [])
