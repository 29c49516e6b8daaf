"""log_table_archive: rows of a log table into the archive, and out of the table in the same transaction."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from conftest import S3, Database, module_process, run_module
from log_archives import Place
from s3_faults import FaultyS3, expired_token

ROWS = 900
COPY = "COPY (SELECT * FROM public.audit_log_archive ORDER BY created_at) TO STDOUT"


@pytest.fixture
def place(tmp_path, s3: S3) -> Place:
    """A bucket."""
    return Place.make(tmp_path, s3)


@pytest.fixture
def table(database: Database) -> Database:
    """A log table with old rows, and with some of today."""
    database.run(
        "CREATE TABLE public.audit_log_archive"
        " (id bigint PRIMARY KEY, created_at timestamptz, detail jsonb, note text)",
        "CREATE INDEX ON public.audit_log_archive (created_at)",
        "INSERT INTO public.audit_log_archive SELECT n, timestamptz '2024-01-01' + n * interval '1 hour',"
        f" '{{\"a\": 1}}', E'tab\\tline\\nback\\\\slash ' || n FROM generate_series(1, {ROWS}) n",
        "INSERT INTO public.audit_log_archive SELECT -n, now(), NULL, NULL FROM generate_series(1, 7) n",
        "INSERT INTO public.audit_log_archive VALUES (-100, NULL, NULL, NULL), (-101, 'infinity', NULL, NULL)",
    )
    return database


def options(place: Place, database: Database, **more: object) -> dict[str, object]:
    return place.options() | database.login | {
        "stream": "audit-log", "retention_class": "audit", "source": "public.audit_log_archive", "older_than_days": 365,
        "max_archive_rows": 250,
    } | more  # fmt: skip


def archive(place: Place, database: Database, *, check: bool = False, **more: object):
    return run_module("log_table_archive", options(place, database, **more), check=check, diff=check)


def as_copied(database: Database) -> bytes:
    """The old rows as COPY writes them."""
    with database.connect() as connection, connection.cursor() as cursor:
        out = io.BytesIO()
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.copy_expert(COPY.replace("ORDER", "WHERE created_at < '2025-01-01' ORDER"), out)
        return out.getvalue()


def test_old_rows_are_archived_and_gone_and_can_be_copied_back(place, table):
    before = as_copied(table)
    planned = archive(place, table, check=True)
    assert (planned.failed, planned.result["old_rows"], place.keys("chain")) == (False, ROWS, []), planned.result
    done = archive(place, table)
    assert (done.failed, done.result["lines"], done.result["deleted_rows"]) == (False, ROWS, ROWS), done.result
    assert done.result["archives"] >= 3
    assert place.archived() == before
    assert table.one("SELECT count(*) FROM public.audit_log_archive") == 9
    first = place.links()[0]["content"]
    assert (first["first_at"], first["source"]["column_index"]) == ("2024-01-01T01:00:00+00:00", 1)
    again = archive(place, table)
    assert (again.failed, again.result["changed"]) == (False, False)
    # And back, by PostgreSQL itself.
    with table.connect() as connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY public.audit_log_archive FROM STDIN", io.BytesIO(place.archived()))
    assert as_copied(table) == before
    found = place.find(pattern=r"\t2024-01-01 0", streams=["audit-log"], since="2024-01-01T01:00:00Z",
                       until="2024-01-01T04:00:00Z")  # fmt: skip
    assert (found.failed, found.result["found_lines"]) == (False, 3), found.result


def test_stopped_after_each_request_no_row_is_lost_or_doubled(place, table, s3):
    before, failed = as_copied(table), 0
    with FaultyS3(s3.endpoint_url) as proxy:
        for after in range(4, 300, 2):
            proxy.clear()
            proxy.add(expired_token(after=after))
            done = archive(place, table, endpoint_url=proxy.endpoint_url, max_archive_rows=150)
            assert done.failed or as_copied(table) == b""
            if not done.failed:
                break
            failed += 1
    assert failed > 3
    assert place.archived() == before
    assert place.verify().result["status"] == "ok"


def test_killed_between_the_link_and_the_commit_the_archive_does_not_count(place, table):
    before = as_copied(table)
    # Somebody holds a row, so the deletion waits, after the link is written.
    held = table.connect()
    held.autocommit = False
    with held.cursor() as cursor:
        cursor.execute("SELECT 1 FROM public.audit_log_archive WHERE id = 900 FOR SHARE")
    process = module_process("log_table_archive", options(place, table, lock_timeout_ms=60_000, max_archive_rows=5000))
    deadline = time.monotonic() + 60
    while not place.keys("chain"):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    held.close()
    assert (as_copied(table), place.archived()) == (before, before)
    deadline = time.monotonic() + 60
    while (done := archive(place, table, max_archive_rows=5000)).failed:
        # The server has not noticed yet that the client is gone.
        assert time.monotonic() < deadline, done.result
        time.sleep(0.2)
    assert done.result["voided"] == [1]
    assert (as_copied(table), place.archived()) == (b"", before)
    assert place.verify().result["status"] == "ok"


def test_a_trigger_and_a_missing_column_are_named(place, table):
    table.run(
        "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER keep BEFORE DELETE ON public.audit_log_archive FOR EACH ROW EXECUTE FUNCTION public.keep()",
    )
    done = archive(place, table)
    assert "fires triggers (keep)" in done.result["msg"].replace("\n", " ")
    allowed = archive(place, table, allow_triggers=["keep"])
    assert (allowed.failed, len(as_copied(table).splitlines())) == (True, ROWS)
    assert "rolled back" in allowed.result["msg"]
    for wrong, word in (
        ({"timestamp_column": "nope"}, "no column 'nope'"),
        ({"source": "public.nope"}, "no table public.nope"),
        ({"older_than_days": 0}, "1 or more"),
    ):
        assert word in archive(place, table, **wrong).result["msg"]
