"""A change survives its document, and is abandoned only when that is certain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.change import Change, Item
from ansible.module_utils.runbook.rules.state import Document, parse, serialise
from ansible.module_utils.runbook.rules.status import Status

NOW = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)
CHANGE = Change(
    "2026-11-29T02-00-00Z-weekly_db-1a2b", "weekly_db.yml", "weekly maintenance", ("database mental_scribe",),
    "boot-ns 4711 99", NOW, NOW + timedelta(hours=2),
)  # fmt: skip


def document(body: dict[str, object]) -> Document:
    return Document(Change.document_name(CHANGE.id), body, CHANGE.id, "bastion/4711", NOW.isoformat(), "token")


def test_a_change_is_what_its_document_says():
    made = CHANGE.with_opened("ticket", {"id": "12", "url": "https://tickets.example.org/12"}).with_item(
        "open_ticket", Item(Status.OK, "Ticket 12 is open.", NOW.isoformat(), "https://tickets.example.org/12")
    )
    stored = document(made.body())
    assert Change.of(parse(stored.name, serialise(stored))) == made


def test_what_is_over_is_opened_no_more():
    assert CHANGE.with_opened("silence", {"id": "1"}).with_opened("silence", None).opened == {}
    with pytest.raises(ValueError, match="poster"):
        CHANGE.with_opened("poster", {})


def test_the_last_answer_counts():
    first, last = (Item(status, "", NOW.isoformat()) for status in (Status.UNKNOWN, Status.OK))
    assert CHANGE.with_item("backup", first).with_item("backup", last).items == {"backup": last}


@pytest.mark.parametrize(("holder", "passed_s", "abandoned"), [
    ("alive", 0, False),
    ("alive", 90_000, False),  # it is late, and at work
    ("dead", 0, True),
    ("unknown", 7_199, False),
    ("unknown", 7_200, True),
])  # fmt: skip
def test_who_is_at_work_keeps_a_change(holder, passed_s, abandoned):
    assert CHANGE.is_abandoned(holder, NOW + timedelta(seconds=passed_s)) is abandoned


@pytest.mark.parametrize("wrong", [
    {}, {"items": []}, {"opened": {"ticket": 1}}, {"until": "soon"}, {"items": {"backup": {"status": "green"}}},
])  # fmt: skip
def test_what_is_no_change_is_unknown(wrong):
    body = CHANGE.body() | wrong if wrong else {}
    with pytest.raises(RunbookError, match="is no change") as error:
        Change.of(document(body))
    assert error.value.status is Status.UNKNOWN


def test_a_name_leads_nowhere_else():
    with pytest.raises(RunbookError):
        Change.document_name("../leases/x")


def test_a_secret_is_not_written():
    opened = replace(CHANGE, opened={"ticket": {"url": "https://user:hunter2@tickets.example.org/1"}})
    with pytest.raises(RunbookError, match="looks like a secret"):
        serialise(document(opened.body()))


def test_users_stay_out_until_the_fix_holds_on_each_database():
    ok = Item(Status.OK, "It holds.", NOW.isoformat())
    kept = replace(CHANGE, needs=("work", "resolution:db1", "resolution:db2")).with_opened("mode", {"kept": True})
    one = kept.with_item("resolution:db1", ok)
    for wrong in (one, one.with_item("resolution:db2", replace(ok, status=Status.BREACH))):
        with pytest.raises(RunbookError, match="that the fix holds on db2, so"):
            wrong.require_resolved()
    one.with_item("resolution:db2", ok).require_resolved()
    one.with_opened("mode", {}).require_resolved()


def test_an_item_without_an_answer_is_unknown():
    needing = replace(CHANGE, needs=("backup", "ticket"))
    answered = needing.with_item("backup", Item(Status.OK, "It is whole.", NOW.isoformat()))
    assert [(each.name, each.status) for each in answered.checks()] == [
        ("backup", Status.OK), ("ticket", Status.UNKNOWN),
    ]  # fmt: skip
