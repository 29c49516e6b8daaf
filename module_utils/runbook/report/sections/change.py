"""A change: what was opened, told and ended around the work, in the order of time, and what its checklists needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report.section import Panel, Section, Table, checks
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.report.section import Fact, Record, Step

_MODULES = (
    "change_open", "change_ticket", "change_status_page", "change_notice", "change_contacts", "change_silence",
    "maintenance_mode", "change_probe", "change_soak", "change_error_logs", "change_check", "change_left_info",
    "change_close",
)  # fmt: skip


def _panels(steps: Sequence[Step], *_: object) -> list[Panel]:
    rows = [
        (to_second(step["started_at"])[11:], step["task"], str(step["status"]), step["msg"])
        for step in sorted(steps, key=lambda step: str(step["started_at"]))
    ]
    timeline = Table(
        "Timeline", [("UTC", ""), ("Step", ""), ("Status", "state"), ("What became of it", "")], rows, is_open=True
    )
    checked = [step for step in steps if short_name(step["module"]) == "change_check"]
    answers: list[dict[str, Any]] = checked[-1]["figures"].get("items") or [] if checked else []
    proofs = Table(
        "Items and their proof",
        [("Item", ""), ("Status", "state"), ("Proof", "")],
        [(each["name"], each["status"], each["proof"] or each["msg"]) for each in answers],
        is_open=True,
    )
    needed = [check for step in checked[-1:] for check in checks(step["figures"])]
    return [Panel("The change", checks=needed, tables=[table for table in (timeline, proofs) if table.rows])]


def _headline(record: Record) -> list[Fact]:
    found = [
        step["figures"]["ticket_id"]
        for of_host in record["hosts"].values()
        for step in of_host["steps"]
        if step["figures"].get("ticket_id") and short_name(step["module"]) == "change_ticket"
    ]
    return [("Ticket", found[-1])] if found else []


SECTIONS = (Section(modules=_MODULES, panels=_panels, around=True, work_of="change_close", headline=_headline),)
