"""s3_mirror when things go wrong: faults of the network and the servers, credentials that end, kills."""

from __future__ import annotations

import io
import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from ansible.module_utils.runbook.rules.backup.mirror import ORIGINS, origin_document, origin_key
from boto3.s3.transfer import TransferConfig
from conftest import S3, module_process, run_module
from s3_faults import (
    Fault,
    FaultyS3,
    close,
    expired_token,
    flip,
    lose_answer,
    reset,
    slow,
    status,
    truncate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 2**20
SMALL = 12


@pytest.fixture
def source(s3: S3) -> str:
    """A dozen small files."""
    bucket, client = s3.bucket(), s3.client()
    for number in range(SMALL):
        client.put_object(Bucket=bucket, Key=f"small/{number:02}", Body=b"%d" % number * 1000)
    return bucket


@pytest.fixture
def large(s3: S3, source: str) -> str:
    """The same with a file in two parts, and one of more than can be copied in one piece."""
    client = s3.client()
    client.upload_fileobj(
        io.BytesIO(os.urandom(6 * MIB)), source, "parts",
        Config=TransferConfig(multipart_chunksize=5 * MIB, multipart_threshold=5 * MIB),
    )  # fmt: skip
    client.put_object(Bucket=source, Key="piece", Body=os.urandom(17 * MIB))
    return source


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyS3]:
    """What stands between the module and one of the buckets."""
    with FaultyS3(s3.endpoint_url) as found:
        yield found


def options(s3: S3, source: str, target: str, **more: object) -> dict[str, Any]:
    """Options for a mirror on one server, whose contents pass through the module because a proxy stands before one."""
    return (
        {f"source_{name}": value for name, value in s3.options(source).items()}
        | s3.options(target)
        | {"environment": "sandbox", "show_keys": True, "jobs": 4}
        | more
    )


def contents(s3: S3, bucket: str) -> dict[str, bytes]:
    """Everything in a bucket."""
    client = s3.client()
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    found = [each for each in found if not each["Key"].startswith(ORIGINS)]
    return {each["Key"]: client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}


def uploads(s3: S3, bucket: str) -> list[Any]:
    """Multipart uploads that were started and not ended."""
    return list(s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))


