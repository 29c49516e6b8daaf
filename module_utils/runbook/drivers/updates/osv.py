"""OSV, the database of advisories of all ecosystems.

https://google.github.io/osv.dev/api/ describes it. It is asked what it knows of a name and a version; nothing else
of ours leaves this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
from ansible.module_utils.runbook.errors import UnreachableError
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ansible.module_utils.runbook.rules.updates.packages import Package

OSV_URL = "https://api.osv.dev"
#: How many questions one request may hold.
_BATCH = 1000
#: Pages of one question; no version of a package has so many advisories.
_MAX_PAGES = 20


class Osv:
    """The API at ``url``."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._api = ApiClient(
            service="OSV",
            base_url=url.rstrip("/"),
            headers={},
            secrets={},
            read_only=True,
            timeout_s=timeout_s,
            fixes={404: "check osv_url"},
            options=("osv_url", ""),
        )

    def affecting(self, packages: Sequence[Package]) -> dict[Package, list[str]]:
        """Names of the advisories that affect each package; one that nothing affects is left out.

        :raises RunbookError: no answer, or one that does not answer each question
        """
        found: dict[Package, list[str]] = {}
        asked = [(package, "") for package in packages]
        for _page in range(_MAX_PAGES):
            following: list[tuple[Package, str]] = []
            for first in range(0, len(asked), _BATCH):
                for (package, _), result in self._batch(asked[first : first + _BATCH]):
                    names = [str(each["id"]) for each in result.get("vulns") or ()]
                    if names:
                        found.setdefault(package, []).extend(names)
                    if result.get("next_page_token"):
                        following.append((package, str(result["next_page_token"])))
            if not following:
                return found
            asked = following
        raise UnreachableError(f"OSV: its list for {asked[0][0]} does not end; look at it there.")

    def record(self, name: str) -> Mapping[str, Any]:
        """An advisory.

        :raises RunbookError: no answer, or none of that name
        """
        found = self._api.get(f"/v1/vulns/{quote(name, safe='')}")
        if not isinstance(found, Mapping):
            raise UnreachableError(f"OSV: what it says of {name} is no record; check osv_url.")
        return found

    def _batch(self, asked: Sequence[tuple[Package, str]]) -> list[tuple[tuple[Package, str], Mapping[str, Any]]]:
        queries = [
            {"package": {"name": package.name, "ecosystem": package.ecosystem}, "version": package.version}
            | ({"page_token": token} if token else {})
            for package, token in asked
        ]
        said = self._api.ask("/v1/querybatch", {"queries": queries})
        results = said.get("results") if isinstance(said, Mapping) else None
        if not isinstance(results, list) or len(results) != len(queries):
            # Answers stand in the order of the questions, and by nothing else is known what they answer.
            found = count(len(results), "answer") if isinstance(results, list) else "no answers"
            raise UnreachableError(
                f"OSV: {found} to {count(len(queries), 'question')}, so nobody knows which package they are about; "
                "check osv_url."
            )
        if not all(isinstance(each, Mapping) for each in results):
            raise UnreachableError("OSV: an answer is no object; check osv_url.")
        return list(zip(asked, results, strict=True))
