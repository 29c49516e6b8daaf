"""pg_archive is killed at random moments while users write: no row is lost, none is doubled, the next run goes on."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from conftest import Database, free_port, module_process, run_module

SOURCE, ARCHIVE = "public.audit_log", "public.audit_log_archive"
ROWS = 60_000
SETUP = (
    """CREATE TABLE public.audit_log (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(),
         action text NOT NULL, touched int NOT NULL DEFAULT 0)""",
    "CREATE INDEX ON public.audit_log (created_at)",
    # What a row must hold follows from its id, so that every row can be checked wherever it is.
    """CREATE FUNCTION public.mark() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN NEW.action := md5(NEW.id::text); RETURN NEW; END $$""",
    "CREATE TRIGGER mark BEFORE INSERT ON public.audit_log FOR EACH ROW EXECUTE FUNCTION public.mark()",
    f"""INSERT INTO public.audit_log (created_at)
        SELECT now() - interval '91 days' - n * interval '1 minute' FROM generate_series(1, {ROWS}) n""",
    "CREATE TABLE public.ledger (id bigint)",
    "INSERT INTO public.ledger SELECT id FROM public.audit_log",
)


def archive_options(database: Database) -> dict[str, Any]:
    return database.login | {"source": SOURCE, "archive": ARCHIVE, "older_than_days": 90, "target_batch_ms": 5}


class Writers:
    """Users: they write new rows and late ones with an old date, and touch old ones. The ledger holds what they did."""

    def __init__(self, database: Database, count: int = 3) -> None:
        self._database = database
        self._stop = threading.Event()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(count)]

    def _work(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - not a secret
        connection = None
        while not self._stop.is_set():
            try:
                connection = connection or self._database.connect()
                with connection.cursor() as cursor:
                    # One statement, one transaction: a row and its line in the ledger are both there, or neither is.
                    cursor.execute(
                        "WITH made AS (INSERT INTO public.audit_log (created_at) "
                        "SELECT now() - make_interval(days => %s) FROM generate_series(1, 5) RETURNING id) "
                        "INSERT INTO public.ledger SELECT id FROM made",
                        (chance.choice([0, 0, 0, 95, 120]),),
                    )
                    cursor.execute(
                        "UPDATE public.audit_log SET touched = touched + 1 WHERE id = %s", (chance.randint(1, ROWS),)
                    )
            except psycopg2.OperationalError:
                # The server is being crashed by a test.
                connection = None
            except psycopg2.Error as error:
                self.errors.append(str(error))
            time.sleep(0.002)
        if connection:
            connection.close()

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def archived(database: Database) -> int:
    if database.one(f"SELECT to_regclass('{ARCHIVE}') IS NULL"):
        return 0
    return int(database.one(f"SELECT count(*) FROM {ARCHIVE}"))


def backends(database: Database) -> list[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'runbook pg_archive'"
    return [pid for (pid,) in database.run(query)]


def wait_until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.003)


def account(database: Database) -> None:
    """Every row of the ledger is in exactly one of the two tables, unchanged; no other row is in either."""
    # One statement sees one moment, although writers go on.
    found = database.run(f"""
        WITH there AS MATERIALIZED (SELECT id, action FROM {SOURCE} UNION ALL SELECT id, action FROM {ARCHIVE})
        SELECT (SELECT count(*) FROM public.ledger WHERE id NOT IN (SELECT id FROM there)) AS lost,
               count(*) - count(DISTINCT id) AS doubled,
               count(*) FILTER (WHERE action <> md5(id::text)) AS changed,
               count(*) FILTER (WHERE id NOT IN (SELECT id FROM public.ledger)) AS strange FROM there
    """)
    assert found == [(0, 0, 0, 0)], "rows lost, doubled, changed, strange"


def finish(database: Database) -> None:
    """The next run ends what the killed ones began."""
    wait_until(lambda: not backends(database))
    # In few long batches: it is not to be hit, and a busy machine would cut the short ones ever shorter.
    outcome = run_module("pg_archive", archive_options(database) | {"target_batch_ms": 1000})
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["remaining_rows"] == 0
    again = run_module("pg_archive", archive_options(database))
    assert not again.result["changed"]


def kill(process, _database: Database) -> None:
    """Kill the module with SIGKILL."""
    process.kill()


def terminate(_process, database: Database) -> None:
    """Let the server cut its connection."""
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runbook pg_archive'")


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
@pytest.mark.parametrize("strike", [kill, terminate])
def test_killed_at_random_moments(database, strike, kills):
    database.run(*SETUP)
    chance = random.Random()  # noqa: S311 - other moments in every run
    caught = 0
    with Writers(database) as writers:
        for moment in range(kills):
            process = module_process("pg_archive", archive_options(database))
            before = archived(database)
            wait_until(lambda: backends(database) or process.poll() is not None)  # noqa: B023 - used at once
            if moment:
                # In the first round it is hit while it plans or makes the archive, later between and within batches.
                wait_until(lambda: archived(database) > before or process.poll() is not None)  # noqa: B023 - used at once
            time.sleep(chance.uniform(0, 0.03))
            strike(process, database)
            out, _ = process.communicate(timeout=60)
            caught += process.returncode != 0
            if strike is terminate and process.returncode:
                assert "connection to the server was lost" in out
                assert "Traceback" not in out
            wait_until(lambda: not backends(database))
    assert writers.errors == []
    assert caught >= kills * 2 // 3, "too few runs were hit before their end"
    assert database.one(f"SELECT count(*) FROM {SOURCE} WHERE created_at < now() - interval '90 days'") > 0
    account(database)
    finish(database)
    account(database)


def test_server_crashes_in_the_middle():
    """Commits that the crash takes back are taken back on both sides, although nobody waited for the disk."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-crash-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    cluster = Cluster(find_bindir(os.environ.get("PG_BINDIR")), folder / "data", free_port())
    # A lazy WAL writer, so that a crash really loses commits.
    settings = {"autovacuum": "off", "max_connections": 30, "wal_writer_delay": "10s", "wal_writer_flush_after": 0}
    try:
        cluster.init()
        cluster.start(**settings)
        database = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
        database.run(*SETUP)
        with Writers(database, count=1) as writers:
            for _ in range(3):
                process = module_process("pg_archive", archive_options(database))
                before = archived(database)
                wait_until(lambda: archived(database) > before or process.poll() is not None)  # noqa: B023 - used at once
                cluster.stop("immediate")
                out, _ = process.communicate(timeout=60)
                assert process.returncode != 0, out
                assert "connection" in out
                cluster.start(**settings)
                account(database)
        assert writers.errors == []
        finish(database)
        account(database)
    finally:
        if cluster.is_running():
            cluster.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
