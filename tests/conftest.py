"""What all tests share: the import path of our module_utils, a real PostgreSQL, modules run as Ansible runs them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.module_utils
import pytest

ROOT = Path(__file__).resolve().parent.parent
# Modules import ansible.module_utils.runbook, and a second name would load the exception classes twice.
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

import boto3  # noqa: E402 - the path above comes first
import psycopg2  # noqa: E402
from ansible.module_utils.runbook.drivers import permits, process  # noqa: E402
from ansible.module_utils.runbook.drivers.deploy.vercel import API_URL as VERCEL_URL  # noqa: E402
from ansible.module_utils.runbook.drivers.postgres import environment_mark, lease, postgres  # noqa: E402
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir  # noqa: E402
from ansible.module_utils.runbook.drivers.s3.s3 import Store  # noqa: E402
from ansible.module_utils.runbook.drivers.s3.s3 import argument_spec as s3_options  # noqa: E402
from ansible.module_utils.runbook.drivers.sandbox.s3_server import S3Server  # noqa: E402
from ansible.module_utils.runbook.drivers.supabase.supabase import API_URL  # noqa: E402
from ansible.module_utils.runbook.errors import RunbookError  # noqa: E402
from ansible.module_utils.runbook.report.sections.preflight import PREFLIGHT  # noqa: E402
from ansible.module_utils.runbook.rules.deploy.git import Place  # noqa: E402
from ansible.module_utils.runbook.rules.run import PERMITS, Run, opening  # noqa: E402
from ansible.module_utils.runbook.rules.target import Target  # noqa: E402
from botocore.config import Config  # noqa: E402
from psycopg2 import sql  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    """A port of loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Database:
    """A database of its own for one test."""

    host: str
    port: int
    name: str
    user: str

    @property
    def login(self) -> dict[str, Any]:
        """As options of a module."""
        return {"login_host": self.host, "login_port": self.port, "login_user": self.user, "login_db": self.name}

    def connect(self) -> Any:
        """A connection with autocommit on."""
        connection = psycopg2.connect(host=self.host, port=self.port, dbname=self.name, user=self.user)
        connection.autocommit = True
        return connection

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def one(self, statement: str) -> Any:
        """The single value that a query gives."""
        return self.run(statement)[0][0]

    @contextlib.contextmanager
    def following(self, slot: str) -> Iterator[None]:
        """Somebody follows the publications: the server keeps what a slot has not read yet."""
        self.run(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
        try:
            yield
        finally:
            self.run(f"SELECT pg_drop_replication_slot('{slot}')")

    def mark(self, environment: str) -> None:
        """Let it say to which environment it belongs."""
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute(environment_mark.statement(self.name, environment))
        connection.close()


@contextlib.contextmanager
def disposable(bindir: Path | None = None, *, superuser: str = "postgres", **settings: object) -> Iterator[Cluster]:
    """A cluster that is gone afterwards; of PG_BINDIR's programs, if not of others."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-pg-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made = Cluster(bindir or find_bindir(os.environ.get("PG_BINDIR")), folder / "data", free_port(), superuser)
    made.init()
    try:
        made.start(max_connections=60, **settings)
        Database("127.0.0.1", made.port, "postgres", made.superuser).mark("sandbox")
        yield made
    finally:
        made.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A disposable cluster for the whole session; set PG_BINDIR to test against another server."""
    with disposable(fsync="off", autovacuum="off", wal_level="logical") as made:
        yield made


@pytest.fixture(scope="session")
def sound_cluster() -> Iterator[Cluster]:
    """Another one without a setting that is a finding, and with pg_stat_statements."""
    with disposable(
        shared_preload_libraries="pg_stat_statements", autovacuum_naptime="12h", max_prepared_transactions=5
    ) as made:
        yield made


_numbers = itertools.count()


@contextlib.contextmanager
def _database(cluster: Cluster) -> Iterator[Database]:
    admin = Database("127.0.0.1", cluster.port, "postgres", cluster.superuser)
    made = Database("127.0.0.1", cluster.port, f"test_{next(_numbers)}", cluster.superuser)
    connection = admin.connect()
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made.name)))
    made.mark("sandbox")
    yield made
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(made.name)))
    connection.close()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    """An empty database, dropped afterwards."""
    with _database(cluster) as made:
        yield made


