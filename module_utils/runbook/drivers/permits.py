"""What this run was told and has been permitted: the guard that stands where a module writes.

``pg_preflight`` writes a line into the run's folder for each target that passed its checks. A module that writes asks
for that line before it does anything. So no order of tasks is needed for the protection: a playbook that was started in
its middle, a role that was called by itself and a module on the command line all find nothing, and are refused.

The file begins with what the command line of the run said: the callback writes it before any play begins, so neither
a play nor an inventory can say it.

A line counts only for the run that wrote it, and only while that run's ansible-playbook lives: neither an old folder
nor a variable that is left in somebody's shell is a permit.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.run import PERMITS, Permit
from psycopg2 import sql

if TYPE_CHECKING:
    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.rules.run import Run

#: The way to go on for whoever was refused.
AGAIN = (
    "start the playbook from its beginning, without --start-at-task and --step; after a red run that goes on where it "
    "stopped"
)


def grant(run: Run, permit: Permit) -> None:
    """Write ``permit`` down for the modules of this run.

    :raises RunbookError: the run's folder cannot be written to
    """
    if run.directory is None:
        raise RunbookError("RUNBOOK_RUN_DIR is not set, so nothing can be permitted; start ansible-playbook.")
    try:
        handle = os.open(_path(run), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, json.dumps(asdict(permit)).encode() + b"\n")
        finally:
            os.close(handle)
    except OSError as error:
        raise RunbookError(
            f"The run's record cannot be written: {run.directory}/{PERMITS}: {error.strerror}; give this user the "
            "right to write there."
        ) from None


def said(run: Run) -> dict[str, str]:
    """What the command line of this run said (``rules.run.command_line``); empty where no run is under way."""
    return dict(next((line["said"] for line in _lines(run)[:1] if "said" in line), {}))


def of(run: Run) -> list[Permit]:
    """What this run has been permitted so far; nothing where no run of ours is under way."""
    found = [Permit(**line) for line in _lines(run) if "said" not in line]
    # What passed in check mode was told that nothing would be written.
    return [permit for permit in found if run.check_mode or not permit.check_mode]


def _lines(run: Run) -> list[dict[str, Any]]:
    """The lines of this run, while its ansible-playbook lives."""
    if run.id is None or run.directory is None:
        return []
    controller = process.parse(run.process or "")
    if controller is None or controller.life() != "alive":
        return []
    try:
        lines = _path(run).read_text().splitlines()
    except OSError:
        return []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [line for line in found if line["run_id"] == run.id]


def require_environment(run: Run, environment: str) -> Permit:
    """Refuse unless preflight passed in this run for an inventory of ``environment``.

    For what is no database: a bucket, a folder, a service, each of which proves by itself whose it is.

    :raises RunbookError: it did not
    """
    for permit in of(run):
        if permit.environment == environment and permit.host == run.host:
            return permit
    raise RunbookError(f"This run has not passed preflight for {_where(run, environment)}; {AGAIN}.")


def require_unfrozen(session: Session) -> None:
    """Refuse a database that somebody froze: our sessions could write all the same, because they set what they need.

    :raises RunbookError: ``default_transaction_read_only`` is on there
    """
    if not session.frozen_by:
        return
    database, role = sql.Identifier(session.target.database), sql.Identifier(session.target.user)
    way = {
        "database": sql.SQL("ALTER DATABASE {} RESET").format(database),
        "user": sql.SQL("ALTER ROLE {} RESET").format(role),
        "database user": sql.SQL("ALTER ROLE {} IN DATABASE {} RESET").format(role, database),
    }.get(session.frozen_by, sql.SQL("ALTER SYSTEM RESET"))
    raise RunbookError(
        f"{session.target}: default_transaction_read_only is on (source: {session.frozen_by}), so somebody froze it, "
        "and nothing was changed; reading and backups go on. When it may be written to again, run "
        f"{session.render(way)} default_transaction_read_only."
    )


def require_database(
    run: Run, session: Session, *, database: str | None = None, may_be_frozen: bool = False
) -> Permit:  # fmt: skip
    """Refuse unless preflight passed in this run for the very cluster that ``session`` reaches.

    :param database: the database that must have been checked; the session's own where it is not given, any one of the
        cluster where it is empty
    :param may_be_frozen: the caller writes to its own database nothing but the lease
    :raises RunbookError: it did not, or somebody froze the session's own database
    """
    if database is None and not may_be_frozen:
        require_unfrozen(session)
    if not session.query("SELECT has_function_privilege('pg_control_system()', 'EXECUTE') AS may")[0]["may"]:
        raise RunbookError(
            f"{session.target}: user {session.target.user!r} may not ask which cluster this is; as a superuser run "
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() to that user."
        )
    found = session.query(
        "SELECT current_database() AS database, system_identifier::text AS cluster FROM pg_control_system()"
    )[0]
    wanted = found["database"] if database is None else database
    for permit in of(run):
        if permit.system_identifier == found["cluster"] and wanted in ("", permit.database):
            return permit
    raise RunbookError(f"This run has not passed preflight for {session.target}; {AGAIN}.")


def _where(run: Run, environment: str) -> str:
    return f"{run.host} ({environment})" if run.host else environment


def _path(run: Run) -> Path:
    return Path(run.directory or "") / PERMITS
