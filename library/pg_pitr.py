#!/usr/bin/python
"""Module pg_pitr: recovery to a point in time, by Barman's cloud programs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pitr
short_description: Archive WAL and base backups in S3, check them, and restore a server to a point in time
description:
  - Base backups and WAL are made, kept, found and brought back by Barman's cloud programs. This module sets PostgreSQL
    up for them, says what can be restored, and does a whole restore in one call.
  - Runs on the machine of the database server, as the user who owns the data folder, since the engine reads its files.
    V(check), V(retention) and V(restore) need S3 alone and run on any machine; V(check) then cannot say how the
    server's archiver does.
  - An archive is marked with the system identifier of its cluster. Another cluster is refused, because it would
    overwrite the WAL that is there.
options:
  action:
    description:
      - V(setup) sets C(archive_mode), C(archive_command), C(archive_timeout) and C(wal_level), and writes the file with
        the credentials. A second run changes nothing.
      - V(backup) makes a base backup. It refuses while archiving fails.
      - V(check) says what can be restored, and fails where a limit is broken or something could not be judged.
      - V(restore) restores into a folder of its own, starts the server there on loopback, and waits for the target.
      - V(discard) stops the server that V(restore) made and removes its folder.
      - V(retention) lets the engine delete what the recovery window does not need.
    type: str
    required: true
    choices: [setup, backup, check, restore, discard, retention]
  environment:
    description:
      - The environment of this run. The bucket must carry the tag C(runbook-environment) with the same value before
        anything is written to it.
    type: str
    required: true
  server:
    description:
      - Name of the archive in the bucket. One cluster, one name.
    type: str
    required: true
  prefix:
    description:
      - Folder in the bucket in which archives lie.
    type: str
    default: pitr
  state_dir:
    description:
      - Folder on this machine for the file with the credentials, which PostgreSQL's archiver reads. It must lie outside
        the data folder, because base backups hold all that lies inside. Needed by V(setup).
    type: path
  engine_bindir:
    description:
      - Folder of Barman's programs. Without it, that of the Python which runs this module.
    type: path
  bindir:
    description:
      - Folder of PostgreSQL's server programs, for V(restore). Without it, they are looked for.
    type: path
  system_identifier:
    description:
      - The cluster that is meant, as C(pg_control_system()) tells it. An archive of another one is refused.
    type: str
  archive_timeout_s:
    description:
      - A segment that is not full is archived after this number of seconds. So this is what a disaster may cost, and a
        little more.
    type: int
    default: 60
  allow_restart:
    description:
      - Whether V(setup) may restart the server with C(pg_ctl) where C(archive_mode) or C(wal_level) need it. Where
        systemd looks after the server, restart it there.
    type: bool
    default: false
  jobs:
    description:
      - Processes that upload a base backup.
    type: int
    default: 2
  deadline_s:
    description:
      - Longest time of one call, in seconds.
    type: int
    default: 3600
  switch_wal:
    description:
      - Prove with V(check) that WAL arrives, by a commit, the end of its segment, and a look at the bucket.
    type: bool
    default: false
  max_lag_s:
    description:
      - Longest time for which a segment may wait to be archived, in seconds. V(check) fails beyond it, and
        O(switch_wal) waits that long.
    type: int
    default: 60
  max_backup_age_s:
    description:
      - Oldest age of the newest base backup, in seconds. V(check) fails beyond it.
    type: int
    default: 93600
  recovery_window_days:
    description:
      - Every moment of this number of days can be restored. V(retention) keeps what that needs.
    type: int
    default: 30
  minimum_backups:
    description:
      - This number of base backups is always kept.
    type: int
    default: 2
  max_delete:
    description:
      - If V(retention) would delete more base backups than this, it deletes nothing and fails.
    type: int
    default: 10
  max_delete_percent:
    description:
      - Likewise, if it would delete a larger share of them than this.
    type: int
    default: 50
  restore_path:
    description:
      - Folder that a restore may have for itself. It must be missing or empty, or hold what an earlier restore left
        that did not end; that is removed first. The data folder is C(data) in it.
    type: path
  target_time:
    description:
      - Restore to this moment, in ISO 8601 with its offset.
      - PostgreSQL stops before the first commit that is later. Where no later commit is archived, the restore fails and
        names the last one; leave the target out to restore all that there is.
    type: str
  target_lsn:
    description:
      - Restore to this position in the WAL.
    type: str
  target_name:
    description:
      - Restore to this point, made with C(pg_create_restore_point()).
    type: str
  target_timeline:
    description:
      - Follow this timeline. Without it, the newest one.
    type: int
  target_action:
    description:
      - What to do at the target. V(promote) lets the server take writes; V(pause) leaves it readable, so that a later
        target can be chosen by hand.
    type: str
    choices: [promote, pause]
    default: promote
  backup_id:
    description:
      - Begin with this base backup. Without it, with the newest one that leads to the target.
    type: str
  port:
    description:
      - Port on loopback of the restored server. Without it, one that is free.
    type: int
  prefetch_segments:
    description:
      - Segments that one process of the engine fetches at once during the replay.
    type: int
    default: 32
  tablespaces:
    description:
      - For each tablespace of the server, the folder that its copy gets. A restore never takes the old place.
    type: dict
    default: {}
  settings:
    description:
      - Configuration parameters of the restored server, such as C(shared_buffers).
    type: dict
    default: {}
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
attributes:
  check_mode:
    description: Returns the same plan as the real run, and writes nothing; no segment is ended.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
requirements:
  - barman >= 3.19
  - lz4
  - zstandard
notes:
  - V(setup) and V(backup) need a superuser. V(restore) connects to the restored server with O(login_user),
    O(login_password) and O(login_db), which are those of the server that was backed up.
  - O(login_host) is not needed by V(restore), V(discard) and V(retention).
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Archive WAL within a minute
  pg_pitr:
    action: setup
    environment: production
    server: mental-scribe
    state_dir: /var/lib/postgresql/runbook-pitr
    bucket: mental-scribe-backups
    region: eu-central-1
    login_host: /var/run/postgresql
    login_user: postgres
    login_db: postgres

- name: Prove that archiving works
  pg_pitr:
    action: check
    switch_wal: true
    environment: production
    server: mental-scribe
    bucket: mental-scribe-backups
    region: eu-central-1
    login_host: /var/run/postgresql
    login_user: postgres
    login_db: postgres

- name: Restore to the minute before the mistake
  pg_pitr:
    action: restore
    target_time: "2026-11-23T14:29:00+00:00"
    restore_path: /srv/restore
    environment: production
    server: mental-scribe
    bucket: mental-scribe-backups
    region: eu-central-1
    login_user: postgres
    login_db: postgres
"""

