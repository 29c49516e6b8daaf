"""Instant queries of Loki and of Prometheus, which share them: Loki's below a path of its own."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import parse_qs

from fakes.http import Asked, FakeService, Reply

TOKEN = "c4n4ry-loki"


class FakeLoki(FakeService):
    """Answers each query with what the test says of it; nobody describes this API in a form that can be checked."""

    service: ClassVar[str] = "loki"

    def __init__(self) -> None:
        super().__init__()
        #: By a word in the query, the values of its vector. No word: no value, as Loki has no zero.
        self.values: dict[str, list[float]] = {}
        self.warnings: list[str] = []
        #: What a request has to show who asks.
        self.asks = f"Bearer {TOKEN}"
        #: Query and time of each request, and the tenant.
        self.asked: list[tuple[str, str, str]] = []

    def answer(self, asked: Asked) -> Reply:
        """What the service answers."""
        if asked.headers.get("Authorization") != self.asks:
            return Reply(401, b"no org id")
        if asked.path not in ("/loki/api/v1/query", "/api/v1/query"):
            return Reply(404, b"404 page not found")
        given = {name: values[0] for name, values in parse_qs(asked.query).items()}
        self.asked.append((given["query"], given["time"], asked.headers.get("X-Scope-OrgID", "")))
        if "$" in given["query"]:
            # Loki's errors quote what it worked on.
            return Reply(400, b"parse error: patient nobody-else unexpected $")
        values = next((values for word, values in self.values.items() if word in given["query"]), [])
        body: dict[str, Any] = {
            "status": "success",
            "data": {
                "resultType": "vector",
                "result": [{"metric": {"n": str(n)}, "value": [1, str(value)]} for n, value in enumerate(values)],
                "stats": {},
            },
        }
        return Reply(200, body | ({"warnings": self.warnings} if self.warnings else {}))
