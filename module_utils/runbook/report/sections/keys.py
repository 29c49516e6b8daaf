"""Keys of applications: how old each is, and how far its rotation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import gauges
from ansible.module_utils.runbook.report.section import (
    Gauge,
    Line,
    Listing,
    Metric,
    Section,
    each_step,
    ended_s,
    lists,
)
from ansible.module_utils.runbook.rules.keys.rotation import RETIRED
from ansible.module_utils.runbook.rules.record import epoch_s
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Step, Value

#: A metric's value for a status; what could not be judged is no number.
_VALUES = {Status.OK: 1.0, Status.BREACH: 0.0, Status.UNKNOWN: math.nan}
#: Of these the age is all that can be wrong, and its moment has a metric of its own.
_OVER = {"", RETIRED}
_LISTING = Listing(
    "rotations",
    "Keys",
    {
        "name": "Key", "kind": "Kind", "env_names": "Variables", "age_days": "Age in days", "max_age_days": "At most",
        "phase": "Rotation", "retire_after": "Old key until",
    },
)  # fmt: skip


def _lasting(step: Step) -> dict[str, Value]:
    figures = step["figures"]
    keys = lists(figures, "rotations")
    if not keys:
        return {}
    moments: dict[str, dict[str, float]] = {}
    for name, field in (("created", "created_at"), ("due", "due_at")):
        known = {str(each.get("name")): epoch_s(each.get(field)) for each in keys}
        moments[name] = {key: moment for key, moment in known.items() if moment is not None}
    found: dict[str, Value] = {
        f"key_{name}_timestamp_seconds": values for name, values in moments.items() if values
    }  # fmt: skip
    judged = [each for each in lists(figures, "checks") if each.get("name") == "age"]
    if judged:
        over = {each.get("name") for each in keys if each.get("phase") in _OVER}
        found["key_last_check_timestamp_seconds"] = ended_s(step)
        ok: dict[str, float] = {}
        for each in judged:
            status = Status(str(each.get("status")))
            is_old = status is Status.BREACH and each.get("subject") in over
            ok[str(each.get("subject"))] = 1.0 if is_old else _VALUES[status]
        found["key_rotation_ok"] = ok
    return found


def _on_board(facts: Mapping[str, Any], now_s: float) -> list[Line]:
    made, due, well = (
        gauges.by_label(facts, f"key_{name}")
        for name in ("created_timestamp_seconds", "due_timestamp_seconds", "rotation_ok")
    )
    lines = []
    for key in sorted({*made, *due, *well}):
        text = f"{gauges.span(now_s - made[key])} old" if key in made else "age unknown"
        text += f", due {gauges.day(due[key])}" if key in due else ""
        status, msg, fix = Status.OK, "", ""
        if now_s >= due.get(key, math.inf):
            status, msg = Status.BREACH, "It is past its age; rotate it."
            fix = "rotate_keys.yml -e key_rotation_action=create"
        elif well.get(key) == 0:
            status, msg = Status.BREACH, "Its rotation was left or went back; see the report."
        elif key not in made or math.isnan(well.get(key, math.nan)):
            status, msg = Status.UNKNOWN, "Its age could not be judged; see the report."
        whole = due[key] - made[key] if key in due and key in made else 0
        share = min(max((due[key] - now_s) / whole, 0.0), 1.0) if whole > 0 else None
        lines.append(Line(key, text, status, msg, share, fix))
    return lines


SECTIONS = (
    Section(
        modules=("key_info",),
        title="Keys",
        listings=(_LISTING,),
        lasting=each_step(_lasting),
        metrics={
            "key_created_timestamp_seconds": Metric("When the key was made that is in use.", "key"),
            "key_due_timestamp_seconds": Metric("From when on it has to be rotated.", "key"),
            "key_rotation_ok": Metric(
                "1 if the key's last rotation came to its end or is on its way, 0 if it was left or went back.", "key"
            ),
            "key_last_check_timestamp_seconds": Metric("When the keys were last looked at."),
        },
        gauge=Gauge("Keys", "rotate_keys.yml", _on_board, groups=("applications",)),
    ),
    Section(modules=("key_rotate",), title="New keys", listings=(_LISTING,)),
    Section(modules=("key_retire",), title="Old keys", listings=(_LISTING,)),
    Section(
        modules=("env_example_update",), title="Names of variables", figures=("added", "unknown_names", "pushed_to")
    ),
)
