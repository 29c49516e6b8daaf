"""Which backups stay, at the borders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import backup_retention as rules
from ansible.module_utils.runbook.rules.backup.manifest import backup_id

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


def decide(folder: rules.Folder, **given: Any) -> tuple[str, str]:
    """What becomes of a single folder, and why."""
    policy = given.pop("policy", POLICY)
    (decision,) = rules.plan([folder], policy, newest_proven=None, now=given.pop("now", NOW), **given)
    return decision.action, decision.reason


@pytest.mark.parametrize(("age_s", "action"), [(86_400, "keep"), (86_401, "remove")])
def test_what_was_never_finished_goes_after_a_day(age_s, action):
    assert decide(made(NOW - timedelta(seconds=age_s), "data-00.dump.zst"))[0] == action


def test_what_a_run_may_still_be_making_stays():
    at = NOW - timedelta(days=3)
    folder = made(at, "started.json", "data-00.dump.zst")
    assert decide(folder, busy_until={folder.backup_id: NOW})[0] == "keep"
    assert decide(folder, busy_until={folder.backup_id: NOW - timedelta(seconds=1)})[0] == "remove"


def test_what_was_written_to_today_is_not_old():
    at = NOW - timedelta(days=9)
    folder = rules.Folder(backup_id(at), (version("data-00.dump.zst", NOW - timedelta(hours=2)),))
    assert deleted([folder]) == []


def gone(at: datetime, *, document_at: datetime | None = None, marker_at: datetime | None = None) -> rules.Folder:
    """A backup whose objects are hidden since ``marker_at``, with the document of a deletion if it has a time."""
    names = ("manifest.json", "data-00.dump.zst")
    versions = [version(name, at, is_latest=False) for name in names]
    versions += [version(name, marker_at or at, version_id="v2", is_delete_marker=True) for name in names]
    if document_at:
        versions.append(version("deletion.json", document_at))
    return rules.Folder(backup_id(at), tuple(versions))


def decided(folder: rules.Folder) -> dict[str, rules.Deletion]:
    document = rules.Deletion(folder.backup_id, "shop", "run-1", NOW.isoformat(), "its time is over")
    return {folder.backup_id: document} if folder.deletion else {}


def test_what_nobody_decided_is_never_purged():
    """Somebody deleted the keys; every version is still there, and is all that is left."""
    folder = gone(NOW - timedelta(days=400), marker_at=NOW - timedelta(days=390))
    assert decide(folder, decided=decided(folder))[0] == "keep"
    assert rules.hidden([folder], decided(folder)) == [folder.backup_id]
    markers = rules.Folder(folder.backup_id, tuple(each for each in folder.versions if each.is_delete_marker))
    # A lifecycle rule purged the rest: nothing is left to save.
    assert rules.hidden([markers], {}) == []
    assert decide(markers)[0] == "keep"


@pytest.mark.parametrize(("days", "action"), [(7, "purge"), (6.99, "keep")])
def test_what_was_decided_is_purged_after_its_days(days, action):
    at = NOW - timedelta(days=days)
    folder = gone(NOW - timedelta(days=90), document_at=at, marker_at=at)
    assert decide(folder, decided=decided(folder))[0] == action
    assert rules.hidden([folder], decided(folder)) == []


def test_a_hold_also_keeps_what_is_already_deleted():
    at = NOW - timedelta(days=30)
    folder = gone(NOW - timedelta(days=90), document_at=at, marker_at=at)
    policy = rules.Policy(1, 0, 0, 1, 86_400, hold=frozenset({folder.backup_id}))
    action, reason = decide(folder, decided=decided(folder), policy=policy)
    assert (action, "backup_undelete.yml" in reason) == ("keep", True)


@pytest.mark.parametrize("later", [timedelta(hours=2), timedelta(days=-1)])
def test_an_old_decision_does_not_excuse_a_later_deletion(later):
    """A run wrote the document and was killed; somebody deletes the bucket's keys another day."""
    at = NOW - timedelta(days=30)
    folder = gone(NOW - timedelta(days=90), document_at=at, marker_at=at + later)
    assert folder.deletion is None
    assert rules.hidden([folder], decided(folder)) == [folder.backup_id]


def test_a_person_may_give_up_what_is_hidden():
    folder = gone(NOW - timedelta(days=90))
    policy = rules.Policy(1, 0, 0, 1, 86_400, give_up=frozenset({folder.backup_id}))
    assert decide(folder, policy=policy) == ("delete", "it was hidden, and a person gave it up")


