"""backup.yml and backup_verify.yml as an operator runs them: a backup, a proof, and damage that is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3, Database


@pytest.fixture
def project(s3: S3, database: Database, tmp_path: Path) -> Project:
    """A database with rows, a bucket, and the same server for the proof."""
    database.run(
        "CREATE TABLE messages (id bigint PRIMARY KEY, body text)",
        "INSERT INTO messages SELECT n, 'message ' || n FROM generate_series(1, 2000) n",
    )
    options = {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
    made = Project.for_database(
        tmp_path,
        database,
        **options,
        backup_prefix="logical",
        backup_verify_retention_days=0,
        # What this S3 server does not know, and what nobody set on this bucket.
        backup_bucket_block_public_access=False,
        backup_bucket_tls_only=False,
        backup_bucket_encryption="none",
        backup_bucket_abort_multipart_days=0,
        backup_proof_login_host=database.host,
        backup_proof_login_port=database.port,
        backup_proof_login_user=database.user,
        backup_proof_ssl_mode="prefer",
    )
    made.all_vars["backup_proof_system_identifier"] = made.hosts["db"]["preflight_system_identifier"]
    return made


def test_a_backup_is_made_proven_and_found_when_it_is_damaged(s3: S3, database: Database, project: Project):
    before = set(database.run("SELECT datname FROM pg_database"))
    made = project.run("backup.yml")
    assert made.code == 0, made.output
    assert made.last("pg_backup_retention")["deleted"] == []

    # Whole and young, and yet red: nobody ever restored one.
    unproven = project.run("backup_verify.yml")
    assert unproven.code != 0
    assert "proof (breach): No backup was ever proven" in unproven.output
    assert unproven.last("pg_restore")["state"] == "skipped"
    assert unproven.last("s3_bucket_check")["status"] == "ok"

    proven = project.run("backup_verify.yml", backup_verify_proof=True)
    assert proven.code == 0, proven.output
    assert proven.last("pg_restore")["status"] == "ok"
    assert proven.last("pg_backup_verify")["last_proof"]["status"] == "ok"
    assert proven.last("pg_backup_verify")["last_proof"]["backup_id"] == made.last("pg_backup")["backup_id"]
    assert set(database.run("SELECT datname FROM pg_database")) == before

    # Hidden by a newer version a backup could still be restored; so the version itself goes.
    bucket = project.all_vars["backup_bucket"]
    versions = s3.client().list_object_versions(Bucket=bucket)["Versions"]
    one = next(each for each in versions if "data-00" in each["Key"])
    s3.client().delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
    broken = project.run("backup_verify.yml", backup_verify_proof=True)
    assert broken.code != 0
    # The proof failed first, and all the same everything else was looked at.
    assert broken.last("pg_restore")["state"] == "failed"
    assert broken.last("pg_backup_verify")["status"] == "breach"
    assert broken.last("s3_bucket_check")["status"] == "ok"
    assert set(database.run("SELECT datname FROM pg_database")) == before


def test_a_proof_needs_a_server_of_its_own(project: Project):
    """Without backup_proof_login_host nothing is restored anywhere, and the sentence says what to set."""
    host = project.all_vars.pop("backup_proof_login_host")
    refused = project.run("backup_verify.yml", backup_verify_proof=True)
    assert refused.code != 0
    assert "Set backup_proof_login_host in the inventory" in refused.output
    assert "pg_restore" not in refused.results
    assert refused.last("pg_backup_verify")["status"] == "breach"

    # Modules know their options, and say the variables of this server instead of the database's.
    project.all_vars |= {"backup_proof_login_host": host, "backup_proof_system_identifier": "42"}
    refused = project.run("backup_verify.yml", backup_verify_proof=True)
    said = refused.last("pg_preflight")["msg"]
    assert said.startswith("backup_proof_system_identifier: the inventory means cluster 42, and cluster")
    assert "check backup_proof_login_host and backup_proof_login_port, and correct backup_proof_system_id" in said
