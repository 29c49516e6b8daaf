"""What ends what a module of a change opened, where its playbook does not come to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class _Thing:
    """A module that opens something, by its option ``state``."""

    #: States that open it.
    opening: frozenset[str]
    #: The state that ends it, and is taken where nothing else is said.
    end: str
    #: States after which there is nothing to end.
    ending: frozenset[str]
    #: The line of the checklists that asks for its end.
    line: str


def _thing(opening: str, end: str, *also: str, line: str = "") -> _Thing:
    return _Thing(frozenset(opening.split()), end, frozenset({end, *also}), line)


#: In the order in which they are ended. An incident is not among them: it lasts until a person resolves it.
_THINGS = {
    "maintenance_mode": _thing("on", "off", line="maintenance_mode_off"),
    "change_silence": _thing("present", "absent", line="silence_removed"),
    "change_status_page": _thing(
        "maintenance_scheduled maintenance_started maintenance_updated", "maintenance_ended", line="status_page_updated"
    ),
    "change_ticket": _thing("opened commented", "left_open", "closed"),
}
#: Options that say what is opened, and mean nothing to its end.
_OF_OPENING = {
    "title", "text", "until", "starts_at", "matchers", "comment", "probe_text", "announced_as", "components", "level",
    "phase",
}  # fmt: skip
#: How an item is called that the end of a run answers, after the module.
_END = "_end"
#: What begins a change, and closes it.
OPEN, CLOSE = "change_open", "change_close"
#: What sees whether something was left out.
CHECK = "change_check"
#: The ticket, which is ended last: it gets the report.
TICKET = "change_ticket"


def end_of(module: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Options with which a module ends what a call of it with ``options`` opened; None where that opened nothing.

    >>> end_of("maintenance_mode", {"state": "on", "item": "mode_on", "until": "2026-11-29T04:00:00Z"})
    {'state': 'off', 'item': 'maintenance_mode_end', 'blocks': True}
    >>> end_of("change_status_page", {"state": "maintenance_announced", "announced_as": "quarterly-2026-12-06"})
    """
    thing = _THINGS.get(module)
    if thing is None or options.get("state") not in thing.opening:
        return None
    kept = {name: value for name, value in options.items() if name not in _OF_OPENING}
    return kept | {"state": thing.end, "item": f"{module}{_END}", "blocks": True}


def line_of(item: str) -> str:
    """The line of the checklists that an item answers; the end of a run answers for tasks that were not reached.

    >>> line_of("maintenance_mode_end"), line_of("health:db1")
    ('maintenance_mode_off', 'health:db1')
    """
    thing = _THINGS.get(item.removesuffix(_END)) if item.endswith(_END) else None
    return thing.line if thing is not None and thing.line else item


def hint(module: str, host: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the process that outlives the run has to know before a module begins; None where it may open nothing.

    :param host: inventory host of the task
    """
    if module == OPEN:
        return {"host": host, "options": store_of(options)}
    end = end_of(module, {name: value for name, value in options.items() if value is not None})
    return None if end is None else {"host": host, "options": end}


def store_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a module's options those that name the state store."""
    return {name: value for name, value in options.items() if name.startswith("state_") and value is not None}


def is_end(module: str, options: Mapping[str, Any]) -> bool:
    """Whether a call of a module with ``options`` ends what it opened."""
    return module in _THINGS and options.get("state") in _THINGS[module].ending


def in_order(modules: Mapping[str, Any]) -> list[str]:
    """Modules in the order in which what they opened is ended."""
    return [module for module in (*_THINGS, CHECK) if module in modules]
