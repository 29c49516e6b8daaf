"""Preflight and the lease: what prepares a run, closes it, and says what the host is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import Panel, Section, Trend, checks, summed
from ansible.module_utils.runbook.rules.target import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.report.section import Fact, Record, Step

#: The modules of preflight: what a run is asked, and the proof of each kind of target.
PREFLIGHT = ("runbook_preflight", *(kind.proven_by for kind in KINDS.values()))


def _panels(steps: Sequence[Step], *_: object) -> list[Panel]:
    """One for all: what was asked of the run, and then of each target."""
    # What needs no target is asked before each kind of target, and told once.
    asked: list[dict[str, str]] = []
    for step in steps:
        asked += [check for check in checks(step["figures"]) if check not in asked]
    said = dict.fromkeys(step["msg"] for step in steps)
    return [Panel("Checks before the start", " ".join(said), checks=asked)]


def _window(record: Record) -> list[Fact]:
    """The maintenance window in which the run was; nothing where it needed none."""
    found = [
        step["figures"]["window"]
        for of_host in record["hosts"].values()
        for step in of_host["steps"]
        if isinstance(step["figures"].get("window"), dict)
    ]
    if any(window.get("override") for window in found):
        return [("Maintenance window", "overridden")]
    ends = [window["ends_at"] for window in found if window.get("ends_at")]
    return [("Maintenance window", f"until {_short(min(ends), record['started_at'])}")] if ends else []


def _short(end: str, started_at: str) -> str:
    """A moment to the minute, with its day where that is another one than the run's: it has to fit into a card."""
    when = datetime.fromisoformat(end).astimezone(UTC)
    day = "" if when.date() == datetime.fromisoformat(started_at).astimezone(UTC).date() else f"{when.day} {when:%b} "
    return f"{day}{when:%H:%M} UTC"


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    # Where a backup was restored, the database that was connected to is another one.
    if "database_size_bytes" not in totals or "restored_bytes" in totals:
        return _window(record)
    return [("Database size", wording.size(totals["database_size_bytes"])), *_window(record)]


SECTIONS = (
    Section(
        modules=PREFLIGHT,
        panels=_panels,
        around=True,
        identity=True,
        totals=summed("database_size_bytes"),
        headline=_headline,
        trends=(Trend("Database size", "database_size_bytes", wording.size),),
    ),
    Section(
        modules=("pg_lease",),
        title="The lease",
        figures=("released", "writer_pid"),
        around=True,
        work_of="lease",
    ),
)
