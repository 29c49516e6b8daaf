#!/usr/bin/python
"""Ansible module pg_compact: give the space of bloated tables back, while everybody works where that is possible."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_compact
short_description: Remove the bloat of tables
description:
  - Compacts tables and materialised views of which too much is bloat, with their TOAST tables and indexes.
  - Where empty pages at the end of a table are enough of it, a plain C(VACUUM) gives them back.
  - Else C(pg_repack) rewrites the table while everybody works. The program must be on this machine, the extension in
    the database, both of the same version; the table needs a primary key, or a unique index over columns that are NOT
    NULL. Before version 1.5.2 of pg_repack only a superuser can use it, since then the table's owner too.
  - Where pg_repack cannot be used, C(VACUUM FULL) does it, which locks everybody out of the table for its whole
    duration. It is only used with O(allow_exclusive_lock) until O(maintenance_until). Without them the table is listed
    as C(needs_outage), with the reason, and left.
  - Before a table is rewritten, a sample of it is read, and the duration estimated from that. What would not end in
    time, or needs more disk than is free, is not started.
  - What a killed pg_repack left behind (a trigger on the table, a log, a copy) is found and dropped.
  - Where the extension C(pgstattuple) is there and this user may execute it, a table is measured before its estimated
    bloat is believed.
  - Transactions that are in the way are waited for before anything is made; then they are named. pg_repack cancels
    nobody who reads or writes; a statement that wants the whole table for itself meanwhile (DDL) is cancelled by it.
  - Cheap work comes first, then the smallest table. What is interrupted leaves the table as it was.
  - Needs one server session for each connection, so a connection pooler in transaction mode is refused.
options:
  min_bloat_percent:
    description:
      - Share of a table and its TOAST table that must be bloat for it to be compacted.
    type: float
    default: 30
  min_size_bytes:
    description:
      - A smaller table, its TOAST table counted in, is left as it is.
    type: int
    default: 8388608
  jobs:
    description:
      - Indexes of one table that pg_repack builds at the same time, each over a connection of its own.
    type: int
    default: 2
  allow_exclusive_lock:
    description:
      - Whether C(VACUUM FULL) may be used where pg_repack cannot. Nobody can read or write the table meanwhile.
    type: bool
    default: false
  maintenance_until:
    description:
      - With O(allow_exclusive_lock), when the maintenance of the application ends, with its zone, as in
        C(2026-11-01T06:00:00Z). No exclusive lock is held beyond it.
    type: str
  free_disk_bytes:
    description:
      - Free bytes of the server's disk. Without it they are found out where the server runs on this machine. Elsewhere,
        a table that may need more than 1 GiB and a tenth of the database is not started.
    type: int
  lock_timeout_ms:
    description:
      - Longest single wait for a lock, or for somebody's open transaction to end, in milliseconds. pg_repack counts in
        whole seconds.
    type: int
    default: 60000
  deadline_s:
    description:
      - Seconds after which what still runs is stopped and the rest is left for the next run.
    type: int
    default: 3600
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    description: Returns the same plan, and compacts nothing.
    support: full
  diff_mode:
    description: Shows the plan, one line a table with its reason.
    support: full
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Compact tables of which more than two fifths are bloat
  pg_compact:
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
    min_bloat_percent: 40

- name: Compact without pg_repack, while the application is in maintenance
  pg_compact:
    dsn: "{{ db_dsn }}"
    allow_exclusive_lock: true
    maintenance_until: "2026-11-01T06:00:00Z"
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "Compacted 2 of 63 tables in 12.4 s; 1.3 GiB are now 512.0 MiB."
status:
  description:
    - V(ok), or V(breach) where work was left undone; V(unknown) where the bloat of a table could not be told for lack
      of rights or statistics. A table that needs an outage or a key is no breach, and is warned of.
  type: str
  returned: always
considered_tables:
  description: Tables that were looked at.
  type: int
  returned: always
planned_tables:
  description: How many of them are to be compacted or cleaned up, and can be.
  type: int
  returned: always
compacted_tables:
  description: How many were compacted.
  type: int
  returned: always
cleaned_tables:
  description: On how many the leftovers of a killed pg_repack were dropped.
  type: int
  returned: always
tables:
  description: The planned tables in the order in which they are started, and those in need that cannot be compacted.
  type: list
  elements: dict
  returned: always
  contains:
    table:
      description: Schema and name.
      type: str
    action:
      description: V(clean_up), V(truncate), V(pg_repack), V(vacuum_full), or V(none) where nothing can be done.
      type: str
    reason:
      description: Why, with the figure and its limit.
      type: str
    state:
      description:
        - V(planned) (check mode), V(done), V(locked), V(no_space), V(no_key), V(needs_outage), V(not_permitted),
          V(failed), V(not_reached), or V(gone) for one that was dropped meanwhile.
      type: str
    error:
      description: Why it was not done, or who stands in the way.
      type: str
    estimate_s:
      description: Seconds that a rewrite is likely to take, by the pace at which a sample was read.
      type: float
    size_before_bytes:
      description: Size of table, TOAST table and indexes before.
      type: int
    size_after_bytes:
      description: The same after.
      type: int
    duration_s:
      description: Seconds that it took, with waiting; null if it was not started.
      type: float
size_before_bytes:
  description: Size before of the tables that were compacted (in check mode, that are planned), with their indexes.
  type: int
  returned: always
size_after_bytes:
  description: Size of the same tables after; null in check mode.
  type: int
  returned: always
pg_repack:
  description: Version of pg_repack, where it can be used.
  type: str
  returned: always
pg_repack_refusal:
  description: Why it cannot be used; null where it can.
  type: str
  returned: always
unknown:
  description: Tables whose bloat could not be told for lack of rights or statistics.
  type: list
  elements: str
  returned: always
free_disk_bytes:
  description: Free bytes of the server's disk; null where nobody knows.
  type: int
  returned: always
duration_s:
  description: Seconds from the plan to the last figure.
  type: float
  returned: always
executed_queries:
  description: Statements and commands that were sent, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import (
    bloat,
    compact,
    lease,
    passes,
    postgres,
    reindex,
    rights,
)
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup.tool_warnings import said_warnings
from ansible.module_utils.runbook.rules.postgres import bloat as bloat_rule
from ansible.module_utils.runbook.rules.postgres import compact as rule
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import some

BOUNDS = {
    "min_size_bytes": (0, 1 << 50),
    "jobs": (1, 32),
    "free_disk_bytes": (0, 1 << 60),
    "lock_timeout_ms": (1, 86_400_000),
    "deadline_s": (1, 604_800),
}


def core(context: Context) -> dict[str, Any]:
    """Plan, work, and say what became of it."""
    params = context.params
    context.require_bounds(BOUNDS)
    if not 0 < params["min_bloat_percent"] <= 100:
        raise RunbookError(f"min_bloat_percent: {params['min_bloat_percent']:g} is no share; give 30 for 30 %.")
    with passes.entered(params, context.run, purpose="compact") as session:
        return _pass(context, session)


def _tables(
    session: postgres.Session, params: dict[str, Any], measuring: bloat.Measuring, *, deadline: float
) -> list[rule.Table]:
    """Every table, measured where the estimate alone would have it compacted."""
    catalog = bloat.read(session, min_size_bytes=params["min_size_bytes"])
    bloats = {relation.oid: bloat_rule.estimate(relation) for relation in catalog.relations}
    tables = compact.read(session, bloats)
    if measuring.schema is None:
        return tables
    limits = {name: params[name] for name in ("min_bloat_percent", "min_size_bytes")}
    doubtful = [
        part for table in rule.candidates(tables, **limits) for part in (table.heap, table.toast) if part is not None
    ]
    for oid, pages in bloat.measure(session, measuring.schema, doubtful, deadline=deadline).items():
        bloats[oid] = bloat_rule.measured(bloats[oid].relation, pages)
    return compact.read(session, bloats)


def _pass(context: Context, session: postgres.Session) -> dict[str, Any]:
    params, started = context.params, time.monotonic()
    now = session.query("SELECT clock_timestamp() AS now")[0]["now"]
    outage_s = rule.outage(allow=params["allow_exclusive_lock"], until=params["maintenance_until"], now=now)
    measuring = bloat.measuring(session)
    tables = _tables(session, params, measuring, deadline=started + params["deadline_s"])
    needed = rule.needed(tables, min_bloat_percent=params["min_bloat_percent"], min_size_bytes=params["min_size_bytes"])
    client, refusal = compact.repack_client(session)
    superuser = compact.is_superuser(session)
    leftovers = compact.leftovers(session)
    free = params["free_disk_bytes"] if params["free_disk_bytes"] is not None else reindex.free_disk(session)
    reports = rule.plan(
        needed,
        {table.oid: compact.sample(session, table) for table in needed if table.permitted},
        leftovers,
        rule.Ways(
            repack=client.version if client else None,
            repack_refusal=refusal,
            repack_needs_superuser=rule.needs_superuser(client.version) if client else True,
            is_superuser=superuser,
            outage_s=outage_s,
        ),
        min_bloat_percent=params["min_bloat_percent"],
        deadline_s=params["deadline_s"],
        free_bytes=free,
        database_bytes=reindex.database_bytes(session),
    )
    diff = rule.describe(reports)
    todo = [report for report in reports if report.state == "planned"]
    stopped: str | None = None
    if todo:
        work = compact.Compaction(
            todo,
            leftovers,
            connect=lambda: passes.connect(
                session.target, purpose="compact", lock_timeout_ms=params["lock_timeout_ms"]
            ),
            fits=lambda one, left_s, pace: rule.fits(one, left_s=left_s, pace=pace),
            client=client,
            superuser=superuser,
            jobs=params["jobs"],
            lock_timeout_ms=params["lock_timeout_ms"],
            deadline_s=started + params["deadline_s"] - time.monotonic(),
            outage_s=None if outage_s is None else started + outage_s - time.monotonic(),
        )
        if context.check_mode:
            work.executed_queries = work.planned_queries(session)
        else:
            stopped = _work(context, session, work)

    summary = rule.Summary(reports, len(tables), context.check_mode, stopped)
    unknown = [
        part
        for table in tables
        if table.size_bytes >= params["min_size_bytes"]
        for part in (table.heap, table.toast)
        if part is not None and part.fixable
    ]
    result = summary.result()
    status = worst([result["status"], Status.of(unknown=unknown)])
    result |= {
        "pg_repack": client.version if client else None,
        "pg_repack_refusal": refusal,
        "unknown": list(dict.fromkeys(str(part.relation.table) for part in unknown)),
        "free_disk_bytes": free,
        "duration_s": round(time.monotonic() - started, 3),
        "executed_queries": work.executed_queries if todo else [],
    }
    if context.diff:
        result["diff"] = {"prepared": diff}
    _warn(context, session, reports, bloat_rule.unknown_because(unknown, measuring=measuring.fix))
    for program, said in work.said if todo else ():
        for warning in said_warnings(said):
            context.warn(f"{program}: {warning}")
    # What nobody can measure is not compacted, and stands in no other table's way.
    return context.conclude(status, msg=summary.message(result), fail_on_unknown=False, **result)


def _warn(context: Context, session: postgres.Session, reports: list[rule.Report], unknown: str) -> None:
    if unknown:
        context.warn(f"The bloat is unknown {unknown}.")
    # Of what a managed platform made the result tells; a warning could be followed by nobody.
    reports = [report for report in reports if not (report.table and report.table.is_platforms)]
    left = [report.label for report in reports if report.state == "not_permitted" and report.action == "clean_up"]
    if left:
        context.warn(f"Not cleaned up after a pg_repack that was killed: {some(left)}; connect as their owner.")
    refused = [report for report in reports if report.state == "not_permitted" and report.action != "clean_up"]
    if refused:
        how = rights.to_maintain(session, [report.oid for report in refused])
        context.warn(f"Not compacted: {some([report.label for report in refused])}, which this user may not; {how}.")
    # The reason says what would help; tables with the same one are told together.
    for error in dict.fromkeys(report.error for report in reports if report.state in ("no_key", "needs_outage")):
        names = [report.label for report in reports if report.error == error]
        context.warn(f"Not compacted: {some(names)}: {error}.")


def _work(context: Context, session: postgres.Session, work: compact.Compaction) -> str | None:
    """Hold the writer's lock and do the work; why it ended early."""
    with lease.writing(session, context.run) as guard:

        def tick() -> None:
            guard.renew()
            context.progress.update(*work.progress(session), "bytes")

        stopped = work.run(tick)
    context.progress.update(*work.progress(None), "bytes", final=True)
    return stopped


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_compact",
        argument_spec=postgres.argument_spec()
        | {
            "min_bloat_percent": {"type": "float", "default": 30},
            "min_size_bytes": {"type": "int", "default": 8_388_608},
            "jobs": {"type": "int", "default": 2},
            "allow_exclusive_lock": {"type": "bool", "default": False},
            "maintenance_until": {"type": "str"},
            "free_disk_bytes": {"type": "int"},
            "lock_timeout_ms": {"type": "int", "default": 60_000},
            "deadline_s": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
