"""What must be true before a run may write.

Each rule takes what was found as arguments, and returns the sentence that the record keeps. A rule that is not met
raises :class:`RunbookError`: what was asked, what was found, the fix. Rules that need no connection stand first, so
that a mistake on the command line never reaches a server.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import identity
from ansible.module_utils.runbook.rules.run import NEVER_ON_COMMAND_LINE, SAID_OF_CHANGE, SPLIT
from ansible.module_utils.runbook.rules.schedule import schedule
from ansible.module_utils.runbook.rules.status import Check
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

ENVIRONMENTS = ("sandbox", "staging", "production")

#: Room that the record of one run may need, in bytes. A journal is a few hundred kB; the rest is for report and logs.
MIN_FREE_BYTES = 32 * 1024 * 1024

#: Values that the examples hold until somebody fills them in.
_EXAMPLE = re.compile(
    r"\bexample\.(?:com|org|net)\b|<[a-z][a-z -]*>|^(?:xxx+|todo|tbd|fixme|change[ _-]?me|your[ _-].*)$", re.IGNORECASE
)


@dataclass
class Checks:
    """The checks so far; the first that is not met ends the run, and is kept with the others."""

    done: list[Check] = field(default_factory=list)

    @contextmanager
    def named(self, name: str) -> Iterator[dict[str, str]]:
        """One check; the block puts its sentence into ``msg``, or raises."""
        said = {"msg": ""}
        try:
            yield said
        except RunbookError as error:
            self.done.append(Check(name, error.status, error.message))
            error.context["checks"] = [check.result() for check in self.done]
            raise
        self.done.append(Check.ok(name, said["msg"]))


@dataclass(frozen=True)
class Journal:
    """The run's journal as it was found on the bastion."""

    directory: str | None
    #: Why the callback could not open its journal, in one sentence; None if it could.
    error: str | None
    #: Whether ``journal.jsonl`` is there and can be appended to.
    appendable: bool
    free_bytes: int


@dataclass(frozen=True)
class Server:
    """What the database said about itself."""

    database: str
    system_identifier: str
    in_recovery: bool
    #: PostgreSQL's ``clock_timestamp()``.
    clock: datetime
    size_bytes: int = 0


def check_record(journal: Journal) -> str:
    """A run that nobody can look at afterwards does not start.

    :raises RunbookError: no journal is being written, or there is no room for it
    """
    if journal.error:
        raise RunbookError(f"The run's record cannot be written: {journal.error}")
    if journal.directory is None:
        raise RunbookError(
            "No record of this run is being written (RUNBOOK_RUN_DIR is not set); start the playbook with "
            "ansible-playbook from the project's root, so that the callback run_record loads from playbooks/."
        )
    if not journal.appendable:
        raise RunbookError(
            f"The run's record cannot be written: {journal.directory}/journal.jsonl is missing or cannot be "
            "appended to; give this user the right to write there."
        )
    if journal.free_bytes < MIN_FREE_BYTES:
        raise RunbookError(
            f"The run's record needs {MIN_FREE_BYTES:,} bytes free in {journal.directory} and finds "
            f"{journal.free_bytes:,}; make room, or let RUNBOOK_RUNS_DIR name another disk."
        )
    return f"The record is written to {journal.directory}."


def check_inventory(sources: Sequence[str]) -> str:
    """Ansible merges several inventories silently, and the last one wins: so there must be exactly one.

    :param sources: what ``-i`` named, as Ansible's ``ansible_inventory_sources``
    :raises RunbookError: none, or more than one
    """
    named = [source for source in sources if source.strip()]
    if not named:
        raise RunbookError("inventory_sources: no inventory was named; add -i inventories/<environment>.")
    if len(named) > 1:
        raise RunbookError(
            f"inventory_sources: {count(len(named), 'inventory was', 'inventories were')} named "
            f"({', '.join(named)}), and Ansible would merge them silently; name exactly one with -i."
        )
    return f"One inventory: {named[0]}."


def check_environment(environment: str | None, source: str) -> str:
    """The inventory says what it is, and does not contradict the folder it stands in.

    :param environment: the inventory's ``runbook_environment``
    :param source: path of the inventory; the innermost folder that bears an environment's name counts
    :raises RunbookError: nothing said, an unknown word, or a folder that says otherwise
    """
    if not environment:
        raise RunbookError(
            "environment: the inventory does not say what it is; set runbook_environment in its "
            f"group_vars/all/main.yml to one of {', '.join(ENVIRONMENTS)}."
        )
    if environment not in ENVIRONMENTS:
        raise RunbookError(
            f"environment: {environment!r} is unknown; set runbook_environment to one of {', '.join(ENVIRONMENTS)}."
        )
    folders = [part for part in PurePath(source).parts if part in ENVIRONMENTS]
    if folders and folders[-1] != environment:
        raise RunbookError(
            f"environment: runbook_environment is {environment!r}, but the inventory stands in a folder named "
            f"{folders[-1]!r} ({source}); use the inventory of {environment}, or correct runbook_environment."
        )
    return f"The environment is {environment}."


