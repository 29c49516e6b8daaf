#!/usr/bin/python
"""Module pg_archive: move old rows of a table to its archive."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_archive
short_description: Move old rows of a table to its archive table
description:
  - Moves the rows that are older than a number of days from one table to another of the same database.
  - A batch of rows is deleted from the source and inserted into the archive in one transaction. So a row is always in
    exactly one of the two tables, even when the run is stopped or killed; the next run continues from there.
  - One cutoff is fixed at the start, from the server's clock, and used for everything.
  - Batches follow an index on the timestamp column. Their size adapts to O(target_batch_ms).
  - Where source and archive are both partitioned by ranges of the timestamp column, partitions that are old as a whole
    are detached from the source and attached to the archive. Their rows are read twice, once to count and once to prove
    the limits, but not written. Rows of a partition that is only partly old stay until all of it is old.
  - A partition that is moved loses what would make it behave differently from the archive - its own foreign keys,
    triggers, rules, policies and publications, and rights that the archive does not give; it gets the archive's owner
    and row security. The plan names what it loses. A partition that is unlogged, or in somebody else's publication, is
    refused.
  - A missing archive is created, with the same columns, the time of the move in C(archived_at), the source's key
    and an index on the timestamp. It is partitioned where the source's partitions can be moved whole. Its owner, its
    row security with all policies, and those who may read it, are the source's; what default privileges would give is
    taken back in the same transaction. Where this role may not create it so, the task fails and says what the source's
    owner has to run once.
  - An archive that is more open than its source is a breach, and nothing is moved into it - rights of more people or
    to do more (C(PUBLIC), columns, partitions and grant options included), row security that is off or not forced,
    policies that show other rows, an owner from whom the source hides rows. The sentence says who may do what, and the
    SQL that ends it.
  - A row that the archive already holds with the same key and content is only deleted from the source. A row whose key
    the archive holds with other content stays, and the task fails with the number of such rows.
options:
  source:
    description:
      - Table whose old rows are moved, as C(schema.table).
    type: str
    required: true
  archive:
    description:
      - Table that takes them, as C(schema.table). It is made if it is missing; its schema must exist.
    type: str
    required: true
  timestamp_column:
    description:
      - Column that says how old a row is. Its type is C(timestamptz), C(timestamp) or C(date).
      - A C(timestamp) is taken as UTC. A C(date) is old once all of that day in UTC is.
      - Rows without a timestamp are never moved.
    type: str
    default: created_at
  older_than_days:
    description:
      - Rows older than this number of days (of 24 hours) are moved. At least 1.
    type: int
    required: true
  allow_triggers:
    description:
      - Names of triggers that may fire, because somebody has looked at them. Without it the task refuses a source whose
        triggers fire when rows are deleted, and an archive whose triggers fire once rows are stored, because what such
        a trigger does elsewhere is not seen here. A C(BEFORE INSERT) trigger of the archive need not be named - what it
        makes of a row is compared with what was taken.
    type: list
    elements: str
    default: []
  max_rows:
    description:
      - If more rows than this are to be moved, nothing is, and the task fails. No limit if unset.
    type: int
  target_batch_ms:
    description:
      - How long one batch should take, in milliseconds, 5 to 10000. Short batches keep other users' waits short; long
        ones are a little faster in all.
    type: int
    default: 50
  deadline_s:
    description:
      - After this number of seconds no further batch is started. The task then fails and says how many rows remain.
    type: int
    default: 3600
  lock_timeout_ms:
    description:
      - Longest wait for a lock, in milliseconds. It is short, because those who come later wait behind it.
      - Rows that others hold longer are left out and tried again at the end.
    type: int
    default: 100
  statement_timeout_ms:
    description:
      - Longest statement, in milliseconds. The longest one counts the old rows.
    type: int
    default: 300000
  max_replication_lag_bytes:
    description:
      - Wait between batches while a connected standby is further behind than this. Needs the role C(pg_monitor).
      - No limit if unset.
    type: int
  max_wal_bytes_s:
    description:
      - Wait between batches so that the server writes no more WAL than this in a second, on average since the start and
        counting everybody's. No limit if unset.
    type: int
extends_documentation_fragment:
  - runbook_postgresql
attributes:
  check_mode:
    description: Returns the same plan as the real run. The server itself refuses every write in that session.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
notes:
  - Needs SELECT and DELETE on the source, SELECT and INSERT on the archive, and USAGE on both schemas. UPDATE on the
    source lets rows that others hold be left out one by one instead of batch by batch. To make the archive, CREATE on
    its schema and membership in the source's owner; to move whole partitions, ownership of both tables. Where
    row-level security is on, a policy that opens every row, or BYPASSRLS.
  - Refuses a source that foreign keys point at, an archive with other columns, an archive whose own foreign keys change
    its rows (C(ON DELETE), C(ON UPDATE)), both where a subscription fills them, and both in what a managed platform
    keeps for itself (Supabase's C(auth), C(storage) and others).
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Archive audit rows older than 90 days
  pg_archive:
    login_host: db.example.com
    login_user: runbook_maintain
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
    source: public.audit_log
    archive: public.audit_log_archive
    older_than_days: 90

- name: Archive gently, at most two million rows
  pg_archive:
    dsn: "{{ db_dsn }}"
    source: public.audit_log
    archive: archive.audit_log
    older_than_days: 90
    max_rows: 2000000
    target_batch_ms: 20
    max_replication_lag_bytes: 67108864
    deadline_s: 1800
"""