@pytest.fixture
def sound_database(sound_cluster: Cluster) -> Iterator[Database]:
    """An empty database in which nothing is wrong, dropped afterwards."""
    with _database(sound_cluster) as made:
        yield made


@dataclass(frozen=True)
class S3:
    """An S3 API for tests, with keys that may do everything."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def client(self) -> Any:
        """A client that sees each error at once."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, proxies={}),
        )

    def bucket(self, *, versioned: bool = True, object_lock: bool = False, environment: str = "sandbox") -> str:
        """Make an empty bucket, tagged as one of ``environment``; its name."""
        name = f"test-{next(_numbers)}-{os.getpid()}"
        client = self.client()
        client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if object_lock else {}))
        if versioned and not object_lock:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        if environment:
            tags = [{"Key": "runbook-environment", "Value": environment}]
            client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags})
        return name

    def protected_bucket(self) -> str:
        """A bucket that its check has nothing to say about."""
        bucket, client = self.bucket(), self.client()
        encrypted = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
        client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encrypted)
        abort = {"Status": "Enabled", "Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [abort | {"ID": "abort"}]}
        )
        return bucket

    def options(self, bucket: str) -> dict[str, Any]:
        """As options of a module."""
        return {
            "bucket": bucket,
            "region": self.region,
            "endpoint_url": self.endpoint_url,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """SeaweedFS, the S3 API of the sandbox: versions, object lock, checksums, tags, signatures that must be right."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-s3-"))
    server = S3Server.new(folder).launch()
    try:
        server.wait()
        yield S3(server.endpoint_url, server.access_key, server.secret_key)
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3]:
    """Moto's server, for what SeaweedFS does not know: public access block, policy status, replication, KMS.

    It takes any keys, and its objects lie in memory: it is no place for more than settings and small objects.
    """
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - it takes a second, which few tests need to spend

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3(f"http://{host}:{port}", "moto", "moto")
    server.stop()


#: Modules that write under the lease; a run holds it from preflight on.
UNDER_LEASE = frozenset(
    {
        "log_table_archive",
        "pg_archive",
        "pg_backup",
        "pg_cleanup",
        "pg_copy_cleanup",
        "pg_compact",
        "pg_finding_apply",
        "pg_reindex",
        "pg_swap",
        "pg_vacuum",
    }
)
ENVIRONMENTS = ("sandbox", "staging", "production")
#: Modules that ask for the approval of one operation.
OPERATIONS = {"app_update_deploy": "updates.yml deploy"}
_run: list[Run] = []


def a_run(
    run_id: str = "20260104T020000Z-test-000000", *, directory: Path | None = None, said: dict[str, str] | None = None,
    playbook: str = "test",
) -> Run:  # fmt: skip
    """A run that is under way: its folder is there, and its process, this one, lives.

    :param said: what its command line said
    :param playbook: the one that was started
    """
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="runbook-run-"))
    (directory / PERMITS).write_text(opening(run_id, said or {}, playbook))
    (directory / "journal.jsonl").touch()
    own = process.own()
    return Run(run_id, str(directory), f"{socket.gethostname()}/{os.getpid()}", str(own or ""))


def this_run() -> Run:
    """The one run of which all modules of this process are part that are not told otherwise."""
    if not _run:
        _run.append(a_run())
    return _run[0]


def as_environ(run: Run) -> dict[str, Any]:
    """The run as the callback announces it."""
    return {
        "RUNBOOK_RUN_ID": run.id or "",
        "RUNBOOK_RUN_DIR": run.directory or "",
        "RUNBOOK_CONTROLLER": run.controller or "",
        "RUNBOOK_PROCESS": run.process or "",
    }


def permit(run: Run, options: dict[str, Any], *, take_lease: bool) -> None:
    """What preflight would leave behind for a module with these options: a permit for each of its targets."""
    approve(run, *ENVIRONMENTS)
    targets = []
    if options.get("login_host") or options.get("dsn"):
        params = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | options
        try:
            with postgres.Session(
                postgres.Target.from_params(params), lock_timeout_ms=1000, statement_timeout_ms=30_000
            ) as session:
                cluster = session.query("SELECT system_identifier::text AS id FROM pg_control_system()")[0]["id"]
                name = options.get("database") or session.target.database
            targets = [Target("database", cluster, each) for each in {name, options.get("login_db") or name}]
            if take_lease:
                target = postgres.Target.from_params(params)
                hold_lease(run, Database(target.host, target.port, name, target.user))
        except (RunbookError, psycopg2.Error):  # what is wrong with the target is the module's to say
            pass
    if options.get("bucket"):
        with contextlib.suppress(RunbookError):  # what is wrong with the bucket is the module's to say
            targets.append(Store.from_params({key: options.get(key) for key in s3_options()}).target)
    if options.get("project_ref"):
        targets.append(Target("supabase_project", options.get("api_url", API_URL), options["project_ref"]))
    if options.get("repository"):
        with contextlib.suppress(RunbookError):  # what is wrong with the repository is the module's to say
            place = Place.named(options["repository"], options.get("repository_root") or "")
            targets.append(Target("repository", place.url, place.root))
    if options.get("project_id"):
        targets.append(Target("vercel_project", options.get("api_url", VERCEL_URL), options["project_id"]))
    if options.get("account_id"):
        targets.append(Target("aws_account", options.get("endpoint_url") or "AWS", options["account_id"]))
    for part in (each for each in options.values() if isinstance(each, dict)):
        permit(run, part, take_lease=False)
    known = [each.target for each in permits.of(run)]
    for wanted in targets:
        if wanted not in known:
            permits.grant(run, wanted)


def approve(run: Run, *environments: str, playbook: str = "test.yml") -> None:
    """What runbook_preflight would leave behind; in a real run there is one environment."""
    known = {each.environment for each in permits.approvals(run)}
    for environment in environments:
        if environment not in known:
            permits.approve(run, environment, playbook)


def job(playbook: str, **more: Any) -> dict[str, Any]:
    """A daily job of an inventory's ``schedule_jobs``."""
    daily = {"hosts": ["databases"], "rhythm": "daily", "time": "03:00", "max_duration_min": 60}
    return {"playbook": playbook, **daily, **more}


def a_window(begin_h: float, end_h: float) -> dict[str, Any]:
    """A maintenance window from so many hours after now until so many, as an inventory says it."""
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%Y-%m-%d %H:%M:%S}" for hours in (begin_h, end_h))
    return {"windows": [{"id": "tonight", "kind": "once", "begin": begin, "end": end}]}


