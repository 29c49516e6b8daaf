"""What will keep a backup from being restored as it is, told while the database is still there to be changed.

``pg_dump`` clears ``search_path``, so that nobody's objects are taken for others. A function whose body is text is read
when it runs, and in a restore it runs while rows are loaded: for a check, a generated column, an index. What it calls
without a schema is not found then.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.identifiers import QualifiedName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from ansible.module_utils.runbook.rules.backup.manifest import Extension

#: Extensions that can be made in one database of a server only, the one that a setting of the server names.
_TIED = {"pg_cron": "cron.database_name"}

#: What is no code: comments, texts, dollar quotes.
_NO_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_CALL = re.compile(r'(?:(?P<schema>"[^"]+"|[a-z_]\w*)\s*\.\s*)?(?P<name>"[^"]+"|[a-z_]\w*)\s*\(', re.IGNORECASE)
_SOURCE = re.compile(
    r'\b(?:from|join|into|update)\s+(?:only\s+)?(?P<name>"[^"]+"|[a-z_]\w*\b)(?!\s*[.(])', re.IGNORECASE
)
_CAST = re.compile(r'::\s*(?P<name>"[^"]+"|[a-z_]\w*\b)(?!\s*\.)', re.IGNORECASE)


@dataclass(frozen=True)
class Function:
    """A function whose body is text, and that sets no ``search_path`` of its own."""

    name: QualifiedName
    body: str


@dataclass(frozen=True)
class Use:
    """Something that runs a function while a backup is being restored."""

    #: Such as ``the check c of public.t``.
    what: str
    function: QualifiedName


def _plain(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name.lower()


def unqualified(uses: Iterable[Use], functions: Sequence[Function], names: Collection[str]) -> Iterator[str]:
    """A sentence for each use that calls, itself or through others, something without its schema.

    :param names: what lies in schemas other than ``pg_catalog``, and has no namesake there
    """
    by_name: dict[QualifiedName, list[Function]] = {}
    for function in functions:
        by_name.setdefault(function.name, []).append(function)
    for use in uses:
        found = _first(use.function, by_name, names)
        if found:
            guilty, called = found
            through = "" if guilty == use.function else f", through {use.function}()"
            yield (
                f"A restore of this backup will fail: {use.what} runs {guilty}(){through}, which names {called} "
                "without a schema, and a restore searches none. Run ALTER FUNCTION "
                f"{guilty} SET search_path = … with the schemas that it needs, and back up again."
            )


def _first(
    root: QualifiedName, functions: Mapping[QualifiedName, Sequence[Function]], names: Collection[str]
) -> tuple[QualifiedName, str] | None:
    """The first function from ``root`` on that names something without a schema, and what it names."""
    todo, seen = deque([root]), {root}
    while todo:
        current = todo.popleft()
        for function in functions.get(current, ()):
            code = _NO_CODE.sub(" ", function.body)
            for call in _CALL.finditer(code):
                called = _plain(call["name"])
                if call["schema"] is None:
                    if called in names:
                        return current, f"{called}()"
                    continue
                next_one = QualifiedName(_plain(call["schema"]), called)
                if next_one not in seen:
                    seen.add(next_one)
                    todo.append(next_one)
            for pattern in (_SOURCE, _CAST):
                for match in pattern.finditer(code):
                    if _plain(match["name"]) in names:
                        return current, _plain(match["name"])
    return None


def tied(extensions: Iterable[Extension]) -> Iterator[str]:
    """A sentence for each extension that a restore under another name has to do without.

    >>> from ansible.module_utils.runbook.rules.backup.manifest import Extension
    >>> next(tied([Extension("pg_cron", "1.6", "pg_catalog")])).partition(":")[0]
    'The extension pg_cron can be made in the database that cron.database_name names and in no other'
    """
    for extension in extensions:
        if setting := _TIED.get(extension.name):
            yield (
                f"The extension {extension.name} can be made in the database that {setting} names and in no other: a "
                "proof leaves it out and says so, and a restore under another name wants "
                f"db_restore_without_extensions: [{extension.name}]."
            )
