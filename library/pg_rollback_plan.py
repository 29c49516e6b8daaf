#!/usr/bin/python
"""Module pg_rollback_plan: to which point a database can go back, by which way, and what that loses."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_rollback_plan
short_description: Plan the rollback of a database, and say what would be lost
description:
  - Decides by which way a point is reached, and refuses what cannot be done. The restore, the snapshot and the swap are
    done by M(pg_pitr_restore), M(pg_backup), M(pg_restore), M(pg_swap) and M(supabase_restore), in
    C(playbooks/rollback.yml).
  - Says how many rows would be lost, table by table, as far as the live database can say. It returns numbers and
    names, never the content of a row.
  - For recovery to a point in time it also ends the WAL segment and waits until that is archived, so that the archive
    reaches up to now.
options:
  target_time:
    description:
      - Go back to this moment, in ISO 8601 with its offset, by recovery to a point in time or by Supabase.
    type: str
    default: ''
  backup:
    description:
      - Go back to this backup, as V(2026-11-23T03-00-00Z), or V(latest).
    type: str
    default: ''
  before:
    description:
      - Go back to the latest backup whose contents are from before this time, in ISO 8601 with its offset.
    type: str
    default: ''
  undo:
    description:
      - Give the live name back to this database, which a swap replaced.
    type: str
    default: ''
  replace:
    description:
      - What may be replaced in this run, typed out by a person. That is the name of the live database, at Supabase
        the reference of the project. Without it the plan ends with the copy beside the live database.
    type: str
    default: ''
  project_ref:
    description:
      - Reference of the project at Supabase, where the database lives there.
    type: str
    default: ''
  restore_path:
    description:
      - Folder in which a server may be restored beside the live one.
    type: str
    default: ''
  path_is_here:
    description:
      - Whether that folder lies on the machine on which this module runs, so that its free room can be seen.
    type: bool
    default: true
  maintenance_db:
    description:
      - Database that is connected to while names are exchanged.
    type: str
    default: postgres
  accept_without:
    description:
      - What the copy may be without when it takes the live database's place, as in M(pg_swap). A backup that was told
        to leave out more is refused here where O(replace) is set, and said otherwise.
    type: list
    elements: str
    default: []
  timestamp_columns:
    description:
      - Names of columns that say when a row was written. Without it, the common ones such as C(updated_at).
    type: list
    elements: str
    default: []
  deadline_s:
    description:
      - When counting ends, in seconds. What was not counted by then is not known.
    type: int
    default: 300
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_backups
  - runbook_backups.clusters
attributes:
  check_mode:
    description: The plan is the one of the real run. No WAL segment is ended.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
notes:
  - O(login_db) is the live database.
  - Reading every table needs a superuser, or C(pg_read_all_data) and BYPASSRLS.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: What would it cost to go back to the minute before the mistake
  pg_rollback_plan:
    target_time: "2026-11-23T14:29:00+00:00"
    restore_path: /srv/restore
    bucket: mental-scribe-backups
    region: eu-central-1
    prefix: production
    login_host: db.example.com
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: mental_scribe
"""

