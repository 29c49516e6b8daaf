"""What a drill advises to change."""

from __future__ import annotations

import drill_samples as samples
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import advice, documents, figures


def advised(found: figures.Attainable | None = None, **changes: object) -> str:
    return "\n".join(advice.advice(samples.drill(**changes), found))


def test_a_green_drill_asks_for_nothing():
    assert advice.advice(samples.drill(), figures.attainable(archive_timeout_s=60)) == []


def test_a_missed_rpo_leads_from_dumps_to_point_in_time_recovery():
    said = advised(measured={"rpo_s": 40_000.0}, recovery={"way": "dump"})
    assert "set up point-in-time recovery (pitr.yml)" in said
    assert "archive_timeout" in advised(measured={"rpo_s": 4000.0})
    assert "synchronous standby" in advised(objectives={"rpo_s": 0})


def test_a_small_copy_asks_for_a_larger_one_and_not_for_a_faster_disk():
    slow = {"restore_s": 20_000.0, "production_bytes": 200 << 30}
    assert "beyond RTO 4 h (an estimate)" in advised(extrapolation=slow, measured={"database_bytes": 2 << 30})
    small = advised(extrapolation=slow, measured={"database_bytes": (2 << 30) - 1})
    assert small.startswith("Restore a copy of at least 2.0 GiB")
    assert advised(extrapolation={"restore_s": 2.0}, measured={"database_bytes": 1}) == ""


def test_a_missed_rto_names_the_phase_that_took_longest():
    assert "phase restore took longest, 24 s: restore with more jobs" in advised(objectives={"rto_s": 10})
    slow = samples.drill()["phases"][:1]
    assert "the pauses between the phases took longest" in advised(objectives={"rto_s": 10}, phases=slow)
    assert "RTO is unknown" in advised(measured={"rto_s": None}, service_at=None)
    neither = advised(measured={"rto_s": None, "rpo_s": None}, service_at=None)
    assert "RTO and RPO are unknown" in neither
    assert "heartbeat" not in neither, "nothing came back that could tell"


def test_everything_that_was_not_well_is_named():
    said = advised(
        figures.attainable(backup_interval_s=86_400, backup_duration_s=60),
        measured={"rpo_s": None},
        checks=[
            {"name": "files", "status": "unknown", "msg": "No bucket is named."},
            {"name": "tables", "status": "breach", "msg": "public.notes differs."},
        ],
        recovery={"skipped": [{"backup_id": "2026-03-01T01-00-00Z", "reason": "bad hash"}], "costs_s": 86_400.0},
        extrapolation={"restore_s": 20_000.0},
        tear_down={"status": "breach", "msg": "Port 5499 is still open."},
    ).splitlines()
    assert said[0] == "Fix what check tables found: public.notes differs."
    assert said[1] == "Make check files able to judge: No bucket is named."
    for part in (
        "RPO is unknown: see that the heartbeat",
        "RPO 1 h cannot be promised. Point-in-time recovery can",
        "2026-03-01T01-00-00Z could not be used, which cost 24 h of work",
        "beyond RTO 4 h (an estimate)",
        "Port 5499 is still open.",
    ):
        assert sum(part in sentence for sentence in said) == 1, part


def test_a_backup_that_the_scenario_made_bad_is_no_news():
    skipped = {"skipped": [{"backup_id": "b", "reason": "bad hash"}]}
    assert "b could not be used" in advised(recovery=skipped)
    assert advised(recovery=skipped, scenario="newest_backup_bad") == ""


def test_a_phase_that_failed_is_named():
    phases = samples.drill()["phases"]
    phases[3] |= {"status": "breach", "msg": "WAL 00000001000000000000002A is missing."}
    sentence = "Phase restore ended breach: WAL 00000001000000000000002A is missing."
    assert sentence in advised(phases=phases)
    why = {"backup_id": "b", "reason": "the restore failed: WAL 00000001000000000000002A is missing."}
    assert sentence not in advised(phases=phases, recovery={"skipped": [why]}), "it was skipped for that"
    wal = {"name": "archive", "status": "breach", "msg": "WAL 00000001000000000000002A is missing."}
    assert sentence not in advised(phases=phases, checks=[wal]), "a check says it"


def test_what_is_no_document_is_refused():
    with pytest.raises(RunbookError, match=r"^d\.json: not a drill's document"):
        documents.read(["drill"], source="d.json")
    document = samples.drill()
    del document["advice"]
    with pytest.raises(RunbookError, match="advice is missing"):
        documents.read(document, source="d.json")
