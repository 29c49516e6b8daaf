#!/usr/bin/python
"""Module pg_backup: a logical backup of a database, streamed into a bucket."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: Back up a database to S3, with a manifest that proves it
description:
  - Dumps one database with PostgreSQL's own C(pg_dump), several streams of one snapshot at once. Each stream is
    compressed with zstd, encrypted on request, and streamed to the bucket; nothing is stored on this machine's disk.
  - In the same snapshot the server counts and hashes the rows of every table. C(manifest.json) names every object with
    its size and SHA-256 and every table with its rows and hash.
  - The manifest is written last, and never overwrites another one. A folder without a manifest is not a backup.
    What a killed run left behind is removed by M(pg_backup_retention); this module removes nothing but what it wrote
    itself.
  - Every table is locked against being altered, truncated or dropped for as long as the dump takes. Rows can be read
    and written meanwhile.
  - The objects lie under C(<prefix>/<database>/<UTC time>/).
options:
  jobs:
    description:
      - Data streams at once, and sessions that hash, 1 to 16. Each needs a connection of its own.
    type: int
    default: 2
  compression_level:
    description:
      - Level of zstd, 1 to 19. Level 3, as zstd's own default, keeps up with a dump. Level 1 takes a fifth less CPU
        and can take twice the room.
    type: int
    default: 3
  hash:
    description:
      - V(all) hashes every row of every table, which costs the server about as much CPU as the dump itself.
      - V(sampled) counts all rows and hashes one in sixteen.
      - V(none) neither counts nor hashes; then a restore cannot be proven.
    type: str
    default: all
    choices: [all, sampled, none]
  without_rows:
    description:
      - Tables, as C(schema.table), of which the definition alone is backed up. For what no dump can carry, such as a
        value of more than 512 MiB in a C(bytea). Manifest and proofs say so, and M(pg_swap) refuses what is restored
        from it until somebody names these tables.
    type: list
    elements: str
    default: []
  encryption:
    description:
      - Encrypt the objects on this machine with C(age) or C(gpg), for O(recipients). The manifest stays readable.
    type: str
    default: none
    choices: [none, age, gpg]
  recipients:
    description:
      - Public keys that can decrypt the backup; C(gpg) takes key ids of its keyring as well.
    type: list
    elements: str
    default: []
  server_side_encryption:
    description:
      - How S3 encrypts what it stores.
    type: str
    default: AES256
    choices: [AES256, 'aws:kms', none]
  kms_key_id:
    description:
      - Key for O(server_side_encryption=aws:kms). The account's default key if unset.
    type: str
  lock_timeout_ms:
    description:
      - Longest wait for the lock of one table, in milliseconds, 1 to 600000. Others wait behind it that long.
    type: int
    default: 10000
  deadline_s:
    description:
      - After this number of seconds the backup is cancelled and the task fails. 10 to 604800.
    type: int
    default: 14400
  bindir:
    description:
      - Folder of PostgreSQL's client programs. Without it, those of the server's own version are looked for, then the
        newest.
    type: path
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_backups
  - runbook_backups.environment
  - runbook_backups.clusters
attributes:
  check_mode:
    description: Returns the plan. Locks, dumps and writes nothing.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
notes:
  - Needs SELECT on every table and sequence (C(pg_read_all_data)), BYPASSRLS where tables have row-level security, and
    SELECT on large objects.
  - Passwords of roles are not dumped.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Back up to S3
  pg_backup:
    login_host: db.example.com
    login_user: runbook_backup
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
    ssl_mode: verify-full
    bucket: mental-scribe-backups
    region: us-east-1
    prefix: production
    environment: production

- name: Back up, encrypted for the holder of a key
  pg_backup:
    dsn: "{{ db_dsn }}"
    bucket: mental-scribe-backups
    environment: production
    jobs: 4
    encryption: age
    recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
    server_side_encryption: aws:kms
"""