RETURN = r"""
msg:
  description: What was done or found, in one sentence.
  returned: always
  type: str
  sample: Restored to 2026-11-23 14:28:57 UTC on port 5433 in 21.4 s, from base backup 20261123T030000.
status:
  description: V(ok), V(breach), or V(unknown) where something could not be judged.
  returned: always
  type: str
duration_s:
  description: Seconds in all.
  returned: always
  type: float
executed_queries:
  description: Statements that changed something on the server, or would in check mode.
  returned: always
  type: list
  elements: str
changes:
  description: Parameters that V(setup) sets, each with C(name), C(before) and C(after).
  returned: V(setup)
  type: list
  elements: dict
restart_required:
  description: Whether the server must restart before what V(setup) set takes effect.
  returned: V(setup)
  type: bool
backup_id:
  description: The base backup that was made, or that the restore begins with.
  returned: V(backup) and V(restore)
  type: str
size_bytes:
  description: Size of the base backup in the bucket.
  returned: V(backup)
  type: int
removed:
  description: Base backups that went, the rests of interrupted ones with V(backup), old ones with V(retention).
  returned: V(backup) and V(retention)
  type: list
  elements: str
findings:
  description: What V(check) looked at, each with C(name), C(status) and C(msg).
  returned: V(check)
  type: list
  elements: dict
windows:
  description: What can be restored, each with C(backup_id), C(start), C(end) and C(timeline).
  returned: V(check) and V(restore)
  type: list
  elements: dict
oldest_restorable:
  description: The oldest moment that can be restored; null where nothing can.
  returned: V(check)
  type: str
newest_restorable:
  description: When the newest segment that a restore reaches was archived; null where nothing can be restored.
  returned: V(check)
  type: str
newest_wal:
  description: File name of that segment.
  returned: V(check)
  type: str
newest_wal_age_s:
  description: Seconds since then. An idle server archives nothing, so an old segment alone is no fault.
  returned: V(check)
  type: float
backup_age_s:
  description: Age of the newest base backup.
  returned: V(check)
  type: float
gaps:
  description: Missing segments, each with the first and the last file name.
  returned: V(check)
  type: list
  elements: list
ready_segments:
  description: Segments that wait on the server to be archived.
  returned: V(check)
  type: int
oldest_ready_s:
  description: Seconds that the oldest of them has waited.
  returned: V(check)
  type: float
archive_proof_s:
  description: Seconds from the end of a segment to its arrival in the bucket, with O(switch_wal).
  returned: V(check)
  type: float
data_dir:
  description: The new data folder.
  returned: V(restore)
  type: str
port:
  description: Port of the restored server on 127.0.0.1.
  returned: V(restore)
  type: int
recovery_point:
  description: Time of the last commit that was replayed; null where there was none.
  returned: V(restore)
  type: str
recovery_lsn:
  description: Position up to which WAL was replayed.
  returned: V(restore)
  type: str
timeline:
  description: Timeline of the restored server.
  returned: V(restore)
  type: int
fetch_s:
  description: Seconds that the base backup took.
  returned: V(restore)
  type: float
replay_s:
  description: Seconds from the start of the server to the end of its recovery.
  returned: V(restore)
  type: float
"""

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import pitr as driver
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.drivers.s3 import s3
from ansible.module_utils.runbook.drivers.sandbox.sandbox import choose_port
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import words
from ansible.module_utils.runbook.rules.backup import pitr as rules
from ansible.module_utils.runbook.rules.backup.tool_warnings import said_warnings
from ansible.module_utils.runbook.rules.text import as_lines
from ansible.module_utils.runbook.rules.words import agree, count

