"""Retention against a real S3 server with versions and object lock."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules.manifest import backup_id
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
        "keep_daily": 2, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1,
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


@pytest.mark.parametrize("versioned", [True, False])
def test_what_is_over_goes_and_a_second_run_changes_nothing(s3, versioned):
    bucket = s3.bucket(versioned=versioned)
    for number, night in enumerate(NIGHTS):
        backups.make(s3, bucket, night, proof="ok" if number == 1 else None)
    before = everything(s3, bucket)
    dry = retention(s3, bucket, check=True)
    assert everything(s3, bucket) == before
    real = retention(s3, bucket)
    assert not real.failed, real.result
    assert real.result["plan"] == dry.result["plan"]
    assert dry.result["changed"] is real.result["changed"] is True
    assert set(real.result["deleted"]) == named(2, 3, 4, 5)
    assert real.result["kept"] == 2
    assert real.result["newest_proven"] == backup_id(NIGHTS[1])
    assert nights_in(s3, bucket) == named(0, 1)
    assert everything(s3, bucket) < before
    again = retention(s3, bucket)
    assert again.result["changed"] is False
    assert again.result["deleted"] == []


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
    """The proof lies in the folder of a backup that was made anew."""
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


@pytest.mark.parametrize(
    ("method", "after"),
    [("POST", 0), ("POST", 1), ("DELETE", 1), ("POST", 3)],
    ids=["manifest-hidden", "objects-gone", "manifest-gone", "next-objects-gone"],
)
def test_killed_at_every_step_nothing_half_looks_whole(s3, method, after):
    """The proxy holds one request back, and there the module is killed."""
    bucket = s3.bucket()
    nights = NIGHTS[:4]
    made = [backups.make(s3, bucket, night, proof="ok" if night == NIGHT else None, data=(b"x",)) for night in nights]
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(Fault("hang", method=method, after=after, times=0))
        process = module_process("pg_backup_retention", settings(s3, bucket, endpoint_url=proxy.endpoint_url))
        until = time.monotonic() + 30
        while proxy.hits == 0 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert proxy.hits == 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
    current = {each["Key"] for each in s3.client().list_objects_v2(Bucket=bucket).get("Contents", ())}
    whole = [each for each in made if f"{backups.folder_of(each)}manifest.json" in current]
    assert all({one.key for one in each.objects} <= current for each in whole)
    assert len(whole) == 4 - (method == "POST" or after > 0) - (method == "POST" and after == 3)
    assert retention(s3, bucket).result["changed"] is True
    assert nights_in(s3, bucket) == named(0, 1)
