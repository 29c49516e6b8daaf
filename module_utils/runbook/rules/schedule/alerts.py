"""Alert rules of Prometheus for jobs that did not run, or did not succeed, from the same schedules.

Where the times of a job follow each other evenly, the newest one whose run must be over is computed in the rule itself,
so that one missed run is seen as soon as it is late. Where they do not, the longest time between two is admitted.

A rule knows no calendar. That a freeze kept a job from running is a metric of the board, which counts as a success
does; where no board is collected, such a job is overdue as any other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.schedule.schedule import occurrences

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible.module_utils.runbook.rules.schedule.schedule import Schedule

METRIC = "runbook_job_last_success_timestamp_seconds"
SKIPPED = "runbook_job_skipped_timestamp_seconds"
#: Two years have every distance between two occurrences that there is; an hourly job needs two days.
_SINCE = datetime(2027, 1, 1, tzinfo=UTC)


def distances_s(schedule: Schedule) -> list[int]:
    """Seconds between one occurrence and the next, each once, the shortest first."""
    until = _SINCE + timedelta(days=2 if schedule.rhythm == "hourly" else 731)
    due = occurrences(schedule, _SINCE, until)
    return sorted({int((later - earlier).total_seconds()) for earlier, later in pairwise(due)})


def _selector(schedule: Schedule, environment: str, metric: str = METRIC) -> str:
    return f'{metric}{{environment="{environment}",schedule="{schedule.job}"}}'


def expression(schedule: Schedule, environment: str) -> list[str]:
    """True where the last success is older than it may be; the lines of a query."""
    late = int(schedule.patience.total_seconds())
    distances = distances_s(schedule)
    if len(distances) == 1:
        every = distances[0]
        first = int(occurrences(schedule, _SINCE, _SINCE + timedelta(days=8))[0].timestamp()) % every
        # The run that was due then must be over by now.
        before, is_late = [], f"< scalar(floor((vector(time()) - {first + late}) / {every})) * {every} + {first}"
        is_well = is_late.replace("<", ">=", 1)
    else:
        before, is_late, is_well = ["time() -"], f"> {distances[-1] + late}", f"<= {distances[-1] + late}"
    of_host = "max by (environment, host)"
    return [
        *before, of_host, f"({_selector(schedule, environment)})", is_late,
        "unless on (environment, host)",
        *before, of_host, f"({_selector(schedule, environment, SKIPPED)})", is_well,
    ]  # fmt: skip


def rules(schedules: Iterable[Schedule], environment: str) -> str:
    """The file of rules, as YAML.

    :param environment: whose jobs these are; those of others have other times
    """
    lines = [
        "---",
        "# Alerts on scheduled jobs that did not run or did not succeed, for Prometheus (docs/howto/schedules.md).",
        "groups:",
        "  - name: runbook-schedules",
        "    rules:",
    ]
    for schedule in schedules:
        wait = distances_s(schedule)[-1] + int(schedule.patience.total_seconds())
        lines += [
            "      - alert: RunbookJobMissed",
            "        expr: |-",
            *(f"          {line}" for line in expression(schedule, environment)),
            "        for: 5m",
            "        labels:",
            "          severity: warning",
            f"          schedule: {schedule.job}",
            "        annotations:",
            f'          summary: "{schedule.job} is overdue for {{{{ $labels.host }}}} ({environment})."',
            "          description: >-",
            "            It did not run, or it was not well. Look at its last report, then run",
            f"            {schedule.shown} -e preflight_job={schedule.job}.",
            "      - alert: RunbookJobNeverSucceeded",
            "        expr: |-",
            f"          absent({_selector(schedule, environment)})",
            f"        for: {wait}s",
            "        labels:",
            "          severity: warning",
            f"          schedule: {schedule.job}",
            "        annotations:",
            f"          summary: {schedule.job} has never succeeded ({environment}), and was due at least once.",
            "          description: See that it is installed (schedules.yml), and that its metrics are collected.",
        ]
    return "\n".join([*lines, ""])
