"""Waiting until a WAL segment is archived: which of the archiver's files says so."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from ansible.module_utils.runbook.drivers.backup import archiver

SEGMENT = "000000010000000000000005"


class Server:
    """A session on a server that archives one file after the other, one at each look."""

    def __init__(self, *archived: str, may_look: bool = False) -> None:
        self.executed_queries: list[str] = []
        self.archived, self.may_look, self.looks = archived, may_look, 0

    def transaction(self) -> Any:
        return nullcontext()

    def query(self, statement: str, values: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        if "pg_walfile_name" in statement:
            return [{"name": SEGMENT}]
        if "FROM pg_stat_archiver" in statement:
            self.looks += 1
            last = self.archived[min(self.looks, len(self.archived)) - 1]
            return [{"name": last, "may_look": self.may_look}]
        if "pg_ls_archive_statusdir" in statement:
            return [{}] if values[0].removesuffix(".done") in self.archived[: self.looks] else []
        return []


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiver, "_POLL_S", 0.0)


@pytest.mark.parametrize(
    "last",
    [
        "",
        "000000010000000000000004",
        "00000002.history",
        "000000010000000000000005.00000028.backup",
        "000000010000000000000006.00000028.backup",
        "000000010000000000000005.partial",
        # Of another timeline, be it of a later one.
        "000000020000000000000006",
    ],
)
def test_what_is_no_later_segment_of_the_same_timeline_says_nothing(last: str) -> None:
    server: Any = Server(last)
    assert archiver.archive_until_now(server, wait_s=0.01) == archiver.Ended(SEGMENT, None)
    server = Server(last, SEGMENT)
    assert archiver.archive_until_now(server, wait_s=60).archived_s is not None
    assert server.looks == 2


@pytest.mark.parametrize("last", [SEGMENT, "000000010000000000000006", "00000001000000010000000A"])
def test_the_segment_or_a_later_one_says_so(last: str) -> None:
    server: Any = Server(last)
    assert archiver.archive_until_now(server, wait_s=60).archived_s is not None


def test_a_label_that_followed_the_segment_hides_it_from_nobody_who_may_look() -> None:
    server: Any = Server("000000010000000000000004", SEGMENT, "000000010000000000000003.00000028.backup", may_look=True)
    server.looks = 2
    assert archiver.archive_until_now(server, wait_s=60).archived_s is not None


def test_it_has_to_arrive_too_where_that_is_asked() -> None:
    asked: list[str] = []

    def arrived(segment: str) -> bool:
        asked.append(segment)
        return len(asked) == 3

    server: Any = Server(SEGMENT)
    assert archiver.archive_until_now(server, wait_s=60, arrived=arrived).archived_s is not None
    assert asked == [SEGMENT] * 3
