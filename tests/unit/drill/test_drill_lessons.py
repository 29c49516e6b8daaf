"""The file of lessons after a drill."""

from __future__ import annotations

import doctest
import json
from datetime import date

import drill_samples as samples
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import documents, figures, lessons, verdict

TODAY = date(2026, 3, 1)


def test_doctests():
    for module in (figures, lessons, verdict):
        outcome = doctest.testmod(module)
        assert outcome.attempted
        assert outcome.failed == 0


def test_what_is_to_be_filled_in_is_asked_for():
    advice = ['Say "hello" to C:\\temp\nand \x07mend it.', "Second."]
    text = lessons.template(samples.drill(advice=advice))
    found = lessons.parse(text, source="l.toml")
    assert [lesson.text for lesson in found] == advice
    assert lessons.missing(found, today=TODAY) == ["lesson 1: owner, due_date", "lesson 2: owner, due_date"]
    assert lessons.owed(text, source="l.toml", today=TODAY) == [
        "l.toml: lesson 1: owner, due_date; lesson 2: owner, due_date"
    ]
    filled = text.replace('owner = ""', 'owner = "Kim"').replace('due_date = ""', "due_date = 2026-03-01")
    assert lessons.missing(lessons.parse(filled, source="l.toml"), today=TODAY) == []


def test_a_drill_without_advice_asks_for_one_lesson():
    empty = ["lesson 1: text, owner, due_date"]
    text = lessons.template(samples.drill())
    assert lessons.missing(lessons.parse(text, source="l.toml"), today=TODAY) == empty
    assert lessons.missing([], today=TODAY) == empty


def test_a_lesson_that_is_overdue_is_asked_for_until_it_is_done():
    entry = '[[lessons]]\ntext = "a"\nowner = "Kim"\ndue_date = "2026-02-28"\n'
    late = "l.toml: lesson 1: done_date (was due 2026-02-28, Kim)"
    assert lessons.owed(entry, source="l.toml", today=TODAY) == [late]
    assert lessons.owed(entry + "done_date = 2026-02-27\n", source="l.toml", today=TODAY) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[lessons]\n", "line 1"),
        ('title = "x"\n', r"only blocks \[\[lessons\]\]"),
        ("lessons = 3\n", r"only blocks \[\[lessons\]\]"),
        ('[[lessons]]\nwho = "Kim"\n', "lesson 1 has 'who'"),
        ('[[lessons]]\ndue_date = "soon"\n', "due_date of lesson 1"),
        ("[[lessons]]\ndue_date = 3\n", "due_date of lesson 1"),
        ("[[lessons]]\nowner = 3\n", "owner of lesson 1"),
    ],
)
def test_a_file_of_lessons_that_cannot_be_read_is_refused_and_still_owed(text, named):
    with pytest.raises(RunbookError, match=f"^l.toml: .*{named}"):
        lessons.parse(text, source="l.toml")
    assert len(lessons.owed(text, source="l.toml", today=TODAY)) == 1
    assert lessons.owed(None, source="l.toml", today=TODAY) == ["l.toml: the file is gone"]


def test_a_document_is_read_as_it_was_written():
    document = samples.drill()
    assert documents.read(json.loads(json.dumps(document)), source="d.json") == document
    early = samples.drill(
        outage_at=None, service_at=None, finished_at=None, recovery=None, extrapolation=None, lessons=None,
        tear_down=None, phases=[], checks=[], measured=dict.fromkeys(document["measured"]),
    )  # fmt: skip
    assert documents.read(early, source="d.json") == early
