"""Issues of one Jira project: version 3 of the API on Jira Cloud, version 2 on Data Center.

Version 3 takes text as a tree without marks (Atlassian Document Format), version 2 as wiki text. Cloud took ``/search``
away; its successor lags behind what was written, by seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError, basic
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.ticket import Ticket, Transition
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible.module_utils.runbook.rules.change.note import Note

#: Longest text that is sent, in characters. Jira takes 32,767, and counts its own marks too.
_MAX_TEXT = 30_000
_PAGE = 100
_GONE = (404, 410)


class JiraTickets:
    """Tickets in a Jira project.

    :param user: e-mail address of the token's user on Jira Cloud; empty on Data Center, where the token says who it is
    :param closing: which of the possible transitions closes a ticket
    """

    def __init__(
        self, *, url: str, user: str, token: str, project: str, issue_type: str,
        closing: Callable[[list[Transition]], Transition], ca_cert: str | None, timeout_s: float, read_only: bool,
    ) -> None:  # fmt: skip
        self.read_only = read_only
        self._url = url.rstrip("/")
        self.where = f"{self._url} {project}"
        self._is_cloud = bool(user)
        self._path = f"/rest/api/{3 if user else 2}"
        self._project = project
        self._issue_type = issue_type
        self._closing = closing
        both = basic(user, token)
        self._api = ApiClient(
            service="Jira",
            base_url=self._url,
            headers={"Authorization": f"Basic {both}" if user else f"Bearer {token}"},
            secrets={"jira_token": token} | ({"jira_user": both} if user else {}),
            read_only=read_only,
            timeout_s=timeout_s,
            fixes={
                401: "check jira_user and jira_token; Data Center wants no jira_user",
                404: "check jira_url; who may not see a ticket is told the same",
            },
            ca_cert=ca_cert,
            options=("jira_url", "ca_cert"),
        )

    def find(self, key: str, known: str) -> Ticket | None:
        """As ``Tickets.find``."""
        if known:
            try:
                found = self._api.get(f"{self._path}/issue/{known}", (("fields", "status"),))
            except ApiError as error:
                if error.http_status in _GONE:
                    return None
                raise
            return self._ticket(found)
        search = "/search/jql" if self._is_cloud else "/search"
        query = (("jql", f'labels = "{key}" ORDER BY created ASC'), ("fields", "status"), ("maxResults", "1"))
        answer = self._api.get(f"{self._path}{search}", query)
        issues = answer.get("issues") if isinstance(answer, dict) else None
        if not isinstance(issues, list):
            raise self._odd("issues")
        return self._ticket(issues[0]) if issues else None

    def open(self, key: str, title: str, note: Note) -> tuple[Ticket | None, bool]:
        """As ``Tickets.open``."""
        fields = {
            "project": {"key": self._project},
            "issuetype": {"name": self._issue_type},
            "summary": title,
            "description": self._text(note),
            "labels": ["runbook", key],
        }

        def create() -> Ticket | None:
            made = self._api.post(f"{self._path}/issue", {"fields": fields})
            named = isinstance(made, dict) and made.get("key")
            return Ticket(str(named), self._browse(str(named)), is_open=True) if named else None

        ensured = self._api.ensure(lambda: self.find(key, ""), create)
        return ensured.found, ensured.made

    def comment(self, ticket: Ticket, note: Note) -> bool:
        """As ``Tickets.comment``."""
        path = f"{self._path}/issue/{ticket.id}/comment"

        def find() -> bool | None:
            start = 0
            while True:
                answer = self._api.get(path, (("startAt", str(start)), ("maxResults", str(_PAGE))))
                comments = answer.get("comments") if isinstance(answer, dict) else None
                if not isinstance(comments, list):
                    raise self._odd("comments")
                if any(note.last_line in _lines(each.get("body")) for each in comments):
                    return True
                start += len(comments)
                if not comments or start >= int(answer.get("total", 0)):
                    return None

        def create() -> bool | None:
            made = self._api.post(path, {"body": self._text(note)})
            return True if isinstance(made, dict) and "id" in made else None

        return self._api.ensure(find, create).made

    def close(self, ticket: Ticket) -> bool:
        """As ``Tickets.close``."""
        path = f"{self._path}/issue/{ticket.id}/transitions"

        def closed() -> bool | None:
            now = self.find("", ticket.id)
            return True if now is None or not now.is_open else None

        def close() -> None:
            answer = self._api.get(path)
            possible = answer.get("transitions") if isinstance(answer, dict) else None
            if not isinstance(possible, list):
                raise self._odd("transitions")
            chosen = self._closing([_transition(each) for each in possible])
            self._api.post(path, {"transition": {"id": chosen.id}})

        return self._api.ensure(closed, close).made

    def _ticket(self, issue: Any) -> Ticket:
        try:
            category = issue["fields"]["status"]["statusCategory"]["key"]
            return Ticket(str(issue["key"]), self._browse(str(issue["key"])), is_open=category != "done")
        except (KeyError, TypeError):
            raise self._odd("status") from None

    def _browse(self, key: str) -> str:
        return f"{self._url}/browse/{key}"

    def _text(self, note: Note) -> Any:
        """A note as this version takes text."""
        if not self._is_cloud:
            return note.wiki(_MAX_TEXT)
        paragraphs, report = note.parts(_MAX_TEXT)
        content: list[dict[str, Any]] = [_paragraph(each) for each in paragraphs]
        if report:
            code = {"type": "codeBlock", "attrs": {"language": "markdown"}, "content": [_plain(report)]}
            content.insert(len(content) - 1, code)
        return {"type": "doc", "version": 1, "content": content}

    @staticmethod
    def _odd(field: str) -> RunbookError:
        return RunbookError(f"Jira's answer has no {field}; check jira_url and jira_user.", status=Status.UNKNOWN)


def _plain(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _paragraph(text: str) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for line in filter(None, text.split("\n")):
        content += [{"type": "hardBreak"}] if content else []
        content.append(_plain(line))
    return {"type": "paragraph", "content": content}


def _lines(body: Any) -> Iterator[str]:
    """The lines of a comment, in either form."""
    if isinstance(body, str):
        yield from (line.strip("\r") for line in body.split("\n"))
    elif isinstance(body, dict):
        if isinstance(body.get("text"), str):
            yield body["text"]
        for each in body.get("content") or []:
            yield from _lines(each)


def _transition(said: Any) -> Transition:
    target = said.get("to") or {}
    category = (target.get("statusCategory") or {}).get("key", "")
    return Transition(str(said.get("id")), str(said.get("name")), str(category))
