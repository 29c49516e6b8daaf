"""What ends what a change opened."""

from __future__ import annotations

import ast

import pytest
import yaml
from ansible.module_utils.runbook.rules.change import closing, status_page
from conftest import ROOT


@pytest.mark.parametrize(("module", "state", "end"), [
    ("maintenance_mode", "on", "off"),
    ("change_silence", "present", "absent"),
    ("change_status_page", "maintenance_started", "maintenance_ended"),
    ("change_ticket", "opened", "left_open"),
    ("change_ticket", "closed", None),
    ("change_status_page", "incident_opened", None),
    ("pg_vacuum", None, None),
])  # fmt: skip
def test_each_opening_has_its_end(module, state, end):
    found = closing.end_of(module, {"state": state, "item": "x", "backend": "b", "blocks": False, "until": "u"})
    assert (found["state"] if found else None) == end
    if found:
        assert (found["blocks"], found["backend"], "until" in found) == (True, "b", False)
        assert closing.is_end(module, found)
        assert not closing.is_end(module, {"state": state})


def test_a_status_page_is_not_given_what_its_end_has_no_use_for():
    said = dict.fromkeys(status_page._OWN, "x") | {"state": "maintenance_scheduled", "item": "x"}
    ended = closing.end_of("change_status_page", said)
    assert ended is not None
    assert ended.keys() & set(status_page._OWN) <= status_page.STATES["maintenance_ended"].takes


def test_the_ticket_is_ended_last():
    modules = dict.fromkeys(("change_ticket", "maintenance_mode", "change_silence"))
    assert closing.in_order(modules) == ["maintenance_mode", "change_silence", "change_ticket"]


def test_every_state_named_here_is_one_of_the_modules():
    for module, thing in closing._THINGS.items():
        tree = ast.parse((ROOT / "library" / f"{module}.py").read_text())
        (manual,) = (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION"
        )
        choices = yaml.safe_load(manual)["options"]["state"]["choices"]
        assert set(choices) >= {*thing.opening, thing.end, *thing.ending}, module