def check_approval(
    *,
    environment: str,
    confirm: str,
    job: str,
    scheduled_jobs: Mapping[str, Any],
    playbook: str,
    said: Mapping[str, str],
    tags: tuple[Sequence[str], Sequence[str]] = ((), ()),
    emergency: str = "",
) -> str:
    """Production is touched by a job that its inventory lists, by a person who says the word, or in an emergency.

    :param confirm: the variable ``confirm``; empty if it is not set
    :param job: the variable ``preflight_job``; empty if it is not set
    :param said: the variables that the command line set, as ``rules.run.command_line`` gives them
    :param scheduled_jobs: the jobs that may run unattended, as ``schedule_jobs`` of the inventory has them
    :param playbook: the playbook that runs, and behind a blank the action, where it has several
    :param tags: those that the command line named, and those that it left out
    :param emergency: why it is one; empty where it is none
    :raises RunbookError: nobody approved, or what was said names something else
    """
    if SPLIT in said:
        raise RunbookError(
            f"-e: Ansible splits name=value at blanks, and made {said[SPLIT]} of one -e; write a value with blanks as "
            """-e '{"<name>": "<value>"}', and every other variable in a -e of its own."""
        )
    for name in said:
        of_change = name.startswith("change_") and name not in SAID_OF_CHANGE
        home = NEVER_ON_COMMAND_LINE.get(name) or ("the inventory" if of_change else "")
        if home:
            raise RunbookError(
                f"{name}: it was set with -e, where it would lead around a check; leave it out, it belongs into {home}."
            )
    for name, value in (("confirm", confirm), ("preflight_job", job)):
        if value and said.get(name) != value:
            raise RunbookError(
                f"{name}: {value!r} comes from an inventory, a file beside it or a playbook, where it would approve "
                f"every run; take it out there, and say -e {name}={value} on the command line of each run that is "
                "meant."
            )
    if confirm and confirm != environment:
        raise RunbookError(
            f"confirm: {confirm!r} was confirmed, but this inventory is {environment}; check -i, and confirm the "
            "environment that is meant."
        )
    if job:
        listed = schedule.listed(scheduled_jobs, job)
        schedule.check_run(listed, playbook=playbook, tags=tags[0], skip_tags=tags[1], said_there=said)
        return f"Approved as the scheduled job {job}."
    if emergency:
        return emergency
    if confirm:
        return f"Confirmed for {environment}."
    if environment == "production":
        raise RunbookError(
            f"confirm: {playbook} would run on production and nobody confirmed it; add -e confirm=production, or "
            "-e preflight_job=<job> for a job that schedule_jobs lists."
        )
    return f"{environment.capitalize()} needs no confirmation."


def is_example(value: Any) -> bool:
    """Whether a value, at any depth, is one that the examples hold.

    >>> is_example("db.example.com"), is_example({"ref": ["<project-ref>"]}), is_example("db.clinic.eu")
    (True, True, False)
    """
    if isinstance(value, str):
        return bool(_EXAMPLE.search(value.strip()))
    if isinstance(value, dict):
        return any(is_example(each) for each in value.values())
    return isinstance(value, (list, tuple)) and any(is_example(each) for each in value)


def check_filled_in(options: Mapping[str, Any]) -> None:
    """A target is named by a person, and not by the example of an inventory.

    :param options: by their names; no secrets, for a value is repeated
    :raises RunbookError: one holds what the examples hold
    """
    for name, value in options.items():
        if is_example(value):
            raise RunbookError(
                f"{name}: {value!r} is what the example of the inventory says; put your own value there."
            )


def check_identity(server: Server, *, system_identifier: str, database: str) -> str:
    """The server proves that it is the one which the inventory means.

    :param system_identifier: as pinned in the inventory; PostgreSQL gives each cluster its own at ``initdb``
    :param database: the database's name in the inventory
    :raises RunbookError: nothing is pinned, or another cluster or database answered
    """
    return identity.check(
        server.system_identifier, server.database, system_identifier=system_identifier, database=database
    )


def check_primary(server: Server) -> str:
    """Maintenance writes, and a standby cannot be written to.

    :raises RunbookError: the server is in recovery
    """
    if server.in_recovery:
        raise RunbookError(
            "login_host: this server is a standby (pg_is_in_recovery() is true), and maintenance writes; "
            "name the primary in db_login_host."
        )
    return "The server is a primary."


def clock_skew_s(server_clock: datetime, *, sent_at: datetime, received_at: datetime) -> float:
    """How far the server's clock is ahead of the bastion's, in seconds, as far as it is certain.

    The server read its clock somewhere between question and answer; half the round trip is the benefit of that doubt.

    >>> from datetime import datetime, timedelta
    >>> asked = datetime(2026, 1, 4, 2, 0, 0)
    >>> clock_skew_s(asked + timedelta(seconds=7201), sent_at=asked, received_at=asked + timedelta(seconds=2))
    7199.0
    """
    middle = sent_at + (received_at - sent_at) / 2
    doubt = (received_at - sent_at).total_seconds() / 2
    skew = (server_clock - middle).total_seconds()
    certain = max(abs(skew) - doubt, 0.0)
    return certain if skew >= 0 else -certain


def check_clock(skew_s: float, *, server_clock: datetime, bastion_clock: datetime, max_skew_s: int) -> str:
    """Windows and retention are judged by clocks, so the two clocks must agree.

    :param skew_s: as :func:`clock_skew_s` gives it
    :param max_skew_s: the largest difference that is accepted, in seconds
    :raises RunbookError: they differ by more
    """
    if abs(skew_s) > max_skew_s:
        raise RunbookError(
            f"max_clock_skew_s: the server's clock says {server_clock:%Y-%m-%d %H:%M:%S %Z} and the bastion's "
            f"{bastion_clock:%Y-%m-%d %H:%M:%S %Z}, {abs(skew_s):,.0f} s apart where {max_skew_s} s are accepted; "
            "set the wrong one right (timedatectl, chronyc tracking)."
        )
    return f"The clocks of server and bastion are {abs(skew_s):.1f} s apart."
