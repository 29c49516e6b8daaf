"""The review after an emergency: a document with an owner and a due date, until somebody writes down what was learned.

It is opened within the change of the emergency and outlives it. An open one is reminded of, and a breach once its due
date has passed. A closed one keeps what is to be done, by whom, and until when.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.contacts import ROLES, is_placeholder
from ansible.module_utils.runbook.rules.state import check_name
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import all_ok, count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.rules.change.change import Change
    from ansible.module_utils.runbook.rules.state import Document

#: What an emergency is, by the runbook's words: a critical vulnerability, corrupted data, an unstable system.
KINDS = ("security", "corruption", "instability")
#: An open review is named from so many days before its due date on.
SOON_DAYS = 2
_UNWRITTEN = re.compile(r"\W*(?:todo|tbd|fixme|placeholder)\b", re.IGNORECASE)
_FEW_WORDS = 2
#: The item of the change that says that the review is open.
ITEM = "review"


@dataclass(frozen=True)
class Action:
    """What is to be done so that it does not happen again."""

    text: str
    #: One of the contacts' roles, or a name.
    owner: str
    #: A date in ISO 8601.
    due_date: str


@dataclass(frozen=True)
class Closing:
    """What the review came to."""

    #: Who closed it.
    by: str
    #: What was learned; or empty, where ``link`` leads to it.
    text: str
    link: str
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Review:
    """One review: one document of the state store, named after the change of its emergency."""

    #: The run's id.
    id: str
    #: One of :data:`KINDS`.
    kind: str
    reason: str
    opened_at: datetime
    #: One of the contacts' roles, or a name.
    owner: str
    due: date
    #: Where the change's ticket is; empty where there is none.
    ticket: str
    #: What was done in the emergency, in its order: ``at`` (ISO 8601), ``item``, ``status``, ``msg``.
    timeline: tuple[Mapping[str, str], ...]
    closed_at: datetime | None = None
    closing: Closing | None = None
    #: The last reminder: ``on`` (a date) and ``status``, which is unknown where nobody knows whether it arrived.
    reminded: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def document_name(change_id: str) -> str:
        """Under which name the review of a change lies.

        >>> Review.document_name("2026-11-29T02-00-00Z-emergency-1a2b")
        'reviews/2026-11-29T02-00-00Z-emergency-1a2b'
        """
        return check_name(f"reviews/{change_id}")

    @classmethod
    def of(cls, document: Document) -> Review:
        """The review that a document is.

        :raises RunbookError: it is none; whether it is overdue is unknown
        """
        found = document.body
        try:
            closing = found["closing"]
            return cls(
                id=str(found["id"]),
                kind=str(found["kind"]),
                reason=str(found["reason"]),
                opened_at=datetime.fromisoformat(found["opened_at"]).astimezone(UTC),
                owner=str(found["owner"]),
                due=date.fromisoformat(found["due"]),
                ticket=str(found["ticket"]),
                timeline=tuple({str(key): str(value) for key, value in each.items()} for each in found["timeline"]),
                closed_at=datetime.fromisoformat(found["closed_at"]).astimezone(UTC) if found["closed_at"] else None,
                closing=None
                if closing is None
                else Closing(
                    str(closing["by"]), str(closing["text"]), str(closing["link"]),
                    tuple(Action(**each) for each in closing["actions"]),
                ),
                reminded={str(key): str(value) for key, value in found["reminded"].items()},
            )  # fmt: skip
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RunbookError(
                f"State store: {document.name} is no review of this project; restore or remove it. Whether it is "
                "overdue is unknown.",
                code="state_damaged",
                status=Status.UNKNOWN,
            ) from None

    @classmethod
    def of_change(cls, change: Change, *, kind: str, owner: str, due_days: int, opened_at: datetime) -> Review:
        """The review that a change needs.

        :param owner: one of the contacts' roles, or a name
        :param opened_at: the store's clock
        :raises RunbookError: ``owner`` names nobody
        """
        check_name_filled("owner", owner)
        ticket = change.items.get("ticket")
        # Its kind stands beside it.
        reason = change.reason.removeprefix(f"Emergency ({kind}): ")
        return cls(
            change.id, kind, reason, opened_at, owner.strip(), opened_at.date() + timedelta(days=due_days),
            ticket.proof if ticket else "", timeline(change),
        )  # fmt: skip

    def body(self) -> dict[str, Any]:
        """What its document holds."""
        closing = asdict(self.closing) | {"actions": list(map(asdict, self.closing.actions))} if self.closing else None
        return asdict(self) | {
            "opened_at": self.opened_at.isoformat(),
            "due": self.due.isoformat(),
            "timeline": [dict(each) for each in self.timeline],
            "closed_at": self.closed_at.isoformat() if self.closed_at else None,
            "closing": closing,
        }

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return {name: value for name, value in self.body().items() if name != "reminded"}

    def lines(self) -> list[str]:
        """What is written of it, for a diff."""
        said = [f"{self.describe()}: opened on {self.opened_at:%Y-%m-%d}, due on {self.due}"]
        if self.closing is not None:
            said += [f"closed by {self.closing.by}", *filter(None, (self.closing.text, self.closing.link))]
            said += [f"{each.text} ({owner_name(each.owner)}, until {each.due_date})" for each in self.closing.actions]
        return said

    def describe(self) -> str:
        """Which review it is, for the beginning of a sentence."""
        return f"Review {self.id} ({self.kind}: {self.reason.strip().rstrip('.')}; {owner_name(self.owner)})"

    def with_what_was_done(self, newer: Review) -> Review:
        """The same with ticket and timeline as its change has them now; who holds it until when stays."""
        return self if self.closing else replace(self, ticket=newer.ticket or self.ticket, timeline=newer.timeline)

    def closed(self, closing: Closing, now: datetime) -> Review:
        """The same, closed; as it is where it was closed with these very words.

        :raises RunbookError: it was closed with other words
        """
        if self.closing is None:
            return replace(self, closing=closing, closed_at=now)
        if self.closing != closing:
            raise RunbookError(
                f"{self.describe()} was closed by {self.closing.by} on {self.closed_at:%Y-%m-%d}, and what was written "
                "then stays; put what is new into the ticket."
            )
        return self

    def judge(self, now: datetime) -> Check:
        """Whether it is closed, or not due yet.

        :param now: the store's clock
        """
        if self.closing is not None:
            actions = count(len(self.closing.actions), "action")
            return Check.ok("review", f"{self.describe()}: closed on {self.closed_at:%Y-%m-%d}, {actions}.", self.id)
        left = (self.due - now.date()).days
        if left < 0:
            said = f"{self.describe()}: overdue since {self.due}; hold it, then close it: docs/howto/emergency.md."
            return Check.breach("review", said, self.id)
        when = "today" if left == 0 else f"in {count(left, 'day')}, on {self.due}"
        return Check.ok("review", f"{self.describe()}: open, due {when}.", self.id)

    def is_near(self, now: datetime) -> bool:
        """Whether people are reminded of it: it is open, and due soon or overdue."""
        return self.closing is None and (self.due - now.date()).days <= SOON_DAYS

    def may_be_reminded(self, now: datetime) -> bool:
        """Whether no reminder went out today, or may have."""
        return self.reminded.get("on") != now.date().isoformat()

    def with_reminder(self, now: datetime, status: Status | None) -> Review:
        """The same with today's reminder noted; None: it was certainly not sent."""
        return replace(self, reminded={} if status is None else {"on": now.date().isoformat(), "status": str(status)})


