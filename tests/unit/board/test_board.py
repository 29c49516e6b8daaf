"""What the board says of each operation, and what it puts first."""

import json
import os
import re
import shutil
import subprocess
from datetime import timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import board, journal
from ansible.module_utils.runbook.rules.board import index as indexes
from ansible.module_utils.runbook.rules.record import timestamp
from ansible.module_utils.runbook.rules.schedule import alerts
from board_samples import NOW, plan, preflight, record, stamp, step

D, H = timedelta(days=1), timedelta(hours=1)
SINCE = NOW - 60 * D


def put(runs, made, name=""):
    """A run's folder beside the board."""
    folder = runs / (name or made["run_id"].rpartition("-")[0])
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(made))
    return folder


def backup(before_h, *steps: Any, host="db1", job="daily-backup", **more: Any):
    return record("backup", NOW - before_h * H, {host: [preflight("backup.yml", job), *steps]}, **more)


def made(runs, known=None, now=NOW, since=SINCE, **more: Any):
    """The board as programs read it, where the inventory was first seen at ``since``."""
    if known is None:
        known = plan(now)
    if not (runs / board.INDEX).exists():
        index = indexes.empty()
        indexes.note_plan(index, "production", known | {"at": stamp(since)}, known["schedules"])
        (runs / board.INDEX).write_text(indexes.write(index))
    board.renew(runs, now, plan=("production", known), **more)
    return json.loads((runs / board.DATA).read_text())


def the(found, name="daily-backup", place="production"):
    return next(each for each in found["places"][place]["operations"] if each["name"] == name)


def needs(found, place="production"):
    return [(each["tone"], each["what"], each["word"]) for each in found["places"][place]["needs"]]


def test_a_run_that_came_in_time_and_was_well_is_green(tmp_path):
    put(tmp_path, backup(6))
    row = the(made(tmp_path))
    assert (row["state"], row["next_at"]) == ("ok", "2026-12-01T03:00:00+00:00")
    assert row["last_at"] == row["last_good_at"] == stamp(NOW - 6 * H)


def test_what_never_ran_is_unknown_until_it_was_due_and_red_from_then_on(tmp_path):
    row = the(made(tmp_path, since=NOW - H))
    assert (row["state"], row["last_at"]) == ("never run", None)
    assert row["sentence"] == "It never ran. It is due for the first time Tue 2026-12-01 03:00 UTC."
    late = NOW + D
    assert the(made(tmp_path, plan(late), now=late))["state"] == "missed"


def test_a_missed_run_says_when_and_gives_the_command_that_counts_for_it(tmp_path):
    put(tmp_path, backup(30))
    found = made(tmp_path)
    assert the(found)["sentence"] == (
        "No run came when it was due, Mon 2026-11-30 03:00 UTC; the last one began Sun 2026-11-29 03:00 UTC. Look at "
        "the scheduler, then run it."
    )
    command = "ansible-playbook -i inventories/production playbooks/backup.yml -e preflight_job=daily-backup"
    assert (needs(found)[0], the(found)["command"]) == (("failed", "daily-backup", "missed"), command)
    put(tmp_path, backup(0.5, number=1))
    assert the(made(tmp_path))["state"] == "ok"


@pytest.mark.parametrize(("hours", "state"), [(2.9, "ok"), (3.0, "missed")])
def test_a_run_is_missed_from_the_moment_when_it_should_have_been_over(tmp_path, hours, state):
    """At most two hours, and an hour of grace."""
    now = NOW.replace(hour=3) + timedelta(hours=hours)
    put(tmp_path, record("backup", NOW.replace(hour=3) - D, {"db1": [preflight("backup.yml", "daily-backup")]}))
    assert the(made(tmp_path, plan(now), now=now))["state"] == state


def test_one_host_of_many_is_named_and_the_command_is_for_it_alone(tmp_path):
    hosts = {f"db{number}": [preflight("backup.yml", "daily-backup")] for number in range(1, 100)}
    hosts["db17"] = [step("pg_backup", {}, "breach", "The disk is full; make room.", task="Back up")]
    put(tmp_path, record("backup", NOW - 6 * H, hosts))
    row = the(made(tmp_path, plan(NOW, databases=100)))
    assert row["odd_hosts"] == {"db17": "failed", "db100": "missed"}
    assert row["sentence"].startswith("db17: Back up: The disk is full; make room. db100: No run came when it was due")
    assert row["command"].endswith("--limit db17,db100")


