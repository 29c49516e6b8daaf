"""What AWX has of an environment and the inventory does not have: nothing is removed there, so it starts on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - typed.read looks it up
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import typed
from ansible.module_utils.runbook.rules.status import Check, Status
from ansible.module_utils.runbook.rules.words import to_second

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_KINDS = {"job_template": "job template", "workflow_job_template": "workflow"}


@dataclass(frozen=True)
class Template:
    """A job template or a workflow; AWX counts both in one row of numbers."""

    id: int
    #: ``job_template`` or ``workflow_job_template``.
    type: str
    name: str
    #: The project's number; a workflow has none, and neither has a template whose project was deleted.
    project: int | None
    #: User who made it; empty where AWX has no such user any more.
    made_by: str

    @classmethod
    def of(cls, item: dict[str, Any]) -> Template:
        """As AWX lists it.

        :raises RunbookError: ``unknown``, that is none
        """
        found: Template = _read(cls, {"project": None} | item)
        return found

    def __str__(self) -> str:
        return f'{_KINDS[self.type]} "{self.name}"'


@dataclass(frozen=True)
class Schedule:
    """A schedule of AWX, of whatever it starts."""

    id: int
    name: str
    #: Number of the template, project or source of an inventory that it starts.
    starts: int
    #: None where it starts nothing any more: it is disabled, or its last date has passed.
    next_run: datetime | None
    made_by: str

    @classmethod
    def of(cls, item: dict[str, Any]) -> Schedule:
        """As AWX lists it.

        :raises RunbookError: ``unknown``, that is none
        """
        found: Schedule = _read(cls, item | {"starts": item.get("unified_job_template")})
        return found


def beyond(
    templates: Iterable[Template],
    schedules: Iterable[Schedule],
    *,
    environment: str,
    project: int,
    wanted_templates: Collection[int],
    wanted_schedules: Collection[int],
) -> list[str]:
    """What the inventory does not have, each in a few words, with who made it.

    A template is of the environment by its project, whatever it is called now, or by a name as ``roles/controller``
    gives it; another environment's name may begin with this one's. What a person made of the project under a name of
    their own starts nothing by itself and is let through, but no schedule of it is.

    :param wanted_templates: numbers of the job templates and workflows that the inventory has
    :param wanted_schedules: numbers of its schedules, which AWX counts in a row of their own
    """
    named = re.compile(rf"{re.escape(environment)} \S+( with approval)?")
    ours = {each.id: each for each in templates if each.project == project or named.fullmatch(each.name)}
    left = [
        f"{each}{_by(each.made_by)}"
        for each in ours.values()
        if each.id not in wanted_templates and each.name.startswith(f"{environment} ")
    ]
    return left + [
        f'schedule "{each.name}"{_by(each.made_by)}, which starts {ours[each.starts]} next at '
        f"{to_second(each.next_run.isoformat())}"
        for each in schedules
        if each.starts in ours and each.next_run and each.id not in wanted_schedules
    ]


def judge(left: Collection[str]) -> Check:
    """Whether there is nothing of what :func:`beyond` tells."""
    if not left:
        return Check.ok("leftovers", "AWX has nothing of this environment beyond the inventory.")
    return Check.breach(
        "leftovers",
        f"AWX has what the inventory does not: {'; '.join(left)}. Delete it in AWX, where a template takes its "
        "schedules along; a schedule may be disabled instead, and what is to run goes into schedule_jobs.",
    )


def _read(kind: type, item: dict[str, Any]) -> Any:
    # A user who was deleted is in no summary.
    maker = item.get("summary_fields", {}).get("created_by", {}).get("username", "")
    try:
        return typed.read(kind, item | {"made_by": maker}, "an item")
    except typed.FieldError as error:
        raise RunbookError(f"AWX: {error} in its list; check controller_url.", status=Status.UNKNOWN) from None


def _by(user: str) -> str:
    return f" of {user}" if user else ""
