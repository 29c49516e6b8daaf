#!/usr/bin/python
"""Ansible module pg_reindex: rebuild the indexes that need it, while everybody works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_reindex
short_description: Rebuild the indexes that need it, while everybody works
description:
  - Rebuilds, with C(REINDEX INDEX CONCURRENTLY), indexes that are invalid, indexes of a collation whose version has
    changed, and bloated ones. Readers and writers go on meanwhile.
  - Drops what an interrupted C(REINDEX CONCURRENTLY) left behind, that is an invalid index named C(_ccnew) or C(_ccold)
    that has a valid twin on the same table.
  - What repairs comes first, then the smallest index. An index that would not be done before the deadline, by the pace
    so far, is not started.
  - Where the extension C(pgstattuple) is there and this user may execute it, an index is measured before its estimated
    bloat is believed. The bloat of other types than B-tree is unknown, so O(mode=needed) does not touch them for it.
  - Where the extension C(amcheck) is there and this user may execute it, the structure of a B-tree is checked before it
    is rebuilt. A corrupt index is reported and left as it is, because it is evidence, and rebuilding it may hide that
    the table is damaged too.
  - When all indexes of a collation have been rebuilt, its new version is confirmed (C(REFRESH VERSION)).
  - Waiting for others holds nobody up, but has a bound. Of a statement that fails, the half-built index is dropped.
  - The index of an exclusion constraint, or of a system catalog, cannot be rebuilt concurrently. If one is in need, it
    is listed as C(not_concurrent).
  - The user must own the tables, or have MAINTAIN on them since PostgreSQL 17. Indexes of TOAST tables also need USAGE
    on the schema C(pg_toast).
  - Needs one server session for each connection, so a connection pooler in transaction mode is refused.
options:
  mode:
    description:
      - V(needed) rebuilds for a reason.
      - V(all) rebuilds every index that can be, as C(REINDEX DATABASE CONCURRENTLY) does.
    type: str
    choices: [needed, all]
    default: needed
  min_bloat_percent:
    description:
      - Share of an index that must be bloat for it to be rebuilt. An index that grows at random places settles at
        about 25.
    type: float
    default: 40
  min_size_bytes:
    description:
      - A smaller index is not rebuilt for its bloat.
    type: int
    default: 8388608
  jobs:
    description:
      - Indexes that are rebuilt at the same time, each on another table. One more connection watches.
    type: int
    default: 2
  check_structure:
    description:
      - Whether amcheck is used where it is there.
    type: bool
    default: true
  free_disk_bytes:
    description:
      - Free bytes of the server's disk. Without it they are found out where the server runs on this machine. Elsewhere,
        an index that may need more than 1 GiB and a tenth of the database is not started.
    type: int
  lock_timeout_ms:
    description:
      - Longest single wait for a lock, or for somebody's older transaction to end, in milliseconds.
    type: int
    default: 60000
  deadline_s:
    description:
      - Seconds after which what still runs is cancelled and the rest is left for the next run.
    type: int
    default: 3600
extends_documentation_fragment: runbook_postgresql
attributes:
  check_mode:
    description: Returns the same plan, and rebuilds nothing.
    support: full
  diff_mode:
    description: Shows the plan, one line an index with its reason.
    support: full
author: Mental Scribe operations
"""

EXAMPLES = r"""
- name: Rebuild indexes of which more than half is bloat
  pg_reindex:
    login_host: "{{ db_login_host }}"
    login_user: "{{ db_login_user }}"
    login_password: "{{ db_login_password }}"
    login_db: "{{ db_login_db }}"
    min_bloat_percent: 50
    deadline_s: 1800

- name: Rebuild all indexes
  pg_reindex:
    dsn: "{{ db_dsn }}"
    mode: all
    jobs: 4
"""