#: Options whose value must lie between two bounds.
BOUNDS = {
    "archive_timeout_s": (1, 86_400),
    "jobs": (1, 32),
    "deadline_s": (10, 604_800),
    "max_lag_s": (1, 86_400),
    "max_backup_age_s": (60, 31_536_000),
    "recovery_window_days": (1, 3_650),
    "minimum_backups": (1, 1_000),
    "max_delete": (0, 1_000_000),
    "max_delete_percent": (0, 100),
    "prefetch_segments": (1, 256),
}
#: How often a recovery is begun anew where S3 failed while it fetched WAL.
ATTEMPTS = 3


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    own: dict[str, dict[str, Any]] = {
        "action": {
            "type": "str", "required": True,
            "choices": ["setup", "backup", "check", "restore", "discard", "retention"],
        },
        "environment": {"type": "str", "required": True},
        "server": {"type": "str", "required": True},
        "prefix": {"type": "str", "default": "pitr"},
        "state_dir": {"type": "path"},
        "engine_bindir": {"type": "path"},
        "bindir": {"type": "path"},
        "system_identifier": {"type": "str"},
        "archive_timeout_s": {"type": "int", "default": 60},
        "allow_restart": {"type": "bool", "default": False},
        "jobs": {"type": "int", "default": 2},
        "deadline_s": {"type": "int", "default": 3600},
        "switch_wal": {"type": "bool", "default": False},
        "max_lag_s": {"type": "int", "default": 60},
        "max_backup_age_s": {"type": "int", "default": 93600},
        "recovery_window_days": {"type": "int", "default": 30},
        "minimum_backups": {"type": "int", "default": 2},
        "max_delete": {"type": "int", "default": 10},
        "max_delete_percent": {"type": "int", "default": 50},
        "restore_path": {"type": "path"},
        "target_time": {"type": "str"},
        "target_lsn": {"type": "str"},
        "target_name": {"type": "str"},
        "target_timeline": {"type": "int"},
        "target_action": {"type": "str", "choices": ["promote", "pause"], "default": "promote"},
        "backup_id": {"type": "str"},
        "port": {"type": "int"},
        "prefetch_segments": {"type": "int", "default": 32},
        "tablespaces": {"type": "dict", "default": {}},
        "settings": {"type": "dict", "default": {}},
    }  # fmt: skip
    return postgres.argument_spec() | s3.argument_spec() | own


def connect(context: Context) -> postgres.Session:
    """A session with the server whose WAL is archived."""
    return postgres.Session(
        postgres.Target.from_params(context.params),
        lock_timeout_ms=5_000,
        statement_timeout_ms=60_000,
        purpose="pg_pitr",
    )


def make_engine(context: Context) -> driver.Engine:
    """The engine, as the options say."""
    params = context.params

    def heard(program: str, said: str) -> None:
        for warning in said_warnings(said):
            context.warn(f"{program}: {warning}")

    return driver.Engine(
        programs=driver.programs_folder(params["engine_bindir"]),
        store=s3.Store.from_params(params),
        prefix=rules.check_prefix(params["prefix"]),
        server=rules.check_name(params["server"], "server"),
        state=Path(params["restore_path" if params["action"] == "restore" else "state_dir"] or "").resolve(),
        params=params,
        heard=heard,
    )


def require_identity(engine: driver.Engine, wanted: str | None) -> str:
    """The cluster whose archive this is.

    :raises RunbookError: the archive is not set up, or belongs to another cluster than ``wanted``
    """
    marked = engine.identity()
    if marked is None:
        raise RunbookError(
            f"server: there is no archive {engine.store.url(engine.root)}; run the setup, or correct server."
        )
    if wanted:
        rules.check_identity(marked, wanted, where=engine.store.url(engine.root), occupied=True)
    return marked


