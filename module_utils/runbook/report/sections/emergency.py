"""Who is told in an emergency, whether messages reach them, and what is learned from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import gauges
from ansible.module_utils.runbook.report.section import Gauge, Line, Metric, Section, each_step, ended_s, lists
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Step, Value


def _lasting(step: Step) -> dict[str, Value]:
    """When each open review is due: at the end of its day."""
    if "reviews" not in step["figures"] or step["status"] == Status.UNKNOWN:
        return {}
    due = {
        str(each.get("id")): epoch_s(f"{each.get('due')}T23:59:59+00:00")
        for each in lists(step["figures"], "reviews")
        if not each.get("closing")
    }
    return {
        "reviews_due_timestamp_seconds": {review: moment for review, moment in due.items() if moment is not None},
        "reviews_last_check_timestamp_seconds": ended_s(step),
    }


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    if "reviews_last_check_timestamp_seconds" not in facts:
        return []
    due = gauges.by_label(facts, "reviews_due_timestamp_seconds")
    late = "It is overdue; hold it, then close it: docs/howto/emergency.md."
    lines = [
        Line(review, f"due {gauges.day(moment)}", *((Status.BREACH, late) if now_s >= moment else ()))
        for review, moment in sorted(due.items(), key=lambda each: each[1])
    ]
    return lines or [Line("open reviews", "none")]


SECTIONS = (
    Section(modules=("emergency_contact_check",), title="Emergency contacts"),
    Section(modules=("emergency_contact_test",), title="Test messages to emergency contacts"),
    Section(modules=("emergency_contact_confirm",), title="Test messages that arrived"),
    Section(modules=("incident_review",), title="Post-incident review"),
    Section(modules=("incident_review_remind",), title="Reminders of post-incident reviews"),
    Section(
        modules=("incident_review_info",),
        title="Post-incident reviews",
        lasting=each_step(_lasting),
        metrics={
            "reviews_due_timestamp_seconds": Metric("When the open review is due.", "review"),
            "reviews_last_check_timestamp_seconds": Metric("When reviews were last looked at."),
        },
        gauge=Gauge("Post-incident reviews", "reviews.yml", _on_board),
    ),
)
