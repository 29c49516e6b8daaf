"""Module s3_mirror between real S3 servers, and against rows of storage.objects."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules.backup.mirror import ORIGINS
from boto3.s3.transfer import TransferConfig
from conftest import S3, Database, Outcome, run_module

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
STORAGE = """
CREATE SCHEMA storage;
CREATE TABLE storage.objects (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), bucket_id text, name text, metadata jsonb, UNIQUE (bucket_id, name))
"""


def options(source: S3, source_bucket: str, target: S3, bucket: str, **more: object) -> dict[str, Any]:
    """Options for a mirror from one to the other."""
    return (
        {f"source_{name}": value for name, value in source.options(source_bucket).items()}
        | target.options(bucket)
        | {"environment": "sandbox", "show_keys": True}
        | more
    )


def mirror(wanted: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Run the module, which must succeed."""
    done = run_module("s3_mirror", wanted, check=check)
    assert not done.failed, done.result["msg"]
    return done.result


def refused(wanted: dict[str, Any]) -> Outcome:
    """Run the module, which must fail."""
    done = run_module("s3_mirror", wanted)
    assert done.failed, done.result
    return done


def contents(server: S3, bucket: str) -> dict[str, bytes]:
    """Everything in a bucket."""
    client = server.client()
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    found = [each for each in found if not each["Key"].startswith(ORIGINS)]
    return {each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}


def etags(server: S3, bucket: str) -> dict[str, str]:
    """Key and ETag of everything in a bucket."""
    found = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return {each["Key"]: each["ETag"] for each in found if not each["Key"].startswith(ORIGINS)}


def versions(server: S3, bucket: str) -> int:
    """Versions and delete markers in a bucket."""
    found = server.client().list_object_versions(Bucket=bucket)
    every = found.get("Versions", []) + found.get("DeleteMarkers", [])
    return sum(not each["Key"].startswith(ORIGINS) for each in every)


@pytest.fixture
def source(s3: S3) -> str:
    """A bucket with files of all sorts."""
    bucket, client = s3.bucket(), s3.client()
    for key in (
        "a.txt",
        "a/b.txt",
        "a-b.txt",
        "ä/ö ü.txt",
        "emoji😀",
        "q?a=b&c#d%20",
        "plus+",
        "new\nline",
        "k" * 1000,
    ):
        client.put_object(Bucket=bucket, Key=key, Body=f"content of {key}".encode())
    client.put_object(Bucket=bucket, Key="empty", Body=b"")
    client.put_object(
        Bucket=bucket, Key="dressed.png", Body=b"png", ContentType="image/png", CacheControl="max-age=60",
        ContentDisposition='inline; filename="x.png"', Metadata={"owner": "unit"}, Tagging="kind=avatar&a%20b=c%3Dd",
    )  # fmt: skip
    client.upload_fileobj(
        io.BytesIO(os.urandom(11 * MIB)), bucket, "parts/of-5",
        Config=TransferConfig(multipart_chunksize=5 * MIB, multipart_threshold=5 * MIB),
    )  # fmt: skip
    client.put_object(Bucket=bucket, Key="one/piece-of-17", Body=os.urandom(17 * MIB))
    return bucket


@pytest.mark.parametrize("same_server", [True, False])
def test_everything_is_copied_once(s3: S3, moto: S3, source: str, *, same_server: bool) -> None:
    target = s3 if same_server else moto
    wanted = options(s3, source, target, target.bucket())
    if not same_server:
        # No route of moto's server matches it.
        s3.client().delete_object(Bucket=source, Key="new\nline")
    before = contents(s3, source)

    planned = mirror(wanted, check=True)
    assert planned["changed"]
    assert not etags(target, wanted["bucket"])

    done = mirror(wanted)
    assert done["plan"] == planned["plan"]
    assert done["changed"]
    assert done["status"] == "ok"
    assert done["copied_objects"] == done["plan"]["source_objects"] == len(before)
    assert done["copied_bytes"] == sum(map(len, before.values()))
    assert contents(target, wanted["bucket"]) == before
    head = target.client().head_object(Bucket=wanted["bucket"], Key="dressed.png")
    assert head["ContentType"] == "image/png"
    assert head["CacheControl"] == "max-age=60"
    assert head["ContentDisposition"] == 'inline; filename="x.png"'
    assert head["Metadata"]["owner"] == "unit"
    tags = target.client().get_object_tagging(Bucket=wanted["bucket"], Key="dressed.png")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"kind": "avatar", "a b": "c=d"}
    # What came in parts went in the same ones.
    assert etags(target, wanted["bucket"])["parts/of-5"] == etags(s3, source)["parts/of-5"]

    count = versions(target, wanted["bucket"])
    again = mirror(wanted)
    assert not again["changed"]
    assert again["copied_objects"] == 0
    assert again["plan"]["unchanged_objects"] == len(before)
    assert versions(target, wanted["bucket"]) == count


