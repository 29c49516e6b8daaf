"""Retention against a real S3 server with versions and object lock."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.s3 import s3 as drivers
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import backup_retention as rules
from ansible.module_utils.runbook.rules.backup.manifest import backup_id
from conftest import Outcome, module_process, run_module
from fakes import backups
from s3_faults import Fault, FaultyS3, status

if TYPE_CHECKING:
    from conftest import S3

#: Last night's backup, whatever the day is.
NIGHT = datetime.now(UTC).replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=1)
NIGHTS = [NIGHT - timedelta(days=number) for number in range(6)]


def settings(s3: S3, in_bucket: str, **options: Any) -> dict[str, Any]:
    """Keep two days, and no weeks or months, unless the options say otherwise."""
    common = {
        "prefix": backups.PREFIX, "database": backups.DATABASE, "environment": "sandbox",
        "keep_daily": 2, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1, "keep_deleted_days": 0,
        "max_delete_percent": 100,
    }  # fmt: skip
    return s3.options(in_bucket) | common | options


def retention(s3: S3, in_bucket: str, *, check: bool = False, **options: Any) -> Outcome:
    return run_module("pg_backup_retention", settings(s3, in_bucket, **options), check=check, diff=True)


def everything(s3: S3, bucket: str) -> set[tuple[str, str]]:
    """Key and version of all that is stored, delete markers too."""
    found: set[tuple[str, str]] = set()
    for page in s3.client().get_paginator("list_object_versions").paginate(Bucket=bucket):
        for kind in ("Versions", "DeleteMarkers"):
            found |= {(each["Key"], each["VersionId"]) for each in page.get(kind, ())}
    return found


def nights_in(s3: S3, bucket: str) -> set[str]:
    return {key.split("/")[2] for key, _version in everything(s3, bucket)}


def named(*nights: int) -> set[str]:
    return {backup_id(NIGHTS[number]) for number in nights}


def current(s3: S3, bucket: str) -> set[str]:
    """Keys that everybody sees."""
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {each["Key"] for page in pages for each in page.get("Contents", ())}


def wipe(s3: S3, bucket: str) -> None:
    """What ``aws s3 rm --recursive`` does: every key is deleted, by its name."""
    for key in current(s3, bucket):
        s3.client().delete_object(Bucket=bucket, Key=key)


def test_what_is_over_is_hidden_then_purged_and_a_second_run_changes_nothing(s3):
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS):
        backups.make(s3, bucket, night, proof="ok" if number == 1 else None)
    before = everything(s3, bucket)
    dry = retention(s3, bucket, check=True)
    assert everything(s3, bucket) == before
    real = retention(s3, bucket, keep_deleted_days=3)
    assert not real.failed, real.result
    assert real.result["plan"] == dry.result["plan"]
    assert dry.result["changed"] is real.result["changed"] is True
    assert set(real.result["deleted"]) == named(2, 3, 4, 5)
    assert (real.result["purged"], real.result["freed_bytes"]) == ([], 0)
    assert real.result["kept"] == 2
    assert real.result["newest_proven"] == backup_id(NIGHTS[1])
    # Nothing is lost yet: every version is there, and one document says who decided what.
    assert everything(s3, bucket) > before
    keys = {key.split("/", 2)[2] for key in current(s3, bucket) if key.split("/")[2] in named(2, 3, 4, 5)}
    assert keys == {f"{name}/deletion.json" for name in named(2, 3, 4, 5)}
    again = retention(s3, bucket, keep_deleted_days=3)
    assert (again.result["changed"], again.result["deleted"], again.result["hidden"]) == (False, [], [])
    purge = retention(s3, bucket)
    assert set(purge.result["purged"]) == named(2, 3, 4, 5)
    assert purge.result["freed_bytes"] > 0
    assert nights_in(s3, bucket) == named(0, 1)
    assert everything(s3, bucket) < before
    assert retention(s3, bucket).result["changed"] is False


def test_without_versions_a_deletion_is_for_good(s3):
    bucket = s3.bucket(versioned=False)
    for number, night in enumerate(NIGHTS):
        backups.make(s3, bucket, night, proof="ok" if number == 1 else None)
    real = retention(s3, bucket, keep_deleted_days=7)
    assert not real.failed, real.result
    assert set(real.result["deleted"]) == named(2, 3, 4, 5)
    assert nights_in(s3, bucket) == named(0, 1)
    assert retention(s3, bucket).result["changed"] is False


@pytest.mark.parametrize("days", [0, 7])
def test_what_somebody_deleted_by_mistake_is_never_purged_and_comes_back(s3, days):
    """All keys of the bucket are deleted, the versions are there: the worst night."""
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS):
        backups.make(s3, bucket, night, proof="ok" if number == 0 else None)
    before, seen = everything(s3, bucket), current(s3, bucket)
    wipe(s3, bucket)
    # The backup of the next night is whole.
    backups.make(s3, bucket, NIGHT + timedelta(days=1), proof="ok")
    nightly = retention(s3, bucket, keep_deleted_days=days, max_delete=1000)
    assert (nightly.failed, nightly.result["status"], nightly.result["changed"]) == (True, "breach", False)
    assert "6 backups of mental_scribe are hidden by delete markers" in nightly.result["msg"]
    assert "playbooks/backup_undelete.yml" in nightly.result["msg"]
    assert set(nightly.result["hidden"]) == named(0, 1, 2, 3, 4, 5)
    assert everything(s3, bucket) >= before
    dry = undelete(s3, bucket, check=True)
    assert not seen <= current(s3, bucket)
    back = undelete(s3, bucket)
    assert not back.failed, back.result
    assert back.result["restored"] == dry.result["restored"] == sorted(named(0, 1, 2, 3, 4, 5), reverse=True)
    assert back.result["removed_markers"] == dry.result["removed_markers"] == len(seen)
    assert "bring back" in dry.result["diff"]["prepared"]
    assert seen <= current(s3, bucket)
    assert undelete(s3, bucket).result["changed"] is False
    assert retention(s3, bucket).result["hidden"] == []


def undelete(s3: S3, in_bucket: str, *, check: bool = False, **options: Any) -> Outcome:
    common = {"prefix": backups.PREFIX, "database": backups.DATABASE, "environment": "sandbox"}
    return run_module("pg_backup_undelete", s3.options(in_bucket) | common | options, check=check, diff=True)


def test_what_cannot_come_back_whole_stays_hidden_until_a_person_gives_it_up(s3):
    bucket = s3.bucket()
    made = [backups.make(s3, bucket, night, proof="ok") for night in NIGHTS[:3]]
    wipe(s3, bucket)
    victim = made[1].objects[-1]
    s3.client().delete_object(Bucket=bucket, Key=victim.key, VersionId=victim.version_id)
    back = undelete(s3, bucket)
    assert back.failed
    assert set(back.result["restored"]) == named(0, 2)
    assert back.result["lost"][0]["backup_id"] == backup_id(NIGHTS[1])
    assert f"lacks 1 of {len(made[1].objects)} objects" in back.result["msg"]
    assert not any(backup_id(NIGHTS[1]) in key for key in current(s3, bucket))
    assert retention(s3, bucket).failed
    over = retention(s3, bucket, give_up=[backup_id(NIGHTS[1])], keep_deleted_days=3)
    assert not over.failed, over.result
    assert backup_id(NIGHTS[1]) in over.result["deleted"]
    assert backup_id(NIGHTS[1]) not in over.result["purged"]
    assert not retention(s3, bucket, keep_deleted_days=3).failed


def test_what_a_retention_deleted_comes_back_by_its_name(s3):
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS[:4]):
        backups.make(s3, bucket, night, proof="ok" if number == 0 else None)
    assert set(retention(s3, bucket, keep_deleted_days=3).result["deleted"]) == named(2, 3)
    assert undelete(s3, bucket).result["changed"] is False
    back = undelete(s3, bucket, backups=[backup_id(NIGHTS[3])])
    assert back.result["restored"] == [backup_id(NIGHTS[3])]
    assert "backup_retention_hold" in str(back.result["warnings"])
    assert not any(key.endswith("deletion.json") for key in current(s3, bucket) if backup_id(NIGHTS[3]) in key)
    held = retention(s3, bucket, hold=[backup_id(NIGHTS[3])])
    assert held.result["purged"] == [backup_id(NIGHTS[2])]
    assert nights_in(s3, bucket) == named(0, 1, 3)
    refused = undelete(s3, bucket, backups=[backup_id(NIGHTS[2])])
    assert "no version is left" in refused.result["msg"]
    assert "belongs to environment" in undelete(s3, bucket, environment="production").result["msg"]


def test_a_decision_that_was_not_carried_out_is_taken_back(s3):
    """A killed run leaves its document beside a whole backup; by then it is held."""
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS[:3]):
        backups.make(s3, bucket, night, proof="ok" if number == 0 else None)
    held = backup_id(NIGHTS[2])
    key = f"{backups.PREFIX}/{backups.DATABASE}/{held}/deletion.json"
    text = rules.Deletion(held, backups.DATABASE, "r", "2026-11-23", "why").to_bytes()
    s3.client().put_object(Bucket=bucket, Key=key, Body=text)
    outcome = retention(s3, bucket, hold=[held])
    assert outcome.result["withdrawn"] == [held]
    assert key not in current(s3, bucket)
    assert retention(s3, bucket, hold=[held]).result["changed"] is False


@pytest.mark.parametrize("path", ["manifest.json", "deletion.json", "started.json"])
def test_what_cannot_be_read_is_not_taken_for_absent(s3, path):
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS[:4]):
        backups.make(s3, bucket, night, proof="ok" if number == 0 else None, data=(b"x",))
    assert retention(s3, bucket, keep_deleted_days=3, keep_daily=3).result["deleted"] == [backup_id(NIGHTS[3])]
    s3.client().put_object(Bucket=bucket, Key=f"{backups.folder(NIGHTS[5])}started.json", Body=b"{}")
    before = everything(s3, bucket)
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(status(403, "AccessDenied", method="GET", path=path, times=0))
        outcome = retention(s3, bucket, endpoint_url=proxy.endpoint_url)
        assert proxy.hits
    assert outcome.failed
    assert "may not do that" in outcome.result["msg"]
    assert everything(s3, bucket) == before


def test_a_listing_that_was_cut_short_is_no_listing(s3):
    """The server says that there is more and not where, which boto3 takes for the end: a manifest may be missing."""
    bucket = s3.bucket()
    backups.make(s3, bucket, NIGHT, data=(b"x",))
    client = s3.client()

    def cut(response_dict: dict[str, Any], **_more: Any) -> None:
        body = response_dict["body"]
        response_dict["body"] = body.replace(b"<IsTruncated>false</IsTruncated>", b"<IsTruncated>true</IsTruncated>")

    client.meta.events.register("before-parse.s3", cut)
    store = drivers.Store(client, bucket)
    for listing in (lambda: list(store.versions("")), lambda: list(store.entries("")), lambda: store.folders("")):
        with pytest.raises(RunbookError, match="broke its listing off"):
            listing()


@pytest.mark.parametrize("proof", [None, "breach", "unknown"])
def test_without_a_proof_all_stay(s3, proof):
    bucket = s3.bucket()
    for night in NIGHTS[:4]:
        backups.make(s3, bucket, night, proof=proof)
    outcome = retention(s3, bucket)
    assert outcome.result["changed"] is False
    assert "none is proven" in outcome.result["msg"]
    assert "2 backups whose time is over are kept" in str(outcome.result["warnings"])
    assert nights_in(s3, bucket) == named(0, 1, 2, 3)


def test_a_proof_of_another_manifest_proves_nothing(s3):
    """The proof lies in the folder of a backup that was recreated."""
    bucket = s3.bucket()
    older = backups.make(s3, bucket, NIGHTS[4])
    for night in NIGHTS[:4]:
        backups.make(s3, bucket, night)
    backups.prove(s3, bucket, NIGHTS[0], older, status="ok", at=NIGHTS[0])
    assert retention(s3, bucket).result["newest_proven"] is None


def test_the_newest_proof_counts(s3):
    bucket = s3.bucket()
    for night in NIGHTS[:4]:
        made = backups.make(s3, bucket, night, proof="ok")
        backups.prove(s3, bucket, night, made, status="breach", at=night + timedelta(hours=1))
    assert retention(s3, bucket).result["deleted"] == []


def test_holds_and_locks_are_respected_and_said(s3):
    bucket = s3.bucket(object_lock=True)
    for number, night in enumerate(NIGHTS):
        made = backups.make(s3, bucket, night, proof="ok" if number == 0 else None)
        one = made.objects[-1]
        if number == 3:
            s3.client().put_object_legal_hold(
                Bucket=bucket, Key=one.key, VersionId=one.version_id, LegalHold={"Status": "ON"}
            )
        if number == 4:
            until = datetime.now(UTC) + timedelta(days=3)
            s3.client().put_object_retention(
                Bucket=bucket, Key=one.key, VersionId=one.version_id,
                Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
            )  # fmt: skip
    outcome = retention(s3, bucket, hold=[backup_id(NIGHTS[2])])
    assert not outcome.failed, outcome.result
    reasons = {each["backup_id"]: each["reason"] for each in outcome.result["plan"]}
    assert reasons[backup_id(NIGHTS[2])] == "it is held"
    assert reasons[backup_id(NIGHTS[3])] == "S3 locks it: a legal hold"
    assert reasons[backup_id(NIGHTS[4])].startswith("S3 locks it: retention until 20")
    assert outcome.result["deleted"] == [backup_id(NIGHTS[5])]
    assert retention(s3, bucket, hold=[backup_id(NIGHTS[2])]).result["purged"] == [backup_id(NIGHTS[5])]
    assert nights_in(s3, bucket) == named(0, 1, 2, 3, 4)


def test_what_was_never_finished_goes_after_its_time(s3):
    """S3 dates what it stores today, so only the age of today counts here."""
    bucket = s3.bucket()
    backups.make(s3, bucket, NIGHTS[0], manifest=False)
    outcome = retention(s3, bucket)
    assert outcome.result["deleted"] == []
    assert "was never finished" in outcome.result["plan"][0]["reason"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"environment": "production"}, "belongs to environment 'sandbox'"),
        ({"max_delete": 3}, "4 backups would be deleted, and at most 3 may be"),
        ({"database": ""}, "database: it is empty"),
        ({"min_keep": 0}, "min_keep: 0"),
        ({"bucket": "no-such-bucket-anywhere"}, "there is no such bucket"),
        ({"secret_key": "wrong"}, "check secret_key"),
    ],
)
def test_refusals_delete_nothing(s3, options, says):
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS):
        backups.make(s3, bucket, night, proof="ok" if number == 0 else None, data=(b"x",))
    before = everything(s3, bucket)
    outcome = retention(s3, bucket, **options)
    assert outcome.failed
    assert says in outcome.result["msg"]
    assert everything(s3, bucket) == before


def test_another_clusters_backups_in_the_same_folder_are_kept_and_not_counted(s3):
    """Two servers with a database of one name and one prefix, as it was before a folder had an owner."""
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS):
        mine = number % 2 == 0
        backups.make(
            s3, bucket, night, proof="ok" if number < 2 else None, data=(b"x",),
            system_identifier=backups.SYSTEM_IDENTIFIER if mine else "7000000000000000002",
        )  # fmt: skip
    before = everything(s3, bucket)
    unsaid = retention(s3, bucket, keep_daily=1)
    assert "holds backups of 2 clusters" in unsaid.result["msg"]
    assert everything(s3, bucket) == before
    own = retention(s3, bucket, keep_daily=1, system_identifier=backups.SYSTEM_IDENTIFIER)
    assert set(own.result["deleted"]) == named(2, 4)
    assert own.result["newest_proven"] == backup_id(NIGHTS[0])
    reasons = {each["backup_id"]: each["reason"] for each in own.result["plan"]}
    assert "on cluster 7000000000000000002, which is another one" in reasons[backup_id(NIGHTS[3])]
    both: dict[str, Any] = {
        "system_identifier": backups.SYSTEM_IDENTIFIER, "previous_clusters": ["7000000000000000002"],
    }  # fmt: skip
    assert set(retention(s3, bucket, keep_daily=1, **both).result["deleted"]) == named(1, 3, 5)


def test_another_databases_backups_are_not_touched(s3):
    bucket = s3.bucket()
    for night in NIGHTS:
        backups.make(s3, bucket, night, proof="ok", database="mental_scribe_2", data=(b"x",))
    assert retention(s3, bucket).result["plan"] == []


def test_a_deletion_that_is_refused_brings_the_backup_back(s3):
    """A lock that came between the plan and the deletion looks like this."""
    bucket = s3.bucket()
    for number, night in enumerate(NIGHTS[:3]):
        backups.make(s3, bucket, night, proof="ok" if number == 0 else None)
    before = everything(s3, bucket)
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(status(403, "AccessDenied", method="POST", path="delete", times=0))
        outcome = retention(s3, bucket, endpoint_url=proxy.endpoint_url)
    assert outcome.failed
    assert "may not do that" in outcome.result["msg"]
    assert outcome.result["changed"] is False
    assert everything(s3, bucket) == before


def kill_at(s3: S3, bucket: str, method: str, after: int, **options: Any) -> None:
    """The proxy holds one request back, and there the module is killed."""
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(Fault("hang", method=method, after=after, times=0))
        given = settings(s3, bucket, endpoint_url=proxy.endpoint_url, **options)
        process = module_process("pg_backup_retention", given)
        until = time.monotonic() + 30
        while proxy.hits == 0 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert proxy.hits == 1
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(
    ("method", "after", "whole"),
    [("DELETE", 0, 4), ("POST", 0, 3), ("POST", 1, 2)],
    ids=["decided", "manifest-hidden", "next-manifest-hidden"],
)
def test_killed_at_every_step_nothing_half_looks_whole(s3, method, after, whole):
    bucket = s3.bucket()
    nights = NIGHTS[:4]
    made = [backups.make(s3, bucket, night, proof="ok" if night == NIGHT else None, data=(b"x",)) for night in nights]
    kill_at(s3, bucket, method, after, keep_deleted_days=3)
    seen = current(s3, bucket)
    left = [each for each in made if f"{backups.folder_of(each)}manifest.json" in seen]
    assert all({one.key for one in each.objects} <= seen for each in left)
    assert len(left) == whole
    again = retention(s3, bucket, keep_deleted_days=3)
    assert (again.failed, again.result["hidden"]) == (False, [])
    assert set(retention(s3, bucket).result["purged"]) == named(2, 3)
    assert nights_in(s3, bucket) == named(0, 1)


@pytest.mark.parametrize("after", [1, 3], ids=["manifest", "document"])
def test_killed_while_purging_the_next_run_ends_it(s3, after):
    bucket = s3.bucket()
    for night in NIGHTS[:4]:
        backups.make(s3, bucket, night, proof="ok" if night == NIGHT else None, data=(b"x",))
    assert not retention(s3, bucket, keep_deleted_days=3).failed
    kill_at(s3, bucket, "POST", after)
    assert len([key for key in current(s3, bucket) if key.endswith("manifest.json")]) == 2
    again = retention(s3, bucket)
    assert not again.failed, again.result
    assert nights_in(s3, bucket) == named(0, 1)
