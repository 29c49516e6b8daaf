"""The driver of Prometheus where nobody answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.observe.prometheus import Prometheus
from ansible.module_utils.runbook.errors import RunbookError

NOW = datetime(2026, 11, 29, tzinfo=UTC)


class Api:
    """Says no."""

    def __init__(self, http_status: int | None) -> None:
        self.asked = 0
        self.http_status = http_status

    def get(self, *_given: object) -> None:
        self.asked += 1
        raise ApiError("no", http_status=self.http_status, uncertain=False)


@pytest.mark.parametrize(("http_status", "asked"), [(None, 1), (503, 1), (400, 3), (422, 3)])
def test_who_gave_no_answer_is_asked_once_and_who_refused_again(http_status, asked):
    api = Api(http_status)
    made = Prometheus(cast("Any", api))
    for _ in range(3):
        with pytest.raises(RunbookError, match="no"):
            made.now("up", at=NOW)
    assert api.asked == asked
