"""The proxy of s3_faults.py does what it says, and nothing else."""

from __future__ import annotations

import time

import boto3
import pytest
import s3_faults
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from s3_faults import FaultyS3

BODY = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def bucket(s3):
    name = s3.bucket()
    s3.client().put_object(Bucket=name, Key="there", Body=BODY)
    return name


@pytest.fixture
def proxy(s3):
    with FaultyS3(s3.endpoint_url) as made:
        yield made


@pytest.fixture
def client(s3, proxy):
    """One attempt and no checks, so that what arrives is what the proxy sent."""
    config = Config(
        retries={"total_max_attempts": 1}, read_timeout=2, proxies={}, s3={"addressing_style": "path"},
        response_checksum_validation="when_required", request_checksum_calculation="when_required",
    )  # fmt: skip
    return boto3.client(
        "s3", endpoint_url=proxy.endpoint_url, region_name=s3.region, config=config,
        aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
    )  # fmt: skip


def read(client, bucket, key="there"):
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def keys(s3, bucket):
    return {found["Key"] for found in s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])}


def test_without_a_fault_all_goes_through(s3, proxy, bucket):
    """With checksums on, a multipart upload included."""
    checked = boto3.client(
        "s3", endpoint_url=proxy.endpoint_url, region_name=s3.region, config=Config(proxies={}),
        aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
    )  # fmt: skip
    assert read(checked, bucket) == BODY
    upload = checked.create_multipart_upload(Bucket=bucket, Key="parts/ä b", ChecksumAlgorithm="SHA256")["UploadId"]
    where = {"Bucket": bucket, "Key": "parts/ä b", "UploadId": upload}
    parts = [
        {"PartNumber": number, **{name: part[name] for name in ("ETag", "ChecksumSHA256")}}
        for number in (1, 2)
        for part in [checked.upload_part(**where, PartNumber=number, Body=BODY * 5, ChecksumAlgorithm="SHA256")]
    ]
    checked.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert checked.head_object(Bucket=bucket, Key="parts/ä b")["ContentLength"] == len(BODY) * 10
    checked.delete_object(Bucket=bucket, Key="parts/ä b")
    assert proxy.hits == 0
    # The proxy notes a request when the client has its answer already.
    wanted, end = {"GET", "POST", "PUT", "HEAD", "DELETE"}, time.monotonic() + 10
    while not wanted <= {method for method, _, _ in proxy.log} and time.monotonic() < end:
        time.sleep(0.01)
    assert wanted <= {method for method, _, _ in proxy.log}


def test_status_strikes_only_what_it_is_meant_for(client, proxy, bucket):
    proxy.add(s3_faults.status(503, "SlowDown", method="GET", path="there", after=1, times=2))
    client.head_object(Bucket=bucket, Key="there")
    assert read(client, bucket) == BODY
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown"):
            read(client, bucket)
    assert read(client, bucket) == BODY
    assert proxy.hits == 2


def test_token_expires_and_stays_expired(client, proxy, bucket):
    proxy.add(s3_faults.expired_token(after=1))
    assert read(client, bucket) == BODY
    for _ in range(3):
        with pytest.raises(ClientError, match="ExpiredToken"):
            read(client, bucket)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (s3_faults.reset(at_bytes=300_000), (ResponseStreamingError, ConnectionResetError)),
        (s3_faults.truncate(at_bytes=300_000), (IncompleteReadError, ResponseStreamingError)),
        (s3_faults.close(), ConnectionClosedError),
        (s3_faults.hang(), ReadTimeoutError),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_download_that_breaks(client, proxy, bucket, fault, error):
    proxy.add(fault)
    with pytest.raises(error):
        read(client, bucket)
    assert proxy.hits == 1
    assert read(client, bucket) == BODY


def test_download_that_lies(client, proxy, bucket):
    proxy.add(s3_faults.truncate(at_bytes=300_000, fitting=True), s3_faults.flip(at_bytes=200_000))
    assert read(client, bucket) == BODY[:300_000]
    flipped = read(client, bucket)
    assert [at for at in range(len(BODY)) if flipped[at] != BODY[at]] == [200_000]
    assert flipped[200_000] ^ BODY[200_000] == 1


def test_upload_that_breaks_leaves_no_object(s3, client, proxy, bucket):
    for fault in (s3_faults.reset(upload=True, at_bytes=300_000), s3_faults.status(500, "InternalError"),
                  s3_faults.close()):  # fmt: skip
        proxy.add(fault)
        with pytest.raises((ClientError, ConnectionClosedError, EndpointConnectionError, BotoCoreError)):
            client.put_object(Bucket=bucket, Key="broken", Body=BODY)
        assert "broken" not in keys(s3, bucket)
    assert proxy.hits == 3
    client.put_object(Bucket=bucket, Key="broken", Body=BODY)
    assert read(client, bucket, "broken") == BODY


def test_flipped_upload_is_refused_for_its_checksum(s3, client, proxy, bucket):
    proxy.add(s3_faults.flip(upload=True, at_bytes=100))
    with pytest.raises(ClientError, match=r"BadDigest|XAmzContentChecksumMismatch|XAmzContentSHA256Mismatch|checksum"):
        client.put_object(Bucket=bucket, Key="flipped", Body=BODY, ChecksumAlgorithm="SHA256")
    assert "flipped" not in keys(s3, bucket)


def test_lost_answer_means_that_the_work_was_done(s3, client, proxy, bucket):
    proxy.add(s3_faults.lose_answer(method="PUT"))
    with pytest.raises(BotoCoreError):
        client.put_object(Bucket=bucket, Key="once", Body=b"x", IfNoneMatch="*")
    assert "once" in keys(s3, bucket)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="once", Body=b"x", IfNoneMatch="*")


def test_slow_body_arrives_whole(client, proxy, bucket):
    proxy.add(s3_faults.slow(bytes_per_s=4_000_000))
    assert read(client, bucket) == BODY
    assert proxy.hits == 1
