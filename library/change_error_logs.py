#!/usr/bin/python
"""Ansible module: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: change_error_logs
short_description: Compare the errors in the logs after a change with those before it
description:
  - V(before) counts the errors of the last O(span_s) seconds, before the work, and notes the count in the change as the
    item O(item) with C(_before) behind it. V(after) counts those since the work ended (item C(work) of the change;
    since it was opened, where nobody answered that), and compares them per minute.
  - There may be O(max_ratio) times as many as before and two standard deviations of chance more (errors are counted as
    a Poisson process), and fewer than O(min_errors) in any case. More is V(breach).
  - V(after) waits until O(min_span_s) have passed since the work ended. A shorter span, a count of before that is
    missing while there are errors, or logs that do not come any more are V(unknown).
  - Only figures are kept. A line of a log can hold health data, so none of it is in a result, nor what a service says
    of an error.
options:
  state:
    description:
      - V(before) the work, once; V(after) it, and again each time.
    type: str
    required: true
    choices: [before, after]
  backend:
    description:
      - Where errors are counted. V(none) where the inventory decided to count none.
    type: str
    required: true
    choices: [prometheus, loki, supabase, file, none]
  span_s:
    description:
      - How far V(before) looks back, in seconds, 60 to 86,400.
    type: int
    default: 1800
  min_span_s:
    description:
      - Least span after the work that says something, in seconds, 1 to 3,600.
    type: int
    default: 300
  deadline_s:
    description:
      - How long V(after) waits for that at most, in seconds, 1 to 3,600.
    type: int
    default: 600
  max_ratio:
    description:
      - How many times as many errors in a minute are the same still, 1 or more.
    type: float
    default: 2.0
  min_errors:
    description:
      - Fewer errors than this are no finding, whatever was before, 1 to 1,000,000.
    type: int
    default: 5
  prometheus_url:
    description:
      - Address of Prometheus.
    type: str
  prometheus_query:
    description:
      - PromQL that gives the number of errors in the span C($__range); what it gives by label is added up. No value is
        no zero. A counter that is not there before the first error becomes one by C(or vector(0)).
    type: str
  loki_url:
    description:
      - Address of Loki.
    type: str
  loki_token:
    description:
      - Bearer token of the proxy before it. Keep it in Ansible Vault.
    type: str
  loki_user:
    description:
      - User that the proxy before it asks for.
    type: str
  loki_password:
    description:
      - Password of O(loki_user). Keep it in Ansible Vault.
    type: str
  loki_tenant:
    description:
      - Tenant whose logs they are, sent as C(X-Scope-OrgID).
    type: str
  loki_query:
    description:
      - LogQL that gives the number of errors in the span C($__range).
    type: str
  loki_lines_query:
    description:
      - The same for all lines, so without the filter. Loki has no zero; where there are lines, and no errors among
        them, it is one.
    type: str
  project_ref:
    description:
      - Reference of the project at Supabase, twenty lower-case letters.
    type: str
  access_token:
    description:
      - Token of its Management API, with the right to read analytics. Keep it in Ansible Vault.
    type: str
  api_url:
    description:
      - Address of the Management API. Left out, it is C(https://api.supabase.com).
    type: str
  supabase_sql:
    description:
      - A query in ClickHouse's SQL on the table C(logs), as in the Logs Explorer, that gives one row with the numbers
        C(errors) and C(lines). Supabase puts the span into it, in whole minutes, of the last 24 hours.
    type: str
  file_path:
    description:
      - A log on this machine. Each entry begins with a date and a time (ISO 8601, also with slashes; with its zone, or
        in this machine's), or has C(time), C(ts) or C(timestamp) since 1970 in JSON. What was rotated away beside it,
        compressed or not, is read too; 512 MiB at most.
    type: path
  file_pattern:
    description:
      - Regular expression (of Python) that is found in a line which is an error.
    type: str
extends_documentation_fragment:
  - runbook_prometheus.access
  - runbook_change
  - runbook_state
attributes:
  check_mode:
    support: full
    description: Counts once, so that a mistake is seen, and answers no item.
  diff_mode:
    support: none
    description: Nothing is written but the item's answer.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Count errors before the work
  change_error_logs:
    state: before
    item: error_logs
    backend: loki
    loki_url: http://loki.example.com:3100
    loki_query: sum(count_over_time({app="mental-scribe"} | json | level="error" [$__range]))
    loki_lines_query: sum(count_over_time({app="mental-scribe"} [$__range]))
    state_bucket: mental-scribe-state

- name: Compare the database's errors with before
  change_error_logs:
    state: after
    item: error_logs
    backend: supabase
    project_ref: abcdefghijklmnopqrst
    access_token: "{{ vault_change_error_logs_access_token }}"
    supabase_sql: >-
      select count() as lines, countIf(log_attributes['parsed.error_severity'] in ('ERROR', 'FATAL', 'PANIC')) as errors
      from logs where source = 'postgres_logs'
    blocks: false
    state_bucket: mental-scribe-state

- name: The same by a counter of Prometheus
  change_error_logs:
    state: after
    item: error_logs
    backend: prometheus
    prometheus_url: http://prometheus.example.com:9090
    prometheus_query: sum(increase(log_messages_total{level="error"}[$__range])) or vector(0)
    state_bucket: mental-scribe-state

- name: The same by a log on this machine
  change_error_logs:
    state: after
    item: error_logs
    backend: file
    file_path: /var/log/postgresql/postgresql.log
    file_pattern: " (ERROR|FATAL|PANIC):"
    state_bucket: mental-scribe-state
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: How many errors there were, in one sentence.
  type: str
  returned: always
status:
  description:
    - V(ok); V(breach) where there are more than before; V(unknown) where nobody can tell, or where there are more and
      O(blocks=false).
  type: str
  returned: always
checks:
  description: The comparison, with its C(name) (V(error_logs)), C(status), C(msg) and C(subject).
  type: list
  elements: dict
  returned: when it compared
errors:
  description: How many errors there were.
  type: int
  returned: when it counted
lines:
  description: Of how many lines; null where only errors are counted.
  type: int
  returned: when it counted
span_s:
  description: In how many seconds.
  type: int
  returned: when it counted
errors_before:
  description: How many there were before the work; null where nobody counted.
  type: int
  returned: when it compared
span_before_s:
  description: In how many seconds; null where nobody counted.
  type: int
  returned: when it compared
answers:
  description: The item of the checklists that was answered.
  type: str
  returned: when one was
proof:
  description: What proves it, such as an address, an id or a figure.
  type: str
  returned: when one was answered
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.change import error_logs as driver
from ansible.module_utils.runbook.drivers.change.changes import Changes, Done, argument_spec
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change import error_logs as rules
from ansible.module_utils.runbook.rules.change.backend import SKIPPED
from ansible.module_utils.runbook.rules.change.note import note_key
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.change.change import Change

BOUNDS = {
    "span_s": (60, 86_400), "min_span_s": (1, 3_600), "deadline_s": (1, 3_600), "min_errors": (1, 1_000_000),
    "timeout_s": (1, 600),
}  # fmt: skip


def core(context: Context) -> dict[str, Any]:
    """Count, and compare where the work is done."""
    params = context.params
    context.require_bounds(BOUNDS)
    rule = rules.check(params)
    is_before = params["state"] == "before"
    item = params["item"] + (rules.BEFORE if is_before else "")
    note_key("", item)
    source = driver.from_params(params)
    changes = Changes.from_params(params, context.run)
    change = changes.require_current()

    def act() -> Done:
        try:
            return look()
        except RunbookError as error:
            if error.status is not Status.UNKNOWN:
                raise
            # Who cannot be asked says nothing of the work, so nothing stops for it.
            return Done(error.message, status=Status.UNKNOWN)

    def look() -> Done:
        if source is None:
            return Done("Skipped: the inventory decided to count no errors in logs (backend none).", SKIPPED)
        if is_before or change is None:
            now = datetime.now(UTC)
            counted = source.count(rules.Span(now - timedelta(seconds=params["span_s"]), now))
            said = f"{counted}, before the work." if is_before else f"Would compare with before. Just now {counted}."
            return Done(said, counted.proof, _facts(counted))
        counted = _after(context, source, change)
        earlier = rules.before(change, params["item"])
        check = rule.judge(earlier, counted)
        facts = _facts(counted) | {
            "checks": [check.result()],
            "errors_before": earlier.errors if earlier else None,
            "span_before_s": earlier.span_s if earlier else None,
        }
        if check.status is Status.BREACH:
            raise RunbookError(check.msg, **facts)
        return Done(check.msg, counted.proof, facts, check.status)

    done = changes.conduct(item, act, blocks=params["blocks"], once_in=change if is_before else None)
    return context.conclude(done.status, msg=done.msg, fail_on_unknown=False, **done.facts)


def _after(context: Context, source: driver.Source, change: Change) -> rules.Count:
    """Count since the work ended, once enough time has passed."""
    params = context.params
    since, clock = rules.work_ended(change), Clock(params["deadline_s"])
    enough_s = params["min_span_s"] + rules.CUT_S.get(params["backend"], 0)
    while (passed_s := (datetime.now(UTC) - since).total_seconds()) < enough_s and not clock.is_over():
        context.progress.update("wait", round(passed_s), enough_s, "s")
        clock.sleep(min(5, enough_s - passed_s))
    return source.count(rules.Span(since, datetime.now(UTC)))


def _facts(counted: rules.Count) -> dict[str, Any]:
    return {"errors": counted.errors, "lines": counted.lines, "span_s": counted.span_s}


def main() -> None:
    """Run as an Ansible module."""
    spec = {
        "state": {"type": "str", "required": True, "choices": ["before", "after"]},
        "span_s": {"type": "int", "default": 1800},
        "min_span_s": {"type": "int", "default": 300},
        "deadline_s": {"type": "int", "default": 600},
        "max_ratio": {"type": "float", "default": 2.0},
        "min_errors": {"type": "int", "default": 5},
    }
    run_module(core, name="change_error_logs", argument_spec=argument_spec() | driver.argument_spec() | spec)


if __name__ == "__main__":
    main()
