"""The keys of an application, as its inventory lists them.

A key can be rotated without an outage where its service lets two of its kind be valid at once: then the new one is
made, deployed and proven before the old one ends. What is listed is compared with that before anything is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.deploy.deployments import PRODUCTION, SENSITIVE, Setting, Variable
from ansible.module_utils.runbook.rules.deploy.fingerprint import fingerprint
from ansible.module_utils.runbook.rules.words import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Days after which a key is rotated, where its entry says nothing: a quarter.
MAX_AGE_DAYS = 90
#: Days for which the old key stays valid beside the new one.
GRACE_DAYS = 7

SECRET, PUBLISHABLE, S3, ROLE, LEGACY = (
    "supabase_secret", "supabase_publishable", "s3_access_key", "database_role", "supabase_legacy",
)  # fmt: skip
#: What a key of each kind consists of. The first part is what a variable holds whose entry names none.
PARTS: dict[str, tuple[str, ...]] = {
    SECRET: ("value",),
    PUBLISHABLE: ("value",),
    S3: ("id", "secret"),
    ROLE: ("password", "user", "url"),
}
#: Parts that are no secret.
OPEN_PARTS = frozenset({"id", "user"})
SUPABASE = frozenset({SECRET, PUBLISHABLE})
#: Where it says how the new keys are reached.
_LEGACY_GUIDE = "https://supabase.com/docs/guides/getting-started/migrating-to-new-api-keys"

_NAME = re.compile(r"[a-z][a-z0-9_]{2,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What needs no quotes in SQL, and no escape in an address.
_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_URL = re.compile(r"([a-z][a-z0-9+]*://)([^@\s]+)")


@dataclass(frozen=True)
class Place:
    """An environment variable of the application that holds a part of a key."""

    name: str
    part: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Key:
    """A key, as the inventory lists it."""

    name: str
    kind: str
    env: tuple[Place, ...]
    max_age_days: int = MAX_AGE_DAYS
    #: Which key is in use, where nothing is known of an earlier rotation.
    in_use: str = ""
    #: User of the cloud whose access keys they are.
    user: str = ""
    #: The two roles that take turns; the address that one of them and its password are put into; what a pooler wants
    #: behind its name.
    roles: tuple[str, ...] = ()
    url: str = ""
    user_suffix: str = ""

    @property
    def env_names(self) -> tuple[str, ...]:
        """The variables that hold it."""
        return tuple(each.name for each in self.env)

    def settings(self, parts: Mapping[str, str], label: str) -> tuple[Setting, ...]:
        """The variables as they are to be.

        :param parts: the key's value, by :data:`PARTS`
        :param label: names the key to people, and to who looks whether this was written
        """
        values = dict(parts)
        if self.kind == ROLE:
            values["user"] += self.user_suffix
            values["url"] = _URL.sub(rf"\g<1>{values['user']}:{values['password']}@\g<2>", self.url)
        return tuple(
            Setting(place.name, values[place.part], self._type(place), place.targets,
                    comment=mark(label, place.name, values[place.part]))
            for place in self.env
        )  # fmt: skip

    def held(self, label: str, found: Sequence[Variable]) -> dict[str, str] | None:
        """The fingerprints of the variables, by their name, if all of them hold the key of that name; else None.

        The fingerprint of what may be guessed is empty.
        """
        begin = f"key {label}"
        held = {
            place.name: variable.comment.removeprefix(begin).strip()
            for place in self.env
            for variable in found
            if (variable.name, set(variable.targets)) == (place.name, set(place.targets))
            and (variable.comment == begin or variable.comment.startswith(f"{begin} "))
        }
        return held if set(held) == set(self.env_names) else None

    def check_variables(self, found: Sequence[Variable]) -> None:
        """See that the variables can be written as the inventory says, before a key is made.

        Vercel replaces a variable of the same name and targets. One whose targets are others but overlap would stay
        beside it, or be refused.

        :raises RunbookError: names the variable and the fix
        """
        for place in self.env:
            for variable in found:
                if variable.name != place.name or not set(variable.targets) & set(place.targets):
                    continue
                if set(variable.targets) != set(place.targets) or variable.git_branch:
                    raise RunbookError(
                        f"{self.name}: the project has {variable}, and the inventory lists it for "
                        f"{', '.join(place.targets)}; let the two agree (env of this key, targets)."
                    )

    def _type(self, place: Place) -> str:
        """Vercel knows no ``sensitive`` variable of development."""
        if self.kind == PUBLISHABLE or place.part in OPEN_PARTS:
            return "plain"
        return "encrypted" if "development" in place.targets else SENSITIVE


def mark(label: str, name: str, value: str) -> str:
    """What stands beside a variable, so that who looks sees which key it holds: the key's name, and a fingerprint.

    >>> mark("server_20261129t020000", "API_KEY", "k" * 32)
    'key server_20261129t020000 ac55266fca7fa4f6'
    """
    return f"key {label} {fingerprint(name, value)}".rstrip()


def parse(entries: Sequence[Mapping[str, Any]]) -> tuple[Key, ...]:
    """The keys that the option ``keys`` lists.

    :raises RunbookError: names the entry, what is wrong with it, and the fix
    """
    found: list[Key] = []
    for number, entry in enumerate(entries):
        key = _parse(f"keys[{number}]", entry)
        if any(each.name == key.name for each in found):
            raise RunbookError(f"keys[{number}].name: {key.name} is there twice; give each key a name of its own.")
        twice = {name for each in found for name in each.env_names} & set(key.env_names)
        if twice:
            raise RunbookError(
                f"keys[{number}].env: {some(sorted(twice))} holds another key already; a variable holds one key."
            )
        found.append(key)
    return tuple(found)


def _parse(where: str, entry: Mapping[str, Any]) -> Key:
    name, kind = str(entry.get("name") or ""), entry["kind"]
    if not _NAME.fullmatch(name):
        raise RunbookError(
            f"{where}.name: {name!r} is no name of a key; take 3 to 40 small letters, digits and _, a letter first."
        )
    if kind == LEGACY:
        raise RunbookError(
            f"{where} ({name}): the JWT keys anon and service_role of Supabase are signed by one secret, so a new one "
            "ends the old one and cannot be rotated beside it. Migrate first: list a key of kind "
            f"{SECRET} (for service_role) or {PUBLISHABLE} (for anon) instead, let the application send it in the "
            f"header apikey, rotate it, then switch the legacy keys off in the project's settings ({_LEGACY_GUIDE})."
        )
    key = Key(
        name=name,
        kind=kind,
        env=tuple(_place(where, name, kind, each) for each in entry.get("env") or ()),
        max_age_days=MAX_AGE_DAYS if entry.get("max_age_days") is None else entry["max_age_days"],
        in_use=str(entry.get("in_use") or ""),
        user=str(entry.get("user") or ""),
        roles=tuple(map(str, entry.get("roles") or ())),
        url=str(entry.get("url") or ""),
        user_suffix=str(entry.get("user_suffix") or ""),
    )
    _check(where, key)
    return key


def _place(where: str, key: str, kind: str, entry: Mapping[str, Any]) -> Place:
    name, part = str(entry.get("name") or ""), str(entry.get("part") or PARTS[kind][0])
    if not _VARIABLE.fullmatch(name):
        raise RunbookError(f"{where}.env: {name!r} is no name of an environment variable; correct it.")
    if part not in PARTS[kind]:
        raise RunbookError(
            f"{where}.env: {name}: a key of kind {kind} has no part {part!r}; take {' or '.join(PARTS[kind])}."
        )
    targets = tuple(map(str, entry.get("targets") or (PRODUCTION,)))
    if PRODUCTION not in targets:
        raise RunbookError(
            f"{where}.env: {name}: it is not for {PRODUCTION}, and what is not deployed there is not proven; add it, "
            f"or keep a key of its own for {some(targets)} outside of this list."
        )
    if name.startswith("NEXT_PUBLIC_") and kind != PUBLISHABLE and part not in OPEN_PARTS:
        raise RunbookError(
            f"{where}.env: {name}: what begins with NEXT_PUBLIC_ is sent to every browser, and {key} is a secret; "
            "name another variable, and replace the key if it was there."
        )
    return Place(name, part, targets)


def _check(where: str, key: Key) -> None:
    if not key.env:
        raise RunbookError(f"{where}.env: {key.name} is in no environment variable; name the ones that hold it.")
    if len(set(key.env_names)) != len(key.env):
        raise RunbookError(f"{where}.env: a variable is there twice; give it once, with all its targets.")
    if not 1 <= key.max_age_days <= 3_650:
        raise RunbookError(f"{where}.max_age_days: {key.max_age_days} is out of bounds; give a number from 1 to 3650.")
    parts = {each.part for each in key.env}
    if key.kind == S3:
        if not key.user:
            raise RunbookError(f"{where}.user: it is empty; name the user of the cloud whose access keys they are.")
        if parts != set(PARTS[S3]):
            raise RunbookError(
                f"{where}.env: an access key is its id and its secret; name a variable with part: id and one with "
                "part: secret."
            )
    if key.kind == ROLE:
        _check_role(where, key, parts)
    of_others = {"user": S3, "roles": ROLE, "url": ROLE, "user_suffix": ROLE}
    for name in (each for each, kind in of_others.items() if getattr(key, each) and key.kind != kind):
        raise RunbookError(f"{where}.{name}: a key of kind {key.kind} has none; take it out.")


def _check_role(where: str, key: Key, parts: set[str]) -> None:
    if len(key.roles) != 2 or len(set(key.roles)) != 2 or not all(map(_ROLE.fullmatch, key.roles)):
        raise RunbookError(
            f"{where}.roles: name the two roles that take turns, in small letters, as [mental_scribe_app_a, "
            "mental_scribe_app_b]; the one that does not exist yet is made like the other."
        )
    if ("url" in parts) != bool(key.url):
        raise RunbookError(
            f"{where}.url: it says how a variable with part: url is written, and only one of the two is there; give "
            "both or none."
        )
    if key.url and not _URL.fullmatch(key.url):
        raise RunbookError(
            f"{where}.url: it is no address without a user; write it as "
            "postgresql://db.example.com:5432/mental_scribe?sslmode=verify-full, role and password are put into it."
        )
    if "url" not in parts and parts != {"user", "password"}:
        raise RunbookError(
            f"{where}.env: with the password the role's name changes too; name a variable with part: user and one with "
            "part: password, or one with part: url."
        )
