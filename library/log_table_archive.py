#!/usr/bin/python
"""Module log_table_archive: move old rows of a log table into the archive of logs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_table_archive
short_description: Move old rows of a log table into the archive of logs
description:
  - Copies the rows that are older than O(older_than_days), slice by slice, as PostgreSQL's C(COPY) writes them,
    compresses them by zstd on the way, uploads them, reads the archive back and compares it, writes its link into the
    chain, and only then deletes the rows, in the transaction that copied them.
  - What a run was stopped in the middle of is settled by the next one. It asks the server whether the transaction
    committed, and an archive whose rows are in the table still does not count. So no row is lost and none is doubled.
  - Refuses what M(pg_archive) refuses of its source, for instance row security that hides rows, foreign keys that point
    at the table, and triggers that nobody named.
  - The rows are lines of tab-separated columns, in the order that the link names; C(COPY … FROM) reads them back.
options:
  stream:
    description:
      - Name of the stream.
    type: str
    required: true
  retention_class:
    description:
      - Class of retention of the stream.
    type: str
    required: true
  source:
    description:
      - The table, as C(schema.table).
    type: str
    required: true
  timestamp_column:
    description:
      - Column that says how old a row is, of type timestamptz, timestamp or date, best with an index.
    type: str
    default: created_at
  older_than_days:
    description:
      - Rows that are older are moved. 1 or more.
    type: int
    required: true
  allow_triggers:
    description:
      - Triggers that may fire when rows are deleted, since somebody looked at what they do.
    type: list
    elements: str
    default: []
  max_archive_rows:
    description:
      - About so many rows become one archive, 1 to 10,000,000. They are deleted in one transaction.
    type: int
    default: 200000
  deadline_s:
    description:
      - Time limit in seconds. After it no further slice is begun. 1 to 604,800.
    type: int
    default: 3600
  lock_timeout_ms:
    description:
      - Longest wait for a lock, 1 to 60,000.
    type: int
    default: 100
  statement_timeout_ms:
    description:
      - Longest statement, 1,000 to 86,400,000. Copying a slice is one.
    type: int
    default: 300000
extends_documentation_fragment: [runbook_logs, runbook_s3, runbook_state, runbook_postgresql]
attributes:
  check_mode: {support: full, description: "Counts, and returns the plan of the real run. Writes and deletes nothing."}
  diff_mode: {support: full, description: Shows the plan.}
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Move the audit rows of more than a year
  log_table_archive:
    bucket: mental-scribe-logs
    region: eu-central-1
    archive_host: mental-scribe-production
    environment: production
    seal_keys: "{{ logs_seal_keys }}"
    state_bucket: mental-scribe-state
    stream: audit-log
    retention_class: audit
    source: public.audit_log_archive
    older_than_days: 365
    login_host: db.example.com
    login_user: runbook_bastion
    login_db: mental_scribe
"""

