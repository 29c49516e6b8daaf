"""Silences of Alertmanager, and of Grafana, which has the same API below a path of its own.

A silence is found again by the key of its item, the first word of its comment, which begins with the change's.
:func:`close` needs no more than the service's settings and what was noted, so whoever comes after a run that was killed
can do it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ansible.module_utils.runbook.drivers.change.changes import Done
from ansible.module_utils.runbook.drivers.http.api_client import ApiError
from ansible.module_utils.runbook.drivers.observe import access
from ansible.module_utils.runbook.rules.change.backend import NONE
from ansible.module_utils.runbook.rules.change.silence import Silence
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.drivers.change.changes import Changes
    from ansible.module_utils.runbook.drivers.http.api_client import ApiClient
    from ansible.module_utils.runbook.rules.change.silence import Matcher

#: What :data:`~ansible.module_utils.runbook.rules.change.change.THINGS` calls it.
THING = "silence"
_CREATED_BY = "runbook"
_GONE = (404, 410)
#: By the service, where its API begins.
_PATHS = {"alertmanager": "/api/v2", "grafana": "/api/alertmanager/grafana/api/v2"}


class Silences:
    """The silences of one service.

    :param url: its address
    :param path: where its Alertmanager's API begins
    """

    def __init__(self, api: ApiClient, url: str, path: str, *, read_only: bool) -> None:
        #: Which service, without a secret.
        self.where = url
        self._api = api
        self._path = path
        self.read_only = read_only

    def find(self, key: str) -> list[Silence]:
        """The open silences of a change, or of one item of it.

        :raises ApiError: refused, or no answer
        """
        listed = self._api.pages(f"{self._path}/silences", lambda _page: None, items=None)
        return [each for each in map(Silence.of, listed) if each is not None and each.bears(key)]

    def set(self, key: str, matchers: frozenset[Matcher], until: datetime, comment: str) -> tuple[Silence | None, bool]:
        """Let there be one silence of an item, and whether something was, or would be, written for it.

        :returns: None where check mode would make it
        :raises ApiError: refused, or nobody knows whether it was made
        """
        body: dict[str, Any] = {
            "matchers": sorted((each.body() for each in matchers), key=str),
            "startsAt": datetime.now(UTC).isoformat(),
            "endsAt": until.isoformat(),
            "createdBy": _CREATED_BY,
            "comment": f"{key} {comment}".strip(),
        }

        def first() -> Silence | None:
            return next(iter(self.find(key)), None)

        ensured = self._api.ensure(first, lambda: self._post(body))
        found = ensured.found
        if ensured.made or found is None or (found.matchers, found.until) == (matchers, until):
            return found, ensured.made
        if not self.read_only:
            try:
                # It may come back under another id.
                self._post(body | {"id": found.id})
                found = first()
            except ApiError as error:
                # There is one, whatever became of its change.
                error.uncertain = True
                raise
        return found, True

    def remove(self, key: str) -> list[str]:
        """Let there be none of a change's; the ids of those that were, or would be, removed.

        :raises ApiError: refused, or no answer
        """
        found = self.find(key)
        for each in found if not self.read_only else ():
            try:
                self._api.delete(f"{self._path}/silence/{quote(each.id, safe='')}")
            except ApiError as error:
                # It expired meanwhile, which some versions call an error of their own.
                if error.http_status not in _GONE and self.find(key):
                    raise
        return [each.id for each in found]

    def _post(self, body: Mapping[str, Any]) -> Silence | None:
        answer = self._api.post(f"{self._path}/silences", body)
        made = answer.get("silenceID") if isinstance(answer, dict) else None
        if not made:
            return None
        try:
            return Silence.of(self._api.get(f"{self._path}/silence/{quote(str(made), safe='')}"))
        except ApiError:
            # It was made; whoever asked looks for it.
            return None


def from_params(params: Mapping[str, Any], *, read_only: bool) -> Silences | None:
    """The service that a module's options name, which are checked; None where the inventory decided to have none."""
    backend = params["backend"]
    if backend == NONE:
        return None
    api = access.client(backend, params, timeout_s=params["timeout_s"], read_only=read_only)
    return Silences(api, params[f"{backend}_url"].rstrip("/"), _PATHS[backend], read_only=read_only)


def open_silence(
    changes: Changes, silences: Silences, noted: Mapping[str, Any], key: str, matchers: frozenset[Matcher],
    until: datetime, comment: str,
) -> Done:  # fmt: skip
    """Note that a change silences something, set the silence of an item, and see that it is active.

    :param noted: what :func:`close` needs; ``until`` the last of the change's other silences ends, if there are any
    :param key: the item's
    :raises RunbookError: refused, or nobody knows whether it was made
    """
    before = changes.current()
    if not silences.read_only:
        ends = [datetime.fromisoformat(noted["until"])] if noted.get("until") else []
        changes.opened(THING, {**noted, "until": max([until, *ends]).isoformat()})
    try:
        found, changed = silences.set(key, matchers, until, comment)
    except ApiError as error:
        if not (error.uncertain or silences.read_only):
            changes.refused(THING, before)
        raise
    covers = ", ".join(sorted(map(str, matchers)))
    facts = {"changed": changed, "silence_id": found.id if found else None, "until": until.isoformat()}
    if silences.read_only:
        verb = "Would silence" if changed else "Silenced already are"
        return Done(f"{verb} alerts with {covers} until {until:%Y-%m-%d %H:%M:%S} UTC.", facts=facts)
    if found is None or found.state != "active":
        state = "not to be found" if found is None else found.state
        return Done(
            f"The silence for alerts with {covers} was made, and is {state}; see that the clocks of this machine and "
            "of the service agree.",
            facts=facts,
            status=Status.UNKNOWN,
        )
    verb = "Silenced" if changed else "Silenced already are"
    return Done(
        f"{verb} alerts with {covers} until {until:%Y-%m-%d %H:%M:%S} UTC.", proof=f"silence {found.id}", facts=facts
    )


def close(silences: Silences, noted: Mapping[str, Any]) -> Done:
    """Remove what a change silenced; what expired or was removed already is no error.

    :param noted: as it stands in the change
    :raises RunbookError: refused, or no answer
    """
    removed = silences.remove(str(noted["key"]))
    verb = "Would remove" if silences.read_only else "Removed"
    if not removed:
        return Done("No silence of this change is open.", proof="none is open", facts={"changed": False})
    ids = ", ".join(f"silence {each}" for each in removed)
    return Done(f"{verb} {len(removed)} of this change's silences.", proof=ids, facts={"changed": True})