def test_a_run_on_some_hosts_says_nothing_of_the_others(tmp_path):
    put(tmp_path, backup(6, host="db1"))
    put(tmp_path, backup(2, host="db2", number=1, limit="db2"), "20261130T070000Z-backup-2")
    put(tmp_path, backup(5, step("pg_backup", {}, "breach", "No."), host="db3", number=2, limit="db3"))
    found = the(made(tmp_path, plan(NOW, databases=3)))
    assert (found["state"], found["odd_hosts"], found["hosts"]) == ("failed", {"db3": "failed"}, 3)


def test_a_run_that_was_killed_did_not_end_and_one_that_goes_on_is_under_way(tmp_path):
    put(tmp_path, backup(6))
    folder = tmp_path / "20261130T080000Z-backup"
    folder.mkdir()
    start: dict[str, Any] = {
        "run_id": "20261130T080000Z-backup-0000ff", "playbook": "backup", "controller": "bastion/1", "commit": None,
        "inventory": ["inventories/production"], "user": "ops", "check_mode": False, "diff_mode": False,
        "ansible_version": "2.19", "limit": None, "tags": [], "skip_tags": [],
    }  # fmt: skip
    written = journal.Journal(folder / "journal.jsonl", (NOW - H).timestamp)
    written.append("run_start", **start)
    written.append("task_start", task="t", play="p", name="Back up", role=None, module="pg_backup")
    written.append("host_start", task="t", host="db1")
    found = made(tmp_path)
    assert (the(found)["state"], the(found)["odd_hosts"]) == ("running", {})
    assert the(found)["sentence"].startswith("A run is under way since Mon 2026-11-30 08:00 UTC, by ops on bastion.")
    written.close()
    found = made(tmp_path)
    assert the(found)["state"] == "did not end"
    assert needs(found)[0] == ("failed", "daily-backup", "did not end")
    assert timestamp((NOW - H).timestamp())[:16].replace("T", " ") in the(found)["sentence"]
    # Its record is made later, by the next run or by hand.
    (folder / "record.json").write_text(json.dumps(backup(1, job="", number=255)))
    assert the(made(tmp_path))["state"] == "ok"


def test_what_was_stopped_is_red_even_where_nothing_failed(tmp_path):
    put(tmp_path, backup(6, interrupted=True, status="unknown"))
    assert the(made(tmp_path))["state"] == "did not end"


def test_a_clock_that_is_ahead_is_unknown_and_names_the_machine(tmp_path):
    put(tmp_path, backup(-3, controller="awx-7/1"))
    row = the(made(tmp_path))
    assert (row["state"], row["sentence"]) == (
        "clock is wrong",
        "Its run is dated Mon 2026-11-30 12:00 UTC, which was in the future; set the clock of awx-7.",
    )


def test_hosts_that_left_the_inventory_are_named_and_not_judged(tmp_path):
    put(tmp_path, backup(6))
    put(tmp_path, backup(90, step("pg_backup", {}, "breach", "No."), host="old", number=1))
    found = made(tmp_path)
    assert (the(found)["state"], found["places"]["production"]["hosts_gone"]) == ("ok", ["old"])


def test_hosts_of_one_name_in_two_inventories_are_two(tmp_path):
    put(tmp_path, backup(6, host="db1"))
    bad = step("pg_backup", {}, "breach", "No.")
    put(tmp_path, backup(5, bad, host="db1", environment="staging", job="", number=1))
    supabase = backup(4, host="db1", environment="sandbox", job="", number=2)
    put(tmp_path, supabase | {"inventory": ["inventories/sandbox_supabase"]})
    found = made(tmp_path)
    states = [(place, the(found, name, place)["state"]) for place, name in
              (("production", "daily-backup"), ("staging", "backup"), ("sandbox_supabase", "backup"))]  # fmt: skip
    assert states == [("production", "ok"), ("staging", "failed"), ("sandbox_supabase", "ok")]
    assert list(found["places"]) == ["production", "staging", "sandbox_supabase"]


