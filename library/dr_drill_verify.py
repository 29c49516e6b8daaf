#!/usr/bin/python
"""Module dr_drill_verify: take what a drill restored for good or bad."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dr_drill_verify
short_description: Verify what a disaster-recovery drill restored
description:
  - Compares the copy with what clients were told and with what the application expects, asks it all that
    M(pg_integrity) asks, and compares its files with their second copy.
  - Where the copy is good, the clients of the sandbox write to it, and the time to recovery (RTO) ends with the first
    commit that is acknowledged. Where it is not, the next M(dr_drill_decide) skips this backup.
options:
  smoke_queries:
    description:
      - As of M(pg_integrity).
    type: list
    elements: dict
    default: []
  files:
    description:
      - The bucket with the second copy of uploaded files, as M(s3_mirror) keeps it. The rows of the restored
        C(storage.objects) are compared with it. Without O(files.bucket) and O(files.buckets), or where the database has
        no such table, files are not part of the drill, and the document says so.
    type: dict
    default: {}
    suboptions:
      bucket:
        description: Its name.
        type: str
      buckets:
        description: The buckets that it holds copies of, by the C(bucket_id) of their rows.
        type: list
        elements: str
        default: []
      prefix:
        description: What is put before the bucket and the key there.
        type: str
        default: files/
      source_prefix:
        description: Only rows whose names begin with this have a copy.
        type: str
        default: ''
      show_keys:
        description: Whether files are named by their keys. Otherwise it is by a digest, because keys may name people.
        type: bool
        default: false
      region:
        description: Its region.
        type: str
      endpoint_url:
        description: Its address, where it is not AWS.
        type: str
      profile:
        description: Profile of the AWS configuration files.
        type: str
      access_key:
        description: Access key. Listing and reading is enough.
        type: str
      secret_key:
        description: Secret key.
        type: str
      session_token:
        description: Session token.
        type: str
      aws_ca_bundle:
        description: File with the certificates of its authorities.
        type: path
extends_documentation_fragment:
  - runbook_drill
  - runbook_drill.own_login
  - runbook_drill.target
attributes:
  check_mode:
    description: Does nothing, as no drill is started in check mode.
    support: full
  diff_mode:
    description: Nothing is shown.
    support: none
requirements:
  - psycopg2
  - boto3
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Verify, and let the clients in
  dr_drill_verify:
    state_dir: /srv/runbook/drill
    environment: sandbox
    login_user: postgres
    login_password: "{{ db_login_password }}"
    smoke_queries:
      - {name: somebody wrote, query: SELECT count(*) FROM public.messages}
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  type: str
  returned: always
status:
  description: V(ok). That a copy is not good is no failure of the module; M(dr_drill_judge) has the verdict.
  type: str
  returned: always
drill_id:
  description: Name of the drill.
  type: str
  returned: when a drill is under way
recovered:
  description: Whether what was restored was found good.
  type: bool
  returned: except in check mode
duration_s:
  description: Seconds that it took.
  type: float
  returned: except in check mode
"""

import contextlib
import functools
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import mirror
from ansible.module_utils.runbook.drivers.drill import copies, drill, folder, servers
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import preflight
from ansible.module_utils.runbook.rules.backup import mirror as mirror_rules
from ansible.module_utils.runbook.rules.backup.swap import Marker
from ansible.module_utils.runbook.rules.drill import copy_checks, figures, scenarios
from ansible.module_utils.runbook.rules.drill.points import Problem
from ansible.module_utils.runbook.rules.postgres import integrity as integrity_rules
from ansible.module_utils.runbook.rules.status import Check, Status, worst
from ansible.module_utils.runbook.rules.words import agree, all_ok, count, to_second

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible.module_utils.runbook.drivers.postgres import postgres
    from ansible.module_utils.runbook.rules.drill.state import State

#: Seconds in which the clients have to get a first commit acknowledged.
SWITCH_S = 60.0


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    files = drill.another_bucket() | {
        "buckets": {"type": "list", "elements": "str", "default": []},
        "prefix": {"type": "str", "default": "files/"},
        "source_prefix": {"type": "str", "default": ""},
        "show_keys": {"type": "bool", "default": False},
    }
    own: dict[str, dict[str, Any]] = {
        "smoke_queries": {"type": "list", "elements": "dict", "default": []},
        "files": {"type": "dict", "default": {}, "options": files},
    }
    return drill.argument_spec() | drill.own_login() | drill.target() | own


