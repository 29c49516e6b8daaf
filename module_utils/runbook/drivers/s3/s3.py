"""The only code that touches boto3: how a bucket is reached, and how objects are listed, read and written.

Every request carries and checks a checksum (boto3's default), is retried with backoff and jitter where S3 asks for it,
and ends in one sentence with its fix where it fails.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import urllib3.exceptions
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.target import Target
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.loaders import Loader, create_loader
from s3transfer.manager import TransferConfig, TransferManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from typing import Protocol

    class Readable(Protocol):
        """What can be uploaded."""

        def read(self, size: int = -1, /) -> bytes:
            """At most ``size`` bytes; none at the end."""


#: What S3 answers where an object is there that must not be, or somebody else writes it this moment.
TAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
#: Attempts of one request, the first included.
MAX_ATTEMPTS = 5
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
#: A call that got no answer at all is not repeated once it has lasted so long, in seconds. With its last attempt it
#: ends READ_TIMEOUT_S later at most.
SILENCE_S = 30
#: A part of a multipart upload, in bytes: 10,000 of them are the largest object that can be made.
PART_BYTES = 8 << 20
MAX_STREAM_BYTES = 10_000 * PART_BYTES
#: Parts of one upload that wait in memory for their turn.
_PARTS_IN_MEMORY = 3
#: How often an object's body is asked for again, from where it broke off.
_RESUMES = 5
#: After so many bytes without a break the count starts over.
STEADY_BYTES = 64 << 20

#: The tag that a bucket must carry before anything is written to it.
ENVIRONMENT_TAG = "runbook-environment"


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options of every module that talks to S3; documented in ``doc_fragments/runbook_s3.py``."""
    return {
        "bucket": {"type": "str", "required": True},
        "region": {"type": "str"},
        "endpoint_url": {"type": "str"},
        "profile": {"type": "str"},
        "access_key": {"type": "str", "no_log": False},
        "secret_key": {"type": "str", "no_log": True},
        "session_token": {"type": "str", "no_log": True},
        "aws_ca_bundle": {"type": "path"},
    }


def connect(
    *,
    endpoint_url: str | None,
    region: str | None,
    access_key: str | None,
    secret_key: str | None,
    session_token: str | None = None,
    profile: str | None = None,
    aws_ca_bundle: str | None = None,
    connections: int = 10,
    answer_s: int | None = None,
) -> Any:
    """A client of the S3 API at ``endpoint_url``, or at AWS without one.

    Without keys and profile boto3 looks for credentials as it always does.

    :param connections: most requests at once
    :param answer_s: how long to wait for a connection and for an answer, each; the usual times where it is None
    :raises RunbookError: the profile is not there, no region is known, the address cannot be used
    """
    loopback = endpoint_url is not None and urlsplit(endpoint_url).hostname in ("127.0.0.1", "localhost", "::1")
    config = Config(
        connect_timeout=answer_s or CONNECT_TIMEOUT_S,
        read_timeout=answer_s or READ_TIMEOUT_S,
        retries={"total_max_attempts": MAX_ATTEMPTS, "mode": "standard"},
        s3={
            "addressing_style": "path" if endpoint_url else "auto",
            # As over TLS, where nobody can change it on its way: the body's checksum is enough.
            "payload_signing_enabled": False if loopback else None,
        },
        max_pool_connections=connections,
        tcp_keepalive=True,
        # A proxy of the environment is not meant for this machine itself.
        proxies={} if loopback else None,
    )
    try:
        session = botocore.session.get_session()
        session.register_component("data_loader", _descriptions())
        client = boto3.Session(profile_name=profile, botocore_session=session).client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=session_token,
            verify=aws_ca_bundle,
            config=config,
        )
        _bound(client)
        if endpoint_url:
            client.meta.events.register("before-call.s3", _checksum_in_header)
        return client
    except ProfileNotFound:
        raise RunbookError(f"profile: there is no {profile!r} in the AWS configuration; check its name.") from None
    except NoRegionError:
        raise RunbookError("region: none is set; name the bucket's region.") from None
    except ValueError:
        raise RunbookError(
            f"endpoint_url: {endpoint_url!r} is no address; write it as https://host or http://host:port."
        ) from None


