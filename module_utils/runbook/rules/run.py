"""The run that a module is part of, as the callback ``run_record`` announced it, and what that run was permitted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: In the run's folder: the targets that passed preflight. Modules hold a lock on it while they work.
PERMITS = "permits.jsonl"
#: In the run's folder: what modules said that were stopped, and whose results nobody read any more.
LAST_WORDS = "last_words.jsonl"

#: What counts only where a person or a scheduler says it with ``-e``: in an inventory it would approve every run.
COMMAND_LINE_ONLY = ("confirm", "preflight_job")
#: What the inventory or the playbook says of itself, and what ``-e`` may not change.
NEVER_ON_COMMAND_LINE = {
    "runbook_environment": "the inventory's group_vars/all.yml",
    "preflight_system_identifier": "the inventory",
    "preflight_scheduled_jobs": "the inventory",
    "preflight_playbook": "the playbook",
    "preflight_take_lease": "the playbook",
}


@dataclass(frozen=True)
class Run:
    """A run of one playbook; every field is None or empty where no callback announced it."""

    id: str | None
    directory: str | None
    #: ``<host>/<pid>`` of ansible-playbook, for people.
    controller: str | None
    #: The same process, as ``drivers/process.py`` names it.
    process: str | None = None
    #: The inventory host for which the module works; empty where the play does not say it.
    host: str = ""
    #: Variables that ``-e`` set: those of :data:`COMMAND_LINE_ONLY` with their values, others with an empty one.
    said: tuple[tuple[str, str], ...] = ()
    #: Whether the module only shows what it would do.
    check_mode: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Run:
        """Read the run from ``environ``."""
        return cls(
            id=environ.get("RUNBOOK_RUN_ID") or None,
            directory=environ.get("RUNBOOK_RUN_DIR") or None,
            controller=environ.get("RUNBOOK_CONTROLLER") or None,
            process=environ.get("RUNBOOK_PROCESS") or None,
            host=environ.get("RUNBOOK_HOST", ""),
            said=tuple(sorted(json.loads(environ.get("RUNBOOK_COMMAND_LINE") or "{}").items())),
        )


@dataclass(frozen=True)
class Permit:
    """One target that passed preflight in this run."""

    run_id: str
    #: The inventory host for which preflight ran.
    host: str
    environment: str
    #: The cluster and the database that proved themselves; empty where the playbook needs none.
    system_identifier: str = ""
    database: str = ""
    #: Preflight ran in check mode, took no lease, and permits nothing but a look.
    check_mode: bool = False


def command_line(extra: Mapping[str, object]) -> dict[str, str]:
    """Of the variables that ``-e`` set, what modules are told: every name, and the values of two.

    >>> command_line({"confirm": "production", "login_password": "secret"})
    {'confirm': 'production', 'login_password': ''}
    """
    return {name: str(value) if name in COMMAND_LINE_ONLY else "" for name, value in sorted(extra.items())}
