"""sandbox_postgres, sandbox_s3 and playbooks/sandbox.yml with real servers, and with what can go wrong around them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.sandbox import is_free
from conftest import ROOT, free_port, run_module

UNSHARE = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


class Postgres:
    """sandbox_postgres on one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, state: str = "started", *, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        return run_module("sandbox_postgres", self.options | {"state": state} | options, check=check, diff=diff).result

    @property
    def options(self) -> dict[str, Any]:
        bindir = os.environ.get("PG_BINDIR")
        return {"path": str(self.path)} | ({"bindir": bindir} if bindir else {})

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "state.json").read_text()))

    @property
    def pid(self) -> int:
        return int((self.path / "data" / "postmaster.pid").read_text().split()[0])

    def query(self, statement: str, **login: Any) -> Any:
        known = {key: self.state[key] for key in ("host", "port", "user", "password")}
        connection = psycopg2.connect(**(known | {"dbname": "postgres"} | login))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone()[0] if cursor.description else None
        finally:
            connection.close()


@pytest.fixture
def postgres(tmp_path):
    made = Postgres(tmp_path / "with space" / "postgres")
    yield made
    made.run("absent")


def test_started_stopped_started_absent(postgres):
    plan = postgres.run(check=True, diff=True)
    assert plan["changed"]
    assert "Would make and start" in plan["diff"]["prepared"]
    assert not postgres.path.exists()

    first = postgres.run()
    assert first["changed"], first
    assert first["system_identifier"] == postgres.state["system_identifier"]
    postgres.query("CREATE TABLE kept AS SELECT 42 AS answer")
    for check in (True, False):
        again = postgres.run(check=check)
        assert not again["changed"]
        assert again["port"] == first["port"]
        assert again["server_version"] == first["server_version"]

    assert postgres.run("stopped", check=True)["changed"]
    assert postgres.query("SELECT answer FROM kept") == 42
    assert postgres.run("stopped")["changed"]
    assert not postgres.run("stopped")["changed"]

    back = postgres.run()
    assert back["changed"]
    assert (back["port"], back["system_identifier"]) == (first["port"], first["system_identifier"])
    assert postgres.query("SELECT answer FROM kept") == 42

    assert postgres.run("absent", check=True)["changed"]
    assert postgres.query("SELECT answer FROM kept") == 42
    assert postgres.run("absent")["changed"]
    assert not postgres.path.exists()
    assert not postgres.run("absent")["changed"]


def test_password_is_asked_for_and_never_shown(postgres):
    result = postgres.run(diff=True)
    password = postgres.state["password"]
    assert len(password) > 20
    assert password not in json.dumps(result)
    assert password not in (postgres.path / "server.log").read_text() + (postgres.path / "commands.log").read_text()
    assert stat.S_IMODE((postgres.path / "state.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(postgres.path.stat().st_mode) == 0o700
    assert not (postgres.path / "password.tmp").exists()
    assert postgres.query("SELECT 1") == 1
    with pytest.raises(psycopg2.OperationalError, match="password"):
        postgres.query("SELECT 1", password="wrong")
    assert postgres.query("SELECT 1", host=result["socket"]) == 1


def test_server_outlives_whoever_started_it(postgres):
    postgres.run()
    assert os.getsid(postgres.pid) != os.getsid(0)
    listeners = postgres.query("SHOW listen_addresses")
    assert listeners == "127.0.0.1"


def test_power_cut_leaves_a_number_of_another_process(postgres):
    first = postgres.run()
    pid_file = postgres.path / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(postgres.pid, signal.SIGQUIT)
    while postgres.run("stopped")["changed"]:
        pass
    # This very process has the number now.
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    shutil.chown(pid_file, (postgres.path / "data").stat().st_uid)
    back = postgres.run()
    assert back["changed"], back
    assert back["system_identifier"] == first["system_identifier"]


def test_port_that_was_asked_for_and_is_taken(postgres):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = postgres.run(port=port)
        assert refused["failed"]
        assert refused["msg"] == f"port: {port} is taken on 127.0.0.1; free it, or leave port out to have one chosen."
        assert not (postgres.path / "data").exists()
    assert postgres.run(port=80)["msg"].startswith("port: 80 is out of range")


def test_port_of_last_time_was_taken_meanwhile(postgres):
    first = postgres.run()
    postgres.run("stopped")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first["port"]))
        other.listen()
        moved = postgres.run()
    assert moved["port"] != first["port"]
    assert postgres.query("SELECT 1") == 1
    wanted = free_port()
    assert postgres.run(port=wanted)["changed"]
    assert postgres.state["port"] == wanted
    assert not postgres.run(port=wanted)["changed"]


