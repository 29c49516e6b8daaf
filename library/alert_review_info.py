#!/usr/bin/python
"""Ansible module alert_review_info: what alerts did, and which thresholds would have done better."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_review_info
short_description: Tell which alerts fired, which of them people acted on, and which threshold would do better
description:
  - Reads from Prometheus' own series C(ALERTS) when each alert fired in the last O(days), and from PagerDuty's log and
    Alertmanager's silences whether somebody acted on it. A firing is a false positive only where PagerDuty tells of its
    incident and of nobody who touched it; what nobody knows is unknown.
  - Finds alerts on which nobody acts, that flap, that fire for ever, that never fired, that cannot be evaluated, and
    whose query has no series.
  - For a rule that compares with a number, and fired too often, it looks for the nearest threshold that would have
    removed such firings and missed no incident, by replaying what was measured. It is offered as a file of rules with
    tests for C(promtool), and a difference against the rules in use.
  - Times in which Prometheus itself was not there are told as coverage, and a firing that goes on over one is one.
  - Changes nothing.
options:
  days:
    description: How far back, in days, 1 to 92.
    type: int
    default: 7
  step_s:
    description: From one look at the past to the next, in seconds, 1 to 3600. What is shorter may not be seen.
    type: int
    default: 60
  min_samples:
    description: Of fewer firings of which it is known whether somebody acted nothing is said, 2 to 1000.
    type: int
    default: 5
  flap_times:
    description: So many firings of one set of labels within O(flap_window_s) are flapping, 2 to 1000.
    type: int
    default: 5
  flap_window_s:
    description: See O(flap_times), in seconds, 60 to 604800.
    type: int
    default: 86400
  stuck_s:
    description: An alert that has been firing for so many seconds is one that nobody ends, 3600 to 2592000.
    type: int
    default: 259200
  replica_labels:
    description:
      - Labels by which replicas of Prometheus are told apart where one place answers for several of them, as Thanos
        does. What two of them saw is one firing.
    type: list
    elements: str
    default: [prometheus_replica]
  timeout_s:
    description: Longest wait for one answer of a service, in seconds, 1 to 600.
    type: int
    default: 60
extends_documentation_fragment:
  - runbook_prometheus
  - runbook_alertmanager
  - runbook_pagerduty
attributes:
  check_mode:
    description: The same in check mode, since it only reads.
    support: full
  diff_mode:
    description: Nothing changes; how the offered rules differ stands in RV(rules_diff).
    support: none
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look back on a week of alerts
  alert_review_info:
    prometheus_url: http://prometheus.example.com:9090
    alertmanager_urls: [http://alertmanager.example.com:9093]
    pagerduty_api_token: "{{ pagerduty_api_token }}"
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "2 findings (2 warning) in 14 firings of 40 alerts in 7 days: flapping:DiskFull, false_positives:Latency."
status:
  description: V(breach) with a critical finding, V(unknown) where a source is missing or Prometheus has not kept all of
    the time, else V(ok).
  type: str
  returned: always
findings:
  description: What is wrong with alerts, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
findings_left_out:
  description: How many findings of which kind were left out.
  type: dict
  returned: always
unknown:
  description: What could not be judged, in the form of M(pg_index_info).
  type: list
  elements: dict
  returned: always
begin:
  description: Since when, as ISO 8601.
  type: str
  returned: always
end:
  description: Until when.
  type: str
  returned: always
days:
  description: As O(days).
  type: int
  returned: always
coverage:
  description: The share of that time in which Prometheus had targets, from 0 to 1.
  type: float
  returned: always
rules:
  description: How many alerts have rules.
  type: int
  returned: always
alerts:
  description: Those that fired, the most frequent first.
  type: list
  elements: dict
  returned: always
  contains:
    alert:
      description: Its name.
      type: str
    severity:
      description: The label of its rules.
      type: str
    firings:
      description: How often it fired, each set of labels by itself.
      type: int
    instances:
      description: With how many sets of labels.
      type: int
    firing_s:
      description: How long in all, in seconds.
      type: int
    longest_s:
      description: The longest firing.
      type: int
    mean_s:
      description: How long one is in the mean.
      type: int
    fires_now:
      description: How many go on.
      type: int
    ended_by_itself:
      description: How many ended though nobody had acted; null where nobody knows.
      type: int
    acted_on:
      description: On how many somebody acted.
      type: int
    not_acted_on:
      description: On how many it is known that nobody did.
      type: int
    acted_on_unknown:
      description: Of how many nobody knows.
      type: int
    people:
      description: Who acted.
      type: list
    precision:
      description: RV(alerts[].acted_on) of those that are known; null where they are fewer than O(min_samples).
      type: float
    flapped:
      description: How often it flapped.
      type: int
    by_day:
      description: How many began on each day since RV(begin).
      type: list
silent:
  description: Alerts with a rule that did not fire.
  type: list
  elements: str
  returned: always
thresholds:
  description: Thresholds that are offered, with today's, and how often the alert fires with each.
  type: list
  elements: dict
  returned: always
no_threshold:
  description: Alerts with firings that nobody acted on, and why no threshold is offered for each.
  type: list
  elements: dict
  returned: always
rules_text:
  description: The offered file of rules, line by line.
  type: list
  elements: str
  returned: always
rules_test_text:
  description: Its tests for C(promtool test rules).
  type: list
  elements: str
  returned: always
replay_text:
  description: Offered rules whose expression no test can give values to, with a series in the place of it.
  type: list
  elements: str
  returned: always
replay_test_text:
  description: Their tests.
  type: list
  elements: str
  returned: always
rules_diff:
  description: How the offered rules differ from those that Prometheus evaluates.
  type: list
  elements: str
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.observe import alertmanager, pagerduty, prometheus
from ansible.module_utils.runbook.drivers.observe.alertmanager import Alertmanager
from ansible.module_utils.runbook.drivers.observe.pagerduty import PagerDuty
from ansible.module_utils.runbook.drivers.observe.prometheus import Prometheus
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.capacity.alerts import difference
from ansible.module_utils.runbook.rules.findings import Unknown
from ansible.module_utils.runbook.rules.observe import alert_review, firings, threshold
from ansible.module_utils.runbook.rules.observe.acts import DELAY_S, Known
from ansible.module_utils.runbook.rules.observe.alert_review import Limits
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.rules.observe.alert_review import Alert
    from ansible.module_utils.runbook.rules.observe.firings import Firing
    from ansible.module_utils.runbook.rules.observe.series import Rule
    from ansible.module_utils.runbook.rules.observe.threshold import Proposal

NAME = "alert_review_info"
BOUNDS = {
    "days": (1, 92),
    "step_s": (1, 3600),
    "min_samples": (2, 1000),
    "flap_times": (2, 1000),
    "flap_window_s": (60, 604_800),
    "stuck_s": (3600, 2_592_000),
    "timeout_s": (1, 600),
}
RULES_FILE, REPLAY_FILE = "alert_rules.yml", "alert_rules_replay.yml"
#: Queries that are put into one question.
_AT_ONCE = 50
#: For how long a query has to be without series, and how often it is looked at.
_EMPTY_FOR, _EMPTY_STEP = "1d", "15m"


@dataclass(frozen=True)
class Time:
    """The time that is looked at."""

    begin: datetime
    end: datetime
    step_s: float

    @property
    def ends_s(self) -> tuple[float, float]:
        """Its begin and end in seconds since 1970."""
        return self.begin.timestamp(), self.end.timestamp()


def core(context: Context) -> dict[str, Any]:
    """Look back, judge, offer."""
    params, started = context.params, time.monotonic()
    context.require_bounds(BOUNDS)
    service = Prometheus.from_params(params, timeout_s=params["timeout_s"])
    step_s = float(params["step_s"])
    end_s = datetime.now(UTC).timestamp() // step_s * step_s
    end = datetime.fromtimestamp(end_s, UTC)
    asked = Time(end - timedelta(days=params["days"]), end, step_s)
    context.progress.update("firings", 0, 4, "steps")
    rules = [each for each in service.rules() if each.kind == "alerting"]
    blind, fired = _fired(service, asked, params["replica_labels"])
    context.progress.update("acts", 1, 4, "steps")
    known, missing = _known(service, params, asked)
    limits = Limits(params["min_samples"], params["flap_times"], params["flap_window_s"], params["stuck_s"])
    looked = alert_review.alerts(rules, fired, known, limits)
    watched = firings.coverage(blind, begin_s=asked.ends_s[0], end_s=asked.ends_s[1])
    context.progress.update("queries", 2, 4, "steps")
    silent: list[str] = []
    fired_before = _fired_before(service, asked, silent)
    empty = _empty(service, looked, asked, silent)
    found = list(
        alert_review.judge(
            looked, limits, days=params["days"], fired_before=fired_before, empty=empty,
        )
    )  # fmt: skip
    unknown = [
        *alert_review.not_judged(looked, limits, known, watched=watched, days=params["days"], missing=missing),
        *(Unknown("queries", each) for each in silent),
        *([] if rules else [Unknown("rules", "Prometheus has no alert rule, so nobody is told of anything by it.")]),
    ]
    context.progress.update("thresholds", 3, 4, "steps")
    offered, refused = _thresholds(service, looked, asked, params["min_samples"])
    with_rules = sum(bool(each.rules) for each in looked)
    of = f"{count(len(fired), 'firing')} of {count(with_rules, 'alert')} in {count(params['days'], 'day')}"
    result = findings.results(found, unknown, of=of)
    result |= {
        "begin": asked.begin.isoformat(),
        "end": asked.end.isoformat(),
        "days": params["days"],
        "coverage": round(watched, 4),
        "rules": with_rules,
        "alerts": [
            each.result(min_samples=limits.min_samples, begin_s=asked.ends_s[0]) for each in looked if each.firings
        ],
        "silent": [each.name for each in looked if not each.firings],
        "thresholds": [_told(each) for each in offered],
        "no_threshold": refused,
        "duration_s": round(time.monotonic() - started, 3),
    }
    result |= _files(offered, step_s)
    critical = [each["msg"] for each in result["findings"] if each["severity"] == "critical"]
    # What a person has to hear at once; the report has the rest.
    result["msg"] = " ".join([result["msg"], *critical[:3]])
    return context.conclude(result["status"], fail_on_breach=False, fail_on_unknown=False, **result)


def _fired(service: Prometheus, asked: Time, replicas: Sequence[str]) -> tuple[list[firings.Span], list[Firing]]:
    """When Prometheus was not there, and what fired."""
    step_s = asked.step_s
    begin_s, end_s = asked.ends_s

    def over(query: str) -> list[Any]:
        return service.over_time(query, begin=asked.begin, end=asked.end, step_s=step_s)

    blind = firings.gaps(over(firings.BLIND), step_s=step_s)
    found = firings.firings(
        service.now(firings.query(replicas), at=asked.begin),
        over(firings.begun_query(step_s, replicas)),
        over(firings.ended_query(step_s, replicas)),
        blind, begin_s=begin_s, end_s=end_s, step_s=step_s,
    )  # fmt: skip
    return blind, found


def _fired_before(service: Prometheus, asked: Time, silent: list[str]) -> frozenset[str] | None:
    """Alerts that fired at any time that is kept; None where Prometheus cannot say.

    :param silent: gets why it gave no answer
    """
    try:
        said = service.label_values(
            "alertname", firings.FIRING, begin=asked.end - timedelta(days=3650), end=asked.end
        )  # fmt: skip
    except RunbookError as error:
        silent.append(f"Which alerts never fired is not known: {error.message}")
        return None
    return frozenset(said)


def _known(service: Prometheus, params: dict[str, Any], asked: Time) -> tuple[Known, list[str]]:
    """What is known of what people did, and why the rest is not."""
    missing: list[str] = []
    incidents = silences = None
    since = asked.begin - timedelta(seconds=DELAY_S)
    account = PagerDuty.from_params(params, timeout_s=params["timeout_s"])
    if account is None:
        missing.append(
            "PagerDuty is not named (pagerduty_api_token), so of firings that nobody silenced it is unknown whether "
            "somebody acted."
        )
    else:
        try:
            incidents = account.log(begin=since, end=asked.end)
        except RunbookError as error:
            missing.append(f"What people did is not known from PagerDuty: {error.message}")
    for each in Alertmanager.from_params(params, timeout_s=params["timeout_s"]):
        # A cluster shares its silences, so one that answers does.
        try:
            silences = each.silenced()
            break
        except RunbookError as error:
            missing.append(f"Silences that people set are not known from {each.url}: {error.message}")
    external: dict[str, str] = {}
    with suppress(RunbookError):
        # A proxy may show nobody the configuration.
        external = service.external_labels() if silences else {}
    return Known(incidents, silences, since.timestamp(), external), missing


def _empty(service: Prometheus, looked: Sequence[Alert], asked: Time, silent: list[str]) -> dict[str, str]:
    """The query of each alert whose comparison has had nothing to look at for a day.

    :param silent: gets why Prometheus gave no answer
    """
    of = alert_review.compared(looked)
    queries = list(of)
    there: set[str] = set()
    why: dict[str, None] = {}
    for first in range(0, len(queries), _AT_ONCE):
        some = queries[first : first + _AT_ONCE]
        try:
            there |= _with_series(service, some, asked)
        except RunbookError:
            # One of them breaks all, so each by itself; of the one nothing is said.
            for query in some:
                try:
                    there |= _with_series(service, [query], asked)
                except RunbookError as error:
                    there.add(query)
                    if error.code != prometheus.REFUSED:
                        why[error.message] = None
    silent += [f"Whether the queries of alerts that did not fire have series is not known: {each}" for each in why]
    return {name: query for query in queries if query not in there for name in of[query]}


def _with_series(service: Prometheus, queries: Sequence[str], asked: Time) -> set[str]:
    question = " or ".join(
        f'label_replace(count(last_over_time(({query})[{_EMPTY_FOR}:{_EMPTY_STEP}])), "n", "{number}", "", "")'
        for number, query in enumerate(queries)
    )
    return {queries[int(each.labels["n"])] for each in service.now(question, at=asked.end)}


def _thresholds(
    service: Prometheus, looked: Sequence[Alert], asked: Time, min_samples: int
) -> tuple[list[Proposal], list[dict[str, str]]]:
    """Thresholds to offer, and why there is none for other alerts on which people do not act."""
    offered: list[Proposal] = []
    refused: list[dict[str, str]] = []
    for alert in looked:
        if "not_acted" not in alert.acts:
            continue
        try:
            if len(alert.rules) != 1:
                raise RunbookError(f"{count(len(alert.rules), 'rule')} have its name")
            offered.append(_propose(service, alert, asked, min_samples))
        except RunbookError as error:
            refused.append({"alert": alert.name, "why": f"{error.message.rstrip('.')}."})
    return offered, refused


def _propose(service: Prometheus, alert: Alert, asked: Time, min_samples: int) -> Proposal:
    (rule,) = alert.rules
    simple = threshold.split(rule.query)
    series = service.over_time(simple.left, begin=asked.begin, end=asked.end, step_s=asked.step_s)
    _require_same(service, rule, simple, asked)
    begin_s, end_s = asked.ends_s
    past = threshold.Past(series, alert.firings, alert.acts, begin_s, end_s, asked.step_s)
    return threshold.propose(rule, past, min_samples=min_samples)


def _require_same(service: Prometheus, rule: Rule, simple: threshold.Simple, asked: Time) -> None:
    """Refuse a comparison that Prometheus reads otherwise: both sides are asked, and have to agree."""
    left, whole = service.now(simple.left, at=asked.end), service.now(rule.query, at=asked.end)
    ours = {each.key for each in left if simple.holds(each.last, simple.number)}
    if ours != {each.key for each in whole}:
        raise RunbookError("its expression and what was read of it give other series", status=Status.UNKNOWN)


def _told(proposal: Proposal) -> dict[str, Any]:
    return {
        "alert": proposal.rule.name,
        "query": proposal.rule.query,
        "today": proposal.simple.number,
        "offered": proposal.number,
        "firings_before": proposal.before,
        "firings_after": proposal.after,
        "removed": proposal.removed,
        "incidents": proposal.incidents,
        "incidents_missed": 0,
        "delay_s": round(proposal.delay_s),
    }


def _files(offered: Sequence[Proposal], step_s: float) -> dict[str, list[str]]:
    """The offered rules, their tests, and how they differ from those in use."""
    head = "Rules with other thresholds, made by monitoring.yml from what was measured; put them in the place of yours."
    today = threshold.rule_file([(each.rule, each.rule.query) for each in offered], head)
    rules = threshold.rule_file([(each.rule, each.query) for each in offered], head)
    plain = [each for each in offered if threshold.is_plain(each)]
    rest = [each for each in offered if not threshold.is_plain(each)]
    replayed = [
        (each.rule, f"{threshold.replayed_metric(each)} {each.simple.operator} {each.number:g}") for each in rest
    ]
    replay = threshold.rule_file(
        replayed,
        f"For the test alone: in the place of its expression each rule asks a series. {RULES_FILE} is offered.",
    )
    test = threshold.test_file(plain, rule_file_name=RULES_FILE, step_s=step_s, replayed=False)
    replay_test = threshold.test_file(rest, rule_file_name=REPLAY_FILE, step_s=step_s, replayed=True)
    return {
        "rules_text": rules.splitlines() if offered else [],
        "rules_test_text": test.splitlines() if plain else [],
        "replay_text": replay.splitlines() if rest else [],
        "replay_test_text": replay_test.splitlines() if rest else [],
        "rules_diff": difference(today, rules, name=RULES_FILE),
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name=NAME, argument_spec=argument_spec())


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        prometheus.argument_spec()
        | alertmanager.argument_spec()
        | pagerduty.argument_spec()
        | {
            "days": {"type": "int", "default": 7},
            "step_s": {"type": "int", "default": 60},
            "min_samples": {"type": "int", "default": 5},
            "flap_times": {"type": "int", "default": 5},
            "flap_window_s": {"type": "int", "default": 86_400},
            "stuck_s": {"type": "int", "default": 259_200},
            "replica_labels": {"type": "list", "elements": "str", "default": ["prometheus_replica"]},
            "timeout_s": {"type": "int", "default": 60},
        }
    )


if __name__ == "__main__":
    main()
