#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_soak
short_description: Watch the application for a while after a change
description:
  - Looks at metrics of a Prometheus and at pages, one sample of each every O(interval_s), for O(duration_s). It ends
    early and red, after O(min_samples), as soon as all samples of one of them failed, or so many that it is more than
    O(abort_share) whatever the rest will show.
  - A sample that could not be measured is neither good nor failed. An empty vector is no zero, NaN is no number, a
    result with a warning may lack something, and a Prometheus that does not answer says nothing. Fewer measured samples
    than O(min_samples), or fewer than could not be measured, make the item V(unknown). A page that does not answer has
    failed.
  - The time is this machine's monotonic clock, so that a clock that is set meanwhile changes nothing.
options:
  prometheus_url:
    description:
      - Address of Prometheus. Needed for O(metrics).
    type: str
  metrics:
    description:
      - Queries, and the bounds within which each of their values has to lie.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - What it is called in the result.
        type: str
        required: true
      query:
        description:
          - PromQL that gives a value at each moment.
        type: str
        required: true
      min:
        description:
          - Least value that is good.
        type: float
      max:
        description:
          - Greatest value that is good.
        type: float
  duration_s:
    description:
      - How long is watched, in seconds.
    type: int
    default: 1800
  interval_s:
    description:
      - From one sample to the next, in seconds.
    type: int
    default: 15
  abort_share:
    description:
      - Share of the measured samples that may fail, from 0 to below 1.
    type: float
    default: 0.1
  min_samples:
    description:
      - Measured samples below which nothing is said.
    type: int
    default: 5
  deadline_s:
    description:
      - Seconds that are left, of a maintenance window for instance. Where they are fewer than O(duration_s) it ends
        then, and is V(unknown) at best.
    type: int
extends_documentation_fragment:
  - runbook_prometheus.access
  - runbook_pages
  - runbook_change
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Each is looked at once, to see that it can be, and no item is answered.
  diff_mode:
    support: none
    description: Nothing is written but the item's answer.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Watch errors and sign-in for half an hour
  change_soak:
    item: metrics-watched
    prometheus_url: http://prometheus.example.com:9090
    metrics:
      - name: share of errors
        query: >-
          sum(rate(http_requests_total{service="mental_scribe", code=~"5.."}[2m]))
          / sum(rate(http_requests_total{service="mental_scribe"}[2m]))
        max: 0.02
    pages:
      - name: sign-in
        url: https://app.example.com/login
        text: Sign in
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: One sentence that says how long was watched, and what failed.
  type: str
  returned: always
status:
  description:
    - V(ok); V(breach) where the abort rule ended it; V(unknown) where too little could be measured, where it was cut
      short, or where the rule ended it and O(blocks=false).
  type: str
  returned: always
checks:
  description: Each metric and page with C(name) (V(soak)), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when it looked
samples:
  description: For each metric and page its C(name), and how many samples were C(good), C(failed) and C(unknown).
  type: list
  elements: dict
  returned: when it looked
watched_s:
  description: Seconds that were watched.
  type: float
  returned: when it looked
answers:
  description: The item of the checklists that was answered.
  type: str
  returned: when one was
proof:
  description: What proves it, such as an address, an id or a figure.
  type: str
  returned: when one was answered
"""

from typing import Any

from ansible.module_utils.runbook.drivers.change import http_probe
from ansible.module_utils.runbook.drivers.change import soak as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.drivers.observe import access
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change.probe import Page
from ansible.module_utils.runbook.rules.change.soak import Metric, Rule
from ansible.module_utils.runbook.rules.status import Status, sentence, worst

BOUNDS = {
    "duration_s": (1, 86_400), "interval_s": (1, 3_600), "min_samples": (1, 10_000), "deadline_s": (0, 604_800),
    "timeout_s": (1, 600),
}  # fmt: skip


def core(context: Context) -> dict[str, Any]:
    """Watch, and answer the item."""
    params = context.params
    context.require_bounds(BOUNDS)
    metrics, pages = [Metric.of(each) for each in params["metrics"]], [Page.of(each) for each in params["pages"]]
    rule = Rule.of(
        abort_share=params["abort_share"], min_samples=params["min_samples"], duration_s=params["duration_s"],
        interval_s=params["interval_s"],
    )  # fmt: skip
    names = [*(each.name for each in metrics), *(each.name for each in pages)]
    if not names or len(names) != len(set(names)):
        raise RunbookError("metrics, pages: give at least one, each with a name of its own.")
    if bool(metrics) != bool(params["prometheus_url"]):
        raise RunbookError("prometheus_url, metrics: one is set without the other; set both, or none of them.")
    # A look that takes longer than the pause to the next one is no sample.
    answer_s = min(params["timeout_s"], params["interval_s"], 10)
    looks = [
        driver.at_page(http_probe.client(page.url, page.ca_cert or None, answer_s=answer_s), page) for page in pages
    ]  # fmt: skip
    if metrics:
        api = access.client("prometheus", params, timeout_s=answer_s)
        looks += [driver.at_metric(api, metric) for metric in metrics]
    changes = Changes.from_params(params, context.run)
    changes.require_current()
    duration_s = params["duration_s"]
    if params["deadline_s"] is not None:
        duration_s = min(duration_s, params["deadline_s"])

    def act() -> Done:
        watched = driver.watch(
            looks, rule, duration_s=0 if context.check_mode else duration_s, interval_s=params["interval_s"],
            tell=lambda passed_s: context.progress.update("soak", round(passed_s), duration_s, "s"),
        )  # fmt: skip
        checks = [each.check(rule) for each in watched.tallies]
        facts = {
            "checks": [check.result() for check in checks],
            "samples": [
                {"name": each.name, "good": each.good, "failed": each.failed, "unknown": each.unknown}
                for each in watched.tallies
            ],
            "watched_s": round(watched.watched_s, 1),
        }
        if context.check_mode:
            seen = "; ".join(f"{each.name}: {each.said or 'good'}" for each in watched.tallies)
            return Done(f"Would watch for {duration_s} s. Just now {seen}.", facts=facts)
        said = f"Watched for {watched.watched_s:.0f} of {params['duration_s']} s. {sentence('The soak', checks)}"
        if watched.aborted:
            raise RunbookError(f"{said} It was ended early: go back by the change's rollback plan.", **facts)
        status = worst(check.status for check in checks)
        if status is Status.BREACH:
            raise RunbookError(said, **facts)
        if duration_s < params["duration_s"]:
            return Done(f"{said} There was no time for more.", facts=facts, status=Status.UNKNOWN)
        return Done(said, proof=f"{watched.watched_s:.0f} s, {len(checks)} watched", facts=facts, status=status)

    done = changes.conduct(params["item"], act, blocks=params["blocks"])
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **done.facts)


def main() -> None:
    """Run as an Ansible module."""
    metric = {
        "name": {"type": "str", "required": True},
        "query": {"type": "str", "required": True},
        "min": {"type": "float"},
        "max": {"type": "float"},
    }
    spec = {
        "prometheus_url": {"type": "str"},
        **access.argument_spec("prometheus"),
        "metrics": {"type": "list", "elements": "dict", "default": [], "options": metric},
        "pages": http_probe.pages_option(),
        "duration_s": {"type": "int", "default": 1800},
        "interval_s": {"type": "int", "default": 15},
        "abort_share": {"type": "float", "default": 0.1},
        "min_samples": {"type": "int", "default": 5},
        "deadline_s": {"type": "int"},
    }
    run_module(core, name="change_soak", argument_spec=argument_spec() | spec)


if __name__ == "__main__":
    main()
