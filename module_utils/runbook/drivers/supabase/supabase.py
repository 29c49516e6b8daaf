"""Supabase's Management API, as far as backups, the advisors, errors and capacity need it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.drivers.http.api_client import ApiClient, ApiError, Repeat
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status
from ansible.module_utils.runbook.rules.supabase.supabase import Place
from ansible.module_utils.runbook.rules.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from ansible.module_utils.runbook.drivers.http.api_client import Ensured
    from ansible.module_utils.runbook.rules.supabase.supabase import Project

API_URL = "https://api.supabase.com"
#: What the API answers where an endpoint is no more.
_GONE = (404, 410)
_ABSENT = 404
#: What it answers where it is useless to ask again.
_REFUSED = (401, 403, 404)


def argument_spec() -> dict[str, Any]:
    """Options that every Supabase module shares; documented in ``doc_fragments/runbook_supabase.py``."""
    return {
        "project_ref": {"type": "str", "required": True},
        "project_name": {"type": "str"},
        "access_token": {"type": "str", "required": True, "no_log": True},
        "api_url": {"type": "str", "default": API_URL},
        "ca_cert": {"type": "path"},
        "timeout_s": {"type": "int", "default": 30},
    }


class Supabase:
    """One project, through the Management API.

    :param api_url: as ``rules.address.check_api_url`` gives it
    :param project_ref: as ``rules.supabase.check_ref`` gives it
    :param read_only: nothing is written, as in check mode
    """

    def __init__(
        self,
        *,
        api_url: str,
        project_ref: str,
        access_token: str,
        ca_cert: str | None,
        timeout_s: float,
        read_only: bool,
    ) -> None:
        #: As preflight names it.
        self.target = Target("supabase_project", api_url, project_ref)
        self._path = f"/v1/projects/{project_ref}"
        self._path_v2 = f"/v2/projects/{project_ref}"
        self._api = ApiClient(
            service="Supabase",
            base_url=api_url,
            headers={"Authorization": f"Bearer {access_token}"},
            secrets={"access_token": access_token},
            read_only=read_only,
            timeout_s=timeout_s,
            reset_headers=("x-ratelimit-reset",),
            fixes={404: "check the reference and api_url"},
            ca_cert=ca_cert,
        )

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, read_only: bool) -> Supabase:
        """The project, as a module's options say.

        :raises RunbookError: the address or the reference is none
        """
        place = Place.named(params["api_url"], params["project_ref"])
        return cls(
            api_url=place.api_url,
            project_ref=place.project_ref,
            access_token=params["access_token"],
            ca_cert=params["ca_cert"],
            timeout_s=params["timeout_s"],
            read_only=read_only,
        )

    def project(self) -> Any:
        """The project and its state."""
        return self._api.get(self._path)

    def state(self, read: Callable[[Any], Project]) -> str:
        """State of the project now; empty where the API gives none, since a restore is no reason to answer well.

        :param read: what :meth:`project` gave
        :raises RunbookError: the API refuses to answer
        """
        try:
            return read(self.project()).status
        except ApiError as error:
            if error.http_status in _REFUSED:
                raise RunbookError(
                    f"{error.message} What became of the restore is not known.", status=Status.UNKNOWN
                ) from None
            return ""

    def wait(
        self,
        read: Callable[[Any], Project],
        is_over: Callable[[str, float], bool],
        *,
        poll_s: float,
        tell: Callable[[str, float], None],
    ) -> None:
        """Look at the project's state until ``is_over`` says so, which is asked with each state and the seconds so far.

        :param tell: is told the same before
        :raises RunbookError: as ``is_over`` does, or the API refuses to answer
        """
        started = time.monotonic()
        while True:
            state, waited_s = self.state(read), time.monotonic() - started
            tell(state, waited_s)
            if is_over(state, waited_s):
                return
            time.sleep(poll_s)

    def health(self, services: Sequence[str]) -> Any:
        """How the named services do."""
        return self._api.get(f"{self._path}/health", tuple(("services", name) for name in services))

    def advisors(self, category: str, lints: Sequence[str]) -> Any:
        """What the advisors of a category say.

        The endpoint of version 1 runs all of them and is deprecated; where it is gone, its successor is asked, which
        runs the lints that it is given.
        """
        try:
            return self._api.get(f"{self._path}/advisors/{category}")
        except ApiError as error:
            if error.http_status not in _GONE:
                raise
        attributes = {"lints": [{"name": name} for name in lints]}
        body = {"data": {"type": "project_advisors", "attributes": attributes}}
        return self._api.ask(f"{self._path_v2}/advisors/run", body)

    def logs(self, sql: str, since: datetime, until: datetime) -> Any:
        """What a query in ClickHouse's SQL finds in the logs of a span of at most 24 hours, in whole minutes."""
        begin, end = (f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in (since, until))
        query = (("sql", sql), ("iso_timestamp_start", begin), ("iso_timestamp_end", end))
        return self._api.get(f"{self._path}/analytics/endpoints/logs", query)

    def api_keys(self) -> Any:
        """The API keys, without their values."""
        return self._api.get(f"{self._path}/api-keys")

    def api_key(self, key_id: str) -> Any:
        """One API key with its value, by its id; legacy keys have none."""
        return self._api.get(f"{self._path}/api-keys/{key_id}", (("reveal", "true"),))

    def ensure_api_key(self, find: Callable[[], str | None], body: Mapping[str, Any]) -> Ensured[str]:
        """The id of an API key that was found, or made; never a second one of the same name.

        :param find: by its name
        """

        def create() -> str | None:
            made = self._api.post(f"{self._path}/api-keys", body, (("reveal", "false"),))
            return str(made["id"]) if isinstance(made, dict) and made.get("id") else None

        return self._api.ensure(find, create)

    def delete_api_key(self, key_id: str, reason: str) -> None:
        """Delete an API key for good; one that is gone is no error."""
        query = (("reason", reason), ("was_compromised", "false"), ("reveal", "false"))
        try:
            self._api.delete(f"{self._path}/api-keys/{key_id}", None, query)
        except ApiError as error:
            if error.http_status != _ABSENT:
                raise

    def usage(self, endpoint: str, **query: str) -> Any:
        """What an endpoint of its analytics counts, such as ``usage.api-counts``."""
        return self._api.get(f"{self._path}/analytics/endpoints/{endpoint}", tuple(query.items()))

    def functions(self) -> Any:
        """Its edge functions."""
        return self._api.get(f"{self._path}/functions")

    def disk(self) -> Any:
        """How full the disk of its database is."""
        return self._api.get(f"{self._path}/config/disk/util")

    def backups(self) -> Any:
        """Backups, and the window of point-in-time recovery."""
        return self._api.get(f"{self._path}/database/backups")

    def restore_to_time(self, unix_s: int) -> None:
        """Ask once that the live database be taken back to a second."""
        self._api.post(
            f"{self._path}/database/backups/restore-pitr", {"recovery_time_target_unix": unix_s}, repeat=Repeat.NEVER
        )

    def restore_backup(self, backup_id: int) -> None:
        """Ask once that the live database be taken back to a backup."""
        self._api.post(f"{self._path}/database/backups/restore", {"id": backup_id}, repeat=Repeat.NEVER)
