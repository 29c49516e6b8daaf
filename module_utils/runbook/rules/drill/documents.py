"""The document of a drill, made of what its acts noted."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.drill import figures, verdict
from ansible.module_utils.runbook.rules.drill.advice import advice
from ansible.module_utils.runbook.rules.drill.figures import Objectives, moment
from ansible.module_utils.runbook.rules.status import Check, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ansible.module_utils.runbook.rules.drill.state import State

SCHEMA_VERSION = 1
_TEXT, _NUMBER, _LIST, _DICT = (str,), (int, float), (list,), (dict,)
_MAYBE = (type(None),)
#: Keys of a document, and of its parts, with their types; a part that is a list has the keys of one entry.
_KEYS: dict[str, tuple[type, ...]] = {
    "schema_version": (int,), "drill_id": _TEXT, "environment": _TEXT, "host": _TEXT, "scenario": _TEXT,
    "injected": _TEXT + _MAYBE, "started_at": _TEXT, "outage_at": _TEXT + _MAYBE, "service_at": _TEXT + _MAYBE,
    "finished_at": _TEXT + _MAYBE, "status": _TEXT, "msg": _TEXT, "phases": _LIST, "recovery": _DICT + _MAYBE,
    "objectives": _DICT, "measured": _DICT, "checks": _LIST, "extrapolation": _DICT + _MAYBE, "advice": _LIST,
    "lessons": _DICT + _MAYBE, "tear_down": _DICT + _MAYBE,
}  # fmt: skip
_PART_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "phases": {
        "name": _TEXT, "started_at": _TEXT, "finished_at": _TEXT + _MAYBE, "duration_s": _NUMBER + _MAYBE,
        "status": _TEXT, "msg": _TEXT + _MAYBE,
    },
    "recovery": {
        "way": _TEXT + _MAYBE, "backup_id": _TEXT + _MAYBE, "point": _TEXT + _MAYBE, "skipped": _LIST,
        "costs_s": _NUMBER + _MAYBE,
    },
    "objectives": {"rto_s": _NUMBER, "rpo_s": _NUMBER},
    "measured": {
        "rto_s": _NUMBER + _MAYBE, "rpo_s": _NUMBER + _MAYBE, "acknowledged_rows": (int, *_MAYBE),
        "surviving_rows": (int, *_MAYBE), "lost_rows": (int, *_MAYBE), "database_bytes": (int, *_MAYBE),
    },
    "checks": {"name": _TEXT, "status": _TEXT, "msg": _TEXT + _MAYBE},
    "extrapolation": {
        "production_bytes": (int,), "rate_bytes_per_s": _NUMBER, "restore_s": _NUMBER, "msg": _TEXT,
    },
    "lessons": {"path": _TEXT + _MAYBE, "missing": _LIST},
    "tear_down": {"status": _TEXT, "msg": _TEXT + _MAYBE},
    "files": {"asked": (bool,), "msg": _TEXT},
    "attainable": {"way": _TEXT + _MAYBE, "rpo_s": _NUMBER + _MAYBE, "msg": _TEXT},
}  # fmt: skip
_SKIPPED_KEYS = {"backup_id": _TEXT, "reason": _TEXT}
_STATUSES = tuple(Status)
_TIMES = ("started_at", "outage_at", "service_at", "finished_at")


def make(
    state: State,
    at: datetime,
    *,
    backup_interval_s: float | None,
    archive_timeout_s: float,
    production_bytes: int | None,
) -> dict[str, Any]:
    """All that a drill found, as :func:`read` reads it.

    :param at: the moment at which it is judged
    :param backup_interval_s: from one dump to the next; None: there are none
    :param archive_timeout_s: the live server's setting
    :param production_bytes: production's size; None: that of the live database
    """
    measured = replace(state.measured, rto_s=figures.rto_s(state.outage_at, state.service_at))
    if not state.is_recovered:
        measured = replace(measured, rpo_s=None)
    tear = state.tear_down or Check.unknown("tear_down", "It was not reached.")
    checks = [each.result() for each in _checks(state, tear)]
    elapsed_s = (at - state.outage_at).total_seconds() if state.outage_at and not state.is_recovered else None
    judged = verdict.judge(state.objectives, measured, checks, elapsed_s=elapsed_s)
    spent = [each.duration_s for each in state.phases if each.name == "restore" and each.status == Status.OK]
    estimate = figures.extrapolate(
        measured.database_bytes, spent[-1] if spent and state.is_recovered else None,
        production_bytes or state.live.size_bytes,
    )  # fmt: skip
    promised = figures.attainable(
        backup_interval_s=backup_interval_s,
        backup_duration_s=state.survey.backup_duration_s,
        # An archive that is not there, or that nothing can be restored from, promises nothing.
        archive_timeout_s=archive_timeout_s if state.survey.archived else None,
        archive_delay_s=state.live.archive_delay_s,
    )
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "drill_id": state.drill_id, "environment": state.environment,
        "host": state.host, "scenario": state.scenario, "injected": state.injected,
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
    document["advice"] = advice(document, promised)
    return read(document, source="drill")


def _stamp(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _recovery(state: State) -> dict[str, Any]:
    """What was restored, or, where nothing was in the end, what was tried."""
    if state.is_recovered and state.chosen:
        chosen = state.chosen
        return {
            "way": chosen.way, "backup_id": chosen.backup_id, "point": _stamp(chosen.point),
            "costs_s": chosen.costs_s, "skipped": [asdict(each) for each in chosen.skipped],
        }  # fmt: skip
    return {
        "way": state.way if state.way != "best" else None, "backup_id": None, "point": None, "costs_s": None,
        "skipped": [asdict(each) for each in state.survey.unusable],
    }  # fmt: skip


def _checks(state: State, tear: Check) -> list[Check]:
    """The checks of the copy, and what else makes a drill red."""
    checks = list(state.checks)
    if state.survey.gap:
        checks.append(Check.breach("archive", state.survey.gap))
    skipped = state.chosen.skipped if state.is_recovered and state.chosen else ()
    if skipped and not state.disaster.newest_bad:
        bad = "; ".join(f"{each.backup_id}: {each.reason.rstrip('.')}" for each in skipped)
        checks.append(Check.breach("backups", f"Could not be used: {bad}."))
    checks.append(tear)
    if state.failure:
        said = state.failure
        for check in checks:
            if check.status == Status.BREACH:
                said = said.replace(check.msg, f"see {check.name}.")
        checks.append(Check.breach("recovery", said))
    return checks


def read(found: object, *, source: str) -> dict[str, Any]:
    """A drill's document, as it was parsed from a file or came with a result. Keys that nobody knows are let through.

    :param source: what an error calls it
    :raises RunbookError: it is no such document, or another version's; the sentence names the key
    """
    if not isinstance(found, dict):
        raise RunbookError(f"{source}: not a drill's document; move the file away.")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise RunbookError(
            f"{source}: schema_version is {found.get('schema_version')!r}, and {SCHEMA_VERSION} is known here; move the"
            " file away, or read it with the version that wrote it."
        )
    _hold(found, _KEYS, "", source)
    for part, keys in _PART_KEYS.items():
        inside = found.get(part)  # attainable and files came later, and may be missing
        for number, entry in enumerate(inside if isinstance(inside, list) else [inside]):
            if entry is not None:
                _hold(entry, keys, f"{part}[{number}]." if isinstance(inside, list) else f"{part}.", source)
    for number, entry in enumerate((found["recovery"] or {}).get("skipped", [])):
        _hold(entry, _SKIPPED_KEYS, f"recovery.skipped[{number}].", source)
    for key in _TIMES:
        if found[key] is not None and moment(found[key]) is None:
            raise RunbookError(f"{source}: {key} is {found[key]!r}, not a time with its zone; the document is damaged.")
    Objectives(**{key: found["objectives"][key] for key in ("rto_s", "rpo_s")})
    return found


def _hold(found: object, keys: Mapping[str, tuple[type, ...]], where: str, source: str) -> None:
    if not isinstance(found, dict):
        raise RunbookError(f"{source}: {where.rstrip('.')} is no mapping; the document is damaged.")
    for key, types in keys.items():
        if key not in found:
            raise RunbookError(f"{source}: {where}{key} is missing; the document is damaged.")
        value = found[key]
        strange = (isinstance(value, bool) and bool not in types) or (
            isinstance(value, float) and not math.isfinite(value)
        )
        if strange or not isinstance(value, types):
            raise RunbookError(f"{source}: {where}{key} is {value!r}; the document is damaged.")
        if key == "status" and value not in _STATUSES:
            raise RunbookError(f"{source}: {where}{key} is {value!r}, none of {', '.join(_STATUSES)}.")
