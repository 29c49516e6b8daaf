"""The judgement on a drill: figures, objectives, what is to be changed, lessons, and documents that were damaged."""

from __future__ import annotations

import doctest
import json
from datetime import date, timedelta

import drill_samples as samples
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import advice, documents, figures, lessons, verdict

WANTED = figures.Objectives(rto_s=14_400, rpo_s=3600)
OK_CHECK = {"name": "tables", "status": "ok", "msg": "All agree.", "tables": 3}
TODAY = date(2026, 3, 1)


def test_doctests():
    for module in (figures, lessons, verdict):
        outcome = doctest.testmod(module)
        assert outcome.attempted
        assert outcome.failed == 0


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [{"rto_s": 0, "rpo_s": 60}, {"rto_s": 60, "rpo_s": -1}])
def test_an_objective_that_nothing_can_have_is_refused_by_its_name(option):
    with pytest.raises(RunbookError, match=next(key for key, value in option.items() if value <= 0)):
        figures.Objectives(**option)


def test_rto_goes_from_the_outage_to_the_verified_service():
    assert figures.rto_s(samples.START, samples.START + timedelta(seconds=52)) == 52
    assert figures.rto_s(samples.START, None) is None
    assert figures.rto_s(None, samples.START) is None
    assert figures.rto_s(samples.START, samples.START - timedelta(seconds=1)) is None, "a clock that was set back"


@pytest.mark.parametrize(
    ("surviving", "rpo_s", "lost", "holes"),
    [
        ({1, 2, 3, 4}, 0.0, 0, 0),
        ({1, 2, 3, 4, 99}, 0.0, 0, 0),
        ({1, 2}, 10.0, 2, 0),
        ({1, 3, 4}, 21.0, 1, 1),
        ({1, 3}, 21.0, 2, 1),
        ({2, 3, 4}, None, 1, 1),
        (set(), None, 4, 0),
    ],
    ids=[
        "all",
        "more than was acknowledged",
        "the last ones lost",
        "a hole",
        "a hole and the last",
        "the first lost",
        "nothing",
    ],
)
def test_loss_goes_back_to_the_last_commit_before_which_nothing_is_missing(surviving, rpo_s, lost, holes):
    found = figures.loss({1: 100.0, 2: 111.0, 3: 120.0, 4: 121.0}, surviving)
    assert (found.rpo_s, found.lost_rows, found.hole_rows) == (rpo_s, lost, holes)
    assert found.surviving_rows + found.lost_rows == found.acknowledged_rows == 4
    if lost:
        assert f"{lost} of 4" in found.msg


def test_what_was_acknowledged_together_is_no_hole():
    found = figures.loss({1: 10.0, 2: 11.0, 3: 11.0}, {1, 3})
    assert (found.rpo_s, found.hole_rows) == (1.0, 0)


def test_an_empty_ledger_knows_nothing():
    found = figures.loss({}, {1, 2})
    assert found.rpo_s is None
    assert found.surviving_rows == 0
    assert "nothing says what was lost" in found.msg


def test_the_parts_of_the_rto_add_up_to_it():
    document = samples.drill()
    parts = figures.split_rto(
        document["phases"], figures.moment(document["outage_at"]), figures.moment(document["service_at"])
    )
    assert parts == {
        "detect": 2, "decide": 1.5, "provision": 2, "restore": 24, "verify": 18, "switch": 3.5, figures.BETWEEN: 1,
    }  # fmt: skip
    assert sum(parts.values()) == 52
    assert figures.split_rto(document["phases"], samples.START, None) is None


def test_what_lies_outside_the_outage_is_no_part_of_the_rto():
    phases: list[dict[str, str | None]] = [
        {"name": "detect", "started_at": samples.at(-5), "finished_at": samples.at(1)},
        {"name": "restore", "started_at": samples.at(1), "finished_at": None},
        {"name": "switch", "started_at": samples.at(8), "finished_at": samples.at(30)},
    ]
    parts = figures.split_rto(phases, samples.START, samples.START + timedelta(seconds=10))
    assert parts == {"detect": 1, "switch": 2, figures.BETWEEN: 7}


