"""Which copies of a database go, and which a person is told of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.rules.backup import copies
from ansible.module_utils.runbook.rules.backup.restore import Making, failed_name
from ansible.module_utils.runbook.rules.backup.swap import Marker

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.backup.swap import State

NOW = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
BACKUP = "2026-11-20T03-00-00Z"


def row(name: str, comment: str = "", **more: object) -> dict[str, object]:
    return {
        "name": name, "comment": comment, "owner": "restorer", "is_mine": True, "size_bytes": 2_000_000, "sessions": 0,
    } | more  # fmt: skip


def marked(state: State, hours: float, name: str = "app_copy", **more: object) -> dict[str, object]:
    at = f"{NOW - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"
    return row(name, str(Marker(state, "app", at, backup_id=BACKUP)), **more)


def fate(one: dict[str, object], *, is_made: bool = False) -> str:
    (copy,) = copies.read([one], "app")
    abandoned = [] if is_made else [copy.name]
    return copies.fate(copy, abandoned=abandoned, database="app", now=NOW, remind_after_days=14).action


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (marked("restoring", 5.9), "keep"),
        (marked("restoring", 6.1), "drop"),
        (marked("restoring", 6.1, sessions=1), "keep"),
        (marked("restoring", 6.1, is_mine=False), "tell"),
        # The clock that wrote it was ahead.
        (marked("restoring", -48), "keep"),
        (marked("failed", 24 * 6.9, failed_name("app", BACKUP)), "keep"),
        (marked("failed", 24 * 7.1, failed_name("app", BACKUP)), "drop"),
        # Somebody asked to keep this one.
        (marked("failed", 24 * 99, "app_restore"), "tell"),
        (marked("proven", 24 * 13.9), "keep"),
        *((marked(state, 24 * 999), "tell") for state in ("proven", "unproven", "previous")),
        (row("app_old", str(Marker("restoring", "app", "yesterday"))), "tell"),
        (row(str(Making("2026-11-28T19-00-00Z", 4711))), "drop"),
        (row(str(Making("2026-11-29T01-00-00Z", 4711))), "keep"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_copy(one: dict[str, object], expected: str):
    assert fate(one) == expected


def test_a_copy_that_a_session_is_making_stays():
    assert fate(row(str(Making("2026-11-20T19-00-00Z", 4711))), is_made=True) == "keep"


def test_only_copies_of_this_database_count():
    others = [
        row("app_restore_2026-01-01T00-00-00Z"), row("runbook_making_by_hand"),
        row(str(Making("2026-11-28T19-00-00Z", 1)), "somebody's"),
        row("x", str(Marker("restoring", "other", "2026-01-01T00:00:00Z"))),
        row("app", str(Marker("restoring", "app", "2026-01-01T00:00:00Z"))),
    ]  # fmt: skip
    assert copies.read(others, "app") == []


def test_a_person_is_told_the_statement():
    (copy,) = copies.read([marked("previous", 24 * 20, 'app "old"')], "app")
    assert copies.sentence(copy, NOW) == (
        'Database app "old" was the live one before a swap: 20 days old, 1.9 MiB, of restorer. Where nobody needs it, '
        'as restorer: DROP DATABASE "app ""old"""'
    )
