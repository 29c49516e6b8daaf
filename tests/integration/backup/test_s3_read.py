"""Reading an object over connections that break."""

from __future__ import annotations

import os
import time

import pytest
import s3_faults
from ansible.module_utils.runbook.drivers.s3 import s3 as driver
from ansible.module_utils.runbook.errors import RunbookError
from s3_faults import FaultyS3

CONTENT = os.urandom(1_500_000)


@pytest.fixture
def broken(s3, monkeypatch):
    """A bucket with one object, and a proxy that resets each connection after 150,000 bytes of it."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    bucket = s3.bucket()
    s3.client().put_object(Bucket=bucket, Key="long", Body=CONTENT)
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(s3_faults.reset(method="GET", path="long", at_bytes=150_000, times=0))
        params = dict.fromkeys(driver.argument_spec()) | s3.options(bucket)
        yield driver.Store.from_params(params | {"endpoint_url": proxy.endpoint_url})


def test_who_gets_on_is_not_given_up(broken, monkeypatch):
    """A long object may break more often than the number of attempts, if it gets further each time."""
    monkeypatch.setattr(driver, "STEADY_BYTES", 50_000)
    with broken.open("long") as body:
        assert b"".join(iter(lambda: body.read(20_000), b"")) == CONTENT


def test_who_does_not_get_on_is_given_up(broken):
    with broken.open("long") as body, pytest.raises(RunbookError, match="failed 6 times"):
        body.read()  # in pieces that are longer than a connection lasts
