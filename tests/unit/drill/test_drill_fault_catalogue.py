"""The faults that a drill can inject, and when one counts as found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.backup import defects
from ansible.module_utils.runbook.rules.drill import faults, scenarios

ROOT = Path(__file__).resolve().parents[3]


def test_faults_are_injected_in_the_sandbox_alone_and_where_they_make_sense():
    good: dict[str, Any] = {
        "environment": "sandbox",
        "scenario": "database_lost",
        "way": "pitr",
        "inject": "truncated_wal",
    }
    faults.check_request(**good)
    faults.check_request(**good | {"environment": "production", "inject": None})
    for other, said in (
        ({"environment": "production"}, "would damage backups of production"),
        ({"scenario": "region_lost"}, "goes with scenario database_lost"),
        ({"way": "dump"}, "can be injected for pitr, not for dump"),
        ({"way": "best"}, "not for best"),
    ):
        with pytest.raises(RunbookError, match=said):
            faults.check_request(**good | other)


def test_the_self_test_of_the_playbook_plants_every_fault_in_every_way():
    tasks = yaml.safe_load((ROOT / "playbooks" / "dr_drill.yml").read_text())[0]["tasks"]
    (injected,) = [task["loop"] for task in tasks if task.get("vars", {}).get("dr_drill_inject")]
    wanted = [(way, name) for name, fault in faults.FAULTS.items() for way in fault.ways]
    assert sorted(map(tuple, injected)) == sorted(wanted)
    for way, fault in injected:
        faults.check_request(environment="sandbox", scenario="database_lost", way=way, inject=fault)


def test_the_role_knows_the_scenarios_ways_and_faults_that_there_are():
    specs = yaml.safe_load((ROOT / "roles/dr_drill/meta/argument_specs.yml").read_text())["argument_specs"]
    choices = {name: option.get("choices") for name, option in specs["main"]["options"].items()}
    assert choices["dr_drill_scenario"] == list(scenarios.SCENARIOS)
    assert choices["dr_drill_way"] == [*scenarios.WAYS, "best"]
    assert choices["dr_drill_inject"] == ["", *faults.FAULTS]


def test_a_fault_counts_as_found_only_if_the_drill_is_red_and_says_by_what():
    red: dict[str, Any] = {"status": "breach", "recovery": None, "checks": [{"name": "contents", "status": "breach"}]}
    assert faults.is_found("flipped_byte", red)
    assert not faults.is_found("truncated_wal", red)
    assert not faults.is_found("flipped_byte", red | {"status": "ok"})
    # Whatever a sentence says: it is not what code goes by.
    said = {"backup_id": "b1", "reason": "data-1 is missing, and the WAL after it is damaged", "codes": []}
    unclear = red | {"checks": [], "recovery": {"skipped": [said]}}
    assert not any(faults.is_found(fault, unclear) for fault in faults.FAULTS)
    missing = red | {"checks": [], "recovery": {"skipped": [said | {"codes": [defects.MISSING]}]}}
    assert [fault for fault in faults.FAULTS if faults.is_found(fault, missing)] == ["missing_object"]
    # A document of an earlier version has no codes.
    del said["codes"]
    assert not faults.is_found("missing_object", unclear)