RETURN = r"""
msg:
  description: One sentence with the figures.
  type: str
  returned: always
  sample: "Rebuilt 3 of 41 indexes in 12.4 s; 310.2 MiB are now 121.9 MiB."
status:
  description:
    - V(ok), or V(breach) where work was left undone, an index is corrupt, or a repair is in need that this user may not
      make; V(unknown) where the bloat of an index could not be told for lack of rights or statistics.
  type: str
  returned: always
mode:
  description: As the option.
  type: str
  returned: always
jobs:
  description: Connections that work is divided among, at most.
  type: int
  returned: always
considered_indexes:
  description: Indexes that were looked at.
  type: int
  returned: always
planned_indexes:
  description: How many of them are to be rebuilt or dropped, and can be.
  type: int
  returned: always
rebuilt_indexes:
  description: How many were rebuilt.
  type: int
  returned: always
dropped_indexes:
  description: How many left behind by interrupted runs were dropped.
  type: int
  returned: always
indexes:
  description: The planned indexes in the order in which they are started, and those in need that cannot be rebuilt.
  type: list
  elements: dict
  returned: always
  contains:
    index:
      description: Schema and name.
      type: str
    table:
      description: Its table.
      type: str
    action:
      description: V(rebuild) or V(drop).
      type: str
    reason:
      description: Why, with the figure and its limit.
      type: str
    state:
      description:
        - V(planned) (check mode), V(done), V(locked), V(corrupt), V(no_space), V(not_concurrent), V(not_permitted),
          V(failed), V(not_reached), or V(gone) for one that was dropped meanwhile.
      type: str
    error:
      description: Why it was not done, or who stands in the way.
      type: str
    checked:
      description: V(true) if its structure was found sound; V(null) if nobody looked.
      type: bool
    size_before_bytes:
      description: Its size before.
      type: int
    size_after_bytes:
      description: Its size after.
      type: int
    duration_s:
      description: Seconds that it took, with waiting; null if it was not started.
      type: float
size_before_bytes:
  description: Size before of the indexes that were rebuilt (in check mode, that are planned).
  type: int
  returned: always
size_after_bytes:
  description: Size of the same indexes after; null in check mode.
  type: int
  returned: always
refreshed_collations:
  description: Collations whose new version was confirmed.
  type: list
  elements: str
  returned: always
unknown:
  description: Indexes whose bloat could not be told for lack of rights or statistics.
  type: list
  elements: str
  returned: always
free_disk_bytes:
  description: Free bytes of the server's disk; null where nobody knows.
  type: int
  returned: always
structure_checked:
  description: Whether amcheck could be used.
  type: bool
  returned: always
duration_s:
  description: Seconds from the plan to the last figure.
  type: float
  returned: always
executed_queries:
  description: Statements that were sent, or would be in check mode.
  type: list
  elements: str
  returned: always
"""

import time
from typing import Any

from ansible.module_utils.runbook.drivers.postgres import bloat, lease, passes, postgres, reindex, rights
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.postgres import bloat as bloat_rule
from ansible.module_utils.runbook.rules.postgres import reindex as rule
from ansible.module_utils.runbook.rules.status import Status, worst
from ansible.module_utils.runbook.rules.words import some


def core(context: Context) -> dict[str, Any]:
    """Plan, work, and say what became of it."""
    params = context.params
    for option, least in (("jobs", 1), ("lock_timeout_ms", 1), ("deadline_s", 1), ("min_size_bytes", 0)):
        if params[option] < least:
            raise RunbookError(f"{option}: {params[option]} is too small; give at least {least}.")
    if not 0 < params["min_bloat_percent"] <= 100:
        raise RunbookError(f"min_bloat_percent: {params['min_bloat_percent']:g} is no share; give 40 for 40 %.")
    if params["free_disk_bytes"] is not None and params["free_disk_bytes"] < 0:
        raise RunbookError(f"free_disk_bytes: {params['free_disk_bytes']} is negative; give the free bytes.")
    with passes.entered(params, context.run, purpose="reindex") as session:
        return _pass(context, session)


def _bloats(
    session: postgres.Session, params: dict[str, Any], measuring: bloat.Measuring, *, deadline: float
) -> dict[int, bloat_rule.Bloat]:
    """Bloat of every index, measured where the estimate alone would have it rebuilt."""
    catalog = bloat.read(session, min_size_bytes=params["min_size_bytes"])
    bloats = {relation.oid: bloat_rule.estimate(relation) for relation in catalog.relations if relation.is_index}
    if measuring.schema is not None:
        doubtful = rule.candidates(
            bloats.values(), min_bloat_percent=params["min_bloat_percent"], min_size_bytes=params["min_size_bytes"]
        )
        for oid, pages in bloat.measure(session, measuring.schema, doubtful, deadline=deadline).items():
            bloats[oid] = bloat_rule.measured(bloats[oid].relation, pages)
    return bloats


