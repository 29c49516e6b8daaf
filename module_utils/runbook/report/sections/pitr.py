"""Recovery to a point in time: base backups, the WAL archive, and what can be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import gauges
from ansible.module_utils.runbook.report.section import Gauge, Line, Listing, Metric, Section, each_step, ended_s
from ansible.module_utils.runbook.rules.record import epoch_s, short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Step, Value


def _lasting(step: Step) -> dict[str, Value]:
    figures, at_s = step["figures"], ended_s(step)
    # Only a look at the archive knows of gaps, and one that was refused knows nothing.
    if short_name(step["module"]) != "pg_pitr_check" or "checks" not in figures:
        return {}
    age_s = figures.get("backup_age_s")
    return {
        "pitr_last_check_timestamp_seconds": at_s,
        "pitr_oldest_restorable_timestamp_seconds": epoch_s(figures.get("oldest_restorable")),
        "pitr_newest_restorable_timestamp_seconds": epoch_s(figures.get("newest_restorable")),
        "pitr_last_base_backup_timestamp_seconds": None if at_s is None or age_s is None else at_s - age_s,
        "pitr_oldest_ready_seconds": figures.get("oldest_ready_s"),
        "pitr_gaps": float(len(figures.get("gaps") or ())),
    }


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    """As monitoring/alerts/backups.yml judges it."""
    lines = gauges.age(
        facts, "pitr_newest_restorable_timestamp_seconds", now_s, "newest restorable", most_s=26 * 3600,
        late="Nothing newer was archived; see the report of the check.",
    ) + gauges.age(
        facts, "pitr_last_base_backup_timestamp_seconds", now_s, "base backup", most_s=8 * gauges.DAY_S,
        late="Make a base backup.", fix="pitr.yml -e pitr_action=backup",
    )  # fmt: skip
    if facts.get("pitr_gaps"):
        lines.append(
            Line("gaps", count(facts["pitr_gaps"], "gap"), Status.BREACH, "Make a base backup; see the report.")
        )
    return lines


SECTIONS = (
    Section(
        modules=(
            "pg_pitr_setup", "pg_pitr_backup", "pg_pitr_check", "pg_pitr_restore", "pg_pitr_discard",
            "pg_pitr_retention",
        ),
        title="Point-in-time recovery",
        figures=(
            "backup_id", "size_bytes", "oldest_restorable", "newest_restorable", "newest_wal", "newest_wal_age_s",
            "backup_age_s", "ready_segments", "oldest_ready_s", "archive_proof_s", "recovery_point", "recovery_lsn",
            "timeline", "fetch_s", "replay_s", "duration_s", "removed", "aborted_uploads", "restart_required",
        ),
        listings=(
            Listing(
                "windows", "What can be restored",
                {"backup_id": "Base backup", "start": "From", "end": "To", "timeline": "Timeline"},
            ),
        ),
        lasting=each_step(_lasting),
        metrics={
            "pitr_last_check_timestamp_seconds": Metric(
                "When the archive for point-in-time recovery was last looked at."
            ),
            "pitr_oldest_restorable_timestamp_seconds": Metric("The oldest moment that can be restored."),
            "pitr_newest_restorable_timestamp_seconds": Metric(
                "When the newest segment that a restore reaches was archived."
            ),
            "pitr_last_base_backup_timestamp_seconds": Metric("When the newest base backup was made."),
            "pitr_oldest_ready_seconds": Metric(
                "How long the oldest segment had waited to be archived when it was looked at."
            ),
            "pitr_gaps": Metric("Gaps in the archive."),
        },
        gauge=Gauge("Point-in-time recovery", "pitr.yml", _on_board, is_optional=True),
    ),
)  # fmt: skip
