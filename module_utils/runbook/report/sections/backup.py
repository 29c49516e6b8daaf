"""Backups: made, verified, kept or deleted, brought back; their proofs, and the bucket that they lie in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import gauges, wording
from ansible.module_utils.runbook.report.section import (
    Gauge,
    Line,
    Listing,
    Metric,
    Section,
    Trend,
    each_step,
    ended_s,
    summed,
    table,
)
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from ansible.module_utils.runbook.report.section import Fact, Figures, Panel, Record, Step, Value


# --- a backup ---------------------------------------------------------------------------------------------------------


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    # Of what was not done there is no figure.
    if not totals.get("backup_bytes"):
        return []
    return [
        ("Backup", wording.size(totals["backup_bytes"])),
        ("Backup took", wording.duration(totals.get("backup_s"))),
    ]


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    totals = host["totals"]
    return [] if planned or "backup_bytes" not in totals else [f"backup of {wording.size(totals['backup_bytes'])}"]


def _rate(totals: Mapping[str, float]) -> float | None:
    amount, seconds = totals.get("dump_bytes"), totals.get("backup_s")
    return amount / seconds if amount is not None and seconds else None


def _made(step: Step) -> dict[str, Value]:
    figures = step["figures"]
    if step["status"] != Status.OK or not figures.get("manifest"):
        return {}
    return {
        "backup_last_good_timestamp_seconds": epoch_s(figures.get("snapshot_at")) or ended_s(step),
        "backup_size_bytes": figures.get("size_bytes"),
        "backup_dump_bytes": figures.get("dump_bytes"),
        "backup_duration_seconds": figures.get("duration_s"),
    }


# --- its proof --------------------------------------------------------------------------------------------------------


def with_proof(panel: Panel, figures: Figures) -> Panel:
    """A panel with what a proof found table by table, or with the last proof that there is."""
    proof, last = figures.get("proof"), figures.get("last_proof")
    facts, tables = list(panel.grid), list(panel.tables)
    if isinstance(proof, Mapping):
        facts += [
            ("Proof", _word(proof.get("status"))),
            ("Compared", wording.figure("compared", proof.get("compared"))),
            ("Agree", wording.figure("ok", proof.get("ok"))),
        ]
        reasons = proof.get("reasons") or {}
        doubtful = [
            {"table": name, "state": state, "why": reasons.get(name) or wording.NONE}
            for state in ("differs", "unknown")
            for name in proof.get(state) or ()
        ]
        if doubtful:
            head = {"table": "Table", "state": "State", "why": "Why"}
            tables.insert(0, table("Tables that the proof could not confirm", doubtful, head))
    if isinstance(last, Mapping):
        facts += [
            ("Last proof", f"{_word(last.get('status'))}, {wording.moment(last.get('proven_at'))}"),
            ("Age of the proof", wording.figure("age_s", last.get("age_s"))),
        ]
    return replace(panel, grid=facts, tables=tables)


def _word(status: object) -> str:
    said: dict[str, str] = {Status.OK: "everything agrees", Status.BREACH: "something differs"}
    return said.get(str(status), "could not be judged")


def proven(status: object, at_s: float | None) -> dict[str, Value]:
    """A proof that failed says so, and leaves the time of the last good one as it was."""
    good: dict[str, Value] = {"backup_last_proof_timestamp_seconds": at_s} if status == Status.OK else {}
    return {"backup_last_proof_success": float(status == Status.OK), **good}


def _verified(step: Step) -> dict[str, Value]:
    proof = step["figures"].get("last_proof")
    return {
        "backup_last_good_timestamp_seconds": epoch_s(step["figures"].get("last_good_backup")),
        **(proven(proof.get("status"), epoch_s(proof.get("proven_at"))) if isinstance(proof, Mapping) else {}),
    }


# --- on the board -----------------------------------------------------------------------------------------------------

#: As monitoring/alerts/backups.yml has them: a daily backup, a weekly proof.
_MOST_AGE_S = 26 * 3600.0
_MOST_PROOF_AGE_S = 8 * gauges.DAY_S
_PROVE = "backup_verify.yml -e backup_verify_proof=true"


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    newest = gauges.age(
        facts,
        "backup_last_good_timestamp_seconds",
        now_s,
        "newest backup",
        most_s=_MOST_AGE_S,
        late="Back it up now.",
        fix="backup.yml",
    )
    if not newest:
        return []
    proof = gauges.age(
        facts, "backup_last_proof_timestamp_seconds", now_s, "last proof", most_s=_MOST_PROOF_AGE_S,
        late="Prove one.", fix=_PROVE,
    )  # fmt: skip
    if facts.get("backup_last_proof_success") == 0:
        proof = [
            Line("last proof", "failed", Status.BREACH, "What was restored differs from its source; see its report.")
        ]
    elif not proof:
        proof = [
            Line("last proof", "never", Status.UNKNOWN,
                 "No backup was ever restored as a proof; prove one.", fix=_PROVE)
        ]  # fmt: skip
    return [*newest, *proof]


SECTIONS = (
    Section(
        modules=("pg_backup",),
        title="Backup",
        figures=(
            "backup_id", "snapshot_at", "size_bytes", "dump_bytes", "tables", "rows", "duration_s", "rate_bytes_s",
            "hash_s", "hash_coverage", "objects", "bucket", "folder",
        ),
        # A backup that failed has no size, and would look like a small one.
        totals=summed("dump_bytes", backup_bytes="size_bytes", backup_s="duration_s", only_good=True),
        headline=_headline,
        did=_did,
        trends=(
            Trend("Backup size", "backup_bytes", wording.size),
            Trend("Backup duration", "backup_s", wording.duration),
            Trend("Backup rate", "backup_rate_bytes_s", lambda value: f"{wording.size(value)}/s", _rate),
        ),
        lasting=each_step(_made),
        metrics={
            "backup_last_good_timestamp_seconds": Metric("Moment whose contents the last good backup holds."),
            "backup_size_bytes": Metric("Size of the last good backup as it is stored."),
            "backup_dump_bytes": Metric("Size of the last good backup before compression."),
            "backup_duration_seconds": Metric("How long the last good backup took."),
        },
        gauge=Gauge("Backups", "backup_verify.yml", _on_board, groups=("databases",)),
    ),
    Section(
        modules=("pg_backup_verify",),
        title="Verification of the backups",
        figures=("last_good_backup", "age_s", "size_bytes", "read_bytes", "rate_bytes_s", "waited_s"),
        more=with_proof,
        lasting=each_step(_verified),
        metrics={
            "backup_last_proof_timestamp_seconds": Metric(
                "When a backup was last restored and found equal to its source."
            ),
            "backup_last_proof_success": Metric("1 if the last proof found everything equal, else 0."),
        },
    ),
    Section(
        modules=("pg_backup_retention",),
        title="Retention of the backups",
        figures=("kept", "deleted_objects", "freed_bytes", "aborted_uploads", "newest_proven"),
        listings=(
            Listing(
                "plan", "Backups and what becomes of them",
                {"backup_id": "Backup", "action": "Action", "reason": "Why", "size_bytes": "Size"},
            ),
        ),
    ),
    Section(modules=("pg_backup_undelete",), title="Backups brought back", figures=("removed_markers",)),
    Section(
        modules=("s3_bucket_check",),
        title="The bucket of the backups",
        listings=(
            Listing("plan", "Settings that change", {"setting": "Setting", "now": "Is", "wanted": "Is to be"}),
        ),
    ),
)  # fmt: skip
