"""Rolling a database back: the plan, what it would lose table by table, and how the copy differs from the live one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.module_utils.runbook.report.section import Listing, Section, lists
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from ansible.module_utils.runbook.report.section import Step

#: Tables that a sentence names; the report has a table of all.
_NAMED = 5


def _attention(step: Step) -> list[str]:
    """Rows that the rollback loses, and tables of which nobody knows; with the command that loses them."""
    figures = step["figures"]
    lost = sorted(
        (each for each in lists(figures, "losses") if each.get("newer_rows")), key=lambda each: -each["newer_rows"]
    )
    unknown = [str(name) for name in figures.get("unknown_tables") or ()]
    if not lost and not unknown:
        return []
    said = []
    if lost:
        least = "At least " if unknown or any(each.get("at_least") for each in lost) else ""
        named = _listed([f"{each['table']} {each['newer_rows']:,}" for each in lost])
        rows = count(sum(each["newer_rows"] for each in lost), "row is", "rows are")
        said.append(f"{least}{rows} newer than that point, and the rollback loses them: {named}.")
    if unknown:
        said.append(f"What it loses is not known of {count(len(unknown), 'table')}: {_listed(unknown)}.")
    if figures.get("next_step"):
        said.append(f"{figures['next_step']}.")
    return [" ".join(said)]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


SECTIONS = (
    Section(
        modules=(
            "pg_rollback_plan", "pg_rollback_compare", "pg_rollback_take_lease", "pg_rollback_remove_copies",
        ),
        title="Rollback",
        figures=(
            "method", "point", "window_s", "archive_reaches", "backup_id", "copy", "is_ready", "replacement",
            "previous", "newer_rows", "database_bytes", "cluster_bytes", "free_bytes", "restore_path", "copies_prefix",
            "differing", "removed_objects", "next_step", "duration_s",
        ),
        listings=(
            Listing("losses", "What would be lost, table by table", {
                "table": "Table", "rows": "Rows", "newer_rows": "Newer than the point", "at_least": "Or more",
                "evidence": "Known by", "columns": "Columns", "reason": "Why not known",
            }),
            Listing("differences", "The live database and the copy, table by table", {
                "table": "Table", "status": "State", "live_rows": "Rows, live", "copy_rows": "Rows, copy",
                "reason": "Why not known",
            }),
        ),
        attention=_attention,
    ),
)  # fmt: skip