RETURN = r"""
msg:
  description: What was backed up, to where, in what time, in one sentence.
  returned: always
  type: str
  sample: >-
    Backed up mental_scribe, 12 tables with 2,400,000 rows, to s3://backups/production/mental_scribe/2026-11-23T03-00-00Z/
    in 17.1 s: 1.7 GiB at 101.2 MiB/s, 430.1 MiB stored, every table hashed.
status:
  description: V(ok), V(breach) where there is no backup, or V(unknown) where a server gave no answer.
  returned: always
  type: str
backup_id:
  description: The backup's name, the UTC time when it began. Empty in check mode.
  returned: always
  type: str
  sample: 2026-11-23T03-00-00Z
folder:
  description: Where it lies in the bucket, with a slash at the end.
  returned: always
  type: str
manifest:
  description: Key of its manifest; empty where there is none.
  returned: always
  type: str
bucket:
  description: The bucket.
  returned: always
  type: str
database:
  description: The database.
  returned: always
  type: str
size_bytes:
  description: Bytes of all objects as they are stored.
  returned: always
  type: int
dump_bytes:
  description: Bytes that pg_dump wrote, before compression.
  returned: always
  type: int
tables:
  description: Number of tables.
  returned: always
  type: int
rows:
  description: Number of rows; null where they were not counted.
  returned: always
  type: int
duration_s:
  description: Seconds that the backup took.
  returned: always
  type: float
rate_bytes_s:
  description: Bytes dumped in a second.
  returned: always
  type: float
hash_s:
  description: Seconds that all hashing sessions worked, added up; they work in parallel with the dump.
  returned: always
  type: float
phases:
  description: Seconds of each phase, C(prepare_s), C(snapshot_s), C(dump_s) (hashing included) and C(manifest_s).
  returned: always
  type: dict
objects:
  description: Number of objects, without the manifest.
  returned: always
  type: int
snapshot_at:
  description: Time of the snapshot by the server's clock. ISO 8601; empty in check mode.
  returned: always
  type: str
missing:
  description:
    - What the backup is known to be without, one phrase each. It stands in the manifest, and in the sentence of each
      proof.
  returned: always
  type: list
  elements: str
hash_coverage:
  description: What O(hash) was.
  returned: always
  type: str
plan:
  description: What was to be done.
  returned: always
  type: dict
  contains:
    tables:
      description: Number of tables.
      type: int
    table_bytes:
      description: Their size on the server.
      type: int
    streams:
      description: For each stream, how many tables it dumps (C(tables)) and their size on the server (C(table_bytes)).
      type: list
      elements: dict
    pg_dump:
      description: Version of pg_dump.
      type: str
executed_queries:
  description: SQL that ran, or would run, in the session that holds the snapshot. Long lists of tables are cut.
  returned: always
  type: list
  elements: str
"""

import concurrent.futures
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits, process
from ansible.module_utils.runbook.drivers.backup import backup as driver
from ansible.module_utils.runbook.drivers.backup import backup_gaps as gaps
from ansible.module_utils.runbook.drivers.backup import restorable as restorable_driver
from ansible.module_utils.runbook.drivers.backup.backup_folder import BackupFolder
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import content_hash, lease, postgres, roles
from ansible.module_utils.runbook.drivers.s3 import bucket, s3, stream
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup as rules
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import restorable
from ansible.module_utils.runbook.rules.backup import restore_rights as rights
from ansible.module_utils.runbook.rules.backup.backup_gaps import Gap, sentences, without
from ansible.module_utils.runbook.rules.backup.tool_warnings import said_warnings
from ansible.module_utils.runbook.rules.identifiers import parse_qualified
from ansible.module_utils.runbook.rules.postgres import content_hash as hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime


