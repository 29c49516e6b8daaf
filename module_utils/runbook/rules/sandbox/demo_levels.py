"""Seventy days of a probe that the sandbox begins with, so that there is a month to judge. Invented, as all others.

The site is down for ten minutes every nine days, and on one day nobody watched for four hours.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

DAYS = 70
STEP_S = 300
LABELS = '{job="demo_site",origin="invented"}'
_DOWN_EVERY = 9
_DARK_DAY = 30


def openmetrics(now: datetime) -> list[str]:
    """Lines of the form that ``promtool tsdb create-blocks-from openmetrics`` reads, until now."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = ["# TYPE probe_success gauge"]
    for day in range(DAYS, -1, -1):
        begin_s = (midnight - timedelta(days=day)).timestamp()
        for second in range(0, 86_400, STEP_S):
            if begin_s + second > now.timestamp():
                break
            hour = second / 3_600
            if day == _DARK_DAY and 2 <= hour < 6:
                continue
            is_down = day % _DOWN_EVERY == 0 and 10 <= hour < 10 + 1 / 6
            lines.append(f"probe_success{LABELS} {0 if is_down else 1} {begin_s + second:.0f}")
    return lines
