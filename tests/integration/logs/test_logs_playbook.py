"""logs.yml and logs_find.yml, as an operator runs them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from log_archives import KEY, lines

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3, Database

LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
pytestmark = pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed (Debian's package logrotate)")


@pytest.fixture
def project(tmp_path: Path, database: Database, s3: S3) -> Project:
    """A database with a log table, and a log file beside it."""
    database.run(
        "CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz)",
        "INSERT INTO public.audit_log SELECT n, timestamptz '2024-01-01' + n * interval '1 h'"
        " FROM generate_series(1, 50) n",
    )
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "logrotate.d").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "log").chmod(0o755)
    (tmp_path / "log/app.log").write_bytes(lines(100))
    bucket = s3.protected_bucket()
    return Project.for_database(
        tmp_path, database, state_directory=str(tmp_path / "state"), logs_bucket=bucket, logs_region=s3.region,
        logs_endpoint_url=s3.endpoint_url, logs_access_key=s3.access_key, logs_secret_key=s3.secret_key,
        logs_seal_keys=[KEY], logs_bucket_tls_only=False, logs_bucket_block_public_access=False,
        logs_files=[{"name": "app", "class": "operational", "paths": [str(tmp_path / "log/app.log")]}],
        logs_config=str(tmp_path / "logrotate.d/runbook-logs"), logs_state_file=str(tmp_path / "logrotate.status"),
        logs_tables=[
            {"stream": "audit-log", "class": "audit", "source": "public.audit_log", "older_than_days": 365}
        ],
    )  # fmt: skip


def test_logs_are_archived_verified_and_found(project, database, tmp_path):
    done = project.run("logs.yml", logs_force_rotation=True)
    assert done.code == 0, done.output
    assert done.last("log_archive")["lines"] == 100
    assert (done.last("log_table_archive")["deleted_rows"], done.last("log_archive_expire")["kept_archives"]) == (50, 2)
    assert (done.last("log_archive_verify")["status"], done.last("s3_bucket_check")["status"]) == ("ok", "ok")
    assert database.one("SELECT count(*) FROM public.audit_log") == 0
    assert database.one("SELECT count(*) FROM runbook.lease") == 0
    report = (done.record / "report.html").read_text()
    assert "Log archives, verified" in report
    assert KEY not in report + (done.record / "journal.jsonl").read_text() + done.output
    assert "runbook_logs_verified" in (done.record.parent / "metrics" / "sandbox-logs.prom").read_text()
    again = project.run("logs.yml", "--tags", "rotate")
    assert (again.code, again.last("log_archive")["changed"], "log_table_archive" in again.results) == (0, False, False)
    found = project.run(
        "logs_find.yml", logs_find_since="2026-06-01T12:00:10Z", logs_find_until="2026-06-01T12:00:20Z",
        logs_find_to=str(tmp_path),
    )  # fmt: skip
    assert found.code == 0, found.output
    assert (tmp_path / "db.log").read_bytes().count(b"\n") == 10
    assert "GET /" not in found.output
