#!/usr/bin/python
"""Module pg_archive: move old rows of a table to its archive."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_archive
short_description: Move old rows of a table to its archive table
description:
  - Moves the rows that are older than a number of days from one table to another of the same database.
  - A batch of rows is deleted here and inserted there in one transaction. So a row is always in exactly one of the two
    tables, whenever the run is stopped, killed or cut off; the next run goes on from there.
  - One cutoff is fixed at the start, from the server's clock, and used for everything.
  - Batches follow an index on the timestamp column. Their size adapts to O(target_batch_ms).
  - Where source and archive are both partitioned by ranges of the timestamp column, partitions that are old as a whole
    are detached from the source and attached to the archive. Their rows are read twice, once to count and once to prove
    the limits, but not written. Rows of a partition that is only partly old stay until all of it is old.
  - An archive that is missing is made, with the same columns, the time of the move in C(archived_at), the source's key
    and an index on the timestamp. It is partitioned where the source's partitions can be moved whole.
  - A row that the archive already holds, with the same key and the same content, is deleted from the source and not
    doubled. A row whose key the archive holds with other content stays, and the task fails with the number of them.
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
      - After this number of seconds no further batch is begun. The task then fails and says how many rows remain.
    type: int
    default: 3600
  lock_timeout_ms:
    description:
      - Longest wait for a lock, in milliseconds. It is short, because those who come later wait behind it.
      - Rows that others hold longer are left out and tried again at the end.
    type: int
    default: 200
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
    its schema; to move whole partitions, ownership of both tables.
  - Refuses a source that foreign keys point at, and an archive with other columns.
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
  description: V(ok), or V(breach) where rows remain that should have been moved.
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

import random
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ansible.module_utils.runbook.drivers import archive as driver
from ansible.module_utils.runbook.drivers import lease, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import archive as rules
from ansible.module_utils.runbook.rules import retention
from ansible.module_utils.runbook.rules.identifiers import QualifiedName, parse_qualified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Done = TypeVar("Done")

#: How often the source is gone through: once for all rows, then for those that were locked or came late.
ROUNDS = 4
#: Tries of a batch whose key the archive took meanwhile.
KEY_TRIES = 3
#: Longest wait between two tries for a lock, in seconds.
LONGEST_PAUSE_S = 2.0
#: Longest time that one lock is tried for, in seconds; deadline_s may end it sooner.
LOCK_PATIENCE_S = 60.0
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
        "max_rows": {"type": "int"},
        "target_batch_ms": {"type": "int", "default": 50},
        "deadline_s": {"type": "int", "default": 3600},
        "lock_timeout_ms": {"type": "int", "default": 200},
        "statement_timeout_ms": {"type": "int", "default": 300000},
        "max_replication_lag_bytes": {"type": "int"},
        "max_wal_bytes_s": {"type": "int"},
    }


@dataclass
class Tally:
    """What was done so far."""

    moved: int = 0
    already: int = 0
    batches: int = 0
    oldest: str | None = None
    newest: str | None = None
    longest_s: float = 0.0
    throttled_s: float = 0.0
    wal_bytes: int = 0
    remaining: int | None = None
    conflicts: int = 0
    partitions: list[str] = field(default_factory=list)
    created: bool = False
    altered: bool = False

    def saw(self, oldest: str | None, newest: str | None) -> None:
        """Take note of the oldest and newest timestamp of a batch."""
        if oldest is not None and (self.oldest is None or rules.moment_key(oldest) < rules.moment_key(self.oldest)):
            self.oldest = oldest
        if newest is not None and (self.newest is None or rules.moment_key(newest) > rules.moment_key(self.newest)):
            self.newest = newest


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back for one short transaction, so that what it did is counted before the module stops."""
    held = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


