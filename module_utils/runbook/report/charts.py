"""The geometry of the report's charts. Templates draw it; no figure is chosen there.

All across is in per cent of the width and all text has its own size, so that a chart keeps its letters readable from a
phone to a sheet of paper.
"""

from __future__ import annotations

import math
from datetime import date
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.report import wording
from ansible.module_utils.runbook.rules.record import short_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Rows of a bar chart; what is smaller is summed up in one row "others".
TOP = 15
#: Characters that a label may have beside its value on a telephone.
_LABEL = 34


def ceiling(largest: float, *, binary: bool = False) -> float:
    """The next round number above ``largest``: the top of an axis.

    :param binary: it counts bytes, which are written in steps of 1024

    >>> ceiling(117_000), ceiling(0.7), ceiling(0), ceiling(51 * 1024**2, binary=True) / 1024**2
    (120000.0, 0.8, 1.0, 60.0)
    """
    if largest <= 0:
        return 1.0
    # Sizes are written in steps of 1024.
    unit = 1024.0 ** math.floor(math.log(largest, 1024)) if binary and largest >= 1024 else 1.0
    if unit > 1:
        return unit * ceiling(largest / unit)
    power = 10.0 ** math.floor(math.log10(largest))
    for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if largest <= step * power * 1.0000001:
            return float(round(step * power, 12))
    return float(10 * power)


