"""Whether a drill was passed: its objectives are met, and every check is ok.

What was not measured is ``unknown``, and a drill with an unknown is as red as one with a breach.

>>> judge(Objectives(14_400, 3600), Measured(rto_s=52.0, rpo_s=0.4), []).status
<Status.OK: 'ok'>
>>> judge(Objectives(14_400, 3600), Measured(rto_s=52.0, rpo_s=None), []).status
<Status.UNKNOWN: 'unknown'>
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.drill.figures import Attainable, Measured, Objectives, in_words
from ansible.module_utils.runbook.rules.status import Check, Status, worst
from ansible.module_utils.runbook.rules.words import all_ok, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Judgement:
    """The drill's ``status``, one sentence, and each objective as a check of its own (``rto``, ``rpo``)."""

    status: str
    msg: str
    objectives: tuple[Check, ...]


def judge(
    objectives: Objectives,
    measured: Measured,
    checks: Iterable[Mapping[str, Any]],
    *,
    elapsed_s: float | None = None,
) -> Judgement:
    """Say whether a drill was passed: both objectives met, and every check ok.

    :param checks: ``checks`` of a drill's document: ``name``, ``status``, ``msg``
    :param elapsed_s: seconds since the outage while the service is not back; beyond the objective that is a breach,
        before it nobody knows
    """
    made = [Check(str(each["name"]), Status(each["status"]), str(each.get("msg") or "")) for each in checks]
    judged = (_judge_rto(objectives, measured.rto_s, elapsed_s), _judge_rpo(objectives, measured))
    bad = [check for check in (*judged, *made) if check.status != Status.OK]
    if not bad:
        more = f" {all_ok(len(made))}" if made else ""
        return Judgement(Status.OK, f"{judged[0].msg} {judged[1].msg}{more}", judged)
    bad.sort(key=lambda check: check.status != Status.BREACH)
    named = (f"{check.name} ({check.status}): {check.msg}" for check in bad)
    said = " ".join(text if text.endswith(".") else f"{text}." for text in named)
    return Judgement(worst(each.status for each in (*judged, *made)), said, judged)


def _judge_rto(objectives: Objectives, known: float | None, elapsed_s: float | None) -> Check:
    asked = f"RTO {in_words(objectives.rto_s)}"
    if known is not None:
        met = known <= objectives.rto_s
        verb = "was back, verified," if met else "was back and verified only"
        status = Status.OK if met else Status.BREACH
        return Check("rto", status, f"The service {verb} after {in_words(known)} ({asked}).")
    if elapsed_s is not None and elapsed_s > objectives.rto_s:
        return Check.breach("rto", f"The service was not back after {in_words(elapsed_s)} ({asked}).")
    return Check.unknown(
        "rto", f"The service did not come back verified, so its time to recovery is unknown ({asked})."
    )


def _judge_rpo(objectives: Objectives, measured: Measured) -> Check:
    asked = f"RPO {in_words(objectives.rpo_s)}" if objectives.rpo_s else "RPO 0, no data loss"
    if measured.rpo_s is None:
        lost = "It is unknown"
        if measured.lost_rows:
            lost = f"{count(measured.lost_rows, 'acknowledged commit is', 'acknowledged commits are')} lost, and"
        tail = "the span that they cover is unknown" if measured.lost_rows else "how much was lost"
        return Check.unknown("rpo", f"{lost} {tail} ({asked}).")
    commits = "" if measured.lost_rows is None else f", {count(measured.lost_rows, 'commit')},"
    if measured.rpo_s > objectives.rpo_s:
        return Check.breach("rpo", f"{in_words(measured.rpo_s)} of acknowledged work{commits} was lost ({asked}).")
    if measured.rpo_s == 0 and not measured.lost_rows:
        return Check.ok("rpo", f"Nothing that was acknowledged was lost ({asked}).")
    lost = in_words(measured.rpo_s)
    return Check.ok("rpo", f"{lost} of acknowledged work{commits} was lost, as was allowed ({asked}).")


def judge_attainable(objectives: Objectives, found: Attainable) -> Check:
    """Whether the set-up can promise the RPO, though a lucky drill may have met it, or an unlucky one missed it."""
    asked = in_words(objectives.rpo_s) if objectives.rpo_s else "0 (no data loss)"
    if found.rpo_s is not None and found.rpo_s <= objectives.rpo_s:
        return Check.ok("attainable RPO", f"{found.msg} RPO {asked} can be promised.")
    if objectives.rpo_s == 0:
        return Check.breach(
            "attainable RPO",
            f"{found.msg} No backup can promise RPO {asked}: that takes a synchronous standby.",
        )
    return Check.breach("attainable RPO", f"{found.msg} RPO {asked} cannot be promised.")
