"""What a weekly run, and a second one, left in the database and on the bastion."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psycopg2
import psycopg2.extras
import pytest

STATE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SCENARIO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def query():
    """Run a statement in the container's database; its rows as dictionaries."""
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=(STATE / "port").read_text(),
        user="postgres",
        password=(STATE / "password").read_text().strip(),
        dbname="mental_scribe",
        cursor_factory=psycopg2.extras.RealDictCursor,
    )
    connection.autocommit = True

    def run(statement):
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return [dict(row) for row in cursor.fetchall()]

    yield run
    connection.close()


def test_no_audit_row_is_lost_doubled_or_changed(query):
    before = json.loads((STATE / "before.json").read_text())
    after = query((SCENARIO / "fingerprint.sql").read_text())[0]
    assert before["old_rows"] > 1000
    assert {"audit_rows": after["audit_rows"], "hash": after["hash"]} == {
        "audit_rows": before["audit_rows"],
        "hash": before["hash"],
    }


def test_old_rows_moved_and_young_ones_stayed(query):
    # The cutoff was fixed when the run started; what has come of age since waits for the next run.
    old = "created_at < now() - interval '90 days 1 hour'"
    assert query(f"SELECT count(*) AS n FROM public.audit_log WHERE {old}") == [{"n": 0}]
    assert query("SELECT count(*) > 1000 AS many FROM public.audit_log") == [{"many": True}]
    young = "created_at > now() - interval '90 days'"
    assert query(f"SELECT count(*) AS n FROM public.audit_log_archive WHERE {young}") == [{"n": 0}]


@pytest.mark.parametrize("table", ["audit_log", "conversations", "messages"])
def test_tables_are_vacuumed_and_their_statistics_fresh(query, table):
    row = query(
        "SELECT last_vacuum > now() - interval '1 hour' AS vacuumed,"
        " last_analyze > now() - interval '1 hour' AS analyzed,"
        f" n_dead_tup AS dead FROM pg_stat_user_tables WHERE relid = 'public.{table}'::regclass"
    )
    assert row == [{"vacuumed": True, "analyzed": True, "dead": 0}]


def test_lease_is_given_back(query):
    assert query("SELECT * FROM runbook.lease") == []


def test_each_run_left_its_record(host):
    """Two runs: converge, and the one that proved that nothing was left to change."""
    records = sorted(path for path in host.file(str(STATE / "runs")).listdir() if path.endswith("-weekly_db"))
    assert len(records) == 2
    for name in records:
        folder = STATE / "runs" / name
        for file in ("journal.jsonl", "record.json", "report.html", "report.md", "metrics.prom"):
            assert host.file(str(folder / file)).size > 0
        password = (STATE / "password").read_text().strip()
        assert not any(password in path.read_text() for path in folder.iterdir() if path.is_file())
    first = json.loads((STATE / "runs" / records[0] / "record.json").read_text())
    assert first["status"] == "ok"
