"""A drill with bad luck: kills, gaps, no room, no backup, a target that is production; and faults that it must find."""

from __future__ import annotations

import functools
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import drill_samples
import pytest
from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.drivers.backup import restored_server
from ansible.module_utils.runbook.drivers.drill import folder as folders
from ansible.module_utils.runbook.drivers.drill import guard, servers
from ansible.module_utils.runbook.drivers.drill.drill_clients import Clients
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, command_line, find_bindir, pids_naming
from ansible.module_utils.runbook.drivers.postgres.postgres import SILENCES_EVENT_TRIGGERS
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, Progress
from ansible.module_utils.runbook.rules.drill import figures
from ansible.module_utils.runbook.rules.drill.faults import is_found
from ansible.module_utils.runbook.rules.drill.points import Candidate
from ansible.module_utils.runbook.rules.drill.state import Chosen, Destination, Survey
from conftest import ROOT, Database, free_port, module_process, permit, run_module, this_run
from drill_run import ACTS, DATABASE, PASSWORD, DrillRun, names_of, options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from conftest import S3


@pytest.fixture
def drill(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrillRun]:
    # For the test's own connections to the drill's server.
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    made = DrillRun(tmp_path, s3)
    yield made
    if (tmp_path / "drill" / "drill.json").exists():
        made.act("tear_down")


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.02)


def buckets(s3: S3) -> list[str]:
    return [each["Name"] for each in s3.client().list_buckets()["Buckets"] if each["Name"].startswith("runbook-drill-")]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.long
def test_a_flipped_byte_of_a_base_backup_makes_the_drill_red_and_is_named(drill: DrillRun):
    fault = "flipped_byte"
    drill.options |= {"way": "pitr", "inject": fault, "self_test": True}
    document = drill.whole()
    assert (document["status"], document["injected"]) == ("breach", fault)
    assert is_found(fault, document)
    assert "was found" in drill.said["msg"]
    # It went on to look for another backup, and there was none.
    assert [each["reason"] for each in document["recovery"]["skipped"]] != []
    assert document["measured"]["rto_s"] is None
    assert left_in(drill.folder / "drill") == {"lock"}


