"""What alerts did in a time, judged: false positives, flapping, alerts that fire for ever, never, or cannot fire."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.observe import promql, threshold
from ansible.module_utils.runbook.rules.observe.acts import Known, acted, tally
from ansible.module_utils.runbook.rules.observe.firings import flapping
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.observe.acts import Act
    from ansible.module_utils.runbook.rules.observe.firings import Firing, Flapping
    from ansible.module_utils.runbook.rules.observe.series import Rule

#: Of what an alert told, less than so much was worth telling.
LEAST_PRECISION = 0.5
#: Less of the asked time than this was watched: the rest is unknown.
LEAST_COVERAGE = 0.99
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Limits:
    """From when on something is said."""

    #: So many firings of which it is known whether somebody acted.
    min_samples: int
    #: So many firings of one set of labels within the window are flapping.
    flap_times: int
    flap_window_s: float
    #: An alert that fires longer than this is one that nobody ends.
    stuck_s: float


@dataclass
class Alert:
    """One alert in the time that was looked at."""

    name: str
    rules: list[Rule] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    #: For each firing.
    acts: list[Act] = field(default_factory=list)
    people: set[str] = field(default_factory=set)
    flaps: list[Flapping] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Firings that were acted on, that were not, and of which nobody knows."""
        return tally(self.acts)

    def precision(self, min_samples: int) -> float | None:
        """The share of firings that were acted on, of those of which that is known; None where they are too few."""
        did, did_not, _ = self.counts
        return did / (did + did_not) if did + did_not >= min_samples else None

    @property
    def always_fires(self) -> bool:
        """Whether it is made to fire for ever: it asks for no series, so that its end says that nobody watches."""
        return bool(self.rules) and not any(promql.selectors(each.query) for each in self.rules)

    @property
    def firing_s(self) -> float:
        """How long it fired in all, each set of labels by itself."""
        return sum(each.length_s for each in self.firings)

    @property
    def longest_s(self) -> float:
        """The longest of its firings."""
        return max((each.length_s for each in self.firings), default=0.0)

    @property
    def ended(self) -> int:
        """How many firings are over."""
        return sum(not each.goes_on for each in self.firings)

    def by_itself(self) -> int | None:
        """How many ended though nobody had acted; None where that is known of none."""
        known = [
            act for each, act in zip(self.firings, self.acts, strict=True) if act != "unknown" and not each.goes_on
        ]
        return known.count("not_acted") if known else None

    def result(self, *, min_samples: int, begin_s: float) -> dict[str, Any]:
        """As the module returns it."""
        did, did_not, nobody_knows = self.counts
        precision = self.precision(min_samples)
        return {
            "alert": self.name,
            "severity": ", ".join(sorted({(each.labels or {}).get("severity", "") for each in self.rules} - {""})),
            "firings": len(self.firings),
            "instances": len({each.labels for each in self.firings}),
            "firing_s": round(self.firing_s),
            "longest_s": round(self.longest_s),
            "mean_s": round(self.firing_s / len(self.firings)) if self.firings else None,
            "fires_now": sum(each.goes_on for each in self.firings),
            "ended_by_itself": self.by_itself(),
            "acted_on": did,
            "not_acted_on": did_not,
            "acted_on_unknown": nobody_knows,
            "people": sorted(self.people),
            "precision": None if precision is None else round(precision, 3),
            "flapped": len(self.flaps),
            "by_day": by_day(self.firings, begin_s),
        }


