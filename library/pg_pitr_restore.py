#!/usr/bin/python
"""Module pg_pitr_restore: restore a server to a point in time, in a folder of its own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pitr_restore
short_description: Restore a server to a point in time in a directory of its own
description:
  - Downloads a base backup from S3 into a directory of its own, starts a server on it on loopback, replays WAL, and
    waits for the recovery target. Does not need or change the server that was backed up.
  - Runs on any host that has the server programs of that PostgreSQL version. M(pg_pitr_discard) removes the restored
    server.
options:
  restore_path:
    description:
      - Directory for the restore. It must not exist, or be empty, or hold an unfinished restore, which is deleted
        first. The data directory is C(data) in it.
    type: path
    required: true
  target_time:
    description:
      - Point in time to restore to (C(recovery_target_time)), in ISO 8601 with its UTC offset.
      - PostgreSQL stops before the first later commit. If no later commit is archived, the restore fails and names the
        last one. Without a target, all archived WAL is replayed.
    type: str
  target_lsn:
    description:
      - WAL location to restore to (C(recovery_target_lsn)).
    type: str
  target_name:
    description:
      - Restore point to restore to (C(recovery_target_name)), created with C(pg_create_restore_point()).
    type: str
  target_timeline:
    description:
      - Timeline to follow (C(recovery_target_timeline)). Defaults to the newest one.
    type: int
  target_action:
    description:
      - Action at the target (C(recovery_target_action)). V(promote) makes the server writable. V(pause) leaves it in
        recovery, readable, so that a later target can be chosen by hand.
    type: str
    choices: [promote, pause]
    default: promote
  backup_id:
    description:
      - Base backup to start from. Defaults to the newest one from which the target can be reached.
    type: str
  port:
    description:
      - Port of the restored server on loopback. Defaults to a free one.
    type: int
  prefetch_segments:
    description:
      - Number of WAL segments that Barman fetches at once during recovery.
    type: int
    default: 32
  tablespaces:
    description:
      - Directory for each tablespace of the server, by its name. The original location is never used.
    type: dict
    default: {}
  settings:
    description:
      - Configuration parameters of the restored server, such as C(shared_buffers).
    type: dict
    default: {}
  deadline_s:
    description:
      - Time limit for the restore, in seconds.
    type: int
    default: 3600
  bindir:
    description:
      - Directory of the PostgreSQL server programs. Searched for if unset.
    type: path
  login_user:
    description:
      - User for connections to the restored server. It must exist in the server that was backed up.
    type: str
    required: true
  login_password:
    description:
      - Password of O(login_user). Keep it in Ansible Vault.
    type: str
  login_db:
    description:
      - Database to connect to on the restored server.
    type: str
    required: true
extends_documentation_fragment:
  - runbook_s3
  - runbook_pitr
attributes:
  check_mode:
    description: Returns the plan of the real run. Writes nothing.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Restore to the minute before the mistake was made
  pg_pitr_restore:
    target_time: "2026-11-23T14:29:00+00:00"
    restore_path: /srv/restore
    environment: production
    server: mental-scribe
    bucket: mental-scribe-backups
    region: eu-central-1
    login_user: postgres
    login_password: "{{ db_login_password }}"
    login_db: postgres
"""

RETURN = r"""
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Restored to 2026-11-23 14:28:57 UTC on port 5433 in 21.4 s, from base backup 20261123T030000.
status:
  description: V(ok), V(breach) if it was refused or failed, or V(unknown).
  returned: always
  type: str
duration_s:
  description: Duration in seconds.
  returned: success
  type: float
backup_id:
  description: ID of the base backup that was restored.
  returned: success
  type: str
windows:
  description: Recovery window of that base backup, with C(backup_id), C(start), C(end) and C(timeline).
  returned: success
  type: list
  elements: dict
data_dir:
  description: The new data directory.
  returned: success
  type: str
port:
  description: Port of the restored server on 127.0.0.1.
  returned: success
  type: int
recovery_point:
  description: Time of the last replayed commit; null if there was none, and in check mode.
  returned: success
  type: str
recovery_lsn:
  description: WAL location up to which WAL was replayed; null in check mode.
  returned: success
  type: str
timeline:
  description: Timeline of the restored server; null in check mode.
  returned: success
  type: int
fetch_s:
  description: Seconds to download the base backup; null in check mode.
  returned: success
  type: float
replay_s:
  description: Seconds from the start of the server to the end of its recovery; null in check mode.
  returned: success
  type: float
"""