def test_what_was_refused_to_a_person_before_it_began_is_no_operation(tmp_path):
    """Whoever mistyped a tag was told so; a job or a run that was killed so early is another matter."""
    put(tmp_path, backup(6))
    wrong: dict[str, Any] = {"plays": [], "tags": ["nosuch"]}
    put(tmp_path, record("logs", NOW - 3 * H, {}, number=1, **wrong))
    assert [each["name"] for each in made(tmp_path)["places"]["production"]["operations"]] == ["daily-backup"]
    others: list[dict[str, Any]] = [{"schedule": "log-rotation"}, {"job": "AWX job 42"}, {"interrupted": True}]
    for number, more in enumerate(others, 2):
        put(tmp_path, record("logs", NOW - (4 - number) * 60 * timedelta(seconds=1), {}, number=number, **wrong | more))
        assert the(made(tmp_path), "logs nosuch")["state"] in ("failed", "did not end")


@pytest.mark.parametrize(("check", "counts"), [("approval", False), ("calendar", False), ("inventory", True)])
def test_what_a_person_forgot_to_confirm_is_no_failure_of_the_job(tmp_path, check, counts):
    """Nor is a run outside of the window. Where the inventory is wrong, the job meets the same."""
    put(tmp_path, backup(6))
    checks = [{"name": check, "status": "breach", "msg": "No."}]
    refused = step("runbook_preflight", {"checks": checks}, "breach", "No.", role="preflight")
    by_hand = record("backup", NOW - 3 * H, {"db1": [refused]}, number=1)
    put(tmp_path, by_hand)
    assert the(made(tmp_path))["state"] == ("failed" if counts else "ok")
    put(tmp_path, record("backup", NOW - 2 * H, {"db1": [refused]}, number=2, schedule="daily-backup"))
    assert the(made(tmp_path))["state"] == "failed"


def test_a_run_that_came_to_no_host_is_red_until_the_next_one_does(tmp_path):
    put(tmp_path, backup(6))
    put(tmp_path, record("backup", NOW - 3 * H, {}, number=1))
    found = made(tmp_path)
    assert (the(found)["state"], the(found)["sentence"]) == (
        "failed",
        "Nothing was done: no host matched nosuch.",
    )
    put(tmp_path, backup(1, job="", number=2))
    assert the(made(tmp_path))["state"] == "ok"


def test_a_failure_by_hand_is_first_for_a_week_and_stays_red_in_its_row(tmp_path):
    bad = step("pg_restore", {}, "breach", "No such backup.")
    put(tmp_path, backup(6))
    put(tmp_path, record("restore", NOW - 6 * D, {"db1": [preflight("restore.yml"), bad]}))
    assert ("failed", "restore", "failed") in needs(made(tmp_path))
    command = "ansible-playbook -i inventories/production playbooks/restore.yml -e confirm=production"
    later = NOW + 2 * D
    found = made(tmp_path, plan(later), now=later)
    assert ("failed", "restore", "failed") not in needs(found)
    assert (the(found, "restore")["state"], the(found, "restore")["command"]) == ("failed", command)


SUNDAY = NOW.replace(hour=2) - D
WEEKLY = {"playbook": "weekly_db.yml", "hosts": ["databases"], "rhythm": "weekly", "weekday": "sunday",
          "time": "02:00", "max_duration_min": 120}  # fmt: skip


def frozen(now=NOW, *, scope: Any = "all", end="2026-11-30 00:00", **more: Any):
    """An inventory with a weekly job, and a freeze over the window of the last Sunday."""
    known = plan(now, schedules={"weekly": WEEKLY | more.pop("job", {})}, **more)
    known["calendar"]["freezes"] = [
        {
            "id": "audit", "begin": "2026-11-28 00:00", "end": end, "scope": scope, "reason": "an audit",
            "owner": "Jo Doe",
        }
    ]  # fmt: skip
    return known


def weekly(at, *steps: Any, **more: Any):
    return record("weekly_db", at, {"db1": [preflight("weekly_db.yml", "weekly"), *steps]}, schedule="weekly", **more)


def refused(at, code="frozen", **more: Any):
    """A run that the calendar refused."""
    why = step("runbook_preflight", {"code": code, "status": "breach"}, "breach", "weekly_db.yml: not now.")
    return record("weekly_db", at, {"db1": [why]}, **{"schedule": "weekly"} | more)


