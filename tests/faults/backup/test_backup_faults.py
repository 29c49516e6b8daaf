"""What bad luck does to a backup: it is whole, or there is none and nothing that looks like one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2
import pytest
import s3_faults
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from conftest import S3, Database, Outcome, free_port, module_process, run_module

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-never-shown"

APPLICATION = (
    "CREATE TABLE public.messages (id bigint PRIMARY KEY, body text)",
    "CREATE TABLE public.notes (id bigint PRIMARY KEY, body text)",
    # Random digits do not compress, so that there are multipart uploads.
    (
        "INSERT INTO public.messages SELECT i % 20000, string_agg(md5(i::text), '') FROM generate_series(1, 600000) i"
        " GROUP BY 1"
    ),
    "INSERT INTO public.notes SELECT id + 1000000, body FROM public.messages",
)


@pytest.fixture(scope="module")
def application(cluster: Cluster) -> Iterator[Database]:
    """Twice 19 MB, made once: no test changes it."""
    admin = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
    made = Database("127.0.0.1", cluster.port, "backup_faults", cluster.superuser)
    admin.run(f"CREATE DATABASE {made.name}")
    made.run(*APPLICATION)
    yield made
    admin.run(f"DROP DATABASE {made.name} WITH (FORCE)")


@pytest.fixture
def bucket(s3: S3) -> str:
    return s3.bucket()


@pytest.fixture
def proxy(s3: S3) -> Iterator[s3_faults.FaultyS3]:
    with s3_faults.FaultyS3(s3.endpoint_url) as made:
        yield made


def options(database: Database, s3: S3, bucket: str, **more: Any) -> dict[str, Any]:
    return database.login | s3.options(bucket) | {"environment": "sandbox"} | more


def keys(s3: S3, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.client().list_objects_v2(Bucket=bucket).get("Contents", [])]


def uploads(s3: S3, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def is_clean(s3: S3, bucket: str) -> bool:
    versions = s3.client().list_object_versions(Bucket=bucket)
    return not (keys(s3, bucket) or uploads(s3, bucket) or versions.get("Versions"))


def red(outcome: Outcome, *says: str, status: str = "breach") -> str:
    message = str(outcome.result["msg"])
    assert outcome.failed, outcome.result
    assert outcome.result["status"] == status
    assert "\n" not in message
    assert "should have foreseen" not in message
    for each in says:
        assert each in message
    assert CANARY not in json.dumps(outcome.result)
    assert not outcome.result.get("manifest")
    return message


def whole(s3: S3, bucket: str, outcome: Outcome) -> manifests.Manifest:
    """The backup is there, every object with the size that the manifest says."""
    assert not outcome.failed, outcome.result
    return promised(s3, bucket, outcome.result["manifest"])


def promised(s3: S3, bucket: str, key: str) -> manifests.Manifest:
    """A manifest, every object of which is there."""
    body = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    manifest = manifests.parse(body, where="it")
    for each in manifest.objects:
        assert s3.client().head_object(Bucket=bucket, Key=each.key)["ContentLength"] == each.size_bytes
    return manifest


def ours(database: Database) -> list[str]:
    """What still runs of a backup: client programs on this machine, sessions on the server."""
    programs = []
    for process in psutil.process_iter(["name", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        if (process.info["name"] or "").startswith("pg_dump") and f"dbname={database.name} " in words + " ":
            programs.append(words)
    admin = Database(database.host, database.port, "postgres", database.user)
    sessions = admin.run(
        f"SELECT application_name FROM pg_stat_activity WHERE datname = '{database.name}' AND pid <> pg_backend_pid()"
    )
    return programs + [row[0] for row in sessions]


def eventually(condition: Any, within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# S3 -----------------------------------------------------------------------------------------------------------------

PASSING = {
    "500": s3_faults.status(500, "InternalError", method="PUT", times=2),
    "slow down": s3_faults.status(503, "SlowDown", method="PUT", times=3),
    "reset": s3_faults.reset(upload=True, at_bytes=1_000_000, path="partNumber", times=2),
    "closed early": s3_faults.close(method="PUT", path="data", times=2),
    "slow": s3_faults.slow(bytes_per_s=20_000_000, upload=True, path="data-01", times=1),
    "manifest's answer lost": s3_faults.lose_answer(method="PUT", path="manifest.json"),
    "completion's answer lost": s3_faults.lose_answer(method="POST", path="uploadId"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_outlived(application, s3, bucket, proxy, fault):
    proxy.add(fault)
    outcome = run_module("pg_backup", options(application, s3, bucket, endpoint_url=proxy.endpoint_url, hash="none"))
    assert proxy.hits
    whole(s3, bucket, outcome)


LASTING = {
    "500": (s3_faults.status(500, "InternalError", method="PUT", path="data-00", times=0), "InternalError"),
    "credentials expire": (s3_faults.expired_token(after=9), "have expired"),
    "flipped bit": (s3_faults.flip(upload=True, at_bytes=50_000, path="partNumber"), "damaged on its way"),
    "manifest refused": (
        s3_faults.status(403, "AccessDenied", method="PUT", path="manifest", times=0),
        "may not do that",
    ),
}


@pytest.mark.parametrize(("fault", "says"), LASTING.values(), ids=LASTING.keys())
def test_what_lasts_ends_in_one_sentence(application, s3, bucket, proxy, fault, says):
    proxy.add(fault)
    given = options(application, s3, bucket, endpoint_url=proxy.endpoint_url, hash="none")
    outcome = run_module("pg_backup", given)
    red(
        outcome, "No backup of backup_faults was made.", says, status="unknown" if says == "InternalError" else "breach"
    )
    assert proxy.hits
    assert not any("manifest" in key for key in keys(s3, bucket))
    eventually(lambda: ours(application) == [])
    # With credentials that have expired nothing can be removed; retention does, later.
    if "expired" not in says:
        assert is_clean(s3, bucket)
    proxy.clear()
    again = run_module("pg_backup", given)
    whole(s3, bucket, again)


def test_wrong_targets_are_refused_before_anything_is_written(application, s3, bucket):
    good = options(application, s3, bucket)
    untagged = s3.bucket(environment="")
    foreign = s3.bucket(environment="production")
    red(run_module("pg_backup", good | {"bucket": "no-such-bucket"}), "no-such-bucket", "no such bucket")
    red(run_module("pg_backup", good | {"bucket": untagged}), "no tag runbook-environment", "sandbox")
    red(run_module("pg_backup", good | {"bucket": foreign}), "'production'", "name another bucket")
    red(run_module("pg_backup", good | {"access_key": "nobody"}), "access key is not known")
    red(run_module("pg_backup", good | {"secret_key": CANARY}), "check secret_key")
    away = run_module("pg_backup", good | {"endpoint_url": f"http://127.0.0.1:{free_port()}"})
    red(away, "no server answers there", status="unknown")
    red(run_module("pg_backup", good | {"endpoint_url": "nonsense"}), "endpoint_url: 'nonsense'")
    red(run_module("pg_backup", good | {"profile": "nobody", "access_key": None, "secret_key": None}), "'nobody'")
    for name in (bucket, untagged, foreign):
        assert is_clean(s3, name)
    assert run_module("pg_backup", good | {"bucket": foreign}, check=True).failed


# Kills --------------------------------------------------------------------------------------------------------------


def test_kill_9_at_random_moments(application, s3, bucket, proxy):
    """What has a manifest is whole, what has none says how long it may be worked on, and nothing runs on."""
    given = options(application, s3, bucket)
    dice = random.Random(11)  # noqa: S311 - moments, not secrets
    for _ in range(4):
        proxy.clear()
        # Slow enough that the backup is not through when it is killed.
        proxy.add(s3_faults.slow(bytes_per_s=4_000_000, upload=True, path="partNumber", times=4))
        process = module_process("pg_backup", given | {"endpoint_url": proxy.endpoint_url})
        eventually(lambda process=process: process.poll() is not None or "runbook pg_backup" in ours(application))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0.05, 1.5))
        process.kill()
        process.communicate()
        eventually(lambda: ours(application) == [])
    done = [key for key in keys(s3, bucket) if key.endswith("manifest.json")]
    assert len(done) < 4
    for key in done:
        promised(s3, bucket, key)
    last = run_module("pg_backup", given)
    whole(s3, bucket, last)
    claims = [key for key in keys(s3, bucket) if key.endswith("started.json")]
    assert {key.split("/")[1] for key in keys(s3, bucket)} == {key.split("/")[1] for key in claims}
    for key in claims:
        text = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        assert manifests.parse_claim(text).deadline_s == 14_400


def test_pg_dump_is_killed(application, s3, bucket, proxy):
    proxy.add(s3_faults.slow(bytes_per_s=4_000_000, upload=True, path="partNumber", times=4))
    process = module_process("pg_backup", options(application, s3, bucket, endpoint_url=proxy.endpoint_url))

    def victim() -> psutil.Process | None:
        children = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(psutil.Error):
            return next((each for each in children if "--section=data" in each.cmdline()), None)
        return None

    eventually(lambda: victim() is not None)
    found = victim()
    assert found is not None
    found.kill()
    out, err = process.communicate(timeout=60)
    outcome = Outcome(json.loads(out.splitlines()[-1]), err)
    red(outcome, "pg_dump was killed by signal 9")
    assert is_clean(s3, bucket)
    assert ours(application) == []


def test_sigterm_cleans_up(application, s3, bucket, proxy):
    proxy.add(s3_faults.slow(bytes_per_s=4_000_000, upload=True, path="partNumber", times=4))
    process = module_process("pg_backup", options(application, s3, bucket, endpoint_url=proxy.endpoint_url))
    eventually(lambda: proxy.hits > 0)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    red(Outcome(json.loads(out.splitlines()[-1]), err), "Stopped by SIGTERM; run the same command again.")
    assert is_clean(s3, bucket)
    eventually(lambda: ours(application) == [])


# PostgreSQL -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="runbook-backup-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made = Cluster(find_bindir(os.environ.get("PG_BINDIR")), folder / "data", free_port())
    made.init()
    # The smallest lock table that PostgreSQL makes.
    made.start(fsync="off", autovacuum="off", max_connections=12, max_locks_per_transaction=10, max_worker_processes=0)
    yield made
    with contextlib.suppress(Exception):
        made.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("tables", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_tables_and_a_server_that_restarts(own_cluster, s3, bucket, tables):
    database = Database("127.0.0.1", own_cluster.port, "postgres", "postgres")
    database.run(*(
        f"DO $$ BEGIN FOR i IN {first}..{first + 99} LOOP EXECUTE format('CREATE TABLE public.t%s (a int)', i);"
        " END LOOP; END $$"
        for first in range(0, tables, 100)
    ))  # fmt: skip
    given = options(database, s3, bucket, hash="none")
    message = red(run_module("pg_backup", given), f"{tables + 1:,} tables", "raise max_locks_per_transaction")
    assert message.count("max_locks_per_transaction") == 1
    assert is_clean(s3, bucket)
    own_cluster.stop("fast")
    own_cluster.start(fsync="off", autovacuum="off", max_locks_per_transaction=4096)
    # The server goes away while pg_dump reads all the definitions.
    process = module_process("pg_backup", given)
    eventually(lambda: "runbook pg_dump" in ours(database))
    own_cluster.stop("immediate")
    out, err = process.communicate(timeout=60)
    red(Outcome(json.loads(out.splitlines()[-1]), err))
    assert is_clean(s3, bucket)
    own_cluster.start(fsync="off", autovacuum="off", max_locks_per_transaction=4096)
    manifest = whole(s3, bucket, run_module("pg_backup", given))
    assert len(manifest.tables) == tables + 1


def test_the_session_that_keeps_others_out_is_ended(application, s3, bucket, proxy):
    """No folder stays behind that looks like a backup which is still being made."""
    proxy.add(s3_faults.slow(bytes_per_s=4_000_000, upload=True, path="partNumber", times=4))
    process = module_process("pg_backup", options(application, s3, bucket, endpoint_url=proxy.endpoint_url))
    eventually(lambda: proxy.hits > 0)
    ended = application.run(
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )
    assert ended
    out, err = process.communicate(timeout=60)
    red(Outcome(json.loads(out.splitlines()[-1]), err), "keeps other runs out", "start again")
    assert is_clean(s3, bucket)
    eventually(lambda: ours(application) == [])


def test_tables_cannot_be_dropped_while_they_are_dumped(application, s3, bucket, proxy):
    """A slow upload keeps the dump open; who wants to drop or truncate a table waits."""
    proxy.add(s3_faults.slow(bytes_per_s=4_000_000, upload=True, path="partNumber", times=2))
    process = module_process("pg_backup", options(application, s3, bucket, endpoint_url=proxy.endpoint_url))
    eventually(lambda: proxy.hits > 0)
    for statement in ("DROP TABLE notes", "TRUNCATE messages", "ALTER TABLE notes ADD COLUMN x int"):
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            application.run("SET lock_timeout = '20ms'", statement)
    out, err = process.communicate(timeout=60)
    manifest = whole(s3, bucket, Outcome(json.loads(out.splitlines()[-1]), err))
    assert {each.name: each.rows for each in manifest.tables} == {"messages": 20000, "notes": 20000, "lease": 1}


def test_a_locked_table_is_waited_for_in_bounds(application, s3, bucket):
    with contextlib.closing(application.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE notes")
        outcome = run_module("pg_backup", options(application, s3, bucket, lock_timeout_ms=200))
        red(outcome, "public.notes is locked by server process", str(connection.info.backend_pid), "start again when")
    assert is_clean(s3, bucket)


def test_rights_that_are_missing(database, s3, bucket):
    user = f"{database.name}_reader"
    database.run(
        "CREATE TABLE public.secrets (a int)",
        f"CREATE ROLE {user} LOGIN",
        "CREATE TABLE public.shared (a int)",
        f"GRANT SELECT ON public.shared TO {user}",
    )
    try:
        given = options(database, s3, bucket, login_user=user)
        red(run_module("pg_backup", given), "may not read", "secrets", "pg_read_all_data")
        database.run(
            f"GRANT pg_read_all_data TO {user}",
            "ALTER TABLE public.secrets ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY none ON public.secrets USING (false)",
        )
        red(run_module("pg_backup", given), "row-level security", "BYPASSRLS")
        assert is_clean(s3, bucket)
        database.run(f"ALTER ROLE {user} BYPASSRLS")
        whole(s3, bucket, run_module("pg_backup", given))
    finally:
        database.run(f"DROP OWNED BY {user}", f"DROP ROLE {user}")


def test_memory_stays_flat(application, s3, bucket):
    """Some 400 MB go through a process that never has as much."""
    application.run(
        "CREATE TABLE IF NOT EXISTS public.big AS SELECT m.id, n, m.body FROM messages m, generate_series(1, 18) n"
    )
    try:
        process = module_process("pg_backup", options(application, s3, bucket, hash="none"))
        highest = 0
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                highest = max(highest, psutil.Process(process.pid).memory_info().rss)
            time.sleep(0.02)
        out, err = process.communicate()
        outcome = Outcome(json.loads(out.splitlines()[-1]), err)
        whole(s3, bucket, outcome)
        assert outcome.result["dump_bytes"] > 380_000_000
        assert highest < 160 << 20
    finally:
        application.run("DROP TABLE public.big")