def read_archive(engine: driver.Engine, segment_bytes: int = rules.DEFAULT_SEGMENT_BYTES) -> rules.Archive:
    """Everything that lies in the bucket, as far as rules need it."""
    return rules.gather(engine.backups(), engine.wal_objects(), engine.history, segment_bytes)


def require_server(session: postgres.Session, engine: driver.Engine) -> dict[str, Any]:
    """Facts of the server, once it is sure that its files lie on this machine and that it may be worked on."""
    facts = driver.read_server(session)
    if facts["in_recovery"]:
        raise RunbookError("login_host: this server is a standby; name the primary.")
    if not facts["superuser"]:
        raise RunbookError(f"login_user: {session.target.user!r} is no superuser; setup and backup need one.")
    data = Path(facts["data_directory"])
    if engine.state == data or data in engine.state.parents:
        raise RunbookError(
            f"state_dir: {engine.state} lies in the data folder {data}, and base backups would hold the keys; name a "
            "folder outside."
        )
    found = driver.control_data(Path(facts["bindir"]), data) if (data / "PG_VERSION").exists() else {}
    if found.get("Database system identifier") != facts["system_identifier"]:
        raise RunbookError(
            f"login_host: the data folder {data} of that server is not on this machine, where the engine must read it; "
            "run this task on the server's machine."
        )
    return facts


# --- setup ------------------------------------------------------------------------------------------------------------


def setup(context: Context, engine: driver.Engine) -> dict[str, Any]:
    """Let the server archive its WAL."""
    params = context.params
    if not params["state_dir"]:
        raise RunbookError("state_dir: it is empty; name the folder for the file with the credentials.")
    with connect(context) as session:
        facts = require_server(session, engine)
        data = Path(facts["data_directory"])
        permits.require_bucket(context.run, engine.store, params["environment"])
        unmarked = rules.check_identity(
            engine.identity(),
            facts["system_identifier"],
            where=engine.store.url(engine.root),
            occupied=engine.occupied(),
        )
        if not unmarked:
            current = rules.parse_segment(facts["segment"], facts["segment_bytes"]) or rules.Segment(1, 0)
            own = engine.own_history(data, current.timeline)
            archive = read_archive(engine, facts["segment_bytes"])
            rules.check_timeline(archive, current, rules.parse_history(own) if own else None)
        command = rules.shell_line(engine.environ(), engine.archive_words(), placeholders=["%p"])
        plan = rules.plan_setup(driver.read_settings(session), command, params["archive_timeout_s"])
        credentials = engine.credentials_differ()
        changed = bool(plan.changes or unmarked or credentials or (plan.restart_for and params["allow_restart"]))
        if not context.check_mode:
            if credentials:
                engine.write_credentials(data)
            if unmarked:
                engine.mark(facts["system_identifier"])
            for change in plan.changes:
                driver.set_parameter(session, change.name, change.after)
            if plan.changes:
                driver.reload(session)
        else:
            session.executed_queries += [
                f"ALTER SYSTEM SET {change.name} = '{change.after}'" for change in plan.changes
            ]
    restart_required = bool(plan.restart_for)
    if restart_required and params["allow_restart"] and not context.check_mode:
        beside = data.parent / "server.log"
        log = beside if beside.exists() else engine.state / "server.log"
        driver.restart(Path(facts["bindir"]), data, log, deadline_s=min(params["deadline_s"], 300))
        restart_required = False
    would = "Would archive" if context.check_mode else "Archives"
    said = f"{would} WAL of cluster {facts['system_identifier']} to {engine.store.url(engine.root)}"
    if not changed and not restart_required:
        said = f"WAL of cluster {facts['system_identifier']} is archived to {engine.store.url(engine.root)}"
    waiting = restart_required and not params["allow_restart"]
    if waiting:
        said += f", once the server was restarted for {' and '.join(plan.restart_for)}"
    return {
        "changed": changed,
        "status": "unknown" if waiting else "ok",
        "msg": f"{said}.",
        "changes": [{"name": each.name, "before": each.before, "after": each.after} for each in plan.changes],
        "restart_required": restart_required,
        "executed_queries": session.executed_queries,
    }


# --- backup and retention ---------------------------------------------------------------------------------------------


