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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
from ansible.module_utils.runbook.drivers.sandbox import s3_server
from ansible.module_utils.runbook.drivers.sandbox.s3_server import S3Server
from ansible.module_utils.runbook.drivers.sandbox.sandbox import is_free
from ansible.module_utils.runbook.errors import RunbookError
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import ROOT, free_port, run_module

PARTS = ("master", "volume", "filer", "s3")
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
    assert refused["msg"].endswith("recreate it with playbooks/sandbox.yml -e sandbox_state=reset.")
    postgres.run("absent")
    assert postgres.run()["changed"]
    (postgres.path / "state.json").write_text("{")
    refused = postgres.run()
    assert refused["msg"] == (
        f"path: {postgres.path}/state.json is damaged; recreate it with playbooks/sandbox.yml -e sandbox_state=reset."
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


class Storage:
    """sandbox_s3 on one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, state: str = "started", *, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        given = {"path": str(self.path), "state": state, "buckets": ["backups"]} | options
        return run_module("sandbox_s3", given, check=check, diff=diff).result

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "state.json").read_text()))

    def client(self, **login: Any) -> Any:
        known = {"aws_access_key_id": self.state["access_key"], "aws_secret_access_key": self.state["secret_key"]}
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        return boto3.client(
            "s3", endpoint_url=self.state["endpoint_url"], region_name="us-east-1", config=config, **(known | login)
        )


def keeps_to_itself(storage: Storage, result: dict[str, Any]) -> None:
    """The keys are drawn, asked for, and never shown; the process outlives whoever started it."""
    for secret in (storage.state["secret_key"], storage.state["sse_kek"]):
        assert len(secret) >= 40
        assert secret not in json.dumps(result)
        assert secret not in (storage.path / "server.log").read_text()
        assert secret not in Path(f"/proc/{storage.state['pid']}/cmdline").read_text()
    for name in ("state.json", "identities.json"):
        assert stat.S_IMODE((storage.path / name).stat().st_mode) == 0o600
    assert os.getsid(storage.state["pid"]) == storage.state["pid"]
    for wrong in ({"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "wrong"}):
        with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId"):
            storage.client(**wrong).list_buckets()
    # An upload does not make a bucket by the way.
    with pytest.raises(ClientError, match="NoSuchBucket"):
        storage.client().put_object(Bucket="misspelt", Key="x", Body=b"x")


@pytest.fixture
def storage(tmp_path):
    made = Storage(tmp_path / "with space" / "s3")
    yield made
    made.run("absent")


def test_s3_started_stopped_started_absent(storage):
    """What was stored is there after a stop and a start, what the server encrypted included."""
    plan = storage.run(check=True, diff=True)
    assert plan["changed"]
    assert plan["msg"] in plan["diff"]["prepared"]
    assert not storage.path.exists()

    first = storage.run(diff=True)
    assert first["msg"] == f"Started an S3 API on {first['endpoint_url']}, made bucket backups."
    for check in (True, False):
        again = storage.run(check=check)
        assert not again["changed"]
        assert (again["port"], again["buckets"]) == (first["port"], [])
    assert storage.run(buckets=["backups", "second"], check=True)["msg"].startswith("Would make bucket second")
    client = storage.client()
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["backups"]
    assert client.get_bucket_versioning(Bucket="backups")["Status"] == "Enabled"
    assert client.get_object_lock_configuration(Bucket="backups")["ObjectLockConfiguration"] == {
        "ObjectLockEnabled": "Enabled"
    }
    assert client.get_bucket_tagging(Bucket="backups")["TagSet"] == [{"Key": "runbook-environment", "Value": "sandbox"}]
    assert client.get_bucket_lifecycle_configuration(Bucket="backups")["Rules"][0]["AbortIncompleteMultipartUpload"]
    body = os.urandom(3_000_000)
    for _ in range(2):
        client.put_object(Bucket="backups", Key="kept", Body=body)
    keys = {key: storage.state[key] for key in ("access_key", "secret_key", "sse_kek")}
    keeps_to_itself(storage, first)

    assert storage.run("stopped", check=True)["changed"]
    assert client.head_object(Bucket="backups", Key="kept")["ContentLength"] == len(body)
    stopped = storage.run("stopped")
    assert stopped["msg"].endswith("its objects are kept.")
    assert not storage.run("stopped")["changed"]
    more = {"buckets": ["backups", "second"], "files_bucket": "second"}
    back = storage.run(**more)
    assert (back["port"], back["buckets"]) == (first["port"], ["second"])
    assert client.list_objects_v2(Bucket="second")["KeyCount"] == 60
    assert not storage.run(**more)["changed"]
    assert {key: storage.state[key] for key in keys} == keys
    kept = client.get_object(Bucket="backups", Key="kept")
    assert kept["ServerSideEncryption"] == "AES256"
    assert kept["Body"].read() == body
    assert len(client.list_object_versions(Bucket="backups")["Versions"]) == 2

    assert storage.run("absent", check=True)["changed"]
    assert client.head_bucket(Bucket="backups")
    sockets = [Path(f"/tmp/seaweedfs-{part}-grpc-{storage.state['ports'][f'{part}.grpc']}.sock") for part in PARTS]
    assert all(path.exists() for path in sockets)
    assert storage.run("absent")["changed"]
    assert not storage.path.exists()
    assert not any(path.exists() for path in sockets)
    assert not storage.run("absent")["changed"]


@pytest.mark.long
def test_s3_that_was_killed_and_whose_number_and_ports_others_have(storage):
    """It starts on other ports, and what was stored is there."""
    first = storage.run()
    storage.client().put_object(Bucket="backups", Key="kept", Body=b"x" * 100_000)
    state = storage.state
    os.kill(state["pid"], signal.SIGKILL)
    taken = [first["port"], state["ports"]["master"], state["ports"]["volume.grpc"]]
    while not all(is_free(port) for port in taken):
        time.sleep(0.05)
    (storage.path / "state.json").write_text(json.dumps(state | {"pid": os.getpid()}))
    with ExitStack() as held:
        for port in taken:
            other = held.enter_context(socket.socket())
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
        again = storage.run()
    assert again["changed"], again
    assert again["port"] != first["port"]
    assert storage.client().get_object(Bucket="backups", Key="kept")["Body"].read() == b"x" * 100_000
    storage.client().put_object(Bucket="backups", Key="new", Body=b"x" * 100_000)


def test_s3_port_that_is_lost_between_choice_and_start(storage, monkeypatch):
    """Somebody is faster: the server ends, and is started again elsewhere."""
    storage.path.mkdir(parents=True)
    server = S3Server.new(storage.path)
    noted: list[S3Server] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.ports["master"]))
        other.listen()
        monkeypatch.setattr(s3_server, "START_ATTEMPTS", 1)
        with pytest.raises(RunbookError, match="address already in use"):
            server.start(None, noted.append)
        monkeypatch.setattr(s3_server, "START_ATTEMPTS", 2)
        started = server.start(None, noted.append)
    try:
        assert started.answers()
        assert [bool(each.pid) for each in noted] == [False, True] * 3
        assert started.ports["master"] != server.ports["master"]
    finally:
        started.kill()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": 80}, "port: 80 is out of range"),
        ({"path": ""}, "path: is empty"),
        ({"buckets": ["No_Bucket"]}, "buckets: No_Bucket cannot be made"),
        ({"files_bucket": "files"}, "files_bucket: files is not among buckets (backups)"),
    ],
)
def test_s3_options_that_cannot_be(storage, options, said):
    refused = storage.run(**options)
    assert refused["failed"]
    assert said in refused["msg"]


def test_s3_folder_that_was_damaged_or_is_of_another_kind(storage):
    storage.path.mkdir(parents=True)
    for content in ("{", '{"port": 5000, "pid": 0}'):
        (storage.path / "state.json").write_text(content)
        refused = storage.run()
        assert refused["failed"]
        assert refused["msg"].endswith("recreate it with playbooks/sandbox.yml -e sandbox_state=reset.")
        assert storage.run("absent")["changed"]
        storage.path.mkdir(parents=True)
    (storage.path / "data").mkdir()
    (storage.path / "data" / "thesis.txt").touch()
    for state in ("started", "absent"):
        assert "may be somebody else's" in storage.run(state)["msg"]
        assert (storage.path / "data" / "thesis.txt").exists()
    shutil.rmtree(storage.path / "data")


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