def timeline(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One bar per step of a host, from its start to its end; what was skipped, or is mere ceremony, is left out."""
    shown = [step for step in steps if step["state"] != "skipped" and not is_overhead(step)]
    if not shown:
        return []
    first = min(step["start_s"] for step in shown)
    span = max(max(step["start_s"] + step["duration_s"] for step in shown) - first, 0.001)
    return [
        {
            "label": wording.shortened(step["task"], 90),
            "short": wording.shortened(step["task"], _LABEL),
            "title": step["task"],
            "value": wording.duration(step["duration_s"]),
            "x": round(100 * (step["start_s"] - first) / span, 2),
            "width": round(max(100 * step["duration_s"] / span, 0.4), 2),
            "tone": tone(step),
            "word": word(step),
        }
        for step in shown
    ]


def is_overhead(step: Mapping[str, Any]) -> bool:
    """A role's look at its own arguments, or a message that repeats a module's, unless it found something."""
    return short_name(step["module"]) in ("validate_argument_spec", "debug") and step["status"] == Status.OK


#: Statuses, and the states of one thing among many, that are not coloured as unknown.
_TONES: dict[str, str] = {
    Status.OK: "ok", "done": "ok", "equal": "ok", "planned": "handled", "gone": "handled", Status.BREACH: "failed",
    "corrupt": "failed", "differs": "failed", "failed": "failed", "not run": "failed", "critical": "failed",
    "info": "handled",
}  # fmt: skip


def tone_of(word: str) -> str:
    """How a status, or the state of one thing among many, is coloured."""
    return _TONES.get(word, "unknown")


def tone(step: Mapping[str, Any]) -> str:
    """``ok``, ``failed``, ``unknown`` or ``handled``: how a step is coloured."""
    return "handled" if step["handled"] else tone_of(step["status"])


def word(step: Mapping[str, Any]) -> str:
    """The state of a step in one word."""
    if step["handled"]:
        return "failed, handled by the playbook"
    if step["status"] == Status.BREACH and step["state"] not in ("failed", "unreachable"):
        return str(Status.BREACH)
    if step["status"] == Status.UNKNOWN:
        return "failed, unknown" if step["state"] == "failed" else str(Status.UNKNOWN)
    return str(step["state"])


def pairs(items: Sequence[tuple[str, float, float]], text: Callable[[float], str]) -> list[dict[str, Any]]:
    """Two bars per item, before and after, the largest first; the small ones summed up as "others"."""
    ordered = sorted((item for item in items if item[1] or item[2]), key=lambda item: (-max(item[1], item[2]), item[0]))
    shown = ordered if len(ordered) <= TOP + 1 else ordered[:TOP]
    rest = ordered[len(shown) :]
    largest = max((max(before, after) for _, before, after in shown), default=0) or 1

    def row(name: str, before: float, after: float, scale: float) -> dict[str, Any]:
        return {
            "label": wording.shortened(name, _LABEL - 8),
            "title": name,
            "before": round(scale * before, 2),
            "after": round(scale * after, 2),
            "before_text": text(before),
            "after_text": text(after),
        }

    rows = [row(*item, 100 / largest) for item in shown]
    if rest:  # a sum has no bar: it would dwarf the tables that it is compared with
        rows.append(
            row(f"{count(len(rest), 'other')}", sum(item[1] for item in rest), sum(item[2] for item in rest), 0)
        )
    return rows


def line(
    points: Sequence[tuple[float, float]], text: Callable[[float], str], *, binary: bool = False
) -> dict[str, Any]:
    """A line over time with the area below it, in a field of 1000 × 100, and the marks of its axis.

    :param binary: its values count bytes
    """
    first, last = points[0][0], points[-1][0]
    span = (last - first) or 1.0
    top = ceiling(max(value for _, value in points), binary=binary)
    drawn = [(round(1000 * (at - first) / span, 1), round(100 - 100 * value / top, 2)) for at, value in points]
    path = " ".join(f"{'L' if index else 'M'}{x:g} {y:g}" for index, (x, y) in enumerate(drawn))
    return {
        "path": path,
        "area": f"{path} L{drawn[-1][0]:g} 100 L{drawn[0][0]:g} 100 Z",
        "marks": [{"y": 0, "text": text(top)}, {"y": 50, "text": text(top / 2)}, {"y": 100, "text": text(0)}],
        "first": wording.duration(first),
        "last": wording.duration(last),
    }


def spread(
    rows: Sequence[tuple[str, float, float, float]], text: Callable[[float], str], *, most: float | None = None
) -> list[dict[str, Any]]:
    """One line for each thing that was measured several times: from the least to the most, with a mark that counts.

    :param rows: name, least, what counts, most
    :param most: the top of the scale; a round number above the largest where it is None
    """
    top = most or ceiling(max((high for *_, high in rows), default=0))
    return [
        {
            "label": wording.shortened(name, _LABEL),
            "title": name,
            "x": round(100 * low / top, 2),
            "width": round(max(100 * (high - low) / top, 0.4), 2),
            "at": round(100 * value / top, 2),
            "value": text(value),
            "span": f"{text(low)} to {text(high)}",
        }
        for name, low, value, high in rows
    ]


def fan(
    measured: Sequence[tuple[float, float]],
    ahead: Sequence[tuple[float, float, float]],
    text: Callable[[float], str],
    *,
    limit: float | None,
    binary: bool = False,
) -> dict[str, Any]:
    """What was measured and what is forecast, in a field of 1000 × 100, with the limit where it is not far above.

    :param measured: day (a proleptic ordinal) and value
    :param ahead: day, p50 and p90
    :param binary: values count bytes
    """
    largest = max(*(value for _, value in measured), *(p90 for *_, p90 in ahead), 0.0)
    is_shown = limit is not None and limit <= 2 * largest
    top = ceiling(max(largest, limit or 0.0) if is_shown else largest, binary=binary)
    first, last = measured[0][0], (ahead[-1][0] if ahead else measured[-1][0])
    span = (last - first) or 1.0

    def place(day: float, value: float) -> str:
        return f"{1000 * (day - first) / span:.1f} {100 - 100 * max(value, 0.0) / top:.2f}"

    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{'L' if index else 'M'}{place(*point)}" for index, point in enumerate(points))

    begin = measured[-1]
    middle = [begin, *((day, p50) for day, p50, _ in ahead)]
    above = [(day, p90) for day, _, p90 in ahead]
    return {
        "path": path(measured),
        "ahead": path(middle) if ahead else "",
        "fan": f"{path(middle)} {path([*reversed(above)]).replace('M', 'L', 1)} Z" if ahead else "",
        "limit": round(100 - 100 * (limit or 0.0) / top, 2) if is_shown else None,
        "limit_text": "" if limit is None else text(limit),
        "marks": [{"y": 0, "text": text(top)}, {"y": 50, "text": text(top / 2)}, {"y": 100, "text": text(0)}],
        "today": round(100 * (begin[0] - first) / span, 2) if ahead else None,
        "first": date.fromordinal(int(first)).isoformat(),
        "middle": date.fromordinal(int(begin[0])).isoformat(),
        "last": date.fromordinal(int(last)).isoformat(),
    }


def columns(items: Sequence[tuple[str, float, str]], *, first: str, last: str, top: str = "") -> dict[str, Any]:
    """A column for each day or month.

    :param items: what it says, its height as a share, and its tone
    :param first: what stands below the first one
    :param top: what the highest is worth, where heights differ
    """
    width = 100 / len(items)
    bars = [
        {
            "x": round(width * number + width * 0.1, 2),
            "width": round(width * 0.8, 2),
            # What is nothing is seen as nothing.
            "height": round(max(share, 0.0), 3),
            "tone": tone_,
            "title": title,
        }
        for number, (title, share, tone_) in enumerate(items)
    ]
    return {"bars": bars, "first": first, "last": last, "top": top}


def rates(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """How fast a count grew, each value over a sixtieth of the time, or between two samples where those are rarer."""
    if not points:
        return []
    window = (points[-1][0] - points[0][0]) / 60
    found: list[tuple[float, float]] = []
    at, done = points[0]
    for later, more in points[1:]:
        if later > at and later - at >= window:
            found.append((later, max(0.0, (more - done) / (later - at))))
            at, done = later, more
    return found


def trend(runs: Sequence[Mapping[str, Any]], key: str, text: Callable[[float], str]) -> dict[str, Any] | None:
    """One figure over the last runs; None where fewer than two runs know it."""
    known = [run for run in runs if run.get(key) is not None]
    if len(known) < 2:
        return None
    top = ceiling(max(run[key] for run in known), binary=key.endswith(("bytes", "bytes_s")))
    dots = [
        {
            "x": round(2 + 96 * index / (len(known) - 1), 2),
            "y": round(100 - 100 * run[key] / top, 2),
            "tone": tone_of(run["status"]),
            "title": f"{wording.moment(run['started_at'])}: {text(run[key])} ({run['status']})",
        }
        for index, run in enumerate(known)
    ]
    path = " ".join(f"{'L' if index else 'M'}{10 * dot['x']:g} {dot['y']:g}" for index, dot in enumerate(dots))
    return {
        "path": path,
        "dots": dots,
        "top": text(top),
        "latest": text(known[-1][key]),
        "first": wording.moment(known[0]["started_at"])[:10],
        "last": wording.moment(known[-1]["started_at"])[:10],
    }
