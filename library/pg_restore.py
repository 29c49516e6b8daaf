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
  - A backup of a Supabase project can be restored on any server by a superuser. Roles of the platform that are missing
    are made there without login, and dropped again with a database that was made for O(scratch) alone. What acts by
    itself or reaches other servers stays out of it. Into a Supabase project M(pg_restore_project) restores it, and this
    module refuses.
options:
  source_cluster:
    description:
      - The cluster that the backup must be of. By default the one that is restored to; with O(scratch=true) it is not
        compared then, since a proof has a server of its own.
    type: str
  target_database:
    description:
      - Name of the new database. C(<database>_restore_<backup>) if unset, with O(scratch=true)
        C(<database>_proof_<backup>).
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
  hold_days:
    description:
      - Days for which M(pg_backup_retention) keeps the backup of a database that was restored and waits to be swapped
        in, 0 to 3650; C(hold-<database>.json) beside the backup says so. It is written when the database is being
        made, and goes again where none stays. Needs O(environment) and the rights to write and to delete there; a
        warning says what could not be done.
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
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_backups
  - runbook_backups.database
  - runbook_backups.clusters
  - runbook_restores
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
      Of a Supabase project these are extensions that act by themselves, event triggers, users of foreign servers,
      subscriptions.
  returned: when a backup was found
  type: list
  elements: str
to_arm:
  description: Webhooks that were switched off, as the statements that switch them on.
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

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import new_database
from ansible.module_utils.runbook.drivers.backup import proof as proof_driver
from ansible.module_utils.runbook.drivers.backup import restore as driver
from ansible.module_utils.runbook.drivers.backup.dump import Dump
from ansible.module_utils.runbook.drivers.backup.evidence import Evidence
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import backup_retention as retention
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import restore as rules
from ansible.module_utils.runbook.rules.backup import restore_rights as rights
from ansible.module_utils.runbook.rules.backup.defects import DAMAGED
from ansible.module_utils.runbook.rules.backup.swap import Marker, State
from ansible.module_utils.runbook.rules.backup.tool_warnings import said_warnings
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase import managed
from ansible.module_utils.runbook.rules.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest

#: Options whose value must lie between two bounds.
BOUNDS = {"jobs": (1, 64), "hold_days": (0, 3650), "deadline_s": (1, 604_800)}


