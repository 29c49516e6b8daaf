"""What of a bucket's settings counts, where no server shows it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.rules.backup import bucket_check as rules
from ansible.module_utils.runbook.rules.backup.bucket_check import Setting

NOTHING = rules.Demands(
    versioning=False, encryption="none", kms_key_id="", block_public_access=False, object_lock="none",
    object_lock_days=0, replicate_to="", abort_multipart_days=0, tls_only=False, prefix="logical/",
)  # fmt: skip


def found(**changed: Setting) -> dict[str, Setting]:
    names = (
        "versioning", "encryption", "public_access_block", "policy_is_public", "acl", "object_lock", "replication",
        "lifecycle", "policy",
    )  # fmt: skip
    return {name: Setting(None) for name in names} | changed


def judged(settings: dict[str, Setting], **demanded: Any) -> dict[str, str]:
    demands = rules.Demands(**(vars(NOTHING) | demanded))
    checks = rules.judge(settings, {"runbook-environment": "staging"}, demands, "staging")
    return {check.name: check.status for check in checks}


ALL = {
    "versioning": True, "encryption": "AES256", "block_public_access": True, "object_lock": "GOVERNANCE",
    "replicate_to": "r", "abort_multipart_days": 7, "tls_only": True,
}  # fmt: skip


def test_what_could_not_be_read_is_never_ok():
    silent = {name: Setting(None, "these credentials may not read it") for name in found()}
    statuses = judged(silent, **ALL)
    assert statuses.pop("environment") == "ok"
    assert len(statuses) == 9
    assert set(statuses.values()) == {"unknown"}


def rule(**changed: Any) -> Setting:
    return Setting([{"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::r"}} | changed])


@pytest.mark.parametrize(
    ("setting", "status"),
    [
        (rule(), "ok"),
        (rule(Prefix=""), "ok"),
        (rule(Filter={"Prefix": "logical/"}), "ok"),
        (rule(Filter={"Prefix": "photos/"}), "breach"),
        (rule(Filter={"Prefix": "logical/mental"}), "breach"),
        (rule(Filter={"Tag": {"Key": "a", "Value": "b"}}), "breach"),
        (rule(Filter={"And": {"Prefix": "", "Tags": []}}), "breach"),
        (rule(Status="Disabled"), "breach"),
        (rule(Destination={"Bucket": "arn:aws:s3:::rr"}), "breach"),
    ],
)
def test_replication(setting, status):
    assert judged(found(replication=setting), replicate_to="r")["replication"] == status


@pytest.mark.parametrize(("public", "status"), [(True, "breach"), (False, "ok"), (None, "ok")])
def test_a_policy_that_is_public(public, status):
    assert judged(found(policy_is_public=Setting(public)))["policy_status"] == status


@pytest.mark.parametrize(
    ("group", "status"), [("AllUsers", "breach"), ("AuthenticatedUsers", "breach"), ("LogDelivery", "ok")]
)
def test_grants_to_everybody(group, status):
    grants = [{"Grantee": {"Type": "Group", "URI": f"http://acs.amazonaws.com/groups/global/{group}"}}]
    assert judged(found(acl=Setting(grants)))["acl"] == status


@pytest.mark.parametrize(
    ("kind", "wanted", "status"),
    [
        ("AES256", "AES256", "ok"),
        ("aws:kms", "AES256", "ok"),
        ("AES256", "aws:kms", "breach"),
        ("aws:kms:dsse", "aws:kms", "ok"),
        (None, "AES256", "breach"),
    ],
)
def test_encryption(kind, wanted, status):
    value = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": kind}}] if kind else [{"BucketKeyEnabled": False}]
    assert judged(found(encryption=Setting(value)), encryption=wanted)["encryption"] == status
