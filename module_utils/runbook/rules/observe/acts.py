"""What people did about alerts: what PagerDuty's log and the silences of Alertmanager say of it.

Nobody is known to have done nothing unless PagerDuty tells of the incident and of all that happened to it. So a firing
is acted on, not acted on, or nobody knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.change.silence import Matcher
    from ansible.module_utils.runbook.rules.observe.firings import Firing

Act = Literal["acted", "not_acted", "unknown"]
#: What Alertmanager waits for, and what lies on the way to PagerDuty: an incident may begin so much after its alert.
DELAY_S = 900.0


@dataclass(frozen=True)
class Incident:
    """An incident of PagerDuty, as its log tells it."""

    id: str
    title: str
    begin_s: float
    #: None while it is open.
    end_s: float | None = None
    #: Who acknowledged, resolved, reassigned or annotated it; nobody where it was only the integration.
    people: tuple[str, ...] = ()

    def names(self, alert: str) -> bool:
        """Whether its title has the alert's name as a word.

        >>> Incident("1", "[FIRING:1] DiskFull (db1)", 0).names("DiskFull")
        True
        >>> Incident("1", "[FIRING:1] DiskFullSoon (db1)", 0).names("DiskFull")
        False
        """
        # Of thousands most do not have it at all.
        return alert in self.title and re.search(rf"(?<![\w:]){re.escape(alert)}(?![\w:])", self.title) is not None


@dataclass(frozen=True)
class Silenced:
    """A silence of Alertmanager that somebody set."""

    matchers: frozenset[Matcher]
    by: str
    begin_s: float

    def covers(self, firing: Firing, external: Mapping[str, str]) -> bool:
        """Whether it was set while the alert fired, and is for it.

        :param external: labels that Prometheus gives its alerts on their way, and not its own series
        """
        labels = {**external, **dict(firing.labels)}
        return firing.begin_s <= self.begin_s <= firing.end_s and all(
            _matches(each, labels.get(each.name, "")) for each in self.matchers
        )


def _matches(matcher: Matcher, value: str) -> bool:
    if not matcher.is_regex:
        return (value == matcher.value) is matcher.is_equal
    try:
        return (re.fullmatch(matcher.value, value) is not None) is matcher.is_equal
    except re.error:
        # RE2 knows a few things that Python does not.
        return False


@dataclass(frozen=True)
class Known:
    """What is known of what people did; None where nobody could be asked."""

    incidents: Sequence[Incident] | None
    silences: Sequence[Silenced] | None
    #: From when on PagerDuty's log was read.
    since_s: float = 0.0
    #: Labels that Prometheus gives all its alerts on their way to Alertmanager.
    external: Mapping[str, str] = field(default_factory=dict)

    def of(self, alert: str) -> Known:
        """The same with the incidents of one alert alone."""
        if self.incidents is None:
            return self
        return replace(self, incidents=[each for each in self.incidents if each.names(alert)])


def acted(firing: Firing, known: Known) -> tuple[Act, str]:
    """Whether somebody acted on a firing, and who.

    :param known: of its alert alone
    """
    found = [each for each in known.incidents or () if _meet(firing, each)]
    people = sorted({name for each in found for name in each.people})
    people += sorted({each.by for each in known.silences or () if each.covers(firing, known.external)} - set(people))
    if people:
        return "acted", ", ".join(people)
    # One that is open may still be acted on; one that began before the log may have been.
    whole = found and all(each.end_s is not None and each.begin_s >= known.since_s for each in found)
    return ("not_acted" if whole else "unknown"), ""


def _meet(firing: Firing, incident: Incident) -> bool:
    end_s = float("inf") if incident.end_s is None else incident.end_s
    return incident.begin_s <= firing.end_s + DELAY_S and end_s >= firing.begin_s


def tally(acts: Iterable[Act]) -> tuple[int, int, int]:
    """How many were acted on, were not, and of how many nobody knows."""
    given = list(acts)
    return given.count("acted"), given.count("not_acted"), given.count("unknown")
