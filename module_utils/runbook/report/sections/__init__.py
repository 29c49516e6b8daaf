"""All sections. Their order is that of the headline, of the trends, and of the words on the terminal."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report.section import Metric, Panel, Record, Section, Step, Value, declared, whole
from ansible.module_utils.runbook.rules.record import Meaning, short_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The files of this folder: one subject, one line.
_SUBJECTS = (
    "archive",
    "cleanup",
    "board",
    "vacuum",
    "backup",
    "restore",
    "rollback",
    "pitr",
    "integrity",
    "keys",
    "supabase",
    "mirror",
    "bloat",
    "preflight",
    "change",
    "emergency",
    "findings",
    "web",
    "deploy",
    "doctor",
    "tls",
    "logs",
    "advisories",
    "servers",
    "updates",
    "calendar",
    "capacity",
    "observe",
    "audit",
    "drill",
)
SECTIONS: tuple[Section, ...] = tuple(
    section for subject in _SUBJECTS for section in import_module(f"{__name__}.{subject}").SECTIONS
)
METRICS: dict[str, Metric] = {name: metric for section in SECTIONS for name, metric in section.metrics.items()}


def live(section: Section, steps: Sequence[Step]) -> list[Step]:
    """The steps that a section is about."""
    return [
        step
        for step in steps
        if short_name(step["module"]) in section.modules and step["figures"] and step.get("state") != "skipped"
    ]


def of_module(module: str) -> list[Section]:
    """Sections that show a module's results; it may be given with its collection."""
    return [section for section in SECTIONS if short_name(module) in section.modules]


def totals(steps: Sequence[Step]) -> dict[str, float]:
    """Figures of one host that are added up."""
    found: dict[str, float] = {}
    for section in SECTIONS:
        if section.totals is not None:
            found |= section.totals(live(section, steps))
    return found


#: What the record knows of modules.
MEANING = Meaning(
    totals=totals,
    around={module: section.work_of for section in SECTIONS if section.around for module in section.modules},
    identity=frozenset(module for section in SECTIONS if section.identity for module in section.modules),
)


def panels(record: Record, host: str) -> list[Panel]:
    """What the report shows of a host's steps, in their order; what comes first stands first."""
    steps = record["hosts"][host]["steps"]
    found: list[Panel] = []
    shown: list[Section] = []
    for step in steps:
        if not step["figures"] or step["state"] == "skipped":
            continue
        # A section that only says what a module is for leaves the rest to be shown whole.
        known = [section for section in of_module(step["module"]) if section.panels or section.title]
        if not known:
            found.append(whole(step))
        for section in known:
            if section.panels is None:
                found.append(declared(section, step))
            elif section not in shown:
                shown.append(section)
                found += section.panels(live(section, steps), record, host)
    return sorted((panel for panel in found if panel), key=lambda panel: not panel.is_first)


def lasting(record: Record) -> dict[str, dict[str, Any]]:
    """What a run knows that is true until another run says otherwise: by host, then by metric.

    Moments are seconds since 1970. What the run did not find out is not there, so that an earlier run's stands.
    A run in check mode knows nothing.
    """
    if record["check_mode"]:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for host, of_host in record["hosts"].items():
        told = [(section, live(section, of_host["steps"])) for section in SECTIONS if section.lasting]
        # What was found out last counts.
        told.sort(key=lambda each: max((step["start_s"] for step in each[1]), default=0))
        for section, steps in told:
            if section.lasting is not None and steps:
                found.setdefault(host, {}).update(section.lasting(steps))
    return {host: facts for host, facts in found.items() if facts}


def merged(newer: Mapping[str, Mapping[str, Value]], older: Mapping[str, Mapping[str, Value]]) -> dict[str, Any]:
    """Metrics of both, the newer ones first. Values that were found together stay together.

    >>> merged({"db1": {"backup_size_bytes": 2}}, {"db1": {"backup_size_bytes": 1}, "db2": {"proof_success": 1}})
    {'db1': {'backup_size_bytes': 2}, 'db2': {'proof_success': 1}}
    """
    return {host: {**older.get(host, {}), **newer.get(host, {})} for host in sorted({*newer, *older})}
