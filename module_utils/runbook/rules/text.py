r"""Text that may go to a terminal or into a report.

A name in a database may hold any character but NUL. Some of them command a terminal (ESC, CR), turn the order of what
is read (U+202E), or cannot be seen (U+200B). They are written as escapes on the way out, so that what is shown is what
is there, and a name never forges a line.

>>> print(visible("audit\x1b[2J\u202egol\nok: all well"))
audit\x1b[2J\u202egol\nok: all well
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

#: Control, format, surrogate, line and paragraph separators, by Unicode's general categories.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Letters and marks that no font shows: "default ignorable" in Unicode's terms, outside of the categories above.
_BLANK = frozenset(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10), 0xFFA0,
     *range(0xE0100, 0xE01F0))
)  # fmt: skip
#: Most text has nothing to hide.
_PLAIN = re.compile(r"[ -~]*")

#: A password inside of an address; and inside of libpq's key=value form, where people paste that.
_PASSWORD = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/?#]*:[^\s/?#]*@", re.IGNORECASE)
_KEYWORDS = re.compile(r"\bpassword\s*=", re.IGNORECASE)
#: A user in an address over HTTP, as a token often is; ``git@`` before a server's name is none.
_USER = re.compile(r"https?://[^\s/?#]*@", re.IGNORECASE)


#: Results that are texts of lines: a diff, and what other modules read in PEM format.
_OF_LINES = ("diff", "csr", "stored")


def visible(text: str, *, keep: str = "") -> str:
    """``text`` with every character that cannot be seen, or that commands a terminal, as an escape.

    :param keep: characters that stay; a diff keeps its line feeds
    """
    if _PLAIN.fullmatch(text):
        return str(text)  # of an enumeration no more than its text
    return "".join(char if char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if unicodedata.category(char) not in _HIDDEN and code not in _BLANK:
        return char
    named = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(char)
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def all_visible(value: Any, *, keep: str = "") -> Any:
    """:func:`visible` of every text in ``value``, at any depth, names of keys too."""
    if isinstance(value, str):
        return visible(value, keep=keep)
    if isinstance(value, Mapping):
        return {all_visible(key, keep=keep): all_visible(item, keep=keep) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [all_visible(item, keep=keep) for item in value]
    return value


def outgoing(result: Mapping[str, Any]) -> dict[str, Any]:
    """A module's result as it may leave it; only what is a text of lines has line feeds."""
    return {key: all_visible(item, keep="\n" if key in _OF_LINES else "") for key, item in result.items()}


def as_lines(items: Iterable[str]) -> str:
    r"""Lines of a diff, each whole: a line feed inside of one is an escape.

    >>> as_lines(["move a", "move b\n+ drop c"])
    'move a\nmove b\\n+ drop c\n'
    """
    return "".join(f"{visible(item)}\n" for item in items)


def refusal(options: Mapping[str, Any], *, secret: Iterable[str]) -> tuple[str, str] | None:
    """What no option may hold: a password in an address, NUL, and bytes that are no UTF-8.

    :param secret: options that are kept out of all output anyway
    :returns: the value, to be kept out of all output, and the sentence, which does not repeat it
    """
    hidden = frozenset(secret)
    for name, value in options.items():
        for where, text in _texts(name, value, hidden):
            if "\0" in text:
                return text, f"{where}: it holds a NUL character, which no name, path or password may; take it out."
            if any("\ud800" <= char <= "\udfff" for char in text):
                return text, f"{where}: it holds bytes that are no UTF-8; save the file that it comes from as UTF-8."
            if name in hidden:
                continue
            is_pasted = (
                (name.startswith("login_") and _KEYWORDS.search(text))
                or (name.endswith(("host", "url")) and "@" in text)
                or (where.endswith(("host", "url", "urls")) and _USER.match(text))
            )
            if is_pasted or _PASSWORD.search(text):
                return text, (
                    f"{where}: it holds a password (not repeated here), and this option is printed; give the address "
                    "without it, and the password in the option made for it, from Ansible Vault."
                )
    return None


def _texts(where: str, value: Any, hidden: frozenset[str]) -> Iterable[tuple[str, str]]:
    """All texts of a value, each with where it is: the option, and below it the keys."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in hidden:
                yield from _texts(where, key, hidden)
                yield from _texts(f"{where}: {key}", item, hidden)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(where, item, hidden)
