"""Issues of one Jira project, over real HTTP on loopback: version 3 for Cloud, version 2 for Data Center.

The description at hand is that of version 3, from before ``/search/jql`` came; version 2 is the same but for texts. So
exchanges of version 2 and of the search go under another name. The description gives the answer 204 to a transition a
body, which HTTP does not allow; that is the one exchange that is not as described.
"""

from __future__ import annotations

import base64
import re
from typing import Any, ClassVar
from urllib.parse import parse_qs

from fakes.http import Asked, FakeService, Reply

USER = "operations@example.net"
TOKEN = "ATATT-c4n4ry-000000000000"
_BASIC = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()


class FakeJira(FakeService):
    """A project ``OPS`` whose tickets go from To Do to Done; a second ``POST`` makes a second ticket or comment."""

    service: ClassVar[str] = "jira-2022"

    def __init__(self) -> None:
        super().__init__()
        self.issues: list[dict[str, Any]] = []
        self.comments: dict[str, list[dict[str, Any]]] = {}
        #: By their number: name, and the category to which they lead.
        self.transitions = {"11": ("Start", "indeterminate"), "31": ("Done", "done")}
        #: The search sees a new ticket only after so many looks.
        self.lag = 0
        self.page = 2

    def description(self, asked: Asked) -> str:
        """Only version 3 is described, and not its search."""
        is_known = asked.path.startswith("/rest/api/3/issue")
        return self.service if is_known else "jira-undescribed"

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        is_cloud = asked.path.startswith("/rest/api/3/")
        said = asked.headers.get("Authorization")
        if said != (f"Basic {_BASIC}" if is_cloud else f"Bearer {TOKEN}"):
            return Reply(401, b"Client must be authenticated to access this resource.", {"Content-Type": "text/plain"})
        what = re.sub(r"^/rest/api/[23]", "", asked.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        with self._lock:
            if what == ("/search/jql" if is_cloud else "/search"):
                return self._search(query)
            if (asked.method, what) == ("POST", "/issue"):
                return self._open(asked.body["fields"], is_cloud=is_cloud)
            found = re.fullmatch(r"/issue/(OPS-\d+)(/comment|/transitions)?", what)
            issue = next((each for each in self.issues if found and each["key"] == found[1]), None)
            if found is None or issue is None:
                return Reply(
                    404, {"errorMessages": ["Issue does not exist or you do not have permission"], "errors": {}}
                )
            if found[2] == "/comment":
                return self._comment(asked, found[1], query)
            if found[2] == "/transitions":
                return self._transition(asked, issue)
            return Reply(200, issue)

    def _search(self, query: dict[str, str]) -> Reply:
        label = re.search(r'labels = "([^"]+)"', query["jql"])
        if label is None:
            return Reply(400, {"errorMessages": ["Unbounded JQL queries are not allowed here."], "errors": {}})
        if self.issues and self.lag:
            self.lag -= 1
            return Reply(200, {"issues": [], "isLast": True})
        found = [each for each in self.issues if label[1] in each["fields"]["labels"]]
        return Reply(200, {"issues": found[: int(query["maxResults"])], "isLast": True})

    def _open(self, fields: dict[str, Any], *, is_cloud: bool) -> Reply:
        if fields["project"] != {"key": "OPS"}:
            return Reply(400, {"errorMessages": [], "errors": {"project": "valid project is required"}})
        if isinstance(fields["description"], dict) is not is_cloud:
            return Reply(400, {"errorMessages": [], "errors": {"description": "Operation value must be another one"}})
        number = len(self.issues) + 1
        status = {"name": "To Do", "statusCategory": {"key": "new", "id": 2, "name": "To Do"}}
        made = {"id": str(10_000 + number), "key": f"OPS-{number}", "self": f"{self.url}/rest/api/3/issue/{number}"}
        self.issues.append(made | {"fields": fields | {"status": status}})
        return Reply(201, made)

    def _comment(self, asked: Asked, key: str, query: dict[str, str]) -> Reply:
        there = self.comments.setdefault(key, [])
        if asked.method == "POST":
            made = {"id": str(20_000 + len(there)), "body": asked.body["body"]}
            there.append(made)
            return Reply(201, made)
        start = int(query.get("startAt", 0))
        page = there[start : start + self.page]
        return Reply(200, {"startAt": start, "maxResults": self.page, "total": len(there), "comments": page})

    def _transition(self, asked: Asked, issue: dict[str, Any]) -> Reply:
        if asked.method == "GET":
            possible = [
                {"id": number, "name": name, "to": {"name": name, "statusCategory": {"key": category}}}
                for number, (name, category) in self.transitions.items()
            ]
            return Reply(200, {"transitions": possible})
        name, category = self.transitions[asked.body["transition"]["id"]]
        issue["fields"]["status"] = {"name": name, "statusCategory": {"key": category}}
        return Reply(204)