import shutil
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import barman, restored_server
from ansible.module_utils.runbook.drivers.clock import Clock
from ansible.module_utils.runbook.drivers.postgres import pgtools, postgres
from ansible.module_utils.runbook.drivers.postgres.pgtools import Cluster, find_bindir
from ansible.module_utils.runbook.drivers.sandbox.sandbox import choose_port
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import archiving, pitr_setup, recovery, wal_archive
from ansible.module_utils.runbook.rules.backup.tool_warnings import passed_on
from ansible.module_utils.runbook.rules.text import as_lines

#: Options whose value must lie between two bounds.
BOUNDS = {"deadline_s": (10, 604_800), "prefetch_segments": (1, 256)}
#: How often a recovery is started over where S3 failed while it fetched WAL.
ATTEMPTS = 3


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return barman.argument_spec() | {
        "restore_path": {"type": "path", "required": True},
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
        "deadline_s": {"type": "int", "default": 3600},
        "bindir": {"type": "path"},
        "login_user": {"type": "str", "required": True},
        "login_password": {"type": "str", "no_log": True},
        "login_db": {"type": "str", "required": True},
    }


@dataclass(frozen=True)
class Job:
    """What is to be restored, and where."""

    target: recovery.Target
    window: wal_archive.Window
    archive: wal_archive.Archive
    restore_dir: restored_server.RestoreDir
    cluster: Cluster
    login: postgres.Target

    @property
    def first(self) -> int:
        """Number of the first segment that is needed."""
        return self.window.backup.begin_lsn // self.archive.segment_bytes

    @property
    def segments(self) -> int:
        """How many segments there are to replay."""
        return self.window.last - self.first + 1


@dataclass(frozen=True)
class Recovered:
    """Where the recovery ended, and the seconds for the base backup and for the replay."""

    reached: restored_server.Reached
    fetch_s: float
    replay_s: float

    def describe(self) -> dict[str, Any]:
        """As the result shows it."""
        at = self.reached.last_commit_at
        return {
            "recovery_point": at.isoformat() if at else None, "recovery_lsn": self.reached.lsn,
            "timeline": self.reached.timeline, "fetch_s": round(self.fetch_s, 3), "replay_s": round(self.replay_s, 3),
        }  # fmt: skip

    @property
    def point(self) -> str:
        """Where it ended, for people."""
        at = self.reached.last_commit_at
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "the end of the base backup"


def prepare(params: dict[str, Any], engine: barman.Engine, restore_dir: restored_server.RestoreDir) -> Job:
    """Find the way to the target, and refuse what must be refused, before anything is written."""
    if not params["login_user"] or not params["login_db"]:
        raise RunbookError(
            "login_user and login_db: they are needed to ask the restored server how far it is; set both."
        )
    target = recovery.parse_target(params["target_time"], params["target_lsn"], params["target_name"])
    recovery.refuse_foreign(str(restore_dir.path), restore_dir.foreign())
    recovery.refuse_done(str(restore_dir.path), str(restore_dir.state().get("state", "")))
    archiving.require_owner(engine.identity(), params["system_identifier"], where=engine.where)
    archive = wal_archive.gather(engine.backups(), engine.wal_objects(), engine.history)
    window = recovery.choose(archive, target, timeline=params["target_timeline"], backup_id=params["backup_id"])
    bindir = find_bindir(params["bindir"])
    recovery.check_copy(
        window, tablespaces=params["tablespaces"], bindir=str(bindir), found_major=pgtools.major_version(bindir)
    )
    recovery.check_room(
        free_bytes=restore_dir.free_bytes(), least_bytes=engine.stored_bytes(window.backup.backup_id)
    )  # fmt: skip
    port = choose_port(params["port"], None)
    cluster = Cluster(bindir, restore_dir.data, port, params["login_user"])
    login = postgres.Target(
        "127.0.0.1", port, params["login_db"], params["login_user"], params["login_password"]
    )  # fmt: skip
    return Job(target, window, archive, restore_dir, cluster, login)


