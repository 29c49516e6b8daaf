"""The environment variables of a project as a whole: a snapshot of the set, and how the set of then is made again.

A snapshot is a document of the state store, which holds no secret: values are sealed with a key from the vault, and the
values of ``sensitive`` variables are in none, as Vercel gives them to nobody. One of these is restored from the vault,
if its fingerprint proves that it is the value of then. Whatever cannot be restored is named before anything is changed.

Two kinds are left as they are. Variables that Vercel or an integration writes are theirs. And a variable of a key
that was rotated since belongs to that rotation: its old value is about to die, or is dead.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules import typed
from ansible.module_utils.runbook.rules.deploy.deployments import NOT_OURS, SENSITIVE, Setting, Variable
from ansible.module_utils.runbook.rules.deploy.fingerprint import LENGTH, fingerprint
from ansible.module_utils.runbook.rules.state import check_name
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ansible.module_utils.runbook.rules.deploy.rollback import Rotated

#: The folder of the state store.
FOLDER = "env/"
#: What stands beside a variable of a rotated key ends with the fingerprint of its value.
_FINGERPRINT = re.compile(rf"(?:^| )([0-9a-f]{{{LENGTH}}})$")


@dataclass(frozen=True)
class Kept:
    """A variable, with its value where that is known."""

    id: str
    name: str
    type: str
    targets: tuple[str, ...]
    git_branch: str
    comment: str
    updated_at: datetime | None
    value: str | None = None

    @classmethod
    def of(cls, variable: Variable, value: str | None) -> Kept:
        """As the project has it."""
        return cls(**asdict(variable), value=value)

    @property
    def fingerprint(self) -> str:
        """Of its value, or as the comment has it; empty where nobody knows."""
        if self.value is not None:
            return fingerprint(self.name, self.value)
        found = _FINGERPRINT.search(self.comment)
        return found[1] if found else ""

    @property
    def place(self) -> tuple[str, frozenset[str], str]:
        """By which it is the same one after it was removed and made again."""
        return self.name, frozenset(self.targets), self.git_branch

    def setting(self, value: str) -> Setting:
        """As it is written."""
        return Setting(self.name, value, self.type, self.targets, self.git_branch, self.comment)

    def is_as(self, other: Kept) -> bool | None:
        """Whether the other has the same value; None where nobody can say."""
        if self.value is not None and other.value is not None:
            return self.value == other.value
        if self.id == other.id and self.updated_at is not None and self.updated_at == other.updated_at:
            return True
        if self.fingerprint and other.fingerprint:
            return self.fingerprint == other.fingerprint
        return None

    def __str__(self) -> str:
        branch = f", branch {self.git_branch}" if self.git_branch else ""
        return f"{self.name} ({', '.join(self.targets) or 'no target'}{branch})"

    def __repr__(self) -> str:
        return f"Kept({self})"


# The document ---------------------------------------------------------------------------------------------------------


def document_name(project_id: str, at: datetime) -> str:
    """Under which name a snapshot lies; names sort by time.

    >>> document_name("prj_1a2b", datetime(2026, 11, 29, 2, 0, tzinfo=UTC))
    'env/prj_1a2b-20261129T020000Z'
    """
    return check_name(f"{prefix(project_id)}{at.astimezone(UTC):%Y%m%dT%H%M%SZ}")


def prefix(project_id: str) -> str:
    """How the names of a project's snapshots begin."""
    return f"{FOLDER}{project_id}-"


def label(variable_id: str, name: str, project_id: str) -> str:
    """What a sealed value is bound to, so that it is opened in no other place."""
    return f"{project_id}/{variable_id}/{name}"


