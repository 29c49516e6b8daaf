"""What AWX has beyond the inventory: whose it is, and whether it starts anything."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible.module_utils.runbook.rules.schedule.leftovers import Schedule, Template, beyond, judge

PROJECT, OTHER_PROJECT = 3, 4
NEXT = datetime(2026, 12, 6, 2, tzinfo=UTC)
BACKUP = Template(11, "job_template", "prod backup.yml", PROJECT, "runbook")


def template(name: str, project: int | None = PROJECT, *, number: int = 12, kind: str = "job_template") -> Template:
    return Template(number, kind, name, project, "alice")


def schedule(name: str = "prod nightly", *, starts: int = 11, next_run: datetime | None = NEXT) -> Schedule:
    # Its number is that of a template too.
    return Schedule(12, name, starts, next_run, "alice")


def found(*more: Template, schedules: tuple[Schedule, ...] = (), wanted_schedules: tuple[int, ...] = ()) -> list[str]:
    return beyond(
        [BACKUP, *more], schedules, environment="prod", project=PROJECT, wanted_templates={BACKUP.id},
        wanted_schedules=wanted_schedules,
    )  # fmt: skip


def test_nothing_beyond_is_ok():
    assert judge(found()).status == "ok"
    assert judge(found(schedules=(schedule(),), wanted_schedules=(12,))).status == "ok"


@pytest.mark.parametrize(
    "left",
    [
        template("prod gone.yml"),
        template("prod a name by hand"),
        template("prod gone.yml", None),
        template("prod gone.yml with approval", None, kind="workflow_job_template"),
    ],
)
def test_a_template_of_the_environment_is_beyond(left):
    kind = "workflow" if left.project is None and "approval" in left.name else "job template"
    assert found(left) == [f'{kind} "{left.name}" of alice']


@pytest.mark.parametrize(
    "other",
    [
        template("prod eu backup.yml", OTHER_PROJECT),
        template("prod eu rollback.yml with approval", None, kind="workflow_job_template"),
        template("production backup.yml", OTHER_PROJECT),
        template("prod restart nginx", OTHER_PROJECT),
        template("try this", PROJECT),
    ],
    ids=lambda each: each.name,
)
def test_a_template_of_others_is_not(other):
    assert found(other) == []
    # One of our project is no other environment's, so that its schedules count.
    timed = found(other, schedules=(schedule(starts=other.id),))
    assert len(timed) == (other.project == PROJECT)


@pytest.mark.parametrize("name", ["prod left-the-inventory", "my own"])
def test_a_schedule_says_whose_it_is_and_what_it_starts(name):
    said = judge(found(schedules=(schedule(name),))).msg
    assert (
        f'schedule "{name}" of alice, which starts job template "prod backup.yml" next at 2026-12-06 02:00:00 UTC.'
        in said
    )
    assert "schedule_jobs" in said


def test_a_schedule_of_a_template_that_was_renamed_counts():
    renamed = template("old backup")
    assert found(renamed, schedules=(schedule("prod daily-backup", starts=renamed.id),)) == [
        'schedule "prod daily-backup" of alice, which starts job template "old backup" next at 2026-12-06 02:00:00 UTC'
    ]


def test_a_schedule_that_starts_nothing_does_not_count():
    assert found(schedules=(schedule(next_run=None), schedule(starts=99))) == []


def test_who_is_gone_is_not_named():
    assert found(Template(12, "job_template", "prod gone.yml", PROJECT, "")) == ['job template "prod gone.yml"']
