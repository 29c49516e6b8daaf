"""What outlasts a look at advisories."""

from __future__ import annotations

import math
from typing import Any

from ansible.module_utils.runbook.report.sections.advisories import SECTIONS


def step(project: str, status: str, *advisories: tuple[str, str | None]) -> dict[str, Any]:
    """One look, that ended two seconds after 1970 began."""
    found = [{"state": state, "due_at": due_at} for state, due_at in advisories]
    figures = {"project": project, "advisories": found}
    return {"started_at": "1970-01-01T00:00:00.000Z", "duration_s": 2.0, "status": status, "figures": figures}


def test_the_first_deadline_counts_and_what_is_waived_has_none():
    assert SECTIONS[0].lasting is not None
    first, later, past = (f"1970-01-01T00:0{minute}:00+00:00" for minute in (1, 2, 0))
    kept = SECTIONS[0].lasting(
        [step("web", "ok", ("open", later), ("open", first), ("waived", past)), step("runbook", "ok", ("waived", past))]
    )
    assert kept == {
        "advisories_waiting": {"web": 2.0, "runbook": 0.0},
        "advisories_waiver_end_timestamp_seconds": {},
        "advisories_due_timestamp_seconds": {"web": 60.0},
        "advisories_last_check_timestamp_seconds": {"web": 2.0, "runbook": 2.0},
    }


def test_what_a_source_did_not_answer_is_no_number():
    assert SECTIONS[0].lasting is not None
    kept = SECTIONS[0].lasting([step("web", "unknown", ("undated", None))])
    waiting = kept["advisories_waiting"]
    assert isinstance(waiting, dict)
    assert math.isnan(waiting["web"])
    assert kept["advisories_due_timestamp_seconds"] == {}