def timeline(change: Change) -> tuple[dict[str, str], ...]:
    """What was done within a change, in its order; that a review was opened is no part of it."""
    done = [
        {"at": item.at, "item": name, "status": str(item.status), "msg": item.msg}
        for name, item in change.items.items()
        if name != ITEM
    ]
    return tuple(sorted(done, key=lambda each: (each["at"], each["item"])))


def owner_name(owner: str) -> str:
    """An owner as people read it.

    >>> owner_name("database_admin"), owner_name("Ada Byron")
    ('Database Admin', 'Ada Byron')
    """
    return ROLES.get(owner, owner)


def check_name_filled(option: str, value: str | None) -> str:
    """The name of somebody who answers for something.

    :raises RunbookError: it is empty, or a placeholder
    """
    text = (value or "").strip()
    if not text:
        raise RunbookError(f"{option}: it is empty; name a person, a team, or a role of the contacts.")
    if is_placeholder(text):
        raise RunbookError(f"{option}: {text!r} is a placeholder; name who it really is.")
    return text


def check_text_filled(option: str, value: str | None) -> str:
    """What a person wrote down. A word that a placeholder is may stand in it, and may not be all of it.

    :raises RunbookError: it is empty, or still to be written
    """
    text = (value or "").strip()
    if not text:
        raise RunbookError(f"{option}: it is empty; write it down.")
    if _UNWRITTEN.match(text) or (len(text.split()) <= _FEW_WORDS and is_placeholder(text)):
        raise RunbookError(f"{option}: {text!r} is a placeholder; write down what is true.")
    return text


