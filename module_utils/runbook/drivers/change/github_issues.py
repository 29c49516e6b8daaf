"""Issues of one GitHub repository, as far as tickets and Upptime need them.

Docs: https://docs.github.com/en/rest/issues. Search lags behind what was written, so things are found by listing a
label, and by a line of their text.
"""

from __future__ import annotations

from typing import Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, Ensured, Repeat
from ansible.module_utils.runbook.drivers.http.api_pages import by_link

API_URL = "https://api.github.com"
#: Longest body of an issue or a comment, in characters.
MAX_BODY = 65_536
_PAGE = (("per_page", "100"),)


class GitHubIssues:
    """The issues of a repository.

    :param repository: ``owner/name``
    :param service: how the names of the module's options begin
    """

    def __init__(
        self, *, repository: str, token: str, service: str, api_url: str, ca_cert: str | None, timeout_s: float,
        read_only: bool,
    ) -> None:  # fmt: skip
        self.read_only = read_only
        #: Which repository, without a secret.
        self.where = f"{api_url.rstrip('/')} {repository}"
        self._path = f"/repos/{repository}/issues"
        self._api = ApiClient(
            service="GitHub",
            base_url=api_url.rstrip("/"),
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
            secrets={f"{service}_token": token},
            read_only=read_only,
            timeout_s=timeout_s,
            reset_headers=("x-ratelimit-reset",),
            fixes={
                401: f"check {service}_token",
                404: f"check the name {repository}; a token that may not see it is told the same",
                410: f"issues are switched off in {repository}, or this one was deleted",
            },
            ca_cert=ca_cert,
            options=(f"{service}_api_url", "ca_cert"),
        )

    def get(self, number: str) -> dict[str, Any]:
        """One issue.

        :raises ApiError: refused, with 404 and 410 where it is gone; or no answer
        """
        return dict(self._api.get(f"{self._path}/{number}"))

    def find(self, label: str, line: str) -> dict[str, Any] | None:
        """The first issue with a label whose text has a line; people who quote it put something before it."""
        query = (("labels", label), ("state", "all"), ("sort", "created"), ("direction", "asc"), *_PAGE)
        found = self._api.pages(self._path, by_link, items=None, query=query)
        return next((issue for issue in found if line in _lines(issue)), None)

    def ensure(self, label: str, line: str, title: str, body: str, labels: list[str]) -> Ensured[dict[str, Any]]:
        """Find an issue as :meth:`find` does, or open it with a text that has the line.

        :raises ApiError: as ``ApiClient.ensure``
        """

        def create() -> dict[str, Any] | None:
            made = self._api.post(self._path, {"title": title, "body": body, "labels": labels})
            return made if isinstance(made, dict) and "number" in made else None

        return self._api.ensure(lambda: self.find(label, line), create)

    def comment(self, number: str, line: str, body: str) -> bool:
        """See that an issue has a comment with a line; whether it was made now.

        :raises ApiError: as ``ApiClient.ensure``
        """

        def create() -> bool | None:
            made = self._api.post(f"{self._path}/{number}/comments", {"body": body})
            return True if isinstance(made, dict) and "id" in made else None

        return self._api.ensure(lambda: self.has_comment(number, line) or None, create).made

    def has_comment(self, number: str, line: str) -> bool:
        """Whether an issue has a comment with a line."""
        found = self._api.pages(f"{self._path}/{number}/comments", by_link, items=None, query=_PAGE)
        return any(line in _lines(each) for each in found)

    def edit(self, number: str, fields: dict[str, Any]) -> None:
        """Change fields of an issue; a second sending leaves what the first one left."""
        self._api.patch(f"{self._path}/{number}", fields, repeat=Repeat.ALWAYS)


def _lines(thing: dict[str, Any]) -> list[str]:
    # GitHub's own editor ends lines with CR LF.
    return [line.strip("\r") for line in str(thing.get("body") or "").split("\n")]