def test_broken_data_folder(postgres):
    postgres.run()
    postgres.run("stopped")
    shutil.rmtree(postgres.path / "data" / "global")
    refused = postgres.run()
    assert refused["failed"]
    assert refused["msg"].endswith("make it anew with playbooks/sandbox.yml -e sandbox_state=reset.")
    postgres.run("absent")
    assert postgres.run()["changed"]
    (postgres.path / "state.json").write_text("{")
    refused = postgres.run()
    assert refused["msg"] == (
        f"path: {postgres.path}/state.json is damaged; make it anew with playbooks/sandbox.yml -e sandbox_state=reset."
    )
    assert postgres.run("absent")["changed"]


def test_making_that_was_cut_short_is_done_again(postgres):
    postgres.run()
    postgres.run("stopped")
    (postgres.path / "state.json").write_text(json.dumps(postgres.state | {"ready": False}))
    shutil.rmtree(postgres.path / "data" / "base")
    made = postgres.run()
    assert made["msg"].startswith("Made and started")
    assert postgres.query("SELECT 1") == 1


def test_somebody_elses_folder_is_left_alone(tmp_path):
    theirs = tmp_path / "data"
    theirs.mkdir()
    (theirs / "PG_VERSION").write_text("15\n")
    for state in ("started", "absent"):
        refused = Postgres(tmp_path).run(state)
        assert refused["failed"]
        assert "may be somebody else's" in refused["msg"]
    assert (theirs / "PG_VERSION").exists()


@pytest.mark.parametrize(("path", "said"), [("", "path: is empty"), ("{tmp}/file", "is not a folder")])
def test_path_that_cannot_be(tmp_path, path, said):
    (tmp_path / "file").touch()
    refused = run_module("sandbox_postgres", {"path": path.format(tmp=tmp_path)})
    assert refused.failed
    assert said in refused.result["msg"]


