"""Bad luck while a backup is restored: the run is red and says why, and nothing is left but the live database."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import s3_faults
import zstandard
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.rules.backup.swap import Marker
from conftest import Database, free_port, module_process
from restored import SIMPLE, Backup, as_text, made
from s3_faults import FaultyS3


@pytest.fixture(scope="module")
def backup(cluster, s3):
    """One backup, restored again and again."""
    admin = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
    admin.run("CREATE DATABASE test_restore_faults")
    for each in made(replace(admin, name="test_restore_faults"), s3, SIMPLE):
        before = as_text(each.database)
        each.make()
        yield each
        assert as_text(each.database) == before, "the live database is as it was"
    admin.run("DROP DATABASE test_restore_faults WITH (FORCE)")


@pytest.fixture(autouse=True)
def nothing_left(backup: Backup):
    """Whatever happens, nothing is left over."""
    yield
    assert not backup.others()
    assert not running(backup)


@pytest.fixture
def proxy(s3):
    with FaultyS3(s3.endpoint_url) as made_proxy:
        yield made_proxy


def running(backup: Backup) -> list[str]:
    """Programs of restores of this database that still run; the machine may have others."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].endswith("/pg_restore") and any(f"dbname={backup.database.name}" in word for word in words):
            found.append(" ".join(words))
    return found


def data_key(backup: Backup) -> str:
    """The data object with the most bytes."""
    client = backup.s3.client()
    keys = [key for key in backup.objects() if "/data-" in key]
    return max(keys, key=lambda key: client.head_object(Bucket=backup.bucket, Key=key)["ContentLength"])


def red(backup: Backup, *words: str, **options: Any) -> dict[str, Any]:
    outcome = backup.restore(**options)
    assert outcome.failed
    for word in words:
        assert word in outcome.result["msg"]
    assert outcome.result["status"] == "breach"
    return outcome.result


# The connection -----------------------------------------------------------------------------------------------------


def test_a_shaky_connection_is_survived(backup: Backup, proxy):
    proxy.add(
        s3_faults.status(503, "SlowDown", times=2),
        s3_faults.close(path="schema", method="GET", times=1),
        s3_faults.status(500, "InternalError", path="/data-", method="GET", times=1),
        s3_faults.reset(path="/data-", method="GET", at_bytes=50_000, times=2),
        s3_faults.truncate(path="/data-", method="GET", at_bytes=30_000, times=2),
    )
    outcome = backup.restore(endpoint_url=proxy.endpoint_url, scratch=True)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"
    assert proxy.hits == 8


def test_credentials_that_expire_in_the_middle(backup: Backup, proxy):
    proxy.add(s3_faults.expired_token(after=0, path="/data-", method="GET"))
    result = red(backup, "expired", "was dropped", endpoint_url=proxy.endpoint_url)
    assert proxy.hits >= 1
    assert not result["changed"]


def test_a_server_that_is_too_slow_meets_the_deadline(backup: Backup, proxy):
    proxy.add(s3_faults.slow(path="/data-", method="GET", bytes_per_s=20_000, times=0))
    red(backup, "deadline_s: the 4 s have passed", "was dropped", endpoint_url=proxy.endpoint_url, deadline_s=4)


def test_a_bit_that_flips_on_its_way(backup: Backup, proxy):
    key = data_key(backup)
    proxy.add(s3_faults.flip(path=key, method="GET", at_bytes=90_000, times=0))
    red(backup, key, "was dropped", endpoint_url=proxy.endpoint_url)


# The objects ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoilt(backup: Backup):
    """The same backup in a bucket of its own, without the versions that the manifest names."""
    bucket = backup.s3.bucket(versioned=False)
    client = backup.s3.client()
    copy = Backup(backup.database, backup.s3, bucket)
    for key in backup.objects():
        client.put_object(Bucket=bucket, Key=key, Body=backup.read(key))

    def unpin(content: dict[str, Any]) -> None:
        for each in content["objects"]:
            each["version_id"] = None

    copy.rewrite(unpin)
    return copy


def test_an_object_that_was_cut_is_found_before_the_first_byte(spoilt: Backup):
    key = data_key(spoilt)
    spoilt.write(key, spoilt.read(key)[:-100])
    red(spoilt, key, "instead of")


