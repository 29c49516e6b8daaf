"""Secret and publishable keys of a project at Supabase: any number are valid at once, and each can be read again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers import permits
from ansible.module_utils.runbook.drivers.keys.provider import Known, Made
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.keys.definition import LEGACY, PUBLISHABLE, SECRET
from ansible.module_utils.runbook.rules.keys.rotation import UNUSED_H, Use
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.words import count, some

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible.module_utils.runbook.drivers.supabase.supabase import Supabase
    from ansible.module_utils.runbook.rules.keys.definition import Key
    from ansible.module_utils.runbook.rules.keys.rotation import Rotation
    from ansible.module_utils.runbook.rules.run import Run

_TYPES = {SECRET: "secret", PUBLISHABLE: "publishable"}
#: As Supabase begins the values, so that neither a masked value nor a key of another kind is deployed.
_VALUE = {SECRET: re.compile(r"sb_secret_[A-Za-z0-9_-]{16,}"), PUBLISHABLE: re.compile(r"sb_publishable_[\w-]{16,}")}
_PREFIX = re.compile(r"[A-Za-z0-9_-]{4,64}")
#: In the logs of the gateway, how the key begins that a request bore; a part of it is what the API calls its prefix.
_LOGGED = "log_attributes['request.sb.apikey.apikey.prefix']"
_USE = (
    f"select countIf(endsWith({_LOGGED}, '{{old}}')) as old, countIf(endsWith({_LOGGED}, '{{new}}')) as new "  # noqa: S608 - words of ours
    "from logs where source = 'edge_logs'"
)


class SupabaseKeys:
    """The keys of one project.

    :param hide: keeps a value out of everything that is printed
    """

    def __init__(self, api: Supabase, hide: Callable[[str], None]) -> None:
        self._api, self._hide = api, hide

    def require(self, run: Run, environment: str) -> None:
        """As ``Provider.require``."""
        permits.require(run, self._api.target, environment)

    def current(self, key: Key) -> Known:
        """As ``Provider.current``."""
        known = self._keys()
        named = [each for each in known if key.in_use and key.in_use in (each.get("id"), each.get("name"))]
        if named and named[0].get("type") == "legacy":
            raise RunbookError(
                f"{key.name}: in_use: {key.in_use} is one of Supabase's JWT keys, which cannot be rotated beside a new "
                f"one; list it with kind {LEGACY} to read how to migrate, or take in_use out for a key that is new."
            )
        of_kind = [each for each in (named or known) if each.get("type") == _TYPES[key.kind]]
        if (key.in_use and not named) or len(of_kind) > 1:
            found = [str(each.get("name")) for each in known if each.get("type") == _TYPES[key.kind]]
            raise RunbookError(
                f"{key.name}: the project has the {_TYPES[key.kind]} keys {some(found) or '(none)'}, and the inventory "
                f"{'names ' + repr(key.in_use) if key.in_use else 'does not say which one is in use'}; name it in "
                "in_use of this key."
            )
        return _known(of_kind[0]) if of_kind else Known("")

    def created_at(self, key: Key, key_id: str) -> datetime | None:
        """As ``Provider.created_at``."""
        del key
        return next((_known(each).created_at for each in self._keys() if each.get("id") == key_id), None)

    def make(self, key: Key, rotation: Rotation) -> Made:
        """As ``Provider.make``."""

        def find() -> str | None:
            return next((str(each["id"]) for each in self._keys() if each.get("name") == rotation.label), None)

        body: dict[str, Any] = {
            "type": _TYPES[key.kind], "name": rotation.label, "description": "Made by rotate_keys.yml",
        }  # fmt: skip
        if key.kind == SECRET:
            # As the live keys have it; without, the key would have no role in the database.
            body["secret_jwt_template"] = {"role": "service_role"}
        found = self._api.ensure_api_key(find, body).found
        return self._revealed(key, str(found))

    def reveal(self, key: Key, key_id: str) -> Made | None:
        """As ``Provider.reveal``."""
        return self._revealed(key, key_id)

    def use(self, key: Key, rotation: Rotation, now: datetime) -> Use:
        """As ``Provider.use``. Where neither key is in the logs, that says nothing of the old one."""
        del key
        prefixes = {each.get("id"): str(each.get("prefix") or "") for each in self._keys()}
        if rotation.old not in prefixes:
            return Use("The old key is gone already.", unused_since=datetime.fromtimestamp(0, UTC))
        old, new = prefixes[rotation.old], prefixes.get(rotation.new, "")
        if not (_PREFIX.fullmatch(old) and _PREFIX.fullmatch(new)) or old == new:
            return Use("Supabase does not say how its keys begin, so nobody can find them in its logs.")
        since = now - timedelta(hours=UNUSED_H)
        said = self._api.logs(_USE.format(old=old, new=new), since, now)
        try:
            if said.get("error"):
                raise ValueError
            (row,) = said["result"]
            of_old, of_new = int(row["old"]), int(row["new"])
        except (AttributeError, KeyError, TypeError, ValueError):
            return Use("Supabase could not search its logs for the old key.")
        if of_old:
            return Use(f"The old key is in {count(of_old, 'request')} of the last {UNUSED_H} hours.", is_used=True)
        if not of_new:
            return Use(f"Neither key is in the logs of the last {UNUSED_H} hours.")
        return Use(
            f"Of the last {UNUSED_H} hours {count(of_new, 'request')} bore the new key, and none the old one.",
            unused_since=since,
        )

    def retire(self, key: Key, rotation: Rotation) -> None:
        """As ``Provider.retire``. It is final."""
        del key
        self._api.delete_api_key(rotation.old, f"rotated: {rotation.label} took its place")

    def discard(self, key: Key, rotation: Rotation) -> None:
        """As ``Provider.discard``."""
        del key
        self._api.delete_api_key(rotation.new, "its rotation was gone back from")

    def _keys(self) -> list[dict[str, Any]]:
        found = self._api.api_keys()
        if not isinstance(found, list) or not all(isinstance(each, dict) and each.get("name") for each in found):
            raise _unknown("Supabase's answer about the API keys is no list of keys; its API may have changed.")
        return found

    def _revealed(self, key: Key, key_id: str) -> Made:
        said = self._api.api_key(key_id)
        value = str(said.get("api_key") or "") if isinstance(said, dict) else ""
        self._hide(value)
        if not _VALUE[key.kind].fullmatch(value):
            raise _unknown(
                f"{key.name}: Supabase did not give the value of the key {key_id}; let the access token read API keys."
            )
        return Made(key_id, {"value": value})


def _known(said: dict[str, Any]) -> Known:
    """A key as the API lists it; old ones may lack the moment."""
    made = said.get("inserted_at")
    try:
        at = datetime.fromisoformat(made).astimezone(UTC) if made else None
    except (TypeError, ValueError):
        at = None
    return Known(str(said.get("id") or ""), at)


def _unknown(message: str) -> RunbookError:
    return RunbookError(message, status=Status.UNKNOWN)
