"""To which deployment an application goes back, at the borders: none, dead, bad, the same, and what is left to do."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy import rollback
from ansible.module_utils.runbook.rules.deploy.deployments import AliasRequest, Deployment, Project
from ansible.module_utils.runbook.rules.status import Status

NOW = datetime(2026, 11, 29, 2, 0, tzinfo=UTC)


def made(number: int, **changes: Any) -> Deployment:
    """The n-th deployment, an hour after the one before."""
    found = Deployment(
        id=f"dpl_{number}", url=f"{number}.vercel.app", name="app", target="production", state="READY",
        created_at=NOW + timedelta(hours=number), commit=f"{number:040x}", branch="main", is_rollback_candidate=True,
        was_live=True, key="", error="",
    )  # fmt: skip
    return replace(found, **changes)


def chosen(
    found: list[Deployment], *, live: int = 4, named: str = "", dead_h: float | None = None, bad: str = ""
) -> str:
    """The id of the choice."""
    dead = None if dead_h is None else NOW + timedelta(hours=dead_h)
    rotated = [rollback.Rotated("keys/server", ("SERVICE_KEY",), dead, dead)]
    return rollback.choose(made(live), found, named=named, rotated=rotated, bad={bad}).id


def test_doctests():
    assert doctest.testmod(rollback).failed == 0


def test_what_a_rotation_went_back_from_is_passed_over_and_refused_by_name():
    found = [made(number) for number in (1, 2, 3, 4)]
    body: dict[str, object] = {
        "env_names": ["SERVICE_KEY"],
        "dead_before": None,
        "at": {},
        "dead_deployments": ["dpl_3"],
    }
    rotated = [rollback.Rotated.read("keys/server", body)]
    assert rollback.choose(made(4), found, named="", rotated=rotated, bad=set()).id == "dpl_2"
    with pytest.raises(RunbookError, match="their rotation went back from it"):
        rollback.choose(made(4), found, named="dpl_3", rotated=rotated, bad=set())


def test_the_newest_that_was_live_before_is_taken():
    found = [made(number) for number in (1, 2, 3, 4, 5)]
    assert chosen(found) == "dpl_3"
    assert chosen(found, bad="dpl_3") == "dpl_2"
    assert chosen([*found[:2], made(3, was_live=False)]) == "dpl_2"
    assert chosen([*found[:2], made(3, is_rollback_candidate=False)]) == "dpl_2"
    # A redeployment of what is live brings the same code back.
    assert chosen([*found[:2], made(3, commit=made(4).commit)]) == "dpl_2"
    # Where nobody says of which commit they are, that cannot be.
    assert rollback.choose(
        made(4, commit=""), [made(3, commit="", was_live=None)], named="", rotated=[], bad=set()
    ).id == "dpl_3"  # fmt: skip


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([made(4)], "There is no deployment to roll back to"),
        ([made(4), made(5)], "There is no deployment to roll back to"),
        ([made(3, state="ERROR")], "There is no deployment to roll back to"),
        (
            [made(3, was_live=False), made(2, commit=made(4).commit)],
            "whatever is older is of the commit that is live or was never live",
        ),
    ],
)
def test_no_candidate(found, says):
    with pytest.raises(RunbookError, match=says) as error:
        chosen(found)
    assert error.value.code == "no_candidate"


def test_each_deployment_is_shown_with_what_speaks_against_it():
    rotated = [rollback.Rotated("keys/server", ("SERVICE_KEY",), NOW + timedelta(hours=2), None)]
    found = {
        "": made(3), "is live": made(4), "is newer": made(5), "has a retired key in it": made(1),
        "was rolled back from": made(2), "was never live": made(3, was_live=False),
        "is none that Vercel rolls back to": made(3, is_rollback_candidate=False),
        "is of the commit that is live": made(3, commit=made(4).commit),
    }  # fmt: skip
    assert {rollback.objection(each, made(4), rotated, {"dpl_2"}): each for each in found.values()} == found


def test_a_deployment_with_a_retired_key_is_refused_and_no_older_one_is_taken():
    found = [made(1), made(2), made(3)]
    # Built at the very moment at which the new key was written is built with the new one.
    assert chosen(found, dead_h=3) == "dpl_3"
    for named in ("", "dpl_3"):
        with pytest.raises(RunbookError, match=r"retired since \(SERVICE_KEY\).* and so is every older") as error:
            chosen(found, dead_h=3.001, named=named)
        assert error.value.code == "retired_key"


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("dpl_9", "none of the project's deployments"),
        ("dpl_5", "is newer than .* promote it"),
        ("2.vercel.app", "dpl_2 .* is ERROR"),
        ("dpl_1", "Vercel does not roll back to"),
        ("dpl_6", "was built for previews"),
    ],
)
def test_one_that_was_named_and_is_none(named, says):
    found = [
        made(1, is_rollback_candidate=False), made(2, state="ERROR"), made(3), made(4), made(5), made(6, target=""),
    ]  # fmt: skip
    with pytest.raises(RunbookError, match=says):
        chosen(found, named=named)
    # Whoever names it takes also what was never live.
    assert chosen([made(3, was_live=False), *found[3:]], named="dpl_3") == "dpl_3"
    assert chosen(found, named="dpl_4") == "dpl_4"


def project(auto: bool | None = False, **asked: Any) -> Project:
    request = AliasRequest("dpl_4", "dpl_3", "succeeded", NOW, "rollback")
    return Project("prj_1", "app", "team_1", "dpl_3", auto, replace(request, **asked), "main")


def test_one_that_is_on_its_way_is_not_asked_for_again():
    assert not rollback.under_way(project(), made(3))
    assert rollback.under_way(project(status="pending"), made(3))
    with pytest.raises(RunbookError, match="A rollback to dpl_3 is in-progress since"):
        rollback.under_way(project(status="in-progress"), made(2))


def test_what_was_rolled_back_from_is_remembered_once():
    body = rollback.remember(None, left=made(4), to=made(3), at=NOW, reason="a bug")
    assert rollback.rolled_back_from(body, project()) == {"dpl_4"}
    again = rollback.remember(body, left=made(4), to=made(3), at=NOW + timedelta(hours=1), reason="a bug")
    assert len(again["rollbacks"]) == 1
    # Vercel itself knows of the last one, also where our run was killed before it wrote that down.
    assert rollback.rolled_back_from(None, project()) == {"dpl_4"}
    assert rollback.rolled_back_from(None, project(type="promote")) == frozenset()
    bodies: list[dict[str, Any]] = [{}, {"rollbacks": [{}]}, {"rollbacks": "none"}]
    for damaged in bodies:
        with pytest.raises(RunbookError) as error:
            rollback.remembered(damaged)
        assert error.value.status is Status.UNKNOWN


@pytest.mark.parametrize("body", [{}, {"dead_before": "soon", "env_names": []}, {"dead_before": None}])
def test_a_key_of_which_nothing_is_known_is_unknown(body):
    with pytest.raises(RunbookError, match="is unknown") as error:
        rollback.Rotated.read("keys/server", body)
    assert error.value.status is Status.UNKNOWN


def test_what_is_left_to_do_names_what_was_bad():
    body = rollback.remember(None, left=made(4), to=made(3), at=NOW, reason="a bug")
    (said,) = rollback.follow_ups(project(), made(3), body)
    assert "What is pushed to main does not go live since the rollback of 2026-11-29 02:00:00 UTC" in said
    assert "dpl_4 (commit 000000000000)" in said
    assert rollback.follow_ups(project(auto=True), made(3), body) == []
    assert rollback.follow_ups(project(auto=None), made(3), body) == []
    assert "the deployment that was bad" in rollback.follow_ups(project(), made(3), None)[0]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, {"commit": made(3).commit}, ""),
        (200, {"commit": "other", "deployment": "dpl_3"}, ""),
        (200, {"commit": made(3).commit, "deployment": "dpl_4"}, "says that dpl_4 is served, and not dpl_3"),
        (200, {"commit": "c0ffee"}, "says that commit c0ffee is served"),
        (200, {}, "says neither deployment nor commit"),
        (200, [], "is no JSON object"),
        (503, {"commit": made(3).commit}, "answers with 503"),
    ],
)
def test_what_is_served(status, body, says):
    lacks = rollback.lacks(status, json.dumps(body), made(3))
    assert says in lacks
    assert bool(lacks) == bool(says)
    assert rollback.lacks(200, "<html>", made(3)) == "is no JSON object with the field commit"
    assert "Vercel knows none" in rollback.lacks(200, '{"commit": "c0ffee"}', made(3, commit=""))
