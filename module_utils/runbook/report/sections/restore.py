"""Backups that were restored, with the proof of what came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import Listing, Section, each_step, ended_s, summed
from ansible.module_utils.runbook.report.sections.backup import proven, with_proof
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from ansible.module_utils.runbook.report.section import Fact, Record, Step, Value


def _headline(record: Record) -> list[Fact]:
    restored = record["totals"].get("restored_bytes")
    return [("Restored", wording.size(restored))] if restored else []


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    restored = host["totals"].get("restored_bytes")
    return [f"{wording.size(restored)} restored"] if restored and not planned else []


def _proven(step: Step) -> dict[str, Value]:
    # Only a proof that was written beside the backup is one of this host's backup.
    proof = step["figures"].get("proof")
    if not step["figures"].get("proof_key") or not isinstance(proof, Mapping):
        return {}
    return proven(proof.get("status"), ended_s(step))


def _dropped(steps: Sequence[Step]) -> dict[str, float]:
    names = [name for step in steps for name in step["figures"].get("removed_databases") or ()]
    return {"dropped_copies": float(len(names))} if names else {}


def _did_drop(host: Mapping[str, Any], planned: bool) -> list[str]:
    dropped = host["totals"].get("dropped_copies")
    if not dropped:
        return []
    copies = count(dropped, "copy", "copies")
    return [f"would drop {copies} of the database" if planned else f"{copies} of the database dropped"]


SECTIONS = (
    Section(
        modules=("pg_restore", "pg_restore_project"),
        title="Restore",
        figures=(
            "backup_id", "target_database", "snapshot_at", "tables", "rows", "size_bytes", "restored_bytes",
            "duration_s", "rate_bytes_s", "temporary_bytes", "removed_databases",
        ),
        more=with_proof,
        totals=summed("restored_bytes"),
        headline=_headline,
        did=_did,
        lasting=each_step(_proven),
    ),
    Section(
        modules=("pg_copy_cleanup",),
        title="Copies of the database",
        figures=("removed_databases", "waiting_databases"),
        totals=_dropped,
        did=_did_drop,
        listings=(
            Listing(
                "copies", "On the server",
                {"name": "Database", "state": "State", "owner": "Owner", "size_bytes": "Size", "age_days": "Age (days)",
                 "action": "Action", "why": "Why"},
            ),
        ),
    ),
)  # fmt: skip