#: Length of an object, in bytes: far below the 10,000 parts of a multipart upload.
SEGMENT_BYTES = 64 << 30
#: How many folders are tried, named one second apart.
CLAIMS = 10
#: Seconds between two checks of the running dumps.
TICK_S = 0.5
#: Statements of the control session: catalogues and the lease.
STATEMENT_TIMEOUT_MS = 120_000
PROJECT = "mental-scribe-runbook 0.1.0"
#: Options whose value must lie between two bounds.
BOUNDS = {
    "jobs": (1, 16),
    "compression_level": (1, 19),
    "lock_timeout_ms": (1, 600_000),
    "deadline_s": (10, 604_800),
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        postgres.argument_spec()
        | s3.argument_spec()
        | {
            "prefix": {"type": "str", "default": ""},
            "previous_clusters": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "str", "required": True},
            "jobs": {"type": "int", "default": 2},
            "compression_level": {"type": "int", "default": 3},
            "hash": {"type": "str", "default": "all", "choices": ["all", "sampled", "none"]},
            "without_rows": {"type": "list", "elements": "str", "default": []},
            "encryption": {"type": "str", "default": "none", "choices": ["none", "age", "gpg"]},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "server_side_encryption": {"type": "str", "default": "AES256", "choices": ["AES256", "aws:kms", "none"]},
            "kms_key_id": {"type": "str", "no_log": False},
            "lock_timeout_ms": {"type": "int", "default": 10000},
            "deadline_s": {"type": "int", "default": 14400},
            "bindir": {"type": "path"},
        }
    )


class Dumping:
    """Dumps and hashes one snapshot side by side, from the server straight into the bucket."""

    def __init__(self, context: Context, target: postgres.Target, client: driver.Client, folder: BackupFolder,
                 settings: rules.Settings, options: str) -> None:  # fmt: skip
        """Nothing runs yet.

        :param options: settings of pg_dump's sessions, of :meth:`Session.tool_options`
        """
        self.context = context
        self.target = target
        self.client = client
        self.folder = folder
        self.settings = settings
        self.environ = driver.environment(target, options)
        self.programs = stream.Programs()
        self.outputs: dict[tuple[str, int], stream.Output] = {}
        self.hasher: driver.Hasher | None = None
        self.dumped = rules.Dumped()

    def dump(self, part: rules.Part) -> list[manifests.Object]:
        """Dump one part into the bucket."""

        def explain(_first_word: str, code: int | None, said: str) -> str:
            return rules.explain_tool(part.program, code, said)

        output = stream.Output(self.programs, part.words, explain=explain, env=self.environ)
        self.outputs[part.what, part.stream] = output
        source = stream.compressed(output, self.settings.compression_level)
        if self.settings.encryption != "none":
            source = stream.encrypted(self.programs, source, self.settings.encryption, self.settings.recipients)
        return self.folder.upload(part, source, self.settings.encryption, SEGMENT_BYTES)

    def globals(self, part: rules.Part) -> list[manifests.Object]:
        """Dump the roles; a provider that forbids it does not keep the database from being backed up."""
        try:
            return self.dump(part)
        except RunbookError as error:
            if error.code != stream.NOT_PERMITTED:
                raise
            self.dumped = replace(
                self.dumped,
                gaps=(Gap("globals", "roles, memberships and tablespaces"),),
                warnings=(f"Roles and tablespaces are not in this backup. {error.message}",),
            )
            return []

    def run(self, snapshot: str, selection: rules.Selection, method: hashes.Method, watch: Callable[[], None]) -> None:
        """Dump and hash until both are through.

        :param watch: called each TICK_S; it raises where nothing is to go on
        """
        params, connection = self.context.params, driver.connection_words(self.target)
        hasher = self.hasher = driver.Hasher(
            self.target, snapshot, method=method, coverage=params["hash"], too_large=rules.too_large
        )
        parts = rules.parts(
            selection.streams, snapshot=snapshot, lock_timeout_ms=params["lock_timeout_ms"],
            without_rows=selection.without_rows, dump=[*self.client.dumping(), *connection],
            dump_all=[self.client.path("pg_dumpall"), *connection],
        )  # fmt: skip
        workers = self.settings.jobs
        if params["hash"] != "none":
            hasher.queue(selection.filled)
        else:
            workers = 1
        pool = concurrent.futures.ThreadPoolExecutor(max_workers=len(parts) + workers)
        try:
            dumps = [pool.submit(self.globals if part.what == "globals" else self.dump, part) for part in parts]
            waiting: set[concurrent.futures.Future[Any]] = {
                *dumps, *(pool.submit(hasher.work, large_objects=number == 0) for number in range(workers)),
            }  # fmt: skip
            while waiting:
                done, waiting = concurrent.futures.wait(waiting, TICK_S, return_when=concurrent.futures.FIRST_EXCEPTION)
                for future in done:
                    future.result()
                watch()
            objects = tuple(each for future in dumps for each in future.result())
            warnings = (*self.dumped.warnings, *said_warnings("\n".join(self.programs.said)))
            self.dumped = replace(self.dumped, objects=objects, warnings=warnings)
        finally:
            self.programs.kill()
            hasher.stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def dump_bytes(self) -> int:
        """Bytes that pg_dump has written so far, before compression."""
        return sum(output.bytes_read for output in list(self.outputs.values()))

    def so_far(self) -> rules.Dumped:
        """What there is by now."""
        found = replace(self.dumped, dump_bytes=self.dump_bytes())
        if self.hasher is None:
            return found
        return replace(
            found, contents=self.hasher.contents, large_objects=self.hasher.large_objects, hash_s=self.hasher.busy_s
        )


