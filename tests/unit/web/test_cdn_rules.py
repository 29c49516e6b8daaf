"""Hit rates by class of path, with a least number of requests."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.web import cdn

CLASSES = cdn.classes(
    "classes",
    [
        {"name": "assets", "pattern": r"^/assets/", "min_hit_rate": 0.9},
        {"name": "pages", "pattern": r"^/(?!api/)", "min_hit_rate": 0.5},
    ],
)


def judged(*rows: tuple[str, str, int], min_requests=10):
    found, unknown = cdn.judge(cdn.sort(rows, CLASSES[:1]), CLASSES[:1], source="log", min_requests=min_requests)
    return [each.id for each in found], [(each.kind, each.fixable) for each in unknown]


def test_a_rate_at_the_least_is_ok_and_one_below_it_names_what_missed():
    assert judged(("/assets/a.js", "HIT", 90), ("/assets/b.js", "MISS", 10)) == ([], [])
    assert judged(("/assets/a.js", "HIT", 89), ("/assets/b.js", "MISS", 11)) == (["hit_rate:assets"], [])


def test_too_few_requests_are_unknown_and_not_bad():
    rows = [("/assets/a.js", "MISS", 9), ("/", "HIT", 90)]
    found, unknown = cdn.judge(cdn.sort(rows, CLASSES), CLASSES, source="log", min_requests=10)
    assert (found, [(each.kind, each.fixable) for each in unknown]) == ([], [("hit_rate:assets", False)])
    assert judged() == ([], [("hit_rate:assets", True)])


def test_where_no_class_could_be_judged_the_result_is_unknown():
    assert judged(("/assets/a.js", "MISS", 9)) == ([], [("hit_rate:assets", False), ("hit_rate", True)])


def test_what_a_log_says_of_people_is_in_no_result():
    rows = [("/patients/jane-doe", "MISS", 90), ("/", "HIT", 10), ("/", "jane@example.com", 5)]
    seen = cdn.sort(rows, CLASSES)
    found, _ = cdn.judge(seen, CLASSES[1:], source="log", min_requests=10)
    assert found[0].id == "hit_rate:pages"
    assert "jane" not in f"{found} {seen}".lower()


def test_a_rate_of_the_few_whose_status_is_known_is_unknown():
    assert judged(("/assets/a.js", "HIT", 50), ("/assets/b.js", "-", 51)) == ([], [("hit_rate:assets", True)])
    assert judged(("/assets/a.js", "HIT", 50), ("/assets/b.js", "-", 50)) == ([], [])


def test_the_first_class_has_a_path_and_what_no_class_has_is_not_counted():
    seen = cdn.sort([("/assets/a", "hit", 1), ("/", "STALE", 2), ("/api/x", "MISS", 9), ("/", "-", 5)], CLASSES)
    assert (seen["assets"].hits, seen["pages"].hits, seen["pages"].requests) == (1, 2, 2)


def test_lines_of_nginx_are_read():
    line = (
        '10.0.0.1 - - [29/Nov/2026:14:40:38 +0000] "GET /assets/a.js?v=1 HTTP/1.1" 200 587 "-" "Mozilla/5.0 (X11)" HIT'
    )
    found = re.search(cdn.LINE, line)
    assert found is not None
    assert (found["path"], found["status"], found["bytes"], found["cache"]) == ("/assets/a.js?v=1", "200", "587", "HIT")


def test_vercels_rows_are_read_and_another_answer_is_unknown():
    row = {"request_path": "/", "cache_result": "PRERENDER", "vercel_request_count_sum": 7}
    assert cdn.of_vercel({"summary": [row]}) == [("/", "PRERENDER", 7)]
    answers: tuple[object, ...] = ({}, {"summary": [{"request_path": "/"}]}, [])
    for answer in answers:
        with pytest.raises(RunbookError) as error:
            cdn.of_vercel(answer)
        assert error.value.status == "unknown"


def test_bad_classes_and_patterns_are_refused():
    one = {"name": "a", "pattern": ".", "min_hit_rate": 0.5}
    for given, said in (
        ([one, one], "a is there twice"),
        ([one | {"min_hit_rate": 90}], "min_hit_rate of a is 90"),
        ([one | {"pattern": "("}], "pattern of a is no regular expression"),
    ):
        with pytest.raises(RunbookError, match=said):
            cdn.classes("classes", given)
    with pytest.raises(RunbookError, match="it has no group cache"):
        cdn.line_pattern("log_pattern", "(?P<path>.)")