# --- judgement --------------------------------------------------------------------------------------------------------


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


# --- what the set-up can promise --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "way", "rpo_s"),
    [
        ({"backup_interval_s": 86_400, "backup_duration_s": 600}, "dump", 87_000),
        ({"archive_timeout_s": 60, "archive_delay_s": 2}, "pitr", 62),
        ({"backup_interval_s": 86_400, "backup_duration_s": 1, "archive_timeout_s": 60}, "pitr", 60),
        ({"backup_interval_s": 30, "backup_duration_s": 31, "archive_timeout_s": 60}, "pitr", 60),
        ({"backup_interval_s": 30, "backup_duration_s": 2, "archive_timeout_s": 60}, "dump", 32),
        ({"backup_interval_s": 86_400, "backup_duration_s": 0, "archive_timeout_s": 0}, "dump", 86_400),
        ({"backup_interval_s": 86_400}, None, None),
        ({"archive_timeout_s": 0}, "pitr", None),
        ({}, None, None),
    ],
)
def test_the_rpo_that_a_set_up_can_promise(setup, way, rpo_s):
    found = figures.attainable(**setup)
    assert (found.way, found.rpo_s) == (way, rpo_s)


def test_a_promise_says_what_it_does_not_know():
    assert "which is unknown" in figures.attainable(archive_timeout_s=60).msg
    assert "unknown" not in figures.attainable(archive_timeout_s=60, archive_delay_s=2).msg
    said = figures.attainable(backup_interval_s=86_400, backup_duration_s=600).msg
    assert said == "A dump every 24 h, which takes 10 min, can lose up to 24.2 h."


def test_a_daily_dump_cannot_promise_an_hour_and_no_backup_promises_nothing_lost():
    daily = figures.attainable(backup_interval_s=86_400, backup_duration_s=60)
    archived = figures.attainable(archive_timeout_s=60)
    assert verdict.judge_attainable(WANTED, daily).status == "breach"
    assert verdict.judge_attainable(WANTED, archived).status == "ok"
    none = verdict.judge_attainable(figures.Objectives(14_400, 0), archived)
    assert none.status == "breach"
    assert "synchronous standby" in none.msg
    assert verdict.judge_attainable(WANTED, figures.attainable(archive_timeout_s=0)).status == "breach"


def test_production_is_extrapolated_with_the_measured_rate():
    found = figures.extrapolate(2_000_000_000, 20.0, 200_000_000_000)
    assert found is not None
    assert (found.rate_bytes_per_s, found.restore_s) == (1e8, 2000)
    assert found.msg.startswith("Estimate:")
    assert found.msg.endswith(" 33 min.")
    small = figures.extrapolate(1_999_999_999, 20.0, 200_000_000_000)
    assert small is not None
    assert "tells little" in small.msg


@pytest.mark.parametrize("known", [(None, 1.0, 1), (0, 1.0, 1), (1, None, 1), (1, 0.0, 1), (1, 1.0, None), (1, 1, -1)])
def test_nothing_is_extrapolated_from_what_is_not_known(known):
    assert figures.extrapolate(*known) is None


# --- what to change ---------------------------------------------------------------------------------------------------


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


# --- lessons ----------------------------------------------------------------------------------------------------------


def test_what_is_to_be_filled_in_is_asked_for():
    advice = ['Say "hello" to C:\\temp\nand \x07mend it.', "Second."]
    text = lessons.template(samples.drill(advice=advice))
    found = lessons.parse(text, source="l.toml")
    assert [lesson.text for lesson in found] == advice
    assert lessons.missing(found, today=TODAY) == ["lesson 1: owner, due_date", "lesson 2: owner, due_date"]
    assert lessons.owed(text, source="l.toml", today=TODAY) == [
        "l.toml: lesson 1: owner, due_date; lesson 2: owner, due_date"
    ]
    filled = text.replace('owner = ""', 'owner = "Kim"').replace('due_date = ""', "due_date = 2026-03-01")
    assert lessons.missing(lessons.parse(filled, source="l.toml"), today=TODAY) == []


