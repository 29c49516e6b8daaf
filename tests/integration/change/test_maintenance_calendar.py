"""The calendar of an inventory: asked by a module, shown and written by a playbook."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import icalendar
from conftest import a_window, run_module

from playbooks import Project

RUNBOOK: list[dict[str, Any]] = [
    {"id": "weekly", "kind": "weekly", "weekday": "sunday", "begin": "02:00", "end": "04:00"},
    {"id": "monthly", "kind": "monthly", "week": 1, "weekday": "sunday", "begin": "02:00", "end": "06:00"},
]


def test_the_module_answers_everything():
    calendar = a_window(-1, 1)
    frozen = {"id": "visit", "scope": "all", "reason": "a visit", "owner": "Jo Doe"}
    later = a_window(0.5, 4)["windows"][0]
    calendar["freezes"] = [frozen | {key: later[key] for key in ("begin", "end")}]
    asked = {"environment": "staging", "calendar": calendar, "operations": {"own.yml": "quarterly"}}
    result = run_module("maintenance_calendar_info", asked).result
    assert result["open"] == ["tonight"]
    assert 0 < result["left_s"] <= 1800, "the freeze begins before the window ends"
    assert "when the freeze visit begins" in result["msg"]
    assert [each["frozen_by"] for each in result["upcoming"]] == [["visit"]]
    assert [(each["what"], each["other"]) for each in result["collisions"]] == [("tonight", "visit")]
    of_own = next(each for each in result["operations"] if each["operation"] == "own.yml")
    assert (of_own["needs"], of_own["is_open"]) == ("quarterly", True)
    assert len(icalendar.Calendar.from_ical("\r\n".join([*result["ics"], ""])).walk("VEVENT")) == 2
    closed = run_module("maintenance_calendar_info", asked | {"calendar": a_window(1, 2)}).result
    assert closed["left_s"] is None
    assert closed["msg"].startswith("No maintenance window is open now")


def test_a_mistake_is_refused():
    refused = run_module("maintenance_calendar_info", {"environment": "staging", "calendar": {"windows": [{"id": 1}]}})
    assert refused.failed
    assert refused.result["msg"] == "calendar: windows, entry 1: id: 1 is no name; give small letters, digits, - and _."


def test_it_says_what_is_true_for_the_environment():
    asked = {"environment": "staging", "operations": {"db_role.yml": "weekly", "our_own.yml": "weekly"}}
    staging = run_module("maintenance_calendar_info", asked)
    assert staging.result["msg"] == "There is no calendar, so every hour is open."
    warned = str(staging.result["warnings"])
    assert "operations: db_role.yml is no playbook of this project, so db_roles.yml needs what it needed" in warned
    assert "our_own.yml" not in warned
    production = run_module("maintenance_calendar_info", {"environment": "production"})
    assert production.failed
    assert production.result["status"] == "breach"
    assert "production has none, so what needs a maintenance window is refused" in production.result["msg"]


def test_the_playbook_shows_the_quarter_and_writes_it(tmp_path):
    common = {
        "runbook_environment": "staging",
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "maintenance_calendar": {"windows": RUNBOOK},
        "maintenance_calendar_path": str(tmp_path / "maintenance.ics"),
    }
    project = Project(tmp_path, {"db": {}, "other": {}}, common)
    dry = project.run("calendar.yml", "--check")
    assert dry.code == 0, dry.output
    assert not (tmp_path / "maintenance.ics").exists()
    before = datetime.now(UTC).date()
    ended = project.run("calendar.yml", environ={"COLUMNS": "80"})
    assert ended.code == 0, ended.output
    shown = ended.output[ended.output.index("  Maintenance windows, UTC:") :].splitlines()
    shown = shown[: 1 + next(n for n, line in enumerate(shown) if " window " in line)]
    assert sum("02:00-06:00  monthly" in line for line in shown) in (3, 4)
    assert max(map(len, shown)) <= 80
    assert len(shown) <= 24
    text = (tmp_path / "maintenance.ics").read_bytes()
    assert text.endswith(b"END:VCALENDAR\r\n")
    assert b"\n" not in text.replace(b"\r\n", b"")
    assert len(icalendar.Calendar.from_ical(text).walk("VEVENT")) >= 13
    again = project.run("calendar.yml")
    assert again.code == 0, again.output
    # The file says of which day it is.
    assert "changed=0" in again.output or datetime.now(UTC).date() != before
    common["maintenance_calendar"] = {"windows": [RUNBOOK[0] | {"weekday": "sonday"}]}
    wrong = project.run("calendar.yml")
    assert wrong.code != 0
    assert "maintenance_calendar: windows: weekly: weekday: 'sonday' is no day of the week; did you mean sunday?" in (
        " ".join(wrong.output.split())
    )
