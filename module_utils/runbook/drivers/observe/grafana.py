"""Dashboards: files in a folder, or those of a Grafana.

The API: https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ansible.module_utils.runbook.drivers.http.api_pages import by_number
from ansible.module_utils.runbook.drivers.observe import access
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ansible.module_utils.runbook.drivers.http.api_client import ApiClient

#: No dashboard of a person is larger.
_MOST_BYTES = 16 << 20
#: A name and the dashboard, or why it cannot be read.
Found = tuple[str, dict[str, Any] | RunbookError]


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that name one."""
    return {
        "grafana_url": {"type": "str"},
        "grafana_token": {"type": "str", "no_log": True},
        "grafana_ca_cert": {"type": "path"},
    }


def client(params: Mapping[str, Any]) -> ApiClient | None:
    """The API that a module's options name; None where they name none.

    :raises RunbookError: as :func:`access.client`
    """
    if not params["grafana_url"]:
        return None
    fixes = {401: "renew grafana_token", 403: "give the service account of grafana_token the role Viewer"}
    return access.client("grafana", params, timeout_s=params["timeout_s"], fixes=fixes)


def served(api: ApiClient) -> Iterator[Found]:
    """All dashboards of a Grafana. One that cannot be read hides no other.

    :raises ApiError: it does not list them
    """
    listed = api.pages("/api/search", by_number, items=None, query=(("type", "dash-db"), ("limit", "100")))
    for each in listed:
        try:
            name, uid = str(each["title"]), str(each["uid"])
        except (LookupError, TypeError):
            yield "a dashboard", _unreadable("a dashboard", "Grafana lists it without its uid")
            continue
        try:
            said = api.get(f"/api/dashboards/uid/{quote(uid, safe='')}")
        except RunbookError as error:
            yield name, error
            continue
        found = said.get("dashboard") if isinstance(said, dict) else None
        yield name, found if isinstance(found, dict) else _unreadable(name, "Grafana's answer holds no dashboard")


def files(folder: str) -> Iterator[Found]:
    """All dashboards below a folder, by their names.

    :raises RunbookError: there is no such folder
    """
    root = Path(folder)
    if not root.is_dir():
        raise RunbookError(f"folders: {folder} is no folder; name one with Grafana's dashboards as JSON.")
    for path in sorted(root.rglob("*.json")):
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("too large")
            found = json.loads(path.read_text(encoding="utf-8"))
            # As Grafana's API and its export for sharing have it.
            found = found.get("dashboard", found)
        except (OSError, ValueError, AttributeError):
            yield path.name, _unreadable(path.name, "it is no JSON of a dashboard")
            continue
        yield path.name, found


def _unreadable(name: str, why: str) -> RunbookError:
    return RunbookError(f"{name} cannot be read: {why}.", status=Status.UNKNOWN)
