"""What a mirror decides."""

from __future__ import annotations

import itertools

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import mirror
from ansible.module_utils.runbook.rules.backup.mirror import MIB, Entry, Plan, Seen
from ansible.module_utils.runbook.rules.status import Status, worst

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("copy", "verdict"),
    [
        (None, "copy"),
        (Entry("a", 5, MD5), "same"),
        (Entry("a", 6, MD5), "copy"),
        (Entry("a", 5, MD5[::-1]), "ask"),
        (Entry("a", 5, f"{MD5}-1"), "ask"),
    ],
)
def test_a_copy_is_known_by_size_and_etag(copy: Entry | None, verdict: str) -> None:
    assert mirror.compare(Entry("a", 5, MD5), copy) == verdict


@pytest.mark.parametrize(
    ("size", "etag", "told", "part"),
    [
        (20 * MIB, MD5, None, 16 * MIB),
        (20 * MIB, f"{MD5}-4", 5 * MIB, 5 * MIB),
        (20 * MIB, f"{MD5}-4", None, 5 * MIB),
        (20 * MIB + 1, f"{MD5}-4", None, 6 * MIB),
        (20 * MIB, f"{MD5}-3", 7 * MIB, 7 * MIB),
        # What was told does not fit, so a usual size is taken.
        (20 * MIB, f"{MD5}-3", 20 * MIB, 8 * MIB),
        # One part may be smaller than S3's least, because it is the last one.
        (3 * MIB, f"{MD5}-1", 3 * MIB, 3 * MIB),
        # Parts too large for memory, and a number of parts that fits no usual size.
        (200 * MIB, f"{MD5}-2", 100 * MIB, 16 * MIB),
        (5 * MIB, f"{MD5}-9", None, 16 * MIB),
        (10_000 * 16 * MIB + 1, MD5, None, 16 * MIB + 1),
    ],
)
def test_an_object_is_cut_as_it_was_uploaded_where_that_can_be(
    size: int, etag: str, told: int | None, part: int
) -> None:
    entry = Entry("a", size, etag)
    assert entry.part_bytes(told) == part
    spans = entry.ranges(told)
    assert len(spans) <= mirror.MAX_PARTS
    assert sum(last - first + 1 for first, last in spans) == size
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(spans))


def test_small_objects_go_in_one_piece_unless_they_came_in_parts() -> None:
    assert Entry("a", 16 * MIB, MD5).whole
    assert not Entry("a", 16 * MIB + 1, MD5).whole
    assert not Entry("a", 5, f"{MD5}-1").whole
    assert Entry("a", 0, f"{MD5}-1").whole


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        (Plan(source_objects=11, copy_objects=11), "max_objects: 11"),
        (Plan(source_objects=1, copy_objects=1, copy_bytes=101), "max_bytes: 101"),
        (Plan(source_objects=1, extra_objects=3, delete_objects=3), "max_delete: 3"),
        (Plan(source_objects=1, extra_objects=2, delete_objects=2), "max_delete_percent: 2 of 3"),
        (Plan(source_objects=0, extra_objects=1), "source_bucket"),
    ],
)
def test_a_plan_beyond_its_caps_is_refused(plan: Plan, word: str) -> None:
    with pytest.raises(RunbookError, match=word):
        mirror.refuse(plan, max_objects=10, max_bytes=100, max_delete=2, max_delete_percent=50)


def test_a_plan_at_its_caps_and_an_empty_one_pass() -> None:
    full = Plan(source_objects=10, copy_objects=10, copy_bytes=100, extra_objects=2, delete_objects=2)
    for plan in (full, Plan()):
        mirror.refuse(plan, max_objects=10, max_bytes=100, max_delete=2, max_delete_percent=50)
    mirror.refuse(full, max_objects=None, max_bytes=None, max_delete=2, max_delete_percent=50)


