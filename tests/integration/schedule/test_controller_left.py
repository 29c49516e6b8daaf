"""controller_left_info against AWX: pages, answers that are none, and what is not told."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import run_module
from fakes import awx
from fakes.http import Fault

DAILY = "DTSTART;TZID=Etc/UTC:20260104T020000 RRULE:FREQ=DAILY;INTERVAL=1"


@pytest.fixture
def controller():
    with awx.FakeAWX() as fake:
        yield fake


def a_controller(fake: awx.FakeAWX) -> dict[str, Any]:
    """One that has what the inventory has: options that say so."""
    organization = fake.made_by("runbook", "organizations", name="Mental Scribe")["id"]
    project = fake.made_by(
        "runbook", "projects", name="mental-scribe-runbook sandbox", organization=organization
    )["id"]  # fmt: skip
    templates = [
        fake.made_by("runbook", "job_templates", name=f"sandbox {name}.yml", project=project)["id"]
        for name in ("a", "b", "c", "d")
    ]
    schedules = [
        fake.made_by("runbook", "schedules", name="sandbox job", unified_job_template=each, rrule=DAILY)["id"]
        for each in templates
    ]
    return {
        "controller_url": fake.url, "controller_token": awx.TOKEN, "environment": "sandbox",
        "organization": organization, "project": project, "wanted_templates": templates,
        "wanted_schedules": schedules,
    }  # fmt: skip


def test_what_the_inventory_has_is_ok(controller):
    options = a_controller(controller)
    template = options["wanted_templates"][0]
    for name, more in (("off", {"enabled": False, "rrule": DAILY}), ("over", {"rrule": f"{DAILY};COUNT=1"})):
        controller.made_by("alice", "schedules", name=name, unified_job_template=template, **more)
    controller.writes.clear()
    found = run_module("controller_left_info", options)
    assert (found.result["status"], found.result["left"]) == ("ok", [])
    assert controller.writes == []


@pytest.mark.parametrize("check", [False, True])
def test_the_last_of_many_pages_counts(controller, check):
    options = a_controller(controller)
    template = options["wanted_templates"][0]
    controller.made_by("alice", "schedules", name="my own", unified_job_template=template, rrule=DAILY)
    controller.made_by("", "workflow_job_templates", name="sandbox a.yml with approval",
                       organization=options["organization"])  # fmt: skip
    found = run_module("controller_left_info", options, check=check)
    assert (found.failed, found.result["status"]) == (True, "breach")
    assert [each.split(" next at ")[0] for each in found.result["left"]] == [
        'workflow "sandbox a.yml with approval"',
        'schedule "my own" of alice, which starts job template "sandbox a.yml"',
    ]


def test_another_organization_is_not_looked_at(controller):
    options = a_controller(controller)
    other = controller.made_by("bob", "organizations", name="Other")["id"]
    project = controller.made_by("bob", "projects", name="mental-scribe-runbook sandbox", organization=other)["id"]
    template = controller.made_by("bob", "job_templates", name="sandbox gone.yml", project=project)["id"]
    controller.made_by("bob", "schedules", name="sandbox job", unified_job_template=template, rrule=DAILY)
    assert run_module("controller_left_info", options).result["status"] == "ok"


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (Fault("schedules", "status", 403), "breach", "let the user of controller_token administrate"),
        (Fault("schedules", "status", 200, body={"results": []}), "unknown", "no field next"),
        (
            Fault("schedules", "status", 200, body={"results": [{"id": 1, "name": "x"}], "next": None}),
            "unknown",
            "AWX: ",
        ),
    ],
)
def test_what_awx_does_not_tell_is_not_green(controller, fault, status, says):
    options = a_controller(controller)
    controller.faults.append(fault)
    found = run_module("controller_left_info", options)
    assert (found.failed, found.result["status"]) == (True, status)
    assert says in found.result["msg"]
    assert awx.TOKEN not in str(found.result)
