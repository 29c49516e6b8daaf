#!/usr/bin/python
"""Module pg_cleanup: deletes rows that are over, by rules."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cleanup
short_description: Delete expired and soft-deleted rows, by rules and within caps
description:
  - Deletes rows of tables whose time in a column is older than a number of days, such as sessions by C(expires_at) and
    soft-deleted rows by C(deleted_at). A row without that time is never deleted.
  - All rules are planned first - the rows are counted, and those of other tables that foreign keys take along
    (C(ON DELETE CASCADE)). If one rule has a mistake, meets a table that must not be cleaned up, or would delete more
    than it admits, nothing is deleted anywhere.
  - Rows are deleted in batches, the oldest first, each in a transaction of its own, whose size adapts to
    O(target_batch_ms). A row that somebody renews meanwhile stays. A run that is stopped or killed loses nothing else,
    and the next one goes on.
  - Each rule has one cutoff, from the server's clock.
options:
  rules:
    description:
      - What is over. Each has C(table) (C(schema.table)), C(column) (C(timestamptz), C(timestamp) in UTC, or C(date)),
        C(older_than_days) (at least 1), and may have C(max_rows) (100,000), the most that may be deleted in one run.
      - A row without a time there, or with an infinite one, is never deleted.
    type: list
    elements: dict
    required: true
  kept:
    description:
      - Tables that are never cleaned up, as C(schema.table). Tables and schemas with C(audit) in their name never are,
        nor are the schemas of the server, of this project and of a managed platform. One that does not exist is
        refused, as it would keep nothing.
    type: list
    elements: str
    default: []
  archived:
    description:
      - Tables that M(pg_archive) works with. They are never cleaned up either, and need not be there yet.
    type: list
    elements: str
    default: []
  held:
    description:
      - Tables under a legal hold. Their rules are left out, and the result says so. One that does not exist is refused,
        as it would hold nothing.
    type: list
    elements: str
    default: []
  target_batch_ms:
    description:
      - How long one batch should take, in milliseconds, 5 to 10000.
    type: int
    default: 50
  deadline_s:
    description:
      - After this number of seconds no further batch is started. The task then fails and says how many rows are left.
    type: int
    default: 1800
  lock_timeout_ms:
    description:
      - Longest wait for a lock, in milliseconds. A row that others hold longer is tried again for a minute.
    type: int
    default: 100
  statement_timeout_ms:
    description:
      - Longest statement, in milliseconds. The longest ones count.
    type: int
    default: 300000
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
  - Needs DELETE on each table, SELECT on its key and the column of the rule, and USAGE on its schema; SELECT on the
    columns of foreign keys that take rows along. Where row security is on, a policy that opens every row, or
    BYPASSRLS. M(pg_roles) grants all of that.
  - Refuses tables without a primary key, with rules, or with triggers that fire on a delete; tables that others refer
    to without C(ON DELETE CASCADE); a cascade that goes on from there; a table that shares rows with one that is kept
    or held, as a partition of it or the other way round.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Delete expired sessions and soft-deleted notes
  pg_cleanup:
    login_host: db.example.com
    login_user: runbook_maintain
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
    rules:
      - {table: public.sessions, column: expires_at, older_than_days: 7}
      - {table: public.notes, column: deleted_at, older_than_days: 30, max_rows: 5000}
    kept: [public.patients]
"""

RETURN = r"""
msg:
  description: What was deleted, in one sentence.
  type: str
  returned: always
status:
  description: V(ok), or V(breach) where something was refused or rows are left.
  type: str
  returned: always
planned_rows:
  description: Rows that were to be deleted by the rules.
  type: int
  returned: success
cascaded_rows:
  description: Rows of other tables that foreign keys take along with them, as they were counted.
  type: int
  returned: success
deleted_rows:
  description: Rows that were deleted by the rules; 0 in check mode.
  type: int
  returned: success
tables:
  description:
    - Each rule that was followed, with C(table), C(column), C(cutoff), C(planned_rows), C(cascaded) (rows by table),
      C(deleted_rows), C(batches) and C(longest_batch_s).
  type: list
  elements: dict
  returned: success
held:
  description: Tables with a rule that was left out because of a legal hold.
  type: list
  elements: str
  returned: success
duration_s:
  description: Seconds that it took.
  type: float
  returned: success
executed_queries:
  description: The statement of each rule, with the size of its first batch. Check mode returns the same.
  type: list
  elements: str
  returned: success
"""

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import archive as archiving
from ansible.module_utils.runbook.drivers.postgres import archive_catalog as catalog
from ansible.module_utils.runbook.drivers.postgres import cleanup as driver
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import retention
from ansible.module_utils.runbook.rules.identifiers import parse_qualified
from ansible.module_utils.runbook.rules.postgres import archive_batches as batches
from ansible.module_utils.runbook.rules.postgres import cleanup as rules
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, count, some

