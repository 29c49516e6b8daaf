"""supabase_log_archive: lines out of Supabase before it drops them, each once."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from conftest import S3, run_module
from fakes.http import Reply
from fakes.supabase import REF, TOKEN, FakeSupabase
from log_archives import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes.http import Asked


class Logs(FakeSupabase):
    """A project whose log has lines; it gives at most 300 at once."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.lost = 0
        self.spans: list[tuple[datetime, datetime]] = []

    def answer(self, asked: Asked) -> Reply:
        """What the endpoint of the logs answers."""
        if not asked.path.endswith("/analytics/endpoints/logs") or self.log_error:
            return super().answer(asked)
        said = parse_qs(asked.query)
        sql = said["sql"][0]
        since, until = (
            datetime.fromisoformat(said[f"iso_timestamp_{name}"][0]).astimezone(UTC) for name in ("start", "end")
        )
        assert until - since <= timedelta(hours=24)
        self.spans.append((since, until))
        times = re.findall(r"toDateTime64\('([^']+)'", sql)
        found = [
            line
            for line in self.lines
            if times[0] <= line["timestamp"] < times[1] and f"source = '{line['source']}'" in sql
        ]
        if "count()" in sql:
            return Reply(200, {"result": [{"lines": str(len(found))}], "error": None})
        offset = int(re.findall(r"offset (\d+)", sql)[0])
        page = sorted(found, key=lambda line: (line["timestamp"], line["id"]))[offset : len(found) - self.lost]
        return Reply(200, {"result": [{k: v for k, v in line.items() if k != "source"} for line in page[:300]]})

    def wrote(self, count: int, end: datetime) -> None:
        """Lines a minute apart, the last one at ``end``."""
        self.lines += [
            {
                "id": f"id-{end.isoformat()}-{number}", "source": "postgres_logs", "severity_text": "LOG",
                "timestamp": f"{end - timedelta(minutes=number):%Y-%m-%d %H:%M:%S.000000}",
                "event_message": f"line\n{number}", "log_attributes": {"parsed.user_name": "app"},
            }
            for number in range(count)
        ]  # fmt: skip


@pytest.fixture
def logs() -> Iterator[Logs]:
    with Logs() as made:
        yield made


@pytest.fixture
def place(tmp_path, s3: S3) -> Place:
    """A bucket."""
    return Place.make(tmp_path, s3)


def fetch(place: Place, logs: Logs, *, check: bool = False, **more: Any):
    options = place.options() | {
        "project_ref": REF, "access_token": TOKEN, "api_url": logs.url, "log": "postgres_logs",
        "retention_class": "audit", "kept_days": 2,
    }  # fmt: skip
    return run_module("supabase_log_archive", options | more, check=check, diff=check)


def ids(place: Place) -> list[str]:
    return [json.loads(line)["id"] for line in place.archived().splitlines()]


def test_lines_are_fetched_once_whatever_the_page_and_the_span(place, logs):
    now = datetime.now(UTC)
    logs.wrote(1000, now - timedelta(minutes=20))
    planned = fetch(place, logs, check=True)
    assert (planned.failed, planned.result["changed"], logs.spans, place.keys("chain")) == (False, True, [], [])
    done = fetch(place, logs)
    assert (done.failed, done.result["lines"], done.result["status"]) == (False, 1000, "ok"), done.result
    logs.wrote(3, now)
    again = fetch(place, logs, settle_s=60)
    assert not again.failed
    found = ids(place)
    assert (
        len(found)
        == len(set(found))
        == 1000
        + sum(line["timestamp"] < again.result["fetched_until"].replace("T", " ")[:19] for line in logs.lines[1000:])
    )
    assert place.verify().result["status"] == "ok"
    assert TOKEN not in str(done.result)


def test_lines_that_do_not_come_are_unknown_and_the_span_is_not_archived(place, logs):
    logs.wrote(10, datetime.now(UTC) - timedelta(minutes=20))
    logs.lost = 2
    done = fetch(place, logs)
    assert (done.failed, done.result["status"]) == (True, "unknown")
    assert "nothing of it was archived" in done.result["msg"]
    logs.lost = 0
    assert not fetch(place, logs).failed
    assert sorted(ids(place)) == sorted(line["id"] for line in logs.lines)


def test_an_answer_that_is_none_is_unknown_and_quotes_nothing(place, logs):
    logs.log_error = "syntax error near patient Doe"
    done = fetch(place, logs)
    assert (done.failed, done.result["status"]) == (True, "unknown")
    assert "Doe" not in str(done.result)
