"""What the how-to pages say that a user of S3 needs is what the modules really ask for."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from conftest import ROOT, S3, Database, run_module
from s3_faults import FaultyS3

#: What is asked of a bucket besides its objects, by the query. HEAD of a bucket is ListBucket.
OF_BUCKET = {
    "versions": "ListBucketVersions", "uploads": "ListBucketMultipartUploads", "tagging": "GetBucketTagging",
    "versioning": "GetBucketVersioning", "replication": "GetReplicationConfiguration",
    "encryption": "GetEncryptionConfiguration", "publicAccessBlock": "GetBucketPublicAccessBlock",
    "policyStatus": "GetBucketPolicyStatus", "acl": "GetBucketAcl", "object-lock": "GetBucketObjectLockConfiguration",
    "lifecycle": "GetLifecycleConfiguration", "policy": "GetBucketPolicy",
}  # fmt: skip


def action(method: str, address: str) -> str:
    """The IAM action that a request needs (Service Authorization Reference, "Actions for Amazon S3")."""
    parts = urlsplit(address)
    query = parse_qs(parts.query, keep_blank_values=True)
    _, _, key = parts.path.strip("/").partition("/")
    if not key and method in {"GET", "HEAD"}:
        return next((name for word, name in OF_BUCKET.items() if word in query), "ListBucket")
    of_version = "Version" if "versionId" in query else ""
    if method in {"GET", "HEAD"}:
        return f"GetObject{of_version}Tagging" if "tagging" in query else f"GetObject{of_version}"
    if method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in query else f"DeleteObject{of_version}"
    return "PutObjectTagging" if "tagging" in query else "DeleteObject" if "delete" in query else "PutObject"


def asked(proxy: FaultyS3) -> set[str]:
    """The actions of all requests so far."""
    found = {action(method, address) for method, address, _ in proxy.log}
    proxy.log.clear()
    return found


def said(page: str, begin: str, end: str) -> set[str]:
    """The actions that a part of a page names."""
    text = (ROOT / "docs" / "howto" / page).read_text()
    return set(re.findall(r"`s3:(\w+)`", text[text.index(begin) : text.index(end)]))


def test_documented_rights_are_those_that_are_asked_for(database: Database, s3: S3) -> None:
    database.run("CREATE TABLE public.t AS SELECT 1 AS a")
    bucket = s3.bucket()
    with FaultyS3(s3.endpoint_url) as proxy:
        store = s3.options(bucket) | {"endpoint_url": proxy.endpoint_url}
        cluster = {"database": database.name, "system_identifier": database.one(
            "SELECT system_identifier::text FROM pg_control_system()"
        )}  # fmt: skip

        def run(module: str, options: dict[str, Any]) -> None:
            outcome = run_module(module, store | options)
            # The sandbox's S3 does not know every setting of a bucket; what counts is what was asked.
            assert not outcome.failed or module == "s3_bucket_check", outcome.result["msg"]

        for _ in range(2):
            run("pg_backup", database.login | {"environment": "sandbox"})
        run("pg_backup_retention", cluster | {"environment": "sandbox", "keep_daily": 1, "keep_weekly": 0})
        assert not asked(proxy) - said("backup.md", "Who may write to it", "Who may read the database")
        run("pg_backup_verify", cluster | {"wait_s": 0, "retention_days": 0, "max_proof_age_s": 0, "min_backups": 1})
        run("s3_bucket_check", {"environment": "sandbox"})
        login = database.login | {"login_db": "postgres", "database": database.name, "environment": "sandbox"}
        run("pg_restore", login | {"record_proof": True, "scratch": True})
        assert not asked(proxy) - said("verify.md", "Its user of S3", "## A proof")


def test_documented_rights_of_a_mirror_are_those_that_are_asked_for(s3: S3) -> None:
    source, target = s3.bucket(), s3.bucket()
    for key, size in (("a", 1), ("b", 20 << 20)):
        s3.client().put_object(Bucket=source, Key=key, Body=b"x" * size)
    with FaultyS3(s3.endpoint_url) as here, FaultyS3(s3.endpoint_url) as there:
        options = {f"source_{name}": value for name, value in s3.options(source).items()} | s3.options(target)
        options |= {"source_endpoint_url": here.endpoint_url, "endpoint_url": there.endpoint_url, "delete": True}
        assert not run_module("s3_mirror", options | {"environment": "sandbox"}).failed
        s3.client().delete_object(Bucket=source, Key="a")
        assert run_module("s3_mirror", options | {"environment": "sandbox"}).result["deleted_objects"] == 1
        assert not asked(here) - said("files.md", "For the source", "For the copies")
        assert not asked(there) - said("files.md", "For the copies", "3. Set it")
