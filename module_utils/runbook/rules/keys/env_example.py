r"""The file ``.env.example`` of an application: it names each variable, and holds no value that works.

It is read by everybody who can read the repository, for ever. So what looks like a live value is an error whose text
does not repeat it, and what is added is a name with nothing behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
#: As services begin what they give: Supabase, JWT, AWS, Stripe and its kin, GitHub, Slack, Vercel, private keys.
_KNOWN = re.compile(
    r"sb_(?:secret|publishable)_\w{8}|sbp_\w{8}|eyJ[\w-]{8}|(?:AKIA|ASIA)[A-Z0-9]{12}|[spr]k_(?:live|test)_\w{8}|"
    r"gh[pousr]_\w{16}|github_pat_\w{16}|xox[abprs]-\w{8}|vc[pkair]?_\w{16}|-----BEGIN"
)
#: A password in an address, unless a word or a mark stands for it.
_PASSWORD = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
#: What nobody draws by chance.
_STANDS_FOR = re.compile(
    r"(?i)your|example|placeholder|change|replace|dummy|insert|todo|x{3}|\*{3}|\.{3}|<.*>|\{.*\}|^(?:pass(?:word)?|postgres|"
    r"secret|test|user|root|admin)$"
)
#: What nobody thinks up: long, without spaces, with letters and digits.
_CHANCE = re.compile(r"(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[A-Za-z0-9+/=_-]{20,}")
#: What stands before a name that was added.
_ADDED = "# Its value is in the project's settings at Vercel."


@dataclass(frozen=True)
class Alive:
    """A value that looks as if it worked."""

    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (line {self.line})"


def names_of(text: str) -> list[str]:
    r"""The variables that a file names, in their order; those that are commented out too.

    >>> names_of("A=1\n# B=\n# See the manual.\n")
    ['A', 'B']
    """
    found = (_LINE.fullmatch(line.lstrip("# \t")) for line in text.splitlines())
    return list(dict.fromkeys(each[1] for each in found if each))


def alive(text: str) -> list[Alive]:
    r"""The values of a file that look as if they worked, wherever they stand.

    >>> [str(each) for each in alive("A=\nB=sb_secret_0123456789abcdef\nC=your-key-here\n")]
    ['B (line 2)']
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        assigned = _LINE.fullmatch(line.lstrip("# \t"))
        value = assigned[2] if assigned else line
        if _is_alive(value.split(" #")[0].strip().strip("'\""), is_value=assigned is not None):
            found.append(Alive(number, assigned[1] if assigned else "text"))
    return found


def _is_alive(value: str, *, is_value: bool) -> bool:
    if _KNOWN.search(value):
        return True
    password = _PASSWORD.search(value)
    if password:
        return not _STANDS_FOR.search(password[1])
    return is_value and _CHANCE.fullmatch(value) is not None and not _STANDS_FOR.search(value)


def missing(text: str, names: Iterable[str]) -> list[str]:
    """Which of ``names`` the file does not name, by the alphabet."""
    known = set(names_of(text))
    return sorted({name for name in names if name not in known})


def extended(text: str, names: Iterable[str]) -> str:
    r"""The file with the names that it lacks, each with nothing behind it.

    >>> extended("A=1", ["A", "B"])
    "A=1\n\n# Its value is in the project's settings at Vercel.\nB=\n"
    """
    new = missing(text, names)
    if not new:
        return text
    begin = text.rstrip("\n")
    parts = [begin] if begin else []
    parts += [f"{_ADDED}\n{name}=" for name in new]
    return "\n\n".join(parts) + "\n"
