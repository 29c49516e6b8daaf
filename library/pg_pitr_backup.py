#!/usr/bin/python
"""Module pg_pitr_backup: make a base backup of a server in S3, by Barman's cloud programs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pitr_backup
short_description: Make a base backup of a server to S3
description:
  - Copies the data directory of a running server to S3. Together with the WAL that M(pg_pitr_setup) archives, the
    server can be restored to any point in time since then. Fails if WAL archiving fails.
  - Run it on the host of the database server, as the owner of the data directory, because Barman reads its files.
  - Deletes base backups that were interrupted.
options:
  jobs:
    description:
      - Number of upload processes.
    type: int
    default: 2
  deadline_s:
    description:
      - Time limit for the base backup, in seconds.
    type: int
    default: 3600
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_pitr
attributes:
  check_mode:
    description: Runs the checks of the real run. Writes nothing.
    support: full
  diff_mode:
    description: Shows the plan.
    support: full
notes:
  - O(login_user) must be a superuser.
author:
  - Mental Scribe operations
"""

EXAMPLES = r"""
- name: Make a base backup
  pg_pitr_backup:
    jobs: 4
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
  description: What was done or found, in one sentence.
  returned: always
  type: str
  sample: Made base backup 20261123T030000, 1.2 GiB in 41.0 s.
status:
  description: V(ok), V(breach), or V(unknown) if Barman did not report what it made.
  returned: always
  type: str
duration_s:
  description: Duration in seconds.
  returned: always
  type: float
backup_id:
  description: ID of the base backup; null in check mode.
  returned: success
  type: str
size_bytes:
  description: Its size in the bucket; null in check mode.
  returned: success
  type: int
removed:
  description: Interrupted base backups that were deleted, or would be.
  returned: success
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import archiver, barman
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules import words
from ansible.module_utils.runbook.rules.backup import archiving, pitr_setup, wal_archive
from ansible.module_utils.runbook.rules.backup.tool_warnings import passed_on
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines

#: Options whose value must lie between two bounds.
BOUNDS = {"jobs": (1, 32), "deadline_s": (10, 604_800)}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        postgres.argument_spec()
        | barman.argument_spec()
        | {"jobs": {"type": "int", "default": 2}, "deadline_s": {"type": "int", "default": 3600}}
    )


def look(context: Context, engine: barman.Engine) -> tuple[pitr_setup.Server, str]:
    """The server, and the settings of a session for the engine.

    :raises RunbookError: no base backup can be made of it, or the WAL that it needs would not be archived
    """
    with archiver.connect(postgres.Target.from_params(context.params), "pg_pitr_backup") as session:
        server = archiver.read_server(session)
        pitr_setup.require_primary(server, user=session.target.user)
        pitr_setup.require_here(server, archiver.identifier_here(server))
        permits.require_bucket(context.run, engine.store, context.params["environment"])
        archiving.require_owner(engine.identity(), server.system_identifier, where=engine.where)
        archiving.require_archiving(archiver.read_archiver(session))
        return server, session.tool_options(search_path="pg_catalog")


def backup(context: Context, engine: barman.Engine) -> dict[str, Any]:
    """Make a base backup."""
    params = context.params
    server, options = look(context, engine)
    listed = engine.backups()
    left = [str(each["backup_id"]) for each in listed if not wal_archive.parse_backup(each)]
    if context.check_mode:
        return {
            "changed": True, "backup_id": None, "size_bytes": None, "removed": left,
            "msg": f"Would make a base backup of {server.system_identifier} in {engine.where}.",
        }  # fmt: skip
    begun = time.monotonic()
    engine.make_backup(
        postgres.Target.from_params(params), options, jobs=params["jobs"], deadline_s=params["deadline_s"]
    )
    took_s = time.monotonic() - begun
    before = {str(each["backup_id"]) for each in listed}
    made = [each for each in map(wal_archive.parse_backup, engine.backups()) if each and each.backup_id not in before]
    if not made:
        raise RunbookError(
            "The engine said that it made a base backup, and lists none; look at the bucket.", status=Status.UNKNOWN
        )
    for backup_id in left:
        engine.delete_backup(backup_id)
    newest = made[-1]
    size = engine.stored_bytes(newest.backup_id)
    also = f" Removed {len(left)} that had been interrupted." if left else ""
    return {
        "changed": True, "backup_id": newest.backup_id, "size_bytes": size, "removed": left,
        "msg": f"Made base backup {newest.backup_id}, {words.size(size)} in {took_s:.1f} s.{also}",
    }  # fmt: skip


def core(context: Context) -> dict[str, Any]:
    """Make a base backup."""
    context.require_bounds(BOUNDS)
    permits.require_environment(context.run, context.params["environment"])
    begun = time.monotonic()
    result = backup(context, barman.Engine.from_params(context.params, heard=passed_on(context.warn)))
    if context.diff:
        result["diff"] = {"prepared": as_lines([result["msg"]])}
    return result | {"duration_s": round(time.monotonic() - begun, 3)}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_pitr_backup", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
