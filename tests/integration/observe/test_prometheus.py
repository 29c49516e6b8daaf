"""The driver of Prometheus against a real one with a past: gaps, NaN, long times and questions, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from ansible.module_utils.runbook.drivers.http import api_client
from ansible.module_utils.runbook.drivers.observe import prometheus as driver
from ansible.module_utils.runbook.drivers.observe.prometheus import Prometheus
from ansible.module_utils.runbook.drivers.sandbox import services
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from fakes.http import Asked, FakeService, Reply
from servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A day that is over, so that nothing is written to it any more.
END = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
BEGIN = END - timedelta(days=10)


def history() -> str:
    """A level each minute for ten days, with a gap of a day and one sample that is no number."""
    lines = ["# TYPE level gauge"]
    for minute in range(10 * 1440):
        at = BEGIN.timestamp() + 60 * minute
        if not 4 * 1440 <= minute < 5 * 1440:
            lines.append(f'level{{job="a"}} {"NaN" if minute == 30 else minute} {at:.0f}')
    lines += ["# TYPE up gauge", f'up{{job="a"}} 1 {BEGIN.timestamp() + 86_400:.0f}']
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running(services.Prometheus(tmp_path_factory.mktemp("prometheus"), history=history())) as started:
        yield Prometheus.from_params({"prometheus_url": started.url}, timeout_s=60)


def test_a_long_time_is_whole_and_a_gap_stays_one(service: Prometheus) -> None:
    (found,) = service.over_time("level", begin=BEGIN, end=END - timedelta(minutes=1), step_s=60)
    assert found.labels == {"__name__": "level", "job": "a"}
    # Prometheus looks five minutes back for a sample, the fifth included before version 3.
    assert len(found.points) - 9 * 1440 in (4, 5)
    assert len({at for at, _ in found.points}) == len(found.points)
    assert math.isnan(dict(found.points)[BEGIN.timestamp() + 1_800])
    assert found.last == 14_399


def test_values_at_a_moment_and_all_samples_of_a_range(service: Prometheus) -> None:
    at = BEGIN + timedelta(minutes=10)
    assert [each.last for each in service.now("level", at=at)] == [10.0]
    assert service.now("level", at=BEGIN + timedelta(days=4, hours=12)) == []
    assert [len(each.points) for each in service.now("level[5m]", at=at + timedelta(seconds=30))] == [5]
    assert service.now("scalar(sum(level))", at=at)[0].points == ((at.timestamp(), 10.0),)


def test_metrics_rules_and_the_first_sample(service: Prometheus) -> None:
    # It names what any block has that the time touches, and where those end depends on the date.
    assert "level" in service.label_values("__name__", begin=BEGIN, end=BEGIN + timedelta(hours=1))
    assert service.label_values("__name__", "up", begin=BEGIN, end=END) == {"up"}
    assert service.label_values("__name__", begin=BEGIN - timedelta(days=100), end=BEGIN - timedelta(days=99)) == set()
    assert service.series('{job="a"}', begin=BEGIN, end=END) == [
        {"__name__": "level", "job": "a"},
        {"__name__": "up", "job": "a"},
    ]
    assert [(each.name, each.kind, each.for_s, each.health in ("ok", "unknown")) for each in service.rules()] == [
        ("ApplicationDown", "alerting", 0.0, True)
    ]
    assert service.first_sample(begin=BEGIN, end=END, step_s=300) == BEGIN.timestamp() + 86_400
    assert service.first_sample(begin=BEGIN, end=BEGIN + timedelta(hours=1), step_s=300) is None


def test_a_question_too_long_for_an_address_is_asked_all_the_same(service: Prometheus) -> None:
    long = " or ".join(f'level{{job="{number}"}}' for number in range(500)) + ' or level{job="a"}'
    assert [each.last for each in service.now(long, at=BEGIN)] == [0.0]


@pytest.mark.parametrize("query", ["level{", "level + on() group_left(x) up + "])
def test_what_is_no_query_is_refused_with_its_own_words(service: Prometheus, query: str) -> None:
    with pytest.raises(RunbookError, match="parse error") as error:
        service.now(query, at=BEGIN)
    assert (error.value.code, error.value.status) == (driver.REFUSED, Status.UNKNOWN)


def test_one_that_gives_no_answer_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "_SILENCE_S", 0)
    with pytest.raises(RunbookError, match="Prometheus did not answer GET /api/v1/rules") as error:
        Prometheus.from_params({"prometheus_url": "http://127.0.0.1:9"}, timeout_s=5).rules()
    assert (error.value.code, error.value.status) == (driver.SILENT, Status.UNKNOWN)


@dataclass
class Broken(FakeService):
    """Says what the test wants."""

    service = "prometheus"
    says: Reply

    def __post_init__(self) -> None:
        super().__init__()
        self.who: list[str | None] = []

    def answer(self, asked: Asked) -> Reply:
        self.who.append(asked.headers.get("Authorization"))
        return self.says


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Reply(200, {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}), "no result"),
        (Reply(200, {"status": "success", "data": None}), "no result"),
        (Reply(200, ["a list"]), "no result"),
        (Reply(200, {"status": "success", "warnings": ["a shard is gone"], "data": {}}), "may be missing"),
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), "no JSON"),
    ],
)
def test_what_cannot_be_read_or_is_not_whole_is_unknown(said: Reply, why: str) -> None:
    with Broken(said) as fake, pytest.raises(RunbookError, match=why) as error:
        Prometheus.from_params({"prometheus_url": fake.url}, timeout_s=5).now("up", at=END)
    assert error.value.status is Status.UNKNOWN


def test_the_labels_that_alerts_get_on_their_way(service: Prometheus) -> None:
    assert service.external_labels() == {}
    said = "global:\n  external_labels:\n    cluster: eu\n    zone: 1\n"
    with Broken(Reply(200, {"status": "success", "data": {"yaml": said}})) as fake:
        told = Prometheus.from_params({"prometheus_url": fake.url}, timeout_s=5).external_labels()
    assert told == {"cluster": "eu", "zone": "1"}


def test_a_user_and_a_password_are_sent_and_told_to_nobody() -> None:
    with Broken(Reply(401, b"Unauthorized", {"Content-Type": "text/plain"})) as fake:
        given = {"prometheus_url": fake.url, "prometheus_user": "runbook", "prometheus_password": "c4n4ry:1"}
        with pytest.raises(RunbookError, match="check prometheus_token, or prometheus_user") as raised:
            Prometheus.from_params(given | {"prometheus_token": None}, timeout_s=5).rules()
    assert fake.who == ["Basic cnVuYm9vazpjNG40cnk6MQ=="]
    assert "c4n4ry" not in raised.value.message
