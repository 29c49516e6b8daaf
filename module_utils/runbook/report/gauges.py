"""Parts of the board's cards: how old something is, and how long there is until something."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import Line
from ansible.module_utils.runbook.rules.board.index import number
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

DAY_S = 86_400.0


def span(seconds: float) -> str:
    """A span of hours or days, to a precision that helps.

    >>> span(90), span(26 * 3600), span(50 * 3600), span(-3 * 86400)
    ('1 min', '26 h', '2 days', '3 days')
    """
    seconds = abs(seconds)
    if seconds >= 2 * DAY_S:
        return count(int(seconds // DAY_S), "day")
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h"
    return f"{int(seconds // 60)} min" if seconds >= 60 else wording.duration(round(seconds))


def day(moment_s: float) -> str:
    """The day of a moment, in UTC; nothing for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(moment_s, UTC):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        return wording.NONE


def age(
    facts: Mapping[str, Any], metric: str, now_s: float, subject: str, *, most_s: float, late: str, fix: str = ""
) -> list[Line]:  # fmt: skip
    """How old something is; nothing where it is not known.

    :param late: what to do when it is older than ``most_s``
    :param fix: what does it; see :class:`Line`
    """
    moment_s = number(facts.get(metric))
    if moment_s is None or math.isnan(moment_s):
        return []
    old_s = now_s - moment_s
    if old_s < -DAY_S:
        return [
            Line(subject, f"dated {day(moment_s)}", Status.UNKNOWN, "It is dated in the future; look at the clocks.")
        ]
    text = f"{span(max(old_s, 0))} old"
    return [Line(subject, text, Status.BREACH, late, fix=fix) if old_s > most_s else Line(subject, text)]


def by_label(facts: Mapping[str, Any], metric: str) -> dict[str, float]:
    """The values of a metric that has a label."""
    found = facts.get(metric)
    known = {str(key): number(value) for key, value in found.items()} if isinstance(found, Mapping) else {}
    return {key: value for key, value in known.items() if value is not None}