class Backup:
    """One backup, from the plan to the manifest."""

    def __init__(self, context: Context, session: postgres.Session, store: s3.Store, settings: rules.Settings) -> None:
        self.context = context
        self.session = session
        self.store = store
        self.settings = settings
        self.clock = Clock(context.params["deadline_s"])
        self.folder = BackupFolder(
            store,
            bucket.home(store, manifests.database_folders(context.params["prefix"], session.target.database)),
            s3.server_side_encryption(context.params["server_side_encryption"], context.params["kms_key_id"]),
        )
        self.client = driver.find_client(
            context.params["bindir"], session.server_version, ssl_mode=session.target.ssl_mode
        )
        rules.check_client(self.client.major, session.server_version, bindir=str(self.client.bindir))
        self.dumping = Dumping(context, session.target, self.client, self.folder, settings, session.tool_options())
        self.selection = rules.Selection((), (), frozenset())
        self.shortcomings = rules.Shortcomings()
        #: Empty before the snapshot.
        self.snapshot_at = ""

    # Plan

    def plan(self) -> origins.Origin:
        """Look at the tables and at the bucket; nothing is written. What the backup will be of."""
        params, session = self.context.params, self.session
        tables = driver.read_tables(session)
        wanted = [parse_qualified(each, option="without_rows") for each in params["without_rows"]]
        left_out = rules.check_without_rows(wanted, tables, driver.read_references(session) if wanted else ())
        self.selection = rules.Selection.of(tables, self.settings.jobs, left_out)
        unread = content_hash.unread_large_objects(session)
        if unread:
            raise RunbookError(hashes.closed_large_objects(unread, session.target.user))
        own = origins.Origin(session.system_identifier(), session.target.database)
        clusters = origins.accepted(own.system_identifier, params["previous_clusters"])
        names = sorted(filter(manifests.is_backup_id, self.store.folders(self.folder.home)), reverse=True)
        # The newest that tells: older ones may say nothing.
        whose = (bucket.origin(self.store, f"{self.folder.home}{name}/", origins.read) for name in names)
        origins.check_writing(next(filter(None, whose), None), clusters, own, where=self.store.url(self.folder.home))
        return own

    def look_ahead(self, session: postgres.Session, extensions: Sequence[manifests.Extension]) -> None:
        """See what a restore of this backup will lack, or will stumble over."""
        chosen = [Gap("chosen", str(name)) for name in sorted(self.selection.without_rows)]
        self.shortcomings = rules.Shortcomings(
            gaps=(*chosen, *gaps.read(session)),
            warnings=(
                *restorable.unqualified(*restorable_driver.read(session)),
                *(
                    rights.of_superusers(roles.of_superusers(session))
                    if roles.restores_without_superuser(session)
                    else ()
                ),
            ),
            remarks=tuple(restorable.tied(extensions)),
        )

    # Act

    def act(self, origin: origins.Origin) -> None:
        """Carry the plan out."""
        params, session, target = self.context.params, self.session, self.session.target
        with lease.writing(session, self.context.run) as guard:
            started = self.claim(origin, rules.began(driver.server_now(session), bucket.clock(self.store)))
            self.clock.lap("prepare_s")
            with driver.Snapshot(target, lock_timeout_ms=params["lock_timeout_ms"], purpose="pg_backup") as snapshot:
                snapshot.take()
                session.executed_queries += snapshot.executed_queries
                facts = self.read(snapshot)
                before = driver.read_sequences(target)
                self.clock.lap("snapshot_s")
                self.dump(snapshot, guard)
                sequences = rules.sequences(before, driver.read_sequences(target))
                self.clock.lap("dump_s")
            manifest = rules.manifest(
                self.folder.id, started=started, finished=driver.server_now(session), facts=facts,
                tools=self.settings.tools(pg_dump=self.client.version, project=PROJECT), selection=self.selection,
                shortcomings=self.shortcomings, dumped=self.dumping.so_far(), sequences=sequences,
            )  # fmt: skip
            guard.renew()
            self.folder.complete(manifest)
            self.clock.lap("manifest_s")

    def claim(self, origin: origins.Origin, earliest: datetime) -> datetime:
        """Claim a folder that no other run uses, before anything is written or removed there.

        :return: the time that it is named after
        :raises RunbookError: the bucket refuses, or the next folders are all taken
        """
        mark = manifests.Claim(
            run_id=self.context.run.id or "",
            token=secrets.token_hex(8),
            deadline_s=self.context.params["deadline_s"],
            system_identifier=origin.system_identifier,
            database=origin.database,
            process=str(process.own() or ""),
        )
        tried = [earliest + timedelta(seconds=number) for number in range(CLAIMS)]
        if not self.folder.claim(map(manifests.backup_id, tried), mark.to_bytes()):
            raise RunbookError(
                f"prefix: {CLAIMS} backups of a database {origin.database!r} began there within {CLAIMS} seconds; "
                "give each server a prefix of its own."
            )
        return next(each for each in tried if manifests.backup_id(each) == self.folder.id)

    def read(self, snapshot: driver.Snapshot) -> rules.Facts:
        """What the manifest says of the database, and the tables as the snapshot shows them."""
        self.selection = rules.Selection.of(snapshot.tables, self.settings.jobs, self.selection.without_rows)
        source = driver.read_source(snapshot.session)
        self.snapshot_at = source.snapshot_at
        named = rules.roles_of(driver.read_roles(snapshot.session))
        extensions = driver.read_extensions(snapshot.session)
        self.look_ahead(snapshot.session, extensions)
        method = hashes.method(self.session.server_version)
        probe = driver.probe(self.session.target, method)
        return rules.Facts(source, named, extensions, manifests.HashInfo(method, self.context.params["hash"], probe))

    def dump(self, snapshot: driver.Snapshot, guard: lease.Guard) -> None:
        """Dump and hash; meanwhile report progress, renew the lease, and see that it may go on."""

        def watch() -> None:
            self.progress()
            driver.check(self.session, "held the lock that keeps other runs out")
            guard.renew()
            snapshot.check()
            self.clock.check("give it more time, or more jobs")

        try:
            self.dumping.run(snapshot.id, self.selection, hashes.method(self.session.server_version), watch)
        finally:
            self.progress(final=True)

    def give_up(self) -> None:
        """After a failure: nothing is left that a person would have to look at."""
        if self.folder.give_up():
            where = self.store.url(self.folder.path)
            self.context.warn(f"{where} has its manifest; backup_verify.yml tells if it is whole.")

    # Tell

    def progress(self, *, final: bool = False) -> None:
        """Report progress; the size of the tables stands in for the size of the dump, which is not known before."""
        done = self.dumping.dump_bytes()
        total = done if final else max(done, sum(table.size_bytes for table in self.selection.filled))
        label = f"back up {self.session.target.database}"
        self.context.progress.update(label, done, total, "bytes", final=final)

    def warn(self) -> None:
        """Warn of what a restore will stumble over, and of what the programs said."""
        for caution in (*self.shortcomings.warnings, *self.dumping.dumped.warnings):
            self.context.warn(caution)

    def figures(self) -> rules.Figures:
        """The figures so far."""
        dumped, coverage = self.dumping.so_far(), self.context.params["hash"]
        counted = coverage != "none" and bool(self.folder.manifest)
        return rules.Figures(
            tables=len(self.selection.tables),
            rows=sum(content.rows for content in dumped.contents.values()) if counted else None,
            dump_bytes=dumped.dump_bytes,
            size_bytes=sum(each.size_bytes for each in dumped.objects),
            duration_s=self.clock.passed_s(),
            coverage=coverage,
            missing=sentences([*self.shortcomings.gaps, *dumped.gaps]),
        )

    def result(self, figures: rules.Figures) -> dict[str, Any]:
        """The result, but for its sentence."""
        database, chosen, dumped = self.session.target.database, self.selection, self.dumping.so_far()
        diff = rules.describe(database, chosen.filled, chosen.streams)
        return ({"diff": {"prepared": diff}} if self.context.diff else {}) | {
            "backup_id": self.folder.id,
            "folder": self.folder.path,
            "manifest": self.folder.manifest,
            "bucket": self.store.bucket,
            "database": database,
            "size_bytes": figures.size_bytes,
            "dump_bytes": figures.dump_bytes,
            "tables": figures.tables,
            "rows": figures.rows,
            "duration_s": round(figures.duration_s, 3),
            "rate_bytes_s": round(figures.dump_bytes / figures.duration_s, 1),
            "hash_s": round(dumped.hash_s, 3),
            "phases": self.clock.phases,
            "objects": len(dumped.objects),
            "snapshot_at": self.snapshot_at,
            "missing": list(figures.missing),
            "hash_coverage": figures.coverage,
            "plan": rules.plan(chosen.tables, chosen.filled, chosen.streams) | {"pg_dump": self.client.version},
            "executed_queries": self.session.executed_queries,
        }