def test_what_changed_is_copied_and_the_old_version_is_kept(s3: S3, moto: S3) -> None:
    source, target = s3.bucket(), moto.bucket()
    client = s3.client()
    for key in ("same", "changed"):
        client.put_object(Bucket=source, Key=key, Body=b"first")
    wanted = options(s3, source, moto, target, prefix="files/")
    mirror(wanted)
    # The same size, so that only the ETag can tell.
    client.put_object(Bucket=source, Key="changed", Body=b"other")
    done = mirror(wanted)
    assert done["copied_objects"] == 1
    assert contents(moto, target) == {"files/same": b"first", "files/changed": b"other"}
    assert versions(moto, target) == 3


def test_only_what_lies_under_the_prefix_is_copied(s3: S3) -> None:
    source, target = s3.bucket(), s3.bucket()
    for key in ("in/a", "in/b", "out/a"):
        s3.client().put_object(Bucket=source, Key=key, Body=b"x")
    s3.client().put_object(Bucket=target, Key="elsewhere", Body=b"x")
    done = mirror(options(s3, source, s3, target, source_prefix="in/", prefix="copy/", delete=True))
    assert done["plan"]["extra_objects"] == 0
    assert set(etags(s3, target)) == {"copy/a", "copy/b", "elsewhere"}


def test_files_come_back_the_other_way_round(s3: S3) -> None:
    live, copies = s3.bucket(), s3.bucket()
    for key in ("a", "b/c"):
        s3.client().put_object(Bucket=live, Key=key, Body=key.encode())
    mirror(options(s3, live, s3, copies, prefix="files/uploads/"))
    s3.client().delete_object(Bucket=live, Key="b/c")
    back = mirror(options(s3, copies, s3, live, source_prefix="files/uploads/"))
    assert back["copied_objects"] == 1
    assert contents(s3, live) == {"a": b"a", "b/c": b"b/c"}


def test_deletions_are_followed_only_if_asked_and_only_hide(s3: S3) -> None:
    source, target = s3.bucket(), s3.bucket()
    for key in ("stays", "goes", "goes too"):
        s3.client().put_object(Bucket=source, Key=key, Body=key.encode())
    wanted = options(s3, source, s3, target)
    mirror(wanted)
    for key in ("goes", "goes too"):
        s3.client().delete_object(Bucket=source, Key=key)

    kept = mirror(wanted)
    assert not kept["changed"]
    assert kept["plan"]["extra_objects"] == 2
    assert len(etags(s3, target)) == 3

    assert "max_delete: 2" in refused(wanted | {"delete": True, "max_delete": 1}).result["msg"]
    assert len(etags(s3, target)) == 3

    assert "max_delete_percent: 2 of 3" in refused(wanted | {"delete": True}).result["msg"]
    gone = mirror(wanted | {"delete": True, "max_delete": 2, "max_delete_percent": 70})
    assert gone["deleted_objects"] == 2
    assert set(etags(s3, target)) == {"stays"}
    found = s3.client().list_object_versions(Bucket=target, Prefix="goes")
    assert {each["Key"] for each in found["Versions"]} == {"goes", "goes too"}

    s3.client().delete_object(Bucket=source, Key="stays")
    assert "lists no object" in refused(wanted | {"delete": True}).result["msg"]
    assert set(etags(s3, target)) == {"stays"}


def test_two_sources_do_not_share_a_prefix(s3: S3, moto: S3) -> None:
    first, second, target = s3.bucket(), s3.bucket(), s3.bucket()
    for bucket in (first, second):
        s3.client().put_object(Bucket=bucket, Key="a", Body=bucket.encode())
    assert mirror(options(s3, first, s3, target, prefix="files/"))["copied_objects"] == 1
    before = contents(s3, target)
    for more, words in (
        ({"prefix": "files/", "delete": True}, "holds the copies of"),
        ({"prefix": ""}, "lie within one another"),
        ({"prefix": "files/deep/"}, "lie within one another"),
    ):
        outcome = refused(options(s3, second, s3, target, **more))
        assert words in outcome.result["msg"]
        assert f"/{first}/" in outcome.result["msg"]
        assert not outcome.result["changed"]
    assert contents(s3, target) == before
    # What lies within one another as it does in one source is one mirror; who took another's place is told.
    assert not mirror(options(s3, first, s3, target, prefix="files/b/", source_prefix="b/"), check=True)["changed"]
    refusal = refused(options(s3, second, s3, target, prefix="files/")).result["msg"]
    named = refusal.partition("file_mirror_previous_sources: ['")[2].partition("'")[0]
    taken = mirror(options(s3, second, s3, target, prefix="files/", previous_sources=[named]))
    assert taken["copied_objects"] == 1
    assert not mirror(options(s3, second, s3, target, prefix="files/"))["changed"]
    refused(options(s3, first, s3, target, prefix="files/"))
    # And back: the note is no file.
    moto_bucket = moto.bucket()
    assert mirror(options(s3, target, moto, moto_bucket))["copied_objects"] == 1
    assert list(contents(moto, moto_bucket)) == ["files/a"]