@dataclass
class Restore:
    """One restore, from its plan to its proof."""

    context: Context
    clock: Clock
    server: rules.Server
    evidence: Evidence
    outcome: rules.Outcome
    database: new_database.NewDatabase
    filler: driver.Filler
    dump: Dump
    #: What it is at, for the sentence where it fails.
    step: str = ""
    #: What of the definitions is restored; None where all of them are.
    selection: rights.Selection | None = None
    #: Who must be let make objects meanwhile: schema and role.
    makers: Sequence[tuple[str, str]] = ()
    #: Databases of killed restores that were dropped.
    removed: list[str] = field(default_factory=list)

    @property
    def params(self) -> dict[str, Any]:
        """Options."""
        return self.context.params

    @property
    def plan(self) -> rules.Plan:
        """What is restored, and where to."""
        return self.outcome.plan

    @property
    def manifest(self) -> Manifest:
        """The backup's."""
        return self.plan.manifest

    @property
    def is_silent(self) -> bool:
        """Whether the copy is of what would act by itself."""
        return bool(self.plan.silenced) or managed.is_platform(self.manifest.roles)

    def select(self, schema: Path) -> None:
        """See what of the definitions is restored, and that this user may make it, before anything is made.

        :param schema: file that the definitions are written to
        :raises RunbookError: it may not, with all that is in the way
        """
        server, plan = self.server, self.plan
        if server.is_superuser and not self.is_silent:
            return
        self.fetch(schema)
        entries = managed.read_list(self.dump.contents(schema), {each.schema for each in self.manifest.tables})
        if self.is_silent:
            self.outcome.left_out += [each.name for each in entries if each.kind in managed.NOT_IN_COPIES]
            entries = managed.for_copy(entries, plan.silenced)
        if server.is_superuser:
            self.selection = rights.Selection((), entries, ())
            return
        able = rights.Rights(server.role, server.version, server.members_of, server.roles, server.superusers)
        self.selection, problems = rights.select(entries, able, scratch=self.params["scratch"], without=plan.without)
        if problems:
            raise RunbookError(
                f"This backup cannot be restored here: {'; '.join(problems)}. Nothing was changed.", problems=problems
            )
        self.makers = rights.makers(self.selection.rest, server.role)
        self.outcome.not_proven += self.selection.left_out

    def fetch(self, schema: Path) -> None:
        """Bring the definitions, unless they are here."""
        self.step = rules.DEFINITIONS
        is_new = not schema.exists()
        self.outcome.temporary_bytes = self.dump.fetch(self.plan.schema, schema, self.clock.check)
        if is_new and self.outcome.temporary_bytes > rules.TEMPORARY_BYTES:
            self.context.warn(f"The schema takes {size(self.outcome.temporary_bytes)} in a temporary file.")

    def act(self) -> dict[str, Any]:
        """Make the database, fill it, prove it."""
        with driver.workspace() as folder:
            schema = folder / "schema.dump"
            try:
                self.select(schema)
            except (RunbookError, driver.Failed) as failed:
                error = self.explained(failed)
                unwritten = self.evidence.record_failure(error)
                said = self.figures() | {"changed": self.evidence.key is not None} | error.context
                raise RunbookError(error.message + unwritten, **said) from None
            return self.make(schema)

    def explained(self, error: RunbookError | driver.Failed) -> RunbookError:
        """What a program said of its end, as an error."""
        if isinstance(error, RunbookError):
            return error
        refused = sorted(set(self.plan.without) - set(self.plan.silenced))
        said = rules.explain(error.said, step=self.step, target=self.plan.target, without=refused)
        return RunbookError(said, **({"code": DAMAGED} if rules.is_of_backup(error.said) else {}))

    def make(self, schema: Path) -> dict[str, Any]:
        """Make the database, fill it, prove it; all that can be seen before was looked at."""
        try:
            with driver.connect(self.database.admin) as session:
                self.clear(session)
                self.hold()
                new_database.make_roles(session, self.plan.roles)
                self.database.make(session, self.manifest.source)
        except BaseException:
            self.settle_hold()
            raise
        try:
            with self.database.watched():
                self.fill(schema)
            self.judge()
        except driver.Failed as error:
            raise self.failure(self.explained(error)) from None
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
        self.removed += new_database.clear(
            session, {name: self.server.databases.get(name) or "" for name in self.plan.leftovers},
            needed=self.params["target_database"], warn=self.context.warn,
        )  # fmt: skip
        target = self.plan.target
        if target in set(self.plan.leftovers) - set(self.removed):
            taken = driver.look(session).databases
            free = [name for name in rules.alternatives(target) if name not in taken]
            if not free:
                raise RunbookError(f"target_database: {target!r} and its like are all there still; drop them.")
            self.outcome.plan = replace(self.plan, target=free[0])
            self.database.name = free[0]
            self.filler.aim(self.database.target)

    def fill(self, schema: Path) -> None:
        """Definitions, data, indexes; the proof runs beside the last data and the indexes."""
        self.fetch(schema)
        picked, back = new_database.define(
            self.database, self.filler, schema, self.selection, self.makers, self.clock.check
        )
        self.clock.lap("schema")
        self.step = "the data"
        streams = [objects for _, objects in sorted(self.manifest.data_streams().items())]
        sessions, jobs, prove = self.database.connect, self.params["jobs"], self.params["prove"]
        method: Any = self.manifest.hash.method  # one that is not known is judged unknown
        coverage = self.manifest.hash.coverage
        script_filter = partial(self.plan.script_filter, self.server.version)
        with proof_driver.Early(sessions, method=method, coverage=coverage) as early:
            self.outcome.restored_bytes = driver.fill(
                streams, lambda objects: self.dump.start(objects, script_filter()), jobs=jobs, check=self.clock.check,
                on_bytes=self.tell_bytes, on_idle=early.start if prove else lambda: None,
            )  # fmt: skip
            self.clock.lap("data")
            self.step = "the indexes and constraints"
            indexes = self.filler.start("post-data", f"--jobs={jobs}", *picked, str(schema))
            finish = new_database.Finish(self.database, indexes, self.clock)
            if prove:
                found = proof_driver.read(
                    sessions, method=method, coverage=coverage, jobs=jobs, check=finish.poll,
                    on_bytes=self.tell_proof, early=early,
                )  # fmt: skip
                proof = self.plan.compare(found, self.selection.left_out if self.selection else ())
                if proof.status is Status.BREACH:
                    self.database.look_for_crash()
                self.outcome.proof = proof
        finish.wait()
        if not prove:
            self.database.look_for_crash()
        self.database.run(back)
        if self.is_silent:
            self.outcome.to_arm += managed.switched_off(self.database.disarm())
        self.clock.lap("proof" if prove else "statistics")

    def tell_bytes(self, done: int) -> None:
        """Tell how much data is loaded."""
        self.context.progress.update(f"restore {self.plan.target}", done, self.manifest.dump_bytes or None, "bytes")

    def tell_proof(self, done: int, total: int) -> None:
        """Tell how much is compared."""
        self.context.progress.update(f"prove {self.plan.target}", done, total, "bytes")

    def judge(self) -> None:
        """Mark the database as what the proof says of it.

        :raises RunbookError: a table differs
        """
        proof = self.outcome.proof
        if proof is not None and proof.status is Status.BREACH:
            unwritten = self.evidence.record(proof)
            raise RunbookError(f"{self.plan.target}: {proof.sentence()}{unwritten}")
        if not self.params["scratch"]:
            # One that is to be dropped stays marked as unfinished: if this run is killed now, the next one drops it.
            self.mark("proven" if proof is not None and proof.status is Status.OK else "unproven")

    def mark(self, state: State) -> None:
        """Change the mark of the new database."""
        if copies := self.database.mark(state):
            self.context.warn(
                f"{self.plan.target} has subscriptions, disabled: {', '.join(copies)}. The slots belong to the "
                "database that it is a copy of: before one is dropped here, run ALTER SUBSCRIPTION … SET (slot_name = "
                "NONE)."
            )

    def failure(self, error: BaseException) -> BaseException:
        """End what runs and drop the unfinished database; the error with what became of it."""
        self.filler.programs.kill()
        proof, kept = self.outcome.proof, ""
        if proof is not None and proof.status is Status.BREACH and not self.params["keep_failed"]:
            kept = self.keep()
        if kept:
            left = (
                f"The copy is kept as {kept!r} for {rules.FAILED_DAYS} days, or until another one fails its proof; "
                "look at it, and drop it when you have seen enough."
            )
        elif self.params["keep_failed"]:
            left = f"Database {self.plan.target!r} is kept, marked as failed."
            try:
                self.mark("failed")
            except Exception:
                # The first error is the one that counts.
                left = f"Database {self.plan.target!r} is left unfinished; the next restore drops it."
        else:
            left = self.database.drop() or f"The unfinished database {self.plan.target!r} was dropped."
        self.settle_hold(kept or (self.plan.target if self.params["keep_failed"] else ""))
        if not isinstance(error, RunbookError):
            return error
        left += self.evidence.record_failure(error)
        changed = bool(self.removed or kept or self.params["keep_failed"] or self.evidence.key)
        return RunbookError(f"{error.message} {left}", **(self.figures() | {"changed": changed} | error.context))

    def keep(self) -> str:
        """Keep a copy that differs, under a name that says so, in place of an earlier one.

        :returns: the name; empty where that was not possible
        """
        database = self.params["database"]
        names = list(rules.alternatives(rules.failed_name(database, self.manifest.backup_id)))
        kept = self.database.keep(names, rules.failed_copies(self.server.databases, database))
        if kept is None:
            return ""
        self.removed += kept[1]
        return kept[0]

    def succeed(self) -> dict[str, Any]:
        """The result of a restore that came to its end.

        :raises RunbookError: a proof was asked for, and could not be made or written
        """
        outcome, done, is_scratch = self.outcome, self.outcome.restored_bytes, self.params["scratch"]
        self.settle_hold(self.plan.target)
        self.context.progress.update(f"restore {self.plan.target}", done, done, "bytes", final=True)
        unwritten = self.evidence.record(outcome.proof)
        figures = self.figures()
        message = outcome.sentence(self.clock.passed_s(), is_kept=not is_scratch) + unwritten
        if is_scratch:
            if left := self.database.drop():
                raise RunbookError(f"{message} {left}", **(figures | {"changed": True}))
            message += f" {self.plan.target} was dropped again, as asked."
        return outcome.conclude(message, figures, unwritten=unwritten)

    def figures(self) -> dict[str, Any]:
        """The result, but for its sentence."""
        shown = {"diff": {"prepared": rules.describe(self.plan, self.params["jobs"])}} if self.context.diff else {}
        passed_s, phases = self.clock.passed_s(), self.clock.phases
        return (
            shown
            | self.outcome.figures(duration_s=passed_s, phases=phases, proof_key=self.evidence.key)
            | {
                "removed_databases": self.removed,
                "free_bytes": self.server.free_bytes,
                "executed_queries": self.database.queries,
            }
        )

    def tell(self, session: postgres.Session) -> dict[str, Any]:
        """The result where nothing is done: check mode, or it was done before."""
        if not self.plan.done_at:
            with driver.workspace() as folder:
                self.select(folder / "schema.dump")
            self.removed = list(self.plan.leftovers)
            first, rest = new_database.creation(session, self.plan.target, self.manifest.source, self.database.marker)
            drops = [new_database.dropping(name) for name in self.removed]
            self.database.queries = [session.render(each) for each in [*drops, first, *rest]]
        changed, msg = not self.plan.done_at, self.outcome.sentence_of_plan()
        return self.figures() | {"changed": changed, "msg": msg}

    def hold(self) -> None:
        """Keep the backup until the new database may have been swapped in; it is needed for hours before, too."""
        params, target = self.params, self.plan.target
        if not params["hold_days"] or params["scratch"]:
            return
        try:
            name, days = retention.hold_name(target), params["hold_days"]
            self.evidence.hold(self.context.run, params["environment"], name, target, days=days)
        except RunbookError as error:
            self.context.warn(
                f"The backup is not held, so retention may delete it before {target} is swapped in. {error.message}"
            )

    def settle_hold(self, made: str = "") -> None:
        """The hold says what was made, or goes again where nothing was."""
        try:
            self.evidence.settle_hold(made)
        except RunbookError as error:
            self.context.warn(f"The backup is still held as one that is being restored from. {error.message}")