def _pass(context: Context, session: postgres.Session) -> dict[str, Any]:
    params, started = context.params, time.monotonic()
    measuring = bloat.measuring(session)
    bloats = _bloats(session, params, measuring, deadline=started + params["deadline_s"])
    outdated = reindex.outdated_collations(session)
    indexes = reindex.read(session, bloats, outdated)
    works = rule.plan(
        indexes,
        mode=params["mode"],
        min_bloat_percent=params["min_bloat_percent"],
        min_size_bytes=params["min_size_bytes"],
    )
    free = params["free_disk_bytes"] if params["free_disk_bytes"] is not None else reindex.free_disk(session)
    size = reindex.database_bytes(session)
    check_schema = reindex.amcheck(session) if params["check_structure"] else None
    reports = [
        rule.Report(work, *rule.first_state(work, jobs=params["jobs"], free_bytes=free, database_bytes=size))
        for work in works
    ]
    diff = rule.describe(reports)
    todo = [report for report in reports if report.state == "planned"]
    queries = [session.render(reindex.statement(report.work)) for report in todo]
    stopped: str | None = None
    refreshed: list[str] = []
    labels = {reindex.collation_label(name): name for name in outdated.values()}
    if todo and not context.check_mode:
        stopped, refreshed, queries = _work(
            context, session, reports, labels, check_schema, deadline=started + params["deadline_s"]
        )

    summary = rule.Summary(reports, len(indexes), context.check_mode, stopped, refreshed)
    unknown = [
        one
        for one in bloats.values()
        if one.fixable and (one.size_bytes is None or one.size_bytes >= params["min_size_bytes"])
    ]
    result = summary.result()
    status = worst([result["status"], Status.of(unknown=unknown)])
    result |= {
        "mode": params["mode"],
        "jobs": min(params["jobs"], max(len(todo), 1)),
        "unknown": [str(one.relation.name) for one in unknown],
        "free_disk_bytes": free,
        "structure_checked": check_schema is not None,
        "duration_s": round(time.monotonic() - started, 3),
        "executed_queries": queries,
    }
    if context.diff:
        result["diff"] = {"prepared": diff}
    _warn(context, session, reports, bloat_rule.unknown_because(unknown, measuring=measuring.fix))
    # What nobody can measure is not rebuilt, and stands in no other index's way.
    return context.conclude(status, msg=summary.message(result), fail_on_unknown=False, **result)


def _warn(context: Context, session: postgres.Session, reports: list[rule.Report], unknown: str) -> None:
    if unknown:
        context.warn(f"The bloat is unknown {unknown}.")
    refused = [
        report.work.index
        for report in reports
        if report.state == "not_permitted"
        and report.work.priority is not rule.Priority.REST
        # Of what a managed platform made the result tells; a warning could be followed by nobody.
        and not report.work.index.is_platforms
    ]
    if refused:
        context.warn(
            f"{session.target} may not rebuild {some([str(index.name) for index in refused])}, though there is need; "
            f"{rights.to_maintain(session, [index.table_oid for index in refused])}."
        )


def _work(
    context: Context,
    session: postgres.Session,
    reports: list[rule.Report],
    outdated: dict[str, Any],
    check_schema: str | None,
    *,
    deadline: float,
) -> tuple[str | None, list[str], list[str]]:
    """Hold the writer's lock and do the work; why it ended early, collations confirmed, statements sent."""
    params = context.params
    todo = [report for report in reports if report.state == "planned"]
    work = reindex.Rebuild(
        todo,
        connect=lambda: passes.connect(session.target, purpose="reindex", lock_timeout_ms=params["lock_timeout_ms"]),
        fits=lambda one, left_s, rate: rule.fits(one, left_s=left_s, rate_bytes_s=rate),
        jobs=params["jobs"],
        lock_timeout_ms=params["lock_timeout_ms"],
        deadline_s=deadline - time.monotonic(),
        check_schema=check_schema,
    )
    refreshed: list[str] = []
    with lease.writing(session, context.run) as guard:

        def tick() -> None:
            guard.renew()
            context.progress.update(*work.progress(session), "bytes")

        stopped = work.run(tick)
        if not session.connection.closed:
            reindex.sizes_after(session, todo)
            for label in rule.refreshable(reports):
                if reindex.refresh(session, outdated[label]):
                    refreshed.append(label)
                else:
                    context.warn(
                        f"All indexes of the collation {label} are rebuilt; its owner must REFRESH VERSION it."
                    )
    context.progress.update(*work.progress(None), "bytes", final=True)
    return stopped, refreshed, work.executed_queries + [one for one in session.executed_queries if "REFRESH" in one]


def main() -> None:
    """Run as an Ansible module."""
    run_module(
        core,
        name="pg_reindex",
        argument_spec=postgres.argument_spec()
        | {
            "mode": {"type": "str", "choices": ["needed", "all"], "default": "needed"},
            "min_bloat_percent": {"type": "float", "default": 40},
            "min_size_bytes": {"type": "int", "default": 8_388_608},
            "jobs": {"type": "int", "default": 2},
            "check_structure": {"type": "bool", "default": True},
            "free_disk_bytes": {"type": "int"},
            "lock_timeout_ms": {"type": "int", "default": 60_000},
            "deadline_s": {"type": "int", "default": 3600},
        },
    )


if __name__ == "__main__":
    main()