class Clock:
    """The run's time: what has passed, what is left."""

    def __init__(self, deadline_s: int) -> None:
        self.deadline_s = deadline_s
        self.started = time.monotonic()

    def passed_s(self) -> float:
        return time.monotonic() - self.started

    def left_s(self) -> float:
        return self.deadline_s - self.passed_s()

    def check(self) -> None:
        """Stop where the deadline has passed."""
        if self.left_s() <= 0:
            raise RunbookError(
                f"deadline_s: the {self.deadline_s} s have passed; run again to go on, or give it more time."
            )

    def sleep(self, seconds: float) -> float:
        """Sleep, but not beyond the deadline; the seconds slept."""
        span = max(0.0, min(seconds, self.left_s()))
        time.sleep(span)
        return span

    def patiently(self, act: Callable[[], Done], what: str) -> Done:
        """Do what needs a lock that others may hold; try again, with longer and longer pauses, within bounds."""
        begun, pause = time.monotonic(), 0.05
        while True:
            try:
                return act()
            except driver.LockedError:
                tried_s = time.monotonic() - begun
                if tried_s > LOCK_PATIENCE_S or self.left_s() <= 0:
                    raise RunbookError(
                        f"{what} is locked by somebody else, and in {tried_s:.1f} s no lock was to be had; "
                        "end the holder, which pg_blocking_pids() names, and run again."
                    ) from None
            except driver.TooSlowError:
                raise RunbookError(
                    f"statement_timeout_ms: a statement on {what} took longer; raise it, and run again."
                ) from None
            self.sleep(random.uniform(0.5, 1.0) * pause)
            pause = min(LONGEST_PAUSE_S, pause * 2)


