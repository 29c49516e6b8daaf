"""A change: what was opened, told and ended around the work, in the order of time, and what its checklists needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.report.section import Panel, Section, Table, lists
from ansible.module_utils.runbook.rules.change.checklist import LINES, PHASES
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.report.section import Fact, Record, Step

_MODULES = (
    "change_open", "change_ticket", "change_status_page", "change_notice", "change_contacts", "change_silence",
    "maintenance_mode", "change_probe", "change_soak", "change_error_logs", "change_steps", "change_check",
    "change_left_info", "change_close",
)  # fmt: skip


def _panels(steps: Sequence[Step], *_: object) -> list[Panel]:
    rows = [
        (to_second(step["started_at"])[11:], step["task"], str(step["status"]), step["msg"])
        for step in sorted(steps, key=lambda step: str(step["started_at"]))
    ]
    timeline = Table(
        "Timeline", [("UTC", ""), ("Step", ""), ("Status", "state"), ("What became of it", "")], rows, is_open=True
    )
    return [Panel("The change", tables=[table for table in (*_checklists(steps), timeline) if table.rows])]


def _checklists(steps: Sequence[Step]) -> list[Table]:
    """What became of each line, by phase; a line that the run did not come to is unknown."""
    answers: dict[str, tuple[str, str, str]] = {}
    for step in steps:
        figures = step["figures"]
        if figures.get("answers"):
            answers[figures["answers"]] = (str(step["status"]), step["msg"], str(figures.get("proof") or ""))
        if short_name(step["module"]) == "change_open":
            missed = (str(Status.UNKNOWN), "The run did not come to it.", "")
            answers |= dict.fromkeys(figures.get("needs", ()), missed)
            if "rollback_plan" in answers and figures.get("rollback_plan"):
                answers["rollback_plan"] = (str(Status.OK), "The way back is named.", figures["rollback_plan"])
        if short_name(step["module"]) == "change_check":
            answers |= {each["name"]: (each["status"], each["msg"], each["proof"]) for each in lists(figures, "items")}
    # Of a line that each database answers, only the answers count.
    of_hosts = {item.partition(":")[0] for item in answers if ":" in item}
    head = [("Line", ""), ("Status", "state"), ("What became of it", ""), ("Proof", "")]
    tables = []
    for phase, title in PHASES.items():
        rows = [
            (_line(item), *answers[item])
            for name in LINES
            for item in answers
            if LINES[name].phase == phase and item.partition(":")[0] == name and (":" in item or name not in of_hosts)
        ]
        tables.append(Table(title, head, rows, is_open=True))
    return tables


def _line(item: str) -> str:
    name, _, host = item.partition(":")
    return f"{LINES[name].text} ({host})" if host else LINES[name].text


def _headline(record: Record) -> list[Fact]:
    found = [
        step["figures"]["ticket_id"]
        for of_host in record["hosts"].values()
        for step in of_host["steps"]
        if step["figures"].get("ticket_id") and short_name(step["module"]) == "change_ticket"
    ]
    return [("Ticket", found[-1])] if found else []


SECTIONS = (Section(modules=_MODULES, panels=_panels, around=True, work_of="change_close", headline=_headline),)
