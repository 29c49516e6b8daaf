"""Service levels: how much of a time a service was available, how sure that is, and what is left of its error budget.

A month is cut into pieces of five minutes. Of each Prometheus says what was good, of how much, and how many samples it
has. So gaps are seen: the *coverage* is the samples that there are, of those that there would be if each piece had as
many as the best nine tenths of them. Below a floor the level is unknown, and no number is judged.

A level by a *probe* is a share of time; a level by *requests* a share of requests, and a piece without any says nothing
against it. Both are told with and without the planned maintenance; the one without is judged, as planned windows are
agreed on with those who use the service.

The error budget and the burn rates are those of the Site Reliability Workbook, chapters 2 and 5
(https://sre.google/workbook/alerting-on-slos/): a burn rate of 1 spends the whole budget in exactly the window; a
pair of windows, the shorter a twelfth of the longer, burns where both are above the rate that spends so many per cent
of the budget within the longer one.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.findings import Finding, Unknown, finding_id
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: A piece: a month has fewer than the 11,000 samples that Prometheus gives in one answer.
PIECE_S = 300
_RANGE = "5m"
DAY_S = 86_400
#: A window is at most so long, as a year of pieces is 105,000 samples of each query.
MOST_DAYS = 366
#: Of a budget that is nearly gone a person should know.
LOW_BUDGET = 0.25
#: What is good cannot be more than all; a little more comes of extrapolation.
_TOLERANCE = 1.01
#: Longer window and shorter one, the share of the budget that the longer one spends, and how bad that is.
BURNS: tuple[tuple[str, str, float, str], ...] = (
    ("1h", "5m", 0.02, "critical"),
    ("6h", "30m", 0.05, "critical"),
    ("3d", "6h", 0.10, "warning"),
)
_HOURS = {"1h": 1.0, "6h": 6.0, "3d": 72.0}
#: Begin and end, in seconds since 1970.
Span = tuple[float, float]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
#: A name with labels, or labels alone.
_SELECTOR = re.compile(r"\s*(?:[A-Za-z_:][A-Za-z0-9_:]*)?\s*(?:\{[^{}]*\})?\s*")


@dataclass(frozen=True)
class Objective:
    """What a service promises."""

    name: str
    #: Share of what has to be good, as a number below 1.
    share: float
    #: The last so many days; 0 is a calendar month.
    window_days: int
    #: A selector of series that are 1 while the service answers and 0 while not; or empty.
    probe: str = ""
    #: Selectors of counters, of what was good and of all.
    good: str = ""
    total: str = ""

    @property
    def unit(self) -> str:
        """What its budget is counted in: seconds, or requests."""
        return "s" if self.probe else "requests"

    def queries(self) -> dict[str, str]:
        """What is asked of each piece: ``good``, ``total`` and ``samples``, by a query each."""
        if self.probe:
            return {
                "good": f"sum(sum_over_time({self.probe}[{_RANGE}]))",
                "total": f"sum(count_over_time({self.probe}[{_RANGE}]))",
                "samples": f"max(count_over_time({self.probe}[{_RANGE}]))",
            }
        return {
            # increase() takes a counter that began again into account.
            "good": f"sum(increase({self.good}[{_RANGE}]))",
            "total": f"sum(increase({self.total}[{_RANGE}]))",
            "samples": f"max(count_over_time({self.total}[{_RANGE}]))",
        }

    def burn_query(self, window: str, part: str) -> str:
        """What was good, or all, in the last hour or whatever ``window`` is."""
        if self.probe:
            function = "sum_over_time" if part == "good" else "count_over_time"
            return f"sum({function}({self.probe}[{window}]))"
        return f"sum(increase({self.good if part == 'good' else self.total}[{window}]))"


@dataclass(frozen=True)
class Piece:
    """Five minutes of a service."""

    begin_s: float
    #: What was good, of how much; None: nobody knows.
    good: float | None
    total: float | None
    samples: float


@dataclass(frozen=True)
class Amount:
    """What was good, of how much."""

    good: float
    total: float

    @property
    def share(self) -> float | None:
        """None where there was nothing."""
        return self.good / self.total if self.total else None


@dataclass(frozen=True)
class Burn:
    """How fast the budget is being spent just now, over two windows."""

    long: str
    short: str
    #: Above this the pair burns.
    limit: float
    severity: str
    #: 1 spends the budget in exactly the window; None where that cannot be said.
    long_rate: float | None
    short_rate: float | None

    @property
    def burns(self) -> bool | None:
        """None where it cannot be said."""
        rates = (self.long_rate, self.short_rate)
        if any(rate is not None and rate <= self.limit for rate in rates):
            return False
        return None if None in rates else True


@dataclass(frozen=True)
class Level:
    """What became of one objective."""

    objective: Objective
    begin: datetime
    end: datetime
    #: Share of the samples that there are, 0 to 1.
    coverage: float
    #: When the first sample was; None where there is none.
    first_at: datetime | None
    #: All that is known, and without planned maintenance.
    all: Amount
    unplanned: Amount
    planned_s: float
    days: tuple[Mapping[str, Any], ...]
    burns: tuple[Burn, ...] = ()
    #: Why it is not judged; empty where it is.
    why_not: str = ""

    @property
    def allowed(self) -> float:
        """The error budget: seconds or requests that may be bad."""
        return (1 - self.objective.share) * self.unplanned.total

    @property
    def bad(self) -> float:
        """What of it is spent."""
        return self.unplanned.total - self.unplanned.good

    @property
    def budget_left(self) -> float | None:
        """Share of the budget that is left, below 0 where more was spent; None where there was nothing."""
        return 1 - self.bad / self.allowed if self.allowed else None

    @property
    def bad_days(self) -> list[str]:
        """Days below what is promised, the worst first."""
        below = [
            (share, str(each["day"]))
            for each in self.days
            if (share := each["availability_percent"]) is not None and share < 100 * self.objective.share
        ]
        return [day for _, day in sorted(below)]

    def result(self) -> dict[str, Any]:
        """As the module returns it."""
        known = not self.why_not
        return {
            "name": self.objective.name,
            "objective_percent": round(100 * self.objective.share, 6),
            "by": "probe" if self.objective.probe else "requests",
            "unit": self.objective.unit,
            "from": self.begin.isoformat(),
            "to": self.end.isoformat(),
            "availability_percent": percent(self.unplanned.share) if known else None,
            "with_planned_percent": percent(self.all.share) if known else None,
            "coverage_percent": percent(self.coverage),
            "first_sample_at": self.first_at.isoformat() if self.first_at else None,
            "planned_s": self.planned_s,
            "budget": round(self.allowed, 3) if known else None,
            "budget_spent": round(self.bad, 3) if known else None,
            "budget_left_percent": percent(self.budget_left) if known else None,
            "days": [dict(each) for each in self.days],
            "burns": [asdict(each) | {"burns": each.burns} for each in self.burns],
            "why_not": self.why_not,
        }


def percent(share: float | None) -> float | None:
    """A share as per cent, with as many places as four nines need.

    >>> percent(0.99987654), percent(None)
    (99.98765, None)
    """
    return None if share is None else round(100 * share, 5)


# --- what is asked for ------------------------------------------------------------------------------------------------


def objectives(said: Sequence[Mapping[str, Any]]) -> tuple[Objective, ...]:
    """The objectives of an inventory.

    :raises RunbookError: one is none, in one sentence with the fix
    """
    found = tuple(_objective(each) for each in said)
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise RunbookError(f"services: the name {name!r} is given twice; give each service its own.")
    return found


def _objective(said: Mapping[str, Any]) -> Objective:
    name = str(said.get("name") or "")
    where = f"services: {name}"
    if not _NAME.fullmatch(name):
        raise RunbookError(f"services: name: {name!r} is no name; give small letters, digits, - and _.")
    share = float(said["objective_percent"]) / 100
    if not 0 < share < 1:
        raise RunbookError(
            f"{where}: objective_percent: {said['objective_percent']} leaves no error budget, or asks for nothing; "
            "give a number between 0 and 100, such as 99.9."
        )
    days = int(said.get("window_days") or 0)
    if not 0 <= days <= MOST_DAYS:
        raise RunbookError(f"{where}: window_days: {days} is not within 1 to {MOST_DAYS}; leave it out for a month.")
    probe, good, total = (str(said.get(key) or "").strip() for key in ("probe", "good", "total"))
    if bool(probe) == bool(good or total) or bool(good) != bool(total):
        raise RunbookError(f"{where}: give either probe, or both good and total; they say what is measured.")
    for key, selector in (("probe", probe), ("good", good), ("total", total)):
        if selector and not _SELECTOR.fullmatch(_without_texts(selector)):
            raise RunbookError(
                f"{where}: {key}: {selector!r} is no selector; give a metric with its labels and no function, such as "
                'probe_success{job="site"}.'
            )
    return Objective(name, share, days, probe, good, total)


def _without_texts(selector: str) -> str:
    """A selector without what stands in quotes, where anything may stand."""
    return re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', '""', selector)


def window(objective: Objective, month: str | None, now: datetime) -> tuple[datetime, datetime]:
    """The time that an objective is judged over, in whole days of UTC: the month, or the days before today.

    :param month: such as ``2026-10``; None is the last whole month
    :raises RunbookError: it is no month, or not over yet
    """
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if objective.window_days:
        return today - timedelta(days=objective.window_days), today
    return month_of(month, now)


def month_of(said: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Begin and end of a month in UTC, as :func:`window` takes it.

    :raises RunbookError: it is no month, or not over yet
    """
    if said is None:
        end = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return (end - timedelta(days=1)).replace(day=1), end
    try:
        begin = datetime.strptime(said, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise RunbookError(f"month: {said!r} is no month; give one such as 2026-10, or none for the last.") from None
    end = (begin + timedelta(days=32)).replace(day=1)
    if end > now:
        raise RunbookError(f"month: {said} is not over yet; give an earlier one, or none for the last.")
    return begin, end


# --- what is made of the answers --------------------------------------------------------------------------------------


def pieces(
    begin: datetime, end: datetime, answers: Mapping[str, Mapping[float, float]], *, by_time: bool
) -> list[Piece]:
    """The pieces of a time.

    :param answers: of ``good``, ``total`` and ``samples``, by the end of each piece
    :param by_time: a piece counts as long as it is, as a probe's does, and not by how often it was asked
    """
    made = []
    at = begin.timestamp()
    while at < end.timestamp():
        good, total, samples = (_finite(answers[key].get(at + PIECE_S)) for key in ("good", "total", "samples"))
        if total is None or not samples:
            good = total = None
        elif good is None and total > 0:
            # No series of good ones may be none, or a metric that was renamed.
            total = None
        elif by_time:
            good, total = PIECE_S * ((good or 0) / total) if total else None, float(PIECE_S) if total else None
        else:
            good = good or 0.0
        made.append(Piece(at, good, total, samples or 0.0))
        at += PIECE_S
    return made


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def expected_samples(found: Sequence[Piece]) -> float:
    """How many samples a piece has where none is missing: what nine tenths of those with any do not exceed."""
    known = sorted(each.samples for each in found if each.samples)
    return known[min(len(known) - 1, math.ceil(0.9 * len(known)) - 1)] if known else 0.0


def coverage(found: Sequence[Piece], expected: float) -> float:
    """Share of the samples that there are; a piece of which nothing can be said has none."""
    if not expected or not found:
        return 0.0
    return sum(min(each.samples, expected) for each in found if each.total is not None) / (expected * len(found))


def amount(found: Sequence[Piece]) -> Amount:
    """All of these pieces together; what is not known is left out."""
    known = [each for each in found if each.good is not None and each.total is not None]
    return Amount(
        sum(min(each.good or 0.0, each.total or 0.0) for each in known), sum(each.total or 0.0 for each in known)
    )


def amount_of(good: float | None, total: float | None) -> Amount | None:
    """What two queries gave; None where that is nothing, or no number.

    >>> amount_of(None, 0.0), amount_of(None, 3.0), amount_of(4.0, 3.0)
    (Amount(good=0.0, total=0.0), None, Amount(good=3.0, total=3.0))
    """
    known_good, known_total = _finite(good), _finite(total)
    if known_total is None or (known_good is None and known_total > 0):
        return None
    return Amount(min(known_good or 0.0, known_total), known_total)


def planned(windows: Sequence[Span], runs: Sequence[Span]) -> list[Span]:
    """When planned maintenance was going on: the runs that changed something, as far as they lay in a window.

    A window in which nothing was done is no maintenance, and a run outside of all was not planned.
    """
    return [
        (max(run[0], each[0]), min(run[1], each[1]))
        for run in runs
        for each in windows
        if max(run[0], each[0]) < min(run[1], each[1])
    ]


def run_spans(records: Iterable[Mapping[str, Any]], playbooks: frozenset[str], environment: str) -> list[Span]:
    """When runs of playbooks changed something; each run once."""
    return sorted({span for record in records if (span := run_span(record, playbooks, environment)) is not None})


def run_span(record: Mapping[str, Any], playbooks: frozenset[str], environment: str) -> Span | None:
    """When a run was, by its record; None where it is of another playbook, or changed nothing.

    :param playbooks: file names of those that need a maintenance window
    :param environment: of the service; runs of others lie beside them, and are no maintenance of it
    """
    try:
        hosts = [each for each in record["hosts"].values() if each.get("environment") in (None, environment)]
        changed = any(step["state"] == "changed" for host in hosts for step in host["steps"])
        if record["check_mode"] or not changed or f"{record['playbook']}.yml" not in playbooks:
            return None
        begin_s = datetime.fromisoformat(record["started_at"]).timestamp()
        return begin_s, begin_s + float(record["duration_s"])
    except (AttributeError, KeyError, TypeError, ValueError):
        # Another form, or torn.
        return None


def level(
    objective: Objective,
    begin: datetime,
    end: datetime,
    answers: Mapping[str, Mapping[float, float]],
    *,
    spans: Sequence[Span],
    burns: Sequence[Burn] = (),
    least_coverage: float,
) -> Level:
    """What became of an objective in a time.

    :param spans: planned maintenance
    :param least_coverage: a share; below it nothing is judged
    """
    found = pieces(begin, end, answers, by_time=bool(objective.probe))
    expected = expected_samples(found)
    # A piece belongs to where its middle lies.
    unplanned = [each for each in found if not any(span[0] <= each.begin_s + PIECE_S / 2 < span[1] for span in spans)]
    seen = [each.begin_s for each in found if each.samples]
    covered = coverage(found, expected)
    first = datetime.fromtimestamp(seen[0], UTC) if seen else None
    everything = amount(found)
    return Level(
        objective, begin, end, covered, first, everything, amount(unplanned),
        float(PIECE_S * (len(found) - len(unplanned))), tuple(_days(found, expected)), tuple(burns),
        _why_not(objective, begin, found, covered, first, least_coverage),
    )  # fmt: skip


def _why_not(
    objective: Objective, begin: datetime, found: Sequence[Piece], covered: float, first: datetime | None, least: float
) -> str:
    name = objective.name
    if first is None:
        asked = objective.probe or objective.total
        return (
            f"{name}: Prometheus has no sample of {asked} in this time; see whether it is newer, has another name now, "
            "or is not kept so long."
        )
    good = sum(each.good or 0 for each in found)
    total = sum(each.total or 0 for each in found)
    if good > _TOLERANCE * total:
        return f"{name}: more was good than there was in all; see that good selects a part of total."
    if covered >= least:
        return "" if total else f"{name}: there was not one request in this time."
    gap = (first - begin).total_seconds()
    why = f"; the first is of {first:%Y-%m-%d %H:%M} UTC, before which Prometheus kept none" if gap >= DAY_S else ""
    lacking = sum(each.samples > 0 and each.total is None for each in found)
    why += f"; in {count(lacking, 'piece')} of five minutes good gave nothing where total did" if lacking else ""
    return (
        f"{name}: {100 * covered:.1f} % of the samples of this time are there, and {100 * least:g} % are needed{why}."
    )


def _days(found: Sequence[Piece], expected: float) -> Iterator[dict[str, Any]]:
    for at in range(0, len(found), DAY_S // PIECE_S):
        of_day = found[at : at + DAY_S // PIECE_S]
        of_all = amount(of_day)
        yield {
            "day": datetime.fromtimestamp(of_day[0].begin_s, UTC).date().isoformat(),
            "availability_percent": percent(of_all.share),
            "coverage_percent": percent(coverage(of_day, expected)),
            "bad": round(of_all.total - of_all.good, 3),
        }


def burn(
    objective: Objective, days: float, which: tuple[str, str, float, str], amounts: Mapping[str, Amount | None]
) -> Burn:
    """How fast the budget is being spent over a pair of windows.

    :param days: how long the objective's own window is
    :param amounts: by window; None where it is not known

    >>> objective = Objective("site", 0.999, 30, probe="up")
    >>> burn(objective, 30, BURNS[0], {"1h": Amount(98, 100), "5m": Amount(9, 10)}).burns
    True
    """
    long, short, spent, severity = which

    def rate(name: str) -> float | None:
        of_window = amounts.get(name)
        share = of_window.share if of_window else None
        return None if share is None else round((1 - share) / (1 - objective.share), 3)

    return Burn(long, short, round(spent * 24 * days / _HOURS[long], 3), severity, rate(long), rate(short))


# --- what is said of it -----------------------------------------------------------------------------------------------


def judge(levels: Sequence[Level]) -> tuple[list[Finding], list[Unknown]]:
    """What is not as it was promised, and what cannot be judged."""
    findings: list[Finding] = []
    unknown: list[Unknown] = []
    for each in levels:
        if each.why_not and not _is_certain(each):
            unknown.append(Unknown(each.objective.name, each.why_not))
        else:
            findings += _of_level(each)
        findings += [_burning(each, pair) for pair in each.burns if pair.burns]
        silent = [pair for pair in each.burns if pair.burns is None]
        if silent:
            said = ", ".join(f"{pair.long}/{pair.short}" for pair in silent)
            unknown.append(
                Unknown(
                    f"{each.objective.name}_burn",
                    f"{each.objective.name}: how fast the budget burns just now cannot be said over {said}: there are "
                    "no samples, or no requests.",
                    fixable=False,
                )
            )
    return findings, unknown


def _is_certain(each: Level) -> bool:
    """Whether a level by time is missed even if all that nobody saw was good."""
    span_s = (each.end - each.begin).total_seconds() - each.planned_s
    return bool(each.objective.probe) and each.first_at is not None and each.bad > (1 - each.objective.share) * span_s


def _of_level(each: Level) -> Iterator[Finding]:
    share, whole, name = each.unplanned.share, each.all.share, each.objective.name
    left = each.budget_left
    evidence = each.result()
    evidence = {key: evidence[key] for key in ("objective_percent", "coverage_percent", "from", "to")} | {
        "availability_percent": percent(share),
        "with_planned_percent": percent(whole),
        "budget_left_percent": percent(left),
    }
    verb, of = ("was available", "the time") if each.objective.probe else ("answered", "its requests well")
    said = f"{name} {verb} {spelt(share)} of {of}, and {spelt(each.objective.share)} are promised"
    spent = f"{amount_text(each.bad, each.objective.unit)} of {amount_text(each.allowed, each.objective.unit)}"
    if share is not None and share < each.objective.share:
        only = " That is so even if all was well where samples are missing." if each.why_not else ""
        yield _finding(
            "sla_missed", "critical", name, evidence, f"{said}; of the error budget {spent} are spent.{only}",
            f"Look up the incidents of {some(each.bad_days)}.",
        )  # fmt: skip
        return
    if left is not None and left < LOW_BUDGET:
        yield _finding(
            "sla_budget_low", "warning", name, evidence, f"{said}; {spent} of the error budget are spent.",
            "Put work on reliability before risky changes.",
        )  # fmt: skip
    if whole is not None and whole < each.objective.share:
        yield _finding(
            "sla_met_without_planned", "info", name, evidence,
            f"{said}; with planned maintenance it was {spelt(whole)}.",
            "See what of the maintenance can be done while people work.",
        )  # fmt: skip


def _burning(each: Level, pair: Burn) -> Finding:
    name = each.objective.name
    severity = "critical" if pair.severity == "critical" else "warning"
    return _finding(
        "sla_burning", severity, f"{name}.{pair.long}", asdict(pair),
        f"{name}: its error budget is spent {pair.long_rate:.3g} times as fast as it may be over {pair.long}, and "
        f"{pair.short_rate:.3g} times over {pair.short}; the limit is {pair.limit:.3g}.",
        "Something is wrong just now: look at the service.",
    )  # fmt: skip


def _finding(kind: str, severity: Any, name: str, evidence: Mapping[str, Any], msg: str, risk: str) -> Finding:
    return Finding(finding_id(kind, *name.split(".")), kind, severity, name, evidence, msg, risk=risk)


def spelt(share: float | None) -> str:
    """A share in per cent, never rounded up to what it is not.

    >>> spelt(0.99899999), spelt(0.999), spelt(None)
    ('99.899 %', '99.9 %', 'nothing')
    """
    return "nothing" if share is None else f"{math.floor(share * 100_000 + 1e-6) / 1_000:g} %"


def amount_text(value: float, unit: str) -> str:
    """Seconds or requests of a budget.

    >>> amount_text(2592, "s"), amount_text(12.4, "requests"), amount_text(20, "s")
    ('43.2 min', '12 requests', '20 s')
    """
    if unit != "s":
        return count(round(value), "request")
    return f"{value:.0f} s" if value < 60 else f"{value / 60:.3g} min" if value < 7200 else f"{value / 3600:.3g} h"