if TYPE_CHECKING:
    from datetime import datetime

BOUNDS = {
    "target_batch_ms": (5, 10_000),
    "deadline_s": (1, 86_400),
    "lock_timeout_ms": (1, 60_000),
    "statement_timeout_ms": (1_000, 86_400_000),
}


@dataclass
class Job:
    """One rule, its plan, and what became of it."""

    rule: rules.Rule
    rows: driver.Rows
    cutoff: datetime
    planned: int
    cascaded: dict[str, int] = field(default_factory=dict)
    deleted: int = 0
    batches: int = 0
    longest_s: float = 0.0

    def result(self) -> dict[str, Any]:
        """For the record."""
        return {
            "table": str(self.rule.table),
            "column": self.rule.column,
            "cutoff": self.cutoff.isoformat(),
            "planned_rows": self.planned,
            "cascaded": self.cascaded,
            "deleted_rows": self.deleted,
            "batches": self.batches,
            "longest_batch_s": round(self.longest_s, 3),
        }


class Run:
    """One run, from the plan of all rules to the last batch."""

    def __init__(self, context: Context, session: postgres.Session, clock: Clock) -> None:
        self.context, self.params, self.session, self.clock = context, context.params, session, clock
        self.jobs: list[Job] = []
        kept = [*self.params["kept"], *self.params["archived"]]
        self.protected = {"kept": kept, "held": self.params["held"]}
        followed, held = rules.read(self.params["rules"], **self.protected)
        self.followed, self.held = followed, [str(each.table) for each in held]

    def plan(self) -> None:
        """Look at every table and count, before anything is deleted."""
        now, names = archiving.server_now(self.session), driver.tables(self.session)
        for option, does in (("held", "holds"), ("kept", "keeps")):
            for text in self.params[option]:
                if str(parse_qualified(text, option=option)) not in names:
                    raise RunbookError(f"{option}: there is no table {text}, so this {does} nothing; correct its name.")
        jobs, slow = [], []
        for rule in self.followed:
            roles = catalog.read_schema(self.session, rule.table.schema).platform_roles
            table = catalog.read_table(self.session, rule.table, event="DELETE")
            table = rules.require(rule, table, names, roles)
            own, *along = driver.needs(self.session, rule, table)
            rules.refuse(rule, table, own, self.session.target.user)
            rules.refuse_related(f"rules: {rule.table}", driver.related(self.session, rule.table), **self.protected)
            children = []
            for key, need in zip(table.referencing_keys, along, strict=True):
                child, columns = driver.referring(self.session, table, key)
                seen = catalog.read_table(self.session, child, event="DELETE")
                rules.refuse_cascade(rule, seen, key, need, **self.protected)
                rules.refuse_related(
                    f"rules: {rule.table}: {child}", driver.related(self.session, child), **self.protected
                )
                children.append((child, columns, bool(seen and seen.by_policy)))
                slow += rules.without_index(rule, seen, need)
            if table.by_policy or any(by_policy for *_, by_policy in children):
                archiving.follow_policies(self.session)
            archiving.require_deletable(self.session, table)
            cutoff = retention.cutoff(now, rule.older_than_days)
            rows = driver.Rows(self.session, table, rule.column, cutoff)
            job = Job(rule, rows, cutoff, rows.count())
            for child, columns, _ in children:
                job.cascaded[str(child)] = job.cascaded.get(str(child), 0) + rows.count_along(child, columns)
            rules.refuse_many(rule, job.planned, job.cascaded)
            jobs.append(job)
        self.jobs = jobs
        for text in slow:
            self.context.warn(text)
        self.session.executed_queries += [
            self.session.render(job.rows.statement(batches.FIRST_BATCH_ROWS)) for job in jobs if job.planned
        ]

    def act(self, guard: lease.Guard) -> None:
        """Delete, rule by rule."""
        for job in self.jobs:
            size = batches.FIRST_BATCH_ROWS
            # What grew old since it was counted is left to the next run, so the cap holds.
            while job.deleted < job.planned:
                self.clock.check("what is deleted stays deleted; run again, and the next run goes on")
                permits.require_time(self.context.run)
                size = min(size, job.planned - job.deleted)
                begun = time.monotonic()
                gone = archiving.retry_on_lock(self.clock, partial(job.rows.delete, size), job.rule.table)
                took_s = time.monotonic() - begun
                if not gone:
                    break
                job.deleted += gone
                job.batches += 1
                job.longest_s = max(job.longest_s, took_s)
                self.context.progress.update(f"clean up {job.rule.table}", job.deleted, job.planned, "rows")
                guard.renew()
                target_ms = self.params["target_batch_ms"]
                size = batches.next_batch(size, gone, took_s * 1000, target_ms)
                self.clock.sleep(batches.pause_s(took_s * 1000, target_ms))
            if job.deleted < job.planned and job.rows.count():
                raise RunbookError(
                    f"{count(job.planned - job.deleted, 'row')} of {job.rule.table} could not be deleted; run again, "
                    "and see what keeps them."
                )

    def result(self) -> dict[str, Any]:
        """The figures and their sentence."""
        planned, deleted = sum(job.planned for job in self.jobs), sum(job.deleted for job in self.jobs)
        along = sum(sum(job.cascaded.values()) for job in self.jobs)
        check = self.context.check_mode
        parts = [
            f"{job.rule.table} {job.planned if check else job.deleted:,}"
            for job in self.jobs
            if (job.planned if check else job.deleted)
        ]
        verb = "would be" if check else agree(deleted, "was", "were")
        said = f"{count(planned if check else deleted, 'row')} {verb} deleted"
        with_them = f", with {count(along, 'row')} that refer to them" if along else ""
        held = f" Left alone under a legal hold: {some(self.held)}." if self.held else ""
        lines = [
            f"delete {count(job.planned, 'row')} of {job.rule.table} where {job.rule.column} < {job.cutoff.isoformat()}"
            + "".join(f", and {count(rows, 'row')} of {name}" for name, rows in job.cascaded.items() if rows)
            for job in self.jobs
            if job.planned
        ]
        return {
            "changed": bool(planned if check else deleted),
            "msg": f"{said} ({', '.join(parts)}){with_them}.{held}" if parts else f"No row is over.{held}",
            "planned_rows": planned,
            "cascaded_rows": along,
            "deleted_rows": deleted,
            "tables": [job.result() for job in self.jobs],
            "held": self.held,
            "duration_s": round(self.clock.passed_s(), 3),
            "executed_queries": self.session.executed_queries,
        } | ({"diff": {"prepared": as_lines(lines)}} if self.context.diff else {})


