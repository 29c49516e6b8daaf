"""dr_drill.yml as an operator runs it: a real outage under writing clients, recovery, figures, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.drivers.drill import copies
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup.mirror import name_of
from ansible.module_utils.runbook.rules.drill import documents, figures
from ansible.module_utils.runbook.rules.drill.copy_checks import files_not_asked
from conftest import Database, free_port, run_module

from playbooks import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import S3

PASSWORD = "canary-password-7f3a"
#: A drill is a dozen of modules, two servers and Barman's programs; a busy machine takes minutes.
PATIENCE_S = 500

STORAGE = "CREATE SCHEMA storage; CREATE TABLE storage.objects (bucket_id text, name text, metadata jsonb)"

pytestmark = pytest.mark.timeout(2 * PATIENCE_S + 100)


def read(path: str) -> dict[str, Any]:
    """A drill's document."""
    return documents.read(json.loads(Path(path).read_text()), source=path)


@pytest.fixture
def project(s3: S3, database: Database, tmp_path: Path) -> Project:
    options = {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
    made = Project.for_database(
        tmp_path,
        database,
        **options,
        db_login_password=PASSWORD,
        backup_prefix="logical",
        backup_proof_login_host=database.host,
        backup_proof_login_user=database.user,
        backup_proof_login_password=PASSWORD,
        backup_proof_ssl_mode="disable",
        dr_drill_state_dir=str(tmp_path / "drill"),
        dr_drill_scale=0.02,
        dr_drill_write_s=1,
        dr_drill_smoke_queries=[{"name": "messages", "query": "SELECT count(*) FROM public.messages"}],
    )
    made.patience_s = PATIENCE_S
    return made


def test_a_lost_database_is_recovered_while_clients_wait(project: Project, s3: S3):
    ended = project.run("dr_drill.yml", dr_drill_way="pitr")
    assert ended.code == 0, ended.output
    document = read(ended.last("dr_drill_judge")["document"])
    assert (document["status"], document["recovery"]["way"]) == ("ok", "pitr")

    # Figures come from what clients were told, and from what the copy holds.
    measured = document["measured"]
    assert measured["acknowledged_rows"] == measured["surviving_rows"] + measured["lost_rows"]
    assert measured["surviving_rows"] > 0
    assert measured["lost_rows"] > 0, "clients wrote after the last archived segment"
    assert measured["rpo_s"] > 0
    names = [phase["name"] for phase in document["phases"]]
    assert names == [name for name in figures.PHASES if name != "provision"]
    parts = figures.split_rto(document["phases"], *(figures.moment(document[at]) for at in ("outage_at", "service_at")))
    assert parts is not None
    assert sum(parts.values()) == pytest.approx(measured["rto_s"])
    assert {check["name"]: check["status"] for check in document["checks"]} == dict.fromkeys(
        ("clock", "schema", "ledger", "contents", "sequences", "foreign_keys", "indexes", "amcheck", "smoke",
         "tear_down"), "ok",
    )  # fmt: skip

    # What is promised counts what the archiver took.
    assert document["attainable"]["rpo_s"] > 60
    assert "unknown" not in document["attainable"]["msg"]

    # Nothing is left but the history, and no secret is in it.
    left = {path.name for path in (project.folder / "drill").iterdir()}
    assert left == {"lock", "history", "lessons"}
    assert not [each for each in s3.client().list_buckets()["Buckets"] if each["Name"].startswith("runbook-drill-")]
    text = "".join(path.read_text() for path in (project.folder / "drill").glob("*/*"))
    assert document["files"] == {"asked": False, "msg": files_not_asked("", [], None)}
    assert PASSWORD not in text + ended.output
    assert s3.secret_key not in text + ended.output


@pytest.fixture
def target() -> Iterator[Database]:
    """Another server, to which staging's backups are restored."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-drill-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made = Cluster(find_bindir(os.environ.get("PG_BINDIR")), folder / "data", free_port())
    made.init()
    made.start(fsync="off", autovacuum="off")
    yield Database("127.0.0.1", made.port, "postgres", "postgres")
    made.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


def test_stagings_backup_is_restored_elsewhere_from_the_second_region(
    s3: S3, database: Database, target: Database, tmp_path: Path
):
    database.run(
        "CREATE TABLE public.people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)",
        "INSERT INTO public.people (name) SELECT md5(n::text) FROM generate_series(1, 500) n",
        "CREATE SCHEMA runbook",
        "CREATE TABLE runbook.heartbeat (id bigint PRIMARY KEY, beat_at timestamptz NOT NULL)",
        "INSERT INTO runbook.heartbeat VALUES (1, '2026-02-01T10:00:00Z')",
        STORAGE,
        "INSERT INTO storage.objects VALUES ('uploads', 'good', '{\"size\": 4}'), ('uploads', 'jane.png', NULL)",
    )
    copies = s3.bucket(environment="staging")
    s3.client().put_object(Bucket=copies, Key="files/uploads/good", Body=b"good")
    replica = s3.options(s3.bucket(environment="staging"))
    dumped = run_module("pg_backup", database.login | replica | {"environment": "staging", "prefix": "logical"})
    assert not dumped.failed, dumped.result["msg"]
    # The live database went on for a while.
    database.run("INSERT INTO runbook.heartbeat VALUES (2, '2026-02-01T10:20:00Z')")

    identifier = "SELECT system_identifier::text FROM pg_control_system()"
    project = Project.for_database(
        tmp_path,
        database,
        **{f"backup_{name}": value for name, value in s3.options(s3.bucket(environment="staging")).items()},
        **{f"backup_replica_{name}": value for name, value in replica.items()},
        **{f"file_mirror_{name}": value for name, value in s3.options(copies).items()},
        file_mirror_source_buckets=["uploads"],
        backup_prefix="logical",
        backup_proof_login_host=target.host,
        backup_proof_login_port=target.port,
        backup_proof_login_user=target.user,
        backup_proof_ssl_mode="prefer",
        backup_proof_system_identifier=target.one(identifier),
        dr_drill_state_dir=str(tmp_path / "drill"),
        dr_drill_scenario="region_lost",
    )
    project.all_vars["runbook_environment"] = "staging"
    database.mark("staging")
    project.patience_s = PATIENCE_S
    before = set(database.run("SELECT datname FROM pg_database"))

    planned = project.run("dr_drill.yml", "--check")
    assert planned.code == 0, planned.output
    assert "Would drill" in planned.output
    assert not (tmp_path / "drill").exists()

    ended = project.run("dr_drill.yml")
    (path,) = (tmp_path / "drill" / "history").iterdir()
    document = read(str(path))
    statuses = {check["name"]: check["status"] for check in document["checks"]}
    assert statuses["contents"] == "ok", ended.output
    # Heartbeats ended long before the outage: what was written since is lost as well, as far as anybody can tell.
    outage_at = datetime.fromisoformat(document["outage_at"])
    lost_s = (outage_at - datetime(2026, 2, 1, 10, tzinfo=UTC)).total_seconds()
    assert document["measured"]["rpo_s"] == round(lost_s, 3)
    # There is no archive of WAL, so nobody promises what only one could keep.
    assert document["attainable"]["way"] == "dump"
    assert "backups" not in statuses
    (decided,) = [phase["msg"] for phase in document["phases"] if phase["name"] == "decide"]
    assert decided.startswith("dump ")
    assert "Not by pitr, because there is no archive s3://" in decided
    assert document["measured"]["rto_s"] > 0
    assert document["extrapolation"]["production_bytes"] > 0
    # A dump helps once it is complete.
    assert document["attainable"]["rpo_s"] > 86_400
    # amcheck is not installed there: unknown is not green.
    assert ended.code != 0
    assert statuses["amcheck"] == "unknown"
    # A file is gone. That is red, and no reason to pass the backup over.
    assert (statuses["files"], document["status"]) == ("breach", "breach")
    assert document["recovery"]["skipped"] == []
    assert [document["files"][name] for name in ("rows", "missing_rows", "orphan_objects")] == [2, 1, 0]
    named = f"uploads/{name_of('jane.png', show=False)}"
    assert document["files"]["named"] == [{"kind": "missing", "name": named}]
    assert f"1 of 2 rows of storage.objects has no file in the second copy ({named})" in document["msg"]
    assert "jane" not in ended.output + path.read_text()
    assert {row[0] for row in target.run("SELECT datname FROM pg_database")} == {"postgres", "template0", "template1"}
    assert set(database.run("SELECT datname FROM pg_database")) == before


def test_of_two_checks_side_by_side_a_failure_stops_the_other():
    asked = 0

    def first(check):
        nonlocal asked
        while asked < 1_000:
            asked += 1
            check()
            time.sleep(0.02)
        return asked

    def broken():
        raise RunbookError("the copy cannot be read")

    with pytest.raises(RunbookError, match="the copy cannot be read"):
        copies.side_by_side(first, broken)
    assert asked < 1_000
    with pytest.raises(RunbookError, match="the copy cannot be read"):
        copies.side_by_side(lambda _check: broken(), lambda: 1)
    assert copies.side_by_side(lambda _check: 2, lambda: 1) == (2, 1)
