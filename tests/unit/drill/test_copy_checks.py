"""What a drill finds wrong with a restored copy."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook.rules.drill import copy_checks

NAMED = [{"kind": "missing", "name": "up/a"}]


def test_contents_are_compared_table_by_table():
    wanted: dict[str, list[Any]] = {"public.a": [2, "7"], "public.b": [1, "9"]}
    assert copy_checks.judge_contents(wanted, {**wanted, "public.new": [1, "1"]}).status == "ok"
    assert copy_checks.judge_contents({}, wanted).status == "unknown"
    for found, said in (
        ({"public.a": [2, "7"]}, "public.b is not there"),
        ({**wanted, "public.b": [3, "9"]}, "3 rows instead of 1"),
        ({**wanted, "public.b": [1, "8"]}, "public.b has other contents"),
        ({**wanted, "public.b": [None, "invalid page"]}, "public.b cannot be read"),
    ):
        check = copy_checks.judge_contents(wanted, found)
        assert (check.status, said in check.msg) == ("breach", True), check


def test_an_older_schema_and_altered_commits_are_breaches():
    assert copy_checks.judge_schema(["a.b.c int"], ["a.b.c int", "a.b.d int"]).status == "ok"
    assert "older schema" in copy_checks.judge_schema(["a.b.c int", "a.b.d int"], ["a.b.c int"]).msg
    assert copy_checks.judge_altered(0, 5).status == "ok"
    assert copy_checks.judge_altered(0, 0).status == "unknown"
    assert copy_checks.judge_altered(1, 5).status == "breach"


def test_a_clock_that_is_off_is_said_and_changes_nothing():
    assert "agrees" in copy_checks.judge_clock(0.2).msg
    found = copy_checks.judge_clock(-7200.0)
    assert (found.status, "7,200 s behind" in found.msg) == ("ok", True)


@pytest.mark.parametrize(
    ("found", "status", "says"),
    [
        (copy_checks.Files(rows=3), "ok", "Every row of storage.objects has its file in the second copy (3)."),
        (
            copy_checks.Files(rows=3, orphan_objects=2, named=[{"kind": "orphan", "name": "up/a"}]),
            "ok",
            "2 files have",
        ),
        (copy_checks.Files(rows=3, missing_rows=1, named=NAMED), "breach", "copy (up/a)."),
        (copy_checks.Files(rows=3, differing_rows=1), "breach", "1 row of storage.objects tell another size or ETag"),
        (copy_checks.Files(rows=3, unasked_rows={"x": 2}), "unknown", "2 rows of bucket x were not compared"),
        (copy_checks.Files(rows=3, missing_rows=1, unasked_rows={"x": 2}), "breach", "bucket x"),
    ],
)
def test_each_row_of_storage_objects_has_its_file(found, status, says):
    check = copy_checks.judge_files(found)
    assert check.status == status
    assert says in check.msg


def test_files_that_nobody_asked_about_are_said_to_be_so():
    columns = ["storage.objects.name text"]
    assert "No file storage is named" in copy_checks.files_not_asked("", [], columns)
    assert "No file storage is named" in copy_checks.files_not_asked("copies", [], columns)
    assert "has no storage.objects" in copy_checks.files_not_asked("copies", ["up"], ["public.messages.id bigint"])
    assert copy_checks.files_not_asked("copies", ["up"], columns) == ""
    assert copy_checks.files_not_asked("copies", ["up"], None) == "", "an unreachable database tells nothing"
