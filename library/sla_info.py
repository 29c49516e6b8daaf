#!/usr/bin/python
"""Ansible module sla_info: whether services were as available as they promise."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sla_info
short_description: Tell how available services were, and what is left of their error budgets
description:
  - Asks Prometheus how much of a calendar month, or of the days before today, each service was available, in pieces of
    five minutes. Days begin at midnight in UTC.
  - Says how sure that is, by the samples that there are of those that there should be. Below O(min_coverage_percent) a
    level is V(unknown), unless it is missed even if all was well where samples are missing. So a month is not judged by
    the fifteen days that Prometheus has kept.
  - Tells each level with and without planned maintenance, and judges the one without. Planned is what a run of this
    project changed within a window of O(calendar); a window in which nothing was done is not taken off.
  - Tells what is left of the error budget, and how fast it burns just now, over the pairs of windows of the Site
    Reliability Workbook, U(https://sre.google/workbook/alerting-on-slos/).
  - A level that is missed and a budget that burns too fast are critical findings, and make the result a breach.
  - Changes nothing.
options:
  services:
    description: What is promised.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Its name, in small letters; the metrics and the findings call it that.
        type: str
        required: true
      objective_percent:
        description: What is promised, such as V(99.9), above 0 and below 100.
        type: float
        required: true
      window_days:
        description: Judge the last so many days until today, 1 to 366, in the place of the month.
        type: int
      probe:
        description:
          - Selector of series that are 1 while the service answers and 0 while not, such as those of
            blackbox_exporter. Its level is a share of time. Of several series the mean counts.
        type: str
      good:
        description:
          - Selector of counters of requests that were answered well. Its level is a share of the requests. Needs
            O(services[].total). A counter that begins again is no loss.
        type: str
      total:
        description: Selector of counters of all requests.
        type: str
      labels:
        description: Labels that the series of the service have, by which M(dashboard_info) looks for its panels.
        type: dict
  month:
    description: The month to judge, such as V(2026-10); the last whole one if it is left out.
    type: str
  min_coverage_percent:
    description: Share of the samples that have to be there, 1 to 100.
    type: float
    default: 95
  calendar:
    description: Maintenance windows, in the form of M(maintenance_calendar_info).
    type: dict
    default: {}
  operations:
    description: Which window a playbook needs, in the form of M(maintenance_calendar_info).
    type: dict
    default: {}
  environment:
    description: What the inventory is, to find the records in its state store.
    type: str
    required: true
  timeout_s:
    description: Longest wait for one answer of Prometheus, in seconds, 1 to 600.
    type: int
    default: 60
extends_documentation_fragment:
  - runbook_prometheus
  - runbook_state
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
- name: Was last month as promised
  sla_info:
    environment: production
    prometheus_url: https://prometheus.example.com
    calendar: "{{ maintenance_calendar }}"
    services:
      - name: site
        objective_percent: 99.9
        probe: probe_success{job="blackbox", instance="https://app.example.com"}
      - name: api
        objective_percent: 99.5
        window_days: 28
        good: http_requests_total{job="api", code!~"5.."}
        total: http_requests_total{job="api"}
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
status:
  description: V(breach) with a critical finding, V(unknown) where a level cannot be judged, else V(ok).
  type: str
  returned: always
findings:
  description: Levels that were missed (V(sla_missed)) or were met only without planned maintenance
    (V(sla_met_without_planned)), budgets that are nearly spent (V(sla_budget_low)) or burn too fast (V(sla_burning));
    in the form of M(pg_index_info).
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
levels:
  description: Each service.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Its name.
      type: str
    objective_percent:
      description: What is promised.
      type: float
    by:
      description: V(probe) or V(requests).
      type: str
    unit:
      description: What the budget is counted in, V(s) or V(requests).
      type: str
    from:
      description: Begin of the time.
      type: str
    to:
      description: Its end.
      type: str
    availability_percent:
      description: How available it was without planned maintenance; null where that is not known.
      type: float
    with_planned_percent:
      description: The same with planned maintenance.
      type: float
    coverage_percent:
      description: Share of the samples that there are.
      type: float
    first_sample_at:
      description: When the first sample was; null where there is none.
      type: str
    planned_s:
      description: Seconds of planned maintenance, in steps of five minutes.
      type: float
    budget:
      description: What may be bad.
      type: float
    budget_spent:
      description: What was bad.
      type: float
    budget_left_percent:
      description: What of the budget is left, below 0 where more was spent.
      type: float
    days:
      description: Each day with C(day), C(availability_percent), C(coverage_percent), and as C(bad) what it spent.
      type: list
    burns:
      description: Each pair of windows with C(long), C(short), C(limit), C(long_rate), C(short_rate), and whether it
        C(burns), null where that is not known.
      type: list
    why_not:
      description: Why it is not judged; empty where it is.
      type: str
planned:
  description: Planned maintenance with C(begin) and C(end).
  type: list
  elements: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.observe import maintenance, prometheus
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.change import calendar as windows
from ansible.module_utils.runbook.rules.findings import Finding, Unknown
from ansible.module_utils.runbook.rules.observe import sla
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.rules.observe.sla import Level, Objective, Span

NAME = "sla_info"
BOUNDS = {"min_coverage_percent": (1, 100), "timeout_s": (1, 600)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    service = {
        "name": {"type": "str", "required": True},
        "objective_percent": {"type": "float", "required": True},
        "window_days": {"type": "int"},
        "probe": {"type": "str"},
        "good": {"type": "str"},
        "total": {"type": "str"},
        "labels": {"type": "dict"},
    }
    return (
        prometheus.argument_spec()
        | state_store.argument_spec()
        | {
            "services": {"type": "list", "elements": "dict", "required": True, "options": service},
            "month": {"type": "str"},
            "min_coverage_percent": {"type": "float", "default": 95},
            "calendar": {"type": "dict", "default": {}},
            "operations": {"type": "dict", "default": {}},
            "environment": {"type": "str", "required": True},
            "timeout_s": {"type": "int", "default": 60},
        }
    )


def core(context: Context) -> dict[str, Any]:
    """Ask, judge."""
    params, now, started = context.params, datetime.now(UTC), time.monotonic()
    context.require_bounds(BOUNDS)
    promised = sla.objectives(params["services"])
    if not promised:
        said = "services: none is named, so nobody knows whether what is promised was kept; name at least one."
        return _concluded(context, [], [Unknown("services", said)], of="no service", levels=[], planned=[])
    asked = {each: sla.window(each, params["month"], now) for each in promised}
    api = prometheus.Prometheus.from_params(params, timeout_s=params["timeout_s"])
    begin, end = min(at for at, _ in asked.values()), max(at for _, at in asked.values())
    spans, unknown = _planned(context, begin, end)
    levels: list[Level] = []
    for number, objective in enumerate(promised):
        context.progress.update(objective.name, number, len(promised), "services")
        try:
            levels.append(_level(api, objective, asked[objective], spans, params["min_coverage_percent"] / 100, now))
        except RunbookError as error:
            if error.status is not Status.UNKNOWN:
                raise
            unknown.append(Unknown(objective.name, f"{objective.name}: {error.message.rstrip('.')}."))
    found, not_judged = sla.judge(levels)
    return _concluded(
        context,
        found,
        [*unknown, *not_judged],
        of=count(len(promised), "service"),
        levels=[each.result() for each in levels],
        planned=[{"begin": _iso(first), "end": _iso(last)} for first, last in spans],
        duration_s=round(time.monotonic() - started, 3),
    )


def _concluded(
    context: Context, found: Sequence[Finding], unknown: Sequence[Unknown], *, of: str, **facts: Any
) -> dict[str, Any]:  # fmt: skip
    result = findings.results(found, unknown, of=of)
    critical = [each["msg"] for each in result["findings"] if each["severity"] == "critical"]
    # What a person has to hear at once; the report has the rest.
    result["msg"] = " ".join([result["msg"], *critical[:3]])
    return context.conclude(
        result["status"], fail_on_breach=False, fail_on_unknown=False, **({"duration_s": 0.0} | result | facts)
    )


def _planned(context: Context, begin: datetime, end: datetime) -> tuple[Sequence[Span], list[Unknown]]:
    """Planned maintenance, or why nobody knows it; then all that was bad counts."""
    params = context.params
    calendar = windows.read(params["calendar"], params["operations"])
    open_at = [(each.begin.timestamp(), each.end.timestamp()) for each in windows.occurrences(calendar, begin, end)]
    if not open_at:
        return (), []
    playbooks = frozenset(name.split()[0] for name, need in calendar.operations.items() if need != "none")
    settings = {name: value for name, value in params.items() if name.startswith("state_")}
    try:
        store = state_store.from_settings(settings, params["environment"])
        found = maintenance.records(context.run.directory, store, begin, end)
        return sla.planned(open_at, sla.run_spans(found, playbooks, params["environment"])), []
    except RunbookError as error:
        if error.status is not Status.UNKNOWN:
            raise
        said = f"What was planned maintenance is not known, so it is not taken off: {error.message}"
        return (), [Unknown("planned_maintenance", said)]


def _level(
    api: prometheus.Prometheus, objective: Objective, span: tuple[datetime, datetime], spans: Sequence[Span],
    least: float, now: datetime,
) -> Level:  # fmt: skip
    begin, end = span
    step = timedelta(seconds=sla.PIECE_S)
    answers = {
        key: {
            point[0]: point[1]
            for series in api.over_time(query, begin=begin + step, end=end, step_s=sla.PIECE_S)
            for point in series.points
        }
        for key, query in objective.queries().items()
    }
    amounts = {
        window: sla.amount_of(*(_value(api, objective.burn_query(window, part), now) for part in ("good", "total")))
        for window in {name for pair in sla.BURNS for name in pair[:2]}
    }
    days = (end - begin).total_seconds() / sla.DAY_S
    burns = [sla.burn(objective, days, pair, amounts) for pair in sla.BURNS]
    return sla.level(objective, begin, end, answers, spans=spans, burns=burns, least_coverage=least)


def _value(api: prometheus.Prometheus, query: str, now: datetime) -> float | None:
    found = api.now(query, at=now)
    return found[0].last if found else None


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name=NAME, argument_spec=argument_spec())


if __name__ == "__main__":
    main()