RETURN = r"""
msg:
  description: The plan, in a few words.
  returned: always
  type: str
status:
  description:
    - V(ok), or V(breach) where it was refused. It says that there is a way; what is not known of the losses is in
      RV(unknown_tables).
  returned: always
  type: str
method:
  description: V(pitr), V(backup), V(supabase) or V(undo).
  returned: success
  type: str
point:
  description: The moment whose contents come back; null with V(undo).
  returned: success
  type: str
backup_id:
  description: The backup that is restored; empty with another method.
  returned: success
  type: str
replacement:
  description: Name of the database that takes the live one's place; empty at Supabase.
  returned: success
  type: str
is_ready:
  description: Whether the copy is there, proven.
  returned: success
  type: bool
previous:
  description: Where the rollback was done already, the name of the database that was swapped out. Else null.
  returned: success
  type: str
steps:
  description:
    - What is to be done, as true or false each, C(snapshot), C(pitr), C(backup), C(supabase), C(compare),
      C(integrity), C(swap), C(replace_project) and C(clean).
  returned: success
  type: dict
archive_reaches:
  description:
    - Whether the archive can be asked for the moment already. In check mode it is false for a moment that is newer than
      the newest archived segment.
  returned: success
  type: bool
next_step:
  description: What to type next.
  returned: success
  type: str
losses:
  description:
    - For each table its C(rows), its C(newer_rows), which are null where that is not known, the C(evidence)
      (V(commit_timestamp), V(column), V(backup) where the backup knows no such table, or V(none)), the C(columns),
      whether there may be more (C(at_least)), and the C(reason) where it is not known.
  returned: success
  type: list
  elements: dict
newer_rows:
  description: Sum of the rows that are known to be newer than the point.
  returned: success
  type: int
unknown_tables:
  description: Tables of which nothing is known.
  returned: success
  type: list
  elements: str
window_s:
  description: Seconds from the point to now; null with V(undo).
  returned: success
  type: float
database_bytes:
  description: Size of the live database.
  returned: success
  type: int
cluster_bytes:
  description: Size of all databases of its server.
  returned: success
  type: int
free_bytes:
  description: Room where the server keeps its data. Null where that cannot be known from here.
  returned: success
  type: int
restore_path:
  description: Folder of a restored server; empty where O(restore_path) is.
  returned: success
  type: str
copies_prefix:
  description: Prefix in the bucket for the copy of the restored server.
  returned: success
  type: str
duration_s:
  description: Seconds in all.
  returned: success
  type: float
executed_queries:
  description: Statements that changed something on a server.
  returned: success
  type: list
  elements: str
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import archiver
from ansible.module_utils.runbook.drivers.backup import restore as restore_driver
from ansible.module_utils.runbook.drivers.backup import rollback as driver
from ansible.module_utils.runbook.drivers.backup import swap as swap_driver
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import content_hash, postgres
from ansible.module_utils.runbook.drivers.s3 import bucket, s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import backup_origin as origins
from ansible.module_utils.runbook.rules.backup import manifest as manifests
from ansible.module_utils.runbook.rules.backup import restore as restores
from ansible.module_utils.runbook.rules.backup import rollback as rules
from ansible.module_utils.runbook.rules.backup import swap as swap_rules
from ansible.module_utils.runbook.rules.identifiers import QualifiedName
from ansible.module_utils.runbook.rules.text import as_lines

if TYPE_CHECKING:
    from datetime import datetime

    from ansible.module_utils.runbook.rules.backup.manifest import Manifest

#: Options whose value must lie between two bounds.
BOUNDS = {"deadline_s": (1, 604_800)}
#: Longest wait for a segment to be archived, in seconds; what is not there by then is left to the recovery to say.
ARCHIVE_WAIT_S = 60


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    text = {"type": "str", "default": ""}
    return (
        postgres.argument_spec()
        | s3.argument_spec()
        | {
            "target_time": text,
            "backup": text,
            "before": text,
            "undo": text,
            "replace": text,
            "project_ref": text,
            "restore_path": text,
            "path_is_here": {"type": "bool", "default": True},
            "maintenance_db": {"type": "str", "default": "postgres"},
            "accept_without": {"type": "list", "elements": "str", "default": []},
            "timestamp_columns": {"type": "list", "elements": "str", "default": []},
            "previous_clusters": {"type": "list", "elements": "str", "default": []},
            "prefix": text,
            "deadline_s": {"type": "int", "default": 300},
        }
    )


def find_backup(context: Context, database: str, request: rules.Request, clusters: frozenset[str]) -> Manifest:
    """The backup that was asked for.

    :raises RunbookError: there is none, or its manifest is not to be trusted
    """
    store = s3.Store.from_params(context.params)
    return restores.choose(
        restores.Wanted(database, request.backup or restores.LATEST, request.before, clusters),
        bucket.Backups(store, manifests.database_folders(context.params["prefix"], database)),
        warn=context.warn,
    ).manifest


def look_for_losses(
    context: Context,
    clock: Clock,
    session: postgres.Session,
    point: datetime,
    facts: driver.Facts,
    manifest: Manifest | None,
) -> list[rules.Loss]:
    """Count in every table what is newer than the point, small tables first."""
    names = context.params["timestamp_columns"] or rules.TIMESTAMP_COLUMNS
    session.query("SELECT set_config('row_security', 'off', false)")
    with driver.unlocked(session):
        tables = [each for each in content_hash.read_tables(session) if tuple(each.name) != rules.LEASE_TABLE]
    total = sum(each.size_bytes for each in tables)
    counted, done = [], 0
    for table in sorted(tables, key=lambda each: (each.size_bytes, each.name)):
        counted.append(
            driver.count(
                session, table, rules.timestamp_columns(table.columns, names), point=point,
                has_commit_timestamps=facts.has_commit_timestamps, left_s=clock.left_s(),
            )
        )  # fmt: skip
        done += table.size_bytes
        context.progress.update("count what would be lost", done, total, "bytes")
    session.query("SELECT set_config('statement_timeout', %s, false)", (str(driver.STATEMENT_TIMEOUT_MS),))
    then = {str(QualifiedName(each.schema, each.name)) for each in manifest.tables} if manifest else None
    return rules.judge_losses(sorted(counted, key=lambda each: each.table), point, then)


def archive_now(
    context: Context, session: postgres.Session, facts: driver.Facts, request: rules.Request
) -> bool:  # fmt: skip
    """Let the archive reach up to now, because a moment of the last minute may still lie on the server alone.

    :returns: whether the archive can be asked for the moment; in check mode, which ends nothing, it may be too young
    """
    # Somebody may have frozen the database for the very reason that it is to go back.
    permits.require_database(context.run, session, may_be_frozen=True, may_be_early=True)
    if context.check_mode:
        reaches = rules.is_archived(request.target_time, facts.last_archived_at)
        if not reaches:
            context.warn(
                "The archive does not reach that moment yet, so it was not asked whether it can be restored; the real "
                "run first ends the WAL segment and waits until it is archived."
            )
        return reaches
    if not facts.archives or not facts.may_switch_wal:
        context.warn(
            "The WAL segment that is being written was not ended: "
            + (
                "archive_mode is off, or there is no archive_command."
                if not facts.archives
                else "this user may not call pg_switch_wal()."
            )
        )
    elif archiver.archive_until_now(session, wait_s=ARCHIVE_WAIT_S).archived_s is None:
        context.warn(f"The newest WAL segment was not archived within {ARCHIVE_WAIT_S} s; see playbooks/pitr.yml.")
    return True


def make_plan(context: Context, clock: Clock) -> dict[str, Any]:
    """Decide, and say what it costs."""
    params = context.params
    target = postgres.Target.from_params(params)
    with driver.connect(target, "pg_rollback_plan") as session:
        facts = driver.read_facts(session)
        request = rules.parse_request(
            **{name: params[name] for name in ("target_time", "backup", "before", "undo")}, now=facts.now
        )
        is_there = bool(params["project_ref"])
        method = rules.choose_method(request, supabase=is_there, restore_path=params["restore_path"])
        replaces = rules.check_replace(
            params["replace"], method=method, database=target.database, project_ref=params["project_ref"]
        )
        clusters = origins.accepted(facts.system_identifier, params["previous_clusters"])
        manifest = find_backup(context, target.database, request, clusters) if method == "backup" else None
        if manifest is not None:
            try:
                swap_rules.refuse_without(
                    manifest.without_rows, params["accept_without"], what=f"backup: {manifest.backup_id}"
                )
            except RunbookError as error:
                if replaces:
                    raise
                context.warn(error.message)
        point = rules.snapshot_at(manifest) if manifest else request.target_time
        path = rules.restore_folder(
            params["restore_path"], system_identifier=facts.system_identifier, database=target.database
        )
        chosen = rules.plan(
            request, method, swap_driver.databases(session), swap_driver.connected(session), point=point,
            backup_id=manifest.backup_id if manifest else "", replaces=replaces,
            maintenance_db=params["maintenance_db"], restore_path=path,
        )  # fmt: skip
        free = restore_driver.look(session).free_bytes
        if chosen.steps["pitr"]:
            room = driver.read_room(session, data_free_bytes=free, path=path if params["path_is_here"] else "")
            for caution in rules.check_room(
                room, database_bytes=facts.database_bytes, cluster_bytes=facts.cluster_bytes
            ):
                context.warn(caution)
        losses: list[rules.Loss] = []
        if chosen.point is not None and chosen.previous is None:
            losses = look_for_losses(context, clock, session, chosen.point, facts, manifest)
        reaches = True
        if chosen.steps["pitr"]:
            reaches = archive_now(context, session, facts, request)
        queries = session.executed_queries
    unknown = [each.table for each in losses if each.newer_rows is None]
    shown = {"diff": {"prepared": as_lines(rules.words(chosen))}} if context.diff else {}
    return shown | {
        "changed": False,
        "msg": rules.sentence(chosen, losses, now=facts.now),
        "method": chosen.method,
        "point": chosen.point.isoformat() if chosen.point else None,
        "backup_id": chosen.backup_id,
        "replacement": chosen.replacement,
        "is_ready": chosen.is_ready,
        "previous": chosen.previous,
        "steps": chosen.steps,
        "archive_reaches": reaches,
        "next_step": rules.next_step(chosen),
        "losses": rules.as_result(losses),
        "newer_rows": sum(each.newer_rows or 0 for each in losses),
        "unknown_tables": unknown,
        "window_s": round((facts.now - chosen.point).total_seconds(), 1) if chosen.point else None,
        "database_bytes": facts.database_bytes,
        "cluster_bytes": facts.cluster_bytes,
        "free_bytes": free,
        "restore_path": path,
        "copies_prefix": rules.copies_prefix(params["prefix"]),
        "executed_queries": queries,
    }


def core(context: Context) -> dict[str, Any]:
    """Plan."""
    context.require_bounds(BOUNDS)
    clock = Clock(context.params["deadline_s"])
    return make_plan(context, clock) | {"duration_s": round(clock.passed_s(), 3)}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_rollback_plan", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
