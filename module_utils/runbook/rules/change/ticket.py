"""Tickets: what a ticket system must be told of, and how its words are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.backend import Needs, check_options

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Options of ``change_ticket`` by the service that has a use for them.
BACKENDS = {
    "github": Needs(("github_repository", "github_token"), ("github_api_url",)),
    "jira": Needs(
        ("jira_url", "jira_project", "jira_token"), ("jira_user", "jira_issue_type", "jira_transition")
    ),
    "webhook": Needs(("webhook_url",), ("webhook_token",)),
}  # fmt: skip
#: Acts that say something.
_SAYING = ("opened", "commented", "left_open")

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")
_PROJECT = re.compile(r"[A-Z][A-Z0-9_]+")


@dataclass(frozen=True)
class Ticket:
    """A ticket, as its service has it now."""

    #: By which the service knows it: a number, a key.
    id: str
    #: For people; empty where the service does not say.
    url: str
    is_open: bool

    @property
    def name(self) -> str:
        """For a sentence."""
        return f"Ticket {self.id}"

    @property
    def proof(self) -> str:
        """Where a person finds it."""
        return self.url or self.id


@dataclass(frozen=True)
class Transition:
    """A step of Jira's workflow that a ticket can take now."""

    id: str
    name: str
    #: Category of the state that it leads to: ``new``, ``indeterminate`` or ``done`` in every language.
    category: str


def closing(transitions: list[Transition], name: str) -> Transition:
    """The step that closes a ticket.

    :param name: as the inventory has it; empty where there is but one
    :raises RunbookError: there is none, or more than one
    """
    if name:
        found = [each for each in transitions if each.name.casefold() == name.casefold()]
        wrong = f"no transition {name!r} can be taken now"
    else:
        found = [each for each in transitions if each.category == "done"]
        wrong = f"{'more than one transition closes' if found else 'no transition closes'} the ticket"
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(repr(each.name) for each in found or transitions)) or "none"
    raise RunbookError(f"jira_transition: {wrong}; name the one that does. Possible now: {names}.")


def check(params: Mapping[str, Any]) -> None:
    """Refuse options of ``change_ticket`` that do not fit together.

    :raises RunbookError: names the option and the fix
    """
    check_options(params, BACKENDS)
    state = params["state"]
    if state in _SAYING and not params["text"].strip():
        raise RunbookError(f"text: it is empty; say what the ticket has to say where state is {state}.")
    if (state == "opened") != bool(params["title"].strip()):
        raise RunbookError("title: a ticket has one when it is opened, and only then; set it where state is opened.")
    if params["report"] and state not in ("closed", "left_open"):
        raise RunbookError(f"report: state {state} has no use for it; take it out.")
    repository, project = params["github_repository"], params["jira_project"]
    if repository and not _REPOSITORY.fullmatch(repository):
        raise RunbookError(f"github_repository: {repository!r} names none; write it as owner/name.")
    if project and not _PROJECT.fullmatch(project):
        raise RunbookError(
            f"jira_project: {project!r} is no key of a project; write it as in MS-12, without the number."
        )
