"""Recovery to a point in time on a real cluster with a real S3 server: set up, back up, check, restore, expire."""

from __future__ import annotations

import json
import runpy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, Progress
from conftest import ROOT, Database, permit, this_run
from pitr_primary import PASSWORD, Primary, end, make_primary

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def primary(s3) -> Iterator[Primary]:
    made = make_primary(s3)
    yield made
    end(made)


@dataclass
class Life:
    """What the tests below find out one after the other, because each step of a server's life needs the one before."""

    backup_id: str = ""
    #: Moments behind the first commits, each before the next one.
    moments: list[datetime] = field(default_factory=list)
    #: Position behind them.
    lsn: str = ""


@pytest.fixture(scope="module")
def life() -> Life:
    return Life()


def test_setup_then_a_base_backup_then_all_is_well(primary, life):
    # Nothing is there yet.
    refused = primary.pitr("backup")
    assert refused.failed
    assert "run the setup" in refused.result["msg"]

    # The plan, twice the same, and nothing written.
    planned = primary.pitr("setup", check=True)
    assert not planned.failed, planned.result["msg"]
    assert planned.result["changed"]
    assert not (primary.folder / "state").exists()
    assert primary.keys("") == []
    assert primary.database.one("SELECT count(*) FROM pg_file_settings WHERE name = 'archive_command'") == 0

    # Without leave to restart it says so, and is not green.
    half = primary.pitr("setup")
    assert half.result["restart_required"]
    assert half.result["status"] == "unknown"
    assert half.result["changes"] == planned.result["changes"]
    assert primary.pitr("backup").failed

    done = primary.pitr("setup", allow_restart=True)
    assert (done.result["changed"], done.result["status"]) == (True, "ok")
    again = primary.pitr("setup", allow_restart=True)
    assert (again.result["changed"], again.result["status"]) == (False, "ok")

    # Keys stand in one file that only its owner may read.
    command = primary.database.one("SHOW archive_command")
    assert primary.s3.secret_key not in command
    keys = primary.folder / "state" / "aws-credentials"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert primary.s3.secret_key in keys.read_text()

    primary.database.run("CREATE TABLE note (id int PRIMARY KEY)")
    empty = primary.pitr("check", switch_wal=True)
    assert empty.failed
    assert empty.result["status"] == "breach"
    assert "make a base backup" in empty.result["msg"]
    assert empty.result["archive_proof_s"] is not None

    assert primary.pitr("backup", check=True).result["changed"]
    assert primary.keys("base/") == []
    backup = primary.pitr("backup")
    assert not backup.failed, backup.result["msg"]
    assert backup.result["size_bytes"] > 0

    moments = [primary.add(number) for number in (1, 2, 3)]
    primary.database.run("SELECT pg_create_restore_point('before four')")
    lsn = primary.database.one("SELECT pg_current_wal_insert_lsn()")
    primary.add(4)
    good = primary.pitr("check", switch_wal=True)
    assert not good.failed, good.result["msg"]
    assert good.result["status"] == "ok"
    assert good.result["gaps"] == []
    # S3 says when it took the last segment in whole seconds, rounded down.
    assert good.result["oldest_restorable"] <= moments[0].isoformat()
    assert moments[0].replace(microsecond=0).isoformat() <= good.result["newest_restorable"]
    life.backup_id, life.moments, life.lsn = backup.result["backup_id"], moments, lsn