READING = (
    status(503, "SlowDown", path="list-type", times=2),
    status(500, "InternalError", method="GET", path="small/00", times=2),
    status(503, "SlowDown", method="GET", path="small/01", times=2),
    reset(method="GET", path="small/02", at_bytes=500),
    close(method="GET", path="small/03", times=2),
    truncate(method="GET", path="small/04", at_bytes=100),
    truncate(method="GET", path="small/05", at_bytes=9, fitting=True),
    flip(method="GET", path="small/06", at_bytes=500),
    lose_answer(method="GET", path="small/07"),
    slow(method="GET", path="small/08", bytes_per_s=10_000),
)
WRITING = (
    status(500, "InternalError", method="PUT", path="small/00", times=2),
    status(503, "SlowDown", method="PUT", path="small/01", times=6),
    reset(method="PUT", path="small/02", at_bytes=500, upload=True),
    close(method="PUT", path="small/03"),
    flip(method="PUT", path="small/04", at_bytes=500, upload=True),
    lose_answer(method="PUT", path="small/05"),
)
READING_PARTS = (
    reset(method="GET", path="parts", at_bytes=MIB),
    truncate(method="GET", path="piece", at_bytes=MIB),
    flip(method="GET", path="parts", at_bytes=MIB // 2, after=1),
    flip(method="GET", path="piece", at_bytes=MIB // 2, after=1),
)
WRITING_PARTS = (
    reset(method="PUT", path="parts", at_bytes=MIB, upload=True),
    status(503, "SlowDown", method="PUT", path="piece", times=2),
    lose_answer(method="POST", path="parts?uploadId"),
)


@pytest.mark.parametrize(
    ("side", "bucket", "faults"),
    [
        ("source_endpoint_url", "source", READING),
        ("endpoint_url", "source", WRITING),
        ("source_endpoint_url", "large", READING_PARTS),
        ("endpoint_url", "large", WRITING_PARTS),
    ],
    ids=["reading", "writing", "reading parts", "writing parts"],
)
def test_what_passes_is_outlived(
    s3: S3, proxy: FaultyS3, request: pytest.FixtureRequest, side: str, bucket: str, faults: tuple[Fault, ...]
) -> None:
    source, target = request.getfixturevalue(bucket), s3.bucket()
    proxy.add(*(replace(fault) for fault in faults))
    done = run_module("s3_mirror", options(s3, source, target, **{side: proxy.endpoint_url}))
    assert not done.failed, done.result["msg"]
    assert [fault for fault in proxy.faults if not fault.struck] == []
    assert contents(s3, target) == contents(s3, source)
    assert not uploads(s3, target)


def test_credentials_that_expire_end_the_run_at_once(s3: S3, proxy: FaultyS3, source: str) -> None:
    target = s3.bucket()
    wanted = options(s3, source, target, source_endpoint_url=proxy.endpoint_url)
    proxy.add(expired_token(after=5, path="small"))
    first = run_module("s3_mirror", wanted).result
    assert first["failed"]
    assert "ExpiredToken" in first["msg"]
    assert "credentials that outlive it" in first["msg"]
    assert first["changed"]
    assert 0 < first["copied_objects"] < SMALL
    proxy.clear()
    second = run_module("s3_mirror", wanted).result
    assert second["plan"]["copy_objects"] == first["remaining_objects"]
    assert contents(s3, target) == contents(s3, source)


def test_one_file_that_may_not_be_read_keeps_no_other_back(s3: S3, proxy: FaultyS3, source: str) -> None:
    target = s3.bucket()
    proxy.add(status(403, "AccessDenied", method="GET", path="small/03", times=0))
    s3.client().put_object(Bucket=target, Key="gone from the source", Body=b"x")
    done = run_module("s3_mirror", options(s3, source, target, source_endpoint_url=proxy.endpoint_url, delete=True))
    assert done.failed
    assert done.result["errors"] == {"AccessDenied": 1}
    assert done.result["named"] == [{"kind": "failed", "name": "small/03", "error": "AccessDenied"}]
    assert done.result["deleted_objects"] == 0, "nothing is deleted while something is missing"
    assert set(contents(s3, source)) - set(contents(s3, target)) == {"small/03"}


def test_a_file_that_is_listed_and_not_there_is_no_deleted_one(s3: S3, proxy: FaultyS3, source: str) -> None:
    target = s3.bucket()
    for method in ("GET", "HEAD"):
        proxy.add(status(404, "NoSuchKey", method=method, path=f"{source}/small/03", times=0))
    done = run_module("s3_mirror", options(s3, source, target, source_endpoint_url=proxy.endpoint_url))
    assert done.failed
    assert done.result["errors"] == {"ListedButNotFound": 1}
    assert done.result["gone_objects"] == 0


OWN = {
    "archived": ("source_endpoint_url", "GET", (403, "InvalidObjectState")),
    "a key of KMS that is disabled": ("source_endpoint_url", "GET", (400, "KMS.DisabledException")),
    "a name that is not taken": ("endpoint_url", "PUT", (400, "InvalidURI")),
}


@pytest.mark.parametrize(("side", "method", "answer"), OWN.values(), ids=OWN)
def test_many_files_in_a_row_that_cannot_be_copied_keep_no_other_back(
    s3: S3, proxy: FaultyS3, side: str, method: str, answer: tuple[int, str]
) -> None:
    """Thirty in the middle, more than any number of failures in a row; the rest is copied, and the run is red."""
    source, target = s3.bucket(), s3.bucket()
    for name in ("a/0", *(f"cold/{number:02}" for number in range(30)), "d/0", "d/1"):
        s3.client().put_object(Bucket=source, Key=name, Body=b"x")
    proxy.add(status(*answer, method=method, path="cold/", times=0))
    done = run_module("s3_mirror", options(s3, source, target, **{side: proxy.endpoint_url}))
    assert done.failed
    assert set(contents(s3, target)) == {"a/0", "d/0", "d/1"}
    assert done.result["errors"] == {answer[1]: 30}
    assert f"30 objects could not be copied ({answer[1]} 30" in done.result["msg"]
    assert len(done.result["named"]) == 20
    # What is new is copied the next time too.
    s3.client().put_object(Bucket=source, Key="e", Body=b"x")
    again = run_module("s3_mirror", options(s3, source, target, **{side: proxy.endpoint_url}))
    assert again.result["copied_objects"] == 1


def test_a_server_that_fails_every_time_is_not_asked_for_each_file(s3: S3, proxy: FaultyS3) -> None:
    source, target = s3.bucket(), s3.bucket()
    for number in range(60):
        s3.client().put_object(Bucket=source, Key=f"{number:02}", Body=b"x")
    s3.client().put_object(Bucket=target, Key=origin_key(""), Body=origin_document("", f"127.0.0.1/{source}/"))
    proxy.add(status(503, "QuotaExceeded", method="PUT", times=0))
    done = run_module("s3_mirror", options(s3, source, target, endpoint_url=proxy.endpoint_url))
    assert done.failed
    assert "Stopped after QuotaExceeded" in done.result["msg"]
    assert done.result["remaining_objects"] == 60


def test_nothing_is_deleted_where_the_listing_breaks(s3: S3, proxy: FaultyS3, source: str) -> None:
    target = s3.bucket()
    s3.client().put_object(Bucket=target, Key="x", Body=b"x")
    proxy.add(status(500, "InternalError", method="GET", path="list-type", times=0))
    done = run_module("s3_mirror", options(s3, source, target, source_endpoint_url=proxy.endpoint_url, delete=True))
    assert done.failed
    assert "Listing s3://" in done.result["msg"]
    assert set(contents(s3, target)) == {"x"}


class Meddling(FaultyS3):
    """Changes files of the source behind the module's back, just before it asks for them the first time."""

    def fate(self, method: str, path: str) -> Fault | None:
        """Do it, and let the request through."""
        for key in sorted(self.left):
            if urlsplit(path).path.endswith(key):
                self.left.remove(key)
                self.meddle(key)
        return super().fate(method, path)

    left: set[str]
    meddle: Callable[[str], object]


@pytest.mark.parametrize("gone", [False, True])
def test_files_that_change_or_go_meanwhile(s3: S3, large: str, *, gone: bool) -> None:
    target, client = s3.bucket(), s3.client()
    meddler = Meddling(s3.endpoint_url)
    with meddler:
        meddler.left = {"small/03", "parts", "piece"}
        if gone:
            meddler.meddle = lambda key: client.delete_object(Bucket=large, Key=key)
        else:
            meddler.meddle = lambda key: client.put_object(Bucket=large, Key=key, Body=os.urandom(MIB))
        done = run_module("s3_mirror", options(s3, large, target, source_endpoint_url=meddler.endpoint_url))
    assert not meddler.left
    assert not done.failed, done.result["msg"]
    assert done.result["gone_objects"] == (3 if gone else 0)
    assert contents(s3, target) == contents(s3, large)
    assert not uploads(s3, target)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_is_continued(s3: S3, proxy: FaultyS3, large: str, number: signal.Signals) -> None:
    target = s3.bucket()
    wanted = options(s3, large, target, source_endpoint_url=proxy.endpoint_url, deadline_s=600)
    # Slow enough to be caught in the middle of its large files.
    proxy.add(slow(method="GET", path="p", bytes_per_s=MIB, times=0))
    process = module_process("s3_mirror", wanted)
    deadline = time.monotonic() + 60
    while not uploads(s3, target) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert uploads(s3, target)
    process.send_signal(number)
    proxy.faults.clear()
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    if number == signal.SIGTERM:
        assert "Stopped by SIGTERM" in out
        assert not uploads(s3, target), "a run that may say goodbye cleans up"
    kept = contents(s3, target)
    assert {key: kept[key] for key in kept if key in ("parts", "piece")} == {}, "no object is there in part"

    time.sleep(1.1)  # so that what is left behind is older than a second
    done = run_module("s3_mirror", wanted | {"deadline_s": 1 if number == signal.SIGKILL else 600})
    if done.failed:  # a deadline of a second was too short for all of it
        done = run_module("s3_mirror", wanted)
    assert not done.failed, done.result["msg"]
    assert contents(s3, target) == contents(s3, large)
    assert not uploads(s3, target)


def test_a_deadline_leaves_the_rest_to_the_next_run(s3: S3, proxy: FaultyS3, large: str) -> None:
    target = s3.bucket()
    wanted = options(s3, large, target, source_endpoint_url=proxy.endpoint_url)
    proxy.add(slow(method="GET", path="p", bytes_per_s=MIB, times=0))
    late = run_module("s3_mirror", wanted | {"deadline_s": 2}).result
    assert late["failed"]
    assert "deadline_s, 2" in late["msg"]
    assert late["remaining_objects"] > 0
    assert not uploads(s3, target)
    proxy.clear()
    done = run_module("s3_mirror", wanted)
    assert not done.failed, done.result["msg"]
    assert contents(s3, target) == contents(s3, large)