def test_a_drill_without_advice_asks_for_one_lesson():
    empty = ["lesson 1: text, owner, due_date"]
    text = lessons.template(samples.drill())
    assert lessons.missing(lessons.parse(text, source="l.toml"), today=TODAY) == empty
    assert lessons.missing([], today=TODAY) == empty


def test_a_lesson_that_is_overdue_is_asked_for_until_it_is_done():
    entry = '[[lessons]]\ntext = "a"\nowner = "Kim"\ndue_date = "2026-02-28"\n'
    late = "l.toml: lesson 1: done_date (was due 2026-02-28, Kim)"
    assert lessons.owed(entry, source="l.toml", today=TODAY) == [late]
    assert lessons.owed(entry + "done_date = 2026-02-27\n", source="l.toml", today=TODAY) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[lessons]\n", "line 1"),
        ('title = "x"\n', r"only blocks \[\[lessons\]\]"),
        ("lessons = 3\n", r"only blocks \[\[lessons\]\]"),
        ('[[lessons]]\nwho = "Kim"\n', "lesson 1 has 'who'"),
        ('[[lessons]]\ndue_date = "soon"\n', "due_date of lesson 1"),
        ("[[lessons]]\ndue_date = 3\n", "due_date of lesson 1"),
        ("[[lessons]]\nowner = 3\n", "owner of lesson 1"),
    ],
)
def test_a_file_of_lessons_that_cannot_be_read_is_refused_and_still_owed(text, named):
    with pytest.raises(RunbookError, match=f"^l.toml: .*{named}"):
        lessons.parse(text, source="l.toml")
    assert len(lessons.owed(text, source="l.toml", today=TODAY)) == 1
    assert lessons.owed(None, source="l.toml", today=TODAY) == ["l.toml: the file is gone"]


# --- the document -----------------------------------------------------------------------------------------------------


def test_a_document_is_read_as_it_was_written():
    document = samples.drill()
    assert documents.read(json.loads(json.dumps(document)), source="d.json") == document
    early = samples.drill(
        outage_at=None, service_at=None, finished_at=None, recovery=None, extrapolation=None, lessons=None,
        tear_down=None, phases=[], checks=[], measured=dict.fromkeys(document["measured"]),
    )  # fmt: skip
    assert documents.read(early, source="d.json") == early


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"status": "green"}, "status is 'green'"),
        ({"status": None}, "status is None"),
        ({"outage_at": "yesterday"}, "outage_at is 'yesterday'"),
        ({"outage_at": "2026-03-01T02:00:00"}, "outage_at is"),
        ({"phases": [{"name": "detect"}]}, r"phases\[0\].started_at is missing"),
        ({"phases": ["detect"]}, r"phases\[0\] is no mapping"),
        ({"measured": {"rto_s": "fast"}}, "measured.rto_s is 'fast'"),
        ({"measured": {"rto_s": True}}, "measured.rto_s is True"),
        ({"measured": {"rpo_s": float("nan")}}, "measured.rpo_s is nan"),
        ({"recovery": {"skipped": ["b"]}}, r"recovery.skipped\[0\] is no mapping"),
        ({"attainable": {"rpo_s": "soon"}}, "attainable.rpo_s is 'soon'"),
        ({"files": {"asked": "no"}}, "files.asked is 'no'"),
        ({"objectives": {"rto_s": 0}}, "rto_s: 0"),
        ({"checks": {}}, "checks is {}"),
    ],
)
def test_a_damaged_document_is_refused_by_its_key(change, named):
    with pytest.raises(RunbookError, match=named):
        documents.read(samples.drill(**change), source="d.json")


def test_what_is_no_document_is_refused():
    with pytest.raises(RunbookError, match=r"^d\.json: not a drill's document"):
        documents.read(["drill"], source="d.json")
    document = samples.drill()
    del document["advice"]
    with pytest.raises(RunbookError, match="advice is missing"):
        documents.read(document, source="d.json")
