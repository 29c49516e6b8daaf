"""sla_info on a real Prometheus with a month behind it: gaps, resets, NaN, what was not kept, a renamed metric."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.sandbox.services import Prometheus
from conftest import Outcome, run_module
from record_samples import Sample, fold
from servers import running

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
END = TODAY.replace(day=1)
BEGIN = (END - timedelta(days=1)).replace(day=1)
#: Between two samples, in seconds.
STEP_S = 120
SITE = {"name": "site", "objective_percent": 99.9, "probe": 'probe_success{job="site"}'}
API = {"name": "api", "objective_percent": 99.0, "good": 'http_total{code!~"5.."}', "total": "http_total"}


def history() -> str:
    """A month of samples."""
    minutes = range(0, int((END - BEGIN).total_seconds()), STEP_S)
    day = 86_400
    probes: dict[str, Callable[[int], float | None]] = {
        # Down for 80 minutes in the night of the third day, of which an hour was planned.
        "site": lambda at: 0 if 2 * day + 3_600 <= at < 2 * day + 8_400 else 1,
        # What Prometheus kept of it begins in the middle of the month.
        "late": lambda at: 1 if at >= 15 * day else None,
        # A gap of an hour, and an exporter that gives no number for another.
        "gap": lambda at: None if 3_600 <= at < 7_200 else float("nan") if 10_800 <= at < 14_400 else 1,
    }
    lines = ["# TYPE probe_success gauge"]
    for job, value in probes.items():
        lines += [
            f'probe_success{{job="{job}"}} {found} {BEGIN.timestamp() + at:.0f}'
            for at in minutes
            if (found := value(at)) is not None
        ]
    lines.append("# TYPE http counter")
    # Ten requests a step, one in 200 fails; its process began again on the tenth day.
    for code, each in (("200", 9.95), ("500", 0.05)):
        lines += [
            f'http_total{{code="{code}"}} {each * ((at - 10 * day if at >= 10 * day else at) // STEP_S):.2f} '
            f"{BEGIN.timestamp() + at:.0f}"
            for at in minutes
        ]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(Prometheus(tmp_path_factory.mktemp("prometheus"), history=history())) as started:
        yield started.url


def look(url: str, *services: dict[str, Any], run_dir: Path | None = None, **options: Any) -> Outcome:
    environ: dict[str, Any] = {} if run_dir is None else {"RUNBOOK_RUN_DIR": str(run_dir)}
    given = {"services": list(services), "prometheus_url": url, "environment": "sandbox", "timeout_s": 120}
    return run_module("sla_info", given | options, **environ)


def by_name(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in outcome.result["levels"]}


def test_a_month_by_probe_and_by_requests_with_a_counter_that_began_again(prometheus: str) -> None:
    outcome = look(prometheus, SITE, API)
    assert (outcome.failed, outcome.result["status"]) == (False, "breach"), outcome.result["msg"]
    assert [each["id"] for each in outcome.result["findings"]] == ["sla_missed:site"]
    levels = by_name(outcome)
    days = (END - BEGIN).days
    assert levels["site"]["coverage_percent"] > 99.9
    assert levels["site"]["budget_spent"] == pytest.approx(4_800, abs=300)
    assert levels["site"]["availability_percent"] == pytest.approx(100 - 100 * 4_800 / (days * 86_400), abs=0.02)
    assert (len(levels["site"]["days"]), levels["site"]["days"][0]["day"]) == (days, BEGIN.date().isoformat())
    assert levels["api"]["availability_percent"] == pytest.approx(99.5, abs=0.01)
    assert levels["api"]["budget"] == pytest.approx(0.01 * days * 86_400 / STEP_S * 10, rel=0.01)
    # Nobody asked either of them since the month ended.
    assert {each["kind"] for each in outcome.result["unknown"]} == {"api_burn", "site_burn"}


def test_what_was_done_in_its_window_is_planned(prometheus: str, tmp_path: Path) -> None:
    began = BEGIN + timedelta(days=2, hours=1)
    sample = Sample(began.timestamp(), playbook="weekly_db")
    sample.step("Archive", "pg_archive", "db1", "changed", figures={"status": "ok"}, after_s=3_600.0)
    name = f"{began:%Y%m%dT%H%M%S}Z-weekly_db"
    (tmp_path / name).mkdir()
    (tmp_path / name / "record.json").write_text(json.dumps(fold(sample.end(db1={}).events)))
    (tmp_path / f"{began:%Y%m%dT%H%M%S}Z-torn").mkdir()
    (tmp_path / "now").mkdir()
    window = {"id": "night", "kind": "once", "begin": f"{began:%Y-%m-%d} 01:00", "end": f"{began:%Y-%m-%d} 02:00"}
    outcome = look(prometheus, SITE, run_dir=tmp_path / "now", calendar={"windows": [window]})
    (level,) = outcome.result["levels"]
    assert outcome.result["planned"] == [{"begin": began.isoformat(), "end": (began + timedelta(hours=1)).isoformat()}]
    assert (level["planned_s"], level["budget_spent"]) == (3_600, pytest.approx(1_200, abs=300))
    assert [each["kind"] for each in outcome.result["findings"]] == ["sla_met_without_planned"]
    assert level["with_planned_percent"] < 99.9 < level["availability_percent"]


def test_a_month_is_not_judged_by_what_was_kept_of_it(prometheus: str) -> None:
    late = SITE | {"name": "late", "probe": 'probe_success{job="late"}'}
    outcome = look(prometheus, late)
    assert (outcome.failed, outcome.result["status"]) == (False, "unknown")
    (level,) = outcome.result["levels"]
    assert (level["availability_percent"], level["budget_left_percent"]) == (None, None)
    assert level["coverage_percent"] == pytest.approx(100 - 100 * 15 / (END - BEGIN).days, abs=0.1)
    assert "before which Prometheus kept none" in level["why_not"]
    assert level["days"][0]["availability_percent"] is None


def test_a_gap_and_no_numbers_are_no_time_down(prometheus: str) -> None:
    outcome = look(prometheus, SITE | {"name": "gap", "probe": 'probe_success{job="gap"}'})
    (level,) = outcome.result["levels"]
    assert (outcome.result["status"], level["availability_percent"]) == ("ok", 100.0)
    assert 99.6 < level["coverage_percent"] < 99.8


def test_a_metric_that_is_gone_hides_no_other(prometheus: str) -> None:
    outcome = look(prometheus, SITE | {"name": "old", "probe": "probe_ok"}, API)
    assert (outcome.failed, outcome.result["status"]) == (False, "unknown")
    assert "Prometheus has no sample of probe_ok" in by_name(outcome)["old"]["why_not"]
    assert by_name(outcome)["api"]["availability_percent"] == pytest.approx(99.5, abs=0.01)


def test_where_nothing_is_promised_nobody_knows_whether_it_was_kept() -> None:
    outcome = look("http://127.0.0.1:1")
    assert (outcome.failed, outcome.result["status"], outcome.result["levels"]) == (False, "unknown", [])
    assert "none is named" in outcome.result["unknown"][0]["msg"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prometheus_url": ""}, "prometheus_url: it is empty"),
        ({"month": "2100-01"}, "month: 2100-01 is not over yet"),
        ({"min_coverage_percent": 0}, "min_coverage_percent"),
        ({"services": [SITE | {"probe": "rate(up[5m])"}]}, "is no selector"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    outcome = look("http://127.0.0.1:1", SITE, **given)
    assert outcome.failed
    assert said in outcome.result["msg"]


def test_the_playbook_makes_a_report_with_charts(prometheus: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "boards").mkdir()
    panel = {"id": 1, "title": "Requests", "type": "stat", "targets": [{"refId": "A", "expr": "rate(http_total[5m])"}]}
    (tmp_path / "boards/site.json").write_text(json.dumps({"title": "Site", "panels": [panel]}))
    watched = {
        "monitoring_prometheus_url": prometheus,
        "monitoring_audit_services": [SITE, API | {"labels": {"job": "api"}}],
        "monitoring_audit_folders": [str(tmp_path / "boards")],
        "monitoring_audit_days": 92,
        "monitoring_audit_timeout_s": 120,
    }
    common = {
        "runbook_environment": "sandbox",
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "state_directory": str(tmp_path / "state"),
    }
    run = Project(tmp_path, {}, common, monitoring={"monitor": watched}).run("monitoring.yml", "--tags", "audit")
    assert run.code == 1, run.output
    assert set(run.results) >= {"sla_info", "incident_info", "dashboard_info"}
    assert "alert_review_info" not in run.results
    assert run.last("incident_info")["status"] == "ok"
    # The sandbox's Prometheus has alerts whose metrics are not here.
    kinds = {each["kind"] for each in run.last("dashboard_info")["findings"]} - {"alert_blind"}
    assert kinds == {"metric_gone", "service_unseen"}
    assert "site was available 99.8" in run.output
    assert run.record is not None
    page = (run.record / "report.html").read_text()
    assert page.count("availability by day") >= 2
    assert page.count("error budget spent") >= 2
    metrics = (run.record / "metrics.prom").read_text()
    here = 'environment="sandbox",playbook="monitoring",host="monitor"'
    assert f'runbook_sla_availability_ratio{{{here},service="api"}} 0.99' in metrics
    assert f'runbook_dashboards_findings{{{here},kind="metric_gone"}} 1' in metrics
    assert "sla\\_missed:site" in (run.record / "report.md").read_text()