@pytest.mark.parametrize(
    ("source_prefix", "bucket", "prefix", "refused"),
    [
        ("", "files", "", True),
        ("", "files", "copies/", True),
        ("live/a/", "files", "", True),
        ("live/a/", "files", "live/", True),
        ("live/", "files", "copies/", False),
        ("live/", "files", "live/", True),
        ("", "other", "", False),
    ],
)
def test_a_mirror_does_not_find_its_own_copies(source_prefix: str, bucket: str, prefix: str, refused: bool) -> None:
    places = {"source_bucket": "files", "source_prefix": source_prefix, "bucket": bucket, "prefix": prefix}
    mirror.refuse_overlap(same_endpoint=False, **places)
    if refused:
        with pytest.raises(RunbookError, match="copies"):
            mirror.refuse_overlap(same_endpoint=True, **places)
    else:
        mirror.refuse_overlap(same_endpoint=True, **places)


def test_a_prefix_is_a_folder() -> None:
    with pytest.raises(RunbookError, match="prefix: 'copy'"):
        mirror.refuse_overlap(same_endpoint=False, source_bucket="a", source_prefix="", bucket="b", prefix="copy")


@pytest.mark.parametrize(("state", "word"), [("off", "switch versioning on"), ("unknown", "does not tell")])
def test_a_destination_without_versions_is_refused(state: mirror.State, word: str) -> None:
    mirror.require_versions("files", "on")
    with pytest.raises(RunbookError, match=word):
        mirror.require_versions("files", state)


@pytest.mark.parametrize(
    ("seen", "expected", "status"),
    [
        (Seen("off", "off"), False, "ok"),
        (Seen("unknown", "unknown"), False, "ok"),
        (Seen("on", "on"), True, "ok"),
        (Seen("on", "unknown"), True, "unknown"),
        (Seen(unread="No server answers."), False, "unknown"),
        (Seen("unknown", "off"), True, "breach"),
        (Seen(rows=3, missing_rows=0, orphan_objects=4, differing_rows=0), False, "ok"),
        (Seen(rows=3, missing_rows=1, recoverable_rows=1, differing_rows=0), False, "breach"),
        (Seen(rows=3, missing_rows=0, differing_rows=2), False, "breach"),
    ],
)
def test_what_cannot_be_known_is_never_green(seen: Seen, expected: bool, status: str) -> None:
    checks = mirror.judge(seen, expect_versioning=expected, expect_replication=expected)
    assert worst([Status.OK, *(check.status for check in checks)]) == status
    assert all(check.msg for check in checks)


def test_a_key_may_have_1024_bytes_with_its_prefix() -> None:
    assert not mirror.too_long("ä" * 510, "abc/")
    assert mirror.too_long("ä" * 510, "abcd/")


def test_names_of_files_are_hidden_unless_they_are_asked_for() -> None:
    assert mirror.name_of("jane.png", show=True) == "jane.png"
    hidden = mirror.name_of("jane.png", show=False)
    assert "jane" not in hidden
    assert hidden == mirror.name_of("jane.png", show=False) != mirror.name_of("john.png", show=False)


@pytest.mark.parametrize(
    ("size", "etag", "row"),
    [
        ("12", f'"{MD5}"', (12, MD5)),
        ("12", f'W/"{MD5}"', (12, MD5)),
        (None, None, (None, None)),
        ("1.5", "", (None, None)),
        ("-1", None, (None, None)),
    ],
)
def test_a_row_says_what_it_can(size: str | None, etag: str | None, row: tuple[int | None, str | None]) -> None:
    found = mirror.Row.of("a", size, etag)
    assert (found.size_bytes, found.etag) == row


def test_what_is_undone_says_why_and_how_it_goes_on() -> None:
    figures = {"remaining_objects": 3, "failed_objects": 2, "errors": {"AccessDenied": 1, "SlowDown": 1}}
    failed = mirror.judge_copied(figures, hopeless="", late=False, deadline_s=9).msg
    assert "2 objects" in failed
    assert "AccessDenied 1: let the credentials read the source and write the destination; SlowDown 1)" in failed
    assert "3 objects still to copy" in failed
    expired = mirror.judge_copied(figures, hopeless="ExpiredToken", late=False, deadline_s=9).msg
    assert "credentials that outlive it" in expired
    late = mirror.judge_copied(figures, hopeless="", late=True, deadline_s=9)
    assert (late.status, "deadline_s, 9" in late.msg) == ("breach", True)
    done = mirror.judge_copied(figures | {"remaining_objects": 0}, hopeless="", late=True, deadline_s=9)
    assert done.status == "ok"