def test_an_object_that_is_missing_is_found_before_the_first_byte(spoilt: Backup):
    key = data_key(spoilt)
    spoilt.s3.client().delete_object(Bucket=spoilt.bucket, Key=key)
    red(spoilt, key, "is missing")


def test_one_flipped_bit_in_the_store(spoilt: Backup):
    key = data_key(spoilt)
    stored = bytearray(spoilt.read(key))
    stored[len(stored) * 999 // 1000] ^= 1
    spoilt.write(key, bytes(stored))
    red(spoilt, key, "was dropped")


def test_another_databases_object_of_the_same_size(spoilt: Backup):
    key = data_key(spoilt)
    stored = spoilt.read(key)
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(stored)
    # The rows of somebody else; the archive is whole, and so is its compression.
    other = zstandard.ZstdCompressor(level=1).compress(re.sub(rb"[0-9a-f]{400}", b"a" * 400, plain, count=9))
    filler = len(stored) - len(other) - 8
    assert filler >= 0
    # zstd skips such a frame, which brings the object to the size that the manifest gives.
    spoilt.write(key, other + b"\x50\x2a\x4d\x18" + filler.to_bytes(4, "little") + bytes(filler))
    red(spoilt, key, "SHA-256", "was dropped", prove=False)


def test_the_version_that_the_manifest_names_is_read(backup: Backup):
    """Whoever overwrites an object of a versioned bucket does not change the backup."""
    key = data_key(backup)
    version = backup.write(key, b"overwritten")
    try:
        outcome = backup.restore(scratch=True)
        assert not outcome.failed, outcome.result["msg"]
    finally:
        backup.s3.client().delete_object(Bucket=backup.bucket, Key=key, VersionId=version)


def test_a_copy_of_the_bucket_has_versions_of_its_own(backup: Backup):
    copy = Backup(backup.database, backup.s3, backup.s3.bucket())
    for key in backup.objects():
        copy.write(key, backup.read(key))
    outcome = copy.restore(scratch=True)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"


def test_a_proof_that_cannot_be_written_is_said_and_drops_nothing(backup: Backup, proxy):
    proxy.add(s3_faults.status(403, "AccessDenied", path="/proof-", method="PUT", times=0))
    options = {"record_proof": True, "environment": "sandbox", "endpoint_url": proxy.endpoint_url}
    outcome = backup.restore(**options)
    assert outcome.failed
    assert "could not be written" in outcome.result["msg"]
    assert outcome.result["proof"]["status"] == "ok"
    assert state_of(backup, outcome.result["target_database"]) == "proven"
    backup.cleanup()


def test_a_manifest_that_is_not_to_be_trusted(spoilt: Backup):
    key = spoilt.key("manifest.json")
    whole = spoilt.read(key)
    content = json.loads(whole)
    content["tables"][0]["rows"] += 1
    for text, words in (
        (json.dumps(content).encode(), "SHA-256"),
        (json.dumps(json.loads(whole) | {"schema_version": 2}).encode(), "schema_version 2"),
    ):
        spoilt.write(key, text)
        red(spoilt, key, words)


def test_a_backup_of_a_newer_server_is_refused(spoilt: Backup):
    spoilt.rewrite(lambda content: content["source"].update(server_version_num=990000))
    red(spoilt, "made from PostgreSQL 99")


def state_of(backup: Backup, name: str) -> str:
    """What the mark of a database says."""
    marker = Marker.read(backup.others()[name])
    return marker.state if marker else ""


# Kills and crashes ----------------------------------------------------------------------------------------------------


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.01)


def sessions(backup: Backup) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'runbook %restor%'"
    return int(backup.admin().one(query))


