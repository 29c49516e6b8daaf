"""Alertmanager's API: silences that people set, an alert of ours on its way to its receivers, and its configuration.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml
from ansible.module_utils.runbook.drivers.observe import access
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.rules.change.silence import Matcher
from ansible.module_utils.runbook.rules.observe.acts import Silenced
from ansible.module_utils.runbook.rules.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible.module_utils.runbook.drivers.http.api_client import ApiClient

#: Who set those that are part of a change; nobody acted on an alert by them.
_OURS = "runbook"


def argument_spec() -> dict[str, dict[str, Any]]:
    """Options that name it; ``doc_fragments/runbook_alertmanager.py`` tells them."""
    return {
        "alertmanager_urls": {"type": "list", "elements": "str", "default": []},
        **access.argument_spec("alertmanager"),
        "alertmanager_ca_cert": {"type": "path"},
    }


class Alertmanager:
    """One of a cluster, or the only one."""

    def __init__(self, api: ApiClient, url: str) -> None:
        self._api = api
        self.url = url

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, timeout_s: float, read_only: bool = True) -> list[Alertmanager]:
        """Those that a module's options name.

        :raises RunbookError: as :func:`access.client`
        """
        return [
            cls(access.client("alertmanager", params, url, timeout_s=timeout_s, read_only=read_only), url)
            for url in params["alertmanager_urls"]
        ]

    def silenced(self) -> list[Silenced]:
        """Silences that people set; those that are over are kept for five days, unless it says otherwise.

        :raises RunbookError: refused, no answer, or one that cannot be read
        """
        found = self._api.get("/api/v2/silences")
        try:
            return [
                Silenced(
                    frozenset(
                        Matcher(one["name"], one["value"], one["isRegex"], one.get("isEqual", True))
                        for one in each["matchers"]
                    ),
                    str(each["createdBy"]),
                    datetime.fromisoformat(each["startsAt"]).astimezone(UTC).timestamp(),
                )
                for each in found
                if each["createdBy"] != _OURS
            ]
        except (AttributeError, LookupError, TypeError, ValueError):
            raise _unreadable("silences") from None

    def receivers(self) -> dict[str, list[str]]:
        """Names of its receivers, each with the kinds of its integrations, as its configuration has them.

        :raises RunbookError: as :meth:`silenced`
        """
        try:
            said = yaml.safe_load(self._api.get("/api/v2/status")["config"]["original"])
            return {
                str(each["name"]): sorted(
                    str(key).removesuffix("_configs") for key in each if str(key).endswith("_configs") and each[key]
                )
                for each in said["receivers"]
            }
        except (AttributeError, LookupError, TypeError, yaml.YAMLError):
            raise _unreadable("its configuration") from None

    def send(
        self, labels: Mapping[str, str], annotations: Mapping[str, str], *, begin: datetime, end: datetime
    ) -> None:
        """Let an alert fire until it ends by itself; with an end that is over, it is resolved.

        :raises RunbookError: refused, or no answer
        """
        alert = {
            "labels": dict(labels),
            "annotations": dict(annotations),
            "startsAt": begin.isoformat(),
            "endsAt": end.isoformat(),
        }
        self._api.post("/api/v2/alerts", [alert])

    def find(self, label: str, value: str) -> dict[str, Any] | None:
        """An alert by one of its labels: where it goes, and whether something keeps it back; None where there is none.

        :raises RunbookError: as :meth:`silenced`
        """
        found = self._api.get("/api/v2/alerts", (("filter", f'{label}="{value}"'),))
        try:
            return next(
                (
                    {
                        "receivers": sorted(str(each["name"]) for each in alert["receivers"]),
                        "silenced": bool(alert["status"]["silencedBy"]),
                        "inhibited": bool(alert["status"]["inhibitedBy"]),
                    }
                    for alert in found
                    if alert["labels"].get(label) == value
                ),
                None,
            )
        except (AttributeError, LookupError, TypeError):
            raise _unreadable("alerts") from None

    def beside(self, label: str, value: str, receiver: str) -> int:
        """How many other alerts are in the group in which an alert goes to a receiver, and so in the same message.

        :raises RunbookError: as :meth:`silenced`
        """
        groups = self._api.get("/api/v2/alerts/groups", (("receiver", f"^{re.escape(receiver)}$"),))
        try:
            return sum(
                len(each["alerts"]) - 1
                for each in groups
                if any(alert["labels"].get(label) == value for alert in each["alerts"])
            )
        except (AttributeError, LookupError, TypeError):
            raise _unreadable("groups of alerts") from None


def _unreadable(what: str) -> RunbookError:
    return RunbookError(f"Alertmanager answered with something that is no list of {what}.", status=Status.UNKNOWN)