def test_two_at_once(postgres):
    postgres.path.mkdir(parents=True)
    with (postgres.path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = postgres.run()
    assert refused["failed"]
    assert "another run is at work" in refused["msg"]


def test_socket_of_a_deep_folder_goes_elsewhere(tmp_path):
    deep = Postgres(tmp_path / ("d" * 60) / ("e" * 60))
    try:
        result = deep.run()
        assert len(result["socket"]) < 90
        assert deep.query("SELECT 1", host=result["socket"]) == 1
    finally:
        deep.run("absent")
    assert not Path(result["socket"]).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_where_unshare_is_refused(tmp_path, postgres):
    """As in a container: the server belongs to another account, below a folder that is closed to it."""
    refusing = tmp_path / "bin"
    refusing.mkdir()
    (refusing / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (refusing / "unshare").chmod(0o755)
    tmp_path.chmod(0o700)
    first = run_module("sandbox_postgres", postgres.options, PATH=f"{refusing}{os.pathsep}{os.environ['PATH']}").result
    assert first["changed"], first
    assert (postgres.path / "data").stat().st_uid != 0
    postgres.run("stopped")
    # Unshare works again: the folder's owner is taken for what he is.
    assert postgres.run()["changed"]
    assert postgres.query("SELECT 1") == 1


def test_as_ordinary_user(tmp_path):
    if os.geteuid() == 0 and subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("root cannot become an ordinary user here, because unshare is refused")
    prefix = UNSHARE if os.geteuid() == 0 else []
    ansible = [
        *prefix,
        str(Path(sys.executable).parent / "ansible"),
        "localhost",
        "-c",
        "local",
        "-m",
        "sandbox_postgres",
    ]
    python = ["-e", f"ansible_python_interpreter={sys.executable}"]
    for state in ("started", "absent"):
        words = [*ansible, *python, "-a", f"path={tmp_path}/pg state={state}"]
        environ = os.environ | {"ANSIBLE_REMOTE_TMP": str(tmp_path / "ansible")}
        done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "CHANGED" in done.stdout


@pytest.fixture
def s3(tmp_path):
    def run(state: str = "started", *, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"path": str(tmp_path / "s3"), "state": state, "bucket": "backups"} | options
        return run_module("sandbox_s3", given, check=check).result

    yield run
    run("absent")


def test_s3_started_stopped_absent(s3, tmp_path):
    assert s3(check=True)["changed"]
    assert not (tmp_path / "s3").exists()
    first = s3()
    assert first["changed"], first
    assert not s3()["changed"]
    client = boto3.client(
        "s3",
        endpoint_url=first["endpoint_url"],
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    assert client.get_bucket_versioning(Bucket="backups")["Status"] == "Enabled"
    assert s3(bucket="second", check=True)["msg"].startswith("Would make bucket second")
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["backups"]
    pid = json.loads((tmp_path / "s3" / "state.json").read_text())["pid"]
    assert os.getsid(pid) == pid
    assert s3("stopped")["changed"]
    assert not s3("stopped")["changed"]
    assert s3()["port"] == first["port"]
    assert s3("absent")["changed"]
    assert not (tmp_path / "s3").exists()


def test_s3_that_was_killed_and_whose_number_and_port_others_have(s3, tmp_path):
    first = s3()
    state_file = tmp_path / "s3" / "state.json"
    state = json.loads(state_file.read_text())
    os.kill(state["pid"], signal.SIGKILL)
    while not is_free(first["port"]):
        time.sleep(0.05)
    state_file.write_text(json.dumps(state | {"pid": os.getpid()}))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first["port"]))
        other.listen()
        again = s3()
    assert again["changed"], again
    assert again["port"] != first["port"]


def playbook(sandbox: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"RUNBOOK_RUNS_DIR": str(sandbox / "runs")}
    command = [
        "ansible-playbook",
        "-i",
        "inventories/sandbox",
        f"playbooks/{name}",
        "-e",
        f"sandbox_directory={sandbox}",
    ]
    return subprocess.run([*command, *words], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def test_playbook_from_nothing_to_reset_and_back(tmp_path):
    """The database as the inventory names it is the one that the sandbox made; reset brings the old rows back."""
    sandbox = tmp_path / "sandbox"
    small = ["-e", "sandbox_scale=0.02"]
    try:
        done = playbook(sandbox, "sandbox.yml", *small)
        assert done.returncode == 0, done.stdout + done.stderr
        again = playbook(sandbox, "sandbox.yml", *small)
        assert "changed=0" in again.stdout
        demo = Postgres(sandbox / "postgres")
        assert demo.query("SELECT count(*) FROM public.audit_log", dbname="mental_scribe") == 1200
        shown = subprocess.run(
            ["ansible-inventory", "-i", "inventories/sandbox", "--host", "sandbox"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert demo.state["password"] not in shown.stdout
        demo.query("DELETE FROM public.audit_log", dbname="mental_scribe")
        reset = playbook(sandbox, "sandbox.yml", *small, "-e", "sandbox_state=reset", "-vvv")
        assert reset.returncode == 0, reset.stdout + reset.stderr
        assert demo.query("SELECT count(*) FROM public.audit_log", dbname="mental_scribe") == 1200
        assert demo.state["password"] not in reset.stdout + reset.stderr
        assert playbook(sandbox, "sandbox.yml", "-e", "sandbox_state=stopped").returncode == 0
        assert not demo.run("stopped")["changed"]
    finally:
        Postgres(sandbox / "postgres").run("absent")
        run_module("sandbox_s3", {"path": str(sandbox / "s3"), "state": "absent"})


def test_playbook_refuses_another_environment(tmp_path):
    refused = playbook(tmp_path / "sandbox", "sandbox.yml", "-e", "runbook_environment=production")
    assert refused.returncode != 0
    assert "runbook_environment must be one of: sandbox" in refused.stdout + refused.stderr
    assert not (tmp_path / "sandbox" / "postgres").exists()


def test_a_playbook_before_the_sandbox_was_started(tmp_path):
    refused = playbook(tmp_path / "sandbox", "weekly_db.yml")
    assert refused.returncode != 0
    assert "The sandbox was not started yet; run make sandbox." in refused.stdout + refused.stderr
