"""Grafana's search and dashboards, over real HTTP on loopback, as its HTTP API documentation has them.

https://grafana.com/docs/grafana/latest/developers/http_api/folder_dashboard_search/
"""

from __future__ import annotations

import re
from typing import Any, ClassVar
from urllib.parse import parse_qs

from fakes.http import Asked, FakeService, Reply

TOKEN = "glsa_c4n4ry"


class FakeGrafana(FakeService):
    """One organisation; its search gives two dashboards a page, whatever limit was asked for."""

    service: ClassVar[str] = "grafana"

    def __init__(self) -> None:
        super().__init__()
        #: By uid.
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.page = 2

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"message": "Invalid API key"})
        query = parse_qs(asked.query)
        if asked.path == "/api/search":
            at = self.page * (int(query.get("page", ["1"])[0]) - 1)
            some = list(self.dashboards.items())[at : at + self.page]
            return Reply(200, [_hit(number, uid, each) for number, (uid, each) in enumerate(some, at + 1)])
        found = re.fullmatch(r"/api/dashboards/uid/([\w-]+)", asked.path)
        if asked.method != "GET" or found is None or found[1] not in self.dashboards:
            return Reply(404, {"message": "Dashboard not found"})
        meta = {"type": "db", "canSave": False, "canEdit": False, "slug": found[1], "version": 1, "folderId": 0}
        return Reply(200, {"dashboard": self.dashboards[found[1]] | {"uid": found[1], "id": 1}, "meta": meta})


def _hit(number: int, uid: str, dashboard: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": number, "uid": uid, "title": dashboard["title"], "uri": f"db/{uid}", "url": f"/d/{uid}/{uid}",
        "slug": "", "type": "dash-db", "tags": [], "isStarred": False,
    }  # fmt: skip
