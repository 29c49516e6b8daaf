"""dashboard_info on a real Prometheus that scrapes a run's metrics; our own dashboard and alert rules among them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import lasting_samples
import pytest
from ansible.module_utils.runbook.drivers.observe import prometheus as driver
from ansible.module_utils.runbook.drivers.sandbox import services
from ansible.module_utils.runbook.report import board, metrics, sections
from conftest import ROOT, Outcome, run_module
from fakes.grafana import TOKEN, FakeGrafana
from fakes.http import Asked, FakeService, Fault, Reply
from servers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OURS = ROOT / "monitoring/dashboards"
NOW = datetime.now(UTC)
#: Of a metric that was renamed three days ago, and of an error that came once, ten days ago.
HISTORY = "\n".join(
    [
        "# TYPE http_requests counter",
        *(
            f'http_requests_total{{job="api"}} {at} {(NOW - timedelta(days=4)).timestamp() + 60 * at:.0f}'
            for at in range(120)
        ),
        "# TYPE seldom_errors gauge",
        *(f"seldom_errors 1 {(NOW - timedelta(days=10)).timestamp() + 60 * at:.0f}" for at in range(120)),
        "# EOF",
        "",
    ]
)
#: What an application shows today.
OF_API = """\
http_server_requests_total{job="api",code="200"} 12
http_server_requests_total{job="api",code="500"} 1
http_server_request_duration_seconds_bucket{job="api",le="+Inf"} 12
http_server_requests_total{job="worker",code="200"} 3
"""


class Exporter(FakeService):
    """Serves what runs left, as a file over HTTP."""

    service = "exporter"

    def answer(self, asked: Asked) -> Reply:
        """The same whatever was asked."""
        del asked
        record = lasting_samples.record(NOW.timestamp() - 60)
        text = metrics.metrics(record, sections.lasting(record)) + OF_API
        text += metrics.successes(record | {"schedule": "log-rotation"}, "")
        row = SimpleNamespace(job="log-rotation", skipped_on=["db1"], skipped_at=NOW)
        place = {"name": "production", "environment": "production", "needs": [], "rows": [row]}
        text += board.metrics({"made_at": NOW, "places": [place]})
        return Reply(200, text.encode(), {"Content-Type": "text/plain; version=0.0.4"})


@dataclass(frozen=True)
class Watching(services.Prometheus):
    """One that scrapes the exporter, with our alert rules and two that are broken."""

    def files(self) -> dict[str, str]:
        """Its configuration."""
        scrape = {"job_name": "node", "honor_labels": True}
        blind = {"alert": "Blind", "expr": "rate(http_requests_total[5m]) > 5"}
        gone = {"alert": "Gone", "expr": "absent(http_requests_total)"}
        failing = {"alert": "Failing", "expr": "runbook_run_success / on () runbook_run_step_success"}
        rules = [str(path) for path in sorted((ROOT / "monitoring/alerts").glob("*.yml"))]
        return {
            "prometheus.yml": json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [*rules, "rules.yml"],
                    "scrape_configs": [
                        scrape | {"static_configs": [{"targets": [f"127.0.0.1:{self.application_port}"]}]}
                    ],
                }
            ),
            "rules.yml": json.dumps({"groups": [{"name": "broken", "rules": [blind, gone, failing]}]}),
        }


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Exporter() as exporter:
        port = int(exporter.url.rpartition(":")[2])
        made = Watching(tmp_path_factory.mktemp("prometheus"), application_port=port, history=HISTORY)
        with running(made) as started:
            api = driver.Prometheus.from_params({"prometheus_url": started.url}, timeout_s=60)
            wait_until(lambda: api.now("rate(http_server_requests_total[1m])", at=datetime.now(UTC)))
            wait_until(lambda: all(rule.health != "unknown" for rule in api.rules()))
            yield started.url


def look(url: str, **options: Any) -> Outcome:
    return run_module("dashboard_info", {"prometheus_url": url, "timeout_s": 120} | options)


def panel(title: str, *queries: str, **more: Any) -> dict[str, Any]:
    return {
        "id": 1, "type": "timeseries", "title": title,
        "targets": [{"refId": chr(65 + number), "expr": query} for number, query in enumerate(queries)],
    } | more  # fmt: skip


def dashboard(*panels: dict[str, Any], **variables: dict[str, Any]) -> dict[str, Any]:
    listed = [{"name": name, **each} for name, each in variables.items()]
    return {"title": "Site", "panels": list(panels), "templating": {"list": listed}}


def of_kind(outcome: Outcome, kind: str) -> dict[str, dict[str, Any]]:
    return {each["object"]: each for each in outcome.result["findings"] if each["kind"] == kind}


def test_each_panel_of_ours_shows_something_and_each_alert_of_ours_can_fire(prometheus: str) -> None:
    outcome = look(prometheus, folders=[str(OURS)])
    assert not outcome.failed, outcome.result["msg"]
    (ours,) = outcome.result["dashboards"]
    assert ours == {
        "title": "Runbook", "panels": ours["panels"], "queries": ours["panels"], "empty": 0, "unknown": 0,
    }  # fmt: skip
    assert ours["panels"] > len(sections.METRICS)
    assert outcome.result["unknown"] == []
    # The two broken ones of this test, and none of monitoring/alerts.
    assert [each["id"] for each in outcome.result["findings"]] == ["alert_blind:Blind", "rule_failing:Failing"]
    assert outcome.result["status"] == "breach"


def test_what_is_gone_is_named_with_what_it_may_be_called_now(prometheus: str, tmp_path: Path) -> None:
    made = dashboard(
        panel("Requests", 'sum(rate(http_requests_total{job="$job"}[$__rate_interval]))'),
        panel("Wrong", 'http_server_requests_total{job="nobody"}', "up"),
        panel("Never", 'runbook_run_success{playbook="nobody"}'),
        panel("All well", "runbook_run_success == 0"),
        panel("Seldom", "seldom_errors"),
        panel("Notes", type="text", targets=[]),
        job={"type": "custom", "current": {"value": "api"}},
    )
    (tmp_path / "site.json").write_text(json.dumps(made))
    other = dashboard(*(panel(f"P{number}", f"nobody_{number} > 1") for number in range(5))) | {"title": "Elsewhere"}
    (tmp_path / "elsewhere.json").write_text(json.dumps(other))
    outcome = look(prometheus, folders=[str(tmp_path)])
    empty = of_kind(outcome, "panel_empty")
    # The renamed one gave something within the month; what is wrong with it is its metric.
    assert {where: each["severity"] for where, each in empty.items()} == {
        "Site / Wrong": "info", "Site / Never": "warning", "Site / All well": "info",
    }  # fmt: skip
    gone = of_kind(outcome, "metric_gone")
    assert gone["http_requests_total"]["evidence"]["closest"] == "http_server_requests_total"
    assert gone["http_requests_total"]["evidence"]["panels"] == ["Site / Requests"]
    # A dashboard of which nothing is there is told once.
    assert list(gone) == ["Elsewhere", "http_requests_total", "seldom_errors"]
    assert "it may be called http_server_requests_total now" in of_kind(outcome, "alert_blind")["Blind"]["msg"]
    assert "Gone" not in of_kind(outcome, "alert_blind")


def test_what_cannot_be_asked_is_unknown_and_hides_nothing(prometheus: str, tmp_path: Path) -> None:
    made = dashboard(
        panel("Chosen", 'up{instance="$instance"}'),
        panel("All", 'up{job=~"$job"}'),
        panel("Equal", 'up{job="$job"}'),
        panel("Broken", "sum(up"),
        panel("Logs", '{app="x"}', datasource={"type": "loki", "uid": "l"}),
        {"type": "row", "title": "Folded", "panels": [panel("Inside", "up")]},
        instance={"type": "query", "query": "label_values(up, instance)"},
        job={"type": "query", "includeAll": True, "current": {"value": ["$__all"]}},
    )
    (tmp_path / "site.json").write_text(json.dumps({"dashboard": made}))
    (tmp_path / "torn.json").write_text('{"title": ')
    (tmp_path / "other.json").write_text("{}")
    outcome = look(prometheus, folders=[str(tmp_path)])
    said = {each["msg"]: each["fixable"] for each in outcome.result["unknown"]}
    assert [text.split(":")[0] for text in said] == [
        "other.json is no dashboard of Grafana.", "Site / Chosen", "Site / Equal", "Site / Broken", "Site / Logs",
        "torn.json cannot be read",
    ]  # fmt: skip
    assert [fixable for text, fixable in said.items() if "Logs" in text] == [False]
    assert (outcome.result["dashboards"][0]["panels"], outcome.result["dashboards"][0]["unknown"]) == (6, 4)
    assert of_kind(outcome, "panel_empty") == {}


def test_a_service_without_one_of_its_signals_is_named(prometheus: str, tmp_path: Path) -> None:
    rate = 'sum(rate(http_server_requests_total{job=~"api|worker"}[5m]))'
    errors = 'sum by (job) (rate(http_server_requests_total{code=~"5.."}[5m]))'
    duration = "histogram_quantile(0.9, rate(http_server_request_duration_seconds_bucket[5m]))"
    (tmp_path / "site.json").write_text(json.dumps(dashboard(panel("Rate", rate), panel("More", errors, duration))))
    named = [{"name": name, "labels": {"job": name}} for name in ("api", "worker", "nobody")] + [{"name": "unlabelled"}]
    outcome = look(prometheus, folders=[str(tmp_path)], services=named)
    unseen = {name: each["evidence"]["signals"] for name, each in of_kind(outcome, "service_unseen").items()}
    assert unseen == {"worker": ["errors", "duration"], "nobody": ["rate", "errors", "duration"]}


def test_dashboards_of_a_grafana_page_by_page(prometheus: str) -> None:
    with FakeGrafana() as grafana:
        grafana.dashboards = {
            f"uid-{number}": {"title": f"Board {number}", "panels": [panel("Up", "up")]} for number in range(5)
        }
        grafana.faults.append(Fault("GET /api/dashboards/uid/uid-3", "status", 404))
        given = {"grafana_url": grafana.url, "grafana_token": TOKEN}
        outcome = look(prometheus, **given)
        titles = [each["title"] for each in outcome.result["dashboards"]]
        assert titles == ["Board 0", "Board 1", "Board 2", "Board 4"]
        assert ["404" in each["msg"] for each in outcome.result["unknown"]] == [True]
        refused = look(prometheus, **given | {"grafana_token": "glsa_other"})
    assert (refused.failed, refused.result["dashboards"]) == (False, [])
    assert [each["kind"] for each in refused.result["unknown"]] == ["grafana"]
    assert "renew grafana_token" in refused.result["unknown"][0]["msg"]
    assert "glsa_other" not in json.dumps(refused.result)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "folders, grafana_url: both are empty"),
        ({"folders": ["/nowhere"]}, "folders: /nowhere is no folder"),
        ({"folders": [str(OURS)], "prometheus_url": ""}, "prometheus_url: it is empty"),
        ({"folders": [str(OURS)], "days": 0}, "days"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    outcome = look("http://127.0.0.1:1", **given)
    assert outcome.failed
    assert said in outcome.result["msg"]
