"""What this run was told and has been permitted: the guard that stands where a module writes.

Preflight writes lines into the run's folder: one when record, inventory, environment and approval are in order, and one
for each target that proved itself. A module that writes asks for the line of its own target before it does anything. So
no order of tasks is needed for the protection: a playbook that was started in its middle, a role that was called by
itself and a module on the command line all find nothing, and are refused.

The file begins with what the command line of the run said: the callback writes it before any play begins, so neither
a play nor an inventory can say it.

A line counts only for the run that wrote it, and only while that run's ansible-playbook lives: neither an old folder
nor a variable that is left in somebody's shell is a permit.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import process
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.fleet import NOT_RUN
from ansible.module_utils.runbook.rules.run import OVERRIDE, PERMITS, Approval, Batch, Begun, Permit
from ansible.module_utils.runbook.rules.target import Target
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.drivers.postgres.postgres import Session
    from ansible.module_utils.runbook.drivers.s3.s3 import Store
    from ansible.module_utils.runbook.rules.run import Run

#: The way to go on for whoever was refused.
AGAIN = (
    "start the playbook from its beginning, without --start-at-task and --step; after a red run that goes on where it "
    "stopped"
)


def approve(
    run: Run, environment: str, playbook: str, ends_at: datetime | None = None, needs: Sequence[str] = ()
) -> None:
    """Write down for the modules of this run what passed the checks that need no target.

    :param ends_at: when its maintenance window ends
    :param needs: lines of the checklists that the operation has to do; none where it is not run as a change
    :raises RunbookError: there is no run, its folder cannot be written to, or the host's batch does not begin
    """
    require_batch(run)
    ends = ends_at.astimezone(UTC).isoformat() if ends_at else None
    _append(run, "approved", Approval(run.host, environment, playbook, run.check_mode, ends, tuple(needs)))


def begin_change(run: Run) -> None:
    """Write down for the modules of this run that its change is open.

    :raises RunbookError: there is no run, or its folder cannot be written to
    """
    _append(run, "begun", Begun(run.check_mode, batch(run).play))


def begun(run: Run) -> Begun | None:
    """The change of this run, once it is open; one that was opened in check mode counts only there."""
    found = [Begun(**line["begun"]) for line in _lines(run) if "begun" in line]
    return next((each for each in found if run.check_mode or not each.check_mode), None)


def batch(run: Run) -> Batch:
    """The hosts that the run works on now; all of them where the callback said nothing."""
    return next((Batch(**line["batch"]) for line in reversed(_lines(run)) if "batch" in line), Batch())


def require_batch(run: Run) -> None:
    """Refuse hosts whose batch does not begin, because too many before them failed.

    :raises RunbookError: it does not
    """
    held = batch(run).held
    if held:
        raise RunbookError(held, code=NOT_RUN)


def _require_change(run: Run, found: Sequence[Approval]) -> None:
    """Refuse to write for an operation that is run as a change, as long as that is not open; a look is free.

    :param found: what passed for the host
    """
    if not run.check_mode and any(each.needs for each in found) and begun(run) is None:
        raise RunbookError(f"{found[-1].playbook} is run as a change, and none was opened; {AGAIN}.")


def grant(run: Run, target: Target) -> None:
    """Write down for the modules of this run that ``target`` proved itself.

    :raises RunbookError: there is no run, or its folder cannot be written to
    """
    _append(run, "permitted", Permit(run.host, target, check_mode=run.check_mode))


def revoke(run: Run, target: Target) -> None:
    """Write down that ``target`` is no longer this run's: modules that begin from now on refuse it.

    :raises RunbookError: the run's folder cannot be written to
    """
    _append(run, "revoked", target)


def _append(run: Run, what: str, passed: Approval | Begun | Permit | Target) -> None:
    if run.id is None or run.directory is None:
        missing = "RUNBOOK_RUN_DIR" if run.directory is None else "RUNBOOK_RUN_ID"
        raise RunbookError(f"{missing} is not set, so no run could be permitted anything; start ansible-playbook.")
    line = json.dumps({"run_id": run.id, what: asdict(passed)})
    try:
        handle = os.open(_path(run), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, f"{line}\n".encode())
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


def started(run: Run) -> str:
    """The playbook that was started, without its suffix; empty where no run is under way."""
    return str(next((line.get("playbook", "") for line in _lines(run)[:1] if "said" in line), ""))


def tags(run: Run) -> tuple[list[str], list[str]]:
    """The tags that the command line of this run named, and those that it left out."""
    first = next((line for line in _lines(run)[:1] if "said" in line), {})
    return list(first.get("tags", ())), list(first.get("skip_tags", ()))


def approvals(run: Run) -> list[Approval]:
    """What passed for the host of ``run`` without a target, the newest last."""
    return [each for each in _approved(run) if each.host == run.host]


def _approved(run: Run) -> list[Approval]:
    """What passed for any host of the run; what passed in check mode counts only there."""
    found = [Approval(**line["approved"]) for line in _lines(run) if "approved" in line]
    return [each for each in found if run.check_mode or not each.check_mode]


def ends_at(run: Run) -> datetime | None:
    """When this run must be over: the end of its maintenance window, or the begin of a freeze.

    None where nothing bounds it. Where preflight passed several times the earliest end counts, whatever host it was
    for: another play that names another host, or none, may reach the same server.
    """
    ends = [datetime.fromisoformat(each.ends_at) for each in _approved(run) if each.ends_at]
    return min(ends, default=None)


def require_time(run: Run) -> None:
    """Refuse once the run's maintenance window is over: what was not begun yet is left to the next one.

    So are hosts whose batch does not begin.

    :raises RunbookError: it is, or theirs does not
    """
    require_batch(run)
    end = ends_at(run)
    if end is not None and datetime.now(UTC) >= end:
        raise RunbookError(
            f"The maintenance window of this run ended at {to_second(end.isoformat())}, so nothing more is begun; what "
            "is finished stays, run the same command again in the next window. In an emergency add "
            f"{OVERRIDE}."
        )


def of(run: Run) -> list[Permit]:
    """The targets that proved themselves in this run; none where no run of ours is under way."""
    found: list[Permit] = []
    for line in _lines(run):
        if "permitted" in line:
            found.append(Permit(**line["permitted"] | {"target": Target(**line["permitted"]["target"])}))
        elif "revoked" in line:
            found = [permit for permit in found if permit.target != Target(**line["revoked"])]
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


def require_approval(run: Run, *, may_be_late: bool = False) -> Approval:
    """What passed for this host; whatever proves a target compares it with that.

    :param may_be_late: the caller only ends what the run opened, and that has to be possible after its window
    :raises RunbookError: nothing did, or the run's maintenance window is over
    """
    if not may_be_late:
        require_time(run)
    found = approvals(run)
    if not found:
        raise RunbookError(f"This run has not passed preflight{f' for {run.host}' if run.host else ''}; {AGAIN}.")
    return found[-1]


def require_operation(run: Run, playbook: str) -> None:
    """Refuse unless preflight passed in this run for the very operation that writes.

    A target that proved itself for another one, which needs no window and no change, is no permit for it.

    :param playbook: the operation, as preflight names it
    :raises RunbookError: it passed for others only
    """
    if all(each.playbook != playbook for each in approvals(run)):
        raise RunbookError(f"This run has not passed preflight for {playbook}; {AGAIN}.")


def require_environment(run: Run, environment: str) -> None:
    """Refuse unless preflight passed in this run for an inventory of ``environment``.

    For what is no target of a kind that preflight proves, such as a folder on this machine.

    :raises RunbookError: it did not, its maintenance window is over, or its change is not open
    """
    require_time(run)
    found = [each for each in approvals(run) if each.environment == environment]
    if not found:
        raise RunbookError(f"This run has not passed preflight for {_where(run, environment)}; {AGAIN}.")
    _require_change(run, found)


def require_server(run: Run) -> None:
    """Refuse unless the server of this host proved itself in this run, and its change is open.

    :raises RunbookError: it did not, its maintenance window is over, or its change is not open
    """
    require_environment(run, require_approval(run).environment)
    if all((each.host, each.target.kind) != (run.host, "server") for each in of(run)):
        raise RunbookError(f"This run has not passed preflight for the server {run.host}; {AGAIN}.")


def require(run: Run, target: Target, environment: str) -> None:
    """Refuse unless ``target`` proved itself in this run, for an inventory of ``environment``.

    :raises RunbookError: it did not
    """
    require_environment(run, environment)
    if all(each.target != target for each in of(run)):
        raise RunbookError(f"This run has not passed preflight for {target}; {AGAIN}.")


def require_bucket(run: Run, store: Store, environment: str) -> None:
    """:func:`require` for a bucket, whose tag must say the same still.

    :raises RunbookError: it did not prove itself, says something else now, or cannot be asked
    """
    require(run, store.target, environment)
    store.require_environment(environment)


def require_unfrozen(session: Session) -> None:
    """Refuse a database that somebody froze: our sessions could write all the same, because they set what they need.

    :raises RunbookError: ``default_transaction_read_only`` is on there
    """
    if not session.frozen_by:
        return
    raise RunbookError(
        f"{session.target}: default_transaction_read_only is on (source: {session.frozen_by}), so somebody froze it, "
        "and nothing was changed; reading and backups go on. When it may be written to again, run "
        f"{session.unfreezing()}."
    )


def require_database(
    run: Run, session: Session, *, database: str | None = None, may_be_frozen: bool = False, may_be_late: bool = False,
    may_be_early: bool = False,
) -> None:  # fmt: skip
    """Refuse unless preflight passed in this run for this host, and for the very cluster that ``session`` reaches.

    :param database: the database that must have been checked; the session's own where it is not given, any one of the
        cluster where it is empty
    :param may_be_frozen: the caller writes to its own database nothing but the lease
    :param may_be_late: as for :func:`require_approval`
    :param may_be_early: the caller only looks, and that has to be possible before the change is opened
    :raises RunbookError: it did not, its maintenance window is over, its change is not open, or somebody froze the
        session's own database
    """
    require_approval(run, may_be_late=may_be_late)
    if not (may_be_late or may_be_early):
        _require_change(run, approvals(run))
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
    proven = [
        each.target for each in of(run) if (each.target.kind, each.target.place) == ("database", found["cluster"])
    ]
    if all(wanted not in ("", target.name) for target in proven):
        raise RunbookError(f"This run has not passed preflight for {session.target}; {AGAIN}.")


def _where(run: Run, environment: str) -> str:
    return f"{run.host} ({environment})" if run.host else environment


def _path(run: Run) -> Path:
    return Path(run.directory or "") / PERMITS