def test_to_a_time_and_never_over_what_was_restored(primary, life):
    """The commit before it is there, the one after it is not."""
    moments = life.moments
    planned = primary.restore("to time", check=True, target_time=moments[1].isoformat())
    assert planned.result["changed"]
    assert not (primary.folder / "to time").exists()
    restored = primary.restore("to time", target_time=moments[1].isoformat())
    assert not restored.failed, restored.result["msg"]
    assert primary.rows(restored.result["port"]) == [1, 2]
    assert datetime.fromisoformat(restored.result["recovery_point"]) <= moments[1]
    assert restored.result["backup_id"] == planned.result["backup_id"] == life.backup_id
    assert restored.result["timeline"] == 2
    there = Database("127.0.0.1", restored.result["port"], "postgres", "postgres")
    assert there.one("SHOW archive_command") == ""
    there.run("INSERT INTO note VALUES (99)")

    # Never over it; discard removes it, once.
    assert "never overwrites" in primary.restore("to time").result["msg"]
    assert primary.pitr("discard", check=True, restore_path=str(primary.folder / "to time")).result["changed"]
    assert primary.pitr("discard", restore_path=str(primary.folder / "to time")).result["changed"]
    assert not (primary.folder / "to time").exists()
    assert not primary.pitr("discard", restore_path=str(primary.folder / "to time")).result["changed"]


def test_to_a_position_where_it_waits(primary, life):
    # A name is looked for by the server alone.
    assert primary.restore("again", check=True, target_name="before four").result["changed"]
    paused = primary.restore("again", target_lsn=life.lsn, target_action="pause")
    assert not paused.failed, paused.result["msg"]
    assert "paused" in paused.result["msg"]
    assert primary.rows(paused.result["port"]) == [1, 2, 3]
    assert Database("127.0.0.1", paused.result["port"], "postgres", "postgres").one("SELECT pg_is_in_recovery()")

    # A server that archives nothing is told at once, and no segment is waited for.
    silent = primary.pitr("check", login_port=paused.result["port"], max_lag_s=86_400)
    assert "archive_command is empty" in silent.result["msg"]
    assert silent.result["archive_proof_s"] is None


@pytest.mark.long
def test_retention_keeps_what_the_window_needs_and_the_number_that_is_always_kept(primary, life):
    # It runs without the others as well.
    primary.pitr("setup", allow_restart=True)
    first = life.backup_id or primary.pitr("backup").result["backup_id"]
    second = primary.pitr("backup")
    expire_all(primary)
    planned = primary.pitr("retention", check=True, recovery_window_days=1, minimum_backups=1)
    assert planned.result["removed"] == [first]
    assert len({key.split("/")[3] for key in primary.keys("base/")}) == 2
    assert primary.pitr("retention", recovery_window_days=1, minimum_backups=2).result["removed"] == []
    refused = primary.pitr("retention", recovery_window_days=1, minimum_backups=1, max_delete=0)
    assert "max_delete: 1 base backup would be deleted" in refused.result["msg"]
    assert len({key.split("/")[3] for key in primary.keys("base/")}) == 2
    done = primary.pitr("retention", recovery_window_days=1, minimum_backups=1)
    assert (done.result["changed"], done.result["removed"]) == (True, [first])
    assert {key.split("/")[3] for key in primary.keys("base/")} == {second.result["backup_id"]}


def expire_all(primary: Primary) -> None:
    """Let all base backups look three days older: retention goes by the times in their descriptions."""
    client = primary.s3.client()
    for key in (key for key in primary.keys("base/") if key.endswith("backup.info")):
        text = client.get_object(Bucket=primary.bucket, Key=key)["Body"].read().decode()
        lines = []
        for line in text.splitlines():
            name, _, value = line.partition("=")
            if name in ("begin_time", "end_time"):
                lines.append(f"{name}={datetime.fromisoformat(value) - timedelta(days=3)}")
            else:
                lines.append(line)
        client.put_object(Bucket=primary.bucket, Key=key, Body="\n".join(lines).encode())


