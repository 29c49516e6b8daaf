"""Atlassian Statuspage, over real HTTP on loopback: incidents, maintenance, components; lists in pages of two.

A second ``POST`` makes a second incident, a ``PATCH`` with a text adds an update, and what is past its times moves on
by itself, as it does there. All exchanges are as the vendor describes them; the type ``Object`` of metadata in its
description is read as ``object``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs

from fakes.http import Asked, FakeService, Reply

PAGE = "abcdefghijkl"
TOKEN = "c4n4ry-00000000-statuspage"
#: Components, by their ids.
COMPONENTS = ("9qnvr23zmzn", "m0j6btq2nhl5")
_OVER = ("completed", "resolved")


class FakeStatuspage(FakeService):
    """A page with two components."""

    service: ClassVar[str] = "statuspage"

    def __init__(self) -> None:
        super().__init__()
        self.base = f"{self.url}/v1"
        self.incidents: list[dict[str, Any]] = []
        self.components = {
            name: {"id": name, "page_id": PAGE, "name": f"Component {name}", "status": "operational"}
            for name in COMPONENTS
        }
        self.page = 2
        #: Where people look at them.
        self.site = "http://stspg.io"

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if asked.headers.get("Authorization") != f"OAuth {TOKEN}":
            return Reply(401, {"message": "Could not authenticate"})
        found = re.fullmatch(rf"/v1/pages/{PAGE}/(incidents|components)(?:/(\w+))?", asked.path)
        if not found:
            return Reply(404, {"message": "The requested resource could not be found."})
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        with self._lock:
            for each in self.incidents:
                self._move_on(each)
            if found[1] == "components":
                component = self.components.get(found[2])
                if component is None:
                    return Reply(404, {"message": "The requested resource could not be found."})
                if asked.method == "PATCH":
                    component.update(asked.body["component"])
                return Reply(200, component)
            if asked.method == "POST":
                return self._create(asked.body["incident"])
            if found[2] in ("scheduled", "active_maintenance", "unresolved"):
                return self._list(found[2], query)
            incident = next((each for each in self.incidents if each["id"] == found[2]), None)
            if incident is None:
                return Reply(404, {"message": "The requested resource could not be found."})
            if asked.method == "PATCH":
                self._update(incident, asked.body["incident"])
            return Reply(200, incident)

    def _list(self, name: str, query: dict[str, str]) -> Reply:
        has = {
            "scheduled": ("scheduled",), "active_maintenance": ("in_progress", "verifying"),
            "unresolved": ("investigating", "identified", "monitoring"),
        }[name]  # fmt: skip
        found = [each for each in self.incidents if each["status"] in has]
        start = (int(query.get("page", 1)) - 1) * self.page
        return Reply(200, found[start : start + self.page])

    def _create(self, incident: dict[str, Any]) -> Reply:
        if not incident.get("name") or len(incident["name"]) > 255:
            return Reply(422, {"message": "name is invalid"})
        number = f"p31zjtct2j{len(self.incidents)}"
        made = {
            "id": number, "page_id": PAGE, "name": incident["name"], "status": incident["status"],
            "shortlink": f"{self.site}/{number}", "incident_updates": [], "surprise": "unknown",
            "metadata": incident.get("metadata", {}), "components": [],
        }  # fmt: skip
        made |= {name: value for name, value in incident.items() if name.startswith(("scheduled_", "auto_"))}
        self.incidents.append(made)
        self._update(made, incident)
        self._move_on(made)
        return Reply(201, made)

    def _update(self, incident: dict[str, Any], wanted: dict[str, Any]) -> None:
        incident["status"] = wanted.get("status", incident["status"])
        if "scheduled_until" in wanted:
            incident["scheduled_until"] = wanted["scheduled_until"]
        incident["impact"] = wanted.get("impact_override", incident.get("impact", "none"))
        for name, status in wanted.get("components", {}).items():
            self.components[name]["status"] = status
        for name in {*wanted.get("component_ids", []), *wanted.get("components", {})}:
            if self.components[name] not in incident["components"]:
                incident["components"].append(self.components[name])
        if wanted.get("body"):
            incident["incident_updates"].insert(0, {"body": wanted["body"], "status": incident["status"]})

    def _move_on(self, incident: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        begins, ends = incident.get("scheduled_for"), incident.get("scheduled_until")
        if begins and incident["status"] == "scheduled" and datetime.fromisoformat(begins) <= now:
            incident["status"] = "in_progress"
        if ends and incident["status"] not in _OVER and datetime.fromisoformat(ends) <= now:
            incident["status"] = "completed"
