"""Silences as Alertmanager keeps them, and as Grafana does below a path of its own."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from fakes.http import Asked, FakeService, Reply

GRAFANA_TOKEN = "glsa_c4n4ry" + "0" * 20


class FakeAlertmanager(FakeService):
    """A second silence is a second one."""

    service: ClassVar[str] = "alertmanager"
    base: ClassVar[str] = "/api/v2"
    token: ClassVar[str] = ""
    created: ClassVar[int] = 200

    def __init__(self) -> None:
        super().__init__()
        self.silences: dict[str, dict[str, Any]] = {}
        #: How far its clock is from ours.
        self.behind_s = 0.0
        #: What a request has to show who asks; empty for nothing.
        self.asks = f"Bearer {self.token}" if self.token else ""

    def answer(self, asked: Asked) -> Reply:
        """What the API answers."""
        if self.asks and asked.headers.get("Authorization") != self.asks:
            return Reply(401, {"message": "Unauthorized", "traceID": ""})
        method, path = asked.method, asked.path.removeprefix(self.base)
        if (method, path) == ("GET", "/silences"):
            return Reply(200, [self._shown(each) for each in self.silences.values()])
        if (method, path) == ("POST", "/silences"):
            return self._post(dict(asked.body))
        found = self.silences.get(path.removeprefix("/silence/"))
        if found is None:
            return Reply(404)
        if method == "DELETE":
            if self._shown(found)["status"]["state"] == "expired":
                return Reply(500, "silence is already expired")
            found["endsAt"] = datetime.now(UTC).isoformat()
            return Reply(200)
        return Reply(200, self._shown(found))

    def _post(self, body: dict[str, Any]) -> Reply:
        wanted = body.pop("id", None)
        if wanted is not None and wanted not in self.silences:
            return Reply(404, "silence not found")
        if wanted is not None and self.silences[wanted]["matchers"] != body["matchers"]:
            # The old one ends, and another one begins.
            self.silences[wanted]["endsAt"] = datetime.now(UTC).isoformat()
            wanted = None
        made = wanted or str(uuid.uuid4())
        self.silences[made] = body | {"id": made, "updatedAt": datetime.now(UTC).isoformat(), "annotations": {}}
        return Reply(self.created, {"silenceID": made})

    def _shown(self, silence: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).timestamp() - self.behind_s
        begun = datetime.fromisoformat(silence["startsAt"]).timestamp() <= now
        ended = datetime.fromisoformat(silence["endsAt"]).timestamp() <= now
        return silence | {"status": {"state": "expired" if ended else "active" if begun else "pending"}, "of2027": 1}

    @property
    def open(self) -> list[dict[str, Any]]:
        """Those that are not expired."""
        shown = map(self._shown, self.silences.values())
        return [each for each in shown if each["status"]["state"] != "expired"]


class FakeGrafana(FakeAlertmanager):
    """Wants a token, and accepts rather than answers."""

    base: ClassVar[str] = "/api/alertmanager/grafana/api/v2"
    token: ClassVar[str] = GRAFANA_TOKEN
    created: ClassVar[int] = 202
