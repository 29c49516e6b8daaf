#!/usr/bin/python
"""Ansible module dashboard_info: what dashboards and alert rules no longer show."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dashboard_info
short_description: Find panels that show nothing, metrics that are gone, and services that nobody sees
description:
  - Reads Grafana's dashboards, from folders or from its API, and asks Prometheus each query of their panels, as Grafana
    would. A variable counts with the value that the dashboard was saved with; without one the panel is V(unknown).
  - Finds panels whose query gave nothing in O(days) days, and metrics without a sample for an hour, with the name that
    they may have now.
  - Finds alert rules of Prometheus that cannot be evaluated or that ask for such a metric, so that they cannot fire;
    each is a critical finding, and makes the result a breach.
  - Finds services of which no panel shows the rate of requests, their errors or their duration.
  - Panels that ask another data source are named and not judged. Changes nothing.
options:
  folders:
    description: Folders with dashboards as JSON, on this machine.
    type: list
    elements: path
    default: []
  grafana_url:
    description: Address of Grafana.
    type: str
  grafana_token:
    description: Token of a service account with the role Viewer. Keep it in Ansible Vault.
    type: str
  grafana_ca_cert:
    description: File with the certificate authorities that are trusted for it instead of the system's.
    type: path
  services:
    description: Services that should be seen, in the form of M(sla_info); those with C(labels) are looked for.
    type: list
    elements: dict
    default: []
  days:
    description: What gave nothing in so many days is empty, 1 to 92.
    type: int
    default: 30
  timeout_s:
    description: Longest wait for one answer of a service, in seconds, 1 to 600.
    type: int
    default: 30
  deadline_s:
    description: What was not asked so many seconds after the beginning is unknown, 1 to 86400.
    type: int
    default: 900
extends_documentation_fragment: runbook_prometheus
attributes:
  check_mode:
    support: full
    description: It reads only, so it does the same.
  diff_mode:
    support: none
    description: It changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Do our dashboards still show what they should
  dashboard_info:
    prometheus_url: https://prometheus.example.com
    grafana_url: https://grafana.example.com
    grafana_token: "{{ grafana_token }}"
    folders: [monitoring/dashboards]
    services:
      - {name: api, labels: {job: api}}
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
status:
  description: V(breach) with a critical finding, V(unknown) where something could not be judged that could be, else
    V(ok).
  type: str
  returned: always
findings:
  description: Empty panels (V(panel_empty)), metrics that are gone (V(metric_gone)), alerts that cannot fire
    (V(alert_blind)), rules that cannot be evaluated (V(rule_failing)), and services that no panel shows
    (V(service_unseen)); in the form of M(pg_index_info).
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
dashboards:
  description: Each dashboard with C(title), C(panels), C(queries), and as C(empty) and C(unknown) how many panels gave
    nothing or were not judged.
  type: list
  elements: dict
  returned: always
rules:
  description: How many rules Prometheus has; null where it does not say.
  type: int
  returned: always
metrics:
  description: How many metrics panels and rules ask for.
  type: int
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.observe import grafana, prometheus
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.findings import Finding, Unknown
from ansible.module_utils.runbook.rules.observe import dashboards as rules
from ansible.module_utils.runbook.rules.observe import promql
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.observe.grafana import Found
    from ansible.module_utils.runbook.rules.observe.dashboards import Query
    from ansible.module_utils.runbook.rules.observe.series import Rule

NAME = "dashboard_info"
BOUNDS = {"days": (1, 92), "timeout_s": (1, 600), "deadline_s": (1, 86_400)}
#: Between two moments at which a panel is asked about its past.
STEP_S = 3_600
#: A metric without a sample for so long is gone.
GONE = timedelta(hours=1)
#: Metrics that one question names.
MANY = 50


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        prometheus.argument_spec()
        | grafana.argument_spec()
        | {
            "folders": {"type": "list", "elements": "path", "default": []},
            "services": {"type": "list", "elements": "dict", "default": []},
            "days": {"type": "int", "default": 30},
            "timeout_s": {"type": "int", "default": 30},
            "deadline_s": {"type": "int", "default": 900},
        }
    )


@dataclass
class Seen:
    """What was found out."""

    findings: list[Finding] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    dashboards: list[dict[str, Any]] = field(default_factory=list)
    #: Queries that gave something, or could.
    asked: list[Query] = field(default_factory=list)
    rules: list[Rule] | None = None


def core(context: Context) -> dict[str, Any]:
    """Read, ask, judge."""
    context.require_bounds(BOUNDS)
    params, started = context.params, time.monotonic()
    if not params["folders"] and not params["grafana_url"]:
        raise RunbookError("folders, grafana_url: both are empty; say where the dashboards are.")
    look = Look(context)
    for name, found in _dashboards(params, look.seen):
        look.at_dashboard(name, found)
    look.at_rules()
    look.at_metrics()
    look.at_services(params["services"])
    seen = look.seen
    panels = sum(each["panels"] for each in seen.dashboards)
    result = findings.results(
        seen.findings, seen.unknown, of=f"{count(len(seen.dashboards), 'dashboard')} with {count(panels, 'panel')}"
    )
    return context.conclude(
        result["status"],
        fail_on_breach=False,
        fail_on_unknown=False,
        **result,
        dashboards=seen.dashboards,
        rules=None if seen.rules is None else len(seen.rules),
        metrics=len(look.used),
        duration_s=round(time.monotonic() - started, 3),
    )


def _dashboards(params: Mapping[str, Any], seen: Seen) -> Iterator[Found]:
    """All dashboards of folders and of Grafana."""
    for folder in params["folders"]:
        yield from grafana.files(folder)
    api = grafana.client(params)
    if api is None:
        return
    try:
        yield from grafana.served(api)
    except ApiError as error:
        seen.unknown.append(Unknown("grafana", error.message))


class Look:
    """Looks at one thing after the other; what Prometheus does not say hides nothing else."""

    def __init__(self, context: Context) -> None:
        params = context.params
        self._api = prometheus.Prometheus.from_params(params, timeout_s=params["timeout_s"])
        self._progress = context.progress
        self._clock = Clock(params["deadline_s"])
        self._now = datetime.now(UTC)
        self._days = int(params["days"])
        self.seen = Seen()
        #: By metric, the panels and rules that ask for it.
        self.used: dict[str, list[str]] = {}
        #: By dashboard, the metrics that its panels ask for.
        self.of: dict[str, set[str]] = {}

    def at_dashboard(self, name: str, found: dict[str, Any] | RunbookError) -> None:
        """Ask what its panels ask."""
        try:
            if isinstance(found, RunbookError):
                raise found
            listed = rules.queries(found)
        except RunbookError as error:
            self.seen.unknown.append(Unknown("dashboard", error.message))
            return
        except (AttributeError, LookupError, TypeError, ValueError):
            self.seen.unknown.append(Unknown("dashboard", f"{name} is no dashboard of Grafana."))
            return
        panels: dict[str, list[Query]] = {}
        for query in listed:
            panels.setdefault(query.where, []).append(query)
        states = Counter(self._at_panel(where, queries) for where, queries in panels.items())
        self.seen.dashboards.append(
            {
                "title": str(found["title"]), "panels": len(panels), "queries": len(listed),
                "empty": states["empty"], "unknown": states["unknown"],
            }
        )  # fmt: skip

    def _at_panel(self, where: str, queries: Sequence[Query]) -> str:
        """Whether a panel is ``shown``, ``empty`` or ``unknown``."""
        self._progress.update("panels", len(self.seen.asked), None, "queries")
        empty: list[Query] = []
        why_not: list[tuple[str, bool]] = []
        for query in queries:
            if query.why_not:
                why_not.append((query.why_not, query.fixable))
                continue
            self.seen.asked.append(query)
            for metric in promql.metrics(query.text):
                self.used.setdefault(metric, []).append(where)
                self.of.setdefault(_dashboard(where), set()).add(metric)
            try:
                empty += [] if self._gives(query.text) else [query]
            except RunbookError as error:
                why_not.append((error.message.rstrip("."), True))
        for said, fixable in dict.fromkeys(why_not):
            self.seen.unknown.append(Unknown("panel", f"{where}: {said}.", fixable=fixable))
        if empty:
            self.seen.findings.append(rules.empty_panel(where, empty, of=len(queries), days=self._days))
        return "empty" if len(empty) == len(queries) else "unknown" if why_not else "shown"

    def _gives(self, query: str) -> bool:
        """Whether a query gives anything, now or in the days before."""
        self._require_time()
        if self._api.now(query, at=self._now):
            return True
        begin = self._now - timedelta(days=self._days)
        return bool(self._api.over_time(query, begin=begin, end=self._now, step_s=STEP_S))

    def at_rules(self) -> None:
        """Which metrics rules ask for, and which rules fail."""
        try:
            self.seen.rules = self._api.rules()
        except RunbookError as error:
            self.seen.unknown.append(Unknown("rules", error.message))
            return
        for rule in self.seen.rules:
            if rule.health == "err":
                self.seen.findings.append(rules.failing_rule(rule.name, rule.last_error))

    def at_metrics(self) -> None:
        """Which metrics are gone, and which alerts are blind without them."""
        listed = self.seen.rules or ()
        names = sorted({*self.used, *rules.alert_metrics(listed)})
        for name in names:
            self.used.setdefault(name, [])
        try:
            there = self._there(names)
            gone = [name for name in names if name not in there]
            known = sorted(self._api.label_values("__name__", begin=self._now - GONE, end=self._now)) if gone else []
        except RunbookError as error:
            self.seen.unknown.append(Unknown("metrics", error.message))
            return
        whole = {name: asked for name, asked in self.of.items() if len(asked) >= rules.MANY_GONE and asked <= {*gone}}
        # What is told of a dashboard as a whole is not told again of each panel.
        self.seen.findings = [
            each for each in self.seen.findings if each.kind != "panel_empty" or _dashboard(each.object) not in whole
        ]
        self.seen.findings += [rules.missing_dashboard(name, asked) for name, asked in sorted(whole.items())]
        shown = {
            name: places
            for name in gone
            if (places := [each for each in dict.fromkeys(self.used[name]) if _dashboard(each) not in whole])
        }
        self.seen.findings += rules.missing_metrics(shown, known)
        for alert, missing in sorted(rules.blind(listed, frozenset(gone)).items()):
            self.seen.findings.append(rules.broken_rule(alert, sorted(missing), known))

    def _there(self, names: Sequence[str]) -> set[str]:
        """Which of these metrics had a sample within the last hour."""
        found: set[str] = set()
        hours = int(GONE.total_seconds() // 3_600)
        for at in range(0, len(names), MANY):
            self._require_time()
            pattern = "|".join(re.escape(name) for name in names[at : at + MANY])
            selector = f"{{__name__=~{promql.quoted(pattern)}}}"
            query = f"count by (__name__) (last_over_time({selector}[{hours}h]))"
            found |= {each.labels.get("__name__", "") for each in self._api.now(query, at=self._now)}
        return found

    def at_services(self, services: Iterable[Mapping[str, Any]]) -> None:
        """Which signals of which services no panel shows."""
        shows = [signal for query in self.seen.asked for signal in rules.signals(query.text)]
        for service in services:
            labels = {str(name): str(value) for name, value in (service.get("labels") or {}).items()}
            if not labels:
                continue
            try:
                lacking = [name for name in rules.SIGNALS if not self._is_shown(name, labels, shows)]
            except RunbookError as error:
                self.seen.unknown.append(Unknown("services", error.message))
                return
            if lacking:
                self.seen.findings.append(rules.unseen(str(service["name"]), lacking))

    def _is_shown(
        self, signal: str, labels: Mapping[str, str], shows: Sequence[tuple[str, promql.Selector]]
    ) -> bool:  # fmt: skip
        asked = {each.with_labels(labels) for name, each in shows if name == signal and each.may_take(labels)}
        return any(self._gives(query) for query in sorted(asked))

    def _require_time(self) -> None:
        if self._clock.is_over():
            raise RunbookError(
                "it was not asked within deadline_s; give more, or look at fewer dashboards at once",
                status=Status.UNKNOWN,
            )


def _dashboard(where: str) -> str:
    """The dashboard of a panel."""
    return where.partition(" / ")[0]


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name=NAME, argument_spec=argument_spec())


if __name__ == "__main__":
    main()
