"""monitoring.yml --tags alerts: review, rota and test alerts in one run, with a report and files beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from ansible.module_utils.runbook.drivers.sandbox import services
from ansible.module_utils.runbook.rules.sandbox import demo_alerts
from fakes.http import Asked, FakeService, Reply
from fakes.pagerduty import ROUTING_KEY, SCHEDULE, SERVICE, TOKEN, FakePagerDuty
from servers import running

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

ALWAYS = {"weekdays": ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], "begin": "00:00",
          "end": "23:59", "timezone": "UTC"}  # fmt: skip


def test_the_week_is_reviewed(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    history = "\n".join([*demo_alerts.openmetrics(now), "# EOF", ""])
    with FakePagerDuty() as account:
        past = demo_alerts.pagerduty(now)
        account.history, account.shifts = past["history"], past["shifts"]
        manager = services.Alertmanager(tmp_path / "alertmanager", pagerduty=(account.url, ROUTING_KEY))
        watches = services.Prometheus(tmp_path / "prometheus", history=history, rules=demo_alerts.RULES)
        with running(manager) as alertmanager, running(watches) as prometheus:
            project = Project.for_application(tmp_path)
            project.applications = {}
            project.monitoring = {"monitor": {
                "monitoring_prometheus_url": prometheus.url, "monitoring_alertmanager_urls": [alertmanager.url],
                "pagerduty_api_url": account.url, "pagerduty_api_token": TOKEN, "pagerduty_from": "a@example.com",
                "monitoring_alerts_days": 30, "monitoring_alerts_hours": ALWAYS, "monitoring_alerts_wait_s": 60,
                "monitoring_alerts_schedules": [{"id": SCHEDULE, "name": "Primary"}],
                "monitoring_alerts_receivers": [
                    {"name": "pager", "labels": {"severity": "page"}, "proof": "pagerduty", "services": [SERVICE]},
                ],
            }}  # fmt: skip
            dry = project.run("monitoring.yml", "--tags", "alerts", "--check")
            assert dry.last("alert_delivery_test")["msg"].startswith(
                "Would send a test alert to pager; PagerDuty tells "
            )
            assert account.incidents == [], dry.output
            run = project.run("monitoring.yml", "--tags", "alerts")
    assert run.code != 0, run.output  # nobody took the fourth week
    assert run.last("alert_review_info")["thresholds"][0]["offered"] == 1.0
    hole = next(each for each in run.last("oncall_rota_info")["findings"] if each["kind"] == "hole")
    assert datetime.fromisoformat(hole["evidence"]["begin"]) > now + timedelta(days=14)
    assert {each["subject"]: each["status"] for each in run.last("alert_delivery_test")["checks"]} == {
        "pager": "ok", "on-call": "ok",
    }  # fmt: skip
    assert all(each["end"] for each in account.incidents)
    assert run.record is not None
    assert "promtool test rules" in (run.record / "alert_rules_test.yml").read_text()
    assert "demo_latency_seconds > 1" in (run.record / "alert_rules.diff").read_text()
    report = (run.record / "report.html").read_text()
    for words in ("Firings per alert", "Thresholds that are offered", "On call", "Delivery of alerts"):
        assert words in report
    assert TOKEN not in report + json.dumps(run.results)


class LockedPrometheus(FakeService):
    """One that takes nobody's credentials."""

    service: ClassVar[str] = "prometheus"

    def answer(self, asked: Asked) -> Reply:
        del asked
        return Reply(401, {"status": "error", "error": "Unauthorized"})


def test_alerts_that_are_red_hide_no_audit(tmp_path: Path) -> None:
    with LockedPrometheus() as prometheus:
        project = Project.for_application(tmp_path)
        project.applications = {}
        project.monitoring = {"monitor": {"monitoring_prometheus_url": prometheus.url}}
        both = project.run("monitoring.yml")
        audit = project.run("monitoring.yml", "--tags", "audit")
        alerts = project.run("monitoring.yml", "--tags", "alerts")
    assert {"alert_review_info", "sla_info", "dashboard_info"} <= both.results.keys(), both.output
    assert "alert_review_info" not in audit.results
    assert "sla_info" in audit.results
    assert "sla_info" not in alerts.results
