"""When alerts fired: what the metric ALERTS says, and what follows from it.

A firing is the time in which one set of labels of an alert was firing. Where Prometheus itself was not there, nobody
knows; a firing that ends where such a gap begins, and begins again where it ends, is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.observe.series import Key, Series

#: How long Prometheus shows the last sample of a series that ended without a word.
LOOKBACK_S = 300.0
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FIRING = 'ALERTS{alertstate="firing"}'


def query(replica_labels: Sequence[str], *, before_s: float = 0) -> str:
    """What fires, or did so long before; once, however many replicas of Prometheus evaluate its rule.

    :param replica_labels: by which replicas are told apart
    :raises RunbookError: one is no name of a label
    """
    wrong = [each for each in replica_labels if not _LABEL.fullmatch(each)]
    if wrong:
        raise RunbookError(f"replica_labels: {wrong[0]!r} is no name of a label; give one such as replica.")
    told = f"{FIRING} offset {before_s:g}s" if before_s else FIRING
    return f"max without ({', '.join(replica_labels)}) ({told})" if replica_labels else told


def begun_query(step_s: float, replica_labels: Sequence[str] = ()) -> str:
    """What fires and did not one step before: a sample at each begin."""
    return f"{query(replica_labels)} unless {query(replica_labels, before_s=step_s)}"


def ended_query(step_s: float, replica_labels: Sequence[str] = ()) -> str:
    """What does not fire and did one step before: a sample at each end."""
    return f"{query(replica_labels, before_s=step_s)} unless {query(replica_labels)}"


#: A sample at each moment at which no target was watched.
BLIND = "absent(up)"


@dataclass(frozen=True)
class Span:
    """A time, in seconds since 1970."""

    begin_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """In seconds."""
        return self.end_s - self.begin_s


@dataclass(frozen=True)
class Firing:
    """One firing of one set of labels."""

    alert: str
    labels: Key
    #: As far as it was seen: within the time that was asked for.
    begin_s: float
    end_s: float
    #: It fired before, or fires still.
    began_before: bool = False
    goes_on: bool = False

    @property
    def length_s(self) -> float:
        """In seconds, as far as it was seen."""
        return self.end_s - self.begin_s


def gaps(blind: Sequence[Series], *, step_s: float) -> list[Span]:
    """Times in which no target was watched.

    :param blind: what :data:`BLIND` gave
    """
    moments = sorted(at for each in blind for at, _ in each.points)
    found: list[Span] = []
    for at in moments:
        if found and at - found[-1].end_s <= step_s * 1.5:
            found[-1] = Span(found[-1].begin_s, at)
        else:
            found.append(Span(at, at))
    return [Span(each.begin_s, each.end_s + step_s) for each in found]


def coverage(blind: Iterable[Span], *, begin_s: float, end_s: float) -> float:
    """The share of a time in which Prometheus watched, from 0 to 1.

    >>> coverage([Span(0, 25)], begin_s=0, end_s=100)
    0.75
    """
    missed = sum(max(0.0, min(each.end_s, end_s) - max(each.begin_s, begin_s)) for each in blind)
    return max(0.0, 1 - missed / (end_s - begin_s)) if end_s > begin_s else 0.0


def firings(
    before: Sequence[Series], begun: Sequence[Series], ended: Sequence[Series], blind: Sequence[Span],
    *, begin_s: float, end_s: float, step_s: float,
) -> list[Firing]:  # fmt: skip
    """All firings of a time, in their order.

    :param before: what :func:`query` gave at its begin
    :param begun: what :func:`begun_query` gave over it
    :param ended: what :func:`ended_query` gave over it
    :param blind: when Prometheus was not there
    """
    events: dict[Key, list[tuple[float, bool]]] = {_key(each): [] for each in before}
    open_before = set(events)
    for is_begin, some in ((True, begun), (False, ended)):
        for each in some:
            # What began before is not told again at the first moment.
            moments = (at for at, _ in each.points if at > begin_s)
            events.setdefault(_key(each), []).extend((at, is_begin) for at in moments)
    found = [
        firing
        for key, moments in events.items()
        for firing in _joined(
            _of_one(key, sorted(moments), open_before=key in open_before, begin_s=begin_s, end_s=end_s), blind, step_s
        )
    ]
    return sorted(found, key=lambda each: (each.begin_s, each.alert, each.labels))


def _key(series: Series) -> Key:
    return tuple((name, value) for name, value in series.key if name not in ("__name__", "alertstate"))


def _of_one(
    key: Key, moments: Sequence[tuple[float, bool]], *, open_before: bool, begin_s: float, end_s: float
) -> list[Firing]:
    alert = dict(key).get("alertname", "")
    found: list[Firing] = []
    since = begin_s if open_before else None
    for at, is_begin in moments:
        if is_begin and since is None:
            since = at
        elif not is_begin and since is not None:
            found.append(Firing(alert, key, since, at, began_before=open_before and not found))
            since = None
    if since is not None:
        found.append(Firing(alert, key, since, end_s, began_before=open_before and not found, goes_on=True))
    return found


def _joined(found: Sequence[Firing], blind: Sequence[Span], step_s: float) -> list[Firing]:
    """With one firing in the place of two between which Prometheus was not there."""
    joined: list[Firing] = []
    for each in found:
        last = joined[-1] if joined else None
        if last and any(_fills(last.end_s, each.begin_s, gap, step_s) for gap in blind):
            joined[-1] = replace(each, begin_s=last.begin_s, began_before=last.began_before)
        else:
            joined.append(each)
    return joined


def _fills(end_s: float, begin_s: float, gap: Span, step_s: float) -> bool:
    """Whether a gap is all that lies between an end and a begin.

    An alert shows again one evaluation after its targets do, and once more after the time of its ``for``, unless
    Prometheus remembered its state; so its begin may come later than the gap's end.
    """
    return abs(end_s - gap.begin_s) <= LOOKBACK_S + 2 * step_s and 0 <= begin_s - gap.end_s + step_s <= LOOKBACK_S


@dataclass(frozen=True)
class Flapping:
    """An alert that begins and ends again and again."""

    labels: Key
    begin_s: float
    end_s: float
    times: int


def flapping(found: Iterable[Firing], *, most: int, window_s: float) -> list[Flapping]:
    """When alerts flapped: it begins with so many firings of one set of labels within a window.

    It ends when fewer than half of that are in the window. With one bound for both it would itself flap, as Nagios has
    it: https://assets.nagios.com/downloads/nagioscore/docs/nagioscore/4/en/flapping.html

    :param most: as many firings in a window are flapping
    """
    begins: dict[Key, list[float]] = {}
    for each in found:
        begins.setdefault(each.labels, []).append(each.begin_s)
    flaps: list[Flapping] = []
    for key, moments in begins.items():
        recent: list[float] = []
        since: list[float] | None = None
        for at in sorted(moments):
            recent = [each for each in recent if each > at - window_s] + [at]
            if since is not None and len(recent) * 2 < most:
                flaps.append(Flapping(key, since[0], since[-1], len(since)))
                since = None
            if since is not None:
                since.append(at)
            elif len(recent) >= most:
                since = list(recent)
        if since is not None:
            flaps.append(Flapping(key, since[0], since[-1], len(since)))
    return flaps
