"""What a run was told, and who may say it."""

from __future__ import annotations

import doctest

import pytest
from ansible.module_utils.runbook.rules import run
from ansible.parsing.splitter import parse_kv

FOLDERS = ["/srv/inventories/production"]


def test_doctests():
    assert doctest.testmod(run).failed == 0


def test_a_file_beside_the_inventory_is_a_part_of_it():
    confirm = {"confirm": "production", "runbook_environment": "sandbox"}
    for places, value in (
        ([], "production"),
        (["/runner/env/extravars"], "production"),
        (["/srv/inventories/production-old/yes.yml"], "production"),
        (["/srv/inventories/production"], "production"),
        (["/srv/inventories/production/yes.yml"], ""),
        (["/srv/inventories/production/yes.yml", "/srv/yes.yml"], ""),
        (["/srv/inventories/production/group_vars/all/yes.yml"], ""),
    ):
        # That a name was set is told wherever it comes from: it may be one that -e may never set.
        assert run.command_line([(places, confirm)], FOLDERS) == {"confirm": value, "runbook_environment": ""}
    inside = (["/srv/inventories/production/yes.yml"], confirm)
    outside: tuple[list[str], dict[str, str]] = ([], {"confirm": "staging"})
    assert run.command_line([inside, outside], FOLDERS)["confirm"] == "staging"
    assert run.command_line([outside, inside], FOLDERS)["confirm"] == ""


@pytest.mark.parametrize(
    ("word", "made"),
    [
        ("window_override=data of last night", "window_override and words without a name"),
        ("window_override=see confirm=production please", "window_override, confirm and words without a name"),
        ("window_override=see confirm=production", "window_override and confirm"),
        ("confirm=production window_override=why", "confirm and window_override"),
        ("password=of blanks", "password and words without a name"),
        ("please", "words without a name"),
        ("window_override='the disk is full'", None),
        ("confirm=production db_restore_jobs=2", None),
    ],
)
def test_what_ansible_splits_is_noticed_without_its_values(word, made):
    said = run.command_line([([], run.split(parse_kv(word)))], [])
    assert said.get("_raw_params") == made
    assert "blanks" not in str(said)


def test_a_play_speaks_for_its_own_host_alone():
    assert run.forged({}, "db") is None
    assert run.forged({"RUNBOOK_HOST": "db", "PGAPPNAME": "x"}, "db") is None
    assert "RUNBOOK_HOST is 'other', but this task works for 'db'" in str(run.forged({"RUNBOOK_HOST": "other"}, "db"))
    for name in ("RUN_ID", "RUN_DIR", "PROCESS", "CONTROLLER", "JOURNAL_ERROR", "PROGRESS_FILE", "COMMAND_LINE"):
        assert f"RUNBOOK_{name} is set by a play" in str(run.forged({f"RUNBOOK_{name}": ""}, "db"))
