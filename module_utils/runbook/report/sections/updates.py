"""Updates of an application's packages: what is outdated, what a branch brings, and its way to production."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import (
    Listing,
    Metric,
    Section,
    Table,
    each_step,
    ended_s,
    lists,
    summed,
)
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Fact, Figures, Panel, Record, Step, Value

_CHANGES = {
    "package": "Package",
    "from": "From",
    "to": "To",
    "step": "Step",
    "is_direct": "Asked for by the application",
}
_UPDATES = Listing("updates", "What changes", _CHANGES)


def _read_first(panel: Panel, figures: Figures) -> Panel:
    """What breaks in a major version, and what the script said that failed, as they were written."""
    told = [
        Table(
            f"{each.get('package')} {each.get('from')} -> {each.get('to')}: what breaks",
            (("In its changelog" if lines else "It ships no changelog that tells it; read", ""),),
            [[str(line)] for line in lines or [each.get("source") or "the project's own page"]],
            is_open=True,
        )
        for each in lists(figures, "changelogs")
        for lines in [[line for line in each.get("lines") or () if str(line).strip()]]
    ]
    output = figures.get("output")
    if isinstance(output, (list, tuple)) and output:
        told.append(
            Table("What the script said last", (("Output", ""),), [[str(line)] for line in output], is_open=True)
        )
    return replace(panel, tables=[*told, *panel.tables])


def _outdated(step: Step) -> Mapping[str, Value]:
    if step["status"] != Status.OK:
        return {}
    found = lists(step["figures"], "outdated")
    return {
        "packages_outdated": {
            each: float(sum(one.get("step") == each for one in found)) for each in ("major", "minor", "patch")
        },
        "packages_last_check_timestamp_seconds": ended_s(step),
    }


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    facts = [("Outdated packages", "outdated_packages"), ("Packages updated", "updated_packages")]
    return [(title, wording.number(totals[key])) for title, key in facts if key in totals]


def _did(host: Mapping[str, object], planned: bool) -> list[str]:
    totals = host["totals"]
    updated = totals.get("updated_packages") if isinstance(totals, dict) else None
    if updated is None:
        return []
    return [f"{wording.things(updated, 'package')} {'would be ' if planned else ''}updated on a branch"]


SECTIONS = (
    Section(
        modules=("app_updates_info",),
        title="Outdated packages",
        figures=("outdated_packages", "commit"),
        listings=(
            Listing(
                "outdated",
                "Outdated",
                {
                    "package": "Package", "current": "Version", "latest": "Newest", "step": "Step",
                    "is_deprecated": "Deprecated",
                },
            ),
        ),
        totals=summed("outdated_packages"),
        headline=_headline,
        lasting=each_step(_outdated),
        metrics={
            "packages_outdated": Metric("Packages of the application of which there is a newer version.", "step"),
            "packages_last_check_timestamp_seconds": Metric("When they were last looked at."),
        },
    ),
    Section(
        modules=("app_update",),
        title="Update",
        named_by=("branch",),
        figures=("updated_packages", "scripts", "commit"),
        listings=(
            _UPDATES,
            Listing(
                "held_back",
                "Held back",
                {"package": "Package", "version": "Version", "latest": "Newest", "why": "Why"},
            ),
        ),
        more=_read_first,
        totals=summed("updated_packages", only_good=True),
        did=_did,
    ),
    Section(
        modules=("app_update_stage",),
        title="Staging",
        named_by=("branch",),
        figures=("commit", "staging_commit", "deployment", "lock_sha256"),
    ),
    Section(
        modules=("app_update_review",),
        title="Review",
        named_by=("branch",),
        figures=("reviewed_by", "read", "commit"),
    ),
    Section(
        modules=("app_update_deploy",),
        title="To production",
        named_by=("branch",),
        figures=("staged", "reviewed", "merge_commit", "deployment", "previous_deployment"),
        listings=(_UPDATES,),
    ),
)  # fmt: skip
