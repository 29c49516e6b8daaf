"""Watching metrics and pages for a while, by this process's monotonic clock: no other clock has a say in it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ansible.module_utils.runbook.errors import UnreachableError
from ansible.module_utils.runbook.rules.change.soak import Sample, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
    from ansible.module_utils.runbook.rules.change.probe import Page
    from ansible.module_utils.runbook.rules.change.soak import Metric, Rule

#: Something that is looked at: its name, and one look.
Look = tuple[str, "Callable[[], Sample]"]


def at_metric(api: ApiClient, metric: Metric) -> Look:
    """One look at a metric; a Prometheus that does not answer says nothing of it."""

    def look() -> Sample:
        try:
            answer = api.look(f"/api/v1/query?{urlencode({'query': metric.query})}")
        except UnreachableError as error:
            return Sample("unknown", error.message.rstrip("."))
        seen = metric.judge(answer.status, answer.body.decode(errors="replace"))
        fix = api.fix(answer.status)
        return Sample(seen.outcome, f"{seen.said}; {fix}") if fix else seen

    return metric.name, look


def at_page(api: ApiClient, page: Page) -> Look:
    """One look at a page; users get no answer where we get none, so that has failed."""

    def look() -> Sample:
        try:
            answer = api.look()
        except UnreachableError as error:
            return Sample("failed", error.message.rstrip("."))
        lacks = page.lacks(answer.status, answer.headers, answer.body.decode(errors="replace"))
        return Sample("failed", f"{page.url} {lacks}") if lacks else Sample("good")

    return page.name, look


@dataclass(frozen=True)
class Watched:
    """What came of it."""

    tallies: Sequence[Tally]
    watched_s: float
    #: Whether the rule ended it early.
    aborted: bool


def watch(
    looks: Sequence[Look], rule: Rule, *, duration_s: float, interval_s: float, tell: Callable[[float], None]
) -> Watched:
    """Look again and again until the time is over, or until the rule says that it is bad.

    :param tell: is told the seconds so far
    :raises RunbookError: a query is none
    """
    tallies: Mapping[str, Tally] = {name: Tally(name) for name, _ in looks}
    begun = time.monotonic()
    number = 0
    while True:
        for name, look in looks:
            tallies[name].add(look())
        passed_s = time.monotonic() - begun
        tell(passed_s)
        if any(each.aborts(rule) for each in tallies.values()):
            return Watched(list(tallies.values()), passed_s, aborted=True)
        # Looks that took too long are left out, not made up for.
        number = max(number + 1, int(passed_s // interval_s) + 1)
        if number * interval_s > duration_s:
            time.sleep(max(0.0, duration_s - passed_s))
            return Watched(list(tallies.values()), max(passed_s, duration_s), aborted=False)
        time.sleep(max(0.0, number * interval_s - passed_s))
