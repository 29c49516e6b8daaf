"""What Vercel says of a project, its deployments and its variables; and what is not said of a secret."""

from __future__ import annotations

import doctest

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy import fingerprint as fingerprints
from ansible.module_utils.runbook.rules.deploy.deployments import (
    Deployment,
    Place,
    Project,
    Setting,
    Variable,
    Written,
    check_identity,
)
from ansible.module_utils.runbook.rules.deploy.fingerprint import fingerprint
from ansible.module_utils.runbook.rules.status import Status
from fakes import vercel

PLACE = Place.named("https://api.vercel.com", "prj_1", "team_1")
PROJECT = {"id": "prj_1", "name": "app", "accountId": "team_1", "ofTomorrow": 1}


def test_doctests():
    assert doctest.testmod(fingerprints).failed == 0


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (("https://api.vercel.com", "app", ""), "project_id: 'app' is not the id"),
        (("https://api.vercel.com", "prj_1/../x", ""), "project_id"),
        (("https://api.vercel.com", "prj_1", "clinic"), "team_id: 'clinic' is not the id"),
        (("http://api.vercel.com", "prj_1", ""), "unencrypted"),
    ],
)
def test_a_place_that_is_none(place, says):
    with pytest.raises(RunbookError, match=says):
        Place.named(*place)


@pytest.mark.parametrize(
    ("changed", "name", "says"),
    [
        ({}, "", "pin it: vercel_project_name: 'app'"),
        ({"name": "shop"}, "app", "'shop' .* answered; check vercel_project_id"),
        ({"accountId": "team_2"}, "app", "belongs to team_2; check vercel_team_id"),
    ],
)
def test_another_project_is_refused(changed, name, says):
    with pytest.raises(RunbookError, match=says):
        check_identity(Project.read(PROJECT | changed), PLACE, name)


def test_a_project_with_little_to_say():
    project = Project.read(PROJECT)
    assert (project.live_id, project.auto_assigns, project.alias_request, project.production_branch) == (
        "", None, None, "",
    )  # fmt: skip
    assert check_identity(project, PLACE, "app") == "Project app (prj_1), as pinned."


@pytest.mark.parametrize("body", [None, [], {}, {"id": 1}, PROJECT | {"lastAliasRequest": {"type": "rollback"}}])
def test_an_answer_that_lacks_something_is_unknown(body):
    with pytest.raises(RunbookError, match="its API may have changed") as error:
        Project.read(body)
    assert error.value.status is Status.UNKNOWN


@pytest.mark.parametrize("stamp", [None, "1", True, 10**20])
def test_a_moment_that_is_none(stamp):
    body = {"uid": "dpl_1", "url": "u", "name": "app", "readyState": "READY", "created": stamp}
    with pytest.raises(RunbookError, match="no field created"):
        Deployment.read(body)


def test_a_deployment_of_a_list_and_by_itself_are_one():
    meta = {"gitlabCommitSha": "c0ffee", "gitlabCommitRef": "main"}
    common = {"url": "u", "name": "app", "readyState": "READY", "meta": meta, "target": "production"}
    listed = Deployment.read(common | {"uid": "dpl_1", "created": 1_700_000_000_000})
    assert listed == Deployment.read(common | {"id": "dpl_1", "createdAt": 1_700_000_000_000})
    assert (listed.commit, listed.branch, listed.is_rollback_candidate) == ("c0ffee", "main", None)
    assert str(listed) == "dpl_1 of commit c0ffee, made 2023-11-14 22:13:20 UTC"


def test_a_variable_is_read_without_its_value():
    body = {"id": "e1", "key": "KEY", "type": "encrypted", "value": "c4n4ry", "target": ["preview", "production"]}
    variable = Variable.read(body | {"customEnvironmentIds": ["env_1"], "updatedAt": 1_700_000_000_000})
    assert variable.targets == ("production", "preview", "env_1")
    assert "c4n4ry" not in repr(variable)
    assert Variable.read(body | {"target": "preview"}).targets == ("preview",)


def test_a_setting_keeps_its_value_to_itself():
    setting = Setting("KEY", "c4n4ry", "sensitive", ("production", "env_1"), comment="why")
    assert "c4n4ry" not in f"{setting} {setting!r}"
    assert setting.body() == {
        "key": "KEY", "value": "c4n4ry", "type": "sensitive", "target": ["production"],
        "customEnvironmentIds": ["env_1"], "comment": "why",
    }  # fmt: skip


def test_a_set_that_was_written_in_part_is_an_error_without_values():
    error = {"code": "BAD_REQUEST", "message": "Invalid value c4n4ry", "envVarKey": "KEY", "value": "c4n4ry"}
    with pytest.raises(RunbookError, match=r"did not write KEY \(BAD_REQUEST\)") as refused:
        Written.read({"created": [], "failed": [{"error": error}]})
    assert refused.value.code == "env_partly_written"
    assert "c4n4ry" not in f"{refused.value.message} {refused.value.context}"
    with pytest.raises(RunbookError, match="no field failed"):
        Written.read({"created": []})
    # One alone is no list.
    assert Written.read({"created": {"id": "e1"}, "failed": []}).ids == ("e1",)


def test_a_value_that_can_be_guessed_has_no_fingerprint():
    long = "x" * fingerprints.MIN_LENGTH
    assert fingerprint("KEY", long[1:]) == ""
    assert len(fingerprint("KEY", long)) == fingerprints.LENGTH
    # Where else the value is used does not follow from it.
    assert fingerprint("KEY", long) != fingerprint("OTHER", long)
    # As an application makes it by the manual.
    assert fingerprint("KEY", long) == vercel.fingerprint("KEY", long)
