"""log_archive: from a rotated file into the bucket and back, and only then off the host."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from log_archives import BEGIN, CLASSES, Place, lines


@pytest.fixture
def place(tmp_path, s3) -> Place:
    """Logs and a bucket."""
    return Place.make(tmp_path, s3)


def test_a_rotated_file_is_archived_read_back_and_stays_hot(place):
    path = place.rotated(lines(1000))
    planned = place.archive(check=True)
    assert (planned.failed, planned.result["changed"], place.keys("chain"), place.keys("data")) == (False, True, [], [])
    assert planned.result["content_bytes"] == path.stat().st_size
    done = place.archive()
    assert (done.failed, done.result["status"], done.result["changed"]) == (False, "ok", True), done.result
    assert (done.result["archives"], done.result["lines"], done.result["deleted_files"]) == (1, 1000, 0)
    assert (path.read_bytes(), place.archived()) == (lines(1000), lines(1000))
    content = place.links()[0]["content"]
    assert content["first_at"] == BEGIN.isoformat()
    assert content["last_at"] == (BEGIN + timedelta(minutes=17)).isoformat()
    again = place.archive()
    assert (again.failed, again.result["changed"], len(place.keys("chain"))) == (False, False, 1)


def test_a_file_leaves_its_host_when_its_time_is_over_and_every_byte_is_archived(place):
    old = place.rotated(lines(50), days=40)
    young = place.rotated(lines(50, word="POST /"), days=3, number=1)
    planned = place.archive(check=True)
    assert planned.result["deleted"] == [str(old)]
    assert str(old) in planned.result["diff"]["prepared"]
    assert old.exists()
    done = place.archive()
    assert (done.failed, done.result["deleted"], old.exists(), young.exists()) == (False, [str(old)], False, True)
    assert place.archived() == lines(50) + lines(50, word="POST /")


def test_an_unknown_class_is_archived_and_never_deleted(place):
    path = place.rotated(lines(5), days=4000)
    done = place.archive(**place.files("strange"))
    assert (done.failed, done.result["status"], done.result["archives"]) == (True, "unknown", 1)
    assert "no class 'strange'" in done.result["msg"]
    assert path.exists()


def test_a_writer_that_keeps_its_old_file_open_loses_no_line(place):
    path = place.rotated(b"")
    with path.open("ab", buffering=0) as writer:
        writer.write(lines(10) + b"2026-06-01T12:01:00Z INFO half a l")
        os.utime(path, (0, datetime.now(UTC).timestamp() - 40 * 86_400))
        done = place.archive()
        assert (done.failed, done.result["status"]) == (True, "breach")
        assert "postrotate" in done.result["msg"]
        assert (place.archived(), path.exists()) == (lines(10), True)
        writer.write(b"ine\n")
    os.utime(path, (0, datetime.now(UTC).timestamp() - 40 * 86_400))
    done = place.archive()
    assert (done.failed, done.result["deleted"]) == (False, [str(path)])
    assert place.archived() == lines(10) + b"2026-06-01T12:01:00Z INFO half a line\n"


def test_a_file_that_changed_after_it_was_archived_is_not_deleted(place):
    path = place.rotated(lines(10), days=1)
    assert not place.archive().failed
    path.write_bytes(lines(10, word="PUT /"))
    os.utime(path, (0, datetime.now(UTC).timestamp() - 40 * 86_400))
    done = place.archive()
    assert (done.failed, done.result["status"], path.exists()) == (True, "breach", True)
    assert "not what was archived" in done.result["msg"]


def test_a_file_stays_where_its_archive_is_gone_from_the_bucket(place):
    path = place.rotated(lines(10), days=1)
    assert not place.archive().failed
    content = place.links()[0]["content"]
    place.s3.client().delete_object(Bucket=place.bucket, Key=content["key"], VersionId=content["version_id"])
    os.utime(path, (0, datetime.now(UTC).timestamp() - 40 * 86_400))
    done = place.archive()
    assert (done.failed, path.exists()) == (True, True)
    assert "gone from the bucket" in done.result["msg"]


def test_a_large_file_is_cut_between_lines_and_one_without_a_last_newline_is_whole(place):
    content = lines(1000) + b"2026-06-01T13:00:00Z the last line"
    path = place.rotated(content, days=40)
    done = place.archive(max_archive_bytes=10_000)
    assert (done.failed, path.exists()) == (False, False), done.result
    assert done.result["lines"] == 1001
    assert place.archived() == content
    ends = [link["content"]["source"]["end"] for link in place.links()]
    assert len(ends) == 5
    assert all(content[end - 1 : end] == b"\n" for end in ends[:-1])


def test_what_logrotate_did_not_name_and_links_are_left_alone(place):
    (place.folder / "log/app.log-notes").write_bytes(b"x\n")
    (place.folder / "log/app.log").write_bytes(b"now\n")
    (place.folder / "log/app.log-20260601-1780000001").symlink_to("/etc/passwd")
    done = place.archive()
    assert (done.failed, done.result["changed"], place.keys("data")) == (False, False, [])


def test_bad_options_are_named_before_anything_is_done(place):
    for wrong, word in (
        ({"classes": {"audit": {"hot_days": 30, "archive_days": 365}}}, "shorter_because"),
        ({"classes": {"x": {"hot_days": 30, "archive_days": 5}}}, "raise archive_days"),
        ({"seal_keys": ["short"]}, "openssl rand"),
        ({"files": [{"name": "app", "class": "x", "paths": ["relative"]}]}, "'relative'"),
        ({"ssh": "-oProxyCommand=x"}, "user@host"),
        ({"archive_host": "../x"}, "is no name"),
    ):
        done = place.archive(**wrong)
        assert done.failed
        assert word in done.result["msg"]
    assert place.keys("chain") == []
    assert CLASSES["audit"]["archive_days"] == 2192
