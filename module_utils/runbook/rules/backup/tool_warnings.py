"""What the programs that we call warn of, though they end well.

A program that ends with 0 may have left something out, and says so on its standard error alone: ``pg_dump`` leaves out
subscriptions where its user is no superuser. Each warning is kept, but for what the server said: a function of a user
may have put a row into it, so of those only the ones are kept that are known to hold none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.rules.words import agree, count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Warnings that one program is heard for; a thousand broken objects need no thousand lines.
MOST = 20
_MOST_CHARACTERS = 400

_OWN = (
    # PostgreSQL's programs, gpg, age: pg_dump: warning: …
    re.compile(r"^(?P<program>[A-Za-z][\w-]*): (?:warning|WARNING): (?P<text>\S.*)$"),
    # Barman: 2026-11-23 03:00:00,000 [4711] WARNING: …
    re.compile(r"^\d{4}-\d\d-\d\d \S+ \[\d+\] (?P<program>)WARNING: (?P<text>\S.*)$"),
    # pg_repack, which puts one blank where the server puts two.
    re.compile(r"^(?P<program>)WARNING: (?P<text>\S.*)$"),
)
_MORE = re.compile(r"^(?P<program>[A-Za-z][\w-]*): (?:detail|hint): +(?P<text>\S.*)$")
_SERVER = re.compile(r"^WARNING:  (?P<text>.*)$")
_SERVER_SAFE = re.compile(
    r"(?:database|collation) \".*\" has (?:a collation version mismatch|version mismatch|no actual collation version.*)"
)


def said_warnings(stderr: str) -> tuple[str, ...]:
    """Warnings of one program, each once, in its own words.

    >>> said_warnings("pg_dump: warning: subscriptions not dumped because current user is not a superuser")
    ('pg_dump: subscriptions not dumped because current user is not a superuser',)
    >>> said_warnings("WARNING:  the secret of row 5 is xyz")
    ('The server gave 1 warning; it is in its log.',)
    """
    found = list(dict.fromkeys(_read(stderr.splitlines())))
    if len(found) > MOST:
        found[MOST:] = [f"{count(len(found) - MOST, 'more warning was', 'more warnings were')} given."]
    return tuple(found)


def _read(lines: Iterable[str]) -> Iterator[str]:
    hidden = 0
    current = ""
    for line in lines:
        if current and (more := _MORE.match(line)):
            current += f" ({more['text'].strip()})"
            continue
        if current:
            yield current[:_MOST_CHARACTERS]
            current = ""
        if server := _SERVER.match(line):
            if _SERVER_SAFE.fullmatch(server["text"]):
                current = f"The server: {server['text']}"
            else:
                hidden += 1
            continue
        own = next((match for pattern in _OWN if (match := pattern.match(line))), None)
        if own:
            current = f"{own['program']}: {own['text']}" if own["program"] else own["text"]
    if current:
        yield current[:_MOST_CHARACTERS]
    if hidden:
        them = f"{count(hidden, 'warning')}; {agree(hidden, 'it is', 'they are')}"
        yield f"The server gave {them} in its log."


def passed_on(warn: Callable[[str], None]) -> Callable[[str, str], None]:
    """What to do with the name of a program that ended well and its standard error: its warnings go to ``warn``.

    >>> passed_on(print)("pg_dump", "pg_dump: warning: subscriptions not dumped")
    pg_dump: pg_dump: subscriptions not dumped
    """

    def heard(program: str, stderr: str) -> None:
        for warning in said_warnings(stderr):
            warn(f"{program}: {warning}")

    return heard
