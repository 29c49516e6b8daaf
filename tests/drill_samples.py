"""Documents of drills that never were, for the tests of the judgement and of the report, and for looking at it."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.rules.drill.figures import Objectives
from ansible.module_utils.runbook.rules.drill.state import State

#: 2026-03-01 02:00:00 UTC.
START = datetime(2026, 3, 1, 2, tzinfo=UTC)
#: Phase, begin and end in seconds after the outage.
PHASES = (
    ("detect", 0.0, 2.0), ("decide", 2.5, 4.0), ("provision", 4.0, 6.0), ("restore", 6.0, 30.0),
    ("verify", 30.0, 48.0), ("switch", 48.5, 52.0),
)  # fmt: skip


def at(seconds: float) -> str:
    """A time so many seconds after the start."""
    return (START + timedelta(seconds=seconds)).isoformat()


def drill(**changes: Any) -> dict[str, Any]:
    """A green drill by point-in-time recovery; ``changes`` replace its keys, and those of parts that are mappings."""
    found: dict[str, Any] = {
        "schema_version": 1,
        "drill_id": "2026-03-01T02-00-00Z",
        "environment": "sandbox",
        "host": "drill1",
        "scenario": "database_lost",
        "injected": None,
        "started_at": at(-60),
        "outage_at": at(0),
        "service_at": at(52),
        "finished_at": at(60),
        "status": "ok",
        "msg": "The service was back, verified, after 52 s (RTO 4.0 h). 400 ms of acknowledged work was lost.",
        "phases": [
            {
                "name": name, "started_at": at(begun), "finished_at": at(ended), "duration_s": ended - begun,
                "status": "ok", "msg": f"{name} is done.",
            }
            for name, begun, ended in PHASES
        ],
        "recovery": {
            "way": "pitr", "backup_id": "20260301T013000", "point": at(-0.4), "skipped": [], "costs_s": 0.0,
        },
        "objectives": {"rto_s": 14_400, "rpo_s": 3600},
        "measured": {
            "rto_s": 52.0, "rpo_s": 0.4, "acknowledged_rows": 41_200, "surviving_rows": 41_188, "lost_rows": 12,
            "database_bytes": 2_147_483_648,
        },
        "checks": [
            {"name": "tables", "status": "ok", "msg": "21 tables agree with the ledger.", "tables": 21},
            {"name": "sequences", "status": "ok", "msg": "14 sequences are ahead of their columns.", "sequences": 14},
        ],
        "extrapolation": {
            "production_bytes": 214_748_364_800, "rate_bytes_per_s": 89_478_485.3, "restore_s": 2400.0,
            "msg": "Estimate: at the measured 85.3 MiB/s, the 200.0 GiB of production take 40 min to restore.",
        },
        "advice": [],
        "lessons": {"path": "drills/lessons/2026-03-01T02-00-00Z.toml", "missing": []},
        "tear_down": {"status": "ok", "msg": "The target and its folder are gone."},
        "files": {
            "asked": False,
            "msg": "No file storage is named in the inventory, so files were not part of this drill.",
        },
        "attainable": {"way": "pitr", "rpo_s": 60.0, "msg": "Point-in-time recovery loses at most 60 s."},
    }  # fmt: skip
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(found[key], dict):
            found[key] |= value
        else:
            found[key] = value
    return copy.deepcopy(found)


def state(**changes: Any) -> State:
    """A drill that was started and went no further; ``changes`` replace its fields."""
    begun: dict[str, Any] = {
        "drill_id": "2026-03-01T02-00-00Z", "controller": "bastion/4711", "process": "", "environment": "sandbox",
        "host": "drill1", "database": "mental_scribe", "scenario": "database_lost", "way": "best", "injected": None,
        "restore_path": "/nowhere/restore", "started_at": START, "objectives": Objectives(14_400, 3600),
    }  # fmt: skip
    return State(**begun | changes)
