"""Thirty days of alerts that the sandbox begins with: what was measured, what fired, and what people did about it.

Invented, like the metrics of ``demo_history``: an alert with a threshold that is too low, one that flaps on a day, one
that fires for ever, one that never fired, and one whose metric was renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

DAYS = 30
#: Seconds between two samples; Prometheus looks back for five minutes.
STEP_S = 240

#: As Prometheus has them.
RULES: tuple[dict[str, Any], ...] = (
    {"alert": "DemoLatency", "expr": "demo_latency_seconds > 0.5", "for": "8m", "labels": {"severity": "page"},
     "annotations": {"summary": "Pages take {{ $value }} seconds."}},
    {"alert": "DemoQueue", "expr": "demo_queue_length > 100", "labels": {"severity": "page"},
     "annotations": {"summary": "The queue of {{ $labels.queue }} is long."}},
    {"alert": "DemoHeartbeat", "expr": "absent(demo_heartbeat)", "labels": {"severity": "info"}},
    {"alert": "DemoNever", "expr": "demo_latency_seconds > 30", "labels": {"severity": "page"}},
    {"alert": "DemoRenamed", "expr": "demo_queue_size > 100", "labels": {"severity": "page"}},
)  # fmt: skip


@dataclass(frozen=True)
class _Peak:
    """A time above a threshold: when it begins in days before now, how long, how high, and who did something."""

    days_ago: float
    minutes: int
    height: float
    person: int | None = None


_LATENCY = (
    *(_Peak(29 - 2.6 * number, 24 + 4 * (number % 3), 0.6 + 0.05 * (number % 4)) for number in range(10)),
    _Peak(26.1, 60, 1.6, 0),
    _Peak(14.3, 44, 1.3, 1),
    _Peak(5.7, 92, 2.1, 0),
)
_QUEUE = tuple(_Peak(9.0 - 0.04 * number, 12, 140.0) for number in range(8))
_HEARTBEAT_DAYS = 11


def _when(peak: _Peak, now: datetime) -> tuple[float, float]:
    begin = (now - timedelta(days=peak.days_ago)).timestamp() // STEP_S * STEP_S
    return begin, begin + peak.minutes * 60


def _moments(now: datetime) -> Iterator[float]:
    last = now.timestamp() // STEP_S * STEP_S
    at = last - DAYS * 86_400
    while at <= last:
        yield at
        at += STEP_S


def openmetrics(now: datetime) -> list[str]:
    """The series, in the form of OpenMetrics and without its last line."""
    lines: list[str] = []
    levels = {
        "demo_latency_seconds": ('{origin="invented"}', 0.21, _LATENCY),
        "demo_queue_length": ('{origin="invented",queue="mail"}', 12.0, _QUEUE),
    }
    for name, (labels, usual, peaks) in levels.items():
        lines.append(f"# TYPE {name} gauge")
        spans = [(*_when(peak, now), peak.height) for peak in peaks]
        for at in _moments(now):
            value = next((height for begin, end, height in spans if begin <= at < end), usual)
            # A little noise, the same every time.
            lines.append(f"{name}{labels} {value * (1 + (at // STEP_S % 7) / 100):.4g} {at:.0f}")
    lines.append("# TYPE ALERTS gauge")
    for alert, labels, wait_s, peaks in (
        ("DemoLatency", 'origin="invented",severity="page"', 480, _LATENCY),
        ("DemoQueue", 'origin="invented",queue="mail",severity="page"', 0, _QUEUE),
    ):
        name = f'ALERTS{{alertname="{alert}",alertstate="firing",{labels}}}'
        for peak in sorted(peaks, key=lambda each: -each.days_ago):
            begin, end = _when(peak, now)
            at = begin + wait_s
            while at < end:
                lines.append(f"{name} 1 {at:.0f}")
                at += STEP_S
    always = 'ALERTS{alertname="DemoHeartbeat",alertstate="firing",severity="info"}'
    since = now.timestamp() - _HEARTBEAT_DAYS * 86_400
    lines += [f"{always} 1 {at:.0f}" for at in _moments(now) if at >= since]
    lines.append("# TYPE up gauge")
    lines += [f'up{{instance="invented",job="invented"}} 1 {at:.0f}' for at in _moments(now)]
    return lines


def pagerduty(now: datetime) -> dict[str, Any]:
    """What the fake of PagerDuty begins with: incidents, what people did, and who is on call, with a hole."""
    incidents = []
    for number, peak in enumerate(sorted(_LATENCY, key=lambda each: -each.days_ago), 1):
        begin, end = _when(peak, now)
        incidents.append(
            {
                "id": f"PDEMO{number:02}", "title": "[FIRING:1] DemoLatency (invented page)", "begin": begin + 500,
                "end": end + 300, "person": peak.person,
            }
        )  # fmt: skip
    # Each a week from Monday 09:00 on; nobody took the fourth one.
    monday = (now - timedelta(days=now.weekday())).replace(hour=9, minute=0, second=0, microsecond=0)
    shifts = [
        {"person": week % 2, "begin": begin, "end": begin + 604_800}
        for week in range(-1, 8)
        for begin in (monday.timestamp() + week * 604_800,)
        if week != 3
    ]
    return {"history": incidents, "shifts": shifts}
