"""The packages that a lock file names, each with its version: the only ones that can be looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: As OSV calls them: https://ossf.github.io/osv-schema/#affectedpackage-field
NPM = "npm"
PYPI = "PyPI"
#: The name of pnpm's lock file. Every other file is taken for one of pip's.
PNPM_LOCK = "pnpm-lock.yaml"

#: ``name[extra]==version ; marker --hash=… # comment``
_PINNED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*(?P<version>[^\s;,#*]+)")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][^#]*")
#: ``@scope/name@1.2.3(peer@1.0.0)``; older lock files begin with a slash.
_NPM_KEY = re.compile(r"/?(?P<name>(?:@[^/@]+/)?[^/@]+)@(?P<version>[^(]+)(?:\(.*)?", re.DOTALL)
#: In ``importers`` of a lock file.
_DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies")


@dataclass(frozen=True, order=True)
class Package:
    """One version of one package."""

    #: :data:`NPM` or :data:`PYPI`.
    ecosystem: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Locked:
    """What a lock file says."""

    packages: tuple[Package, ...]
    #: Of what stands in it without a version that can be looked up: its name, as a person finds it.
    unpinned: tuple[str, ...] = ()
    #: Names that the project itself asks for; the rest comes with them.
    direct: frozenset[str] = frozenset()


def normal(name: str) -> str:
    """A name as PyPI compares it.

    https://packaging.python.org/en/latest/specifications/name-normalization/

    >>> normal("Ruamel.YAML__clib")
    'ruamel-yaml-clib'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def of_requirements(text: str) -> Locked:
    """Of a file of pip's with pinned versions. One name may have several, by the version of Python."""
    found: dict[Package, None] = {}
    unpinned: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        said = line.strip()
        pinned = _PINNED.match(said)
        if pinned:
            found[Package(PYPI, normal(pinned["name"]), pinned["version"])] = None
        elif said.startswith(("-r", "--requirement", "-e", "--editable")) or _REQUIREMENT.match(said):
            unpinned.append(said.partition(" #")[0].partition(";")[0].strip())
    return Locked(tuple(sorted(found)), tuple(unpinned))


def of_pnpm_lock(documents: Sequence[Any], name: str) -> Locked:
    """Of ``pnpm-lock.yaml``, which since pnpm 11 may hold a second document, for pnpm itself.

    :param documents: as they were read
    :param name: of the file, for a sentence
    :raises RunbookError: it is none, or of a format of before 2023
    """
    found: dict[Package, None] = {}
    unpinned: list[str] = []
    direct: set[str] = set()
    version = next((str(each["lockfileVersion"]) for each in documents if _is_lock(each)), "")
    if not re.fullmatch(r"(?:[6-9]|\d\d)(?:\.\d+)?", version):
        what = f"it says lockfileVersion {version!r}" if version else "it says no lockfileVersion"
        raise RunbookError(
            f"{name}: {what}, and 6 or newer is read; run pnpm install with pnpm 11 or newer.", status=Status.UNKNOWN
        )
    for document in documents:
        for key in _mapping(document, "packages"):
            read = _NPM_KEY.fullmatch(str(key))
            if read and read["version"][:1].isdigit():
                found[Package(NPM, read["name"], read["version"])] = None
            else:
                unpinned.append(str(key))
        for importer in _mapping(document, "importers").values():
            for kind in _DEPENDENCIES:
                direct.update(map(str, _mapping(importer, kind)))
    return Locked(tuple(sorted(found)), tuple(unpinned), frozenset(direct))


def together(files: Iterable[Locked]) -> Locked:
    """What several files say, each thing once."""
    every = list(files)
    return Locked(
        tuple(sorted({package for each in every for package in each.packages})),
        tuple(dict.fromkeys(name for each in every for name in each.unpinned)),
        frozenset().union(*(each.direct for each in every)),
    )


def _is_lock(document: object) -> bool:
    return isinstance(document, Mapping) and "lockfileVersion" in document


def _mapping(document: object, key: str) -> Mapping[Any, Any]:
    found = document.get(key) if isinstance(document, Mapping) else None
    return found if isinstance(found, Mapping) else {}
