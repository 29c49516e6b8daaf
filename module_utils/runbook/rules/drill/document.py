"""The document of a drill, made of what its acts noted."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.drill import drill as judging
from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from datetime import datetime

    from ansible.module_utils.runbook.rules.drill.state import State


def make(
    state: State,
    at: datetime,
    *,
    backup_interval_s: float | None,
    archive_timeout_s: float,
    production_bytes: int | None,
) -> dict[str, Any]:
    """All that a drill found, as :func:`~ansible.module_utils.runbook.rules.drill.drill.read` reads it.

    :param at: the moment at which it is judged
    :param backup_interval_s: from one dump to the next; None: there are none
    :param archive_timeout_s: the live server's setting
    :param production_bytes: production's size; None: that of the live database
    """
    measured = replace(state.measured, rto_s=judging.rto_s(state.outage_at, state.service_at))
    if not state.is_recovered:
        measured = replace(measured, rpo_s=None)
    tear = state.tear_down or Check.unknown("tear_down", "It was not reached.")
    checks = [each.result() for each in _checks(state, tear)]
    elapsed_s = (at - state.outage_at).total_seconds() if state.outage_at and not state.is_recovered else None
    judged = judging.judge(state.objectives, measured, checks, elapsed_s=elapsed_s)
    spent = [each.duration_s for each in state.phases if each.name == "restore" and each.status == Status.OK]
    estimate = judging.extrapolate(
        measured.restored_bytes, spent[-1] if spent and state.is_recovered else None,
        production_bytes or state.live.size_bytes,
    )  # fmt: skip
    promised = judging.attainable(
        backup_interval_s=backup_interval_s,
        backup_duration_s=state.survey.backup_duration_s,
        # An archive that is not there, or that nothing can be restored from, promises nothing.
        archive_timeout_s=archive_timeout_s if state.survey.archived else None,
        archive_delay_s=state.live.archive_delay_s,
    )
    document: dict[str, Any] = {
        "schema_version": judging.SCHEMA_VERSION, "drill_id": state.drill_id, "environment": state.environment,
        "host": state.host, "scenario": state.scenario, "planted": state.planted,
        "started_at": state.started_at.isoformat(), "outage_at": _stamp(state.outage_at),
        "service_at": _stamp(state.service_at), "finished_at": at.isoformat(), "status": judged.status,
        "msg": judged.msg,
        "phases": [
            asdict(each) | {"started_at": each.started_at.isoformat(), "finished_at": each.finished_at.isoformat()}
            for each in state.phases
        ],
        "recovery": _recovery(state), "objectives": asdict(state.objectives), "measured": asdict(measured),
        "checks": checks, "extrapolation": asdict(estimate) if estimate else None, "advice": [], "lessons": None,
        "tear_down": {"status": tear.status, "msg": tear.msg},
        "files": state.files or {"asked": False, "msg": "Nothing was restored with which files could be compared."},
        "attainable": asdict(promised),
    }  # fmt: skip
    document["advice"] = judging.advice(document, promised)
    return judging.read(document, source="drill")


def _stamp(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _recovery(state: State) -> dict[str, Any]:
    """What was restored, or, where nothing was in the end, what was tried."""
    if state.is_recovered and state.chosen:
        chosen = state.chosen
        return {
            "way": chosen.way, "backup_id": chosen.backup_id, "point": _stamp(chosen.point),
            "costs_s": chosen.costs_s, "passed_over": [asdict(each) for each in chosen.passed_over],
        }  # fmt: skip
    return {
        "way": state.way if state.way != "best" else None, "backup_id": None, "point": None, "costs_s": None,
        "passed_over": [asdict(each) for each in state.survey.unusable],
    }  # fmt: skip


def _checks(state: State, tear: Check) -> list[Check]:
    """The checks of the copy, and what else makes a drill red."""
    checks = list(state.checks)
    if state.survey.gap:
        checks.append(Check.breach("archive", state.survey.gap))
    passed_over = state.chosen.passed_over if state.is_recovered and state.chosen else ()
    if passed_over and not state.disaster.newest_bad:
        bad = "; ".join(f"{each.backup_id}: {each.reason.rstrip('.')}" for each in passed_over)
        checks.append(Check.breach("backups", f"Could not be used: {bad}."))
    checks.append(tear)
    if state.failure:
        said = state.failure
        for check in checks:
            if check.status == Status.BREACH:
                said = said.replace(check.msg, f"see {check.name}.")
        checks.append(Check.breach("recovery", said))
    return checks
