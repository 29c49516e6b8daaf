"""What the states of a project mean while one waits for the end of a restore."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.supabase import supabase as rules

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)


def waiting(before: str = rules.HEALTHY, *, start_timeout_s: float | None = 180) -> rules.Waiting:
    project = rules.Project("abcdefghijklmnopqrst", "mental-scribe", "us-east-1", before, NOW)
    return rules.Waiting(project, wait_timeout_s=7200, start_timeout_s=start_timeout_s)


def test_a_project_that_was_at_work_and_is_well_again_is_through():
    wait = waiting()
    assert not wait.is_over(rules.HEALTHY, 0), "that is the state from before"
    assert not wait.is_over("", 10), "no answer tells nothing"
    assert not wait.is_over(rules.RESTORING, 20)
    assert not wait.is_over("ACTIVE_UNHEALTHY", 30)
    assert wait.is_over(rules.HEALTHY, 40)


def test_a_restore_that_is_known_to_be_on_its_way_is_through_at_the_first_good_look():
    assert waiting(rules.RESTORING, start_timeout_s=None).is_over(rules.HEALTHY, 0)


@pytest.mark.parametrize("state", [rules.RESTORE_FAILED, *sorted(rules.DEAD_ENDS)])
def test_a_restore_that_failed_is_a_breach(state):
    wait = waiting()
    assert not wait.is_over(rules.RESTORING, 10)
    with pytest.raises(RunbookError, match="The restore did not succeed") as failed:
        wait.is_over(state, 20)
    assert failed.value.status == "breach"


def test_an_earlier_failure_is_not_taken_for_the_end():
    wait = waiting(rules.RESTORE_FAILED)
    assert not wait.is_over(rules.RESTORE_FAILED, 10)
    assert not wait.is_over(rules.RESTORING, 20)
    with pytest.raises(RunbookError, match="did not succeed"):
        wait.is_over(rules.RESTORE_FAILED, 30)


def test_what_nobody_says_is_unknown():
    assert not waiting().is_over(rules.HEALTHY, 180)
    with pytest.raises(RunbookError, match="whether it was restored is not known") as silent:
        waiting().is_over(rules.HEALTHY, 181)
    assert silent.value.status == "unknown"
    wait = waiting(start_timeout_s=None)
    assert not wait.is_over(rules.RESTORING, 7200)
    with pytest.raises(RunbookError, match="after 7201 s; go on waiting") as late:
        wait.is_over(rules.RESTORING, 7201)
    assert late.value.status == "unknown"