class Run:
    """One run, from the plan to the last batch."""

    def __init__(
        self,
        context: Context,
        session: postgres.Session,
        clock: Clock,
        plan: rules.Plan,
        source: rules.Table,
        name: QualifiedName,
    ) -> None:
        self.context = context
        self.params = context.params
        self.session = session
        self.clock = clock
        self.plan = plan
        self.source = source
        self.archive_name = name
        column = source.column(self.params["timestamp_column"])
        assert column is not None  # refused before
        self.column = column
        self.tally = Tally()
        self.size = rules.FIRST_BATCH_ROWS
        self.merging = False
        self.met_taken_keys = False
        self.lag_seen_at = 0.0

    def statements(self) -> list[Any]:
        """What makes the archive fit to take rows."""
        if self.plan.make_archive:
            return driver.creation(
                self.source,
                self.archive_name,
                self.column.name,
                partitioned=self.plan.strategy == "partitions",
                server_version=self.session.server_version,
            )
        return [driver.key_creation(self.source, self.archive_name)] if self.plan.make_key else []

    def preview(self, archive: rules.Table | None) -> list[str]:
        """The SQL that a run would execute, as far as it is known before."""
        archive = archive or rules.made(self.source, self.archive_name)
        statements = self.statements()
        if self.plan.strategy == "partitions":
            stamp = None if self.source.column(rules.STAMP) else archive.column(rules.STAMP)
            for partition in self.plan.partitions:
                statements += driver.proof(partition)
                statements += driver.hand_over(self.source, self.archive_name, stamp, partition)
        elif self.plan.strategy == "rows":
            scope: driver.Scope = "span" if self.plan.walk == "index" else "blocks"
            statements.append(driver.Mover.statement(self.source, archive, self.column, scope))
        return [self.session.render(each) for each in statements]

    def make_archive(self) -> None:
        """Make the archive or its key, where either is missing."""
        statements = self.statements()
        if not statements:
            return

        def make() -> None:
            with undisturbed():
                driver.make(self.session, statements)
                self.tally.created = self.plan.make_archive
                self.tally.altered = True

        try:
            self.clock.patiently(make, f"archive: {self.archive_name}")
        except driver.KeyTakenError:
            raise RunbookError(
                f"archive: {self.archive_name} holds rows twice under the same {', '.join(self.source.key)}, so it can have "
                "no unique index on it; delete the doubles first."
            ) from None

    # Whole partitions

    def move_partitions(self, archive: rules.Table, guard: lease.Guard) -> None:
        """Hand over one old partition after the other, each in one short transaction."""
        stamp = None if self.source.column(rules.STAMP) else archive.column(rules.STAMP)
        for partition in self.plan.partitions:
            self.clock.check()
            for statement in driver.proof(partition):
                self.clock.patiently(lambda one=statement: driver.make(self.session, [one]), str(partition.name))  # type: ignore[misc]
            self.clock.patiently(lambda each=partition: self.swap(archive, stamp, each), str(partition.name))  # type: ignore[misc]
            self.progress()
            guard.renew()
        self.tally.remaining = self.plan.staying_rows

    def swap(self, archive: rules.Table, stamp: rules.Column | None, partition: rules.Partition) -> None:
        """Hand over one partition."""
        tally = self.tally
        begun = time.monotonic()
        with undisturbed():
            driver.make(self.session, driver.hand_over(self.source, archive.name, stamp, partition))
            tally.longest_s = max(tally.longest_s, time.monotonic() - begun)
            tally.batches += 1
            tally.moved += partition.rows
            tally.partitions.append(str(partition.name))
            tally.saw(partition.oldest, partition.newest)

    # Rows

    def move_rows(self, archive: rules.Table, guard: lease.Guard) -> None:
        """Go through the source until no old row is left that could be moved."""
        self.guard = guard
        self.mover = driver.Mover(
            self.session,
            self.source,
            archive,
            self.column,
            self.plan.cutoff,
            skip_locked="UPDATE" in self.source.rights,
        )
        self.mover.prepare_session()
        try:
            for number in range(ROUNDS):
                self.clock.sleep(0.0 if number == 0 else 0.25 * 2**number)
                self.clock.check()
                if self.plan.walk == "index":
                    self.walk_index()
                else:
                    self.walk_blocks()
                self.tally.remaining = self.clock.patiently(self.mover.left, str(self.source.name))
                if self.tally.remaining and self.met_taken_keys:
                    self.tally.conflicts = self.clock.patiently(self.mover.conflicts, str(self.source.name))
                if self.tally.remaining == self.tally.conflicts:
                    break
        finally:
            self.finish_rows()

    def finish_rows(self) -> None:
        """Make what was moved durable, and count what is left if the run was stopped."""
        if self.session.connection.closed:
            return
        with suppress(RunbookError, driver.LockedError, driver.TooSlowError):
            self.mover.flush()
            self.tally.wal_bytes = self.mover.wal_bytes()
            if self.tally.remaining is None:
                self.tally.remaining = self.mover.left_soon()

    def walk_index(self) -> None:
        """Go through the old rows in the order of time. What lies behind is never read again in this round."""
        low: str | None = driver.BEGINNING
        while low is not None:
            self.clock.check()
            here, size = low, self.size
            edge = self.clock.patiently(lambda: self.mover.boundary(here, size), str(self.source.name))  # noqa: B023
            try:
                if edge == low:
                    # More rows of one moment than fit into a batch.
                    self.take("moment", low, low)
                    low = self.clock.patiently(lambda: self.mover.after(here), str(self.source.name))  # noqa: B023
                else:
                    self.take("span", low, edge or self.mover.high)
                    low = edge
            except driver.TooSlowError:
                self.shrink()

    def walk_blocks(self) -> None:
        """Go through the source block by block."""
        first, blocks = 0, self.mover.blocks()
        while first < blocks:
            self.clock.check()
            last = first + driver.STEP_BLOCKS
            try:
                self.take("blocks", f"({first},0)", f"({last},0)")
                first = last
            except driver.TooSlowError:
                self.shrink()

    def shrink(self) -> None:
        """After a timeout: much smaller batches."""
        if self.size == 1:
            raise RunbookError(
                f"statement_timeout_ms: {self.params['statement_timeout_ms']} ms are too short to move a single row "
                f"of {self.source.name}; raise it, or look for a slow trigger."
            )
        self.size = max(1, self.size // 8)

    def take(self, scope: driver.Scope, low: str, high: str) -> None:
        """Move all rows of a scope but those that somebody else holds, and those whose key is taken."""
        skip_locked, key_tries, locked_since = False, 0, None
        while True:
            try:
                if self.merging:
                    same = self.take_pieces(scope, low, high, "same", skip_locked=skip_locked)
                    self.take_pieces(scope, low, high, "fresh", skip_locked=skip_locked)
                    self.merging = same > 0
                elif scope == "span" and not skip_locked:
                    self.batch(scope, low, high, "all", skip_locked=False)
                else:
                    self.take_pieces(scope, low, high, "all", skip_locked=skip_locked)
                return
            except driver.KeyTakenError as taken:
                key_tries += 1
                if not self.source.key or key_tries > KEY_TRIES:
                    raise RunbookError(
                        f"archive: {taken} of {self.archive_name} forbids rows whose values it already holds, and they are "
                        f"not told by the key of {self.source.name}; drop that index, or delete those rows from one side."
                    ) from None
                self.merging = self.met_taken_keys = True
            except driver.LockedError:
                if not self.mover.may_skip_locked:
                    return
                now = time.monotonic()
                if skip_locked:
                    # Rows are skipped, so it is the whole table that is locked.
                    locked_since = locked_since or now
                    if now - locked_since > LOCK_PATIENCE_S:
                        return
                    self.clock.sleep(random.uniform(0.1, 0.5))
                    self.clock.check()
                skip_locked = True

    def take_pieces(self, scope: driver.Scope, low: str, high: str, choice: driver.Choice, *, skip_locked: bool) -> int:
        """Move the rows of a scope a batch at a time, until a batch finds fewer than it may take; how many."""
        total = 0
        while True:
            asked = self.size
            taken = self.batch(scope, low, high, choice, skip_locked=skip_locked)
            total += taken
            if taken < asked:
                return total

    def batch(self, scope: driver.Scope, low: str, high: str, choice: driver.Choice, *, skip_locked: bool) -> int:
        """One transaction; the rows that left the source."""
        self.clock.check()
        self.throttle()
        tally, target_ms = self.tally, self.params["target_batch_ms"]
        begun = time.monotonic()
        with undisturbed():
            moved = self.mover.move(scope, low, high, self.size, choice=choice, skip_locked=skip_locked)
            took_s = time.monotonic() - begun
            if moved.rows:
                tally.batches += 1
                tally.longest_s = max(tally.longest_s, took_s)
            if choice == "same":
                tally.already += moved.rows
            else:
                tally.moved += moved.rows
                tally.saw(moved.oldest, moved.newest)
        self.size = rules.next_batch(self.size, moved.rows, took_s * 1000, target_ms)
        self.progress()
        self.guard.renew()
        tally.throttled_s += self.clock.sleep(rules.pause_s(took_s * 1000, target_ms))
        return moved.rows

    def throttle(self) -> None:
        """Wait for standbys that are behind, and for the WAL limit."""
        most_wal = self.params["max_wal_bytes_s"]
        if most_wal:
            pause = rules.wal_pause_s(self.mover.wal_bytes(), self.clock.passed_s(), most_wal)
            self.tally.throttled_s += self.clock.sleep(pause)
            self.clock.check()
        most_lag = self.params["max_replication_lag_bytes"]
        if most_lag and time.monotonic() - self.lag_seen_at >= LAG_INTERVAL_S:
            while driver.replication_lag_bytes(self.session) > most_lag:
                self.tally.throttled_s += self.clock.sleep(LAG_INTERVAL_S / 4)
                self.clock.check()
                self.guard.renew()
            self.lag_seen_at = time.monotonic()

    def progress(self) -> None:
        """Tell how far the run is."""
        done = self.tally.moved + self.tally.already
        self.context.progress.update(f"archive {self.source.name}", done, max(done, self.plan.rows), "rows")

    # What is said in the end

    def figures(self) -> dict[str, Any]:
        """The result, but for its sentence."""
        tally, plan = self.tally, self.plan
        duration_s = self.clock.passed_s()
        return {
            "changed": bool(tally.moved or tally.already or tally.altered),
            "source": str(self.source.name),
            "archive": str(self.archive_name),
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
            "rate_rows_s": round((tally.moved + tally.already) / duration_s, 1) if duration_s else 0.0,
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
        tally, where = self.tally, f"from {self.source.name} to {self.archive_name}"
        seconds = self.clock.passed_s()
        old = f"older than {rules.text(self.plan.cutoff)}"
        if self.plan.strategy == "nothing" and not tally.altered:
            said = (
                f"Nothing to move {where}: no row is {old}"
                if not self.plan.staying_rows
                else f"Nothing to move {where}"
            )
        else:
            said = f"Moved {tally.moved:,} rows {old} {where} in {seconds:.1f} s ({tally.moved / seconds:,.0f} rows/s)"
        if tally.partitions:
            said += f", as {len(tally.partitions)} whole partitions"
        if tally.already:
            said += f"; {tally.already:,} more were in the archive already"
        left = "an unknown number of" if tally.remaining is None else f"{tally.remaining:,}"
        why = " in partitions that are not old as a whole yet" if self.plan.staying_rows and tally.remaining else ""
        return f"{said}; {left} remain{why}."

    def undone(self) -> str | None:
        """Why old rows remain, where they should not; None where all is done."""
        tally = self.tally
        left = (tally.remaining or 0) - self.plan.staying_rows
        if left <= 0:
            return None
        reasons = []
        if tally.conflicts:
            reasons.append(
                f"the archive holds {tally.conflicts:,} keys with other content (compare both tables by "
                f"{', '.join(self.source.key)}, and correct or delete one side)"
            )
        if left > tally.conflicts:
            reasons.append(
                f"{left - tally.conflicts:,} rows were locked by others, kept by a trigger, or came in late (run again)"
            )
        return f"Rows stay in {self.source.name}: {', and '.join(reasons)}."


def make_plan(
    context: Context, session: postgres.Session
) -> tuple[rules.Plan, rules.Table, rules.Table | None, QualifiedName]:
    """Look at both tables, refuse what must be refused, count what there is to move."""
    params = context.params
    source_name = parse_qualified(params["source"], option="source")
    archive_name = parse_qualified(params["archive"], option="archive")
    column_name = params["timestamp_column"]
    cutoff = retention.cutoff(driver.server_now(session), params["older_than_days"])
    source = driver.read_table(session, source_name, event="DELETE")
    if source is None:
        raise RunbookError(
            f"source: there is no table {source_name} in database {session.target.database!r}; check its name."
        )
    archive = driver.read_table(session, archive_name, event="INSERT")
    refused = rules.refusal(
        source, archive, driver.read_schema(session, archive_name.schema), archive_name, column_name
    )
    if refused:
        raise RunbookError(refused)
    column = source.column(column_name)
    assert column is not None  # refused above
    if params["max_replication_lag_bytes"]:
        driver.replication_lag_bytes(session)
    if source.partitioned_by == "r" and source.partition_columns == (column_name,):
        source = replace(source, partitions=driver.read_partitions(session, source, column, cutoff))
    way = rules.route(source, archive, column_name, session.server_version)
    counted = driver.count(session, source, column, cutoff)
    plan = rules.plan(
        source,
        archive,
        way,
        cutoff=cutoff,
        counted=counted,
        max_rows=params["max_rows"],
        warnings=rules.cautions(source, archive, column_name, counted.null_rows),
    )
    return plan, source, archive, archive_name


def core(context: Context) -> dict[str, Any]:
    """Move old rows."""
    params = context.params
    for option, (least, most) in BOUNDS.items():
        value = params[option]
        if value is not None and not least <= value <= most:
            raise RunbookError(f"{option}: {value} is out of bounds; give a number from {least} to {most}.")
    clock = Clock(params["deadline_s"])
    target = postgres.Target.from_params(params)
    with (
        postgres.Session(
            target,
            lock_timeout_ms=params["lock_timeout_ms"],
            statement_timeout_ms=min(params["statement_timeout_ms"], params["deadline_s"] * 1000),
            purpose="pg_archive",
        ) as session,
        driver.told_apart(),
    ):
        driver.settle(session, read_only=context.check_mode)
        plan, source, archive, name = clock.patiently(lambda: make_plan(context, session), str(params["source"]))
        for caution in plan.warnings:
            context.warn(caution)
        run = Run(context, session, clock, plan, source, name)
        shown = {"diff": {"prepared": rules.describe(plan, source, name)}} if context.diff else {}
        if context.check_mode or plan.strategy == "nothing":
            return told(run, archive, shown)
        try:
            with lease.writing(session, run_id=context.run.id) as guard:
                run.make_archive()
                session.executed_queries += [
                    text for text in run.preview(archive) if text not in session.executed_queries
                ]
                archive = driver.read_table(session, name, event="INSERT")
                assert archive is not None
                if plan.strategy == "partitions":
                    run.move_partitions(archive, guard)
                else:
                    run.move_rows(archive, guard)
        except RunbookError as error:
            raise RunbookError(
                f"{error.message} {run.sentence()}", **(run.figures() | shown | error.context)
            ) from error
        context.progress.update(f"archive {source.name}", plan.rows, plan.rows, "rows", final=True)
        undone = run.undone()
        if undone:
            raise RunbookError(f"{undone} {run.sentence()}", **(run.figures() | shown))
        return run.figures() | shown | {"status": "ok", "msg": run.sentence()}


def told(run: Run, archive: rules.Table | None, shown: dict[str, Any]) -> dict[str, Any]:
    """The result of a run that moves nothing: check mode, or nothing to do."""
    plan = run.plan
    run.tally.remaining = plan.rows + plan.staying_rows
    run.session.executed_queries += run.preview(archive)
    message = run.sentence()
    if plan.strategy != "nothing":
        message = (
            f"Would move {plan.rows:,} rows older than {rules.text(plan.cutoff)} "
            f"from {run.source.name} to {run.archive_name}, {'as whole partitions' if plan.partitions else 'in batches'}."
        )
    changed = plan.strategy != "nothing"
    return run.figures() | shown | {"changed": changed, "status": "ok", "msg": message}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_archive", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
