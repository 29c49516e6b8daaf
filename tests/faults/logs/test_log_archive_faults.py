"""log_archive, stopped after each request and at random moments: no line is lost, and none is doubled."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from conftest import S3, module_process
from log_archives import Place, lines
from s3_faults import FaultyS3, expired_token, flip, lose_answer, reset

CONTENT = [lines(400, word=word) for word in ("GET /", "PUT /", "POST /")]


@pytest.fixture
def place(tmp_path, s3: S3) -> Place:
    """Three files whose time is over, one of them large enough for two archives."""
    made = Place.make(tmp_path, s3)
    for number, content in enumerate(CONTENT):
        made.rotated(content, number=number, days=40 - number)
    return made


def whole(place: Place) -> None:
    """All lines are once in the archive, and no more on the host."""
    assert place.archived() == b"".join(CONTENT)
    assert list((place.folder / "log").iterdir()) == []
    found = place.verify()
    assert (found.failed, found.result["status"]) == (False, "ok"), found.result


def test_stopped_after_each_request_nothing_is_lost_or_doubled(place, s3):
    failed = 0
    with FaultyS3(s3.endpoint_url) as proxy:
        for after in range(0, 200, 3):
            proxy.clear()
            proxy.add(expired_token(after=after))
            done = place.archive(endpoint_url=proxy.endpoint_url, max_archive_bytes=16_384)
            # Whatever is on the host no more is in the archive.
            there = b"".join(path.read_bytes() for path in sorted((place.folder / "log").iterdir()))
            assert b"".join(CONTENT).removesuffix(there) in place.archived()
            if not done.failed:
                break
            failed += 1
    assert failed > 5
    whole(place)


@pytest.mark.parametrize(
    "fault",
    [
        lose_answer(method="PUT", path="/chain/"),
        flip(path="/data/", method="GET", at_bytes=200, times=0),
        reset(path="/data/", method="PUT", upload=True, at_bytes=100, times=0),
    ],
    ids=["answer lost", "damaged on its way back", "upload cut"],
)
def test_a_bad_transfer_deletes_nothing_and_the_next_run_goes_on(place, s3, fault):
    with FaultyS3(s3.endpoint_url) as proxy:
        proxy.add(fault)
        done = place.archive(endpoint_url=proxy.endpoint_url)
        assert proxy.hits
    if done.failed:
        assert len(list((place.folder / "log").iterdir())) == 3
    assert not place.archive().failed
    whole(place)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(place, kills):
    for _kill in range(kills):
        process = module_process("log_archive", place.options() | place.files() | {"max_archive_bytes": 4096})
        time.sleep(random.uniform(0.3, 3))  # noqa: S311 - any moment does
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not place.archive().failed
    whole(place)


def test_two_at_once_archive_each_line_once(place):
    options = place.options() | place.files()
    both = [module_process("log_archive", options | {"max_archive_bytes": 4096}) for _ in range(2)]
    for process in both:
        process.communicate()
    assert not place.archive().failed
    whole(place)
