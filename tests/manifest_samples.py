"""A manifest as pg_backup writes it, made without a backup."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.runbook.rules.backup.manifest import (
    HashInfo,
    LargeObjects,
    Manifest,
    Object,
    Source,
    TableEntry,
    Tools,
)

METHOD = "dumped-hash64-sum"


def manifest(**changes: Any) -> Manifest:
    """A backup of two tables."""
    backup = "2026-11-23T03-00-00Z"
    folder = f"production/app/{backup}/"
    said: dict[str, Any] = {
        "schema_version": 1,
        "backup_id": backup,
        "kind": "logical",
        "started_at": "2026-11-23T03:00:00+00:00",
        "finished_at": "2026-11-23T03:01:00+00:00",
        "duration_s": 60.0,
        "source": Source(
            "1", "app", "15.4", 150004, "UTF8", "C", "C", "libc", None, "app", "2026-11-23T03:00:01+00:00", None, 1000
        ),
        "tools": Tools("15.4", "0.1.0", "zstd:1", "none"),
        "roles": ("app",),
        "extensions": (),
        "objects": (
            Object(folder + "schema.dump.zst", "schema", 0, 0, 10, "00", None),
            Object(folder + "data-00.dump.zst", "data", 0, 0, 20, "11", None),
        ),
        "tables": (TableEntry("public", "a", 3, "111", 8192), TableEntry("public", "b", 0, "0", 0)),
        "large_objects": LargeObjects(0, "0"),
        "hash": HashInfo(METHOD, "all", "probe"),
        "dump_bytes": 100,
        "sequences": (),
    }
    return Manifest(**(said | changes))
