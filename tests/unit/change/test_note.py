"""What is said on a ticket keeps its text and its key, however little room there is."""

from __future__ import annotations

import doctest

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import note as notes
from ansible.module_utils.runbook.rules.change.backend import NONE, Needs, check_options
from ansible.module_utils.runbook.rules.change.note import Note, note_key, title_of
from ansible.module_utils.runbook.rules.change.ticket import Transition, closing

REPORT = "\n".join(f"| row {number} |" for number in range(1000))


@pytest.mark.parametrize("form", ["markdown", "wiki"])
@pytest.mark.parametrize("limit", [14_000, 5_000, 900])
def test_a_report_is_shortened_at_a_line_and_says_so(form, limit):
    note = Note("runbook:run-1#closed", "All is well.", REPORT)
    text = getattr(note, form)(limit)
    assert len(text) <= limit
    assert text.startswith("All is well.")
    assert note.key in text.splitlines()[-1]
    assert ("left out" in text) == (limit < 14_000)
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("| row"))


def test_a_report_that_just_fits_is_whole():
    note = Note("runbook:run-1#closed", "Done.", "x" * 10_000)
    whole = note.markdown(100_000)
    assert note.markdown(len(whole)) == whole
    assert "left out: " not in note.markdown(len(whole))
    assert "Shortened: " in note.markdown(len(whole) - 1)


def test_the_form_without_marks_has_paragraphs_and_the_key_last():
    paragraphs, report = Note("runbook:run-1#a", "One.\n\nTwo,\nthree.", "# Title").parts(500)
    assert paragraphs == ["One.", "Two,\nthree.", "Reference: runbook:run-1#a"]
    assert report == "# Title"


def test_no_mark_of_a_name_is_format_and_nobody_is_called():
    text = "Table a_b*c of @app, see #12 <script> {code} [x|http://y]"
    assert Note("k", text).markdown(500).splitlines()[0] == (
        r"Table a\_b\*c of @&#8203;app, see #&#8203;12 \<script\> \{code\} \[x\|http://y\]"
    )
    assert "\\{code\\}" in Note("k", text).wiki(500)
    # A report brings its own marks, and cannot end the block that it is in.
    assert Note("k", "", "a {noformat} @b").wiki(500).count("{noformat}") == 2


@pytest.mark.parametrize("item", ["", "a b", "-->", "a#b", "x" * 65])
def test_an_item_is_a_name(item):
    with pytest.raises(RunbookError, match=r"item: .* is no name"):
        note_key("runbook:run-1", item)


def test_a_title_is_one_line_of_a_length_that_is_taken():
    assert len(title_of("x" * 256)) == 255
    assert title_of("x" * 255) == "x" * 255


POSSIBLE = [Transition("11", "Start", "indeterminate"), Transition("31", "Done", "done")]


def test_a_ticket_is_closed_by_the_one_way_to_done_or_by_name():
    assert closing(POSSIBLE, "").id == "31"
    assert closing(POSSIBLE, "START").id == "11"


@pytest.mark.parametrize(("possible", "name", "says"), [
    ([*POSSIBLE, Transition("41", "Won't do", "done")], "", "more than one .* now: \"Won't do\", 'Done'"),
    (POSSIBLE[:1], "", "no transition closes .* now: 'Start'"),
    (POSSIBLE, "Finish", "no transition 'Finish' .* now: 'Done', 'Start'"),
    ([], "", "no transition closes .* now: none"),
])  # fmt: skip
def test_another_workflow_is_told_with_its_names(possible, name, says):
    with pytest.raises(RunbookError, match=f"jira_transition: {says}"):
        closing(possible, name)


BACKENDS = {"a": Needs(("token", "url"), ("label",)), "b": Needs(("token",))}
EMPTY = {"token": None, "url": "", "label": None}


@pytest.mark.parametrize(("given", "says"), [
    ({"backend": "a", "url": "x", "token": "y"}, None),
    ({"backend": "b", "token": "y"}, None),
    ({"backend": NONE}, None),
    ({"backend": "a", "url": "x"}, "token: it is not set, and backend a needs it"),
    ({"backend": "b", "token": "y", "url": "x"}, "url: it is set, and backend b has no use for it; .* backend to a"),
    ({"backend": NONE, "token": "y"}, "token: .* set backend to a or b"),
])  # fmt: skip
def test_options_of_another_service_are_refused(given, says):
    if says is None:
        check_options(EMPTY | given, BACKENDS)
        return
    with pytest.raises(RunbookError, match=says):
        check_options(EMPTY | given, BACKENDS)


def test_doctests():
    assert doctest.testmod(notes).failed == 0
