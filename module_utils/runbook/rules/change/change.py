"""A change: one run that touches what people use, with all that it opened outside of itself.

It is a document of the state store while it is open, named after its run. So a run that was killed leaves word of what
it opened: a ticket, a scheduled maintenance, silences, maintenance mode. Whoever comes next ends them. Closing the
change removes the document; its history is in the ticket and in the run's record.

What a service may hold only once is found again by :func:`key`, which is written into it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change import checklist
from ansible.module_utils.runbook.rules.change.backend import SKIPPED
from ansible.module_utils.runbook.rules.state import check_name
from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.rules.lease import Life
    from ansible.module_utils.runbook.rules.state import Document

#: Longer than any window of the calendar: what lasts for days was a mistake in the date.
LONGEST_H = 24
#: Playbooks that end also what a change keeps until its end.
ENDS_KEPT = ("change_close.yml", "emergency.yml")
#: What a change can open; each is one thing of one service.
THINGS = ("ticket", "maintenance", "incident", "silence", "mode")
#: Those that end by themselves, with their change at the latest.
_ENDING = frozenset({"maintenance", "silence", "mode"})


@dataclass(frozen=True)
class Item:
    """A line of a checklist, answered."""

    status: Status
    #: One sentence: what was done, or what is missing and the fix.
    msg: str
    #: By the clock of the bastion, in ISO 8601.
    at: str
    #: Where the proof is: an address, an id, a figure. No secret.
    proof: str = ""

    @property
    def is_proven(self) -> bool:
        """Whether it was done, and not left out because the inventory has nothing for it."""
        return self.status is Status.OK and self.proof not in ("", SKIPPED)


@dataclass(frozen=True)
class Change:
    """One open change."""

    #: The run's id.
    id: str
    #: File name of the playbook.
    playbook: str
    #: Why it is made, for people: the playbook's name, or the reason of an emergency.
    reason: str
    #: What it works on, in words, with the inventory's name: ``db1 (database mental_scribe of cluster …)``.
    targets: tuple[str, ...]
    #: ``ansible-playbook``, as ``drivers/process.py`` names it.
    machine: str
    opened_at: datetime
    #: When everything that it opened has to be over.
    until: datetime
    #: By what it is (:data:`THINGS`), what names it to its service.
    opened: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: By their names, the items of the checklists that are answered.
    items: Mapping[str, Item] = field(default_factory=dict)
    #: The items that have to be answered before it is done.
    needs: tuple[str, ...] = ()

    @staticmethod
    def document_name(change_id: str, kind: str = "changes") -> str:
        """Under which name the document of a change lies, or that of the announcement of one.

        >>> Change.document_name("2026-11-29T02-00-00Z-weekly_db-1a2b")
        'changes/2026-11-29T02-00-00Z-weekly_db-1a2b'
        """
        return check_name(f"{kind}/{change_id}")

    @staticmethod
    def item_of(line: str, host: str) -> str:
        """What a line of a checklist is answered as, by a module that works for ``host``."""
        return checklist.item(line, host)

    @staticmethod
    def precedes_work(item: str) -> bool:
        """Whether an item has to be done before the work begins."""
        return checklist.phase_of(item) in ("before", "during") and item != "work"

    def way_back(self, item: str) -> str:
        """How the work is undone, where an item says that it did no good; empty where it says nothing of that."""
        plan = self.items.get("rollback_plan")
        return plan.proof if plan is not None and checklist.phase_of(item) == "after" else ""

    @classmethod
    def of(cls, document: Document) -> Change:
        """The change that a document is.

        :raises RunbookError: it is none; what it opened is unknown
        """
        found = document.body
        try:
            return cls(
                id=str(found["id"]),
                playbook=str(found["playbook"]),
                reason=str(found["reason"]),
                targets=tuple(map(str, found["targets"])),
                machine=str(found["machine"]),
                opened_at=datetime.fromisoformat(found["opened_at"]).astimezone(UTC),
                until=datetime.fromisoformat(found["until"]).astimezone(UTC),
                opened={str(thing): dict(what) for thing, what in found["opened"].items()},
                items={
                    str(item): Item(Status(said["status"]), str(said["msg"]), str(said["at"]), str(said["proof"]))
                    for item, said in found["items"].items()
                },
                needs=tuple(map(str, found.get("needs", ()))),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RunbookError(
                f"State store: {document.name} is no change of this project; restore or remove it. What it opened is "
                "unknown.",
                code="state_damaged",
                status=Status.UNKNOWN,
            ) from None

    def body(self) -> dict[str, Any]:
        """What its document holds."""
        return asdict(self) | {
            "targets": list(self.targets),
            "needs": list(self.needs),
            "opened_at": self.opened_at.isoformat(),
            "until": self.until.isoformat(),
        }

    def with_opened(self, thing: str, what: Mapping[str, Any] | None) -> Change:
        """The same change after it opened something, or (None) ended it."""
        if thing not in THINGS:
            raise ValueError(thing)
        rest = {name: value for name, value in self.opened.items() if name != thing}
        return replace(self, opened=rest if what is None else rest | {thing: dict(what)})

    def lasting(self, now: datetime) -> list[str]:
        """What it opened and is not over; what ends by itself is, once its time is."""
        return sorted(thing for thing in self.opened if not (thing in _ENDING and now >= self.until))

    def with_item(self, name: str, item: Item) -> Change:
        """The same change with one more item answered; the last answer counts."""
        return replace(self, items={**self.items, name: item})

    def require_place(self, thing: str, backend: str, where: str = "") -> None:
        """See that a thing is asked for where the change opened it; elsewhere it would stay, and its note be lost.

        :param where: which one of that backend; empty where the inventory decided to have none
        :raises RunbookError: the change opened it in another place
        """
        noted = self.opened.get(thing)
        if noted is None or (noted.get("backend"), noted.get("where")) == (backend, where):
            return
        asked = f"{backend} {where}".strip()
        raise RunbookError(
            f"backend: this change opened its {thing} at {noted.get('backend')} {noted.get('where')}, and is asked for "
            f"it at {asked}; give the options that it was opened with. Nothing was done, and it is noted still."
        )

    def checks(self) -> list[Check]:
        """How it stands with the items that the change needs; one without an answer is unknown."""
        return [
            Check(name, self.items[name].status, self.items[name].msg)
            if name in self.items
            else Check.unknown(name, "Nobody did it, or said that it was done.")
            for name in self.needs
        ]

    def describe(self) -> str:
        """Which change it is, for the beginning of a sentence."""
        return f"Change {self.id} ({self.reason}, until {self.until:%Y-%m-%d %H:%M} UTC)"

    @property
    def keeps_mode(self) -> bool:
        """Whether maintenance mode stays on until its end, whatever became of the run: an emergency is not over."""
        return bool(self.opened.get("mode", {}).get("kept"))

    def require_resolved(self) -> None:
        """Refuse to let users in before the fix holds on each database, also on one where the run ended before.

        :raises RunbookError: it does not, or nobody saw it
        """
        needed = [name for name in self.needs if name.partition(":")[0] == checklist.RESOLUTION]
        left = [name for name in needed if name not in self.items or self.items[name].status is not Status.OK]
        if self.keeps_mode and left:
            hosts = ", ".join(name.partition(":")[2] for name in left)
            raise RunbookError(
                f"Nobody saw that the fix holds on {hosts}, so maintenance mode stays on until {self.until:%H:%M} UTC. "
                "Run the fix again with playbooks/emergency.yml, or end it with playbooks/change_close.yml."
            )

    def is_abandoned(self, holder: Life, now: datetime, *, ends_kept: bool = False) -> bool:
        """Whether nobody works on it any more: its process is gone, or its time is over and nobody can tell.

        :param holder: what is known of its process
        :param now: the store's clock
        :param ends_kept: who asks is there to end what is kept, too
        """
        if self.keeps_mode and not ends_kept:
            return holder != "alive" and now >= self.until
        return holder == "dead" or (holder == "unknown" and now >= self.until)


def key(change_id: str) -> str:
    """What is written into a ticket, an incident or a silence, and by which it is found again.

    >>> key("2026-11-29T02-00-00Z-weekly_db-1a2b")
    'runbook:2026-11-29T02-00-00Z-weekly_db-1a2b'
    """
    return f"runbook:{change_id}"


def check_until(until: datetime, now: datetime) -> datetime:
    """The moment at which something that a change opened is over by itself, in whole seconds.

    :raises RunbookError: it is over already, or too far away
    """
    if until <= now:
        raise RunbookError(
            f"until: {until.isoformat()} is over, so nothing is opened any more; run the same command again in the "
            "next maintenance window, or see that the clock of this machine is right."
        )
    if until > now + timedelta(hours=LONGEST_H):
        raise RunbookError(
            f"until: {until.isoformat()} is not within the next {LONGEST_H} hours; give the end of the work, and see "
            "that the clock of this machine is right."
        )
    return until.replace(microsecond=0)
