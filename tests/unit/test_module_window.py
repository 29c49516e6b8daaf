"""What a module says that failed because its maintenance window left it less time than it was given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NoReturn

import pytest
from ansible.module_utils.runbook import module
from ansible.module_utils.runbook.drivers import permits
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
    assert module._with_window(over.value.message, bounded, late=False) == bounded
    # Other sentences keep what they found.
    stopped = "barman did not end within 6 s and was stopped; raise deadline_s."
    assert module._with_window(stopped, bounded, late=False) == f"{bounded} {stopped}"
    assert module._with_window("The disk is full.", bounded, late=True) == f"The disk is full. {bounded}"
    # What failed at once did not fail for want of time.
    assert module._with_window("There is no backup.", bounded, late=False) == "There is no backup."
    assert module._with_window(over.value.message, "", late=True) == over.value.message


def test_a_module_in_a_window_that_ends_is_given_the_time_that_is_left(monkeypatch):
    params = {"deadline_s": 3600}

    class Module:
        argument_spec: ClassVar[dict[str, Any]] = {}
        no_log_values: ClassVar[set[str]] = set()
        check_mode = _diff = False

        def __init__(self, **_spec: Any) -> None:
            self.params = params

        def fail_json(self, **said: Any) -> NoReturn:
            raise SystemExit(said["msg"])

    def core(context: module.Context) -> dict[str, Any]:
        raise RunbookError(f"It was stopped after {context.params['deadline_s']} s, its deadline.")

    monkeypatch.setattr(module, "_Module", Module)
    monkeypatch.setattr(module, "_listen_for_the_end", lambda _run: None)
    monkeypatch.setattr(permits, "ends_at", lambda _run: datetime.now(UTC) + timedelta(seconds=600))
    with pytest.raises(SystemExit) as ended:
        module.run_module(core, name="pg_archive", argument_spec={})
    assert 0 < params["deadline_s"] <= 600
    assert str(ended.value).startswith(f"It was stopped after {params['deadline_s']} s, its deadline. {WINDOW}")
