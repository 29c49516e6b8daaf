"""What monitoring.yml looks at: a Prometheus that is down hides neither the rota nor whether alerts arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"


def looks(tasks: list[dict[str, Any]]) -> list[str]:
    """Modules of tasks that all run, whichever of them fails."""
    (task,) = tasks
    if "block" not in task:
        assert "when" not in task
        return [name for name in task if name != "name"]
    assert set(task) == {"name", "block", "always"}
    return [*looks(task["block"]), *looks(task["always"])]


@pytest.mark.parametrize(
    ("role", "modules"),
    [
        ("monitoring_alerts", ["alert_review_info", "oncall_rota_info", "alert_delivery_test"]),
        ("monitoring_audit", ["sla_info", "incident_info", "dashboard_info"]),
    ],
)
def test_each_looks_whatever_became_of_the_one_before(role: str, modules: list[str]):
    tasks = yaml.safe_load((ROLES / role / "tasks/main.yml").read_text())
    assert looks(tasks) == modules
