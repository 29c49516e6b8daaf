"""What a backup, its verification and a restore left in the bucket, in the server and on the bastion."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import boto3
import psycopg2
import pytest
from botocore.config import Config

STATE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
TABLES = (
    "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
    " AND table_schema NOT IN ('pg_catalog', 'information_schema') AND table_schema <> 'runbook' ORDER BY 1"
)


def ask(database, statements):
    """Rows of each statement, from one database of the container's server."""
    login = {
        "host": "127.0.0.1", "port": (STATE / "port").read_text(), "user": "postgres", "dbname": database,
        "password": (STATE / "password").read_text().strip(),
    }  # fmt: skip
    with closing(psycopg2.connect(**login)) as connection, connection.cursor() as cursor:
        answers = []
        for statement in statements:
            cursor.execute(statement)
            answers.append(cursor.fetchall())
        return answers


def storage():
    """A client of the S3 API that the scenario started."""
    state = json.loads((STATE / "s3" / "state.json").read_text())
    return boto3.client(
        "s3", endpoint_url=state["endpoint_url"], region_name="us-east-1", config=Config(proxies={}),
        aws_access_key_id=state["access_key"], aws_secret_access_key=state["secret_key"],
    )  # fmt: skip


def fingerprint(database):
    """Rows and hash of every table, by name."""
    [tables] = ask(database, [TABLES])
    query = "SELECT count(*), sum(hashtextextended(t::text, 0))::text FROM {} AS t"
    return {table: ask(database, [query.format(table)])[0][0] for (table,) in tables}


@pytest.fixture(scope="module")
def restored():
    """Name of the database that was restored."""
    [rows] = ask("postgres", [r"SELECT datname FROM pg_database WHERE datname LIKE 'mental\_scribe\_%' ORDER BY 1"])
    assert len(rows) == 1
    return rows[0][0]


def test_restored_database_equals_the_live_one(restored):
    live = fingerprint("mental_scribe")
    assert live["public.audit_log"][0] > 1000
    assert fingerprint(restored) == live


def test_restored_database_has_all_that_the_live_one_has(restored):
    queries = (
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT last_value IS NOT NULL FROM pg_sequences WHERE schemaname = 'public'",
    )
    assert ask(restored, queries) == ask("mental_scribe", queries)


def test_bucket_holds_one_whole_backup():
    client = storage()
    found = {item["Key"]: item["Size"] for item in client.list_objects_v2(Bucket="molecule-backups")["Contents"]}
    manifests = [key for key in found if key.endswith("/manifest.json")]
    assert len(manifests) == 1
    manifest = json.loads(client.get_object(Bucket="molecule-backups", Key=manifests[0])["Body"].read())
    assert {item["key"]: item["size_bytes"] for item in manifest["objects"]}.items() <= found.items()
    assert "Uploads" not in client.list_multipart_uploads(Bucket="molecule-backups")


def test_backup_is_proven():
    """Beside the manifest lies the outcome of its restore."""
    client = storage()
    found = [item["Key"] for item in client.list_objects_v2(Bucket="molecule-backups")["Contents"]]
    proofs = [key for key in found if "/proof-" in key]
    assert len(proofs) == 1
    proof = json.loads(client.get_object(Bucket="molecule-backups", Key=proofs[0])["Body"].read())
    assert proof["status"] == "ok"


def test_lease_is_given_back():
    assert ask("mental_scribe", ["SELECT * FROM runbook.lease"]) == [[]]


def test_run_left_its_record_and_no_secret():
    state = json.loads((STATE / "s3" / "state.json").read_text())
    secrets = [(STATE / "password").read_text().strip(), state["secret_key"], state["sse_kek"]]
    records = [path for path in (STATE / "runs").iterdir() if "converge" in path.name or "backup" in path.name]
    assert len(records) == 1
    assert json.loads((records[0] / "record.json").read_text())["status"] == "ok"
    for path in records[0].iterdir():
        assert not any(secret in path.read_text() for secret in secrets)
