"""What the reports show of backups, restores, their proofs, point-in-time recovery and copies of files.

Each module has the same picture: figures, the bytes over time, what was checked, and tables that are folded away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.runbook.report import charts, wording
from ansible.module_utils.runbook.rules.record import short_name

#: Longer tables are in record.json.
MAX_ROWS = 500

#: By module: its title, and the figures that are shown, in this order.
_SHOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "pg_backup": ("Backup", (
        "backup_id", "snapshot_at", "size_bytes", "dump_bytes", "tables", "rows", "duration_s", "rate_bytes_s",
        "hash_s", "hash_coverage", "objects", "bucket", "folder",
    )),
    "pg_backup_verify": ("Verification of the backups", (
        "last_good_backup", "age_s", "size_bytes", "read_bytes", "rate_bytes_s", "waited_s",
    )),
    "pg_restore": ("Restore", (
        "backup_id", "target_database", "snapshot_at", "tables", "rows", "size_bytes", "restored_bytes", "duration_s",
        "rate_bytes_s", "temporary_bytes", "removed_databases",
    )),
    "pg_backup_retention": ("Retention of the backups", (
        "kept", "deleted_objects", "freed_bytes", "aborted_uploads", "newest_proven",
    )),
    "pg_backup_undelete": ("Backups brought back", ("removed_markers",)),
    "pg_pitr": ("Point-in-time recovery", (
        "backup_id", "size_bytes", "oldest_restorable", "newest_restorable", "newest_wal", "newest_wal_age_s",
        "backup_age_s", "ready_segments", "oldest_ready_s", "archive_proof_s", "recovery_point", "recovery_lsn",
        "timeline", "fetch_s", "replay_s", "duration_s", "removed", "restart_required",
    )),
    "s3_bucket_check": ("The bucket of the backups", ()),
    "runbook_doctor": ("What was looked over", ()),
    "supabase_backup_info": ("Supabase's own backups", (
        "project_status", "pitr_enabled", "earliest", "latest", "age_s",
    )),
    "s3_mirror": ("Second copy of files", (
        "source", "destination", "copied_objects", "copied_bytes", "gone_objects", "failed_objects",
        "remaining_objects", "deleted_objects", "duration_s", "rate_bytes_s", "source_versioning", "source_replication",
        "rows", "missing_rows", "recoverable_rows", "orphan_objects", "differing_rows",
    )),
}  # fmt: skip
MODULES = frozenset(_SHOWN)


def of_step(step: Mapping[str, Any]) -> dict[str, Any] | None:
    """One step of one of these modules; None where it has nothing to show."""
    figures = step["figures"]
    title, keys = _SHOWN[short_name(step["module"])]
    named = figures.get("database") or figures.get("target_database")
    shown = [(wording.label(key), wording.figure(key, figures[key])) for key in keys if _tells(key, figures.get(key))]
    found = {
        "title": f"{title}: {named}" if named else title,
        "step": step,
        "grid": shown + _proof_grid(figures.get("proof")) + _last_proof_grid(figures.get("last_proof")),
        "course": course(step),
        "checks": [
            {"name": str(check.get("name")), "status": str(check.get("status")), "msg": str(check.get("msg") or "")}
            for check in (*_list(figures, "checks"), *_list(figures, "findings"))
        ],
        "tables": [found for found in _tables(figures) if found["rows"]],
    }
    return found if any(found[part] for part in ("grid", "course", "checks", "tables")) else None


def _tells(key: str, value: object) -> bool:
    """Whether a figure is worth its place: an empty list is not, nor bytes of which there were none."""
    return value not in (None, "", []) and not ("bytes" in key and value == 0)


def course(step: Mapping[str, Any]) -> dict[str, Any] | None:
    """The bytes over time and their speed, of the progress that came last; None where there were too few samples."""
    samples = [sample for sample in step["progress"] if sample["unit"] == "bytes"]
    # One step may restore first and prove then; each has a course of its own, and the longer one is shown.
    labels = [sample["label"] for sample in samples]
    label = max(labels, key=labels.count, default=None)
    points = [(sample["at_s"], float(sample["done"])) for sample in samples if sample["label"] == label]
    points = [point for index, point in enumerate(points) if index == 0 or point[1] >= points[index - 1][1]]
    if len(points) < 3:
        return None
    points = [(at - points[0][0], done) for at, done in points]
    speeds = charts.rates(points)
    return {
        "label": str(label),
        "done": charts.line(points, wording.size, binary=True),
        "speed": charts.line(speeds, lambda value: f"{wording.size(value)}/s", binary=True)
        if len(speeds) > 2
        else None,
        "points": [(wording.duration(at), wording.size(done)) for at, done in points],
    }


def _list(figures: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = figures.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, Sequence) else []


def _proof_grid(proof: object) -> list[tuple[str, str]]:
    if not isinstance(proof, Mapping):
        return []
    return [
        ("Proof", _proof_word(proof.get("status"))),
        ("Compared", wording.figure("compared", proof.get("compared"))),
        ("Agree", wording.figure("ok", proof.get("ok"))),
    ]


def _last_proof_grid(proof: object) -> list[tuple[str, str]]:
    if not isinstance(proof, Mapping):
        return []
    said = f"{_proof_word(proof.get('status'))}, {wording.moment(proof.get('proven_at'))}"
    return [("Last proof", said), ("Age of the proof", wording.figure("age_s", proof.get("age_s")))]


def _proof_word(status: object) -> str:
    return {"ok": "everything agrees", "breach": "something differs"}.get(str(status), "could not be judged")


def _tables(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables of a step: what the proof found table by table, what retention does, what can be restored, named files."""
    proof = figures.get("proof")
    tables = []
    if isinstance(proof, Mapping):
        reasons = proof.get("reasons") if isinstance(proof.get("reasons"), Mapping) else {}
        judged = [
            [str(name), word, str((reasons or {}).get(name) or wording.NONE)]
            for word, key in (("differs", "differs"), ("unknown", "unknown"))
            for name in proof.get(key) or ()
        ]
        tables.append(_table("Tables that the proof could not confirm", ("Table", "State", "Why"), judged))
    tables.append(
        _table(
            "Backups and what becomes of them",
            ("Backup", "Action", "Why", "Size"),
            [
                [str(each.get("backup_id")), str(each.get("action")), str(each.get("reason") or wording.NONE),
                 wording.figure("size_bytes", each.get("size_bytes"))]
                for each in _list(figures, "plan")
            ],
        )
    )  # fmt: skip
    tables.append(
        _table(
            "What can be restored",
            ("Base backup", "From", "To", "Timeline"),
            [
                [wording.figure(key, each.get(key)) for key in ("backup_id", "start", "end", "timeline")]
                for each in _list(figures, "windows")
            ],
        )
    )
    tables.append(
        _table(
            "Files that were found out",
            ("Kind", "File", "Why"),
            [
                [str(each.get("kind")), str(each.get("name")), str(each.get("error") or wording.NONE)]
                for each in _list(figures, "named")
            ],
        )
    )
    return tables


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {"title": title, "head": head, "rows": rows[:MAX_ROWS], "count": len(rows)}
