"""What the board knows of all runs: in any order, any number of times, from several places."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import board
from ansible.module_utils.runbook.rules.board import index as indexes
from board_samples import NOW, plan, preflight, record, stamp, step

H = timedelta(hours=1)
BAD = step("pg_backup", {}, "breach", "The bucket did not answer.")


def backup(before_h: float, *steps: Any, host="db1", number=0, **more: Any):
    made = record("backup", NOW - before_h * H, {host: [preflight("backup.yml"), *steps]}, number=number, **more)
    return board.summary(made)


def index_of(*summaries: Any):
    index = indexes.empty()
    for each in summaries:
        indexes.add(index, each, NOW)
    return index


def test_the_order_in_which_runs_are_put_in_does_not_matter_nor_how_often():
    good = step("pg_backup", {"manifest": "m", "snapshot_at": stamp(NOW - 5 * H), "size_bytes": 7})
    runs = [backup(5, good), backup(3, BAD), backup(4), backup(3, host="db2", number=1)]
    found = {indexes.write(index_of(*order, order[0])) for order in itertools.permutations(runs)}
    assert len(found) == 1
    place = json.loads(found.pop())["places"]["production"]
    of_host = place["hosts"]["backup"]["db1"]
    assert (of_host["last"][1:], of_host["good"]) == (
        ["failed", "Do what pg_backup does: The bucket did not answer."],
        runs[2]["run"]["id"],
    )
    assert [run[1] for run in place["recent"]["backup"]] == ["ok", "ok", "failed", "ok"]
    assert place["facts"]["db1"]["backup_size_bytes"] == [stamp(NOW - 5 * H), 7]


def test_two_places_join_what_they_know():
    runs = [backup(5), backup(3, BAD), backup(4, host="db2", number=1), backup(2, host="db3", number=2)]
    whole = indexes.write(index_of(*runs))
    for cut in range(len(runs) + 1):
        one, other = index_of(*runs[:cut]), index_of(*runs[cut:])
        indexes.merge(one, other)
        indexes.merge(one, other)
        assert indexes.write(one) == whole


@pytest.mark.parametrize(("ahead_s", "says"), [(300, ""), (-301, "5 minutes behind"), (93_600, "1,560 minutes ahead")])
def test_what_is_due_is_judged_by_the_clock_of_the_store(ahead_s, says):
    now, notes = indexes.by_clock_of_store(NOW, ahead_s)
    assert (now, bool(notes)) == (NOW - timedelta(seconds=ahead_s) if says else NOW, bool(says))
    assert says in "".join(notes)


def test_a_clock_that_is_behind_does_not_move_what_others_know():
    """It doubts what is dated later than it believes, and says so where that is known better."""
    behind, right = index_of(backup(2)), index_of(backup(2))
    indexes.forget(behind, NOW - 24 * H)
    indexes.merge(right, behind)
    assert right["places"] == index_of(backup(2))["places"]


def test_a_clock_that_is_behind_what_a_store_told_does_not_doubt_what_others_did(tmp_path):
    """Otherwise it would move when jobs were first seen, and all of them would be missed, on every board."""
    index = index_of(backup(2))
    known = plan(NOW)
    indexes.note_plan(index, "production", known, known["schedules"])
    indexes.note_clock(index, NOW)
    (tmp_path / board.INDEX).write_text(indexes.write(index))
    board.renew(tmp_path, NOW - 26 * H, plan=("production", known | {"at": stamp(NOW - 26 * H)}))
    after = json.loads((tmp_path / board.INDEX).read_text())
    assert after["places"] == index["places"]
    found = json.loads((tmp_path / board.DATA).read_text())
    assert (found["made_at"], found["notes"][0].partition(";")[0]) == (
        "2026-11-30T09:00:00+00:00", "The clock of this machine is 1,560 minutes behind the state store's",
    )  # fmt: skip


def test_slices_of_an_inventory_make_a_whole_and_yield_to_one():
    """AWX gives each slice of a job its own hosts; none of the others left the inventory."""

    def noted(*plans: Any):
        places = [indexes.empty() for _ in plans]
        for index, each in zip(places, plans, strict=True):
            indexes.note_plan(index, "production", each, ["daily-backup"])
        for other in places[1:]:
            indexes.merge(places[0], other)
        return places[0]["places"]["production"]["plan"]["groups"]["databases"]

    def part(before_h: float, *names: str):
        return plan(NOW - before_h * H, groups={"databases": list(names)}, is_part=True)

    assert noted(part(3, "db1", "db2"), part(2, "db3"), part(1, "db4")) == ["db1", "db2", "db3", "db4"]
    whole = plan(NOW - 9 * H, databases=2)
    for order in itertools.permutations((part(3, "db3"), whole, part(1, "db1"))):
        assert noted(*order) == ["db1", "db2"]
    assert noted(whole, plan(NOW, databases=1)) == ["db1"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: place["runs"].update({next(iter(place["runs"])): "x"}),
        lambda place: next(iter(place["runs"].values())).update(at="yesterday"),
        lambda place: next(iter(place["runs"].values())).update(at="2026-11-30T03:00:00"),
        lambda place: next(iter(place["runs"].values())).update(at="0001-01-01T00:00:00+14:00"),
        lambda place: next(iter(place["runs"].values())).pop("playbook"),
        lambda place: next(iter(place["runs"].values())).update(tags="x"),
        lambda place: place["hosts"].update(backup=[]),
        lambda place: place["hosts"]["backup"].update(db1={"last": ["nosuch", "ok", ""], "good": None}),
        lambda place: place["hosts"]["backup"].update(db1={"last": None}),
        lambda place: place["hosts"]["backup"]["db2"].update(good=["x"]),
        lambda place: place["recent"]["backup"].append(["x"]),
        lambda place: place["recent"]["backup"].append(["yesterday", "skipped", "20261130T030000Z-backup-0000ff"]),
        lambda place: place["recent"].update(backup=None),
        lambda place: place["facts"].update(db1=7),
        lambda place: place["facts"]["db1"].update(backup_size_bytes=7),
        lambda place: place["plan"].update(groups={"databases": "db1"}),
        lambda place: place["plan"].pop("calendar"),
    ],
)
def test_a_damaged_entry_is_taken_out_and_the_rest_is_whole(damage):
    good = step("pg_backup", {"manifest": "m", "snapshot_at": stamp(NOW - 5 * H), "size_bytes": 7})
    index = index_of(backup(5, good), backup(4, host="db2", number=1))
    indexes.note_plan(index, "production", plan(NOW - 6 * H), ["daily-backup"])
    whole = indexes.write(index)
    assert indexes.mend(index) == 0
    assert indexes.write(index) == whole
    damage(index["places"]["production"])
    broken = indexes.read(json.dumps(index))
    assert indexes.mend(broken) > 0
    assert indexes.mend(broken) == 0
    board.html(board.view(broken, NOW))
    # What another place knows puts it right again.
    indexes.merge(broken, indexes.read(whole))
    assert indexes.write(broken) == whole


def test_a_damaged_day_of_a_job_is_taken_out():
    index = index_of(backup(5))
    indexes.note_plan(index, "production", plan(NOW - 6 * H), ["daily-backup", "weekly"])
    index["places"]["production"]["since"]["weekly"] = None
    index["seen"].append(7)
    assert indexes.mend(index) == 2
    assert list(index["places"]["production"]["since"]) == ["daily-backup"]


def test_the_newest_plan_counts_and_a_job_is_known_since_it_was_first_seen():
    index = indexes.empty()
    for before_d in (3, 9, 1):
        indexes.note_plan(index, "production", plan(NOW - before_d * 24 * H, databases=before_d), ["daily-backup"])
    place = index["places"]["production"]
    assert (len(place["plan"]["groups"]["databases"]), place["since"]) == (
        1,
        {"daily-backup": stamp(NOW - 3 * 24 * H)},
    )
    other = indexes.empty()
    indexes.note_plan(other, "production", plan(NOW - 20 * 24 * H), ["daily-backup"])
    indexes.merge(index, other)
    assert place["plan"]["at"] == stamp(NOW - 24 * H)
    assert place["since"] == {"daily-backup": stamp(NOW - 20 * 24 * H)}
    # One that is scheduled no more is forgotten, so that it is not missed once it is scheduled again.
    indexes.note_plan(index, "production", plan(NOW), [])
    assert place["since"] == {}


def test_a_run_that_is_dated_in_the_future_does_not_hide_later_ones():
    index = index_of(backup(-24 * 365), backup(1, number=1))
    now = NOW + 2 * H
    indexes.add(index, backup(-1, number=2), now)
    last = index["places"]["production"]["hosts"]["backup"]["db1"]["last"]
    assert last[0] == backup(-1, number=2)["run"]["id"]


def test_what_a_machine_with_a_wrong_clock_says_does_not_hide_what_others_say_later():
    ahead, size = NOW + 400 * 24 * H, {"db1": {"backup_size_bytes": 1}}
    wrong = indexes.empty()
    indexes.note_plan(wrong, "production", plan(ahead, databases=9), ["gone"])
    indexes.add(wrong, backup(-400 * 24) | {"facts": size}, ahead)
    shared = indexes.empty()
    indexes.merge(shared, wrong)
    indexes.forget(shared, NOW)
    later = NOW + 2 * H
    right = indexes.empty()
    indexes.note_plan(right, "production", plan(later, databases=1), ["daily-backup"])
    indexes.add(right, backup(-1, BAD, number=1) | {"facts": {"db1": {"backup_size_bytes": 2}}}, later)
    indexes.merge(shared, right)
    indexes.forget(shared, later)
    place = shared["places"]["production"]
    assert place["hosts"]["backup"]["db1"]["last"][1] == "failed"
    assert place["facts"]["db1"]["backup_size_bytes"][1] == 2
    assert (len(place["plan"]["groups"]["databases"]), list(place["since"])) == (1, ["daily-backup"])
    assert place["runs"][backup(-400 * 24)["run"]["id"]]["dated"] == stamp(ahead)


def test_figures_of_hosts_that_nobody_looks_at_any_more_are_forgotten():
    index = index_of(backup(24 * 500) | {"facts": {"gone": {"backup_size_bytes": 1}}}, backup(1))
    indexes.forget(index, NOW)
    assert "gone" not in index["places"]["production"]["facts"]


def test_what_is_old_is_forgotten():
    index = index_of(backup(24 * 500), backup(24 * 500, host="db2", number=1), backup(1))
    indexes.forget(index, NOW)
    place = index["places"]["production"]
    assert (list(place["hosts"]["backup"]), len(place["runs"]), len(index["seen"])) == (["db1"], 1, 1)


def test_figures_that_are_no_numbers_outlive_json():
    index = index_of(backup(1))
    of_host = {"capacity_limit_p50_timestamp_seconds": {"disk": float("inf")}, "drill_last_rto_seconds": float("nan")}
    indexes.add(index, backup(0) | {"facts": {"db1": of_host}}, NOW)
    facts = indexes.read(indexes.write(index))["places"]["production"]["facts"]["db1"]
    assert indexes.number(facts["capacity_limit_p50_timestamp_seconds"][1]["disk"]) == float("inf")
    assert str(indexes.number(facts["drill_last_rto_seconds"][1])) == "nan"


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"schema": "runbook-board"}', '{"schema": "x", "schema_version": 1}',
        '{"schema": "runbook-board", "schema_version": 1, "seen": [], "places": {"production": {"runs": {}}}}',
        indexes.write(indexes.empty())[:20],
    ],
)  # fmt: skip
def test_a_damaged_index_is_no_empty_one(text):
    with pytest.raises(RunbookError) as found:
        indexes.read(text)
    assert found.value.code == "board_damaged"


def test_an_index_of_a_newer_version_is_left_alone():
    with pytest.raises(RunbookError, match="update the project here") as found:
        indexes.read('{"schema": "runbook-board", "schema_version": 2}')
    assert found.value.code == "board_newer"
