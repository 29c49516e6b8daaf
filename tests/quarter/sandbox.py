"""What a quarter is played on: a database with clients, a bucket, an application, and what is around them.

All of it is under the moved clock. Servers of Go do not go through the C library, so the bucket is moto's and not
SeaweedFS's, and there is no Prometheus. Nothing lies in the folders of ``make demo``, and every port is a free one.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import keys
import psutil
import psycopg2
import yaml
from ansible.module_utils.runbook.rules.schedule import files, schedule
from certificates import certificate, save
from conftest import ROOT, S3, Database, disposable, run_module
from fakes.chat import PATHS, FakeChat
from fakes.osv import FakeOsv
from fakes.statuspage import COMPONENTS, PAGE, FakeStatuspage
from fakes.statuspage import TOKEN as PAGE_TOKEN
from fakes.supabase import REF
from fakes.supabase import TOKEN as SUPABASE_TOKEN
from fakes.vercel import OPTIONS as VERCEL
from git_remotes import Remote
from log_archives import KEY as LOG_KEY
from quarter import clock
from s3_faults import FaultyS3
from tls_servers import context, serving

from playbooks import SMALL, Project

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

#: Jobs of the sandbox's inventory that are not played, and why.
LEFT_OUT = {
    "performance-review": "its half for applications needs Lighthouse's neighbours from npm; make web shows it",
    "heartbeat": "each run lasts an hour, by a clock that cannot be moved: it measures a span",
    "alert-review": "Prometheus is a Go program, whose clock the C library does not tell",
    "monitoring-audit": "Prometheus is a Go program, whose clock the C library does not tell",
    "weekly-updates": "pnpm and a registry would fetch and test packages for minutes; make updates shows it",
    "monthly-major-updates": "pnpm and a registry would fetch and test packages for minutes; make updates shows it",
}
#: Jobs that are disabled there, and are played all the same, since this sandbox has what they wait for.
PLAYED = ("daily-cleanup", "sunday-cleanup", "backup-proof")
ROLES = ("engineering_lead", "database_admin", "security_team", "devops_sre")
DATABASE = "mental_scribe"
#: A table that the monthly work vacuums.
HELD = "public.audit_log"
LOCK = """\
lockfileVersion: '9.0'
importers:
  .:
    dependencies:
      lodash: {specifier: ^4.17.0, version: 4.17.20}
packages:
  lodash@4.17.20: {resolution: {integrity: sha512-aaaa}}
"""
#: pnpm asks npm's own advisories; OSV is asked beside it, and knows the injected one.
PNPM = '#!/bin/sh\ncase "$1" in --version) echo 11.2.0;; *) echo \'{"advisories": {}}\';; esac\n'
#: Longest time of one run by a clock on the wall, in seconds.
PATIENCE_S = 300
_CODE = re.compile(r"[0-9A-Z]{4}-[0-9A-Z]{4}")


def jobs() -> tuple[dict[str, schedule.Schedule], dict[str, str]]:
    """The jobs that are played, as the sandbox's inventory schedules them, and the others with the reason."""
    given = yaml.safe_load((ROOT / "inventories/sandbox/group_vars/all/schedules.yml").read_text())["schedule_jobs"]
    for job, reason in LEFT_OUT.items():
        if job in given:
            given[job]["disabled"] = reason
    for job in PLAYED:
        given[job].pop("disabled", None)
    read, _ = schedule.with_hosts(schedule.read(given), {"databases": ["db"], "applications": ["app"]})
    played = {job: each for job, each in read.items() if each.enabled}
    others = {job: each.disabled for job, each in read.items() if not each.enabled}
    others |= {job: "its group has no host here" for job in given if job not in read}
    return played, others


@dataclass(frozen=True)
class Run:
    """A run of ansible-playbook that came to its end, or was killed."""

    code: int
    output: str
    duration_s: float


