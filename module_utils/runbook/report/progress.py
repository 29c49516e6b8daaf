"""Live progress: what running modules report, shown while they run.

Modules append events to one file (see ``Progress`` in module.py). One thread of the ``ansible-playbook`` process reads
them four times a second. On a terminal it draws a bar per running module below Ansible's output; elsewhere it prints a
line now and then. It also passes samples on to the journal, for the charts of the report.

One lock guards all of this, and it is Ansible's own display lock: Ansible holds it whenever it writes, and whenever it
forks a worker. So nothing is drawn into a line of Ansible's, and no worker is born while a lock is taken that its
parent's thread would have to give back.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

REFRESH_S = 0.25
#: Seconds between two lines where there is no terminal.
LINE_INTERVAL_S = 10.0
#: Hosts that get a line each; the rest is counted.
LINE_HOSTS = 4
#: Seconds of the past from which the rate is taken.
RATE_WINDOW_S = 20.0
#: The time that is left is told once so much is known: seconds of this step, and its share of the whole.
SURE_AFTER_S = 3.0
SURE_FRACTION = 0.01
#: Samples for the journal are that far apart at first; after each so many the distance doubles. So a task of seconds
#: has a curve, and one of six hours some 450 samples.
SAMPLE_INTERVAL_S = 0.25
SAMPLES_PER_INTERVAL = 40


def choose_mode(wanted: str, stdout: TextIO, environ: Mapping[str, str], *, lockable: bool) -> str:
    """``bar``, ``lines`` or ``off`` for what was asked: ``auto`` or one of them.

    A bar needs a real terminal. AWX claims to be one and is not.

    :param lockable: Ansible's display has the lock that drawing needs
    """
    if wanted in ("lines", "off"):
        return wanted
    try:
        terminal = stdout.isatty()
    except ValueError:  # closed
        terminal = False
    in_awx = bool(environ.get("AWX_ISOLATED_DATA_DIR") or environ.get("JOB_ID"))
    if terminal and lockable and environ.get("TERM") != "dumb" and (wanted == "bar" or not in_awx):
        return "bar"
    return "lines"


@dataclass
class Running:
    """A module that runs on a host, and what it said last."""

    host: str
    task: str
    event: dict[str, Any] | None = None
    past: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    sampled_at_s: float = 0.0
    samples: int = 0
    unsampled: bool = False

    def take(self, event: dict[str, Any]) -> None:
        """Note an event of this module."""
        past = self.past.setdefault(event["label"], deque())
        if past and event["done"] < past[-1][1]:
            past.clear()
        past.append((event["ts"], event["done"]))
        while past[-1][0] - past[0][0] > RATE_WINDOW_S and len(past) > 2:
            past.popleft()
        self.event = event

    @property
    def rate(self) -> float | None:
        """Units per second of late."""
        if self.event is None:
            return None
        past = self.past[self.event["label"]]
        if past[-1][0] - past[0][0] >= 1:
            return float((past[-1][1] - past[0][1]) / (past[-1][0] - past[0][0]))
        rate = self.event["rate"]
        return float(rate) if isinstance(rate, (int, float)) else None

    @property
    def fraction(self) -> float | None:
        """How much is done, from 0 to 1; None where the total is not known."""
        if self.event is None or not self.event["total"]:
            return None
        return float(min(1.0, max(0.0, self.event["done"] / self.event["total"])))

    @property
    def left_s(self) -> float | None:
        """Seconds to go at the present rate; None while that is a guess, because hardly anything was done yet."""
        rate = self.rate
        if self.event is None or not self.event["total"] or not rate or rate <= 0:
            return None
        past = self.past[self.event["label"]]
        if past[-1][0] - past[0][0] < SURE_AFTER_S or (self.fraction or 0) < SURE_FRACTION:
            return None
        return float(max(0.0, (self.event["total"] - self.event["done"]) / rate))

    def amount(self, *, narrow: bool = False) -> str:
        """``43,000 of 117,000 rows``, or ``43k/117k rows``."""
        if self.event is None:
            return ""
        in_bytes = self.event["unit"] == "bytes"
        text = wording.size if in_bytes else wording.compact if narrow else wording.number
        total = "" if self.event["total"] is None else f"{'/' if narrow else ' of '}{text(self.event['total'])}"
        return f"{text(self.event['done'])}{total}{'' if in_bytes else ' ' + self.event['unit']}"

    @property
    def pace(self) -> str:
        """``2,840/s``, or ``1.5/min`` of what takes longer."""
        rate = self.rate
        if self.event is None or rate is None:
            return ""
        if self.event["unit"] == "bytes":
            return f"{wording.size(rate)}/s"
        if rate < 0.1:
            return f"{wording.number(rate * 60)}/min" if rate > 0 else ""
        return f"{wording.number(round(rate) if rate >= 10 else rate)}/s"

    @property
    def remaining(self) -> str:
        """``26 s left``."""
        return (
            "" if self.left_s is None else f"{wording.duration(float(round(self.left_s)))} left".replace(".0 s", " s")
        )

    def sentence(self) -> str:
        """All of it in one line of text."""
        label = self.event["label"] if self.event else ""
        return f"{self.host}: {label}: " + ", ".join(
            part for part in (self.amount(), self.pace, self.remaining) if part
        )


class Tail:
    """Reads what was appended to a file since the last time, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._rest = b""

    def events(self) -> list[dict[str, Any]]:
        """New events; what is no event is skipped."""
        chunks = []
        while chunk := os.read(self._handle, 65536):
            chunks.append(chunk)
        if not chunks:
            return []
        *lines, self._rest = (self._rest + b"".join(chunks)).split(b"\n")
        found = []
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                event = json.loads(line)
                total = event["total"]
                found.append({
                    "host": str(event["host"]),
                    "ts": float(event["ts"]),
                    "label": str(event["label"]),
                    "done": float(event["done"]),
                    "total": None if total is None else float(total),
                    "unit": str(event["unit"]),
                    "rate": event.get("rate"),
                })  # fmt: skip
        return found

    def close(self) -> None:
        """Give the file back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class Bars:
    """Bars below the output, drawn and erased by this class alone.

    Every write to the terminal by anyone in this process erases them first, so that Ansible's lines stand where they
    would stand without bars. Call under the display's lock only.
    """

    def __init__(self, lock: Any, stdout: TextIO, stderr: TextIO, *, colour: bool) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it, and it costs a tenth of a second
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        self._console, self._bar, self._table, self._text = Console, ProgressBar, Table, Text
        self._lock = lock
        self._stdout = stdout
        self._colour = colour
        self._pid = os.getpid()
        self._height = 0
        self._drawn = ""
        self._mid_line = False
        self._write = stdout.write
        self._hooked = [stdout] + ([stderr] if stderr is not stdout and stderr.isatty() else [])
        for stream in self._hooked:
            stream.write = self._erasing(stream.write)  # type: ignore[method-assign] # on purpose, see above

    def _erasing(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def writing(text: str) -> int:
            if os.getpid() != self._pid:
                return write(text)
            with self._lock:
                self.erase()
                if text:
                    self._mid_line = not text.endswith("\n")
                return write(text)

        return writing

    def erase(self) -> None:
        """Take the bars off the terminal."""
        if self._height:
            self._write(f"\x1b[{self._height}A\r\x1b[J")
            self._stdout.flush()
            self._height, self._drawn = 0, ""

    def draw(self, running: list[Running]) -> None:
        """Put one bar per module, as many as fit; none while a line of output is still open."""
        size = os.get_terminal_size(self._stdout.fileno())
        room = max(2, (size.lines or 24) - 3)
        shown = running if len(running) <= room else running[: room - 1]
        if not shown or self._mid_line:
            self.erase()
            return
        text = self._rendered(shown, len(running) - len(shown), max(20, (size.columns or 80) - 1))
        if text == self._drawn:
            return
        erased = f"\x1b[{self._height}A\r\x1b[J" if self._height else ""
        self._write(erased + text)
        self._stdout.flush()
        self._height, self._drawn = text.count("\n"), text

    def _rendered(self, shown: list[Running], more: int, width: int) -> str:
        out = io.StringIO()
        console = self._console(
            file=out,
            width=width,
            force_terminal=True,
            no_color=not self._colour or None,
            highlight=False,
            soft_wrap=False,
        )
        grid = self._table.grid(padding=(0, 2, 0, 0), expand=True, pad_edge=False)
        grid.add_column(no_wrap=True, max_width=max(8, width // 5))
        grid.add_column(no_wrap=True, max_width=max(8, width // 4))
        grid.add_column(ratio=1, min_width=6)
        for _ in range(4 if width >= 95 else 3):
            grid.add_column(no_wrap=True, justify="right")
        for item in shown:
            event = item.event or {}
            fraction = item.fraction
            cells: list[Any] = [
                self._text(item.host, style="bold", overflow="ellipsis"),
                self._text(event["label"], overflow="ellipsis"),
                self._bar(total=1.0 if fraction is not None else None, completed=fraction or 0, pulse=fraction is None),
                self._text("" if fraction is None else f"{int(100 * fraction)} %"),
                self._text(item.amount(narrow=width < 95)),
            ]
            if width >= 95:
                cells.append(self._text(item.pace, style="dim"))
            cells.append(self._text(item.remaining, style="cyan"))
            grid.add_row(*cells)
        console.print(grid)
        if more:
            console.print(self._text(f"and {count(more, 'more host')}", style="dim"))
        return out.getvalue()

    def close(self) -> None:
        """Erase, and let everyone write again as before."""
        with self._lock:
            self.erase()
            for stream in self._hooked:
                with suppress(AttributeError):
                    del stream.write
            self._hooked = []


class Watch:
    """Follows the progress file while modules run.

    :param sample: ``sample(host, task, event)`` takes what the journal shall keep
    """

    def __init__(
        self,
        path: Path,
        mode: str,
        display: Any,
        sample: Callable[[str, str, dict[str, Any]], None],
        *,
        colour: bool = True,
    ) -> None:
        self._tail = Tail(path)
        self._display = display
        self._sample = sample
        self._lock = getattr(display, "_lock", None) or threading.RLock()
        self._running: dict[str, Running] = {}
        self._broken = False
        self._last_line_s = 0.0
        self._now_s = 0.0
        self.mode = choose_mode(mode, sys.stdout, os.environ, lockable=hasattr(display, "_lock"))
        self._bars: Bars | None = None
        if self.mode == "bar":
            try:
                self._bars = Bars(self._lock, sys.stdout, sys.stderr, colour=colour)
            except Exception as error:
                self._display.warning(f"Progress cannot be drawn on this terminal ({error}); it is printed in lines.")
                self.mode = "lines"
        self._stop = threading.Event()
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, host: str, task: str) -> None:
        """A module begins on ``host``."""
        with self._lock:
            self._running[host] = Running(host, task)
            self._busy.set()
        if self._thread is None and not self._broken:
            self._thread = threading.Thread(target=self._loop, name="runbook-progress", daemon=True)
            self._thread.start()

    def finish(self, host: str) -> None:
        """The module on ``host`` is through; its last events are read, later ones belong to nobody."""
        with self._lock:
            self._safely(self._read)
            item = self._running.pop(host, None)
            if item is not None and item.unsampled:
                self._safely(lambda: self._keep(item))
            if not self._running:
                self._busy.clear()
                self._last_line_s = 0.0
            if self._bars is not None and not any(other.event for other in self._running.values()):
                self._safely(self._bars.erase)

    def close(self) -> None:
        """End the thread and clean the terminal."""
        self._stop.set()
        self._busy.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
            self._thread = None
        if self._bars is not None:
            self._bars.close()
            self._bars = None
        self._tail.close()

    # --- the thread ---

    def _loop(self) -> None:
        while not self._stop.wait(REFRESH_S) and not self._broken:
            self._busy.wait()
            self._now_s += REFRESH_S
            with self._lock:
                if not self._stop.is_set():
                    self._safely(self._tick)

    def _safely(self, act: Callable[[], None]) -> None:
        """Whatever goes wrong with progress, the run goes on without it."""
        if self._broken:
            return
        try:
            act()
        except Exception as error:
            self._broken = True
            with suppress(Exception):
                if self._bars is not None:
                    self._bars.close()
            self._bars = None
            with suppress(Exception):
                self._display.warning(f"Progress is not shown any more: {type(error).__name__}: {error}")

    def _tick(self) -> None:
        self._read()
        told = [item for item in self._running.values() if item.event is not None]
        if self._bars is not None:
            self._bars.draw(sorted(told, key=lambda item: item.host))
        elif self.mode == "lines" and told:
            if not self._last_line_s:
                self._last_line_s = self._now_s
            elif self._now_s - self._last_line_s >= LINE_INTERVAL_S:
                self._last_line_s = self._now_s
                self._print(told)

    def _print(self, told: list[Running]) -> None:
        slowest = sorted(told, key=lambda item: (item.fraction or 0, item.host))
        for item in slowest[:LINE_HOSTS]:
            self._display.display(item.sentence())
        if len(slowest) > LINE_HOSTS:
            self._display.display(f"… and {count(len(slowest) - LINE_HOSTS, 'more host')}, further on")

    def _read(self) -> None:
        for event in self._tail.events():
            item = self._running.get(event["host"])
            if item is None and not event["host"] and len(self._running) == 1:
                item = next(iter(self._running.values()))
            if item is None:
                continue
            item.take(event)
            item.unsampled = True
            distance = SAMPLE_INTERVAL_S * 2 ** (item.samples // SAMPLES_PER_INTERVAL)
            if event["ts"] - item.sampled_at_s >= distance:
                self._keep(item)

    def _keep(self, item: Running) -> None:
        if item.event is not None:
            item.sampled_at_s = item.event["ts"]
            item.samples += 1
            item.unsampled = False
            self._sample(item.host, item.task, item.event)
