"""Live progress: what is read, how it is drawn, and that it never breaks a run."""

from __future__ import annotations

import io
import json
import os
import pty
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import conftest  # noqa: F401 - puts our module_utils on the path
import pytest
from ansible.executor.process import worker
from ansible.module_utils.runbook.report import progress
from ansible.utils.display import Display
from terminal import screen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def event(
    host: str = "db1", done: float = 10, total: float | None = 100, ts: float = 1000.0, **more: Any
) -> dict[str, Any]:
    base = {"host": host, "module": "m", "pid": 1, "ts": ts, "label": "t", "done": done, "total": total, "unit": "rows"}
    return base | {"rate": None, "final": False} | more


class Screen:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def display(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Watched(progress.Watch):
    """A watch with a file to tell it things, and all that it kept for the journal."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self.screen = Screen()
        self.kept: list[tuple[str, str, dict[str, Any]]] = []
        super().__init__(path, "lines", self.screen, lambda *sample: self.kept.append(sample))

    def tell(self, *events: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(item) + "\n" for item in events)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path / "progress")
    yield made
    made.close()


def test_ansible_has_the_lock_that_drawing_needs():
    display = Display()
    assert display._lock.acquire(timeout=1)
    display._lock.release()
    # A worker must not be born while the thread that draws holds a lock.
    assert "_lock" in worker.WorkerProcess.start.__code__.co_names


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("wanted", "terminal", "environ", "lockable", "mode"),
    [
        ("auto", True, {"TERM": "xterm"}, True, "bar"),
        ("auto", False, {"TERM": "xterm"}, True, "lines"),
        ("auto", True, {"TERM": "dumb"}, True, "lines"),
        ("auto", True, {"TERM": "xterm"}, False, "lines"),
        ("auto", True, {"AWX_ISOLATED_DATA_DIR": "/runner"}, True, "lines"),
        ("auto", True, {"JOB_ID": "7"}, True, "lines"),
        ("bar", True, {"JOB_ID": "7"}, True, "bar"),
        ("bar", False, {}, True, "lines"),
        ("lines", True, {}, True, "lines"),
        ("off", True, {}, True, "off"),
    ],
)
def test_mode(wanted, terminal, environ, lockable, mode):
    stdout = _Terminal() if terminal else io.StringIO()
    assert progress.choose_mode(wanted, stdout, environ, lockable=lockable) == mode


def test_half_a_line_is_read_when_it_is_whole(tmp_path):
    path = tmp_path / "progress"
    whole = json.dumps(event()).encode() + b"\n"
    path.write_bytes(b'{"host": 1}\nrubbish\n[]\n' + whole + whole[:10])
    tail = progress.Tail(path)
    assert len(tail.events()) == 1
    assert tail.events() == []
    with path.open("ab") as file:
        file.write(whole[10:])
    assert [item["done"] for item in tail.events()] == [10]
    tail.close()


def test_rate_and_time_left_are_those_of_late():
    item = progress.Running("db1", "t1")
    for second in range(60):
        item.take(
            event(done=float(second if second < 30 else 30 + 10 * (second - 30)), total=420.0, ts=1000.0 + second)
        )
    assert item.rate == pytest.approx(10)
    assert item.left_s == pytest.approx(10)
    assert item.sentence() == "db1: t: 320 of 420 rows, 10/s, 10 s left"
    assert isinstance(item.past["t"], deque)
    assert len(item.past["t"]) <= 22


def test_without_a_total_nothing_is_promised():
    item = progress.Running("db1", "t1")
    item.take(event(total=None, unit="bytes", done=2048.0, rate=1024))
    assert (item.fraction, item.left_s) == (None, None)
    assert item.sentence() == "db1: t: 2.0 KiB, 1.0 KiB/s"


def test_the_journal_gets_few_samples_and_always_the_last(watch):
    watch.start("db1", "t1")
    hours_6 = 6 * 3600
    watch.tell(*(event(done=float(second), total=float(hours_6), ts=1000.0 + second) for second in range(hours_6)))
    watch.finish("db1")
    assert 300 <= len(watch.kept) <= 600
    assert [watch.kept[index][2]["done"] for index in (0, -1)] == [0, hours_6 - 1]
    assert {sample[:2] for sample in watch.kept} == {("db1", "t1")}


def test_events_after_the_end_belong_to_nobody(watch):
    watch.start("db1", "t1")
    watch.finish("db1")
    watch.tell(event(done=1.0))
    watch.start("db2", "t1")
    watch.finish("db2")
    assert watch.kept == []


def test_a_module_that_does_not_know_its_host(watch):
    watch.start("db7", "t1")
    watch.tell(event(host=""))
    watch.finish("db7")
    assert watch.kept[0][0] == "db7"


def test_lines_of_many_hosts_are_few(watch):
    hosts = [f"db{number}" for number in range(9)]
    for host in hosts:
        watch.start(host, "t1")
    watch.tell(*(event(host, done=float(10 + number)) for number, host in enumerate(hosts)))
    with watch._lock:
        watch._read()
        watch._print(list(watch._running.values()))
    assert watch.screen.lines == [f"db{number}: t: {10 + number} of 100 rows" for number in range(4)] + [
        "… and 5 more hosts, further on"
    ]


def test_trouble_switches_progress_off_with_one_warning(watch):
    def broken(*_sample: object) -> None:
        raise ZeroDivisionError("boom")

    watch._sample = broken
    watch.start("db1", "t1")
    watch.tell(event(), event(ts=1005.0))
    watch.finish("db1")
    watch.start("db2", "t1")
    watch.finish("db2")
    assert watch.screen.warnings == ["Progress is not shown any more: ZeroDivisionError: boom"]


def test_bars_leave_the_output_as_it_would_be_without_them():
    leader, follower = pty.openpty()
    lock = threading.RLock()
    with os.fdopen(follower, "w") as terminal:
        bars = progress.Bars(lock, terminal, terminal, colour=False)
        items = [progress.Running(f"db{number}", "t") for number in range(3)]
        for item in items:
            item.take(event(item.host))
        terminal.write("first\n")
        bars.draw(items)
        terminal.write("second, ")
        bars.draw(items)  # a line is open: nothing may be drawn into it
        terminal.write("and its end\n")
        bars.draw(items)
        bars.close()
        terminal.write("third\n")
        assert "write" not in vars(terminal)
        terminal.flush()
        raw = ""
        while "third" not in raw:
            raw += os.read(leader, 65536).decode()
    os.close(leader)
    assert raw.count("db1") == 2
    assert screen(raw) == ["first", "second, and its end", "third"]


def test_the_time_that_is_left_is_no_guess():
    """Of work that has hardly begun nobody knows how long it takes."""

    def left(*samples: tuple[float, float]) -> str:
        item = progress.Running("db1", "t")
        for ts, done in samples:
            item.take({"host": "db1", "ts": ts, "label": "t", "done": done, "total": 10_000.0, "unit": "rows",
                       "rate": 0.3})  # fmt: skip
        return item.remaining

    assert left((0, 0), (0.2, 1)) == ""
    assert left((0, 0), (1.5, 900)) == ""
    assert left((0, 0), (10, 9)) == ""
    assert left((0, 0), (10, 1000)) == "1 min 30 s left"
