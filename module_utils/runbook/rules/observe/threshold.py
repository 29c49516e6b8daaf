"""A threshold that would have spared people alerts, tried on what was measured, and offered as a file with tests.

No grammar of PromQL is needed for that, and none is here. The outermost comparison of an expression with a number is
found by its text; where that is not beyond doubt it is refused with the reason. A firing counts as an incident unless
it is known that nobody acted on it, so what nobody knows is never given up.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.observe.firings import Span
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible.module_utils.runbook.rules.observe.acts import Act
    from ansible.module_utils.runbook.rules.observe.firings import Firing
    from ansible.module_utils.runbook.rules.observe.series import Key, Rule, Series

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_SELECTOR = re.compile(r"[A-Za-z_:][\w:]*(\{[^{}]*\})?")
#: A part of an expression that may be skipped as a whole: a string, a comment, a word.
_TOKEN = re.compile(
    r"""(?P<skip>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|\#[^\n]*)
    |(?P<open>[({\[])|(?P<close>[)}\]])|(?P<compare>==|!=|>=|<=|>|<)|(?P<word>[A-Za-z_:][\w:]*)|(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_SETS = ("and", "or", "unless")
#: Values of a series that go into a test.
_MOST_VALUES = 300


@dataclass(frozen=True)
class Simple:
    """``left operator number``, where nothing stands around it."""

    left: str
    operator: str
    number: float

    @property
    def is_above(self) -> bool:
        """Whether large values fire."""
        return self.operator in (">", ">=")

    def holds(self, value: float, number: float) -> bool:
        """Whether a value fulfils the condition with another number; NaN never does."""
        return {
            ">": value > number, ">=": value >= number, "<": value < number, "<=": value <= number,
        }[self.operator]  # fmt: skip


def split(query: str) -> Simple:
    """The outermost comparison of an expression.

    :raises RunbookError: there is none with a number that could be moved, or more stands around it

    >>> split('sum(rate(a{b=">"}[5m])) / 2 > 0.5')
    Simple(left='sum(rate(a{b=">"}[5m])) / 2', operator='>', number=0.5)
    """
    depth = 0
    found: list[tuple[str, int, int]] = []
    for token in _TOKEN.finditer(query):
        kind = token.lastgroup
        depth += {"open": 1, "close": -1}.get(kind or "", 0)
        if depth:
            continue
        if kind == "word" and token.group().lower() in _SETS:
            raise RunbookError(f"it has {token.group()!r} between two conditions")
        if kind == "skip" and token.group().startswith("#"):
            raise RunbookError("it has a comment")
        if kind == "compare":
            found.append((token.group(), token.start(), token.end()))
    if len(found) != 1:
        raise RunbookError("it compares nothing" if not found else "it compares more than once")
    operator, begin, end = found[0]
    left, right = query[:begin].strip(), query[end:].strip()
    if operator in ("==", "!="):
        raise RunbookError(f"its comparison is {operator}, which has no threshold")
    if not left or not _NUMBER.fullmatch(right):
        raise RunbookError("it does not compare with a plain number on its right")
    return Simple(left, operator, float(right))


def replay(
    series: Sequence[tuple[float, float]], simple: Simple, number: float, *, for_s: float, keep_s: float, step_s: float
) -> list[Span]:
    """When an alert on one series would have fired.

    A step without a value ends it, as in Prometheus.

    :param series: the values of the left side at equal steps
    :param for_s: how long the condition has to hold
    :param keep_s: how long it goes on firing after the condition
    """
    spans: list[Span] = []
    since: float | None = None
    last = held = -math.inf
    for at, value in [*series, (math.inf, math.nan)]:
        holds = simple.holds(value, number)
        broken = at - last > step_s * 1.5
        if since is not None and (broken or (not holds and at - held > keep_s)):
            end = min(held + step_s, last + step_s) if broken else at
            if held - since >= for_s:
                spans.append(Span(since + for_s, max(end, since + for_s)))
            since = None
        if holds:
            since = at if since is None else since
            held = at
        elif since is not None and held - since < for_s:
            # Pending is over at once.
            since = None
        last = at
    return spans


def strength(series: Sequence[tuple[float, float]], span: Span, simple: Simple, *, for_s: float) -> float:
    """The farthest number with which a firing would still fire, at some time in its span.

    :param span: when it fired; its condition held from ``for_s`` before on
    """
    first, last = bisect_left(series, (span.begin_s - for_s,)), bisect_right(series, (span.end_s, math.inf))
    values = [(at, value) for at, value in series[first:last] if not math.isnan(value)]
    sign = 1 if simple.is_above else -1
    best = -math.inf
    begin = 0
    for end in range(len(values)):
        while values[end][0] - values[begin][0] > for_s and values[end][0] - values[begin + 1][0] >= for_s:
            begin += 1
        if values[end][0] - values[begin][0] >= for_s:
            best = max(best, min(sign * value for _, value in values[begin : end + 1]))
    return sign * best


@dataclass(frozen=True)
class Past:
    """What a rule did, and what its left side was."""

    series: Sequence[Series]
    #: Of this rule alone.
    firings: Sequence[Firing]
    acts: Sequence[Act]
    begin_s: float
    end_s: float
    step_s: float


@dataclass(frozen=True)
class Proposal:
    """A threshold that would have removed alerts that nobody acted on, and missed no incident."""

    rule: Rule
    simple: Simple
    number: float
    before: int
    after: int
    removed: int
    incidents: int
    #: By how much later the incidents would have been told, at most.
    delay_s: float
    #: The values of a firing that goes, and of one that has to stay.
    gone: tuple[Key, tuple[tuple[float, float], ...], Span]
    kept: tuple[Key, tuple[tuple[float, float], ...], Span]

    @property
    def query(self) -> str:
        """With the new number."""
        return f"{self.simple.left} {self.simple.operator} {self.number:g}"


@dataclass(frozen=True)
class _Fired:
    """A firing of the replay, and what is known of it."""

    series: Series
    span: Span
    act: Act
    strength: float


def propose(rule: Rule, past: Past, *, min_samples: int) -> Proposal:
    """The nearest threshold that removes as many firings as can be removed without missing an incident.

    :raises RunbookError: there is none, or it cannot be known; the reason without a full stop
    """
    simple = split(rule.query)
    if "not_acted" not in past.acts:
        raise RunbookError("no firing is known on which nobody acted")
    known = sum(act != "unknown" for act in past.acts)
    if known < min_samples:
        raise RunbookError(f"of {known} firings it is known whether somebody acted, and {min_samples} are needed")
    if "acted" not in past.acts:
        raise RunbookError("nobody acted on any of its firings, so no threshold is proven; is it needed at all?")
    fired = _matched(rule, simple, past)
    sign = 1 if simple.is_above else -1
    keep = min(sign * each.strength for each in fired if each.act != "not_acted")
    gone = [each for each in fired if each.act == "not_acted" and sign * each.strength < keep]
    if not gone:
        raise RunbookError("no threshold lies between the firings that were acted on and the others")
    most = max(gone, key=lambda each: sign * each.strength)
    number = sign * between(sign * most.strength, keep)
    if number == simple.number:
        raise RunbookError("the threshold between them is today's")
    kept = [each for each in fired if each.act != "not_acted"]
    after, delay_s = 0, 0.0
    for series in past.series:
        spans = _replayed(rule, simple, number, series, past)
        after += len(spans)
        for each in kept:
            if each.series is not series:
                continue
            again = [span for span in spans if span.begin_s <= each.span.end_s and span.end_s >= each.span.begin_s]
            if not again:
                raise RunbookError("it would miss an incident")
            delay_s = max(delay_s, again[0].begin_s - each.span.begin_s)
    weakest = min(kept, key=lambda each: sign * each.strength)
    return Proposal(
        rule, simple, number, before=len(fired), after=after, removed=len(fired) - after, incidents=len(kept),
        delay_s=delay_s, gone=_around(most, rule, past), kept=_around(weakest, rule, past),
    )  # fmt: skip


def between(low: float, high: float) -> float:
    """The number with the fewest digits that is at least ``low`` and less than ``high``, near their middle.

    >>> between(0.812, 0.979), between(101.2, 130.7), between(5.0, 6.0), between(-3.2, -1.1)
    (0.9, 120.0, 5.5, -2.0)
    """
    middle = (low + high) / 2
    for digits in range(1, 17):
        rounded = float(f"{middle:.{digits - 1}e}")
        if low <= rounded < high:
            return rounded
    return low


def _replayed(rule: Rule, simple: Simple, number: float, series: Series, past: Past) -> list[Span]:
    return replay(
        series.points, simple, number, for_s=rule.for_s, keep_s=rule.keep_firing_for_s, step_s=past.step_s
    )  # fmt: skip


def _matched(rule: Rule, simple: Simple, past: Past) -> list[_Fired]:
    """The firings of today's threshold as the replay finds them, each with what is known of the real one.

    :raises RunbookError: the replay is not what was
    """
    real = list(zip(past.firings, past.acts, strict=True))
    found: list[_Fired] = []
    seen: set[int] = set()
    slack_s = 2 * past.step_s + rule.interval_s
    for series in past.series:
        labels = {name: value for name, value in series.labels.items() if name != "__name__"}
        mine = [
            (number, each, act)
            for number, (each, act) in enumerate(real)
            if all(dict(each.labels).get(name) == value for name, value in labels.items() if name not in _own(rule))
        ]
        for span in _replayed(rule, simple, simple.number, series, past):
            meet = [
                (number, act)
                for number, each, act in mine
                if span.begin_s <= each.end_s + slack_s and span.end_s >= each.begin_s - slack_s
            ]
            seen |= {number for number, _ in meet}
            # Of what no real firing is found, nobody knows.
            acts = {act for _, act in meet} or {"unknown"}
            act: Act = "acted" if "acted" in acts else "unknown" if "unknown" in acts else "not_acted"
            found.append(_Fired(series, span, act, strength(series.points, span, simple, for_s=rule.for_s)))
    if len(seen) < len(real) or not len(real) <= len(found) + 1 or len(found) > 1.1 * len(real) + 1:
        raise RunbookError(
            f"its expression fired {count(len(found), 'time')} in the replay and {count(len(real), 'time')} in truth, "
            f"{len(seen)} of these at the same moment with the same labels, so the replay says nothing; the rule may "
            "have changed meanwhile"
        )
    return found


def _own(rule: Rule) -> set[str]:
    """Labels that the rule sets itself."""
    return set(rule.labels or {})


def _around(fired: _Fired, rule: Rule, past: Past) -> tuple[Key, tuple[tuple[float, float], ...], Span]:
    """The values from shortly before a firing to shortly after it, with moments from zero on."""
    first_s = fired.span.begin_s - rule.for_s - 5 * past.step_s
    last_s = min(fired.span.end_s + 5 * past.step_s, first_s + _MOST_VALUES * past.step_s)
    values = [(at, value) for at, value in fired.series.points if first_s <= at <= last_s]
    zero_s = values[0][0]
    span = Span(fired.span.begin_s - zero_s, min(fired.span.end_s, last_s) - zero_s)
    return fired.series.key, tuple((at - zero_s, value) for at, value in values), span


# Files ---------------------------------------------------------------------------------------------------------------


def is_plain(proposal: Proposal) -> bool:
    """Whether the left side is a series of its own, so that a test can give it values."""
    return _SELECTOR.fullmatch(proposal.simple.left) is not None


def replayed_metric(proposal: Proposal) -> str:
    """What stands in the place of a left side that is no series of its own."""
    return f"runbook_replayed:{re.sub('[^A-Za-z0-9_]', '_', proposal.rule.name)}"


def rule_file(rules: Sequence[tuple[Rule, str]], head: str) -> str:
    """Rules as a file for Prometheus, each group with those of its rules that change.

    :param rules: each with the expression that it has there
    """
    lines = [f"# {head}", "groups:" if rules else "groups: []"]
    groups: dict[tuple[str, float], list[tuple[Rule, str]]] = {}
    for rule, query in rules:
        groups.setdefault((rule.group, rule.interval_s), []).append((rule, query))
    for (group, interval_s), some in groups.items():
        lines += [f"  - name: {json.dumps(group)}", f"    interval: {interval_s:g}s", "    rules:"]
        for rule, query in some:
            lines += [f"      - alert: {json.dumps(rule.name)}", f"        expr: {json.dumps(query)}"]
            if rule.for_s:
                lines.append(f"        for: {rule.for_s:g}s")
            if rule.keep_firing_for_s:
                lines.append(f"        keep_firing_for: {rule.keep_firing_for_s:g}s")
            for key, values in (("labels", rule.labels), ("annotations", rule.annotations)):
                if values:
                    lines.append(f"        {key}:")
                    lines += [f"          {name}: {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def test_file(offered: Sequence[Proposal], *, rule_file_name: str, step_s: float, replayed: bool) -> str:
    """Tests for ``promtool test rules``, made of what was measured: what has to stay fires, what goes is quiet.

    :param replayed: whether the rules are asked for the metric in the place of their left side
    """
    lines = [
        f"# promtool test rules; beside {rule_file_name}. The values are those of the past.",
        "rule_files:",
        f"  - {rule_file_name}",
        f"evaluation_interval: {step_s:g}s",
        "tests:" if offered else "tests: []",
    ]
    for each in offered:
        for (key, values, span), fires in ((each.gone, False), (each.kept, True)):
            lines += list(_test(each, key, values, span, step_s=step_s, fires=fires, replayed=replayed))
    return "\n".join(lines) + "\n"


def _test(
    proposal: Proposal, key: Key, values: Sequence[tuple[float, float]], span: Span,
    *, step_s: float, fires: bool, replayed: bool,
) -> Iterator[str]:  # fmt: skip
    labels = dict(key)
    name = labels.pop("__name__", "")
    name = replayed_metric(proposal) if replayed else name
    series = f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"
    # A step without a value has none in the test.
    by_step = {round(at / step_s): value for at, value in values}
    text = " ".join(f"{by_step[step]:g}" if step in by_step else "_" for step in range(max(by_step) + 1))
    text = text.replace("nan", "NaN").replace("inf", "Inf")
    # Before the end of what fires; where it goes, at any time.
    moments = [_last_firing(proposal, values, step_s)] if fires else _spread(span)
    yield f"  - interval: {step_s:g}s"
    yield f"    name: {json.dumps(proposal.rule.name + (' tells of an incident' if fires else ' is quiet'))}"
    yield "    input_series:"
    yield f"      - series: {json.dumps(series)}"
    yield f"        values: {json.dumps(text)}"
    yield "    promql_expr_test:"
    asked = f'count(ALERTS{{alertname={json.dumps(proposal.rule.name)}, alertstate="firing"}})'
    for at in moments:
        yield f"      - expr: {json.dumps(asked)}"
        yield f"        eval_time: {at:g}s"
        yield "        exp_samples:" if fires else "        exp_samples: []"
        if fires:
            yield "          - {labels: '{}', value: 1}"


def _last_firing(proposal: Proposal, values: Sequence[tuple[float, float]], step_s: float) -> float:
    spans = replay(
        values, proposal.simple, proposal.number, for_s=proposal.rule.for_s,
        keep_s=proposal.rule.keep_firing_for_s, step_s=step_s,
    )  # fmt: skip
    return round(spans[0].begin_s / step_s) * step_s


def _spread(span: Span) -> list[float]:
    """A few moments of a span."""
    return sorted({float(round(span.begin_s + share * span.length_s)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)})