def closing(by: str | None, text: str | None, link: str | None, actions: Sequence[Mapping[str, Any]]) -> Closing:
    """What a person wrote to close a review, if all of it is there.

    :raises RunbookError: names what is missing
    """
    by = check_name_filled("by", by)
    if not (text or "").strip() and not (link or "").strip():
        raise RunbookError("text, link: both are empty; say what was learned, or where it is written.")
    for option, value in (("text", text), ("link", link)):
        if (value or "").strip():
            check_text_filled(option, value)
    if not actions:
        raise RunbookError(
            "actions: it is empty; name what is to be done, each with text, owner and due_date. Where nothing is to be "
            "done, say in one who looks again, and when."
        )
    return Closing(
        by, (text or "").strip(), (link or "").strip(),
        tuple(_action(f"actions, number {number}", each) for number, each in enumerate(actions, 1)),
    )  # fmt: skip


def _action(where: str, said: Mapping[str, Any]) -> Action:
    text = check_text_filled(f"{where}: text", said.get("text"))
    owner = check_name_filled(f"{where}: owner", said.get("owner"))
    due = str(said.get("due_date") or "").strip()
    try:
        return Action(text, owner, date.fromisoformat(due).isoformat())
    except ValueError:
        raise RunbookError(f"{where}: due_date: {due!r} is no date; write it as 2026-01-31.") from None


def summary(checks: Sequence[Check], near: Sequence[Review]) -> str:
    """One sentence on all reviews."""
    bad = [each.msg for each in checks if each.status != Status.OK]
    named = [each.msg for each in checks if each.status == Status.OK and each.subject in {one.id for one in near}]
    if bad or named:
        return " ".join([*bad, *named])
    return all_ok(len(checks)) if checks else "There is no review."


def reminder(review: Review, environment: str, now: datetime) -> tuple[str, str]:
    """Title and text of a message to the team."""
    left = (review.due - now.date()).days
    when = f"overdue since {review.due}" if left < 0 else "due today" if left == 0 else f"due on {review.due}"
    lines = [
        f"{review.reason.strip()} ({review.kind}, {review.opened_at:%Y-%m-%d %H:%M} UTC, {environment})",
        f"Owner: {owner_name(review.owner)}",
        *([f"Ticket: {review.ticket}"] if review.ticket else []),
        f"Review: {review.id}",
        "Hold it, then close it with playbooks/reviews.yml: docs/howto/emergency.md says how.",
    ]
    return f"Post-incident review {when}: {owner_name(review.owner)}", "\n".join(lines)
