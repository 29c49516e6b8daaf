"""Which recovery point a drill restores, and which backups it skips."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import defects
from ansible.module_utils.runbook.rules.drill import points
from ansible.module_utils.runbook.rules.drill.points import Candidate

NOW = datetime(2026, 2, 10, 14, 0, tzinfo=UTC)


def at(minute: int) -> datetime:
    return NOW - timedelta(minutes=minute)


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


def test_a_failed_attempt_is_known_by_its_code():
    bad = Candidate("dump", "d1", at(1))
    failed = {"dump/d1": points.Problem("object is not what was written", (defects.DAMAGED,))}
    (found,) = points.unusable([bad, Candidate("pitr", "p1", at(1))], failed)
    assert (found.problem, found.codes) == ("object is not what was written", (defects.DAMAGED,))
