"""Test alerts on their way to people: to whom they go, when they may, and what is proven by what was seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.address import check_address
from ansible.module_utils.runbook.rules.status import Check
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime, tzinfo

Proof = Literal["page", "pagerduty", "none"]
#: The label that tells one test from all others.
LABEL = "runbook_test"
ALERT = "RunbookDeliveryTest"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Receiver:
    """A receiver of Alertmanager, and how it is seen that something arrived there."""

    name: str
    labels: Mapping[str, str]
    proof: Proof
    #: A page that shows what arrived.
    url: str = ""
    #: Services of PagerDuty.
    services: tuple[str, ...] = ()
    #: File with the authorities that are trusted for the page; None for the system's.
    ca_cert: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Receiver:
        """As the inventory has it.

        :raises RunbookError: what its proof needs is missing, or its labels are ours
        """
        name, proof, labels = str(said["name"]), said["proof"], said["labels"] or {}
        where = f"receivers: {name}"
        if LABEL in labels:
            raise RunbookError(f"{where}: the label {LABEL} is set by the test itself; take it out.")
        if proof == "page" and not said["url"]:
            raise RunbookError(f"{where}: its proof is a page, and url is empty; give the page's address.")
        if said["url"]:
            check_address(f"{where}: url", said["url"].partition("?")[0])
        if proof == "pagerduty" and not said["services"]:
            raise RunbookError(f"{where}: its proof is PagerDuty, and services is empty; give the service's id.")
        return cls(
            name, {str(key): str(value) for key, value in labels.items()}, proof, said["url"] or "",
            tuple(said["services"] or ()), said.get("ca_cert"),
        )  # fmt: skip

    @property
    def shown(self) -> str:
        """Its page, as it is printed: what follows the path may be a secret."""
        return self.url.partition("?")[0]

    def alert(self, nonce: str, environment: str) -> tuple[dict[str, str], dict[str, str]]:
        """Labels and annotations of its test alert, which nobody can take for a real one.

        The code is in its name too, by which most routes group: a group of several alerts is told by what they share.
        """
        return {"alertname": f"{ALERT}_{nonce}", **self.labels, LABEL: nonce}, {
            "summary": f"TEST {nonce}: nothing is wrong, and nobody has to do anything.",
            "description": f"monitoring.yml of {environment} tries whether alerts arrive at {self.name}.",
        }


@dataclass(frozen=True)
class Hours:
    """When a test may reach people."""

    begin: time
    end: time
    weekdays: frozenset[int]
    zone: tzinfo

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Hours:
        """As the inventory has them.

        :raises RunbookError: names what is none
        """
        zone = moment.zone("hours: timezone", said["timezone"])
        begin, end = (_time(name, said[name]) for name in ("begin", "end"))
        if end <= begin:
            raise RunbookError(f"hours: its end {end:%H:%M} is not after its begin {begin:%H:%M}; exchange them.")
        return cls(begin, end, frozenset(WEEKDAYS.index(each) for each in said["weekdays"]), zone)

    def refusal(self, now: datetime) -> str:
        """Why no test may be sent just now; empty where one may."""
        local = now.astimezone(self.zone)
        if local.weekday() in self.weekdays and self.begin <= local.time() < self.end:
            return ""
        days = ", ".join(WEEKDAYS[each] for each in sorted(self.weekdays))
        return (
            f"Nothing was sent: it is {local:%A %H:%M} ({self.zone}), and tests may reach people {days} from "
            f"{self.begin:%H:%M} to {self.end:%H:%M} (hours)."
        )


def _time(name: str, said: object) -> time:
    if not re.fullmatch(r"\d{2}:\d{2}", str(said)):
        raise RunbookError(f"hours: {name} {said!r} is no time of day; write it in quotes, as '09:00'.")
    try:
        return time.fromisoformat(str(said))
    except ValueError:
        raise RunbookError(f"hours: {name} {said!r} is no time of day; write it in quotes, as '09:00'.") from None


@dataclass
class Sent:
    """A test alert, and what was seen of it."""

    receiver: Receiver
    nonce: str
    #: Whether an Alertmanager took it.
    taken: bool = False
    #: Seconds until it was seen at the receiver.
    arrived_s: float | None = None
    #: Where it goes, and whether something keeps it back, as Alertmanager says it.
    route: Mapping[str, Any] | None = None
    #: Why nobody could look at the receiver; empty where somebody could.
    blind: str = ""
    #: The incident that it became.
    incident: str = ""
    #: How many other alerts are told in the same message; None where nobody knows.
    beside: int | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it is certain that it will not arrive."""
        route = self.route
        return not self.taken or (
            (route is not None)
            and (self.receiver.name not in route["receivers"] or route["silenced"] or route["inhibited"])
        )

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        seen = self.arrived_s is not None
        return seen or self.is_lost or (self.receiver.proof == "none" and self.route is not None)

    @property
    def ends_by_itself(self) -> bool:
        """Whether it fires on: of an alert that ends within ``group_wait`` Alertmanager tells nobody."""
        return self.receiver.proof == "none" and self.route is not None and not self.is_lost

    def check(self, *, wait_s: float) -> Check:
        """What is proven."""
        name, said = self.receiver.name, f"{self.receiver.name}: test {self.nonce}"
        if self.arrived_s is not None:
            return Check.ok("delivery", f"{said} arrived after {self.arrived_s:.0f} s.", name)
        if not self.taken:
            return Check.breach("delivery", f"{said} was taken by no Alertmanager, so nobody was told.", name)
        if self.route is None:
            return Check.breach("delivery", f"{said} was accepted, and is not among Alertmanager's alerts.", name)
        if self.route["silenced"] or self.route["inhibited"]:
            by = "a silence" if self.route["silenced"] else "another alert (inhibit_rules)"
            return Check.breach("delivery", f"{said} is kept back by {by}, so nobody is told.", name)
        if name not in self.route["receivers"]:
            goes = ", ".join(self.route["receivers"]) or "nobody"
            return Check.breach(
                "delivery", f"{said} goes to {goes}; correct the route, or the labels in the inventory.", name
            )
        if self.receiver.proof == "none":
            return Check.unknown("delivery", f"{said} was sent, and no machine can see it there; ask who got it.", name)
        if self.blind:
            return Check.unknown("delivery", f"{said} was sent, and nobody could look there: {self.blind}", name)
        if self.beside:
            return Check.unknown(
                "delivery", f"{said} was sent in one message with {count(self.beside, 'other alert')}, which may show "
                "what they share alone; let its route group by alertname (group_by), or ask who got it.", name,
            )  # fmt: skip
        return Check.breach(
            "delivery", f"{said} was accepted and routed, and did not arrive within {wait_s:.0f} s; look at "
            f"Alertmanager's log and at {name}'s settings.", name,
        )  # fmt: skip


def beside(configured: Mapping[str, Sequence[str]], wanted: Sequence[Receiver]) -> Iterator[Check]:
    """Receivers that are only in the configuration, or only in the inventory.

    :param configured: names of receivers with the kinds of their integrations
    """
    names = {each.name for each in wanted}
    for name, kinds in configured.items():
        if name not in names and kinds:
            yield Check.unknown(
                "delivery", f"{name} ({', '.join(kinds)}): the inventory names no labels that lead to it (receivers), "
                "so it was not tested.", name,
            )  # fmt: skip
        elif name not in names:
            yield Check.ok("delivery", f"{name} has no integration, so it tells nobody.", name)
    for each in wanted:
        if each.name not in configured:
            yield Check.breach(
                "delivery", f"Alertmanager has no receiver {each.name}; correct its name in the inventory.", each.name
            )
        elif not configured[each.name]:
            yield Check.breach("delivery", f"{each.name} has no integration, so it tells nobody.", each.name)
