"""Security updates of servers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.report.section import Listing, Metric, Section, ended_s, lists, summed
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible.module_utils.runbook.report.section import Fact, Record, Step, Value

_UPGRADES = {"package": "Package", "from": "From", "to": "To", "is_security": "Security"}


def _lasting(steps: Sequence[Step]) -> dict[str, Value]:
    """Moments, so that a deadline is missed in time though nobody looks again."""
    step = steps[-1]
    waiting = lists(step["figures"], "waiting")
    due = [moment for each in waiting if (moment := epoch_s(each.get("due_at"))) is not None]
    is_known = "waiting" in step["figures"] and step["status"] != Status.UNKNOWN
    found: dict[str, Value] = {
        "server_updates_waiting": float(len(waiting)) if is_known else math.nan,
        "server_updates_last_check_timestamp_seconds": ended_s(step),
    }
    if "waiting" in step["figures"]:
        # Nothing is due: in no time that anybody waits for.
        found["server_updates_due_timestamp_seconds"] = min(due, default=math.nan)
    return found


def _headline(record: Record) -> list[Fact]:
    totals = record["totals"]
    facts = []
    if totals.get("security_updates") is not None:
        facts.append(("Security updates waiting", wording.number(totals["security_updates"])))
    if totals.get("packages_upgraded") is not None:
        facts.append(("Packages installed", wording.number(totals["packages_upgraded"])))
    return facts


def _remark(record: Record) -> str:
    number = record["totals"].get("security_updates")
    return f"{count(number, 'security update')} waiting." if number else ""


def _upgraded(steps: Sequence[Step]) -> dict[str, float]:
    found = [step for step in steps if "upgraded" in step["figures"]]
    return {"packages_upgraded": float(sum(len(lists(step["figures"], "upgraded")) for step in found))} if found else {}


def _did(host: Mapping[str, Any], planned: bool) -> list[str]:
    number = host["totals"].get("packages_upgraded")
    if number is None:
        return []
    return [f"{count(number, 'package')} {'would be installed' if planned else 'installed'}"]


def _attention(step: Step) -> list[str]:
    figures = step["figures"]
    facts = [f"Restart {name}: it runs code of before an update." for name in figures.get("services") or ()]
    facts += [f"Start the server again: {figures['reboot']}."] if figures.get("reboot") else []
    return facts + [f"{path}: a newer one was not taken; compare." for path in figures.get("kept_files") or ()]


SECTIONS = (
    Section(
        modules=("apt_updates_check",),
        title="Security updates of the server",
        figures=("system", "packages", "security_updates", "overdue", "reboot"),
        listings=(
            Listing(
                "waiting",
                "What waits",
                {"kind": "Kind", "name": "Name", "state": "State", "first_seen_at": "First seen", "due_at": "Due"},
            ),
        ),
        totals=summed("security_updates"),
        headline=_headline,
        remark=_remark,
        lasting=_lasting,
        metrics={
            "server_updates_waiting": Metric("Updates and restarts that wait; no number where that is not known."),
            "server_updates_due_timestamp_seconds": Metric("When the first of them is, or was, due; NaN for none."),
            "server_updates_last_check_timestamp_seconds": Metric("When the server was last looked at."),
        },
    ),
    Section(
        modules=("apt_upgrade",),
        title="Installed updates",
        figures=("reboot",),
        listings=(
            Listing("upgraded", "Packages", _UPGRADES),
            Listing("unproven", "Waiting for their proof", _UPGRADES),
        ),
        totals=_upgraded,
        did=_did,
        attention=_attention,
    ),
    Section(modules=("apt_proof",), title="Proof for the next environment", figures=("packages",)),
)  # fmt: skip
