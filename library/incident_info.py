#!/usr/bin/python
"""Ansible module incident_info: what the incidents of a month say beside those of the months before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incident_info
short_description: Tell how incidents of a month compare with those of the months before
description:
  - Reads incidents of PagerDuty, where O(pagerduty_api_token) is given, and this project's own emergencies, where the
    options name a state store, as their post-incident reviews tell of them.
  - Tells of each month how many there were, and how long it took to acknowledge and to resolve them, by median and
    ninth decile; of too few of them neither. PagerDuty's analytics are a day behind.
  - Names those that came back, a month that had more or longer ones than chance would make of the six months before,
    and actions of reviews that are over their date.
  - A source that was named and does not answer is V(unknown). Where no source is named, everything is.
  - Changes nothing.
options:
  month:
    description: The month to look at, such as V(2026-10), by UTC; the last whole one if it is left out.
    type: str
  environment:
    description: What the inventory is, to find the reviews in its state store.
    type: str
    required: true
  timeout_s:
    description: Longest wait for one answer of PagerDuty, in seconds, 1 to 600.
    type: int
    default: 30
extends_documentation_fragment:
  - runbook_pagerduty
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
- name: Look back on the incidents of last month
  incident_info:
    environment: production
    pagerduty_api_token: "{{ pagerduty_api_token }}"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
status:
  description: V(unknown) where a source did not answer or none is named, else V(ok). Incidents are no breach.
  type: str
  returned: always
findings:
  description: Incidents that came back (V(incident_repeats)), months with more (V(incidents_more)) or longer ones
    (V(incidents_longer)), and actions over their date (V(action_due)); in the form of M(pg_index_info).
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
sources:
  description: Each source that answered.
  type: list
  elements: dict
  returned: always
  contains:
    source:
      description: V(pagerduty) or V(emergency).
      type: str
    months:
      description: Each month, the oldest first, with C(month), C(incidents), C(open), C(acknowledged),
        C(mtta_median_s), C(mtta_p90_s), C(resolved), C(mttr_median_s) and C(mttr_p90_s), which are null of too few.
      type: list
actions:
  description: What reviews left to do, with C(review), C(text), C(owner), C(due_date) and C(state).
  type: list
  elements: dict
  returned: always
duration_s:
  description: Seconds that it took.
  type: float
  returned: always
"""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import state_store
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.observe import pagerduty
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import findings
from ansible.module_utils.runbook.rules.change.review import Review
from ansible.module_utils.runbook.rules.findings import Finding, Unknown
from ansible.module_utils.runbook.rules.observe import incidents, sla
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ansible.module_utils.runbook.rules.observe.incidents import Incident

NAME = "incident_info"
BOUNDS = {"timeout_s": (1, 600)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        pagerduty.argument_spec()
        | state_store.argument_spec()
        | {
            "month": {"type": "str"},
            "environment": {"type": "str", "required": True},
            "timeout_s": {"type": "int", "default": 30},
        }
    )


def core(context: Context) -> dict[str, Any]:
    """Ask, compare."""
    params, now, started = context.params, datetime.now(UTC), time.monotonic()
    context.require_bounds(BOUNDS)
    spans = incidents.months(sla.month_of(params["month"], now))
    account = pagerduty.PagerDuty.from_params(params, timeout_s=params["timeout_s"])
    settings = {name: value for name, value in params.items() if name.startswith("state_")}
    store = state_store.from_settings(settings, params["environment"])
    found: list[Finding] = []
    unknown: list[Unknown] = []
    sources: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []

    def take(source: str, read: Callable[[], Sequence[Incident]]) -> None:
        try:
            known = incidents.periods(read(), spans)
        except RunbookError as error:
            # What refuses does not tell either.
            if error.status is not Status.UNKNOWN and not isinstance(error, ApiError):
                raise
            unknown.append(Unknown(source, error.message))
            return
        sources.append({"source": source, "months": [each.result() for each in known]})
        found.extend(incidents.judge(source, known))

    def emergencies() -> list[Incident]:
        reviews, damaged = _reviews(store) if store is not None else ([], [])
        unknown.extend(damaged)
        actions, late = incidents.actions(reviews, now.date())
        listed.extend(actions)
        found.extend(late)
        return [incidents.of_review(each) for each in reviews]

    if account is not None:
        take("pagerduty", lambda: account.analysed(begin=spans[0][0], end=spans[-1][1]))
    if store is not None:
        take("emergency", emergencies)
    if account is None and store is None:
        said = "Nobody knows of incidents: give pagerduty_api_token, or name a state store with reviews of emergencies."
        unknown.append(Unknown("incidents", said))
    total = sum(each["months"][-1]["incidents"] for each in sources)
    result = findings.results(found, unknown, of=f"{count(total, 'incident')} of {spans[-1][0]:%Y-%m}")
    return context.conclude(
        result["status"],
        fail_on_breach=False,
        fail_on_unknown=False,
        **result,
        sources=sources,
        actions=listed,
        duration_s=round(time.monotonic() - started, 3),
    )


def _reviews(store: state_store.StateStore) -> tuple[list[Review], list[Unknown]]:
    """Reviews of emergencies; one that cannot be read hides no other."""
    found, damaged = [], []
    for name in store.names("reviews/"):
        try:
            document = store.read(name).document
            # It may have been removed meanwhile.
            found += [Review.of(document)] if document is not None else []
        except RunbookError as error:
            damaged.append(Unknown("emergency", error.message))
    return found, damaged


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name=NAME, argument_spec=argument_spec())


if __name__ == "__main__":
    main()
