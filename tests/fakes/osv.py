"""OSV over real HTTP on loopback: it knows what the test says, and answers in pages of two.

There is no vendor's description to hold it against; it answers as https://google.github.io/osv.dev/api/ says.
"""

from __future__ import annotations

from typing import Any, ClassVar

from fakes.http import Asked, FakeService, Reply

#: How many queries one request may hold.
_MOST = 1000


class FakeOsv(FakeService):
    """Records by their id, with the versions that they affect."""

    service: ClassVar[str] = "osv"

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, Any]] = {}
        self.page = 2

    def advisory(
        self, name: str, package: str, *versions: str, ecosystem: str = "npm", published: str = "2026-01-01T00:00:00Z",
        severity: str | None = "HIGH", fixed: str | None = None, aliases: tuple[str, ...] = (), **more: Any,
    ) -> None:  # fmt: skip
        """Make one known."""
        events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
        self.records[name] = {
            "schema_version": "1.7.0", "id": name, "aliases": list(aliases), "published": published,
            "modified": published, "summary": f"Something about {package}", "surprise": {"unknown": True},
            "affected": [
                {
                    "package": {"name": package, "ecosystem": ecosystem, "purl": f"pkg:{ecosystem.lower()}/{package}"},
                    "ranges": [{"type": "SEMVER", "events": events}], "versions": list(versions),
                }
            ],
            "database_specific": {} if severity is None else {"severity": severity},
        } | more  # fmt: skip

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.line == "POST /v1/querybatch":
            queries = asked.body["queries"]
            if len(queries) > _MOST:
                return Reply(400, {"code": 3, "message": "Too many queries."})
            return Reply(200, {"results": [self._result(query) for query in queries]})
        name = asked.path.removeprefix("/v1/vulns/")
        if asked.method == "GET" and name in self.records:
            return Reply(200, self.records[name])
        return Reply(404, {"code": 5, "message": "Bug not found."})

    def _result(self, query: dict[str, Any]) -> dict[str, Any]:
        found = [
            {"id": name, "modified": record["modified"]}
            for name, record in self.records.items()
            for affected in record["affected"]
            if affected["package"]["name"] == query["package"]["name"]
            and affected["package"]["ecosystem"] == query["package"]["ecosystem"]
            and query["version"] in affected["versions"]
        ]
        first = int(query.get("page_token") or 0)
        result: dict[str, Any] = {"vulns": found[first : first + self.page]} if found else {}
        if len(found) > first + self.page:
            result["next_page_token"] = str(first + self.page)
        return result