def backup(context: Context, engine: driver.Engine) -> dict[str, Any]:
    """Make a base backup."""
    params = context.params
    with connect(context) as session:
        facts = require_server(session, engine)
        permits.require_bucket(context.run, engine.store, params["environment"])
        require_identity(engine, facts["system_identifier"])
        archiver = driver.read_archiver(session)
        options = session.tool_options(search_path="pg_catalog")
    if not archiver.archives or archiver.failing():
        found = rules.judge_archiver(archiver, limits(params))
        raise RunbookError(f"A base backup needs the WAL that is written meanwhile. {found.msg}")
    listed = engine.backups()
    left = [str(each["backup_id"]) for each in listed if not rules.parse_backup(each)]
    if context.check_mode:
        return {
            "changed": True, "status": "ok", "backup_id": None, "size_bytes": None, "removed": left,
            "msg": f"Would make a base backup of {facts['system_identifier']} in {engine.store.url(engine.root)}.",
        }  # fmt: skip
    begun = time.monotonic()
    engine.make_backup(
        postgres.Target.from_params(params), options, jobs=params["jobs"], deadline_s=params["deadline_s"]
    )
    took_s = time.monotonic() - begun
    before = {str(each["backup_id"]) for each in listed}
    made = [backup for backup in map(rules.parse_backup, engine.backups()) if backup and backup.backup_id not in before]
    if not made:
        raise RunbookError(
            "The engine said that it made a base backup, and lists none; look at the bucket.", status="unknown"
        )
    for backup_id in left:
        engine.delete_backup(backup_id)
    newest = made[-1]
    size = engine.stored_bytes(newest.backup_id)
    also = f" Removed {len(left)} that had been interrupted." if left else ""
    return {
        "changed": True, "status": "ok", "backup_id": newest.backup_id, "size_bytes": size, "removed": left,
        "msg": f"Made base backup {newest.backup_id}, {words.size(size)} in {took_s:.1f} s.{also}",
    }  # fmt: skip


def retention(context: Context, engine: driver.Engine) -> dict[str, Any]:
    """Delete what the recovery window does not need."""
    params = context.params
    permits.require_bucket(context.run, engine.store, params["environment"])
    require_identity(engine, params["system_identifier"])
    before = [str(each["backup_id"]) for each in engine.backups()]
    begun = time.monotonic()

    def expire(*, dry_run: bool) -> str:
        return engine.expire(
            window_days=params["recovery_window_days"], minimum=params["minimum_backups"], dry_run=dry_run,
            deadline_s=max(1.0, params["deadline_s"] - (time.monotonic() - begun)),
        )  # fmt: skip

    gone = rules.expired(expire(dry_run=True), before)
    rules.check_removal(gone, before, max_delete=params["max_delete"], max_delete_percent=params["max_delete_percent"])
    if gone and not context.check_mode:
        expire(dry_run=False)
        gone = sorted(set(before) - {str(each["backup_id"]) for each in engine.backups()})
    kept = len(before) - len(gone)
    did = "Would delete" if context.check_mode else "Deleted"
    return {
        "changed": bool(gone), "status": "ok", "removed": gone,
        "msg": f"{did} {count(len(gone), 'base backup')} and the WAL before them; {kept} "
        f"{agree(kept, 'remains', 'remain')} for the window of "
        f"{count(params['recovery_window_days'], 'day')}.",
    }  # fmt: skip


# --- check ------------------------------------------------------------------------------------------------------------


def limits(params: dict[str, Any]) -> rules.Limits:
    """What the operator demands."""
    return rules.Limits(params["max_lag_s"], params["max_backup_age_s"], params["recovery_window_days"])


def prove(session: postgres.Session, engine: driver.Engine, limit_s: int) -> tuple[rules.Finding, float | None]:
    """End a segment and wait for it in the bucket."""

    def is_there(name: str) -> bool:
        # A label of a backup, or a partial segment, begins with a segment's name.
        there = engine.store.entries(f"{engine.root}wals/{name[:16]}/{name}")
        return any(rules.plain_name(entry.key) == name for entry in there)

    ended = driver.archive_until_now(session, wait_s=limit_s, arrived=is_there)
    if ended.archived_s is None:
        said = f"Segment {ended.segment} did not arrive within {limit_s} s (max_lag_s); the server's log says why."
        return rules.Finding("proof", "breach", said), None
    said = f"Segment {ended.segment} arrived after {ended.archived_s:.1f} s."
    return rules.Finding("proof", "ok", said), ended.archived_s


