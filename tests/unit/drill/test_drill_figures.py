"""What a drill measures: recovery time, loss, and what they promise."""

from __future__ import annotations

from datetime import timedelta

import drill_samples as samples
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import figures


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