def check(params: dict[str, Any]) -> rules.Settings:
    """Refuse options that contradict each other, before any server is contacted."""
    if params["kms_key_id"] and params["server_side_encryption"] != "aws:kms":
        raise RunbookError("kms_key_id: it is set, and server_side_encryption is not aws:kms; set both or neither.")
    if not params["environment"]:
        raise RunbookError("environment: it is empty; say what the inventory is.")
    settings = rules.Settings(
        params["jobs"], params["compression_level"], params["encryption"], tuple(params["recipients"])
    )
    settings.check()
    return settings


def core(context: Context) -> dict[str, Any]:
    """Back up."""
    params = context.params
    context.require_bounds(BOUNDS)
    settings = check(params)
    store = s3.Store.from_params(params, connections=4 * params["jobs"] + 8)
    target = postgres.Target.from_params(params)
    with postgres.Session(
        target, lock_timeout_ms=params["lock_timeout_ms"], statement_timeout_ms=STATEMENT_TIMEOUT_MS,
        purpose="pg_backup",
    ) as session:  # fmt: skip
        permits.require_database(context.run, session, may_be_frozen=True)
        permits.require_bucket(context.run, store, params["environment"])
        backup = Backup(context, session, store, settings)
        origin = backup.plan()
        return preview(backup) if context.check_mode else carry_out(backup, origin)


