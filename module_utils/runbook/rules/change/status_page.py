"""What patients read of a change: notices of maintenance and incidents, in no service's own words.

A notice is public. Its texts name no server, table, playbook or run, and it bears a reference in the place of the
change's key, which does: a digest, by which it is found again and which people can quote.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.change.backend import Needs, check_options

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["maintenance", "incident"]

#: Options of ``change_status_page`` by the service that has a use for them.
BACKENDS = {
    "statuspage": Needs(("statuspage_page", "statuspage_token"), ("statuspage_api_url",)),
    "cachet": Needs(("cachet_url", "cachet_token")),
    "upptime": Needs(("upptime_repository", "upptime_token"), ("upptime_api_url",)),
    "webhook": Needs(("webhook_url",), ("webhook_token",)),
}


class Level(StrEnum):
    """How a component of the page does."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    PARTIAL_OUTAGE = "partial_outage"
    MAJOR_OUTAGE = "major_outage"
    MAINTENANCE = "maintenance"


class Phase(StrEnum):
    """Where a notice stands: the first three are of maintenance, the others of incidents."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"

    @property
    def is_over(self) -> bool:
        """Whether nothing follows."""
        return self in (Phase.COMPLETED, Phase.RESOLVED)


#: Phases of an incident that an update can say.
UPDATES = (Phase.INVESTIGATING, Phase.IDENTIFIED, Phase.MONITORING)


@dataclass(frozen=True)
class Act:
    """What a ``state`` of the module asks for."""

    #: None where it is about components alone.
    kind: Kind | None
    #: The phase that it leads to; None where it stays or the option says it.
    phase: Phase | None
    #: What a page says where the inventory says nothing; with ``{starts}`` and ``{until}``.
    text: str = ""
    title: str = ""
    #: Options that have a meaning, and those that are needed.
    takes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


_SCHEDULED = Act(
    "maintenance", Phase.SCHEDULED,
    "We will carry out scheduled maintenance from {starts} to {until}. Some features may not be available during "
    "this time.",
    "Scheduled maintenance", _names("title", "text", "starts_at", "until", "components"), _names("until"),
)  # fmt: skip
#: What one run announces and another carries out.
ANNOUNCED = "maintenance_announced"
STATES = {
    ANNOUNCED: replace(_SCHEDULED, needs=_names("starts_at", "until")),
    "maintenance_scheduled": _SCHEDULED,
    "maintenance_started": Act(
        "maintenance", Phase.IN_PROGRESS, "Scheduled maintenance is in progress.",
        takes=_names("text", "until"),
    ),
    "maintenance_updated": Act("maintenance", None, takes=_names("text", "until"), needs=_names("text")),
    "maintenance_ended": Act(
        "maintenance", Phase.COMPLETED, "The maintenance is complete. Thank you for your patience.",
        takes=_names("text"),
    ),
    "incident_opened": Act(
        "incident", Phase.INVESTIGATING,
        "We are looking into a problem with our service. We will post an update here as soon as we know more.",
        "Service disruption", _names("title", "text", "components", "level"), _names("level"),
    ),
    "incident_updated": Act(
        "incident", None, takes=_names("text", "phase", "components", "level"), needs=_names("text", "phase")
    ),
    "incident_resolved": Act(
        "incident", Phase.RESOLVED, "The problem is solved, and all features are available again.",
        takes=_names("text"),
    ),
    "components_set": Act(None, None, takes=_names("components", "level"), needs=_names("components", "level")),
}  # fmt: skip
#: Options that only some states take.
_OWN = ("title", "text", "starts_at", "until", "components", "level", "phase")
#: Longest text that each of the services takes, in characters: Statuspage's.
MAX_TEXT = 25_000
#: States whose notice ends with them.
ENDING = ("maintenance_ended", "incident_resolved")

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Notice:
    """What is to be read on the page."""

    kind: Kind
    reference: str
    title: str
    text: str
    #: By their ids on the page.
    components: tuple[str, ...] = ()
    #: How the components do while it lasts.
    level: Level = Level.MAINTENANCE
    #: Of maintenance.
    starts_at: datetime | None = None
    until: datetime | None = None
    #: Whether subscribers are told.
    notify: bool = True
    #: Names the item that asks for it, where what is said back and forth is something new each time.
    item: str = ""

    def update_id(self, phase: Phase | None) -> str:
        """Names an update by all that it says, so that it is said once and none is taken for another one."""
        said = [self.text, phase, self.level, sorted(self.components), self.until and self.until.isoformat()]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Shown:
    """A notice, as the page has it now."""

    id: str
    #: For people; empty where the service does not say.
    url: str
    #: None where the service does not say.
    phase: Phase | None
    #: What was said of it so far, where that comes along.
    texts: tuple[str, ...] = ()
    #: When maintenance ends by itself, where the service says it.
    until: datetime | None = None
    #: Its components by their ids, and how they do in the service's own words, where it is ours to set them back.
    components: Mapping[str, str] = field(default_factory=dict)

    @property
    def proof(self) -> str:
        """Where a person finds it."""
        return self.url or self.id


def reference(key: str) -> str:
    """What stands on the page in the place of a key.

    >>> reference("runbook:20261129T020000Z-weekly_db-1a2b")
    'e2b4d0adb21d'
    """
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def check(params: Mapping[str, Any]) -> None:
    """Refuse options of ``change_status_page`` that do not fit together.

    :raises RunbookError: names the option and the fix
    """
    check_options(params, BACKENDS)
    state, backend = params["state"], params["backend"]
    act = STATES[state]
    for name in _OWN:
        given = params[name] not in (None, "", [])
        if given and name not in act.takes:
            able = ", ".join(each for each, other in STATES.items() if name in other.takes)
            raise RunbookError(f"{name}: state {state} has no use for it; take it out. It is for {able}.")
        if not given and name in act.needs:
            raise RunbookError(f"{name}: it is not set, and state {state} needs it; set it.")
    if state == "incident_updated" and bool(params["components"]) != bool(params["level"]):
        raise RunbookError("components, level: one is set without the other; set both, or neither.")
    if len(params["text"]) > MAX_TEXT:
        raise RunbookError("text: it is longer than the 25,000 letters that a status page takes; shorten it.")
    if state == ANNOUNCED and not params["announced_as"]:
        raise RunbookError(
            f"announced_as: it is not set, and state {state} needs it, so that the run that carries the maintenance "
            "out finds it; set it."
        )
    if params["announced_as"] and (act.kind != "maintenance" or not _KEY.fullmatch(params["announced_as"])):
        raise RunbookError(
            f"announced_as: {params['announced_as']!r} with state {state}; it names maintenance that another run "
            "announces, by at most 128 letters, digits, dots, dashes and underscores, a letter or digit first."
        )
    for name in params["components"]:
        if not _ID.fullmatch(name) or (backend == "cachet" and not name.isdecimal()):
            raise RunbookError(
                f"components: {name!r} is no id of a component on this page; copy it from the page's settings."
            )
    if state == "components_set" and backend == "upptime":
        raise RunbookError("state: components_set is nothing for backend upptime, which measures them itself; skip it.")
    repository, page = params["upptime_repository"], params["statuspage_page"]
    if repository and not _REPOSITORY.fullmatch(repository):
        raise RunbookError(f"upptime_repository: {repository!r} names none; write it as owner/name.")
    if page and not _ID.fullmatch(page):
        raise RunbookError(f"statuspage_page: {page!r} is no id of a page; copy it from the API tab of its settings.")


def times(params: Mapping[str, Any], now: datetime) -> tuple[datetime | None, datetime | None]:
    """When maintenance begins and ends, as far as the options say it; it begins now if they do not.

    :raises RunbookError: it would be over, or end before it begins
    """
    if not params["until"]:
        return None, None
    # Not every page knows parts of a second.
    until = moment.read("until", params["until"]).replace(microsecond=0)
    starts_at = moment.read("starts_at", params["starts_at"]) if params["starts_at"] else now.replace(microsecond=0)
    if until <= max(now, starts_at):
        raise RunbookError(f"until: {params['until']} is not after the beginning, or over; give a later end.")
    return starts_at, until


def text_of(state: str, text: str, starts_at: datetime | None, until: datetime | None) -> str:
    """What the page says: the inventory's text, or ours.

    >>> text_of("maintenance_started", "", None, datetime(2026, 11, 29, 4, tzinfo=UTC))
    'Scheduled maintenance is in progress. We expect it to end by Sunday 29 November 2026, 04:00 UTC.'
    """
    if text.strip():
        return text.strip()
    said = STATES[state].text.format(starts=_when(starts_at), until=_when(until))
    expects = state == "maintenance_started" and until is not None
    return f"{said} We expect it to end by {_when(until)}." if expects else said


def _when(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%A %-d %B %Y, %H:%M} UTC" if at else ""
