"""Variables that look like the project's, and are none of them.

Ansible ignores a variable that nobody reads. So a misspelt name changes nothing and says nothing: 90 days are kept
where 30 were meant, and the backup goes to another folder. The names that exist are not listed here. They are read
out of the project: the options of the roles' argument specs, and what playbooks and roles register, loop over, or read
with a default. A name is refused that bears one of the project's prefixes and does not exist, and one without a prefix
that is a letter or two away from one that exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

#: Secrets are named by whoever keeps them.
FREE = ("vault_",)

#: From this length on two letters may be wrong, below it one.
_LONG = 10
#: Names that a refusal tells at most; the rest are counted.
_TOLD = 8

#: An option of an argument spec stands below ``argument_specs:``, the entry point and ``options:``.
_OPTION = re.compile(r"^ {6}(\w+):", re.MULTILINE)
_REGISTERED = re.compile(r"^\s*(?:- )?register: *(\w+)", re.MULTILINE)
_LOOPED = re.compile(r"^\s*loop_var: *(\w+)", re.MULTILINE)
#: What may be left out is read with a fallback.
_READ = re.compile(r"(?<![\w.'\"])([A-Za-z_]\w*) *\| *(?:default|mandatory)\b")
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_TEMPLATE = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
#: A template of one variable, whatever filters stand behind it.
_ONE = re.compile(r"\s*\{\{\s*([A-Za-z_]\w*)\s*(?:\|[^{}]*)?\}\}\s*")
#: An option without an underscore that is no word of English.
_NO_WORDS = ("bindir",)


@dataclass(frozen=True)
class Known:
    """The names that exist."""

    names: frozenset[str]
    #: Each ends with an underscore.
    prefixes: tuple[str, ...]
    #: Those of them that only tasks set: to what they found, and to one item of a loop after the other.
    results: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()


@lru_cache(maxsize=1)
def known(specs: tuple[tuple[str, str], ...], texts: tuple[str, ...]) -> Known:
    """The names that exist, and the prefixes that are the project's.

    The prefixes are the roles' names, and the first words of what several roles share (``db_login_host``,
    ``backup_bucket``) or what only a playbook reads (``performance_apply``).

    :param specs: name of each role, and its ``meta/argument_specs.yml``
    :param texts: playbooks, tasks and defaults
    """
    plain = [_COMMENT.sub("", text) for text in texts]
    options = {role: set(_OPTION.findall(_COMMENT.sub("", text))) for role, text in specs}
    read = {name for text in plain for name in _READ.findall(text) if not name.startswith("ansible_")}
    registered = {name for text in plain for name in _REGISTERED.findall(text)}
    items = {name for text in plain for name in _LOOPED.findall(text)}
    roles = tuple(f"{role}_" for role in options)
    shared = {name for found in (*options.values(), read) for name in found if not name.startswith(roles)}
    first = {f"{name.partition('_')[0]}_" for name in shared if "_" in name.strip("_")}
    given = set().union(*options.values())
    names = frozenset(given | read | registered | items)
    # Now, before Ansible forks its workers: each task of each host compares with them.
    _by_length(names)
    return Known(
        names,
        prefixes=tuple(sorted({*roles, *first})),
        results=frozenset(registered - given),
        items=frozenset(items - given),
    )


@lru_cache(maxsize=1)
def _by_length(names: frozenset[str]) -> dict[int, list[tuple[str, int]]]:
    """The names and their :func:`_letters`, by their length."""
    found: dict[int, list[tuple[str, int]]] = {}
    for name in sorted(names):
        found.setdefault(len(name), []).append((name, _letters(name)))
    return found


def _folded(name: str) -> str:
    """As it was meant: YAML keys may have dashes and capitals, variables that are read have neither."""
    return name.casefold().replace("-", "_")


def _letters(name: str) -> int:
    """The letters of a name as bits: two names that differ by n edits differ by at most 2 n bits."""
    return sum(1 << (ord(letter) & 63) for letter in set(name))


def _distance(one: str, other: str, most: int) -> int:
    """Letters to add, drop, replace or exchange with their neighbour; ``most`` + 1 where there are more.

    Optimal string alignment: R. Lowrance and R. A. Wagner, "An Extension of the String-to-String Correction Problem".

    >>> _distance("confrim", "confirm", 2)
    1
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for position, letter in enumerate(one, 1):
        last, row, two_before = row, [position], before
        for place, wanted in enumerate(other, 1):
            best = min(last[place] + 1, row[place - 1] + 1, last[place - 1] + (letter != wanted))
            exchanged = position > 1 and place > 1 and letter == other[place - 2] and wanted == one[position - 2]
            row.append(min(best, two_before[place - 2] + 1) if exchanged else best)
        if min(row) > most:
            return most + 1
        before = last
    return row[-1]


@lru_cache(maxsize=4096)
def _closest(name: str, names: frozenset[str]) -> str | None:
    """The name that exists and is hardly different; None where there is none."""
    most = 2 if len(name) >= _LONG else 1
    letters = _letters(name)
    found = [
        (_distance(name, other, most), other)
        for length in range(len(name) - most, len(name) + most + 1)
        for other, bits in _by_length(names).get(length, ())
        if (letters ^ bits).bit_count() <= 2 * most
    ]
    return min((pair for pair in found if pair[0] <= most), default=(0, None))[1]