def test_playbook_plans_as_the_module_does(primary, tmp_path):
    """Set-up under a lease, whose server is pinned; a restore that asks no server."""
    project = Project.for_database(
        tmp_path,
        primary.database,
        db_login_password=PASSWORD,
        pitr_server="main",
        pitr_state_dir=str(primary.folder / "state"),
        pitr_bindir=str(primary.cluster.bindir),
        **{f"backup_{name}": value for name, value in primary.s3.options(primary.bucket).items()},
    )
    same = project.run("pitr.yml", pitr_action="setup", pitr_restore_path="")
    assert same.code == 0, same.output
    assert not same.last("pg_pitr_setup")["changed"]
    assert same.last("pg_lease")
    plan = project.run("pitr.yml", "--check", pitr_action="restore", pitr_restore_path=str(tmp_path / "restored"))
    assert plan.code == 0, plan.output
    assert plan.last("pg_pitr_restore")["changed"]
    assert {each["state"] for each in plan.results["pg_preflight"]} == {"skipped"}
    assert not (tmp_path / "restored").exists()
    for run in (same, plan):
        assert PASSWORD not in run.output
        assert primary.s3.secret_key not in run.output


def test_secrets_stay_secret(primary):
    """Neither the keys nor the password appear in a result, in the server's log, or in an argument of a process."""
    said = json.dumps([primary.pitr("check").result, primary.pitr("check", secret_key="canary-wrong-key-91").result])
    log = (primary.folder / "primary" / "server.log").read_text()
    for secret in (primary.s3.secret_key, PASSWORD, "canary-wrong-key-91"):
        assert secret not in said
        assert secret not in log


@pytest.mark.parametrize(
    ("act", "options", "sentence"),
    [
        ("setup", {"server": "a b"}, "server: 'a b' is no plain name"),
        ("setup", {"prefix": "x//y"}, "prefix: '' is no plain name"),
        ("setup", {"bucket": ""}, "bucket: it is empty"),
        ("setup", {"archive_timeout_s": 0}, "archive_timeout_s: 0 is out of bounds"),
        ("setup", {"engine_bindir": "/nowhere"}, "engine_bindir: /nowhere does not hold"),
        ("setup", {"state_dir": ""}, "state_dir: it is empty"),
        ("setup", {"environment": "production"}, "belongs to environment 'sandbox'"),
        ("setup", {"system_identifier": "7"}, "system_identifier: the inventory means cluster 7"),
        ("restore", {"target_time": "yesterday", "restore_path": "/tmp/x"}, "'yesterday' is no time"),
        ("restore", {"target_time": "2026-01-01", "restore_path": "/tmp/x"}, "in which time zone"),
        ("restore", {"target_lsn": "77", "restore_path": "/tmp/x"}, "'77' is no position"),
        ("restore", {"restore_path": ""}, "restore_path: it is empty"),
        ("restore", {"restore_path": "/usr"}, "which no restore of this project put there"),
        ("discard", {"restore_path": "/usr"}, "which no restore of this project put there"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_bad_input_is_refused_first(primary, act, options, sentence):
    # In this process, because starting the module takes longer than all that it does here.
    module = runpy.run_path(str(ROOT / "library" / f"pg_pitr_{act}.py"))
    defaults = {name: each.get("default") for name, each in module["argument_spec"]().items()}
    params = defaults | primary.options(act) | options
    permit(this_run(), params, take_lease=False)
    context = Context(
        params,
        check_mode=False,
        diff=False,
        run=this_run(),
        progress=Progress(f"pg_pitr_{act}", {}),
        warn=print,
        hide=print,
    )
    with pytest.raises(RunbookError) as refused:
        module["core"](context)
    assert sentence in refused.value.message


def test_an_option_of_another_act_is_refused(primary):
    """It would be given in vain: nobody looks at the target of a base backup."""
    outcome = primary.pitr("backup", check=True, target_time="2026-11-23T14:29:00+00:00")
    assert outcome.failed
    assert "Unsupported parameters" in outcome.result["msg"]


def test_keys_do_not_go_into_the_data_folder(primary):
    outcome = primary.pitr("setup", state_dir=str(primary.cluster.data / "keys"))
    assert "lies in the data folder" in outcome.result["msg"]
    assert not (primary.cluster.data / "keys").exists()