@pytest.mark.parametrize("came", [True, False], ids=["the timer fired", "nothing came"])
def test_a_job_that_a_freeze_kept_from_running_was_not_missed_and_is_not_green(tmp_path, came):
    good = put(tmp_path, weekly(SUNDAY - 7 * D))
    if came:
        put(tmp_path, refused(SUNDAY))
    found = made(tmp_path, frozen())
    row = the(found, "weekly")
    assert (row["state"], row["next_at"], row["command"]) == ("skipped", "2026-12-06T02:00:00+00:00", "")
    assert row["sentence"] == (
        "The freeze audit (an audit; owner: Jo Doe) kept it from running when it was due, Sun 2026-11-29 02:00 UTC; "
        "the last run began Sun 2026-11-22 02:00 UTC. It is due next Sun 2026-12-06 02:00 UTC."
    )
    assert row["last_run_id"] == json.loads((good / "record.json").read_text())["run_id"]
    assert row["recent"] == ["ok", "skipped"] if came else ["ok"]
    assert not [need for need in needs(found) if need[1] == "weekly"]
    assert ">skipped</span></td>" in (tmp_path / board.PAGE).read_text()
    labels = '{environment="production",schedule="weekly",host="db1",inventory="production"}'
    due = SUNDAY.timestamp()
    assert f"{alerts.SKIPPED}{labels} {due}\n" in (tmp_path / "metrics" / board.METRICS).read_text()
    # The next one has to come again.
    late = NOW + 7 * D
    assert the(made(tmp_path, frozen(late), now=late), "weekly")["state"] == "missed"
    assert f"{alerts.SKIPPED}{{" not in (tmp_path / "metrics" / board.METRICS).read_text()


def test_a_freeze_that_was_taken_out_of_the_calendar_is_known_by_the_run_that_it_refused(tmp_path):
    put(tmp_path, weekly(SUNDAY - 7 * D))
    tidy = plan(NOW, schedules={"weekly": WEEKLY})
    assert the(made(tmp_path, tidy), "weekly")["state"] == "missed"
    put(tmp_path, refused(SUNDAY))
    row = the(made(tmp_path, tidy), "weekly")
    assert (row["state"], row["sentence"].partition(" kept")[0]) == ("skipped", "A freeze")


@pytest.mark.parametrize("begin", ["2026-11-29 03:00", None], ids=["in the calendar", "taken out"])
def test_a_freeze_that_began_after_a_job_was_missed_excuses_nothing(tmp_path, begin):
    """The timer of a machine that was down catches up, and is refused by a freeze that did not hold when it was due."""
    put(tmp_path, weekly(SUNDAY - 7 * D))
    put(tmp_path, refused(SUNDAY + 1.5 * H))
    known = frozen()
    known["calendar"]["freezes"] = [each | {"begin": begin} for each in known["calendar"]["freezes"] if begin]
    row = the(made(tmp_path, known), "weekly")
    assert row["state"] == "missed"
    assert row["sentence"].startswith("No run came when it was due, Sun 2026-11-29 02:00 UTC")


@pytest.mark.parametrize(
    "more",
    [
        {"steps": [step("pg_lease", {}, "breach", "The lease could not be given back.")]},
        {"changed": True},
        {"interrupted": True},
        {"left": {"changed": True}},
    ],
    ids=["something else failed", "something was done", "it was killed", "something was done on another host"],
)
def test_a_run_of_which_not_all_was_refused_by_a_freeze_is_red(tmp_path, more):
    put(tmp_path, weekly(SUNDAY - 7 * D))
    run = refused(SUNDAY, interrupted=more.get("interrupted", False))
    run["hosts"]["db1"]["steps"] += more.get("steps", [])
    run["hosts"]["db1"]["changed"] = more.get("changed", False)
    if "left" in more:
        run["hosts"]["db2"] = (
            run["hosts"]["db1"] | {"status": "not_run", "not_run": "Not run.", "steps": []} | more["left"]
        )
    put(tmp_path, run)
    assert the(made(tmp_path, frozen()), "weekly")["state"] in ("failed", "did not end")