def at_work(backup: Backup) -> bool:
    """Whether a restore holds its session in the new database, as it does from beginning to end."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runbook pg_restore'"
        r" AND datname LIKE '%\_restore\_2%'"
    )
    return bool(backup.admin().one(query))


def test_killed_at_random_moments_the_next_run_clears_up(backup: Backup, proxy, tmp_path):
    chance = random.Random(4)  # noqa: S311 - not a secret
    proxy.add(s3_faults.slow(path="/data-", method="GET", bytes_per_s=1_500_000, times=0))
    options = backup.options | {"endpoint_url": proxy.endpoint_url}
    for _ in range(3):
        process = module_process("pg_restore", options, TMPDIR=str(tmp_path))
        wait_for(lambda process=process: backup.others() or process.poll() is not None)
        time.sleep(chance.random() * 1.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # What it started ends with it; on the server nobody goes on.
        wait_for(lambda: not running(backup))
        wait_for(lambda: not sessions(backup))
        assert {state_of(backup, name) for name in backup.others()} <= {"restoring", "proven"}
    left = [name for name in backup.others() if state_of(backup, name) == "restoring"]
    planned = backup.restore(check=True)
    assert planned.result["removed_databases"] == left
    outcome = backup.restore(environ={"TMPDIR": str(tmp_path)})
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["removed_databases"] == left
    assert not list(tmp_path.iterdir())
    assert list(backup.others()) == [outcome.result["target_database"]]
    backup.cleanup()


def unmarked(backup: Backup) -> list[tuple[str, bool]]:
    """Databases of the server without a mark, and whether they are closed; but for those of other tests."""
    rows = backup.admin().run(
        "SELECT datname, NOT datallowconn FROM pg_database WHERE shobj_description(oid, 'pg_database') IS NULL"
    )
    return [row for row in rows if row[0].startswith(("runbook_making_", f"{backup.database.name}_"))]


@pytest.mark.parametrize(
    ("blocked", "number"),
    [
        # The server goes on with CREATE DATABASE, though nobody waits for it any more.
        ("pg_database", signal.SIGKILL),
        ("pg_shdescription", signal.SIGKILL),
        ("pg_shdescription", signal.SIGTERM),
    ],
)
def test_stopped_while_the_database_is_made_nothing_is_open_or_unknown(backup: Backup, blocked: str, number: int):
    connection = backup.admin().connect()
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {blocked} IN SHARE MODE")
        process = module_process("pg_restore", backup.options)
        wait_for(lambda: backup.admin().one("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()
        connection.rollback()
    connection.close()
    process.communicate()
    wait_for(lambda: not sessions(backup))
    assert all(closed for _name, closed in unmarked(backup))
    assert {state_of(backup, name) for name in backup.others()} <= {"restoring"}
    left = [*backup.others(), *(name for name, _closed in unmarked(backup))]
    assert bool(left) == (number == signal.SIGKILL)
    outcome = backup.restore(scratch=True)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["removed_databases"] == left
    assert not unmarked(backup)


def test_a_leftover_that_cannot_be_dropped_stops_nobody(backup: Backup):
    """It is said, with the way out, and the work goes on under another name."""
    stuck = backup.restore(check=True).result["target_database"]
    mark = Marker("restoring", backup.database.name, "2026-01-01T00:00:00Z")
    backup.admin().run(f'CREATE DATABASE "{stuck}" IS_TEMPLATE true', f"""COMMENT ON DATABASE "{stuck}" IS '{mark}'""")
    try:
        for changed in (True, False):
            outcome = backup.restore()
            assert not outcome.failed, outcome.result["msg"]
            assert outcome.result["changed"] == changed
            assert outcome.result["target_database"] == f"{stuck}_2"
            assert outcome.result["removed_databases"] == []
            if changed:
                assert "could not be dropped" in str(outcome.result["warnings"])
                assert "IS_TEMPLATE false" in str(outcome.result["warnings"])
        asked = backup.restore(target_database=stuck)
        assert asked.failed
        assert "IS_TEMPLATE false" in asked.result["msg"]
    finally:
        backup.admin().run(f'ALTER DATABASE "{stuck}" IS_TEMPLATE false')
        backup.cleanup()


def test_a_leftover_with_a_subscription_is_dropped_and_the_live_ones_slot_is_left(backup: Backup):
    left = Database(backup.database.host, backup.database.port, f"{backup.database.name}_left", backup.database.user)
    mark = Marker("restoring", backup.database.name, "2026-01-01T00:00:00Z")
    backup.admin().run(f"CREATE DATABASE {left.name}", f"COMMENT ON DATABASE {left.name} IS '{mark}'")
    # Dropping it as it stands would ask a server that nobody reaches to drop its slot.
    left.run(
        "CREATE SUBSCRIPTION news CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p"
        " WITH (connect = false, slot_name = 'of_the_live_one')"
    )
    outcome = backup.restore(scratch=True)
    assert not outcome.failed, outcome.result["msg"]
    assert outcome.result["removed_databases"] == [left.name]


def test_a_restore_at_work_is_left_alone_and_clears_up_itself_when_it_is_stopped(backup: Backup, proxy):
    proxy.add(s3_faults.slow(path="/data-", method="GET", bytes_per_s=30_000, times=0))
    process = module_process("pg_restore", backup.options | {"endpoint_url": proxy.endpoint_url})
    wait_for(lambda: at_work(backup))
    outcome = backup.restore()
    assert outcome.failed
    assert "another run" in outcome.result["msg"]
    other = backup.restore(target_database="other_beside", scratch=True)
    assert not other.failed, other.result["msg"]
    assert other.result["removed_databases"] == []
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    result = json.loads(out.splitlines()[-1])
    assert result["failed"]
    assert "SIGTERM" in result["msg"]
    assert "was dropped" in result["msg"]


def test_pg_restore_is_killed(backup: Backup, proxy):
    proxy.add(s3_faults.slow(path="/data-", method="GET", bytes_per_s=100_000, times=0))
    process = module_process("pg_restore", backup.options | {"endpoint_url": proxy.endpoint_url})
    wait_for(lambda: any("--section=data" in words for words in running(backup)))
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    out, _ = process.communicate(timeout=60)
    result = json.loads(out.splitlines()[-1])
    assert result["failed"]
    assert "signal 9" in result["msg"]
    assert "was dropped" in result["msg"]


def test_what_failed_is_kept_if_that_was_asked_for(spoilt: Backup):
    key = data_key(spoilt)
    stored = bytearray(spoilt.read(key))
    stored[-20] ^= 1
    spoilt.write(key, bytes(stored))
    outcome = spoilt.restore(keep_failed=True)
    assert outcome.failed
    name = outcome.result["target_database"]
    assert state_of(spoilt, name) == "failed"
    again = spoilt.restore(keep_failed=True)
    assert again.failed
    assert "never overwritten" in again.result["msg"]
    spoilt.cleanup()


# The server -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other_server():
    """A server of its own for what must not happen to the others'."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-restore-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made_cluster = Cluster(find_bindir(os.environ.get("PG_BINDIR")), folder / "data", free_port())
    made_cluster.init()
    made_cluster.start(fsync="off", max_connections=40, autovacuum="off")
    yield made_cluster
    if made_cluster.is_running():
        made_cluster.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
