#!/usr/bin/python
"""Module pg_restore_project: the backup of a managed project fills a fresh one, all or nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_project
short_description: Restore the backup of a Supabase project into a fresh one and prove it
description:
  - Restores a logical backup that M(pg_backup) made of one Supabase project, from S3 into the database of another one,
    by its user C(postgres). That database is there, and cannot be dropped and recreated, so all is done in one
    transaction. After an error, a kill or a crash of the server the project is as it was.
  - Before the first byte it checks that the backup is complete and is of the database that was asked for, that every
    object has its size, and that the project is fresh and of the same PostgreSQL version or a newer one.
  - What the platform made is left alone; its rows, and what was added to its tables, are brought back. Jobs and
    webhooks are switched off, so that nothing is sent twice.
  - The proof counts and hashes every table whose rows were to be restored, and compares it with the manifest.
  - A second run finds the proven database and changes nothing.
  - On a server that is no managed project, by its superuser, or with a backup of another database it refuses;
    M(pg_restore) restores into a new database there.
options:
  source_cluster:
    description:
      - The cluster that the backup must be of. By default the one that is restored to.
    type: str
  target_database:
    description:
      - Name of the project's database, by default O(database).
    type: str
  jobs:
    description:
      - Tables that are compared at the same time, 1 to 64. The transaction loads them one after the other.
    type: int
    default: 2
  prove:
    description:
      - Whether to compare the database with the manifest. Without it the result is V(unknown).
    type: bool
    default: true
  scratch:
    description:
      - Refused, since the project's database stays; M(pg_restore) has it. The same holds for O(keep_failed),
        O(hold_days) and O(without_extensions).
    type: bool
    default: false
  keep_failed:
    description: Refused, as O(scratch).
    type: bool
    default: false
  hold_days:
    description: Refused, as O(scratch).
    type: int
    default: 0
  without_extensions:
    description: Refused, as O(scratch).
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
  - Needs C(psql) beside C(pg_restore), in the same folder.
  - The options of the server stay as they are; in its session the module raises C(maintenance_work_mem) to 256 MB.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Restore the latest backup of a lost project into a fresh one
  pg_restore_project:
    login_host: db.abcdefghijklmnopqrst.supabase.co
    login_user: postgres
    login_password: "{{ new_project_password }}"
    login_db: postgres
    bucket: mental-scribe-backups
    region: eu-central-1
    prefix: production
    database: postgres
    from_cluster: "7395012345678901234"
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
  description: Name of the project's database.
  returned: when a backup was found
  type: str
snapshot_at:
  description: The moment whose contents the backup holds.
  returned: when a backup was found
  type: str
tables:
  description: Tables whose rows are restored.
  returned: when a backup was found
  type: int
rows:
  description: Their rows.
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
  description: Seconds by phase, C(check), C(schema), C(data), C(indexes), C(proof).
  returned: when a backup was found
  type: dict
proof:
  description: The comparison, as M(pg_restore) returns it. Null without one.
  returned: when a backup was found
  type: dict
proof_key:
  description: Object that holds the proof. Null if none was written.
  returned: when a backup was found
  type: str
left_out:
  description:
    - What the project does without, with the reason where there is one, such as secrets, passwords, files, and policies
      that were refused.
  returned: when a backup was found
  type: list
  elements: str
to_arm:
  description: What was switched off, webhooks and scheduled jobs, as the statements that switch it on.
  returned: when a backup was found
  type: list
  elements: str
plan:
  description: What was to be done, C(streams), C(jobs), C(client) (folder of pg_restore), C(source_size_bytes).
  returned: when a backup was found
  type: dict
executed_queries:
  description: SQL that ran besides what C(pg_restore) wrote and C(psql) ran.
  returned: when a backup was found
  type: list
  elements: str
"""

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import proof as proof_driver
from ansible.module_utils.runbook.drivers.backup import restore as driver
from ansible.module_utils.runbook.drivers.backup.dump import Dump
from ansible.module_utils.runbook.drivers.backup.evidence import Evidence
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.drivers.supabase import project
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import proof as proofs
from ansible.module_utils.runbook.rules.backup import restore as rules
from ansible.module_utils.runbook.rules.backup.swap import Marker, State
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase import managed

if TYPE_CHECKING:
    from pathlib import Path

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest

#: Options whose value must lie between two bounds.
BOUNDS = {"jobs": (1, 64), "deadline_s": (1, 604_800)}