def unknown(
    variables: Mapping[str, Any], existing: Known, beneath: Mapping[str, Any] | None = None
) -> dict[str, str | None]:  # fmt: skip
    """Names that look like the project's and do not exist, each with the nearest that does.

    Left alone is what another variable's template reads, since that is a helper of the inventory's own, and what a
    playbook registered.

    :param variables: all variables of a run, with their values as they were written; no template is filled in
    :param beneath: the same without what ``-e`` said, whose templates read helpers too
    """
    candidates = {name: _folded(name) for name in variables if name not in existing.names and not name.startswith(FREE)}
    found: dict[str, str | None] = {}
    for name, folded in candidates.items():
        close = folded if folded in existing.names else _closest(folded, existing.names)
        if close is None and folded.startswith(existing.prefixes):
            close = next(iter(get_close_matches(folded, sorted(existing.names), 1)), None)
        elif close is None:
            continue
        found[name] = close
    if found:
        written = [value for each in (variables, beneath or {}) for name, value in each.items() if name not in _LARGE]
        helpers = set(_read_in(written))
        found = {
            name: close
            for name, close in sorted(found.items())
            if name not in helpers and not _is_result(variables[name])
        }
    return found


#: Ansible's own views on everything, which are made when they are looked at.
_LARGE = frozenset({"hostvars", "vars", "groups", "ansible_facts", "environment"})


def _read_in(values: Iterable[Any]) -> Iterator[str]:
    """Every name that a template among the values reads."""
    for value in values:
        if isinstance(value, str):
            for template in _TEMPLATE.findall(value):
                yield from _WORD.findall(template)
        elif isinstance(value, dict):
            yield from _read_in(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _read_in(value)


def overridden(variables: Mapping[str, Any], said: Iterable[str], existing: Known) -> list[str]:
    """Names that tasks set, and that the command line or the inventory has set.

    What ``-e`` says wins over what a task found: the steps behind it would do nothing, or something else.

    :param variables: all variables of a run, as in :func:`unknown`
    :param said: names that the command line set
    """
    behind = {name for name in variables if name in existing.results and not _is_result(variables[name])}
    return sorted(behind | (existing.results | existing.items).intersection(said))


def refusal_of_own(found: Iterable[str]) -> str:
    """One sentence on names that :func:`overridden` found."""
    names = list(found)
    it, was = ("it", "was") if len(names) == 1 else ("them", "were")
    return (
        f"{', '.join(names)}: the playbooks set {it} to what their tasks find, and {was} set with -e or in the "
        f"inventory; leave {it} out. roles/*/defaults/main.yml say what can be set."
    )


def _is_result(value: Any) -> bool:
    """Whether a task left it behind."""
    return isinstance(value, dict) and "changed" in value


def refusal(found: Mapping[str, str | None]) -> str:
    """One sentence on names that :func:`unknown` found."""
    told = [
        f"{name!r} ({f'did you mean {close}?' if close else 'nothing here is called like that'})"
        for name, close in list(found.items())[:_TOLD]
    ]
    more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    what, it, names = ("variable", "it", "name") if len(found) == 1 else ("variables", "them", "names")
    return (
        f"Unknown {what}: {', '.join(told)}{more}. Ansible would ignore {it}, so correct the {names} in the "
        "inventory or behind -e. roles/*/defaults/main.yml say what exists; one of your own needs another prefix."
    )


def set_in(options: Mapping[str, Any], play: Mapping[str, Any], existing: Known) -> dict[str, str]:
    """The variable that an operator sets, for each option of a task and each variable that a play sets by another one.

    :param options: as the task has them, with their templates
    :param play: variables of the blocks that the task stands in, likewise

    >>> play = {"db_login_host": "{{ backup_proof_login_host | default('') }}"}
    >>> known_ = Known(frozenset({"db_login_host", "backup_proof_login_host", "confirm"}), ())
    >>> set_in({"login_host": "{{ db_login_host }}", "confirm": "{{ db_login_host }}", "jobs": 2}, play, known_)
    {'db_login_host': 'backup_proof_login_host', 'login_host': 'backup_proof_login_host'}
    """
    found: dict[str, str] = {}
    # What bears a variable's name is set by that.
    named = {name: value for name, value in options.items() if name not in existing.names}
    for name, value in (dict(play) | named).items():
        source, seen = _source(value, existing), {name}
        while source is not None and source not in seen and source in play:
            seen.add(source)
            source = _source(play[source], existing) or source
        if source is not None and source != name:
            found[name] = source
    return found


def _source(value: Any, existing: Known) -> str | None:
    """The one variable of the project that a value is the template of."""
    match = _ONE.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match and match[1] in existing.names else None


def told(text: str, names: Mapping[str, str], own: Collection[str] = ()) -> str:
    """A module's sentence with the variables of :func:`set_in` in place of its options.

    An option that is a word of English is one only where it begins the sentence, and so is one that something else is
    called by.

    :param own: names of what the result tells of, its checks and settings

    >>> told("login_user: 'x' may not read tables; see bindir", {"login_user": "db_login_user", "tables": "db_tables"})
    "db_login_user: 'x' may not read tables; see bindir"
    >>> told("tables: there is no table x.", {"tables": "db_tables"})
    'db_tables: there is no table x.'
    >>> told("Would set tls_only.", {"tls_only": "backup_bucket_tls_only"}, {"tls_only"})
    'Would set tls_only.'
    """
    unmistakable = [name for name in names if name not in own and ("_" in name or name in _NO_WORDS)]
    begins = text.partition(":")[0]
    if begins in names:
        return names[begins] + told(text[len(begins) :], names, own)
    if not unmistakable:
        return text
    return re.sub(rf"(?<![\w.-])({'|'.join(map(re.escape, unmistakable))})(?![\w.-]\w|\w)", lambda m: names[m[1]], text)
