"""The driver of Prometheus where nobody answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from ansible.module_utils.runbook.drivers.http.api_client import TOO_LARGE, ApiError
from ansible.module_utils.runbook.drivers.observe import prometheus as driver
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


class Large:
    """Gives a value for each step, and at most so many in one answer."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.spans: list[tuple[float, float]] = []

    def get(self, _path: str, pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        given = dict(pairs)
        begin, end, step = (float(given[name]) for name in ("start", "end", "step"))
        moments = [begin + step * number for number in range(int((end - begin) / step) + 1)]
        if len(moments) > self.most:
            raise ApiError("its answer is larger", http_status=None, uncertain=False, code=TOO_LARGE)
        self.spans.append((begin, end))
        values = [[at, "1"] for at in moments]
        return {"status": "success", "data": {"result": [{"metric": {}, "values": values}]}}


@pytest.mark.parametrize("most", [1, 7, 700])
def test_an_answer_that_is_too_large_is_asked_for_in_pieces(most):
    made = Prometheus(cast("Any", Large(most)))
    (found,) = made.over_time("up", begin=NOW, end=NOW + timedelta(hours=10), step_s=60)
    assert [at for at, _ in found.points] == [NOW.timestamp() + 60 * number for number in range(601)]


def test_one_moment_that_is_too_large_is_unknown_and_no_silence(monkeypatch):
    made = Prometheus(cast("Any", Large(0)))
    for _ in range(2):
        with pytest.raises(RunbookError, match="larger") as raised:
            made.over_time("up", begin=NOW, end=NOW + timedelta(hours=1), step_s=60)
        assert (raised.value.code, raised.value.status) == (TOO_LARGE, "unknown")
    monkeypatch.setattr(driver, "_MOST_VALUES", 60)
    with pytest.raises(RunbookError, match="more than 60 values of a query; ask for fewer days"):
        Prometheus(cast("Any", Large(70))).over_time("up", begin=NOW, end=NOW + timedelta(hours=2), step_s=60)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"prometheus_user": "u"}, "prometheus_password: it is empty"),
        ({"prometheus_password": "c4n4ry"}, "prometheus_user: it is empty"),
        ({"prometheus_user": "u", "prometheus_password": "c4n4ry", "prometheus_token": "c4n4ry"}, "is given too"),
        (
            {"prometheus_url": "https://u:c4n4ry@a.example.com"},
            "prometheus_url: its value .not repeated here. has a user, a query",
        ),
        ({"prometheus_url": "a.example.com"}, "prometheus_url: 'a.example.com' is no address"),
        ({"prometheus_user": "a:b", "prometheus_password": "c4n4ry"}, "prometheus_user: 'a:b' has a colon"),
        ({"prometheus_ca_cert": "/none.pem"}, "prometheus_ca_cert: /none.pem cannot be read"),
        (
            {"prometheus_url": "http://a.example.com", "prometheus_user": "u", "prometheus_password": "c4n4ry"},
            "use https",
        ),
    ],
)
def test_who_asks_is_said_in_one_way_and_never_in_the_address(given, why):
    params = dict.fromkeys(driver.argument_spec()) | {"prometheus_url": "https://a.example.com"} | given
    with pytest.raises(RunbookError, match=why) as raised:
        Prometheus.from_params(params, timeout_s=5)
    assert "c4n4ry" not in raised.value.message
