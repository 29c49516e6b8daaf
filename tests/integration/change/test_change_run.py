"""A whole weekly run as a change, with every service around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from world import World, a_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Database


@pytest.fixture
def world(database: Database, tmp_path: Path) -> Iterator[World]:
    with a_world(database, tmp_path) as made:
        yield made


def test_a_change_from_announcement_to_closed_ticket(world):
    ended = world.run()
    assert ended.code == 0, ended.output
    record = world.record(ended)
    assert record["status"] == "ok"
    (issue,) = world.tickets.issues
    assert issue["state"] == "closed"
    assert "db_rollback_before=" in issue["body"].replace("\\", "")
    assert "Works on: db (database " in issue["body"].replace("\\", "")
    steps, report = world.tickets.comments[1]
    for text in (issue["body"], steps["body"]):
        # Paragraphs, not the letters that mean one.
        assert "\n\n" in text
        assert r"\n" not in text
    assert "Vacuum" in steps["body"]
    assert record["run_id"] in report["body"]
    (notice,) = world.notices
    assert notice["status"] == "completed"
    assert len(world.team.events) == 1
    assert len(world.alerts.silences) == 1
    assert 503 in world.application.seen
    assert world.application.seen[-1] == 200
    assert world.nothing_is_left()
    checked = ended.last("change_check")
    assert {each["name"] for each in checked["checks"]} >= {"work", "health:db", "function:db", "maintenance_mode_off"}
    assert {each["status"] for each in checked["checks"]} == {"ok"}


def test_an_inventory_that_is_not_ready_is_told_before_anything_is_opened(world, database):
    """What the first Sunday after an upgrade says: all of it at once, and nobody was told of a change."""
    project, environment = world.project, "production"
    database.mark(environment)
    project.all_vars = {
        name: value for name, value in project.all_vars.items()
        if not name.startswith("change_") or name.startswith("change_ticket_")
    } | {"runbook_environment": environment}  # fmt: skip
    del project.all_vars["state_directory"]
    ended = project.run("weekly_db.yml", confirm=environment, window_override="a test")
    assert ended.code == 2
    (said,) = [each["msg"] for each in ended.results["runbook_preflight"]]
    for sentence in (
        "weekly_db.yml is run as a change, and the inventory lacks what that needs.",
        "state_bucket, state_directory: neither is set",
        "backup_bucket: it is not set",
        "change_health_pages, change_smoke_queries: both are empty",
    ):
        assert sentence in said
    assert "pg_preflight" not in ended.results
    assert world.tickets.issues == []
    assert not database.one("SELECT to_regclass('runbook.lease') IS NOT NULL")
    project.all_vars["change_needs"] = {"weekly_db.yml": []}
    without = project.run("weekly_db.yml", confirm=environment, window_override="a test")
    assert without.code == 0, without.output


def test_a_drill_that_is_refused_is_refused_before_there_is_a_ticket(world: World, s3: S3):
    project = world.project
    project.all_vars |= {f"backup_{name}": value for name, value in s3.options(s3.bucket()).items()}
    project.all_vars["change_needs"] = {"dr_drill.yml": ["ticket", "team", "work"]}
    ended = project.run("dr_drill.yml", dr_drill_announce_days=7, dr_drill_state_dir=str(project.folder / "drill"))
    assert ended.code == 2
    assert "the drill was not announced" in ended.last("dr_drill_begin")["msg"]
    assert (world.tickets.issues, world.team.events, world.open_changes()) == ([], {}, [])
