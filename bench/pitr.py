"""Two engines for recovery to a point in time, side by side: base backup, archiving, restore, replay.

Both write to one S3 server on loopback, over TLS because pgBackRest accepts nothing else, from one PostgreSQL with the
same data. Each figure is one run; ``--rounds`` gives the median of several. What is measured is the engines' own
programs, as PostgreSQL calls them: no module of this project stands in between.

    python -m bench.pitr --bindir /usr/lib/postgresql/15/bin --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from bench.harness import ROOT

# harness puts our module_utils on the import path.
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir, unprivileged  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = ("bench", "bench-secret-key")
DATA_MB = 400
SEGMENTS = 40


def port() -> int:
    """A port of loopback that is free now, and whose port plus 10000 exists."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            number = int(probe.getsockname()[1])
        if number < 50000:
            return number


@dataclass
class Store:
    """The S3 server: address over TLS, and the certificate that it shows."""

    folder: Path
    https_port: int
    certificate: Path

    @property
    def url(self) -> str:
        """Address over TLS."""
        return f"https://localhost:{self.https_port}"

    def bucket(self, name: str) -> None:
        """Make a bucket."""
        self.client().create_bucket(Bucket=name)

    def client(self) -> Any:
        """A client of the server."""
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=KEYS[0],
            aws_secret_access_key=KEYS[1], verify=str(self.certificate), config=Config(retries={"max_attempts": 2}),
        )  # fmt: skip

    def size_mb(self, bucket: str, prefix: str) -> Any:
        """Sum of the objects below ``prefix``, in MB."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sum(item["Size"] for page in pages for item in page.get("Contents", [])) / 1e6


@contextmanager
def s3_server(folder: Path) -> Iterator[Store]:
    """A SeaweedFS that ends with the block."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    identity = {
        "name": "bench",
        "credentials": [{"accessKey": KEYS[0], "secretKey": KEYS[1]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "s3").mkdir()
    https = port()
    words = [
        "weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 's3'}", f"-master.port={port()}",
        f"-volume.port={port()}", "-filer", f"-filer.port={port()}", "-s3", f"-s3.port={port()}",
        f"-s3.port.https={https}", f"-s3.key.file={key}", f"-s3.cert.file={certificate}",
        f"-s3.config={folder / 'identities.json'}", "-master.volumeSizeLimitMB=1024", "-volume.max=0", "-s3.iam=false",
        "-master.telemetry=false", f"-s3.port.iceberg={port()}", f"-s3.port.lance={port()}",
    ]  # fmt: skip
    with (folder / "weed.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        store = Store(folder, https, certificate)
        deadline = time.monotonic() + 60
        while True:
            try:
                store.client().list_buckets()
                break
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        yield store
    finally:
        process.terminate()
        process.wait(timeout=30)


@dataclass
class Engine:
    """One engine: commands for PostgreSQL and for us, in one environment."""

    name: str
    archive_command: str
    restore_command: str
    backup: list[str]
    fetch: list[str]
    prefix: str
    environ: dict[str, str] = field(default_factory=dict)
    before: list[list[str]] = field(default_factory=list)
    archive_library: str = ""


def barman(name: str, store: Store, cluster: Cluster, folder: Path, *, wal: str, base: str, parallel: int) -> Engine:
    """Barman's cloud programs; credentials in a file of its own."""
    credentials = folder / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id={KEYS[0]}\naws_secret_access_key={KEYS[1]}\n")
    environ = {
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_CA_BUNDLE": str(store.certificate),
        "AWS_DEFAULT_REGION": "us-east-1",
        "PATH": os.environ["PATH"],
    }
    words = " ".join(f"{key}={shlex.quote(value)}" for key, value in environ.items())
    programs, where = Path(sys.executable).parent, f"s3://{name.replace(' ', '-')}/pitr main"
    common = f"--endpoint-url={store.url} --addressing-style=path"
    spool = folder / "spool"
    fetch = f"--parallel={parallel} --spool-dir={spool}" if parallel else ""
    # The engine leaves in its spool what it fetched ahead; to take it from there needs no process of its own.
    first = f"mv -f {spool}/%f %p 2>/dev/null || " if parallel else ""
    return Engine(
        name=name,
        archive_command=f"{words} {programs}/barman-cloud-wal-archive {common} {wal} {where} %p",
        restore_command=f"{first}{words} {programs}/barman-cloud-wal-restore {common} {fetch} {where} %f %p",
        backup=shlex.split(
            f"{programs}/barman-cloud-backup {common} {base} --jobs=2 --immediate-checkpoint -h 127.0.0.1"
            f" -p {cluster.port} -U postgres {where}"
        ),
        fetch=shlex.split(f"{programs}/barman-cloud-restore {common} {where} ID {folder / 'restored'}"),
        prefix="pitr/",
        environ=environ,
    )


def pgbackrest(name: str, store: Store, cluster: Cluster, folder: Path, *, asynchronous: bool) -> Engine:
    """pgBackRest, its whole configuration in one file."""
    flag = "y" if asynchronous else "n"
    settings = folder / "pgbackrest.conf"
    settings.write_text(
        f"""[global]
repo1-type=s3
repo1-path=/pitr
repo1-s3-bucket={name.replace(" ", "-")}
repo1-s3-endpoint=localhost
repo1-storage-port={store.https_port}
repo1-storage-ca-file={store.certificate}
repo1-s3-uri-style=path
repo1-s3-region=us-east-1
repo1-s3-key={KEYS[0]}
repo1-s3-key-secret={KEYS[1]}
repo1-bundle=y
process-max=2
archive-async={flag}
start-fast=y
compress-type=zst
compress-level=1
log-path={folder}
log-level-console=warn
lock-path={folder}
spool-path={folder / "spool"}
[main]
pg1-path={cluster.data}
pg1-port={cluster.port}
pg1-socket-path={folder}
pg1-user=postgres
"""
    )
    words = ["pgbackrest", f"--config={settings}", "--stanza=main"]
    (folder / "spool").mkdir(exist_ok=True)
    command = shlex.join(words)
    return Engine(
        name=name,
        archive_command=f"{command} archive-push %p",
        restore_command=f"{command} --pg1-path={folder / 'restored'} archive-get %f %p",
        backup=[*words, "--type=full", "backup"],
        fetch=[*words, f"--pg1-path={folder / 'restored'}", "restore"],
        prefix="pitr/",
        before=[[*words, "stanza-create"]],
    )


def sql(cluster: Cluster, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement; its rows."""
    connection = psycopg2.connect(host="127.0.0.1", port=cluster.port, user="postgres", dbname="postgres")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def run(cluster: Cluster, words: list[str], environ: dict[str, str]) -> float:
    """Run one of the engine's programs as the server's user; seconds."""
    begun = time.monotonic()
    # The folder is root's until the server's user is somebody else: see unprivileged().
    prefix = unprivileged(cluster.bindir / "postgres", cluster.data)
    done = subprocess.run([*prefix, *words], env=os.environ | environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - begun


def archived(cluster: Cluster) -> int:
    """Segments archived since the counter was reset."""
    return int(sql(cluster, "SELECT archived_count FROM pg_stat_archiver")[0][0])


def measure(engine: Engine, store: Store, cluster: Cluster, folder: Path) -> dict[str, float]:
    """All figures of one engine."""
    bucket = engine.name.replace(" ", "-")
    store.bucket(bucket)
    for words in engine.before:
        run(cluster, words, engine.environ)
    figures: dict[str, float] = {}

    # A server of the common data, archiving by this engine.
    quoted = engine.archive_command.replace("'", "''")
    sql(cluster, f"ALTER SYSTEM SET archive_command = '{quoted}'")
    sql(cluster, "SELECT pg_reload_conf()")
    figures["base backup s"] = run(cluster, engine.backup, engine.environ)
    figures["base backup MB"] = sum(
        store.size_mb(bucket, f"{engine.prefix}{part}") for part in ("main/base/", "backup/")
    )

    # The archiver on its own: segments are kept back, then let go.
    sql(cluster, "ALTER SYSTEM SET archive_command = 'false'")
    sql(cluster, "SELECT pg_reload_conf()")
    before = store.size_mb(bucket, engine.prefix)
    sql(cluster, "DROP TABLE IF EXISTS churn")
    sql(cluster, "CREATE TABLE churn (id bigint, at timestamptz DEFAULT now(), body text)")
    start = sql(cluster, "SELECT pg_current_wal_lsn()")[0][0]
    written = 0
    while written < SEGMENTS:
        sql(
            cluster,
            "INSERT INTO churn SELECT i, now(), md5(i::text) || md5((i+1)::text) FROM generate_series(1,40000) i",
        )
        sql(cluster, "CHECKPOINT") if written == 0 else None
        written = int(sql(cluster, f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}') / 16777216")[0][0])
    sql(cluster, "SELECT pg_switch_wal()")
    time.sleep(1)
    sql(cluster, "SELECT pg_stat_reset_shared('archiver')")
    sql(cluster, f"ALTER SYSTEM SET archive_command = '{quoted}'")
    begun = time.monotonic()
    sql(cluster, "SELECT pg_reload_conf()")
    while archived(cluster) < written:
        if time.monotonic() - begun > 300:
            raise SystemExit(f"{engine.name}: only {archived(cluster)} of {written} segments after 300 s")
        time.sleep(0.05)
    figures["archived segments/s"] = written / (time.monotonic() - begun)
    figures["WAL MB each"] = (store.size_mb(bucket, engine.prefix) - before) / written
    rows = sql(cluster, "SELECT count(*) FROM churn")[0][0]

    # Restore: the base, then the replay until the server takes writes.
    restored = folder / "restored"
    shutil.rmtree(restored, ignore_errors=True)
    shutil.rmtree(folder / "spool", ignore_errors=True)
    (folder / "spool").mkdir()
    words = engine.fetch
    if "ID" in words:
        listing = [*words[: words.index("ID")], "--format=json"]
        listing[0] = listing[0].replace("barman-cloud-restore", "barman-cloud-backup-list")
        prefix = unprivileged(cluster.bindir / "postgres", cluster.data)
        found = subprocess.run(
            [*prefix, *listing], env=os.environ | engine.environ, capture_output=True, text=True, check=True
        )
        words = [json.loads(found.stdout)["backups_list"][-1]["backup_id"] if word == "ID" else word for word in words]
    else:
        restored.mkdir(mode=0o700)
    figures["restore s"] = run(cluster, words, engine.environ)
    restored.chmod(0o700)
    again = Cluster(cluster.bindir, restored, port())
    (restored / "recovery.signal").touch()
    with (restored / "postgresql.auto.conf").open("a") as conf:
        conf.write(f"restore_command = '{engine.restore_command.replace(chr(39), chr(39) * 2)}'\n")
        conf.write("archive_mode = off\nrecovery_target_timeline = 'latest'\n")
    begun = time.monotonic()
    try:
        again.start(fsync="off", unix_socket_directories=str(folder), max_connections=60)
        while sql(again, "SELECT pg_is_in_recovery()")[0][0]:
            time.sleep(0.05)
        figures["replayed segments/s"] = written / (time.monotonic() - begun)
        if sql(again, "SELECT count(*) FROM churn")[0][0] != rows:
            raise SystemExit(f"{engine.name}: the restored table differs")
    finally:
        if again.is_running():
            again.stop("immediate")
    shutil.rmtree(restored)
    return figures


def main() -> None:
    """Measure, print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bindir")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--only", default="")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-pitr-", dir=ROOT / ".cache" if (ROOT / ".cache").is_dir() else None))
    results: dict[str, list[dict[str, float]]] = {}
    try:
        with s3_server(folder) as store:
            cluster = Cluster(find_bindir(chosen.bindir), folder / "source" / "data", port())
            cluster.init()
            cluster.start(
                archive_mode="on", wal_level="replica", max_wal_size="4GB", fsync="off", max_connections=60,
                unix_socket_directories=str(folder),
            )  # fmt: skip
            sql(cluster, "ALTER SYSTEM SET archive_command = 'true'")
            sql(cluster, "SELECT pg_reload_conf()")
            sql(
                cluster,
                "CREATE TABLE filler AS SELECT i, md5(i::text) || md5((i*7)::text) || repeat('clinical note ', 12) AS"
                f" body FROM generate_series(1, {DATA_MB * 3300}) i",
            )
            try:
                for number in range(chosen.rounds):
                    made: list[tuple[str, dict[str, Any]]] = [
                        ("barman plain", {"wal": "", "base": "", "parallel": 0}),
                        ("barman zstd lz4", {"wal": "--zstd", "base": "--lz4", "parallel": 0}),
                        ("barman zstd lz4 prefetch", {"wal": "--zstd", "base": "--lz4", "parallel": 16}),
                        ("barman gzip", {"wal": "--gzip", "base": "--gzip", "parallel": 8}),
                    ]
                    engines = [barman(f"{name} {number}", store, cluster, folder, **how) for name, how in made]
                    if shutil.which("pgbackrest"):
                        engines += [
                            pgbackrest(f"pgbackrest {number}", store, cluster, folder, asynchronous=False),
                        ]
                    for engine in engines:
                        if chosen.only and chosen.only not in engine.name:
                            continue
                        name = engine.name.rpartition(" ")[0]
                        results.setdefault(name, []).append(measure(engine, store, cluster, folder))
                        print(name, {key: round(value, 2) for key, value in results[name][-1].items()}, flush=True)
                    if shutil.which("pgbackrest") and (not chosen.only or "pgbackrest" in chosen.only):
                        engine = pgbackrest(f"pgbackrest async {number}", store, cluster, folder, asynchronous=True)
                        results.setdefault("pgbackrest async", []).append(measure(engine, store, cluster, folder))
                        print("pgbackrest async", results["pgbackrest async"][-1], flush=True)
            finally:
                cluster.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    columns = list(next(iter(results.values()))[0])
    print("\n| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for name, rounds in results.items():
        print(f"| {name} | " + " | ".join(f"{statistics.median(r[c] for r in rounds):.2f}" for c in columns) + " |")


if __name__ == "__main__":
    main()