class Restore:
    """One restore, from the empty folder to the server at its target."""

    def __init__(self, context: Context, engine: barman.Engine, job: Job, clock: Clock) -> None:
        self.context, self.engine, self.job, self.clock = context, engine, job, clock

    def act(self) -> Recovered:
        """Restore; after a failure the server is stopped, and the next run removes the rest. The log is kept until."""
        job, restore_dir = self.job, self.job.restore_dir
        note = {"backup_id": job.window.backup.backup_id, "target": str(job.target)}
        with restore_dir.mine():
            if restore_dir.clear():
                self.context.warn(f"restore_path: removed what an interrupted restore had left in {restore_dir.path}.")
            restore_dir.write(state="restoring", **note)
            try:
                recovered = self.recover()
            except BaseException:
                if job.cluster.is_running():
                    job.cluster.stop("immediate")
                raise
            if not recovered.reached.paused:
                # Nothing is fetched any more; a paused server still may.
                shutil.rmtree(restore_dir.spool, ignore_errors=True)
                self.engine.credentials.unlink(missing_ok=True)
            restore_dir.write(state="done", **note, port=job.cluster.port)
        return recovered

    def recover(self) -> Recovered:
        """Bring the base backup, and replay WAL up to the target."""
        job, params = self.job, self.context.params
        bindir, restore_dir = job.cluster.bindir, job.restore_dir
        self.engine.write_credentials()
        begun_s = self.clock.passed_s()
        restored_server.fetch_backup(
            self.engine, restore_dir, bindir, job.window.backup.backup_id, params["tablespaces"],
            deadline_s=self.clock.left_s(),
        )  # fmt: skip
        fetched_s = self.clock.passed_s()
        restored_server.configure(restore_dir, pgtools.control_data(bindir, restore_dir.data), self.settings())
        reached = self.replay()
        self.context.progress.update("replay WAL", job.segments, job.segments, "segments", final=True)
        recovery.check_reached(
            job.archive, job.window, job.target, system_identifier=reached.system_identifier, lsn=reached.lsn
        )
        return Recovered(reached, fetched_s - begun_s, self.clock.passed_s() - fetched_s)

    def settings(self) -> dict[str, str]:
        """Parameters of the server that recovers."""
        params, job = self.context.params, self.job
        line = pitr_setup.shell_line(
            self.engine.environ(),
            restored_server.restore_words(self.engine, job.restore_dir, params["prefetch_segments"]),
            placeholders=["%f", "%p"],
        )
        histories = [f"{each:08X}.history" for each in sorted(job.archive.histories)]
        return recovery.settings(
            job.target, restore_command=restored_server.restore_command(job.restore_dir, line, histories),
            port=job.cluster.port, timeline=params["target_timeline"], action=params["target_action"],
            more=params["settings"],
        )  # fmt: skip

    def replay(self) -> restored_server.Reached:
        """Start the server and wait for its target; again where S3 failed meanwhile.

        :raises RunbookError: it did not get there
        """
        job, log = self.job, self.job.restore_dir
        attempt = 1
        while True:
            try:
                restored_server.start(job.cluster, deadline_s=self.clock.left_s())
                return restored_server.wait(job.cluster, job.login, clock=self.clock, report=self.report)
            except RunbookError as error:
                fatal = restored_server.fatal_line(log)
                again = not job.cluster.is_running() and recovery.could_not_fetch(fatal)
                if not again or attempt == ATTEMPTS:
                    raise recovery.unreached(
                        job.target, log=str(log.log), fatal=fatal, last_commit=restored_server.last_commit(log),
                        trouble=error.message, has_ended=isinstance(error, restored_server.EndedError),
                    ) from None  # fmt: skip
                restored_server.start_over(log)
                attempt += 1

    def report(self, seen: restored_server.Reached) -> None:
        """Show how far the replay is."""
        if seen.lsn:
            done = wal_archive.parse_lsn(seen.lsn) // self.job.archive.segment_bytes - self.job.first
            self.context.progress.update("replay WAL", max(done, 0), max(self.job.segments, done), "segments")


def core(context: Context) -> dict[str, Any]:
    """Restore a server to the target, in a folder of its own."""
    params = context.params
    context.require_bounds(BOUNDS)
    permits.require_environment(context.run, params["environment"])
    clock = Clock(params["deadline_s"])
    restore_dir = restored_server.RestoreDir.named(params["restore_path"])
    engine = barman.Engine.from_params(params, heard=passed_on(context.warn), state=restore_dir.path)
    job = prepare(params, engine, restore_dir)
    backup_id = job.window.backup.backup_id
    result: dict[str, Any] = {
        "changed": True, "backup_id": backup_id, "windows": [job.window.describe()],
        "port": job.cluster.port, "data_dir": str(restore_dir.data),
    }  # fmt: skip
    if context.check_mode:
        nothing = dict.fromkeys(("recovery_point", "recovery_lsn", "timeline", "fetch_s", "replay_s"))
        result |= nothing | {"msg": f"Would restore to {job.target} in {restore_dir.data}, from {backup_id}."}
    else:
        recovered = Restore(context, engine, job, clock).act()
        paused = "; paused there" if recovered.reached.paused else ""
        result |= recovered.describe() | {
            "msg": f"Restored to {recovered.point} on port {job.cluster.port} in {clock.passed_s():.1f} s, from base "
            f"backup {backup_id}{paused}.",
        }
    if context.diff:
        result["diff"] = {"prepared": as_lines([result["msg"]])}
    return result | {"duration_s": round(clock.passed_s(), 3)}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_pitr_restore", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