def test_the_server_restarts_in_the_middle(backup: Backup, proxy, other_server: Cluster):
    there = Database("127.0.0.1", other_server.port, "postgres", other_server.superuser)
    proxy.add(s3_faults.slow(path="/data-", method="GET", bytes_per_s=100_000, times=0))
    options = backup.options | there.login | {"endpoint_url": proxy.endpoint_url, "source_cluster": backup.cluster}
    process = module_process("pg_restore", options)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runbook restoring'"
    wait_for(lambda: there.one(query))
    other_server.stop("immediate")
    time.sleep(0.5)
    other_server.start(fsync="off", max_connections=40, autovacuum="off")
    out, _ = process.communicate(timeout=120)
    result = json.loads(out.splitlines()[-1])
    assert result["failed"]
    assert "was dropped" in result["msg"]
    assert there.one("SELECT count(*) FROM pg_database") == 3


def test_rows_that_a_crash_took_away_are_no_fault_of_the_backup(backup: Backup, proxy):
    admin = Database("127.0.0.1", backup.database.port, "postgres", backup.database.user)
    proxy.add(s3_faults.slow(path="/data-", method="GET", bytes_per_s=300_000, times=0))
    process = module_process("pg_restore", backup.options | {"endpoint_url": proxy.endpoint_url, "record_proof": False})
    of_it = "FROM pg_stat_activity WHERE application_name = 'runbook pg_restore' AND datname LIKE '%\\_restore\\_%'"
    wait_for(lambda: admin.one(f"SELECT max(datname) {of_it}"))
    there = replace(backup.database, name=admin.one(f"SELECT max(datname) {of_it}"))
    wait_for(lambda: there.one("SELECT to_regclass('public.people')"))
    admin.one(f"SELECT count(pg_terminate_backend(pid)) {of_it}")
    there.run("INSERT INTO public.people VALUES (-1, 'as if others were missing')")
    out, _ = process.communicate(timeout=120)
    result = json.loads(out.splitlines()[-1])
    assert (result["failed"], result["status"]) == (True, "unknown")
    assert "Nothing is known of the backup" in result["msg"]
    assert "was dropped" in result["msg"]


