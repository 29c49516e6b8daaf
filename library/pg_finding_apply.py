#!/usr/bin/python
"""Ansible module pg_finding_apply: apply the fix of one finding, while everybody works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_finding_apply
short_description: Apply the fix of one finding, while everybody works
description:
  - Applies one finding of M(pg_index_info) or M(pg_bloat_info), named by its id, with C(CREATE INDEX CONCURRENTLY),
    C(DROP INDEX CONCURRENTLY) or C(REINDEX INDEX CONCURRENTLY).
  - The finding is looked for again, by the same rules, right before. If it is gone, nothing is done. The statement is
    the one that is found now, never one from a file.
  - Kinds that are applied are V(missing_foreign_key_index), V(unused_index), V(duplicate_index), V(redundant_index),
    V(invalid_index) and V(bloated_index). Whatever locks people out, or is a person's decision, is refused. So is an
    index of a constraint or of a partitioned table.
  - Waiting for others holds nobody up, but has a bound. Of a statement that fails, the half-built index is dropped. A
    drop that was stopped half-way has made the index invalid; the next run with the same id finishes it.
  - Where the extension C(amcheck) is there, a bloated index is checked first. A corrupt one is left as evidence.
  - The user must own the table. Needs one server session for each connection, so a connection pooler in transaction
    mode is refused.
options:
  finding:
    description:
      - Id of the finding, as the report shows it.
    type: str
    required: true
  unused_after_days:
    description:
      - As in M(pg_index_info).
    type: int
    default: 30
  min_size_bytes:
    description:
      - As in M(pg_index_info).
    type: int
    default: 8388608
  min_bloat_percent:
    description:
      - As in M(pg_bloat_info).
    type: float
    default: 40
  min_bloat_bytes:
    description:
      - As in M(pg_bloat_info).
    type: int
    default: 8388608
  free_disk_bytes:
    description:
      - Free bytes of the server's disk. Without it they are found out where the server runs on this machine. Elsewhere,
        what may need more than 1 GiB and a tenth of the database is not started.
    type: int
  lock_timeout_ms:
    description:
      - Longest single wait for a lock, or for somebody's older transaction to end, in milliseconds.
    type: int
    default: 60000
  deadline_s:
    description:
      - Seconds after which it is cancelled, and what it left half built is dropped.
    type: int
    default: 3600
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    description: Looks for the finding and returns its statement, and applies nothing.
    support: full
  diff_mode:
    description: Shows the statement.
    support: full
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Make the index that a foreign key lacks
  pg_finding_apply:
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
    finding: missing_foreign_key_index:public.messages.user_id
"""

RETURN = r"""
msg:
  description: One sentence with the statement.
  type: str
  returned: always
  sample: 'Applied missing_foreign_key_index:public.messages.user_id in 4.1 s: CREATE INDEX CONCURRENTLY ….'
changed:
  description: Whether it was applied, or would be in check mode.
  type: bool
  returned: always
status:
  description:
    - V(ok) where it was fixed; V(breach) where it was not, or does not stand (any more); V(unknown) where nobody can
      tell now whether it stands.
  type: str
  returned: always
id:
  description: As the option O(finding).
  type: str
  returned: when it was looked for
state:
  description:
    - V(planned) (check mode), V(done), V(not_standing), V(locked), V(no_space), V(not_concurrent), V(not_permitted),
      V(corrupt), V(failed), V(not_reached), or V(gone) for what was dropped meanwhile.
  type: str
  returned: when it was looked for
nearest:
  description: Where the finding does not stand, the one whose id is most like it; null where none is.
  type: str
  returned: when it was looked for
error:
  description: Why it was not done, or who stands in the way; null where it was.
  type: str
  returned: when it was looked for
finding:
  description: The finding as it stood, with its evidence; null where it does not stand.
  type: dict
  returned: when it was looked for
statement:
  description: The statement that was sent, or would be; null where there is nothing to do.
  type: str
  returned: when it was looked for
size_before_bytes:
  description: Size of the index before; 0 for one that is made.
  type: int
  returned: when there was something to do
size_after_bytes:
  description: Size of the index after; null where it was not recreated.
  type: int
  returned: when there was something to do
duration_s:
  description: Seconds from the first look to the last.
  type: float
  returned: when it was looked for
executed_queries:
  description: Statements that were sent, or would be in check mode.
  type: list
  elements: str
  returned: when it was looked for
"""

import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.postgres import bloat, indexes, lease, passes, postgres, reindex
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.findings import Unknown
from ansible.module_utils.runbook.rules.postgres import bloat as bloat_rule
from ansible.module_utils.runbook.rules.postgres import bloat_findings, fixes
from ansible.module_utils.runbook.rules.postgres import indexes as index_rule
from ansible.module_utils.runbook.rules.postgres import reindex as rule
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines

if TYPE_CHECKING:
    from ansible.module_utils.runbook.rules.findings import Finding


def core(context: Context) -> dict[str, Any]:
    """Look for the finding, plan its fix, apply it, and say what became of it."""
    params = context.params
    kind = fixes.require_kind(params["finding"])
    day_s, most = 86_400, 1 << 50
    context.require_bounds(
        {
            "unused_after_days": (0, 3650),
            "min_size_bytes": (0, most),
            "min_bloat_bytes": (0, most),
            "free_disk_bytes": (0, most),
            "lock_timeout_ms": (1, day_s * 1000),
            "deadline_s": (1, day_s),
        }
    )
    with passes.entered(params, context.run, purpose="apply") as session:
        return _apply(context, session, kind)


