"""What a module says that failed because its maintenance window left it less time than it was given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook import module
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.errors import RunbookError

WINDOW = "The run's maintenance window ends at "
LATER = " s of the 3600 s of deadline_s; what is finished stays, run the same command again in the next window."


def test_the_end_of_the_window_is_said_first_and_alone():
    """More time, which the clock asks for, cannot be given."""
    params = {"deadline_s": 3600}
    bounded = module._bound(params, datetime.now(UTC) + timedelta(seconds=600))
    assert bounded.startswith(WINDOW)
    assert bounded.endswith(LATER)
    with pytest.raises(RunbookError) as over:
        Clock(0).check()
    assert module._with_window(over.value.message, bounded) == bounded
    # Other sentences keep what they found.
    stopped = "barman did not end within 6 s and was stopped; raise deadline_s."
    assert module._with_window(stopped, bounded) == f"{bounded} {stopped}"
    assert module._with_window("The disk is full.", bounded) == f"The disk is full. {bounded}"
    assert module._with_window(over.value.message, "") == over.value.message
