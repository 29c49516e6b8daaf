"""A receiver of webhooks that keeps its part: what comes again with the same key is answered, and done once."""

from __future__ import annotations

from typing import Any, ClassVar

from fakes.http import Asked, FakeService, Reply

PATH = "/hooks/c4n4ry-path-0000"
TOKEN = "hook-c4n4ry-0000000000"


class FakeReceiver(FakeService):
    """Takes events at a secret path."""

    service: ClassVar[str] = "webhook"

    def __init__(self) -> None:
        super().__init__()
        #: What was done, by its key.
        self.events: dict[str, dict[str, Any]] = {}
        #: How often each key came.
        self.came: list[str] = []
        self.reply: Any = {"url": "https://tickets.example.net/7", "surprise": 1}
        self.hook = self.url + PATH
        #: What a request has to show who asks.
        self.asks = f"Bearer {TOKEN}"

    def answer(self, asked: Asked) -> Reply:
        """Nothing that is a secret of the sender's is repeated."""
        if asked.path != PATH or asked.headers.get("Authorization") != self.asks:
            return Reply(401, {"message": f"who are you, at {asked.path}?"})
        key = asked.headers["Idempotency-Key"]
        self.came.append(key)
        self.events.setdefault(key, asked.body)
        return Reply(200, self.reply)
