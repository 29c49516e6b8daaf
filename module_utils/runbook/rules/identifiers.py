"""Names of database objects, as people write them in an inventory.

A qualified name is ``schema.table``. Names are taken to the letter, without folding case; a part that itself holds a
dot or a double quote stands in double quotes, with ``""`` for a double quote, as in SQL.

>>> parse_qualified("public.audit_log")
QualifiedName(schema='public', name='audit_log')
>>> parse_qualified('"odd.schema"."say ""hi""; drop"')
QualifiedName(schema='odd.schema', name='say "hi"; drop')
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ansible.module_utils.runbook.errors import RunbookError

_PART = re.compile(r'"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^".]+)')

#: PostgreSQL's NAMEDATALEN - 1: longer names are silently cut by the server, so they are refused here.
MAX_IDENTIFIER_BYTES = 63


class QualifiedName(NamedTuple):
    """A schema and the name of an object in it, both to the letter."""

    schema: str
    name: str

    def __str__(self) -> str:
        return ".".join('"{}"'.format(part.replace('"', '""')) if re.search(r'["."]', part) else part for part in self)


def parse_qualified(text: str, *, option: str = "table") -> QualifiedName:
    """Split ``schema.table``.

    :param option: name of the module's option, for the error's sentence
    :raises RunbookError: not exactly two parts, an open quote, a NUL, or a part longer than 63 bytes
    """
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            break
        quoted = match["quoted"]
        parts.append(quoted.replace('""', '"') if quoted is not None else match["plain"])
        position = match.end()
        if position == len(text):
            break
        if text[position] != ".":
            break
        position += 1
    if len(parts) != 2 or position != len(text) or "\0" in text:
        raise RunbookError(
            f"{option}: {text!r} is not a qualified name; write schema.table, and put a part that holds a dot or a "
            'double quote in double quotes, as in public."odd.name".'
        )
    for part in parts:
        if len(part.encode()) > MAX_IDENTIFIER_BYTES:
            raise RunbookError(
                f"{option}: {part!r} is longer than PostgreSQL's {MAX_IDENTIFIER_BYTES} bytes; shorten it."
            )
    return QualifiedName(*parts)
