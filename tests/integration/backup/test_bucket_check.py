"""s3_bucket_check against moto, which knows all settings of AWS, and SeaweedFS, which does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Outcome, run_module

from playbooks import Project

if TYPE_CHECKING:
    from conftest import S3, Database

OFF: dict[str, Any] = {
    "versioning": False, "encryption": "none", "block_public_access": False, "abort_multipart_days": 0,
    "tls_only": False,
}  # fmt: skip
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
REPLICA = "backups-replica"


def check(s3: S3, in_bucket: str, **options: Any) -> Outcome:
    return run_module("s3_bucket_check", s3.options(in_bucket) | {"environment": "sandbox"} | options)


def wrong(outcome: Outcome) -> dict[str, str]:
    """Status by name of the checks that are not ok; the run is red if there is one."""
    bad = {each["name"]: each["status"] for each in outcome.result["checks"] if each["status"] != "ok"}
    assert outcome.failed is bool(bad)
    return bad


def policy(bucket: str, **changed: Any) -> str:
    statement = {
        "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }  # fmt: skip
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | changed]})


def replicate(moto: S3, bucket: str, **changed: Any) -> None:
    moto.client().put_bucket_replication(
        Bucket=bucket,
        ReplicationConfiguration={
            "Role": "arn:aws:iam::123456789012:role/replicate",
            "Rules": [
                {"ID": "all", "Status": "Enabled", "Priority": 1, "Filter": {"Prefix": ""},
                 "DeleteMarkerReplication": {"Status": "Disabled"},
                 "Destination": {"Bucket": f"arn:aws:s3:::{REPLICA}"}} | changed
            ],
        },
    )  # fmt: skip


def give_up(moto: S3, bucket: str, days: int, **changed: Any) -> None:
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}} | changed
    rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
    moto.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})


@pytest.fixture
def protected(moto: S3) -> str:
    """A bucket on which all is as it should be."""
    bucket = moto.bucket(object_lock=True)
    client = moto.client()
    client.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [
                {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:x:key/k1"}}
            ]
        },
    )
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(BLOCKS, True))
    client.put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}},
        },
    )  # fmt: skip
    client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    if REPLICA not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=REPLICA)
        client.put_bucket_versioning(Bucket=REPLICA, VersioningConfiguration={"Status": "Enabled"})
    replicate(moto, bucket)
    give_up(moto, bucket, 7)
    return bucket


FULL = {
    "encryption": "aws:kms", "kms_key_id": "k1", "object_lock": "GOVERNANCE", "object_lock_days": 30,
    "replicate_to": REPLICA, "prefix": "logical",
}  # fmt: skip


def test_a_protected_bucket(moto, protected):
    outcome = check(moto, protected, **FULL)
    assert wrong(outcome) == {}
    assert [each["name"] for each in outcome.result["checks"]] == [
        "environment", "versioning", "encryption", "public_access_block", "policy_status", "acl", "object_lock",
        "replication", "lifecycle", "tls_only",
    ]  # fmt: skip


def test_a_bare_bucket(moto):
    outcome = check(moto, moto.bucket(versioned=False), **FULL | {"kms_key_id": ""})
    named = ("versioning", "encryption", "public_access_block", "object_lock", "replication", "lifecycle", "tls_only")
    assert wrong(outcome) == dict.fromkeys(named, "breach")


def test_what_is_not_wanted_is_not_checked(moto):
    outcome = check(moto, moto.bucket(versioned=False), **OFF)
    assert wrong(outcome) == {}
    assert [each["name"] for each in outcome.result["checks"]] == ["environment", "policy_status", "acl"]


def spoil(moto: S3, bucket: str, what: str) -> None:
    client = moto.client()
    if what == "versioning":
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    elif what == "encryption":
        plain = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
        client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=plain)
    elif what == "public_access_block":
        blocks = dict.fromkeys(BLOCKS, True) | {"RestrictPublicBuckets": False}
        client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=blocks)
    elif what == "acl":
        client.delete_public_access_block(Bucket=bucket)
        client.put_bucket_acl(Bucket=bucket, ACL="public-read")
    elif what == "replication":
        replicate(moto, bucket, Status="Disabled")
    elif what == "lifecycle":
        give_up(moto, bucket, 8)
    elif what == "lifecycle prefix":
        give_up(moto, bucket, 7, Filter={"Prefix": "photos/"})
    elif what == "expiration":
        give_up(moto, bucket, 7, Expiration={"Days": 30})
    elif what == "tls_only":
        client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, Effect="Allow", Principal={"AWS": "arn:x:root"}))
    else:
        bounded = {"Bool": {"aws:SecureTransport": "false"}, "StringEquals": {"aws:username": "one"}}
        client.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, Condition=bounded))


@pytest.mark.parametrize(
    "what",
    [
        "encryption", "public_access_block", "acl", "replication", "lifecycle", "lifecycle prefix", "expiration",
        "tls_only", "tls_only for some",
    ],
)  # fmt: skip
def test_each_setting_that_is_wrong_is_found(moto, protected, what):
    spoil(moto, protected, what)
    found = wrong(check(moto, protected, **FULL | {"block_public_access": what != "acl"}))
    assert found == {what.partition(" ")[0]: "breach"}


@pytest.mark.parametrize("changed", [{"object_lock_days": 31}, {"object_lock": "COMPLIANCE"}])
def test_a_lock_that_is_too_weak(moto, protected, changed):
    assert wrong(check(moto, protected, **FULL | changed)) == {"object_lock": "breach"}


def test_another_key_is_not_this_key(moto, protected):
    assert wrong(check(moto, protected, **FULL | {"kms_key_id": "k2"})) == {"encryption": "breach"}


@pytest.mark.parametrize("environment", ["production", ""])
def test_a_bucket_of_another_environment(moto, environment):
    bucket = moto.bucket(environment=environment)
    assert wrong(check(moto, bucket, **OFF)) == {"environment": "breach"}


def test_what_a_server_does_not_answer_is_unknown(s3):
    """SeaweedFS knows no public access block."""
    found = wrong(check(s3, s3.bucket(), **OFF | {"block_public_access": True, "replicate_to": "other"}))
    assert found == {"public_access_block": "unknown", "replication": "breach"}


def test_what_the_sandbox_can_answer(s3):
    assert (
        wrong(check(s3, s3.bucket(object_lock=True), **OFF | {"versioning": True, "object_lock": "GOVERNANCE"})) == {}
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bucket": "no-such-bucket-anywhere"}, "there is no such"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "no server answers there"),
        ({"object_lock_days": 3}, "object_lock_days: object_lock is none"),
        ({"kms_key_id": "k"}, "kms_key_id: encryption is not aws:kms"),
        ({"abort_multipart_days": -1}, "abort_multipart_days: -1 is negative"),
    ],
)
def test_refusals(s3, options, says):
    outcome = check(s3, s3.bucket(), **options)
    assert outcome.failed
    assert says in outcome.result["msg"]


def variables(moto: S3, bucket: str) -> dict[str, Any]:
    return {f"backup_{name}": value for name, value in moto.options(bucket).items()}


def test_the_playbook_sets_what_the_check_wants(moto: S3, database: Database, tmp_path):
    bucket = moto.bucket(versioned=False)
    give_up(moto, bucket, 7)
    project = Project.for_database(tmp_path, database, **variables(moto, bucket), backup_bucket_write_policy=True)
    dry = project.run("backup_bucket.yml", "--check", "--diff")
    assert dry.code == 0, dry.output
    assert "+versioning: Enabled" in dry.output
    assert wrong(check(moto, bucket)).keys() == {"versioning", "encryption", "public_access_block", "tls_only"}
    real = project.run("backup_bucket.yml")
    assert real.code == 0, real.output
    assert wrong(check(moto, bucket)) == {}


def test_the_playbook_does_not_touch_a_bucket_of_another_environment(moto: S3, database: Database, tmp_path):
    bucket = moto.bucket(versioned=False, environment="production")
    project = Project.for_database(tmp_path, database, **variables(moto, bucket))
    refused = project.run("backup_bucket.yml")
    assert refused.code != 0
    assert "belongs to environment 'production' by its tag" in refused.last("s3_preflight")["msg"]
    assert "Status" not in moto.client().get_bucket_versioning(Bucket=bucket)


def test_a_plan_says_what_would_be_set_and_sets_nothing(moto, protected):
    bare = moto.bucket(versioned=False)
    before = moto.client().get_bucket_versioning(Bucket=bare).get("Status")
    options = {"environment": "sandbox", **FULL, "plan": True, "write_policy": True}
    outcome = run_module("s3_bucket_check", moto.options(bare) | options, check=True, diff=True)
    assert (outcome.failed, outcome.result["changed"]) == (False, True)
    named = ["versioning", "encryption", "public_access_block", "object_lock", "tls_only"]
    assert [each["setting"] for each in outcome.result["plan"]] == named
    # A plan is not red for what the run does.
    judged = {each["name"]: each["status"] for each in outcome.result["checks"]}
    assert {judged[name] for name in named} == {"ok"}
    assert judged["lifecycle"] == outcome.result["status"] == "breach"
    assert "versioning: never set" in outcome.result["diff"]["before"]
    assert "versioning: Enabled" in outcome.result["diff"]["after"]
    assert "REPLACED" in outcome.result["diff"]["after"]
    assert moto.client().get_bucket_versioning(Bucket=bare).get("Status") == before
    nothing = run_module("s3_bucket_check", moto.options(protected) | options, check=True, diff=True)
    assert (nothing.result["changed"], nothing.result["plan"]) == (False, [])


def test_the_playbook_on_a_server_without_public_access_blocks(s3: S3, database: Database, tmp_path):
    """The rest is set, and the sentence says what the server does not know."""
    bucket = s3.bucket(versioned=False)
    project = Project.for_database(
        tmp_path, database, **variables(s3, bucket), backup_bucket_tls_only=False, backup_bucket_abort_multipart_days=0
    )
    ended = project.run("backup_bucket.yml")
    assert ended.code != 0
    assert wrong(check(s3, bucket, **OFF | {"versioning": True, "encryption": "AES256"})) == {}
    assert ended.last("s3_bucket_check")["status"] == "unknown"
    assert "this S3 server does not answer it (NotImplemented)" in ended.last("s3_bucket_check")["msg"]
    assert "set backup_bucket_block_public_access to false" in ended.last("s3_bucket_check")["msg"]