def hold_lease(run: Run, database: Database) -> None:
    """Take the lease as preflight does, once db_roles.yml gave this user the rights for it."""
    admin = dataclasses.replace(database, user="postgres")
    params = {key: spec.get("default") for key, spec in postgres.argument_spec().items()} | admin.login
    with postgres.Session(
        postgres.Target.from_params(params), lock_timeout_ms=1000, statement_timeout_ms=30_000
    ) as session:
        held = lease.read(session)
        if held is None or held.run_id != run.id:
            lease.acquire(session, run, purpose="test.yml")
        if database.user != admin.user:
            for statement in ("GRANT USAGE ON SCHEMA runbook TO {}", "GRANT ALL ON runbook.lease TO {}"):
                session.execute(sql.SQL(statement).format(sql.Identifier(database.user)))


def give_lease_back(database: Database) -> None:
    """Let a playbook take the lease that a module of this process's run had."""
    with contextlib.suppress(psycopg2.Error):
        dataclasses.replace(database, user="postgres").run(
            f"DELETE FROM runbook.lease WHERE run_id = '{this_run().id}'"
        )


def _environ(name: str, options: dict[str, Any], *, permitted: bool, **environ: Any) -> dict[str, str]:
    """The environment of a module that is part of a run, if it is to be permitted."""
    if permitted and "RUNBOOK_PROCESS" not in environ:
        run = this_run()
        if "RUNBOOK_RUN_ID" in environ:
            run = dataclasses.replace(run, id=environ["RUNBOOK_RUN_ID"])
        if "RUNBOOK_RUN_DIR" in environ:
            run = dataclasses.replace(run, directory=environ["RUNBOOK_RUN_DIR"])
        if "RUNBOOK_CONTROLLER" in environ:
            run = dataclasses.replace(run, controller=environ["RUNBOOK_CONTROLLER"])
        run = dataclasses.replace(run, host=environ.get("RUNBOOK_HOST", run.host))
        is_there = bool(run.directory) and Path(str(run.directory)).is_dir()
        wants_lease = name in UNDER_LEASE and not options.get("_ansible_check_mode")
        if is_there and name not in PREFLIGHT:
            # Who only looks needs no permit, and counts the statements of others.
            permit(run, {} if name.endswith("_info") else options, take_lease=wants_lease)
            for environment in ENVIRONMENTS if name in OPERATIONS else ():
                permits.approve(run, environment, OPERATIONS[name])
        environ = as_environ(run) | environ
    return os.environ | environ


