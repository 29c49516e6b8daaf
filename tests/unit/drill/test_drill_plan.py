"""What a drill refuses, what it restores, and what it finds wrong with a copy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import defects
from ansible.module_utils.runbook.rules.drill import copy_checks, faults, points, scenarios, server_log
from ansible.module_utils.runbook.rules.drill.points import Candidate
from jinja2.nativetypes import NativeEnvironment

ROOT = Path(__file__).resolve().parents[3]
NAMED = [{"kind": "missing", "name": "up/a"}]
NOW = datetime(2026, 2, 10, 14, 0, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOW - timedelta(minutes=minute)


def test_faults_are_injected_in_the_sandbox_alone_and_where_they_make_sense():
    good: dict[str, Any] = {
        "environment": "sandbox",
        "scenario": "database_lost",
        "way": "pitr",
        "inject": "truncated_wal",
    }
    faults.check_request(**good)
    faults.check_request(**good | {"environment": "production", "inject": None})
    for other, said in (
        ({"environment": "production"}, "would damage backups of production"),
        ({"scenario": "region_lost"}, "goes with scenario database_lost"),
        ({"way": "dump"}, "can be injected for pitr, not for dump"),
        ({"way": "best"}, "not for best"),
    ):
        with pytest.raises(RunbookError, match=said):
            faults.check_request(**good | other)


def test_the_self_test_of_the_playbook_plants_every_fault_in_every_way():
    tasks = yaml.safe_load((ROOT / "playbooks" / "dr_drill.yml").read_text())[0]["tasks"]
    (injected,) = [task["loop"] for task in tasks if task.get("vars", {}).get("dr_drill_inject")]
    wanted = [(way, name) for name, fault in faults.FAULTS.items() for way in fault.ways]
    assert sorted(map(tuple, injected)) == sorted(wanted)
    for way, fault in injected:
        faults.check_request(environment="sandbox", scenario="database_lost", way=way, inject=fault)


def test_the_role_knows_the_scenarios_ways_and_faults_that_there_are():
    specs = yaml.safe_load((ROOT / "roles/dr_drill/meta/argument_specs.yml").read_text())["argument_specs"]
    choices = {name: option.get("choices") for name, option in specs["main"]["options"].items()}
    assert choices["dr_drill_scenario"] == list(scenarios.SCENARIOS)
    assert choices["dr_drill_way"] == [*scenarios.WAYS, "best"]
    assert choices["dr_drill_inject"] == ["", *faults.FAULTS]


@pytest.mark.parametrize(
    ("announcement", "said"),
    [
        ({}, "was not announced"),
        ({"announced_at": "2026-02-01"}, "was not announced"),
        ({"announced_at": "tomorrow", "announced_by": "Jo"}, "is no date"),
        ({"announced_at": "2026-02-11", "announced_by": "Jo"}, "still to come"),
        ({"announced_at": "2026-02-03T14:00:01+00:00", "announced_by": "Jo"}, "7 days are asked for; drill on 2026-02"),
    ],
)
def test_an_announcement_that_is_missing_or_too_young_is_refused(announcement: dict[str, str], said: str):
    with pytest.raises(RunbookError, match=said):
        scenarios.check_announcement(announcement, min_days=7, now=NOW)
    assert "No announcement" in scenarios.check_announcement(announcement, min_days=0, now=NOW)


def test_an_announcement_of_exactly_a_week_will_do():
    told = {"announced_at": "2026-02-03T14:00:00+00:00", "announced_by": "Jo"}
    assert "by Jo" in scenarios.check_announcement(told, min_days=7, now=NOW)


def test_the_target_must_be_another_cluster_pinned_and_empty():
    good: dict[str, Any] = {
        "found": "2",
        "pinned": "2",
        "production": {"1"},
        "database": "d",
        "databases": {"postgres"},
    }
    assert "another one" in scenarios.check_target(**good)
    for other, said in (
        ({"found": "1", "pinned": "1"}, "never restores onto production"),
        ({"production": {""}}, "pin it in preflight_system_identifier"),
        ({"pinned": ""}, "nothing is pinned"),
        ({"pinned": "3"}, "3 is pinned, and cluster 2 answered"),
        ({"databases": {"d"}}, "there already"),
    ):
        with pytest.raises(RunbookError, match=said):
            scenarios.check_target(**good | other)


def test_what_gives_back_most_is_restored():
    dump, base = Candidate("dump", "d1", at(30)), Candidate("pitr", "b1", at(1))
    assert points.choose([dump, base], way="best", failed={}).chosen == base
    assert points.choose([dump, base], way="dump", failed={}).chosen == dump
    # As much from two base backups: the newer one needs less WAL.
    newer = Candidate("pitr", "b2", at(1))
    assert points.choose([newer, base], way="pitr", failed={}).chosen == newer
    same = Candidate("dump", "d2", at(1))
    assert points.choose([same, base], way="best", failed={}).chosen == base


def test_a_bad_backup_is_skipped_and_its_cost_is_said():
    old, bad = Candidate("dump", "d1", at(90)), Candidate("dump", "d2", at(30), problem="d2 is damaged")
    choice = points.choose([bad, old], way="dump", failed={})
    assert (choice.chosen, choice.skipped, choice.costs_s) == (old, (bad,), 3600)
    assert "costs 60 min of work" in choice.sentence()
    assert "d2 is damaged" in choice.sentence()


def test_what_failed_once_is_not_tried_again():
    old, new = Candidate("dump", "d1", at(90)), Candidate("dump", "d2", at(30))
    choice = points.choose([new, old], way="dump", failed={"dump/d2": points.Problem("no such role")})
    assert choice.chosen == old
    assert choice.skipped[0].problem == "no such role"
    # An archive that cannot be judged at all is named, and hides nothing.
    lost = Candidate("pitr", "archive", None, problem="of another cluster")
    assert points.choose([lost, old], way="best", failed={}).skipped == (lost,)


def test_a_way_that_was_never_set_up_is_no_fault_where_the_other_one_serves():
    good = Candidate("dump", "d1", at(1))
    absent = Candidate("pitr", "archive", None, problem="there is no archive s3://b/pitr/db/", is_absent=True)
    choice = points.choose([good, absent], way="best", failed={})
    assert (choice.chosen, choice.skipped, choice.costs_s) == (good, (), 0.0)
    assert choice.sentence().endswith("Not by pitr, because there is no archive s3://b/pitr/db/.")
    assert points.unusable([good, absent], {}) == []
    with pytest.raises(RunbookError, match="pitr archive: there is no archive"):
        points.choose([absent], way="best", failed={})


def test_no_good_backup_is_an_error_that_names_each():
    with pytest.raises(RunbookError, match=r"No backup is good.*There is none"):
        points.choose([], way="best", failed={})
    with pytest.raises(RunbookError, match="dump d1: cut"):
        points.choose([Candidate("dump", "d1", at(1), problem="cut")], way="best", failed={})


def test_room_is_asked_for_before_the_restore():
    points.check_room(needed_bytes=10, free_bytes=10, where="here")
    points.check_room(needed_bytes=10, free_bytes=None, where="here")
    with pytest.raises(RunbookError, match="needs at least 11 bytes and 10 are free in here"):
        points.check_room(needed_bytes=11, free_bytes=10, where="here")


def test_contents_are_compared_table_by_table():
    wanted: dict[str, list[Any]] = {"public.a": [2, "7"], "public.b": [1, "9"]}
    assert copy_checks.judge_contents(wanted, {**wanted, "public.new": [1, "1"]}).status == "ok"
    assert copy_checks.judge_contents({}, wanted).status == "unknown"
    for found, said in (
        ({"public.a": [2, "7"]}, "public.b is not there"),
        ({**wanted, "public.b": [3, "9"]}, "3 rows instead of 1"),
        ({**wanted, "public.b": [1, "8"]}, "public.b has other contents"),
        ({**wanted, "public.b": [None, "invalid page"]}, "public.b cannot be read"),
    ):
        check = copy_checks.judge_contents(wanted, found)
        assert (check.status, said in check.msg) == ("breach", True), check


def test_an_older_schema_and_altered_commits_are_breaches():
    assert copy_checks.judge_schema(["a.b.c int"], ["a.b.c int", "a.b.d int"]).status == "ok"
    assert "older schema" in copy_checks.judge_schema(["a.b.c int", "a.b.d int"], ["a.b.c int"]).msg
    assert copy_checks.judge_altered(0, 5).status == "ok"
    assert copy_checks.judge_altered(0, 0).status == "unknown"
    assert copy_checks.judge_altered(1, 5).status == "breach"


def test_a_clock_that_is_off_is_said_and_changes_nothing():
    assert "agrees" in copy_checks.judge_clock(0.2).msg
    found = copy_checks.judge_clock(-7200.0)
    assert (found.status, "7,200 s behind" in found.msg) == ("ok", True)


def test_a_fault_counts_as_found_only_if_the_drill_is_red_and_says_by_what():
    red: dict[str, Any] = {"status": "breach", "recovery": None, "checks": [{"name": "contents", "status": "breach"}]}
    assert faults.is_found("flipped_byte", red)
    assert not faults.is_found("truncated_wal", red)
    assert not faults.is_found("flipped_byte", red | {"status": "ok"})
    # Whatever a sentence says: it is not what code goes by.
    said = {"backup_id": "b1", "reason": "data-1 is missing, and the WAL after it is damaged", "codes": []}
    unclear = red | {"checks": [], "recovery": {"skipped": [said]}}
    assert not any(faults.is_found(fault, unclear) for fault in faults.FAULTS)
    missing = red | {"checks": [], "recovery": {"skipped": [said | {"codes": [defects.MISSING]}]}}
    assert [fault for fault in faults.FAULTS if faults.is_found(fault, missing)] == ["missing_object"]
    # A document of an earlier version has no codes.
    del said["codes"]
    assert not faults.is_found("missing_object", unclear)


def test_a_failed_attempt_is_known_by_its_code():
    bad = Candidate("dump", "d1", at(1))
    failed = {"dump/d1": points.Problem("object is not what was written", (defects.DAMAGED,))}
    (found,) = points.unusable([bad, Candidate("pitr", "p1", at(1))], failed)
    assert (found.problem, found.codes) == ("object is not what was written", (defects.DAMAGED,))


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        (copy_checks.Files(rows=3), "ok", "Every row of storage.objects has its file in the second copy (3)."),
        (
            copy_checks.Files(rows=3, orphan_objects=2, named=[{"kind": "orphan", "name": "up/a"}]),
            "ok",
            "2 files have",
        ),
        (copy_checks.Files(rows=3, missing_rows=1, named=NAMED), "breach", "copy (up/a)."),
        (copy_checks.Files(rows=3, differing_rows=1), "breach", "1 row of storage.objects tell another size or ETag"),
        (copy_checks.Files(rows=3, unasked_rows={"x": 2}), "unknown", "2 rows of bucket x were not compared"),
        (copy_checks.Files(rows=3, missing_rows=1, unasked_rows={"x": 2}), "breach", "bucket x"),
    ],
)
def test_each_row_of_storage_objects_has_its_file(found, status, says):
    check = copy_checks.judge_files(found)
    assert check.status == status
    assert says in check.msg


def test_files_that_nobody_asked_about_are_said_to_be_so():
    columns = ["storage.objects.name text"]
    assert "No file storage is named" in copy_checks.files_not_asked("", [], columns)
    assert "No file storage is named" in copy_checks.files_not_asked("copies", [], columns)
    assert "has no storage.objects" in copy_checks.files_not_asked("copies", ["up"], ["public.messages.id bigint"])
    assert copy_checks.files_not_asked("copies", ["up"], columns) == ""
    assert copy_checks.files_not_asked("copies", ["up"], None) == "", "an unreachable database tells nothing"


def test_a_kept_log_has_no_statement_and_no_row():
    prefix = "2026-02-10 14:00:00.000 UTC [4711] "
    kept = [
        "LOG:  starting point-in-time recovery to 2026-02-10 13:00:00+00",
        "LOG:  invalid record length at 0/3000060: expected at least 24, got 0",
        'FATAL:  could not restore file "000000010000000000000003" from archive: command terminated',
    ]
    dropped = [
        'ERROR:  invalid input syntax for type integer: "canary"',
        "DETAIL:  Key (email)=(canary) already exists.",
        "STATEMENT:  INSERT INTO people VALUES ('canary')",
        'CONTEXT:  COPY people, line 1: "canary"',
        "LOG:  statement: SELECT 'canary'",
        "LOG:  duration: 2.1 ms  execute s1: SELECT 'FATAL:  canary'",
        "LOG:  AUDIT: SESSION,1,1,WRITE,INSERT,,,INSERT INTO people VALUES ('canary')",
    ]
    lines = [prefix + each for pair in zip(dropped, kept * 3, strict=False) for each in pair]
    text = "\n".join([*lines, "\tFATAL:  canary", "canary without a severity"])
    found = server_log.log_without_rows(text)
    assert "canary" not in found
    assert set(found.splitlines()) == {prefix + each for each in kept}
    assert len(server_log.log_without_rows("FATAL:  no\n" * 1000).splitlines()) == 200


@pytest.mark.parametrize(("is_real", "user"), [(True, "postgres"), (False, "runbook_restorer")])
def test_a_dump_is_restored_as_a_user_that_the_server_knows(is_real: bool, user: str):
    path = Path(__file__).parents[3] / "playbooks" / "tasks" / "dr_drill_restore.yml"
    (dump,) = (task for task in yaml.safe_load(path.read_text()) if "block" in task)
    said = dump["block"][0]["vars"]
    known = {
        "omit": "",
        "dr_drill_result": {"outage_is_real": is_real},
        "dr_drill_login_user": "postgres",
        "dr_drill_login_password": "of postgres",
        "dr_drill_target_login_user": "runbook_restorer",
        "dr_drill_target_login_password": "of runbook_restorer",
    }
    rendered = {
        name: NativeEnvironment().from_string(said[f"db_restore_login_{name}"]).render(known)
        for name in ("user", "password")
    }
    assert rendered == {"user": user, "password": f"of {user}"}
