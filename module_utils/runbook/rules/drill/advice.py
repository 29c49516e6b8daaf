"""What a drill teaches: what is to be changed, the most urgent first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.drill.figures import (
    BETWEEN,
    MOST_TIMES,
    Attainable,
    Objectives,
    in_words,
    is_telling,
    moment,
    split_rto,
)
from ansible.module_utils.runbook.rules.drill.verdict import judge_attainable
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The scenario that makes a backup unusable: to pass it over is what it is about.
_PASSES_OVER = "newest_backup_bad"
#: What shortens a phase.
_SHORTEN = {
    "detect": "let an alert declare the outage instead of a person",
    "decide": "write down beforehand who decides, and which way is taken in which scenario",
    "provision": "keep the target's server ready instead of making it",
    "restore": "restore with more jobs or on a faster disk, make base backups more often, or keep a standby",
    "verify": "verify the tables that the service needs first, and the rest when it runs again",
    "switch": "let clients reach the database by a name or a pooler that one command turns",
    BETWEEN: "take out what the recovery waits for between its phases",
}


def advice(document: Mapping[str, Any], found: Attainable | None = None) -> list[str]:
    """What to change, one sentence each, the most urgent first; nothing for a drill that has nothing to teach.

    :param document: a drill's document; ``advice`` itself is not looked at
    :param found: what the set-up can promise
    """
    objectives = Objectives(**document["objectives"])
    measured = document["measured"]
    said = [*_on_checks(document), *_on_rto(document, objectives)]
    recovery = document.get("recovery") or {}
    lost = measured.get("rpo_s")
    if lost is None:
        if measured["rto_s"] is not None:  # else nothing came back that could tell
            said.append(
                "RPO is unknown: see that the heartbeat is written to the database until the outage (heartbeat.yml),"
                " and that the backup holds its table."
            )
    elif lost > objectives.rpo_s:
        said.append(_on_lost_work(lost, objectives, recovery))
    if found is not None and (check := judge_attainable(objectives, found)).status != Status.OK:
        said.append(f"{check.msg} {_on_no_promise(objectives, found)}")
    skipped = recovery.get("skipped") or []
    if skipped and document["scenario"] != _PASSES_OVER:
        names = ", ".join(str(each["backup_id"]) for each in skipped)
        cost = recovery.get("costs_s")
        price = f", which cost {in_words(cost)} of work" if cost else ""
        said.append(
            f"{names} could not be used{price}: run backup_verify.yml every day, so that a bad"
            " backup is found before it is needed."
        )
    estimate = document.get("extrapolation")
    if estimate and estimate["restore_s"] > objectives.rto_s:
        said.append(_on_production(estimate, measured["database_bytes"], objectives))
    tear_down = document.get("tear_down") or {"status": Status.OK}
    if tear_down["status"] != Status.OK and not _is_said(tear_down["msg"], said):
        said.append(f"What the drill had made is not all gone: {tear_down['msg']}")
    failed = [
        f"Phase {phase['name']} ended {phase['status']}: {phase['msg']}"
        for phase in document["phases"]
        if phase["status"] != Status.OK and phase.get("msg") and not _is_said(phase["msg"], [*said, *_reasons(skipped)])
    ]
    return list(dict.fromkeys([*failed, *said]))


def _on_production(estimate: Mapping[str, Any], database_bytes: int | None, objectives: Objectives) -> str:
    if not is_telling(database_bytes, estimate["production_bytes"]):
        enough = size(estimate["production_bytes"] / MOST_TIMES)
        return f"Restore a copy of at least {enough}, for an estimate of production's restore that tells more."
    return (
        f"At the measured rate, restoring production alone would take {in_words(estimate['restore_s'])}, beyond RTO"
        f" {in_words(objectives.rto_s)} (an estimate): {_SHORTEN['restore']}."
    )


def _on_no_promise(objectives: Objectives, found: Attainable) -> str:
    if objectives.rpo_s == 0:
        return "Or ask for an RPO above zero."
    if found.way == "pitr":
        return "Lower archive_timeout, or ask for an RPO that it can keep."
    return "Point-in-time recovery can promise one of minutes."


def _is_said(text: str | None, said: Iterable[str]) -> bool:
    return any(str(text) in sentence for sentence in said)


def _reasons(skipped: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(each.get("reason") or "") for each in skipped]


def _on_checks(document: Mapping[str, Any]) -> list[str]:
    made = [check for check in document["checks"] if check["status"] != Status.OK]
    made.sort(key=lambda check: check["status"] != Status.BREACH)
    return [
        f"Fix what check {check['name']} found: {check['msg']}"
        if check["status"] == Status.BREACH
        else f"Make check {check['name']} able to judge: {check['msg']}"
        for check in made
    ]


def _on_rto(document: Mapping[str, Any], objectives: Objectives) -> list[str]:
    known = document["measured"].get("rto_s")
    if known is None:
        what = "RTO and RPO are" if document["measured"]["rpo_s"] is None else "RTO is"
        return [f"{what} unknown: the service did not come back verified. Fix what is named above, and drill again."]
    if known <= objectives.rto_s:
        return []
    parts = split_rto(document["phases"], moment(document["outage_at"]), moment(document["service_at"])) or {}
    if not parts:
        return [f"RTO was missed by {in_words(known - objectives.rto_s)}."]
    name = max(parts, key=lambda key: parts[key])
    where = "the pauses between the phases" if name == BETWEEN else f"phase {name}"
    fix = _SHORTEN.get(name, "look at what it waited for")
    missed, took = in_words(known - objectives.rto_s), in_words(parts[name])
    return [f"RTO was missed by {missed}; {where} took longest, {took}: {fix}."]


def _on_lost_work(lost: float, objectives: Objectives, recovery: Mapping[str, Any]) -> str:
    missed = f"RPO {in_words(objectives.rpo_s)} was missed: {in_words(lost)} of work was lost"
    if objectives.rpo_s == 0:
        return f"{missed}. No data loss takes a synchronous standby; a backup always loses the last moments."
    if recovery.get("way") == "dump":
        return f"{missed}. Dumps alone lose everything since the last one: set up point-in-time recovery (pitr.yml)."
    return f"{missed}. See why WAL was not archived in time (pitr.yml, check), and lower archive_timeout."
