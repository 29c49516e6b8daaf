"""Series as Prometheus answers with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Name and value of each label, in order, by which a series is found again.
Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Series:
    """The samples of one series: the moment in seconds since 1970, and the value, which may be NaN or infinite."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def key(self) -> Key:
        """By which it is found again."""
        return tuple(sorted(self.labels.items()))

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


@dataclass(frozen=True)
class Rule:
    """A rule that Prometheus evaluates."""

    #: ``alerting`` or ``recording``.
    kind: str
    name: str
    query: str
    group: str
    file: str
    #: Between two evaluations of its group.
    interval_s: float
    #: How long the condition has to hold before it fires.
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    #: ``ok``, ``err``, or ``unknown`` before the first evaluation.
    health: str = "unknown"
    last_error: str = ""

    @classmethod
    def of(cls, group: Mapping[str, Any], said: Mapping[str, Any]) -> Self:
        """As ``/api/v1/rules`` has it.

        :raises LookupError, TypeError, ValueError: it is none
        """
        return cls(
            kind=str(said["type"]),
            name=str(said["name"]),
            query=str(said["query"]),
            group=str(group["name"]),
            file=str(group["file"]),
            interval_s=float(group["interval"]),
            for_s=float(said.get("duration") or 0),
            keep_firing_for_s=float(said.get("keepFiringFor") or 0),
            labels={str(name): str(value) for name, value in (said.get("labels") or {}).items()},
            annotations={str(name): str(value) for name, value in (said.get("annotations") or {}).items()},
            health=str(said.get("health") or "unknown"),
            last_error=str(said.get("lastError") or ""),
        )