@dataclass
class Restore:
    """One restore, from its plan to its proof.

    Nobody need look for a crash of the server as where a new database is filled: there is one transaction, whose commit
    waits for the disk, so a crash leaves all of it or nothing.
    """

    context: Context
    clock: Clock
    #: The project as it is before.
    found: managed.Project
    server_version: int
    evidence: Evidence
    outcome: rules.Outcome
    target: postgres.Target
    marker: Marker
    filler: driver.Filler
    dump: Dump
    queries: list[str] = field(default_factory=list)
    #: What it is at, for the sentence where it fails.
    step: str = rules.DEFINITIONS

    @property
    def plan(self) -> rules.Plan:
        """What is restored, and where to."""
        return self.outcome.plan

    @property
    def manifest(self) -> Manifest:
        """The backup's."""
        return self.plan.manifest

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
        if self.context.params["prove"]:
            self.prove()
        return self.judge()

    def connect(self) -> postgres.Session:
        """A session for a short question."""
        return driver.connect(self.target, statement_timeout_ms=driver.CHECK_TIMEOUT_MS)

    def is_committed(self) -> bool:
        """Whether the transaction came to its end, by the mark that it made last."""
        with self.connect() as session:
            return driver.look(session).databases.get(self.plan.target) == str(self.marker)

    def untouched(self, error: RunbookError) -> RunbookError:
        """The error of a transaction that was rolled back."""
        return RunbookError(
            f"{error.message} {self.plan.target!r} is as it was before.",
            **(self.figures() | {"changed": False} | error.context),
        )

    def fill(self, schema: Path) -> None:
        """Roles, definitions, rows, what was added to the platform's tables, jobs."""
        self.outcome.temporary_bytes = self.dump.fetch(self.plan.schema, schema, self.clock.check)
        entries = managed.read_list(self.dump.contents(schema), {each.schema for each in self.manifest.tables})
        chosen = managed.for_project(entries, self.found)
        roles = self.roles()
        # What is handed to psql is run some time later, so a failure cannot be told to be of one part of it.
        self.step = "the definitions and rows"
        script = project.Script(self.filler, server_version=self.server_version)
        for statement in (*roles.made, *project.before()):
            script.run(statement)
        definitions = script.definitions("pre-data", schema, chosen.kept)
        script.write(definitions)
        self.clock.lap("schema")
        held = self.load(script)
        self.clock.lap("data")
        script.write(script.definitions("post-data", schema, chosen.kept))
        tried: dict[str, str] = {}
        webhooks = []
        for each in chosen.added:
            definition = script.definitions("post-data", schema, [each])
            if managed.calls_out(definition.decode(), definitions.decode()):
                webhooks.append(f"{each.name}, a webhook, which could not be switched off there")
            else:
                tried[script.try_(definition)] = each.name
        if ("cron", "job") in held:
            tried[script.try_(project.JOBS)] = "jobs of pg_cron"
        for statement in (*project.after(), *roles.undone):
            script.run(statement)
        of_database = script.definitions("pre-data", schema, []).decode()
        self.marker = self.marked("unproven")
        with self.connect() as session:
            own = managed.settings(of_database, database=project.quoted(session, self.plan.target))
            for name, statement in [*roles.tried, *own]:
                tried[script.try_(statement)] = name
            script.run(f"{session.render(driver.marking(self.plan.target, self.marker))};")
        said = script.finish()
        self.clock.lap("indexes")
        self.outcome.to_arm = managed.switched_off(said)
        self.outcome.left_out = [
            *(f"{tried[label]} ({why})" for label, why in managed.refused(said).items()),
            *managed.missing(self.manifest, self.found, held),
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
        return managed.roles(self.dump.read(stored), self.found)

    def load(self, script: project.Script) -> dict[tuple[str, str], int]:
        """The rows, stream by stream; those by table that were held back."""
        script_filter = managed.ScriptFilter(
            lambda schema, table: managed.rows_go(schema, table, self.found), sequences=self.found.sequences,
            server_version=self.server_version,
        )  # fmt: skip
        total = self.manifest.dump_bytes or None
        script.run(project.LOADING)
        for _, objects in sorted(self.manifest.data_streams().items()):
            source = self.dump.filtered(objects, script_filter)
            done = self.outcome.restored_bytes
            while piece := source.read():
                script.write(piece)
                self.outcome.restored_bytes = done + source.bytes_read
                self.context.progress.update(f"restore {self.plan.target}", self.outcome.restored_bytes, total, "bytes")
                self.clock.check()
        script.run(project.LOADED)
        return script_filter.held

    def gets(self, schema: str, table: str) -> bool:
        """Whether the project gets the rows of a table; it has its own of some."""
        return managed.rows_go(schema, table, self.found) == "keep"

    def prove(self) -> None:
        """Compare what is there now with the backup."""
        method: Any = self.manifest.hash.method  # one that is not known is judged unknown
        found = proof_driver.read(
            lambda: driver.connect(self.target), method=method, coverage=self.manifest.hash.coverage,
            jobs=self.context.params["jobs"], check=self.clock.check,
            on_bytes=lambda done, total: self.context.progress.update(
                f"prove {self.plan.target}", done, total, "bytes"
            ),
        )  # fmt: skip
        narrowed = managed.narrowed(self.manifest, found, self.gets)
        self.outcome.proof = proofs.judge(*narrowed)
        with driver.connect(self.target, statement_timeout_ms=self.clock.left_ms()) as session:
            driver.analyze(session)
        self.clock.lap("proof")

    def marked(self, state: State) -> Marker:
        """What the database's comment is to say from now on."""
        return replace(self.marker, state=state, at=driver.now())

    def judge(self) -> dict[str, Any]:
        """Mark the database as what the proof says of it; it is kept in any case.

        :raises RunbookError: it differs, or the proof could not be made or written
        """
        outcome, done = self.outcome, self.outcome.restored_bytes
        self.marker = self.marked("proven" if outcome.proof and outcome.proof.status is Status.OK else "unproven")
        with self.connect() as session:
            session.execute(driver.marking(self.plan.target, self.marker))
            self.queries += session.executed_queries
        unwritten = self.evidence.record(outcome.proof)
        if outcome.proof and outcome.proof.status is Status.BREACH:
            raise RunbookError(
                f"{self.plan.target}: {outcome.proof.sentence()}{unwritten} It is not what was backed up; make a new "
                "project, and take another backup.",
                **(self.figures() | {"changed": True}),
            )
        self.context.progress.update(f"restore {self.plan.target}", done, done, "bytes", final=True)
        message = outcome.sentence(self.clock.passed_s()) + unwritten
        return outcome.conclude(message, self.figures(), unwritten=unwritten)

    def figures(self) -> dict[str, Any]:
        """The result, but for its sentence."""
        shown = {"diff": {"prepared": rules.describe(self.plan, 1)}} if self.context.diff else {}
        passed_s, phases = self.clock.passed_s(), self.clock.phases
        made = self.outcome.figures(duration_s=passed_s, phases=phases, proof_key=self.evidence.key)
        return shown | made | {"executed_queries": self.queries}

    def tell(self) -> dict[str, Any]:
        """The result where nothing is done: check mode, or it was done before."""
        changed, msg = not self.plan.done_at, self.outcome.sentence_of_plan()
        return self.figures() | {"changed": changed, "msg": msg}


def core(context: Context) -> dict[str, Any]:
    """Restore a backup into a project."""
    params = context.params
    context.require_bounds(BOUNDS)
    before = rules.check_options(params)
    rules.check_options_for_project(params)
    admin = postgres.Target.from_params(params)
    clock = Clock(params["deadline_s"])
    store = s3.Store.from_params(params, connections=params["jobs"] + 2)
    if params["record_proof"]:
        permits.require_bucket(context.run, store, params["environment"])
    with driver.connect(admin, statement_timeout_ms=driver.CHECK_TIMEOUT_MS) as session:
        permits.require_database(context.run, session, database="")
        clusters = origins.accepted(
            params["source_cluster"] or session.system_identifier(), params["previous_clusters"]
        )
        folders = manifests.database_folders(params["prefix"], params["database"])
        backups = bucket.Backups(store, folders)
        found = rules.choose(rules.Wanted.of(params, before, clusters), backups, warn=context.warn)
        manifest, server = found.manifest, driver.look(session)
    rules.check_for_project(server, manifest)
    name = params["target_database"] or manifest.source.database
    if name not in server.databases:
        raise RunbookError(
            f"target_database: {name!r} is not there, and a managed project has the one database that it came with; "
            "name that, as a rule postgres."
        )
    target = replace(admin, database=name)
    with driver.connect(target, statement_timeout_ms=driver.CHECK_TIMEOUT_MS) as session:
        permits.require_unfrozen(session)
        looked = project.look(session)
        plan = rules.plan_project(manifest, server, looked, folder=found.folder, target=name)
        for warning in plan.warnings:
            context.warn(warning)
        if damage := rules.damage(manifest, driver.sizes(store, manifest), where=store.url(found.folder)):
            raise RunbookError(damage)
        # Not FILLING: the one commit is to outlast a crash of the server.
        options = session.tool_options(**driver.MEMORY)
    evidence = Evidence(
        store, found, run_id=context.run.id, server_version=server.version, clock=clock,
        is_asked=params["record_proof"],
    )  # fmt: skip
    clients = driver.find_clients(params["bindir"], ssl_mode=target.ssl_mode)
    dumped_by = rules.major(manifest.tools.pg_dump)
    client = rules.choose_client(clients, dumped_by=dumped_by, server=server.version // 10000)
    filler = driver.Filler(
        target, folder=client, client_version=clients[client], server_version=server.version, options=options,
        errors=rules.errors,
    )  # fmt: skip
    dump = Dump(store, filler, driver.decryption(manifest.tools.encryption, params["identity_file"]))
    marker = Marker(
        "restoring", params["database"], driver.now(), context.run.id or "", manifest.backup_id,
        without=", ".join(manifest.without_rows),
    )  # fmt: skip
    tables = [each for each in manifest.tables if managed.rows_go(each.schema, each.name, looked) == "keep"]
    outcome = rules.Outcome(plan, tables, params["jobs"], client)
    restore = Restore(context, clock, looked, server.version, evidence, outcome, target, marker, filler, dump)
    clock.lap("check")
    return restore.tell() if context.check_mode or plan.done_at else restore.act()


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_restore_project", argument_spec=driver.argument_spec())


if __name__ == "__main__":
    main()
