#!/usr/bin/python
"""Ansible module pg_vacuum: VACUUM and ANALYZE what needs it, in one pass over a database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_vacuum
short_description: Vacuum and analyse what needs it, in one pass over a database
description:
  - Reads what the server knows about all tables of one database, makes a plan, and carries it out over several
    connections. What is in danger of transaction id wraparound comes first, then the tables named in O(tables), then
    tables with dead rows, tables with many inserted rows, tables whose statistics are missing or stale, and last the
    parents of partitioned tables, which autovacuum never analyses.
  - Within such a group the bigger table comes first, so that all connections finish at about the same time.
  - A table needs VACUUM or ANALYZE by the formula of PostgreSQL's autovacuum, with smaller scale factors. The storage
    parameters C(autovacuum_*) of a table go before the options. C(autovacuum_enabled=off) does not keep this module
    away from a table. A table of which the server has no statistics is vacuumed and analysed.
  - A table is frozen when its age in transactions or multixacts reaches 75 % of C(autovacuum_freeze_max_age) or
    C(autovacuum_multixact_freeze_max_age).
  - The table C(runbook.lease) is left to autovacuum, unless its age asks for more or O(tables) names it.
  - Tables that somebody else has locked are left for the end of the pass, then waited for, and reported as C(locked) if
    the lock still cannot be had. They never stop the others.
  - VACUUM gives space back inside the files; it locks no reader and no writer out. VACUUM FULL is not used.
  - The user needs no superuser. It may vacuum tables that it owns, all tables but the shared catalogs in a database
    that it owns, and since PostgreSQL 17 tables on which it has MAINTAIN. Tables in need that it may not vacuum are
    listed; of the server's own catalogs, which autovacuum keeps, only those that it should have frozen long ago.
  - Needs one server session for each connection, so a connection pooler in transaction mode is refused.
options:
  mode:
    description:
      - V(needed) works on the tables that pass a limit.
      - V(all) vacuums and analyses every table, system catalogs included, as C(VACUUM ANALYZE) without a table does.
    type: str
    choices: [needed, all]
    default: needed
  tables:
    description:
      - Tables that are vacuumed and analysed in any case, as C(schema.table). A name that holds a dot or a double quote
        stands in double quotes.
      - A partitioned table stands for all its partitions.
    type: list
    elements: str
    default: []
  planned_move:
    description:
      - What M(pg_archive) would move before this, of a run in check mode, so that the plan counts the dead rows.
      - Ignored without check mode, where the rows were moved.
    type: dict
    suboptions:
      source: {description: "Table that the rows leave, as C(schema.table).", type: str, required: true}
      archive: {description: "Table that they go to, as C(schema.table).", type: str, required: true}
      rows: {description: Number of rows., type: int, required: true}
  jobs:
    description:
      - Tables that are worked on at the same time, each over a connection of its own. One more connection watches.
    type: int
    default: 2
  vacuum_scale_factor:
    description:
      - Share of a table's rows that may be dead before it is vacuumed, as PostgreSQL's
        C(autovacuum_vacuum_scale_factor). To it come 50 rows (C(autovacuum_vacuum_threshold)).
    type: float
    default: 0.05
  analyze_scale_factor:
    description:
      - Share of a table's rows that may be modified before it is analysed, as PostgreSQL's
        C(autovacuum_analyze_scale_factor). To it come 50 rows (C(autovacuum_analyze_threshold)).
    type: float
    default: 0.05
  lock_timeout_ms:
    description:
      - Longest wait for the lock of one table, in milliseconds.
    type: int
    default: 10000
  deadline_s:
    description:
      - Seconds after which what still runs is cancelled and the rest is left for the next run.
    type: int
    default: 3600
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    description: Returns the same plan, and vacuums nothing.
    support: full
  diff_mode:
    description: Shows the plan, one line a table with its reason.
    support: full
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Vacuum and analyse what needs it, and the two tables that everybody waits for in any case
  pg_vacuum:
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
    tables:
      - public.messages
      - public.conversations
    deadline_s: 1800

- name: Vacuum and analyse everything
  pg_vacuum:
    dsn: "{{ db_dsn }}"
    mode: all
    jobs: 4
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "Vacuumed 4 and analysed 6 of 27 tables in 3.2 s; 1,204,113 dead rows are now 0."
status:
  description:
    - V(ok), or V(breach) where work was left undone, or where a table that this user may not vacuum should have been
      frozen by autovacuum long ago.
  type: str
  returned: always
mode:
  description: As the option.
  type: str
  returned: always
jobs:
  description: Connections that work was divided among, or would be.
  type: int
  returned: always
considered_tables:
  description: Tables, materialised views and system catalogs that were looked at.
  type: int
  returned: always
planned_tables:
  description: How many of them this user may vacuum and something is to be done with.
  type: int
  returned: always
done_tables:
  description: How many were done.
  type: int
  returned: always
tables:
  description: The planned tables in the order of their start, and those in need that this user may not vacuum.
  type: list
  elements: dict
  returned: always
  contains:
    table:
      description: Schema and name.
      type: str
    action:
      description: One of V(vacuum), V(analyze), V(vacuum_analyze), V(freeze). Freezing analyses too.
      type: str
    reason:
      description: Why, with the figure and its limit.
      type: str
    state:
      description:
        - V(planned) (check mode), V(done), V(locked), V(not_permitted), V(failed), V(not_reached), or V(gone) for a
          table that was dropped meanwhile.
      type: str
    error:
      description: Why it failed, or who holds the lock; null if nothing is in the way or nobody knows.
      type: str
    duration_s:
      description: Seconds that it took, with waiting; null if it was not started.
      type: float
    before:
      description:
        - C(size_bytes) (with indexes and TOAST), C(dead_rows), C(live_rows) and C(xid_age) before the pass; null where
          a figure is not known.
      type: dict
    after:
      description: The same after the pass.
      type: dict
size_before_bytes:
  description:
    - Size before the pass of the tables that were done (in check mode, that are planned), as far as it is known both
      before and after; null if it is not.
  type: int
  returned: always
size_after_bytes:
  description: Size of the same tables after the pass.
  type: int
  returned: always
dead_rows_before:
  description: Dead rows before the pass of the same tables, as far as they are known both before and after.
  type: int
  returned: always
dead_rows_after:
  description: Dead rows of the same tables after the pass.
  type: int
  returned: always
duration_s:
  description: Seconds from the plan to the last figure.
  type: float
  returned: always
not_permitted:
  description: Names of the planned tables that this user may not vacuum.
  type: list
  elements: str
  returned: always
executed_queries:
  description: Statements that were sent, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import time
from dataclasses import asdict
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import lease, passes, postgres, rights, vacuum
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.identifiers import parse_qualified
from ansible.module_utils.runbook.rules.postgres import vacuum as rule
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some


def core(context: Context) -> dict[str, Any]:
    """Plan, work, and say what became of it."""
    params = context.params
    for option, least in (("jobs", 1), ("lock_timeout_ms", 1), ("deadline_s", 1)):
        if params[option] < least:
            raise RunbookError(f"{option}: {params[option]} is too small; give at least {least}.")
    for option in ("vacuum_scale_factor", "analyze_scale_factor"):
        if not 0 <= params[option] <= 100:
            raise RunbookError(f"{option}: {params[option]} is no share; give 0.05 for 5 % of the rows.")
    wanted = [parse_qualified(text, option="tables") for text in params["tables"]]
    with passes.entered(params, context.run, purpose="vacuum", lock_timeout_ms=params["lock_timeout_ms"]) as session:
        return _pass(context, session, wanted)


def _session(target: postgres.Target, params: dict[str, Any]) -> postgres.Session:
    return passes.connect(target, purpose="vacuum", lock_timeout_ms=params["lock_timeout_ms"])


def _pass(context: Context, session: postgres.Session, wanted: list[Any]) -> dict[str, Any]:
    params, started = context.params, time.monotonic()
    settings = vacuum.read_settings(
        session,
        vacuum_scale_factor=params["vacuum_scale_factor"],
        analyze_scale_factor=params["analyze_scale_factor"],
    )
    tables, move = vacuum.read_tables(session), params["planned_move"]
    if move and context.check_mode:
        source, archive = (parse_qualified(move[name], option=f"planned_move.{name}") for name in ("source", "archive"))
        tables = rule.after_move(tables, source, archive, move["rows"])
    works = rule.plan(tables, mode=params["mode"], wanted=wanted, settings=settings)
    before = vacuum.figures(session, [work.table for work in works])
    considered = sum(not table.is_catalog and table.name != rule.LEASE for table in tables)
    considered += sum(work.table.is_catalog for work in works)
    reports = [
        rule.Report(work, "planned" if work.table.permitted else "not_permitted", before[work.table.oid])
        for work in works
    ]
    todo = [report for report in reports if report.state == "planned"]
    queries = [session.render(vacuum.statement(report.work, session.server_version)) for report in todo]
    stopped = None
    if todo and not context.check_mode:
        stopped, queries = _work(context, session, todo, settings, deadline=started + params["deadline_s"])

    result = rule.result(reports, tables=considered, check_mode=context.check_mode, stopped=stopped)
    result |= {
        "mode": params["mode"],
        "jobs": min(params["jobs"], max(len(todo), 1)),
        "tables": [
            {
                "table": str(report.work.table.name),
                "action": report.work.action,
                "reason": report.work.reason,
                "state": report.state,
                "error": report.error,
                "duration_s": report.duration_s,
                "before": asdict(report.before),
                "after": asdict(report.after),
            }
            for report in reports
        ],
        "duration_s": round(time.monotonic() - started, 3),
        "executed_queries": queries,
    }
    result["msg"] = rule.message(
        reports,
        tables=considered,
        duration_s=result["duration_s"],
        check_mode=context.check_mode,
        stopped=stopped,
    )
    if context.diff:
        result["diff"] = {"prepared": rule.describe(works)}
    in_need = [report.work.table for report in reports if report.had_no_effect]
    if in_need:
        context.warn(
            f"{session.target} may not vacuum {some([str(table.name) for table in in_need])}, though there is "
            f"need; {rights.to_maintain(session, [table.oid for table in in_need])}."
        )
    return context.conclude(Status(result["status"]), **result)


def _work(
    context: Context, session: postgres.Session, todo: list[rule.Report], settings: rule.Settings, *, deadline: float
) -> tuple[str | None, list[str]]:
    """Hold the writer's lock and do the work; why it ended early, and the statements sent."""
    params = context.params
    since = session.query("SELECT clock_timestamp() AS now")[0]["now"]
    work = vacuum.Vacuuming(
        todo,
        connect=lambda: _session(session.target, params),
        jobs=params["jobs"],
        lock_timeout_ms=params["lock_timeout_ms"],
        deadline_s=deadline - time.monotonic(),
    )
    with lease.writing(session, context.run) as guard:

        def tick() -> None:
            guard.renew()
            label, done, total = work.progress(session)
            context.progress.update(label, done, total, "bytes")

        stopped = work.run(tick)
    last = session
    try:
        with postgres.explained(session.target):
            if session.connection.closed:
                last = _session(session.target, params)
            if not stopped:
                vacuum.close_pass(last)
            vacuum.confirm(last, todo, since=since)
            rule.judge(todo, settings)
            kept = rule.held_back(todo, settings)
            if kept:
                holder = vacuum.oldest_snapshot(last) or "somebody whom this user may not see"
                context.warn(f"{kept}; the oldest snapshot belongs to {holder}: end it, then run this again.")
    except RunbookError as error:
        # The work is done; its figures stay unknown.
        stopped = stopped or f"no figures after the pass ({error.message.rstrip('.')})"
    if work.jobs < min(params["jobs"], len(todo)) and not stopped:
        context.warn(f"{session.target} gave only {work.jobs} of {count(params['jobs'], 'connection')} for jobs.")
    label, done, total = work.progress(None)
    context.progress.update(label, done, total, "bytes", final=True)
    return stopped, work.executed_queries + [query for query in last.executed_queries if query.startswith("VACUUM")]


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_vacuum",
        argument_spec=postgres.argument_spec()
        | {
            "mode": {"type": "str", "choices": ["needed", "all"], "default": "needed"},
            "tables": {"type": "list", "elements": "str", "default": []},
            "planned_move": {
                "type": "dict",
                "options": {
                    "source": {"type": "str", "required": True},
                    "archive": {"type": "str", "required": True},
                    "rows": {"type": "int", "required": True},
                },
            },
            "jobs": {"type": "int", "default": 2},
            "vacuum_scale_factor": {"type": "float", "default": 0.05},
            "analyze_scale_factor": {"type": "float", "default": 0.05},
            "lock_timeout_ms": {"type": "int", "default": 10_000},
            "deadline_s": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
