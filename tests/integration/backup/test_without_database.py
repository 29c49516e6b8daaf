"""What works on a bucket alone needs no live database, and no other bucket than the one that proved itself."""

from __future__ import annotations

import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import S3, a_run, approve, as_environ, free_port, run_module

from playbooks import Project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(s3: S3, tmp_path: Path) -> Project:
    """An inventory whose database does not answer."""
    host = {
        "db_login_host": "127.0.0.1",
        "db_login_port": free_port(),
        "db_login_user": "nobody",
        "db_login_db": "notes",
        "preflight_system_identifier": "7395012345678901234",
    }
    common: dict[str, Any] = {
        "runbook_environment": "sandbox",
        "db_ssl_mode": "prefer",
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "backup_bucket_tls_only": False,
        "backup_bucket_block_public_access": False,
        "backup_bucket_abort_multipart_days": 0,
    }
    backup = {f"backup_{name}": value for name, value in s3.options(s3.bucket(versioned=False)).items()}
    return Project(tmp_path, {"db": host}, common | backup)


def test_a_bucket_is_set_up_and_its_backups_are_looked_for(project, s3):
    bucket = project.all_vars["backup_bucket"]
    dry = project.run("backup_bucket.yml", "--check")
    assert dry.code == 0, dry.output
    assert "Status" not in s3.client().get_bucket_versioning(Bucket=bucket)
    real = project.run("backup_bucket.yml")
    assert real.code == 0, real.output
    assert s3.client().get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    named = {"kind": "bucket", "place": s3.endpoint_url, "name": bucket, "environment": "sandbox"}
    assert real.last("s3_preflight")["target"] == named
    assert "pg_preflight" not in real.results
    undeleted = project.run("backup_undelete.yml")
    assert undeleted.code == 0, undeleted.output
    assert "0 brought back" in undeleted.last("pg_backup_undelete")["msg"]


@pytest.fixture
def mirror(project: Project, s3: S3) -> tuple[Project, str]:
    """One file to copy, and a state store; with the bucket of the copies."""
    source, target, state = s3.bucket(), s3.bucket(), project.folder / "state"
    s3.client().put_object(Bucket=source, Key="a.txt", Body=b"a")
    state.mkdir(mode=0o700)
    project.all_vars |= {
        "file_mirror_source_buckets": [source], "file_mirror_bucket": target, "state_directory": str(state),
    }  # fmt: skip
    for name in ("endpoint_url", "access_key", "secret_key"):
        value = getattr(s3, name)
        project.all_vars |= {f"file_mirror_{name}": value, f"file_mirror_source_{name}": value}
    return project, target


def test_files_are_copied_and_what_could_not_be_compared_is_unknown(mirror):
    project, target = mirror
    ended = project.run("files_mirror.yml")
    assert ended.code != 0
    lease = ended.last("s3_preflight")["lease"]
    assert (lease["name"], lease["decision"]) == (f"leases/bucket-{target}", "acquire")
    # Given back; the copy of the record is there, and what the board knows.
    left = sorted(path.parent.name for path in project.folder.glob("state/sandbox/*/*.json"))
    assert left == ["boards", "records"]
    said = ended.last("s3_mirror")
    assert (said["status"], said["copied_objects"]) == ("unknown", 1)
    assert "Nothing was compared with the rows of storage.objects." in said["msg"]
    assert "no server answers there" in said["msg"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_lease_of_a_run_that_was_stopped_is_in_nobodys_way(mirror, number):
    project, target = mirror
    lease = project.folder / f"state/sandbox/leases/bucket-{target}.json"
    with socket.socket() as silent:
        # A database that never answers keeps the mirror waiting.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        # As text, so that nobody looks there for a lease before the run.
        project.hosts["db"]["db_login_port"] = str(silent.getsockname()[1])
        running = project.start("files_mirror.yml")
        while not any('"s3_mirror"' in path.read_text() for path in project.folder.glob("runs/*/journal.jsonl")):
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.05)
        assert lease.exists()
        running.send_signal(number)
        output, _ = running.communicate(timeout=120)
    if number == signal.SIGTERM:
        assert "Report:" in output
        assert not lease.exists()
    project.hosts["db"]["db_login_port"] = free_port()
    next_one = project.run("files_mirror.yml", "--check").last("s3_preflight")["lease"]
    # After a kill the process that outlives the run gives it back, now or a moment later.
    assert next_one["decision"] in ({"acquire"} if number == signal.SIGTERM else {"acquire", "take_over"})


@pytest.mark.parametrize("task", ["Set versions, encryption, public access, Object Lock and policy", "Bring back"])
def test_a_task_to_start_at_leads_to_no_bucket(project, s3, task):
    playbook = "backup_bucket.yml" if task.startswith("Set") else "backup_undelete.yml"
    started = project.run(playbook, "--start-at-task", f"*{task}*" if task == "Bring back" else task)
    assert started.code != 0
    assert "Status" not in s3.client().get_bucket_versioning(Bucket=project.all_vars["backup_bucket"])
    if playbook == "backup_undelete.yml":
        assert "has not passed preflight" in started.last("pg_backup_undelete")["msg"]


def test_another_bucket_than_the_proven_one_is_refused(s3, tmp_path):
    run = a_run(directory=tmp_path)
    proven, other, foreign = (s3.bucket(environment=name) for name in ("sandbox", "sandbox", "production"))

    def prove(bucket: str) -> str:
        return str(run_module("s3_preflight", s3.options(bucket), **as_environ(run)).result["msg"])

    def undelete(bucket: str) -> str:
        options = s3.options(bucket) | {"environment": "sandbox", "database": "notes"}
        return str(run_module("pg_backup_undelete", options, permitted=False, **as_environ(run)).result["msg"])

    assert "This run has not passed preflight" in prove(proven)
    approve(run, "sandbox")
    assert "belongs to sandbox by its tag" in prove(proven)
    assert "belongs to environment 'production'" in prove(foreign)
    assert "carries no tag runbook-environment" in prove(s3.bucket(environment=""))
    assert "0 brought back" in undelete(proven)
    for bucket in (other, foreign):
        assert f"has not passed preflight for bucket {bucket} of {s3.endpoint_url}" in undelete(bucket)
    # Proven, and then given away.
    tag = {"TagSet": [{"Key": "runbook-environment", "Value": "production"}]}
    s3.client().put_bucket_tagging(Bucket=proven, Tagging=tag)
    assert "belongs to environment 'production'" in undelete(proven)
