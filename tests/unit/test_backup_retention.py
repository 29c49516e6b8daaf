"""Which backups stay, at the borders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import backup_retention as rules
from ansible.module_utils.runbook.rules.manifest import backup_id

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
POLICY = rules.Policy(daily=31, weekly=8, monthly=12, min_keep=3, incomplete_after_s=86_400)


def version(name: str, at: datetime, **changed: Any) -> rules.Version:
    fields: dict[str, Any] = {
        "name": name, "version_id": "v1", "size_bytes": 10, "modified_at": at, "is_latest": True,
        "is_delete_marker": False,
    }  # fmt: skip
    return rules.Version(**fields | changed)


def made(at: datetime, *names: str, marker: bool = False) -> rules.Folder:
    versions = [version(name, at) for name in names or ("data-00.dump.zst", "manifest.json")]
    if marker:
        versions.append(version("manifest.json", at, version_id="v2", is_delete_marker=True))
    return rules.Folder(backup_id(at), tuple(versions))


def nightly(count: int) -> list[rules.Folder]:
    return [made(NOW - timedelta(days=number, hours=1)) for number in range(count)]


def deleted(found: list[rules.Folder], policy: rules.Policy = POLICY, *, proven: int | None = 0) -> list[int]:
    """Numbers of the nights that go."""
    newest = None if proven is None else found[proven].backup_id
    decisions = rules.plan(found, policy, newest_proven=newest, now=NOW)
    assert [each.backup_id for each in decisions] == [each.backup_id for each in found]
    return [number for number, each in enumerate(decisions) if each.action == "delete"]


def test_thirty_days_hold():
    """31 nightly backups reach back 30 days."""
    found = nightly(31)
    assert deleted(found) == []
    assert NOW - found[-1].started_at >= timedelta(days=30)


def test_a_year_of_nights():
    found = nightly(400)
    kept = sorted(set(range(400)) - set(deleted(found)))
    assert kept[:31] == list(range(31))
    months = {found[number].started_at.strftime("%Y-%m") for number in kept}
    assert len(months) == 12
    # The newest night of each older month, and of each older week.
    assert all(found[number].started_at.strftime("%Y-%m") != found[number - 1].started_at.strftime("%Y-%m")
               or found[number].started_at.strftime("%G%V") != found[number - 1].started_at.strftime("%G%V")
               for number in kept if number > 31)  # fmt: skip


def test_deleting_is_stable():
    """What one run keeps, the next run keeps."""
    found = nightly(400)
    gone = set(deleted(found))
    rest = [folder for number, folder in enumerate(found) if number not in gone]
    assert deleted(rest) == []


def test_nights_without_backup_do_not_count():
    found = nightly(60)
    old = found[40:]
    policy = rules.Policy(daily=7, weekly=0, monthly=0, min_keep=1, incomplete_after_s=86_400)
    assert deleted(old, policy) == list(range(7, 20))


def test_of_several_a_day_the_newest_stays():
    at = datetime(2026, 11, 20, tzinfo=UTC)
    found = [made(at + timedelta(hours=hour)) for hour in (23, 12, 1)]
    policy = rules.Policy(daily=5, weekly=0, monthly=0, min_keep=1, incomplete_after_s=86_400)
    assert deleted(found, policy) == [1, 2]


def test_without_a_proof_nothing_goes():
    assert deleted(nightly(100), proven=None) == []


def test_only_what_is_older_than_the_newest_proven_goes():
    policy = rules.Policy(daily=2, weekly=0, monthly=0, min_keep=1, incomplete_after_s=86_400)
    assert deleted(nightly(6), policy, proven=3) == [4, 5]
    assert deleted(nightly(6), policy, proven=5) == []


def test_the_newest_few_stay_whatever_the_counts_say():
    at = datetime(2026, 11, 20, tzinfo=UTC)
    found = [made(at + timedelta(minutes=minute)) for minute in (3, 2, 1, 0)]
    policy = rules.Policy(daily=1, weekly=0, monthly=0, min_keep=3, incomplete_after_s=86_400)
    assert deleted(found, policy) == [3]


def test_a_hold_keeps():
    found = nightly(5)
    policy = rules.Policy(1, 0, 0, 1, 86_400, frozenset({found[3].backup_id}))
    assert deleted(found, policy) == [1, 2, 4]


@pytest.mark.parametrize(("age_s", "gone"), [(86_400, []), (86_401, [0])])
def test_what_was_never_finished_goes_after_a_day(age_s, gone):
    assert deleted([made(NOW - timedelta(seconds=age_s), "data-00.dump.zst")]) == gone


def test_what_was_written_to_today_is_not_old():
    at = NOW - timedelta(days=9)
    folder = rules.Folder(backup_id(at), (version("data-00.dump.zst", NOW - timedelta(hours=2)),))
    assert deleted([folder]) == []


def test_a_deletion_that_was_begun_goes_on_at_once():
    """The manifest is hidden by a marker; nothing else matters."""
    at = NOW - timedelta(hours=2)
    folder = rules.Folder(
        backup_id(at),
        (
            version("manifest.json", at, is_latest=False),
            version("manifest.json", at, version_id="v2", is_delete_marker=True),
            version("data-00.dump.zst", at),
        ),
    )
    assert deleted([folder], proven=None) == [0]


def test_the_marker_goes_last_and_the_manifest_before_it():
    folder = made(NOW, "data-00.dump.zst", "manifest.json", "proof-2026-11-23T04-00-00Z.json", marker=True)
    first, then, last = rules.deletion_order(folder)
    assert [each.name for each in first] == ["data-00.dump.zst", "proof-2026-11-23T04-00-00Z.json"]
    assert [(each.name, each.is_delete_marker) for each in then] == [("manifest.json", False)]
    assert [(each.name, each.is_delete_marker) for each in last] == [("manifest.json", True)]


def test_strangers_in_the_folder_are_left_alone():
    found = rules.folders([("notes", version("x", NOW)), ("2026-99-99T00-00-00Z", version("manifest.json", NOW))])
    assert found == []


def test_a_lock_keeps():
    decision = rules.Decision("2026-01-01T00-00-00Z", "delete", "", 1)
    assert rules.locked(decision, ["legal hold"]).action == "keep"
    assert rules.locked(decision, []).action == "delete"


def test_too_many_at_once_are_refused():
    decisions = [rules.Decision("x", "delete", "", 0)] * 3
    rules.check_cap(decisions, 3)
    with pytest.raises(RunbookError, match="3 backups would be deleted, and at most 2"):
        rules.check_cap(decisions, 2)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (rules.Policy(-1, 1, 1, 1, 86_400), "keep_daily: -1"),
        (rules.Policy(0, 0, 0, 1, 86_400), "all are 0"),
        (rules.Policy(1, 0, 0, 0, 86_400), "min_keep: 0"),
        (rules.Policy(1, 0, 0, 1, 3599), "incomplete_after_s: 3599"),
        (rules.Policy(1, 0, 0, 1, 86_400, frozenset({"monday"})), "hold: 'monday'"),
    ],
)
def test_policies_that_make_no_sense(policy, says):
    with pytest.raises(RunbookError, match=says):
        rules.check_policy(policy, 10)