def test_copies_with_other_etags_are_known_by_their_metadata(moto: S3) -> None:
    source, target = moto.bucket(), moto.bucket()
    # Parts that are too large to be held, as another program may have made them.
    upload = moto.client().create_multipart_upload(Bucket=source, Key="big")["UploadId"]
    part = moto.client().upload_part(Bucket=source, Key="big", UploadId=upload, PartNumber=1, Body=os.urandom(65 * MIB))
    moto.client().complete_multipart_upload(
        Bucket=source, Key="big", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip
    # Other keys reach the same server, so that the content passes through the module.
    wanted = options(moto, source, moto, target, source_access_key="other")
    mirror(wanted)
    assert etags(moto, source) != etags(moto, target)
    again = mirror(wanted)
    assert not again["changed"]
    assert again["plan"]["unchanged_objects"] == 1


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"environment": "production"}, "belongs to environment 'sandbox'"),
        ({"max_objects": 1}, "max_objects: 2 objects"),
        ({"max_bytes": 5}, "max_bytes: 6 bytes"),
        ({"jobs": 0}, "jobs: 0 is out of bounds"),
        ({"source_bucket": "not-there-at-all"}, "NoSuchBucket"),
        ({"source_secret_key": "wrong-canary"}, "SignatureDoesNotMatch"),
        ({"source_secret_key": None}, "The source: access_key and secret_key"),
        ({"source_endpoint_url": "nonsense"}, "endpoint_url: 'nonsense'"),
    ],
)
def test_what_must_be_refused_is_refused_before_anything_is_written(s3: S3, more: dict[str, Any], word: str) -> None:
    source, target = s3.bucket(), s3.bucket()
    for key in ("a", "b"):
        s3.client().put_object(Bucket=source, Key=key, Body=b"abc")
    said = json.dumps(refused(options(s3, source, s3, target) | more).result)
    assert word in said
    assert "canary" not in said
    assert not etags(s3, target)


def test_a_destination_without_versions_or_tag_is_refused(s3: S3) -> None:
    source = s3.bucket()
    assert "no versions" in refused(options(s3, source, s3, s3.bucket(versioned=False))).result["msg"]
    assert "no tag" in refused(options(s3, source, s3, s3.bucket(environment=""))).result["msg"]
    assert "copies" in refused(options(s3, source, s3, source)).result["msg"]


def test_the_source_is_asked_for_versions_and_replication(s3: S3, moto: S3) -> None:
    plain, kept, target = moto.bucket(versioned=False), moto.bucket(), s3.bucket()
    asked = {"expect_source_versioning": True, "expect_source_replication": True}
    off = refused(options(moto, plain, s3, target, **asked)).result
    assert (off["source_versioning"], off["source_replication"]) == ("off", "off")
    assert off["status"] == "breach"
    rule = {
        "ID": "all", "Status": "Enabled", "Priority": 1, "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Disabled"}, "Destination": {"Bucket": f"arn:aws:s3:::{plain}"},
    }  # fmt: skip
    moto.client().put_bucket_replication(
        Bucket=kept, ReplicationConfiguration={"Role": "arn:aws:iam::123456789012:role/r", "Rules": [rule]}
    )
    on = mirror(options(moto, kept, s3, target, **asked))
    assert (on["status"], on["source_versioning"], on["source_replication"]) == ("ok", "on", "on")


