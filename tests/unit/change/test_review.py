"""Post-incident reviews: opened with an owner and a due date, overdue, closed by what was learned."""

from __future__ import annotations

import doctest
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import review as rules
from ansible.module_utils.runbook.rules.change.change import Change, Item
from ansible.module_utils.runbook.rules.state import Document
from ansible.module_utils.runbook.rules.status import Status

NOW = datetime(2026, 11, 29, 2, 30, tzinfo=UTC)
ACTIONS = [{"text": "Lock migrations", "owner": "Bo Katan", "due_date": "2026-12-31"}]


def a_change(**items: Item) -> Change:
    return Change(
        "20261129T020000Z-emergency-1a2b3c", "emergency.yml", "A migration ran twice.", ("database a",), "m", NOW, NOW,
        items=items,
    )  # fmt: skip


def a_review(due_days: int = 5, **items: Item) -> rules.Review:
    return rules.Review.of_change(
        a_change(**items), kind="corruption", owner="database_admin", due_days=due_days, opened_at=NOW
    )


def a_closing(**more: Any) -> rules.Closing:
    return rules.closing(**({"by": "Ada Byron", "text": "It ran twice.", "link": None, "actions": ACTIONS} | more))


def test_doctests():
    assert doctest.testmod(rules).failed == 0


@pytest.mark.parametrize(
    ("days", "status", "says", "is_near"),
    [
        (0, "ok", "open, due in 5 days, on 2026-12-04", False),
        (2, "ok", "due in 3 days", False),
        (3, "ok", "due in 2 days", True),
        (5, "ok", "due today", True),
        (6, "breach", "overdue since 2026-12-04; hold it", True),
    ],
)
def test_a_review_is_overdue_from_the_day_after_its_due_date_on(days, status, says, is_near):
    now = NOW.replace(hour=23, minute=59) + timedelta(days=days)
    check = a_review().judge(now)
    assert (check.status, a_review().is_near(now)) == (status, is_near)
    assert says in check.msg
    assert "corruption: A migration ran twice; Database Admin" in check.msg
    closed = a_review().closed(a_closing(), now)
    assert (closed.judge(now).status, closed.is_near(now)) == ("ok", False)


def test_it_takes_ticket_and_timeline_of_its_change_and_keeps_its_due_date():
    first = a_review(ticket=Item(Status.OK, "Opened.", "2026-11-29T02:01:00+00:00", "https://tickets.clinic.eu/7"))
    assert first.ticket == "https://tickets.clinic.eu/7"
    later = rules.Review.of_change(
        a_change(
            fix=Item(Status.OK, "Restored.", "2026-11-29T02:20:00+00:00"),
            team=Item(Status.UNKNOWN, "Maybe told.", "2026-11-29T02:02:00+00:00"),
            review=Item(Status.OK, "Open.", "2026-11-29T02:03:00+00:00"),
        ),
        kind="corruption", owner="somebody else", due_days=9, opened_at=NOW + timedelta(days=1),
    )  # fmt: skip
    merged = first.with_what_was_done(later)
    assert [each["item"] for each in merged.timeline] == ["team", "fix"]
    assert (merged.owner, merged.due, merged.ticket) == ("database_admin", date(2026, 12, 4), first.ticket)
    closed = first.closed(a_closing(), NOW)
    assert closed.with_what_was_done(later) == closed


def test_the_document_is_read_as_it_was_written():
    review = a_review(team=Item(Status.OK, "Told.", "2026-11-29T02:02:00+00:00")).with_reminder(NOW, Status.UNKNOWN)
    for each in (review, review.closed(a_closing(), NOW)):
        assert rules.Review.of(Document("reviews/x", each.body(), "r", "c", "t", "t")) == each
        assert "reminded" not in each.result()
    body = review.body()
    for damaged in ({}, body | {"due": "soon"}, body | {"closing": {"by": "x"}}, body | {"timeline": ["x"]}):
        with pytest.raises(RunbookError, match="is no review of this project") as caught:
            rules.Review.of(Document("reviews/x", damaged, "r", "c", "t", "t"))
        assert caught.value.status == "unknown"


def test_what_was_written_to_close_it_stays():
    closed = a_review().closed(a_closing(), NOW)
    assert closed.closed(a_closing(), NOW + timedelta(days=1)) == closed
    with pytest.raises(RunbookError, match="was closed by Ada Byron on 2026-11-29"):
        closed.closed(a_closing(text="Other words."), NOW)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"by": None}, "by: it is empty; name a person"),
        ({"by": "Jane Doe"}, "by: 'Jane Doe' is a placeholder"),
        ({"text": " "}, "text, link: both are empty"),
        ({"text": "TODO: write it"}, "text: 'TODO: write it' is a placeholder"),
        ({"link": "tbd"}, "link: 'tbd' is a placeholder"),
        ({"actions": []}, "actions: it is empty"),
        ({"actions": [*ACTIONS, ACTIONS[0] | {"text": ""}]}, "actions, number 2: text: it is empty"),
        ({"actions": [ACTIONS[0] | {"owner": None}]}, "actions, number 1: owner: it is empty"),
        ({"actions": [ACTIONS[0] | {"owner": "[Contact]"}]}, "owner: '[Contact]' is a placeholder"),
        ({"actions": [ACTIONS[0] | {"due_date": "soon"}]}, "due_date: 'soon' is no date; write it as 2026-01-31."),
        ({"actions": [ACTIONS[0] | {"due_date": None}]}, "due_date: '' is no date"),
    ],
)
def test_what_is_missing_to_close_it_is_named(given, says):
    with pytest.raises(RunbookError) as caught:
        a_closing(**given)
    assert says in caught.value.message


def test_a_word_of_a_placeholder_may_stand_in_a_text():
    assert a_closing(text="None of the alerts fired, and a TODO in the code said why.").text
    assert a_closing(text="", link="https://wiki.clinic.eu/incidents/7").link


def test_an_owner_is_somebody():
    with pytest.raises(RunbookError, match="owner: 'TBD' is a placeholder"):
        rules.Review.of_change(a_change(), kind="security", owner="TBD", due_days=5, opened_at=NOW)


def test_people_are_reminded_once_a_day():
    review = a_review()
    assert review.may_be_reminded(NOW)
    for status in (Status.OK, Status.UNKNOWN):
        noted = review.with_reminder(NOW, status)
        assert not noted.may_be_reminded(NOW.replace(hour=23))
        assert noted.may_be_reminded(NOW + timedelta(days=1))
    assert review.with_reminder(NOW, None).may_be_reminded(NOW)
    title, text = rules.reminder(review, "production", NOW + timedelta(days=6))
    assert title == "Post-incident review overdue since 2026-12-04: Database Admin"
    assert review.id in text


def test_one_sentence_names_what_is_overdue_and_what_is_due_soon():
    assert rules.summary([], []) == "There is no review."
    review, now = a_review(), NOW + timedelta(days=6)
    assert "overdue since" in rules.summary([review.judge(now)], [review])
    assert "due today" in rules.summary([review.judge(NOW + timedelta(days=5))], [review])
    assert rules.summary([review.judge(NOW)], []) == "The one check is ok."
