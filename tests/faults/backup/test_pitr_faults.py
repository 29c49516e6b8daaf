"""What bad luck does to recovery to a point in time: S3 away, WAL lost or damaged, kills, copies, new timelines.

One server lives through all of it, because a base backup and its WAL are what each fault needs; every test leaves the
archive as it found it.
"""

from __future__ import annotations

import random
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psutil
import pytest
from conftest import Database, module_process, run_module
from pitr_primary import Primary, end, make_primary
from s3_faults import FaultyS3, close, slow, status

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def primary(s3) -> Iterator[Primary]:
    """A server with a base backup, four commits, and a segment ended after each."""
    made = make_primary(s3)
    try:
        assert not made.pitr("setup", allow_restart=True).failed
        made.database.run("CREATE TABLE note (id int PRIMARY KEY)")
        assert not made.pitr("backup").failed
        for number in (1, 2, 3, 4):
            made.add(number)
            made.database.run("SELECT pg_switch_wal()")
        outcome = made.pitr("check", switch_wal=True)
        assert outcome.result["status"] == "ok", outcome.result["msg"]
        yield made
    finally:
        end(made)


def segments(primary: Primary) -> list[str]:
    return [
        key for key in primary.keys("wals/") if key.endswith(".zst") and ".history" not in key and ".backup" not in key
    ]


@contextmanager
def replaced(primary: Primary, key: str, body: bytes | None) -> Iterator[None]:
    """Another content in the place of an object, or none, for the block."""
    client = primary.s3.client()
    whole = client.get_object(Bucket=primary.bucket, Key=key)["Body"].read()
    times = client.head_object(Bucket=primary.bucket, Key=key)["LastModified"]
    made = (
        client.delete_object(Bucket=primary.bucket, Key=key)
        if body is None
        else client.put_object(Bucket=primary.bucket, Key=key, Body=body)
    )
    try:
        yield
    finally:
        # The version that was there comes back with its time.
        client.delete_object(Bucket=primary.bucket, Key=key, VersionId=made["VersionId"])
    back = client.head_object(Bucket=primary.bucket, Key=key)
    assert (back["ContentLength"], back["LastModified"]) == (len(whole), times)