def by_day(found: Sequence[Firing], begin_s: float) -> list[int]:
    """How many firings began on each day since the begin; what fired before is not counted."""
    days: dict[int, int] = defaultdict(int)
    for each in found:
        if not each.began_before:
            days[int((each.begin_s - begin_s) // _DAY_S)] += 1
    return [days[day] for day in range(max(days, default=-1) + 1)]


def alerts(rules: Sequence[Rule], found: Sequence[Firing], known: Known, limits: Limits) -> list[Alert]:
    """Each alert that has a rule, or that fired; the one that fired most often first."""
    by_name: dict[str, Alert] = {}
    of_alert: dict[str, Known] = {}
    for rule in rules:
        by_name.setdefault(rule.name, Alert(rule.name)).rules.append(rule)
    for firing in found:
        alert = by_name.setdefault(firing.alert, Alert(firing.alert))
        if firing.alert not in of_alert:
            of_alert[firing.alert] = known.of(firing.alert)
        act, who = acted(firing, of_alert[firing.alert])
        alert.firings.append(firing)
        alert.acts.append(act)
        alert.people |= {who} - {""}
    for alert in by_name.values():
        alert.flaps = flapping(alert.firings, most=limits.flap_times, window_s=limits.flap_window_s)
    return sorted(by_name.values(), key=lambda each: (-len(each.firings), -each.firing_s, each.name))


def judge(
    looked: Sequence[Alert],
    limits: Limits,
    *,
    days: float,
    fired_before: frozenset[str] | None,
    empty: Mapping[str, str],
) -> Iterator[Finding]:
    """What is wrong with them.

    :param fired_before: alerts that fired at any time that Prometheus has kept; None where nobody knows
    :param empty: the query of each alert that has no series to look at, so that it can never fire
    """
    for alert in looked:
        yield from _of_rules(alert, empty.get(alert.name))
        yield from _of_firings(alert, limits, days)
    if fired_before is not None:
        for alert in looked:
            if alert.rules and not alert.firings and alert.name not in fired_before and alert.name not in empty:
                yield Finding(
                    id=finding_id("never_fired", alert.name), kind="never_fired", severity="info", object=alert.name,
                    evidence={}, risk="Say which incident it is for, and try it with promtool; or take it out.",
                    msg=f"{alert.name} never fired in all the time that Prometheus has kept.",
                )  # fmt: skip


def compared(looked: Sequence[Alert]) -> dict[str, list[str]]:
    """What alerts that did not fire compare with a number, with their names; each of the rules of a name."""
    found: dict[str, list[str]] = {}
    for alert in looked:
        try:
            queries = [] if alert.firings else [threshold.split(rule.query).left for rule in alert.rules]
        except RunbookError:
            # Of others nobody can tell; one that asks for what is absent is meant to be empty.
            continue
        for query in queries:
            found.setdefault(query, []).append(alert.name)
    return found


def _of_rules(alert: Alert, empty: str | None) -> Iterator[Finding]:
    broken = next((each for each in alert.rules if each.health == "err"), None)
    if broken is not None:
        yield Finding(
            id=finding_id("broken_rule", alert.name), kind="broken_rule", severity="critical", object=alert.name,
            evidence={"file": broken.file, "group": broken.group},
            msg=f"{alert.name} cannot be evaluated, so it will not fire: {broken.last_error[:200].rstrip('.')}.",
            risk=f"Correct the rule in {broken.file}.",
        )  # fmt: skip
    if empty:
        yield Finding(
            id=finding_id("no_series", alert.name), kind="no_series", severity="warning", object=alert.name,
            evidence={"query": empty},
            msg=f"{alert.name} cannot fire: its query has no series, {empty[:120]}.",
            risk="The metric may be renamed, or its exporter gone; correct the query, or watch it with absent().",
        )  # fmt: skip


def _of_firings(alert: Alert, limits: Limits, days: float) -> Iterator[Finding]:
    did, did_not, _ = alert.counts
    precision = alert.precision(limits.min_samples)
    if precision is not None and precision < LEAST_PRECISION:
        yield Finding(
            id=finding_id("false_positives", alert.name), kind="false_positives", severity="warning",
            object=alert.name, evidence={"acted_on": did, "not_acted_on": did_not, "precision": round(precision, 3)},
            msg=f"{alert.name}: nobody acted on {did_not} of {count(did + did_not, 'firing')} in {days:g} days.",
            risk="Judge each: raise the threshold, wait longer, page nobody for it, or take it out.",
        )  # fmt: skip
    if alert.flaps:
        most = max(alert.flaps, key=lambda each: each.times)
        yield Finding(
            id=finding_id("flapping", alert.name), kind="flapping", severity="warning", object=alert.name,
            evidence={"times": most.times, "within_s": round(most.end_s - most.begin_s), "labels": dict(most.labels)},
            msg=f"{alert.name} flaps: {most.times} firings of one instance within "
            f"{_hours(most.end_s - most.begin_s)}.",
            risk="Let it hold longer (for), end later (keep_firing_for), or ask an average.",
        )  # fmt: skip
    stuck = [each for each in alert.firings if each.goes_on and each.length_s >= limits.stuck_s]
    if stuck and not alert.always_fires:
        longest = max(stuck, key=lambda each: each.length_s)
        atleast = "at least " if longest.began_before else ""
        yield Finding(
            id=finding_id("fires_for_ever", alert.name), kind="fires_for_ever", severity="warning", object=alert.name,
            evidence={"instances": len(stuck), "longest_s": round(longest.length_s), "labels": dict(longest.labels)},
            msg=f"{alert.name} has been firing for {atleast}{_hours(longest.length_s)}, and nobody ended it.",
            risk="Mend what it tells of, or take it out: people learn to look past it.",
        )  # fmt: skip


def _hours(seconds: float) -> str:
    """A length of time as people say it.

    >>> _hours(90), _hours(7_200), _hours(300_000)
    ('2 minutes', '2 hours', '3 days')
    """
    for size_s, noun in ((_DAY_S * 2, "day"), (7_200.0, "hour"), (0.0, "minute")):
        if seconds >= size_s:
            per_s = {"day": _DAY_S, "hour": 3_600.0, "minute": 60.0}[noun]
            return count(round(seconds / per_s), noun)
    return "no time"


def not_judged(
    looked: Sequence[Alert], limits: Limits, known: Known, *, watched: float, days: float, missing: Sequence[str]
) -> Iterator[Unknown]:
    """What could not be judged, each with what would make it known.

    :param watched: the share of the asked time in which Prometheus had targets
    :param missing: why PagerDuty or Alertmanager could not be asked, a sentence each
    """
    if watched < LEAST_COVERAGE:
        yield Unknown(
            "history",
            f"Prometheus has {watched * 100:.1f} % of the {days:g} days that were asked for; before that, or in "
            "between, nobody knows what fired. Keep more (--storage.tsdb.retention.time), or ask for fewer days.",
        )
    for sentence in missing:
        yield Unknown("acted_on", sentence)
    few = [
        each.name
        for each in looked
        if each.firings and each.precision(limits.min_samples) is None and known.incidents is not None
    ]
    if few:
        yield Unknown(
            "precision",
            f"Of {count(len(few), 'alert')} it is known of fewer than {count(limits.min_samples, 'firing')} whether "
            "somebody acted: not enough to say how often they are right.",
            fixable=False,
        )
