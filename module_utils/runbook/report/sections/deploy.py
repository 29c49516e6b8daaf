"""Which deployment an application serves, to which it went back, and what that left to do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report.section import Listing, Metric, Section, each_step, ended_s, lists
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.report.section import Figures, Panel, Step, Value


def _deployment(found: Any) -> str:
    """A deployment in one line."""
    if not isinstance(found, dict):
        return ""
    commit = f", commit {str(found['commit'])[:12]}" if found.get("commit") else ""
    return f"{found.get('id')}{commit}, made {to_second(str(found.get('created_at')))}"


def _named(**titles: str) -> Any:
    """Deployments of a result, a line each, before its figures."""

    def more(panel: Panel, figures: Figures) -> Panel:
        shown = [(title, _deployment(figures.get(name))) for name, title in titles.items() if figures.get(name)]
        return replace(panel, grid=(*shown, *panel.grid))

    return more


def _left(step: Step) -> list[str]:
    return [str(each) for each in step["figures"].get("follow_ups") or ()]


def _lasting(step: Step) -> Mapping[str, Value]:
    figures = step["figures"]
    served = next((each["status"] for each in lists(figures, "checks") if each["name"] == "served"), Status.UNKNOWN)
    return {
        "deployment_served": {Status.OK: 1.0, Status.BREACH: 0.0}.get(Status(served), math.nan),
        "deployment_rolled_back": float(bool(figures.get("rolled_back"))),
        "deployment_last_check_timestamp_seconds": ended_s(step),
    }


SECTIONS = (
    Section(
        modules=("vercel_move_domains",),
        title="Production domains",
        figures=("duration_s",),
        more=_named(was_live="Led to", deployment="Lead to"),
        attention=_left,
    ),
    Section(modules=("repository_revert",), title="Taken back in git", figures=("pushed_to",), attention=_left),
    Section(modules=("vercel_redeploy",), title="Built again", figures=("duration_s",),
            more=_named(was_live="Was live", deployment="Is live")),
    Section(
        modules=("vercel_env_snapshot", "vercel_env_restore"),
        title="Environment variables",
        figures=("snapshot", "variables", "without_value", "lacking", "refused"),
        listings=(
            Listing("rows", "What is done with each that is not as in the snapshot", {
                "name": "Variable", "targets": "For", "act": "Done", "why": "Why",
            }),
        ),
    ),
    Section(
        modules=("vercel_deployment_info",),
        title="Deployments",
        figures=("rolled_back",),
        more=_named(live="Live"),
        listings=(
            Listing("deployments", "The newest deployments for production", {
                "created_at": "Made", "id": "ID", "commit": "Commit", "objection": "What speaks against going back",
            }),
        ),
        lasting=each_step(_lasting),
        metrics={
            "deployment_served": Metric("1 if users get the deployment that is live, 0 if they get another one."),
            "deployment_rolled_back": Metric("1 while an application is rolled back, so that pushes do not go live."),
            "deployment_last_check_timestamp_seconds": Metric("When that was last looked at."),
        },
    ),
)  # fmt: skip
