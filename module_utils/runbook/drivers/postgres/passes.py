"""A pass over tables or indexes: threads that work, and the caller's thread, which watches them and ends them."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import psycopg2
from ansible.module_utils.runbook.drivers import permits, stopping
from ansible.module_utils.runbook.drivers.postgres.postgres import Session, Target, cause, explained
from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.run import Run

#: Between two looks at what runs.
TICK_S = 0.5
#: How long stopped work may take to end and to clear away what it left.
CANCEL_TIMEOUT_S = 60.0
#: Longest look into the catalogs, and longest wait of such a look for a lock.
STATEMENT_TIMEOUT_MS = 120_000
LOOK_LOCK_TIMEOUT_MS = 200


def connect(target: Target, *, purpose: str, lock_timeout_ms: int = LOOK_LOCK_TIMEOUT_MS) -> Session:
    """A session that looks, or that works and may wait for a lock as long as its user said."""
    return Session(target, lock_timeout_ms=lock_timeout_ms, statement_timeout_ms=STATEMENT_TIMEOUT_MS, purpose=purpose)


@contextlib.contextmanager
def entered(
    params: Mapping[str, Any], run: Run, *, purpose: str, lock_timeout_ms: int = LOOK_LOCK_TIMEOUT_MS
) -> Iterator[Session]:
    """A session with a database that this run may change.

    :param params: options of a module, the target among them
    :raises RunbookError: this run did not pass preflight for it, it is a standby, or the server said no in the block
    """
    target = Target.from_params(params)
    with explained(target), connect(target, purpose=purpose, lock_timeout_ms=lock_timeout_ms) as session:
        permits.require_database(run, session)
        session.require_primary()
        yield session


class Pass(ABC):
    """One pass; the reports tell what became of each piece of work."""

    def __init__(self, reports: Sequence[Any], *, deadline_s: float) -> None:
        """Nothing runs yet.

        :param reports: one for each piece of work, in the order in which it is started; they are filled in
        :param deadline_s: seconds from now after which what runs is cancelled
        """
        self.executed_queries: list[str] = []
        self._reports = reports
        self._deadline = time.monotonic() + deadline_s
        #: Of the threads that run. An event, because a signal that interrupts a join() makes a running one look ended.
        self._finished = threading.Event()
        self._finished.set()
        self._stop = threading.Event()
        #: Why the work could not go on.
        self._trouble: str | None = None

    @abstractmethod
    def _work_through(self, tick: Callable[[], None]) -> None:
        """Do all that is planned, by :meth:`_together`, until it is done or no time is left."""

    @abstractmethod
    def _busy(self) -> Iterable[Session]:
        """Sessions whose statement may be cancelled: not what clears away the half-built rest of a cancelled one."""

    @abstractmethod
    def _opened(self) -> Iterable[Session]:
        """All sessions of the pass."""

    @property
    def _is_late(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._deadline

    @property
    def _is_ending(self) -> bool:
        """Whether a statement that is cancelled now is cancelled by us, so that nothing more is begun.

        The thread that works knows of a signal before the main thread, which :meth:`_cancel` is called in.
        """
        return self._stop.is_set() or stopping.told.is_set()

    def _stopping(self) -> None:  # noqa: B027 - most have nobody to wake
        """Wake who waits, to see that the pass ends."""

    def run(self, tick: Callable[[], None]) -> str | None:
        """Do the work; the reports tell what became of it.

        :param tick: called in this thread every half second; an error that it raises ends the pass
        :returns: why the pass ended early, None if it did not
        """
        early: str | None = None
        try:
            self._work_through(tick)
        except RunbookError as error:
            early = error.message.rstrip(".")
        except psycopg2.Error as error:
            early = f"the connection that holds the writer's lock failed ({cause(error)})"
        finally:
            late = self._is_late
            self._cancel()
        for report in self._reports:
            if report.state == "planned":
                report.state = "not_reached"
        if early is None and any(report.state == "not_reached" for report in self._reports):
            early = self._trouble or f"the deadline {'has passed' if late else 'does not leave enough time'}"
        return early

    def _together(self, jobs: Sequence[Callable[[], None]], tick: Callable[[], None]) -> None:
        """Do jobs, each in a thread of its own, and watch them until all have ended or no time is left."""
        finished = self._finished = threading.Event()
        left = [len(jobs)]
        lock = threading.Lock()

        def work(job: Callable[[], None]) -> None:
            try:
                job()
            finally:
                with lock:
                    left[0] -= 1
                    if left[0] == 0:
                        finished.set()

        for job in jobs:
            threading.Thread(target=work, args=(job,), daemon=True).start()
        while not finished.wait(min(TICK_S, max(self._deadline - time.monotonic(), 0.01))) and not self._is_late:
            tick()

    def _cancel(self) -> None:
        """Stop the work and wait for it, within a bound; it clears away what it leaves half made."""
        self._stop.set()
        self._stopping()
        until = time.monotonic() + CANCEL_TIMEOUT_S
        while not self._finished.is_set() and time.monotonic() < until:
            for session in self._busy():
                if not session.connection.closed:
                    with contextlib.suppress(psycopg2.Error):
                        session.connection.cancel()
            self._finished.wait(0.1)
        for session in self._opened():
            session.close()
