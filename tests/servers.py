"""nginx, Prometheus and Alertmanager for a test, as the sandbox starts them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
from ansible.module_utils.runbook.drivers.sandbox.services import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

_S = TypeVar("_S", bound=Service)


@contextmanager
def running(service: _S) -> Iterator[_S]:
    """Run it for the block; the test is skipped where it is not installed."""
    if service.missing():
        pytest.skip(service.missing())
    started = service.start()
    try:
        yield started
    finally:
        started.stop()
