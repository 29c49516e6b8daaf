"""alert_review_info on thirty days of alerts in a real Prometheus: what fired, who acted, and what is offered."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.request import urlopen

import pytest
from ansible.module_utils.runbook.drivers.sandbox import services
from ansible.module_utils.runbook.rules.sandbox import demo_alerts
from conftest import Outcome, run_module
from fakes.http import Asked, FakeService, Fault, Reply
from fakes.pagerduty import TOKEN, FakePagerDuty
from servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Its query is no series of its own, so its test asks for one in its place.
RATIO = {"alert": "DemoRatio", "expr": "demo_latency_seconds / 2 > 0.25", "for": "8m", "labels": {"severity": "page"}}


@pytest.fixture(scope="module")
def now() -> datetime:
    """When these tests begin; this file is read long before."""
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> Iterator[str]:
    lines = demo_alerts.openmetrics(now)
    # DemoRatio fired whenever DemoLatency did.
    more = [line.replace("DemoLatency", "DemoRatio") for line in lines if "DemoLatency" in line]
    at = next(number for number, line in enumerate(lines) if line == "# TYPE up gauge")
    history = "\n".join([*lines[:at], *more, *lines[at:], "# EOF", ""])
    rules = (*demo_alerts.RULES, RATIO)
    made = services.Prometheus(tmp_path_factory.mktemp("prometheus"), history=history, rules=rules)
    with running(made) as started:
        yield started.url


@pytest.fixture
def pagerduty(now: datetime) -> Iterator[FakePagerDuty]:
    with FakePagerDuty() as fake:
        fake.history = demo_alerts.pagerduty(now)["history"]
        fake.history += [
            each | {"id": each["id"].replace("DEMO", "RATIO"), "title": each["title"].replace("Latency", "Ratio")}
            for each in fake.history
        ]
        yield fake


def look(url: str, fake: FakePagerDuty | None = None, **options: Any) -> Outcome:
    account = {"pagerduty_api_url": fake.url, "pagerduty_api_token": TOKEN} if fake else {}
    return run_module("alert_review_info", {"prometheus_url": url, "days": 30} | account | options)


def by_alert(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {each["alert"]: each for each in outcome.result["alerts"]}


def test_what_fired_what_was_acted_on_and_a_threshold_that_promtool_proves(
    prometheus: str, pagerduty: FakePagerDuty, tmp_path: Path
) -> None:
    outcome = look(prometheus, pagerduty)
    result = outcome.result
    assert not outcome.failed, result["msg"]
    assert result["coverage"] == pytest.approx(1, abs=0.001)
    latency = by_alert(outcome)["DemoLatency"]
    assert (latency["firings"], latency["acted_on"], latency["not_acted_on"]) == (13, 3, 10)
    assert (latency["people"], latency["ended_by_itself"]) == (["Ada Byron", "Grace Murray"], 10)
    assert (latency["precision"], sum(latency["by_day"])) == (0.231, 13)
    queue = by_alert(outcome)["DemoQueue"]
    # PagerDuty knows nothing of it, so nobody knows whether somebody acted.
    assert (queue["firings"], queue["acted_on_unknown"], queue["precision"]) == (8, 8, None)
    assert {each["id"] for each in result["findings"]} >= {
        "false_positives:DemoLatency", "flapping:DemoQueue", "fires_for_ever:DemoHeartbeat", "never_fired:DemoNever",
        "no_series:DemoRenamed",
    }  # fmt: skip
    assert {each["kind"] for each in result["unknown"]} == {"precision"}

    offered = {each["alert"]: each for each in result["thresholds"]}
    assert (offered["DemoLatency"]["today"], offered["DemoLatency"]["offered"]) == (0.5, 1.0)
    assert (offered["DemoLatency"]["removed"], offered["DemoLatency"]["incidents"]) == (10, 3)
    assert offered["DemoRatio"]["offered"] == 0.5
    changed = [line for line in result["rules_diff"] if line.startswith(("+ ", "- "))]
    assert changed == [
        '-        expr: "demo_latency_seconds > 0.5"', '+        expr: "demo_latency_seconds > 1"',
        '-        expr: "demo_latency_seconds / 2 > 0.25"', '+        expr: "demo_latency_seconds / 2 > 0.5"',
    ]  # fmt: skip
    files = {
        "alert_rules.yml": "rules_text", "alert_rules_test.yml": "rules_test_text",
        "alert_rules_replay.yml": "replay_text", "alert_rules_replay_test.yml": "replay_test_text",
    }  # fmt: skip
    for name, key in files.items():
        (tmp_path / name).write_text("\n".join(result[key]) + "\n")
    tool = shutil.which("promtool") or pytest.skip("promtool is not installed")
    rules = tmp_path / "alert_rules.yml"

    def promtool(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([tool, *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert promtool("check", "rules", "alert_rules.yml", "alert_rules_replay.yml").returncode == 0
    tests = ("alert_rules_test.yml", "alert_rules_replay_test.yml")
    done = promtool("test", "rules", *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    # With today's threshold what has to be quiet fires, and with one too high the incident is missed.
    for number in ("0.5", "1.9"):
        rules.write_text(rules.read_text().replace("demo_latency_seconds > 1", f"demo_latency_seconds > {number}"))
        assert promtool("test", "rules", tests[0]).returncode != 0
        rules.write_text(rules.read_text().replace(f"demo_latency_seconds > {number}", "demo_latency_seconds > 1"))


def test_without_pagerduty_nothing_is_called_a_false_positive(prometheus: str, pagerduty: FakePagerDuty) -> None:
    # What is no Alertmanager at all.
    outcome = look(prometheus, alertmanager_urls=[pagerduty.url])
    result = outcome.result
    assert (outcome.failed, result["status"]) == (False, "unknown")
    assert not [each for each in result["findings"] if each["kind"] == "false_positives"]
    assert (result["thresholds"], result["no_threshold"]) == ([], [])
    said = " ".join(each["msg"] for each in result["unknown"] if each["kind"] == "acted_on")
    assert "PagerDuty is not named (pagerduty_api_token)" in said
    assert f"not known from {pagerduty.url}" in said


def test_what_pagerduty_refuses_is_unknown(prometheus: str, pagerduty: FakePagerDuty) -> None:
    pagerduty.faults.append(Fault("GET /log_entries", "status", 403, body={"error": {"message": "no"}}))
    result = look(prometheus, pagerduty).result
    assert result["status"] == "unknown"
    assert "GET /log_entries with 403" in next(each["msg"] for each in result["unknown"] if each["kind"] == "acted_on")
    assert TOKEN not in str(result)


def test_fewer_days_than_were_asked_for_are_said(prometheus: str, pagerduty: FakePagerDuty) -> None:
    result = look(prometheus, pagerduty, days=60).result
    assert result["status"] == "unknown"
    assert result["coverage"] == pytest.approx(0.5, abs=0.01)
    assert "50.0 % of the 60 days" in next(each["msg"] for each in result["unknown"] if each["kind"] == "history")
    # What is known is told all the same.
    assert by_alert_name(result, "DemoLatency")["firings"] == 13


def by_alert_name(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(each) for each in result["alerts"] if each["alert"] == name)


def test_a_week_is_a_week(prometheus: str, pagerduty: FakePagerDuty) -> None:
    result = look(prometheus, pagerduty, days=7).result
    latency = by_alert_name(result, "DemoLatency")
    assert latency["firings"] < 5
    assert latency["precision"] is None
    assert datetime.fromisoformat(result["end"]) - datetime.fromisoformat(result["begin"]) == timedelta(days=7)
    (why,) = [each["why"] for each in result["no_threshold"] if each["alert"] == "DemoLatency"]
    assert "and 5 are needed" in why


def test_a_prometheus_that_cannot_answer_is_unknown(pagerduty: FakePagerDuty) -> None:
    pagerduty.faults.append(Fault("GET /api/v1/rules", "status", 500, body={"error": "no disk"}))
    outcome = look(pagerduty.url)
    assert (outcome.failed, outcome.result["status"]) == (True, "unknown")
    assert "no disk" in outcome.result["msg"]
    empty = look("")
    assert "prometheus_url: it is empty" in empty.result["msg"]


class Leaving(FakeService):
    """A Prometheus that is gone as soon as it has told what fired."""

    service: ClassVar[str] = "prometheus"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url_of_it = url

    def answer(self, asked: Asked) -> Reply:
        if "/label/" in asked.path or "last_over_time" in asked.query:
            # It is not asked again, as it would be after a 503.
            return Reply(404, {"status": "error"})
        target = f"{self.url_of_it}{asked.path}?{asked.query}" if asked.query else f"{self.url_of_it}{asked.path}"
        with urlopen(target, timeout=60) as answer:  # noqa: S310 - loopback
            return Reply(200, answer.read(), {"Content-Type": "application/json"})


class Empty(FakeService):
    """A Prometheus that has no rule and no sample."""

    service: ClassVar[str] = "prometheus"

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/api/v1/rules":
            return Reply(200, {"status": "success", "data": {"groups": []}})
        if "/label/" in asked.path:
            return Reply(200, {"status": "success", "data": []})
        return Reply(200, {"status": "success", "data": {"resultType": "vector", "result": []}})


def test_a_prometheus_without_a_rule_is_unknown() -> None:
    with Empty() as fake:
        outcome = run_module("alert_review_info", {"prometheus_url": fake.url})
    assert "Prometheus has no alert rule, so nobody is told of anything by it." in {
        each["msg"] for each in outcome.result["unknown"]
    }


def test_a_prometheus_that_is_gone_in_the_middle_is_unknown(prometheus: str, pagerduty: FakePagerDuty) -> None:
    """What it did not say is not taken for nothing to say."""
    with Leaving(prometheus) as fake:
        outcome = look(fake.url, pagerduty)
    said = [each["msg"] for each in outcome.result["unknown"] if each["kind"] == "queries"]
    assert said[0].startswith("Which alerts never fired is not known: Prometheus refused")
    assert said[1].startswith("Whether the queries of alerts that did not fire have series is not known:")
