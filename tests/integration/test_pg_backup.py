"""Backups of a real server into a real bucket: what is in them is what the snapshot showed."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from ansible.module_utils.runbook.drivers import content_hash, postgres
from ansible.module_utils.runbook.drivers.backup import find_client
from ansible.module_utils.runbook.rules import content_hash as hashes
from ansible.module_utils.runbook.rules import manifest as manifests
from conftest import S3, Database, run_module

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ODD = "o\"d'd ü.%_*?" + "x" * 50
assert len(ODD.encode()) == 63

APPLICATION = (
    "CREATE TABLE public.conversations (id bigint PRIMARY KEY, title text)",
    "CREATE TABLE public.messages (id bigint PRIMARY KEY, conversation_id bigint REFERENCES conversations, body text)",
    "INSERT INTO public.conversations SELECT i, 'c' || i FROM generate_series(1, 100) i",
    "INSERT INTO public.messages SELECT i, 1 + i % 100, repeat(md5(i::text), 4) FROM generate_series(1, 20000) i",
    "CREATE TABLE public.notes AS SELECT i AS id, repeat(md5(i::text), 3) AS body FROM generate_series(1, 15000) i",
)


@pytest.fixture
def application(database: Database) -> Database:
    database.run(*APPLICATION)
    return database


@pytest.fixture
def bucket(s3: S3) -> str:
    return s3.bucket()


def options(database: Database, s3: S3, bucket: str, **more: Any) -> dict[str, Any]:
    return database.login | s3.options(bucket) | {"environment": "sandbox", "prefix": "tests/here"} | more


def backup(database: Database, s3: S3, bucket: str, *, check: bool = False, **more: Any) -> dict[str, Any]:
    outcome = run_module("pg_backup", options(database, s3, bucket, **more), check=check, diff=True)
    assert not outcome.failed, outcome.result
    return outcome.result


def keys(s3: S3, bucket: str, prefix: str = "") -> list[str]:
    return [each["Key"] for each in s3.client().list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def fetch(s3: S3, bucket: str, key: str) -> bytes:
    return bytes(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())


def manifest_of(s3: S3, bucket: str, result: dict[str, Any]) -> manifests.Manifest:
    return manifests.parse(fetch(s3, bucket, result["manifest"]), where=result["manifest"])


def restore(s3: S3, bucket: str, manifest: manifests.Manifest, into: Database, folder: Path) -> None:
    """By hand, with nothing of ours: zstd and pg_restore."""
    into_words = ["-h", into.host, "-p", str(into.port), "-U", into.user, "-d", into.name]
    client = find_client(None, int(into.one("SHOW server_version_num")))
    schema = manifest.one("schema")
    assert schema is not None
    files = {}
    for name, objects in {"schema": [schema], **manifest.data_streams()}.items():
        blob = b"".join(fetch(s3, bucket, each.key) for each in objects)
        files[name] = folder / f"{name}.dump"
        files[name].write_bytes(zstandard.ZstdDecompressor().decompressobj().decompress(blob))
    pg_restore = [client.path("pg_restore"), "--exit-on-error", *into_words]
    for section, name in [
        ("pre-data", "schema"),
        *(("data", n) for n in manifest.data_streams()),
        ("post-data", "schema"),
    ]:
        subprocess.run([*pg_restore, f"--section={section}", str(files[name])], check=True, capture_output=True)


def contents(database: Database) -> dict[tuple[str, str], hashes.Content]:
    """What every table holds now, hashed anew."""
    target = postgres.Target(database.host, database.port, database.name, database.user, None)
    with postgres.Session(target, lock_timeout_ms=1000, statement_timeout_ms=60000) as session:
        content_hash.settle(session)
        method = hashes.method(session.server_version)
        return {
            tuple(table.name): content_hash.hash_table(session, table, method)
            for table in content_hash.read_tables(session)
        }


def promised(manifest: manifests.Manifest) -> dict[tuple[str, str], hashes.Content]:
    return {(each.schema, each.name): hashes.Content(each.rows or 0, each.hash) for each in manifest.tables}


@pytest.fixture
def scratch(database: Database, cluster) -> Iterator[Database]:
    made = Database(database.host, database.port, database.name + "_scratch", database.user)
    admin = Database(database.host, database.port, "postgres", database.user)
    admin.run(f"CREATE DATABASE {made.name} TEMPLATE template0")
    yield made
    admin.run(f"DROP DATABASE {made.name} WITH (FORCE)")


def test_backup_holds_what_the_database_held(application, s3, bucket, scratch, tmp_path):
    result = backup(application, s3, bucket)
    manifest = manifest_of(s3, bucket, result)
    home = f"tests/here/{application.name}/{result['backup_id']}/"
    assert sorted(keys(s3, bucket)) == [
        home + name
        for name in ("data-00.dump.zst", "data-01.dump.zst", "globals.sql.zst", "manifest.json", "schema.dump.zst")
    ]
    for each in manifest.objects:
        stored = fetch(s3, bucket, each.key)
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (each.size_bytes, each.sha256)
        head = s3.client().head_object(Bucket=bucket, Key=each.key)
        assert head["VersionId"] == each.version_id
        assert head["ServerSideEncryption"] == "AES256"
    assert promised(manifest) == contents(application)
    assert (result["tables"], result["rows"]) == (3, 35100)
    assert result["size_bytes"] == manifest.size_bytes < result["dump_bytes"] == manifest.dump_bytes
    assert manifest.source.system_identifier == application.one(
        "SELECT system_identifier::text FROM pg_control_system()"
    )
    assert manifest.roles == ("postgres",)
    assert b"CREATE ROLE" in zstandard.ZstdDecompressor().decompressobj().decompress(
        fetch(s3, bucket, home + "globals.sql.zst")
    )
    restore(s3, bucket, manifest, scratch, tmp_path)
    assert contents(scratch) == promised(manifest)
    scratch.run("UPDATE messages SET body = 'X' || substr(body, 2) WHERE id = 77")
    assert contents(scratch) != promised(manifest)


def test_check_mode_writes_nothing_and_promises_the_same_plan(application, s3, bucket):
    planned = backup(application, s3, bucket, check=True)
    assert keys(s3, bucket) == []
    assert (planned["backup_id"], planned["manifest"], planned["changed"]) == ("", "", True)
    done = backup(application, s3, bucket)
    assert planned["plan"] == done["plan"]
    assert planned["executed_queries"] == done["executed_queries"]
    assert planned["diff"] == done["diff"]


def test_the_playbook_backs_up_and_gives_the_lease_back(application, s3, bucket, tmp_path):
    given = {f"backup_{name}": value for name, value in s3.options(bucket).items()}
    project = Project.for_database(tmp_path, application, **given)
    dry = project.run("backup.yml", "--check", "--diff")
    assert dry.code == 0, dry.output
    assert keys(s3, bucket) == []
    done = project.run("backup.yml")
    assert done.code == 0, done.output
    result = done.last("pg_backup")
    assert f"{application.name}/{result['backup_id']}/manifest.json" in keys(s3, bucket)
    assert result["changed"] is True
    assert s3.secret_key not in done.output
    assert application.run("SELECT * FROM runbook.lease") == []
