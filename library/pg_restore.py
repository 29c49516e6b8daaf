#!/usr/bin/python
"""Module pg_restore: a backup becomes a new database, and is compared with what was backed up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore
short_description: Restore a backup into a new database and prove it
description:
  - Restores a logical backup that M(pg_backup) made, from S3 into a new database. A database that exists is never
    written to.
  - Before the first byte it checks that the backup is complete and is of the database that was asked for, that every
    object has its size, and that the server has the version, roles, extensions, locale and room it needs.
  - The data streams from S3 through PostgreSQL's own C(pg_restore), several streams side by side, and is held to the
    SHA-256 of the manifest on its way. Only the schema goes through a temporary file. Indexes and constraints come
    last.
  - The proof counts and hashes every table of the new database, while indexes are being made, and compares it with the
    manifest. One changed byte in one row is found.
  - Until the new database is marked in its comment, nobody can connect to it; while it is being filled it is closed to
    all but its owner and superusers. If anything fails it is dropped. If the run is killed, at whatever moment, the
    next one finds it and drops it. What cannot be dropped is told with the way out, and the work goes on under another
    name.
  - Its subscriptions are disabled, and an unfinished copy is dropped without touching the slots that they name.
  - A second run finds the proven database and changes nothing.
  - Into a fresh Supabase project, by its user C(postgres), a backup of another one is restored in one transaction. Its
    database is there, so O(target_database) is its name. What the platform made is left alone; its rows, and
    what was added to its tables, are brought back. The project must be fresh, and after an error it still is. Both are
    told by the roles in the backup and on the server.
  - A backup of a Supabase project can be restored on any server by a superuser. Roles of the platform that are missing
    are made there without login, and dropped again with a database that was made for O(scratch) alone. What acts by
    itself or reaches other servers stays out of it.
options:
  source_cluster:
    description:
      - The cluster that the backup must be of. By default the one that is restored to; with O(scratch=true) it is not
        compared then, since a proof has a server of its own.
    type: str
  from_cluster:
    description:
      - Restore another cluster's backup on purpose, for this run, by its C(system_identifier). The backup must be of
        it, whatever O(source_cluster) says.
    type: str
  backup:
    description:
      - Name of the backup, as V(2026-11-23T03-00-00Z), or V(latest).
    type: str
    default: latest
  before:
    description:
      - With O(backup=latest), the latest backup whose contents are from before this time, in ISO 8601 with its
        time zone.
    type: str
  target_database:
    description:
      - Name of the new database. C(<database>_restore_<backup>) if unset, with O(scratch=true)
        C(<database>_proof_<backup>). In a fresh Supabase project the database that is there, by default O(database).
    type: str
  jobs:
    description:
      - Streams that are loaded, indexes that are made and tables that are compared at the same time, 1 to 64.
    type: int
    default: 2
  prove:
    description:
      - Whether to compare the new database with the manifest. Without it the result is V(unknown), and M(pg_swap) does
        not take the database.
    type: bool
    default: true
  record_proof:
    description:
      - Whether to write the outcome of the proof beside the backup, as C(proof-<time>.json), a failure as well. Needs
        O(environment).
    type: bool
    default: false
  environment:
    description:
      - What the inventory is. The bucket must carry it in its tag C(runbook-environment) before anything is written to
        it.
    type: str
  hold_days:
    description:
      - Days for which M(pg_backup_retention) keeps the backup of a database that was restored and waits to be swapped
        in, 0 to 3650; C(hold-<database>.json) beside the backup says so. Needs O(environment) and the right to
        write there; without them a warning says that the backup is not held.
    type: int
    default: 0
  keep_failed:
    description:
      - Whether a database that could not be restored, or differs, is kept under its name, to be looked at. The next
        restore does not drop it.
      - One that was restored to its end and differs is kept in any case, as C(<database>_failed_<backup>), closed to
        others, for seven days or until another one differs.
    type: bool
    default: false
  scratch:
    description:
      - Whether the new database is dropped at the end, unless it differs. What remains is the proof.
    type: bool
    default: false
  without_extensions:
    description:
      - Extensions that the new database does without, with all that is theirs, such as V(pg_cron), which can be made in
        one database of a server only. A proof, and a copy of a Supabase project, does without them anyway.
    type: list
    elements: str
    default: []
  identity_file:
    description:
      - File with the secret key of C(age), for a backup that is encrypted with it. C(gpg) looks into its own key ring.
    type: path
  bindir:
    description:
      - Folder with PostgreSQL's client programs. The installed ones that fit best are used if unset.
    type: path
  deadline_s:
    description:
      - When the restore gives up, in seconds.
    type: int
    default: 14400
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_backups
  - runbook_backups.database
  - runbook_backups.clusters
attributes:
  check_mode:
    description: All checks run, and the result holds the plan of the real run. Nothing is written.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
notes:
  - Sessions of this module in the new database fire no event trigger, so no login trigger either; it has them, and
    those of everybody else do. PostgreSQL before 17 has neither login triggers nor the setting for it.
  - O(login_db) is the database that is connected to while the new one is made, as a rule V(postgres).
  - Needs a superuser, or a role with CREATEDB that is a member of every role that owns something in the backup.
  - What belongs to a database and not to its contents (owner, privileges, settings) is carried over by M(pg_swap).
  - The options of the server stay as they are; in its sessions the module turns off C(synchronous_commit) and raises
    C(maintenance_work_mem) to 256 MB.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Restore the latest backup beside the live database, and prove it
  pg_restore:
    login_host: db.example.com
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: postgres
    bucket: mental-scribe-backups
    region: eu-central-1
    prefix: production
    database: mental_scribe

- name: Restore what was there before the accident
  pg_restore:
    dsn: "{{ admin_dsn }}"
    bucket: mental-scribe-backups
    region: eu-central-1
    prefix: production
    database: mental_scribe
    before: "2026-11-23T09:40:00Z"
    target_database: mental_scribe_before_accident

- name: Prove the latest backup, and keep nothing but the proof
  pg_restore:
    dsn: "{{ scratch_dsn }}"
    bucket: mental-scribe-backups
    region: eu-central-1
    prefix: production
    database: mental_scribe
    scratch: true
    record_proof: true
    environment: production
"""

