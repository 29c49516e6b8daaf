"""Rules about Supabase's backups, at their borders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.supabase import supabase as rules

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
OLD_PROJECT = datetime(2024, 1, 1, tzinfo=UTC)


def body(**changed: Any) -> dict[str, Any]:
    return {
        "region": "us-east-1",
        "pitr_enabled": True,
        "walg_enabled": True,
        "backups": [],
        "physical_backup_data": {
            "earliest_physical_backup_date_unix": int((NOW - timedelta(days=30)).timestamp()),
            "latest_physical_backup_date_unix": int((NOW - timedelta(seconds=100)).timestamp()),
        },
    } | changed


def daily(*states: str) -> list[dict[str, Any]]:
    """One backup a day, the first one an hour old."""
    return [
        {
            "id": 100 - number,
            "status": state,
            "is_physical_backup": True,
            "inserted_at": (NOW - timedelta(hours=1, days=number)).isoformat(),
        }
        for number, state in enumerate(states)
    ]


def judged(made: dict[str, Any], **changed: Any) -> dict[str, str]:
    wanted: dict[str, Any] = {
        "created_at": OLD_PROJECT,
        "now": NOW,
        "pitr": True,
        "max_age_s": 3600,
        "retention_days": 30,
    } | changed
    return {check.name: check.status for check in rules.judge(rules.parse_backups(made), **wanted)}


def test_what_was_promised():
    assert judged(body()) == {"pitr": "ok", "age": "ok", "retention": "ok", "states": "ok"}


def test_the_answer_of_a_project_that_has_no_backup_at_all():
    nothing = body(pitr_enabled=False, physical_backup_data={})
    assert judged(nothing) == {"pitr": "breach", "age": "breach", "retention": "breach", "states": "ok"}


@pytest.mark.parametrize(("age_s", "status"), [(3600, "ok"), (3601, "breach"), (-300, "ok"), (-301, "unknown")])
def test_age_at_the_border(age_s, status):
    window = body()["physical_backup_data"]
    window["latest_physical_backup_date_unix"] = int(NOW.timestamp()) - age_s
    assert judged(body(physical_backup_data=window))["age"] == status


@pytest.mark.parametrize(("days", "status"), [(30, "ok"), (29, "ok"), (28.9, "breach"), (7, "breach")])
def test_retention_at_the_border(days, status):
    window = body()["physical_backup_data"]
    window["earliest_physical_backup_date_unix"] = int((NOW - timedelta(days=days)).timestamp())
    assert judged(body(physical_backup_data=window))["retention"] == status


def test_a_young_project_cannot_have_old_backups():
    window = body()["physical_backup_data"]
    window["earliest_physical_backup_date_unix"] = int((NOW - timedelta(days=7)).timestamp())
    young = judged(body(physical_backup_data=window), created_at=NOW - timedelta(days=7, hours=3))
    assert young["retention"] == "ok"


def test_daily_backups_count_without_pitr():
    made = body(pitr_enabled=False, physical_backup_data={}, backups=daily(*["COMPLETED"] * 30))
    assert judged(made, pitr=False, max_age_s=93_600) == {
        "pitr": "ok", "age": "ok", "retention": "ok", "states": "ok",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["COMPLETED", "FAILED"], "ok"),
        (["PENDING", "COMPLETED"], "ok"),
        (["FAILED", "COMPLETED"], "breach"),
        (["CANCELLED", "COMPLETED"], "breach"),
        (["COMPLETED", "TELEPORTED"], "unknown"),
    ],
)
def test_states(states, status):
    assert judged(body(backups=daily(*states)))["states"] == status


@pytest.mark.parametrize("missing", ["pitr_enabled", "backups", "physical_backup_data"])
def test_a_missing_field_is_named_and_unknown(missing):
    made = body()
    del made[missing]
    with pytest.raises(RunbookError, match=missing) as caught:
        rules.parse_backups(made)
    assert caught.value.context["status"] == "unknown"


@pytest.mark.parametrize("answer", [None, [], "text", {"ref": 7}, {"ref": "x", "name": "y", "status": None}])
def test_a_strange_answer_is_unknown(answer):
    with pytest.raises(RunbookError) as caught:
        rules.parse_project(answer)
    assert caught.value.context["status"] == "unknown"


@pytest.mark.parametrize(
    "ref",
    ["", "abc", "ABCDEFGHIJKLMNOPQRST", "abcdefghijklmnopqrs1", "a/../../v1/projects/x", "abcdefghijklmnopqrst\n"],
)
def test_no_reference_of_a_project(ref):
    with pytest.raises(RunbookError, match="twenty lower-case letters"):
        rules.check_ref(ref)


@pytest.mark.parametrize("shift_s", [-30 * 86400 - 1, -99, 60])
def test_a_moment_outside_of_the_window_is_refused_with_the_window(shift_s):
    with pytest.raises(RunbookError, match=r"between 2026-10-24 04:00:00 and 2026-11-23 03:58:20 UTC"):
        rules.check_point_in_time(rules.parse_backups(body()), NOW + timedelta(seconds=shift_s), NOW)


@pytest.mark.parametrize("shift_s", [-30 * 86400, -100])
def test_the_ends_of_the_window_can_be_restored(shift_s):
    assert rules.check_point_in_time(rules.parse_backups(body()), NOW + timedelta(seconds=shift_s), NOW)


def test_a_backup_by_its_number():
    made = rules.parse_backups(body(backups=daily("COMPLETED", "FAILED", "COMPLETED")))
    assert "backup 98" in rules.check_backup_id(made, 98)
    with pytest.raises(RunbookError, match="there are: 100, 98"):
        rules.check_backup_id(made, 99)


@pytest.mark.parametrize(
    ("services", "status"),
    [
        ([{"name": name, "status": "ACTIVE_HEALTHY"} for name in rules.SERVICES], {"ok"}),
        ([{"name": name, "status": "UNHEALTHY"} for name in rules.SERVICES], {"ok", "breach"}),
        ([{"name": name, "status": "SINGING"} for name in rules.SERVICES], {"ok", "unknown"}),
        ([], {"ok", "unknown"}),
        ({"message": "?"}, {"ok", "unknown"}),
    ],
)
def test_health(services, status):
    project = rules.Project("x", "y", "us-east-1", "ACTIVE_HEALTHY", OLD_PROJECT)
    assert {check.status for check in rules.judge_health(project, services)} == status