@cache
def _descriptions() -> Loader:
    """AWS's descriptions of its services; to read them takes ten times as long as all else about a client."""
    return create_loader()


def _bound(client: Any) -> None:
    """End a call that nobody answers: boto3 bounds each attempt, not the whole."""

    def begin(params: dict[str, Any], **_more: object) -> None:
        params["context"]["runbook_begun"] = time.monotonic()

    def give_up(request_dict: dict[str, Any], caught_exception: object = None, **_more: object) -> bool | None:
        begun = request_dict["context"].get("runbook_begun", time.monotonic())
        # An answer, be it an error, is boto3's to judge.
        return False if caught_exception is not None and time.monotonic() - begun > SILENCE_S else None

    client.meta.events.register("before-call.s3", begin)
    client.meta.events.register_first("needs-retry.s3", give_up)


def _checksum_in_header(params: dict[str, Any], **_more: object) -> None:
    """Send a body's checksum before it, not behind it.

    Behind it (``aws-chunked`` with a trailer, boto3's way over TLS) only AWS surely knows it; other S3 servers answer
    with 501 or 400.
    """
    algorithm = params["context"].get("checksum", {}).get("request_algorithm")
    if isinstance(algorithm, dict) and algorithm.get("in") == "trailer":
        algorithm["in"] = "header"


def checksum(client: Any) -> dict[str, str]:
    """Parameter of an upload in parts that asks for checksums; empty where the AWS configuration switched them off."""
    wanted = client.meta.config.request_checksum_calculation == "when_supported"
    return {"ChecksumAlgorithm": "CRC32"} if wanted else {}


#: What S3 answers, and what to do about it.
_FIXES = {
    "NoSuchBucket": "there is no such bucket; check bucket, region and endpoint_url",
    "AccessDenied": "these credentials may not do that; check the policy of the user and of the bucket",
    # The answer to a HEAD has no body that would say which of the two.
    "403": "these credentials may not do that, or have expired; check the policies of user and bucket",
    "AllAccessDisabled": "the bucket is disabled; check the account",
    "InvalidAccessKeyId": "the access key is not known there; check access_key and endpoint_url",
    "SignatureDoesNotMatch": "the secret key is wrong; check secret_key",
    "ExpiredToken": "the credentials have expired; give the run credentials that outlive it, and start again",
    "ExpiredTokenException": "the credentials have expired; give the run credentials that outlive it, and start again",
    "InvalidToken": "the session token is wrong; check session_token",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "PermanentRedirect": "the bucket lies in another region; check region",
    "301": "the bucket lies in another region; check region",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; check region",
    "IllegalLocationConstraintException": "the bucket lies in another region; check region",
    "SlowDown": "the server asks for fewer requests; start again later",
    "ServiceUnavailable": "the server is overloaded; start again later",
    "503": "the server is overloaded; start again later",
    "InternalError": "the server failed; start again, and look at its state if that does not help",
    "500": "the server failed; start again, and look at its state if that does not help",
    "PreconditionFailed": "the object is there already; nothing was overwritten",
    "412": "the object is there already, or was changed meanwhile; nothing was overwritten",
    "NoSuchKey": "there is no such object",
    "NoSuchVersion": "there is no such version of the object",
    "404": "there is no such object or bucket; check bucket and region",
    "KMS.NotFoundException": "there is no such key; check kms_key_id",
    "KMS.DisabledException": "the key is disabled; check kms_key_id",
    "ObjectLockConfigurationNotFoundError": "the bucket has no object lock",
    "BadDigest": "the data was damaged on its way; start again",
    "XAmzContentSHA256Mismatch": "the data was damaged on its way; start again",
    "XAmzContentChecksumMismatch": "the data was damaged on its way; start again",
    "NotImplemented": "this S3 server does not know that; check the option, and if it is an upload, set "
    "request_checksum_calculation = when_required in the profile of the AWS configuration",
}


