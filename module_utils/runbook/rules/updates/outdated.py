"""What ``pnpm outdated`` says, what an update changes, and why a newer version is held back.

The exit code of ``pnpm outdated`` is 1 where something is outdated and where it failed, so only its answer counts: an
object by package (https://pnpm.io/cli/outdated). An answer that cannot be read is unknown, and never "nothing".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.updates import packages, versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ansible.module_utils.runbook.rules.updates.packages import Package

#: pnpm's own release age where a project sets none: https://pnpm.io/settings#minimumreleaseage
RELEASE_AGE_MIN = 1440
#: Kinds of dependencies in ``importers`` of a lock file.
_KINDS = ("dependencies", "devDependencies", "optionalDependencies")
#: The beginning of a range that is kept where its version changes; a version alone is pinned.
_OPERATOR = re.compile(r"([~^]|>=)?\d")


@dataclass(frozen=True, order=True)
class Outdated:
    """A package of which there is a newer version than the lock file names."""

    package: str
    current: str
    latest: str
    is_deprecated: bool = False

    @property
    def step(self) -> str:
        """How far it is to the newest version: ``patch``, ``minor``, ``major``, or empty."""
        return versions.step(self.current, self.latest) or ""

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return {
            "package": self.package,
            "current": self.current,
            "latest": self.latest,
            "step": self.step,
            "is_deprecated": self.is_deprecated,
        }


@dataclass(frozen=True, order=True)
class Change:
    """What an update does to one package; a version is empty where it was not there, or is no more."""

    package: str
    from_version: str
    to_version: str
    is_direct: bool

    @property
    def step(self) -> str:
        """As :attr:`Outdated.step`."""
        return versions.step(self.from_version, self.to_version) or ""

    def result(self) -> dict[str, Any]:
        """As a module returns it."""
        return {
            "package": self.package,
            "from": self.from_version,
            "to": self.to_version,
            "step": self.step,
            "is_direct": self.is_direct,
        }

    def __str__(self) -> str:
        return f"{self.package} {self.from_version or 'none'} -> {self.to_version or 'none'}"


@dataclass(frozen=True)
class Direct:
    """A package that the project itself asks for: the range that it wants, and the version that the lock file names."""

    specifier: str
    version: str


def parse(said: str, code: int, error: str) -> list[Outdated]:
    """The packages that are outdated.

    :param said: what ``pnpm outdated --format json`` printed
    :param code: its exit code
    :param error: pnpm's own code for its error; empty where it named none
    :raises RunbookError: it is no result (``unknown``)
    """
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not isinstance(found, Mapping) or "error" in found or code not in (0, 1) or (code == 1 and not found):
        raise RunbookError(
            f"pnpm outdated: no result ({error or f'exit code {code}'}), so what is outdated is not known; see that "
            "this machine reaches the registry, and that it has every package.",
            status=Status.UNKNOWN,
            code="no_result",
        )
    return sorted(_outdated(str(name), each) for name, each in found.items())


def _outdated(name: str, said: object) -> Outdated:
    # Current is what is installed, and nothing is; wanted is what the lock file names.
    current = (said.get("current") or said.get("wanted")) if isinstance(said, Mapping) else None
    latest = said.get("latest") if isinstance(said, Mapping) else None
    if not isinstance(said, Mapping) or not isinstance(current, str) or not isinstance(latest, str):
        raise RunbookError(
            f"pnpm outdated: its answer about {name} names no two versions; what is outdated is not known.",
            status=Status.UNKNOWN,
            code="no_result",
        )
    return Outdated(name, current, latest, said.get("isDeprecated") is True)


def direct(documents: Sequence[Any]) -> dict[str, Direct]:
    """The packages that the project itself asks for, by name.

    :param documents: of ``pnpm-lock.yaml``, as they were read
    """
    return {name: asked for (_, name), asked in _asked(documents).items()}


def _asked(documents: Sequence[Any]) -> dict[tuple[str, str], Direct]:
    """What each part of the project asks for, by the part and the package's name."""
    found: dict[tuple[str, str], Direct] = {}
    for document in documents:
        importers = document.get("importers") if isinstance(document, Mapping) else None
        for part, importer in importers.items() if isinstance(importers, Mapping) else ():
            for kind in _KINDS:
                for name, said in (importer.get(kind) or {}).items() if isinstance(importer, Mapping) else ():
                    if isinstance(said, Mapping):
                        version = str(said.get("version") or "").partition("(")[0]
                        found[str(part), str(name)] = Direct(str(said.get("specifier") or ""), version)
    return found