@pytest.mark.parametrize("keeps", [True, False])
def test_a_refused_run_excuses_no_time_at_which_no_window_is_open(tmp_path, keeps):
    """The freeze is the first reason that is said; without it the job could not have run either."""
    put(tmp_path, weekly(SUNDAY - 7 * D + 3 * H))
    put(tmp_path, refused(SUNDAY + 3 * H))
    known = frozen(job={"time": "05:00"})
    if not keeps:
        del known["calendar"]["freezes"]
    assert the(made(tmp_path, known), "weekly")["state"] == "missed"


def test_during_a_long_freeze_a_job_is_due_next_behind_it(tmp_path):
    put(tmp_path, weekly(SUNDAY - 7 * D))
    row = the(made(tmp_path, frozen(end="2026-12-14 00:00")), "weekly")
    assert (row["state"], row["next_at"]) == ("skipped", "2026-12-20T02:00:00+00:00")


BAD_RUN = step("pg_vacuum", {}, "breach", "A table is locked.")


@pytest.mark.parametrize(
    ("known", "last", "state"),
    [
        # What was wrong before the freeze is wrong still.
        (frozen(), weekly(SUNDAY - 7 * D, BAD_RUN), "failed"),
        (frozen(), weekly(SUNDAY - 7 * D, interrupted=True, status="unknown"), "did not end"),
        (frozen(), weekly(SUNDAY - 14 * D), "missed"),
        # What ran in the freeze, as an emergency may, did what it did.
        (frozen(), weekly(SUNDAY, number=1), "ok"),
        (frozen(), weekly(SUNDAY, BAD_RUN, number=1), "failed"),
        # What the freeze does not hold could have run.
        (frozen(scope=["restore_swap.yml"]), weekly(SUNDAY - 7 * D), "missed"),
        (frozen(operations={"weekly_db.yml": "none"}), weekly(SUNDAY - 7 * D), "missed"),
        (frozen(job={"playbook": "backup.yml"}), weekly(SUNDAY - 7 * D), "missed"),
        # Nor could what no window would be open for.
        (frozen(job={"time": "05:00"}), weekly(SUNDAY - 7 * D + 3 * H), "missed"),
        (frozen(operations={"weekly_db.yml": "monthly"}), weekly(SUNDAY - 7 * D), "missed"),
        (frozen(end="2026-11-29 02:00"), weekly(SUNDAY - 7 * D), "missed"),
    ],
)  # fmt: skip
def test_a_freeze_hides_nothing(tmp_path, known, last, state):
    put(tmp_path, last)
    assert the(made(tmp_path, known), "weekly")["state"] == state
    assert f"{alerts.SKIPPED}{{" not in (tmp_path / "metrics" / board.METRICS).read_text()


def test_a_run_that_a_freeze_refused_replaces_no_other_run(tmp_path):
    put(tmp_path, weekly(SUNDAY - 7 * D, BAD_RUN))
    put(tmp_path, refused(SUNDAY))
    assert the(made(tmp_path, frozen()), "weekly")["sentence"].endswith("A table is locked.")


@pytest.mark.parametrize("more", [{"schedule": None}, {"code": "held"}])
def test_a_run_that_was_refused_to_a_person_or_for_another_reason_is_red(tmp_path, more):
    put(tmp_path, weekly(SUNDAY - 7 * D))
    put(tmp_path, refused(SUNDAY, **more))
    assert the(made(tmp_path, frozen()), "weekly")["state"] == "failed"


def test_a_job_that_does_not_run_by_itself_says_why_and_is_not_missed(tmp_path):
    known = plan(NOW)
    known["schedules"]["daily-backup"]["disabled"] = "until there is a bucket"
    row = the(made(tmp_path, known))
    assert (row["state"], row["next_at"]) == ("disabled", None)
    assert row["sentence"] == "It does not run by itself: until there is a bucket."


def test_two_jobs_of_one_playbook_are_told_apart(tmp_path):
    known = plan(NOW)
    proof = {"playbook": "backup_verify.yml", "hosts": ["databases"], "rhythm": "daily", "max_duration_min": 60}
    known["schedules"] = {
        "verification": proof | {"time": "04:00"},
        "proof": proof | {"time": "06:00", "variables": {"backup_verify_proof": True}},
    }
    put(tmp_path, record("backup_verify", NOW - 5 * H, {"db1": [preflight("backup_verify.yml", "verification")]}))
    found = made(tmp_path, known)
    assert (the(found, "verification")["state"], the(found, "proof")["state"]) == ("ok", "missed")
    assert the(found, "proof")["command"].endswith("-e backup_verify_proof=true -e preflight_job=proof")


