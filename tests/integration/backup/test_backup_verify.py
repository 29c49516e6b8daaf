"""pg_backup_verify against a real S3 server: what is broken there is found, whatever breaks on the way is not green."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from conftest import Outcome, run_module
from fakes import backups
from s3_faults import FaultyS3, close, expired_token, flip, reset, status, truncate

if TYPE_CHECKING:
    from conftest import S3

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR_AGO = NOW - timedelta(hours=1)


def verify(s3: S3, in_bucket: str, **options: Any) -> Outcome:
    common = {
        "prefix": backups.PREFIX, "database": backups.DATABASE, "retention_days": 0, "max_proof_age_s": 0, "wait_s": 0,
        "system_identifier": backups.SYSTEM_IDENTIFIER,
    }  # fmt: skip
    return run_module("pg_backup_verify", s3.options(in_bucket) | common | options)


def wrong(outcome: Outcome) -> dict[str, str]:
    """Status by name of the checks that are not ok; the run is red if there is one."""
    bad = {each["name"]: each["status"] for each in outcome.result["checks"] if each["status"] != "ok"}
    assert outcome.failed is bool(bad)
    assert outcome.result["status"] == (max(bad.values(), key=["unknown", "breach"].index) if bad else "ok")
    return bad


@pytest.fixture
def made(s3: S3) -> tuple[str, manifests.Manifest]:
    """A bucket with one good backup, an hour old, cut into segments."""
    bucket = s3.bucket()
    return bucket, backups.make(s3, bucket, HOUR_AGO, cut_bytes=20)


def test_a_good_backup(s3, made):
    bucket, manifest = made
    outcome = verify(s3, bucket)
    assert wrong(outcome) == {}
    assert {each["name"] for each in outcome.result["checks"]} == {
        "age", "complete", "count", "hidden", "manifest", "objects", "content",
    }  # fmt: skip
    assert outcome.result["read_bytes"] == manifest.size_bytes
    assert outcome.result["last_good_backup"] == HOUR_AGO.isoformat()
    assert 3600 <= outcome.result["age_s"] < 86400
    assert outcome.result["size_bytes"] > manifest.size_bytes
    assert outcome.result["changed"] is False
    assert len(manifest.data_streams()[0]) > 1


def overwrite(s3: S3, bucket: str, key: str, content: bytes) -> None:
    s3.client().put_object(Bucket=bucket, Key=key, Body=content)


def rewrite(s3: S3, bucket: str, manifest: manifests.Manifest, **changed: Any) -> None:
    """Another manifest in its place, with a digest that is right."""
    content = dataclasses.replace(manifest, **changed).to_bytes()
    overwrite(s3, bucket, f"{backups.folder_of(manifest)}manifest.json", content)


def damaged(s3: S3, bucket: str, manifest: manifests.Manifest, change: str) -> tuple[str, bytes]:
    """The first data object as ``change`` makes it."""
    one = manifest.data_streams()[0][0]
    content = s3.client().get_object(Bucket=bucket, Key=one.key)["Body"].read()
    if change == "truncated":
        return one.key, content[:-1]
    if change == "empty":
        return one.key, b""
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return one.key, bytes(flipped)


@pytest.mark.parametrize("change", ["truncated", "empty", "one bit"])
def test_a_damaged_object_is_found_and_named(s3, change):
    """Without versions there is nothing but what lies there now."""
    bucket = s3.bucket(versioned=False)
    manifest = backups.make(s3, bucket, HOUR_AGO)
    key, content = damaged(s3, bucket, manifest, change)
    overwrite(s3, bucket, key, content)
    outcome = verify(s3, bucket)
    assert wrong(outcome)["content"] == "breach"
    assert f"{key} is not what was written" in outcome.result["msg"]
    assert outcome.result["last_good_backup"] is None


def test_backups_that_are_hidden_are_a_breach(s3, made):
    """Somebody deleted the keys of an older one; its versions are still there."""
    bucket, _manifest = made
    older = backups.make(s3, bucket, HOUR_AGO - timedelta(days=1))
    for name in ("manifest.json", "schema.dump.zst"):
        s3.client().delete_object(Bucket=bucket, Key=f"{backups.folder_of(older)}{name}")
    outcome = verify(s3, bucket)
    assert wrong(outcome) == {"hidden": "breach"}
    assert "playbooks/backup_undelete.yml" in outcome.result["msg"]
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(status(403, "AccessDenied", method="GET", path="versions", times=0))
        assert wrong(verify(s3, bucket, endpoint_url=proxy.endpoint_url)) == {"hidden": "unknown"}


def test_an_object_that_was_overwritten_is_found_though_its_version_is_still_there(s3, made):
    bucket, manifest = made
    overwrite(s3, bucket, *damaged(s3, bucket, manifest, "one bit"))
    outcome = verify(s3, bucket)
    assert wrong(outcome) == {"objects": "breach"}
    assert "was overwritten later" in outcome.result["msg"]


@pytest.mark.parametrize("versioned", [True, False])
def test_a_missing_object(s3, versioned):
    bucket = s3.bucket(versioned=versioned)
    manifest = backups.make(s3, bucket, HOUR_AGO)
    s3.client().delete_object(Bucket=bucket, Key=manifest.objects[-1].key)
    outcome = verify(s3, bucket)
    assert wrong(outcome)["objects"] == "breach"
    assert f"{manifest.objects[-1].key} is missing" in outcome.result["msg"]


def test_an_object_of_another_database_in_its_place(s3):
    bucket = s3.bucket(versioned=False)
    manifest = backups.make(s3, bucket, HOUR_AGO)
    other = backups.make(s3, bucket, HOUR_AGO, database="other", data=(b"other rows " * 5000,))
    key = other.data_streams()[0][0].key
    s3.client().copy_object(
        Bucket=bucket, Key=manifest.data_streams()[0][0].key, CopySource={"Bucket": bucket, "Key": key}
    )
    assert wrong(verify(s3, bucket))["content"] == "breach"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{}", "schema_version is None"),
        (b"not json", "is no JSON object"),
        (b'{"schema_version": 99}', "use the newer version"),
        (None, "does not match its own SHA-256"),
    ],
    ids=["empty", "no-json", "future", "edited"],
)
def test_a_manifest_that_is_none(s3, made, content, says):
    bucket, manifest = made
    text = manifest.to_bytes().replace(b'"rows": 3', b'"rows": 4') if content is None else content
    overwrite(s3, bucket, f"{backups.folder_of(manifest)}manifest.json", text)
    outcome = verify(s3, bucket)
    assert wrong(outcome) == {"manifest": "breach"}
    assert says in outcome.result["msg"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"database": "other"}, "is of database 'other', not of 'mental_scribe'"),
        ({"system_identifier": "1"}, "is of cluster 1, not of 7000000000000000001"),
    ],
)
def test_a_foreign_manifest(s3, made, changed, says):
    bucket, manifest = made
    rewrite(s3, bucket, manifest, source=dataclasses.replace(manifest.source, **changed))
    outcome = verify(s3, bucket)
    assert wrong(outcome) == {"manifest": "breach"}
    assert says in outcome.result["msg"]


def test_what_does_not_unpack_is_found_though_its_digest_is_right(s3):
    """Whoever made this backup wrote half a frame."""
    bucket = s3.bucket()
    manifest = backups.make(s3, bucket, HOUR_AGO)
    objects = list(manifest.objects)
    content = s3.client().get_object(Bucket=bucket, Key=objects[-1].key)["Body"].read()[:-6]
    put = s3.client().put_object(Bucket=bucket, Key=objects[-1].key, Body=content)
    digest = hashlib.sha256(content).hexdigest()
    objects[-1] = dataclasses.replace(objects[-1], size_bytes=len(content), sha256=digest, version_id=put["VersionId"])
    rewrite(s3, bucket, manifest, objects=tuple(objects))
    outcome = verify(s3, bucket)
    assert wrong(outcome) == {"content": "breach"}
    assert "does not unpack" in outcome.result["msg"]


def test_an_encrypted_backup_is_read_and_not_unpacked(s3):
    bucket = s3.bucket()
    backups.make(s3, bucket, HOUR_AGO, encryption="age")
    outcome = verify(s3, bucket)
    assert wrong(outcome) == {}
    assert "still encrypted" in str(outcome.result["checks"])


def test_too_old_and_too_few_and_never_proven(s3):
    bucket = s3.bucket()
    backups.make(s3, bucket, NOW - timedelta(hours=27))
    outcome = verify(s3, bucket, min_backups=2, retention_days=30, max_proof_age_s=86_400)
    assert wrong(outcome) == dict.fromkeys(("age", "count", "retention", "proof"), "breach")
    assert "say since when (backup_verify_since)" in outcome.result["msg"]


def test_no_backup_at_all(s3):
    outcome = verify(s3, s3.bucket())
    assert wrong(outcome) == {"age": "breach", "count": "breach"}
    assert outcome.result["last_good_backup"] is None


def test_the_last_proof_counts(s3):
    bucket = s3.bucket()
    made = backups.make(s3, bucket, NOW - timedelta(hours=25), proof="ok")
    backups.make(s3, bucket, HOUR_AGO)
    good = verify(s3, bucket, max_proof_age_s=2 * 86_400)
    assert wrong(good) == {}
    assert good.result["last_proof"]["status"] == "ok"
    assert good.result["last_proof"]["backup_id"] == made.backup_id
    backups.prove(s3, bucket, NOW - timedelta(hours=25), made, status="breach", at=NOW)
    assert wrong(verify(s3, bucket, max_proof_age_s=2 * 86_400)) == {"proof": "breach"}


def test_a_backup_that_is_being_made_is_waited_for(s3):
    bucket = s3.bucket()
    backups.make(s3, bucket, NOW - timedelta(hours=30))
    begun = backups.make(s3, bucket, NOW - timedelta(minutes=5), manifest=False)
    assert wrong(verify(s3, bucket)) == {"age": "breach", "complete": "breach"}
    key = f"{backups.folder_of(begun)}manifest.json"
    later = threading.Timer(2.0, overwrite, (s3, bucket, key, begun.to_bytes()))
    later.start()
    outcome = verify(s3, bucket, wait_s=30)
    later.join()
    assert wrong(outcome) == {}
    assert outcome.result["waited_s"] > 0
    assert outcome.result["last_good_backup"] == (NOW - timedelta(minutes=5)).isoformat()


def test_a_backup_whose_process_has_ended_is_not_waited_for(s3):
    bucket = s3.bucket()
    backups.make(s3, bucket, HOUR_AGO)
    maker = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    known = process.find(maker.pid)
    maker.kill()
    maker.wait()
    elsewhere = str(known).replace(str(known).split()[0], "another-boot")
    for writer, words in ((str(known), "the process that made it has ended"), (elsewhere, "after waiting")):
        key = f"{backups.folder(NOW - timedelta(minutes=5))}{manifests.CLAIM_NAME}"
        s3.client().put_object(Bucket=bucket, Key=key, Body=manifests.Claim("r", "t", 60, process=writer).to_bytes())
        outcome = verify(s3, bucket, wait_s=60 if "ended" in words else 1)
        assert wrong(outcome) == {"complete": "breach"}
        assert words in outcome.result["msg"]


def test_waiting_has_an_end(s3):
    bucket = s3.bucket()
    backups.make(s3, bucket, HOUR_AGO)
    s3.client().create_multipart_upload(
        Bucket=bucket, Key=f"{backups.folder(NOW - timedelta(minutes=5))}data-00.dump.zst"
    )
    outcome = verify(s3, bucket, wait_s=1)
    assert wrong(outcome) == {"complete": "breach"}
    assert "has no manifest after waiting" in outcome.result["msg"]


# The second region


def copy_all(s3: S3, source: str, target: str) -> None:
    client = s3.client()
    for each in client.list_objects_v2(Bucket=source)["Contents"]:
        client.copy_object(Bucket=target, Key=each["Key"], CopySource={"Bucket": source, "Key": each["Key"]})


def second(s3: S3, bucket: str) -> dict[str, Any]:
    options = {f"replica_{name}": value for name, value in s3.options(bucket).items()}
    return options | {"replica_max_lag_s": 60, "replica_read_newest": 1}


def test_the_second_region(s3, made):
    bucket, manifest = made
    replica = s3.bucket()
    assert wrong(verify(s3, bucket, **second(s3, replica))) == {"replica": "breach"}
    copy_all(s3, bucket, replica)
    assert wrong(verify(s3, bucket, **second(s3, replica))) == {}
    overwrite(s3, replica, *damaged(s3, bucket, manifest, "one bit"))
    outcome = verify(s3, bucket, **second(s3, replica))
    assert wrong(outcome) == {"replica_content": "breach"}
    assert "in the second region" in outcome.result["msg"]
    rewrite(s3, replica, manifest, dump_bytes=1001)
    assert wrong(verify(s3, bucket, **second(s3, replica)))["replica"] == "breach"


# The way there


@pytest.mark.parametrize(
    "fault",
    [
        status(500, "InternalError"),
        status(503, "SlowDown"),
        reset(method="GET", path="data-00", at_bytes=20),
        truncate(method="GET", path="data-00", at_bytes=20),
        close(method="GET", path="data-00"),
        flip(method="GET", path="data-00", at_bytes=20),
    ],
    ids=["500", "503", "reset", "early", "close", "flip"],
)
def test_what_breaks_once_on_the_way_is_read_again(s3, fault):
    bucket = s3.bucket()
    backups.make(s3, bucket, HOUR_AGO)
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(fault)
        outcome = verify(s3, bucket, endpoint_url=proxy.endpoint_url)
        assert proxy.hits >= 1
    assert wrong(outcome) == {}


def test_what_breaks_again_and_again_is_not_green(s3):
    bucket = s3.bucket()
    backups.make(s3, bucket, HOUR_AGO, data=(os.urandom(5000),))
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(reset(method="GET", path="data-00", at_bytes=20, times=0))
        outcome = verify(s3, bucket, endpoint_url=proxy.endpoint_url)
    assert wrong(outcome) == {"content": "unknown"}


def test_credentials_that_expire_on_the_way(s3):
    bucket = s3.bucket()
    backups.make(s3, bucket, HOUR_AGO)
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(expired_token(after=4, method="GET"))
        outcome = verify(s3, bucket, endpoint_url=proxy.endpoint_url)
    assert outcome.failed
    assert "the credentials have expired" in outcome.result["msg"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bucket": "no-such-bucket-anywhere"}, "there is no such bucket"),
        ({"secret_key": "c4n4ry-s3cret"}, "check secret_key"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "no server answers there"),
        ({"jobs": 0}, "jobs: 0 is not possible; give 1 or more"),
        ({"since": "monday"}, "since: 'monday' is no day"),
        ({"database": ""}, "database: it is empty"),
    ],
)
def test_refusals(s3, options, says):
    outcome = verify(s3, s3.bucket(), **options)
    assert outcome.failed
    assert says in outcome.result["msg"]
    assert "\n" not in outcome.result["msg"]
    shown = {key: value for key, value in outcome.result.items() if key != "invocation"}
    assert "c4n4ry" not in json.dumps(shown)
