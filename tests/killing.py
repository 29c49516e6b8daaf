"""Modules that are killed while a service has not answered."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from conftest import module_process

if TYPE_CHECKING:
    import pytest
    from fakes.http import Asked, FakeService, Reply


def kill(monkeypatch: pytest.MonkeyPatch, name: str, given: dict[str, Any], fake: FakeService, on: str) -> None:
    """Start a module, and kill it once the service has got a request; only then does the service what it asks.

    :param on: regular expression for ``METHOD path``, from its beginning
    """
    came, go, done = threading.Event(), threading.Event(), threading.Event()
    answer = fake.answer

    def held(asked: Asked) -> Reply:
        if done.is_set() or not re.match(on, asked.line):
            return answer(asked)
        came.set()
        assert go.wait(60)
        reply = answer(asked)
        done.set()
        return reply

    monkeypatch.setattr(fake, "answer", held)
    running = module_process(name, given)
    assert came.wait(60)
    running.kill()
    running.communicate()
    go.set()
    assert done.wait(60)
