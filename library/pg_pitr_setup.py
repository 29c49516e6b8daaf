#!/usr/bin/python
"""Module pg_pitr_setup: let a server archive its WAL in S3, by Barman's cloud programs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_pitr_setup
short_description: Set up WAL archiving to S3
description:
  - Sets C(archive_mode), C(archive_command), C(archive_timeout) and C(wal_level), writes the credentials file, and
    marks the archive with the identifier of the cluster.
  - Run it on the host of the database server, as the owner of the data directory, because PostgreSQL reads the
    credentials file.
options:
  state_dir:
    description:
      - Local directory for the credentials file, which the archiver of PostgreSQL reads. It must be outside of the data
        directory, because base backups contain everything inside of it.
    type: path
    required: true
  archive_timeout_s:
    description:
      - Value of C(archive_timeout), in seconds. A disaster can lose the work of slightly more than this time.
    type: int
    default: 60
  allow_restart:
    description:
      - Whether to restart the server with C(pg_ctl) if C(archive_mode) or C(wal_level) need it. If systemd manages the
        server, restart it with systemd instead.
    type: bool
    default: false
extends_documentation_fragment:
  - runbook_postgresql
  - runbook_s3
  - runbook_pitr
attributes:
  check_mode:
    description: Returns the plan of the real run. Writes nothing.
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
- name: Archive WAL within a minute
  pg_pitr_setup:
    state_dir: /var/lib/postgresql/runbook-pitr
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
  sample: Archives WAL of cluster 7395012345678901234 to s3://mental-scribe-backups/pitr/mental-scribe/.
status:
  description: V(ok), or V(unknown) until the server has been restarted.
  returned: always
  type: str
duration_s:
  description: Duration in seconds.
  returned: always
  type: float
executed_queries:
  description: Statements that changed something on the server, or would in check mode.
  returned: always
  type: list
  elements: str
changes:
  description: Changed parameters, each with C(name), C(before) and C(after).
  returned: success
  type: list
  elements: dict
restart_required:
  description: Whether the changes need a restart of the server.
  returned: success
  type: bool
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.backup import archiver, barman
from ansible.module_utils.runbook.drivers.postgres import postgres
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.module import Context, run_module
from ansible.module_utils.runbook.rules.backup import archiving, pitr_setup, wal_archive
from ansible.module_utils.runbook.rules.backup.tool_warnings import passed_on
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.text import as_lines

#: Options whose value must lie between two bounds.
BOUNDS = {"archive_timeout_s": (1, 86_400)}
#: Longest time for the server to restart, in seconds.
RESTART_S = 300


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options as documented above."""
    return (
        postgres.argument_spec()
        | barman.argument_spec()
        | {
            "state_dir": {"type": "path", "required": True},
            "archive_timeout_s": {"type": "int", "default": 60},
            "allow_restart": {"type": "bool", "default": False},
        }
    )


def check_archive(engine: barman.Engine, server: pitr_setup.Server) -> bool:
    """See that this server may write to the archive; whether it still has to be marked as its cluster's.

    :raises RunbookError: it is another cluster's, or another server of this cluster went on there
    """
    unmarked = archiving.check_identity(
        engine.identity(), server.system_identifier, where=engine.where, occupied=engine.occupied()
    )
    if not unmarked:
        current = wal_archive.parse_segment(server.segment or "", server.segment_bytes) or wal_archive.Segment(1, 0)
        own = engine.own_history(Path(server.data_directory), current.timeline)
        archive = wal_archive.gather(engine.backups(), engine.wal_objects(), engine.history, server.segment_bytes)
        archiving.check_timeline(archive, current, wal_archive.parse_history(own) if own else None)
    return unmarked


def setup(context: Context, engine: barman.Engine) -> dict[str, Any]:
    """Let the server archive its WAL."""
    params = context.params
    with archiver.connect(postgres.Target.from_params(params), "pg_pitr_setup") as session:
        server = archiver.read_server(session)
        pitr_setup.require_primary(server, user=session.target.user)
        pitr_setup.require_outside(engine.state, server.data_directory)
        pitr_setup.require_here(server, archiver.identifier_here(server))
        permits.require_bucket(context.run, engine.store, params["environment"])
        unmarked = check_archive(engine, server)
        command = pitr_setup.shell_line(engine.environ(), engine.archive_words(), placeholders=["%p"])
        plan = pitr_setup.plan_setup(archiver.read_settings(session), command, params["archive_timeout_s"])
        credentials = engine.credentials_differ()
        changed = bool(plan.changes or unmarked or credentials or (plan.restart_for and params["allow_restart"]))
        if context.check_mode:
            session.executed_queries += [
                f"ALTER SYSTEM SET {change.name} = '{change.after}'" for change in plan.changes
            ]
        else:
            act(session, engine, server, plan, unmarked=unmarked, credentials=credentials)
    restart_required = bool(plan.restart_for)
    if restart_required and params["allow_restart"] and not context.check_mode:
        data = Path(server.data_directory)
        beside = data.parent / "server.log"
        log = beside if beside.exists() else engine.state / "server.log"
        archiver.restart(Path(server.bindir), data, log, deadline_s=RESTART_S)
        restart_required = False
    would = "Would archive" if context.check_mode else "Archives"
    said = f"{would} WAL of cluster {server.system_identifier} to {engine.where}"
    if not changed and not restart_required:
        said = f"WAL of cluster {server.system_identifier} is archived to {engine.where}"
    waiting = restart_required and not params["allow_restart"]
    if waiting:
        said += f", once the server was restarted for {' and '.join(plan.restart_for)}"
    return context.conclude(
        Status.of(unknown=waiting),
        msg=f"{said}.",
        fail_on_breach=False,
        fail_on_unknown=False,
        changed=changed,
        changes=[{"name": each.name, "before": each.before, "after": each.after} for each in plan.changes],
        restart_required=restart_required,
        executed_queries=session.executed_queries,
    )


def act(
    session: postgres.Session,
    engine: barman.Engine,
    server: pitr_setup.Server,
    plan: pitr_setup.SetupPlan,
    *,
    unmarked: bool,
    credentials: bool,
) -> None:
    """Write what differs: the keys first, because the archiver needs them at once."""
    if credentials:
        engine.write_credentials(Path(server.data_directory))
    if unmarked:
        engine.mark(server.system_identifier)
    for change in plan.changes:
        archiver.set_parameter(session, change.name, change.after)
    if plan.changes:
        archiver.reload(session)


def core(context: Context) -> dict[str, Any]:
    """Set the server up."""
    params = context.params
    context.require_bounds(BOUNDS)
    if not params["state_dir"]:
        raise RunbookError("state_dir: it is empty; name the folder for the file with the credentials.")
    permits.require_environment(context.run, params["environment"])
    begun = time.monotonic()
    engine = barman.Engine.from_params(params, heard=passed_on(context.warn), state=params["state_dir"])
    result = setup(context, engine)
    if context.diff:
        result["diff"] = {"prepared": as_lines([result["msg"]])}
    return result | {"duration_s": round(time.monotonic() - begun, 3)}


def main() -> None:
    """Run as an Ansible module."""
    run_module(core, name="pg_pitr_setup", argument_spec=argument_spec())


if __name__ == "__main__":
    main()
