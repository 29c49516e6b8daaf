"""SeaweedFS as a process of its own: an S3 API on loopback that keeps its objects in a folder."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import boto3
from ansible.module_utils.runbook.drivers.postgres.pgtools import command_line
from ansible.module_utils.runbook.drivers.sandbox.sandbox import (
    STATE_FILE,
    choose_port,
    end_process,
    is_free,
    wants_reset,
)
from ansible.module_utils.runbook.errors import RunbookError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

#: It is there within three seconds on an idle machine.
START_TIMEOUT_S = 60
#: A port can be taken between the moment it was found free and the moment the server asks for it.
START_ATTEMPTS = 3
#: Code of the error that this came to pass.
PORT_TAKEN = "port_taken"
#: Go's runtime collects harder as its heap comes near to this.
MEMORY_TARGET = "512MiB"
DATA, IDENTITIES, LOG = "data", "identities.json", "server.log"
#: All that the server has in its folder.
FILES = (DATA, IDENTITIES, LOG, "s3.sock", "filer.sock")
ENVIRONMENT_TAG = "runbook-environment"
_ENCRYPTED = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
_UNFINISHED = {
    "ID": "unfinished-uploads", "Status": "Enabled", "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}  # fmt: skip
_PARTS = ("master", "volume", "filer")


@dataclass(frozen=True)
class S3Server:
    """A server of one folder; ``pid`` is the process that was noted down, 0 for none."""

    folder: Path
    #: Port of the S3 API, and the eight that its parts talk to each other on.
    ports: dict[str, int]
    access_key: str
    secret_key: str
    #: Key of the keys for server-side encryption, 64 hexadecimal digits: without it, encrypted objects are lost.
    sse_kek: str
    pid: int = 0

    @classmethod
    def new(cls, folder: Path, port: int | None = None) -> S3Server:
        """A server that was never started, with keys of its own.

        :param port: port of the API; None to have one chosen
        :raises RunbookError: ``port`` is out of range or taken
        """
        access_key = f"SANDBOX{secrets.token_hex(6).upper()}"
        return cls(folder, {}, access_key, secrets.token_urlsafe(30), secrets.token_hex(32)).on_free_ports(port)

    @classmethod
    def from_state(cls, folder: Path, state: dict[str, Any]) -> S3Server:
        """The server that :meth:`state` described.

        :raises RunbookError: a part of the description is missing
        """
        try:
            ports = {"s3": int(state["port"])} | {name: int(port) for name, port in state["ports"].items()}
            access_key, secret_key, sse_kek = (str(state[key]) for key in ("access_key", "secret_key", "sse_kek"))
            return cls(folder, ports, access_key, secret_key, sse_kek, int(state["pid"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise wants_reset(RunbookError(f"path: {folder / STATE_FILE} does not describe this server")) from None

    def state(self) -> dict[str, Any]:
        """All that the next run and the inventory need to know, secrets too."""
        inner = {name: port for name, port in self.ports.items() if name != "s3"}
        return {
            "port": self.port,
            "pid": self.pid,
            "endpoint_url": self.endpoint_url,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "sse_kek": self.sse_kek,
            "ports": inner,
        }

    @property
    def port(self) -> int:
        """Port of the S3 API."""
        return self.ports["s3"]

    @property
    def endpoint_url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}"

    def on_free_ports(self, wanted: int | None = None) -> S3Server:
        """The same server on ports that are free now: those of the last time where they still are.

        :param wanted: port of the API; None for the one of the last time, or any
        :raises RunbookError: ``wanted`` is out of range or taken
        """
        ports = {"s3": choose_port(wanted, self.ports.get("s3"))}
        names = [*_PARTS, *(f"{name}.grpc" for name in (*_PARTS, "s3"))]
        with ExitStack() as held:
            for name in names:
                kept = self.ports.get(name)
                if kept is not None and kept not in ports.values() and is_free(kept):
                    ports[name] = kept
                    continue
                # Held until all are chosen, so that no two are the same.
                probe = held.enter_context(socket.socket())
                probe.bind(("127.0.0.1", 0))
                ports[name] = int(probe.getsockname()[1])
        return replace(self, ports=ports)

    @property
    def _words(self) -> list[str]:
        return [
            "-logtostderr",
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={DATA}",
            # Every bucket has volumes of its own; they are files that grow, so a high number costs nothing.
            "-volume.max=10000",
            "-volume.preStopSeconds=0",
            "-master.volumeSizeLimitMB=1024",
            "-master.telemetry=false",
            # The part that stores objects tells the master what there is. A master that remembers waits a quarter of a
            # minute for other masters before it leads.
            "-master.resumeState=false",
            "-filer",
            "-filer.localSocket=filer.sock",
            "-s3",
            "-s3.localSocket=s3.sock",
            f"-s3.config={IDENTITIES}",
            "-s3.iam=false",
            # A bucket that is missing is an error, as at AWS.
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *(
                f"-{part}.port{kind}={self.ports[f'{part}{kind}']}"
                for part in (*_PARTS, "s3")
                for kind in ("", ".grpc")
            ),
        ]

    def is_running(self) -> bool:
        """Whether the process is there and is this server, not another one that inherited its number."""
        return self.pid > 0 and command_line(self.pid).endswith(" ".join(self._words))

    def answers(self) -> bool:
        """Whether the API lists its buckets for our keys, and there is room for an object."""
        try:
            self.client().list_buckets()
            # Signed answers come before the part that stores objects has reported for work.
            opener = build_opener(ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{self.ports['master']}/dir/assign", timeout=5) as answer:
                return "fid" in json.load(answer)
        except (BotoCoreError, ClientError, URLError, OSError, ValueError):
            return False

    def client(self) -> Any:
        """A client for the question whether the server is there: one attempt, short waits."""
        config = Config(
            connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}, proxies={},
            s3={"addressing_style": "path"},
        )  # fmt: skip
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )

    def missing_buckets(self, names: list[str], environment: str) -> list[str]:
        """Those of ``names`` that are not there, or do not say that they belong to ``environment``."""
        client = self.client()
        there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        return [name for name in names if name not in there or _environment_of(client, name) != environment]

    def make_buckets(self, names: list[str], environment: str) -> None:
        """Make each bucket that is missing, protected as that of the backups must be; then tag it.

        :raises RunbookError: the server refuses
        """
        client = self.client()
        for name in names:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
                client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [_ENCRYPTED]})
                client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [_UNFINISHED]})
                tags = [{"Key": ENVIRONMENT_TAG, "Value": environment}]
                client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags})
            except (BotoCoreError, ClientError) as error:
                raise RunbookError(f"buckets: {name} cannot be made: {error}") from None

    def lacks_files(self, bucket: str) -> bool:
        """Whether nothing is in ``bucket``."""
        return bool(self.client().list_objects_v2(Bucket=bucket, MaxKeys=1)["KeyCount"] == 0)

    def make_files(self, bucket: str) -> None:
        """Put files there as users upload them, the same ones each time: 60, together 2 MB.

        :raises RunbookError: the server refuses
        """
        client, draw = self.client(), random.Random(1)  # noqa: S311 - nobody's secret depends on it
        kinds = [
            ("avatars", "png", "image/png"),
            ("voice-notes", "ogg", "audio/ogg"),
            ("exports", "pdf", "application/pdf"),
        ]
        try:
            for number in range(60):
                folder, ending, kind = kinds[number % 3]
                name = f"{folder}/{uuid.UUID(int=draw.getrandbits(128), version=4)}.{ending}"
                client.put_object(
                    Bucket=bucket, Key=name, Body=draw.randbytes(draw.randrange(70_000)), ContentType=kind
                )
        except (BotoCoreError, ClientError) as error:
            raise RunbookError(f"files_bucket: {bucket} cannot be filled: {error}") from None

    def start(self, wanted: int | None = None, note: Callable[[S3Server], None] = lambda _: None) -> S3Server:
        """Start a server that does not run, and wait until it answers.

        :param wanted: port of the API that must not change; None where any will do
        :param note: writes down the server that is about to be started, and the one that was, before it answers
        :raises RunbookError: SeaweedFS is not installed, or the server ended, or gave no answer in time
        """
        server = replace(self, pid=0)
        for attempt in range(1, START_ATTEMPTS + 1):
            note(server)
            server = server.launch()
            note(server)
            try:
                server.wait()
            except RunbookError as error:
                if attempt == START_ATTEMPTS or error.code != PORT_TAKEN:
                    raise
                server = replace(server, pid=0).on_free_ports(wanted)
            else:
                break
        return server

    def launch(self) -> S3Server:
        """Start the process in a session of its own, so that it outlives Ansible; it does not answer yet.

        :raises RunbookError: SeaweedFS is not installed
        """
        weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if weed is None:
            raise RunbookError(
                f"SeaweedFS (the program weed) is neither in {sys.prefix} nor on the PATH; run make setup, "
                "or on a Mac with an Intel processor install seaweedfs with Homebrew."
            )
        (self.folder / DATA).mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "sandbox",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        identities = self.folder / IDENTITIES
        identities.unlink(missing_ok=True)
        identities.touch(mode=0o600)
        identities.write_text(json.dumps({"identities": [identity]}))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "WEED_"))}
        ours = {
            "WEED_S3_SSE_KEK": self.sse_kek,
            # Volumes are made one by one as objects need them, not seven at a time.
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
            "GOMEMLIMIT": MEMORY_TARGET,
        }
        with (self.folder / LOG).open("w") as out:
            process = subprocess.Popen(
                [weed, *self._words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                cwd=self.folder, env=inherited | ours,
            )  # fmt: skip
        return replace(self, pid=process.pid)

    def wait(self) -> None:
        """Wait until a server that was launched answers.

        :raises RunbookError: it ended, or gave no answer in time
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and _is_alive(self.pid):
            if self.answers():
                return
            time.sleep(0.1)
        ended = not _is_alive(self.pid)
        if not ended:
            self.stop()
        log = self.folder / LOG
        lines = log.read_text(errors="replace").splitlines()
        # The letter before the date is the severity: F for fatal.
        said = next((line for line in reversed(lines) if line.startswith("F")), " ".join(lines[-3:]))
        why = "ended" if ended else f"gave no answer within {START_TIMEOUT_S} s"
        code = {"code": PORT_TAKEN} if "address already in use" in said else {}
        raise RunbookError(f"The S3 server on port {self.port} {why}: {said}", log=str(log), **code)

    def stop(self) -> None:
        """End it; its objects stay.

        At SIGTERM it refuses writes at once, and then waits 15 seconds for connections between its own parts. What it
        answered for is in its files by then, so it is killed.
        """
        end_process(self.pid, signal.SIGTERM, still_there=self.is_running, wait_s=3)
        self._sweep()

    def kill(self) -> None:
        """End it without waiting for anything; for a server whose folder is removed next."""
        end_process(self.pid, signal.SIGKILL, still_there=self.is_running)
        self._sweep()

    def _sweep(self) -> None:
        """Remove the sockets by which its parts talk to each other: it puts them there, and leaves them when killed."""
        for part in (*_PARTS, "s3"):
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{part}-grpc-{self.ports[f'{part}.grpc']}.sock").unlink()  # noqa: S108 - its choice


def _environment_of(client: Any, bucket: str) -> str | None:
    """What the bucket's tag says; None where it has no tags."""
    try:
        tags = {tag["Key"]: tag["Value"] for tag in client.get_bucket_tagging(Bucket=bucket)["TagSet"]}
    except ClientError:
        return None
    return tags.get(ENVIRONMENT_TAG)


def _is_alive(pid: int) -> bool:
    """Whether the process is there; one of our own that ended is taken note of."""
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return command_line(pid) != ""
