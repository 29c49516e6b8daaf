"""The verdict on a drill against its objectives."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.rules.drill import figures, verdict

WANTED = figures.Objectives(rto_s=14_400, rpo_s=3600)
OK_CHECK = {"name": "tables", "status": "ok", "msg": "All agree.", "tables": 3}


@pytest.mark.parametrize(
    ("measured", "rto", "rpo"),
    [
        ({"rto_s": 14_400, "rpo_s": 3600}, "ok", "ok"),
        ({"rto_s": 14_400.1, "rpo_s": 0}, "breach", "ok"),
        ({"rto_s": 52, "rpo_s": 3600.1}, "ok", "breach"),
        ({"rto_s": None, "rpo_s": 1}, "unknown", "ok"),
        ({"rto_s": 52, "rpo_s": None}, "ok", "unknown"),
    ],
    ids=["exactly", "rto missed", "rpo missed", "rto unknown", "rpo unknown"],
)
def test_a_drill_is_green_only_where_both_objectives_are_known_to_be_met(measured, rto, rpo):
    found = verdict.judge(WANTED, figures.Measured(**measured), [OK_CHECK])
    assert [(check.name, check.status) for check in found.objectives] == [("rto", rto), ("rpo", rpo)]
    assert found.status == ("ok" if rto == rpo == "ok" else "breach" if "breach" in (rto, rpo) else "unknown")
    for check in found.objectives:
        if check.status != "ok":
            assert f"{check.name} ({check.status}): {check.msg}" in found.msg


@pytest.mark.parametrize("status", ["breach", "unknown"])
def test_a_check_that_is_not_ok_makes_the_drill_red_and_is_named(status):
    bad = {"name": "sequences", "status": status, "msg": "public.users_id_seq is behind."}
    found = verdict.judge(WANTED, figures.Measured(rto_s=1, rpo_s=0), [OK_CHECK, bad])
    assert found.status == status
    assert found.msg == f"sequences ({status}): public.users_id_seq is behind."


def test_the_verdict_names_what_is_wrong_before_what_is_unknown():
    checks = [{"name": name, "status": name, "msg": "x."} for name in ("unknown", "breach")]
    found = verdict.judge(WANTED, figures.Measured(rto_s=None, rpo_s=0), checks)
    assert [found.msg.index(part) for part in ("breach (", "rto (", "unknown (unknown)")] == sorted(
        found.msg.index(part) for part in ("breach (", "rto (", "unknown (unknown)")
    )


def test_sentences_do_not_run_into_one_another():
    bad = [{"name": name, "status": "breach", "msg": "no full stop"} for name in ("a", "b")]
    found = verdict.judge(WANTED, figures.Measured(rto_s=1, rpo_s=0), bad)
    assert found.msg == "a (breach): no full stop. b (breach): no full stop."


def test_a_service_that_is_away_longer_than_allowed_is_a_breach_and_not_unknown():
    def status(elapsed_s: float) -> str:
        return verdict.judge(WANTED, figures.Measured(), [], elapsed_s=elapsed_s).objectives[0].status

    assert status(14_400) == "unknown"
    assert status(14_401) == "breach"


def test_a_lost_row_is_told_though_it_was_allowed():
    found = verdict.judge(WANTED, figures.Measured(rto_s=1, rpo_s=0.4, lost_rows=12), [])
    assert found.status == "ok"
    assert "400 ms of acknowledged work, 12 commits, was lost" in found.msg
    hole = verdict.judge(WANTED, figures.Measured(rto_s=1, rpo_s=None, lost_rows=12), [])
    assert "12 acknowledged commits are lost" in hole.msg


def test_no_data_loss_allows_none():
    nothing = figures.Objectives(rto_s=14_400, rpo_s=0)
    assert verdict.judge(nothing, figures.Measured(rto_s=1, rpo_s=0, lost_rows=0), []).status == "ok"
    assert verdict.judge(nothing, figures.Measured(rto_s=1, rpo_s=0.001), []).status == "breach"


def test_a_daily_dump_cannot_promise_an_hour_and_no_backup_promises_nothing_lost():
    daily = figures.attainable(backup_interval_s=86_400, backup_duration_s=60)
    archived = figures.attainable(archive_timeout_s=60)
    assert verdict.judge_attainable(WANTED, daily).status == "breach"
    assert verdict.judge_attainable(WANTED, archived).status == "ok"
    none = verdict.judge_attainable(figures.Objectives(14_400, 0), archived)
    assert none.status == "breach"
    assert "synchronous standby" in none.msg
    assert verdict.judge_attainable(WANTED, figures.attainable(archive_timeout_s=0)).status == "breach"