def test_a_job_whose_playbook_asks_no_preflight_is_known_by_what_its_command_said(tmp_path):
    known = plan(NOW)
    verification = {"playbook": "backup_verify.yml", "hosts": ["databases"], "rhythm": "daily", "time": "04:00",
                    "max_duration_min": 60}  # fmt: skip
    known["schedules"] = {
        "verification": verification,
        "proof": verification | {"variables": {"backup_verify_proof": True}, "disabled": "until there is a server"},
    }
    looked = {"db1": [step("pg_backup_verify", {})]}
    put(tmp_path, record("backup_verify", NOW - 5 * H, looked, schedule="verification"))
    # One that is not the job as it is scheduled is refused before it comes to a host, and is none of its runs.
    put(tmp_path, record("backup", NOW - H, {}, schedule="verification"))
    assert the(made(tmp_path, known), "verification")["state"] == "ok"


def test_a_playbook_that_does_its_work_on_one_host_is_not_missing_on_the_others(tmp_path):
    known = plan(NOW, databases=3)
    known["schedules"] = {
        "reviews": {"playbook": "reviews.yml", "hosts": ["databases"], "rhythm": "daily", "time": "04:00",
                    "max_duration_min": 60},
    }  # fmt: skip
    plays = [{"name": "Reviews", "hosts": "databases[0]", "matched": True}]
    put(tmp_path, record("reviews", NOW - 5 * H, {"db1": [preflight("reviews.yml", "reviews")]}, plays=plays))
    assert (the(made(tmp_path, known), "reviews")["state"], the(made(tmp_path, known), "reviews")["hosts"]) == ("ok", 1)


def test_a_check_mode_run_counts_for_nothing(tmp_path):
    put(tmp_path, backup(6, check_mode=True))
    assert the(made(tmp_path))["state"] == "missed"


def test_a_schedule_or_calendar_that_cannot_be_read_is_unknown(tmp_path):
    known = plan(NOW, calendar={"windows": [{"id": "x"}]}, schedules={"daily-backup": {"rhythm": "never"}})
    found = needs(made(tmp_path, known))
    assert {("unknown", "Calendar", "unknown"), ("unknown", "Schedules", "unknown")} <= set(found)


def test_without_any_run_the_board_says_so_and_is_not_green(tmp_path):
    board.renew(tmp_path, NOW)
    found = json.loads((tmp_path / board.DATA).read_text())
    assert (found["status"], found["sentence"]) == ("unknown", "No run is known.")


def test_a_damaged_index_is_made_again_and_one_of_a_newer_version_is_left(tmp_path):
    put(tmp_path, backup(6))
    put(tmp_path, record("doctor", NOW - H, {"db1": []}))
    before = made(tmp_path)
    (tmp_path / board.INDEX).write_text("{torn")
    again = made(tmp_path)
    assert again["notes"] == ["The board's index was damaged, and is made again from the records."]
    assert the(again, "doctor")["state"] == the(before, "doctor")["state"] == "ok"
    assert the(again)["last_run_id"] == the(before)["last_run_id"]
    newer = '{"schema": "runbook-board", "schema_version": 2}'
    (tmp_path / board.INDEX).write_text(newer)
    with pytest.raises(RunbookError, match="update the project here"):
        board.renew(tmp_path, NOW)
    assert (tmp_path / board.INDEX).read_text() == newer


def test_a_damaged_index_is_told_once_also_where_a_state_store_is_told_first_what_it_knows(tmp_path):
    put(tmp_path, backup(6))
    made(tmp_path)
    for damage, says in (
        (lambda _: "{torn", "was damaged"),
        (lambda text: text.replace('"seen":[', '"seen":[7,'), "1 entry"),
    ):
        path = tmp_path / board.INDEX
        path.write_text(damage(path.read_text()))
        assert board.known(tmp_path, NOW, ("production", plan(NOW)))["seen"] == [backup(6)["run_id"]]
        (note,) = made(tmp_path)["notes"]
        assert says in note
        assert made(tmp_path)["notes"] == []