def test_rows_of_storage_objects_are_compared(s3: S3, database: Database) -> None:
    source, target = s3.bucket(), s3.bucket()
    for key in ("good", "orphan", "differs", "lost"):
        s3.client().put_object(Bucket=source, Key=key, Body=key.encode())
    wanted = options(s3, source, s3, target, storage_bucket_id="uploads") | database.login
    assert mirror(wanted)["rows"] is None, "there is no such table yet"
    s3.client().delete_object(Bucket=source, Key="lost")
    md5 = etags(s3, source)
    database.run(STORAGE)
    for key, size, etag in (
        ("good", 4, md5["good"]), ("differs", 8, md5["differs"]), ("lost", 4, '"x"'), ("never there", 1, '"y"')
    ):  # fmt: skip
        row = json.dumps({"size": size, "eTag": etag})
        database.run(f"INSERT INTO storage.objects (bucket_id, name, metadata) VALUES ('uploads', '{key}', '{row}')")
    database.run("INSERT INTO storage.objects (bucket_id, name) VALUES ('another', 'orphan')")

    found = refused(wanted).result
    counts = ("rows", "missing_rows", "recoverable_rows", "orphan_objects", "differing_rows")
    assert [found[name] for name in counts] == [4, 2, 1, 1, 1]
    assert found["status"] == "breach"
    assert {(each["kind"], each["name"]) for each in found["named"]} == {
        ("missing", "lost"), ("missing", "never there"), ("orphan", "orphan"), ("differing", "differs")
    }  # fmt: skip
    hidden = refused(wanted | {"show_keys": False}).result
    assert all(each["name"].startswith("sha256:") for each in hidden["named"])
    assert "never there" not in json.dumps(hidden)

    s3.client().put_object(Bucket=source, Key="lost", Body=b"lost")
    database.run(
        "DELETE FROM storage.objects WHERE name = 'never there'",
        "UPDATE storage.objects SET metadata = metadata - 'eTag' WHERE name = 'lost'",
        "UPDATE storage.objects SET metadata = jsonb_set(metadata, '{size}', '7') WHERE name = 'differs'",
        "INSERT INTO storage.objects (bucket_id, name) VALUES ('uploads', 'orphan')",
    )
    good = mirror(wanted)
    assert [good[name] for name in counts] == [4, 0, 0, 0, 0]


def test_rows_that_are_hidden_are_no_comparison(s3: S3, database: Database) -> None:
    source, target = s3.bucket(), s3.bucket()
    user = f"reader_{database.name}"
    database.run(STORAGE, "ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY", f"CREATE ROLE {user} LOGIN")
    wanted = options(s3, source, s3, target) | database.login | {"login_user": user}
    try:
        assert "grant USAGE" in refused(wanted).result["msg"]
        database.run(f"GRANT USAGE ON SCHEMA storage TO {user}")
        assert "grant SELECT" in refused(wanted).result["msg"]
        database.run(f"GRANT SELECT ON storage.objects TO {user}")
        assert "row-level security" in refused(wanted).result["msg"]
        database.run(f"ALTER ROLE {user} BYPASSRLS")
        assert mirror(wanted)["rows"] == 0
    finally:
        database.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_a_server_that_loses_objects_silently_is_found_out(s3: S3, moto: S3) -> None:
    """SeaweedFS drops doubled and leading slashes from keys; what was written is not there afterwards."""
    source, target = moto.bucket(), s3.bucket()
    for key in ("fine", "x//y", "/lead", "../up"):
        moto.client().put_object(Bucket=source, Key=key, Body=key.encode())
    done = refused(options(moto, source, s3, target)).result
    assert {each["name"] for each in done["named"]} == {"x//y", "/lead", "../up"}
    assert done["copied_objects"] == 1
    assert done["remaining_objects"] == 3
    assert contents(s3, target)["fine"] == b"fine"


def test_a_key_that_grows_too_long_is_named(s3: S3) -> None:
    source, target = s3.bucket(), s3.bucket()
    for key in ("short", "k" * 1020):
        s3.client().put_object(Bucket=source, Key=key, Body=b"x")
    done = refused(options(s3, source, s3, target, prefix="long/")).result
    assert done["errors"] == {"KeyTooLongError": 1}
    assert set(etags(s3, target)) == {"long/short"}


def test_the_playbook_mirrors_each_bucket_and_leaves_a_record(s3: S3, database: Database, tmp_path: Path) -> None:
    sources, target = [s3.bucket(), s3.bucket()], s3.bucket()
    for bucket in sources:
        s3.client().put_object(Bucket=bucket, Key="a.txt", Body=bucket.encode())
    reach = {
        f"file_mirror_{side}{name}": value
        for side in ("", "source_")
        for name, value in s3.options(target).items()
        if name != "bucket"
    }
    project = Project.for_database(
        tmp_path, database, file_mirror_source_buckets=sources, file_mirror_bucket=target, **reach
    )
    first = project.run("files_mirror.yml")
    assert first.code == 0, first.output
    assert contents(s3, target) == {f"files/{bucket}/a.txt": bucket.encode() for bucket in sources}
    assert [each["copied_objects"] for each in first.results["s3_mirror"]] == [1, 1]
    assert first.record is not None
    assert "Second copy of files" in (first.record / "report.html").read_text()
    assert "runbook_files_last_mirror_timestamp_seconds{" in (first.record / "metrics.prom").read_text()
    assert s3.secret_key not in "".join(path.read_text() for path in first.record.iterdir())
    assert s3.secret_key not in first.output

    second = project.run("files_mirror.yml")
    assert second.code == 0, second.output
    assert not any(each["changed"] for each in second.results["s3_mirror"])