def code(error: ClientError) -> str:
    """S3's code of an error, such as ``NoSuchKey``."""
    return str(error.response.get("Error", {}).get("Code", "?"))


def reason(error: Exception) -> str:
    """What was found and the fix, without a dot at the end. Never a key or a signature."""
    if isinstance(error, ClientError):
        found = code(error)
        if found in _FIXES:
            # In our own words: the server's text may echo the key that it refused.
            return f"{found}, {_FIXES[found]}"
        message = " ".join(str(error.response.get("Error", {}).get("Message", "no message")).split())
        return f"{found}, {message.rstrip('.')}"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no complete credentials were found; set access_key and secret_key, or profile"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return "no server answers there; check endpoint_url, the network and the firewall"
    if isinstance(error, ReadTimeoutError):
        return "the server took the request and did not answer in time; check endpoint_url, the network and the server"
    if isinstance(error, SSLError):
        return "TLS could not be agreed on; check endpoint_url and aws_ca_bundle"
    return f"the connection broke ({type(error).__name__}); start again"


#: What says that no connection came about, or that it broke.
_BROKEN = (BotoConnectionError, HTTPClientError, IncompleteReadError, urllib3.exceptions.HTTPError)
#: What boto3 and the HTTP client below it raise.
ERRORS = (ClientError, BotoCoreError, Boto3Error, urllib3.exceptions.HTTPError)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn boto3's errors into one sentence that begins with ``what`` could not be done.

    The context of the error holds S3's code in ``s3_code``.

    :raises RunbookError: boto3 failed in the block
    """
    try:
        yield
    except ERRORS as error:
        found = code(error) if isinstance(error, ClientError) else type(error).__name__
        family = UnreachableError if _is_silent(error) else RunbookError
        raise family(f"{what} failed: {reason(error)}.", s3_code=found) from None


def _is_silent(error: Exception) -> bool:
    """Whether S3 said nothing of what was asked: no connection, or an error of its own."""
    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        return status >= 500 and status != 501
    return isinstance(error, _BROKEN) and not isinstance(error, SSLError)


@dataclass(frozen=True)
class Entry:
    """An object in a listing."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime
    version_id: str | None = None
    is_latest: bool = True
    is_delete_marker: bool = False
    storage_class: str = "STANDARD"


@dataclass(frozen=True)
class Uploaded:
    """What S3 made of an upload."""

    key: str
    version_id: str | None
    etag: str
    size_bytes: int