@pytest.fixture
def small_disk():
    """A folder on a file system of its own, of 128 MB."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-full-"))
    words = ["mount", "-t", "tmpfs", "-o", "size=128m,mode=777", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        folder.rmdir()
        pytest.skip("a file system of a fixed size needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
    folder.rmdir()


@pytest.mark.long
def test_the_servers_disk_is_full(backup: Backup, proxy, small_disk: Path):
    cluster = Cluster(find_bindir(os.environ.get("PG_BINDIR")), small_disk / "pg" / "data", free_port())
    cluster.init()
    cluster.start(fsync="off", max_connections=40, autovacuum="off")
    try:
        there = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
        # Too little room is said before anything is made.
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 2_000_000))
        elsewhere = there.login | {"source_cluster": backup.cluster}
        refused = backup.restore(**elsewhere)
        assert refused.failed
        assert "make room" in refused.result["msg"]
        ballast.unlink()
        # Somebody else fills the disk while the data comes.
        proxy.add(s3_faults.slow(path="/data-", method="GET", bytes_per_s=100_000, times=0))
        process = module_process("pg_restore", backup.options | elsewhere | {"endpoint_url": proxy.endpoint_url})
        wait_for(
            lambda: there.one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runbook restoring'")
        )
        # Full until no pg_restore has been there for a while, since one ends before the next begins.
        without = 0
        with ballast.open("wb", buffering=0) as out:
            while process.poll() is None and without < 5:
                with contextlib.suppress(OSError):
                    while out.write(bytes(65536)):
                        pass
                time.sleep(0.1)
                without = 0 if running(backup) else without + 1
        ballast.unlink()
        out_text, _ = process.communicate(timeout=120)
        result = json.loads(out_text.splitlines()[-1])
        assert result["failed"]
        assert "pg_restore failed with the data" in result["msg"]
        if "was dropped" not in result["msg"]:
            # No room for WAL: the server itself has stopped, or was starting again.
            assert "the next restore drops it" in result["msg"]
            # Whatever it is doing, a start with room again ends it, and waits until it answers.
            if cluster.is_running():
                cluster.stop("immediate")
            cluster.start(fsync="off", max_connections=40, autovacuum="off")
            proxy.clear()
            again = backup.restore(**elsewhere)
            assert not again.failed, again.result["msg"]
            assert len(again.result["removed_databases"]) == 1
            there.run(f'DROP DATABASE "{again.result["target_database"]}"')
        assert there.one("SELECT count(*) FROM pg_database") == 3
    finally:
        if cluster.is_running():
            cluster.stop("immediate")


def test_an_older_server_takes_no_newer_backup_but_a_newer_one_an_older(backup: Backup):
    """Where the machine has two versions: the archives of the older go into the newer, and not the other way round."""
    mine = backup.admin().one("SELECT current_setting('server_version_num')::int / 10000")
    others = [path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin")) if path.parent.name != str(mine)]
    if not others:
        pytest.skip("there is only one PostgreSQL on this machine")
    folder = Path(tempfile.mkdtemp(prefix="runbook-older-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    older = Cluster(others[0], folder / "data", free_port())
    older.init()
    older.start(fsync="off", max_connections=30, autovacuum="off")
    try:
        there = Database("127.0.0.1", older.port, "postgres", older.superuser)
        outcome = backup.restore(**there.login, source_cluster=backup.cluster)
        assert outcome.failed
        assert "newer" in outcome.result["msg"]
        there.run("CREATE DATABASE test_restore_faults")
        old = replace(there, name="test_restore_faults")
        old.run(*SIMPLE)
        each = Backup(old, backup.s3, backup.s3.bucket())
        # Archives of the newer client can only be read by it, and it sets a parameter that the older server lacks.
        each.make(bindir=str(find_bindir()))
        same = each.restore(scratch=True)
        assert not same.failed, same.result["msg"]
        assert same.result["proof"]["status"] == "ok"
        time.sleep(1.1)
        each.make()
        up = each.restore(
            **backup.admin().login, target_database="other_upgraded", scratch=True, source_cluster=each.cluster
        )
        assert not up.failed, up.result["msg"]
        assert up.result["proof"]["status"] == "ok"
    finally:
        older.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
