"""What incidents of a month say beside those of the months before: how many, how long, which came back, what is left.

Times to acknowledge and to resolve are told by their median and their ninth decile, for they have long tails, and one
long night makes a mean say nothing; and only of enough incidents to mean something. More of them than before is told
where their number is beyond what chance makes of the same rate: two standard deviations of a Poisson distribution.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.rules.findings import Finding, finding_id
from ansible.module_utils.runbook.rules.observe.delivery import ALERT
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.change.review import Review

#: Fewer have no median, or no ninth decile, that says anything.
LEAST_MEDIAN, LEAST_P90 = 5, 10
#: An incident that came back so often in a month has a cause that nobody ended.
REPEATS = 3
#: Months before that are compared with.
MONTHS_BEFORE = 6
#: A median so many times that of before is longer.
_LONGER = 1.5
_NUMBERS = re.compile(r"\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b", re.IGNORECASE)


@dataclass(frozen=True)
class Incident:
    """One incident."""

    #: ``pagerduty``, or ``emergency``: one of this project's own.
    source: str
    id: str
    title: str
    service: str
    begin: datetime
    #: Seconds until somebody took it, and until it was over; None: never, or nobody knows.
    acknowledge_s: float | None = None
    resolve_s: float | None = None
    is_open: bool = False


def of_review(review: Review) -> Incident:
    """The incident that a review of this project is about; it was over with the last thing that was done."""
    done = [datetime.fromisoformat(each["at"]).astimezone(UTC) for each in review.timeline if each.get("at")]
    after_s = [(at - review.opened_at).total_seconds() for at in done if at >= review.opened_at]
    return Incident(
        "emergency", review.id, review.reason, review.kind, review.opened_at, resolve_s=max(after_s, default=None)
    )


def months(month: tuple[datetime, datetime]) -> list[tuple[datetime, datetime]]:
    """The month, and before it those that it is compared with; the oldest first."""
    found = [month]
    for _ in range(MONTHS_BEFORE):
        end = found[0][0]
        found.insert(0, ((end - timedelta(days=1)).replace(day=1), end))
    return found


@dataclass(frozen=True)
class Period:
    """The incidents of one source in one month."""

    begin: datetime
    end: datetime
    incidents: tuple[Incident, ...]

    def times(self, key: str) -> list[float]:
        """Seconds that are known."""
        return sorted(value for each in self.incidents if (value := getattr(each, key)) is not None)

    def result(self) -> dict[str, Any]:
        """As the module returns it."""
        return {
            "month": f"{self.begin:%Y-%m}",
            "incidents": len(self.incidents),
            "open": sum(each.is_open for each in self.incidents),
            "acknowledged": len(self.times("acknowledge_s")),
            "mtta_median_s": median(self.times("acknowledge_s")),
            "mtta_p90_s": p90(self.times("acknowledge_s")),
            "resolved": len(self.times("resolve_s")),
            "mttr_median_s": median(self.times("resolve_s")),
            "mttr_p90_s": p90(self.times("resolve_s")),
        }


def periods(found: Sequence[Incident], spans: Sequence[tuple[datetime, datetime]]) -> list[Period]:
    """Incidents by the month in which they began, without those that only tried whether alerts arrive."""
    found = [each for each in found if ALERT not in each.title]
    return [Period(begin, end, tuple(each for each in found if begin <= each.begin < end)) for begin, end in spans]


def median(values: Sequence[float]) -> float | None:
    """None of too few.

    >>> median([1, 2, 3, 4, 50]), median([1, 2, 3, 4])
    (3.0, None)
    """
    return float(statistics.median(values)) if len(values) >= LEAST_MEDIAN else None


def p90(values: Sequence[float]) -> float | None:
    """What nine tenths do not exceed, by nearest rank; None of too few.

    >>> p90([float(each) for each in range(1, 11)]), p90([1.0] * 9)
    (9.0, None)
    """
    return sorted(values)[math.ceil(0.9 * len(values)) - 1] if len(values) >= LEAST_P90 else None


def alike(title: str) -> str:
    """A title without the numbers that tell one time from another.

    >>> alike("Disk of db-3 is 91% full") == alike("disk of db-4 is  97% full")
    True
    """
    return " ".join(_NUMBERS.sub("#", title).lower().split())


# --- what is said of it -----------------------------------------------------------------------------------------------


def judge(source: str, known: Sequence[Period]) -> Iterator[Finding]:
    """What a person should look at.

    :param known: the oldest first; the last one is the month that is judged
    """
    *before, now = known
    yield from _repeats(source, now)
    earlier = [len(each.incidents) for each in before]
    usual = statistics.mean(earlier) if earlier else 0.0
    # Of months without any, one or two are no trend.
    if len(now.incidents) >= LEAST_MEDIAN and len(now.incidents) > usual + 2 * math.sqrt(max(usual, 1.0)):
        yield _finding(
            "incidents_more", "warning", source, {"incidents": len(now.incidents), "usual": round(usual, 1)},
            f"{count(len(now.incidents), 'incident')} in {now.begin:%Y-%m}, and {usual:.1f} a month before.",
            "See which of them belong together.",
        )  # fmt: skip
    for key, name in (("acknowledge_s", "acknowledged"), ("resolve_s", "resolved")):
        of_now = median(now.times(key))
        of_before = median([value for each in before for value in each.times(key)])
        if of_now is not None and of_before and of_now > _LONGER * of_before:
            yield _finding(
                "incidents_longer", "warning", f"{source}.{name}", {"median_s": of_now, "before_s": of_before},
                f"Half of the incidents in {now.begin:%Y-%m} were not {name} within {_spelt(of_now)}; before it was "
                f"{_spelt(of_before)}.",
                "See what held people up.",
            )  # fmt: skip


def _repeats(source: str, now: Period) -> Iterator[Finding]:
    groups = Counter((each.service, alike(each.title)) for each in now.incidents)
    for (service, title), times in groups.most_common():
        if times < REPEATS:
            return
        shown = next(each for each in now.incidents if (each.service, alike(each.title)) == (service, title))
        yield _finding(
            "incident_repeats", "warning", f"{source}.{service}.{title}", {"times": times, "service": service},
            f"{shown.title} ({service}) came {count(times, 'time')} in {now.begin:%Y-%m}.",
            "Find its cause, or its alert's threshold.",
        )  # fmt: skip


def actions(reviews: Sequence[Review], today: date) -> tuple[list[dict[str, Any]], list[Finding]]:
    """What reviews left to do, and what of it is over its date, which somebody has to say that it is done.

    :param today: by the store's clock
    """
    listed: list[dict[str, Any]] = []
    late: list[Finding] = []
    for review in sorted(reviews, key=lambda each: each.opened_at):
        if review.closing is None:
            continue
        for number, each in enumerate(review.closing.actions, 1):
            is_due = date.fromisoformat(each.due_date) < today
            listed.append(
                {
                    "review": review.id, "text": each.text, "owner": each.owner, "due_date": each.due_date,
                    "state": "over its date" if is_due else "ahead",
                }
            )  # fmt: skip
            if is_due:
                late.append(
                    _finding(
                        "action_due", "info", f"{review.id}.{number}", {"due_date": each.due_date, "owner": each.owner},
                        f"{each.text} ({each.owner}) was to be done by {each.due_date}, by the review {review.id}.",
                        "Ask whether it is done; nobody writes that down here.",
                    )
                )  # fmt: skip
    return listed, late


def _spelt(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _finding(kind: str, severity: Any, name: str, evidence: Mapping[str, Any], msg: str, risk: str) -> Finding:
    return Finding(finding_id(kind, *name.split(".", 2)), kind, severity, name, evidence, msg, risk=risk)
