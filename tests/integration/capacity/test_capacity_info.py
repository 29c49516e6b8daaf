"""capacity_info on a real database, Prometheus and bucket; and playbooks/capacity.yml with its report."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.sandbox.services import Prometheus
from ansible.module_utils.runbook.rules import record
from ansible.module_utils.runbook.rules.sandbox.demo_history import openmetrics
from conftest import ROOT, S3, Database, Outcome, run_module
from fakes.http import Fault
from fakes.supabase import REF, TOKEN, FakeSupabase
from record_samples import Sample, fold
from servers import running

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRICES = ROOT / "roles/capacity/files/supabase.yml"
NOW = datetime.now(UTC)
REQUESTS = {"name": "requests", "source": "prometheus", "query": "demo_api_requests_total", "unit": "requests"}
DISK = {"name": "disk", "source": "prometheus", "query": "demo_disk_bytes", "unit": "bytes", "limit": 8.4e9}
SIZE = {"name": "database_size", "source": "database_size"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real one that begins with half a year of samples."""
    made = Prometheus(tmp_path_factory.mktemp("prometheus"), history=openmetrics(NOW))
    with running(made) as started:
        yield started.url


@pytest.fixture
def supabase() -> Iterator[FakeSupabase]:
    with FakeSupabase() as made:
        yield made


def look(*quantities: dict[str, Any], run_dir: Path | None = None, **options: Any) -> Outcome:
    environ: dict[str, Any] = {} if run_dir is None else {"RUNBOOK_RUN_DIR": str(run_dir)}
    return run_module(
        "capacity_info",
        {"quantities": list(quantities), "environment": "sandbox", "timeout_s": 60} | options,
        **environ,
    )


def by_name(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in outcome.result["quantities"]}


def of_supabase(fake: FakeSupabase) -> dict[str, Any]:
    return {"project_ref": REF, "access_token": TOKEN, "api_url": fake.url}


def keep(runs: Path, name: str, module: str, result: dict[str, Any], environment: str = "sandbox") -> None:
    """Write the record of a run that had this result, as the callback makes it."""
    sample = Sample()
    sample.result(sample.task("Look", module), "db1", figures=record.redact(record.figures(result, own=True)))
    (runs / name).mkdir(parents=True)
    (runs / name / "record.json").write_text(json.dumps(fold(sample.events) | {"environment": environment}))


def test_a_database_has_no_history_at_first_and_goes_on_from_its_record(database: Database, tmp_path: Path) -> None:
    database.run("CREATE TABLE t AS SELECT generate_series(1, 50000) AS i")
    quantities = (
        SIZE | {"limit": 1e12},
        {"name": "t", "source": "table_size", "table": "public.t"},
        {"name": "connections", "source": "connections"},
        {"name": "users", "source": "sql", "query": "SELECT count(*) FROM public.t", "unit": "users"},
    )
    first = look(*quantities, **database.login)
    assert not first.failed, first.result["msg"]
    assert first.result["status"] == "ok"
    found = by_name(first)
    assert {name: each["p50"] for name, each in found.items()} == dict.fromkeys(found)
    assert found["users"]["history"] == [[NOW.date().isoformat(), 50_000.0]]
    assert found["connections"]["limit_of"] == "max_connections"
    assert "t: 1 day of history, and a forecast of a quarter needs 31" in found["t"]["why_not"]
    assert {"name": "public.t", "size_bytes": found["t"]["history"][0][1], "grown_bytes": None} in first.result[
        "tables"
    ]

    # Forty days later, as its records have it.
    past = [[(NOW.date() - timedelta(days=40 - at)).isoformat(), 30_000.0 + 500 * at] for at in range(40)]
    keep(tmp_path, "20261101T020000Z-capacity", "capacity_info", first.result | {
        "quantities": [found["users"] | {"history": past}],
    })  # fmt: skip
    keep(tmp_path, "20261102T020000Z-performance", "pg_index_info", {
        "findings": [{"id": "a", "kind": "unused_index", "evidence": {"size_bytes": 2**30}}],
    })  # fmt: skip
    # A host of the same name has a history of its own in another environment.
    keep(tmp_path, "20261103T020000Z-capacity", "capacity_info", first.result, environment="production")
    (tmp_path / "now").mkdir()
    second = look(*quantities, run_dir=tmp_path / "now", **database.login)
    users = by_name(second)["users"]
    assert users["p50"] == pytest.approx(50_000 + 500 * 92, rel=0.02)
    assert second.result["compared_with"] == "20261101T020000Z-capacity"
    assert "saving:useless_indexes" in [each["id"] for each in second.result["findings"]]