def body(project_id: str, at: datetime, reason: str, sealed: Iterable[tuple[Kept, str]]) -> dict[str, Any]:
    """A snapshot as it is written.

    :param sealed: each variable with its value, sealed; empty where nobody knows that
    """
    return {
        "project_id": project_id,
        "taken_at": at.isoformat(),
        "reason": reason,
        "variables": [
            {
                "id": each.id, "name": each.name, "type": each.type, "targets": list(each.targets),
                "git_branch": each.git_branch, "comment": each.comment, "fingerprint": each.fingerprint,
                "updated_at": each.updated_at.isoformat() if each.updated_at else None, "sealed": value,
            }
            for each, value in sealed
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    id: str
    name: str
    type: str
    targets: tuple[str, ...]
    git_branch: str
    comment: str
    sealed: str
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as it is read; values are still sealed."""

    project_id: str
    taken_at: datetime
    variables: tuple[_Entry, ...]

    @classmethod
    def read(cls, name: str, found: Mapping[str, Any], project_id: str) -> Snapshot:
        """Read the body of a document.

        :raises RunbookError: it is none, or another project's
        """
        try:
            made: Snapshot = typed.read(cls, found, "snapshot")
        except typed.FieldError as error:
            raise RunbookError(
                f"State store: {name} is no snapshot of environment variables that this project knows: {error}; take "
                "another one.",
                status=Status.UNKNOWN,
            ) from None
        if made.project_id != project_id:
            raise RunbookError(f"snapshot: {name} is one of project {made.project_id}, and not of {project_id}.")
        return made

    def opened(self, unseal: Callable[[str, str], str]) -> list[Kept]:
        """The variables with their values.

        :param unseal: gives a value, from what is sealed and its label
        """
        return [
            Kept(
                each.id, each.name, each.type, each.targets, each.git_branch, each.comment, each.updated_at,
                unseal(each.sealed, label(each.id, each.name, self.project_id)) if each.sealed else None,
            )
            for each in self.variables
        ]  # fmt: skip


def same_set(one: Sequence[Kept], other: Sequence[Kept]) -> bool:
    """Whether two sets are the same, so that a second snapshot would say nothing new."""
    by_id = {each.id: each for each in other}
    return len(one) == len(by_id) and all(
        each.id in by_id
        and each.is_as(by_id[each.id])
        and replace(each, value=None, updated_at=None) == replace(by_id[each.id], value=None, updated_at=None)
        for each in one
    )


def choose(names: Sequence[str], wanted: str, project_id: str) -> str:
    """The snapshot that is meant: its name, with or without the folder.

    :param names: those that there are
    :raises RunbookError: it is none of them; they are named
    """
    full = wanted if wanted.startswith(FOLDER) else f"{FOLDER}{wanted}"
    if wanted and full in names:
        return full
    known = [name.removeprefix(FOLDER) for name in sorted(names, reverse=True)[:5]]
    there = f"the newest are {', '.join(known)}" if known else "there is none yet"
    said = f"{wanted!r} is no snapshot of {project_id}" if wanted else "it is empty"
    raise RunbookError(f"snapshot: {said}; {there}.")


# The way back ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What has to be done so that the set is that of the snapshot."""

    #: By the ids of the variables that are changed.
    edited: Mapping[str, Setting]
    created: tuple[Setting, ...]
    deleted: tuple[Kept, ...]
    #: A row each, for people: ``name``, ``targets``, ``act``, ``why``.
    rows: tuple[Mapping[str, str], ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to be changed."""
        return not (self.edited or self.created or self.deleted)


class _UnrestorableError(Exception):
    """A value is not known, or not proven."""


def plan(
    snapshot: Snapshot, then: Sequence[Kept], now: Sequence[Kept], given: Mapping[str, str], rotated: Sequence[Rotated]
) -> Plan:
    """How the set of a snapshot is made again.

    :param then: its variables, opened
    :param given: values from the vault, by the names of their variables
    :param rotated: keys of the application that were rotated
    :raises RunbookError: something cannot be restored (code ``env_unrestorable``); all of it is named
    """
    owned = {
        name: each.name
        for each in rotated
        if each.changed_at is not None and each.changed_at > snapshot.taken_at
        for name in each.env_names
    }
    rows: list[Mapping[str, str]] = []
    lacking: list[str] = []
    edited: dict[str, Setting] = {}
    created: list[Setting] = []
    matched: set[str] = set()

    def told(each: Kept, act: str, why: str = "") -> None:
        rows.append({"name": each.name, "targets": ", ".join(each.targets), "act": act, "why": why})

    for old in then:
        present = _counterpart(old, now, matched)
        if present is not None:
            matched.add(present.id)
        why = _left_alone(old, owned)
        if why:
            told(old, "kept", why)
            continue
        differs = present is None or _differs(old, present)
        if present is not None and not differs and old.is_as(present):
            continue
        try:
            setting = old.setting(_value(old, given))
        except _UnrestorableError as error:
            lacking.append(f"{old}: {error}")
            continue
        if present is None:
            created.append(setting)
            told(old, "made again")
        else:
            edited[present.id] = setting
            told(old, "changed back")
    deleted = []
    for present in now:
        if present.id in matched:
            continue
        why = _left_alone(present, owned)
        if not why:
            deleted.append(present)
        told(present, "kept" if why else "removed", why or "it was not there then")
    if lacking:
        raise RunbookError(
            f"{count(len(lacking), 'variable')} cannot be restored, so nothing was changed. {' '.join(lacking)}",
            code="env_unrestorable",
            lacking=lacking,
        )
    return Plan(edited, tuple(created), tuple(deleted), tuple(rows))


def _counterpart(old: Kept, now: Sequence[Kept], matched: set[str]) -> Kept | None:
    """The variable that is now what ``old`` was; one that was removed and made again has another id."""
    free = [each for each in now if each.id not in matched]
    return next((each for each in free if each.id == old.id), None) or next(
        (each for each in free if each.place == old.place), None
    )


def _left_alone(each: Kept, owned: Mapping[str, str]) -> str:
    if each.type in NOT_OURS:
        return f"it is of type {each.type}, which Vercel or an integration writes"
    if each.name in owned:
        return f"{owned[each.name]} was rotated since"
    return ""


def _differs(old: Kept, present: Kept) -> bool:
    """Whether something else than the value is another."""
    return (old.place, old.type, old.comment) != (present.place, present.type, present.comment)


def _value(old: Kept, given: Mapping[str, str]) -> str:
    """The value of then.

    :raises _UnrestorableError: nobody has it
    """
    if old.value is not None:
        return old.value
    kind = "nobody can read a sensitive value" if old.type == SENSITIVE else "it could not be read then"
    if old.name not in given:
        raise _UnrestorableError(f"{kind}, and app_config_values has none.")
    if not old.fingerprint:
        raise _UnrestorableError(
            f"{kind}, and without a fingerprint nobody knows whether the given one is that of then."
        )
    if fingerprint(old.name, given[old.name]) != old.fingerprint:
        raise _UnrestorableError(f"the value of app_config_values is not that of then ({old.fingerprint}).")
    return given[old.name]


def digest(variables: Iterable[Variable]) -> str:
    """A name for the set as it is, without its values: a deployment that was made for it is known by that."""
    said = sorted(
        [each.id, each.name, each.type, list(each.targets), each.git_branch, str(each.updated_at)] for each in variables
    )
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