def too_full(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """pg_pitr_restore itself refuses a folder without room, before anything is written."""
    module = runpy.run_path(str(ROOT / "library" / "pg_pitr_restore.py"))
    defaults = {name: each.get("default") for name, each in module["argument_spec"]().items()}
    permit(this_run(), options, take_lease=False)
    context = Context(
        defaults | options, check_mode=False, diff=False, run=this_run(),
        progress=Progress("pg_pitr_restore", {}), warn=print, hide=print,
    )  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(restored_server.RestoreDir, "free_bytes", lambda _self: 1000)
        with pytest.raises(RunbookError, match="1,000 bytes are free there"):
            module["core"](context)
    assert not Path(options["restore_path"]).exists()


@pytest.mark.long
def test_kill_9_a_gap_no_room_and_an_interrupted_restore(drill: DrillRun, s3: S3, monkeypatch: pytest.MonkeyPatch):
    folder = drill.folder / "drill"
    drill.options |= {"way": "pitr"}

    # kill -9 in the middle of the making: the next drill finds what is left, and removes it.
    given: dict[str, Any] = {
        "state_dir": str(folder), "environment": "sandbox", "host": "db",
        "login_host": "127.0.0.1", "login_user": "postgres", "login_password": PASSWORD, "login_db": DATABASE,
        "bindir": os.environ.get("PG_BINDIR"), **s3.options("unused"),
    }  # fmt: skip
    killed = module_process("dr_drill_begin", given)
    primary = Cluster(Path(), folder / "primary" / "data", 0)
    wait_for(primary.pid)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    orphan = primary.pid()
    assert orphan is not None
    before = buckets(s3)
    # A drill is named by the second at which it begins.
    time.sleep(1)
    drill.step("begin")
    live = Database("127.0.0.1", drill.said["login_port"], "postgres", "postgres")
    # What fires at a login (PostgreSQL 17) is in the copy, too.
    application = replace(live, name=DATABASE)
    application.run("CREATE TABLE runbook.fired (port text, who text)")
    if application.one("SELECT current_setting('server_version_num')::int") >= SILENCES_EVENT_TRIGGERS:
        application.run(
            """CREATE FUNCTION runbook.fire() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NOT pg_is_in_recovery() THEN INSERT INTO runbook.fired
                 SELECT current_setting('port'), current_setting('application_name'); END IF; END $$""",
            "CREATE EVENT TRIGGER entered ON login EXECUTE FUNCTION runbook.fire()",
        )
    drill.back_up()
    client, bucket = s3.client(), drill.said["bucket"]
    assert command_line(orphan) == ""
    assert len(buckets(s3)) == len(before) == 2
    assert not set(before) & set(buckets(s3))

    # A drill that is alive is left alone.
    playbook = subprocess.Popen(["sleep", "60"])
    note = folder / "drill.json"
    text = note.read_text()
    alive = process.find(playbook.pid)
    # One of another container may be alive as well, whatever its number means here.
    for controller in (str(alive), "elsewhere pid:[1] 1 1"):
        note.write_text(json.dumps(json.loads(text) | {"process": controller}))
        refused = drill.act("begin")
        assert refused.failed
        assert "is under way" in refused.result["msg"]
    playbook.kill()
    playbook.wait()
    note.write_text(text)

    def segments() -> list[str]:
        listed = client.list_objects_v2(Bucket=bucket, Prefix="pitr/db/wals/")["Contents"]
        return sorted(each["Key"] for each in listed if re.fullmatch(r"[0-9A-F]{24}\.zst", Path(each["Key"]).name))

    known = len(segments())
    for number in range(1, 4):
        live.run("SELECT pg_switch_wal()")
        wait_for(functools.partial(lambda wanted: len(segments()) >= wanted, known + number))
    drill.step("outage")
    assert left_in(folder) >= {"lost", "drill.json"}
    assert not (folder / "primary" / "data").exists()

    # The WAL has a gap: one segment is gone, and the newest behind it helps nobody.
    gone = segments()[-2]
    client.delete_object(Bucket=bucket, Key=gone)

    # There is no room: said before anything moves.
    full = drill.act("decide", free_disk_bytes=1000)
    assert full.failed
    assert "1,000 are free" in full.result["msg"]
    assert not (folder / "restore").exists()

    # A restore that is killed is run again.
    drill.step("decide")
    more = {name: drill.said[name] for name in ("restore_path", "backup_id", "target_time")}
    options = drill.pitr_options("restore")
    too_full(monkeypatch, options | more)
    stopped = module_process("pg_pitr_restore", options | more)
    wait_for((folder / "restore" / "restore.json").exists)
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    assert not drill.restore().failed
    drill.step("verify")
    assert drill.said["recovered"], drill.said["msg"]
    port = restored_server.RestoreDir(Path(drill.known["restore_path"])).state()["port"]
    copy = replace(application, port=port)
    assert copy.run(f"SELECT who FROM runbook.fired WHERE port = '{port}' AND who ~ '^runbook'") == []

    document = drill.judge()
    assert document["status"] == "breach"
    assert f"The WAL is broken: {Path(gone).stem} missing" in document["msg"]
    assert document["measured"]["rto_s"] > 0
    assert left_in(folder) == {"lock", "history", "lessons"}
    assert buckets(s3) == []


def test_the_servers_of_a_drill_end_with_its_ansible_playbook(tmp_path: Path):
    """After kill -9 nobody of the run is left who would end them; what they hold stays for the next drill."""
    folder = folders.Folder(tmp_path / "drill")
    playbook = subprocess.Popen(["sleep", "600"])
    controller = process.find(playbook.pid)
    made = [Cluster(find_bindir(os.environ.get("PG_BINDIR")), tmp_path / name / "data", free_port())
            for name in ("drill/primary", "restore")]  # fmt: skip
    try:
        for server in made:
            server.init()
            server.start(fsync="off")
        mine = drill_samples.state(process=str(controller), restore_path=str(tmp_path / "restore"))
        for each in (replace(mine, drill_id="another"), mine):
            folder.write(mine)
            guard.leave(folder, each)
        time.sleep(1.5)
        assert all(server.is_running() for server in made)
        playbook.kill()
        playbook.wait()
        wait_for(lambda: not any(server.is_running() for server in made))
        assert folder.read() == mine
        assert made[0].data.is_dir()
    finally:
        playbook.kill()
        for server in made:
            if server.is_running():
                server.stop("immediate")


def test_the_newest_backup_is_bad_and_the_one_before_serves(drill: DrillRun):
    drill.options |= {"way": "dump", "scenario": "newest_backup_bad"}
    document = drill.whole()
    assert document["status"] == "ok", document["msg"]
    measured, recovery = document["measured"], document["recovery"]
    assert measured["acknowledged_rows"] == measured["surviving_rows"] + measured["lost_rows"]
    assert 0 < measured["lost_rows"] < measured["acknowledged_rows"]
    assert [phase["name"] for phase in document["phases"]] == list(figures.PHASES)
    assert recovery["costs_s"] > 0
    assert [("missing" in each["reason"]) for each in recovery["skipped"]] == [True]
    decided = [phase["msg"] for phase in document["phases"] if phase["name"] == "decide"]
    assert "Skipped, which costs" in decided[0]


# A failure in each phase ----------------------------------------------------------------------------------------------


Modules = dict[str, dict[str, Any]]


@pytest.fixture
def modules() -> Modules:
    """The names of each act's module, to be replaced; the outage is looked for without a pause."""
    names = {act: names_of(act) for act in ACTS}
    names["outage"]["LOOK_EVERY_S"] = 0
    return names


def fails(*_args: object, **_more: object) -> Any:
    raise RunbookError("The canary fell ill.")


def at_the_beginning(drill: DrillRun, modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clients, "start", fails)
    with pytest.raises(RunbookError, match="canary"):
        drill.inside(modules, "begin")


def in_the_outage(drill: DrillRun, modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    drill.step("begin")
    monkeypatch.setattr(servers, "kill", fails)
    with pytest.raises(RunbookError, match="canary"):
        drill.inside(modules, "outage")


def while_deciding(drill: DrillRun, modules: Modules, _patch: pytest.MonkeyPatch) -> None:
    drill.step("begin")
    drill.inside(modules, "outage")
    with pytest.raises(RunbookError, match="No backup is good"):
        drill.inside(modules, "decide")


def while_restoring(drill: DrillRun, modules: Modules, patch: pytest.MonkeyPatch) -> None:
    """A recovery that was started, and whose server ended; its log tells why, and quotes rows."""
    decide(drill, modules, patch, "pitr")
    restore_dir = restored_server.RestoreDir(Path(drill.said["restore_path"]))
    restore_dir.data.mkdir(parents=True)
    restore_dir.write(state="restoring")
    log = restore_dir.path / "server.log"
    log.write_text("LOG:  redo starts at 0/2000028\nSTATEMENT:  SELECT 'canary-row'\nFATAL:  canary: no such segment\n")
    drill.inside(modules, "skip", reason=f"The canary's server ended; see {log}.")
    with pytest.raises(RunbookError, match="canary"):
        drill.inside(modules, "decide")


def while_verifying(drill: DrillRun, modules: Modules, patch: pytest.MonkeyPatch) -> None:
    decide(drill, modules, patch, "dump")
    patch.setitem(modules["verify"], "look", fails)
    with pytest.raises(RunbookError, match="canary"):
        drill.inside(modules, "verify")


def while_switching(drill: DrillRun, modules: Modules, patch: pytest.MonkeyPatch) -> None:
    decide(drill, modules, patch, "dump")
    patch.setitem(modules["verify"], "look", lambda current, _params: ([], current.state.measured))
    patch.setattr(Clients, "wait_for", fails)
    with pytest.raises(RunbookError, match="canary"):
        drill.inside(modules, "verify")


def decide(drill: DrillRun, modules: Modules, patch: pytest.MonkeyPatch, way: Literal["dump", "pitr"]) -> None:
    """As far as a backup that was never made is found good."""
    drill.options["way"] = way
    drill.step("begin")
    drill.inside(modules, "outage")
    found = [Candidate(way, "2026-02-01T10-00-00Z", datetime(2026, 2, 1, 10, tzinfo=UTC))]
    patch.setitem(modules["decide"], "dumps", lambda *_: (found, Survey()))
    patch.setitem(modules["decide"], "base_backups", lambda *_: (found, Survey()))
    drill.inside(modules, "decide")


PHASES = (at_the_beginning, in_the_outage, while_deciding, while_restoring, while_verifying, while_switching)


@pytest.mark.parametrize("fail", PHASES, ids=lambda each: each.__name__)
def test_a_failure_in_any_phase_leaves_nothing(
    fail: Callable[..., None], drill: DrillRun, modules: Modules, s3: S3, monkeypatch: pytest.MonkeyPatch
):
    folder = drill.folder / "drill"
    drill.options |= {"scale": 0.001, "way": "dump"}
    with monkeypatch.context() as patch:
        fail(drill, modules, patch)
    why = drill.said["msg"]
    if fail is not at_the_beginning:
        # As the playbook's rescue does.
        assert drill.said["drill_id"]
        clients = Clients(folder).process()
        assert clients is not None, "there was something to remove"
        drill.inside(modules, "tear_down", failure=why)
        with pytest.raises(RunbookError):
            drill.inside(modules, "judge")
        document = drill.said["drill"]
        assert (document["status"], document["tear_down"]["status"]) == ("breach", "ok")
        assert "canary" in document["msg"] or "there is none of this database" in document["msg"]
        assert document["measured"]["rto_s"] is None
        assert clients.life() == "dead"
    logs = {"logs"} if fail is while_restoring else set()
    assert left_in(folder) - {"history", "lessons"} - logs == {"lock"}
    assert pids_naming(str(folder)) == []
    assert buckets(s3) == []
    if logs:
        (kept,) = (folder / "logs").iterdir()
        assert str(kept) in document["msg"]
        assert kept.read_text() == "LOG:  redo starts at 0/2000028\nFATAL:  canary: no such segment\n"


# Files ----------------------------------------------------------------------------------------------------------------


def test_files_that_differ_from_the_restored_rows_are_named(database: Database, s3: S3):
    """As s3_mirror compares a source, so that a copy with another ETag is known by what it was made from."""
    database.run(
        "CREATE SCHEMA storage; CREATE TABLE storage.objects (bucket_id text, name text, metadata jsonb)",
        """INSERT INTO storage.objects VALUES ('up', 'in/good', '{"size": 4}'), ('up', 'in/same', '{"eTag": "first"}'),
           ('up', 'in/lost', NULL), ('up', 'in/other', '{"size": 9}'), ('up', 'out', NULL), ('avatars', 'a', NULL)""",
    )
    bucket = s3.bucket()
    for key in ("good", "same", "other", "later"):
        s3.client().put_object(
            Bucket=bucket, Key=f"files/up/in/{key}", Body=b"good", Metadata={"runbook-source-etag": "first"}
        )
    wanted = dict.fromkeys(options_of("verify")["files"]["options"]) | s3.options(bucket)
    wanted |= {"buckets": ["up"], "prefix": "files/", "source_prefix": "in/", "show_keys": True}
    there = {name: each.get("default") for name, each in options_of("verify")["target"]["options"].items()}
    there |= {"login_host": database.host, "login_port": database.port, "login_user": database.user}
    params = {"files": wanted, "target": there | {"ssl_mode": "prefer", "system_identifier": None}}
    chosen = Chosen("dump", "2026-02-01T10-00-00Z", None, (), 0.0, None, datetime(2026, 2, 1, 11, tzinfo=UTC))
    state = drill_samples.state(environment="staging", chosen=chosen, destination=Destination(database.name))
    compare = names_of("verify")["compare_files"]

    (check,), found = compare(state, params)
    assert check.status == "breach"
    assert [found[name] for name in ("rows", "missing_rows", "orphan_objects", "differing_rows")] == [4, 1, 1, 1]
    assert {(each["kind"], each["name"]) for each in found["named"]} == {
        ("missing", "up/in/lost"), ("orphan", "up/in/later"), ("differing", "up/in/other")
    }  # fmt: skip
    # What has no copy was not looked at, and is said.
    assert found["unasked_rows"] == {"up": 1, "avatars": 1}
    assert "1 row of bucket avatars were not compared" in check.msg

    wanted["bucket"] = "not-there-at-all"
    (check,), _ = compare(state, params)
    assert check.status == "unknown"
    assert "NoSuchBucket" in check.msg


# Elsewhere than in the sandbox ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target() -> Iterator[Cluster]:
    """Another server, to which staging's backups are restored."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-drill-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made = Cluster(find_bindir(os.environ.get("PG_BINDIR")), folder / "data", free_port())
    made.init()
    made.start(fsync="off", autovacuum="off")
    yield made
    made.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def staging(s3: S3, database: Database, target: Cluster, tmp_path: Path) -> DrillRun:
    """A drill of a database of staging, with a bucket in which nothing lies."""
    there = Database("127.0.0.1", target.port, "postgres", "postgres")
    identifier = "SELECT system_identifier::text FROM pg_control_system()"
    named = {
        "login_host": "127.0.0.1", "login_port": target.port, "login_user": "postgres", "ssl_mode": "prefer",
        "system_identifier": there.one(identifier),
    }  # fmt: skip
    options = {
        "environment": "staging", "way": "dump", "target": named, "system_identifier": database.one(identifier),
        **database.login, **s3.options(s3.bucket(environment="staging")),
    }  # fmt: skip
    return DrillRun(tmp_path, s3, options)


def test_a_target_that_is_production_is_refused_before_anything(staging: DrillRun, database: Database):
    own = staging.options["target"] | {
        "login_port": database.port, "system_identifier": staging.options["system_identifier"],
    }  # fmt: skip
    refused = staging.act("begin", target=own)
    assert refused.failed
    assert "never restores onto production" in refused.result["msg"]
    # Even where the inventory pins another cluster: the live one is asked.
    refused = staging.act("begin", target=own, system_identifier="4711")
    assert "the inventory means cluster 4711" in refused.result["msg"]
    injected = staging.act("begin", inject="flipped_byte")
    assert "in the sandbox alone" in injected.result["msg"]
    late = staging.act("begin", announce_days=7, announcement={"announced_at": "2026-01-31"})
    assert "was not announced" in late.result["msg"]
    assert left_in(staging.folder / "drill") == {"lock"}


def test_without_a_backup_the_drill_is_red_and_says_so(staging: DrillRun):
    checked = staging.act("begin", check=True)
    assert "Would drill" in checked.result["msg"]
    assert not (staging.folder / "drill").exists()
    staging.step("begin")
    staging.step("outage")
    assert staging.act("decide").failed
    document = staging.judge()
    assert document["status"] == "breach"
    assert "there is none of this database" in document["msg"]
    assert staging.act("verify").failed, "a drill that was judged is over"


def test_clocks_that_differ_are_measured_and_change_no_figure(
    staging: DrillRun, database: Database, s3: S3, modules: Modules, monkeypatch: pytest.MonkeyPatch
):
    """The control node's clock is two hours behind that of the servers; the heartbeat is by the control node's."""
    behind = timedelta(hours=2)

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - behind

    monkeypatch.setattr(folders, "datetime", Behind)
    beat = datetime.now(UTC) - behind
    database.run(
        "CREATE TABLE public.notes (id bigint PRIMARY KEY)", "CREATE SCHEMA runbook",
        "CREATE TABLE runbook.heartbeat (id bigint PRIMARY KEY, beat_at timestamptz NOT NULL)",
        f"INSERT INTO runbook.heartbeat VALUES (1, '{beat - timedelta(seconds=300)}')",
    )  # fmt: skip
    bucket = {name: staging.options[name] for name in s3.options("")}
    dumped = run_module("pg_backup", database.login | bucket | {"environment": "staging", "prefix": "logical"})
    assert not dumped.failed, dumped.result["msg"]
    database.run(f"INSERT INTO runbook.heartbeat VALUES (2, '{beat}')")

    for action in ("begin", "outage", "decide"):
        staging.inside(modules, action)
    said = staging.said
    there = {name: value for name, value in staging.options["target"].items() if name != "system_identifier"}
    more = {
        "login_db": "postgres", "database": database.name, "prefix": "logical", "backup": said["backup_id"],
        "target_database": said["target_database"], "source_cluster": said["system_identifier"],
    }  # fmt: skip
    restored = run_module("pg_restore", there | bucket | more)
    assert not restored.failed, restored.result["msg"]
    staging.inside(modules, "verify")
    staging.inside(modules, "tear_down")
    with pytest.raises(RunbookError):  # amcheck is not installed there
        staging.inside(modules, "judge")
    document = staging.said["drill"]
    (clock,) = (each for each in document["checks"] if each["name"] == "clock")
    assert clock["status"] == "ok"
    assert re.search(r"clock is 7,(199|200|201) s ahead of the drill's", clock["msg"]), clock["msg"]
    # By two clocks it would be two hours more, or less than nothing.
    assert 0 < document["measured"]["rto_s"] < behind.total_seconds()
    lost_s = (datetime.fromisoformat(document["outage_at"]) - beat).total_seconds() + 300
    assert document["measured"]["rpo_s"] == round(lost_s, 3) < behind.total_seconds()
