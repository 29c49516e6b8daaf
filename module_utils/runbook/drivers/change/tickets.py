"""The ticket of a change: one for each change, whatever the network does.

:func:`open_ticket` notes in the change that there may be a ticket before it asks for one, and its number afterwards. So
:func:`close` and :func:`leave_open` need only the settings of the service and what was noted: whoever comes after a run
that was killed can do both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ansible.module_utils.runbook.drivers.change.changes import Done
from ansible.module_utils.runbook.drivers.change.github_issues import API_URL, MAX_BODY, GitHubIssues
from ansible.module_utils.runbook.drivers.change.jira import JiraTickets
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.http.webhook import Webhook
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.ticket import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible.module_utils.runbook.drivers.change.changes import Changes
    from ansible.module_utils.runbook.rules.change.note import Note
    from ansible.module_utils.runbook.rules.change.ticket import Transition

#: What :data:`~ansible.module_utils.runbook.rules.change.change.THINGS` calls it.
THING = "ticket"
#: Label of each ticket, by which GitHub lists them.
_LABEL = "runbook"
_GONE = (404, 410)


class Tickets(Protocol):
    """What every ticket system can do."""

    #: As in check mode: nothing is written, and what would be is told.
    read_only: bool
    #: Which one of its kind, without a secret; the same for everybody who means the same one.
    where: str

    def find(self, key: str, known: str) -> Ticket | None:
        """The ticket of a change; None if there is none.

        :param key: the change's
        :param known: its number, where it was noted; empty otherwise
        :raises RunbookError: refused, or no answer
        """

    def open(self, key: str, title: str, note: Note) -> tuple[Ticket | None, bool]:
        """The ticket of a change, found or made, and whether it was made; no ticket where check mode would make it.

        :param note: what it says first, with ``key`` as its own
        :raises RunbookError: refused, or nobody knows whether it was made
        """

    def comment(self, ticket: Ticket, note: Note) -> bool:
        """See that a note is on a ticket; whether it was written now, or would be.

        :raises RunbookError: refused, or nobody knows whether it was written
        """

    def close(self, ticket: Ticket) -> bool:
        """See that a ticket is closed; whether it was closed now, or would be. One that is gone is closed.

        :raises RunbookError: refused, or no answer
        """


class GitHubTickets:
    """Tickets as issues of a GitHub repository."""

    def __init__(self, issues: GitHubIssues) -> None:
        self._issues = issues
        self.read_only = issues.read_only
        self.where = issues.where

    def find(self, key: str, known: str) -> Ticket | None:
        """As :meth:`Tickets.find`."""
        if not known:
            return _ticket(self._issues.find(_LABEL, _line(key)))
        try:
            return _ticket(self._issues.get(known))
        except ApiError as error:
            if error.http_status in _GONE:
                return None
            raise

    def open(self, key: str, title: str, note: Note) -> tuple[Ticket | None, bool]:
        """As :meth:`Tickets.open`."""
        ensured = self._issues.ensure(_LABEL, _line(key), title, note.markdown(MAX_BODY), [_LABEL])
        return _ticket(ensured.found), ensured.made

    def comment(self, ticket: Ticket, note: Note) -> bool:
        """As :meth:`Tickets.comment`."""
        return self._issues.comment(ticket.id, _line(note.key), note.markdown(MAX_BODY))

    def close(self, ticket: Ticket) -> bool:
        """As :meth:`Tickets.close`."""
        now = self.find("", ticket.id)
        if now is None or not now.is_open:
            return False
        if not self.read_only:
            self._issues.edit(ticket.id, {"state": "closed", "state_reason": "completed"})
        return True


def _line(key: str) -> str:
    return f"<!-- {key} -->"


def _ticket(issue: Mapping[str, Any] | None) -> Ticket | None:
    if issue is None:
        return None
    return Ticket(str(issue["number"]), str(issue.get("html_url") or ""), is_open=issue.get("state") != "closed")


class WebhookTickets:
    """Tickets of a system that is told of them, and need not tell anything.

    Each event is ``{"schema": "runbook-ticket", "schema_version": 1, "event", "ticket", "title", "text", "report"}``.
    ``event`` is ``opened``, ``commented`` or ``closed``; ``ticket`` names the change's ticket, the same in each event;
    ``report`` is Markdown, and may be empty, as ``title`` is after the first event. The answer to the first one may say
    the ticket's ``url``.
    """

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self.read_only = webhook.read_only
        self.where = webhook.where

    def find(self, key: str, known: str) -> Ticket | None:
        """As :meth:`Tickets.find`; only what was noted is known."""
        del key
        return Ticket(known, "", is_open=True) if known else None

    def open(self, key: str, title: str, note: Note) -> tuple[Ticket | None, bool]:
        """As :meth:`Tickets.open`."""
        if self.read_only:
            return None, True
        said = self._send(key, "opened", key, title, note.text, note.report)
        return Ticket(key, str(said.get("url") or ""), is_open=True), True

    def comment(self, ticket: Ticket, note: Note) -> bool:
        """As :meth:`Tickets.comment`."""
        if not self.read_only:
            self._send(note.key, "commented", ticket.id, "", note.text, note.report)
        return True

    def close(self, ticket: Ticket) -> bool:
        """As :meth:`Tickets.close`."""
        if not self.read_only:
            self._send(f"{ticket.id}#close", "closed", ticket.id, "", "", "")
        return True

    def _send(self, key: str, event: str, ticket: str, title: str, text: str, report: str) -> Mapping[str, Any]:
        return self._webhook.send(
            key,
            {
                "schema": "runbook-ticket", "schema_version": 1, "event": event, "ticket": ticket, "title": title,
                "text": text, "report": report,
            },
        )  # fmt: skip


def from_params(
    params: Mapping[str, Any], closing: Callable[[list[Transition], str], Transition], *, read_only: bool
) -> Tickets | None:
    """The ticket system that a module's options name; None where the inventory decided to have none.

    :param params: checked by ``rules.change.ticket.check``
    :param closing: that rule's
    :raises RunbookError: a token would travel unencrypted
    """
    common: dict[str, Any] = {
        "ca_cert": params["ca_cert"], "timeout_s": params["timeout_s"], "read_only": read_only
    }  # fmt: skip
    backend = params["backend"]
    if backend == "github":
        issues = GitHubIssues(
            repository=params["github_repository"], token=params["github_token"], service="github",
            api_url=params["github_api_url"] or API_URL, **common,
        )  # fmt: skip
        return GitHubTickets(issues)
    if backend == "jira":
        name = params["jira_transition"] or ""
        return JiraTickets(
            url=params["jira_url"], user=params["jira_user"] or "", token=params["jira_token"],
            project=params["jira_project"], issue_type=params["jira_issue_type"] or "Task",
            closing=lambda possible: closing(possible, name), **common,
        )  # fmt: skip
    if backend == "webhook":
        return WebhookTickets(
            Webhook(
                service="The ticket system", url=params["webhook_url"], token=params["webhook_token"] or "", **common
            )
        )
    return None


def open_ticket(changes: Changes, tickets: Tickets, noted: Mapping[str, Any], title: str, note: Note) -> Done:
    """Open the ticket of a change, or find it.

    :param noted: what the change knows of it; at least its ``key``
    :raises RunbookError: refused, closed by somebody, or nobody knows whether there is one now
    """
    key = str(noted["key"])
    found = tickets.find(key, str(noted["id"])) if noted.get("id") else None
    made = False
    if found is None:
        before = changes.current()
        if not tickets.read_only:
            changes.opened(THING, noted)
        try:
            found, made = tickets.open(key, title, replace(note, key=key))
        except ApiError as error:
            if not (error.uncertain or tickets.read_only):
                changes.refused(THING, before)
            raise
    if found is None:
        return Done(f"Would open the ticket {title!r}.", facts={"changed": True})
    if not tickets.read_only:
        changes.opened(THING, {**noted, "id": found.id, "url": found.url})
    if not found.is_open:
        raise RunbookError(f"{found.name} of this change was closed meanwhile; open it again, then run this again.")
    done = "was opened" if made else "is open already"
    return Done(f"{found.name} {done}.", found.proof, _facts(found, changed=made))


def comment(tickets: Tickets, noted: Mapping[str, Any], note: Note) -> Done:
    """Write a note on the ticket of a change, unless it is there.

    :param noted: as in :func:`open_ticket`
    :raises RunbookError: there is no ticket; refused, or nobody knows whether it was written
    """
    found = _find(tickets, noted)
    if found is None and tickets.read_only:
        # In check mode nobody opened it.
        return Done("Would write on the ticket of this change.", facts={"changed": True})
    if found is None:
        raise RunbookError("The change has no ticket; open it first (state opened), or see who deleted it.")
    made = tickets.comment(found, note)
    would = "would get the note" if tickets.read_only else "has the note now"
    return Done(f"{found.name} {would if made else 'has the note'}.", found.proof, _facts(found, changed=made))


def close(tickets: Tickets, noted: Mapping[str, Any], note: Note) -> Done:
    """Write the last note on the ticket of a change, and close it; no error where it is closed or gone.

    :param noted: as in :func:`open_ticket`
    :raises RunbookError: refused, or nobody knows what became of it
    """
    found = _find(tickets, noted)
    if found is None:
        if tickets.read_only:
            return Done("Would close the ticket of this change.", facts={"changed": True})
        return Done("The change has no ticket any more, so none was closed.")
    said = tickets.comment(found, note) if note.text or note.report else False
    closed = tickets.close(found)
    how = "would be closed" if tickets.read_only else "was closed"
    msg = f"{found.name} {how if closed else 'is closed already'}."
    return Done(msg, found.proof, _facts(found, changed=said or closed))


def leave_open(tickets: Tickets, noted: Mapping[str, Any], note: Note) -> Done:
    """Write on the ticket of a change why it stays open, for a person to close it; no error where it is gone.

    :param noted: as in :func:`open_ticket`
    :raises RunbookError: refused, or nobody knows whether it was written
    """
    if _find(tickets, noted) is None and not tickets.read_only:
        return Done("The change has no ticket, so nothing was written on one.")
    done = comment(tickets, noted, note)
    return Done(f"{done.msg} It stays open for a person.", done.proof, done.facts)


def _find(tickets: Tickets, noted: Mapping[str, Any]) -> Ticket | None:
    return tickets.find(str(noted["key"]), str(noted.get("id") or ""))


def _facts(ticket: Ticket, *, changed: bool) -> dict[str, Any]:
    return {"changed": changed, "ticket_id": ticket.id, "ticket_url": ticket.url}
