"""Silences of alerts for the time of a change: what they may cover, and how they are found again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.backend import Needs
from ansible.module_utils.runbook.rules.observe.access import Access

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BACKENDS = {
    "alertmanager": Needs(("alertmanager_url",), Access.options("alertmanager")),
    "grafana": Needs(("grafana_url", "grafana_token")),
}
#: States in which a silence is there; the other one is ``expired``.
OPEN = frozenset({"active", "pending"})


@dataclass(frozen=True)
class Matcher:
    """A condition on one label of an alert."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def __str__(self) -> str:
        """As PromQL writes it."""
        sign = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
        return f'{self.name}{sign[self.is_equal, self.is_regex]}"{self.value}"'

    def body(self) -> dict[str, Any]:
        """As the API takes it."""
        return {"name": self.name, "value": self.value, "isRegex": self.is_regex, "isEqual": self.is_equal}


def read_matchers(given: Iterable[Mapping[str, Any]]) -> frozenset[Matcher]:
    """All of which an alert has to meet.

    :raises RunbookError: there are none, or none says plainly what is meant, so that it might silence everything
    """
    found = frozenset(Matcher(each["name"], each["value"], each["is_regex"], each["is_equal"]) for each in given)
    if not any(each.value and each.is_equal and not each.is_regex for each in found):
        raise RunbookError(
            "matchers: none of them is a label with a plain value, so alerts that have nothing to do with the change "
            "might be silenced; give one such as {name: service, value: mental_scribe}."
        )
    return found


@dataclass(frozen=True)
class Silence:
    """One silence, as the service shows it."""

    id: str
    state: str
    until: datetime
    matchers: frozenset[Matcher]
    comment: str

    @classmethod
    def of(cls, body: Any) -> Silence | None:
        """The silence that the API tells; None where it is none that this code can read."""
        try:
            return cls(
                id=str(body["id"]),
                state=str(body["status"]["state"]),
                until=datetime.fromisoformat(body["endsAt"]).astimezone(UTC),
                matchers=frozenset(
                    # Before 0.22 there was no isEqual.
                    Matcher(each["name"], each["value"], each["isRegex"], each.get("isEqual", True))
                    for each in body["matchers"]
                ),
                comment=str(body["comment"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def bears(self, key: str) -> bool:
        """Whether it is open, and that of a change, or of one item of it.

        The key stands first in the comment, and a longer key than it is another one.

        :param key: the change's, for all of its items, or the item's
        """
        found = self.comment.split(" ", 1)[0]
        return self.state in OPEN and key in (found, found.partition("#")[0])
