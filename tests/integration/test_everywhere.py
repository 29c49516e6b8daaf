"""The same run on a bastion, from another folder, and as a job of AWX; and none where something is missing."""

from __future__ import annotations

import json
import os
import subprocess

import architecture
import places
import pytest
from conftest import ROOT

from playbooks import Project
from tools import render_record

REVISION = "0123456789abcdef0123456789abcdef01234567"
JOB = {"JOB_ID": "42", "PROJECT_REVISION": REVISION}
ADA = {"awx_user_name": "ada", "awx_job_id": 42}
#: What a playbook asks for on the command line, so that its run comes further than its first sentence.
SAID = {
    "emergency.yml": {"emergency_kind": "instability", "emergency_reason": "a test"},
    "logs_find.yml": {"logs_find_since": "2026-01-01T00:00:00Z", "logs_find_until": "2026-01-02T00:00:00Z"},
}


@pytest.fixture(scope="module")
def checked_out(tmp_path_factory):
    folder = places.copy_of_project(tmp_path_factory.mktemp("checked out"))
    yield folder
    places.let_write(folder, 0o755)


@pytest.fixture
def project(database, tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    database.run("CREATE TABLE public.audit_log (id bigint PRIMARY KEY, created_at timestamptz NOT NULL)")
    return Project.for_database(tmp_path, database, state_directory=str(state))


def test_a_job_of_awx(project, checked_out):
    ended = places.under_runner(checked_out, project, "weekly_db.yml", variables=ADA, environ=JOB)
    assert ended.code == 0, ended.output
    record = ended.record
    assert (record["status"], record["user"], record["job"], record["commit"]) == ("ok", "ada", "AWX job 42", REVISION)
    assert ended.artifacts == {
        "runbook": {"run_id": record["run_id"], "playbook": "weekly_db", "needs": []}
    }, ended.output  # fmt: skip
    # The ticket gets this file.
    assert "ada on AWX job 42" in ended.file("report.md")
    (copy,) = project.folder.glob("state/sandbox/records/*.json")
    assert f"Record: {copy}" in ended.output
    assert render_record.main([str(copy)]) == 0
    assert "ada on AWX job 42" in copy.with_suffix(".html").read_text()
    # What holds leases bears the same name.
    assert json.loads(copy.read_text())["controller"].startswith("AWX job 42 of ada/")


def test_a_job_that_fails_says_why_in_its_artifacts(project, database, checked_out):
    """Ansible drops what a failed task would add to them. A later job of a workflow gets them as extra variables."""
    database.run("DROP TABLE public.audit_log")
    before = {"runbook": {"run_id": "20260101T000000Z-backup-0123ab", "playbook": "backup", "needs": []}}
    ended = places.under_runner(checked_out, project, "weekly_db.yml", variables=ADA | before, environ=JOB)
    assert ended.code == 2, ended.output
    (why,) = ended.artifacts["runbook"]["needs"]
    assert why.startswith("db, db_maintenance : Archive old records: "), why
    assert "there is no table public.audit_log" in why
    assert "there is no table public.audit" in ended.file("report.html")


def test_from_another_folder(project, checked_out):
    ended = places.from_elsewhere(checked_out, project, "doctor.yml")
    assert ended.record["user"] == ("uid 4711" if places.can_be_stranger() else ended.record["user"])
    assert ended.steps(), ended.output
    assert "couldn't resolve" not in ended.output


def test_every_playbook_is_found_whole_from_another_folder(project, checked_out, tmp_path):
    """Roles, modules, plugins: what stands beside the playbooks is enough."""
    paths = [str(checked_out / "playbooks" / path.name) for path in architecture.playbooks(ROOT)]
    done = subprocess.run(
        ["ansible-playbook", "-i", str(project.inventory), "--syntax-check", *paths],
        cwd=tmp_path, check=False, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(path in done.stdout for path in paths)


@pytest.mark.long
@pytest.mark.parametrize("name", [path.name for path in architecture.playbooks(ROOT)])
def test_the_same_everywhere(project, checked_out, name):
    """In check mode: the same steps, with the same outcome, wherever it is run."""
    said = SAID.get(name, {})
    here = project.run(name, "--check", **said)
    assert here.record is not None, here.output
    expected = places.Ended(here.code, here.output, here.record)
    elsewhere = places.from_elsewhere(checked_out, project, name, "--check", variables=said)
    job = places.under_runner(checked_out, project, name, "--check", variables=said | ADA, environ=JOB)
    for ended in (elsewhere, job):
        assert (ended.code, ended.steps()) == (expected.code, expected.steps()), ended.output


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("import ansible.release; ansible.release.__version__ = '2.17.14'", "ansible-core 2.17.14 is not supported"),
        ("import ansible.release; ansible.release.__version__ = '2.22.0b1'", "ansible-core 2.22.0b1 is not supported"),
        (
            "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n == 'psycopg2' else f(n)",
            "lacks the package psycopg2-binary",
        ),
    ],
)
def test_one_sentence_where_it_cannot_run(tmp_path, said, why):
    (tmp_path / "sitecustomize.py").write_text(said)
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", str(ROOT / "playbooks/doctor.yml")],
        cwd=tmp_path, check=False, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert why in line
    assert "make setup" in line
