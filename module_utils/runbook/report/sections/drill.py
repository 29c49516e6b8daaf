"""Disaster-recovery drills: pages of their own, and the figures that monitoring keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.report import drill, gauges, wording
from ansible.module_utils.runbook.report.section import (
    Gauge,
    Line,
    Metric,
    Page,
    Panel,
    Section,
    each_step,
    ended_s,
    grid,
)
from ansible.module_utils.runbook.rules.board.index import number
from ansible.module_utils.runbook.rules.drill import documents
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Record, Step, Value

#: What Prometheus keeps for a figure that nobody knows; it is neither above a limit nor below it.
_UNKNOWN = float("nan")


def _panels(steps: Sequence[Step], *_: object) -> list[Panel]:
    """One for all steps: each tells the state of the same drill, the last one knows most."""
    figures: dict[str, Any] = {}
    for step in steps:
        figures |= step["figures"]
    shown = [key for key in figures if key not in ("drill", "executed_queries", "status")]
    return [Panel("Disaster-recovery drill", steps[-1]["msg"], grid(figures, shown))]


def _did(host: Mapping[str, Any], _planned: bool) -> list[str]:
    return drill.summary(host)


def _pages(record: Record, history: Sequence[Mapping[str, Any]]) -> list[Page]:
    shown = drill.page(record, history)
    if shown is None:
        return []
    link = f"The report of the {'drill' if len(shown['drills']) == 1 else 'drills'}"
    return [
        Page("drill.html", template="drill.html.j2", shown=shown, styles=("report.css", "drill.css"), link=link),
        Page("drill.md", template="drill.md.j2", shown=shown),
    ]


def _lasting(step: Step) -> dict[str, Value]:
    """A drill with an injected fault has to fail, and says nothing about the backups."""
    try:
        document = documents.read(step["figures"].get("drill"), source="drill")
    except RunbookError:
        return {}
    if document["injected"]:
        return {}
    at_s = epoch_s(document["finished_at"]) or ended_s(step)
    good = document["status"] == Status.OK
    measured = {key: document["measured"][key] for key in ("rto_s", "rpo_s")}
    return {
        "drill_last_timestamp_seconds": at_s,
        "drill_last_success": float(good),
        # Not left out, or an earlier drill's figure would stand for this one's.
        "drill_last_rto_seconds": _UNKNOWN if measured["rto_s"] is None else measured["rto_s"],
        "drill_last_rpo_seconds": _UNKNOWN if measured["rpo_s"] is None else measured["rpo_s"],
        "drill_rto_objective_seconds": document["objectives"]["rto_s"],
        "drill_rpo_objective_seconds": document["objectives"]["rpo_s"],
    } | ({"drill_last_success_timestamp_seconds": at_s} if good else {})


#: As monitoring/alerts/drills.yml has it: a quarter, and two weeks.
_MOST_AGE_S = (92 + 14) * gauges.DAY_S


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    held = gauges.age(
        facts,
        "drill_last_timestamp_seconds",
        now_s,
        "last drill",
        most_s=_MOST_AGE_S,
        late="Announce and hold the next.",
    )
    lines = []
    for name, title in (("rto", "RTO"), ("rpo", "RPO")):
        found, most = (
            number(facts.get(f"drill_last_{name}_seconds")),
            number(facts.get(f"drill_{name}_objective_seconds")),
        )
        if held and (found is None or found != found):  # noqa: PLR0124 - that is what is no number
            lines.append(Line(title, "unknown", Status.UNKNOWN, "The drill could not measure it; see its report."))
        elif found is not None and most is not None:
            text = f"{wording.duration(found)} of {wording.duration(most)}"
            missed = Line(title, text, Status.BREACH, "The drill missed its objective; see its lessons.")
            lines.append(missed if found > most else Line(title, text, share=1 - found / most if most else None))
    if held and facts.get("drill_last_success") == 0 and all(each.status == Status.OK for each in lines):
        lines.append(Line("checks", "not all ok", Status.BREACH, "A check of the drill was not ok; see its report."))
    return [*lines, *held]


SECTIONS = (
    Section(
        modules=(
            "dr_drill_begin", "dr_drill_outage", "dr_drill_decide", "dr_drill_verify", "dr_drill_tear_down",
            "dr_drill_judge", "dr_drill_skip",
        ),
        panels=_panels,
        did=_did,
        # What a drill backed up and restored is beside the point; its page tells.
        covers=("pg_backup", "pg_restore", "s3_mirror"),
        pages=_pages,
        notes=lambda record: drill.documents(record)[1],
        kept=lambda record: {"drills": drill.points(record)},
        lasting=each_step(_lasting),
        metrics={
            "drill_last_timestamp_seconds": Metric(
                "When the last disaster-recovery drill without an injected fault ended."
            ),
            "drill_last_success": Metric("1 if that drill met its objectives and every check was ok, else 0."),
            "drill_last_rto_seconds": Metric(
                "Time from the outage to the verified service in that drill; NaN if unknown."
            ),
            "drill_last_rpo_seconds": Metric("Acknowledged work that was lost in that drill; NaN if unknown."),
            "drill_rto_objective_seconds": Metric("Recovery time objective of that drill."),
            "drill_rpo_objective_seconds": Metric("Recovery point objective of that drill."),
            "drill_last_success_timestamp_seconds": Metric("When the last drill that was passed ended."),
        },
        gauge=Gauge("Recovery drill", "dr_drill.yml", _on_board),
    ),
)  # fmt: skip
