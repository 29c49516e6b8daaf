"""What became of a question: the words that modules, records and reports share.

A module asks one or more questions of a subject: a table, a bucket, a server. Each answer is a :class:`Check`. A module
ends with all of them by ``context.conclude`` (``module.py``), and its own status is the worst of theirs.

>>> worst([Status.OK, Status.UNKNOWN]), worst([])
(<Status.UNKNOWN: 'unknown'>, <Status.UNKNOWN: 'unknown'>)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.words import agree, all_ok, count

if TYPE_CHECKING:
    from collections.abc import Iterable


class Status(StrEnum):
    """The three answers, the worst first."""

    #: It was looked at, and is not as it must be.
    BREACH = "breach"
    #: It could not be judged: a right, an answer or a figure is missing. Never taken for ok.
    UNKNOWN = "unknown"
    OK = "ok"

    @classmethod
    def of(cls, *, breach: object = False, unknown: object = False) -> Status:
        """``breach`` if there is something in the first, else ``unknown`` if there is in the second, else ``ok``.

        >>> Status.of(breach=[], unknown=["public.notes"])
        <Status.UNKNOWN: 'unknown'>
        """
        return cls.BREACH if breach else cls.UNKNOWN if unknown else cls.OK


@dataclass(frozen=True)
class Check:
    """One question and its answer; no row content, no secret."""

    #: The question, in a word or two: ``age``, ``object_lock``.
    name: str
    status: Status
    #: The sentence for the person on duty: what was found and, unless that is ok, the fix.
    msg: str = ""
    #: What was looked at, where a module looks at several things: a table, an index, an object.
    subject: str = ""

    @classmethod
    def ok(cls, name: str, msg: str = "", subject: str = "") -> Check:
        """It is as it must be."""
        return cls(name, Status.OK, msg, subject)

    @classmethod
    def breach(cls, name: str, msg: str, subject: str = "") -> Check:
        """It was looked at, and is not as it must be."""
        return cls(name, Status.BREACH, msg, subject)

    @classmethod
    def unknown(cls, name: str, msg: str, subject: str = "") -> Check:
        """It could not be judged."""
        return cls(name, Status.UNKNOWN, msg, subject)

    def result(self) -> dict[str, str]:
        """As a module returns it."""
        return {"name": self.name, "status": str(self.status), "msg": self.msg, "subject": self.subject}


def worst(statuses: Iterable[Status]) -> Status:
    """One status for many. Nothing judged is unknown."""
    found = set(statuses)
    return next((status for status in Status if status in found), Status.UNKNOWN)


def sentence(about: str, checks: Iterable[Check]) -> str:
    """One sentence for many checks: what is not ok, the worst first, or how many are.

    >>> sentence("Backups", [Check.ok("lock"), Check.breach("age", "The newest is 3 days old.")])
    'Backups: 1 of 2 checks is not ok. age (breach): The newest is 3 days old.'
    """
    made = list(checks)
    order = list(Status)
    bad = sorted((each for each in made if each.status != Status.OK), key=lambda each: order.index(each.status))
    if not made:
        return f"{about}: nothing was checked."
    if not bad:
        return f"{about}: {all_ok(len(made))}"
    named = " ".join(f"{each.name} ({each.status}): {each.msg}" for each in bad)
    return f"{about}: {len(bad)} of {count(len(made), 'check')} {agree(len(bad), 'is', 'are')} not ok. {named}"