def core(context: Context) -> dict[str, Any]:
    """Judge the copy; if it is good, let the clients write to it."""
    permits.require_environment(context.run, context.params["environment"])
    if context.check_mode:
        return scenarios.nothing_to_do()
    with drill.resumed(context.params) as current:
        return verify(current, context.params)


def verify(current: drill.Drill, params: Mapping[str, Any]) -> dict[str, Any]:
    """Verify what was restored."""
    chosen, begun = current.state.chosen, folder.now()
    if chosen is None:
        raise RunbookError("state_dir: nothing was chosen to be restored yet; run the playbook dr_drill.yml.")
    current.phase("restore", chosen.begun_at, msg=f"{chosen.way} {chosen.backup_id}.")
    checks, measured = look(current, params)
    wrong = [check for check in checks if check.status == Status.BREACH]
    # No other backup of the database would bring a file back, so this one is not skipped for that.
    more, files = compare_files(current.state, params)
    checks += more
    bad = " ".join(check.msg for check in checks if check.status == Status.BREACH)
    unknown = " ".join(check.msg for check in checks if check.status == Status.UNKNOWN)
    status = worst(check.status for check in checks)
    current.keep(replace(current.state, checks=tuple(checks), measured=measured, files=files))
    current.phase("verify", begun, status, bad or unknown or all_ok(len(checks)))
    if wrong:
        reason = " ".join(check.msg for check in wrong)
        current.keep(current.state.with_failed(Problem(reason, tuple(check.name for check in wrong))))
        return current.told(f"What {chosen.attempt} gave is not good: {reason}", recovered=False)
    service_at = folder.now()
    if current.state.is_sandbox:
        begun, clients = service_at, current.folder.clients
        clients.direct(servers.restored(current.state, params), 1)
        taken = clients.wait_for(1, deadline_s=SWITCH_S)
        current.phase("switch", begun, msg="The first commit on the restored service was acknowledged.")
        service_at = datetime.fromtimestamp(taken.acknowledged_s, UTC)
    current.keep(replace(current.state, service_at=service_at))
    good = sum(1 for check in checks if check.status == Status.OK)
    told = f"{good} of {count(len(checks), 'check')} {agree(good, 'is', 'are')} ok."
    said = f"What {chosen.attempt} gave serves again: {told} {bad or unknown}"
    return current.told(said.rstrip(), recovered=True)


def look(current: drill.Drill, params: Mapping[str, Any]) -> tuple[list[Check], figures.Measured]:
    """Everything that is asked of the copy, and the figures."""
    state, copy = current.state, servers.restored(current.state, params)
    checks: list[Check] = []
    with servers.connect(copy) as session:
        asked, said, answered = copies.server_clock(session)
        checks.append(copy_checks.judge_clock(preflight.clock_skew_s(said, sent_at=asked, received_at=answered)))
        if state.live.columns:
            checks.append(copy_checks.judge_schema(state.live.columns, copies.columns(session)))
        measured = replace(state.measured, database_bytes=copies.sizes(session))
        replayed = copies.last_replayed(session)
        if replayed and state.chosen:
            # Until now it was known only when S3 took the last segment.
            current.keep(replace(state, chosen=replace(state.chosen, point=replayed)))
        try:
            rows = copies.heartbeats(session)
        except RunbookError as error:
            checks.append(Check("heartbeat", error.status, error.message))
            rows = {}
    if state.is_sandbox:
        check, measured = compare_ledger(current, rows, measured)
        checks.append(check)
    else:
        there = max(rows.values(), default=None)
        if there is not None and state.outage_at is not None:
            # Up to the outage, not to the live database's last heartbeat: where heartbeats ended, work went on.
            measured = replace(measured, rpo_s=max(0.0, round(state.outage_at.timestamp() - there / 1e6, 3)))

    def contents() -> Check | None:
        if state.chosen and state.chosen.way == "dump":
            return read_proof(state, params)
        if state.contents:
            return copy_checks.judge_contents(state.contents.tables, copies.contents(copy, state.contents.method))
        return None

    def integrity(check: Callable[[], None]) -> list[Check]:
        return copies.integrity_findings(copy, params["smoke_queries"], integrity_rules.judge_sequence, check)

    answers, compared = copies.side_by_side(integrity, contents)
    checks += [compared] if compared else []
    for kind in ("sequences", "foreign_keys", "indexes", "amcheck", "smoke"):
        if kind == "smoke" and not params["smoke_queries"]:
            continue
        checks.append(integrity_rules.sum_up(kind, answers))
    return checks, measured