@dataclass
class Clients:
    """People who write all the while, and know what the database answered for."""

    database: Database
    #: The application's log, a line for each row.
    log: Path
    _over: threading.Event = field(default_factory=threading.Event)
    #: Ids of audit rows and of messages that the server answered for.
    audit: set[int] = field(default_factory=set)
    messages: set[int] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    def write(self) -> None:
        """Until told otherwise, a row in each table, in one transaction."""
        connection = self.database.connect()
        connection.autocommit = False
        with connection.cursor() as cursor:
            while not self._over.wait(0.2):
                try:
                    cursor.execute("INSERT INTO public.audit_log (action, entity) VALUES ('read', 'note') RETURNING id")
                    audit = cursor.fetchone()
                    cursor.execute(
                        "INSERT INTO public.messages (conversation_id, author, body, tokens, created_at)"
                        " SELECT min(id), 'client', 'words', 1, now() FROM public.conversations RETURNING id"
                    )
                    message = cursor.fetchone()
                    connection.commit()
                except psycopg2.Error as error:
                    self.failed.append(f"{clock.now():%Y-%m-%d %H:%M}: {error}".strip())
                    connection.rollback()
                    continue
                self.audit.add(audit[0])
                self.messages.add(message[0])
                with self.log.open("a") as log:
                    log.write(f"{clock.now():%Y-%m-%dT%H:%M:%SZ} INFO request {message[0]}\n")
        connection.close()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For the block."""
        thread = threading.Thread(target=self.write, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(30)

    def lost(self) -> list[str]:
        """What the server answered for, and has no more; audit rows may lie in the archive, each once."""
        audit, messages = set(self.audit), set(self.messages)
        rows = [
            row[0]
            for row in self.database.run(
                "SELECT id FROM public.audit_log UNION ALL SELECT id FROM public.audit_log_archive"
            )
        ]
        there = {row[0] for row in self.database.run("SELECT id FROM public.messages")}
        found = [f"{len(audit - set(rows))} audit rows are lost"] if audit - set(rows) else []
        found += [f"{len(rows) - len(set(rows))} audit rows are there twice"] if len(rows) != len(set(rows)) else []
        return found + ([f"{len(messages - there)} messages are lost"] if messages - there else [])


@dataclass
class Sandbox:
    """All of it."""

    folder: Path
    project: Project
    database: Database
    s3: S3
    bucket: str
    proxy: FaultyS3
    application: keys.Work
    osv: FakeOsv
    chat: FakeChat
    page: FakeStatuspage
    tls: ssl.SSLContext
    authority: Any
    played: dict[str, schedule.Schedule]
    #: What people ran, in order.
    hands: list[tuple[str, Run]] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        """Folder of the runs and of the board."""
        return self.folder / "runs"

    @property
    def calendar(self) -> dict[str, Any]:
        """The inventory's windows and freezes."""
        found: dict[str, Any] = self.project.all_vars["maintenance_calendar"]
        return found

    def fire(self, job: str) -> Run:
        """Run a job to its end, as its timer starts it."""
        # The application asks Supabase by the key that it has.
        self.application.supabase.key_uses = {self.application.live(): 7}
        return self._run(self.played[job].playbook, *self._words(job))

    def kill(self, job: str, module: str) -> Run:
        """Start a job as its timer does, and kill it in the middle of a module's work, with all but what outlives it.

        A table is held, as by a long transaction, so that the module cannot be through before it is seen at work.
        """
        begun, known = time.monotonic(), self.project.records()
        with self._held() as holder:
            process = self.project.start(self.played[job].playbook, *self._words(job))
            while process.poll() is None and not self._is_in_the_middle(module, known, holder):
                time.sleep(0.02)
            outliving = psutil.Process(process.pid).children() if process.poll() is None else []
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        # Before the clock jumps: it makes the record of what was killed now.
        psutil.wait_procs(outliving, timeout=PATIENCE_S)
        return Run(process.returncode, output, time.monotonic() - begun)

    @contextmanager
    def _held(self) -> Iterator[Any]:
        """Hold a table that clients may write to and maintenance has to wait for; the connection looks who does."""
        connection = self.database.connect()
        connection.autocommit = False
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {HELD} IN SHARE UPDATE EXCLUSIVE MODE")
            yield connection
        finally:
            connection.close()

    def _is_in_the_middle(self, module: str, known: set[Path], holder: Any) -> bool:
        """Whether a module has begun, and waits for the table that is held."""
        if not self._has_begun(module, self.project.records() - known):
            return False
        with holder.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted", (HELD,))
            return bool(cursor.fetchone()[0])

    def _words(self, job: str) -> list[str]:
        """What a timer says behind the playbook."""
        place = files.Place(str(ROOT), "inventory", "sandbox")
        return files.command(self.played[job], place).split()[4:]

    def _has_begun(self, module: str, runs: set[Path]) -> bool:
        return any(f'"{module}"' in (run / "journal.jsonl").read_text() for run in runs)

    def _run(self, playbook: str, *words: str, **said: Any) -> Run:
        begun = time.monotonic()
        ended = self.project.run(playbook, *words, **said)
        return Run(ended.code, ended.output, time.monotonic() - begun)

    def by_hand(self, playbook: str, **said: Any) -> Run:
        """What a person does."""
        done = self._run(playbook, **said)
        self.hands.append((playbook, done))
        return done

    def prepare(self) -> None:
        """What was there before the first day: a backup that was proven, contacts, and whatever looked once."""
        self.prove_contacts()
        self.by_hand("backup.yml")
        self.by_hand("backup_verify.yml", backup_verify_proof=True)
        for playbook, done in self.hands:
            assert done.code == 0, f"{playbook}:\n{done.output}"

    def prove_contacts(self) -> None:
        """Everybody gets a message, and a person types in what they read."""
        before = len(self.chat.got)
        self._run("contacts.yml", emergency_contact_test="all", emergency_contact_interval_h=0)
        codes = {code for message in self.chat.got[before:] for code in _CODE.findall(str(message["text"]))}
        self.by_hand("contacts.yml", emergency_contact_codes=",".join(sorted(codes)))

    def age_key(self, days: int) -> None:
        """Let the application's first key be so old."""
        at = (clock.now() - timedelta(days=days)).isoformat().replace("+00:00", "Z")
        for each in self.application.supabase.api_keys:
            if each["name"] == "default":
                each |= {"inserted_at": at, "updated_at": at}

    def serve_certificate(self, begin_days: float, end_days: float) -> None:
        """Let the application's server have a certificate that is valid from and until so many days from now."""
        path = save(self.folder, "app", certificate(self.authority, days=(begin_days, end_days)))
        self.tls.load_cert_chain(path, path.removesuffix(".crt") + ".key")


