"""log_find: lines out of the archive, into a file, and no more than were asked for."""

from __future__ import annotations

import stat
from datetime import timedelta

import pytest
from log_archives import BEGIN, Place, lines


@pytest.fixture(scope="module")
def place(tmp_path_factory, s3) -> Place:
    """Two files of one stream, in the archive."""
    made = Place.make(tmp_path_factory.mktemp("logs"), s3)
    made.rotated(lines(600))
    trace = b"2026-06-02T12:00:00Z ERROR boom\n    at handler (app.js:3)\n2026-06-02T12:00:01Z INFO fine\n"
    made.rotated(trace, number=1)
    assert not made.archive().failed
    return made


def span(begin_s: int, end_s: int) -> dict[str, str]:
    """From so many seconds after the first line until so many."""
    return {name: (BEGIN + timedelta(seconds=at)).isoformat() for name, at in (("since", begin_s), ("until", end_s))}


def test_lines_between_two_times_that_match(place, tmp_path):
    dest = tmp_path / "found"
    planned = place.find(check=True, dest=str(dest), **span(60, 120))
    assert ([each["seq"] for each in planned.result["archives_read"]], dest.exists()) == ([1], False)
    done = place.find(dest=str(dest), pattern=r"number=\d*5$", **span(60, 120))
    assert (done.failed, done.result["found_lines"]) == (False, 6), done.result
    expected = [line for line in lines(600).splitlines(keepends=True)[60:120] if line.rstrip().endswith(b"5")]
    assert dest.read_bytes() == b"".join(expected)
    assert stat.S_IMODE(dest.stat().st_mode) == 0o600
    assert "INFO" not in str(done.result)


def test_a_line_without_a_time_belongs_to_the_one_before(place, tmp_path):
    dest = tmp_path / "found"
    done = place.find(dest=str(dest), pattern="at handler", since="2026-06-02T12:00:00Z", until="2026-06-02T12:00:01Z")
    assert (done.result["found_lines"], dest.read_bytes()) == (1, b"    at handler (app.js:3)\n")


def test_more_lines_than_asked_for_are_refused_and_nothing_is_found_is_no_file(place, tmp_path):
    dest = tmp_path / "found"
    done = place.find(dest=str(dest), max_lines=10, **span(0, 600))
    assert (done.failed, done.result["found_lines"], dest.exists()) == (True, 11, False)
    assert "more than 10 lines match" in done.result["msg"]
    done = place.find(dest=str(dest), pattern="nobody wrote this")
    assert (done.failed, done.result["found_lines"], dest.exists()) == (False, 0, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"since": "2026-06-01T12:00:00"}, "time zone"),
        ({"streams": ["app", "ap"]}, "has no 'ap'; it has app."),
        ({"until": "2020-01-01T00:00:00Z"}, "is not after since"),
        ({"pattern": "("}, "no regular expression"),
        ({"dest": "/etc/passwd"}, "is there already"),
        ({"dest": "/nowhere/found"}, "no folder"),
        ({"environment": "production"}, "belongs to environment"),
    ],
)
def test_bad_input_is_named(place, wrong, word):
    done = place.find(**wrong)
    assert done.failed
    assert word in done.result["msg"]


def test_a_folder_that_takes_no_file_is_named(place, tmp_path):
    done = place.find(dest=f"/proc/{tmp_path.name}")
    assert done.failed
    assert "cannot be written" in done.result["msg"]


def test_an_archive_that_was_changed_gives_no_line(tmp_path, s3):
    place = Place.make(tmp_path, s3, versioned=False)
    place.rotated(lines(10))
    assert not place.archive().failed
    client, key = s3.client(), place.keys("data")[0]
    data = client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
    client.put_object(Bucket=place.bucket, Key=key, Body=data[:-9] + b"\0" + data[-8:])
    done = place.find()
    assert (done.failed, (tmp_path / "found").exists()) == (True, False)
    assert "not as it was written" in done.result["msg"]


def test_who_only_reads_writes_nothing_into_the_state_store(tmp_path, s3):
    made = Place.make(tmp_path, s3)
    done = made.find()
    assert (done.failed, done.result["found_lines"]) == (False, 0), done.result
    assert list((tmp_path / "state").rglob("*.json")) == []
