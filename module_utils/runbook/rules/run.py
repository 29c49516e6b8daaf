"""The run that a module is part of, as the callback ``run_record`` announced it, and what that run was permitted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.target import Target

#: In the run's folder: what the command line said, what was approved, and the targets that proved themselves. Modules
#: hold a lock on it while they work.
PERMITS = "permits.jsonl"
#: In the run's folder: what modules said that were stopped, and whose results nobody read any more.
LAST_WORDS = "last_words.jsonl"

#: What counts only where a person or a scheduler says it with ``-e``: in an inventory it would approve every run.
COMMAND_LINE_ONLY = ("confirm", "preflight_job", "window_override", "emergency_kind", "emergency_reason")
#: What a scheduled job may say besides its name: which action it is for. No secret is among them.
SAID_BY_JOBS = ("backup_verify_proof", "dr_drill_heartbeat_duration_s", "key_rotation_action", "pitr_action")
#: Of :data:`COMMAND_LINE_ONLY` the ones that are sentences.
_REASONS = ("window_override", "emergency_reason")
#: The variables whose values modules are told.
TOLD = frozenset((*COMMAND_LINE_ONLY, *SAID_BY_JOBS))
#: How a reason is given that has blanks: Ansible splits name=value at them, whatever quotes the shell took away.
OVERRIDE = """-e '{"window_override": "<reason>"}'"""
#: In what :func:`command_line` says: what Ansible made of a ``-e`` that was not meant so; its own name for the words
#: that belong to no variable.
SPLIT = "_raw_params"
#: What the inventory or the playbook says of itself, and what ``-e`` may not change.
NEVER_ON_COMMAND_LINE = {
    "runbook_environment": "the inventory's group_vars/all/main.yml",
    "preflight_system_identifier": "the inventory",
    "schedule_jobs": "the inventory",
    "preflight_playbook": "the playbook",
    "preflight_take_lease": "the playbook",
    "preflight_max_clock_skew_s": "the inventory",
    "maintenance_calendar": "the inventory",
    "maintenance_operations": "the inventory",
    "preflight_approved": "the role preflight",
    "change_do": "the role change",
    "change_opened": "the role change",
    "change_left": "the role change",
    "state_bucket": "the inventory",
    "state_directory": "the inventory",
    "state_prefix": "the inventory",
}

#: What ``-e`` may say of a change; the rest would lead around a line of its checklists.
SAID_OF_CHANGE = ("change_reason", "change_rollback_plan")

#: The one variable of ours that a play's ``environment`` may set, and only to its own inventory host.
HOST = "RUNBOOK_HOST"
#: Variables that begin like this are the callback's to set.
OWN = "RUNBOOK_"


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
            host=environ.get(HOST, ""),
        )


@dataclass(frozen=True)
class Approval:
    """What passed the checks that need no target: the record, the inventory, the environment, and who approved."""

    #: The inventory host for which preflight ran.
    host: str
    environment: str
    #: As ``preflight_playbook`` says it.
    playbook: str
    #: Preflight ran in check mode, and permits nothing but a look.
    check_mode: bool = False
    #: When the run's maintenance window ends, or a freeze begins, as ISO 8601 in UTC; None where nothing bounds it.
    ends_at: str | None = None
    #: Lines of the checklists that have to be done; nothing is written before the change is open. None of them: the
    #: operation is not run as a change.
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Begun:
    """The change of this run is open."""

    #: As in :class:`Approval`; nothing was opened.
    check_mode: bool = False
    #: The play that opened it, as in :class:`Batch`.
    play: str = ""


@dataclass(frozen=True)
class Batch:
    """The hosts that a play works on now, as the callback says it before they begin."""

    play: str = ""
    number: int = 1
    of: int = 1
    #: Why it does not begin, in one sentence; empty where it does.
    held: str = ""


@dataclass(frozen=True)
class Permit:
    """One target that proved itself in this run."""

    #: The inventory host for which preflight ran.
    host: str
    target: Target
    #: As in :class:`Approval`; no lease was taken.
    check_mode: bool = False


def split(parsed: Mapping[str, object]) -> dict[str, object]:
    """The variables of one ``-e name=value …``; what is said of :data:`SPLIT` where they may not be what was meant.

    Ansible drops words that belong to no variable, and takes ``confirm=production`` inside of a reason for a variable.

    :param parsed: as Ansible's ``parse_kv`` gives it

    >>> split({"a": "1", "b": "2"})
    {'a': '1', 'b': '2'}
    >>> split({"window_override": "see", "confirm": "production", "_raw_params": "ticket please"})["_raw_params"]
    'window_override, confirm and words without a name'
    """
    names = [str(name) for name in parsed if name != SPLIT]
    if SPLIT in parsed:
        names.append("words without a name")
    elif not set(names) & set(_REASONS) or len(names) == 1:
        return dict(parsed)
    return dict(parsed) | {SPLIT: " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))}


def command_line(given: Iterable[tuple[Iterable[str], Mapping[str, object]]], folders: Iterable[str]) -> dict[str, str]:
    """Of the variables that ``-e`` set, what modules are told: every name, and the values of a few.

    A file that lies in the inventory's folder is a part of the inventory, whoever names it: what it approves would
    approve every run. So is one that is reached through that folder, by a symbolic link that lies there.

    :param given: for each ``-e`` in its order, the places through which its file is reached (none where it has no file)
        and its variables
    :param folders: the inventories' folders; all paths are absolute, without symbolic links above their names

    >>> command_line([([], {"confirm": "production", "login_password": "secret"})], [])
    {'confirm': 'production', 'login_password': ''}
    >>> command_line([(["/srv/production/yes.yml"], {"confirm": "production"})], ["/srv/production"])
    {'confirm': ''}
    """
    standing = tuple(PurePath(folder) for folder in folders)
    said: dict[str, str] = {}
    for places, variables in given:
        counts = not any(folder in PurePath(place).parents for place in places for folder in standing)
        said |= {
            str(name): str(value) if name == SPLIT or (counts and name in TOLD) else ""
            for name, value in variables.items()
        }
    return dict(sorted(said.items()))


def opening(
    run_id: str, said: Mapping[str, str], playbook: str, tags: Sequence[str] = (), skip_tags: Sequence[str] = ()
) -> str:
    """The first line of :data:`PERMITS`: what the command line of this run said.

    :param said: as :func:`command_line` gives it
    :param playbook: the one that was started, without its suffix, and empty where it is none of this project; what it
        imports belongs to the same run
    :param tags: those of the command line, and likewise ``skip_tags``; none where it names none
    """
    line = {"said": dict(said), "playbook": playbook, "tags": list(tags), "skip_tags": list(skip_tags)}
    return json.dumps({"run_id": run_id, **line}) + "\n"


def forged(environ: Mapping[str, str], host: str) -> str | None:
    """Why the ``environment`` of a play or a task is refused, in one sentence; None where it may stay.

    :param environ: the ``environment`` of play, role, block and task together, its templates filled in
    :param host: the inventory host of the task

    >>> forged({"RUNBOOK_HOST": "db", "TZ": "UTC"}, "db")
    """
    for name, value in sorted(environ.items()):
        if name == HOST and value != host:
            return f"environment: {HOST} is {value!r}, but this task works for {host!r}; set it to inventory_hostname."
        if name.startswith(OWN) and name != HOST:
            return (
                f"environment: {name} is set by a play or a task, and only ansible-playbook itself may say it of its "
                "run; take it out there."
            )
    return None
