"""What a drill refuses: announcements and targets."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import scenarios
from jinja2.nativetypes import NativeEnvironment

NOW = datetime(2026, 2, 10, 14, 0, tzinfo=UTC)


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