RETURN = r"""
msg:
  description: What was moved and what remains, in one sentence.
  returned: always
  type: str
  sample: >-
    Moved 117,000 rows older than 2026-08-25 02:00:00 UTC from public.audit_log to public.audit_log_archive in 6.1 s
    (19,180 rows/s); 0 remain.
status:
  description:
    - V(ok), V(breach) where rows remain that should have been moved, or
      V(unknown) where a server gave no answer.
  returned: always
  type: str
source:
  description: The table that was emptied of old rows.
  returned: always
  type: str
archive:
  description: The table that took them.
  returned: always
  type: str
cutoff:
  description: Rows older than this were moved. ISO 8601.
  returned: always
  type: str
  sample: "2026-08-25T02:00:00+00:00"
planned_rows:
  description: Rows that were to be moved, as counted at the start.
  returned: always
  type: int
moved_rows:
  description: Rows that are now in the archive, by this run.
  returned: always
  type: int
already_archived_rows:
  description: Rows deleted from the source because the archive already held the same key and content.
  returned: always
  type: int
remaining_rows:
  description: Rows older than the cutoff that are still in the source; null where that could not be counted any more.
  returned: always
  type: int
conflicting_rows:
  description: Those of them whose key the archive holds with other content.
  returned: always
  type: int
batches:
  description: Transactions that moved rows.
  returned: always
  type: int
oldest_moved:
  description: Oldest timestamp that was moved, as the server writes it, in UTC.
  returned: always
  type: str
newest_moved:
  description: Newest timestamp that was moved.
  returned: always
  type: str
duration_s:
  description: Seconds from the plan to the end.
  returned: always
  type: float
rate_rows_s:
  description: Rows moved in a second.
  returned: always
  type: float
longest_batch_s:
  description: Seconds that the longest transaction took.
  returned: always
  type: float
throttled_s:
  description: Seconds spent waiting for standbys, for the WAL limit and after batches that took too long.
  returned: always
  type: float
wal_bytes:
  description: WAL that the server wrote meanwhile, that of other users included.
  returned: always
  type: int
detached_partitions:
  description: Partitions that were moved whole.
  returned: always
  type: list
  elements: str
archive_created:
  description: Whether the archive was made.
  returned: always
  type: bool
plan:
  description: What was to be done.
  returned: always
  type: dict
  contains:
    strategy:
      description: V(rows), V(partitions) or V(nothing).
      type: str
    walk:
      description: V(index), V(blocks), or empty where no single rows are moved.
      type: str
    rows:
      description: Rows to move.
      type: int
    staying_rows:
      description: Rows older than the cutoff whose partition is not old as a whole.
      type: int
    oldest:
      description: Oldest of the rows.
      type: str
    newest:
      description: Newest of the rows.
      type: str
    partitions:
      description: Partitions to move whole.
      type: list
      elements: str
    make_archive:
      description: Whether the archive is made.
      type: bool
    make_key:
      description: Whether the archive gets a unique index on the source's key.
      type: bool
executed_queries:
  description: SQL that ran, or would run. A statement that ran for every batch stands there once.
  returned: always
  type: list
  elements: str
"""