def compare_ledger(
    current: drill.Drill, rows: Mapping[int, int], measured: figures.Measured
) -> tuple[Check, figures.Measured]:
    """Compare the copy with what clients were told; the figures too."""
    ledger = {each.id: each for each in current.folder.clients.acknowledged() if each.service == 0}
    lost = figures.loss({each.id: each.acknowledged_s for each in ledger.values()}, rows.keys())
    measured = replace(
        measured, acknowledged_rows=lost.acknowledged_rows, surviving_rows=lost.surviving_rows,
        lost_rows=lost.lost_rows, rpo_s=None if lost.rpo_s is None else round(lost.rpo_s, 3),
    )  # fmt: skip
    if lost.hole_rows:
        return Check.breach("ledger", lost.msg), measured
    altered = sum(1 for number, each in ledger.items() if number in rows and rows[number] != each.beat_us)
    return copy_checks.judge_altered(altered, lost.surviving_rows), measured


def read_proof(state: State, params: Mapping[str, Any]) -> Check:
    """What M(pg_restore) wrote down about its own comparison."""
    with servers.connect(servers.destination(state, params)) as session:
        row = session.query(
            "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = %s",
            (state.destination.database if state.destination else "",),
        )
    marker = Marker.read(row[0]["comment"]) if row else None
    if marker and marker.state == "proven":
        said = f"Every table was compared with the manifest, and proven at {to_second(marker.at)}."
        return Check.ok("contents", said)
    return Check.unknown("contents", "The restored database was not compared with its manifest.")


# --- files ------------------------------------------------------------------------------------------------------------


def compare_files(state: State, params: Mapping[str, Any]) -> tuple[list[Check], dict[str, Any]]:
    """Compare the restored rows of ``storage.objects`` with the second copy of the files, where that is asked.

    :return: the check, or none, and what the document says of files
    """
    wanted = params["files"]
    why = copy_checks.files_not_asked(wanted.get("bucket") or "", wanted.get("buckets") or [], state.live.columns)
    if why:
        return [], {"asked": False, "msg": why}
    counted: dict[str, Any] = {}
    try:
        found = count_differences(servers.restored(state, params), wanted)
        check, counted = copy_checks.judge_files(found), asdict(found)
    except RunbookError as error:
        check = Check.unknown("files", f"Files could not be compared: {error.message}")
    return [check], {"asked": True, "msg": check.msg} | counted


def count_differences(copy: postgres.Target, wanted: Mapping[str, Any]) -> copy_checks.Files:
    """What M(s3_mirror) compares of a source, of the restored database.

    :raises RunbookError: the copy or the rows cannot be read
    """
    store = s3.Store.from_params(wanted)
    found, named = Counter[str](), list[dict[str, str]]()
    with servers.connect(copy) as session:
        if not mirror.StorageRows(session, "").are_there():
            raise RunbookError("the restored database has no storage.objects.")
        unasked = mirror.StorageRows(session, "").buckets()
        for bucket in wanted["buckets"]:
            begins = f"{wanted['prefix']}{bucket}/{wanted['source_prefix']}"
            with contextlib.closing(mirror.Table()) as table:
                mirror.list_into(table, {"source": mirror.pages(store, begins)}, lambda _seen: None)
                mirror.store_rows(table, mirror.StorageRows(session, bucket).all(), wanted["source_prefix"])
                # A copy may have another ETag than its source; it says which one that had.
                doubts = [key for (key,) in table.rows(f"SELECT key {mirror.DIFFERING}")]
                mirror.look_again(table, doubts, functools.partial(mirror.original, store, begins))
                counted = mirror.differences(table)
                found.update(counted)
                unasked[bucket] = unasked.get(bucket, 0) - counted["rows"]
                for kind, key in mirror.differing_keys(table, mirror_rules.NAMED):
                    shown = mirror_rules.name_of(wanted["source_prefix"] + key, show=wanted["show_keys"])
                    named.append({"kind": kind, "name": f"{bucket}/{shown}"})
    return copy_checks.Files(
        rows=found["rows"], missing_rows=found["missing_rows"], orphan_objects=found["orphan_objects"],
        differing_rows=found["differing_rows"], unasked_rows={name: rows for name, rows in unasked.items() if rows},
        named=named,
    )  # fmt: skip


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="dr_drill_verify", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