def make_plan(
    context: Context, session: postgres.Session, store: s3.Store, found: rules.Found, server: rules.Server
) -> rules.Plan:
    """What is to be done.

    :raises RunbookError: it cannot be done
    """
    params, manifest = context.params, found.manifest
    leftovers, busy = new_database.left_behind(session, server.databases, params["database"])
    leftovers += rules.failed_copies(server.databases, params["database"], now=datetime.now(UTC))
    name, scratch = params["target_database"], params["scratch"]
    target = rules.target_name(name, database=params["database"], backup_id=manifest.backup_id, scratch=scratch)
    plan = rules.plan(
        manifest, server, folder=found.folder, target=target, leftovers=leftovers, busy=busy, scratch=scratch,
        without_extensions=params["without_extensions"], is_named=bool(name),
    )  # fmt: skip
    for warning in plan.warnings:
        context.warn(warning)
    if damage := rules.damage(manifest, driver.sizes(store, manifest), where=store.url(found.folder)):
        raise RunbookError(damage, code=DAMAGED)
    return plan


def core(context: Context) -> dict[str, Any]:
    """Restore a backup."""
    params = context.params
    context.require_bounds(BOUNDS)
    before = rules.check_options(params)
    if params["scratch"] and params["keep_failed"]:
        raise RunbookError("scratch and keep_failed: both are set; set one of them.")
    target = postgres.Target.from_params(params)
    clock = Clock(params["deadline_s"])
    store = s3.Store.from_params(params, connections=params["jobs"] + 2)
    if params["record_proof"]:
        permits.require_bucket(context.run, store, params["environment"])
    with driver.connect(target, statement_timeout_ms=driver.CHECK_TIMEOUT_MS) as session:
        permits.require_database(context.run, session, database="")
        # A proof has a server of its own, so that one says nothing about the backup.
        own = params["source_cluster"] or ("" if params["scratch"] else session.system_identifier())
        wanted = rules.Wanted.of(params, before, origins.accepted(own, params["previous_clusters"] if own else []))
        folders = manifests.database_folders(params["prefix"], params["database"])
        found = rules.choose(wanted, bucket.Backups(store, folders), warn=context.warn)
        manifest, server = found.manifest, driver.look(session)
        rules.check_for_new_database(server, manifest, params)
        evidence = Evidence(
            store, found, run_id=context.run.id, server_version=server.version, clock=clock,
            is_asked=params["record_proof"] and not context.check_mode,
        )  # fmt: skip
        try:
            plan = make_plan(context, session, store, found, server)
        except RunbookError as error:
            error.message += evidence.record_failure(error)
            if evidence.key:
                error.context |= {"changed": True, "proof_key": evidence.key}
            raise
        silent = postgres.silencing(session)
        marker = Marker(
            "restoring", params["database"], driver.now(), context.run.id or "", manifest.backup_id,
            without=", ".join([*manifest.without_rows, *plan.silenced]),
        )  # fmt: skip
        database = new_database.NewDatabase(target, plan.target, marker, silent)
        clients = driver.find_clients(params["bindir"], ssl_mode=target.ssl_mode)
        dumped_by = rules.major(manifest.tools.pg_dump)
        client = rules.choose_client(clients, dumped_by=dumped_by, server=server.version // 10000)
        filler = driver.Filler(
            database.target, folder=client, client_version=clients[client], server_version=server.version,
            options=session.tool_options(**driver.FILLING, **silent), errors=rules.errors,
        )  # fmt: skip
        dump = Dump(store, filler, driver.decryption(manifest.tools.encryption, params["identity_file"]))
        tables = [each for each in manifest.tables if plan.gets(each.schema, each.name)]
        left_out = [f"extension {name}" for name in plan.without]
        outcome = rules.Outcome(plan, tables, params["jobs"], client, not_proven=left_out)
        restore = Restore(context, clock, server, evidence, outcome, database, filler, dump)
        clock.lap("check")
        if context.check_mode or plan.done_at:
            return restore.tell(session)
    return restore.act()


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_restore", argument_spec=driver.argument_spec())


if __name__ == "__main__":
    main()