def test_what_the_database_refuses_is_unknown_and_hides_nothing(database: Database) -> None:
    outcome = look(
        SIZE,
        {"name": "gone", "source": "table_size", "table": "public.gone"},
        {"name": "many", "source": "sql", "query": "SELECT 1 AS a, 2 AS b", "unit": "rows"},
        {"name": "written", "source": "sql", "query": "CREATE TABLE public.written (i int)", "unit": "rows"},
        {"name": "wrong", "source": "sql", "query": "SELECT nobody FROM public.nowhere", "unit": "rows"},
        **database.login,
    )
    assert (outcome.failed, outcome.result["status"]) == (False, "unknown")
    why = {name: each["why_not"] for name, each in by_name(outcome).items()}
    assert "there is no table public.gone" in why["gone"]
    assert "one row with one number" in why["many"]
    assert "read-only transaction" in why["written"]
    assert "the server refused it" in why["wrong"]
    assert len(by_name(outcome)["database_size"]["history"]) == 1
    assert database.one("SELECT to_regclass('public.written')") is None


def test_a_database_that_does_not_answer_hides_no_bucket(s3: S3) -> None:
    bucket = s3.bucket()
    given = {key: value for key, value in s3.options(bucket).items() if key != "bucket"}
    nobody: dict[str, Any] = {"login_host": "127.0.0.1", "login_port": 1, "login_user": "u", "login_db": "d"}
    outcome = look(SIZE, {"name": "files", "source": "s3", "bucket": bucket}, **given, **nobody)
    assert (outcome.failed, outcome.result["status"]) == (False, "unknown")
    found = by_name(outcome)
    assert "database_size: " in found["database_size"]["why_not"]
    assert [value for _, value in found["files"]["history"]] == [0.0]


def test_another_cluster_than_the_pinned_one_is_an_error(database: Database) -> None:
    outcome = look(SIZE, **database.login, system_identifier="7")
    assert outcome.failed
    assert outcome.result["status"] == "breach"


def test_a_real_prometheus_gives_a_history(prometheus: str) -> None:
    outcome = look(REQUESTS | {"kind": "counter"}, DISK, prometheus_url=prometheus)
    assert not outcome.failed, outcome.result["msg"]
    found = by_name(outcome)
    # Its process began again on the way, and a week has its rhythm; a month of it has neither.
    assert found["requests"]["now"] == pytest.approx(42_000 * 30.44 * 1.55, rel=0.15)
    assert found["requests"]["p50"] == pytest.approx(42_000 * 30.44 * 1.8, rel=0.15)
    # The jump of a migration is no growth.
    assert found["disk"]["steps"]
    assert found["disk"]["p50"] == pytest.approx(4.4e9 + 13e6 * (179 + 92) + 6e8, rel=0.03)
    assert [each["id"] for each in outcome.result["findings"]] == ["capacity_limit:disk"]
    assert [each["alert"] for each in outcome.result["alerts"]] == ["RunbookCapacityDisk"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("demo_renamed_total", "gave no sample of 400 days"),
        ('{__name__=~"demo_.*_total"}', "more than one series"),
        ("sum(", "400"),
    ],
)
def test_a_query_that_gives_nothing_is_unknown(prometheus: str, query: str, said: str) -> None:
    outcome = look(REQUESTS | {"query": query}, prometheus_url=prometheus)
    assert (outcome.failed, outcome.result["status"]) == (False, "unknown")
    assert said in by_name(outcome)["requests"]["why_not"]