def core(context: Context) -> dict[str, Any]:
    """Plan all, then delete."""
    params = context.params
    context.require_bounds(BOUNDS)
    clock = Clock(params["deadline_s"])
    with (
        postgres.Session(
            postgres.Target.from_params(params),
            lock_timeout_ms=params["lock_timeout_ms"],
            statement_timeout_ms=params["statement_timeout_ms"],
            purpose="pg_cleanup",
        ) as session,
        archiving.translate_errors(),
    ):
        permits.require_database(context.run, session)
        archiving.settle(session, read_only=context.check_mode)
        run = Run(context, session, clock)
        archiving.retry_on_lock(clock, run.plan, "a table of the rules")
        if context.check_mode or not any(job.planned for job in run.jobs):
            return run.result()
        try:
            with lease.writing(session, context.run) as guard:
                run.act(guard)
        except RunbookError as error:
            facts = run.result()
            raise RunbookError(f"{error.message} {facts.pop('msg')}", **(facts | error.context)) from error
        return run.result()


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_cleanup",
        argument_spec=postgres.argument_spec()
        | {
            "rules": {"type": "list", "elements": "dict", "required": True},
            "kept": {"type": "list", "elements": "str", "default": []},
            "archived": {"type": "list", "elements": "str", "default": []},
            "held": {"type": "list", "elements": "str", "default": []},
            "target_batch_ms": {"type": "int", "default": 50},
            "deadline_s": {"type": "int", "default": 1800},
            "lock_timeout_ms": {"type": "int", "default": 100},
            "statement_timeout_ms": {"type": "int", "default": 300000},
        },
    )


if __name__ == "__main__":
    main()
