"""Announcements of maintenance: which windows people have to be told of, by when, and whether they were.

A quarterly window is announced two weeks before, a single one as soon as the calendar has it; weekly and monthly ones
are known to everybody. The promise is ``announced_at`` of the inventory. The proof is a document of the state store,
which has the time and the place of each message, under the window's id with its date: a window that is moved is
announced again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.change.calendar import ANNOUNCE_DAYS, RECURRING, in_utc, occurrences, said_at
from ansible.module_utils.runbook.rules.status import Check, Status, worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

    from ansible.module_utils.runbook.rules.change.calendar import Calendar, Occurrence
    from ansible.module_utils.runbook.rules.change.change import Change

#: Where their documents lie in the state store.
FOLDER = "announcements/"
#: A window is named from so many days before it on, so that there is a week for its announcement.
NAMED_DAYS = 21
#: Further ahead nothing is planned.
_AHEAD = timedelta(days=366)


@dataclass(frozen=True)
class Planned:
    """A window that people have to be told of."""

    window: Occurrence
    #: From then on, UTC.
    due_at: datetime
    #: Days before the window that were promised; 0 for a single one.
    days: int
    #: Of the window: its days are those of people there.
    zone: tzinfo

    @property
    def id(self) -> str:
        """By which it is announced."""
        return self.window.announced_as

    @property
    def title(self) -> str:
        """For the team, in one line."""
        return f"Maintenance is planned for {said_at(self.window.begin)}"

    @property
    def text(self) -> str:
        """For the team."""
        return f"The maintenance window {self.window.id} lasts until {said_at(self.window.end)}."

    def is_due(self, now: datetime) -> bool:
        """Whether people are to be told by now."""
        return now >= self.due_at

    def is_near(self, now: datetime) -> bool:
        """Whether it is due, or its window begins soon."""
        return self.is_due(now) or self.window.begin - now <= timedelta(days=NAMED_DAYS)

    def unknown(self, why: str) -> Check:
        """Nobody knows whether people were told."""
        said = f"{self._head}: nobody knows whether it was announced, as {why.rstrip('.')}."
        return self._check(Status.UNKNOWN, said)

    @property
    def _head(self) -> str:
        return f"The window {self.window.id} on {said_at(self.window.begin)}"

    @property
    def _when(self) -> str:
        return f"on {said_at(self.due_at)}" if self.days else "as soon as the calendar had it"

    def judge(self, found: Change | None, now: datetime, *, would_announce: bool = False) -> Check:
        """Whether people were told in time.

        :param found: the announcement that the state store has
        :param would_announce: in check mode, where the real run would tell them now
        """
        head = self._head
        items = found.items.values() if found else ()
        told = sorted((item for item in items if item.is_proven), key=lambda item: item.at)
        status = worst(item.status for item in items) if items else Status.OK
        if told and status is Status.OK:
            # Not before the last of them was told.
            at = datetime.fromisoformat(told[-1].at).astimezone(UTC)
            where = ", ".join(item.proof for item in told)
            before = self._days_before(at)
            if before < self.days:
                return self._check(
                    Status.BREACH,
                    f"{head} was announced only {before} days before, and {self.days} are promised; move it to a later "
                    f"date. Announced {said_at(at)}: {where}.",
                )
            return self._check(Status.OK, f"{head} was announced {said_at(at)}: {where}.")
        if not self.is_due(now):
            return self._check(Status.OK, f"{head} is to be announced on {said_at(self.due_at)}.")
        if would_announce:
            before = self._days_before(now)
            if before < self.days:
                return self._check(
                    Status.BREACH,
                    f"{head} would be announced now, only {before} days before, and {self.days} are promised; move it "
                    "to a later date.",
                )
            return self._check(Status.OK, f"{head} would be announced now.")
        if status is not Status.OK:
            why = " ".join(item.msg for item in items if item.status is not Status.OK)
            return self._check(status, f"{head} is not announced as it has to be: {why}")
        return self._check(
            Status.BREACH,
            f"{head} was to be announced {self._when}, and nobody was told; run playbooks/announce.yml, "
            "with a status page or a channel of the team in the inventory.",
        )

    def _days_before(self, at: datetime) -> int:
        """Days from a moment to the window's, of the calendar that people there have."""
        return (self.window.day - at.astimezone(self.zone).date()).days

    def _check(self, status: Status, msg: str) -> Check:
        return Check("announcement", status, msg, self.id)


def planned(calendar: Calendar, now: datetime) -> list[Planned]:
    """The windows ahead that people have to be told of, in order."""
    by_id = {window.id: window for window in calendar.windows}
    found = []
    for each in occurrences(calendar, now, now + _AHEAD):
        if each.kind in RECURRING or each.begin <= now:
            continue
        window = by_id[each.id]
        on = window.announced_on
        due_at = in_utc(datetime.combine(on, time()), window.zone) if on else datetime.min.replace(tzinfo=UTC)
        found.append(Planned(each, due_at, ANNOUNCE_DAYS if each.kind == "quarterly" else 0, window.zone))
    return found


def judge(
    windows: Sequence[Planned], found: Mapping[str, Change | None], now: datetime, *, would_announce: bool
) -> list[Check]:
    """All windows that are near, each with its check; one sentence where there is none.

    :param found: what the state store has, by id
    """
    checks = [
        each.judge(found.get(each.id), now, would_announce=would_announce) for each in windows if each.is_near(now)
    ]
    return checks or [Check.ok("announcement", "No window ahead has to be announced by now.")]


def gone(names: Sequence[str], windows: Sequence[Planned], now: datetime) -> list[str]:
    """What was announced for a day that is still ahead, and is in the calendar no more: one sentence each.

    :param names: of the documents
    """
    known = {each.id for each in windows}
    told = []
    for name in (each.removeprefix(FOLDER) for each in names):
        try:
            day = date.fromisoformat(name[-10:])
        except ValueError:
            continue
        if day > now.date() and name not in known:
            told.append(
                f"{name} was announced, and the calendar has it no more; remove it from the status page, and tell the "
                "team."
            )
    return told
