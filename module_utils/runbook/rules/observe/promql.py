"""Which series a query of Prometheus selects, and variables of Grafana in it.

Not a parser: it finds the selectors, wherever they stand, by the words of the language
(https://prometheus.io/docs/prometheus/latest/querying/basics/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)|(?P<comment>\#[^\n]*)|(?P<number>\d[\w.]*)"""
    r"""|(?P<word>[A-Za-z_:][\w:.]*)|(?P<sign>=~|!~|!=|[^\s])""",
    re.VERBOSE,
)
#: After these stands a list of labels in brackets.
_OF_LABELS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
#: Words that stand between expressions, or are numbers.
_WORDS = _OF_LABELS | {"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"}
_ESCAPED = re.compile(r"\\(.)")
#: Functions whose result is there because the metric is not.
_ABSENT = re.compile(r"\babsent(?:_over_time)?\s*\(")
#: What keeps only some of the values, so that none may be left.
_FILTER = re.compile(r"(?<![=!~<>])(?:==|!=|<=|>=|<|>)(?!\s*bool\b)|\bunless\b|\band\b")
_VARIABLE = re.compile(r"\$\{(\w+)(?::[^}]*)?\}|\[\[(\w+)(?::\w+)?\]\]|\$(\w+)")


@dataclass(frozen=True)
class Selector:
    """One selector of series."""

    #: Empty where only labels are given.
    metric: str
    #: Label, operator and value; ``__name__`` is in :attr:`metric` where it is equal to something.
    matchers: tuple[tuple[str, str, str], ...] = ()

    def may_take(self, labels: Mapping[str, str]) -> bool:
        """Whether it takes series with these labels, as far as it says anything of them."""
        return all(
            _holds(operator, value, labels[label]) for label, operator, value in self.matchers if label in labels
        )

    def with_labels(self, labels: Mapping[str, str]) -> str:
        """The same selector for these labels alone, as a query."""
        kept = [each for each in self.matchers if each[0] not in labels]
        own = [*kept, *((name, "=", value) for name, value in labels.items())]
        return f"{self.metric}{{{','.join(f'{name}{operator}{quoted(value)}' for name, operator, value in own)}}}"


def _holds(operator: str, wanted: str, value: str) -> bool:
    if operator in ("=", "!="):
        return (wanted == value) == (operator == "=")
    try:
        return bool(re.fullmatch(wanted, value)) == (operator == "=~")
    except re.error:
        # RE2 knows what Python does not.
        return True


def quoted(value: str) -> str:
    r"""A value of a label as a query has it.

    >>> print(quoted('a"b\\'))
    "a\"b\\"
    """
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def selectors(query: str) -> list[Selector]:
    """All selectors of a query.

    >>> [each.metric for each in selectors('sum by (job) (rate(a_total{code=~"5.."}[5m])) / on (job) b offset 1h')]
    ['a_total', 'b']
    """
    return list(_selectors(query))


def metrics(query: str) -> set[str]:
    """Names of the metrics that a query asks for.

    >>> sorted(metrics('{__name__="up"} == 0 or absent(down)'))
    ['down', 'up']
    """
    return {each.metric for each in selectors(query) if each.metric}


def is_of_absence(query: str) -> bool:
    """Whether it is about a metric that is not there."""
    return bool(_ABSENT.search(_without_texts(query)))


def has_alternatives(query: str) -> bool:
    """Whether it may give something though a metric of it is not there.

    >>> has_alternatives("a > 1 or b > 1"), has_alternatives('a{x="or"} > 1')
    (True, False)
    """
    return bool(re.search(r"\bor\b", _without_texts(query)))


def filters(query: str) -> bool:
    """Whether it keeps only some values, so that an empty answer may be the good one.

    >>> filters("up == 0"), filters("up == bool 0"), filters('rate(a{code!="500"}[5m])')
    (True, False, False)
    """
    plain = re.sub(r"\{[^{}]*\}", "", _without_texts(query))
    return bool(_FILTER.search(plain))


def expand(query: str, variables: Mapping[str, str]) -> tuple[str, list[str]]:
    """A query with the values of variables, and names of those that have none.

    >>> expand('up{job="$job"}[${__range}] $x', {"job": "api", "__range": "1h"})
    ('up{job="api"}[1h] $x', ['x'])
    """
    missing: list[str] = []

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        if name in variables:
            return variables[name]
        missing.append(name)
        return found[0]

    return _VARIABLE.sub(value, query), missing


def _without_texts(query: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`|#[^\n]*', '""', query)


def _selectors(query: str) -> Iterator[Selector]:
    tokens = [(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(query) if found.lastgroup != "comment"]
    at = 0
    while at < len(tokens):
        kind, word = tokens[at]
        after = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if word == "[":
            at = _behind(tokens, at, "]")
        elif kind == "word" and word.lower() in _OF_LABELS and after == "(":
            at = _behind(tokens, at + 1, ")")
        elif word == "{":
            found, at = _matchers(tokens, at)
            yield _named("", found)
        elif kind != "word" or word.lower() in _WORDS or after == "(" or after.lower() in ("by", "without"):
            # A sign, a number, a word of the language, a function or an aggregation.
            at += 1
        elif after == "{":
            found, at = _matchers(tokens, at + 1)
            yield _named(word, found)
        else:
            yield Selector(word)
            at += 1


def _behind(tokens: list[tuple[str, str]], at: int, end: str) -> int:
    while at < len(tokens) and tokens[at][1] != end:
        at += 1
    return at + 1


def _matchers(tokens: list[tuple[str, str]], at: int) -> tuple[list[tuple[str, str, str]], int]:
    found = []
    end = _behind(tokens, at, "}")
    inside = tokens[at + 1 : end - 1]
    for place in range(len(inside) - 2):
        (kind, label), (_, operator), (of_value, value) = inside[place : place + 3]
        if kind in ("word", "text") and operator in ("=", "!=", "=~", "!~") and of_value == "text":
            found.append((_plain(label) if kind == "text" else label, operator, _plain(value)))
    return found, end


def _plain(text: str) -> str:
    return text[1:-1] if text[0] == "`" else _ESCAPED.sub(lambda found: found[1], text[1:-1])


def _named(metric: str, found: list[tuple[str, str, str]]) -> Selector:
    named = next((value for label, operator, value in found if (label, operator) == ("__name__", "=")), metric)
    return Selector(named, tuple(each for each in found if each[:2] != ("__name__", "=")))
