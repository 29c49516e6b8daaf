"""The deployment that Vercel makes of a commit that was pushed: it is waited for, and looked at from outside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.change import http_probe
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.rules.change.probe import Page
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.clock import Clock
    from ansible.module_utils.runbook.drivers.deploy.vercel import Vercel
    from ansible.module_utils.runbook.rules.deploy.deployments import Deployment

#: Field of the application's page that says which commit is served.
FIELD = "commit"


def built(
    vercel: Vercel, commit: str, target: str, clock: Clock, tell: Callable[[str, float], None], poll_s: float
) -> Deployment:
    """The deployment of a commit, as soon as it is built.

    :param target: ``production``, or empty for a preview
    :raises RunbookError: its build failed (code ``deployment_failed``)
    :raises UnreachableError: there is none in time, or it is not built in time
    """
    while True:
        made = [each for each in vercel.deployments(target, commit=commit) if each.commit == commit]
        if made:
            return vercel.wait_ready(made[0].id, timeout_s=max(0.0, clock.left_s()), tell=tell, poll_s=poll_s)
        tell("not there yet", clock.passed_s())
        if clock.is_over():
            raise UnreachableError(
                f"Vercel has made no deployment of commit {commit[:12]} in {clock.passed_s():.0f} s; see that the "
                "project is connected to the repository and follows the branch, then run this again.",
                code="deployment_slow",
            )
        time.sleep(poll_s)


def see(name: str, url: str, commit: str, ca_cert: str | None, clock: Clock) -> None:
    """Look at a page until it serves a commit.

    :param commit: empty where the page only has to answer with 200
    :raises RunbookError: it does not in time; ``unknown`` where nobody answers
    """
    page = Page.of({"name": name, "url": url} | ({"version": commit, "version_field": FIELD} if commit else {}))
    seen = http_probe.wait_for(
        http_probe.client(page.url, ca_cert),
        lambda answer: page.lacks(answer.status, answer.headers, answer.body.decode(errors="replace")),
        wait_s=max(0.0, clock.left_s()),
    )
    if seen.lacks:
        raise RunbookError(
            f"{name}: {page.url} {seen.lacks}.",
            code="not_served",
            status=Status.BREACH if seen.answered else Status.UNKNOWN,
        )
