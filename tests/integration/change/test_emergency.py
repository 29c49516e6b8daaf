"""An emergency, from its reason to its review."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from changes import item, open_change, options
from conftest import run_module
from world import World, a_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Database

WHY = {"emergency_kind": "security", "emergency_reason": "a service key leaked"}
FIX = {"emergency_by_hand_s": 1}


@pytest.fixture
def world(database: Database, s3: S3, tmp_path: Path) -> Iterator[World]:
    with a_world(database, tmp_path) as made:
        made.project.all_vars |= {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
        made.project.all_vars |= {"backup_prefix": "logical", "backup_bucket_tls_only": False}
        yield made


def test_an_emergency_by_hand_from_its_reason_to_its_review(world):
    ended = world.project.run("emergency.yml", **WHY, **FIX)
    assert ended.code == 0, ended.output
    record = world.record(ended)
    assert record["status"] == "ok"
    (issue,) = world.tickets.issues
    assert (issue["state"], "security" in issue["title"]) == ("closed", True)
    (incident,) = world.page.incidents
    assert incident["status"] == "resolved"
    # The page is public.
    assert "leaked" not in json.dumps(incident)
    assert 503 in world.application.seen
    assert world.application.until is None
    assert not world.open_changes()
    (review,) = world.state.rglob("reviews/*.json")
    said = json.loads(review.read_text())["body"]
    assert (said["kind"], said["reason"]) == ("security", "a service key leaked")
    assert ended.results["pg_backup"]


def test_its_plan_is_green_and_tells_nobody(world):
    planned = world.project.run("emergency.yml", "--check", "--diff", **WHY, **FIX)
    assert planned.code == 0, planned.output
    assert (world.tickets.issues, world.page.incidents, world.application.until) == ([], [], None)
    assert not list(world.state.rglob("*.json"))


@pytest.mark.parametrize("fix", ["emergency.yml", "/srv/rollback.yml"])
def test_what_makes_no_fix_is_refused_before_anybody_is_told(world, fix):
    refused = world.project.run("emergency.yml", **WHY, emergency_fix=fix)
    assert refused.code != 0
    assert f"emergency_fix: '{fix}' is no playbook that makes a fix" in " ".join(refused.output.split())
    assert refused.results == {}


def test_no_fix_leads_back_to_the_damage(world):
    """It did: green, and with the damage still there."""
    refused = world.project.run("emergency.yml", **WHY, emergency_fix="rollback.yml", db_rollback_backup="latest")
    assert refused.code == 2
    assert "db_rollback_backup=latest would be the snapshot that this emergency takes" in refused.output
    assert "runbook_preflight" not in refused.results


def test_a_fix_that_does_nothing_lets_nobody_in(tmp_path):
    changes = open_change(tmp_path)
    work = options(tmp_path) | {"item": "work"}
    nothing = run_module("change_steps", work)
    assert (nothing.failed, nothing.result["status"], item(changes, "work")[0]) == (True, "unknown", "unknown")
    assert "No step of it was carried out" in nothing.result["msg"]
    # A plan comes to the lines after it.
    assert run_module("change_steps", work, check=True).result["status"] == "ok"


def test_where_the_fix_fails_users_stay_out_until_it_is_made(world):
    failed = world.project.run(
        "emergency.yml", **WHY, emergency_fix="weekly_db.yml", db_maintenance_vacuum_tables=["public.gone"]
    )
    assert failed.code == 2, failed.output
    assert world.application.until is not None
    (change,) = world.open_changes()
    (issue,) = world.tickets.issues
    assert issue["state"] == "open"
    assert "stays open, and users are kept out until then" in failed.output
    assert list(world.state.rglob("reviews/*.json"))
    # Nobody changes anything meanwhile.
    routine = world.run()
    assert routine.code == 2, routine.output
    assert "was left open by a run that is gone; users may be kept out until it is fixed" in routine.output
    assert world.application.until is not None
    assert world.open_changes() == [change]
    looked = len(world.application.seen)
    again = world.project.run("emergency.yml", **WHY, emergency_fix="weekly_db.yml")
    assert again.code == 0, again.output
    assert world.application.until is None
    assert not world.open_changes()
    assert [each["state"] for each in world.tickets.issues] == ["open", "closed"]
    # Nobody gets in between the two attempts.
    seen = world.application.seen[looked:]
    assert seen == sorted(seen, reverse=True), seen


@pytest.mark.parametrize(("said", "sentence"), [
    ({}, "emergency_kind: it is not set"),
    ({"emergency_kind": "securty", "emergency_reason": "x"}, "did you mean security?"),
    ({"emergency_kind": "security"}, "emergency_reason: it is not set"),
    ({"emergency_kind": "security", "emergency_reason": " "}, "emergency_reason: it is not set"),
])  # fmt: skip
def test_without_a_reason_nothing_begins(world, said, sentence):
    refused = world.project.run("emergency.yml", **said)
    assert refused.code == 2
    assert sentence in refused.output
    assert not world.tickets.issues
    assert not world.open_changes()


def test_a_reason_counts_for_the_emergency_alone_and_only_from_the_command_line(world):
    misplaced = world.run(**WHY)
    assert "emergency_kind: it counts for playbooks/emergency.yml alone" in misplaced.output
    world.project.all_vars |= WHY
    standing = world.project.run("emergency.yml", **FIX)
    assert "emergency_kind: it is not set" in standing.output
    assert not world.tickets.issues
