"""Journals of runs that never were, for the tests of the record and for looking at its reports."""

from __future__ import annotations

import importlib
import json
import math
from typing import TYPE_CHECKING, Any

import conftest  # puts our module_utils on the path
from ansible.module_utils.runbook.report import sections
from ansible.module_utils.runbook.rules import record
from ansible.module_utils.runbook.rules.record import timestamp

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = json.loads((conftest.ROOT / "module_utils/runbook/report/record.schema.json").read_text())
# By its name, because it comes without types.
VALIDATOR = importlib.import_module("jsonschema").Draft202012Validator(SCHEMA)

#: 2026-03-01 02:00:00 UTC, a first Sunday.
START_S = 1772330400.0
TABLES = (
    "audit_log", "messages", "conversations", "users", "sessions", "api_keys", "attachments", "billing_events",
    "feature_flags", "invoices", "memberships", "notes", "notifications", "organisations", "prompts", "rate_limits",
    "tags", "templates", "transcripts", "webhooks", "workspaces",
)  # fmt: skip


def fold(events: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The record of a journal, as a run makes it."""
    return record.fold(events, sections.MEANING, **more)


class Sample:
    """Builds a journal event by event; time goes on as it is told."""

    def __init__(self, start_s: float = START_S, **facts: Any) -> None:
        self.now = start_s
        self.events: list[dict[str, Any]] = []
        self._tasks = 0
        start: dict[str, Any] = {
            "run_id": f"{timestamp(start_s)[:19].replace('-', '').replace(':', '')}Z-weekly_db-abc123",
            "playbook": "weekly_db",
            "controller": "bastion/4711",
            "commit": "2eca872f00000000000000000000000000000000",
            "inventory": ["inventories/staging"],
            "user": "ops",
            "check_mode": False,
            "diff_mode": False,
            "ansible_version": "2.19.14",
            "limit": None,
            "tags": [],
            "skip_tags": [],
        }
        self.add("run_start", **(start | facts))
        self.add("play_start", play="p1", name="Weekly database maintenance", hosts="databases")

    def add(self, event: str, *, after_s: float = 0.0, **fields: Any) -> None:
        self.now += after_s
        self.events.append({"event": event, "ts": timestamp(self.now)} | fields)

    def task(self, name: str, module: str, role: str | None = "db_maintenance") -> str:
        self._tasks += 1
        self.add("task_start", task=f"t{self._tasks}", play="p1", name=name, role=role, module=module)
        return f"t{self._tasks}"

    def start(self, task: str, host: str) -> None:
        self.add("host_start", task=task, host=host)

    def result(self, task: str, host: str, state: str = "ok", *, after_s: float = 0.1, **fields: Any) -> None:
        base: dict[str, Any] = {
            "ignored": False,
            "changed": state == "changed",
            "msg": "",
            "warnings": [],
            "figures": {},
        }
        self.add("result", after_s=after_s, task=task, host=host, state=state, **(base | fields))

    def step(
        self, name: str, module: str, host: str, state: str = "ok", role: str | None = None, **fields: Any
    ) -> None:
        task = self.task(name, module, role)
        self.start(task, host)
        self.result(task, host, state, **fields)

    def end(self, **stats: dict[str, int]) -> Sample:
        counts = {"ok": 3, "failures": 0, "unreachable": 0, "changed": 0, "skipped": 0, "rescued": 0, "ignored": 0}
        self.add("run_end", stats={host: counts | of_host for host, of_host in stats.items()})
        return self

    def text(self) -> str:
        return "".join(json.dumps(event) + "\n" for event in self.events)

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True)
        (directory / "journal.jsonl").write_text(self.text())
        return directory


def preflight(host: str = "db1") -> dict[str, Any]:
    return {
        "environment": "staging",
        "target": {
            "kind": "database",
            "place": "7412345678901234567",
            "name": "mental_scribe",
            "environment": "staging",
        },
        "database": "mental_scribe",
        "system_identifier": "7412345678901234567",
        "server_version": 180001,
        "clock_skew_s": 0.03,
        "database_size_bytes": 4_700_000_000,
        "lease": {"run_id": "r", "decision": "acquire", "expires_at": "2026-03-01T02:15:00+00:00"},
        "checks": [
            {"name": "identity", "status": "ok", "msg": f"{host} is the database that the inventory pins."},
            {"name": "clock", "status": "ok", "msg": "The server's clock and this machine's differ by 0.03 s."},
            {"name": "replicas", "status": "unknown", "msg": "pg_stat_replication may not be read by this user."},
        ],
        "executed_queries": ["SELECT system_identifier FROM pg_control_system()"],
    }


def archive(rows: int = 117_000) -> dict[str, Any]:
    return {
        "source": "public.audit_log",
        "archive": "public.audit_log_archive",
        "cutoff": "2025-12-01T02:00:01.123456+00:00",
        "planned_rows": rows,
        "moved_rows": rows,
        "already_archived_rows": 0,
        "remaining_rows": 0,
        "batches": 214,
        "oldest_moved": "2025-09-01T00:00:12+00:00",
        "newest_moved": "2025-11-30T23:59:58+00:00",
        "duration_s": 41.2,
        "rate_rows_s": rows / 41.2,
        "longest_batch_s": 0.087,
        "throttled_s": 3.4,
        "wal_bytes": 64_000_000,
        "detached_partitions": [],
        "archive_created": False,
        "plan": {"strategy": "batches"},
        "executed_queries": [
            "SELECT count(*) FROM public.audit_log WHERE created_at < %(cutoff)s",
            "WITH moved AS (DELETE FROM public.audit_log RETURNING *) INSERT INTO public.audit_log_archive TABLE moved",
        ],
        "status": "ok",
    }


def vacuum(*, planned: bool = False) -> dict[str, Any]:
    tables: list[dict[str, Any]] = []
    for number, name in enumerate(TABLES):
        size = int(2_400_000_000 / (number + 1) ** 1.6)
        dead = int(420_000 / (number + 1) ** 1.3)
        state = "planned" if planned else {4: "locked", 9: "not_permitted"}.get(number, "done")
        before = {"size_bytes": size, "dead_rows": dead, "live_rows": dead * 9, "xid_age": 12_000_000}
        after = before | {"dead_rows": 0, "size_bytes": int(size * 0.97)} if state == "done" else before
        tables.append({
            "table": f"public.{name}",
            "action": "vacuum_analyze" if number < 6 else "analyze",
            "reason": f"{dead:,} dead rows, above the threshold of 5,000" if number < 6 else "12 % of its rows changed",
            "state": state,
            "duration_s": None if planned else 18.0 / (number + 1),
            "before": before,
            "after": None if planned else after,
        })  # fmt: skip
    return {
        "mode": "needed",
        "jobs": 2,
        "tables": tables,
        "planned_tables": len(tables),
        "done_tables": 0 if planned else len(tables) - 2,
        "size_before_bytes": sum(table["before"]["size_bytes"] for table in tables),
        "size_after_bytes": sum((table["after"] or table["before"])["size_bytes"] for table in tables),
        "dead_rows_before": sum(table["before"]["dead_rows"] for table in tables),
        "dead_rows_after": sum((table["after"] or table["before"])["dead_rows"] for table in tables),
        "duration_s": 31.0,
        "not_permitted": ["pg_catalog.pg_authid"],
        "executed_queries": [f"VACUUM (ANALYZE) public.{name}" for name in TABLES[:6]],
        "status": "ok",
    }


def weekly(hosts: tuple[str, ...] = ("db1",), start_s: float = START_S, *, rows: int = 117_000, **facts: Any) -> Sample:
    """A run of weekly_db on which all goes well."""
    sample = Sample(start_s, **facts)
    check = bool(facts.get("check_mode"))
    task = sample.task("Check the target and take the lease", "pg_preflight", "preflight")
    for host in hosts:
        sample.start(task, host)
    for host in hosts:
        sample.result(
            task, host, after_s=1.3 / len(hosts), msg="All 3 checks passed; the lease is held.", figures=preflight(host)
        )
    task = sample.task("Archive old rows", "pg_archive")
    for host in hosts:
        sample.start(task, host)
    if not check:
        for second in range(42):
            done = rows * (1 - math.exp(-second / 14)) / (1 - math.exp(-3))
            for host in hosts:
                sample.add(
                    "progress",
                    after_s=1.0 / len(hosts),
                    task=task,
                    host=host,
                    label="public.audit_log",
                    done=min(rows, int(done)),
                    total=rows,
                    unit="rows",
                    rate=rows / 41.2,
                )
    moved = archive(rows) | ({"moved_rows": 0, "remaining_rows": rows, "batches": 0} if check else {})
    for host in hosts:
        sample.result(task, host, "changed", after_s=0.2, msg=f"{rows:,} rows moved.", figures=moved)
    task = sample.task("Vacuum and analyze what needs it", "pg_vacuum")
    for host in hosts:
        sample.start(task, host)
    for host in hosts:
        sample.result(
            task,
            host,
            "changed",
            after_s=31 / len(hosts),
            msg="19 of 21 tables are done; 1 was locked, 1 may not be touched.",
            warnings=["public.sessions was locked by another session for 30 s and was left out."],
            figures=vacuum(planned=check),
        )
    task = sample.task("Release the lease", "pg_lease", "preflight")
    for host in hosts:
        sample.start(task, host)
        sample.result(task, host, after_s=0.4, msg="The lease is released.", figures={"released": True})
    return sample.end(**{host: {"changed": 2} for host in hosts})