class Body:
    """An object's content as a stream. Where the connection breaks, it is asked for again from there.

    The version that was opened is read to the end, whatever is written meanwhile.
    """

    def __init__(self, store: Store, key: str, version_id: str | None, start: int = 0) -> None:
        self._store = store
        self._key = key
        self._version_id = version_id
        self._position = start
        self._resumes_left = _RESUMES
        self._broke_at = start
        self._etag: str | None = None
        self._body: Any = None
        self._open()
        #: Bytes of the whole object.
        self.size_bytes = self._end

    def _open(self) -> None:
        wanted: dict[str, Any] = {"Bucket": self._store.bucket, "Key": self._key}
        if self._version_id:
            wanted["VersionId"] = self._version_id
        if self._position:
            wanted["Range"] = f"bytes={self._position}-"
        if self._etag:
            wanted["IfMatch"] = self._etag
        with explained(f"Reading {self._store.url(self._key)}"):
            answer = self._store.client.get_object(**wanted)
        self._etag = answer.get("ETag")
        self._version_id = answer.get("VersionId") or self._version_id
        self._end = self._position + int(answer["ContentLength"])
        self._body = answer["Body"]

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, all that is left where it is negative; none at the end.

        :raises RunbookError: the connection broke again and again and nothing came, or the object is too short
        """
        if size < 0:
            pieces = []
            while piece := self.read(1 << 20):
                pieces.append(piece)
            return b"".join(pieces)
        while True:
            if size == 0 or self._position >= self._end:
                return b""
            try:
                # What S3's own checksum refuses is read again in the same way as what broke off.
                data: bytes = self._body.read(min(size, self._end - self._position))
            except (*ERRORS, OSError) as error:
                self._resume(error)
                continue
            if data:
                self._position += len(data)
                if self._position - self._broke_at > STEADY_BYTES:
                    # A long object outlives more breaks than a short one; only one that does not get on is given up.
                    self._resumes_left = _RESUMES
                return data
            self._resume(EOFError())

    def _resume(self, error: Exception) -> None:
        if self._resumes_left == 0:
            raise RunbookError(
                f"Reading {self._store.url(self._key)} failed {_RESUMES + 1} times: {reason(error)}."
            ) from None
        self._resumes_left -= 1
        self._broke_at = self._position
        self.close()
        time.sleep(0.2 * 2 ** (_RESUMES - self._resumes_left - 1))
        self._open()

    def close(self) -> None:
        """Close the connection."""
        if self._body is not None:
            with suppress(Exception):
                self._body.close()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Store:
    """A bucket, and what may be done with it. ``str()`` of it is safe to print: it holds no key."""

    def __init__(self, client: Any, bucket: str, *, region: str | None = None) -> None:
        self.client = client
        self.bucket = bucket
        self.region = region

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, connections: int = 10, answer_s: int | None = None) -> Store:
        """Read the bucket from a module's options.

        :param connections: most requests at once
        :param answer_s: as :func:`connect` has it
        :raises RunbookError: the bucket is empty, only one of the two keys is given, or both keys and profile are
        """
        if not params["bucket"]:
            raise RunbookError("bucket: it is empty; name the bucket.")
        if bool(params["access_key"]) != bool(params["secret_key"]):
            raise RunbookError("access_key and secret_key: only one of them is set; set both or neither.")
        if params["profile"] and params["access_key"]:
            raise RunbookError(
                "profile and access_key: both are set; set one of them. On the command line keys of the inventory are "
                "left out by -e backup_access_key= -e backup_secret_key=, beside -e backup_profile=<profile>."
            )
        options = ("region", "endpoint_url", "profile", "access_key", "secret_key", "session_token", "aws_ca_bundle")
        client = connect(
            connections=connections, answer_s=answer_s, **{option: params[option] or None for option in options}
        )
        return cls(client, params["bucket"], region=params["region"])

    def __str__(self) -> str:
        return f"s3://{self.bucket}"

    def url(self, key: str) -> str:
        """How a sentence calls an object."""
        return f"s3://{self.bucket}/{key}"

    @property
    def target(self) -> Target:
        """The bucket as preflight names it: at AWS by its name alone, elsewhere by the server's address too."""
        address = urlsplit(self.client.meta.endpoint_url)
        at_aws = str(address.hostname).endswith((".amazonaws.com", ".amazonaws.com.cn"))
        return Target("bucket", "AWS" if at_aws else f"{address.scheme}://{address.netloc}", self.bucket)

    def tags(self) -> dict[str, str]:
        """Tags of the bucket; empty where it has none."""
        try:
            found = self.client.get_bucket_tagging(Bucket=self.bucket)["TagSet"]
        except ClientError as error:
            if code(error) in ("NoSuchTagSet", "NoSuchTagSetError"):
                return {}
            with explained(f"Reading the tags of {self}"):
                raise
        except ERRORS:
            with explained(f"Reading the tags of {self}"):
                raise
        return {tag["Key"]: tag["Value"] for tag in found}

    def require_environment(self, environment: str) -> None:
        """See that the bucket is meant for this environment, by its tag ``runbook-environment``.

        :raises RunbookError: the tag is missing or says something else, or the bucket cannot be asked
        """
        found = self.tags().get(ENVIRONMENT_TAG)
        if found is None:
            raise RunbookError(
                f"bucket: {self.bucket} carries no tag {ENVIRONMENT_TAG}, so nothing is written to it; if it is meant "
                f"for {environment}, give it the tag {ENVIRONMENT_TAG}={environment}."
            )
        if found != environment:
            raise RunbookError(
                f"bucket: {self.bucket} belongs to environment {found!r} by its tag {ENVIRONMENT_TAG}, and this run is "
                f"for {environment!r}; name another bucket."
            )

    def head(self, key: str, version_id: str | None = None) -> dict[str, Any] | None:
        """S3's HeadObject answer (``ContentLength``, ``VersionId``, ``ETag`` …); None where there is no such object."""
        version = {"VersionId": version_id} if version_id else {}
        try:
            answer: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=key, **version)
        except ERRORS as error:
            if isinstance(error, ClientError) and code(error) in ("404", "NoSuchKey", "NoSuchVersion"):
                return None
            with explained(f"Asking for {self.url(key)}"):
                raise
        return answer

    def open(self, key: str, version_id: str | None = None, *, start: int = 0) -> Body:
        """An object's content as a stream that survives a broken connection.

        :param start: first byte that is wanted
        :raises RunbookError: there is no such object, or it may not be read; ``s3_code`` in the context says which
        """
        return Body(self, key, version_id, start)

    def read(self, key: str, version_id: str | None = None, *, most_bytes: int) -> bytes:
        """A small object whole.

        :raises RunbookError: it is larger than ``most_bytes``, missing, or may not be read
        """
        with self.open(key, version_id) as body:
            if body.size_bytes > most_bytes:
                raise RunbookError(
                    f"{self.url(key)} has {body.size_bytes} bytes, more than {most_bytes}; it is not what it should be."
                )
            return body.read()

    def _pages(self, operation: str, **wanted: str) -> Iterator[dict[str, Any]]:
        """The pages of a listing, all of them.

        :raises RunbookError: the server says that there is more and not where, or nothing at all; boto3 takes both for
            the end
        """
        page: dict[str, Any] = {}
        for page in self.client.get_paginator(operation).paginate(Bucket=self.bucket, **wanted):
            if "IsTruncated" not in page:
                # boto3 takes an answer that broke off before its first byte for a listing of nothing.
                raise RunbookError(
                    f"Listing {self.url(wanted['Prefix'])} failed: the answer is no listing; start again, and look at "
                    "the S3 server and the way to it."
                )
            yield page
        if page.get("IsTruncated"):
            raise RunbookError(
                f"Listing {self.url(wanted['Prefix'])} failed: the server broke its listing off and does not say how "
                "it goes on; look at the S3 server."
            )

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Objects whose key begins with ``prefix``, by key."""
        with explained(f"Listing {self.url(prefix)}"):
            for page in self._pages("list_objects_v2", Prefix=prefix):
                for each in page.get("Contents", ()):
                    yield Entry(
                        each["Key"], each["Size"], each.get("ETag", ""), each["LastModified"],
                        storage_class=each.get("StorageClass") or "STANDARD",
                    )  # fmt: skip

    def folders(self, prefix: str) -> list[str]:
        """Names of what lies one level below ``prefix`` (which ends with a slash), without slashes, in order."""
        found = []
        with explained(f"Listing {self.url(prefix)}"):
            for page in self._pages("list_objects_v2", Prefix=prefix, Delimiter="/"):
                found += [each["Prefix"][len(prefix) :].rstrip("/") for each in page.get("CommonPrefixes", ())]
        return found

    def versions(self, prefix: str) -> Iterator[Entry]:
        """Every version and delete marker of the objects whose key begins with ``prefix``."""
        with explained(f"Listing the versions of {self.url(prefix)}"):
            for page in self._pages("list_object_versions", Prefix=prefix):
                for kind in ("Versions", "DeleteMarkers"):
                    for each in page.get(kind, ()):
                        yield Entry(
                            each["Key"],
                            each.get("Size", 0),
                            each.get("ETag", ""),
                            each["LastModified"],
                            each.get("VersionId"),
                            each["IsLatest"],
                            kind == "DeleteMarkers",
                        )

    def put(
        self, key: str, data: bytes, *, encryption: Mapping[str, str] | None = None, if_absent: bool = False
    ) -> Uploaded:
        """Write a small object.

        :param encryption: as :func:`server_side_encryption` gives it
        :param if_absent: refuse where the object is there already with another content
        """
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with explained(f"Writing {self.url(key)}"):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=key, Body=data, **condition, **(encryption or {})
                )
            except ClientError as error:
                # The answer to the first attempt may have been lost, and the object may be this one.
                if code(error) not in ("PreconditionFailed", "412"):
                    raise
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
                if answer["ContentLength"] != len(data) or answer["Body"].read() != data:
                    raise
        return Uploaded(key, answer.get("VersionId"), answer.get("ETag", ""), len(data))

    def upload(self, key: str, source: Readable, *, encryption: Mapping[str, str] | None = None) -> Uploaded:
        """Write a stream of any length up to ``MAX_STREAM_BYTES``; what fails in the middle leaves no object.

        The caller compares ``size_bytes`` of the answer, which S3 gives, with what it handed over. An error that
        ``source.read`` raises comes out as it is.
        """
        config = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_request_concurrency=_PARTS_IN_MEMORY,
            max_in_memory_upload_chunks=_PARTS_IN_MEMORY, max_submission_concurrency=1,
        )  # fmt: skip
        with explained(f"Writing {self.url(key)}"):
            try:
                with TransferManager(self.client, config) as manager:
                    manager.upload(source, self.bucket, key, extra_args=dict(encryption or {})).result()
            except ClientError as error:
                # An upload that is gone may have been completed, and the answer lost: then the object is there.
                if code(error) != "NoSuchUpload" or self.head(key) is None:
                    raise
            answer = self.client.head_object(Bucket=self.bucket, Key=key)
        return Uploaded(key, answer.get("VersionId"), answer.get("ETag", ""), int(answer["ContentLength"]))

    def delete(self, entries: Iterable[Entry]) -> int:
        """Delete objects, or versions where the entries name them; how many were deleted.

        :raises RunbookError: one was refused (object lock, legal hold, no permission); the others are gone
        """
        wanted = [{"Key": each.key} | ({"VersionId": each.version_id} if each.version_id else {}) for each in entries]
        done = 0
        for first in range(0, len(wanted), 1000):
            batch = wanted[first : first + 1000]
            with explained(f"Deleting from {self}"):
                answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
            errors = answer.get("Errors", [])
            done += len(batch) - len(errors)
            if errors:
                worst = errors[0]
                raise RunbookError(
                    f"Deleting {self.url(worst.get('Key', '?'))} was refused: {worst.get('Code', '?')}, "
                    f"{_FIXES.get(worst.get('Code', ''), 'look at its lock and at the policy')}.",
                    s3_code=worst.get("Code", "?"),
                    deleted=done,
                )
        return done

    def uploads(self, prefix: str) -> list[tuple[str, str, datetime]]:
        """Multipart uploads that were started and never ended: key, upload id, when it was started."""
        found = []
        with explained(f"Listing the uploads of {self.url(prefix)}"):
            for page in self._pages("list_multipart_uploads", Prefix=prefix):
                found += [(each["Key"], each["UploadId"], each["Initiated"]) for each in page.get("Uploads", ())]
        return found

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Free the parts of an upload that was never ended; one that is gone already is no error."""
        with explained(f"Aborting an upload of {self.url(key)}"):
            try:
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if code(error) != "NoSuchUpload":
                    raise


def server_side_encryption(kind: str, kms_key_id: str | None = None) -> dict[str, str]:
    """Options ``server_side_encryption`` and ``kms_key_id`` as S3's request parameters.

    :param kind: ``AES256``, ``aws:kms`` or ``none``
    """
    if kind == "none":
        return {}
    return {"ServerSideEncryption": kind} | ({"SSEKMSKeyId": kms_key_id} if kms_key_id else {})