@contextmanager
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """Make it; it is gone afterwards, but for the records of its runs."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - it takes a second

    for name in ("runs", "log", "logrotate.d"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        cluster = stack.enter_context(
            disposable(autovacuum_naptime="12h", shared_preload_libraries="pg_stat_statements")
        )
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        moto.start()
        stack.callback(moto.stop)
        s3 = S3("http://{}:{}".format(*moto.get_host_and_port()), "moto", "moto")
        proxy = stack.enter_context(FaultyS3(s3.endpoint_url))
        application = stack.enter_context(keys.a_world(folder))
        application.vercel.build = ["READY"]
        osv, chat = stack.enter_context(FakeOsv()), stack.enter_context(FakeChat())
        page = stack.enter_context(FakeStatuspage())
        authority = certificate(None, days=(-400, 4000))
        ca_cert = save(folder, "authority", authority)
        tls = context(save(folder, "app", certificate(authority, days=(-1, 398))))
        port = stack.enter_context(serving(tls))
        database = _database(Database("127.0.0.1", cluster.port, "postgres", cluster.superuser))
        buckets = {"backup": s3.protected_bucket(), "logs": s3.protected_bucket()}
        played, _ = jobs()
        project = Project.for_database(
            folder, database,
            **(SMALL | _services(folder, chat, page) | _stores(folder, proxy, buckets, database)),
            schedule_jobs=_given(played),
            maintenance_calendar={"windows": [
                {"id": "weekly", "kind": "weekly", "weekday": "sunday", "begin": "02:00", "end": "04:00"},
                {"id": "monthly", "kind": "monthly", "week": 1, "weekday": "sunday", "begin": "02:00", "end": "06:00"},
            ], "freezes": []},
            certificates_endpoints=[{"name": "app", "host": "127.0.0.1", "port": port, "ca_cert": ca_cert}],
            daily_cleanup_rules=[{"table": "public.sessions", "column": "expires_at", "older_than_days": 7}],
        )  # fmt: skip
        project.patience_s = PATIENCE_S
        project.applications = {"app": _application(folder, application, osv)}
        made = Sandbox(
            folder, project, database, s3, buckets["backup"], proxy, application, osv, chat, page, tls, authority,
            played,
        )  # fmt: skip
        made.age_key(10)
        stack.enter_context(project.least_privilege(database))
        yield made


def _given(played: dict[str, schedule.Schedule]) -> dict[str, Any]:
    """What the inventory says of the jobs that are played."""
    given = yaml.safe_load((ROOT / "inventories/sandbox/group_vars/all/schedules.yml").read_text())["schedule_jobs"]
    return {job: {key: value for key, value in given[job].items() if key != "disabled"} for job in played}


def _database(server: Database) -> Database:
    filled = run_module("sandbox_database", server.login | {"name": DATABASE, "scale": 0.05})
    assert not filled.failed, filled.result
    return Database(server.host, server.port, DATABASE, server.user)


def _services(folder: Path, chat: FakeChat, page: FakeStatuspage) -> dict[str, Any]:
    url = chat.url + PATHS["slack"]
    return {
        "state_directory": str(folder / "state"),
        "change_notice_backend": "slack", "change_notice_slack_url": url,
        "change_status_page_backend": "statuspage", "change_status_page_statuspage_page": PAGE,
        "change_status_page_statuspage_token": PAGE_TOKEN, "change_status_page_statuspage_api_url": page.base,
        "change_status_page_components": [COMPONENTS[0]],
        "emergency_contacts": {
            role: {"name": f"Ada, {role}", "backend": "slack", "slack_url": url} for role in ROLES
        },
        "maintenance_calendar_path": str(folder / "maintenance.ics"),
    }  # fmt: skip


def _stores(folder: Path, proxy: FaultyS3, buckets: dict[str, str], database: Database) -> dict[str, Any]:
    """Backups and logs."""
    options = S3(proxy.endpoint_url, "moto", "moto").options(buckets["backup"])
    found: dict[str, Any] = {f"backup_{name}": value for name, value in options.items()}
    found |= {f"logs_{name}": value for name, value in options.items()} | {"logs_bucket": buckets["logs"]}
    return found | {
        "backup_prefix": "quarter", "backup_verify_since": f"{clock.now():%Y-%m-%d}",
        "backup_verify_retention_days": 30,
        "logs_seal_keys": [LOG_KEY], "logs_config": str(folder / "logrotate.d/runbook-logs"),
        "logs_state_file": str(folder / "logrotate.status"),
        "logs_files": [{"name": "app", "class": "operational", "paths": [str(folder / "log/app.log")]}],
        # moto's server listens without TLS.
        "logs_bucket_tls_only": False, "logs_bucket_block_public_access": False,
        "backup_proof_login_host": database.host, "backup_proof_login_port": database.port,
        "backup_proof_login_user": database.user, "backup_proof_ssl_mode": "prefer",
        "backup_proof_system_identifier": database.one("SELECT system_identifier::text FROM pg_control_system()"),
    }  # fmt: skip


def _application(folder: Path, application: keys.Work, osv: FakeOsv) -> dict[str, Any]:
    remote = Remote.new(
        folder / "git", {"pnpm-lock.yaml": LOCK, "package.json": "{}", ".env.example": "PUBLIC_NAME=\n"}
    )
    pnpm = folder / "pnpm"
    pnpm.write_text(PNPM)
    pnpm.chmod(0o755)
    return {
        "app_repository": str(remote.path), "app_repository_root": remote.root, "app_branch": "main",
        "app_committer_email": "ops@example.test",
        **{f"vercel_{name}": value for name, value in VERCEL.items()}, "vercel_api_url": application.vercel.url,
        "supabase_project_ref": REF, "supabase_project_name": "mental-scribe",
        "supabase_access_token": SUPABASE_TOKEN, "supabase_api_url": application.supabase.url,
        "app_version_url": f"{application.site.url}/version",
        "app_keys_url": f"{application.site.url}/keys", "key_rotation_keys": [keys.SERVER], "key_rotation_poll_s": 1,
        "security_updates_osv_url": osv.url, "security_updates_pnpm": str(pnpm), "security_updates_own_files": [],
    }  # fmt: skip
