"""What is said of a pass over tables or indexes: what was done, and what was left for which reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Summary:
    """The whole pass; each report has a ``state`` and an ``error``."""

    reports: Sequence[Any]
    considered: int
    check_mode: bool
    #: Why it ended early.
    stopped: str | None = None

    def in_state(self, *states: str) -> list[Any]:
        """The reports whose work came to one of these."""
        return [report for report in self.reports if report.state in states]


def left(named: Iterable[tuple[str, Any]], said: Iterable[tuple[str, str]], noun: str, plural: str = "") -> str:
    """What a sentence adds on the work that was not done, state by state.

    :param named: reports with the names of what they are about
    :param said: the states that are told, in their order, each with its words

    >>> from types import SimpleNamespace as Report
    >>> locked = Report(state="locked", error="held by jo"), Report(state="locked", error=None)
    >>> left(zip("ab", locked), [("failed", "failed"), ("locked", "stayed locked")], "table")
    '; 2 tables stayed locked: a (held by jo), b'
    """
    every = list(named)
    text = ""
    for state, words in said:
        names = [
            f"{name}{f' ({report.error})' if report.error else ''}" for name, report in every if report.state == state
        ]
        if names:
            text += f"; {count(len(names), noun, plural)} {words}: {some(names)}"
    return text
