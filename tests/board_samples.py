"""Records and inventories that never were, for the tests of the board and of the evidence, and for looking at them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

#: A Monday.
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)


def stamp(moment: datetime) -> str:
    """As records have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def step(module: str, figures: dict[str, Any], status: str = "ok", msg: str = "", **more: Any) -> dict[str, Any]:
    """A step of a host; its time is filled in by :func:`record`."""
    return {
        "task": more.pop("task", f"Do what {module} does"), "role": None, "module": module,
        "state": "ok" if status == "ok" else "failed", "status": status, "handled": False, "changed": False,
        "started_at": "", "start_s": 0.0, "duration_s": 1.0, "attempts": 1, "msg": msg, "warnings": [],
        "figures": figures, "progress": [],
    } | more  # fmt: skip


def preflight(operation: str, job: str = "", environment: str = "production") -> dict[str, Any]:
    """What preflight said."""
    return step("runbook_preflight", {"environment": environment, "operation": operation, "job": job, "status": "ok"})


def record(
    playbook: str, at: datetime, hosts: dict[str, list[dict[str, Any]]], *, environment: str = "production",
    number: int = 0, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """A record as a run makes it; a host is as bad as its steps."""
    made: dict[str, Any] = {}
    for name, steps in hosts.items():
        statuses = {each["status"] for each in steps}
        status = "failed" if "breach" in statuses else "unknown" if "unknown" in statuses else "ok"
        made[name] = {
            "status": status, "environment": environment, "targets": [], "database": None, "system_identifier": None,
            "server_version": None, "clock_skew_s": None, "changed": False, "duration_s": 60.0,
            "counts": {}, "totals": {}, "steps": [each | {"started_at": stamp(at)} for each in steps],
        }  # fmt: skip
    statuses = {host["status"] for host in made.values()}
    status = "failed" if "failed" in statuses or not made else "unknown" if "unknown" in statuses else "ok"
    verdict = {"ok": "All well.", "failed": "1 of 1 host failed.", "unknown": "Could not be judged."}[status]
    return {
        "schema_version": 1, "run_id": f"{at:%Y%m%dT%H%M%SZ}-{playbook}-{number:06x}", "playbook": playbook,
        "status": status, "verdict": verdict if made else "Nothing was done: no host matched nosuch.",
        "check_mode": False, "diff_mode": False, "interrupted": False, "started_at": stamp(at),
        "ended_at": stamp(at + timedelta(minutes=1)), "last_event_at": stamp(at + timedelta(minutes=1)),
        "duration_s": 60.0, "user": "ops", "controller": "bastion/4711", "inventory": [f"inventories/{environment}"],
        "limit": None, "tags": [], "skip_tags": [], "ansible_version": "2.19.14", "commit": None,
        "environments": [environment], "plays": [{"name": "A play", "hosts": "databases", "matched": True}],
        "hosts": made, "totals": {}, "notes": [], "warnings": [], "errors": [],
    } | more  # fmt: skip


def plan(at: datetime, databases: int = 1, **more: Any) -> dict[str, Any]:
    """What a run knows of its inventory."""
    return {
        "at": stamp(at), "environment": "production", "inventory": "inventories/production",
        "groups": {"databases": [f"db{number}" for number in range(1, databases + 1)]},
        "calendar": {
            "windows": [{"id": "weekly", "kind": "weekly", "weekday": "sunday", "begin": "02:00", "end": "04:00"}],
        },
        "operations": {},
        "schedules": {
            "daily-backup": {"playbook": "backup.yml", "hosts": ["databases"], "rhythm": "daily", "time": "03:00",
                             "max_duration_min": 120},
        },
    } | more  # fmt: skip