def spec(package: str, to: str, asked: Direct | None) -> str:
    """What ``pnpm update`` is given so that ``package`` becomes ``to``.

    The project's way to ask is kept: a caret stays a caret, a pinned version stays pinned. A package that comes with
    another one is updated within that one's range.

    >>> spec("next", "15.0.1", Direct("^14.2.0", "14.2.3")), spec("pg", "8.1.0", Direct("8.0.0", "8.0.0"))
    ('next@^15.0.1', 'pg@8.1.0')
    >>> spec("braces", "3.0.3", None)
    'braces'
    """
    if asked is None or not to:
        return package
    found = _OPERATOR.match(asked.specifier)
    return f"{package}@{(found[1] or '') if found else '^'}{to}"


def between(before: Sequence[Any], after: Sequence[Any]) -> list[Change]:
    """What differs between two lock files, given as their documents.

    Of what the project itself asks for, the versions that it is given count: another package may have had the new
    version already, or keep the old one, and then the lists of all packages do not show the change.

    :raises RunbookError: one of them is none
    """
    old, new = (packages.of_pnpm_lock(each, packages.PNPM_LOCK) for each in (before, after))
    was, now = _asked(before), _asked(after)
    own = {
        Change(key[1], was[key].version, now[key].version, is_direct=True)
        for key in was.keys() & now.keys()
        if was[key].version != now[key].version
    }
    told = {(each.package, version) for each in own for version in (each.from_version, each.to_version)}
    rest_old, rest_new = ([each for each in of.packages if (each.name, each.version) not in told] for of in (old, new))
    return _sorted({*own, *changes(rest_old, rest_new, old.direct | new.direct)})


def changes(before: Iterable[Package], after: Iterable[Package], own: Iterable[str]) -> list[Change]:
    """What became of the lock file's packages, those of the project itself first.

    :param own: names that the project itself asks for
    """
    old, new, mine = _by_name(before), _by_name(after), set(own)
    found = []
    for name in old.keys() | new.keys():
        gone = sorted(old.get(name, set()) - new.get(name, set()), key=_order)
        come = sorted(new.get(name, set()) - old.get(name, set()), key=_order)
        for number in range(max(len(gone), len(come))):
            was = gone[number] if number < len(gone) else ""
            now = come[number] if number < len(come) else ""
            found.append(Change(name, was, now, name in mine))
    return _sorted(found)


def _sorted(found: Iterable[Change]) -> list[Change]:
    return sorted(found, key=lambda each: (not each.is_direct, each))


def _by_name(packages: Iterable[Package]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in packages:
        found.setdefault(each.name, set()).add(each.version)
    return found


def _order(version: str) -> tuple[bool, Any]:
    key = versions.key(version)
    return (key is not None, key or version)


def held_back(
    newest: Sequence[Outdated], after: Mapping[str, Direct], ages: Mapping[str, str], release_age: str, now: datetime
) -> list[dict[str, str]]:
    """Newer versions that the update did not take, and why not.

    :param newest: what is outdated, whatever its age
    :param after: packages of the project itself, after the update
    :param ages: what ``pnpm view <package> time`` printed, by package, of those for which it was asked
    :param release_age: what ``pnpm config get minimumReleaseAge`` printed
    """
    found = []
    for each in newest:
        asked = after.get(each.package)
        if (
            asked is None
            or asked.version == each.latest
            or versions.newest([asked.version, each.latest]) != each.latest
        ):
            continue
        found.append(
            {
                "package": each.package,
                "version": asked.version,
                "latest": each.latest,
                "why": _why(each, asked, ages.get(each.package, ""), release_age, now),
            }
        )
    return found


def needs_age(newest: Sequence[Outdated], after: Mapping[str, Direct]) -> list[str]:
    """Packages whose newest version the range admits and the update did not take: its age may be why."""
    return [
        each.package
        for each in newest
        if (asked := after.get(each.package)) and asked.version != each.latest and _admits(asked, each.latest)
    ]


def _admits(asked: Direct, version: str) -> bool:
    """Whether a range admits a newer version, as far as its beginning tells."""
    step = versions.step(asked.version, version)
    found = _OPERATOR.match(asked.specifier)
    if found is None:
        return asked.specifier in ("*", "latest", "")
    return {"^": step != "major", "~": step == "patch", ">=": True, None: False}[found[1]]


def _why(each: Outdated, asked: Direct, age: str, release_age: str, now: datetime) -> str:
    if versions.step(asked.version, each.latest) == "major":
        return "a major version: the monthly updates bring it, after somebody read its changelog"
    if not _admits(asked, each.latest):
        return f"package.json asks for {asked.specifier}"
    published = _published(age, each.latest)
    minutes = int(release_age) if release_age.isdigit() else RELEASE_AGE_MIN
    if published is not None and now - published < timedelta(minutes=minutes):
        return f"published {published:%Y-%m-%d %H:%M} UTC, and the release age is {minutes} minutes"
    return "another package's range, or a setting of pnpm's, does not admit it"


def _published(said: str, version: str) -> datetime | None:
    try:
        times = json.loads(said)
        found = datetime.fromisoformat(str(times.get(version)))
    except (ValueError, AttributeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