RETURN = r"""
msg:
  description: What was restored, and what the proof says.
  returned: always
  type: str
status:
  description: V(ok) if it was proven, V(unknown) if it was not compared, V(breach) if it failed or differs.
  returned: always
  type: str
backup_id:
  description: Name of the backup.
  returned: when a backup was found
  type: str
manifest_key:
  description: Its manifest.
  returned: when a backup was found
  type: str
database:
  description: Name of the database that was backed up.
  returned: when a backup was found
  type: str
target_database:
  description: Name of the new database.
  returned: when a backup was found
  type: str
snapshot_at:
  description: The moment whose contents the backup holds.
  returned: when a backup was found
  type: str
tables:
  description: Tables of the backup.
  returned: when a backup was found
  type: int
rows:
  description: Rows of the backup.
  returned: when a backup was found
  type: int
size_bytes:
  description: Bytes of the backup as it is stored.
  returned: when a backup was found
  type: int
restored_bytes:
  description: Bytes that were loaded, unpacked.
  returned: when something was loaded
  type: int
temporary_bytes:
  description: Size of the temporary file with the schema.
  returned: when something was loaded
  type: int
duration_s:
  description: Seconds in all.
  returned: when a backup was found
  type: float
rate_bytes_s:
  description: Unpacked bytes in a second, the proof included.
  returned: when something was loaded
  type: float
phases:
  description:
    - Seconds by phase, C(check), C(schema), C(data), C(indexes), C(proof). The proof's are those after the indexes.
  returned: when a backup was found
  type: dict
proof:
  description: The comparison. Null without one.
  returned: when a backup was found
  type: dict
  contains:
    status:
      description: V(ok), V(breach) or V(unknown).
      type: str
    compared:
      description: Comparisons that were made.
      type: int
    ok:
      description: Comparisons that agree.
      type: int
    differs:
      description: Tables that differ.
      type: list
      elements: str
    unknown:
      description: Tables that could not be compared.
      type: list
      elements: str
    reasons:
      description: Why, by table.
      type: dict
proof_key:
  description: Object that holds the proof. Null if none was written.
  returned: when a backup was found
  type: str
removed_databases:
  description: Databases that killed restores had left behind, and that were dropped, or would be.
  returned: when a backup was found
  type: list
  elements: str
left_out:
  description:
    - What the new database does without, and the backup holds or the database had, with the reason where there is one.
      On a server of one's own these are a Supabase project's extensions that act by themselves, event triggers, users
      of foreign servers, subscriptions; in a fresh project secrets, passwords, files, and policies that were refused.
  returned: when a backup was found
  type: list
  elements: str
to_arm:
  description: What was switched off, webhooks and scheduled jobs, as the statements that switch it on.
  returned: when a backup was found
  type: list
  elements: str
free_bytes:
  description: Room where the server keeps its data. Null where that cannot be known from here.
  returned: when a backup was found
  type: int
plan:
  description: What was to be done.
  returned: when a backup was found
  type: dict
  contains:
    streams:
      description: Data streams of the backup.
      type: int
    jobs:
      description: How many work at the same time.
      type: int
    client:
      description: Folder of the pg_restore that is used.
      type: str
    source_size_bytes:
      description: Size that the database had.
      type: int
executed_queries:
  description: SQL that ran, or would run, besides what C(pg_restore) sends.
  returned: when a backup was found
  type: list
  elements: str
"""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import proof as proof_driver
from ansible.module_utils.runbook.drivers.backup import restore as driver
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.drivers.supabase import project
from ansible.module_utils.runbook.errors import RunbookError, UnreachableError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import moment
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import backup_retention as retention
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import proof as proofs
from ansible.module_utils.runbook.rules.backup import restore as rules
from ansible.module_utils.runbook.rules.backup import restore_rights as rights
from ansible.module_utils.runbook.rules.backup.swap import Marker
from ansible.module_utils.runbook.rules.backup.tool_warnings import said_warnings
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.words import count, size, to_second

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest

#: Options whose value must lie between two bounds.
BOUNDS = {"jobs": (1, 64), "hold_days": (0, 3650), "deadline_s": (1, 604_800)}
#: Seconds between two looks at a database that a killed run may have left behind.
SECOND_LOOK_S = 1.0
CHECK_TIMEOUT_MS = 60_000


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        postgres.argument_spec()
        | s3.argument_spec()
        | {
            "prefix": {"type": "str", "default": ""},
            "database": {"type": "str", "required": True},
            "source_cluster": {"type": "str"},
            "previous_clusters": {"type": "list", "elements": "str", "default": []},
            "from_cluster": {"type": "str"},
            "backup": {"type": "str", "default": rules.LATEST},
            "before": {"type": "str"},
            "target_database": {"type": "str"},
            "jobs": {"type": "int", "default": 2},
            "prove": {"type": "bool", "default": True},
            "record_proof": {"type": "bool", "default": False},
            "environment": {"type": "str"},
            "hold_days": {"type": "int", "default": 0},
            "keep_failed": {"type": "bool", "default": False},
            "scratch": {"type": "bool", "default": False},
            "without_extensions": {"type": "list", "elements": "str", "default": []},
            "identity_file": {"type": "path"},
            "bindir": {"type": "path"},
            "deadline_s": {"type": "int", "default": 14400},
        }
    )


def check_options(params: dict[str, Any]) -> datetime | None:
    """Refuse options that mean nothing; the time that ``before`` names.

    :raises RunbookError: the first that is wrong
    """
    if not params["database"]:
        raise RunbookError("database: it is empty; name the database that was backed up.")
    if params["record_proof"] and not (params["prove"] and params["environment"]):
        raise RunbookError("record_proof: it needs prove, and the name of the environment in environment.")
    if params["scratch"] and params["keep_failed"]:
        raise RunbookError("scratch and keep_failed: both are set; set one of them.")
    if not params["before"]:
        return None
    return moment.read("before", params["before"])