def module_process(
    name: str, options: dict[str, Any], *, permitted: bool = True, **environ: Any
) -> subprocess.Popen[str]:
    """Start ``library/<name>.py`` in a process of its own, fed as Ansible feeds a module.

    :param permitted: it is part of a run that passed preflight for whatever it works on, and holds the lease
    """
    environ = _environ(name, options, permitted=permitted, **environ)
    code = (
        "import sys, json, runpy; import ansible.module_utils as m; m.__path__.append(sys.argv[1]);"
        "import ansible.module_utils.basic as b; b._ANSIBLE_ARGS = sys.stdin.buffer.read();"
        "b._ANSIBLE_PROFILE = 'legacy';"
        "runpy.run_path(sys.argv[2], run_name='__main__')"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT / "module_utils"), str(ROOT / "library" / f"{name}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    assert started.stdin is not None
    started.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}))
    started.stdin.close()
    started.stdin = None
    return started


@dataclass(frozen=True)
class Outcome:
    """What a module said."""

    result: dict[str, Any]
    stderr: str

    @property
    def failed(self) -> bool:
        """Whether Ansible would show it red."""
        return bool(self.result.get("failed"))


def run_module(
    name: str,
    options: dict[str, Any],
    *,
    check: bool = False,
    diff: bool = False,
    permitted: bool = True,
    **environ: Any,
) -> Outcome:
    """Run ``library/<name>.py`` to its end and read its result."""
    flags = {"_ansible_check_mode": check, "_ansible_diff": diff}
    environ = _environ(name, options | flags, permitted=permitted, **environ)
    done = _servers.pop() if _servers else _Modules()
    answer = done.run(name, options | flags, environ)
    _servers.append(done)
    lines = [line for line in answer["stdout"].splitlines() if line.startswith("{")]
    assert lines, f"{name} printed no result: {answer['stdout']}\n{answer['stderr']}"
    return Outcome(json.loads(lines[-1]), answer["stderr"])


class _Modules:
    """A process of ``module_server.py``; there is one for each module that runs at the same time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("module_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, options: dict[str, Any], environ: dict[str, str]) -> dict[str, Any]:
        """Run a module to its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(
            json.dumps({"root": str(ROOT), "module": name, "options": options, "environ": environ}) + "\n"
        )
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))


_servers: list[_Modules] = []


@pytest.fixture(scope="session", autouse=True)
def _end_servers() -> Iterator[None]:
    yield
    for server in _servers:
        server.process.communicate()