RETURN = r"""
msg: {description: "What was moved, or what is wrong and the fix.", returned: always, type: str}
status: {description: "V(ok), V(breach) or V(unknown).", returned: always, type: str}
streams:
  description:
    - What was archived, as M(log_archive) has it.
  returned: when the table could be read
  type: list
  elements: dict
archives: {description: "Archives that were made.", returned: when the table could be read, type: int}
lines: {description: "Their rows.", returned: when the table could be read, type: int}
content_bytes: {description: "Their bytes before compression.", returned: when the table could be read, type: int}
size_bytes: {description: "Their bytes in the bucket.", returned: when the table could be read, type: int}
deleted_rows: {description: "Rows that were deleted from the table.", returned: when the table could be read, type: int}
old_rows: {description: "Rows that were old at the beginning.", returned: when the table could be read, type: int}
voided:
  description:
    - Links of earlier runs that do not count, since their rows are in the table still.
  returned: when the table could be read
  type: list
  elements: int
cutoff: {description: "Rows before this moment are old.", returned: when the table could be read, type: str}
executed_queries:
  description:
    - SQL that changed something.
  returned: when the table could be read
  type: list
  elements: str
duration_s: {description: "Seconds in all.", returned: when the table could be read, type: float}
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.logs import archive as driver
from ansible.module_utils.runbook.drivers.logs import table
from ansible.module_utils.runbook.drivers.postgres import archive as archiving
from ansible.module_utils.runbook.drivers.postgres import archive_catalog as catalog
from ansible.module_utils.runbook.drivers.postgres import lease, postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import retention
from ansible.module_utils.runbook.rules.identifiers import parse_qualified
from ansible.module_utils.runbook.rules.logs import chain, streams, summary
from ansible.module_utils.runbook.rules.postgres import archive_refusals as refusals
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.postgres.archive_tables import Table

BOUNDS = {
    "max_archive_rows": (1, 10_000_000),
    "deadline_s": (1, 604_800),
    "lock_timeout_ms": (1, 60_000),
    "statement_timeout_ms": (1_000, 86_400_000),
}


class Work:
    """One run, from what an earlier one left to the last slice."""

    def __init__(self, context: Context, session: postgres.Session, clock: Clock) -> None:
        self.context, self.params, self.session, self.clock = context, context.params, session, clock
        self.stream = streams.check_name("stream", self.params["stream"])
        self.retention_class = streams.check_name("retention_class", self.params["retention_class"])
        self.archive = driver.Archive.from_params(context.params, context.run, writes=True, hide=context.hide)
        self.made: list[chain.Link] = []
        self.voided: list[int] = []
        self.deleted = 0

    def prepare(self) -> None:
        """Look at the table, and refuse what must be refused."""
        params, session = self.params, self.session
        name = parse_qualified(params["source"], option="source")
        self.cutoff: datetime = retention.cutoff(archiving.server_now(session), params["older_than_days"])
        found = catalog.read_table(session, name, event="DELETE")
        if found is None:
            raise RunbookError(
                f"source: there is no table {name} in database {session.target.database!r}; check its name."
            )
        self.source: Table = found
        refusals.refuse_taking(found, catalog.read_schema(session, name.schema), params["timestamp_column"])
        refusals.refuse_triggers(found, None, params["allow_triggers"])
        if found.by_policy:
            archiving.follow_policies(session)
        archiving.require_deletable(session, found)
        self.column = found.named(params["timestamp_column"])
        self.rows = table.Rows(session, found, self.column, self.cutoff)
        self.cluster = session.system_identifier()
        self.old_rows = archiving.count(session, found, self.column, self.cutoff).total.rows

    def settle(self) -> None:
        """See what became of the last archive of this table: a run may have died before its rows were deleted."""
        last = self._last()
        if last is None or last.content is None:
            return
        source = last.content.source
        became = "forgotten"
        if source.get("cluster") == self.cluster:
            became = table.outcome(self.session, str(source["xid"]))
        if became == "committed":
            return
        if became == "in progress":
            raise RunbookError(
                f"source: another session is deleting rows of {self.source.name} that are archived already; run again "
                "when it is over.",
                status=Status.UNKNOWN,
            )
        if became == "forgotten" and self.rows.count(table.Slice(source["since"], source["until"])) == 0:
            return
        if became == "forgotten":
            raise RunbookError(
                f"source: rows of {self.source.name} from {source['since']} until {source['until']} are in archive "
                f"{last.seq} and in the table too, and this server does not know why: it was restored, or they came "
                "late. Delete them there if they are the same, else give them to a stream of another name.",
                status=Status.UNKNOWN,
            )
        self.voided.append(last.seq)
        if not self.context.check_mode:
            self.archive.add(
                kind="void", of=(last.seq,), reason="its rows are in the table still: the run was stopped",
                stream=self.stream,
            )  # fmt: skip

    def _last(self) -> chain.Link | None:
        """The newest archive of this table that counts."""
        own = [
            link
            for link in chain.standing(self.archive.links())
            if link.content
            and link.content.source.get("kind") == "table"
            and (link.stream, link.content.source.get("table")) == (self.stream, str(self.source.name))
        ]
        return own[-1] if own else None

    def act(self, guard: lease.Guard) -> None:
        """Archive and delete, slice by slice."""
        while (part := self.rows.next(self.params["max_archive_rows"])) is not None:
            self.clock.check("what is archived stays; run again, and the next run goes on")
            permits.require_time(self.context.run)
            with archiving.translate_errors(), self.session.transaction():
                self._slice(part)
            guard.renew()
            self.context.progress.update(
                f"archive {self.source.name}", self.deleted, max(self.deleted, self.old_rows), "rows"
            )

    def _slice(self, part: table.Slice) -> None:
        """In one transaction."""
        xid = self.rows.begin()
        copied = self.rows.copy(part)
        names = [each.name for each in self.source.columns]
        origin = {
            "kind": "table", "table": str(self.source.name), "columns": names, "cluster": self.cluster, "xid": xid,
            "column_index": names.index(self.column.name), "since": part.since, "until": part.until,
        }  # fmt: skip
        try:
            content = self.archive.keep(self.stream, copied, origin, self.cutoff)
        finally:
            copied.close()
        # The slice's own bounds, in place of all times that a row may hold.
        content = replace(content, first_at=_moment(part.since), last_at=_moment(part.until))
        self.archive.read_back(content)
        link = self.archive.add(
            kind="archive", stream=self.stream, retention_class=self.retention_class, content=content
        )
        gone = self.rows.delete(part)
        if gone != content.lines:
            raise RunbookError(
                f"source: {count(content.lines, 'row')} of {self.source.name} were archived and {gone} deleted, so the "
                "deletion was rolled back; look for rules and triggers that keep rows, and run again."
            )
        self.made.append(link)
        self.deleted += gone

    def result(self, failure: RunbookError | None = None) -> dict[str, Any]:
        """The result, or the failure with what was done."""
        lines = summary.by_stream(self.made)
        figures = summary.totals(lines)
        planned = self.context.check_mode
        facts: dict[str, Any] = figures | {
            "changed": bool(self.made or self.voided or (planned and self.old_rows)),
            "streams": lines,
            "deleted_rows": self.deleted,
            "old_rows": self.old_rows,
            "voided": self.voided,
            "cutoff": self.cutoff.isoformat(),
            "executed_queries": self.session.executed_queries,
            "duration_s": round(self.clock.passed_s(), 3),
        }
        if self.context.diff:
            plan = f"archive and delete {count(self.old_rows, 'row')} of {self.source.name}"
            facts["diff"] = {"prepared": as_lines([plan] if self.old_rows else [])}
        if planned:
            msg = f"Would archive and delete {count(self.old_rows, 'row')} of {self.source.name}."
        else:
            msg = (
                f"{self.source.name}: {summary.sentence(figures, self.archive.url, planned=False)} "
                f"{count(self.deleted, 'row')} deleted from the table."
            )
        if failure is not None:
            raise RunbookError(f"{failure.message} {msg}", **(facts | {"status": failure.status}))
        return facts | {"msg": msg}


def _moment(text: str) -> datetime | None:
    """What the server wrote, taken for UTC where it has no zone; None where Python knows no such year."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def core(context: Context) -> dict[str, Any]:
    """Settle, then move."""
    params = context.params
    context.require_bounds(BOUNDS)
    clock = Clock(params["deadline_s"])
    with (
        postgres.Session(
            postgres.Target.from_params(params),
            lock_timeout_ms=params["lock_timeout_ms"],
            statement_timeout_ms=params["statement_timeout_ms"],
            purpose="log_table_archive",
        ) as session,
        archiving.translate_errors(),
    ):
        permits.require_database(context.run, session)
        archiving.settle(session, read_only=context.check_mode)
        work = Work(context, session, clock)
        archiving.retry_on_lock(clock, work.prepare, params["source"])
        if context.check_mode:
            work.settle()
            return work.result()
        with lease.writing(session, context.run) as guard:
            work.settle()
            try:
                work.act(guard)
            except RunbookError as error:
                work.result(error)
        return work.result()


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="log_table_archive",
        argument_spec=postgres.argument_spec()
        | driver.argument_spec()
        | {
            "stream": {"type": "str", "required": True},
            "retention_class": {"type": "str", "required": True},
            "source": {"type": "str", "required": True},
            "timestamp_column": {"type": "str", "default": "created_at"},
            "older_than_days": {"type": "int", "required": True},
            "allow_triggers": {"type": "list", "elements": "str", "default": []},
            "max_archive_rows": {"type": "int", "default": 200000},
            "deadline_s": {"type": "int", "default": 3600},
            "lock_timeout_ms": {"type": "int", "default": 100},
            "statement_timeout_ms": {"type": "int", "default": 300000},
        },
    )


if __name__ == "__main__":
    main()