def left_running(primary: Primary, part: str) -> list[str]:
    """Processes that still work in a folder of the test."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(primary.folder / part) in words:
            found.append(words)
    return found


@pytest.mark.long
def test_s3_away_loses_nothing(primary):
    """The archiver tries again until S3 is back; meanwhile the check is red."""
    before = set(segments(primary))
    with FaultyS3(primary.s3.endpoint_url) as proxy:
        primary.stores = {"endpoint_url": proxy.endpoint_url}
        try:
            assert primary.pitr("setup").result["changed"]
            proxy.add(close(method="PUT", times=0))
            primary.database.run("INSERT INTO note VALUES (10)", "SELECT pg_switch_wal()")
            deadline = time.monotonic() + 60
            while primary.database.one("SELECT failed_count FROM pg_stat_archiver") == 0:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            red = primary.pitr("check")
            assert red.failed
            assert red.result["status"] == "breach"
            assert red.result["ready_segments"] >= 1
            assert "Nothing is lost" in red.result["msg"]
            assert "Archiving fails" in primary.pitr("backup").result["msg"]
            assert set(segments(primary)) == before

            # S3 gives no answer at all: what it holds is unknown, and the archiver's breach stays one.
            proxy.add(status(503, "SlowDown", times=0))
            assert {each["name"]: each["status"] for each in primary.pitr("check").result["checks"]} == {
                "archiver": "breach",
                "archive": "unknown",
            }
            proxy.clear()
        finally:
            primary.stores = {}
    # Setting it up again wakes the archiver, and so does the end of a segment.
    assert primary.pitr("setup").result["changed"]
    green = primary.pitr("check", switch_wal=True)
    assert green.result["status"] == "ok", green.result["msg"]
    assert green.result["gaps"] == []
    assert len(set(segments(primary)) - before) >= 2


@pytest.mark.long
def test_a_missing_segment_is_found_and_not_jumped_over(primary):
    gone = segments(primary)[3]
    with replaced(primary, gone, None):
        red = primary.pitr("check")
        assert red.failed
        name = gone.rpartition("/")[2].removesuffix(".zst")
        assert red.result["gaps"] == [[name, name]]
        assert name in red.result["msg"]
        now = datetime.now(UTC).isoformat()
        for target in ({}, {"target_time": now}):
            refused = primary.restore("gap", check=True, **target)
            assert refused.failed
            assert f"{name} missing" in refused.result["msg"]
        assert not (primary.folder / "gap").exists()
    assert primary.pitr("check").result["status"] == "ok"


def test_a_target_that_nobody_can_reach_is_refused_with_the_window(primary):
    window = primary.pitr("check").result
    for wrong in (datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(days=1)):
        refused = primary.restore("future", target_time=wrong.isoformat())
        assert refused.failed
        assert (
            f"{datetime.fromisoformat(window['oldest_restorable']):%Y-%m-%d %H:%M:%S} UTC to" in refused.result["msg"]
        )
    assert not (primary.folder / "future").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_wal_never_passes_for_the_end(primary, damage):
    """PostgreSQL takes a record that it cannot read for the end of the WAL; the module knows how far it must come."""
    key = segments(primary)[2]
    whole = primary.s3.client().get_object(Bucket=primary.bucket, Key=key)["Body"].read()
    body = whole[: len(whole) // 2] if damage == "truncated" else bytes([*whole[:40], whole[40] ^ 16, *whole[41:]])
    with replaced(primary, key, body):
        red = primary.restore("damaged")
    assert red.failed
    assert red.result["status"] == "breach"
    assert not left_running(primary, "damaged")
    # The next restore removes what this one left; here discard does.
    assert primary.pitr("discard", restore_path=str(primary.folder / "damaged")).result["changed"]


@pytest.mark.long
def test_an_interrupted_base_backup_is_none(primary):
    before = {key.split("/")[3] for key in primary.keys("base/") if key.endswith("backup.info")}
    with FaultyS3(primary.s3.endpoint_url) as proxy:
        # Slow enough to be hit in the middle.
        proxy.add(slow(bytes_per_s=200_000, upload=True, method="PUT", times=0))
        process = module_process("pg_pitr_backup", primary.options("backup", endpoint_url=proxy.endpoint_url))
        deadline = time.monotonic() + 60
        while not (engines := [each for each in psutil.Process(process.pid).children(recursive=True) if runs(each)]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(random.uniform(0.5, 2))  # noqa: S311 - chance, not a secret
        begun = [*engines, *(child for each in engines for child in each.children(recursive=True))]
        process.kill()
        process.wait()
        # What it started ends with it.
        _gone, alive = psutil.wait_procs(begun, timeout=30)
        assert not alive
    listed = primary.pitr("check").result["windows"]
    assert {each["backup_id"] for each in listed} == before
    after = primary.pitr("backup")
    assert not after.failed, after.result["msg"]
    again = primary.pitr("backup", check=True)
    assert again.result["removed"] == []


def runs(process: psutil.Process) -> bool:
    try:
        return any("barman-cloud-backup" in word and "list" not in word for word in process.cmdline())
    except psutil.Error:
        return False


def test_another_clusters_archive_is_refused(primary):
    stranger = make_primary(primary.s3)
    try:
        stranger.bucket = primary.bucket
        refused = stranger.pitr("setup", allow_restart=True)
        assert refused.failed
        assert "would overwrite each other's WAL" in refused.result["msg"]
        assert stranger.database.one("SHOW archive_mode") == "off"
        foreign = stranger.pitr("setup", server="other")
        assert not foreign.failed
    finally:
        end(stranger)
    wrong = primary.restore("wrong", system_identifier="7123456789012345678")
    assert wrong.failed
    assert "archive of cluster" in wrong.result["msg"]
    assert primary.pitr("restore", restore_path=str(primary.folder / "wrong"), server="nobody").failed
    assert not (primary.folder / "wrong").exists()


@pytest.mark.long
def test_killed_restore_then_again_then_a_new_timeline(primary):
    """Kills at random moments leave nothing that the next restore cannot remove; its server then takes over."""
    folder = primary.folder / "killed"
    options = primary.options("restore", restore_path=str(folder))
    for _ in range(2):
        process = module_process("pg_pitr_restore", options)
        deadline = time.monotonic() + 60
        while not (folder / "restore.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(random.uniform(0, 4))  # noqa: S311 - chance, not a secret
        process.send_signal(signal.SIGKILL)
        process.wait()
    outcome = run_module("pg_pitr_restore", options)
    if "never overwrites" in outcome.result["msg"]:
        # The last kill came too late.
        primary.pitr("discard", restore_path=str(folder))
        outcome = run_module("pg_pitr_restore", options)
    assert not outcome.failed, outcome.result["msg"]
    want = primary.rows(primary.cluster.port)
    assert primary.rows(outcome.result["port"]) == want
    servers = [
        words for words in left_running(primary, "killed") if "/postgres " in words or words.endswith("/postgres")
    ]
    assert len(servers) == 1

    # The old server is gone; the new one archives on, in its own timeline.
    primary.cluster.stop("immediate")
    heir = {"login_port": outcome.result["port"]}
    set_up = primary.pitr("setup", allow_restart=True, **heir)
    assert not set_up.failed, set_up.result["msg"]
    there = Database("127.0.0.1", outcome.result["port"], "postgres", "postgres")
    there.run("INSERT INTO note VALUES (50)")
    green = primary.pitr("check", switch_wal=True, **heir)
    assert green.result["status"] == "ok", green.result["msg"]
    assert green.result["newest_wal"].startswith("00000002")
    assert green.result["gaps"] == []

    # All there is comes from both.
    second = primary.restore("second")
    assert not second.failed, second.result["msg"]
    assert second.result["timeline"] == 3
    assert primary.rows(second.result["port"]) == [*want, 50]

    # The old server comes back, and is not taken for the one that goes on.
    primary.cluster.start(fsync="off", max_connections=30)
    behind = primary.pitr("check")
    assert behind.result["status"] == "breach"
    assert "another one took its place" in behind.result["msg"]
    assert "another one took its place" in primary.pitr("setup").result["msg"]