def check(context: Context, engine: driver.Engine) -> dict[str, Any]:
    """Say what can be restored and how archiving does."""
    params = context.params
    findings: list[rules.Finding] = []
    figures: dict[str, Any] = {
        "changed": False, "windows": [], "oldest_restorable": None, "newest_restorable": None, "newest_wal": None,
        "newest_wal_age_s": None, "backup_age_s": None, "gaps": [], "ready_segments": None, "oldest_ready_s": None,
        "archive_proof_s": None, "executed_queries": [],
    }  # fmt: skip
    identifier, facts = params["system_identifier"], {}
    try:
        with connect(context) as session:
            facts = driver.read_server(session)
            identifier = facts["system_identifier"]
            # Nobody would come for the segment: that is said at once, and not after max_lag_s.
            if params["switch_wal"] and not context.check_mode and driver.read_archiver(session).archives:
                if facts["in_recovery"]:
                    raise RunbookError("switch_wal: this server is a standby; name the primary.")
                findings.append(_proof(session, engine, params, figures))
            archiver = driver.read_archiver(session)
            findings.append(rules.judge_archiver(archiver, limits(params)))
            figures |= {"ready_segments": archiver.ready_segments, "oldest_ready_s": round(archiver.oldest_ready_s, 1)}
            figures["executed_queries"] = session.executed_queries
    except RunbookError as error:
        findings.append(rules.Finding("archiver", "unknown", error.message))
    try:
        require_identity(engine, identifier)
        archive = read_archive(engine)
        if facts.get("segment"):
            findings.append(rules.judge_timeline(archive, int(facts["segment"][:8], 16)))
        now = datetime.now(UTC)
        findings += rules.judge_archive(archive, limits(params), now)
        figures |= describe(archive, now)
    except RunbookError as error:
        findings.append(rules.Finding("archive", "breach" if engine_says_no(error) else "unknown", error.message))
    status = rules.worst(findings)
    figures |= {"status": status, "findings": [vars(each) for each in findings]}
    said = " ".join(each.msg for each in findings if each.status != "ok" or status == "ok")
    if status != "ok":
        raise RunbookError(said, **figures)
    return figures | {"msg": said}


def engine_says_no(error: RunbookError) -> bool:
    """Whether the archive was looked at, and is not what it should be; S3 that gives no answer proves nothing."""
    return error.message.startswith("server:")


def _proof(
    session: postgres.Session, engine: driver.Engine, params: dict[str, Any], figures: dict[str, Any]
) -> rules.Finding:
    try:
        finding, figures["archive_proof_s"] = prove(session, engine, params["max_lag_s"])
    except RunbookError as error:
        return rules.Finding("proof", "unknown", error.message)
    return finding


def describe(archive: rules.Archive, now: datetime) -> dict[str, Any]:
    """Figures of an archive."""
    found = rules.windows(archive)
    figures: dict[str, Any] = {"windows": [each.describe() for each in found]}
    if found:
        newest = max(found, key=lambda each: each.end)
        figures |= {
            "oldest_restorable": min(each.start for each in found).isoformat(),
            "newest_restorable": newest.end.isoformat(),
            "newest_wal": rules.Segment(newest.timeline, newest.last).file(archive.segment_bytes),
            "newest_wal_age_s": round((now - newest.end).total_seconds(), 1),
            "backup_age_s": round((now - found[-1].backup.ended_at).total_seconds(), 1),
            "gaps": sorted({gap for each in found for gap in each.gaps}),
        }
    return figures


# --- restore ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What is to be restored, and where."""

    target: rules.Target
    window: rules.Window
    archive: rules.Archive
    workshop: driver.Workshop
    bindir: Path
    port: int


def require_path(params: dict[str, Any]) -> driver.Workshop:
    """The restore's folder.

    :raises RunbookError: it is not named
    """
    if not params["restore_path"]:
        raise RunbookError("restore_path: it is empty; name the folder that the restore may have for itself.")
    return driver.Workshop(Path(params["restore_path"]).resolve())


def prepare(context: Context, engine: driver.Engine) -> Job:
    """Find the way to the target, and refuse what must be refused, before anything is written."""
    params = context.params
    workshop = require_path(params)
    if not params["login_user"] or not params["login_db"]:
        raise RunbookError(
            "login_user and login_db: they are needed to ask the restored server how far it is; set both."
        )
    target = rules.parse_target(params["target_time"], params["target_lsn"], params["target_name"])
    foreign = workshop.foreign()
    if foreign:
        raise RunbookError(
            f"restore_path: {workshop.path} holds {', '.join(foreign[:3])}, which no restore of this project put "
            "there; name a folder that is missing or empty."
        )
    if workshop.state().get("state") == "done":
        raise RunbookError(
            f"restore_path: {workshop.path} holds a server that was restored, and a restore never overwrites one; "
            "remove it with action discard, or name another folder."
        )
    require_identity(engine, params["system_identifier"])
    archive = read_archive(engine)
    window = rules.choose(archive, target, timeline=params["target_timeline"], backup_id=params["backup_id"])
    unmapped = [name for name, _ in window.backup.tablespaces if name not in params["tablespaces"]]
    if unmapped:
        raise RunbookError(
            f"tablespaces: the backup has {', '.join(unmapped)}; give each a new folder, because its old one may be in "
            "use."
        )
    bindir = find_bindir(params["bindir"])
    wanted, found = window.backup.server_version_num // 10_000, driver.major_version(bindir)
    if wanted and wanted != found:
        raise RunbookError(
            f"bindir: the backup is of PostgreSQL {wanted}, and {bindir} holds {found}; name the programs of {wanted}."
        )
    least, free = engine.stored_bytes(window.backup.backup_id), workshop.free_bytes()
    if free < least:
        raise RunbookError(
            f"restore_path: {free:,} bytes are free there, and the base backup has {least:,} before it is unpacked; "
            "make room, or name a folder on another disk."
        )
    return Job(target, window, archive, workshop, bindir, choose_port(params["port"], None))


