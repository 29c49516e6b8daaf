"""An application behind its maintenance mode: it takes the switch as a webhook, and its pages show what it does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from fakes.http import Asked, FakeService, Reply

SWITCH = "/hooks/c4n4ry-mode-0000"
#: Stands on the maintenance page and on no other.
MAINTENANCE = "We are improving the service"


class FakeApplication(FakeService):
    """``/`` is what users see, ``/health`` is open in maintenance too."""

    service: ClassVar[str] = "application"

    def __init__(self) -> None:
        super().__init__()
        self.until: datetime | None = None
        #: What is wrong with it, if anything: every page is a 500 then.
        self.broken = False
        #: What users saw, in the order in which they looked: the status of ``/``.
        self.seen: list[int] = []
        self.switch = self.url + SWITCH

    def answer(self, asked: Asked) -> Reply:
        """Turn the mode on and off, and show it."""
        if asked.path == SWITCH:
            body: dict[str, Any] = asked.body
            self.until = datetime.fromisoformat(body["until"]) if body["on"] else None
            return Reply(200, {})
        if self.broken:
            return Reply(500, {"error": "broken"})
        if asked.path == "/health":
            return Reply(200, {"status": "up"})
        closed = self.until is not None and datetime.now(UTC) < self.until
        self.seen.append(503 if closed else 200)
        if closed:
            return Reply(503, {"message": MAINTENANCE}, {"Retry-After": "60"})
        return Reply(200, {"message": "Welcome"})