def preview(backup: Backup) -> dict[str, Any]:
    """What a run would do."""
    session, chosen = backup.session, backup.selection
    session.executed_queries += driver.Snapshot.preview(chosen.tables)
    backup.look_ahead(session, driver.read_extensions(session))
    backup.warn()
    figures, where = backup.figures(), backup.store.url(backup.folder.home)
    message = rules.promise(session.target.database, where, chosen.tables, chosen.streams) + without(figures.missing)
    return backup.result(figures) | {"changed": True, "msg": " ".join([message, *backup.shortcomings.remarks])}


def carry_out(backup: Backup, origin: origins.Origin) -> dict[str, Any]:
    """Back up, or leave nothing behind."""
    database = backup.session.target.database
    try:
        backup.act(origin)
    except RunbookError as error:
        backup.give_up()
        raise RunbookError(
            f"No backup of {database} was made. {error.message}", **(backup.result(backup.figures()) | error.context)
        ) from error
    except Exception:
        # Whatever it is: a folder that stays behind looks like a backup that is still being made.
        backup.give_up()
        raise
    backup.warn()
    figures = backup.figures()
    message = rules.sentence(database, backup.store.url(backup.folder.path), figures)
    return backup.result(figures) | {"changed": True, "msg": " ".join([message, *backup.shortcomings.remarks])}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_backup", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
