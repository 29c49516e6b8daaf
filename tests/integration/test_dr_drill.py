"""dr_drill.yml as an operator runs it: a real outage under writing clients, recovery, figures, and nothing left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils.runbook.rules import drill as rules

from playbooks import Project

if TYPE_CHECKING:
    from conftest import S3, Database

PASSWORD = "canary-password-7f3a"


def read(path: str) -> dict[str, Any]:
    """A drill's document."""
    return rules.read(json.loads(Path(path).read_text()), source=path)


@pytest.fixture
def project(s3: S3, database: Database, tmp_path: Path) -> Project:
    options = {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
    return Project.for_database(
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


@pytest.mark.parametrize("way", ["dump", "pitr"])
def test_a_lost_database_is_recovered_while_clients_wait(project: Project, s3: S3, way: str):
    ended = project.run("dr_drill.yml", dr_drill_way=way)
    assert ended.code == 0, ended.output
    document = read(ended.last("dr_drill")["document"])
    assert (document["status"], document["recovery"]["way"]) == ("ok", way)

    # Figures come from what clients were told, and from what the copy holds.
    measured = document["measured"]
    assert measured["acknowledged_rows"] == measured["surviving_rows"] + measured["lost_rows"]
    assert measured["surviving_rows"] > 0
    assert measured["lost_rows"] > 0, "clients wrote after the last archived segment"
    assert measured["rpo_s"] > 0
    names = [phase["name"] for phase in document["phases"]]
    assert names == [name for name in rules.PHASES if way == "dump" or name != "provision"]
    parts = rules.split_rto(document["phases"], *(rules.moment(document[at]) for at in ("outage_at", "service_at")))
    assert parts is not None
    assert sum(parts.values()) == pytest.approx(measured["rto_s"])
    assert {check["name"]: check["status"] for check in document["checks"]} == dict.fromkeys(
        ("clock", "schema", "ledger", "contents", "sequences", "foreign_keys", "indexes", "amcheck", "smoke",
         "tear_down"), "ok",
    )  # fmt: skip

    # Nothing is left but the history, and no secret is in it.
    left = {path.name for path in (project.folder / "drill").iterdir()}
    assert left == {"lock", "history", "lessons"}
    assert not [each for each in s3.client().list_buckets()["Buckets"] if each["Name"].startswith("runbook-drill-")]
    text = "".join(path.read_text() for path in (project.folder / "drill").glob("*/*"))
    assert PASSWORD not in text + ended.output
    assert s3.secret_key not in text + ended.output
