"""The only code that touches boto3."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from ansible.module_utils.runbook.errors import RunbookError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator


def connect(*, endpoint_url: str | None, region: str, access_key: str | None, secret_key: str | None) -> Any:
    """A client of the S3 API at ``endpoint_url``, or at AWS without one.

    Without keys boto3 looks for credentials as it always does.
    """
    loopback = endpoint_url is not None and urlsplit(endpoint_url).hostname in ("127.0.0.1", "localhost", "::1")
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"max_attempts": 3, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        # A proxy of the environment is not meant for this machine itself.
        proxies={} if loopback else None,
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn boto3's errors into one sentence that begins with ``what`` could not be done.

    :raises RunbookError: boto3 failed in the block
    """
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        raise RunbookError(
            f"{what} failed: {details.get('Code', '?')}, {details.get('Message', 'no message')}."
        ) from None
    except BotoCoreError as error:
        raise RunbookError(f"{what} failed: {error}") from None


def has_versioned_bucket(client: Any, bucket: str) -> bool:
    """Whether ``bucket`` is there and keeps versions."""
    try:
        return bool(client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchBucket":
            return False
        raise


def make_versioned_bucket(client: Any, bucket: str, region: str) -> None:
    """Make ``bucket`` if it is missing, and turn versioning on."""
    # us-east-1 is the one region that S3 refuses to be told.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client.create_bucket(Bucket=bucket, **where)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
