"""Which of two versions is the newer one, and how far an update goes.

One order serves npm and PyPI: numbers by their value, what comes before a release (``-rc.1``, ``a1``, ``.dev3``) before
it, what comes after it (``.post1``) after it. https://semver.org/#spec-item-11 and
https://packaging.python.org/en/latest/specifications/version-specifiers/#summary-of-permitted-suffixes-and-relative-ordering
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Literal

Step = Literal["patch", "minor", "major"]

_PARTS = re.compile(r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)(?P<rest>.*)", re.DOTALL)
#: Of what follows the release, the words that stand after it, and the one that stands before all others.
_AFTER = {"post", "rev", "r"}
_FIRST = "dev"
#: Between what is older than the release and what is newer stands the release itself.
_ITSELF = (1,)

Key = tuple[int, tuple[int, ...], tuple[object, ...]]


def key(version: str) -> Key | None:
    """What a version sorts by; None for what is none, such as an address or a branch.

    >>> key("1.2.3") < key("1.10.0"), key("2.0.0-rc.1") < key("2.0.0"), key("1.0") < key("1.0.post1")
    (True, True, True)
    >>> key("1.0.0-alpha.2") < key("1.0.0-alpha.10"), key("1.0") == key("1.0.0"), key("latest")
    (True, True, None)
    """
    found = _PARTS.fullmatch(version.strip())
    if found is None:
        return None
    release = tuple(int(part) for part in found["release"].split("."))
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    # What a build is called says nothing of its order.
    words = re.findall(r"\d+|[a-z]+", found["rest"].lower().partition("+")[0])
    rest: tuple[object, ...] = _ITSELF
    if words:
        named = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in words)
        rest = (2, named) if words[0] in _AFTER else (0, words[0] != _FIRST, named)
    return int(found["epoch"] or 0), release, rest


def newest(versions: list[str]) -> str:
    """The newest of some versions, empty where there is none; what is no version is left out.

    >>> newest(["4.17.20", "4.17.21", "4.9.0"]), newest([])
    ('4.17.21', '')
    """
    known = {version: found for version in versions if (found := key(version)) is not None}
    return max(known, key=lambda version: known[version]) if known else ""


def step(old: str, new: str) -> Step | None:
    """How far an update goes; under 1.0 the second number stands for what may break, under 0.1 the third.

    https://semver.org/#spec-item-4, and how a caret is read by https://github.com/npm/node-semver#caret-ranges-123-025-004

    >>> step("4.17.20", "4.17.21"), step("4.17.20", "4.18.0"), step("4.17.20", "5.0.0"), step("0.4.2", "0.5.0")
    ('patch', 'minor', 'major', 'major')
    """
    before, after = key(old), key(new)
    if before is None or after is None:
        return None
    if before[0] != after[0]:
        return "major"
    pairs = list(zip_longest(before[1], after[1], fillvalue=0))
    first = next((place for place, (one, other) in enumerate(pairs) if one or other), 0)
    differs = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
    if differs is None or differs > max(first, 1):
        return "patch"
    return "major" if differs <= first else "minor"
