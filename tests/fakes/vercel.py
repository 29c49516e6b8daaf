"""The part of Vercel's API that maintenance mode needs: items of a Global Config, which belongs to a team.

Vercel's own description of ``PATCH …/items`` allows no key but of ``w``, dash and backslash: its pattern has one
backslash too many. With such a key what is exchanged here is as described.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from fakes.http import Asked, FakeService, Reply

TOKEN = "vc_c4n4ry" + "0" * 20
CONFIG = "ecfg_1a2b3c4d5e"
TEAM = "team_1a2b3c"


class FakeVercel(FakeService):
    """One config with its items."""

    service: ClassVar[str] = "vercel"
    headers: ClassVar[dict[str, str]] = {"x-ratelimit-remaining": "59"}

    def __init__(self, path: str = "global-config") -> None:
        super().__init__()
        self.base = f"/v1/{path}"
        self.items: dict[str, Any] = {}

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _refused(403, "forbidden", "Not authorized")
        if f"teamId={TEAM}" not in asked.query.split("&"):
            return _refused(403, "forbidden", "Not authorized")
        now = int(time.time() * 1000)
        base = f"{self.base}/{CONFIG}"
        if asked.line == f"GET {self.base}":
            found = {"id": CONFIG, "slug": "app", "sizeInBytes": 64, "itemCount": len(self.items), "purposeOf2027": "?"}
            return Reply(200, [found])
        if asked.path.startswith(f"{base}/item/") and asked.method == "GET":
            key = asked.path.removeprefix(f"{base}/item/")
            if key in self.items:
                item = {"key": key, "value": self.items[key], "edgeConfigId": CONFIG}
                return Reply(200, item | {"createdAt": now, "updatedAt": now})
            return _refused(404, "not_found", "Item not found")
        if asked.line == f"PATCH {base}/items":
            for each in asked.body["items"]:
                if each["operation"] != "upsert":
                    return _refused(400, "bad_request", "Unexpected operation")
                self.items[each["key"]] = each["value"]
            return Reply(200, {"status": "ok"})
        return _refused(404, "not_found", "Not found")


def _refused(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": message}})