def choose(context: Context, store: s3.Store, before: datetime | None, clusters: frozenset[str]) -> rules.Found:
    """Find the backup that is meant.

    :param clusters: those whose backup it may be; empty if that is not compared
    :raises RunbookError: there is none, or its manifest is not to be trusted
    """
    params = context.params
    home = bucket.home(store, manifests.database_folders(params["prefix"], params["database"]))
    return rules.choose(
        rules.Wanted(params["database"], params["backup"], before, clusters, params["from_cluster"] or ""),
        home, store.folders(home), read=lambda folder: bucket.manifest_text(store, folder), url=store.url,
        warn=context.warn,
    )  # fmt: skip


def look_around(session: postgres.Session, server: rules.Server, database: str) -> tuple[list[str], set[str]]:
    """Databases that killed restores of this one left behind, and those in which a run is at work."""
    marked = {
        name
        for name, comment in server.databases.items()
        if (marker := Marker.read(comment)) and marker.state == "restoring" and marker.database == database
    }
    busy = marked & driver.busy(session)
    if marked - busy:
        # Between the making of a database and the first session in it pass milliseconds.
        time.sleep(SECOND_LOOK_S)
        busy = marked & driver.busy(session)
    return sorted(marked - busy) + driver.abandoned(session), busy


class Evidence:
    """Writes beside the backup what became of its proof; :attr:`key` is the object that was written."""

    def __init__(
        self, context: Context, store: s3.Store, manifest: Manifest, *, folder: str, digest: str,
        server_version: int, clock: Clock,
    ) -> None:  # fmt: skip
        self.store, self.manifest, self.folder, self.clock = store, manifest, folder, clock
        self.run_id, self.digest, self.server_version = context.run.id or "", digest, server_version
        self.key: str | None = None

    def circumstances(self) -> dict[str, Any]:
        """What each proof says of the run that made it."""
        return {
            "now": datetime.now(UTC),
            "run_id": self.run_id,
            "server_version_num": self.server_version,
            "duration_s": self.clock.passed_s(),
            "manifest_sha256": self.digest,
        }

    def write(self, document: proofs.Document) -> str:
        """Write a proof; a sentence where that failed."""
        key = self.folder + proofs.name(datetime.fromisoformat(document.proven_at))
        try:
            self.store.put(key, document.to_bytes(), if_absent=True)
        except RunbookError as error:
            return f" The proof could not be written beside the backup: {error.message}"
        self.key = key
        return ""

    def write_failure(self, msg: str, *, is_damaged: bool) -> str:
        """Write that the proof came to no comparison; a sentence where that failed.

        :param is_damaged: whether that is the backup's fault, as far as can be told
        """
        status = Status.of(breach=is_damaged, unknown=True)
        return self.write(proofs.failed(self.manifest, msg, status=status, **self.circumstances()))


