"""What patients read, and which options go with which act."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import status_page
from ansible.module_utils.runbook.rules.change.status_page import BACKENDS, STATES, check, reference, text_of, times

NOW = datetime(2026, 11, 29, 1, 0, tzinfo=UTC)
STARTS, UNTIL = datetime(2026, 11, 29, 2, 0, tzinfo=UTC), datetime(2026, 11, 29, 4, 0, tzinfo=UTC)
UNSET: dict[str, Any] = dict.fromkeys(sorted(frozenset().union(*(needs.all for needs in BACKENDS.values())))) | {
    "title": "", "text": "", "starts_at": None, "until": None, "components": [], "level": None, "phase": None,
    "announced_as": "", "backend": "statuspage", "statuspage_page": "abcdefghijkl", "statuspage_token": "x",
}  # fmt: skip
CACHET = {
    "backend": "cachet", "statuspage_page": None, "statuspage_token": None, "cachet_url": "https://x",
    "cachet_token": "x",
}  # fmt: skip
UPPTIME = {
    "backend": "upptime", "statuspage_page": None, "statuspage_token": None, "upptime_repository": "a/b",
    "upptime_token": "x",
}  # fmt: skip


@pytest.mark.parametrize("state", [state for state, act in STATES.items() if act.text])
def test_the_own_texts_are_for_patients(state):
    said = text_of(state, "", STARTS, UNTIL)
    assert "{" not in said
    assert said.endswith(".")
    for inside in ("database", "postgres", "server", "runbook", "playbook", "vacuum", "Supabase", "Vercel", "backup"):
        assert inside.lower() not in said.lower()


def test_times_are_said_with_day_and_zone():
    assert "from Sunday 29 November 2026, 02:00 UTC to Sunday 29 November 2026, 04:00 UTC" in text_of(
        "maintenance_scheduled", "", STARTS, UNTIL
    )
    assert text_of("maintenance_started", " Own words. ", None, UNTIL) == "Own words."
    assert text_of("maintenance_started", "", None, None) == "Scheduled maintenance is in progress."


def test_a_reference_tells_nothing():
    first, second = reference("runbook:20261129T020000Z-weekly_db-1a2b"), reference("runbook:other")
    assert first != second
    assert first.isalnum()
    assert len(first) == 12


@pytest.mark.parametrize(("given", "expected"), [
    ({}, (None, None)),
    ({"until": "2026-11-29T04:00:00Z"}, (NOW, UNTIL)),
    ({"until": "2026-11-29T05:00:00+01:00", "starts_at": "2026-11-29T02:00:00Z"}, (STARTS, UNTIL)),
])  # fmt: skip
def test_maintenance_begins_now_unless_it_is_said(given, expected):
    assert times({"until": None, "starts_at": None} | given, NOW) == expected


@pytest.mark.parametrize("given", [
    {"until": "2026-11-29T01:00:00Z"},
    {"until": "2026-11-29T02:00:00Z", "starts_at": "2026-11-29T02:00:00Z"},
    {"until": "2026-11-29T00:30:00Z", "starts_at": "2026-11-29T00:00:00Z"},
])  # fmt: skip
def test_an_end_that_is_no_end_is_refused(given):
    with pytest.raises(RunbookError, match=r"until: .* give a later end"):
        times({"starts_at": None} | given, NOW)


@pytest.mark.parametrize("given", [
    {"state": "maintenance_scheduled", "until": "x", "components": ["9qnvr23zmzn"], "announced_as": "q-2026-12-06"},
    {"state": "maintenance_ended"},
    {"state": "incident_opened", "level": "degraded"},
    {"state": "incident_updated", "text": "x", "phase": "identified"},
    {"state": "components_set", "components": ["a"], "level": "operational"},
    {"state": "maintenance_scheduled", "until": "x", "components": ["7"]} | CACHET,
    {"state": "maintenance_scheduled", "until": "x", "components": ["web-app"]} | UPPTIME,
])  # fmt: skip
def test_good_options_pass(given):
    check(UNSET | given)


@pytest.mark.parametrize(("given", "says"), [
    ({"state": "maintenance_scheduled"}, "until: it is not set, and state maintenance_scheduled needs it"),
    ({"state": "maintenance_ended", "until": "x"}, "until: state maintenance_ended has no use .* maintenance_updated"),
    ({"state": "incident_opened"}, "level: it is not set"),
    ({"state": "incident_opened", "level": "degraded", "starts_at": "x"}, "starts_at: state incident_opened"),
    ({"state": "incident_updated", "text": "x"}, "phase: it is not set"),
    ({"state": "incident_updated", "phase": "identified"}, "text: it is not set"),
    ({"state": "incident_updated", "phase": "identified", "text": "x", "components": ["a"]}, "components, level: one"),
    ({"state": "components_set", "components": ["a"]}, "level: it is not set"),
    ({"state": "maintenance_ended", "text": "x" * 25_001}, "text: it is longer than the 25,000"),
    ({"state": "incident_resolved", "announced_as": "x"}, "announced_as: 'x' with state incident_resolved"),
    ({"state": "maintenance_ended", "announced_as": "a/b"}, "announced_as: 'a/b'"),
    ({"state": "components_set", "components": ["../a"], "level": "degraded"}, "components: '../a' is no id"),
    ({"state": "maintenance_ended", "statuspage_page": "https://x"}, "statuspage_page: 'https://x' is no id"),
    ({"state": "components_set", "components": ["web"], "level": "degraded"} | CACHET, "components: 'web' is no id"),
    ({"state": "components_set", "components": ["web"], "level": "degraded"} | UPPTIME, "measures them itself"),
    ({"state": "maintenance_ended"} | UPPTIME | {"upptime_repository": "b"}, "upptime_repository: 'b' names none"),
])  # fmt: skip
def test_bad_options_are_refused_by_their_name(given, says):
    with pytest.raises(RunbookError, match=says):
        check(UNSET | given)


def test_doctests():
    assert doctest.testmod(status_page).failed == 0