def test_a_damaged_entry_of_the_index_is_made_again_and_the_board_is_not_green_meanwhile(tmp_path):
    put(tmp_path, backup(6))
    before = made(tmp_path)
    index = json.loads((tmp_path / board.INDEX).read_text())
    index["places"]["production"]["hosts"]["job:daily-backup"]["db1"] = {"last": ["nosuch", "ok", ""], "good": "nosuch"}
    (tmp_path / board.INDEX).write_text(json.dumps(index))
    again = made(tmp_path)
    assert again["notes"] == ["1 entry of the board's index is damaged, and made again from the records."]
    assert (the(again)["last_run_id"], the(again)["state"]) == (the(before)["last_run_id"], "ok")
    assert "<title>Unknown" in (tmp_path / board.PAGE).read_text()
    assert made(tmp_path)["notes"] == []


def test_records_that_cannot_be_read_are_counted_and_nothing_else_is_lost(tmp_path):
    put(tmp_path, backup(6))
    put(tmp_path, backup(3, number=1) | {"schema_version": 99})
    put(tmp_path, {"run_id": "20261130T050000Z-backup-000002"})
    (put(tmp_path, backup(2, number=3)) / "record.json").write_text('{"torn')
    found = made(tmp_path)
    assert the(found)["last_at"] == stamp(NOW - 6 * H)
    assert found["notes"] == ["3 records could not be read; what became of those runs is unknown."]


def test_what_there_is_no_time_for_is_read_by_later_runs_the_newest_first(tmp_path):
    put(tmp_path, backup(6))
    found = made(tmp_path, patience_s=-1.0)
    assert found["notes"] == ["1 older record not read yet; the next runs read on, or playbooks/board.yml."]
    assert the(made(tmp_path))["state"] == "ok"


def test_records_of_other_places_count(tmp_path):
    (tmp_path / board.ELSEWHERE).mkdir()
    of_ci = backup(6)
    (tmp_path / board.ELSEWHERE / f"{of_ci['run_id']}.json").write_text(json.dumps(of_ci))
    assert the(made(tmp_path))["state"] == "ok"


def test_facts_that_outlast_runs_are_judged_when_the_board_is_made(tmp_path):
    tls = step("tls_certificate_info", {
        "addresses": [{"endpoint": "db:5432", "not_before": stamp(NOW - 60 * D), "not_after": stamp(NOW + 30 * D),
                       "due_at": stamp(NOW), "critical_at": stamp(NOW + 15 * D), "renewal": "current"}],
        "checks": [{"name": "chain", "status": "ok", "subject": "db:5432"}],
    })  # fmt: skip
    put(tmp_path, record("certificates", NOW - H, {"db1": [tls]}))

    def line(now):
        cards = made(tmp_path, plan(now), now=now)["places"]["production"]["cards"]
        return next(each for each in cards if each["title"] == "Certificates")["lines"][0]

    assert line(NOW - timedelta(minutes=1))["tone"] == "ok"
    due = line(NOW)
    assert (due["text"], due["tone"], round(due["share"], 2)) == ("until 2026-12-30, 33% left", "failed", 0.33)
    assert line(NOW + 31 * D)["share"] == 0


def test_of_each_database_the_board_knows_a_backup_or_says_that_it_knows_none(tmp_path):
    good = step("pg_backup", {"manifest": "m", "snapshot_at": stamp(NOW - 6 * H), "size_bytes": 7})
    put(tmp_path, backup(6, good))
    card = next(each for each in made(tmp_path, plan(NOW, databases=2))["places"]["production"]["cards"]
                if each["title"] == "Backups")  # fmt: skip
    assert [(each["who"], each["text"], each["tone"]) for each in card["lines"]] == [
        ("db1 · last proof", "never", "unknown"),
        ("db2", "never", "unknown"),
        ("db1 · newest backup", "6 h old", "ok"),
    ]


def test_runs_that_end_at_once_are_all_on_the_board_and_no_file_is_torn(tmp_path):
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                put(tmp_path, backup(6, job="", host=f"db{number}", number=number), f"20261130T030000Z-backup-{number}")
                for _again in range(3):
                    board.renew(tmp_path, NOW, plan=("production", plan(NOW, databases=6)))
                    page = (tmp_path / board.PAGE).read_text()
                    json.loads((tmp_path / board.DATA).read_text())
                    code = int(not page.endswith("</html>"))
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
    found = the(json.loads((tmp_path / board.DATA).read_text()))
    assert (found["hosts"], found["odd_hosts"]) == (6, {"db6": "never run"})
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == [".board.lock"]


