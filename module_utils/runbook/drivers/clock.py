"""The time of one call of a module: what has passed, what is left until its deadline, how long each phase took."""

from __future__ import annotations

import time

from ansible.module_utils.runbook.errors import RunbookError


class Clock:
    """Begins when it is made, and is over after ``deadline_s`` seconds."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._started = self._lap = time.monotonic()
        #: Seconds by phase.
        self.phases: dict[str, float] = {}

    def passed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def left_s(self) -> float:
        """Seconds until the deadline; below 0 once it has passed."""
        return self._deadline_s - self.passed_s()

    def left_ms(self) -> int:
        """The same as a ``statement_timeout`` in milliseconds: at least 1, because 0 would be none at all."""
        return max(1, int(self.left_s() * 1000))

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.left_s() <= 0

    def check(self, fix: str = "give it more time, and run again") -> None:
        """Stop where the deadline has passed.

        :param fix: what to do then
        :raises RunbookError: it has
        """
        if self.is_over():
            raise RunbookError(f"deadline_s: the {self._deadline_s:g} s have passed; {fix}.")

    def lap(self, name: str) -> None:
        """Note how long the phase took that ends now."""
        now = time.monotonic()
        self.phases[name] = round(now - self._lap, 3)
        self._lap = now

    def sleep(self, seconds: float) -> float:
        """Sleep, but not beyond the deadline; the seconds slept."""
        span = max(0.0, min(seconds, self.left_s()))
        time.sleep(span)
        return span