def recovery_settings(context: Context, engine: driver.Engine, job: Job) -> dict[str, str]:
    """Parameters of the server that recovers."""
    params, target = context.params, job.target
    line = rules.shell_line(
        engine.environ(),
        driver.restore_words(engine, job.workshop, params["prefetch_segments"]),
        placeholders=["%f", "%p"],
    )
    chosen = {
        "port": str(job.port),
        "listen_addresses": "127.0.0.1",
        # Archives nothing, and keeps its WAL: if this server is to take over, the setup lets it out, none missing.
        "archive_mode": "on",
        "archive_command": "",
        "hot_standby": "on",
        "restore_command": driver.restore_command(
            job.workshop, line, [f"{each:08X}.history" for each in sorted(job.archive.histories)]
        ),
        "recovery_target_timeline": str(params["target_timeline"] or "latest"),
        "recovery_target_action": params["target_action"],
    }
    if target.time:
        chosen["recovery_target_time"] = target.time.isoformat()
    elif target.lsn is not None:
        chosen["recovery_target_lsn"] = f"{target.lsn >> 32:X}/{target.lsn & 0xFFFFFFFF:X}"
    elif target.name:
        chosen["recovery_target_name"] = target.name
    return chosen | {name: str(value) for name, value in params["settings"].items()}


def restore(context: Context, engine: driver.Engine) -> dict[str, Any]:
    """Restore a server to the target, in a folder of its own."""
    params = context.params
    begun = time.monotonic()
    job = prepare(context, engine)
    facts: dict[str, Any] = {
        "backup_id": job.window.backup.backup_id, "windows": [job.window.describe()], "port": job.port,
        "data_dir": str(job.workshop.data),
    }  # fmt: skip
    if context.check_mode:
        nothing = dict.fromkeys(("recovery_point", "recovery_lsn", "timeline", "fetch_s", "replay_s"))
        return facts | nothing | {
            "changed": True, "status": "ok",
            "msg": f"Would restore to {job.target} in {job.workshop.data}, from {job.window.backup.backup_id}.",
        }  # fmt: skip
    with job.workshop.mine():
        if job.workshop.clear():
            context.warn(f"restore_path: removed what an interrupted restore had left in {job.workshop.path}.")
        job.workshop.write(state="restoring", backup_id=job.window.backup.backup_id, target=str(job.target))
        cluster = Cluster(job.bindir, job.workshop.data, job.port, params["login_user"])
        try:
            reached, fetch_s, replay_s = recover(context, engine, job, cluster, begun + params["deadline_s"])
        except BaseException:
            # The next run removes the rest; the log is kept until then.
            if cluster.is_running():
                cluster.stop("immediate")
            raise
        if not reached.paused:
            # Nothing is fetched any more; a paused server still may.
            shutil.rmtree(job.workshop.spool, ignore_errors=True)
            engine.credentials.unlink(missing_ok=True)
        job.workshop.write(state="done", backup_id=job.window.backup.backup_id, target=str(job.target), port=job.port)
    at = reached.last_commit_at
    point = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "the end of the base backup"
    return facts | {
        "changed": True, "status": "ok",
        "msg": f"Restored to {point} on port {job.port} in {time.monotonic() - begun:.1f} s, from base backup "
        f"{job.window.backup.backup_id}{'; paused there' if reached.paused else ''}.",
        "recovery_point": at.isoformat() if at else None, "recovery_lsn": reached.lsn, "timeline": reached.timeline,
        "fetch_s": round(fetch_s, 3), "replay_s": round(replay_s, 3),
    }  # fmt: skip