def test_what_never_ran_and_was_never_due_is_one_point(tmp_path):
    """On the first day that is all that is scheduled, and nobody can do anything about it."""
    jobs = plan(NOW)["schedules"]
    jobs |= {name: jobs["daily-backup"] | {"time": at} for name, at in (("a", "05:00"), ("b", "04:00"))}
    known = plan(NOW, databases=9, schedules=jobs)
    found = made(tmp_path, known, since=NOW)
    (need,) = [each for each in found["places"]["production"]["needs"] if each["word"] == "never run"]
    assert (need["tone"], need["msg"]) == (
        "unknown", "3 jobs never ran yet: a, b, daily-backup. The first is due Tue 2026-12-01 03:00 UTC.",
    )  # fmt: skip
    # All hosts are not named one by one.
    assert the(found)["sentence"].startswith("It never ran. ")


def test_a_job_whose_groups_have_no_host_is_never_missed(tmp_path):
    """No engine has it: schedules.yml leaves it out."""
    jobs = plan(NOW)["schedules"]
    jobs["renewal"] = jobs["daily-backup"] | {"hosts": ["servers"]}
    found = made(tmp_path, plan(NOW, schedules=jobs))
    assert [each["name"] for each in found["places"]["production"]["operations"]] == ["daily-backup"]


@pytest.mark.parametrize(("takes_min", "stale"), [(15, "05:00"), (240, "07:00")])
def test_a_board_is_not_stale_while_the_run_that_was_due_may_be_under_way(tmp_path, takes_min, stale):
    known = plan(NOW)
    known["schedules"]["daily-backup"]["max_duration_min"] = takes_min
    assert made(tmp_path, known)["stale_at"] == f"2026-12-01T{stale}:00+00:00"


def test_the_page_runs_nothing_but_its_own_clock_and_escapes_what_it_is_told(tmp_path):
    bad = step("pg_backup", {}, "breach", '<script>alert("x")</script>')
    put(tmp_path, backup(6, bad))
    made(tmp_path)
    page = (tmp_path / board.PAGE).read_text()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert" in page
    assert "default-src 'none'" in page
    assert 'data-stale="2026-12-01T05:00:00Z"' in page
    assert (tmp_path / board.PAGE).stat().st_mode & 0o777 == 0o600
    samples = (tmp_path / "metrics" / board.METRICS).read_text()
    assert 'runbook_board_points{inventory="production",state="red"} 1' in samples


@pytest.mark.parametrize(
    ("looked_at", "classes", "says"),
    [
        (NOW + timedelta(minutes=3), [], "Made 3 min ago"),
        (NOW - timedelta(minutes=5), [], "Made just now"),
        (NOW - timedelta(minutes=6), ["future"], "its age is unknown"),
        (NOW - 90 * D, ["future"], "its age is unknown"),
        (NOW + 3 * D, ["stale"], "Made 3 days ago"),
    ],
)
def test_the_page_says_that_it_is_old_or_that_a_clock_is_wrong_and_never_both(tmp_path, looked_at, classes, says):
    if shutil.which("node") is None:
        pytest.skip("node is not installed, so the page's script was not run")
    put(tmp_path, backup(6))
    made(tmp_path)
    page = (tmp_path / board.PAGE).read_text()
    script = page.partition("<script>")[2].partition("</script>")[0]
    data = {name: re.findall(f'data-{name}="([^"]+)"', page)[0] for name in ("made", "stale")}
    around = f"""
        const box = {{dataset: {json.dumps(data)}}}, classes = [];
        const document = {{getElementById: () => box, body: {{classList: {{
            toggle: (name, is) => {{ if (is) classes.push(name); }}}}}}}};
        Date.now = () => {looked_at.timestamp() * 1000}; setInterval = () => 0;
        {script}
        console.log(JSON.stringify([classes, box.textContent]));
    """
    done = subprocess.run(["node", "-e", around], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found[0] == classes
    assert says in found[1]
