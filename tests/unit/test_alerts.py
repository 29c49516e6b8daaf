"""The alert rules, tried by Prometheus' own tool."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from ansible.module_utils.runbook.report import sections
from architecture import read_yaml
from conftest import ROOT

RULES = sorted((ROOT / "monitoring/alerts").glob("*.yml"))


def promtool(*arguments: str) -> None:
    """Run it; it must be content."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's package prometheus), so the alert rules were not tried")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_before(path):
    promtool("check", "rules", str(path))
    promtool("test", "rules", str(ROOT / "monitoring/tests" / path.name))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_each_alert_is_tried_in_both_states(path):
    named = {rule["alert"] for group in read_yaml(path)["groups"] for rule in group["rules"]}
    fired: set[str] = set()
    quiet: set[str] = set()
    for test in read_yaml(ROOT / "monitoring/tests" / path.name)["tests"]:
        for tried in test["alert_rule_test"]:
            (fired if tried["exp_alerts"] else quiet).add(tried["alertname"])
    assert fired == named
    # That an alert spares other hosts is seen where it fires; the one that waits for a proof has no time before it.
    assert named - quiet <= {"RunbookBackupNeverProven"}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_alerts_tell_environments_apart(path):
    for rule in (rule for group in read_yaml(path)["groups"] for rule in group["rules"]):
        # The board is one page on all of them.
        if "runbook_board_made" not in rule["expr"]:
            grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
            assert grouped or 'environment="' in rule["expr"], rule["alert"]
            assert all("environment" in labels.split(", ") for labels in grouped), rule["alert"]


@pytest.mark.parametrize(
    ("name", "subjects"),
    [
        ("backups", "backup|pitr|files"),
        ("certificates", "tls"),
        ("deployments", "deployment"),
        ("board", "reviews"),
        ("keys", "key"),
        ("logs", "logs"),
        ("capacity", "capacity"),
        ("web", "web"),
        ("advisories", "advisories"),
        ("servers", "server_updates"),
    ],
)
def test_alerts_use_metrics_that_there_are(name, subjects):
    text = (ROOT / f"monitoring/alerts/{name}.yml").read_text()
    used = set(re.findall(rf"\brunbook_(?:{subjects})_\w+", text))
    assert used
    assert used <= {f"runbook_{name}" for name in sections.METRICS}
