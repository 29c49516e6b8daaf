"""Webhooks of Slack and of Teams, which take messages at a secret address."""

from __future__ import annotations

from typing import Any, ClassVar

from fakes.http import Asked, FakeService, Reply

PATHS = {"slack": "/services/T0C4N4RY/B0C4N4RY/c4n4ryc4n4ry1234", "teams": "/workflows/c4n4ry1/triggers?sig=c4n4ry2"}


class FakeChat(FakeService):
    """Nobody can ask it what it got."""

    service: ClassVar[str] = "chat"

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []
        self.reply = Reply(200, b"ok", {"Content-Type": "text/html"})

    def answer(self, asked: Asked) -> Reply:
        """What Slack answers, or Teams."""
        self.got.append(asked.body)
        return Reply(202) if asked.path.startswith("/workflows") else self.reply