def test_supabase_tells_requests_runs_and_disk(supabase: FakeSupabase) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    supabase.hours = [
        {
            "timestamp": (midnight - timedelta(hours=hour)).isoformat(),
            "total_auth_requests": 1, "total_realtime_requests": 2, "total_rest_requests": 3,
            "total_storage_requests": 4,
        }
        for hour in range(1, 7 * 24)
    ]  # fmt: skip
    supabase.runs = {"fn-a": [10, 5], "fn-b": [], "fn-c": [7]}
    outcome = look(
        {"name": "api_requests", "source": "supabase_requests"},
        {"name": "function_runs", "source": "supabase_function_runs"},
        {"name": "disk", "source": "supabase_disk"},
        **of_supabase(supabase),
    )
    assert outcome.result["status"] == "ok"
    found = by_name(outcome)
    assert {value for _, value in found["api_requests"]["history"]} == {240.0}
    assert [value for _, value in found["function_runs"]["history"]] == [22.0]
    assert (found["disk"]["limit"], found["disk"]["limit_of"]) == (8e9, "size of the disk")


def test_a_supabase_that_fails_is_unknown(supabase: FakeSupabase) -> None:
    supabase.usage_error = "analytics are down"
    supabase.disk = {}
    outcome = look(
        {"name": "api_requests", "source": "supabase_requests"},
        {"name": "disk", "source": "supabase_disk"},
        **of_supabase(supabase),
    )
    assert outcome.result["status"] == "unknown"
    assert "Supabase could not count" in by_name(outcome)["api_requests"]["why_not"]
    supabase.faults.append(Fault("GET .*/functions", "status", 403, body={"message": "no right"}))
    refused = look({"name": "runs", "source": "supabase_function_runs"}, **of_supabase(supabase))
    assert refused.result["status"] == "unknown"
    assert TOKEN not in json.dumps(refused.result)


def test_files_of_a_bucket_are_added_up(s3: S3) -> None:
    bucket = s3.bucket()
    client = s3.client()
    for name, size in (("avatars/0", 1000), ("avatars/1", 2000), ("other", 1)):
        client.put_object(Bucket=bucket, Key=name, Body=b"x" * size)
    given = {key: value for key, value in s3.options(bucket).items() if key != "bucket"}
    files = {"name": "files", "source": "s3", "bucket": bucket, "prefix": "avatars/"}
    outcome = look(files, files | {"name": "lost", "bucket": "not-there"}, **given)
    found = by_name(outcome)
    assert [value for _, value in found["files"]["history"]] == [3000.0]
    assert found["lost"]["why_not"]


def test_bad_input_is_refused_before_anything_is_asked() -> None:
    refused = look(REQUESTS)
    assert refused.failed
    assert refused.result["msg"].startswith("prometheus_url: it is empty")
    assert look(DISK, prometheus_url="http://127.0.0.1:1", lead_days=0).result["msg"].startswith("lead_days: 0 is out")
    missing = look(DISK, prometheus_url="http://127.0.0.1:1", alerts_file="/nowhere/rules.yml")
    assert "alerts_file: /nowhere/rules.yml cannot be read" in missing.result["msg"]


def test_the_playbook_makes_a_report_with_charts_and_files_of_alerts(
    database: Database, prometheus: str, tmp_path: Path
) -> None:
    in_use = tmp_path / "in_use.yml"
    in_use.write_text("groups: []\n")
    project = Project.for_database(
        tmp_path,
        database,
        capacity_quantities=[SIZE, DISK | {"limit": 7.6e9}, REQUESTS | {"kind": "counter"}],
        capacity_prometheus_url=prometheus,
        capacity_prices=f"{{{{ lookup('ansible.builtin.file', '{PRICES}') | from_yaml }}}}",
        capacity_chosen={"plan": "pro", "compute": "small"},
        capacity_alerts_file=str(in_use),
    )
    run = project.run("capacity.yml")
    assert run.code == 1, run.output
    result = run.last("capacity_info")
    assert result["status"] == "breach"
    assert (result["cost_now"], result["currency"]) == (30.0, "USD")
    assert run.record is not None
    report = (run.record / "report.html").read_text()
    assert report.count('class="spread"') == 2
    assert "capacity_alerts.yml" in report
    assert "disk is at" in run.output
    metrics = (run.record / "metrics.prom").read_text()
    assert 'quantity="disk",' in metrics or 'quantity="disk"}' in metrics
    assert "RunbookCapacityDisk" in (run.record / "capacity_alerts.yml").read_text()
    assert "+      - alert: RunbookCapacityDisk" in (run.record / "capacity_alerts.diff").read_text()
    assert "What the next quarter needs" in (run.record / "report.md").read_text()
