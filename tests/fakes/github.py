"""Issues of one GitHub repository, over real HTTP on loopback. There is no vendor's description to hold it against.

A second ``POST`` makes a second issue or comment, as on GitHub.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar
from urllib.parse import parse_qs

from fakes.http import Asked, FakeService, Reply

REPOSITORY = "mental-scribe/operations"
TOKEN = "ghp_c4n4ry0000000000000000"


class FakeGitHub(FakeService):
    """A repository with issues, whose lists have pages of two."""

    service: ClassVar[str] = "github"

    def __init__(self) -> None:
        super().__init__()
        self.issues: list[dict[str, Any]] = []
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.page = 2
        #: Where people look at them.
        self.site = "https://github.com"

    def issue(self, title: str, body: str = "", *labels: str, state: str = "open") -> dict[str, Any]:
        """Open an issue, as a person would."""
        number = len(self.issues) + 1
        made = {
            "number": number, "title": title, "body": body, "state": state, "state_reason": None,
            "labels": [{"name": label, "color": "ededed"} for label in labels], "locked": False,
            "html_url": f"{self.site}/{REPOSITORY}/issues/{number}", "surprise": {"unknown": True},
        }  # fmt: skip
        self.issues.append(made)
        return made

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
        found = re.fullmatch(rf"/repos/{REPOSITORY}/issues(?:/(\d+)(/comments)?)?", asked.path)
        if not found:
            return Reply(404, {"message": "Not Found", "status": "404"})
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        with self._lock:
            if not found[1]:
                return self._list(query) if asked.method == "GET" else self._open(asked.body)
            number = int(found[1])
            issue = next((each for each in self.issues if each["number"] == number), None)
            if issue is None:
                return Reply(404, {"message": "Not Found", "status": "404"})
            if found[2]:
                return self._comments(asked, number, query)
            if asked.method == "PATCH":
                issue.update(asked.body)
            return Reply(200, issue)

    def _list(self, query: dict[str, str]) -> Reply:
        wanted = set(query.get("labels", "").split(",")) - {""}
        found = [each for each in self.issues if wanted <= {label["name"] for label in each["labels"]}]
        if query.get("state", "open") != "all":
            found = [each for each in found if each["state"] == query.get("state", "open")]
        return self._paged(found, query)

    def _open(self, body: dict[str, Any]) -> Reply:
        made = self.issue(body["title"], body.get("body", ""), *body.get("labels", []))
        return Reply(201, made)

    def _comments(self, asked: Asked, number: int, query: dict[str, str]) -> Reply:
        there = self.comments.setdefault(number, [])
        if asked.method == "GET":
            return self._paged(there, query)
        made = {"id": 1000 + sum(map(len, self.comments.values())), "body": asked.body["body"]}
        there.append(made)
        return Reply(201, made)

    def _paged(self, found: list[dict[str, Any]], query: dict[str, str]) -> Reply:
        page = int(query.get("page", 1))
        rest = found[page * self.page :]
        others = "&".join(f"{name}={value}" for name, value in query.items() if name != "page")
        link = f'<{self.url}/elsewhere?{others}&page={page + 1}>; rel="next"' if rest else ""
        return Reply(200, found[(page - 1) * self.page : page * self.page], {"Link": link})
