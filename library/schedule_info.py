#!/usr/bin/python
"""Module schedule_info: what runs unattended, when next, and how each engine says it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schedule_info
short_description: The scheduled jobs of an inventory, when they are due, and how each engine says it
description:
  - Reads the schedules of an inventory, and says of each job what runs, when it was and will be due, and its time as a
    calendar event of systemd, an RRULE of AWX, and in cron. It writes nothing.
  - It asks no calendar. In a freeze a job is started at its time as ever, and refused; the board says so.
  - A mistake in a schedule is refused in one sentence, with the fix.
options:
  schedules:
    description:
      - The jobs by their names, as C(schedule_jobs) of the inventory has them. Each has C(playbook), C(hosts) (groups
        of the inventory), C(rhythm) and C(max_duration_min).
      - The rhythm V(hourly) asks for C(minute); V(daily) for C(time), and takes C(except_weekday); V(weekly) for
        C(weekday) and C(time), and takes C(except_week); V(monthly) and V(quarterly) for C(week) (V(1) to V(4)),
        C(weekday) and C(time). All times are UTC.
      - It may have C(tags), C(variables) (what C(-e) says), C(grace_min) (60), and C(disabled), the reason why it does
        not run by itself.
    type: dict
    required: true
  groups:
    description:
      - The groups of the inventory with their hosts, as Ansible's C(groups). Jobs of which no group has a host are left
        out.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Look at the schedules
  schedule_info:
    schedules: "{{ schedule_jobs }}"
    groups: "{{ groups }}"
"""

RETURN = r"""
changed:
  description: V(false).
  type: bool
  returned: always
msg:
  description: One sentence, with the job that is due next.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where a schedule has a mistake.
  type: str
  returned: always
jobs:
  description:
    - Each job with C(job), C(playbook), C(tags), C(extra_vars), C(hosts), C(rhythm), C(enabled), C(disabled) (why not),
      C(max_duration_s), C(grace_s), C(last_due) and C(next_due) (ISO 8601 in UTC; null where there is none within a
      year), C(calendar_event) (systemd), C(rrule) (AWX), C(cron), and C(cron_days), the days of the month on which a
      run of cron goes on, empty for all.
  type: list
  elements: dict
  returned: success
left_out:
  description: Jobs of which no group has a host.
  type: list
  elements: str
  returned: success
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.change.calendar import said_at
from ansible.module_utils.runbook.rules.schedule import engines, schedule
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.schedule.schedule import Schedule


def core(context: Context) -> dict[str, Any]:
    """Read them all."""
    now = datetime.now(UTC)
    found, left_out = schedule.with_hosts(schedule.read(context.params["schedules"]), context.params["groups"])
    schedule.refuse_doubles(found.values())
    due = sorted((at, job) for job, each in found.items() if each.enabled and (at := schedule.next_due(each, now)))
    following = f"; {due[0][1]} is due next, {said_at(due[0][0])}" if due else ""
    return context.conclude(
        Status.OK,
        msg=f"{count(len(found), 'job')}, {len(due)} of them enabled{following}.",
        jobs=[_of(each, now) for each in found.values()],
        left_out=left_out,
    )


def _of(each: Schedule, now: datetime) -> dict[str, Any]:
    cron = engines.cron(each)
    last, following = schedule.last_due(each, now), schedule.next_due(each, now)
    return {
        "job": each.job,
        "playbook": each.playbook,
        "tags": list(each.tags),
        "extra_vars": each.extra_vars,
        "hosts": list(each.hosts),
        "rhythm": each.rhythm,
        "enabled": each.enabled,
        "disabled": each.disabled,
        "max_duration_s": int(each.max_duration.total_seconds()),
        "grace_s": int(each.grace.total_seconds()),
        "last_due": last.isoformat() if last else None,
        "next_due": following.isoformat() if following else None,
        "calendar_event": engines.calendar_event(each),
        "rrule": engines.rrule(each),
        "cron": cron.expression,
        "cron_days": list(cron.days),
    }


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="schedule_info",
        argument_spec={
            "schedules": {"type": "dict", "required": True},
            "groups": {"type": "dict", "required": True},
        },
    )


if __name__ == "__main__":
    main()