import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import archive as driver
from ansible.module_utils.runbook.drivers.postgres import archive_access as access
from ansible.module_utils.runbook.drivers.postgres import archive_catalog as catalog
from ansible.module_utils.runbook.drivers.postgres import archive_rows as rows
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import retention
from ansible.module_utils.runbook.rules.identifiers import QualifiedName, parse_qualified
from ansible.module_utils.runbook.rules.postgres import archive_access
from ansible.module_utils.runbook.rules.postgres import archive_batches as batches
from ansible.module_utils.runbook.rules.postgres import archive_plan as plans
from ansible.module_utils.runbook.rules.postgres import archive_refusals as refusals
from ansible.module_utils.runbook.rules.postgres import archive_words as words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ansible.module_utils.runbook.rules.postgres.archive_tables import Column, Partition, Table

#: How often the source is gone through: once for all rows, then for those that were locked or came late.
ROUNDS = 3
#: Seconds between two looks at the standbys.
LAG_INTERVAL_S = 1.0
#: Options whose value must lie between two bounds.
BOUNDS = {
    "target_batch_ms": (5, 10_000),
    "deadline_s": (1, 604_800),
    "lock_timeout_ms": (1, 60_000),
    "statement_timeout_ms": (1_000, 86_400_000),
    "max_rows": (1, 2**63 - 1),
    "max_replication_lag_bytes": (1, 2**63 - 1),
    "max_wal_bytes_s": (1, 2**63 - 1),
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return postgres.argument_spec() | {
        "source": {"type": "str", "required": True},
        "archive": {"type": "str", "required": True},
        "timestamp_column": {"type": "str", "default": "created_at"},
        "older_than_days": {"type": "int", "required": True},
        "allow_triggers": {"type": "list", "elements": "str", "default": []},
        "max_rows": {"type": "int"},
        "target_batch_ms": {"type": "int", "default": 50},
        "deadline_s": {"type": "int", "default": 3600},
        "lock_timeout_ms": {"type": "int", "default": 100},
        "statement_timeout_ms": {"type": "int", "default": 300000},
        "max_replication_lag_bytes": {"type": "int"},
        "max_wal_bytes_s": {"type": "int"},
    }


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Hold signals back for one short transaction, so that what it did is counted before the module stops."""
    held = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


@dataclass(frozen=True)
class Job:
    """What is to be done to which tables; ``archive`` is None while there is none."""

    plan: plans.Plan
    source: Table
    column: Column
    archive: Table | None
    archive_name: QualifiedName

    def creation(self, session: postgres.Session) -> list[Any]:
        """Statements that make the archive fit to take rows."""
        if self.plan.make_archive:
            parted = self.plan.strategy == "partitions"
            return access.statements(session, self.source, self.archive_name, self.column.name, partitioned=parted)
        return [driver.key_creation(self.source, self.archive_name)] if self.plan.make_key else []


def require_closed(session: postgres.Session, source: QualifiedName, archive: QualifiedName) -> archive_access.Compared:
    """Refuse an archive that shows more than its source, to anybody.

    :raises RunbookError: it does; the sentence says who may read what, and the SQL that ends it
    """
    found = access.compare(session, source, archive)
    ways = archive_access.openings(found)
    if ways:
        fixes = [session.render(statement) for statement in access.closing(found, ways)]
        raise RunbookError(archive_access.more_open(found, ways, fixes))
    return found


@driver.translate_errors()
def prepare(context: Context, session: postgres.Session, cutoff: datetime) -> Job:
    """Look at both tables, refuse what must be refused, count what there is to move."""
    params = context.params
    source_name = parse_qualified(params["source"], option="source")
    archive_name = parse_qualified(params["archive"], option="archive")
    column_name = params["timestamp_column"]
    source = catalog.read_table(session, source_name, event="DELETE")
    if source is None:
        database = session.target.database
        raise RunbookError(f"source: there is no table {source_name} in database {database!r}; check its name.")
    archive = catalog.read_table(session, archive_name, event="INSERT")
    schema = catalog.read_schema(session, archive_name.schema)
    refusals.refuse(source, archive, schema, archive_name, column_name)
    if archive is not None:
        caution = archive_access.unreadable(require_closed(session, source_name, archive_name))
        if caution:
            context.warn(caution)
    if source.by_policy or (archive is not None and archive.by_policy):
        driver.follow_policies(session)
    column = source.named(column_name)
    if params["max_replication_lag_bytes"]:
        # Refuses now, and not in the middle, a role that may not see the lag.
        driver.replication_lag_bytes(session)
    if source.partitioned_by == "r" and source.partition_columns == (column_name,):
        source = replace(source, partitions=catalog.read_partitions(session, source, column, cutoff))
    way = plans.route(source, archive, column_name, session.server_version)
    if way.strategy == "rows":
        refusals.refuse_triggers(source, archive, params["allow_triggers"])
        driver.require_deletable(session, source)
    else:
        beside = source_name if archive is None else archive_name
        old = [each for each in source.partitions if each.is_old]
        old = [replace(each, local_objects=access.local_objects(session, each.name, beside)) for each in old]
        refusals.refuse_local_objects(old)
        source = replace(source, partitions=tuple(old))
    counted = driver.count(session, source, column, cutoff)
    plan = plans.plan(source, archive, way, cutoff=cutoff, counted=counted, max_rows=params["max_rows"])
    refusals.refuse_missing_on_subscribers(plan, schema, archive_name)
    job = Job(plan, source, column, archive, archive_name)
    if plan.make_archive and not access.may_make(session, source.owner, archive_name.schema):
        needed = [session.render(statement) for statement in job.creation(session)]
        raise RunbookError(archive_access.cannot_make(source_name, archive_name, source.owner, needed))
    return job


class Run:
    """One run, from the plan to the last batch."""

    def __init__(self, context: Context, session: postgres.Session, clock: Clock, job: Job) -> None:
        self.context = context
        self.params = context.params
        self.session = session
        self.clock = clock
        self.job = job
        self.plan = job.plan
        self.source = job.source
        self.tally = batches.Tally()
        self.size = batches.FIRST_BATCH_ROWS
        self.lag_seen_at = 0.0
        self.wal_start = driver.wal_position(session)

    def preview(self) -> list[str]:
        """The SQL that a run executes, as far as it is known before. Check mode shows the same."""
        archive = self.job.archive or plans.made(self.source, self.job.archive_name)
        statements = self.job.creation(self.session)
        for partition in self.plan.partitions:
            statements += driver.proof(partition)
            statements += driver.move_partition(self.source, archive, partition)
        if self.plan.walk:
            scope: rows.Scope = "ahead" if self.plan.walk == "index" else "blocks"
            statements += rows.Mover.statements(self.source, archive, self.job.column, scope)
        return [self.session.render(each) for each in statements]

    def make_archive(self) -> Table:
        """Make the archive or its key, where either is missing; the archive as it then is."""
        name, statements = self.job.archive_name, self.job.creation(self.session)

        def make() -> None:
            with signals_deferred():
                require = partial(require_closed, self.session, self.source.name, name)
                driver.make(self.session, statements, require=require)
                self.tally.created = self.plan.make_archive
                self.tally.altered = True

        try:
            if statements:
                driver.retry_on_lock(self.clock, make, name)
        except driver.KeyTakenError:
            raise RunbookError(
                f"archive: {name} holds rows twice under the same {', '.join(self.source.key)}, so it can have "
                "no unique index on it; delete the doubles first."
            ) from None
        archive = catalog.read_table(self.session, name, event="INSERT")
        if archive is None:
            raise RunbookError(f"archive: {name} was dropped or renamed meanwhile; run again.")
        return archive

    def move_partitions(self, archive: Table, guard: lease.Guard) -> None:
        """Hand over one old partition after the other, each in one short transaction."""
        self.tally.remaining = self.plan.rows + self.plan.staying_rows
        for partition in self.plan.partitions:
            self.clock.check()
            for statement in driver.proof(partition):
                driver.retry_on_lock(self.clock, partial(driver.make, self.session, [statement]), partition.name)
            driver.retry_on_lock(self.clock, partial(self.move_partition, archive, partition), partition.name)
            self.progress()
            guard.renew()

    def move_partition(self, archive: Table, partition: Partition) -> None:
        """Hand over one partition."""
        begun = time.monotonic()
        with signals_deferred():
            driver.make(self.session, driver.move_partition(self.source, archive, partition))
            self.tally.partitions.append(str(partition.name))
            self.tally.add(partition.rows, time.monotonic() - begun, partition.oldest, partition.newest)
            if self.tally.remaining is not None:
                self.tally.remaining -= partition.rows

    def move_rows(self, archive: Table, guard: lease.Guard) -> None:
        """Go through the source until no old row is left that could be moved."""
        self.guard = guard
        self.archive = archive
        self.mover = rows.Mover(self.session, self.source, archive, self.job.column, self.plan.cutoff)
        walk = rows.Walk(self.mover, self, self.clock, self.source)
        try:
            for number in range(ROUNDS):
                self.clock.sleep(0.25 * 2**number if number else 0.0)
                self.clock.check()
                if self.plan.walk == "index":
                    walk.by_index()
                else:
                    walk.by_blocks()
                remaining = driver.retry_on_lock(self.clock, self.mover.left, self.source.name)
                if remaining and walk.met_taken_keys:
                    self.tally.conflicts = driver.retry_on_lock(self.clock, self.mover.conflicts, self.source.name)
                self.tally.remaining = remaining
                if remaining == self.tally.conflicts:
                    break
        finally:
            self.finish_rows()

    def finish_rows(self) -> None:
        """Make durable what was moved; if the run was stopped, count what is left."""
        if self.session.connection.closed:
            return
        with suppress(RunbookError):
            self.mover.flush()
            if self.tally.remaining is None:
                self.tally.remaining = self.mover.left_soon()

    def batch(self, scope: rows.Scope, low: str, high: str, choice: rows.Choice, *, skip_locked: bool) -> rows.Moved:
        """One transaction."""
        self.clock.check()
        self.throttle()
        target_ms = self.params["target_batch_ms"]
        begun = time.monotonic()
        with signals_deferred():
            try:
                moved = self.mover.move(scope, low, high, self.size, choice=choice, skip_locked=skip_locked)
            except driver.MismatchError as error:
                raise RunbookError(words.difference(self.source, self.archive, error.found)) from None
            took_s = time.monotonic() - begun
            if choice == "same":
                self.tally.already += moved.rows
            elif moved.rows:
                self.tally.add(moved.rows, took_s, moved.oldest, moved.newest)
        self.size = batches.next_batch(self.size, moved.rows, took_s * 1000, target_ms)
        self.progress()
        self.guard.renew()
        self.tally.throttled_s += self.clock.sleep(batches.pause_s(took_s * 1000, target_ms))
        return moved

    def throttle(self) -> None:
        """Wait for standbys that are behind, and for the WAL limit."""
        most_wal, most_lag = self.params["max_wal_bytes_s"], self.params["max_replication_lag_bytes"]
        if most_wal:
            pause_s = batches.wal_pause_s(
                driver.wal_bytes_since(self.session, self.wal_start), self.clock.passed_s(), most_wal
            )
            self.tally.throttled_s += self.clock.sleep(pause_s)
            self.clock.check()
        if most_lag and time.monotonic() - self.lag_seen_at >= LAG_INTERVAL_S:
            while driver.replication_lag_bytes(self.session) > most_lag:
                self.tally.throttled_s += self.clock.sleep(LAG_INTERVAL_S / 4)
                self.clock.check()
                self.guard.renew()
            self.lag_seen_at = time.monotonic()

    def progress(self, *, final: bool = False) -> None:
        """Tell how far the run is."""
        done = self.tally.moved + self.tally.already
        label = f"archive {self.source.name}"
        self.context.progress.update(label, done, max(done, self.plan.rows), "rows", final=final)

    def figures(self) -> dict[str, Any]:
        """The result, but for its sentence."""
        tally, plan = self.tally, self.plan
        duration_s = self.clock.passed_s()
        with suppress(RunbookError):
            tally.wal_bytes = driver.wal_bytes_since(self.session, self.wal_start)
        shown = {"diff": {"prepared": words.describe(plan, self.source, self.job.archive_name)}}
        return (shown if self.context.diff else {}) | {
            "changed": bool(tally.moved or tally.already or tally.altered),
            "source": str(self.source.name),
            "archive": str(self.job.archive_name),
            "cutoff": plan.cutoff.isoformat(),
            "planned_rows": plan.rows,
            "moved_rows": tally.moved,
            "already_archived_rows": tally.already,
            "remaining_rows": tally.remaining,
            "conflicting_rows": tally.conflicts,
            "batches": tally.batches,
            "oldest_moved": tally.oldest,
            "newest_moved": tally.newest,
            "duration_s": round(duration_s, 3),
            "rate_rows_s": round((tally.moved + tally.already) / duration_s, 1),
            "longest_batch_s": round(tally.longest_s, 3),
            "throttled_s": round(tally.throttled_s, 3),
            "wal_bytes": tally.wal_bytes,
            "detached_partitions": tally.partitions,
            "archive_created": tally.created,
            "plan": {
                "strategy": plan.strategy,
                "walk": plan.walk,
                "rows": plan.rows,
                "staying_rows": plan.staying_rows,
                "oldest": plan.oldest,
                "newest": plan.newest,
                "partitions": [str(partition.name) for partition in plan.partitions],
                "make_archive": plan.make_archive,
                "make_key": plan.make_key,
            },
            "executed_queries": self.session.executed_queries,
        }

    def sentence(self) -> str:
        """What was moved, and what remains."""
        return words.sentence(self.tally, self.plan, self.source, self.job.archive_name, self.clock.passed_s())

    def tell(self) -> dict[str, Any]:
        """The result where nothing is moved: check mode, or nothing to do."""
        self.tally.remaining = self.plan.rows + self.plan.staying_rows
        self.session.executed_queries += self.preview()
        message = words.promise(self.plan, self.source, self.job.archive_name)
        return self.figures() | {"changed": self.plan.strategy != "nothing", "msg": message}

    def act(self) -> dict[str, Any]:
        """Carry the plan out."""
        try:
            with lease.writing(self.session, self.context.run) as guard:
                self.session.executed_queries += self.preview()
                archive = self.make_archive()
                if self.plan.strategy == "partitions":
                    self.move_partitions(archive, guard)
                else:
                    self.move_rows(archive, guard)
            reason = words.reason_for_remaining(self.tally, self.plan, self.source)
            if reason:
                raise RunbookError(reason)
        except RunbookError as error:
            raise RunbookError(f"{error.message} {self.sentence()}", **(self.figures() | error.context)) from error
        finally:
            self.progress(final=True)
        return self.figures() | {"msg": self.sentence()}


def core(context: Context) -> dict[str, Any]:
    """Move old rows."""
    params = context.params
    context.require_bounds(BOUNDS)
    clock = Clock(params["deadline_s"])
    with (
        postgres.Session(
            postgres.Target.from_params(params),
            lock_timeout_ms=params["lock_timeout_ms"],
            statement_timeout_ms=min(params["statement_timeout_ms"], params["deadline_s"] * 1000),
            purpose="pg_archive",
        ) as session,
        driver.translate_errors(),
    ):
        permits.require_database(context.run, session)
        driver.settle(session, read_only=context.check_mode)
        cutoff = retention.cutoff(driver.server_now(session), params["older_than_days"])
        job = driver.retry_on_lock(clock, lambda: prepare(context, session, cutoff), params["source"])
        for caution in job.plan.warnings:
            context.warn(caution)
        run = Run(context, session, clock, job)
        return run.tell() if context.check_mode or job.plan.strategy == "nothing" else run.act()


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_archive", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
