"""What users get of an application, from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.drivers.change.http_probe import client, wait_for
from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from collections.abc import Callable


def look(url: str, ca_cert: str | None, lacks: Callable[[int, str], str], *, wait_s: float = 0) -> Check:
    """Whether the page of the served version says what it must, within ``wait_s``.

    :param url: empty where the inventory names no such page
    :param lacks: what an answer lacks, by its status and its text
    """
    if not url:
        return Check.unknown("served", "No page says what is served; set app_version_url.")
    seen = wait_for(
        client(url, ca_cert), lambda answer: lacks(answer.status, answer.body.decode(errors="replace")), wait_s=wait_s
    )
    if not seen.lacks:
        return Check.ok("served", f"{url} says that it is served.")
    if not seen.answered:
        return Check("served", Status.UNKNOWN, f"{seen.lacks}.")
    return Check.breach(
        "served", f"{url} {seen.lacks}. Look for a cache before the application, and at the project's domains."
    )