class Restore:
    """One restore, from the plan to the proof."""

    def __init__(
        self, context: Context, store: s3.Store, plan: rules.Plan, *, server: rules.Server, evidence: Evidence,
        clock: Clock, options: str, silent: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.context = context
        self.params = context.params
        self.store = store
        self.plan = plan
        self.manifest = plan.manifest
        #: Tables whose rows the new database gets.
        self.wanted = [each for each in self.manifest.tables if self.gets(each.schema, each.name)]
        self.server = server
        self.evidence = evidence
        self.clock = clock
        self.jobs = self.params["jobs"]
        self.target = postgres.Target.from_params(self.params)
        self.new = replace(self.target, database=plan.target).started_with(silent)
        self.decrypt = driver.decryption(self.manifest.tools.encryption, self.params["identity_file"])
        clients = driver.find_clients(self.params["bindir"], ssl_mode=self.target.ssl_mode)
        server_major = server.version // 10000
        dumped_by = rules.major(self.manifest.tools.pg_dump)
        #: Acts by itself or reaches other servers, and stays out of a copy.
        self.silenced = [name for name in plan.without if name in managed.EXTENSIONS]
        #: What of the definitions a user restores who is no superuser.
        self.selection: rights.Selection | None = None
        self.rights = rights.Rights(server.role, server.version, server.members_of, server.roles)
        self.client = rules.choose_client(clients, dumped_by=dumped_by, server=server_major)
        self.filler = driver.Filler(
            self.new,
            folder=self.client,
            client_version=clients[self.client],
            server_version=server.version,
            options=options,
            errors=lambda said: rules.said_errors(said) or managed.said_errors(said),
        )
        self.marker = Marker(
            "restoring", self.params["database"], self.now(), context.run.id or "", self.manifest.backup_id,
            without=", ".join([*self.manifest.without_rows, *self.silenced]),
        )  # fmt: skip
        self.queries: list[str] = []
        self.step = ""
        #: A session in the new database from before the first row.
        self.witness: postgres.Session | None = None
        self.loaded = self.temporary = 0
        self.proof: proofs.Proof | None = None
        self.removed: list[str] = []
        #: What the new database does without, in words.
        self.left_out: list[str] = [f"extension {name}" for name in plan.without]
        #: What is switched off in it, and the statements that switch it on.
        self.to_arm: list[str] = []

    @staticmethod
    def now() -> str:
        """The bastion's clock, for people who read the mark."""
        return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"

    def unpack(self, objects: Any) -> driver.Unpacked:
        """Objects of one stream, as pg_dump wrote them."""
        return driver.Unpacked(self.store, objects, self.filler.programs, self.decrypt)

    def check(self) -> None:
        """Stop at the deadline."""
        self.clock.check()

    def open(self, objects: Any) -> tuple[driver.Feed, driver.Program]:
        """A data stream, and the program that loads it."""
        source = self.unpack(objects)
        if not self.silenced:
            return source, self.filler.start("data", fed=True)
        sieve = managed.Sieve(
            lambda schema, table: "keep" if self.gets(schema, table) else "drop", sequences=None,
            server_version=self.server.version,
        )  # fmt: skip
        return self.sieved(source, sieve, objects), self.filler.start_sql()

    def sieved(self, source: driver.Unpacked, sieve: managed.Sieve, objects: Any) -> project.Sieved:
        """A data stream as SQL, without what does not go into this database."""
        where = self.store.url(objects[0].key)

        def explain(program: str, code: int | None, said: str) -> str:
            errors = [*rules.said_errors(said.splitlines()), f"{program} ended with {code}"]
            return f"{where} cannot be read: {errors[0]}; take another backup."

        return project.Sieved(source, sieve, self.filler.programs, self.filler.path("pg_restore"), explain)

    def entries(self, schema: Path) -> list[managed.Entry]:
        """What the archive of the definitions holds."""
        text = project.contents(self.filler.path("pg_restore"), schema)
        return managed.read_list(text, {each.schema for each in self.manifest.tables})

    def is_silent(self) -> bool:
        """Whether the copy is of what would act by itself."""
        return bool(self.silenced) or managed.is_platform(self.manifest.roles)

    def picked(self, schema: Path) -> Sequence[managed.Entry]:
        """What of the definitions a copy on another server gets."""
        entries = self.entries(schema)
        if not self.is_silent():
            return entries
        self.left_out += [each.name for each in entries if each.kind in managed.NOT_IN_COPIES]
        return managed.for_copy(entries, self.silenced)

    @staticmethod
    def listed(path: Path, entries: Sequence[managed.Entry]) -> str:
        """The word that makes pg_restore take these entries."""
        path.write_text("".join(f"{each.line}\n" for each in entries))
        return f"--use-list={path}"

    def survey(self, schema: Path) -> None:
        """See that a user who is no superuser may make what is to be restored, before anything is made.

        :param schema: file that the definitions are written to
        :raises RunbookError: it may not, with all that is in the way
        """
        if self.server.is_superuser:
            return
        self.fetch(schema)
        entries = self.picked(schema)
        self.selection, problems = rights.select(
            entries, self.rights, scratch=self.params["scratch"], without=self.plan.without
        )
        if problems:
            raise RunbookError(
                f"This backup cannot be restored here: {'; '.join(problems)}. Nothing was changed.", problems=problems
            )
        self.left_out += self.selection.left_out

    def look_at_definitions(self) -> None:
        """In a dry run: see that this user may make what is to be restored."""
        with driver.workspace() as folder:
            self.survey(folder / "schema.dump")

    def fetch(self, schema: Path) -> None:
        """Bring the definitions, unless they are here."""
        self.step = rules.DEFINITIONS
        if schema.exists():
            return
        self.temporary = driver.fetch(self.unpack([self.plan.schema]), schema, self.check)
        if self.temporary > rules.TEMPORARY_BYTES:
            self.context.warn(f"The schema takes {size(self.temporary)} in a temporary file.")

    def define(self, schema: Path) -> tuple[list[str], list[Any]]:
        """Make what comes before the data; the words for what comes after it, and what is to be taken back then."""
        if self.selection is None:
            words = [self.listed(schema.with_suffix(".list"), self.picked(schema))] if self.is_silent() else []
            self.filler.run("pre-data", *words, str(schema), check=self.check)
            return words, []
        first = self.listed(schema.with_suffix(".first"), self.selection.schemas)
        # Privileges are of no section of their own: pg_restore takes them for part of the one before them in the file.
        anywhere = ("--section=data", "--section=post-data")
        self.filler.run("pre-data", *anywhere, first, str(schema), check=self.check)
        with driver.connect(self.new, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            back = driver.let_make(session, rights.makers(self.selection.rest, self.server.role))
            self.queries += session.executed_queries
        words = [self.listed(schema.with_suffix(".list"), self.selection.rest)]
        self.filler.run("pre-data", *words, str(schema), check=self.check)
        return words, back

    def act(self) -> dict[str, Any]:
        """Make the database, fill it, prove it."""
        with driver.workspace() as folder:
            schema = folder / "schema.dump"
            try:
                self.survey(schema)
            except RunbookError as error:
                is_damaged = bool(error.context.pop("is_damaged", False))
                if self.params["record_proof"]:
                    error.message += self.evidence.write_failure(error.message, is_damaged=is_damaged)
                    error.context |= {"changed": self.evidence.key is not None}
                raise RunbookError(error.message, **(self.figures() | {"changed": False} | error.context)) from None
            return self.make(schema)

    def make(self, schema: Path) -> dict[str, Any]:
        """Make the database, fill it, prove it; all that can be seen before was looked at."""
        with driver.connect(self.target) as session:
            self.clear(session)
            driver.make_roles(session, self.plan.roles)
            driver.create(session, self.plan.target, self.manifest.source, self.marker)
            self.queries = session.executed_queries
        try:
            # The session in it shows others that a run is at work there, however long that takes.
            with driver.connect(self.new) as self.witness:
                self.fill(schema)
            self.judge()
        except driver.Failed as error:
            raise self.failure(
                RunbookError(
                    rules.explain(
                        error.said,
                        step=self.step,
                        target=self.plan.target,
                        without=sorted(set(self.plan.without) - set(self.silenced)),
                    ),
                    is_damaged=rules.is_of_backup(error.said),
                )
            ) from None
        except BaseException as error:
            raise self.failure(error) from None
        finally:
            for warning in said_warnings("\n".join(self.filler.programs.said)):
                self.context.warn(warning)
        return self.succeed()

    def clear(self, session: postgres.Session) -> None:
        """Drop what killed restores left behind; what cannot be dropped is said, and keeps nobody from restoring.

        :raises RunbookError: it has the very name that was asked for, or they have all names that are tried
        """
        for name in self.plan.leftovers:
            try:
                if driver.drop(session, name, self.server.databases.get(name) or ""):
                    self.removed.append(name)
            except RunbookError as error:
                if name == self.params["target_database"]:
                    raise
                self.context.warn(error.message)
        if self.plan.target in set(self.plan.leftovers) - set(self.removed):
            taken = driver.look(session).databases
            free = [name for name in rules.alternatives(self.plan.target) if name not in taken]
            if not free:
                raise RunbookError(
                    f"target_database: {self.plan.target!r} and its like are all there still; drop them."
                )
            self.aim(free[0])

    def aim(self, name: str) -> None:
        """Restore into a database of another name."""
        self.plan = replace(self.plan, target=name)
        self.new = replace(self.new, database=name)
        self.filler.aim(self.new)

    def fill(self, schema: Path) -> None:
        """Definitions, data, indexes; the proof runs beside the last data and the indexes."""
        self.fetch(schema)
        picked, back = self.define(schema)
        self.clock.lap("schema")
        self.step = "the data"
        streams = [objects for _, objects in sorted(self.manifest.data_streams().items())]
        method: Any = self.manifest.hash.method  # one that is not known is judged unknown
        coverage = self.manifest.hash.coverage
        with proof_driver.Early(lambda: driver.connect(self.new), method=method, coverage=coverage) as early:
            self.loaded = driver.fill(
                streams, self.open, jobs=self.jobs, check=self.check, on_bytes=self.tell_bytes,
                on_idle=early.start if self.params["prove"] else lambda: None,
            )  # fmt: skip
            self.clock.lap("data")
            self.step = "the indexes and constraints"
            finish = Finish(self, self.filler.start("post-data", f"--jobs={self.jobs}", *picked, str(schema)))
            if self.params["prove"]:
                found = proof_driver.read(
                    lambda: driver.connect(self.new), method=method, coverage=coverage, jobs=self.jobs,
                    check=finish.poll, on_bytes=self.tell_proof, early=early,
                )  # fmt: skip
                proof = self.compare(found)
                if proof.status == "breach":
                    self.look_for_crash()
                self.proof = proof
        finish.wait()
        if not self.params["prove"]:
            self.look_for_crash()
        if back:
            with driver.connect(self.new, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
                for statement in back:
                    session.execute(statement)
                self.queries += session.executed_queries
        if self.is_silent():
            self.disarm()
        self.clock.lap("proof" if self.params["prove"] else "statistics")

    def look_for_crash(self) -> None:
        """See that no crash of the server can have taken rows away again: data is loaded without synchronous_commit.

        :raises UnreachableError: the session was ended, as each one is by a crash
        """
        if self.witness and not driver.is_alive(self.witness):
            raise UnreachableError(
                f"{self.plan.target}: the server restarted, or ended the session that this restore keeps open, and a "
                "crash takes rows away that were loaded shortly before. Nothing is known of the backup; restore again."
            )

    def gets(self, schema: str, _table: str) -> bool:
        """Whether the new database gets the rows of a table."""
        return not any(schema in managed.EXTENSIONS.get(name, ()) for name in self.plan.without)

    def compare(self, found: proofs.Found) -> proofs.Proof:
        """Compare what was found with the manifest, but for what this database does not get."""
        proof = proofs.judge(*managed.narrowed(self.manifest, found, self.gets))
        why = {True: "which acts by itself", False: "which only a superuser can make"}
        left_out = [f"the extension {name}, {why[name in self.silenced]}" for name in self.plan.without]
        more = self.selection.left_out if self.selection else ()
        return replace(proof, missing=(*proof.missing, *left_out, *more))

    def disarm(self) -> None:
        """Switch off what would reach other servers from a copy."""
        with driver.connect(self.new, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            self.to_arm += managed.switched_off(project.disarm(session))
            self.queries += session.executed_queries

    def tell_bytes(self, done: int) -> None:
        """Tell how much data is loaded."""
        total = self.manifest.dump_bytes or None
        self.context.progress.update(f"restore {self.plan.target}", done, total, "bytes")

    def tell_proof(self, done: int, total: int) -> None:
        """Tell how much is compared."""
        self.context.progress.update(f"prove {self.plan.target}", done, total, "bytes")

    def judge(self) -> None:
        """Mark the database as what the proof says of it.

        :raises RunbookError: a table differs
        """
        state = "unproven"
        if self.proof is not None:
            if self.proof.status == "breach":
                unwritten = self.record(self.proof)
                raise RunbookError(f"{self.plan.target}: {self.proof.sentence()}{unwritten}")
            state = "proven" if self.proof.status == "ok" else "unproven"
        if not self.params["scratch"]:
            # One that is to be dropped stays marked as unfinished: if this run is killed now, the next one drops it.
            self.remark(state)

    def remark(self, state: Any) -> None:
        """Change the mark of the new database."""
        self.marker = replace(self.marker, state=state, at=self.now())
        with driver.connect(self.target, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            session.execute(driver.marking(self.plan.target, self.marker))
            self.queries += session.executed_queries
            if copies := driver.subscriptions(session, self.plan.target):
                self.context.warn(
                    f"{self.plan.target} has subscriptions, disabled: {', '.join(copies)}. The slots belong to the "
                    "database that it is a copy of: before one is dropped here, run ALTER SUBSCRIPTION … SET "
                    "(slot_name = NONE)."
                )

    def record(self, proof: proofs.Proof) -> str:
        """Write the proof beside the backup, if that was asked for; a sentence where it could not be written."""
        if not self.params["record_proof"]:
            return ""
        return self.evidence.write(proofs.document(proof, self.manifest, **self.evidence.circumstances()))

    def failure(self, error: BaseException) -> BaseException:
        """End what runs and drop the unfinished database; the error with what became of it."""
        self.filler.programs.kill()
        kept = ""
        if self.proof is not None and self.proof.status == "breach" and not self.params["keep_failed"]:
            kept = self.keep()
        if kept:
            left = (
                f"The copy is kept as {kept!r} for {rules.FAILED_DAYS} days, or until another one fails its proof; "
                "look at it, and drop it when you have seen enough."
            )
        elif self.params["keep_failed"]:
            left = f"Database {self.plan.target!r} is kept, marked as failed."
            try:
                self.remark("failed")
            except Exception:
                # The first error is the one that counts.
                left = f"Database {self.plan.target!r} is left unfinished; the next restore drops it."
        else:
            left = driver.drop_patiently(self.target, self.plan.target, str(self.marker))
            left = left or f"The unfinished database {self.plan.target!r} was dropped."
            self.drop_roles()
        if isinstance(error, RunbookError):
            is_damaged = bool(error.context.pop("is_damaged", False))
            if self.params["record_proof"] and not self.evidence.key:
                left += self.evidence.write_failure(error.message, is_damaged=is_damaged)
            changed = bool(self.removed or kept or self.params["keep_failed"] or self.evidence.key)
            return RunbookError(f"{error.message} {left}", **(self.figures() | {"changed": changed} | error.context))
        return error

    def keep(self) -> str:
        """Keep a copy that differs, under a name that says so, in place of an earlier one.

        :returns: the name; empty where that was not possible
        """
        names = list(rules.alternatives(rules.failed_name(self.params["database"], self.manifest.backup_id)))
        marker = replace(self.marker, state="failed", at=self.now())
        earlier = rules.failed_copies(self.server.databases, self.params["database"])
        kept = driver.keep(self.target, self.plan.target, names, marker, earlier)
        if kept is None:
            return ""
        self.removed += kept[1]
        return kept[0]

    def drop_roles(self) -> None:
        """Drop the roles that this database, which is gone, needed; what cannot be dropped now, the next run drops."""
        driver.drop_roles(self.target)

    def succeed(self) -> dict[str, Any]:
        """The result of a restore that came to its end.

        :raises RunbookError: a proof was asked for, and could not be made or written
        """
        self.context.progress.update(f"restore {self.plan.target}", self.loaded, self.loaded, "bytes", final=True)
        words = "It was not compared with the backup." if self.proof is None else self.proof.sentence()
        # A proof that is ok has named the extensions, which come first.
        named = len(self.plan.without) + len(self.selection.left_out if self.selection else ())
        named = named if self.proof is not None and self.proof.status == "ok" else 0
        words += managed.sentence(self.left_out[named:], [] if self.params["scratch"] else self.to_arm)
        unwritten = self.record(self.proof) if self.proof is not None else ""
        words += unwritten
        figures = self.figures()
        message = rules.sentence(
            self.plan, tables=figures["tables"], rows=figures["rows"], dump_bytes=self.loaded,
            duration_s=self.clock.passed_s(), proof=words,
        )  # fmt: skip
        if self.params["scratch"]:
            left = driver.drop_patiently(self.target, self.plan.target, str(self.marker))
            if left:
                raise RunbookError(f"{message} {left}", **(figures | {"changed": True}))
            message += f" {self.plan.target} was dropped again, as asked."
            self.drop_roles()
        if self.proof is not None and self.proof.status != "ok":
            raise RunbookError(message, **(figures | {"changed": True, "status": "unknown"}))
        if unwritten:
            raise RunbookError(message, **(figures | {"changed": True}))
        return figures | {"changed": True, "status": "ok" if self.proof else "unknown", "msg": message}

    def figures(self) -> dict[str, Any]:
        """The result, but for its sentence."""
        manifest, proof, duration_s = self.manifest, self.proof, self.clock.passed_s()
        said = None
        if proof is not None:
            said = {
                "status": proof.status,
                "compared": len(proof.tables),
                "ok": len(proof.named("ok")),
                "differs": proof.named("differs"),
                "unknown": proof.named("unknown"),
                "reasons": {each.table: each.reason for each in proof.tables if each.reason},
            }
        shown = {"diff": {"prepared": rules.describe(self.plan, self.jobs)}} if self.context.diff else {}
        return shown | {
            "backup_id": manifest.backup_id,
            "manifest_key": self.plan.folder + manifests.MANIFEST_NAME,
            "database": self.params["database"],
            "target_database": self.plan.target,
            "snapshot_at": manifest.source.snapshot_at,
            "tables": len(self.wanted),
            "rows": sum(each.rows or 0 for each in self.wanted),
            "size_bytes": manifest.size_bytes,
            "restored_bytes": self.loaded,
            "temporary_bytes": self.temporary,
            "duration_s": round(duration_s, 3),
            "rate_bytes_s": round(self.loaded / duration_s, 1),
            "phases": self.clock.phases,
            "proof": said,
            "proof_key": self.evidence.key,
            "removed_databases": self.removed,
            "left_out": self.left_out,
            "to_arm": self.to_arm,
            "free_bytes": self.server.free_bytes,
            "plan": {
                "streams": len(manifest.data_streams()),
                "jobs": self.jobs,
                "client": self.client,
                "source_size_bytes": manifest.source.size_bytes,
            },
            "executed_queries": self.queries,
        }

    def tell(self, session: postgres.Session) -> dict[str, Any]:
        """The result where nothing is done: check mode, or it was done before."""
        if self.plan.done_at:
            message = (
                f"{self.plan.target} was restored from {self.manifest.backup_id} and proven at "
                f"{to_second(str(self.plan.done_at))}; "
                "nothing to do."
            )
            return self.figures() | {"changed": False, "status": "ok", "msg": message}
        self.look_at_definitions()
        self.removed = list(self.plan.leftovers)
        first, rest = driver.creation(session, self.plan.target, self.manifest.source, self.marker)
        self.queries = [session.render(each) for each in [first, *rest]]
        message = (
            f"Would restore {self.params['database']} as of {to_second(self.manifest.source.snapshot_at)} into "
            f"{self.plan.target}: "
            f"{count(len(self.wanted), 'table')}, {size(self.manifest.size_bytes)} as stored."
        )
        return self.figures() | {"changed": True, "status": "ok", "msg": message}


class IntoProject(Restore):
    """A restore into a fresh project of a managed platform: one transaction in a database that is there."""

    def __init__(self, *args: Any, project_found: managed.Project, **more: Any) -> None:
        self.found = project_found
        super().__init__(*args, **more)
        self.sieve = managed.Sieve(
            lambda schema, table: managed.rows_go(schema, table, project_found),
            sequences=project_found.sequences,
            server_version=self.server.version,
        )

    def act(self) -> dict[str, Any]:
        """Fill the database, all or nothing, and prove it."""
        leash = threading.Timer(max(self.clock.left_s(), 0), self.filler.programs.kill)
        leash.daemon = True
        leash.start()
        try:
            with driver.workspace() as folder:
                self.fill(folder / "schema.dump")
        except driver.Failed as error:
            # The last answer may have been lost, and not the work.
            if not self.is_committed():
                try:
                    self.clock.check()
                except RunbookError as late:
                    raise self.untouched(late) from None
                said = rules.explain(error.said, step=self.step, target=self.plan.target)
                raise self.untouched(RunbookError(said)) from None
        except RunbookError as error:
            raise self.untouched(error) from None
        finally:
            leash.cancel()
            self.filler.programs.kill()
        if self.params["prove"]:
            self.prove()
        self.judge()
        return self.succeed()

    def is_committed(self) -> bool:
        """Whether the transaction came to its end, by the mark that it made last."""
        with driver.connect(self.target, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            return driver.look(session).databases.get(self.plan.target) == str(self.marker)

    def untouched(self, error: RunbookError) -> RunbookError:
        """The error of a transaction that was rolled back."""
        error.context.pop("is_damaged", None)
        return RunbookError(
            f"{error.message} {self.plan.target!r} is as it was before.",
            **(self.figures() | {"changed": False} | error.context),
        )

    def fill(self, schema: Path) -> None:
        """Roles, definitions, rows, what was added to the platform's tables, jobs."""
        # What is handed to psql is run some time later, so a failure cannot be told to be of one part of it.
        self.step = "the definitions and rows"
        self.temporary = driver.fetch(self.unpack([self.plan.schema]), schema, self.check)
        chosen = managed.for_project(self.entries(schema), self.found)
        roles = self.roles()
        script = project.Script(self.filler, server_version=self.server.version)
        for statement in (*roles.made, *project.before()):
            script.run(statement)
        definitions = script.definitions("pre-data", schema, chosen.kept)
        script.write(definitions)
        self.clock.lap("schema")
        script.run(project.LOADING)
        for objects in (found for _, found in sorted(self.manifest.data_streams().items())):
            source = self.sieved(self.unpack(objects), self.sieve, objects)
            done = self.loaded
            while piece := source.read():
                script.write(piece)
                self.loaded = done + source.bytes_read
                self.tell_bytes(self.loaded)
                self.check()
        self.clock.lap("data")
        script.run(project.LOADED)
        script.write(script.definitions("post-data", schema, chosen.kept))
        tried: dict[str, str] = {}
        webhooks = []
        for each in chosen.added:
            definition = script.definitions("post-data", schema, [each])
            if managed.calls_out(definition.decode(), definitions.decode()):
                webhooks.append(f"{each.name}, a webhook, which could not be switched off there")
            else:
                tried[script.try_(definition)] = each.name
        if ("cron", "job") in self.sieve.held:
            tried[script.try_(project.JOBS)] = "jobs of pg_cron"
        for statement in (*project.after(), *roles.undone):
            script.run(statement)
        of_database = script.definitions("pre-data", schema, []).decode()
        self.marker = replace(self.marker, state="unproven", at=self.now())
        with driver.connect(self.new, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
            own = managed.settings(of_database, database=project.quoted(session, self.plan.target))
            for name, statement in [*roles.tried, *own]:
                tried[script.try_(statement)] = name
            script.run(f"{session.render(driver.marking(self.plan.target, self.marker))};")
        said = script.finish()
        self.clock.lap("indexes")
        self.to_arm = managed.switched_off(said)
        self.left_out += [
            *(f"{tried[label]} ({why})" for label, why in managed.refused(said).items()),
            *managed.missing(self.manifest, self.found, self.sieve.held),
            *webhooks,
            *(each.name for each in chosen.left_out),
            *managed.not_brought(said),
            *roles.listed,
        ]

    def roles(self) -> managed.Roles:
        """Roles of one's own, from the backup."""
        stored = self.manifest.one("globals")
        if stored is None:
            return managed.Roles(listed=["roles of one's own: the backup holds none"])
        pieces, source = [], self.unpack([stored])
        while piece := source.read():
            pieces.append(piece)
        return managed.roles(b"".join(pieces).decode(), self.found)

    def gets(self, schema: str, table: str) -> bool:
        """Whether the project gets the rows of a table; it has its own of some."""
        return managed.rows_go(schema, table, self.found) == "keep"

    def prove(self) -> None:
        """Compare what is there now with the backup."""
        method: Any = self.manifest.hash.method  # one that is not known is judged unknown
        found = proof_driver.read(
            lambda: driver.connect(self.new), method=method, coverage=self.manifest.hash.coverage, jobs=self.jobs,
            check=self.check, on_bytes=self.tell_proof,
        )  # fmt: skip
        self.proof = self.compare(found)
        with driver.connect(self.new, statement_timeout_ms=self.clock.left_ms()) as session:
            driver.analyze(session)
        self.clock.lap("proof")

    def judge(self) -> None:
        """Mark the database as what the proof says of it; it is kept in any case."""
        is_proven = self.proof is not None and self.proof.status == "ok"
        self.remark("proven" if is_proven else "unproven")
        if self.proof is not None and self.proof.status == "breach":
            unwritten = self.record(self.proof)
            raise RunbookError(
                f"{self.plan.target}: {self.proof.sentence()}{unwritten} It is not what was backed up; make a new "
                "project, and take another backup.",
                **(self.figures() | {"changed": True}),
            )

    def look_at_definitions(self) -> None:
        """A project's owner restores what is not the platform's; the plan has looked at that."""

    def tell(self, session: postgres.Session) -> dict[str, Any]:
        """The result where nothing is done: check mode, or it was done before."""
        said = super().tell(session)
        if not self.plan.done_at:
            # The database is there: none is made.
            said |= {"executed_queries": []}
        return said


class Finish:
    """What goes on beside the proof: indexes and constraints, then statistics for the planner."""

    def __init__(self, restore: Restore, indexes: driver.Program) -> None:
        self._restore = restore
        self._indexes = indexes
        self._analyze: threading.Thread | None = None
        self._error: Exception | None = None

    def poll(self) -> None:
        """See what has ended, and start what comes next.

        :raises Failed: an index or constraint could not be made
        """
        self._restore.check()
        if self._analyze is None and self._indexes.is_done():
            self._restore.clock.lap("indexes")
            self._analyze = threading.Thread(target=self._gather, daemon=True)
            self._analyze.start()

    def _gather(self) -> None:
        left_ms = self._restore.clock.left_ms()
        try:
            with driver.connect(self._restore.new, statement_timeout_ms=left_ms) as session:
                driver.analyze(session)
        except Exception as error:
            self._error = error

    def wait(self) -> None:
        """Wait for the end of all of it."""
        while self._analyze is None or self._analyze.is_alive():
            self.poll()
            time.sleep(0.05)
        if self._error is not None:
            raise self._error


def into_project(
    context: Context, store: s3.Store, manifest: Manifest, folder: str, *, server: rules.Server, evidence: Evidence,
    clock: Clock,
) -> dict[str, Any]:  # fmt: skip
    """Restore the backup of a project into a fresh project, whose database is there and stays.

    :raises RunbookError: the project is not fresh, or an option means nothing there
    """
    params = context.params
    for option in ("scratch", "keep_failed"):
        if params[option]:
            raise RunbookError(
                f"{option}: this server is a managed project, whose database cannot be dropped and recreated; prove "
                "the backup on a PostgreSQL server of your own."
            )
    name = params["target_database"] or manifest.source.database
    if name not in server.databases:
        raise RunbookError(
            f"target_database: {name!r} is not there, and a managed project has the one database that it came with; "
            "name that, as a rule postgres."
        )
    target = replace(postgres.Target.from_params(params), database=name)
    with driver.connect(target, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
        permits.require_unfrozen(session)
        found = project.look(session)
        plan = rules.plan_project(manifest, server, found, folder=folder, target=name)
        for warning in plan.warnings:
            context.warn(warning)
        wrong = rules.wrong_objects(manifest, driver.sizes(store, manifest))
        if wrong:
            raise RunbookError(f"The backup {store.url(folder)} is damaged: {'; '.join(wrong)}; take another one.")
        restore = IntoProject(
            context, store, plan, server=server, evidence=evidence, clock=clock, project_found=found, silent={},
            options=session.tool_options(**driver.FILLING),
        )  # fmt: skip
        clock.lap("check")
        if context.check_mode or plan.done_at:
            return restore.tell(session)
    return restore.act()


def core(context: Context) -> dict[str, Any]:
    """Restore a backup."""
    params = context.params
    context.require_bounds(BOUNDS)
    before = check_options(params)
    target = postgres.Target.from_params(params)
    clock = Clock(params["deadline_s"])
    store = s3.Store.from_params(params, connections=params["jobs"] + 2)
    if params["record_proof"]:
        permits.require_bucket(context.run, store, params["environment"])
    with driver.connect(target, statement_timeout_ms=CHECK_TIMEOUT_MS) as session:
        permits.require_database(context.run, session, database="")
        # A proof has a server of its own, so that one says nothing about the backup.
        own = params["source_cluster"] or ("" if params["scratch"] else session.system_identifier())
        clusters = origins.accepted(own, params["previous_clusters"] if own else [])
        manifest, folder, digest = choose(context, store, before, clusters)
        name = rules.target_name(
            params["target_database"],
            database=params["database"],
            backup_id=manifest.backup_id,
            scratch=params["scratch"],
        )
        server = driver.look(session)
        evidence = Evidence(
            context, store, manifest, folder=folder, digest=digest, server_version=server.version, clock=clock
        )
        if server.is_project and managed.is_platform(manifest.roles):
            return into_project(context, store, manifest, folder, server=server, evidence=evidence, clock=clock)
        leftovers, busy = look_around(session, server, params["database"])
        leftovers += rules.failed_copies(server.databases, params["database"], now=datetime.now(UTC))
        try:
            plan = rules.plan(
                manifest, server, folder=folder, target=name, leftovers=leftovers, busy=busy, scratch=params["scratch"],
                without_extensions=params["without_extensions"], is_named=bool(params["target_database"]),
            )  # fmt: skip
            for warning in plan.warnings:
                context.warn(warning)
            wrong = rules.wrong_objects(manifest, driver.sizes(store, manifest))
            if wrong:
                raise RunbookError(
                    f"The backup {store.url(folder)} is damaged: {'; '.join(wrong)}; take another one.", is_damaged=True
                )
        except RunbookError as error:
            is_damaged = bool(error.context.pop("is_damaged", False))
            if params["record_proof"] and not context.check_mode:
                error.message += evidence.write_failure(error.message, is_damaged=is_damaged)
                error.context |= {"changed": evidence.key is not None, "proof_key": evidence.key}
            raise
        silent = postgres.silencing(session)
        restore = Restore(
            context, store, plan, server=server, evidence=evidence, clock=clock, silent=silent,
            options=session.tool_options(**driver.FILLING, **silent),
        )  # fmt: skip
        clock.lap("check")
        if context.check_mode or plan.done_at:
            return restore.tell(session)
    hold(context, store, folder, name)
    return restore.act()


def hold(context: Context, store: s3.Store, folder: str, target: str) -> None:
    """Keep the backup until the new database may have been swapped in; before the restore, which may last for hours."""
    params = context.params
    if not params["hold_days"] or params["scratch"]:
        return
    try:
        if not params["environment"]:
            raise RunbookError("environment: it is empty.")
        # What is restored from may be another bucket than the inventory's: the copy in a second region.
        permits.require_environment(context.run, params["environment"])
        store.require_environment(params["environment"])
        until = bucket.clock(store) + timedelta(days=params["hold_days"])
        made = retention.Hold(f"{target} was restored from it", until.isoformat(), context.run.id or "")
        store.put(folder + retention.hold_name(target), made.to_bytes())
    except RunbookError as error:
        context.warn(
            f"The backup is not held, so retention may delete it before {target} is swapped in. {error.message}"
        )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_restore", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