def test_a_name_from_the_future_is_no_newest_backup():
    """A clock was wrong when it was made: it must not push the true ones out, nor prove them."""
    true = [made(NOW - timedelta(days=number, hours=1)) for number in range(3)]
    found = [made(NOW + timedelta(days=400)), *true]
    policy = rules.Policy(daily=1, weekly=0, monthly=0, min_keep=1, incomplete_after_s=86_400)
    assert deleted(found, policy, proven=1) == [2, 3]
    assert rules.is_ahead(found[0], NOW) is True


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"schema_version": 2}', b'{"schema_version": 1, "backup_id": 1}', b"\xff"],
    ids=["empty", "list", "newer", "type", "bytes"],
)
def test_a_document_that_is_none_decides_nothing(text):
    assert rules.parse_deletion(text, backup_id="x", database="shop") is None


def test_a_document_counts_for_its_own_backup_only():
    text = rules.Deletion("2026-11-23T03-00-00Z", "shop", "r", "t", "why").to_bytes()
    assert rules.parse_deletion(text, backup_id="2026-11-23T03-00-00Z", database="shop") is not None
    assert rules.parse_deletion(text, backup_id="2026-11-22T03-00-00Z", database="shop") is None
    assert rules.parse_deletion(text, backup_id="2026-11-23T03-00-00Z", database="other") is None


def test_the_document_goes_last_and_markers_before_it():
    folder = gone(NOW, document_at=NOW)
    assert [[(each.name, each.is_delete_marker) for each in step] for step in rules.purge_order(folder)] == [
        [("data-00.dump.zst", False)],
        [("manifest.json", False)],
        [("manifest.json", True), ("data-00.dump.zst", True)],
        [("deletion.json", False)],
    ]


def test_strangers_in_the_folder_are_left_alone():
    found = rules.folders([("notes", version("x", NOW)), ("2026-99-99T00-00-00Z", version("manifest.json", NOW))])
    assert found == []


def test_a_lock_keeps():
    decision = rules.Decision("2026-01-01T00-00-00Z", "delete", "", 1)
    assert rules.locked(decision, ["legal hold"]).action == "keep"
    assert rules.locked(decision, []).action == "delete"


def test_too_many_at_once_are_refused():
    decisions = [rules.Decision(str(number), "delete", "", 0) for number in range(3)]
    decisions.append(rules.Decision("p", "purge", "", 0))
    complete = {str(number) for number in range(6)}
    rules.check_cap(decisions, complete, max_delete=3, max_delete_percent=50)
    with pytest.raises(RunbookError, match="max_delete: 3 backups would be deleted, and at most 2"):
        rules.check_cap(decisions, complete, max_delete=2, max_delete_percent=50)
    with pytest.raises(RunbookError, match=r"max_delete_percent: 3 of 6 complete backups .* at most 49 %"):
        rules.check_cap(decisions, complete, max_delete=3, max_delete_percent=49)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (rules.Policy(-1, 1, 1, 1, 86_400), "keep_daily: -1"),
        (rules.Policy(0, 0, 0, 1, 86_400), "all are 0"),
        (rules.Policy(1, 0, 0, 0, 86_400), "min_keep: 0"),
        (rules.Policy(1, 0, 0, 1, 3599), "incomplete_after_s: 3599"),
        (rules.Policy(1, 0, 0, 1, 86_400, frozenset({"monday"})), "hold: 'monday'"),
        (rules.Policy(1, 0, 0, 1, 86_400, keep_deleted_days=-1), "keep_deleted_days: -1"),
        (
            rules.Policy(
                1, 0, 0, 1, 86_400, frozenset({"2026-11-23T03-00-00Z"}), give_up=frozenset({"2026-11-23T03-00-00Z"})
            ),
            "hold and give_up",
        ),
    ],
)
def test_policies_that_make_no_sense(policy, says):
    with pytest.raises(RunbookError, match=says):
        rules.check_policy(policy, 10, 50)


def test_a_pending_copy_holds_its_backup_until_its_time_is_over():
    found = nightly(5)
    held = {
        found[3].backup_id: rules.held(rules.Hold("x was restored from it", "2026-11-24T00:00:00Z").to_bytes(), NOW)
    }
    policy = rules.Policy(1, 0, 0, 1, 86_400)
    decisions = rules.plan(found, policy, newest_proven=found[0].backup_id, now=NOW, holds=held)
    assert [each.action for each in decisions] == ["keep", "delete", "delete", "keep", "delete"]
    assert decisions[3].reason == "it is held until 2026-11-24 00:00 UTC: x was restored from it"
    assert rules.held(rules.Hold("x", "2026-11-23T03:00:00Z").to_bytes(), NOW) == ""


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"reason": "x", "until": "tomorrow"}', b'{"until": 1, "reason": ""}']
)
def test_a_hold_that_cannot_be_read_holds(text):
    assert "cannot be read" in rules.held(text, NOW)


def test_the_name_of_a_hold_is_one_part_of_a_key():
    assert rules.hold_name("a/b") == "hold-a%2Fb.json"