def recover(
    context: Context, engine: driver.Engine, job: Job, cluster: Cluster, deadline: float
) -> tuple[driver.Reached, float, float]:
    """Bring the base backup, replay WAL up to the target; where it stands, seconds of both."""
    params = context.params
    engine.write_credentials()
    begun = time.monotonic()
    driver.fetch_backup(
        engine,
        job.workshop,
        job.bindir,
        job.window.backup.backup_id,
        params["tablespaces"],
        deadline_s=deadline - begun,
    )
    fetched = time.monotonic()
    control = driver.control_data(job.bindir, job.workshop.data)
    driver.configure(job.workshop, control, recovery_settings(context, engine, job))
    login = {
        "login_host": "127.0.0.1", "login_port": job.port, "ssl_mode": "prefer", "ca_cert": None,
        **{name: params[name] for name in ("login_user", "login_password", "login_db")},
    }  # fmt: skip
    target = postgres.Target.from_params(login)
    first, last = job.window.backup.begin_lsn // job.archive.segment_bytes, job.window.last

    def report(seen: driver.Reached) -> None:
        if seen.lsn:
            done = rules.parse_lsn(seen.lsn) // job.archive.segment_bytes - first
            context.progress.update("replay WAL", max(done, 0), max(last - first + 1, done), "segments")

    for attempt in range(1, ATTEMPTS + 1):
        try:
            driver.start(cluster, deadline_s=deadline - time.monotonic())
            reached = driver.wait(cluster, target, deadline=deadline, report=report)
            break
        except RunbookError as error:
            why = driver.fatal_line(job.workshop)
            fetching = "could not restore file" in why or "has wrong size" in why
            if cluster.is_running() or not fetching or attempt == ATTEMPTS:
                raise RunbookError(unreached(job, error, why, driver.last_commit(job.workshop))) from None
            driver.start_over(job.workshop)
    context.progress.update("replay WAL", last - first + 1, last - first + 1, "segments", final=True)
    if reached.system_identifier != job.window.backup.system_identifier:
        raise RunbookError(
            "What was restored is another cluster than the base backup's; do not use it.", status="unknown"
        )
    whole = job.target == rules.Target()
    if whole and reached.lsn and (rules.parse_lsn(reached.lsn) - 1) // job.archive.segment_bytes < last:
        raise RunbookError(
            f"The recovery ended at {reached.lsn}, and the archive reaches to "
            f"{rules.Segment(job.window.timeline, last).file(job.archive.segment_bytes)}: the WAL after that position "
            "is damaged. What was restored is not all there is; restore to a target_time before it, if that will do."
        )
    return reached, fetched - begun, time.monotonic() - fetched


def unreached(job: Job, error: RunbookError, why: str, last_commit: datetime | None) -> str:
    """One sentence for a recovery that did not get to its target."""
    log = job.workshop.path / "server.log"
    if "recovery ended before configured recovery target was reached" in why:
        at = (
            f"the last commit that could be replayed is of {last_commit:%Y-%m-%d %H:%M:%S.%f} UTC"
            if last_commit
            else "no commit could be replayed"
        )
        return (
            f"The target, {job.target}, was not reached: {at}. Either nothing later was archived, or the WAL after it "
            f"is damaged; restore without a target to get all there is. See {log}."
        )
    if "does not start" in error.message or "ended during" in error.message:
        return f"The restored server ended: {why}; see {log}."
    return f"{error.message} See {log}."


def discard(context: Context) -> dict[str, Any]:
    """Remove a server that was restored."""
    workshop = require_path(context.params)
    foreign = workshop.foreign()
    if foreign:
        raise RunbookError(
            f"restore_path: {workshop.path} holds {foreign[0]}, which no restore of this project put there."
        )
    if not workshop.state():
        return {"changed": False, "status": "ok", "msg": f"There is no restored server in {workshop.path}."}
    if context.check_mode:
        return {"changed": True, "status": "ok", "msg": f"Would remove the restored server in {workshop.path}."}
    with workshop.mine():
        workshop.clear()
    shutil.rmtree(workshop.path, ignore_errors=True)
    return {"changed": True, "status": "ok", "msg": f"Removed the restored server in {workshop.path}."}


def core(context: Context) -> dict[str, Any]:
    """Do what ``action`` says."""
    params = context.params
    context.require_bounds(BOUNDS)
    if params["action"] != "check" or params["switch_wal"]:
        permits.require_environment(context.run, params["environment"])
    begun = time.monotonic()
    acts = {"setup": setup, "backup": backup, "check": check, "restore": restore, "retention": retention}
    result = (
        discard(context) if params["action"] == "discard" else acts[params["action"]](context, make_engine(context))
    )
    if context.diff:
        result["diff"] = {"prepared": as_lines([result["msg"]])}
    return {"executed_queries": []} | result | {"duration_s": round(time.monotonic() - begun, 3)}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_pitr", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
