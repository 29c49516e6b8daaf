"""A review of 500 alerts over 30 days, against a real Prometheus; and what fetching the whole series would cost.

``python -m bench.monitoring`` fills its table of bench/README.md in a minute or two. It needs Prometheus with promtool.
Every alert fires 20 times. One of ten pages somebody, who acts on one of four: of these PagerDuty knows, and for them
thresholds are sought. PagerDuty is the fake of the tests, in pages of 100.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.harness import ROOT, module
from bench.weekly import write_tables

ALERTS, DAYS, FIRINGS, LENGTH_MIN = 500, 30, 20, 30
#: So many page somebody, and have values, of which a threshold is sought.
NOISY = 50
STEP_S = 240
REPEAT = 3


def history(now: datetime) -> tuple[list[str], list[dict[str, Any]]]:
    """The series in the form of OpenMetrics, and the incidents of PagerDuty."""
    begin = (now - timedelta(days=DAYS)).timestamp() // STEP_S * STEP_S
    moments = [begin + STEP_S * step for step in range(DAYS * 86_400 // STEP_S)]
    lines, incidents = ["# TYPE ALERTS gauge"], []
    fired: dict[int, list[tuple[float, float]]] = {}
    for number in range(ALERTS):
        for firing in range(FIRINGS):
            since = begin + 86_400 + (firing * 121_000 + number * 97 % 50_000) // STEP_S * STEP_S
            until = since + 60 * LENGTH_MIN
            fired.setdefault(number, []).append((since, until))
            person = 0 if firing % 4 == 0 else None
            title = f"[FIRING:1] Bench{number:03} (page)"
            if number < NOISY:
                incidents.append(
                    {"id": f"P{number:03}{firing:02}", "title": title, "begin": since + 60, "end": until + 300,
                     "person": person}
                )  # fmt: skip
            labels = f'alert="{number}",alertname="Bench{number:03}",host="h{number}",severity="page"'
            name = f'ALERTS{{{labels},alertstate="firing"}}'
            lines += [f"{name} 1 {since + STEP_S * step:.0f}" for step in range(60 * LENGTH_MIN // STEP_S)]
    lines.append("# TYPE bench_value gauge")
    for number in range(NOISY):
        spans = fired[number]
        at = 0
        for moment in moments:
            while at < len(spans) and spans[at][1] <= moment:
                at += 1
            high = at < len(spans) and spans[at][0] <= moment
            value = (150 if at % 4 == 0 else 100 + at) if high else 20
            lines.append(f'bench_value{{alert="{number}",host="h{number}"}} {value} {moment:.0f}')
    lines.append("# TYPE up gauge")
    lines += [
        f'up{{job="bench"}} 1 {moment:.0f}' for moment in [*moments, *range(int(moments[-1]), int(now.timestamp()), 60)]
    ]
    return [*lines, "# EOF", ""], incidents


def rules() -> tuple[dict[str, Any], ...]:
    """All alerts."""
    return tuple(
        {"alert": f"Bench{number:03}", "expr": f'bench_value{{alert="{number}"}} > 90', "labels": {"severity": "page"}}
        for number in range(ALERTS)
    )


def whole(url: str, now: datetime) -> tuple[float, float]:
    """Seconds and bytes of fetching all samples of the series, day by day."""
    begun, size = time.monotonic(), 0
    for day in range(DAYS):
        begin = now - timedelta(days=DAYS - day)
        span = {"start": begin.timestamp(), "end": (begin + timedelta(days=1)).timestamp(), "step": 60}
        query = urllib.parse.urlencode({"query": 'ALERTS{alertstate="firing"}', **span})
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{query}", timeout=300) as answer:  # noqa: S310 - loopback
            body = answer.read()
        size += len(body)
        json.loads(body)
    return time.monotonic() - begun, size


def main() -> None:
    """Measure, and write what was measured into bench/README.md."""
    sys.path.insert(0, str(ROOT / "tests"))
    # The tests let Python find our module_utils, so they come first.
    import conftest
    from fakes.pagerduty import TOKEN, FakePagerDuty

    del conftest
    from ansible.module_utils.runbook.drivers.sandbox.services import Prometheus

    now = datetime.now(UTC)
    lines, incidents = history(now)
    rows = []
    with tempfile.TemporaryDirectory() as folder, FakePagerDuty() as fake:
        fake.history, fake.page = incidents, 100
        started = Prometheus(Path(folder) / "prometheus", history="\n".join(lines), rules=rules()).start()
        try:
            account = {"pagerduty_api_url": fake.url, "pagerduty_api_token": TOKEN}
            for way, options in (("review with PagerDuty", account), ("review without it", {})):
                took, memory = [], 0
                for _ in range(REPEAT):
                    begun = time.monotonic()
                    result, peak = module("alert_review_info", {"prometheus_url": started.url, "days": DAYS} | options)
                    took.append(time.monotonic() - begun)
                    memory = max(memory, peak)
                counts = f"{sum(each['firings'] for each in result['alerts']):,} | {len(result['thresholds'])}"
                rows.append(f"| {way} | {statistics.median(took):.1f} | {memory / (1 << 20):.0f} | {counts} |")
            seconds, size = whole(started.url, now)
            fetched = f"all samples of ALERTS fetched, {size / 1e6:.0f} MB, and nothing judged"
            rows.append(f"| {fetched} | {seconds:.1f} | – | – | – |")
        finally:
            started.stop()
    head = [f"{ALERTS} alerts, {DAYS} days; medians of {REPEAT} runs.", "",
            "| way | wall s | memory MiB | firings | thresholds offered |", "|---|---|---|---|---|"]  # fmt: skip
    write_tables("monitoring", [*head, *rows, "", ""])


if __name__ == "__main__":
    main()
