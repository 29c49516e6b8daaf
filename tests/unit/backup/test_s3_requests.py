"""What goes to an S3 server, and when a call is given up: no server is needed for that."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from botocore.awsrequest import AWSResponse

if TYPE_CHECKING:
    from collections.abc import Iterator


def client(endpoint_url: str | None) -> Any:
    return s3.connect(endpoint_url=endpoint_url, region="us-east-1", access_key="a", secret_key="b")


class Raw(io.BytesIO):
    """As urllib3 hands it over."""

    def stream(self, **_more: object) -> Iterator[bytes]:
        yield self.getvalue()


def sent(made: Any) -> list[dict[str, str]]:
    """Headers of all that is sent from now on; everything is answered with yes."""
    seen: list[dict[str, str]] = []

    def answer(request: Any, **_more: object) -> AWSResponse:
        headers = {name.lower(): value.decode() if isinstance(value, bytes) else value
                   for name, value in request.headers.items()}  # fmt: skip
        seen.append(headers)
        if headers.get("content-encoding") == "aws-chunked" or "x-amz-trailer" in headers:
            body = b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>"
            return AWSResponse(request.url, 501, {}, Raw(body))
        return AWSResponse(request.url, 200, {"ETag": "e"}, Raw(b""))

    made.meta.events.register("before-send.s3", answer)
    return seen


def upload(made: Any) -> None:
    made.put_object(Bucket="b", Key="k", Body=b"body")
    made.upload_part(Bucket="b", Key="k", Body=io.BytesIO(b"part"), PartNumber=1, UploadId="u", **s3.checksum(made))


def test_a_server_that_is_not_aws_gets_the_checksum_before_the_body():
    """Over TLS boto3 would send it behind the body, which this server answers with 501."""
    made = client("https://s3.example.com")
    seen = sent(made)
    upload(made)
    assert [("x-amz-checksum-crc32" in each, each.get("content-encoding")) for each in seen] == [(True, None)] * 2


def test_aws_gets_it_behind_the_body():
    made = client(None)
    seen = sent(made)
    with pytest.raises(made.exceptions.ClientError):
        upload(made)
    assert seen[0]["x-amz-trailer"] == "x-amz-checksum-crc32"


def test_checksums_that_the_configuration_switched_off_are_not_asked_for(monkeypatch):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    made = client("https://s3.example.com")
    assert s3.checksum(made) == {}
    seen = sent(made)
    upload(made)
    assert not any("x-amz-checksum-crc32" in each for each in seen)


@pytest.fixture
def hole() -> Iterator[int]:
    """A port that takes connections and never answers; nobody accepts them."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield int(listening.getsockname()[1])


def test_a_call_to_a_server_that_is_silent_is_bounded_as_a_whole(hole, monkeypatch):
    monkeypatch.setattr(s3, "READ_TIMEOUT_S", 1)
    monkeypatch.setattr(s3, "SILENCE_S", 0)
    monkeypatch.setattr(s3, "MAX_ATTEMPTS", 2)
    made = client(f"http://127.0.0.1:{hole}")
    attempts: list[str] = []
    made.meta.events.register("before-send.s3", lambda request, **_: attempts.append(request.url))
    with pytest.raises(RunbookError, match=r"took the request and did not answer in time; check endpoint_url"):
        s3.Store(made, "b").tags()
    assert len(attempts) == 1
    # What passes is still tried again.
    monkeypatch.setattr(s3, "SILENCE_S", 60)
    with pytest.raises(RunbookError):
        s3.Store(made, "b").tags()
    assert len(attempts) == 1 + s3.MAX_ATTEMPTS
