"""Which windows people have to be told of, by when, and whether they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules.change import announcement, calendar
from ansible.module_utils.runbook.rules.change.backend import SKIPPED
from ansible.module_utils.runbook.rules.change.change import Change, Item
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.change.announcement import Planned

QUARTER = {
    "id": "quarter-1", "kind": "quarterly", "begin": "2027-01-17 02:00", "end": "2027-01-17 08:00",
    "announced_at": "2027-01-02",
}  # fmt: skip
DUE = datetime(2027, 1, 2, tzinfo=UTC)
BEGIN = datetime(2027, 1, 17, 2, tzinfo=UTC)


def windows(*said: dict[str, Any], now: datetime = DUE) -> list[Planned]:
    return announcement.planned(calendar.read({"windows": list(said)}, {}), now)


def told(at: datetime, status: Status = Status.OK, proof: str = "https://status.example.com/1", **more: Item) -> Change:
    items = {"status_page": Item(status, "It was said so.", at.isoformat(), proof)} | more
    return Change("quarter-1-2027-01-17", "announce.yml", "", (), "", at, at, items=items)


def judged(found: Change | None, now: datetime, **more: bool) -> tuple[str, str]:
    (check,) = announcement.judge(windows(QUARTER, now=now), {"quarter-1-2027-01-17": found}, now, **{
        "would_announce": False, **more
    })  # fmt: skip
    return str(check.status), check.msg


def test_people_are_told_of_quarterly_and_single_windows_ahead():
    once = {"id": "new-disk", "kind": "once", "begin": "2027-02-01 20:00", "end": "2027-02-01 22:00"}
    weekly = {"id": "weekly", "kind": "weekly", "weekday": "sunday", "begin": "02:00", "end": "04:00"}
    found = windows(weekly, once, QUARTER)
    assert [(each.id, each.is_due(DUE)) for each in found] == [
        ("quarter-1-2027-01-17", True), ("new-disk-2027-02-01", True)
    ]  # fmt: skip
    assert windows(weekly, once, QUARTER, now=BEGIN)[0].id == "new-disk-2027-02-01"
    assert found[0].title == "Maintenance is planned for Sun 2027-01-17 02:00 UTC"


@pytest.mark.parametrize(
    ("now", "is_due", "is_near"),
    [(BEGIN - timedelta(days=21, seconds=1), False, False), (BEGIN - timedelta(days=21), False, True),
     (DUE - timedelta(seconds=1), False, True), (DUE, True, True)],
)  # fmt: skip
def test_a_window_is_named_three_weeks_before_and_due_on_its_day(now, is_due, is_near):
    (found,) = windows(QUARTER, now=now)
    assert (found.is_due(now), found.is_near(now)) == (is_due, is_near)


def test_a_day_is_a_day_of_the_windows_zone():
    (found,) = windows(QUARTER | {"timezone": "America/New_York"})
    assert found.due_at == datetime(2027, 1, 2, 5, tzinfo=UTC)
    # Of the third there, which in UTC is the fourth.
    late = told(datetime(2027, 1, 4, 4, 59, tzinfo=UTC))
    assert found.judge(late, DUE).status is Status.OK
    assert found.judge(told(datetime(2027, 1, 4, 5, tzinfo=UTC)), DUE).status is Status.BREACH


def test_nobody_told_on_the_day_is_a_breach():
    assert judged(None, DUE - timedelta(seconds=1)) == (
        "ok", "The window quarter-1 on Sun 2027-01-17 02:00 UTC is to be announced on Sat 2027-01-02 00:00 UTC."
    )  # fmt: skip
    status, said = judged(None, DUE)
    assert status == "breach"
    assert "was to be announced on Sat 2027-01-02 00:00 UTC, and nobody was told" in said
    assert judged(None, DUE, would_announce=True)[0] == "ok"
    late = judged(None, DUE + timedelta(days=2), would_announce=True)
    assert late[0] == "breach"
    assert late[1].endswith(
        "would be announced now, only 13 days before, and 14 are promised; move it to a later date."
    )
    once = {"id": "disk", "kind": "once", "begin": "2027-01-17 02:00", "end": "2027-01-17 08:00"}
    (check,) = announcement.judge(windows(once), {}, DUE, would_announce=False)
    assert "UTC was to be announced as soon as the calendar had it, and nobody was told" in check.msg
    # Skipped by everybody is nobody.
    assert judged(told(DUE, proof=SKIPPED), DUE)[0] == "breach"


def test_the_proof_says_when_and_where():
    status, said = judged(told(DUE, team=Item(Status.OK, "", DUE.isoformat(), "slack: accepted")), DUE)
    assert status == "ok"
    assert said.endswith("was announced Sat 2027-01-02 00:00 UTC: https://status.example.com/1, slack: accepted.")
    # Whom the inventory tells nothing was not told.
    said = judged(told(DUE, team=Item(Status.OK, "", DUE.isoformat(), SKIPPED)), DUE)[1]
    assert said.endswith("UTC: https://status.example.com/1.")


@pytest.mark.parametrize(("at", "status"), [(BEGIN - timedelta(days=14, hours=2), "ok"), (BEGIN, "breach"),
                                            (datetime(2027, 1, 4, tzinfo=UTC), "breach")])  # fmt: skip
def test_told_too_late_stays_a_breach(at, status):
    assert judged(told(at), BEGIN - timedelta(seconds=1))[0] == status


def test_people_are_told_when_the_last_of_them_is():
    found = told(datetime(2027, 1, 4, tzinfo=UTC), team=Item(Status.OK, "", DUE.isoformat(), "slack: accepted"))
    assert judged(found, BEGIN - timedelta(days=1))[0] == "breach"


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.BREACH])
def test_what_was_not_said_is_not_announced(status):
    found = told(DUE, team=Item(status, "Slack refused.", DUE.isoformat()))
    assert judged(found, DUE) == (
        status, "The window quarter-1 on Sun 2027-01-17 02:00 UTC is not announced as it has to be: Slack refused."
    )  # fmt: skip


def test_a_window_that_is_moved_is_announced_again_and_the_old_day_is_named():
    moved = windows(QUARTER | {"begin": "2027-01-24 02:00", "end": "2027-01-24 08:00"})
    names = ["announcements/quarter-1-2027-01-17", "announcements/quarter-1-2027-01-24", "announcements/x"]
    (said,) = announcement.gone(names, moved, DUE)
    assert said.startswith("quarter-1-2027-01-17 was announced, and the calendar has it no more")
    assert announcement.gone(names, moved, BEGIN) == []


def test_an_empty_calendar_has_one_sentence():
    (check,) = announcement.judge([], {}, DUE, would_announce=False)
    assert (check.status, check.msg) == (Status.OK, "No window ahead has to be announced by now.")


def test_the_window_that_holds_says_by_what_it_was_announced():
    read = calendar.read({"windows": [QUARTER]}, {})
    assert calendar.stand(read, "", "weekly", BEGIN).announced_as == "quarter-1-2027-01-17"
    weekly = {"id": "weekly", "kind": "weekly", "weekday": "sunday", "begin": "02:00", "end": "04:00"}
    assert calendar.stand(calendar.read({"windows": [weekly]}, {}), "", "weekly", BEGIN).announced_as == ""
