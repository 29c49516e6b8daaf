#!/usr/bin/python
"""Module pg_pitr_check: which moments can be restored, and whether archiving is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pitr_check
short_description: Check WAL archiving and the recovery window
description:
  - Checks the archive in S3 and the archiver of the server. Fails if a limit is exceeded or a check is V(unknown).
  - Returns the points in time to which the server can be restored.
  - Runs on any host. If the server does not answer, the state of its archiver is V(unknown).
options:
  switch_wal:
    description:
      - Whether to prove that WAL arrives. Commits a transaction, switches the WAL segment, and waits for it in the
        bucket.
    type: bool
    default: false
  max_lag_s:
    description:
      - Longest accepted time until a segment is archived, in seconds. O(switch_wal) waits that long.
    type: int
    default: 60
  max_backup_age_s:
    description:
      - Largest accepted age of the newest base backup, in seconds.
    type: int
    default: 93600
  recovery_window_days:
    description:
      - Number of days to any point of which the server must be restorable.
    type: int
    default: 30
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_pitr
attributes:
  check_mode:
    description: Does not switch the WAL segment.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Prove that archiving works
  pg_pitr_check:
    switch_wal: true
    environment: production
    server: mental-scribe
    bucket: mental-scribe-backups
    region: eu-central-1
    login_host: /var/run/postgresql
    login_user: postgres
    login_db: postgres
"""

RETURN = r"""
msg:
  description: What was found, in a few sentences, or what is wrong and the fix.
  returned: always
  type: str
status:
  description: V(ok), V(breach), or V(unknown) if something could not be judged.
  returned: always
  type: str
duration_s:
  description: Duration in seconds.
  returned: always
  type: float
executed_queries:
  description: Statements that changed something on the server.
  returned: always
  type: list
  elements: str
checks:
  description: The checks, each with C(name), C(status), C(msg) and C(subject).
  returned: always
  type: list
  elements: dict
windows:
  description: Recovery windows, each with C(backup_id), C(start), C(end) and C(timeline).
  returned: always
  type: list
  elements: dict
oldest_restorable:
  description: Earliest point in time that can be restored; null if there is none.
  returned: always
  type: str
newest_restorable:
  description: Time at which the last segment that a restore can reach was archived; null if there is none.
  returned: always
  type: str
newest_wal:
  description: File name of that segment.
  returned: always
  type: str
newest_wal_age_s:
  description: Seconds since then. An idle server archives nothing, so a large value alone is not a fault.
  returned: always
  type: float
backup_age_s:
  description: Age of the newest base backup.
  returned: always
  type: float
gaps:
  description: Ranges of missing segments, each as first and last file name.
  returned: always
  type: list
  elements: list
ready_segments:
  description: Number of segments that wait to be archived.
  returned: always
  type: int
oldest_ready_s:
  description: Seconds that the oldest of them has been waiting.
  returned: always
  type: float
archive_proof_s:
  description: Seconds from the switch of a segment to its arrival in the bucket, with O(switch_wal).
  returned: always
  type: float
"""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import archiver, barman
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import archiving, pitr_setup, wal_archive
from ansible.module_utils.runbook.rules.backup.tool_warnings import passed_on
from ansible.module_utils.runbook.rules.status import Check, Status

#: Options whose value must lie between two bounds.
BOUNDS = {"max_lag_s": (1, 86_400), "max_backup_age_s": (60, 31_536_000), "recovery_window_days": (1, 3_650)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        postgres.argument_spec()
        | barman.argument_spec()
        | {
            "switch_wal": {"type": "bool", "default": False},
            "max_lag_s": {"type": "int", "default": 60},
            "max_backup_age_s": {"type": "int", "default": 93600},
            "recovery_window_days": {"type": "int", "default": 30},
        }
    )


class Look:
    """One look at server and archive; what one of them does not tell leaves the other's judgement alone."""

    def __init__(self, context: Context, engine: barman.Engine) -> None:
        self.context, self.params, self.engine = context, context.params, engine
        self.limits = archiving.Limits(
            self.params["max_lag_s"], self.params["max_backup_age_s"], self.params["recovery_window_days"]
        )
        self.checks: list[Check] = []
        self.figures = archiving.Figures()
        self.executed_queries: list[str] = []

    def look_at_server(self) -> pitr_setup.Server | None:
        """How archiving does; the server, None where it could not be asked which one it is."""
        server = None
        try:
            with archiver.connect(postgres.Target.from_params(self.params), "pg_pitr_check") as session:
                server = archiver.read_server(session)
                proves = self.params["switch_wal"] and not self.context.check_mode
                # Nobody would come for the segment: that is said at once, and not after max_lag_s.
                if proves and archiver.read_archiver(session).archives:
                    if server.in_recovery:
                        raise RunbookError("switch_wal: this server is a standby; name the primary.")
                    self.checks.append(self.prove(session))
                seen = archiver.read_archiver(session)
                self.checks.append(archiving.judge_archiver(seen, self.limits))
                self.figures.of_archiver(seen)
                self.executed_queries = session.executed_queries
        except RunbookError as error:
            self.checks.append(Check("archiver", Status.UNKNOWN, error.message))
        return server

    def prove(self, session: postgres.Session) -> Check:
        """End a segment and wait for it in the bucket."""

        def is_there(name: str) -> bool:
            # A label of a backup, or a partial segment, begins with a segment's name.
            there = self.engine.store.entries(f"{self.engine.root}wals/{name[:16]}/{name}")
            return any(wal_archive.plain_name(entry.key) == name for entry in there)

        try:
            ended = archiver.archive_until_now(session, wait_s=self.limits.max_lag_s, arrived=is_there)
        except RunbookError as error:
            return Check("proof", Status.UNKNOWN, error.message)
        self.figures.archive_proof_s = ended.archived_s
        return archiving.judge_proof(ended.segment, ended.archived_s, self.limits)

    def look_at_archive(self, server: pitr_setup.Server | None) -> None:
        """What can be restored."""
        engine = self.engine
        identifier = server.system_identifier if server else self.params["system_identifier"]
        try:
            wrong = archiving.judge_owner(engine.identity(), identifier, where=engine.where)
            if wrong is not None:
                self.checks.append(wrong)
                return
            archive = wal_archive.gather(engine.backups(), engine.wal_objects(), engine.history)
        except RunbookError as error:
            self.checks.append(Check("archive", Status.UNKNOWN, error.message))
            return
        if server is not None and server.timeline is not None:
            self.checks.append(archiving.judge_timeline(archive, server.timeline))
        now = datetime.now(UTC)
        self.checks += archiving.judge_archive(archive, self.limits, now)
        self.figures.of_archive(archive, now)


def core(context: Context) -> dict[str, Any]:
    """Say what can be restored and how archiving does."""
    params = context.params
    context.require_bounds(BOUNDS)
    if params["switch_wal"]:
        permits.require_environment(context.run, params["environment"])
    begun = time.monotonic()
    look = Look(context, barman.Engine.from_params(params, heard=passed_on(context.warn)))
    look.look_at_archive(look.look_at_server())
    tells = [each.msg for each in look.checks if each.status is not Status.OK] or [each.msg for each in look.checks]
    return context.conclude(
        look.checks,
        msg=" ".join(tells),
        **asdict(look.figures),
        executed_queries=look.executed_queries,
        duration_s=round(time.monotonic() - begun, 3),
    )


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_pitr_check", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
