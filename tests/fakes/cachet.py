"""Cachet 3, over real HTTP on loopback; its descriptions are made by each installation, so there is none at hand.

Bodies and statuses are those of cachethq/core 9183688: JSON:API with numbers for statuses, lists in pages, 422 for
what does not fit, times without a zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs

from fakes.http import Asked, FakeService, Reply

TOKEN = "1|c4n4ry000000000000cachet"
_TIME = "%Y-%m-%d %H:%M:%S"


class FakeCachet(FakeService):
    """An installation below ``/status`` with two components; a second ``POST`` makes a second thing."""

    service: ClassVar[str] = "cachet"

    def __init__(self) -> None:
        super().__init__()
        self.base = f"{self.url}/status"
        self.schedules: list[dict[str, Any]] = []
        self.incidents: list[dict[str, Any]] = []
        #: By kind and number of what they are about.
        self.updates: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.components = {1: 1, 2: 1}
        self.page = 2

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"message": "Unauthenticated."})
        found = re.fullmatch(r"/status/api/(schedules|incidents|components)(?:/(\d+))?(/updates)?", asked.path)
        if not found:
            return Reply(404, {"message": "Not found."})
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        kind, number = found[1], int(found[2] or 0)
        with self._lock:
            if kind == "components":
                return self._component(asked, number)
            there = self.schedules if kind == "schedules" else self.incidents
            if not number:
                return (
                    self._paged(kind, there[::-1], query) if asked.method == "GET" else self._create(kind, asked.body)
                )
            thing = next((each for each in there if each["id"] == number), None)
            if thing is None:
                return Reply(404, {"message": "Not found."})
            if found[3]:
                return self._update(kind, thing, asked, query)
            if asked.method == "PUT":
                thing.update(asked.body)
            return Reply(200, {"data": self._shown(kind, thing)})

    def _create(self, kind: str, body: dict[str, Any]) -> Reply:
        needed = {"schedules": ("name", "message", "scheduled_at"), "incidents": ("name", "message", "status")}[kind]
        missing = [name for name in needed if not body.get(name)]
        if missing or not all(isinstance(each["status"], int) for each in body.get("components", [])):
            return Reply(
                422, {"message": "The given data was invalid.", "errors": {name: ["required"] for name in missing}}
            )
        there = self.schedules if kind == "schedules" else self.incidents
        there.append(body | {"id": len(there) + 1})
        return Reply(201, {"data": self._shown(kind, there[-1])})

    def _update(self, kind: str, thing: dict[str, Any], asked: Asked, query: dict[str, str]) -> Reply:
        there = self.updates.setdefault((kind, thing["id"]), [])
        if asked.method == "GET":
            return self._paged("updates", there, query)
        if kind == "incidents":
            thing["status"] = asked.body["status"]
        there.append(asked.body | {"id": len(there) + 1})
        return Reply(201, {"data": self._shown("updates", there[-1])})

    def _component(self, asked: Asked, number: int) -> Reply:
        if number not in self.components:
            return Reply(404, {"message": "Not found."})
        if asked.method == "PUT":
            self.components[number] = asked.body["status"]
        status = {"human": "whatever", "value": self.components[number]}
        return Reply(200, {"data": {"id": str(number), "type": "components", "attributes": {"status": status}}})

    def _paged(self, kind: str, found: list[dict[str, Any]], query: dict[str, str]) -> Reply:
        start = (int(query.get("page", 1)) - 1) * self.page
        items = [self._shown(kind, each) for each in found[start : start + self.page]]
        return Reply(200, {"data": items, "links": {}, "meta": {"per_page": self.page}})

    def _shown(self, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {"id": thing["id"], "message": thing["message"], "surprise": None}
        if kind == "schedules":
            begins, ends = thing["scheduled_at"], thing.get("completed_at")
            now = f"{datetime.now(UTC):{_TIME}}"
            value = 0 if begins > now else 2 if ends and ends <= now else 1
            said |= {"status": {"human": "x", "value": value}, "scheduled": {"string": begins}}
            said |= {"completed": {"human": "x", "string": ends}}
        elif kind == "incidents":
            said |= {"status": {"human": "x", "value": thing["status"]}, "guid": f"guid-{thing['id']}"}
        return {"id": str(thing["id"]), "type": kind, "attributes": said}