def _apply(context: Context, session: postgres.Session, kind: str) -> dict[str, Any]:
    params, started = context.params, time.monotonic()
    if kind == bloat_findings.INDEX:
        found, unknown = _bloated(session, params, deadline=started + params["deadline_s"])
        tables: list[index_rule.Table] = []
    else:
        catalog = indexes.read(session, context.run.directory)
        found, unknown = _judged(session, catalog, params)
        tables = list(catalog.tables.values())
    work = fixes.work(params["finding"], found, unknown, indexes=reindex.read(session, {}, {}), tables=tables)
    result: dict[str, Any] = {
        "changed": False,
        "status": Status.BREACH,
        "id": params["finding"],
        "state": "not_standing",
        "nearest": fixes.nearest(params["finding"], found) if work is None else None,
        "error": None,
        "finding": None,
        "statement": None,
        "executed_queries": [],
    }
    if work is not None:
        report = _report(session, work[1], params)
        statement = session.render(reindex.statement(report.work))
        result |= {"finding": work[0].result(), "statement": statement}
        if report.state == "planned":
            result["executed_queries"] = [statement]
            if not context.check_mode:
                result["executed_queries"] = _run(context, session, report, deadline=started + params["deadline_s"])
        done = report.state in ("planned", "done")
        result |= {
            "changed": done,
            "status": Status.of(breach=not done),
            "state": report.state,
            "error": report.error,
            "size_before_bytes": 0 if report.work.action == "create" else report.work.index.size_bytes,
            "size_after_bytes": report.size_after_bytes,
        }
        if context.diff:
            result["diff"] = {"prepared": as_lines([statement])}
    result["duration_s"] = round(time.monotonic() - started, 3)
    return context.conclude(result["status"], msg=fixes.message(result), **result)


def _judged(
    session: postgres.Session, catalog: index_rule.Catalog, params: dict[str, Any]
) -> tuple[list[Finding], list[Unknown]]:
    """Every finding about indexes as it stands now, and why the one that is meant may stand unseen."""
    found, proposals, unknown = index_rule.judge(
        catalog,
        indexes.quoter(session),
        unused_after_days=params["unused_after_days"],
        min_size_bytes=params["min_size_bytes"],
    )
    names = [
        (*catalog.tables[one.table_oid].name, one.name.name)
        for one in catalog.indexes
        if one.table_oid in catalog.tables
    ]
    return [*found, *(proposal.finding for proposal in proposals)], fixes.doubts(params["finding"], unknown, names)


def _bloated(
    session: postgres.Session, params: dict[str, Any], *, deadline: float
) -> tuple[list[Finding], list[Unknown]]:
    """Bloated indexes, and why the bloat of the one that is meant is unknown; it is measured, if that is possible."""
    bloats = [
        bloat_rule.estimate(relation)
        for relation in bloat.read(session, min_size_bytes=params["min_bloat_bytes"]).relations
        if relation.is_index
    ]
    schema = bloat.measuring(session).schema
    meant = [one for one in bloats if bloat_findings.identify(one) == params["finding"]]
    if schema is not None and meant:
        measured = bloat.measure(session, schema, meant, deadline=deadline)
        bloats = [
            bloat_rule.measured(one.relation, measured[one.relation.oid]) if one.relation.oid in measured else one
            for one in bloats
        ]
    found = bloat_findings.findings(
        bloats,
        min_bloat_percent=params["min_bloat_percent"],
        min_bloat_bytes=params["min_bloat_bytes"],
        ddl=lambda one: session.render(bloat.fix(one)),
    )
    return found, [
        Unknown(bloat_findings.INDEX, f"{one.relation.name}: {one.reason}.")
        for one in bloats
        if bloat_findings.identify(one) == params["finding"] and one.bloat_bytes is None
    ]


def _report(session: postgres.Session, work: rule.Work, params: dict[str, Any]) -> rule.Report:
    free = params["free_disk_bytes"] if params["free_disk_bytes"] is not None else reindex.free_disk(session)
    size = reindex.database_bytes(session)
    return rule.Report(work, *rule.first_state(work, jobs=1, free_bytes=free, database_bytes=size))


def _run(context: Context, session: postgres.Session, report: rule.Report, *, deadline: float) -> list[str]:
    """Hold the writer's lock and do it; the statements that were sent."""
    params = context.params
    work = reindex.Rebuild(
        [report],
        connect=lambda: passes.connect(session.target, purpose="apply", lock_timeout_ms=params["lock_timeout_ms"]),
        fits=lambda one, left_s, rate: rule.fits(one, left_s=left_s, rate_bytes_s=rate),
        jobs=1,
        lock_timeout_ms=params["lock_timeout_ms"],
        deadline_s=deadline - time.monotonic(),
        check_schema=reindex.amcheck(session),
    )
    with lease.writing(session, context.run) as guard:

        def tick() -> None:
            guard.renew()
            context.progress.update(*work.progress(session), "bytes")

        stopped = work.run(tick)
        if not session.connection.closed:
            reindex.sizes_after(session, [report])
    context.progress.update(*work.progress(None), "bytes", final=True)
    if stopped and report.error is None and report.state != "done":
        report.error = stopped
    return work.executed_queries


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_finding_apply",
        argument_spec=postgres.argument_spec()
        | {
            "finding": {"type": "str", "required": True},
            "unused_after_days": {"type": "int", "default": 30},
            "min_size_bytes": {"type": "int", "default": 8_388_608},
            "min_bloat_percent": {"type": "float", "default": 40},
            "min_bloat_bytes": {"type": "int", "default": 8_388_608},
            "free_disk_bytes": {"type": "int"},
            "lock_timeout_ms": {"type": "int", "default": 60_000},
            "deadline_s": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
